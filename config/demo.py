"""The demo: a small hotline that lives, and `--once`, a scripted day in a minute of which each step is confirmed.

The server is a process of its own (`monofil serve`). Advisors are people without a page (cti.aio.headless) whose desk
phones are pyVoIP processes; callers are our own SIP phones. Nothing here reaches into the server: what is shown and
confirmed was seen over HTTP, SQL, SIP and RTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import aiosmtplib
import asyncpg
from aiohttp import web
from rich.console import Console as Screen
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from config import journey
from config import site as site_file
from config.child import Child, DidNotStart
from config.failures import CannotStart
from config.graph import GraphDouble
from config.journey import Journey, NotSo, PostOffice, expect, tones, until
from config.settings import Settings
from cti.aio.headless import Frame, HeadlessConsole, Refused
from media.tone import rms, share
from routing.aio import cluster
from routing.site import Hours, Site
from softphone_bridge.aio.phone import Call, CallFailed, Phone

HERE = Path(__file__).parent
ALWAYS = dict.fromkeys(range(7), ("00:00-24:00",))
NUMBER = "3631"
PHONES = {"lea": 1010.0, "karim": 1130.0, "ines": 1270.0}
"""Who has a desk phone in the demo, and the tone (Hz) that stands for their voice; none is in the hold music."""
CALLER_HZ = 1510.0
TALK_S = 2.5  # long enough for the last two seconds to hold nothing but the other's voice
PARCELS = {"875000000013": {"status": "transit", "days": 2}, "875000000021": {"status": "delivered"}}
NEWEST = "SELECT id FROM interaction ORDER BY opened_at DESC LIMIT 1"
PHONE_RTP = range(45_000, 59_000, 40)
"""First audio ports of pyVoIP phones; one of them is drawn for each, so that two demos can run side by side."""
PEOPLE = (
    ("+33612345678", "Claire Martin"),
    ("+33687654321", "Jean Petit"),
    ("+33145678901", "Société Duval"),
    ("+33712345678", "Aïcha Benali"),
    ("+33467890123", "Marc Leroy"),
)


WRITERS = (
    ("24001000200030011", "Sophie Garnier"),
    ("24001000200030012", "Nora Haddad"),
    ("24001000200030013", "Paul Mercier"),
    ("24001000200030014", "Emily Clark"),
)
"""Who writes on Messenger; and what they write, one line after another with time to think between them."""
CHATS = (
    ("Bonjour, où est mon colis ?", "Français", "875000000013", "merci"),
    ("Bonjour", "Français", "Réclamation"),
    ("Bonsoir", "Français", "facture", "je veux un conseiller"),
    ("Hello", "English", "an advisor please", "My parcel is damaged."),
)
LETTERS = (
    ("Réclamation colis 8R123", "Bonjour,\n\nMon colis est arrivé abîmé. Que faire ?\n\nCordialement"),
    ("Facture de novembre", "Bonjour,\n\nJe ne comprends pas le montant de ma facture.\n\nMerci"),
)
ANSWERS = ("Bonjour, je m'en occupe tout de suite.", "C'est noté, nous revenons vers vous aujourd'hui.")


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

        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(lambda: found() is not None), within_s)
            except TimeoutError:
                seen = [e["event"] for e in self.events[after:]]
                raise NotSo(f"the phone of {self.login} said {seen}, not {event}") from None
        it = found()
        assert it is not None
        return it

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
        mark = len(self.world.phones["lea"].events)
        incoming.reject(486)
        await self.world.phones["lea"].saw(
            "ended", after=mark
        )  # not to be taken for the end of the next call

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


async def run(settings: Settings, *, once: bool) -> int:
    """The demo until Ctrl-C, or one scripted minute. Returns the exit code."""
    screen = Screen()
    if once:
        return await Script(settings, screen).play()
    with screen.status("Starting the server, the phones and the advisors …"):
        world = World(settings, settings.data_dir / "demo")
        await world.__aenter__()
        try:
            life = Life(world, screen)
            await life.begin()
        except BaseException:
            await world.__aexit__()
            raise
    try:
        await life.go_on()
    finally:
        screen.print("Stopping …")
        await life.end()
        await world.__aexit__()
    return 0


class Script:
    """One scripted day in a minute. Each step is told with what confirmed it; the first that is not true ends it."""

    def __init__(self, settings: Settings, screen: Screen) -> None:
        self.settings, self.screen = settings, screen
        self.steps = 0
        self.began = time.monotonic()

    async def step(self, what: str, work: Awaitable[str]) -> None:
        began = time.monotonic()
        try:
            seen = await asyncio.wait_for(work, 60.0)
        except (NotSo, TimeoutError, LookupError, Refused, CallFailed, RuntimeError) as error:
            self._tell("[red]✗[/]", what, f"{type(error).__name__}: {error}", began)
            raise NotSo(what) from error
        self.steps += 1
        self._tell("[green]✓[/]", what, seen, began)

    def _tell(self, mark: str, what: str, seen: str, began: float) -> None:
        took = time.monotonic() - began
        self.screen.print(
            f"{mark} {what} [dim]({took:.1f} s)[/]\n    [dim]{seen}[/]", highlight=False, soft_wrap=True
        )

    async def play(self) -> int:
        folder = self.settings.data_dir / "demo-once"
        shutil.rmtree(folder, ignore_errors=True)
        world = World(self.settings, folder, own_time=True)
        try:
            async with world:
                self.screen.print(f"server {world.server.http}, SIP {world.server.sip}", highlight=False)
                await self._day(world)
                codes = {login: await phone.stop() for login, phone in world.phones.items()}
                await self.step("the phones end well", _same(codes, dict.fromkeys(codes, 0), "exit codes"))
                await self.step("the server ends well", self._stopped(world))
        except NotSo as failed:
            self.screen.print(
                f"[red]not true: {failed}[/]\n{world.server.tail(15)}", markup=True, highlight=False
            )
            return 1
        took = time.monotonic() - self.began
        self.screen.print(f"{self.steps} steps, all true, in {took:.0f} s", highlight=False)
        return 0

    async def _day(self, world: World) -> None:
        self.world = world
        await self.step("the server can take calls", self._ready())
        await self.step("three pyVoIP phones register with digest", self._phones())
        await self.step("three advisors sign in; only Léa is ready", self._sign_in())
        self.claire = await world.caller("+33612345678", name="Claire")
        await self.step(
            "Claire dials, presses 1 and 2, and is talking to Léa, who saw her first", self._talk()
        )
        await self.step("each hears the other's tone", self._tones())
        await self.step("on hold Claire hears music, then Léa again", self._hold())
        await self.step("Claire hangs up; Léa wraps up; the case is solved", self._wrap_up())
        await self.step("the recording holds both voices, one on each side", self._recording())
        await self.step("a caller gives up while everybody is on a break", self._gives_up())
        await self.step("a refused call goes to the other advisor", self._refused())
        await self.step("Claire calls again: her case opens, and Léa is asked first", self._again())
        await self.step("a parcel is looked up without anybody", self._self_service())
        await self.step("Léa calls Claire from the case", self._call_out())
        await self.step("the board and the record agree", self._board())
        _, evening, morning, later = world.moments
        assert world.server.mail is not None
        await Journey(
            world, Telephone(world), self.step, evening, morning, later, mail_at=world.server.mail
        ).play()
        await self.step("the server tells why each call went where it went", self._why())
        await self.step("applying what was exported changes nothing", self._export())

    async def _ready(self) -> str:
        async with aiohttp.ClientSession() as http:
            codes = []
            for path in ("/healthz", "/readyz"):
                async with http.get(self.world.server.http + path) as answer:
                    codes.append(answer.status)
        expect(codes == [200, 200], f"healthz and readyz answer {codes}")
        return f"healthz {codes[0]}, readyz {codes[1]}"

    async def _phones(self) -> str:
        await asyncio.gather(*(self.world.give_phone(login) for login in PHONES))
        for login in PHONES:
            await self.world.admin.wait_for("presence.changed", partial(_has_phone, login))
        return ", ".join(f"{p.account} said registered" for p in self.world.phones.values())

    async def _sign_in(self) -> str:
        for login in PHONES:
            await self.world.sign_in(login)
        await self.world.consoles["lea"].set_presence("ready")
        ready = await self.world.sql("SELECT array_agg(advisor) FROM advisor_state WHERE presence = 'ready'")
        return await _same(ready, ["lea"], "ready in SQL")

    async def _talk(self) -> str:
        lea = self.world.consoles["lea"]
        mark = len(lea.frames)
        self.call = await self.claire.dial(self.world.dial)
        await self.call.press("12")
        offer = (await lea.wait_for("offer.made", within_s=20.0, after=mark))["data"]
        self.interaction, self.case = offer["interaction"]["id"], offer["interaction"]["case"]
        await self.world.phones["lea"].saw("answered")
        await lea.wait_for("interaction.changed", lambda i: i["state"] == "active", after=mark)
        missed = await self.world.sql(
            "SELECT shown_missed FROM offer WHERE interaction = $1", self.interaction
        )
        path = " › ".join(step["node"] for step in offer["pop"]["path"])
        expect(missed is False, f"the pop was shown too late: {missed}")
        expect(offer["pop"]["e164"] == "+33612345678", f"the pop says {offer['pop']['e164']}")
        return f"pop with {offer['pop']['e164']}, path {path}, case {offer['pop']['case']['number']}, before the ring"

    async def _tones(self) -> str:
        heard = await self.call.wait_tone(PHONES["lea"], timeout_s=15.0)
        return f"Claire hears {heard.frequency_hz:.0f} Hz at rms {heard.rms:.0f}; Léa's side is told when they end"

    async def _hold(self) -> str:
        lea = self.world.consoles["lea"]
        await lea.post(f"/interactions/{self.interaction}/hold")
        await lea.wait_for("interaction.changed", lambda i: i["held"])
        await until(lambda: self._music(self.call), "music on hold", 5.0)
        music = self.call.measure(0.5)
        await lea.post(f"/interactions/{self.interaction}/resume")
        again = await self.call.wait_tone(PHONES["lea"])
        return f"music at rms {music.rms:.0f}, then {again.frequency_hz:.0f} Hz"

    def _music(self, call: Call) -> bool:
        heard = call.heard(0.5)
        return rms(heard) > 100 and share(heard, PHONES["lea"]) < 0.05

    async def _wrap_up(self) -> str:
        lea, phone = self.world.consoles["lea"], self.world.phones["lea"]
        mark = len(lea.frames)
        await asyncio.sleep(TALK_S)
        self.call.hang_up()
        ended = await phone.saw("ended")
        expect(abs(ended["heard_hz"] - CALLER_HZ) < 50, f"Léa's phone heard {ended['heard_hz']} Hz")
        await lea.wait_for("interaction.changed", lambda i: i["state"] == "wrapup", after=mark)
        body = {"code": "colis_retrouve", "note": "Colis retrouvé à l'agence de Lyon."}
        await lea.post(f"/interactions/{self.interaction}/wrapup", body)
        state = await self.world.sql("SELECT state FROM case_file WHERE id = $1", self.case)
        expect(state == "solved", f"the case is {state}")
        return f"Léa's phone heard {ended['heard_hz']:.0f} Hz; in SQL the case is {state}"

    async def _recording(self) -> str:
        await until(self._recorded, "recording in SQL", 10.0)
        found = await self.world.sql("SELECT id FROM recording WHERE interaction = $1", self.interaction)
        raw = await self.world.consoles["lea"].get(f"/recordings/{found}")
        left, right = tones(raw)
        expect(
            abs(left - CALLER_HZ) < 50 and abs(right - PHONES["lea"]) < 50, f"{left:.0f} and {right:.0f} Hz"
        )
        return f"left {left:.0f} Hz, right {right:.0f} Hz"

    async def _recorded(self) -> bool:
        question = "SELECT count(*) FROM recording WHERE interaction = $1"
        return bool(await self.world.sql(question, self.interaction))

    async def _gives_up(self) -> str:
        await self.world.consoles["lea"].set_presence("pause", "break")
        admin = self.world.admin
        mark = len(admin.frames)
        caller = await self.world.caller("+33687654321")
        call = await caller.dial(self.world.dial)
        await call.press("12")
        await until(lambda: call.measure(0.5).rms > 100, "something to hear while waiting", 15.0)
        await until(lambda: self._in_state("waiting"), "waiting caller in SQL", 15.0)
        call.hang_up()
        await until(lambda: self._in_state("abandoned"), "abandoned call in SQL", 10.0)
        offers = [f for f in admin.frames[mark:] if f["type"] == "offer.made"]
        expect(not offers, "somebody on a break was offered the call")
        return "state abandoned in SQL, and nobody was rung"

    async def _in_state(self, state: str) -> bool:
        """Is the newest interaction in this state?"""
        question = "SELECT state FROM interaction ORDER BY opened_at DESC LIMIT 1"
        return bool(await self.world.sql(question) == state)

    async def _refused(self) -> str:
        lea, karim = self.world.consoles["lea"], self.world.consoles["karim"]
        await lea.set_presence("ready")
        await karim.set_presence("ready")
        marks = {console: len(console.frames) for console in (lea, karim)}
        caller = await self.world.caller("+33145678901")
        process = asyncio.create_task(caller.dial(self.world.dial))
        call = await process
        await call.press("12")
        offers = [
            asyncio.create_task(console.wait_for("offer.made", within_s=20.0, after=mark))
            for console, mark in marks.items()
        ]
        done, _ = await asyncio.wait(offers, return_when=asyncio.FIRST_COMPLETED)
        first = list(marks)[offers.index(next(iter(done)))]
        other = karim if first is lea else lea
        offer = next(iter(done)).result()["data"]
        await first.post(f"/offers/{offer['id']}/refuse", {"reason": "refused"})
        second = await offers[list(marks).index(other)]
        expect(second["data"]["interaction"]["id"] == offer["interaction"]["id"], "another call came between")
        await other.wait_for(
            "interaction.changed", lambda i: i["state"] == "active", within_s=20.0, after=marks[other]
        )
        await call.wait_tone(PHONES[other.login], timeout_s=15.0)
        call.hang_up()
        await self._finish(other, offer["interaction"]["id"], marks[other])
        return f"{first.login} refused, {other.login} answered and was heard"

    async def _finish(
        self, console: HeadlessConsole, interaction: str, mark: int, code: str = "enquete"
    ) -> None:
        await console.wait_for(
            "interaction.changed", lambda i: i["id"] == interaction and i["state"] == "wrapup", after=mark
        )
        await console.post(f"/interactions/{interaction}/wrapup", {"code": code, "note": ""})

    async def _again(self) -> str:
        lea = self.world.consoles["lea"]
        mark = len(lea.frames)
        call = await self.claire.dial(self.world.dial)
        await call.press("12")
        offer = (await lea.wait_for("offer.made", within_s=20.0, after=mark))["data"]
        expect(offer["interaction"]["case"] == self.case, "another case was opened")
        expect(offer["pop"]["last_advisor"] == "lea", f"the last advisor is {offer['pop']['last_advisor']}")
        await call.wait_tone(PHONES["lea"], timeout_s=20.0)
        call.hang_up()
        await self._finish(lea, offer["interaction"]["id"], mark)
        return f"case {offer['pop']['case']['number']} reopened, kind {offer['pop']['kind']}"

    async def _self_service(self) -> str:
        caller = await self.world.caller("+33712345678")
        call = await caller.dial(self.world.dial)
        parcel = next(iter(PARCELS))
        await call.press("11" + parcel + ",,1")
        await until(self._in_transit, "parcel in transit in SQL", 30.0)
        call.hang_up()
        offers = await self.world.sql(f"SELECT count(*) FROM offer WHERE interaction = ({NEWEST})")  # noqa: S608
        expect(offers == 0, "an advisor was asked")
        return f"parcel {parcel} is in transit, nobody was rung"

    async def _in_transit(self) -> bool:
        question = f"SELECT facts->>'status' FROM interaction_data WHERE interaction = ({NEWEST})"  # noqa: S608
        return bool(await self.world.sql(question) == "transit")

    async def _call_out(self) -> str:
        lea = self.world.consoles["lea"]
        mark, phone_mark = len(lea.frames), len(self.world.phones["lea"].events)
        case = await lea.get(f"/cases/{self.case}")
        contact = await lea.get(f"/contacts/{case['contact']}")
        placed = await lea.post(f"/cases/{self.case}/call", {"address": contact["addresses"][0]["id"]})
        incoming = await self.world.carrier.next_call(20.0)
        expect(incoming.dialled == "+33612345678", f"the carrier was asked for {incoming.dialled}")
        incoming.answer()
        heard = await incoming.wait_tone(PHONES["lea"], timeout_s=15.0)
        await asyncio.sleep(TALK_S)
        incoming.hang_up()
        ended = await self.world.phones["lea"].saw("ended", after=phone_mark)
        await self._finish(lea, placed["interaction"], mark)
        same = await self.world.sql("SELECT case_id FROM interaction WHERE id = $1", placed["interaction"])
        expect(str(same) == self.case, "the call is not in the case")
        return f"customer heard {heard.frequency_hz:.0f} Hz, Léa {ended['heard_hz']:.0f} Hz, same case"

    async def _board(self) -> str:
        board = await self.world.admin.get("/board")
        answered = sum(row["answered"] for row in board["rows"])
        abandoned = sum(row["abandoned"] + row["short_abandoned"] for row in board["rows"])
        record = await self.world.sql(
            "SELECT count(*) FROM interaction WHERE direction = 'in' AND accepted_at IS NOT NULL AND opened_at >= $1",
            await self.world.sql("SELECT date_trunc('day', max(opened_at)) FROM interaction"),
        )
        expect(answered == record, f"the board says {answered} answered, SQL {record}")
        stuck = await self.world.sql("SELECT count(*) FROM interaction WHERE ended_at IS NULL")
        expect(stuck == 0, f"{stuck} interactions are not over")
        return f"{answered} answered, {abandoned} abandoned, none left open"

    async def _why(self) -> str:
        told = await self.world.server.command("why", self.interaction)
        expect("lea" in told.lower() or "Léa" in told, f"it says: {told[:200]}")
        return told.strip().splitlines()[0]

    async def _export(self) -> str:
        path = self.world.folder / "exported.yaml"
        path.write_text(await self.world.server.command("export"), encoding="utf-8")
        before = await self.world.sql("SELECT max(version) FROM site")
        await self.world.server.command("apply", str(path))
        return await _same(
            await self.world.sql("SELECT max(version) FROM site"), before, "version of the site"
        )

    async def _stopped(self, world: World) -> str:
        for console in world.consoles.values():
            await console.close()
        return await _same(await world.server.stop(), 0, "exit code")


def _has_phone(login: str, presence: dict[str, Any]) -> bool:
    return bool(presence["advisor"] == login and presence["phone_registered"])


async def _same(got: Any, expected: Any, what: str) -> str:
    expect(got == expected, f"{what}: {got} instead of {expected}")
    return f"{what}: {got}"


class Life:
    """Advisors who work and callers who call, until somebody has seen enough."""

    def __init__(self, world: World, screen: Screen) -> None:
        self.world, self.screen = world, screen
        self.happened: deque[Text] = deque(maxlen=14)
        self.board: dict[str, Any] = {"rows": [], "advisors": []}
        self.last_news: dict[str, tuple[str, str, bool]] = {}
        self.calling: set[str] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.chance = random.Random()

    async def begin(self) -> None:
        await asyncio.gather(
            *(self.world.give_phone(login, after_s=1.0 + place) for place, login in enumerate(PHONES))
        )
        self.watcher = await self.world.sign_in("nadia", self._seen)
        for login in PHONES:
            console = await self.world.sign_in(login, partial(self._advisor, login))
            await console.set_presence("ready")
        self.own_phone = await self.world.phone_password("emma")
        self.world.passwords.setdefault(
            "emma", (await self.world.admin.post("/advisors/emma/password"))["password"]
        )
        await self._introduce_people()

    async def _introduce_people(self) -> None:
        """Callers whom the hotline knows by name."""
        for number, name in PEOPLE[:3]:
            if not (await self.world.admin.get(f"/contacts?text={number.removeprefix('+')}"))["items"]:
                await self.world.admin.post(
                    "/contacts", {"name": name, "addresses": [{"kind": "phone", "value": number}]}
                )

    def _seen(self, frame: Frame) -> None:
        data = frame["data"]
        match frame["type"]:
            case "snapshot":
                self.board = data["board"]
            case "board.changed":
                self.board = data

    def _say(self, text: str) -> None:
        self.happened.append(Text(f"{time.strftime('%H:%M:%S')}  {text}"))

    def _advisor(self, login: str, frame: Frame) -> None:
        """What the advisor sees is told; what they do by hand is done: answer what is written, wrap up calls."""
        if frame["type"] == "offer.made" and frame["data"]["interaction"]["seat"] != "voice":
            self._go(self._answer(login, frame["data"]))
        if frame["type"] != "interaction.changed":
            return
        it = frame["data"]
        news = (it["id"], it["state"], it["held"])
        if news != self.last_news.get(login):
            self.last_news[login] = news
            queue = next((q.name for q in self.world.site.queues if q.id == it["queue"]), "")
            self._say(
                f"{it['contact_name'] or it['address']}: {it['state']} · {login} · {queue} · case {it['case_number']}"
            )
        if it["state"] == "wrapup":
            self._go(self._wrap_up(login, it))

    async def _wrap_up(self, login: str, interaction: dict[str, Any]) -> None:
        await asyncio.sleep(self.chance.uniform(2, 6))
        codes = next((q.wrapup_codes for q in self.world.site.queues if q.id == interaction["queue"]), ())
        body = {"code": self.chance.choice(codes) if codes else None, "note": "Note de démonstration."}
        with contextlib.suppress(Refused):
            await self.world.consoles[login].post(f"/interactions/{interaction['id']}/wrapup", body)

    async def _answer(self, login: str, offer: dict[str, Any]) -> None:
        console, interaction = self.world.consoles[login], offer["interaction"]["id"]
        codes = next(
            (q.wrapup_codes for q in self.world.site.queues if q.id == offer["interaction"]["queue"]), ()
        )
        with contextlib.suppress(Refused):
            await asyncio.sleep(self.chance.uniform(1, 4))
            await console.accept(offer["id"])
            for words in ANSWERS:
                await console.post(f"/interactions/{interaction}/typing", {"on": True})
                await asyncio.sleep(self.chance.uniform(3, 8))
                await console.reply(interaction, words)
            await asyncio.sleep(self.chance.uniform(5, 15))
            code = self.chance.choice(codes) if codes else None
            await console.close_interaction(interaction, "answered", code=code)

    async def _chat(self, psid: str, name: str) -> None:
        """Somebody writes on Messenger, and taps a button where one fits."""
        customer = self.world.graph.customer(psid, name)
        self.calling.add(psid)
        try:
            for words in self.chance.choice(CHATS):
                with contextlib.suppress(TimeoutError):
                    await self.world.graph.settled()
                self._say(f"{name} writes on Messenger: {words}")
                try:
                    await customer.taps(words)
                except LookupError:
                    await customer.writes(words)
                await asyncio.sleep(self.chance.uniform(4, 9))
            await customer.reads()
        finally:
            self.calling.discard(psid)

    async def _write(self) -> None:
        """Somebody sends an email."""
        assert self.world.server.mail is not None
        _, name = self.chance.choice(WRITERS)
        subject, words = self.chance.choice(LETTERS)
        self._say(f"{name} sends an email: {subject}")
        with contextlib.suppress(OSError, aiosmtplib.SMTPException):
            address = name.lower().replace(" ", ".") + "@client.example"
            box = next(it.settings["address"] for it in self.world.site.accounts if it.id == journey.BOX)
            await journey.send_letter(name, address, box, subject, words, self.world.server.mail)

    async def _call(self, number: str, name: str) -> None:
        keys = self.chance.choice(("12", "13", "10", "22", "11" + next(iter(PARCELS)) + ",,1"))
        patience_s = self.chance.uniform(20, 70)
        self._say(f"{name} dials {NUMBER}, keys {keys[:2]}")
        self.calling.add(number)
        try:
            await self._talk(number, name, keys, patience_s)
        finally:
            self.calling.discard(number)
        self._say(f"{name} has hung up")

    async def _talk(self, number: str, name: str, keys: str, patience_s: float) -> None:
        async with Phone(user=number, name=name, tone_hz=CALLER_HZ) as phone:
            with contextlib.suppress(CallFailed, TimeoutError):
                call = await phone.dial(self.world.dial)
                await call.press(keys)
                with contextlib.suppress(TimeoutError):
                    await call.wait_ended(patience_s)
                call.hang_up()
                await call.wait_ended(5.0)

    def _go(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def go_on(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        self._introduce()
        with Live(self._picture(), screen=False, console=self.screen, refresh_per_second=4) as shown:
            next_call, next_word = 0.0, time.monotonic() + 3
            while not stop.is_set() and self.world.server.running:
                idle = [person for person in PEOPLE if person[0] not in self.calling]
                if time.monotonic() >= next_call and idle:
                    self._go(self._call(*self.chance.choice(idle)))
                    next_call = time.monotonic() + self.chance.uniform(4, 12)
                writers = [person for person in WRITERS if person[0] not in self.calling]
                if time.monotonic() >= next_word and writers:
                    chats = self.chance.random() < 0.7
                    self._go(self._chat(*self.chance.choice(writers)) if chats else self._write())
                    next_word = time.monotonic() + self.chance.uniform(8, 20)
                shown.update(self._picture())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 0.5)

    async def end(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _introduce(self) -> None:
        world = self.world
        logins = Table(box=None, padding=(0, 2), show_header=True, header_style="bold")
        for heading in ("login", "password", "role"):
            logins.add_column(heading)
        roles = {advisor.id: ", ".join(advisor.roles) for advisor in world.site.advisors}
        for login in ("emma", "nadia", "admin", *PHONES):
            logins.add_row(login, world.passwords[login], roles[login])
        self.screen.print(f"[bold]Console[/] {world.server.http}\n")
        self.screen.print(logins)
        self.screen.print(
            f"\n[bold]Your own softphone[/]: server {world.server.sip}, user {self.own_phone['account']}, "
            f"password {self.own_phone['password']} (it is Emma's: sign in as emma, set yourself ready).\n"
            f"Or dial {world.dial} from any SIP phone on this machine. Ctrl-C ends it.\n",
            highlight=False,
        )

    def _picture(self) -> Group:
        queues = Table(title="Queues", box=None, title_justify="left", padding=(0, 1))
        for heading in ("queue", "channel", "waiting", "longest", "answered", "abandoned"):
            left = heading in ("queue", "channel")
            queues.add_column(
                heading,
                justify="left" if left else "right",
                no_wrap=True,
                min_width=20 if heading == "queue" else None,
            )
        for row in self.board["rows"]:
            longest = f"{row['longest_wait_s']:.0f} s" if row["waiting"] else "–"
            numbers = (row["waiting"], longest, row["answered"], row["abandoned"])
            queues.add_row(row["name"], row["channel"], *map(str, numbers))
        advisors = Table(title="Advisors", box=None, title_justify="left", padding=(0, 2))
        for heading in ("advisor", "presence", "work", "phone"):
            advisors.add_column(heading)
        for seat in self.board["advisors"]:
            phone = "registered" if seat["phone_registered"] else "–"
            advisors.add_row(seat["first_name"], seat["presence"], seat["work"], phone)
        whole = Table.grid(padding=(0, 3))
        whole.add_row(queues, advisors)
        return Group(whole, Panel(Text("\n").join(self.happened), title="what happens", border_style="dim"))
