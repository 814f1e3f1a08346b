"""Canned answers: what is known is filled in, what is not blocks sending by name."""

from __future__ import annotations

import pytest

from cti.replies import body, fill, known, unfilled
from routing.site import Advisor, ReplyTemplate

ANA = Advisor("ana", "Ana", "Costa")


@pytest.mark.parametrize(
    ("source", "text", "missing"),
    [
        ("Bonjour, ici {{ advisor.first_name }}.", "Bonjour, ici Ana.", ()),
        ("Colis {{ facts.parcel }}", "Colis X1", ()),
        ("Bonjour {{ contact.name }}", "Bonjour {{ contact.name }}", ("contact.name",)),
        ("Bonjour {{ contact.name | default: 'Madame, Monsieur' }}", "Bonjour Madame, Monsieur", ()),
        ("{% if contact.vip %}x{% endif %}y", "y", ()),
        ("{{ a.b }} {{ a.b }} {{ c }}", "{{ a.b }} {{ a.b }} {{ c }}", ("a.b", "c")),
        ("{{ facts.empty }}", "{{ facts.empty }}", ("facts.empty",)),
        ("{{ broken", "{{ broken", ("?",)),
        ("{% include 'x' %}", "{% include 'x' %}", ("{% include 'x' %}",)),
    ],
)
def test_what_is_not_known_stays_as_a_place_and_is_named(
    source: str, text: str, missing: tuple[str, ...]
) -> None:
    assert fill(source, known(ANA, facts={"parcel": "X1", "empty": ""})) == (text, missing)


def test_a_text_says_which_places_it_still_holds() -> None:
    assert unfilled("Bonjour {{ contact.name }}", "", "{%- x -%}{{y}}") == ["contact.name", "{%- x -%}", "y"]
    assert unfilled("un prix de 3 {euros}, 10 % de remise") == []


def test_a_template_cannot_run_for_ever_or_grow_without_end() -> None:
    bomb = "{% for a in (1..1000) %}{% for b in (1..1000) %}{{ advisor.first_name }}{% endfor %}{% endfor %}"
    text, missing = fill(bomb, known(ANA))
    assert missing
    assert len(text) <= 20_000


def test_the_first_language_that_it_has_is_taken() -> None:
    template = ReplyTemplate("hi", "Hi", {"fr": "Bonjour", "en": "Hello"})
    assert body(template, ["de", "en", "fr"]) == "Hello"
    assert body(template, ["de"]) == "Bonjour"
