"""Figures per node and version (V17): entered, left by each exit, failed, hung up, median time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from ivr.events import Entered, Left
from routing.store import NodeCount

# Upper bounds of the time buckets in seconds: 12 % steps, so that a median is right within 6 %.
BOUNDS_S = tuple(0.05 * 1.12**i for i in range(100))


FAILED = frozenset(
    {"error", "timeout", "failed"}
)  # exits that the log, which knows no more, counts as failures


@dataclass(slots=True)
class NodeFigures:
    tree: str
    version: int
    node: str
    entered: int = 0
    failed: int = 0
    hung_up: int = 0
    exits: dict[str, int] = field(default_factory=dict)
    times: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))

    @property
    def median_s(self) -> float | None:
        """Median time in the node, None before anybody has left it."""
        total = sum(self.times)
        if not total:
            return None
        seen = 0
        for i, n in enumerate(self.times):
            seen += n
            if 2 * seen >= total:
                low = BOUNDS_S[i - 1] if i else 0.0
                return round((low + BOUNDS_S[min(i, len(BOUNDS_S) - 1)]) / 2, 3)
        return None


class Evidence:
    """Counts what the interpreter's Entered and Left say."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, int, str], NodeFigures] = {}

    def note(self, happened: Entered | Left) -> None:
        figures = self._of(happened.tree, happened.version, happened.node)
        if isinstance(happened, Entered):
            figures.entered += 1
            return
        figures.exits[happened.exit] = figures.exits.get(happened.exit, 0) + 1
        figures.times[bisect_left(BOUNDS_S, happened.seconds)] += 1
        figures.failed += happened.failed
        figures.hung_up += happened.exit == "hangup"

    def remember(self, counts: Iterable[NodeCount]) -> None:
        """Add what the log has, counted with the bounds BOUNDS_S: who left a node had entered it."""
        for it in counts:
            figures = self._of(it.tree, it.version, it.node)
            figures.entered += it.count
            figures.exits[it.exit] = figures.exits.get(it.exit, 0) + it.count
            figures.times[it.bucket] += it.count
            figures.failed += it.count if it.exit in FAILED else 0
            figures.hung_up += it.count if it.exit == "hangup" else 0

    def _of(self, tree: str, version: int, node: str) -> NodeFigures:
        key = (tree, version, node)
        figures = self._figures.get(key)
        if figures is None:
            figures = self._figures[key] = NodeFigures(*key)
        return figures

    def rows(self, tree: str | None = None, version: int | None = None) -> list[NodeFigures]:
        return [
            f for (t, v, _), f in sorted(self._figures.items()) if tree in (None, t) and version in (None, v)
        ]
