"""Rows of the store as the page reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cti.rows import call_facts, outcome, timeline_kind, tree_item
from routing.models import FINAL_EVENTS, Event, T
from routing.store import InteractionView, Step

NINE = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
NOBODY = UUID(int=0)


def view(state: str, enqueued_s: float | None, ended_s: float, said: str | None = None) -> InteractionView:
    enqueued = NINE + timedelta(seconds=enqueued_s) if enqueued_s is not None else None
    return InteractionView(
        id=NOBODY, channel="voice", direction="in", state=state, held=False, case=NOBODY, case_number=1,
        contact=NOBODY, contact_name="", address=None, address_value="", received="", queue=None, advisor=None,
        priority=None, opened_at=NINE, since=enqueued, enqueued_at=enqueued, offered_at=None, accepted_at=None,
        talk_ended_at=None, ended_at=NINE + timedelta(seconds=ended_s), wrapup_until=None, held_s=0.0, call="c",
        dialled="3631", trunk=None, attestation=None, language="fr", tree="accueil", tree_version=1, outcome=said,
        code=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "enqueued_s", "said", "told"),
    [
        ("abandoned", None, None, "left_tree"),
        ("abandoned", 12.0, None, "abandoned"),
        ("ended", None, "served", "served"),
        ("interrupted", 12.0, None, "interrupted"),
    ],
)
def test_who_hangs_up_in_the_tree_has_abandoned_nothing(
    state: str, enqueued_s: float | None, said: str | None, told: str
) -> None:
    assert outcome(view(state, enqueued_s, 40.0, said)) == told


def test_the_time_in_the_tree_ends_where_the_line_begins() -> None:
    assert call_facts(view("abandoned", None, 41.0), {})["tree_s"] == 41.0
    assert call_facts(view("abandoned", 30.0, 41.0), {})["tree_s"] == 30.0
    assert call_facts(view("abandoned", 30.0, 41.0), {})["wait_s"] == 11.0


CATALOGUES = Path(__file__).parents[2] / "cti" / "console" / "src" / "i18n"


def happened(type: T, seq: int = 7, **data: object) -> Event:
    return Event(seq=seq, id=NOBODY, organisation=NOBODY, at=NINE, type=type, data=data)


@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_event_that_reaches_a_timeline_has_words(language: str) -> None:
    known = json.loads((CATALOGUES / f"{language}.json").read_text("utf-8"))
    told = {
        each for each in T if timeline_kind(happened(each, how="pulled")) not in (None, "note", "recording")
    }
    assert told >= FINAL_EVENTS | {T.ASSIGNED, T.ENQUEUED, T.SEAT_LENT}
    assert [each for each in sorted(told) if f"event.{each}" not in known] == []
    ends = ("accepted", "refused", "missed", "expired", "cancelled")
    assert [how for how in ends if f"event.offer.ended.{how}" not in known] == []


def test_the_way_through_a_tree_stands_where_it_began() -> None:
    steps = [
        Step(
            tree="accueil",
            version=1,
            node=node,
            exit="2",
            keys="",
            seconds=60.0,
            at=NINE + timedelta(minutes=n),
        )
        for n, node in enumerate(("menu", "queue"), start=1)
    ]
    item = tree_item(NOBODY, steps, happened(T.TREE_ENTERED, seq=3), {})
    assert item is not None
    assert (item.at, item.seq) == (NINE, 3)
    assert tree_item(NOBODY, [], None, {}) is None
