"""The built console as files: found once, served from memory, compressed where the build made a `.gz`."""

from __future__ import annotations

import hashlib
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web

from routing.aio.web import Problem

_HASHED = re.compile(r"[-.][A-Za-z0-9_-]{8,}\.\w+$")  # as the build names what never changes

MISSING = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Monofil</title>
<h1>The console is not built</h1>
<p>The server is running. Its page is missing: in a checkout, run
<code>npm ci &amp;&amp; npm run build</code> in <code>cti/console</code> and start the server again.</p>
<h1 lang="fr">La console n’est pas construite</h1>
<p lang="fr">Le serveur fonctionne. Il manque sa page : dans une copie des sources, lancez
<code>npm ci &amp;&amp; npm run build</code> dans <code>cti/console</code>, puis relancez le serveur.</p>
</html>
"""


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    gz: bytes | None
    kind: str
    etag: str
    immutable: bool


class ConsoleFiles:
    """What the folder held at start."""

    def __init__(self, dist: Path) -> None:
        self._files: dict[str, _File] = {}
        for path in sorted(dist.rglob("*")) if dist.is_dir() else ():
            if not path.is_file() or path.suffix in {".gz", ".map"}:
                continue
            name = path.relative_to(dist).as_posix()
            zipped = path.with_name(path.name + ".gz")
            body = path.read_bytes()
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            if path.suffix == ".js":
                kind = "text/javascript"
            self._files[name] = _File(
                body=body,
                gz=zipped.read_bytes() if zipped.is_file() else None,
                kind=kind,
                etag=f'"{hashlib.sha256(body).hexdigest()[:24]}"',
                immutable=name != "index.html" and bool(_HASHED.search(name)),
            )

    @property
    def built(self) -> bool:
        return "index.html" in self._files

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """A file, or the page itself for every path of the page's own."""
        name = request.match_info.get("tail", "")
        if name.startswith("api/"):
            raise Problem(404, "not-found", "There is nothing at this path.")
        file = self._files.get(name)
        if file is None and "." in name.rpartition("/")[2]:
            raise Problem(404, "not-found", "There is nothing at this path.")
        file = file or self._files.get("index.html")
        if file is None:
            return web.Response(
                status=503, text=MISSING, content_type="text/html", headers={hdrs.CACHE_CONTROL: "no-store"}
            )
        headers = {
            hdrs.ETAG: file.etag,
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
            hdrs.CACHE_CONTROL: "public, max-age=31536000, immutable" if file.immutable else "no-cache",
        }
        if file.etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return web.Response(status=304, headers=headers)
        body = file.body
        if file.gz is not None and "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            body = file.gz
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        charset = "utf-8" if file.kind.startswith("text/") else None
        return web.Response(body=body, content_type=file.kind, charset=charset, headers=headers)

    def add_to(self, app: web.Application) -> None:
        """The last route: everything that nobody else takes."""
        app.router.add_route(hdrs.METH_GET, "/{tail:.*}", self.serve)
        app.router.add_route(hdrs.METH_HEAD, "/{tail:.*}", self.serve)
