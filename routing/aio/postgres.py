"""The stores on PostgreSQL: connections, migrations, and every Protocol of `routing.store`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import datetime, timedelta
from importlib.resources import files
from types import TracebackType
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from pydantic import TypeAdapter

from routing.aio.crash import crash_point
from routing.aio.together import Together
from routing.figures import CONFIRMED_AFTER, Line, Rows
from routing.figures import EVENTS as FIGURE_EVENTS
from routing.identity import normalise, sort_name
from routing.models import Clock, Event, T
from routing.site import Site
from routing.store import (
    AccountState,
    AddressView,
    AttachmentView,
    CaseMergeView,
    CaseView,
    Changed,
    ContactView,
    HelpView,
    InboxFilter,
    InboxRow,
    InteractionView,
    Known,
    MergeView,
    MessageView,
    NodeCount,
    Person,
    PhoneBinding,
    PhoneSecret,
    PopRows,
    Proposal,
    RecordingView,
    SiteVersion,
    Step,
    Stores,
    ThreadView,
    TreeVersion,
    Unavailable,
    Walk,
    WebSession,
)

log = structlog.get_logger(__name__)

MIGRATION_LOCK = 0x6D6F6E6F66696C  # "monofil"
OLDEST_SERVER = 15


class WrongSchema(Exception):
    """The database was migrated by another program or a newer version; the message is one sentence."""


def named_sql(text: str) -> dict[str, str]:
    """The statements of a file, by the names on their `-- name: …` lines."""
    parts = re.split(r"^-- name: *(\w+) *$", text, flags=re.MULTILINE)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def load_sql(file: str) -> dict[str, str]:
    return named_sql(files("routing.sql").joinpath(file).read_text("utf-8"))


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, text) of every migration, in order."""
    found = []
    for entry in files("routing.sql").joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name):
            found.append((int(match[1]), match[2], entry.read_text("utf-8")))
    return sorted(found)


async def prepare(connection: asyncpg.Connection) -> None:
    """Every connection speaks JSON as Python values (binary, so that COPY takes it too)."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),
        decoder=lambda data: json.loads(data[1:]),
    )
    await connection.set_type_codec(
        "json",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),
        decoder=json.loads,
    )


def _array(oid: int, element: int, name: str) -> dict[str, Any]:
    """As asyncpg reads it from the catalogue."""
    nothing = dict.fromkeys(("basetype", "range_subtype", "attrtypoids", "attrnames"))
    own = {"oid": oid, "ns": "pg_catalog", "name": f"_{name}", "kind": b"b", "elemtype": element}
    return nothing | own | {"elemdelim": b","}


ARRAYS = {
    array["oid"]: array
    for array in (
        _array(1000, 16, "bool"),
        _array(1005, 21, "int2"),
        _array(1007, 23, "int4"),
        _array(1016, 20, "int8"),
        _array(1022, 701, "float8"),
        _array(1185, 1184, "timestamptz"),
        _array(2951, 2950, "uuid"),
        _array(3807, 3802, "jsonb"),
    )
}
"""PostgreSQL's own array types by their oids, which are the same in every server (pg_type.dat)."""


class _Read:
    """Stands for the statement that was not needed to learn of ARRAYS."""

    name = "none"


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """Knows ARRAYS: to be told of them costs the server 12 ms each time, in every new connection."""

    async def _introspect_types(self, typeoids: Any, timeout: Any) -> Any:
        if ARRAYS.keys() >= set(typeoids):
            return [ARRAYS[oid] for oid in typeoids], _Read
        return await super()._introspect_types(typeoids, timeout)


async def connect(dsn: str, **options: Any) -> asyncpg.Connection:
    connection = await asyncpg.connect(dsn, connection_class=_Connection, **options)
    await prepare(connection)
    return connection


class _Pooled(_Connection):
    """A connection of a pool; no session state is ever set on one, so giving it back costs no round trip."""

    def get_reset_query(self) -> str:
        return ""


@asynccontextmanager
async def pool(dsn: str, *, size: int = 8) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(
        dsn, min_size=1, max_size=size, init=prepare, connection_class=_Pooled
    ) as made:
        yield made


async def schema_status(connection: asyncpg.Connection) -> list[tuple[int, str, bool]]:
    """(number, name, applied) of every migration we know."""
    known = set()
    if await connection.fetchval("SELECT to_regclass('schema_version')"):
        known = {row["version"] for row in await connection.fetch("SELECT version FROM schema_version")}
    return [(number, name, number in known) for number, name, _ in migrations()]


