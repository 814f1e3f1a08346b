"""Bad luck on the telephone against a whole server: no answer, lost messages, vanished phones, strangers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from cti.aio.headless import HeadlessConsole, Refused
from media import dtmf, g711, rtp, tone
from softphone_bridge.aio.phone import Call, CallFailed, NotEnrolled, Phone
from softphone_bridge.events import Cause
from tests.e2e.hotline import APART, DIRECT, LONG_S, Hotline, Person, a_moment, direct_site, open_hotline

pytestmark = [pytest.mark.alone, pytest.mark.asyncio(loop_scope="module")]

CALLER_HZ, LEA_HZ, KARIM_HZ, INES_HZ, STRANGER_HZ = 440.0, 700.0, 900.0, 1100.0, 1500.0
ENDS = ("ended", "abandoned", "interrupted")
ENV = {
    "MONOFIL_RTP_PORTS": "15100-15499",
    "MONOFIL_NO_RTP_END_S": "5",
    "MONOFIL_SIP_T1_MS": "100",  # 64 T1 are 6.4 s
    "MONOFIL_SIP_SESSION_EXPIRES_S": "90",
    "MONOFIL_LOG_LEVEL": "info",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hotline(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hotline]:
    folder = tmp_path_factory.mktemp("faults")
    folder.chmod(0o755)
    site = direct_site(
        folder,
        trunks={"loopback": {"hosts": ["127.0.0.1", "127.0.0.3"]}},
        queues={"general": {"offer": {"voice": "3s"}, "leave_key": "*"}},
    )
    async with open_hotline(folder, cluster.address, site=site, env=ENV) as held:
        yield held


@dataclass
class Patient:
    """A talk whose advisor's phone went deaf to SIP when the module began; its sound goes on."""

    call: Call
    interaction: str
    person: Person
    deaf_at_s: float


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def patient(hotline: Hotline) -> AsyncIterator[Patient]:
    """Begun before the first test and looked at by the last, since a session timer takes its time."""
    async with (
        hotline.at_work("ines", tone_hz=INES_HZ) as ines,
        Phone(user="+33600000010", tone_hz=CALLER_HZ) as caller,
    ):
        call, interaction = await dial(hotline, caller, APART)
        ringing = await ines.ringing()
        ringing.answer()
        await both_hear(call, ringing, INES_HZ)
        await vanish(ines)
        yield Patient(call, interaction, ines, time.monotonic())


async def dial(hotline: Hotline, caller: Phone, number: str = DIRECT) -> tuple[Call, str]:
    """A call into the queue, and its interaction."""
    call = await caller.dial(hotline.uri(number))
    found: list[Any] = []

    async def waits() -> bool:
        found[:] = await hotline.sql(
            "SELECT i.id FROM interaction i JOIN interaction_data d ON d.interaction = i.id"
            " WHERE d.received = $1 AND i.ended_at IS NULL AND i.state IN ('waiting', 'offered')",
            caller.user,
        )
        return bool(found)

    await hotline.until(waits)
    return call, str(found[0]["id"])


async def vanish(person: Person, call: Call | None = None) -> None:
    """The phone's cable is pulled: no goodbye, no answer to anything. Without `call`, its RTP goes on."""
    assert person.phone is not None
    await person.phone.endpoint.stop()
    if call is not None:
        call.sound.close()
    person.phone = None


async def both_hear(call: Call, at_phone: Call, advisor_hz: float) -> None:
    await asyncio.gather(
        call.wait_tone(advisor_hz, timeout_s=LONG_S), at_phone.wait_tone(CALLER_HZ, timeout_s=LONG_S)
    )


