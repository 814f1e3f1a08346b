"""The projection: what each event makes of the state tables.

Rule 1: state is written only as `project(event, rows)` says, by the desk and by `rebuild` alike.
Rule 2: a row is a value; its fields are the columns of its table, in order, without `organisation_id`.
Rule 3: personal data is not here: it lies in the side tables, which a rebuild takes as given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from routing.models import Event, T


@dataclass(frozen=True, slots=True)
class ContactRow:
    TABLE: ClassVar = "contact"
    KEY: ClassVar = ("id",)
    id: UUID
    created_at: datetime
    changed_at: datetime
    provisional: bool
    draft: bool
    merged_into: UUID | None = None
    merge_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class AddressRow:
    TABLE: ClassVar = "address"
    KEY: ClassVar = ("id",)
    id: UUID
    contact: UUID
    kind: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MergeRow:
    TABLE: ClassVar = "contact_merge"
    KEY: ClassVar = ("id",)
    id: UUID
    contact: UUID
    into_contact: UUID
    by: str
    reason: str
    at: datetime
    undone_at: datetime | None = None
    undone_by: str | None = None


@dataclass(frozen=True, slots=True)
class CaseRow:
    """`advisor` is the last one who spoke in it (Q5)."""

    TABLE: ClassVar = "case_file"
    KEY: ClassVar = ("id",)
    id: UUID
    number: int
    contact: UUID
    state: str
    provisional: bool
    follows: UUID | None
    opened_at: datetime
    changed_at: datetime
    closed_at: datetime | None = None
    interactions: int = 0
    notes: int = 0
    advisor: str | None = None
    merged_into: UUID | None = None
    merge_id: UUID | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CaseMergeRow:
    TABLE: ClassVar = "case_merge"
    KEY: ClassVar = ("id",)
    id: UUID
    case_id: UUID
    into_case: UUID
    by: str
    at: datetime
    undone_at: datetime | None = None
    undone_by: str | None = None


@dataclass(frozen=True, slots=True)
class ThreadRow:
    """What is said between one account and one address.

    `live` is the interaction that goes on in it; `beside` are others (ids as text), of other cases: the one that was
    spoken in last comes first.
    """

    TABLE: ClassVar = "thread"
    KEY: ClassVar = ("id",)
    id: UUID
    account: str
    channel: str
    address: UUID
    opened_at: datetime
    live: UUID | None = None
    last_in_at: datetime | None = None
    last_out: UUID | None = None
    messages: int = 0
    beside: list[str] = field(default_factory=list)

    @property
    def living(self) -> list[UUID]:
        return [] if self.live is None else [self.live, *map(UUID, self.beside)]


@dataclass(frozen=True, slots=True)
class InteractionRow:
    """`since` is the first waiting time: the place in line. `revision` counts the events that changed the row.

    `lent_to` is the call that has this interaction's seat for now (F5).
    """

    TABLE: ClassVar = "interaction"
    KEY: ClassVar = ("id",)
    id: UUID
    case_id: UUID
    contact: UUID
    channel: str
    direction: str
    state: str
    held: bool
    epoch: int
    revision: int
    call: str | None
    dialled: str
    trunk: str | None
    attestation: str | None
    address: UUID | None
    matches: int
    tree: str | None
    tree_version: int | None
    queue: str | None
    priority: int | None
    since: datetime | None
    needs: list[Any]
    avoid: list[str]
    language: str | None
    advisor: str | None
    offer: UUID | None
    opened_at: datetime
    enqueued_at: datetime | None
    offered_at: datetime | None
    accepted_at: datetime | None
    held_at: datetime | None
    held_s: float
    talk_ended_at: datetime | None
    wrapup_until: datetime | None
    extended: bool
    ended_at: datetime | None
    outcome: str | None
    code: str | None
    seat: str
    thread: UUID | None = None
    lent_to: UUID | None = None


@dataclass(frozen=True, slots=True)
class MessageRow:
    """`seq` is that of its event; `at` is our time, `sent_at` the provider's."""

    TABLE: ClassVar = "message"
    KEY: ClassVar = ("id",)
    id: UUID
    seq: int
    thread: UUID
    interaction: UUID
    case_id: UUID
    contact: UUID
    account: str
    direction: str
    author: str
    by: str
    kind: str
    external_id: str | None
    at: datetime
    sent_at: datetime | None
    status: str
    failure: str | None
    code: str
    reply_to: UUID | None
    attached: int
    automatic: bool
    standby: bool
    tagged: bool
    edited: bool = False
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class AttachmentRow:
    """`state`: fetching | stored | failed | quarantined."""

    TABLE: ClassVar = "attachment"
    KEY: ClassVar = ("id",)
    id: UUID
    message: UUID
    case_id: UUID
    kind: str
    type: str
    bytes: int = 0
    sha256: str = ""
    state: str = "fetching"
    failed: str = ""


