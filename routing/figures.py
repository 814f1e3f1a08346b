"""The figures of features 1.1 to 1.3, for voice, messaging and email alike, from events and messages.

Rule 1: a figure is an aggregation of Counted facts, so each number opens its list.
Rule 2: a fact counts in the period in which it happened, and is judged by what was known at the period's end:
a finished period never changes, except that automation is confirmed only as 96 hours pass.
Rule 3: rows count per queue and channel; totals count each message, call or conversation once.

What happens when:

* a message is *received* at the provider's time, a call when it comes in;
* a *conversation* counts where a message of its customer falls, and is *closed* when its last interaction ends;
* *answered*, *abandoned* and the service level count at the acceptance or the hang-up, seconds are those in that queue;
* a *response* counts when the first human reply leaves (a call: when it is answered), whenever the message came;
* a message is *unanswered* when 60 minutes of opening time have passed without a human reply, unless it was archived,
  or closed before; callers who hung up are abandons, and owed nothing here;
* a handling counts when it ends.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter
from statistics import median
from typing import Any
from uuid import UUID

from routing.hours import Calendar
from routing.models import FINAL_EVENTS, Event, T
from routing.site import Queue, Site, Target

SHORT_ABANDON_S = 5.0  # who leaves within it misdialled; in no rate (features 1.3)
WITHIN_S = 3600.0  # the hour of the share answered within one hour
CONFIRMED_AFTER = timedelta(hours=96)  # without a human on the same case, automation is confirmed
DEFAULT_TARGET = {"voice": Target(0.8, 20.0), "chat": Target(0.8, 60.0), "mail": Target(0.8, 14_400.0)}
EVENTS = frozenset(
    {
        T.INTERACTION_OPENED, T.CASE_CHOSEN, T.NODE_LEFT, T.ENQUEUED, T.ACCEPTED, T.ASSIGNED, T.CONNECTED, T.REQUEUED,
        T.LEFT_QUEUE, T.ABANDONED, T.INTERRUPTED, T.ENDED, T.HANDED_BACK, T.HELP_ASKED, T.HELP_ANSWERED, T.NOTE_ADDED,
        T.HELD, T.CASE_CHANGED,
    }
)  # fmt: skip
"""The types of event that figures are made of; all others may be left out."""
LEAVES = {"key": "left_by_key", "closing": "left_at_closing", "overflow": "overflowed"}
"""How somebody leaves a queue unserved, with the figure that counts it; `left` counts them all."""
FOR_A_PERSON = frozenset(
    {"human", "accepted", "left", "closing", "overflow", "refused", "failed", "connected"}
)
"""Exits of nodes by which a tree wants a person, whether there was one or not (queue, transfer, asked for in words)."""
NOT_BY_THE_TREE = frozenset({"interrupted", "failed", "fault", "transferred"})
"""Outcomes of what a tree did not settle: we failed it, or somebody outside took it."""
GONE = frozenset({"abandoned", "left", "interrupted"})
"""Outcomes by which nobody of ours judged that no answer is needed."""
_ANSWERED = frozenset({T.ACCEPTED, T.CONNECTED})


def share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def formula(target: Target) -> str:
    """Printed under every service level, so that nobody has to guess which one it is."""
    return (
        f"answered ≤ {target.seconds:g} s / (answered + abandoned after {SHORT_ABANDON_S:g} s), "
        f"target {target.share:.0%}"
    )


def target_of(queue: Queue, seat: str) -> Target:
    return queue.targets.get(seat) or DEFAULT_TARGET.get(seat) or DEFAULT_TARGET["mail"]


@dataclass(frozen=True, slots=True)
class Level:
    """What a queue's rates are made of. `abandoned` holds the long ones only; seconds are sums over the answered."""

    enqueued: int = 0
    answered: int = 0
    answered_in_time: int = 0
    abandoned: int = 0
    abandoned_in_time: int = 0  # of `abandoned`: left before the target's seconds were over
    short_abandoned: int = 0
    left: int = 0  # by key, closing, overflow or transfer: no abandons
    wait_s: float = 0.0

    def __add__(self, other: Level) -> Level:
        return Level(*(getattr(self, n) + getattr(other, n) for n in Level.__slots__))

    @property
    def service_level(self) -> float | None:
        """Answered in time / (answered + abandoned after the short ones)."""
        return share(self.answered_in_time, self.answered + self.abandoned)

    @property
    def service_level_all_abandons(self) -> float | None:
        return share(self.answered_in_time, self.answered + self.abandoned + self.short_abandoned)

    @property
    def service_level_early_abandons_left_out(self) -> float | None:
        return share(self.answered_in_time, self.answered + self.abandoned - self.abandoned_in_time)

    @property
    def service_level_early_abandons_credited(self) -> float | None:
        early = self.abandoned_in_time + self.short_abandoned
        return share(self.answered_in_time + early, self.answered + self.abandoned + self.short_abandoned)

    @property
    def answered_in_time_share(self) -> float | None:
        """Of the answered only: never shown as a service level."""
        return share(self.answered_in_time, self.answered)

    @property
    def abandonment(self) -> float | None:
        return share(self.abandoned, self.enqueued - self.short_abandoned)

    @property
    def asa_s(self) -> float | None:
        """Mean wait of the answered."""
        return self.wait_s / self.answered if self.answered else None


