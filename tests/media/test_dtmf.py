"""Digits: one press is one digit (row 24)."""

from __future__ import annotations

import itertools
import random

import pytest

from media import dtmf
from media.dtmf import Digit, Receiver


def told(script: list[tuple[float, int, bytes]], until_s: float = 5.0) -> list[str]:
    """script: (when, time stamp, payload). What is told, ticks of 10 ms between and after."""
    receiver, now = Receiver(), 0.0
    digits: list[Digit] = []
    for at, stamp, payload in script:
        while now + 0.01 < at:
            now += 0.01
            digits += receiver.tick(now)
        now = at
        digits += receiver.hear(stamp, payload, now)
    while now < until_s:
        now += 0.01
        digits += receiver.tick(now)
    return [each.digit for each in digits]


def press(digit: str, at: float, stamp: int, ms: int = 160) -> list[tuple[float, int, bytes]]:
    return [(at + 0.02 * index, stamp, payload) for index, payload in enumerate(dtmf.payloads(digit, ms))]


@pytest.mark.parametrize("digit", dtmf.DIGITS)
@pytest.mark.parametrize("ms", [40, 160, 280, 3000])
def test_a_press_of_any_length_is_one_digit(digit: str, ms: int) -> None:
    assert told(press(digit, 0, 1000, ms)) == [digit]


def test_a_press_of_280_ms_is_ten_packets_and_more_with_duration_2240() -> None:
    payloads = dtmf.payloads("1", 280)
    ends = [payload for payload in payloads if payload[1] & dtmf.END]
    assert len(ends) == 3
    assert all(int.from_bytes(payload[2:]) == 2240 for payload in ends)


def test_a_long_press_is_told_before_it_ends() -> None:
    receiver = Receiver()
    for at, stamp, payload in press("4", 0, 0, 3000):
        for digit in receiver.hear(stamp, payload, at):
            assert at <= 0.1
            assert digit == Digit("4", 100)


def test_two_presses_of_one_key_are_two_digits_even_when_every_end_is_lost() -> None:
    script = press("7", 0, 0)[:-3] + press("7", 0.3, 2400)[:-3]
    assert told(script) == ["7", "7"]
    assert told(press("7", 0, 0)[:2]) == ["7"]


def test_any_loss_and_any_order_leave_one_digit() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(300):
        script = [each for each in press("5", 0, 0, 200) if chance.random() > 0.4]
        payloads = [payload for _, _, payload in script]
        payloads += [payload for payload in payloads if chance.random() < 0.3]
        chance.shuffle(payloads)
        again = [(0.02 * index, 0, payload) for index, payload in enumerate(payloads)]
        assert told(again) == (["5"] if payloads else [])


def test_late_packets_of_an_older_press_are_not_a_new_one() -> None:
    script = [*press("1", 0, 0), *press("2", 0.3, 2400), (0.8, 0, dtmf.payloads("1")[-1])]
    assert told(script) == ["1", "2"]


def test_a_press_too_long_for_one_duration_is_still_one_digit() -> None:
    first = [(0.02 * i, 0, dtmf.PAYLOAD.pack(3, 10, min(160 * (i + 1), 0xFFFF))) for i in range(410)]
    second = [(8.2 + 0.02 * i, 0xFFFF, dtmf.PAYLOAD.pack(3, 10, 160 * (i + 1))) for i in range(5)]
    end = [(8.3, 0xFFFF, dtmf.PAYLOAD.pack(3, 0x8A, 960))]
    assert told(first + second + end, 9.0) == ["3"]


def test_time_stamps_wrap_and_rubbish_is_nothing() -> None:
    assert told([*press("1", 0, 0xFFFFFFF0), *press("2", 0.5, 0x100)]) == ["1", "2"]
    assert (
        told([(0.0, 0, b""), (0.1, 1, b"\1\2"), (0.2, 2, b"\x20\x0a\0\xa0"), (0.3, 3, b"\xff\xff\xff\xff")])
        == []
    )


def test_typing_fast_keeps_every_digit() -> None:
    keys = "0123456789*#" * 3
    script = list(
        itertools.chain.from_iterable(press(key, 0.1 * i, 800 * i, 40) for i, key in enumerate(keys))
    )
    assert "".join(told(script)) == keys
