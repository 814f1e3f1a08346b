"""The words of the house: what edges submit to the desk, and what the desk stores and publishes.

A submission is what somebody outside says has happened or asks for; it may hold names, numbers and words.
An Event is what the desk has committed: ids and facts only (personal data lives in side tables that can be erased).
Ids are UUIDv7 made at the edge (`routing.aio.clock`); times are aware datetimes in UTC from the one Clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID


class State(StrEnum):
    """Life of an interaction; `held` is a flag beside ACTIVE."""

    OPENED = "opened"
    QUALIFYING = "qualifying"
    WAITING = "waiting"
    OFFERED = "offered"
    ACTIVE = "active"
    WRAPUP = "wrapup"
    ENDED = "ended"
    ABANDONED = "abandoned"
    INTERRUPTED = "interrupted"


FINAL = frozenset({State.ENDED, State.ABANDONED, State.INTERRUPTED})


class CaseState(StrEnum):
    OPEN = "open"
    WAITING = "waiting"
    SOLVED = "solved"
    CLOSED = "closed"


class Presence(StrEnum):
    """One presence for all channels (C7); busy, ringing and wrap-up are derived from work, never set."""

    READY = "ready"
    PAUSE = "pause"
    OFFLINE = "offline"


class Clock(Protocol):
    def now(self) -> datetime: ...

    def unix(self) -> float: ...


class Ids(Protocol):
    def __call__(self) -> UUID: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """`key` makes a repeated submission harmless: the second has no effect and gets the first one's result."""

    key: UUID
    organisation: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionOpened(Submission):
    """A call came in, or one is to be placed from a case. The desk finds or makes contact and case."""

    interaction: UUID
    channel: str  # voice, chat, mail …
    direction: str  # "in" | "out"
    call: str | None = None  # the call id, for voice
    address_kind: str = "phone"
    address: str = ""  # as received; normalised by the desk (C10)
    name: str = ""  # what the caller's side said
    dialled: str = ""
    trunk: str | None = None
    attestation: str | None = None  # A, B, C or None (verstat)
    case: UUID | None = None  # already known: click-to-call from a case
    contact: UUID | None = None
    advisor: str | None = None  # who clicked


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntered(Submission):
    interaction: UUID
    tree: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLeft(Submission):
    """The customer went from `node` by `exit` after `seconds`; `keys` are already masked where so marked."""

    interaction: UUID
    node: str
    exit: str
    seconds: float
    keys: str = ""


PLACE_FACTS = frozenset({"place_told", "place_now", "place_why"})  # of a place in line that got worse (Q9)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsLearned(Submission):
    """What the tree found out: language, collected values, look-up results (shown in the pop); also PLACE_FACTS."""

    interaction: UUID
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued(Submission):
    interaction: UUID
    queue: str
    priority: int | None = None
    needs: tuple[tuple[str, int], ...] = ()  # extra skills, all of them
    language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerLeft(Submission):
    """The customer hung up (`how` "hangup"), or left the queue and the tree goes on ("key", "overflow")."""

    interaction: UUID
    how: str = "hangup"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEnded(Submission):
    """The tree closed the matter alone (hang-up node): opened/qualifying → ended."""

    interaction: UUID
    outcome: str = "served"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferAccepted(Submission):
    offer: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferRefused(Submission):
    offer: UUID
    reason: str = "refused"  # refused | busy | not_registered | failed


