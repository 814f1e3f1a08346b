"""What call control needs of the desk, of the switch, and of the two sides of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import UUID

from routing.models import Event, Outcome, Submission
from softphone_bridge.aio.switch import Hear, Outgoing


class Switch(Protocol):
    """The switch as call control uses it (softphone_bridge.aio.switch)."""

    def take(self, leg: str, hear: Hear) -> bool: ...

    def alive(self, leg: str) -> bool: ...

    def registered(self, account: str) -> bool: ...

    def play(self, leg: str, files: list[str], *, loop: bool = False) -> int: ...

    def stop(self, leg: str) -> None: ...

    async def place(self, outgoing: Outgoing, hear: Hear) -> None: ...

    def join(self, a: str, b: str) -> None: ...

    def part(self, a: str, b: str) -> None: ...

    def watch(self, leg: str, on: bool = True) -> None: ...

    def record(self, call: str, recording: str, path: str, *, left: str, right: str) -> None: ...

    def stop_record(self, recording: str) -> None: ...

    def hang_up(self, leg: str, *, status: int = 480, reason: str = "") -> None: ...


class Desk(Protocol):
    async def submit(self, submission: Submission) -> Outcome: ...

    def subscribe(self, hear: Callable[[Event], None]) -> Callable[[], None]: ...


class Line(Protocol):
    @property
    def leg(self) -> str: ...

    @property
    def language(self) -> str: ...


class Waiting(Protocol):
    """The customer's side: who holds the caller's leg until an advisor has it, and takes it back."""

    def line(self, interaction: UUID) -> Line | None: ...

    def take_back(self, leg: str, interaction: UUID) -> None:
        """The advisor was lost: the interaction waits at its old place, and its leg is yours again."""


class Pages(Protocol):
    """The advisors' open pages."""

    def expect(self, offer: UUID, advisor: str) -> asyncio.Future[None] | None:
        """Done when a page of the advisor has shown the offer; None when none is open."""

    def forget(self, offer: UUID) -> None: ...

    def tell(self, advisor: str, kind: str, data: Mapping[str, Any]) -> None: ...
