"""An endpoint on loopback that knows one number and one account, and remembers all it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from softphone_bridge.aio.endpoint import Endpoint
from softphone_bridge.signals import Ended, Invited, StackEvent, StackSettings, TrunkRules
from tests.softphone_bridge.world import SDP, Book

Told = TypeVar("Told", bound=StackEvent)


class House:
    """`answers`: each call is answered and left alone; else it is refused as busy."""

    def __init__(self, *, answers: bool) -> None:
        self.told: list[StackEvent] = []
        self._answers = answers
        self._came = asyncio.Event()
        self.endpoint = Endpoint(
            StackSettings(host="127.0.0.1", port=0),
            bind="127.0.0.1",
            hear=self._hear,
            accounts=Book("lea"),
            knows=lambda number: number == "1000",
            trunks=(TrunkRules("carrier", ("127.0.0.1",)),),
        )

    def _hear(self, event: StackEvent) -> None:
        self.told.append(event)
        self._came.set()
        if isinstance(event, Invited):
            if self._answers:
                self.endpoint.answer(event.leg, SDP)
            else:
                self.endpoint.reject(event.leg, 486)

    def of(self, kind: type[Told]) -> list[Told]:
        return [event for event in self.told if isinstance(event, kind)]

    async def wait(self, kind: type[Told]) -> Told:
        """The first event of a kind, come or to come."""
        await self._until(lambda: bool(self.of(kind)), 10.0)
        return self.of(kind)[0]

    async def until_ended(self, count: int, timeout_s: float) -> None:
        await self._until(lambda: len(self.of(Ended)) >= count, timeout_s)

    async def _until(self, true: Callable[[], bool], timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while not true():
                self._came.clear()
                await self._came.wait()
