"""Who gets what: the one deterministic model that gives waiting interactions to advisors.

The rule of matching. An interaction is *blocked* while another of its contact is offered (I14). An advisor
*may* have an interaction if he can by rule (channel, queue, skills), is free on the channel now, it is not held
for another, and he has not refused or missed it while somebody else at work could take it (I15). While such a
pair exists: the best interaction (score, then arrival, then id) goes to the best advisor for it (related, then
skill where the queue prefers it, then least work in hand, then longest idle, then id).

Why that is fast and still exact. After each step no such pair is left. So one newly free advisor can only take the best
of the heads of his own lines, and a newcomer can only go to one of the free advisors of his line; if others of his line
wait already, there are none.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from routing.advisor import Roster, Serving
from routing.estimate import Range
from routing.explain import Candidate, Explanation, Rival
from routing.hours import Calendar, minutes
from routing.interaction import State
from routing.queue import HELD, LINE, NOWHERE, PARKED, SHY, UNIT, Entry, Group, Item, Key, Line, micros
from routing.site import Need, Queue
from routing.steps import (
    Accept,
    AdvisorGone,
    AdvisorSet,
    Assign,
    Assigned,
    BreachForecast,
    ClosingReached,
    Decision,
    Denied,
    Enqueue,
    Event,
    Finish,
    Miss,
    Offered,
    OfferEnded,
    Overflowed,
    Paused,
    PauseEnded,
    PresenceSet,
    PrioritySet,
    ReachSet,
    Refuse,
    Released,
    Requeue,
    Restore,
    RulesSet,
    SeatLent,
    SeatReturned,
    SetAside,
    Tick,
    Withdraw,
    WrapupDone,
    WrapupEnded,
    WrapupExtended,
    WrapupStarted,
)

OFFER_S = 60.0  # where a queue names no time for a channel
WRAPUP_S = 60.0  # where an interaction has no queue
ENDS_AT_CLOSING = frozenset(
    {"voice"}
)  # nobody can be left on the line; what is written waits for the morning
FORECAST_EVERY_S = 5.0
FORECAST_AHEAD_S = 60.0  # told this long before the target is lost
FORECAST_WINDOW_S = 1800.0  # the half hour that targets are usually counted in
REMEMBERED_OFFERS = 10_000  # so that whoever accepts too late is told who has it

_CODES = ("free", "offline", "pause", "unreachable", "wrapup", "no_seat")

Found = tuple[int, Entry]  # minus the score now, and whose it is

_key = itemgetter(0)


def _whole_key(found: Found) -> Key:
    return found[0], found[1][1], found[1][2]


def _found(item: Item, now_us: int) -> Found:
    assert item.line is not None
    return item.inverse - item.line.weight * now_us, (item.inverse, item.since_us, item.id, 0, item)


class _Contact:
    __slots__ = ("active", "offered", "waiting")

    def __init__(self) -> None:
        self.offered: Item | None = None
        self.active: dict[str, Item] = {}
        self.waiting: dict[str, Item] = {}


@dataclass(frozen=True, slots=True)
class QueueNumbers:
    """One row of the wallboard; `staff` counts those who can serve it by rule, by what they are doing."""

    queue: str
    channel: str
    waiting: int
    longest_wait_s: float
    offered: int
    active: int
    staff: Mapping[str, int]
    estimate_s: Range | None = None  # of whoever would join it now; None: nobody can know


@dataclass(frozen=True, slots=True)
class Board:
    queues: tuple[QueueNumbers, ...]
    advisors: Mapping[str, int]  # by state: ready, busy, wrapup, pause, offline


class Distribution:
    """Told events in order of time, answers with decisions. No I/O, no clock, no chance."""

    def __init__(self) -> None:
        self._now = 0.0
        self._now_us = 0
        self._roster = Roster()
        self._queues: dict[str, Queue] = {}
        self._calendars: dict[str, Calendar] = {}
        self._shut: set[str] = set()  # queues that are closed now
        self._zone = Calendar.zone("UTC")
        self._rules = 0  # counts the RulesSet
        self._lines: dict[tuple[str, str, tuple[Need, ...]], Line] = {}
        self._items: dict[str, Item] = {}
        self._offers: dict[int, Item] = {}
        self._offers_over: dict[int, str] = {}
        self._groups: dict[tuple[str, str], Group] = {}
        self._contacts: dict[str, _Contact] = {}
        self._timers: list[tuple[float, int, str, Any, Any]] = []
        self._timer_count = 0
        self._forecasting = False
        self._next_offer = 1
        self._single = False
        self._out: list[Decision] = []
        self._free: dict[str, Serving] = {}  # to be matched before the step ends
        self._new: dict[str, Item] = {}
        self._sharing: dict[tuple[int, int], tuple[int, bool]] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            RulesSet: self._rules_set,
            AdvisorSet: self._advisor_set,
            AdvisorGone: self._advisor_gone,
            PresenceSet: self._presence_set,
            ReachSet: self._reach_set,
            Enqueue: self._enqueue,
            Withdraw: self._withdraw,
            Accept: self._accept,
            Refuse: self._refuse,
            Miss: self._miss,
            Finish: self._finish_event,
            WrapupDone: self._wrapup_done,
            WrapupExtended: self._wrapup_extended,
            Assign: self._assign,
            SetAside: self._set_aside,
            Requeue: self._requeue,
            PrioritySet: self._priority_set,
            Restore: self._restore,
            Tick: self._tick,
        }

    def step(self, event: Event, now: float) -> list[Decision]:
        """`now`: unix seconds, from the one clock; what was due by then happens first."""
        if now > self._now:
            self._now = now
            self._now_us = micros(now)
        self._out = out = list[Decision]()
        if self._timers and self._timers[0][0] <= self._now:
            self._pass()
        self._handlers[type(event)](event)
        if self._free or self._new:
            self._match()
        return out

    def deadline(self) -> float | None:
        """When `Tick` must come next, or None."""
        timers = self._timers
        while timers:
            at, _, kind, ref, stamp = timers[0]
            if self._holds(kind, ref, stamp):
                return at
            heapq.heappop(timers)
        return None

    def _match(self) -> None:
        free, new = self._free, self._new
        if not new and len(free) == 1:
            _, one = free.popitem()
            while True:
                found = self._heads(one)
                if not found:
                    return
                item = found[0][1][4]
                single = self._single
                self._offer(item, one, found)
                if single and one.used[item.channel] >= one.site.seats[item.channel]:
                    return  # the seat is gone, and no other channel had anybody
        if not free and len(new) == 1:
            _, item = new.popitem()
            if item.state is State.WAITING and item.place != PARKED:
                best = self._best_for(item)
                if best is not None:
                    self._offer(item, best, None)
            return
        self._free, self._new = {}, {}
        agenda: list[tuple[int, int, str, int, Serving | None, Item]] = []
        count = 0
        advisor: Serving | None
        for advisor in free.values():
            found = self._heads(advisor)
            if found:
                count += 1
                key, entry = found[0]
                agenda.append((key, entry[1], entry[2], count, advisor, entry[4]))
        for item in new.values():
            if item.state is State.WAITING and item.place != PARKED and item.line is not None:
                count += 1
                key = item.inverse - item.line.weight * self._now_us
                agenda.append((key, item.since_us, item.id, count, None, item))
        heapq.heapify(agenda)
        while agenda:
            _, _, _, _, advisor, item = heapq.heappop(agenda)
            if advisor is None:
                if item.state is State.WAITING and item.place != PARKED:
                    best = self._best_for(item)
                    if best is not None:
                        self._offer(item, best, self._heads(best))
                continue
            found = self._heads(advisor)
            if found and found[0][1][4] is item:
                best = self._best_for(item)
                assert best is not None, "the asking advisor is one who could"
                self._offer(item, best, found if best is advisor else self._heads(best))
                found = self._heads(advisor)
            if found:
                count += 1
                key, entry = found[0]
                heapq.heappush(agenda, (key, entry[1], entry[2], count, advisor, entry[4]))

    def _heads(self, advisor: Serving) -> list[Found]:
        """The best of each line that he may take from now, best first; `_single` if all are of one channel."""
        now_us = self._now_us
        found: list[Found] = []
        channels = 0
        for column in advisor.channels:
            if column.code:  # why not, as the roster has it
                continue
            before = len(found)
            for line in advisor.lines.get(column.channel, ()):
                top = line.top
                if top is not None:
                    found.append((top[0] - line.weight * now_us, top))
                if line.shy:
                    for item in line.shy.values():
                        if advisor.id not in item.avoid or not self._roster.another(line, item.avoid):
                            found.append(_found(item, now_us))
            if len(found) > before:
                channels += 1
        if advisor.held:
            channels = 2
            for item in advisor.held.values():
                if self._available(advisor, item.channel):
                    found.append(_found(item, now_us))
        self._single = channels == 1
        if len(found) > 1:
            found.sort(key=_key)
            # Equal scores are rare: only then look at arrival and id.
            if any(found[n][0] == found[n + 1][0] for n in range(min(5, len(found) - 1))):
                found.sort(key=_whole_key)
        return found

    def _available(self, advisor: Serving, channel: str) -> bool:
        return (
            advisor.presence == "ready"
            and not advisor.wrapups
            and self._seated(advisor, channel)
            and advisor.reachable(channel)
        )

    def _seated(self, advisor: Serving, channel: str) -> bool:
        """Whether he has a seat for one more on the channel."""
        return advisor.used.get(channel, 0) < advisor.site.seats.get(channel, 0) and (
            not self._roster.weights or self._roster.has_room(advisor, channel)
        )

    def _best_for(self, item: Item) -> Serving | None:
        line = item.line
        assert line is not None
        if item.related is not None:
            related = self._roster.by_id.get(item.related)
            if (
                related is not None
                and related.id not in item.avoid
                and self._available(related, item.channel)
                and related.can(line)
            ):
                return related
        if item.place == HELD:
            return None
        without = item.avoid if item.avoid and self._roster.another(line, item.avoid) else ()
        return self._roster.best(line, without)

    def _offer(self, item: Item, advisor: Serving, found: list[Found] | None) -> None:
        line, rules, now = item.line, item.rules, self._now
        assert item.state is State.WAITING, "only what waits is offered"
        assert line is not None
        assert rules is not None
        why = self._explain(item, line, advisor, found)
        self._leave(item)
        group = self._groups[rules.id, item.channel]
        del group.waiting[item.id]
        group.offered += 1
        if advisor.id in item.avoid:
            item.avoid.clear()  # all have said no: another round
        item.state = State.OFFERED
        item.epoch += 1
        item.advisor = advisor.id
        item.offer = offer = self._next_offer
        self._next_offer = offer + 1
        item.deadline = deadline = now + rules.offer_s.get(item.channel, OFFER_S)
        self._offers[offer] = item
        advisor.offers[item.id] = item
        self._seat(advisor, item.channel, 1)
        if item.contact is not None:
            contact = self._contacts[item.contact]
            del contact.waiting[item.id]
            contact.offered = item
            if contact.waiting:
                self._block(contact)
        self._at(deadline, "offer", item, offer)
        self._out.append(
            Offered(
                offer, item.id, advisor.id, rules.id, item.channel, deadline, item.epoch, why
            )  # positional: this is the hot path
        )

    def _explain(self, item: Item, line: Line, advisor: Serving, found: list[Found] | None) -> Explanation:
        rules = item.rules
        assert rules is not None
        roster, now_us, weight = self._roster, self._now_us, line.weight
        counts = roster.counts(line)
        available = counts[0]
        excluded = line.lacking.copy()
        for code in range(1, 6):
            if counts[code]:
                excluded[_CODES[code]] = counts[code]
        avoid: tuple[str, ...] = ()
        candidates: tuple[Candidate, ...]
        rivals: tuple[Rival, ...]
        if available <= 1:
            rule = "held" if item.place == HELD else "related" if item.related == advisor.id else "only"
            skill = roster.skill(line, advisor)
            candidates = (Candidate(advisor.id, advisor.work, advisor.idle_us / 1e6, skill),)
        else:
            if item.place == HELD:
                rule = "held"
                excluded[f"held for {item.related}"] = available - 1
                available = 1
                skill = roster.skill(line, advisor)
                candidates = (Candidate(advisor.id, advisor.work, advisor.idle_us / 1e6, skill),)
            else:
                if item.avoid and roster.another(line, item.avoid):
                    avoid = tuple(item.avoid)
                    refused = sum(
                        1
                        for a in map(roster.by_id.get, avoid)
                        if a is not None and self._available(a, item.channel) and a.can(line)
                    )
                    if refused:
                        excluded["refused"] = refused
                        available -= refused
                ranked = roster.ranked(line, 5, avoid)
                candidates = tuple(Candidate(a.id, a.work, a.idle_us / 1e6, skill) for a, skill in ranked)
                if item.related == advisor.id:
                    rule = "related"
                    own = Candidate(
                        advisor.id, advisor.work, advisor.idle_us / 1e6, roster.skill(line, advisor)
                    )
                    candidates = (own, *[c for c in candidates if c.advisor != advisor.id][:4])
                else:
                    rule = "only" if available == 1 else rules.prefer
        score = (weight * now_us - item.inverse) / UNIT
        if found is None:
            rivals, lines = (Rival(item.id, score, item.since),), 1
        else:
            rivals = tuple(Rival(f[1][2], -f[0] / UNIT, f[1][1] / 1e6) for f in found[:5])
            lines = len(found)
        return Explanation(
            self._now,
            item.id,
            rules.id,
            item.channel,
            advisor.id,
            rule,
            item.priority,
            rules.ageing_per_minute,
            item.since,
            score,
            available,
            candidates,
            excluded,
            rivals,
            lines,
        )

    def _line(self, rules: Queue, channel: str, needs: tuple[Need, ...]) -> Line:
        key = rules.id, channel, needs
        line = self._lines.get(key)
        if line is None or line.rules is not rules:
            line = self._lines[key] = Line(rules, channel, rules.needs + needs)
            self._roster.survey(line)
            by_row = self._roster.by_row
            for row in line.rows.tolist():
                by_row[row].lines.setdefault(channel, []).append(line)
        return line

    def _group(self, queue: str, channel: str) -> Group:
        group = self._groups.get((queue, channel))
        if group is None:
            group = self._groups[queue, channel] = Group()
        return group

    def _aim(self, item: Item) -> None:
        """Give it its line and its key under the rules in force."""
        rules = item.rules
        assert rules is not None
        item.line = self._line(rules, item.channel, item.needs)
        item.priority = rules.priority if item.stated_priority is None else item.stated_priority
        item.inverse = item.line.weight * item.since_us - item.priority * UNIT

    def _closed_for(self, item: Item) -> bool:
        """What is written waits for the morning, unless it came in time and the queue still serves those inside."""
        rules = item.rules
        if rules is None or rules.id not in self._shut or item.channel in ENDS_AT_CLOSING:
            return False
        return rules.at_closing != "serve" or not self._calendars[rules.hours or ""].is_open(item.entered)

    def _blocked(self, item: Item) -> bool:
        if self._shut and self._closed_for(item):
            return True
        if item.contact is None:
            return False
        contact = self._contacts[item.contact]
        if contact.offered is not None and contact.offered is not item:
            return True
        return item.callback and any(o.channel == item.channel for o in contact.active.values())

    def _block(self, contact: _Contact) -> None:
        """Set aside those of a contact who must not be offered now, and bring back those who may again."""
        for item in list(contact.waiting.values()):
            self._sort_out(item)

    def _holder(self, item: Item) -> Serving | None:
        """The advisor it is held for now (Q5)."""
        if item.held_until is None or item.held_until <= self._now or item.related is None:
            return None
        related = self._roster.by_id.get(item.related)
        assert item.line is not None
        if (
            related is None
            or related.presence == "offline"
            or related.id in item.avoid
            or not related.reachable(item.channel)
            or not related.can(item.line)
        ):
            return None
        return related

    def _stand(self, item: Item) -> None:
        """Put a waiting item where it belongs; it is matched before the step ends."""
        line = item.line
        assert line is not None
        if self._blocked(item):
            item.place = PARKED
            return
        holder = self._holder(item)
        if holder is not None:
            holder.held[item.id] = item
            item.place = HELD
        elif item.avoid:
            line.shy[item.id] = item
            item.place = SHY
        else:
            line.push(item)
        self._new[item.id] = item

    def _leave(self, item: Item) -> None:
        line = item.line
        assert line is not None
        if item.place == LINE:
            line.drop(item)
        elif item.place == SHY:
            del line.shy[item.id]
        elif item.place == HELD:
            assert item.related is not None
            self._roster.by_id[item.related].held.pop(item.id, None)
        item.place = NOWHERE

    def _wait(self, item: Item) -> None:
        """An item (again) waits: count it, and let it stand."""
        rules = item.rules
        assert rules is not None
        item.state = State.WAITING
        item.advisor = None
        self._group(rules.id, item.channel).waiting[item.id] = item
        if item.contact is not None:
            self._contact(item.contact).waiting[item.id] = item
        self._stand(item)

    def _contact(self, id: str) -> _Contact:
        found = self._contacts.get(id)
        if found is None:
            found = self._contacts[id] = _Contact()
        return found

    def _stop_waiting(self, item: Item) -> None:
        self._leave(item)
        rules = item.rules
        assert rules is not None
        del self._groups[rules.id, item.channel].waiting[item.id]
        if item.contact is not None:
            contact = self._contacts[item.contact]
            del contact.waiting[item.id]
            self._let_go(item.contact, contact)

    def _let_go(self, id: str, contact: _Contact) -> None:
        if not contact.waiting and not contact.active and contact.offered is None:
            self._contacts.pop(id, None)
        elif contact.waiting:
            self._block(contact)

    def _seat(self, advisor: Serving, channel: str, by: int) -> None:
        advisor.used[channel] = advisor.used.get(channel, 0) + by
        advisor.work += by
        assert advisor.work >= 0, "seats are given back once"
        self._roster.refresh(advisor)

    def _left_work(self, advisor: Serving) -> None:
        """He can no longer be 'somebody else at work' (I15), nor be waited for while offline (Q5)."""
        for item in list(advisor.held.values()):
            if self._holder(item) is not advisor:
                self._leave(item)
                self._stand(item)
        for lines in advisor.lines.values():
            for line in lines:
                if line.shy:
                    self._new.update(line.shy)

    def _end_offer(self, item: Item, how: str, reason: str) -> Serving:
        advisor = self._roster.by_id[item.advisor or ""]
        del self._offers[item.offer]
        over = self._offers_over
        over[item.offer] = item.id
        if len(over) > REMEMBERED_OFFERS:
            del over[next(iter(over))]
        del advisor.offers[item.id]
        if item.rules is not None:
            self._groups[item.rules.id, item.channel].offered -= 1
        self._out.append(OfferEnded(item.offer, item.id, advisor.id, how, reason, item.epoch))
        if how != "accepted":
            self._seat(advisor, item.channel, -1)
            self._free[advisor.id] = advisor
        return advisor

    def _back(self, item: Item) -> None:
        """From an offer to its old place."""
        contact = self._contacts[item.contact] if item.contact is not None else None
        if contact is not None:
            contact.offered = None
        self._wait(item)
        if contact is not None and len(contact.waiting) > 1:
            self._block(contact)

    def _cancel_offers(self, advisor: Serving, reason: str, channel: str | None = None) -> None:
        for item in list(advisor.offers.values()):
            if channel is None or item.channel == channel:
                self._end_offer(item, "cancelled", reason)
                self._back(item)

    def _accept(self, event: Accept) -> None:
        item = self._offers.get(event.offer)
        if item is None:
            id = self._offers_over.get(event.offer)
            other = self._items.get(id) if id is not None else None
            holder = other.advisor if other is not None else None
            why = "taken" if holder is not None else "offer over"
            self._out.append(Denied("accept", id, None, why, holder, event.offer))
            return
        advisor = self._end_offer(item, "accepted", "")
        advisor.misses = 0
        item.avoid.clear()
        contact = None
        if item.contact is not None:
            contact = self._contacts[item.contact]
            contact.offered = None
        self._begin(item, advisor)
        if contact is not None and contact.waiting:
            self._block(contact)
        rules = item.rules
        assert rules is not None
        if rules.targets:
            self._outcome(item)

    def _begin(self, item: Item, advisor: Serving) -> None:
        """The seat is taken already."""
        item.state = State.ACTIVE
        item.advisor = advisor.id
        item.held_until = None
        item.began = self._now
        advisor.items[item.id] = item
        if item.contact is not None:
            self._contact(item.contact).active[item.id] = item
        if item.rules is not None:
            self._group(item.rules.id, item.channel).active += 1

    def _refuse(self, event: Refuse) -> None:
        item = self._offers.get(event.offer)
        if item is None:
            return
        advisor = self._end_offer(item, "refused", event.reason)
        advisor.refusals += 1
        item.avoid.add(advisor.id)
        self._back(item)

    def _miss(self, event: Miss) -> None:
        item = self._offers.get(event.offer)
        if item is not None:
            self._missed(item, "missed", event.reason)

    def _missed(self, item: Item, how: str, reason: str) -> None:
        advisor = self._end_offer(item, how, reason)
        advisor.misses += 1
        item.avoid.add(advisor.id)
        self._back(item)
        most = item.rules.after_misses if item.rules is not None else 0
        if most > 0 and advisor.misses >= most and advisor.presence == "ready":
            self._out.append(Paused(advisor.id, "missed"))
            self._present(advisor, "pause", "missed", None)

    def _lend(self, item: Item, to: Item, advisor: Serving) -> None:
        """The seat of `item` stands aside for `to`; one step, so nothing slips in between (F5)."""
        item.lent_to, to.exchange = to, item
        advisor.lent[item.channel] = advisor.lent.get(item.channel, 0) + 1

    def _give_back(self, item: Item, to: Item, advisor: Serving) -> None:
        item.lent_to = to.exchange = None
        advisor.lent[item.channel] -= 1

    def _stop_active(self, item: Item) -> Serving:
        advisor = self._roster.by_id[item.advisor or ""]
        del advisor.items[item.id]
        if item.lent_to is not None:
            self._give_back(item, item.lent_to, advisor)
        if item.exchange is not None:
            whose = item.exchange
            self._give_back(whose, item, advisor)
            self._out.append(SeatReturned(whose.id, advisor.id, item.id))
        advisor.idle_us = self._now_us
        if item.aside:
            item.aside = False
        else:
            self._seat(advisor, item.channel, -1)
            self._free[advisor.id] = advisor
        if item.rules is not None:
            group = self._groups[item.rules.id, item.channel]
            group.active -= 1
            if item.began is not None:
                group.handled.talked(self._now - item.began)
        if item.contact is not None:
            contact = self._contacts[item.contact]
            del contact.active[item.id]
            self._let_go(item.contact, contact)
        return advisor

    def _set_aside(self, event: SetAside) -> None:
        item = self._items.get(event.interaction)
        if item is None or item.state is not State.ACTIVE or item.aside == event.aside:
            return
        advisor = self._roster.by_id[item.advisor or ""]
        item.aside = event.aside
        if event.aside:
            assert item.lent_to is None, "a lent seat cannot be given away"
            advisor.idle_us = self._now_us
            self._seat(advisor, item.channel, -1)
            self._free[advisor.id] = advisor
        else:
            self._free.pop(advisor.id, None)
            self._seat(advisor, item.channel, 1)

    def _finish_event(self, event: Finish) -> None:
        item = self._items.get(event.interaction)
        if item is not None and item.state is State.ACTIVE:
            self._finish(item)

    def _finish(self, item: Item) -> None:
        advisor = self._stop_active(item)
        most = item.rules.wrapup_max_s if item.rules is not None else WRAPUP_S
        if most <= 0:
            del self._items[item.id]
            item.state = State.ENDED
            self._out.append(WrapupEnded(item.id, advisor.id, "none"))
            self._depart(advisor)
            return
        item.state = State.WRAPUP
        item.began = self._now
        item.wrapup_until = self._now + most
        advisor.wrapups.add(item.id)
        self._roster.refresh(advisor)
        self._at(item.wrapup_until, "wrapup", item, item.wrapup_until)
        self._out.append(WrapupStarted(item.id, advisor.id, item.wrapup_until))

    def _wrapup_done(self, event: WrapupDone) -> None:
        item = self._items.get(event.interaction)
        if item is not None and item.state is State.WRAPUP:
            self._end_wrapup(item, "done")

    def _end_wrapup(self, item: Item, how: str) -> None:
        advisor = self._roster.by_id[item.advisor or ""]
        advisor.wrapups.discard(item.id)
        advisor.idle_us = self._now_us
        self._roster.refresh(advisor)
        self._free[advisor.id] = advisor
        del self._items[item.id]
        item.state = State.ENDED
        if item.rules is not None and item.began is not None:
            self._group(item.rules.id, item.channel).handled.wrapped(self._now - item.began)
        self._out.append(WrapupEnded(item.id, advisor.id, how))
        self._depart(advisor)

    def _wrapup_extended(self, event: WrapupExtended) -> None:
        item = self._items.get(event.interaction)
        if item is None or item.state is not State.WRAPUP or item.extended:
            return
        item.extended = True
        item.wrapup_until += item.rules.wrapup_extension_s if item.rules is not None else WRAPUP_S
        self._at(item.wrapup_until, "wrapup", item, item.wrapup_until)
        self._out.append(WrapupStarted(item.id, item.advisor or "", item.wrapup_until))

    def _withdraw(self, event: Withdraw) -> None:
        item = self._items.get(event.interaction)
        if item is None:
            return
        if item.state is State.ACTIVE:
            self._finish(item)
        elif item.state is State.OFFERED:
            self._end_offer(item, "cancelled", "withdrawn")
            item.state = State.ABANDONED
            item.advisor = None
            del self._items[item.id]
            if item.contact is not None:
                contact = self._contacts[item.contact]
                contact.offered = None
                self._let_go(item.contact, contact)
        elif item.state is State.WAITING:
            self._stop_waiting(item)
            item.state = State.ABANDONED
            del self._items[item.id]
            self._outcome(item)

    def _requeue(self, event: Requeue) -> None:
        item = self._items.get(event.interaction)
        if item is None or item.state is not State.ACTIVE:
            return
        if item.rules is None:
            self._out.append(Denied("requeue", item.id, item.advisor, "unknown queue", item.advisor))
            return
        advisor = self._stop_active(item)
        if event.avoid:
            item.avoid.add(advisor.id)
        self._out.append(Released(item.id, advisor.id, True))
        self._wait(item)
        self._depart(advisor)

    def _assign(self, event: Assign) -> None:
        item = self._items.get(event.interaction)
        advisor = self._roster.by_id.get(event.advisor)
        why, holder = "", None
        moves = item is not None and item.state is State.ACTIVE and item.advisor == event.holder
        if item is not None and item.state is not State.WAITING and not moves:
            why, holder = "taken", item.advisor
        elif advisor is None:
            why = "unknown advisor"
        elif advisor.presence == "offline":
            why = "offline"
        elif not advisor.reachable(event.channel):
            why = "phone not registered"
        elif event.exchange is not None:
            why = self._make_way(advisor, event)
        elif not self._seated(advisor, event.channel):
            why = "no free seat"
        if why or advisor is None:
            self._out.append(Denied("assign", event.interaction, event.advisor, why, holder))
            return
        if item is None:
            item = Item(event.interaction, event.channel, self._now, self._now)
            item.epoch = event.epoch
            item.contact = event.contact
            item.rules = self._queues.get(event.queue) if event.queue is not None else None
            if item.rules is not None:
                self._aim(item)
            self._items[item.id] = item
        elif moves:
            left = self._stop_active(item)
            self._out.append(Released(item.id, left.id, False))
            self._depart(left)
        else:
            self._stop_waiting(item)
        item.epoch += 1
        if event.exchange is not None:
            self._lend(self._items[event.exchange], item, advisor)
        self._seat(advisor, item.channel, 1)
        self._begin(item, advisor)
        if item.contact is not None:
            self._block(self._contacts[item.contact])
        self._out.append(Assigned(item.id, advisor.id, item.channel, item.epoch))
        if event.exchange is not None:
            self._out.append(SeatLent(event.exchange, advisor.id, item.id))

    def _make_way(self, advisor: Serving, event: Assign) -> str:
        """Why he cannot exchange a seat for this one; "" when he can: what is being offered to him there goes back."""
        whose = self._items.get(event.exchange or "")
        if whose is None or whose.state is not State.ACTIVE or whose.advisor != advisor.id:
            return "unknown interaction"
        if (
            whose.aside
            or whose.lent_to is not None
            or any(it.channel == event.channel for it in advisor.items.values())
        ):
            return "no free seat"
        self._cancel_offers(advisor, "exchange", event.channel)
        self._free.pop(advisor.id, None)
        return ""

    def _priority_set(self, event: PrioritySet) -> None:
        item = self._items.get(event.interaction)
        if item is None:
            return
        item.stated_priority = event.priority
        if item.rules is None:
            return
        if item.state is State.WAITING:
            place = item.place
            self._leave(item)
            self._aim(item)
            if place == PARKED:
                item.place = PARKED
            else:
                self._stand(item)
        else:
            self._aim(item)

    def _enqueue(self, event: Enqueue) -> None:
        rules = self._queues.get(event.queue)
        if rules is None:
            self._out.append(Denied("enqueue", event.interaction, None, "unknown queue"))
            return
        item = self._items.get(event.interaction)
        if item is not None and item.state in (State.OFFERED, State.WRAPUP):
            self._out.append(Denied("enqueue", event.interaction, item.advisor, "taken", item.advisor))
            return
        group = self._group(rules.id, event.channel)
        ends = event.channel in ENDS_AT_CLOSING
        if ends and len(group.waiting) >= rules.max_waiting:
            self._out.append(Denied("enqueue", event.interaction, None, "queue full"))
            return
        if item is not None and item.state is State.WAITING:
            self._stop_waiting(item)
        elif item is not None:
            advisor = self._stop_active(item)
            self._out.append(Released(item.id, advisor.id, True))
            self._depart(advisor)
        if ends and rules.at_closing != "serve" and not self._open(rules):
            self._items.pop(event.interaction, None)
            self._out.append(ClosingReached(event.interaction, rules.id, rules.at_closing))
            return
        epoch = event.epoch if item is None else max(item.epoch, event.epoch)
        item = self._items[event.interaction] = self._made(event, rules)
        item.epoch = epoch
        if rules.overflow_after_s is not None and rules.overflow_to is not None:
            self._at(self._now + rules.overflow_after_s, "overflow", item, rules.id)
        if rules.targets and not self._forecasting:
            self._forecasting = True
            self._at(self._now + FORECAST_EVERY_S, "forecast", None, None)
        if item.related is not None:
            self._hold(item, rules, event.hold_s)
        line = item.line
        assert line is not None
        if not self._free and not self._new and item.related is None and not self._blocked(item):
            # The usual newcomer: straight to a free advisor, or behind the others. See the head of this file.
            group.waiting[item.id] = item
            if item.contact is not None:
                self._contact(item.contact).waiting[item.id] = item
            best = None if line.live else self._roster.best(line)
            if best is None:
                line.push(item)
            else:
                self._offer(item, best, None)
        else:
            self._wait(item)

    def _made(self, event: Enqueue, rules: Queue) -> Item:
        item = Item(event.interaction, event.channel, event.since, self._now)
        item.rules = rules
        item.needs = event.needs
        item.stated_priority = event.priority
        item.contact = event.contact
        item.related = event.related
        item.language = event.language
        item.callback = event.callback
        item.epoch = event.epoch
        if item.contact is not None:
            self._contact(item.contact)
        self._aim(item)
        return item

    def _hold(self, item: Item, rules: Queue, stated_s: float | None) -> None:
        hold_s = rules.related_hold_s.get(item.channel, 0.0) if stated_s is None else stated_s
        if hold_s <= 0:
            return
        until: float | None = self._now + hold_s
        calendar = self._calendars.get(rules.hours or "")
        if item.channel != "voice" and calendar is not None:
            until = calendar.after(self._now, hold_s)  # written channels: opening time
        item.held_until = until
        if until is not None:
            self._at(until, "hold", item, until)

    def _open(self, rules: Queue) -> bool:
        calendar = self._calendars.get(rules.hours or "")
        return calendar is None or calendar.is_open(self._now)

    def _outcome(self, item: Item) -> None:
        rules = item.rules
        if rules is None or item.channel not in rules.targets:
            return
        group = self._groups[rules.id, item.channel]
        in_time = (
            item.state is State.ACTIVE and self._now - item.entered <= rules.targets[item.channel].seconds
        )
        group.outcomes.append((self._now, in_time))

    def _rules_set(self, event: RulesSet) -> None:
        self._rules += 1
        self._queues = {queue.id: queue for queue in event.queues}
        self._calendars = {hours.id: Calendar(hours, event.time_zone) for hours in event.hours}
        self._zone = Calendar.zone(event.time_zone)
        if event.weights != self._roster.weights:
            self._roster.weights = dict(event.weights)
            for advisor in self._roster.by_id.values():
                self._roster.refresh(advisor)
        self._shut = {queue.id for queue in event.queues if not self._open(queue)}
        for queue in event.queues:
            self._closing(queue)
        self._lines.clear()
        self._sharing.clear()
        for advisor in self._roster.by_id.values():
            advisor.lines.clear()
            advisor.held.clear()
        for item in self._items.values():
            if item.rules is None:
                continue
            item.place = NOWHERE
            was = item.rules
            item.rules = self._queues.get(was.id, was)  # a queue that is gone still serves those inside
            self._aim(item)
            after_s = item.rules.overflow_after_s
            if item.state is State.WAITING and after_s is not None and after_s != was.overflow_after_s:
                self._at(item.entered + after_s, "overflow", item, item.rules.id)
        for item in self._items.values():
            if item.state is State.WAITING:
                self._stand(item)
        self._free.update((a.id, a) for a in self._roster.by_id.values() if a.presence == "ready")

    def _closing(self, queue: Queue) -> None:
        calendar = self._calendars.get(queue.hours or "")
        if calendar is not None:
            change = calendar.next_change(self._now)
            if change is not None:
                self._at(change, "closing", queue, self._rules)

    def _relined(self, advisor: Serving) -> None:
        advisor.lines = {}
        for line in self._lines.values():
            if advisor.can(line):
                advisor.lines.setdefault(line.channel, []).append(line)

    def _shy_again(self) -> None:
        for line in self._lines.values():
            if line.shy:
                self._new.update(line.shy)

    def _advisor_set(self, event: AdvisorSet) -> None:
        known = event.advisor.id in self._roster.by_id
        advisor = self._roster.set(event.advisor)
        if not known:
            advisor.idle_us = self._now_us
            self._roster.refresh(advisor)
        self._relined(advisor)
        self._left_work(advisor)
        self._shy_again()
        if advisor.presence == "ready":
            self._free[advisor.id] = advisor

    def _advisor_gone(self, event: AdvisorGone) -> None:
        advisor = self._roster.by_id.get(event.advisor)
        if advisor is None:
            return
        self._present(advisor, "offline", None, None)
        advisor.gone = True
        self._roster.leave(advisor)
        self._relined(advisor)
        self._shy_again()
        self._depart(advisor)

    def _depart(self, advisor: Serving) -> None:
        """One who is gone stays until his last conversation is over."""
        if advisor.gone and not advisor.items and not advisor.wrapups:
            self._free.pop(advisor.id, None)
            self._roster.forget(advisor)

    def _presence_set(self, event: PresenceSet) -> None:
        advisor = self._roster.by_id.get(event.advisor)
        if advisor is not None and not advisor.gone:
            self._present(advisor, event.presence, event.reason, event.until)

    def _present(self, advisor: Serving, presence: str, reason: str | None, until: float | None) -> None:
        assert presence in ("ready", "pause", "offline"), presence
        was = advisor.presence
        advisor.presence, advisor.reason, advisor.pause_until = presence, reason, None
        if was == "offline" and presence != "offline":
            advisor.idle_us = self._now_us
        if presence == "ready":
            advisor.misses = 0
            self._roster.refresh(advisor)
            self._free[advisor.id] = advisor
            return
        self._roster.refresh(advisor)
        self._cancel_offers(advisor, presence if reason is None else f"{presence} {reason}")
        self._left_work(advisor)
        if presence == "pause":
            ends = [at for at in (until, self._shift_end(advisor)) if at is not None]
            if ends:
                advisor.pause_until = min(ends)
                self._at(advisor.pause_until, "pause", advisor, advisor.pause_until)

    def _shift_end(self, advisor: Serving) -> float | None:
        if advisor.site.shift_ends is None:
            return None
        return Calendar.next_wall_time(self._now, minutes(advisor.site.shift_ends), self._zone)

    def _reach_set(self, event: ReachSet) -> None:
        advisor = self._roster.by_id.get(event.advisor)
        if advisor is None or advisor.reachable(event.channel) == event.reachable:
            return
        advisor.reach[event.channel] = event.reachable
        self._roster.refresh(advisor)
        if event.reachable:
            self._free[advisor.id] = advisor
        else:
            self._cancel_offers(advisor, "unreachable", event.channel)
            self._left_work(advisor)

    def _restore(self, event: Restore) -> None:
        self._next_offer = max(self._next_offer, event.next_offer)
        for id, at in event.idle_since.items():
            if id in self._roster.by_id:
                self._roster.by_id[id].idle_us = micros(at)
                self._roster.refresh(self._roster.by_id[id])
        for id, misses in event.misses.items():
            if id in self._roster.by_id:
                self._roster.by_id[id].misses = misses
        for kept in event.kept:
            told = kept.enqueue
            rules = self._queues.get(told.queue)
            advisor = self._roster.by_id.get(kept.advisor or "")
            if told.interaction in self._items:
                continue
            if rules is None:
                if kept.state == "waiting":
                    self._out.append(Denied("restore", told.interaction, None, "unknown queue"))
                    continue
                item = Item(told.interaction, told.channel, told.since, self._now)
                item.contact, item.epoch = told.contact, told.epoch
                if item.contact is not None:
                    self._contact(item.contact)
            else:
                item = self._made(told, rules)
            item.entered = told.since
            item.avoid.update(kept.avoid)
            if kept.state != "waiting" and advisor is None:
                self._out.append(Denied("restore", told.interaction, kept.advisor, "unknown advisor"))
                continue
            self._items[item.id] = item
            if kept.state == "waiting":
                assert rules is not None
                if rules.overflow_after_s is not None and rules.overflow_to is not None:
                    self._at(item.entered + rules.overflow_after_s, "overflow", item, rules.id)
                self._wait(item)
            elif kept.state == "active":
                assert advisor is not None
                item.aside = kept.aside
                self._seat(advisor, item.channel, 0 if kept.aside else 1)
                self._begin(item, advisor)
                item.began = None
                lender = self._items.get(kept.exchange or "")
                if lender is not None and lender.state is State.ACTIVE and lender.advisor == advisor.id:
                    self._lend(lender, item, advisor)
                    self._roster.refresh(advisor)
            else:
                assert advisor is not None
                item.state, item.advisor = State.WRAPUP, advisor.id
                item.extended = kept.wrapup_extended
                item.wrapup_until = kept.wrapup_until if kept.wrapup_until is not None else self._now
                advisor.wrapups.add(item.id)
                self._roster.refresh(advisor)
                self._at(item.wrapup_until, "wrapup", item, item.wrapup_until)

    def _at(self, at: float, kind: str, ref: object, stamp: object) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (at, self._timer_count, kind, ref, stamp))

    def _holds(self, kind: str, ref: Any, stamp: Any) -> bool:
        """Whether a timer still means something."""
        if kind == "offer":
            return bool(ref.state is State.OFFERED and ref.offer == stamp)
        if kind == "wrapup":
            return bool(ref.state is State.WRAPUP and ref.wrapup_until == stamp)
        if kind == "hold":
            return bool(ref.state is State.WAITING and ref.held_until == stamp)
        if kind == "pause":
            return bool(ref.presence == "pause" and ref.pause_until == stamp)
        if kind == "overflow":
            # Kept while it is offered too: it may come back.
            return bool(ref.state in (State.WAITING, State.OFFERED) and ref.rules.id == stamp)
        if kind == "closing":
            return bool(stamp == self._rules)
        return True

    def _tick(self, event: Tick) -> None:
        """What was due has happened before the event is looked at."""

    def _pass(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= self._now:
            _, _, kind, ref, stamp = heapq.heappop(timers)
            if self._holds(kind, ref, stamp):
                self._due(kind, ref, stamp)
        if self._free or self._new:
            self._match()

    def _due(self, kind: str, ref: Any, stamp: Any) -> None:
        if kind == "offer":
            self._missed(ref, "expired", "")
        elif kind == "wrapup":
            self._end_wrapup(ref, "expired")
        elif kind == "hold":
            if ref.place == HELD:
                self._leave(ref)
                self._stand(ref)
        elif kind == "pause":
            self._present(ref, "offline", None, None)
            self._out.append(PauseEnded(ref.id, "offline"))
        elif kind == "overflow":
            self._overflow(ref)
        elif kind == "closing":
            self._close(ref)
        elif kind == "forecast":
            self._forecast()

    def _overflow(self, item: Item) -> None:
        rules = item.rules
        if (
            rules is None
            or rules.overflow_after_s is None
            or self._now < item.entered + rules.overflow_after_s
        ):
            return  # the rules have changed since; a timer of the new ones is set
        to = self._queues.get(rules.overflow_to or "")
        if to is None or to is rules:
            return
        if item.state is State.OFFERED:
            self._at(item.deadline, "overflow", item, rules.id)  # look again when the offer is over
            return
        self._stop_waiting(item)
        self._out.append(Overflowed(item.id, rules.id, to.id))
        item.rules = to
        item.entered = self._now
        item.avoid.clear()
        self._aim(item)
        if to.overflow_after_s is not None and to.overflow_to is not None:
            # At least a second in each queue, so that two that point at each other make no endless step.
            self._at(self._now + max(1.0, to.overflow_after_s), "overflow", item, to.id)
        self._wait(item)

    def _close(self, queue: Queue) -> None:
        """The queue has opened or closed."""
        shut = not self._open(queue)
        (self._shut.add if shut else self._shut.discard)(queue.id)
        for (id, channel), group in list(self._groups.items()):
            if id != queue.id:
                continue
            for item in list(group.waiting.values()):
                if channel not in ENDS_AT_CLOSING:
                    self._sort_out(item)
                elif shut and queue.at_closing != "serve":
                    self._stop_waiting(item)
                    item.state = State.ENDED
                    del self._items[item.id]
                    self._out.append(ClosingReached(item.id, queue.id, queue.at_closing))
        self._closing(queue)

    def _sort_out(self, item: Item) -> None:
        """Set aside one that must not be offered now, or bring it back."""
        blocked = self._blocked(item)
        if blocked and item.place != PARKED:
            self._leave(item)
            item.place = PARKED
        elif not blocked and item.place == PARKED:
            self._stand(item)

    def _forecast(self) -> None:
        again = False
        for (queue, channel), group in self._groups.items():
            rules = self._queues.get(queue)
            if rules is None or channel not in rules.targets:
                continue
            if queue in self._shut and channel not in ENDS_AT_CLOSING:
                again = again or bool(group.waiting)
                continue
            outcomes = group.outcomes
            while outcomes and outcomes[0][0] < self._now - FORECAST_WINDOW_S:
                outcomes.popleft()
            if not group.waiting:
                group.told_breach = False
                continue
            again = True
            target = rules.targets[channel]
            good, all_ = sum(1 for _, in_time in outcomes if in_time), len(outcomes)
            waiting = len(group.waiting)
            # The share can still be kept while at most `spare` of those waiting are late.
            spare = int(good + waiting - target.share * (all_ + waiting) + 1e-9)
            if spare < 0:
                in_s = 0.0
            elif spare >= waiting:
                in_s = float("inf")
            else:
                oldest = heapq.nsmallest(spare + 1, (item.entered for item in group.waiting.values()))
                in_s = max(0.0, oldest[-1] + target.seconds - self._now)
            if in_s <= FORECAST_AHEAD_S:
                if not group.told_breach:
                    group.told_breach = True
                    self._out.append(BreachForecast(queue, channel, in_s))
            else:
                group.told_breach = False
        self._forecasting = again
        if again:
            self._at(self._now + FORECAST_EVERY_S, "forecast", None, None)

    def state(self, interaction: str) -> tuple[State, str | None, int] | None:
        """(state, advisor, epoch) of what is waiting, offered, active or in wrap-up; else None."""
        item = self._items.get(interaction)
        return None if item is None else (item.state, item.advisor, item.epoch)

    def advisor_state(self, advisor: str) -> str | None:
        """ready | busy | wrapup | pause | offline."""
        found = self._roster.by_id.get(advisor)
        return None if found is None else found.state()

    def place(self, interaction: str) -> int:
        """True service rank, from 1, among all who wait for the same people (Q9); 0 if it does not wait."""
        ahead = self.ahead(interaction)
        return 0 if ahead is None else len(ahead) + 1

    def estimate(self, interaction: str) -> Range | None:
        """How long it will still wait; None when it does not wait, or nobody can know (Q10)."""
        item, ahead = self._items.get(interaction), self.ahead(interaction)
        if item is None or item.line is None or ahead is None or item.place == PARKED:
            return None
        return self._expected(item.line, len(ahead) + 1)

    def _expected(self, line: Line, place: int) -> Range | None:
        handled = self._group(line.rules.id, line.channel).handled
        return handled.wait(place, self._roster.seats(line))

    def ahead(self, interaction: str) -> dict[str, str] | None:
        """Who is served before this one, with the reason should they be new there; None if it does not wait.

        priority (came later, counts more), related_hold (was kept for one advisor), returned (had been offered
        before) or staff (waits for the same people only since somebody came or went).
        """
        item = self._items.get(interaction)
        if item is None or item.state is not State.WAITING or item.line is None:
            return None
        now_us = self._now_us
        own = (item.inverse - item.line.weight * now_us, item.since_us, item.id)
        found: dict[str, str] = {}
        for line in self._lines.values():
            if line.channel == item.channel and (line.live or line.shy) and self._share(line, item.line):
                shift = line.weight * now_us
                for other in line.items():
                    if (other.inverse - shift, other.since_us, other.id) < own:
                        found[other.id] = _why_ahead(other, item)
        return found

    def _share(self, one: Line, other: Line) -> bool:
        """Whether somebody could serve both lines."""
        if one is other:
            return True
        key = (id(one), id(other))
        known = self._sharing.get(key)
        if known is None or known[0] != self._roster.version:
            self._roster.survey(one)
            self._roster.survey(other)
            known = (self._roster.version, not set(one.rows.tolist()).isdisjoint(other.rows.tolist()))
            self._sharing[key] = known
        return known[1]

    def why_not(self, interaction: str) -> Mapping[str, int]:
        """Advisors by the first reason why they do not have this waiting interaction now; else empty."""
        item = self._items.get(interaction)
        if item is None or item.state is not State.WAITING or item.line is None:
            return {}
        counts = self._roster.counts(item.line)
        reasons = item.line.lacking.copy()
        for code in range(1, 6):
            if counts[code]:
                reasons[_CODES[code]] = counts[code]
        if counts[0]:
            if item.place == HELD:
                reasons[f"held for {item.related}"] = counts[0]
            elif item.place == PARKED:
                reasons["closed" if self._closed_for(item) else "contact busy"] = counts[0]
            else:
                reasons["refused"] = counts[0]
        return reasons

    def board(self, now: float) -> Board:
        """The numbers of every queue and channel that has had somebody, and the advisors by state."""
        rows = []
        for (queue, channel), group in sorted(self._groups.items()):
            rules = self._queues.get(queue)
            staff: dict[str, int] = {}
            expected: Range | None = None
            if rules is not None:
                line = self._line(rules, channel, ())
                staff = {_CODES[code]: n for code, n in enumerate(self._roster.counts(line)) if n}
                if staff.get("free", 0) > len(group.waiting):
                    expected = (0.0, 0.0)
                elif queue not in self._shut:
                    expected = self._expected(line, len(group.waiting) + 1)
            oldest = min((item.since for item in group.waiting.values()), default=now)
            rows.append(
                QueueNumbers(
                    queue,
                    channel,
                    len(group.waiting),
                    max(0.0, now - oldest),
                    group.offered,
                    group.active,
                    staff,
                    expected,
                )
            )
        return Board(tuple(rows), _count(a.state() for a in self._roster.by_id.values()))


def _count(words: Iterable[str]) -> dict[str, int]:
    found = dict.fromkeys(("ready", "busy", "wrapup", "pause", "offline"), 0)
    for word in words:
        found[word] += 1
    return found


def _why_ahead(other: Item, item: Item) -> str:
    if other.since_us >= item.since_us:
        return "priority"
    if other.held_until is not None:
        return "related_hold"
    return "returned" if other.epoch else "staff"
