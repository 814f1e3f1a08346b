"""The rooms that are mixed on one beat, all at once: a few large steps of numpy cost less than many small ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from media import g711, mix
from media.aio.leg import Leg
from media.g711 import Pcm
from media.rtp import FRAME_SAMPLES

Room = tuple[Leg, ...]


def is_full(room: Room) -> bool:
    """Everybody in it hears everybody else."""
    return all(len(leg.peers) == len(room) - 1 for leg in room)


class Hall:
    """Rooms where all hear all lie together by size; of the others each leg is added up for itself."""

    __slots__ = ("_chains", "_full", "_legs", "_rows", "_silences")

    def __init__(self, rooms: Sequence[Room]) -> None:
        full = sorted((room for room in rooms if is_full(room)), key=len)
        chains = [room for room in rooms if not is_full(room)]
        self._legs = [leg for room in (*full, *chains) for leg in room]
        self._full: list[tuple[int, int, int]] = []  # first row, rooms, legs in each
        first = 0
        for size, group in groupby(full, key=len):
            count = len(list(group))
            self._full.append((first, count, size))
            first += count * size
        row = {leg.name: index for index, leg in enumerate(self._legs)}
        self._chains = [(row[leg.name], [row[name] for name in leg.peers]) for room in chains for leg in room]
        codecs = np.array([leg.codec for leg in self._legs])
        self._rows = [(codec, np.flatnonzero(codecs == codec)) for codec in g711.SILENCE]
        self._rows = [(codec, rows) for codec, rows in self._rows if len(rows)]
        self._silences = [bytes([g711.SILENCE[leg.codec]]) * FRAME_SAMPLES for leg in self._legs]

    def mix(self, now: float) -> None:
        """Take 20 ms of everybody, add up, and send to everybody what the others said."""
        frames = []
        for leg, silence in zip(self._legs, self._silences, strict=True):
            frame = leg.jitter.take() if leg.jitter is not None else None
            frames.append(silence if frame is None else frame)
        if not frames:
            return
        codes = np.frombuffer(b"".join(frames), np.uint8).reshape(-1, FRAME_SAMPLES)
        pcm = self._mixed(self._decoded(codes))
        said = self._encoded(pcm).tobytes()
        for at, leg in zip(range(0, len(said), FRAME_SAMPLES), self._legs, strict=True):
            if leg.play is None and leg.remote is not None and leg.remote.sending:
                leg.say(said[at : at + FRAME_SAMPLES], now)

    def _decoded(self, codes: g711.Codes) -> Pcm:
        if len(self._rows) == 1:
            return g711.DECODED[self._rows[0][0]].take(codes)
        pcm = np.empty(codes.shape, np.int16)
        for codec, rows in self._rows:
            pcm[rows] = g711.DECODED[codec].take(codes[rows])
        return pcm

    def _mixed(self, pcm: Pcm) -> Pcm:
        out = np.empty_like(pcm)
        for first, count, size in self._full:
            rows = slice(first, first + count * size)
            out[rows] = mix.rooms(pcm[rows].reshape(count, size, -1)).reshape(count * size, -1)
        for row, peers in self._chains:
            out[row] = mix.total(pcm[peers])
        return out

    def _encoded(self, pcm: Pcm) -> g711.Codes:
        values = pcm.view(np.uint16)
        if len(self._rows) == 1:
            return g711.ENCODED[self._rows[0][0]].take(values)
        codes = np.empty(pcm.shape, np.uint8)
        for codec, rows in self._rows:
            codes[rows] = g711.ENCODED[codec].take(values[rows])
        return codes
