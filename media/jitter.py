"""The jitter buffer of a leg that is mixed: packets go in as they come, 20 ms come out each tick.

Places are time stamps, so order and packet length don't matter. Counts every decision.
"""

from __future__ import annotations

from media.rtp import FRAME_SAMPLES, distance

PREFILL = 2 * FRAME_SAMPLES  # ours: 40 ms before the first frame leaves
LIMIT = 10 * FRAME_SAMPLES  # ours: 200 ms; more waiting than this is cut


class Jitter:
    """Bytes of one codec on one time line."""

    __slots__ = ("_line", "_next", "_silence", "cut", "empty", "filling", "late")

    def __init__(self, silence: int) -> None:
        self._silence = bytes([silence])
        self._line = bytearray()
        self._next: int | None = None  # time stamp of _line[0]
        self.filling = True
        self.late = 0  # packets that came after their turn
        self.cut = 0  # samples thrown away to catch up
        self.empty = 0  # ticks with nothing to give

    def put(self, timestamp: int, payload: bytes) -> None:
        at = 0 if self._next is None else distance(timestamp, self._next, 32)
        if self._next is None or not -LIMIT < at < 4 * LIMIT:  # first of all, or a new clock
            self._line.clear()
            self._next, at, self.filling = timestamp, 0, True
        if at < 0:
            self.late += 1
            return
        if at > len(self._line):
            self._line += self._silence * (at - len(self._line))
        self._line[at : at + len(payload)] = payload
        surplus = len(self._line) - LIMIT
        if surplus > 0:
            del self._line[:surplus]
            self._next = (self._next + surplus) & 0xFFFFFFFF
            self.cut += surplus

    def take(self) -> bytes | None:
        """The next 160 samples; None while there is nothing (say silence)."""
        if self._next is None or (self.filling and len(self._line) < PREFILL):
            return None
        self.filling = False
        if not self._line:
            self.empty += 1
            self._next = None
            return None
        frame = bytes(self._line[:FRAME_SAMPLES])
        del self._line[:FRAME_SAMPLES]
        self._next = (self._next + FRAME_SAMPLES) & 0xFFFFFFFF
        return frame.ljust(FRAME_SAMPLES, self._silence)
