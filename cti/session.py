"""The advisor's seat: what one advisor is doing, derived from committed events.

Rule 1: a seat has one line for each interaction it is busy with; every change of a line is a row of TABLE.
Rule 2: work is derived from lines, never set: talking before held, ringing, wrapup, idle.
Rule 3: a pair that is neither in TABLE nor in IGNORED is our mistake, and raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from routing.models import Event, Presence, T


class Work(StrEnum):
    """What a seat does, or one of its lines (then IDLE means: no line)."""

    IDLE = "idle"
    RINGING = "ringing"
    TALKING = "talking"
    HELD = "held"
    WRAPUP = "wrapup"


class Input(StrEnum):
    OFFERED = "offered"
    OFFER_OVER = "offer_over"  # refused, expired or cancelled
    ACCEPTED = "accepted"
    ASSIGNED = "assigned"  # click-to-call: the advisor's own phone rings
    CONNECTED = "connected"
    HELD = "held"
    RESUMED = "resumed"
    TALK_ENDED = "talk_ended"
    REQUEUED = "requeued"
    FINISHED = "finished"  # ended, abandoned, interrupted


W, I = Work, Input  # noqa: E741

TABLE: Mapping[tuple[Work, Input], Work] = {
    (W.IDLE, I.OFFERED): W.RINGING,
    (W.IDLE, I.ASSIGNED): W.RINGING,
    (W.IDLE, I.ACCEPTED): W.TALKING,
    (W.RINGING, I.OFFER_OVER): W.IDLE,
    (W.RINGING, I.ACCEPTED): W.TALKING,
    (W.RINGING, I.CONNECTED): W.TALKING,
    (W.RINGING, I.REQUEUED): W.IDLE,
    (W.RINGING, I.FINISHED): W.IDLE,
    (W.TALKING, I.HELD): W.HELD,
    (W.TALKING, I.TALK_ENDED): W.WRAPUP,
    (W.TALKING, I.REQUEUED): W.IDLE,
    (W.TALKING, I.FINISHED): W.IDLE,
    (W.HELD, I.RESUMED): W.TALKING,
    (W.HELD, I.TALK_ENDED): W.WRAPUP,
    (W.HELD, I.REQUEUED): W.IDLE,
    (W.HELD, I.FINISHED): W.IDLE,
    (W.WRAPUP, I.FINISHED): W.IDLE,
}

_LATE = "the line is over; the word comes late"
_ALREADY = "says again what is so"
_NEVER_RANG = "belongs to a line that is up; the engine decides, the seat only shows"

IGNORED: Mapping[tuple[Work, Input], str] = {
    (W.IDLE, I.OFFER_OVER): _LATE,
    (W.IDLE, I.CONNECTED): _LATE,
    (W.IDLE, I.HELD): _LATE,
    (W.IDLE, I.RESUMED): _LATE,
    (W.IDLE, I.TALK_ENDED): _LATE,
    (W.IDLE, I.REQUEUED): _LATE,
    (W.IDLE, I.FINISHED): _LATE,
    (W.RINGING, I.OFFERED): _ALREADY,
    (W.RINGING, I.ASSIGNED): _ALREADY,
    (W.RINGING, I.HELD): _NEVER_RANG,
    (W.RINGING, I.RESUMED): _NEVER_RANG,
    (W.RINGING, I.TALK_ENDED): _NEVER_RANG,
    (W.TALKING, I.OFFERED): _ALREADY,
    (W.TALKING, I.OFFER_OVER): "the offer ended because it was accepted",
    (W.TALKING, I.ACCEPTED): _ALREADY,
    (W.TALKING, I.ASSIGNED): _ALREADY,
    (W.TALKING, I.CONNECTED): _ALREADY,
    (W.TALKING, I.RESUMED): _ALREADY,
    (W.HELD, I.OFFERED): _ALREADY,
    (W.HELD, I.OFFER_OVER): "the offer ended because it was accepted",
    (W.HELD, I.ACCEPTED): _ALREADY,
    (W.HELD, I.ASSIGNED): _ALREADY,
    (W.HELD, I.CONNECTED): _ALREADY,
    (W.HELD, I.HELD): _ALREADY,
    (W.WRAPUP, I.OFFERED): _LATE,
    (W.WRAPUP, I.OFFER_OVER): _LATE,
    (W.WRAPUP, I.ACCEPTED): _LATE,
    (W.WRAPUP, I.ASSIGNED): _LATE,
    (W.WRAPUP, I.CONNECTED): _LATE,
    (W.WRAPUP, I.HELD): _LATE,
    (W.WRAPUP, I.RESUMED): _LATE,
    (W.WRAPUP, I.TALK_ENDED): _ALREADY,
    (W.WRAPUP, I.REQUEUED): _LATE,
}

_INPUTS: Mapping[T, Input] = {
    T.OFFERED: I.OFFERED,
    T.ACCEPTED: I.ACCEPTED,
    T.ASSIGNED: I.ASSIGNED,
    T.CONNECTED: I.CONNECTED,
    T.HELD: I.HELD,
    T.RESUMED: I.RESUMED,
    T.TALK_ENDED: I.TALK_ENDED,
    T.REQUEUED: I.REQUEUED,
    T.ENQUEUED: I.REQUEUED,
    T.HANDED_BACK: I.REQUEUED,
    T.ENDED: I.FINISHED,
    T.ABANDONED: I.FINISHED,
    T.INTERRUPTED: I.FINISHED,
}

_GIVES_UP = frozenset({T.ENQUEUED, T.HANDED_BACK})  # said of those whom nobody has, too
_WEIGHT = {W.TALKING: 4, W.HELD: 3, W.RINGING: 2, W.WRAPUP: 1, W.IDLE: 0}


def step(line: Work, told: Input) -> Work:
    """The line after `told`; the same line where the pair is ignored with a reason."""
    after = TABLE.get((line, told))
    if after is None:
        assert (line, told) in IGNORED, f"nobody decided {line} on {told}"
        return line
    return after


@dataclass(frozen=True, slots=True)
class Seat:
    """One advisor as the board and the page show it. `since` is when work or presence last changed."""

    advisor: str
    since: datetime
    presence: Presence = Presence.OFFLINE
    reason: str | None = None
    phone_registered: bool = False
    misses: int = 0
    lines: Mapping[UUID, Work] = field(default_factory=dict)

    @property
    def work(self) -> Work:
        return max(self.lines.values(), key=_WEIGHT.__getitem__, default=W.IDLE)

    @property
    def state(self) -> str:
        """The one word of the board: ready, ringing, talking, wrapup, pause or offline."""
        if self.work is W.IDLE:
            return self.presence.value
        return "talking" if self.work is W.HELD else self.work.value


MISSED = frozenset({"missed", "expired"})  # how an offer ends that nobody answered


class Seats:
    """All seats of one organisation, kept by events in commit order."""

    def __init__(self, seats: Iterable[Seat] = ()) -> None:
        self._seats = {seat.advisor: seat for seat in seats}
        self._owner: dict[UUID, str] = {}
        for seat in self._seats.values():
            for interaction in seat.lines:
                self._owner[interaction] = seat.advisor

    def __iter__(self) -> Iterator[Seat]:
        return iter(self._seats.values())

    def get(self, advisor: str, now: datetime) -> Seat:
        return self._seats.get(advisor) or Seat(advisor, now)

    def owner(self, interaction: UUID) -> str | None:
        """Who is busy with it."""
        return self._owner.get(interaction)

    def put(self, seat: Seat) -> None:
        """Take a seat as it is in the rows: at start, and for advisors who are new in the site."""
        self._seats[seat.advisor] = seat
        for interaction in seat.lines:
            self._owner[interaction] = seat.advisor

    def forget(self, advisor: str) -> None:
        seat = self._seats.pop(advisor, None)
        for interaction in seat.lines if seat else ():
            self._owner.pop(interaction, None)

    def apply(self, event: Event) -> str | None:
        """Take one event; returns the advisor whose seat is another now."""
        if event.type is T.PRESENCE_CHANGED and event.advisor:
            return self._set(
                event.advisor,
                event,
                presence=Presence(event.data["presence"]),
                reason=event.data.get("reason"),
                **({"misses": 0} if event.data.get("by") == "advisor" else {}),
            )
        if event.type is T.REACH_CHANGED and event.advisor:
            if event.data.get("channel") != "voice":
                return None
            return self._set(event.advisor, event, phone_registered=bool(event.data["reachable"]))
        if event.interaction is None:
            return None
        if event.type is T.OFFER_ENDED:
            return self._offer_ended(event)
        told = _INPUTS.get(event.type)
        if told is None:
            return None
        owner = self._owner.get(event.interaction)
        if event.type in _GIVES_UP and owner is None:
            return None
        if event.type is T.ASSIGNED and event.data.get("how") == "pulled":
            told = I.ACCEPTED
        advisor = event.advisor if told in {I.OFFERED, I.ACCEPTED, I.ASSIGNED} else None
        if advisor is not None and owner is not None and owner != advisor:
            self._line(owner, event, I.REQUEUED if told is not I.OFFERED else I.OFFER_OVER)
        advisor = advisor or owner or event.advisor
        return self._line(advisor, event, told) if advisor else None

    def _offer_ended(self, event: Event) -> str | None:
        advisor = event.advisor or self._owner.get(event.interaction)  # type: ignore[arg-type]
        how = event.data.get("how")
        if advisor is None or how == "accepted":
            return None
        seat = self.get(advisor, event.at)
        missed = how in MISSED
        if missed:
            self.put(replace(seat, misses=seat.misses + 1))
        return self._line(advisor, event, I.OFFER_OVER) or (advisor if missed else None)

    def _line(self, advisor: str, event: Event, told: Input) -> str | None:
        interaction = event.interaction
        assert interaction is not None
        seat = self.get(advisor, event.at)
        before = seat.lines.get(interaction, W.IDLE)
        after = step(before, told)
        if after is before:
            return None
        lines = {k: v for k, v in seat.lines.items() if k != interaction}
        if after is W.IDLE:
            self._owner.pop(interaction, None)
        else:
            lines[interaction] = after
            self._owner[interaction] = advisor
        work = seat.work
        seat = replace(seat, lines=lines, misses=0 if told is I.ACCEPTED else seat.misses)
        self._seats[advisor] = replace(seat, since=event.at) if seat.work is not work else seat
        return advisor

    def _set(self, advisor: str, event: Event, **values: object) -> str | None:
        seat = self.get(advisor, event.at)
        changed = replace(seat, **values)  # type: ignore[arg-type]
        if changed == seat and advisor in self._seats:
            return None
        if "presence" in values:
            changed = replace(changed, since=event.at)
        self._seats[advisor] = changed
        return advisor
