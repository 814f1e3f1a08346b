"""Killed between a leg and the desk, the record is true after the restart, and nobody is stuck."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from routing.aio.postgres import connect
from routing.crash import CALLS
from tests.routing.hotline import hotline

ROOT = Path(__file__).parents[2]

TRUE = {
    "a call that is neither over nor in its wrap-up": """
        SELECT count(*) FROM interaction WHERE ended_at IS NULL AND state <> 'wrapup'""",
    "an offer that is still open": "SELECT count(*) FROM offer WHERE how IS NULL",
    "an interaction that two offers won at once": """
        SELECT count(*) FROM (SELECT 1 FROM offer WHERE how = 'accepted' GROUP BY interaction, epoch
                              HAVING count(*) > 1) twice""",
    "a recording of nothing": """
        SELECT count(*) FROM recording r LEFT JOIN interaction i ON i.id = r.interaction WHERE i.id IS NULL""",
    "an event told twice": "SELECT count(*) - count(DISTINCT id) FROM event",
}


async def run(database: str, folder: Path, plan: str) -> int:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.cti.crashing",
        database,
        str(folder),
        cwd=ROOT,
        env={**os.environ, "CRASH_AT": plan},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(child.communicate(), 30)
    assert child.returncode is not None
    assert child.returncode in {0, -signal.SIGKILL}, said.decode()[-2000:]
    return child.returncode


@pytest.mark.parametrize("point", CALLS)
async def test_after_a_kill_the_record_is_true_and_the_next_call_is_offered(
    database: str, tmp_path: Path, point: str
) -> None:
    assert await run(database, tmp_path, point) == -signal.SIGKILL, "the hour does not pass this point"
    async with asyncio.timeout(20), hotline(database) as line:
        connection = await connect(database)
        try:
            for wrong, statement in TRUE.items():
                assert await connection.fetchval(statement) == 0, wrong
        finally:
            await connection.close()
        await line.ready("a1", "a2", "a3")
        call = await line.call("+33644556677")
        assert line.state(call) == "offered"
