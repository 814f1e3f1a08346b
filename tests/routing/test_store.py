"""The stores: what is remembered, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from routing import models as m
from routing.aio.clock import IdMaker
from routing.aio.postgres import (
    ARRAYS,
    SiteWatch,
    WrongSchema,
    connect,
    load_sql,
    migrate,
    migrations,
    organisation_id,
    pool,
    schema_status,
    stores,
)
from routing.site import Site
from routing.store import (
    Changed,
    NodeCount,
    PhoneBinding,
    PhoneSecret,
    Stores,
    Unavailable,
    WebSession,
)
from tests.routing.hotline import START, HandClock, hotline, site


@asynccontextmanager
async def opened(dsn: str, short: str = "test", clock: HandClock | None = None) -> AsyncIterator[Stores]:
    clock = clock or HandClock()
    async with pool(dsn, size=4) as made:
        organisation = await organisation_id(made, short, IdMaker(), clock.now())
        yield stores(made, organisation, clock)


async def test_the_array_types_that_connections_know_are_those_of_the_server(database: str) -> None:
    statement = "SELECT oid, typname AS name, typelem AS elemtype FROM pg_type WHERE oid = ANY ($1::oid[])"
    connection = await asyncpg.connect(database)
    told = {row["oid"]: dict(row) for row in await connection.fetch(statement, list(ARRAYS))}
    await connection.close()
    assert told == {
        oid: {key: array[key] for key in ("oid", "name", "elemtype")} for oid, array in ARRAYS.items()
    }


async def test_a_connection_sends_and_reads_arrays(database: str) -> None:
    connection = await connect(database)
    sent = ([UUID(int=1)], [{"a": [1]}], [1.5], [True], [START], [2**40])
    types = ("uuid", "jsonb", "float8", "bool", "timestamptz", "int8")
    asked = ", ".join(f"${n}::{name}[]" for n, name in enumerate(types, 1))
    assert tuple(await connection.fetchrow(f"SELECT {asked}", *sent)) == sent
    await connection.close()


async def test_migrating_again_changes_nothing_and_a_changed_file_is_refused(database: str) -> None:
    assert await migrate(database) == []
    connection = await asyncpg.connect(database)
    assert all(applied for _, _, applied in await schema_status(connection))
    await connection.execute("UPDATE schema_version SET checksum = 'other' WHERE version = 1")
    with pytest.raises(WrongSchema, match="0001"):
        await migrate(database)
    await connection.execute("INSERT INTO schema_version VALUES (9999, 'future', '')")
    with pytest.raises(WrongSchema, match="newer"):
        await migrate(database)
    await connection.close()
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


async def test_two_migrators_at_once_apply_each_file_once(cluster: object, database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("DROP SCHEMA public CASCADE")
    await connection.execute("CREATE SCHEMA public")
    await connection.close()
    done = await asyncio.gather(*(migrate(database) for _ in range(3)))
    assert sorted(number for each in done for number in each) == [number for number, _, _ in migrations()]


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
async def test_what_has_been_handled_does_not_slow_what_is_next(database: str, plan: str) -> None:
    connection = await connect(database)
    own = await organisation_id(connection, "test", IdMaker(), START)
    await connection.execute(
        """
        INSERT INTO request (organisation_id, id, account, at, headers, body, again_at, handled_at)
        SELECT $1, lpad(to_hex(n), 32, '0')::uuid, 'page', $2::timestamptz, '{}', '', $2,
            CASE WHEN n <= 20000 THEN $2 END
        FROM generate_series(1, 20500) n
        """,
        own,
        START,
    )
    await connection.execute("ANALYZE request")
    await connection.execute(f"SET plan_cache_mode = {plan}")
    asked: tuple[object, ...] = (own, START, 64, [], [], 1 << 20)
    unhandled = load_sql("parcels.sql")["unhandled_requests"]
    assert [row["id"].int for row in await connection.fetch(unhandled, *asked)] == list(range(20_001, 20_065))
    explained = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS off, TIMING off) {unhandled}", *asked)
    lines = "\n".join(row[0] for row in explained)
    assert "Index Scan using request_next on request" in lines, lines
    assert "Removed" not in lines, lines
    await connection.close()


async def test_a_site_is_applied_only_over_the_version_it_started_from(database: str) -> None:
    async with opened(database) as there:
        rules = site(trees={"main": {"start": "hello"}, "night": {"start": "closed"}})
        assert await there.sites.current() is None
        first = await there.sites.apply(rules, base=0, by="ada")
        again = await there.sites.apply(rules, base=1, by="ada")
        assert (first.version, again.version) == (1, 1)
        with pytest.raises(Changed) as told:
            await there.sites.apply(replace(rules, name="Other"), base=0, by="bob")
        assert told.value.found == 1
        forced = await there.sites.apply(replace(rules, name="Other"), base=None, by="bob")
        current = await there.sites.current()
        assert current == forced
        assert current is not None
        assert current.site == replace(rules, name="Other")
        assert await there.sites.version(1) == first


async def test_only_trees_that_changed_get_a_new_version_and_old_ones_stay(database: str) -> None:
    async with opened(database) as there:
        rules = site(trees={"main": {"start": "hello"}, "night": {"start": "closed"}})
        await there.sites.apply(rules, base=0, by="ada")
        published = await there.trees.publish("main", {"start": "good day"}, by="ada", note="politer")
        assert (published.version, published.note) == (2, "politer")
        assert {tree: it.version for tree, it in (await there.trees.all_current()).items()} == {
            "main": 2,
            "night": 1,
        }
        former = await there.trees.version("main", 1)
        assert former is not None
        assert former.document == {"start": "hello"}
        current = await there.sites.current()
        assert current is not None
        assert current.site.trees["main"] == {"start": "good day"}
        assert [it.version for it in await there.trees.versions("main")] == [2, 1]


async def test_a_running_server_hears_of_a_new_site_also_when_the_notification_is_lost(database: str) -> None:
    async with asyncio.timeout(20), opened(database) as there:
        heard: asyncio.Queue[int] = asyncio.Queue()

        async def changed(version: object) -> None:
            await heard.put(version.version)  # type: ignore[attr-defined]

        await there.sites.apply(site(), base=0, by="ada")
        watch = SiteWatch(database, there.sites, there.organisation, 0, changed)  # type: ignore[arg-type]
        async with watch:
            assert await heard.get() == 1
            await there.sites.apply(site(name="Two"), base=1, by="ada")
            assert await heard.get() == 2
            watch._told = lambda *told: None  # type: ignore[method-assign]
            killer = await asyncpg.connect(database)
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query ILIKE 'listen%' AND datname = current_database()"
            )
            await killer.close()
            await there.sites.apply(site(name="Three"), base=2, by="ada")
            assert await heard.get() == 3


async def test_a_new_password_ends_every_session_of_its_owner(database: str) -> None:
    clock = HandClock()
    async with opened(database, clock=clock) as there:
        await there.people.set_password_hash("ada", "hash-1")
        end = START + timedelta(hours=1)
        await there.people.add_session(WebSession(b"one", "ada", "csrf", START, end))
        await there.people.add_session(WebSession(b"two", "bob", "csrf", START, end))
        assert await there.people.session(b"one") == WebSession(b"one", "ada", "csrf", START, end)
        await there.people.set_password_hash("ada", "hash-2")
        assert await there.people.session(b"one") is None
        assert await there.people.session(b"two") is not None
        clock.pass_(3600)
        assert await there.people.session(b"two") is None
        assert await there.people.logins() == ["ada"]
        assert await there.people.password_hash("nobody") is None


async def test_a_phone_account_keeps_only_its_hashes(database: str) -> None:
    async with opened(database) as there:
        secret = PhoneSecret("101", "monofil", "0" * 32, "a" * 64)
        await there.accounts.set_secret(secret)
        assert await there.accounts.secret("101") == secret
        assert await there.accounts.secret("102") is None
        with pytest.raises(asyncpg.CheckViolationError):
            await there.accounts.set_secret(PhoneSecret("102", "monofil", "secret", "a" * 64))


def lies(account: str, port: int, *, seconds: float = 300, cseq: int = 1) -> PhoneBinding:
    contact = f"sip:{account}@10.0.0.1:{port}"
    return PhoneBinding(
        *(account, contact, ";ob", "udp", "10.0.0.1", port, "id@phone", cseq, "<urn:uuid:1>|", "T1"),
        expires_at=START + timedelta(seconds=seconds),
    )


async def test_the_bindings_of_an_account_are_replaced_as_a_whole(database: str) -> None:
    async with opened(database) as ours, opened(database, "other") as theirs:
        first, second, other = lies("101", 5060), lies("101", 5062, seconds=600), lies("102", 5060)
        await ours.bindings.replace({"101", "102"}, [first, second, other])
        await theirs.bindings.replace(["101"], [lies("101", 5099)])
        assert await ours.bindings.all() == [first, second, other]
        refreshed = lies("101", 5060, seconds=3600, cseq=2)
        await ours.bindings.replace(["101"], [refreshed])
        assert await ours.bindings.all() == [refreshed, other]
        await ours.bindings.replace(["102", "103"], [])
        assert await ours.bindings.all() == [refreshed]
        assert await theirs.bindings.all() == [lies("101", 5099)]


async def test_a_new_phone_password_ends_the_bindings_that_the_old_one_made(database: str) -> None:
    async with opened(database) as there:
        await there.bindings.replace(["101", "102"], [lies("101", 5060), lies("102", 5060)])
        await there.accounts.set_secret(PhoneSecret("101", "monofil", "0" * 32, "a" * 64))
        assert await there.bindings.all() == [lies("102", 5060)]


async def test_nobody_sees_another_organisation_s_anything(database: str) -> None:
    async with opened(database) as ours, opened(database, "other") as theirs, hotline(database) as line:
        call = await line.call("+33611223344")
        row = line.desk.interaction(call)
        assert row is not None
        assert (await ours.timeline.interaction(call)) is not None
        assert await theirs.timeline.interaction(call) is None
        assert await theirs.timeline.pop(call) is None
        assert await theirs.cases.get(row.case_id) is None
        assert await theirs.contacts.get(row.contact) is None
        assert await theirs.contacts.by_address("phone", "+33611223344") == []
        assert list(await theirs.cases.list()) == []
        assert list(await theirs.log.after(0)) == []
        await ours.people.set_password_hash("ada", "x")
        assert await theirs.people.password_hash("ada") is None


async def test_the_log_can_only_be_appended_to(database: str) -> None:
    async with hotline(database) as line:
        await line.call()
        connection = await connect(database)
        for statement in ("UPDATE event SET seq = seq + 1", "DELETE FROM event"):
            with pytest.raises(asyncpg.RestrictViolationError):
                await connection.execute(statement)
        await connection.close()


async def test_a_pop_tells_who_may_be_calling_what_they_passed_and_what_came_before(database: str) -> None:
    async with asyncio.timeout(20), opened(database) as there, hotline(database) as line:
        await line.ready("a1")
        first = await line.call("06 11 22 33 44", attestation="A")
        await line.talk(first)
        await line.ok(m.TalkEnded, interaction=first, by="customer")
        await line.ok(m.WrapupDone, interaction=first, code="later", by="a1")
        row = line.desk.interaction(first)
        assert row is not None
        await line.ok(
            m.ContactChanged, contact=row.contact, by="a1", name="Zoé Durand", vip=True, language="en"
        )
        line.clock.pass_(600)
        second = await line.call(
            "sip:+33611223344@trunk;user=phone", queue=None, name="Z. D.", attestation="B"
        )
        await line.ok(m.TreeEntered, interaction=second, tree="main", version=3)
        await line.ok(m.NodeLeft, interaction=second, node="menu", exit="1", seconds=2.5, keys="1")
        await line.ok(m.FactsLearned, interaction=second, facts={"language": "fr", "parcel": "6A123"})
        await line.ok(m.Enqueued, interaction=second, queue="general")
        assert await there.contacts.language_in(second) == "en"
        since, until = line.clock.now() - timedelta(days=1), line.clock.now() + timedelta(seconds=1)
        (left,) = await there.trees.node_counts(since, until, [1.0, 2.0, 3.0])
        assert left == NodeCount("main", 3, "menu", "1", bucket=2, count=1)
        assert await there.trees.node_counts(since, since, [1.0]) == []
        pop = await there.timeline.pop(second)
        assert pop is not None
        (person,) = pop.persons
        assert (person.name, person.vip, person.why, person.sure) == ("Zoé Durand", True, "number", "likely")
        assert pop.case is not None
        assert pop.interaction.case == row.case_id == pop.case.id
        assert pop.interaction.address_value == "+33611223344"
        assert pop.interaction.received == "sip:+33611223344@trunk;user=phone"
        assert [(step.tree, step.version, step.node, step.exit, step.keys) for step in pop.path] == [
            ("main", 3, "menu", "1", "1")
        ]
        assert pop.facts == {"language": "fr", "parcel": "6A123"}
        assert [each.id for each in pop.last_interactions] == [first]
        assert (pop.last_advisor, pop.kind, pop.caller_name) == ("a1", "repeat", "Z. D.")
        assert [case.id for case in pop.open_cases] == [row.case_id]
        (offer,) = await there.timeline.why(second)
        assert offer["advisor"] == "a1"
        assert offer["why"]["queue"] == "general"
        (found,) = await there.contacts.find("zoe")
        assert found.id == person.contact
        assert [case.id for case in await there.cases.list(text="durand")] == [row.case_id]
        assert [case.id for case in await there.cases.list(text="0611223344")] == [row.case_id]
        page = await there.cases.list(limit=1)
        assert await there.cases.list(limit=1, after=(page[0].changed_at, page[0].id)) == []


async def test_a_store_without_its_database_says_so(database: str, cluster: Any) -> None:
    async with opened(database) as there:
        name = database.split("/")[3].split("?")[0]
        await there.log.last_seq()
        admin = await asyncpg.connect(cluster.address("postgres"))
        await admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        with pytest.raises(Unavailable):
            await there.log.last_seq()
        await admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        await admin.close()
        assert await there.log.last_seq() == 0


def test_a_site_survives_its_document() -> None:
    from routing.aio.postgres import site_document, site_from
    from routing.site import Hours

    rules: Site = site(
        hours=(Hours("office", {0: ("08:00-12:00",), 6: ()}, openings={"2026-12-24": ("08:00-12:00",)}),)
    )
    assert site_from(site_document(rules)) == rules