@dataclass(frozen=True, slots=True, kw_only=True)
class PopShown(Submission):
    offer: UUID
    after_ms: int
    missed: bool = False  # the page did not confirm within its time


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Submission):
    """An outgoing call was answered by the customer: opened → active."""

    interaction: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldChanged(Submission):
    interaction: UUID
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkEnded(Submission):
    """The talk is over: active → wrapup. `by` is customer, advisor or failure."""

    interaction: UUID
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisorLost(Submission):
    """The advisor's leg failed while the customer is still there: back to the old place."""

    interaction: UUID
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed(Submission):
    """An outgoing call was not answered, or was refused (opened → ended, outcome = reason)."""

    interaction: UUID
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Submission):
    """We failed the interaction."""

    interaction: UUID
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapupDone(Submission):
    interaction: UUID
    code: str | None = None
    note: str = ""
    by: str | None = None  # advisor, or None: the timer


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapupExtended(Submission):
    interaction: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceSet(Submission):
    advisor: str
    presence: Presence
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachChanged(Submission):
    """An advisor's phone registered or went away."""

    advisor: str
    channel: str
    reachable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingStored(Submission):
    interaction: UUID
    recording: UUID
    path: str  # below the data directory
    duration_ms: int
    bytes: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteWritten(Submission):
    case: UUID
    note: UUID
    text: str
    by: str
    interaction: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseCreated(Submission):
    case: UUID
    contact: UUID
    subject: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseChanged(Submission):
    """None leaves a field as it is."""

    case: UUID
    by: str
    state: CaseState | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactChosen(Submission):
    """Somebody says who it is; relinks interaction (and its provisional case), reversibly."""

    interaction: UUID
    contact: UUID
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseChosen(Submission):
    interaction: UUID
    case: UUID
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactChanged(Submission):
    """Names, language, VIP and further addresses of a contact; made if new. None leaves as it is."""

    contact: UUID
    by: str
    name: str | None = None
    language: str | None = None
    vip: bool | None = None
    company: str | None = None
    add_addresses: tuple[tuple[str, str], ...] = ()  # (kind, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactsMerged(Submission):
    """`merge` names the link, so that it can be undone (F2)."""

    merge: UUID
    into: UUID
    contact: UUID
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeUndone(Submission):
    merge: UUID
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityChanged(Submission):
    interaction: UUID
    priority: int
    by: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a submission. `refused` is None when it was committed, else a stable word with its reason."""

    events: tuple[Event, ...] = ()
    refused: str | None = None


class T(StrEnum):
    """Types of Event. The comment gives `data` beyond the ids that stand in the columns."""

    CONTACT_CREATED = "contact.created"
    CONTACT_CHANGED = "contact.changed"  # fields: list of names of what changed (values in the side table)
    ADDRESS_ADDED = "address.added"  # address (id), kind
    CONTACTS_MERGED = "contacts.merged"  # merge, into, by, reason
    MERGE_UNDONE = "merge.undone"  # merge, by
    CASE_OPENED = "case.opened"  # number, provisional, follows (case id or None)
    CASE_CHANGED = "case.changed"  # state?, subject (bool: it was changed), by
    CASE_REOPENED = "case.reopened"  # by: "interaction" | login
    NOTE_ADDED = "note.added"  # note, by
    INTERACTION_OPENED = (
        "interaction.opened"  # channel, direction, call, dialled, trunk, attestation, address (id), matches
    )
    CONTACT_CHOSEN = "contact.chosen"  # contact (was in data.from), by, case_too
    CASE_CHOSEN = "case.chosen"  # case (was in data.from), by
    TREE_ENTERED = "tree.entered"  # tree, version
    NODE_LEFT = "node.left"  # tree, version, node, exit, seconds (keys in the side table)
    FACTS_LEARNED = "facts.learned"  # names (values in the side table), language
    ENQUEUED = "interaction.enqueued"  # queue, priority, since (unix s), needs, language, overflow_from (queue or None)
    OFFERED = "offer.made"  # offer, queue, epoch, deadline (unix s), why
    OFFER_ENDED = "offer.ended"  # offer, how: accepted | refused | missed | expired | cancelled, reason
    POP_SHOWN = "pop.shown"  # offer, after_ms, missed
    ACCEPTED = "interaction.accepted"  # offer, epoch
    ASSIGNED = "interaction.assigned"  # epoch; direct: click-to-call
    CONNECTED = "interaction.connected"  # outgoing call answered
    HELD = "interaction.held"
    RESUMED = "interaction.resumed"
    TALK_ENDED = "interaction.talk_ended"  # by, until (unix s: end of the wrap-up)
    REQUEUED = "interaction.requeued"  # reason
    PRIORITY_CHANGED = "interaction.priority"  # priority, by
    WRAPUP_EXTENDED = "wrapup.extended"  # until (unix s)
    WRAPUP_CODED = "wrapup.coded"  # code, by: chosen after the timer had ended the wrap-up
    ENDED = "interaction.ended"  # outcome, code, by
    ABANDONED = "interaction.abandoned"  # waited_s, in: qualifying | waiting | offered
    INTERRUPTED = "interaction.interrupted"  # reason
    LEFT_QUEUE = (
        "interaction.left_queue"  # queue, how: key | overflow | closing, rule (of the queue, at closing)
    )
    RECORDING_STORED = "recording.stored"  # recording, duration_ms, bytes, complete (path in the side table)
    PRESENCE_CHANGED = "advisor.presence"  # presence, reason, by: advisor | missed | shift
    REACH_CHANGED = "advisor.reach"  # channel, reachable
    SITE_APPLIED = "site.applied"  # version, by
    BREACH_FORECAST = "queue.breach_forecast"  # queue, channel, in_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One committed fact. `seq` rises by commit order in an organisation; it is the console's sequence number."""

    seq: int
    id: UUID
    at: datetime
    organisation: UUID
    type: T
    interaction: UUID | None = None
    case: UUID | None = None
    contact: UUID | None = None
    advisor: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