@dataclass(frozen=True, slots=True)
class HelpRow:
    TABLE: ClassVar = "help"
    KEY: ClassVar = ("id",)
    id: UUID
    interaction: UUID
    case_id: UUID
    by: str
    of: str | None
    at: datetime
    answered_at: datetime | None = None
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class AccountRow:
    TABLE: ClassVar = "account_state"
    KEY: ClassVar = ("account",)
    account: str
    state: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class OfferRow:
    """Why it was made stands in its event."""

    TABLE: ClassVar = "offer"
    KEY: ClassVar = ("id",)
    id: UUID
    interaction: UUID
    advisor: str
    epoch: int
    made_at: datetime
    deadline: datetime
    how: str | None = None
    reason: str | None = None
    ended_at: datetime | None = None
    shown_ms: int | None = None
    shown_missed: bool | None = None


@dataclass(frozen=True, slots=True)
class AdvisorRow:
    TABLE: ClassVar = "advisor_state"
    KEY: ClassVar = ("advisor",)
    advisor: str
    presence: str
    reason: str | None
    since: datetime
    idle_since: datetime | None = None
    misses: int = 0


@dataclass(frozen=True, slots=True)
class ReachRow:
    TABLE: ClassVar = "advisor_reach"
    KEY: ClassVar = ("advisor", "channel")
    advisor: str
    channel: str
    reachable: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class StepRow:
    TABLE: ClassVar = "path_step"
    KEY: ClassVar = ("interaction", "step")
    interaction: UUID
    step: int
    tree: str
    version: int
    node: str
    exit: str
    seconds: float
    at: datetime


@dataclass(frozen=True, slots=True)
class RecordingRow:
    TABLE: ClassVar = "recording"
    KEY: ClassVar = ("id",)
    id: UUID
    interaction: UUID
    at: datetime
    duration_ms: int
    bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class NoteRow:
    TABLE: ClassVar = "note"
    KEY: ClassVar = ("id",)
    id: UUID
    case_id: UUID
    interaction: UUID | None
    by: str
    at: datetime


Row = (
    ContactRow
    | AddressRow
    | MergeRow
    | CaseRow
    | CaseMergeRow
    | ThreadRow
    | InteractionRow
    | MessageRow
    | AttachmentRow
    | HelpRow
    | AccountRow
    | OfferRow
    | AdvisorRow
    | ReachRow
    | StepRow
    | RecordingRow
    | NoteRow
)
TABLES: tuple[type[Row], ...] = (
    ContactRow,
    AddressRow,
    MergeRow,
    CaseRow,
    CaseMergeRow,
    ThreadRow,
    InteractionRow,
    MessageRow,
    AttachmentRow,
    HelpRow,
    AccountRow,
    OfferRow,
    AdvisorRow,
    ReachRow,
    StepRow,
    RecordingRow,
    NoteRow,
)
R = TypeVar("R")


