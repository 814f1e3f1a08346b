"""WAV files: 8 kHz mono int16 read with distrust, stereo written with a header right at every flush."""

from __future__ import annotations

import struct

import numpy as np

from media.g711 import Pcm

RATE_HZ = 8000
HEADER_BYTES = 44
MAX_BYTES = 64 * 1024 * 1024  # ours: more than an hour of a prompt; what is longer is no prompt
MAX_CHUNKS = 64
_PCM, _EXTENSIBLE = 1, 0xFFFE


class NotWav(ValueError):
    """This is not a WAV file that we play; the text says why."""


def read(data: bytes) -> Pcm:
    """The samples of a WAV file, 8 kHz mono int16. Believes no size in it. Raises NotWav."""
    if len(data) > MAX_BYTES:
        raise NotWav("file is too large")
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise NotWav("not RIFF WAVE")
    at, known = 12, False
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + size]
        if name == b"fmt ":
            _check_format(body)
            known = True
        elif name == b"data":
            if not known:
                raise NotWav("sound before its format")
            return np.frombuffer(body[: len(body) & ~1], "<i2").astype(np.int16)
        at += 8 + size + (size & 1)
    raise NotWav("no sound in it")


def _check_format(body: bytes) -> None:
    if len(body) < 16:
        raise NotWav("format is cut off")
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if code == _EXTENSIBLE and len(body) >= 26:
        code = int.from_bytes(body[24:26], "little")
    if code != _PCM:
        raise NotWav(f"format {code} is not PCM")
    if channels != 1:
        raise NotWav(f"{channels} channels, not 1")
    if rate != RATE_HZ:
        raise NotWav(f"{rate} Hz, not {RATE_HZ}")
    if bits != 16:
        raise NotWav(f"{bits} bits, not 16")


def header(frames: int, channels: int = 1) -> bytes:
    """The 44 bytes before `frames` frames of int16 at 8 kHz."""
    size = frames * channels * 2
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        size + HEADER_BYTES - 8,
        b"WAVE",
        b"fmt ",
        16,
        _PCM,
        channels,
        RATE_HZ,
        RATE_HZ * channels * 2,
        channels * 2,
        16,
        b"data",
        size,
    )


def mono(pcm: Pcm) -> bytes:
    """A whole mono file."""
    return header(len(pcm)) + np.ascontiguousarray(pcm, "<i2").tobytes()


def interleave(left: Pcm, right: Pcm) -> bytes:
    """Two sides of equal length as the data of a stereo file."""
    both = np.empty((len(left), 2), "<i2")
    both[:, 0] = left
    both[:, 1] = right
    return both.tobytes()


def read_stereo(data: bytes) -> tuple[Pcm, Pcm]:
    """The two sides of a file written here. Raises NotWav."""
    if len(data) < HEADER_BYTES or data[:HEADER_BYTES] != header((len(data) - HEADER_BYTES) // 4, 2):
        raise NotWav("header does not fit the file")
    both = np.frombuffer(data, "<i2", offset=HEADER_BYTES, count=(len(data) - HEADER_BYTES) // 4 * 2)
    sides = both.reshape(-1, 2).astype(np.int16)
    return sides[:, 0], sides[:, 1]
