"""What must be remembered, as Protocols: `routing.aio.postgres` fulfils them and wiring hands them out.

All methods wait for the database and raise `Unavailable` when it cannot be reached.
A store speaks for one organisation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from routing.channel import Part
from routing.figures import Rows
from routing.models import Event
from routing.site import Site


class Unavailable(Exception):
    """The database cannot be reached now; trying again may help."""


class Changed(Exception):
    """A compare-and-set met another version than it expected: `found` is what is there."""

    def __init__(self, found: int) -> None:
        super().__init__(f"the version is now {found}")
        self.found = found


@dataclass(frozen=True, slots=True)
class PhoneSecret:
    """HA1 values of a phone account (RFC 8760), lower-case hex of `account:realm:password`."""

    account: str
    realm: str
    md5: str
    sha256: str


class Accounts(Protocol):
    async def secret(self, account: str) -> PhoneSecret | None: ...

    async def secrets(self) -> Mapping[str, PhoneSecret]: ...

    async def set_secret(self, secret: PhoneSecret) -> None:
        """Ends the account's bindings. Running servers hear of it at once, or within 2 s."""

    async def revision(self) -> tuple[int, datetime | None]:
        """Changes whenever a secret does: how many there are, and when the newest was set."""
        ...


@dataclass(frozen=True, slots=True)
class PhoneBinding:
    """Where a phone is, until when, and what its registration said (softphone_bridge.signals.Registration)."""

    account: str
    contact: str
    params: str
    transport: str
    host: str
    port: int
    call_id: str
    cseq: int
    instance: str
    user_agent: str
    expires_at: datetime


class Bindings(Protocol):
    async def all(self) -> Sequence[PhoneBinding]:
        """Expired ones too."""
        ...

    async def replace(self, accounts: Collection[str], bindings: Sequence[PhoneBinding]) -> None:
        """From now on these accounts have these bindings and no others."""
        ...


@dataclass(frozen=True, slots=True)
class WebSession:
    """A signed-in browser. Only the hash (SHA-256) of its cookie is kept."""

    token_hash: bytes
    login: str
    csrf: str
    created_at: datetime
    expires_at: datetime


