"""Calls a second that the SIP core bears on one core, and the whole server on this machine; and twice as many.

A call is INVITE–200–ACK–1 s–BYE. For the core (`answer`, `bridge`) the server is pinned to one core and SIPp to the
other; with `bridge` a second leg is placed to a SIPp that answers; each call is written to a record in memory, counters
are on; there is no media. `whole` is everything with its database, and SIPp beside it: each call from a number of its
own walks into a tree that speaks, and counts only when PostgreSQL has its record, closed. Digest is not asked
for, since the caller is a trunk. A refusal is a 503, with Retry-After or it counts as a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from routing.aio.postgres import connect
from softphone_bridge.aio.endpoint import Endpoint
from softphone_bridge.events import Cause
from softphone_bridge.stack import (
    Acked,
    Answered,
    Ended,
    Invited,
    Ringing,
    StackEvent,
    StackSettings,
    Target,
    TrunkRules,
)
from tests.bench import house
from tests.bench.figures import CannotMeasure, Figures, cpu_by_tree, looped, machine, tell

SERVER_PORT, CALLER_PORT, CALLEE_PORT = 17_400, 17_500, 17_600
HOLD_MS = 1000
FAILED_SHARE = 0.001  # refused calls count as failed here
SETTLE_S = 20.0  # longest wait for the records of a round
BEHIND_S = 3.0  # a rate is not borne when records lag so far behind their calls
TRIES = 2  # a rate is not borne when it fails twice: others may use the machine
SDP = (
    b"v=0\r\no=m 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 7000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
)

_SDP_TEXT = SDP.decode().replace("\r\n", "\n")
UAC = f"""<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="caller">
  <send retrans="500" start_rtd="1"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: load <sip:[field0]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:load@[local_ip]:[local_port]>
Max-Forwards: 70
User-Agent: load
Content-Type: application/sdp
Content-Length: [len]

