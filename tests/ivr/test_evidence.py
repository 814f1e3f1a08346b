"""Figures per node (V17)."""

from __future__ import annotations

from bisect import bisect_left

from ivr.events import Entered, Left
from ivr.evidence import BOUNDS_S, Evidence
from routing.store import NodeCount


def test_what_the_log_has_counts_as_if_it_had_been_noted() -> None:
    noted, remembered = Evidence(), Evidence()
    for exit_, seconds, times in (("1", 2.0, 3), ("hangup", 5.0, 1), ("error", 0.01, 2)):
        for _ in range(times):
            noted.note(Entered("main", 3, "menu"))
            noted.note(Left("main", 3, "menu", exit_, seconds, failed=exit_ == "error"))
        bucket = bisect_left(BOUNDS_S, seconds)
        remembered.remember([NodeCount("main", 3, "menu", exit_, bucket, times)])
    assert remembered.rows() == noted.rows()
    (figures,) = remembered.rows("main", 3)
    assert (figures.entered, figures.failed, figures.hung_up) == (6, 2, 1)


def test_what_is_noted_adds_to_what_is_remembered() -> None:
    evidence = Evidence()
    evidence.note(Entered("main", 3, "menu"))
    evidence.remember([NodeCount("main", 3, "menu", "1", 0, 4)])
    (figures,) = evidence.rows()
    assert (figures.entered, figures.exits) == (5, {"1": 4})
