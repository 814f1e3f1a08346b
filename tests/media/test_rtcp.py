"""RTCP reports, written and read."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import rtcp
from media.rtcp import Bye, NotRtcp, ReceiverReport, Report, SenderReport

BLOCK = Report(ssrc=1, fraction=25, lost=-3, highest=0x1_0001, jitter=42, last_sr=7, delay=65536)


@pytest.mark.parametrize(
    "packet",
    [ReceiverReport(9), ReceiverReport(9, (BLOCK,)), SenderReport(9, 1 << 40, 160, 2, 320, (BLOCK, BLOCK))],
)
def test_a_report_survives_the_wire(packet: SenderReport | ReceiverReport) -> None:
    data = rtcp.build(packet, "ana@example.org")
    assert rtcp.parse(data) == (packet,)
    assert len(data) % 4 == 0
    assert b"ana@example.org" in data


def test_a_goodbye_is_read_and_other_types_are_skipped() -> None:
    data = struct.pack("!BBHI", 0x80, 201, 1, 5) + struct.pack("!BBHI", 0x81, 204, 1, 5)
    assert rtcp.parse(data + struct.pack("!BBHI", 0x81, 203, 1, 5)) == (ReceiverReport(5), Bye((5,)))


def test_ntp_time_counts_from_1900() -> None:
    assert rtcp.ntp(0) >> 32 == 2_208_988_800
    assert rtcp.middle(rtcp.ntp(0.5)) & 0xFFFF == 0x8000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\xc9\0",
        b"\0" * 8,
        b"\x80\x00\0\1\0\0\0\0",
        b"\x80\xc9\0\x09\0\0\0\0",
        b"\x81\xc9\0\1\0\0\0\0",
    ],
)
def test_what_is_not_rtcp_is_refused(data: bytes) -> None:
    with pytest.raises(NotRtcp):
        rtcp.parse(data)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.integers(200, 204))
def test_no_bytes_do_more_than_be_refused(data: bytes, kind: int) -> None:
    for each in (data, b"\x81" + bytes([kind]) + data):
        try:
            rtcp.parse(each)
        except NotRtcp:
            pass
