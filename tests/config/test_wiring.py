"""The parts of the running server that belong to the wiring itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from config.settings import load
from config.wiring import Hotline
from routing.site import Site
from routing.store import SiteVersion

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class _SlowAccounts:
    """Phone secrets in a table that changes while it is being read; each reading ends when it is told to."""

    def __init__(self) -> None:
        self.stored = 1
        self.readings: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def revision(self) -> tuple[int, datetime | None]:
        return self.stored, None

    async def secrets(self) -> Any:
        read, end = self.stored, asyncio.Event()
        self.readings.put_nowait(end)
        await end.wait()
        return {"phone": read}


async def test_an_older_look_at_the_secrets_never_takes_back_what_a_newer_one_found(tmp_path: Path) -> None:
    first = SiteVersion(1, LONG_AGO, "", Site("x", "X"))
    hotline = Hotline(load({"MONOFIL_DATA_DIR": str(tmp_path)}), UUID(int=1), first)
    accounts = _SlowAccounts()
    hotline.stores = cast(Any, SimpleNamespace(accounts=accounts))
    forgotten: list[str] = []
    hotline.sip = cast(Any, SimpleNamespace(forget=forgotten.append))
    older = asyncio.create_task(hotline._look_at_secrets())
    old_reading = await asyncio.wait_for(accounts.readings.get(), 5)
    accounts.stored = 2
    newer = asyncio.create_task(hotline._look_at_secrets())
    try:  # were both looking at once, the newer would end first
        (await asyncio.wait_for(accounts.readings.get(), 0.05)).set()
        await asyncio.wait_for(newer, 5)
        old_reading.set()
    except TimeoutError:
        old_reading.set()
        (await asyncio.wait_for(accounts.readings.get(), 5)).set()
    await asyncio.wait_for(asyncio.gather(older, newer), 5)
    assert cast(Any, hotline.now.secrets) == {"phone": 2}
    assert forgotten == ["phone"]  # who proved the first password
