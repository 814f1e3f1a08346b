"""The desk on a real database."""

from __future__ import annotations

import asyncio

import pytest

from routing import models as m
from routing.aio.postgres import connect
from tests.routing.hotline import hotline


async def test_a_call_goes_from_first_ring_to_a_solved_case(database: str) -> None:
    async with asyncio.timeout(20), hotline(database) as line:
        await line.ready("a1")
        call = await line.call("01 23 45 67 89")
        assert line.state(call) == "offered"
        assert await line.talk(call) == "a1"
        assert line.state(call) == "active"
        await line.ok(m.HoldChanged, interaction=call, held=True)
        line.clock.pass_(7)
        await line.ok(m.HoldChanged, interaction=call, held=False)
        await line.ok(m.TalkEnded, interaction=call, by="customer")
        await line.ok(m.WrapupDone, interaction=call, code="done", note="All is well", by="a1")
        row = line.desk.interaction(call)
        assert row is not None
        assert (row.state, row.code, row.held_s, row.advisor) == ("ended", "done", 7.0, "a1")
        assert line.types(call) == [
            "interaction.opened",
            "interaction.enqueued",
            "offer.made",
            "offer.ended",
            "interaction.accepted",
            "interaction.held",
            "interaction.resumed",
            "interaction.talk_ended",
            "note.added",
            "interaction.ended",
        ]
        assert line.types()[-1] == "case.changed"
        assert [event.seq for event in line.heard] == list(range(1, len(line.heard) + 1))


async def test_a_contact_marked_vip_is_served_before_those_who_came_earlier(database: str) -> None:
    async with asyncio.timeout(20), hotline(database) as line:
        known = await line.call("+33611111111", queue=None)
        row = line.desk.interaction(known)
        assert row is not None
        await line.ok(m.ContactChanged, contact=row.contact, by="a1", vip=True)
        await line.ok(m.CustomerLeft, interaction=known)
    async with (
        asyncio.timeout(20),
        hotline(database, clock=line.clock) as line,
    ):  # who is VIP comes from the database
        first, vip = await line.call("+33622222222"), await line.call("+33611111111")
        places = [line.desk.place(call) for call in (first, vip)]
        told = [event.data["priority"] for event in line.heard if event.type is m.T.ENQUEUED]
        await line.ok(m.ContactChanged, contact=row.contact, by="a1", vip=False)
        assert [line.desk.place(call) for call in (first, vip)] == [1, 2], "sorted anew at once"
        await line.ok(m.ContactChanged, contact=row.contact, by="a1", vip=True)
        assert [line.desk.place(call) for call in (first, vip)] == [2, 1]
        await line.ok(m.ContactChanged, contact=row.contact, by="a1", vip=False)
        assert (await line.ok(m.CustomerLeft, interaction=vip)).refused is None
        again = await line.call("+33611111111")
        assert (places, told) == ([2, 1], [None, 10])
        assert line.desk.place(again) == 2, "no VIP any more"


@pytest.mark.parametrize("calls", [1, 60])
async def test_a_group_of_any_size_is_logged_whole_and_its_keys_are_remembered(
    database: str, calls: int
) -> None:
    async with asyncio.timeout(30), hotline(database) as line:
        keys = [line.ids() for _ in range(calls)]
        opened = [
            {
                "key": key,
                "interaction": key,
                "channel": "voice",
                "direction": "in",
                "address": f"+336112{n:05}",
            }
            for n, key in enumerate(keys)
        ]
        before = line.desk.commits
        first = await asyncio.gather(
            *(line.ok(m.InteractionOpened, call=str(n), **it) for n, it in enumerate(opened))
        )
        assert line.desk.commits - before <= 2, "they were stored together"
        heard = list(line.heard)
        assert len(heard) >= 2 * calls
    connection = await connect(database)
    try:
        log = await connection.fetch("SELECT seq, id, type, case_id, data FROM event ORDER BY seq")
    finally:
        await connection.close()
    assert [tuple(row) for row in log] == [(e.seq, e.id, e.type.value, e.case, e.data) for e in heard]
    async with (
        asyncio.timeout(30),
        hotline(database, clock=line.clock) as line,
    ):  # which remembers nothing itself
        again = await asyncio.gather(
            *(line.ok(m.InteractionOpened, call=str(n), **it) for n, it in enumerate(opened))
        )
        assert [[e.id for e in it.events] for it in again] == [[e.id for e in it.events] for it in first]


async def test_an_overloaded_desk_refuses_what_is_new_and_lets_what_has_begun_end(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(20), hotline(database) as line:
        call = await line.call()
        monkeypatch.setattr("routing.aio.desk.HELD_MAX", 0)
        new = await line.tell(m.InteractionOpened, interaction=line.ids(), channel="voice", direction="in")
        assert new.refused == "overloaded"
        await line.ok(m.CustomerLeft, interaction=call)
        assert line.state(call) == "abandoned"
