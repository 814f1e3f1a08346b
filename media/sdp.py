"""Session descriptions of a telephone call: read, written, offered and answered (RFC 8866, RFC 3264).

We speak one audio stream: PCMU or PCMA with telephone-event. Every other stream of an offer is refused with
port 0. Who sent nonsense is told so by `RemoteError`: 400 for what cannot be read, 488 for what we
cannot speak.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from enum import StrEnum

from media.g711 import PCMA, PCMU

MAX_BYTES = 16_384  # ours: a large browser offer has 8 kB
MAX_LINES = 600
MAX_STREAMS = 16
MAX_FORMATS = 64

NAMES = {PCMU: "PCMU", PCMA: "PCMA"}
TELEPHONE_EVENT = 101  # ours, dynamic; what the world uses

_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]+")


class RemoteError(ValueError):
    """The far side's description cannot be used; answer with `status` and `reason`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


class Direction(StrEnum):
    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @classmethod
    def of(cls, sends: bool, receives: bool) -> Direction:
        if sends:
            return cls.SENDRECV if receives else cls.SENDONLY
        return cls.RECVONLY if receives else cls.INACTIVE


_DIRECTIONS = frozenset(each.value for each in Direction)


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a leg's RTP goes and how it is spoken, from the far side's SDP."""

    host: str
    port: int
    payload_type: int  # 0 PCMU, 8 PCMA
    telephone_event: int | None  # payload type of telephone-event/8000, None when not offered
    sending: bool = True  # may we send? (sendrecv, sendonly of ours)
    receiving: bool = True
    ptime_ms: int = 20

    @property
    def held(self) -> bool:
        """Somebody holds: not both directions are open."""
        return not (self.sending and self.receiving)


@dataclass(frozen=True, slots=True)
class Local:
    """Our side of a session: where we listen and what we are ready to speak."""

    host: str
    port: int
    session: int  # o= session id; the same for the whole dialog
    version: int = 1  # o= version; one more each time what we say changes (RFC 3264 8)
    payload_types: tuple[int, ...] = (PCMA, PCMU)  # in our order; only offers are ordered by it
    telephone_event: int | None = TELEPHONE_EVENT
    direction: Direction = Direction.SENDRECV
    ptime_ms: int = 20


@dataclass(frozen=True, slots=True)
class Format:
    """An a=rtpmap with its a=fmtp."""

    payload_type: int
    name: str  # upper case
    rate: int
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class Stream:
    """One m= section."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]  # as written after the protocol
    host: str | None = None  # its own c= line
    attributes: tuple[tuple[str, str], ...] = ()

    def attribute(self, name: str) -> str | None:
        return next((value for key, value in self.attributes if key == name), None)

    @property
    def maps(self) -> dict[int, Format]:
        """Formats by payload type: the static two, and what a=rtpmap says."""
        found: dict[int, Format] = {}
        parameters: dict[str, str] = {}
        for key, value in self.attributes:
            if key == "fmtp":
                number, _, rest = value.partition(" ")
                parameters.setdefault(number, rest.strip())
        for key, value in self.attributes:
            if key != "rtpmap":
                continue
            match = re.fullmatch(r"(\d{1,3})\s+([^/\s]+)/(\d{1,6})(?:/(\d{1,3}))?\s*", value, re.ASCII)
            if match is None or int(match[1]) > 127 or (match[4] or "1") != "1":
                continue
            found.setdefault(
                int(match[1]),
                Format(int(match[1]), match[2].upper(), int(match[3]), parameters.get(match[1], "")),
            )
        for static, name in NAMES.items():
            found.setdefault(static, Format(static, name, 8000))
        return found


@dataclass(frozen=True, slots=True)
class Session:
    """A whole session description."""

    user: str
    session: str
    version: str
    host: str | None  # the session's c= line
    streams: tuple[Stream, ...]
    attributes: tuple[tuple[str, str], ...] = field(default=())

    def direction(self, stream: Stream) -> Direction:
        for attributes in (stream.attributes, self.attributes):
            for key, _ in attributes:
                if key in _DIRECTIONS:
                    return Direction(key)
        return Direction.SENDRECV  # RFC 8866 6.7.1


