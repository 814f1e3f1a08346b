"""How long somebody who waits will still wait: a range, from the staff who are present now (Q10).

Nobody waits while a seat is free, so all seats of those present count as taken. Each is free again after a time whose
mean is that of the last ones; the wait until so many have become free is then gamma distributed. The range leaves a
tenth of it out at either end, so four of five real waits lie within.
"""

from __future__ import annotations

from collections import deque
from math import inf, sqrt

LEAST = 5  # served interactions below which nothing is known
KEPT = 50  # the last ones say how long the work takes now
Z = 1.2816  # a tenth of the normal distribution lies above

Range = tuple[float, float]
"""Seconds: shortest, longest."""


class Handled:
    """Seconds for which the last interactions of one queue and channel kept a seat: talks, then wrap-ups."""

    __slots__ = ("_talks", "_wraps")

    def __init__(self) -> None:
        self._talks: deque[float] = deque(maxlen=KEPT)
        self._wraps: deque[float] = deque(maxlen=KEPT)

    def talked(self, seconds: float) -> None:
        self._talks.append(seconds)

    def wrapped(self, seconds: float) -> None:
        self._wraps.append(seconds)

    def wait(self, place: int, seats: int) -> Range | None:
        """Of the one at `place` (from 1) behind `seats` that are all taken; None: nobody can know."""
        talks = len(self._talks)
        if talks < LEAST or not seats:
            return None
        return estimate(place, seats, (sum(self._talks) + sum(self._wraps)) / talks, talks)


def estimate(place: int, seats: int, handle_s: float, known: float = inf) -> Range:
    """Before `place` of `seats` are free, each taken for `handle_s` on average, a mean of `known` times.

    Quantiles of the gamma distribution by Wilson and Hilferty (1931); a mean of few times makes the range wider.
    """
    mean_s = place * handle_s / seats
    spread = (1 / place + 1 / known) / 9
    low, high = ((1 - spread + z * sqrt(spread)) ** 3 for z in (-Z, Z))
    return mean_s * low, mean_s * high
