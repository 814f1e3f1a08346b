"""The model beside the naive reference, step by step, and the invariants after each (faults.md 2 and 7.2)."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from routing import steps as s
from routing.distribution import Distribution
from routing.site import Advisor, Need, Queue
from tests.routing.reference import Reference
from tests.routing.watch import Watch

SKILLS = ("fr", "en", "vip")
CHANNELS = ("voice", "chat", "mail")
START = 1_700_000_000.0


def plain(decisions: list[s.Decision]) -> list[str]:
    return sorted(repr(replace(d, why=None) if isinstance(d, s.Offered) else d) for d in decisions)  # type: ignore[arg-type]


class Pair:
    """Both told the same, both answering the same."""

    def __init__(self) -> None:
        self.model, self.reference = Distribution(), Reference()
        self.watch: Watch | None = Watch()  # until a crash: it knows nothing of stores
        self.now = START
        self.history: list[tuple[float, s.Event]] = []
        self.offers: dict[int, s.Offered] = {}
        self.ever: list[int] = []
        self.count = 0

    def tell(self, event: s.Event) -> list[s.Decision]:
        self.history.append((self.now, event))
        told = self.model.step(event, self.now)
        expected = self.reference.step(event, self.now)
        assert plain(told) == plain(expected), event
        for decision in told:
            if isinstance(decision, s.Offered):
                self.offers[decision.offer] = decision
                self.ever.append(decision.offer)
                why, order = decision.why, self.reference.last_order[decision.offer]
                assert why.available == len(order)
                assert [c.advisor for c in why.candidates] == order[:5]
            elif isinstance(decision, s.OfferEnded):
                del self.offers[decision.offer]
        if self.watch is not None:
            self.watch.see(event, told, self.now)
        for id, thing in self.reference.things.items():
            state = self.model.state(id)
            assert state is not None
            assert (state[0].value, state[1], state[2]) == (thing.state, thing.advisor, thing.epoch)
        deadline = self.model.deadline()
        assert deadline is None or deadline > self.now
        return told

    def crash(self) -> None:
        """Only what a store keeps survives; the next model must go on as the reference does."""
        self.reference.now = self.now
        if any(person.gone for person in self.reference.people.values()):
            return  # a store keeps the departed until their last word; this test does not
        kept = self.reference.kept()
        self.model, self.watch = Distribution(), None
        self.model.step(s.RulesSet(tuple(self.reference.queues.values())), self.now)
        for id, person in self.reference.people.items():
            self.model.step(s.AdvisorSet(person.site), self.now)
            for channel, reachable in person.reach.items():
                self.model.step(s.ReachSet(id, channel, reachable), self.now)
            if person.presence != "offline":
                self.model.step(s.PresenceSet(id, person.presence), self.now)
        told = self.model.step(kept, self.now)
        self.reference.out = []
        self.reference.match()
        assert plain(told) == plain(self.reference.out)
        self.offers = {d.offer: d for d in told if isinstance(d, s.Offered)}
        self.ever = list(self.offers)


def some_needs(chance: random.Random) -> tuple[Need, ...]:
    return tuple(
        Need(
            tuple((skill, chance.randint(1, 4)) for skill in chance.sample(SKILLS, chance.choice((1, 1, 2))))
        )
        for _ in range(chance.choice((0, 1, 1, 2)))
    )


def some_rules(chance: random.Random) -> s.RulesSet:
    return s.RulesSet(
        tuple(
            Queue(
                id,
                id,
                needs=some_needs(chance),
                priority=chance.randint(0, 3),
                ageing_per_minute=chance.choice((0.0, 0.5, 1.0, 3.0)),
                prefer=chance.choice(("longest_idle", "skill")),
                offer_s={"voice": 15.0, "chat": 60.0},
                related_hold_s={"voice": 30.0, "chat": 90.0},
                wrapup_max_s=chance.choice((0.0, 20.0)),
                wrapup_extension_s=20.0,
                max_waiting=6,
                after_misses=chance.choice((0, 2)),
            )
            for id in ("qa", "qb", "qc")
        )
    )


def some_advisor(chance: random.Random, id: str) -> s.AdvisorSet:
    return s.AdvisorSet(
        Advisor(
            id,
            id,
            id,
            skills={skill: chance.randint(1, 5) for skill in chance.sample(SKILLS, chance.randint(0, 3))},
            seats={
                "voice": chance.choice((0, 1, 1)),
                "chat": chance.randint(0, 3),
                "mail": chance.randint(0, 2),
            },
            queues=chance.choice((None, None, ("qa",), ("qb", "qc"))),
        )
    )


class Machine(RuleBasedStateMachine):
    """Each rule draws one number as the seed of its details, so that a failure shrinks to few steps."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()

    @initialize(seed=st.integers(0, 10**6))
    def start(self, seed: int) -> None:
        chance = random.Random(seed)
        self.pair.tell(some_rules(chance))
        for id in ("ana", "bob", "cyd", "dan"):
            self.pair.tell(some_advisor(chance, id))
            self.pair.tell(s.ReachSet(id, "voice", True))
            if chance.random() < 0.7:
                self.pair.tell(s.PresenceSet(id, "ready"))

    def _some(self, state: str, pick: int) -> str | None:
        found = sorted(id for id, thing in self.pair.reference.things.items() if thing.state == state)
        return found[pick % len(found)] if found else None

    @rule(
        queue=st.sampled_from(("qa", "qb", "qc")),
        channel=st.sampled_from(CHANNELS),
        contact=st.sampled_from((None, None, "c1", "c2")),
        related=st.sampled_from((None, None, "ana", "bob", "zoe")),
        priority=st.sampled_from((None, None, 0, 5)),
        age=st.sampled_from((0.0, 0.0, 60.0, 300.0)),
        callback=st.booleans(),
        seed=st.integers(0, 9),
    )
    def enqueue(
        self,
        queue: str,
        channel: str,
        contact: str | None,
        related: str | None,
        priority: int | None,
        age: float,
        callback: bool,
        seed: int,
    ) -> None:
        pair = self.pair
        pair.count += 1
        needs = some_needs(random.Random(seed)) if seed > 6 else ()
        pair.tell(
            s.Enqueue(
                f"i{pair.count}",
                queue,
                channel,
                pair.now - age,
                priority,
                needs,
                contact,
                related,
                callback=callback,
            )
        )

    @rule(pick=st.integers(0, 50), how=st.sampled_from(("accept", "accept", "accept", "refuse", "miss")))
    def answer(self, pick: int, how: str) -> None:
        offers = sorted(self.pair.offers)
        if offers:
            offer = offers[pick % len(offers)]
            event: s.Event = s.Accept(offer)
            if how == "refuse":
                event = s.Refuse(offer)
            elif how == "miss":
                event = s.Miss(offer)
            self.pair.tell(event)

    @precondition(lambda self: self.pair.ever)
    @rule(pick=st.integers(0, 50))
    def answer_late(self, pick: int) -> None:
        offer = self.pair.ever[pick % len(self.pair.ever)]
        if offer not in self.pair.offers:
            self.pair.tell(s.Accept(offer))

    @rule(seconds=st.sampled_from((0.0, 0.25, 5.0, 15.0, 31.0, 100.0)))
    def time_passes(self, seconds: float) -> None:
        """Timers come at their own instants, as they would from a clock."""
        pair = self.pair
        until = pair.now + seconds
        while (at := pair.model.deadline()) is not None and at <= until:
            pair.now = at
            pair.tell(s.Tick())
        pair.now = until

    @rule(seconds=st.sampled_from((20.0, 200.0)))
    def time_jumps(self, seconds: float) -> None:
        self.pair.now += seconds
        self.pair.tell(s.Tick())

    @rule(pick=st.integers(0, 50), what=st.sampled_from((s.Finish, s.Finish, s.Requeue, s.Withdraw)))
    def stop(self, pick: int, what: type[s.Finish] | type[s.Requeue] | type[s.Withdraw]) -> None:
        id = self._some("active", pick)
        if id is not None:
            self.pair.tell(what(id))

    @rule(pick=st.integers(0, 50), aside=st.booleans())
    def put_on_hold(self, pick: int, aside: bool) -> None:
        id = self._some("active", pick)
        if id is not None:
            self.pair.tell(s.SetAside(id, aside))

    @rule(pick=st.integers(0, 50), state=st.sampled_from(("waiting", "offered")))
    def hang_up(self, pick: int, state: str) -> None:
        id = self._some(state, pick)
        if id is not None:
            self.pair.tell(s.Withdraw(id))

    @rule(pick=st.integers(0, 50), what=st.sampled_from((s.WrapupDone, s.WrapupExtended)))
    def wrap(self, pick: int, what: type[s.WrapupDone] | type[s.WrapupExtended]) -> None:
        id = self._some("wrapup", pick)
        if id is not None:
            self.pair.tell(what(id))

    @rule(
        advisor=st.sampled_from(("ana", "bob", "cyd", "dan")),
        presence=st.sampled_from(("ready", "ready", "pause", "offline")),
    )
    def presence(self, advisor: str, presence: str) -> None:
        self.pair.tell(s.PresenceSet(advisor, presence))

    @rule(
        advisor=st.sampled_from(("ana", "bob", "cyd", "dan")),
        channel=st.sampled_from(("voice", "voice", "chat")),
        reachable=st.booleans(),
    )
    def reach(self, advisor: str, channel: str, reachable: bool) -> None:
        self.pair.tell(s.ReachSet(advisor, channel, reachable))

    @rule(pick=st.integers(0, 50), priority=st.integers(0, 9))
    def prioritise(self, pick: int, priority: int) -> None:
        id = self._some("waiting", pick)
        if id is not None:
            self.pair.tell(s.PrioritySet(id, priority))

    @rule(
        pick=st.integers(0, 50),
        advisor=st.sampled_from(("ana", "bob", "zoe")),
        fresh=st.booleans(),
        queue=st.sampled_from((None, "qa")),
        contact=st.sampled_from((None, "c1")),
    )
    def assign(self, pick: int, advisor: str, fresh: bool, queue: str | None, contact: str | None) -> None:
        pair = self.pair
        id = None if fresh else self._some("waiting", pick)
        if id is None:
            pair.count += 1
            pair.tell(s.Assign(f"i{pair.count}", advisor, "voice", contact, queue))
        else:
            pair.tell(s.Assign(id, advisor, pair.reference.things[id].channel))

    @rule(
        pick=st.integers(0, 50),
        state=st.sampled_from(("waiting", "active")),
        queue=st.sampled_from(("qa", "qb")),
    )
    def move(self, pick: int, state: str, queue: str) -> None:
        id = self._some(state, pick)
        if id is not None:
            thing = self.pair.reference.things[id]
            self.pair.tell(s.Enqueue(id, queue, thing.channel, thing.since, contact=thing.contact))

    @rule(seed=st.integers(0, 10**6), advisor=st.sampled_from(("ana", "bob", "cyd", "dan")))
    def change_advisor(self, seed: int, advisor: str) -> None:
        self.pair.tell(some_advisor(random.Random(seed), advisor))

    @rule(advisor=st.sampled_from(("ana", "bob", "cyd", "dan")))
    def leave_the_staff(self, advisor: str) -> None:
        self.pair.tell(s.AdvisorGone(advisor))

    @rule()
    def crash(self) -> None:
        self.pair.crash()

    @rule(seed=st.integers(0, 10**6))
    def change_rules(self, seed: int) -> None:
        self.pair.tell(some_rules(random.Random(seed)))