async def test_who_does_not_answer_in_time_is_passed_over_and_the_next_answers(hotline: Hotline) -> None:
    async with (
        hotline.at_work("lea", tone_hz=LEA_HZ) as lea,
        hotline.at_work("karim", tone_hz=KARIM_HZ) as karim,
        Phone(user="+33600000001", tone_hz=CALLER_HZ) as caller,
    ):
        call, interaction = await dial(hotline, caller)
        await lea.offered()  # longest idle
        first = await lea.ringing()
        ended = await first.wait_ended(LONG_S)
        assert ended.cause is Cause.CANCELLED
        over = await lea.console.wait_for("offer.ended", lambda o: o["interaction"] == interaction)
        assert over["data"]["how"] == "expired"
        await lea.presence(lambda p: p["misses"] == 1)
        await karim.offered()
        second = await karim.ringing()
        second.answer()
        await both_hear(call, second, KARIM_HZ)
        call.hang_up()
        row = await hotline.until_over(interaction)
        assert row["advisor"] == "karim"


@pytest.mark.parametrize("status", [486, 603, 480, 408])
async def test_a_refusal_on_the_phone_goes_elsewhere_at_once_and_not_back_to_the_refuser(
    hotline: Hotline, status: int
) -> None:
    async with (
        hotline.at_work("lea", tone_hz=LEA_HZ) as lea,
        hotline.at_work("karim", tone_hz=KARIM_HZ) as karim,
        Phone(user="+33600000002", tone_hz=CALLER_HZ) as caller,
    ):
        call, interaction = await dial(hotline, caller)
        (await lea.ringing()).reject(status)
        second = await karim.ringing()
        second.reject(486)  # all have said no: another round
        third = await lea.ringing()
        third.answer()
        await both_hear(call, third, LEA_HZ)
        call.hang_up()
        await hotline.until_over(interaction)
        events = await hotline.events(interaction)
        assert events.count("offer.made") == 3
        assert events.count("offer.ended") == 3


@pytest.mark.parametrize("status", [486, 603, 480])
async def test_a_phone_that_refuses_by_itself_pauses_its_only_advisor_instead_of_ringing_for_ever(
    hotline: Hotline, status: int
) -> None:
    async with (
        hotline.at_work("lea", on_call=lambda call: call.reject(status)) as lea,
        Phone(user="+33600000003", tone_hz=CALLER_HZ) as caller,
    ):
        call, interaction = await dial(hotline, caller)
        paused = await lea.presence(lambda p: p["presence"] == "pause")
        assert paused["data"]["reason"] == "missed"
        events = await hotline.events(interaction)
        # the queue's after_misses; a 603 that came late, on a busy machine, is a person's no and counts apart
        assert 3 <= events.count("offer.made") <= (6 if status == 603 else 3)
        assert call.up  # the caller still waits, and hears so
        assert (await hotline.row(interaction))["state"] == "waiting"
        call.hang_up()
        await hotline.until_over(interaction)


async def test_an_advisor_without_a_registered_phone_is_offered_nothing_and_the_screen_says_why(
    hotline: Hotline,
) -> None:
    async with (
        hotline.at_work("lea", phone=False) as lea,
        Phone(user="+33600000004", tone_hz=CALLER_HZ) as caller,
    ):
        call, interaction = await dial(hotline, caller)
        told = await hotline.admin.get(f"/interactions/{interaction}/why?lang=en")
        assert any("phone" in sentence and "1" in sentence for sentence in told["sentences"]), told
        board = await hotline.admin.get("/board")
        seat = next(a for a in board["advisors"] if a["advisor"] == "lea")
        assert (seat["presence"], seat["phone_registered"]) == ("ready", False)
        assert not [f for f in lea.console.frames if f["type"] == "offer.made"]
        async with Phone(
            user="101", password=lea.phone_password, server=hotline.sip, tone_hz=LEA_HZ
        ) as phone:
            await phone.register()
            await lea.offered()
            ringing = await phone.next_call(LONG_S)
            ringing.answer()
            await both_hear(call, ringing, LEA_HZ)
            call.hang_up()
            await hotline.until_over(interaction)
            await phone.unregister()


