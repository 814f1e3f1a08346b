"""One bad message each: the answer it deserves, over UDP and over TCP, and the next OPTIONS is answered."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from softphone_bridge.aio.endpoint import Endpoint
from softphone_bridge.framing import Framer
from softphone_bridge.message import RemoteError
from softphone_bridge.parser import check, split
from softphone_bridge.signals import StackSettings
from tests.softphone_bridge.world import SDP, Book

PING = (
    b"OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKping%d\r\nFrom: <sip:t@t>;tag=t\r\n"
    b"To: <sip:x@127.0.0.1>\r\nCall-ID: ping%d\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


def message(
    start: str = "OPTIONS sip:desk@example.net SIP/2.0", body: bytes = b"", **change: str | None
) -> bytes:
    """A sound request with some headers changed; None leaves one out, `more` adds lines as they are."""
    method = start.split(" ")[0] or "OPTIONS"
    fields: dict[str, str | None] = {
        "Via": "SIP/2.0/UDP 198.51.100.4;branch=z9hG4bKq",
        "From": "<sip:eve@example.net>;tag=e",
        "To": "<sip:desk@example.net>",
        "Call-ID": "own.1@example.net",
        "CSeq": f"7 {method}",
        "Max-Forwards": "70",
        "Contact": "<sip:eve@198.51.100.4>",
    }
    more = change.pop("more", None) or ""
    fields |= {name.replace("_", "-"): value for name, value in change.items()}
    fields.setdefault("Content-Length", str(len(body)))
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([start, *lines]).encode() + b"\r\n" + more.encode() + b"\r\n" + body


INVITE = "INVITE sip:desk@example.net SIP/2.0"
CASES: dict[
    str, tuple[bytes, object, object]
] = {  # message, outcome over UDP, outcome over TCP (... = the same)
    "well formed": (message(), 200, ...),
    "compact names and odd case": (message().replace(b"Via:", b"v :").replace(b"From:", b"F:"), 200, ...),
    "folded header": (message(Subject="one\r\n two"), 200, ...),
    "unknown header with punctuation": (message(X_Odd=";;,,;;"), 200, ...),
    "unknown method": (message("LAUGH sip:desk@example.net SIP/2.0"), 501, ...),
    "known method not served": (message("REFER sip:desk@example.net SIP/2.0"), 405, ...),
    "unknown event": (message("SUBSCRIBE sip:desk@example.net SIP/2.0", Event="no"), 489, ...),
    "stranger's invite": (message(INVITE, SDP, Content_Type="application/sdp"), 403, ...),
    "double space in the first line": (message().replace(b" sip:", b"  sip:", 1), 400, ...),
    "space after the version": (message("OPTIONS sip:desk@example.net SIP/2.0 "), 400, ...),
    "brackets round the URI": (message("OPTIONS <sip:desk@example.net> SIP/2.0"), 400, ...),
    "headers in the URI": (message("OPTIONS sip:desk@example.net?Route=x SIP/2.0"), 400, ...),
    "another version": (message("OPTIONS sip:desk@example.net SIP/3.0"), 505, ...),
    "another scheme": (message("OPTIONS mailto:desk@example.net SIP/2.0"), 416, ...),
    "required extension": (message(Require="magic, timer"), 420, ...),
    "method mismatch": (message(CSeq="7 INVITE"), 400, ...),
    "sequence beyond 32 bits": (message(CSeq="4294967296 OPTIONS"), 400, ...),
    "sequence no number": (message(CSeq="x OPTIONS"), 400, ...),
    "no sequence": (message(CSeq=None), 400, ...),
    "no call id": (message(Call_ID=None), 400, ...),
    "two tos": (message(more="To: <sip:b@example.net>\r\n"), 400, ...),
    "no from": (message(From=None), 400, ...),
    "quote never closed": (message(To='"Desk <sip:desk@example.net>'), 400, ...),
    "comma in a bare name": (message(From="Eve, Ms <sip:eve@example.net>;tag=e"), 400, ...),
    "spaces inside brackets": (message(To="< sip:desk@example.net >"), 400, ...),
    "bad via parameters": (message(Via="SIP/2.0/UDP 198.51.100.4;;,;"), 400, ...),
    "branch of nothing but the cookie": (message(Via="SIP/2.0/UDP 198.51.100.4;branch=z9hG4bK"), 400, ...),
    "no via": (message(Via=None), None, ...),
    "negative length": (message(Content_Length="-5"), 400, (400, "closed")),
    "length in words": (message(Content_Length="five"), 400, (400, "closed")),
    "two lengths": (message(more="Content-Length: 4\r\n"), 400, (400, "closed")),
    "no length": (message(Content_Length=None), 200, (None, "closed")),
    "body shorter than its length": (message(Content_Length="900"), 400, (None, "waits")),
    "no blank line": (
        message()[:-4],
        400,
        (400, "closed"),
    ),  # the next request's first line ends up in its length
    "bytes after the body": (message() + b"junk", 200, (200, "open")),
    "no hops left": (message(Max_Forwards="0"), 483, ...),
    "hops in words": (message(Max_Forwards="many"), 400, ...),
    "other body": (message(INVITE, b"<a/>", Content_Type="text/xml"), 415, ...),
    "other body in the answer wanted": (message(INVITE, Accept="text/plain"), 406, ...),
    "bare line feed hides a header": (message(Subject="a\nP-Asserted-Identity: <sip:b@c>"), 400, ...),
    "register of a foreign thing": (message("REGISTER sip:x SIP/2.0", To="<urn:a:b>"), 400, ...),
    "register with an unknown scheme": (message("REGISTER sip:x SIP/2.0", Authorization="Odd a=b"), 401, ...),
    "contact that needs brackets": (message("REGISTER sip:x SIP/2.0", Contact="sip:a@b?Route=x"), 400, ...),
    "request in a dialog we don't have": (message(To="<sip:desk@example.net>;tag=gone"), 481, ...),
    "bye without a dialog": (message("BYE sip:desk@example.net SIP/2.0"), 481, ...),
    "cancel of nothing": (message("CANCEL sip:desk@example.net SIP/2.0"), 481, ...),
    "ack of nothing": (message("ACK sip:desk@example.net SIP/2.0"), None, ...),
    "stray response": (message("SIP/2.0 200 OK", CSeq="7 INVITE"), None, ...),
    "four digits of status": (message("SIP/2.0 2000 OK", CSeq="7 INVITE"), None, ...),
    "not sip": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None, (None, "closed")),
    "nothing but noise": (bytes(range(256)) * 3, None, (None, "waits")),
    "old branch": (message(Via="SIP/2.0/UDP 198.51.100.4"), 200, ...),
}


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    settings = StackSettings(host="127.0.0.1", port=0, source_burst=1e9)
    held = Endpoint(
        settings, bind="127.0.0.1", hear=lambda event: None, accounts=Book("lea"), knows=lambda number: False
    )
    await held.start()
    yield held
    assert held.counters.get("bug", 0) == 0
    await held.stop()


class Ear(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.gone = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, address: object) -> None:
        self.heard.put_nowait(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set_result(None)


def status(data: bytes) -> int:
    return int(data[8:11])


async def udp_outcomes(port: int, messages: list[bytes]) -> list[int | None]:
    """The final status each message gets, None for silence: the OPTIONS sent after it is answered first or next."""
    loop = asyncio.get_running_loop()
    transport, ear = await loop.create_datagram_endpoint(Ear, remote_addr=("127.0.0.1", port))
    out: list[int | None] = []
    try:
        for number, data in enumerate(messages):
            transport.sendto(data)
            transport.sendto(PING % (number, number))
            got: int | None = None
            while True:
                answer = await asyncio.wait_for(ear.heard.get(), 5)
                if b"Call-ID: ping%d\r\n" % number in answer:
                    assert status(answer) == 200
                    break
                if status(answer) >= 200:
                    got = status(answer)
            out.append(got)
    finally:
        transport.close()
        await ear.gone
    return out


async def tcp_outcome(port: int, data: bytes) -> tuple[list[int], str]:
    """Statuses that a message gets on a connection of its own, and what became of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got: list[int] = []
    fate = "closed"
    try:
        writer.write(data + PING % (0, 0))
        rest = b""
        while True:
            try:
                piece = await asyncio.wait_for(reader.read(65536), 2.0)
            except TimeoutError:
                fate = "waits"
                break
            if not piece:
                break
            rest += piece
            while (end := rest.find(b"\r\n\r\n")) >= 0:
                if b"Call-ID: ping0\r\n" in rest[:end]:
                    return got, "open"
                if status(rest) >= 200:
                    got.append(status(rest))
                rest = rest[end + 4 :]
    finally:
        writer.close()
        await writer.wait_closed()
    return got, fate


