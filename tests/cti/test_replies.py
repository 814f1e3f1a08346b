"""Canned answers: what is known is filled in, what is not blocks sending by name."""

from __future__ import annotations

import time

import pytest

from cti.replies import body, fill, known, unfilled
from routing.site import Advisor, ReplyTemplate

ANA = Advisor("ana", "Ana", "Costa")
STEP_S = 0.05


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


@pytest.mark.parametrize(
    "source",
    [
        "{{ (1..99999999) | join: 'x' }}",
        "{{ (1..99999999) | reverse | first }}",
        "{% for a in (1..999999999) %}x{% endfor %}",
        "{% for a in (1..99) %}{% for b in (1..99) %}{% for c in (1..99) %}x{% endfor %}{% endfor %}{% endfor %}",
        "{% assign a = 9 %}{% for i in facts.list %}{% assign a = a | times: a %}{% endfor %}{{ a }}",
        "{% assign a = 'x' %}{% for i in facts.list %}{% assign a = a | append: a %}{% endfor %}{{ a }}",
        "{{ advisor.__class__ }}",
        "{{ facts['__init__'].__globals__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__ }}",
        "{% render 'x' %}",
        "{% if true %}" * 3000 + "{% endif %}" * 3000,
        "{{ facts" + ".a" * 50_000 + " }}",
        "{{ 'x'" + " | append: 'x'" * 20_000 + " }}",
    ],
    ids=lambda source: str(source)[:40],
)
def test_what_a_template_has_no_need_of_is_refused_within_a_step(source: str) -> None:
    began = time.thread_time()
    text, missing = fill(source, known(ANA, facts={"list": list(range(1000))}))
    assert time.thread_time() - began < STEP_S
    assert missing
    assert "<class" not in text


def test_the_first_language_that_it_has_is_taken() -> None:
    template = ReplyTemplate("hi", "Hi", {"fr": "Bonjour", "en": "Hello"})
    assert body(template, ["de", "en", "fr"]) == "Hello"
    assert body(template, ["de"]) == "Bonjour"
