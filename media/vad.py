"""Voice activity of a leg: heard, or silent and for how long.

WebRTC's detector judges each 20 ms; a hangover keeps the pauses between words from counting as silence.
"""

from __future__ import annotations

from dataclasses import dataclass

import webrtcvad

from media.g711 import Pcm
from media.rtp import CLOCK_HZ, FRAME_SAMPLES

ONSET_FRAMES = 3  # ours: 60 ms of voice in a row begin speech, so a click does not
HANGOVER_S = 0.6  # ours: longer than a pause within a sentence
REMIND_S = 5.0  # ours: how often lasting silence is told again
FRAME_S = FRAME_SAMPLES / CLOCK_HZ
FLOOR = 64  # ours: a peak below -54 dBov is never voice, and costs nothing to tell


@dataclass(frozen=True, slots=True)
class Voice:
    heard: bool
    silent_s: float


class Ear:
    """Told 20 ms at a time, tells changes; silence again every `REMIND_S`."""

    __slots__ = ("_detector", "_remind_s", "_run", "_silent_s", "heard")

    def __init__(self, aggressiveness: int = 2) -> None:
        self._detector = webrtcvad.Vad(aggressiveness)  # type: ignore[no-untyped-call]
        self.heard = False
        self._run = 0
        self._silent_s = 0.0
        self._remind_s = HANGOVER_S

    def hear(self, pcm: Pcm | None) -> Voice | None:
        """pcm: int16[160], or None when nothing came in this tick."""
        voiced = (
            pcm is not None
            and (int(pcm.max()) > FLOOR or int(pcm.min()) < -FLOOR)
            and bool(self._detector.is_speech(pcm.tobytes(), CLOCK_HZ))  # type: ignore[no-untyped-call]
        )
        if voiced:
            self._run += 1
            if self.heard:
                self._silent_s = 0.0
                return None
            if self._run < ONSET_FRAMES:
                self._silent_s += FRAME_S
                return None
            silent, self._silent_s = self._silent_s, 0.0
            self.heard, self._remind_s = True, HANGOVER_S
            return Voice(True, round(silent, 2))
        self._run = 0
        self._silent_s += FRAME_S
        if self._silent_s + 1e-9 < self._remind_s:
            return None
        self.heard = False
        self._remind_s = REMIND_S if self._remind_s == HANGOVER_S else self._remind_s + REMIND_S
        return Voice(False, round(self._silent_s, 2))
