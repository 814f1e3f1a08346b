"""Telephones written by others against a whole server: SIPp as the caller, baresip and pyVoIP at the advisor's desk."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from media import g711, tone
from softphone_bridge.aio.phone import Call, Phone
from tests.e2e.hotline import DIRECT, LONG_S, Hotline, direct_site, open_hotline
from tests.fakes.peers import Baresip, PyVoip, free_port, sipp
from tests.installed import needs
from tests.softphone_bridge.test_malformed import (
    CASES,
    needs_torture,
    tcp_outcome,
    torture_over_tcp,
    torture_over_udp,
    udp_outcomes,
)

pytestmark = [pytest.mark.alone, pytest.mark.asyncio(loop_scope="module"), pytest.mark.peer]

CALLER_HZ, BARESIP_HZ, PYVOIP_HZ, ADVISOR_HZ = 440.0, 600.0, 500.0, 700.0
CALLER = "127.0.0.3"  # the trunk; whoever calls from elsewhere is a phone or a stranger
KEYS = Path("/usr/share/sip-tester")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hotline(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hotline]:
    folder = tmp_path_factory.mktemp("peers")
    folder.chmod(0o755)
    site = direct_site(folder, trunks={"loopback": {"hosts": [CALLER]}})
    env = {
        "MONOFIL_RTP_PORTS": "15500-15899",
        "MONOFIL_SIP_T1_MS": "100",  # 64 T1 are 6.4 s
        "MONOFIL_SIP_RATE": "100000",
    }
    async with open_hotline(folder, cluster.address, site=site, env=env) as held:
        yield held


def caller(number: int, **about: Any) -> Phone:
    return Phone(user=f"+3361000{number:04}", tone_hz=CALLER_HZ, host=CALLER, **about)


async def test_baresip_answers_at_the_advisor_s_desk_and_both_hear_each_other(hotline: Hotline) -> None:
    async with hotline.at_work("lea", phone=False, ready=False) as lea:
        account = f"<sip:101@{hotline.server.sip}>;auth_pass={lea.phone_password};regint=60;answermode=manual"
        async with Baresip(account + ";audio_codecs=PCMU,PCMA") as desk_phone, caller(1) as phone:
            await hotline.until(lambda: hotline.reachable("lea"))  # REGISTER with digest
            await lea.console.set_presence("ready")
            call = await phone.dial(hotline.uri())
            offered = await lea.offered()
            await desk_phone.event("CALL_INCOMING")
            desk_phone.command("accept")
            await lea.state(offered["data"]["interaction"]["id"], "active")
            heard = await call.wait_tone(BARESIP_HZ, timeout_s=LONG_S)
            assert heard.rms > 500
            before = call.sound.sent
            while call.sound.sent < before + 75:  # a second and a half of our tone
                await call.sound.wait()
            call.hang_up()
            await desk_phone.event("CALL_CLOSED")
            pcm = desk_phone.heard()[-8000:-800]
            assert abs(tone.dominant_hz(pcm) - CALLER_HZ) < CALLER_HZ * 0.05
            assert tone.rms(pcm) > 500
            await hotline.until_over(offered["data"]["interaction"]["id"])


async def test_a_caller_who_hangs_up_while_baresip_rings_silences_it_at_once(hotline: Hotline) -> None:
    """CANCEL leaves in the step that hears of the end: before the record knows, and well before the next ring."""
    async with hotline.at_work("lea", phone=False, ready=False) as lea:
        account = f"<sip:101@{hotline.server.sip}>;auth_pass={lea.phone_password};regint=60;answermode=manual"
        async with Baresip(account + ";audio_codecs=PCMU,PCMA") as desk_phone:
            await hotline.until(lambda: hotline.reachable("lea"))
            await lea.console.set_presence("ready")
            took_ms = []
            for number in range(5):
                async with caller(10 + number) as phone:
                    call = await phone.dial(hotline.uri())
                    offered = await lea.offered()
                    await desk_phone.event("CALL_INCOMING")
                    begun = time.monotonic()
                    call.hang_up()
                    await desk_phone.event("CALL_CLOSED")
                    took_ms.append((time.monotonic() - begun) * 1000)
                    row = await hotline.until_over(offered["data"]["interaction"]["id"])
                    assert row["state"] == "abandoned"
            print("from the caller's BYE to baresip's end of ringing, ms:", [round(t, 1) for t in took_ms])
            assert min(took_ms) < 1000


SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="a caller with keys">
  <send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "SIPp" <sip:+33612000001@[local_ip]:[local_port]>;tag=[pid]k[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=user1 53655765 2353687637 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [media_port] RTP/AVP %(codec)s 96
a=rtpmap:96 telephone-event/8000
a=fmtp:96 0-15
]]></send>
  <recv response="100" optional="true"></recv>
  <recv response="180" optional="true"></recv>
  <recv response="200" rrs="true"></recv>
  <send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "SIPp" <sip:+33612000001@[local_ip]:[local_port]>;tag=[pid]k[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
%(keys)s
  <send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "SIPp" <sip:+33612000001@[local_ip]:[local_port]>;tag=[pid]k[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
  <recv response="200"></recv>
</scenario>
"""


