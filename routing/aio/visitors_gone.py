"""Who has gone: visitors with whom something goes on and of whom no page is open any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from routing.aio.visitors_door import now
from routing.models import Clock
from routing.site import Account

GONE_AFTER_S = 60.0  # where the account names no time

Tell = Callable[[UUID, datetime | None], None]
"""Shows an interaction's people since when its visitor is gone; None: back again."""


class Gone:
    """Told once nobody was there for the account's `gone_after_s`, and again once somebody is back."""

    def __init__(self, tell: Tell, clock: Clock) -> None:
        self._tell, self._clock = tell, clock
        self._timers: dict[UUID, asyncio.TimerHandle] = {}
        self._told: set[UUID] = set()
        self._closed = False

    def left(self, account: Account, interaction: UUID, at: float, since: datetime) -> None:
        """Nobody is there for it, `since` (which the loop called `at`)."""
        if self._closed or interaction in self._told or interaction in self._timers:
            return
        due = at + float(account.settings.get("gone_after_s", GONE_AFTER_S))
        loop = asyncio.get_running_loop()
        self._timers[interaction] = loop.call_at(due, self._due, interaction, since)

    def unseen(self, account: Account, interaction: UUID) -> None:
        """After a start: nobody is there yet for what goes on."""
        self.left(account, interaction, now(), self._clock.now())

    def back(self, interaction: UUID) -> None:
        self._stop(interaction)
        if interaction in self._told:
            self._told.discard(interaction)
            self._tell(interaction, None)

    def over(self, interaction: UUID) -> None:
        """It has ended: there is nothing to tell any more."""
        self._stop(interaction)
        self._told.discard(interaction)

    def close(self) -> None:
        self._closed = True
        for interaction in list(self._timers):
            self._stop(interaction)

    def _stop(self, interaction: UUID) -> None:
        timer = self._timers.pop(interaction, None)
        if timer is not None:
            timer.cancel()

    def _due(self, interaction: UUID, since: datetime) -> None:
        del self._timers[interaction]
        self._told.add(interaction)
        self._tell(interaction, since)
