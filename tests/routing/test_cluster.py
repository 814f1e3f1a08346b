"""Our own PostgreSQL: it starts where it may, is shared, comes back, and goes with its owner, however that ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from routing.aio.cluster import CannotStart, Cluster, dsn_of, find_binaries, running, socket_directory

OWNER = """
import asyncio, sys
from pathlib import Path
from routing.aio.cluster import Cluster

async def main():
    async with Cluster(Path(sys.argv[1])) as cluster:
        print(cluster.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="monofil-cluster-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def _owner(home: Path) -> tuple[asyncio.subprocess.Process, int]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(home), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    return child, int(await child.stdout.readline())


async def _write(dsn: str, number: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (n integer)")
    await connection.execute("INSERT INTO kept VALUES ($1)", number)
    await connection.close()


async def _gone(pid: int) -> None:
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop.add_reader(pidfd, gone.set)
    await gone.wait()
    loop.remove_reader(pidfd)
    os.close(pidfd)


async def test_after_a_kill_of_its_owner_it_is_gone_and_starts_again_with_everything(home: Path) -> None:
    async with asyncio.timeout(40):
        for number in range(2):
            child, pid = await _owner(home)
            assert await running(home) == dsn_of(home)
            await _write(dsn_of(home), number)
            child.send_signal(signal.SIGKILL)
            await child.wait()
            await _gone(pid)
            assert await running(home) is None
        async with Cluster(home) as cluster:
            assert cluster.owner
            connection = await asyncpg.connect(cluster.dsn)
            assert [row[0] for row in await connection.fetch("SELECT n FROM kept ORDER BY n")] == [0, 1]
            assert await connection.fetchval("SHOW fsync") == "on"
            assert await connection.fetchval("SHOW data_checksums") == "on"
            assert await connection.fetchval("SHOW listen_addresses") == ""
            await connection.close()
            assert cluster.pid is not None
            status = Path(f"/proc/{cluster.pid}/status").read_text()
            assert "\nUid:\t0\t" not in status, "never as root"
        assert await running(home) is None


async def test_a_command_beside_the_server_shares_its_database_and_leaves_it_running(home: Path) -> None:
    async with asyncio.timeout(30), Cluster(home) as first:
        async with Cluster(home) as second:
            assert not second.owner
            await _write(second.dsn, 1)
        assert await running(home) == first.dsn


async def test_several_that_start_at_once_share_one_server(home: Path) -> None:
    async with asyncio.timeout(40):
        several = [Cluster(home) for _ in range(3)]
        await asyncio.gather(*(each.__aenter__() for each in several))
        assert sum(each.owner for each in several) == 1
        for each in sorted(several, key=lambda each: each.owner):
            await _write(each.dsn, 1)
            await each.__aexit__(None, None, None)


async def test_a_half_made_data_directory_is_made_again(home: Path) -> None:
    half = home / "pg" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    async with asyncio.timeout(30), Cluster(home) as cluster:
        await _write(cluster.dsn, 1)


async def test_a_long_path_gets_a_short_socket(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    assert len(str(socket_directory(deep))) < 80
    async with asyncio.timeout(30), Cluster(deep) as cluster:
        await _write(cluster.dsn, 1)
    shutil.rmtree(socket_directory(deep), ignore_errors=True)


async def test_what_cannot_start_says_in_one_sentence_what_and_how_to_cure_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("")
    with pytest.raises(CannotStart, match=r"MONOFIL_DATA_DIR"):
        await Cluster(home / "file" / "below").__aenter__()
    data = home / "pg" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("7\n")
    with pytest.raises(CannotStart, match=r"PostgreSQL 7.*MONOFIL_PG_BIN.*db restore"):
        await Cluster(home).__aenter__()
    if os.geteuid() == 0:
        closed = home / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(CannotStart, match=r"root.*/closed.*MONOFIL_DATA_DIR"):
            await Cluster(closed / "data").__aenter__()
    monkeypatch.setenv("MONOFIL_PG_BIN", str(home))
    found = find_binaries()
    assert found is not None
    assert found.bin != home, "a directory without postgres is passed over"


async def test_a_broken_data_directory_is_told_with_the_last_line_of_its_journal(home: Path) -> None:
    async with asyncio.timeout(40):
        async with Cluster(home):
            pass
        (home / "pg" / "data" / "global" / "pg_control").write_bytes(b"")
        with pytest.raises(CannotStart, match=r"ended at once with code -?\d+ \(.*journal"):
            await Cluster(home).__aenter__()
