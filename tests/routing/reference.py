"""The distribution told again by scanning everything: slow, plain, and right by inspection.

It shares the values of events and decisions with the model, and nothing else: scores are fractions, lists are
searched from end to end, and after every event the rule of matching is applied literally.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

from routing import steps as s
from routing.site import Advisor, Need, Queue


@dataclass
class Thing:
    told: s.Enqueue | None
    id: str
    channel: str
    contact: str | None
    since: float
    queue: str | None
    priority: int | None
    state: str = "waiting"
    advisor: str | None = None
    epoch: int = 0
    offer: int = 0
    avoid: set[str] = field(default_factory=set)
    held_until: float | None = None
    wrapup_until: float = 0.0
    extended: bool = False
    aside: bool = False


@dataclass
class Person:
    site: Advisor
    presence: str = "offline"
    reach: dict[str, bool] = field(default_factory=dict)
    idle_us: int = 0
    misses: int = 0
    gone: bool = False


class Reference:
    def __init__(self) -> None:
        self.now = 0.0
        self.queues: dict[str, Queue] = {}
        self.things: dict[str, Thing] = {}
        self.people: dict[str, Person] = {}
        self.timers: list[tuple[float, int, str, str, float]] = []
        self.count = 0
        self.offers: dict[int, str] = {}
        self.out: list[s.Decision] = []
        self.last_order: dict[int, list[str]] = {}

    def needs(self, thing: Thing) -> tuple[Need, ...]:
        assert thing.queue is not None
        assert thing.told is not None
        return self.queues[thing.queue].needs + thing.told.needs

    def can(self, person: Person, thing: Thing) -> bool:
        return (
            not person.gone
            and person.site.seats.get(thing.channel, 0) > 0
            and (person.site.queues is None or thing.queue in person.site.queues)
            and all(
                any(person.site.skills.get(skill, 0) >= level for skill, level in need.any_of)
                for need in self.needs(thing)
            )
        )

    def reachable(self, person: Person, channel: str) -> bool:
        return person.reach.get(channel, channel != "voice")

    def work(self, id: str, channel: str | None = None) -> int:
        return sum(
            1
            for t in self.things.values()
            if t.advisor == id
            and (t.state == "offered" or (t.state == "active" and not t.aside))
            and channel in (None, t.channel)
        )

    def free(self, id: str, channel: str) -> bool:
        person = self.people[id]
        return (
            person.presence == "ready"
            and self.reachable(person, channel)
            and not any(t.advisor == id and t.state == "wrapup" for t in self.things.values())
            and self.work(id, channel) < person.site.seats.get(channel, 0)
        )

    def blocked(self, thing: Thing) -> bool:
        assert thing.told is not None
        if thing.contact is None:
            return False
        mates = [t for t in self.things.values() if t is not thing and t.contact == thing.contact]
        return any(t.state == "offered" for t in mates) or (
            thing.told.callback and any(t.state == "active" and t.channel == thing.channel for t in mates)
        )

    def holder(self, thing: Thing) -> str | None:
        related = thing.told.related if thing.told is not None else None
        if related is None or related not in self.people or thing.held_until is None:
            return None
        person = self.people[related]
        if (
            self.now >= thing.held_until
            or person.presence == "offline"
            or related in thing.avoid
            or not self.reachable(person, thing.channel)
            or not self.can(person, thing)
        ):
            return None
        return related

    def someone_else(self, thing: Thing) -> bool:
        return any(
            person.presence == "ready"
            and self.reachable(person, thing.channel)
            and self.can(person, thing)
            and id not in thing.avoid
            for id, person in self.people.items()
        )

    def order(self, thing: Thing) -> list[str]:
        """Those who may have it, best first."""
        holder = self.holder(thing)
        others = self.someone_else(thing)
        assert thing.queue is not None
        rules = self.queues[thing.queue]

        def rank(id: str) -> tuple[bool, int, int, int, str]:
            person = self.people[id]
            assert thing.told is not None
            related = thing.told.related == id and id not in thing.avoid
            skill = 0
            if rules.prefer == "skill":
                for need in self.needs(thing):
                    skill += max(
                        (
                            person.site.skills.get(k, 0)
                            for k, low in need.any_of
                            if person.site.skills.get(k, 0) >= low
                        ),
                        default=0,
                    )
            return not related, -skill, self.work(id), person.idle_us, id

        may = [
            id
            for id, person in self.people.items()
            if self.can(person, thing)
            and self.free(id, thing.channel)
            and holder in (None, id)
            and not (id in thing.avoid and others)
        ]
        return sorted(may, key=rank)

    def key(self, thing: Thing) -> tuple[Fraction, int, str]:
        assert thing.queue is not None
        rules = self.queues[thing.queue]
        since_us = round(thing.since * 1e6)
        priority = rules.priority if thing.priority is None else thing.priority
        ageing = Fraction(round(rules.ageing_per_minute * 1000), 1000)
        return (
            -(priority + ageing * Fraction(round(self.now * 1e6) - since_us, 60_000_000)),
            since_us,
            thing.id,
        )

    def match(self) -> None:
        while True:
            waiting = sorted((t for t in self.things.values() if t.state == "waiting"), key=self.key)
            for thing in waiting:
                order = [] if self.blocked(thing) else self.order(thing)
                if order:
                    self.offer(thing, order)
                    break
            else:
                return

    def offer(self, thing: Thing, order: list[str]) -> None:
        assert thing.queue is not None
        id = order[0]
        if id in thing.avoid:
            thing.avoid.clear()
        thing.state, thing.advisor = "offered", id
        thing.epoch += 1
        self.count += 1
        thing.offer = len(self.offers) + 1
        self.offers[thing.offer] = thing.id
        self.last_order[thing.offer] = order
        deadline = self.now + self.queues[thing.queue].offer_s.get(thing.channel, 60.0)
        self.timer(deadline, "offer", thing.id, thing.offer)
        # `why` is compared apart.
        self.out.append(
            s.Offered(thing.offer, thing.id, id, thing.queue, thing.channel, deadline, thing.epoch, None)  # type: ignore[arg-type]
        )

    def timer(self, at: float, kind: str, id: str, stamp: float) -> None:
        self.timers.append((at, len(self.timers), kind, id, stamp))

    def end_offer(self, thing: Thing, how: str, reason: str) -> Person:
        assert thing.advisor is not None
        self.out.append(s.OfferEnded(thing.offer, thing.id, thing.advisor, how, reason, thing.epoch))
        person = self.people[thing.advisor]
        if how != "accepted":
            thing.state, thing.advisor = "waiting", None
        return person

    def missed(self, thing: Thing, how: str, reason: str) -> None:
        id = thing.advisor
        assert id is not None
        assert thing.queue is not None
        person = self.end_offer(thing, how, reason)
        person.misses += 1
        thing.avoid.add(id)
        most = self.queues[thing.queue].after_misses
        if most and person.misses >= most and person.presence == "ready":
            self.out.append(s.Paused(id, "missed"))
            self.present(id, "pause", "missed")

    def present(self, id: str, presence: str, reason: str | None) -> None:
        person = self.people[id]
        if person.presence == "offline" and presence != "offline":
            person.idle_us = round(self.now * 1e6)
        person.presence = presence
        if presence == "ready":
            person.misses = 0
            return
        for thing in [t for t in self.things.values() if t.state == "offered" and t.advisor == id]:
            self.end_offer(thing, "cancelled", presence if reason is None else f"{presence} {reason}")

    def wrapped(self, thing: Thing, how: str) -> None:
        assert thing.advisor is not None
        self.people[thing.advisor].idle_us = round(self.now * 1e6)
        self.out.append(s.WrapupEnded(thing.id, thing.advisor, how))
        del self.things[thing.id]

    def finish(self, thing: Thing) -> None:
        assert thing.advisor is not None
        self.people[thing.advisor].idle_us = round(self.now * 1e6)
        most = 60.0 if thing.queue is None else self.queues[thing.queue].wrapup_max_s
        if most <= 0:
            self.wrapped(thing, "none")
            return
        thing.state = "wrapup"
        thing.wrapup_until = self.now + most
        self.timer(thing.wrapup_until, "wrapup", thing.id, thing.wrapup_until)
        self.out.append(s.WrapupStarted(thing.id, thing.advisor, thing.wrapup_until))

    def step(self, event: s.Event, now: float) -> list[s.Decision]:
        self.now = max(self.now, now)
        self.out = []
        due = [t for t in self.timers if t[0] <= self.now]
        if due:
            for timer in sorted(due):
                _, _, kind, id, stamp = timer
                self.timers[self.timers.index(timer)] = (float("inf"), 0, "", "", 0.0)
                thing = self.things.get(id)
                if thing is None:
                    continue
                if kind == "offer" and thing.state == "offered" and thing.offer == stamp:
                    self.missed(thing, "expired", "")
                elif kind == "wrapup" and thing.state == "wrapup" and thing.wrapup_until == stamp:
                    self.wrapped(thing, "expired")
            self.match()
        self.told(event)
        for id in [id for id, person in self.people.items() if person.gone]:
            if not any(t.advisor == id for t in self.things.values()):
                del self.people[id]
        self.match()
        return self.out

    def kept(self) -> s.Restore:
        """What a store would give back after a crash; offers in flight are nobody's any more, nor is anybody held."""
        found = []
        for thing in self.things.values():
            if thing.state == "offered":
                thing.state, thing.advisor = "waiting", None
            thing.held_until = None
            told = thing.told or s.Enqueue(thing.id, "", thing.channel, thing.since, contact=thing.contact)
            told = replace(
                told, epoch=thing.epoch, priority=thing.priority, related=None, contact=thing.contact
            )
            thing.told = told if thing.told is not None else None
            until = thing.wrapup_until if thing.state == "wrapup" else None
            found.append(
                s.Kept(
                    told,
                    thing.state,
                    thing.advisor,
                    until,
                    thing.extended,
                    tuple(sorted(thing.avoid)),
                    aside=thing.state == "active" and thing.aside,
                )
            )
        return s.Restore(
            tuple(found),
            len(self.offers) + 1,
            {id: person.idle_us / 1e6 for id, person in self.people.items()},
            {id: person.misses for id, person in self.people.items()},
        )

    def told(self, event: s.Event) -> None:
        match event:
            case s.RulesSet():
                self.queues = {q.id: q for q in event.queues}
            case s.AdvisorSet():
                if event.advisor.id in self.people:
                    self.people[event.advisor.id].site = event.advisor
                    if self.people[event.advisor.id].gone:
                        self.people[event.advisor.id].gone = False
                        self.people[event.advisor.id].reach = {}
                else:
                    self.people[event.advisor.id] = Person(event.advisor, idle_us=round(self.now * 1e6))
            case s.AdvisorGone():
                if event.advisor in self.people:
                    self.present(event.advisor, "offline", None)
                    self.people[event.advisor].gone = True
            case s.PresenceSet():
                if event.advisor in self.people and not self.people[event.advisor].gone:
                    self.present(event.advisor, event.presence, event.reason)
            case s.ReachSet():
                if event.advisor in self.people:
                    person = self.people[event.advisor]
                    person.reach[event.channel] = event.reachable
                    if not event.reachable:
                        for t in [t for t in self.things.values() if t.state == "offered"]:
                            if t.advisor == event.advisor and t.channel == event.channel:
                                self.end_offer(t, "cancelled", "unreachable")
            case s.Enqueue():
                self.enqueue(event)
            case s.Withdraw():
                self.withdraw(event)
            case s.Accept() | s.Refuse() | s.Miss():
                self.answer(event)
            case s.Finish():
                thing = self.things.get(event.interaction)
                if thing is not None and thing.state == "active":
                    self.finish(thing)
            case s.WrapupDone():
                thing = self.things.get(event.interaction)
                if thing is not None and thing.state == "wrapup":
                    self.wrapped(thing, "done")
            case s.WrapupExtended():
                thing = self.things.get(event.interaction)
                if thing is not None and thing.state == "wrapup" and not thing.extended:
                    thing.extended = True
                    assert thing.advisor is not None
                    more = 60.0 if thing.queue is None else self.queues[thing.queue].wrapup_extension_s
                    thing.wrapup_until += more
                    self.timer(thing.wrapup_until, "wrapup", thing.id, thing.wrapup_until)
                    self.out.append(s.WrapupStarted(thing.id, thing.advisor, thing.wrapup_until))
            case s.Requeue():
                thing = self.things.get(event.interaction)
                if thing is not None and thing.state == "active":
                    assert thing.advisor is not None
                    if thing.queue is None:
                        self.out.append(
                            s.Denied("requeue", thing.id, thing.advisor, "unknown queue", thing.advisor)
                        )
                        return
                    self.people[thing.advisor].idle_us = round(self.now * 1e6)
                    self.out.append(s.Released(thing.id, thing.advisor, True))
                    if event.avoid:
                        thing.avoid.add(thing.advisor)
                    thing.state, thing.advisor = "waiting", None
            case s.PrioritySet():
                if event.interaction in self.things:
                    self.things[event.interaction].priority = event.priority
            case s.Assign():
                self.assign(event)
            case s.SetAside():
                thing = self.things.get(event.interaction)
                if thing is not None and thing.state == "active" and thing.aside != event.aside:
                    assert thing.advisor is not None
                    thing.aside = event.aside
                    if thing.aside:
                        self.people[thing.advisor].idle_us = round(self.now * 1e6)
            case s.Tick():
                pass
            case _:
                raise AssertionError(event)

    def answer(self, event: s.Accept | s.Refuse | s.Miss) -> None:
        thing = self.things.get(self.offers.get(event.offer, ""))
        if thing is None or thing.state != "offered" or thing.offer != event.offer:
            if isinstance(event, s.Accept):
                holder = thing.advisor if thing is not None else None
                why = "taken" if holder is not None else "offer over"
                self.out.append(
                    s.Denied("accept", self.offers.get(event.offer), None, why, holder, event.offer)
                )
            return
        if isinstance(event, s.Accept):
            self.end_offer(thing, "accepted", "").misses = 0
            thing.state, thing.aside = "active", False
            thing.avoid.clear()
            thing.held_until = None
        elif isinstance(event, s.Refuse):
            thing.avoid.add(thing.advisor or "")
            self.end_offer(thing, "refused", event.reason)
        else:
            self.missed(thing, "missed", event.reason)

    def enqueue(self, event: s.Enqueue) -> None:
        if event.queue not in self.queues:
            self.out.append(s.Denied("enqueue", event.interaction, None, "unknown queue"))
            return
        rules = self.queues[event.queue]
        old = self.things.get(event.interaction)
        if old is not None and old.state in ("offered", "wrapup"):
            self.out.append(s.Denied("enqueue", event.interaction, old.advisor, "taken", old.advisor))
            return
        inside = sum(
            1
            for t in self.things.values()
            if t.state == "waiting" and t.queue == event.queue and t.channel == event.channel
        )
        if event.channel == "voice" and inside >= rules.max_waiting:
            self.out.append(s.Denied("enqueue", event.interaction, None, "queue full"))
            return
        epoch = event.epoch
        if old is not None:
            epoch = max(epoch, old.epoch)
            if old.state == "active":
                assert old.advisor is not None
                self.people[old.advisor].idle_us = round(self.now * 1e6)
                self.out.append(s.Released(old.id, old.advisor, True))
            del self.things[old.id]
        thing = self.things[event.interaction] = Thing(
            event, event.interaction, event.channel, event.contact, event.since, event.queue, event.priority
        )
        thing.epoch = epoch
        hold_s = event.hold_s if event.hold_s is not None else rules.related_hold_s.get(event.channel, 0.0)
        if event.related is not None and hold_s > 0:
            thing.held_until = self.now + hold_s
            self.timer(thing.held_until, "hold", thing.id, thing.held_until)

    def withdraw(self, event: s.Withdraw) -> None:
        thing = self.things.get(event.interaction)
        if thing is None:
            return
        if thing.state == "active":
            self.finish(thing)
        elif thing.state == "offered":
            self.end_offer(thing, "cancelled", "withdrawn")
            del self.things[thing.id]
        elif thing.state == "waiting":
            del self.things[thing.id]

    def assign(self, event: s.Assign) -> None:
        thing = self.things.get(event.interaction)
        person = self.people.get(event.advisor)
        why, holder = "", None
        if thing is not None and thing.state != "waiting":
            why, holder = "taken", thing.advisor
        elif person is None:
            why = "unknown advisor"
        elif person.presence == "offline":
            why = "offline"
        elif not self.reachable(person, event.channel):
            why = "phone not registered"
        elif self.work(event.advisor, event.channel) >= person.site.seats.get(event.channel, 0):
            why = "no free seat"
        if why:
            self.out.append(s.Denied("assign", event.interaction, event.advisor, why, holder))
            return
        if thing is None:
            queue = event.queue if event.queue in self.queues else None
            thing = self.things[event.interaction] = Thing(
                None if queue is None else s.Enqueue(event.interaction, queue, event.channel, self.now),
                event.interaction,
                event.channel,
                event.contact,
                self.now,
                queue,
                None,
            )
            thing.epoch = event.epoch
        thing.state, thing.advisor, thing.aside = "active", event.advisor, False
        thing.held_until = None
        thing.epoch += 1
        self.out.append(s.Assigned(thing.id, event.advisor, thing.channel, thing.epoch))
