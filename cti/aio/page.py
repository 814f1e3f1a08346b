"""One open page: what may be told to it, and what is queued for it until it has been sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import WSCloseCode, WSMsgType, web
from prometheus_client import Counter
from pydantic import BaseModel

from routing.aio.web import Caller

QUEUE_BYTES = 1 << 20
BEHIND_S = 5.0
CLOSING_S = 1.0  # for a farewell; then the connection is cut
FAREWELL_S = 2.0
NEWEST = frozenset({"board.changed", "inbox.changed"})  # of these only the last one counts

SLOW = Counter("monofil_pages_slow_total", "Pages closed because they did not read")


def dumps(data: Any) -> str:
    if isinstance(data, BaseModel):
        return data.model_dump_json()
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def frame(kind: str, data: Any, at: datetime, seq: int, *, id: UUID | None = None, subject: str = "") -> str:
    """One frame as text; without `id` it is ephemeral."""
    head: dict[str, Any] = {"seq": seq}
    if id is not None:
        head["id"] = str(id)
    head |= {"type": kind, "time": at.isoformat().replace("+00:00", "Z"), "subject": subject or None}
    return f'{dumps(head)[:-1]},"data":{dumps(data)}}}'


def rest(kind: str, data: Any, at: datetime) -> str:
    """An ephemeral frame behind its sequence number, which is another one on each page."""
    return frame(kind, data, at, 0).removeprefix('{"seq":0,')


@dataclass(frozen=True, slots=True)
class Out:
    """One frame on its way, with who may see it. No `to`, `roles` or `case`: everybody in the organisation."""

    data: bytes
    kind: str
    to: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    case: UUID | None = None

    def for_page(self, page: Page) -> bool:
        if not self.to and not self.roles and self.case is None:
            return True
        return (
            page.caller.login in self.to
            or bool(self.roles & page.caller.roles)
            or (self.case is not None and self.case in page.cases)
        )


@dataclass(slots=True, eq=False)
class Page:
    """One open page. `session` is the hash of its cookie; `cases` those it opened last.

    `coming`: the events that concern it and are not told yet, in order, with what makes their frames.
    """

    caller: Caller
    session: bytes
    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
    cases: deque[UUID]
    topics: set[str] = field(default_factory=set)
    coming: deque[tuple[int, asyncio.Task[list[Out]]]] = field(default_factory=deque)
    catching_up: list[Out] | None = None
    queue: deque[tuple[str, bytes, float]] = field(default_factory=deque)  # kind, data, queued at (monotonic)
    queued_bytes: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    closing: int | None = None
    closing_since_s: float = 0.0
    sending_since_s: float | None = None

    def put(self, kind: str, data: bytes, now_s: float) -> None:
        """Queue one frame; a board that was not sent yet gives way to the newer one."""
        if self.closing is not None:
            return
        if kind in NEWEST or kind.startswith("trees.inside"):
            for n, (queued, old, _) in enumerate(self.queue):
                if queued == kind:
                    self.queued_bytes -= len(old)
                    del self.queue[n]
                    break
        self.queue.append((kind, data, now_s))
        self.queued_bytes += len(data)
        if self._behind(now_s):
            self.close(WSCloseCode.TRY_AGAIN_LATER)
        self.wake.set()

    def told(self, last: int) -> int:
        """Up to which event everything that concerns it has been queued, when `last` is the last one that there is."""
        return self.coming[0][0] - 1 if self.coming else last

    def put_made(self, now_s: float) -> None:
        """Queue the frames that have been made, up to the first event whose frames have not."""
        while self.coming and self.coming[0][1].done():
            _, making = self.coming.popleft()
            if making.cancelled() or making.exception() is not None:
                # It would otherwise believe that it has seen this event; let it come back and read it anew.
                self.close(WSCloseCode.TRY_AGAIN_LATER)
                return
            for out in making.result():
                self._put_out(out, now_s)

    def _put_out(self, out: Out, now_s: float) -> None:
        """Queue what may be seen here; until the page has caught up it is set aside."""
        if not out.for_page(self):
            return
        if self.catching_up is not None:
            self.catching_up.append(out)
        else:
            self.put(out.kind, out.data, now_s)

    def _behind(self, now_s: float) -> bool:
        oldest_s = self.sending_since_s or (self.queue[0][2] if self.queue else now_s)
        return self.queued_bytes > QUEUE_BYTES or now_s - oldest_s > BEHIND_S

    def look(self, now_s: float) -> None:
        """Give up a page that has stopped reading, and cut one that does not read its farewell either."""
        if self._behind(now_s):
            self.close(WSCloseCode.TRY_AGAIN_LATER)
        if (
            self.closing is not None
            and now_s - self.closing_since_s > CLOSING_S
            and self.transport is not None
        ):
            self.transport.abort()

    def close(self, code: int) -> None:
        if self.closing is None:
            self.closing = code
            self.closing_since_s = time.monotonic()
            if code == WSCloseCode.TRY_AGAIN_LATER:
                SLOW.inc()
            self.queue.clear()
            self.coming.clear()
            self.queued_bytes = 0
            self.wake.set()

    async def write(self) -> None:
        """Send what is queued until the page is closed, then say farewell."""
        try:
            while self.closing is None:
                while self.queue:
                    _, data, queued_s = self.queue.popleft()
                    self.queued_bytes -= len(data)
                    self.sending_since_s = queued_s
                    await self.socket.send_frame(data, WSMsgType.TEXT)
                    self.sending_since_s = None
                self.wake.clear()
                if self.closing is None and not self.queue:
                    await self.wake.wait()
        except (ConnectionError, RuntimeError):
            self.close(WSCloseCode.ABNORMAL_CLOSURE)
        code = self.closing or WSCloseCode.OK
        if not self.socket.closed:
            with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError):
                await asyncio.wait_for(self.socket.close(code=code), FAREWELL_S)
        if code == WSCloseCode.TRY_AGAIN_LATER and self.transport is not None:
            self.transport.abort()
