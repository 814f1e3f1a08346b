"""The book: the desk's pure half. Submissions and time go in; events, rows and what must be stored come out.

Rule 1: whatever a submission needs is in the memory before it is handled; handling never waits.
Rule 2: a submission is refused before its first event or not at all; what is refused changes nothing.
Rule 3: rows change only by `project`; the distribution changes only by `step`, and each decision becomes its event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from routing import case as case_rules
from routing import interaction as life
from routing import steps
from routing.distribution import Distribution
from routing.explain import to_json
from routing.identity import normalise, persons, refuse_merge, root, sort_name
from routing.interaction import Input
from routing.memory import Done, Loaded, Memory
from routing.models import (
    FINAL,
    AdvisorLost,
    CallFailed,
    CaseChanged,
    CaseChosen,
    CaseCreated,
    CaseState,
    Connected,
    ContactChanged,
    ContactChosen,
    ContactsMerged,
    CustomerLeft,
    Enqueued,
    Event,
    FactsLearned,
    HoldChanged,
    Ids,
    InteractionOpened,
    Interrupted,
    MergeUndone,
    NodeLeft,
    NoteWritten,
    OfferAccepted,
    OfferRefused,
    PopShown,
    Presence,
    PresenceSet,
    PriorityChanged,
    ReachChanged,
    RecordingStored,
    State,
    Submission,
    T,
    TalkEnded,
    TreeEnded,
    TreeEntered,
    WrapupDone,
    WrapupExtended,
)
from routing.projection import (
    AdvisorRow,
    CaseRow,
    ContactRow,
    InteractionRow,
    MergeRow,
    NoteRow,
    OfferRow,
    ReachRow,
    RecordingRow,
    Row,
    Rows,
    StepRow,
    key_of,
    project,
)
from routing.site import Need, Site

NEVER_READ = (StepRow, NoteRow, RecordingRow)  # written, never needed for a decision
VOICE = "voice"
TOLD_BUSY = frozenset({"busy", "not_registered", "failed", "no_answer"})  # a miss, not a refusal (Q16)


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


S = TypeVar("S", bound=Submission)


class Book:
    """One organisation's book. `now` never goes back: an earlier one counts as the latest."""

    def __init__(self, organisation: UUID, site: Site, ids: Ids) -> None:
        self.organisation = organisation
        self.site = site
        self.memory = Memory(site.country)
        self.last_seq = 0
        self.distribution = Distribution()
        self._ids = ids
        self._last_case = 0
        self._now = datetime.fromtimestamp(0, UTC)
        self._unix = 0.0
        self._batch = Batch()
        self._offer_ids: dict[int, UUID] = {}
        self._offer_numbers: dict[UUID, int] = {}
        self._handlers: dict[type[Submission], Callable[[Any], None]] = {
            InteractionOpened: self._interaction_opened,
            TreeEntered: self._tree_entered,
            NodeLeft: self._node_left,
            FactsLearned: self._facts_learned,
            Enqueued: self._enqueued,
            CustomerLeft: self._customer_left,
            TreeEnded: self._tree_ended,
            OfferAccepted: self._offer_accepted,
            OfferRefused: self._offer_refused,
            PopShown: self._pop_shown,
            Connected: self._connected,
            HoldChanged: self._hold_changed,
            TalkEnded: self._talk_ended,
            AdvisorLost: self._advisor_lost,
            CallFailed: self._call_failed,
            Interrupted: self._interrupted,
            WrapupDone: self._wrapup_done,
            WrapupExtended: self._wrapup_extended,
            PresenceSet: self._presence_set,
            ReachChanged: self._reach_changed,
            RecordingStored: self._recording_stored,
            NoteWritten: self._note_written,
            CaseCreated: self._case_created,
            CaseChanged: self._case_changed,
            ContactChosen: self._contact_chosen,
            CaseChosen: self._case_chosen,
            ContactChanged: self._contact_changed,
            ContactsMerged: self._contacts_merged,
            MergeUndone: self._merge_undone,
            PriorityChanged: self._priority_changed,
        }

    @property
    def rows(self) -> Rows:
        return self.memory.rows

    def forget(self) -> None:
        """Keep only what live interactions need. Call it only when nothing waits to be stored."""
        assert not self._batch
        self.memory.forget()
        open_offers = {row.id for row in self.rows.all(OfferRow)}
        self._offer_ids = {number: id_ for number, id_ in self._offer_ids.items() if id_ in open_offers}
        self._offer_numbers = {id_: number for number, id_ in self._offer_ids.items()}

    def handle(self, told: Submission, now: datetime) -> Done:
        """Decide one submission. Its events and rows wait in the batch; a known key changes nothing."""
        known = self.memory.known(told.key)
        if known is not None:
            return known
        self._tell_time(now)
        first = self.last_seq + 1
        refused = None
        try:
            if told.organisation != self.organisation:
                raise Refused("other_organisation")
            self._handlers[type(told)](told)
        except Refused as error:
            assert self.last_seq == first - 1, "refused after its first event"
            refused = error.why
        done = Done(told.key, self._now, first, self.last_seq, refused)
        self.memory.remember(done)
        self._batch.done.append(done)
        return done

    def tick(self, now: datetime) -> None:
        self._tell_time(now)
        self._decided(self.distribution.step(steps.Tick(), self._unix))

    def deadline(self) -> float | None:
        """Unix seconds at which `tick` must come."""
        return self.distribution.deadline()

    def take(self) -> Batch:
        """What must be stored now."""
        batch, self._batch = self._batch, Batch()
        return batch

    def _tell_time(self, now: datetime) -> None:
        if now > self._now:
            self._now, self._unix = now, now.timestamp()

    def _step(self, event: steps.Event) -> list[steps.Decision]:
        return self.distribution.step(event, self._unix)

    def set_site(self, site: Site, now: datetime, *, version: int | None = None, by: str = "") -> None:
        """New rules. With `version`, a SITE_APPLIED is told."""
        self._tell_time(now)
        former, self.site = self.site, site
        self.memory.country = site.country
        if version is not None:
            self._emit(T.SITE_APPLIED, {"version": version, "by": by})
        decisions = self._step(steps.RulesSet(site.queues, site.hours, site.time_zone))
        there = {advisor.id for advisor in site.advisors}
        for gone in former.advisors:
            if gone.id not in there:
                decisions += self._step(steps.AdvisorGone(gone.id))
        for advisor in site.advisors:
            decisions += self._step(steps.AdvisorSet(advisor))
        self._decided(decisions)

    def restore(self, loaded: Loaded, now: datetime, *, mine: frozenset[UUID], first: bool) -> None:
        """Take up what was going on: `loaded` has every live interaction with its case, contacts and open offer.

        Voice of a former process (not in `mine`) is lost and told as interrupted; others go back to their old
        places; wrap-ups go on. `first`: no phone is registered yet.
        """
        self.memory.load(loaded)
        self.last_seq, self._last_case = loaded.last_seq, loaded.last_case
        self._tell_time(now)
        self.set_site(self.site, now)
        advisors = {advisor.id for advisor in self.site.advisors}
        for state in [row for row in self.rows.all(AdvisorRow) if row.advisor in advisors]:
            self._decided(self._step(steps.PresenceSet(state.advisor, state.presence, state.reason)))
        for reach in list(self.rows.all(ReachRow)):
            if first and reach.reachable:
                self._emit(
                    T.REACH_CHANGED, {"channel": reach.channel, "reachable": False}, advisor=reach.advisor
                )
            elif reach.reachable and reach.advisor in advisors:
                self._decided(self._step(steps.ReachSet(reach.advisor, reach.channel, True)))
        queues = {queue.id for queue in self.site.queues}
        kept: list[steps.Kept] = []
        for row in sorted(self.rows.all(InteractionRow), key=lambda row: (row.opened_at, row.id)):
            if row.state in FINAL:
                continue
            if row.state == State.OFFERED:
                assert row.offer is not None
                assert row.advisor is not None
                self._offer_over(row.id, row.offer, row.advisor, "cancelled", "restart")
                row = self.rows.get(InteractionRow, row.id)
            working = row.state in (State.ACTIVE, State.WRAPUP) or (
                row.state == State.OPENED and row.advisor is not None
            )
            lost = row.channel == VOICE and row.id not in mine and row.state != State.WRAPUP
            if (
                lost
                or (working and row.advisor not in advisors)
                or (row.state == State.WAITING and row.queue not in queues)
            ):
                self._emit(
                    T.INTERRUPTED, {"reason": "restart" if lost else "site_changed"}, interaction=row.id
                )
            elif row.state == State.WAITING or working:
                kept.append(self._kept(row))
        idle = {
            row.advisor: row.idle_since.timestamp() for row in self.rows.all(AdvisorRow) if row.idle_since
        }
        misses = {row.advisor: row.misses for row in self.rows.all(AdvisorRow) if row.misses}
        known = {advisor: at for advisor, at in idle.items() if advisor in advisors}
        missed = {advisor: n for advisor, n in misses.items() if advisor in advisors}
        self._decided(self._step(steps.Restore(tuple(kept), 1, known, missed)))

    def _kept(self, row: InteractionRow) -> steps.Kept:
        state = "active" if row.state == State.OPENED else row.state
        until = row.wrapup_until.timestamp() if row.wrapup_until is not None else None
        enqueue = self._enqueue_step(row, row.queue or "", (row.since or row.opened_at).timestamp())
        return steps.Kept(
            enqueue,
            state,
            row.advisor,
            until if state == State.WRAPUP else None,
            row.extended,
            tuple(row.avoid),
        )

    def _enqueue_step(self, row: InteractionRow, queue: str, since: float) -> steps.Enqueue:
        case = self.rows.get(CaseRow, row.case_id)
        return steps.Enqueue(
            str(row.id),
            queue,
            row.channel,
            since,
            row.priority,
            tuple(Need(((skill, level),)) for skill, level in row.needs),
            contact=self._person(row.contact),
            related=case.advisor,
            language=row.language,
            epoch=row.epoch,
        )

    def _emit(
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
            id=self._ids(),
            at=self._now,
            organisation=self.organisation,
            type=type_,
            interaction=interaction,
            case=case,
            contact=contact,
            advisor=advisor,
            data=data,
        )
        batch = self._batch
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

    def _side(self, statement: str, key: Any, **values: Any) -> None:
        """Something for a side table; a later value for the same key wins, None leaves what is there."""
        row = self._batch.sides.setdefault(statement, {}).setdefault(key, {})
        for name, value in values.items():
            if value is not None or name not in row:
                row[name] = value

    def _decided(self, decisions: Iterable[steps.Decision]) -> None:
        for decision in decisions:
            teller = _TELLERS.get(type(decision))
            if teller is not None:
                teller(self, decision)

    def _told_offered(self, it: steps.Offered) -> None:
        interaction = UUID(it.interaction)
        offer = self._ids()
        self._offer_ids[it.offer] = offer
        self._offer_numbers[offer] = it.offer
        data = {
            "offer": str(offer),
            "queue": it.queue,
            "epoch": it.epoch,
            "deadline": it.deadline,
            "why": to_json(it.why),
        }
        self._emit(T.OFFERED, data, interaction=interaction, advisor=it.advisor)

    def _told_offer_ended(self, it: steps.OfferEnded) -> None:
        interaction = UUID(it.interaction)
        offer = self._offer_ids.pop(it.offer)
        del self._offer_numbers[offer]
        self._offer_over(interaction, offer, it.advisor, it.how, it.reason)
        if it.how == "accepted":
            data = {"offer": str(offer), "epoch": it.epoch}
            self._emit(T.ACCEPTED, data, interaction=interaction, advisor=it.advisor)

    def _offer_over(self, interaction: UUID, offer: UUID, advisor: str, how: str, reason: str) -> None:
        data = {"offer": str(offer), "how": how, "reason": reason or None}
        self._emit(T.OFFER_ENDED, data, interaction=interaction, advisor=advisor)

    def _told_wrapup_ended(self, it: steps.WrapupEnded) -> None:
        if it.how == "expired":
            data = {"outcome": "served", "code": None, "by": None}
            self._emit(T.ENDED, data, interaction=UUID(it.interaction), advisor=it.advisor)

    def _told_paused(self, it: steps.Paused) -> None:
        data = {"presence": "pause", "reason": it.reason, "by": "missed"}
        self._emit(T.PRESENCE_CHANGED, data, advisor=it.advisor)

    def _told_pause_ended(self, it: steps.PauseEnded) -> None:
        data = {"presence": it.presence, "reason": None, "by": "shift"}
        self._emit(T.PRESENCE_CHANGED, data, advisor=it.advisor)

    def _told_closing(self, it: steps.ClosingReached) -> None:
        data = {"queue": it.queue, "how": "closing", "rule": it.rule}
        self._emit(T.LEFT_QUEUE, data, interaction=UUID(it.interaction))

    def _told_breach(self, it: steps.BreachForecast) -> None:
        self._emit(T.BREACH_FORECAST, {"queue": it.queue, "channel": it.channel, "in_s": it.in_s})

    def _told_overflowed(self, it: steps.Overflowed) -> None:
        row = self.rows.get(InteractionRow, UUID(it.interaction))
        assert row.since is not None
        self._tell_enqueued(
            row, it.to_queue, row.priority, row.since.timestamp(), row.needs, None, it.from_queue
        )

    def _tell_enqueued(
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
        self._emit(T.ENQUEUED, data, interaction=row.id)

    def _interaction(self, id_: UUID) -> InteractionRow:
        row = self.rows.find(InteractionRow, id_)
        if row is None:
            raise Refused("unknown_interaction")
        return row

    def _alive(self, id_: UUID, told: Input) -> InteractionRow:
        """The interaction, if its table lets this happen now."""
        row = self._interaction(id_)
        if life.after(life.State(row.state), told) is None:
            raise Refused("over" if row.state in FINAL else "not_now")
        return row

    def _case(self, id_: UUID) -> CaseRow:
        row = self.rows.find(CaseRow, id_)
        if row is None:
            raise Refused("unknown_case")
        return row

    def _person(self, contact: UUID) -> str | None:
        """Whom the distribution must not serve twice at once; nobody in particular while several fit."""
        row = self.rows.find(ContactRow, contact)
        return None if row is None or row.provisional else str(root(contact, self.rows))

    def _priority(self, told: Enqueued, contact: UUID) -> int | None:
        """What the tree says, else the queue's (None); above that by the site's measure for a VIP (Q1)."""
        if not self._is_vip(contact):
            return told.priority
        return self._base(told.priority, told.queue) + self.site.vip_priority

    def _base(self, stated: int | None, queue: str | None) -> int:
        found = next((each for each in self.site.queues if each.id == queue), None)
        return stated if stated is not None else found.priority if found is not None else 0

    def _is_vip(self, contact: UUID) -> bool:
        members = self.memory.members(root(contact, self.rows))
        return bool(self.site.vip_priority) and any(self.memory.vips.get(member) for member in members)

    def _mark_vip(self, contact: UUID, vip: bool, by: str) -> None:
        """Those of this person who wait already are sorted anew at once."""
        before = self._is_vip(contact)
        self.memory.vips[contact] = vip
        if self._is_vip(contact) == before:
            return
        more = self.site.vip_priority if vip else -self.site.vip_priority
        person = root(contact, self.rows)
        for row in list(self.rows.all(InteractionRow)):
            if row.state in (State.WAITING, State.OFFERED) and root(row.contact, self.rows) == person:
                self._set_priority(row, self._base(row.priority, row.queue) + more, by)

    def _apart(self, decisions: list[steps.Decision], id_: UUID) -> list[steps.Decision]:
        """Tells the ends of the interaction's own offers; returns the other decisions, to be told after its event."""
        own = str(id_)
        rest: list[steps.Decision] = []
        for decision in decisions:
            if isinstance(decision, steps.OfferEnded) and decision.interaction == own:
                self._told_offer_ended(decision)
            elif (
                not isinstance(decision, steps.WrapupStarted | steps.WrapupEnded)
                or decision.interaction != own
            ):
                rest.append(decision)
        return rest

    def _withdraw(self, id_: UUID) -> list[steps.Decision]:
        """Out of the distribution without wrap-up, whatever it was doing."""
        own = str(id_)
        return self._step(steps.Withdraw(own)) + self._step(steps.WrapupDone(own))

    def _new_case(
        self, id_: UUID, contact: UUID, *, provisional: bool, follows: UUID | None, subject: str = ""
    ) -> UUID:
        self._last_case += 1
        data = {
            "number": self._last_case,
            "provisional": provisional,
            "follows": str(follows) if follows is not None else None,
        }
        self._emit(T.CASE_OPENED, data, case=id_, contact=contact)
        self._side("case_data", id_, subject=subject)
        return id_

    def _new_contact(self, id_: UUID, *, provisional: bool, draft: bool) -> UUID:
        self._emit(T.CONTACT_CREATED, {"provisional": provisional, "draft": draft}, contact=id_)
        self._side("contact_made", id_)
        self.memory.whole.add(id_)
        return id_

    def _new_address(self, contact: UUID, kind: str, value: str, raw: str) -> UUID:
        id_ = self._ids()
        self._emit(T.ADDRESS_ADDED, {"address": str(id_), "kind": kind}, contact=contact)
        self._side("address_data", id_, contact=contact, kind=kind, value=value, raw=raw)
        self.memory.owners.setdefault((kind, value), {})[contact] = id_
        return id_

    def _interaction_opened(self, told: InteractionOpened) -> None:
        if self.rows.find(InteractionRow, told.interaction) is not None:
            raise Refused("known_interaction")
        if told.call is not None and told.call in self.memory.calls:
            raise Refused("known_call")
        if told.case is not None:
            self._case(told.case)
        if told.contact is not None and self.rows.find(ContactRow, told.contact) is None:
            raise Refused("unknown_contact")
        assigned = self._assigned(told)
        kind, value = told.address_kind, normalise(told.address_kind, told.address, self.site.country)
        contact, address, matches = self._who(told, kind, value)
        case = self._which_case(told, contact)
        data = {
            "channel": told.channel,
            "direction": told.direction,
            "call": told.call,
            "dialled": told.dialled,
            "trunk": told.trunk,
            "attestation": told.attestation,
            "address": str(address) if address is not None else None,
            "matches": matches,
        }
        self._emit(T.INTERACTION_OPENED, data, interaction=told.interaction, case=case, contact=contact)
        self._side("interaction_data", told.interaction, received=told.address, name=told.name)
        if told.call is not None:
            self.memory.calls.add(told.call)
        for decision in assigned:
            if isinstance(decision, steps.Assigned) and decision.interaction == str(told.interaction):
                data = {"epoch": decision.epoch}
                self._emit(T.ASSIGNED, data, interaction=told.interaction, advisor=decision.advisor)
            else:
                self._decided([decision])

    def _assigned(self, told: InteractionOpened) -> list[steps.Decision]:
        """For click-to-call: the advisor's seat, taken without a queue."""
        if told.advisor is None:
            return []
        case = told.case
        whose = told.contact or (self.rows.get(CaseRow, case).contact if case is not None else None)
        person = self._person(whose) if whose is not None else None
        decisions = self._step(steps.Assign(str(told.interaction), told.advisor, told.channel, person))
        for decision in decisions:
            if isinstance(decision, steps.Denied):
                raise Refused(_word(decision.why))
        return decisions

    def _who(self, told: InteractionOpened, kind: str, value: str) -> tuple[UUID, UUID | None, int]:
        """(contact, address, how many persons fit); made where there is none, provisional where several fit."""
        owners = self.memory.owners.get((kind, value), {}) if value else {}
        known = told.contact
        if known is None and told.case is not None:
            known = self.rows.get(CaseRow, told.case).contact
        if known is not None:
            person = root(known, self.rows)
            for owner, address in owners.items():
                if root(owner, self.rows) == person:
                    return owner, address, 1
            made = (
                self._new_address(known, kind, value, told.address)
                if value and told.direction == "out"
                else None
            )
            return known, made, 1
        people = persons(owners, self.rows)
        if len(people) == 1:
            (owner,) = people.values()
            return owner, owners[owner], 1
        contact = self._new_contact(self._ids(), provisional=bool(people) or not value, draft=True)
        made = self._new_address(contact, kind, value, told.address) if value else None
        return contact, made, len(people)

    def _which_case(self, told: InteractionOpened, contact: UUID) -> UUID:
        if told.case is not None:
            case = self.rows.get(CaseRow, told.case)
            if case.closed_at is not None:
                self._emit(T.CASE_REOPENED, {"by": "interaction"}, case=case.id, contact=case.contact)
            return case.id
        if self.rows.get(ContactRow, contact).provisional:
            return self._new_case(self._ids(), contact, provisional=True, follows=None)
        person = root(contact, self.rows)
        own = [
            self.rows.get(CaseRow, case)
            for member in self.memory.members(person)
            for case in self.memory.cases_of(member)
            if self.rows.get(CaseRow, case).contact == member
        ]
        choice = case_rules.choose(own, self._now, self.site.reopen_within_h)
        if choice.case is None:
            return self._new_case(
                self._ids(), contact, provisional=choice.provisional, follows=choice.follows
            )
        if choice.reopened:
            self._emit(T.CASE_REOPENED, {"by": "interaction"}, case=choice.case, contact=contact)
        return choice.case

    def _tree_entered(self, told: TreeEntered) -> None:
        row = self._interaction(told.interaction)
        if row.state not in (State.OPENED, State.QUALIFYING):
            raise Refused("over" if row.state in FINAL else "not_now")
        self._emit(T.TREE_ENTERED, {"tree": told.tree, "version": told.version}, interaction=row.id)

    def _node_left(self, told: NodeLeft) -> None:
        row = self._interaction(told.interaction)
        data = {
            "tree": row.tree or "",
            "version": row.tree_version or 0,
            "node": told.node,
            "exit": told.exit,
            "seconds": told.seconds,
        }
        event = self._emit(T.NODE_LEFT, data, interaction=row.id)
        if told.keys:
            self._side("path_data", (row.id, event.seq), keys=told.keys)

    def _facts_learned(self, told: FactsLearned) -> None:
        row = self._interaction(told.interaction)
        facts = dict(told.facts)
        language = facts.get("language")
        data = {"names": sorted(facts), "language": language if isinstance(language, str) else None}
        self._emit(T.FACTS_LEARNED, data, interaction=row.id)
        side = self._batch.sides.setdefault("facts", {}).setdefault(row.id, {"facts": {}})
        side["facts"].update(facts)

    def _enqueued(self, told: Enqueued) -> None:
        row = self._alive(told.interaction, Input.ENQUEUE)
        since = row.since.timestamp() if row.since is not None else self._unix
        needs = [[skill, level] for skill, level in told.needs]
        case = self.rows.get(CaseRow, row.case_id)
        priority = self._priority(told, row.contact)
        decisions = self._step(
            steps.Enqueue(
                str(row.id),
                told.queue,
                row.channel,
                since,
                priority,
                tuple(Need(((skill, level),)) for skill, level in told.needs),
                contact=self._person(row.contact),
                related=case.advisor,
                language=told.language or row.language,
                epoch=row.epoch,
            )
        )
        for decision in decisions:
            if isinstance(decision, steps.Denied):
                raise Refused(_word(decision.why))
        own = str(row.id)
        if not any(isinstance(it, steps.ClosingReached) and it.interaction == own for it in decisions):
            self._tell_enqueued(row, told.queue, priority, since, needs, told.language)
        self._decided(decisions)

    def _customer_left(self, told: CustomerLeft) -> None:
        row = self._interaction(told.interaction)
        if told.how != "hangup":
            if row.state not in (State.WAITING, State.OFFERED):
                raise Refused("over" if row.state in FINAL else "not_now")
            rest = self._apart(self._step(steps.Withdraw(str(row.id))), row.id)
            data = {"queue": row.queue, "how": told.how, "rule": None}
            self._emit(T.LEFT_QUEUE, data, interaction=row.id)
            self._decided(rest)
            return
        self._alive(row.id, Input.LEAVE)
        if row.state == State.ACTIVE:
            self._finish(row, "customer")
            return
        where = row.state
        rest = self._apart(self._withdraw(row.id), row.id)
        waited = (self._now - row.since).total_seconds() if row.since is not None else 0.0
        self._emit(T.ABANDONED, {"waited_s": waited, "in": where, "queue": row.queue}, interaction=row.id)
        self._decided(rest)

    def _tree_ended(self, told: TreeEnded) -> None:
        row = self._interaction(told.interaction)
        if row.state not in (State.OPENED, State.QUALIFYING):
            raise Refused("over" if row.state in FINAL else "not_now")
        self._emit(T.ENDED, {"outcome": told.outcome, "code": None, "by": "tree"}, interaction=row.id)

    def _offer(self, id_: UUID) -> tuple[OfferRow, int]:
        offer = self.rows.find(OfferRow, id_)
        if offer is None:
            raise Refused("unknown_offer")
        number = self._offer_numbers.get(id_)
        if offer.how is not None or number is None:
            raise Refused("offer_over")
        return offer, number

    def _offer_accepted(self, told: OfferAccepted) -> None:
        _, number = self._offer(told.offer)
        self._decided(self._step(steps.Accept(number)))

    def _offer_refused(self, told: OfferRefused) -> None:
        _, number = self._offer(told.offer)
        missed = told.reason in TOLD_BUSY
        self._decided(self._step((steps.Miss if missed else steps.Refuse)(number, told.reason)))

    def _pop_shown(self, told: PopShown) -> None:
        offer = self.rows.find(OfferRow, told.offer)
        if offer is None:
            raise Refused("unknown_offer")
        if offer.shown_ms is not None:
            raise Refused("shown_already")
        data = {"offer": str(offer.id), "after_ms": told.after_ms, "missed": told.missed}
        self._emit(T.POP_SHOWN, data, interaction=offer.interaction, advisor=offer.advisor)

    def _connected(self, told: Connected) -> None:
        row = self._interaction(told.interaction)
        if row.state != State.OPENED or row.advisor is None:
            raise Refused("over" if row.state in FINAL else "not_now")
        self._emit(T.CONNECTED, {}, interaction=row.id)

    def _hold_changed(self, told: HoldChanged) -> None:
        row = self._interaction(told.interaction)
        if row.state != State.ACTIVE:
            raise Refused("over" if row.state in FINAL else "not_now")
        if row.held == told.held:
            raise Refused("unchanged")
        self._emit(T.HELD if told.held else T.RESUMED, {}, interaction=row.id)

    def _finish(self, row: InteractionRow, by: str) -> None:
        own = str(row.id)
        decisions = self._step(steps.Finish(own))
        until = next(
            (it.until for it in decisions if isinstance(it, steps.WrapupStarted) and it.interaction == own),
            None,
        )
        rest = self._apart(decisions, row.id)
        self._emit(
            T.TALK_ENDED, {"by": by, "until": until if until is not None else self._unix}, interaction=row.id
        )
        if until is None:
            self._emit(T.ENDED, {"outcome": "served", "code": None, "by": None}, interaction=row.id)
        self._decided(rest)

    def _talk_ended(self, told: TalkEnded) -> None:
        row = self._alive(told.interaction, Input.FINISH)
        self._finish(row, told.by)

    def _advisor_lost(self, told: AdvisorLost) -> None:
        row = self._alive(told.interaction, Input.RETURN)
        if row.state != State.ACTIVE:
            raise Refused("not_now")
        if row.queue is None:
            self._finish(row, "failure")
            return
        decisions = self._step(steps.Requeue(str(row.id)))
        for decision in decisions:
            if isinstance(decision, steps.Denied):
                self._finish(row, "failure")
                return
        self._emit(T.REQUEUED, {"reason": told.reason}, interaction=row.id)
        self._decided(decisions)

    def _call_failed(self, told: CallFailed) -> None:
        row = self._interaction(told.interaction)
        if row.state != State.OPENED:
            raise Refused("over" if row.state in FINAL else "not_now")
        rest = self._apart(self._withdraw(row.id), row.id)
        self._emit(T.ENDED, {"outcome": told.reason, "code": None, "by": None}, interaction=row.id)
        self._decided(rest)

    def _interrupted(self, told: Interrupted) -> None:
        row = self._alive(told.interaction, Input.INTERRUPT)
        rest = self._apart(self._withdraw(row.id), row.id)
        self._emit(T.INTERRUPTED, {"reason": told.reason}, interaction=row.id)
        self._decided(rest)

    def _wrapup_done(self, told: WrapupDone) -> None:
        row = self._interaction(told.interaction)
        code = next((code for code in self.site.wrapup_codes if code.id == told.code), None)
        if told.code is not None and code is None:
            raise Refused("unknown_code")
        late = row.state == State.ENDED and row.advisor is not None and told.by is not None
        if row.state != State.WRAPUP and not late:
            raise Refused("over" if row.state in FINAL else "not_now")
        case = self.rows.get(CaseRow, row.case_id)
        if told.note.strip():
            self._note(self._ids(), case, told.note, told.by or row.advisor or "", row.id)
        decisions: list[steps.Decision] = []
        if late:
            if told.code is not None and told.code != row.code:
                self._emit(T.WRAPUP_CODED, {"code": told.code, "by": told.by}, interaction=row.id)
        else:
            decisions = self._apart(self._step(steps.WrapupDone(str(row.id))), row.id)
            data = {"outcome": "served", "code": told.code, "by": told.by}
            self._emit(T.ENDED, data, interaction=row.id)
        if code is not None and code.solves and case.state in case_rules.LIVE:
            solved = {"state": CaseState.SOLVED.value, "subject": False, "by": told.by or ""}
            self._emit(T.CASE_CHANGED, solved, case=case.id, contact=case.contact)
        self._decided(decisions)

    def _wrapup_extended(self, told: WrapupExtended) -> None:
        row = self._interaction(told.interaction)
        if row.state != State.WRAPUP:
            raise Refused("over" if row.state in FINAL else "not_now")
        if row.extended:
            raise Refused("extended_already")
        decisions = self._step(steps.WrapupExtended(str(row.id)))
        until = next((it.until for it in decisions if isinstance(it, steps.WrapupStarted)), None)
        if until is None:
            raise Refused("not_now")
        self._emit(T.WRAPUP_EXTENDED, {"until": until}, interaction=row.id)

    def _priority_changed(self, told: PriorityChanged) -> None:
        row = self._interaction(told.interaction)
        if row.state in FINAL:
            raise Refused("over")
        self._set_priority(row, told.priority, told.by)

    def _set_priority(self, row: InteractionRow, priority: int, by: str) -> None:
        decisions = self._step(steps.PrioritySet(str(row.id), priority))
        self._emit(T.PRIORITY_CHANGED, {"priority": priority, "by": by}, interaction=row.id)
        self._decided(decisions)

    def _presence_set(self, told: PresenceSet) -> None:
        if all(advisor.id != told.advisor for advisor in self.site.advisors):
            raise Refused("unknown_advisor")
        row = self.rows.find(AdvisorRow, told.advisor)
        if (
            told.presence == Presence.PAUSE
            and told.reason is not None
            and told.reason not in self.site.pause_reasons
        ):
            raise Refused("unknown_reason")
        presence = told.presence.value
        if row is not None and (row.presence, row.reason) == (presence, told.reason):
            raise Refused("unchanged")
        decisions = self._step(steps.PresenceSet(told.advisor, presence, told.reason))
        data = {"presence": presence, "reason": told.reason, "by": "advisor"}
        self._emit(T.PRESENCE_CHANGED, data, advisor=told.advisor)
        self._decided(decisions)

    def _reach_changed(self, told: ReachChanged) -> None:
        if all(advisor.id != told.advisor for advisor in self.site.advisors):
            raise Refused("unknown_advisor")
        row = self.rows.find(ReachRow, (told.advisor, told.channel))
        if (row is not None and row.reachable) == told.reachable:
            raise Refused("unchanged")
        decisions = self._step(steps.ReachSet(told.advisor, told.channel, told.reachable))
        data = {"channel": told.channel, "reachable": told.reachable}
        self._emit(T.REACH_CHANGED, data, advisor=told.advisor)
        self._decided(decisions)

    def _recording_stored(self, told: RecordingStored) -> None:
        row = self._interaction(told.interaction)
        data = {
            "recording": str(told.recording),
            "duration_ms": told.duration_ms,
            "bytes": told.bytes,
            "complete": told.complete,
        }
        self._emit(T.RECORDING_STORED, data, interaction=row.id)
        self._side("recording_data", told.recording, path=told.path)

    def _note(self, id_: UUID, case: CaseRow, text: str, by: str, interaction: UUID | None) -> None:
        data = {"note": str(id_), "by": by}
        self._emit(T.NOTE_ADDED, data, interaction=interaction, case=case.id, contact=case.contact)
        self._side("note_data", id_, text=text)

    def _note_written(self, told: NoteWritten) -> None:
        if not told.text.strip():
            raise Refused("empty")
        case = self._case(told.case)
        if told.interaction is not None:
            self._interaction(told.interaction)
        self._note(told.note, case, told.text, told.by, told.interaction)

    def _case_created(self, told: CaseCreated) -> None:
        if self.rows.find(CaseRow, told.case) is not None:
            raise Refused("known_case")
        if self.rows.find(ContactRow, told.contact) is None:
            raise Refused("unknown_contact")
        self._new_case(told.case, told.contact, provisional=False, follows=None, subject=told.subject)

    def _case_changed(self, told: CaseChanged) -> None:
        case = self._case(told.case)
        state = told.state.value if told.state is not None and told.state != case.state else None
        if state is None and told.subject is None:
            raise Refused("unchanged")
        if state == CaseState.OPEN and case.closed_at is not None:
            self._emit(T.CASE_REOPENED, {"by": told.by}, case=case.id, contact=case.contact)
            state = None
        if state is not None or told.subject is not None:
            data = {"state": state, "subject": told.subject is not None, "by": told.by}
            self._emit(T.CASE_CHANGED, data, case=case.id, contact=case.contact)
        if told.subject is not None:
            self._side("case_data", case.id, subject=told.subject)

    def _case_chosen(self, told: CaseChosen) -> None:
        row = self._interaction(told.interaction)
        case = self._case(told.case)
        former = self.rows.get(CaseRow, row.case_id)
        if former.id == case.id:
            raise Refused("unchanged")
        if case.closed_at is not None:
            self._emit(T.CASE_REOPENED, {"by": told.by}, case=case.id, contact=case.contact)
        self._emit(T.CASE_CHOSEN, {"from": str(former.id), "by": told.by}, interaction=row.id, case=case.id)
        former = self.rows.get(CaseRow, former.id)
        if former.interactions == 0 and former.notes == 0 and former.closed_at is None:
            data = {"state": CaseState.CLOSED.value, "subject": False, "by": told.by}
            self._emit(T.CASE_CHANGED, data, case=former.id, contact=former.contact)

    def _contact_chosen(self, told: ContactChosen) -> None:
        row = self._interaction(told.interaction)
        if self.rows.find(ContactRow, told.contact) is None:
            raise Refused("unknown_contact")
        if row.contact == told.contact:
            raise Refused("unchanged")
        case = self.rows.get(CaseRow, row.case_id)
        case_too = case.contact == row.contact and case.interactions == 1
        data = {"from": str(row.contact), "by": told.by, "case_too": case_too}
        self._emit(T.CONTACT_CHOSEN, data, interaction=row.id, contact=told.contact)

    def _contact_changed(self, told: ContactChanged) -> None:
        fields = [name for name in ("name", "language", "vip", "company") if getattr(told, name) is not None]
        fresh = self.rows.find(ContactRow, told.contact) is None
        if fresh:
            self._new_contact(told.contact, provisional=False, draft=not told.name)
        person = root(told.contact, self.rows)
        added = []
        for kind, raw in told.add_addresses:
            value = normalise(kind, raw, self.site.country)
            owners = self.memory.owners.get((kind, value), {})
            if (
                value
                and all(root(owner, self.rows) != person for owner in owners)
                and (kind, value) not in added
            ):
                added.append((kind, value))
                self._new_address(told.contact, kind, value, raw)
        if fields:
            self._emit(T.CONTACT_CHANGED, {"fields": fields, "by": told.by}, contact=told.contact)
            self._side(
                "contact_data",
                told.contact,
                name=told.name,
                sort_name=sort_name(told.name) if told.name is not None else None,
                company=told.company,
                language=told.language,
                vip=told.vip,
            )
            if told.vip is not None:
                self._mark_vip(told.contact, told.vip, told.by)
        elif not fresh and not added:
            raise Refused("unchanged")

    def _contacts_merged(self, told: ContactsMerged) -> None:
        why = refuse_merge(told.contact, told.into, self.rows)
        if why is None and self.rows.find(MergeRow, told.merge) is not None:
            why = "known_merge"
        if why is not None:
            raise Refused(why)
        data = {"merge": str(told.merge), "into": str(told.into), "by": told.by, "reason": told.reason}
        self._emit(T.CONTACTS_MERGED, data, contact=told.contact)

    def _merge_undone(self, told: MergeUndone) -> None:
        merge = self.rows.find(MergeRow, told.merge)
        if merge is None:
            raise Refused("unknown_merge")
        if merge.undone_at is not None:
            raise Refused("undone_already")
        data = {"merge": str(told.merge), "by": told.by}
        self._emit(T.MERGE_UNDONE, data, contact=merge.contact)


_TELLERS: dict[type[Any], Callable[[Book, Any], None]] = {
    steps.Offered: Book._told_offered,
    steps.OfferEnded: Book._told_offer_ended,
    steps.WrapupEnded: Book._told_wrapup_ended,
    steps.Paused: Book._told_paused,
    steps.PauseEnded: Book._told_pause_ended,
    steps.ClosingReached: Book._told_closing,
    steps.BreachForecast: Book._told_breach,
    steps.Overflowed: Book._told_overflowed,
}


def _word(why: str) -> str:
    """A reason of the distribution as a stable word."""
    return why.replace(" ", "_")
