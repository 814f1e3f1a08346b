"""Lives in children that may be killed at any moment: what they acknowledged, and how they ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

PROCESSES = 2  # side by side, one a core


def forked(live: Callable[[int], None], what: str) -> tuple[set[UUID], int]:
    """(ids that `live` wrote to its pipe as 16 bytes each, signal that ended the child or 0).

    `live` runs in the child; when it raises, this ends with SystemExit, naming `what` was tried.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        code = 1
        try:
            live(write)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"failed: {what}")
    told = {UUID(bytes=data[at : at + 16]) for at in range(0, len(data) - 15, 16)}
    return told, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


async def told_by(module: str, *arguments: str) -> list[Any]:
    """What `python -m module` told, a JSON object a line. It must end well, and does not outlive who asks."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0, err.decode()[-8000:]
    return [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]


async def lives(module: str, *arguments: str, seeds: range, points: Sequence[str] = ()) -> list[Any]:
    """What the lives of all seeds told: `python -m module ARGUMENTS FIRST LAST POINTS` in processes side by side."""
    edges = [seeds.start + len(seeds) * n // PROCESSES for n in range(PROCESSES + 1)]
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(told_by(module, *arguments, str(first), str(last), *points))
            for first, last in itertools.pairwise(edges)
        ]
    return [told for each in asked for told in each.result()]
