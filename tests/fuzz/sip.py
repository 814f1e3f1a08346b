"""Mutations of sound SIP messages thrown at a whole stack: nothing but answers and silence may come back.

The grammar is that of 7.5 of the fault list: overlong and odd strings, integer limits, broken UTF-8, separators
repeated or removed, line ends, NUL and folding anywhere, headers doubled or missing, lengths that lie. A run is told by
its seed: `python -m tests.fuzz.sip SEED SECONDS`.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass, field

from softphone_bridge.framing import Framer
from softphone_bridge.signals import Flow, Invited, Reoffered
from tests.softphone_bridge.world import SDP, World

SERVER = "10.0.0.2"
TOO_LONG_S = 0.020  # row 19
SDP_HEAD = "Content-Type: application/sdp\r\n"
SEEDS = [
    (
        f"INVITE sip:1000@{SERVER} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKa;rport\r\n"
        'From: "Zoé" <sip:0612@10.0.0.9>;tag=f\r\nTo: <sip:1000@10.0.0.2>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n'
        "Contact: <sip:0612@10.0.0.9:5060;transport=udp>\r\nMax-Forwards: 70\r\nSupported: timer, path\r\n"
        "Session-Expires: 1800;refresher=uac\r\nP-Asserted-Identity: <tel:+33199>\r\nRecord-Route: <sip:p;lr>\r\n"
        f"{SDP_HEAD}Content-Length: {len(SDP)}\r\n\r\n"
    ).encode()
    + SDP,
    (
        f"REGISTER sip:{SERVER} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKb\r\nFrom: <sip:lea@x>;tag=t\r\n"
        "To: <sip:lea@x>\r\nCall-ID: r\r\nCSeq: 1 REGISTER\r\nContact: <sip:lea@10.0.0.9>;expires=60;q=0.5, *\r\n"
        'Authorization: Digest username="lea",realm="monofil",nonce="0018c8a1b2c3d4e5f6",uri="sip:x",response="0",'
        'qop=auth,nc=00000001,cnonce="c",algorithm=MD5\r\nExpires: 300\r\nContent-Length: 0\r\n\r\n'
    ).encode(),
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKz\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:c@d>;tag=2\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
    b"INFO sip:monofil@10.0.0.2 SIP/2.0\r\nv: SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKi\r\nf: <sip:a@b>;tag=1\r\n"
    b"t: <sip:c@d>;tag=2\r\ni: c\r\nCSeq: 3 INFO\r\nc: application/dtmf-relay\r\nl: 22\r\n\r\nSignal=9\r\nDuration=100",
    b"CANCEL sip:1000@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKa;rport\r\n"
    b"From: <sip:0612@10.0.0.9>;tag=f\r\nTo: <sip:1000@10.0.0.2>\r\nCall-ID: c\r\nCSeq: 1 CANCEL\r\n\r\n",
]
NUMBERS = [
    b"-1",
    b"0",
    b"00000001",
    b"+5",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"9" * 25,
    b"1e3",
    b"0x10",
    b"\xd9\xa3",
]
STRINGS = [
    b"%s%n%x",
    b"\xc0\xaf",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\x00",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n ",
    b"\r\n\t",
    b"\r\n\r\n",
]
STRINGS += [
    b'"',
    b"\\",
    b"<",
    b">",
    b",",
    b";",
    b";;,;",
    b"=",
    b"@",
    b":",
    b"[::1]",
    b"[",
    b"]",
    b"sip:",
    b"tel:",
    b"*",
    b"%00",
    b"?",
]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to six mutations."""
    for _ in range(rng.randint(1, 6)):
        kind = rng.randrange(9)
        at = rng.randrange(len(data) + 1)
        if kind == 0:
            data = data[:at] + rng.choice(STRINGS) * rng.choice((1, 1, 2, 7)) + data[at:]
        elif kind == 1:
            data = data[:at] + data[at + rng.randint(1, 20) :]
        elif kind == 2:
            data = data[:at] + bytes(rng.randrange(256) for _ in range(rng.randint(1, 8))) + data[at + 1 :]
        elif kind == 3:
            lines = data.split(b"\r\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            data = b"\r\n".join(lines)
        elif kind == 4:
            lines = data.split(b"\r\n")
            del lines[rng.randrange(len(lines))]
            data = b"\r\n".join(lines) or b"x"
        elif kind == 5:
            digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
            if digits:
                start = rng.choice(digits)
                data = data[:start] + rng.choice(NUMBERS) + data[start + 1 :]
        elif kind == 6:
            length = rng.choice((10, 100, 1000, 10_000, 60_000))
            data = data[:at] + rng.choice((b"A", b";", b"a=", b"%41", b" ", b'"')) * length + data[at:]
        elif kind == 7:
            data = data.replace(
                rng.choice((b";", b":", b" ", b"<", b"\r\n", b"tag", b"SIP")), rng.choice(STRINGS), 2
            )
        else:
            data = data[:at]
        if not data:
            data = b"x"
    return data[:70_000]


@dataclass
class Report:
    seed: int
    messages: int = 0
    answers: int = 0
    slowest_s: float = 0.0
    calls: int = 0
    trouble: list[str] = field(default_factory=list)


def run(seed: int, seconds: float, most: int = 1_000_000) -> Report:
    """Mutate for so long. Exceptions leave this function as they are, after the message is printed."""
    rng = random.Random(seed)
    world = World(seed)
    node = world.node(SERVER, users=("lea",), source_burst=1e9, source_rate=1e9)
    report = Report(seed)
    end = time.monotonic() + seconds
    framer = Framer()
    while time.monotonic() < end and report.messages < most:
        data = mutate(rng.choice(SEEDS), rng)
        flow = Flow(rng.choice(("udp", "tcp")), rng.choice(("10.0.0.9", "192.0.2.1")), 5060, rng.randrange(2))
        begun = time.process_time()
        try:
            node.stack.receive(data, flow, world.now)
            for event in node.stack.events():
                if isinstance(event, Invited):
                    report.calls += 1
                    node.stack.ring(event.leg, now=world.now)
                    node.stack.answer(event.leg, SDP, now=world.now)
                elif isinstance(event, Reoffered):
                    node.stack.answer_reoffer(event.leg, SDP, now=world.now)
            for _, answer in node.stack.to_send():
                report.answers += 1
                if not answer.startswith((b"SIP/2.0 ", b"BYE ", b"\r\n")) and answer[:4] not in (
                    b"UPDA",
                    b"INVI",
                    b"ACK ",
                ):
                    report.trouble.append(repr(answer[:80]))
            framer.feed(data)
            if framer.broken:
                framer = Framer()
            world.now += rng.choice((0.0, 0.0, 0.01, 1.0))
            node.stack.tick(world.now)
        except Exception:
            print("seed", seed, "message", report.messages, repr(data[:2000]), file=sys.stderr)
            raise
        took = time.process_time() - begun
        report.slowest_s = max(report.slowest_s, took)
        report.messages += 1
    world.now += 10_000.0
    for _ in range(200):
        at = node.stack.deadline()
        if at is None:
            break
        node.stack.tick(max(at, world.now))
        node.stack.to_send()
        world.now += 100.0
    return report


if __name__ == "__main__":
    result = run(
        int(sys.argv[1]) if len(sys.argv) > 1 else 1, float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    )
    print(result)
