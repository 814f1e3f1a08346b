"""The visitors of web pages: their sockets and long polls, to whom what is stored is shown.

`/chat/{account}` is a WebSocket, or POST (frames) and GET (a long poll of 25 s); `/chat/{account}/files` takes a file.
What a visitor says goes the way of a webhook (`take`) and is acknowledged once it is stored. What a page is shown are
the stored messages of its thread in the order of their `seq`, each once a connection: a page that comes back names the
last `seq` it has seen. One that is still on its way out holds back those behind it, so nothing appears before it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import hmac
import json
import os
import re
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from uuid import UUID, uuid4

import structlog
from aiohttp import WSCloseCode, WSMsgType, hdrs, web
from prometheus_client import Counter, Gauge
from pydantic_core import from_json

from routing import channel as c
from routing import hours, sniff
from routing import models as m
from routing.pace import Pace
from routing.site import Account, Site
from routing.store import Messages, MessageView, ThreadView, Unavailable

SCRIPT = "widget.js"  # an account cannot be called so: its id has no dot
TEXT_CHARS = 4_000
FRAME_BYTES = 64 << 10
FRAMES = 50  # in one POST
CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
FIELDS = {"name": 100, "email": 254, "phone": 40, "case": 40}
UPLOAD_BYTES = 64 << 20  # of all files that are not attached yet
UPLOAD_S = 600.0
READ_S = 30.0
HELLO_S = 10.0
POLL_S = 25.0
SEND_S = 10.0  # a page that takes nothing for so long is closed; it comes back where it was
HEARTBEAT_S = 25.0
LOOSE = 100  # frames that are not stored and wait to be sent to one page
ROWS = 100
LOOK_S = 15.0
SOON_S = 0.5  # a page looks again for what holds back what is behind it
PAGES = 5_000
PAGES_EACH = 8  # of one visitor
PAGES_ADDRESS = 60  # from one address
RATE, BURST = 1.0, 20.0  # frames of one visitor a second
ADDRESS_RATE, ADDRESS_BURST = 20.0, 200.0  # connections and frames of one IP address
NEW_RATE, NEW_BURST = 0.2, 30.0  # visitors of one address who write for the first time, a second
REFUSED = 40  # frames in a row above the rate, then the page is closed
KEPT = 10_000
ACCEPTED = 200  # client ids remembered of one visitor

TYPES: Mapping[str, str] = {
    "image/png": "image", "image/jpeg": "image", "image/gif": "image", "image/webp": "image",
    "audio/ogg": "audio", "audio/mpeg": "audio", "audio/mp4": "audio", "audio/webm": "audio",
    "application/pdf": "file", "text/plain": "file", "text/csv": "file",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "file",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "file",
    "application/vnd.oasis.opendocument.text": "file", "application/vnd.oasis.opendocument.spreadsheet": "file",
}  # fmt: skip
"""What may be attached, by what its bytes show, and the kind it then is."""

ON_ITS_WAY = frozenset({"queued", "sending"})
NEVER_SHOWN = frozenset({"failed", "dropped"})

OPEN = Gauge("monofil_visitor_pages", "Pages of visitors that are connected", ["account"])
FRAMES_IN = Counter(
    "monofil_visitor_frames_total", "What visitors sent, by what became of it", ["type", "result"]
)
REFUSALS = Counter("monofil_visitor_refusals_total", "Connections of visitors refused or ended", ["why"])

Take = Callable[[str, bytes, Mapping[str, str]], Awaitable[UUID]]
Typing = Callable[[str, c.Peer, bool], None]
Frame = dict[str, Any]
log = structlog.get_logger(__name__)


class Desk(Protocol):
    def subscribe(self, hear: Callable[[m.Event], None]) -> Callable[[], None]: ...

    def place(self, interaction: UUID) -> int | None: ...

    def advisor_state(self, advisor: str) -> str | None: ...


@dataclass(slots=True)
class _Page:
    """One connection. `after`: the last stored message that it has been shown."""

    visitor: _Visitor
    after: int
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
class _Visitor:
    account: Account
    id: str
    pages: list[_Page] = field(default_factory=list)
    thread: UUID | None = None
    live: UUID | None = None
    wrote: bool = False
    address: str = ""
    said: dict[str, str] = field(default_factory=dict)  # of themselves, not proved
    marked: dict[str, int] = field(default_factory=dict)  # read and delivered: up to which seq
    accepted: OrderedDict[str, None] = field(default_factory=OrderedDict)
    pace: Pace = field(default_factory=lambda: Pace(RATE, BURST))
    refused: int = 0

    @property
    def key(self) -> tuple[str, str]:
        return self.account.id, self.id


@dataclass(slots=True)
class _Upload:
    visitor: tuple[str, str]
    name: str
    type: str
    kind: str
    content: bytes
    until: float


class Refusal(Exception):
    """A frame that is not taken: `code` for the page, and when to try again."""

    def __init__(self, code: str, retry_after: float | None = None) -> None:
        super().__init__(code)
        self.code, self.retry_after = code, retry_after


class Visitors:
    """`async with Visitors(…) as visitors`; `serve` is its handler, `push` the Courier's."""

    def __init__(
        self,
        *,
        site: Callable[[], Site],
        channels: Mapping[str, c.Channel],
        desk: Desk,
        messages: Messages,
        take: Take,
        typed: Typing,
        link: Callable[[UUID], str],
        key: bytes,
        clock: m.Clock,
        widget: Path,
        source: Callable[[web.Request], str] = lambda request: request.remote or "",
        send_s: float = SEND_S,
        poll_s: float = POLL_S,
    ) -> None:
        """`key` proves the tokens of visitors; `widget` is the built script; `source` who a request comes from."""
        assert len(key) >= 16, "a key that can be guessed proves nothing"
        self._site, self._channels, self._desk, self._messages = site, channels, desk, messages
        self._take_raw, self._typed, self._link, self._key, self._clock = take, typed, link, key, clock
        self._source, self._send_s, self._poll_s = source, send_s, poll_s
        self._widget = widget
        self._visitors: dict[tuple[str, str], _Visitor] = {}
        self._by_thread: dict[UUID, _Visitor] = {}
        self._by_live: dict[UUID, _Visitor] = {}
        self._nobodys: OrderedDict[tuple[str, str], _Visitor] = OrderedDict()  # without an open page
        self._pushed: OrderedDict[UUID, None] = OrderedDict()
        self._uploads: OrderedDict[str, _Upload] = OrderedDict()
        self._uploaded_bytes = 0
        self._paces: OrderedDict[str, Pace] = OrderedDict()
        self._pages = 0
        self._of_address: dict[str, int] = {}
        self._sockets: set[web.WebSocketResponse] = set()
        self._unsubscribe: Callable[[], None] | None = None
        self._closing = False

    async def __aenter__(self) -> Visitors:
        self._unsubscribe = self._desk.subscribe(self._hear)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        if self._unsubscribe is not None:
            self._unsubscribe()
        for visitor in self._visitors.values():
            for page in visitor.pages:
                page.wake.set()
        ends = (each.close(code=WSCloseCode.GOING_AWAY) for each in list(self._sockets))
        await asyncio.gather(*ends, return_exceptions=True)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """A plain aiohttp handler of `/chat/{account}` and `/chat/{account}/{what}`, for every method."""
        if request.match_info["account"] == SCRIPT:
            return await self._script(request)
        match request.match_info.get("what"):
            case None:
                return await self._answer(request)
            case "files":
                return await self._upload(request)
        raise web.HTTPNotFound

    async def push(self, account: Account, call: c.PushCall) -> c.Reply:
        """What the Courier does with a PushCall. A message is shown from its row; all else goes as it is."""
        visitor = self._visitors.get((account.id, call.to))
        if call.frame.get("type") == "message":
            self._pushed[UUID(str(call.frame["id"]))] = None
            while len(self._pushed) > KEPT:
                self._pushed.popitem(last=False)
        if visitor is None or not visitor.pages:
            return c.Reply(404)
        for page in visitor.pages:
            if call.frame.get("type") == "message":
                page.wake.set()
            else:
                page.give(self._loose(str(call.frame["type"]), call.frame.get("data") or {}))
        return c.Reply(200)

    def _hear(self, event: m.Event) -> None:
        match event.type:
            case m.T.THREAD_OPENED:
                self._wake(v for v in self._visitors.values() if v.wrote and v.thread is None)
            case m.T.MESSAGE_RECEIVED | m.T.MESSAGE_WRITTEN:
                visitor = self._by_thread.get(UUID(str(event.data["thread"])))
                if visitor is not None:
                    self._lives(visitor, event.interaction)
                    self._wake((visitor,))
            case m.T.MESSAGE_STATUS:
                visitor = self._by_live.get(event.interaction) if event.interaction else None
                if visitor is not None and any(page.blocked for page in visitor.pages):
                    self._wake((visitor,))
            case m.T.ENQUEUED | m.T.ACCEPTED | m.T.ASSIGNED | m.T.ENDED | m.T.ABANDONED | m.T.INTERRUPTED:
                visitor = self._by_live.get(event.interaction) if event.interaction else None
                if visitor is not None:
                    self._moved(visitor, event)

    def _moved(self, visitor: _Visitor, event: m.Event) -> None:
        assert event.interaction is not None
        if event.type is m.T.ENQUEUED:
            data: Frame = {"to": "queue", "queue_position": self._desk.place(event.interaction)}
            frame = self._loose("transfer", data)
        elif event.type in (m.T.ACCEPTED, m.T.ASSIGNED):
            frame = self._loose("transfer", {"to": "advisor", "name": self._first_name(event.advisor or "")})
        else:
            frame = self._loose("ended", {})
        for page in visitor.pages:
            page.give(frame)

    def _wake(self, visitors: Any) -> None:
        for visitor in visitors:
            for page in visitor.pages:
                page.wake.set()

    def _lives(self, visitor: _Visitor, interaction: UUID | None) -> None:
        if visitor.live == interaction:
            return
        if visitor.live is not None:
            self._by_live.pop(visitor.live, None)
        visitor.live = interaction
        if interaction is not None:
            self._by_live[interaction] = visitor

    async def _script(self, request: web.Request) -> web.StreamResponse:
        """The widget. It is public and says nothing of anybody: any page may load it, few may then connect."""
        try:
            body = await asyncio.to_thread(self._widget.read_bytes)
        except OSError:
            raise web.HTTPNotFound from None
        etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
        headers = {
            hdrs.ETAG: etag,
            hdrs.CACHE_CONTROL: "public, max-age=300",
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
        if etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return web.Response(status=304, headers=headers)
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            body = gzip.compress(body, 9, mtime=0)
        return web.Response(body=body, content_type="text/javascript", charset="utf-8", headers=headers)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """A socket, a long poll, or frames in a POST; of allowed origins only."""
        account, headers = self._admit(request)
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers=headers)
        if request.method == hdrs.METH_POST:
            return await self._posted(request, account, headers)
        if request.method != hdrs.METH_GET:
            return web.Response(status=405, headers={**headers, hdrs.ALLOW: "GET, POST, OPTIONS"})
        try:
            after = max(0, int(request.query.get("after", "0")))
            assert after < 1 << 62
        except (ValueError, AssertionError):
            return web.Response(status=400, headers=headers)
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await self._socket(request, account, after)
        return await self._polled(request, account, after, headers)

    def _admit(self, request: web.Request) -> tuple[Account, dict[str, str]]:
        """The account and the headers that let the page read the answer. Raises what is answered otherwise."""
        id = request.match_info["account"]
        account = next((a for a in self._site().accounts if a.id == id), None)
        channel = self._channels.get(account.channel) if account is not None else None
        if account is None or channel is None or not channel.MANIFEST.visitors:
            raise web.HTTPNotFound
        origin = request.headers.get(hdrs.ORIGIN, "").rstrip("/").lower()
        if origin not in origins(account):
            REFUSALS.labels("origin").inc()
            log.warning("a page of another site asked", account=account.id, origin=origin[:200])
            raise web.HTTPForbidden
        if self._closing:
            raise web.HTTPServiceUnavailable
        if not self._pace(self._source(request)).allow(_now()):
            REFUSALS.labels("address").inc()
            raise web.HTTPTooManyRequests
        return account, {
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: request.headers[hdrs.ORIGIN],
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST",
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "authorization, content-type",
            hdrs.ACCESS_CONTROL_MAX_AGE: "600",
            hdrs.VARY: hdrs.ORIGIN,
            hdrs.CACHE_CONTROL: "no-store",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }

    def _pace(self, address: str, rate: float = ADDRESS_RATE, burst: float = ADDRESS_BURST) -> Pace:
        pace = self._paces.get(address)
        if pace is None:
            pace = self._paces[address] = Pace(rate, burst)
            if len(self._paces) > KEPT:
                self._paces.popitem(last=False)
        self._paces.move_to_end(address)
        return pace

    def token(self, account: str, visitor: str) -> str:
        """Names a visitor of an account; nothing of it needs to be kept."""
        proof = hmac.new(self._key, f"visitor {account} {visitor}".encode(), hashlib.sha256).hexdigest()[:40]
        return f"{visitor}.{proof}"

    def _known(self, account: Account, token: Any) -> _Visitor | None:
        id, _, _ = token.partition(".") if isinstance(token, str) else ("", "", "")
        if not re.fullmatch(r"[0-9a-f]{24}", id):
            return None
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.token(account.id, id).encode()):
            return None
        key = (account.id, id)
        visitor = self._visitors.get(key)
        if visitor is None:
            visitor = self._visitors[key] = self._nobodys[key] = _Visitor(account, id)
            while len(self._nobodys) > KEPT:
                self._forget(next(iter(self._nobodys.values())))
        visitor.account = account
        return visitor

    def _bearer(self, request: web.Request, account: Account) -> _Visitor | None:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        return self._known(account, token.strip()) if scheme.lower() == "bearer" else None

    def _forget(self, visitor: _Visitor) -> None:
        self._nobodys.pop(visitor.key, None)
        self._visitors.pop(visitor.key, None)
        if visitor.thread is not None:
            self._by_thread.pop(visitor.thread, None)
        self._lives(visitor, None)

    async def _hello(self, account: Account, frame: Mapping[str, Any]) -> tuple[_Visitor, Frame]:
        """The visitor of a token of ours, or a new one."""
        visitor = self._known(account, frame.get("token"))
        if visitor is None:
            visitor = self._known(account, self.token(account.id, os.urandom(12).hex()))
            assert visitor is not None
        said = frame.get("fields")
        fields = said if isinstance(said, dict) else {}
        for name, most in FIELDS.items():
            if isinstance(fields.get(name), str) and fields[name].strip():
                visitor.said[name] = fields[name].strip()[:most]
        for name, most in (("lang", 5), ("page_url", 1000), ("referrer", 1000)):
            if isinstance(frame.get(name), str):
                visitor.said[name] = frame[name][:most]
        await self._thread(visitor)
        return visitor, self._welcome(visitor)

    async def _thread(self, visitor: _Visitor) -> ThreadView | None:
        manifest = self._channels[visitor.account.channel].MANIFEST
        thread = await self._messages.thread_with(visitor.account.id, manifest.address_kind, visitor.id)
        if thread is not None:
            visitor.thread = thread.id
            self._by_thread[thread.id] = visitor
            self._lives(visitor, thread.live)
        return thread

    def _welcome(self, visitor: _Visitor) -> Frame:
        account = visitor.account
        data: Frame = {
            "token": self.token(account.id, visitor.id),
            "open": self._open(account),
            "email": account.settings.get("email", ""),
            "bot": account.bot_name if account.tree else "",
            "live": visitor.live is not None,
        }
        if visitor.live is not None and (place := self._desk.place(visitor.live)) is not None:
            data["queue_position"] = place
        return self._loose("welcome", data)

    def _open(self, account: Account) -> bool:
        """Within the hours that the account, or its queue, names; and somebody is there for such seats."""
        site = self._site()
        queue = next((each for each in site.queues if each.id == account.queue), None)
        named = account.settings.get("hours") or (queue.hours if queue is not None else None)
        rules = next((each for each in site.hours if each.id == named), None)
        if rules is not None and not hours.is_open(rules, site.time_zone, self._clock.unix()):
            return False
        seat = self._channels[account.channel].MANIFEST.seat
        return any(
            advisor.seats.get(seat) and self._desk.advisor_state(advisor.id) not in (None, "offline")
            for advisor in site.advisors
        )

    def _first_name(self, login: str) -> str:
        return next((each.first_name for each in self._site().advisors if each.id == login), "")

    async def _said(self, visitor: _Visitor, frame: Any, facts: Mapping[str, str]) -> Frame | None:
        """Takes one frame; what the page is told of it, None: nothing."""
        said = frame if isinstance(frame, dict) else {}
        kind = said.get("type") if isinstance(said.get("type"), str) else ""
        id = said.get("client_id") if isinstance(said.get("client_id"), str) else None
        try:
            if not visitor.pace.allow(_now()):
                visitor.refused += 1
                raise Refusal("slow_down", 2.0)
            visitor.refused = 0
            done = await self._frame(visitor, kind or "", said, facts)
            FRAMES_IN.labels(kind if done is not None else "event", "taken").inc()
            return done
        except Refusal as refusal:
            FRAMES_IN.labels("", refusal.code).inc()
            data: Frame = {"code": refusal.code}
            if refusal.retry_after is not None:
                data["retry_after"] = refusal.retry_after
            if id is not None:
                data["client_id"] = id[:64]
            return self._loose("error", data)

    async def _frame(
        self, visitor: _Visitor, kind: str, said: Mapping[str, Any], facts: Mapping[str, str]
    ) -> Frame | None:
        manifest = self._channels[visitor.account.channel].MANIFEST
        match kind:
            case "typing":
                self._typed(
                    visitor.account.id, c.Peer(manifest.address_kind, visitor.id), said.get("on") is True
                )
                return None
            case "read" | "delivered":
                await self._mark(visitor, kind, said.get("seq"), facts)
                return None
            case "message":
                told: Frame = {"type": kind, "text": _words(said.get("text"), TEXT_CHARS)}
                if isinstance(said.get("payload"), str) and said["payload"]:
                    told["payload"] = _words(said["payload"], 1000)
            case "call_me":
                told = {"type": kind, "phone": _words(said.get("phone"), FIELDS["phone"])}
                if sum(sign.isdigit() for sign in told["phone"]) < 5:
                    raise Refusal("phone")
            case "attachment":
                told = {"type": kind, "file": self._attached(visitor, said.get("upload_id"))}
            case "end":
                told = {"type": kind}
                if visitor.live is None:
                    return self._loose("ended", {})
            case _:
                raise Refusal("unknown_type")
        id = said.get("client_id")
        if not isinstance(id, str) or not CLIENT_ID.fullmatch(id):
            raise Refusal("client_id")
        if id not in visitor.accepted:
            newcomers = self._pace(f"new {visitor.address}", NEW_RATE, NEW_BURST)
            if visitor.thread is None and not visitor.wrote and not newcomers.allow(_now()):
                raise Refusal("slow_down", 5.0)
            visitor.wrote = True  # before it is: its thread may be opened at once
            await self._taken(visitor, [{**told, "client_id": id}], facts)
            if kind == "attachment":
                self._drop(str(said.get("upload_id")))
            visitor.accepted[id] = None
            if len(visitor.accepted) > ACCEPTED:
                visitor.accepted.popitem(last=False)
        return self._loose("status", {"client_id": id, "state": "received"})

    async def _taken(self, visitor: _Visitor, frames: list[Frame], facts: Mapping[str, str]) -> None:
        at = int(self._clock.unix() * 1000)
        body = {"visitor": {**visitor.said, "id": visitor.id}, "at": at, "frames": frames}
        try:
            await self._take_raw(visitor.account.id, json.dumps(body).encode(), facts)
        except Unavailable:
            raise Refusal("unavailable", 2.0) from None

    async def _mark(self, visitor: _Visitor, kind: str, seq: Any, facts: Mapping[str, str]) -> None:
        """Our messages up to `seq` are there, or read. One that was perhaps sent is thereby known to be shown."""
        if not isinstance(seq, int) or isinstance(seq, bool) or not 0 < seq < 1 << 62:
            raise Refusal("seq")
        if visitor.thread is None and await self._thread(visitor) is None:
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

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        """POST of a file's bytes with `?name=`; its `upload_id` is good for one `attachment` within ten minutes."""
        account, headers = self._admit(request)
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers=headers)
        if request.method != hdrs.METH_POST:
            return web.Response(status=405, headers={**headers, hdrs.ALLOW: "POST, OPTIONS"})
        visitor = self._bearer(request, account)
        if visitor is None:
            return _problem(401, "token", headers)
        if not visitor.pace.allow(_now(), 2.0):
            return _problem(429, "slow_down", {**headers, hdrs.RETRY_AFTER: "2"})
        limits = self._channels[account.channel].MANIFEST.attachment_bytes
        most = max(limits.values(), default=0)
        content = bytearray()
        try:
            if (request.content_length or 0) > most:
                return _problem(413, "too_large", headers)
            async with asyncio.timeout(READ_S):
                async for chunk in request.content.iter_any():
                    content += chunk
                    if len(content) > most:
                        return _problem(413, "too_large", headers)
        except TimeoutError:
            return _problem(408, "slow", headers)
        type = sniff.looks(bytes(content), request.content_type)
        kind = TYPES.get(type, "")
        if not content or kind not in limits:
            return _problem(415, "type", headers)
        if len(content) > limits[kind]:
            return _problem(413, "too_large", headers)
        self._clear_uploads()
        if self._uploaded_bytes + len(content) > UPLOAD_BYTES:
            return _problem(503, "unavailable", {**headers, hdrs.RETRY_AFTER: "5"})
        id = str(uuid4())
        name = _file_name(request.query.get("name", ""))
        self._uploads[id] = _Upload(visitor.key, name, type, kind, bytes(content), _now() + UPLOAD_S)
        self._uploaded_bytes += len(content)
        shown = {"upload_id": id, "name": name, "type": type, "bytes": len(content)}
        return web.json_response(shown, headers=headers)

    def _attached(self, visitor: _Visitor, id: Any) -> Frame:
        self._clear_uploads()
        upload = self._uploads.get(id) if isinstance(id, str) else None
        if upload is None or upload.visitor != visitor.key:
            raise Refusal("unknown_upload")
        content = base64.b64encode(upload.content).decode()
        return {"name": upload.name, "type": upload.type, "kind": upload.kind, "content": content}

    def _drop(self, id: str) -> None:
        upload = self._uploads.pop(id, None)
        if upload is not None:
            self._uploaded_bytes -= len(upload.content)

    def _clear_uploads(self) -> None:
        while self._uploads and next(iter(self._uploads.values())).until < _now():
            self._drop(next(iter(self._uploads)))

    async def _news(self, page: _Page) -> list[Frame]:
        """The stored messages that the page has not been shown yet, at most ROWS, and what else waits for it."""
        visitor = page.visitor
        if visitor.thread is None:
            await self._thread(visitor)
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
                    frames.append(self._shown(row))
            if len(rows) == ROWS and not page.blocked:
                page.wake.set()
        frames += page.loose
        page.loose.clear()
        return frames

    def _shown(self, row: MessageView) -> Frame:
        if row.direction == "in":
            author = {"kind": "system" if row.kind == "system" else "visitor", "name": ""}
        elif row.author == "bot":
            account = next((each for each in self._site().accounts if each.id == row.account), None)
            author = {"kind": "bot", "name": account.bot_name if account is not None else ""}
        else:
            kind = "system" if row.author == "system" else "advisor"
            author = {"kind": kind, "name": self._first_name(row.by) if row.by else ""}
        data: Frame = {"text": row.text, "author": author}
        if row.direction == "in" and row.external_id:
            data["client_id"] = row.external_id.partition(":")[2]
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

    def _loose(self, type: str, data: Mapping[str, Any]) -> Frame:
        """A frame that is not stored: it has no place in the order."""
        at = self._clock.now().isoformat()
        return {
            "seq": None,
            "id": str(uuid4()),
            "type": type,
            "time": at,
            "subject": None,
            "data": dict(data),
        }

    @contextlib.contextmanager
    def _opened(self, visitor: _Visitor, after: int) -> Any:
        page = _Page(visitor, after)
        if len(visitor.pages) >= PAGES_EACH:
            visitor.pages[0].slow = True  # the oldest gives way
            visitor.pages[0].wake.set()
        visitor.pages.append(page)
        self._nobodys.pop(visitor.key, None)
        self._visitors[visitor.key] = visitor
        OPEN.labels(visitor.account.id).inc()
        try:
            yield page
        finally:
            visitor.pages.remove(page)
            OPEN.labels(visitor.account.id).dec()
            if not visitor.pages:
                self._nobodys[visitor.key] = visitor
                while len(self._nobodys) > KEPT:
                    self._forget(next(iter(self._nobodys.values())))

    async def _posted(
        self, request: web.Request, account: Account, headers: Mapping[str, str]
    ) -> web.Response:
        """{"hello"?: frame, "frames": [...]} → {"frames": [...]}. `hello` or the bearer token names the visitor."""
        try:
            async with asyncio.timeout(READ_S):
                raw = bytearray()
                async for chunk in request.content.iter_any():
                    raw += chunk
                    if len(raw) > FRAME_BYTES:
                        return _problem(413, "too_large", headers)
            body = from_json(bytes(raw), allow_inf_nan=False)
        except TimeoutError:
            return _problem(408, "slow", headers)
        except ValueError:
            return _problem(400, "unreadable", headers)
        if not isinstance(body, dict) or not isinstance(body.get("frames", []), list):
            return _problem(400, "unreadable", headers)
        answers: list[Frame] = []
        try:
            if isinstance(body.get("hello"), dict):
                visitor, welcome = await self._hello(account, body["hello"])
                answers.append(welcome)
            else:
                found = self._bearer(request, account)
                if found is None:
                    return _problem(401, "token", headers)
                visitor = found
            visitor.address = self._source(request)
            for frame in body.get("frames", [])[:FRAMES]:
                if (done := await self._said(visitor, frame, _facts(request))) is not None:
                    answers.append(done)
        except Unavailable:
            return _problem(503, "unavailable", {**headers, hdrs.RETRY_AFTER: "2"})
        return web.json_response({"frames": answers}, headers=headers)

    async def _polled(
        self, request: web.Request, account: Account, after: int, headers: Mapping[str, str]
    ) -> web.Response:
        visitor = self._bearer(request, account)
        if visitor is None:
            return _problem(401, "token", headers)
        with self._opened(visitor, after) as page:
            end = _now() + self._poll_s
            try:
                while True:
                    page.wake.clear()
                    frames = await self._news(page)
                    left = end - _now()
                    if frames or left <= 0 or page.slow or self._closing:
                        break
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(
                            page.wake.wait(), min(left, SOON_S if page.blocked else LOOK_S)
                        )
            except Unavailable:
                return _problem(503, "unavailable", {**headers, hdrs.RETRY_AFTER: "2"})
        return web.json_response({"frames": frames, "after": page.after}, headers=headers)

    async def _socket(self, request: web.Request, account: Account, after: int) -> web.StreamResponse:
        address = self._source(request)
        if self._pages >= PAGES or self._of_address.get(address, 0) >= PAGES_ADDRESS:
            REFUSALS.labels("many").inc()
            raise web.HTTPTooManyRequests
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=FRAME_BYTES, timeout=2.0)
        await socket.prepare(request)
        self._sockets.add(socket)
        self._pages += 1
        self._of_address[address] = self._of_address.get(address, 0) + 1
        try:
            await self._talk(request, socket, account, after)
        finally:
            self._sockets.discard(socket)
            self._pages -= 1
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]
        return socket

    async def _talk(
        self, request: web.Request, socket: web.WebSocketResponse, account: Account, after: int
    ) -> None:
        try:
            first = await socket.receive(HELLO_S)
        except TimeoutError:
            await socket.close(code=WSCloseCode.POLICY_VIOLATION)
            return
        said = _object(first.data) if first.type is WSMsgType.TEXT else None
        if said is None or said.get("type") != "hello":
            await socket.close(code=WSCloseCode.POLICY_VIOLATION)
            return
        try:
            visitor, welcome = await self._hello(account, said)
        except Unavailable:
            await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
            return
        visitor.address = self._source(request)
        with self._opened(visitor, after) as page:
            page.give(welcome)
            showing = asyncio.create_task(self._showing(request, socket, page), name="visitor page")
            try:
                await self._hearing(request, socket, page)
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)

    async def _hearing(self, request: web.Request, socket: web.WebSocketResponse, page: _Page) -> None:
        facts, pace = _facts(request), self._pace(self._source(request))
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                await socket.close(code=WSCloseCode.UNSUPPORTED_DATA)
                return
            if not pace.allow(_now()) or page.visitor.refused > REFUSED:
                REFUSALS.labels("flood").inc()
                await socket.close(code=WSCloseCode.POLICY_VIOLATION)
                return
            try:
                done = await self._said(page.visitor, _object(message.data), facts)
            except Unavailable:
                done = self._loose("error", {"code": "unavailable", "retry_after": 2.0})
            if done is not None:
                page.give(done)

    async def _showing(self, request: web.Request, socket: web.WebSocketResponse, page: _Page) -> None:
        """Sends what is new, as fast as the page takes it. One that takes nothing is cut off."""
        while not socket.closed:
            page.wake.clear()
            wait_s = LOOK_S
            try:
                for frame in await self._news(page):
                    async with asyncio.timeout(self._send_s):
                        await socket.send_str(json.dumps(frame, ensure_ascii=False, separators=(",", ":")))
                if page.blocked:
                    wait_s = SOON_S
            except Unavailable:
                wait_s = 1.0
            except TimeoutError:
                REFUSALS.labels("slow").inc()
                if request.transport is not None:
                    request.transport.abort()
                return
            except ConnectionError:
                return
            if page.slow:
                REFUSALS.labels("slow").inc()
                await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(page.wake.wait(), wait_s)


def origins(account: Account) -> frozenset[str]:
    """Of the pages that may talk to an account: its setting `origins`, words between blanks or commas."""
    words: Sequence[str] = account.settings.get("origins", "").replace(",", " ").split()
    return frozenset(word.rstrip("/").lower() for word in words)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _object(text: Any) -> dict[str, Any] | None:
    try:
        found = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _words(said: Any, most: int) -> str:
    text = said.strip() if isinstance(said, str) else ""
    if not text:
        raise Refusal("empty")
    if len(text) > most:
        raise Refusal("too_long")
    return text


def _file_name(said: str) -> str:
    name = "".join(sign for sign in re.split(r"[/\\]", said)[-1] if sign.isprintable()).strip(" .")
    return name[-120:] or "file"


def _facts(request: web.Request) -> dict[str, str]:
    names = (hdrs.ORIGIN, hdrs.USER_AGENT)
    return {name.lower(): request.headers[name][:1000] for name in names if name in request.headers}


def _problem(status: int, code: str, headers: Mapping[str, str]) -> web.Response:
    response = web.json_response({"code": code}, status=status, headers=headers)
    if status in (408, 413):
        response.force_close()
    return response
