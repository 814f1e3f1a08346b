"""A SIP message: its start line, header fields in order, and body; values are read when asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from softphone_bridge.uri import Address, parse_address, parse_params, split_list

COMPACT = {  # RFC 3261 7.3.3 and later registrations
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
_PRETTY = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Alert-Info",
    "Allow",
    "Allow-Events",
    "Authentication-Info",
    "Authorization",
    "Call-ID",
    "Call-Info",
    "Contact",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "CSeq",
    "Date",
    "Diversion",
    "Event",
    "Expires",
    "From",
    "History-Info",
    "Identity",
    "Max-Forwards",
    "Min-Expires",
    "Min-SE",
    "Organization",
    "P-Asserted-Identity",
    "P-Preferred-Identity",
    "Path",
    "Priority",
    "Privacy",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Require",
    "RAck",
    "Reason",
    "Record-Route",
    "Refer-To",
    "Referred-By",
    "Remote-Party-ID",
    "Replaces",
    "Require",
    "Retry-After",
    "Route",
    "RSeq",
    "Server",
    "Session-Expires",
    "Subject",
    "Supported",
    "Timestamp",
    "To",
    "Unsupported",
    "User-Agent",
    "Via",
    "Warning",
    "WWW-Authenticate",
]
KNOWN: dict[str, str] = {}
for _name in _PRETTY:
    KNOWN[_name] = KNOWN[_name.lower()] = KNOWN[_name.upper()] = _name.lower()
for _short, _long in COMPACT.items():
    KNOWN[_short] = KNOWN[_short.upper()] = _long
KNOWN["CSEQ"] = KNOWN["Cseq"] = "cseq"
KNOWN["Call-Id"] = "call-id"

REASONS = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    600: "Busy Everywhere",
    603: "Decline",
    606: "Not Acceptable",
}

_VIA = re.compile(
    r"\s*SIP\s*/\s*2\.0\s*/\s*([A-Za-z0-9\-.!%*_+`'~]+)\s+(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.\-_]+)"
    r"(?:\s*:\s*([0-9]{1,5}))?\s*((?:;.*)?)\Z",
    re.IGNORECASE | re.DOTALL,
)
_CSEQ = re.compile(r"([0-9]+)[ \t]+(\S+)\Z")


class Fault(Exception):
    """Something wrong with a message."""


class LocalError(Fault):
    """Our own mistake: what we were about to send is no SIP."""


class RemoteError(Fault):
    """The far side's mistake. `status`: the answer it deserves; `message`: what could be read of it (None: silence)."""

    def __init__(self, why: str, status: int = 400, message: Message | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.status = status
        self.message = message


class Via(NamedTuple):
    transport: str
    host: str
    port: int  # 0: none given
    branch: str
    rport: str | None  # None: not asked for


class Message:
    """A request (`method`, `uri`) or a response (`status` > 0, `reason`).

    `fields` holds (key, name as spelled, value) in order; keys are lower case and never compact. A field
    given several times is several entries. `first` is the first value of each key.
    """

    __slots__ = (
        "_cseq",
        "_from",
        "_to",
        "_via",
        "body",
        "fields",
        "first",
        "method",
        "reason",
        "status",
        "uri",
    )

    def __init__(
        self,
        *,
        method: str = "",
        uri: str = "",
        status: int = 0,
        reason: str = "",
        fields: list[tuple[str, str, str]] | None = None,
        body: bytes = b"",
    ) -> None:
        self.method = method
        self.uri = uri
        self.status = status
        self.reason = reason
        self.fields: list[tuple[str, str, str]] = fields if fields is not None else []
        self.first: dict[str, str] = {}
        for key, _, value in self.fields:
            self.first.setdefault(key, value)
        self.body = body
        self._via: Via | None = None
        self._cseq: tuple[int, str] | None = None
        self._from: Address | None = None
        self._to: Address | None = None

    def get(self, key: str, default: str = "") -> str:
        return self.first.get(key, default)

    def all(self, key: str) -> list[str]:
        """Every value of a key, as sent (lists not parted)."""
        if key not in self.first:
            return []
        return [value for k, _, value in self.fields if k == key]

    def elements(self, key: str) -> list[str]:
        """Every element of a comma-separated key, over all its fields."""
        return [e for value in self.all(key) for e in split_list(value) if e]

    def tokens(self, key: str) -> list[str]:
        return [e.strip().lower() for value in self.all(key) for e in value.split(",") if e.strip()]

    @property
    def via(self) -> Via:
        """The topmost Via; raises RemoteError."""
        if self._via is None:
            raw = self.first.get("via")
            if raw is None:
                raise RemoteError("no Via", 400, self)
            self._via = parse_via(split_list(raw)[0], self)
        return self._via

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method; raises RemoteError."""
        if self._cseq is None:
            match = _CSEQ.match(self.first.get("cseq", ""))
            if match is None or len(match[1]) > 12 or int(match[1]) > 0xFFFFFFFF:
                raise RemoteError("bad CSeq", 400, self)
            self._cseq = (int(match[1]), match[2])
        return self._cseq

    @property
    def from_(self) -> Address:
        if self._from is None:
            value = parse_address(self.first.get("from", ""))
            if value is None:
                raise RemoteError("bad From", 400, self)
            self._from = value
        return self._from

    @property
    def to(self) -> Address:
        if self._to is None:
            value = parse_address(self.first.get("to", ""))
            if value is None:
                raise RemoteError("bad To", 400, self)
            self._to = value
        return self._to

    @property
    def from_tag(self) -> str:
        return self.from_.param("tag") or ""

    @property
    def to_tag(self) -> str:
        return self.to.param("tag") or ""

    @property
    def call_id(self) -> str:
        return self.first.get("call-id", "")

    def contacts(self) -> list[Address]:
        """Contact values; raises RemoteError. "*" is an Address whose uri is "*"."""
        out: list[Address] = []
        for element in self.elements("contact"):
            if element == "*":
                out.append(Address("", "*", ""))
                continue
            value = parse_address(element)
            if value is None:
                raise RemoteError("bad Contact", 400, self)
            out.append(value)
        return out

    def serialise(self) -> bytes:
        """The message as it goes on the wire; Content-Length is always ours."""
        start = f"{self.method} {self.uri} SIP/2.0"
        if self.status:
            start = f"SIP/2.0 {self.status} {self.reason}"
        lines = [start]
        lines += [f"{name}: {value}" for key, name, value in self.fields if key != "content-length"]
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        for line in lines[:-1]:
            if "\r" in line or "\n" in line:
                raise LocalError("line end inside a header")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


def parse_via(text: str, message: Message | None = None) -> Via:
    match = _VIA.match(text)
    if match is None:
        raise RemoteError("bad Via", 400, message)
    params = parse_params(match[4])
    port = int(match[3]) if match[3] else 0
    if params is None or port > 65535:
        raise RemoteError("bad Via", 400, message)
    return Via(match[1].upper(), match[2], port, params.get("branch", ""), params.get("rport"))


def request_bytes(
    start: str, headers: Iterable[str], body: bytes = b"", kind: str = "application/sdp"
) -> bytes:
    """A message of ours from ready lines."""
    text = start + "\r\n" + "\r\n".join(headers)
    if body:
        text += f"\r\nContent-Type: {kind}"
    return f"{text}\r\nContent-Length: {len(body)}\r\n\r\n".encode("utf-8", "surrogateescape") + body


_RPORT = re.compile(r";\s*rport(?:\s*=\s*[0-9]*)?\s*(?=;|\Z)", re.IGNORECASE)
_RECEIVED = re.compile(r";\s*received\s*=\s*[^;]*", re.IGNORECASE)


def stamped_via(raw: str, via: Via | None, host: str, port: int) -> str:
    """The first Via field with `received` and `rport` filled in (RFC 3261 18.2.1, RFC 3581)."""
    if via is not None and via.rport is None and via.host == host:
        return raw
    head, comma, rest = raw.partition(",") if '"' not in raw else (raw, "", "")
    if via is not None and via.rport is not None:
        head = _RPORT.sub(f";rport={port}", head, count=1)
    head = _RECEIVED.sub("", head)
    return f"{head};received={host}{comma}{rest}"


def new_branch(token: str) -> str:
    """A branch parameter made of an unguessable `token` (RFC 3261 8.1.1.7)."""
    return "z9hG4bK" + token


def response_bytes(
    request: Message,
    status: int,
    *,
    host: str,
    port: int,
    to_tag: str = "",
    reason: str = "",
    headers: Iterable[str] = (),
    body: bytes = b"",
) -> bytes:
    """A response to `request`, which came from host:port; copies Via, From, To, Call-ID, CSeq (RFC 3261 8.2.6.2)."""
    lines = [f"SIP/2.0 {status} {reason or REASONS.get(status, 'Unknown')}"]
    top = True
    first = request.first
    for key, _, value in request.fields:
        if key == "via":
            if top:
                top = False
                try:
                    via: Via | None = request.via
                except RemoteError:
                    via = None
                value = stamped_via(value, via, host, port)
            lines.append(f"Via: {value}")
        elif key == "record-route" and 100 < status < 300:
            lines.append(f"Record-Route: {value}")
    if "from" in first:
        lines.append(f"From: {first['from']}")
    if "to" in first:
        to = first["to"]
        if to_tag and ";tag=" not in to and not _has_tag(request):
            to = f"{to};tag={to_tag}"
        lines.append(f"To: {to}")
    if "call-id" in first:
        lines.append(f"Call-ID: {first['call-id']}")
    if "cseq" in first:
        lines.append(f"CSeq: {first['cseq']}")
    lines += headers
    if body:
        lines.append("Content-Type: application/sdp")
    lines.append(f"Content-Length: {len(body)}\r\n\r\n")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body


def _has_tag(request: Message) -> bool:
    try:
        return bool(request.to_tag)
    except RemoteError:
        return True
