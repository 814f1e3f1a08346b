"""Media workers without workers: plays end by themselves, recordings are a second of silence, legs can be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from media import wav
from media.aio.link import LegStatistics, MediaEvent, MediaPlayEnded, MediaRecorded, MediaStalled, Remote

FRAMES = 8_000


class Silent:
    """As media.aio.link.MediaLink."""

    def __init__(
        self,
        *,
        workers: int,
        host: str,
        ports: tuple[int, int],
        hear: Callable[[MediaEvent], None],
        stall_talk_s: float,
    ) -> None:
        self._hear = hear
        self._opened = 0
        self._open: set[str] = set()
        self._playing: dict[str, int] = {}
        self._recordings: dict[str, tuple[str, str, str]] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def open(self, leg: str, *, near: str | None = None) -> int:
        self._opened += 1
        self._open.add(leg)
        return 20_000 + 2 * self._opened

    def connect(self, leg: str, remote: Remote) -> None: ...

    def play(self, leg: str, play: int, files: Sequence[str], *, loop: bool = False) -> None:
        self._end(leg, "replaced")
        self._playing[leg] = play
        if not loop:
            asyncio.get_running_loop().call_soon(self._finish, leg, play)

    def _finish(self, leg: str, play: int) -> None:
        if self._playing.get(leg) == play:
            self._end(leg, "done")

    def _end(self, leg: str, reason: str) -> None:
        play = self._playing.pop(leg, None)
        if play is not None:
            self._soon(MediaPlayEnded(leg, play, reason, 20))

    def _soon(self, event: MediaEvent) -> None:
        asyncio.get_running_loop().call_soon(self._hear, event)

    def stop_play(self, leg: str) -> None:
        self._end(leg, "stopped")

    def join(self, a: str, b: str) -> None: ...

    def part(self, a: str, b: str) -> None: ...

    def watch(self, leg: str, on: bool) -> None: ...

    def record(self, recording: str, path: str, left: str, right: str) -> None:
        silence = b"\0" * (4 * FRAMES)
        Path(path).write_bytes(wav.header(0, 2) + silence)  # killed now: sound without its header
        self._recordings[recording] = (path, left, right)

    def stop_record(self, recording: str) -> None:
        if recording in self._recordings:
            path, _, _ = self._recordings.pop(recording)
            with Path(path).open("r+b") as file:
                file.write(wav.header(FRAMES, 2))
            self._soon(
                MediaRecorded(recording, path, FRAMES // 8, wav.HEADER_BYTES + 4 * FRAMES, complete=True)
            )

    def lose(self, leg: str) -> None:
        """Its phone has vanished."""
        self._soon(MediaStalled(leg, 30.0))

    async def close(self, leg: str) -> LegStatistics:
        for recording, (_, *legs) in list(self._recordings.items()):
            if leg in legs:
                self.stop_record(recording)
        self._open.discard(leg)
        self._playing.pop(leg, None)
        return LegStatistics(0, 0, 0, 0.0, 0, 0)
