"""The visitors of web pages: their sockets and long polls, to whom what is stored is shown.

`/chat/{account}` is a WebSocket, or POST (frames) and GET (a long poll of 25 s); `/chat/{account}/files` takes a file.
What a visitor says goes the way of a webhook (`take`) and is acknowledged once it is stored. What a page is shown are
the stored messages of its thread in the order of their `seq`, each once a connection: a page that comes back names the
last `seq` it has seen. One that is still on its way out holds back those behind it, so nothing appears before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from uuid import UUID

from aiohttp import WSCloseCode, WSMsgType, hdrs, web
from pydantic_core import from_json

from routing import channel as c
from routing import models as m
from routing.aio import visitors_shown
from routing.aio.visitors_door import REFUSALS, Door, Refusal, now, problem, read
from routing.aio.visitors_files import Uploads
from routing.aio.visitors_gone import Gone, Tell
from routing.aio.visitors_known import Frame, Known, Page, Visitor, wake
from routing.aio.visitors_said import Said, Take, Typing
from routing.aio.visitors_shown import Shown
from routing.projection import InteractionRow
from routing.site import Account, Site
from routing.store import Messages, Unavailable

SCRIPT = "widget.js"  # an account cannot be called so: its id has no dot
FRAME_BYTES = 64 << 10
FRAMES = 50  # in one POST
HELLO_S = 10.0
POLL_S = 25.0
SEND_S = 10.0  # a page that takes nothing for so long is closed; it comes back where it was
HEARTBEAT_S = 25.0
LOOK_S = 15.0
SOON_S = 0.5  # a page looks again for what holds back what is behind it
REFUSED = 40  # frames in a row above the rate, then the page is closed

MOVES = frozenset({m.T.ENQUEUED, m.T.ACCEPTED, m.T.ASSIGNED, m.T.REQUEUED, m.T.HANDED_BACK})


class Desk(visitors_shown.Desk, Protocol):
    def subscribe(self, hear: Callable[[m.Event], None]) -> Callable[[], None]: ...

    def interactions(self) -> list[InteractionRow]: ...


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
        gone: Tell = lambda interaction, since: None,
        source: Callable[[web.Request], str] = lambda request: request.remote or "",
        send_s: float = SEND_S,
        poll_s: float = POLL_S,
    ) -> None:
        """`key` proves the tokens of visitors; `widget` is the built script; `source` who a request comes from."""
        self._site, self._channels, self._desk = site, channels, desk
        self._widget, self._send_s, self._poll_s = widget, send_s, poll_s
        self.door = Door(site, channels, source)
        self.gone = Gone(gone, clock)
        self.known = Known(channels=channels, messages=messages, key=key, clock=clock, gone=self.gone)
        self.uploads = Uploads()
        self.shown = Shown(
            site=site,
            channels=channels,
            desk=desk,
            messages=messages,
            known=self.known,
            link=link,
            clock=clock,
        )
        self.said = Said(
            channels=channels, messages=messages, known=self.known, door=self.door, uploads=self.uploads,
            take=take, typed=typed, clock=clock,
        )  # fmt: skip
        self._sockets: set[web.WebSocketResponse] = set()
        self._unsubscribe: Callable[[], None] | None = None

    async def __aenter__(self) -> Visitors:
        self._unsubscribe = self._desk.subscribe(self._hear)
        for row in self._desk.interactions():
            account = self._site().account(row.dialled)
            if account is not None and self._channels[account.channel].MANIFEST.visitors:
                self.gone.unseen(account, row.id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.door.closing = True
        if self._unsubscribe is not None:
            self._unsubscribe()
        self.gone.close()
        self.known.wake_all()
        ends = (each.close(code=WSCloseCode.GOING_AWAY) for each in list(self._sockets))
        await asyncio.gather(*ends, return_exceptions=True)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """A plain aiohttp handler of `/chat/{account}` and `/chat/{account}/{what}`, for every method."""
        if request.match_info["account"] == SCRIPT:
            return await self._script(request)
        what = request.match_info.get("what")
        if what not in (None, "files"):
            raise web.HTTPNotFound
        account, headers = self.door.admit(request)
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers=headers)
        try:
            if request.method == hdrs.METH_POST:
                answer = self._upload if what == "files" else self._posted
                return web.json_response(await answer(request, account), headers=headers)
            if request.method == hdrs.METH_GET and what is None:
                return await self._looked(request, account, headers)
        except Refusal as refusal:
            return problem(refusal, headers)
        except Unavailable:
            return problem(Refusal("unavailable", 2.0), headers)
        allow = "POST, OPTIONS" if what == "files" else "GET, POST, OPTIONS"
        return web.Response(status=405, headers={**headers, hdrs.ALLOW: allow})

    async def push(self, account: Account, call: c.PushCall) -> c.Reply:
        """What the Courier does with a PushCall. A message is shown from its row; all else goes as it is."""
        visitor = self.known.find(account.id, call.to)
        if call.frame.get("type") == "message":
            self.shown.sent(UUID(str(call.frame["id"])))
        if visitor is None or not visitor.pages:
            return c.Reply(404)
        for page in visitor.pages:
            if call.frame.get("type") == "message":
                page.wake.set()
            else:
                page.give(self.shown.loose(str(call.frame["type"]), call.frame.get("data") or {}))
        return c.Reply(200)

    def _hear(self, event: m.Event) -> None:
        visitor = self.known.of_live(event.interaction)
        match event.type:
            case m.T.THREAD_OPENED:
                wake(self.known.threadless())
            case m.T.MESSAGE_RECEIVED | m.T.MESSAGE_WRITTEN:
                visitor = self.known.of_thread(UUID(str(event.data["thread"])))
                if visitor is not None:
                    row = self._desk.interaction(event.interaction) if event.interaction is not None else None
                    if row is not None and row.state not in m.FINAL:
                        self.known.lives(visitor, event.interaction)
                    wake((visitor,))
            case m.T.MESSAGE_STATUS:
                if visitor is not None and any(page.blocked for page in visitor.pages):
                    wake((visitor,))
            case _ if event.type in m.FINAL_EVENTS:
                if event.interaction is not None:
                    self.gone.over(event.interaction)
                if visitor is not None:
                    self.known.lives(visitor, None)
                    self.shown.moved(visitor, event)
            case _ if visitor is not None and event.type in MOVES:
                self.shown.moved(visitor, event)

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

    async def _hello(self, account: Account, frame: Mapping[str, Any]) -> tuple[Visitor, Frame]:
        """The visitor of a token of ours, or a new one; and their welcome."""
        visitor = self.known.of_token(account, frame.get("token")) or self.known.newcomer(account)
        self.said.introduced(visitor, frame)
        await self.known.thread(visitor)
        return visitor, self.shown.welcome(visitor)

    def _bearer(self, request: web.Request, account: Account) -> Visitor:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        visitor = self.known.of_token(account, token.strip()) if scheme.lower() == "bearer" else None
        if visitor is None:
            raise Refusal("token")
        return visitor

    async def _upload(self, request: web.Request, account: Account) -> Frame:
        """A file's bytes with `?name=`; its `upload_id` is good for one `attachment` within ten minutes."""
        visitor = self._bearer(request, account)
        if not visitor.pace.allow(now(), 2.0):
            raise Refusal("slow_down", 2.0)
        limits = self._channels[account.channel].MANIFEST.attachment_bytes
        content = await read(request, max(limits.values(), default=0))
        name = request.query.get("name", "")
        return self.uploads.keep(visitor.key, name, request.content_type, content, limits)

    async def _posted(self, request: web.Request, account: Account) -> Frame:
        """{"hello"?: frame, "frames": [...]} → {"frames": [...]}. `hello` or the bearer token names the visitor."""
        body = _object(await read(request, FRAME_BYTES))
        if body is None or not isinstance(body.get("frames", []), list):
            raise Refusal("unreadable")
        answers: list[Frame] = []
        if isinstance(body.get("hello"), dict):
            visitor, welcome = await self._hello(account, body["hello"])
            answers.append(welcome)
        else:
            visitor = self._bearer(request, account)
        visitor.address = self.door.source(request)
        for frame in body.get("frames", [])[:FRAMES]:
            if (done := await self.said.take(visitor, frame, _facts(request))) is not None:
                answers.append(done)
        return {"frames": answers}

    async def _looked(
        self, request: web.Request, account: Account, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """A socket, or a long poll; `?after=` is the last `seq` that was seen."""
        try:
            after = max(0, int(request.query.get("after", "0")))
            assert after < 1 << 62
        except (ValueError, AssertionError):
            raise Refusal("unreadable") from None
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await self._socket(request, account, after)
        return web.json_response(await self._polled(request, account, after), headers=headers)

    async def _polled(self, request: web.Request, account: Account, after: int) -> Frame:
        with self.known.opened(self._bearer(request, account), after) as page:
            end = now() + self._poll_s
            while True:
                page.wake.clear()
                frames = await self.shown.news(page)
                left = end - now()
                if frames or left <= 0 or page.slow or self.door.closing:
                    return {"frames": frames, "after": page.after}
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(page.wake.wait(), min(left, SOON_S if page.blocked else LOOK_S))

    async def _socket(self, request: web.Request, account: Account, after: int) -> web.StreamResponse:
        with self.door.room(self.door.source(request)):
            socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=FRAME_BYTES, timeout=2.0)
            await socket.prepare(request)
            self._sockets.add(socket)
            try:
                await self._talk(request, socket, account, after)
            finally:
                self._sockets.discard(socket)
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
        visitor.address = self.door.source(request)
        with self.known.opened(visitor, after) as page:
            page.give(welcome)
            showing = asyncio.create_task(self._showing(request, socket, page), name="visitor page")
            try:
                await self._hearing(request, socket, page)
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)

    async def _hearing(self, request: web.Request, socket: web.WebSocketResponse, page: Page) -> None:
        facts, pace = _facts(request), self.door.pace(self.door.source(request))
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                await socket.close(code=WSCloseCode.UNSUPPORTED_DATA)
                return
            if not pace.allow(now()) or page.visitor.refused > REFUSED:
                REFUSALS.labels("flood").inc()
                await socket.close(code=WSCloseCode.POLICY_VIOLATION)
                return
            try:
                done = await self.said.take(page.visitor, _object(message.data), facts)
            except Unavailable:
                done = self.shown.loose("error", {"code": "unavailable", "retry_after": 2.0})
            if done is not None:
                page.give(done)

    async def _showing(self, request: web.Request, socket: web.WebSocketResponse, page: Page) -> None:
        """Sends what is new, as fast as the page takes it. One that takes nothing is cut off."""
        while not socket.closed:
            page.wake.clear()
            wait_s = LOOK_S
            try:
                for frame in await self.shown.news(page):
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


def _object(text: Any) -> dict[str, Any] | None:
    try:
        found = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _facts(request: web.Request) -> dict[str, str]:
    names = (hdrs.ORIGIN, hdrs.USER_AGENT)
    return {name.lower(): request.headers[name][:1000] for name in names if name in request.headers}
