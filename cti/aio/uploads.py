"""Files that advisors have uploaded and not sent yet: on the disk, and described in memory until they are."""

from __future__ import annotations

import asyncio
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from routing.aio.fetch import Fetcher, Stored
from routing.models import Clock, Ids

KEPT = timedelta(hours=12)  # an advisor's day; what was not sent by then is deleted
MOST = 5_000  # of all advisors together; the oldest gives way
NAME_CHARS = 120
READ_AT_ONCE = 8  # files that are held in memory while they come


@dataclass(frozen=True, slots=True)
class Upload:
    id: UUID
    login: str
    at: datetime
    kind: str  # image | audio | video | file
    name: str
    stored: Stored


class Uploads:
    """Known until they are sent or too old. What a restart forgets must be attached again."""

    def __init__(self, files: Fetcher, clock: Clock, ids: Ids) -> None:
        self._files, self._clock, self._ids = files, clock, ids
        self.reading = asyncio.Semaphore(READ_AT_ONCE)
        self._known: dict[UUID, Upload] = {}

    async def keep(self, login: str, name: str, said: str, content: bytes, most: int) -> Upload | str:
        """Keep the bytes of a file, or the word why not: empty | too_large | quarantined."""
        await self._forget_old()
        id = self._ids()
        stored = await self._files.keep(content, id, said=said, most=most)
        if stored.failed:
            if stored.path:
                await asyncio.to_thread(self._files.path(stored.path).unlink, missing_ok=True)
            return stored.failed
        upload = Upload(id, login, self._clock.now(), kind_of(stored.type), plain_name(name), stored)
        self._known[id] = upload
        return upload

    def get(self, id: UUID, login: str) -> Upload | None:
        """One that this person has uploaded."""
        upload = self._known.get(id)
        return upload if upload is not None and upload.login == login else None

    def path(self, stored: str) -> Path:
        return self._files.path(stored)

    def sent(self, id: UUID) -> None:
        """It belongs to a message now."""
        self._known.pop(id, None)

    async def _forget_old(self) -> None:
        until = self._clock.now() - KEPT
        old = [u for u in self._known.values() if u.at < until]
        old += list(self._known.values())[: max(0, len(self._known) - MOST + 1)]
        for upload in old:
            self._known.pop(upload.id, None)
        if old:
            await asyncio.to_thread(_delete, [self._files.path(u.stored.path) for u in old])


def _delete(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def kind_of(type_: str) -> str:
    family = type_.partition("/")[0]
    return family if family in {"image", "audio", "video"} else "file"


def plain_name(name: str) -> str:
    """A name for people: no folders, no control or direction characters, not too long; its ending is kept."""
    last = name.replace("\\", "/").rpartition("/")[2]
    plain = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip(" .") or "file"
    stem, dot, ending = plain.rpartition(".")
    if len(plain) <= NAME_CHARS:
        return plain
    return f"{stem[: NAME_CHARS - 12]}{dot}{ending[:11]}" if dot else plain[:NAME_CHARS]
