"""Files of messages and the HTML of mails: stored and shown so that nothing in them can act in the page."""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID

import structlog
from aiohttp import BodyPartReader, hdrs, web

from cti import schemas
from cti.aio.console import V1, Console, cti_of
from routing.aio.web import Ask, FieldError, Problem, Route, route
from routing.letter import clean

log = structlog.get_logger(__name__)

MOST_BYTES = 100 << 20  # whatever a manifest says: one file is held in memory while it is looked at
SHOWN = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "audio/mpeg", "audio/ogg", "audio/wav", "audio/mp4",
     "audio/webm", "audio/amr", "audio/flac", "video/mp4", "video/webm"}
)  # fmt: skip
"""Types that a page may show in line: none of them can hold a script. All else is only downloaded."""
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
    try:
        reader = await request.multipart()
        part = await reader.next()
        while part is not None and not (isinstance(part, BodyPartReader) and part.name == "file"):
            part = await reader.next()
    except ValueError:  # also of aiohttp's own: a boundary that is none, headers that are none
        part = None
    if not isinstance(part, BodyPartReader):
        raise Problem(422, "invalid", errors=[FieldError("file", "one file, as a part of this name")])
    content = bytearray()
    try:
        while chunk := await part.read_chunk(1 << 16):
            content += chunk
            if len(content) > most:
                raise Problem(413, "too-large", f"At most {most} bytes; no channel here takes more.")
    except ValueError:
        raise Problem(422, "invalid", errors=[FieldError("file", "a whole file")]) from None
    said = part.headers.get(hdrs.CONTENT_TYPE, "")
    kept = await cti.uploads.keep(ask.who.login, part.filename or "", said, bytes(content), most)
    if isinstance(kept, str):
        raise Problem(
            422, "invalid", "This file cannot be sent.", errors=[FieldError("file", "a whole file", kept)]
        )
    return schemas.Uploaded(
        id=kept.id, kind=kept.kind, name=kept.name, type=kept.stored.type, bytes=kept.stored.bytes
    )


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
    inside = {a.content_id.strip("<>"): a.id for a in message.attachments if a.content_id}

    def placed(content_id: str) -> str | None:
        found = inside.get(content_id.strip("<>"))
        return f"{INSIDE}{found}" if found else None

    shown = clean(message.html, images=images, cid=placed).replace(f'"{INSIDE}', f'"{V1}/attachments/')
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
            # No script runs here whatever is in it; the same origin is kept so that its own pictures are shown.
            "Content-Security-Policy": (
                f"default-src 'none'; img-src {sources}; style-src 'unsafe-inline'; form-action 'none'; "
                "base-uri 'none'; frame-ancestors 'self'; "
                "sandbox allow-same-origin allow-popups allow-popups-to-escape-sandbox"
            ),
            "X-Frame-Options": "SAMEORIGIN",
            "Referrer-Policy": "no-referrer",
        },
    )


ROUTES: tuple[Route, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Route))
