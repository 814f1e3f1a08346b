"""Queueing theory and plain recursions against the real distribution, in virtual time (faults.md 8)."""

from __future__ import annotations

import random

import pytest

from routing.site import Queue
from tests.sim import oracles as o
from tests.sim.hotline import FOREVER, plain_fifo, plain_priorities, play, poisson


def test_the_formulas_give_the_published_figures() -> None:
    assert [round(o.erlang_b(*x), 7) for x in ((20, 30), (12, 20), (100, 117))] == [
        0.0084575,
        0.0097956,
        0.0097901,
    ]
    assert round(o.erlang_b(10, 10), 6) == 0.214582
    assert round(o.erlang_c(8, 10), 6) == 0.409180
    assert round(o.asa(200 / 3600, 1 / 180, 14), 4) == 7.8359
    assert round(o.service_level(200 / 3600, 1 / 180, 14, 20), 6) == 0.888350
    assert round(o.asa(0.2, 1 / 240, 55), 4) == 8.1840
    assert round(60 * o.asa(48, 1, 50), 3) == 20.834
    a = o.erlang_a(48, 1, 50, 0.5)
    assert [round(a["p_ab"], 6), round(60 * a["mean"], 4), round(a["p_wait"], 6)] == [
        0.030912,
        3.7095,
        0.467774,
    ]
    over = o.erlang_a(105, 1, 100, 1)
    assert [round(over["p_ab"], 6), round(over["p_wait"], 6), round(over["lq"], 4)] == [
        0.066982,
        0.700245,
        7.0331,
    ]
    assert [round(w, 7) for w in o.cobham((0.2, 0.6, 1.2), 3, 2)] == [0.0287356, 0.0331565, 0.0480769]
    assert [round(w, 6) for w in o.cobham((0.2, 0.6, 1.2), 3, 1)] == [0.238095, 0.324675, 0.909091]
    assert round(o.asa(0.25, 1 / 180, 50), 3) == 13.099
    assert round(o.asa(0.05, 1 / 180, 10), 3) == 120.372


@pytest.mark.parametrize("seed", range(3))
def test_every_single_wait_is_that_of_a_plain_first_come_recursion(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    came = poisson(chance, 9.5, 5_000)
    talks = [chance.expovariate(1) for _ in came]
    day = play(10, came, talks)
    assert (day.waits, day.served) == plain_fifo(10, came, talks)
    assert max(day.waits) > 0.5
    assert day.little() < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_with_patience_too_every_single_wait_and_abandonment_agrees(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    came = poisson(chance, 12, 5_000)
    talks = [chance.expovariate(1) for _ in came]
    patience = [chance.expovariate(1) for _ in came]
    day = play(10, came, talks, patience)
    assert (day.waits, day.served) == plain_fifo(10, came, talks, patience)
    assert 500 < day.served.count(False) < 2000


@pytest.mark.parametrize("seed", range(3))
def test_with_priorities_too_class_by_class(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    came = poisson(chance, 2.8, 5_000)
    talks = [chance.expovariate(1) for _ in came]
    kinds = chance.choices((0, 1, 2), (1, 2, 3), k=len(came))
    queues = tuple(
        Queue(f"q{i}", "", (), 9 - i, 0.0, wrapup_max_s=0, max_waiting=10**9, offer_s={"voice": FOREVER})
        for i in range(3)
    )
    assert play(3, came, talks, None, kinds, queues).waits == plain_priorities(3, came, talks, kinds)


@pytest.mark.parametrize("id", [id for id, row in o.rows().items() if row.quick])
def test_the_exact_figures_lie_in_the_interval_of_a_few_runs(id: str) -> None:
    """The suite's share: 5 seeds x 4,000 arrivals, so the interval is wide; `--full` is the acceptance rule."""
    for v in o.judge(o.rows()[id], range(5), 4_000):
        assert v.holds, v


def test_pooling_shortens_the_wait() -> None:
    pooled, _ = o.rows()["12"].measure(random.Random(1), 5_000)
    apart, _ = o.rows()["12b"].measure(random.Random(1), 5_000)
    assert pooled["mean"] * 3 < apart["mean"]
