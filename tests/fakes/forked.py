"""A life in a forked child that may be killed at any moment: what it acknowledged, and how it ended."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from uuid import UUID


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
