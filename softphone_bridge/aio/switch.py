"""The switch owns every leg and its life, and joins signalling with sound.

Whoever commands a leg (the tree's runner, then the advisor's side) speaks call-control words here and hears LegEvents.
A leg has one hearer at a time: `take` hands it over, and the former one hears LegTaken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from softphone_bridge.events import CallOffered, LegEvent

Hear = Callable[[LegEvent], None]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an outgoing leg goes: every registered contact of a phone account, or a number through a trunk."""

    account: str | None = None
    trunk: str | None = None
    number: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An outgoing leg to be placed. The switch refuses a trunk destination its dial plan does not allow (row 23)."""

    leg: str
    call: str
    to: Destination
    caller: str  # shown to the far side
    caller_name: str = ""
    near: str | None = None  # a leg of the same call: same media worker, and when it ends unanswered legs are cancelled at once
    ring_s: float = 30.0
    auto_answer: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)  # e.g. X-Monofil-Interaction


class CallRefused(Exception):
    """An outgoing leg could not be placed: `why` is not_registered, not_allowed, no_trunk, no_media or stopping."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Switch:
    """Call control over legs. Commands on a leg that has ended do nothing: its LegEnded is on its way."""

    def on_call(self, accept: Callable[[CallOffered], Hear]) -> None:
        """Who takes new calls: called once per CallOffered, returns who hears that leg."""

    def take(self, leg: str, hear: Hear) -> None: ...

    async def answer(self, leg: str) -> bool:
        """Answer an incoming leg with 200; False when it ended meanwhile."""
        raise NotImplementedError

    def ring(self, leg: str) -> None: ...

    def reject(self, leg: str, status: int, *, retry_after_s: int | None = None) -> None: ...

    def play(self, leg: str, files: Sequence[str], *, loop: bool = False) -> int:
        """Start WAV files on the leg, replacing what plays; returns the play's number, echoed by PlayEnded."""
        raise NotImplementedError

    def stop(self, leg: str) -> None: ...

    async def place(self, outgoing: Outgoing, hear: Hear) -> None:
        """Ring a destination. LegRinging, LegAnswered, LegEnded follow. Raises CallRefused."""

    def join(self, a: str, b: str) -> None: ...

    def part(self, a: str, b: str) -> None: ...

    def watch(self, leg: str, on: bool = True) -> None: ...

    def record(self, call: str, recording: str, path: str, *, left: str, right: str) -> None: ...

    def stop_record(self, recording: str) -> None: ...

    def hang_up(self, leg: str, *, status: int = 480, reason: str = "") -> None:
        """End a leg: CANCEL while it rings, BYE when up, `status` when incoming and unanswered."""
