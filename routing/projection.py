"""The projection: what each event makes of the state tables.

Rule 1: state is written only as `project(event, rows)` says, by the desk and by `rebuild` alike.
Rule 2: a row is a value; its fields are the columns of its table, in order, without `organisation_id`.
Rule 3: personal data is not here: it lies in the side tables, which a rebuild takes as given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class InteractionRow:
    """`since` is the first waiting time: the place in line. `revision` counts the events that changed the row."""

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
    | InteractionRow
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
    InteractionRow,
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
    """The event's interaction, one revision on."""
    row = rows.get(InteractionRow, event.interaction)
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
    )
    return [
        row,
        _case_moved(event, rows, event.case, interactions=rows.get(CaseRow, event.case).interactions + 1),
    ]


def _contact_chosen(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    changed: list[Row] = [_moved(event, rows, contact=event.contact)]
    if event.data["case_too"]:
        changed.append(_case_moved(event, rows, event.case, contact=event.contact, provisional=False))
    return changed


def _case_chosen(event: Event, rows: Rows) -> list[Row]:
    assert event.case is not None
    former = UUID(event.data["from"])
    return [
        _moved(event, rows, case_id=event.case),
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
    return [_moved(event, rows, advisor=event.advisor, epoch=event.data["epoch"])]


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
    if event.advisor is not None and event.advisor not in avoid:
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
    return [ended, _case_moved(event, rows, event.case), *_idle(event, rows, worked)]


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
