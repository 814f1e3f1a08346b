"""`kill -9` at every named point of webhooks and outbox, times twenty seeds: nothing is lost, nothing is sent twice.

A life has the transport alone, with desk, hooks, courier and a provider of ours; whole servers are killed in
tests/e2e/test_written_crash.py. Seeds are fixed: `python -m tests.routing.crashing_post DSN FOLDER SEED SEED+1`.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from routing.crash import HOOKS, OUTBOX
from tests.fakes.forked import lives

pytestmark = [pytest.mark.slow, pytest.mark.load]

SEEDS = 20


async def test_a_kill_at_any_point_loses_no_message_and_repeats_none(database: str, tmp_path: Path) -> None:
    told = await lives("tests.routing.crashing_post", database, str(tmp_path), seeds=range(SEEDS))
    ended = [it for it in told if "point" in it]
    assert len(ended) == SEEDS * len((*HOOKS, *OUTBOX))
    killed = [it["point"] for it in ended if it["signal"] == signal.SIGKILL]
    assert len(killed) > 0.8 * len(ended), "the plans should mostly be reached"
    assert sum(it.get("acknowledged", 0) for it in told) > 5 * SEEDS
