"""Registrations in a database that may be away, with a clock on each side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config import registrations
from config.registrations import Registrations
from routing.store import PhoneBinding, Unavailable
from softphone_bridge.signals import Registration

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
UP_S = 5000.0  # since the machine started


class _Noon:
    def now(self) -> datetime:
        return NOON

    def unix(self) -> float:
        return NOON.timestamp()


def registration(account: str, port: int = 5060, left_s: float = 300.0) -> Registration:
    return Registration(
        account, f"sip:{account}@10.0.0.1", "", "udp", "10.0.0.1", port, "c1", 7, "", "T1", UP_S + left_s
    )


def binding(account: str, port: int = 5060, left_s: float = 300.0) -> PhoneBinding:
    ends = NOON + timedelta(seconds=left_s)
    return PhoneBinding(
        account, f"sip:{account}@10.0.0.1", "", "udp", "10.0.0.1", port, "c1", 7, "", "T1", ends
    )


class _Sip:
    def __init__(self) -> None:
        self.held: dict[str, Registration] = {}
        self.restored: list[Registration] = []

    def registrations(self, account: str) -> tuple[Registration, ...]:
        return (self.held[account],) if account in self.held else ()

    def restore(self, kept: Iterable[Registration]) -> None:
        self.restored += kept


class _Table:
    """A table that fails or hangs for as long as it is told to."""

    def __init__(self) -> None:
        self.rows: dict[str, PhoneBinding] = {}
        self.writings = 0
        self.written = asyncio.Event()
        self.tried = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()
        self.away = False

    async def all(self) -> Sequence[PhoneBinding]:
        return list(self.rows.values())

    async def replace(self, accounts: Collection[str], bindings: Sequence[PhoneBinding]) -> None:
        self.tried.set()
        await self.answers.wait()
        if self.away:
            raise Unavailable
        self.rows = {a: b for a, b in self.rows.items() if a not in accounts}
        self.rows |= {b.account: b for b in bindings}
        self.writings += 1
        self.written.set()


@asynccontextmanager
async def keeper() -> AsyncIterator[tuple[Registrations, _Sip, _Table]]:
    sip, table = _Sip(), _Table()
    kept = Registrations(table, sip, _Noon(), lambda: UP_S)
    running = asyncio.create_task(kept.run())
    try:
        yield kept, sip, table
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def soon(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 10)
    event.clear()


async def test_what_holds_is_written_with_the_time_on_the_wall() -> None:
    async with keeper() as (kept, sip, table):
        sip.held["101"] = registration("101")
        kept.changed("101")
        await soon(table.written)
        assert table.rows == {"101": binding("101")}
        del sip.held["101"]
        kept.changed("101")
        await soon(table.written)
        assert table.rows == {}


async def test_what_is_restored_has_the_time_of_this_machine_and_strangers_are_struck_out() -> None:
    async with keeper() as (kept, sip, table):
        table.rows = {"101": binding("101"), "102": binding("102")}
        sip.held["101"] = registration("101")
        kept.restore(await table.all(), lambda account: account == "101")
        assert sip.restored == [registration("101")]
        await soon(table.written)
        assert table.rows == {"101": binding("101")}


@pytest.mark.parametrize("how", ["frozen", "away"])
async def test_a_database_that_is_gone_is_tried_again_and_gets_only_what_holds_at_last(
    how: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(registrations, "WITHIN_S", 0.01)
    monkeypatch.setattr(registrations, "AGAIN_S", 0.0)
    async with keeper() as (kept, sip, table):
        if how == "frozen":
            table.answers.clear()
        table.away = how == "away"
        for port in range(5000, 5100):
            for account in ("101", "102"):
                sip.held[account] = registration(account, port)
                kept.changed(account)
        await soon(table.tried)
        await soon(table.tried)
        assert len(kept._changed) <= 2
        del sip.held["102"]
        kept.changed("102")
        monkeypatch.setattr(registrations, "WITHIN_S", 10.0)
        table.away = False
        table.answers.set()
        await soon(table.written)
        while table.rows != {"101": binding("101", 5099)}:
            await soon(table.written)
        assert table.writings <= 3
