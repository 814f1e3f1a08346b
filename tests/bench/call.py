"""How soon an advisor sees and hears of a call: from the INVITE to 100, to the phone's ring, to the pop on the page.

    python -m tests.bench.call [--quick]

A whole server with its database on the same cores. Callers go straight to a queue for which an advisor is ready, so
that nothing is measured but the house. Forty advisors have a phone of ours, registered with digest, and a console that
is signed in, confirms each pop and codes each wrap-up. Sound flows both ways and is recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp

from cti.aio.headless import Frame, HeadlessConsole, Refused
from media import sdp
from softphone_bridge.aio.endpoint import Endpoint
from softphone_bridge.stack import (
    Answered,
    Credentials,
    Ended,
    Enrolled,
    EnrolmentFailed,
    Flow,
    Invited,
    Reoffered,
    StackEvent,
    StackSettings,
    TrunkRules,
)
from tests.bench import house
from tests.bench.figures import CannotMeasure, Figures, cpu_by_tree, looped, machine, spread, tell

ADVISORS = 40
NUMBERS = 300  # callers come back after so many calls, and are then known
TALK_S = 2.0
POP_GOAL_MS = 300.0
PATIENCE_S = 10.0  # a call that has not rung by then has failed
REFERENCE_PORT = 17_890
FRAME_S = 0.02


@dataclass(slots=True)
class Story:
    """What happened to one call; times are of `time.perf_counter`."""

    call: house.Dialling
    ring: float = 0.0
    pop: float = 0.0


class Voices:
    """Everybody's sound: one timer sends a frame for each call that is up. What comes back is left to the kernel."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._free: list[socket.socket] = []
        self._speaking: dict[str, tuple[socket.socket, tuple[str, int]]] = {}
        self._count = 0
        self.late_s: list[float] = []  # how late the generator itself was

    def place(self) -> socket.socket:
        if self._free:
            return self._free.pop()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        self._sockets.append(sock)
        return sock

    def speak(self, key: str, sock: socket.socket, to: tuple[str, int]) -> None:
        self._speaking[key] = (sock, to)

    def hush(self, key: str) -> None:
        if (speaking := self._speaking.pop(key, None)) is not None:
            self._free.append(speaking[0])

    async def run(self) -> None:
        payload = bytes(range(0x50, 0x50 + 32)) * 5
        due = time.perf_counter()
        while True:
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            late = time.perf_counter() - due
            self.late_s.append(late)
            due += FRAME_S * int(late / FRAME_S)
            self._count += 1
            head = struct.pack("!BBHII", 0x80, 8, self._count & 0xFFFF, self._count * 160 & 0xFFFFFFFF, 7)
            packet = head + payload
            for sock, to in self._speaking.values():
                with contextlib.suppress(OSError):
                    sock.sendto(packet, to)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


class _Nobody:
    def ha1(self, user: str) -> tuple[str, str] | None:
        return None


