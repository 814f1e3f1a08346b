"""What a channel is made of: its manifest, and the values that enter and leave through it.

A channel is one file in `routing/channels/`: MANIFEST, and three pure functions (none waits, none knows the time):

* `verify(request, account, secrets) -> Answer`: is this request the provider's? Judged on the raw bytes.
* `parse(raw, account) -> tuple[Heard, ...]`: what a body that passed says. One broken event never fails its batch.
* `render(out, account, secrets, memory) -> Rendering`: the calls that send one message, one after another; each is
  answered by a Reply; the returned Result says what became of it. A message that goes in several parts tells of each
  (PartSent) that was taken: a later try goes on after those (`out.gone`).

A file may also have `mint(out, account, secrets) -> str`, the id that a message of ours will have;
`profile(to, account, secrets, memory) -> Generator[Call, Reply, str]`, the calls that ask what a new customer is called
("": nobody says), of the accounts that may (`profiles`); and `may_answer`, the rule for answers by machines (see
routing/channels).

Nobody outside that file asks "which channel is it?": whoever needs to know something reads it from the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from routing.site import Account

CHAT, MAIL, VOICE = "chat", "mail", "voice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What everybody else may know of a channel."""

    name: str  # "messenger": stands in interactions, in the site file, in the API
    seat: str  # chat | mail | voice: whose seats, targets, offer times and tree rendering hold
    address_kind: str  # of its contacts: psid, email, webchat …
    labels: Mapping[str, str]  # language -> what people call it
    text_chars: int | None = None  # longest text of one message; longer ones are cut into several
    text_bytes: int | None = None  # the same in bytes of UTF-8, where the provider counts those
    quick_replies: int = 0  # most buttons under a message; 0: a numbered list stands in the text
    quick_reply_chars: int = 20
    attachment_bytes: Mapping[str, int] = field(
        default_factory=dict
    )  # image|audio|video|file -> most; none: refused
    window_h: float | None = (
        None  # free answers until so long after the customer's last message; None: always
    )
    tag_window_h: float | None = None  # a human may answer until then, marked with `tag`
    tag: str | None = None
    subject: bool = False  # a message has a subject
    html: bool = False
    starts: bool = False  # we may write first (email); else only who has written to us can be answered
    parallel: bool = (
        False  # a thread may carry several matters at once; else all that is written joins what lives
    )
    typing: bool = False  # we can show that we type
    mail: bool = False  # its messages come as mails: by SMTP or LMTP, or from a mailbox
    visitors: bool = False
    """Its customers visit web pages and come by a socket of ours, for `origins`, `hours`, `email`, `gone_after_s`."""
    kept_headers: tuple[
        str, ...
    ] = ()  # of its requests, in lower case: those that are stored beside the usual ones
    marks: frozenset[str] = (
        frozenset()
    )  # what the provider tells us: delivered, read, reaction, typing, edited, unsent
    rates: Mapping[str, float] = field(
        default_factory=dict
    )  # message kind ("" is any) -> most a second an account
    settings: tuple[str, ...] = ()  # keys an account must have in the site file
    optional: tuple[str, ...] = ()  # keys it may have
    kinds: Mapping[str, str] = field(default_factory=dict)
    """What a setting must be: port, address, addresses, url, origins, hours, seconds, or some words ("tls|none")."""
    identity: str | None = None  # the setting that no two accounts of the channel have in common
    useless_without: Mapping[str, str] = field(default_factory=dict)  # setting -> the one that it goes with
    signs_with: frozenset[str] = frozenset()  # what a signature may name; empty: its messages bear none
    profiles: str | None = (
        None  # the setting whose `yes` lets an account ask what its new customers are called
    )
    secrets: tuple[str, ...] = ()
    """Names of its secrets; they come from the environment or the database, never from the site file."""
    optional_secrets: frozenset[str] = frozenset()  # those of them that an account can do without
    made_secrets: frozenset[str] = frozenset()  # those that the server makes where nobody has set them
    hook_secrets: frozenset[str] = frozenset()
    """Those that prove its requests. Where there are any, an account can take its requests from the callback of another
    one (its `hook`), whose secrets of these names hold; each event then names its receiver."""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request of a provider. Header names in lower case; `url` is the public one, from configuration."""

    method: str
    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """`accepted`: it is the provider's. The body of a POST is stored first; then `status` and `body` are the answer.

    A handshake is accepted too: its `body` is the challenge, given back as text/plain.
    """

    accepted: bool
    status: int = 200
    body: str = ""
    why: str = ""  # for the log and the metric; never sent


@dataclass(frozen=True, slots=True)
class Peer:
    """The customer as the channel names them; `more` are further addresses that the provider vouches for.

    `claims` are addresses that only the customer vouches for: kept with the contact, never a reason to join two.
    """

    kind: str
    value: str
    name: str = ""
    more: tuple[tuple[str, str], ...] = ()
    claims: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """Something attached. It is fetched from `url` at once (it expires), or `content` is there already."""

    kind: str  # image | audio | video | file | sticker
    name: str = ""
    type: str = ""  # media type as said; what is stored is sniffed
    url: str = ""
    content: bytes | None = None
    content_id: str = ""  # of an image inside an HTML mail (cid:)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Something that happened on an account. `at` is the provider's time; None where it told none.

    `receiver` is the account as the provider names it (the manifest's `identity`); "": the one whose callback it was.
    """

    peer: Peer
    at: datetime | None = None
    receiver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrote(Heard):
    """The customer wrote. `reply_to` and `external_id` are the provider's ids."""

    external_id: str
    kind: str = "text"  # text | media | sticker | postback | location | system
    text: str = ""  # what is shown; of an HTML mail its plain text
    html: str = ""  # as it came, not yet cleaned
    subject: str = ""
    payload: str = ""  # of a button that was pressed
    files: tuple[File, ...] = ()
    reply_to: str = ""
    referral: Mapping[str, Any] = field(default_factory=dict)  # where they came from
    facts: Mapping[str, Any] = field(default_factory=dict)  # more of the message that people may want to see
    references: tuple[str, ...] = ()  # external ids of the messages it answers, newest first
    token: str = ""  # our own mark of a case found in it (case number and check), not yet proved
    case_number: int = 0  # of a case, as anybody can write it: believed of those whom the case is about
    automatic: bool = False  # written by a machine: never answered by one
    trusted: bool = True  # False: the sender was not proved; it joins a case only by a proved token
    standby: bool = False  # a copy: another application holds the thread
    leaves: bool = False  # with it the customer ends the conversation; the next message begins another


