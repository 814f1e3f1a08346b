"""Access tokens of mail accounts (OAuth 2.0, RFC 6749): as given, or those of the account's token endpoint."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from routing.identity import plain
from routing.models import Clock
from routing.site import Account

EARLY_S = 60.0  # a token counts as over so long before its end
LIFE_S = 3600.0  # of a token whose endpoint tells none
TIMEOUT_S = 20.0
MOST_BYTES = 1 << 16


class NoToken(Exception):
    """There is none that may work: somebody must mend the account. The reason is for the board."""


@dataclass(slots=True)
class _Kept:
    token: str
    until: float
    refresh: str


class Tokens:
    """The tokens of all accounts, kept in memory. Settings of an account: `oauth_url`, `oauth_client`, `oauth_scope`.

    Its secrets: `oauth_token` where there is no endpoint, else `oauth_secret` of the client, and `oauth_refresh` where
    a person has given us the mailbox (RFC 6749 6); without that one the client asks for itself (4.4).
    """

    def __init__(
        self, clock: Clock, *, tls: ssl.SSLContext | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._clock = clock
        self._tls = tls
        self._timeout_s = timeout_s
        self._kept: dict[tuple[str, ...], _Kept] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def token(self, account: Account, secrets: Mapping[str, str], refused: str = "") -> str:
        """One that is not `refused`. Raises NoToken; ConnectionError or TimeoutError when the endpoint is away."""
        settings = account.settings
        url = settings.get("oauth_url", "")
        if not url:
            given = secrets.get("oauth_token", "")
            if not given or given == refused:
                raise NoToken("the access token is refused" if given else "no access token")
            return given
        form = {
            "client_id": settings.get("oauth_client", ""),
            "client_secret": secrets.get("oauth_secret", ""),
            "refresh_token": secrets.get("oauth_refresh", ""),
            "scope": settings.get("oauth_scope", ""),
        }
        whose = (account.id, url, *form.values())
        async with self._turns.setdefault(account.id, asyncio.Lock()):
            kept = self._kept.get(whose)
            if kept is not None and kept.token != refused and self._clock.unix() < kept.until:
                return kept.token
            if kept is not None:
                form["refresh_token"] = kept.refresh
            form["grant_type"] = "refresh_token" if form["refresh_token"] else "client_credentials"
            fresh = await self._asked(url, {name: value for name, value in form.items() if value})
            self._kept[whose] = fresh
            if fresh.token == refused:
                raise NoToken("the token endpoint gives a token that is refused")
            return fresh.token

    async def _asked(self, url: str, form: Mapping[str, str]) -> _Kept:
        at = URL(url)
        if at.scheme != "https" and at.host not in ("localhost", "127.0.0.1", "::1"):
            raise NoToken("the token endpoint must be https")
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(self._timeout_s)) as client,
                client.post(at, data=form, ssl=self._tls or True, allow_redirects=False) as answer,
            ):
                raw = await answer.content.read(MOST_BYTES)
        except aiohttp.ClientError as error:
            raise ConnectionError(f"token endpoint: {error}"[:200]) from None
        if answer.status >= 500 or answer.status == 429:
            raise ConnectionError(f"token endpoint: {answer.status}")
        try:
            told = json.loads(raw)
            if answer.status != 200:
                word = plain(str(told["error"]))[:50]
                raise NoToken(
                    f"token endpoint: {word}: {plain(str(told.get('error_description', '')))[:150]}"
                )
            token, life_s = str(told["access_token"]), float(told.get("expires_in", LIFE_S))
            refresh = str(told.get("refresh_token") or form.get("refresh_token", ""))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise NoToken(f"token endpoint: {answer.status}, no answer of OAuth") from None
        return _Kept(token, self._clock.unix() + max(0.0, life_s - EARLY_S), refresh)
