"""What goes into the SIP stack and what comes out of it, apart from bytes: settings, flows, targets and signals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from softphone_bridge.events import (
    Cause,
    ContactsChanged,
    GuessingNoticed,
    PhoneGone,
    PhoneRegistered,
    Source,
)


class Flow(NamedTuple):
    """Where bytes come from or go to. `key` names one stream connection; 0 with a stream transport: connect."""

    transport: str  # "udp" | "tcp" | "tls" | "ws" | "wss"
    host: str
    port: int
    key: int = 0


class Target(NamedTuple):
    """One place an INVITE is sent to: a SIP URI and, when known (a registered phone), the flow that reaches it."""

    uri: str
    flow: Flow | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """A contact of a phone account, as it is kept over a restart (RFC 3261 10.3: binding)."""

    account: str
    contact: str  # its SIP URI
    params: str  # of the contact, repeated in answers
    transport: str
    host: str
    port: int
    call_id: str
    cseq: int
    instance: str
    user_agent: str
    until: float  # on the clock of `now`


@dataclass(frozen=True, slots=True)
class TrunkRules:
    """A carrier as the stack sees it: who may send us calls without a password."""

    name: str
    networks: tuple[str, ...]  # addresses or networks, "192.0.2.7", "198.51.100.0/24"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What we prove to a trunk that challenges us; given only to its own realm (row 16)."""

    realm: str
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class StackSettings:
    """How the stack speaks. Times are seconds."""

    host: str  # the address we write into Via, Contact and SDP
    port: int
    realm: str = "monofil"
    secret: bytes = b""  # keys the nonces; must be random in service
    agent: str = "Monofil"
    t1_s: float = 0.5
    t2_s: float = 4.0
    t4_s: float = 5.0
    session_expires_s: int = 1800  # 0 switches our own session timer off
    min_se_s: int = 90  # RFC 4028
    min_expires_s: int = 60
    max_expires_s: int = 3600
    nonce_life_s: float = 300.0
    source_rate: float = 50.0  # requests a second from one address that is no trunk
    source_burst: float = 200.0
    guess_tries: int = 10  # wrong passwords for one account from one address before more go unheard
    domains: tuple[str, ...] = ()  # other names by which phones call us


class Accounts(Protocol):
    """The phone accounts: `ha1` gives the MD5 and SHA-256 digests of user:realm:password, or None."""

    def ha1(self, user: str) -> tuple[str, str] | None: ...


@dataclass(frozen=True, slots=True)
class Invited:
    """An INVITE from somebody allowed to call a known number; 100 is out. Ring, progress, answer or reject it."""

    leg: str
    source: Source
    dialled: str
    caller: str
    caller_name: str
    sip_call_id: str
    sdp: bytes  # b"": the caller wants our offer in the 200; its answer comes with Acked
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ringing:
    leg: str
    status: int
    sdp: bytes  # early media of a 183, or b""


@dataclass(frozen=True, slots=True)
class Answered:
    """An outgoing leg was answered with 200 (the ACK is sent)."""

    leg: str
    sdp: bytes
    uri: str  # which of the targets


@dataclass(frozen=True, slots=True)
class Acked:
    """Our 200 was acknowledged: an incoming leg is up. `sdp` is the answer when our 200 held the offer."""

    leg: str
    sdp: bytes


@dataclass(frozen=True, slots=True)
class Reoffered:
    """The far side renegotiates (re-INVITE or UPDATE): reply with `answer_reoffer` or `refuse_reoffer`.

    `sdp` b"" asks for our offer. A refresh whose SDP has not changed is answered by the stack itself.
    """

    leg: str
    sdp: bytes


@dataclass(frozen=True, slots=True)
class ReofferAnswered:
    """The far side took our `reoffer`."""

    leg: str
    sdp: bytes


@dataclass(frozen=True, slots=True)
class ReofferRefused:
    leg: str
    status: int


@dataclass(frozen=True, slots=True)
class InfoDigit:
    leg: str
    digit: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The leg is over; said exactly once a leg, also after our own `end` or `reject` (cause LOCAL)."""

    leg: str
    cause: Cause
    status: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """We are registered at somebody's registrar under this name of ours; `expires_s` 0: no longer, as asked."""

    name: str
    expires_s: int


@dataclass(frozen=True, slots=True)
class EnrolmentFailed:
    """A registrar refused us (408: it did not answer); tried again later unless we were leaving."""

    name: str
    status: int


StackEvent = (
    Invited
    | Ringing
    | Answered
    | Acked
    | Reoffered
    | ReofferAnswered
    | ReofferRefused
    | InfoDigit
    | Ended
    | Enrolled
    | EnrolmentFailed
    | PhoneRegistered
    | PhoneGone
    | ContactsChanged
    | GuessingNoticed
)
