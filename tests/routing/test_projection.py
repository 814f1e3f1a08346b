"""The state tables are what the log says (I13), after long random runs with restarts."""

from __future__ import annotations

import asyncio
from random import Random

import asyncpg
import pytest

from routing.models import FINAL, T
from routing.projection import PROJECTIONS, TABLES
from tests.routing.hotline import HandClock, hotline, site
from tests.routing.record import check
from tests.routing.traffic import Traffic


def test_every_type_of_event_has_its_projection() -> None:
    assert set(PROJECTIONS) == set(T)


async def test_the_fields_of_a_row_are_the_columns_of_its_table(database: str) -> None:
    from dataclasses import fields

    connection = await asyncpg.connect(database)
    for table in TABLES:
        found = await connection.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped"
            " ORDER BY attnum",
            table.TABLE,
        )
        assert ["organisation_id", *(field.name for field in fields(table))] == [row[0] for row in found]
    await connection.close()


async def test_all_state_can_be_rebuilt_after_a_long_random_run_with_restarts(
    database: str, seed: int
) -> None:
    random, clock, rules = Random(seed), HandClock(), site(6)
    seen: set[str] = set()
    async with asyncio.timeout(60):
        for _ in range(3):
            async with hotline(database, rules, clock) as line:
                traffic = Traffic(line, random)
                await traffic.start()
                await traffic.steps(250)
                organisation = line.organisation
            events = await check(database, organisation, rules)
            seen |= {event.type for event in events}
            clock.pass_(60)
    assert len(seen) > 38, sorted(seen)


async def test_after_a_restart_voice_is_interrupted_and_everything_else_is_at_its_old_place(
    database: str, seed: int
) -> None:
    random, clock, rules = Random(seed), HandClock(), site(2)
    async with asyncio.timeout(30):
        async with hotline(database, rules, clock) as line:
            traffic = Traffic(line, random)
            await traffic.start()
            await traffic.steps(80)
            before = {row.id: row for row in line.desk.interactions()}
            organisation = line.organisation
        async with hotline(database, rules, clock) as line:
            after = {row.id: row for row in line.desk.interactions()}
            for id_, row in before.items():
                now = after.get(id_)
                if row.channel == "voice" and row.state != "wrapup":
                    assert now is None, (row.state, now)
                    told = line.desk.interaction(id_)
                    assert told is None or told.state in FINAL
                else:
                    assert now is not None
                    assert now.since == row.since, "its place"
                    if row.state in ("waiting", "offered"):
                        assert now.state in ("waiting", "offered")
                        assert now.epoch >= row.epoch
                    else:
                        assert now.state == row.state
            assert not any(line.desk.reachable(advisor.id, "voice") for advisor in rules.advisors)
        await check(database, organisation, rules)


async def test_forgetting_what_is_over_changes_nothing(
    database: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routing.memory.REMEMBERED_ROWS", 40)
    random, clock, rules = Random(seed), HandClock(), site(4)
    async with asyncio.timeout(60), hotline(database, rules, clock) as line:
        traffic = Traffic(line, random)
        await traffic.start()
        await traffic.steps(200)
        assert line.desk.reloads == 0, "it had forgotten something that it needed"
    await check(database, line.organisation, rules)
