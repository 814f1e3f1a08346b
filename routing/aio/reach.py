"""What our own requests to addresses of others may reach (faults.md row 29): the open Internet, and what a site allows.

A name is resolved once a connection, every address of it is judged, and the connection goes to exactly those addresses:
the check and the client cannot see different hosts.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

PORTS = frozenset({80, 443})
NAT64 = ipaddress.ip_network("64:ff9b::/96")
SPECIAL = tuple(
    ipaddress.ip_network(each)
    for each in (
        "192.0.0.0/24",  # of protocols, and where some clouds keep the secrets of their machines (192.0.0.192)
        "192.88.99.0/24", "64:ff9b:1::/48", "100::/64", "2001::/23", "3fff::/20", "5f00::/16", "fec0::/10",
    )
)  # fmt: skip
"""Not of the open Internet by IANA's registries, whatever this Python's `is_global` says of all or some of them."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Forbidden(OSError):
    """The host is, or resolves to, an address that may not be reached."""


def public(address: Address) -> bool:
    """Whether the address is one of the open Internet, also through the IPv6 forms that carry an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if address.teredo is not None:
            return False
        if inner is not None:
            return public(inner)
    if any(address.version == network.version and address in network for network in SPECIAL):
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_unspecified
        and not address.is_reserved
    )


def _address(host: str) -> Address | None:
    """The address that a host is, None for a name. ValueError for an odd spelling of a number (0x7f.1, 2130706433)."""
    bare = host.partition("%")[0]
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    last = bare.rstrip(".").rpartition(".")[2]
    if ":" in bare or last.isdigit() or re.fullmatch(r"0[xX][0-9a-fA-F]*", last):
        raise ValueError(f"{host} is no plain address")
    return None


class Reach(AbstractResolver):
    """`judge` a URL before asking for it, and give this as the connector's resolver (with its DNS cache off)."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        """`allow`: hosts (`host`, `host:port`) and networks (`10.1.0.0/16`) that may be reached although not public."""
        self._networks = []
        hosts = set()
        for each in allow:
            if "/" in each:
                self._networks.append(ipaddress.ip_network(each, strict=False))
            else:
                hosts.add(each.lower())
        self._hosts = frozenset(hosts)

    def named(self, host: str, port: int | None) -> bool:
        """Whether the site has allowed this very host."""
        return host in self._hosts or f"{host}:{port}" in self._hosts

    def inside(self, address: Address) -> bool:
        """Whether the site has allowed the address's network."""
        return any(address.version == net.version and address in net for net in self._networks)

    def judge(self, url: URL) -> None:
        """Raises ValueError for what may not be asked at all; names are judged once resolved."""
        host = (url.host or "").lower()
        if url.scheme not in ("http", "https") or not host or url.user or url.password:
            raise ValueError("not an address of the web")
        if self.named(host, url.port):
            return
        address = _address(host)
        if address is not None and self.inside(address):
            return
        if url.port not in PORTS:
            raise ValueError("only ports 80 and 443 unless the site allows the host")
        if address is not None and not public(address):
            raise ValueError(f"{host} may not be reached")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises Forbidden unless every address of the name may be reached."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family
        )
        free = self.named(host, port)
        made: list[ResolveResult] = []
        for kind, _, proto, _, where in found:
            text = str(where[0]).partition("%")[0]
            address = ipaddress.ip_address(text)
            if not (free or public(address) or self.inside(address)):
                raise Forbidden(f"{host} is at {text}, which may not be reached")
            made.append(
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=kind,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return made

    async def close(self) -> None: ...
