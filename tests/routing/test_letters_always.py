"""What holds whatever people do: a reply goes to the address that wrote (F3), a note goes nowhere (F10)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from routing import models as m
from routing.aio.clock import IdMaker
from routing.book import Book
from routing.projection import (
    AddressRow,
    CaseMergeRow,
    InteractionRow,
    MergeRow,
    MessageRow,
    Row,
    ThreadRow,
)
from tests.routing.hotline import START, site

PEOPLE = ("psid-1", "psid-2", "psid-3", "psid-4")
ORGANISATION = UUID(int=7)
SECRET = "inside only"

ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            (
                "write",
                "write",
                "write",
                "answer",
                "answer",
                "bot",
                "take",
                "close",
                "hand_back",
                "merge",
                "undo",
                "merge_cases",
                "undo_cases",
                "choose_contact",
                "choose_case",
                "note",
                "help",
                "mail",
                "echo",
                "step",
                "add_address",
            )
        ),
        st.integers(0, 50),
        st.integers(0, 50),
    ),
    max_size=60,
)


class Office:
    """A book without a database, some people who write, and one advisor with many seats."""

    def __init__(self) -> None:
        rules = site(1)
        many = {"voice": 1, "chat": 99, "mail": 99}
        advisor = rules.advisors[0]
        self.ids = IdMaker()
        rules = replace(rules, advisors=(replace(advisor, seats=many),))
        self.book = Book(ORGANISATION, rules, self.ids)
        self.book.set_site(rules, START)
        self.now = START
        self.merges: list[UUID] = []
        self.case_merges: list[UUID] = []
        self.sent: list[tuple[UUID, dict[str, Any]]] = []
        self.tell(m.PresenceSet, advisor="a1", presence=m.Presence.READY)

    def tell(self, kind: type[m.Submission], **fields: Any) -> str | None:
        self.now += timedelta(seconds=1)
        done = self.book.handle(kind(key=self.ids(), organisation=ORGANISATION, **fields), self.now)
        batch = self.book.take()
        for message, row in batch.sides.get("outbox", {}).items():
            self.sent.append((message, row))
        return done.refused

    def pick(self, table: Any, n: int) -> Any:
        rows = sorted(self.book.rows.all(table), key=lambda row: row.id)
        return rows[n % len(rows)] if rows else None

    def act(self, what: str, one: int, two: int) -> None:
        row = self.pick(InteractionRow, one)
        other = self.pick(InteractionRow, two)
        if what == "write" or row is None or other is None:
            self.write(one)
            return
        by = {"by": "a1"}
        match what:
            case "answer":
                said = {"message": self.ids(), "author": "advisor", "text": "answer"}
                self.tell(m.MessageWritten, interaction=row.id, **said, **by)
            case "bot":
                said = {"message": self.ids(), "author": "bot", "text": "bot", "by": ""}
                self.tell(m.MessageWritten, interaction=row.id, **said)
            case "take":
                self.tell(m.InteractionTaken, interaction=row.id, advisor="a1", **by)
            case "close":
                self.tell(m.InteractionClosed, interaction=row.id, outcome="archived", reason="spam", **by)
            case "hand_back":
                self.tell(m.HandedBack, interaction=row.id, node="menu", **by)
            case "merge":
                self.merges.append(self.ids())
                people = {"contact": row.contact, "into": other.contact}
                self.tell(m.ContactsMerged, merge=self.merges[-1], reason="same", **people, **by)
            case "undo" if self.merges:
                self.tell(m.MergeUndone, merge=self.merges[one % len(self.merges)], **by)
            case "merge_cases":
                self.case_merges.append(self.ids())
                cases = {"case": row.case_id, "into": other.case_id}
                self.tell(m.CasesMerged, merge=self.case_merges[-1], **cases, **by)
            case "undo_cases" if self.case_merges:
                self.tell(m.CaseMergeUndone, merge=self.case_merges[one % len(self.case_merges)], **by)
            case "choose_contact":
                self.tell(m.ContactChosen, interaction=row.id, contact=other.contact, **by)
            case "choose_case":
                self.tell(m.CaseChosen, interaction=row.id, case=other.case_id, **by)
            case "note":
                where = {"case": row.case_id, "interaction": row.id if two % 2 else None}
                self.tell(m.NoteWritten, note=self.ids(), text=SECRET, **where, **by)
            case "help":
                self.tell(m.HelpAsked, help=self.ids(), interaction=row.id, text=SECRET, **by)
            case "mail":
                address = self.pick(AddressRow, two)
                said = {"message": self.ids(), "author": "advisor", "text": "mail", "account": "page"}
                said |= {
                    "interaction": self.ids(),
                    "case": row.case_id,
                    "address": address.id,
                    "channel": "x",
                }
                self.tell(m.MessageWritten, **said, **by)
            case "echo":
                peer = {"account": "page", "address_kind": "psid", "address": PEOPLE[one % len(PEOPLE)]}
                self.tell(m.MessageEchoed, message=self.ids(), external_id=f"e{two}", text="seen", **peer)
            case "step":
                said = {"said": (m.Said(message=self.ids(), text="step"),), "walk": {}, "consumed": 0}
                self.tell(m.WalkStepped, interaction=row.id, tree="bot", version=1, **said)
            case "add_address":
                more = (("psid", PEOPLE[two % len(PEOPLE)]),)
                self.tell(m.ContactChanged, contact=row.contact, add_addresses=more, **by)
            case _:
                pass

    def undo_all(self, dice: Random) -> None:
        """In any order."""
        todo: list[tuple[type[m.Submission], UUID]] = [(m.MergeUndone, merge) for merge in self.merges]
        todo += [(m.CaseMergeUndone, merge) for merge in self.case_merges]
        for kind, merge in dice.sample(todo, len(todo)):
            assert self.tell(kind, merge=merge, by="a1") in (None, "undone_already", "unknown_merge")

    def whole(self) -> dict[type[Row], dict[Any, Row]]:
        """Every row there is, but those that tell of the merges themselves."""
        told = (MergeRow, CaseMergeRow)
        return {table: dict(rows) for table, rows in self.book.rows.tables.items() if table not in told}

    def write(self, one: int) -> None:
        message = self.ids()
        self.tell(
            m.MessageReceived,
            interaction=self.ids(),
            message=message,
            account="page",
            channel="messenger",
            seat="chat",
            external_id=str(message),
            address_kind="psid",
            address=PEOPLE[one % len(PEOPLE)],
            text="hello",
        )
        self.wrote = (message, PEOPLE[one % len(PEOPLE)])
        row = self.book.rows.get(MessageRow, message)
        thread = self.book.rows.get(ThreadRow, row.thread)
        assert self.book.memory.values[thread.address][1] == self.wrote[1], "it stands in its own thread"


@settings(max_examples=150, deadline=None)
@given(ACTS)
def test_a_reply_goes_to_the_address_of_its_thread_whatever_was_merged_or_chosen(acts: list[Any]) -> None:
    office = Office()
    for act in acts:
        office.act(*act)
        rows = office.book.rows
        living = [row for row in rows.all(InteractionRow) if row.thread is not None and row.ended_at is None]
        assert len({row.thread for row in living}) == len(living), "one interaction lives in a thread"
        for row in living:
            assert rows.get(ThreadRow, row.thread).live == row.id
    for message, sent in office.sent:
        told = office.book.rows.get(MessageRow, message)
        thread = office.book.rows.get(ThreadRow, told.thread)
        kind, value = office.book.memory.values[thread.address]
        assert (sent["outgoing"]["address_kind"], sent["outgoing"]["to"]) == (kind, value)
        assert sent["thread"] == thread.id


@settings(max_examples=150, deadline=None)
@given(ACTS)
def test_no_note_and_no_call_for_help_reaches_the_outbox(acts: list[Any]) -> None:
    office = Office()
    for act in acts:
        office.act(*act)
    assert all(SECRET not in repr(row) for _, row in office.sent)


MERGES = st.lists(
    st.tuples(st.sampled_from(("merge", "merge_cases", "undo", "undo_cases")), *[st.integers(0, 50)] * 2),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(ACTS, MERGES, st.randoms(use_true_random=False))
def test_undoing_every_merge_restores_all_rows_as_they_were(
    acts: list[Any], merges: list[Any], dice: Random
) -> None:
    office = Office()
    for act in [("write", n, 0) for n in range(len(PEOPLE))] + acts:
        office.act(*act)
    office.undo_all(dice)
    before = office.whole()
    for act in merges:
        office.act(*act)
    office.undo_all(dice)
    assert office.whole() == before
