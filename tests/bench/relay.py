"""What relaying a packet of speech costs, and how many calls one core carries.

    python -m tests.bench.relay [--quick]

The relay has one core, the generator the other. Three relays carry the same calls: our worker (header rewritten,
RFC 3550 statistics, only the phone may speak), a plain relay in C, and uvloop's datagram protocol
sending on what it gets. A call is two legs and 100 packets a second. Needs a C compiler.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

from media import g711, mix
from media.aio.link import MediaLink
from media.aio.worker import NICE
from media.sdp import Remote
from tests.bench.figures import CannotMeasure, machine, tell

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIRST_RELAY_PORT, LAST_RELAY_PORT = 40_000, 44_999
FIRST_PHONE_PORT, PHONE_PORTS = 16_000, 1_000  # a host; phones are on 127.0.1.1, 127.0.1.2, …
RELAY_CPU, GENERATOR_CPU = 0, 1
DELAY_GOAL_US = 5_000  # P3
PACKETS_A_CALL_S = 100

Address = tuple[str, int]
Figures = dict[str, Any]


def phone(index: int) -> Address:
    return f"127.0.1.{1 + index // PHONE_PORTS}", FIRST_PHONE_PORT + index % PHONE_PORTS


def compiled(folder: Path, name: str) -> str | None:
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    out = folder / name
    subprocess.run([compiler, "-O2", "-w", "-o", str(out), str(HERE / f"{name}.c")], check=True)
    return str(out)


def cpu_ns(pid: int) -> int:
    """Time on the CPU of all threads of a process."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def first_turn(pid: int) -> None:
    """The worker runs at nice -10 where it may; the others get the same."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)


def lines(pairs: list[tuple[Address, Address]]) -> bytes:
    return "".join(f"{a[0]} {a[1]} {b[0]} {b[1]}\n" for a, b in pairs).encode()


async def measured(generator: str, pid: int, legs: list[Address], warm_s: float, measure_s: float) -> Figures:
    """Let a phone speak on each leg; what arrives, and what it cost the relay `pid`."""
    pairs = [(phone(index), leg) for index, leg in enumerate(legs)]
    process = await asyncio.create_subprocess_exec(
        generator,
        str(GENERATOR_CPU),
        str(warm_s),
        str(measure_s),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    first_turn(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(lines(pairs))
    process.stdin.close()
    try:
        async with asyncio.timeout(warm_s + measure_s + 10):
            await process.stdout.readline()
            await asyncio.sleep(warm_s)
            from_ns, from_s = cpu_ns(pid), time.monotonic()
            await asyncio.sleep(measure_s - 0.1)
            spent_us, took_s = (cpu_ns(pid) - from_ns) / 1000, time.monotonic() - from_s
            figures: Figures = json.loads(await process.stdout.readline())
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    packets = figures["sent"] / measure_s * took_s
    figures["us_per_packet"] = round(spent_us / packets, 2)
    figures["core"] = round(spent_us / 1e6 / took_s, 3)
    figures["lost"] = figures["sent"] - figures["received"]
    return figures


@contextlib.asynccontextmanager
async def relaying(command: list[str], calls: int) -> AsyncIterator[tuple[int, list[Address]]]:
    """A relay that reads its legs from stdin and says when it is ready."""
    legs = [("127.0.0.1", FIRST_RELAY_PORT + index) for index in range(calls * 2)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(lines([(leg, phone(index)) for index, leg in enumerate(legs)]))
        process.stdin.close()
        await asyncio.wait_for(process.stdout.readline(), 20)
        os.sched_setaffinity(process.pid, {RELAY_CPU})
        first_turn(process.pid)
        yield process.pid, legs
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


@contextlib.asynccontextmanager
async def ours(calls: int, recordings: Path | None = None) -> AsyncIterator[tuple[int, list[Address]]]:
    """Our worker with `calls` bridged calls, recorded when there is a folder."""
    ports = (FIRST_RELAY_PORT, LAST_RELAY_PORT)
    link = MediaLink(workers=1, host="127.0.0.1", ports=ports, hear=lambda _: None)
    await link.start()
    try:
        (pid,) = link.pids
        os.sched_setaffinity(pid, {RELAY_CPU})
        legs: list[Address] = []
        for index in range(calls * 2):
            name = str(index)
            legs.append(("127.0.0.1", await link.open(name)))
            link.connect(name, Remote(*phone(index), 0, 101))
            if index % 2:
                link.join(str(index - 1), name)
                if recordings is not None:
                    link.record(name, str(recordings / f"{calls}-{name}.wav"), str(index - 1), name)
        await link.open("settled")
        yield pid, legs
    finally:
        await link.stop()


@contextlib.asynccontextmanager
async def conference(legs_wanted: int) -> AsyncIterator[tuple[int, list[Address]]]:
    """Our worker with rooms of three, voice activity told for each leg."""
    link = MediaLink(
        workers=1, host="127.0.0.1", ports=(FIRST_RELAY_PORT, LAST_RELAY_PORT), hear=lambda _: None
    )
    await link.start()
    try:
        (pid,) = link.pids
        os.sched_setaffinity(pid, {RELAY_CPU})
        legs: list[Address] = []
        for index in range(legs_wanted):
            name = str(index)
            legs.append(("127.0.0.1", await link.open(name)))
            link.connect(name, Remote(*phone(index), 0, 101))
            link.watch(name, True)
            for other in range(index - index % 3, index):
                link.join(str(other), name)
        await link.open("settled")
        yield pid, legs
    finally:
        await link.stop()


def kernel_us(legs: int = 999) -> float:
    """P6: decode, mix of rooms of three and encode, a leg and tick."""
    codes = np.random.default_rng(1).integers(0, 256, (legs, 160), dtype=np.uint8)
    best = float("inf")
    for _ in range(50):
        began = time.perf_counter()
        pcm = mix.rooms(g711.DECODED[0].take(codes).reshape(legs // 3, 3, 160))
        g711.ENCODED[0].take(pcm.view(np.uint16))
        best = min(best, time.perf_counter() - began)
    return round(best / legs * 1e6, 3)


async def echo_with_uvloop() -> None:
    """The third relay: uvloop's datagram protocol, which only sends on."""
    pairs = [line.split() for line in sys.stdin]
    loop = asyncio.get_running_loop()
    legs: list[Any] = []

    class Leg(asyncio.DatagramProtocol):
        def __init__(self, index: int, to: Address) -> None:
            self.other, self.to = index ^ 1, to

        def datagram_received(self, data: bytes, addr: object) -> None:
            transport, to = legs[self.other]
            transport.sendto(data, to)

    for index, (host, port, to_host, to_port) in enumerate(pairs):
        to = (to_host, int(to_port))
        transport, _ = await loop.create_datagram_endpoint(
            lambda index=index, to=to: Leg(index, to),  # type: ignore[misc]
            local_addr=(host, int(port)),
        )
        legs.append((transport, to))
    print("ready", flush=True)
    await loop.create_future()


