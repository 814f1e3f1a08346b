"""The stores on PostgreSQL: connections, migrations, and every Protocol of `routing.store`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg

MIGRATION_LOCK = 0x6D6F6E6F66696C  # "monofil"
OLDEST_SERVER = 15


class WrongSchema(Exception):
    """The database was migrated by another program or a newer version; the message is one sentence."""


def named_sql(text: str) -> dict[str, str]:
    """The statements of a file, by the names on their `-- name: …` lines."""
    parts = re.split(r"^-- name: *(\w+) *$", text, flags=re.MULTILINE)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def load_sql(file: str) -> dict[str, str]:
    return named_sql(files("routing.sql").joinpath(file).read_text("utf-8"))


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, text) of every migration, in order."""
    found = []
    for entry in files("routing.sql").joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name):
            found.append((int(match[1]), match[2], entry.read_text("utf-8")))
    return sorted(found)


async def prepare(connection: asyncpg.Connection) -> None:
    """Every connection speaks JSON as Python values (binary, so that COPY takes it too)."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),
        decoder=lambda data: json.loads(data[1:]),
    )


async def connect(dsn: str, **options: Any) -> asyncpg.Connection:
    connection = await asyncpg.connect(dsn, **options)
    await prepare(connection)
    return connection


@asynccontextmanager
async def pool(dsn: str, *, size: int = 8) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=size, init=prepare) as made:
        yield made


async def schema_status(connection: asyncpg.Connection) -> list[tuple[int, str, bool]]:
    """(number, name, applied) of every migration we know."""
    known = set()
    if await connection.fetchval("SELECT to_regclass('schema_version')"):
        known = {row["version"] for row in await connection.fetch("SELECT version FROM schema_version")}
    return [(number, name, number in known) for number, name, _ in migrations()]


async def migrate(dsn: str) -> list[int]:
    """Bring the schema up to date, one transaction a file, one migrator at a time. Returns what was applied."""
    connection = await asyncpg.connect(dsn)
    try:
        if connection.get_server_version().major < OLDEST_SERVER:
            raise WrongSchema(
                f"PostgreSQL {connection.get_server_version().major} is too old: "
                f"use {OLDEST_SERVER} or newer (MONOFIL_DATABASE_URL)."
            )
        await connection.execute("SELECT pg_advisory_lock($1::bigint)", MIGRATION_LOCK)
        try:
            return await _migrate(connection)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1::bigint)", MIGRATION_LOCK)
    finally:
        await connection.close()


async def _migrate(connection: asyncpg.Connection) -> list[int]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version"
        " (version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL)"
    )
    there = {
        row["version"]: row
        for row in await connection.fetch("SELECT version, name, checksum FROM schema_version")
    }
    ours = {number: (name, text) for number, name, text in migrations()}
    if newer := sorted(set(there) - set(ours)):
        raise WrongSchema(
            f"The database has migration {newer[-1]}, which this version does not know: run the newer version."
        )
    applied = []
    for number, (name, text) in ours.items():
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if number in there:
            if there[number]["checksum"] != checksum:
                raise WrongSchema(
                    f"Migration {number:04} ({name}) differs from the one this database was made with: "
                    "run that version."
                )
            continue
        async with connection.transaction():
            await connection.execute(text)
            await connection.execute("INSERT INTO schema_version VALUES ($1, $2, $3)", number, name, checksum)
        applied.append(number)
    return applied


async def organisation_id(connection: Any, short: str, new_id: Callable[[], UUID], now: Any) -> UUID:
    """The id of an organisation by its short name, made when it is new."""
    await connection.execute(
        "INSERT INTO organisation (id, short, created_at) VALUES ($1, $2, $3) ON CONFLICT (short) DO NOTHING",
        new_id(),
        short,
        now,
    )
    found: UUID = await connection.fetchval("SELECT id FROM organisation WHERE short = $1", short)
    return found
