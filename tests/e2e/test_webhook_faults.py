"""Webhooks that are repeated, late, forged, or come while the database is frozen (faults.md rows 3, 4 and 27)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import aiohttp
import pytest

from routing.aio.cluster import Cluster
from routing.aio.postgres import migrate
from tests.e2e.hotline import a_moment
from tests.e2e.nursery import Commands
from tests.e2e.test_database_faults import children, frozen
from tests.e2e.writing import Town

DAY_S = 86_400.0
TIMES = 50
WORDS = 4  # of each customer
ANSWER_S = 3.0
FREEZE_S = 12.0
LONG_S = 60.0


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can pass through (pytest's can't be)."""
    path = Path(tempfile.mkdtemp(prefix="monofil-fault-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def came(town: Town) -> list[tuple[str, str]]:
    """(who, what) of all that customers wrote, by the provider's time."""
    rows = await town.rows(
        "SELECT a.value, d.text FROM message m JOIN message_data d ON d.organisation_id = $1 AND d.message = m.id "
        "JOIN thread t ON t.organisation_id = $1 AND t.id = m.thread "
        "JOIN address_data a ON a.organisation_id = $1 AND a.address = t.address "
        "WHERE m.organisation_id = $1 AND m.direction = 'in' ORDER BY a.value, m.sent_at"
    )
    return [(row["value"], row["text"]) for row in rows]


@pytest.mark.slow
async def test_webhooks_repeated_fifty_times_in_any_order_and_a_week_late_are_one_each(
    database: str, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    town = Town(database, tmp_path / "town", "repeated", Commands())
    people = [f"24{n:03}" for n in range(3)]
    wrote = [(psid, f"mot {n}") for psid in people for n in range(WORDS)]

    async def play() -> None:
        graph = town.graph
        graph.hold()
        graph.shift(-7 * DAY_S)
        for n in range(WORDS):
            for psid in people:
                await graph.customer(psid).writes(f"mot {n}")
            graph.shift(2 * DAY_S)
        graph.shift((7 - 2 * WORDS) * DAY_S)
        order = list(range(len(wrote)))
        random.shuffle(order)
        first = await graph.release(order, together=False)
        again = first * (TIMES - 1)
        random.shuffle(again)
        lanes = [again[n::6] for n in range(6)]

        async def lane(n: int) -> None:
            for told in lanes[n]:
                await graph.repeat(told)

        await asyncio.gather(*map(lane, range(6)))
        await town.settled()

    async with town.open(), asyncio.timeout(2 * LONG_S):
        await town.life("", play, gently=True)
        ours = [told for told in town.graph.told if b"mot" in told.body]
        assert len(ours) >= TIMES * len(wrote)
        assert {told.status for told in ours} == {200}
        print(f"slowest answer {max(told.seconds for told in ours):.3f} s, seed {seed}")
        assert sorted(told.seconds for told in ours)[int(0.99 * len(ours))] < ANSWER_S
        assert await came(town) == wrote
        opened = await town.rows("SELECT count(*) AS n FROM interaction WHERE organisation_id = $1")
        assert opened[0]["n"] == len(people)
        failed = await town.rows(
            "SELECT result FROM request WHERE organisation_id = $1 AND result ? 'failed'"
        )
        assert failed == []


@pytest.mark.slow
async def test_what_meta_has_not_signed_is_refused_and_not_kept(database: str, tmp_path: Path) -> None:
    town = Town(database, tmp_path / "town", "forged", Commands())
    statuses: dict[str, int] = {}

    async def play() -> None:
        graph = town.graph
        body = graph.envelope(
            [
                {
                    "sender": {"id": "24001"},
                    "recipient": {"id": "1001"},
                    "timestamp": 1,
                    "message": {"mid": "m_forged", "text": "à l'été / <b>"},
                }
            ]
        )
        right = graph.sign(body)
        other = "sha256=" + hmac.new(b"another-app", body, hashlib.sha256).hexdigest()
        old = "sha1=" + hmac.new(b"app-secret", body, hashlib.sha1).hexdigest()
        anew = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()
        assert anew != body
        tries = {
            "wrong": (body, "sha256=" + "0" * 64),
            "absent": (body, None),
            "empty": (body, ""),
            "of another application": (body, other),
            "by another hash": (body, old),
            "without its name": (body, right.removeprefix("sha256=")),
            "in capitals": (body, right.upper()),
            "of the body as it was": (anew, right),
            "of a longer body": (body[:-1], right),
            "of an empty body": (b"", right),
        }
        async with aiohttp.ClientSession() as http:
            for name, (sent, signature) in tries.items():
                headers = {} if signature is None else {"X-Hub-Signature-256": signature}
                async with http.post(graph.callback, data=sent, headers=headers) as answer:
                    statuses[name] = answer.status

    async with town.open(), asyncio.timeout(LONG_S):
        await town.life("", play, gently=True)
        assert set(statuses.values()) == {401}, statuses
        for table in ("request", "message", "interaction"):
            rows = await town.rows(f"SELECT count(*) AS n FROM {table} WHERE organisation_id = $1")
            assert rows[0]["n"] == 0, table


@pytest.mark.slow
async def test_while_the_database_is_frozen_nothing_is_acknowledged_and_nothing_is_lost_after_it(
    home: Path,
) -> None:
    cluster = Cluster(home / "elsewhere")
    async with cluster:
        await migrate(cluster.dsn)
        (file,) = (home / "elsewhere").rglob("postmaster.pid")
        postmaster = int(file.read_text().split()[0])
        town = Town(cluster.dsn, home / "town", "frozen", Commands())
        wrote = [(f"24{n:03}", "pendant le gel") for n in range(12)]
        seen: list[tuple[int, str]] = []

        async def direct(body: bytes) -> None:
            headers = {"X-Hub-Signature-256": town.graph.sign(body)}
            async with (
                aiohttp.ClientSession() as http,
                http.post(town.graph.callback, data=body, headers=headers) as answer,
            ):
                seen.append((answer.status, answer.headers.get("Retry-After", "")))

        async def play() -> None:
            graph, loop = town.graph, asyncio.get_running_loop()
            await graph.customer("23000").writes("avant")
            await town.settled()
            before = len(graph.told)
            with frozen([postmaster, *children(postmaster)]):
                began = loop.time()
                writing = [asyncio.create_task(graph.customer(psid).writes(text)) for psid, text in wrote]
                await direct(graph.envelope())
                async with aiohttp.ClientSession() as http:
                    while loop.time() - began < FREEZE_S:
                        async with http.get(graph.callback.partition("/hooks")[0] + "/healthz") as alive:
                            assert alive.status == 200
                        await a_moment()
                told = [each.status for each in graph.told[before:]]
                assert 200 not in told, told
            assert seen[0][0] == 503
            assert int(seen[0][1]) > 0
            await asyncio.gather(*writing)
            await town.settled()

        async with town.open(), asyncio.timeout(2 * LONG_S):
            await town.life("", play, gently=True)
            assert [it for it in await came(town) if it[1] != "avant"] == wrote
            assert {each.status for each in town.graph.told} >= {200, 503}
