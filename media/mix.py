"""Rooms of three and more: everybody hears all the others, nobody himself."""

from __future__ import annotations

import numpy as np

from media.g711 import Pcm


def minus(frames: Pcm) -> Pcm:
    """For each row the clipped sum of the other rows. frames: int16[legs, samples], 8 kHz."""
    whole = frames.sum(axis=0, dtype=np.int32)
    mixed: Pcm = np.clip(whole - frames, -32768, 32767).astype(np.int16)
    return mixed


def total(frames: Pcm) -> Pcm:
    """The clipped sum of all rows: int16[samples]."""
    mixed: Pcm = np.clip(frames.sum(axis=0, dtype=np.int32), -32768, 32767).astype(np.int16)
    return mixed