async def migrate(dsn: str) -> list[int]:
    """Bring the schema up to date, one transaction a file, one migrator at a time. Returns what was applied."""
    connection = await asyncpg.connect(dsn)
    try:
        if connection.get_server_version().major < OLDEST_SERVER:
            raise WrongSchema(
                f"PostgreSQL {connection.get_server_version().major} is too old: "
                f"use {OLDEST_SERVER} or newer (MONOFIL_DATABASE_URL)."
            )
        await connection.execute("SELECT pg_advisory_lock($1::bigint)", MIGRATION_LOCK)
        try:
            return await _migrate(connection)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1::bigint)", MIGRATION_LOCK)
    finally:
        await connection.close()


async def _migrate(connection: asyncpg.Connection) -> list[int]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version"
        " (version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL)"
    )
    there = {
        row["version"]: row
        for row in await connection.fetch("SELECT version, name, checksum FROM schema_version")
    }
    ours = {number: (name, text) for number, name, text in migrations()}
    if newer := sorted(set(there) - set(ours)):
        raise WrongSchema(
            f"The database has migration {newer[-1]}, which this version does not know: run the newer version."
        )
    applied = []
    for number, (name, text) in ours.items():
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if number in there:
            if there[number]["checksum"] != checksum:
                raise WrongSchema(
                    f"Migration {number:04} ({name}) differs from the one this database was made with: "
                    "run that version."
                )
            continue
        async with connection.transaction():
            await connection.execute(text)
            await connection.execute("INSERT INTO schema_version VALUES ($1, $2, $3)", number, name, checksum)
        applied.append(number)
    return applied


def event_of(organisation: UUID, record: Any) -> Event:
    return Event(
        seq=record["seq"],
        id=record["id"],
        at=record["at"],
        organisation=organisation,
        type=T(record["type"]),
        interaction=record["interaction"],
        case=record["case_id"],
        contact=record["contact"],
        advisor=record["advisor"],
        data=record["data"],
    )


async def organisation_id(connection: Any, short: str, new_id: Callable[[], UUID], now: Any) -> UUID:
    """The id of an organisation by its short name, made when it is new."""
    await connection.execute(
        "INSERT INTO organisation (id, short, created_at) VALUES ($1, $2, $3) ON CONFLICT (short) DO NOTHING",
        new_id(),
        short,
        now,
    )
    found: UUID = await connection.fetchval("SELECT id FROM organisation WHERE short = $1", short)
    return found


SITE_CHANNEL = "monofil_site"
SITE_POLL_S = 2.0  # a NOTIFY may be lost: it is only a hint
_SITE: TypeAdapter[Site] = TypeAdapter(Site)

AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,  # a line that went in the middle of a command
    asyncpg.ObjectNotInPrerequisiteStateError,  # a database that accepts no connections for now
)


def site_document(site: Site) -> Any:
    """A site as JSON values, the same for equal sites."""
    return _SITE.dump_python(site, mode="json")


def site_from(document: Any) -> Site:
    return _SITE.validate_python(document)


class _Store:
    """A store of one organisation on a pool."""

    def __init__(self, pool: asyncpg.Pool, organisation: UUID, clock: Clock) -> None:
        self._pool = pool
        self._own = organisation
        self._clock = clock
        self._sql = _stores_sql()

    @asynccontextmanager
    async def _db(self) -> AsyncIterator[asyncpg.Connection]:
        try:
            async with self._pool.acquire(timeout=10) as connection:
                yield connection
        except AWAY as error:
            if isinstance(error, ValueError):  # asyncpg's DataError: our mistake
                raise
            raise Unavailable(str(error) or type(error).__name__) from error

    async def _all(self, name: str, *arguments: Any) -> list[Any]:
        async with self._db() as connection:
            return list(await connection.fetch(self._sql[name], self._own, *arguments))

    async def _one(self, name: str, *arguments: Any) -> Any | None:
        found = await self._all(name, *arguments)
        return found[0] if found else None

    async def _do(self, name: str, *arguments: Any) -> None:
        async with self._db() as connection:
            await connection.execute(self._sql[name], self._own, *arguments)


@functools.cache
def _stores_sql() -> dict[str, str]:
    statements = load_sql("stores.sql")
    for name in ("inbox_newest", "inbox_among"):
        chosen = statements[name].replace(":inbox_filters", statements["inbox_filters"])
        statements[name] = statements["inbox_told"].replace(":chosen", chosen)
    for name in ("attachment", "attachments_of"):
        statements[name] = statements[name].replace(":attachments", statements["attachments"])
    return statements


class PhoneAccounts(_Store):
    async def secret(self, account: str) -> PhoneSecret | None:
        row = await self._one("phone_secret", account)
        return PhoneSecret(*row) if row else None

    async def secrets(self) -> Mapping[str, PhoneSecret]:
        return {row["account"]: PhoneSecret(*row) for row in await self._all("phone_secrets")}

    async def set_secret(self, secret: PhoneSecret) -> None:
        now = self._clock.now()
        values = (secret.account, secret.realm, secret.md5, secret.sha256, now)
        async with self._db() as connection, connection.transaction():
            await connection.execute(self._sql["set_phone_secret"], self._own, *values)
            await connection.execute(self._sql["forget_bindings"], self._own, [secret.account])
            await connection.execute(self._sql["tell_phone_secret"], self._own, SITE_CHANNEL)

    async def revision(self) -> tuple[int, datetime | None]:
        row = await self._one("phone_secrets_revision")
        return (row[0], row[1]) if row else (0, None)


