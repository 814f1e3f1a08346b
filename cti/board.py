"""The live board: one row for each queue and channel, all channels in the same columns (S1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from routing.models import Event, T
from routing.site import Queue, Target

SHORT_ABANDON_S = 5.0  # who leaves within it misdialled; in no rate (features 1.3)
INTERVALS = 48  # of a day: half hours
DEFAULT_TARGET = {"voice": Target(0.8, 20.0), "chat": Target(0.8, 60.0), "mail": Target(0.8, 14_400.0)}


@dataclass(frozen=True, slots=True)
class Figures:
    """What the rates are made of. `abandoned` holds the long ones only; seconds are sums over the answered."""

    enqueued: int = 0
    answered: int = 0
    answered_in_time: int = 0
    abandoned: int = 0
    abandoned_in_time: int = 0  # of `abandoned`: left before the target's seconds were over
    short_abandoned: int = 0
    left: int = 0  # by key, closing or overflow: no abandons
    wait_s: float = 0.0

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, n) + getattr(other, n) for n in Figures.__slots__))

    @property
    def service_level(self) -> float | None:
        """Answered in time / (answered + abandoned after the short ones)."""
        return share(self.answered_in_time, self.answered + self.abandoned)

    @property
    def service_level_all_abandons(self) -> float | None:
        return share(self.answered_in_time, self.answered + self.abandoned + self.short_abandoned)

    @property
    def service_level_early_abandons_left_out(self) -> float | None:
        return share(self.answered_in_time, self.answered + self.abandoned - self.abandoned_in_time)

    @property
    def service_level_early_abandons_credited(self) -> float | None:
        early = self.abandoned_in_time + self.short_abandoned
        return share(self.answered_in_time + early, self.answered + self.abandoned + self.short_abandoned)

    @property
    def abandonment(self) -> float | None:
        return share(self.abandoned, self.enqueued - self.short_abandoned)

    @property
    def asa_s(self) -> float | None:
        """Mean wait of the answered."""
        return self.wait_s / self.answered if self.answered else None


def share(part: int, whole: int) -> float | None:
    return part / whole if whole > 0 else None


def formula(target: Target) -> str:
    """Printed under every service level, so that nobody has to guess which one it is."""
    return (
        f"answered ≤ {target.seconds:g} s / (answered + abandoned after {SHORT_ABANDON_S:g} s), "
        f"target {target.share:.0%}"
    )


def target_of(queue: Queue, channel: str) -> Target:
    return queue.targets.get(channel) or DEFAULT_TARGET.get(channel) or DEFAULT_TARGET["mail"]


@dataclass(frozen=True, slots=True)
class Live:
    """What the engine says of one queue and channel now."""

    waiting: int = 0
    longest_wait_s: float = 0.0
    estimate_s: tuple[float, float] | None = None
    breach_in_s: float | None = None


@dataclass(slots=True)
class _Wait:
    queue: str
    channel: str
    since: datetime  # when it came into this queue: what rates clock from
    first: datetime  # when it first began to wait: its place in line
    waiting: bool = True
    answered: bool = False  # counted: a second acceptance, after an advisor was lost, is the same answer


@dataclass(slots=True)
class _Cell:
    day: Figures = Figures()
    intervals: dict[int, Figures] = field(default_factory=dict)
    counted: dict[str, list[UUID]] = field(default_factory=dict)  # by the name of the figure


class Tally:
    """Figures of one day from events in commit order. Days are told by `day(start, length)`."""

    def __init__(
        self, queues: Iterable[Queue], start: datetime, length: timedelta = timedelta(days=1)
    ) -> None:
        self.queues = {q.id: q for q in queues}
        self.start, self.length = start, length
        self._cells: dict[tuple[str, str], _Cell] = {}
        self._waits: dict[UUID, _Wait] = {}
        self._channels: dict[UUID, str] = {}

    def know(self, interaction: UUID, channel: str) -> None:
        """An interaction from before the events that are coming; `channel` is the seat that it takes."""
        self._channels[interaction] = channel

    def set_queues(self, queues: Iterable[Queue]) -> None:
        self.queues = {q.id: q for q in queues}

    def new_day(self, start: datetime, length: timedelta) -> None:
        """Begin a day; those who wait keep waiting and count in the day in which they are answered."""
        self.start, self.length = start, length
        self._cells.clear()

    def figures(self, queue: str, channel: str) -> Figures:
        cell = self._cells.get((queue, channel))
        return cell.day if cell else Figures()

    def counted(self, queue: str, channel: str, figure: str) -> list[UUID]:
        """The interactions behind a figure of the day (answered, abandoned, short_abandoned), oldest first."""
        cell = self._cells.get((queue, channel))
        return list(cell.counted.get(figure, ())) if cell else []

    def channels(self, queue: str) -> set[str]:
        return {channel for q, channel in self._cells if q == queue}

    def waiting(self, interaction: UUID) -> tuple[str, datetime] | None:
        """The queue in which somebody waits for the first answer, and since when."""
        wait = self._waits.get(interaction)
        return (wait.queue, wait.since) if wait is not None and not wait.answered else None

    def live(self, now: datetime) -> dict[tuple[str, str], Live]:
        """Who waits, by queue and channel: also those to whom an advisor is just being rung."""
        found: dict[tuple[str, str], Live] = {}
        for wait in self._waits.values():
            if wait.waiting:
                key = (wait.queue, wait.channel)
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
        """Take one event; True when a figure changed."""
        interaction = event.interaction
        if interaction is None:
            return False
        kind = event.type
        if kind is T.INTERACTION_OPENED:
            self._channels[interaction] = str(event.data.get("seat") or event.data["channel"])
            return False
        if kind is T.ENQUEUED:
            known = self._waits.get(interaction)
            if known is not None and event.data.get("overflow_from"):
                self._count(known, event.at, Figures(left=1))
            since = event.data.get("since")
            channel = self._channels.get(interaction, "voice")
            wait = _Wait(
                queue=str(event.data["queue"]),
                channel=channel,
                since=event.at,
                first=event.at if since is None else datetime.fromtimestamp(float(since), event.at.tzinfo),
                answered=known.answered if known else False,
            )
            self._waits[interaction] = wait
            self._count(wait, event.at, Figures(enqueued=1))
            return True
        wait = self._waits.get(interaction)  # type: ignore[assignment]
        if kind in {T.ENDED, T.INTERRUPTED, T.ABANDONED}:
            self._channels.pop(interaction, None)
            self._waits.pop(interaction, None)
        if wait is None:
            return False
        waited_s = (event.at - wait.since).total_seconds()
        seconds = self._target(wait).seconds
        if kind is T.REQUEUED:
            wait.waiting = True
            return True
        if kind is T.ASSIGNED and event.data.get("how") == "pulled":
            kind = T.ACCEPTED
        if kind is T.ACCEPTED and wait.answered:
            wait.waiting = False
            return True
        if kind is T.ACCEPTED:
            wait.answered, wait.waiting = True, False
            in_time = int(waited_s <= seconds)
            self._count(wait, event.at, Figures(answered=1, answered_in_time=in_time, wait_s=waited_s))
            self._list(wait, "answered", interaction)
            return True
        if kind is T.ABANDONED and not wait.answered:
            if waited_s <= SHORT_ABANDON_S:
                self._count(wait, event.at, Figures(short_abandoned=1))
                self._list(wait, "short_abandoned", interaction)
            else:
                early = int(waited_s <= seconds)
                self._count(wait, event.at, Figures(abandoned=1, abandoned_in_time=early))
                self._list(wait, "abandoned", interaction)
            return True
        if kind is T.LEFT_QUEUE:
            del self._waits[interaction]
            self._count(wait, event.at, Figures(left=1))
            return True
        return False

    def _target(self, wait: _Wait) -> Target:
        queue = self.queues.get(wait.queue)
        return target_of(queue, wait.channel) if queue else DEFAULT_TARGET["voice"]

    def _count(self, wait: _Wait, at: datetime, more: Figures) -> None:
        cell = self._cells.setdefault((wait.queue, wait.channel), _Cell())
        cell.day = cell.day + more
        n = int((at - self.start) / self.length * INTERVALS)
        if 0 <= n < INTERVALS:
            cell.intervals[n] = cell.intervals.get(n, Figures()) + more

    def _list(self, wait: _Wait, figure: str, interaction: UUID) -> None:
        self._cells[(wait.queue, wait.channel)].counted.setdefault(figure, []).append(interaction)


ADVISOR_STATES = ("ready", "ringing", "talking", "wrapup", "pause", "offline")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the board; the same columns for every channel."""

    queue: str
    name: str
    channel: str
    live: Live
    figures: Figures
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