class People(Protocol):
    async def password_hash(self, login: str) -> str | None: ...

    async def set_password_hash(self, login: str, hashed: str) -> None:
        """Sets it and ends every session of that login."""

    async def logins(self) -> Sequence[str]:
        """Those who have a password."""
        ...

    async def add_session(self, session: WebSession) -> None: ...

    async def session(self, token_hash: bytes) -> WebSession | None:
        """None when unknown or expired."""
        ...

    async def end_session(self, token_hash: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class SiteVersion:
    version: int
    at: datetime
    by: str
    site: Site


class Sites(Protocol):
    async def current(self) -> SiteVersion | None: ...

    async def version(self, number: int) -> SiteVersion | None: ...

    async def apply(self, site: Site, *, base: int | None, by: str, note: str = "") -> SiteVersion:
        """Store `site` as the next version and publish its changed trees.

        A site equal to the current one changes nothing.

        `base` is the version the writer started from (0: there was none; None: whatever is there, `--force`).
        Raises Changed.
        Running servers hear of it at once (NOTIFY), or within 2 s.
        """
        ...


@dataclass(frozen=True, slots=True)
class TreeVersion:
    """A published tree. Never changes."""

    id: str
    version: int
    at: datetime
    by: str
    note: str
    document: Any


@dataclass(frozen=True, slots=True)
class NodeCount:
    """So many stays in a node that ended by one exit; `bucket` of the bounds asked with were reached."""

    tree: str
    version: int
    node: str
    exit: str
    bucket: int
    count: int


class Trees(Protocol):
    async def current(self, tree: str) -> TreeVersion | None: ...

    async def all_current(self) -> Mapping[str, TreeVersion]: ...

    async def version(self, tree: str, number: int) -> TreeVersion | None: ...

    async def versions(self, tree: str) -> Sequence[TreeVersion]: ...

    async def publish(self, tree: str, document: Any, *, by: str, note: str = "") -> TreeVersion: ...

    async def node_counts(
        self, since: datetime, until: datetime, bounds_s: Sequence[float]
    ) -> Sequence[NodeCount]:
        """How often nodes were left, by exit and by how many of the rising `bounds_s` the stay reached."""
        ...


@dataclass(frozen=True, slots=True)
class AddressView:
    id: UUID
    kind: str
    value: str  # E.164 for phones
    raw: str


@dataclass(frozen=True, slots=True)
class CaseMergeView:
    merge: UUID
    case: UUID
    number: int
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CaseView:
    id: UUID
    number: int
    subject: str
    state: str
    provisional: bool
    contact: UUID
    contact_name: str
    opened_at: datetime
    changed_at: datetime
    closed_at: datetime | None
    follows: UUID | None
    channels: tuple[str, ...]
    notes: int
    tags: tuple[str, ...] = ()
    merged_into: UUID | None = None
    merges: tuple[CaseMergeView, ...] = ()  # cases that are part of this one now


@dataclass(frozen=True, slots=True)
class InteractionView:
    """One interaction with its joined words; fields as in the table `interaction`."""

    id: UUID
    channel: str
    direction: str
    state: str
    held: bool
    case: UUID
    case_number: int
    contact: UUID
    contact_name: str
    address: UUID | None
    address_value: str  # E.164 where it is one, else as received
    received: str
    queue: str | None
    advisor: str | None
    priority: int | None
    opened_at: datetime
    since: datetime | None
    enqueued_at: datetime | None
    offered_at: datetime | None
    accepted_at: datetime | None
    talk_ended_at: datetime | None
    ended_at: datetime | None
    wrapup_until: datetime | None
    held_s: float
    call: str | None
    dialled: str
    trunk: str | None
    attestation: str | None
    language: str | None
    tree: str | None
    tree_version: int | None
    outcome: str | None
    code: str | None
    recordings: tuple[UUID, ...] = ()
    seat: str = "voice"
    account: str | None = None  # of its thread
    thread: UUID | None = None
    lent_to: UUID | None = None  # the call that has its seat


@dataclass(frozen=True, slots=True)
class MergeView:
    merge: UUID
    contact: UUID
    name: str
    into: UUID
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ContactView:
    """A person after merges: `id` is the root, `members` all contacts that are one with it."""

    id: UUID
    name: str
    company: str
    vip: bool
    language: str | None
    provisional: bool
    draft: bool
    members: tuple[UUID, ...]
    addresses: tuple[AddressView, ...] = ()
    merged_from: tuple[MergeView, ...] = ()


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom an incoming address may mean.

    `why`: number | case | chosen; `sure`: certain | likely | possible.
    """

    contact: UUID
    name: str
    company: str
    vip: bool
    why: str
    sure: str


@dataclass(frozen=True, slots=True)
class Step:
    """One node passed in a tree; `keys` already masked where so marked."""

    tree: str
    version: int
    node: str
    exit: str
    seconds: float
    keys: str
    at: datetime


@dataclass(frozen=True, slots=True)
class PopRows:
    """Everything a screen pop tells (features 1.4), as rows."""

    interaction: InteractionView
    case: CaseView | None
    persons: tuple[Person, ...]
    path: tuple[Step, ...]
    facts: Mapping[str, Any]
    open_cases: tuple[CaseView, ...]
    last_interactions: tuple[InteractionView, ...]  # five, newest first, this one left out
    last_advisor: str | None
    kind: str  # first | repeat | callback
    caller_name: str = ""


class Cases(Protocol):
    async def get(self, case: UUID) -> CaseView | None: ...

    async def list(
        self,
        *,
        state: str | None = None,
        text: str = "",
        contact: UUID | None = None,
        limit: int = 50,
        after: tuple[datetime, UUID] | None = None,
    ) -> Sequence[CaseView]:
        """Newest change first; `after` is (changed_at, id) of the last row seen.

        `contact` means all who are one with it.
        """
        ...

    async def interactions(self, case: UUID) -> Sequence[InteractionView]: ...


class Contacts(Protocol):
    async def get(self, contact: UUID) -> ContactView | None: ...

    async def find(self, text: str, *, limit: int = 20) -> Sequence[ContactView]:
        """By name, company, or number in any form."""
        ...

    async def by_address(self, kind: str, value: str) -> Sequence[ContactView]: ...

    async def address(self, address: UUID) -> AddressView | None: ...

    async def interactions(self, contact: UUID, *, limit: int = 5) -> Sequence[InteractionView]: ...

    async def language_in(self, interaction: UUID) -> str | None:
        """The language on the card of an interaction's contact."""
        ...


class Timeline(Protocol):
    async def events(self, case: UUID) -> Sequence[Event]:
        """Every event of a case and of its interactions, oldest first."""
        ...

    async def events_in(self, interaction: UUID, seq: int) -> Sequence[Event]:
        """Those of one interaction that came after `seq`, oldest first."""
        ...

    async def notes(self, case: UUID) -> Mapping[UUID, str]: ...

    async def paths(self, case: UUID) -> Mapping[UUID, Sequence[Step]]: ...

    async def pop(self, interaction: UUID, *, last: int = 5) -> PopRows | None: ...

    async def interaction(self, interaction: UUID) -> InteractionView | None: ...

    async def interactions(self, ids: Sequence[UUID]) -> Sequence[InteractionView]:
        """Those that there are, in the order asked for."""
        ...

    async def why(self, interaction: UUID) -> Sequence[Mapping[str, Any]]:
        """Each offer of an interaction in order: {offer, advisor, at, how, reason, epoch, why: Explanation as JSON}."""
        ...


@dataclass(frozen=True, slots=True)
class RecordingView:
    id: UUID
    interaction: UUID
    case: UUID
    at: datetime
    duration_ms: int
    bytes: int
    complete: bool
    path: str  # below the data directory


class Recordings(Protocol):
    async def get(self, recording: UUID) -> RecordingView | None: ...

    async def of_interaction(self, interaction: UUID) -> Sequence[RecordingView]: ...


class Log(Protocol):
    async def after(self, seq: int, *, limit: int = 1000) -> Sequence[Event]: ...

    async def last_seq(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A provider's request as it came, once its signature was proved."""

    id: UUID
    account: str
    at: datetime
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class RequestView:
    request: RawRequest
    handled_at: datetime | None
    tries: int
    result: Mapping[str, Any]  # {"events": n, "unknown": [...], "failed": [...]}


class Requests(Protocol):
    """Webhook bodies (and raw mails): stored before they are answered, handled later, kept to be handled again."""

    async def add(self, requests: Sequence[RawRequest]) -> None:
        """One transaction for all of them."""

    async def unhandled(
        self,
        before: datetime,
        *,
        limit: int = 500,
        but: Collection[str] = (),
        without: Collection[UUID] = (),
    ) -> Sequence[RawRequest]:
        """Oldest first; `before` is when they were to be tried (again); `but` and `without`: accounts and requests.

        Fewer when their bodies are large.
        """
        ...

    async def next_due(self, but: Collection[str] = (), without: Collection[UUID] = ()) -> datetime | None:
        """When the next one is to be tried; past for those that never were."""
        ...

    async def handled(self, id: UUID, at: datetime, result: Mapping[str, Any]) -> None: ...

    async def handled_all(self, at: datetime, results: Mapping[UUID, Mapping[str, Any]]) -> None:
        """The same for many, in one statement."""

    async def later(self, id: UUID, again_at: datetime, result: Mapping[str, Any]) -> None:
        """Something in it cannot be handled yet."""

    async def get(self, id: UUID) -> RequestView | None: ...

    async def latest(self, *, account: str | None = None, limit: int = 50) -> Sequence[RequestView]: ...

    async def forget(self, before: datetime) -> int:
        """Delete those handled before; returns how many."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """One of our messages (or a customer's) as other people's ids name it."""

    message: UUID
    external_id: str
    thread: UUID
    interaction: UUID
    case: UUID
    direction: str
    status: str
    part: int = 0  # of ours, that bears this id; 0: it went in one


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """`state`: fetching | stored | failed | quarantined. `path` is below the data directory."""

    id: UUID
    message: UUID
    case: UUID
    kind: str
    name: str
    type: str
    bytes: int
    state: str
    path: str
    content_id: str = ""


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message with its words. `status` of ours: models.STATUS_RANK; of the customer's: received."""

    id: UUID
    seq: int
    thread: UUID
    interaction: UUID
    case: UUID
    account: str
    channel: str
    direction: str  # in | out
    author: str  # customer | advisor | bot | system | elsewhere
    by: str  # login
    kind: str
    at: datetime  # ours
    sent_at: datetime | None  # the provider's
    status: str
    failure: str | None
    code: str
    detail: str
    external_id: str | None
    reply_to: UUID | None
    text: str
    html: str  # cleaned
    subject: str
    buttons: tuple[tuple[str, str], ...]
    extra: Mapping[str, Any]
    edited: bool
    unsent: bool
    reaction: str
    automatic: bool
    standby: bool
    attachments: tuple[AttachmentView, ...] = ()
    payload: str = ""  # of the button that was pressed
    part: int = 0  # of a message that did not go whole, the last part that did, of how many `parts`
    parts: int = 0
    gone_chars: int = 0  # of its text, with that part
    gone_files: int = 0


@dataclass(frozen=True, slots=True)
class ThreadView:
    """What was said between one account and one address.

    `live` is the interaction that goes on in it, that spoken in last should there be several; `beside` are the others.
    """

    id: UUID
    account: str
    channel: str
    address: UUID
    address_kind: str
    address_value: str
    contact: UUID
    live: UUID | None
    last_in_at: datetime | None  # the provider's time: reply windows count from here
    last_out: UUID | None  # our last message
    beside: tuple[UUID, ...] = ()


class Messages(Protocol):
    async def get(self, message: UUID) -> MessageView | None: ...

    async def of_case(self, case: UUID, *, last: int = 500) -> Sequence[MessageView]:
        """Oldest first, of the case and of those merged into it."""
        ...

    async def of_interaction(self, interaction: UUID) -> Sequence[MessageView]: ...

    async def after(self, interaction: UUID, seq: int) -> Sequence[MessageView]:
        """The customer's messages of an interaction later than `seq`, oldest first."""
        ...

    async def of_thread(self, thread: UUID, seq: int, *, limit: int = 200) -> Sequence[MessageView]:
        """The messages of a thread later than `seq`, oldest first."""
        ...

    async def known(self, account: str, external_ids: Sequence[str]) -> Mapping[str, Known]: ...

    async def ours_until(
        self, account: str, address_kind: str, address: str, until: datetime
    ) -> Sequence[Known]:
        """Our messages to an address that were sent by then and not read yet; not those perhaps sent."""
        ...

    async def thread(self, thread: UUID) -> ThreadView | None: ...

    async def thread_with(self, account: str, address_kind: str, address: str) -> ThreadView | None:
        """The thread of an account with an address (normalised); the one that lives before others."""
        ...

    async def threads_of_case(self, case: UUID) -> Sequence[ThreadView]: ...

    async def case_of_number(self, number: int) -> UUID | None: ...

    async def case_by_subject(self, account: str, address: str, subject: str, since: datetime) -> UUID | None:
        """The one case in which this address has written under this subject since; None when there are several."""
        ...

    async def attachment(self, attachment: UUID) -> AttachmentView | None: ...

    async def automatic_since(self, account: str, address: str, since: datetime) -> int:
        """How many automatic answers we have sent to an address."""
        ...


@dataclass(frozen=True, slots=True)
class Due:
    """A message of the outbox, taken for sending: `outgoing` is routing.channel.Outgoing as JSON, without the files."""

    message: UUID
    thread: UUID
    interaction: UUID
    account: str
    author: str
    tries: int
    outgoing: Mapping[str, Any]
    attachments: tuple[AttachmentView, ...] = ()
    gone: tuple[str, ...] = ()  # external ids of its parts that went in former tries


class Outbox(Protocol):
    """Every outgoing message is a row before it is sent. A row is taken once: from then it is sent or perhaps sent."""

    async def take(
        self, now: datetime, *, worker: UUID, lease_s: float, limit: int, but: Collection[str] = ()
    ) -> tuple[Sequence[Due], Sequence[UUID]]:
        """(to send, dropped): the first unsent one of each thread, if due and its account is not in `but`.

        A tree's message whose interaction an advisor has meanwhile is not sent: it is among the dropped (B4).
        """
        ...

    async def renew(self, worker: UUID, until: datetime) -> None:
        """A worker lives: its leases last until then."""

    async def named(self, message: UUID, external_id: str) -> None:
        """The id that we give to one that was taken: known from then on, even should it only perhaps be sent."""

    async def went(self, message: UUID, part: Part, external_id: str, at: datetime) -> str | None:
        """A part was taken by the provider. Returns the external id of the last one, once all have been."""
        ...

    async def marked(
        self, account: str, external_ids: Sequence[str], status: str
    ) -> Mapping[UUID, tuple[str, str]]:
        """The provider says of parts: delivered, read.

        Returns (least status of all parts, id of the last one) of each message that has gone whole.
        """
        ...

    async def sent(self, message: UUID, external_id: str, at: datetime) -> None: ...

    async def echoed(self, message: UUID, external_id: str, at: datetime) -> None:
        """The provider shows that it was sent: settles one that is perhaps sent, or was to be tried again."""

    async def again(self, message: UUID, at: datetime, why: str, *, counted: bool = True) -> None:
        """Not sent for sure; to be taken again from `at` on. Not `counted`: it was nothing about this message."""

    async def given_up(self, message: UUID, at: datetime, why: str, *, perhaps: bool) -> None: ...

    async def lost(self, now: datetime) -> Sequence[UUID]:
        """Those taken by a worker whose lease is over and whose end nobody knows: they are perhaps sent now."""
        ...

    async def untold(self, *, limit: int = 500) -> Sequence[tuple[UUID, str, str | None, str]]:
        """(message, status, external id, why) of rows whose end the desk has not been told of yet."""
        ...

    async def told(self, messages: Mapping[UUID, str]) -> None:
        """The desk knows of these statuses; one that has moved on since is still untold."""

    async def next_due(self, but: Collection[str] = ()) -> datetime | None: ...

    async def lengths(self) -> Mapping[str, int]:
        """How many messages of each account are still to be sent."""
        ...


@dataclass(frozen=True, slots=True)
class Walk:
    interaction: UUID
    tree: str
    version: int
    state: Mapping[str, Any]
    consumed: int


class Walks(Protocol):
    async def get(self, interaction: UUID) -> Walk | None: ...

    async def live(self) -> Sequence[UUID]:
        """Written interactions that are opened, qualifying, waiting with a walk, or taken before it heard of that."""
        ...


class ChannelSecrets(Protocol):
    """Environment first (`MONOFIL_SECRET_ACCOUNT_NAME`), then the database."""

    async def of(self, account: str) -> Mapping[str, str]: ...

    async def set(self, account: str, name: str, value: str) -> None: ...

    async def names(self) -> Mapping[str, frozenset[str]]: ...


@dataclass(frozen=True, slots=True)
class InboxFilter:
    """Conditions that all hold; empty: any. `view`: mine | unassigned | all | waiting | help."""

    view: str = "all"
    advisor: str | None = None
    channels: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    states: tuple[str, ...] = ()  # of the case: open, waiting, solved, closed
    tags: tuple[str, ...] = ()
    older_than_s: float | None = None  # the customer's last unanswered message
    text: str = ""


@dataclass(frozen=True, slots=True)
class InboxRow:
    case: UUID
    number: int
    subject: str
    state: str
    tags: tuple[str, ...]
    contact: UUID
    contact_name: str
    vip: bool
    channels: tuple[str, ...]
    interaction: UUID | None  # the live one, else the last
    interaction_state: str | None
    interaction_channel: str | None
    queue: str | None
    advisor: str | None
    last_at: datetime
    last_text: str
    last_author: str
    unanswered_since: datetime | None
    opened_at: datetime
    address: str = ""  # of the interaction, normalised
    address_kind: str = ""
    interaction_since: datetime | None = None  # it waits, talks, has ended, else was opened


class Inbox(Protocol):
    async def list(
        self, wanted: InboxFilter, *, limit: int = 50, after: tuple[datetime, UUID] | None = None
    ) -> Sequence[InboxRow]:
        """Newest word first; `after` is (last_at, case) of the last row seen."""
        ...

    async def counts(self, advisor: str) -> Mapping[str, int]:
        """Cases in each view."""
        ...


@dataclass(frozen=True, slots=True)
class HelpView:
    id: UUID
    interaction: UUID
    case: UUID
    case_number: int
    by: str
    of: str | None
    at: datetime
    text: str
    answered_at: datetime | None
    answered_by: str | None
    answer: str


class Helps(Protocol):
    async def open(self) -> Sequence[HelpView]: ...

    async def of_case(self, case: UUID) -> Sequence[HelpView]: ...


@dataclass(frozen=True, slots=True)
class Proposal:
    """Two persons who may be one, and why somebody thinks so (F1)."""

    contact: UUID
    name: str
    why: str  # same_phone | same_email | same_name
    value: str


class Proposals(Protocol):
    async def of(self, contact: UUID) -> Sequence[Proposal]: ...


@dataclass(frozen=True, slots=True)
class AccountState:
    account: str
    state: str  # up | throttled | down
    reason: str
    since: datetime


class AccountStates(Protocol):
    async def all(self) -> Sequence[AccountState]: ...


class FigureRows(Protocol):
    async def between(self, start: datetime, end: datetime, *, gap_h: float = 96.0) -> Rows:
        """All that `routing.figures.statistics` needs for the figures of [start, end).

        Whole interactions with all their messages: those that lived in the interval, those their threads had in the
        `gap_h` hours before (a conversation goes on), and those of their cases in the 96 hours after (a return).
        """
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """All stores of one organisation, as wiring hands them out."""

    organisation: UUID
    accounts: Accounts
    bindings: Bindings
    people: People
    sites: Sites
    trees: Trees
    cases: Cases
    contacts: Contacts
    timeline: Timeline
    recordings: Recordings
    log: Log
    requests: Requests
    messages: Messages
    outbox: Outbox
    walks: Walks
    secrets: ChannelSecrets
    inbox: Inbox
    helps: Helps
    proposals: Proposals
    account_states: AccountStates
    figures: FigureRows
    extra: Mapping[str, Any] = field(default_factory=dict)
