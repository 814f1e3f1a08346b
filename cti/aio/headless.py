"""A console without a page: signs in, hears the live channel and acts through the API, as the page does.

The demo's advisors and the tests use it; the server never does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import aiohttp

Frame = dict[str, Any]


class Refused(Exception):
    """The server said no: `status`, and `problem` (problem+json) as it came."""

    def __init__(self, status: int, problem: Any) -> None:
        super().__init__(f"{status} {problem}")
        self.status = status
        self.problem = problem


class HeadlessConsole:
    """`async with HeadlessConsole(url, login, password) as console`; frames of the live channel are in `frames`."""

    def __init__(
        self,
        url: str,
        login: str,
        password: str,
        *,
        confirm_pops: bool = True,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> None:
        """`url` is the server's origin, like http://127.0.0.1:8080; `confirm_pops` answers each pop with `shown`."""
        self.url = url.rstrip("/")
        self.login = login
        self._password = password
        self._confirm = confirm_pops
        self._on_frame = on_frame
        self._csrf = ""
        self._news = asyncio.Condition()
        self._listener: asyncio.Task[None] | None = None
        self.me: dict[str, Any] = {}
        self.snapshot: dict[str, Any] = {}
        self.frames: list[Frame] = []
        self.last_seq = 0

    async def __aenter__(self) -> HeadlessConsole:
        jar = aiohttp.CookieJar(unsafe=True)  # the cookies of an address that is a number
        self._http = aiohttp.ClientSession(cookie_jar=jar, headers={"Origin": self.url})
        try:
            signed_in = await self.post("/session", {"login": self.login, "password": self._password})
            self._csrf, self.me = signed_in["csrf"], signed_in["me"]
            self._socket = await self._http.ws_connect(self.url + "/api/v1/events", max_msg_size=0)
            self._listener = asyncio.create_task(self._listen())
            await self.wait_for("snapshot")
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
            self._listener = None
            await self._socket.close()
        await self._http.close()

    async def _listen(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            frame: Frame = message.json()
            if frame["type"] == "snapshot":
                self.snapshot = frame["data"]
                for offer in frame["data"].get("offers", ()):
                    await self._shown(offer["id"])
            elif frame["type"] == "offer.made":
                await self._shown(frame["data"]["id"])
            self.last_seq = max(self.last_seq, frame.get("seq") or 0)
            if self._on_frame is not None:
                self._on_frame(frame)
            async with self._news:
                self.frames.append(frame)
                self._news.notify_all()

    async def _shown(self, offer: str) -> None:
        if self._confirm:
            await self._socket.send_json({"type": "shown", "offer": offer})

    async def wait_for(
        self,
        type_: str,
        where: Callable[[Any], bool] = lambda data: True,
        *,
        within_s: float = 10.0,
        after: int = 0,
    ) -> Frame:
        """The first frame of a type whose data fits, from the `after`-th frame on. Raises TimeoutError."""

        def found() -> Frame | None:
            return next((f for f in self.frames[after:] if f["type"] == type_ and where(f["data"])), None)

        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(lambda: found() is not None), within_s)
            except TimeoutError:
                seen = [f["type"] for f in self.frames[-12:]]
                raise TimeoutError(f"{self.login} saw no {type_} in {within_s} s; last: {seen}") from None
        frame = found()
        assert frame is not None
        return frame

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API below /api/v1; returns the JSON answer, or None for 204. Raises Refused."""
        headers = {"X-CSRF-Token": self._csrf} if self._csrf else {}
        async with self._http.request(
            method, self.url + "/api/v1" + path, json=body, headers=headers
        ) as answer:
            if answer.status >= 400:
                problem = await answer.json(content_type=None) if answer.content_length != 0 else None
                raise Refused(answer.status, problem)
            if answer.status == 204:
                return None
            if answer.content_type.endswith("json"):
                return await answer.json()
            return await answer.read()

    async def get(self, path: str) -> Any:
        return await self.request("GET", path)

    async def post(self, path: str, body: Any = None) -> Any:
        return await self.request("POST", path, body if body is not None else {})

    async def put(self, path: str, body: Any) -> Any:
        return await self.request("PUT", path, body)

    async def patch(self, path: str, body: Any) -> Any:
        return await self.request("PATCH", path, body)

    async def accept(self, offer: str) -> None:
        """Accept an offer on a written channel; a call is accepted by answering the phone."""
        await self.post(f"/offers/{offer}/accept")

    async def take(self, interaction: str) -> Any:
        """Take a written interaction that nobody has."""
        return await self.post(f"/interactions/{interaction}/take")

    async def reply(self, interaction: str, text: str, **more: Any) -> Any:
        """Answer, having seen all of ours that is there now; `more` as POST /interactions/{id}/messages takes it."""
        if "over" not in more:
            shown = await self.get(f"/interactions/{interaction}")
            case = await self.get(f"/cases/{shown['case']}")
            ours = [t["last_out"] for t in case["threads"] if t["id"] == shown["thread"]]
            more["over"] = ours[0] if ours else None
        return await self.post(
            f"/interactions/{interaction}/messages", {"message": str(uuid4()), "text": text, **more}
        )

    async def close_interaction(self, interaction: str, outcome: str = "answered", **more: Any) -> Any:
        """`more`: reason (of archived), code, note."""
        return await self.post(f"/interactions/{interaction}/close", {"outcome": outcome, **more})

    async def call_from_case(self, case: str, address: str, exchange: str | None = None) -> str:
        """Call the customer: your phone rings first. `exchange` lends the call a chat's seat. Returns the call."""
        placed = await self.post(f"/cases/{case}/call", {"address": address, "exchange": exchange})
        return str(placed["interaction"])

    async def write_from_case(self, case: str, account: str, address: str, text: str, **more: Any) -> Any:
        """An email, or a message on whatever channel the account has; `more`: subject, html, attachments."""
        body = {"message": str(uuid4()), "account": account, "address": address, "text": text, **more}
        return await self.post(f"/cases/{case}/messages", body)

    async def upload(self, content: bytes, name: str, type_: str = "application/octet-stream") -> Any:
        """A file for `attachments` of a message."""
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("file", content, filename=name, content_type=type_)
        headers = {"X-CSRF-Token": self._csrf}
        async with self._http.post(self.url + "/api/v1/attachments", data=form, headers=headers) as answer:
            told = await answer.json(content_type=None)
            if answer.status >= 400:
                raise Refused(answer.status, told)
            return told

    async def look_at(self, case: str, doing: str = "viewing") -> None:
        """Say that the page of a case is open (viewing), that somebody types in it, or that it was left (none)."""
        await self._socket.send_json({"type": "viewing", "case": case, "doing": doing})

    async def inbox(self, view: str = "all", **filters: Any) -> Any:
        return await self.get("/inbox?" + urlencode({"view": view, **filters}))

    async def statistics(self, start: str, end: str, **filters: Any) -> Any:
        """Times as ISO 8601."""
        return await self.get("/statistics?" + urlencode({"from": start, "to": end, **filters}))

    async def set_presence(self, presence: str, reason: str | None = None) -> Any:
        return await self.put("/me/presence", {"presence": presence, "reason": reason})
