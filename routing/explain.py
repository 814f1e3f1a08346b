"""Why an interaction went where it went: what was compared, what was left out, and the sentences that tell it (Q23).

An explanation is exact for the instant of its offer and small enough to be stored with each. It names the five best of
both sides and counts everybody else by the first reason that left them out, in the order of `EXCLUSIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EXCLUSIONS = ("offline", "pause", "wrapup", "unreachable", "no_seat")
"""Reasons of the moment, after those of rule (`skill …`, `queue`) and before those of this interaction (`refused`)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An advisor who could have had it, in the order of choice."""

    advisor: str
    work: int  # interactions that he was already doing
    idle_since: float
    skill: int | None = None  # sum of his levels on the needs, where the queue prefers skill


@dataclass(frozen=True, slots=True)
class Rival:
    """The head of one of the lines that the chosen advisor serves, in the order of choice."""

    interaction: str
    score: float
    since: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """One offer, explained.

    `score` = `priority` + `ageing_per_minute` × minutes since `since`. `rule` is why this advisor: related, held,
    only (nobody else could), longest_idle or skill. `excluded` counts advisors by reason; `available` is how many were
    left, of whom `candidates` are the five best. `rivals` are the five best heads of lines that the advisor could
    have been given instead; `lines` is how many such heads there were.
    """

    at: float
    interaction: str
    queue: str
    channel: str
    advisor: str
    rule: str
    priority: int
    ageing_per_minute: float
    since: float
    score: float
    available: int
    candidates: tuple[Candidate, ...]
    excluded: Mapping[str, int]
    rivals: tuple[Rival, ...]
    lines: int
