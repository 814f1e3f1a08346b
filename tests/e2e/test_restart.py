"""A server that starts again reaches the phones that were registered before, and no others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cti.aio.headless import HeadlessConsole
from softphone_bridge.aio.phone import Phone
from tests.e2e.hotline import DIRECT, PHONES, Hotline, direct_site
from tests.e2e.served import Served

LONG_S = 30.0
LEA_HZ = 700.0
REGISTERS = 'monofil_sip_total{what="register"}'


def served(folder: Path, database: str) -> Served:
    return Served(
        folder, site=direct_site(folder), env={"MONOFIL_DATABASE_URL": database, "MONOFIL_DRAIN_S": "1"}
    )


async def again(server: Served, end: Callable[[], Awaitable[object]]) -> None:
    """End the server and start it on the same ports."""
    server.env |= {
        "MONOFIL_HTTP_PORT": server.http.rpartition(":")[2],
        "MONOFIL_SIP_PORT": str(server.sip_port),
    }
    await end()
    await server.start()


async def stored(hotline: Hotline) -> bool:
    return bool(await hotline.sql("SELECT FROM phone_binding WHERE account = $1", PHONES["lea"]))


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_a_phone_rings_after_a_restart_without_having_registered_again(
    tmp_path: Path, database: str, how: str
) -> None:
    async with served(tmp_path, database) as server:
        password = await server.password("admin")
        async with HeadlessConsole(server.http, "admin", password) as admin:
            hotline = Hotline(server, admin, database)
            console, secret = await hotline.secrets("lea")
        async with Phone(user=PHONES["lea"], password=secret, server=hotline.sip, tone_hz=LEA_HZ) as phone:
            await phone.register()
            await hotline.until(lambda: stored(hotline), LONG_S)
            await again(server, server.kill if how == "killed" else server.stop)
            async with (
                HeadlessConsole(server.http, "lea", console) as lea,
                Phone(user="+33612345678") as caller,
            ):
                await lea.set_presence("ready")
                call = await caller.dial(hotline.uri(DIRECT))
                ringing = await phone.next_call(LONG_S)
                ringing.answer()
                await call.wait_tone(LEA_HZ, LONG_S)
                assert (await server.metrics()).get(REGISTERS, 0.0) == 0.0
                call.hang_up()
            await phone.unregister()

            async def gone() -> bool:
                return not await stored(hotline)

            await hotline.until(gone, LONG_S)
