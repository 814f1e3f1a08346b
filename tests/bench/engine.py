"""How fast the distribution decides, exactly and with its explanations: `python -m tests.bench.engine [--quick]`.

One decision is the step in which an advisor becomes free and is offered the best of everything that waits for
him: his seat is given back, the best found, the offer made, explained and timed. A life is a whole interaction:
newcomer, offer, accept, end, wrap-up. Rates are of one
core (CPU time of the engine alone), so that a busy machine does not lower them; p50 and p99 are by the wall clock.
The reference is a scan of all that wait, in the same run.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections import deque
from typing import Any

from routing import steps as s
from routing.distribution import Distribution
from routing.site import Advisor, Need, Queue
from tests.bench.figures import machine, percentile, tell

SKILLS = 200
QUEUES = 400
CHANNELS = {"voice": 0.7, "chat": 0.2, "mail": 0.1}
START = 1_700_000_000.0


class World:
    """A seeded hotline: 200 skills of uneven popularity, queues that need one or two, advisors who have eight."""

    def __init__(self, advisors: int, seed: int = 1) -> None:
        self.chance = chance = random.Random(seed)
        names = [f"s{i:03}" for i in range(SKILLS)]
        popular = [1 / (i + 10) for i in range(SKILLS)]
        self.queues = tuple(
            Queue(
                f"q{i:03}",
                f"q{i:03}",
                needs=tuple(
                    Need(((skill, chance.randint(1, 3)),))
                    for skill in sorted(set(chance.choices(names, popular, k=chance.choice((1, 2)))))
                ),
                priority=chance.randint(0, 3),
                ageing_per_minute=chance.choice((0.5, 1.0, 2.0)),
                max_waiting=10**9,
                offer_s={"voice": 1e6, "chat": 1e6, "mail": 1e6},
                wrapup_max_s=60.0,
            )
            for i in range(QUEUES)
        )
        self.advisors = [
            Advisor(
                f"a{i:05}",
                "",
                "",
                skills={skill: chance.randint(1, 5) for skill in chance.choices(names, popular, k=8)},
            )
            for i in range(advisors)
        ]
        self.now = START
        self.count = 0
        self.model = Distribution()
        self.model.step(s.RulesSet(self.queues), self.now)
        for advisor in self.advisors:
            self.model.step(s.AdvisorSet(advisor), self.now)
            self.model.step(s.ReachSet(advisor.id, "voice", True), self.now)

    def newcomer(self) -> s.Enqueue:
        self.count += 1
        (channel,) = self.chance.choices(list(CHANNELS), list(CHANNELS.values()))
        queue = self.chance.choice(self.queues)
        return s.Enqueue(f"i{self.count}", queue.id, channel, self.now, contact=f"c{self.count}")

    def open(self) -> None:
        for advisor in self.advisors:
            self.model.step(s.PresenceSet(advisor.id, "ready"), self.now)

    def fill(self, waiting: int) -> deque[s.Offered]:
        """Newcomers until every seat is taken that can be, and so many wait."""
        offers: list[s.Offered] = []
        missing = waiting
        while missing > 0:
            for _ in range(missing):
                self.now += 0.001
                told = self.model.step(self.newcomer(), self.now)
                offers.extend(d for d in told if isinstance(d, s.Offered))
            missing = waiting - sum(row.waiting for row in self.model.board(self.now).queues)
        self.chance.shuffle(offers)
        return deque(offers)


def drain(world: World, offers: deque[s.Offered], lives: int) -> dict[str, float]:
    """Overload: each advisor who becomes free takes the best of all that waits."""
    model, clock, core = world.model, time.perf_counter, time.thread_time
    deciding: list[float] = []
    cpu, whole, made = 0.0, 0.0, 0
    for _ in range(lives):
        world.now += 0.001
        offer = offers.popleft()
        newcomer = world.newcomer()
        c0 = core()
        told = model.step(newcomer, world.now)
        model.step(s.Accept(offer.offer), world.now)
        model.step(s.Finish(offer.interaction), world.now)
        c1, t1 = core(), clock()
        told += model.step(s.WrapupDone(offer.interaction), world.now)
        t2, c2 = clock(), core()
        found = [d for d in told if isinstance(d, s.Offered)]
        offers.extend(found)
        whole += c2 - c0
        if found:
            deciding.append(t2 - t1)
            cpu += c2 - c1
            made += len(found)
    return {
        "decisions_per_s": len(deciding) / cpu,
        "p50_us": percentile(deciding, 0.5) * 1e6,
        "p99_us": percentile(deciding, 0.99) * 1e6,
        "lives_per_s": made / whole,
    }


def greet(world: World, free: int, n: int) -> dict[str, float]:
    """Calm: each newcomer goes to the best of the advisors who are free."""
    model, clock, core = world.model, time.perf_counter, time.thread_time
    cpu = 0.0
    for advisor in world.advisors[free:]:
        model.step(s.PresenceSet(advisor.id, "offline"), world.now)
    deciding: list[float] = []
    for _ in range(n):
        world.now += 0.001
        newcomer = world.newcomer()
        c0, t0 = core(), clock()
        told = model.step(newcomer, world.now)
        t1, c1 = clock(), core()
        for d in told:
            if isinstance(d, s.Offered):
                deciding.append(t1 - t0)
                cpu += c1 - c0
                model.step(s.Accept(d.offer), world.now)
                model.step(s.Finish(d.interaction), world.now)
                model.step(s.WrapupDone(d.interaction), world.now)
                break
        else:
            model.step(s.Withdraw(newcomer.interaction), world.now)
    return {
        "greet_per_s": len(deciding) / cpu,
        "greet_p50_us": percentile(deciding, 0.5) * 1e6,
        "greet_p99_us": percentile(deciding, 0.99) * 1e6,
    }


def scan(world: World, waiting: list[s.Enqueue], n: int) -> float:
    """Decisions a second of a plain scan over all that wait, for one advisor after the other."""
    rules = {queue.id: queue for queue in world.queues}
    t0 = time.thread_time()
    for advisor in world.chance.sample(world.advisors, n):
        best: tuple[float, float, str] | None = None
        for told in waiting:
            queue = rules[told.queue]
            if all(any(advisor.skills.get(k, 0) >= low for k, low in need.any_of) for need in queue.needs):
                score = queue.priority + queue.ageing_per_minute * (world.now - told.since) / 60
                key = (-score, told.since, told.interaction)
                if best is None or key < best:
                    best = key
    return n / (time.thread_time() - t0)


def measure(advisors: int, waiting: int, lives: int, scans: int) -> dict[str, Any]:
    world = World(advisors)
    world.open()
    offers = world.fill(waiting)
    backlog = [world.newcomer() for _ in range(waiting)]
    gc.collect()
    gc.freeze()
    gc.disable()  # as in the server's hot process
    try:
        found: dict[str, Any] = {"advisors": advisors, "waiting": waiting, "skills": SKILLS, "queues": QUEUES}
        drain(world, offers, lives // 10)
        found |= drain(world, offers, lives)
        found["scan_per_s"] = scan(world, backlog, scans)
        found["times_scan"] = found["decisions_per_s"] / found["scan_per_s"]
        calm = World(advisors, seed=2)
        calm.open()
        greet(calm, min(advisors, 4000), lives // 10)
        found |= greet(calm, min(advisors, 4000), lives // 2)
    finally:
        gc.enable()
        gc.unfreeze()
    return found


def run(quick: bool = False) -> dict[str, Any]:
    """Measure; prints the table and the JSON line and returns it. About 5 s quick, 1 min else."""
    began = machine()
    sizes = ((1_000, 10_000), (15_000, 100_000))
    lives = 2_000 if quick else 40_000
    results = [measure(a, w, lives, 3 if quick else 20) for a, w in (sizes[:1] if quick else sizes)]
    print("engine: exact decisions of one process, explanations and contacts switched on, no store")
    print(
        f"{'advisors':>9} {'waiting':>8} {'decisions/s':>12} {'p50 µs':>7} {'p99 µs':>7} {'lives/s':>8}",
        end="",
    )
    print(f" {'newcomers/s':>12} {'p50 µs':>7} {'p99 µs':>7} {'scan/s':>8} {'× scan':>7}")
    for r in results:
        print(
            f"{r['advisors']:9,} {r['waiting']:8,} {r['decisions_per_s']:12,.0f} {r['p50_us']:7.1f} {r['p99_us']:7.1f} "
            f"{r['lives_per_s']:8,.0f} {r['greet_per_s']:12,.0f} {r['greet_p50_us']:7.1f} {r['greet_p99_us']:7.1f} "
            f"{r['scan_per_s']:8,.1f} {r['times_scan']:7,.0f}"
        )
    return tell("engine", "explanation, contacts; no store", {"results": results}, began)


if __name__ == "__main__":
    run("--quick" in sys.argv[1:])
