"""A child process that plays one advisor's hour until it is killed at the crash point that CRASH_AT names."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from routing import models as m
from softphone_bridge.events import Cause
from tests.cti.seat import seat


async def hour(database: str, folder: Path) -> None:
    """One call through every crash point of call control: answered, held, lost, answered again, ended."""
    async with seat(database, folder) as at:
        call, caller, leg = await at.talks()
        await at.control.hold(call, "a1")
        await at.control.resume(call, "a1")
        await at.line.ready("a2")
        at.switch.end(leg, Cause.NO_MEDIA)
        again = await at.rings(call, 3)
        at.switch.pick_up(again)
        await at.switch.until(lambda: at.switch.legs[caller].joined == again)
        other = await at.waiting.call("+33699887766")
        at.switch.end(caller)
        await at.control.settled()
        await at.line.tell(m.WrapupDone, interaction=call, by="a2")
        at.switch.end(at.waiting.legs[other])
        await at.control.settled()
    print("the hour is over")


if __name__ == "__main__":
    asyncio.run(hour(sys.argv[1], Path(sys.argv[2])))
