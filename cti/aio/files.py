"""Files of messages and the HTML of mails: stored and shown so that nothing in them can act in the page."""

from __future__ import annotations

import asyncio
import base64
import sys
from urllib.parse import quote
from uuid import UUID

import structlog
from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from cti import schemas
from cti.aio.console import V1, Console, cti_of
from routing.aio.web import Ask, FieldError, Problem, route, routes_in
from routing.letter import clean
from routing.store import AttachmentView

log = structlog.get_logger(__name__)

UPLOAD_S = 60.0
MOST_BYTES = 100 << 20  # whatever a manifest says: one file is held in memory while it is looked at
SHOWN = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "audio/mpeg", "audio/ogg", "audio/wav", "audio/mp4",
     "audio/webm", "audio/amr", "audio/flac", "video/mp4", "video/webm"}
)  # fmt: skip
"""Types that a page may show in line: none of them can hold a script. All else is only downloaded."""
PICTURES = frozenset(type_ for type_ in SHOWN if type_.startswith("image/"))
INLINE_BYTES = 4 << 20  # of a mail's own pictures that its HTML brings along
INSIDE = "https://inside.invalid/"  # stands for our own addresses while a mail is cleaned


@route("POST", f"{V1}/attachments", status=201, upload_bytes=MOST_BYTES, problems=(409,))
async def upload(ask: Ask) -> schemas.Uploaded:
    """Store a file that a message will bring: one part named `file`."""
    cti = cti_of(ask)
    request = ask.request
    if request.content_type != "multipart/form-data":
        raise Problem(415, "unsupported-media-type", "Send the file as multipart/form-data.")
    most = min(
        MOST_BYTES, max((b for m in cti.channels.values() for b in m.attachment_bytes.values()), default=0)
    )
    async with cti.uploads.reading, asyncio.timeout(UPLOAD_S):
        name, said, content = await _part(request, most)
    kept = await cti.uploads.keep(ask.who.login, name, said, content, most)
    if isinstance(kept, str):
        error = FieldError("file", "a whole file", kept)
        raise Problem(422, "invalid", "This file cannot be sent.", errors=[error])
    return schemas.Uploaded(
        id=kept.id, kind=kept.kind, name=kept.name, type=kept.stored.type, bytes=kept.stored.bytes
    )


async def _part(request: web.Request, most: int) -> tuple[str, str, bytes]:
    """(name, type as said, bytes) of the part named `file`."""
    content = bytearray()
    try:
        reader = await request.multipart()
        part = await reader.next()
        while part is not None and not (isinstance(part, BodyPartReader) and part.name == "file"):
            part = await reader.next()
        if not isinstance(part, BodyPartReader):
            raise ValueError("no such part")
        while chunk := await part.read_chunk(1 << 16):
            content += chunk
            if len(content) > most:
                raise Problem(413, "too-large", f"At most {most} bytes; no channel here takes more.")
    except (ValueError, HttpProcessingError):  # a boundary or headers that are none, a part that does not end
        error = FieldError("file", "one whole file, as a part of this name")
        raise Problem(422, "invalid", errors=[error]) from None
    return part.filename or "", part.headers.get(hdrs.CONTENT_TYPE, ""), bytes(content)


@route("GET", f"{V1}/attachments/{{id}}", content="application/octet-stream")
async def attachment(ask: Ask, id: UUID) -> web.StreamResponse:
    """A file of a message, or one that you have uploaded; pictures and sound in line, all else as a download."""
    cti = cti_of(ask)
    mine = cti.uploads.get(id, ask.who.login)
    if mine is not None:
        return _file(cti, id, mine.stored.path, mine.stored.type, mine.name)
    found = await cti.stores.messages.attachment(id)
    if found is None or found.state != "stored":
        raise Problem(404, "not-found", "There is no such file.")
    return _file(cti, id, found.path, found.type, found.name)


def _file(cti: Console, id: UUID, stored: str, type_: str, name: str) -> web.StreamResponse:
    try:
        path = cti.uploads.path(stored)
    except ValueError:
        path = None
    if path is None or not path.is_file():
        log.error("a file is not where it should be", attachment=str(id))
        raise Problem(404, "not-found", "The file is missing.")
    shown = type_ in SHOWN
    place = "inline" if shown else "attachment"
    name = quote(name or str(id), safe="", errors="replace")
    response = web.FileResponse(
        path,
        headers={
            hdrs.CONTENT_DISPOSITION: f"{place}; filename*=UTF-8''{name}",
            hdrs.CACHE_CONTROL: "private, no-store",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )
    response.content_type = type_ if shown else "application/octet-stream"
    return response


@route("GET", f"{V1}/messages/{{id}}/html", content="text/html")
async def message_html(ask: Ask, id: UUID, images: bool = False) -> web.Response:
    """The HTML of a mail, cleaned, for a sandboxed frame; remote images only when somebody asks for them."""
    cti = cti_of(ask)
    message = await cti.message(id)
    if not message.html:
        raise Problem(404, "not-found", "This message has no HTML.")
    inside = {
        a.content_id.strip("<>"): a for a in message.attachments if a.content_id and a.state == "stored"
    }
    used: dict[str, AttachmentView] = {}

    def placed(content_id: str) -> str | None:
        found = inside.get(content_id.strip("<>"))
        if found is None:
            return None
        used[f"{INSIDE}{found.id}"] = found
        return f"{INSIDE}{found.id}"

    shown = clean(message.html, images=images, cid=placed)
    left = INLINE_BYTES
    for address, file in used.items():
        inline = file.type in PICTURES and file.bytes <= left
        if inline:
            left -= file.bytes
        source = await _data(cti, file) if inline else f"{V1}/attachments/{file.id}"
        shown = shown.replace(f'src="{address}"', f'src="{source}"')
    sources = "'self' data: https: http:" if images else "'self' data:"
    page = (
        '<!doctype html><meta charset="utf-8">'
        "<style>body{margin:8px;font:14px/1.45 system-ui,sans-serif;overflow-wrap:anywhere}"
        f"img{{max-width:100%;height:auto}}</style>{shown}"
    )
    return web.Response(
        text=page,
        content_type="text/html",
        charset="utf-8",
        headers={
            "Content-Security-Policy": (
                f"default-src 'none'; img-src {sources}; style-src 'unsafe-inline'; form-action 'none'; "
                "base-uri 'none'; frame-ancestors 'self'; "
                "sandbox allow-popups allow-popups-to-escape-sandbox"
            ),
            "X-Frame-Options": "SAMEORIGIN",
            "Referrer-Policy": "no-referrer",
        },
    )


async def _data(cti: Console, file: AttachmentView) -> str:
    """A picture as a data: URL: a sandboxed frame is nobody, and has no cookie to fetch it with."""
    try:
        content = await asyncio.to_thread(cti.uploads.path(file.path).read_bytes)
    except (OSError, ValueError):
        log.error("a file is not where it should be", attachment=str(file.id))
        return ""
    return f"data:{file.type};base64,{base64.b64encode(content).decode()}"


ROUTES = routes_in(sys.modules[__name__])
