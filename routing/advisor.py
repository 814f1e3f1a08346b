"""Those who serve: the state of each advisor, and the roster that finds the best of thousands in microseconds.

The roster keeps one row an advisor and, for each channel, two columns: `codes` says why he cannot be offered anything
on it now (0: he can), `keys` is his rank among those who can, smaller first: work in hand, then idle since, then id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from routing.queue import Item, Line, Rows
from routing.site import Advisor, Need

FREE, OFFLINE, PAUSE, UNREACHABLE, WRAPUP, NO_SEAT = range(6)
_AT_WORK = np.array([True, False, False, False, True, True])  # by code: may be free again without signing in
NEVER = 1 << 62
_WORK_SHIFT, _WORK_MOST = 52, 15  # idle since, in µs, stays below 2**52 until the year 2112
_SKILL_SHIFT, _SKILL_MOST = 56, 62

PHONE_CHANNELS = frozenset({"voice"})  # reachable only while a phone is registered
INTERRUPTS: Mapping[str, frozenset[str]] = {
    "voice": frozenset({"mail"})
}  # a call: a mail, never a chat (Q15)
WHOLE = 100.0 + 1e-9  # what all that an advisor does may weigh together (Q14)


def meets(skills: dict[str, int], needs: Iterable[Need]) -> bool:
    """Every need, by any of its alternatives (Q3)."""
    return all(any(skills.get(skill, 0) >= level for skill, level in need.any_of) for need in needs)


def words(need: Need) -> str:
    """A need as it is counted when nobody meets it: `fr<2`, `fr<2|en<3`."""
    return "|".join(f"{skill}<{level}" for skill, level in need.any_of)


class Column:
    """One channel of one advisor: his seats on it, and what was last written about him."""

    __slots__ = ("channel", "code", "seats")

    def __init__(self, channel: str, seats: int) -> None:
        self.channel = channel
        self.seats = seats
        self.code = OFFLINE


class Serving:
    """One advisor, live."""

    __slots__ = (
        "channels",
        "gone",
        "held",
        "id",
        "idle_us",
        "items",
        "lent",
        "lines",
        "misses",
        "offers",
        "pause_until",
        "presence",
        "reach",
        "reason",
        "refusals",
        "row",
        "site",
        "skills",
        "used",
        "work",
        "wrapups",
    )

    def __init__(self, site: Advisor, row: int) -> None:
        self.id = site.id
        self.row = row
        self.gone = False
        self.presence = "offline"
        self.reason: str | None = None
        self.pause_until: float | None = None
        self.reach: dict[str, bool] = {}
        self.used: dict[str, int] = {}  # seats taken: offered and active
        self.lent: dict[str, int] = {}  # of these, so many stand aside for a call of his (F5)
        self.work = 0  # the sum of `used`
        self.wrapups: set[str] = set()
        self.offers: dict[str, Item] = {}
        self.items: dict[str, Item] = {}  # active
        self.held: dict[str, Item] = {}  # waiting for him alone
        self.idle_us = 0
        self.misses = 0  # in a row
        self.refusals = 0
        self.lines: dict[str, list[Line]] = {}  # by channel: those that he can serve
        self.channels: list[Column] = []
        self.site = site
        self.skills = dict(site.skills)

    def reachable(self, channel: str) -> bool:
        return self.reach.get(channel, channel not in PHONE_CHANNELS)

    def can(self, line: Line) -> bool:
        """By rule: channel, queue and skills (I4), whatever he is doing now."""
        queues = self.site.queues
        return (
            not self.gone
            and self.site.seats.get(line.channel, 0) > 0
            and (queues is None or line.rules.id in queues)
            and meets(self.skills, line.needs)
        )

    def state(self) -> str:
        """For the board: offline | pause | wrapup | busy | ready."""
        if self.presence != "ready":
            return self.presence
        return "wrapup" if self.wrapups else "busy" if self.work else "ready"


class Roster:
    """All advisors as columns."""

    def __init__(self) -> None:
        self.by_id: dict[str, Serving] = {}
        self.by_row: list[Serving] = []
        self.version = 0  # grows whenever somebody's rules change
        self.weights: Mapping[str, float] = {}  # of one seat a channel; empty: only the seats count
        self._room = 64
        self._codes: dict[str, npt.NDArray[np.int8]] = {}
        self._keys: dict[str, npt.NDArray[np.int64]] = {}
        self._levels: dict[str, npt.NDArray[np.int8]] = {}
        self._seats: dict[str, npt.NDArray[np.bool_]] = {}
        self._members: dict[str, npt.NDArray[np.bool_]] = {}
        self._everywhere = np.zeros(self._room, np.bool_)
        self._alive = np.zeros(self._room, np.bool_)
        self._order: Rows | None = None  # rows in order of id

    def set(self, site: Advisor) -> Serving:
        """Add or change one; the caller renews his `lines`."""
        found, old = self.by_id.get(site.id), None
        if found is not None:
            old = found.site
            if found.gone:  # back before the last talk was over: like a new one
                found.gone = False
                found.reach = {}
        else:
            found = Serving(site, len(self.by_row))
            self.by_row.append(found)
            self.by_id[site.id] = found
            if len(self.by_row) > self._room:
                self._grow()
        found.site = site
        found.skills = dict(site.skills)
        self._write(found, old)
        self.refresh(found)
        return found

    def leave(self, advisor: Serving) -> None:
        """He is `gone`: he can serve nothing any more, but may still be ending his last conversation."""
        self._write(advisor, advisor.site)
        self.refresh(advisor)

    def forget(self, advisor: Serving) -> None:
        """His row stays empty."""
        if self.by_id.get(advisor.id) is advisor:
            del self.by_id[advisor.id]

    def skill(self, line: Line, advisor: Serving) -> int | None:
        """The sum of his best levels on the needs, where the queue prefers skill."""
        if line.deficit is None:
            return None
        levels = advisor.skills
        total = sum(
            max((levels.get(s, 0) for s, low in need.any_of if levels.get(s, 0) >= low), default=0)
            for need in line.needs
        )
        return min(total, _SKILL_MOST)

    def _write(self, advisor: Serving, old: Advisor | None) -> None:
        row, site = advisor.row, advisor.site
        self.version += 1
        self._order = None
        self._alive[row] = not advisor.gone
        self._everywhere[row] = site.queues is None
        if old is not None:
            for skill in old.skills:
                self._level(skill)[row] = 0
            for queue in old.queues or ():
                self._flag(self._members, queue)[row] = False
            for channel in old.seats:
                self._flag(self._seats, channel)[row] = False
        for skill, level in site.skills.items():
            self._level(skill)[row] = level
        for queue in site.queues or ():
            self._flag(self._members, queue)[row] = True
        for channel, seats in site.seats.items():
            self._flag(self._seats, channel)[row] = seats > 0
            self._columns(channel)
        for channel in self._keys:
            self._keys[channel][row] = NEVER
            self._codes[channel][row] = OFFLINE
        advisor.channels = [Column(channel, seats) for channel, seats in site.seats.items() if seats > 0]

    def _level(self, skill: str) -> npt.NDArray[np.int8]:
        if skill not in self._levels:
            self._levels[skill] = np.zeros(self._room, np.int8)
        return self._levels[skill]

    def _flag(self, table: dict[str, npt.NDArray[np.bool_]], name: str) -> npt.NDArray[np.bool_]:
        if name not in table:
            table[name] = np.zeros(self._room, np.bool_)
        return table[name]

    def _columns(self, channel: str) -> None:
        if channel not in self._keys:
            self._keys[channel] = np.full(self._room, NEVER, np.int64)
            self._codes[channel] = np.full(self._room, OFFLINE, np.int8)

    def _grow(self) -> None:
        old, self._room = self._room, self._room * 2
        more = self._room - old
        self._everywhere = np.concatenate([self._everywhere, np.zeros(more, np.bool_)])
        self._alive = np.concatenate([self._alive, np.zeros(more, np.bool_)])
        for flags in (self._members, self._seats):
            for name, flag in flags.items():
                flags[name] = np.concatenate([flag, np.zeros(more, np.bool_)])
        for skill, level in self._levels.items():
            self._levels[skill] = np.concatenate([level, np.zeros(more, np.int8)])
        for channel in self._keys:
            self._keys[channel] = np.concatenate([self._keys[channel], np.full(more, NEVER, np.int64)])
            self._codes[channel] = np.concatenate([self._codes[channel], np.full(more, OFFLINE, np.int8)])

    def refresh(self, advisor: Serving) -> None:
        """To be called after each change of what he does."""
        row = advisor.row
        presence = advisor.presence
        base = FREE if presence == "ready" else PAUSE if presence == "pause" else OFFLINE
        work = advisor.work
        rank = ((work if work < _WORK_MOST else _WORK_MOST) << _WORK_SHIFT) + advisor.idle_us
        used, reach, wrapping = advisor.used, advisor.reach, advisor.wrapups
        for column in advisor.channels:
            channel = column.channel
            if base:
                code = base
            elif not reach.get(channel, channel not in PHONE_CHANNELS):
                code = UNREACHABLE
            elif wrapping:
                code = WRAPUP
            elif used.get(channel, 0) >= column.seats or (
                self.weights and not self.has_room(advisor, channel)
            ):
                code = NO_SEAT
            else:
                self._keys[channel][row] = rank
                if column.code:
                    self._codes[channel][row] = column.code = FREE
                continue
            if code != column.code:
                self._codes[channel][row] = column.code = code
                self._keys[channel][row] = NEVER

    def has_room(self, advisor: Serving, channel: str) -> bool:
        """Whether one more on the channel fits beside what he does and it may not interrupt (Q14, Q15)."""
        weights, may = self.weights, INTERRUPTS.get(channel, frozenset())
        load = weights.get(channel, 0.0)
        for other, n in advisor.used.items():
            if other not in may:
                load += weights.get(other, 0.0) * (n - advisor.lent.get(other, 0))
        return load <= WHOLE

    def survey(self, line: Line) -> None:
        """Tell a line who can serve it by rule, and count the others by the first rule that leaves them out."""
        if line.version == self.version:
            return
        if self._order is None:
            self._order = np.array(sorted(range(len(self.by_row)), key=lambda r: self.by_row[r].id), np.intp)
        lacking: dict[str, int] = {}
        mask = self._alive.copy()
        left = int(np.count_nonzero(mask))

        def sieve(flags: npt.NDArray[np.bool_] | np.bool_, name: str) -> None:
            nonlocal left
            np.logical_and(mask, flags, out=mask)
            now = int(np.count_nonzero(mask))
            if now != left:
                lacking[name] = lacking.get(name, 0) + left - now
            left = now

        none = np.bool_(False)
        sieve(self._seats.get(line.channel, none), "channel")
        sieve(self._everywhere | self._members.get(line.rules.id, none), "queue")
        for need in line.needs:
            flags: npt.NDArray[np.bool_] = np.zeros(self._room, np.bool_)
            for skill, level in need.any_of:
                if level <= 0:
                    flags[:] = True
                elif skill in self._levels:
                    flags |= self._levels[skill] >= level
            sieve(flags, f"skill {words(need)}")
        line.rows = self._order[mask[self._order]]
        line.lacking = lacking
        line.deficit = None
        if line.rules.prefer == "skill" and line.needs:
            total = np.zeros(len(line.rows), np.int64)
            for need in line.needs:
                best = np.zeros(len(line.rows), np.int64)
                for skill, level in need.any_of:
                    if skill in self._levels:
                        of = self._levels[skill][line.rows].astype(np.int64)
                        np.maximum(best, np.where(of >= level, of, 0), out=best)
                total += best
            line.deficit = (_SKILL_MOST - np.minimum(total, _SKILL_MOST)) << _SKILL_SHIFT
        line.version = self.version

    def best(self, line: Line, without: Iterable[str] = ()) -> Serving | None:
        """The first in order of those who can take from the line now."""
        self.survey(line)
        if not len(line.rows):
            return None
        keys = self._keys[line.channel].take(line.rows)
        if line.deficit is not None:
            keys += line.deficit
        for id in without:
            advisor = self.by_id.get(id)
            if advisor is not None:
                keys[line.rows == advisor.row] = NEVER
        at = keys.argmin()
        return self.by_row[line.rows[at]] if keys[at] < NEVER else None

    def ranked(self, line: Line, most: int, without: Iterable[str] = ()) -> list[tuple[Serving, int | None]]:
        """The first `most` in order, each with the sum of his levels where the queue prefers skill."""
        self.survey(line)
        keys = self._keys[line.channel].take(line.rows) if len(line.rows) else np.empty(0, np.int64)
        if line.deficit is not None:
            keys += line.deficit
        for id in without:
            advisor = self.by_id.get(id)
            if advisor is not None:
                keys[line.rows == advisor.row] = NEVER
        near: npt.NDArray[np.intp] = np.flatnonzero(keys < NEVER)
        if len(near) > most:
            # All that are as good as the last that counts, lest equal ones be cut by chance.
            there = keys[near]
            near = near[there <= np.partition(there, most - 1)[most - 1]]
        near = near[np.argsort(keys[near], kind="stable")][:most]
        found: list[tuple[Serving, int | None]] = []
        for at in near:
            skill = None if line.deficit is None else _SKILL_MOST - int(line.deficit[at] >> _SKILL_SHIFT)
            found.append((self.by_row[line.rows[at]], skill))
        return found

    def counts(self, line: Line) -> list[int]:
        """How many of those who can by rule have each code."""
        self.survey(line)
        if not len(line.rows):
            return [0] * 6
        return np.bincount(self._codes[line.channel].take(line.rows), minlength=6).tolist()  # type: ignore[no-any-return]

    def seats(self, line: Line) -> int:
        """How many interactions those who can by rule, and are at work, serve at once."""
        self.survey(line)
        if not len(line.rows):
            return 0
        at_work = line.rows[_AT_WORK.take(self._codes[line.channel].take(line.rows))]
        weight = self.weights.get(line.channel, 0.0)
        most = int(WHOLE / weight) if weight > 0 else NEVER
        return sum(min(most, self.by_row[row].site.seats.get(line.channel, 0)) for row in at_work.tolist())

    def another(self, line: Line, avoid: Iterable[str]) -> bool:
        """Whether somebody at work could serve the line who is not among `avoid` (I15)."""
        self.survey(line)
        if not len(line.rows):
            return False
        codes = self._codes[line.channel]
        at_work = int(np.count_nonzero(_AT_WORK.take(codes.take(line.rows))))
        for id in avoid:
            advisor = self.by_id.get(id)
            if advisor is not None and _AT_WORK[codes[advisor.row]] and advisor.can(line):
                at_work -= 1
        return at_work > 0
