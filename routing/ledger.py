"""The ledger: what one organisation's desk has decided and not yet stored, and how a decision is put down.

Rule 1: rows change only by `project`; the distribution changes only by `step`, and each decision becomes its event.
Rule 2: a submission is refused before its first event or not at all; what is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from routing import case as case_rules
from routing import interaction as life
from routing import steps
from routing.distribution import Distribution
from routing.explain import to_json
from routing.identity import root
from routing.interaction import Input
from routing.memory import Done, Memory
from routing.models import FINAL, CaseState, Enqueued, Event, Ids, T
from routing.projection import (
    AdvisorRow,
    CaseRow,
    ContactRow,
    InteractionRow,
    MessageRow,
    NoteRow,
    ReachRow,
    RecordingRow,
    Row,
    Rows,
    StepRow,
    key_of,
    project,
)
from routing.site import Need, Site, WrapupCode

NEVER_READ = (StepRow, NoteRow, RecordingRow)  # written, never needed for a decision
VOICE = "voice"
AWAY_S = 45.0  # with the roll call's own 15 s a minute: a reload gives nothing back, and no customer waits for long


class Refused(Exception):
    """A submission that cannot be: `why` is a stable word."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(slots=True)
class Batch:
    """What is stored in one transaction. `sides`: statement → key → values; `was`: interaction → stored revision."""

    events: list[Event] = field(default_factory=list)
    dirty: dict[type[Row], dict[Any, Row]] = field(default_factory=dict)
    was: dict[UUID, int] = field(default_factory=dict)
    sides: dict[str, dict[Any, dict[str, Any]]] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.events or self.done)