class Phones:
    """The advisors' phones: one SIP endpoint with an account for each, that rings and is picked up at once."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._sockets: dict[str, socket.socket] = {}
        self._enrolled: asyncio.Queue[Enrolled | EnrolmentFailed] = asyncio.Queue()
        self.endpoint = Endpoint(
            StackSettings(host="127.0.0.1", port=0, agent="bench", session_expires_s=0),
            bind="127.0.0.1",
            hear=self._hear,
            accounts=_Nobody(),
            knows=lambda dialled: True,
            trunks=(TrunkRules("anybody", ("127.0.0.0/8",)),),
        )

    async def register(self, server: tuple[str, int], passwords: dict[str, str]) -> None:
        for user, password in passwords.items():
            self.endpoint.enrol(
                user,
                Flow("udp", *server),
                domain=f"{server[0]}:{server[1]}",
                credentials=Credentials("monofil", user, password),
                expires_s=3600,
            )
            result = await asyncio.wait_for(self._enrolled.get(), 20.0)
            if isinstance(result, EnrolmentFailed):
                raise CannotMeasure(f"the phone {user} was refused: {result.status}")

    def _hear(self, event: StackEvent) -> None:
        if isinstance(event, Enrolled | EnrolmentFailed):
            self._enrolled.put_nowait(event)
        elif isinstance(event, Invited):
            self._bench.rang(event.caller)
            self.endpoint.ring(event.leg)
            sock = self._bench.voices.place()
            raw, remote = sdp.answer(event.sdp, sdp.Local("127.0.0.1", sock.getsockname()[1], 7))
            if self.endpoint.answer(event.leg, raw):
                self._bench.voices.speak(event.leg, sock, (remote.host, remote.port))
        elif isinstance(event, Reoffered):
            self.endpoint.refuse_reoffer(event.leg, 488)
        elif isinstance(event, Ended):
            self._bench.voices.hush(event.leg)
        elif isinstance(event, Answered):
            raise AssertionError("these phones place no call")


class Bench:
    """One server, its advisors and their callers."""

    def __init__(self, opened: house.House) -> None:
        self.house = opened
        self.voices = Voices()
        self.live: dict[str, Story] = {}  # caller's number → its call
        self.stories: list[Story] = []
        self.phones = Phones(self)
        self.problems: dict[str, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._mouth: dict[str, socket.socket] = {}  # of a caller's call
        self._placed = 0

    @contextlib.asynccontextmanager
    async def staffed(self, advisors: int) -> AsyncIterator[None]:
        """Advisors at their desks: phone registered, page open, ready."""
        server = self.house.server
        async with contextlib.AsyncExitStack() as stack:
            await self.phones.endpoint.start()
            stack.push_async_callback(self.phones.endpoint.stop)
            stack.callback(self.voices.close)
            address = (server.sip_host, server.sip_port)
            self.caller = await house.BareCaller(address, self._answered).open()
            stack.callback(self.caller.close)
            admin = await stack.enter_async_context(
                HeadlessConsole(server.http, "admin", await server.password("admin"))
            )
            logins, phones = {}, {}
            for n in range(advisors):
                login = house.login(n)
                logins[login] = (await admin.post(f"/advisors/{login}/password"))["password"]
                phones[house.account(n)] = (await admin.post(f"/advisors/{login}/phone-password"))["password"]
            await self.phones.register(address, phones)
            self.consoles = {}
            for login, password in logins.items():
                console = HeadlessConsole(server.http, login, password, on_frame=partial(self._frame, login))
                self.consoles[login] = await stack.enter_async_context(console)
                await console.set_presence("ready")
            talking = asyncio.create_task(self.voices.run())
            stack.push_async_callback(self._end, talking)
            yield

    async def _end(self, talking: asyncio.Task[None]) -> None:
        for task in (talking, *self._tasks):
            task.cancel()
        await asyncio.gather(talking, *self._tasks, return_exceptions=True)

    def rang(self, number: str) -> None:
        now = time.perf_counter()
        story = self.live.get(number)
        if story is not None and not story.ring:
            story.ring = now
            asyncio.get_running_loop().call_later(TALK_S, self._hang_up, story)

    def _frame(self, login: str, frame: Frame) -> None:
        now = time.perf_counter()
        data = frame["data"]
        if frame["type"] == "offer.made":
            story = self.live.get(data["pop"]["e164"])
            if story is not None and not story.pop:
                story.pop = now
        elif frame["type"] == "interaction.changed" and data["state"] == "wrapup":
            task = asyncio.create_task(self._wrap_up(login, data["id"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if frame["type"] != "snapshot":
            self.consoles[login].frames.clear()

    async def _wrap_up(self, login: str, interaction: str) -> None:
        try:
            await self.consoles[login].post(
                f"/interactions/{interaction}/wrapup", {"code": "done", "note": ""}
            )
        except (Refused, aiohttp.ClientError) as error:
            self._problem(f"wrap-up: {error}"[:80])

    def _problem(self, what: str) -> None:
        self.problems[what] = self.problems.get(what, 0) + 1

    def _answered(self, call: house.Dialling) -> None:
        story = self.live.get(call.number)
        if story is not None:
            self.voices.speak(call.id, self._mouth[call.id], (self.house.server.sip_host, call.rtp))

    def _hang_up(self, story: Story) -> None:
        self.caller.hang_up(story.call)
        self.voices.hush(story.call.id)

    def _dial(self) -> None:
        number = f"+3361200{self._placed % NUMBERS:04}"
        self._placed += 1
        sock = self.voices.place()
        call = self.caller.dial(house.QUEUE_NUMBER, number, sock.getsockname()[1])
        self._mouth[call.id] = sock
        self.live[number] = story = Story(call)
        self.stories.append(story)

    async def at(self, rate: float, seconds: float) -> Figures:
        """Calls at `rate` a second for so long, all watched to their end."""
        self.stories, self.problems = [], {}
        self._mouth.clear()
        self.voices.late_s.clear()
        named = self.house.processes()
        before, load, began = cpu_by_tree(named), os.getloadavg()[0], time.perf_counter()
        for n in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, began + n / rate - time.perf_counter()))
            self._dial()
        took = time.perf_counter() - began
        cpu = {name: (s - before[name]) / took for name, s in cpu_by_tree(named).items()}
        for _ in range(round(PATIENCE_S / 0.05)):
            if all(story.call.ended for story in self.stories):
                break
            await asyncio.sleep(0.05)
        for story in self.stories:
            if not story.call.ended:
                self._hang_up(story)
        return self._report(rate, cpu, load)

    def _report(self, rate: float, cpu: dict[str, float], load: float) -> Figures:
        told = [s for s in self.stories if s.ring and s.pop]
        for story in self.stories:
            for wrong, what in (
                (100 not in story.call.statuses, "no 100"),
                (200 not in story.call.statuses, "no 200"),
                (not story.ring, "no ring"),
                (not story.pop, "no pop"),
                (not story.call.ended, "not ended"),
            ):
                if wrong:
                    self._problem(what)
        statuses = [s for s in self.stories if 100 in s.call.statuses]
        answers = [s for s in self.stories if 200 in s.call.statuses]
        return {
            "calls_per_s": rate,
            "calls": len(self.stories),
            "to_100": spread(s.call.statuses[100] - s.call.invited for s in statuses),
            "to_200": spread(s.call.statuses[200] - s.call.invited for s in answers),
            "to_pop": spread(s.pop - s.call.invited for s in self.stories if s.pop),
            "to_ring": spread(s.ring - s.call.invited for s in self.stories if s.ring),
            "rings_before_pop": sum(s.ring < s.pop for s in told)
            + sum(s.ring > 0 and not s.pop for s in self.stories),
            "problems": self.problems,
            "resent": self.caller.resent,
            "generator_late": spread(self.voices.late_s),
            "cores_used": {name: round(used, 3) for name, used in cpu.items()},
            "load": round(load, 2),
        }


def _print(row: Figures) -> None:
    cells = " ".join(
        f"{row[name]['p50_ms'] or 0:7.1f}{row[name]['p99_ms'] or 0:8.1f}"
        for name in ("to_100", "to_200", "to_pop", "to_ring")
    )
    used = " ".join(f"{name} {value:.2f}" for name, value in row["cores_used"].items())
    print(
        f"{row['calls_per_s']:5g}/s{row['calls']:6} {cells} {row['rings_before_pop']:6}   {used}"
        f"  load {row['load']:.1f}" + (f"  problems {row['problems']}" if row["problems"] else ""),
        flush=True,
    )


async def measure(quick: bool) -> Figures:
    reference: Figures = {"sip_answer": await house.round_trips(REFERENCE_PORT)}
    rates = ((1.0, 10.0), (5.0, 10.0)) if quick else ((1.0, 60.0), (10.0, 60.0))
    async with house.opened(ADVISORS) as opened:
        reference["commit_of_one_row"] = await house.commits(opened.dsn)
        for name, row in reference.items():
            print(
                f"reference: {name.replace('_', ' ')}: p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms",
                flush=True,
            )
        print(f"{'':7}{'calls':>6} {'100: p50':>7}{'p99':>7} {'200: p50':>7}{'p99':>7}", end="")
        print(
            f" {'pop: p50':>7}{'p99':>7} {'ring: p50':>7}{'p99':>6} {'before':>6}   cores used (times in ms)"
        )
        bench = Bench(opened)
        rows = []
        async with bench.staffed(ADVISORS):
            await bench.at(2.0, 3.0)  # warm: plans, caches, media ports
            for rate, seconds in rates:
                row = await bench.at(rate, seconds)
                _print(row)
                rows.append(row)
        wrong = [line for line in opened.server.lines() if line.get("level") in ("error", "critical")]
    for line in wrong[:5]:
        print(f"the server's log: {line.get('event')}: {str(line.get('exception', ''))[-200:]!r}")
    return {
        "reference": reference,
        "advisors": ADVISORS,
        "rates": rows,
        "errors_in_log": len(wrong),
        "pop_goal_met": all((row["to_pop"]["p99_ms"] or 1e9) < POP_GOAL_MS for row in rows),
        "all_calls_went_as_they_should": not any(row["problems"] for row in rows),
        "no_ring_before_pop_at_1_per_s": rows[0]["rings_before_pop"] == 0 < rows[0]["to_ring"]["n"],
    }


def run(quick: bool = False) -> Figures:
    """Measure; prints the table and the JSON line and returns it. About 1 min quick, 3 min else."""
    began = machine()
    return tell("call", house.ON, looped(measure(quick)), began)


if __name__ == "__main__":
    run("--quick" in sys.argv[1:])
