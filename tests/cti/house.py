"""A whole console server for tests: real HTTP and WebSocket, real desk and database, a switch without SIP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import argon2
from aiohttp.test_utils import TestServer

from cti.aio.api import Console, SiteWords, Telephony, console_application
from cti.aio.control import CallControl
from cti.aio.live import Live
from cti.aio.rollcall import RollCall
from cti.aio.sessions import SignIns
from routing import models as m
from routing.aio import postgres
from routing.aio.clock import IdMaker
from routing.aio.desk import Desk
from routing.channels import MANIFESTS
from routing.site import Account, ReplyTemplate, Site
from routing.store import Stores
from tests.cti.seat import WaitingSide
from tests.fakes.switch import FakeSwitch
from tests.routing import hotline as desks

HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "right horse"


def rules(organisation: str = "test") -> Site:
    """Advisors a1 and a2, supervisor a3, admin a4, who has no phone."""
    base = desks.site(4)
    a1, a2, a3, a4 = base.advisors
    return replace(
        base,
        organisation=organisation,
        skills=("fr", "en"),
        accounts=(
            Account("page", "messenger", "Postal", settings={"page_id": "900"}, bot_name="Robo"),
            Account("post", "email", "Post", settings={"address": "post@example.org"}),
        ),
        tags=("urgent", "lost parcel"),
        reply_templates=(
            ReplyTemplate(
                "hello", "Bonjour", {"fr": "Bonjour {{ contact.name }}, ici {{ advisor.first_name }}."}
            ),
            ReplyTemplate("bill", "Facture", {"fr": "Votre facture."}, queues=("billing",)),
        ),
        advisors=(
            a1,
            a2,
            replace(a3, roles=("supervisor",)),
            replace(a4, roles=("admin",), phone=None),
        ),
    )


@dataclass
class Wire:
    """One open page."""

    socket: aiohttp.ClientWebSocketResponse
    frames: list[dict[str, Any]] = field(default_factory=list)

    async def next(self, kind: str | None = None, within_s: float = 5.0) -> dict[str, Any]:
        """The next frame of a kind; what comes before it is kept in `frames` too."""
        async with asyncio.timeout(within_s):
            while True:
                message = await self.socket.receive()
                assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
                frame = json.loads(message.data)
                self.frames.append(frame)
                if kind is None or frame["type"] == kind:
                    return dict(frame)

    async def farewell(self, within_s: float = 5.0) -> int:
        """The code with which the server closes, from its own frame: the answer to it may find nobody any more."""
        async with asyncio.timeout(within_s):
            while (message := await self.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        return int(message.data if message.type is aiohttp.WSMsgType.CLOSE else self.socket.close_code or 0)

    async def until_seq(self, seq: int) -> None:
        """Everything up to a sequence number; a ping makes sure that there is a frame to see."""
        async with asyncio.timeout(10):
            while not self.frames or self.frames[-1]["seq"] < seq:
                await self.say(type="ping")
                await self.next("pong")
                await asyncio.sleep(0)

    async def say(self, **frame: Any) -> None:
        await self.socket.send_str(json.dumps(frame))

    @property
    def seq(self) -> int:
        return int(self.frames[-1]["seq"])

    def mains(self) -> list[tuple[int, str]]:
        return [(f["seq"], f["type"]) for f in self.frames if "id" in f]


@dataclass
class Browser:
    """Somebody's browser: cookies, the token, this server's origin."""

    http: aiohttp.ClientSession
    base: str
    csrf: str = ""

    async def sign_in(self, login: str, password: str = PASSWORD) -> int:
        body = {"login": login, "password": password}
        async with self.http.post(f"{self.base}/api/v1/session", json=body) as answer:
            if answer.status == 200:
                self.csrf = (await answer.json())["csrf"]
            return answer.status

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        sent = {"Origin": self.base, "X-CSRF-Token": self.csrf, **headers}
        options: dict[str, Any] = {"headers": {k: v for k, v in sent.items() if v}}
        if body is not None:
            options["json"] = body
        whole = path if path.startswith(("/healthz", "/readyz", "/metrics", "/openapi")) else f"/api/v1{path}"
        async with self.http.request(method, f"{self.base}{whole}", **options) as answer:
            text = await answer.text(errors="replace")
            if answer.content_type in {"application/json", "application/problem+json"}:
                return answer.status, json.loads(text)
            return answer.status, text

    async def get(self, path: str) -> Any:
        status, told = await self.ask("GET", path)
        assert status == 200, told
        return told

    @asynccontextmanager
    async def page(self, after: int | None = None) -> AsyncIterator[Wire]:
        query = "" if after is None else f"?after={after}"
        url = f"{self.base}/api/v1/events{query}"
        async with self.http.ws_connect(url, headers={"Origin": self.base}, timeout=WS) as socket:
            yield Wire(socket)


WS = aiohttp.ClientWSTimeout(ws_close=1.0)


@dataclass
class House:
    line: desks.Hotline
    stores: Stores
    switch: FakeSwitch
    waiting: WaitingSide
    live: Live
    control: CallControl
    console: Console
    base: str
    stack: AsyncExitStack
    ready: list[bool]
    acts: list[tuple[UUID, str, str]] = field(default_factory=list)
    written: int = 0

    async def write(
        self,
        text: str = "Où est mon colis ?",
        who: str = "P1",
        *,
        queue: str | None = "general",
        account: str = "page",
        **more: Any,
    ) -> UUID:
        """A customer's message, in a queue when it begins something; returns its interaction."""
        self.written += 1
        channel = "messenger" if account == "page" else "email"
        fields: dict[str, Any] = {
            "interaction": self.line.ids(),
            "message": self.line.ids(),
            "account": account,
            "channel": channel,
            "seat": MANIFESTS[channel].seat,
            "external_id": f"m{self.written}",
            "address_kind": MANIFESTS[channel].address_kind,
            "address": who,
            "text": text,
            "sent_at": self.line.clock.now(),
        }
        outcome = await self.line.ok(m.MessageReceived, **(fields | more))
        interaction = next(e.interaction for e in outcome.events if e.type is m.T.MESSAGE_RECEIVED)
        assert interaction is not None
        if queue is not None and any(e.type is m.T.INTERACTION_OPENED for e in outcome.events):
            await self.line.ok(m.Enqueued, interaction=interaction, queue=queue)
        return interaction

    async def query(self, sql: str) -> list[Any]:
        """What the database holds."""
        connection = await postgres.connect(self.line.dsn)
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close()

    async def become(self, message: str, status: str, **more: Any) -> None:
        """The provider says what became of a message of ours."""
        await self.line.ok(m.MessageStatus, message=UUID(message), status=status, **more)

    async def browser(self, login: str | None = None) -> Browser:
        http = await self.stack.enter_async_context(
            aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        )
        browser = Browser(http, self.base)
        if login is not None:
            assert await browser.sign_in(login) == 200
        return browser

    async def settle(self) -> int:
        """Wait until what the desk has published is out at the pages; returns its sequence number."""
        seq = self.line.desk.seq
        await self.switch.until(lambda: self.live.told >= seq)
        return seq


