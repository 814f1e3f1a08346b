"""The server's side of the media workers: one link, n processes, a call pinned to one.

Commands go out and events come back as JSON lines over a local socket pair. A dead worker ends only its own legs;
the link says so (`WorkerLost`) and starts another.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from media import wav
from media.sdp import Remote as Remote

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 2.0  # ours: a worker that answers no sooner is not fit for a call
START_TIMEOUT_S = 15.0  # ours: loading numpy on a busy machine
STOP_TIMEOUT_S = 2.0
RESTART_S = (0.0, 0.5, 1.0, 2.0, 5.0)  # ours: before the nth start in a row that has failed


class MediaUnavailable(Exception):
    """No worker can take the leg: no port, no worker, or it does not answer."""


@dataclass(frozen=True, slots=True)
class MediaDigit:
    leg: str
    digit: str
    duration_ms: int  # as far as it was heard when told: a long press is told after 100 ms


@dataclass(frozen=True, slots=True)
class MediaPlayEnded:
    leg: str
    play: int
    reason: str  # done | stopped | replaced
    played_ms: int


@dataclass(frozen=True, slots=True)
class MediaVoice:
    leg: str
    heard: bool
    silent_s: float


@dataclass(frozen=True, slots=True)
class MediaStalled:
    """No RTP has come for `silent_s` although it should (row 21)."""

    leg: str
    silent_s: float


@dataclass(frozen=True, slots=True)
class MediaRecorded:
    recording: str
    path: str
    duration_ms: int
    bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class WorkerLost:
    legs: tuple[str, ...]


MediaEvent = MediaDigit | MediaPlayEnded | MediaVoice | MediaStalled | MediaRecorded | WorkerLost


@dataclass(frozen=True, slots=True)
class LegStatistics:
    """RFC 3550 figures of one leg at its close."""

    received: int
    sent: int
    lost: int
    jitter_ms: float
    strangers: int  # packets from elsewhere, dropped (row 17)
    malformed: int


NOTHING = LegStatistics(0, 0, 0, 0.0, 0, 0)

EVENTS: dict[str, Callable[..., MediaEvent]] = {
    "digit": MediaDigit,
    "played": MediaPlayEnded,
    "voice": MediaVoice,
    "stalled": MediaStalled,
    "recorded": MediaRecorded,
}


@dataclass(eq=False, slots=True)
class _Worker(asyncio.Protocol):
    """One process as the link sees it, from its start to its end."""

    link: MediaLink
    seat: int
    ports: tuple[int, int]
    process: subprocess.Popen[bytes]
    transport: asyncio.Transport | None = None
    rest: bytes = b""
    legs: set[str] = field(default_factory=set)
    asked: dict[int, asyncio.Future[list[Any]]] = field(default_factory=dict)
    ready: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            event, *words = json.loads(line)
            if event in ("opened", "refused", "closed"):
                future = self.asked.pop(words[0], None)
                if future is not None and not future.done():
                    future.set_result([event, *words[1:]])
            elif event == "note":
                log.warning(words[0], extra={"about": words[1], "why": words[2]})
            else:
                self.link._heard(EVENTS[event](*words))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        for future in self.asked.values():
            if not future.done():
                future.set_exception(MediaUnavailable("the worker has died"))
        self.asked.clear()
        self.gone.set()
        self.link._lost(self)

    def send(self, *words: Any) -> None:
        if self.transport is not None:
            self.transport.write(json.dumps(words).encode() + b"\n")

    async def ask(self, number: int, *words: Any, timeout_s: float = OPEN_TIMEOUT_S) -> list[Any]:
        if self.transport is None:
            raise MediaUnavailable("the worker has died")
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.asked[number] = future
        self.send(words[0], number, *words[1:])
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise MediaUnavailable("the worker does not answer") from None
        finally:
            self.asked.pop(number, None)


class MediaLink:
    """Starts and steers the media workers.

    Commands that name a leg which is not open do nothing. `host` is the address that RTP sockets are bound to, `ports`
    the first and last port; each worker has its own part of them, and a freed port rests until all others
    have been used.
    """

    def __init__(
        self,
        *,
        workers: int,
        host: str,
        ports: tuple[int, int],
        hear: Callable[[MediaEvent], None],
        stall_talk_s: float = 20.0,
        stall_hold_s: float = 300.0,
    ) -> None:
        assert workers >= 1
        self._host = host
        self._hear = hear
        self._stalls = (str(stall_talk_s), str(stall_hold_s))
        first, last = ports
        share = (last - first + 1) // workers // 2 * 2
        if share < 2:
            raise MediaUnavailable("fewer than two ports for a worker")
        self._shares = [(first + share * seat, first + share * (seat + 1) - 1) for seat in range(workers)]
        self._workers: list[_Worker | None] = [None] * workers
        self._failures = [0] * workers
        self._of: dict[str, _Worker] = {}  # by leg
        self._recordings: dict[str, tuple[_Worker, str]] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the workers that are up."""
        return tuple(worker.process.pid for worker in self._workers if worker is not None and worker.ready)

    async def start(self) -> None:
        """Start all workers; returns when each has answered. Raises MediaUnavailable."""
        self._stopping = False
        try:
            await asyncio.gather(*(self._start(seat) for seat in range(len(self._workers))))
        except MediaUnavailable:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all workers: recordings are finished, processes are gone when it returns."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop(worker) for worker in self._workers if worker is not None))
        self._workers = [None] * len(self._workers)

    async def _start(self, seat: int) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        first, last = self._shares[seat]
        root = str(Path(__file__).resolve().parents[2])
        inherited = os.environ.get("PYTHONPATH")
        environment = os.environ | {
            "PYTHONPATH": f"{root}{os.pathsep}{inherited}" if inherited else root,
            "OPENBLAS_NUM_THREADS": "1",  # a thread pool would only take the core from the loop
        }
        command = [
            sys.executable,
            "-m",
            "media.aio.worker",
            str(theirs.fileno()),
            str(os.getpid()),
            self._host,
        ]
        with theirs:
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - a fork and nothing waited for; our own command
                [*command, str(first), str(last), *self._stalls],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        worker = _Worker(self, seat, (first, last), process)
        self._workers[seat] = worker
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: worker, sock=ours)
            await worker.ask(next(self._numbers), "ping", timeout_s=START_TIMEOUT_S)
        except BaseException:
            ours.close()
            await self._stop(worker)
            raise
        worker.ready = True
        self._failures[seat] = 0

    async def _stop(self, worker: _Worker) -> None:
        worker.ready = False
        if worker.transport is not None:
            worker.send("stop")  # it finishes its recordings and falls silent
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await worker.gone.wait()
            except TimeoutError:
                worker.transport.close()
                await worker.gone.wait()
        await _reap(worker.process, STOP_TIMEOUT_S)

    def _lost(self, worker: _Worker) -> None:
        """Its socket is closed: by us, or because it has died."""
        legs = tuple(sorted(worker.legs))
        for leg in legs:
            self._of.pop(leg, None)
        worker.legs.clear()
        cut = [(name, path) for name, (whose, path) in self._recordings.items() if whose is worker]
        for name, _ in cut:
            del self._recordings[name]
        if self._stopping or not worker.ready:
            return
        worker.ready = False
        log.error("media worker has died", extra={"pid": worker.process.pid, "legs": len(legs)})
        self._failures[worker.seat] += 1
        task = asyncio.get_running_loop().create_task(self._restart(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        for name, path in cut:
            self._heard(what_is_left(name, path))
        self._heard(WorkerLost(legs))

    async def _restart(self, worker: _Worker) -> None:
        await _reap(worker.process, 0.0)
        while not self._stopping:
            failures = self._failures[worker.seat]
            await asyncio.sleep(RESTART_S[min(failures - 1, len(RESTART_S) - 1)])
            try:
                await self._start(worker.seat)
            except (MediaUnavailable, OSError) as why:
                self._failures[worker.seat] += 1
                log.error("media worker does not start", extra={"why": str(why)})
            else:
                return

    def _heard(self, event: MediaEvent) -> None:
        if isinstance(event, MediaRecorded):
            self._recordings.pop(event.recording, None)
        try:
            self._hear(event)
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a hearer of media events has failed", "exception": error}
            )

    async def open(self, leg: str, *, near: str | None = None) -> int:
        """Bind a port for `leg` (on the worker of `near` when given) and return it. Raises MediaUnavailable."""
        if leg in self._of:
            raise MediaUnavailable("the leg is open")
        if near is not None and near in self._of:
            choice = [self._of[near]]
        else:
            choice = sorted(
                (each for each in self._workers if each is not None and each.ready),
                key=lambda each: len(each.legs),
            )
        why: MediaUnavailable | None = None
        for worker in choice:
            worker.legs.add(leg)
            self._of[leg] = worker
            try:
                event, *words = await worker.ask(next(self._numbers), "open", leg)
            except MediaUnavailable as reason:
                why = reason
            except BaseException:
                self._forget(leg)
                worker.send("close", 0, leg)
                raise
            else:
                if event == "opened":
                    return int(words[0])
                why = MediaUnavailable(str(words[0]))
            self._forget(leg)
            worker.send("close", 0, leg)
        raise why or MediaUnavailable("no worker is up")

    def _forget(self, leg: str) -> None:
        worker = self._of.pop(leg, None)
        if worker is not None:
            worker.legs.discard(leg)

    def connect(self, leg: str, remote: Remote) -> None:
        """Tell where the far side is; again when its description has changed (hold, another address or codec)."""
        self._send(
            leg,
            "connect",
            leg,
            remote.host,
            remote.port,
            remote.payload_type,
            remote.telephone_event,
            remote.sending,
            remote.receiving,
            remote.ptime_ms,
        )

    def play(self, leg: str, play: int, files: Sequence[str], *, loop: bool = False) -> None:
        """Play WAV files (8 kHz mono int16) one after another to `leg`; replaces what is playing.

        While it plays, a joined leg is not heard there. Files that cannot be played are left out. Before `connect` it
        waits.
        """
        self._send(leg, "play", leg, play, [str(file) for file in files], loop)

    def stop_play(self, leg: str) -> None:
        """Stop what plays, if anything does."""
        self._send(leg, "stop_play", leg)

    def join(self, a: str, b: str, *, digits: bool = True) -> None:
        """Let two legs hear each other: straight through, in each one's codec.

        Who is joined to several hears their mix.

        digits: pass telephone events on (when the far side takes them); they are told as MediaDigit in any case.
        """
        if self._of.get(a) is not self._of.get(b):
            raise MediaUnavailable("the legs are on different workers: open the second near the first")
        self._send(a, "join", a, b, digits)

    def part(self, a: str, b: str) -> None:
        """End what `join` began."""
        self._send(a, "part", a, b)

    def watch(self, leg: str, on: bool) -> None:
        """Report voice activity of `leg` (MediaVoice): when it is heard again, and silence after 0.6 s and each 5 s."""
        self._send(leg, "watch", leg, on)

    def record(self, recording: str, path: str, left: str, right: str) -> None:
        """Record two legs into one stereo WAV: what `left` says on the left, `right` on the right.

        The file must not exist yet. It ends with `stop_record` or when both legs are closed; MediaRecorded follows.
        """
        worker = self._of.get(left) or self._of.get(right)
        if worker is not None and recording not in self._recordings:
            self._recordings[recording] = (worker, path)
            worker.send("record", recording, path, left, right)

    def stop_record(self, recording: str) -> None:
        """End a recording, if it runs."""
        found = self._recordings.get(recording)
        if found is not None:
            found[0].send("stop_record", recording)

    async def close(self, leg: str) -> LegStatistics:
        """Close a leg and its port. All zero when it is not open, or its worker has died."""
        worker = self._of.get(leg)
        if worker is None:
            return NOTHING
        self._forget(leg)
        try:
            _, *words = await worker.ask(next(self._numbers), "close", leg)
        except MediaUnavailable:
            return NOTHING
        return LegStatistics(*words)

    def _send(self, leg: str, *words: Any) -> None:
        worker = self._of.get(leg)
        if worker is not None:
            worker.send(*words)


def what_is_left(recording: str, path: str) -> MediaRecorded:
    """What a dead worker, or a dead server, has written; its header is mended, for death may come before it."""
    frames = 0
    try:
        with Path(path).open("r+b") as file:
            frames = max(0, file.seek(0, os.SEEK_END) - wav.HEADER_BYTES) // 4
            file.truncate(wav.HEADER_BYTES + frames * 4)
            file.seek(0)
            file.write(wav.header(frames, 2))
    except OSError as why:
        log.warning("what a dead worker recorded cannot be mended", extra={"about": path, "why": str(why)})
    return MediaRecorded(recording, path, frames // 8, wav.HEADER_BYTES + frames * 4, False)


async def _reap(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Wait for the end of a process; kill it when it takes longer than `patience_s`."""
    if process.poll() is not None:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    handle = os.pidfd_open(process.pid)
    loop.add_reader(handle, ended.set)
    try:
        try:
            async with asyncio.timeout(patience_s):
                await ended.wait()
        except TimeoutError:
            process.send_signal(signal.SIGKILL)
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
        process.wait()
