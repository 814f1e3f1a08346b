"""The demo: a small hotline that lives until somebody has seen enough."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import deque
from functools import partial
from typing import Any

import aiosmtplib
from rich.console import Console as Screen
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from config import journey
from config.script import Script
from config.settings import Settings
from config.world import CALLER_HZ, NUMBER, PARCELS, PHONES, World
from cti.aio.headless import Frame, Refused
from softphone_bridge.aio.phone import CallFailed, Phone

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
