"""Advisors who go while customers write to them: nobody waits for somebody who is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from routing import models as m
from tests.routing.hotline import Hotline, hotline


@asynccontextmanager
async def talking(dsn: str) -> AsyncIterator[tuple[Hotline, UUID]]:
    """a1 has a chat whose customer waits for an answer; nobody else is there."""
    async with hotline(dsn) as line:
        await line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.READY)
        chat = await line.chat()
        if line.state(chat) != "active":
            await line.ok(m.InteractionTaken, interaction=chat, advisor="a1", by="a1")
        yield line, chat


async def test_whoever_waits_for_an_advisor_who_goes_offline_waits_in_the_queue_again(database: str) -> None:
    async with talking(database) as (line, chat):
        row = line.desk.interaction(chat)
        assert row is not None
        line.clock.pass_(60)
        await line.ok(m.PresenceSet, advisor="a1", presence=m.Presence.OFFLINE)
        now = line.desk.interaction(chat)
        assert now is not None
        assert (now.state, now.advisor, now.queue, now.since, now.avoid) == (
            "waiting", None, row.queue, row.since, [],
        )  # fmt: skip
        await line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.READY)
        assert line.state(chat) == "offered"


async def test_whoever_was_answered_stays_until_they_write_again(database: str) -> None:
    async with talking(database) as (line, chat):
        await line.answer(chat)
        await line.ok(m.PresenceSet, advisor="a1", presence=m.Presence.OFFLINE)
        assert line.state(chat) == "active"
        await line.wrote("Il y a quelqu'un ?")
        assert line.state(chat) == "waiting"
