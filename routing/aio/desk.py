"""The desk: the one task that decides, stores and publishes."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from uuid import UUID

from routing.models import Clock, Event, Ids, Outcome, Submission
from routing.site import Site

Subscriber = Callable[[Event], None]


class Desk:
    """`async with Desk(dsn, organisation, site, clock, ids) as desk`: decides for one organisation, once elected."""

    def __init__(self, dsn: str, organisation: UUID, site: Site, clock: Clock, ids: Ids) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Desk:
        """Starts the task; returns once it has been elected and has restored what was going on."""
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def healthy(self) -> bool:
        """Elected, and the last commit was answered within a second."""
        raise NotImplementedError

    async def submit(self, submission: Submission) -> Outcome:
        """Returns once it is durable (or refused). A repeated key gets the first one's outcome."""
        raise NotImplementedError

    def subscribe(self, hear: Subscriber) -> Callable[[], None]:
        """Hear every event in commit order, called on the loop; returns what ends it."""
        raise NotImplementedError

    def site_changed(self, site: Site, version: int, by: str) -> None:
        """New rules for those who wait now; publishes SITE_APPLIED."""

    def place(self, interaction: UUID) -> int | None:
        """True service rank among those who wait in its queue, from 1; None when it does not wait."""
        raise NotImplementedError
