"""A whole desk at work: how soon a hundred advisors see what happens, at what cost, and whether it stays so.

    python -m tests.bench.desk [--quick]

A whole server with its database on the same cores. A hundred advisors have a phone of ours and a console; customers
write on Messenger, are offered, accepted, answered by every second message and closed after six; callers go straight
to the queue, are answered, recorded and coded. Three times are told: from an event (the time in its frame) to each
console that is told of it; from a customer's message (its POST) to the console of who talks with them; from a call's
INVITE to its pop. The server's memory is read all the while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

from cti.aio.headless import Frame, Refused
from tests.bench import call, house, webhooks
from tests.bench.figures import Figures, cpu_by_tree, looped, machine, spread, tell

ADVISORS = 100
MESSAGES_PER_S, CALLS_PER_S = 30.0, 1.0
GOAL_MS = 500.0
LETTERS = 6  # messages of a customer until the advisor closes
NEW_SHARE = 1 / LETTERS  # of the messages, from customers who were not there
WARM_S = 10.0
MEMORY_EVERY_S = 1.0
FLAT_SHARE = 0.05  # memory that grows by less from the middle of the run to its end is flat
PATIENCE_S = 15.0
SEED = 20261122


@dataclass(slots=True)
class Talk:
    """A customer who is being served."""

    customer: int
    interaction: str
    login: str
    heard: int = 1  # messages of theirs
    over: str | None = None  # our last word
    busy: bool = False  # being answered or closed


class Provider:
    """Takes what we send to customers, as Messenger's API would, and says yes."""

    def __init__(self) -> None:
        self.taken = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/{version}/{page}/{edge}", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.taken += "message" in body
        to = body.get("recipient", {}).get("id", "")
        return web.json_response(
            {"recipient_id": to, "message_id": f"m_out_{self.taken}", "id": f"{self.taken}"}
        )


