"""Tones made and measured: what tests, the demo and the headless phone say and hear. int16 at 8 kHz."""

from __future__ import annotations

import numpy as np

from media import g711
from media.g711 import Pcm

RATE_HZ = 8000


def sine(frequency_hz: float, duration_ms: int, *, level: float = 0.5) -> Pcm:
    """A sine with `level` of full scale as its peak."""
    at = np.arange(RATE_HZ * duration_ms // 1000)
    return np.round(np.sin(2 * np.pi * frequency_hz * at / RATE_HZ) * level * 32767).astype(np.int16)


def encoded(frequency_hz: float, ms: int, payload_type: int = g711.PCMU, *, level: float = 0.5) -> bytes:
    """The same in G.711."""
    return g711.encode(sine(frequency_hz, ms, level=level), payload_type)


def dominant_hz(pcm: Pcm) -> float:
    """The strongest frequency, to about 1 Hz for a second of sound; 0 for silence."""
    if len(pcm) < 2 or silent(pcm, rms_limit=1.0):
        return 0.0
    power = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), n=max(len(pcm), RATE_HZ)))
    power[0] = 0.0
    return float(np.argmax(power)) * RATE_HZ / max(len(pcm), RATE_HZ)


def share(pcm: Pcm, frequency_hz: float, *, width_hz: float = 20.0) -> float:
    """How much of the sound's energy is within `width_hz` of a frequency, 0 to 1."""
    power = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)))) ** 2
    at = np.fft.rfftfreq(len(pcm), 1 / RATE_HZ)
    whole = float(power.sum())
    return float(power[np.abs(at - frequency_hz) <= width_hz].sum()) / whole if whole else 0.0


def rms(pcm: Pcm) -> float:
    """Root mean square in units of int16."""
    return float(np.sqrt(np.mean(np.square(pcm, dtype=np.float64)))) if len(pcm) else 0.0


def silent(pcm: Pcm, *, rms_limit: float = 50.0) -> bool:
    """Quieter than about -56 dBov."""
    return rms(pcm) < rms_limit
