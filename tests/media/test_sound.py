"""Tones, WAV files, mixing, jitter, recording tracks and voice activity: arithmetic on samples."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import mix, tone, wav
from media.jitter import LIMIT, Jitter
from media.track import Track
from media.vad import Ear, Voice
from media.wav import NotWav


def test_a_tone_is_measured_as_it_was_made() -> None:
    pcm = tone.sine(440, 1000, level=0.5)
    assert tone.dominant_hz(pcm) == pytest.approx(440, abs=1)
    assert tone.rms(pcm) == pytest.approx(0.5 * 32767 / 2**0.5, rel=0.01)
    assert tone.share(pcm + tone.sine(1000, 1000, level=0.3), 440) == pytest.approx(0.25 / 0.34, rel=0.02)
    assert not tone.silent(pcm)
    assert tone.silent(np.zeros(160, np.int16))
    assert tone.dominant_hz(np.zeros(0, np.int16)) == 0.0


def test_a_wav_is_read_as_it_was_written() -> None:
    pcm = tone.sine(440, 100)
    assert (wav.read(wav.mono(pcm)) == pcm).all()
    left, right = wav.read_stereo(wav.header(len(pcm), 2) + wav.interleave(pcm, -pcm))
    assert (left == pcm).all()
    assert (right == -pcm).all()


def riff(form: bytes, body: bytes = b"\1\2\3\4", *, before: bytes = b"", size: int | None = None) -> bytes:
    chunk = b"fmt " + struct.pack("<I", len(form)) + form
    data = b"data" + struct.pack("<I", len(body) if size is None else size) + body
    return b"RIFF\xff\xff\xff\xffWAVE" + before + chunk + data


def form(code: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16) -> bytes:
    return struct.pack("<HHIIHH", code, channels, rate, 16000, 2, bits)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "RIFF"),
        (b"<html>RIFF", "RIFF"),
        (riff(form(channels=65535)), "65535 channels"),
        (riff(form(channels=0)), "0 channels"),
        (riff(form(rate=0)), "0 Hz"),
        (riff(form(rate=44100)), "44100 Hz"),
        (riff(form(bits=8)), "8 bits"),
        (riff(form(code=7)), "format 7"),
        (riff(b"\1\0"), "cut off"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "before its format"),
        (b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 1000, "no sound"),
        (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff" + form(), "no sound"),
    ],
)
def test_a_wav_that_is_not_ours_to_play_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(NotWav, match=why):
        wav.read(data)


def test_a_wav_that_claims_4_gib_is_what_it_is() -> None:
    assert wav.read(riff(form(), size=0xFFFFFFFF)).tolist() == [0x201, 0x403]
    assert wav.read(riff(form(), before=b"LIST\3\0\0\0abc\0")).tolist() == [0x201, 0x403]
    assert wav.read(riff(form(), b"\1\2\3")).tolist() == [0x201]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100), st.integers(0, 60))
def test_no_file_does_more_than_be_refused(rubbish: bytes, at: int) -> None:
    whole = wav.mono(tone.sine(440, 10))
    for data in (rubbish, whole[:at] + rubbish + whole[at + len(rubbish) :]):
        try:
            assert wav.read(data).dtype == np.int16
        except NotWav:
            pass


def test_everybody_hears_the_others_and_loud_rooms_are_clipped() -> None:
    frames = np.array([[100, 30000], [10, 30000], [1, -5]], np.int16)
    assert mix.rooms(frames[np.newaxis]).tolist() == [[[11, 29995], [101, 29995], [110, 32767]]]
    assert mix.total(frames).tolist() == [111, 32767]


def test_a_jitter_buffer_puts_packets_in_order_and_fills_what_is_missing() -> None:
    jitter = Jitter(0xFF)
    assert jitter.take() is None
    for index in (0, 2, 1, 4):
        jitter.put(index * 160 + 0xFFFFFF00, bytes([index]) * 160)
    assert [jitter.take() for _ in range(6)] == [bytes([each]) * 160 for each in (0, 1, 2, 255, 4)] + [None]
    assert jitter.empty == 1


def test_a_jitter_buffer_drops_what_is_late_and_never_waits_longer_than_its_limit() -> None:
    jitter = Jitter(0xFF)
    for index in range(3):
        jitter.put(index * 160, bytes(160))
    jitter.take()
    jitter.put(0, bytes(160))
    assert jitter.late == 1
    for index in range(3, 60):
        jitter.put(index * 160, bytes(160))
    assert jitter.cut == 59 * 160 - LIMIT
    jitter.put(5_000_000, b"\1" * 320)  # the source has a new clock
    assert jitter.take() == b"\1" * 160


def test_a_track_lays_packets_by_their_stamps_and_not_by_the_networks_mood() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    track = Track(0xFF)
    packets = [(800 + index * 160, index * 160, bytes([index]) * 160) for index in range(50)]
    arrivals = [(at + chance.uniform(0, 400) * (at > 800), stamp, payload) for at, stamp, payload in packets]
    lost = packets[20]
    for at, stamp, payload in sorted(arrivals):
        if stamp != lost[1]:
            track.put(int(at), stamp, payload)
    out = track.take(4000) + track.take(9600)
    wanted = b"".join(b"\xff" * 160 if each is lost else each[2] for each in packets)
    assert out == (b"\xff" * 800 + wanted).ljust(9600, b"\xff")


def test_a_track_follows_a_source_that_jumps_and_one_that_is_too_late() -> None:
    track = Track(0xFF)
    track.put(0, 0, b"\1" * 160)
    track.put(4000, 99_000_000, b"\2" * 160)
    assert track.take(3000) == (b"\1" * 160).ljust(3000, b"\xff")
    track.put(3100, 99_000_000 - 1040, b"\3" * 160)  # belongs at 2960, of which 40 samples have been written
    assert track.take(4160) == (b"\3" * 120).ljust(1000, b"\xff") + b"\2" * 160


def test_voice_is_heard_after_60_ms_and_silence_after_its_hangover_and_every_5_s() -> None:
    ear = Ear()
    speech = tone.sine(300, 20, level=0.7)
    assert [ear.hear(speech) for _ in range(4)] == [None, None, Voice(True, 0.04), None]
    told = [(index, voice) for index in range(600) if (voice := ear.hear(None)) is not None]
    assert [(index + 1) * 0.02 for index, _ in told] == pytest.approx([0.6, 5.0, 10.0])
    assert [voice.silent_s for _, voice in told] == pytest.approx([0.6, 5.0, 10.0])
    assert ear.hear(np.full(160, 30, np.int16)) is None  # a hum below the floor
