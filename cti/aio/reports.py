"""What call control tells the desk: each word under a key of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog

from cti.aio.ports import Desk
from routing.models import Ids, Outcome, Submission

log = structlog.get_logger(__name__)

AGAIN_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # between words that found the desk full


class Reports:
    def __init__(self, desk: Desk, organisation: UUID, ids: Ids) -> None:
        self._desk, self._organisation, self._ids = desk, organisation, ids

    async def submit(self, kind: Callable[..., Submission], **values: Any) -> Outcome:
        """For who waits for the answer."""
        return await self._desk.submit(self._made(kind, values))

    async def tell(self, kind: Callable[..., Submission], **values: Any) -> None:
        """For what nobody waits for; a refusal means that somebody else's word came first.

        What happened on a leg must not be lost when the desk has too much to do: it is said again, under its key.
        """
        told = self._made(kind, values)
        for pause_s in (*AGAIN_S, None):
            outcome = await self._desk.submit(told)
            if outcome.refused != "overloaded" or pause_s is None:
                break
            await asyncio.sleep(pause_s)
        if outcome.refused in {"overloaded", "failed"}:
            log.error("the desk did not take what happened", what=type(told).__name__, why=outcome.refused)
        elif outcome.refused:
            log.debug("the desk had another word already", what=type(told).__name__, why=outcome.refused)

    def _made(self, kind: Callable[..., Submission], values: dict[str, Any]) -> Submission:
        return kind(**{"key": self._ids(), "organisation": self._organisation, **values})
