"""Prompts as WAV files: recordings by name and language, else text synthesised by espeak-ng and kept (V3).

The library is the one that espeakng-loader carries, called through our own ctypes; it has one voice at a time and
global state, so one thread does all synthesis of a process. Where it cannot be loaded, the program `espeak-ng` is used.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import io
import os
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from ivr.events import Say, Spoken
from ivr.tree import (
    CollectNode,
    Forest,
    HangupNode,
    LanguageNode,
    LookupNode,
    MenuNode,
    QueueNode,
    SayNode,
    TransferNode,
    Words,
)
from ivr.voice import Recording, segments

RATE_HZ = 8_000
WORDS_PER_MINUTE = 155
LEVEL_DBFS = -20.0  # of the spoken parts, near what telephone announcements have
PEAK = 0.85
QUIET = 0.01  # of full scale: below this at either end is cut
EDGE_S = 0.06  # kept at either end
TEXT_BYTES = 8_000
CACHED_FILES = 5_000  # the oldest go beyond this
SPEAK_TIMEOUT_S = 10.0

AUDIO_OUTPUT_SYNCHRONOUS = 2
ESPEAK_RATE = 1
ESPEAK_CHARS_UTF8 = 1
ESPEAK_DONT_EXIT = 0x8000

Pcm = npt.NDArray[np.int16]


class CannotSpeak(Exception):
    """No engine could say the text."""


class _Library:
    """libespeak-ng through ctypes; all calls from one thread."""

    def __init__(self) -> None:
        import espeakng_loader

        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())  # type: ignore[no-untyped-call]
        self._blocks: list[bytes] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._collect = kind(self._collected)
        data = Path(espeakng_loader.get_data_path())  # type: ignore[no-untyped-call]
        self.rate_hz = int(
            self._lib.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(data), ESPEAK_DONT_EXIT)
        )
        if self.rate_hz <= 0:
            raise CannotSpeak("espeak_Initialize failed")
        self._lib.espeak_SetSynthCallback(self._collect)
        self._lib.espeak_SetParameter(ESPEAK_RATE, WORDS_PER_MINUTE, 0)

    def _collected(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._blocks.append(ctypes.string_at(samples, count * 2))
        return 0

    def speak(self, text: str, voice: str) -> tuple[Pcm, int]:
        """int16[n] at the library's rate, and that rate in Hz."""
        self._blocks.clear()
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise CannotSpeak(f"no voice {voice!r}")
        data = text.encode()[:TEXT_BYTES]
        buffer = ctypes.create_string_buffer(data)
        done = self._lib.espeak_Synth(
            buffer, ctypes.c_size_t(len(data) + 1), 0, 1, 0, ESPEAK_CHARS_UTF8, None, None
        )
        if done != 0 or self._lib.espeak_Synchronize() != 0:
            raise CannotSpeak("espeak_Synth failed")
        return np.frombuffer(b"".join(self._blocks), dtype="<i2"), self.rate_hz


def _program(text: str, voice: str) -> tuple[Pcm, int]:
    """As `_Library.speak`, by the program."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise CannotSpeak("neither libespeak-ng nor the program espeak-ng is here")
    command = [program, "--stdin", "--stdout", "-v", voice, "-s", str(WORDS_PER_MINUTE)]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=text.encode()[:TEXT_BYTES],
            capture_output=True,
            timeout=SPEAK_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as e:
        raise CannotSpeak(f"espeak-ng: {e}") from None
    header = done.stdout.find(b"data")
    if header < 0:
        raise CannotSpeak("espeak-ng gave no sound")
    rate_hz = int.from_bytes(done.stdout[24:28], "little")
    body = done.stdout[header + 8 :]
    return np.frombuffer(body[: len(body) & ~1], dtype="<i2"), rate_hz


def telephone(samples: Pcm, rate_hz: int) -> Pcm:
    """int16[n] at 8 kHz: resampled, silence at the ends cut, spoken level set to LEVEL_DBFS."""
    x = soxr.resample(samples.astype(np.float32) / 32768.0, rate_hz, RATE_HZ)
    loud = np.flatnonzero(np.abs(x) > QUIET)
    if not len(loud):
        return np.zeros(0, dtype=np.int16)
    edge = int(EDGE_S * RATE_HZ)
    x = x[max(0, loud[0] - edge) : loud[-1] + edge]
    spoken = x[np.abs(x) > QUIET]
    gain = 10 ** (LEVEL_DBFS / 20) / float(np.sqrt(np.mean(spoken**2)))
    gain = min(gain, PEAK / float(np.max(np.abs(x))))
    return np.clip(x * gain * 32768.0, -32768, 32767).astype(np.int16)


def wav(pcm: Pcm) -> bytes:
    """An 8 kHz mono WAV file of int16[n]."""
    out = io.BytesIO()
    with wave.open(out, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(RATE_HZ)
        w.writeframes(pcm.astype("<i2").tobytes())
    return out.getvalue()


def write_whole(path: Path, data: bytes) -> None:
    """Write `path` so that nobody ever reads a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Engine:
    """Speaks text; not for more than one thread at a time."""

    _library: _Library | None = None
    _broken = False

    def speak(self, text: str, language: str) -> Pcm:
        """int16[n] at 8 kHz. Raises CannotSpeak."""
        if Engine._library is None and not Engine._broken:
            try:
                Engine._library = _Library()
            except Exception:
                Engine._broken = True
        if Engine._library is not None:
            samples, rate_hz = Engine._library.speak(text, language)
        else:
            samples, rate_hz = _program(text, language)
        return telephone(samples, rate_hz)