def presses(keys: str) -> str:
    play = '  <nop><action><exec play_pcap_audio="{}"/></action></nop>\n  <pause milliseconds="900"/>\n'
    return '  <pause milliseconds="800"/>\n' + "".join(
        play.format(KEYS / f"dtmf_2833_{key}.pcap") for key in keys
    )


@needs("sipp")
@pytest.mark.skipif(os.geteuid() != 0, reason="SIPp plays captures by a raw socket, which only root may open")
@pytest.mark.parametrize(("transport", "codec"), [("u1", g711.PCMU), ("t1", g711.PCMA)])
async def test_sipp_walks_the_tree_by_captured_keys(
    hotline: Hotline, tmp_path: Path, transport: str, codec: int
) -> None:
    """Each key is ten packets, three with the end bit: one press (fault row 24). 1: French; 2: complaints."""
    scenario = SCENARIO % {"codec": codec, "keys": presses("12")}
    (tmp_path / "keys.xml").write_text(scenario)
    last = await hotline.sql("SELECT coalesce(max(seq), 0) AS seq FROM event")
    code = await sipp(
        tmp_path,
        *("-sf", "keys.xml", hotline.server.sip, "-t", transport, "-p", free_port()),
        *("-mp", str(16100 + 100 * codec), "-m", "1", "-timeout", "30", "-timeout_error"),
        timeout_s=60,
        number="3631",
        host=CALLER,
    )
    assert code == 0

    async def done() -> bool:
        found = await hotline.sql(
            "SELECT type, data->>'queue' AS queue FROM event WHERE seq > $1 ORDER BY seq", last[0]["seq"]
        )
        kinds = [row["type"] for row in found]
        if "interaction.abandoned" not in kinds:
            return False
        assert [row["queue"] for row in found if row["type"] == "interaction.enqueued"] == ["reclamations"]
        return True

    await hotline.until(done)


async def test_a_mu_law_caller_and_an_a_law_advisor_hear_each_other(hotline: Hotline) -> None:
    async with (
        hotline.at_work("lea", tone_hz=ADVISOR_HZ, payload_types=(g711.PCMA,)) as lea,
        caller(2, payload_types=(g711.PCMU,)) as phone,
    ):
        call = await phone.dial(hotline.uri())
        ringing = await lea.ringing()
        ringing.answer()
        await asyncio.gather(
            call.wait_tone(ADVISOR_HZ, timeout_s=LONG_S), ringing.wait_tone(CALLER_HZ, timeout_s=LONG_S)
        )
        spoken = call.sound._remote, ringing.sound._remote
        assert [each and each.payload_type for each in spoken] == [g711.PCMU, g711.PCMA]
        call.hang_up()
        await ringing.wait_ended()


async def test_a_caller_over_tcp_presses_keys_and_talks(hotline: Hotline) -> None:
    async with (
        hotline.at_work("emma", tone_hz=ADVISOR_HZ) as emma,
        caller(3, transport="tcp", server=hotline.sip) as phone,
    ):
        call = await phone.dial(hotline.uri("3631") + ";transport=tcp")
        await call.press("12")
        offered = await emma.offered()
        assert offered["data"]["pop"]["queue"]["id"] == "reclamations"
        ringing = await emma.ringing()
        ringing.answer()
        await asyncio.gather(
            call.wait_tone(ADVISOR_HZ, timeout_s=LONG_S), ringing.wait_tone(CALLER_HZ, timeout_s=LONG_S)
        )
        ringing.hang_up()
        await call.wait_ended(LONG_S)
        interaction = offered["data"]["interaction"]["id"]
        await emma.state(interaction, "wrapup")
        await emma.console.post(f"/interactions/{interaction}/wrapup", {"code": "colis_retrouve", "note": ""})


