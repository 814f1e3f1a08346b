"""What our own requests may reach: the open Internet and what the site allows, however a host is spelt (row 29)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest
from yarl import URL

from routing.aio.reach import Forbidden, Reach, public


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
