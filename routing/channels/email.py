"""Email: what a mail says (RFC 5322, MIME, 3464, 3834, 8601), and how ours are written.

`parse` takes the mail as it was delivered and never raises: one that would hurt us is quarantined, with the reason in
its facts. Times and ids come from the mail; the envelope from the trace fields that delivery adds (Return-Path).
Our Message-IDs are `<MESSAGE.cCASE.CHECK@DOMAIN>`; CHECK is an HMAC, so an answer's References prove its case.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.errors import MessageError
from email.header import Header, decode_header
from email.message import EmailMessage, Message
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final
from urllib.parse import unquote_to_bytes
from uuid import UUID

from liquid import Environment

from routing import letter
from routing.channel import (
    MAIL,
    Answer,
    Failed,
    Failure,
    File,
    Heard,
    MailCall,
    Manifest,
    Memory,
    Outgoing,
    Peer,
    Perhaps,
    Receipt,
    Rendering,
    Reply,
    Request,
    Result,
    Secrets,
    Sent,
    Unknown,
    Wrote,
)
from routing.site import Account

MANIFEST: Final = Manifest(
    name="email",
    seat=MAIL,
    address_kind="email",
    labels={"fr": "Courriel", "en": "Email"},
    attachment_bytes=dict.fromkeys(("image", "audio", "video", "file"), 20_000_000),
    subject=True,
    html=True,
    starts=True,
    parallel=True,
    mail=True,
    rates={"": 10},
    settings=("address",),
    optional=(
        "smtp_host", "smtp_port", "smtp_user", "smtp_tls", "imap_host", "imap_port", "imap_user", "imap_folder",
        "imap_tls", "listen", "authserv_id", "own_addresses", "auth", "oauth_url", "oauth_client", "oauth_scope",
    ),
    kinds={
        "address": "address", "own_addresses": "addresses", "smtp_port": "port", "imap_port": "port",
        "smtp_tls": "tls|starttls|none", "imap_tls": "tls|starttls|none", "listen": "yes|no",
        "auth": "password|xoauth2", "oauth_url": "url",
    },
    identity="address",
    useless_without={
        "smtp_user": "smtp_host", "imap_user": "imap_host", "imap_port": "imap_host", "imap_folder": "imap_host",
        "imap_tls": "imap_host", "oauth_url": "auth", "oauth_client": "oauth_url", "oauth_scope": "oauth_url",
    },
    signs_with=frozenset({"advisor.first_name", "account.name", "case.number"}),
    secrets=("smtp_password", "imap_password", "oauth_token", "oauth_secret", "oauth_refresh", "token_key"),
    optional_secrets=frozenset(
        {"smtp_password", "imap_password", "oauth_token", "oauth_secret", "oauth_refresh"}
    ),
    made_secrets=frozenset({"token_key"}),
)  # fmt: skip

MOST_BYTES: Final = 30_000_000  # of a mail that we take; 20 MB of files in base64 and some words
MOST_HEAD_BYTES: Final = 262_144
MOST_FIELDS: Final = 1000
MOST_FIELD_BYTES: Final = 16_384
MOST_LINES: Final = 1_500_000
MOST_PARTS: Final = 1000
MOST_BOUNDARIES: Final = 20_000  # lines that may be one; real mails with that many hold a patch, not parts
MOST_DEPTH: Final = 100
MOST_COMPARED: Final = 20_000_000  # lines times boundaries: each line is held against each that is open
MOST_FILES: Final = 100
MOST_TEXT_CHARS: Final = 200_000
MOST_REFERENCES: Final = 50  # read
REFERENCES_SENT: Final = 20
SUBJECT_CHARS: Final = 250
ANSWERS_A_DAY: Final = 3  # automatic ones to one address

Fields = Sequence[tuple[str, bytes]]


# The case in a Message-ID


def message_id(case_number: int, message: UUID, domain: str, key: str) -> str:
    """A Message-ID of ours. Without a key it proves nothing; then only our memory of it finds the case."""
    if not case_number:
        return f"<{message.hex}@{domain}>"
    told = f"{message.hex}.c{case_number}"
    return f"<{told}.{_check(told, domain, key)}@{domain}>" if key else f"<{told}@{domain}>"


def _check(told: str, domain: str, key: str) -> str:
    digest = hmac.new(key.encode(), f"monofil-case {told}@{domain.lower()}".encode(), hashlib.sha256).digest()
    return base64.b32encode(digest[:10]).decode().lower()


def mint(out: Outgoing, account: Account, secrets: Secrets) -> str:
    """The Message-ID of what is to be sent; the same each time it is asked for."""
    domain = account.settings.get("address", "").rpartition("@")[2] or "localhost"
    return message_id(out.case_number, out.message, domain, secrets.get("token_key", ""))


_OURS = re.compile(r"<?([0-9a-f]{32}\.c(\d{1,12}))(?:\.([a-z2-7]{16}))?@([a-z0-9.-]{1,253})>?", re.IGNORECASE)


def prove(token: str, key: str) -> int | None:
    """The case number of a token (Wrote.token), if we have made it; None for one that anybody can write."""
    found = _OURS.fullmatch(token)
    if not found or not found.group(3) or not key:
        return None
    told, number, check, domain = found.groups()
    return int(number) if hmac.compare_digest(check.lower(), _check(told.lower(), domain, key)) else None


def may_answer(automatic: bool, sent_today: int, extra: Mapping[str, Any] | None = None) -> bool:
    """May a machine answer this mail? `sent_today`: automatic answers to that address in the last 24 hours."""
    told = extra or {}
    barred = automatic or any(
        told.get(why) for why in ("automatic", "quiet", "no_return_path", "quarantined")
    )
    return not barred and sent_today < ANSWERS_A_DAY


# Reading


def verify(request: Request, account: Account, secrets: Secrets) -> Answer:
    """Mail comes by LMTP, SMTP or IMAP, never by HTTP."""
    return Answer(False, 404, why="mail does not come by HTTP")


def parse(raw: bytes, account: Account) -> tuple[Heard, ...]:
    """One mail: what the customer wrote (what they quote is `facts["quoted"]`), or what became of a mail of ours."""
    try:
        if reason := hostile(raw):
            return quarantined(raw, account, reason)
        return _Mail(raw, account).heard()
    except RecursionError:
        return quarantined(raw, account, "nested too deep")
    except _Quarantined as e:
        return quarantined(raw, account, str(e))
    except Exception as e:
        return quarantined(raw, account, f"unreadable: {type(e).__name__}")


class _Quarantined(Exception):
    pass


_PART_FIELD = re.compile(
    rb"^content-[a-z-]{1,30}[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE | re.MULTILINE
)
_BOUNDARY = re.compile(rb"boundary\s{0,20}\*?\d?\*?=", re.IGNORECASE)
_EMBEDDED = re.compile(rb"message/(?:rfc822|global)", re.IGNORECASE)


def hostile(raw: bytes) -> str:
    """Why a mail is not to be taken apart at all; "" when it may be. Linear in its size."""
    if len(raw) > MOST_BYTES:
        return "too large"
    head = _head_end(raw)
    if head > MOST_HEAD_BYTES:
        return "header too large"
    if len(re.findall(rb"^[^ \t\r\n]", raw[:head], re.MULTILINE)) > MOST_FIELDS:
        return "too many headers"
    if raw.count(b"\n") > MOST_LINES:
        return "too many lines"
    if raw.count(b"\n--") > MOST_BOUNDARIES:
        return "too many parts"
    boundaries, embedded = (sum(1 for _ in pattern.finditer(raw)) for pattern in (_BOUNDARY, _EMBEDDED))
    if max(boundaries, embedded) > MOST_DEPTH or boundaries * raw.count(b"\n") > MOST_COMPARED:
        return "nested too deep"
    if any(found.end() - found.start() > MOST_FIELD_BYTES for found in _PART_FIELD.finditer(raw)):
        return "header too large"
    return ""


def _head_end(raw: bytes) -> int:
    ends = [at for at in (raw.find(b"\n\n"), raw.find(b"\r\n\r\n")) if at >= 0]
    return min(ends) if ends else len(raw)


def _fields(raw: bytes) -> Fields:
    """The header, unfolded: (name in lower case, value) in order; within our limits, whatever there is more."""
    fields: list[tuple[str, bytes]] = []
    head = raw[: min(_head_end(raw), MOST_HEAD_BYTES)]
    for line in head.split(b"\n"):
        line = line.rstrip(b"\r")
        if line[:1] in (b" ", b"\t"):
            if fields and len(fields[-1][1]) < MOST_FIELD_BYTES:
                name, value = fields[-1]
                fields[-1] = (name, value + b" " + line.strip())
            continue
        raw_name, colon, value = line.partition(b":")
        name = raw_name.strip().decode("ascii", "replace").lower()
        if colon and re.fullmatch(r"[!-9;-~]{1,100}", name):
            fields.append((name, value.strip()[:MOST_FIELD_BYTES]))
            if len(fields) > MOST_FIELDS:
                break
    return fields


def _first(fields: Fields, name: str) -> bytes | None:
    return next((value for known, value in fields if known == name), None)


_CODECS = re.compile(
    r"(utf[-_]?(8|16|32)([-_](le|be|sig))?|ascii|iso8859[-_]\d+|cp\d{3,4}|koi8[-_][rtu]|mac[-_][a-z0-9]+|gb\w+|big5\w*"
    r"|euc[-_]\w+|shift_jis\w*|iso2022_\w+|johab|hz|tis[-_]620|viscii|kz1048|ptcp154|utf[-_]7)\Z"
)


def _decoded(data: bytes, charset: str | None) -> str:
    """Text of bytes whose charset may be missing, unknown or a lie."""
    try:
        name = codecs.lookup((charset or "ascii").strip()[:40]).name
    except (LookupError, ValueError, UnicodeError):
        name = "ascii"
    name = {"iso8859-1": "cp1252"}.get(name, name)
    if not _CODECS.match(name):
        name = "ascii"
    attempts = (name,) if name.startswith(("utf-16", "utf-32", "iso2022", "utf-7", "hz")) else ("utf-8", name)
    for attempt in attempts:
        try:
            return data.decode(attempt)
        except (UnicodeError, ValueError, LookupError):
            continue
    return data.decode(name if name not in ("ascii", "utf-8") else "cp1252", "replace")


def _words(value: bytes | str | None) -> str:
    """A header's words: encoded words (RFC 2047) read, one line, no control characters."""
    if value is None:
        return ""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    text = _decoded(data[:MOST_FIELD_BYTES], "utf-8")
    if "=?" in text:
        try:
            told = "".join(
                part if isinstance(part, str) else _decoded(part, charset)
                for part, charset in _encoded_words(text)
            )
        except (MessageError, ValueError, LookupError, RecursionError):
            told = ""
        text = told if told.strip() else text
    return re.sub(r"\s+", " ", letter.tidy(text)).strip()


