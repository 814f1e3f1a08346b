"""One timer wheel for everything that waits: ten-millisecond slots, found through a heap of slot numbers.

Setting and cancelling cost the same however many timers run. A timer that has fired or was cancelled holds
nobody, so no cycle outlives its use.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Protocol

LONG_T1 = (
    64  # in T1: Timers B, F, H, J (RFC 3261 17), L, M (RFC 6026), and the wait for an ACK (RFC 3261 13.3.1.4)
)
SLOT_S = 0.01  # finer than any timer of RFC 3261 needs, coarse enough to share slots


class Woken(Protocol):
    """Who has timers: told which of them is due."""

    def due(self, what: str, now: float) -> None: ...


class Timer:
    __slots__ = ("owner", "what")

    def __init__(self, owner: Woken, what: str) -> None:
        self.owner: Woken | None = owner
        self.what = what

    def cancel(self) -> None:
        self.owner = None


class Wheel:
    """Timers by slot. `set` returns the Timer; `turn` fires what is due, in order of slots."""

    __slots__ = ("_order", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, list[Timer]] = {}
        self._order: list[int] = []

    def set(self, at: float, owner: Woken, what: str) -> Timer:
        timer = Timer(owner, what)
        slot = int(at / SLOT_S) + 1  # never early
        held = self._slots.get(slot)
        if held is None:
            self._slots[slot] = [timer]
            heappush(self._order, slot)
        else:
            held.append(timer)
        return timer

    def deadline(self) -> float | None:
        """When the next slot with a live timer is due."""
        while self._order:
            slot = self._order[0]
            if any(timer.owner is not None for timer in self._slots[slot]):
                return slot * SLOT_S
            del self._slots[slot]
            heappop(self._order)
        return None

    def turn(self, now: float) -> int:
        """Fire every timer due at `now`; returns how many fired. Timers set meanwhile wait for the next turn."""
        fired = 0
        until = int(now / SLOT_S + 1e-6)  # a deadline asked for is a deadline met, whatever the rounding
        while self._order and self._order[0] <= until:
            slot = heappop(self._order)
            for timer in self._slots.pop(slot):
                owner = timer.owner
                if owner is not None:
                    timer.owner = None
                    fired += 1
                    owner.due(timer.what, now)
        return fired

    def __len__(self) -> int:
        return sum(timer.owner is not None for held in self._slots.values() for timer in held)