# More is set by MONOFIL_LONG (steps a night); the suite's share keeps it under twenty seconds.
LONG = int(os.environ.get("MONOFIL_LONG", "0"))
TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=max(60, LONG // 50),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@pytest.mark.parametrize("seed", range(4))
def test_a_long_day_of_chance_is_decided_as_the_reference_decides_it(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    machine = Machine()
    machine.start(seed)
    for _ in range(400):
        pick = chance.randint(0, 50)
        match chance.randint(0, 15):
            case 0 | 1 | 2 | 3 | 4:
                machine.enqueue(
                    chance.choice(("qa", "qb", "qc")),
                    chance.choice(CHANNELS),
                    chance.choice((None, "c1", "c2", "c3")),
                    chance.choice((None, None, "ana", "cyd")),
                    chance.choice((None, None, 4)),
                    chance.choice((0.0, 120.0)),
                    chance.random() < 0.2,
                    chance.randint(0, 9),
                )
            case 5 | 6 | 7:
                machine.answer(pick, chance.choice(("accept", "accept", "refuse", "miss")))
            case 8 | 9:
                machine.stop(pick, chance.choice((s.Finish, s.Requeue, s.Withdraw)))
            case 10:
                machine.wrap(pick, chance.choice((s.WrapupDone, s.WrapupExtended)))
            case 11:
                machine.presence(
                    chance.choice(("ana", "bob", "cyd", "dan")), chance.choice(("ready", "pause", "offline"))
                )
            case 12 | 13:
                machine.time_passes(chance.choice((1.0, 10.0, 40.0)))
            case 14:
                machine.hang_up(pick, chance.choice(("waiting", "offered")))
            case _:
                machine.presence(chance.choice(("ana", "bob", "cyd", "dan")), "ready")
