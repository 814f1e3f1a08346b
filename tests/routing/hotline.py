"""A small hotline for the desk's tests: its site, a clock that is set by hand, and submissions in few words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from routing import models as m
from routing.aio.clock import IdMaker
from routing.aio.desk import Desk
from routing.aio.postgres import connect, organisation_id
from routing.site import Account, Advisor, Need, Queue, Site, WrapupCode

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def site(advisors: int = 3, **changes: Any) -> Site:
    """Queue `general` (anybody) and `billing` (fr>=2), advisors a1, a2 … with a phone each, a page and a mailbox."""
    people = tuple(
        Advisor(f"a{n}", f"First{n}", f"Last{n}", skills={"fr": 1 + n % 5}, phone=str(100 + n))
        for n in range(1, advisors + 1)
    )
    values: dict[str, Any] = {
        "organisation": "test",
        "name": "Test",
        "queues": (
            Queue("general", "General", wrapup_max_s=30.0),
            Queue("billing", "Billing", needs=(Need((("fr", 2),)),), priority=5),
        ),
        "advisors": people,
        "wrapup_codes": (
            WrapupCode("done", {"fr": "Réglé"}, solves=True),
            WrapupCode("later", {"fr": "Plus tard"}),
        ),
        "accounts": (
            Account("page", "messenger", tree="bot", bot_name="Nova"),
            Account("box", "email", queue="general"),
        ),
        "tags": ("urgent", "parcel"),
    }
    return Site(**{**values, **changes})


@dataclass
class HandClock:
    """Time that moves only when told to."""

    at: datetime = START

    def now(self) -> datetime:
        return self.at

    def unix(self) -> float:
        return self.at.timestamp()

    def pass_(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Hotline:
    """A desk with everything heard from it."""

    dsn: str
    desk: Desk
    clock: HandClock
    organisation: UUID
    ids: IdMaker
    heard: list[m.Event] = field(default_factory=list)

    async def tell(self, kind: type[m.Submission], **fields: Any) -> m.Outcome:
        key = fields.pop("key", None) or self.ids()
        return await self.desk.submit(kind(key=key, organisation=self.organisation, **fields))

    async def ok(self, kind: type[m.Submission], **fields: Any) -> m.Outcome:
        outcome = await self.tell(kind, **fields)
        assert outcome.refused is None, (kind.__name__, outcome.refused)
        return outcome

    async def ready(self, *advisors: str) -> None:
        for advisor in advisors:
            await self.tell(m.ReachChanged, advisor=advisor, channel="voice", reachable=True)
            await self.tell(m.PresenceSet, advisor=advisor, presence=m.Presence.READY)

    async def call(self, number: str = "+33611223344", queue: str | None = "general", **fields: Any) -> UUID:
        """An incoming call, in a queue when one is named."""
        interaction = self.ids()
        values = {
            "channel": "voice",
            "direction": "in",
            "call": str(interaction),
            "address": number,
            "dialled": "3631",
            **fields,
        }
        await self.ok(m.InteractionOpened, interaction=interaction, **values)
        if queue is not None:
            await self.ok(m.Enqueued, interaction=interaction, queue=queue)
        return interaction

    def letter(self, text: str = "Bonjour", address: str = "psid-1", **fields: Any) -> dict[str, Any]:
        """The fields of a MessageReceived on the page; `account="box"` makes it a mail."""
        message = self.ids()
        mail = fields.get("account") == "box"
        return {
            "interaction": self.ids(),
            "message": message,
            "account": "page",
            "channel": "email" if mail else "messenger",
            "seat": "mail" if mail else "chat",
            "external_id": f"m.{message}",
            "address_kind": "email" if mail else "psid",
            "address": address,
            "text": text,
            **fields,
        }

    async def wrote(self, text: str = "Bonjour", address: str = "psid-1", **fields: Any) -> m.Event:
        """A customer writes; returns what was told of it."""
        return await self.told(m.MessageReceived, **self.letter(text, address, **fields))

    async def told(self, kind: type[m.Submission], **fields: Any) -> m.Event:
        """The last event of its type that a submission has, such as message.received."""
        outcome = await self.ok(kind, **fields)
        wanted = (m.T.MESSAGE_RECEIVED, m.T.MESSAGE_WRITTEN)
        return [event for event in outcome.events if event.type in wanted][-1]

    async def chat(self, address: str = "psid-1", queue: str = "general", **fields: Any) -> UUID:
        """Somebody writes and waits in a queue."""
        wrote = await self.wrote(address=address, **fields)
        assert wrote.interaction is not None
        await self.ok(m.Enqueued, interaction=wrote.interaction, queue=queue)
        return wrote.interaction

    async def answer(self, interaction: UUID, text: str = "Bien sûr", **fields: Any) -> m.Event:
        """Its advisor writes."""
        row = self.desk.interaction(interaction)
        assert row is not None
        said = {"author": "advisor", "by": row.advisor, "message": self.ids(), "text": text, **fields}
        return await self.told(m.MessageWritten, interaction=interaction, **said)

    async def talk(self, interaction: UUID) -> str:
        """The one to whom it is offered answers."""
        row = self.desk.interaction(interaction)
        assert row is not None
        assert row.offer is not None, row.state
        assert row.advisor is not None
        await self.ok(m.OfferAccepted, offer=row.offer)
        return row.advisor

    def state(self, interaction: UUID) -> str:
        row = self.desk.interaction(interaction)
        assert row is not None
        return row.state

    async def later(self, seconds: float) -> None:
        """Time passes, and the desk has looked at the clock."""
        self.clock.pass_(seconds)
        self.desk.nudge()
        await self.tell(m.FactsLearned, interaction=UUID(int=0))

    def types(self, interaction: UUID | None = None) -> list[str]:
        return [
            event.type.value
            for event in self.heard
            if interaction is None or event.interaction == interaction
        ]


@asynccontextmanager
async def hotline(
    dsn: str, rules: Site | None = None, clock: HandClock | None = None, short: str = "test"
) -> AsyncIterator[Hotline]:
    ids, clock = IdMaker(), clock or HandClock()
    connection = await connect(dsn)
    organisation = await organisation_id(connection, short, ids, clock.now())
    await connection.close()
    heard: list[m.Event] = []
    desk = Desk(dsn, organisation, rules or site(), clock, ids)
    desk.subscribe(heard.append)
    async with desk:
        yield Hotline(dsn, desk, clock, organisation, ids, heard)
