"""What customers write is understood as an answer, or plainly not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.reading import chosen, folded, numbers, wants_person
from ivr.tree import CollectNode
from tests.ivr.walks import SHIPPED

CHOICES = {
    "1": ["Suivre un colis", "colis", "suivi"],
    "2": ["Réclamation", "colis perdu", "plainte"],
    "3": ["Facture"],
}


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Réclamation", "2"),
        ("reclamation!!", "2"),
        ("  RÉCLAMATION ?  ", "2"),
        ("j'ai une réclamation à faire", "2"),
        ("mon colis", "1"),
        ("mon colis perdu", "2"),  # the longest wins
        ("ma facture", "3"),
        ("facturation", None),  # whole words only
        ("suivre un colis", "1"),
        ("suivi ou plainte, facture", None),  # «plainte» and «facture» are as long: a tie is no answer
        ("", None),
        ("👍", None),
        ("?!", None),
        ("Suivi plainte", "2"),
    ],
)
def test_a_choice_is_found_by_its_words(text: str, choice: str | None) -> None:
    assert chosen(text, CHOICES) == choice


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("conseiller", True),
        ("Je veux parler à une CONSEILLERE s'il vous plaît", True),
        ("humain", True),
        ("un humain svp", True),
        ("agent", True),
        ("Agent, please", True),
        ("a real person", True),
        ("person", True),
        ("advisor", True),
        ("personne", True),
        ("personne n'est venu livrer", False),
        ("mon colis", False),
        ("the delivery person was kind", False),
        ("inhumain", False),
    ],
)
def test_a_wish_for_a_person_is_heard(text: str, wanted: bool) -> None:
    assert wants_person(text, ("fr", "en")) is wanted


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("123456789015", "123456789015"),
        ("1234 5678 9015", "123456789015"),
        ("c'est le 1234-5678-9015 merci", "123456789015"),
        ("n° 1234.5678.9015, commandé le 3", "123456789015"),
        ("٣", None),
        ("rien", None),
    ],
)
def test_a_number_is_found_in_a_sentence(text: str, first: str | None) -> None:
    node = SHIPPED.trees["suivi"].nodes["number"]
    assert isinstance(node, CollectNode)
    assert next(iter(numbers(text, node)), None) == first


@given(st.text())
def test_folding_is_stable_and_keeps_words_apart(text: str) -> None:
    once = folded(text)
    assert folded(once) == once
    assert "  " not in once.strip()
    chosen(text, CHOICES)
    wants_person(text, ("fr", "en"))
