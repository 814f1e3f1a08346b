"""A served hotline with everybody around it for written channels: Meta's double, the post office, parcels, a clock.

Nothing of ours is replaced: the server is `monofil serve`, its site the example with its own opening hours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import web
from ruamel.yaml import YAML

from config import journey
from config import site as site_file
from config.demo import PARCELS
from config.graph import GraphDouble
from config.journey import PostOffice
from cti.aio.headless import HeadlessConsole
from tests.e2e.hotline import Hotline, open_hotline
from tests.e2e.served import ROOT, Served, open_site

CLOCK_SEEN_S = 0.25  # the server looks at its clock file so often


class Parcels:
    """The back office that knows where parcels are; `hold` makes it slow until `release`."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._free = asyncio.Event()
        self._free.set()
        self.port = 0

    def hold(self) -> None:
        self.asked.clear()
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Parcels]:
        async def parcel(request: web.Request) -> web.Response:
            self.asked.set()
            await self._free.wait()
            found = PARCELS.get(request.match_info["number"])
            return web.json_response(found or {}, status=200 if found else 404)

        app = web.Application()
        app.router.add_get("/parcels/{number}", parcel)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            yield self
        finally:
            self._free.set()
            await runner.cleanup()


@dataclass
class City:
    """`http`, `now`, `move_to`, `sql`, `graph`, `post` and `consoles` are what config.journey.World asks for."""

    hotline: Hotline
    graph: GraphDouble
    post: PostOffice
    parcels: Parcels
    folder: Path
    clock: Clock
    moments: tuple[datetime, datetime, datetime, datetime]
    consoles: dict[str, HeadlessConsole] = field(default_factory=dict)

    @property
    def server(self) -> Served:
        return self.hotline.server

    @property
    def http(self) -> str:
        return self.server.http

    @property
    def mail_at(self) -> str:
        assert self.server.mail is not None
        return self.server.mail

    def now(self) -> datetime:
        return self.clock.now()

    async def move_to(self, moment: datetime) -> None:
        self.clock.set(moment)
        await _pass(CLOCK_SEEN_S)

    async def move_on(self, **by: float) -> None:
        """`hours=25`, as timedelta takes it."""
        await self.move_to(self.now() + timedelta(**by))

    async def sql(self, question: str, *arguments: Any) -> Any:
        connection = await asyncpg.connect(self.hotline.dsn)
        try:
            return await connection.fetchval(question, *arguments)
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def signed_in(self, login: str, *, ready: bool = True) -> AsyncIterator[HeadlessConsole]:
        made = await self.hotline.admin.post(f"/advisors/{login}/password")
        async with HeadlessConsole(self.http, login, made["password"]) as console:
            self.consoles[login] = console
            if ready:
                await console.set_presence("ready")
            try:
                yield console
            finally:
                del self.consoles[login]


@dataclass
class Clock:
    """The file that says how far the server's time is ahead of ours."""

    path: Path
    ahead_s: float = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    def set(self, moment: datetime) -> None:
        self.ahead_s = (moment - datetime.now(UTC)).total_seconds()
        beside = self.path.with_suffix(".new")
        beside.write_text(f"{self.ahead_s:.3f}\n", "utf-8")
        beside.replace(self.path)


async def _pass(seconds: float) -> None:
    """Of the real time, in which the server sees its new one."""
    gone = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, gone.set)
    await gone.wait()


@contextlib.asynccontextmanager
async def open_city(
    folder: Path,
    address: Callable[[str], str],
    *,
    env: dict[str, str] | None = None,
    **changes: dict[str, Any],
) -> AsyncIterator[City]:
    """It is ten o'clock of a working day. `changes` as tests.e2e.served.open_site takes them."""
    clock = Clock(folder / "clock")
    async with contextlib.AsyncExitStack() as stack:
        parcels = await stack.enter_async_context(Parcels().open())
        post = await stack.enter_async_context(PostOffice())
        graph = await stack.enter_async_context(
            GraphDouble(
                app_secret=journey.SECRETS["app_secret"],
                page_token=journey.SECRETS["page_token"],
                verify_token=journey.SECRETS["verify_token"],
                page_id="100200300400500",
                now=lambda: clock.now().timestamp(),
                retry_every_s=1.0,
            )
        )
        path = open_site(
            folder,
            **{
                **changes,
                "hours": YAML().load((ROOT / "config" / "site.example.yaml").read_text("utf-8"))["hours"],
                "channels": {
                    journey.PAGE: {"settings": {"page_id": "100200300400500", "api_base": graph.base}},
                    journey.BOX: {
                        "settings": {
                            "address": "service@postal.example",
                            "smtp_host": "127.0.0.1",
                            "smtp_port": str(post.port),
                        }
                    },
                }
                | changes.get("channels", {}),
            },
        )
        for tree in (folder / "trees").glob("*.yaml"):
            words = tree.read_text("utf-8").replace("127.0.0.1:8099", f"127.0.0.1:{parcels.port}")
            tree.write_text(words, "utf-8")
        checked = site_file.check(path, site_file.shipped_sounds())
        assert checked.site is not None, checked.sentences()
        office = next(hours for hours in checked.site.hours if hours.id == "bureau")
        moments = journey.moments(office, checked.site.time_zone, clock.now())
        clock.set(moments[0])
        settings = {
            "MONOFIL_LOOKUP_ALLOW": f"127.0.0.1:{parcels.port}",
            "MONOFIL_FETCH_ALLOW": "127.0.0.0/8",
            "MONOFIL_MAIL_PORT": "0",
            "MONOFIL_SESSION_HOURS": "720",
            "MONOFIL_CLOCK_FILE": str(clock.path),
            **journey.secrets_as_environment(journey.PAGE, journey.SECRETS),
            **(env or {}),
        }
        hotline = await stack.enter_async_context(open_hotline(folder, address, site=path, env=settings))
        graph.callback = f"{hotline.server.http}/hooks/{journey.PAGE}"
        yield City(hotline, graph, post, parcels, folder, clock, moments)
