"""The world of the demo: the server as a process of its own, a carrier, a parcel service, Meta's double, phones.

Advisors are people without a page (cti.aio.headless) whose desk phones are pyVoIP processes; callers are our own SIP
phones. Nothing here reaches into the server: what is shown and confirmed was seen over HTTP, SQL, SIP and RTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import web

from config import journey
from config import site as site_file
from config.child import Child, DidNotStart
from config.failures import CannotStart
from config.graph import GraphDouble
from config.journey import NotSo, PostOffice, expect
from config.settings import Settings
from cti.aio.headless import Frame, HeadlessConsole
from routing.aio import cluster
from routing.site import Hours, Site
from softphone_bridge.aio.phone import Call, Phone

HERE = Path(__file__).parent
ALWAYS = dict.fromkeys(range(7), ("00:00-24:00",))
NUMBER = "3631"
PHONES = {"lea": 1010.0, "karim": 1130.0, "ines": 1270.0}
"""Who has a desk phone in the demo, and the tone (Hz) that stands for their voice; none is in the hold music."""
CALLER_HZ = 1510.0
PARCELS = {"875000000013": {"status": "transit", "days": 2}, "875000000021": {"status": "delivered"}}
PHONE_RTP = range(45_000, 59_000, 40)
"""First audio ports of pyVoIP phones; one of them is drawn for each, so that two demos can run side by side."""


def demo_site(parcels_port: int, carrier_port: int, graph: str, smtp_port: int, *, hours: bool) -> Site:
    """The example site with the demo's parcel service, carrier, Meta and mail server, which are the demo itself.

    `hours`: open as the example says; else always.
    """
    site = _example()
    trees = json.loads(json.dumps(site.trees))
    for name in ("accueil", "messages"):
        trees[name]["variables"]["lookup_url"] = f"http://127.0.0.1:{parcels_port}"
    more = {journey.PAGE: {"api_base": graph}, journey.BOX: {"smtp_port": str(smtp_port)}}
    return replace(
        site,
        hours=site.hours if hours else tuple(Hours(each.id, ALWAYS) for each in site.hours),
        accounts=tuple(
            replace(account, settings={**account.settings, **more.get(account.id, {})})
            for account in site.accounts
        ),
        record_outgoing=True,
        trunks=tuple(replace(t, target=f"127.0.0.1:{carrier_port};transport=udp") for t in site.trunks),
        advisors=tuple(replace(advisor, shift_ends=None) for advisor in site.advisors),
        trees=trees,
    )


def _example() -> Site:
    checked = site_file.check(HERE / "site.example.yaml", site_file.shipped_sounds())
    if checked.site is None:
        raise CannotStart("\n".join(checked.sentences()))
    return checked.site


@asynccontextmanager
async def parcel_service() -> AsyncIterator[int]:
    """A back office that knows where parcels are; yields its port."""

    async def parcel(request: web.Request) -> web.Response:
        found = PARCELS.get(request.match_info["number"])
        return web.json_response(found) if found is not None else web.json_response({}, status=404)

    app = web.Application()
    app.router.add_get("/parcels/{number}", parcel)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class DeskPhone:
    """An advisor's pyVoIP phone in a process of its own (softphone_bridge.aio.deskphone)."""

    def __init__(self, login: str, account: str, tone_hz: float, *, after_s: float = 0.0) -> None:
        self.login, self.account, self.tone_hz, self.after_s = login, account, tone_hz, after_s
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, server: str, password: str) -> None:
        rtp = random.choice(PHONE_RTP)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "softphone_bridge.aio.deskphone",
            *("--server", server, "--account", self.account, "--port", str(_free_udp_port())),
            *("--rtp", f"{rtp}-{rtp + 38}", "--tone", str(self.tone_hz), "--after", str(self.after_s)),
            cwd=HERE.parent,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(password.encode() + b"\n")
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                async with self._news:
                    self.events.append(event)
                    self._news.notify_all()

    async def saw(self, event: str, *, within_s: float = 15.0, after: int = 0) -> dict[str, Any]:
        """The first event of a kind from the `after`-th on. Raises NotSo."""

        def found() -> dict[str, Any] | None:
            return next((e for e in self.events[after:] if e["event"] == event), None)

        await self._until(lambda: found() is not None, f"not {event}", within_s, after)
        it = found()
        assert it is not None
        return it

    async def talks(self, within_s: float = 15.0) -> None:
        """Wait until it has answered a call that is not over. Raises NotSo."""

        def so() -> bool:
            said = [e["event"] for e in self.events]
            return said.count("answered") > said.count("ended")

        await self._until(so, "is in no call", within_s)

    async def _until(self, so: Callable[[], bool], otherwise: str, within_s: float, after: int = 0) -> None:
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(so), within_s)
            except TimeoutError:
                seen = [e["event"] for e in self.events[after:]]
                raise NotSo(f"the phone of {self.login} said {seen}, {otherwise}") from None

    def do(self, order: str) -> None:
        if self._process is not None and self._process.stdin is not None and self._process.returncode is None:
            self._process.stdin.write(json.dumps({"do": order}).encode() + b"\n")

    async def stop(self) -> int:
        """Told to quit; one that does not in time is killed by its process id. Returns the exit code."""
        if self._process is None:
            return 0
        self.do("quit")
        try:
            code = await asyncio.wait_for(self._process.wait(), 6.0)
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        return code


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class World:
    """The server, the advisors and the callers. `async with` it.

    It always has a database of its own in `folder`: a demo must not write into a real one.
    """

    def __init__(self, settings: Settings, folder: Path, *, own_time: bool = False) -> None:
        """`own_time`: it keeps the example's opening hours and begins on a working morning; its clock can be moved."""
        self.settings = settings
        self.folder = folder
        self.own_time = own_time
        self.ahead_s = 0.0
        self.passwords: dict[str, str] = {}
        self.phone_passwords: dict[str, str] = {}
        self.phones: dict[str, DeskPhone] = {}
        self.consoles: dict[str, HeadlessConsole] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> World:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        settings, folder = self.settings, self.folder
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.parcels = await self._stack.enter_async_context(parcel_service())
        self.carrier = await self._stack.enter_async_context(Phone(user="carrier", tone_hz=CALLER_HZ))
        page = next(it.settings["page_id"] for it in _example().accounts if it.id == journey.PAGE)
        self.graph = await self._stack.enter_async_context(
            GraphDouble(
                app_secret=journey.SECRETS["app_secret"],
                page_token=journey.SECRETS["page_token"],
                verify_token=journey.SECRETS["verify_token"],
                page_id=page,
                now=lambda: self.now().timestamp(),
                retry_every_s=1.0,
            )
        )
        self.post = await self._stack.enter_async_context(PostOffice())
        self.site = demo_site(
            self.parcels, self.carrier.port, self.graph.base, self.post.port, hours=self.own_time
        )
        if self.own_time:
            office = next(hours for hours in self.site.hours if hours.id == "bureau")
            self.moments = journey.moments(office, self.site.time_zone, self.now())
            await self.move_to(self.moments[0])
        path = folder / "site.yaml"
        path.write_text(site_file.export(self.site), encoding="utf-8")
        env = {
            "MONOFIL_DATA_DIR": str(folder),
            "MONOFIL_HTTP_HOST": settings.http_host,
            "MONOFIL_HTTP_PORT": str(settings.http_port),
            "MONOFIL_SIP_HOST": settings.sip_host,
            "MONOFIL_SIP_PORT": str(settings.sip_port),
            "MONOFIL_RTP_PORTS": str(settings.rtp_ports),
            "MONOFIL_LOOKUP_ALLOW": f"127.0.0.1:{self.parcels}",
            "MONOFIL_FETCH_ALLOW": "127.0.0.0/8",
            "MONOFIL_MAIL_PORT": "0",
            "MONOFIL_SESSION_HOURS": "240",
            **({"MONOFIL_CLOCK_FILE": str(self._clock)} if self.own_time else {}),
            **journey.secrets_as_environment(journey.PAGE, journey.SECRETS),
            "MONOFIL_DRAIN_S": "2",
            **({"MONOFIL_ADVERTISED_IP": settings.advertised_ip} if settings.advertised_ip else {}),
        }
        self.server = Child(folder, arguments=(str(path),), env=env)
        try:
            await self._stack.enter_async_context(self.server)
        except DidNotStart as error:
            raise CannotStart(str(error)) from None
        await self.server.command("apply", str(path), "--force")
        self.graph.callback = f"{self.http}/hooks/{journey.PAGE}"
        self.passwords["admin"] = await self.server.password("admin")
        self.admin = await self.sign_in("admin")

    @property
    def http(self) -> str:
        return self.server.http

    @property
    def _clock(self) -> Path:
        return self.folder / "clock"

    def now(self) -> datetime:
        """The server's time."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    async def move_to(self, moment: datetime) -> None:
        """Let that time be; the server sees it within a moment."""
        self.ahead_s = (moment - datetime.now(UTC)).total_seconds()
        beside = self._clock.with_suffix(".new")
        beside.write_text(f"{self.ahead_s:.3f}\n", encoding="utf-8")
        beside.replace(self._clock)
        await asyncio.sleep(0.2)

    async def sign_in(self, login: str, on_frame: Callable[[Frame], None] | None = None) -> HeadlessConsole:
        """Sign somebody in, with a password made now."""
        if login not in self.passwords:
            answer = await self.admin.post(f"/advisors/{login}/password")
            self.passwords[login] = answer["password"]
        console = HeadlessConsole(self.server.http, login, self.passwords[login], on_frame=on_frame)
        self.consoles[login] = await self._stack.enter_async_context(console)
        return console

    async def give_phone(self, login: str, *, after_s: float = 0.0) -> DeskPhone:
        """Start the desk phone of an advisor and wait until it has registered."""
        secret = await self.admin.post(f"/advisors/{login}/phone-password")
        phone = DeskPhone(login, secret["account"], PHONES[login], after_s=after_s)
        self.phones[login] = phone
        self._stack.push_async_callback(phone.stop)
        await phone.start(self.server.sip, secret["password"])
        await phone.saw("registered")
        return phone

    async def phone_password(self, login: str) -> Mapping[str, str]:
        found: Mapping[str, str] = await self.admin.post(f"/advisors/{login}/phone-password")
        return found

    async def caller(self, number: str, tone_hz: float = CALLER_HZ, name: str = "") -> Phone:
        return await self._stack.enter_async_context(Phone(user=number, name=name, tone_hz=tone_hz))

    @property
    def dial(self) -> str:
        return f"sip:{NUMBER}@{self.server.sip}"

    async def sql(self, question: str, *arguments: Any) -> Any:
        """One value from the server's own database."""
        dsn = await cluster.running(self.folder)
        if dsn is None:
            raise NotSo("the database does not answer")
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(question, *arguments)
        finally:
            await connection.close()


