"""The desk: the one task that decides, stores and publishes.

One turn: take what has been submitted, load what it needs, decide it in memory (`routing.book`), store rows, side
tables, log and
keys in one transaction, and only then publish and answer. While one group is being stored the next one gathers. The
connection that stores is the one that holds the election's lock, so a desk that lost its lock cannot store.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from types import TracebackType
from typing import Any, cast
from uuid import UUID

import asyncpg
import structlog

from routing.aio.clock import id_ms
from routing.aio.crash import crash_point
from routing.aio.postgres import connect, event_of, load_sql
from routing.book import Batch, Book
from routing.distribution import Board
from routing.estimate import Range
from routing.memory import Done, Loaded, Wants
from routing.models import Clock, Event, Ids, InteractionOpened, Outcome, Submission, T
from routing.projection import (
    TABLES,
    AccountRow,
    AddressRow,
    AdvisorRow,
    AttachmentRow,
    CaseMergeRow,
    CaseRow,
    ContactRow,
    HelpRow,
    InteractionRow,
    MergeRow,
    MessageRow,
    OfferRow,
    ReachRow,
    Row,
    ThreadRow,
    key_of,
)
from routing.site import Site
from routing.store import Unavailable

GROUP_MAX = 256  # submissions in one transaction
SMALL = 32  # log rows and keys that one INSERT writes sooner than two COPYs, which take four round trips
HELD_MAX = 10_000  # submissions that may wait before new interactions are refused
SLOW_COMMIT_S = 1.0  # beyond this the desk calls itself unhealthy
RETRY_MIN_S, RETRY_MAX_S = 0.05, 1.0
ELECTION_POLL_S = 0.05
LOOK_S = 2.0  # an idle desk looks this often whether its database is still there
FINAL_KEPT = 2_000  # interactions that are over and can still be asked for in memory
KEY_MARGIN_MS = 10_000  # a key made this much after our election cannot have been stored by a former desk

Subscriber = Callable[[Event], None]
log = structlog.get_logger(__name__)


class Stale(Exception):
    """The database has moved without us: what was decided in memory must be thrown away and decided again."""


@dataclass(slots=True)
class _Work:
    """Something to be decided, and who waits for the answer."""

    told: Submission | None
    answer: asyncio.Future[Outcome]
    site: tuple[Site, int, str] | None = None


TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
)


def _passing(error: BaseException) -> bool:
    """Whether trying again later can help (asyncpg's DataError is an InterfaceError, yet ours)."""
    return isinstance(error, TRANSIENT) and not isinstance(error, ValueError)


_COLUMNS = {table: tuple(field.name for field in fields(table)) for table in TABLES}
_VALUES = {table: attrgetter(*names) for table, names in _COLUMNS.items()}
_JSON = {
    table: tuple(n for n, field in enumerate(fields(table)) if str(field.type).startswith("list"))
    for table in TABLES
}
_SIDES = {
    "contact_made": (),
    "contact_data": ("name", "sort_name", "company", "language", "vip"),
    "address_data": ("contact", "kind", "value", "raw"),
    "case_data": ("subject",),
    "interaction_data": ("received", "name"),
    "facts": ("facts",),
    "path_data": ("keys",),
    "note_data": ("text",),
    "recording_data": ("path",),
    "contact_name": ("name", "sort_name"),
    "message_data": ("text", "html", "subject", "payload", "buttons", "extra", "folded"),
    "message_changed": ("text", "html", "folded", "reaction"),
    "message_detail": ("detail",),
    "attachment_data": ("name", "content_id", "path"),
    "attachment_path": ("path",),
    "help_data": ("text",),
    "help_answer": ("answer",),
    "walk": ("tree", "version", "state", "consumed"),
    "outbox": ("seq", "thread", "interaction", "account", "author", "outgoing", "not_before"),
}
_EVENT_FIELDS = ("seq", "id", "at", "type", "interaction", "case", "contact", "advisor", "data")
_DONE_FIELDS = ("key", "at", "first_seq", "last_seq", "refused")


def row_of(table: type[Row], record: Any) -> Row:
    """A row from its record, whatever the order of its columns."""
    return table(*[record[name] for name in _COLUMNS[table]])


def _columns(table: type[Row], rows: Iterable[Row]) -> list[list[Any]]:
    """Rows as one list for each column; lists inside become JSON text (an array would take them for its dimensions)."""
    columns = [list(column) for column in zip(*map(_VALUES[table], rows), strict=True)]
    for n in _JSON[table]:
        columns[n] = [json.dumps(value) for value in columns[n]]
    return columns


def _listed(value: Any) -> Any:
    """A list as JSON text, for the same reason."""
    return json.dumps(value) if isinstance(value, list) else value


def _fields(names: tuple[str, ...], things: Iterable[Any]) -> list[list[Any]]:
    return [[getattr(it, name) for it in things] for name in names]


async def _copy(
    connection: asyncpg.Connection, table: str, own: UUID, names: tuple[str, ...], things: Iterable[Any]
) -> None:
    values = attrgetter(*names)
    columns = ("organisation_id", *("case_id" if name == "case" else name for name in names))
    await connection.copy_records_to_table(
        table, columns=columns, records=[(own, *values(it)) for it in things]
    )


class Desk:
    """`async with Desk(dsn, organisation, site, clock, ids) as desk`: decides for one organisation, once elected."""

    def __init__(
        self,
        dsn: str,
        organisation: UUID,
        site: Site,
        clock: Clock,
        ids: Ids,
        *,
        command_timeout_s: float = 60.0,
    ) -> None:
        self.organisation = organisation
        self.site = site
        self.commits = 0
        self.reloads = 0
        self._dsn = dsn
        self._clock = clock
        self._ids = ids
        self._command_timeout_s = command_timeout_s
        self._sql = load_sql("desk.sql")
        self._book: Book | None = None
        self._connection: asyncpg.Connection | None = None
        self._inbox: deque[_Work] = deque()
        self._work: list[_Work] = []  # of the turn that is going on
        self._pending: Batch | None = None  # decided, not known to be stored
        self._singly = 0  # so many submissions are decided one by one, to find the one that fails
        self._wake = asyncio.Event()
        self._ready: asyncio.Future[None] | None = None
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._busy_since: float | None = None
        self._elected_ms = 0
        self._subscribers: list[Subscriber] = []
        self._mine: set[UUID] = set()
        self._interactions: dict[UUID, InteractionRow] = {}
        self._over: deque[UUID] = deque()
        self._offers: dict[UUID, OfferRow] = {}
        self._ended_offers: deque[UUID] = deque()
        self._advisors: dict[str, AdvisorRow] = {}
        self._reach: dict[tuple[str, str], bool] = {}
        self._seq = 0

    async def __aenter__(self) -> Desk:
        """Starts the task; returns once it has been elected and has restored what was going on. Raises Unavailable."""
        self._ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"desk {self.site.organisation}")
        try:
            await self._ready
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stores what was submitted (at most five seconds), then lets go of the election."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), 5.0)
        await self._end()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._drop_connection()
        for work in (*self._work, *self._inbox):
            if not work.answer.done():
                work.answer.set_result(Outcome(refused="stopping"))
        self._work, self._inbox = [], deque()

    @property
    def healthy(self) -> bool:
        """Elected, connected, and no commit has waited longer than a second."""
        slow = self._busy_since is not None and self._loop_time() - self._busy_since > SLOW_COMMIT_S
        return self._book is not None and self._connection is not None and not slow and self._task is not None

    @property
    def seq(self) -> int:
        """Of the last published event."""
        return self._seq

    @property
    def held(self) -> int:
        """Submissions that wait to be decided."""
        return len(self._inbox) + len(self._work)

    async def submit(self, submission: Submission) -> Outcome:
        """Returns once it is durable, or refused. A repeated key gets the first one's outcome.

        Words of refusal by the desk itself: `overloaded` (new interactions only: what has begun must be able to
        end), `stopping`, `failed` (our mistake, in the log).
        """
        if self._stopping:
            return Outcome(refused="stopping")
        if isinstance(submission, InteractionOpened) and len(self._inbox) >= HELD_MAX:
            return Outcome(refused="overloaded")
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._inbox.append(_Work(submission, answer))
        self._wake.set()
        return await answer

    def subscribe(self, hear: Subscriber) -> Callable[[], None]:
        """Hear every event in commit order, called on the loop; returns what ends it."""
        self._subscribers.append(hear)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers.remove(hear)

        return end

    def site_changed(self, site: Site, version: int, by: str = "") -> asyncio.Future[Outcome]:
        """New rules, for those who wait now too. The future is done once SITE_APPLIED is published."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._inbox.append(_Work(None, answer, (site, version, by)))
        self._wake.set()
        return answer

    def nudge(self) -> None:
        """Look at the clock again: it has been shifted (tests, demo)."""
        self._wake.set()

    # Committed rows, in memory. `interaction` also knows the last ones that are over.

    def interaction(self, interaction: UUID) -> InteractionRow | None:
        return self._interactions.get(interaction)

    def interactions(self) -> list[InteractionRow]:
        """Those that live now."""
        return [row for row in self._interactions.values() if row.ended_at is None]

    def offer(self, offer: UUID) -> OfferRow | None:
        return self._offers.get(offer)

    def offers(self) -> list[OfferRow]:
        """Those that are open now."""
        return [row for row in self._offers.values() if row.how is None]

    def advisor(self, advisor: str) -> AdvisorRow | None:
        """None: has never set a presence, so is offline."""
        return self._advisors.get(advisor)

    def reachable(self, advisor: str, channel: str) -> bool:
        return self._reach.get((advisor, channel), False)

    def place(self, interaction: UUID) -> int | None:
        """True service rank among all who wait for the same people, from 1; None when it does not wait."""
        assert self._book is not None
        return self._book.distribution.place(str(interaction)) or None

    def estimate(self, interaction: UUID) -> Range | None:
        """How long it will still wait, in seconds: the one figure that every channel tells. None: nobody can know."""
        assert self._book is not None
        return self._book.distribution.estimate(str(interaction))

    def ahead(self, interaction: UUID) -> dict[str, str] | None:
        """Who is served before this one, with the reason should they be new there (see Distribution.ahead)."""
        assert self._book is not None
        return self._book.distribution.ahead(str(interaction))

    def why_not(self, interaction: UUID) -> dict[str, int]:
        """Advisors by the first reason why they do not have this waiting interaction now."""
        assert self._book is not None
        return dict(self._book.distribution.why_not(str(interaction)))

    def board(self) -> Board:
        assert self._book is not None
        return self._book.distribution.board(self._clock.unix())

    def advisor_state(self, advisor: str) -> str | None:
        """ready | busy | wrapup | pause | offline, as the distribution counts."""
        assert self._book is not None
        return self._book.distribution.advisor_state(advisor)

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()

    async def _run(self) -> None:
        delay_s = RETRY_MIN_S
        while True:
            try:
                if self._connection is None:
                    self._busy_since = self._busy_since or self._loop_time()
                    await self._elect()
                if self._book is None:
                    await self._restore()
                if self._pending is None:
                    self._busy_since = None
                    if not await self._gather():
                        return
                    self._busy_since = self._loop_time()
                    await self._decide()
                await self._store()
                delay_s = RETRY_MIN_S
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if not await self._failed(error):
                    return
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)

    async def _failed(self, error: Exception) -> bool:
        """Put things so that the next turn can try again; False when there is no point."""
        assert self._ready is not None
        if _passing(error):
            log.warning(
                "the database does not answer; holding what was submitted", error=repr(error), held=self.held
            )
            await self._drop_connection()
            if self._pending is None:  # nothing decided yet: it waits in front of the others
                self._inbox.extendleft(reversed(self._work))
                self._work = []
            if not self._ready.done():
                self._ready.set_exception(Unavailable(str(error) or type(error).__name__))
                return False
            return True
        log.error("the desk throws its memory away and reads it again", error=repr(error), exc_info=error)
        if not self._ready.done() and not isinstance(error, Stale):
            self._ready.set_exception(error)
            return False
        self._book, self._pending = None, None
        self.reloads += 1
        work, self._work = self._work, []
        if len(work) == 1 and not isinstance(error, Stale):
            if not work[0].answer.done():
                work[0].answer.set_result(Outcome(refused="failed"))
            self._singly = max(0, self._singly - 1)
        else:
            self._inbox.extendleft(reversed(work))
            self._singly = max(self._singly, len(work))
        return True

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _elect(self) -> None:
        """Connect and wait for the organisation's lock; then see whether what we hold in memory still stands."""
        connection = await connect(
            self._dsn,
            timeout=10,
            command_timeout=self._command_timeout_s,
            server_settings={"application_name": "monofil desk", "synchronous_commit": "on"},
        )
        self._connection = connection
        lock = int.from_bytes(self.organisation.bytes[-8:], "big", signed=True)
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1::bigint)", lock):  # noqa: ASYNC110
            await asyncio.sleep(ELECTION_POLL_S)  # the other desk is another process
        crash_point("desk.elected")
        self._elected_ms = int(self._clock.unix() * 1000)
        if self._book is None:
            return
        stored = await connection.fetchval(self._sql["last_seq"], self.organisation)
        if self._pending is not None and await self._was_stored(self._pending):
            batch, self._pending = self._pending, None
            await self._publish(batch)
        elif stored != self._book.last_seq - (len(self._pending.events) if self._pending is not None else 0):
            raise Stale

    async def _was_stored(self, batch: Batch) -> bool:
        """What became of a commit whose answer was lost."""
        assert self._connection is not None
        if batch.events:
            last = batch.events[-1]
            there = await self._connection.fetchval(self._sql["event_at"], self.organisation, last.seq)
            return bool(there == last.id)
        keys = [batch.done[0].key]
        return bool(await self._connection.fetch(self._sql["submissions"], self.organisation, keys))

    async def _restore(self) -> None:
        """Read what was going on, and settle what a former process left unfinished."""
        assert self._ready is not None
        first = not self._ready.done()
        book = Book(self.organisation, self.site, self._ids)
        book.restore(await self._alive(), self._clock.now(), mine=frozenset(self._mine), first=first)
        self._book = book
        self._interactions = {row.id: row for row in book.rows.all(InteractionRow)}
        self._offers = {row.id: row for row in book.rows.all(OfferRow)}
        self._advisors = {row.advisor: row for row in book.rows.all(AdvisorRow)}
        self._reach = {(row.advisor, row.channel): row.reachable for row in book.rows.all(ReachRow)}
        self._seq = book.last_seq
        self._over.clear()
        self._ended_offers.clear()
        self._pending = book.take()
        crash_point("desk.restored")
        if self._pending:
            await self._store()
        self._pending = None
        if first:
            self._ready.set_result(None)

    async def _gather(self) -> bool:
        """Wait for something to do; False when asked to stop and nothing is left."""
        assert self._book is not None
        if self._book.memory.forgetful:
            self._book.forget()
        while not self._inbox:
            if self._stopping:
                return False
            due = self._book.deadline()
            wait_s = LOOK_S if due is None else min(due - self._clock.unix(), LOOK_S)
            if wait_s <= 0:
                break
            self._wake.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                if wait_s == LOOK_S:
                    await self._look()
        most = 1 if self._singly else GROUP_MAX
        while self._inbox and len(self._work) < most:
            self._work.append(self._inbox.popleft())
        if self._singly:
            self._singly -= 1
        return True

    async def _look(self) -> None:
        """Nothing to do: is the database still there? While it does not answer we are not healthy."""
        assert self._connection is not None
        self._busy_since = self._loop_time()
        await self._connection.execute("SELECT 1")
        self._busy_since = None

    async def _decide(self) -> None:
        """Load, then decide without waiting."""
        assert self._book is not None
        told = [work.told for work in self._work if work.told is not None]
        now = self._clock.now()
        wants = self._book.memory.wants(told, sure_new=self._sure_new)
        wants.talks.update(row.id for row in self._book.looked_at(now))
        if wants:
            self._book.memory.load(await self._load(wants), wants)
        crash_point("desk.loaded")
        for work in self._work:
            if work.told is not None:
                self._book.handle(work.told, now)
            elif work.site is not None:
                self.site, version, by = work.site
                self._book.set_site(self.site, now, version=version, by=by)
        due = self._book.deadline()
        if due is not None and due <= now.timestamp():
            self._book.tick(now)
        self._pending = self._book.take()
        crash_point("desk.decided")

    def _sure_new(self, key: UUID) -> bool:
        made = id_ms(key)
        return made is not None and made > self._elected_ms + KEY_MARGIN_MS

    async def _store(self) -> None:
        batch = self._pending
        assert batch is not None
        if batch:
            await self._commit(batch)
            self.commits += 1
            crash_point("desk.after_commit")
        self._pending = None
        await self._publish(batch)
        crash_point("desk.published")

    async def _commit(self, batch: Batch) -> None:
        connection, sql, own = self._connection, self._sql, self.organisation
        assert connection is not None
        async with connection.transaction():
            crash_point("desk.begun")
            for table in TABLES:
                rows = batch.dirty.get(table)
                if not rows:
                    continue
                if table is InteractionRow:
                    await self._commit_interactions(batch)
                else:
                    await connection.execute(sql[f"put_{table.TABLE}"], own, *_columns(table, rows.values()))
            crash_point("desk.rows_written")
            for name, names in _SIDES.items():
                side = batch.sides.get(name)
                if not side:
                    continue
                keys = list(zip(*side, strict=True)) if isinstance(next(iter(side)), tuple) else [list(side)]
                values = [[_listed(row.get(column)) for row in side.values()] for column in names]
                await connection.execute(sql[f"side_{name}"], own, *keys, *values)
            crash_point("desk.sides_written")
            if len(batch.events) + len(batch.done) <= SMALL:
                both = (*_fields(_EVENT_FIELDS, batch.events), *_fields(_DONE_FIELDS, batch.done))
                await connection.execute(sql["put_log"], own, *both)
                crash_point("desk.log_written")
            else:
                await _copy(connection, "event", own, _EVENT_FIELDS, batch.events)
                crash_point("desk.log_written")
                await _copy(connection, "submission", own, _DONE_FIELDS, batch.done)
            crash_point("desk.keys_written")

    async def _commit_interactions(self, batch: Batch) -> None:
        connection, sql, own = self._connection, self._sql, self.organisation
        assert connection is not None
        rows = batch.dirty[InteractionRow]
        old = [row for id_, row in rows.items() if batch.was[id_] >= 0]
        if old:
            was = [batch.was[key_of(row)] for row in old]
            back = await connection.fetch(sql["set_interaction"], own, *_columns(InteractionRow, old), was)
            if len(back) != len(old):
                raise Stale
        new = [
            row for id_, row in rows.items() if batch.was[id_] < 0
        ]  # a thread's next one, once the last is over
        if new:
            await connection.execute(sql["put_interaction"], own, *_columns(InteractionRow, new))

    async def _publish(self, batch: Batch) -> None:
        """Show and tell what is durable, then answer."""
        self._show(batch)
        for event in batch.events:
            for hear in tuple(self._subscribers):
                try:
                    hear(event)
                except Exception as error:
                    log.error(
                        "a hearer of the desk failed", type=event.type, error=repr(error), exc_info=error
                    )
        first = batch.events[0].seq if batch.events else 0
        work, self._work = self._work, []
        for n, each in enumerate(work):
            if each.answer.done():
                continue
            if each.told is None:
                each.answer.set_result(Outcome(tuple(batch.events)))
                continue
            assert self._book is not None
            done = self._book.memory.known(each.told.key)
            assert done is not None
            try:
                events = await self._events_of(done, batch, first)
            except BaseException:
                self._inbox.extendleft(
                    reversed(work[n:])
                )  # a repeated key: asked again when the database is back
                raise
            each.answer.set_result(Outcome(events, done.refused))

    async def _events_of(self, done: Done, batch: Batch, first: int) -> tuple[Event, ...]:
        if done.last_seq < done.first_seq:
            return ()
        if first and done.first_seq >= first:
            return tuple(batch.events[done.first_seq - first : done.last_seq - first + 1])
        assert self._connection is not None
        found = await self._connection.fetch(
            self._sql["events_between"], self.organisation, done.first_seq, done.last_seq
        )
        return tuple(event_of(self.organisation, record) for record in found)

    def _show(self, batch: Batch) -> None:
        for row in batch.dirty.get(InteractionRow, {}).values():
            assert isinstance(row, InteractionRow)
            self._interactions[row.id] = row
            if row.ended_at is None:
                continue
            self._mine.discard(row.id)
            self._over.append(row.id)
            if len(self._over) > FINAL_KEPT:
                self._interactions.pop(self._over.popleft(), None)
        for offer in batch.dirty.get(OfferRow, {}).values():
            assert isinstance(offer, OfferRow)
            self._offers[offer.id] = offer
            if offer.how is not None:
                self._ended_offers.append(offer.id)
                if len(self._ended_offers) > FINAL_KEPT:
                    self._offers.pop(self._ended_offers.popleft(), None)
        for advisor in batch.dirty.get(AdvisorRow, {}).values():
            assert isinstance(advisor, AdvisorRow)
            self._advisors[advisor.advisor] = advisor
        for reach in batch.dirty.get(ReachRow, {}).values():
            assert isinstance(reach, ReachRow)
            self._reach[reach.advisor, reach.channel] = reach.reachable
        for event in batch.events:
            if event.type is T.INTERACTION_OPENED and event.interaction is not None:
                self._mine.add(event.interaction)
        if batch.events:
            self._seq = batch.events[-1].seq

    async def _rows(self, table: type[Row], statement: str, *arguments: Any) -> list[Any]:
        assert self._connection is not None
        found = await self._connection.fetch(self._sql[statement], self.organisation, *arguments)
        return [row_of(table, record) for record in found]

    async def _alive(self) -> Loaded:
        """Every live interaction with all that deciding about it needs, the advisors, and where the numbers stand."""
        assert self._connection is not None
        loaded = Loaded()
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            loaded.last_seq = await self._connection.fetchval(self._sql["last_seq"], self.organisation)
            loaded.last_case = await self._connection.fetchval(self._sql["last_case"], self.organisation)
            interactions = await self._rows(InteractionRow, "live_interactions")
            loaded.rows += interactions
            await self._families(loaded, await self._around(loaded, interactions))
            loaded.rows += await self._rows(AdvisorRow, "advisors")
            loaded.rows += await self._rows(ReachRow, "reaches")
            loaded.rows += await self._rows(AccountRow, "account_states")
        return loaded

    async def _around(self, loaded: Loaded, interactions: list[InteractionRow]) -> set[UUID]:
        """The cases, threads and offers of interactions; returns the contacts, whose families are needed too."""
        cases = await self._rows(CaseRow, "cases_by_id", list({row.case_id for row in interactions}))
        loaded.rows += cases
        there = {row.id for row in loaded.rows if isinstance(row, OfferRow | ThreadRow)}
        if offers := {row.offer for row in interactions if row.offer is not None} - there:
            loaded.rows += await self._rows(OfferRow, "offers_by_id", list(offers))
        if threads := {row.thread for row in interactions if row.thread is not None} - there:
            loaded.rows += await self._rows(ThreadRow, "threads_by_id", list(threads))
        addresses = {row.address for row in loaded.rows if isinstance(row, ThreadRow)}
        if unknown := addresses - loaded.values.keys():
            await self._values(loaded, unknown)
        return {row.contact for row in interactions} | {row.contact for row in cases}

    async def _values(self, loaded: Loaded, addresses: Iterable[UUID]) -> None:
        """What addresses are, where a reply goes."""
        assert self._connection is not None
        found = await self._connection.fetch(self._sql["address_values"], self.organisation, list(addresses))
        loaded.values |= {record["address"]: (record["kind"], record["value"]) for record in found}

    async def _families(self, loaded: Loaded, contacts: Iterable[UUID]) -> list[ContactRow]:
        """All who are one with the given contacts, and who of them is marked VIP."""
        assert self._connection is not None
        found = await self._connection.fetch(self._sql["contact_families"], self.organisation, list(contacts))
        loaded.vips |= {record["id"]: record["vip"] for record in found}
        families = [cast(ContactRow, row_of(ContactRow, record)) for record in found]
        loaded.rows += families
        return families

    async def _load(self, wants: Wants) -> Loaded:
        assert self._connection is not None
        loaded, own = Loaded(), self.organisation
        if wants.keys:
            for record in await self._connection.fetch(self._sql["submissions"], own, list(wants.keys)):
                loaded.done[record["key"]] = Done(*record)
        interactions: list[InteractionRow] = []
        if wants.interactions:
            interactions += await self._rows(InteractionRow, "interactions_by_id", list(wants.interactions))
        if wants.calls:
            interactions += await self._rows(InteractionRow, "interactions_by_call", list(wants.calls))
        if wants.offers:
            offers = await self._rows(OfferRow, "offers_by_id", list(wants.offers))
            loaded.rows += offers
            interactions += await self._rows(
                InteractionRow, "interactions_by_id", list({row.interaction for row in offers})
            )
        interactions += await self._threads(loaded, wants)
        others: set[UUID] = set()  # contacts whose families are needed, and no more of them
        if interactions:
            loaded.rows += interactions
            others = await self._around(loaded, interactions)
        contacts = set(wants.contacts)
        contacts |= {row.contact for row in loaded.rows if isinstance(row, AddressRow)}
        await self._letters(loaded, wants)
        merged = [row for row in loaded.rows if isinstance(row, CaseMergeRow)]
        if sought := wants.cases | {row.case_id for row in merged}:
            cases = await self._rows(CaseRow, "cases_by_id", list(sought))
            loaded.rows += cases
            contacts |= {row.contact for row in cases}
        if wants.merges:
            merges = await self._rows(MergeRow, "merges_by_id", list(wants.merges))
            loaded.rows += merges
            contacts |= {row.contact for row in merges}
        if wants.addresses:
            kinds, values = zip(*wants.addresses, strict=True)
            for record in await self._connection.fetch(self._sql["address_owners"], own, kinds, values):
                owners = loaded.owners.setdefault((record["kind"], record["value"]), {})
                owners[record["contact"]] = record["address"]
                contacts.add(record["contact"])
        if contacts:
            families = await self._families(loaded, contacts)
            loaded.whole |= {row.id for row in families}
            members = [row.id for row in families]
            loaded.rows += await self._rows(CaseRow, "cases_of_contacts", members)
            loaded.rows += await self._rows(AddressRow, "addresses_of_contacts", members)
            loaded.rows += await self._rows(MergeRow, "merges_of_contacts", members)
            # A case of theirs may have been merged into somebody else's.
            others |= {row.contact for row in loaded.rows if isinstance(row, CaseRow)}
        if others := others - {row.id for row in loaded.rows if isinstance(row, ContactRow)}:
            await self._families(loaded, others)
        return loaded

    async def _threads(self, loaded: Loaded, wants: Wants) -> list[InteractionRow]:
        """The threads that are wanted; returns the interactions that live in them or were the last."""
        own, found = self.organisation, list[ThreadRow]()
        if wants.peers:
            found += await self._rows(ThreadRow, "threads_by_peer", *zip(*wants.peers, strict=True))
        if wants.threads:
            accounts, addresses = zip(*wants.threads, strict=True)
            loaded.rows += await self._rows(AddressRow, "addresses_by_id", addresses)
            await self._values(loaded, addresses)
            found += await self._rows(ThreadRow, "threads_by_address", accounts, addresses)
        if not found:
            return []
        assert self._connection is not None
        loaded.rows += found
        ids = [thread.id for thread in found]
        records = await self._connection.fetch(self._sql["interactions_of_threads"], own, ids)
        return [cast(InteractionRow, row_of(InteractionRow, record)) for record in records]

    async def _letters(self, loaded: Loaded, wants: Wants) -> None:
        """Messages, their files, help and merges of cases."""
        if wants.external:
            loaded.rows += await self._rows(
                MessageRow, "messages_by_external_id", *zip(*wants.external, strict=True)
            )
        if wants.namesakes:
            loaded.rows += await self._rows(MessageRow, "namesakes", *zip(*wants.namesakes, strict=True))
        if wants.messages:
            loaded.rows += await self._rows(MessageRow, "messages_by_id", list(wants.messages))
        if wants.attachments:
            loaded.rows += await self._rows(AttachmentRow, "attachments_by_id", list(wants.attachments))
        if wants.talks:
            talks = list(wants.talks)
            loaded.rows += await self._rows(MessageRow, "messages_of_interactions", talks)
            loaded.rows += await self._rows(AttachmentRow, "attachments_of_interactions", talks)
            loaded.rows += await self._rows(HelpRow, "helps_of_interactions", talks)
        if wants.helps:
            loaded.rows += await self._rows(HelpRow, "helps_by_id", list(wants.helps))
        if wants.case_merges:
            loaded.rows += await self._rows(CaseMergeRow, "case_merges_by_id", list(wants.case_merges))
