"""What every test may ask for: a database of its own, and proof that it leaves nothing behind.

One PostgreSQL runs for the whole session; `database` is the address of a fresh database copied from a
migrated template; `seed` is a number that is printed with a failure and fixed by SEED.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from routing.aio.cluster import Cluster
from routing.aio.postgres import migrate
from tests.fakes import turns

UNSAFE = ("fsync = off", "full_page_writes = off", "max_wal_size = '4GB'", "checkpoint_timeout = '1h'")
"""What guards against a power cut only: no test outlives the machine, and a process that is killed needs none of it."""


class _Server:
    """A cluster kept by a loop of its own that runs in the main thread only while it starts and stops."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="monofil-test-", dir="/tmp"))
        self.home.chmod(0o755)
        self.loop = asyncio.new_event_loop()
        self.cluster = Cluster(self.home)
        self.loop.run_until_complete(self.cluster.__aenter__())
        self.number = 0
        self.loop.run_until_complete(self._template())

    def address(self, database: str) -> str:
        return self.cluster.dsn.replace("/monofil?", f"/{database}?")

    async def _template(self) -> None:
        connection = await asyncpg.connect(self.address("postgres"))
        for word in UNSAFE:
            await connection.execute(f"ALTER SYSTEM SET {word}")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.execute("CREATE DATABASE template_monofil")
        await connection.close()
        await migrate(self.address("template_monofil"))

    def stop(self) -> None:
        self.loop.run_until_complete(self.cluster.__aexit__(None, None, None))
        self.loop.close()
        shutil.rmtree(self.home, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[_Server]:
    """The session's PostgreSQL (or the server named by TEST_PG_BIN's binaries)."""
    if named := os.environ.get("TEST_PG_BIN"):
        os.environ["MONOFIL_PG_BIN"] = named
    server = _Server()
    yield server
    server.stop()


@pytest.fixture
async def database(cluster: _Server) -> AsyncIterator[str]:
    """The address of a fresh, migrated, empty database."""
    cluster.number += 1
    name = f"test_{cluster.number}"
    admin = await asyncpg.connect(cluster.address("postgres"))
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE template_monofil")
    try:
        yield cluster.address(name)
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What keeps both cores busy by itself comes last: nobody else has to hurry beside it, and both end together."""
    items.sort(key=lambda item: item.get_closest_marker("load") is not None)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests may wait for what happens in their process with tests.fakes.turns."""
    return {"turns": turns.Loop}


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number to seed chance with; shown when the test fails, set by SEED to play it again."""
    value = int(os.environ.get("SEED") or random.randrange(2**32))
    request.node.add_report_section("call", "seed", f"SEED={value}")
    return value


def _descriptors() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a thread or a socket. (A task left behind fails by the warning of its loop.)"""
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster")
    threads = set(threading.enumerate())
    sockets = _descriptors()
    yield
    deadline = time.monotonic() + 2
    while True:
        left_threads = {
            thread
            for thread in set(threading.enumerate()) - threads
            if thread.is_alive()
            and not thread.daemon
            and not thread.name.startswith(("asyncio_", "ThreadPoolExecutor"))
        }
        left_sockets = _descriptors() - sockets
        if not left_threads and not left_sockets:
            return
        if time.monotonic() > deadline:
            break
        gc.collect()
        threading.Event().wait(0.02)
    loop_sockets = 2 * sum(
        isinstance(thing, asyncio.AbstractEventLoop) and not thing.is_closed() for thing in gc.get_objects()
    )
    if left_threads or len(left_sockets) > loop_sockets:
        pytest.fail(f"left behind: threads {left_threads}, {len(left_sockets)} sockets", pytrace=False)


if sys.platform != "linux":  # pragma: no cover
    collect_ignore_glob = ["*"]
