"""Programs written by others against our endpoint: SIPp with and without loss, baresip with and without patience."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from media import tone, wav
from softphone_bridge.aio.endpoint import Endpoint
from softphone_bridge.aio.phone import Phone
from softphone_bridge.events import Cause, PhoneRegistered
from softphone_bridge.signals import Ended, Invited, StackEvent, StackSettings, TrunkRules
from tests.bench.sip import UAC
from tests.fakes.lossy import Lossy
from tests.softphone_bridge.world import SDP, Book

pytestmark = pytest.mark.peer


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


class House:
    def __init__(self) -> None:
        self.told: list[StackEvent] = []
        self.changed = asyncio.Event()
        self.endpoint = Endpoint(
            StackSettings(host="127.0.0.1", port=0),
            bind="127.0.0.1",
            hear=self.hear,
            accounts=Book("lea"),
            knows=lambda number: number == "1000",
            trunks=(TrunkRules("carrier", ("127.0.0.1",)),),
        )

    def hear(self, event: StackEvent) -> None:
        self.told.append(event)
        self.changed.set()
        if isinstance(event, Invited):
            self.endpoint.answer(event.leg, SDP)

    def ends(self) -> list[Ended]:
        return [event for event in self.told if isinstance(event, Ended)]

    async def until(self, kind: type) -> None:
        async with asyncio.timeout(10):
            while not any(isinstance(event, kind) for event in self.told):
                self.changed.clear()
                await self.changed.wait()

    async def until_ended(self, count: int, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while len(self.ends()) < count:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    held = House()
    await held.endpoint.start()
    yield held
    assert held.endpoint.counters.get("bug", 0) == 0
    await held.endpoint.stop()


async def sipp(folder: Path, *words: str, timeout_s: float) -> int:
    """Run SIPp; its exit status is 0 only when every call succeeded."""
    process = await asyncio.create_subprocess_exec(
        *("sipp", "-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-s", "1000", *words),
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        return await asyncio.wait_for(process.wait(), timeout_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def free_port() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        return str(held.getsockname()[1])


@needs("sipp")
@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_sipp_calls_and_every_call_succeeds(house: House, tmp_path: Path, transport: str) -> None:
    (tmp_path / "uac.xml").write_text(UAC)
    code = await sipp(
        tmp_path,
        *("-sf", "uac.xml", f"127.0.0.1:{house.endpoint.port}", "-t", transport, "-p", free_port()),
        *("-r", "50", "-m", "100", "-d", "200", "-timeout", "20"),
        timeout_s=30,
    )
    assert code == 0
    await house.until_ended(100, 5)
    assert {e.cause for e in house.ends()} == {Cause.HANGUP}


@needs("sipp")
@pytest.mark.slow
async def test_sipp_at_10_percent_loss_both_ways_loses_no_call_and_none_is_counted_twice(
    house: House, tmp_path: Path
) -> None:
    (tmp_path / "uac.xml").write_text(UAC)
    print("seed 7")
    async with Lossy(("127.0.0.1", house.endpoint.port), seed=7, loss=0.10) as proxy:
        code = await sipp(
            tmp_path,
            *("-sf", "uac.xml", f"127.0.0.1:{proxy.port}", "-p", free_port()),
            *(
                "-r",
                "50",
                "-m",
                "500",
                "-d",
                "500",
                "-timeout",
                "70",
            ),
            timeout_s=80,
        )
        assert code == 0
        await house.until_ended(500, 40)
        assert proxy.lost > 200
    assert len([e for e in house.told if isinstance(e, Invited)]) == 500
    ends = [e.cause for e in house.ends()]
    assert len(ends) == 500
    # SIPp takes a late copy of the INVITE's 200 for the answer to its BYE, and then sends that BYE no more:
    # where its ACK was lost as well, we end the call ourselves after 32 s.
    assert set(ends) <= {Cause.HANGUP, Cause.NO_ACK}
    assert ends.count(Cause.NO_ACK) <= 10


CONFIG = """
sip_listen 127.0.0.1:{port}
net_interface 127.0.0.1
rtp_ports {rtp}-{rtp_end}
audio_source aufile,{tone}
audio_player aubridge,none
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module aubridge.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
"""


class Baresip:
    """One baresip in a process of its own, steered by netstrings of JSON."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._process: asyncio.subprocess.Process | None = None
        self._folder = tempfile.TemporaryDirectory()
        self.port = int(free_port())
        self._control = int(free_port())
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None

    async def __aenter__(self) -> Baresip:
        folder = Path(self._folder.name)
        voice = folder / "tone.wav"
        voice.write_bytes(wav.mono(np.tile(tone.sine(600, 1000), 60)))
        rtp = 30000 + self.port % 1000 * 4
        (folder / "config").write_text(
            CONFIG.format(port=self.port, rtp=rtp, rtp_end=rtp + 10, tone=voice, control=self._control)
        )
        (folder / "accounts").write_text(self._account.format(port=self.port) + "\n")
        (folder / "contacts").write_text("")
        self._process = await asyncio.create_subprocess_exec(
            *("baresip", "-f", str(folder)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        async with asyncio.timeout(10):
            while self._writer is None:
                try:
                    self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._control)
                except OSError:
                    ready = asyncio.Event()
                    asyncio.get_running_loop().call_later(0.05, ready.set)
                    await ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._folder.cleanup()

    def command(self, command: str, params: str = "") -> None:
        assert self._writer is not None
        text = json.dumps({"command": command, "params": params, "token": "t"})
        self._writer.write(f"{len(text)}:{text},".encode())

    async def event(self, kind: str) -> dict[str, object]:
        """The next event of this type, within ten seconds."""
        assert self._reader is not None
        async with asyncio.timeout(10):
            while True:
                size = int((await self._reader.readuntil(b":"))[:-1])
                message = json.loads((await self._reader.readexactly(size + 1))[:-1])
                if message.get("event") and message.get("type") == kind:
                    return dict(message)


@needs("baresip")
async def test_baresip_registers_with_digest_rings_is_cancelled_and_answers_with_its_tone() -> None:
    house = House()
    house.endpoint._trunks = ()
    await house.endpoint.start()
    try:
        account = (
            f"<sip:lea@127.0.0.1:{house.endpoint.port}>;auth_pass=secret-of-lea;regint=60;answermode=manual"
        )
        async with Baresip(account + ";audio_codecs=PCMU,PCMA") as peer:
            await house.until(PhoneRegistered)
            (target,) = house.endpoint.targets("lea")
            async with Phone(user="caller", tone_hz=440) as phone:
                host = target.flow
                assert host is not None
                uri = target.uri
                first = await phone.call(uri)
                await peer.event("CALL_INCOMING")
                first.hang_up()
                closed = await peer.event("CALL_CLOSED")
                assert closed
                second = await phone.call(uri)
                await peer.event("CALL_INCOMING")
                peer.command("accept")
                await second.wait_up()
                assert (await second.wait_tone(600)).is_tone(600)
                second.hang_up()
                await peer.event("CALL_CLOSED")
    finally:
        await house.endpoint.stop()
    assert house.endpoint.counters.get("bug", 0) == 0
