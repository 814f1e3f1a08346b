"""What came in and what is to go out, on PostgreSQL: the stores `Requests` and `Outbox`."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from routing.aio.postgres import _attachments, _Store, _stores_sql, load_sql
from routing.channel import Part
from routing.models import Clock
from routing.store import AttachmentView, Due, RawRequest, RequestView

AT_ONCE_BYTES = 32 << 20  # bodies that are read together


@functools.cache
def _sql() -> dict[str, str]:
    return _stores_sql() | load_sql("parcels.sql")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _request(row: Any) -> RawRequest:
    return RawRequest(row["id"], row["account"], row["at"], row["headers"], bytes(row["body"]))


def _request_view(row: Any) -> RequestView:
    return RequestView(_request(row), row["handled_at"], row["tries"], row["result"])


class _Parcels(_Store):
    def __init__(self, pool: asyncpg.Pool, organisation: UUID, clock: Clock) -> None:
        super().__init__(pool, organisation, clock)
        self._sql = _sql()


class StoredRequests(_Parcels):
    async def add(self, requests: Sequence[RawRequest]) -> None:
        await self._do(
            "add_requests",
            [r.id for r in requests],
            [r.account for r in requests],
            [r.at for r in requests],
            [_json(dict(r.headers)) for r in requests],
            [r.body for r in requests],
        )

    async def unhandled(
        self,
        before: datetime,
        *,
        limit: int = 500,
        but: Collection[str] = (),
        without: Collection[UUID] = (),
    ) -> Sequence[RawRequest]:
        rows = await self._all("unhandled_requests", before, limit, list(but), list(without), AT_ONCE_BYTES)
        return [_request(row) for row in rows]

    async def next_due(self, but: Collection[str] = (), without: Collection[UUID] = ()) -> datetime | None:
        row = await self._one("next_request", list(but), list(without))
        return row[0] if row else None

    async def handled(self, id: UUID, at: datetime, result: Mapping[str, Any]) -> None:
        await self.handled_all(at, {id: result})

    async def handled_all(self, at: datetime, results: Mapping[UUID, Mapping[str, Any]]) -> None:
        values = [_json(dict(result)) for result in results.values()]
        await self._do("handled_requests", at, list(results), values)

    async def later(self, id: UUID, again_at: datetime, result: Mapping[str, Any]) -> None:
        await self._do("request_later", id, again_at, dict(result))

    async def get(self, id: UUID) -> RequestView | None:
        row = await self._one("request", id)
        return _request_view(row) if row else None

    async def latest(self, *, account: str | None = None, limit: int = 50) -> Sequence[RequestView]:
        return [_request_view(row) for row in await self._all("latest_requests", account, limit)]

    async def forget(self, before: datetime) -> int:
        row = await self._one("forget_requests", before)
        return int(row[0]) if row else 0


class StoredOutbox(_Parcels):
    async def take(
        self, now: datetime, *, worker: UUID, lease_s: float, limit: int, but: Collection[str] = ()
    ) -> tuple[Sequence[Due], Sequence[UUID]]:
        until = now + timedelta(seconds=lease_s)
        async with self._db() as connection, connection.transaction():
            rows = await connection.fetch(self._sql["take"], self._own, now, worker, until, limit, list(but))
            taken = sorted((row for row in rows if not row["late"]), key=lambda row: row["seq"])
            files: dict[UUID, list[AttachmentView]] = {}
            if taken:
                ids = [row["message"] for row in taken]
                files = _attachments(await connection.fetch(self._sql["attachments_of"], self._own, ids))
            gone: dict[UUID, list[str]] = {}
            if tried := [row["message"] for row in taken if row["why"]]:
                for row in await connection.fetch(self._sql["gone"], self._own, tried):
                    gone.setdefault(row["message"], []).append(row["external_id"])
        due = [
            Due(
                message=row["message"],
                thread=row["thread"],
                interaction=row["interaction"],
                account=row["account"],
                author=row["author"],
                tries=row["tries"],
                outgoing=row["outgoing"],
                attachments=tuple(files.get(row["message"], ())),
                gone=tuple(gone.get(row["message"], ())),
            )
            for row in taken
        ]
        return due, [row["message"] for row in rows if row["late"]]

    async def renew(self, worker: UUID, until: datetime) -> None:
        await self._do("renew", worker, until)

    async def named(self, message: UUID, external_id: str) -> None:
        await self._do("named", message, external_id)

    async def went(self, message: UUID, part: Part, external_id: str, at: datetime) -> str | None:
        where = (part.number, part.of, part.chars, part.files)
        await self._do("went", message, *where, external_id, at)
        row = await self._one("gone_whole", message)
        return row[0] if row else None

    async def marked(
        self, account: str, external_ids: Sequence[str], status: str
    ) -> Mapping[UUID, tuple[str, str]]:
        ids = list(external_ids)
        await self._do("mark_parts", account, ids, status)
        rows = await self._all("least_of_parts", account, ids)
        return {row["message"]: (row["least"], row["last"]) for row in rows}

    async def sent(self, message: UUID, external_id: str, at: datetime) -> None:
        await self._do("sent", message, external_id or None, at)

    async def echoed(self, message: UUID, external_id: str, at: datetime) -> None:
        await self._do("echoed", message, external_id or None, at)

    async def again(self, message: UUID, at: datetime, why: str, *, counted: bool = True) -> None:
        await self._do("again", message, at, why, counted)

    async def given_up(self, message: UUID, at: datetime, why: str, *, perhaps: bool) -> None:
        await self._do("given_up", message, at, why, perhaps)

    async def lost(self, now: datetime) -> Sequence[UUID]:
        return [row["message"] for row in await self._all("lost", now)]

    async def untold(self, *, limit: int = 500) -> Sequence[tuple[UUID, str, str | None, str]]:
        rows = await self._all("untold", limit)
        return [(row["message"], row["state"], row["external_id"], row["why"]) for row in rows]

    async def told(self, messages: Mapping[UUID, str]) -> None:
        await self._do("told", list(messages), list(messages.values()))

    async def next_due(self, but: Collection[str] = ()) -> datetime | None:
        row = await self._one("next_due", list(but))
        return row[0] if row else None

    async def lengths(self) -> Mapping[str, int]:
        return {row[0]: row[1] for row in await self._all("lengths")}
