"""Written channels through the API: who answers, what is refused and why, and how a case goes on elsewhere."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import aiohttp
import pytest

from cti.aio.uploads import KEPT, Uploads
from routing import models as m
from routing.channel import Part
from tests.cti.house import Browser, House, house

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001"
    "e221bc330000000049454e44ae426082"
)


def words(text: str = "Bonjour, je regarde.", **more: Any) -> dict[str, Any]:
    return {"message": str(uuid4()), "text": text, **more}


async def taken(at: House, me: Browser, who: str = "P1", **more: Any) -> UUID:
    """A customer's message that this advisor has taken."""
    await presence(at, m.Presence.PAUSE, "a1")
    chat = await at.write(who=who, **more)
    status, told = await me.ask("POST", f"/interactions/{chat}/take")
    assert (status, told["state"], told["advisor"]) == (200, "active", "a1"), told
    return chat


async def presence(at: House, presence: m.Presence, *advisors: str) -> None:
    """Paused ones are offered nothing, and can take what they like."""
    for advisor in advisors:
        await at.line.tell(
            m.PresenceSet, advisor=advisor, presence=presence, reason="break" if presence == "pause" else None
        )


async def test_an_offer_on_a_written_channel_is_accepted_and_answered_by_http(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        await presence(at, m.Presence.READY, "a1")
        chat = await at.write("Où est mon colis ?")
        [offer] = at.line.desk.offers()
        whole = await me.get(f"/interactions/{chat}")
        assert (whole["channel"], whole["seat"], whole["account"], whole["unread"]) == (
            "messenger",
            "chat",
            "page",
            1,
        )
        assert [x["text"] for x in whole["pop"]["last_messages"]] == ["Où est mon colis ?"]
        assert (await me.ask("POST", f"/offers/{offer.id}/accept"))[0] == 204
        assert at.line.state(chat) == "active"
        assert at.switch.placed == []
        status, message = await me.ask("POST", f"/interactions/{chat}/messages", words())
        assert (status, message["status"], message["by"], message["by_name"]) == (
            201,
            "queued",
            "a1",
            "First1",
        )
        assert (message["author"], message["channel"], message["direction"]) == (
            "advisor",
            "messenger",
            "out",
        )
        assert (await me.get(f"/interactions/{chat}"))["unread"] == 0
        case = await me.get(f"/cases/{whole['case']}")
        assert [x["text"] for x in case["messages"]] == ["Où est mon colis ?", "Bonjour, je regarde."]
        [thread] = case["threads"]
        assert (thread["live"], thread["last_out"], thread["window"]["state"]) == (
            str(chat),
            message["id"],
            "open",
        )
        assert [i["data"]["message"] for i in case["timeline"] if i["kind"] == "message"] == [
            x["id"] for x in case["messages"]
        ]
        status, told = await me.ask(
            "POST", f"/interactions/{chat}/close", {"outcome": "answered", "code": "done"}
        )
        assert (status, told["state"], told["outcome"], told["code"]) == (200, "ended", "answered", "done")
        status, told = await me.ask("POST", f"/interactions/{chat}/messages", words(over=message["id"]))
        assert (status, told["type"]) == (409, "/problems/over")


async def test_of_two_who_take_one_interaction_one_wins_and_the_other_is_told_who(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        one, two = await at.browser("a1"), await at.browser("a2")
        await presence(at, m.Presence.PAUSE, "a1", "a2")
        for n in range(5):
            chat = await at.write(who=f"P{n}")
            taking = (each.ask("POST", f"/interactions/{chat}/take") for each in (one, two))
            answers = await asyncio.gather(*taking)
            won = [told for status, told in answers if status == 200]
            lost = [told for status, told in answers if status == 409]
            assert len(won) == len(lost) == 1, answers
            assert lost[0]["type"] == "/problems/taken"
            assert lost[0]["holder"] == won[0]["advisor"]
            assert lost[0]["holder_name"] in lost[0]["detail"]
            loser = two if won[0]["advisor"] == "a1" else one
            status, told = await loser.ask("POST", f"/interactions/{chat}/messages", words())
            assert (status, told["type"]) == (409, "/problems/taken")
            winner = one if loser is two else two
            assert (await winner.ask("POST", f"/interactions/{chat}/close", {"outcome": "answered"}))[
                0
            ] == 200


async def test_a_chat_is_put_on_hold_by_who_has_it_and_taken_up_again(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me, other = await at.browser("a1"), await at.browser("a2")
        chat = await taken(at, me)
        status, told = await other.ask("POST", f"/interactions/{chat}/hold")
        assert (status, told["type"]) == (409, "/problems/taken")
        status, told = await me.ask("POST", f"/interactions/{chat}/hold")
        assert (status, told["held"], told["state"], told["advisor"]) == (200, True, "active", "a1")
        status, told = await me.ask("POST", f"/interactions/{chat}/resume")
        assert (status, told["held"]) == (200, False)
        waits = await at.write(who="P2")
        status, told = await me.ask("POST", f"/interactions/{waits}/hold")
        assert (status, told["type"]) == (409, "/problems/not_now")


async def test_the_board_tells_how_many_conversations_of_an_advisor_are_written(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        await taken(at, me)
        await taken(at, me, who="P2")
        mine = at.live.floor.presence("a1")
        assert mine is not None
        assert (mine.work, mine.written, len(mine.interactions)) == ("talking", 2, 2)
        [seen] = [one for one in at.live.floor.board().advisors if one.advisor == "a1"]
        assert seen.written == 2
        [row, *_] = at.live.floor.board().rows
        assert (row.advisors.talking, row.advisors.writing) == (0, 1)


async def test_the_same_message_is_never_sent_twice(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me, colleague = await at.browser("a1"), await at.browser("a2")
        await presence(at, m.Presence.PAUSE, "a2")
        chat = await taken(at, me)
        said = words()
        answers = await asyncio.gather(
            *(me.ask("POST", f"/interactions/{chat}/messages", said) for _ in range(4))
        )
        assert {(status, told["id"]) for status, told in answers} == {(201, said["message"])}
        messages = await at.stores.messages.of_interaction(chat)
        assert len(messages) == 2
        assert (await me.ask("POST", f"/interactions/{chat}/messages", said))[0] == 201
        for other in (
            {"text": "Autre chose"},
            {"buttons": [{"title": "Oui"}]},
            {"reply_to": str(messages[0].id)},
        ):
            status, told = await me.ask("POST", f"/interactions/{chat}/messages", said | other)
            assert (status, told["type"]) == (409, "/problems/known-message"), other
            assert "new message" in told["detail"]
        mine = await at.write(who="P9")
        await colleague.ask("POST", f"/interactions/{mine}/take")
        status, told = await colleague.ask("POST", f"/interactions/{mine}/messages", said)
        assert (status, told["type"]) == (409, "/problems/known-message")


async def test_over_a_newer_reply_consent_is_needed(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        chat = await taken(at, me)
        _, first = await me.ask("POST", f"/interactions/{chat}/messages", words("Un instant"))
        second = words("Il arrive demain")
        headers = {"Accept-Language": "fr"}
        status, told = await me.ask("POST", f"/interactions/{chat}/messages", second, **headers)
        assert (status, told["type"]) == (409, "/problems/newer-reply")
        assert (told["who"], told["text"], told["message"]) == ("a1", "Un instant", first["id"])
        assert told["detail"].startswith("First1 a répondu entre-temps : « Un instant »")
        status, told = await me.ask("POST", f"/interactions/{chat}/messages", second | {"consent": True})
        assert (status, told["id"]) == (201, second["message"])
        status, _ = await me.ask("POST", f"/interactions/{chat}/messages", words(over=second["message"]))
        assert status == 201


async def test_a_window_says_until_when_and_what_can_be_done_instead(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        chat = await taken(at, me)
        at.line.clock.pass_(25 * 3600)
        me = await at.browser("a1")
        case = (await me.get(f"/interactions/{chat}"))["case"]
        [thread] = (await me.get(f"/cases/{case}"))["threads"]
        assert thread["window"]["state"] == "tag"
        status, told = await me.ask("POST", f"/interactions/{chat}/messages", words())
        assert status == 201
        [row] = await at.query("SELECT tagged FROM message WHERE direction = 'out'")
        assert row["tagged"] is True
        at.line.clock.pass_(6 * 24 * 3600)
        me = await at.browser("a1")
        status, late = await me.ask("POST", f"/interactions/{chat}/messages", words(over=told["id"]))
        assert (status, late["type"]) == (409, "/problems/window-closed")
        assert late["instead"] == ["email", "call"], "the week of the tag is over too"
        assert late["until"].startswith("2026-11-30T09:00")


async def test_what_the_channel_cannot_carry_is_refused_before_it_is_sent(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        chat = await taken(at, me)
        for said, kind in (
            (words("x" * 2001), "too-long"),
            (words("Bonjour {{ contact.name }}"), "unknown-variable"),
            (words(" "), "empty"),
            (words(subject="Colis"), "not-on-this-channel"),
            (words(html="<b>x</b>"), "not-on-this-channel"),
            (words(buttons=[{"title": str(n)} for n in range(14)]), "not-on-this-channel"),
            (words(buttons=[{"title": "x" * 21}]), "too-long"),
            (words(attachments=[str(uuid4())]), "not-attached"),
        ):
            status, told = await me.ask("POST", f"/interactions/{chat}/messages", said)
            assert (status, told["type"]) == (422, f"/problems/{kind}"), told
        assert len(await at.stores.messages.of_interaction(chat)) == 1


async def test_canned_answers_are_filled_for_the_case_and_name_what_is_missing(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        chat = await taken(at, me)
        [hello] = (await me.get(f"/templates?interaction={chat}"))["items"]
        assert (hello["id"], hello["missing"]) == ("hello", ["contact.name"])
        contact = (await me.get(f"/interactions/{chat}"))["contact"]
        assert (await me.ask("PATCH", f"/contacts/{contact}", {"name": "Claire"}))[0] == 200
        [hello] = (await me.get(f"/templates?interaction={chat}"))["items"]
        assert (hello["text"], hello["missing"]) == ("Bonjour Claire, ici First1.", [])
        assert {t["id"] for t in (await me.get("/templates"))["items"]} == {"hello", "bill"}


async def test_a_case_goes_on_by_phone_in_the_same_seat_and_by_email(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        await at.line.ready("a1")
        chat = await at.write()
        [offer] = at.line.desk.offers()
        await me.ask("POST", f"/offers/{offer.id}/accept")
        whole = await me.get(f"/interactions/{chat}")
        case, contact = whole["case"], whole["contact"]
        more = [
            {"kind": "phone", "value": "06 11 22 33 44"},
            {"kind": "phone", "value": "+49 30 1234567"},
            {"kind": "email", "value": "claire@example.org"},
        ]
        status, person = await me.ask(
            "PATCH", f"/contacts/{contact}", {"name": "Claire", "add_addresses": more}
        )
        assert status == 200
        addresses = {a["value"]: a["id"] for a in person["addresses"]}
        ways = {(w["kind"], w["address"]["value"]): w for w in (await me.get(f"/ways?case={case}"))["items"]}
        assert ways["call", "+33611223344"]["allowed"]
        assert ways["call", "+49301234567"]["why"] == "not_allowed"
        assert ways["message", "claire@example.org"] | {"address": 0} == {
            "kind": "message", "account": "post", "channel": "email", "address": 0, "allowed": True, "why": None,
        }  # fmt: skip
        assert ways["message", "P1"]["allowed"]

        body = {"address": addresses["+33611223344"], "exchange": str(chat)}
        status, placed = await me.ask("POST", f"/cases/{case}/call", body)
        assert status == 202, placed
        lent = await me.get(f"/interactions/{chat}")
        assert (lent["state"], lent["lent_to"]) == ("active", placed["interaction"])
        call = UUID(placed["interaction"])
        row = at.line.desk.interaction(call)
        assert row is not None
        assert str(row.case_id) == case
        await at.switch.until(lambda: at.switch.placed)
        status, told = await me.ask("POST", f"/interactions/{call}/hangup", {})
        assert status == 200, told
        assert (await me.get(f"/interactions/{chat}"))["lent_to"] is None

        mail = {"account": "post", "address": addresses["claire@example.org"], "subject": "Votre colis"}
        status, sent = await me.ask("POST", f"/cases/{case}/messages", words("Il arrive.") | mail)
        assert (status, sent["channel"], sent["subject"], sent["case"]) == (201, "email", "Votre colis", case)
        again = await me.get(f"/cases/{case}")
        assert {i["channel"] for i in again["interactions"]} == {"messenger", "voice", "email"}
        assert {t["channel"] for t in again["threads"]} == {"messenger", "email"}
        status, told = await me.ask("POST", f"/cases/{case}/messages", words() | {**mail, "account": "page"})
        assert (status, told["type"]) == (422, "/problems/unknown-address")
        status, told = await me.ask(
            "POST", f"/cases/{case}/messages", words() | mail | {"address": str(uuid4())}
        )
        assert status == 404


async def test_a_message_that_failed_is_sent_again_only_when_asked(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        chat = await taken(at, me)
        _, sent = await me.ask("POST", f"/interactions/{chat}/messages", words("Bonjour"))
        assert (await me.ask("POST", f"/messages/{sent['id']}/retry"))[0] == 409
        await at.become(sent["id"], "perhaps", failure="transient", detail="no answer")
        case = await me.get(f"/cases/{sent['case']}")
        assert [(x["status"], x["retryable"]) for x in case["messages"]] == [
            ("received", False),
            ("perhaps", True),
        ]
        status, again = await me.ask("POST", f"/messages/{sent['id']}/retry")
        assert (status, again["text"], again["status"]) == (201, "Bonjour", "queued")
        assert again["id"] != sent["id"]


async def test_of_a_message_that_went_in_part_only_the_rest_is_sent_again(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        chat = await taken(at, me)
        _, sent = await me.ask("POST", f"/interactions/{chat}/messages", words("Une page. Une autre."))
        for number, chars, left in ((1, 9, "Une autre."), (2, 20, "")):
            part, now = Part(number, 3, chars, 0), at.line.clock.now()
            assert await at.stores.outbox.went(UUID(sent["id"]), part, f"p{number}", now) is None
            if number == 1:
                await at.become(sent["id"], "failed", failure="refused")
            (told,) = [
                x for x in (await me.get(f"/cases/{sent['case']}"))["messages"] if x["id"] == sent["id"]
            ]
            assert (told["parts"], told["retryable"]) == ({"sent": number, "of": 3}, bool(left))
            status, again = await me.ask("POST", f"/messages/{sent['id']}/retry")
            assert (status, again.get("text", "")) == ((201, left) if left else (409, ""))
        assert again["type"] == "/problems/not-retryable"


async def test_two_matters_of_one_mail_thread_have_two_advisors(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        ana, ben = await at.browser("a1"), await at.browser("a2")
        await presence(at, m.Presence.PAUSE, "a1", "a2")
        parcel = await at.write(who="claire@example.org", account="post")
        first = at.line.desk.interaction(parcel)
        assert first is not None
        case = at.line.ids()
        await at.line.ok(m.CaseCreated, case=case, contact=first.contact, subject="Facture", by="a2")
        invoice = await at.write(who="claire@example.org", account="post", case=case, proved=True)
        assert invoice != parcel
        for page, its in ((ana, parcel), (ben, invoice)):
            status, told = await page.ask("POST", f"/interactions/{its}/take")
            assert status == 200, told
        _, sent = await ana.ask("POST", f"/interactions/{parcel}/messages", words("Il arrive."))
        status, told = await ben.ask(
            "POST", f"/interactions/{invoice}/messages", words("Payez ici.", over=None)
        )
        assert (status, told["case"]) == (201, str(case)), "the colleague's answer is about something else"
        await at.become(sent["id"], "failed", failure="refused")
        status, again = await ana.ask("POST", f"/messages/{sent['id']}/retry")
        assert (status, again["interaction"]) == (201, str(parcel))
        mail = words("Encore.") | {"account": "post", "address": str(first.address)}
        assert (await ben.ask("POST", f"/cases/{first.case_id}/messages", mail))[0] == 409
        assert (await ben.ask("POST", f"/cases/{case}/messages", mail))[0] == 201
        status, told = await ana.ask("POST", f"/interactions/{parcel}/case", {"case": str(case)})
        assert (status, told["type"]) == (409, "/problems/lives-there")


async def test_from_a_case_nobody_writes_over_what_they_have_not_seen(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        ana, ben = await at.browser("a1"), await at.browser("a2")
        chat = await taken(at, ana)
        case = (await ana.get(f"/interactions/{chat}"))["case"]
        asked = (await ana.get(f"/cases/{case}"))["messages"][-1]["id"]
        contact = (await ana.get(f"/cases/{case}"))["contact"]
        more = {"add_addresses": [{"kind": "email", "value": "claire@example.org"}]}
        _, person = await ana.ask("PATCH", f"/contacts/{contact}", more)
        [to] = [a["id"] for a in person["addresses"] if a["kind"] == "email"]
        mail = {"account": "post", "address": to}

        async def writes(who: Browser, **more: Any) -> tuple[int, Any]:
            return await who.ask("POST", f"/cases/{case}/messages", words() | mail | more)

        status, told = await writes(ben, seen=None)
        assert (status, told["type"]) == (409, "/problems/newer-reply"), "the customer's word was not seen"
        both = await asyncio.gather(writes(ana, seen=asked), writes(ben, seen=asked))
        assert sorted(status for status, _ in both) == [201, 409], "one of two at once is told of the other"
        [first] = [told for status, told in both if status == 201]
        [refused] = [told for status, told in both if status == 409]
        assert (refused["type"], refused["message"]) == ("/problems/newer-reply", first["id"])
        late = ben if first["by"] == "a1" else ana
        assert (await writes(late, seen=asked))[0] == 409
        assert (await writes(late, seen=first["id"]))[0] == 201
        assert (await writes(late, seen=asked))[0] == 409
        assert (await writes(late, seen=asked, consent=True))[0] == 201
        await at.become(first["id"], "failed", failure="refused")
        await at.write("Alors ?")
        here = (await ana.get(f"/cases/{case}"))["messages"]
        status, told = await late.ask("POST", f"/messages/{first['id']}/retry", {"seen": here[-2]["id"]})
        assert (status, told["text"]) == (409, "Alors ?")
        status, _ = await late.ask("POST", f"/messages/{first['id']}/retry", {"seen": here[-1]["id"]})
        assert status == 201


async def upload(
    at: House, me: Browser, content: bytes, name: str, said: str = "image/png"
) -> tuple[int, Any]:
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("file", content, filename=name, content_type=said)
    headers = {"Origin": at.base, "X-CSRF-Token": me.csrf}
    async with me.http.post(f"{at.base}/api/v1/attachments", data=form, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_a_file_that_waits_to_be_sent_outlives_a_restart(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        ids = [UUID((await upload(at, me, PNG, f"{n}.png"))[1]["id"]) for n in range(3)]
        folder = tmp_path / "uploads" / str(at.line.organisation)
        (folder / f"{ids[2]}.json").write_text("{")
        again = Uploads(at.console.uploads._files, at.line.clock, at.line.ids, folder)
        one = again.get(ids[0], "a1")
        assert one == at.console.uploads.get(ids[0], "a1")
        assert one is not None
        assert again.path(one.stored.path).read_bytes() == PNG
        assert (again.get(ids[0], "a2"), again.get(ids[2], "a1")) == (None, None)
        again.sent(ids[0])
        assert sorted(path.stem for path in folder.iterdir()) == sorted(str(id) for id in ids[1:])
        at.line.clock.pass_(KEPT.total_seconds() + 1)
        assert not isinstance(await again.keep("a1", "new.png", "", PNG, 1 << 20), str)
        assert again.get(ids[1], "a1") is None
        assert not (folder / f"{ids[1]}.json").exists()
        kept = at.console.uploads.get(ids[1], "a1")
        assert kept is not None
        assert again.path(kept.stored.path).exists(), "perhaps it was sent just before the end"


async def test_a_file_is_uploaded_sent_and_shown_as_what_its_bytes_are(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me, colleague = await at.browser("a1"), await at.browser("a2")
        chat = await taken(at, me)
        status, picture = await upload(at, me, PNG, "../../éti\u202equette.png", "text/html")
        assert (status, picture["kind"], picture["type"], picture["bytes"]) == (
            201,
            "image",
            "image/png",
            len(PNG),
        )
        assert picture["name"] == "étiquette.png"
        status, page = await upload(at, me, b"<html><script>alert(1)</script>", "x.html", "text/html")
        assert (status, page["type"]) == (201, "application/octet-stream")
        assert (await upload(at, me, b"", "empty.png"))[0] == 422
        assert (await colleague.ask("GET", f"/attachments/{picture['id']}"))[0] == 404
        said = words("", attachments=[picture["id"], page["id"]])
        status, message = await me.ask("POST", f"/interactions/{chat}/messages", said)
        assert status == 201, message
        assert [a["state"] for a in message["attachments"]] == ["stored", "stored"]
        status, again = await me.ask("POST", f"/interactions/{chat}/messages", said)
        assert (status, again["id"]) == (201, message["id"]), "its files are not uploads any more"
        async with colleague.http.get(f"{at.base}/api/v1/attachments/{picture['id']}") as answer:
            assert await answer.read() == PNG
            assert answer.content_type == "image/png"
            assert answer.headers["Content-Disposition"] == "inline; filename*=UTF-8''%C3%A9tiquette.png"
            assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        async with colleague.http.get(f"{at.base}/api/v1/attachments/{page['id']}") as answer:
            assert answer.content_type == "application/octet-stream"
            assert answer.headers["Content-Disposition"].startswith("attachment")
        [stored] = [
            p for p in (tmp_path / "attachments").rglob("*") if p.is_file() and picture["id"] in p.name
        ]
        assert stored.stat().st_mode & 0o777 == 0o600


HEAD = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n'


NO_FORMS = (
    b"",
    b"no parts",
    b"--B--\r\n",
    b'--B\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--B--\r\n',
    b'--B\r\nContent-Disposition: form-data; name="\x0c"\r\n\r\nx\r\n' + HEAD + b"\r\nx\r\n--B--\r\n",
    HEAD + b"X: " + b"y" * 20_000 + b"\r\n\r\nx\r\n--B--\r\n",
    HEAD + b"Content-Type: multipart/mixed; boundary=C\r\n\r\n--C--\r\n--B--\r\n",
    HEAD * 200 + b"\r\n",
    b"\x00\xff" * 100,
)


async def test_what_is_no_form_with_a_file_is_refused(database: str, tmp_path: Path) -> None:
    kinds = ("multipart/form-data; boundary=B", "multipart/form-data", "multipart/form-data; boundary=")
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        for body in NO_FORMS:
            for kind in kinds:
                headers = {"Origin": at.base, "X-CSRF-Token": me.csrf, "Content-Type": kind}
                async with me.http.post(
                    f"{at.base}/api/v1/attachments", data=body, headers=headers
                ) as answer:
                    assert answer.status == 422, (body, kind, await answer.text())
        assert not list((tmp_path / "attachments").glob("*/*"))


async def test_the_html_of_a_mail_is_shown_in_a_frame_where_nothing_runs(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        picture = at.line.ids()
        stored = await at.console.uploads._files.keep(PNG, picture)
        html = (
            '<p onclick="x()">Bonjour<script>alert(1)</script><img src="cid:logo@x">'
            '<img src="https://tracker.example/p.png"></p>'
        )
        mail = await at.write(
            "Bonjour",
            "claire@example.org",
            account="post",
            html=html,
            attached=(
                m.Attached(
                    attachment=picture,
                    kind="image",
                    name="logo.png",
                    type=stored.type,
                    content_id="logo@x",
                    path=stored.path,
                    bytes=stored.bytes,
                    sha256=stored.sha256,
                ),
            ),
        )
        [message] = await at.stores.messages.of_interaction(mail)
        for query, remote in (("", False), ("?images=1", True)):
            async with me.http.get(f"{at.base}/api/v1/messages/{message.id}/html{query}") as answer:
                text = await answer.text()
                policy = answer.headers["Content-Security-Policy"]
                assert (answer.status, answer.content_type) == (200, "text/html")
                assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
            assert "default-src 'none'" in policy
            assert "allow-scripts" not in policy
            assert "script" not in text.partition("</style>")[2]
            assert "onclick" not in text
            assert f'src="data:image/png;base64,{base64.b64encode(PNG).decode()}"' in text
            assert "allow-same-origin" not in policy
            assert (' src="https://tracker.example' in text) is remote
            assert ("https:" in policy) is remote


async def test_help_is_asked_for_and_answered_while_the_interaction_stays(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me, colleague = await at.browser("a1"), await at.browser("a2")
        chat = await taken(at, me)
        status, asked = await me.ask("POST", f"/interactions/{chat}/help", {"text": "Douane ?", "of": "a2"})
        assert (status, asked["by"], asked["of"], asked["text"]) == (201, "a1", "a2", "Douane ?")
        assert (await me.ask("POST", f"/interactions/{chat}/help", {"text": "x", "of": "nobody"}))[0] == 422
        assert [h["id"] for h in (await colleague.get("/helps"))["items"]] == [asked["id"]]
        status, told = await colleague.ask("POST", f"/helps/{asked['id']}/answer", {"text": "Oui, 3 jours."})
        assert (status, told["answer"], told["answered_by"]) == (200, "Oui, 3 jours.", "a2")
        assert (await colleague.get("/helps"))["items"] == []
        case = await me.get(f"/cases/{asked['case']}")
        assert [h["answer"] for h in case["helps"]] == ["Oui, 3 jours."]
        assert at.line.state(chat) == "active"


async def test_archiving_needs_a_reason_and_who_has_it_is_asked_first(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me, colleague, boss = await at.browser("a1"), await at.browser("a2"), await at.browser("a3")
        spam = await at.write("Buy now", "spam@example.org", account="post")
        status, told = await colleague.ask("POST", f"/interactions/{spam}/close", {"outcome": "archived"})
        assert (status, told["errors"][0]["field"]) == (422, "reason")
        body = {"outcome": "archived", "reason": "spam"}
        status, told = await colleague.ask("POST", f"/interactions/{spam}/close", body)
        assert (status, told["outcome"]) == (200, "archived")
        chat = await taken(at, me)
        status, told = await colleague.ask("POST", f"/interactions/{chat}/close", body)
        assert (status, told["type"]) == (409, "/problems/taken")
        assert (await boss.ask("POST", f"/interactions/{chat}/close", body))[0] == 200


async def test_work_is_handed_on_to_a_queue_and_given_by_a_supervisor(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me, boss = await at.browser("a1"), await at.browser("a3")
        chat = await taken(at, me)
        assert (await me.ask("POST", f"/interactions/{chat}/transfer", {"queue": "odd"}))[0] == 422
        status, told = await me.ask("POST", f"/interactions/{chat}/transfer", {"queue": "billing"})
        assert (status, told["state"], told["queue"], told["advisor"]) == (200, "waiting", "billing", None)
        assert (await me.ask("POST", f"/interactions/{chat}/give", {"advisor": "a2"}))[0] == 403
        assert (await boss.ask("POST", f"/interactions/{chat}/give", {"advisor": "nobody"}))[0] == 422
        status, told = await boss.ask("POST", f"/interactions/{chat}/give", {"advisor": "a2"})
        assert (status, told["type"]) == (409, "/problems/offline")
        await presence(at, m.Presence.PAUSE, "a2")
        status, told = await boss.ask("POST", f"/interactions/{chat}/give", {"advisor": "a2"})
        assert (status, told["state"], told["advisor"]) == (200, "active", "a2"), told
        status, told = await me.ask("POST", f"/interactions/{chat}/take")
        assert (status, told["type"], told["holder"]) == (409, "/problems/taken", "a2")
        async with me.page() as page:
            await page.next("snapshot")
            status, told = await boss.ask("POST", f"/interactions/{chat}/give", {"advisor": "a1"})
            assert (status, told["state"], told["advisor"]) == (200, "active", "a1"), told
            changed = await page.next("interaction.changed")
            assert (changed["data"]["id"], changed["data"]["advisor"]) == (str(chat), "a1")


async def test_cases_are_tagged_merged_and_taken_apart_again(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        one = (await me.get(f"/interactions/{await taken(at, me)}"))["case"]
        two = (await me.get(f"/interactions/{await taken(at, me, 'P2')}"))["case"]
        assert (await me.ask("POST", f"/cases/{one}/tags", {"tags": ["odd"]}))[0] == 422
        status, row = await me.ask("POST", f"/cases/{one}/tags", {"tags": ["urgent", "urgent"]})
        assert (status, row["tags"]) == (200, ["urgent"])
        assert (await me.ask("POST", f"/cases/{one}/merge", {"into": one}))[0] == 422
        status, told = await me.ask("POST", f"/cases/{two}/merge", {"into": one})
        assert status == 200, told
        whole = await me.get(f"/cases/{one}")
        assert [(x["case"], x["merge"]) for x in whole["merges"]] == [(two, told["merge"])]
        assert len(whole["messages"]) == 2
        assert (await me.get(f"/cases/{two}"))["merged_into"] == one
        assert (await me.ask("POST", f"/case-merges/{told['merge']}/undo"))[0] == 204
        whole = await me.get(f"/cases/{one}")
        assert (whole["merges"], len(whole["messages"])) == ([], 1)
        assert (await me.get(f"/cases/{two}"))["merged_into"] is None


async def test_the_inbox_lists_cases_by_their_newest_word_in_pages(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        await presence(at, m.Presence.PAUSE, "a1")
        chats = []
        for n in range(3):
            at.line.clock.pass_(60)
            chats.append(await at.write(f"Message {n}", f"P{n}"))
        await me.ask("POST", f"/interactions/{chats[0]}/take")
        first = await me.get("/inbox?limit=2")
        rest = await me.get(f"/inbox?limit=2&after={first['next']}")
        texts = [row["last_text"] for row in first["items"] + rest["items"]]
        assert texts == ["Message 2", "Message 1", "Message 0"]
        assert rest["next"] is None
        assert first["counts"]["mine"] == 1
        [mine] = (await me.get("/inbox?view=mine"))["items"]
        assert (mine["interaction"], mine["advisor"], mine["interaction_channel"]) == (
            str(chats[0]),
            "a1",
            "messenger",
        )
        assert (mine["address"], mine["interaction_since"] > mine["opened_at"]) == ("P0", True)
        assert (await me.get("/inbox?channel=email"))["items"] == []
        assert len((await me.get("/inbox?text=message"))["items"]) == 3
        assert (await me.ask("GET", "/inbox?after=nonsense"))[0] == 422


async def test_typing_and_reading_are_shown_to_the_customer_only_by_who_has_it(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me, colleague = await at.browser("a1"), await at.browser("a2")
        chat = await taken(at, me)
        assert (await me.ask("POST", f"/interactions/{chat}/typing", {"on": True}))[0] == 204
        assert (await colleague.ask("POST", f"/interactions/{chat}/typing", {"on": True}))[0] == 204
        assert (await colleague.ask("POST", f"/interactions/{chat}/seen"))[0] == 204
        assert (await me.ask("POST", f"/interactions/{chat}/seen"))[0] == 204
        view = await at.stores.timeline.interaction(chat)
        assert view is not None
        assert at.acts == [(view.thread, "typing_on", "First1"), (view.thread, "seen", "First1")]
        assert (await me.get(f"/interactions/{chat}"))["unread"] == 0
        case = await me.get(f"/cases/{view.case}")
        assert {(v["login"], v["doing"]) for v in case["viewers"]} == {("a1", "typing"), ("a2", "typing")}
        call = await at.line.call()
        status, told = await me.ask("POST", f"/interactions/{call}/typing", {"on": True})
        assert (status, told["type"]) == (409, "/problems/not-written")


async def test_two_persons_with_one_number_are_both_shown_however_it_is_written(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        await at.line.ready("a1")
        for name in ("Claire", "Paul"):
            body = {"name": name, "addresses": [{"kind": "phone", "value": "+49 30 12345678"}]}
            assert (await me.ask("POST", "/contacts", body))[0] == 201
        call = await at.waiting.call("+49 30 / 123-456 78")
        pop = (await me.get(f"/interactions/{call}"))["pop"]
        assert {(p["name"], p["sure"]) for p in pop["persons"]} == {
            ("Claire", "possible"),
            ("Paul", "possible"),
        }


async def test_an_account_that_is_down_is_shown_with_what_waits_for_it(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        chat = await taken(at, me)
        await me.ask("POST", f"/interactions/{chat}/messages", words())
        await at.line.ok(m.AccountChanged, account="page", state="down", reason="token revoked")
        page, post = (await me.get("/accounts"))["items"]
        assert (page["account"], page["state"], page["reason"], page["waiting"]) == (
            "page",
            "down",
            "token revoked",
            1,
        )
        assert (post["state"], post["label"]) == ("up", "Courriel")
        _, text = await me.ask("GET", "/metrics")
        assert 'monofil_outbox_waiting{account="page",channel="messenger"} 1.0' in text
        assert 'monofil_account_up{account="page",channel="messenger"} 0.0' in text
        assert 'monofil_messages_total{channel="messenger",status="received"}' in text


async def test_an_admin_sees_what_providers_sent_and_has_it_handled_again(
    database: str, tmp_path: Path
) -> None:
    from routing.store import RawRequest

    async with house(database, tmp_path) as at:
        admin = await at.browser("a4")
        request = RawRequest(at.line.ids(), "page", at.line.clock.now(), {"x": "y"}, b"{}")
        await at.stores.requests.add([request])
        await at.stores.requests.handled(request.id, at.line.clock.now(), {"events": 0})
        [row] = (await admin.get("/webhooks?account=page"))["items"]
        assert (row["id"], row["result"]) == (str(request.id), {"events": 0})
        assert "body" not in json.dumps(row)
        assert (await admin.ask("POST", f"/webhooks/{request.id}/replay"))[0] == 204
        assert [r.id for r in await at.stores.requests.unhandled(at.line.clock.now())] == [request.id]


async def test_no_note_can_reach_the_outbox(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        chat = await taken(at, me)
        case = (await me.get(f"/interactions/{chat}"))["case"]
        await me.ask("POST", f"/cases/{case}/notes", {"text": "secret note"})
        await me.ask("POST", f"/interactions/{chat}/help", {"text": "secret help"})
        body = {"outcome": "answered", "note": "secret end"}
        assert (await me.ask("POST", f"/interactions/{chat}/close", body))[0] == 200
        assert await at.query("SELECT * FROM outbox") == []


async def test_each_number_of_the_statistics_opens_its_list(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        since = at.line.clock.now().isoformat().replace("+00:00", "Z")
        chat = await taken(at, me)
        at.line.clock.pass_(600)
        _, sent = await me.ask("POST", f"/interactions/{chat}/messages", words())
        await at.become(sent["id"], "sent", external_id="x1")
        await me.ask("POST", f"/interactions/{chat}/close", {"outcome": "answered"})
        at.line.clock.pass_(60)
        interval = f"from={since}&to={at.line.clock.now().isoformat().replace('+00:00', 'Z')}"
        told = await me.get(f"/statistics?{interval}")
        assert told["from"] == since
        [row] = told["rows"]
        assert (row["queue"], row["channel"]) == ("general", "messenger")
        assert (row["figures"]["received"], row["figures"]["answered"], row["figures"]["within_hour"]) == (
            1,
            1,
            1.0,
        )
        assert row["figures"]["first_response"]["per_message"]["elapsed"] == 600.0
        assert told["totals"]["conversations"] == 1
        assert told["formula"]["within_hour"]
        for figure in ("received", "answered", "within_hour", "first_response.per_message.elapsed"):
            listed = await me.get(f"/statistics/list?{interval}&figure={figure}")
            assert ([i["id"] for i in listed["items"]], listed["total"]) == ([str(chat)], 1), figure
        listed = await me.get(f"/statistics/list?{interval}&figure=received&queue=-")
        assert listed["total"] == 0  # all of it reached a queue
        assert (await me.get(f"/statistics?{interval}&channel=email"))["rows"] == []
        assert (await me.ask("GET", "/statistics?from=2026-01-01T10:00:00"))[0] == 422  # where?
        assert (await me.ask("GET", f"/statistics?from={since}&to={since}"))[0] == 422


async def test_a_long_case_says_that_it_shows_the_last_messages_and_exports_all(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cti.aio.api.MESSAGES_SHOWN", 2)
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        chat = await taken(at, me)
        path = f"/cases/{(await me.get(f'/interactions/{chat}'))['case']}"
        for n, (earlier, shown) in enumerate(((False, 2), (True, 2))):
            await at.write(f"Message {n}")
            case = await me.get(path)
            assert (case["earlier"], len(case["messages"])) == (earlier, shown)
            assert case["messages"][-1]["text"] == f"Message {n}"
        status, table = await me.ask("GET", f"{path}/transcript.csv")
        assert (status, str(table).count("messenger")) == (200, 3)


async def test_the_days_of_the_statistics_are_those_of_the_site(database: str, tmp_path: Path) -> None:
    """The site is in Paris; at half past midnight there, a reader in London is a day behind."""
    async with house(database, tmp_path) as at:
        local = at.line.clock.now().astimezone(ZoneInfo("Europe/Paris"))
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        at.line.clock.pass_((midnight - local).total_seconds() + 1800)
        await at.write("Bonjour")
        me = await at.browser("a1")
        day = midnight.date()
        for first, last, received in (
            (day, day, 1),
            (day - timedelta(days=6), day, 1),
            (day - timedelta(days=1), day - timedelta(days=1), 0),
        ):
            told = await me.get(f"/statistics?from={first}&to={last}")
            assert told["totals"]["received"] == received, (first, last)
            listed = await me.get(f"/statistics/list?figure=received&from={first}&to={last}")
            assert listed["total"] == received
        assert datetime.fromisoformat(told["to"]) == midnight
        assert (await me.ask("GET", f"/statistics?from={day}&to={day - timedelta(days=1)}"))[0] == 422


async def test_ids_of_another_organisation_are_unknown(database: str, tmp_path: Path) -> None:
    from routing.store import RawRequest
    from tests.cti.house import rules

    async with (
        house(database, tmp_path / "one", site=rules("one")) as one,
        house(database, tmp_path / "two", site=rules("two")) as two,
    ):
        me, stranger = await one.browser("a1"), await two.browser("a4")
        chat = await taken(one, me)
        _, picture = await upload(one, me, PNG, "x.png")
        said = words(attachments=[picture["id"]])
        _, sent = await me.ask("POST", f"/interactions/{chat}/messages", said)
        await one.become(sent["id"], "failed", failure="refused")
        _, asked = await me.ask("POST", f"/interactions/{chat}/help", {"text": "x"})
        other = (await me.get(f"/interactions/{await taken(one, me, 'P2')}"))["case"]
        _, merge = await me.ask("POST", f"/cases/{other}/merge", {"into": sent["case"]})
        request = RawRequest(one.line.ids(), "page", one.line.clock.now(), {}, b"{}")
        await one.stores.requests.add([request])
        mine = await two.write()
        for method, path, body in (
            ("GET", f"/messages/{sent['id']}/html", None),
            ("POST", f"/messages/{sent['id']}/retry", None),
            ("GET", f"/attachments/{picture['id']}", None),
            ("POST", f"/helps/{asked['id']}/answer", {"text": "x"}),
            ("POST", f"/case-merges/{merge['merge']}/undo", None),
            ("POST", f"/webhooks/{request.id}/replay", None),
            ("GET", f"/templates?interaction={chat}", None),
            ("GET", f"/ways?case={sent['case']}", None),
        ):
            status, told = await stranger.ask(method, path, body)
            assert status == 404, (path, told)
        row = two.line.desk.interaction(mine)
        assert row is not None
        status, _ = await stranger.ask("POST", f"/cases/{row.case_id}/merge", {"into": sent["case"]})
        assert status == 404
        for path in ("/helps", "/webhooks"):
            assert (await stranger.get(path))["items"] == []
        [seen] = (await stranger.get("/inbox"))["items"]
        assert seen["case"] == str(row.case_id)


TREE = {
    "start": "hello",
    "nodes": {
        "hello": {"type": "say", "title": "Bonjour", "text": {"fr": "Bonjour"}, "next": "end"},
        "end": {"type": "hangup"},
    },
}


async def test_a_customer_is_handed_back_to_a_node_of_the_tree(database: str, tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.cti.house import rules

    base = rules()
    page, post = base.accounts
    site = replace(base, accounts=(replace(page, tree="bot"), post), trees={"bot": TREE})
    async with house(database, tmp_path, site=site) as at:
        me, colleague = await at.browser("a1"), await at.browser("a2")
        chat = await taken(at, me)
        found = (await me.get(f"/interactions/{chat}/nodes"))["items"]
        assert found == [{"node": "hello", "title": "Bonjour"}, {"node": "end", "title": "end"}]
        assert (await me.ask("POST", f"/interactions/{chat}/hand-back", {"node": "odd"}))[0] == 422
        status, told = await colleague.ask("POST", f"/interactions/{chat}/hand-back", {"node": "hello"})
        assert (status, told["holder"]) == (409, "a1")
        status, told = await me.ask("POST", f"/interactions/{chat}/hand-back", {"node": "hello"})
        assert (status, told["state"], told["advisor"]) == (200, "qualifying", None), told
        mail = await at.write("x", "c@example.org", account="post")
        status, told = await me.ask("GET", f"/interactions/{mail}/nodes")
        assert (status, told["type"]) == (409, "/problems/no-tree")
