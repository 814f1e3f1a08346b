"""The inbox: how fast its list and its search answer over 100,000 cases and 1,000,000 messages.

Rows are copied in with a printed seed; then lists with each filter, searches for rare and frequent words, numbers and
names are asked in a mix, one after another, through the real store. The reference is one row by its key on the same
connections. The cost of keeping the inbox current is measured too: one more message each in a transaction of its own.
"""

from __future__ import annotations

import functools
import itertools
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from routing.aio.clock import IdMaker
from routing.aio.cluster import Cluster
from routing.aio.postgres import connect, migrate, organisation_id, pool, stores
from routing.store import InboxFilter, Stores
from tests.bench.figures import Figures, looped, machine, spread, tell

CASES, MESSAGES = 100_000, 1_000_000
TARGET_MS = 300.0
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SPAN = timedelta(days=180)
LIVE_SHARE = 0.02  # of the cases have somebody waiting or talking now
QUEUES = tuple(f"queue{n}" for n in range(12))
ADVISORS = tuple(f"a{n:03}" for n in range(100))
ACCOUNTS = (("facebook", "messenger", "psid"), ("mailbox", "email", "email"), ("web", "webchat", "webchat"))
TAGS = ("parcel", "billing", "damage", "praise", "rare")
FREQUENT = ("bonjour", "merci", "colis", "livraison", "suivi")
FIRST = ("Lea", "Hugo", "Emma", "Louis", "Alice", "Jules", "Chloe", "Adam", "Ines", "Paul")
TRIGGERED = ("case_file", "interaction", "message", "message_data")


