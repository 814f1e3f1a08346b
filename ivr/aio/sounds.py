"""Builds the sounds that ship: `python -m ivr.aio.sounds FOLDER` speaks FOLDER/prompts.yaml and composes music.wav."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from ivr.aio.speech import RATE_HZ, Engine, Pcm, wav, write_whole
from ivr.voice import RECORDED_TO

MUSIC_S = 24.0
MUSIC_DBFS = -22.0
BEAT_S = 0.75
# Four bars of four beats, twice: F major 7, D minor 7, B flat major 7, C 9 (suspended); MIDI notes.
CHORDS = ((53, 60, 64, 69), (50, 57, 60, 65), (46, 53, 57, 62), (48, 55, 58, 62))
MELODY = (
    (72, 0, 69, 0, 74, 72, 69, 0),
    (69, 0, 65, 0, 67, 69, 65, 0),
    (65, 67, 69, 0, 74, 0, 72, 0),
    (70, 0, 67, 0, 69, 67, 64, 0),
)


def _tone(midi: int, seconds: float, attack_s: float, decay_s: float) -> np.ndarray:
    """float[n]: a soft tone of three partials."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    hz = 440.0 * 2 ** ((midi - 69) / 12)
    body = np.sin(2 * np.pi * hz * t) + 0.25 * np.sin(4 * np.pi * hz * t) + 0.08 * np.sin(6 * np.pi * hz * t)
    envelope = np.minimum(1.0, t / attack_s) * np.exp(-t / decay_s) * np.minimum(1.0, (seconds - t) / 0.05)
    return np.asarray(body * envelope)


def music() -> Pcm:
    """int16[n] at 8 kHz: a calm loop; what rings at its end is laid over its beginning, so that no seam is heard."""
    length = int(MUSIC_S * RATE_HZ)
    track = np.zeros(length + 6 * RATE_HZ)
    bar_s = 4 * BEAT_S
    for bar in range(int(MUSIC_S / bar_s)):
        chord = CHORDS[bar % 4]
        for i, note in enumerate(chord):
            at = int((bar * bar_s + 0.04 * i) * RATE_HZ)
            sound = 0.5 * _tone(note, bar_s + 1.2, 0.35, 2.5)
            track[at : at + len(sound)] += sound
        for i, note in enumerate(MELODY[bar % 4]):
            if note and not (bar >= 4 and i in (1, 5)):
                at = int((bar * bar_s + i * BEAT_S / 2) * RATE_HZ)
                sound = 0.45 * _tone(note - (12 if bar >= 6 else 0), 1.8, 0.02, 0.6)
                track[at : at + len(sound)] += sound
    loop = track[:length].copy()
    loop[: len(track) - length] += track[length:]
    loop *= 10 ** (MUSIC_DBFS / 20) / np.sqrt(np.mean(loop**2))
    return np.asarray(np.clip(loop * 32768, -32768, 32767), dtype=np.int16)


def build(folder: Path) -> int:
    """Write every sound; returns the bytes written."""
    texts = YAML(typ="safe").load((folder / "prompts.yaml").read_text("utf-8"))
    engine = Engine()
    total = 0
    for words in texts.values():
        words.pop("written", None)  # what a chat says in its place
    for name, words in texts.items():
        for language, text in words.items():
            data = wav(engine.speak(text, language))
            write_whole(folder / language / f"{name}.wav", data)
            total += len(data)
    for language in sorted({x for words in texts.values() for x in words}):
        for number in range(RECORDED_TO + 1):
            data = wav(engine.speak(str(number), language))
            write_whole(folder / language / f"number-{number}.wav", data)
            total += len(data)
    data = wav(music())
    write_whole(folder / "music.wav", data)
    return total + len(data)


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(sys.argv[1])):,} bytes of sounds in {sys.argv[1]}\n")
