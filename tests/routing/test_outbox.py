"""What we send: once, in the order of each thread, and what became of it is told, whatever the provider does."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from aiohttp import ClientSession, web

from routing import channel as c
from routing import models as m
from routing.aio.fetch import Fetcher
from routing.aio.links import LIFE_S, Links
from routing.aio.outbox import read, written
from tests.fakes.provider import Provider
from tests.routing.hotline import HandClock
from tests.routing.office import Office, office
from tests.routing.test_fetch import png


def failed(failure: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return (400, {"failure": failure, **more})


async def outbox(here: Office) -> dict[UUID, Any]:
    return {row["message"]: row for row in await here.rows("SELECT * FROM outbox")}


def accounts_told(here: Office) -> list[str]:
    return [event.data["state"] for event in here.line.heard if event.type is m.T.ACCOUNT_CHANGED]


async def test_a_message_is_sent_as_its_writer_and_its_id_is_known(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        message = await here.write(interaction, "Bonjour Ana")
        await here.becomes(message, "sent")
        (got,) = here.provider.got
        assert (got["to"], got["text"], got["author"], got["name"]) == (
            "ana",
            "Bonjour Ana",
            "advisor",
            "First1",
        )
        view = await here.stores.messages.get(message)
        assert view is not None
        assert view.external_id == f"p1-{str(message)[:8]}"
        row = (await outbox(here))[message]
        assert (row["state"], row["tries"]) == ("sent", 1)


async def test_a_thread_keeps_its_order_over_retries_while_others_go_on(
    database: str, tmp_path: Path
) -> None:
    async with office(database, tmp_path) as here:
        ana, bea = await here.talking("ana"), await here.talking("bea")
        here.provider.answers = [failed("transient"), None]
        first = await here.write(ana, "un")
        await here.until(lambda: here.provider.answers == [None], "it was not tried")
        others = [await here.write(ana, "deux"), await here.write(ana, "trois")]
        beside = await here.write(bea, "ailleurs")
        await here.becomes(beside, "sent")
        assert here.words == ["ailleurs"]
        await here.later(3)
        for message in (first, *others):
            await here.becomes(message, "sent")
        assert here.words == ["ailleurs", "un", "deux", "trois"]
        assert (await outbox(here))[first]["tries"] == 2


async def test_an_answer_that_is_lost_is_perhaps_sent_and_never_repeated(
    database: str, tmp_path: Path
) -> None:
    async with office(database, tmp_path, call_s=0.5) as here:
        interaction = await here.talking()
        here.provider.answers = ["lost", "hang"]
        lost = await here.write(interaction, "perdu")
        await here.becomes(lost, "perhaps")
        slow = await here.write(interaction, "lent")
        await here.becomes(slow, "perhaps")
        here.provider.release.set()
        after = await here.write(interaction, "après")
        await here.becomes(after, "sent")
        await here.later(3600)
        assert here.words.count("perdu") == 1
        assert here.words.count("lent") <= 1
        assert await here.status(lost) == await here.status(slow) == "perhaps"


async def test_a_provider_that_is_down_is_tried_three_times(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        runner = here.provider._runner
        assert runner is not None
        await runner.cleanup()
        message = await here.write(interaction, "y a-t-il quelqu’un ?")
        for tries in (1, 2, 3):
            await here.until(partial(_tried, here, message, tries), f"try {tries} does not come")
            await here.later(61)
        await here.becomes(message, "failed")
        view = await here.stores.messages.get(message)
        assert view is not None
        assert (view.failure, view.code) == ("transient", "unreachable")
        await here.provider.__aenter__()


async def _tried(here: Office, message: UUID, tries: int) -> bool:
    row = (await outbox(here))[message]
    return bool(row["tries"] == tries and row["state"] != "taken")


async def test_what_the_provider_refuses_is_told_at_once_with_its_words(
    database: str, tmp_path: Path
) -> None:
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        for failure in ("window", "refused", "gone"):
            here.provider.answers = [
                failed(failure, code="10/2018278", why="outside of allowed window: 24 h")
            ]
            message = await here.write(interaction, failure)
            await here.becomes(message, "failed")
            view = await here.stores.messages.get(message)
            assert view is not None
            assert (view.failure, view.code) == (failure, "10/2018278")
            assert view.detail == "outside of allowed window: 24 h"
        assert here.words == []


async def test_a_throttled_account_waits_as_long_as_it_is_told(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path) as here:
        ana, bea = await here.talking("ana"), await here.talking("bea")
        here.provider.answers = [failed("throttled", after_s=60)]
        first = await here.write(ana, "un")
        await here.until(lambda: accounts_told(here) == ["throttled"], "nobody says so")
        second = await here.write(bea, "deux")
        await here.later(50)
        assert here.words == []
        assert (await outbox(here))[first]["tries"] == 0
        await here.later(11)
        await here.becomes(first, "sent")
        await here.becomes(second, "sent")
        await here.until(lambda: accounts_told(here) == ["throttled", "up"], "it is not up again")


async def test_a_revoked_token_keeps_everything_until_somebody_mends_it(
    database: str, tmp_path: Path
) -> None:
    async with office(database, tmp_path) as here:
        ana, bea = await here.talking("ana"), await here.talking("bea")
        here.provider.answers = [failed("token", code="190", why="expired")]
        first = await here.write(ana, "un")
        await here.until(lambda: accounts_told(here) == ["down"], "nobody says so")
        second = await here.write(bea, "deux")
        here.provider.answers = [failed("token")]
        await here.later(301)
        await here.until(lambda: not here.provider.answers, "nothing tries whether it works again")
        await here.later(10)
        assert here.words == []
        assert accounts_told(here) == ["down"]
        await here.line.ok(m.AccountChanged, account="nest", state="up")
        await here.becomes(first, "sent")
        await here.becomes(second, "sent")
        assert await here.stores.outbox.lengths() == {}


async def test_an_account_that_was_down_stays_down_after_a_restart(database: str, tmp_path: Path) -> None:
    clock = HandClock()
    async with Provider() as provider:
        async with office(database, tmp_path, provider=provider, clock=clock) as here:
            ana = await here.talking("ana")
            provider.answers = [failed("account")]
            message = await here.write(ana, "un")
            await here.until(lambda: accounts_told(here) == ["down"], "nobody says so")
        async with office(database, tmp_path, provider=provider, clock=clock) as here:
            await here.later(10)
            assert provider.got == []
            await here.later(300)
            await here.becomes(message, "sent")
            await here.until(lambda: accounts_told(here) == ["up"], "it is not up again")


async def test_the_tree_is_silent_once_an_advisor_has_it(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        await here.told({"kind": "wrote", "id": "1", "from": "ana", "text": "Bonjour"})
        interaction = (await here.message("1"))["interaction"]
        said = await here.write(interaction, "Que puis-je faire ?", author="bot", by="")
        await here.line.ready("a1")
        await here.line.ok(m.InteractionTaken, interaction=interaction, advisor="a1", by="a1")
        answer = await here.write(interaction, "Je m’en occupe")
        async with here.courier:
            await here.becomes(answer, "sent")
            await here.becomes(said, "dropped")
        assert here.words == ["Je m’en occupe"]


async def test_what_a_dead_sender_had_taken_is_perhaps_sent(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        interaction = await here.talking()
        lost, after = await here.write(interaction, "perdu ?"), await here.write(interaction, "après")
        now = here.line.clock.now()
        (due,), _ = await here.stores.outbox.take(now, worker=uuid4(), lease_s=20, limit=10)
        assert due.message == lost
        assert await here.stores.outbox.take(now, worker=uuid4(), lease_s=20, limit=10) == ([], [])
        async with here.courier:
            await here.later(10)
            assert here.words == []
            await here.later(11)
            await here.becomes(lost, "perhaps")
            await here.becomes(after, "sent")
        assert here.words == ["après"]


async def test_an_id_of_our_own_is_known_before_anything_leaves(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path) as here:
        pigeon: Any = here.courier._channels["pigeon"]
        pigeon.mint = lambda out, account, secrets: f"<{out.message}@us>"
        interaction = await here.talking()
        here.provider.answers = ["lost", failed("refused")]
        for text, status in (("perdu", "perhaps"), ("refusé", "failed")):
            message = await here.write(interaction, text)
            await here.becomes(message, status)
            view = await here.stores.messages.get(message)
            assert view is not None
            assert view.external_id == f"<{message}@us>"
            known = await here.stores.messages.known("nest", [f"<{message}@us>"])
            assert [each.message for each in known.values()] == [message]


async def test_a_result_that_was_not_told_is_told_in_the_next_life(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        interaction = await here.talking()
        message = await here.write(interaction, "parti")
        now = here.line.clock.now()
        await here.stores.outbox.take(now, worker=uuid4(), lease_s=20, limit=10)
        await here.stores.outbox.sent(message, "p7", now)
        async with here.courier:
            await here.becomes(message, "sent")
        assert here.words == []


async def test_two_senders_never_take_the_same(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        messages = []
        for n in range(6):
            interaction = await here.talking(f"c{n}", "a1" if n < 3 else "a2")
            who = "a1" if n < 3 else "a2"
            messages += [
                await here.write(interaction, str(n), by=who),
                await here.write(interaction, "puis", by=who),
            ]
        now = here.line.clock.now()
        takes = await asyncio.gather(
            *(here.stores.outbox.take(now, worker=uuid4(), lease_s=20, limit=4) for _ in range(8))
        )
        taken = [due.message for due_, _ in takes for due in due_]
        assert sorted(taken) == sorted(messages[::2])


async def test_a_message_that_went_in_part_is_not_repeated(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        here.provider.answers = [None, failed("transient")]
        message = await here.write(interaction, "première|seconde")
        await here.becomes(message, "perhaps")
        await here.later(100)
        assert here.words == ["première"]


async def test_a_message_in_parts_goes_on_behind_the_last_one_that_was_taken(
    database: str, tmp_path: Path
) -> None:
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        here.provider.answers = [None, failed("transient"), None, failed("throttled", after_s=60)]
        message = await here.write(interaction, "un/deux/trois")
        await here.until(partial(_tried, here, message, 1), "it was not tried")
        await here.later(61)
        await here.until(lambda: here.words == ["un", "deux"], "it does not go on")
        await here.until(lambda: accounts_told(here) == ["throttled"], "nobody says so")
        assert await here.status(message) == "queued"
        await here.later(61)
        await here.becomes(message, "sent")
        assert here.words == ["un", "deux", "trois"]
        view = await here.stores.messages.get(message)
        assert view is not None
        ids = [f"p{n}-{str(message)[:8]}" for n in (1, 2, 3)]
        assert (view.external_id, view.part) == (ids[-1], 0)
        known = await here.stores.messages.known("nest", ids)
        assert [(known[id].message, known[id].part) for id in ids] == [(message, n) for n in (1, 2, 3)]


async def test_a_message_that_is_refused_in_the_middle_says_how_much_of_it_went(
    database: str, tmp_path: Path
) -> None:
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        here.provider.answers = [None, failed("refused", why="no"), None, "lost"]
        for text, status, detail in (("un/deux/trois", "failed", "no"), ("un/deux", "perhaps", "no answer")):
            message = await here.write(interaction, text)
            await here.becomes(message, status)
            view = await here.stores.messages.get(message)
            assert view is not None
            assert (view.part, view.parts, text[view.gone_chars :]) == (1, text.count("/") + 1, text[3:])
            assert view.detail == detail
        await here.later(3600)
        assert here.words == ["un", "un", "deux"]


async def test_a_message_in_parts_is_delivered_and_read_when_its_last_part_is(
    database: str, tmp_path: Path
) -> None:
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        message = await here.write(interaction, "un/deux/trois")
        await here.becomes(message, "sent")
        ids = [f"p{n}-{str(message)[:8]}" for n in (1, 2, 3)]
        mark: dict[str, Any] = {"kind": "receipt", "from": "ana", "status": "delivered"}
        await here.told(mark | {"ids": ids[::2]})
        assert await here.status(message) == "sent"
        await here.told(mark | {"ids": ids[:1], "status": "read"}, mark | {"ids": ids[1:2]})
        assert await here.status(message) == "delivered"
        await here.told(mark | {"ids": ids, "status": "read"})
        assert await here.status(message) == "read"
        await here.told({"kind": "reacted", "from": "ana", "id": ids[0], "emoji": "👍"})
        view = await here.stores.messages.get(message)
        assert view is not None
        assert view.reaction == "👍"


async def test_echoes_of_all_its_parts_settle_a_message_that_is_perhaps_sent(
    database: str, tmp_path: Path
) -> None:
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        here.provider.answers = [None, "lost"]
        message = await here.write(interaction, "un/deux/trois")
        await here.becomes(message, "perhaps")
        echo = {"kind": "echoed", "from": "ana", "ours": str(message)}
        await here.told(echo | {"id": "p-two", "part": [2, 3, 8, 0]})
        view = await here.stores.messages.get(message)
        assert view is not None
        assert (view.status, view.part) == ("perhaps", 2), "the third one never left"
        await here.told(echo | {"id": "p-three", "part": [3, 3, 13, 0]})
        await here.becomes(message, "sent")
        assert here.words == ["un", "deux"]
        assert len(await here.messages()) == 2, "the echo of our own is no message"


async def test_files_go_with_their_bytes_and_a_lost_one_is_told(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path) as here:
        interaction = await here.talking()
        id = uuid4()
        stored = await here.files.keep(png(2, 2), id)
        message = await _with_file(here, interaction, id, stored.path)
        await here.becomes(message, "sent")
        assert here.provider.got[-1]["files"] == [["photo.png", "image/png", len(png(2, 2))]]
        missing = await _with_file(here, interaction, uuid4(), "attachments/00/none")
        await here.becomes(missing, "failed")


async def _with_file(here: Office, interaction: UUID, id: UUID, path: str) -> UUID:
    """A message with a file, of which the desk hears a moment later."""
    message = here.line.ids()
    attached = m.Attached(attachment=id, kind="image", name="photo.png", type="image/png")
    written = {"author": "advisor", "by": "a1", "text": "voici", "attached": (attached,)}
    await here.line.ok(m.MessageWritten, message=message, interaction=interaction, **written)
    digest = hashlib.sha256(png(2, 2)).hexdigest()
    stored = {"path": path, "type": "image/png", "bytes": len(png(2, 2)), "sha256": digest}
    await here.line.ok(m.AttachmentStored, message=message, attachment=id, **stored)
    return message


async def test_typing_is_shown_and_errors_of_it_harm_nobody(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path) as here:
        await here.talking()
        thread = (await here.message("first of ana"))["thread"]
        await here.courier.act(thread, "typing_on", "First1")
        here.provider.answers = [failed("refused"), "lost"]
        await here.courier.act(thread, "typing_off")
        await here.courier.act(thread, "seen")
        await here.courier.act(uuid4(), "seen")
        assert [each["act"] for each in here.provider.got] == ["typing_on", "seen"]
        assert await outbox(here) == {}


def test_a_failure_is_kept_in_one_line() -> None:
    failure = c.Failed(c.Failure.WINDOW, "10/2018278", "outside: of the\x00 window")
    assert written(failure) == "window 10/2018278: outside: of the window"
    assert read(written(failure)) == ("window", "10/2018278", "outside: of the window")
    assert read(written(c.Failed(c.Failure.GONE))) == ("gone", "", "")


async def test_a_public_link_opens_one_file_for_an_hour(database: str, tmp_path: Path) -> None:
    async with office(database, tmp_path, courier=False) as here:
        here.provider.files["a.png"] = png(3, 3)
        file = {"kind": "image", "name": "é.png", "url": f"{here.provider.base}/files/a.png"}
        await here.told({"kind": "wrote", "id": "1", "from": "ana", "files": [file]})
        (row,) = await here.rows("SELECT id FROM attachment")
        links = Links(
            public_url="http://here/",
            secret=b"s" * 32,
            clock=here.line.clock,
            messages=here.stores.messages,
            files=Fetcher(tmp_path),
        )
        app = web.Application()
        app.router.add_get("/files/{id}", links.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        at = web.TCPSite(runner, "127.0.0.1", 0)
        await at.start()
        assert at._server is not None
        port = at._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        link = links.link(row["id"]).replace("http://here", f"http://127.0.0.1:{port}")
        async with ClientSession() as http:
            async with http.get(link) as response:
                assert response.status == 200
                assert await response.read() == png(3, 3)
                assert response.content_type == "image/png"
                assert "sandbox" in response.headers["Content-Security-Policy"]
            for wrong in (link[:-1], link.replace("until=1", "until=2"), link.partition("?")[0], link + "é"):
                async with http.get(wrong) as response:
                    assert response.status == 404
            here.line.clock.pass_(LIFE_S + 1)
            async with http.get(link) as response:
                assert response.status == 404
        await runner.cleanup()
