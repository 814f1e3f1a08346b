"""The live board: one row for each queue and channel, all channels in the same columns (S1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from routing.figures import Counted, Level, Queueing, formula, level, target_of
from routing.models import Event
from routing.site import Queue, Target

INTERVALS = 48  # of a day: half hours


@dataclass(frozen=True, slots=True)
class Live:
    """What the engine says of one queue and channel now."""

    waiting: int = 0
    longest_wait_s: float = 0.0
    estimate_s: tuple[float, float] | None = None
    breach_in_s: float | None = None


@dataclass(slots=True)
class _Cell:
    day: Level = field(default_factory=Level)
    intervals: dict[int, Level] = field(default_factory=dict)
    counted: dict[str, list[UUID]] = field(default_factory=dict)  # by the name of the figure


class Tally:
    """Figures of one day from events in commit order, by queue and seat: `channel` is voice, chat or mail here."""

    def __init__(
        self, queues: Iterable[Queue], start: datetime, length: timedelta = timedelta(days=1)
    ) -> None:
        self._queueing = Queueing(queues)
        self.start, self.length = start, length
        self._cells: dict[tuple[str, str], _Cell] = {}

    @property
    def queues(self) -> dict[str, Queue]:
        return self._queueing.queues

    def know(self, interaction: UUID, channel: str, seat: str) -> None:
        """An interaction that lives since before the events that are coming."""
        self._queueing.know(interaction, channel, seat)

    def set_queues(self, queues: Iterable[Queue]) -> None:
        self._queueing.queues = {q.id: q for q in queues}

    def new_day(self, start: datetime, length: timedelta) -> None:
        """Begin a day; those who wait keep waiting and count in the day in which they are answered."""
        self.start, self.length = start, length
        self._cells.clear()

    def figures(self, queue: str, channel: str) -> Level:
        cell = self._cells.get((queue, channel))
        return cell.day if cell else Level()

    def counted(self, queue: str, channel: str, figure: str) -> list[UUID]:
        """The interactions behind a figure of the day (answered, abandoned, short_abandoned), oldest first."""
        cell = self._cells.get((queue, channel))
        return list(cell.counted.get(figure, ())) if cell else []

    def channels(self, queue: str) -> set[str]:
        return {channel for q, channel in self._cells if q == queue}

    def waiting(self, interaction: UUID) -> tuple[str, datetime] | None:
        """The queue in which somebody waits for the first answer, and since when."""
        wait = self._queueing.waits.get(interaction)
        return (wait.queue, wait.since) if wait is not None and not wait.answered else None

    def live(self, now: datetime) -> dict[tuple[str, str], Live]:
        """Who waits, by queue and channel: also those to whom an advisor is just being rung."""
        found: dict[tuple[str, str], Live] = {}
        for wait in self._queueing.waits.values():
            if wait.waiting:
                key = (wait.queue, wait.seat)
                before = found.get(key, Live())
                waited_s = max(0.0, (now - wait.first).total_seconds())
                found[key] = Live(before.waiting + 1, max(before.longest_wait_s, waited_s))
        return found

    def spark(self, queue: str, channel: str) -> list[float | None]:
        cell = self._cells.get((queue, channel))
        return [
            cell.intervals[n].service_level if cell and n in cell.intervals else None
            for n in range(INTERVALS)
        ]

    def apply(self, event: Event) -> bool:
        """Take one event; True when a figure or who waits changed."""
        counted = self._queueing.apply(event)
        facts: dict[str, list[Counted]] = {}
        for fact in counted or ():
            assert fact.queue is not None
            facts.setdefault(fact.queue, []).append(fact)
        for queue, of_queue in facts.items():
            seat = self._queueing.seats.get(of_queue[0].channel, of_queue[0].channel)
            self._count(queue, seat, event.at, level(of_queue))
            for fact in of_queue:
                if fact.what in LISTED:
                    cell = self._cells[(queue, seat)]
                    cell.counted.setdefault(fact.what, []).append(fact.interaction)
        return counted is not None

    def _count(self, queue: str, channel: str, at: datetime, more: Level) -> None:
        cell = self._cells.setdefault((queue, channel), _Cell())
        cell.day = cell.day + more
        n = int((at - self.start) / self.length * INTERVALS)
        if 0 <= n < INTERVALS:
            cell.intervals[n] = cell.intervals.get(n, Level()) + more


LISTED = ("answered", "abandoned", "short_abandoned")
ADVISOR_STATES = ("ready", "ringing", "talking", "writing", "wrapup", "pause", "offline")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the board; the same columns for every channel."""

    queue: str
    name: str
    channel: str
    live: Live
    figures: Level
    target: Target
    advisors: Mapping[str, int]
    spark: tuple[float | None, ...]

    @property
    def formula(self) -> str:
        return formula(self.target)


def rows(
    queues: Iterable[Queue],
    tally: Tally,
    live: Mapping[tuple[str, str], Live],
    staff: Mapping[str, Iterable[str]],
) -> list[Row]:
    """The board's rows, in the site's order. `staff` maps a queue to the state of each of its advisors."""
    board: list[Row] = []
    for queue in queues:
        counts = dict.fromkeys(ADVISOR_STATES, 0)
        for state in staff.get(queue.id, ()):
            counts[state] += 1
        channels = {c for q, c in live if q == queue.id} | tally.channels(queue.id) | {"voice"}
        for channel in sorted(channels, key=lambda c: (c != "voice", c)):
            board.append(
                Row(
                    queue=queue.id,
                    name=queue.name,
                    channel=channel,
                    live=live.get((queue.id, channel), Live()),
                    figures=tally.figures(queue.id, channel),
                    target=target_of(queue, channel),
                    advisors=counts,
                    spark=tuple(tally.spark(queue.id, channel)),
                )
            )
    return board
