"""A desk on a real PostgreSQL, the text runner, and customers who write: for tests of written walks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ivr.aio.lookup import Lookups
from ivr.aio.text import TextRunner
from ivr.events import LookedUp, LookUp
from routing import models as m
from routing.aio.clock import IdMaker
from routing.aio.desk import Desk
from routing.aio.postgres import connect, organisation_id, pool, stores
from routing.channel import Manifest
from routing.channels import messenger
from routing.models import T
from routing.site import Account, Advisor, Hours, Queue, Site
from routing.store import MessageView, Stores
from tests.ivr.walks import SHIPPED, TEXTS

DEADLINE_S = 20.0
ALWAYS = Hours("bureau", dict.fromkeys(range(7), ("00:00-24:00",)))
NEVER = Hours("bureau", {0: ("08:00-19:00",)})
MAIL = Manifest(
    name="email", seat="mail", address_kind="email", labels={}, subject=True, html=True, starts=True
)
MANIFESTS = {"messenger": messenger.MANIFEST, "email": MAIL}
SATURDAY = datetime(2026, 11, 21, 21, 0, tzinfo=UTC)


def site(hours: Hours = ALWAYS, **changes: Any) -> Site:
    names = ("general", "reclamations", "facturation")
    made = Site(
        organisation="demo",
        name="Demo",
        hours=(hours,),
        queues=tuple(Queue(n, n, hours="bureau") for n in names),
        advisors=(Advisor("ana", "Ana", "A", seats={"chat": 3, "mail": 3}),),
        accounts=(
            Account("page", "messenger", "La page", tree="messages", bot_name="Colette"),
            Account("bare", "messenger", "Sans robot", queue="general"),
            Account("phone-tree", "messenger", "Fausse", tree="accueil", queue="facturation"),
            Account(
                "box",
                "email",
                tree="courrier",
                settings={"address": "contact@demo.example"},
                bot_name="Colette",
            ),
        ),
    )
    return replace(made, **changes)


class Hands:
    """A clock that stands until it is moved."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def unix(self) -> float:
        return self.at.timestamp()


