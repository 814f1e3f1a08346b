"""A desk that remembers what it was told and says what the test wants: for tests of edges, without a database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID, uuid4

from routing.models import Event, Outcome, Submission, T

S = TypeVar("S", bound=Submission)


class FakeDesk:
    def __init__(self, organisation: UUID, changed: asyncio.Event) -> None:
        self.organisation = organisation
        self.told: list[Submission] = []
        self.refuse: dict[type[Submission], str] = {}
        self.places: list[int | None] = []
        self.open = asyncio.Event()  # cleared: the database is frozen
        self.open.set()
        self._changed = changed
        self._subscribers: list[Callable[[Event], None]] = []
        self._seq = 0

    async def submit(self, submission: Submission) -> Outcome:
        self.told.append(submission)
        self._changed.set()
        await self.open.wait()
        return Outcome(refused=self.refuse.get(type(submission)))

    def subscribe(self, hear: Callable[[Event], None]) -> Callable[[], None]:
        self._subscribers.append(hear)
        return lambda: self._subscribers.remove(hear)

    def place(self, interaction: UUID) -> int | None:
        return (self.places.pop(0) if len(self.places) > 1 else self.places[0]) if self.places else None

    def ahead(self, interaction: UUID) -> dict[str, str] | None:
        place = self.place(interaction)
        return None if place is None else {f"other {n}": "priority" for n in range(1, place)}

    def publish(self, kind: T, interaction: UUID, **data: object) -> None:
        self._seq += 1
        event = Event(
            seq=self._seq,
            id=uuid4(),
            at=datetime.now(UTC),
            organisation=self.organisation,
            type=kind,
            interaction=interaction,
            data=data,
        )
        for hear in list(self._subscribers):
            hear(event)

    def of(self, kind: type[S]) -> list[S]:
        """What was told of this kind, in order."""
        return [s for s in self.told if isinstance(s, kind)]
