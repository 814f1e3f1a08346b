"""Who looks and who types in a case, as colleagues see it."""

from __future__ import annotations

from uuid import UUID

from cti.collision import Viewers

CASE, OTHER = UUID(int=1), UUID(int=2)


def test_viewers_are_told_once_and_forgotten_after_ten_seconds_of_silence() -> None:
    at = Viewers()
    assert at.said(CASE, "ana", 1, "viewing", 0.0)
    assert not at.said(CASE, "ana", 1, "viewing", 5.0)
    assert list(at.expire(14.9)) == []
    assert at.of(CASE) == {"ana": "viewing"}
    assert list(at.expire(15.0)) == [CASE]
    assert at.of(CASE) == {}


def test_who_types_on_one_of_two_pages_types_and_stops_with_that_page() -> None:
    at = Viewers()
    at.said(CASE, "ana", 1, "viewing", 0.0)
    assert at.said(CASE, "ana", 2, "typing", 0.0)
    assert at.of(CASE) == {"ana": "typing"}
    assert at.left("ana", 2) == [CASE]
    assert at.of(CASE) == {"ana": "viewing"}
    assert at.left("ana", 2) == []


def test_a_page_that_looks_elsewhere_says_so() -> None:
    at = Viewers()
    at.said(CASE, "ana", 1, "viewing", 0.0)
    at.said(CASE, "bob", 2, "viewing", 0.0)
    assert at.said(CASE, "ana", 1, "none", 1.0)
    assert not at.said(OTHER, "ana", 1, "none", 1.0)
    assert at.of(CASE) == {"bob": "viewing"}


def test_a_page_looks_at_so_many_cases_and_no_more() -> None:
    at = Viewers()
    cases = [UUID(int=n) for n in range(1, 30)]
    for n, case in enumerate(cases):
        at.said(case, "ana", 1, "viewing", float(n) / 10)
        list(at.expire(float(n) / 10))
    assert [case for case in cases if at.of(case)] == cases[-8:]
