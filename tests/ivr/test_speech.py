"""Prompts that are there, texts that are spoken, and how fast (V3)."""

from __future__ import annotations

import asyncio
import time
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ivr.aio import speech as speech_module
from ivr.aio.sounds import MUSIC_S, music
from ivr.aio.speech import Engine, Speech, _program, telephone
from ivr.events import Say, Spoken
from ivr.tree import plant
from ivr.voice import Recording, duration, segments
from ivr.voice import Speech as Text
from ivr.waiting import Waiting
from tests.ivr.walks import SOUNDS, prompts, shipped


def read(path: str | Path) -> npt.NDArray[np.float64]:
    with wave.open(str(path)) as w:
        assert (w.getnchannels(), w.getsampwidth(), w.getframerate()) == (1, 2, 8_000)
        return np.frombuffer(w.readframes(w.getnframes()), dtype="<i2") / 32768.0


def level_dbfs(x: npt.NDArray[np.float64]) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(x**2))))


@pytest.fixture
async def speech(tmp_path: Path) -> AsyncIterator[Speech]:
    it = Speech(sounds=[SOUNDS], cache=tmp_path / "speech")
    yield it
    await it.close()


def test_every_shipped_prompt_exists_in_french_and_english_and_can_be_heard() -> None:
    found = prompts()
    assert {n for n, x in found.items() if x != {"fr", "en"}} == set()
    assert {"welcome", "recording", "apology", "hold", "place", "number-0", "number-20"} <= set(found)
    for path in SOUNDS.glob("??/*.wav"):
        x = read(path)
        assert 0.15 < len(x) / 8_000 < 8, path
        assert -32 < level_dbfs(x) < -15, path


def test_the_sounds_stay_small() -> None:
    assert sum(p.stat().st_size for p in SOUNDS.rglob("*.wav")) < 3_000_000


def test_the_hold_music_is_calm_and_loops_without_a_click() -> None:
    x = read(SOUNDS / "music.wav")
    assert np.array_equal((x * 32768).astype(np.int16), music())
    assert len(x) == MUSIC_S * 8_000
    assert level_dbfs(x) == pytest.approx(-22, abs=0.3)
    assert np.max(np.abs(x)) < 0.7
    seam = abs(x[0] - x[-1])
    assert seam <= np.max(np.abs(np.diff(x))), "the seam is no larger than any step inside"
    seconds = x.reshape(-1, 8_000)
    assert min(level_dbfs(s) for s in seconds) > -35, "never silent, so that nobody thinks the line is dead"


async def test_a_text_is_synthesised_once_and_then_comes_from_the_cache(speech: Speech) -> None:
    say = Say((Spoken("text", text="Bonjour, votre colis arrive demain matin."),), "fr")
    first = await speech.files(say)
    began = time.perf_counter()
    again = await speech.files(say)
    assert time.perf_counter() - began < 0.3
    assert again == first
    assert speech.synthesised == 1
    x = read(first[0])
    assert 1.5 < len(x) / 8_000 < 5
    assert -30 < level_dbfs(x) < -15


async def test_the_same_text_asked_for_by_many_at_once_is_made_once(speech: Speech) -> None:
    say = Say((Spoken("text", text="Only once, please."),), "en")
    found = await asyncio.gather(*(speech.files(say) for _ in range(20)))
    assert len({f[0] for f in found}) == 1
    assert speech.synthesised == 1


async def test_languages_have_voices_of_their_own(speech: Speech) -> None:
    one = await speech.files(Say((Spoken("text", text="Paris 2026"),), "fr"))
    two = await speech.files(Say((Spoken("text", text="Paris 2026"),), "en"))
    a, b = read(one[0]), read(two[0])
    assert len(a) != len(b)


async def test_a_recording_wins_over_its_text_and_a_site_s_own_over_ours(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "fr").mkdir(parents=True)
    (own / "fr" / "welcome.wav").write_bytes((SOUNDS / "fr" / "hold.wav").read_bytes())
    speech = Speech(sounds=[own, SOUNDS], cache=tmp_path / "cache")
    files = await speech.files(
        Say((Spoken("prompt", "welcome", text="Salut"), Spoken("prompt", "hold")), "fr")
    )
    assert files == [str(own / "fr" / "welcome.wav"), str(SOUNDS / "fr" / "hold.wav")]
    assert speech.missing(["fr", "en", "de"])[0] == ("apology", "de")
    assert speech.music("music.wav") == str(SOUNDS / "music.wav")
    assert speech.music("../prompts.yaml") is None
    await speech.close()


async def test_every_fixed_text_of_the_shipped_trees_can_be_prepared(speech: Speech) -> None:
    count = await speech.prepare(plant(shipped()[0]))
    assert count > 20
    made = speech.synthesised
    assert await speech.prepare(plant(shipped()[0])) == count
    assert speech.synthesised == made


def test_the_program_speaks_where_the_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, rate_hz = _program("Bonjour", "fr")
    assert rate_hz == 22_050
    assert len(telephone(samples, rate_hz)) > 2_000
    monkeypatch.setattr(Engine, "_library", None)
    monkeypatch.setattr(Engine, "_broken", True)
    assert len(Engine().speak("Bonjour", "fr")) > 2_000


def test_a_language_without_a_voice_is_refused_with_its_name() -> None:
    with pytest.raises(speech_module.CannotSpeak, match="xx"):
        Engine().speak("?", "xx")


def test_numbers_digits_and_durations_are_joined_from_recordings() -> None:
    def has(name: str, language: str) -> bool:
        return (name, language) in {("place", "fr"), ("number-7", "fr")}

    parts = (Spoken("prompt", "place"), Spoken("number", value="7"), Spoken("digits", value="73"))
    assert segments(Say((*parts, Spoken("duration", value="150")), "fr"), has) == [
        Recording("place", "fr"),
        Recording("number-7", "fr"),
        Recording("number-7", "fr"),
        Text("3", "fr"),
        Text("3 minutes", "fr"),
    ]


@pytest.mark.parametrize(
    ("seconds", "fr", "en"),
    [
        (0, "0 seconde", "0 seconds"),
        (1, "1 seconde", "1 second"),
        (40, "40 secondes", "40 seconds"),
        (60, "1 minute", "1 minute"),
        (95, "2 minutes", "2 minutes"),
        (4_800, "1 heure 20 minutes", "1 hour 20 minutes"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds: int, fr: str, en: str) -> None:
    assert (duration(seconds, "fr"), duration(seconds, "en")) == (fr, en)


def test_nobody_is_told_a_worse_place_than_before() -> None:
    waiting = Waiting()
    told = []
    for place in (5, 3, 4, 4, 3, 2, 6, 1, 1, 2, None):
        say = waiting.say(place, "fr")
        number = next((int(p.value) for p in say.parts if p.kind == "number"), None)
        told.append(1 if say.parts[0].name == "place-first" else number)
    assert told == [5, 3, None, None, 3, 2, None, 1, 1, None, None]
    assert waiting.worse == 2, "what was not told is there for the record"