@dataclass(slots=True)
class Wait:
    """Somebody in a queue, or whom it has served: each queue clocks from its own entry."""

    queue: str
    channel: str
    seat: str
    since: datetime  # when it came into this queue: what rates clock from
    first: datetime  # when it first began to wait: its place in line
    waiting: bool = True
    answered: bool = False  # counted: another acceptance, after an advisor was lost, is the same answer


@dataclass(frozen=True, slots=True)
class Counted:
    """A fact that figures count: `what` happened, once per `unit` (a message, an interaction or a conversation).

    `values` are seconds: the wait of answered and abandoned, the length of handled, and of a response its elapsed time,
    opening time, and opening time less routing.
    """

    what: str
    at: datetime
    interaction: UUID
    queue: str | None
    channel: str
    unit: Any = None
    advisor: str | None = None
    values: tuple[float, ...] = ()


class Queueing:
    """The queues as events in commit order tell them: the one definition of answered, abandoned and in time."""

    def __init__(self, queues: Iterable[Queue]) -> None:
        self.queues = {q.id: q for q in queues}
        self.waits: dict[UUID, Wait] = {}
        self.seats: dict[str, str] = {}  # of each channel that was seen
        self._channels: dict[UUID, str] = {}

    def know(self, interaction: UUID, channel: str, seat: str) -> None:
        """An interaction from before the events that are coming."""
        self._channels[interaction] = channel
        self.seats[channel] = seat

    def target_s(self, wait: Wait) -> float:
        queue = self.queues.get(wait.queue)
        return (target_of(queue, wait.seat) if queue else DEFAULT_TARGET["voice"]).seconds

    def apply(self, event: Event) -> tuple[Counted, ...] | None:
        """What the event counts; None when it changes nothing about waiting."""
        interaction, kind = event.interaction, event.type
        if interaction is None:
            return None
        if kind is T.INTERACTION_OPENED:
            channel = str(event.data["channel"])
            self._channels[interaction] = channel
            self.seats[channel] = str(event.data.get("seat") or channel)
            return None
        if kind is T.ENQUEUED:
            return self._enqueued(event, interaction)
        wait = self.waits.get(interaction)
        if kind in FINAL_EVENTS:
            self._channels.pop(interaction, None)
            self.waits.pop(interaction, None)
        if wait is None:
            return None
        if kind is T.REQUEUED:
            wait.waiting = True
            return ()
        if kind is not T.CONNECTED and _picked_up(event):
            return self._accepted(event, interaction, wait)
        if kind is T.ABANDONED and not wait.answered:
            waited_s = (event.at - wait.since).total_seconds()
            if waited_s <= SHORT_ABANDON_S:
                return (self._fact("short_abandoned", event, wait, waited_s),)
            early = waited_s <= self.target_s(wait)
            found = self._fact("abandoned", event, wait, waited_s)
            return (found, replace(found, what="abandoned_in_time")) if early else (found,)
        if kind is T.LEFT_QUEUE:
            del self.waits[interaction]
            return self._leaves(event, wait, str(event.data.get("how")))
        return None

    def _leaves(self, event: Event, wait: Wait, how: str) -> tuple[Counted, ...]:
        left = self._fact("left", event, wait)
        return (left, replace(left, what=LEAVES[how])) if how in LEAVES else (left,)

    def _enqueued(self, event: Event, interaction: UUID) -> tuple[Counted, ...]:
        known = self.waits.get(interaction)
        before: tuple[Counted, ...] = ()
        if known is not None and event.data.get("overflow_from"):
            before = self._leaves(event, known, "overflow")
        elif known is not None and known.queue != event.data["queue"]:
            before = (self._fact("transferred", event, known),)
        since = event.data.get("since")
        channel = self._channels.get(interaction, "voice")
        wait = Wait(
            queue=str(event.data["queue"]),
            channel=channel,
            seat=self.seats.get(channel, channel),
            since=event.at,
            first=event.at if since is None else datetime.fromtimestamp(float(since), event.at.tzinfo),
        )
        self.waits[interaction] = wait
        return (*before, self._fact("enqueued", event, wait))

    def _accepted(self, event: Event, interaction: UUID, wait: Wait) -> tuple[Counted, ...]:
        wait.waiting = False
        if wait.answered:
            return ()
        wait.answered = True
        waited_s = (event.at - wait.since).total_seconds()
        found = self._fact("answered", event, wait, waited_s)
        return (
            (found, replace(found, what="answered_in_time")) if waited_s <= self.target_s(wait) else (found,)
        )

    @staticmethod
    def _fact(what: str, event: Event, wait: Wait, *values: float) -> Counted:
        assert event.interaction is not None
        return Counted(
            what,
            event.at,
            event.interaction,
            wait.queue,
            wait.channel,
            event.interaction,
            event.advisor,
            values,
        )


