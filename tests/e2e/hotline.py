"""A running hotline for a whole test module, with advisors at work and callers who do as they are told.

One server, one database and one signed-in administrator are shared by the tests of a module; each test brings its own
advisors to work and sends them home again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from config import commands
from config.settings import load
from cti.aio.headless import Frame, HeadlessConsole, Refused
from cti.aio.sessions import made_up_password
from softphone_bridge.aio.phone import Call, Phone
from tests.e2e.served import Served, open_site

LONG_S = 20.0  # to wait for what happens at once, on a machine that has other work
PHONES = {"lea": "101", "karim": "102", "emma": "103", "hugo": "104", "ines": "105"}
DIRECT = "4000"  # a number that leads to the queue `general` without a word
APART = "4001"  # and one to the queue `apart`, which only ines serves, who serves no other
QUEUE = {"record": False, "wrapup_max": "0s", "offer": {"voice": "15s"}, "hours": "bureau"}


def line(tree: str, queue: str) -> dict[str, Any]:
    """A tree that is nothing but a queue."""
    return {
        "tree": tree,
        "title": "Sans annonce",
        "languages": ["fr", "en"],
        "start": "line",
        "error": "bye",
        "nodes": {
            "line": {
                "kind": "queue",
                "queue": queue,
                "say": "hold",
                "exits": {"left": "bye", "closing": "bye", "refused": "bye"},
            },
            "bye": {"kind": "hangup", "say": "goodbye", "outcome": "served"},
        },
    }


def direct_site(folder: Path, **changes: dict[str, Any]) -> Path:
    """The example site with DIRECT and APART, whose queues neither record nor ask for wrap-up."""
    changes = {name: dict(entries) for name, entries in changes.items()}
    queues = changes.setdefault("queues", {})
    queues["general"] = QUEUE | {"needs": ["fr>=1 | en>=1"]} | queues.get("general", {})
    queues["apart"] = QUEUE | {
        "name": "À part",
        "offer": {"voice": "3s"},
        "needs": ["facturation>=5", "reclamations>=5"],
    }
    changes["advisors"] = {
        "ines": {"skills": {"facturation": 5, "reclamations": 5}, "queues": ["apart"]}
    } | changes.get("advisors", {})
    changes.setdefault("trees", {})["direct"] = line("direct", "general")
    changes["trees"]["apart"] = line("apart", "apart")
    numbers = changes.setdefault("numbers", {})
    numbers[DIRECT] = {"tree": "direct", "label": "Direct"}
    numbers[APART] = {"tree": "apart", "label": "À part"}
    return open_site(folder, **changes)


@contextlib.asynccontextmanager
async def fresh_database(address: Callable[[str], str]) -> AsyncIterator[str]:
    """The address of a migrated, empty database (as the fixture `database`, for a whole module)."""
    name = f"hotline_{uuid4().hex[:12]}"
    admin = await asyncpg.connect(address("postgres"))
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE template_monofil")
        try:
            yield address(name)
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


async def a_moment() -> None:
    """Between two questions to something that cannot tell us when it changes (HTTP, SQL, another program)."""
    gone = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, gone.set)
    await gone.wait()


@dataclass
class Person:
    """An advisor at work: a console, and a phone that may be somebody else's."""

    login: str
    console: HeadlessConsole
    phone_password: str
    phone: Phone | None = None
    seen: int = 0  # frames of this console that belong to what came before

    async def offered(self, within_s: float = LONG_S) -> Frame:
        """The next offer."""
        frame = await self.console.wait_for("offer.made", within_s=within_s, after=self.seen)
        self.seen = self.console.frames.index(frame) + 1
        return frame

    async def state(self, interaction: str, wanted: str, within_s: float = LONG_S) -> Frame:
        return await self.console.wait_for(
            "interaction.changed",
            lambda i: i["id"] == interaction and i["state"] == wanted,
            within_s=within_s,
        )

    async def presence(self, where: Callable[[Any], bool], within_s: float = LONG_S) -> Frame:
        """Until this person's presence is so, as the newest word of the console says."""
        return await self.console.wait_for(
            "presence.changed", lambda p: p["advisor"] == self.login and where(p), within_s=within_s
        )

    async def ringing(self, within_s: float = LONG_S) -> Call:
        assert self.phone is not None
        return await self.phone.next_call(within_s)