@dataclass(frozen=True, slots=True)
class Part:
    """One of the several parts that a message goes in, numbered from 1.

    `chars` and `files` of its text and of its files have gone when this part and those before it have.
    """

    number: int
    of: int
    chars: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Echoed(Heard):
    """The account itself wrote: `ours` is our message where the echo proves it, else somebody answered elsewhere."""

    external_id: str
    ours: UUID | None = None
    part: Part | None = None  # of ours, where it goes in several
    text: str = ""
    files: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(Heard):
    """What became of messages of ours: those named, or all up to `until`."""

    status: str  # sent | delivered | read | failed
    external_ids: tuple[str, ...] = ()
    until: datetime | None = None
    failure: Failed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reacted(Heard):
    external_id: str
    emoji: str = ""  # "": taken back


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(Heard):
    """The customer edited (`text`) or took back (None) a message."""

    external_id: str
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed(Heard):
    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadMoved(Heard):
    """Another application took the thread, or gave it to us."""

    ours: bool
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Heard):
    """An event of a kind that we do not read (yet); its raw body is kept for `replay-webhook`."""

    what: str


@dataclass(frozen=True, slots=True)
class Button:
    title: str
    payload: str


@dataclass(frozen=True, slots=True)
class Enclosed:
    """A file of ours to be sent. `url` is public, signed and short-lived; `content` its bytes."""

    id: UUID
    kind: str
    name: str
    type: str
    url: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One thing to be sent into one thread."""

    message: UUID
    to: str
    act: str = "message"  # message | typing_on | typing_off | seen
    author: str = "advisor"  # advisor | bot | system
    author_name: str = ""  # first name, or the bot's name
    text: str = ""
    html: str = ""
    subject: str = ""
    buttons: tuple[Button, ...] = ()
    files: tuple[Enclosed, ...] = ()
    reply_to: str = ""  # external id
    references: tuple[str, ...] = ()  # external ids of the thread, oldest first
    own_id: str = ""  # the external id that we give it, where the channel lets us (Message-ID)
    case_number: int = 0
    language: str = "fr"
    tagged: bool = False  # outside the window, within the tag's
    automatic: bool = False  # written by a machine
    gone: tuple[
        str, ...
    ] = ()  # external ids of its first parts: they were sent before, and are not sent again


@dataclass(frozen=True, slots=True)
class HttpCall:
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str | Enclosed] | None = None  # multipart, where given
    repeatable: bool = False  # doing it twice does no harm: it may be tried again after an unknown result


@dataclass(frozen=True, slots=True)
class MailCall:
    sender: str  # of the envelope; "" is the null sender
    to: str
    content: bytes
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class PushCall:
    """To the open pages of a visitor (`to`); answered 200 when one took it, 404 when none is open."""

    to: str
    frame: Mapping[str, Any]
    repeatable: bool = True


Call = HttpCall | MailCall | PushCall


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `status` is HTTP's, or SMTP's code; `lost`: nothing came, and it may have been carried out."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    lost: bool = False
    stranger: bool = False  # the server could not prove who it is: it was told nothing


class Failure(StrEnum):
    """Classes of errors, each with one way to go on."""

    TRANSIENT = "transient"  # try again a few times
    THROTTLED = "throttled"  # the account waits `after_s`, then goes on
    TOKEN = "token"  # noqa: S105  the channel is down: alarm, nothing more is sent until somebody mends it
    WINDOW = "window"  # too late to answer freely: tell the advisor
    REFUSED = "refused"  # this message cannot be: tell the advisor
    GONE = "gone"  # nobody there (any more): tell the advisor
    ACCOUNT = "account"  # the account is restricted: alarm


@dataclass(frozen=True, slots=True)
class Sent:
    external_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    failure: Failure
    code: str = ""
    why: str = ""  # the provider's words
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Perhaps:
    """It may have been sent; nobody knows. Never tried again."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class PartSent:
    """Told by a rendering between two calls: the provider has taken this part. It is kept before the next one goes."""

    part: Part
    external_id: str


Result = Sent | Failed | Perhaps
Memory = MutableMapping[str, str]
"""What a channel remembers of an account between messages (ids of personas); lost at a restart without harm."""
Secrets = Mapping[str, str]
Rendering = Generator[Call | PartSent, Reply, Result]
"""Whatever is sent to it after a PartSent says nothing."""


class Channel(Protocol):
    """A channel file, as a module."""

    MANIFEST: Manifest
    verify: Callable[[Request, Account, Secrets], Answer]
    parse: Callable[[bytes, Account], tuple[Heard, ...]]
    render: Callable[[Outgoing, Account, Secrets, Memory], Rendering]
