"""Flow tests say what is wrong by the flow's name, and pass when nothing is (V13)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from ivr.aio.text import read_texts
from ivr.flowtest import Flow, run, run_file
from routing import hours
from routing.site import Hours
from tests.ivr.walks import SHIPPED, SOUNDS

FILE = Path(__file__).parent / "accueil.flows.yaml"
WEEK = Hours("bureau", dict.fromkeys(range(5), ("08:00-19:00",)), holidays="FR")


def read(name: str) -> str:
    return (FILE.parent / name).read_text("utf-8")


def test_the_shipped_flows_pass() -> None:
    assert run_file(FILE.read_text("utf-8"), read) == []


def test_a_flow_that_goes_elsewhere_is_named_with_both_ways() -> None:
    text = FILE.read_text("utf-8").replace('keys: "2 2"', 'keys: "2 3"')
    assert run_file(text, read) == [
        "a complaint in English: nodes: expected language notice open main complaints,"
        " got language notice open main billing",
        "a complaint in English: end: expected queue reclamations, got queue facturation",
    ]


def test_a_file_that_is_none_is_a_sentence_with_its_line() -> None:
    assert run_file("trees: []\nflows:\n  - nam: x\n", read)[0].startswith("line 3: flows.0.")
    assert run_file("trees: [", read)
    assert run_file("trees: []\nflows: [{name: a, tree: t, expect: b}]\n", read) == [
        "a: there is no tree 't' among "
    ]


def test_the_calendar_decides_the_branch_at_a_given_time() -> None:
    def is_open(name: str, at: datetime | None) -> bool | None:
        assert at is not None
        return hours.is_open(WEEK, "Europe/Paris", at.timestamp())

    for at, node in (
        ("2026-07-13T10:00:00+02:00", "main"),
        ("2026-07-13T20:00:00+02:00", "night"),
        ("2026-07-14T10:00:00+02:00", "night"),
    ):
        flow = Flow(name=at, tree="accueil", at=datetime.fromisoformat(at), keys=["1", "."], expect=[])
        assert run(flow, SHIPPED, is_open=is_open).nodes[3] == node


MESSAGES = Path(__file__).parent / "messages.flows.yaml"


def test_the_shipped_conversations_pass() -> None:
    assert run_file(MESSAGES.read_text("utf-8"), read, texts=read_texts([SOUNDS])) == []


def test_a_conversation_that_goes_elsewhere_says_what_the_bot_wrote() -> None:
    text = MESSAGES.read_text("utf-8").replace('bot: "Votre colis a été livré."', 'bot: "Perdu."')
    (wrong,) = run_file(text, read, texts=read_texts([SOUNDS]))
    assert wrong.startswith(
        "everything in the first sentence, and nothing is asked again: line 3: expected 'Perdu.', the bot wrote ["
    )