class Rows:
    """Rows by table and key."""

    def __init__(self) -> None:
        self.tables: dict[type[Row], dict[Any, Row]] = {table: {} for table in TABLES}

    def get(self, table: type[R], key: Any) -> R:
        """KeyError: the desk has not loaded it, our mistake."""
        return self.tables[table][key]  # type: ignore[index, return-value]

    def find(self, table: type[R], key: Any) -> R | None:
        return self.tables[table].get(key)  # type: ignore[index, return-value]

    def all(self, table: type[R]) -> Iterable[R]:
        return self.tables[table].values()  # type: ignore[index, return-value]

    def put(self, row: Row) -> None:
        self.tables[type(row)][key_of(row)] = row


def key_of(row: Row) -> Any:
    """The key of a row in its table: a value, or a tuple where the key has several columns."""
    key = type(row).KEY
    if len(key) == 1:
        return getattr(row, key[0])
    return tuple(getattr(row, name) for name in key)


def _case_moved(event: Event, rows: Rows, case: UUID, **changes: Any) -> CaseRow:
    return replace(rows.get(CaseRow, case), changed_at=event.at, **changes)


def _moved(event: Event, rows: Rows, **changes: Any) -> InteractionRow:
    """The event's interaction, one revision on. A seat that is lent stays so only while it is active."""
    row = rows.get(InteractionRow, event.interaction)
    if changes.get("state", "active") != "active":
        changes["lent_to"] = None
    return replace(row, revision=row.revision + 1, **changes)


def _unheld(event: Event, rows: Rows) -> dict[str, Any]:
    row = rows.get(InteractionRow, event.interaction)
    if row.held_at is None:
        return {}
    return {"held": False, "held_at": None, "held_s": row.held_s + (event.at - row.held_at).total_seconds()}


def _advisor(event: Event, rows: Rows, advisor: str) -> AdvisorRow:
    return rows.find(AdvisorRow, advisor) or AdvisorRow(advisor, "offline", None, event.at)


def _uuid(value: Any) -> UUID | None:
    return UUID(value) if value is not None else None


def _time(value: float) -> datetime:
    return datetime.fromtimestamp(value, UTC)


def _contact_created(event: Event, rows: Rows) -> list[Row]:
    assert event.contact is not None
    return [ContactRow(event.contact, event.at, event.at, event.data["provisional"], event.data["draft"])]


def _contact_changed(event: Event, rows: Rows) -> list[Row]:
    row = replace(rows.get(ContactRow, event.contact), changed_at=event.at)
    return [replace(row, draft=False, provisional=False) if "name" in event.data["fields"] else row]


def _address_added(event: Event, rows: Rows) -> list[Row]:
    assert event.contact is not None
    return [AddressRow(UUID(event.data["address"]), event.contact, event.data["kind"], event.at)]


def _contacts_merged(event: Event, rows: Rows) -> list[Row]:
    assert event.contact is not None
    data = event.data
    merge, into = UUID(data["merge"]), UUID(data["into"])
    contact = replace(rows.get(ContactRow, event.contact), merged_into=into, merge_id=merge)
    return [contact, MergeRow(merge, event.contact, into, data["by"], data["reason"], event.at)]


def _merge_undone(event: Event, rows: Rows) -> list[Row]:
    merge = rows.get(MergeRow, UUID(event.data["merge"]))
    contact = replace(rows.get(ContactRow, merge.contact), merged_into=None, merge_id=None)
    return [contact, replace(merge, undone_at=event.at, undone_by=event.data["by"])]