# The library's state is the process's, so its thread is too; it ends with the last Speech.
class _Thread:
    pool: ThreadPoolExecutor | None = None
    users = 0


class Speech:
    """Turns a Say into WAV files, ready to be played one after another."""

    def __init__(self, *, sounds: Sequence[Path], cache: Path) -> None:
        """`sounds`: folders with `LANGUAGE/NAME.wav` and music, the first that has one wins; `cache` is ours."""
        self._sounds = tuple(sounds)
        self._cache = cache
        self._recordings: dict[tuple[str, str], str] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._written = 0
        self.synthesised = 0
        self.rescan()
        if _Thread.pool is None:
            _Thread.pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="speech")
        _Thread.users += 1

    def rescan(self) -> None:
        """Find the recordings anew."""
        found: dict[tuple[str, str], str] = {}
        for folder in reversed(self._sounds):
            for path in sorted(folder.glob("??/*.wav")):
                found[(path.stem, path.parent.name)] = str(path)
        self._recordings = found

    def recorded(self) -> dict[str, frozenset[str]]:
        """Recording -> languages, as `ivr.tree.Context.prompts` wants it."""
        found: dict[str, set[str]] = {}
        for name, language in self._recordings:
            found.setdefault(name, set()).add(language)
        return {name: frozenset(languages) for name, languages in found.items()}

    def recording(self, name: str, language: str) -> str | None:
        """Path of a recording in the language, else in any that has it; None when there is none."""
        found = self._recordings.get((name, language))
        if found is None:
            found = next((p for (n, _), p in sorted(self._recordings.items()) if n == name), None)
        return found

    def missing(self, languages: Iterable[str]) -> list[tuple[str, str]]:
        """(recording, language) of each recording that some of the languages lack."""
        wanted = sorted(set(languages))
        return [(n, x) for n, have in sorted(self.recorded().items()) for x in wanted if x not in have]

    def music(self, name: str) -> str | None:
        """Path of a piece of music in the sounds' folders; None when it is not there."""
        for folder in self._sounds:
            path = folder / name
            if path.parent == folder and path.is_file():
                return str(path)
        return None

    async def files(self, say: Say) -> list[str]:
        """Paths of WAV files (8 kHz mono int16), synthesised first where they are missing. Raises CannotSpeak."""
        made = []
        for segment in segments(say, lambda name, language: (name, language) in self._recordings):
            if isinstance(segment, Recording):
                made.append(self._recordings[(segment.name, segment.language)])
            else:
                made.append(await self._spoken(segment.text, segment.language))
        return made

    async def prepare(self, forest: Forest) -> int:
        """Synthesise every text that is the same for all callers, before the first call; returns how many there are."""
        count = 0
        for tree in forest.trees.values():
            for words in _all_words(tree.nodes.values()):
                for part in words:
                    for language, text in part.texts.items():
                        if "{" not in text and (part.name, language) not in self._recordings:
                            count += 1
                            await self.files(Say((Spoken("text", text=text),), language))
        return count

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        _Thread.users -= 1
        if _Thread.users == 0 and _Thread.pool is not None:
            pool, _Thread.pool = _Thread.pool, None
            pool.shutdown(wait=True)

    async def _spoken(self, text: str, language: str) -> str:
        key = hashlib.sha256(f"1|{language}|{WORDS_PER_MINUTE}|{text}".encode()).hexdigest()
        path = self._cache / key[:2] / f"{key[:40]}.wav"
        name = str(path)
        if path.exists():
            return name
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._synthesise(text, language, path))
            self._under_way[name] = task
            task.add_done_callback(
                lambda t: (self._under_way.pop(name, None), t.cancelled() or t.exception())
            )
        await asyncio.shield(task)
        return name

    async def _synthesise(self, text: str, language: str, path: Path) -> None:
        assert _Thread.pool is not None, "closed"

        def work() -> None:
            write_whole(path, wav(Engine().speak(text, language)))

        await asyncio.get_running_loop().run_in_executor(_Thread.pool, work)
        self.synthesised += 1
        self._written += 1
        if self._written % 500 == 0:
            await asyncio.get_running_loop().run_in_executor(_Thread.pool, self._prune)

    def _prune(self) -> None:
        files = sorted(self._cache.glob("??/*.wav"), key=lambda p: p.stat().st_mtime)
        for path in files[: max(0, len(files) - CACHED_FILES)]:
            path.unlink(missing_ok=True)


def _all_words(nodes: Iterable[object]) -> Iterable[Words]:
    for node in nodes:
        match node:
            case MenuNode():
                yield from (node.say, node.no_input, node.no_match)
            case CollectNode():
                yield from (node.say, node.no_input, node.no_match, node.read_back)
            case SayNode() | QueueNode() | LanguageNode() | TransferNode() | HangupNode() | LookupNode():
                yield node.say
            case _:
                pass
