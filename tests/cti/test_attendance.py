"""Who has a page, in virtual time."""

from __future__ import annotations

from cti.attendance import Attendance


def test_a_page_that_comes_back_in_time_was_never_away() -> None:
    seen = Attendance(grace_s=15)
    assert seen.present(0) == set()
    seen.opened("lea")
    assert (seen.present(100), seen.deadline()) == ({"lea"}, None)
    seen.closed("lea", 100)
    assert (seen.present(114.9), seen.deadline()) == ({"lea"}, 115)
    seen.opened("lea")
    assert (seen.present(1000), seen.deadline()) == ({"lea"}, None)


def test_whose_last_page_stays_closed_is_gone_after_the_grace_time() -> None:
    seen = Attendance(grace_s=15)
    for login in ("lea", "lea", "tom"):
        seen.opened(login)
    seen.closed("lea", 0)
    assert (seen.present(99), seen.deadline()) == ({"lea", "tom"}, None)
    seen.closed("tom", 100)
    seen.closed("lea", 105)
    assert (seen.present(114), seen.deadline()) == ({"lea", "tom"}, 115)
    assert (seen.present(115), seen.deadline()) == ({"lea"}, 120)
    assert (seen.present(120), seen.deadline()) == (set(), None)
