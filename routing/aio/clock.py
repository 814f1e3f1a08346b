"""The one clock and the maker of ids (UUIDv7, RFC 9562 5.7)."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from uuid import UUID


class SystemClock:
    """Wall time in UTC. Only tests and the demo may `shift` it."""

    def __init__(self) -> None:
        self._shift_s = 0.0

    def unix(self) -> float:
        return time.time() + self._shift_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.unix(), UTC)

    def shift(self, seconds: float) -> None:
        self._shift_s += seconds

    def set_ahead(self, seconds: float) -> bool:
        """Run so far ahead of the true time; whether that is news."""
        changed = seconds != self._shift_s
        self._shift_s = seconds
        return changed


class IdMaker:
    """Makes UUIDv7 that only rise in one process, also when the clock is set back.

    48 bits of milliseconds, 12 of count, 62 of chance.
    """

    def __init__(self) -> None:
        self._ms = 0
        self._count = 0

    def __call__(self) -> UUID:
        ms = time.time_ns() // 1_000_000
        if ms > self._ms:
            self._ms, self._count = ms, int.from_bytes(os.urandom(2), "big") & 0x3FF
        else:
            self._count += 1
            if self._count > 0xFFF:
                self._ms, self._count = self._ms + 1, 0
        chance = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
        return UUID(int=self._ms << 80 | 0x7000 << 64 | self._count << 64 | 0x8000_0000_0000_0000 | chance)


def id_ms(value: UUID) -> int | None:
    """The time inside a UUIDv7 in ms since 1970; None for other ids."""
    return value.int >> 80 if value.version == 7 else None
