"""Programs written by others, each in a process of its own: SIPp, baresip and pyVoIP as the tests run them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from media import tone, wav
from tests.e2e.served import ROOT

CALL = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="a caller who hangs up after a while (-d), and tries again when the server is busy (503)">
  <label id="again"/>
  <send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: SIPp <sip:sipp[call_number]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:sipp@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 9 RTP/AVP 0
a=rtpmap:0 PCMU/8000
]]></send>
  <recv response="100" optional="true"></recv>
  <recv response="180" optional="true"></recv>
  <recv response="503" optional="true" next="busy"></recv>
  <recv response="200" rrs="true"></recv>
  <send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: SIPp <sip:sipp[call_number]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
  <pause/>
  <send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: SIPp <sip:sipp[call_number]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
  <recv response="200" next="done"></recv>
  <label id="busy"/>
  <send><![CDATA[
ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
[last_Via:]
[last_From:]
[last_To:]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
  <pause milliseconds="1000" next="again"/>
  <label id="done"/>
</scenario>
"""


async def sipp(
    folder: Path, *words: str, timeout_s: float, number: str = "1000", host: str = "127.0.0.1"
) -> int:
    """Run SIPp; its exit status is 0 only when every call succeeded."""
    process = await asyncio.create_subprocess_exec(
        *("sipp", "-i", host, "-mi", host, "-nostdin", "-s", number, *words),
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
module sndfile.so
snd_path {folder}
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
"""


BARESIP_TRIES = 3
WAV_HEADER = (
    44  # bytes, as libsndfile writes 16-bit PCM; the lengths in it are right only when the file is closed
)
BARESIP_START_S = 20.0


class Baresip:
    """One baresip in a process of its own, steered by netstrings of JSON. `{port}` in the account is its SIP port."""

    def __init__(self, account: str, *, tone_hz: float = 600.0) -> None:
        self._account = account
        self._tone_hz = tone_hz
        self._process: asyncio.subprocess.Process | None = None
        self._folder = tempfile.TemporaryDirectory()
        self.port = int(free_port())
        self._control = int(free_port())
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None

    async def __aenter__(self) -> Baresip:
        try:
            for _ in range(BARESIP_TRIES):
                if await self._started():
                    return self
                self.port, self._control = int(free_port()), int(free_port())
        except BaseException:
            await self._end()
            raise
        await self._end()
        raise TimeoutError("baresip does not open its control port")

    async def _started(self) -> bool:
        """Start it and connect to its control; False when it ends by itself, as when another took one of its ports."""
        folder = Path(self._folder.name)
        voice = folder / "tone.wav"
        voice.write_bytes(wav.mono(np.tile(tone.sine(self._tone_hz, 1000), 60)))
        rtp = 24000 + self.port % 1000 * 4
        (folder / "config").write_text(
            CONFIG.format(
                port=self.port, rtp=rtp, rtp_end=rtp + 10, tone=voice, control=self._control, folder=folder
            )
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
        ended = asyncio.ensure_future(self._process.wait())
        try:
            async with asyncio.timeout(BARESIP_START_S):
                while not ended.done():
                    try:
                        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._control)
                        return True
                    except OSError:
                        await asyncio.wait([ended], timeout=0.05)
        except TimeoutError:
            self._process.kill()
            await ended
        finally:
            ended.cancel()
        return False

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
        if self._process is not None:
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        self._folder.cleanup()

    def heard(self) -> npt.NDArray[np.int16]:
        """What the phone heard in its last call, once that is over: int16[samples], 8 kHz."""
        files = sorted(Path(self._folder.name).glob("dump-*-dec.wav"))
        return wav.read(files[-1].read_bytes())

    def hears(self, seconds: float = 1.0) -> npt.NDArray[np.int16]:
        """The last of what it hears in the call that goes on, or less when it has not heard so much yet."""
        files = sorted(Path(self._folder.name).glob("dump-*-dec.wav"), key=lambda file: file.stat().st_mtime)
        whole = files[-1].read_bytes()[WAV_HEADER:] if files else b""
        whole = whole[: len(whole) // 2 * 2]
        return np.frombuffer(whole, "<i2")[-int(seconds * tone.RATE_HZ) :].astype(np.int16)

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


class PyVoip:
    """An advisor's desk phone by pyVoIP (softphone_bridge.aio.deskphone), steered by lines of JSON."""

    def __init__(
        self, server: str, account: str, password: str, *, answer: str = "auto", tone_hz: float = 600.0
    ) -> None:
        self._words = ("--server", server, "--account", account, "--answer", answer, "--tone", str(tone_hz))
        self._password = password
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> PyVoip:
        port = int(free_port())
        rtp = 16000 + port % 1000 * 4
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "softphone_bridge.aio.deskphone", *self._words),
            *("--port", str(port), "--rtp", f"{rtp}-{rtp + 19}"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._write(self._password)
        await self.event("registered")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self.do("quit")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 5)
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.wait_closed()

    def _write(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def do(self, what: str) -> None:
        """`answer`, `deny`, `hang_up` or `quit`."""
        self._write(json.dumps({"do": what}))

    async def event(self, kind: str, within_s: float = 20.0) -> dict[str, Any]:
        """The next event of this kind; others are passed by."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(within_s):
            while line := await self._process.stdout.readline():
                with contextlib.suppress(ValueError):
                    told: dict[str, Any] = json.loads(line)
                    if told.get("event") == kind:
                        return told
        raise AssertionError(f"the phone ended before it said {kind}")
