"""The voice runner: walks each incoming call through its tree until somebody takes the leg, or it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ivr.aio.lookup import Lookups
from ivr.aio.speech import Speech
from ivr.evidence import Evidence
from ivr.tree import Forest
from routing.models import Clock, Event, Ids, Outcome, Submission
from routing.site import Site
from softphone_bridge.aio.switch import Hear, Switch
from softphone_bridge.events import CallOffered


class Desk(Protocol):
    """What the runner needs of the desk."""

    async def submit(self, submission: Submission) -> Outcome: ...

    def subscribe(self, hear: Callable[[Event], None]) -> object: ...

    def place(self, interaction: UUID) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Line:
    """A call that the runner brought in, for those who take it over."""

    interaction: UUID
    call: str
    leg: str
    language: str
    queue: str | None


class VoiceRunner:
    def __init__(
        self,
        *,
        switch: Switch,
        desk: Desk,
        site: Callable[[], Site],
        forest: Callable[[], Forest],
        clock: Clock,
        ids: Ids,
        organisation: UUID,
        speech: Speech,
        lookups: Lookups,
    ) -> None: ...

    def accept(self, offered: CallOffered) -> Hear:
        """For `switch.on_call`."""
        raise NotImplementedError

    def inside(self) -> Mapping[str, Mapping[int, Mapping[str, int]]]:
        """Calls in each tree, version and node now."""
        raise NotImplementedError

    def line(self, interaction: UUID) -> Line | None:
        raise NotImplementedError

    @property
    def evidence(self) -> Evidence:
        raise NotImplementedError

    async def stop(self, within_s: float = 30.0) -> None: ...
