"""Calls between stacks in virtual time: who hears what, and what goes over the wire."""

from __future__ import annotations

from typing import Any

import pytest

from softphone_bridge.attestation import attested
from softphone_bridge.events import Cause
from softphone_bridge.signals import (
    Acked,
    Answered,
    Credentials,
    Ended,
    Flow,
    InfoDigit,
    Invited,
    ReofferAnswered,
    Reoffered,
    ReofferRefused,
    Ringing,
    StackEvent,
    Target,
    TrunkRules,
)
from tests.softphone_bridge.world import SDP, SDP_2, Node, World

A, B = "10.0.0.1", "10.0.0.2"
CARRIER = Flow("udp", "10.0.0.9", 5060)


def pair(seed: int = 1, **network: float) -> tuple[World, Node, Node]:
    world = World(seed, **network)
    return world, world.node(A), world.node(B)


def dial(caller: Node, to: str = B, leg: str = "leg", **more: Any) -> None:
    caller.stack.place(
        leg, [Target(f"sip:1000@{to}:5060")], from_user="0612", sdp=SDP, now=caller.now, **more
    )
    caller.settle()


def up(seed: int = 1) -> tuple[World, Node, Node, str]:
    """Two stacks in a call; the name of the leg at B."""
    world, a, b = pair(seed)
    dial(a)
    world.run(0.1)
    leg = b.last_invited().leg
    b.stack.answer(leg, SDP, now=b.now)
    world.run(0.1)
    assert a.of(Answered)
    assert b.of(Acked)
    return world, a, b, leg


def ended(node: Node) -> Ended:
    found = [e for e in node.told if isinstance(e, Ended)]
    assert len(found) == 1, found
    return found[0]