def _encoded_words(text: str) -> Iterator[tuple[bytes | str, str | None]]:
    """Parts with their charset; spaces between two encoded words are none (RFC 2047 6.2)."""
    for part, charset in decode_header(text):
        if charset is None and isinstance(part, bytes):
            yield part.decode("raw-unicode-escape", "replace"), None
        else:
            yield part, charset


_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"@\\]{1,64}@[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def _address(value: bytes | None) -> tuple[str, str]:
    """(address in lower case, name) of a From-like header; ("", "") when there is none."""
    if not value:
        return "", ""
    text = _decoded(value[:2000], "utf-8")
    bare = _QUOTED.sub(lambda found: " " * len(found.group()), text)
    angle = re.search(r"<\s*(" + _ADDRESS.pattern + r")\s*>", bare, re.IGNORECASE)
    if angle:
        name = _words(re.sub(r"\\(.)", r"\1", text[: angle.start()].strip().strip('"')).encode())
        return angle.group(1).lower(), name[:100]
    plain = _ADDRESS.search(bare)
    if not plain:
        return "", ""
    comment = re.search(r"\(([^()]*)\)", bare)
    return plain.group().lower(), _words(comment.group(1).encode())[:100] if comment else ""


def _addresses(fields: Fields, *names: str) -> list[str]:
    found = []
    for name, value in fields:
        if name in names:
            bare = _QUOTED.sub("", _decoded(value, "utf-8"))
            found += [one.group().lower() for one in _ADDRESS.finditer(bare)]
    return found


