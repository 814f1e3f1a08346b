"""Facebook Messenger: webhooks of a Page and Meta's Send API (Graph), as documented in 2026.

`sender.id` is the customer's page-scoped id (PSID) and `recipient.id` the Page; the other way round in echoes.
Times are milliseconds. What we send carries `metadata: cc:<our id>`, by which its echo is known again; a part of a long
message says which one it is, `cc:<our id>:<number>/<of>:<characters>:<files>` (routing.channel.Part).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import unicodedata
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID

from pydantic_core import from_json

from routing import letter
from routing.channel import (
    CHAT,
    Answer,
    Changed,
    Echoed,
    Enclosed,
    Failed,
    Failure,
    File,
    Heard,
    HttpCall,
    Manifest,
    Memory,
    Outgoing,
    Part,
    PartSent,
    Peer,
    Perhaps,
    Reacted,
    Receipt,
    Rendering,
    Reply,
    Request,
    Result,
    Secrets,
    Sent,
    ThreadMoved,
    Unknown,
    Wrote,
)
from routing.site import Account

MANIFEST: Final = Manifest(
    name="messenger",
    seat=CHAT,
    address_kind="psid",
    labels={"fr": "Messenger", "en": "Messenger"},
    text_chars=2000,
    quick_replies=13,
    quick_reply_chars=20,
    attachment_bytes=dict.fromkeys(("image", "audio", "video", "file"), 25_000_000),
    window_h=24,
    tag_window_h=168,
    tag="HUMAN_AGENT",
    typing=True,
    kept_headers=("x-hub-signature-256",),
    marks=frozenset({"delivered", "read", "reaction", "edited"}),
    rates={"": 300, "audio": 10, "video": 10},
    settings=("page_id",),
    optional=("api_base", "api_version", "app_id", "persona_picture", "profiles"),
    kinds={"api_base": "url", "persona_picture": "url", "profiles": "yes|no"},
    identity="page_id",
    profiles="profiles",
    secrets=("app_secret", "page_token", "verify_token"),
    hook_secrets=frozenset(
        {"app_secret", "verify_token"}
    ),  # of the application, which may have several Pages
)

API_BASE: Final = "https://graph.facebook.com"
API_VERSION: Final = "v25.0"
PERSONA_CHARS: Final = 50  # Personas API: name
PAYLOAD_CHARS: Final = 1000  # quick_replies[].payload
KEPT_CHARS: Final = 4000  # of a referral
REFUSED: Final = "-"  # in the memory, in place of a persona's id, or as PROFILES
PROFILES: Final = "profiles"
NO_ACCESS = frozenset({3, 10, 200})  # codes that speak of the application, not of the person

TOKEN = frozenset({102, 190})
THROTTLED = frozenset({4, 17, 32, 613, 80007})
TRANSIENT = frozenset({1, 2})
GONE = frozenset({551})
ACCOUNT = frozenset({368})
BY_SUBCODE: Mapping[tuple[int, int], Failure] = {
    (10, 2018278): Failure.WINDOW,
    (10, 1893063): Failure.ACCOUNT,
    (100, 2018001): Failure.GONE,
}


def verify(request: Request, account: Account, secrets: Secrets) -> Answer:
    """The subscription's handshake (GET), or a POST whose HMAC over the raw bytes is that of our app."""
    if request.method == "GET":
        return _handshake(request.query, secrets.get("verify_token", ""))
    if request.method != "POST":
        return Answer(False, 405, why="method")
    secret = secrets.get("app_secret", "")
    if not secret:
        return Answer(False, 401, why="no app_secret is set")
    said = request.headers.get("x-hub-signature-256", "")
    if not said:
        return Answer(False, 401, why="no signature")
    ours = "sha256=" + hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(said.encode("utf-8", "replace"), ours.encode()):
        return Answer(False, 401, why="wrong signature")
    return Answer(True)


def _handshake(query: Mapping[str, str], token: str) -> Answer:
    said = query.get("hub.verify_token", "")
    challenge = query.get("hub.challenge", "")
    known = hmac.compare_digest(said.encode("utf-8", "replace"), token.encode())
    if query.get("hub.mode") != "subscribe" or not token or not known or not challenge:
        return Answer(False, 403, why="handshake refused")
    return Answer(True, 200, challenge)


