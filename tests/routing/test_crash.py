"""`kill -9` at every named point of the desk, times twenty seeds: the record is true, nobody is stuck (row 1)."""

from __future__ import annotations

import signal

import pytest

from routing.crash import NAMES, planned
from tests.fakes.forked import lives
from tests.routing.crashing import ours

pytestmark = [pytest.mark.slow, pytest.mark.load]

SEEDS = 20


def test_a_plan_names_a_point_and_its_pass() -> None:
    assert planned("desk.after_commit:3") == ("desk.after_commit", 3)
    assert planned("desk.decided") == ("desk.decided", 1)
    with pytest.raises(ValueError, match="no crash point"):
        planned("desk.nowhere")
    assert len(set(NAMES)) == len(NAMES)


async def test_a_kill_at_any_point_loses_nothing_acknowledged_and_leaves_nobody_stuck(database: str) -> None:
    runs = await lives("tests.routing.crashing", database, seeds=range(SEEDS))
    assert len(runs) == SEEDS * len(ours())
    killed = [run for run in runs if run["signal"] == signal.SIGKILL]
    assert {run["point"] for run in killed} == set(ours())
    assert len(killed) > len(runs) * 0.9, "the plans should mostly be reached"
    assert sum(run["acknowledged"] for run in runs) > 5 * len(runs)
