"""Who gets what: the one deterministic model that gives waiting interactions to advisors."""

from __future__ import annotations

from routing.steps import Decision, Event


class Distribution:
    """Told events in order of time, answers with decisions. No I/O, no clock, no chance."""

    def step(self, event: Event, now: float) -> list[Decision]:
        """`now`: unix seconds, from the one clock, never less than at the step before."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """When `Tick` must come next, or None."""
        raise NotImplementedError
