"""Digits sent as named telephone events (RFC 4733): one press is one digit, whatever happens to its packets.

An event is known by its time stamp. It is told once: at its end, or when it has been pressed for `TELL_UNITS`
(so that a long press stops a prompt in time), or when nothing more of it comes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from media.rtp import distance

DIGITS = "0123456789*#ABCD"  # RFC 4733 table 3, event codes 0 to 15
PAYLOAD = struct.Struct("!BBH")  # event, E R volume, duration
END = 0x80
TELL_UNITS = 800  # ours: 100 ms, half of what V4 allows from key to silence
TIMEOUT_S = 0.2  # ours: packets come each 20 to 50 ms; four lost ones in a row end an event


@dataclass(frozen=True, slots=True)
class Digit:
    digit: str
    duration_ms: int  # as far as it was heard when told


class Receiver:
    """Digits out of the telephone events of one source."""

    __slots__ = ("_closed", "_duration", "_event", "_heard_at", "_stamp", "_told")

    def __init__(self) -> None:
        self._stamp: int | None = None  # of the newest event; older ones are late copies
        self._event = 0
        self._duration = 0
        self._told = True
        self._closed = True
        self._heard_at = 0.0

    @property
    def open(self) -> bool:
        """A digit is being pressed and has not been told: call `tick` until it is."""
        return not self._told

    def hear(self, timestamp: int, payload: bytes, now: float) -> tuple[Digit, ...]:
        """One packet. Returns what it makes certain: the digit before it, and its own."""
        if len(payload) < 4:
            return ()
        event, flags, duration = PAYLOAD.unpack_from(payload)
        if event >= len(DIGITS):
            return ()
        told: tuple[Digit, ...] = ()
        if self._stamp is None or timestamp != self._stamp:
            if self._stamp is not None:
                step = distance(timestamp, self._stamp, 32)
                if step < 0:
                    return ()
                if step == 0xFFFF and event == self._event and not self._closed:  # 2.5.1.3: a very long press
                    self._stamp, self._heard_at = timestamp, now
                    return ()
            told = self._tell()
            self._stamp, self._event, self._duration = timestamp, event, 0
            self._told = self._closed = False
        elif event != self._event:
            return ()
        self._heard_at = now
        self._duration = max(self._duration, duration)
        if flags & END:
            self._closed = True
        if self._closed or self._duration >= TELL_UNITS:
            told += self._tell()
        return told

    def tick(self, now: float) -> tuple[Digit, ...]:
        if not self._told and now - self._heard_at >= TIMEOUT_S:
            self._closed = True
            return self._tell()
        return ()

    def _tell(self) -> tuple[Digit, ...]:
        if self._told:
            return ()
        self._told = True
        return (Digit(DIGITS[self._event], self._duration // 8),)


def payloads(digit: str, duration_ms: int = 160, *, volume: int = 10) -> tuple[bytes, ...]:
    """One press, a payload each 20 ms, the last three with the end bit (2.5.1.4); all share a time stamp."""
    event = DIGITS.index(digit)
    units = max(160, duration_ms * 8)
    steps = [PAYLOAD.pack(event, volume, at) for at in range(160, units, 160)]
    return (*steps, *([PAYLOAD.pack(event, END | volume, units)] * 3))
