"""Rooms of three and more: everybody hears all the others, nobody himself."""

from __future__ import annotations

import numpy as np

from media.g711 import Pcm


def rooms(frames: Pcm) -> Pcm:
    """For each leg the clipped sum of the others in its room. frames: int16[rooms, legs, samples], 8 kHz."""
    others = frames.sum(axis=1, dtype=np.int32, keepdims=True) - frames
    mixed: Pcm = np.clip(others, -32768, 32767, out=others).astype(np.int16)
    return mixed


def total(frames: Pcm) -> Pcm:
    """The clipped sum of all rows: int16[samples]."""
    mixed: Pcm = np.clip(frames.sum(axis=0, dtype=np.int32), -32768, 32767).astype(np.int16)
    return mixed