class PhoneBindings(_Store):
    async def all(self) -> Sequence[PhoneBinding]:
        return [PhoneBinding(*row) for row in await self._all("bindings")]

    async def replace(self, accounts: Collection[str], bindings: Sequence[PhoneBinding]) -> None:
        columns = [[getattr(b, column.name) for b in bindings] for column in fields(PhoneBinding)]
        await self._do("replace_bindings", list(accounts), *columns)


class Persons(_Store):
    async def password_hash(self, login: str) -> str | None:
        row = await self._one("password_hash", login)
        return row["password_hash"] if row else None

    async def set_password_hash(self, login: str, hashed: str) -> None:
        async with self._db() as connection, connection.transaction():
            await connection.execute(
                self._sql["set_password_hash"], self._own, login, hashed, self._clock.now()
            )
            await connection.execute(self._sql["end_sessions_of"], self._own, login)

    async def logins(self) -> Sequence[str]:
        return [row["login"] for row in await self._all("logins")]

    async def add_session(self, session: WebSession) -> None:
        async with self._db() as connection, connection.transaction():
            await connection.execute(self._sql["end_expired_sessions"], self._own, self._clock.now())
            values = (session.token_hash, session.login, session.csrf, session.created_at, session.expires_at)
            await connection.execute(self._sql["add_session"], self._own, *values)

    async def session(self, token_hash: bytes) -> WebSession | None:
        row = await self._one("session", token_hash, self._clock.now())
        return WebSession(*row) if row else None

    async def end_session(self, token_hash: bytes) -> None:
        await self._do("end_session", token_hash)


def _site_version(row: Any) -> SiteVersion:
    return SiteVersion(row["version"], row["at"], row["by"], site_from(row["document"]))


class SiteVersions(_Store):
    async def current(self) -> SiteVersion | None:
        row = await self._one("current_site")
        return _site_version(row) if row else None

    async def version(self, number: int) -> SiteVersion | None:
        row = await self._one("site_version", number)
        return _site_version(row) if row else None

    async def number(self) -> int:
        """Of the current version; 0 when there is none."""
        row = await self._one("site_number")
        return int(row[0]) if row else 0

    async def apply(self, site: Site, *, base: int | None, by: str, note: str = "") -> SiteVersion:
        async with self._db() as connection, connection.transaction():
            return await self._apply(connection, site, base, by, note)

    async def _apply(
        self, connection: asyncpg.Connection, site: Site, base: int | None, by: str, note: str
    ) -> SiteVersion:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"site {self._own}")
        row = await connection.fetchrow(self._sql["current_site"], self._own)
        there = row["version"] if row else 0
        if base is not None and base != there:
            raise Changed(there)
        document = site_document(site)
        if row and row["document"] == document:
            return _site_version(row)
        now = self._clock.now()
        await connection.execute(self._sql["add_site"], self._own, there + 1, now, by, document)
        published = {
            tree["id"]: tree for tree in await connection.fetch(self._sql["current_trees"], self._own)
        }
        for tree, words in document["trees"].items():
            former = published.get(tree)
            if former is None or former["document"] != words:
                number = former["version"] + 1 if former else 1
                await connection.execute(self._sql["add_tree"], self._own, tree, number, now, by, note, words)
        crash_point("site.written")
        await connection.execute("SELECT pg_notify($1, $2)", SITE_CHANNEL, f"{self._own} {there + 1}")
        return SiteVersion(there + 1, now, by, site)


def _tree_version(row: Any) -> TreeVersion:
    return TreeVersion(row["id"], row["version"], row["at"], row["by"], row["note"], row["document"])


class TreeVersions(_Store):
    async def current(self, tree: str) -> TreeVersion | None:
        row = await self._one("current_tree", tree)
        return _tree_version(row) if row else None

    async def all_current(self) -> Mapping[str, TreeVersion]:
        return {row["id"]: _tree_version(row) for row in await self._all("current_trees")}

    async def version(self, tree: str, number: int) -> TreeVersion | None:
        row = await self._one("tree_version", tree, number)
        return _tree_version(row) if row else None

    async def node_counts(
        self, since: datetime, until: datetime, bounds_s: Sequence[float]
    ) -> Sequence[NodeCount]:
        return [NodeCount(*row) for row in await self._all("node_counts", since, until, list(bounds_s))]

    async def versions(self, tree: str) -> Sequence[TreeVersion]:
        return [_tree_version(row) for row in await self._all("tree_versions", tree)]

    async def publish(self, tree: str, document: Any, *, by: str, note: str = "") -> TreeVersion:
        """Publishes through the site, which stays the one truth. LookupError when there is no site yet."""
        sites = SiteVersions(self._pool, self._own, self._clock)
        while True:
            now = await sites.current()
            if now is None:
                raise LookupError("there is no site to publish a tree in: apply one first")
            changed = replace(now.site, trees={**now.site.trees, tree: document})
            with contextlib.suppress(Changed):
                await sites.apply(changed, base=now.version, by=by, note=note)
                break
        found = await self.current(tree)
        assert found is not None
        return found