def _ids(value: bytes | None) -> list[str]:
    return re.findall(r"<[^<>\s]{3,990}>", (value or b"").decode("ascii", "replace"))


def _own_id(raw: bytes, fields: Fields) -> str:
    """The Message-ID, or one made of what does not change on the way."""
    if found := _ids(_first(fields, "message-id")):
        return found[0]
    bare = (_first(fields, "message-id") or b"").decode("ascii", "replace").strip("<> \t")
    if re.fullmatch(r"[!-~]{3,990}", bare):
        return f"<{bare}>"
    digest = hashlib.sha256()
    for name in ("from", "to", "date", "subject"):
        digest.update((_first(fields, name) or b"") + b"\n")
    digest.update(raw[_head_end(raw) :].strip().replace(b"\r\n", b"\n"))
    return f"<{digest.hexdigest()[:40]}@made.invalid>"


def _date(fields: Fields) -> datetime | None:
    """When it was sent; where that cannot be true, when the last server took it."""

    def read(text: bytes) -> datetime | None:
        try:
            when = parsedate_to_datetime(text.decode("ascii", "replace")[:200])
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
            return None

    said = read(_first(fields, "date") or b"")
    taken = read((_first(fields, "received") or b"").rpartition(b";")[2])
    if said and taken and not timedelta(days=-14) < said - taken < timedelta(hours=1):
        return taken
    return said or taken


_MACHINES = re.compile(r"mailer-daemon(?:[-_.+].*)?\Z")
_NOBODY = re.compile(
    r"(?:no[-_.]?reply|do[-_.]?not[-_.]?reply|ne[-_.]?pas[-_.]?repondre|noreponse|wordpress|www-data)(?:[-_.+].*)?\Z"
)  # nobody reads what is sent there; a form on the web sends so, in the name of whom its Reply-To tells
_UNANSWERED = re.compile(r"(?:postmaster|bounces?)(?:[-_.+].*)?\Z")


def _local(address: str) -> str:
    return address.rpartition("@")[0]


def _automatic(fields: Fields, sender: str, account: Account) -> list[str]:
    """Why a mail is a machine's, which nobody is to read at once (RFC 3834 2 and 5, and what is usual)."""
    why = []
    if (
        (_first(fields, "auto-submitted") or b"no").split(b";")[0].strip().lower() != b"no"
        or any(name in ("x-autoreply", "x-autorespond", "x-autoresponder") for name, _ in fields)
        or _precedence(fields) == b"auto_reply"
    ):
        why.append("auto-submitted")
    if (_first(fields, "return-path") or b"x").strip() in (b"<>", b""):
        why.append("null-sender")
    if _MACHINES.match(_local(sender)):
        why.append("sender")
    if (_first(fields, "content-type") or b"").strip().lower().startswith(b"multipart/report"):
        why.append("report")
    if _without_tag(sender) in own_addresses(account):
        why.append("ourselves")
    return why


def _quiet(fields: Fields, sender: str) -> list[str]:
    """Why no machine may answer a mail that a person may have written all the same."""
    why = []
    if _precedence(fields) in (b"bulk", b"list", b"junk"):
        why.append("precedence")
    if _listed(fields):
        why.append("list")
    if _NOBODY.match(_local(sender)) or _UNANSWERED.match(_local(sender)):
        why.append("sender")
    suppressed = {
        word.strip() for word in (_first(fields, "x-auto-response-suppress") or b"").lower().split(b",")
    }
    if suppressed & {b"all", b"autoreply", b"oof"}:
        why.append("suppressed")
    return why


def _precedence(fields: Fields) -> bytes:
    return (_first(fields, "precedence") or b"").strip().lower()


def _listed(fields: Fields) -> bool:
    return any(name in ("list-id", "list-unsubscribe") for name, _ in fields)


