"""`kill -9` of the whole server at every crash point under calls: the record is true, nobody is stuck (row 1).

Seeds are fixed: `python -m tests.e2e.crashing DSN FOLDER SEED SEED+1` plays one again.
"""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from routing.crash import NAMES, SPOKEN
from tests.fakes.forked import lives

pytestmark = [pytest.mark.slow, pytest.mark.load]

SEEDS = 20


async def killed_everywhere(database: str, folder: Path, seeds: range, points: tuple[str, ...]) -> None:
    told = await lives("tests.e2e.crashing", database, str(folder), seeds=seeds, points=points)
    assert len(told) == len(seeds) * len(points)
    killed = Counter(it["point"] for it in told if it["signal"] == signal.SIGKILL)
    assert min(killed[point] for point in points) > len(seeds) * 0.6, killed
    assert killed.total() > len(told) * 0.95, "the plans should be reached"


async def test_a_server_killed_at_any_point_outside_the_desk_starts_again_with_a_true_record(
    database: str, tmp_path: Path
) -> None:
    points = tuple(point for point in SPOKEN if point not in NAMES)
    await killed_everywhere(database, tmp_path, range(SEEDS), points)


async def test_a_server_killed_inside_its_desk_starts_again_with_a_true_record(
    database: str, tmp_path: Path
) -> None:
    await killed_everywhere(database, tmp_path, range(SEEDS), NAMES)