class Bench(call.Bench):
    """The calls of the call bench, and customers who write beside them."""

    def __init__(self, opened: house.House, writer: webhooks.Writer) -> None:
        super().__init__(opened)
        self.writer = writer
        self.random = random.Random(SEED)
        self.talks: dict[str, Talk] = {}  # interaction → its talk
        self.event_s: list[float] = []
        self.message_s: list[float] = []
        self.frames = 0
        self.closed = 0
        self._seen: set[int] = set()
        self._customer_of: dict[int, int] = {}  # message's number → who wrote it
        self._customers = 0
        self._writing: set[asyncio.Task[Any]] = set()

    def _frame(self, login: str, frame: Frame) -> None:
        now, clock = time.perf_counter(), time.time()
        kind, data = frame["type"], frame["data"]
        self.frames += 1
        if frame.get("id"):
            self.event_s.append(clock - datetime.fromisoformat(frame["time"]).timestamp())
        if kind == "offer.made" and data["interaction"]["seat"] == "chat":
            self._offered(login, data)
        elif kind == "message.added":
            self._message(login, data["message"], now)
        elif kind == "offer.made" or (kind == "interaction.changed" and data["seat"] == "voice"):
            super()._frame(login, frame)
        if kind != "snapshot" and login in self.consoles:
            self.consoles[login].frames.clear()

    def _offered(self, login: str, offer: dict[str, Any]) -> None:
        for message in offer["pop"]["last_messages"]:
            number = webhooks.number_in(message["text"])
            if number in self._customer_of:
                talk = Talk(self._customer_of[number], offer["interaction"]["id"], login, busy=True)
                self._go(self._accept(talk, offer["id"]))
                return

    def _message(self, login: str, message: dict[str, Any], now: float) -> None:
        number = webhooks.number_in(message["text"])
        if message["direction"] != "in" or number is None:
            return
        if number not in self._seen and number in self.writer.sent:
            self._seen.add(number)
            self.message_s.append(now - self.writer.sent[number])
        talk = self.talks.get(message["interaction"])
        if talk is None or talk.login != login or talk.busy:
            return
        if talk.heard >= LETTERS:
            self._go(self._close(talk))
        elif talk.heard % 2 == 0:
            self._go(self._answer(talk))

    def _go(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, talk: Talk, offer: str) -> None:
        async with self._act(talk, "accept"):
            await self.consoles[talk.login].accept(offer)
            self.talks[talk.interaction] = talk

    async def _answer(self, talk: Talk) -> None:
        async with self._act(talk, "reply"):
            message = str(uuid4())
            await self.consoles[talk.login].reply(
                talk.interaction, "Il arrive demain.", message=message, over=talk.over
            )
            talk.over = message

    async def _close(self, talk: Talk) -> None:
        self.talks.pop(talk.interaction, None)
        async with self._act(talk, "close"):
            await self.consoles[talk.login].close_interaction(talk.interaction, code="done")
            self.closed += 1

    @contextlib.asynccontextmanager
    async def _act(self, talk: Talk, what: str) -> AsyncIterator[None]:
        talk.busy = True
        try:
            yield
        except (Refused, aiohttp.ClientError, TimeoutError) as error:
            self._problem(f"{what}: {error}"[:160])
        finally:
            talk.busy = False

    def _write(self, due: float) -> None:
        """A message of somebody new, or of somebody who is being served."""
        waiting = [talk for talk in self.talks.values() if not talk.busy and talk.heard < LETTERS]
        if not waiting or self.random.random() < NEW_SHARE:
            self._customers += 1
            customer = self._customers
        else:
            talk = self.random.choice(waiting)
            talk.heard += 1
            customer = talk.customer
        number = self.writer.number()
        self._customer_of[number] = customer
        task = asyncio.create_task(self.writer.write(customer, due, number))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def work(self, messages_per_s: float, calls_per_s: float, seconds: float) -> None:
        """Messages and calls at these rates, each when its time has come."""
        began = time.perf_counter()
        wanted = [(n / messages_per_s, self._write) for n in range(round(messages_per_s * seconds))]
        wanted += [(n / calls_per_s, lambda due: self._dial()) for n in range(round(calls_per_s * seconds))]
        for after, do in sorted(wanted, key=lambda it: it[0]):
            due = began + after
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            do(due)

    async def measured(self, seconds: float) -> Figures:
        server = self.house.server.pid
        self.stories, self.problems, self.event_s, self.message_s, self.frames = [], {}, [], [], 0
        self._mouth.clear()
        self.writer.forget()
        self._seen.clear()
        named = self.house.processes()
        before, load, began = cpu_by_tree(named), os.getloadavg()[0], time.perf_counter()
        closed = self.closed
        memory = [resident_mb(server)]
        watching = asyncio.create_task(self._watch(server, memory))
        try:
            await self.work(MESSAGES_PER_S, CALLS_PER_S, seconds)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        took = time.perf_counter() - began
        memory.append(resident_mb(server))
        cpu = {name: (s - before[name]) / took for name, s in cpu_by_tree(named).items()}
        for _ in range(round(PATIENCE_S / 0.05)):
            if not self._writing and all(story.call.ended and story.pop for story in self.stories):
                break
            await asyncio.sleep(0.05)
        middle = memory[len(memory) // 2]
        return {
            "messages": len(self.writer.sent),
            "calls": len(self.stories),
            "closed": self.closed - closed,
            "talks_open": len(self.talks),
            "answers": self.writer.statuses,
            "frames_per_s": round(self.frames / took),
            "event_to_console": spread(self.event_s),
            "message_to_console": spread(self.message_s),
            "invite_to_pop": spread(s.pop - s.call.invited for s in self.stories if s.pop),
            "no_pop": sum(not story.pop for story in self.stories),
            "problems": self.problems,
            "generator_late": spread(self.writer.late),
            "server_mb": {
                "start": memory[0],
                "middle": middle,
                "end": memory[-1],
                "greatest": max(memory),
                "growth_in_second_half": round(memory[-1] / middle - 1, 4),
            },
            "cores_used": {name: round(used, 3) for name, used in cpu.items()},
            "load": round(load, 2),
        }

    async def _watch(self, pid: int, memory: list[float]) -> None:
        while True:
            await asyncio.sleep(MEMORY_EVERY_S)
            memory.append(resident_mb(pid))


def resident_mb(pid: int) -> float:
    """What a process holds in memory (VmRSS), in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


async def measure(quick: bool) -> Figures:
    seconds = 20.0 if quick else 120.0
    provider = Provider()
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(provider.open())
        more = webhooks.account(api_base=api)
        opened = await stack.enter_async_context(house.opened(ADVISORS, env=webhooks.ENVIRONMENT, more=more))
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=webhooks.CONNECTIONS))
        )
        reference = await house.commits(opened.dsn)
        print(f"reference: commit of one row: p50 {reference['p50_ms']} ms, p99 {reference['p99_ms']} ms")
        bench = Bench(opened, webhooks.Writer(opened.server.http, http))
        async with bench.staffed(ADVISORS):
            print(f"{ADVISORS} phones are registered, {ADVISORS} consoles are open", flush=True)
            await bench.work(MESSAGES_PER_S, CALLS_PER_S, WARM_S)
            await webhooks.looked_at(opened.dsn)
            row = await bench.measured(seconds)
        errors = webhooks.complaints(opened)
    for name in ("event_to_console", "message_to_console", "invite_to_pop"):
        print(
            f"{name.replace('_', ' ')}: {row[name]['n']} times, p50 {row[name]['p50_ms']} ms,"
            f" p99 {row[name]['p99_ms']} ms, longest {row[name]['max_ms']} ms"
        )
    used = " ".join(f"{name} {value:.2f}" for name, value in row["cores_used"].items())
    told = ", ".join(f"{name} {value}" for name, value in row["server_mb"].items())
    print(f"{row['frames_per_s']} frames/s; cores: {used}  load {row['load']:.1f}; the server's MB: {told}")
    if row["problems"]:
        print(f"problems: {row['problems']}")
    times = [row[name]["p99_ms"] or 1e9 for name in ("event_to_console", "message_to_console")]
    return {
        "reference": {"commit_of_one_row": reference},
        "advisors": ADVISORS,
        "seconds": seconds,
        "seed": SEED,
        "sent_to_customers": provider.taken,
        **row,
        "errors_in_log": errors,
        "goal_met": max(times) < GOAL_MS,
        "memory_flat": row["server_mb"]["growth_in_second_half"] < FLAT_SHARE,
    }


def run(quick: bool = False) -> Figures:
    """Measure; prints lines and the JSON line and returns it. About a minute and a half quick, 3 min else."""
    began = machine()
    return tell("desk", house.ON, looped(measure(quick)), began)


if __name__ == "__main__":
    run("--quick" in sys.argv[1:])
