"""Public links to files of ours, for providers that fetch what we send: signed, and only for an hour."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote
from uuid import UUID

from aiohttp import hdrs, web

from routing.aio.fetch import Fetcher
from routing.models import Clock
from routing.store import Messages

LIFE_S = 3600


class Links:
    """Makes links, and answers them: `GET /files/{id}?until=UNIX_SECONDS&proof=HEX`."""

    def __init__(
        self, *, public_url: str, secret: bytes, clock: Clock, messages: Messages, files: Fetcher
    ) -> None:
        assert len(secret) >= 16, "a secret that can be guessed proves nothing"
        self._base, self._secret, self._clock = public_url.rstrip("/"), secret, clock
        self._messages, self._files = messages, files

    def link(self, attachment: UUID) -> str:
        until = int(self._clock.unix()) + LIFE_S
        return f"{self._base}/files/{attachment}?until={until}&proof={self._proof(attachment, until)}"

    def _proof(self, attachment: UUID, until: int) -> str:
        return hmac.new(self._secret, f"{attachment} {until}".encode(), hashlib.sha256).hexdigest()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """404 for everything that is not a link of ours in its time. Add it as GET /files/{id}."""
        try:
            id = UUID(request.match_info["id"])
            until = int(request.query.get("until", ""))
            proof = request.query.get("proof", "").encode("utf-8", "replace")
        except ValueError:
            raise web.HTTPNotFound from None
        proved = hmac.compare_digest(proof, self._proof(id, until).encode())
        if not proved or until < self._clock.unix():
            raise web.HTTPNotFound
        file = await self._messages.attachment(id)
        if file is None or file.state != "stored":
            raise web.HTTPNotFound
        path = self._files.path(file.path)
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(
            path,
            headers={
                hdrs.CONTENT_TYPE: file.type or "application/octet-stream",
                hdrs.CONTENT_DISPOSITION: f"attachment; filename*=UTF-8''{quote(file.name or str(id), safe='')}",
                hdrs.CACHE_CONTROL: "private, no-store",
                "Content-Security-Policy": "default-src 'none'; sandbox",
                "X-Content-Type-Options": "nosniff",
            },
        )
