"""A pace that is kept: so many a second, and a short burst after a rest (a token bucket). Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """`rate` a second for long; `burst` at once after a rest."""

    rate: float
    burst: float
    left: float = -1.0
    at: float = 0.0

    def wait(self, now: float, cost: float = 1.0) -> float:
        """Takes one (or `cost`) and says how long to wait before doing it; 0 means now."""
        self._fill(now)
        self.left -= cost
        return 0.0 if self.left >= 0 else -self.left / self.rate

    def allow(self, now: float, cost: float = 1.0) -> bool:
        """Takes it only if it is there."""
        self._fill(now)
        if self.left < cost:
            return False
        self.left -= cost
        return True

    def spend(self, now: float, cost: float) -> None:
        """Takes it whether it is there or not, down to one burst of debt."""
        self._fill(now)
        self.left = max(self.left - cost, -self.burst)

    def _fill(self, now: float) -> None:
        if self.left < 0 and self.at == 0.0:
            self.left = self.burst
        else:
            self.left = min(self.burst, self.left + max(0.0, now - self.at) * self.rate)
        self.at = now
