"""HTTP look-ups of trees (V9), which reach no address that the site has not allowed (faults.md row 29)."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import aiohttp
from prometheus_client import Histogram
from yarl import URL

from ivr.events import LookedUp, LookUp
from routing.aio.reach import Forbidden, Reach

TRIES = 2
BYTES = 65_536  # largest answer read
REDIRECTS = 3
CONNECTIONS = 200
REMEMBERED = 1_000  # look-ups a node whose time is kept for the p95

SECONDS = Histogram(
    "monofil_lookup_seconds", "Look-ups of trees", ["outcome"], buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
)


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
        """`allow`: hosts (`host`, `host:port`) and networks that may be reached although not public."""
        self._reach = Reach(allow)
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
                resolver=self._reach,
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
            self._reach.judge(url)
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
