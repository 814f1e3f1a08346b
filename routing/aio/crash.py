"""Crash points: `crash_point(name)` kills this process as `kill -9` would, when CRASH_AT names it."""

from __future__ import annotations

import os
import signal

from routing.crash import ALL, planned

_plan = planned(os.environ["CRASH_AT"]) if os.environ.get("CRASH_AT") else None
_passes = 0


def crash_point(name: str) -> None:
    """Dies here on the planned pass; costs nothing when no crash is planned."""
    if _plan is None:
        return
    assert name in ALL
    global _passes
    if name == _plan[0]:
        _passes += 1
        if _passes == _plan[1]:
            os.kill(os.getpid(), signal.SIGKILL)


def plan(text: str) -> None:
    """Plan a crash of this process from within (a test's forked child)."""
    global _plan, _passes
    _plan, _passes = planned(text), 0
