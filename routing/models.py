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
    seat: str = ""  # voice, chat or mail; "": as the channel is called
    exchange: UUID | None = None  # the written interaction whose seat this call takes until it is over (F5)


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
    """A call's customer hears music; a written interaction is set aside until the customer writes or it is resumed.

    What is set aside stays with its advisor and takes no seat of theirs (Q20). Refused `not_now` while a call has
    its seat.
    """

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
    tags: tuple[str, ...] | None = None  # all of them, from now on


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
class ContactIntroduced(Submission):
    """The provider says what a new customer is called. Refused `named` where anybody has said so already."""

    contact: UUID
    name: str


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A file of a message; its bytes are stored by AttachmentStored, or were before (then `sha256` is given)."""

    attachment: UUID
    kind: str  # image | audio | video | file | sticker
    name: str = ""
    type: str = ""
    content_id: str = ""
    path: str = ""  # below the data directory
    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageReceived(Submission):
    """A customer wrote. The desk finds thread, contact, case and the live interaction, or opens `interaction`.

    Refused `known_message` when (account, external_id) is there already.
    """

    interaction: UUID  # its id, should one have to be opened
    message: UUID
    account: str
    channel: str
    seat: str
    external_id: str
    address_kind: str
    address: str
    name: str = ""
    more_addresses: tuple[tuple[str, str], ...] = ()
    kind: str = "text"
    text: str = ""
    html: str = ""  # cleaned
    subject: str = ""
    payload: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)  # referral, headers: shown, never decided on
    attached: tuple[Attached, ...] = ()
    reply_to: UUID | None = None
    sent_at: datetime | None = None  # the provider's time
    automatic: bool = False  # a machine wrote: it joins its case, but opens no work
    standby: bool = False  # somebody else holds the thread: shown, not answered by the tree
    leaves: bool = False  # the customer ends what goes on: `abandoned`, or `left` if an advisor has it
    case: UUID | None = None  # found by the edge (References, token)
    proved: bool = False  # it belongs to `case` for certain: it goes there, beside what lives in another one
    language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageWritten(Submission):
    """We write, into a live interaction's thread, or from a case to an address (`interaction` is then a new id).

    Its outbox row is stored in the same transaction. Refused: `human_speaks` (a tree's word while an advisor has it),
    `not_yours`, `newer_reply` (`over` is not the thread's last message of ours and `consent` is False), `over`,
    `unknown_address`, `empty`.
    """

    message: UUID
    author: str  # advisor | bot | system
    by: str  # login; "" for bot and system
    interaction: UUID
    case: UUID | None = None  # with account and address: from a case
    account: str | None = None
    channel: str | None = None
    seat: str = ""
    address: UUID | None = None
    text: str = ""
    html: str = ""
    subject: str = ""
    buttons: tuple[tuple[str, str], ...] = ()  # (title, payload)
    attached: tuple[Attached, ...] = ()
    reply_to: UUID | None = None
    over: UUID | None = None  # the last message of ours that the writer has seen
    consent: bool = True  # send even over a newer reply
    tagged: bool = False
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEchoed(Submission):
    """The account answered, but not through us: shown with author `elsewhere`."""

    message: UUID
    account: str
    external_id: str
    address_kind: str
    address: str
    text: str = ""
    attached: tuple[Attached, ...] = ()
    sent_at: datetime | None = None


STATUS_RANK = {
    "queued": 0, "sending": 1, "perhaps": 2, "sent": 3, "delivered": 4, "read": 5, "failed": 6, "dropped": 6,
}  # fmt: skip
"""Statuses of a message of ours: one with a lower or equal rank changes nothing. `failed` after `sent` is told too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStatus(Submission):
    """What became of a message of ours. Refused `older_status` when it would go back."""

    message: UUID
    status: str
    external_id: str | None = None
    failure: str | None = None  # routing.channel.Failure
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageChanged(Submission):
    """A customer's message was edited, unsent, reacted to; or a reaction was taken back."""

    message: UUID
    what: str  # edited | unsent | reacted | unreacted
    text: str = ""  # the new text, or the emoji


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentStored(Submission):
    """The bytes of an attachment are there (`path` below the data directory), or why they are not."""

    message: UUID
    attachment: UUID
    path: str = ""
    type: str = ""
    bytes: int = 0
    sha256: str = ""
    failed: str = ""  # expired | too_large | refused | quarantined …


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message of a tree inside WalkStepped."""

    message: UUID
    text: str
    buttons: tuple[tuple[str, str], ...] = ()
    author: str = "bot"


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkStepped(Submission):
    """One step of a written walk, all in one transaction: nodes left, facts, words, where it stands, and what follows.

    Refused as a whole: `human_speaks` (an advisor has it: B4), `over`, or why the queue refused.
    """

    interaction: UUID
    tree: str
    version: int
    walk: Mapping[str, Any]  # the interpreter as it stands
    consumed: int  # sequence number of the last event of this interaction that the walk has heard
    left: tuple[tuple[str, str, float], ...] = ()  # (node, exit, seconds)
    left_in: tuple[
        tuple[str, int], ...
    ] = ()  # (tree, version) of each in `left`: subtrees; none: `tree`, `version`
    facts: Mapping[str, Any] = field(default_factory=dict)
    said: tuple[Said, ...] = ()
    enqueue: Enqueued | None = None
    leave: str | None = None  # leaves the queue: "key" | "overflow"
    ended: str | None = None  # outcome, when the tree has closed the matter


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedBack(Submission):
    """The advisor gives the customer back to the tree at a node (B5); it answers the next message."""

    interaction: UUID
    node: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionTaken(Submission):
    """An advisor pulls a waiting interaction or takes it from the tree, or a supervisor gives it (Q20).

    Refused `taken` with the holder when somebody has it: `taken:LOGIN`. With `over`, what an advisor has in hand moves.
    """

    interaction: UUID
    advisor: str
    by: str
    over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionClosed(Submission):
    """A written interaction is done: `outcome` answered, or archived with a reason and without a reply (F17)."""

    interaction: UUID
    by: str
    outcome: str = "answered"  # answered | archived
    reason: str | None = None
    code: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CasesMerged(Submission):
    """`case` is one with `into` from now on, undone at any time (F6)."""

    merge: UUID
    case: UUID
    into: UUID
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseMergeUndone(Submission):
    merge: UUID
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpAsked(Submission):
    """The advisor asks colleagues (or one) and keeps the interaction and its clock (F13)."""

    help: UUID
    interaction: UUID
    by: str
    text: str
    of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpAnswered(Submission):
    help: UUID
    by: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChanged(Submission):
    """An account of a channel went up, is throttled, or went down (token revoked, restricted, unreachable)."""

    account: str
    state: str  # up | throttled | down
    reason: str = ""


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
    CASE_CHANGED = "case.changed"  # state?, subject (bool: it was changed), tags? (all of them), by
    CASE_REOPENED = "case.reopened"  # by: "interaction" | login
    NOTE_ADDED = "note.added"  # note, by
    # channel, direction, call, dialled (the account), trunk, attestation, address (id), matches, seat, thread
    INTERACTION_OPENED = "interaction.opened"
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
    # epoch, how: direct (click-to-call, stays opened) | pulled (active at once), by, from (who had it, if anybody),
    # passed_over (of those who waited for the same people, so many came before the one that was pulled: Q20)
    ASSIGNED = "interaction.assigned"
    CONNECTED = "interaction.connected"  # outgoing call answered
    HELD = "interaction.held"
    RESUMED = "interaction.resumed"
    TALK_ENDED = "interaction.talk_ended"  # by, until (unix s: end of the wrap-up)
    REQUEUED = "interaction.requeued"  # reason ("offline": its advisor has gone)
    PRIORITY_CHANGED = "interaction.priority"  # priority, by
    WRAPUP_EXTENDED = "wrapup.extended"  # until (unix s)
    WRAPUP_CODED = "wrapup.coded"  # code, by: chosen after the timer had ended the wrap-up
    # outcome: served | answered | archived | sent | automatic | standby | elsewhere …, code, by, reason?
    ENDED = "interaction.ended"
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
    THREAD_OPENED = "thread.opened"  # thread, account, channel, address (id)
    # message, thread, account, external_id, kind, sent_at (unix s), attached (count), reply_to, automatic, standby,
    # files ([{id, kind, type, and bytes, sha256 where stored already}])
    MESSAGE_RECEIVED = "message.received"
    # message, thread, account, author: advisor | bot | system | elsewhere, by, kind, attached, files, reply_to, tagged,
    # status (queued; sent when elsewhere), external_id (elsewhere, or our own Message-ID)
    MESSAGE_WRITTEN = "message.written"
    MESSAGE_STATUS = "message.status"  # message, status, external_id, failure, code
    MESSAGE_CHANGED = "message.changed"  # message, what: edited | unsent | reacted | unreacted
    ATTACHMENT_STORED = "attachment.stored"  # message, attachment, kind, type, bytes, sha256, failed
    HANDED_BACK = "interaction.handed_back"  # node, by
    SEAT_LENT = "seat.lent"  # to: the call that has this interaction's seat
    SEAT_RETURNED = "seat.returned"  # to: it was
    CASES_MERGED = "cases.merged"  # merge, into, by
    CASE_MERGE_UNDONE = "cases.merge_undone"  # merge, by
    HELP_ASKED = "help.asked"  # help, by, of
    HELP_ANSWERED = "help.answered"  # help, by
    ACCOUNT_CHANGED = "account.changed"  # account, state, reason


FINAL_EVENTS = frozenset({T.ENDED, T.ABANDONED, T.INTERRUPTED})
"""An interaction lives no longer."""


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