def _case_view(row: Any) -> CaseView:
    return CaseView(
        id=row["id"],
        number=row["number"],
        subject=row["subject"],
        state=row["state"],
        provisional=row["provisional"],
        contact=row["person"],
        contact_name=row["contact_name"],
        opened_at=row["opened_at"],
        changed_at=row["changed_at"],
        closed_at=row["closed_at"],
        follows=row["follows"],
        channels=tuple(row["channels"]),
        notes=row["notes"],
        tags=tuple(row["tags"]),
        merged_into=row["merged_into"],
    )


_SAME = tuple(
    each.name
    for each in fields(InteractionView)
    if each.name not in ("case", "contact", "recordings", "account")
)


def _interaction_view(row: Any) -> InteractionView:
    same = {name: row[name] for name in _SAME}
    return InteractionView(
        case=row["case_id"],
        contact=row["person"],
        recordings=tuple(row["recordings"]),
        account=row["dialled"] if row["thread"] is not None else None,
        **same,
    )


class CaseFiles(_Store):
    def __init__(self, pool: asyncpg.Pool, organisation: UUID, clock: Clock) -> None:
        super().__init__(pool, organisation, clock)
        self._whole = Together(self._wholes)

    async def get(self, case: UUID) -> CaseView | None:
        return await self._whole(case)

    async def _wholes(self, cases: Sequence[UUID]) -> dict[UUID, CaseView]:
        """With what the cases that are merged into them bring."""
        rows = await self._all("whole_cases", list(cases))
        merges: dict[UUID, list[CaseMergeView]] = {}
        if enclosing := [row["id"] for row in rows if row["members"] > 1]:
            for into, *merge in await self._all("merges_into_cases", enclosing):
                merges.setdefault(into, []).append(CaseMergeView(*merge))
        return {
            row["id"]: replace(
                _case_view(row),
                channels=tuple(row["all_channels"]),
                merges=tuple(merges.get(row["id"], ())),
            )
            for row in rows
        }

    async def list(
        self,
        *,
        state: str | None = None,
        text: str = "",
        contact: UUID | None = None,
        limit: int = 50,
        after: tuple[datetime, UUID] | None = None,
        region: str = "FR",
    ) -> Sequence[CaseView]:
        """`region`: whose rules a number typed without a country follows."""
        at, last = after or (None, None)
        words = text.strip()
        number = normalise("phone", words, region)
        rows = await self._all("cases", state, contact, words, sort_name(words), number, at, last, limit)
        return [_case_view(row) for row in rows]

    async def interactions(self, case: UUID) -> Sequence[InteractionView]:
        return [_interaction_view(row) for row in await self._all("interactions_of_case", case)]


class ContactBook(_Store):
    def __init__(self, pool: asyncpg.Pool, organisation: UUID, clock: Clock) -> None:
        super().__init__(pool, organisation, clock)
        self._language = Together(self._languages)

    async def _persons(self, contacts: Sequence[UUID]) -> dict[UUID, Any]:
        return {row["id"]: row for row in await self._all("persons", list(contacts))}

    async def get(self, contact: UUID) -> ContactView | None:
        people = await self._persons([contact])
        return await self._view(next(iter(people.values()))) if people else None

    async def _view(self, person: Any) -> ContactView:
        members = [row["id"] for row in await self._all("family", person["id"])]
        addresses = await self._all("addresses", members)
        merges = await self._all("merges", members)
        return ContactView(
            id=person["id"],
            name=person["name"],
            company=person["company"],
            vip=person["vip"],
            language=person["language"],
            provisional=person["provisional"],
            draft=person["draft"],
            members=tuple(sorted(members)),
            addresses=tuple(AddressView(*row) for row in addresses),
            merged_from=tuple(MergeView(*row) for row in merges),
        )

    async def language_in(self, interaction: UUID) -> str | None:
        return await self._language(interaction)

    async def _languages(self, interactions: Sequence[UUID]) -> dict[UUID, str | None]:
        return {row["id"]: row["language"] for row in await self._all("languages_in", list(interactions))}

    async def find(self, text: str, *, limit: int = 20, region: str = "FR") -> Sequence[ContactView]:
        words = text.strip()
        found = await self._all("find_contacts", sort_name(words), normalise("phone", words, region), limit)
        people = await self._persons([row["contact"] for row in found])
        return [await self._view(person) for person in people.values()]

    async def by_address(self, kind: str, value: str, *, region: str = "FR") -> Sequence[ContactView]:
        found = await self._all("contacts_by_address", kind, normalise(kind, value, region))
        people = await self._persons([row["contact"] for row in found])
        return [await self._view(person) for person in people.values()]

    async def address(self, address: UUID) -> AddressView | None:
        row = await self._one("address", address)
        return AddressView(*row) if row else None

    async def interactions(self, contact: UUID, *, limit: int = 5) -> Sequence[InteractionView]:
        return [
            _interaction_view(row)
            for row in await self._all("interactions_of_contacts", [contact], None, limit)
        ]


