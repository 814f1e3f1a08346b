"""Advisors who go while customers write to them: nobody waits for somebody who is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest

from routing import models as m
from routing.ledger import AWAY_S
from routing.site import Site
from tests.routing.hotline import HandClock, Hotline, hotline, site
from tests.routing.record import check


@asynccontextmanager
async def talking(dsn: str, clock: HandClock | None = None) -> AsyncIterator[tuple[Hotline, UUID]]:
    """a1 has a chat whose customer waits for an answer; nobody else is there."""
    async with hotline(dsn, clock=clock) as line:
        await page(line, "a1", True)
        await line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.READY)
        chat = await line.chat()
        await line.talk(chat)
        yield line, chat


async def page(line: Hotline, advisor: str, is_open: bool) -> None:
    """What the roll call tells of a page."""
    for seat in ("chat", "mail"):
        await line.ok(m.ReachChanged, advisor=advisor, channel=seat, reachable=is_open)


def holder(line: Hotline, chat: UUID) -> tuple[str, str | None]:
    row = line.desk.interaction(chat)
    assert row is not None
    return row.state, row.advisor


async def set_site(line: Hotline, rules: Site) -> None:
    await line.desk.site_changed(rules, 2, "ada")


async def go_offline(line: Hotline) -> None:
    await line.ok(m.PresenceSet, advisor="a1", presence=m.Presence.OFFLINE)


async def close_page(line: Hotline) -> None:
    await page(line, "a1", False)
    await line.later(AWAY_S)


async def leave_the_site(line: Hotline) -> None:
    await set_site(line, replace(line.desk.site, advisors=line.desk.site.advisors[1:]))


WAYS = (go_offline, close_page, leave_the_site)
goes_away = pytest.mark.parametrize("goes", WAYS, ids=[way.__name__ for way in WAYS])


@goes_away
async def test_whoever_waits_for_an_advisor_who_goes_is_offered_to_another_from_the_old_place(
    database: str, goes: object
) -> None:
    assert callable(goes)
    async with talking(database) as (line, chat):
        row = line.desk.interaction(chat)
        assert row is not None
        line.clock.pass_(60)
        await goes(line)
        now = line.desk.interaction(chat)
        assert now is not None
        assert (now.state, now.advisor, now.queue, now.since) == ("waiting", None, row.queue, row.since)
        await line.ready("a2")
        assert holder(line, chat) == ("offered", "a2")
        assert await line.talk(chat) == "a2"
        assert (await line.answer(chat)).interaction == chat
    await check(database, line.organisation, site())


async def test_somebody_who_is_there_is_offered_it_at_once(database: str) -> None:
    async with talking(database) as (line, chat):
        await line.ready("a2")
        await close_page(line)
        assert holder(line, chat) == ("offered", "a2")


async def test_whoever_comes_back_before_somebody_else_has_it_is_offered_it(database: str) -> None:
    async with talking(database) as (line, chat):
        await close_page(line)
        await page(line, "a1", True)
        assert holder(line, chat) == ("offered", "a1")


@pytest.mark.parametrize("goes", WAYS[:2], ids=[way.__name__ for way in WAYS[:2]])
@pytest.mark.parametrize("held", [False, True], ids=["in work", "on hold"])
async def test_whoever_was_answered_stays_until_they_write_again(
    database: str, goes: object, held: bool
) -> None:
    assert callable(goes)
    async with talking(database) as (line, chat):
        await line.ready("a2")
        await line.answer(chat)
        if held:
            await line.ok(m.HoldChanged, interaction=chat, held=True)
        await goes(line)
        assert holder(line, chat) == ("active", "a1")
        await line.wrote("Il y a quelqu'un ?")
        assert holder(line, chat) == ("offered", "a2")
        row = line.desk.interaction(chat)
        assert row is not None
        assert not row.held
        await line.talk(chat)
    await check(database, line.organisation, site())


async def test_what_is_on_hold_and_owed_an_answer_goes_back_too(database: str) -> None:
    async with talking(database) as (line, chat):
        await line.ok(m.HoldChanged, interaction=chat, held=True)
        await line.ready("a2")
        await close_page(line)
        assert holder(line, chat) == ("offered", "a2")
    await check(database, line.organisation, site())


async def test_a_page_that_comes_back_in_time_keeps_everything(database: str) -> None:
    async with talking(database) as (line, chat):
        await line.ready("a2")
        for _ in range(2):
            await page(line, "a1", False)
            await line.later(AWAY_S - 1)
            await line.wrote("Toujours là ?")
            await page(line, "a1", True)
            await line.later(10)
        await line.later(AWAY_S)
        await line.wrote("Alors ?")
        assert holder(line, chat) == ("active", "a1")
        for registered in (True, False):
            await line.ok(m.ReachChanged, advisor="a1", channel="voice", reachable=registered)
        await line.later(AWAY_S)
        assert holder(line, chat) == ("active", "a1"), "a telephone is no page"


async def test_who_leaves_the_site_keeps_nothing_that_is_written(database: str) -> None:
    async with talking(database) as (line, chat):
        await line.answer(chat)
        await line.ready("a2")
        await leave_the_site(line)
        assert holder(line, chat) == ("offered", "a2")


async def test_pages_have_time_to_come_back_after_a_restart(database: str) -> None:
    clock = HandClock()
    async with talking(database, clock) as (line, chat):
        await line.ready("a2")
        await page(line, "a1", False)
    clock.pass_(3600)
    async with hotline(database, site(), clock) as line:
        await page(line, "a2", False)
        await line.wrote("Toujours là ?")
        await line.later(AWAY_S - 1)
        assert holder(line, chat) == ("active", "a1")
        await page(line, "a2", True)
        await line.later(1)
        assert holder(line, chat) == ("offered", "a2")
    await check(database, line.organisation, site())


async def test_what_lies_with_somebody_offline_is_looked_at_once_after_a_restart(database: str) -> None:
    """Left there by a call that had its seat."""
    clock = HandClock()
    async with talking(database, clock) as (line, chat):
        await line.ready("a1")
        call = {"channel": "voice", "direction": "out", "address": "+33611223344", "exchange": chat}
        await line.ok(m.InteractionOpened, interaction=line.ids(), advisor="a1", **call)
        await go_offline(line)
        assert holder(line, chat) == ("active", "a1")
    async with hotline(database, site(), clock) as line:
        await line.later(0)
        assert holder(line, chat) == ("waiting", None)


async def test_a_seat_that_comes_back_to_somebody_offline_is_no_place_to_wait(database: str) -> None:
    async with talking(database) as (line, chat):
        await line.ready("a1")
        call = {"channel": "voice", "direction": "out", "address": "+33611223344", "exchange": chat}
        opened = line.ids()
        await line.ok(m.InteractionOpened, interaction=opened, advisor="a1", **call)
        await go_offline(line)
        await line.ok(m.CallFailed, interaction=opened, reason="no_answer")
        assert holder(line, chat) == ("active", "a1")
        await line.later(AWAY_S)
        assert holder(line, chat) == ("waiting", None)
