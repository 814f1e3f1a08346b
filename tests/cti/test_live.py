"""The live wire: snapshot, order, resume without gap or double, who sees what, and who does not read."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from prometheus_client import REGISTRY

from cti.aio.live import KERNEL_BYTES, Live
from cti.aio.page import QUEUE_BYTES
from routing import models as m
from routing.models import T
from tests.cti.house import house


async def test_a_page_begins_with_the_whole_picture(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        browser = await at.browser("a1")
        await at.line.ready("a1")
        async with browser.page() as page:
            first = await page.next()
            assert first["type"] == "snapshot"
            assert first["seq"] == at.line.desk.seq
            data = first["data"]
            assert data["me"]["login"] == "a1"
            assert data["me"]["phone"] == {"account": "101", "registered": True}
            assert (data["presence"]["presence"], data["presence"]["work"]) == ("ready", "idle")
            assert (data["offers"], data["interactions"]) == ([], [])
            assert [q["id"] for q in data["queues"]] == ["general", "billing"]
            assert {r["queue"] for r in data["board"]["rows"]} == {"general", "billing"}
            assert [c["id"] for c in data["wrapup_codes"]] == ["done", "later"]
            assert [a["advisor"] for a in data["board"]["advisors"]] == ["a1"]  # no colleagues for advisors


async def test_an_offer_comes_with_its_pop_and_the_phone_rings_when_the_page_has_shown_it(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        at.control.pop_wait_s = 20.0
        browser = await at.browser("a1")
        await at.line.ready("a1")
        async with browser.page() as page:
            await page.next("snapshot")
            call = await at.waiting.call("06 11 22 33 44")
            made = (await page.next("offer.made"))["data"]
            assert made["interaction"]["id"] == str(call)
            assert made["pop"]["e164"] == "+33611223344"
            assert made["pop"]["received_number"] == "06 11 22 33 44"
            assert made["pop"]["kind"] == "first"
            assert made["pop"]["case"]["number"] >= 1
            assert made["pop_at"] == "ring"
            assert at.switch.placed == []
            await page.say(type="shown", offer=made["id"])
            await at.switch.until(lambda: at.switch.placed)
            await at.control.settled()
            assert at.control.pops_shown == 1


async def test_a_missed_offer_shows_in_the_presence_as_it_stands_at_the_desk(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        browser = await at.browser("a1")
        await at.line.ready("a1")
        async with browser.page() as page:
            await page.next("snapshot")
            await at.waiting.call()
            made = (await page.next("offer.made", within_s=20.0))["data"]
            await at.line.ok(m.OfferRefused, offer=UUID(made["id"]), reason="no_answer")
            page.frames.clear()
            await page.until_seq(await at.settle())
            shown = [f["data"] for f in page.frames if f["type"] == "presence.changed"]
            row = at.line.desk.advisor("a1")
            assert row is not None
            assert (row.misses, shown[-1]["misses"]) == (1, 1)


async def test_only_the_advisors_own_page_can_say_that_an_offer_is_shown(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        at.control.pop_wait_s = 0.2
        one, two = await at.browser("a1"), await at.browser("a2")
        await at.line.ready("a1")
        async with one.page() as page, two.page() as other:
            await page.next("snapshot")
            await other.next("snapshot")
            await at.waiting.call()
            made = (await page.next("offer.made"))["data"]
            await other.say(type="shown", offer=made["id"])
            await at.switch.until(lambda: at.switch.placed)
            await at.control.settled()
            assert at.control.pops_missed == 1
            await other.until_seq(await at.settle())
            assert not [f for f in other.frames if f["type"] in {"offer.made", "interaction.changed"}]


async def test_a_reload_during_a_call_shows_the_call_again(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        browser = await at.browser("a1")
        await at.line.ready("a1")
        call = await at.waiting.call()
        await at.switch.until(lambda: f"{call}.2" in at.switch.legs)
        async with browser.page() as page:
            [offer] = (await page.next("snapshot"))["data"]["offers"]
            assert offer["pop"]["interaction"] == str(call)
        at.switch.pick_up(f"{call}.2")
        await at.switch.until(lambda: at.switch.legs[f"{call}.2"].joined)
        async with browser.page() as page:
            data = (await page.next("snapshot"))["data"]
            assert data["offers"] == []
            [shown] = data["interactions"]
            assert (shown["id"], shown["state"], shown["recording"]) == (str(call), "active", True)
            assert data["presence"]["work"] == "talking"


STORY = ("call", "note", "hold", "presence", "reach")


async def drive(at: Any, rng: random.Random, case: Any, calls: list[Any]) -> None:
    """Something happens in the house."""
    match rng.choice(STORY):
        case "call":
            if calls:
                await at.line.tell(m.TalkEnded, interaction=calls[-1], by="customer")
                await at.line.tell(m.WrapupDone, interaction=calls.pop(), code="done", by="a1")
            else:
                call = await at.line.call(f"+336112233{rng.randrange(10, 99)}")
                await at.line.tell(m.FactsLearned, interaction=call, facts={"parcel": "8R123"})
                calls.append(call)
        case "note":
            await at.line.tell(m.NoteWritten, case=case, note=at.line.ids(), text=f"{rng.random()}", by="a1")
        case "hold":
            for call in calls:
                row = at.line.desk.interaction(call)
                if row.offer:
                    await at.line.tell(m.OfferAccepted, offer=row.offer)
                else:
                    await at.line.tell(m.HoldChanged, interaction=call, held=not row.held)
        case "presence":
            reason = rng.choice(["lunch", "break"])
            await at.line.tell(m.PresenceSet, advisor="a2", presence=m.Presence.PAUSE, reason=reason)
        case "reach":
            await at.line.tell(m.ReachChanged, advisor="a2", channel="voice", reachable=rng.random() < 0.5)


async def test_a_page_that_comes_back_has_missed_nothing_and_sees_nothing_twice(
    database: str, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    async with house(database, tmp_path) as at:
        browser, steady = await at.browser("a1"), await at.browser("a1")
        await at.line.ready("a1")
        await at.line.tell(m.PresenceSet, advisor="a2", presence=m.Presence.OFFLINE)
        call = await at.line.call(queue=None)
        await at.line.tell(m.CustomerLeft, interaction=call)
        case = at.line.desk.interaction(call).case_id  # type: ignore[union-attr]
        at.live.looks_at("a1", case)
        calls: list[Any] = []
        async with steady.page() as whole:
            await whole.next("snapshot")
            start = whole.seq
            parts: list[tuple[int, str]] = []
            after = start
            for _ in range(6):
                for _ in range(rng.randrange(4)):
                    await drive(at, rng, case, calls)
                async with browser.page(after) as page:
                    driving = asyncio.ensure_future(drive(at, rng, case, calls))
                    for _ in range(rng.randrange(1, 4)):
                        await page.say(type="ping")
                        await page.next("pong")
                    await driving
                    after = page.seq
                    parts += page.mains()
            async with browser.page(after) as page:
                await page.until_seq(await at.settle())
                parts += page.mains()
            await whole.until_seq(at.line.desk.seq)
            assert parts == whole.mains()
            assert len(parts) > 3


async def test_too_far_behind_or_from_the_future_gets_a_snapshot(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cti.aio.live.RESUME_EVENTS", 1)
    async with house(database, tmp_path) as at:
        browser = await at.browser("a1")
        await at.line.ready("a1", "a2")
        for after in (0, 10**12):
            async with browser.page(after) as page:
                assert (await page.next())["type"] == "snapshot"


async def test_frames_of_one_event_go_out_together_and_the_main_one_bears_its_number(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path, board_every_s=60) as at:
        browser = await at.browser("a1")
        await at.line.ready("a1")
        async with browser.page() as page:
            await page.next("snapshot")
            call = await at.waiting.call()
            await page.next("offer.made")
            [made] = [e for e in at.line.heard if e.type is T.OFFERED]
            of_event = [f for f in page.frames if f["seq"] in {made.seq - 1, made.seq}]
            assert [f["type"] for f in of_event][-1] == "offer.made"
            assert of_event[-1]["id"] == str(made.id)
            beside = [f for f in of_event[:-1] if "id" not in f]
            assert {"presence.changed", "interaction.changed"} <= {f["type"] for f in beside}
            assert all(f["seq"] == made.seq - 1 for f in beside)
            at.switch.end(f"{call}.1")


async def test_the_board_is_told_at_most_once_a_period_and_only_when_it_changed(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path, board_every_s=0.2) as at:
        browser, narrow = await at.browser("a3"), await at.browser("a1")
        loop = asyncio.get_running_loop()
        async with browser.page() as page:
            await page.next("snapshot")
            begun = loop.time()
            for _ in range(10):
                await at.line.ready("a1")
                await at.line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.OFFLINE)
            await at.line.ready("a1")
            while True:
                board = await page.next("board.changed")
                if board["data"]["rows"][0]["advisors"]["ready"] == 1:
                    break
            count = sum(f["type"] == "board.changed" for f in page.frames)
            assert count <= (loop.time() - begun) / 0.2 + 1
            assert "id" not in board
            assert {a["advisor"] for a in board["data"]["advisors"]} >= {"a1", "a2"}  # supervisors see all
            async with narrow.page() as mine:
                await at.line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.OFFLINE)
                told = await mine.next("board.changed")
                assert [a["advisor"] for a in told["data"]["advisors"]] == ["a1"]
                assert told["data"]["rows"] == (await narrow.get("/board"))["rows"]


async def test_who_watches_the_trees_is_told_who_is_inside(database: str, tmp_path: Path) -> None:
    inside: dict[str, dict[int, dict[str, int]]] = {"accueil": {1: {"menu": 2}, 2: {"menu": 1, "end": 1}}}
    async with house(database, tmp_path, inside=lambda: inside) as at:
        browser = await at.browser("a3")
        async with browser.page() as page:
            await page.say(type="watch", topic="trees")
            told = await page.next("trees.inside")
            assert told["data"] == {"tree": "accueil", "inside": {"menu": 3, "end": 1}}
            inside.clear()
            told = await page.next("trees.inside")
            assert told["data"] == {"tree": "accueil", "inside": {}}


@pytest.mark.parametrize("text", ["{", '{"type":"shout"}', '{"type":"shown"}', "[" * 4000])
async def test_a_page_that_talks_nonsense_is_closed(database: str, tmp_path: Path, text: str) -> None:
    async with house(database, tmp_path) as at:
        browser = await at.browser("a1")
        async with browser.page() as page:
            await page.next("snapshot")
            await page.socket.send_str(text)
            assert await page.farewell() == 1008


async def test_another_sites_page_and_strangers_get_no_socket(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        browser, stranger = await at.browser("a1"), await at.browser()
        url = f"{at.base}/api/v1/events"
        for http, origin, status in (
            (browser.http, "https://evil.example", 403),
            (browser.http, None, 403),
            (stranger.http, at.base, 401),
        ):
            headers = {"Origin": origin} if origin else {}
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(url, headers=headers)
            assert refused.value.status == status


async def test_signing_out_closes_the_page(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        browser = await at.browser("a1")
        async with browser.page() as page:
            await page.next("snapshot")
            assert (await browser.ask("DELETE", "/session"))[0] == 204
            assert await page.farewell() == 1008
        assert (await browser.ask("GET", "/session"))[0] == 401


async def test_a_session_ended_elsewhere_closes_its_page_and_roles_follow_the_site(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        at.live.recheck_every_s = 0.01
        browser, other = await at.browser("a1"), await at.browser("a2")
        async with browser.page() as page, other.page() as stays:
            await page.next("snapshot")
            await stays.next("snapshot")
            await at.stores.people.set_password_hash("a1", "changed by the command line")
            await at.live._recheck()
            assert await page.farewell() == 1008
            await stays.say(type="ping")
            await stays.next("pong")


def stopped_reader(at: Any, cookie: str) -> socket.socket:
    """A page that shakes hands and then never reads, with a small window."""
    host, port = at.base.removeprefix("http://").split(":")
    it = socket.socket()
    it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    it.connect((host, int(port)))
    it.sendall(
        (
            f"GET /api/v1/events HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {at.base}\r\nCookie: {cookie}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
    )
    return it


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
async def test_a_page_that_stops_reading_is_closed_and_costs_the_others_nothing(
    database: str, tmp_path: Path, letter: str
) -> None:
    code = letter * (50_000 // len(letter.encode()))
    async with house(database, tmp_path) as at:
        browser = await at.browser("a1")
        [morsel] = [c for c in browser.http.cookie_jar if c.key == "monofil_session"]
        cookie = f"monofil_session={morsel.value}"
        before = slow_pages()
        async with browser.page() as good:
            await good.next("snapshot")
            readers = set(at.live.pages)
            stuck = await asyncio.to_thread(stopped_reader, at, cookie)
            try:
                await at.switch.until(lambda: len(at.live.pages) == 2)
                [page] = at.live.pages - readers
                await at.switch.until(lambda: page.catching_up is None)
                told = largest = 0
                while page.closing is None:
                    at.live.tell("a1", "notice", {"level": "info", "code": code, "args": {}})
                    told += 50_000
                    largest = max(largest, page.queued_bytes)
                    await good.next("notice")  # the other page has it at once
                assert slow_pages() == before + 1, "it is counted when it is given up"
                assert largest <= QUEUE_BYTES
                assert told <= QUEUE_BYTES + 2 * KERNEL_BYTES + 200_000, (
                    "the kernel holds no more than it may"
                )
                await at.switch.until(lambda: len(at.live.pages) == 1)
            finally:
                stuck.close()


def slow_pages() -> float:
    return REGISTRY.get_sample_value("monofil_pages_slow_total") or 0.0


async def test_a_page_too_far_behind_is_asked_to_come_back_later(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        browser = await at.browser("a1")
        async with browser.page() as page:
            await page.next("snapshot")
            after = page.seq
            for _ in range(3):
                at.live.tell("a1", "notice", {"level": "info", "code": "x" * 500_000, "args": {}})
            assert await page.farewell() == 1013
        async with browser.page(after) as page:
            assert (await page.next())["type"] == "board.changed"


async def test_guessing_is_shown_to_admins_at_once(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        admin, advisor, guesser = (await at.browser("a4"), await at.browser("a1"), await at.browser())
        async with admin.page() as page, advisor.page() as other:
            await page.next("snapshot")
            await other.next("snapshot")
            for _ in range(3):
                assert await guesser.sign_in("a1", "wrong") == 401
            told = await page.next("notice")
            assert (told["data"]["code"], told["data"]["args"]["login"]) == ("guessing", "a1")
            await other.say(type="ping")
            await other.next("pong")
            assert not [f for f in other.frames if f["type"] == "notice"]


async def test_hostile_text_arrives_as_text_in_frames(database: str, tmp_path: Path) -> None:
    nasty = '"><script>alert(1)</script>\u202e\u2028'
    async with house(database, tmp_path) as at:
        browser = await at.browser("a1")
        await at.line.ready("a1")
        async with browser.page() as page:
            await page.next("snapshot")
            await at.line.call(nasty, name=nasty)
            made = await page.next("offer.made")
            assert made["data"]["pop"]["received_number"] == nasty
            assert json.loads(json.dumps(made)) == made


async def test_a_written_offer_brings_the_last_words_and_messages_reach_who_has_it(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me, colleague = await at.browser("a1"), await at.browser("a2")
        await at.line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.READY)
        async with me.page() as page, colleague.page() as other:
            first = (await page.next("snapshot"))["data"]
            await other.next("snapshot")
            assert [a["account"] for a in first["accounts"]] == ["page", "post"]
            assert first["channels"]["messenger"]["text_chars"] == 2000
            assert first["channels"]["email"]["seat"] == "mail"
            assert first["tags"] == ["urgent", "lost parcel"]
            assert "spam" in first["archive_reasons"]
            chat = await at.write("Où est mon colis ?")
            made = (await page.next("offer.made"))["data"]
            assert made["interaction"]["channel"] == "messenger"
            assert made["pop"]["call"] is None
            assert [x["text"] for x in made["pop"]["last_messages"]] == ["Où est mon colis ?"]
            assert (await me.ask("POST", f"/offers/{made['id']}/accept"))[0] == 204
            await at.write("Numéro X1")
            added = (await page.next("message.added"))["data"]["message"]
            assert (added["text"], added["author"]) == ("Numéro X1", "customer")
            await page.until_seq(await at.settle())
            shown = [f["data"] for f in page.frames if f["type"] == "interaction.changed"]
            assert (shown[-1]["id"], shown[-1]["unread"]) == (str(chat), 2)
            assert [f for f in page.frames if f["type"] == "thread.changed"]
            said = {"message": str(at.line.ids()), "text": "Merci"}
            status, sent = await me.ask("POST", f"/interactions/{chat}/messages", said)
            assert status == 201
            await at.become(sent["id"], "sent", external_id="x1")
            changed = (await page.next("message.changed"))["data"]["message"]
            assert (changed["id"], changed["status"]) == (sent["id"], "sent")
            await at.write("ok")
            await page.next("message.added")
            assert (await me.ask("POST", f"/interactions/{chat}/seen"))[0] == 204
            seen = await page.next("interaction.changed")
            while seen["data"]["unread"]:
                seen = await page.next("interaction.changed")
            await other.until_seq(await at.settle())
            assert not [f for f in other.frames if f["type"].startswith(("message.", "thread.", "offer."))]
            assert [f for f in other.frames if f["type"] == "inbox.changed"]
        assert at.switch.placed == []


async def test_an_offer_made_before_the_wire_was_open_is_shown_and_can_be_accepted(
    database: str, tmp_path: Path
) -> None:
    """At a restart the desk offers anew what waits, before anybody listens."""
    async with house(database, tmp_path) as at:
        await at.line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.READY)
        await at.write("Où est mon colis ?")
        (offer,) = at.line.desk.offers()
        line = at.live
        async with Live(
            desk=line.desk, stores=line.stores, site=line.site, clock=line.clock, channels=line.views.channels
        ) as later:
            made = later.floor.open_offer(offer.id)
            assert made is not None
            assert (made.advisor, made.interaction) == ("a1", offer.interaction)


async def test_who_looks_and_types_in_a_case_is_shown_to_all_who_have_it_open(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        one, two, three = await at.browser("a1"), await at.browser("a2"), await at.browser("a3")
        chat = await at.write()
        row = at.line.desk.interaction(chat)
        assert row is not None
        case = str(row.case_id)
        async with one.page() as mine, three.page() as elsewhere:
            await mine.next("snapshot")
            await elsewhere.next("snapshot")
            await mine.say(type="viewing", case=case, doing="viewing")
            told = (await mine.next("case.viewers"))["data"]
            assert told == {
                "case": case,
                "viewers": [{"login": "a1", "first_name": "First1", "doing": "viewing"}],
            }
            async with two.page() as theirs:
                await theirs.next("snapshot")
                await theirs.say(type="viewing", case=case, doing="typing")
                told = (await mine.next("case.viewers"))["data"]
                assert [(v["login"], v["doing"]) for v in told["viewers"]] == [
                    ("a1", "viewing"),
                    ("a2", "typing"),
                ]
                at.live.customer_typing(chat, True)
                assert (await mine.next("customer.typing"))["data"] == {"interaction": str(chat), "on": True}
                for since in (at.line.clock.now(), None):
                    at.live.customer_gone(chat, since)
                    told = (await mine.next("customer.gone"))["data"]
                    when = None if since is None else since.isoformat()
                    assert told == {"interaction": str(chat), "since": when}
                    seen = (await one.get(f"/interactions/{chat}"))["gone_since"]
                    assert (datetime.fromisoformat(seen) if seen else None) == since
            told = (await mine.next("case.viewers"))["data"]
            assert [v["login"] for v in told["viewers"]] == ["a1"]  # the other page was closed
            await at.line.ok(m.NoteWritten, case=UUID(case), note=at.line.ids(), text="x", by="a3")
            assert (await mine.next("timeline.added"))["data"]["case"] == case
            assert not [f for f in elsewhere.frames if f["type"] in {"case.viewers", "customer.typing"}]


async def test_help_and_accounts_are_told_to_everybody(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me, colleague = await at.browser("a1"), await at.browser("a2")
        chat = await at.write()
        async with colleague.page() as page:
            await page.next("snapshot")
            _, asked = await me.ask("POST", f"/interactions/{chat}/help", {"text": "Douane ?"})
            told = (await page.next("help.changed"))["data"]["help"]
            assert (told["id"], told["text"], told["answer"]) == (asked["id"], "Douane ?", "")
            await at.line.ok(m.AccountChanged, account="page", state="down", reason="token")
            told = (await page.next("account.changed"))["data"]["account"]
            assert (told["account"], told["state"], told["name"]) == ("page", "down", "Postal")
        async with colleague.page() as page:
            first = (await page.next("snapshot"))["data"]
            assert [h["id"] for h in first["helps"]] == [asked["id"]]
            assert first["accounts"][0]["state"] == "down"


async def test_the_board_has_a_row_for_each_kind_of_seat(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        await at.line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.PAUSE, reason="break")
        chat = await at.write()
        await at.write("Bonjour", "c@example.org", account="post")
        await at.settle()
        board = await me.get("/board")
        waiting = {(r["queue"], r["channel"]): r["waiting"] for r in board["rows"]}
        assert (waiting["general", "chat"], waiting["general", "mail"], waiting["general", "voice"]) == (
            1,
            1,
            0,
        )
        listed = await me.get("/interactions?queue=general&channel=chat&figure=waiting")
        assert [i["id"] for i in listed["items"]] == [str(chat)]
        await me.ask("POST", f"/interactions/{chat}/take")
        await at.settle()
        [row] = [
            r for r in (await me.get("/board"))["rows"] if (r["queue"], r["channel"]) == ("general", "chat")
        ]
        assert (row["waiting"], row["answered"]) == (0, 1)
        async with me.page() as page:
            data = (await page.next("snapshot"))["data"]
            assert data["presence"]["work"] == "talking"
            [shown] = data["interactions"]
            assert (shown["id"], shown["unread"]) == (str(chat), 1)


async def test_a_page_that_comes_back_hears_the_messages_that_it_has_missed(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        await at.line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.PAUSE, reason="break")
        chat = await at.write()
        await me.ask("POST", f"/interactions/{chat}/take")
        async with me.page() as page:
            await page.next("snapshot")
            last = page.seq
        await at.write("Vous êtes là ?")
        said = {"message": str(at.line.ids()), "text": "Oui"}
        _, sent = await me.ask("POST", f"/interactions/{chat}/messages", said)
        await at.become(sent["id"], "sent", external_id="x1")
        async with me.page(after=last) as page:
            await page.until_seq(await at.settle())
            assert "snapshot" not in [f["type"] for f in page.frames]
            added = [f["data"]["message"] for f in page.frames if f["type"] == "message.added"]
            assert [x["text"] for x in added] == ["Vous êtes là ?", "Oui"]
            [changed] = [f["data"]["message"] for f in page.frames if f["type"] == "message.changed"]
            assert (changed["id"], changed["status"]) == (sent["id"], "sent")
            shown = [f["data"] for f in page.frames if f["type"] == "interaction.changed"]
            assert shown[-1]["unread"] == 0


async def test_each_of_many_messages_reaches_an_open_page_once(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        await at.line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.PAUSE, reason="break")
        chat = await at.write()
        await me.ask("POST", f"/interactions/{chat}/take")
        async with me.page() as page:
            await page.next("snapshot")
            before = asyncio.get_running_loop().time()
            await asyncio.gather(*(at.write(f"{n}", "P1", queue=None) for n in range(100)))
            await page.until_seq(await at.settle())
            took_s = asyncio.get_running_loop().time() - before
            texts = [f["data"]["message"]["text"] for f in page.frames if f["type"] == "message.added"]
            assert sorted(texts, key=int) == [str(n) for n in range(100)]
            print(f"100 messages reached the page {took_s:.2f} s after the first was written")


async def test_an_offer_waits_for_nothing_that_only_others_are_told_and_each_page_keeps_the_order(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(database, tmp_path) as at:
        me, colleague = await at.browser("a1"), await at.browser("a2")
        await at.line.tell(m.PresenceSet, advisor="a2", presence=m.Presence.PAUSE, reason="break")
        chat = await at.write()
        await colleague.ask("POST", f"/interactions/{chat}/take")
        await at.line.ready("a1")
        async with me.page() as page, colleague.page() as other:
            await page.next("snapshot")
            await other.next("snapshot")
            await at.settle()
            asked, answer = asyncio.Event(), asyncio.Event()
            read = at.stores.messages.thread

            async def slow(thread: UUID) -> Any:
                asked.set()
                await answer.wait()
                return await read(thread)

            monkeypatch.setattr(at.stores.messages, "thread", slow)
            before = at.line.desk.seq
            await at.write("Vous êtes là ?")
            await asyncio.wait_for(asked.wait(), 10.0)
            await at.line.tell(m.PresenceSet, advisor="a2", presence=m.Presence.PAUSE, reason="lunch")
            call = await at.waiting.call()
            made = await page.next("offer.made")
            assert made["data"]["interaction"]["id"] == str(call)
            await other.say(type="ping")
            assert (await other.next("pong"))["seq"] == at.live.told == before
            assert not [f for f in other.frames if f["seq"] > before]
            answer.set()
            await other.until_seq(await at.settle())
            numbers = [f["seq"] for f in other.frames]
            assert numbers == sorted(numbers)
            told = [f["type"] for f in other.frames if f["seq"] > before]
            assert told.index("message.added") < told.index("presence.changed")
            at.switch.end(f"{call}.1")
