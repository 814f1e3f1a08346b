"""The journey of config.journey with telephones written by others: baresip at the desk, and baresip in the pocket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config import journey
from config.journey import Journey
from media import tone
from tests.e2e.browser import Browser, needs_a_browser
from tests.e2e.city import City, open_city
from tests.e2e.hotline import LONG_S, a_moment
from tests.e2e.test_console import SIGNED_OUT
from tests.fakes.peers import Baresip
from tests.installed import needs

pytestmark = [pytest.mark.alone, pytest.mark.peer, pytest.mark.slow, needs("baresip")]

LEA_HZ, JEANNE_HZ = 700.0, 1150.0
NEAR_HZ = 10.0
LOUD = 500.0  # rms
CODECS = "audio_codecs=PCMU,PCMA"
STEP_S = 45.0


@dataclass
class Telephones:
    """Both ends as baresip. `jeanne` is what the trunk leads to, and is dialled from; `lea` answers whatever rings."""

    city: City
    jeanne: Baresip
    lea: Baresip

    async def rings(self, number: str) -> Talk:
        await self._invited(number)
        self.jeanne.command("accept")
        return Talk(self.jeanne, self.lea)

    async def ignores(self, number: str) -> None:
        await self._invited(number)
        self.jeanne.command("hangup")
        await self.lea.event("CALL_CLOSED")

    async def _invited(self, number: str) -> None:
        event = await self.jeanne.event("CALL_INCOMING")
        assert f"sip:{number}@" in str(event["accountaor"])

    async def dials(self, keys: str) -> Talk:
        self.jeanne.command("dial", f"sip:3631@{self.city.server.sip}")
        await self.jeanne.event("CALL_ESTABLISHED")
        self.jeanne.command("sndcode", keys)
        return Talk(self.jeanne, self.lea)


@dataclass
class Talk:
    jeanne: Baresip
    lea: Baresip

    async def hears(self, advisor: str) -> str:
        assert advisor == "lea"
        async with asyncio.timeout(LONG_S):
            while not sounds(heard := self.jeanne.hears(0.5), LEA_HZ):
                await a_moment()
        return f"Jeanne hears {tone.dominant_hz(heard):.0f} Hz at rms {tone.rms(heard):.0f}"

    async def hang_up(self) -> None:
        self.jeanne.command("hangup")

    async def spoke_to(self, advisor: str) -> str:
        assert advisor == "lea"
        await self.lea.event("CALL_CLOSED")
        heard = self.lea.hears()[:-800]
        assert sounds(heard, JEANNE_HZ), (tone.dominant_hz(heard), tone.rms(heard))
        return f"Léa heard {tone.dominant_hz(heard):.0f} Hz at rms {tone.rms(heard):.0f}"


def sounds(pcm: Any, hz: float) -> bool:
    return len(pcm) >= 3000 and abs(tone.dominant_hz(pcm) - hz) < NEAR_HZ and tone.rms(pcm) > LOUD


@contextlib.asynccontextmanager
async def desk_phone(city: City, login: str) -> AsyncIterator[Baresip]:
    """Registered by digest; it answers by itself what rings."""
    secret = await city.hotline.admin.post(f"/advisors/{login}/phone-password")
    account = f"<sip:{secret['account']}@{city.server.sip}>;auth_pass={secret['password']};regint=60"
    async with Baresip(f"{account};answermode=auto;{CODECS}", tone_hz=LEA_HZ) as phone:
        await city.hotline.until(lambda: city.hotline.reachable(login))
        yield phone


async def test_one_customer_writes_is_called_is_mailed_answers_and_dials_in_under_one_case(
    cluster: Any, tmp_path: Path
) -> None:  # acceptance 1
    needs_a_browser()
    began = time.monotonic()
    tmp_path.chmod(0o755)

    async def step(what: str, work: Awaitable[str]) -> None:
        print(f"{time.monotonic() - began:5.1f} s  {what}")
        print(f"         {await asyncio.wait_for(work, STEP_S)}")

    mobile = f"<sip:{journey.NUMBER}@127.0.0.1:{{port}}>;regint=0;answermode=manual;{CODECS}"
    async with (
        Baresip(mobile, tone_hz=JEANNE_HZ) as jeanne,
        open_city(
            tmp_path,
            cluster.address,
            organisation={"record_outgoing": True},
            trunks={"loopback": {"target": f"127.0.0.1:{jeanne.port};transport=udp"}},
        ) as city,
        city.signed_in("lea"),
        city.signed_in("karim"),
        city.signed_in("ines"),
        desk_phone(city, "lea") as lea,
    ):
        city.consoles["admin"] = city.hotline.admin
        _, evening, morning, later = city.moments
        whole = Journey(city, Telephones(city, jeanne, lea), step, evening, morning, later, city.mail_at)
        await whole.play()
        await step("all of it stands in one timeline on the screen", on_the_screen(city, whole.case))
        print(f"{time.monotonic() - began:5.1f} s  all true")


async def on_the_screen(city: City, case: str) -> str:
    """What a colleague sees who opens the case."""
    made = await city.hotline.admin.post("/advisors/nadia/password")
    async with Browser() as browser:
        page = await browser.open("nadia", city.http)
        await page.sign_in("nadia", made["password"])
        await page.goto(f"#/cases/{case}")
        said = (
            "pas arrivé",
            "tout de suite",
            "agence de Lyon",
            "était fermée",
            "sera ouverte",
            "Enquête ouverte",
        )
        await page.words("main", *said, "Jeanne Petit")
        shown = await page.run("document.querySelector('main').innerText")
        places = [shown.index(word) for word in said if word != "Enquête ouverte"]
        assert places == sorted(places) or places == sorted(places, reverse=True), "not in the order of time"
        assert await page.count("audio, .player") >= 1, "the recording can be heard"
        assert not [one for one in await page.complaints() if not SIGNED_OUT.search(one)]
    return f"{len(said)} sayings of four channels, and the recording"
