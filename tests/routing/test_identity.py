"""Who is it, and which case: numbers in any form, several persons, merges and their undoing, the reopening window."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from routing import models as m
from routing.case import choose
from routing.identity import display, normalise, reply_address, sort_name
from routing.projection import AddressRow, CaseRow, ContactRow, Rows, rebuild
from tests.routing.hotline import START, Hotline, hotline, site
from tests.routing.record import check


@pytest.mark.parametrize(
    ("raw", "region", "found"),
    [
        ("030 / 123-45", "DE", "+493012345"),
        ("+49 30 12345", "FR", "+493012345"),
        ("0049 30 12345", "DE", "+493012345"),
        ("06 11 22 33 44", "FR", "+33611223344"),
        ("sip:+33611223344@10.0.0.1:5060;user=phone", "FR", "+33611223344"),
        ("<tel:+33-6-11-22-33-44;phone-context=x>", "FR", "+33611223344"),
        ("sip:101@monofil", "FR", "101"),
        ("sip:lea@monofil", "FR", "lea"),
        ("Anonymous", "FR", ""),
        ("sip:anonymous@anonymous.invalid", "FR", ""),
        ("", "FR", ""),
        ("\x00'; DROP TABLE contact;--", "FR", "DROPTABLEcontact"),
    ],
)
def test_a_number_has_one_form_however_it_is_written(raw: str, region: str, found: str) -> None:
    assert normalise("phone", raw, region) == found
    assert normalise("phone", found, region) == found


def test_names_sort_without_their_marks_and_numbers_are_shown_as_people_write_them() -> None:
    assert sort_name("  Émile Ça ") == "emile ca"
    assert display("phone", "+33611223344") == "+33 6 11 22 33 44"
    assert display("phone", "101") == "101"


def _case(number: int, state: str, closed_h_ago: float | None = None, **changes: object) -> CaseRow:
    closed = None if closed_h_ago is None else START - timedelta(hours=closed_h_ago)
    values = {"interactions": 1, **changes}
    return CaseRow(UUID(int=number), number, UUID(int=99), state, False, None, START, START, closed, **values)  # type: ignore[arg-type]


CHOICES = """
    open                                  -> joins 1
    waiting                               -> joins 1
    open, open                            -> new, provisional
    open, waiting                         -> new, provisional
    solved 2h ago                         -> reopens 1
    closed 95h ago                        -> reopens 1
    closed 97h ago                        -> new, follows 1
    closed 200h ago, closed 120h ago      -> new, follows 2
    closed 2h ago, closed 3h ago          -> new, provisional
    open, closed 2h ago                   -> joins 1
    nothing                               -> new