def _form_writer(fields: Fields, sender: str, account: Account) -> tuple[str, str]:
    """(address, name) of the person in whose name a form wrote; ("", "") for any other mail.

    A Reply-To is believed only where From is nobody's, or ours: so it can stand for no one else's address.
    """
    address, name = _address(_first(fields, "reply-to"))
    own = own_addresses(account)
    if not address or _without_tag(address) in own or _NOBODY.match(_local(address)):
        return "", ""
    if _NOBODY.match(_local(sender)):
        return address, name
    if _without_tag(sender) not in own or _listed(fields):
        return "", ""
    ours = any(_OURS.fullmatch(one) for one in _ids(_first(fields, "message-id")))
    return ("", "") if ours else (address, name)


def _writer(fields: Fields, account: Account) -> tuple[Peer, str]:
    """(who wrote, the address of the form by which they did or "")."""
    told = (_address(_first(fields, name)) for name in ("from", "sender", "return-path"))
    sender, name = next((each for each in told if each[0]), ("", ""))
    person = _form_writer(fields, sender, account)
    return (Peer("email", *person), sender) if person[0] else (Peer("email", sender, name), "")


def _kind(fields: Fields, peer: Peer, form: str, account: Account) -> dict[str, Any]:
    """The facts that keep machines from answering: `automatic` and `quiet`, each with its reasons."""
    found = {
        "automatic": _automatic(fields, peer.value, account),
        "quiet": [*(["form"] if form else []), *_quiet(fields, peer.value)],
    }
    return {fact: why for fact, why in found.items() if why}


def own_addresses(account: Account) -> frozenset[str]:
    """Addresses by which an account is written to, in lower case."""
    told = f"{account.settings.get('address', '')} {account.settings.get('own_addresses', '')}"
    return frozenset(found.group().lower() for found in _ADDRESS.finditer(told))


def _without_tag(address: str) -> str:
    local, _, domain = address.lower().rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def receives(account: Account, recipient: str) -> bool:
    """Is this one of the account's addresses, with or without a `+tag`?"""
    return _without_tag(recipient) in own_addresses(account)


def _bare(value: str) -> str:
    """An Authentication-Results value without comments and quoted strings; "" when they do not end."""
    out, depth, quoted, escaped = [], 0, False, False
    for char in value:
        if escaped:
            escaped = False
        elif char == "\\" and (quoted or depth):
            escaped = True
        elif quoted:
            quoted = char != '"'
        elif char == '"' and not depth:
            quoted = True
        elif char == "(":
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif not depth:
            out.append(char)
    return "" if quoted or depth else "".join(out)


def _authenticity(fields: Fields, sender: str, account: Account) -> tuple[bool, dict[str, str]]:
    """(is the sender proved?, results shown): only what our own server says counts (RFC 8601 4.1, 5)."""
    ours = account.settings.get("authserv_id", "").lower()
    shown: dict[str, str] = {}
    aligned = False
    domain = sender.rpartition("@")[2]

    def covers(other: str) -> bool:
        other = other.rpartition("@")[2].lower().strip(".")
        return "." in other and (domain == other or domain.endswith("." + other))

    for name, value in fields:
        if name != "authentication-results" or not ours:
            continue
        server, *results = _bare(value.decode("ascii", "replace")).split(";")
        if server.split()[:1] != [ours] and server.lower().split()[:1] != [ours]:
            continue
        for result in results:
            found = re.match(r"\s*(spf|dkim|dmarc)\s*=\s*([a-z]+)(.*)", result, re.IGNORECASE | re.DOTALL)
            if not found:
                continue
            method, verdict, rest = found.group(1).lower(), found.group(2).lower(), found.group(3)
            told: dict[str, str] = dict(re.findall(r"([a-z]+\.[a-z-]+)\s*=\s*(\S+)", rest.lower()))
            if method == "dmarc" and not covers(told.get("header.from", domain)):
                verdict = "none"
            if method == "dkim" and verdict == "pass":
                aligned = aligned or covers(told.get("header.d", told.get("header.i", "")))
            if method == "spf" and verdict == "pass":
                aligned = aligned or covers(told.get("smtp.mailfrom", ""))
            if method == "dkim" and shown.get("dkim") == "pass":
                continue
            if method != "dkim" and method in shown and shown[method] != verdict:
                verdict = "fail"
            shown[method] = verdict
    senders = len([1 for name, _ in fields if name == "from"])
    if senders != 1 or len(set(_addresses(fields, "from"))) > 1 or not domain:
        return False, shown
    dmarc = shown.get("dmarc", "none")
    return dmarc == "pass" or (dmarc in ("none", "bestguesspass") and aligned), shown


def _token(references: Sequence[str]) -> str:
    """The newest of our Message-IDs that it answers."""
    return next((one for one in references if (found := _OURS.fullmatch(one)) and found.group(3)), "")


def _case_number(fields: Fields, subject: str, account: Account) -> int:
    """As it stands in our address, or in the subject that we gave it; 0: nowhere."""
    for address in _addresses(fields, "to", "cc", "delivered-to", "x-original-to", "envelope-to"):
        tag = address.rpartition("@")[0].partition("+")[2]
        if receives(account, address) and (number := re.fullmatch(r"c?(\d{1,12})", tag)):
            return int(number.group(1))
    number = re.search(r"\[#(\d{1,12})\]", subject)
    return int(number.group(1)) if number else 0


def _references(fields: Fields) -> tuple[str, ...]:
    """What it answers, newest first: In-Reply-To, then References backwards; the first of these always."""
    told = _ids(_first(fields, "references"))
    newest = list(dict.fromkeys([*_ids(_first(fields, "in-reply-to"))[:5], *reversed(told)]))
    return tuple(newest[: MOST_REFERENCES - 1] + newest[-1:] if len(newest) > MOST_REFERENCES else newest)


