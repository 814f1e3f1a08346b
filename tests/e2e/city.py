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
from config.graph import Arrived, Customer, GraphDouble
from config.journey import PostOffice
from config.world import PARCELS
from cti.aio.headless import HeadlessConsole
from tests.e2e.hotline import LONG_S, Hotline, open_hotline
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
    _people: int = 0

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

    async def sql_until(self, question: str, *arguments: Any) -> Any:
        """The first value that is true."""
        found: list[Any] = []

        async def there() -> bool:
            found[:] = [await self.sql(question, *arguments)]
            return bool(found[0])

        await self.hotline.until(there)
        return found[0]

    # ---- customers on Messenger

    async def chooses_french(self, name: str, words: str = "Bonjour, une question") -> Customer:
        """A new customer whom we know by name writes, and is before the main menu."""
        self._people += 1
        customer = self.graph.customer(f"2400100020003{self._people:04}", name)
        await customer.writes(words)
        await self.told(customer, "Français ou English")
        file = await self.hotline.admin.get(f"/cases/{await self.case_of(customer)}")
        await self.hotline.admin.patch(f"/contacts/{file['contact']}", {"name": name})
        await self.graph.settled()
        await customer.taps("Français")
        await self.told(customer, "Que puis-je faire")
        await self.graph.settled()
        return customer

    async def comes(self, name: str, words: str = "Bonjour, une question") -> Customer:
        """A new customer asks for a person."""
        customer = await self.chooses_french(name, words)
        await customer.writes("je veux parler à un conseiller")
        return customer

    async def told(self, customer: Customer, words: str) -> Arrived:
        """The newest message with these words that reached a customer."""
        found = await self.graph.until(lambda: [m for m in customer.inbox if words in m.text], LONG_S)
        return found[-1]

    async def live(self, customer: Customer) -> str:
        """The interaction that goes on with a customer, once there is one."""
        question = (
            "SELECT t.live FROM thread t JOIN address_data a ON a.address = t.address WHERE a.value = $1"
        )
        return str(await self.sql_until(question, customer.psid))

    async def case_of(self, customer: Customer) -> str:
        """That of the last interaction with a customer."""
        question = (
            "SELECT i.case_id FROM interaction i JOIN thread t ON t.id = i.thread "
            "JOIN address_data a ON a.address = t.address WHERE a.value = $1 ORDER BY i.opened_at DESC LIMIT 1"
        )
        return str(await self.sql_until(question, customer.psid))

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
