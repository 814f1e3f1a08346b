"""Our phone against our endpoint and against itself, on real sockets: sound and keys in both directions."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from softphone_bridge.aio import phone as program
from softphone_bridge.aio.phone import Call, CallFailed, NotEnrolled, Phone
from softphone_bridge.events import Cause, PhoneRegistered
from softphone_bridge.signals import Flow
from tests.softphone_bridge.house import House


async def test_two_phones_hear_each_other_and_each_others_keys() -> None:
    async with Phone(user="ana", name="Ana B", tone_hz=440) as a, Phone(user="bob", tone_hz=700) as b:
        ringing = asyncio.ensure_future(a.call(f"sip:bob@127.0.0.1:{b.port}"))
        theirs = await b.next_call()
        ours = await ringing
        assert (theirs.caller, theirs.caller_name, theirs.dialled) == ("ana", "Ana B", "bob")
        theirs.answer()
        await ours.wait_up()
        assert ours.rang == 180
        assert (await ours.wait_tone(700)).is_tone(700)
        assert (await theirs.wait_tone(440)).is_tone(440)
        await ours.press("12#")
        await asyncio.wait_for(heard(theirs, "12#"), 5)
        ours.hang_up()
        assert (await theirs.wait_ended()).cause is Cause.HANGUP


async def heard(call: Call, digits: str) -> None:
    while call.sound.digits != digits:
        await call.sound.wait()


async def test_hold_stops_the_sound_and_resume_brings_it_back() -> None:
    async with Phone(tone_hz=440) as a, Phone(tone_hz=700) as b:
        dialling = asyncio.ensure_future(a.dial(f"sip:bob@127.0.0.1:{b.port}"))
        theirs = await b.next_call()
        theirs.answer()
        ours = await dialling
        await ours.wait_tone(700)
        assert await ours.hold()
        assert theirs.held_by_them
        assert await ours.hold(False)
        assert not theirs.held_by_them
        ours.sound.clear()
        await ours.wait_tone(700)


async def test_a_phone_over_tcp_registers_and_is_gone_with_its_connection() -> None:
    house = House(answers=False)
    await house.endpoint.start()
    try:
        server = ("127.0.0.1", house.endpoint.port)
        async with Phone(user="lea", password="secret-of-lea", server=server, transport="tcp") as phone:
            assert await phone.register() == 300
            came = await house.wait(PhoneRegistered)
            assert isinstance(came, PhoneRegistered)
            assert came.source.endswith(";tcp")
            (target,) = house.endpoint.targets("lea")
            assert target.flow is not None
            assert target.flow.transport == "tcp"
    finally:
        await house.endpoint.stop()
    assert house.endpoint.counters.get("bug", 0) == 0


async def test_a_wrong_password_is_told() -> None:
    house = House(answers=False)
    await house.endpoint.start()
    try:
        server = ("127.0.0.1", house.endpoint.port)
        async with Phone(user="lea", password="no", server=server) as phone:
            with pytest.raises(NotEnrolled) as caught:
                await phone.register()
            assert caught.value.status == 401
    finally:
        await house.endpoint.stop()


async def test_a_refused_call_says_its_status_and_the_program_exits_accordingly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    house = House(answers=False)
    await house.endpoint.start()
    try:
        uri = f"sip:1000@127.0.0.1:{house.endpoint.port}"
        async with Phone() as phone:
            with pytest.raises(CallFailed) as caught:
                await phone.dial(uri)
            assert caught.value.ended.status == 486
            with pytest.raises(CallFailed) as caught:
                await phone.dial(uri.replace("1000", "2000"))
            assert caught.value.ended.status == 404
        for words, code in (([], 3), (["--expect-status", "486"], 0)):
            arguments = program._arguments(["dial", uri, *words])
            got, report = await program._run(arguments)
            assert (got, report["status"]) == (code, 486)
    finally:
        await house.endpoint.stop()


async def test_the_program_answers_dials_and_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(answers=False)
    await house.endpoint.start()
    try:
        server = f"127.0.0.1:{house.endpoint.port}"
        monkeypatch.setattr("sys.stdin", io.StringIO("secret-of-lea\n"))
        answering = asyncio.ensure_future(
            program._run(
                program._arguments(
                    [
                        "answer",
                        "--server",
                        server,
                        "--user",
                        "lea",
                        "--password-stdin",
                        "--tone",
                        "700",
                        "--expect-tone",
                        "440",
                        "--for",
                        "8",
                        "--expect-digits",
                        "12",
                    ]
                )
            )
        )
        await house.wait(PhoneRegistered)
        (target,) = house.endpoint.targets("lea")
        code, report = await program._run(
            program._arguments(
                [
                    "dial",
                    target.uri,
                    "--tone",
                    "440",
                    "--expect-tone",
                    "700",
                    "--digits",
                    "1,2",
                    "--for",
                    "2.5",
                ]
            )
        )
        assert (code, report["error"] if code else "") == (0, ""), json.dumps(report)
        code, report = await answering
        assert (code, report.get("digits")) == (0, "12"), json.dumps(report)
    finally:
        await house.endpoint.stop()


async def test_stalled_and_silent_connections_are_closed_and_udp_is_not_disturbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from softphone_bridge.aio import endpoint as endpoint_module
    from softphone_bridge.aio import stream

    monkeypatch.setattr(stream, "UNFINISHED_S", 0.2)
    monkeypatch.setattr(stream, "MAX_PER_ADDRESS", 3)
    monkeypatch.setattr(endpoint_module, "SWEEP_S", 0.05)
    house = House(answers=False)
    await house.endpoint.start()
    try:
        held = [await asyncio.open_connection("127.0.0.1", house.endpoint.port) for _ in range(5)]
        held[0][1].write(b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 99\r\n\r\nhalf")
        for reader, writer in held:
            try:
                assert await asyncio.wait_for(reader.read(), 5) == b""
            except ConnectionResetError:
                pass
            writer.close()
            try:
                await writer.wait_closed()
            except (ConnectionResetError, BrokenPipeError):
                pass
        assert house.endpoint.counters["refused_connection"] == 2
        assert house.endpoint.counters["late_connection"] == 3
        async with Phone() as phone:
            with pytest.raises(CallFailed):
                await phone.dial(f"sip:1000@127.0.0.1:{house.endpoint.port}")
    finally:
        await house.endpoint.stop()


async def test_a_carrier_of_whole_messages_is_a_flow_like_any_other() -> None:
    house = House(answers=False)
    await house.endpoint.start()
    try:
        got: list[bytes] = []
        flow = house.endpoint.attach("ws", "127.0.0.1", 40000, got.append)
        assert isinstance(flow, Flow)
        house.endpoint.received(flow, b"\r\n\r\n")
        assert got == [b"\r\n"]
        house.endpoint.detach(flow)
    finally:
        await house.endpoint.stop()
