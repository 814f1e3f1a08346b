"""Guessing is slowed, by login and address together; the real person is never locked out."""

from __future__ import annotations

from cti.guessing import FREE_FAILURES, LONGEST_WAIT_S, REMEMBERED, Guessing
from cti.hearing import Hearing


def test_the_wait_doubles_after_three_failures_up_to_a_bound() -> None:
    guessing, now = Guessing(), 1000.0
    waits = []
    for _ in range(14):
        now += guessing.wait_s("lea", "192.0.2.1", now)
        guessing.failed("lea", "192.0.2.1", now)
        waits.append(guessing.wait_s("lea", "192.0.2.1", now))
    assert waits[: FREE_FAILURES + 3] == [0, 0, 1, 2, 4, 8]
    assert waits[-1] == LONGEST_WAIT_S


def test_somebody_elses_failures_do_not_slow_the_real_person() -> None:
    guessing = Guessing()
    for n in range(50):
        guessing.failed("lea", "192.0.2.1", 1000.0 + n)
    assert guessing.wait_s("lea", "192.0.2.1", 1050.0) > 0
    assert guessing.wait_s("lea", "198.51.100.7", 1050.0) == 0


def test_one_address_cannot_try_everybody() -> None:
    guessing = Guessing()
    told = [guessing.failed(f"login{n}", "192.0.2.1", 1000.0) for n in range(25)]
    assert guessing.wait_s("another", "192.0.2.1", 1000.0) > 0
    assert guessing.wait_s("", "198.51.100.7", 1000.0) == 0
    guessing = Guessing()
    for n in range(5):
        guessing.failed(f"login{n}", "192.0.2.1", 1000.0)
    assert guessing.wait_s("", "192.0.2.1", 1000.0) == 0  # an empty login is a login, not the address
    assert told[0] == 0
    assert told[-1] == 25


def test_success_and_time_forgive_and_memory_is_bounded() -> None:
    guessing = Guessing()
    for _ in range(5):
        guessing.failed("lea", "192.0.2.1", 0.0)
    guessing.succeeded("lea", "192.0.2.1")
    assert guessing.wait_s("lea", "192.0.2.1", 0.0) == 0
    for n in range(2 * REMEMBERED):
        guessing.failed("x", f"2001:db8:{n:x}::/64", 0.0)
    assert len(guessing._counts) <= REMEMBERED


def test_the_call_bar_says_who_is_not_heard() -> None:
    """At 0 s both are joined; what is noticed, then what the bar says."""
    story = """
        1   advisor heard        ok
        4   advisor silent 0.6   ok
        6   -                    caller_not_heard
        7   caller  heard        ok
        9   caller  silent 0.6   ok
        12  -                    ok
        20  -                    silence
        21  advisor heard        ok
        40  -                    caller_not_heard
        41  caller  heard        ok
    """
    hearing = Hearing(0.0)
    for line in story.strip().splitlines():
        at, *told, verdict = line.split()
        if told[0] != "-":
            silent_s = float(told[2]) if told[1] == "silent" else 0.0
            side = told[0]
            hearing.noticed(side, told[1] == "heard", silent_s, float(at))
        assert hearing.verdict(float(at)) == verdict, line
        assert hearing.look_again_s(float(at)) > 0