async def test_pyvoip_answers_at_the_advisor_s_desk_and_both_hear_each_other(hotline: Hotline) -> None:
    async with (
        hotline.at_work("karim", phone=False, ready=False) as karim,
        PyVoip(hotline.server.sip, "102", karim.phone_password, tone_hz=PYVOIP_HZ) as desk_phone,
        caller(4) as phone,
    ):
        await karim.console.set_presence("ready")
        call = await phone.dial(hotline.uri())
        await desk_phone.event("answered")
        await call.wait_tone(PYVOIP_HZ, timeout_s=LONG_S)
        before = call.sound.sent
        while call.sound.sent < before + 125:  # it measures the last two seconds of what it heard
            await call.sound.wait()
        call.hang_up()
        ended = await desk_phone.event("ended")
        assert abs(ended["heard_hz"] - CALLER_HZ) < CALLER_HZ * 0.05
        assert ended["heard_rms"] > 300
        await karim.console.set_presence("offline")


async def test_pyvoip_ignores_cancel_and_its_late_answer_is_acknowledged_and_hung_up(
    hotline: Hotline,
) -> None:
    async with (
        hotline.at_work("karim", phone=False, ready=False) as karim,
        PyVoip(hotline.server.sip, "102", karim.phone_password, answer="told") as desk_phone,
        caller(5) as phone,
    ):
        await karim.console.set_presence("ready")
        call = await phone.dial(hotline.uri())
        offered = await karim.offered()
        await desk_phone.event("ringing")
        call.hang_up()
        row = await hotline.until_over(offered["data"]["interaction"]["id"])
        assert row["state"] == "abandoned"
        await karim.presence(lambda p: p["work"] == "idle")  # free at once, whatever the phone thinks
        before = (await hotline.server.metrics()).get('monofil_sip_total{what="late_200"}', 0)
        desk_phone.do("answer")  # it never took the CANCEL for what it is
        await desk_phone.event("answered")
        await desk_phone.event("ended")  # our BYE
        after = (await hotline.server.metrics())['monofil_sip_total{what="late_200"}']
        assert after == before + 1
        await karim.console.set_presence("offline")


@pytest.mark.parametrize(
    "spelling", ["P-Asserted-Identity", "P-ASSERTED-IDENTITY ", "Remote-Party-ID", "X-Monofil-Call"]
)
async def test_a_phone_cannot_say_who_it_is_only_the_trunk_can(hotline: Hotline, spelling: str) -> None:
    """Fault rows 20 and 26: identity comes from the password, or from a trunk that is believed."""
    forged = "<sip:+33699999999@127.0.0.1>"
    async with hotline.at_work("lea", ready=False) as lea:
        assert lea.phone is not None
        last = (await hotline.sql("SELECT coalesce(max(seq), 0) AS seq FROM event"))[0]["seq"]
        call = await lea.phone.call(hotline.uri(), headers={spelling: forged})
        await call.wait_up(LONG_S)
        call.hang_up()
        await call.wait_ended()
    async with caller(7) as phone:
        call = await phone.call(hotline.uri(), headers={spelling: forged})
        await call.wait_up(LONG_S)
        call.hang_up()
        await call.wait_ended()

    async def both() -> bool:
        rows = await hotline.sql(
            "SELECT d.received FROM interaction_data d JOIN event e USING (interaction)"
            " WHERE e.seq > $1 AND e.type = 'interaction.opened' ORDER BY e.seq",
            last,
        )
        if len(rows) < 2:
            return False
        believed = "+33699999999" if "ASSERTED" in spelling.upper() else phone.user
        assert [row["received"] for row in rows] == ["101", believed]
        return True

    await hotline.until(both)


async def alive(hotline: Hotline) -> None:
    """A call still comes through, and the log holds no trace."""
    async with caller(6) as phone:
        call: Call = await phone.dial(hotline.uri(DIRECT))
        call.hang_up()
        await call.wait_ended()
    assert hotline.traces() == []


async def test_malformed_messages_get_their_answers_from_the_whole_server(hotline: Hotline) -> None:
    port = hotline.server.sip_port
    got = await udp_outcomes(port, [data for data, _, _ in CASES.values()])
    assert dict(zip(CASES, got, strict=True)) == {name: want for name, (_, want, _) in CASES.items()}
    for name, (data, udp, tcp) in list(CASES.items()):
        if tcp is ...:
            statuses, fate = await tcp_outcome(port, data)
            assert (statuses, fate) == ([] if udp is None else [udp], "open"), name
    await alive(hotline)


@needs_torture
async def test_the_torture_messages_get_accepted_outcomes_from_the_whole_server(hotline: Hotline) -> None:
    await torture_over_udp(hotline.server.sip_port)
    await torture_over_tcp(hotline.server.sip_port)
    await alive(hotline)