def parse(raw: bytes) -> Session:
    """Read a description. Raises RemoteError(400) naming what is wrong."""
    if len(raw) > MAX_BYTES:
        raise RemoteError(400, "SDP too large")
    if not raw.strip():
        raise RemoteError(400, "SDP empty")
    if b"\0" in raw:
        raise RemoteError(400, "SDP holds a NUL")
    lines = [line for line in raw.decode("utf-8", "replace").replace("\r\n", "\n").split("\n") if line]
    if len(lines) > MAX_LINES:
        raise RemoteError(400, "SDP has too many lines")
    if lines[0].rstrip() != "v=0":
        raise RemoteError(400, "SDP does not begin with v=0")
    origin: list[str] | None = None
    host: str | None = None
    attributes: list[tuple[str, str]] = []
    streams: list[Stream] = []
    for line in lines[1:]:
        kind, equals, value = line[:1], line[1:2], line[2:].strip()
        if equals != "=" or not kind.isalpha():
            raise RemoteError(400, "SDP line is not type=value")
        if kind == "m":
            if len(streams) == MAX_STREAMS:
                raise RemoteError(400, "SDP has too many streams")
            if streams:
                streams[-1] = replace(streams[-1], attributes=tuple(attributes))
            else:
                session_attributes = tuple(attributes)
            attributes = []
            streams.append(_stream(value))
        elif kind == "o" and not streams:
            origin = value.split()
            if len(origin) != 6 or not (_number(origin[1]) and _number(origin[2])):
                raise RemoteError(400, "SDP o= line is broken")
        elif kind == "c":
            address = _connection(value)
            if streams:
                if streams[-1].host is None:
                    streams[-1] = replace(streams[-1], host=address)
            else:
                host = address
        elif kind == "a":
            name, _, rest = value.partition(":")
            attributes.append((name.strip().lower(), rest.strip()))
        elif kind == "v":
            raise RemoteError(400, "SDP holds two descriptions")
    if origin is None:
        raise RemoteError(400, "SDP has no o= line")
    if not streams:
        raise RemoteError(400, "SDP has no m= line")
    streams[-1] = replace(streams[-1], attributes=tuple(attributes))
    return Session(origin[0], origin[1], origin[2], host, tuple(streams), session_attributes)


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


def _connection(value: str) -> str:
    parts = value.split()
    if len(parts) != 3 or parts[0] != "IN" or parts[1] not in ("IP4", "IP6"):
        raise RemoteError(400, "SDP c= line is broken")
    return parts[2]


def _stream(value: str) -> Stream:
    parts = value.split()
    if len(parts) < 4:
        raise RemoteError(400, "SDP m= line is broken")
    port = parts[1].partition("/")[0]
    if not _number(port) or int(port) > 65535:
        raise RemoteError(400, "SDP port is not a port")
    if len(parts) - 3 > MAX_FORMATS:
        raise RemoteError(400, "SDP m= line has too many formats")
    if not all(_TOKEN.fullmatch(part) for part in (parts[0], *parts[3:])):
        raise RemoteError(400, "SDP m= line is broken")
    return Stream(parts[0].lower(), int(port), parts[2].upper(), tuple(parts[3:]))


def serialise(session: Session) -> bytes:
    """Write a description with CRLF, in the order of RFC 8866 5."""
    family = "IP6" if session.host and ":" in session.host else "IP4"
    host = session.host or "0.0.0.0"
    lines = ["v=0", f"o={session.user} {session.session} {session.version} IN {family} {host}", "s=-"]
    if session.host is not None:
        lines.append(f"c=IN {family} {session.host}")
    lines.append("t=0 0")
    lines += [f"a={key}:{value}" if value else f"a={key}" for key, value in session.attributes]
    for stream in session.streams:
        lines.append(f"m={stream.kind} {stream.port} {stream.protocol} {' '.join(stream.formats)}")
        if stream.host is not None:
            lines.append(f"c=IN {'IP6' if ':' in stream.host else 'IP4'} {stream.host}")
        lines += [f"a={key}:{value}" if value else f"a={key}" for key, value in stream.attributes]
    return ("\r\n".join(lines) + "\r\n").encode()


