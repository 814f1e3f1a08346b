"""`kill -9` at every named point of webhooks and outbox, times twenty seeds: nothing is lost, nothing is sent twice.

A life has the transport alone, with desk, hooks, courier and a provider of ours; whole servers are killed in
tests/e2e/test_written_crash.py. Seeds are fixed: `python -m tests.routing.crashing_post DSN FOLDER SEED SEED+1`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
from pathlib import Path

import pytest

from routing.crash import HOOKS, OUTBOX

pytestmark = [pytest.mark.slow, pytest.mark.load]

SEEDS = 20
PROCESSES = 2


async def test_a_kill_at_any_point_loses_no_message_and_repeats_none(database: str, tmp_path: Path) -> None:
    edges = [SEEDS * n // PROCESSES for n in range(PROCESSES + 1)]
    children = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.routing.crashing_post", database, str(tmp_path)),
            *(str(first), str(last)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for first, last in itertools.pairwise(edges)
    ]
    said = await asyncio.gather(*(child.communicate() for child in children))
    for child, (_, err) in zip(children, said, strict=True):
        assert child.returncode == 0, err.decode()[-3000:]
    told = [json.loads(line) for out, _ in said for line in out.splitlines() if line.startswith(b"{")]
    lives = [it for it in told if "point" in it]
    assert len(lives) == SEEDS * len((*HOOKS, *OUTBOX))
    killed = [it["point"] for it in lives if it["signal"] == signal.SIGKILL]
    assert len(killed) > 0.8 * len(lives), "the plans should mostly be reached"
    assert sum(it.get("acknowledged", 0) for it in told) > 5 * SEEDS
