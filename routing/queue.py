"""Those who wait: items, and the lines that they stand in.

An item's score at `now` is `priority + ageing_per_minute × minutes since `since`. It is kept as an integer (UNIT a
point of priority, microseconds, thousandths of ageing), so that equal scores are equal. Two items that age alike keep
their order for ever; so a line holds only items of one queue, one channel and one set of needs, as a heap whose keys
never change, and the best of several lines is the best of their heads.
"""

from __future__ import annotations

import heapq
from collections import deque

import numpy as np
import numpy.typing as npt

from routing.estimate import Handled
from routing.interaction import State
from routing.site import Need, Queue

UNIT = 60_000_000_000  # one point of priority = 60e6 µs × 1000 thousandths of ageing a minute

Key = tuple[int, int, str]  # smaller is better: minus the score, arrival in µs, id
Rows = npt.NDArray[np.intp]

# Where a waiting item stands.
NOWHERE, LINE, SHY, HELD, PARKED = range(5)


def micros(at: float) -> int:
    return round(at * 1e6)


class Item:
    """One interaction as the distribution sees it."""

    __slots__ = (
        "advisor",
        "aside",
        "avoid",
        "began",
        "callback",
        "channel",
        "contact",
        "deadline",
        "entered",
        "epoch",
        "exchange",
        "extended",
        "held_until",
        "id",
        "inverse",
        "language",
        "lent_to",
        "line",
        "needs",
        "offer",
        "place",
        "priority",
        "related",
        "rules",
        "since",
        "since_us",
        "state",
        "stated_priority",
        "wrapup_until",
    )

    def __init__(self, id: str, channel: str, since: float, now: float) -> None:
        self.id = id
        self.channel = channel
        self.since = since
        self.since_us = micros(since)
        self.entered = now
        self.state = State.WAITING
        self.rules: Queue | None = None
        self.needs: tuple[Need, ...] = ()  # its own, beside the queue's
        self.stated_priority: int | None = None
        self.priority = 0
        self.contact: str | None = None
        self.callback = False
        self.language: str | None = None
        self.related: str | None = None
        self.held_until: float | None = None
        self.avoid: set[str] = set()
        self.began: float | None = None  # its talk, or its wrap-up; None: before we can tell
        self.epoch = 0
        self.line: Line | None = None
        self.place = NOWHERE
        self.inverse = 0
        self.advisor: str | None = None
        self.offer = 0
        self.deadline = 0.0
        self.wrapup_until = 0.0
        self.extended = False
        self.exchange: Item | None = None  # whose seat this one has
        self.lent_to: Item | None = None  # who has this one's seat
        self.aside = False  # active, but on hold by its advisor: it takes no seat (Q20)

    def score(self, weight: int, now_us: int) -> float:
        return (weight * now_us - self.inverse) / UNIT


Entry = tuple[int, int, str, int, Item]  # inverse, since_us, id, a number that makes it unique, item


class Line:
    """The waiting items of one queue on one channel with the same needs.

    `rows`, `lacking` and `deficit` are the roster's answer about who can serve the line, as of `version`.
    """

    __slots__ = (
        "_pushes",
        "channel",
        "deficit",
        "heap",
        "lacking",
        "live",
        "needs",
        "rows",
        "rules",
        "shy",
        "top",
        "version",
        "weight",
    )

    def __init__(self, rules: Queue, channel: str, needs: tuple[Need, ...]) -> None:
        self.rules = rules
        self.channel = channel
        self.needs = needs
        self.weight = round(rules.ageing_per_minute * 1000)
        self.heap: list[Entry] = []
        self.top: Entry | None = None  # the first that counts; read often, so it is kept and not looked for
        self._pushes = 0
        self.live = 0  # items of the heap that still count
        self.shy: dict[str, Item] = {}  # waiting, but avoiding somebody: looked at one by one
        self.version = -1
        self.rows: Rows = np.empty(0, np.intp)
        self.lacking: dict[str, int] = {}
        self.deficit: npt.NDArray[np.int64] | None = None

    def push(self, item: Item) -> None:
        item.place = LINE
        self.live += 1
        self._pushes += 1
        heapq.heappush(self.heap, (item.inverse, item.since_us, item.id, self._pushes, item))
        self.top = self.heap[0]

    def drop(self, item: Item) -> None:
        """An entry that is not the first stays behind, to be thrown away when it comes to the top."""
        item.place = NOWHERE
        self.live -= 1
        heap = self.heap
        if not self.live:
            heap.clear()
            self.top = None
            return
        if self.top is not None and self.top[4] is item:
            while not self._counts(heap[0]):
                heapq.heappop(heap)
        elif len(heap) > 64 and len(heap) > 2 * self.live:
            heap[:] = [entry for entry in heap if self._counts(entry)]
            heapq.heapify(heap)
        self.top = heap[0]

    def _counts(self, entry: Entry) -> bool:
        item = entry[4]
        return item.place == LINE and item.line is self and item.inverse == entry[0]

    def items(self) -> list[Item]:
        return [e[4] for e in self.heap if self._counts(e)] + list(self.shy.values())


class Group:
    """What one queue has on one channel: numbers for the board and the recent outcomes for the forecast (Q12)."""

    __slots__ = ("active", "handled", "offered", "outcomes", "told_breach", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, Item] = {}  # offered ones are not in here
        self.offered = 0
        self.active = 0
        self.handled = Handled()
        self.outcomes: deque[tuple[float, bool]] = deque()  # (when, within the target)
        self.told_breach = False


def bound_minutes(queue: Queue, highest_priority: int) -> float:
    """I8: after how many minutes of waiting an item of this queue outranks every newcomer of its own ageing.

    From then on only those who were there before it can still be served before it. Infinite without ageing.
    """
    above = max(0, highest_priority - queue.priority)
    if above == 0:
        return 0.0
    return above / queue.ageing_per_minute if queue.ageing_per_minute > 0 else float("inf")