async def test_an_advisor_whose_phone_vanishes_is_freed_and_the_caller_keeps_his_place(
    hotline: Hotline,
) -> None:
    async with (
        hotline.at_work("lea", tone_hz=LEA_HZ) as lea,
        Phone(user="+33600000005", tone_hz=CALLER_HZ) as caller,
    ):
        call, interaction = await dial(hotline, caller)
        ringing = await lea.ringing()
        ringing.answer()
        await both_hear(call, ringing, LEA_HZ)
        since = (await hotline.row(interaction))["enqueued_at"]
        async with hotline.at_work("karim", tone_hz=KARIM_HZ) as karim:
            call.sound.clear()
            await vanish(lea, ringing)
            await lea.console.wait_for("notice", lambda n: n["code"] == "advisor_leg_lost", within_s=LONG_S)
            await lea.presence(lambda p: p["work"] == "idle")
            pop = (await karim.offered())["data"]["pop"]
            assert pop["e164"] == caller.user  # who he is travels with the caller (C4)
            again = await karim.ringing()
            assert call.up
            async with asyncio.timeout(LONG_S):
                while tone.rms(call.heard()) < 100:  # music, and the word that the place is kept
                    await call.sound.wait()
            again.answer()
            await both_hear(call, again, KARIM_HZ)
            assert (await hotline.row(interaction))["enqueued_at"] == since
            call.hang_up()
            row = await hotline.until_over(interaction)
            assert row["advisor"] == "karim"
        events = await hotline.events(interaction)
        assert events.count("interaction.requeued") == 1
        assert sum(events.count(f"interaction.{kind}") for kind in ENDS) == 1


async def test_a_caller_whose_goodbye_is_lost_frees_the_advisor_and_is_closed_once(hotline: Hotline) -> None:
    async with (
        hotline.at_work("lea", tone_hz=LEA_HZ) as lea,
        Phone(user="+33600000006", tone_hz=CALLER_HZ) as caller,
    ):
        call, interaction = await dial(hotline, caller)
        ringing = await lea.ringing()
        ringing.answer()
        await both_hear(call, ringing, LEA_HZ)
        await caller.endpoint.stop()
        call.sound.close()
        ended = await ringing.wait_ended(LONG_S)
        assert ended.cause is Cause.HANGUP  # our BYE reaches the advisor's phone
        await lea.presence(lambda p: p["work"] == "idle" and p["misses"] == 0)
        await hotline.until_over(interaction)
        events = await hotline.events(interaction)
        assert sum(events.count(f"interaction.{kind}") for kind in ENDS) == 1


async def test_a_caller_on_hold_hears_music_and_his_leaving_frees_the_advisor_at_once(
    hotline: Hotline,
) -> None:
    async with (
        hotline.at_work("lea", tone_hz=LEA_HZ) as lea,
        Phone(user="+33600000011", tone_hz=CALLER_HZ) as caller,
    ):
        call, interaction = await dial(hotline, caller)
        ringing = await lea.ringing()
        ringing.answer()
        await both_hear(call, ringing, LEA_HZ)
        await lea.console.post(f"/interactions/{interaction}/hold")
        async with asyncio.timeout(LONG_S):
            while call.measure(0.4).rms < 100 or call.measure(0.4).is_tone(LEA_HZ):
                await call.sound.wait()
        assert (await hotline.row(interaction))["held"]
        call.hang_up()
        ended = await ringing.wait_ended(LONG_S)
        assert ended.cause is Cause.HANGUP
        await lea.presence(lambda p: p["work"] == "idle")
        row = await hotline.until_over(interaction)
        assert row["advisor"] == "lea"


