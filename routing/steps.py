"""What the distribution is told and what it decides: one frozen value each.

Times are unix seconds from the one clock; ids are strings made elsewhere, except offers, which the model numbers.
An interaction's `epoch` counts its leases: it grows by exactly one with each `Offered` and each `Assigned`, and with
nothing else, so a store compares and sets with `WHERE epoch = decision.epoch - 1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from routing.explain import Explanation
from routing.site import Advisor, Hours, Need, Queue


@dataclass(frozen=True, slots=True)
class RulesSet:
    """The whole set of queues, calendars and the time zone; a later one changes the rules for those who wait."""

    queues: tuple[Queue, ...]
    hours: tuple[Hours, ...] = ()
    time_zone: str = "Europe/Paris"
    weights: Mapping[str, float] = field(default_factory=dict)  # channel -> share of 100 an advisor has (Q14)


@dataclass(frozen=True, slots=True)
class AdvisorSet:
    """A new or changed advisor; a new one is offline and has no phone until told otherwise."""

    advisor: Advisor


@dataclass(frozen=True, slots=True)
class AdvisorGone:
    advisor: str


@dataclass(frozen=True, slots=True)
class PresenceSet:
    """`presence`: ready | pause | offline. A pause ends at `until` or at the end of shift, whichever is first."""

    advisor: str
    presence: str
    reason: str | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class ReachSet:
    """Whether offers of a channel can reach the advisor: for voice, whether the phone is registered.

    Voice is unreachable until said; other channels are reachable until said.
    """

    advisor: str
    channel: str
    reachable: bool


@dataclass(frozen=True, slots=True)
class Enqueue:
    """An interaction starts to wait (or waits again, elsewhere, after a transfer: `since` is then its old one).

    `since` is the first waiting time: the age that counts. `needs` are added to those of the queue. `related` is the
    advisor to hold it for, `hold_s` overrides the queue's time for that. `callback`: not offered while another
    interaction of the same contact is alive on its channel.
    """

    interaction: str
    queue: str
    channel: str
    since: float
    priority: int | None = None  # None: the queue's
    needs: tuple[Need, ...] = ()
    contact: str | None = None
    related: str | None = None
    hold_s: float | None = None
    language: str | None = None
    callback: bool = False
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The customer left, or the interaction was ended by somebody else, in whatever state it is."""

    interaction: str


@dataclass(frozen=True, slots=True)
class Accept:
    offer: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The advisor said no. Does not reset the idle time and is not a miss."""

    offer: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Miss:
    """The advisor could not be made to answer before the deadline: busy phone, failed INVITE. Counts as a miss."""

    offer: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """The conversation is over; wrap-up begins, if the queue has one."""

    interaction: str


@dataclass(frozen=True, slots=True)
class WrapupDone:
    interaction: str


@dataclass(frozen=True, slots=True)
class WrapupExtended:
    """Once per interaction."""

    interaction: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """An active written interaction is put on hold: it stays with its advisor, and its seat serves others (Q20).

    Taken up again (`aside` False) it has its seat at once, beside what has come in since.
    """

    interaction: str
    aside: bool


@dataclass(frozen=True, slots=True)
class Assign:
    """Direct: click-to-call, an advisor who pulls a waiting interaction, or one who is given that of another.

    Answered by `Assigned` or `Denied`.
    """

    interaction: str
    advisor: str
    channel: str
    contact: str | None = None
    queue: str | None = None  # whose wrap-up rule holds; None: that of a waiting interaction's queue, or 60 s
    epoch: int = 0
    exchange: str | None = (
        None  # an active interaction of his whose seat this one takes until it is over (F5)
    )
    holder: str | None = None  # who has it, where it moves from one advisor to another without waiting


@dataclass(frozen=True, slots=True)
class Requeue:
    """An active interaction lost its advisor and goes back to its old place; `avoid` him while another exists."""

    interaction: str
    avoid: bool = True


@dataclass(frozen=True, slots=True)
class PrioritySet:
    interaction: str
    priority: int


@dataclass(frozen=True, slots=True)
class Kept:
    """One interaction as the store remembers it. One that was offered is restored as waiting."""

    enqueue: Enqueue  # its epoch is the stored one
    state: str = "waiting"  # waiting | active | wrapup
    advisor: str | None = None
    wrapup_until: float | None = None
    wrapup_extended: bool = False
    avoid: tuple[str, ...] = ()  # those who refused or missed it
    exchange: str | None = None  # an active interaction, kept before it, whose seat it has (F5)
    aside: bool = False  # active and set aside


@dataclass(frozen=True, slots=True)
class Restore:
    """After a restart, once the rules and the advisors are set: what was going on."""

    kept: tuple[Kept, ...] = ()
    next_offer: int = 1
    idle_since: Mapping[str, float] = field(default_factory=dict)
    misses: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; to be sent at `Distribution.deadline()`."""


