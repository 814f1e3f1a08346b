"""What the SIP side tells the rest of the house: legs that ring, answer, send digits and end; phones that come and go.

A leg is one SIP dialog with its media, named by a string that the switch makes (`<call id>.<n>`, legs numbered from 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Cause(StrEnum):
    """Why a leg ended."""

    HANGUP = "hangup"  # the far side sent BYE
    CANCELLED = "cancelled"  # the far side sent CANCEL before an answer
    LOCAL = "local"  # we ended it
    REJECTED = "rejected"  # the far side answered 3xx to 6xx; `status` tells which
    NO_ANSWER = "no_answer"  # it rang until our deadline, or never answered at all (Timer B)
    NO_ACK = "no_ack"  # our 200 was never acknowledged (RFC 3261 13.3.1.4)
    NO_MEDIA = "no_media"  # no RTP for too long
    EXPIRED = "expired"  # session timer (RFC 4028)
    FAILED = "failed"  # our own fault: no port, no worker, a bug


@dataclass(frozen=True, slots=True)
class Source:
    """Who sent an INVITE, as proven: a trunk by its address, or a phone by its digest."""

    kind: str  # "trunk" | "phone"
    name: str  # the trunk's id or the phone account
    address: str  # host:port;transport


@dataclass(frozen=True, slots=True)
class CallOffered:
    """An INVITE from somebody allowed to call; nothing has been answered but 100."""

    leg: str
    call: str  # our call id, one for the whole life of the call
    source: Source
    dialled: str  # user part of the request-URI
    caller: str  # user part of P-Asserted-Identity (trusted trunk only) or From
    caller_name: str
    sip_call_id: str
    headers: Mapping[str, str] = field(default_factory=dict)  # Diversion, Identity … kept for the record


@dataclass(frozen=True, slots=True)
class LegRinging:
    leg: str
    status: int  # 180, 183 …


@dataclass(frozen=True, slots=True)
class LegAnswered:
    leg: str


@dataclass(frozen=True, slots=True)
class LegHeld:
    """The far side put us on hold (`held` True) or took us back, by re-INVITE."""

    leg: str
    held: bool


@dataclass(frozen=True, slots=True)
class LegEnded:
    leg: str
    cause: Cause
    status: int = 0  # SIP status where there is one
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LegTaken:
    """The leg now takes commands from somebody else; whoever hears this must let go."""

    leg: str


@dataclass(frozen=True, slots=True)
class DigitHeard:
    leg: str
    digit: str  # 0-9 * # A-D
    duration_ms: int
    source: str  # "rtp" | "info"


@dataclass(frozen=True, slots=True)
class PlayEnded:
    leg: str
    play: int
    reason: str  # "done" | "stopped" | "replaced"
    played_ms: int


@dataclass(frozen=True, slots=True)
class VoiceNoticed:
    """What voice activity says of a joined leg: heard again, or silent for `silent_s`."""

    leg: str
    heard: bool
    silent_s: float


@dataclass(frozen=True, slots=True)
class RecordingEnded:
    call: str
    recording: str
    path: str
    duration_ms: int
    bytes: int
    complete: bool  # False: the disk was full or the worker died; what is there is whole frames


LegEvent = (
    LegRinging
    | LegAnswered
    | LegHeld
    | LegEnded
    | LegTaken
    | DigitHeard
    | PlayEnded
    | VoiceNoticed
    | RecordingEnded
)


@dataclass(frozen=True, slots=True)
class PhoneRegistered:
    account: str
    contact: str
    source: str
    user_agent: str
    expires_s: int


@dataclass(frozen=True, slots=True)
class PhoneGone:
    account: str
    contact: str
    reason: str  # "unregistered" | "expired" | "flow_closed" | "replaced"


@dataclass(frozen=True, slots=True)
class ContactsChanged:
    """A contact of this account is new, refreshed or gone: `Stack.registrations` says which hold now."""

    account: str


@dataclass(frozen=True, slots=True)
class GuessingNoticed:
    """Somebody guesses passwords or extensions: `source` was slowed until `until_s` (monotonic)."""

    source: str
    account: str
    failures: int