async def test_each_bad_message_gets_its_answer_over_udp(endpoint: Endpoint) -> None:
    got = await udp_outcomes(endpoint.port, [data for data, _, _ in CASES.values()])
    assert dict(zip(CASES, got, strict=True)) == {name: want for name, (_, want, _) in CASES.items()}


async def test_each_bad_message_gets_its_answer_over_tcp(endpoint: Endpoint) -> None:
    wrong = {}
    results = await asyncio.gather(*(tcp_outcome(endpoint.port, data) for data, _, _ in CASES.values()))
    for (name, (_, udp, tcp)), (got, fate) in zip(CASES.items(), results, strict=True):
        want, end = (udp, "open") if tcp is ... else cast("tuple[object, str]", tcp)
        if got != ([] if want is None else [want]) or fate != end:
            wrong[name] = (got, fate)
    assert wrong == {}


def test_a_datagram_over_64_kilobytes_gets_513_and_is_not_read() -> None:
    with pytest.raises(RemoteError) as caught:
        split(message(more="X: " + "y" * 65_536 + "\r\n"))
    assert caught.value.status == 513


def test_what_is_parsed_is_written_back_with_its_unknown_headers() -> None:
    raw = message(body=b"hello", X_Odd=";;,,", x_lower="É", Subject="a\r\n b")
    held = split(raw)
    check(held)
    again = split(held.serialise())
    assert [f for f in again.fields if f[0] != "content-length"] == [
        f for f in held.fields if f[0] != "content-length"
    ]
    assert again.body == b"hello"
    assert again.get("x-odd") == ";;,,"


