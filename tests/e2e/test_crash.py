"""`kill -9` of the whole server at every crash point under calls: the record is true, nobody is stuck (row 1).

Seeds are fixed: `python -m tests.e2e.crashing DSN FOLDER SEED SEED+1` plays one again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from routing.crash import NAMES, SPOKEN

pytestmark = [pytest.mark.slow, pytest.mark.load]

SEEDS = 20
PROCESSES = 2


async def killed_everywhere(database: str, folder: Path, seeds: range, points: tuple[str, ...]) -> None:
    edges = [seeds.start + len(seeds) * n // PROCESSES for n in range(PROCESSES + 1)]
    children = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.e2e.crashing", database, str(folder), str(first), str(last)),
            *points,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for first, last in itertools.pairwise(edges)
    ]
    told = await asyncio.gather(*(child.communicate() for child in children))
    for child, (_, err) in zip(children, told, strict=True):
        assert child.returncode == 0, err.decode()[-6000:]
    lives = [json.loads(line) for out, _ in told for line in out.splitlines()]
    assert len(lives) == len(seeds) * len(points)
    killed = Counter(it["point"] for it in lives if it["signal"] == signal.SIGKILL)
    assert min(killed[point] for point in points) > len(seeds) * 0.6, killed
    assert killed.total() > len(lives) * 0.95, "the plans should be reached"


async def test_a_server_killed_at_any_point_outside_the_desk_starts_again_with_a_true_record(
    database: str, tmp_path: Path
) -> None:
    points = tuple(point for point in SPOKEN if point not in NAMES)
    await killed_everywhere(database, tmp_path, range(SEEDS), points)


async def test_a_server_killed_inside_its_desk_starts_again_with_a_true_record(
    database: str, tmp_path: Path
) -> None:
    await killed_everywhere(database, tmp_path, range(SEEDS), NAMES)
