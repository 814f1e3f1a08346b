"""The files of customers: fetched at once from where the provider keeps them, looked at, kept below the data folder.

A file's name on disk is its id; nothing of it comes from outside. Its media type is what its bytes show.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import aiohttp
from prometheus_client import Counter
from yarl import URL

from routing import sniff
from routing.aio.reach import Forbidden, Reach

FOLDER = "attachments"
BYTES = 25 << 20  # of one file whose kind names no other cap
SECONDS = 30.0
REDIRECTS = 3
CONNECTIONS = 16
CHUNK_BYTES = 1 << 16

FETCHED = Counter("monofil_attachments_total", "Files of customers, by what became of them", ["result"])


class Away(Exception):
    """The file cannot be had now; trying again may help."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is kept, or why it is not: expired | too_large | refused | quarantined | empty."""

    path: str = ""  # below the data folder
    type: str = ""
    bytes: int = 0
    sha256: str = ""
    failed: str = ""


class Fetcher:
    """Fetches and keeps files; one client session."""

    def __init__(self, data: Path, *, allow: Sequence[str] = (), timeout_s: float = SECONDS) -> None:
        """`allow`: see routing.aio.reach.Reach."""
        self._data = data
        self._reach = Reach(allow)
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(self, url: str, id: UUID, *, said: str = "", most: int = BYTES) -> Stored:
        """Raises Away when another try may help; all else is in the answer."""
        try:
            async with asyncio.timeout(self._timeout_s):
                stored = await self._fetch(URL(url), id, said, most)
        except TimeoutError:
            raise Away("timeout") from None
        except aiohttp.ClientConnectorError as error:
            if not isinstance(error.os_error, Forbidden):
                raise Away(type(error).__name__) from None
            stored = Stored(failed="refused")
        except (aiohttp.InvalidURL, ValueError, UnicodeError):
            stored = Stored(failed="refused")
        except aiohttp.ClientError as error:
            raise Away(type(error).__name__) from None
        FETCHED.labels(stored.failed or "stored").inc()
        return stored

    async def keep(self, content: bytes, id: UUID, *, said: str = "", most: int = BYTES) -> Stored:
        """Keep bytes that are there already."""
        if not content:
            return Stored(failed="empty")
        if len(content) > most:
            return Stored(failed="too_large", bytes=len(content))
        return await asyncio.to_thread(self._write, content, id, said)

    def path(self, stored: str) -> Path:
        """Where a file is; ValueError for a path that is none of ours."""
        home = (self._data / FOLDER).resolve()
        found = (self._data / stored).resolve()
        if home not in found.parents:
            raise ValueError("not a stored file")
        return found

    async def _fetch(self, url: URL, id: UUID, said: str, most: int) -> Stored:
        home = url.host
        for _ in range(REDIRECTS + 1):
            self._reach.judge(url)
            async with self._client().get(url, allow_redirects=False) as response:
                if response.status in (301, 302, 303, 307, 308):
                    url = url.join(URL(response.headers.get("Location", "")))
                    if url.host != home:
                        return Stored(failed="refused")
                    continue
                if response.status >= 500 or response.status == 429:
                    raise Away(str(response.status))
                if response.status != 200:
                    return Stored(failed="expired")
                content = bytearray()
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    content += chunk
                    if len(content) > most:
                        response.close()
                        return Stored(failed="too_large", bytes=len(content))
                return await self.keep(bytes(content), id, said=said or response.content_type, most=most)
        return Stored(failed="refused")

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=self._reach, use_dns_cache=False, limit=CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity", "User-Agent": "Monofil"},
                auto_decompress=False,
            )
        return self._session

    def _write(self, content: bytes, id: UUID, said: str) -> Stored:
        """Whole or not at all: written beside, then renamed. Blocks; called in a thread."""
        kind = sniff.looks(content, said)
        failed = ""
        if kind in ("image/png", "image/jpeg", "image/gif", "image/webp"):
            size = sniff.pixels(content, kind)
            if size is None:
                kind = sniff.ANYTHING
            elif size > sniff.PIXELS:
                failed = "quarantined"
        path = f"{FOLDER}/{id.hex[-2:]}/{id}"
        to = self._data / path
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = to.with_name(f".{id}.{os.getpid()}")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(to)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        return Stored(path, kind, len(content), hashlib.sha256(content).hexdigest(), failed)
