"""A hotline in virtual time: arrivals, patience and talk are given, the real distribution decides."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from routing import steps as s
from routing.distribution import Distribution
from routing.site import Advisor, Queue

FOREVER = 1e12


@dataclass
class Day:
    """What happened, a row an arrival."""

    arrivals: Sequence[float]
    waits: list[float] = field(default_factory=list)
    served: list[bool] = field(default_factory=list)
    busy_s: float = 0.0
    queued_s: float = 0.0  # the integral of the queue's length
    end: float = 0.0

    def little(self) -> float:
        """abs(L - lambda W) / L, where L is integrated from the queue's length and W is the mean of the waits."""
        length = self.queued_s / self.end
        product = sum(self.waits) / self.end
        return abs(length - product) / length if length else 0.0


def play(
    advisors: int,
    arrivals: Sequence[float],
    talks: Sequence[float],
    patience: Sequence[float] | None = None,
    kinds: Sequence[int] | None = None,
    queues: tuple[Queue, ...] | None = None,
    skills: Sequence[int] | None = None,
) -> Day:
    """Seconds everywhere. `kinds[i]` is the queue of arrival i; `skills[a]` the only queue that advisor a serves.

    Patience 0 makes a loss system: who is not offered to somebody in the step of his arrival is gone.
    """
    model = Distribution()
    if queues is None:
        queues = (Queue("q0", "q0", wrapup_max_s=0, max_waiting=10**9, offer_s={"voice": FOREVER}),)
    model.step(s.RulesSet(queues), 0.0)
    for a in range(advisors):
        own = None if skills is None else (f"q{skills[a]}",)
        model.step(s.AdvisorSet(Advisor(f"a{a:04}", "", "", seats={"voice": 1}, queues=own)), 0.0)
        model.step(s.ReachSet(f"a{a:04}", "voice", True), 0.0)
        model.step(s.PresenceSet(f"a{a:04}", "ready"), 0.0)

    n = len(arrivals)
    day = Day(arrivals, [0.0] * n, [False] * n)
    agenda: list[tuple[float, int, str]] = []  # ends of talks and of patience
    waiting, last, done = 0, 0.0, 0

    def look(decisions: list[s.Decision], now: float) -> None:
        nonlocal waiting
        for d in decisions:
            if isinstance(d, s.Offered):
                i = int(d.interaction)
                day.waits[i], day.served[i] = now - arrivals[i], True
                day.busy_s += talks[i]
                waiting -= 1
                heapq.heappush(agenda, (now + talks[i], i, "talk"))
                model.step(s.Accept(d.offer), now)

    at = 0
    while at < n or agenda:
        if at < n and (not agenda or arrivals[at] <= agenda[0][0]):
            now, i = arrivals[at], at
            at += 1
            day.queued_s += waiting * (now - last)
            last = now
            waiting += 1
            queue = f"q{kinds[i]}" if kinds is not None else "q0"
            look(model.step(s.Enqueue(str(i), queue, "voice", now), now), now)
            if patience is not None and not day.served[i]:
                heapq.heappush(agenda, (now + patience[i], i, "patience"))
        else:
            now, i, kind = heapq.heappop(agenda)
            if kind == "patience" and day.served[i]:
                continue
            day.queued_s += waiting * (now - last)
            last = now
            if kind == "talk":
                look(model.step(s.Finish(str(i)), now), now)
                done += 1
            else:
                model.step(s.Withdraw(str(i)), now)
                day.waits[i] = now - arrivals[i]
                waiting -= 1
    day.end = last
    assert waiting == 0
    assert done == sum(day.served), "everybody served has finished"
    assert all(row.waiting == row.offered == row.active == 0 for row in model.board(last).queues), "I2"
    return day


def plain_fifo(
    advisors: int, arrivals: Sequence[float], talks: Sequence[float], patience: Sequence[float] | None = None
) -> tuple[list[float], list[bool]]:
    """First come, first served, as a recursion over the instants at which servers become free."""
    free = [0.0] * advisors
    waits, served = [], []
    for i, came in enumerate(arrivals):
        begins = max(came, free[0])
        if patience is not None and begins > came + patience[i]:
            waits.append(came + patience[i] - came)
            served.append(False)
            continue
        heapq.heapreplace(free, begins + talks[i])
        waits.append(begins - came)
        served.append(True)
    return waits, served


def plain_priorities(
    advisors: int, arrivals: Sequence[float], talks: Sequence[float], kinds: Sequence[int]
) -> list[float]:
    """Non-preemptive priorities, class 0 first, first come first served inside a class."""
    lines: dict[int, list[int]] = {kind: [] for kind in sorted(set(kinds))}
    heads = dict.fromkeys(lines, 0)
    ends: list[float] = []
    waits = [0.0] * len(arrivals)
    busy = 0

    def begin(now: float) -> None:
        nonlocal busy
        for kind, line in lines.items():
            if heads[kind] < len(line):
                i = line[heads[kind]]
                heads[kind] += 1
                waits[i] = now - arrivals[i]
                heapq.heappush(ends, now + talks[i])
                busy += 1
                return

    for i, came in enumerate(arrivals):
        while ends and ends[0] < came:
            now = heapq.heappop(ends)
            busy -= 1
            begin(now)
        lines[kinds[i]].append(i)
        if busy < advisors:
            begin(came)
    while ends:
        now = heapq.heappop(ends)
        busy -= 1
        begin(now)
    return waits


def poisson(chance: random.Random, rate: float, n: int) -> list[float]:
    now, found = 0.0, []
    for _ in range(n):
        now += chance.expovariate(rate)
        found.append(now)
    return found
