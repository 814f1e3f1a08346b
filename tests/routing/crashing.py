"""A process that runs a desk under traffic in forked children, each killed at a crash point.

`python -m tests.routing.crashing DSN FIRST LAST`: one line of JSON a run on standard output. Forking is cheap
once everything is imported, so every point can be tried with many seeds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from random import Random
from uuid import UUID

from routing import models as m
from routing.aio import crash
from routing.aio.postgres import connect
from routing.crash import NAMES
from tests.fakes.forked import forked
from tests.routing.hotline import HandClock, Hotline, hotline, site
from tests.routing.record import check
from tests.routing.traffic import Traffic

AT_START = ("desk.elected", "desk.restored")  # passed once in a life, before any traffic
RULES = site(4)
STEPS = 60
LIFE_S = 30.0


def ours() -> tuple[str, ...]:
    return tuple(name for name in NAMES if name.startswith("desk."))


async def _live(
    dsn: str, short: str, clock: HandClock, random: Random, keys: set[UUID], plan: str, pipe: int
) -> None:
    """One life: what the last one left is looked through, then traffic until killed. Acknowledged keys go to `pipe`."""

    def told(submission: m.Submission, outcome: m.Outcome) -> None:
        os.write(pipe, submission.key.bytes)

    if plan.partition(":")[0] in AT_START:
        crash.plan(plan)
    async with asyncio.timeout(LIFE_S), hotline(dsn, RULES, clock, short) as line:
        await _look_through(line, keys)
        if plan:
            crash.plan(plan)
            traffic = Traffic(line, random, told)
            await traffic.start()
            await traffic.steps(STEPS)


async def _look_through(line: Hotline, keys: set[UUID]) -> None:
    """The record is true, nothing acknowledged is lost, nobody is stuck."""
    await line.later(0)  # timers that fell due meanwhile
    for row in line.desk.interactions():
        assert row.channel != "voice" or row.state == "wrapup", (row.id, row.state)
        assert row.state != "waiting" or line.desk.place(row.id)
    connection = await connect(line.dsn)
    statement = "SELECT count(*) FROM submission WHERE organisation_id = $1 AND key = ANY ($2::uuid[])"
    there = await connection.fetchval(statement, line.organisation, list(keys))
    await connection.close()
    assert there == len(keys), f"{len(keys) - there} acknowledged submissions are lost"
    await _everybody_can_work(line)
    await check(line.dsn, line.organisation, RULES)


async def _everybody_can_work(line: Hotline) -> None:
    """Each advisor, once out of wrap-up, gets a new call."""
    line.clock.pass_(3600)
    line.desk.nudge()
    for advisor in RULES.advisors:
        await line.ready(advisor.id)
    calls = [await line.call(f"+3369999999{n}") for n, _ in enumerate(RULES.advisors)]
    busy = {
        row.advisor for row in line.desk.interactions() if row.channel == "voice" and row.state == "offered"
    }
    assert busy == {advisor.id for advisor in RULES.advisors}, busy
    for call in calls:
        await line.ok(m.CustomerLeft, interaction=call)


def life(
    dsn: str, short: str, clock: HandClock, seed: int, keys: set[UUID], plan: str
) -> tuple[set[UUID], int]:
    """(acknowledged keys, signal that ended it or 0) of one forked child."""
    return forked(
        lambda pipe: asyncio.run(_live(dsn, short, clock, Random(seed), keys, plan, pipe)),
        f"seed {seed}, {short}, {plan}",
    )


def run(dsn: str, seed: int) -> list[dict[str, object]]:
    """One organisation killed at every point, in an order of chance; each life looks through the last one's record."""
    random = Random(seed)
    short, clock, keys = f"crash-{seed}", HandClock(), set[UUID]()
    points = list(ours())
    random.shuffle(points)
    told: list[dict[str, object]] = []
    for point in points:
        plan = f"{point}:{1 if point in AT_START else random.randint(1, 25)}"
        more, ended = life(dsn, short, clock, random.randrange(2**32), keys, plan)
        told.append({"point": point, "seed": seed, "acknowledged": len(more), "signal": ended, "plan": plan})
        keys |= more
        clock.pass_(7200)
    life(dsn, short, clock, 0, keys, "")
    return told


def main() -> None:
    dsn, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for seed in range(first, last):
        for told in run(dsn, seed):
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