def _step(row: Any) -> Step:
    return Step(row["tree"], row["version"], row["node"], row["exit"], row["seconds"], row["keys"], row["at"])


class CaseTimeline(_Store):
    def __init__(self, pool: asyncpg.Pool, organisation: UUID, clock: Clock) -> None:
        super().__init__(pool, organisation, clock)
        self._interaction, self._path = Together(self._interactions), Together(self._paths)
        self._case = Together(self._cases)

    async def events(self, case: UUID) -> Sequence[Event]:
        return [event_of(self._own, row) for row in await self._all("case_events", case)]

    async def events_in(self, interaction: UUID, seq: int) -> Sequence[Event]:
        return [event_of(self._own, row) for row in await self._all("interaction_events", interaction, seq)]

    async def notes(self, case: UUID) -> Mapping[UUID, str]:
        return {row["id"]: row["text"] for row in await self._all("notes_of_case", case)}

    async def paths(self, case: UUID) -> Mapping[UUID, Sequence[Step]]:
        ids = [row["id"] for row in await self._all("interaction_ids_of_case", case)]
        return await self._paths(ids)

    async def _paths(self, interactions: Sequence[UUID]) -> dict[UUID, list[Step]]:
        paths: dict[UUID, list[Step]] = {}
        for row in await self._all("path", list(interactions)):
            paths.setdefault(row["interaction"], []).append(_step(row))
        return paths

    async def _cases(self, cases: Sequence[UUID]) -> dict[UUID, CaseView]:
        return {row["id"]: _case_view(row) for row in await self._all("cases_by_id", list(cases))}

    async def _interactions(self, interactions: Sequence[UUID]) -> dict[UUID, Any]:
        return {row["id"]: row for row in await self._all("interactions", list(interactions))}

    async def interaction(self, interaction: UUID) -> InteractionView | None:
        row = await self._interaction(interaction)
        return _interaction_view(row) if row else None

    async def interactions(self, ids: Sequence[UUID]) -> Sequence[InteractionView]:
        return [_interaction_view(row) for row in await self._all("interactions", list(ids))] if ids else []

    async def why(self, interaction: UUID) -> Sequence[Mapping[str, Any]]:
        return [
            {
                "offer": row["offer"],
                "advisor": row["advisor"],
                "at": row["made_at"],
                "how": row["how"],
                "reason": row["reason"],
                "epoch": row["epoch"],
                "ended_at": row["ended_at"],
                "why": row["why"],
            }
            for row in await self._all("why", interaction)
        ]

    async def pop(self, interaction: UUID, *, last: int = 5) -> PopRows | None:
        row = await self._interaction(interaction)
        if row is None:
            return None
        it = _interaction_view(row)
        persons = await self._matched(row)
        who = [person.contact for person in persons] or [it.contact]
        open_cases = [_case_view(found) for found in await self._all("open_cases_of", who)]
        before = [
            _interaction_view(found)
            for found in await self._all("interactions_of_contacts", who, it.id, last)
        ]
        earlier = [each for each in before if each.opened_at <= it.opened_at]
        return PopRows(
            interaction=it,
            case=await self._case(it.case),
            persons=tuple(persons),
            path=tuple(await self._path(it.id) or ()),
            facts=row["facts"],
            open_cases=tuple(open_cases),
            last_interactions=tuple(before),
            last_advisor=next((each.advisor for each in before if each.advisor and each.accepted_at), None),
            kind="repeat" if earlier else "first",
            caller_name=row["caller_name"],
        )

    async def _matched(self, row: Any) -> list[Person]:
        """Everybody whom the address may mean, or the one somebody has chosen."""
        chosen = await self._one("chosen", row["id"])
        named = row["direction"] == "out" or (chosen is not None and chosen[0])
        if named:
            contacts = [row["contact"]]
        elif row["address"] is None:
            contacts = []
        else:
            found = await self._all("contacts_by_address", row["address_kind"], row["address_value"])
            contacts = [each["contact"] for each in found]
        people = await self._all("persons", contacts)
        if named:
            why, sure = ("chosen" if chosen is not None and chosen[0] else "case"), "certain"
        elif len(people) > 1:
            why, sure = "number", "possible"
        else:
            why, sure = "number", "certain" if row["attestation"] == "A" else "likely"
        return [Person(each["id"], each["name"], each["company"], each["vip"], why, sure) for each in people]


