"""The roll call: tells the desk which advisors have a page, for what is written is offered to nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol
from uuid import UUID

import structlog

from cti.attendance import GRACE_S, Attendance
from routing.channel import VOICE
from routing.models import Ids, Outcome, ReachChanged, Submission
from routing.site import Site

LOOK_S = 5.0  # so often the site is looked at: somebody may be new in it, or have other seats
AGAIN_S = 1.0
AT_ONCE = 64  # submissions side by side

log = structlog.get_logger(__name__)


class Desk(Protocol):
    organisation: UUID

    async def submit(self, submission: Submission) -> Outcome: ...


class RollCall:
    """`async with RollCall(…) as roll`: from then on advisors are reachable in writing as long as they have a page."""

    def __init__(self, *, desk: Desk, site: Callable[[], Site], ids: Ids, grace_s: float = GRACE_S) -> None:
        self._desk, self._site, self._ids = desk, site, ids
        self._attendance = Attendance(grace_s)
        self._told: dict[tuple[str, str], bool] = {}  # advisor, seat → reachable
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> RollCall:
        self._task = asyncio.create_task(self._call(), name="roll call")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def opened(self, login: str) -> None:
        self._attendance.opened(login)
        self._wake.set()

    def closed(self, login: str) -> None:
        self._attendance.closed(login, time.monotonic())
        self._wake.set()

    async def _call(self) -> None:
        while True:
            self._wake.clear()
            try:
                done = await self._tell()
            except Exception as error:
                log.warning("the desk could not be told who has a page", why=repr(error)[:200])
                done = False
            due, now_s = self._attendance.deadline(), time.monotonic()
            wait_s = LOOK_S if due is None else min(LOOK_S, max(0.0, due - now_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s if done else AGAIN_S):
                    await self._wake.wait()

    async def _tell(self) -> bool:
        """Tell what has changed; False when the desk has not taken all of it."""
        present = self._attendance.present(time.monotonic())
        now = {
            (advisor.id, seat): advisor.id in present
            for advisor in self._site().advisors
            for seat, number in advisor.seats.items()
            if seat != VOICE and number > 0
        }
        self._told = {key: there for key, there in self._told.items() if key in now}
        new = [(key, there) for key, there in now.items() if self._told.get(key) != there]
        done = True
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            for (key, there), outcome in zip(
                some, await asyncio.gather(*(self._one(*key, there) for key, there in some)), strict=True
            ):
                if outcome.refused in (None, "unchanged"):
                    self._told[key] = there
                else:
                    done = False
        return done

    async def _one(self, advisor: str, seat: str, reachable: bool) -> Outcome:
        return await self._desk.submit(
            ReachChanged(
                key=self._ids(),
                organisation=self._desk.organisation,
                advisor=advisor,
                channel=seat,
                reachable=reachable,
            )
        )
