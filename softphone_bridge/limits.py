"""How much one source may ask, and how the server sheds load: bounded token buckets, and a valve."""

from __future__ import annotations

MAX_SOURCES = 10_000  # buckets kept; the oldest go first, and a forgotten source starts full


class Buckets:
    """A token bucket a name: `rate` tokens a second, at most `burst`."""

    __slots__ = ("_burst", "_held", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._held: dict[str, tuple[float, float]] = {}  # name -> (tokens, when)

    def take(self, name: str, now: float, cost: float = 1.0) -> bool:
        """Take a token; False when there is none."""
        tokens, when = self._held.get(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - when) * self._rate)
        allowed = tokens >= cost
        if allowed:
            tokens -= cost
        if name not in self._held and len(self._held) >= MAX_SOURCES:
            self._held.pop(next(iter(self._held)))
        self._held[name] = (tokens, now)
        return allowed

    def empty(self, name: str, now: float) -> bool:
        """Whether `take` would fail now."""
        held = self._held.get(name)
        return held is not None and min(self._burst, held[0] + (now - held[1]) * self._rate) < 1.0

    def refill(self, name: str) -> None:
        self._held.pop(name, None)

    def __len__(self) -> int:
        return len(self._held)


class Guessing:
    """Wrong passwords by user and address (row 14).

    After `TRIES` failures in a row a pair's next ones are not even looked at, one more look every `LOOK_S`;
    an address that fails on many users is held likewise. A phone that is registered from the asking flow
    never comes here, and another address is another pair.
    """

    TRIES = 10.0
    LOOK_S = 3.0
    ADDRESS_TRIES = 60.0
    ADDRESS_LOOK_S = 0.5

    __slots__ = ("_addresses", "_pairs", "failures")

    def __init__(self, tries: float = TRIES) -> None:
        self._pairs = Buckets(1.0 / self.LOOK_S, tries)
        self._addresses = Buckets(1.0 / self.ADDRESS_LOOK_S, self.ADDRESS_TRIES)
        self.failures: dict[str, int] = {}

    def held(self, user: str, host: str, now: float) -> bool:
        """Whether this guess is to be refused unseen."""
        return self._pairs.empty(f"{user}|{host}", now) or self._addresses.empty(host, now)

    def failed(self, user: str, host: str, now: float) -> int:
        """Note a failure; returns how many in a row this pair has made."""
        pair = f"{user}|{host}"
        self._pairs.take(pair, now)
        self._addresses.take(host, now)
        if len(self.failures) >= MAX_SOURCES and pair not in self.failures:
            self.failures.pop(next(iter(self.failures)))
        self.failures[pair] = count = self.failures.get(pair, 0) + 1
        return count

    def succeeded(self, user: str, host: str) -> None:
        pair = f"{user}|{host}"
        self._pairs.refill(pair)
        self.failures.pop(pair, None)


class Valve:
    """Which share of new calls to refuse, from how late the server is; spread evenly, without chance.

    `FREE_S` of lag is free; from there the share grows in a straight line to all at `FULL_S`, so that at
    twice the load the server settles near half way and a refusal still leaves within 100 ms (P9).
    """

    FREE_S = 0.030
    FULL_S = 0.120

    __slots__ = ("_debt", "lag_s", "share")

    def __init__(self) -> None:
        self.lag_s = 0.0
        self.share = 0.0
        self._debt = 0.0

    def set(self, lag_s: float) -> None:
        self.lag_s += 0.1 * (lag_s - self.lag_s)  # one hiccup is no load
        self.share = min(1.0, max(0.0, (self.lag_s - self.FREE_S) / (self.FULL_S - self.FREE_S)))

    def refuse(self) -> bool:
        if self.share <= 0.0:
            return False
        self._debt += self.share
        if self._debt >= 1.0:
            self._debt -= 1.0
            return True
        return False