class Parcels(Lookups):
    """Answers as told, when told."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = LookedUp("ok", {"status": "delivered"})
        self.free = asyncio.Event()
        self.free.set()
        self.asked: list[str] = []

    async def ask(self, command: LookUp, *, tree: str = "") -> LookedUp:
        self.asked.append(command.url)
        await self.free.wait()
        return self.answer


class House:
    """A desk, a runner and a customer."""

    def __init__(
        self, desk: Desk, organisation: UUID, there: Stores, clock: Hands, ids: IdMaker, at: Site
    ) -> None:
        self.desk, self.organisation, self.stores, self.clock, self.ids = (
            desk,
            organisation,
            there,
            clock,
            ids,
        )
        self.site = at
        self.forest = SHIPPED
        self.events: list[m.Event] = []
        self.told: list[m.Submission] = []
        self.refused: list[str] = []
        self.speaks: str | None = "fr"
        self.lookups = Parcels()
        self.changed = asyncio.Event()
        self.before: Callable[[m.Submission], Any] | None = None
        desk.subscribe(self._heard)
        self.runner = self.made()

    def made(self) -> TextRunner:
        return TextRunner(
            desk=self,
            site=lambda: self.site,
            forest=lambda: self.forest,
            messages=self.stores.messages,
            walks=self.stores.walks,
            timeline=self.stores.timeline,
            lookups=self.lookups,
            clock=self.clock,
            ids=self.ids,
            organisation=self.organisation,
            manifests=MANIFESTS,
            texts=TEXTS,
            trees=self.stores.trees,
            known_language=self._speaks,
        )

    async def _speaks(self, interaction: UUID) -> str | None:
        return self.speaks

    async def submit(self, submission: m.Submission) -> m.Outcome:
        self.told.append(submission)
        if self.before is not None:
            before, self.before = self.before, None
            found = before(submission)
            if asyncio.iscoroutine(found):
                await found
        outcome = await self.desk.submit(submission)
        if outcome.refused is not None:
            self.refused.append(f"{type(submission).__name__}: {outcome.refused}")
        return outcome

    def subscribe(self, hear: Callable[[m.Event], None]) -> Callable[[], None]:
        return self.desk.subscribe(hear)

    def _heard(self, event: m.Event) -> None:
        self.events.append(event)
        self.changed.set()

    def base(self) -> dict[str, Any]:
        return {"key": self.ids(), "organisation": self.organisation}

    async def do(self, submission: m.Submission) -> m.Outcome:
        outcome = await self.desk.submit(submission)
        assert outcome.refused is None, (submission, outcome.refused)
        return outcome

    async def write(self, text: str, payload: str = "", *, account: str = "page", **more: Any) -> UUID:
        """The customer writes; returns the interaction once the tree has answered."""
        outcome = await self.do(self.message(text, payload, account=account, **more))
        await self.settled()
        found = next(e.interaction for e in outcome.events if e.type is T.MESSAGE_RECEIVED)
        assert found is not None
        return found

    def message(
        self, text: str, payload: str = "", *, account: str = "page", **more: Any
    ) -> m.MessageReceived:
        mail = account == "box"
        made = m.MessageReceived(
            **self.base(),
            interaction=self.ids(),
            message=self.ids(),
            account=account,
            channel="email" if mail else "messenger",
            seat="mail" if mail else "chat",
            external_id=str(self.ids()),
            address_kind="email" if mail else "psid",
            address="ada@client.example" if mail else "psid-1",
            text=text,
            payload=payload,
            sent_at=self.clock.now(),
        )
        return replace(made, **more)

    async def settled(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self.runner.settled()

    async def until(self, kind: T, count: int = 1) -> m.Event:
        async with asyncio.timeout(DEADLINE_S):
            while len(found := [e for e in self.events if e.type is kind]) < count:
                self.changed.clear()
                await self.changed.wait()
        return found[-1]

    async def talk(self, interaction: UUID) -> list[MessageView]:
        return list(await self.stores.messages.of_interaction(interaction))

    async def said(self, interaction: UUID) -> list[str]:
        return [v.text for v in await self.talk(interaction) if v.direction == "out"]

    async def state(self, interaction: UUID) -> tuple[str, str | None]:
        view = await self.stores.timeline.interaction(interaction)
        assert view is not None
        return view.state, view.queue

    def path(self) -> list[str]:
        return [
            f"{e.data['tree']}.{e.data['node']}:{e.data['exit']}"
            for e in self.events
            if e.type is T.NODE_LEFT
        ]

    async def ready(self) -> None:
        await self.do(m.PresenceSet(**self.base(), advisor="ana", presence=m.Presence.READY))

    async def accept(self) -> None:
        offered = await self.until(T.OFFERED)
        await self.do(m.OfferAccepted(**self.base(), offer=UUID(str(offered.data["offer"]))))
        await self.settled()

    async def restart(self) -> None:
        """As after a crash: what the runner had in memory is gone."""
        await self.runner.stop(0.0)
        self.runner = self.made()
        await self.runner.start()
        await self.settled()


@asynccontextmanager
async def opened(dsn: str, at: Site | None = None, now: datetime = SATURDAY) -> AsyncIterator[House]:
    ids, clock, rules = IdMaker(), Hands(now), at or site()
    connection = await connect(dsn)
    organisation = await organisation_id(connection, "demo", ids, clock.now())
    await connection.close()
    async with (
        pool(dsn, size=3) as there,
        Desk(dsn, organisation, rules, clock, ids) as desk,
    ):
        house = House(desk, organisation, stores(there, organisation, clock, {}), clock, ids, rules)
        try:
            await house.runner.start()
            yield house
        finally:
            await house.runner.stop(0.0)
            await house.lookups.close()
