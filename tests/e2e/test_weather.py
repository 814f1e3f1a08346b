"""Bad weather round a whole server: a flood, a line that loses, a look-up that fails, and the order to stop."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from softphone_bridge.aio.phone import CallFailed, Phone
from tests.e2e.hotline import DIRECT, LONG_S, Hotline, a_moment, direct_site, open_hotline
from tests.fakes.lossy import Lossy
from tests.fakes.peers import CALL, free_port, sipp
from tests.installed import needs

pytestmark = [pytest.mark.alone, pytest.mark.asyncio(loop_scope="module")]

CALLER, STRANGER = "127.0.0.3", "127.0.0.9"
FINAL = ("interaction.ended", "interaction.abandoned", "interaction.interrupted")
LOOKUP_S = 0.5
ANSWERS = {  # what the server does -> the number that asks it, the exit that the tree must take
    "good": ("4101", "ok"),
    "slow": ("4102", "timeout"),
    "html": ("4103", "error"),
    "broken": ("4104", "error"),
    "nothing": ("4105", "empty"),
    "down": ("4106", "error"),
}


def asking(name: str, url: str) -> dict[str, Any]:
    end = {"kind": "hangup", "say": "goodbye", "outcome": "served"}
    return {
        "tree": name,
        "title": name,
        "languages": ["fr", "en"],
        "start": "look",
        "nodes": {
            "look": {
                "kind": "lookup",
                "url": url,
                "into": "found",
                "timeout_s": LOOKUP_S,
                "exits": {"ok": "end", "empty": "end", "timeout": "end", "error": "end"},
            },
            "end": end,
        },
    }


class Shop:
    """The server that trees ask, in all its moods."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.patience = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        response = await self._in_mood(request)
        response.force_close()
        return response

    async def _in_mood(self, request: web.Request) -> web.Response:
        mood = request.match_info["mood"]
        self.asked.append(mood)
        if mood == "slow":
            await self.patience.wait()
        if mood == "html":
            return web.Response(text="<html>Sorry!</html>", content_type="text/html")
        if mood == "broken":
            return web.Response(body=b'{"status": ', content_type="application/json")
        if mood == "nothing":
            return web.Response(status=404)
        return web.json_response({"status": "transit"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[tuple[Shop, int]]:
    held = Shop()
    app = web.Application()
    app.router.add_get("/{mood}", held.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield held, runner.addresses[0][1]
    held.patience.set()
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hotline(
    cluster: Any, shop: tuple[Shop, int], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hotline]:
    folder = tmp_path_factory.mktemp("weather")
    folder.chmod(0o755)
    down = free_port()
    urls = {mood: f"http://127.0.0.1:{down if mood == 'down' else shop[1]}/{mood}" for mood in ANSWERS}
    site = direct_site(
        folder,
        trunks={"loopback": {"hosts": ["127.0.0.1", CALLER]}},
        trees={mood: asking(mood, url) for mood, url in urls.items()},
        numbers={number: {"tree": mood, "label": mood} for mood, (number, _) in ANSWERS.items()},
    )
    env = {
        "MONOFIL_RTP_PORTS": "15100-15699",
        "MONOFIL_NO_RTP_END_S": "25",  # SIPp is silent, and on a bad line says BYE for that long
        "MONOFIL_LOOKUP_ALLOW": "127.0.0.1",
        "MONOFIL_DRAIN_S": "60",
    }
    async with open_hotline(folder, cluster.address, site=site, env=env) as held:
        yield held


@pytest.mark.parametrize("mood", ANSWERS)
async def test_a_look_up_that_fails_leaves_by_its_branch_in_time(
    hotline: Hotline, shop: tuple[Shop, int], mood: str
) -> None:
    number, wanted = ANSWERS[mood]
    async with Phone(user="+33620000001") as caller:
        call = await caller.dial(hotline.uri(number))
        await call.wait_ended(LONG_S)
    rows: list[Any] = []

    async def told() -> bool:
        rows[:] = await hotline.sql(
            "SELECT data FROM event WHERE type = 'node.left' AND data->>'tree' = $1 AND data->>'node' = 'look'",
            mood,
        )
        return bool(rows)

    await hotline.until(told)
    assert len(rows) == 1
    left = json.loads(rows[0]["data"])
    assert left["exit"] == wanted
    # two tries at most; generous, for a machine that has other work
    assert left["seconds"] < 2 * LOOKUP_S + 5.0
    if mood == "slow":
        assert left["seconds"] >= LOOKUP_S
    assert (mood in shop[0].asked) == (mood != "down")


FLOOD = """
import os, select, socket, sys, time
host, port, seconds, rate = "127.0.0.1", int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.bind(("127.0.0.9", 0))
out.setblocking(False)
begun, sent, back = time.monotonic(), 0, 0
while (now := time.monotonic() - begun) < seconds:
    while sent < now * rate:
        method = ("INVITE", "REGISTER", "OPTIONS")[sent % 3]
        text = (
            f"{method} sip:4000@{host} SIP/2.0\\r\\nVia: SIP/2.0/UDP 127.0.0.9:{out.getsockname()[1]};"
            f"branch=z9hG4bKf{os.getpid()}x{sent}\\r\\nFrom: <sip:u{sent}@127.0.0.9>;tag={sent}\\r\\n"
            f"To: <sip:4000@{host}>\\r\\nCall-ID: flood{sent}\\r\\nCSeq: 1 {method}\\r\\nMax-Forwards: 70\\r\\n"
            f"Contact: <sip:u@127.0.0.9>\\r\\nContent-Length: 0\\r\\n\\r\\n"
        )
        try:
            out.sendto(text.encode(), (host, port))
        except BlockingIOError:
            pass
        sent += 1
    try:
        while out.recv(2048):
            back += 1
    except BlockingIOError:
        select.select([out], [], [], 0.002)
print(sent, back)
"""


@needs("sipp")
@pytest.mark.peer
async def test_a_flood_from_a_stranger_costs_no_good_call(hotline: Hotline, tmp_path: Path) -> None:
    (tmp_path / "call.xml").write_text(CALL)
    before = await hotline.server.metrics()
    flood = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FLOOD, str(hotline.server.sip_port), "5", "2000"),
        stdout=asyncio.subprocess.PIPE,
    )
    code = await sipp(
        tmp_path,
        *("-sf", "call.xml", hotline.server.sip, "-p", free_port(), "-r", "10", "-m", "40", "-d", "300"),
        *("-timeout", "60", "-timeout_error"),
        timeout_s=80,
        number=DIRECT,
        host=CALLER,
    )
    out, _ = await asyncio.wait_for(flood.communicate(), 60)
    assert code == 0  # every good call was answered and ended as it should
    sent, back = map(int, out.split())
    after = await hotline.server.metrics()
    dropped = after['monofil_sip_total{what="limited"}'] - before.get('monofil_sip_total{what="limited"}', 0)
    print(f"flood: {sent} sent, {back} answered, {dropped:.0f} over their share")
    assert dropped > 0
    assert back < sent
    assert (await hotline.sql("SELECT count(*) AS n FROM interaction_data WHERE received LIKE 'u%'"))[0][
        "n"
    ] == 0


@needs("sipp")
@pytest.mark.peer
async def test_a_line_that_loses_10_percent_both_ways_loses_no_call_and_none_is_counted_twice(
    hotline: Hotline, tmp_path: Path
) -> None:
    calls = 500
    (tmp_path / "call.xml").write_text(CALL)
    start = (await hotline.sql("SELECT coalesce(max(seq), 0) AS seq FROM event"))[0]["seq"]
    print("seed 11")
    async with Lossy(hotline.sip, seed=11, loss=0.10) as proxy:
        code = await sipp(
            tmp_path,
            *("-sf", "call.xml", f"127.0.0.1:{proxy.port}", "-p", free_port(), "-r", "50", "-m", str(calls)),
            # what comes twice is no fault, as a second 503 while it waits to try again
            *("-d", "500", "-timeout", "80", "-default_behaviors", "bye,pingreply"),
            timeout_s=100,
            number=DIRECT,
        )
        assert code == 0
        assert proxy.lost > 200

        async def all_over() -> bool:
            rows = await hotline.sql(
                "SELECT type, count(*) AS n FROM event WHERE seq > $1 GROUP BY type", start
            )
            counts = {row["type"]: row["n"] for row in rows}
            assert counts.get("interaction.opened", 0) <= calls
            return bool(
                sum(counts.get(kind, 0) for kind in FINAL) == calls == counts.get("interaction.opened")
            )

        await hotline.until(all_over, within_s=60)
    rows = await hotline.sql(
        "SELECT interaction, count(*) FILTER (WHERE type = 'interaction.opened') AS opened,"
        " count(*) FILTER (WHERE type = ANY($2)) AS ended FROM event WHERE seq > $1 AND interaction IS NOT NULL"
        " GROUP BY interaction",
        start,
        list(FINAL),
    )
    assert [(row["opened"], row["ended"]) for row in rows] == [(1, 1)] * calls
    callers = await hotline.sql(
        "SELECT d.received FROM interaction_data d JOIN event e USING (interaction)"
        " WHERE e.seq > $1 AND e.type = 'interaction.opened'",
        start,
    )
    assert len({row["received"] for row in callers}) == calls


async def test_connections_that_say_nothing_leave_descriptors_for_the_calls(hotline: Hotline) -> None:
    """Fault row 11. The limit is put just above what is open, so that a few silent connections reach it."""
    server = hotline.server
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    open_now = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (open_now + 100, before[1]))
    http_port = int(server.http.rpartition(":")[2])
    silent = []
    try:
        for n in range(200):
            slow = socket.socket()
            slow.setblocking(False)
            slow.connect_ex(("127.0.0.1", server.sip_port if n % 2 else http_port))
            silent.append(slow)
        async with Phone(user="+33612345678", host=CALLER) as caller:
            for _ in range(3):
                call = await caller.dial(hotline.uri(DIRECT), timeout_s=LONG_S)
                async with asyncio.timeout(LONG_S):
                    while call.measure(0.2).rms < 100:
                        await a_moment()
                call.hang_up()
                await call.wait_ended(LONG_S)
    finally:
        for slow in silent:
            slow.close()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)


async def test_sigterm_takes_no_new_call_and_lets_the_running_one_end(hotline: Hotline) -> None:
    """Last in this file: the server is gone after it."""
    ready = hotline.server.http + "/readyz"
    async with (
        Phone(user="+33620000002") as caller,
        Phone(user="+33620000003") as late,
        aiohttp.ClientSession() as http,
    ):
        call = await caller.dial(hotline.uri())
        async with http.get(ready) as answer:
            assert answer.status == 200
        stopping = asyncio.ensure_future(hotline.server.stop(within_s=60))
        async with asyncio.timeout(LONG_S):
            while True:
                async with http.get(ready) as answer:
                    if answer.status == 503:
                        break
                await a_moment()
        with pytest.raises(CallFailed) as refused:
            await late.dial(hotline.uri())
        assert refused.value.ended.status == 503
        heard = call.sound.received
        while call.sound.received < heard + 25:  # half a second of music more
            await asyncio.wait_for(call.sound.wait(), LONG_S)
        assert call.up
        assert not stopping.done()
        call.hang_up()
        assert await stopping == 0
