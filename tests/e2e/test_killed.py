"""A server that is killed in the middle of a recorded talk, short of disk, or with a dead part."""

from __future__ import annotations

import asyncio
import resource
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.child import Child
from media import tone, wav
from routing.aio.cluster import dsn_of, running
from softphone_bridge.aio.phone import Phone
from tests.e2e.hotline import DIRECT, Hotline, Person, direct_site
from tests.e2e.served import Served
from tests.e2e.test_database_faults import LONG_S, check_record, children, name_of, served

LEA_HZ, CALLER_HZ = 700.0, 440.0
FULL_BYTES = 60_001  # not a whole frame
RECORDED = {"queues": {"general": {"record": True}}}


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can pass through (pytest's can't be)."""
    path = Path(tempfile.mkdtemp(prefix="monofil-kill-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def recordings(folder: Path) -> list[Path]:
    return sorted((folder / "recordings").rglob("*.wav"))


async def growing(data: Path) -> Path:
    """The one recording, once there is a second in it."""
    async with asyncio.timeout(LONG_S):
        while not (found := recordings(data)) or found[0].stat().st_size < 50_000:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return found[0]


async def gone(pids: list[int]) -> None:
    async with asyncio.timeout(10):
        while any(Path(f"/proc/{pid}").exists() for pid in pids):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def talks(hotline: Hotline, data: Path, lea: Person, caller: Phone) -> tuple[str, Path]:
    """A recorded talk, both heard; its interaction and its file with a second in it."""
    call = await caller.dial(hotline.uri(DIRECT))
    ringing = await lea.ringing()
    ringing.answer()
    interaction = (await lea.offered())["data"]["interaction"]["id"]
    file = await growing(data)
    await call.wait_tone(LEA_HZ, LONG_S)
    return str(interaction), file


@pytest.mark.slow
async def test_a_killed_server_leaves_nothing_running_and_its_recording_is_found_by_the_next_start(
    home: Path,
) -> None:
    site = direct_site(home, **RECORDED)
    data = home / "made" / "by the server"
    env = {"MONOFIL_DATA_DIR": str(data), "MONOFIL_DRAIN_S": "1"}
    async with served(home, env, dsn_of(data), site=site) as hotline:
        server = hotline.server
        async with (
            hotline.at_work("lea", tone_hz=LEA_HZ) as lea,
            Phone(user="+33612345678", tone_hz=CALLER_HZ) as caller,
        ):
            interaction, file = await talks(hotline, data, lea, caller)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert stat.S_IMODE((data / "recordings").stat().st_mode) == 0o700
            below = children(server.pid)
            assert "postgres" in {name_of(pid) for pid in below}
            await server.kill()
            await gone(below)
            assert await running(data) is None

            http_port, sip_port = server.http.rpartition(":")[2], str(server.sip_port)
            server.env |= {"MONOFIL_HTTP_PORT": http_port, "MONOFIL_SIP_PORT": sip_port}
            began = asyncio.get_running_loop().time()
            await server.start()
            print(f"started again in {asyncio.get_running_loop().time() - began:.1f} s")
            [row] = await hotline.sql("SELECT state FROM interaction WHERE id = $1::text::uuid", interaction)
            assert row["state"] == "interrupted"

            async def stored() -> bool:
                return bool(await hotline.sql("SELECT 1 FROM recording WHERE NOT complete"))

            await hotline.until(stored, LONG_S)
            [found] = await hotline.sql(
                "SELECT d.path, r.duration_ms, r.bytes FROM recording r JOIN recording_data d ON d.recording = r.id"
            )
            assert data / found["path"] == file
            left, right = wav.read_stereo(file.read_bytes())
            assert len(left) // 8 == found["duration_ms"]
            assert file.stat().st_size == found["bytes"]
            assert abs(tone.dominant_hz(left[-4000:]) - CALLER_HZ) < 20
            assert abs(tone.dominant_hz(right[-4000:]) - LEA_HZ) < 20
            assert list((data / "recordings" / "open").iterdir()) == []
            await check_record(hotline)


@pytest.mark.slow
async def test_a_full_disk_ends_the_recording_and_not_the_call_and_the_advisor_is_told(
    tmp_path: Path, database: str
) -> None:
    site = direct_site(tmp_path, **RECORDED)
    async with served(tmp_path, {"MONOFIL_DATABASE_URL": database}, database, site=site) as hotline:
        [worker] = [pid for pid in children(hotline.server.pid) if b"media.aio.worker" in command(pid)]
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (FULL_BYTES, FULL_BYTES))
        async with (
            hotline.at_work("lea", tone_hz=LEA_HZ) as lea,
            Phone(user="+33612345678", tone_hz=CALLER_HZ) as caller,
        ):
            interaction, file = await talks(hotline, tmp_path, lea, caller)
            await lea.console.wait_for("notice", lambda n: n["code"] == "not_recorded", within_s=LONG_S)
            [call] = caller.calls
            call.sound.clear()
            await call.wait_tone(LEA_HZ, LONG_S, over_s=1.0)
            call.hang_up()
            await hotline.until_over(interaction, LONG_S)
            [row] = await hotline.sql("SELECT complete, bytes, duration_ms FROM recording")
            assert not row["complete"]
            assert row["bytes"] == file.stat().st_size <= FULL_BYTES
            left, _ = wav.read_stereo(file.read_bytes())
            assert len(left) // 8 == row["duration_ms"]


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


DIES = """
import asyncio, sys
from config import wiring
async def lag(self):
    await asyncio.sleep(0)
    raise RuntimeError("this part dies")
wiring.Hotline._watch_lag = lag
from config.__main__ import main
sys.argv = ["monofil", *sys.argv[1:]]
sys.exit(main())
"""


async def test_a_part_that_dies_ends_the_server_with_1_and_its_name_in_the_log(
    tmp_path: Path, database: str
) -> None:
    server = Child(
        tmp_path,
        env={
            "MONOFIL_DATA_DIR": str(tmp_path),
            "MONOFIL_DATABASE_URL": database,
            "MONOFIL_HTTP_PORT": "0",
            "MONOFIL_SIP_PORT": "0",
            "MONOFIL_MEDIA_WORKERS": "1",
            "MONOFIL_DRAIN_S": "1",
        },
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DIES, "serve", str(direct_site(tmp_path))),
        env=server.env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1, said.decode()
    assert b'"part": "lag"' in said


async def test_a_second_server_on_the_same_data_is_refused_in_one_sentence(home: Path) -> None:
    async with Served(home, site=direct_site(home)) as first:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "config", "serve"),
            env=first.env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 2, said.decode()
        assert out == b""
        assert b"Traceback" not in said
        assert f"Another server or command uses {home}" in said.decode().splitlines()[-1]
