"""An advisor's side for tests: a real desk and database, a switch that holds to its contract, and a caller's side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from cti.aio.control import CallControl
from routing import models as m
from routing.aio import postgres
from routing.site import Site
from routing.store import Stores
from softphone_bridge.events import LegEnded, LegEvent, LegTaken
from tests.fakes.switch import FakeSwitch
from tests.routing import hotline as desks


@dataclass
class WaitingSide:
    """Holds the callers' legs as the tree's runner would."""

    switch: FakeSwitch
    line_: desks.Hotline
    legs: dict[UUID, str] = field(default_factory=dict)
    taken: list[UUID] = field(default_factory=list)
    back: list[UUID] = field(default_factory=list)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @dataclass(frozen=True)
    class Held:
        leg: str
        language: str = "fr"

    def line(self, interaction: UUID) -> Held | None:
        leg = self.legs.get(interaction)
        return self.Held(leg) if leg else None

    def take_back(self, leg: str, interaction: UUID) -> None:
        self.legs[interaction] = leg
        self.back.append(interaction)
        self.switch.take(leg, lambda heard: self._heard(interaction, heard))

    def _heard(self, interaction: UUID, heard: LegEvent) -> None:
        match heard:
            case LegTaken():
                self.legs.pop(interaction, None)
                self.taken.append(interaction)
            case LegEnded():
                self.legs.pop(interaction, None)
                left = self.line_.tell(m.CustomerLeft, interaction=interaction)
                task = asyncio.ensure_future(left)
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    async def call(self, number: str = "+33611223344", queue: str = "general") -> UUID:
        """A caller who waits in a queue, with a leg that is up."""
        interaction = self.line_.ids()
        leg = self.switch.caller(str(interaction), lambda heard: self._heard(interaction, heard))
        self.legs[interaction] = leg
        await self.line_.ok(
            m.InteractionOpened,
            interaction=interaction,
            channel="voice",
            direction="in",
            call=str(interaction),
            address=number,
            dialled="3631",
        )
        await self.line_.ok(m.Enqueued, interaction=interaction, queue=queue)
        return interaction


@dataclass
class TestPages:
    """The advisors' pages: shown at once, never, or not open at all."""

    __test__ = False
    mode: str = "shown"  # shown | silent | closed
    told: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    expected: list[UUID] = field(default_factory=list)

    def expect(self, offer: UUID, advisor: str) -> asyncio.Future[None] | None:
        self.expected.append(offer)
        if self.mode == "closed":
            return None
        shown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.mode == "shown":
            shown.set_result(None)
        return shown

    def forget(self, offer: UUID) -> None:
        pass

    def tell(self, advisor: str, kind: str, data: Mapping[str, Any]) -> None:
        self.told.append((advisor, kind, data))

    def codes(self) -> list[str]:
        return [data["code"] for _, kind, data in self.told if kind == "notice"]


@dataclass
class Seat:
    line: desks.Hotline
    switch: FakeSwitch
    waiting: WaitingSide
    pages: TestPages
    control: CallControl
    stores: Stores

    def advisor_leg(self, interaction: UUID, n: int = 2) -> str:
        return f"{interaction}.{n}"

    async def rings(self, interaction: UUID, n: int = 2) -> str:
        leg = self.advisor_leg(interaction, n)
        await self.switch.until(lambda: leg in self.switch.legs)
        return leg

    async def state(self, interaction: UUID, state: str) -> None:
        await self.switch.until(lambda: self.line.state(interaction) == state)

    async def talks(self, number: str = "+33611223344") -> tuple[UUID, str, str]:
        """A call that is being talked on: interaction, caller's leg, advisor's leg."""
        call = await self.waiting.call(number)
        caller = self.waiting.legs[call]
        leg = await self.rings(call)
        self.switch.pick_up(leg)
        await self.switch.until(lambda: self.switch.legs[leg].joined == caller)
        return call, caller, leg


@asynccontextmanager
async def seat(
    database: str, folder: Path, *, rules: Site | None = None, pages: str = "shown", **options: Any
) -> AsyncIterator[Seat]:
    """Advisor a1 is ready, with phone 101; a2 and a3 are offline."""
    async with (
        asyncio.timeout(30),
        desks.hotline(database, rules) as line,
        postgres.pool(database, size=2) as pool,
    ):
        stores = postgres.stores(pool, line.organisation, line.clock)
        switch = FakeSwitch(phones={"101", "102", "103"})
        waiting = WaitingSide(switch, line)
        shown = TestPages(pages)
        control = CallControl(
            desk=line.desk,
            switch=switch,
            pages=shown,
            waiting=waiting,
            timeline=stores.timeline,
            site=lambda: line.desk.site,
            clock=line.clock,
            ids=line.ids,
            organisation=line.organisation,
            sound=lambda name, language: f"{language}/{name}",
            data_dir=folder,
            **options,
        )
        async with control:
            await line.ready("a1")
            yield Seat(line, switch, waiting, shown, control, stores)
        if waiting.tasks:
            await asyncio.gather(*waiting.tasks)
