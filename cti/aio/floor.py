"""The floor as a supervisor walks it: who is at which work, who waits, what is offered, and how the day goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from prometheus_client import Counter, Histogram

from cti import rows, schemas
from cti.board import ADVISOR_STATES, Tally
from cti.board import Live as Waits
from cti.board import rows as board_rows
from cti.days import today, whole_days
from cti.session import Seat, Seats, Work
from routing.aio.web import SUPERVISORS, Caller
from routing.distribution import Board as EngineBoard
from routing.models import FINAL_EVENTS, Clock, Event, Presence, State, T
from routing.projection import AdvisorRow, InteractionRow
from routing.site import Advisor, Site
from routing.store import Log

WAIT = Histogram(
    "monofil_queue_wait_seconds",
    "From entering the queue to the advisor's answer",
    ["queue"],
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
)
MESSAGES = Counter(
    "monofil_messages_total", "Messages by channel and by what became of them", ["channel", "status"]
)

_WORK = {
    State.OFFERED.value: Work.RINGING,
    State.OPENED.value: Work.RINGING,  # with an advisor: click-to-call
    State.ACTIVE.value: Work.TALKING,
    State.WRAPUP.value: Work.WRAPUP,
}


class Desk(Protocol):
    def interaction(self, interaction: UUID) -> InteractionRow | None: ...

    def interactions(self) -> list[InteractionRow]: ...

    def advisor(self, advisor: str) -> AdvisorRow | None: ...

    def reachable(self, advisor: str, channel: str) -> bool: ...

    def board(self) -> EngineBoard: ...

    @property
    def healthy(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Past:
    """An event with what it meant when it came: whose it was, and whose seat it changed."""

    event: Event
    owners: frozenset[str]
    changed: str | None


class Floor:
    """`begin` it, then give it each event in commit order."""

    def __init__(self, desk: Desk, log: Log, site: Callable[[], Site], clock: Clock) -> None:
        self._desk, self._log, self._site, self._clock = desk, log, site, clock
        self._seats = Seats()
        self._tally = Tally(site().queues, *self._day())
        self._offers: dict[UUID, Event] = {}  # interaction → its open offer
        self._breaches: dict[tuple[str, str], tuple[datetime, float]] = {}
        self.dirty = True  # the board would look another way than when this was last put down

    async def begin(self) -> int:
        """The day so far and open offers from the log, the seats from the desk; returns the log's last number."""
        for row in self._desk.interactions():
            self._tally.know(row.id, row.channel, row.seat)
        last = await self._replay_day()
        for seat in self._seats_of_desk():
            self._seats.put(seat)
        return last

    async def _replay_day(self) -> int:
        """Where the day begins in the log is found by halving."""
        last = await self._log.last_seq()
        low, high = 0, last
        while low < high:
            middle = (low + high) // 2
            found = await self._log.after(middle, limit=1)
            if found and found[0].at < self._tally.start:
                low = found[0].seq
            else:
                high = middle
        at = low
        while at < last:
            events = await self._log.after(at, limit=1000)
            if not events:
                break
            for event in events:
                self._tally.apply(event)
                self._note(event)  # the desk offers anew before anybody listens
                at = event.seq
        return last

    def _seats_of_desk(self) -> list[Seat]:
        lines: dict[str, dict[UUID, Work]] = {}
        for row in self._desk.interactions():
            work = _WORK.get(row.state)
            if row.advisor is not None and work is not None:
                lines.setdefault(row.advisor, {})[row.id] = Work.HELD if row.held else work
        found = []
        for advisor in self._site().advisors:
            state = self._desk.advisor(advisor.id)
            found.append(
                Seat(
                    advisor=advisor.id,
                    since=state.since if state else self._clock.now(),
                    presence=Presence(state.presence) if state else Presence.OFFLINE,
                    reason=state.reason if state else None,
                    phone_registered=self._desk.reachable(advisor.id, "voice"),
                    misses=state.misses if state else 0,
                    lines=lines.get(advisor.id, {}),
                )
            )
        return found

    def _day(self) -> tuple[datetime, timedelta]:
        """When today began and how long it lasts, where the site is."""
        zone = self._site().time_zone
        date = today(self._clock.now(), zone)
        start, end = whole_days(date, date, zone)
        return start, end - start

    def _turn_day(self, now: datetime) -> None:
        if now >= self._tally.start + self._tally.length:
            self._tally.new_day(*self._day())

    def apply(self, event: Event) -> Past:
        self._turn_day(event.at)
        if event.type is T.SITE_APPLIED:
            self._tally.set_queues(self._site().queues)
        if event.type is T.ACCEPTED and event.interaction is not None:
            found = self._tally.waiting(event.interaction)
            if found is not None:
                WAIT.labels(found[0]).observe(max(0.0, (event.at - found[1]).total_seconds()))
        self.dirty |= self._tally.apply(event)
        owners = {event.advisor, self._owner(event)}
        changed = self._seats.apply(event)
        owners.add(self._owner(event))
        self.dirty |= changed is not None
        self._note(event)
        self._count_message(event)
        return Past(event, frozenset(a for a in owners if a), changed)

    def _owner(self, event: Event) -> str | None:
        return self._seats.owner(event.interaction) if event.interaction else None

    def _note(self, event: Event) -> None:
        interaction = event.interaction
        if event.type is T.BREACH_FORECAST:
            key = (str(event.data["queue"]), str(event.data["channel"]))
            self._breaches[key] = (event.at, float(event.data["in_s"]))
            self.dirty = True
        if interaction is None:
            return
        if event.type is T.OFFERED:
            self._offers[interaction] = event
        elif event.type is T.OFFER_ENDED or event.type in FINAL_EVENTS:
            self._offers.pop(interaction, None)

    def _count_message(self, event: Event) -> None:
        status = {T.MESSAGE_RECEIVED: "received", T.MESSAGE_WRITTEN: "written"}.get(event.type)
        if event.type is T.MESSAGE_STATUS:
            status = str(event.data["status"])
        if status is not None and event.interaction is not None:
            row = self._desk.interaction(event.interaction)
            MESSAGES.labels(row.channel if row else "unknown", status).inc()

    def owner(self, interaction: UUID) -> str | None:
        return self._seats.owner(interaction)

    def seat(self, advisor: str) -> Seat:
        return self._seats.get(advisor, self._clock.now())

    def offer_of(self, interaction: UUID) -> Event | None:
        """The event of its open offer."""
        return self._offers.get(interaction)

    def open_offer(self, offer: UUID) -> Event | None:
        """The event of an offer that is still open."""
        return next((e for e in self._offers.values() if str(e.data["offer"]) == str(offer)), None)

    def serving(self) -> list[Advisor]:
        """Who takes calls: those who only supervise or administrate are in no figure."""
        return [a for a in self._site().advisors if "advisor" in a.roles or a.phone]

    def counted(self, queue: str, channel: str, figure: str) -> list[UUID]:
        """The interactions behind a figure of the board, most pressing or newest first."""
        if figure == "waiting":
            waiting = [
                row
                for row in self._desk.interactions()
                if (row.queue, row.seat) == (queue, channel) and row.state in {State.WAITING, State.OFFERED}
            ]
            return [row.id for row in sorted(waiting, key=lambda row: (row.since or row.opened_at, row.id))]
        of_the_day = ("answered", "abandoned") if figure == "served" else (figure,)
        ids = [id for name in of_the_day for id in self._tally.counted(queue, channel, name)]
        return sorted(ids, reverse=True)  # UUIDv7: by the time they were opened

    def states(self) -> dict[str, int]:
        """How many advisors are in each of the board's states."""
        counts = dict.fromkeys(ADVISOR_STATES, 0)
        for advisor in self.serving():
            counts[self._state(self.seat(advisor.id))] += 1
        return counts

    def presence(self, advisor: str) -> schemas.Presence | None:
        site = self._site()
        person = next((a for a in site.advisors if a.id == advisor), None)
        return self._presence(self.seat(advisor), person, site) if person else None

    def _written(self, seat: Seat) -> int:
        held = (self._desk.interaction(id) for id in seat.lines)
        return sum(row is not None and row.seat != "voice" for row in held)

    def _state(self, seat: Seat) -> str:
        """The seat's word of the board; of no line where all that it talks is written."""
        return "writing" if seat.state == "talking" and self._written(seat) == len(seat.lines) else seat.state

    def _presence(self, seat: Seat, advisor: Advisor, site: Site) -> schemas.Presence:
        return rows.presence(seat, advisor, site, written=self._written(seat))

    def me(self, login: str) -> schemas.Me:
        person = next(a for a in self._site().advisors if a.id == login)
        return schemas.Me(
            login=person.id,
            first_name=person.first_name,
            last_name=person.last_name,
            roles=list(person.roles),
            language=person.language,
            phone=schemas.Phone(account=person.phone, registered=self.seat(login).phone_registered),
        )

    def board(self, caller: Caller | None = None) -> schemas.Board:
        """The board as `caller` may see it: figures for all, colleagues for supervisors."""
        site, now = self._site(), self._clock.now()
        self._turn_day(now)
        people = [(a, self.seat(a.id)) for a in self.serving()]
        staff: dict[str, list[str]] = {}
        for advisor, seat in people:
            for queue in rows.queues_of(advisor, site):
                staff.setdefault(queue, []).append(self._state(seat))
        live = self._with_breaches(self._waits(now), now)
        wide = caller is None or bool(caller.roles & SUPERVISORS)
        return schemas.Board(
            at=now,
            rows=[rows.board_row(r) for r in board_rows(site.queues, self._tally, live, staff)],
            advisors=[
                self._presence(seat, a, site)
                for a, seat in people
                if wide or (caller is not None and a.id == caller.login)
            ],
        )

    def anybody_waits(self) -> bool:
        return any(w.waiting for w in self._waits(self._clock.now()).values())

    def _waits(self, now: datetime) -> dict[tuple[str, str], Waits]:
        """Who waits, as the engine counts, also those to whom an advisor is just being rung; while it is away, as
        the log does."""
        if not self._desk.healthy:
            return self._tally.live(now)
        return {
            (q.queue, q.channel): Waits(q.waiting + q.offered, q.longest_wait_s, q.estimate_s)
            for q in self._desk.board().queues
        }

    def _with_breaches(
        self, live: dict[tuple[str, str], Waits], now: datetime
    ) -> dict[tuple[str, str], Waits]:
        for key, (at, in_s) in list(self._breaches.items()):
            left_s = in_s - (now - at).total_seconds()
            if left_s < 0 or key not in live:
                del self._breaches[key]
                continue
            live[key] = replace(live[key], breach_in_s=left_s)
        return live