def level(counted: Iterable[Counted]) -> Level:
    """The counts of a queue from its facts."""
    return _level(_by_what(counted))


def _by_what(counted: Iterable[Counted]) -> dict[str, list[Counted]]:
    by: dict[str, list[Counted]] = {}
    for fact in counted:
        by.setdefault(fact.what, []).append(fact)
    return by


def _level(by: Mapping[str, Sequence[Counted]]) -> Level:
    counts = {name: len(by.get(name, ())) for name in Level.__slots__ if name != "wait_s"}
    return Level(**counts, wait_s=sum((fact.values[0] for fact in by.get("answered", ())), 0.0))


@dataclass(frozen=True, slots=True)
class Line:
    """A message as figures see it: its times, and nothing of its words. `at` is ours, `sent_at` the provider's."""

    id: UUID
    thread: UUID
    interaction: UUID
    case: UUID
    channel: str
    author: str  # customer | advisor | bot | system | elsewhere
    by: str
    at: datetime
    sent_at: datetime | None
    status: str
    automatic: bool
    standby: bool

    @property
    def when(self) -> datetime:
        return self.sent_at or self.at

    @property
    def customers(self) -> bool:
        """What a customer sent to us and a person might answer."""
        return self.author == "customer" and not self.automatic and not self.standby

    @property
    def human(self) -> bool:
        return (
            self.author in ("advisor", "elsewhere")
            and not self.automatic
            and self.status not in ("failed", "dropped")
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """What the figures of an interval are made of; the events are those of EVENTS in commit order."""

    events: Sequence[Event] = ()
    lines: Sequence[Line] = ()


@dataclass(slots=True)
class _Life:
    """One interaction as its events tell it, up to the instant at which it is judged."""

    id: UUID
    case: UUID | None
    channel: str
    seat: str
    direction: str
    opened: datetime
    written: bool
    stays: list[tuple[datetime, str]] = field(default_factory=list)  # (entered at, queue)
    accepted: list[tuple[datetime, str | None]] = field(default_factory=list)
    handled: list[tuple[datetime, datetime, str | None]] = field(default_factory=list)
    working: tuple[datetime, str | None] | None = None
    nodes: int = 0
    asked: bool = False  # for a person, in vain or not
    acts: list[datetime] = field(default_factory=list)  # of people or rules: what makes a message processed
    pulled: list[tuple[datetime, str | None, int]] = field(default_factory=list)  # int: those passed over
    ended: datetime | None = None
    outcome: str = ""
    lines: list[Line] = field(default_factory=list)

    def queue(self, at: datetime) -> str | None:
        """The queue it was in last, at an instant; before the first one, that first one."""
        stay = self._stay(at)
        return stay[1] if stay is not None else self.stays[0][1] if self.stays else None

    def reached(self, at: datetime) -> datetime | None:
        """When it came into the queue it was answered from."""
        stay = self._stay(at)
        return stay[0] if stay is not None else None

    def _stay(self, at: datetime) -> tuple[datetime, str] | None:
        """The last that had begun at an instant."""
        for stay in reversed(self.stays):
            if stay[0] <= at:
                return stay
        return None

    @property
    def archived(self) -> bool:
        return self.outcome == "archived"

    @property
    def automatic(self) -> bool:
        """Whether nobody had it, nobody was asked for, and nothing else cut it short."""
        asked = self.asked or self.stays or self.outcome in NOT_BY_THE_TREE
        return not asked and not self.humans

    @property
    def humans(self) -> bool:
        return bool(self.accepted) or any(line.human for line in self.lines)

    @property
    def last_queue(self) -> str | None:
        return self.stays[-1][1] if self.stays else None

    @property
    def last_advisor(self) -> str | None:
        return self.accepted[-1][1] if self.accepted else None


def _lives(rows: Rows, until: datetime, persons: Collection[tuple[str, str]]) -> dict[UUID, _Life]:
    """`persons`: (tree, node) of those nodes that lead to a person, by whatever exit they are left."""
    lives: dict[UUID, _Life] = {}
    acts: dict[UUID, list[datetime]] = {}  # on a case as a whole
    for event in rows.events:
        if event.at >= until:
            continue
        if event.interaction is None:
            tagged = event.type is T.CASE_CHANGED and event.data.get("tags") is not None
            if event.case is not None and (tagged or event.type is T.NOTE_ADDED):
                acts.setdefault(event.case, []).append(event.at)
        elif event.type is T.INTERACTION_OPENED:
            data = event.data
            lives[event.interaction] = _Life(
                id=event.interaction,
                case=event.case,
                channel=str(data["channel"]),
                seat=str(data.get("seat") or data["channel"]),
                direction=str(data["direction"]),
                opened=event.at,
                written=bool(data.get("thread")),
            )
        elif (life := lives.get(event.interaction)) is not None:
            _lived(life, event)
            if event.type is T.NODE_LEFT and not life.asked:
                data = event.data
                life.asked = (
                    data.get("exit") in FOR_A_PERSON or (data.get("tree"), data.get("node")) in persons
                )
    for life in lives.values():
        if life.case in acts:
            life.acts += acts[life.case]
    for line in sorted(rows.lines, key=lambda each: (each.when, each.id)):
        if line.when < until and line.interaction in lives:
            lives[line.interaction].lines.append(line)
    return lives


_ACTS = frozenset(
    {T.ACCEPTED, T.ASSIGNED, T.REQUEUED, T.HANDED_BACK, T.HELP_ASKED, T.HELP_ANSWERED, T.NOTE_ADDED, T.HELD,
     T.ENDED}
)  # fmt: skip


def _picked_up(event: Event) -> bool:
    """Somebody has it from here on: accepted an offer, was answered, or took it."""
    kind = event.type
    return kind in _ANSWERED or (kind is T.ASSIGNED and event.data.get("how") == "pulled")


def _lived(life: _Life, event: Event) -> None:
    kind, at = event.type, event.at
    if kind in _ACTS:
        life.acts.append(at)
    if kind is T.CASE_CHOSEN:
        life.case = event.case
    elif kind is T.NODE_LEFT:
        life.nodes += 1
    elif kind is T.ENQUEUED:
        _let_go(life, at)
        if life.stays:  # routed anew
            life.acts.append(at)
        life.stays.append((at, str(event.data["queue"])))
    elif _picked_up(event):
        _let_go(life, at)
        life.accepted.append((at, event.advisor))
        life.working = (at, event.advisor)
        if passed_over := int(event.data.get("passed_over") or 0):
            life.pulled.append((at, event.advisor, passed_over))
    elif kind in (T.REQUEUED, T.HANDED_BACK):
        _let_go(life, at)
    elif kind in FINAL_EVENTS:
        _let_go(life, at)
        life.ended = at
        words = {T.ENDED: str(event.data.get("outcome") or ""), T.ABANDONED: "abandoned"}
        life.outcome = words.get(kind, "interrupted")


def _let_go(life: _Life, at: datetime) -> None:
    if life.working is not None:
        life.handled.append((life.working[0], at, life.working[1]))
        life.working = None


@dataclass(slots=True)
class _Talk:
    """One conversation: a call, or the interactions of a thread in which the customer was never silent for the gap."""

    id: UUID
    lives: list[_Life]
    first: datetime
    last: datetime  # of the customer


class _Opening:
    """Opening time in a queue's calendar; a queue without one is always open."""

    def __init__(self, site: Site) -> None:
        hours = {each.id: Calendar(each, site.time_zone) for each in site.hours}
        self._of = {queue.id: hours.get(queue.hours or "") for queue in site.queues}

    def seconds(self, queue: str | None, a: datetime, b: datetime) -> float:
        calendar = self._of.get(queue or "")
        elapsed = max(0.0, (b - a).total_seconds())
        return calendar.seconds(a.timestamp(), b.timestamp()) if calendar is not None else elapsed

    def passed(self, queue: str | None, a: datetime, seconds: float) -> datetime | None:
        """When so much opening time has passed, or None if it never will."""
        calendar = self._of.get(queue or "")
        if calendar is None:
            return a + timedelta(seconds=seconds)
        at = calendar.after(a.timestamp(), seconds)
        return None if at is None else datetime.fromtimestamp(at, a.tzinfo)


def _talks(lives: Iterable[_Life], gap: timedelta) -> list[_Talk]:
    """Conversations. An interaction in which the customer falls silent for the gap belongs to each of them."""
    talks: list[_Talk] = []
    threads: dict[UUID, list[tuple[datetime, UUID, _Life]]] = {}
    for life in lives:
        if life.direction != "in":
            continue
        if not life.written:
            talks.append(_Talk(life.id, [life], life.opened, life.opened))
            continue
        for line in life.lines:
            if line.customers:
                threads.setdefault(line.thread, []).append((line.when, line.id, life))
    for said in threads.values():
        talk: _Talk | None = None
        for when, line_id, life in sorted(said, key=lambda each: (each[0], each[1])):
            if talk is None or when - talk.last >= gap:
                talk = _Talk(line_id, [], when, when)
                talks.append(talk)
            talk.last = when
            if not talk.lives or talk.lives[-1] is not life:
                talk.lives.append(life)
    return talks


def count(
    rows: Rows, site: Site, start: datetime, end: datetime, now: datetime | None = None
) -> list[Counted]:
    """Every fact of the period, by time. `rows` must reach back and forth as FigureRows.between says.

    An hour that is not over at `now` has not been missed; None: the whole period is over.
    """
    known = end if now is None else min(end, now)
    lives = _lives(rows, end, _to_persons(site))
    opening = _Opening(site)
    found: list[Counted] = []
    queueing = Queueing(site.queues)
    for event in rows.events:
        if event.at < end:
            found += queueing.apply(event) or ()
    for life in lives.values():
        found += _handled(life)
        for at, who, passed_over in life.pulled:
            found.append(_of(life, "passed_over", at, (life.id, at), float(passed_over), advisor=who))
        if life.direction == "in":
            found += _letters(life, opening, known) if life.written else _calls(life, opening)
        found += _sent(life)
    later = _contacts(rows)
    for talk in _talks(lives.values(), timedelta(hours=site.conversation_gap_h)):
        found += _conversation(talk, opening, start, end)
        found += _closed(talk, later)
    return sorted([fact for fact in found if start <= fact.at < end], key=attrgetter("at"))


def _to_persons(site: Site) -> frozenset[tuple[str, str]]:
    """(tree, node) of the queues and transfers in the site's trees."""
    found = set()
    for tree, document in site.trees.items():
        nodes = document.get("nodes") if isinstance(document, Mapping) else None
        for name, node in nodes.items() if isinstance(nodes, Mapping) else ():
            if isinstance(node, Mapping) and node.get("kind") in ("queue", "transfer"):
                found.add((str(tree), str(name)))
    return frozenset(found)


def _of(
    life: _Life, what: str, at: datetime, unit: Any, *values: float, advisor: str | None = None
) -> Counted:
    who = advisor if advisor is not None else life.last_advisor
    return Counted(what, at, life.id, life.queue(at), life.channel, unit, who, values)


def _handled(life: _Life) -> list[Counted]:
    return [
        _of(life, "handled", until, (life.id, n), (until - since).total_seconds(), advisor=who)
        for n, (since, until, who) in enumerate(life.handled)
    ]


def _times(life: _Life, opening: _Opening, since: datetime, until: datetime) -> tuple[float, float, float]:
    """Elapsed, opening time, and opening time since it had reached the right queue."""
    queue, reached = life.queue(until), life.reached(until)
    open_s = opening.seconds(queue, since, until)
    routed = reached is not None and reached > since
    return (
        max(0.0, (until - since).total_seconds()),
        open_s,
        opening.seconds(queue, reached, until) if routed and reached is not None else open_s,
    )


def _calls(life: _Life, opening: _Opening) -> list[Counted]:
    found = [_of(life, "received", life.opened, life.id)]
    if life.accepted:
        at, advisor = life.accepted[0]
        found.append(
            _of(life, "response", at, life.id, *_times(life, opening, life.opened, at), advisor=advisor)
        )
    if any(at >= life.opened for at in life.acts):
        found.append(_of(life, "processed", life.opened, life.id))
    return found


def _letters(life: _Life, opening: _Opening, known: datetime) -> list[Counted]:
    """What counts per message: each customer's message, and the first human reply to it in its interaction.

    `known`: what comes later has not happened yet.
    """
    found: list[Counted] = []
    replies = [line for line in life.lines if line.human]
    done = max([line.when for line in life.lines if line.author != "customer"] + life.acts, default=None)
    next_reply = 0
    for line in life.lines:
        if not line.customers:
            continue
        when = line.when
        found.append(_of(life, "received", when, line.id))
        if done is not None and done > when:
            found.append(_of(life, "processed", when, line.id))
        while next_reply < len(replies) and replies[next_reply].when < when:
            next_reply += 1
        if next_reply < len(replies):
            reply = replies[next_reply]
            times = _times(life, opening, when, reply.when)
            found.append(_of(life, "response", reply.when, line.id, *times, advisor=reply.by or None))
        elif life.stays or life.accepted:
            due = opening.passed(life.last_queue, when, WITHIN_S)
            if due is None or due >= known or life.archived:
                continue
            if life.ended is None or life.ended >= due or life.outcome in GONE:
                found.append(_of(life, "unanswered", due, line.id))
    if life.archived and not replies and life.ended is not None:
        found.append(_of(life, "archived", life.ended, life.id))
    return found


def _sent(life: _Life) -> list[Counted]:
    return [
        _of(
            life,
            "perhaps_sent" if line.status == "perhaps" else "failed",
            line.when,
            line.id,
            advisor=line.by or None,
        )
        for line in life.lines
        if line.author not in ("customer", "elsewhere") and line.status in ("perhaps", "failed")
    ]


def _conversation(talk: _Talk, opening: _Opening, start: datetime, end: datetime) -> list[Counted]:
    """Where the customer spoke in the period, and the first human response of the conversation.

    One that ends without a human stops the clock: the message that reopens it starts a new one.
    """
    found: dict[tuple[str | None, str], Counted] = {}
    for life in talk.lives:
        said = [life.opened] if not life.written else [x.when for x in life.lines if x.customers]
        for at in said:
            if start <= at < end and talk.first <= at <= talk.last:
                fact = _of(life, "conversation", at, talk.id)
                found.setdefault((fact.queue, fact.channel), fact)
    facts = list(found.values())
    for life in sorted(talk.lives, key=lambda each: each.opened):
        if not life.written:
            since = life.opened
            replied = life.accepted[0] if life.accepted else None
        else:
            since = next(x.when for x in life.lines if x.customers and x.when >= talk.first)
            reply = next((x for x in life.lines if x.human and x.when >= since), None)
            replied = (reply.when, reply.by or None) if reply is not None else None
        if replied is not None:
            times = _times(life, opening, since, replied[0])
            facts.append(_of(life, "conversation_response", replied[0], talk.id, *times, advisor=replied[1]))
            break
    return facts


def _contacts(rows: Rows) -> dict[UUID, list[datetime]]:
    """When a human spoke or answered, by case, as far as is known: also after the period."""
    cases: dict[UUID, UUID] = {}
    found: dict[UUID, list[datetime]] = {}
    for event in rows.events:
        if event.interaction is None:
            continue
        if event.case is not None:
            cases[event.interaction] = event.case
        case = cases.get(event.interaction)
        if case is not None and _picked_up(event):
            found.setdefault(case, []).append(event.at)
    for line in rows.lines:
        if line.human:
            found.setdefault(line.case, []).append(line.when)
    return found


def _closed(talk: _Talk, contacts: Mapping[UUID, Sequence[datetime]]) -> list[Counted]:
    last = talk.lives[-1]
    ends = [life.ended for life in talk.lives]
    if any(at is None for at in ends) or any(life.archived for life in talk.lives):
        return []
    at = max(each for each in ends if each is not None)
    found = [_of(last, "closed", at, talk.id)]
    bot = any(life.nodes or any(x.author == "bot" for x in life.lines) for life in talk.lives)
    if bot and all(life.automatic for life in talk.lives):
        found.append(_of(last, "automated", at, talk.id))
        after = contacts.get(last.case, ()) if last.case is not None else ()
        if not any(at < each <= at + CONFIRMED_AFTER for each in after):
            found.append(_of(last, "automated_confirmed", at, talk.id))
    return found


@dataclass(frozen=True, slots=True)
class Part:
    """What a figure counts in its numerator or denominator; `most` bounds one of the values."""

    what: tuple[str, ...]
    less: tuple[str, ...] = ()
    value: int = 0
    most: float | None = None

    def holds(self, fact: Counted) -> bool:
        return fact.what in self.what and (self.most is None or fact.values[self.value] <= self.most)


@dataclass(frozen=True, slots=True)
class Figure:
    """How a figure is made: of a `numerator`, which alone is a count, and for a rate or mean of a `denominator`."""

    numerator: Part
    denominator: Part | None = None
    text: str = ""


FIGURES: Mapping[str, Figure] = {
    "received": Figure(Part(("received",)), text="messages of customers (a call is one)"),
    "processed": Figure(
        Part(("processed",)),
        text="messages after which came a reply, assignment, release, note, tag, hold, help, re-route or closing",
    ),
    "conversations": Figure(Part(("conversation",)), text="distinct conversations in which the customer spoke"),
    "enqueued": Figure(Part(("enqueued",)), text="entries into a queue"),
    "answered": Figure(Part(("answered",)), text="accepted by an advisor, once for each entry into the queue"),
    "abandoned": Figure(Part(("abandoned",)), text=f"left the queue after more than {SHORT_ABANDON_S:g} s"),
    "short_abandoned": Figure(Part(("short_abandoned",)), text=f"left the queue within {SHORT_ABANDON_S:g} s"),
    "left": Figure(Part(("left",)), text="left the queue by key, closing or overflow: no abandon"),
    "left_by_key": Figure(Part(("left_by_key",)), text="left the queue by a key, for another branch of the tree"),
    "left_at_closing": Figure(Part(("left_at_closing",)), text="sent away when the queue closed"),
    "overflowed": Figure(Part(("overflowed",)), text="moved on when the queue had overflowed"),
    "transferred": Figure(Part(("transferred",)), text="given to another queue by somebody, or by the tree"),
    "passed_over": Figure(
        Part(("passed_over",)), text="how many who came before were passed over, of all that were pulled"
    ),
    "service_level": Figure(
        Part(("answered_in_time",)),
        Part(("answered", "abandoned")),
        f"answered within the target / (answered + abandoned after {SHORT_ABANDON_S:g} s)",
    ),
    "abandonment": Figure(
        Part(("abandoned",)), Part(("enqueued",), less=("short_abandoned",)),
        f"abandoned after {SHORT_ABANDON_S:g} s / (enqueued - abandoned within {SHORT_ABANDON_S:g} s)",
    ),
    "asa_s": Figure(Part(("answered",)), Part(("answered",)), "mean wait of the answered, from entry into the queue"),
    "within_hour": Figure(
        Part(("response",), value=1, most=WITHIN_S), Part(("response",)),
        "first human responses within 60 min of opening time / first human responses sent",
    ),
    "within_hour_strict": Figure(
        Part(("response",), value=1, most=WITHIN_S), Part(("response", "unanswered")),
        "first human responses within 60 min of opening time / (first human responses sent + "
        "messages for a human still unanswered after 60 min of opening time); archived left out",
    ),
    "archived": Figure(Part(("archived",)), text="closed on purpose without a reply: in no response figure"),
    "automation": Figure(
        Part(("automated",)), Part(("closed",)),
        "closed conversations answered by bot or tree, no human, nobody asked for, none that we failed / "
        "closed conversations but archived",
    ),
    "automation_confirmed": Figure(
        Part(("automated_confirmed",)), Part(("closed",)),
        "the same, and no human on the same case within 96 h after (of the last 96 h: so far)",
    ),
    "first_response.per_message": Figure(
        Part(("response",)), text="median seconds from reception to the first human reply, of each message"
    ),
    "first_response.per_conversation": Figure(
        Part(("conversation_response",)),
        text="median seconds from the first message to the first human reply, of each conversation",
    ),
    "aht_s": Figure(Part(("handled",)), Part(("handled",)), "mean of (talk + hold + wrap-up) of each handling"),
    "perhaps_sent": Figure(Part(("perhaps_sent",)), text="messages of ours that may have been sent; nobody knows"),
    "failed": Figure(Part(("failed",)), text="messages of ours that the provider refused"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Response:
    """Median seconds, or None where there was none."""

    elapsed: float | None
    opening: float | None
    opening_less_routing: float | None


@dataclass(frozen=True, slots=True)
class FirstResponse:
    per_message: Response
    per_conversation: Response


@dataclass(frozen=True, slots=True)
class Values:
    """The figures of one row, of one interval, or of all. Rates are 0..1, None where nothing was counted."""

    received: int
    processed: int
    conversations: int
    enqueued: int
    answered: int
    abandoned: int
    short_abandoned: int
    left: int
    left_by_key: int
    left_at_closing: int
    overflowed: int
    transferred: int
    passed_over: int
    service_level: float | None
    abandonment: float | None
    asa_s: float | None
    within_hour: float | None
    within_hour_strict: float | None
    archived: int
    automation: float | None
    automation_confirmed: float | None
    first_response: FirstResponse
    aht_s: float | None
    perhaps_sent: int
    failed: int


@dataclass(frozen=True, slots=True)
class StatisticsRow:
    queue: str | None  # None: never reached one
    channel: str | None
    figures: Values


@dataclass(frozen=True, slots=True)
class Series:
    """Counts in equal intervals; `times` are the unix seconds at which they begin."""

    interval_s: float
    times: tuple[int, ...]
    received: tuple[int, ...]
    answered: tuple[int, ...]
    within_hour: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """`formula` says in words how each figure is made; `note` stands beside the totals."""

    start: datetime
    end: datetime
    formula: Mapping[str, str]
    rows: tuple[StatisticsRow, ...]
    series: Series
    totals: Values
    note: str


NOTE = "Totals count each conversation once, so they may be less than the sum of the rows."
INTERVALS_S = (900, 1800, 3600, 4 * 3600, 86_400, 7 * 86_400)
MOST_INTERVALS = 100
_IN_SERIES = ("received", "answered", "response")
_WAIT_ENDS = frozenset({"answered", "answered_in_time", "abandoned", "abandoned_in_time", "short_abandoned"})


def _response(facts: Iterable[Counted]) -> Response:
    values = [fact.values for fact in facts]
    if not values:
        return Response(None, None, None)
    return Response(*(median(each) for each in zip(*values, strict=True)))


def _within_hour(responses: Iterable[Counted]) -> int:
    return sum(fact.values[1] <= WITHIN_S for fact in responses)


def _distinct(facts: Iterable[Counted]) -> list[Counted]:
    """The first fact of each kind about each unit, by time: how a first wait ended is how it ended for all queues."""
    found: dict[tuple[str, Any], Counted] = {}
    answers: dict[Any, Counted] = {}
    for fact in facts:
        if fact.what in _WAIT_ENDS:
            first = answers.get(fact.unit)
            if first is not None and (first.at, first.queue) != (fact.at, fact.queue):
                continue
            if fact.what == "answered":
                answers[fact.unit] = fact
        found.setdefault((fact.what, fact.unit), fact)
    return list(found.values())


def values(counted: Iterable[Counted], *, distinct: bool = False) -> Values:
    """The figures of these facts; `distinct` counts what happened to one unit in two rows once."""
    by = _by_what(_distinct(counted) if distinct else counted)

    def number(what: str) -> int:
        return len(by.get(what, ()))

    def mean(what: str) -> float | None:
        return share(sum(fact.values[0] for fact in by.get(what, ())), number(what))

    facts = _level(by)
    responses = by.get("response", [])
    within = _within_hour(responses)
    return Values(
        received=number("received"),
        processed=number("processed"),
        conversations=number("conversation"),
        enqueued=facts.enqueued,
        answered=facts.answered,
        abandoned=facts.abandoned,
        short_abandoned=facts.short_abandoned,
        left=facts.left,
        left_by_key=number("left_by_key"),
        left_at_closing=number("left_at_closing"),
        overflowed=number("overflowed"),
        transferred=number("transferred"),
        passed_over=int(sum(fact.values[0] for fact in by.get("passed_over", ()))),
        service_level=facts.service_level,
        abandonment=facts.abandonment,
        asa_s=facts.asa_s,
        within_hour=share(within, len(responses)),
        within_hour_strict=share(within, len(responses) + number("unanswered")),
        archived=number("archived"),
        automation=share(number("automated"), number("closed")),
        automation_confirmed=share(number("automated_confirmed"), number("closed")),
        first_response=FirstResponse(_response(responses), _response(by.get("conversation_response", ()))),
        aht_s=mean("handled"),
        perhaps_sent=number("perhaps_sent"),
        failed=number("failed"),
    )


def chosen(
    counted: Iterable[Counted],
    *,
    queue: str | None = None,
    channel: str | None = None,
    advisor: str | None = None,
) -> list[Counted]:
    """The facts of a queue, a channel, an advisor; None: of any."""
    if queue is channel is advisor is None:
        return list(counted)
    return [
        fact
        for fact in counted
        if (queue is None or fact.queue == queue)
        and (channel is None or fact.channel == channel)
        and (advisor is None or fact.advisor == advisor)
    ]


def _series(counted: Sequence[Counted], start: datetime, end: datetime) -> Series:
    first = math.floor(start.timestamp())
    length_s = math.ceil(end.timestamp()) - first
    step_s = next((s for s in INTERVALS_S if length_s / s <= MOST_INTERVALS), INTERVALS_S[-1])
    cells: list[dict[str, list[Counted]]] = [
        {what: [] for what in _IN_SERIES} for _ in range(max(1, math.ceil(length_s / step_s)))
    ]
    for fact in _distinct(counted):
        if fact.what in _IN_SERIES:
            cells[int((fact.at.timestamp() - first) // step_s)][fact.what].append(fact)
    return Series(
        interval_s=float(step_s),
        times=tuple(first + n * step_s for n in range(len(cells))),
        received=tuple(len(cell["received"]) for cell in cells),
        answered=tuple(len(cell["answered"]) for cell in cells),
        within_hour=tuple(share(_within_hour(cell["response"]), len(cell["response"])) for cell in cells),
    )


def statistics(
    rows: Rows,
    site: Site,
    start: datetime,
    end: datetime,
    *,
    queue: str | None = None,
    channel: str | None = None,
    advisor: str | None = None,
    now: datetime | None = None,
) -> Statistics:
    """Everything that a report of [start, end) shows, from the rows of `FigureRows.between`. `now` as in `count`."""
    counted = chosen(count(rows, site, start, end, now), queue=queue, channel=channel, advisor=advisor)
    cells: dict[tuple[str | None, str], list[Counted]] = {}
    for fact in counted:
        cells.setdefault((fact.queue, fact.channel), []).append(fact)
    order = {each.id: n for n, each in enumerate(site.queues)}
    keys = sorted(cells, key=lambda key: (order.get(key[0] or "", len(order)), key[0] or "~", key[1]))
    targets = {
        f"service_level.{each.id}": "; ".join(
            f"{seat}: {formula(target_of(each, seat))}" for seat in DEFAULT_TARGET
        )
        for each in site.queues
    }
    return Statistics(
        start=start,
        end=end,
        formula={name: figure.text for name, figure in FIGURES.items()} | targets,
        rows=tuple(StatisticsRow(*key, values(cells[key])) for key in keys),
        series=_series(counted, start, end),
        totals=values(counted, distinct=True),
        note=NOTE,
    )


def listed(
    rows: Rows,
    site: Site,
    start: datetime,
    end: datetime,
    figure: str,
    *,
    part: str = "numerator",
    queue: str | None = None,
    channel: str | None = None,
    advisor: str | None = None,
    now: datetime | None = None,
) -> list[Counted]:
    """What stands behind a figure's numerator or denominator, oldest first; KeyError for an unknown figure.

    Their interactions are the list that a number opens; an interaction stands there once for each of its messages.
    With a queue and a channel it is as long as the row's count, else as that of the totals.
    A `first_response` may be named with its variant.
    """
    name = figure if figure in FIGURES else figure.rpartition(".")[0]
    made = FIGURES[name]
    wanted = made.denominator if part == "denominator" and made.denominator is not None else made.numerator
    facts = chosen(count(rows, site, start, end, now), queue=queue, channel=channel, advisor=advisor)
    if queue is None or channel is None:
        facts = _distinct(facts)
    gone = Counter(fact.unit for fact in facts if fact.what in wanted.less)
    found = []
    for fact in reversed(facts):
        if wanted.holds(fact):
            if gone[fact.unit] > 0:  # who left shortly after the last entry, not the one before it
                gone[fact.unit] -= 1
            else:
                found.append(fact)
    return found[::-1]
