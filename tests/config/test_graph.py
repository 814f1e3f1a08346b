"""The double of the Graph API: what it refuses, how it fails, and that our channel and it understand each other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web

from config.graph import HOUR_S, Customer, Fault, GraphDouble
from routing.channel import (
    Answer,
    Button,
    Changed,
    Echoed,
    Enclosed,
    Failed,
    Failure,
    Heard,
    HttpCall,
    Outgoing,
    PartSent,
    Perhaps,
    Reacted,
    Receipt,
    Reply,
    Request,
    Result,
    Sent,
    ThreadMoved,
    Wrote,
)  # fmt: skip
from routing.channels import messenger
from routing.site import Account

SECRETS = {"app_secret": "the-secret", "page_token": "the-token", "verify_token": "the-word"}
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Hotline:
    """The least that a Messenger account needs around the channel: a callback, and somebody who makes its calls."""

    graph: GraphDouble
    session: aiohttp.ClientSession
    heard: list[Heard] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200
    memory: dict[str, str] = field(default_factory=dict)
    url: str = ""
    sent: int = 0
    parts: list[str] = field(default_factory=list)

    @property
    def account(self) -> Account:
        return Account(
            "fb", "messenger", settings={"page_id": "1001", "app_id": "7007", "api_base": self.graph.base}
        )

    async def hook(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {key.lower(): value for key, value in request.headers.items()}
        asked = Request(request.method, str(request.url), dict(request.query), headers, body)
        answer: Answer = messenger.verify(asked, self.account, SECRETS)
        if not answer.accepted:
            self.refused.append(answer.why)
            return web.Response(status=answer.status, text=answer.body)
        if request.method == "GET":
            return web.Response(text=answer.body)
        if self.status == 200:
            self.bodies.append(body)
            self.heard += messenger.parse(body, self.account)
        return web.Response(status=self.status)

    async def file(self, request: web.Request) -> web.Response:
        kind = "text/html" if request.path.endswith("html") else "image/png"
        return web.Response(body=PNG, content_type=kind, status=404 if "gone" in request.path else 200)

    def out(self, text: str = "", **more: Any) -> Outgoing:
        self.sent += 1
        return replace(
            Outgoing(message=UUID(int=self.sent), to="24001", text=text, author_name="Julie"), **more
        )

    async def send(self, out: Outgoing, token: str = "the-token") -> Result:
        rendering = messenger.render(out, self.account, {**SECRETS, "page_token": token}, self.memory)
        try:
            call = next(rendering)
            while True:
                if isinstance(call, PartSent):
                    self.parts.append(call.external_id)
                    call = rendering.send(Reply(0))
                    continue
                assert isinstance(call, HttpCall)
                call = rendering.send(await self.carry(call))
        except StopIteration as end:
            result: Result = end.value
            return result

    async def carry(self, call: HttpCall) -> Reply:
        data = None
        if call.form is not None:
            data = aiohttp.FormData()
            for key, value in call.form.items():
                if isinstance(value, Enclosed):
                    data.add_field(key, value.content, filename=value.name, content_type=value.type)
                else:
                    data.add_field(key, value)
        try:
            async with self.session.request(
                call.method, call.url, headers=call.headers, json=call.json, data=data
            ) as answer:
                return Reply(answer.status, dict(answer.headers), await answer.read())
        except (aiohttp.ClientError, TimeoutError):
            return Reply(0, lost=True)

    def of(self, kind: type[Heard]) -> list[Any]:
        return [one for one in self.heard if isinstance(one, kind)]


@asynccontextmanager
async def hotline(**said: Any) -> AsyncIterator[tuple[Hotline, Customer]]:
    time = [1_790_000_000.0]
    async with (
        GraphDouble(**{**SECRETS, "now": lambda: time[0], **said}) as graph,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
    ):
        ours = Hotline(graph, session)
        application = web.Application()
        application.router.add_route("*", "/hooks/fb", ours.hook)
        application.router.add_get("/files/{name}", ours.file)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ours.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        graph.callback = ours.url + "/hooks/fb"
        try:
            yield ours, graph.customer("24001", "Claire")
            await graph.settled()
        finally:
            await runner.cleanup()


async def test_a_conversation_with_persona_echo_receipts_and_quick_replies() -> None:
    async with hotline() as (ours, claire):
        graph = ours.graph
        assert await graph.subscribe()
        mid = await claire.writes("Où est mon colis « été » 📦 ?")
        (wrote,) = ours.of(Wrote)
        assert (wrote.external_id, wrote.text, wrote.peer.value) == (
            mid,
            "Où est mon colis « été » 📦 ?",
            "24001",
        )
        assert ours.bodies[0].isascii()
        out = ours.out("Je regarde.", buttons=(Button("Merci, au revoir à vous", "bye"),))
        sent = await ours.send(out)
        await graph.settled()
        (arrived,) = claire.inbox
        assert sent == Sent(arrived.mid)
        assert (arrived.text, arrived.persona, arrived.metadata) == (
            "Je regarde.",
            "Julie",
            f"cc:{out.message}",
        )
        (echo,) = ours.of(Echoed)
        assert (echo.ours, echo.external_id) == (out.message, arrived.mid)
        (receipt,) = ours.of(Receipt)
        assert (receipt.status, receipt.external_ids) == ("delivered", (arrived.mid,))
        await claire.reads()
        await claire.taps(arrived.quick_replies[0][0])
        assert ours.of(Receipt)[-1].status == "read"
        assert ours.of(Wrote)[-1].payload == "bye"
        assert ours.refused == []
        assert graph.owed == 0


async def test_every_act_of_a_customer_is_heard_as_what_it_is() -> None:
    async with hotline() as (ours, claire):
        mid = await claire.writes("un", reply_to="m_x", referral={"ref": "affiche"})
        await claire.presses("Démarrer", "GET_STARTED")
        await claire.attaches(PNG, text="voilà")
        await claire.attaches(b"%PDF", "application/pdf", name="a.pdf")
        await claire.sticks()
        await claire.arrives("pub")
        await claire.reacts(mid)
        await claire.unreacts(mid)
        await claire.edits(mid, "deux")
        await claire.is_answered_elsewhere("par la boîte")
        kinds = [one.kind for one in ours.of(Wrote)]
        assert kinds == ["text", "postback", "media", "media", "sticker", "system"]
        assert [one.emoji for one in ours.of(Reacted)] == ["❤", ""]
        assert [one.text for one in ours.of(Changed)] == ["deux"]
        assert [one.ours for one in ours.of(Echoed)] == [None]
        url = ours.of(Wrote)[2].files[0].url
        async with ours.session.get(url) as answer:
            assert await answer.read() == PNG
        ours.graph.shift(2 * HOUR_S)
        async with ours.session.get(url) as answer:
            assert answer.status == 403


async def test_while_another_application_has_the_thread_we_get_copies() -> None:
    async with hotline() as (ours, claire):
        await claire.writes("à vous")
        await claire.is_taken()
        await claire.writes("à l'autre")
        await claire.presses("Oui", "yes")
        result = await ours.send(ours.out("Bonjour"))
        await claire.is_given_back()
        await claire.writes("à vous encore")
        assert [one.standby for one in ours.of(Wrote)] == [False, True, True, False]
        assert ours.of(Wrote)[2].payload == ""
        assert [one.ours for one in ours.of(ThreadMoved)] == [False, True]
        assert isinstance(result, Failed)
        assert result.code == "10/2018300"


@pytest.mark.parametrize(
    ("hours", "tagged", "expected"),
    [
        (1, False, None), (23.9, False, None), (24.1, False, Failure.WINDOW), (1, True, Failure.REFUSED),
        (25, True, None), (167, True, None), (169, True, Failure.WINDOW),
    ],
)  # fmt: skip
async def test_windows_go_by_the_clock(hours: float, tagged: bool, expected: Failure | None) -> None:
    async with hotline(receipts=False, echoes=False) as (ours, claire):
        await claire.writes("Bonjour")
        ours.graph.shift(hours * HOUR_S)
        result = await ours.send(ours.out("Réponse", tagged=tagged))
        assert result == Sent(claire.inbox[0].mid) if expected is None else result.failure == expected  # type: ignore[union-attr]


async def test_files_are_fetched_from_our_addresses_or_uploaded() -> None:
    async with hotline(receipts=False) as (ours, claire):
        await claire.writes("Bonjour")
        there = Enclosed(UUID(int=9), "image", "a.png", "image/png", f"{ours.url}/files/a", PNG)
        for file in (there, replace(there, url="")):
            assert isinstance(await ours.send(ours.out(files=(file,))), Sent)
        assert [(each.file, each.file_type) for each in claire.inbox] == [(PNG, "image/png")] * 2
        for wrong in ("files/gone", "files/a.html", "nowhere"):
            result = await ours.send(ours.out(files=(replace(there, url=f"{ours.url}/{wrong}"),)))
            assert isinstance(result, Failed)
            assert result.failure == Failure.REFUSED
        assert len(claire.inbox) == 2


async def test_where_personas_are_not_to_be_had_the_text_is_signed() -> None:
    async with hotline(country="DE", no_personas_in={"DE"}) as (ours, claire):
        await claire.writes("Hallo")
        for text in ("eins", "zwei"):
            await ours.send(ours.out(text))
        assert [each.text for each in claire.inbox] == ["eins\n– Julie", "zwei\n– Julie"]
        assert len([each for each in ours.graph.asked if each.path.endswith("personas")]) == 1


async def test_a_persona_that_was_deleted_costs_no_message() -> None:
    async with hotline() as (ours, claire):
        await claire.writes("Bonjour")
        await ours.send(ours.out("un"))
        ours.graph.personas.clear()
        await ours.send(ours.out("deux"))
        assert [(each.text, each.persona) for each in claire.inbox] == [
            ("un", "Julie"),
            ("deux\n– Julie", ""),
        ]


async def test_typing_and_seen_are_shown() -> None:
    async with hotline() as (ours, claire):
        await claire.writes("Bonjour")
        await ours.send(ours.out(act="typing_on"))
        assert claire.typing
        await ours.send(ours.out(act="typing_off"))
        await ours.send(ours.out(act="seen"))
        assert not claire.typing
        assert claire.seen_at == ours.graph.now()


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault.THROTTLED, Failure.THROTTLED), (Fault.SERVER_ERROR, Failure.TRANSIENT),
        (Fault.RESTRICTED, Failure.ACCOUNT), (Fault.UNAVAILABLE, Failure.GONE),
    ],
)  # fmt: skip
async def test_it_fails_as_told_and_then_no_more(fault: Fault, failure: Failure) -> None:
    async with hotline() as (ours, claire):
        await claire.writes("Bonjour")
        ours.memory["persona:Julie"] = "-"
        ours.graph.fail(fault, seconds=120, edge="messages")
        failed = await ours.send(ours.out("un"))
        assert isinstance(failed, Failed)
        assert failed.failure == failure
        assert failed.after_s == (120.0 if fault is Fault.THROTTLED else None)
        assert isinstance(await ours.send(ours.out("deux")), Sent)
        assert len(claire.inbox) == 1


@pytest.mark.parametrize(
    ("fault", "arrives"), [(Fault.CUT_BEFORE, 0), (Fault.CUT_AFTER, 1), (Fault.GATEWAY, 0)]
)
async def test_a_cut_connection_leaves_a_message_that_is_perhaps_sent(fault: Fault, arrives: int) -> None:
    async with hotline() as (ours, claire):
        await claire.writes("Bonjour")
        ours.memory["persona:Julie"] = "-"
        ours.graph.fail(fault)
        assert isinstance(await ours.send(ours.out("un")), Perhaps)
        assert len(claire.inbox) == arrives
        assert ours.graph.asked[-1].status in (0, 502)


async def test_a_slow_answer_still_comes() -> None:
    async with hotline() as (ours, claire):
        await claire.writes("Bonjour")
        ours.graph.fail(Fault.SLOW, 2, seconds=0.05)
        assert isinstance(await ours.send(ours.out("un")), Sent)


async def test_a_revoked_token_stops_everything_until_there_is_another() -> None:
    async with hotline() as (ours, claire):
        await claire.writes("Bonjour")
        ours.graph.revoke()
        for token in ("the-token", "guessed"):
            failed = await ours.send(ours.out("un"), token)
            assert isinstance(failed, Failed)
            assert failed.failure == Failure.TOKEN
        ours.graph.renew("new-token")
        assert isinstance(await ours.send(ours.out("deux")), Failed)
        assert isinstance(await ours.send(ours.out("trois"), "new-token"), Sent)


async def test_who_never_wrote_and_who_has_blocked_us_is_not_reached() -> None:
    async with hotline() as (ours, claire):
        for blocked in (False, True):
            failed = await ours.send(ours.out("un"))
            assert isinstance(failed, Failed)
            assert failed.failure == Failure.GONE, blocked
            await claire.writes("Bonjour")
            claire.blocked = True


async def test_more_than_the_rate_is_throttled_until_the_second_is_over() -> None:
    async with hotline(echoes=False, receipts=False) as (ours, claire):
        await claire.writes("Bonjour")
        film = Enclosed(UUID(int=9), "audio", "a.mp3", "audio/mpeg", "", b"x")
        results = [await ours.send(ours.out(files=(film,), author="system")) for _ in range(11)]
        assert [isinstance(result, Sent) for result in results] == [True] * 10 + [False]
        ours.graph.shift(1.1)
        assert isinstance(await ours.send(ours.out(files=(film,), author="system")), Sent)


async def test_several_events_come_in_one_post_in_any_order_and_again() -> None:
    async with hotline() as (ours, claire):
        paul = ours.graph.customer("24002", "Paul")
        ours.graph.hold()
        for text in ("un", "deux"):
            await claire.writes(text)
        await paul.writes("trois")
        assert ours.heard == []
        await ours.graph.release([2, 1, 0], times=3)
        assert [one.text for one in ours.of(Wrote)] == ["trois", "deux", "un"] * 3
        assert len({one.external_id for one in ours.of(Wrote)}) == 3
        await ours.graph.repeat(times=2)
        assert len(set(ours.bodies)) == 1
        assert len(ours.bodies) == 5


async def test_what_we_do_not_take_is_told_again_with_growing_gaps_for_36_hours() -> None:
    async with hotline() as (ours, claire):
        graph = ours.graph
        ours.status = 503
        await claire.writes("Bonjour")
        assert (graph.owed, await graph.redeliver()) == (1, [])
        gaps = []
        while graph.owed:
            due = graph._owed[0].due
            gaps.append(due - graph.now())
            graph.shift(due - graph.now())
            await graph.redeliver()
        assert gaps == sorted(gaps)
        assert len(graph.dropped) == 1
        assert 36 * HOUR_S <= sum(gaps) <= 41 * HOUR_S
        await claire.writes("Encore")
        ours.status = 200
        graph.shift(60)
        (told,) = await graph.redeliver()
        assert (told.status, told.attempt, graph.owed) == (200, 2, 0)
        assert [one.text for one in ours.of(Wrote)] == ["Encore"]


async def test_a_server_that_is_away_is_told_when_it_is_back() -> None:
    async with hotline(retry_every_s=0.02) as (ours, claire):
        url, ours.graph.callback = ours.graph.callback, "http://127.0.0.1:9/hooks/fb"
        await claire.writes("Bonjour")
        ours.graph.callback = url
        await ours.graph.until(lambda: ours.of(Wrote), within_s=5)
        assert ours.graph.told[0].status == 0


@pytest.mark.parametrize("signature", ["", "sha256=", "sha256=" + "0" * 64])
async def test_it_can_tell_lies(signature: str) -> None:
    async with hotline() as (ours, _):
        told = await ours.graph.tell({"message": {"mid": "m", "text": "?"}}, signature=signature)
        assert (told.status, ours.heard, ours.graph.owed) == (401, [], 0)


def said(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "recipient": {"id": "24001"}, "messaging_type": "RESPONSE", "message": {"text": "a"},
    }  # fmt: skip
    change(body)
    return body


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], int]] = {
    "no type": (lambda b: b.pop("messaging_type"), 100),
    "a type nobody knows": (lambda b: b.update(messaging_type="PROMOTION"), 100),
    "an unknown field": (lambda b: b.update(mesage={}), 100),
    "an unknown field inside": (lambda b: b["message"].update(txt="a"), 100),
    "a retired tag": (lambda b: b.update(messaging_type="MESSAGE_TAG", tag="ACCOUNT_UPDATE"), 100),
    "a tag without its type": (lambda b: b.update(tag="HUMAN_AGENT"), 100),
    "the tag inside of the window": (lambda b: b.update(messaging_type="MESSAGE_TAG", tag="HUMAN_AGENT"), 100),
    "too long": (lambda b: b["message"].update(text="a" * 2001), 100),
    "empty": (lambda b: b["message"].update(text=" "), 100),
    "no message": (lambda b: b.pop("message"), 100),
    "text and attachment": (lambda b: b["message"].update(attachment={"type": "image", "payload": {"url": "x"}}), 100),
    "a kind nobody knows": (lambda b: b.update(message={"attachment": {"type": "gif", "payload": {}}}), 100),
    "an attachment of nothing": (lambda b: b.update(message={"attachment": {"type": "image", "payload": {}}}), 100),
    "fourteen quick replies": (
        lambda b: b["message"].update(quick_replies=[{"content_type": "text", "title": "a", "payload": "a"}] * 14), 100,
    ),
    "a long title": (
        lambda b: b["message"].update(quick_replies=[{"content_type": "text", "title": "a" * 21, "payload": "a"}]), 100,
    ),
    "message and action": (lambda b: b.update(sender_action="typing_on"), 100),
    "an action nobody knows": (lambda b: (b.pop("message"), b.update(sender_action="dance")), 100),
    "a persona nobody made": (lambda b: b.update(persona_id="1"), 100),
    "nobody": (lambda b: b.update(recipient={"id": "404"}), 100),
    "a number for a person": (lambda b: b.update(recipient={"id": 24001}), 100),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_meta_refuses_is_refused_in_its_shape(wrong: str) -> None:
    change, code = WRONG[wrong]
    async with hotline() as (ours, claire):
        await claire.writes("Bonjour")
        url = f"{ours.graph.base}/v25.0/1001/messages"
        headers = {"Authorization": "Bearer the-token"}
        async with ours.session.post(url, json=said(change), headers=headers) as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["type"]) == (400, code, "OAuthException")
        assert error["message"]
        assert error["fbtrace_id"]
        assert claire.inbox == []
        assert json.loads(json.dumps(ours.graph.asked[-1].answer)) == {"error": error}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("v1.0/1001/messages", 2635),
        ("1001/messages", 2635),
        ("v25.0/1002/messages", 100),
        ("v25.0/1001/mesages", 100),
    ],
)
async def test_a_wrong_address_is_told(path: str, code: int) -> None:
    async with hotline() as (ours, _):
        headers = {"Authorization": "Bearer the-token"}
        async with ours.session.post(f"{ours.graph.base}/{path}", json={}, headers=headers) as answer:
            assert (await answer.json())["error"]["code"] == code
