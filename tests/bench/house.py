"""A whole server with a PostgreSQL of its own on this machine, and one bare caller for the reference."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import sys
import tempfile
import time
import wave
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from config.child import Child
from routing.aio.clock import IdMaker
from routing.aio.cluster import Cluster
from routing.aio.postgres import connect
from tests.bench.figures import CannotMeasure, Figures, children, spread

ON = (
    "all as in real use: database with fsync, explanation, statistics, records, recording, SIP digest, sign-in; "
    "only the words that announce a recording are cut to 20 ms"
)
ALWAYS = {"week": {"lun-dim": "00:00-24:00"}}
QUEUE_NUMBER, TREE_NUMBER = "3600", "3601"
SDP_LINES = (
    "v=0",
    "o=- 1 1 IN IP4 {host}",
    "s=-",
    "c=IN IP4 {host}",
    "t=0 0",
    "m=audio {port} RTP/AVP 8 0 101",
)


def account(index: int) -> str:
    return str(2000 + index)


def login(index: int) -> str:
    return f"a{index:03}"


def site(advisors: int) -> dict[str, Any]:
    """A hotline whose one number leads straight to a queue, and another to an announcement."""
    people: dict[str, Any] = {
        login(n): {
            "first_name": "Advisor",
            "last_name": str(n),
            "skills": {"fr": 1 + n % 5, "en": 1 + n % 3},
            "phone": account(n),
        }
        for n in range(advisors)
    }
    people["admin"] = {"first_name": "A", "last_name": "B", "roles": ["admin", "supervisor"], "seats": {}}
    return {
        "organisation": {"id": "bench", "name": "Bench", "languages": ["fr", "en"]},
        "skills": ["fr", "en"],
        "hours": {"always": ALWAYS},
        "queues": {
            "bench": {
                "name": "Bench",
                "needs": ["fr>=1"],
                "hours": "always",
                "related_hold": {"voice": 0},
                "wrapup_codes": ["done"],
                "targets": {"voice": "80% in 20s"},
                "max_waiting": 100_000,
            }
        },
        "advisors": people,
        "trunks": {"loopback": {"hosts": ["127.0.0.0/8"], "max_calls": 10_000}},
        "numbers": {
            QUEUE_NUMBER: {"tree": "straight", "label": "Straight to the queue"},
            TREE_NUMBER: {"tree": "told", "label": "An announcement"},
        },
        "wrapup_codes": {"done": {"labels": {"fr": "Fait", "en": "Done"}, "solves": True}},
        "trees": {
            "straight": {
                "tree": "straight",
                "title": "Straight",
                "languages": ["fr"],
                "channels": ["voice"],
                "start": "wait",
                "error": "return",
                "nodes": {
                    "wait": {
                        "kind": "queue",
                        "title": "Wait",
                        "queue": "bench",
                        "exits": {"left": "return", "closing": "return", "refused": "return"},
                    }
                },
            },
            "told": {
                "tree": "told",
                "title": "Told",
                "languages": ["fr"],
                "channels": ["voice"],
                "start": "words",
                "error": "return",
                "nodes": {
                    "words": {"kind": "say", "title": "Words", "say": ["welcome", "closed"], "next": "words"}
                },
            },
        },
    }


@dataclass(frozen=True, slots=True)
class House:
    server: Child
    dsn: str
    postgres_pid: int

    def processes(self) -> dict[str, int]:
        """Named processes whose CPU is told apart."""
        named = {"server": self.server.pid, "postgres": self.postgres_pid, "generator": os.getpid()}
        for n, pid in enumerate(children(self.server.pid, "media.aio.worker")):
            named["media" if n == 0 else f"media{n + 1}"] = pid
        return named


def _cut_notice(sounds: Path) -> None:
    """A recording is announced before its queue: in 20 ms, so that the words' length is in no figure."""
    for language in ("fr", "en"):
        (sounds / language).mkdir(parents=True)
        with wave.open(str(sounds / language / "recording.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(320))


@contextlib.asynccontextmanager
async def opened(
    advisors: int,
    *,
    sip_port: int = 0,
    rtp_ports: str = "45000-46999",
    env: dict[str, str] | None = None,
    more: dict[str, Any] | None = None,
) -> AsyncIterator[House]:
    """A server that is ready, on a fresh database that is kept as safe as anybody's (fsync is on).

    `more`: further parts of the site file.
    """
    home = Path(tempfile.mkdtemp(prefix="monofil-bench-", dir="/tmp"))
    home.chmod(0o755)
    try:
        with (home / "site.yaml").open("w", encoding="utf-8") as file:
            YAML().dump({**site(advisors), **(more or {})}, file)
        _cut_notice(home / "sounds")
        async with Cluster(home) as cluster:
            assert cluster.pid is not None
            settings = {
                "MONOFIL_DATA_DIR": str(home),
                "MONOFIL_DATABASE_URL": cluster.dsn,
                "MONOFIL_HTTP_PORT": "0",
                "MONOFIL_SIP_PORT": str(sip_port),
                "MONOFIL_RTP_PORTS": rtp_ports,
                "MONOFIL_PG_BIN": os.environ.get("MONOFIL_PG_BIN", ""),
                **(env or {}),
            }
            if not settings["MONOFIL_PG_BIN"]:
                del settings["MONOFIL_PG_BIN"]
            async with Child(home, arguments=(str(home / "site.yaml"),), env=settings) as server:
                yield House(server, cluster.dsn, cluster.pid)
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def commits(dsn: str, count: int = 200) -> Figures:
    """The reference: how long committing one row takes on this database, one after another."""
    connection = await connect(dsn)
    ids = IdMaker()
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS bench_bare (id uuid PRIMARY KEY, data jsonb)")
        took = []
        for _ in range(count):
            began = time.perf_counter()
            await connection.execute("INSERT INTO bench_bare VALUES ($1, $2)", ids(), {"a": 1})
            took.append(time.perf_counter() - began)
    finally:
        await connection.close()
    return spread(took)


_STATUS = re.compile(rb"SIP/2\.0 (\d{3})")
_CALL_ID = re.compile(rb"(?im)^(?:call-id|i)[ \t]*:[ \t]*(\S+)")
_TO = re.compile(rb"(?im)^(?:to|t)[ \t]*:[ \t]*(.+?)\r?$")
_CSEQ = re.compile(rb"(?im)^cseq[ \t]*:[ \t]*\d+ +(\w+)")
_CONTACT = re.compile(rb"(?im)^(?:contact|m)[ \t]*:[^<\r\n]*<([^>]+)>")
_MEDIA = re.compile(rb"(?m)^m=audio (\d+)")


class Dialling:
    """One call of the bare caller; times are of `time.perf_counter`."""

    __slots__ = ("contact", "ended", "id", "invite", "invited", "number", "rtp", "statuses", "to", "uri")

    def __init__(self, id: str, number: str, uri: str) -> None:
        self.id, self.number, self.uri = id, number, uri
        self.invite = b""
        self.invited = 0.0
        self.statuses: dict[int, float] = {}  # status → when it came first
        self.to = b""
        self.contact = uri.encode()
        self.rtp = 0  # the server's port
        self.ended = 0.0


class BareCaller(asyncio.DatagramProtocol):
    """Sends INVITEs, ACKs and BYEs of as many calls as wanted from one socket, and notes when answers came."""

    RETRY_S = 0.5  # T1; once is enough on a loopback
    RTP_PORT = 9  # ours when nobody listens

    def __init__(self, server: tuple[str, int], on_answer: Callable[[Dialling], None] | None = None) -> None:
        self.server = server
        self.calls: dict[bytes, Dialling] = {}
        self._on_answer = on_answer
        self._count = 0
        self._transport: asyncio.DatagramTransport | None = None
        self.resent = 0

    async def open(self) -> BareCaller:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((self.server[0], 0))
        sock.setblocking(False)
        self.local = sock.getsockname()
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, sock=sock
        )
        return self

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def dial(self, dialled: str, number: str, rtp_port: int = RTP_PORT) -> Dialling:
        """Place a call from `number`; `rtp_port` is where its sound is said to be heard."""
        self._count += 1
        host, port = self.local
        call = Dialling(
            f"{self._count}-{port}@bench", number, f"sip:{dialled}@{self.server[0]}:{self.server[1]}"
        )
        body = "".join(line.format(host=host, port=rtp_port) + "\r\n" for line in SDP_LINES)
        body += "a=rtpmap:101 telephone-event/8000\r\n"
        call.to = f"<{call.uri}>".encode()
        call.invite = self._request(call, "INVITE", body)
        self.calls[call.id.encode()] = call
        call.invited = time.perf_counter()
        self._send(call.invite)
        asyncio.get_running_loop().call_later(self.RETRY_S, self._again, call)
        return call

    def hang_up(self, call: Dialling) -> None:
        self._send(self._request(call, "BYE"))

    def _again(self, call: Dialling) -> None:
        if not call.statuses:
            self.resent += 1
            self._send(call.invite)

    def _request(self, call: Dialling, method: str, body: str = "", branch: str = "") -> bytes:
        host, port = self.local
        uri = call.contact.decode() if method != "INVITE" else call.uri
        number = 2 if method == "BYE" else 1
        kind = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"{method} {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{call.id.split('@')[0]}{branch or method}\r\n"
            f"From: <sip:{call.number}@{host}:{port}>;tag=c{call.id.split('@')[0]}\r\n"
            f"To: {call.to.decode()}\r\nCall-ID: {call.id}\r\nCSeq: {number} {method}\r\n"
            f"Contact: <sip:{call.number}@{host}:{port}>\r\nMax-Forwards: 70\r\n{kind}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def _send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.sendto(data, self.server)

    def datagram_received(self, data: bytes, address: tuple[str | Any, int]) -> None:
        now = time.perf_counter()
        status = _STATUS.match(data)
        found = _CALL_ID.search(data)
        call = self.calls.get(found[1]) if found else None
        if status is None:
            self._asked(data, call, now)
            return
        method = _CSEQ.search(data)
        if call is None or method is None:
            return
        code = int(status[1])
        if method[1] == b"BYE":
            call.ended = call.ended or now
        elif method[1] == b"INVITE":
            first = code not in call.statuses
            call.statuses.setdefault(code, now)
            if code >= 200:
                self._final(call, code, data, first)

    def _final(self, call: Dialling, code: int, data: bytes, first: bool) -> None:
        if to := _TO.search(data):
            call.to = to[1]
        if code < 300 and (contact := _CONTACT.search(data)):
            call.contact = contact[1]
        if code < 300:
            self._send(self._request(call, "ACK"))
        else:  # RFC 3261 17.1.1.3: the same branch as the INVITE
            self._send(self._request(call, "ACK", branch="INVITE"))
            call.ended = call.ended or time.perf_counter()
        if first and code < 300:
            if media := _MEDIA.search(data):
                call.rtp = int(media[1])
            if self._on_answer is not None:
                self._on_answer(call)

    def _asked(self, data: bytes, call: Dialling | None, now: float) -> None:
        """The server's own requests: a BYE is answered, and ends the call."""
        head, _, rest = data.partition(b"\r\n")
        if call is not None and head.startswith(b"BYE "):
            call.ended = call.ended or now
        if not head.startswith(b"ACK "):
            kept = [
                line
                for line in rest.split(b"\r\n\r\n")[0].split(b"\r\n")
                if re.match(rb"(?i)(via|v|from|f|to|t|call-id|i|cseq)\s*:", line)
            ]
            answer = b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"Content-Length: 0", b"", b""])
            self._send(answer)


async def round_trips(port: int, count: int = 100, rate: float = 20.0) -> Figures:
    """The reference: INVITE to 200 of the bare SIP core in a process of its own, answering at once."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.sip", "serve", "answer", str(port), "0"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not await asyncio.wait_for(process.stdout.readline(), 20.0):
            raise CannotMeasure(f"the bare SIP server did not start: is port {port} taken?")
        caller = await BareCaller(("127.0.0.1", port), lambda call: None).open()
        try:
            for n in range(count):
                caller.dial("1000", f"+33600{n:06}")
                await asyncio.sleep(1.0 / rate)
            await asyncio.sleep(0.3)
            answered = [c for c in caller.calls.values() if 200 in c.statuses]
            for call in answered:
                caller.hang_up(call)
            await asyncio.sleep(0.3)
            return spread(call.statuses[200] - call.invited for call in answered)
        finally:
            caller.close()
    finally:
        process.stdin.write(b"\n")
        await process.communicate()