def parse(raw: bytes, account: Account) -> tuple[Heard, ...]:
    """Every event of a body in its order, for the Page of its entry. What cannot be read is an Unknown that says why;
    nothing is raised.
    """
    try:
        body = _read(raw)
    except ValueError as error:
        return (_unknown(f"unreadable: {error}"),)
    if not isinstance(body, dict) or not isinstance(body.get("entry"), list):
        return (_unknown("not an envelope"),)
    if body.get("object") != "page":
        return (_unknown(f"object {_id(body.get('object'))}"),)
    heard: list[Heard] = []
    for entry in body["entry"]:
        if not isinstance(entry, dict) or not (page := _id(entry.get("id"))):
            heard.append(_unknown("broken entry"))
        else:
            heard += [replace(one, receiver=page) for one in _entry(entry, account)]
    return tuple(heard)


_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u(?:[dD][89a-fA-F][0-9a-fA-F]{2}|0000))|\\."
)


def _read(raw: bytes) -> Any:
    """JSON within limits (depth 200, 4300 digits).

    NUL, and half an emoji that somebody's client cut, become U+FFFD: no database takes them, and they must not cost
    the batch.
    """
    return from_json(
        _ESCAPE.sub(lambda found: b"\\ufffd" if found[1] else found[0], raw), allow_inf_nan=False
    )


def _entry(entry: Mapping[str, Any], account: Account) -> Iterator[Heard]:
    for place in ("messaging", "standby"):
        events = entry.get(place)
        for event in events if isinstance(events, list) else ():
            try:
                yield _event(event, account, standby=place == "standby")
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                yield _unknown(f"broken event: {type(error).__name__}", event)
    changes = entry.get("changes")
    for change in changes if isinstance(changes, list) else ():
        yield _unknown(f"change {_id(_map(change).get('field'))}")


def _event(event: Mapping[str, Any], account: Account, *, standby: bool) -> Heard:
    message = _map(event.get("message"))
    echo = message.get("is_echo") is True
    psid = _id(_map(event.get("recipient" if echo else "sender")).get("id"))
    if not psid:
        return _unknown("no recipient" if echo else "no sender")
    peer, at = Peer("psid", psid), _time(event.get("timestamp"))
    if echo:
        return _echo(message, peer, at, account)
    if message:
        return _message(message, event, peer, at, standby)
    for name, reader in _READERS.items():
        if name in event:
            return reader(_map(event[name]), peer, at, account, standby)
    named = sorted(set(event) - {"sender", "recipient", "timestamp"})
    return Unknown(peer=peer, at=at, what=" ".join(_text(name) for name in named)[:200] or "nothing")


