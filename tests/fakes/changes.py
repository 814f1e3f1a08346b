"""Word from PostgreSQL whenever rows that are waited for have changed: triggers in a test's database notify us.

    async with Changes(dsn) as changes:
        await changes.until(look, "message", "walk")      # looked at now, and after each commit that changed a row

The triggers stay in the database; they send nothing but the names of tables.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import asyncpg

Value = TypeVar("Value")

TABLES = ("advisor_state", "attachment", "interaction", "message", "outbox", "request", "walk")
CHANNEL = "changed"
LOCK = 0x746F6C64
TELL = f"""
CREATE FUNCTION tell_of_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('{CHANNEL}', TG_TABLE_NAME); RETURN NULL; END $$;
""" + "".join(
    f"CREATE TRIGGER told AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION tell_of_change();"
    for table in TABLES
)


class Changes:
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._hearing: list[tuple[frozenset[str], asyncio.Event]] = []

    async def __aenter__(self) -> Changes:
        self._connection: asyncpg.Connection = await asyncpg.connect(self._dsn)
        try:
            async with self._connection.transaction():
                await self._connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
                if await self._connection.fetchval("SELECT to_regproc('tell_of_change')") is None:
                    await self._connection.execute(TELL)
            await self._connection.add_listener(CHANNEL, self._told)
        except BaseException:
            self._connection.terminate()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    def _told(self, _connection: Any, _process: int, _channel: str, table: Any) -> None:
        for tables, news in self._hearing:
            if table in tables:
                news.set()

    @contextlib.contextmanager
    def heard(self, *tables: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change of one of the tables; clear it before you look."""
        assert set(tables) <= set(TABLES), "no trigger tells of that"
        entry = frozenset(tables), asyncio.Event()
        self._hearing.append(entry)
        try:
            yield entry[1]
        finally:
            self._hearing.remove(entry)

    async def until(self, look: Callable[[], Awaitable[Value]], *tables: str) -> Value:
        """The first true value. Give it a deadline."""
        with self.heard(*tables) as news:
            while True:
                news.clear()
                if value := await look():
                    return value
                await news.wait()
