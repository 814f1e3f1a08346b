"""Bytes to a Message in one pass, with limits; then the checks of syntax that every element owes (RFC 3261 7, 25).

`split` reads, `check` judges. Both raise RemoteError whose status is the answer deserved; nothing else
leaves this file.
"""

from __future__ import annotations

import re

from softphone_bridge.message import KNOWN, REASONS, Message, RemoteError
from softphone_bridge.uri import has_scheme, parse_address, parse_uri, split_list

MAX_MESSAGE = 65_536  # octets (row 22)
MAX_SAME = 100  # header fields of one kind (row 22)
MAX_FIELDS = 1_000
MAX_VIAS = 70  # the default Max-Forwards: more hops can't be honest (row 22)
ONCE = frozenset(
    (
        "from",
        "to",
        "call-id",
        "cseq",
        "max-forwards",
        "content-length",
        "content-type",
        "expires",
        "session-expires",
        "min-se",
        "event",
    )
)
KNOWN_METHODS = frozenset(
    [
        "INVITE",
        "ACK",
        "BYE",
        "CANCEL",
        "REGISTER",
        "OPTIONS",
        "UPDATE",
        "INFO",
        "SUBSCRIBE",
        "NOTIFY",
        "MESSAGE",
        "REFER",
        "PUBLISH",
        "PRACK",
    ]
)
SERVED = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "UPDATE", "INFO")

_NAME = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+\Z")
_METHOD = _NAME
_FOLD = re.compile(r"\r\n[ \t]+")
_STATUS = re.compile(r"SIP/2\.0 ([1-6][0-9][0-9])(?: (.*))?\Z", re.IGNORECASE | re.DOTALL)
_VERSION = re.compile(r"SIP/[0-9]+\.[0-9]+\Z", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]{1,10}\Z")
_BREAK = re.compile(r"[\r\n]")


def split(data: bytes) -> Message:
    """One message from one datagram (or from one framed piece of a stream)."""
    if len(data) > MAX_MESSAGE:
        raise RemoteError("message too large", 513)
    end = data.find(b"\r\n\r\n")
    torn = end < 0
    head = (data if torn else data[:end]).decode("utf-8", "surrogateescape").lstrip("\r\n")
    if "\r\n " in head or "\r\n\t" in head:
        head = _FOLD.sub(" ", head)
    lines = head.split("\r\n")
    start = lines[0]
    fields: list[tuple[str, str, str]] = []
    first: dict[str, str] = {}
    fault = "no blank line after the headers" if torn else ""
    again = 0
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = KNOWN.get(name)
        if key is None:
            bare = name.rstrip(" \t")
            key = KNOWN.get(bare) or KNOWN.get(bare.lower()) or bare.lower()
            if not colon or not _NAME.match(bare):
                if line or not torn:
                    fault = fault or "bad header line"
                continue
            name = bare
        value = value.strip(" \t")
        fields.append((key, name, value))
        if key in first:
            again += 1
            if key in ONCE:
                fault = fault or f"{key} given twice"
        else:
            first[key] = value
    message = Message.__new__(Message)
    message.method = message.uri = message.reason = ""
    message.status = 0
    message.fields = fields
    message.first = first
    message._via = message._cseq = message._from = message._to = None
    message.body = b"" if torn else data[end + 4 :]
    _start_line(message, start, fault)
    if _BREAK.search(head.replace("\r\n", "") if len(lines) > 1 else head):
        fault = fault or "bare CR or LF in a header"
    if len(fields) > MAX_FIELDS:
        fault = fault or "too many headers"
    elif again >= MAX_SAME:
        counts: dict[str, int] = {}
        for key, _, _ in fields:
            counts[key] = counts.get(key, 0) + 1
        if max(counts.values()) > MAX_SAME:
            fault = fault or "too many headers of a kind"
    if fault:
        raise RemoteError(fault, 400, message)
    length = first.get("content-length")
    if length is not None:
        if not _DIGITS.match(length):
            raise RemoteError("bad Content-Length", 400, message)
        size = int(length)
        if size > len(message.body):
            raise RemoteError("body shorter than Content-Length", 400, message)
        if size < len(message.body):
            message.body = message.body[:size]
    return message


def _start_line(message: Message, start: str, fault: str) -> None:
    if start[:4].upper() == "SIP/":
        match = _STATUS.match(start)
        if match is None:
            raise RemoteError("bad status line", 0)
        message.status = int(match[1])
        message.reason = match[2] or REASONS.get(message.status, "")
        return
    parts = start.split(" ")
    message.method = parts[0]
    if not _METHOD.match(parts[0]):
        raise RemoteError("not SIP", 0)
    if len(parts) < 3:
        raise RemoteError("bad request line", 0 if "via" not in message.first else 400, message)
    version = start.rstrip(" ").rpartition(" ")[2]
    if version != "SIP/2.0" and version.upper() != "SIP/2.0":
        if _VERSION.match(version):
            raise RemoteError("other SIP version", 505, message)
        raise RemoteError("bad request line", 400, message)
    if len(parts) != 3:
        raise RemoteError("white space in the request line", 400, message)
    message.uri = parts[1]


def check(message: Message) -> None:
    """Syntax of what every request and response must carry; raises RemoteError 400, 416, 501."""
    if message.status:
        message.via  # noqa: B018
        message.cseq  # noqa: B018
        if not message.call_id:
            raise RemoteError("no Call-ID", 400, message)
        message.from_  # noqa: B018
        message.to  # noqa: B018
        return
    first = message.first
    method = message.method
    via = message.via
    if via.branch[:7].lower() == "z9hg4bk" and len(via.branch) == 7:
        raise RemoteError("empty branch", 400, message)
    if not first.get("call-id"):
        raise RemoteError("no Call-ID", 400, message)
    _, named = message.cseq
    message.from_  # noqa: B018
    message.to  # noqa: B018
    vias = message.all("via")
    if len(vias) > 1 or "," in vias[0]:
        hops = sum(len(split_list(v)) for v in vias)
        if hops > MAX_VIAS:
            raise RemoteError("too many Vias", 483, message)
    forwards = first.get("max-forwards")
    if forwards is not None and not _DIGITS.match(forwards):
        raise RemoteError("bad Max-Forwards", 400, message)
    uri = message.uri
    if uri[:4].lower() == "sip:" or uri[:5].lower() == "sips:":
        parsed = parse_uri(uri)
        if parsed is None or parsed.headers:
            raise RemoteError("bad request URI", 400, message)
    elif not has_scheme(uri) or any(c in '<>"' for c in uri):
        raise RemoteError("bad request URI", 400, message)
    if method in KNOWN_METHODS and named != method:
        raise RemoteError("CSeq names another method", 400, message)
    if "contact" in first:
        for element in message.elements("contact"):
            if element != "*" and parse_address(element) is None:
                raise RemoteError("bad Contact", 400, message)
    for route in ("route", "record-route"):
        if route in first:
            for element in message.elements(route):
                if parse_address(element) is None:
                    raise RemoteError("bad Route", 400, message)
