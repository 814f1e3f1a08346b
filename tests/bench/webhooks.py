"""How soon a provider's request is answered, and that none is lost: from POST to 200, on the database's own cores.

    python -m tests.bench.webhooks [--quick]

A whole server with its database on the same cores takes Messenger's webhooks: each a message of one of many customers,
signed, sent when its time has come however long the others take. Afterwards every one that was answered 200 must be a
message of a case, once; how long until the last one was is told too.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import sys
import time
from typing import Any

import aiohttp

from routing.aio.postgres import connect
from tests.bench import house
from tests.bench.figures import CannotMeasure, Figures, cpu_by_tree, machine, spread, tell

ACCOUNT, PAGE = "bench", "100"
APP_SECRET = "bench"
CUSTOMERS = 2_000
GOAL_MS = 500.0
RATES = (100.0, 300.0)
PATIENCE_S, LOOK_S = 60.0, 0.1
CONNECTIONS = 64


def body(number: int) -> bytes:
    """One message as Messenger tells it."""
    at = int(time.time() * 1000)
    said = {
        "sender": {"id": f"7{number % CUSTOMERS:06}"},
        "recipient": {"id": PAGE},
        "timestamp": at,
        "message": {"mid": f"m_{number}", "text": f"Bonjour, où est mon colis {number} ?"},
    }
    return json.dumps({"object": "page", "entry": [{"id": PAGE, "time": at, "messaging": [said]}]}).encode()


class Bench:
    def __init__(self, opened: house.House, http: aiohttp.ClientSession) -> None:
        self.house, self._http = opened, http
        self._url = f"{opened.server.http}/hooks/{ACCOUNT}"
        self._sent = 0

    async def _post(self, took: list[float], statuses: dict[str, int], late: list[float], due: float) -> None:
        raw = body(self._sent)
        self._sent += 1
        proof = "sha256=" + hmac.new(APP_SECRET.encode(), raw, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": proof, "Content-Type": "application/json"}
        began = time.perf_counter()
        late.append(began - due)
        try:
            async with self._http.post(self._url, data=raw, headers=headers) as response:
                status = str(response.status)
                await response.read()
        except aiohttp.ClientError as error:
            status = type(error).__name__
        statuses[status] = statuses.get(status, 0) + 1
        if status == "200":
            took.append(time.perf_counter() - began)
        elif status == "404":
            raise CannotMeasure("this server takes no webhooks: /hooks is not there")

    async def at(self, rate: float, seconds: float) -> Figures:
        """Requests at `rate` a second for so long; then waits until all of them are messages."""
        named = self.house.processes()
        before, load, began = cpu_by_tree(named), os.getloadavg()[0], time.perf_counter()
        there = await self._messages()
        took: list[float] = []
        late: list[float] = []
        statuses: dict[str, int] = {}
        async with asyncio.TaskGroup() as group:
            for n in range(round(rate * seconds)):
                due = began + n / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._post(took, statuses, late, due))
        ended = time.perf_counter()
        cpu = {name: (s - before[name]) / (ended - began) for name, s in cpu_by_tree(named).items()}
        for _ in range(round(PATIENCE_S / LOOK_S)):
            lost = len(took) - (await self._messages() - there)
            if lost == 0:
                break
            await asyncio.sleep(LOOK_S)
        return {
            "requests_per_s": rate,
            "answers": statuses,
            "to_200": spread(took),
            "lost": lost,
            "last_handled_after_s": round(time.perf_counter() - ended, 2),
            "generator_late": spread(late),
            "cores_used": {name: round(used, 3) for name, used in cpu.items()},
            "load": round(load, 2),
        }

    async def _messages(self) -> int:
        connection = await connect(self.house.dsn)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM message WHERE account = $1", ACCOUNT))
        finally:
            await connection.close()


def _print(row: Figures) -> None:
    used = " ".join(f"{name} {value:.2f}" for name, value in row["cores_used"].items())
    print(
        f"{row['requests_per_s']:5g}/s  200: p50 {row['to_200']['p50_ms']} ms, p99 {row['to_200']['p99_ms']} ms,"
        f" lost {row['lost']}, all handled {row['last_handled_after_s']} s after the last,"
        f" answers {row['answers']}  {used}  load {row['load']:.1f}",
        flush=True,
    )


async def measure(quick: bool) -> Figures:
    seconds = 10.0 if quick else 60.0
    account: dict[str, Any] = {"channel": "messenger", "queue": "bench", "settings": {"page_id": PAGE}}
    secrets = {"APP_SECRET": APP_SECRET, "PAGE_TOKEN": "token", "VERIFY_TOKEN": "verify"}
    env = {f"MONOFIL_SECRET_{ACCOUNT.upper()}_{name}": value for name, value in secrets.items()}
    async with (
        house.opened(1, env=env, more={"channels": {ACCOUNT: account}}) as opened,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as http,
    ):
        reference = await house.commits(opened.dsn)
        print(
            f"reference: commit of one row: p50 {reference['p50_ms']} ms, p99 {reference['p99_ms']} ms",
            flush=True,
        )
        bench = Bench(opened, http)
        await bench.at(20.0, 3.0)  # warm: plans, caches
        rows = []
        for rate in RATES:
            rows.append(await bench.at(rate, seconds))
            _print(rows[-1])
        wrong = [line for line in opened.server.lines() if line.get("level") in ("error", "critical")]
    for line in wrong[:5]:
        print(f"the server's log: {line.get('event')}: {str(line.get('exception', ''))[-200:]!r}")
    return {
        "reference": {"commit_of_one_row": reference},
        "rates": rows,
        "errors_in_log": len(wrong),
        "none_lost": not any(row["lost"] for row in rows),
        "goal_met": all((row["to_200"]["p99_ms"] or 1e9) < GOAL_MS for row in rows),
    }


def run(quick: bool = False) -> Figures:
    """Measure; prints a line a rate and the JSON line and returns it. About half a minute quick, 3 min else."""
    began = machine()
    try:
        import uvloop

        figures = uvloop.run(measure(quick))
    except ImportError:
        figures = asyncio.run(measure(quick))
    return tell("webhooks", house.ON, figures, began)


if __name__ == "__main__":
    run("--quick" in sys.argv[1:])