def _message(
    message: Mapping[str, Any], event: Mapping[str, Any], peer: Peer, at: datetime | None, standby: bool
) -> Heard:
    mid = _id(message.get("mid"))
    if not mid:
        return Unknown(peer=peer, at=at, what="message without mid")
    if message.get("is_deleted") is True:
        return Changed(peer=peer, at=at, external_id=mid, text=None)
    seen = _attachments(message.get("attachments"))
    text = "\n".join(part for part in (_text(message.get("text")), *seen.lines) if part)
    facts = dict(seen.facts)
    kind = seen.kind
    if message.get("is_unsupported") is True or not (text or seen.files or facts):
        kind, facts["unsupported"] = "system", True
    return Wrote(
        peer=peer,
        at=at,
        external_id=mid,
        kind=kind,
        text=text,
        payload=_text(_map(message.get("quick_reply")).get("payload")),
        files=seen.files,
        reply_to=_id(_map(message.get("reply_to")).get("mid")),
        referral=_kept(message.get("referral") or event.get("referral")),
        facts=facts,
        standby=standby,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the attachments of a message amount to: files to fetch, lines to show, facts to keep."""

    kind: str
    files: tuple[File, ...]
    lines: tuple[str, ...]
    facts: Mapping[str, Any]


def _file_name(what: str, url: str, said: Any) -> str:
    """As it was named, else as its address ends; pictures and sounds have only numbers there."""
    if told := _text(said):
        return letter.file_name(told)
    if what != "file":
        return ""
    try:
        return letter.file_name(unquote(urlsplit(url).path))
    except ValueError:
        return ""


def _attachments(attachments: Any) -> _Seen:
    files: list[File] = []
    lines: list[str] = []
    facts: dict[str, Any] = {}
    kind = "text"
    for attachment in attachments if isinstance(attachments, list) else ():
        said = _map(attachment)
        payload, what = _map(said.get("payload")), _text(said.get("type"))
        url = _text(payload.get("url"))
        if what == "sticker" or "sticker_id" in payload:
            files.append(File("sticker", name=_id(payload.get("sticker_id")), url=url))
            kind = "sticker"
        elif what in ("image", "audio", "video", "file"):
            files.append(
                File(what, name=_file_name(what, url, payload.get("name") or said.get("name")), url=url)
            )
            kind = "media"
        elif what == "location":
            place = _map(payload.get("coordinates"))
            facts["location"] = _kept({"lat": place.get("lat"), "long": place.get("long")})
            lines.append(f"{_text(said.get('title'))} {place.get('lat')}, {place.get('long')}".strip())
            kind = "location"
        else:  # fallback, reel, post, template …: something on the web to be looked at there, never fetched
            title = _text(said.get("title") or payload.get("title") or payload.get("text"))
            link = url or _text(said.get("url"))
            lines.append(" ".join(part for part in (title, link) if part) or f"[{what or 'attachment'}]")
            facts.setdefault("shared", []).append({"type": what, "title": title, "url": link})
    return _Seen(kind, tuple(files), tuple(lines), facts)


def _echo(message: Mapping[str, Any], peer: Peer, at: datetime | None, account: Account) -> Heard:
    mid = _id(message.get("mid"))
    if not mid:
        return Unknown(peer=peer, at=at, what="echo without mid")
    seen = _attachments(message.get("attachments"))
    ours, part = _ours(message, account)
    return Echoed(
        peer=peer,
        at=at,
        external_id=mid,
        ours=ours,
        part=part,
        text="\n".join(part for part in (_text(message.get("text")), *seen.lines) if part),
        files=seen.files,
    )


_MARK = re.compile(r"cc:(?P<id>[0-9a-f-]{36})(?::(\d{1,6})/(\d{1,6}):(\d{1,9}):(\d{1,6}))?", re.ASCII)


def _ours(message: Mapping[str, Any], account: Account) -> tuple[UUID | None, Part | None]:
    """Our message and its part, where the metadata is ours and no other application says it sent it."""
    own = account.settings.get("app_id", "")
    if own and _id(message.get("app_id")) != own:
        return None, None
    mark = _MARK.fullmatch(_text(message.get("metadata")))
    try:
        id = UUID(mark["id"]) if mark else None
    except ValueError:
        return None, None
    if mark is None or mark[2] is None:
        return id, None
    part = Part(*map(int, mark.groups()[1:]))
    return id, part if 1 <= part.number <= part.of and part.of > 1 else None


def _mark(message: UUID, part: Part) -> str:
    if part.of == 1:
        return f"cc:{message}"
    return f"cc:{message}:{part.number}/{part.of}:{part.chars}:{part.files}"


_Reader = Callable[[Mapping[str, Any], Peer, datetime | None, Account, bool], Heard]


_Act = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def _act(what: str, tell: _Act) -> _Reader:
    """A reader of what a customer does that is no message: shown as one, with what `tell` says of it."""

    def read(said: Mapping[str, Any], peer: Peer, at: datetime | None, _: Account, standby: bool) -> Heard:
        id = _id(said.get("mid")) or _made_up(what, peer, at)
        return Wrote(peer=peer, at=at, external_id=id, standby=standby, **tell(said))

    return read


def _postback(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """A pressed button; on standby its payload is kept from us."""
    return {
        "kind": "postback",
        "text": _text(said.get("title")),
        "payload": _text(said.get("payload")),
        "referral": _kept(said.get("referral")),
    }


def _referral(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The customer came back to the thread through a link, an advertisement, a code."""
    return {"kind": "system", "payload": _text(said.get("ref")), "referral": _kept(said)}


def _optin(said: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "kind": "system",
        "text": _text(said.get("title")),
        "payload": _text(said.get("payload") or said.get("ref")),
        "facts": {"optin": _text(said.get("type")) or "optin"},
    }


def _account_linking(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Linked or unlinked; the authorization code is a secret and stays in the raw body."""
    return {
        "kind": "system",
        "facts": {"account_linking": _text(said.get("status"))},
        "automatic": True,
    }


def _delivery(said: Mapping[str, Any], peer: Peer, at: datetime | None, _: Account, __: bool) -> Heard:
    mids = said.get("mids")
    return _receipt(
        "delivered",
        tuple(mid for mid in map(_id, mids) if mid) if isinstance(mids, list) else (),
        said,
        peer,
        at,
    )


def _reading(said: Mapping[str, Any], peer: Peer, at: datetime | None, _: Account, __: bool) -> Heard:
    return _receipt("read", (), said, peer, at)


def _receipt(
    status: str, ids: tuple[str, ...], said: Mapping[str, Any], peer: Peer, at: datetime | None
) -> Heard:
    until = _time(said.get("watermark"))
    if not ids and until is None:
        return Unknown(peer=peer, at=at, what=f"{status}, but not what")
    return Receipt(peer=peer, at=at, status=status, external_ids=ids, until=until)


EMOJIS: Mapping[str, str] = {
    "smile": "😆", "angry": "😠", "sad": "😢", "wow": "😮", "love": "❤", "like": "👍", "dislike": "👎",
}  # fmt: skip
"""What a reaction is called where its emoji is left out."""


def _reaction(said: Mapping[str, Any], peer: Peer, at: datetime | None, _: Account, __: bool) -> Heard:
    mid = _id(said.get("mid"))
    if not mid:
        return Unknown(peer=peer, at=at, what="reaction without mid")
    if said.get("action") == "unreact":
        return Reacted(peer=peer, at=at, external_id=mid)
    named = _text(said.get("reaction"))
    return Reacted(
        peer=peer, at=at, external_id=mid, emoji=_text(said.get("emoji")) or EMOJIS.get(named) or named or "?"
    )


def _edit(said: Mapping[str, Any], peer: Peer, at: datetime | None, _: Account, __: bool) -> Heard:
    mid = _id(said.get("mid"))
    if not mid:
        return Unknown(peer=peer, at=at, what="edit without mid")
    return Changed(peer=peer, at=at, external_id=mid, text=_text(said.get("text")))


def _passed(said: Mapping[str, Any], peer: Peer, at: datetime | None, account: Account, _: bool) -> Heard:
    """Told to the new owner; without an app_id in the account that is us."""
    own, new = account.settings.get("app_id", ""), _id(said.get("new_owner_app_id"))
    return ThreadMoved(peer=peer, at=at, ours=not own or new == own, why=_text(said.get("metadata")))


def _taken(said: Mapping[str, Any], peer: Peer, at: datetime | None, account: Account, _: bool) -> Heard:
    """Told to whom it was taken from."""
    own, new = account.settings.get("app_id", ""), _id(said.get("new_owner_app_id"))
    return ThreadMoved(peer=peer, at=at, ours=bool(own) and new == own, why=_text(said.get("metadata")))


_READERS: Mapping[str, _Reader] = {
    "postback": _act("postback", _postback),
    "referral": _act("referral", _referral),
    "optin": _act("optin", _optin),
    "account_linking": _act("account_linking", _account_linking),
    "delivery": _delivery,
    "read": _reading,
    "reaction": _reaction,
    "message_edit": _edit,
    "pass_thread_control": _passed,
    "take_thread_control": _taken,
}


def _unknown(what: str, event: Any = None) -> Unknown:
    said = _map(event)
    sender = _id(_map(said.get("sender")).get("id"))
    return Unknown(peer=Peer("psid", sender), at=_time(said.get("timestamp")), what=what[:200])


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _kept(value: Any) -> Mapping[str, Any]:
    """An object to be shown as it came, unless it is too long or no database takes it (1e999)."""
    said = _map(value)
    try:
        return said if len(json.dumps(said, allow_nan=False)) <= KEPT_CHARS else {}
    except ValueError:
        return {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _id(value: Any) -> str:
    """Ids are text to us; vendors mix integers and strings."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _time(value: Any) -> datetime | None:
    """Milliseconds since 1970, as a number or as digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 52:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        return None


def _made_up(what: str, peer: Peer, at: datetime | None) -> str:
    """An id for an event that Meta gives none: the same for each copy of it."""
    if at is None:
        raise ValueError(f"{what} without mid or time")
    return f"{what}:{peer.value}:{(at - _EPOCH) // timedelta(milliseconds=1)}"


ACTS: Mapping[str, str] = {"typing_on": "typing_on", "typing_off": "typing_off", "seen": "mark_seen"}


def render(out: Outgoing, account: Account, secrets: Secrets, memory: Memory) -> Rendering:
    """The parts of one message, each a call: texts in pieces of 2000 characters, then its files.

    Advisors sign with a persona where the Page may have them, else in the text; machines always in the text. Signed or
    not, the parts before the last ones of the text are the same: what went in a former try is where it was.
    """
    graph = _Graph(account, secrets)
    if out.act != "message":
        return (yield from _action(graph, out, memory))
    if out.tagged and out.author != "advisor":
        return Failed(Failure.WINDOW, why="HUMAN_AGENT is for what a human wrote")
    if len(out.buttons) > MANIFEST.quick_replies:
        return Failed(Failure.REFUSED, why=f"more than {MANIFEST.quick_replies} quick replies")
    if not (out.text.strip() or out.files):
        return Failed(Failure.REFUSED, why="empty")
    persona = ""
    if out.author == "advisor" and out.author_name:
        answer = yield from _persona(graph, out.author_name, account, memory)
        if isinstance(answer, Failed):
            return answer
        persona = answer
    parts = _parts(out, signed=not persona)
    done = len(out.gone)
    result: Result = Sent(out.gone[-1] if out.gone else "")
    while done < len(parts):
        result = _judge((yield graph.message(out, parts[done], persona)))
        if persona and done == len(out.gone) and isinstance(result, Failed) and _persona_may_be_why(result):
            parts, first = _parts(out, signed=True), result
            result = _judge((yield graph.message(out, parts[done], "")))
            if not (isinstance(result, Failed) and result.code == first.code):
                memory[_remembered(out.author_name)] = REFUSED
                persona = ""
        if not isinstance(result, Sent):
            return result
        if len(parts) > 1:
            yield PartSent(parts[done].place, result.external_id)
        done += 1
    return result


def profile(to: str, account: Account, secrets: Secrets, memory: Memory) -> Generator[HttpCall, Reply, str]:
    """What the customer is called; "" where Meta does not say.

    It takes an access that an application must be given (Business Asset User Profile Access). That it has none is
    remembered until a restart.
    """
    if memory.get(PROFILES) == REFUSED:
        return ""
    reply = yield _Graph(account, secrets).ask(to, "first_name,last_name")
    if reply.lost or not 200 <= reply.status < 300:
        if not reply.lost and _number((_error(reply) or {}).get("code")) in NO_ACCESS:
            memory[PROFILES] = REFUSED
        return ""
    said = _map(_body(reply))
    return " ".join(part for key in ("first_name", "last_name") if (part := _text(said.get(key)).strip()))


def _persona_may_be_why(failed: Failed) -> bool:
    """A persona that is gone, or not allowed here, is told with the same code as other mistakes."""
    return failed.failure == Failure.REFUSED and failed.code.split("/")[0] in ("100", "200")


def _action(graph: _Graph, out: Outgoing, memory: Memory) -> Rendering:
    if out.act not in ACTS:
        return Failed(Failure.REFUSED, why=f"no such act: {out.act}")
    body: dict[str, Any] = {"recipient": {"id": out.to}, "sender_action": ACTS[out.act]}
    persona = memory.get(_remembered(out.author_name), "")
    if out.act != "seen" and out.author == "advisor" and persona not in ("", REFUSED):
        body["persona_id"] = persona
    reply = yield graph.call("messages", body, repeatable=True)
    if reply.lost:
        return Perhaps(f"no answer to {out.act}")
    return Sent("") if 200 <= reply.status < 300 else _failed(reply)


def _remembered(name: str) -> str:
    return f"persona:{name[:PERSONA_CHARS]}"


def _persona(
    graph: _Graph, name: str, account: Account, memory: Memory
) -> Generator[HttpCall, Reply, str | Failed]:
    """The id of the persona of that name, made when it is first needed; "" where there can be none."""
    key = _remembered(name)
    if key in memory:
        return "" if memory[key] == REFUSED else memory[key]
    asked = {"name": name[:PERSONA_CHARS]}
    if picture := account.settings.get("persona_picture"):
        asked["profile_picture_url"] = picture
    reply = yield graph.call("personas", asked, repeatable=True)
    if not reply.lost and 200 <= reply.status < 300:
        if id := _id(_map(_body(reply)).get("id")):
            memory[key] = id
            return id
        return ""
    failed = Failed(Failure.TRANSIENT) if reply.lost else _failed(reply)
    if failed.failure in (Failure.TOKEN, Failure.THROTTLED, Failure.ACCOUNT):
        return failed
    if failed.failure != Failure.TRANSIENT:
        memory[key] = REFUSED
    return ""


@dataclass(frozen=True, slots=True)
class _Part:
    place: Part
    message: Mapping[str, Any]
    enclosed: Enclosed | None = None  # to be uploaded, when it has no address


class _Graph:
    """Meta's Graph API as one account calls it."""

    def __init__(self, account: Account, secrets: Secrets) -> None:
        base = account.settings.get("api_base", API_BASE).rstrip("/")
        version = account.settings.get("api_version", API_VERSION)
        self._root = f"{base}/{version}"
        self._page = f"{self._root}/{account.settings.get('page_id', '')}"
        self._headers = {"Authorization": f"Bearer {secrets.get('page_token', '')}"}

    def call(self, edge: str, body: Mapping[str, Any], *, repeatable: bool = False) -> HttpCall:
        return HttpCall("POST", f"{self._page}/{edge}", self._headers, json=body, repeatable=repeatable)

    def ask(self, id: str, fields: str) -> HttpCall:
        url = f"{self._root}/{quote(id, safe='')}?fields={fields}"
        return HttpCall("GET", url, self._headers, repeatable=True)

    def message(self, out: Outgoing, part: _Part, persona: str) -> HttpCall:
        body: dict[str, Any] = {
            "recipient": {"id": out.to},
            "messaging_type": "RESPONSE",
            "message": part.message,
        }
        if out.tagged:
            body |= {"messaging_type": "MESSAGE_TAG", "tag": MANIFEST.tag}
        if persona:
            body["persona_id"] = persona
        if part.enclosed is None:
            return self.call("messages", body)
        form: dict[str, str | Enclosed] = {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in body.items()
        }
        form["filedata"] = part.enclosed
        return HttpCall("POST", f"{self._page}/messages", self._headers, form=form)


def _parts(out: Outgoing, *, signed: bool) -> list[_Part]:
    """The messages that carry `out`, in the order they are sent; the last one carries the quick replies."""
    text = out.text.strip()
    if signed and out.author_name and out.author != "system":
        text = f"{text}\n– {out.author_name}".strip()
    texts: list[str | Enclosed] = [*cut(text, MANIFEST.text_chars or 0)]
    # A later message takes buttons away; and when a bare signature goes last, a refused file has sent nothing.
    first = out.buttons or not out.text.strip()
    bodies: list[str | Enclosed] = [*out.files, *texts] if first else [*texts, *out.files]
    parts = []
    chars = files = 0
    for number, body in enumerate(bodies, 1):
        if isinstance(body, str):
            found = out.text.find(body, chars)
            chars = found + len(body) if found >= 0 else len(out.text)  # else the signature is in it
        else:
            files += 1
        place = Part(number, len(bodies), chars, files)
        message = {"text": body} if isinstance(body, str) else _file(body)
        upload = body if isinstance(body, Enclosed) and not body.url else None
        parts.append(_Part(place, message | {"metadata": _mark(out.message, place)}, upload))
    if out.buttons:
        quick = [
            {
                "content_type": "text",
                "title": _title(button.title),
                "payload": (button.payload or button.title)[:PAYLOAD_CHARS],
            }
            for button in out.buttons
        ]
        parts[-1] = replace(parts[-1], message={**parts[-1].message, "quick_replies": quick})
    return parts


def _file(enclosed: Enclosed) -> dict[str, Any]:
    kind = enclosed.kind if enclosed.kind in ("image", "audio", "video") else "file"
    if enclosed.kind == "sticker":
        kind = "image"
    payload: dict[str, Any] = {"is_reusable": False}
    if enclosed.url:
        payload = {"url": enclosed.url, "is_reusable": False}
    return {"attachment": {"type": kind, "payload": payload}}


def _title(title: str) -> str:
    most = MANIFEST.quick_reply_chars
    return title if _units(title) <= most else cut(title, most - 1)[0].rstrip() + "…"


def _units(text: str) -> int:
    """UTF-16 units: Meta does not say what a character is, and no other count is higher."""
    return len(text) + sum(char > "\uffff" for char in text)


_JOINING = frozenset("\u200d\ufe0e\ufe0f\u20e3")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]+$")


def _joined(text: str, at: int) -> bool:
    """Would a cut before `at` tear one visible character apart?"""
    char = text[at]
    if "\U0001f1e6" <= char <= "\U0001f1ff":  # flags are pairs of letters
        letters = _FLAG.search(text[max(0, at - 32) : at])
        return letters is not None and len(letters[0]) % 2 == 1
    return (
        char in _JOINING
        or text[at - 1] == "\u200d"
        or unicodedata.combining(char) > 0
        or "\U0001f3fb" <= char <= "\U0001f3ff"  # skin tones
    )


def cut(text: str, most: int) -> list[str]:
    """`text` in pieces of at most `most` UTF-16 units, cut where it hurts least: paragraph, line, sentence, word."""
    pieces = []
    while _units(text) > most:
        end, used = 0, 0
        while used + _units(text[end]) <= most:
            used += _units(text[end])
            end += 1
        head = text[: end + 1]  # a separator right after the limit may go
        for mark in ("\n\n", "\n", ". ", "! ", "? ", " "):
            found = head.rfind(mark)
            if found >= end // 2:
                end = min(end, found + len(mark.rstrip(" \n")))
                break
        else:
            sound = end
            while sound > max(1, end - 32) and _joined(text, sound):
                sound -= 1
            end = sound if not _joined(text, sound) else end
        pieces.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return [*pieces, text] if text else pieces


def _judge(reply: Reply) -> Result:
    if reply.lost:
        return Perhaps("no answer")
    if not 200 <= reply.status < 300:
        if reply.status in (502, 504) and _error(reply) is None:
            return Perhaps(f"a gateway gave up: {reply.status}")
        return _failed(reply)
    mid = _id(_map(_body(reply)).get("message_id"))
    return Sent(mid) if mid else Perhaps("accepted without a message_id")


def _body(reply: Reply) -> Any:
    try:
        return from_json(reply.body, allow_inf_nan=False)
    except ValueError:
        return None


def _error(reply: Reply) -> Mapping[str, Any] | None:
    error = _map(_body(reply)).get("error")
    return error if isinstance(error, dict) else None


def _failed(reply: Reply) -> Failed:
    """Which class an error is of: by subcode, by code, then by HTTP's status."""
    error = _error(reply) or {}
    code, sub = _number(error.get("code")), _number(error.get("error_subcode"))
    words = _text(error.get("error_user_msg")) or _text(error.get("message"))
    return Failed(
        _class(code, sub, words, error.get("is_transient") is True, reply.status),
        (f"{code}/{sub}" if sub else str(code)) if code is not None else f"http {reply.status}",
        words[:500],
        _after(reply.headers),
    )


def _class(code: int | None, sub: int | None, words: str, transient: bool, status: int) -> Failure:
    if code is not None and sub is not None and (code, sub) in BY_SUBCODE:
        return BY_SUBCODE[code, sub]
    for codes, failure in (
        (TOKEN, Failure.TOKEN),
        (THROTTLED, Failure.THROTTLED),
        (TRANSIENT, Failure.TRANSIENT),
        (GONE, Failure.GONE),
        (ACCOUNT, Failure.ACCOUNT),
    ):
        if code in codes:
            return failure
    if code == 10 and "window" in words.lower():
        return Failure.WINDOW
    if status == 429:
        return Failure.THROTTLED
    if transient or status >= 500:
        return Failure.TRANSIENT
    return Failure.REFUSED


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: Retry-After, or Meta's own estimate in minutes."""
    said: Sequence[Any] = ()
    for name, value in headers.items():
        if name.lower() == "retry-after" and value.isascii() and value.isdigit():
            return min(float(value), 86400.0)
        if name.lower() == "x-business-use-case-usage":
            try:
                usage = from_json(value.encode())
            except ValueError:
                continue
            said = [use for uses in _map(usage).values() if isinstance(uses, list) for use in uses]
    minutes = [_number(_map(use).get("estimated_time_to_regain_access")) or 0 for use in said]
    return min(max(minutes) * 60.0, 86400.0) if minutes and max(minutes) > 0 else None
