"""The database freezes or goes away while people talk: the talk goes on, and nothing acknowledged is lost (row 3)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest

from config import site as site_file
from cti.aio.headless import HeadlessConsole
from routing.aio.cluster import Cluster, dsn_of
from routing.aio.postgres import connect, migrate
from softphone_bridge.aio.phone import Call, CallFailed, Phone
from tests.e2e.hotline import DIRECT, Hotline, direct_site
from tests.e2e.served import Served
from tests.routing.record import check

FREEZE_S = 10.0
LONG_S = 30.0
LEA_HZ, CALLER_HZ = 700.0, 440.0


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can pass through (pytest's can't be)."""
    path = Path(tempfile.mkdtemp(prefix="monofil-fault-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def served(
    home: Path, env: dict[str, str], dsn: str, *, site: Path | None = None
) -> AsyncIterator[Hotline]:
    async with Served(home, site=site or direct_site(home), env={"MONOFIL_DRAIN_S": "1", **env}) as server:
        password = await server.password("admin")
        async with HeadlessConsole(server.http, "admin", password) as admin:
            yield Hotline(server, admin, dsn)


def children(pid: int) -> list[int]:
    """All processes below one, itself left out."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def ready_is(hotline: Hotline, status: int) -> None:
    """Ask /readyz until it says so."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(LONG_S):
        while True:
            async with http.get(hotline.server.http + "/readyz") as answer:
                if answer.status == status:
                    return
            async with http.get(hotline.server.http + "/healthz") as alive:
                assert alive.status == 200


async def answered_or_refused(phone: Phone, uri: str) -> Call | None:
    """A caller in the bad time: hears us, or is told 503; never nothing."""
    try:
        return await phone.dial(uri, timeout_s=LONG_S)
    except CallFailed as refused:
        if refused.ended.status != 503:
            raise
        return None


async def check_record(hotline: Hotline) -> None:
    site = site_file.check(hotline.server.folder / "site.yaml").site
    assert site is not None
    connection = await connect(hotline.dsn)
    organisation = await connection.fetchval("SELECT id FROM organisation")
    await connection.close()
    await check(hotline.dsn, organisation, site)


async def other_than(hotline: Hotline, first: str) -> str:
    """The other interaction that is not over, once there is one."""
    found: list[str] = []

    async def there() -> bool:
        rows = await hotline.sql("SELECT id FROM interaction WHERE ended_at IS NULL")
        found[:] = [str(row["id"]) for row in rows if str(row["id"]) != first]
        return bool(found)

    await hotline.until(there, LONG_S)
    return found[0]


async def state_is(hotline: Hotline, interaction: str, *states: str) -> None:
    async def so() -> bool:
        return (await hotline.row(interaction))["state"] in states

    await hotline.until(so, LONG_S)


@pytest.mark.slow
async def test_a_talk_goes_on_while_postgresql_is_frozen_and_what_happened_then_is_recorded(
    home: Path,
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        served(home, {}, dsn_of(home)) as hotline,
        hotline.at_work("lea", tone_hz=LEA_HZ) as lea,
        Phone(user="+33612345678", tone_hz=CALLER_HZ) as caller,
        Phone(user="+33612345679") as waiter,
        Phone(user="+33612345680") as late,
    ):
        call = await caller.dial(hotline.uri(DIRECT))
        ringing = await lea.ringing()
        ringing.answer()
        first = (await lea.offered())["data"]["interaction"]["id"]
        await call.wait_tone(LEA_HZ, LONG_S)
        waiting = await waiter.dial(hotline.uri(DIRECT))
        second = await other_than(hotline, first)
        await state_is(hotline, second, "waiting")

        below = [pid for pid in children(hotline.server.pid) if name_of(pid).startswith("postgres")]
        assert len(below) > 3
        with frozen(below):
            began = loop.time()
            new = asyncio.create_task(answered_or_refused(late, hotline.uri(DIRECT)))
            waiting.hang_up()
            await ready_is(hotline, 503)
            while loop.time() - began < FREEZE_S:
                call.sound.clear()
                ringing.sound.clear()
                await call.wait_tone(LEA_HZ, LONG_S, over_s=1.0)
                await ringing.wait_tone(CALLER_HZ, LONG_S, over_s=1.0)
            call.hang_up()
            await ringing.wait_ended(LONG_S)
            third = await new
        await ready_is(hotline, 200)
        await state_is(hotline, first, "ended", "wrapup")
        await state_is(hotline, second, "abandoned")
        if third is None:
            third = await late.dial(hotline.uri(DIRECT), timeout_s=LONG_S)
        again = await lea.ringing(LONG_S)
        again.answer()
        await third.wait_tone(LEA_HZ, LONG_S)
        third.hang_up()
        await again.wait_ended(LONG_S)
        await check_record(hotline)


@pytest.mark.slow
async def test_a_talk_goes_on_while_an_external_postgresql_is_stopped_and_work_begins_again_after_it(
    home: Path,
) -> None:
    loop = asyncio.get_running_loop()
    cluster = Cluster(home / "elsewhere")
    await cluster.__aenter__()
    try:
        await migrate(cluster.dsn)
        folder = home / "server"
        folder.mkdir()
        async with (
            served(folder, {"MONOFIL_DATABASE_URL": cluster.dsn}, cluster.dsn) as hotline,
            hotline.at_work("lea", tone_hz=LEA_HZ) as lea,
            Phone(user="+33612345678", tone_hz=CALLER_HZ) as caller,
            Phone(user="+33612345680") as late,
        ):
            call = await caller.dial(hotline.uri(DIRECT))
            ringing = await lea.ringing()
            ringing.answer()
            first = (await lea.offered())["data"]["interaction"]["id"]
            await call.wait_tone(LEA_HZ, LONG_S)

            await cluster.__aexit__(None, None, None)
            await ready_is(hotline, 503)
            call.sound.clear()
            await call.wait_tone(LEA_HZ, LONG_S, over_s=1.0)
            new = asyncio.create_task(answered_or_refused(late, hotline.uri(DIRECT)))
            call.hang_up()
            await ringing.wait_ended(LONG_S)
            third = await new

            cluster = Cluster(home / "elsewhere")
            await cluster.__aenter__()
            began = loop.time()
            if third is None:
                third = await late.dial(hotline.uri(DIRECT), timeout_s=LONG_S)
            again = await lea.ringing(LONG_S)
            print(f"first assignment {loop.time() - began:.1f} s after the return")
            again.answer()
            await third.wait_tone(LEA_HZ, LONG_S)
            await ready_is(hotline, 200)
            await state_is(hotline, first, "ended", "wrapup")
            third.hang_up()
            await again.wait_ended(LONG_S)
            await check_record(hotline)
    finally:
        await cluster.__aexit__(None, None, None)