@dataclass(slots=True)
class _Segment:
    """A stretch of the letter: its two forms, where both were sent."""

    text: str = ""
    html: str = ""


@dataclass(slots=True)
class _Body:
    segments: list[_Segment] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    more_files: int = 0


class _Mail:
    """One mail while it is read."""

    def __init__(self, raw: bytes, account: Account) -> None:
        self.account = account
        self.fields = _fields(raw)
        self.raw = raw
        self.peer, self.form = _writer(self.fields, account)
        self.sender = self.form or self.peer.value
        self.at = _date(self.fields)

    def heard(self) -> tuple[Heard, ...]:
        if not self.sender and (_first(self.fields, "return-path") or b"").strip() != b"<>":
            return (Unknown(peer=self.peer, at=self.at, what="a mail without a sender"),)
        message: Message = message_from_bytes(self.raw, policy=policy.compat32)
        receipts, report = self._report(message)
        if receipts:
            return receipts
        if not self.sender:
            return (Unknown(peer=self.peer, at=self.at, what="a mail without a sender"),)
        subject = _words(_first(self.fields, "subject"))[:SUBJECT_CHARS]
        body = self._body(message)
        text = "\n\n".join(
            part
            for part in ((s.text.strip("\n") or letter.as_text(s.html)) for s in body.segments)
            if part.strip()
        )[:MOST_TEXT_CHARS]
        html = ""
        if any(s.html for s in body.segments):
            html = "\n".join(s.html or letter.of_text(s.text) for s in body.segments)
        if html and not letter.showable(html):
            body.files.append(
                File("file", name="message.html", type="text/html", content=html.encode("utf-8", "replace"))
            )
            html = ""
        facts = self._facts(report)
        if body.more_files:
            facts["files_left_out"] = body.more_files
        trusted, results = _authenticity(self.fields, self.sender, self.account)
        facts |= results
        references = _references(self.fields)
        folded = letter.fold(text)
        if folded.quoted and not report:
            text = f"{folded.own}\n\n{folded.signature}".strip("\n") if folded.signature else folded.own
            facts["quoted"] = folded.quoted
        if told := report.get("original_id"):
            references = tuple(dict.fromkeys([told, *references]))
        return (
            Wrote(
                peer=self.peer,
                at=self.at,
                external_id=_own_id(self.raw, self.fields),
                kind="system" if report else "text" if text or not body.files else "media",
                text=text,
                html=html,
                subject=subject,
                files=tuple(body.files),
                reply_to=references[0] if references else "",
                facts=facts,
                references=references,
                token=_token(references),
                case_number=_case_number(self.fields, subject, self.account),
                automatic=bool(facts.get("automatic")),
                trusted=trusted and not self.form,
            ),
        )

    def _facts(self, report: Mapping[str, Any]) -> dict[str, Any]:
        facts = {**_kind(self.fields, self.peer, self.form, self.account), **report}
        if report:
            facts.setdefault("automatic", ["report"])
        if _first(self.fields, "return-path") is None:
            facts["no_return_path"] = True
        for name in ("to", "cc"):
            if told := _addresses(self.fields, name)[:20]:
                facts[name] = told
        answer_to = _address(_first(self.fields, "reply-to"))[0]
        if answer_to and answer_to != self.sender:
            facts["answer_to"] = answer_to
        if self.form:
            facts["sent_by"] = self.form
        language = (_first(self.fields, "content-language") or b"").decode("ascii", "replace")[:2].lower()
        if re.fullmatch("[a-z]{2}", language):
            facts["language"] = language
        return facts

    # Bodies and files

    def _body(self, message: Message) -> _Body:
        body = _Body()
        parts = 0
        stack: list[tuple[Message, _Segment | None, int]] = [(message, None, 0)]
        while stack:
            part, segment, depth = stack.pop()
            parts += 1
            if parts > MOST_PARTS:
                raise _Quarantined("too many parts")
            if depth > MOST_DEPTH:
                raise _Quarantined("nested too deep")
            kind = part.get_content_type()
            if part.is_multipart() and part.get_content_maintype() == "multipart":
                if kind == "multipart/alternative" and segment is None:
                    segment = _Segment()
                    body.segments.append(segment)
                inside = [one for one in part.get_payload() if isinstance(one, Message)]
                stack += [(one, segment, depth + 1) for one in reversed(inside)]
            else:
                self._leaf(part, kind, segment, body)
        return body

    def _leaf(self, part: Message, kind: str, segment: _Segment | None, body: _Body) -> None:
        name = _file_name(part)
        attached = (part.get_content_disposition() or "") == "attachment" or bool(name)
        if kind in ("text/plain", "text/html") and not attached:
            text = letter.tidy(_decoded(_content(part), part.get_content_charset()))
            if kind == "text/plain" and (part.get_param("format") or "") == "flowed":
                text = _unflowed(text, part.get_param("delsp") == "yes")
            if segment is None:
                segment = _Segment()
                body.segments.append(segment)
            if kind == "text/html":
                segment.html += text
            else:
                segment.text += text
            return
        if len(body.files) >= MOST_FILES:
            body.more_files += 1
            return
        content = _content(part)
        if (not content and not name) or kind in _REPORTS:
            return
        main = kind.partition("/")[0]
        id_ = _words(part.get("Content-ID")).strip("<> ")[:200]
        body.files.append(
            File(
                kind=main if main in ("image", "audio", "video") and kind != "image/svg+xml" else "file",
                name=name or _made_name(part, kind),
                type=kind,
                content=content,
                content_id=id_,
            )
        )

    # Reports on our own mails

    def _report(self, message: Message) -> tuple[tuple[Heard, ...], dict[str, Any]]:
        """(receipts, facts) of a delivery status (RFC 3464), a disposition (RFC 8098), or what looks like a bounce."""
        kind = message.get_content_type()
        daemon = re.match(r"mailer-daemon|postmaster", self.sender) is not None
        null = (_first(self.fields, "return-path") or b"").strip() == b"<>"
        if kind != "multipart/report" and not daemon and not (null and not self.sender):
            return (), {}
        blocks: list[Message] = []
        original = ""
        for part in message.walk() if message.is_multipart() else ():
            inner = part.get_content_type()
            if inner in _REPORTS:
                payload = part.get_payload()
                blocks += (
                    [one for one in payload if isinstance(one, Message)] if isinstance(payload, list) else []
                )
            elif (
                inner in ("message/rfc822", "text/rfc822-headers", "message/rfc822-headers") and not original
            ):
                payload = part.get_payload()
                if isinstance(payload, list) and payload and isinstance(payload[0], Message):
                    original = (
                        _ids(str(payload[0].get("Message-ID", "")).encode("ascii", "replace")) or [""]
                    )[0]
                else:
                    fields = _fields(_content(part) + b"\n\n")
                    original = (_ids(_first(fields, "message-id")) or [""])[0]
        for block in blocks:
            told = _ids(str(block.get("Original-Message-ID", "")).encode("ascii", "replace"))
            original = original or (told[0] if told else "")
        if not original and (found := _OURS.search(self.raw.decode("ascii", "replace")[:500_000])):
            original = f"<{found.group().strip('<>')}>"
        fates = [fate for block in blocks if (fate := _fate(block))]
        if not fates and (failed := _addresses(self.fields, "x-failed-recipients")):
            fates = [_Fate(failed[0], "failed", "5.0.0", "")]
        facts: dict[str, Any] = {"original_id": original} if original else {}
        if not fates:
            return (), facts
        worst = next((fate for fate in fates if fate.action == "failed"), fates[0])
        facts["bounce"] = {
            "recipient": worst.recipient, "action": worst.action, "status": worst.status, "why": worst.why
        }  # fmt: skip
        status = {"failed": "failed", "delivered": "delivered", "displayed": "read"}.get(worst.action)
        if not status or not original:
            return (), facts
        failure = Failed(_bounced(worst.status), worst.status, worst.why) if status == "failed" else None
        peer = Peer("email", worst.recipient or self.sender)
        return (
            Receipt(peer=peer, at=self.at, status=status, external_ids=(original,), failure=failure),
        ), facts


