"""Opening time: when a calendar is open, how much of it lies between two instants, and when it changes next.

A day's ranges come from the first of these that speaks of it: `openings`, `closings`, public holidays, the week.
"18:00-24:00" ends at midnight; "22:00-06:00" runs into the next day. Wall times are those of the site's zone, so the
night of a clock change is an hour longer or shorter, and opening time with it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo

import holidays

from routing.site import Hours

HORIZON_DAYS = 400  # no change within this: none at all, for a calendar that repeats yearly
_DAY = timedelta(days=1)


def minutes(text: str) -> int:
    """Minutes since midnight of "HH:MM", "24:00" included."""
    hour, _, minute = text.strip().partition(":")
    value = int(hour) * 60 + int(minute)
    if not (0 <= int(hour) <= 24 and 0 <= int(minute) < 60 and value <= 1440):
        raise ValueError(f"not a time of day: {text!r}")
    return value


def span(text: str) -> tuple[int, int]:
    """(first, last) minute of "HH:MM-HH:MM"; the last is beyond 1440 where the range runs past midnight."""
    first, dash, last = text.partition("-")
    if not dash:
        raise ValueError(f"not a range of hours: {text!r}")
    start, end = minutes(first), minutes(last)
    if start == end:
        raise ValueError(f"an empty range of hours: {text!r}")
    return start, end if end > start else end + 1440


def instant(day: date, minute: int, zone: ZoneInfo) -> float:
    """Unix seconds of a wall time; in the hour that comes twice, its first coming."""
    day += _DAY * (minute // 1440)
    minute %= 1440
    return datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone).timestamp()


class Calendar:
    """One Hours in one time zone, with its days remembered."""

    __slots__ = ("_before", "_days", "_ends", "_holidays", "_known", "_starts", "_zone", "hours")

    def __init__(self, hours: Hours, time_zone: str) -> None:
        self.hours = hours
        self._zone = ZoneInfo(time_zone)
        self._days: dict[date, tuple[tuple[float, float], ...]] = {}
        self._holidays = holidays.country_holidays(hours.holidays) if hours.holidays else None
        self._known = (
            math.inf,
            -math.inf,
        )  # unix seconds between which the stretches below are all that there are
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._before: list[float] = []  # opening time before each stretch

    def ranges(self, day: date) -> tuple[str, ...]:
        """The ranges in force for a date, as written."""
        name = day.isoformat()
        if name in self.hours.openings:
            return tuple(self.hours.openings[name])
        if name in self.hours.closings or (self._holidays is not None and day in self._holidays):
            return ()
        return tuple(self.hours.week.get(day.weekday(), ()))

    def _starting(self, day: date) -> tuple[tuple[float, float], ...]:
        known = self._days.get(day)
        if known is None:
            spans = [span(text) for text in self.ranges(day)]
            known = tuple(
                sorted(
                    (instant(day, start, self._zone), instant(day, end, self._zone)) for start, end in spans
                )
            )
            if len(self._days) > 2 * HORIZON_DAYS:
                self._days.clear()
            self._days[day] = known
        return known

    def _day(self, at: float) -> date:
        return datetime.fromtimestamp(at, UTC).astimezone(self._zone).date()

    def _open(self, first: date, last: date) -> list[tuple[float, float]]:
        """The open stretches that start on those dates or the evening before, merged, in order."""
        day, stretches = first - _DAY, list[tuple[float, float]]()
        while day <= last:
            for start, end in self._starting(day):
                if end <= start:
                    continue  # swallowed whole by the hour that a clock change leaves out
                if stretches and start <= stretches[-1][1]:
                    stretches[-1] = stretches[-1][0], max(end, stretches[-1][1])
                else:
                    stretches.append((start, end))
            day += _DAY
        return stretches

    @staticmethod
    def zone(name: str) -> ZoneInfo:
        return ZoneInfo(name)

    @staticmethod
    def next_wall_time(at: float, minute: int, zone: ZoneInfo) -> float:
        """The first instant after `at` whose wall clock shows that minute of the day."""
        day = datetime.fromtimestamp(at, UTC).astimezone(zone).date()
        today = instant(day, minute, zone)
        return today if today > at else instant(day + _DAY, minute, zone)

    def is_open(self, at: float) -> bool:
        day = self._day(at)
        return any(start <= at < end for start, end in self._open(day, day))

    def seconds(self, a: float, b: float) -> float:
        """Opening time between two instants (features 1.2)."""
        if b <= a:
            return 0.0
        if not self._known[0] <= a or not b < self._known[1]:
            self._learn(a, b)
        return self._passed(b) - self._passed(a)

    def _learn(self, a: float, b: float) -> None:
        """The stretches between the two, and between what is known and them, unless that is far away."""
        first, last = self._day(a), self._day(b)
        if self._starts:
            near = [self._day(at) for at in self._known if abs(at - a) < HORIZON_DAYS * 86_400]
            first, last = min([first, *near]), max([last, *near])
        stretches = self._open(first, last)
        self._known = instant(first, 0, self._zone), instant(last + _DAY, 0, self._zone)
        self._starts, self._ends = [start for start, _ in stretches], [end for _, end in stretches]
        self._before = list(accumulate((end - start for start, end in stretches), initial=0.0))

    def _passed(self, at: float) -> float:
        """Opening time from the first stretch that is known until then."""
        n = bisect_right(self._starts, at) - 1
        return self._before[n] + min(at, self._ends[n]) - self._starts[n] if n >= 0 else 0.0

    def next_change(self, at: float) -> float | None:
        """The first instant after `at` at which it opens or closes, or None."""
        day = self._day(at)
        for ahead in range(0, HORIZON_DAYS, 20):
            first = day + _DAY * ahead
            # A stretch may touch the border of what was looked at: look a day further than is used.
            border = instant(first + _DAY * 20, 0, self._zone)
            for start, end in self._open(first, first + _DAY * 21):
                for edge in (start, end):
                    if at < edge <= border and not (edge == start and ahead and self.is_open(edge - 1e-6)):
                        return edge
        return None

    def after(self, at: float, seconds: float) -> float | None:
        """The instant at which `seconds` of opening time have passed since `at`, or None if it never opens again."""
        day, left = self._day(at), seconds
        first, last = day, day + _DAY * HORIZON_DAYS
        while first <= last:
            stop = instant(first + _DAY, 0, self._zone)
            for start, end in self._open(first, first):
                begin, until = max(start, at), min(end, stop)
                if until > begin:
                    if until - begin >= left:
                        return begin + left
                    left -= until - begin
                    at = until
            first += _DAY
        return None


def is_open(hours: Hours, time_zone: str, at: float) -> bool:
    return Calendar(hours, time_zone).is_open(at)


def opening_seconds(hours: Hours, time_zone: str, a: float, b: float) -> float:
    """Opening time between two instants, in seconds."""
    return Calendar(hours, time_zone).seconds(a, b)


def next_change(hours: Hours, time_zone: str, at: float) -> float | None:
    return Calendar(hours, time_zone).next_change(at)
