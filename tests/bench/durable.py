"""Durable offers: how many a second reach PostgreSQL, and how long after its decision each is durable.

Every offer is made by the real desk with explanation, log, projection and submission keys on. A life here is what an
advisor's next call costs the store: accept, end of talk, end of wrap-up, and the new offer that follows. The
references are measured in the same run on the same server: bare COPY of as many log rows, and commits of one row each.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any
from uuid import UUID

from routing import models as m
from routing.aio.clock import IdMaker, SystemClock
from routing.aio.cluster import Cluster
from routing.aio.desk import Desk
from routing.aio.postgres import connect, migrate, organisation_id
from routing.models import T
from routing.site import Advisor, Queue, Site
from tests.bench.figures import looped, machine, percentile, tell

ADVISORS = 400
SKILL = {"fr": 3}


def _site() -> Site:
    people = tuple(Advisor(f"a{n}", "A", str(n), skills=SKILL, phone=str(n)) for n in range(ADVISORS))
    return Site(
        "bench",
        "Bench",
        queues=(Queue("q", "Q", wrapup_max_s=0, offer_s={"voice": 600.0}, max_waiting=1_000_000),),
        advisors=people,
    )


class _Meter(Desk):
    """A desk that notes when each offer was decided and when it was published."""

    decided: dict[UUID, float]
    durable_ms: list[float]
    sizes: list[int]

    async def _store(self) -> None:
        batch = self._pending
        assert batch is not None
        at = time.perf_counter()
        offers = sum(event.type is T.OFFERED for event in batch.events)
        await super()._store()
        if offers:
            took_ms = (time.perf_counter() - at) * 1000
            self.durable_ms += [took_ms] * offers
            self.sizes.append(offers)


async def _reference(dsn: str, organisation: UUID, ids: IdMaker, rows: int) -> dict[str, float]:
    connection = await connect(dsn)
    await connection.execute("CREATE TABLE bare (id uuid PRIMARY KEY, at timestamptz, data jsonb)")
    clock, data = SystemClock(), {"offer": str(ids()), "epoch": 1, "deadline": 1.5, "queue": "q"}
    records = [(ids(), clock.now(), data) for _ in range(rows)]
    began = time.perf_counter()
    await connection.copy_records_to_table("bare", records=records)
    copy_s = time.perf_counter() - began
    singles = min(rows, 1000)
    records = [(ids(), clock.now(), data) for _ in range(singles)]
    began = time.perf_counter()
    for record in records:
        await connection.execute("INSERT INTO bare VALUES ($1, $2, $3)", *record)
    single_s = time.perf_counter() - began
    await connection.close()
    return {"copy_rows_per_s": rows / copy_s, "single_commits_per_s": singles / single_s}


async def _open(desk: Desk, organisation: UUID, ids: IdMaker, count: int) -> None:
    """Calls that wait: twice as many as there are offers to make."""

    async def one(n: int) -> None:
        interaction = ids()
        opened = m.InteractionOpened(
            key=ids(),
            organisation=organisation,
            interaction=interaction,
            channel="voice",
            direction="in",
            call=str(interaction),
            address=f"+336{n:08}",
        )
        await desk.submit(opened)
        await desk.submit(
            m.Enqueued(key=ids(), organisation=organisation, interaction=interaction, queue="q")
        )

    for first in range(0, count, 2000):
        await asyncio.gather(*(one(n) for n in range(first, min(first + 2000, count))))


async def _offers(desk: _Meter, organisation: UUID, ids: IdMaker, count: int, rate: float | None) -> float:
    """Makes `count` offers by ending talks, as fast as it goes or at `rate` a second; returns the seconds taken."""
    free: deque[tuple[UUID, UUID]] = deque((row.interaction, row.id) for row in desk.offers())
    made = 0
    done = asyncio.Event()

    def hear(event: m.Event) -> None:
        nonlocal made
        if event.type is T.OFFERED:
            assert event.interaction is not None
            made += 1
            free.append((event.interaction, UUID(event.data["offer"])))
            if made >= count:
                done.set()

    end = desk.subscribe(hear)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(interaction: UUID, offer: UUID) -> None:
        await asyncio.gather(
            desk.submit(m.OfferAccepted(key=ids(), organisation=organisation, offer=offer)),
            desk.submit(
                m.TalkEnded(key=ids(), organisation=organisation, interaction=interaction, by="customer")
            ),
        )

    began = time.perf_counter()
    started = 0
    while not done.is_set():
        allowed = count if rate is None else min(count, int((time.perf_counter() - began) * rate))
        while free and started < allowed:
            started += 1
            task = asyncio.create_task(serve(*free.popleft()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.001)
    took_s = time.perf_counter() - began
    end()
    await asyncio.gather(*tasks)
    return took_s


async def _measure(dsn: str, count: int) -> dict[str, Any]:
    await migrate(dsn)
    ids, clock = IdMaker(), SystemClock()
    connection = await connect(dsn)
    organisation = await organisation_id(connection, "bench", ids, clock.now())
    await connection.close()
    desk = _Meter(dsn, organisation, _site(), clock, ids)
    desk.durable_ms, desk.sizes = [], []
    async with desk:
        for n in range(ADVISORS):
            told: tuple[m.Submission, ...] = (
                m.ReachChanged(
                    key=ids(), organisation=organisation, advisor=f"a{n}", channel="voice", reachable=True
                ),
                m.PresenceSet(
                    key=ids(), organisation=organisation, advisor=f"a{n}", presence=m.Presence.READY
                ),
            )
            await asyncio.gather(*(desk.submit(each) for each in told))
        gc.collect()
        gc.freeze()
        gc.disable()  # as in the server: hot processes run without the cyclic collector
        began = time.perf_counter()
        await _open(desk, organisation, ids, 3 * count + 2 * ADVISORS)
        opened_per_s = (3 * count + 2 * ADVISORS) / (time.perf_counter() - began)
        seq = desk.seq
        desk.durable_ms, desk.sizes = [], []
        took_s = await _offers(desk, organisation, ids, count, None)
        flat_out = {
            "offers_per_s": count / took_s,
            "events_per_s": (desk.seq - seq) / took_s,
            "p50_ms": percentile(desk.durable_ms, 0.5),
            "p99_ms": percentile(desk.durable_ms, 0.99),
        }
        rates = {}
        for rate in (500, 1000, 2000):
            desk.durable_ms, desk.sizes = [], []
            part = min(count, rate * 4) // 2
            took_s = await _offers(desk, organisation, ids, part, float(rate))
            rates[str(rate)] = {
                "offers_per_s": part / took_s,
                "p50_ms": percentile(desk.durable_ms, 0.5),
                "p99_ms": percentile(desk.durable_ms, 0.99),
                "group": sum(desk.sizes) / max(1, len(desk.sizes)),
            }
    reference = await _reference(dsn, organisation, ids, min(20_000, 5 * count))
    return {
        "opened_and_queued_per_s": opened_per_s,
        "flat_out": flat_out,
        "at_rate": rates,
        "reference": reference,
    }


async def _run(count: int) -> dict[str, Any]:
    home = Path(tempfile.mkdtemp(prefix="monofil-bench-", dir="/tmp"))
    home.chmod(0o755)
    try:
        async with Cluster(home) as cluster:
            return await _measure(cluster.dsn, count)
    finally:
        gc.enable()
        gc.unfreeze()
        shutil.rmtree(home, ignore_errors=True)


def run(quick: bool = False) -> dict[str, Any]:
    """Prints a table and one JSON line; returns the figures. Aim: 2,000 offers/s, durable p99 under 20 ms."""
    began = machine()
    count = 1_000 if quick else 6_000
    figures = looped(_run(count))
    flat, reference = figures["flat_out"], figures["reference"]
    print(f"{'':24}{'offers/s':>10}{'p50 ms':>9}{'p99 ms':>9}")
    print(f"{'as fast as it goes':24}{flat['offers_per_s']:10.0f}{flat['p50_ms']:9.2f}{flat['p99_ms']:9.2f}")
    for rate, it in figures["at_rate"].items():
        print(f"{'at ' + rate + '/s':24}{it['offers_per_s']:10.0f}{it['p50_ms']:9.2f}{it['p99_ms']:9.2f}")
    print(f"{'opened and queued':24}{figures['opened_and_queued_per_s']:10.0f}")
    print(f"{'bare COPY, rows/s':24}{reference['copy_rows_per_s']:10.0f}")
    print(f"{'single-row commits/s':24}{reference['single_commits_per_s']:10.0f}")
    return tell("durable", "explanation, log, projection, submission keys, fsync", figures, began)


if __name__ == "__main__":
    run("--quick" in sys.argv[1:])
