"""What the pages of visitors are shown: the stored messages of their thread, and how things stand with them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from math import ceil, floor
from typing import Any, Protocol
from uuid import UUID, uuid4

from routing import hours
from routing import models as m
from routing.aio.visitors_known import Frame, Known, Page, Visitor
from routing.channel import Channel
from routing.projection import InteractionRow
from routing.site import Account, Queue, Site
from routing.store import Messages, MessageView

ROWS = 100
KEPT = 10_000

ON_ITS_WAY = frozenset({"queued", "sending"})
NEVER_SHOWN = frozenset({"failed", "dropped"})
WAITS = frozenset({m.State.WAITING, m.State.OFFERED})


class Desk(Protocol):
    @property
    def healthy(self) -> bool: ...

    def interaction(self, interaction: UUID) -> InteractionRow | None: ...

    def place(self, interaction: UUID) -> int | None: ...

    def estimate(self, interaction: UUID) -> tuple[float, float] | None: ...

    def advisor_state(self, advisor: str) -> str | None: ...


class Shown:
    """Messages in the order of their `seq`, each once a page; one on its way out holds back those behind it."""

    def __init__(
        self,
        *,
        site: Callable[[], Site],
        channels: Mapping[str, Channel],
        desk: Desk,
        messages: Messages,
        known: Known,
        link: Callable[[UUID], str],
        clock: m.Clock,
    ) -> None:
        """`link`: the address of an attachment for a while."""
        self._site, self._channels, self._desk, self._messages = site, channels, desk, messages
        self._known, self._link, self._clock = known, link, clock
        self._pushed: OrderedDict[UUID, None] = OrderedDict()

    def sent(self, message: UUID) -> None:
        """The Courier has it in hand: it may be shown, whatever its row says."""
        self._pushed[message] = None
        while len(self._pushed) > KEPT:
            self._pushed.popitem(last=False)

    async def news(self, page: Page) -> list[Frame]:
        """The stored messages that the page has not been shown yet, at most ROWS, and what else waits for it."""
        visitor = page.visitor
        if visitor.thread is None:
            await self._known.thread(visitor)
        frames: list[Frame] = []
        page.blocked = False
        if visitor.thread is not None:
            rows = await self._messages.of_thread(visitor.thread, page.after, limit=ROWS)
            for row in rows:
                if row.direction == "out" and row.status in ON_ITS_WAY and row.id not in self._pushed:
                    page.blocked = True
                    break
                page.after = row.seq
                if not (row.status in NEVER_SHOWN or row.standby or row.unsent):
                    frames.append(self._message(row))
            if len(rows) == ROWS and not page.blocked:
                page.wake.set()
        frames += page.loose
        page.loose.clear()
        if (state := self.state(visitor)) != page.state:
            page.state = state
            frames.append(self.loose("state", state))
        return frames

    def welcome(self, visitor: Visitor) -> Frame:
        account = visitor.account
        return self.loose(
            "welcome",
            {
                "token": self._known.token(account.id, visitor.id),
                "email": account.settings.get("email", ""),
                "bot": account.bot_name if account.tree else "",
                "reachable": "email" in visitor.said,
                **self.state(visitor),
            },
        )

    def state(self, visitor: Visitor) -> Frame:
        """Whether somebody is there, whether something goes on, and how long they still wait.

        `queue_position` where the queue tells places, never a worse one than was told (Q9); `wait_estimate` in
        whole minutes, as [shortest, longest] seconds; each null where it is not known or not told.
        """
        if not self._desk.healthy:
            return visitor.state or {"open": False, "live": visitor.live is not None}
        data: Frame = {"open": self._open(visitor.account), "live": visitor.live is not None}
        row = self._desk.interaction(visitor.live) if visitor.live is not None else None
        if row is not None and row.state in WAITS:
            data |= {"waiting": True, **self._waits(visitor, row)}
        else:
            visitor.place = None
        visitor.state = data
        return data

    def _waits(self, visitor: Visitor, row: InteractionRow) -> Frame:
        before = visitor.state or {}
        if row.state != m.State.WAITING:  # somebody is just asked to take it
            return {name: before.get(name) for name in ("queue_position", "wait_estimate")}
        place, wait = self._desk.place(row.id), self._desk.estimate(row.id)
        queue = self._queue(row.queue)
        if place is None or queue is None or not queue.announce_place:
            visitor.place = None
        else:
            visitor.place = min(place, visitor.place or place)
        minutes = None if wait is None else [60 * floor(wait[0] / 60), 60 * ceil(wait[1] / 60)]
        return {"queue_position": visitor.place, "wait_estimate": minutes}

    def moved(self, visitor: Visitor, event: m.Event) -> None:
        """Something has become of what goes on with them."""
        frame: Frame | None = None
        match event.type:
            case m.T.ENQUEUED:
                visitor.place = None  # another stay
                stands = self.state(visitor)
                told: Frame = {name: stands.get(name) for name in ("queue_position", "wait_estimate")}
                frame = self.loose("transfer", {"to": "queue", **told})
            case m.T.ACCEPTED | m.T.ASSIGNED:
                name = self._first_name(event.advisor or "")
                frame = self.loose("transfer", {"to": "advisor", "name": name})
            case m.T.ENDED | m.T.ABANDONED | m.T.INTERRUPTED:
                left = event.type is m.T.ABANDONED or event.data.get("outcome") == "left"
                frame = self.loose("ended", {"by": "visitor" if left else "us"})
        for page in visitor.pages:
            if frame is not None:
                page.give(frame)
            page.wake.set()

    def _message(self, row: MessageView) -> Frame:
        if row.direction == "in":
            author = {"kind": "system" if row.kind == "system" else "visitor", "name": ""}
        elif row.author == "bot":
            account = self._site().account(row.account)
            author = {"kind": "bot", "name": account.bot_name if account is not None else ""}
        else:
            kind = "system" if row.author == "system" else "advisor"
            author = {"kind": kind, "name": self._first_name(row.by) if row.by else ""}
        data: Frame = {"text": row.text, "author": author}
        if row.direction == "in" and row.external_id:
            data["client_id"] = row.external_id.partition(":")[2]
        if row.extra.get("left"):
            data["left"] = True
        if row.buttons:
            data["buttons"] = [{"title": title, "payload": payload} for title, payload in row.buttons]
        if row.attachments:
            data["attachments"] = [
                {"name": file.name or file.kind, "type": file.type, "bytes": file.bytes, "url": self._link(file.id)}
                for file in row.attachments
            ]  # fmt: skip
        return {
            "seq": row.seq,
            "id": str(row.id),
            "type": "message",
            "time": row.at.isoformat(),
            "subject": str(row.thread),
            "data": data,
        }

    def loose(self, type: str, data: Mapping[str, Any]) -> Frame:
        return loose(self._clock.now(), type, data)

    def _open(self, account: Account) -> bool:
        """Within the hours that the account, or its queue, names; and somebody is there for such seats."""
        site = self._site()
        queue = self._queue(account.queue)
        named = account.settings.get("hours") or (queue.hours if queue is not None else None)
        rules = next((each for each in site.hours if each.id == named), None)
        if rules is not None and not hours.is_open(rules, site.time_zone, self._clock.unix()):
            return False
        seat = self._channels[account.channel].MANIFEST.seat
        return any(
            advisor.seats.get(seat) and self._desk.advisor_state(advisor.id) not in (None, "offline")
            for advisor in site.advisors
        )

    def _queue(self, id: str | None) -> Queue | None:
        return next((each for each in self._site().queues if each.id == id), None)

    def _first_name(self, login: str) -> str:
        return next((each.first_name for each in self._site().advisors if each.id == login), "")


def loose(at: datetime, type: str, data: Mapping[str, Any]) -> Frame:
    """A frame that is not stored: it has no place in the order."""
    return {
        "seq": None,
        "id": str(uuid4()),
        "type": type,
        "time": at.isoformat(),
        "subject": None,
        "data": dict(data),
    }
