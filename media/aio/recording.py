"""A recording: two legs into one stereo file, whole frames and a true header after every flush (rows 6, 10)."""

from __future__ import annotations

import os
from pathlib import Path

from media import g711, wav
from media.track import WAIT, Track

MAX_FRAMES = (0xFFFF_FFFF - wav.HEADER_BYTES) // 4  # what a RIFF header can say: 37 hours


class Recording:
    """Raises OSError when it can't be begun; after that `failed` says that the disk would take no more."""

    __slots__ = ("_file", "began", "failed", "name", "path", "payload_types", "tracks", "written")

    def __init__(self, name: str, path: str, payload_types: tuple[int, int], now: float) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self.name = name
        self.path = path
        self.began = now
        self.failed = False
        self.written = 0  # frames in the file and in its header
        self.payload_types = payload_types
        self.tracks = (Track(g711.SILENCE[payload_types[0]]), Track(g711.SILENCE[payload_types[1]]))
        try:
            self._write(b"", 0)
        except OSError:
            self.failed = True

    def put(self, side: int, now: float, timestamp: int, payload_type: int, payload: bytes) -> None:
        """side: 0 left, 1 right."""
        if payload_type != self.payload_types[side]:
            payload = payload.translate(g711.TRANSLATION[payload_type, self.payload_types[side]])
        self.tracks[side].put(int((now - self.began) * 8000), timestamp, payload)

    def flush(self, now: float, *, last: bool = False) -> None:
        """Write what is certain: all but the newest 200 ms, or all when it is the last time."""
        if self.failed:
            return
        until = int((now - self.began) * 8000) - (0 if last else WAIT)
        if until > MAX_FRAMES:
            self.failed = True
            return
        count = until - self.tracks[0].written
        if count <= 0:
            return
        left, right = (
            g711.decode(track.take(until), payload_type)
            for track, payload_type in zip(self.tracks, self.payload_types, strict=True)
        )
        try:
            self._write(wav.interleave(left, right), count)
        except OSError:
            self.failed = True

    def _write(self, data: bytes, frames: int) -> None:
        at = wav.HEADER_BYTES + self.written * 4
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._file, data[done:], at + done)
        finally:
            if done < len(data):  # keep the whole frames of what the disk still took
                frames = done // 4
                os.ftruncate(self._file, at + frames * 4)
            self.written += frames
            os.pwrite(self._file, wav.header(self.written, 2), 0)

    def close(self, now: float) -> None:
        self.flush(now, last=True)
        try:
            os.close(self._file)
        except OSError:
            self.failed = True

    @property
    def duration_ms(self) -> int:
        return self.written // 8

    @property
    def bytes(self) -> int:
        return wav.HEADER_BYTES + self.written * 4
