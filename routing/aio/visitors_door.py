"""The door of a chat: which pages come in, how many at once, and how often they may knock."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog
from aiohttp import hdrs, web
from prometheus_client import Counter

from routing.channel import Channel
from routing.pace import Pace
from routing.site import Account, Site

PAGES = 5_000
PAGES_ADDRESS = 60  # from one address
ADDRESS_RATE, ADDRESS_BURST = 20.0, 200.0  # connections and frames of one IP address
NEW_RATE, NEW_BURST = 0.2, 30.0  # visitors of one address who write for the first time, a second
READ_S = 30.0
KEPT = 10_000  # addresses

REFUSALS = Counter("monofil_visitor_refusals_total", "Connections of visitors refused or ended", ["why"])
STATUS: Mapping[str, int] = {
    "unreadable": 400, "token": 401, "slow": 408, "too_large": 413, "type": 415, "slow_down": 429, "unavailable": 503,
}  # fmt: skip
"""What HTTP calls a refusal."""

log = structlog.get_logger(__name__)


class Refusal(Exception):
    """Something of a visitor that is not taken: `code` for the page, and when to try again."""

    def __init__(self, code: str, retry_after: float | None = None) -> None:
        super().__init__(code)
        self.code, self.retry_after = code, retry_after


class Door:
    """`closing`: nobody comes in any more."""

    def __init__(
        self,
        site: Callable[[], Site],
        channels: Mapping[str, Channel],
        source: Callable[[web.Request], str],
    ) -> None:
        """`source`: who a request comes from."""
        self._site, self._channels, self.source = site, channels, source
        self._paces: OrderedDict[str, Pace] = OrderedDict()
        self._pages = 0
        self._of_address: dict[str, int] = {}
        self.closing = False

    def admit(self, request: web.Request) -> tuple[Account, dict[str, str]]:
        """The account and the headers that let the page read the answer. Raises what is answered otherwise."""
        account = self._site().account(request.match_info["account"])
        channel = self._channels.get(account.channel) if account is not None else None
        if account is None or channel is None or not channel.MANIFEST.visitors:
            raise web.HTTPNotFound
        origin = request.headers.get(hdrs.ORIGIN, "").rstrip("/").lower()
        if origin not in origins(account):
            REFUSALS.labels("origin").inc()
            log.warning("a page of another site asked", account=account.id, origin=origin[:200])
            raise web.HTTPForbidden
        if self.closing:
            raise web.HTTPServiceUnavailable
        if not self.pace(self.source(request)).allow(now()):
            REFUSALS.labels("address").inc()
            raise web.HTTPTooManyRequests
        return account, {
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: request.headers[hdrs.ORIGIN],
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST",
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "authorization, content-type",
            hdrs.ACCESS_CONTROL_MAX_AGE: "600",
            hdrs.VARY: hdrs.ORIGIN,
            hdrs.CACHE_CONTROL: "no-store",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }

    def pace(self, name: str, rate: float = ADDRESS_RATE, burst: float = ADDRESS_BURST) -> Pace:
        pace = self._paces.get(name)
        if pace is None:
            pace = self._paces[name] = Pace(rate, burst)
            if len(self._paces) > KEPT:
                self._paces.popitem(last=False)
        self._paces.move_to_end(name)
        return pace

    def newcomers(self, address: str) -> Pace:
        """Of those of an address who write for the first time."""
        return self.pace(f"new {address}", NEW_RATE, NEW_BURST)

    @contextmanager
    def room(self, address: str) -> Iterator[None]:
        """For one page that stays; raises what is answered where there is none."""
        if self._pages >= PAGES or self._of_address.get(address, 0) >= PAGES_ADDRESS:
            REFUSALS.labels("many").inc()
            raise web.HTTPTooManyRequests
        self._pages += 1
        self._of_address[address] = self._of_address.get(address, 0) + 1
        try:
            yield
        finally:
            self._pages -= 1
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]


async def read(request: web.Request, most: int) -> bytes:
    """A body of at most so many bytes. Raises Refusal."""
    if (request.content_length or 0) > most:
        raise Refusal("too_large")
    content = bytearray()
    try:
        async with asyncio.timeout(READ_S):
            async for chunk in request.content.iter_any():
                content += chunk
                if len(content) > most:
                    raise Refusal("too_large")
    except TimeoutError:
        raise Refusal("slow") from None
    return bytes(content)


def problem(refusal: Refusal, headers: Mapping[str, str]) -> web.Response:
    """A refusal as HTTP tells it."""
    status = STATUS[refusal.code]
    response = web.json_response({"code": refusal.code}, status=status, headers=headers)
    if refusal.retry_after is not None:
        response.headers[hdrs.RETRY_AFTER] = f"{refusal.retry_after:.0f}"
    if status in (408, 413):
        response.force_close()
    return response


def origins(account: Account) -> frozenset[str]:
    """Of the pages that may talk to an account: its setting `origins`, words between blanks or commas."""
    words = account.settings.get("origins", "").replace(",", " ").split()
    return frozenset(word.rstrip("/").lower() for word in words)


def now() -> float:
    """Seconds of the loop: for paces and leases, which no shifted clock may stretch."""
    return asyncio.get_running_loop().time()
