"""What visitors say: each frame is looked at, handed on to be stored, and only then acknowledged."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from routing import models as m
from routing.aio.visitors_door import Door, Refusal, now
from routing.aio.visitors_files import Uploads
from routing.aio.visitors_known import Frame, Known, Visitor
from routing.aio.visitors_shown import ROWS, loose
from routing.channel import Channel, Peer
from routing.store import Messages, Unavailable

TEXT_CHARS = 4_000
CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
EMAIL = re.compile(r"[^\s@<>]+@[^\s@<>]+\.[^\s@<>]+")
FIELDS = {"name": 100, "email": 254, "phone": 40, "case": 40}
ACCEPTED = 200  # client ids remembered of one visitor

FRAMES_IN = Counter(
    "monofil_visitor_frames_total", "What visitors sent, by what became of it", ["type", "result"]
)

Take = Callable[[str, bytes, Mapping[str, str]], Awaitable[UUID]]
Typing = Callable[[str, Peer, bool], None]


class Said:
    """`take` stores a raw body (account, body, facts of its request); `typed` shows that they type."""

    def __init__(
        self,
        *,
        channels: Mapping[str, Channel],
        messages: Messages,
        known: Known,
        door: Door,
        uploads: Uploads,
        take: Take,
        typed: Typing,
        clock: m.Clock,
    ) -> None:
        self._channels, self._messages, self._known, self._door = channels, messages, known, door
        self._uploads, self._take, self._typed, self._clock = uploads, take, typed, clock

    @staticmethod
    def introduced(visitor: Visitor, frame: Mapping[str, Any]) -> None:
        """What a hello says of them."""
        said = frame.get("fields")
        fields = said if isinstance(said, dict) else {}
        for name, most in FIELDS.items():
            if isinstance(fields.get(name), str) and fields[name].strip():
                visitor.said[name] = fields[name].strip()[:most]
        for name, most in (("lang", 5), ("page_url", 1000), ("referrer", 1000)):
            if isinstance(frame.get(name), str):
                visitor.said[name] = frame[name][:most]

    async def take(self, visitor: Visitor, frame: Any, facts: Mapping[str, str]) -> Frame | None:
        """Takes one frame; what the page is told of it, None: nothing. Raises Unavailable."""
        said = frame if isinstance(frame, dict) else {}
        kind = said.get("type") if isinstance(said.get("type"), str) else ""
        id = said.get("client_id") if isinstance(said.get("client_id"), str) else None
        at = self._clock.now()
        try:
            if not visitor.pace.allow(now()):
                visitor.refused += 1
                raise Refusal("slow_down", 2.0)
            visitor.refused = 0
            done = await self._frame(visitor, kind or "", said, facts)
            FRAMES_IN.labels(kind if done is not None else "event", "taken").inc()
            return loose(at, *done) if done is not None else None
        except Refusal as refusal:
            FRAMES_IN.labels("", refusal.code).inc()
            data: Frame = {"code": refusal.code}
            if refusal.retry_after is not None:
                data["retry_after"] = refusal.retry_after
            if id is not None:
                data["client_id"] = id[:64]
            return loose(at, "error", data)

    async def _frame(
        self, visitor: Visitor, kind: str, said: Mapping[str, Any], facts: Mapping[str, str]
    ) -> tuple[str, Frame] | None:
        """(type, data) of the answer."""
        manifest = self._channels[visitor.account.channel].MANIFEST
        match kind:
            case "typing":
                self._typed(
                    visitor.account.id, Peer(manifest.address_kind, visitor.id), said.get("on") is True
                )
                return None
            case "read" | "delivered":
                await self._mark(visitor, kind, said.get("seq"), facts)
                return None
            case "message":
                told: Frame = {"type": kind, "text": _words(said.get("text"), TEXT_CHARS)}
                if isinstance(said.get("payload"), str) and said["payload"]:
                    told["payload"] = _words(said["payload"], 1000)
                if isinstance(said.get("email"), str) and said["email"].strip():
                    visitor.said["email"] = _email(said["email"])
            case "call_me":
                told = {"type": kind, "phone": _words(said.get("phone"), FIELDS["phone"])}
                if sum(sign.isdigit() for sign in told["phone"]) < 5:
                    raise Refusal("phone")
            case "attachment":
                told = {"type": kind, "file": self._uploads.attached(visitor.key, said.get("upload_id"))}
            case "end":
                told = {"type": kind}
                if visitor.live is None:
                    return "ended", {"by": "visitor"}
            case _:
                raise Refusal("unknown_type")
        id = said.get("client_id")
        if not isinstance(id, str) or not CLIENT_ID.fullmatch(id):
            raise Refusal("client_id")
        if id not in visitor.accepted:
            newcomers = self._door.newcomers(visitor.address)
            if visitor.thread is None and not visitor.wrote and not newcomers.allow(now()):
                raise Refusal("slow_down", 5.0)
            visitor.wrote = True  # before it is: its thread may be opened at once
            await self._taken(visitor, [{**told, "client_id": id}], facts)
            if kind == "attachment":
                self._uploads.drop(str(said.get("upload_id")))
            visitor.accepted[id] = None
            if len(visitor.accepted) > ACCEPTED:
                visitor.accepted.popitem(last=False)
        return "status", {"client_id": id, "state": "received"}

    async def _taken(self, visitor: Visitor, frames: list[Frame], facts: Mapping[str, str]) -> None:
        at = int(self._clock.unix() * 1000)
        body = {"visitor": {**visitor.said, "id": visitor.id}, "at": at, "frames": frames}
        try:
            await self._take(visitor.account.id, json.dumps(body).encode(), facts)
        except Unavailable:
            raise Refusal("unavailable", 2.0) from None

    async def _mark(self, visitor: Visitor, kind: str, seq: Any, facts: Mapping[str, str]) -> None:
        """Our messages up to `seq` are there, or read. One that was perhaps sent is thereby known to be shown."""
        if not isinstance(seq, int) or isinstance(seq, bool) or not 0 < seq < 1 << 62:
            raise Refusal("seq")
        if visitor.thread is None and await self._known.thread(visitor) is None:
            return
        assert visitor.thread is not None
        since, news = visitor.marked.get(kind, 0), m.STATUS_RANK[kind]
        found = await self._messages.of_thread(visitor.thread, since, limit=10 * ROWS)
        rows = [row for row in found if row.seq <= seq]
        ours = [row for row in rows if row.direction == "out" and m.STATUS_RANK.get(row.status, news) < news]
        if ours:
            frames: list[Frame] = [
                {"type": "shown", "id": str(row.id)} for row in ours if row.status == "perhaps"
            ]
            ids = [row.external_id or str(row.id) for row in ours]
            await self._taken(visitor, [*frames, {"type": kind, "ids": ids}], facts)
        visitor.marked[kind] = max([since, *(row.seq for row in rows)])


def _words(said: Any, most: int) -> str:
    text = said.strip() if isinstance(said, str) else ""
    if not text:
        raise Refusal("empty")
    if len(text) > most:
        raise Refusal("too_long")
    return text


def _email(said: str) -> str:
    if len(said) > FIELDS["email"] or not EMAIL.fullmatch(said.strip()):
        raise Refusal("email")
    return said.strip()