_REPORTS = ("message/delivery-status", "message/disposition-notification")  # read into facts


@dataclass(frozen=True, slots=True)
class _Fate:
    recipient: str
    action: str
    status: str
    why: str


def _fate(block: Message) -> _Fate | None:
    """What one block of a report says; None for the block that speaks of the server."""
    disposition = _words(str(block.get("Disposition", ""))).lower()
    final = _words(str(block.get("Final-Recipient", block.get("Original-Recipient", ""))))
    recipient = _address(final.partition(";")[2].encode())[0]
    if disposition:
        return _Fate(recipient, "displayed" if "displayed" in disposition else "", "", disposition[:200])
    action = _words(str(block.get("Action", ""))).lower()
    if not action:
        return None
    found = re.search(r"\b([245]\.\d{1,3}\.\d{1,3})\b", _words(str(block.get("Status", ""))))
    status = found.group(1) if found else ""
    why = _words(str(block.get("Diagnostic-Code", ""))).partition(";")[2].strip()[:500]
    if action == "failed" and status.startswith("4."):
        action = "delayed" if not re.match(r"4\.4\.7", status) else action
    return _Fate(recipient, action, status, why)


def _bounced(status: str) -> Failure:
    return Failure.REFUSED if re.match(r"5\.(?:7|6|3)\.", status) else Failure.GONE


def _content(part: Message) -> bytes:
    """The bytes of a part, decoded; a mail inside the mail as it stands."""
    payload = part.get_payload()
    if isinstance(payload, list):
        return b"\n".join(one.as_bytes() for one in payload if isinstance(one, Message))
    try:
        decoded = part.get_payload(decode=True)
    except (ValueError, LookupError, AssertionError):
        decoded = None
    return decoded if isinstance(decoded, bytes) else b""


def _file_name(part: Message) -> str:
    """As it was given: RFC 2231 before RFC 2047 before plain bytes, Content-Disposition before Content-Type."""
    for header, name in (("content-disposition", "filename"), ("content-type", "name")):
        value = _header(part, header)
        if value and (told := letter.file_name(_words(_parameter(value, name)))):
            return told
    return ""


def _header(part: Message, name: str) -> str:
    """A field as it came: bytes above 127 as lone surrogates, folds as spaces."""
    found = next((value for known, value in part.raw_items() if known.lower() == name), "")
    return re.sub(r"[\r\n]+[ \t]*", " ", str(found))


_PARAMETER = re.compile(r';\s*([a-z]+)((?:\*\d{1,3})?\*?)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)', re.IGNORECASE)


