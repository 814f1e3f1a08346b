"""How soon a provider's request is answered, and how soon an advisor is offered its customer.

    python -m tests.bench.webhooks [--quick]

A whole server with its database on the same cores takes Messenger's webhooks: each a message, signed, sent when its
time has come however long the others take. First to the 200: afterwards every one that was answered so must be a
message of a case, once; how long until the last one was is told too. Then to the advisor: each customer is a new one
and asks for a person at once; the offer must reach the page of one of forty advisors, who accepts and closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import aiohttp

from cti.aio.headless import Frame, HeadlessConsole, Refused
from routing.aio.postgres import connect
from tests.bench import house
from tests.bench.figures import CannotMeasure, Figures, cpu_by_tree, looped, machine, spread, tell

ACCOUNT, PAGE = "bench", "100"
APP_SECRET = "bench"
SECRETS = {"APP_SECRET": APP_SECRET, "PAGE_TOKEN": "token", "VERIFY_TOKEN": "verify"}
ENVIRONMENT = {f"MONOFIL_SECRET_{ACCOUNT.upper()}_{name}": value for name, value in SECRETS.items()}
CUSTOMERS = 2_000
TO_200_GOAL_MS, TO_OFFER_GOAL_MS = 50.0, 300.0
RATES = (100.0, 300.0)
OFFERS_PER_S, ADVISORS = 50.0, 40
PATIENCE_S, LOOK_S = 60.0, 0.1
OFFER_PATIENCE_S = 20.0
CONNECTIONS = 64
GROWN = 500  # messages; then PostgreSQL soon looks at its tables by itself, and plans for what they hold
GROWN_PATIENCE_S = 75.0
_NUMBER = re.compile(r"colis (\d+)")


def account(**settings: str) -> dict[str, Any]:
    """The site's channels: one Page whose customers wait for a person at once."""
    one = {"channel": "messenger", "queue": "bench", "settings": {"page_id": PAGE, **settings}}
    return {"channels": {ACCOUNT: one}}


def number_in(text: str) -> int | None:
    """The number that `Writer` put into a message."""
    found = _NUMBER.search(text)
    return int(found[1]) if found else None


