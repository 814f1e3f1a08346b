"""`kill -9` at every named point of webhooks and outbox: nothing acknowledged is lost, nothing is sent twice."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from routing.crash import HOOKS, OUTBOX


@pytest.mark.parametrize("seeds", [1, pytest.param(4, marks=pytest.mark.slow)])
async def test_a_kill_at_any_point_loses_no_message_and_repeats_none(
    database: str, tmp_path: Path, seeds: int
) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.routing.crashing_post", database, str(tmp_path), "0", str(seeds)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate()
    assert child.returncode == 0, err.decode()[-3000:]
    told = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    killed = [it["point"] for it in told if it.get("signal") == signal.SIGKILL]
    assert len(killed) > 0.8 * seeds * len((*HOOKS, *OUTBOX)), "the plans should mostly be reached"
    assert sum(it.get("acknowledged", 0) for it in told) > 5 * seeds
