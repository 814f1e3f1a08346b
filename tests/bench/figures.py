"""What every benchmark says in the same way: percentiles, CPU seconds of processes, the machine, one JSON line."""

from __future__ import annotations

import asyncio
import json
import math
import os
import platform
from collections.abc import Coroutine, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

Figures = dict[str, Any]
T = TypeVar("T")
TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


class CannotMeasure(RuntimeError):
    """Something that the benchmark needs is not here; the message says what, and how to get it."""


def percentile(values: Iterable[float], share: float) -> float:
    """The least value that at least `share` (0..1) of them do not exceed. There must be one."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def spread(seconds: Iterable[float]) -> Figures:
    """p50, p99 and the greatest, in milliseconds, of durations in seconds; None where nothing was measured."""
    ordered = sorted(seconds)
    return {
        "n": len(ordered),
        **{
            name: round(percentile(ordered, share) * 1000, 2) if ordered else None
            for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0))
        },
    }


def stat_of(text: str) -> tuple[int, float]:
    """Parent and CPU seconds (user and system, with children that ended) of a /proc/PID/stat."""
    words = text.rpartition(")")[2].split()  # the name may hold spaces and brackets
    return int(words[1]), sum(map(int, words[11:15])) * TICK_S


def _processes() -> dict[int, tuple[int, float]]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = stat_of((entry / "stat").read_text())
            except (OSError, IndexError):
                continue
    return found


def cpu_by_tree(roots: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds so far of each named process with all below it, except those that are named themselves."""
    processes = _processes()
    names = {pid: name for name, pid in roots.items()}
    total = dict.fromkeys(roots, 0.0)
    for pid, (_, cpu_s) in processes.items():
        at = pid
        while at not in names and at in processes:
            at = processes[at][0]
        if at in names:
            total[names[at]] += cpu_s
    return total


def children(pid: int, words: str) -> list[int]:
    """Processes directly below `pid` whose command line holds `words`."""
    found = []
    for child, (parent, _) in _processes().items():
        if parent == pid:
            try:
                line = (
                    Path(f"/proc/{child}/cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode("utf-8", "replace")
                )
            except OSError:
                continue
            if words in line:
                found.append(child)
    return sorted(found)


def machine() -> Figures:
    """What the figures were measured on, and how busy it was."""
    try:
        loop = f"uvloop {metadata.version('uvloop')}"
    except metadata.PackageNotFoundError:
        loop = "asyncio"
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "loop": loop,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def looped(work: Coroutine[Any, Any, T]) -> T:
    """Run it on the loop that the server runs on: uvloop where it is installed (see `machine`)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def tell(name: str, on: str, figures: Figures, began: Figures) -> Figures:
    """Print the one JSON line of a benchmark and return it. `on`: what was switched on; `began`: machine() before."""
    result = {"bench": name, "on": on, **figures, "machine": machine() | {"load_before": began["load"]}}
    print(json.dumps(result, ensure_ascii=False, default=str), flush=True)
    return result