async def test_a_phone_that_holds_may_be_silent_for_longer_than_a_line_without_sound(
    hotline: Hotline,
) -> None:
    async with (
        hotline.at_work("lea", tone_hz=LEA_HZ) as lea,
        Phone(user="+33600000012", tone_hz=CALLER_HZ) as caller,
    ):
        call, interaction = await dial(hotline, caller)
        ringing = await lea.ringing()
        ringing.answer()
        await both_hear(call, ringing, LEA_HZ)
        assert await ringing.hold()
        ringing.sound.muted = True
        await lea.console.wait_for("interaction.changed", lambda i: i["id"] == interaction and i["held"])
        heard = call.sound.received
        while call.sound.received < heard + 350:  # 7 s of music; a leg without sound is given up after 5
            await asyncio.wait_for(call.sound.wait(), LONG_S)
        assert ringing.up
        ringing.sound.muted = False
        assert await ringing.hold(False)
        await both_hear(call, ringing, LEA_HZ)
        call.hang_up()
        row = await hotline.until_over(interaction)
        assert row["advisor"] == "lea"
        assert "interaction.requeued" not in await hotline.events(interaction)


async def test_an_answer_that_crosses_the_caller_s_goodbye_leaves_nobody_on_a_silent_line(
    hotline: Hotline,
) -> None:
    async with hotline.at_work("lea", tone_hz=LEA_HZ) as lea:
        for round_ in range(6):
            async with Phone(user=f"+3360000010{round_}", tone_hz=CALLER_HZ) as caller:
                call, interaction = await dial(hotline, caller)
                ringing = await lea.ringing()
                first, second = (
                    (call.hang_up, ringing.answer) if round_ % 2 else (ringing.answer, call.hang_up)
                )
                first()
                if round_ > 3:
                    await a_moment()
                second()
                await ringing.wait_ended(LONG_S)
                await call.wait_ended(LONG_S)
                await hotline.until_over(interaction)
                events = await hotline.events(interaction)
                assert sum(events.count(f"interaction.{kind}") for kind in ENDS) == 1
                assert events.count("offer.made") == events.count("offer.ended")
        board = await hotline.admin.get("/board")
        seat = next(a for a in board["advisors"] if a["advisor"] == "lea")
        assert (seat["presence"], seat["work"], seat["misses"]) == ("ready", "idle", 0)


class Raw(asyncio.DatagramProtocol):
    """A caller who speaks SIP by hand, so that it can leave things out."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.gone = asyncio.get_running_loop().create_future()
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set_result(None)

    def datagram_received(self, data: bytes, address: object) -> None:
        self.heard.put_nowait(data.decode("utf-8", "replace"))

    def error_received(self, error: Exception) -> None:
        return

    async def until(self, begins: str, within_s: float = LONG_S) -> str:
        """The next message whose first line begins so; others are passed by."""
        async with asyncio.timeout(within_s):
            while not (text := await self.heard.get()).startswith(begins):
                pass
        return text

    async def close(self) -> None:
        self.transport.close()
        await self.gone


async def raw(hotline: Hotline, host: str = "127.0.0.1") -> Raw:
    _, held = await asyncio.get_running_loop().create_datagram_endpoint(
        Raw, local_addr=(host, 0), remote_addr=hotline.sip
    )
    return held


def invite(hotline: Hotline, held: Raw, number: str, call_id: str, user: str = "+33600000099") -> bytes:
    host, port = held.transport.get_extra_info("sockname")[:2]
    body = (
        f"v=0\r\no=m 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
        "a=rtpmap:0 PCMU/8000\r\n"
    )
    head = [
        f"INVITE {hotline.uri(number)} SIP/2.0",
        f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{call_id}",
        f"From: <sip:{user}@{host}>;tag={call_id}",
        f"To: <{hotline.uri(number)}>",
        f"Call-ID: {call_id}",
        "CSeq: 1 INVITE",
        f"Contact: <sip:{user}@{host}:{port}>",
        "Max-Forwards: 70",
        "Content-Type: application/sdp",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


async def test_a_caller_who_never_acknowledges_is_given_up_after_64_t1_and_closed_once(
    hotline: Hotline,
) -> None:
    held = await raw(hotline)
    try:
        held.transport.sendto(invite(hotline, held, "4000", "noack"))
        await held.until("SIP/2.0 200")
        await held.until("SIP/2.0 200")  # again, since nobody acknowledges
        await held.until("BYE ")

        async def over() -> bool:
            rows = await hotline.sql(
                "SELECT i.ended_at FROM interaction i JOIN interaction_data d ON d.interaction = i.id"
                " WHERE d.received = $1",
                "+33600000099",
            )
            assert len(rows) == 1
            return rows[0]["ended_at"] is not None

        await hotline.until(over)
    finally:
        await held.close()


class Spray(asyncio.DatagramProtocol):
    """A stranger's socket that counts what comes back."""

    def __init__(self) -> None:
        self.back = 0
        self.gone = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, address: object) -> None:
        self.back += 1

    def error_received(self, error: Exception) -> None:
        return

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set_result(None)


