"""One side of a recording: payloads laid on the recording's own clock, silence where nothing came.

The first packet lies where it arrived; those after it lie by their time stamps, so that jitter and disorder
of the network are not heard. Where that place and the arrival are further apart than `SLACK`, it starts anew.
"""

from __future__ import annotations

from media.rtp import distance

SLACK = 1600  # ours: 200 ms, past any jitter that a call survives
WAIT = 1600  # ours: a flush leaves the newest 200 ms, so that late packets find their place


class Track:
    """Bytes of one codec; positions are samples since the recording began."""

    __slots__ = ("_at", "_line", "_silence", "_stamp", "written")

    def __init__(self, silence: int, written: int = 0) -> None:
        self._silence = bytes([silence])
        self._line = bytearray()  # from `written` on
        self.written = written
        self._at = -1  # position after the newest packet; -1 before any
        self._stamp = 0  # time stamp that belongs there

    def restart(self) -> None:
        """The source has begun a new clock."""
        self._at = -1

    def put(self, arrived: int, timestamp: int, payload: bytes) -> None:
        """Lay a packet that came when the recording's clock stood at `arrived`."""
        size = len(payload)
        line = self._line
        at = self._at
        if timestamp == self._stamp and at == self.written + len(line) and -SLACK < at - arrived < SLACK:
            line += payload
            self._at = at + size
            self._stamp = timestamp + size & 0xFFFFFFFF
            return
        if at >= 0:
            at += distance(timestamp, self._stamp, 32)
        if not -SLACK < at - arrived < SLACK or at < 0:
            at = arrived
        if at + size > self._at or self._at < 0:
            self._at, self._stamp = at + size, timestamp + size & 0xFFFFFFFF
        at -= self.written
        if at < 0:
            payload = payload[-at:]
            at = 0
        if at > len(line):
            line += self._silence * (at - len(line))
        line[at : at + len(payload)] = payload

    def take(self, until: int) -> bytes:
        """Everything before position `until`, silence included."""
        count = until - self.written
        if count <= 0:
            return b""
        part = bytes(self._line[:count])
        del self._line[:count]
        self.written = until
        return part.ljust(count, self._silence)
