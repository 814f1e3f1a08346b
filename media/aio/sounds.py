"""What a worker plays: WAV files read once, encoded as they are needed, strung together without gaps."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Sequence

from media import g711, wav
from media.g711 import Pcm
from media.rtp import FRAME_SAMPLES

CACHE_BYTES = 128 * 1024 * 1024  # ours: about two hours of prompts a worker
BLOCK = 8000  # samples encoded at a time: a long music never delays a packet


class Sound:
    """The samples of a file, and their codes as far as they have been asked for."""

    __slots__ = ("_codes", "pcm", "size")

    def __init__(self, pcm: Pcm) -> None:
        self.pcm = pcm
        self.size = len(pcm)
        self._codes: dict[tuple[int, int], bytes] = {}

    def codes(self, payload_type: int, at: int, count: int) -> bytes:
        """Up to `count` codes from sample `at` on; fewer only at the end."""
        index, offset = divmod(at, BLOCK)
        part = self._block(payload_type, index)[offset : offset + count]
        if len(part) < count and at + len(part) < self.size:
            part += self.codes(payload_type, at + len(part), count - len(part))
        return part

    def _block(self, payload_type: int, index: int) -> bytes:
        key = (payload_type, index)
        block = self._codes.get(key)
        if block is None:
            block = g711.encode(self.pcm[index * BLOCK : (index + 1) * BLOCK], payload_type)
            self._codes[key] = block
        return block


class Library:
    """Sounds by path, read again when the file has changed."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._sounds: OrderedDict[tuple[str, int, int], Sound] = OrderedDict()
        self._limit = limit_bytes
        self._held = 0

    def load(self, path: str) -> Sound:
        """Raises OSError or wav.NotWav."""
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                raise wav.NotWav("not a file")
            key = (path, about.st_mtime_ns, about.st_size)
            sound = self._sounds.get(key)
            if sound is not None:
                self._sounds.move_to_end(key)
                return sound
            sound = Sound(wav.read(file.read(wav.MAX_BYTES + 1)))
        self._sounds[key] = sound
        self._held += sound.size * 4  # the samples, and their codes in both laws
        while self._held > self._limit and len(self._sounds) > 1:
            self._held -= self._sounds.popitem(last=False)[1].size * 4
        return sound


class Program:
    """One `play` command: sounds one after another, 20 ms at a time."""

    __slots__ = ("_at", "_index", "_sounds", "loop", "number", "played")

    def __init__(self, number: int, sounds: Sequence[Sound], loop: bool) -> None:
        self.number = number
        self._sounds = [sound for sound in sounds if sound.size]
        self.loop = loop
        self._index = 0
        self._at = 0
        self.played = 0  # samples

    def take(self, payload_type: int) -> bytes | None:
        """The next 160 codes, the last ones filled up with silence; None at the end."""
        frame = b""
        while len(frame) < FRAME_SAMPLES:
            if self._index == len(self._sounds):
                if not self.loop or not self._sounds:
                    break
                self._index = 0
            sound = self._sounds[self._index]
            part = sound.codes(payload_type, self._at, FRAME_SAMPLES - len(frame))
            frame += part
            self._at += len(part)
            if self._at >= sound.size:
                self._index, self._at = self._index + 1, 0
        self.played += len(frame)
        if not frame:
            return None
        return frame.ljust(FRAME_SAMPLES, bytes([g711.SILENCE[payload_type]]))

    @property
    def played_ms(self) -> int:
        return self.played // 8
