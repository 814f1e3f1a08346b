"""Signing in to the console, and who a cookie belongs to."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import argon2
import structlog
from aiohttp import web
from prometheus_client import Counter

from cti.guessing import FREE_FAILURES, Guessing
from routing.aio.crash import crash_point
from routing.aio.web import Caller, Problem
from routing.models import Clock
from routing.site import Advisor, Site
from routing.store import People, Unavailable, WebSession

log = structlog.get_logger(__name__)

FAILURES = Counter("monofil_sign_in_failures_total", "Sign-ins with a wrong login or password")

COOKIE = "monofil_session"
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # of passwords that we make up
VERIFIERS = 2  # argon2 takes a core and 64 MB for a while; more at once would be heard in calls
WAITING_VERIFICATIONS = 16
REMEMBER_S = 5.0  # how long a session found in the database is believed
BRIDGE_S = 60.0  # and how long while the database does not answer

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def made_up_password() -> str:
    """About 98 bits, in groups that can be read out; no letter or digit is taken for another."""
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(5)) for _ in range(4))


def hash_token(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def client_address(request: web.Request, trusted: Sequence[Network] = ()) -> str:
    """The address that asks: the socket's, or behind a trusted proxy the last one it did not make itself.

    IPv6 is cut to /64, which one guesser owns as a whole.
    """
    hops = [request.remote or ""]
    for header in request.headers.getall("X-Forwarded-For", []):
        hops[:0] = [part.strip() for part in header.split(",")]
    address = hops[-1]
    for hop in reversed(hops):
        address = hop
        try:
            ip = ipaddress.ip_address(hop)
        except ValueError:
            break
        if not any(ip in network for network in trusted):
            break
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return hops[-1]
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session: the cookie's token exists only here and in the browser."""

    token: str
    session: WebSession
    advisor: Advisor


class SignIns:
    """Sessions of one organisation. `slowed(address, login, failures)` hears of guessing."""

    def __init__(
        self,
        people: People,
        organisation: UUID,
        site: Callable[[], Site],
        clock: Clock,
        *,
        hours: float = 12.0,
        https: bool = False,
        trusted: Sequence[Network] = (),
        hasher: argon2.PasswordHasher | None = None,
        slowed: Callable[[str, str, int], None] | None = None,
        free_failures: int = FREE_FAILURES,
    ) -> None:
        self.people, self.organisation, self.site, self.clock = people, organisation, site, clock
        self.life = timedelta(hours=hours)
        self.https, self.trusted = https, tuple(trusted)
        self.hasher = hasher or argon2.PasswordHasher()
        self.slowed = slowed
        self.guessing = Guessing(free_failures)
        self.failures = 0
        self._turns = asyncio.Semaphore(VERIFIERS)
        self._waiting = 0
        self._dummy: str | None = None
        self._known: dict[bytes, tuple[float, WebSession]] = {}

    def advisor(self, login: str) -> Advisor | None:
        return next((a for a in self.site().advisors if a.id == login), None)

    async def sign_in(self, login: str, password: str, address: str, old: str | None = None) -> SignedIn:
        """A new session, whatever cookie came along; that one ends. Raises Problem 401, 429 or 503."""
        now_s = time.monotonic()
        wait_s = self.guessing.wait_s(login, address, now_s)
        if wait_s > 0:
            seconds = str(int(wait_s) + 1)
            raise Problem(
                429, "slowed", f"Too many failures: wait {seconds} s.", headers={"Retry-After": seconds}
            )
        stored = await self.people.password_hash(login)
        advisor = self.advisor(login)
        right = await self._verify(stored, password)
        if not right or advisor is None:
            self.failures += 1
            FAILURES.inc()
            failures = self.guessing.failed(login, address, time.monotonic())
            log.warning("a sign-in failed", pii_login=login, pii_address=address)
            if failures and self.slowed is not None:
                self.slowed(address, login, failures)
            raise Problem(401, "wrong-login-or-password", "Login or password is wrong.")
        assert stored is not None
        self.guessing.succeeded(login, address)
        crash_point("session.proved")
        if old:
            await self.sign_out(old)
        token = secrets.token_urlsafe(32)
        now = self.clock.now()
        session = WebSession(hash_token(token), login, secrets.token_urlsafe(24), now, now + self.life)
        await self.people.add_session(session)
        crash_point("session.stored")
        return SignedIn(token, session, advisor)

    async def _verify(self, stored: str | None, password: str) -> bool:
        """The same work for a login that nobody has, so that time tells nothing."""
        if self._waiting >= WAITING_VERIFICATIONS:
            raise Problem(503, "busy", "Many sign in at once; try again.", headers={"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._turns:
                if self._dummy is None:
                    self._dummy = await asyncio.to_thread(self.hasher.hash, secrets.token_hex(16))
                return await asyncio.to_thread(self._check, stored or self._dummy, password) and bool(stored)
        finally:
            self._waiting -= 1

    async def hash(self, password: str) -> str:
        async with self._turns:
            return await asyncio.to_thread(self.hasher.hash, password)

    def _check(self, hashed: str, password: str) -> bool:
        try:
            return self.hasher.verify(hashed, password)
        except argon2.exceptions.VerifyMismatchError:
            return False
        except argon2.exceptions.Argon2Error:
            log.error("a stored password hash cannot be read")
            return False

    async def sign_out(self, token: str) -> None:
        hashed = hash_token(token)
        self._known.pop(hashed, None)
        await self.people.end_session(hashed)

    def forget(self, login: str) -> None:
        """A password was changed: believe no session of that login without asking."""
        for hashed, (_, session) in list(self._known.items()):
            if session.login == login:
                del self._known[hashed]

    async def session(self, token: str) -> WebSession | None:
        hashed = hash_token(token)
        now_s = time.monotonic()
        known = self._known.get(hashed)
        if known is not None and now_s - known[0] < REMEMBER_S:
            found: WebSession | None = known[1]
        else:
            try:
                found = await self.people.session(hashed)
            except (Unavailable, TimeoutError, ConnectionError):
                if known is None or now_s - known[0] > BRIDGE_S:
                    raise
                found = known[1]
            else:
                self._known.pop(hashed, None)
                if found is not None:
                    self._known[hashed] = (now_s, found)
                    if len(self._known) > 10_000:
                        del self._known[next(iter(self._known))]
        if found is None or found.expires_at <= self.clock.now():
            return None
        return found

    async def identify(self, request: web.Request) -> Caller | None:
        """Who asks, by the session's cookie; roles as the site gives them now."""
        token = request.cookies.get(COOKIE)
        if not token or len(token) > 200:
            return None
        session = await self.session(token)
        advisor = self.advisor(session.login) if session else None
        if session is None or advisor is None:
            return None
        return Caller(session.login, frozenset(advisor.roles), self.organisation, session.csrf)

    def set_cookie(self, response: web.StreamResponse, token: str) -> None:
        response.set_cookie(
            COOKIE,
            token,
            max_age=int(self.life.total_seconds()),
            path="/",
            httponly=True,
            samesite="Lax",
            secure=self.https,
        )

    def clear_cookie(self, response: web.StreamResponse) -> None:
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Lax", secure=self.https)
