"""What our own requests may reach: the open Internet and what the site allows, however a host is spelt (row 29)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import resource
import socket
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest
from yarl import URL

from ivr.aio.lookup import Lookups
from ivr.events import LookUp
from routing.aio import reach
from routing.aio.fetch import Away, Fetcher
from routing.aio.reach import Forbidden, Reach, public
from tests.routing.spellings import INSIDE

PATIENCE_S = 60.0  # nothing here waits; a loaded machine may be slow


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "127.0.0x1",
        "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0.0.0.0", "0",
        "[::]", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "224.0.0.1", "[fe80::1]", "[fc00::1]",
        "user:secret@93.184.216.34",
    ],
)  # fmt: skip
def test_no_spelling_of_a_private_address_is_asked(host: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Reach().judge(URL(f"http://{host}/file"))


def test_a_site_may_allow_a_host_a_port_or_a_network() -> None:
    reach = Reach(("crm.example", "files.example:8080", "127.0.0.0/8"))
    for url in (
        "http://crm.example:81/",
        "http://files.example:8080/",
        "http://127.0.0.1:7/",
        "https://93.184.216.34/",
    ):
        reach.judge(URL(url))
    for url in (
        "http://files.example:8081/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://other.example:81/",
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            reach.judge(URL(url))


async def test_a_name_that_resolves_to_a_private_address_is_refused_before_connecting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name server that lies (DNS rebinding): first a public address, then a private one; each answer is judged."""
    answers = [["93.184.216.34"], ["93.184.216.34", "127.0.0.1"], ["127.0.0.1"]]

    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in answers.pop(0)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    resolver = Reach()
    assert [r["host"] for r in await resolver.resolve("evil.example", 80)] == ["93.184.216.34"]
    for _ in range(2):
        with pytest.raises(Forbidden):
            await resolver.resolve("evil.example", 80)


def test_public_is_only_what_the_open_internet_has() -> None:
    assert public(ipaddress.ip_address("93.184.216.34"))
    assert public(ipaddress.ip_address("2606:4700::1111"))
    for private in (
        "198.18.0.1",
        "192.0.2.1",
        "203.0.113.9",
        "240.0.0.1",
        "255.255.255.255",
        "2001:db8::1",
        "ff02::1",
    ):
        assert not public(ipaddress.ip_address(private)), private


class Listener:
    """Somebody on a loopback address who counts who comes, and answers what it is told to."""

    def __init__(self) -> None:
        self.came = 0
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        writer.close()

    @contextlib.asynccontextmanager
    async def at(self, host: str, port: int = 0) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, host, port)
        async with server:
            yield server.sockets[0].getsockname()[1]


def lying_names(answers: Callable[[], str], asked: list[str]) -> Callable[..., Awaitable[list[object]]]:
    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers(), port))]

    return getaddrinfo


async def told_by(url: str, tmp_path: Path, allow: tuple[str, ...] = ()) -> tuple[str, str]:
    """What became of fetching a file, and of a look-up, at that address."""
    fetcher, lookups = Fetcher(tmp_path, allow=allow, timeout_s=PATIENCE_S), Lookups(allow=allow)
    try:
        try:
            fetched = (await fetcher.fetch(url, uuid4())).failed or "stored"
        except Away as away:
            fetched = f"away: {away}"
        return fetched, (await lookups.ask(LookUp("look", url, timeout_s=PATIENCE_S))).outcome
    finally:
        await fetcher.close()
        await lookups.close()


async def test_however_an_address_is_spelt_nobody_inside_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inside = Listener()
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    async with inside.at("127.0.0.1") as port:
        monkeypatch.setattr(loop, "getaddrinfo", lying_names(lambda: "127.0.0.1", asked))
        monkeypatch.setattr(reach, "PORTS", frozenset({80, 443, port}))
        assert len(INSIDE.split()) >= 120
        for spelt in INSIDE.split():
            urls = [spelt]
            with contextlib.suppress(ValueError):
                if URL(spelt).is_default_port():
                    urls.append(str(URL(spelt).with_port(port)))
            for url in urls:
                fetched, looked_up = await told_by(url, tmp_path)
                assert (fetched, looked_up) == ("refused", "error"), url
        assert inside.came == 0
    assert not list(tmp_path.rglob("*"))


async def test_a_redirect_leads_to_no_other_host_and_to_no_address_inside(tmp_path: Path) -> None:
    outside, inside = Listener(), Listener()
    async with outside.at("127.0.0.2") as port, inside.at("127.0.0.1") as other:
        allow = (f"127.0.0.2:{port}",)
        start = f"http://127.0.0.2:{port}/a"
        assert await told_by(start, tmp_path, allow) == ("stored", "error")
        for location in (
            *INSIDE.split(),
            f"http://127.0.0.1:{other}/",
            f"http://127.0.0.2:{other}/",
            f"//127.0.0.1:{other}/",
            f"http://user@127.0.0.2:{port}/",
            "http://93.184.216.34/",
            f"//127.0.0.2:{port}@127.0.0.1:{other}/",
        ):
            outside.answer = (
                b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: "
                + location.encode()
                + b"\r\n\r\n"
            )
            fetched, looked_up = await told_by(start, tmp_path, allow)
            assert (fetched, looked_up) == ("refused", "error"), location
        assert inside.came == 0


async def test_a_name_that_moves_inside_between_check_and_connection_reaches_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """DNS rebinding: the answer that was judged is the address that is connected to, and each connection is judged."""
    outside, inside = Listener(), Listener()
    async with outside.at("127.0.0.2") as port, inside.at("127.0.0.1", port):
        asked: list[str] = []
        turns = itertools.cycle(["127.0.0.2", "127.0.0.1"])
        monkeypatch.setattr(
            asyncio.get_running_loop(), "getaddrinfo", lying_names(lambda: next(turns), asked)
        )
        monkeypatch.setattr(reach, "PORTS", frozenset({port}))
        fetcher = Fetcher(tmp_path, allow=("127.0.0.2/32",))
        became = [(await fetcher.fetch(f"http://rebind.example:{port}/", uuid4())).failed for _ in range(6)]
        await fetcher.close()
        assert became == ["", "refused"] * 3
        assert len(asked) == 6
        assert (outside.came, inside.came) == (3, 0)


async def test_a_back_office_cannot_send_a_bomb_packed_small() -> None:
    """gzip of 512 MiB of spaces: nothing is unpacked that we did not ask to be packed."""
    away = Listener()
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(512)) + packer.flush()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}"
    away.answer = head.encode() + b"\r\nConnection: close\r\n\r\n" + bomb
    lookups = Lookups(allow=("127.0.0.0/8",))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with away.at("127.0.0.1") as port:
        began = time.thread_time()
        told = await lookups.ask(LookUp("look", f"http://127.0.0.1:{port}/", timeout_s=5.0))
        assert time.thread_time() - began < 0.2
    await lookups.close()
    assert told.outcome == "error"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