def with_field(name: str, value: str) -> bytes:
    change: dict[str, Any] = {name.replace("-", "_"): value}
    return message(**change)


def test_strings_made_to_stall_a_pattern_do_not() -> None:
    """No input takes over 20 ms (row 19); 60 kB of each nasty character repeated."""
    import time

    for piece in (
        ";",
        ",",
        '"',
        "\\",
        "<",
        ">",
        " ",
        "\t",
        "%",
        "a;",
        ";a=",
        '"a" ',
        "\r\n ",
        "=",
        ":",
        "@",
        "sip:",
    ):
        text = piece * (60_000 // len(piece))
        for name in ("To", "From", "Via", "Contact", "Route", "Require", "Authorization", "Content-Length"):
            data = with_field(name, f"<sip:a@b>{text}")
            for variant in (
                data,
                with_field(name, text),
                message(f"OPTIONS sip:{text} SIP/2.0"),
            ):
                begun = time.process_time()
                Framer().feed(variant)
                try:
                    check(split(variant))
                except RemoteError:
                    pass
                took = time.process_time() - begun
                assert took < 0.1, (name, piece, took)


TORTURE = os.environ.get("TORTURE_DIR", "")


def torture() -> list[tuple[dict[str, object], bytes]]:
    folder = Path(TORTURE)
    rows = json.loads((folder / "expectations.json").read_text())
    return [(row, (folder / "rfc4475" / f"{row['name']}.dat").read_bytes()) for row in rows]


def fits(row: dict[str, object], got: int | None, wish: str = "accepted") -> bool:
    wanted = row[wish] or []
    assert isinstance(wanted, list)
    if got is None:
        return "drop" in wanted
    refusal = got in (400, 500, 513)
    return got in wanted or (not refusal and bool({"wellformed", "lenient"} & set(wanted)))


async def torture_over_udp(port: int) -> None:
    rows = torture()
    assert len(rows) == 49
    got = await udp_outcomes(port, [data for _, data in rows])
    wrong = {row["name"]: one for (row, _), one in zip(rows, got, strict=True) if not fits(row, one)}
    assert wrong == {}
    liked = sum(
        fits(row, one, "preferred") if row["preferred"] else fits(row, one)
        for (row, _), one in zip(rows, got, strict=True)
    )
    print(f"preferred outcomes: {liked} of 49")
    assert liked >= 44


async def torture_over_tcp(port: int) -> None:
    rows = torture()
    wrong = {}
    results = await asyncio.gather(*(tcp_outcome(port, data) for _, data in rows))
    for (row, _), (got, fate) in zip(rows, results, strict=True):
        stream = str(row["stream"] or "")
        if "close" in stream:
            fine = fate in ("closed", "waits") and all(fits(row, one) for one in got)
        elif "two requests" in stream:
            fine = len(got) == 2 and fits(row, got[0])
        else:
            fine = fate == "open" and fits(row, got[0] if got else None)
        if not fine:
            wrong[row["name"]] = (got, fate)
    assert wrong == {}


needs_torture = pytest.mark.skipif(
    not TORTURE,
    reason="TORTURE_DIR names no folder with the messages of RFC 4475, which are not ours to give out",
)


@needs_torture
async def test_all_torture_messages_are_within_their_accepted_outcomes_over_udp(endpoint: Endpoint) -> None:
    await torture_over_udp(endpoint.port)


@needs_torture
async def test_all_torture_messages_are_within_their_accepted_outcomes_over_tcp(endpoint: Endpoint) -> None:
    await torture_over_tcp(endpoint.port)
