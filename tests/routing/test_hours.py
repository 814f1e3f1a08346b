"""Opening time: ranges, holidays, exceptions, zones and clock changes."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.hours import Calendar, is_open, next_change, opening_seconds, span
from routing.site import Hours

PARIS = "Europe/Paris"
WEEK = dict.fromkeys(range(5), ("08:00-12:00", "13:30-18:00"))
OFFICE = Hours("office", WEEK, "FR", closings=("2026-11-20",), openings={"2026-12-25": ("10:00-11:00",)})


def at(text: str, zone: str = PARIS, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def test_the_lunch_break_is_no_opening_time() -> None:  # acceptance 14
    assert opening_seconds(OFFICE, PARIS, at("2026-11-18 12:30"), at("2026-11-18 13:40")) == 600


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2026-11-18 08:00", True),
        ("2026-11-18 07:59:59", False),
        ("2026-11-18 12:00", False),
        ("2026-11-18 13:30", True),
        ("2026-11-18 18:00", False),
        ("2026-11-21 09:00", False),  # Saturday
        ("2026-11-11 09:00", False),  # a public holiday in France
        ("2026-11-20 09:00", False),  # a closing of that day
        ("2026-12-25 09:30", False),
        ("2026-12-25 10:30", True),  # an opening beats the holiday
    ],
)
def test_it_is_open_when_its_first_speaking_rule_says_so(when: str, expected: bool) -> None:
    assert is_open(OFFICE, PARIS, at(when)) is expected


def test_the_next_change_skips_nights_weekends_and_holidays() -> None:
    assert next_change(OFFICE, PARIS, at("2026-11-18 08:00")) == at("2026-11-18 12:00")
    assert next_change(OFFICE, PARIS, at("2026-11-19 18:00")) == at("2026-11-23 08:00")
    assert next_change(Hours("never", {}), PARIS, at("2026-11-19 18:00")) is None


def test_a_range_may_pass_midnight_and_meet_the_next_without_a_change() -> None:
    night = Hours("night", {0: ("22:00-06:00",), 1: ("06:00-07:00",)})
    assert is_open(night, PARIS, at("2026-11-17 03:00"))  # a Tuesday
    assert next_change(night, PARIS, at("2026-11-16 23:00")) == at("2026-11-17 07:00")
    always = Hours("always", dict.fromkeys(range(7), ("00:00-24:00",)))
    assert is_open(always, PARIS, at("2026-11-17 00:00"))
    assert next_change(always, PARIS, at("2026-11-17 03:00")) is None


def test_the_night_of_a_clock_change_is_an_hour_longer_or_shorter() -> None:
    nights = Hours("nights", dict.fromkeys(range(7), ("00:00-06:00",)))
    assert opening_seconds(nights, PARIS, at("2026-03-29 00:00"), at("2026-03-29 12:00")) == 5 * 3600
    assert opening_seconds(nights, PARIS, at("2026-10-25 00:00"), at("2026-10-25 12:00")) == 7 * 3600


def test_opening_time_runs_out_where_after_says() -> None:
    calendar = Calendar(OFFICE, PARIS)
    assert calendar.after(at("2026-11-18 11:55"), 900) == at("2026-11-18 13:40")
    assert calendar.after(at("2026-11-19 17:50"), 900) == at("2026-11-23 08:05")
    assert Calendar(Hours("never", {}), PARIS).after(0.0, 1) is None


@pytest.mark.parametrize("wrong", ["8h-12h", "08:00", "25:00-26:00", "09:00-09:00", "08:60-09:00"])
def test_what_is_no_range_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        span(wrong)


instants = st.integers(1_750_000_000, 1_800_000_000).map(float)


@given(st.tuples(instants, instants, instants))
def test_opening_time_adds_up_and_agrees_with_what_is_open_second_by_second(
    three: tuple[float, float, float],
) -> None:
    a, b, c = sorted(three)
    b, c = min(b, a + 30 * 86400), min(c, a + 60 * 86400)
    calendar = Calendar(OFFICE, PARIS)
    assert calendar.seconds(a, b) + calendar.seconds(b, c) == pytest.approx(calendar.seconds(a, c))
    total, now = 0.0, a
    while now < b:  # walk from change to change
        edge = min(calendar.next_change(now) or b, b)
        assert calendar.is_open(edge - 1e-3) == calendar.is_open(now)
        total += (edge - now) * calendar.is_open(now)
        now = edge
    assert total == pytest.approx(calendar.seconds(a, b))
    if (done := calendar.after(a, 3600.0)) is not None:
        assert calendar.seconds(a, done) == pytest.approx(3600.0)


@given(
    st.lists(
        st.tuples(st.integers(-900 * 24, 900 * 24), st.integers(-2, 400), st.integers(0, 59)),
        min_size=1,
        max_size=12,
    )
)
def test_opening_time_is_the_same_whatever_was_asked_before(spans: list[tuple[int, int, int]]) -> None:
    nights = Hours("nights", {2: ("22:00-06:00",), 3: ("18:00-12:00",), 6: ("00:00-24:00",)}, "FR")
    asked = Calendar(nights, PARIS)
    for begin_h, length_h, minute in spans:
        a = at("2026-03-29 02:30") + begin_h * 3600 + minute * 60 + 0.123456
        b = a + length_h * 3600 + 0.5
        assert asked.seconds(a, b) == opening_seconds(nights, PARIS, a, b)