class _Made:
    """The rows of a made-up past, table by table; ids are numbers, so that nothing has to be remembered."""

    def __init__(self, organisation: UUID, cases: int, messages: int, seed: int) -> None:
        self.own, self.cases, self.messages, self.seed = organisation, cases, messages, seed
        rng = random.Random(seed)
        # A few words are in every second message, most in one of some thousand: as in real letters.
        self.words = [f"mot{int(20_000 * rng.random() ** 2):05}" for _ in range(65_536)]
        self._told = [self._tell(case) for case in range(cases)]

    @staticmethod
    def id(kind: int, number: int) -> UUID:
        return UUID(int=(kind << 96) | (number + 1))

    def of(self, case: int) -> random.Random:
        return random.Random(self.seed * 1_000_003 + case)

    def told(self, case: int) -> tuple[datetime, str, str | None, str | None, int]:
        """(opened at, state of its interaction, queue, advisor, account) of a case."""
        return self._told[case]

    def _tell(self, case: int) -> tuple[datetime, str, str | None, str | None, int]:
        rng = self.of(case)
        opened = NOW - SPAN * rng.random()
        queue, advisor, account = rng.choice(QUEUES), rng.choice(ADVISORS), rng.randrange(len(ACCOUNTS))
        if rng.random() < LIVE_SHARE:
            state = rng.choice(("waiting", "waiting", "active"))
            return opened, state, queue, advisor if state == "active" else None, account
        return opened, "ended", queue, advisor, account

    def tables(self) -> Iterator[tuple[str, tuple[str, ...], Iterable[tuple[Any, ...]]]]:
        n = range(self.cases)
        yield (
            "contact",
            ("organisation_id", "id", "created_at", "changed_at", "provisional", "draft"),
            ((self.own, self.id(1, c), NOW - SPAN, NOW - SPAN, False, False) for c in n),
        )
        yield (
            "contact_data",
            ("organisation_id", "contact", "name", "sort_name", "vip"),
            (
                (self.own, self.id(1, c), f"{FIRST[c % 10]} Nom{c % 5000:04}",
                 f"{FIRST[c % 10]} nom{c % 5000:04}".casefold(), c % 50 == 0)
                for c in n
            ),
        )  # fmt: skip
        yield (
            "address",
            ("organisation_id", "id", "contact", "kind", "created_at"),
            ((self.own, self.id(2, c), self.id(1, c), self._account(c)[2], NOW - SPAN) for c in n),
        )
        yield (
            "address_data",
            ("organisation_id", "address", "contact", "kind", "value", "raw"),
            (
                (self.own, self.id(2, c), self.id(1, c), self._account(c)[2], *(2 * (self._address(c),)))
                for c in n
            ),
        )
        yield (
            "case_file",
            ("organisation_id", "id", "number", "contact", "state", "provisional", "opened_at", "changed_at",
             "closed_at", "interactions", "notes", "tags"),
            map(self._case, n),
        )  # fmt: skip
        yield (
            "case_data",
            ("organisation_id", "case_id", "subject"),
            ((self.own, self.id(3, c), f"Demande {c}") for c in n),
        )
        yield (
            "thread",
            ("organisation_id", "id", "account", "channel", "address", "opened_at", "messages", "beside"),
            (
                (self.own, self.id(4, c), *self._account(c)[:2], self.id(2, c), self.told(c)[0], 10, [])
                for c in n
            ),
        )
        yield (
            "interaction",
            ("organisation_id", "id", "case_id", "contact", "channel", "direction", "state", "held", "epoch",
             "revision", "dialled", "matches", "needs", "avoid", "queue", "since", "advisor", "opened_at",
             "enqueued_at", "accepted_at", "held_s", "extended", "ended_at", "outcome", "seat", "thread"),
            map(self._interaction, n),
        )  # fmt: skip
        yield (
            "message",
            ("organisation_id", "id", "seq", "thread", "interaction", "case_id", "contact", "account", "direction",
             "author", "by", "kind", "at", "status", "code", "attached", "automatic", "standby", "tagged", "edited",
             "unsent"),
            map(self._message, range(self.messages)),
        )  # fmt: skip
        yield (
            "message_data",
            ("organisation_id", "message", "text", "folded"),
            map(self._words, range(self.messages)),
        )

    def _account(self, case: int) -> tuple[str, str, str]:
        return ACCOUNTS[self.told(case)[4]]

    def _address(self, case: int) -> str:
        return f"person{case}@example.fr" if self._account(case)[2] == "email" else f"9{case:015}"

    def _case(self, case: int) -> tuple[Any, ...]:
        opened, state, *_ = self.told(case)
        rng = self.of(case + 7)
        word = "open" if state != "ended" else rng.choice(("waiting", "solved", "closed", "closed", "closed"))
        over = opened + timedelta(hours=5) if word in ("solved", "closed") else None
        tags = [] if rng.random() < 0.6 else ["rare"] if rng.random() < 0.002 else [rng.choice(TAGS[:4])]
        ids = (self.own, self.id(3, case), case + 1, self.id(1, case))
        return (*ids, word, False, opened, opened, over, 1, 0, tags)

    def _interaction(self, case: int) -> tuple[Any, ...]:
        opened, state, queue, advisor, account = self.told(case)
        channel = ACCOUNTS[account][1]
        ids = (self.own, self.id(5, case), self.id(3, case), self.id(1, case))
        ended = opened + timedelta(hours=4) if state == "ended" else None
        accepted = opened + timedelta(minutes=20) if advisor else None
        seat = "mail" if channel == "email" else "chat"
        return (
            *ids, channel, "in", state, False, 1, 5, ACCOUNTS[account][0], 1, [], [], queue, opened, advisor, opened,
            opened, accepted, 0.0, False, ended, "answered" if ended else None, seat, self.id(4, case),
        )  # fmt: skip

    def _message(self, number: int) -> tuple[Any, ...]:
        case, turn = number % self.cases, number // self.cases
        opened, _, _, advisor, account = self.told(case)
        at = opened + timedelta(minutes=23 * turn)
        ours = turn % 2 == 1
        author = "customer" if not ours else "advisor" if advisor else "bot"
        ids = (self.own, self.id(6, number), number + 1, self.id(4, case), self.id(5, case), self.id(3, case))
        return (
            *ids, self.id(1, case), ACCOUNTS[account][0], "out" if ours else "in", author,
            (advisor or "") if ours else "", "text", at, "sent" if ours else "received", "", 0, author == "bot", False,
            False, False, False,
        )  # fmt: skip

    def _words(self, number: int) -> tuple[Any, ...]:
        at = number * 8 * 5003 % len(self.words)
        text = " ".join((FREQUENT[number % 5], FREQUENT[number // 5 % 5], *self.words[at : at + 8]))
        return (self.own, self.id(6, number), text, text)


async def fill(
    connection: asyncpg.Connection, organisation: UUID, *, cases: int, messages: int, seed: int
) -> None:
    """A made-up past of that many cases, with the inbox made from it in one go."""
    made = _Made(organisation, cases, messages, seed)
    await connection.execute("SET session_replication_role = replica")  # neither triggers nor foreign keys
    for table, columns, rows in made.tables():
        await connection.copy_records_to_table(table, columns=list(columns), records=rows)
    await connection.execute("SET session_replication_role = origin")
    await connection.execute("ANALYZE")
    for refresh in ("refresh_inbox", "refresh_inbox_words"):
        for start in range(0, cases, 5000):
            ids = [made.id(3, case) for case in range(start, min(start + 5000, cases))]
            await connection.execute(f"SELECT {refresh}($1, $2)", organisation, ids)
    await connection.execute("VACUUM ANALYZE")


def asked(rng: random.Random, stores: Stores) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
    """One question of each kind, chosen by chance."""
    inbox = stores.inbox
    advisor, queue, channel = rng.choice(ADVISORS), rng.choice(QUEUES), rng.choice(ACCOUNTS)[1]
    rare = f"mot{rng.randrange(20_000):05}"
    case = rng.randrange(1, CASES)
    deep = (NOW - SPAN * rng.random(), UUID(int=rng.getrandbits(128)))
    filters = {
        "list all": InboxFilter(),
        "list mine": InboxFilter(view="mine", advisor=advisor),
        "list unassigned": InboxFilter(view="unassigned"),
        "list waiting": InboxFilter(view="waiting"),
        "list help": InboxFilter(view="help"),
        "list queue": InboxFilter(queues=(queue,)),
        "list channel": InboxFilter(channels=(channel,)),
        "list state": InboxFilter(states=(rng.choice(("open", "waiting", "solved", "closed")),)),
        "list tag": InboxFilter(tags=(rng.choice(TAGS),)),
        "list advisor": InboxFilter(advisor=advisor),
        "list older": InboxFilter(older_than_s=rng.choice((600.0, 86_400.0, 8_640_000.0))),
        "list several": InboxFilter(
            queues=(queue,), channels=(channel,), states=("closed",), tags=("damage",), advisor=advisor
        ),
        "list rare tag in a queue": InboxFilter(queues=(queue,), tags=("rare",)),
        "search a word of many": InboxFilter(text=rng.choice(FREQUENT)),
        "search two words of many": InboxFilter(text=" ".join(rng.sample(FREQUENT, 2))),
        "search a beginning": InboxFilter(text="mot0"),
        "search a rare word": InboxFilter(text=rare),
        "search two rare words": InboxFilter(text=f"{rare} mot000"),
        "search a word of nobody": InboxFilter(text="introuvable"),
        "search a frequent word in a state": InboxFilter(text="bonjour", states=("open",), queues=(queue,)),
        "search a case number": InboxFilter(text=str(case)),
        "search a name": InboxFilter(text=f"{rng.choice(FIRST)} Nom{rng.randrange(5000):04}"),
        "search a first name": InboxFilter(text=rng.choice(FIRST)),
        "search a first name in a view": InboxFilter(view="unassigned", text=rng.choice(FIRST)),
        "search an address": InboxFilter(text=f"person{case}@exam"),
    }
    questions: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
        (name, functools.partial(inbox.list, wanted)) for name, wanted in filters.items()
    ]
    questions.append(("list a later page", lambda: inbox.list(InboxFilter(states=("closed",)), after=deep)))
    questions.append(("counts", lambda: inbox.counts(advisor)))
    return questions


class _Still:
    def now(self) -> datetime:
        return NOW

    def unix(self) -> float:
        return NOW.timestamp()


@asynccontextmanager
async def _database() -> AsyncIterator[str]:
    home = Path(tempfile.mkdtemp(prefix="monofil-bench-", dir="/tmp"))
    home.chmod(0o755)
    try:
        async with Cluster(home) as cluster:
            await migrate(cluster.dsn)
            yield cluster.dsn
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _keeping(connection: asyncpg.Connection, organisation: UUID, seed: int, count: int) -> Figures:
    """A message more with and without the triggers that keep the inbox, each in its own transaction."""
    rng = random.Random(seed)
    found: Figures = {}
    made = _Made(organisation, CASES, MESSAGES, seed)
    tables = {table: (columns, rows) for table, columns, rows in made.tables() if table.startswith("message")}
    more = itertools.count(MESSAGES // CASES)
    warm, without, with_ = "warm", "message_without_inbox", "message_with_inbox"
    for name, kept in ((warm, "DISABLE"), (without, "DISABLE"), (with_, "ENABLE")):
        for table in TRIGGERED:
            await connection.execute(f"ALTER TABLE {table} {kept} TRIGGER USER")
        took = []
        for _ in range(count):
            number = rng.randrange(CASES) + CASES * next(more)
            row, words = list(made._message(number)), made._words(number)
            row[2] = number + 1
            began = time.perf_counter()
            async with connection.transaction():
                await connection.copy_records_to_table(
                    "message", columns=list(tables["message"][0]), records=[row]
                )
                await connection.copy_records_to_table(
                    "message_data", columns=list(tables["message_data"][0]), records=[words]
                )
            took.append(time.perf_counter() - began)
        found[name] = spread(took)
    del found[warm]
    return found


async def measure(rounds: int, seed: int) -> Figures:
    began = machine()
    async with _database() as dsn:
        connection = await connect(dsn)
        organisation = await organisation_id(connection, "bench", IdMaker(), NOW)
        at = time.perf_counter()
        await fill(connection, organisation, cases=CASES, messages=MESSAGES, seed=seed)
        filled_s = time.perf_counter() - at
        print(f"filled in {filled_s:.0f} s (seed {seed})", flush=True)
        rng = random.Random(seed)
        took: dict[str, list[float]] = {}
        bare: list[float] = []
        async with pool(dsn, size=2) as made:
            there = stores(made, organisation, _Still(), {})
            for turn in range(rounds + 1):
                questions = asked(rng, there)
                rng.shuffle(questions)
                for name, ask in questions:
                    start = time.perf_counter()
                    await ask()
                    middle = time.perf_counter()
                    await made.fetchval(
                        "SELECT number FROM case_file WHERE organisation_id = $1 AND id = $2",
                        organisation, _Made.id(3, rng.randrange(CASES)),
                    )  # fmt: skip
                    if turn:  # the first round warms the caches
                        took.setdefault(name, []).append(middle - start)
                        bare.append(time.perf_counter() - middle)
        kept = await _keeping(connection, organisation, seed + 1, 100)
        await connection.close()
    reference = spread(bare)
    everything = spread([each for times in took.values() for each in times])
    print(f"{'':36}{'p50 ms':>9}{'p99 ms':>9}{'times one row':>15}")
    for name, times in [*sorted(took.items()), ("one row by its key", bare)]:
        figures = spread(times)
        ratio = figures["p50_ms"] / reference["p50_ms"]
        print(f"{name:36}{figures['p50_ms']:9.2f}{figures['p99_ms']:9.2f}{ratio:15.1f}")
    print(f"all: p99 {everything['p99_ms']} ms, wanted below {TARGET_MS:g} ms")
    print(f"keeping it: {kept['message_without_inbox']['p50_ms']} ms a message without, "
          f"{kept['message_with_inbox']['p50_ms']} ms with")  # fmt: skip
    on = f"{CASES} cases, {MESSAGES} messages, fsync, through the store"
    figures = {
        "seed": seed,
        "filled_s": round(filled_s, 1),
        "all": everything,
        "one_row": reference,
        "ratio_p50": round(everything["p50_ms"] / reference["p50_ms"], 1),
        "ratio_p99": round(everything["p99_ms"] / reference["p99_ms"], 1),
        "by_question": {name: spread(times) for name, times in sorted(took.items())},
        **kept,
    }
    return tell("inbox", on, figures, began)


def run(quick: bool = False) -> Figures:
    """Fill and ask; prints the table and the JSON line and returns it."""
    return looped(measure(rounds=10 if quick else 40, seed=random.SystemRandom().randrange(2**31)))