def _parameter(value: str, name: str) -> str:
    """A parameter's value (RFC 2045 5.1, RFC 2231 3 and 4); "" when there is none."""
    plain, pieces = "", dict[int, tuple[str, bool]]()
    for key, mark, told in _PARAMETER.findall(value):
        if key.lower() != name:
            continue
        told = re.sub(r"\\(.)", r"\1", told[1:-1]) if told[:1] == '"' else told.strip()
        if mark:
            pieces.setdefault(int(mark.strip("*") or 0), (told, mark.endswith("*")))
        else:
            plain = plain or told
    if 0 not in pieces:
        return plain
    charset, joined = "utf-8", b""
    for n in range(len(pieces)):
        told, encoded = pieces.get(n, ("", False))
        if encoded and n == 0 and told.count("'") >= 2:
            said, _, told = told.split("'", 2)
            charset = said or charset
        joined += unquote_to_bytes(told) if encoded else told.encode("utf-8", "surrogateescape")
    return _decoded(joined, charset)


def _made_name(part: Message, kind: str) -> str:
    if kind.startswith("message/"):
        inner = part.get_payload()
        title = _words(str(inner[0].get("Subject", ""))) if isinstance(inner, list) and inner else ""  # type: ignore[union-attr]
        return f"{letter.file_name(title)[:80] or 'message'}.eml"
    ending = {
        "text/calendar": "ics",
        "text/html": "html",
        "text/plain": "txt",
        "image/jpeg": "jpg",
        "text/rfc822-headers": "txt",
    }.get(kind)
    tail = ending or re.sub(r"\W.*", "", kind.partition("/")[2])[:8] or "bin"
    return f"{kind.partition('/')[0] if kind.partition('/')[0] in ('image', 'audio', 'video') else 'file'}.{tail}"


def _unflowed(text: str, delete_space: bool) -> str:
    """format=flowed (RFC 3676): a line that ends with a space goes on in the next."""
    out: list[str] = []
    open_ = False
    for line in text.split("\n"):
        line = line[1:] if line.startswith(" ") else line
        if open_ and not line.startswith(">") and line != "-- ":
            out[-1] += line
        else:
            out.append(line)
        open_ = line.endswith(" ") and line != "-- " and not line.startswith(">")
        if open_ and delete_space:
            out[-1] = out[-1][:-1]
    return "\n".join(out)


NOT_OPENED: Final = (
    "[Ce message n'a pas été ouvert : il est abîmé ou fait pour nuire. / "
    "This message was not opened: it is broken or made to harm.]"
)


def quarantined(raw: bytes, account: Account, reason: str) -> tuple[Heard, ...]:
    """A mail that is not taken apart: who wrote and under which subject, and why the rest is not shown."""
    fields = _fields(raw)
    peer, form = _writer(fields, account)
    if not peer.value:
        return (Unknown(peer=peer, what=f"quarantined: {reason}"),)
    facts = {"quarantined": reason, **_kind(fields, peer, form, account)}
    return (
        Wrote(
            peer=peer,
            at=_date(fields),
            external_id=_own_id(raw[:MOST_BYTES], fields),
            kind="system",
            text=NOT_OPENED,
            subject=_words(_first(fields, "subject"))[:SUBJECT_CHARS],
            facts=facts,
            references=_references(fields),
            token=_token(_references(fields)),
            automatic="automatic" in facts,
            trusted=False,
        ),
    )


# Writing


_NO_SUBJECT = {"fr": "Votre demande", "en": "Your request"}
_SIGNATURES = Environment()


def render(out: Outgoing, account: Account, secrets: Secrets, memory: Memory) -> Rendering:
    """One MailCall; `act`s other than a message do nothing, for a mailbox shows no typing."""
    if out.act != "message":
        return Sent("")
    own, to = account.settings.get("address", ""), out.to.strip()
    if not _ADDRESS.fullmatch(to) or not _ADDRESS.fullmatch(own):
        return Failed(Failure.REFUSED, "address", f"not an email address: {to[:100] if own else 'our own'}")
    if not (out.text.strip() or out.html.strip() or out.files or out.buttons):
        return Failed(Failure.REFUSED, "empty", "nothing is written in it")
    if sum(len(enclosed.content) for enclosed in out.files) > MANIFEST.attachment_bytes["file"]:
        return Failed(Failure.REFUSED, "too_large", "the files are larger than 20 MB together")
    id_ = out.own_id or mint(out, account, secrets)
    try:
        content = _written(out, account, own, to, id_)
    except (ValueError, LookupError, UnicodeError) as e:
        return Failed(Failure.REFUSED, "unwritable", str(e)[:200])
    reply = yield MailCall("" if out.automatic else own, to, content)
    return _result(reply, id_)


def _written(out: Outgoing, account: Account, own: str, to: str, id_: str) -> bytes:
    fields: list[tuple[str, str]] = []
    made_ms = out.message.int >> 80 if out.message.version == 7 else None
    if made_ms is not None and made_ms < 253_402_300_799_000:
        fields.append(("Date", format_datetime(datetime.fromtimestamp(made_ms / 1000, UTC))))
    by = (
        f"{out.author_name} – {account.name}"
        if out.author_name and account.name
        else account.name or out.author_name
    )
    fields += [
        ("From", _named(by, own)),
        ("To", f"<{to}>"),
        ("Subject", _words_encoded("Subject", _subject(out))),
    ]
    fields.append(("Message-ID", _one_id(id_)))
    references = [one for one in map(_one_id, out.references) if one]
    answered = _one_id(out.reply_to) if out.reply_to else (references[-1] if references else "")
    if answered:
        fields.append(("In-Reply-To", answered))
        references = [one for one in references if one != answered] + [answered]
    if references:
        kept = (
            references
            if len(references) <= REFERENCES_SENT
            else references[:1] + references[1 - REFERENCES_SENT :]
        )
        fields.append(("References", "\r\n ".join(kept)))
    if out.automatic:
        fields.append(("Auto-Submitted", "auto-replied" if answered else "auto-generated"))
        fields.append(("X-Auto-Response-Suppress", "All"))
    if re.fullmatch("[a-z]{2,3}", out.language):
        fields.append(("Content-Language", out.language))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields).encode("ascii")
    return head + _letter(out, account).as_bytes(policy=policy.SMTP.clone(cte_type="7bit"))