@dataclass
class Hotline:
    """The server of a module, its administrator's console, and its database."""

    server: Served
    admin: HeadlessConsole
    dsn: str
    passwords: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def sip(self) -> tuple[str, int]:
        return self.server.sip_host, self.server.sip_port

    def uri(self, number: str = DIRECT) -> str:
        return f"sip:{number}@{self.server.sip}"

    async def secrets(self, login: str) -> tuple[str, str]:
        """The passwords of an advisor's console and phone."""
        if login not in self.passwords:
            console = (await self.admin.post(f"/advisors/{login}/password"))["password"]
            phone = (await self.admin.post(f"/advisors/{login}/phone-password"))["password"]
            self.passwords[login] = console, phone
        return self.passwords[login]

    @contextlib.asynccontextmanager
    async def at_work(
        self, login: str, *, tone_hz: float = 700.0, phone: bool = True, ready: bool = True, **about: Any
    ) -> AsyncIterator[Person]:
        """An advisor signs in, registers a phone of ours unless told otherwise, is ready, and goes home at the end."""
        console_password, phone_password = await self.secrets(login)
        async with contextlib.AsyncExitStack() as stack:
            console = await stack.enter_async_context(
                HeadlessConsole(self.server.http, login, console_password)
            )
            person = Person(login, console, phone_password)
            if phone:
                person.phone = await stack.enter_async_context(
                    Phone(
                        user=PHONES[login], password=phone_password, server=self.sip, tone_hz=tone_hz, **about
                    )
                )
                await person.phone.register()
                await self.until(lambda: self.reachable(login))
            if ready:
                await console.set_presence("ready")
            try:
                yield person
            finally:
                with contextlib.suppress(Refused):
                    await console.set_presence("offline")
                if person.phone is not None:
                    with contextlib.suppress(TimeoutError):
                        await person.phone.unregister()

    async def reachable(self, login: str) -> bool:
        board = await self.admin.get("/board")
        return any(a["advisor"] == login and a["phone_registered"] for a in board["advisors"])

    async def until(self, holds: Callable[[], Any], within_s: float = LONG_S) -> None:
        """Ask again and again, from outside, until it is so."""
        async with asyncio.timeout(within_s):
            while not await holds():
                await a_moment()

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def row(self, interaction: str) -> Mapping[str, Any]:
        shown: Mapping[str, Any] = await self.admin.get(f"/interactions/{interaction}")
        return shown

    async def until_over(self, interaction: str, within_s: float = LONG_S) -> Mapping[str, Any]:
        async with asyncio.timeout(within_s):
            while (row := await self.row(interaction))["ended_at"] is None:
                await a_moment()
        return row

    async def events(self, interaction: str) -> list[str]:
        """The types of an interaction's events, in order."""
        found = await self.sql("SELECT type FROM event WHERE interaction = $1 ORDER BY seq", interaction)
        return [str(record["type"]) for record in found]

    def traces(self) -> list[str]:
        """Lines of the log that no input and no bad luck may cause."""
        text = self.server.log.read_text("utf-8", errors="replace")
        lines = [line for line in text.splitlines() if "Traceback" in line or '"exc_info"' in line]
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                if json.loads(line).get("level") in ("error", "critical"):
                    lines.append(line)
        return lines


@contextlib.asynccontextmanager
async def open_hotline(
    folder: Path,
    address: Callable[[str], str],
    *,
    site: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Hotline]:
    """A hotline with a database of its own; it must have logged no error when it closes."""
    async with fresh_database(address) as dsn:
        server = Served(
            folder,
            site=site if site is not None else direct_site(folder),
            env={"MONOFIL_DATABASE_URL": dsn, "MONOFIL_DRAIN_S": "1", **(env or {})},
        )
        async with server:
            password = made_up_password()  # without the command, which takes as long to start as a server
            await commands.set_password(load(server.env), "admin", password, phone=False)
            async with HeadlessConsole(server.http, "admin", password) as admin:
                hotline = Hotline(server, admin, dsn)
                yield hotline
        assert hotline.traces() == []
