"""What a caller really hears: a whole server, RTP, keys as telephone-events (V3, V4, V5, V15)."""

from __future__ import annotations

import asyncio
import time
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from softphone_bridge.aio.phone import Call, Phone
from tests.e2e.served import Served, open_site
from tests.ivr.walks import SOUNDS

BEGIN = 2_400  # samples of a recording's beginning that make it known: 300 ms
ALIKE = 0.8
STOPS_WITHIN_S = 0.2


def beginning(name: str, language: str = "fr") -> npt.NDArray[np.float64]:
    path = SOUNDS / f"{name}.wav" if name == "music" else SOUNDS / language / f"{name}.wav"
    with wave.open(str(path)) as w:
        return np.frombuffer(w.readframes(BEGIN), dtype="<i2").astype(float)


async def until_heard(call: Call, known: npt.NDArray[np.float64], within_s: float = 10.0) -> float:
    """When (monotonic) the recording began, once its beginning has been heard."""
    size = np.sqrt(np.sum(known**2))
    async with asyncio.timeout(within_s):
        while True:
            await call.sound.wait()
            heard = call.heard(1.0).astype(float)
            if len(heard) < len(known):
                continue
            product = np.correlate(heard, known, mode="valid")
            power = np.convolve(heard**2, np.ones(len(known)), mode="valid")
            alike = product / (np.sqrt(np.maximum(power, 1.0)) * size)
            at = int(np.argmax(alike))
            if alike[at] > ALIKE:
                return time.monotonic() - (len(heard) - at) / 8_000


@pytest.mark.slow
async def test_a_caller_hears_the_tree_stops_it_by_key_and_waits_with_music(
    database: str, tmp_path: Path
) -> None:
    site = open_site(tmp_path)
    async with (
        Served(tmp_path, site=site, env={"MONOFIL_DATABASE_URL": database}) as server,
        Phone(user="+33612345678") as phone,
    ):
        began = time.monotonic()
        call = await phone.dial(f"sip:3631@{server.sip}")
        first = await until_heard(call, beginning("welcome")) - began
        pressed = time.monotonic()
        await call.press("2")
        stopped = await until_heard(call, beginning("recording", "en")) - pressed
        await call.press("2")
        music = await until_heard(call, beginning("music"), within_s=20) - pressed
        place = await until_heard(call, beginning("place-first", "en"), within_s=20)
        print(
            f"first word {first:.3f} s after dialling, key to next words {stopped:.3f} s, music {music:.3f} s"
        )
        assert first < 2.0
        assert stopped < STOPS_WITHIN_S + 0.1, "a key lasts up to 100 ms itself"
        assert place > pressed
        call.hang_up()
        await call.wait_ended()
