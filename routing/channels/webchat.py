"""Chat on web sites: frames of the visitors of our own widget, as `routing/aio/visitors.py` hands them on.

A body is `{"visitor": {"id", "lang", "name", "email", "phone", "case"}, "at": milliseconds, "frames": [...]}`. Who the
visitor is was proved by their token; what they say of themselves (name, addresses, case) was not.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic_core import from_json

from routing.channel import (
    CHAT,
    Answer,
    Echoed,
    Failed,
    Failure,
    File,
    Heard,
    Manifest,
    Memory,
    Outgoing,
    Peer,
    PushCall,
    Receipt,
    Rendering,
    Request,
    Secrets,
    Sent,
    Typed,
    Unknown,
    Wrote,
)
from routing.site import Account

MANIFEST: Final = Manifest(
    name="webchat",
    seat=CHAT,
    address_kind="webchat",
    labels={"fr": "Discussion du site", "en": "Web chat"},
    quick_replies=10,
    quick_reply_chars=40,
    attachment_bytes=dict.fromkeys(("image", "audio", "file"), 5_000_000),
    typing=True,
    marks=frozenset({"delivered", "read", "typing"}),
    visitors=True,
    settings=("origins",),
    optional=("hours", "email", "gone_after_s"),
    kinds={"origins": "origins", "hours": "hours", "email": "address", "gone_after_s": "seconds"},
)

PERSON: Final = "human"
"""The payload of the button that leads to a person, in every tree."""
CALL_ME: Final = {"fr": "Un conseiller peut-il m’appeler au {} ?", "en": "Can an advisor call me on {}?"}
LEFT: Final = {
    "fr": "Le visiteur a terminé la conversation.",
    "en": "The visitor has ended the conversation.",
}
NAME_CHARS: Final = 100
ADDRESS_CHARS: Final = 254  # RFC 5321 4.5.3.1.3


def verify(request: Request, account: Account, secrets: Secrets) -> Answer:
    """Visitors come in by their socket; nothing is taken at /hooks."""
    return Answer(False, 404, why="visitors have a way of their own")


def parse(raw: bytes, account: Account) -> tuple[Heard, ...]:
    """Every frame in its order; what cannot be read is an Unknown that says why."""
    try:
        body = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        return (_unknown(f"unreadable: {str(error)[:100]}"),)
    frames = _map(body).get("frames")
    if not isinstance(frames, list):
        return (_unknown("no frames"),)
    told = _visitor(_map(body).get("visitor"))
    at = _time(_map(body).get("at"))
    if told is None:
        return tuple(_unknown("no visitor", at) for _ in frames)
    return tuple(_frame(frame, told, at) for frame in frames)


@dataclass(frozen=True, slots=True)
class _Visitor:
    peer: Peer
    lang: str
    facts: Mapping[str, Any]


def _visitor(said: Any) -> _Visitor | None:
    told = _map(said)
    id = _text(told.get("id"))
    if not id:
        return None
    claims = tuple(
        (kind, value)
        for kind in ("email", "phone")
        if (value := _text(told.get(kind)).strip()) and len(value) <= ADDRESS_CHARS
    )
    names = {"case": "case_named", "page_url": "page_url", "referrer": "referrer"}
    facts = {fact: value[:1000] for name, fact in names.items() if (value := _text(told.get(name)))}
    name = _text(told.get("name")).strip()[:NAME_CHARS]
    return _Visitor(Peer(MANIFEST.address_kind, id, name, claims=claims), _text(told.get("lang")), facts)


def _frame(frame: Any, told: _Visitor, at: datetime | None) -> Heard:
    said = _map(frame)
    kind = _text(said.get("type"))
    reader = _READERS.get(kind)
    try:
        if reader is None:
            return Unknown(peer=told.peer, at=at, what=kind[:200] or "nothing")
        return reader(said, told, at)
    except ValueError as error:
        return Unknown(peer=told.peer, at=at, what=f"broken {kind}: {error}"[:200])


def _message(said: Mapping[str, Any], told: _Visitor, at: datetime | None) -> Heard:
    text, payload = _text(said.get("text")).strip(), _text(said.get("payload"))
    if not text:
        raise ValueError("no text")
    kind = "postback" if payload else "text"
    return Wrote(
        peer=told.peer,
        at=at,
        external_id=_external(said, told),
        kind=kind,
        text=text,
        payload=payload,
        facts=told.facts,
    )


def _attachment(said: Mapping[str, Any], told: _Visitor, at: datetime | None) -> Heard:
    file = _map(said.get("file"))
    try:
        content: bytes | None = b64decode(_text(file.get("content")), validate=True) or None
    except (binascii.Error, ValueError):
        content = None
    kind = _text(file.get("kind"))
    enclosed = File(
        kind if kind in MANIFEST.attachment_bytes else "file",
        _text(file.get("name")),
        _text(file.get("type")),
        content=content,
    )
    return Wrote(
        peer=told.peer,
        at=at,
        external_id=_external(said, told),
        kind="media",
        files=(enclosed,),
        facts=told.facts,
    )


def _call_me(said: Mapping[str, Any], told: _Visitor, at: datetime | None) -> Heard:
    """Asks for a person, from wherever in a tree; the number is an address of the contact, to be clicked."""
    phone = _text(said.get("phone")).strip()
    if not phone or len(phone) > ADDRESS_CHARS:
        raise ValueError("no number")
    claims = (*(claim for claim in told.peer.claims if claim[0] != "phone"), ("phone", phone))
    return Wrote(
        peer=Peer(told.peer.kind, told.peer.value, told.peer.name, claims=claims),
        at=at,
        external_id=_external(said, told),
        kind="postback",
        text=_in(CALL_ME, told.lang).format(phone),
        payload=PERSON,
        facts={**told.facts, "call_me": phone},
    )


def _ended(said: Mapping[str, Any], told: _Visitor, at: datetime | None) -> Heard:
    return Wrote(
        peer=told.peer,
        at=at,
        external_id=_external(said, told),
        kind="system",
        text=_in(LEFT, told.lang),
        facts={"left": True},
        automatic=True,
        leaves=True,
    )


def _receipt(said: Mapping[str, Any], told: _Visitor, at: datetime | None) -> Heard:
    ids = said.get("ids")
    named = tuple(id for id in map(_text, ids) if id) if isinstance(ids, list) else ()
    if not named:
        raise ValueError("no ids")
    return Receipt(peer=told.peer, at=at, status=_text(said.get("type")), external_ids=named)


def _was_shown(said: Mapping[str, Any], told: _Visitor, at: datetime | None) -> Heard:
    """A message of ours of which nobody knew whether it was sent stands on the visitor's page."""
    id = _text(said.get("id"))
    return Echoed(peer=told.peer, at=at, external_id=str(UUID(id)), ours=UUID(id))


