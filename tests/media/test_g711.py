"""G.711: every value against the standard's own words, written down a second time."""

from __future__ import annotations

import numpy as np

from media import g711, tone
from media.g711 import PCMA, PCMU


def ulaw(sample: int) -> int:
    """G.711 table 2, by search: segments of 16 steps, each twice as wide as the last, biased by 33."""
    value = sample >> 2
    negative, magnitude = value < 0, min(abs(value), 8158)
    segment = 0
    while magnitude + 33 >= 64 << segment:
        segment += 1
    step = (magnitude + 33 - (32 << segment)) // (2 << segment)
    code = 16 * segment + step
    return (0x7F if negative else 0xFF) - code


def alaw(sample: int) -> int:
    """G.711 table 1, by search; sign bit 1 is positive, even bits inverted."""
    value = sample >> 3
    negative = value < 0
    magnitude = -value - 1 if negative else value
    edges = [0, 32, 64, 128, 256, 512, 1024, 2048, 4096]
    segment = next(index for index in range(8) if magnitude < edges[index + 1])
    step = (magnitude - edges[segment]) * 16 // (edges[segment + 1] - edges[segment])
    return (16 * segment + step | (0 if negative else 0x80)) ^ 0x55


def test_all_65536_samples_become_the_codes_of_the_standard() -> None:
    samples = np.arange(-32768, 32768, dtype=np.int16)
    for payload_type, formula in ((PCMU, ulaw), (PCMA, alaw)):
        wanted = bytes(formula(int(sample)) for sample in samples)
        assert g711.encode(samples, payload_type) == wanted


def test_every_code_is_its_own_again() -> None:
    codes = bytes(range(256))
    assert g711.encode(g711.decode(codes, PCMA), PCMA) == codes
    again = g711.encode(g711.decode(codes, PCMU), PCMU)
    assert [code for code in range(256) if again[code] != code] == [0x7F]  # minus nought is nought


def test_the_sign_bit_of_a_law_means_positive() -> None:
    assert g711.decode(b"\xd5\x55", PCMA).tolist() == [8, -8]
    assert g711.decode(b"\xff\x00\x80", PCMU).tolist() == [0, -32124, 32124]


def test_levels_are_kept_within_a_step() -> None:
    samples = np.arange(-32768, 32768, dtype=np.int16)
    for payload_type in (PCMU, PCMA):
        error = np.abs(g711.decode(g711.encode(samples, payload_type), payload_type).astype(int) - samples)
        assert (error <= np.abs(samples.astype(int)) / 16 + 16).all()


def test_one_law_becomes_the_other_and_silence_stays_silence() -> None:
    said = tone.encoded(440, 500, PCMU)
    heard = g711.decode(said.translate(g711.TRANSLATION[PCMU, PCMA]), PCMA)
    assert tone.share(heard, 440) > 0.99
    for source, target in ((PCMU, PCMA), (PCMA, PCMU)):
        quiet = bytes([g711.SILENCE[source]]).translate(g711.TRANSLATION[source, target])
        assert abs(int(g711.decode(quiet, target)[0])) <= 8
