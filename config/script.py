"""A scripted week of the hotline in a minute, of which each step is confirmed from outside (`monofil demo --once`)."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any

import aiohttp
from rich.console import Console as Screen

from config.journey import Journey, NotSo, expect, tones, until
from config.settings import Settings
from config.world import CALLER_HZ, PARCELS, PHONES, Telephone, World
from cti.aio.headless import HeadlessConsole, Refused
from media.tone import rms, share
from softphone_bridge.aio.phone import Call, CallFailed

TALK_S = 2.5  # long enough for the last two seconds to hold nothing but the other's voice
NEWEST = "SELECT id FROM interaction ORDER BY opened_at DESC LIMIT 1"


class Script:
    """One scripted week in a minute. Each step is told with what confirmed it; the first that is not true ends it."""

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
