"""A watcher that sees only what goes in and comes out of a distribution, and checks the invariants of faults.md 2."""

from __future__ import annotations

from collections import Counter

from routing import steps as s
from routing.site import Advisor, Queue


class Watch:
    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.advisors: dict[str, Advisor] = {}
        self.departed: set[str] = set()
        self.presence: dict[str, str] = {}
        self.reach: dict[tuple[str, str], bool] = {}
        self.told: dict[str, s.Enqueue] = {}
        self.state: dict[str, str] = {}
        self.channel: dict[str, str] = {}
        self.contact: dict[str, str | None] = {}
        self.owner: dict[str, str] = {}
        self.aside: set[str] = set()  # active and on hold: without a seat
        self.epoch: dict[str, int] = {}
        self.open_offers: dict[int, s.Offered] = {}
        self.offers_seen: set[int] = set()
        self.arrived = 0
        self.gone: Counter[str] = Counter()

    def see(self, event: s.Event, decisions: list[s.Decision], now: float) -> None:
        # A decision may come before the event's own effect (time passes first), so the state of advisors is
        # taken from both: a restriction told by this event is looked at only after its decisions.
        if isinstance(event, s.RulesSet):
            self.queues = {q.id: q for q in event.queues}
        elif isinstance(event, s.AdvisorSet):
            self.advisors[event.advisor.id] = event.advisor
            self.presence.setdefault(event.advisor.id, "offline")
            self.departed.discard(event.advisor.id)
        elif isinstance(event, s.AdvisorGone):
            if event.advisor in self.advisors:
                self.departed.add(event.advisor)
                self.reach = {key: yes for key, yes in self.reach.items() if key[0] != event.advisor}
        elif isinstance(event, s.PresenceSet):
            if event.presence == "ready":
                self.presence[event.advisor] = "ready"
        elif isinstance(event, s.ReachSet) and event.reachable:
            self.reach[event.advisor, event.channel] = True
        elif isinstance(event, s.Enqueue):
            refused = any(isinstance(d, s.Denied) and d.what == "enqueue" for d in decisions)
            if not refused:
                if event.interaction not in self.state:
                    self.arrived += 1
                self.told[event.interaction] = event
                self.contact[event.interaction] = event.contact
                self.channel[event.interaction] = event.channel
                if self.state.get(event.interaction) != "active":
                    self.state[event.interaction] = "waiting"
        elif isinstance(event, s.Withdraw) and self.state.get(event.interaction) == "waiting":
            self.leave(event.interaction, "reneged")
        elif isinstance(event, s.SetAside) and event.aside and self.state.get(event.interaction) == "active":
            self.aside.add(event.interaction)
        for decision in decisions:
            self.decided(event, decision)
        if isinstance(event, s.SetAside) and not event.aside:
            self.aside.discard(event.interaction)
        self.aside = {id for id in self.aside if self.state.get(id) == "active"}
        if isinstance(event, s.PresenceSet):
            self.presence[event.advisor] = event.presence
        elif isinstance(event, s.ReachSet):
            self.reach[event.advisor, event.channel] = event.reachable
        self.standing()

    def leave(self, id: str, how: str) -> None:
        self.gone[how] += 1
        del self.state[id]
        self.owner.pop(id, None)

    def decided(self, event: s.Event, d: s.Decision) -> None:
        match d:
            case s.Offered():
                assert d.offer not in self.offers_seen
                self.offers_seen.add(d.offer)
                assert self.state.get(d.interaction) == "waiting", f"I1, I9: {d.interaction} does not wait"
                assert d.epoch == self.epoch.get(d.interaction, 0) + 1, "I12"
                self.epoch[d.interaction] = d.epoch
                advisor, told = self.advisors[d.advisor], self.told[d.interaction]
                for need in self.queues[d.queue].needs + told.needs:
                    assert any(advisor.skills.get(k, 0) >= low for k, low in need.any_of), "I4"
                assert advisor.queues is None or d.queue in advisor.queues, "I4"
                assert self.presence[d.advisor] == "ready", "I5"
                assert self.reach.get((d.advisor, d.channel), d.channel != "voice"), "I5"
                assert not any(o == d.advisor and self.state[i] == "wrapup" for i, o in self.owner.items()), (
                    "I5"
                )
                contact = self.contact[d.interaction]
                if contact is not None:
                    assert not any(
                        self.state[i] == "offered" and self.contact[i] == contact for i in self.state
                    ), "I14"
                self.open_offers[d.offer] = d
                self.state[d.interaction] = "offered"
                self.owner[d.interaction] = d.advisor
                assert d.why.interaction == d.interaction
                assert d.why.candidates[0].advisor == d.advisor
                assert d.why.rivals[0].interaction == d.interaction
                assert sum(d.why.excluded.values()) + d.why.available == len(self.advisors) - len(
                    self.departed
                )
                self.seats(d.advisor, d.channel)
            case s.OfferEnded():
                offer = self.open_offers.pop(d.offer)  # I10: it was open, and now never again
                assert offer.interaction == d.interaction
                assert offer.epoch == d.epoch
                assert d.how in ("accepted", "refused", "missed", "expired", "cancelled")
                if d.how == "accepted":
                    self.state[d.interaction] = "active"
                else:
                    self.owner.pop(d.interaction)
                    self.state[d.interaction] = "waiting"
                    if d.reason == "withdrawn":
                        self.leave(d.interaction, "reneged")
            case s.Assigned():
                assert isinstance(event, s.Assign)
                if d.interaction not in self.state:
                    self.arrived += 1
                    self.channel[d.interaction] = d.channel
                    self.contact[d.interaction] = event.contact
                    self.told[d.interaction] = s.Enqueue(d.interaction, event.queue or "", d.channel, 0.0)
                else:
                    assert self.state[d.interaction] == "waiting", "I1"
                assert d.epoch == self.epoch.get(d.interaction, event.epoch) + 1, "I12"
                self.epoch[d.interaction] = d.epoch
                self.state[d.interaction] = "active"
                self.owner[d.interaction] = d.advisor
                self.seats(d.advisor, d.channel)
            case s.Released():
                assert self.owner.pop(d.interaction) == d.advisor, "I1"
                self.state[d.interaction] = "waiting"
            case s.WrapupStarted():
                assert self.owner[d.interaction] == d.advisor, "I1"
                self.state[d.interaction] = "wrapup"
            case s.WrapupEnded():
                assert self.owner[d.interaction] == d.advisor, "I1"
                self.leave(d.interaction, "closed")
            case s.Paused():
                self.presence[d.advisor] = "pause"
            case _:
                pass

    def seats(self, advisor: str, channel: str) -> None:
        used = sum(
            1
            for i, state in self.state.items()
            if state in ("offered", "active")
            and self.owner[i] == advisor
            and self.channel[i] == channel
            and i not in self.aside
        )
        assert used <= self.advisors[advisor].seats.get(channel, 0), "I3"

    def standing(self) -> None:
        assert self.arrived == len(self.state) + sum(self.gone.values()), "I2"
        assert len(self.open_offers) == sum(1 for state in self.state.values() if state == "offered"), "I10"