class Writer:
    """Customers who write on Messenger. `sent`: message's number → when it was sent (perf_counter)."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url, self._http = f"{url}/hooks/{ACCOUNT}", http
        self._count = 0
        self.sent: dict[int, float] = {}
        self.took: list[float] = []
        self.late: list[float] = []
        self.statuses: dict[str, int] = {}

    def forget(self) -> None:
        self.sent, self.took, self.late, self.statuses = {}, [], [], {}

    def number(self) -> int:
        """Of the next message."""
        self._count += 1
        return self._count

    async def write(self, customer: int, due: float, number: int | None = None) -> None:
        """One message, due at that time (perf_counter); returns once it is answered."""
        number = number or self.number()
        at = int(time.time() * 1000)
        said = {
            "sender": {"id": f"7{customer:07}"},
            "recipient": {"id": PAGE},
            "timestamp": at,
            "message": {"mid": f"m_{number}", "text": f"Bonjour, où est mon colis {number} ?"},
        }
        raw = json.dumps(
            {"object": "page", "entry": [{"id": PAGE, "time": at, "messaging": [said]}]}
        ).encode()
        proof = "sha256=" + hmac.new(APP_SECRET.encode(), raw, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": proof, "Content-Type": "application/json"}
        began = self.sent[number] = time.perf_counter()
        self.late.append(began - due)
        try:
            async with self._http.post(self._url, data=raw, headers=headers) as response:
                status = str(response.status)
                await response.read()
        except aiohttp.ClientError as error:
            status = type(error).__name__
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == "200":
            self.took.append(time.perf_counter() - began)
        elif status == "404":
            raise CannotMeasure("this server takes no webhooks: /hooks is not there")


async def _messages(dsn: str) -> int:
    connection = await connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM message WHERE account = $1", ACCOUNT))
    finally:
        await connection.close()


async def grown(dsn: str, writer: Writer) -> None:
    """Not the first minute of a new database: messages are there, and PostgreSQL has seen that they are."""
    async with asyncio.TaskGroup() as group:
        began = time.perf_counter()
        for n in range(GROWN):
            due = began + n / 100.0
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(writer.write(9_000_000 + n, due))
    await looked_at(dsn)
    writer.forget()


async def looked_at(dsn: str) -> None:
    """Until PostgreSQL has looked at the tables that grew, at most GROWN_PATIENCE_S."""
    connection = await connect(dsn)
    try:
        for _ in range(round(GROWN_PATIENCE_S / LOOK_S)):
            if await connection.fetchval(
                "SELECT count(last_autoanalyze) = 2 FROM pg_stat_user_tables WHERE relname IN ('message', 'case_file')"
            ):
                break
            await asyncio.sleep(LOOK_S)
    finally:
        await connection.close()


async def answered(opened: house.House, writer: Writer, rate: float, seconds: float) -> Figures:
    """Requests at `rate` a second for so long; then waits until all of them are messages."""
    writer.forget()
    named = opened.processes()
    there = await _messages(opened.dsn)
    before, load, began = cpu_by_tree(named), os.getloadavg()[0], time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for n in range(round(rate * seconds)):
            due = began + n / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(writer.write(n % CUSTOMERS, due))
    ended = time.perf_counter()
    cpu = {name: (s - before[name]) / (ended - began) for name, s in cpu_by_tree(named).items()}
    for _ in range(round(PATIENCE_S / LOOK_S)):
        lost = len(writer.took) - (await _messages(opened.dsn) - there)
        if lost == 0:
            break
        await asyncio.sleep(LOOK_S)
    return {
        "requests_per_s": rate,
        "answers": writer.statuses,
        "to_200": spread(writer.took),
        "lost": lost,
        "last_handled_after_s": round(time.perf_counter() - ended, 2),
        "generator_late": spread(writer.late),
        "cores_used": {name: round(used, 3) for name, used in cpu.items()},
        "load": round(load, 2),
    }


class Advisors:
    """Pages of advisors who accept what they are offered and close it at once, and note when the offer came."""

    def __init__(self) -> None:
        self.offered: dict[int, float] = {}  # message's number → when its offer came
        self.twice = 0
        self.problems: dict[str, int] = {}
        self._consoles: dict[str, HeadlessConsole] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def ready(self, opened: house.House, count: int) -> AsyncIterator[None]:
        server = opened.server
        async with contextlib.AsyncExitStack() as stack:
            async for login, password in passwords(opened, count):
                console = HeadlessConsole(server.http, login, password, on_frame=partial(self._frame, login))
                self._consoles[login] = await stack.enter_async_context(console)
                await console.set_presence("ready")
            yield
            if self._tasks:
                await asyncio.wait(set(self._tasks), timeout=10.0)

    async def served(self, customers: int) -> None:
        """Until so many have been offered and closed, or OFFER_PATIENCE_S is over."""
        for _ in range(round(OFFER_PATIENCE_S / LOOK_S)):
            if len(self.offered) >= customers and not self._tasks:
                break
            await asyncio.sleep(LOOK_S)

    def _frame(self, login: str, frame: Frame) -> None:
        now = time.perf_counter()
        if frame["type"] == "offer.made":
            for message in frame["data"]["pop"]["last_messages"]:
                number = number_in(message["text"])
                if number is not None:
                    self.twice += number in self.offered
                    self.offered.setdefault(number, now)
            task = asyncio.create_task(self._serve(login, frame["data"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if frame["type"] != "snapshot":
            self._consoles[login].frames.clear()

    async def _serve(self, login: str, offer: dict[str, Any]) -> None:
        console = self._consoles[login]
        try:
            await console.accept(offer["id"])
            await console.close_interaction(offer["interaction"]["id"], code="done")
        except (Refused, aiohttp.ClientError) as error:
            what = f"{type(error).__name__}: {error}"[:80]
            self.problems[what] = self.problems.get(what, 0) + 1


async def passwords(opened: house.House, count: int) -> AsyncIterator[tuple[str, str]]:
    """(login, new password) of each advisor, given by the admin."""
    async with HeadlessConsole(opened.server.http, "admin", await opened.server.password("admin")) as admin:
        for n in range(count):
            login = house.login(n)
            yield login, str((await admin.post(f"/advisors/{login}/password"))["password"])


async def offered(
    opened: house.House, writer: Writer, advisors: Advisors, rate: float, seconds: float
) -> Figures:
    """New customers at `rate` a second for so long, each waited for until an advisor is offered them."""
    writer.forget()
    advisors.offered.clear()
    named = opened.processes()
    before, load, began = cpu_by_tree(named), os.getloadavg()[0], time.perf_counter()
    async with asyncio.TaskGroup() as group:
        first = 1_000_000 + round(began * 10) % 1_000_000
        for n in range(round(rate * seconds)):
            due = began + n / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(writer.write(first + n, due))
    ended = time.perf_counter()
    cpu = {name: (s - before[name]) / (ended - began) for name, s in cpu_by_tree(named).items()}
    for _ in range(round(OFFER_PATIENCE_S / LOOK_S)):
        if writer.sent.keys() <= advisors.offered.keys():
            break
        await asyncio.sleep(LOOK_S)
    told = [advisors.offered[n] - sent for n, sent in writer.sent.items() if n in advisors.offered]
    return {
        "customers_per_s": rate,
        "answers": writer.statuses,
        "to_200": spread(writer.took),
        "to_offer": spread(told),
        "not_offered": len(writer.sent) - len(told),
        "offered_again": advisors.twice,
        "problems": advisors.problems,
        "generator_late": spread(writer.late),
        "cores_used": {name: round(used, 3) for name, used in cpu.items()},
        "load": round(load, 2),
    }


def _used(row: Figures) -> str:
    used = " ".join(f"{name} {value:.2f}" for name, value in row["cores_used"].items())
    return f"cores: {used}  load {row['load']:.1f}"


def complaints(opened: house.House, say: Callable[[str], None] = print) -> int:
    """How many errors the server has logged; the first ones are said."""
    wrong = [line for line in opened.server.lines() if line.get("level") in ("error", "critical")]
    for line in wrong[:5]:
        say(f"the server's log: {line.get('event')}: {str(line.get('exception', ''))[-200:]!r}")
    return len(wrong)


async def measure(quick: bool) -> Figures:
    seconds = 10.0 if quick else 60.0
    rows, errors = [], 0
    async with (
        house.opened(1, env=ENVIRONMENT, more=account()) as opened,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as http,
    ):
        reference = await house.commits(opened.dsn)
        print(
            f"reference: commit of one row: p50 {reference['p50_ms']} ms, p99 {reference['p99_ms']} ms",
            flush=True,
        )
        writer = Writer(opened.server.http, http)
        await grown(opened.dsn, writer)
        for rate in RATES:
            row = await answered(opened, writer, rate, seconds)
            rows.append(row)
            print(
                f"{rate:5g}/s  200: p50 {row['to_200']['p50_ms']} ms, p99 {row['to_200']['p99_ms']} ms,"
                f" lost {row['lost']}, all handled {row['last_handled_after_s']} s after the last,"
                f" answers {row['answers']}  {_used(row)}",
                flush=True,
            )
        errors += complaints(opened)
    async with (
        house.opened(ADVISORS, env=ENVIRONMENT, more=account()) as opened,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as http,
    ):
        writer, advisors = Writer(opened.server.http, http), Advisors()
        async with advisors.ready(opened, ADVISORS):
            await grown(opened.dsn, writer)
            await advisors.served(GROWN)
            offers = await offered(opened, writer, advisors, OFFERS_PER_S, seconds)
        print(
            f"{OFFERS_PER_S:5g}/s  offer: p50 {offers['to_offer']['p50_ms']} ms,"
            f" p99 {offers['to_offer']['p99_ms']} ms, not offered {offers['not_offered']},"
            f" problems {offers['problems']}  {_used(offers)}",
            flush=True,
        )
        errors += complaints(opened)
    return {
        "reference": {"commit_of_one_row": reference},
        "rates": rows,
        "offers": offers,
        "errors_in_log": errors,
        "none_lost": not any(row["lost"] for row in rows) and not offers["not_offered"],
        "to_200_goal_met": all((row["to_200"]["p99_ms"] or 1e9) < TO_200_GOAL_MS for row in rows),
        "to_offer_goal_met": (offers["to_offer"]["p99_ms"] or 1e9) < TO_OFFER_GOAL_MS,
    }


def run(quick: bool = False) -> Figures:
    """Measure; prints a line a rate and the JSON line and returns it. About a minute and a half quick, 4 min else."""
    began = machine()
    return tell("webhooks", house.ON, looped(measure(quick)), began)


if __name__ == "__main__":
    run("--quick" in sys.argv[1:])
