"""The visitors of web pages: who each is, by token, by thread and by what goes on with them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from prometheus_client import Gauge

from routing.aio.visitors_door import now
from routing.aio.visitors_gone import Gone
from routing.channel import Channel
from routing.models import Clock
from routing.pace import Pace
from routing.site import Account
from routing.store import Messages, ThreadView

RATE, BURST = 1.0, 20.0  # frames of one visitor a second
LOOSE = 100  # frames that are not stored and wait to be sent to one page
PAGES_EACH = 8  # of one visitor
KEPT = 10_000  # visitors without an open page

OPEN = Gauge("monofil_visitor_pages", "Pages of visitors that are connected", ["account"])

Frame = dict[str, Any]


@dataclass(slots=True)
class Page:
    """One connection. `after`: the last stored message it was shown; `state`: how it was told that things stand."""

    visitor: Visitor
    after: int
    state: Frame | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    loose: deque[Frame] = field(default_factory=deque)
    slow: bool = False
    blocked: bool = False

    def give(self, frame: Frame) -> None:
        if len(self.loose) >= LOOSE:
            self.slow = True
        else:
            self.loose.append(frame)
        self.wake.set()


@dataclass(slots=True)
class Visitor:
    """`said` is what they say of themselves, not proved; `place` the best in the queue that they were told."""

    account: Account
    id: str
    pages: list[Page] = field(default_factory=list)
    thread: UUID | None = None
    live: UUID | None = None
    wrote: bool = False
    address: str = ""
    said: dict[str, str] = field(default_factory=dict)
    marked: dict[str, int] = field(default_factory=dict)  # read and delivered: up to which seq
    accepted: OrderedDict[str, None] = field(default_factory=OrderedDict)  # client ids
    pace: Pace = field(default_factory=lambda: Pace(RATE, BURST))
    refused: int = 0
    state: Frame | None = None  # told last to any page
    place: int | None = None
    left: tuple[float, datetime] | None = None  # when the last page was closed, by the loop and by the clock

    @property
    def key(self) -> tuple[str, str]:
        return self.account.id, self.id


class Known:
    """Those with a page are all remembered; of the others the last ones: a token brings them back."""

    def __init__(
        self,
        *,
        channels: Mapping[str, Channel],
        messages: Messages,
        key: bytes,
        clock: Clock,
        gone: Gone,
    ) -> None:
        """`key` proves the tokens of visitors."""
        assert len(key) >= 16, "a key that can be guessed proves nothing"
        self._channels, self._messages, self._key, self._clock, self._gone = (
            channels,
            messages,
            key,
            clock,
            gone,
        )
        self._visitors: dict[tuple[str, str], Visitor] = {}
        self._by_thread: dict[UUID, Visitor] = {}
        self._by_live: dict[UUID, Visitor] = {}
        self._nobodys: OrderedDict[tuple[str, str], Visitor] = OrderedDict()  # without an open page

    def token(self, account: str, visitor: str) -> str:
        """Names a visitor of an account; nothing of it needs to be kept."""
        proof = hmac.new(self._key, f"visitor {account} {visitor}".encode(), hashlib.sha256).hexdigest()[:40]
        return f"{visitor}.{proof}"

    def of_token(self, account: Account, token: Any) -> Visitor | None:
        id, _, _ = token.partition(".") if isinstance(token, str) else ("", "", "")
        if not re.fullmatch(r"[0-9a-f]{24}", id):
            return None
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.token(account.id, id).encode()):
            return None
        key = (account.id, id)
        visitor = self._visitors.get(key)
        if visitor is None:
            visitor = self._visitors[key] = self._nobodys[key] = Visitor(account, id)
            self._trim()
        visitor.account = account
        return visitor

    def newcomer(self, account: Account) -> Visitor:
        visitor = self.of_token(account, self.token(account.id, os.urandom(12).hex()))
        assert visitor is not None
        return visitor

    def find(self, account: str, id: str) -> Visitor | None:
        return self._visitors.get((account, id))

    def of_thread(self, thread: UUID) -> Visitor | None:
        return self._by_thread.get(thread)

    def of_live(self, interaction: UUID | None) -> Visitor | None:
        return self._by_live.get(interaction) if interaction is not None else None

    def threadless(self) -> list[Visitor]:
        """Those who have written and whose thread may just have been opened."""
        return [each for each in self._visitors.values() if each.wrote and each.thread is None]

    async def thread(self, visitor: Visitor) -> ThreadView | None:
        """Looked up; what goes on in it is then known too."""
        manifest = self._channels[visitor.account.channel].MANIFEST
        thread = await self._messages.thread_with(visitor.account.id, manifest.address_kind, visitor.id)
        if thread is not None:
            visitor.thread = thread.id
            self._by_thread[thread.id] = visitor
            self.lives(visitor, thread.live)
        return thread

    def lives(self, visitor: Visitor, interaction: UUID | None) -> None:
        """What goes on with them; None: nothing."""
        if visitor.live == interaction:
            return
        if visitor.live is not None:
            self._by_live.pop(visitor.live, None)
            self._gone.over(visitor.live)
        visitor.live, visitor.place = interaction, None
        if interaction is None:
            return
        self._by_live[interaction] = visitor
        if visitor.pages:
            self._gone.back(interaction)
        elif visitor.left is not None:
            self._gone.left(visitor.account, interaction, *visitor.left)

    @contextmanager
    def opened(self, visitor: Visitor, after: int) -> Iterator[Page]:
        """A page of theirs, for as long as it is open."""
        page = Page(visitor, after, visitor.state)
        if len(visitor.pages) >= PAGES_EACH:
            visitor.pages[0].slow = True  # the oldest gives way
            visitor.pages[0].wake.set()
        visitor.pages.append(page)
        visitor.left = None
        self._nobodys.pop(visitor.key, None)
        self._visitors[visitor.key] = visitor
        if visitor.live is not None:
            self._gone.back(visitor.live)
        OPEN.labels(visitor.account.id).inc()
        try:
            yield page
        finally:
            visitor.pages.remove(page)
            OPEN.labels(visitor.account.id).dec()
            if not visitor.pages:
                visitor.left = now(), self._clock.now()
                if visitor.live is not None:
                    self._gone.left(visitor.account, visitor.live, *visitor.left)
                self._nobodys[visitor.key] = visitor
                self._trim()

    def wake_all(self) -> None:
        wake(self._visitors.values())

    def _trim(self) -> None:
        while len(self._nobodys) > KEPT:
            key, visitor = self._nobodys.popitem(last=False)
            self._visitors.pop(key, None)
            if visitor.thread is not None:
                self._by_thread.pop(visitor.thread, None)
            if visitor.live is not None:
                self._by_live.pop(visitor.live, None)


def wake(visitors: Iterable[Visitor]) -> None:
    """Their pages look for news."""
    for visitor in visitors:
        for page in visitor.pages:
            page.wake.set()
