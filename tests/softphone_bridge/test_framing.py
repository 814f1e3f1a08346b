"""However a stream is cut, the same messages come out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from softphone_bridge.framing import PING, Framer
from softphone_bridge.parser import MAX_MESSAGE

GOOD = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 5\r\n\r\nhello"
SHORT = b"OPTIONS sip:b SIP/2.0\r\nl : 0\r\n\r\n"
FOLDED = b"OPTIONS sip:c SIP/2.0\r\nContent-Length:\r\n 2\r\n\r\nxy"
PIECES = [
    GOOD,
    SHORT,
    FOLDED,
    b"\r\n",
    b"\r\n\r\n",
    b"OPTIONS sip:d SIP/2.0\r\nContent-Length: five\r\n\r\n",
    b"OPTIONS sip:e SIP/2.0\r\nContent-Length: 1\r\nl: 2\r\n\r\n",
    b"OPTIONS sip:f SIP/2.0\r\nNo: length\r\n\r\n",
    b"\x00\xff\r\r\n",
    b"garbage",
]


def whole(data: bytes) -> tuple[list[bytes], bool, bool]:
    framer = Framer()
    out = framer.feed(data)
    return out, framer.broken, framer.waiting


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_chunking_never_changes_the_outcome(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    framer = Framer()
    out: list[bytes] = []
    at = 0
    for cut in [*sorted(min(c, len(data)) for c in cuts), len(data)]:
        out += framer.feed(data[at:cut])
        at = cut
    assert (out, framer.broken, framer.waiting) == whole(data)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 7))
def test_any_bytes_in_any_pieces_do_no_harm(data: bytes, step: int) -> None:
    framer = Framer()
    out: list[bytes] = []
    for at in range(0, len(data), step):
        out += framer.feed(data[at : at + step])
    assert (out, framer.broken) == whole(data)[:2]


def test_two_messages_and_a_ping_come_out_apart() -> None:
    assert whole(GOOD + SHORT + b"\r\n\r\n" + FOLDED) == ([GOOD, SHORT, PING, FOLDED], False, False)


def test_a_head_that_never_ends_breaks_the_stream_in_bounded_memory() -> None:
    framer = Framer()
    for _ in range(200):
        assert framer.feed(b"X" * 1000) == []
    assert framer.broken
    assert not framer.waiting


def test_a_length_beyond_the_limit_is_not_waited_for() -> None:
    out, broken, _ = whole(b"OPTIONS sip:a SIP/2.0\r\nContent-Length: %d\r\n\r\n" % MAX_MESSAGE)
    assert broken
    assert len(out) == 1
