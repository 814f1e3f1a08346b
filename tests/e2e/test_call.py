"""A caller dials, walks the tree, waits, talks with the right advisor; it ends as a case with a history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.aio.headless import HeadlessConsole
from softphone_bridge.aio.phone import Phone
from tests.e2e.served import Served, open_site

pytestmark = pytest.mark.alone

CALLER_HZ, ADVISOR_HZ = 440.0, 700.0


@pytest.fixture
async def server(tmp_path: Path, database: str) -> AsyncIterator[Served]:
    site = open_site(tmp_path, queues={"reclamations": {"announce_every": "10s"}})
    async with Served(tmp_path, site=site, env={"MONOFIL_DATABASE_URL": database}) as served:
        yield served


async def test_a_call_walks_the_tree_pops_and_is_talked_through_both_ways(server: Served) -> None:
    admin_password = await server.password("admin")
    async with HeadlessConsole(server.http, "admin", admin_password) as admin:
        lea_password = (await admin.post("/advisors/lea/password"))["password"]
        phone_password = (await admin.post("/advisors/lea/phone-password"))["password"]
        async with (
            Phone(
                user="101",
                password=phone_password,
                server=(server.sip_host, server.sip_port),
                tone_hz=ADVISOR_HZ,
            ) as desk_phone,
            Phone(user="+33612345678", tone_hz=CALLER_HZ) as caller,
            HeadlessConsole(server.http, "lea", lea_password) as lea,
        ):
            await desk_phone.register()
            await lea.wait_for("presence.changed", lambda p: p["advisor"] == "lea" and p["phone_registered"])
            await lea.set_presence("ready")

            call = await caller.dial(f"sip:3631@{server.sip}")
            await call.press("12")
            offered = await lea.wait_for("offer.made", within_s=20)
            ringing = await desk_phone.next_call()
            pop = offered["data"]["pop"]
            assert pop["e164"] == "+33612345678"
            assert [step["node"] for step in pop["path"]][:1] == ["language"]
            assert pop["queue"]["id"] == "reclamations"
            ringing.answer()
            await lea.wait_for("interaction.changed", lambda i: i["state"] == "active")
            heard = await asyncio.gather(
                call.wait_tone(ADVISOR_HZ, timeout_s=15), ringing.wait_tone(CALLER_HZ, timeout_s=15)
            )
            assert all(figures.rms > 500 for figures in heard)

            interaction = offered["data"]["interaction"]["id"]
            await lea.post(f"/interactions/{interaction}/hold")
            await lea.wait_for("interaction.changed", lambda i: i["held"])
            await lea.post(f"/interactions/{interaction}/resume")
            await call.wait_tone(ADVISOR_HZ)

            call.hang_up()
            await lea.wait_for("interaction.changed", lambda i: i["state"] == "wrapup")
            await ringing.wait_ended()
            await lea.post(
                f"/interactions/{interaction}/wrapup", {"code": "colis_retrouve", "note": "Retrouvé à Lyon."}
            )
            done = await lea.wait_for("interaction.changed", lambda i: i["state"] == "ended")
            case = await lea.get(f"/cases/{done['data']['case']}")
            assert case["state"] == "solved"
            assert {"call", "note", "tree"} <= {item["kind"] for item in case["timeline"]}
            assert not [line for line in server.lines() if line.get("level") in ("error", "critical")]
