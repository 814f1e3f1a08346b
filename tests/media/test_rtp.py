"""RTP packets and the figures about them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import rtp
from media.rtp import NotRtp, Packet, Reception


def test_a_packet_survives_the_wire() -> None:
    packet = Packet(8, 65535, 0xFFFFFFFF, 0xDEADBEEF, b"voice", True)
    assert rtp.parse(rtp.build(packet)) == packet


def test_csrc_extension_and_padding_are_not_payload() -> None:
    head = bytes([0x80 | 0x20 | 0x10 | 2, 0]) + rtp.build(Packet(0, 1, 2, 3, b""))[2:]
    data = head + b"csrccsrc" + b"\xbe\xde\x00\x01ext!" + b"voice" + b"\0\0\3"
    assert rtp.parse(data).payload == b"voice"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80" * 11,
        b"\x00" * 40,
        b"\x8f\x00" + b"\0" * 12,
        b"\x90\x00" + b"\0" * 10,
        b"\x90\x00" + b"\0" * 12 + b"\xff\xff",
        b"\xa0\x00" + b"\0" * 20 + b"\x00",
        b"\xa0\x00" + b"\0" * 20 + b"\xff",
        b"\x80\xc8" + b"\0" * 20,
    ],
)
def test_what_is_not_rtp_is_refused(data: bytes) -> None:
    with pytest.raises(NotRtp):
        rtp.parse(data)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    try:
        packet = rtp.parse(data)
    except NotRtp:
        return
    assert rtp.parse(rtp.build(packet)) == packet


def heard(*sequences: int) -> Reception:
    reception = Reception()
    for index, sequence in enumerate(sequences):
        reception.hear(sequence & 0xFFFF, index * 160, index * 160.0)
    return reception


@pytest.mark.parametrize(
    ("sequences", "expected", "lost"),
    [
        ((1, 2, 3), 3, 0),
        ((1, 2, 5), 5, 2),
        ((1, 3, 2, 4), 4, 0),
        ((2, 1, 3), 3, 0),
        ((65534, 65535, 65536, 65537), 4, 0),
        ((65534, 65537), 4, 2),
        ((1, 1, 2), 2, 0),
        ((1, 2, 30000, 3), 3, 0),  # one from far off is not believed
        ((1, 2, 30000, 30001, 30002), 4, 0),  # two in a row are: the source began anew
    ],
)
def test_expected_and_lost_are_those_of_rfc_3550_a3(
    sequences: tuple[int, ...], expected: int, lost: int
) -> None:
    reception = heard(*sequences)
    assert (reception.expected, reception.lost) == (expected, lost)


def test_jitter_is_that_of_rfc_3550_a8() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    reception, jitter, before = Reception(), 0.0, None
    for index in range(500):
        arrival, stamp = index * 160 + chance.uniform(0, 200), index * 160
        reception.hear(index, stamp, arrival)
        if before is not None:
            jitter += (abs((arrival - before[0]) - (stamp - before[1])) - jitter) / 16
        before = (arrival, stamp)
    assert reception.jitter == pytest.approx(jitter)


def test_the_fraction_lost_is_of_the_interval_only() -> None:
    reception = heard(1, 2, 4, 5)  # one of five
    assert reception.fraction() == 256 // 5
    reception.hear(6, 0, 0)
    assert reception.fraction() == 0


@pytest.mark.parametrize(
    ("to", "since", "far"), [(1, 65535, 2), (65535, 1, -2), (5, 5, 0), (32768, 0, -32768)]
)
def test_serial_numbers_wrap(to: int, since: int, far: int) -> None:
    assert rtp.distance(to, since) == far
