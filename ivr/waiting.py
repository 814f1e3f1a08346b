"""What a waiting customer is told of their place (Q9): never a worse one than they were told last."""

from __future__ import annotations

from dataclasses import dataclass

from ivr.events import Say, Spoken


@dataclass(slots=True)
class Waiting:
    """One stay in a queue. `told` is the place told last; `worse` the true one when it is worse than that."""

    announce: bool = True
    told: int | None = None
    worse: int | None = None

    def say(self, place: int | None, language: str) -> Say:
        """The next announcement, with the true `place` in line (None: unknown)."""
        if not self.announce or place is None or place < 1:
            return Say((Spoken("prompt", "hold"),), language)
        if self.told is not None and place > self.told:
            self.worse = place
            return Say((Spoken("prompt", "hold"),), language)
        self.worse = None
        self.told = place
        if place == 1:
            return Say((Spoken("prompt", "place-first"), Spoken("prompt", "hold")), language)
        number = Spoken("number", value=str(place))
        return Say((Spoken("prompt", "place"), number, Spoken("prompt", "hold")), language)