def invite(
    call: str = "c1", *, extra: str = "", cseq: int = 1, branch: str = "b1", body: bytes = SDP
) -> bytes:
    return (
        f"INVITE sip:1000@{B} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK{branch}\r\n"
        f"From: Zoé <sip:0612@10.0.0.9>;tag=f\r\nTo: <sip:1000@{B}>\r\nCall-ID: {call}\r\nCSeq: {cseq} INVITE\r\n"
        f"Contact: <sip:0612@10.0.0.9:5060>\r\n{extra}Content-Type: application/sdp\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def replies(world: World) -> list[int]:
    """Statuses that went to the carrier."""
    return [int(d[8:11]) for _, to, d in world.wire if to == "10.0.0.9" and d.startswith(b"SIP/2.0")]


def test_a_call_is_offered_rung_answered_acknowledged_and_hung_up() -> None:
    world, a, b = pair()
    dial(a)
    world.run(0.1)
    offered = b.last_invited()
    assert (offered.dialled, offered.caller, offered.sdp, offered.source.name) == (
        "1000",
        "0612",
        SDP,
        "carrier",
    )
    b.stack.ring(offered.leg, now=b.now)
    world.run(0.1)
    assert a.of(Ringing) == [Ringing("leg", 180, b"")]
    assert b.stack.answer(offered.leg, SDP_2, now=b.now)
    world.run(0.1)
    assert a.of(Answered) == [Answered("leg", SDP_2, f"sip:1000@{B}:5060")]
    a.stack.end("leg", now=a.now)
    world.run(0.1)
    assert ended(a).cause is Cause.LOCAL
    assert ended(b).cause is Cause.HANGUP
    world.run(80)
    assert a.stack.sizes() == b.stack.sizes() | {"sources": 0}
    assert set(a.stack.sizes().values()) == {0}


def test_the_called_side_hangs_up() -> None:
    world, a, b, leg = up()
    b.stack.end(leg, now=b.now)
    world.run(0.1)
    assert ended(a).cause is Cause.HANGUP


def test_a_caller_who_gives_up_sends_cancel_in_the_same_step() -> None:
    world, a, b = pair()
    dial(a)
    world.run(0.1)
    b.stack.ring(b.last_invited().leg, now=b.now)
    world.run(0.1)
    a.stack.end("leg", now=a.now)
    assert any(data.startswith(b"CANCEL") for _, data in a.stack.to_send()[-1:]) or world.sent(b"CANCEL", A)


def test_cancel_ends_the_ringing_leg_with_487() -> None:
    world, a, b = pair()
    dial(a)
    world.run(0.1)
    a.stack.end("leg", now=a.now)
    world.run(1)
    assert ended(b).cause is Cause.CANCELLED
    assert world.sent(b"SIP/2.0 487", B)
    world.run(80)
    assert b.stack.sizes()["server_transactions"] == 0


def test_a_refusal_names_its_status() -> None:
    world, a, b = pair()
    dial(a)
    world.run(0.1)
    b.stack.reject(b.last_invited().leg, 486, now=b.now)
    world.run(1)
    assert (ended(a).cause, ended(a).status) == (Cause.REJECTED, 486)


def test_nobody_there_is_no_answer_after_32_seconds() -> None:
    world = World()
    a = world.node(A)
    dial(a)
    world.run(31)
    assert not a.of(Ended)
    world.run(2)
    assert (ended(a).cause, ended(a).status) == (Cause.NO_ANSWER, 408)


def test_ringing_too_long_is_no_answer_and_the_phone_is_cancelled() -> None:
    world, a, b = pair()
    dial(a, ring_s=10.0)
    world.run(11)
    assert ended(a).cause is Cause.NO_ANSWER
    assert ended(b).cause is Cause.CANCELLED


def test_a_phone_that_ignores_cancel_is_let_go_and_its_late_200_gets_ack_and_bye() -> None:
    world, a, b = pair()
    dial(a)
    world.run(0.1)
    world.drop = lambda sender, to, data: data.startswith(b"CANCEL")
    a.stack.end("leg", now=a.now)
    world.run(20)
    b.stack.answer(b.last_invited().leg, SDP, now=b.now)
    world.run(1)
    assert world.sent(b"ACK", A)
    assert world.sent(b"BYE", A)
    assert ended(b).cause is Cause.HANGUP
    world.run(80)
    assert set(a.stack.sizes().values()) == {0}


def test_the_first_of_two_phones_wins_and_the_other_is_told_so() -> None:
    world, a, b = pair()
    c = world.node("10.0.0.3")
    a.stack.place("leg", [Target(f"sip:x@{B}"), Target("sip:x@10.0.0.3")], from_user="1", sdp=SDP, now=a.now)
    world.run(0.1)
    c.stack.answer(c.last_invited().leg, SDP_2, now=c.now)
    world.run(1)
    assert a.of(Answered) == [Answered("leg", SDP_2, "sip:x@10.0.0.3")]
    assert ended(b).cause is Cause.CANCELLED
    assert b"cause=200" in world.sent(b"CANCEL", A)[0]


def test_two_phones_answering_at_once_leave_one_call() -> None:
    world, a, b = pair()
    c = world.node("10.0.0.3")
    a.stack.place("leg", [Target(f"sip:x@{B}"), Target("sip:x@10.0.0.3")], from_user="1", sdp=SDP, now=a.now)
    world.run(0.1)
    for node in (b, c):
        node.stack.answer(node.last_invited().leg, SDP, now=node.now)
    world.run(2)
    assert len(a.of(Answered)) == 1
    assert [len(n.of(Ended)) for n in (b, c)].count(1) == 1
    assert len(world.sent(b"BYE", A)) == 1


@pytest.mark.parametrize(
    ("answers", "status"), [((486, 404), 404), ((480, 603), 603), ((503, 486), 486), ((401, 486), 486)]
)
def test_when_all_phones_refuse_the_best_refusal_counts(answers: tuple[int, int], status: int) -> None:
    world, a, b = pair()
    c = world.node("10.0.0.3")
    a.stack.place("leg", [Target(f"sip:x@{B}"), Target("sip:x@10.0.0.3")], from_user="1", sdp=SDP, now=a.now)
    world.run(0.1)
    for node, answer in zip((b, c), answers, strict=True):
        node.stack.reject(node.last_invited().leg, answer, now=node.now)
        world.run(0.1)
    assert ended(a).status == status


def test_a_200_that_is_never_acknowledged_ends_the_call_after_32_seconds() -> None:
    world, a, b = pair()
    dial(a)
    world.run(0.1)
    world.drop = lambda sender, to, data: data.startswith(b"ACK")
    b.stack.answer(b.last_invited().leg, SDP, now=b.now)
    world.run(31)
    assert not b.of(Ended)
    world.run(4)
    assert ended(b).cause is Cause.NO_ACK
    assert ended(a).cause is Cause.HANGUP


def test_a_leg_ended_before_its_ack_says_bye_only_after_it() -> None:
    world, a, b = pair()
    dial(a)
    world.run(0.1)
    leg = b.last_invited().leg
    b.stack.answer(leg, SDP, now=b.now)
    b.stack.end(leg, now=b.now)
    b.settle()
    assert not world.sent(b"BYE", B)
    world.run(1)
    assert world.sent(b"BYE", B)
    assert ended(a).cause is Cause.HANGUP


def test_hold_and_resume_are_answered_and_a_same_sdp_is_answered_by_the_stack() -> None:
    world, a, b, leg = up()
    a.stack.reoffer("leg", SDP_2, now=a.now)
    world.run(0.1)
    assert b.of(Reoffered) == [Reoffered(leg, SDP_2)]
    b.stack.answer_reoffer(leg, SDP_2, now=b.now)
    world.run(0.1)
    assert a.of(ReofferAnswered) == [ReofferAnswered("leg", SDP_2)]
    a.stack.reoffer("leg", SDP_2, now=a.now)
    world.run(0.1)
    assert len(a.of(ReofferAnswered)) == 2
    assert len(b.of(Reoffered)) == 1


def test_a_refused_reoffer_leaves_the_call_up() -> None:
    world, a, b, leg = up()
    a.stack.reoffer("leg", SDP_2, now=a.now)
    world.run(0.1)
    b.stack.refuse_reoffer(leg, 488, now=b.now)
    world.run(1)
    assert a.of(ReofferRefused) == [ReofferRefused("leg", 488)]
    assert not a.of(Ended)


def test_two_reoffers_that_cross_both_get_through_in_the_end() -> None:
    world, a, b, leg = up()

    def agree(node: Node) -> None:
        def hear(event: StackEvent) -> None:
            if isinstance(event, Reoffered):
                node.stack.answer_reoffer(event.leg, SDP_2, now=node.now)

        node.hear = hear

    agree(a)
    agree(b)
    a.stack.reoffer("leg", SDP_2, now=a.now)
    b.stack.reoffer(leg, SDP_2.replace(b"20002", b"20004"), now=b.now)
    world.run(10)
    assert a.of(ReofferAnswered)
    assert b.of(ReofferAnswered)
    assert world.sent(b"SIP/2.0 491")


def test_a_vanished_phone_is_noticed_at_the_session_timer() -> None:
    world, a, _b, _ = up()
    del world.nodes[B]
    world.run(900 + 40)
    assert (ended(a).cause, ended(a).status) == (Cause.EXPIRED, 408)


def test_a_session_is_refreshed_and_lives() -> None:
    world, a, b, _ = up()
    world.run(7200)
    assert not a.of(Ended)
    assert not b.of(Ended)
    assert len(world.sent(b"UPDATE")) >= 7


def test_a_session_interval_below_our_least_gets_422() -> None:
    world = World()
    b = world.node(B)
    world.inject(B, invite(extra="Supported: timer\r\nSession-Expires: 60\r\n"), CARRIER)
    assert replies(world) == [422]
    assert not b.of(Invited)


def test_info_brings_a_digit() -> None:
    world, _a, b, leg = up()
    ok = next(d for d in world.sent(b"SIP/2.0 200", B))
    head = {k: v for k, _, v in (line.partition(": ") for line in ok.decode().split("\r\n")[1:] if line)}
    body = b"Signal=9\r\nDuration=100\r\n"
    world.inject(
        B,
        (
            f"INFO sip:monofil@{B}:5060 SIP/2.0\r\nVia: SIP/2.0/UDP {A}:5060;branch=z9hG4bKinfo\r\n"
            f"From: {head['From']}\r\nTo: {head['To']}\r\nCall-ID: {head['Call-ID']}\r\nCSeq: 77 INFO\r\n"
            f"Content-Type: application/dtmf-relay\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        + body,
        Flow("udp", A, 5060),
    )
    assert b.of(InfoDigit) == [InfoDigit(leg, "9", 100)]


def test_a_request_inside_a_dialog_with_an_old_cseq_gets_500_and_one_without_dialog_481() -> None:
    world, _a, b, _ = up()
    ok = next(d for d in world.sent(b"SIP/2.0 200", B)).decode()
    head = {k: v for k, _, v in (line.partition(": ") for line in ok.split("\r\n")[1:] if line)}
    for cseq, call, branch, status in ((0, head["Call-ID"], "x1", 500), (9, "other", "x2", 481)):
        world.inject(
            B,
            (
                f"OPTIONS sip:{B} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK{branch}\r\n"
                f"From: {head['From']}\r\nTo: {head['To']}\r\nCall-ID: {call}\r\nCSeq: {cseq} OPTIONS\r\n"
                "Content-Length: 0\r\n\r\n"
            ).encode(),
            CARRIER,
        )
        assert replies(world)[-1] == status
    assert b.stack.counters["cseq_abuse"] == 1


def test_a_copy_of_an_invite_never_makes_a_second_call() -> None:
    world = World()
    b = world.node(B)
    world.inject(B, invite(), CARRIER)
    world.inject(B, invite(), CARRIER)
    world.inject(B, invite(branch="other"), CARRIER)
    assert len(b.of(Invited)) == 1
    assert replies(world) == [100, 100, 482]
    b.stack.reject(b.last_invited().leg, 486, now=b.now)
    world.run(50)
    world.inject(B, invite(), CARRIER)
    assert len(b.of(Invited)) == 1


@pytest.mark.parametrize(
    ("source", "number", "status"),
    [
        ("10.0.0.9", "1000", 100),
        ("10.0.0.9", "2000", 404),
        ("192.0.2.1", "1000", 403),
        ("192.0.2.1", "2000", 403),
    ],
)
def test_only_a_trunk_calls_and_only_known_numbers(source: str, number: str, status: int) -> None:
    world = World()
    b = world.node(B, numbers=("1000",))
    message = invite().replace(b"sip:1000@", f"sip:{number}@".encode())
    b.stack.receive(message, Flow("udp", source, 5060), world.now)
    assert int(b.stack.to_send()[0][1][8:11]) == status


SMUGGLED = [
    "P-Asserted-Identity",
    "p-asserted-identity",
    "P-ASSERTED-IDENTITY",
    "P-Asserted-Identity\t",
    "P-asserted-Identity",
    "",
]


def test_what_the_carrier_knows_of_the_number_is_kept_and_the_number_stays_a_number() -> None:
    world = World()
    b = world.node(B, trunks=(TrunkRules("carrier", ("10.0.0.9",)),))
    asserted = "<sip:+33612345678;verstat=TN-Validation-Passed@carrier.example;user=phone>"
    world.inject(B, invite(extra=f"P-Asserted-Identity: {asserted}\r\nAttestation-Info: A\r\n"), CARRIER)
    world.run(0.1)
    offered = b.last_invited()
    assert offered.caller == "+33612345678"
    assert attested(offered.headers) == "A"


@pytest.mark.parametrize("name", [*SMUGGLED[:4], "P-Asserted-Identity  ", "P-Asserted-Identity\r\n "])
def test_an_assertion_is_believed_from_a_trunk_in_every_spelling_and_never_carried_from_a_phone(
    name: str,
) -> None:
    world = World()
    b = world.node(B, users=("lea",))
    world.inject(B, invite(extra=f'{name}: "Boss" <sip:+33199@x>\r\nX-Secret: 1\r\n'), CARRIER)
    heard = b.last_invited()
    assert (heard.caller, heard.caller_name) == ("+33199", "Boss")
    assert heard.headers["x-secret"] == "1"
    world2 = World()
    phone = world2.node(A)
    server = world2.node(B, users=("lea",), trunks=())
    phone.stack.place(
        "leg",
        [Target(f"sip:1000@{B}")],
        from_user="lea",
        sdp=SDP,
        headers={name.replace("\r\n", "").strip(): '"Boss" <sip:+33199@x>', "X-Secret": "1"},
        credentials=Credentials("monofil", "lea", "secret-of-lea"),
        now=phone.now,
    )
    world2.drop = None
    server.stack._names.add(A)  # the phone's From names its own host here
    world2.run(1)
    assert server.last_invited().caller == "lea"
    assert server.last_invited().source.kind == "phone"
    assert set(server.last_invited().headers) == {"user-agent"}


def test_control_characters_never_reach_the_name() -> None:
    world = World()
    b = world.node(B)
    world.inject(B, invite().replace("Zoé".encode(), b'"a\x00b\x1b[31m\x7f"'), CARRIER)
    assert b.last_invited().caller_name == "ab[31m"


def test_under_pressure_new_calls_get_503_and_running_ones_go_on() -> None:
    world, a, b, leg = up()
    for _ in range(50):
        b.stack.set_pressure(5.0)
    world.inject(B, invite("c9"), CARRIER)
    assert replies(world) == [503]
    assert b"Retry-After: 2" in world.wire[-1][2]
    a.stack.end("leg", now=a.now)
    world.run(0.1)
    assert [e.leg for e in b.told if isinstance(e, Ended)] == [leg]
    for _ in range(50):
        b.stack.set_pressure(0.0)
    world.inject(B, invite("c10"), CARRIER)
    assert replies(world) == [503, 100]


def test_when_stopping_new_calls_get_503() -> None:
    world = World()
    b = world.node(B)
    b.stack.stopping = True
    world.inject(B, invite(), CARRIER)
    assert replies(world) == [503]


def test_a_flood_from_one_address_is_refused_then_dropped_in_bounded_memory() -> None:
    world = World()
    b = world.node(B, trunks=(TrunkRules("carrier", ("10.0.0.9",)),))
    out = 0
    for i in range(5000):
        b.stack.receive(invite(f"c{i}", branch=f"b{i}"), Flow("udp", "192.0.2.66", 5060), world.now)
        out += len(b.stack.to_send())
    assert out < 300
    assert b.stack.sizes()["server_transactions"] == 0
    world.inject(B, invite(), CARRIER)
    assert b.of(Invited)


def test_sixty_sources_too_many_are_forgotten_oldest_first() -> None:
    world = World()
    b = world.node(B, trunks=())
    for i in range(12_000):
        source = Flow("udp", f"192.{i >> 16}.{i >> 8 & 255}.{i & 255}", 5060)
        b.stack.receive(invite(f"c{i}", branch=f"b{i}"), source, world.now)
        b.stack.to_send()
    assert b.stack.sizes()["sources"] <= 10_000


def test_hops_loops_and_huge_vias_are_refused() -> None:
    world = World()
    world.node(B)
    world.inject(B, invite(extra="Max-Forwards: 0\r\n"), CARRIER)
    vias = "".join(f"Via: SIP/2.0/UDP 10.1.1.{i};branch=z9hG4bKv{i}\r\n" for i in range(80))
    world.inject(B, invite(extra=vias), CARRIER)
    world.inject(B, invite(extra="X-A: 1\r\n" * 101), CARRIER)
    assert replies(world) == [483, 483, 400]


def test_an_unanswered_call_without_sdp_takes_our_offer_and_brings_the_answer_with_the_ack() -> None:
    world, a, b = pair()
    a.stack.place("leg", [Target(f"sip:1@{B}")], from_user="1", sdp=b"", now=a.now)
    world.run(0.1)
    offered = b.last_invited()
    assert offered.sdp == b""
    b.stack.answer(offered.leg, SDP, now=b.now)
    world.run(0.1)
    assert a.of(Answered) == [Answered("leg", SDP, f"sip:1@{B}")]
    assert b.of(Acked) == [Acked(offered.leg, b"")]


def test_a_foreign_challenge_gets_no_credentials_and_a_bye_is_never_proven() -> None:
    world = World()
    a = world.node(A)
    world.node(B, users=("lea",), trunks=(), realm="elsewhere")
    world.nodes[B].stack._names.add(A)
    a.stack.place(
        "leg",
        [Target(f"sip:1000@{B}")],
        from_user="lea",
        sdp=SDP,
        credentials=Credentials("monofil", "lea", "secret-of-lea"),
        now=a.now,
    )
    world.run(1)
    assert ended(a).status == 401
    assert not any(b"Authorization:" in d for d in world.sent(b"INVITE"))
