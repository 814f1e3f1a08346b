"""The book: the desk's pure half. Submissions and time go in; events, rows and what must be stored come out.

Whatever a submission needs is in the memory before it is handled; handling never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from routing import steps
from routing.identity import normalise, persons, plain, refuse_merge, root, sort_name
from routing.interaction import Input
from routing.ledger import AWAY_S, VOICE, Batch, Ledger, Refused, word
from routing.letters import Letters
from routing.memory import Done, Loaded
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
    ContactIntroduced,
    ContactsMerged,
    CustomerLeft,
    Enqueued,
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
    OfferRow,
    ReachRow,
    ThreadRow,
)
from routing.site import Site

__all__ = ["Batch", "Book", "Refused"]

TOLD_BUSY = frozenset({"busy", "not_registered", "failed", "no_answer"})  # a miss, not a refusal (Q16)


class Book(Ledger):
    """One organisation's book. `now` never goes back: an earlier one counts as the latest."""

    def __init__(self, organisation: UUID, site: Site, ids: Ids) -> None:
        super().__init__(organisation, site, ids)
        self._letters = Letters(self)
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
            ContactIntroduced: self._contact_introduced,
            ContactsMerged: self._contacts_merged,
            MergeUndone: self._merge_undone,
            PriorityChanged: self._priority_changed,
            **self._letters.handlers,
        }

    def forget(self) -> None:
        """Keep only what live interactions need. Call it only when nothing waits to be stored."""
        assert not self.batch
        self.memory.forget()
        open_offers = {row.id for row in self.rows.all(OfferRow)}
        self.offer_ids = {number: id_ for number, id_ in self.offer_ids.items() if id_ in open_offers}
        self.offer_numbers = {id_: number for number, id_ in self.offer_ids.items()}

    def handle(self, told: Submission, now: datetime) -> Done:
        """Decide one submission. Its events and rows wait in the batch; a known key changes nothing."""
        known = self.memory.known(told.key)
        if known is not None:
            return known
        self.tell_time(now)
        first = self.last_seq + 1
        refused = None
        try:
            if told.organisation != self.organisation:
                raise Refused("other_organisation")
            self._handlers[type(told)](told)
        except Refused as error:
            assert self.last_seq == first - 1, "refused after its first event"
            refused = error.why
        done = Done(told.key, self.at, first, self.last_seq, refused)
        self.memory.remember(done)
        self.batch.done.append(done)
        return done

    def tick(self, now: datetime) -> None:
        """What is due by now; the messages of `looked_at` must be loaded."""
        self.tell_time(now)
        self.decided(self.distribution.step(steps.Tick(), self.unix))
        talks = self.looked_at(now)
        self.looks = {advisor: at for advisor, at in self.looks.items() if at > now.timestamp()}
        self._watch(talk for talk in talks if not self.away(talk))
        for talk in self.owed(talk for talk in talks if self.away(talk)):
            self.back(talk)

    def _watch(self, talks: Iterable[InteractionRow]) -> None:
        """They are looked at once their advisor counts as away."""
        for talk in talks:
            at = self.away_at(talk)
            if at is not None and talk.advisor is not None:
                self.looks[talk.advisor] = min(at, self.looks.get(talk.advisor, at))

    def looked_at(self, now: datetime) -> list[InteractionRow]:
        """What lies with advisors who may be away by now."""
        due = {advisor for advisor, at in self.looks.items() if at <= now.timestamp()}
        return self.memory.written_by(due) if due else []

    def deadline(self) -> float | None:
        """Unix seconds at which `tick` must come."""
        due = [at for at in (self.distribution.deadline(), *self.looks.values()) if at is not None]
        return min(due, default=None)

    def take(self) -> Batch:
        """What must be stored now."""
        batch, self.batch = self.batch, Batch()
        return batch

    def set_site(self, site: Site, now: datetime, *, version: int | None = None, by: str = "") -> None:
        """New rules. With `version`, a SITE_APPLIED is told."""
        self.tell_time(now)
        former, self.site = self.site, site
        self.memory.country = site.country
        if version is not None:
            self.emit(T.SITE_APPLIED, {"version": version, "by": by})
        decisions = self.step(steps.RulesSet(site.queues, site.hours, site.time_zone, site.weights))
        there = {advisor.id for advisor in site.advisors}
        for gone in former.advisors:
            if gone.id not in there:
                decisions += self.step(steps.AdvisorGone(gone.id))
        for advisor in site.advisors:
            decisions += self.step(steps.AdvisorSet(advisor))
        back = there - {advisor.id for advisor in former.advisors}
        for reach in self.rows.all(ReachRow):
            if reach.advisor in back and not reach.reachable:
                decisions += self.step(steps.ReachSet(reach.advisor, reach.channel, False))
        self.decided(decisions)
        for talk in self.memory.written_by({advisor.id for advisor in former.advisors} - there):
            self.back(talk, "site_changed")

    def restore(self, loaded: Loaded, now: datetime, *, mine: frozenset[UUID], first: bool) -> None:
        """Take up what was going on: `loaded` has every live interaction with its case, contacts and open offer.

        Voice of a former process (not in `mine`) is lost and told as interrupted; others go back to their old
        places; wrap-ups go on. `first`: no phone is registered yet, and no page is open.
        """
        self.memory.load(loaded)
        self.last_seq, self.last_case = loaded.last_seq, loaded.last_case
        self.tell_time(now)
        self.set_site(self.site, now)
        advisors = {advisor.id for advisor in self.site.advisors}
        for state in [row for row in self.rows.all(AdvisorRow) if row.advisor in advisors]:
            self.decided(self.step(steps.PresenceSet(state.advisor, state.presence, state.reason)))
        for reach in list(self.rows.all(ReachRow)):
            if first and reach.reachable:
                data = {"channel": reach.channel, "reachable": False}
                self.emit(T.REACH_CHANGED, data, advisor=reach.advisor)
            if reach.advisor in advisors:
                there = reach.reachable and not first
                self.decided(self.step(steps.ReachSet(reach.advisor, reach.channel, there)))
        kept: list[steps.Kept] = []
        lenders = {
            row.lent_to: str(row.id) for row in self.rows.all(InteractionRow) if row.lent_to is not None
        }
        for row in sorted(self.rows.all(InteractionRow), key=lambda row: (row.opened_at, row.id)):
            if row.state not in FINAL:
                kept += self._taken_up(row, advisors, mine, lenders.get(row.id))
        idle = {
            row.advisor: row.idle_since.timestamp() for row in self.rows.all(AdvisorRow) if row.idle_since
        }
        misses = {row.advisor: row.misses for row in self.rows.all(AdvisorRow) if row.misses}
        known = {advisor: at for advisor, at in idle.items() if advisor in advisors}
        missed = {advisor: n for advisor, n in misses.items() if advisor in advisors}
        self.decided(self.step(steps.Restore(tuple(kept), 1, known, missed)))
        self.began = self.unix if first else 0.0
        self._watch(self.memory.written_by(advisors))

    def _taken_up(
        self, row: InteractionRow, advisors: set[str], mine: frozenset[UUID], lender: str | None
    ) -> list[steps.Kept]:
        """What becomes of one that lived: at its old place, or told as interrupted. An offer is taken back."""
        if row.state == State.OFFERED:
            assert row.offer is not None
            assert row.advisor is not None
            self.offer_over(row.id, row.offer, row.advisor, "cancelled", "restart")
            row = self.rows.get(InteractionRow, row.id)
        if row.lent_to is not None and self._gone(row.lent_to, mine):
            self.emit(T.SEAT_RETURNED, {"to": str(row.lent_to)}, interaction=row.id)
            row = self.rows.get(InteractionRow, row.id)
        queued = any(queue.id == row.queue for queue in self.site.queues)
        working = row.state in (State.ACTIVE, State.WRAPUP) or (
            row.state == State.OPENED and row.advisor is not None
        )
        if self._gone(row.id, mine):
            self.emit(T.INTERRUPTED, {"reason": "restart"}, interaction=row.id)
            return []
        if working and row.advisor not in advisors:
            if row.seat == VOICE or row.state != State.ACTIVE or not queued:
                self.emit(T.INTERRUPTED, {"reason": "site_changed"}, interaction=row.id)
                return []
            self.emit(T.REQUEUED, {"reason": "site_changed"}, interaction=row.id)
        elif row.state == State.WAITING and not queued:
            if row.seat == VOICE:
                self.emit(T.INTERRUPTED, {"reason": "site_changed"}, interaction=row.id)
            else:
                data = {"queue": row.queue, "how": "closing", "rule": "announce"}
                self.emit(T.LEFT_QUEUE, data, interaction=row.id)
            return []
        elif row.state != State.WAITING and not working:
            return []
        return [self._kept(self.rows.get(InteractionRow, row.id), lender)]

    def _gone(self, interaction: UUID, mine: frozenset[UUID]) -> bool:
        """A call of a former process is lost, unless only its wrap-up is left."""
        row = self.rows.find(InteractionRow, interaction)
        if row is None or row.state in FINAL:
            return True
        return row.seat == VOICE and row.id not in mine and row.state != State.WRAPUP

    def _kept(self, row: InteractionRow, lender: str | None) -> steps.Kept:
        state = "active" if row.state == State.OPENED else row.state
        until = row.wrapup_until.timestamp() if row.wrapup_until is not None else None
        enqueue = self.enqueue_step(row, row.queue or "", (row.since or row.opened_at).timestamp())
        return steps.Kept(
            enqueue,
            state,
            row.advisor,
            until if state == State.WRAPUP else None,
            row.extended,
            tuple(row.avoid),
            lender,
            row.held and row.seat != VOICE,
        )

    def _mark_vip(self, contact: UUID, vip: bool, by: str) -> None:
        """Those of this person who wait already are sorted anew at once."""
        before = self.is_vip(contact)
        self.memory.vips[contact] = vip
        if self.is_vip(contact) == before:
            return
        more = self.site.vip_priority if vip else -self.site.vip_priority
        person = root(contact, self.rows)
        for row in list(self.rows.all(InteractionRow)):
            if row.state in (State.WAITING, State.OFFERED) and root(row.contact, self.rows) == person:
                self.set_priority(row, self._base(row.priority, row.queue) + more, by)

    def _interaction_opened(self, told: InteractionOpened) -> None:
        if self.rows.find(InteractionRow, told.interaction) is not None:
            raise Refused("known_interaction")
        if told.call is not None and told.call in self.memory.calls:
            raise Refused("known_call")
        if told.case is not None:
            self.case_file(told.case)
        if told.contact is not None and self.rows.find(ContactRow, told.contact) is None:
            raise Refused("unknown_contact")
        assigned = self._assigned(told)
        kind, value = told.address_kind, normalise(told.address_kind, told.address, self.site.country)
        contact, address, matches = self._who(told, kind, value)
        case = self.which_case(told.case, contact)
        data = {
            "channel": told.channel,
            "direction": told.direction,
            "call": told.call,
            "dialled": told.dialled,
            "trunk": told.trunk,
            "attestation": told.attestation,
            "address": str(address) if address is not None else None,
            "matches": matches,
            "seat": told.seat or told.channel,
            "thread": None,
        }
        self.emit(T.INTERACTION_OPENED, data, interaction=told.interaction, case=case, contact=contact)
        self.side("interaction_data", told.interaction, received=told.address, name=told.name)
        if told.call is not None:
            self.memory.calls.add(told.call)
        for decision in assigned:
            if isinstance(decision, steps.Assigned) and decision.interaction == str(told.interaction):
                data = {"epoch": decision.epoch, "how": "direct", "by": decision.advisor}
                self.emit(T.ASSIGNED, data, interaction=told.interaction, advisor=decision.advisor)
            else:
                self.decided([decision])

    def _assigned(self, told: InteractionOpened) -> list[steps.Decision]:
        """For click-to-call: the advisor's seat, taken without a queue; or that of what he writes in (F5)."""
        if told.advisor is None:
            return []
        case = told.case
        whose = told.contact or (self.rows.get(CaseRow, case).contact if case is not None else None)
        person = self.person(whose) if whose is not None else None
        lender = self.rows.find(InteractionRow, told.exchange) if told.exchange is not None else None
        lends = lender is None or not lender.held  # what is on hold has no seat to lend
        exchange = str(told.exchange) if told.exchange is not None and lends else None
        seat = told.seat or told.channel
        decisions = self.step(
            steps.Assign(str(told.interaction), told.advisor, seat, person, exchange=exchange)
        )
        for decision in decisions:
            if isinstance(decision, steps.Denied):
                raise Refused(word(decision.why))
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
                self.new_address(known, kind, value, told.address)
                if value and told.direction == "out"
                else None
            )
            return known, made, 1
        people = persons(owners, self.rows)
        if len(people) == 1:
            (owner,) = people.values()
            return owner, owners[owner], 1
        contact = self.new_contact(self.ids(), provisional=bool(people) or not value, draft=True)
        made = self.new_address(contact, kind, value, told.address) if value else None
        return contact, made, len(people)

    def _tree_entered(self, told: TreeEntered) -> None:
        row = self.interaction(told.interaction)
        if row.state not in (State.OPENED, State.QUALIFYING) or row.advisor is not None:
            raise Refused("over" if row.state in FINAL else "not_now")
        self.emit(T.TREE_ENTERED, {"tree": told.tree, "version": told.version}, interaction=row.id)

    def _node_left(self, told: NodeLeft) -> None:
        row = self.interaction(told.interaction)
        data = {
            "tree": row.tree or "",
            "version": row.tree_version or 0,
            "node": told.node,
            "exit": told.exit,
            "seconds": told.seconds,
        }
        event = self.emit(T.NODE_LEFT, data, interaction=row.id)
        if told.keys:
            self.side("path_data", (row.id, event.seq), keys=told.keys)

    def _facts_learned(self, told: FactsLearned) -> None:
        row = self.interaction(told.interaction)
        facts = dict(told.facts)
        language = facts.get("language")
        data = {"names": sorted(facts), "language": language if isinstance(language, str) else None}
        self.emit(T.FACTS_LEARNED, data, interaction=row.id)
        side = self.batch.sides.setdefault("facts", {}).setdefault(row.id, {"facts": {}})
        side["facts"].update(facts)

    def _enqueued(self, told: Enqueued) -> None:
        row, decisions = self.enqueue(told)
        self.tell_enqueue(told, row, decisions)

    def _customer_left(self, told: CustomerLeft) -> None:
        row = self.interaction(told.interaction)
        if told.how != "hangup":
            if row.state not in (State.WAITING, State.OFFERED):
                raise Refused("over" if row.state in FINAL else "not_now")
            rest = self.apart(self.step(steps.Withdraw(str(row.id))), row.id)
            data = {"queue": row.queue, "how": told.how, "rule": None}
            self.emit(T.LEFT_QUEUE, data, interaction=row.id)
            self.decided(rest)
            return
        self.alive(row.id, Input.LEAVE)
        if row.state == State.ACTIVE:
            if row.seat != VOICE:
                raise Refused("not_now")  # what was written stays to be answered
            self._finish(row, "customer")
            return
        self.abandon(row)

    def _tree_ended(self, told: TreeEnded) -> None:
        row = self.interaction(told.interaction)
        if row.state not in (State.OPENED, State.QUALIFYING) or row.advisor is not None:
            raise Refused("over" if row.state in FINAL else "not_now")
        self.emit(T.ENDED, {"outcome": told.outcome, "code": None, "by": "tree"}, interaction=row.id)

    def _offer(self, id_: UUID) -> tuple[OfferRow, int]:
        offer = self.rows.find(OfferRow, id_)
        if offer is None:
            raise Refused("unknown_offer")
        number = self.offer_numbers.get(id_)
        if offer.how is not None or number is None:
            raise Refused("offer_over")
        return offer, number

    def _offer_accepted(self, told: OfferAccepted) -> None:
        _, number = self._offer(told.offer)
        self.decided(self.step(steps.Accept(number)))

    def _offer_refused(self, told: OfferRefused) -> None:
        _, number = self._offer(told.offer)
        missed = told.reason in TOLD_BUSY
        self.decided(self.step((steps.Miss if missed else steps.Refuse)(number, told.reason)))

    def _pop_shown(self, told: PopShown) -> None:
        offer = self.rows.find(OfferRow, told.offer)
        if offer is None:
            raise Refused("unknown_offer")
        if offer.shown_ms is not None:
            raise Refused("shown_already")
        data = {"offer": str(offer.id), "after_ms": told.after_ms, "missed": told.missed}
        self.emit(T.POP_SHOWN, data, interaction=offer.interaction, advisor=offer.advisor)

    def _connected(self, told: Connected) -> None:
        row = self.interaction(told.interaction)
        if row.state != State.OPENED or row.advisor is None:
            raise Refused("over" if row.state in FINAL else "not_now")
        self.emit(T.CONNECTED, {}, interaction=row.id)

    def _hold_changed(self, told: HoldChanged) -> None:
        row = self.interaction(told.interaction)
        if row.state != State.ACTIVE:
            raise Refused("over" if row.state in FINAL else "not_now")
        if row.held == told.held:
            raise Refused("unchanged")
        self.hold(row, told.held)

    def _finish(self, row: InteractionRow, by: str) -> None:
        own = str(row.id)
        decisions = self.step(steps.Finish(own))
        until = next(
            (it.until for it in decisions if isinstance(it, steps.WrapupStarted) and it.interaction == own),
            None,
        )
        rest = self.apart(decisions, row.id)
        self.emit(
            T.TALK_ENDED, {"by": by, "until": until if until is not None else self.unix}, interaction=row.id
        )
        if until is None:
            self.emit(T.ENDED, {"outcome": "served", "code": None, "by": None}, interaction=row.id)
        self.decided(rest)

    def _talk_ended(self, told: TalkEnded) -> None:
        row = self.alive(told.interaction, Input.FINISH)
        if row.seat != VOICE:
            raise Refused("not_now")
        self._finish(row, told.by)

    def _advisor_lost(self, told: AdvisorLost) -> None:
        row = self.alive(told.interaction, Input.RETURN)
        if row.state != State.ACTIVE or row.seat != VOICE:
            raise Refused("not_now")
        if row.queue is None:
            self._finish(row, "failure")
            return
        decisions = self.step(steps.Requeue(str(row.id)))
        for decision in decisions:
            if isinstance(decision, steps.Denied):
                self._finish(row, "failure")
                return
        self.emit(T.REQUEUED, {"reason": told.reason}, interaction=row.id)
        self.decided(decisions)

    def _call_failed(self, told: CallFailed) -> None:
        row = self.interaction(told.interaction)
        if row.state != State.OPENED:
            raise Refused("over" if row.state in FINAL else "not_now")
        rest = self.apart(self.withdraw(row.id), row.id)
        self.emit(T.ENDED, {"outcome": told.reason, "code": None, "by": None}, interaction=row.id)
        self.decided(rest)

    def _interrupted(self, told: Interrupted) -> None:
        row = self.alive(told.interaction, Input.INTERRUPT)
        rest = self.apart(self.withdraw(row.id), row.id)
        self.emit(T.INTERRUPTED, {"reason": told.reason}, interaction=row.id)
        self.decided(rest)

    def _wrapup_done(self, told: WrapupDone) -> None:
        row = self.interaction(told.interaction)
        code = self.wrapup_code(told.code)
        late = row.state == State.ENDED and row.advisor is not None and told.by is not None
        if row.state != State.WRAPUP and not late:
            raise Refused("over" if row.state in FINAL else "not_now")
        case = self.rows.get(CaseRow, row.case_id)
        if told.note.strip():
            self.note(self.ids(), case, told.note, told.by or row.advisor or "", row.id)
        decisions: list[steps.Decision] = []
        if late:
            if told.code is not None and told.code != row.code:
                self.emit(T.WRAPUP_CODED, {"code": told.code, "by": told.by}, interaction=row.id)
        else:
            decisions = self.apart(self.step(steps.WrapupDone(str(row.id))), row.id)
            data = {"outcome": "served", "code": told.code, "by": told.by}
            self.emit(T.ENDED, data, interaction=row.id)
        if code is not None and code.solves:
            self.solve(self.surviving(self.rows.get(CaseRow, case.id)), told.by or "")
        self.decided(decisions)

    def _wrapup_extended(self, told: WrapupExtended) -> None:
        row = self.interaction(told.interaction)
        if row.state != State.WRAPUP:
            raise Refused("over" if row.state in FINAL else "not_now")
        if row.extended:
            raise Refused("extended_already")
        decisions = self.step(steps.WrapupExtended(str(row.id)))
        until = next((it.until for it in decisions if isinstance(it, steps.WrapupStarted)), None)
        if until is None:
            raise Refused("not_now")
        self.emit(T.WRAPUP_EXTENDED, {"until": until}, interaction=row.id)

    def _priority_changed(self, told: PriorityChanged) -> None:
        row = self.interaction(told.interaction)
        if row.state in FINAL:
            raise Refused("over")
        self.set_priority(row, told.priority, told.by)

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
        decisions = self.step(steps.PresenceSet(told.advisor, presence, told.reason))
        data = {"presence": presence, "reason": told.reason, "by": "advisor"}
        self.emit(T.PRESENCE_CHANGED, data, advisor=told.advisor)
        self.decided(decisions)
        if told.presence == Presence.OFFLINE:
            for talk in self.owed(self.memory.written_by((told.advisor,))):
                self.back(talk)

    def _reach_changed(self, told: ReachChanged) -> None:
        if all(advisor.id != told.advisor for advisor in self.site.advisors):
            raise Refused("unknown_advisor")
        row = self.rows.find(ReachRow, (told.advisor, told.channel))
        known = row.reachable if row is not None else False if told.channel == VOICE else None
        if known == told.reachable:
            raise Refused("unchanged")
        decisions = self.step(steps.ReachSet(told.advisor, told.channel, told.reachable))
        data = {"channel": told.channel, "reachable": told.reachable}
        self.emit(T.REACH_CHANGED, data, advisor=told.advisor)
        self.decided(decisions)
        if told.channel != VOICE and not told.reachable:
            self.looks[told.advisor] = self.unix + AWAY_S

    def _recording_stored(self, told: RecordingStored) -> None:
        row = self.interaction(told.interaction)
        data = {
            "recording": str(told.recording),
            "duration_ms": told.duration_ms,
            "bytes": told.bytes,
            "complete": told.complete,
        }
        self.emit(T.RECORDING_STORED, data, interaction=row.id)
        self.side("recording_data", told.recording, path=told.path)

    def _note_written(self, told: NoteWritten) -> None:
        if not told.text.strip():
            raise Refused("empty")
        case = self.case_file(told.case)
        if told.interaction is not None:
            self.interaction(told.interaction)
        self.note(told.note, case, told.text, told.by, told.interaction)

    def _case_created(self, told: CaseCreated) -> None:
        if self.rows.find(CaseRow, told.case) is not None:
            raise Refused("known_case")
        if self.rows.find(ContactRow, told.contact) is None:
            raise Refused("unknown_contact")
        self.new_case(told.case, told.contact, provisional=False, follows=None, subject=told.subject)

    def _case_changed(self, told: CaseChanged) -> None:
        case = self.case_file(told.case)
        state = told.state.value if told.state is not None and told.state != case.state else None
        tags = list(dict.fromkeys(told.tags)) if told.tags is not None else None
        if tags is not None and any(tag not in self.site.tags and tag not in case.tags for tag in tags):
            raise Refused("unknown_tag")
        if tags == case.tags:
            tags = None
        if state is None and told.subject is None and tags is None:
            raise Refused("unchanged")
        if state == CaseState.OPEN and case.closed_at is not None:
            self.emit(T.CASE_REOPENED, {"by": told.by}, case=case.id, contact=case.contact)
            state = None
        if state is not None or told.subject is not None or tags is not None:
            data = {"state": state, "subject": told.subject is not None, "tags": tags, "by": told.by}
            self.emit(T.CASE_CHANGED, data, case=case.id, contact=case.contact)
        if told.subject is not None:
            self.side("case_data", case.id, subject=told.subject)

    def _case_chosen(self, told: CaseChosen) -> None:
        row = self.interaction(told.interaction)
        case = self.case_file(told.case)
        former = self.rows.get(CaseRow, row.case_id)
        if former.id == case.id:
            raise Refused("unchanged")
        if row.thread is not None and row.ended_at is None:
            living = [each for each in self.rows.get(ThreadRow, row.thread).living if each != row.id]
            if any(self.rows.get(InteractionRow, each).case_id == case.id for each in living):
                raise Refused("lives_there")
        if case.closed_at is not None:
            self.emit(T.CASE_REOPENED, {"by": told.by}, case=case.id, contact=case.contact)
        self.emit(T.CASE_CHOSEN, {"from": str(former.id), "by": told.by}, interaction=row.id, case=case.id)
        former = self.rows.get(CaseRow, former.id)
        if former.interactions == 0 and former.notes == 0 and former.closed_at is None:
            data = {"state": CaseState.CLOSED.value, "subject": False, "by": told.by}
            self.emit(T.CASE_CHANGED, data, case=former.id, contact=former.contact)

    def _contact_chosen(self, told: ContactChosen) -> None:
        row = self.interaction(told.interaction)
        if self.rows.find(ContactRow, told.contact) is None:
            raise Refused("unknown_contact")
        if row.contact == told.contact:
            raise Refused("unchanged")
        case = self.rows.get(CaseRow, row.case_id)
        case_too = case.contact == row.contact and case.interactions == 1
        data = {"from": str(row.contact), "by": told.by, "case_too": case_too}
        self.emit(T.CONTACT_CHOSEN, data, interaction=row.id, contact=told.contact)

    def _contact_changed(self, told: ContactChanged) -> None:
        fields = [name for name in ("name", "language", "vip", "company") if getattr(told, name) is not None]
        fresh = self.rows.find(ContactRow, told.contact) is None
        if fresh:
            self.new_contact(told.contact, provisional=False, draft=not told.name)
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
                self.new_address(told.contact, kind, value, raw)
        if fields:
            self.emit(T.CONTACT_CHANGED, {"fields": fields, "by": told.by}, contact=told.contact)
            self.side(
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

    def _contact_introduced(self, told: ContactIntroduced) -> None:
        """Stays a draft: what somebody here writes counts more, and is never written over (side_contact_name)."""
        row, name = self.rows.find(ContactRow, told.contact), plain(told.name).strip()
        if row is None:
            raise Refused("unknown_contact")
        if not name:
            raise Refused("unchanged")
        if not row.draft or row.provisional:
            raise Refused("named")
        self.emit(T.CONTACT_CHANGED, {"fields": ["introduced"], "by": ""}, contact=row.id)
        self.side("contact_name", row.id, name=name, sort_name=sort_name(name))

    def _contacts_merged(self, told: ContactsMerged) -> None:
        why = refuse_merge(told.contact, told.into, self.rows)
        if why is None and self.rows.find(MergeRow, told.merge) is not None:
            why = "known_merge"
        if why is not None:
            raise Refused(why)
        data = {"merge": str(told.merge), "into": str(told.into), "by": told.by, "reason": told.reason}
        self.emit(T.CONTACTS_MERGED, data, contact=told.contact)

    def _merge_undone(self, told: MergeUndone) -> None:
        merge = self.rows.find(MergeRow, told.merge)
        if merge is None:
            raise Refused("unknown_merge")
        if merge.undone_at is not None:
            raise Refused("undone_already")
        data = {"merge": str(told.merge), "by": told.by}
        self.emit(T.MERGE_UNDONE, data, contact=merge.contact)
