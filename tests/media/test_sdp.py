"""Session descriptions: what is read, refused, offered and answered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import sdp
from media.sdp import Direction, Local, Remote, RemoteError

LOCAL = Local("192.0.2.1", 20000, 77, 3)
LINPHONE = """v=0
o=ana 1 2 IN IP4 192.0.2.9
s=Talk
c=IN IP4 192.0.2.9
b=AS:380
t=0 0
a=rtcp-xr:rcvr-rtt=all:10000
m=audio 7078 RTP/AVPF 96 97 0 8 101 99
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:97 speex/16000
a=rtpmap:101 telephone-event/48000
a=rtpmap:99 telephone-event/8000
a=rtcp-fb:* trr-int 5000
m=video 9078 RTP/AVPF 96
a=rtpmap:96 VP8/90000
"""


def offered(text: str = LINPHONE, **changes: str) -> bytes:
    for old, new in changes.items():
        text = text.replace(old.replace("_", " "), new)
    return text.replace("\n", "\r\n").encode()


def with_lines(*extra: str, formats: str = "0 8 101", port: int = 4000, host: str = "192.0.2.9") -> bytes:
    lines = ["v=0", "o=- 1 1 IN IP4 192.0.2.9", "s=-", f"c=IN IP4 {host}", "t=0 0"]
    lines += [f"m=audio {port} RTP/AVP {formats}", "a=rtpmap:101 telephone-event/8000", *extra]
    return ("\r\n".join(lines) + "\r\n").encode()


def test_an_answer_names_one_codec_and_refuses_every_other_stream() -> None:
    raw, remote = sdp.answer(offered(), LOCAL)
    assert remote == Remote("192.0.2.9", 7078, 0, 99)
    answer = sdp.parse(raw)
    audio, video = answer.streams
    assert (audio.port, audio.protocol, audio.formats) == (20000, "RTP/AVPF", ("0", "99"))
    assert (video.kind, video.port) == ("video", 0)
    assert (answer.session, answer.version, answer.host) == ("77", "3", "192.0.2.1")
    assert raw.endswith(b"\r\n")


def test_our_offer_is_read_back_as_we_meant_it() -> None:
    session = sdp.parse(sdp.offer(LOCAL))
    (audio,) = session.streams
    assert audio.formats == ("8", "0", "101")
    _, remote = sdp.answer(session, Local("192.0.2.5", 30000, 1))
    assert remote == Remote("192.0.2.1", 20000, 8, 101)


def test_an_answer_to_our_offer_says_where_and_how() -> None:
    raw = with_lines("a=ptime:30", formats="8 101")
    assert sdp.agree(raw, LOCAL) == Remote("192.0.2.9", 4000, 8, 101, ptime_ms=30)


@pytest.mark.parametrize(
    ("theirs", "ours", "answered", "sending", "receiving"),
    [
        ("sendrecv", "sendrecv", "sendrecv", True, True),
        ("sendonly", "sendrecv", "recvonly", False, True),
        ("recvonly", "sendrecv", "sendonly", True, False),
        ("inactive", "sendrecv", "inactive", False, False),
        ("sendrecv", "sendonly", "sendonly", True, False),
        ("sendonly", "sendonly", "inactive", False, False),
        ("recvonly", "sendonly", "sendonly", True, False),
        ("sendrecv", "inactive", "inactive", False, False),
    ],
)
def test_directions_meet_as_rfc_3264_6_1_has_it(
    theirs: str, ours: str, answered: str, sending: bool, receiving: bool
) -> None:
    local = Local("192.0.2.1", 20000, 1, direction=Direction(ours))
    raw, remote = sdp.answer(with_lines(f"a={theirs}"), local)
    assert f"a={answered}\r\n".encode() in raw
    assert (remote.sending, remote.receiving) == (sending, receiving)


def test_a_direction_of_the_whole_session_holds_where_the_stream_says_nothing() -> None:
    raw = offered().replace(b"t=0 0\r\n", b"t=0 0\r\na=sendonly\r\n")
    assert not sdp.answer(raw, LOCAL)[1].sending


def test_hold_by_the_zero_address_is_hold() -> None:
    _, remote = sdp.answer(with_lines(host="0.0.0.0"), LOCAL)
    assert (remote.sending, remote.receiving, remote.held) == (False, True, True)


def test_the_streams_own_address_goes_before_the_sessions() -> None:
    assert sdp.answer(with_lines("c=IN IP4 198.51.100.7"), LOCAL)[1].host == "198.51.100.7"


@pytest.mark.parametrize(
    ("raw", "status", "why"),
    [
        (b"", 400, "empty"),
        (b"v=1\r\n", 400, "v=0"),
        (b"v=0\r\ns=-\r\n", 400, "o="),
        (b"v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\n", 400, "m="),
        (b"v=0\r\no=- x 1 IN IP4 1.2.3.4\r\n", 400, "o="),
        (b"v=0\r\nnonsense\r\n", 400, "type=value"),
        (b"v=0\r\n\0", 400, "NUL"),
        (b"v=0\r\n" + b"a=x\r\n" * 700, 400, "lines"),
        (b"v=0\r\na=" + b"x" * 20000, 400, "large"),
        (with_lines(port=70000), 400, "port"),
        (with_lines(*["m=audio 1 RTP/AVP 0"] * 20), 400, "streams"),
        (with_lines(formats=" ".join(["0"] * 100)), 400, "formats"),
        (with_lines(host="1.2.3.4 5"), 400, "c="),
        (with_lines().replace(b"c=IN IP4 192.0.2.9\r\n", b""), 400, "c="),
        (with_lines(formats="9 18"), 488, "codec"),
        (with_lines("a=rtpmap:0 L16/8000", formats="0"), 488, "codec"),
        (with_lines(port=0), 488, "audio"),
        (with_lines(host="224.0.0.1"), 488, "one host"),
        (with_lines(host="phone.example"), 488, "IPv4"),
        (with_lines().replace(b"RTP/AVP", b"RTP/SAVP"), 488, "profile"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(raw: bytes, status: int, why: str) -> None:
    with pytest.raises(RemoteError, match=why) as refused:
        sdp.answer(raw, LOCAL)
    assert refused.value.status == status


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 600), st.integers(0, 40))
def test_rubbish_is_refused_and_never_more_than_that(rubbish: bytes, at: int, cut: int) -> None:
    whole = offered()
    for raw in (rubbish, whole[:at] + rubbish + whole[at + cut :]):
        try:
            answer, _ = sdp.answer(raw, LOCAL)
        except RemoteError:
            continue
        sdp.parse(answer)
