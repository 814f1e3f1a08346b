"""Look-ups against a real server that is slow, down, talks HTML or lies about where it is (V9, faults.md row 29)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from ivr.aio.lookup import BYTES, Lookups
from ivr.events import LookedUp, LookUp


@dataclass
class Server:
    port: int = 0
    seen: list[str] = field(default_factory=list)
    fail_first: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    it = Server()

    async def answer(request: web.Request) -> web.StreamResponse:
        it.seen.append(request.path_qs)
        match request.path:
            case "/ok":
                return web.json_response({"status": "transit", "query": dict(request.query)})
            case "/post":
                return web.json_response({"got": await request.json()})
            case "/flaky":
                if len(it.seen) <= it.fail_first:
                    return web.Response(status=503)
                return web.json_response([1])
            case "/slow":
                await it.release.wait()
            case "/html":
                return web.Response(text="<html>Welcome</html>", content_type="text/html")
            case "/huge":
                return web.json_response(["x" * BYTES])
            case "/nan":
                return web.Response(text="[NaN]", content_type="application/json")
            case "/broken":
                return web.Response(text="{", content_type="application/json")
            case "/deep":
                return web.Response(text="[" * 20_000 + "]" * 20_000, content_type="application/json")
            case "/null":
                return web.Response(text="null", content_type="application/json")
            case "/nothing":
                return web.Response(status=204)
            case "/denied":
                return web.Response(status=403)
            case "/near":
                raise web.HTTPFound("/ok")
            case "/far":
                raise web.HTTPFound("http://example.org/ok")
            case "/loop":
                raise web.HTTPFound("/loop")
        return web.Response(status=404)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    it.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    yield it
    it.release.set()
    await runner.cleanup()


@pytest.fixture
async def lookups() -> AsyncIterator[Lookups]:
    it = Lookups(allow=["127.0.0.1"])
    yield it
    await it.close()


async def ask(lookups: Lookups, server: Server, path: str, **more: object) -> LookedUp:
    command = LookUp("look", f"http://127.0.0.1:{server.port}{path}", **more)  # type: ignore[arg-type]
    return await lookups.ask(command, tree="t")


@pytest.mark.parametrize(
    ("path", "outcome", "asked"),
    [
        ("/ok", "ok", 1),
        ("/nothing", "empty", 1),
        ("/null", "empty", 1),
        ("/missing", "empty", 1),
        ("/html", "error", 1),
        ("/huge", "error", 1),
        ("/nan", "error", 1),
        ("/broken", "error", 1),
        ("/deep", "error", 1),
        ("/denied", "error", 1),
        ("/near", "ok", 2),
        ("/far", "error", 1),
        ("/loop", "error", 4),
    ],
)
async def test_each_answer_has_its_exit(
    lookups: Lookups, server: Server, path: str, outcome: str, asked: int
) -> None:
    told = await ask(lookups, server, path)
    assert (told.outcome, len(server.seen)) == (outcome, asked)


async def test_values_travel_in_the_query_and_the_body(lookups: Lookups, server: Server) -> None:
    told = await ask(lookups, server, "/ok", query={"n": "1&admin=1", "ü": "é"})
    assert told.data["query"] == {"n": "1&admin=1", "ü": "é"}
    told = await ask(lookups, server, "/post", method="POST", body={"a": [1]})
    assert told.data == {"got": {"a": [1]}}


async def test_a_failing_server_is_asked_once_more(lookups: Lookups, server: Server) -> None:
    server.fail_first = 1
    assert (await ask(lookups, server, "/flaky")).outcome == "ok"
    assert len(server.seen) == 2
    server.fail_first = 9
    assert (await ask(lookups, server, "/flaky")).outcome == "error"
    assert len(server.seen) == 4


async def test_a_slow_server_takes_the_timeout_exit_in_time(lookups: Lookups, server: Server) -> None:
    async with asyncio.timeout(2):
        told = await ask(lookups, server, "/slow", timeout_s=0.1)
    assert told.outcome == "timeout"
    figures = lookups.figures()[("t", "look")]
    assert figures.failures == 1
    assert figures.p95_s is not None
    assert 0.19 < figures.p95_s < 0.5


async def test_a_server_that_is_down_is_an_error_at_once(lookups: Lookups) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with asyncio.timeout(2):
        told = await lookups.ask(LookUp("look", f"http://127.0.0.1:{port}/"))
    assert told.outcome == "error"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0.0.0.0", "0", "[::]", "10.0.0.1",
        "169.254.169.254", "192.168.1.1", "172.16.0.1", "100.64.0.1", "224.0.0.1", "[fe80::1]", "[fc00::1]",
        "user:secret@127.0.0.1",
    ],
)  # fmt: skip
async def test_no_spelling_of_a_private_address_is_reached(server: Server, host: str) -> None:
    for port in (server.port, 80):
        lookups = Lookups()
        told = await lookups.ask(LookUp("look", f"http://{host}:{port}/ok", timeout_s=1.0))
        await lookups.close()
        assert told.outcome in ("error", "timeout")
    assert server.seen == []


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://example.org/", "http://", "//example.org", "", "http://example.org:22/"],
)
async def test_only_web_addresses_on_web_ports_are_asked(url: str) -> None:
    lookups = Lookups()
    assert (await lookups.ask(LookUp("look", url))).outcome == "error"
    await lookups.close()