async def test_a_stranger_s_sound_and_keys_are_neither_heard_nor_answered(hotline: Hotline) -> None:
    async with (
        hotline.at_work("lea", tone_hz=LEA_HZ, ready=False) as lea,
        Phone(user="+33600000007", tone_hz=CALLER_HZ) as caller,
    ):
        call, interaction = await dial(hotline, caller)
        before = await hotline.server.metrics()
        transport, stranger = await asyncio.get_running_loop().create_datagram_endpoint(
            Spray, local_addr=("127.0.0.9", 0)
        )
        frame = g711.encode(tone.sine(STRANGER_HZ, 20), g711.PCMA)
        try:
            remote = call.sound._remote
            assert remote is not None
            assert remote.telephone_event is not None
            # the key that leaves the queue, pressed by somebody else
            for number, payload in enumerate(dtmf.payloads("*")):
                packet = rtp.Packet(remote.telephone_event, number, 9, 77, payload)
                transport.sendto(rtp.build(packet), (remote.host, remote.port))
            await call.press("5")  # ours comes after it, and has been taken once it is told
            await lea.console.set_presence("ready")
            ringing = await lea.ringing()
            assert (await hotline.row(interaction))["state"] == "offered"
            ringing.answer()
            await both_hear(call, ringing, LEA_HZ)
            other = ringing.sound._remote
            assert other is not None
            call.sound.clear()
            ringing.sound.clear()
            for number in range(1000):
                for target in (remote, other):
                    packet = rtp.Packet(g711.PCMA, number, number * 160, 4711, frame)
                    transport.sendto(rtp.build(packet), (target.host, target.port))
                    transport.sendto(b"\x81\xc9\x00\x07" + bytes(28), (target.host, target.port + 1))
                if number % 100 == 0:
                    await call.sound.wait()
            await both_hear(call, ringing, LEA_HZ)
            for pcm in (call.heard(), ringing.heard()):
                spectrum = np.abs(np.fft.rfft(pcm.astype(float)))
                at = round(STRANGER_HZ * len(pcm) / 8000)
                assert spectrum[at - 3 : at + 4].max() < 0.05 * spectrum.max()
            assert stranger.back == 0
            call.hang_up()
            await hotline.until_over(interaction)
        finally:
            transport.close()
            await stranger.gone

        async def counted() -> bool:
            name = "monofil_rtp_stranger_packets_total"
            return (await hotline.server.metrics())[name] - before[name] >= 1000

        await hotline.until(counted)


async def test_guessing_a_phone_s_password_is_slowed_and_shown_and_the_real_phone_gets_in(
    hotline: Hotline,
) -> None:
    _, right = await hotline.secrets("emma")
    before = len(hotline.admin.frames)
    for attempt in range(20):
        async with Phone(
            user="103", password=f"wrong{attempt}", server=hotline.sip, host="127.0.0.9"
        ) as phone:
            with pytest.raises((NotEnrolled, TimeoutError)):
                await phone.register(timeout_s=5)
    async with Phone(user="103", password=right, server=hotline.sip) as phone:
        assert await phone.register() > 0
        await phone.unregister()
    told = await hotline.admin.wait_for(
        "notice", lambda n: n["code"] == "guessing" and n["args"]["from"] == "127.0.0.9", after=before
    )
    assert told["data"]["args"]["what"] == "103"
    assert any("guessing" in line["event"] for line in hotline.server.lines())
    metrics = await hotline.server.metrics()
    assert metrics['monofil_sip_total{what="wrong_password"}'] >= 10
    assert (
        metrics['monofil_sip_total{what="guess_unheard"}'] >= 1
    )  # from then on they were not even looked at