class RecordingFiles(_Store):
    async def get(self, recording: UUID) -> RecordingView | None:
        row = await self._one("recording", recording)
        return RecordingView(*row) if row else None

    async def of_interaction(self, interaction: UUID) -> Sequence[RecordingView]:
        return [RecordingView(*row) for row in await self._all("recordings_of", interaction)]


class EventLog(_Store):
    async def after(self, seq: int, *, limit: int = 1000) -> Sequence[Event]:
        return [event_of(self._own, row) for row in await self._all("events_after", seq, limit)]

    async def last_seq(self) -> int:
        row = await self._one("last_seq")
        return int(row[0]) if row else 0


def _attachments(rows: Iterable[Any]) -> dict[UUID, list[AttachmentView]]:
    """Those of `attachments_of`, by message."""
    found: dict[UUID, list[AttachmentView]] = {}
    for row in rows:
        found.setdefault(row["message"], []).append(AttachmentView(*row))
    return found


def _message_view(row: Any, attachments: tuple[AttachmentView, ...]) -> MessageView:
    same = {name: row[name] for name in _MESSAGE_SAME}
    return MessageView(
        case=row["case_id"],
        buttons=tuple((title, payload) for title, payload in row["buttons"]),
        attachments=attachments,
        **same,
    )


_MESSAGE_SAME = tuple(
    each.name for each in fields(MessageView) if each.name not in ("case", "buttons", "attachments")
)


class WrittenMessages(_Store):
    def __init__(self, pool: asyncpg.Pool, organisation: UUID, clock: Clock) -> None:
        super().__init__(pool, organisation, clock)
        self._message, self._thread = Together(self._messages), Together(self._threads)
        self._known = Together(self._knowns)

    async def _views(self, rows: Sequence[Any]) -> list[MessageView]:
        """With their attachments, in the order of the rows."""
        found: dict[UUID, list[AttachmentView]] = {}
        if enclosing := [row["id"] for row in rows if row["attached"]]:
            found = _attachments(await self._all("attachments_of", enclosing))
        return [_message_view(row, tuple(found.get(row["id"], ()))) for row in rows]

    async def get(self, message: UUID) -> MessageView | None:
        return await self._message(message)

    async def _messages(self, messages: Sequence[UUID]) -> dict[UUID, MessageView]:
        return {view.id: view for view in await self._views(await self._all("messages", list(messages)))}

    async def of_case(self, case: UUID, *, last: int = 500) -> Sequence[MessageView]:
        return await self._views(await self._all("messages_of_case", case, last))

    async def of_interaction(self, interaction: UUID) -> Sequence[MessageView]:
        return await self._views(await self._all("messages_of_interaction", interaction))

    async def after(self, interaction: UUID, seq: int) -> Sequence[MessageView]:
        return await self._views(await self._all("messages_after", interaction, seq))

    async def of_thread(self, thread: UUID, seq: int, *, limit: int = 200) -> Sequence[MessageView]:
        return await self._views(await self._all("messages_of_thread", thread, seq, limit))

    async def known(self, account: str, external_ids: Sequence[str]) -> Mapping[str, Known]:
        if len(external_ids) == 1:  # what most requests ask for
            one = await self._known((account, external_ids[0]))
            return {one.external_id: one} if one is not None else {}
        found = await self._knowns([(account, each) for each in external_ids]) if external_ids else {}
        return {name: known for (_, name), known in found.items()}

    async def _knowns(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Known]:
        rows = await self._all("known_messages", *map(list, zip(*names, strict=True)))
        rows = sorted(rows, key=lambda row: row["part"])  # the last part bears the id of the whole, too
        return {(row["account"], row["external_id"]): Known(*tuple(row)[:-1]) for row in rows}

    async def ours_until(
        self, account: str, address_kind: str, address: str, until: datetime
    ) -> Sequence[Known]:
        value = normalise(address_kind, address, "FR")
        return [Known(*row) for row in await self._all("ours_until", account, address_kind, value, until)]

    async def thread(self, thread: UUID) -> ThreadView | None:
        return await self._thread(thread)

    async def _threads(self, threads: Sequence[UUID]) -> dict[UUID, ThreadView]:
        return {row["id"]: _thread(row) for row in await self._all("threads", list(threads))}

    async def thread_with(self, account: str, address_kind: str, address: str) -> ThreadView | None:
        row = await self._one("thread_with", account, address_kind, address)
        return _thread(row) if row else None

    async def threads_of_case(self, case: UUID) -> Sequence[ThreadView]:
        return [_thread(row) for row in await self._all("threads_of_case", case)]

    async def case_of_number(self, number: int) -> UUID | None:
        row = await self._one("case_of_number", number)
        return row[0] if row else None

    async def case_by_subject(self, account: str, address: str, subject: str, since: datetime) -> UUID | None:
        bare = _ANSWER_MARKS.sub("", subject.lower()).strip()
        if not bare:
            return None
        rows = await self._all("cases_by_subject", account, _spellings(address), bare, since)
        return rows[0][0] if len(rows) == 1 else None

    async def attachment(self, attachment: UUID) -> AttachmentView | None:
        row = await self._one("attachment", attachment)
        return AttachmentView(*row) if row else None

    async def automatic_since(self, account: str, address: str, since: datetime) -> int:
        row = await self._one("automatic_since", account, _spellings(address), since)
        return int(row[0]) if row else 0


