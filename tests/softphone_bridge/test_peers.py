"""Programs written by others against our endpoint: SIPp with and without loss, baresip with and without patience."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from softphone_bridge.aio.phone import Phone
from softphone_bridge.events import Cause, PhoneRegistered
from softphone_bridge.signals import Ended, Invited
from tests.fakes.lossy import Lossy
from tests.fakes.peers import CALL, Baresip, free_port, sipp
from tests.installed import needs
from tests.softphone_bridge.house import House

pytestmark = pytest.mark.peer


@pytest.fixture
async def house() -> AsyncIterator[House]:
    held = House(answers=True)
    await held.endpoint.start()
    yield held
    assert held.endpoint.counters.get("bug", 0) == 0
    await held.endpoint.stop()


@needs("sipp")
@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_sipp_calls_and_every_call_succeeds(house: House, tmp_path: Path, transport: str) -> None:
    (tmp_path / "uac.xml").write_text(CALL)
    code = await sipp(
        tmp_path,
        *("-sf", "uac.xml", f"127.0.0.1:{house.endpoint.port}", "-t", transport, "-p", free_port()),
        *("-r", "50", "-m", "100", "-d", "200", "-timeout", "20"),
        timeout_s=30,
    )
    assert code == 0
    await house.until_ended(100, 5)
    assert {e.cause for e in house.of(Ended)} == {Cause.HANGUP}


@needs("sipp")
@pytest.mark.slow
async def test_sipp_at_10_percent_loss_both_ways_loses_no_call_and_none_is_counted_twice(
    house: House, tmp_path: Path
) -> None:
    (tmp_path / "uac.xml").write_text(CALL)
    print("seed 7")
    async with Lossy(("127.0.0.1", house.endpoint.port), seed=7, loss=0.10) as proxy:
        code = await sipp(
            tmp_path,
            *("-sf", "uac.xml", f"127.0.0.1:{proxy.port}", "-p", free_port()),
            *(
                "-r",
                "50",
                "-m",
                "500",
                "-d",
                "500",
                "-timeout",
                "70",
            ),
            timeout_s=80,
        )
        assert code == 0
        await house.until_ended(500, 40)
        assert proxy.lost > 200
    assert len(house.of(Invited)) == 500
    ends = [e.cause for e in house.of(Ended)]
    assert len(ends) == 500
    # SIPp takes a late copy of the INVITE's 200 for the answer to its BYE, and then sends that BYE no more:
    # where its ACK was lost as well, we end the call ourselves after 32 s.
    assert set(ends) <= {Cause.HANGUP, Cause.NO_ACK}
    assert ends.count(Cause.NO_ACK) <= 10


@needs("baresip")
async def test_baresip_registers_with_digest_rings_is_cancelled_and_answers_with_its_tone() -> None:
    house = House(answers=True)
    house.endpoint._trunks = ()
    await house.endpoint.start()
    try:
        account = (
            f"<sip:lea@127.0.0.1:{house.endpoint.port}>;auth_pass=secret-of-lea;regint=60;answermode=manual"
        )
        async with Baresip(account + ";audio_codecs=PCMU,PCMA") as peer:
            await house.wait(PhoneRegistered)
            (target,) = house.endpoint.targets("lea")
            async with Phone(user="caller", tone_hz=440) as phone:
                host = target.flow
                assert host is not None
                uri = target.uri
                first = await phone.call(uri)
                await peer.event("CALL_INCOMING")
                first.hang_up()
                closed = await peer.event("CALL_CLOSED")
                assert closed
                second = await phone.call(uri)
                await peer.event("CALL_INCOMING")
                peer.command("accept")
                await second.wait_up()
                assert (await second.wait_tone(600)).is_tone(600)
                second.hang_up()
                await peer.event("CALL_CLOSED")
    finally:
        await house.endpoint.stop()
    assert house.endpoint.counters.get("bug", 0) == 0