@asynccontextmanager
async def house(
    database: str,
    folder: Path,
    *,
    site: Site | None = None,
    board_every_s: float = 0.05,
    inside: Callable[[], Any] | None = None,
    logins: tuple[str, ...] = ("a1", "a2", "a3", "a4"),
    grace_s: float | None = None,
) -> AsyncIterator[House]:
    """With `grace_s`, who has no page for so long is offered nothing written, as in a server."""
    site = site or rules()
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        line = await stack.enter_async_context(organisation(database, site))
        pool = await stack.enter_async_context(postgres.pool(database, size=4))
        stores = postgres.stores(pool, line.organisation, line.clock)
        hashed = HASHER.hash(PASSWORD)
        for login in logins:
            await stores.people.set_password_hash(login, hashed)
        current = [await stores.sites.apply(site, base=0, by="test")]
        switch = FakeSwitch(phones={"101", "102", "103"})
        waiting = WaitingSide(switch, line)
        controls: list[CallControl] = []
        roll = (
            None
            if grace_s is None
            else await stack.enter_async_context(
                RollCall(desk=line.desk, site=lambda: current[0].site, ids=line.ids, grace_s=grace_s)
            )
        )
        live = await stack.enter_async_context(
            Live(
                desk=line.desk,
                stores=stores,
                site=lambda: current[0].site,
                clock=line.clock,
                channels=MANIFESTS,
                inside=inside,
                recording=lambda i: controls[0].recording(i),
                board_every_s=board_every_s,
                counted=roll,
            )
        )
        control = await stack.enter_async_context(
            CallControl(
                desk=line.desk,
                switch=switch,
                pages=live,
                waiting=waiting,
                timeline=stores.timeline,
                site=lambda: current[0].site,
                clock=line.clock,
                ids=line.ids,
                organisation=line.organisation,
                sound=lambda name, language: f"{language}/{name}",
                data_dir=folder,
            )
        )
        controls.append(control)
        sign_ins = SignIns(
            stores.people,
            line.organisation,
            lambda: current[0].site,
            line.clock,
            hasher=HASHER,
            slowed=lambda address, login, failures: live.tell_roles(
                frozenset({"admin"}),
                "notice",
                {"level": "warning", "code": "guessing", "args": {"address": address, "login": login}},
            ),
        )
        ready = [True]
        acts: list[tuple[UUID, str, str]] = []

        async def act(thread: UUID, what: str, first_name: str) -> None:
            acts.append((thread, what, first_name))

        console = Console(
            stores=stores,
            desk=line.desk,
            control=control,
            live=live,
            sign_ins=sign_ins,
            site=lambda: current[0],
            clock=line.clock,
            ids=line.ids,
            data_dir=folder,
            words=SiteWords(
                check=lambda text, lang: (
                    []
                    if text.startswith("organisation:")
                    else [{"line": 1, "where": "site", "message": "no organisation", "cure": "name it"}]
                ),
                read=lambda text: replace(site, name=text.partition(":")[2].strip()),
                write=lambda s: f"organisation: {s.name}\n",
            ),
            telephony=Telephony(
                "127.0.0.1:5060",
                "monofil",
                lambda number: None if number.startswith("+33") else "not_allowed",
            ),
            ready=lambda: (ready[0], {"desk": line.desk.healthy}),
            picture=lambda tree, inside: {"id": tree.id, "version": tree.version, "inside": dict(inside)},
            secret_set=_nothing,
            channels=MANIFESTS,
            act=act,
        )

        server = TestServer(console_application(console, dist=folder / "no-dist"))
        await server.start_server()
        stack.push_async_callback(server.close)
        base = f"http://{server.host}:{server.port}"
        yield House(line, stores, switch, waiting, live, control, console, base, stack, ready, acts)
        for talk in list(switch.legs):
            switch.end(talk)
        await control.settled()
        if waiting.tasks:
            await asyncio.gather(*waiting.tasks)


@asynccontextmanager
async def organisation(database: str, site: Site) -> AsyncIterator[desks.Hotline]:
    """A desk for one of several organisations in the same database."""
    clock, ids = desks.HandClock(), IdMaker()
    connection = await postgres.connect(database)
    id_: UUID = await postgres.organisation_id(connection, site.organisation, ids, clock.now())
    await connection.close()
    heard: list[m.Event] = []
    desk = Desk(database, id_, site, clock, ids)
    desk.subscribe(heard.append)
    async with desk:
        yield desks.Hotline(database, desk, clock, id_, ids, heard)


async def _nothing() -> None:
    """No server is there whose phones would register."""