def _case_opened(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    assert event.contact is not None
    data = event.data
    follows = _uuid(data["follows"])
    return [
        CaseRow(
            event.case,
            data["number"],
            event.contact,
            "open",
            data["provisional"],
            follows,
            event.at,
            event.at,
        )
    ]


def _case_changed(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    changes: dict[str, Any] = {}
    if (state := event.data.get("state")) is not None:
        over = state in ("solved", "closed")
        before = rows.get(CaseRow, event.case).closed_at
        changes = {"state": state, "closed_at": (before or event.at) if over else None}
    if (tags := event.data.get("tags")) is not None:
        changes["tags"] = tags
    return [_case_moved(event, rows, event.case, **changes)]


def _case_reopened(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    return [_case_moved(event, rows, event.case, state="open", closed_at=None)]


def _note_added(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    note = NoteRow(UUID(event.data["note"]), event.case, event.interaction, event.data["by"], event.at)
    return [note, _case_moved(event, rows, event.case, notes=rows.get(CaseRow, event.case).notes + 1)]


def _interaction_opened(event: Event, rows: Rows) -> list[Row]:
    assert event.interaction is not None
    assert event.case is not None
    assert event.contact is not None
    data = event.data
    row = InteractionRow(
        id=event.interaction,
        case_id=event.case,
        contact=event.contact,
        channel=data["channel"],
        direction=data["direction"],
        state="opened",
        held=False,
        epoch=0,
        revision=1,
        call=data["call"],
        dialled=data["dialled"],
        trunk=data["trunk"],
        attestation=data["attestation"],
        address=_uuid(data["address"]),
        matches=data["matches"],
        tree=None,
        tree_version=None,
        queue=None,
        priority=None,
        since=None,
        needs=[],
        avoid=[],
        language=None,
        advisor=None,
        offer=None,
        opened_at=event.at,
        enqueued_at=None,
        offered_at=None,
        accepted_at=None,
        held_at=None,
        held_s=0.0,
        talk_ended_at=None,
        wrapup_until=None,
        extended=False,
        ended_at=None,
        outcome=None,
        code=None,
        seat=data.get("seat") or data["channel"],
        thread=_uuid(data.get("thread")),
    )
    changed: list[Row] = [
        row,
        _case_moved(event, rows, event.case, interactions=rows.get(CaseRow, event.case).interactions + 1),
    ]
    if row.thread is not None:
        thread = rows.get(ThreadRow, row.thread)
        changed.append(_lives(thread, [*thread.living, row.id]))
    return changed


def _lives(thread: ThreadRow, living: list[UUID]) -> ThreadRow:
    return replace(thread, live=living[0] if living else None, beside=[str(each) for each in living[1:]])


def _messages(event: Event, rows: Rows) -> list[MessageRow]:
    """Those of the event's interaction, which go where it goes."""
    row = rows.get(InteractionRow, event.interaction)
    if row.thread is None:
        return []
    return [each for each in rows.all(MessageRow) if each.interaction == row.id]


def _contact_chosen(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    assert event.contact is not None
    changed: list[Row] = [
        _moved(event, rows, contact=event.contact),
        *(replace(row, contact=event.contact) for row in _messages(event, rows)),
    ]
    if event.data["case_too"]:
        changed.append(_case_moved(event, rows, event.case, contact=event.contact, provisional=False))
    return changed


def _case_chosen(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    former = UUID(event.data["from"])
    messages = {row.id: replace(row, case_id=event.case) for row in _messages(event, rows)}
    files = [row for row in rows.all(AttachmentRow) if row.message in messages] if messages else []
    helps = [row for row in rows.all(HelpRow) if row.interaction == event.interaction]
    return [
        _moved(event, rows, case_id=event.case),
        *messages.values(),
        *(replace(row, case_id=event.case) for row in files),
        *(replace(row, case_id=event.case) for row in helps),
        _case_moved(event, rows, former, interactions=rows.get(CaseRow, former).interactions - 1),
        _case_moved(event, rows, event.case, interactions=rows.get(CaseRow, event.case).interactions + 1),
    ]


def _tree_entered(event: Event, rows: Rows) -> list[Row]:
    return [
        _moved(event, rows, state="qualifying", tree=event.data["tree"], tree_version=event.data["version"])
    ]


def _node_left(event: Event, rows: Rows) -> list[Row]:
    assert event.interaction is not None
    data = event.data
    where = (data["tree"], data["version"], data["node"], data["exit"], data["seconds"])
    return [StepRow(event.interaction, event.seq, *where, event.at)]


def _facts_learned(event: Event, rows: Rows) -> list[Row]:
    language = event.data["language"]
    return [_moved(event, rows, language=language)] if language is not None else []


def _enqueued(event: Event, rows: Rows) -> list[Row]:
    data = event.data
    language = data["language"] or rows.get(InteractionRow, event.interaction).language
    return [
        _moved(
            event,
            rows,
            state="waiting",
            queue=data["queue"],
            priority=data["priority"],
            since=_time(data["since"]),
            needs=data["needs"],
            avoid=[],
            language=language,
            enqueued_at=event.at,
            advisor=None,
            offer=None,
        )
    ]


def _offered(event: Event, rows: Rows) -> list[Row]:
    assert event.interaction is not None
    assert event.advisor is not None
    data = event.data
    offer = UUID(data["offer"])
    return [
        _moved(
            event,
            rows,
            state="offered",
            advisor=event.advisor,
            offer=offer,
            epoch=data["epoch"],
            offered_at=event.at,
        ),
        OfferRow(offer, event.interaction, event.advisor, data["epoch"], event.at, _time(data["deadline"])),
    ]


def _offer_ended(event: Event, rows: Rows) -> list[Row]:
    assert event.advisor is not None
    how = event.data["how"]
    offer = rows.get(OfferRow, UUID(event.data["offer"]))
    changed: list[Row] = [replace(offer, how=how, reason=event.data["reason"], ended_at=event.at)]
    if how != "accepted":
        row = rows.get(InteractionRow, event.interaction)
        avoid = row.avoid
        if how != "cancelled" and event.advisor not in avoid:
            avoid = [*avoid, event.advisor]
        changed.append(_moved(event, rows, state="waiting", advisor=None, offer=None, avoid=avoid))
    advisor = _advisor(event, rows, event.advisor)
    if how in ("missed", "expired"):
        changed.append(replace(advisor, misses=advisor.misses + 1))
    elif how == "accepted" and advisor.misses:
        changed.append(replace(advisor, misses=0))
    return changed


def _pop_shown(event: Event, rows: Rows) -> list[Row]:
    offer = rows.get(OfferRow, UUID(event.data["offer"]))
    return [replace(offer, shown_ms=event.data["after_ms"], shown_missed=event.data["missed"])]


def _accepted(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    return [
        _moved(
            event, rows, state="active", advisor=event.advisor, offer=None, avoid=[], accepted_at=event.at
        ),
        _case_moved(event, rows, event.case, advisor=event.advisor),
    ]


def _assigned(event: Event, rows: Rows) -> list[Row]:
    """Given without an offer: a call that is to be placed stays opened, what is pulled is active at once."""
    former = rows.get(InteractionRow, event.interaction).advisor
    given = _moved(event, rows, advisor=event.advisor, epoch=event.data["epoch"])
    if event.data.get("how") != "pulled":
        return [given]
    assert event.case is not None
    return [
        replace(given, state="active", offer=None, avoid=[], accepted_at=event.at, **_unheld(event, rows)),
        _case_moved(event, rows, event.case, advisor=event.advisor),
        *_idle(event, rows, former),
    ]


def _connected(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    return [
        _moved(event, rows, state="active", accepted_at=event.at),
        _case_moved(event, rows, event.case, advisor=event.advisor),
    ]


def _held(event: Event, rows: Rows) -> list[Row]:
    return [_moved(event, rows, held=True, held_at=event.at)]


def _resumed(event: Event, rows: Rows) -> list[Row]:
    return [_moved(event, rows, **_unheld(event, rows))]


def _talk_ended(event: Event, rows: Rows) -> list[Row]:
    until = _time(event.data["until"])
    return [
        _moved(
            event, rows, state="wrapup", talk_ended_at=event.at, wrapup_until=until, **_unheld(event, rows)
        )
    ]


def _idle(event: Event, rows: Rows, advisor: str | None) -> list[Row]:
    return [replace(_advisor(event, rows, advisor), idle_since=event.at)] if advisor is not None else []


def _requeued(event: Event, rows: Rows) -> list[Row]:
    row = rows.get(InteractionRow, event.interaction)
    avoid = row.avoid
    if event.data["reason"] != "offline" and event.advisor is not None and event.advisor not in avoid:
        avoid = [*avoid, event.advisor]
    changes = {**_unheld(event, rows), "avoid": avoid, "accepted_at": None}
    return [_moved(event, rows, state="waiting", advisor=None, **changes), *_idle(event, rows, event.advisor)]


def _priority_changed(event: Event, rows: Rows) -> list[Row]:
    return [_moved(event, rows, priority=event.data["priority"])]


def _wrapup_extended(event: Event, rows: Rows) -> list[Row]:
    return [_moved(event, rows, wrapup_until=_time(event.data["until"]), extended=True)]


def _wrapup_coded(event: Event, rows: Rows) -> list[Row]:
    return [_moved(event, rows, code=event.data["code"])]


def _over(event: Event, rows: Rows, state: str, **changes: Any) -> list[Row]:
    assert event.case is not None
    row = rows.get(InteractionRow, event.interaction)
    ended = _moved(event, rows, state=state, ended_at=event.at, offer=None, **_unheld(event, rows), **changes)
    worked = row.advisor if row.state in ("active", "wrapup") else None
    changed: list[Row] = [ended, _case_moved(event, rows, event.case), *_idle(event, rows, worked)]
    if row.thread is not None:
        thread = rows.get(ThreadRow, row.thread)
        changed.append(_lives(thread, [each for each in thread.living if each != row.id]))
    return changed


def _ended(event: Event, rows: Rows) -> list[Row]:
    return _over(event, rows, "ended", outcome=event.data["outcome"], code=event.data.get("code"))


def _abandoned(event: Event, rows: Rows) -> list[Row]:
    return _over(event, rows, "abandoned", outcome="abandoned", advisor=None)


def _interrupted(event: Event, rows: Rows) -> list[Row]:
    return _over(event, rows, "interrupted", outcome=event.data["reason"])


def _left_queue(event: Event, rows: Rows) -> list[Row]:
    return [_moved(event, rows, state="qualifying", advisor=None, offer=None)]


def _recording_stored(event: Event, rows: Rows) -> list[Row]:
    assert event.interaction is not None
    data = event.data
    what = (data["duration_ms"], data["bytes"], data["complete"])
    return [RecordingRow(UUID(data["recording"]), event.interaction, event.at, *what)]


def _presence_changed(event: Event, rows: Rows) -> list[Row]:
    assert event.advisor is not None
    row, presence = _advisor(event, rows, event.advisor), event.data["presence"]
    misses = 0 if event.data["by"] == "advisor" else row.misses
    idle = row.idle_since if row.presence == "ready" or presence != "ready" else event.at
    return [
        replace(
            row,
            presence=presence,
            reason=event.data["reason"],
            since=event.at,
            misses=misses,
            idle_since=idle,
        )
    ]


def _reach_changed(event: Event, rows: Rows) -> list[Row]:
    assert event.advisor is not None
    return [ReachRow(event.advisor, event.data["channel"], event.data["reachable"], event.at)]


def _handed_back(event: Event, rows: Rows) -> list[Row]:
    """To the tree: should it enqueue again, the customer waits from then on."""
    changes: dict[str, Any] = {"state": "qualifying", "since": None, "accepted_at": None, "avoid": []}
    row = rows.get(InteractionRow, event.interaction)
    moved = _moved(event, rows, advisor=None, offer=None, **_unheld(event, rows), **changes)
    return [moved, *_idle(event, rows, row.advisor)]


def _seat_lent(event: Event, rows: Rows) -> list[Row]:
    return [_moved(event, rows, lent_to=UUID(event.data["to"]))]


def _seat_returned(event: Event, rows: Rows) -> list[Row]:
    return [_moved(event, rows, lent_to=None)]


def _thread_opened(event: Event, rows: Rows) -> list[Row]:
    data = event.data
    where = (data["account"], data["channel"], UUID(data["address"]))
    return [ThreadRow(UUID(data["thread"]), *where, event.at)]


def _message(event: Event, rows: Rows, **own: Any) -> tuple[list[Row], ThreadRow]:
    """The rows that every new message makes, and its thread with it counted."""
    assert event.interaction is not None
    assert event.case is not None
    assert event.contact is not None
    data = event.data
    id_ = UUID(data["message"])
    sent_at = _time(data["sent_at"]) if data.get("sent_at") is not None else None
    message = MessageRow(
        id=id_,
        seq=event.seq,
        thread=UUID(data["thread"]),
        interaction=event.interaction,
        case_id=event.case,
        contact=event.contact,
        account=data["account"],
        kind=data["kind"],
        external_id=data["external_id"],
        at=event.at,
        sent_at=sent_at,
        failure=None,
        code="",
        reply_to=_uuid(data["reply_to"]),
        attached=data["attached"],
        **own,
    )
    changed: list[Row] = [message]
    for file in data["files"]:
        row = AttachmentRow(UUID(file["id"]), id_, event.case, file["kind"], file["type"])
        if file.get("sha256"):
            row = replace(row, bytes=file["bytes"], sha256=file["sha256"], state="stored")
        changed.append(row)
    thread = rows.get(ThreadRow, message.thread)
    first = [each for each in thread.living if each == event.interaction]
    thread = _lives(thread, first + [each for each in thread.living if each != event.interaction])
    return changed, replace(thread, messages=thread.messages + 1)


def _message_received(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    data = event.data
    changed, thread = _message(
        event,
        rows,
        direction="in",
        author="customer",
        by="",
        status="received",
        automatic=data["automatic"],
        standby=data["standby"],
        tagged=False,
    )
    at = _time(data["sent_at"]) if data.get("sent_at") is not None else event.at
    if thread.last_in_at is None or thread.last_in_at < at:
        thread = replace(thread, last_in_at=at)
    return [*changed, thread, _case_moved(event, rows, event.case)]


def _message_written(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    data = event.data
    author = data["author"]
    changed, thread = _message(
        event,
        rows,
        direction="out",
        author=author,
        by=data["by"],
        status=data["status"],
        automatic=author in ("bot", "system"),
        standby=False,
        tagged=data["tagged"],
    )
    spoke = {"advisor": data["by"]} if author == "advisor" else {}
    thread = replace(thread, last_out=UUID(data["message"]))
    return [*changed, thread, _case_moved(event, rows, event.case, **spoke)]


def _message_status(event: Event, rows: Rows) -> list[Row]:
    data = event.data
    row = rows.get(MessageRow, UUID(data["message"]))
    status = data["status"]
    sent = status in ("sent", "delivered", "read") and row.sent_at is None
    return [
        replace(
            row,
            status=status,
            failure=data["failure"],
            code=data["code"],
            external_id=data["external_id"] or row.external_id,
            sent_at=event.at if sent else row.sent_at,
        )
    ]


def _message_changed(event: Event, rows: Rows) -> list[Row]:
    row = rows.get(MessageRow, UUID(event.data["message"]))
    match event.data["what"]:
        case "edited":
            return [replace(row, edited=True)]
        case "unsent":
            return [replace(row, unsent=True)]
        case _:
            return []


def _attachment_stored(event: Event, rows: Rows) -> list[Row]:
    data = event.data
    failed = data["failed"]
    state = "stored" if not failed else "quarantined" if failed == "quarantined" else "failed"
    row = rows.get(AttachmentRow, UUID(data["attachment"]))
    what = {"kind": data["kind"], "type": data["type"], "bytes": data["bytes"], "sha256": data["sha256"]}
    return [replace(row, state=state, failed=failed, **what)]


def _cases_merged(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    data = event.data
    merge, into = UUID(data["merge"]), UUID(data["into"])
    case = replace(rows.get(CaseRow, event.case), merged_into=into, merge_id=merge)
    return [case, CaseMergeRow(merge, event.case, into, data["by"], event.at)]


def _case_merge_undone(event: Event, rows: Rows) -> list[Row]:
    merge = rows.get(CaseMergeRow, UUID(event.data["merge"]))
    case = replace(rows.get(CaseRow, merge.case_id), merged_into=None, merge_id=None)
    return [case, replace(merge, undone_at=event.at, undone_by=event.data["by"])]


def _help_asked(event: Event, rows: Rows) -> list[Row]:
    assert event.interaction is not None
    assert event.case is not None
    data = event.data
    return [HelpRow(UUID(data["help"]), event.interaction, event.case, data["by"], data["of"], event.at)]


def _help_answered(event: Event, rows: Rows) -> list[Row]:
    row = rows.get(HelpRow, UUID(event.data["help"]))
    return [replace(row, answered_at=event.at, answered_by=event.data["by"])]


def _account_changed(event: Event, rows: Rows) -> list[Row]:
    data = event.data
    return [AccountRow(data["account"], data["state"], data["reason"], event.at)]


def _nothing(event: Event, rows: Rows) -> list[Row]:
    return []


PROJECTIONS: dict[T, Callable[[Event, Rows], list[Row]]] = {
    T.CONTACT_CREATED: _contact_created,
    T.CONTACT_CHANGED: _contact_changed,
    T.ADDRESS_ADDED: _address_added,
    T.CONTACTS_MERGED: _contacts_merged,
    T.MERGE_UNDONE: _merge_undone,
    T.CASE_OPENED: _case_opened,
    T.CASE_CHANGED: _case_changed,
    T.CASE_REOPENED: _case_reopened,
    T.NOTE_ADDED: _note_added,
    T.INTERACTION_OPENED: _interaction_opened,
    T.CONTACT_CHOSEN: _contact_chosen,
    T.CASE_CHOSEN: _case_chosen,
    T.TREE_ENTERED: _tree_entered,
    T.NODE_LEFT: _node_left,
    T.FACTS_LEARNED: _facts_learned,
    T.ENQUEUED: _enqueued,
    T.OFFERED: _offered,
    T.OFFER_ENDED: _offer_ended,
    T.POP_SHOWN: _pop_shown,
    T.ACCEPTED: _accepted,
    T.ASSIGNED: _assigned,
    T.CONNECTED: _connected,
    T.HELD: _held,
    T.RESUMED: _resumed,
    T.TALK_ENDED: _talk_ended,
    T.REQUEUED: _requeued,
    T.PRIORITY_CHANGED: _priority_changed,
    T.WRAPUP_EXTENDED: _wrapup_extended,
    T.WRAPUP_CODED: _wrapup_coded,
    T.ENDED: _ended,
    T.ABANDONED: _abandoned,
    T.INTERRUPTED: _interrupted,
    T.LEFT_QUEUE: _left_queue,
    T.RECORDING_STORED: _recording_stored,
    T.PRESENCE_CHANGED: _presence_changed,
    T.REACH_CHANGED: _reach_changed,
    T.SITE_APPLIED: _nothing,
    T.BREACH_FORECAST: _nothing,
    T.THREAD_OPENED: _thread_opened,
    T.MESSAGE_RECEIVED: _message_received,
    T.MESSAGE_WRITTEN: _message_written,
    T.MESSAGE_STATUS: _message_status,
    T.MESSAGE_CHANGED: _message_changed,
    T.ATTACHMENT_STORED: _attachment_stored,
    T.HANDED_BACK: _handed_back,
    T.SEAT_LENT: _seat_lent,
    T.SEAT_RETURNED: _seat_returned,
    T.CASES_MERGED: _cases_merged,
    T.CASE_MERGE_UNDONE: _case_merge_undone,
    T.HELP_ASKED: _help_asked,
    T.HELP_ANSWERED: _help_answered,
    T.ACCOUNT_CHANGED: _account_changed,
}


def project(event: Event, rows: Rows) -> list[Row]:
    """The rows that the event makes or replaces. All rows it starts from must be in `rows`."""
    return PROJECTIONS[event.type](event, rows)


def rebuild(events: Iterable[Event]) -> Rows:
    """All state, from the log alone (I13)."""
    rows = Rows()
    for event in events:
        for row in project(event, rows):
            rows.put(row)
    return rows
