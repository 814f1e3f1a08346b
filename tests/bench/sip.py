"""Calls a second that the SIP core bears on one core: answered, bridged, and at twice what it bears.

The server is pinned to one core and SIPp to the other. A call is INVITE–200–ACK–1 s–BYE; with `bridge` a second leg is
placed to a SIPp that answers. Each call is written to a record of its own in memory, counters are on; digest is not
asked for, since the caller is a trunk; there is no media. `run` prints a table and one JSON line.
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

SERVER_PORT, CALLER_PORT, CALLEE_PORT = 15400, 15500, 15600
HOLD_MS = 1000
FAILED_SHARE = 0.001  # refused calls count as failed here
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
From: load <sip:load@[local_ip]:[local_port]>;tag=[pid]c[call_number]
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
  <recv response="503" optional="true" next="busy" rtd="1"></recv>
  <recv response="200" rtd="1" rrs="true"></recv>
  <send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: load <sip:load@[local_ip]:[local_port]>;tag=[pid]c[call_number]
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
From: load <sip:load@[local_ip]:[local_port]>;tag=[pid]c[call_number]
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


class _Round:
    """One offered rate against a fresh server."""

    def __init__(self, role: str, rate: int, seconds: float, folder: Path) -> None:
        self.role, self.rate, self.seconds, self.folder = role, rate, seconds, folder

    def measure(self) -> dict[str, Any]:
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
            statistics = self.folder / "caller.csv"
            statistics.unlink(missing_ok=True)
            begun = time.monotonic()
            subprocess.run(
                pinned(
                    two,
                    *("sipp", "-sf", str(self.folder / "uac.xml"), f"127.0.0.1:{SERVER_PORT}", "-s", "1000"),
                    *("-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", str(CALLER_PORT), "-r", str(self.rate)),
                    *("-m", str(calls), "-d", str(HOLD_MS), "-l", "100000", "-nostdin", "-trace_stat"),
                    *("-stf", str(statistics), "-fd", "1", "-buff_size", "4000000"),
                    *("-timeout", str(int(self.seconds + 45)), "-recv_timeout", "35000"),
                ),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self.folder,
                timeout=self.seconds + 60,
                check=False,
            )
            took = time.monotonic() - begun
            server.stdin.write(b"\n")
            server.stdin.flush()
            figures: dict[str, Any] = json.loads(server.stdout.readline())
        finally:
            for process in (callee, server):
                if process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        process.terminate()
                    process.wait(10)
            server.stdin.close()
            server.stdout.close()
        return self._report(statistics, figures, calls, took)

    def _report(self, statistics: Path, figures: dict[str, Any], calls: int, took: float) -> dict[str, Any]:
        lines = statistics.read_text().splitlines()
        row = dict(zip(lines[0].split(";"), lines[-1].split(";"), strict=False))
        good, bad = int(row["SuccessfulCall(C)"]), int(row["FailedCall(C)"])
        counters = figures["counters"]
        refused = counters.get("refused_overload", 0)  # answers: a caller that asks again is refused again
        carried = min(good, figures["causes"].get(str(Cause.HANGUP), 0))  # the caller said BYE
        buckets: list[tuple[float, int]] = []
        for name, value in row.items():
            found = re.match(r"ResponseTimeRepartition1?_(<|>=)([0-9]+)", name)
            if found:
                buckets.append((float(found[2]) if found[1] == "<" else float("inf"), int(value or 0)))
        missing = calls - good - bad
        return {
            "rate": self.rate,
            "calls": calls,
            "carried": carried,
            "carried_per_s": round(carried / self.seconds, 1),
            "refused_503": refused,
            "failed": bad + missing,
            "failed_share": round((bad + missing) / calls, 5),
            "setup_p50_ms": _quantile(buckets, 0.5),
            "setup_p99_ms": _quantile(buckets, 0.99),
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


def _best(role: str, rates: list[int], seconds: float, folder: Path) -> tuple[list[dict[str, Any]], int]:
    rows, best = [], 0
    for rate in rates:
        borne = False
        for _ in range(TRIES):
            row = _Round(role, rate, seconds, folder).measure() | {"role": role}
            rows.append(row)
            _print(row)
            borne = row["failed_share"] + row["refused_503"] / row["calls"] <= FAILED_SHARE
            if borne:
                break
        if not borne:
            break
        best = rate
    return rows, best


def _print(row: dict[str, Any]) -> None:
    p99 = f"<{row['setup_p99_ms']:g}" if row["setup_p99_ms"] is not None else "-"
    print(
        f"{row['role']:8}{row['rate']:7}/s {row['carried_per_s']:8.1f}/s carried {row['refused_503']:7} 503 "
        f"{row['failed']:6} failed  p99 {p99:>6} ms {row['cpu_ms_per_call']:7.3f} ms CPU/call "
        f"{row['memory_mb']:6.1f} MB",
        flush=True,
    )


def run(quick: bool = False) -> dict[str, Any]:
    """Measure; prints the table and the JSON line and returns it. Needs SIPp, about 1 min quick, 4 min else."""
    if not shutil.which("sipp"):
        raise RuntimeError("sipp is not installed: apt-get install sip-tester")
    seconds = 5.0 if quick else 12.0
    steps = {
        "answer": [600, 1000, 1400] if quick else [600, 800, 1000, 1200, 1400, 1600, 2000],
        "bridge": [300, 500, 700] if quick else [300, 400, 500, 600, 700, 800, 1000],
    }
    result: dict[str, Any] = {"bench": "sip", "on": "counters, records; trunk caller, no digest; no media"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "uac.xml").write_text(UAC)
        (folder / "uas.xml").write_text(UAS)
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
    print(json.dumps(result), flush=True)
    return result


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        role, port, callee = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        try:
            import uvloop
        except ImportError:
            asyncio.run(serve(role, port, callee))
        else:
            uvloop.run(serve(role, port, callee))
        return
    run("--quick" in sys.argv)


if __name__ == "__main__":
    main()
