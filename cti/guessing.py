"""Who guesses passwords, and how long such a one must wait (row 14).

Failures are counted by login and address together, so that nobody can lock the real person out from elsewhere, and
by address alone, so that one address cannot try every login. A success forgives the pair, not the address.
"""

from __future__ import annotations

from dataclasses import dataclass

FREE_FAILURES = 3  # a pair may err so often before it waits
FREE_FAILURES_ADDRESS = 20
LONGEST_WAIT_S = 300.0
FORGET_AFTER_S = 3600.0
REMEMBERED = 10_000  # pairs and addresses; the oldest go first


@dataclass(slots=True)
class _Count:
    failures: int
    last_s: float


class Guessing:
    """Times are monotonic seconds, given by the caller."""

    def __init__(self, free: int = FREE_FAILURES) -> None:
        self._free = free
        self._counts: dict[tuple[str, ...], _Count] = {}

    def wait_s(self, login: str, address: str, now_s: float) -> float:
        """Seconds until this login may be tried from this address again; 0 when it may be now."""
        return max(
            self._left((login, address), self._free, now_s),
            self._left((address,), FREE_FAILURES_ADDRESS, now_s),
        )

    def failed(self, login: str, address: str, now_s: float) -> int:
        """Count a failure; returns how many that address has made, when it is slowed from now on, else 0."""
        for key in ((login, address), (address,)):
            count = self._counts.pop(key, None)
            if count is None or now_s - count.last_s > FORGET_AFTER_S:
                count = _Count(0, now_s)
            count.failures += 1
            count.last_s = now_s
            self._counts[key] = count  # at the end: the order of the dict is that of the last failure
        while len(self._counts) > REMEMBERED:
            del self._counts[next(iter(self._counts))]
        return self._counts[(address,)].failures if self.wait_s(login, address, now_s) > 0 else 0

    def succeeded(self, login: str, address: str) -> None:
        self._counts.pop((login, address), None)

    def _left(self, key: tuple[str, ...], free: int, now_s: float) -> float:
        count = self._counts.get(key)
        if count is None or count.failures < free or now_s - count.last_s > FORGET_AFTER_S:
            return 0.0
        wait = min(2.0 ** min(count.failures - free, 30), LONGEST_WAIT_S)
        return max(0.0, count.last_s + wait - now_s)
