"""Providers' requests: proved on the raw bytes, stored before they are answered, told once in the customer's order."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web

from routing import models as m
from routing.models import STATUS_RANK
from routing.pace import Pace
from routing.store import RawRequest, Requests, Unavailable
from tests.fakes.provider import SECRET, proof
from tests.routing.office import PATIENCE_S, office
from tests.routing.test_fetch import png


class Watched:
    """Requests that are stored when the test lets them."""

    def __init__(self, inner: Requests) -> None:
        self._inner = inner
        self.groups: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    async def add(self, requests: Sequence[RawRequest]) -> None:
        if self.away:
            raise Unavailable("away")
        self.groups.append(len(requests))
        await self.open.wait()
        await self._inner.add(requests)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def wrote(id: str, text: str = "Bonjour", customer: str = "ana", **more: Any) -> dict[str, Any]:
    return {"kind": "wrote", "id": id, "from": customer, "text": text, **more}


def test_a_pace_lets_a_burst_through_and_then_so_many_a_second() -> None:
    pace = Pace(8.0, 5.0)
    assert [pace.allow(100.0) for _ in range(6)] == [True] * 5 + [False]
    assert pace.allow(100.125)
    assert not pace.allow(100.125)
    pace = Pace(2.0, 1.0)
    assert [pace.wait(50.0) for _ in range(3)] == [0.0, 0.5, 1.0]
    pace.spend(60.0, 100.0)
    assert pace.wait(60.0) == 1.0


async def test_only_what_the_provider_signed_is_stored(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        body = json.dumps([wrote("1", "été")]).encode()
        again = json.dumps(json.loads(body), ensure_ascii=False).encode()
        right = proof(body)["x-proof"]
        for sent, headers in (
            (body, {"x-proof": "0" * 64}),
            (body, {"x-proof": ""}),
            (body, {"x-proof": right.upper()}),
            (body, {}),
            (body, {"x-proof": "é" * 64}),
            (again, {"x-proof": right}),
            (body + b" ", {"x-proof": right}),
            (b"", {"x-proof": right}),
        ):
            async with here.http.post(here.url, data=sent, headers=headers) as response:
                assert response.status == 401
        assert await here.stores.requests.latest() == []
        async with here.http.post(here.url, data=body, headers={"x-proof": right}) as response:
            assert response.status == 200
        assert [each.request.body for each in await here.stores.requests.latest()] == [body]


async def test_the_door_says_what_is_wrong(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        body = json.dumps([wrote("1")]).encode()
        async with here.http.get(here.url, params={"token": "wrong", "challenge": "42"}) as response:
            assert response.status == 403
            assert "42" not in await response.text()
        async with here.http.get(here.url, params={"token": SECRET, "challenge": "42"}) as response:
            assert (response.status, await response.text()) == (200, "42")
            assert response.content_type == "text/plain"
        async with here.http.post(f"{here.url}x", data=body, headers=proof(body)) as response:
            assert response.status == 404
        async with here.http.put(here.url, data=body, headers=proof(body)) as response:
            assert response.status == 405
        packed = {**proof(body), "Content-Encoding": "gzip"}
        async with here.http.post(here.url, data=gzip.compress(body), headers=packed) as response:
            assert response.status == 415
        big = b"x" * ((5 << 20) + 1)
        async with here.http.post(here.url, data=BytesIO(big), headers=proof(big)) as response:
            assert response.status == 413
        assert await here.stores.requests.latest() == []


async def test_who_guesses_signatures_is_slowed(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        statuses = []
        for _ in range(60):
            async with here.http.post(here.url, data=b"[]", headers={"x-proof": "x"}) as response:
                statuses.append(response.status)
        assert statuses[0] == 401
        assert statuses[-1] == 429


async def test_who_guesses_from_behind_the_same_proxy_shuts_nobody_else_out(
    database: str, tmp_path: Path
) -> None:
    def source(request: web.Request) -> str:
        return request.headers["X-Forwarded-For"]

    async with office(database, tmp_path, courier=False, source=source) as here:
        statuses = []
        for _ in range(60):
            headers = {"x-proof": "x", "X-Forwarded-For": "203.0.113.9"}
            async with here.http.post(here.url, data=b"[]", headers=headers) as response:
                statuses.append(response.status)
        assert statuses[-1] == 429
        body = json.dumps([wrote("1")]).encode()
        provider = {**proof(body), "X-Forwarded-For": "198.51.100.1"}
        async with here.http.post(here.url, data=body, headers=provider) as response:
            assert response.status == 200


async def test_nothing_is_acknowledged_while_the_database_is_away(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False, hooks=False) as here:
        watched = here.hooks._requests = Watched(here.stores.requests)
        assert isinstance(watched, Watched)
        async with here.hooks:
            watched.away = True
            body = json.dumps([wrote("1")]).encode()
            async with here.http.post(here.url, data=body, headers=proof(body)) as response:
                assert response.status == 503
                assert response.headers["Retry-After"]
            watched.away = False
            await here.told(wrote("1"))
            assert [row["external_id"] for row in await here.messages()] == ["1"]


async def test_requests_that_come_together_are_stored_together(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False, hooks=False) as here:
        watched = here.hooks._requests = Watched(here.stores.requests)
        assert isinstance(watched, Watched)
        async with here.hooks:
            watched.open.clear()
            first = asyncio.create_task(here.post(wrote("0")))
            await here.until(lambda: watched.groups, "nothing is stored")
            others = [asyncio.create_task(here.post(wrote(str(n), customer=f"c{n}"))) for n in range(1, 31)]
            await here.until(lambda: len(here.hooks._arrived) == 30, "they do not gather")
            assert not first.done()
            watched.open.set()
            assert set(await asyncio.gather(first, *others)) == {200}
            assert watched.groups == [1, 30]
            await here.handled()
            assert len(await here.messages()) == 31


async def test_a_broken_event_never_fails_its_batch(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        odd = wrote("2", "deux\x00 \ud800")
        await here.told(wrote("1", "un"), wrote(""), {"kind": "dance"}, odd, wrote("3", "trois"))
        assert [row["text"] for row in await here.messages()] == ["un", "deux ?", "trois"]
        (view,) = await here.stores.requests.latest()
        assert view.result["events"] == 5
        assert view.result["told"] == 3
        assert view.result["unknown"] == ["dance"]
        assert view.result["failed"] == ["1: ValueError"]


async def test_what_cannot_be_parsed_is_kept_and_can_be_replayed(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        channel = here.hooks._channels["pigeon"]
        parse, channel.parse = channel.parse, lambda raw, account: 1 / 0  # type: ignore[assignment,return-value]
        await here.told(wrote("1"))
        (view,) = await here.stores.requests.latest()
        assert view.result["failed"] == ["parse: ZeroDivisionError"]
        assert await here.messages() == []
        channel.parse = parse
        assert (await here.hooks.replay(view.request.id))["told"] == 1
        assert len(await here.messages()) == 1
        seq = here.line.desk.seq
        await here.hooks.replay(view.request.id)
        assert here.line.desk.seq == seq
        with pytest.raises(LookupError):
            await here.hooks.replay(uuid4())


async def test_fifty_deliveries_in_any_order_are_one(database: str, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        ours = await here.write(interaction, "Je regarde")
        await here.becomes(ours, "sent")
        sent = await here.stores.messages.get(ours)
        assert sent is not None
        events = [
            *(wrote(f"m{n}", f"{n}", customer=f"c{n % 3}", at=1_700_000_000 + n) for n in range(9)),
            {"kind": "receipt", "from": "ana", "status": "delivered", "ids": [sent.external_id]},
            {"kind": "receipt", "from": "ana", "status": "read", "until": here.line.clock.unix() + 1},
            {"kind": "reacted", "from": "ana", "id": "m0", "emoji": "👍"},
            {"kind": "changed", "from": "c0", "id": "m0", "text": "zéro"},
            {"kind": "echoed", "from": "ana", "id": "elsewhere", "text": "vu"},
        ]
        deliveries = [event for event in events for _ in range(50)]
        random.shuffle(deliveries)

        async def delivered(event: dict[str, Any]) -> int:
            """As a provider does it: again, while it is told to come again."""
            async with asyncio.timeout(PATIENCE_S):
                while (status := await here.post(event)) == 503:
                    pass
            return status

        for start in range(0, len(deliveries), 70):
            some = deliveries[start : start + 70]
            assert set(await asyncio.gather(*map(delivered, some))) == {200}
        untried = "SELECT 1 FROM request WHERE handled_at IS NULL AND tries = 0 LIMIT 1"
        await here.until(lambda: here.none(untried), "a request was never tried")
        await here.later(5)
        await here.until(here._all_handled, "not all is handled")
        rows = {row["external_id"]: row for row in await here.messages()}
        assert len(await here.messages()) == len(rows) == 1 + 1 + 9 + 1
        assert rows[sent.external_id]["status"] == "read"
        assert rows["m0"]["text"] == "zéro"
        assert rows["elsewhere"]["author"] == "elsewhere"
        told = [event.data for event in here.line.heard if event.type is m.T.MESSAGE_STATUS]
        ranks = [STATUS_RANK[data["status"]] for data in told if data["message"] == str(ours)]
        assert ranks == sorted(set(ranks))


async def test_a_receipt_waits_for_its_message(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        await here.post({"kind": "reacted", "from": "ana", "id": "m1", "emoji": "🎉"})
        await here.until(lambda: here.rows("SELECT 1 FROM request WHERE tries > 0"), "it was not tried")
        await here.post(wrote("m1"))
        await here.until(lambda: here.messages(), "the message is not there")
        await here.later(2)
        await here.handled()
        (row,) = await here.messages()
        (side,) = await here.rows("SELECT reaction FROM message_data WHERE message = $1", row["id"])
        assert side["reaction"] == "🎉"


async def test_a_receipt_whose_message_never_comes_is_given_up(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        await here.post({"kind": "receipt", "from": "ana", "status": "read", "ids": ["never"]})
        await here.until(lambda: here.rows("SELECT 1 FROM request WHERE tries > 0"), "it was not tried")
        await here.later(700)
        await here.handled()
        (view,) = await here.stores.requests.latest()
        assert view.result["given_up"] == [0]


async def test_an_echo_settles_what_was_perhaps_sent(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        here.provider.answers = ["lost"]
        ours = await here.write(interaction, "Est-ce parti ?")
        await here.becomes(ours, "perhaps")
        await here.told(
            {"kind": "echoed", "from": "ana", "id": "p9", "ours": str(ours), "text": "Est-ce parti ?"}
        )
        await here.becomes(ours, "sent")
        view = await here.stores.messages.get(ours)
        assert view is not None
        assert view.external_id == "p9"
        (row,) = await here.rows("SELECT state FROM outbox")
        assert row["state"] == "sent"
        assert here.words == ["Est-ce parti ?"]
        await here.told(
            {"kind": "echoed", "from": "ana", "id": "p10", "ours": str(uuid4()), "text": "ailleurs"}
        )
        assert (await here.message("p10"))["author"] == "elsewhere"


async def test_what_was_read_up_to_a_time_does_not_settle_what_was_perhaps_sent(
    database: str, tmp_path: Path
) -> None:
    """It is no word about that message: who has read all that came has not read what never came."""
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        sent = await here.write(interaction, "Bonjour")
        await here.becomes(sent, "sent")
        here.provider.answers = ["lost"]
        lost = await here.write(interaction, "Est-ce parti ?")
        await here.becomes(lost, "perhaps")
        until = here.line.clock.now().timestamp() + 1
        await here.told({"kind": "receipt", "from": "ana", "status": "read", "until": until})
        await here.becomes(sent, "read")
        assert await here.status(lost) == "perhaps"


async def test_edits_and_takings_back_are_events_on_the_original(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        await here.told(wrote("1", "demain"), wrote("2", "oups"))
        await here.told({"kind": "changed", "from": "ana", "id": "1", "text": "après-demain"})
        await here.told({"kind": "changed", "from": "ana", "id": "2", "text": None})
        rows = await here.messages()
        assert [(row["edited"], row["unsent"]) for row in rows] == [(True, False), (False, True)]
        assert rows[0]["text"] == "après-demain"


async def test_typing_is_heard_and_not_kept(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        seq = here.line.desk.seq
        await here.told({"kind": "typed", "from": "ana", "on": True}, {"kind": "moved", "ours": False})
        assert here.typed == [("nest", "ana", True)]
        assert here.line.desk.seq == seq


async def test_files_are_fetched_at_once_or_say_why_not(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        here.provider.files["a.png"] = png(3, 3)
        there = [
            {"kind": "image", "name": "a.png", "url": f"{here.provider.base}/files/a.png"},
            {"kind": "image", "name": "b.png", "url": f"{here.provider.base}/files/b.png"},
            {"kind": "file", "name": "../../c", "url": "http://169.254.169.254/latest"},
        ]
        await here.told(wrote("1", files=there))
        message = await here.message("1")
        view = await here.stores.messages.get(message["id"])
        assert view is not None
        by_name = {file.name: file for file in view.attachments}
        assert by_name["a.png"].state == "stored"
        assert by_name["a.png"].type == "image/png"
        assert here.files.path(by_name["a.png"].path).read_bytes() == png(3, 3)
        assert by_name["b.png"].state == "failed"
        assert [file.state for file in view.attachments].count("failed") == 2
        before = list(here.provider.asked)
        (request,) = await here.stores.requests.latest()
        await here.hooks.replay(request.request.id)
        assert here.provider.asked == before


async def test_an_answer_finds_its_case_by_what_it_names(database: str, tmp_path: Path) -> None:
    def prove(token: str, secrets: object) -> int | None:
        number, _, check = token.partition(".")
        return int(number) if check == "right" else None

    async with office(database, tmp_path, courier=False, prove=prove) as here:
        await here.told(wrote("a1"), wrote("b1", customer="bea"))
        first, second = await here.message("a1"), await here.message("b1")
        for row in (first, second):
            closed = {"by": "a1", "outcome": "archived", "reason": "spam"}
            await here.line.ok(m.InteractionClosed, interaction=row["interaction"], **closed)
        (found,) = await here.rows("SELECT number FROM case_file WHERE id = $1", second["case_id"])
        number = found["number"]

        async def case(id: str, **more: Any) -> UUID:
            await here.told(wrote(id, customer=f"{id}@example.org", **more))
            found = (await here.message(id))["case_id"]
            assert isinstance(found, UUID)
            return found

        known = {first["case_id"], second["case_id"]}
        assert await case("by reference", references=["unknown", "a1", "b1"]) == first["case_id"]
        assert await case("by token", token=f"{number}.right") == second["case_id"]
        assert (
            await case("token before reference", references=["a1"], token=f"{number}.right")
            == second["case_id"]
        )
        assert await case("wrong token", token=f"{number}.wrong") not in known
        assert await case("a stranger", references=["a1"], trusted=False) not in known
        assert await case("a proved stranger", token=f"{number}.right", trusted=False) == second["case_id"]


async def test_what_a_former_life_stored_is_handled_first(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False, hooks=False) as here:
        body = json.dumps([wrote("1")]).encode()
        request = RawRequest(uuid4(), "nest", here.line.clock.now(), {}, body)
        gone = RawRequest(uuid4(), "gone", here.line.clock.now(), {}, body)
        await here.stores.requests.add([request, gone])
        async with here.hooks:
            await here.handled()
        assert len(await here.messages()) == 1
        view = await here.stores.requests.get(gone.id)
        assert view is not None
        assert view.result["failed"]


async def test_messages_of_one_customer_keep_their_order(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        for n in range(40):
            assert await here.post(wrote(f"a{n}"), wrote(f"b{n}", customer="bea")) == 200
        await here.handled()
        told = [row["external_id"] for row in await here.messages()]
        for who in "ab":
            assert [id for id in told if id[0] == who] == [f"{who}{n}" for n in range(40)]