def _thread(row: Any) -> ThreadView:
    values = dict(row)
    values["beside"] = tuple(map(UUID, values["beside"]))
    return ThreadView(*values.values())


def _spellings(address: str) -> list[str]:
    """As given, and as an email address is kept."""
    return sorted({address, normalise("email", address, "FR")})


_ANSWER_MARKS = re.compile(r"^(\s*(re|ré|réf|tr|fw|fwd|aw|wg)\s*(\[\d+\])?\s*:)+")


class WrittenWalks(_Store):
    async def get(self, interaction: UUID) -> Walk | None:
        row = await self._one("walk", interaction)
        return Walk(*row) if row else None

    async def live(self) -> Sequence[UUID]:
        return [row["id"] for row in await self._all("live_walks")]


SECRET_PREFIX = "MONOFIL_SECRET_"  # noqa: S105  of the environment variables, not a secret


class SecretsOfChannels(_Store):
    """Those of the environment hide those of the database that have the same name."""

    def __init__(
        self, pool: asyncpg.Pool, organisation: UUID, clock: Clock, environment: Mapping[str, str]
    ) -> None:
        super().__init__(pool, organisation, clock)
        self._environment = environment

    def _given(self, account: str) -> dict[str, str]:
        start = f"{SECRET_PREFIX}{re.sub('[-.]', '_', account).upper()}_"
        return {
            name.removeprefix(start).lower(): value
            for name, value in self._environment.items()
            if name.startswith(start) and name != start and value
        }

    async def of(self, account: str) -> Mapping[str, str]:
        kept = {row["name"]: row["value"] for row in await self._all("channel_secrets", account)}
        return {**kept, **self._given(account)}

    async def set(self, account: str, name: str, value: str) -> None:
        await self._do("set_channel_secret", account, name, value, self._clock.now())

    async def names(self) -> Mapping[str, frozenset[str]]:
        """Of the site's accounts and of all that have a secret in the database."""
        found = {
            row["account"]: set(self._given(row["account"])) for row in await self._all("channel_accounts")
        }
        for row in await self._all("channel_secret_names"):
            found.setdefault(row["account"], set(self._given(row["account"]))).add(row["name"])
        return {account: frozenset(names) for account, names in found.items()}


class CaseInbox(_Store):
    async def list(
        self,
        wanted: InboxFilter,
        *,
        limit: int = 50,
        after: tuple[datetime, UUID] | None = None,
        region: str = "FR",
    ) -> Sequence[InboxRow]:
        """`region`: whose rules a number typed without a country follows."""
        at, last = after or (None, None)
        typed = wanted.text.strip()
        head, _, tail = sort_name(typed).rpartition(" ")
        address = (
            normalise("phone", typed, region) if re.fullmatch(r"[+\d\s().-]{5,}", typed) else typed.casefold()
        )
        unanswered = (
            None
            if wanted.older_than_s is None
            else self._clock.now() - timedelta(seconds=wanted.older_than_s)
        )
        several = (list(wanted.channels), list(wanted.queues), list(wanted.states), list(wanted.tags))
        search = (bool(typed), head, tail, typed.lstrip("#"), address)
        asked = (wanted.view, wanted.advisor, *several, unanswered, *search, at, last, limit)
        if wanted.view != "all":
            rows = await self._all("inbox_among", *asked)
        else:
            rows = await self._all("inbox_newest", *asked, SEARCH_NEWEST if typed else limit)
            if typed and len(rows) < limit:
                rows = await self._all("inbox_among", *asked)
        return [_inbox_row(row) for row in rows]

    async def counts(self, advisor: str) -> Mapping[str, int]:
        row = await self._one("inbox_counts", advisor)
        return dict(row) if row else {}


SEARCH_NEWEST = (
    2000  # cases looked at one by one; words too rare to fill a page from them are found by their index
)