def _typing(said: Mapping[str, Any], told: _Visitor, at: datetime | None) -> Heard:
    return Typed(peer=told.peer, at=at, on=said.get("on") is True)


_READERS: Mapping[str, Callable[[Mapping[str, Any], _Visitor, datetime | None], Heard]] = {
    "message": _message,
    "attachment": _attachment,
    "call_me": _call_me,
    "end": _ended,
    "delivered": _receipt,
    "read": _receipt,
    "shown": _was_shown,
    "typing": _typing,
}


def _external(said: Mapping[str, Any], told: _Visitor) -> str:
    """Client ids are a visitor's own: two visitors may choose the same."""
    id = _text(said.get("client_id"))
    if not id:
        raise ValueError("no client_id")
    return f"{told.peer.value}:{id}"


def _unknown(what: str, at: datetime | None = None) -> Unknown:
    return Unknown(peer=Peer(MANIFEST.address_kind, ""), at=at, what=what)


def _in(words: Mapping[str, str], lang: str) -> str:
    return words.get(lang[:2], words["en"])


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value.replace("\x00", "�") if isinstance(value, str) else ""


def _time(value: Any) -> datetime | None:
    """Milliseconds since 1970."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 47:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)


def render(out: Outgoing, account: Account, secrets: Secrets, memory: Memory) -> Rendering:
    """One push to the visitor's open pages; with none open they read it when they return."""
    if out.act in ("typing_on", "typing_off"):
        shown = {"on": out.act == "typing_on", "name": out.author_name}
        frame: dict[str, Any] = {"type": "typing", "data": shown}
    elif out.act == "seen":
        frame = {"type": "status", "data": {"state": "read"}}
    elif out.act != "message":
        return Failed(Failure.REFUSED, "act", f"no such act: {out.act}")
    elif not (out.text.strip() or out.files):
        return Failed(Failure.REFUSED, "empty", "empty")
    elif len(out.buttons) > MANIFEST.quick_replies:
        return Failed(Failure.REFUSED, "buttons", f"more than {MANIFEST.quick_replies} quick replies")
    else:
        frame = {"type": "message", "id": str(out.message), "data": _shown(out)}
    reply = yield PushCall(out.to, frame)
    if reply.lost or reply.status not in (200, 404):
        return Failed(Failure.TRANSIENT, f"push {reply.status}", "the pages could not be told")
    return Sent(str(out.message) if out.act == "message" else "")


def _shown(out: Outgoing) -> dict[str, Any]:
    return {
        "text": out.text,
        "author": {"kind": out.author, "name": out.author_name},
        "buttons": [{"title": button.title, "payload": button.payload} for button in out.buttons],
        "attachments": [{"id": str(file.id), "name": file.name, "type": file.type} for file in out.files],
    }
