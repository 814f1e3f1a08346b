"""The worker and its link on the loop that the server runs on."""

from __future__ import annotations

import os
import signal

import uvloop

from media.aio.link import WorkerLost
from tests.media.phone import House


def test_a_call_and_a_dead_worker_are_the_same_on_uvloop() -> None:
    async def call() -> None:
        async with House() as house:
            ana, bob = await house.leg("a"), await house.leg("b")
            house.link.join("a", "b")
            ana.speak(500)
            await bob.hears_tone(500)
            os.kill(house.link.pids[0], signal.SIGKILL)
            assert (await house.told(WorkerLost))[0].legs == ("a", "b")
            await house.restarted()
            await house.link.open("c")

    uvloop.run(call())