{_SDP_TEXT}]]></send>
  <recv response="100" optional="true"></recv>
  <recv response="180" optional="true"></recv>
  <recv response="503" optional="true" next="busy">
    <action><ereg regexp=".+" search_in="hdr" header="Retry-After:" check_it="true" assign_to="later"/></action>
  </recv>
  <recv response="200" rtd="1" rrs="true"></recv>
  <send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: load <sip:[field0]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
  <pause/>
  <send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: load <sip:[field0]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
  <recv response="200" crlf="true" next="done"></recv>
  <label id="busy"/>
  <send><![CDATA[
ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
[last_Via:]
[last_From:]
[last_To:]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
  <label id="done"/>
  <Reference variables="later"/>
  <ResponseTimeRepartition value="2, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000, 2000"/>
</scenario>
"""
UAS = f"""<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="callee">
  <recv request="INVITE" crlf="true" rrs="true"></recv>
  <send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[pid]t[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:uas@[local_ip]:[local_port]>
Content-Type: application/sdp
Content-Length: [len]

{_SDP_TEXT}]]></send>
  <recv request="ACK"></recv>
  <recv request="BYE"></recv>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
  <timewait milliseconds="1000"/>
</scenario>
"""


class _Nobody:
    def ha1(self, user: str) -> tuple[str, str] | None:
        return None


async def serve(role: str, port: int, callee: int) -> None:
    """The server under test: answers, or bridges to `callee`; prints its figures at the end of standard input."""
    legs: dict[str, str] = {}
    records: list[tuple[str, str, float, str]] = []
    begun: dict[str, float] = {}
    causes: dict[str, int] = {}

    def hear(event: StackEvent) -> None:
        if isinstance(event, Invited):
            begun[event.leg] = time.monotonic()
            if role == "answer":
                endpoint.answer(event.leg, SDP)
            else:
                other = event.leg + ".2"
                legs[event.leg], legs[other] = other, event.leg
                endpoint.place(
                    other,
                    [Target(f"sip:{event.dialled}@127.0.0.1:{callee}")],
                    from_user=event.caller,
                    sdp=event.sdp,
                    ring_s=30.0,
                )
        elif isinstance(event, Ringing):
            endpoint.ring(legs.get(event.leg, ""))
        elif isinstance(event, Answered):
            endpoint.answer(legs.get(event.leg, ""), event.sdp)
        elif isinstance(event, Ended):
            cause = str(event.cause)
            causes[cause] = causes.get(cause, 0) + 1
            start = begun.pop(event.leg, None)
            if start is not None:
                records.append((event.leg, cause, start, ""))
                if len(records) > 20_000:
                    records.clear()
            other_leg = legs.pop(event.leg, None)
            if other_leg is not None and legs.pop(other_leg, None) is not None:
                endpoint.end(other_leg)
        else:
            assert isinstance(event, Acked), event

    endpoint = Endpoint(
        StackSettings(host="127.0.0.1", port=port),
        bind="127.0.0.1",
        hear=hear,
        accounts=_Nobody(),
        knows=lambda number: number == "1000",
        trunks=(TrunkRules("load", ("127.0.0.1",)),),
    )
    await endpoint.start()
    gc.collect()
    gc.freeze()
    gc.disable()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_mb": usage.ru_maxrss / 1024,
        "causes": causes,
        "counters": endpoint.counters,
        "unexpected": sum(n for c, n in causes.items() if c not in (Cause.HANGUP, Cause.LOCAL)),
    }
    print(json.dumps(figures), flush=True)
    await endpoint.stop()


def _sipp(folder: Path, port: int, service: str, rate: int, seconds: float, pin: list[str]) -> Figures:
    """Let SIPp call at a rate; how many calls went as they should, and how soon they were set up."""
    calls = int(rate * seconds)
    statistics = folder / "caller.csv"
    statistics.unlink(missing_ok=True)
    subprocess.run(
        [
            *pin,
            *("sipp", "-sf", str(folder / "uac.xml"), f"127.0.0.1:{port}", "-s", service),
            *("-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", str(CALLER_PORT), "-r", str(rate)),
            *("-m", str(calls), "-d", str(HOLD_MS), "-l", "100000", "-nostdin", "-trace_stat"),
            *("-inf", str(folder / "numbers.csv"), "-stf", str(statistics), "-fd", "1"),
            *("-buff_size", "4000000", "-timeout", str(int(seconds + 45)), "-recv_timeout", "35000"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        timeout=seconds + 60,
        check=False,
    )
    lines = statistics.read_text().splitlines()
    row = dict(zip(lines[0].split(";"), lines[-1].split(";"), strict=False))
    buckets: list[tuple[float, int]] = []
    for name, value in row.items():
        found = re.match(r"ResponseTimeRepartition1?_(<|>=)([0-9]+)", name)
        if found:
            buckets.append((float(found[2]) if found[1] == "<" else float("inf"), int(value or 0)))
    return {
        "good": int(row["SuccessfulCall(C)"]),
        "bad": int(row["FailedCall(C)"]),
        "setup_p50_ms": _quantile(buckets, 0.5),
        "setup_p99_ms": _quantile(buckets, 0.99),
    }


def _scenarios(folder: Path) -> None:
    (folder / "uac.xml").write_text(UAC)
    (folder / "uas.xml").write_text(UAS)
    numbers = "\n".join(f"+3361{n:07}" for n in range(50_000))
    (folder / "numbers.csv").write_text(f"SEQUENTIAL\n{numbers}\n")


class _Round:
    """One offered rate against a fresh server."""

    def __init__(self, role: str, rate: int, seconds: float, folder: Path) -> None:
        self.role, self.rate, self.seconds, self.folder = role, rate, seconds, folder

    def measure(self) -> Figures:
        cores = sorted(os.sched_getaffinity(0))
        one, two = cores[0], cores[-1]
        calls = int(self.rate * self.seconds)
        callee: subprocess.Popen[bytes] | None = None
        pin = ["taskset", "-c"] if shutil.which("taskset") else None

        def pinned(core: int, *words: str) -> list[str]:
            return [*pin, str(core), *words] if pin else list(words)

        root = Path(__file__).resolve().parents[2]
        server = subprocess.Popen(
            pinned(
                one,
                *(sys.executable, "-m", "tests.bench.sip", "serve", self.role),
                *(str(SERVER_PORT), str(CALLEE_PORT)),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=root,
        )
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            server.stdout.readline()
            if self.role == "bridge":
                callee = subprocess.Popen(
                    pinned(
                        two,
                        *("sipp", "-sf", str(self.folder / "uas.xml"), "-i", "127.0.0.1", "-mi", "127.0.0.1"),
                        *("-p", str(CALLEE_PORT), "-nostdin", "-buff_size", "4000000"),
                    ),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=self.folder,
                )
            begun = time.monotonic()
            row = _sipp(self.folder, SERVER_PORT, "1000", self.rate, self.seconds, pinned(two))
            took = time.monotonic() - begun
            server.stdin.write(b"\n")
            server.stdin.flush()
            figures: Figures = json.loads(server.stdout.readline())
        finally:
            for process in (callee, server):
                if process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        process.terminate()
                    process.wait(10)
            server.stdin.close()
            server.stdout.close()
        return self._report(row, figures, calls, took)

    def _report(self, row: Figures, figures: Figures, calls: int, took: float) -> Figures:
        good, bad = row["good"], row["bad"]
        counters = figures["counters"]
        refused = counters.get("refused_overload", 0)  # answers: a caller that asks again is refused again
        carried = min(good, figures["causes"].get(str(Cause.HANGUP), 0))  # the caller said BYE
        missing = calls - good - bad
        return {
            "rate": self.rate,
            "calls": calls,
            "carried": carried,
            "carried_per_s": round(carried / self.seconds, 1),
            "refused_503": refused,
            "failed": bad + missing,
            "failed_share": round((bad + missing) / calls, 5),
            "setup_p50_ms": row["setup_p50_ms"],
            "setup_p99_ms": row["setup_p99_ms"],
            "cpu_ms_per_call": round(figures["cpu_s"] * 1000 / max(1, carried), 3),
            "memory_mb": round(figures["memory_mb"], 1),
            "took_s": round(took, 1),
        }


def _quantile(buckets: list[tuple[float, int]], share: float) -> float | None:
    """Upper bound of the bucket that holds this share of set-ups."""
    total = sum(count for _, count in buckets)
    seen = 0
    for bound, count in sorted(buckets):
        seen += count
        if total and seen >= share * total:
            return bound if bound != float("inf") else 99_999.0
    return None


class _Whole:
    """Rates offered to one whole server, one after another; its database grows as in real use."""

    def __init__(self, opened: house.House, connection: Any, folder: Path) -> None:
        self.house, self.connection, self.folder = opened, connection, folder

    async def measure(self, rate: int, seconds: float) -> Figures:
        named = self.house.processes()
        calls, before, load = int(rate * seconds), cpu_by_tree(named), os.getloadavg()[0]
        opened_before = await self._count("true")
        port = self.house.server.sip_port
        begun = time.monotonic()
        row = await asyncio.to_thread(_sipp, self.folder, port, house.TREE_NUMBER, rate, seconds, [])
        took = time.monotonic() - begun
        settled = await self._settled()
        cpu = {
            name: cpu_s - before[name] for name, cpu_s in cpu_by_tree(named).items() if name != "generator"
        }
        recorded = await self._count("true") - opened_before
        carried = min(row["good"], recorded)
        failed = calls - row["good"]
        return {
            "rate": rate,
            "calls": calls,
            "carried": carried,
            "carried_per_s": round(carried / seconds, 1),
            "refused_503": row["good"] - carried,
            "failed": failed,
            "failed_share": round(failed / calls, 5),
            "setup_p50_ms": row["setup_p50_ms"],
            "setup_p99_ms": row["setup_p99_ms"],
            "records_closed_after_s": round(settled, 2),
            "records_left_open": await self._count("ended_at IS NULL"),
            "records_interrupted": await self._count("state = 'interrupted'"),
            "cpu_ms_per_call": {
                name: round(cpu_s * 1000 / max(1, carried), 2) for name, cpu_s in cpu.items()
            },
            "took_s": round(took, 1),
            "load": round(load, 2),
        }

    async def _count(self, which: str) -> int:
        return int(await self.connection.fetchval(f"SELECT count(*) FROM interaction WHERE {which}"))

    async def _settled(self) -> float:
        """Seconds until the record of every call is closed, at most SETTLE_S."""
        begun = time.monotonic()
        for _ in range(round(SETTLE_S / 0.05)):
            if not await self._count("ended_at IS NULL"):
                break
            await asyncio.sleep(0.05)
        return time.monotonic() - begun


async def _whole(rates: list[int], seconds: float, folder: Path) -> Figures:
    async with house.opened(2) as opened:
        connection = await connect(opened.dsn)
        try:
            whole, rows, best = _Whole(opened, connection, folder), [], 0
            await whole.measure(10, 2.0)  # warm: plans, caches, media ports
            for rate in rates:
                for _ in range(TRIES):
                    row = await whole.measure(rate, seconds)
                    rows.append(row)
                    _print_whole(row)
                    if borne := _borne(row) and row["records_closed_after_s"] < BEHIND_S:
                        break
                if not borne:
                    break
                best = rate
            result: Figures = {"best_per_s": best, "on": house.ON, "rows": rows}
            if best:
                result["at_70_percent"] = await whole.measure(int(best * 0.7), seconds)
                _print_whole(result["at_70_percent"])
                result["at_twice"] = double = await whole.measure(best * 2, seconds)
                _print_whole(double)
                result["goodput_at_twice"] = round(double["carried_per_s"] / best, 3)
                result["lost_at_twice"] = double["failed"] + double["records_left_open"]
            return result
        finally:
            await connection.close()


def _borne(row: Figures) -> bool:
    return bool(row["failed_share"] + row["refused_503"] / row["calls"] <= FAILED_SHARE)


def _print_whole(row: Figures) -> None:
    cpu = row["cpu_ms_per_call"]
    p99 = f"<{row['setup_p99_ms']:g}" if row["setup_p99_ms"] is not None else "-"
    print(
        f"{'whole':8}{row['rate']:7}/s {row['carried_per_s']:8.1f}/s carried {row['refused_503']:7} 503 "
        f"{row['failed']:6} failed  p99 {p99:>6} ms "
        + " ".join(f"{name} {ms:.1f}" for name, ms in cpu.items())
        + f" ms CPU/call, records closed after {row['records_closed_after_s']} s, load {row['load']}",
        flush=True,
    )


def _best(role: str, rates: list[int], seconds: float, folder: Path) -> tuple[list[Figures], int]:
    rows, best = [], 0
    for rate in rates:
        borne = False
        for _ in range(TRIES):
            row = _Round(role, rate, seconds, folder).measure() | {"role": role}
            rows.append(row)
            _print(row)
            if borne := _borne(row):
                break
        if not borne:
            break
        best = rate
    return rows, best


def _print(row: Figures) -> None:
    p99 = f"<{row['setup_p99_ms']:g}" if row["setup_p99_ms"] is not None else "-"
    print(
        f"{row['role']:8}{row['rate']:7}/s {row['carried_per_s']:8.1f}/s carried {row['refused_503']:7} 503 "
        f"{row['failed']:6} failed  p99 {p99:>6} ms {row['cpu_ms_per_call']:7.3f} ms CPU/call "
        f"{row['memory_mb']:6.1f} MB",
        flush=True,
    )


def run(quick: bool = False) -> Figures:
    """Measure; prints the table and the JSON line and returns it. Needs SIPp; about 2 min quick, 4 min else."""
    if not shutil.which("sipp"):
        raise CannotMeasure("sipp is not installed: apt-get install sip-tester")
    began = machine()
    seconds = 4.0 if quick else 6.0
    steps = {
        "answer": [600, 1000, 1400] if quick else [800, 1000, 1200, 1400, 1700, 2000],
        "bridge": [300, 500, 700] if quick else [400, 500, 600, 700, 850, 1000],
    }
    result: Figures = {"core_on": "counters, records in memory; no digest, no media"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _scenarios(folder)
        for role, rates in steps.items():
            rows, best = _best(role, rates, seconds, folder)
            result[role] = {"best_per_s": best, "rows": rows}
            if best:
                calm = _Round(role, int(best * 0.7), seconds, folder).measure() | {"role": role}
                _print(calm)
                double = _Round(role, best * 2, seconds, folder).measure() | {"role": role}
                _print(double)
                result[role]["at_70_percent"] = calm
                result[role]["at_twice"] = double
                result[role]["goodput_at_twice"] = round(double["carried_per_s"] / best, 3)
        rates = [50, 100, 200] if quick else [100, 150, 200, 250, 300, 400, 500]
        result["whole"] = asyncio.run(_whole(rates, seconds, folder))
        print(f"whole server: {result['whole']['best_per_s']} calls/s answered with at most 0.1 % failures")
    return tell("sip", result["core_on"], result, began)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        role, port, callee = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        looped(serve(role, port, callee))
        return
    run("--quick" in sys.argv)


if __name__ == "__main__":
    main()
