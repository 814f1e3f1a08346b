"""The exact figures of queueing theory (faults.md 8), and what the real distribution makes of them.

python -m tests.sim.oracles                    formulas, and every row with few arrivals
python -m tests.sim.oracles --full             10 seeds x 400,000 arrivals a row: the acceptance rule
python -m tests.sim.oracles --rows 3,7 --seeds 5 --arrivals 50000
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from routing.site import Queue
from tests.sim.hotline import FOREVER, Day, play, poisson

STUDENT_99 = {2: 9.925, 3: 5.841, 4: 4.604, 5: 4.032, 6: 3.707, 7: 3.499, 8: 3.355, 9: 3.250}


def erlang_b(a: float, n: int) -> float:
    blocked = 1.0
    for k in range(1, n + 1):
        blocked = a * blocked / (k + a * blocked)
    return blocked


def erlang_c(a: float, n: int) -> float:
    blocked = erlang_b(a, n)
    return blocked / (1 - (a / n) * (1 - blocked))


def asa(lam: float, mu: float, n: int) -> float:
    return erlang_c(lam / mu, n) / (n * mu - lam)


def service_level(lam: float, mu: float, n: int, t: float) -> float:
    return 1 - erlang_c(lam / mu, n) * math.exp(-(n * mu - lam) * t)


def erlang_a(lam: float, mu: float, n: int, theta: float, most: int = 4000) -> dict[str, float]:
    """Birth and death, summed in logarithms."""
    logs = [0.0]
    for k in range(1, most):
        logs.append(logs[-1] + math.log(lam) - math.log(min(k, n) * mu + max(0, k - n) * theta))
    top = max(logs)
    weights = [math.exp(x - top) for x in logs]
    total = sum(weights)
    p = [w / total for w in weights]
    lq = sum((k - n) * p[k] for k in range(n, most))
    return {"p_wait": sum(p[n:]), "lq": lq, "mean": lq / lam, "p_ab": theta * lq / lam}


def cobham(lams: tuple[float, ...], mu: float, n: int) -> list[float]:
    total = sum(lams)
    base = erlang_c(total / mu, n) / (n * mu)
    sums = [sum(lams[:i]) / (n * mu) for i in range(len(lams) + 1)]
    return [base / ((1 - sums[i]) * (1 - sums[i + 1])) for i in range(len(lams))]


Measure = Callable[[random.Random, int], tuple[dict[str, float], Day]]


def _kept(day: Day) -> range:
    """The first 5 % are the way into the steady state."""
    return range(len(day.waits) // 20, len(day.waits))


def figures(
    day: Day, lam: float, t: float | None = None, within: list[int] | None = None
) -> dict[str, float]:
    kept = list(_kept(day)) if within is None else within
    n = len(kept)
    waits = [day.waits[i] for i in kept]
    found = {
        "p_wait": sum(1 for w in waits if w > 0) / n,
        "mean": sum(waits) / n,
        "lq": lam * sum(waits) / n,
        "p_ab": sum(1 for i in kept if not day.served[i]) / n,
    }
    if t is not None:
        found["sl"] = sum(1 for w in waits if w <= t) / n
        found["p_late"] = 1 - found["sl"]
    return found


def mm(lam: float, mu: float, n: int, t: float | None = None, theta: float | None = None) -> Measure:
    def measure(chance: random.Random, arrivals: int) -> tuple[dict[str, float], Day]:
        came = poisson(chance, lam, arrivals)
        talks = [chance.expovariate(mu) for _ in came]
        patience = None if theta is None else [chance.expovariate(theta) for _ in came]
        day = play(n, came, talks, patience)
        return figures(day, lam, t), day

    return measure


def loss(lam: float, mu: float, n: int) -> Measure:
    def measure(chance: random.Random, arrivals: int) -> tuple[dict[str, float], Day]:
        came = poisson(chance, lam, arrivals)
        day = play(n, came, [chance.expovariate(mu) for _ in came], [0.0] * arrivals)
        return figures(day, lam), day

    return measure


def priorities(lams: tuple[float, ...], mu: float, n: int) -> Measure:
    queues = tuple(
        Queue(
            f"q{i}",
            f"q{i}",
            priority=len(lams) - i,
            ageing_per_minute=0.0,
            wrapup_max_s=0,
            max_waiting=10**9,
            offer_s={"voice": FOREVER},
        )
        for i in range(len(lams))
    )

    def measure(chance: random.Random, arrivals: int) -> tuple[dict[str, float], Day]:
        came = poisson(chance, sum(lams), arrivals)
        kinds = chance.choices(range(len(lams)), lams, k=arrivals)
        day = play(n, came, [chance.expovariate(mu) for _ in came], None, kinds, queues)
        found = {}
        for kind in range(len(lams)):
            found[f"mean{kind}"] = figures(day, 0, within=[i for i in _kept(day) if kinds[i] == kind])["mean"]
        return found, day

    return measure


def md1(rho: float) -> Measure:
    def measure(chance: random.Random, arrivals: int) -> tuple[dict[str, float], Day]:
        day = play(1, poisson(chance, rho, arrivals), [1.0] * arrivals)
        return figures(day, rho), day

    return measure


def split(lam: float, mu: float, n: int, parts: int, t: float) -> Measure:
    queues = tuple(
        Queue(f"q{i}", f"q{i}", wrapup_max_s=0, max_waiting=10**9, offer_s={"voice": FOREVER})
        for i in range(parts)
    )

    def measure(chance: random.Random, arrivals: int) -> tuple[dict[str, float], Day]:
        came = poisson(chance, lam, arrivals)
        kinds = [chance.randrange(parts) for _ in came]
        skills = [a % parts for a in range(n)]
        day = play(n, came, [chance.expovariate(mu) for _ in came], None, kinds, queues, skills)
        return figures(day, lam, t), day

    return measure


@dataclass(frozen=True)
class Row:
    name: str
    measure: Measure
    exact: dict[str, float]
    quick: bool = False  # steady enough for the suite


def rows() -> dict[str, Row]:
    minute = 1 / 60
    a7 = erlang_a(48, 1, 50, 0.5)
    prio2, prio1 = cobham((0.2, 0.6, 1.2), 3, 2), cobham((0.2, 0.6, 1.2), 3, 1)
    lam12 = 0.9 * 50 / 180
    return {
        "1": Row("Erlang B, a=10, n=10", loss(10, 1, 10), {"p_ab": erlang_b(10, 10)}, True),
        "2": Row("Erlang B, a=20, n=30", loss(20, 1, 30), {"p_ab": erlang_b(20, 30)}),
        "3": Row("Erlang C, a=8, n=10", mm(8, 1, 10), {"p_wait": 0.409180, "mean": asa(8, 1, 10)}, True),
        "4": Row(
            "M/M/14, 200 calls/h, AHT 180 s",
            mm(200 / 3600, 1 / 180, 14, 20),
            {"p_wait": 0.174132, "mean": 7.8359, "sl": 0.888350, "lq": 0.435330},
            True,
        ),
        "5": Row(
            "M/M/55, 360 per 30 min, AHT 240 s",
            mm(0.2, 1 / 240, 55, 15),
            {"p_wait": 0.238701, "mean": 8.1840, "sl": 0.845883, "lq": 1.636806},
        ),
        "6": Row(
            "M/M/50, 48/min, AHT 1 min",
            mm(48 * minute, minute, 50, 20),
            {"p_wait": 0.694456, "mean": 20.834, "sl": 0.643455, "lq": 16.6669},
        ),
        "7": Row(
            "Erlang A: as 6, patience 2 min",
            mm(48 * minute, minute, 50, 20, minute / 2),
            {
                "p_ab": a7["p_ab"],
                "mean": 60 * a7["mean"],
                "lq": a7["lq"],
                "p_wait": a7["p_wait"],
                "p_late": 0.027136,
            },
            True,
        ),
        "8": Row(
            "Erlang A, overload: 105/min, n=100, patience 1 min",
            mm(105 * minute, minute, 100, 6, minute),
            {"p_ab": 0.0669820, "p_wait": 0.700245, "lq": 7.03310, "mean": 4.0189, "p_late": 0.287421},
            True,
        ),
        "8b": Row(
            "Erlang A, theta = mu: 50/min, n=50",
            mm(50 * minute, minute, 50, None, minute),
            {"p_ab": 0.0563250, "p_wait": 0.518808, "lq": 2.81625},
        ),
        "9": Row(
            "priorities, n=2",
            priorities((0.2, 0.6, 1.2), 3, 2),
            {f"mean{i}": w for i, w in enumerate(prio2)},
            True,
        ),
        "9b": Row(
            "priorities, n=1", priorities((0.2, 0.6, 1.2), 3, 1), {f"mean{i}": w for i, w in enumerate(prio1)}
        ),
        "10": Row("M/D/1, rho 0.8", md1(0.8), {"mean": 2.0}, True),
        "12": Row("50 pooled, rho 0.9", mm(lam12, 1 / 180, 50, 20), {"mean": 13.099, "sl": 0.791232}),
        "12b": Row("5 x 10, rho 0.9", split(lam12, 1 / 180, 50, 5, 20), {"mean": 120.372, "sl": 0.401593}),
    }


@dataclass(frozen=True)
class Verdict:
    figure: str
    exact: float
    mean: float
    half: float  # half-width of the 99 % interval of the run means

    @property
    def holds(self) -> bool:
        return abs(self.mean - self.exact) <= self.half


def judge(row: Row, seeds: range, arrivals: int) -> list[Verdict]:
    """Little's law holds in each run; the exact figure must lie in the interval of the run means."""
    runs: list[dict[str, float]] = []
    for seed in seeds:
        found, day = row.measure(random.Random(f"{row.name} {seed}"), arrivals)
        assert day.little() < 0.005, (row.name, seed, day.little())
        runs.append(found)
    verdicts = []
    for name, exact in row.exact.items():
        values = [run[name] for run in runs]
        half = STUDENT_99[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
        verdicts.append(Verdict(name, exact, statistics.mean(values), half))
    return verdicts


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rows", default="")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arrivals", type=int, default=10_000)
    asked = parser.parse_args(argv)
    seeds, arrivals = (10, 400_000) if asked.full else (asked.seeds, asked.arrivals)
    outside = 0
    print(f"{'row':4} {'model':52} {'figure':7} {'exact':>10} {'measured':>10} {'99 %':>9} {'width':>7}")
    for id, row in rows().items():
        if asked.rows and id not in asked.rows.split(","):
            continue
        began = time.perf_counter()
        verdicts = judge(row, range(seeds), arrivals)
        if not all(
            v.holds for v in verdicts
        ):  # rule 5: once more, with new seeds and four times the arrivals
            verdicts = judge(row, range(1000, 1000 + seeds), 4 * arrivals)
        took = time.perf_counter() - began
        for v in verdicts:
            mark = "" if v.holds else "  OUTSIDE TWICE"
            outside += not v.holds
            print(
                f"{id:4} {row.name:52} {v.figure:7} {v.exact:10.6g} {v.mean:10.6g} ±{v.half:8.3g} "
                f"{v.half / v.exact:6.1%}{mark}"
            )
        print(f"{'':57} {took:.1f} s")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