Event = (
    RulesSet
    | AdvisorSet
    | AdvisorGone
    | PresenceSet
    | ReachSet
    | Enqueue
    | Withdraw
    | Accept
    | Refuse
    | Miss
    | Finish
    | WrapupDone
    | WrapupExtended
    | Assign
    | SetAside
    | Requeue
    | PrioritySet
    | Restore
    | Tick
)


@dataclass(frozen=True, slots=True)
class Offered:
    """A lease until `deadline`: it ends by exactly one `OfferEnded`."""

    offer: int
    interaction: str
    advisor: str
    queue: str
    channel: str
    deadline: float
    epoch: int
    why: Explanation


@dataclass(frozen=True, slots=True)
class OfferEnded:
    """`how`: accepted | refused | missed | expired | cancelled.

    After accepted the interaction is active; after cancelled because of Withdraw it is gone; else it waits again.
    """

    offer: int
    interaction: str
    advisor: str
    how: str
    reason: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Assigned:
    interaction: str
    advisor: str
    channel: str
    epoch: int


@dataclass(frozen=True, slots=True)
class SeatLent:
    """An active interaction stays with its advisor, but its seat serves another one."""

    interaction: str
    advisor: str
    to: str


@dataclass(frozen=True, slots=True)
class SeatReturned:
    interaction: str
    advisor: str
    to: str


@dataclass(frozen=True, slots=True)
class Denied:
    """Something asked for cannot be: an Accept of a dead offer, an Assign without a seat, an Enqueue into a full queue.

    `why`: offer over | taken | unknown advisor | offline | phone not registered | no free seat | unknown queue |
    queue full | unknown interaction | already waiting. `holder` is the advisor who has the interaction, where one has.
    """

    what: str  # the event's name in lower case: accept | assign | enqueue …
    interaction: str | None
    advisor: str | None
    why: str
    holder: str | None = None
    offer: int | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """An active interaction has left its advisor without wrap-up: Requeue, or Enqueue as a transfer to a queue."""

    interaction: str
    advisor: str
    requeued: bool


@dataclass(frozen=True, slots=True)
class WrapupStarted:
    """Told again with a later `until` when it is extended."""

    interaction: str
    advisor: str
    until: float


@dataclass(frozen=True, slots=True)
class WrapupEnded:
    """`how`: done | expired | none (the queue has no wrap-up)."""

    interaction: str
    advisor: str
    how: str


@dataclass(frozen=True, slots=True)
class Paused:
    """The model itself has paused an advisor after too many misses in a row (Q16)."""

    advisor: str
    reason: str


@dataclass(frozen=True, slots=True)
class PauseEnded:
    """A pause has reached its `until` or the end of shift: `presence` is offline, for he may not be there."""

    advisor: str
    presence: str


@dataclass(frozen=True, slots=True)
class ClosingReached:
    """The queue has closed (or was closed) for this interaction, which no longer waits; `rule` says what now."""

    interaction: str
    queue: str
    rule: str


@dataclass(frozen=True, slots=True)
class BreachForecast:
    """Unless somebody is answered, the target of the queue on this channel is lost in `in_s` seconds (Q12)."""

    queue: str
    channel: str
    in_s: float


@dataclass(frozen=True, slots=True)
class Overflowed:
    interaction: str
    from_queue: str
    to_queue: str


Decision = (
    Offered
    | OfferEnded
    | Assigned
    | SeatLent
    | SeatReturned
    | Denied
    | Released
    | WrapupStarted
    | WrapupEnded
    | Paused
    | PauseEnded
    | ClosingReached
    | BreachForecast
    | Overflowed
)
