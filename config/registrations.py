"""The phones' registrations kept in the database: a server that starts again reaches its advisors at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from routing.models import Clock
from routing.store import Bindings, PhoneBinding, Unavailable
from softphone_bridge.signals import Registration

log = structlog.get_logger("monofil")

WITHIN_S = 10.0  # for one writing: a database that takes longer is as good as away
AGAIN_S = 1.0  # between two tries while it is away


class Registrar(Protocol):
    """The SIP endpoint as seen from here."""

    def registrations(self, account: str) -> tuple[Registration, ...]: ...

    def restore(self, kept: Iterable[Registration]) -> None: ...


class Registrations:
    """`restore` once, before the first call; then `changed` for each account, while `run` writes what holds.

    What waits to be written is a set of accounts, so it stays as small as the site however long the database is away.
    """

    def __init__(
        self, bindings: Bindings, registrar: Registrar, clock: Clock, monotonic: Callable[[], float]
    ) -> None:
        self._bindings = bindings
        self._registrar = registrar
        self._clock = clock
        self._monotonic = monotonic
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    def restore(self, kept: Sequence[PhoneBinding], known: Callable[[str], bool]) -> None:
        """Give the phones of `known` accounts back to SIP; what is no longer true is struck out by `run`."""
        wall, now = self._clock.now(), self._monotonic()
        self._registrar.restore(
            Registration(
                *(b.account, b.contact, b.params, b.transport, b.host, b.port),
                *(b.call_id, b.cseq, b.instance, b.user_agent),
                until=now + (b.expires_at - wall).total_seconds(),
            )
            for b in kept
            if known(b.account)
        )
        for binding in kept:
            self.changed(binding.account)

    def changed(self, account: str) -> None:
        self._changed.add(account)
        self._wake.set()

    async def run(self) -> None:
        """Write what changed, as soon as the database takes it."""
        away = False
        while True:
            await self._wake.wait()
            self._wake.clear()
            accounts, self._changed = self._changed, set()
            try:
                async with asyncio.timeout(WITHIN_S):
                    await self._bindings.replace(accounts, self._held(accounts))
                away = False
            except (Unavailable, TimeoutError) as error:
                if not away:
                    log.warning("registrations cannot be stored for now", error=repr(error))
                away = True
                self._changed |= accounts
                self._wake.set()
                await asyncio.sleep(AGAIN_S)

    def _held(self, accounts: Iterable[str]) -> list[PhoneBinding]:
        wall, now = self._clock.now(), self._monotonic()
        return [
            PhoneBinding(
                *(r.account, r.contact, r.params, r.transport, r.host, r.port),
                *(r.call_id, r.cseq, r.instance, r.user_agent),
                expires_at=wall + timedelta(seconds=r.until - now),
            )
            for account in accounts
            for r in self._registrar.registrations(account)
        ]
