"""Messenger through the real hooks, desk, courier and links, against the double of the Graph API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import aiohttp
from aiohttp import web

from config.commands import what_became
from config.graph import HOUR_S, Customer, Fault, GraphDouble
from routing import models as m
from routing.aio.fetch import Fetcher
from routing.aio.hooks import Hooks
from routing.aio.links import Links
from routing.aio.outbox import Courier
from routing.aio.postgres import pool, stores
from routing.channels import CHANNELS
from routing.site import Account
from tests.fakes.changes import Changes
from tests.routing.hotline import HandClock, hotline, site
from tests.routing.office import Office
from tests.routing.test_fetch import png

SECRETS = {"app_secret": "the-secret", "page_token": "the-token", "verify_token": "the-word"}
KEYS = {f"MONOFIL_SECRET_PAGE_{name.upper()}": value for name, value in SECRETS.items()} | {
    "MONOFIL_SECRET_OTHER_PAGE_TOKEN": "the-other-token"
}


@dataclass
class Page:
    office: Office
    graph: GraphDouble
    claire: Customer

    async def told(self) -> None:
        await self.graph.settled()
        await self.office.handled()

    async def taken(self, text: str = "Bonjour") -> UUID:
        """The interaction of Claire, who has written; a1 has it."""
        mid = await self.claire.writes(text)
        await self.told()
        interaction = (await self.office.message(mid))["interaction"]
        await self.office.line.ready("a1")
        await self.office.line.ok(m.InteractionTaken, interaction=interaction, advisor="a1", by="a1")
        return cast(UUID, interaction)


def accounts(graph: GraphDouble, *more: Account) -> tuple[Account, ...]:
    settings = {"page_id": "1001", "app_id": "7007", "api_base": graph.base, "profiles": "yes"}
    return (Account("page", "messenger", queue="general", settings=settings), *more)


@asynccontextmanager
async def page(dsn: str, data: Path, **more: Any) -> AsyncIterator[Page]:
    clock = HandClock()
    async with AsyncExitStack() as stack:
        graph = await stack.enter_async_context(GraphDouble(**{**SECRETS, "now": clock.unix, **more}))
        line = await stack.enter_async_context(hotline(dsn, site(accounts=accounts(graph)), clock))
        changes = await stack.enter_async_context(Changes(dsn))
        connections = await stack.enter_async_context(pool(dsn, size=8))
        there = stores(connections, line.organisation, line.clock, environment=KEYS)
        files = Fetcher(data, allow=("127.0.0.0/8",))
        stack.push_async_callback(files.close)
        app = web.Application()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        handlers: dict[str, Any] = {}

        async def answer(request: web.Request) -> web.StreamResponse:
            return cast(web.StreamResponse, await handlers[request.path.split("/")[1]](request))

        app.router.add_route("*", "/hooks/{account}", answer)
        app.router.add_get("/files/{id}", answer)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        links = Links(
            public_url=base, secret=b"s" * 32, clock=line.clock, messages=there.messages, files=files
        )
        shared: dict[str, Any] = {
            "site": lambda: line.desk.site, "channels": CHANNELS, "outbox": there.outbox, "messages": there.messages,
            "secrets": there.secrets, "desk": line.desk, "clock": line.clock, "files": files,
        }  # fmt: skip
        hooks = Hooks(**shared, requests=there.requests, ids=line.ids, public_url=base)
        courier = Courier(**shared, states=there.account_states, links=links, call_s=5.0)
        handlers |= {"hooks": hooks.answer, "files": links.answer}
        graph.callback = f"{base}/hooks/page"
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await stack.enter_async_context(hooks)
        await stack.enter_async_context(courier)
        nobody = cast(Any, None)
        office = Office(
            line, there, hooks, courier, nobody, files, graph.callback, http, connections, changes, []
        )
        yield Page(office, graph, graph.customer("24001", "Claire"))
        await graph.settled()


async def test_a_conversation_goes_both_ways_with_a_persona_and_its_marks(
    database: str, tmp_path: Path
) -> None:
    async with page(database, tmp_path) as here:
        assert await here.graph.subscribe()
        interaction = await here.taken("Où est mon colis « été » 📦 ?")
        message = await here.office.write(interaction, "Je regarde.")
        (arrived,) = await here.graph.until(lambda: list(here.claire.inbox))
        assert (arrived.text, arrived.persona, arrived.metadata) == ("Je regarde.", "First1", f"cc:{message}")
        await here.office.becomes(message, "delivered")
        here.office.line.clock.pass_(5)
        await here.claire.reads()
        await here.office.becomes(message, "read")
        await here.told()
        texts = [row["text"] for row in await here.office.messages()]
        assert texts == ["Où est mon colis « été » 📦 ?", "Je regarde."], "the echo of our own is no message"


async def test_fifty_copies_in_disorder_are_one_message_each(database: str, tmp_path: Path) -> None:
    async with page(database, tmp_path) as here:
        here.graph.hold()
        mids = [await here.claire.writes(text) for text in ("un", "deux", "trois")]
        await here.graph.release([2, 0, 1], times=10)
        await here.graph.repeat(times=7)
        await here.told()
        rows = await here.office.messages()
        assert sorted(row["external_id"] for row in rows) == sorted(mids)
        assert len({row["interaction"] for row in rows}) == 1


async def test_what_was_answered_in_metas_inbox_is_shown_once(database: str, tmp_path: Path) -> None:
    async with page(database, tmp_path) as here:
        await here.taken()
        mid = await here.claire.is_answered_elsewhere("Réponse de la boîte")
        await here.told()
        row = await here.office.message(mid)
        assert (row["author"], row["text"]) == ("elsewhere", "Réponse de la boîte")


async def test_pictures_go_both_ways_by_addresses_that_expire(database: str, tmp_path: Path) -> None:
    async with page(database, tmp_path) as here:
        interaction = await here.taken()
        mid = await here.claire.attaches(png(3, 3), text="Voilà")
        gone = await here.claire.attaches(png(4, 4), expires_s=-1)
        await here.told()
        state = (
            "SELECT a.state, a.id, a.sha256 FROM attachment a JOIN message m ON m.id = a.message"
            " WHERE m.external_id = $1"
        )

        async def fetched() -> bool:
            return all(
                [(await here.office.rows(state, one))[0]["state"] != "fetching" for one in (mid, gone)]
            )

        await here.office.until(fetched, "the picture is not fetched")
        (stored,), (failed,) = await here.office.rows(state, mid), await here.office.rows(state, gone)
        assert (stored["state"], failed["state"]) == ("stored", "failed")
        assert stored["sha256"]
        message, file = here.office.line.ids(), here.office.line.ids()
        kept = await here.office.files.keep(png(5, 5), file)
        await here.office.line.ok(
            m.MessageWritten,
            message=message,
            interaction=interaction,
            author="advisor",
            by="a1",
            attached=(m.Attached(attachment=file, kind="image", name="reçu.png", type="image/png"),),
        )
        await here.office.line.ok(
            m.AttachmentStored,
            message=message,
            attachment=file,
            path=kept.path,
            type=kept.type,
            bytes=kept.bytes,
            sha256=kept.sha256,
        )
        (arrived,) = await here.graph.until(lambda: list(here.claire.inbox))
        assert (arrived.file, arrived.file_type, arrived.persona) == (png(5, 5), "image/png", "First1")


async def test_each_failure_of_the_provider_reaches_the_message(database: str, tmp_path: Path) -> None:
    async with page(database, tmp_path) as here:
        interaction = await here.taken()
        for fault, status in (
            (Fault.UNAVAILABLE, "failed"),
            (Fault.CUT_AFTER, "perhaps"),
            (Fault.GATEWAY, "perhaps"),
        ):
            here.graph.fail(fault, edge="messages")
            await here.office.becomes(await here.office.write(interaction, fault.value), status)
        assert [each.text for each in here.claire.inbox] == ["cut_after"]
        here.graph.fail(Fault.SERVER_ERROR, edge="messages")
        message = await here.office.write(interaction, "encore")

        async def tried() -> bool:
            rows = await here.office.rows("SELECT state, not_before FROM outbox WHERE message = $1", message)
            return bool(rows[0]["state"] == "queued" and rows[0]["not_before"] > here.office.line.clock.now())

        await here.office.until(tried, "it was not tried")
        await here.office.later(60)
        await here.office.becomes(message, "delivered")
        assert [each.text for each in here.claire.inbox] == ["cut_after", "encore"]


async def test_after_a_day_the_tag_and_after_a_week_a_refusal(database: str, tmp_path: Path) -> None:
    async with page(database, tmp_path, receipts=False, echoes=False) as here:
        interaction = await here.taken()
        await here.office.later(25 * HOUR_S)
        await here.office.becomes(await here.office.write(interaction, "libre"), "failed")
        await here.office.becomes(await here.office.write(interaction, "avec", tagged=True), "sent")
        await here.office.later(7 * 24 * HOUR_S)
        await here.office.becomes(await here.office.write(interaction, "tard", tagged=True), "failed")
        assert [(each.text, each.tag) for each in here.claire.inbox] == [("avec", "HUMAN_AGENT")]
        rows = {row["text"]: row for row in await here.office.messages()}
        assert rows["libre"]["failure"] == rows["tard"]["failure"] == "window"


async def test_a_revoked_token_takes_the_account_down_until_it_is_renewed(
    database: str, tmp_path: Path
) -> None:
    async with page(database, tmp_path) as here:
        interaction = await here.taken()
        here.graph.revoke()
        first = await here.office.write(interaction, "un")

        def told() -> list[str]:
            heard = here.office.line.heard
            return [event.data["state"] for event in heard if event.type is m.T.ACCOUNT_CHANGED]

        await here.office.until(lambda: told() == ["down"], "nobody is told")
        assert here.claire.inbox == []
        here.graph.renew()
        await here.office.later(600)
        await here.office.until(lambda: here.claire.inbox, "it does not go on")
        await here.office.becomes(first, "delivered")


async def test_two_pages_of_one_application_share_its_callback(database: str, tmp_path: Path) -> None:
    """Meta knows one callback and one secret an application; what a Page is told before it is known waits for it."""
    async with page(database, tmp_path, more_pages={"1002": "the-other-token"}) as here:
        graph, office = here.graph, here.office
        bruno = graph.customer("35001", "Bruno", page="1002")
        graph.hold()
        mine, his = await here.claire.writes("à la première"), await bruno.writes("à la seconde")
        (told,) = await graph.release()
        assert told.status == 200
        await here.told()
        assert [row["external_id"] for row in await office.messages()] == [mine]
        (view,) = await office.stores.requests.latest()
        assert view.result == {"events": 2, "told": 1, "known": 0, "no_account": ["1002"]}
        assert what_became(view.result) == "2 events, 1 told; no account: 1002"

        settings = {"page_id": "1002", "api_base": graph.base}
        other = Account("other", "messenger", queue="general", hook="page", settings=settings)
        office.line.desk.site = site(accounts=accounts(graph, other))
        for _ in range(2):
            assert await office.hooks.replay(view.request.id) == {"events": 2, "told": 2, "known": 0}
        rows = {row["external_id"]: row for row in await office.messages()}
        assert {mid: row["account"] for mid, row in rows.items()} == {mine: "page", his: "other"}

        async with office.http.post(office.url.replace("/page", "/other"), data=b"{}") as response:
            assert response.status == 404, "its requests come by the callback of the application"
        interaction = rows[his]["interaction"]
        await office.line.ready("a1")
        await office.line.ok(m.InteractionTaken, interaction=interaction, advisor="a1", by="a1")
        answer = await office.write(interaction, "De la seconde")
        await office.becomes(answer, "delivered")
        (arrived,) = bruno.inbox
        assert (arrived.text, arrived.persona) == ("De la seconde", "First1")
        assert {asked.path.split("/")[2] for asked in graph.asked if asked.method == "POST"} == {"1002"}
        await here.told()
        assert len(await office.messages()) == 3, "the echo of our own is no message"
        await bruno.reads()
        await office.becomes(answer, "read")


async def test_a_long_text_goes_on_where_it_stopped_and_its_parts_are_ours(
    database: str, tmp_path: Path
) -> None:
    async with page(database, tmp_path, receipts=False) as here:
        interaction = await here.taken()
        text = " ".join(f"mot{n}" for n in range(700))
        await here.office.becomes(await here.office.write(interaction, "Voici :"), "sent")
        first = here.graph.arrived[-1]

        def refused(_: Any) -> None:
            here.graph.fail(Fault.SERVER_ERROR, edge="messages")

        here.graph.on_arrival = refused
        message = await here.office.write(interaction, text)

        async def stands(at: int) -> bool:
            rows = await here.office.rows("SELECT part FROM message_part WHERE message = $1", message)
            state = await here.office.rows("SELECT state FROM outbox WHERE message = $1", message)
            return len(rows) == at and state[0]["state"] == "queued"

        await here.office.until(partial(stands, 1), "the second part was not refused")
        here.graph.on_arrival = None
        await here.office.later(60)
        await here.office.becomes(message, "sent")
        await here.told()
        one, *rest = [each for each in here.claire.inbox if each.mid != first.mid]
        assert " ".join(each.text for each in (one, *rest)) == text
        assert len(await here.office.messages()) == 3, "the echoes of our own are no messages"
        for arrived in rest:
            await here.claire.gets(arrived)
        await here.told()
        assert await here.office.status(message) == "sent"
        await here.claire.gets(one)
        await here.office.becomes(message, "delivered")
        mid = await here.claire.writes("Merci", reply_to=one.mid)
        await here.told()
        assert (await here.office.message(mid))["reply_to"] == message


async def test_a_new_customer_is_asked_for_once_and_a_name_of_ours_stays(
    database: str, tmp_path: Path
) -> None:
    async with page(database, tmp_path) as here:
        name = "SELECT name FROM contact_data WHERE contact = (SELECT contact FROM message LIMIT 1)"
        await here.claire.writes("Bonjour")
        heard = here.office.line.heard
        await here.office.until(
            lambda: any(each.type is m.T.CONTACT_CHANGED for each in heard), "she has no name"
        )
        assert [row["name"] for row in await here.office.rows(name)] == ["Claire"]
        contact = next(each.contact for each in heard if each.type is m.T.THREAD_OPENED)
        assert contact is not None
        await here.office.line.ok(m.ContactChanged, contact=contact, by="a1", name="Claire Martin")
        await here.claire.writes("Encore moi")
        await here.told()
        asked = [each for each in here.graph.asked if each.method == "GET"]
        assert [each.path.split("/")[-1] for each in asked] == ["24001"]
        late = await here.office.line.tell(m.ContactIntroduced, contact=contact, name="Clara")
        assert late.refused == "named"
        assert [row["name"] for row in await here.office.rows(name)] == ["Claire Martin"]


async def test_without_access_to_profiles_customers_go_without_a_name(database: str, tmp_path: Path) -> None:
    async with page(database, tmp_path, profiles=False) as here:
        others = [here.graph.customer(f"2400{n}", "Autre") for n in (2, 3)]
        await here.claire.writes("Bonjour")
        await here.graph.until(lambda: [each for each in here.graph.asked if each.status == 403])
        interaction = await here.taken("Toujours là ?")
        for other in others:
            await other.writes("Bonjour")
        await here.told()
        await here.office.becomes(await here.office.write(interaction, "Oui."), "delivered")
        assert [each.status for each in here.graph.asked if each.method == "GET"] == [403], "it asks again"
        rows = await here.office.rows("SELECT DISTINCT name FROM contact_data")
        assert [row["name"] for row in rows] == [""]
