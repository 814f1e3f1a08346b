"""Work that is looked for again and again: as soon as somebody rings, and after a while even if nobody does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog
from prometheus_client import Counter

from routing.store import Unavailable

RETRY_S = 1.0  # after a round that failed

log = structlog.get_logger(__name__)


class Rounds:
    """`await rounds.make(look)` in a task; `rounds.ring()` from anywhere in its loop."""

    def __init__(self, of: str, *, gather_s: float = 0.0, bugs: Counter | None = None) -> None:
        """`of` names them in the log. Between two looks there are `gather_s`: what comes meanwhile is found by one."""
        self._of, self._gather_s, self._bugs = of, gather_s, bugs
        self._bell = asyncio.Event()

    def ring(self) -> None:
        self._bell.set()

    async def make(self, look: Callable[[], Awaitable[float]]) -> NoReturn:
        """`look` does what is to be done, and returns when to look again, in seconds."""
        while True:
            self._bell.clear()
            try:
                wait_s = await look()
            except Unavailable as error:
                wait_s = RETRY_S
                log.warning("a round cannot be made now", of=self._of, error=str(error))
            except Exception as error:
                wait_s = RETRY_S
                if self._bugs is not None:
                    self._bugs.labels("").inc()
                log.error("a round has failed", of=self._of, error=repr(error), exc_info=error)
            next_at = asyncio.get_running_loop().time() + self._gather_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):  # wait_for may swallow a cancellation
                    await self._bell.wait()
            await asyncio.sleep(max(0.0, next_at - asyncio.get_running_loop().time()))