def _ours(local: Local, streams: tuple[Stream, ...]) -> bytes:
    return serialise(Session("monofil", str(local.session), str(local.version), local.host, streams))


def _audio(local: Local, payload_types: tuple[int, ...], event: int | None, direction: Direction) -> Stream:
    attributes = [("rtpmap", f"{number} {NAMES[number]}/8000") for number in payload_types]
    if event is not None:
        attributes += [("rtpmap", f"{event} telephone-event/8000"), ("fmtp", f"{event} 0-15")]
    attributes += [("ptime", str(local.ptime_ms)), (direction.value, "")]
    formats = tuple(str(number) for number in (*payload_types, *(() if event is None else (event,))))
    return Stream("audio", local.port, "RTP/AVP", formats, None, tuple(attributes))


def offer(local: Local) -> bytes:
    """Our offer: every codec we speak, in our order."""
    return _ours(local, (_audio(local, local.payload_types, local.telephone_event, local.direction),))


def answer(theirs: Session | bytes, local: Local) -> tuple[bytes, Remote]:
    """Answer an offer: the answer's bytes, and where their sound is. Raises RemoteError (400 or 488).

    The answer names one codec, the first of theirs that we speak, so that both sides speak the same.
    """
    session = parse(theirs) if isinstance(theirs, bytes) else theirs
    index, remote = _choose(session, local)
    stream = session.streams[index]
    direction = Direction.of(remote.sending, remote.receiving)
    refused = [replace(each, port=0, host=None, attributes=()) for each in session.streams]
    audio = replace(
        _audio(local, (remote.payload_type,), remote.telephone_event, direction), protocol=stream.protocol
    )
    return _ours(local, (*refused[:index], audio, *refused[index + 1 :])), remote


def agree(theirs: Session | bytes, local: Local) -> Remote:
    """Read the answer to our offer `local`. Raises RemoteError (400 or 488)."""
    session = parse(theirs) if isinstance(theirs, bytes) else theirs
    return _choose(session, local)[1]


def _choose(session: Session, local: Local) -> tuple[int, Remote]:
    """The first audio stream that we can speak, and how."""
    why = "no audio stream"
    for index, stream in enumerate(session.streams):
        if stream.kind != "audio" or stream.port == 0:
            continue
        if stream.protocol not in ("RTP/AVP", "RTP/AVPF"):
            why = f"profile {stream.protocol[:24]} is not spoken"
            continue
        maps = stream.maps
        numbers = [int(each) for each in stream.formats if each.isdigit() and len(each) <= 3]
        codec = next(
            (
                each
                for each in numbers
                if each in local.payload_types and (maps[each].name, maps[each].rate) == (NAMES[each], 8000)
            ),
            None,
        )
        if codec is None:
            why = "no common codec (PCMU, PCMA)"
            continue
        event = next(
            (
                each
                for each in numbers
                if each in maps and (maps[each].name, maps[each].rate) == ("TELEPHONE-EVENT", 8000)
            ),
            None,
        )
        host = stream.host if stream.host is not None else session.host
        if host is None:
            raise RemoteError(400, "SDP has no c= line")
        address = _address(host)
        theirs = session.direction(stream)
        if address == "0.0.0.0":  # hold, as RFC 2543 B.5 has it
            theirs = Direction.of(theirs.sends, False)
        ptime = stream.attribute("ptime") or ""
        return index, Remote(
            host=address,
            port=stream.port,
            payload_type=codec,
            telephone_event=event if local.telephone_event is not None else None,
            sending=local.direction.sends and theirs.receives,
            receiving=local.direction.receives and theirs.sends,
            ptime_ms=int(ptime) if ptime.isascii() and ptime.isdigit() and 10 <= int(ptime[:4]) <= 60 else 20,
        )
    raise RemoteError(488, why)


def _address(host: str) -> str:
    try:
        address = ipaddress.IPv4Address(host.partition("/")[0])
    except ValueError:
        raise RemoteError(488, "address is not IPv4") from None
    if address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        raise RemoteError(488, "address is not of one host")
    return str(address)