"""


@pytest.mark.parametrize("line", [line.strip() for line in CHOICES.strip().splitlines()])
def test_the_case_of_an_interaction(line: str) -> None:
    before, wanted = (part.strip() for part in line.split("->"))
    cases = []
    for number, words in enumerate(before.split(","), 1):
        state, _, ago = words.strip().partition(" ")
        if state != "nothing":
            cases.append(_case(number, state, float(ago.split("h")[0]) if ago else None))
    choice = choose(cases, START, 96.0)
    told = f"joins {choice.case.int}" if choice.case and not choice.reopened else "new"
    if choice.case and choice.reopened:
        told = f"reopens {choice.case.int}"
    if choice.provisional:
        told += ", provisional"
    if choice.follows:
        told += f", follows {choice.follows.int}"
    assert told == wanted


async def _served(line: Hotline, number: str, code: str = "later") -> m.Event:
    """A call that is over; returns its opening."""
    call = await line.call(number)
    await line.talk(call)
    await line.ok(m.TalkEnded, interaction=call, by="customer")
    await line.ok(m.WrapupDone, interaction=call, code=code, by="a1")
    return next(event for event in line.heard if event.interaction == call)


async def test_a_caller_is_known_again_in_any_form_and_joins_his_open_case(database: str) -> None:
    async with asyncio.timeout(20), hotline(database, site(1, country="DE")) as line:
        await line.ready("a1")
        first = await _served(line, "030 / 123-45")
        again = await _served(line, "sip:+493012345@trunk")
        assert (again.contact, again.case) == (first.contact, first.case)
        assert again.data["matches"] == 1


async def test_two_persons_with_one_number_are_both_matched_and_none_is_assumed(database: str) -> None:
    async with asyncio.timeout(20), hotline(database) as line:
        people = [line.ids(), line.ids()]
        for person, name in zip(people, ("Ana", "Bob"), strict=True):
            await line.ok(m.ContactChanged, contact=person, by="a1", name=name)
        # The second one shares the first one's number: it is told of, not taken away.
        await line.ok(m.ContactChanged, contact=people[0], by="a1", add_addresses=(("phone", "0611223344"),))
        await line.ok(
            m.ContactChanged, contact=people[1], by="a1", add_addresses=(("phone", "+33 6 11 22 33 44"),)
        )
        call = await line.call("+33611223344", queue=None)
        opened = next(event for event in line.heard if event.interaction == call)
        assert opened.data["matches"] == 2
        assert opened.contact not in people
        case = next(event for event in line.heard if event.case == opened.case)
        assert case.data["provisional"] is True
        await line.ok(m.ContactChosen, interaction=call, contact=people[1], by="a1")
        row = line.desk.interaction(call)
        assert row is not None
        assert row.contact == people[1]
        again = await line.call("+33611223344", queue=None)
        opened = next(event for event in line.heard if event.interaction == again)
        assert opened.data["matches"] == 2, "a choice for one call assumes nothing for the next"


async def test_a_matter_solved_within_the_window_is_reopened_and_later_a_new_one_follows_it(
    database: str,
) -> None:
    async with asyncio.timeout(20), hotline(database) as line:
        await line.ready("a1")
        first = await _served(line, "+33611223344", "done")
        line.clock.pass_(95 * 3600)
        second = await _served(line, "+33611223344", "done")
        assert second.case == first.case
        assert "case.reopened" in line.types()
        line.clock.pass_(97 * 3600)
        third = await _served(line, "+33611223344")
        assert third.case != first.case
        opened = next(event for event in line.heard if event.case == third.case)
        assert opened.data["follows"] == str(first.case)
        assert opened.data["number"] == 2


async def test_undoing_a_merge_restores_both_exactly_and_replies_never_change_their_address(
    database: str,
) -> None:
    async with asyncio.timeout(20), hotline(database) as line:
        await line.ready("a1")
        ana, bob = await _served(line, "+33611111111"), await _served(line, "+33622222222")
        assert ana.contact != bob.contact

        async def state() -> Rows:
            return rebuild(await check(database, line.organisation, line.desk.site))

        before = await state()
        merge = line.ids()
        merged = {
            "merge": merge,
            "contact": ana.contact,
            "into": bob.contact,
            "by": "a1",
            "reason": "same voice",
        }
        await line.ok(m.ContactsMerged, **merged)
        assert (
            await line.tell(m.ContactsMerged, **{**merged, "merge": line.ids()})
        ).refused == "already_merged"
        back = {**merged, "merge": line.ids(), "contact": bob.contact, "into": ana.contact}
        assert (await line.tell(m.ContactsMerged, **back)).refused == "same_person"
        during = await line.call("+33611111111", queue=None)
        row = line.desk.interaction(during)
        assert row is not None
        assert row.contact == ana.contact, "it stays with the contact whose address wrote"
        address = reply_address(row, await state())
        assert address is not None
        assert address.contact == ana.contact
        await line.ok(m.CustomerLeft, interaction=during)
        await line.ok(m.MergeUndone, merge=merge, by="a1")
        assert (await line.tell(m.MergeUndone, merge=merge, by="a1")).refused == "undone_already"
        after = await state()
        assert after.tables[ContactRow] == before.tables[ContactRow]
        assert after.tables[AddressRow] == before.tables[AddressRow]
        later = await line.call("+33611111111", queue=None)
        row = line.desk.interaction(later)
        assert row is not None
        assert row.contact == ana.contact


async def test_choosing_another_case_relinks_and_choosing_back_restores(database: str) -> None:
    async with asyncio.timeout(20), hotline(database) as line:
        await line.ready("a1")
        ana, bob = await _served(line, "+33611111111"), await _served(line, "+33622222222")
        await line.ok(m.CaseChosen, interaction=ana.interaction, case=bob.case, by="a1")
        row = line.desk.interaction(ana.interaction)  # type: ignore[arg-type]
        assert row is not None
        assert row.case_id == bob.case
        assert line.heard[-1].type == m.T.CASE_CHANGED, "the empty case is closed"
        await line.ok(m.CaseChosen, interaction=ana.interaction, case=ana.case, by="a1")
        rows = rebuild(await check(database, line.organisation, line.desk.site))
        assert rows.get(CaseRow, ana.case).state == "open"
        assert rows.get(CaseRow, ana.case).interactions == 1
        assert rows.get(CaseRow, bob.case).interactions == 1
