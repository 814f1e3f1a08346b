"""Phones that come and go, prove who they are, and whoever only guesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from softphone_bridge.events import ContactsChanged, GuessingNoticed, PhoneGone, PhoneRegistered
from softphone_bridge.message import Message
from softphone_bridge.parser import split
from softphone_bridge.signals import (
    Credentials,
    Ended,
    Enrolled,
    EnrolmentFailed,
    Flow,
    Invited,
    Registration,
    StackEvent,
    Target,
    TrunkRules,
)
from tests.softphone_bridge.world import SDP, Node, World

SERVER, PHONE = "10.0.0.2", "10.0.0.1"
HOME = Flow("udp", SERVER, 5060)


def house(**settings: Any) -> tuple[World, Node, Node]:
    world = World()
    server = world.node(SERVER, users=("lea", "bob"), trunks=(), **settings)
    return world, server, world.node(PHONE)


def enrol(phone: Node, user: str = "lea", password: str = "", expires_s: int = 300) -> None:
    phone.stack.enrol(
        user,
        HOME,
        domain=SERVER,
        credentials=Credentials("monofil", user, password or f"secret-of-{user}"),
        expires_s=expires_s,
        now=phone.now,
    )
    phone.settle()


def test_a_phone_registers_is_announced_and_reached_and_goes_when_it_leaves() -> None:
    world, server, phone = house()
    enrol(phone)
    world.run(1)
    assert phone.told == [Enrolled("lea", 300)]
    (came,) = server.of(PhoneRegistered)
    assert isinstance(came, PhoneRegistered)
    assert (came.account, came.contact, came.expires_s) == ("lea", f"sip:lea@{PHONE}:5060", 300)
    assert [t.uri for t in server.stack.targets("lea")] == [f"sip:lea@{PHONE}:5060"]
    phone.stack.leave("lea", now=phone.now)
    world.run(1)
    assert server.of(PhoneGone) == [PhoneGone("lea", f"sip:lea@{PHONE}:5060", "unregistered")]
    assert server.stack.targets("lea") == ()


def test_a_registration_is_refreshed_and_announced_once() -> None:
    world, server, phone = house()
    enrol(phone)
    world.run(3600)
    assert len(server.of(PhoneRegistered)) == 1
    assert server.of(PhoneGone) == []


def test_a_phone_that_falls_silent_expires() -> None:
    world, server, phone = house()
    enrol(phone)
    world.run(1)
    del world.nodes[PHONE]
    world.run(400)
    assert server.of(PhoneGone) == [PhoneGone("lea", f"sip:lea@{PHONE}:5060", "expired")]


def test_too_short_an_expiry_is_lengthened_after_423() -> None:
    world, _server, phone = house()
    enrol(phone, expires_s=20)
    world.run(1)
    assert world.sent(b"SIP/2.0 423")
    assert phone.told == [Enrolled("lea", 60)]


def test_a_wrong_password_and_an_unknown_account_get_the_same_face() -> None:
    faces = []
    for user, password in (("lea", "guess"), ("nobody", "guess")):
        world, _, phone = house()
        enrol(phone, user, password)
        world.run(3)
        assert phone.of(EnrolmentFailed)
        answers = [split(d) for d in world.sent(b"SIP/2.0", SERVER)]
        faces.append(
            [(a.status, [(k, len(v)) for k, _, v in a.fields if k == "www-authenticate"]) for a in answers]
        )
    assert faces[0] == faces[1]


def test_a_stale_nonce_is_renewed_without_a_failure() -> None:
    world, server, phone = house(nonce_life_s=10.0)
    enrol(phone)
    world.run(400)
    assert any(b"stale=true" in d for d in world.sent(b"SIP/2.0 401"))
    assert not phone.of(EnrolmentFailed)
    assert "wrong_password" not in server.stack.counters


def registers(world: World) -> bytes:
    """The REGISTER that was accepted."""
    return next(d for d in reversed(world.wire) if d[2].startswith(b"REGISTER") and b"Authorization" in d[2])[
        2
    ]


@pytest.mark.parametrize("source", [Flow("udp", PHONE, 5060), Flow("udp", "10.0.0.66", 5060)])
def test_a_replayed_register_gets_401_stale(source: Flow) -> None:
    world, server, phone = house()
    enrol(phone)
    world.run(1)
    replay = registers(world).replace(b"branch=z9hG4bK", b"branch=z9hG4bKreplay")
    server.stack.receive(replay, source, world.now)
    ((_, answer),) = server.stack.to_send()
    assert split(answer).status == 401
    assert b"stale=true" in answer
    assert len(server.of(PhoneRegistered)) == 1


def test_nobody_registers_for_somebody_else() -> None:
    world, server, phone = house()
    enrol(phone)
    world.run(1)
    real = registers(world)
    world.wire.clear()
    phone.stack.enrol(
        "bob", HOME, domain=SERVER, credentials=Credentials("monofil", "bob", "secret-of-bob"), now=phone.now
    )
    world.drop = lambda sender, to, data: data.startswith(b"REGISTER") and b"Authorization" in data
    world.run(0.1)
    taken = registers(world).replace(b"To: <sip:bob@", b"To: <sip:lea@")
    server.stack.receive(taken, Flow("udp", PHONE, 5060), world.now)
    ((_, answer),) = server.stack.to_send()
    assert split(answer).status == 403
    assert real


def register(user: str, *contacts: str, cseq: int = 1, expires: str = "300", call: str = "r1") -> Message:
    lines = "".join(f"Contact: {contact}\r\n" for contact in contacts)
    return split(
        (
            f"REGISTER sip:{SERVER} SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{cseq}\r\n"
            f"From: <sip:{user}@{SERVER}>;tag=t\r\nTo: <sip:{user}@{SERVER}>\r\nCall-ID: {call}\r\n"
            f"CSeq: {cseq} REGISTER\r\n{lines}Expires: {expires}\r\nContent-Length: 0\r\n\r\n"
        ).encode("utf-8", "surrogateescape")
    )


def test_contacts_add_up_replace_by_instance_and_go_with_a_star() -> None:
    _world, server, _ = house()
    held = server.stack._registrar
    events: list[StackEvent] = held.events
    here, ws = Flow("udp", PHONE, 5060), Flow("ws", PHONE, 40000, 7)
    assert (
        held.register("lea", register("lea", "<sip:lea@10.0.0.1>", "<sip:lea@10.0.0.3>;q=0.5"), here, 1.0)
        == 200
    )
    page = '<sip:x@a.invalid;transport=ws>;reg-id=1;+sip.instance="<urn:uuid:1>";expires=120'
    assert held.register("lea", register("lea", page, call="r2"), ws, 1.0) == 200
    assert len(held.of("lea")) == 3
    assert held.register("lea", register("lea", page.replace("x@a", "y@b"), call="r3"), ws, 2.0) == 200
    assert [e.reason for e in events if isinstance(e, PhoneGone)] == ["replaced"]
    held.flow_closed(ws)
    assert [e.reason for e in events if isinstance(e, PhoneGone)] == ["replaced", "flow_closed"]
    assert held.register("lea", register("lea", "*", cseq=2, expires="0"), here, 3.0) == 200
    assert held.of("lea") == []
    assert held.register("lea", register("lea", "<sip:lea@x>", cseq=3, expires="30"), here, 3.0) == 423


def test_a_server_that_starts_again_reaches_the_phone_as_before_until_it_would_have_expired() -> None:
    world, server, phone = house()
    enrol(phone)
    world.run(1)
    [kept] = server.stack.registrations("lea")
    before = server.stack.targets("lea")
    del world.nodes[PHONE]
    again = world.node(SERVER, users=("lea",), trunks=())
    again.stack.restore([kept], world.now)
    again.settle()
    assert again.stack.targets("lea") == before
    [came] = again.of(PhoneRegistered)
    assert isinstance(came, PhoneRegistered)
    assert (came.account, came.contact, came.expires_s) == ("lea", f"sip:lea@{PHONE}:5060", 299)
    assert again.stack.registrations("lea") == (kept,)
    world.run(295)
    assert again.stack.targets("lea") == before
    world.run(10)
    assert again.of(PhoneGone) == [PhoneGone("lea", f"sip:lea@{PHONE}:5060", "expired")]


def test_a_restored_phone_refreshes_without_being_announced_twice() -> None:
    world, server, phone = house()
    enrol(phone)
    world.run(1)
    kept = server.stack.registrations("lea")
    again = world.node(SERVER, users=("lea",), trunks=())
    again.stack.restore(kept, world.now)
    world.run(3600)
    assert len(again.of(PhoneRegistered)) == 1
    assert again.of(PhoneGone) == []
    [now] = again.stack.registrations("lea")
    assert now.until > world.now


def test_each_change_of_an_accounts_contacts_is_told() -> None:
    world, server, phone = house()
    changes: list[tuple[str, Callable[[], None]]] = [
        ("new", lambda: enrol(phone)),
        ("refreshed", lambda: world.run(250)),
        ("gone", lambda: phone.stack.leave("lea", now=phone.now)),
        ("new again", lambda: enrol(phone)),
        ("forgotten", lambda: server.stack.forget("lea", server.now)),
    ]
    for what, change in changes:
        server.told.clear()
        change()
        world.run(1)
        assert ContactsChanged("lea") in server.told, what


KEPT = Registration("lea", "sip:lea@a", "", "udp", PHONE, 5060, "c1", 4, "<urn:uuid:1>|1", "T1", 300.0)


@pytest.mark.parametrize(
    ("kept", "reached"),
    [
        (KEPT, ["sip:lea@a"]),
        (replace(KEPT, transport="tcp"), []),  # its flow died with the process
        (replace(KEPT, until=100.0), []),  # expired meanwhile
        (replace(KEPT, account="bob"), []),
    ],
)
def test_only_contacts_that_still_hold_come_back(kept: Registration, reached: list[str]) -> None:
    _world, server, _ = house()
    server.stack.restore([kept], 100.0)
    assert [target.uri for target in server.stack.targets("lea")] == reached


def test_a_wall_clock_that_went_back_makes_no_contact_eternal() -> None:
    _world, server, _ = house(max_expires_s=3600)
    server.stack.restore([replace(KEPT, until=1e9)], 100.0)
    assert [kept.until for kept in server.stack.registrations("lea")] == [3700.0]


def test_a_contact_that_registered_first_is_not_replaced_by_its_older_self() -> None:
    _world, server, _ = house()
    held = server.stack._registrar
    here = Flow("udp", PHONE, 5070)
    held.register("lea", register("lea", "<sip:lea@a>", cseq=9), here, 100.0)
    held.restore([KEPT, replace(KEPT, contact="sip:lea@b")], 100.0)
    assert [(b.uri, b.cseq, b.flow.port) for b in held.of("lea")] == [
        ("sip:lea@a", 9, 5070),
        ("sip:lea@b", 4, 5060),
    ]


def test_a_late_copy_of_a_register_from_before_the_restart_is_refused() -> None:
    _world, server, _ = house()
    held = server.stack._registrar
    held.restore([KEPT], 100.0)
    late = register("lea", "<sip:lea@a>", call="c1", cseq=4, expires="0")
    assert held.register("lea", late, Flow("udp", PHONE, 5060), 101.0) == 500
    assert len(held.of("lea")) == 1


def test_contacts_that_no_database_takes_and_streams_are_not_handed_out() -> None:
    _world, server, _ = house()
    held = server.stack._registrar
    contacts = [f"<sip:{user}@a>" for user in ("lea", "l\x01a", "l\udcffa", "l" * 2000)]
    held.register("lea", register("lea", *contacts), Flow("udp", PHONE, 5060), 100.0)
    held.register("lea", register("lea", "<sip:lea@tcp>", call="r2"), Flow("tcp", PHONE, 4000, 1), 100.0)
    assert len(held.of("lea")) == 5
    assert [kept.contact for kept in held.registrations("lea")] == ["sip:lea@a"]


def test_nul_escapes_make_two_contacts_and_contact_parameters_stay_where_they_were() -> None:
    _, server, _ = house()
    held = server.stack._registrar
    here = Flow("udp", PHONE, 5060)
    held.register(
        "lea", register("lea", "<sip:%00@x>", "<sip:%00%00@x>", "sip:1@gw;odd", "<sip:2@gw;odd>"), here, 1.0
    )
    lines = held.answer_lines("lea", 1.0)
    assert lines == [
        "Contact: <sip:%00@x>;expires=300",
        "Contact: <sip:%00%00@x>;expires=300",
        "Contact: <sip:1@gw>;odd;expires=300",
        "Contact: <sip:2@gw;odd>;expires=300",
    ]


def test_guessing_is_slowed_and_shown_and_the_real_phone_is_never_locked_out() -> None:
    world, server, phone = house()
    enrol(phone)
    world.run(1)
    attacker = world.node("10.0.0.66")
    for i in range(40):
        attacker.stack.enrol(
            f"g{i}",
            HOME,
            domain=SERVER,
            credentials=Credentials("monofil", "lea", f"guess{i}"),
            now=attacker.now,
        )
        world.run(0.05)
    seen = [e for e in server.told if isinstance(e, GuessingNoticed)]
    assert [(e.source, e.account, e.failures) for e in seen] == [
        ("10.0.0.66", "lea", 5),
        ("10.0.0.66", "lea", 10),
    ]
    assert server.stack.counters["guess_unheard"] >= 20
    # even the right password is not heard from there for now …
    attacker.told.clear()
    attacker.stack.enrol(
        "right",
        HOME,
        domain=SERVER,
        credentials=Credentials("monofil", "lea", "secret-of-lea"),
        now=attacker.now,
    )
    world.run(0.2)
    assert attacker.of(EnrolmentFailed)
    # … while the phone itself goes on, and another one of the same account comes
    second = world.node("10.0.0.5")
    enrol(second)
    world.run(600)
    assert Enrolled("lea", 300) in second.told
    assert not phone.of(EnrolmentFailed)


def test_a_registered_phone_calls_with_its_password_and_a_stranger_does_not() -> None:
    world, server, phone = house()
    enrol(phone)
    world.run(1)
    phone.stack.place(
        "leg",
        [Target(f"sip:1000@{SERVER}")],
        from_user="boss",
        sdp=SDP,
        credentials=Credentials("monofil", "lea", "secret-of-lea"),
        now=phone.now,
    )
    world.run(1)
    (offered,) = server.of(Invited)
    assert isinstance(offered, Invited)
    assert (offered.caller, offered.source.kind, offered.source.name) == ("lea", "phone", "lea")


def test_a_registered_phone_on_a_trunks_address_still_has_to_prove_itself() -> None:
    world, server, phone = house()
    server.stack.set_trunks((TrunkRules("carrier", (PHONE,)),))
    enrol(phone)
    world.run(1)
    phone.stack.place("leg", [Target(f"sip:1000@{SERVER}")], from_user="boss", sdp=SDP, now=phone.now)
    world.run(1)
    assert server.of(Invited) == []
    assert [e.status for e in phone.told if isinstance(e, Ended)] == [401]


def test_trunks_can_be_changed_while_running() -> None:
    _world, server, _ = house()
    server.stack.set_trunks((TrunkRules("new", ("10.0.0.0/24",)),))
    assert server.stack._trunk("10.0.0.9") == "new"
    server.stack.set_trunks(())
    assert server.stack._trunk("10.0.0.9") is None
    with pytest.raises(ValueError, match="no network"):
        server.stack.set_trunks((TrunkRules("bad", ("no network",)),))
