"""SIP URIs and the addresses that hold them (RFC 3261 19.1, 20.10), kept as text and taken apart on demand."""

from __future__ import annotations

import re
from typing import NamedTuple

_CHAR = r"[A-Za-z0-9\-.!%*_+`'~]"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_SIP = re.compile(
    r"(?P<scheme>sips?):"
    r"(?:(?P<user>[^@:\s<>\"]+)(?::(?P<password>[^@\s<>\"]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.\-_]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<params>(?:;[^?\s<>\"]*)?)"
    r"(?P<headers>\?[^\s<>\"]*)?\Z",
    re.IGNORECASE,
)
_DISPLAY = re.compile(r'(?:"(?:[^"\\]|\\.)*"|(?:[A-Za-z0-9\-.!%*_+`\'~\x80-\U0010ffff]|[ \t])*)\Z', re.DOTALL)
_PARAMS = re.compile(
    r"\s*;\s*(?P<name>" + _CHAR + r"+)"
    r"(?:\s*=\s*(?P<value>\"(?:[^\"\\]|\\.)*\"|\[[^\]]*\]|[^\s;,\"<>]+))?\s*",
    re.DOTALL,
)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


class Uri(NamedTuple):
    """A sip or sips URI in parts; `params` begins with ";" or is empty, `headers` with "?" or is empty."""

    scheme: str
    user: str
    host: str
    port: int  # 0: none given
    params: str
    headers: str


def parse_uri(text: str) -> Uri | None:
    """The parts of a sip or sips URI, or None when it is something else or malformed."""
    match = _SIP.match(text)
    if match is None:
        return None
    scheme, user, _, host, port, params, headers = match.groups()
    number = int(port) if port else 0
    if number > 65535:
        return None
    return Uri(scheme.lower(), user or "", host, number, params or "", headers or "")


def has_scheme(text: str) -> bool:
    return _SCHEME.match(text) is not None


def unescape(text: str) -> str:
    """%HH undone exactly once; what is no UTF-8 stays as surrogates."""
    if "%" not in text:
        return text
    raw = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if int(m[1], 16) < 128 else m[0], text)
    if not _ESCAPE.search(raw):
        return raw
    parts: list[bytes] = []
    at = 0
    for m in _ESCAPE.finditer(text):
        parts.append(text[at : m.start()].encode("utf-8", "surrogateescape"))
        parts.append(bytes((int(m[1], 16),)))
        at = m.end()
    parts.append(text[at:].encode("utf-8", "surrogateescape"))
    return b"".join(parts).decode("utf-8", "surrogateescape")


def uri_param(params: str, name: str) -> str | None:
    """The value of a parameter in ";a=1;b" form; "" for one without a value, None when it is absent."""
    for part in params.split(";"):
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip()
    return None


def parse_params(text: str) -> dict[str, str] | None:
    """Header parameters ";name=value;name" to a dict with lower-case names; None when malformed."""
    out: dict[str, str] = {}
    at, end = 0, len(text)
    while at < end:
        match = _PARAMS.match(text, at)
        if match is None:
            return None if text[at:].strip() else out
        out.setdefault(match["name"].lower(), match["value"] or "")
        at = match.end()
    return out


class Address(NamedTuple):
    """A From, To or Contact value: display name (unquoted), URI as text, header parameters as text."""

    display: str
    uri: str
    params: str

    def param(self, name: str) -> str | None:
        values = parse_params(self.params)
        return None if values is None else values.get(name)


_FAST = re.compile(
    r'(?:"([^"\\<>]*)" ?|([A-Za-z0-9]*) ?)<(sips?:[^\s<>"?,]+)>((?:;[A-Za-z0-9\-.]+(?:=[A-Za-z0-9\-.+_]+)?)*)\Z'
)


def parse_address(text: str) -> Address | None:
    """A name-addr or addr-spec with its parameters, or None when malformed (RFC 3261 20.10, 25.1)."""
    match = _FAST.match(text)
    if match is not None:
        return Address(match[1] or match[2] or "", match[3], match[4])
    text = text.strip()
    if text.startswith('"'):
        closing = _quoted_end(text, 0)
        if closing < 0:
            return None
        less = text.find("<", closing)
        if less < 0 or text[closing:less].strip():
            return None
    else:
        less = text.find("<")
    if less >= 0:
        display = text[:less].strip()
        if not _DISPLAY.match(display):
            return None
        more = text.find(">", less)
        if more < 0:
            return None
        uri, params = text[less + 1 : more], text[more + 1 :]
        if display.startswith('"'):
            display = re.sub(r"\\(.)", r"\1", display[1:-1], flags=re.DOTALL)
    else:
        display = ""
        uri, semicolon, rest = text.partition(";")
        uri, params = uri.rstrip(), semicolon + rest
        if "?" in uri or "," in uri:  # such a URI must be in brackets (RFC 3261 20.10)
            return None
    if not has_scheme(uri) or any(c <= " " or c in '<>"' for c in uri):
        return None
    if (uri[:4].lower() == "sip:" or uri[:5].lower() == "sips:") and parse_uri(uri) is None:
        return None
    if params.strip() and parse_params(params) is None:
        return None
    return Address(display, uri, params.strip())


def _quoted_end(text: str, at: int) -> int:
    """Index after the closing quote of the quoted string that starts at `at`, or -1."""
    i, end = at + 1, len(text)
    while i < end:
        c = text[i]
        if c == "\\":
            i += 2
        elif c == '"':
            return i + 1
        else:
            i += 1
    return -1


def split_list(text: str) -> list[str]:
    """A comma-separated header value in its elements; commas in quotes and in <> do not part."""
    if "," not in text:
        return [text]
    out: list[str] = []
    start = i = 0
    end = len(text)
    angle = False
    while i < end:
        c = text[i]
        if c == '"' and not angle:
            closing = _quoted_end(text, i)
            i = end if closing < 0 else closing
            continue
        if c == "<":
            angle = True
        elif c == ">":
            angle = False
        elif c == "," and not angle:
            out.append(text[start:i].strip())
            start = i + 1
        i += 1
    out.append(text[start:].strip())
    return out


def quoted(text: str) -> str:
    """`text` as a quoted-string, without control characters."""
    clean = "".join(c for c in text if c >= " " and c != "\x7f")
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'


def printable(text: str) -> str:
    """`text` without control characters and lone surrogates: fit for logs, screens and the database."""
    if text.isprintable():
        return text
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c for c in clean if c.isprintable())
