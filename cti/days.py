"""Whole days where the site is, for a day of the floor begins at its midnight and not at the reader's."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def today(now: datetime, time_zone: str) -> date:
    return now.astimezone(ZoneInfo(time_zone)).date()


def whole_days(first: date, last: date, time_zone: str) -> tuple[datetime, datetime]:
    """From the midnight before the first day to the one after the last, in UTC; a day may have 23 or 25 hours."""
    zone = ZoneInfo(time_zone)
    start = datetime.combine(first, time(), zone)
    end = datetime.combine(last + timedelta(days=1), time(), zone)
    return start.astimezone(UTC), end.astimezone(UTC)