async def test_guessing_at_the_sign_in_page_is_slowed_and_shown_and_the_real_person_gets_in(
    hotline: Hotline,
) -> None:
    import aiohttp

    password, _ = await hotline.secrets("hugo")
    before = len(hotline.admin.frames)
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
    headers = {"Origin": hotline.server.http}
    statuses: list[int] = []
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:

        async def sign_in(word: str) -> None:
            body = {"login": "hugo", "password": word}
            async with http.post(hotline.server.http + "/api/v1/session", json=body) as answer:
                statuses.append(answer.status)
                if answer.status == 429:
                    assert int(answer.headers["Retry-After"]) >= 1

        while 429 not in statuses and len(statuses) < 20:
            failed_s = time.monotonic()
            await sign_in(f"wrong{len(statuses)}")
        await sign_in(password)
        if time.monotonic() - failed_s < 0.8:  # also with the right word: it is not looked at
            assert statuses[-1] == 429
    assert statuses[:3] == [401, 401, 401]
    assert 429 in statuses
    async with HeadlessConsole(hotline.server.http, "hugo", password) as console:
        assert console.me["login"] == "hugo"
    told = await hotline.admin.wait_for(
        "notice", lambda n: n["code"] == "guessing" and n["args"]["what"] == "hugo", after=before
    )
    assert told["data"]["args"]["from"] == "127.0.0.9"
    metrics = await hotline.server.metrics()
    assert metrics["monofil_sign_in_failures_total"] >= 3
    with pytest.raises(Refused):
        async with HeadlessConsole(hotline.server.http, "nobody", "x"):
            pass


async def test_strangers_are_refused_counted_and_do_not_learn_which_numbers_exist(hotline: Hotline) -> None:
    before = await hotline.server.metrics()
    for number in ("4000", "no-such"):
        async with Phone(user="eve", host="127.0.0.9") as eve:
            with pytest.raises(CallFailed) as refused:
                await eve.dial(hotline.uri(number))
            assert refused.value.ended.status == 403
    async with Phone(user="+33600000008") as caller:
        with pytest.raises(CallFailed) as unknown:
            await caller.dial(hotline.uri("9999"))
        assert unknown.value.ended.status == 404
    after = await hotline.server.metrics()

    def grew(what: str) -> float:
        name = f'monofil_sip_total{{what="{what}"}}'
        return after[name] - before.get(name, 0)

    assert grew("refused_stranger") == 2
    assert grew("refused_unknown_number") == 1


async def test_a_phone_that_is_deaf_to_signalling_is_found_by_the_session_timer_though_its_sound_goes_on(
    hotline: Hotline, patient: Patient
) -> None:
    call, interaction = patient.call, patient.interaction
    await patient.person.console.wait_for(
        "notice", lambda n: n["code"] == "advisor_leg_lost" and n["args"]["reason"] == "expired", within_s=90
    )
    print(f"noticed after {time.monotonic() - patient.deaf_at_s:.1f} s of a session of 90 s")
    await patient.person.presence(lambda p: p["work"] == "idle")
    assert call.up
    async with Phone(
        user="105", password=patient.person.phone_password, server=hotline.sip, tone_hz=KARIM_HZ
    ) as new:
        await new.register()  # another phone of the same advisor, whom the deaf one may have paused by now
        await patient.person.console.set_presence("ready")
        again = await new.next_call(2 * LONG_S)
        again.answer()
        await both_hear(call, again, KARIM_HZ)
        call.hang_up()
        await hotline.until_over(interaction)
        await new.unregister()
    events = await hotline.events(interaction)
    assert events.count("interaction.requeued") == 1
    assert sum(events.count(f"interaction.{kind}") for kind in ENDS) == 1
