"""`kill -9` of the whole server at every crash point from webhook to outbox: nothing is lost, nothing is sent twice.

Seeds are fixed: `SEED=7 python -m pytest tests/e2e/test_written_crash.py -k forked` plays one again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hotline import fresh_database
from tests.e2e.writing import POINTS
from tests.fakes.forked import told_by

pytestmark = [pytest.mark.slow, pytest.mark.load]

SEEDS = 20
PROCESSES = 2


async def lives(cluster: Any, folder: Path, how: str, *each: tuple[range, tuple[str, ...]]) -> list[Any]:
    """What the processes told of their lives, one for each range of seeds and its points, each with its database."""

    async def told(seeds: range, points: tuple[str, ...]) -> list[Any]:
        async with fresh_database(cluster.address) as database:
            arguments = (database, str(folder), how, str(seeds.start), str(seeds.stop), *points)
            return await told_by("tests.e2e.writing", *arguments)

    async with asyncio.TaskGroup() as both:
        tasks = [both.create_task(told(*one)) for one in each]
    return [line for task in tasks for line in task.result()]


def check_reached(told: list[Any], seeds: int) -> None:
    lives = [it for it in told if "point" in it]
    assert len(lives) == seeds * len(POINTS)
    killed = Counter(it["point"] for it in lives if it["signal"] == signal.SIGKILL and it["reached"])
    assert min(killed[point] for point in POINTS) >= seeds * 0.6, killed
    assert killed.total() > len(lives) * 0.95, "the plans should be reached"
    perhaps, sent = (sum(it.get(name, 0) for it in told) for name in ("perhaps", "sent"))
    assert perhaps < len(lives), f"{perhaps} perhaps sent in {len(lives)} lives; {sent} sent"


async def test_forked_servers_killed_at_any_point_lose_no_message_and_repeat_none(
    cluster: Any, tmp_path: Path
) -> None:
    first = int(os.environ.get("SEED", "0"))
    count = 1 if "SEED" in os.environ else SEEDS
    edges = [first + count * n // PROCESSES for n in range(PROCESSES + 1)]
    each = [(range(a, b), ()) for a, b in itertools.pairwise(edges) if b > a]
    check_reached(await lives(cluster, tmp_path, "forked", *each), count)


async def test_served_servers_killed_at_any_point_lose_no_message_and_repeat_none(
    cluster: Any, tmp_path: Path
) -> None:
    seed = int(os.environ.get("SEED", "0"))
    each = [(range(seed + n, seed + n + 1), POINTS[n::PROCESSES]) for n in range(PROCESSES)]
    check_reached(await lives(cluster, tmp_path, "served", *each), 1)
