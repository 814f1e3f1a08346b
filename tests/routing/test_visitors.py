"""Visitors of web pages: nothing lost, nothing twice, whatever becomes of the line; and who may not come in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any, cast
from uuid import UUID

import aiohttp
import pytest
from aiohttp import WSServerHandshakeError, web

from ivr.interpreter import HUMAN
from routing import models as m
from routing.aio.fetch import Fetcher
from routing.aio.hooks import Hooks
from routing.aio.outbox import Courier
from routing.aio.postgres import pool, stores
from routing.aio.visitors import Visitors
from routing.aio.visitors_door import NEW_BURST
from routing.aio.visitors_known import BURST
from routing.aio.visitors_said import TEXT_CHARS
from routing.channels import CHANNELS, webchat
from routing.site import Account, Hours
from routing.store import Unavailable
from tests.fakes.changes import Changes
from tests.routing.hotline import HandClock, hotline, site
from tests.routing.office import Office
from tests.routing.test_fetch import png

ORIGIN = "https://www.postal.example"
SITE = Account(
    "site", "webchat", queue="general", bot_name="Iris",
    settings={"origins": f"{ORIGIN}, https://shop.example", "email": "service@postal.example"},
)  # fmt: skip
PAGE = Account("page", "messenger", queue="general")
WITHIN_S = 15.0


@dataclass
class Visit:
    """One page of a visitor on a socket: what it has been shown, and where it would go on."""

    ws: aiohttp.ClientWebSocketResponse
    frames: list[dict[str, Any]] = field(default_factory=list)

    @property
    def seq(self) -> int:
        return max([0, *(int(frame["seq"]) for frame in self.frames if frame["seq"] is not None)])

    @property
    def shown(self) -> list[str]:
        return [frame["data"]["text"] for frame in self.frames if frame["type"] == "message"]

    @property
    def token(self) -> str:
        return str(next(f["data"]["token"] for f in self.frames if f["type"] == "welcome"))

    async def say(self, type: str, **more: Any) -> None:
        await self.ws.send_json({"type": type, **more})

    async def next(self) -> dict[str, Any]:
        frame = cast(dict[str, Any], await self.ws.receive_json(timeout=WITHIN_S))
        self.frames.append(frame)
        return frame

    async def until(self, type: str, **about: Any) -> dict[str, Any]:
        """The next frame of that type with these data."""
        while True:
            frame = await self.next()
            if frame["type"] == type and about.items() <= frame["data"].items():
                return frame

    async def ended(self) -> int:
        """It is closed by the server: the code."""
        async with asyncio.timeout(WITHIN_S):
            while not self.ws.closed:
                await self.ws.receive()
        return self.ws.close_code or 0


@dataclass
class Street:
    """A web site before a real hotline."""

    office: Office
    visitors: Visitors
    base: str
    typed: list[tuple[str, str, bool]]
    gone: list[tuple[UUID, datetime | None]]

    @property
    def url(self) -> str:
        return f"{self.base}/chat/site"

    @asynccontextmanager
    async def visit(
        self, token: str | None = None, after: int = 0, *, origin: str = ORIGIN, **hello: Any
    ) -> AsyncIterator[Visit]:
        headers = {"Origin": origin} if origin else {}
        async with self.office.http.ws_connect(f"{self.url}?after={after}", headers=headers) as ws:
            visit = Visit(ws)
            await visit.say("hello", token=token, lang="fr", **hello)
            await visit.until("welcome")
            yield visit

    async def talking(self, visit: Visit, text: str = "Bonjour") -> UUID:
        """The interaction of a visitor who has written, and whom a1 has."""
        await visit.say("message", client_id="first", text=text)
        await visit.until("message", text=text)
        await self.office.handled()
        row = (await self.office.messages())[-1]
        await self.office.line.ready("a1")
        await self.office.line.ok(m.InteractionTaken, interaction=row["interaction"], advisor="a1", by="a1")
        return cast(UUID, row["interaction"])


@asynccontextmanager
async def street(dsn: str, data: Path, *, account: Account = SITE, **more: Any) -> AsyncIterator[Street]:
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(hotline(dsn, site(accounts=(account, PAGE)), HandClock()))
        changes = await stack.enter_async_context(Changes(dsn))
        connections = await stack.enter_async_context(pool(dsn, size=8))
        there = stores(connections, line.organisation, line.clock, environment={})
        files = Fetcher(data)
        stack.push_async_callback(files.close)
        typed: list[tuple[str, str, bool]] = []
        gone: list[tuple[UUID, datetime | None]] = []
        shared: dict[str, Any] = {
            "site": lambda: line.desk.site, "channels": CHANNELS, "messages": there.messages, "desk": line.desk,
            "clock": line.clock,
        }  # fmt: skip
        kept: dict[str, Any] = {"outbox": there.outbox, "secrets": there.secrets, "files": files}
        hooks = Hooks(
            **shared, **kept, requests=there.requests, ids=line.ids, public_url="https://hotline.example"
        )
        widget = data / "widget.js"
        widget.write_text("// the widget\n")
        visitors = Visitors(
            **shared,
            take=more.pop("take", hooks.take),
            typed=lambda account, peer, on: typed.append((account, peer.value, on)),
            gone=lambda interaction, since: gone.append((interaction, since)),
            link=lambda id: f"https://hotline.example/files/{id}",
            key=b"k" * 32,
            widget=widget,
            **more,
        )
        courier = Courier(**shared, **kept, states=there.account_states, push=visitors.push)
        app = web.Application()
        app.router.add_route("*", "/chat/{account}", visitors.serve)
        app.router.add_route("*", "/chat/{account}/{what}", visitors.serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await stack.enter_async_context(hooks)
        await stack.enter_async_context(courier)
        await stack.enter_async_context(visitors)
        office = Office(line, there, hooks, courier, cast(Any, None), files, "", http, connections, changes)
        yield Street(office, visitors, f"http://127.0.0.1:{runner.addresses[0][1]}", typed, gone)


def test_the_button_to_a_person_is_that_of_the_trees() -> None:
    assert webchat.PERSON == HUMAN


async def test_a_conversation_goes_both_ways_with_first_names_and_marks(
    database: str, tmp_path: Path
) -> None:
    async with street(database, tmp_path) as here, here.visit(fields={"name": "Claire"}) as visit:
        await visit.say("message", client_id="c1", text="Où est mon <b>colis</b> ?")
        assert (await visit.until("status"))["data"] == {"client_id": "c1", "state": "received"}
        own = await visit.until("message")
        assert own["data"]["author"]["kind"] == "visitor"
        assert own["data"]["client_id"] == "c1"
        assert own["data"]["text"] == "Où est mon <b>colis</b> ?", "text, never HTML"
        row = (await here.office.messages())[0]
        await here.office.line.ready("a1")
        await here.office.line.ok(m.InteractionTaken, interaction=row["interaction"], advisor="a1", by="a1")
        assert (await visit.until("transfer", to="advisor"))["data"]["name"] == "First1"
        message = await here.office.write(row["interaction"], "Je regarde.")
        said = await visit.until("message")
        assert (said["data"]["text"], said["id"]) == ("Je regarde.", str(message))
        assert said["data"]["author"] == {"kind": "advisor", "name": "First1"}
        assert said["seq"] > own["seq"]
        await here.office.becomes(message, "sent")
        await visit.say("delivered", seq=said["seq"])
        await here.office.becomes(message, "delivered")
        await visit.say("read", seq=said["seq"])
        await here.office.becomes(message, "read")
        await visit.say("typing", on=True)
        await here.office.until(lambda: here.typed, "nobody hears that they type")
        assert here.typed == [("site", visit.token.partition(".")[0], True)]
        await here.office.courier.act(row["thread"], "typing_on", "First1")
        assert (await visit.until("typing"))["data"] == {"on": True, "name": "First1"}
        await here.office.line.ok(
            m.InteractionClosed, interaction=row["interaction"], by="a1", outcome="answered"
        )
        await visit.until("ended")


async def test_cuts_lose_nothing_and_double_nothing(database: str, tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    async with street(database, tmp_path) as here:
        async with here.visit() as visit:
            interaction = await here.talking(visit)
            token, seq = visit.token, visit.seq
        wanted, seen = [], []
        for turn in range(9):  # fewer frames than a visitor may send at once
            if chance.random() < 0.5:  # while nobody looks
                wanted.append(f"absent {turn}")
                await here.office.write(interaction, wanted[-1])
            async with here.visit(token, seq) as visit:
                said, own = f"answer {turn}", f"own {turn}"
                await asyncio.gather(
                    here.office.write(interaction, said),
                    visit.say("message", client_id=f"t{turn}", text=own),
                )
                wanted += [said, own]
                if chance.random() < 0.6:  # the acknowledgement is lost; the page sends it again
                    for _ in range(chance.randrange(3)):
                        await visit.next()
                else:
                    await visit.until("message", text=own)
                seen += visit.shown
                seq = max(seq, visit.seq)
                assert visit.ws._response.connection is not None
                transport = visit.ws._response.connection.transport
                if transport is not None and chance.random() < 0.5:
                    transport.abort()
            async with here.visit(token, seq) as visit:
                await visit.say("message", client_id=f"t{turn}", text=own)
                await visit.until("status", client_id=f"t{turn}")
                seen += visit.shown
                seq = max(seq, visit.seq)
        await here.office.handled()
        async with here.visit(token, seq) as visit:
            while len(seen) + len(visit.shown) < len(wanted):
                await visit.next()
            seen += visit.shown
        assert sorted(seen) == sorted(wanted), f"seed {seed}"
        async with here.visit(token) as visit:
            while len(visit.shown) < len(wanted) + 1:
                await visit.next()
            assert sorted(visit.shown[1:]) == sorted(wanted)
            order = [f["seq"] for f in visit.frames if f["type"] == "message"]
            assert order == sorted(order)


async def test_what_is_on_its_way_holds_back_what_is_behind_it(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here, here.visit() as visit:
        interaction = await here.talking(visit)
        await here.office.courier.__aexit__(None, None, None)
        await here.office.write(interaction, "un")
        await visit.say("message", client_id="c2", text="deux")
        await visit.until("status")
        await here.office.handled()
        shared = here.office.courier
        async with Courier(
            site=shared._site, channels=CHANNELS, outbox=shared._outbox, messages=shared._messages,
            secrets=shared._secrets, states=shared._states, desk=here.office.line.desk, clock=here.office.line.clock,
            files=here.office.files, push=here.visitors.push,
        ) as again:  # fmt: skip
            here.office.courier = again
            await visit.until("message", text="deux")
            assert visit.shown == ["Bonjour", "un", "deux"]
            here.office.courier = shared
        here.office.courier = await Courier.__aenter__(shared)


async def test_what_a_dead_sender_left_in_doubt_is_known_once_it_is_read(
    database: str, tmp_path: Path
) -> None:
    async with street(database, tmp_path) as here, here.visit() as visit:
        interaction = await here.talking(visit)
        await here.office.courier.__aexit__(None, None, None)
        message = await here.office.write(interaction, "Je regarde.")
        outbox, clock = here.office.stores.outbox, here.office.line.clock
        taken, _ = await outbox.take(clock.now(), worker=here.office.line.ids(), lease_s=1.0, limit=1)
        assert [each.message for each in taken] == [message]
        clock.pass_(60)
        here.office.courier = await here.office.courier.__aenter__()
        await here.office.becomes(message, "perhaps")
        said = await visit.until("message", text="Je regarde.")
        await visit.say("read", seq=said["seq"])
        await here.office.becomes(message, "read")


async def test_two_tabs_see_the_same(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here, here.visit() as first, here.visit(first.token) as second:
        await here.talking(first)
        await second.until("message", text="Bonjour")
        await second.say("message", client_id="c2", text="encore")
        await first.until("message", text="encore")
        assert first.shown == ["Bonjour", "encore"]
        assert len({row["thread"] for row in await here.office.messages()}) == 1


async def test_pages_of_other_sites_stay_outside(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here:
        for origin in (
            "",
            "null",
            "https://evil.example",
            f"{ORIGIN}.evil.example",
            "http://www.postal.example",
        ):
            headers = {"Origin": origin} if origin else {}
            with pytest.raises(WSServerHandshakeError) as refused:
                await here.office.http.ws_connect(here.url, headers=headers)
            assert refused.value.status == 403
            for path in ("", "/files"):
                async with here.office.http.post(here.url + path, json={}, headers=headers) as answer:
                    assert answer.status == 403
                    assert "Access-Control-Allow-Origin" not in answer.headers
        async with here.visit(origin="https://SHOP.example/"):
            pass
        for account in ("page", "nobody"):
            async with here.office.http.get(
                f"{here.base}/chat/{account}", headers={"Origin": ORIGIN}
            ) as answer:
                assert answer.status == 404
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        async with here.office.http.options(here.url, headers=asked) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert answer.headers["Vary"] == "Origin"
        async with here.office.http.get(f"{here.base}/chat/widget.js") as answer:
            assert (answer.status, await answer.text()) == (200, "// the widget\n")
            assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


async def test_tokens_are_ours_and_of_one_account(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here:
        async with here.visit() as visit:
            await here.talking(visit)
            token = visit.token
        id, _, proof = token.partition(".")
        others = (
            "", "x", f"{id}.", f"{id}.{'0' * 40}", f"{id}.é", f"{'0' * 24}.{proof}", f"{id}.{proof}.x",
            here.visitors.known.token("other", id), 7, None, {"a": 1},
        )  # fmt: skip
        for forged in others:
            async with here.visit(cast(str, forged)) as visit:
                assert visit.token != token
        for said in ("", f"Bearer {id}.{'0' * 40}", f"Basic {token}"):
            async with here.office.http.get(
                here.url, headers={"Origin": ORIGIN, "Authorization": said}
            ) as answer:
                assert answer.status == 401


async def test_what_visitors_may_not_send_is_told_with_a_code(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here, here.visit() as visit:
        for code, frame in (
            ("too_long", {"type": "message", "client_id": "c1", "text": "x" * (TEXT_CHARS + 1)}),
            ("empty", {"type": "message", "client_id": "c1", "text": " \n"}),
            ("client_id", {"type": "message", "text": "x"}),
            ("client_id", {"type": "message", "client_id": "a b", "text": "x"}),
            ("unknown_type", {"type": "dance"}),
            ("unknown_type", {}),
            ("unknown_upload", {"type": "attachment", "client_id": "c1", "upload_id": "x"}),
            ("phone", {"type": "call_me", "client_id": "c1", "phone": "no"}),
            ("seq", {"type": "read", "seq": "1"}),
        ):
            await visit.ws.send_json(frame)
            assert (await visit.until("error"))["data"]["code"] == code, frame
        await visit.ws.send_str("not JSON")
        assert (await visit.until("error"))["data"]["code"] == "unknown_type"
        assert await here.office.stores.requests.latest() == []
        await visit.ws.send_str("x" * 200_000)
        assert await visit.ended() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_floods_are_slowed_then_ended(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here, here.visit() as visit:
        for n in range(200):
            with contextlib.suppress(ConnectionError):
                await visit.say("message", client_id=f"c{n}", text="spam")
        assert await visit.ended() == aiohttp.WSCloseCode.POLICY_VIOLATION
        await here.office.handled()
        assert len(await here.office.messages()) <= BURST + 2
        async with here.visit() as other:
            await other.say("message", client_id="c1", text="Bonjour")
            await other.until("status")


async def test_an_address_that_knocks_without_end_is_refused(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here:
        statuses = []
        for _ in range(250):
            async with here.office.http.get(here.url, headers={"Origin": ORIGIN}) as answer:
                statuses.append(answer.status)
        assert statuses[0] == 401
        assert 429 in statuses[-20:]


async def test_an_address_does_not_make_contacts_without_end(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here:
        codes = []
        for _ in range(int(NEW_BURST) + 10):
            body = {"hello": {}, "frames": [{"type": "message", "client_id": "c1", "text": "Bonjour"}]}
            async with here.office.http.post(here.url, json=body, headers={"Origin": ORIGIN}) as answer:
                codes.append((await answer.json())["frames"][1]["data"].get("code", "taken"))
        assert codes[0] == "taken"
        assert codes[-1] == "slow_down"
        await here.office.handled()
        assert len({row["contact"] for row in await here.office.messages()}) <= NEW_BURST + 3


async def test_a_page_that_takes_nothing_is_cut_off(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path, send_s=0.5) as here:
        async with here.visit() as visit:
            interaction = await here.talking(visit)
            token = visit.token
        for n in range(60):
            await here.office.write(interaction, f"{n} " + "x" * 60_000)
        last = (await here.office.messages())[-1]["id"]
        await here.office.becomes(last, "sent")
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.setblocking(False)
        port = int(here.base.rpartition(":")[2])
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", port))
        connector = aiohttp.TCPConnector(socket_factory=lambda _: line)
        hello = json.dumps({"type": "hello", "token": token}).encode()
        mask = b"\0\0\0\0"
        head = (
            f"GET /chat/site HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        frame = b"\x81" + bytes([0x80 | 126]) + len(hello).to_bytes(2, "big") + mask + hello
        await asyncio.get_running_loop().sock_sendall(line, head.encode() + frame)
        key = here.visitors.known.of_token(SITE, token)
        assert key is not None
        await here.office.until(lambda: key.pages, "it is not there")
        await here.office.until(lambda: not key.pages, "it is still there")
        line.close()
        await connector.close()
        async with here.visit(token) as visit:
            while len(visit.shown) < 61:
                await visit.next()


async def test_files_go_in_by_what_their_bytes_show(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here, here.visit() as visit:
        headers = {"Origin": ORIGIN, "Authorization": f"Bearer {visit.token}"}

        async def upload(content: bytes, type: str, **more: str) -> tuple[int, dict[str, Any]]:
            sent = {**headers, **more, "Content-Type": type}
            async with here.office.http.post(
                f"{here.url}/files?name=..%2Freçu.png", data=BytesIO(content), headers=sent
            ) as a:
                return a.status, await a.json()

        for content, type, status in (
            (b"<svg onload=alert(1)>", "image/svg+xml", 415),
            (b"<script>", "text/html", 415),
            (b"MZ\x90", "image/png", 415),
            (b"", "image/png", 415),
            (b"\x89PNG\r\n\x1a\n" + b"x" * 5_000_001, "image/png", 413),
        ):
            assert (await upload(content, type))[0] == status, type
        assert (await upload(png(3, 3), "image/png", Authorization="Bearer x"))[0] == 401
        status, there = await upload(png(3, 3), "text/html")
        assert (status, there["name"], there["type"]) == (200, "reçu.png", "image/png")
        async with here.visit() as thief:
            await thief.say("attachment", client_id="c1", upload_id=there["upload_id"])
            assert (await thief.until("error"))["data"]["code"] == "unknown_upload"
        await visit.say("attachment", client_id="c1", upload_id=there["upload_id"])
        await visit.until("status", client_id="c1")
        shown = await visit.until("message")
        assert shown["data"]["attachments"][0]["name"] == "reçu.png"
        await here.office.handled()
        (row,) = await here.office.rows("SELECT state, type, kind FROM attachment")
        assert (row["state"], row["type"], row["kind"]) == ("stored", "image/png", "image")


async def test_what_visitors_say_of_themselves_joins_nobody(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here:
        claire = here.office.line.ids()
        addresses = (("phone", "+33612345678"), ("email", "claire@client.example"))
        await here.office.line.ok(
            m.ContactChanged, contact=claire, by="a1", name="Claire Néel", add_addresses=addresses
        )
        fields = {"name": "Claire", "email": "claire@client.example", "phone": "06 11 22 33 44", "case": "1"}
        async with here.visit(fields=fields) as visit:
            await visit.say("message", client_id="c1", text="C'est moi")
            await visit.until("status", client_id="c1")
            await visit.say("call_me", client_id="c2", phone="06 12 34 56 78")
            await visit.until("message", text="Un conseiller peut-il m’appeler au 06 12 34 56 78 ?")
        await here.office.handled()
        rows = await here.office.messages()
        assert {row["contact"] for row in rows} != {claire}
        assert len({row["contact"] for row in rows}) == 1
        contact = await here.office.stores.contacts.get(rows[0]["contact"])
        assert contact is not None
        assert contact.members == (rows[0]["contact"],)
        kept = {(each.kind, each.value) for each in contact.addresses if each.kind != "webchat"}
        assert kept == {
            ("email", "claire@client.example"),
            ("phone", "+33611223344"),
            ("phone", "+33612345678"),
        }
        same = await here.office.stores.proposals.of(rows[0]["contact"])
        assert {each.contact for each in same} == {claire}, "somebody is asked whether they are one"


async def test_a_page_without_sockets_posts_and_polls(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path, poll_s=5.0) as here:
        http, origin = here.office.http, {"Origin": ORIGIN}
        frame = {"type": "message", "client_id": "c1", "text": "Bonjour"}
        body = {"hello": {"type": "hello", "lang": "en"}, "frames": [frame, frame, {"type": "dance"}]}
        async with http.post(here.url, json=body, headers=origin) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            told = (await answer.json())["frames"]
        assert [each["type"] for each in told] == ["welcome", "status", "status", "error"]
        headers = {**origin, "Authorization": f"Bearer {told[0]['data']['token']}"}

        async def poll(after: int) -> tuple[list[dict[str, Any]], int]:
            async with http.get(here.url, params={"after": str(after)}, headers=headers) as answer:
                got = await answer.json()
                return got["frames"], got["after"]

        await here.office.handled()
        frames, after = await poll(0)
        assert [each["data"]["text"] for each in frames if each["type"] == "message"] == ["Bonjour"]
        row = (await here.office.messages())[0]
        await here.office.line.ready("a1")
        await here.office.line.ok(m.InteractionTaken, interaction=row["interaction"], advisor="a1", by="a1")

        async def said(after: int) -> list[str]:
            while True:
                frames, after = await poll(after)
                if texts := [each["data"]["text"] for each in frames if each["type"] == "message"]:
                    return texts

        waiting = asyncio.create_task(said(after))
        visitor = here.visitors.known.of_token(SITE, told[0]["data"]["token"])
        assert visitor is not None
        await here.office.until(lambda: visitor.pages, "nobody waits")
        await here.office.write(row["interaction"], "Je regarde.")
        assert await waiting == ["Je regarde."]
        async with http.post(here.url, data=b"{", headers=headers) as answer:
            assert answer.status == 400
        async with http.post(here.url, data=b"[" * 100_000, headers=headers) as answer:
            assert answer.status == 413


async def test_nothing_is_acknowledged_while_it_cannot_be_stored(database: str, tmp_path: Path) -> None:
    away = True
    hooks: list[Any] = []

    async def take(account: str, body: bytes, facts: Any) -> UUID:
        if away:
            raise Unavailable("away")
        return cast(UUID, await hooks[0].take(account, body, facts))

    async with street(database, tmp_path, take=take) as here, here.visit() as visit:
        hooks.append(here.office.hooks)
        await visit.say("message", client_id="c1", text="Bonjour")
        error = await visit.until("error")
        assert error["data"] == {"code": "unavailable", "retry_after": 2.0, "client_id": "c1"}
        away = False
        await visit.say("message", client_id="c1", text="Bonjour")
        await visit.until("status", client_id="c1")
        await visit.until("message", text="Bonjour")


async def test_visitors_are_told_when_nobody_is_there(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here:
        async with here.visit() as visit:
            (welcome,) = visit.frames
            assert welcome["data"]["open"] is False
            assert welcome["data"]["email"] == "service@postal.example"
        await here.office.line.ready("a1")
        async with here.visit() as visit:
            assert visit.frames[0]["data"]["open"] is True
        rules = here.office.line.desk.site
        shut = replace(SITE, settings={**SITE.settings, "hours": "never"})
        here.office.line.desk.site = replace(rules, accounts=(shut,), hours=(Hours("never", {}),))
        async with here.visit() as visit:
            assert visit.frames[0]["data"]["open"] is False


async def test_a_visitor_ends_the_chat_and_begins_another_in_the_same_case(
    database: str, tmp_path: Path
) -> None:
    async with street(database, tmp_path) as here, here.visit() as visit:
        interaction = await here.talking(visit)
        await visit.until("state", live=True)
        await visit.say("end", client_id="e1")
        assert (await visit.until("message", left=True))["data"]["author"]["kind"] == "system"
        assert (await visit.until("ended"))["data"] == {"by": "visitor"}
        await visit.until("state", live=False)
        await visit.say("end", client_id="e2")
        assert (await visit.until("ended"))["data"] == {"by": "visitor"}, "there is nothing to end"
        await here.office.handled()
        line = here.office.line
        row = line.desk.interaction(interaction)
        assert row is not None
        assert (row.state, row.outcome, row.advisor) == ("ended", "left", "a1")
        assert line.desk.advisor_state("a1") == "ready", "the seat is free"
        line.clock.pass_(3600)
        await visit.say("message", client_id="c9", text="Encore une question")
        await visit.until("message", text="Encore une question")
        last = (await here.office.messages())[-1]
        assert last["interaction"] != interaction
        assert last["case_id"] == row.case_id
        assert last["thread"] == row.thread


async def test_whoever_ends_the_chat_before_an_advisor_has_it_has_given_up(
    database: str, tmp_path: Path
) -> None:
    async with street(database, tmp_path) as here, here.visit() as visit:
        line = here.office.line
        await visit.say("message", client_id="c1", text="Bonjour")
        await visit.until("state", live=True)
        interaction = (await here.office.messages())[0]["interaction"]
        await line.ok(m.Enqueued, interaction=interaction, queue="general")
        await visit.until("state", waiting=True)
        line.clock.pass_(40)
        await visit.say("end", client_id="e1")
        await visit.until("ended", by="visitor")
        (event,) = [each for each in line.heard if each.type is m.T.ABANDONED]
        assert (event.interaction, event.data["in"], event.data["queue"]) == (
            interaction,
            "waiting",
            "general",
        )
        assert event.data["waited_s"] == 40.0


async def test_whoever_waits_sees_their_place_and_the_engines_estimate(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here, here.visit() as visit:
        line = here.office.line
        await line.ready("a1")
        for _ in range(5):
            served = await line.chat(address=f"psid-{line.ids()}")
            await line.talk(served)
            line.clock.pass_(100)
            await line.ok(m.InteractionClosed, interaction=served, by="a1", outcome="answered")
        for n in range(4):
            await line.chat(address=f"psid-before-{n}")
        await visit.say("message", client_id="c1", text="Bonjour")
        await visit.until("state", live=True)
        interaction = (await here.office.messages())[-1]["interaction"]
        offered = line.desk.offers()
        await line.ok(m.Enqueued, interaction=interaction, queue="general")
        told = (await visit.until("state", waiting=True))["data"]
        wait = line.desk.estimate(interaction)
        assert wait is not None
        assert told["queue_position"] == line.desk.place(interaction) == 2
        low, high = told["wait_estimate"]
        assert low <= wait[0] < wait[1] <= high
        assert low % 60 == high % 60 == 0
        before = next(row.interaction for row in offered)
        (row,) = [
            each for each in line.desk.interactions() if each.state == "waiting" and each.id != interaction
        ]
        await line.ok(m.Interrupted, interaction=row.id, reason="test")
        here.visitors.known.wake_all()
        nearer = (await visit.until("state", queue_position=1))["data"]
        assert nearer["wait_estimate"][1] <= high
        await line.ok(m.PresenceSet, advisor="a1", presence=m.Presence.PAUSE, reason="lunch")
        here.visitors.known.wake_all()
        unknown = (await visit.until("state", wait_estimate=None))["data"]
        assert unknown["queue_position"] == 1, "nobody is there: no estimate, yet a place"
        assert before != interaction


async def test_a_queue_that_tells_no_places_tells_none_and_a_place_never_gets_worse(
    database: str, tmp_path: Path
) -> None:
    async with street(database, tmp_path) as here, here.visit() as visit:
        line = here.office.line
        await visit.say("message", client_id="c1", text="Bonjour")
        await visit.until("state", live=True)
        interaction = (await here.office.messages())[-1]["interaction"]
        await line.ok(m.Enqueued, interaction=interaction, queue="general")
        assert (await visit.until("state", waiting=True))["data"]["queue_position"] == 1
        await line.chat(address="psid-vip", queue="billing")
        assert line.desk.place(interaction) == 2, "somebody who counts more has come"
        here.visitors.known.wake_all()
        visitor = here.visitors.known.of_live(interaction)
        assert visitor is not None
        assert here.visitors.shown.state(visitor)["queue_position"] == 1
        quiet = tuple(replace(queue, announce_place=False) for queue in line.desk.site.queues)
        line.desk.site = replace(line.desk.site, queues=quiet)
        here.visitors.known.wake_all()
        await visit.until("state", waiting=True, queue_position=None)


async def test_an_advisor_is_told_once_nobody_is_there_any_more(database: str, tmp_path: Path) -> None:
    account = replace(SITE, settings={**SITE.settings, "gone_after_s": "0.05"})
    async with street(database, tmp_path, account=account) as here:
        line = here.office.line
        async with here.visit() as visit, here.visit(visit.token):
            interaction = await here.talking(visit)
            token, seq = visit.token, visit.seq
        visitor = here.visitors.known.of_live(interaction)
        assert visitor is not None
        await here.office.until(lambda: visitor.left, "the pages are still open")
        left = line.clock.now()
        line.clock.pass_(60)
        await here.office.until(lambda: here.gone, "nobody was told")
        assert here.gone == [(interaction, left)]
        message = await here.office.write(interaction, "Êtes-vous encore là ?")
        await here.office.becomes(message, "sent")
        async with here.visit(token, seq) as visit:
            assert here.gone[1:] == [(interaction, None)], "back"
            assert visit.shown == ["Êtes-vous encore là ?"]
        await here.office.until(lambda: len(here.gone) == 3, "gone again")
        await line.ok(m.InteractionClosed, interaction=interaction, by="a1", outcome="answered")
        async with here.visit(token, seq):
            assert len(here.gone) == 3, "what is over needs nobody"


async def test_a_short_cut_is_not_told(database: str, tmp_path: Path) -> None:
    async with street(database, tmp_path) as here:
        async with here.visit() as visit:
            await here.talking(visit)
            token = visit.token
        async with here.visit(token):
            pass
        assert here.gone == []


async def test_after_a_restart_whoever_does_not_come_back_is_gone(database: str, tmp_path: Path) -> None:
    account = replace(SITE, settings={**SITE.settings, "gone_after_s": "0.05"})
    async with street(database, tmp_path, account=account) as here, here.visit() as visit:
        interaction = await here.talking(visit)
        told: list[tuple[UUID, datetime | None]] = []
        shown, said = here.visitors.shown, here.visitors.said
        async with Visitors(
            site=lambda: here.office.line.desk.site, channels=CHANNELS, desk=here.office.line.desk,
            messages=shown._messages, take=said._take, typed=said._typed, link=shown._link, key=b"k" * 32,
            clock=here.office.line.clock, widget=here.visitors._widget, gone=lambda *about: told.append(about),
        ):  # fmt: skip
            await here.office.until(lambda: told, "nobody was told")
            assert told == [(interaction, here.office.line.clock.now())]


async def test_an_address_that_is_left_with_a_message_is_kept_with_the_contact(
    database: str, tmp_path: Path
) -> None:
    async with street(database, tmp_path) as here, here.visit() as visit:
        for wrong in ("claire", "claire@client", "a b@client.example", f"{'x' * 250}@client.example"):
            await visit.say("message", client_id="c1", text="Bonjour", email=wrong)
            assert (await visit.until("error"))["data"]["code"] == "email"
        assert not any(frame["data"].get("reachable") for frame in visit.frames)
        await visit.say("message", client_id="c1", text="Bonjour", email=" claire@client.example ")
        await visit.until("status", client_id="c1")
        await here.office.handled()
        (row,) = await here.office.messages()
        contact = await here.office.stores.contacts.get(row["contact"])
        assert contact is not None
        assert ("email", "claire@client.example") in {(each.kind, each.value) for each in contact.addresses}
        async with here.visit(visit.token) as again:
            assert [f["data"]["reachable"] for f in again.frames if f["type"] == "welcome"] == [True]
