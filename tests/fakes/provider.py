"""A provider that is all ours: its channel (as a channel file is), its server, and what it did with our messages.

Its webhooks are JSON lists of small events, signed with HMAC-SHA256 of the raw bytes in `x-proof`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiohttp import web

from routing import channel as c
from routing.site import Account

SECRET = "a secret of the provider"


class Pigeon:
    """The channel `pigeon`, as a channel file is a module."""

    MANIFEST = c.Manifest(
        name="pigeon",
        seat="chat",
        address_kind="webchat",
        labels={"fr": "Pigeon", "en": "Pigeon"},
        attachment_bytes={"image": 100_000, "file": 100_000},
        typing=True,
        settings=("api_base",),
        secrets=("key",),
    )

    def verify(self, request: c.Request, account: Account, secrets: c.Secrets) -> c.Answer:
        if request.method == "GET":
            right = request.query.get("token") == secrets.get("key")
            return c.Answer(right, 200 if right else 403, request.query.get("challenge", "") if right else "")
        wanted = hmac.new(secrets.get("key", "").encode(), request.body, hashlib.sha256).hexdigest()
        said = request.headers.get("x-proof", "").encode()
        right = bool(secrets.get("key")) and hmac.compare_digest(wanted.encode(), said)
        return c.Answer(right, 200 if right else 401, why="" if right else "wrong proof")

    def parse(self, raw: bytes, account: Account) -> tuple[c.Heard, ...]:
        return tuple(_heard(event) for event in json.loads(raw))

    def render(self, out: c.Outgoing, account: Account, secrets: c.Secrets, memory: c.Memory) -> c.Rendering:
        words = {
            "to": out.to, "act": out.act, "text": out.text, "ref": str(out.message), "author": out.author,
            "name": out.author_name, "files": [[file.name, file.type, len(file.content)] for file in out.files],
        }  # fmt: skip
        url = f"{account.settings['api_base']}/send"
        if "named" not in memory and out.text.startswith("named"):
            reply = yield c.HttpCall("POST", f"{account.settings['api_base']}/name", repeatable=True)
            memory["named"] = str(reply.status)
        # It tells of the parts between slashes, not of those between bars.
        bits = re.findall(r"[^/|]+[/|]?", out.text) or [""]
        parts, chars, id = max(2, out.text.count("/") + 1), 0, ""
        for number, bit in enumerate(bits, 1):
            chars += len(bit)
            if number <= len(out.gone):
                continue
            reply = yield c.HttpCall("POST", url, json={**words, "text": bit.rstrip("/|"), "part": number})
            if reply.lost:
                return c.Perhaps("no answer")
            if reply.status != 200:
                said = json.loads(reply.body)
                return c.Failed(
                    c.Failure(said["failure"]),
                    said.get("code", "7"),
                    said.get("why", ""),
                    said.get("after_s"),
                )
            id = json.loads(reply.body)["id"]
            if "/" in out.text:
                yield c.PartSent(c.Part(number, parts, chars, 0), id)
        return c.Sent(id)


def _heard(event: Mapping[str, Any]) -> c.Heard:
    peer = c.Peer("webchat", event.get("from", "nobody"), event.get("name", ""))
    at = datetime.fromtimestamp(event["at"], UTC) if "at" in event else None
    match event["kind"]:
        case "wrote":
            files = tuple(c.File(**file) for file in event.get("files", ()))
            more = {name: event[name] for name in ("token", "trusted", "html", "subject") if name in event}
            return c.Wrote(
                peer=peer,
                at=at,
                external_id=event["id"],
                text=event.get("text", ""),
                files=files,
                references=tuple(event.get("references", ())),
                **more,
            )
        case "echoed":
            ours = UUID(event["ours"]) if "ours" in event else None
            part = c.Part(*event["part"]) if "part" in event else None
            text = event.get("text", "")
            return c.Echoed(peer=peer, at=at, external_id=event["id"], ours=ours, part=part, text=text)
        case "receipt":
            until = datetime.fromtimestamp(event["until"], UTC) if "until" in event else None
            ids = tuple(event.get("ids", ()))
            return c.Receipt(peer=peer, at=at, status=event["status"], external_ids=ids, until=until)
        case "reacted":
            return c.Reacted(peer=peer, at=at, external_id=event["id"], emoji=event["emoji"])
        case "changed":
            return c.Changed(peer=peer, at=at, external_id=event["id"], text=event["text"])
        case "typed":
            return c.Typed(peer=peer, at=at, on=event["on"])
        case "moved":
            return c.ThreadMoved(peer=peer, at=at, ours=event["ours"])
    return c.Unknown(peer=peer, at=at, what=str(event["kind"]))


def proof(body: bytes) -> dict[str, str]:
    return {"x-proof": hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}


@dataclass
class Provider:
    """Its server. `answers` are taken one by one: a status with a body, "lost" (carried out, line cut), or "hang"."""

    port: int = 0
    got: list[dict[str, Any]] = field(default_factory=list)  # messages carried out, in order
    asked: list[str] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None
    _sent: int = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Provider:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path.startswith("/files/"):
            name = request.path.removeprefix("/files/")
            if name == "away":
                raise web.HTTPFound("http://example.org/files/a.png")
            if name not in self.files:
                return web.Response(status=404)
            return web.Response(body=self.files[name], content_type="image/png")
        if request.path != "/send":
            return web.json_response({})
        words = await request.json()
        answer = self.answers.pop(0) if self.answers else None
        if answer == "hang":
            await self.release.wait()
        if isinstance(answer, tuple):
            status, body = answer
            self.changed.set()
            return web.json_response(body, status=status)
        self.got.append(words)
        self._sent += 1
        self.changed.set()
        if answer == "lost":
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"id": f"p{self._sent}-{words['ref'][:8]}"})
