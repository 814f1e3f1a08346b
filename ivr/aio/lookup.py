"""HTTP look-ups of trees (V9), which reach no address that the site has not allowed (faults.md row 29).

A name is resolved once a connection, every address of it is judged, and the connection goes to exactly those addresses:
the check and the client cannot see different hosts.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from prometheus_client import Histogram
from yarl import URL

from ivr.events import LookedUp, LookUp

TRIES = 2
BYTES = 65_536  # largest answer read
REDIRECTS = 3
PORTS = frozenset({80, 443})
CONNECTIONS = 200
REMEMBERED = 1_000  # look-ups a node whose time is kept for the p95
NAT64 = ipaddress.ip_network("64:ff9b::/96")

SECONDS = Histogram(
    "monofil_lookup_seconds", "Look-ups of trees", ["outcome"], buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Forbidden(OSError):
    """The host is, or resolves to, an address that look-ups may not reach."""


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
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_unspecified
        and not address.is_reserved
    )


class _Resolver(AbstractResolver):
    """Resolves a name and refuses it unless every address of it may be reached."""

    def __init__(self, allow: frozenset[str]) -> None:
        self._allow = allow

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family
        )
        free = host in self._allow or f"{host}:{port}" in self._allow
        made: list[ResolveResult] = []
        for kind, _, proto, _, where in found:
            address = str(where[0]).partition("%")[0]
            if not free and not public(ipaddress.ip_address(address)):
                raise Forbidden(f"{host} is at {address}, which look-ups may not reach")
            made.append(
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=kind,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return made

    async def close(self) -> None: ...


@dataclass(slots=True)
class LookupFigures:
    """Of one node: how often asked, how it went, and how long the last REMEMBERED took."""

    asked: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @property
    def failures(self) -> int:
        return self.outcomes.get("error", 0) + self.outcomes.get("timeout", 0)

    @property
    def p95_s(self) -> float | None:
        if not self.seconds:
            return None
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]


class Lookups:
    """Asks servers for trees; one client session for all calls."""

    def __init__(self, *, allow: Sequence[str] = ()) -> None:
        """`allow`: hosts (`host` or `host:port`) that may be reached although their address is not a public one."""
        self._allow = frozenset(a.lower() for a in allow)
        self._session: aiohttp.ClientSession | None = None
        self._figures: dict[tuple[str, str], LookupFigures] = {}

    async def ask(self, command: LookUp, *, tree: str = "") -> LookedUp:
        """Never raises: what goes wrong is an outcome."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        told = LookedUp("error")
        for attempt in range(TRIES):
            told, again = await self._try(command)
            if not again or attempt == TRIES - 1:
                break
        figures = self._figures.setdefault((tree, command.node), LookupFigures())
        figures.asked += 1
        figures.outcomes[told.outcome] = figures.outcomes.get(told.outcome, 0) + 1
        figures.seconds.append(loop.time() - began)
        SECONDS.labels(told.outcome).observe(loop.time() - began)
        return told

    def figures(self) -> dict[tuple[str, str], LookupFigures]:
        """By (tree, node)."""
        return dict(self._figures)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_Resolver(self._allow),
                use_dns_cache=False,
                limit=CONNECTIONS,
                limit_per_host=CONNECTIONS,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "Monofil",
                },
            )
        return self._session

    async def _try(self, command: LookUp) -> tuple[LookedUp, bool]:
        """One attempt, and whether another may help."""
        try:
            async with asyncio.timeout(command.timeout_s):
                return await self._request(command)
        except TimeoutError:
            return LookedUp("timeout"), command.method == "GET"
        except aiohttp.ClientConnectorError as e:
            return LookedUp("error"), not isinstance(e.os_error, Forbidden)
        except (aiohttp.ClientError, OSError, UnicodeError):
            return LookedUp("error"), command.method == "GET"
        except (ValueError, RecursionError):
            return LookedUp("error"), False

    async def _request(self, command: LookUp) -> tuple[LookedUp, bool]:
        url = URL(command.url)
        if command.query:
            url = url.update_query(command.query)
        home = url.origin()
        for _ in range(REDIRECTS + 1):
            self._judge(url)
            async with self._client().request(
                command.method, url, json=command.body, allow_redirects=False
            ) as response:
                if response.status in (301, 302, 303, 307, 308):
                    url = url.join(URL(response.headers.get("Location", "")))
                    if command.method != "GET" or url.origin() != home:
                        return LookedUp("error"), False
                    continue
                return await self._read(response)
        return LookedUp("error"), False

    def _judge(self, url: URL) -> None:
        """Raises ValueError for what may not be asked at all; names are judged once resolved."""
        host = (url.host or "").lower()
        if url.scheme not in ("http", "https") or not host or url.user or url.password:
            raise ValueError("not an address to look up")
        if host in self._allow or f"{host}:{url.port}" in self._allow:
            return
        if url.port not in PORTS:
            raise ValueError("only ports 80 and 443 unless the site allows the host")
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return
        if not public(address):
            raise ValueError(f"{host} may not be reached")

    async def _read(self, response: aiohttp.ClientResponse) -> tuple[LookedUp, bool]:
        if response.status in (204, 404):
            return LookedUp("empty"), False
        if response.status != 200:
            return LookedUp("error"), response.status >= 500 and response.method == "GET"
        kind = response.content_type
        if kind != "application/json" and not kind.endswith("+json"):
            return LookedUp("error"), False
        body = bytearray()
        async for chunk in response.content.iter_chunked(8_192):
            body += chunk
            if len(body) > BYTES:
                response.close()
                return LookedUp("error"), False
        if not body.strip():
            return LookedUp("empty"), False
        data: Any = json.loads(body, parse_constant=_no_constant)
        if data in (None, {}, [], ""):
            return LookedUp("empty"), False
        return LookedUp("ok", data), False


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON (RFC 8259 6)")
