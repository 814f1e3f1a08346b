"""The worker and its link, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from media import rtcp, rtp, tone, wav
from media.aio.link import (
    LegStatistics,
    MediaDigit,
    MediaLink,
    MediaPlayEnded,
    MediaRecorded,
    MediaStalled,
    MediaUnavailable,
    MediaVoice,
    WorkerLost,
)
from tests.media.phone import House, free_ports

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker() -> AsyncIterator[House]:
    """One worker for all tests that leave it alive."""
    async with House() as house:
        yield house


def tone_file(folder: Path, name: str, frequency_hz: float, ms: int) -> str:
    path = folder / f"{name}.wav"
    path.write_bytes(wav.mono(tone.sine(frequency_hz, ms)))
    return str(path)


@pytest.mark.parametrize(("one", "other"), [(0, 0), (8, 8), (0, 8), (8, 0)])
async def test_two_joined_legs_hear_each_other_in_pitch_and_level(
    worker: House, one: int, other: int
) -> None:
    async with House(worker) as house:
        ana, bob = await house.leg("a", one), await house.leg("b", other)
        house.link.join("a", "b")
        ana.speak(440, one)
        bob.speak(1000, other)
        heard_by_bob, heard_by_ana = await bob.hears_tone(440, ms=400), await ana.hears_tone(1000, ms=400)
        said = tone.rms(tone.sine(440, 400))
        assert tone.rms(heard_by_bob) == pytest.approx(said, rel=0.05)
        assert tone.rms(heard_by_ana) == pytest.approx(said, rel=0.05)
        assert tone.share(heard_by_bob, 440) > 0.98
        assert {packet.payload_type for packet in bob.voice()} == {other}
        assert len({packet.ssrc for packet in bob.voice()}) == 1
        assert bob.voice()[0].ssrc != ana.ssrc
        await ana.hush()
        await bob.hush()
        await house.settled()
        figures = await house.link.close("a")
        assert figures.received > 15
        assert figures.lost == figures.malformed == figures.strangers == 0


async def test_the_outgoing_stream_is_continuous_over_prompt_join_part_and_a_new_source(
    worker: House, tmp_path: Path
) -> None:
    async with House(worker) as house:
        ana, bob, cyd = await house.leg("a"), await house.leg("b"), await house.leg("c")
        house.link.play("a", 1, [tone_file(tmp_path, "one", 500, 200)])
        await house.told(MediaPlayEnded)
        house.link.join("a", "b")
        bob.speak(700)
        await ana.hears_tone(700)
        house.link.play("a", 2, [tone_file(tmp_path, "two", 900, 5000)], loop=True)
        await ana.hears_tone(900)
        house.link.stop_play("a")
        await ana.hears_tone(700)
        bob.ssrc, bob.sequence, bob.stamp = 7, 60_000, 4_000_000_000  # its stream begins anew
        await ana.hears(20)
        house.link.part("a", "b")
        house.link.join("a", "c")
        cyd.speak(1200)
        await ana.hears_tone(1200)
        packets = [packet for _, packet in ana.heard]
        assert len({packet.ssrc for packet in packets}) == 1
        steps = [rtp.distance(b.sequence, a.sequence) for a, b in itertools.pairwise(packets)]
        assert set(steps) == {1}
        times = [rtp.distance(b.timestamp, a.timestamp, 32) for a, b in itertools.pairwise(packets)]
        assert min(times) >= 160
        wall_s = ana.heard[-1][0] - ana.heard[0][0]
        assert sum(times) / 8000 == pytest.approx(wall_s, abs=0.15)


async def test_a_prompt_begins_within_40_ms_and_stops_at_once(worker: House, tmp_path: Path) -> None:
    async with House(worker) as house:
        ana = await house.leg("a")
        file = tone_file(tmp_path, "long", 600, 5000)
        await house.settled()
        loop = asyncio.get_running_loop()
        delays = []
        for number in range(10):
            count = len(ana.heard)
            asked = loop.time()
            house.link.play("a", number, [file])
            await ana.hears(3)
            delays.append(ana.heard[count][0] - asked)
            assert ana.heard[count][1].marker
            house.link.stop_play("a")
            ended = await house.told(MediaPlayEnded, number + 1)
            assert ended[-1] == MediaPlayEnded("a", number, "stopped", ended[-1].played_ms)
            await house.settled()
        assert sorted(delays)[5] <= 0.040, delays


async def test_prompts_follow_one_another_without_a_gap_and_end_when_all_is_said(
    worker: House, tmp_path: Path
) -> None:
    async with House(worker) as house:
        ana = await house.leg("a", 8)
        files = [tone_file(tmp_path, "x", 500, 333), tone_file(tmp_path, "y", 900, 267)]
        house.link.play("a", 5, files)
        (ended,) = await house.told(MediaPlayEnded)
        assert ended == MediaPlayEnded("a", 5, "done", 600)
        await ana.until(lambda: len(ana.heard) == 30)
        pcm = ana.pcm()
        assert len(pcm) == 4800
        assert tone.dominant_hz(pcm[: 333 * 8]) == pytest.approx(500, abs=3)
        assert tone.dominant_hz(pcm[333 * 8 :]) == pytest.approx(900, abs=3)
        assert tone.rms(pcm[320 * 8 : 346 * 8]) > 8000


async def test_a_prompt_replaces_another_and_music_goes_round(worker: House, tmp_path: Path) -> None:
    async with House(worker) as house:
        ana = await house.leg("a")
        house.link.play("a", 1, [tone_file(tmp_path, "x", 500, 100)], loop=True)
        await ana.hears_tone(500, ms=400)
        house.link.play("a", 2, [tone_file(tmp_path, "y", 900, 100)], loop=True)
        (ended,) = await house.told(MediaPlayEnded)
        assert (ended.play, ended.reason) == (1, "replaced")
        assert ended.played_ms >= 400
        await ana.hears_tone(900, ms=400)


async def test_files_that_are_missing_or_lie_are_left_out(worker: House, tmp_path: Path) -> None:
    (tmp_path / "liar.wav").write_bytes(wav.header(10, 7000) + b"x" * 99)
    os.mkfifo(tmp_path / "pipe.wav")
    async with House(worker) as house:
        ana = await house.leg("a")
        names = ["missing.wav", "liar.wav", "pipe.wav"]
        good = tone_file(tmp_path, "good", 500, 100)
        house.link.play("a", 1, [*(str(tmp_path / name) for name in names), good])
        house.link.play("a", 1, [*(str(tmp_path / name) for name in names), good])
        ended = await house.told(MediaPlayEnded, 2)
        assert ended[1] == MediaPlayEnded("a", 1, "done", 100)
        house.link.play("a", 2, [str(tmp_path / "missing.wav")], loop=True)
        ended = await house.told(MediaPlayEnded, 3)
        assert ended[2] == MediaPlayEnded("a", 2, "done", 0)
        assert len(ana.heard) >= 5


async def test_a_joined_leg_on_hold_hears_music_and_then_the_other_again(
    worker: House, tmp_path: Path
) -> None:
    async with House(worker) as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.join("a", "b")
        bob.speak(1000)
        await ana.hears_tone(1000)
        house.link.connect("b", bob.remote(sending=False, receiving=False))
        house.link.play("a", 1, [tone_file(tmp_path, "music", 440, 500)], loop=True)
        await ana.hears_tone(440)
        count = len(bob.heard)
        ana.say(b"\x00" * 160)
        await house.settled()
        assert len(bob.heard) == count  # who is on hold is sent nothing
        house.link.stop_play("a")
        house.link.connect("b", bob.remote())
        await ana.hears_tone(1000)


async def test_a_key_press_is_one_digit_and_is_passed_on_in_the_other_sides_number(worker: House) -> None:
    async with House(worker) as house:
        ana, bob = await house.leg("a"), await house.leg("b", telephone_event=96)
        house.link.join("a", "b")
        ana.say(b"\xff" * 160)
        await bob.hears(1)
        for key in "5#":
            ana.press(key)
            ana.say(b"\xff" * 160)
        digits = await house.told(MediaDigit, 2)
        assert [event.digit for event in digits] == ["5", "#"]
        assert all(event.leg == "a" and event.duration_ms >= 100 for event in digits)
        await bob.until(lambda: len(bob.heard) >= 35)
        events = [packet for _, packet in bob.heard if packet.payload_type == 96]
        assert len(events) == 32
        assert len({packet.timestamp for packet in events}) == 2
        house.link.join("a", "b", digits=False)
        await house.settled()
        ana.press("7")
        ana.say(b"\xff" * 160)
        assert (await house.told(MediaDigit, 3))[2].digit == "7"
        await bob.until(lambda: len(bob.heard) >= 36)
        packets = [packet for _, packet in bob.heard]
        assert len([packet for packet in packets if packet.payload_type == 96]) == 32
        assert {b.sequence - a.sequence for a, b in itertools.pairwise(packets)} <= {1, -65535}


async def test_a_digit_whose_end_is_lost_is_told_by_time_out(worker: House) -> None:
    async with House(worker) as house:
        ana = await house.leg("a")
        ana.say(b"\xff" * 160)
        ana.say(b"\x03\x0a\x00\xa0", 101, step=0, marker=True)
        assert await house.told(MediaDigit) == [MediaDigit("a", "3", 20)]


async def test_strangers_are_neither_heard_nor_answered_nor_obeyed(worker: House, tmp_path: Path) -> None:
    async with House(worker) as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.join("a", "b")
        stranger = await house.phone("127.0.0.9")
        stranger.to = ana.to
        ana.speak(500)
        bob.speak(800)
        await bob.hears_tone(500)
        await ana.hears_tone(800)
        loud = tone.encoded(2000, 20)
        for index in range(1000):
            stranger.say(loud)
            if index % 100 == 0:
                stranger.press("9")
                await house.settled()
        pcm = await bob.hears_tone(500, ms=600)
        assert tone.share(pcm, 2000) < 0.001
        house.link.play("a", 1, [tone_file(tmp_path, "p", 600, 200)])
        await house.told(MediaPlayEnded)
        await ana.hush()
        await bob.hush()
        await house.settled()
        assert stranger.raw == 0
        assert house.of(MediaDigit) == []
        figures = await house.link.close("a")
        assert figures.strangers >= 900  # the kernel may drop some
        assert figures.malformed == 0


async def test_a_burst_from_a_stranger_before_the_phone_speaks_wins_nothing(worker: House) -> None:
    async with House(worker) as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.join("a", "b")
        stranger = await house.phone("127.0.0.9")
        stranger.to = ana.to
        await house.settled()
        for _ in range(50):
            stranger.say(b"\x00" * 160)
        ana.speak(500)
        bob.speak(800)
        await bob.hears_tone(500)
        await ana.hears_tone(800)
        assert stranger.raw == 0


async def test_a_phone_behind_a_nat_is_believed_after_five_packets(worker: House) -> None:
    async with House(worker) as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.join("a", "b")
        natted = await house.phone("127.0.0.7")
        natted.to = ana.to
        natted.speak(500)
        await bob.hears_tone(500)
        bob.speak(800)
        await natted.hears_tone(800)
        first = bob.voice()[0]
        assert len(bob.voice()) >= 5
        assert first.marker
        await natted.hush()
        await house.settled()
        assert (await house.link.close("a")).strangers <= 5


async def test_the_same_host_from_another_port_is_believed_at_once(worker: House) -> None:
    async with House(worker) as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.join("a", "b")
        other = await house.phone()
        other.to = ana.to
        other.say(b"\x00" * 160)
        await bob.hears(1)
        bob.say(b"\x00" * 160)
        await other.hears(1)


async def test_a_stream_that_moves_is_followed_and_an_invented_one_is_not(worker: House) -> None:
    async with House(worker) as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.join("a", "b")
        ana.speak(500)
        await bob.hears_tone(500)
        await ana.hush()
        impostor, moved = await house.phone("127.0.0.9"), await house.phone("127.0.0.1")
        impostor.to = moved.to = ana.to
        impostor.speak(2000)  # other SSRC
        moved.ssrc, moved.sequence, moved.stamp = ana.ssrc, ana.sequence, ana.stamp
        moved.speak(700)
        await bob.hears_tone(700)
        bob.speak(800)
        await moved.hears_tone(800)
        assert impostor.raw == 0


async def test_rubbish_is_counted_and_nothing_else_happens(worker: House) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    async with House(worker) as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.join("a", "b")
        house.link.watch("a", True)
        ana.say(b"\xff" * 160)
        await bob.hears(1)
        good = rtp.build(rtp.Packet(0, 7, 7, ana.ssrc, b"\xff" * 160))
        for index in range(1500):
            if index % 3:
                data = chance.randbytes(chance.randrange(0, 300))
            else:
                changed = bytearray(good)
                for _ in range(chance.randrange(1, 4)):
                    changed[chance.randrange(16)] = chance.randrange(256)
                data = bytes(changed[: chance.randrange(1, len(changed))])
            ana.send(data)
            if index % 50 == 0:
                await house.settled()
        rtcp_to = ana.to[0], ana.to[1] + 1
        assert ana.transport is not None
        for _ in range(200):
            ana.transport.sendto(chance.randbytes(chance.randrange(0, 200)), rtcp_to)
        ana.transport.sendto(b"\x80" * 4000, ana.to)
        await house.settled()
        ana.ssrc += 1
        ana.speak(500)
        await bob.hears_tone(500)
        await ana.hush()
        figures = await house.link.close("a")
        assert figures.malformed > 500


async def test_loss_and_disorder_are_counted_and_passed_on_as_they_are(worker: House) -> None:
    async with House(worker) as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.join("a", "b")
        order = [0, 1, 2, 4, 3, 5, 6, 9, 10, 10, 11]
        for index in order:
            if index == 1:
                await bob.hears(1)
            data = rtp.Packet(0, 65530 + index & 0xFFFF, 160 * index, 77, bytes([index]) * 160)
            ana.send(rtp.build(data))
        await bob.until(lambda: len(bob.heard) == 10)
        first = bob.voice()[0].sequence
        assert [packet.sequence - first & 0xFFFF for packet in bob.voice()] == [
            0,
            1,
            2,
            4,
            3,
            5,
            6,
            9,
            10,
            11,
        ]
        assert [packet.payload[0] for packet in bob.voice()] == [0, 1, 2, 4, 3, 5, 6, 9, 10, 11]
        figures = await house.link.close("a")
        assert (figures.received, figures.lost) == (11, 1)  # two lost, one twice (RFC 3550 A.3)


async def test_a_leg_that_falls_silent_is_told_once_and_sooner_in_talk_than_on_hold() -> None:
    async with House(stall_talk_s=1.0, stall_hold_s=30.0) as house:
        ana, bob = await house.leg("a"), await house.leg("b", sending=False)
        ana.say(b"\xff" * 160)
        bob.say(b"\xff" * 160)
        (stalled,) = await house.told(MediaStalled)
        assert stalled.leg == "a"
        assert 1.0 <= stalled.silent_s <= 2.2
        ana.say(b"\xff" * 160)
        await house.told(MediaStalled, 2)
        assert {event.leg for event in house.of(MediaStalled)} == {"a"}


async def test_voice_is_told_when_it_begins_and_when_it_ends(worker: House) -> None:
    async with House(worker) as house:
        ana = await house.leg("a")
        house.link.watch("a", True)
        ana.speak(300, level=0.7)
        heard = await house.told(MediaVoice)
        assert heard[0].heard
        await ana.hush()
        heard = await house.told(MediaVoice, 2)
        assert not heard[-1].heard
        assert heard[-1].silent_s == pytest.approx(0.6, abs=0.05)


async def test_three_legs_hear_the_two_others_and_not_themselves(worker: House) -> None:
    async with House(worker) as house:
        phones = [await house.leg(name, codec) for name, codec in (("a", 0), ("b", 8), ("c", 0))]
        for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
            house.link.join(one, other)
        pitches = (400, 900, 1500)
        for phone, pitch, codec in zip(phones, pitches, (0, 8, 0), strict=True):
            phone.speak(pitch, codec, level=0.3)
        await phones[0].hears(60)
        for phone, own in zip(phones, pitches, strict=True):
            pcm = phone.pcm()[-4000:]
            shares = {pitch: tone.share(pcm, pitch) for pitch in pitches}
            assert shares[own] < 0.02
            assert all(share > 0.3 for pitch, share in shares.items() if pitch != own), shares
        house.link.part("a", "c")
        house.link.part("b", "c")
        await phones[0].hears_tone(900)


async def test_in_a_chain_only_the_middle_hears_both_ends(worker: House) -> None:
    async with House(worker) as house:
        ana, bob, cyd = await house.leg("a", 8), await house.leg("b", 0), await house.leg("c", 8)
        house.link.join("a", "b")
        house.link.join("b", "c")
        ana.speak(400, 8, level=0.3)
        bob.speak(900, 0, level=0.3)
        cyd.speak(1500, 8, level=0.3)
        await ana.hears_tone(900)
        await cyd.hears_tone(900)
        await bob.hears(30)
        pcm = bob.pcm()[-3200:]
        assert tone.share(pcm, 400) == pytest.approx(0.5, abs=0.1)
        assert tone.share(pcm, 1500) == pytest.approx(0.5, abs=0.1)
        await house.link.close("c")
        await bob.hears_tone(400)


async def test_reports_are_sent_and_those_of_the_phone_are_heard(worker: House) -> None:
    async with House(worker) as house:
        ana = await house.phone()
        reports = await house.phone()
        while reports.port != ana.port + 1:  # a pair of ports, as phones have
            ana, reports = await house.phone(), reports
            try:
                reports = await type(reports).open(port=ana.port + 1)
                house._phones.append(reports)
            except OSError:
                continue
        told: list[bytes] = []
        reports.datagram_received = lambda data, addr: told.append(data) or reports._more.set()  # type: ignore[func-returns-value, method-assign]
        port = await house.link.open("a")
        ana.to, reports.to = ("127.0.0.1", port), ("127.0.0.1", port + 1)
        house.link.connect("a", ana.remote())
        ana.speak(400)
        theirs = rtcp.SenderReport(ana.ssrc, rtcp.ntp(time.time()), 0, 1, 160)
        reports.send(rtcp.build(theirs, "ana"))
        await reports.until(lambda: bool(told), 8.0)
        (report,) = rtcp.parse(told[0])
        assert isinstance(report, rtcp.ReceiverReport)  # nothing was sent to it
        (block,) = report.reports
        assert (block.ssrc, block.lost) == (ana.ssrc, 0)
        assert block.last_sr == rtcp.middle(theirs.ntp)
        assert block.delay < 8 * 65536


async def test_a_recording_has_each_side_on_its_own_channel_and_the_length_of_the_call(
    worker: House, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "call.wav"
    async with House(worker) as house:
        ana, bob = await house.leg("a", 0), await house.leg("b", 8)
        house.link.join("a", "b")
        ana.speak(440, 0)
        await bob.hears_tone(440)
        loop = asyncio.get_running_loop()
        began = loop.time()
        house.link.record("r1", str(path), "a", "b")
        await bob.hears(30)
        bob.speak(1000, 8)
        await ana.hears(70)
        left, right = wav.read_stereo(path.read_bytes())  # flushed meanwhile, with a true header
        assert len(left) >= 1600
        await ana.hush()
        await bob.hush()
        house.link.stop_record("r1")
        (ended,) = await house.told(MediaRecorded)
        took_ms = (loop.time() - began) * 1000
    left, right = wav.read_stereo(path.read_bytes())
    assert ended == MediaRecorded("r1", str(path), len(left) // 8, path.stat().st_size, True)
    assert ended.duration_ms == pytest.approx(took_ms, abs=100)
    assert tone.dominant_hz(left[800:12000]) == pytest.approx(440, abs=4)
    assert tone.share(left[800:12000], 440) > 0.99
    assert tone.silent(right[:4000])
    assert tone.dominant_hz(right[-9600:-1600]) == pytest.approx(1000, abs=4)


async def test_a_recording_ends_with_its_legs_and_never_writes_over_another(
    worker: House, tmp_path: Path
) -> None:
    path = tmp_path / "call.wav"
    async with House(worker) as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.record("r1", str(path), "a", "b")
        house.link.record("r2", str(path), "a", "b")
        (refused,) = await house.told(MediaRecorded)
        assert refused == MediaRecorded("r2", str(path), 0, 0, False)
        ana.speak(400)
        bob.speak(600)
        await house.settled()
        await house.link.close("a")
        await house.settled()
        assert len(house.of(MediaRecorded)) == 1
        await house.link.close("b")
        assert (await house.told(MediaRecorded, 2))[1].complete


async def test_a_full_disk_cuts_the_recording_and_not_the_call(tmp_path: Path) -> None:
    path = tmp_path / "r.wav"
    async with House() as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.join("a", "b")
        ana.speak(500)
        await bob.hears_tone(500)
        room = 44 + 4000 * 4 + 2  # half a second and half a frame
        resource.prlimit(house.link.pids[0], resource.RLIMIT_FSIZE, (room, room))
        house.link.record("r", str(path), "a", "b")
        (cut,) = await house.told(MediaRecorded)
        assert cut == MediaRecorded("r", str(path), 500, room - 2, False)
        left, _ = wav.read_stereo(path.read_bytes())
        assert tone.dominant_hz(left[400:]) == pytest.approx(500, abs=3)
        bob.speak(800)
        await ana.hears_tone(800)
        await bob.hears_tone(500)


async def test_a_recording_never_follows_a_link(worker: House, tmp_path: Path) -> None:
    (tmp_path / "r.wav").symlink_to(tmp_path / "elsewhere.wav")
    async with House(worker) as house:
        await house.leg("a")
        house.link.record("r", str(tmp_path / "r.wav"), "a", "a")
        assert not (await house.told(MediaRecorded))[0].complete
    assert not (tmp_path / "elsewhere.wav").exists()


async def test_a_dead_worker_ends_its_own_legs_and_a_new_one_takes_new_calls(tmp_path: Path) -> None:
    path = tmp_path / "r.wav"
    async with House(workers=2) as house:
        ana, bob = await house.leg("a"), await house.leg("b")
        house.link.record("r", str(path), "a", "a")
        ana.speak(500)
        await house.link.open("a2", near="a")
        while not path.exists() or path.stat().st_size < 44 + 800:
            await house.settled()
        victim = house.link._of["a"].process.pid
        assert house.link._of["b"].process.pid != victim
        assert house.link._of["a2"].process.pid == victim
        os.kill(victim, signal.SIGKILL)
        (lost,) = await house.told(WorkerLost)
        assert lost.legs == ("a", "a2")
        (cut,) = await house.told(MediaRecorded)
        assert not cut.complete
        left, _ = wav.read_stereo(path.read_bytes())
        assert (cut.duration_ms, cut.bytes) == (len(left) // 8, path.stat().st_size)
        assert await house.link.close("a") == LegStatistics(0, 0, 0, 0.0, 0, 0)
        await ana.hush()
        await house.restarted()
        names = [f"n{index}" for index in range(6)]
        for name in names:
            await house.link.open(name)
        assert len({house.link._of[name].process.pid for name in names}) == 2
        bob.say(b"\xff" * 160)
        await house.settled()
        assert (await house.link.close("b")).received == 1


async def test_opening_takes_less_than_5_ms_and_a_freed_port_rests() -> None:
    async with House() as house:
        first = await house.link.open("first")
        await house.link.close("first")
        took = []
        ports = []
        for index in range(99):
            began = time.perf_counter()
            ports.append(await house.link.open(f"leg{index}"))
            took.append(time.perf_counter() - began)
        assert first not in ports
        assert len(set(ports)) == 99
        assert all(port % 2 == 0 for port in ports)
        assert np.quantile(took, 0.9) < 0.005
        assert await house.link.open("again") == first
        with pytest.raises(MediaUnavailable, match="no free port"):
            await house.link.open("one too many")
        with pytest.raises(MediaUnavailable, match="is open"):
            await house.link.open("again")
        await house.link.close("leg0")
        assert await house.link.open("one more") == ports[0]


async def test_nothing_is_left_behind() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with House(workers=2) as house:
        await house.leg("a")
        pids = house.link.pids
        for command in (house.link.stop_play, house.link.stop_record):
            command("unknown")
        house.link.part("a", "unknown")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


async def test_without_workers_nothing_opens() -> None:
    first = free_ports(20)
    link = MediaLink(workers=1, host="127.0.0.1", ports=(first, first + 19), hear=lambda _: None)
    with pytest.raises(MediaUnavailable):
        await link.open("a")
    with pytest.raises(MediaUnavailable):
        MediaLink(workers=20, host="127.0.0.1", ports=(first, first + 19), hear=lambda _: None)


async def test_a_worker_dies_with_its_parent_however_that_dies() -> None:
    first = free_ports(20)
    script = f"""
import asyncio
from media.aio.link import MediaLink
async def main():
    link = MediaLink(workers=1, host="127.0.0.1", ports=({first}, {first + 19}), hear=print)
    await link.start()
    print(link.pids[0], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 15))
    handle = os.pidfd_open(pid)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(handle, gone.set)
    try:
        parent.kill()
        await parent.communicate()
        await asyncio.wait_for(gone.wait(), 5)
    finally:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