def _inbox_row(row: Any) -> InboxRow:
    same = {name: row[name] for name in _INBOX_SAME}
    return InboxRow(case=row["case_id"], tags=tuple(row["tags"]), channels=tuple(row["channels"]), **same)


_INBOX_SAME = tuple(each.name for each in fields(InboxRow) if each.name not in ("case", "tags", "channels"))


class HelpRequests(_Store):
    async def open(self) -> Sequence[HelpView]:
        return [HelpView(*row) for row in await self._all("open_helps")]

    async def of_case(self, case: UUID) -> Sequence[HelpView]:
        return [HelpView(*row) for row in await self._all("helps_of_case", case)]


class MergeProposals(_Store):
    async def of(self, contact: UUID) -> Sequence[Proposal]:
        return [Proposal(*row) for row in await self._all("proposals", contact)]


class StatesOfAccounts(_Store):
    async def all(self) -> Sequence[AccountState]:
        return [AccountState(*row) for row in await self._all("account_states")]


class RowsOfFigures(_Store):
    async def between(self, start: datetime, end: datetime, *, gap_h: float = 96.0) -> Rows:
        around = (start - timedelta(hours=gap_h), end + CONFIRMED_AFTER)
        found = await self._all("figure_interactions", start, end, *around)
        ids = [row["id"] for row in found]
        if not ids:
            return Rows()
        events = await self._all("figure_events", ids, [kind.value for kind in FIGURE_EVENTS])
        lines = await self._all("figure_lines", ids)
        return await asyncio.to_thread(self._made, events, lines)

    def _made(self, events: Sequence[Any], lines: Sequence[Any]) -> Rows:
        """A busy month's rows are a second's work, so this runs in a thread: no call waits for it."""
        return Rows([event_of(self._own, row) for row in events], [Line(*row) for row in lines])


def stores(
    pool: asyncpg.Pool,
    organisation: UUID,
    clock: Clock,
    environment: Mapping[str, str] | None = None,
    *,
    urgent: asyncpg.Pool | None = None,
) -> Stores:
    """Every store of one organisation. `environment`: where secrets of channels may stand; None: the process's.

    `urgent`: a pool of its own for what providers send, so that their answers never wait behind somebody's reading.
    """
    from routing.aio.parcels import StoredOutbox, StoredRequests  # made with this file's _Store

    there = (pool, organisation, clock)
    return Stores(
        organisation=organisation,
        accounts=PhoneAccounts(*there),
        bindings=PhoneBindings(*there),
        people=Persons(*there),
        sites=SiteVersions(*there),
        trees=TreeVersions(*there),
        cases=CaseFiles(*there),
        contacts=ContactBook(*there),
        timeline=CaseTimeline(*there),
        recordings=RecordingFiles(*there),
        log=EventLog(*there),
        requests=StoredRequests(urgent or pool, organisation, clock),
        messages=WrittenMessages(*there),
        outbox=StoredOutbox(*there),
        walks=WrittenWalks(*there),
        secrets=SecretsOfChannels(*there, os.environ if environment is None else environment),
        inbox=CaseInbox(*there),
        helps=HelpRequests(*there),
        proposals=MergeProposals(*there),
        account_states=StatesOfAccounts(*there),
        figures=RowsOfFigures(*there),
    )


class SiteWatch:
    """`async with SiteWatch(dsn, sites, organisation, seen, changed)`: calls `changed` with each new version.

    Hears NOTIFY at once and asks every two seconds anyway; a database that is away is asked again.
    """

    def __init__(
        self,
        dsn: str,
        sites: SiteVersions,
        organisation: UUID,
        seen: int,
        changed: Callable[[SiteVersion], Awaitable[None]],
        woken: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`woken` is called at every look: what admins write besides the site (phones' secrets) may have changed."""
        self._dsn, self._sites, self._own = dsn, sites, organisation
        self._seen, self._changed, self._woken = seen, changed, woken
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> SiteWatch:
        self._task = asyncio.create_task(self._run(), name="site watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _told(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        if payload.startswith(str(self._own)):
            self._wake.set()

    async def _run(self) -> None:
        connection: asyncpg.Connection | None = None
        try:
            while True:
                try:
                    if connection is None or connection.is_closed():
                        connection = await asyncpg.connect(self._dsn, timeout=10)
                        await connection.add_listener(SITE_CHANNEL, self._told)
                    if self._woken is not None:
                        await self._woken()
                    if await self._sites.number() > self._seen:
                        version = await self._sites.current()
                        if version is not None:
                            await self._changed(version)
                            self._seen = version.version
                except (Unavailable, *AWAY) as error:
                    log.warning("the site cannot be asked for now", error=repr(error))
                except Exception as error:
                    log.error(
                        "a new version of the site could not be taken", error=repr(error), exc_info=error
                    )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), SITE_POLL_S)
                self._wake.clear()
        finally:
            if connection is not None:
                connection.terminate()
