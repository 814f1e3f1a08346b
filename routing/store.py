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
    extra: Mapping[str, Any] = field(default_factory=dict)