def _letter(out: Outgoing, account: Account) -> EmailMessage:
    text, html = letter.tidy(out.text), letter.clean(out.html, images=True) if out.html else ""
    if not text.strip() and html:
        text = letter.as_text(html)
    if out.buttons:
        text += "\n\n" + "\n".join(f"{n}. {letter.tidy(b.title)}" for n, b in enumerate(out.buttons, 1))
        html = ""
    signature = _signature(out, account)
    html = html or letter.of_text(text)
    if signature:
        text, html = f"{text.rstrip()}\n\n-- \n{signature}\n", f"{html}\n<br>\n{letter.of_text(signature)}"
    page = f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"></head><body>\n{html}\n</body></html>\n'
    message = EmailMessage(policy=policy.SMTP)
    message.set_content(text or "\n", cte="quoted-printable")
    message.add_alternative(page, subtype="html", cte="quoted-printable")
    for enclosed in out.files:
        main, _, sub = (enclosed.type or "").lower().partition("/")
        if not re.fullmatch(r"[a-z0-9.+-]{1,40}", main) or not re.fullmatch(r"[a-z0-9.+-]{1,100}", sub):
            main, sub = "application", "octet-stream"
        if main in ("multipart", "message"):
            main, sub = "application", "octet-stream"
        name = letter.file_name(enclosed.name) or f"file.{sub}"
        message.add_attachment(enclosed.content, maintype=main, subtype=sub, filename=name)
    for n, part in enumerate(one for one in message.walk() if one.is_multipart()):
        part.set_boundary(f"=_{out.message.hex}_{n}")  # no encoded line can begin with it
    return message


def _signature(out: Outgoing, account: Account) -> str:
    """The account's signature in the language of the mail, under an advisor's words only."""
    source = account.signature.get(out.language) or next(iter(account.signature.values()), "")
    if not source or out.author != "advisor":
        return ""
    try:
        written = _SIGNATURES.from_string(source).render(
            advisor={"first_name": out.author_name},
            account={"name": account.name},
            case={"number": out.case_number},
        )
    except Exception:  # a template of an admin: a bad one must not keep an answer from its customer
        return ""
    return letter.tidy(str(written)).strip()


def _subject(out: Outgoing) -> str:
    subject = re.sub(r"\s+", " ", letter.tidy(out.subject)).strip()[: SUBJECT_CHARS - 30]
    subject = subject or _NO_SUBJECT.get(out.language, _NO_SUBJECT["en"])
    if (out.references or out.reply_to) and not re.match(
        r"(?:re|aw|sv|tr|fw|fwd)\s?:", subject, re.IGNORECASE
    ):
        subject = f"Re: {subject}"
    mark = f"[#{out.case_number}]"
    return subject if not out.case_number or mark in subject else f"{subject} {mark}"


def _words_encoded(name: str, text: str) -> str:
    charset = "us-ascii" if text.isascii() and "=?" not in text else "utf-8"
    return Header(text, charset, header_name=name, maxlinelen=76).encode(linesep="\r\n")


def _named(name: str, address: str) -> str:
    name = re.sub(r"\s+", " ", letter.tidy(name)).strip()[:100]
    if not name:
        return f"<{address}>"
    if name.isascii() and "=?" not in name:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" <{address}>'
    return f"{_words_encoded('From', name)}\r\n <{address}>"


def _one_id(told: str) -> str:
    """A Message-ID that may stand in a header, or ""."""
    found = re.fullmatch(r"<?([!-;=?-~]{3,900})>?", told.strip())
    return f"<{found.group(1)}>" if found else ""


def _result(reply: Reply, id_: str) -> Result:
    """What an SMTP code means for the message (RFC 5321 4.2, RFC 3463)."""
    if reply.lost:
        return Perhaps(f"the connection ended after the mail was handed over ({reply.status})")
    code, why = str(reply.status), reply.body.decode("utf-8", "replace")[:500]
    if reply.stranger:
        return Failed(Failure.ACCOUNT, "certificate", why)
    if 200 <= reply.status < 300:
        return Sent(id_)
    if reply.status in (530, 534, 535, 538):
        return Failed(Failure.TOKEN, code, why)
    if reply.status in (550, 551, 553):
        refused = re.search(r"\b5\.7\.\d", why)
        return Failed(Failure.REFUSED if refused else Failure.GONE, code, why)
    if reply.status >= 500:
        return Failed(Failure.REFUSED, code, why)
    return Failed(Failure.TRANSIENT, code, why)


__all__ = [
    "ANSWERS_A_DAY", "MANIFEST", "hostile", "may_answer", "message_id", "mint", "own_addresses",
    "parse", "prove", "quarantined", "receives", "render", "verify",
]  # fmt: skip
