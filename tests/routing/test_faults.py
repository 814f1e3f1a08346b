"""With a database cut off, frozen, killed or slow, nothing acknowledged is lost or happens twice (rows 3, 4, 8)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from routing import models as m
from routing.aio.cluster import Cluster
from routing.aio.postgres import connect, migrate
from tests.fakes.cut import Cut
from tests.routing.hotline import Hotline, hotline, site
from tests.routing.record import check


async def _stored(dsn: str, keys: list[UUID]) -> int:
    connection = await connect(dsn)
    found: int = await connection.fetchval(
        "SELECT count(*) FROM submission WHERE key = ANY ($1::uuid[])", keys
    )
    await connection.close()
    return found


async def test_a_repeated_submission_has_no_second_effect_and_the_same_outcome_also_after_a_restart(
    database: str,
) -> None:
    async with asyncio.timeout(20):
        async with hotline(database) as line:
            key, interaction = line.ids(), line.ids()
            opened = m.InteractionOpened(
                key=key,
                organisation=line.organisation,
                interaction=interaction,
                channel="chat",
                direction="in",
                address="+33611223344",
            )
            first, second = await asyncio.gather(line.desk.submit(opened), line.desk.submit(opened))
            assert first == second
            assert first.refused is None
            refused = await line.tell(m.OfferAccepted, offer=line.ids())
            assert refused.refused == "unknown_offer"
            seq = line.desk.seq
        async with hotline(database) as line:
            assert await line.desk.submit(opened) == first
            assert line.desk.seq == seq
            other = m.InteractionOpened(
                key=line.ids(),
                organisation=line.organisation,
                interaction=interaction,
                channel="chat",
                direction="in",
            )
            assert (await line.desk.submit(other)).refused == "known_interaction"


async def test_one_call_id_is_one_interaction(database: str) -> None:
    async with hotline(database) as line:
        await line.call(call="the-call", queue=None)
        fields = {"channel": "voice", "direction": "in", "call": "the-call"}
        assert (
            await line.tell(m.InteractionOpened, interaction=line.ids(), **fields)
        ).refused == "known_call"


async def test_a_line_cut_anywhere_in_the_exchange_of_a_commit_neither_loses_nor_doubles_it(
    database: str,
) -> None:
    async with asyncio.timeout(55), Cut(database) as proxy, hotline(proxy.dsn) as line:
        await line.ready("a1")
        await line.call("+33600000000")
        before = list(proxy.passed)
        await line.call("+33600000001")
        lengths = [after - start for after, start in zip(proxy.passed, before, strict=True)]
        keys: list[UUID] = []
        for way, length in enumerate(lengths):
            for part in range(16):
                allowed = 1 + length * part // 16
                proxy.to_server, proxy.to_client = (None, allowed) if way else (allowed, None)
                interaction, key = line.ids(), line.ids()
                fields = {
                    "channel": "voice",
                    "direction": "in",
                    "call": str(interaction),
                    "address": f"+336{way}{part:07}",
                }
                await line.ok(m.InteractionOpened, key=key, interaction=interaction, **fields)
                await line.ok(m.Enqueued, interaction=interaction, queue="general")
                proxy.to_server = proxy.to_client = None
                keys.append(key)
                assert line.types(interaction).count("interaction.opened") == 1
                assert line.types(interaction).count("interaction.enqueued") == 1
        assert proxy.cuts >= 24
        assert await _stored(database, keys) == len(keys)
        assert line.desk.reloads == 0, "what was decided still stood"
        assert [event.seq for event in line.heard] == list(range(1, len(line.heard) + 1))
        await check(database, line.organisation, line.desk.site)


async def test_a_hearer_that_fails_stops_neither_the_desk_nor_the_other_hearers(database: str) -> None:
    async with hotline(database) as line:

        def bad(event: m.Event) -> None:
            raise RuntimeError("a hearer's mistake")

        line.desk.subscribe(bad)
        heard: list[m.Event] = []
        line.desk.subscribe(heard.append)
        await line.call()
        assert heard


async def test_a_submission_that_the_desk_cannot_digest_is_refused_alone(database: str) -> None:
    async with asyncio.timeout(20), hotline(database) as line:
        await line.ready("a1")
        call = await line.call()
        poison = m.NodeLeft(
            key=line.ids(),
            organisation=line.organisation,
            interaction=call,
            node="x",
            exit="y",
            seconds="never",  # type: ignore[arg-type]
        )
        good = [
            m.FactsLearned(key=line.ids(), organisation=line.organisation, interaction=call, facts={"n": n})
            for n in range(5)
        ]
        told = await asyncio.gather(*(line.desk.submit(each) for each in (*good[:2], poison, *good[2:])))
        assert [each.refused for each in told] == [None, None, "failed", None, None, None]
        assert line.state(call) == "offered", "offered again after the desk has read its record again"
        await line.talk(call)
        await check(database, line.organisation, line.desk.site)


async def test_a_slow_database_does_not_block_the_loop(database: str) -> None:
    async with asyncio.timeout(40), Cut(database) as proxy, hotline(proxy.dsn) as line:
        proxy.delay_s = 0.5
        lags: list[float] = []
        loop = asyncio.get_running_loop()

        timer: asyncio.TimerHandle | None = None

        def beat(due: float) -> None:
            nonlocal timer
            now = loop.time()
            lags.append(now - due)
            timer = loop.call_at(now + 0.01, beat, now + 0.01)

        beat(loop.time())
        await line.call(queue=None)
        assert timer is not None
        timer.cancel()
        proxy.delay_s = 0.0
        assert len(lags) > 50
        assert sorted(lags)[len(lags) * 99 // 100] < 0.25, (
            "far from half a second, on a machine that is busy too"
        )


@asynccontextmanager
async def own_cluster() -> AsyncIterator[Cluster]:
    home = Path(tempfile.mkdtemp(prefix="monofil-fault-", dir="/tmp"))
    home.chmod(0o755)
    try:
        async with Cluster(home) as cluster:
            await migrate(cluster.dsn)
            yield cluster
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _tree(int(child)))]


def _many(line: Hotline, count: int) -> list[m.Submission]:
    return [
        m.InteractionOpened(
            key=line.ids(),
            organisation=line.organisation,
            interaction=line.ids(),
            channel="chat",
            direction="in",
            address=f"+336{n:08}",
        )
        for n in range(count)
    ]


@pytest.mark.slow
async def test_a_database_frozen_for_ten_seconds_is_waited_for_and_loses_nothing() -> None:
    async with asyncio.timeout(60), own_cluster() as cluster, hotline(cluster.dsn) as line:
        assert cluster.pid is not None
        frozen = _tree(cluster.pid)
        loop = asyncio.get_running_loop()
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            waiting = [asyncio.create_task(line.desk.submit(each)) for each in _many(line, 50)]
            done, _ = await asyncio.wait(waiting, timeout=10)
            assert not done, "acknowledged without being stored"
            assert not line.desk.healthy
            assert not line.heard
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        began = loop.time()
        told = await asyncio.gather(*waiting)
        assert loop.time() - began < 10
        assert all(each.refused is None for each in told)
        assert line.desk.healthy
        await check(cluster.dsn, line.organisation, site())


@pytest.mark.slow
async def test_a_database_killed_in_the_middle_comes_back_and_nothing_acknowledged_is_lost() -> None:
    async with asyncio.timeout(90), own_cluster() as cluster, hotline(cluster.dsn) as line:
        many = _many(line, 600)
        acknowledged: list[UUID] = []
        third = asyncio.Event()

        async def one(submission: m.Submission) -> None:
            outcome = await line.desk.submit(submission)
            assert outcome.refused is None
            acknowledged.append(submission.key)
            if len(acknowledged) == 200:
                third.set()

        tasks = [asyncio.create_task(one(each)) for each in many]
        for times, number in enumerate((signal.SIGKILL, signal.SIGQUIT, signal.SIGINT), 1):
            await third.wait()
            assert cluster.pid is not None
            os.kill(cluster.pid, number)
            await cluster.restarted(times)
        await asyncio.gather(*tasks)
        assert await _stored(cluster.dsn, acknowledged) == len(many)
        assert cluster.restarts >= 3
        await line.call(queue=None)
        assert line.desk.healthy
        await check(cluster.dsn, line.organisation, site())


async def test_two_desks_of_one_organisation_never_decide_at_once(database: str) -> None:
    async with asyncio.timeout(20):
        async with hotline(database) as first:
            waiting = asyncio.create_task(_second(database))
            await first.call(queue=None)
            await asyncio.wait([waiting], timeout=0.3)
            assert not waiting.done()
        seq = await waiting
        assert seq > 0


async def _second(dsn: str) -> int:
    async with hotline(dsn) as line:
        return line.desk.seq


async def test_an_idle_desk_notices_that_its_database_is_gone_and_that_it_is_back(database: str) -> None:
    async with asyncio.timeout(30), Cut(database) as proxy, hotline(proxy.dsn) as line:
        assert line.desk.healthy
        proxy.refusing = True
        proxy.cut()
        while line.desk.healthy:  # noqa: ASYNC110 - health is asked for, it is not told
            await asyncio.sleep(0)
        proxy.refusing = False
        while not line.desk.healthy:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await line.call(queue=None)
