"""Files that advisors have uploaded and not sent yet: on the disk, each described in a file of its own until it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import unicodedata
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import structlog

from routing.aio.fetch import Fetcher, Stored
from routing.models import Clock, Ids

KEPT = timedelta(hours=12)  # an advisor's day; what was not sent by then is deleted
MOST = 5_000  # of all advisors together; the oldest gives way
NAME_CHARS = 120
READ_AT_ONCE = 8  # files that are held in memory while they come

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Upload:
    id: UUID
    login: str
    at: datetime
    kind: str  # image | audio | video | file
    name: str
    stored: Stored


class Uploads:
    """Known until they are sent or too old, also after a restart: `folder` holds what is known of each."""

    def __init__(self, files: Fetcher, clock: Clock, ids: Ids, folder: Path) -> None:
        self._files, self._clock, self._ids, self._folder = files, clock, ids, folder
        self.reading = asyncio.Semaphore(READ_AT_ONCE)
        self._known: dict[UUID, Upload] = {upload.id: upload for upload in _kept(folder)}
        self._former = frozenset(
            self._known
        )  # may have been sent just before we ended: their bytes are left alone

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
        await asyncio.to_thread(_write, upload, self._folder)
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
        if self._known.pop(id, None) is not None:
            with contextlib.suppress(OSError):
                _place(self._folder, id).unlink(missing_ok=True)

    async def _forget_old(self) -> None:
        until = self._clock.now() - KEPT
        old = [u for u in self._known.values() if u.at < until]
        old += list(self._known.values())[: max(0, len(self._known) - MOST + 1)]
        for upload in old:
            self._known.pop(upload.id, None)
        if old:
            places = [self._files.path(u.stored.path) for u in old if u.id not in self._former]
            await asyncio.to_thread(_delete, places + [_place(self._folder, u.id) for u in old])


def _place(folder: Path, id: UUID) -> Path:
    return folder / f"{id}.json"


def _write(upload: Upload, folder: Path) -> None:
    """Whole or not at all."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = asdict(upload) | {"id": str(upload.id), "at": upload.at.isoformat()}
    beside = folder / f".{upload.id}"
    beside.touch(mode=0o600)
    beside.write_text(json.dumps(told), "utf-8")
    beside.replace(_place(folder, upload.id))


def _kept(folder: Path) -> list[Upload]:
    """What a former life knew, oldest first."""
    found = []
    for path in folder.glob("*.json"):
        try:
            told = json.loads(path.read_text("utf-8"))
            stored = Stored(**told.pop("stored"))
            id, at = UUID(told.pop("id")), datetime.fromisoformat(told.pop("at"))
            found.append(Upload(id=id, at=at, stored=stored, **told))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("an upload is not known any more", file=path.name, why=type(error).__name__)
    return sorted(found, key=lambda upload: upload.at)


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