class Ledger:
    """`at` and `unix` are the time of the submission in hand; they never go back.

    `began`: since when pages can have been open; `looks`: when what lies with an advisor is to be looked at. Unix s.
    """

    def __init__(self, organisation: UUID, site: Site, ids: Ids) -> None:
        self.organisation = organisation
        self.site = site
        self.memory = Memory(site.country)
        self.last_seq = 0
        self.last_case = 0
        self.distribution = Distribution()
        self.ids = ids
        self.at = datetime.fromtimestamp(0, UTC)
        self.unix = 0.0
        self.began = 0.0
        self.looks: dict[str, float] = {}
        self.batch = Batch()
        self.offer_ids: dict[int, UUID] = {}
        self.offer_numbers: dict[UUID, int] = {}

    @property
    def rows(self) -> Rows:
        return self.memory.rows

    def tell_time(self, now: datetime) -> None:
        if now > self.at:
            self.at, self.unix = now, now.timestamp()

    def step(self, event: steps.Event) -> list[steps.Decision]:
        return self.distribution.step(event, self.unix)

    def enqueue_step(self, row: InteractionRow, queue: str, since: float) -> steps.Enqueue:
        """As it stands in the row."""
        needs = tuple(Need(((skill, level),)) for skill, level in row.needs)
        return self.waiting(row, queue, since, row.priority, needs, row.language)

    def waiting(
        self,
        row: InteractionRow,
        queue: str,
        since: float,
        priority: int | None,
        needs: tuple[Need, ...],
        language: str | None,
    ) -> steps.Enqueue:
        """Held for the last advisor who spoke in its case (Q5), unless it is he who passes it on."""
        case = self.rows.get(CaseRow, row.case_id)
        related = self.surviving(case).advisor or case.advisor
        return steps.Enqueue(
            str(row.id),
            queue,
            row.seat,
            since,
            priority,
            needs,
            contact=self.person(row.contact),
            related=related if row.state != life.State.ACTIVE else None,
            language=language,
            epoch=row.epoch,
        )

    def enqueue(self, told: Enqueued) -> tuple[InteractionRow, list[steps.Decision]]:
        """The first half of Enqueued: the distribution has it, nothing is told yet. Refused as the queue says."""
        row = self.alive(told.interaction, Input.ENQUEUE)
        since = row.since.timestamp() if row.since is not None else self.unix
        needs = tuple(Need(((skill, level),)) for skill, level in told.needs)
        priority, language = self.priority(told, row.contact), told.language or row.language
        decisions = self.step(self.waiting(row, told.queue, since, priority, needs, language))
        for decision in decisions:
            if isinstance(decision, steps.Denied):
                raise Refused(word(decision.why))
        return row, decisions

    def tell_enqueue(self, told: Enqueued, row: InteractionRow, decisions: list[steps.Decision]) -> None:
        """The second half."""
        own = str(row.id)
        for decision in decisions:
            if isinstance(decision, steps.SeatReturned) and decision.interaction == own:
                self._told_seat_returned(decision)
        if not any(isinstance(it, steps.ClosingReached) and it.interaction == own for it in decisions):
            since = row.since.timestamp() if row.since is not None else self.unix
            needs = [[skill, level] for skill, level in told.needs]
            priority = self.priority(told, row.contact)
            self.tell_enqueued(row, told.queue, priority, since, needs, told.language)
        self.decided(decisions)

    def emit(
        self,
        type_: T,
        data: Mapping[str, Any],
        *,
        interaction: UUID | None = None,
        case: UUID | None = None,
        contact: UUID | None = None,
        advisor: str | None = None,
    ) -> Event:
        row = self.rows.find(InteractionRow, interaction) if interaction is not None else None
        if row is not None:
            case = case or row.case_id
            contact = contact or row.contact
            advisor = advisor or row.advisor
        self.last_seq += 1
        event = Event(
            seq=self.last_seq,
            id=self.ids(),
            at=self.at,
            organisation=self.organisation,
            type=type_,
            interaction=interaction,
            case=case,
            contact=contact,
            advisor=advisor,
            data=data,
        )
        batch = self.batch
        batch.events.append(event)
        for changed in project(event, self.rows):
            table, key = type(changed), key_of(changed)
            if isinstance(changed, InteractionRow) and changed.id not in batch.was:
                before = self.rows.find(InteractionRow, changed.id)
                batch.was[changed.id] = before.revision if before is not None else -1
            batch.dirty.setdefault(table, {})[key] = changed
            if not isinstance(changed, NEVER_READ):
                self.memory.put(changed)
        return event

    def side(self, statement: str, key: Any, **values: Any) -> None:
        """Something for a side table; a later value for the same key wins, None leaves what is there."""
        row = self.batch.sides.setdefault(statement, {}).setdefault(key, {})
        for name, value in values.items():
            if value is not None or name not in row:
                row[name] = value

    def decided(self, decisions: Iterable[steps.Decision]) -> None:
        for decision in decisions:
            teller = _TELLERS.get(type(decision))
            if teller is not None:
                teller(self, decision)

    def _told_offered(self, it: steps.Offered) -> None:
        interaction = UUID(it.interaction)
        offer = self.ids()
        self.offer_ids[it.offer] = offer
        self.offer_numbers[offer] = it.offer
        data = {
            "offer": str(offer),
            "queue": it.queue,
            "epoch": it.epoch,
            "deadline": it.deadline,
            "why": to_json(it.why),
        }
        self.emit(T.OFFERED, data, interaction=interaction, advisor=it.advisor)

    def _told_offer_ended(self, it: steps.OfferEnded) -> None:
        interaction = UUID(it.interaction)
        offer = self.offer_ids.pop(it.offer)
        del self.offer_numbers[offer]
        self.offer_over(interaction, offer, it.advisor, it.how, it.reason)
        if it.how == "accepted":
            data = {"offer": str(offer), "epoch": it.epoch}
            self.emit(T.ACCEPTED, data, interaction=interaction, advisor=it.advisor)

    def offer_over(self, interaction: UUID, offer: UUID, advisor: str, how: str, reason: str) -> None:
        data = {"offer": str(offer), "how": how, "reason": reason or None}
        self.emit(T.OFFER_ENDED, data, interaction=interaction, advisor=advisor)

    def _told_wrapup_ended(self, it: steps.WrapupEnded) -> None:
        if it.how == "expired":
            data = {"outcome": "served", "code": None, "by": None}
            self.emit(T.ENDED, data, interaction=UUID(it.interaction), advisor=it.advisor)

    def _told_paused(self, it: steps.Paused) -> None:
        data = {"presence": "pause", "reason": it.reason, "by": "missed"}
        self.emit(T.PRESENCE_CHANGED, data, advisor=it.advisor)

    def _told_pause_ended(self, it: steps.PauseEnded) -> None:
        data = {"presence": it.presence, "reason": None, "by": "shift"}
        self.emit(T.PRESENCE_CHANGED, data, advisor=it.advisor)

    def _told_closing(self, it: steps.ClosingReached) -> None:
        data = {"queue": it.queue, "how": "closing", "rule": it.rule}
        self.emit(T.LEFT_QUEUE, data, interaction=UUID(it.interaction))

    def _told_breach(self, it: steps.BreachForecast) -> None:
        self.emit(T.BREACH_FORECAST, {"queue": it.queue, "channel": it.channel, "in_s": it.in_s})

    def _told_overflowed(self, it: steps.Overflowed) -> None:
        row = self.rows.get(InteractionRow, UUID(it.interaction))
        assert row.since is not None
        self.tell_enqueued(
            row, it.to_queue, row.priority, row.since.timestamp(), row.needs, None, it.from_queue
        )

    def _told_seat_lent(self, it: steps.SeatLent) -> None:
        self.emit(T.SEAT_LENT, {"to": it.to}, interaction=UUID(it.interaction))

    def _told_seat_returned(self, it: steps.SeatReturned) -> None:
        """Nothing to tell once the interaction itself has left its advisor."""
        row = self.rows.find(InteractionRow, UUID(it.interaction))
        if row is not None and row.lent_to is not None:
            self.emit(T.SEAT_RETURNED, {"to": it.to}, interaction=row.id)
            if row.advisor is not None and self.away_at(row) is not None:
                self.looks[row.advisor] = self.unix + AWAY_S

    def hold(self, row: InteractionRow, held: bool) -> None:
        """A call's customer hears music; a written one is set aside, and its advisor has a seat more (Q20)."""
        if held and row.lent_to is not None:
            raise Refused("not_now")
        self.emit(T.HELD if held else T.RESUMED, {}, interaction=row.id)
        if row.seat != VOICE:
            self.decided(self.step(steps.SetAside(str(row.id), held)))

    def away_at(self, row: InteractionRow) -> float | None:
        """Unix seconds from which nobody reads what its customer writes; None: its advisor does, or nobody has it.

        An advisor is away who has left the site or is offline, and once there has been no page for AWAY_S.
        """
        if row.advisor is None:
            return None
        if all(advisor.id != row.advisor for advisor in self.site.advisors):
            return 0.0
        advisor = self.rows.find(AdvisorRow, row.advisor)
        if advisor is not None and advisor.presence == "offline":
            return 0.0
        reach = self.rows.find(ReachRow, (row.advisor, row.seat))
        if reach is None or reach.reachable:
            return None
        return max(reach.since.timestamp(), self.began) + AWAY_S

    def away(self, row: InteractionRow) -> bool:
        at = self.away_at(row)
        return at is not None and at <= self.unix

    def owed(self, talks: Iterable[InteractionRow]) -> list[InteractionRow]:
        """Those whose customer waits for a person's answer; their messages must be loaded."""
        asked = {row.id: row for row in talks}
        wrote, answered = dict.fromkeys(asked, 0), dict.fromkeys(asked, 0)
        for each in self.rows.all(MessageRow) if asked else ():
            id_ = each.interaction
            if id_ not in asked or each.automatic:
                continue
            if each.direction == "in" and not each.standby:
                wrote[id_] = max(wrote[id_], each.seq)
            elif each.author in ("advisor", "elsewhere") and each.status not in ("failed", "dropped"):
                answered[id_] = max(answered[id_], each.seq)
        return [row for id_, row in asked.items() if wrote[id_] > answered[id_]]

    def back(self, row: InteractionRow, reason: str = "offline") -> None:
        """A written one whose advisor has gone waits at its old place again, for that advisor first (Q5)."""
        if row.state != life.State.ACTIVE or row.seat == VOICE or row.lent_to is not None:
            return
        if all(queue.id != row.queue for queue in self.site.queues):
            return
        since = (row.since or row.opened_at).timestamp()
        enqueue = replace(self.enqueue_step(row, row.queue or "", since), related=row.advisor)
        decisions = self.step(enqueue)
        self.emit(T.REQUEUED, {"reason": reason}, interaction=row.id)
        self.decided(decisions)

    def tell_enqueued(
        self,
        row: InteractionRow,
        queue: str,
        priority: int | None,
        since: float,
        needs: list[Any],
        language: str | None,
        overflow_from: str | None = None,
    ) -> None:
        data = {
            "queue": queue,
            "priority": priority,
            "since": since,
            "needs": needs,
            "language": language,
            "overflow_from": overflow_from,
        }
        self.emit(T.ENQUEUED, data, interaction=row.id)

    def interaction(self, id_: UUID) -> InteractionRow:
        row = self.rows.find(InteractionRow, id_)
        if row is None:
            raise Refused("unknown_interaction")
        return row

    def alive(self, id_: UUID, told: Input) -> InteractionRow:
        """The interaction, if its table lets this happen now."""
        row = self.interaction(id_)
        if life.after(life.State(row.state), told) is None:
            raise Refused("over" if row.state in FINAL else "not_now")
        return row

    def case_file(self, id_: UUID) -> CaseRow:
        row = self.rows.find(CaseRow, id_)
        if row is None:
            raise Refused("unknown_case")
        return row

    def person(self, contact: UUID) -> str | None:
        """Whom the distribution must not serve twice at once; nobody in particular while several fit."""
        row = self.rows.find(ContactRow, contact)
        return None if row is None or row.provisional else str(root(contact, self.rows))

    def priority(self, told: Enqueued, contact: UUID) -> int | None:
        """What the tree says, else the queue's (None); above that by the site's measure for a VIP (Q1)."""
        if not self.is_vip(contact):
            return told.priority
        return self._base(told.priority, told.queue) + self.site.vip_priority

    def _base(self, stated: int | None, queue: str | None) -> int:
        found = next((each for each in self.site.queues if each.id == queue), None)
        return stated if stated is not None else found.priority if found is not None else 0

    def is_vip(self, contact: UUID) -> bool:
        members = self.memory.members(root(contact, self.rows))
        return bool(self.site.vip_priority) and any(self.memory.vips.get(member) for member in members)

    def apart(self, decisions: list[steps.Decision], id_: UUID) -> list[steps.Decision]:
        """Tells the ends of the interaction's own offers; returns the other decisions, to be told after its event."""
        own = str(id_)
        rest: list[steps.Decision] = []
        for decision in decisions:
            if isinstance(decision, steps.OfferEnded) and decision.interaction == own:
                self._told_offer_ended(decision)
            elif isinstance(decision, steps.SeatReturned) and decision.interaction == own:
                self._told_seat_returned(decision)
            elif (
                not isinstance(decision, steps.WrapupStarted | steps.WrapupEnded)
                or decision.interaction != own
            ):
                rest.append(decision)
        return rest

    def withdraw(self, id_: UUID) -> list[steps.Decision]:
        """Out of the distribution without wrap-up, whatever it was doing."""
        own = str(id_)
        return self.step(steps.Withdraw(own)) + self.step(steps.WrapupDone(own))

    def abandon(self, row: InteractionRow) -> None:
        """The customer has left before anybody had it."""
        rest = self.apart(self.withdraw(row.id), row.id)
        waited_s = (self.at - row.since).total_seconds() if row.since is not None else 0.0
        self.emit(
            T.ABANDONED, {"waited_s": waited_s, "in": row.state, "queue": row.queue}, interaction=row.id
        )
        self.decided(rest)

    def new_case(
        self, id_: UUID, contact: UUID, *, provisional: bool, follows: UUID | None, subject: str = ""
    ) -> UUID:
        self.last_case += 1
        data = {
            "number": self.last_case,
            "provisional": provisional,
            "follows": str(follows) if follows is not None else None,
        }
        self.emit(T.CASE_OPENED, data, case=id_, contact=contact)
        self.side("case_data", id_, subject=subject)
        return id_

    def new_contact(self, id_: UUID, *, provisional: bool, draft: bool) -> UUID:
        self.emit(T.CONTACT_CREATED, {"provisional": provisional, "draft": draft}, contact=id_)
        self.side("contact_made", id_)
        self.memory.whole.add(id_)
        return id_

    def new_address(self, contact: UUID, kind: str, value: str, raw: str) -> UUID:
        id_ = self.ids()
        self.emit(T.ADDRESS_ADDED, {"address": str(id_), "kind": kind}, contact=contact)
        self.side("address_data", id_, contact=contact, kind=kind, value=value, raw=raw)
        self.memory.owners.setdefault((kind, value), {})[contact] = id_
        self.memory.values[id_] = (kind, value)
        return id_

    def surviving(self, case: CaseRow) -> CaseRow:
        """The case that a merged one is part of now (F6)."""
        while case.merged_into is not None:
            case = self.rows.get(CaseRow, case.merged_into)
        return case

    def same_case(self, one: UUID, other: UUID) -> bool:
        """Whether they are one by now (F6)."""
        return (
            self.surviving(self.rows.get(CaseRow, one)).id == self.surviving(self.rows.get(CaseRow, other)).id
        )

    def which_case(
        self, case: UUID | None, contact: UUID, subject: str = "", *, reopens: bool = True
    ) -> UUID:
        """For a new interaction: the stated one, else by the contact's cases. Opened, or reopened, as needed."""
        if case is not None:
            stated = self.surviving(self.rows.get(CaseRow, case))
            if reopens and stated.closed_at is not None:
                self.emit(T.CASE_REOPENED, {"by": "interaction"}, case=stated.id, contact=stated.contact)
            return stated.id
        if self.rows.get(ContactRow, contact).provisional:
            return self.new_case(self.ids(), contact, provisional=True, follows=None, subject=subject)
        own = {
            one.id: one
            for member in self.memory.members(root(contact, self.rows))
            for each in self.memory.cases_of(member)
            if self.rows.get(CaseRow, each).contact == member
            for one in [self.surviving(self.rows.get(CaseRow, each))]
        }
        choice = case_rules.choose(own.values(), self.at, self.site.reopen_within_h)
        if choice.case is None:
            return self.new_case(
                self.ids(), contact, provisional=choice.provisional, follows=choice.follows, subject=subject
            )
        if reopens and choice.reopened:
            self.emit(T.CASE_REOPENED, {"by": "interaction"}, case=choice.case, contact=contact)
        return choice.case

    def wrapup_code(self, id_: str | None) -> WrapupCode | None:
        code = next((code for code in self.site.wrapup_codes if code.id == id_), None)
        if id_ is not None and code is None:
            raise Refused("unknown_code")
        return code

    def solve(self, case: CaseRow, by: str) -> None:
        """A wrap-up code said that the matter is settled."""
        if case.state in case_rules.LIVE:
            data = {"state": CaseState.SOLVED.value, "subject": False, "by": by}
            self.emit(T.CASE_CHANGED, data, case=case.id, contact=case.contact)

    def note(self, id_: UUID, case: CaseRow, text: str, by: str, interaction: UUID | None) -> None:
        data = {"note": str(id_), "by": by}
        self.emit(T.NOTE_ADDED, data, interaction=interaction, case=case.id, contact=case.contact)
        self.side("note_data", id_, text=text)

    def set_priority(self, row: InteractionRow, priority: int, by: str) -> None:
        decisions = self.step(steps.PrioritySet(str(row.id), priority))
        self.emit(T.PRIORITY_CHANGED, {"priority": priority, "by": by}, interaction=row.id)
        self.decided(decisions)


_TELLERS: dict[type[Any], Callable[[Ledger, Any], None]] = {
    steps.Offered: Ledger._told_offered,
    steps.OfferEnded: Ledger._told_offer_ended,
    steps.WrapupEnded: Ledger._told_wrapup_ended,
    steps.Paused: Ledger._told_paused,
    steps.PauseEnded: Ledger._told_pause_ended,
    steps.ClosingReached: Ledger._told_closing,
    steps.BreachForecast: Ledger._told_breach,
    steps.Overflowed: Ledger._told_overflowed,
    steps.SeatLent: Ledger._told_seat_lent,
    steps.SeatReturned: Ledger._told_seat_returned,
}


def word(why: str) -> str:
    """A reason of the distribution as a stable word."""
    return why.replace(" ", "_")
