"""Whole days: they begin at the site's midnight, and some have another length."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from cti.days import today, whole_days


@pytest.mark.parametrize(
    ("first", "last", "zone", "hours", "start"),
    [
        (date(2026, 11, 22), date(2026, 11, 22), "Europe/Paris", 24, "2026-11-21T23:00"),
        (date(2026, 3, 29), date(2026, 3, 29), "Europe/Paris", 23, "2026-03-28T23:00"),
        (date(2026, 10, 25), date(2026, 10, 25), "Europe/Paris", 25, "2026-10-24T22:00"),
        (date(2026, 10, 24), date(2026, 10, 26), "Europe/Paris", 73, "2026-10-23T22:00"),
        (date(2026, 11, 22), date(2026, 11, 22), "America/Montreal", 24, "2026-11-22T05:00"),
        (date(2026, 9, 6), date(2026, 9, 6), "America/Santiago", 23, "2026-09-06T04:00"),  # no midnight
    ],
)
def test_days_run_from_midnight_to_midnight_where_the_site_is(
    first: date, last: date, zone: str, hours: int, start: str
) -> None:
    since, until = whole_days(first, last, zone)
    assert since == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert (until - since).total_seconds() == hours * 3600


def test_today_is_the_day_of_the_site() -> None:
    now = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
    assert today(now, "Europe/Paris") == date(2026, 11, 23)
    assert today(now, "America/Montreal") == date(2026, 11, 22)
