"""Every pair of state and input is decided or listed as ignored with its reason."""

from __future__ import annotations

import itertools

import pytest

from softphone_bridge.message import LocalError, Message
from softphone_bridge.parser import split
from softphone_bridge.signals import Flow
from softphone_bridge.timers import Wheel
from softphone_bridge.transaction import (
    CLIENT_INPUTS,
    INVITE_SERVER_INPUTS,
    KIND_CLIENT,
    KIND_INVITE_CLIENT,
    KIND_INVITE_SERVER,
    KIND_SERVER,
    SERVER_INPUTS,
    A,
    I,
    Kind,
    S,
    Transaction,
    Transactions,
)

INPUTS = {
    KIND_INVITE_SERVER.name: INVITE_SERVER_INPUTS,
    KIND_SERVER.name: SERVER_INPUTS,
    KIND_INVITE_CLIENT.name: CLIENT_INPUTS,
    KIND_CLIENT.name: CLIENT_INPUTS,
}
KINDS = (KIND_INVITE_SERVER, KIND_SERVER, KIND_INVITE_CLIENT, KIND_CLIENT)
REQUEST = split(
    b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)
UDP = Flow("udp", "10.0.0.1", 5060)
TCP = Flow("tcp", "10.0.0.1", 5060, 1)


class Ear:
    def __init__(self) -> None:
        self.heard: list[Message | None] = []

    def answered(self, transaction: Transaction, response: Message | None, now: float) -> None:
        self.heard.append(response)


def layer() -> Transactions:
    return Transactions(Wheel(), [], t1_s=0.5, t2_s=4.0, t4_s=5.0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_state_and_message_is_decided_or_ignored_with_a_reason(kind: Kind) -> None:
    states = {state for state, _ in kind.table} | {kind.first}
    for state, what in itertools.product(states, INPUTS[kind.name]):
        decided = (state, what) in kind.table
        reason = kind.ignored.get((state, what), "")
        assert decided != bool(reason), f"{kind.name}: {what.name} in {state.name}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_state_is_reached_and_every_path_ends(kind: Kind) -> None:
    reached, edges = {kind.first}, [(a, b) for (a, _), (b, _) in kind.table.items()]
    while more := {b for a, b in edges if a in reached} - reached:
        reached |= more
    assert {state for state, _ in kind.table} <= reached
    ending = {S.TERMINATED}
    while more := {a for a, b in edges if b in ending} - ending:
        ending |= more
    assert reached <= ending


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
def test_no_pair_raises_and_each_goes_where_its_row_says(kind: Kind, flow: Flow) -> None:
    for (state, what), (after, actions) in kind.table.items():
        held = layer()
        transaction = Transaction(held, kind, ("k",), flow, REQUEST)
        transaction.state = state
        assert held.step(transaction, what, 1.0, b"SIP/2.0 200 OK\r\n\r\n", REQUEST)
        instant = A.LINGER in actions and flow.transport == "tcp"
        assert transaction.state is (S.TERMINATED if instant else after)
    for state, what in kind.ignored:
        held = layer()
        transaction = Transaction(held, kind, ("k",), flow, REQUEST)
        transaction.state = state
        assert not held.step(transaction, what, 1.0, b"x", REQUEST)
        assert transaction.state is state
        assert held.out == []


def test_a_pair_in_no_table_is_our_own_mistake() -> None:
    held = layer()
    transaction = Transaction(held, KIND_SERVER, ("k",), UDP, REQUEST)
    with pytest.raises(LocalError):
        held.step(transaction, I.RECEIVE_2XX, 1.0)


def resends(method: str, flow: Flow, until: float) -> tuple[list[float], Ear, Transactions]:
    held, ear = layer(), Ear()
    held.ask(method, "z9hG4bKb", flow, b"data", ear, 0.0)
    times = [0.0]
    held.out.clear()
    while (at := held.wheel.deadline()) is not None and at <= until:
        held.wheel.turn(at)
        times += [round(at, 1)] * len(held.out)
        held.out.clear()
    return times, ear, held


def test_an_invite_is_resent_at_doubling_intervals_and_given_up_after_64_t1() -> None:
    times, ear, held = resends("INVITE", UDP, 60.0)
    assert times == pytest.approx([0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5], abs=0.15)
    assert ear.heard == [None]
    assert held.clients == {}
    assert len(held.wheel) == 0


def test_another_request_is_resent_at_most_every_t2() -> None:
    times, ear, _ = resends("OPTIONS", UDP, 60.0)
    assert times == pytest.approx([0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5], abs=0.15)
    assert ear.heard == [None]


def test_over_a_stream_nothing_is_resent() -> None:
    times, ear, _ = resends("INVITE", TCP, 60.0)
    assert times == [0.0]
    assert ear.heard == [None]


def test_a_refusal_of_an_invite_is_resent_until_its_ack_and_then_forgotten() -> None:
    held = layer()
    transaction = held.serve(("k",), UDP, REQUEST)
    transaction.kind = KIND_INVITE_SERVER
    transaction.state = S.PROCEEDING
    held.step(transaction, I.SEND_3TO6, 0.0, b"486")
    held.wheel.turn(0.6)
    assert len(held.out) == 2
    held.step(transaction, I.ACK, 0.7)
    held.wheel.turn(4.0)
    assert len(held.out) == 2
    held.wheel.turn(6.0)
    assert held.servers == {}
    assert transaction.owner is None