def row(name: str, calls: int, figures: Figures) -> None:
    print(
        f"{name:<22}{calls:>6}{figures['us_per_packet']:>9.2f}{figures['core']:>8.2f}{figures['lost']:>8}"
        f"{figures['p50_us']:>9}{figures['p99_us']:>9}{figures['max_us']:>10}{figures['slip_ms']:>9}",
        flush=True,
    )


async def measure(quick: bool) -> Figures:
    folder = Path(tempfile.mkdtemp(prefix="relay"))
    try:
        generator, reference = compiled(folder, "relay_generator"), compiled(folder, "relay_reference")
        if generator is None or reference is None:
            raise CannotMeasure("there is no C compiler for the reference: apt-get install gcc")
        result: Figures = {"quick": quick, "relays": [], "bridged": [], "recorded": []}
        print(
            f"{'relay':<22}{'calls':>6}{'us/pkt':>9}{'core':>8}{'lost':>8}{'p50 us':>9}{'p99 us':>9}{'max us':>10}"
            f"{'slip ms':>9}"
        )
        warm_s, measure_s = (1.0, 2.5) if quick else (2.0, 6.0)
        for calls in (200,) if quick else (200, 500):
            python = [sys.executable, "-m", "tests.bench.relay", "--echo"]
            costs: dict[str, float] = {}
            for name, relay in (
                ("C recvfrom/sendto", relaying([reference], calls)),
                ("worker", ours(calls)),
                ("uvloop echo", relaying(python, calls)),
            ):
                async with relay as (pid, legs):
                    figures = await measured(generator, pid, legs, warm_s, measure_s)
                row(name, calls, figures)
                costs[name] = figures["us_per_packet"]
                result["relays"].append({"relay": name, "calls": calls} | figures)
            result[f"to_c_{calls}"] = round(costs["worker"] / costs["C recvfrom/sendto"], 2)
        result["kernel_us_per_leg"] = kernel_us()
        print(f"media kernel, 999 legs in rooms of three: {result['kernel_us_per_leg']} us a leg and tick")
        if not quick:
            async with conference(600) as (pid, legs):
                figures = await measured(generator, pid, legs, 2.0, 5.0)
            result["conference"] = {"legs": 600, "core": figures["core"]}
            print(f"600 conference legs, voice activity on each: {figures['core']} of a core", flush=True)
            for kind, steps in (
                ("bridged", (700, 800, 900, 1000, 1100, 1200)),
                ("recorded", (300, 400, 500, 600, 700, 800)),
            ):
                best = 0
                for calls in steps:
                    recordings = folder / kind if kind == "recorded" else None
                    async with ours(calls, recordings) as (pid, legs):
                        figures = await measured(generator, pid, legs, 2.5, 8.0)
                    if recordings is not None:
                        shutil.rmtree(recordings)
                    row(kind, calls, figures)
                    result[kind].append({"calls": calls} | figures)
                    if figures["lost"] or figures["p99_us"] > DELAY_GOAL_US:
                        break
                    best = calls
                result[f"most_{kind}"] = best
        return result
    finally:
        shutil.rmtree(folder)


def run(quick: bool = False) -> Figures:
    """Measure; prints the table and the JSON line and returns it. About 1 min quick, 4 min else."""
    began = machine()
    on = "headers rewritten, RFC 3550 statistics, strangers dropped; recording where it says so"
    return tell("relay", on, asyncio.run(measure(quick)), began)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        import uvloop

        uvloop.run(echo_with_uvloop())
    else:
        run(options.quick)