class Telephone:
    """The customer's telephone in the demo: the carrier's end, and a phone of ours to dial with."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def rings(self, number: str) -> Talk:
        mark = len(self.world.phones["lea"].events)
        incoming = await self.world.carrier.next_call(20.0)
        expect(incoming.dialled == number, f"the carrier was asked for {incoming.dialled}")
        incoming.answer()
        return Talk(self.world, incoming, mark)

    async def ignores(self, number: str) -> None:
        incoming = await self.world.carrier.next_call(20.0)
        expect(incoming.dialled == number, f"the carrier was asked for {incoming.dialled}")
        lea = self.world.phones["lea"]
        await lea.talks()  # pyVoIP misses the end of a call that ends while it is still answering
        mark = len(lea.events)
        incoming.reject(486)
        await lea.saw("ended", after=mark)  # not to be taken for the end of the next call

    async def dials(self, keys: str) -> Talk:
        mark = len(self.world.phones["lea"].events)
        phone = await self.world.caller(journey.NUMBER, name="Jeanne")
        call = await phone.dial(self.world.dial)
        await call.press(keys)
        return Talk(self.world, call, mark)


class Talk:
    """One call of the journey, at the customer's end."""

    def __init__(self, world: World, call: Call, mark: int) -> None:
        self.world, self.call, self.mark = world, call, mark

    async def hears(self, advisor: str) -> str:
        heard = await self.call.wait_tone(PHONES[advisor], timeout_s=20.0)
        return f"the customer hears {heard.frequency_hz:.0f} Hz at rms {heard.rms:.0f}"

    async def hang_up(self) -> None:
        self.call.hang_up()

    async def spoke_to(self, advisor: str) -> str:
        ended = await self.world.phones[advisor].saw("ended", after=self.mark)
        expect(abs(ended["heard_hz"] - CALLER_HZ) < 50, f"{advisor} heard {ended['heard_hz']} Hz")
        return f"{advisor} heard {ended['heard_hz']:.0f} Hz"
