"""What the console reads of written channels: messages, threads, the inbox, helps, proposals, secrets and figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from routing import models as m
from routing.aio.postgres import connect, pool, stores
from routing.figures import statistics
from routing.site import Account
from routing.store import InboxFilter, InboxRow, Stores
from tests.routing.hotline import START, HandClock, Hotline, hotline, site

ACCOUNTS = (Account("page", "messenger", queue="general"), Account("box", "email", queue="general"))


@asynccontextmanager
async def office(
    dsn: str, environment: dict[str, str] | None = None, **rules: Any
) -> AsyncIterator[tuple[Hotline, Stores]]:
    """A desk, and the stores beside it. Whatever was done, the inbox ends as if it were made anew."""
    clock = HandClock()
    async with asyncio.timeout(60), pool(dsn, size=3) as made:
        async with hotline(dsn, site(tags=("parcel", "vip"), accounts=ACCOUNTS, **rules), clock) as line:
            yield line, stores(made, line.organisation, clock, environment or {})
        for table, refresh in (("inbox", "refresh_inbox"), ("inbox_data", "refresh_inbox_words")):
            kept = await made.fetch(f"SELECT * FROM {table} ORDER BY case_id")
            await made.execute(f"DELETE FROM {table}")
            await made.execute(
                f"SELECT {refresh}(organisation_id, array_agg(id)) FROM case_file"
                " WHERE interactions >= 0 GROUP BY organisation_id"
            )
            anew = await made.fetch(f"SELECT * FROM {table} ORDER BY case_id")
            said = [[dict(row) for row in rows if row.get("words") != ""] for rows in (kept, anew)]
            assert said[0] == said[1], table


async def inbox(there: Stores, **wanted: Any) -> list[InboxRow]:
    return list(await there.inbox.list(InboxFilter(**wanted)))


async def cases(there: Stores, **wanted: Any) -> list[UUID]:
    return [row.case for row in await inbox(there, **wanted)]


async def test_messages_are_read_by_case_interaction_thread_and_the_ids_of_the_provider(
    database: str,
) -> None:
    async with office(database) as (line, there):
        first = await line.wrote("Où est mon colis ?", name="Ana Lima", external_id="mid.1", payload="TRACK")
        assert first.interaction is not None
        assert first.case is not None
        line.clock.pass_(5)
        await line.wrote("Alors ?", external_id="mid.2")
        await line.ready("a1")
        await line.ok(m.InteractionTaken, interaction=first.interaction, advisor="a1", by="a1")
        line.clock.pass_(60)
        reply = await line.answer(first.interaction, "Il arrive demain.", buttons=(("Merci", "OK"),))
        message = UUID(reply.data["message"])
        await line.ok(m.MessageStatus, message=message, status="sent", external_id="mid.9")

        said = await there.messages.of_case(first.case)
        assert [(it.direction, it.author, it.text) for it in said] == [
            ("in", "customer", "Où est mon colis ?"),
            ("in", "customer", "Alors ?"),
            ("out", "advisor", "Il arrive demain."),
        ]
        assert (said[0].payload, said[0].channel, said[2].by, said[2].status) == (
            "TRACK",
            "messenger",
            "a1",
            "sent",
        )
        assert said[2].buttons == (("Merci", "OK"),)
        assert await there.messages.of_interaction(first.interaction) == said
        assert [it.text for it in await there.messages.of_case(first.case, last=1)] == ["Il arrive demain."]
        assert [it.text for it in await there.messages.after(first.interaction, said[0].seq)] == ["Alors ?"]
        assert await there.messages.get(message) == said[2]
        assert await there.messages.get(line.ids()) is None

        known = await there.messages.known("page", ["mid.1", "mid.9", "mid.none"])
        assert {key: it.direction for key, it in known.items()} == {"mid.1": "in", "mid.9": "out"}
        assert await there.messages.known("box", ["mid.1"]) == {}
        until = line.clock.now()
        assert [it.message for it in await there.messages.ours_until("page", "psid", "psid-1", until)] == [
            message
        ]
        assert not await there.messages.ours_until("page", "psid", "psid-1", until - timedelta(seconds=1))
        await line.ok(m.MessageStatus, message=message, status="read")
        assert not await there.messages.ours_until("page", "psid", "psid-1", until)

        (thread,) = await there.messages.threads_of_case(first.case)
        assert thread == await there.messages.thread(said[0].thread)
        assert (thread.account, thread.address_value, thread.live) == ("page", "psid-1", first.interaction)
        assert (thread.last_in_at, thread.last_out) == (START + timedelta(seconds=5), message)
        view = await there.timeline.interaction(first.interaction)
        assert view is not None
        assert (view.seat, view.account, view.thread) == ("chat", "page", thread.id)
        call = await there.timeline.interaction(await line.call(queue=None))
        assert call is not None
        assert (call.seat, call.account, call.dialled) == ("voice", None, "3631")


async def test_a_mail_finds_its_case_by_its_subject_only_when_there_is_one(database: str) -> None:
    async with office(database) as (line, there):
        mail = {"account": "box", "address": "Ana@Example.fr"}
        first = await line.wrote("Bonjour", subject="RE: Re : Colis perdu", **mail)
        find = there.messages.case_by_subject
        assert await find("box", "ana@example.FR", "Tr: colis perdu", START) == first.case
        assert await find("box", "ana@example.fr", "Colis", START) is None
        assert await find("box", "bob@example.fr", "Colis perdu", START) is None
        assert await find("box", "ana@example.fr", "Re:", START) is None
        assert await find("box", "ana@example.fr", "Colis perdu", START + timedelta(seconds=1)) is None
        view = await there.cases.get(first.case or UUID(int=0))
        assert view is not None
        assert await there.messages.case_of_number(view.number) == first.case
        assert await there.messages.case_of_number(10**9) is None


async def test_the_inbox_tells_who_waits_since_when_and_for_whom(database: str) -> None:
    async with office(database) as (line, there):
        ana = await line.chat("ana", name="Ana Lima", text="Bonjour, mon colis")
        line.clock.pass_(600)
        await line.wrote("Il y a quelqu'un ?", address="ana")
        bob = await line.wrote("Photo", address="bob", name="Bob")
        call = await line.call(queue=None)
        counts = await there.inbox.counts("a1")
        assert counts == {"mine": 0, "unassigned": 3, "all": 3, "waiting": 1, "help": 0}

        (waiting,) = await inbox(there, view="waiting")
        assert (waiting.interaction, waiting.contact_name, waiting.queue) == (ana, "Ana Lima", "general")
        assert (waiting.interaction_state, waiting.interaction_channel) == ("waiting", "messenger")
        assert (waiting.last_text, waiting.last_author) == ("Il y a quelqu'un ?", "customer")
        assert (waiting.last_at, waiting.unanswered_since) == (START + timedelta(seconds=600), START)
        assert await cases(there, older_than_s=599) == [waiting.case]
        assert await cases(there, older_than_s=601) == []

        await line.ready("a1")
        await line.ok(m.InteractionTaken, interaction=ana, advisor="a1", by="a1")
        assert await cases(there, view="mine", advisor="a1") == [waiting.case]
        assert await cases(there, view="mine", advisor="a2") == []
        reply = await line.answer(ana, "Je regarde")
        (mine,) = await inbox(there, advisor="a1")
        assert (mine.unanswered_since, mine.last_author, mine.advisor) == (None, "advisor", "a1")
        failed = {"status": "failed", "failure": "window"}
        await line.ok(m.MessageStatus, message=UUID(reply.data["message"]), **failed)
        (mine,) = await inbox(there, view="mine", advisor="a1")
        assert mine.unanswered_since == START  # what failed has answered nobody

        await line.ok(m.HelpAsked, help=line.ids(), interaction=ana, by="a1", text="Où chercher ?")
        (asked,) = await there.helps.open()
        assert (asked.case, asked.text, asked.answered_at) == (mine.case, "Où chercher ?", None)
        assert await cases(there, view="help") == [mine.case]
        assert (await there.inbox.counts("a1"))["help"] == 1
        await line.ok(m.HelpAnswered, help=asked.id, by="a2", text="Au dépôt")
        assert await there.helps.open() == []
        (answered,) = await there.helps.of_case(mine.case)
        assert (answered.answer, answered.answered_by) == ("Au dépôt", "a2")

        await line.ok(m.InteractionClosed, interaction=ana, by="a1")
        (over,) = await inbox(there, queues=("general",))
        assert (over.case, over.unanswered_since, over.interaction_state) == (mine.case, None, "ended")
        assert await cases(there, channels=("voice",)) == [(await _case(there, call))]
        assert bob.case in await cases(there, view="unassigned")


async def test_a_bot_answers_until_a_human_is_waited_for(database: str) -> None:
    async with office(database) as (line, there):
        wrote = await line.wrote("Bonjour")
        assert wrote.interaction is not None
        (row,) = await inbox(there)
        assert row.unanswered_since == START  # nobody has said anything yet
        bot = {"author": "bot", "by": "", "text": "Que puis-je faire ?"}
        await line.ok(m.TreeEntered, interaction=wrote.interaction, tree="bot", version=1)
        await line.ok(m.MessageWritten, interaction=wrote.interaction, message=line.ids(), **bot)
        (row,) = await inbox(there)
        assert (row.unanswered_since, row.last_author) == (None, "bot")
        await line.ok(m.Enqueued, interaction=wrote.interaction, queue="general")
        (row,) = await inbox(there)
        assert row.unanswered_since == START


async def _case(there: Stores, interaction: UUID) -> UUID:
    view = await there.timeline.interaction(interaction)
    assert view is not None
    return view.case


async def test_the_inbox_is_filtered_by_state_and_tags_and_read_page_by_page(database: str) -> None:
    async with office(database) as (line, there):
        wrote = []
        for n in range(7):
            wrote.append(await line.wrote("Bonjour", address=f"psid-{n}"))
            line.clock.pass_(1)
        ids = [event.case for event in wrote if event.case is not None]
        await line.ok(m.CaseChanged, case=ids[2], by="a1", tags=("parcel",))
        await line.ok(m.CaseChanged, case=ids[3], by="a1", state=m.CaseState.WAITING)
        assert await cases(there, tags=("parcel",)) == [ids[2]]
        assert await cases(there, tags=("vip",)) == []
        assert await cases(there, states=("waiting",)) == [ids[3]]
        found: list[UUID] = []
        after = None
        while page := await there.inbox.list(InboxFilter(), limit=3, after=after):
            found += [row.case for row in page]
            after = (page[-1].last_at, page[-1].case)
        assert found == ids[::-1]


SEARCHES = """
    COLIS            ana bob
    col              ana bob     # of the last word a beginning is enough
    col abime                    # of the others not
    colis abi        ana
    abîmé nantes     ana         # words of several messages
    réunion          bob
    re               bob
    lima             ana
    Ana Li           ana
    bob@example      bob
    06 11 22 33 44   tel
    Dupont
    %
    ' & !
"""


async def test_words_are_found_whatever_their_accents_and_where_they_stand(database: str) -> None:
    async with office(database) as (line, there):
        names = {}
        wrote = await line.wrote("Mon colis est abîmé", address="psid-1", name="Ana Lima")
        names[wrote.case] = "ana"
        await line.wrote("Je suis à Nantes", address="psid-1")
        wrote = await line.wrote(
            "Un colis pour La Réunion", account="box", address="bob@example.fr", name="Bob"
        )
        names[wrote.case] = "bob"
        names[await _case(there, await line.call("+33611223344", queue=None))] = "tel"
        for row in SEARCHES.strip("\n").splitlines():
            typed, meant = row[4:21].strip(), set(row[21:].partition("#")[0].split())
            assert {names[case] for case in await cases(there, text=typed)} == meant, typed
            assert {names[case] for case in await cases(there, view="unassigned", text=typed)} == meant, typed


async def test_a_case_is_found_by_its_number_and_an_edited_word_is_no_longer_found(database: str) -> None:
    async with office(database) as (line, there):
        wrote = await line.wrote("Mon numéro secret est tartempion")
        assert wrote.case is not None
        (row,) = await inbox(there, text="tartempion")
        assert await cases(there, text=f"#{row.number}") == [wrote.case]
        message = UUID(wrote.data["message"])
        await line.ok(m.MessageChanged, message=message, what="edited", text="Mon numéro")
        assert await cases(there, text="tartempion") == []
        assert await cases(there, text="numero") == [wrote.case]
        connection = await connect(database)
        await connection.execute("DELETE FROM message_data")  # erased
        await connection.close()
        assert await cases(there, text="numero") == []


async def test_merged_cases_are_read_as_one_and_apart_again_when_it_is_undone(database: str) -> None:
    async with office(database) as (line, there):
        one = await line.wrote("Le premier message", address="psid-1")
        line.clock.pass_(1)
        two = await line.wrote("Et le second", account="box", address="ana@example.fr")
        assert one.case is not None
        assert two.case is not None
        assert two.interaction is not None
        merge = line.ids()
        await line.ok(m.CasesMerged, merge=merge, case=two.case, into=one.case, by="a1")
        assert await cases(there) == [one.case]
        assert await cases(there, text="premier second") == [one.case]
        (row,) = await inbox(there)
        assert (row.last_text, row.channels) == ("Et le second", ("email", "messenger"))
        assert [it.text for it in await there.messages.of_case(one.case)] == [
            "Le premier message",
            "Et le second",
        ]
        assert len(await there.messages.threads_of_case(one.case)) == 2
        assert [it.id for it in await there.cases.list()] == [one.case]
        view, gone = await there.cases.get(one.case), await there.cases.get(two.case)
        assert view is not None
        assert gone is not None
        assert [(it.merge, it.case) for it in view.merges] == [(merge, two.case)]
        assert (view.channels, gone.merged_into) == (("email", "messenger"), one.case)
        assert await there.messages.case_of_number(gone.number) == one.case
        assert two.interaction in {it.id for it in await there.cases.interactions(one.case)}
        assert m.T.MESSAGE_RECEIVED in {
            it.type for it in await there.timeline.events(one.case) if it.interaction == two.interaction
        }
        line.clock.pass_(1)
        await line.wrote("Et encore", account="box", address="ana@example.fr")
        assert [it.last_text for it in await inbox(there)] == ["Et encore"]

        await line.ok(m.CaseMergeUndone, merge=merge, by="a1")
        assert await cases(there) == [two.case, one.case]
        assert await cases(there, text="encore") == [two.case]
        assert await cases(there, text="premier") == [one.case]
        view = await there.cases.get(one.case)
        assert view is not None
        assert view.merges == ()


async def test_two_contacts_with_one_address_or_name_are_proposed_as_one_person(database: str) -> None:
    async with office(database) as (line, there):
        ids = [line.ids() for _ in range(4)]
        people = (
            ("Ana Lima", "+33611223344"),
            ("A. Lima", "+33611223344"),
            ("ANA LÎMA", "+33699887766"),
            ("Zoé", ""),
        )
        for contact, (name, phone) in zip(ids, people, strict=True):
            more = (("phone", phone),) if phone else ()
            await line.ok(m.ContactChanged, contact=contact, by="a1", name=name, add_addresses=more)
        found = await there.proposals.of(ids[0])
        assert [(it.contact, it.why, it.value) for it in found] == [
            (ids[1], "same_phone", "+33611223344"),
            (ids[2], "same_name", "ANA LÎMA"),
        ]
        assert await there.proposals.of(ids[3]) == []
        await line.ok(
            m.ContactsMerged, merge=line.ids(), contact=ids[1], into=ids[0], by="a1", reason="phone"
        )
        assert [it.contact for it in await there.proposals.of(ids[1])] == [ids[2]]


async def test_secrets_of_the_environment_hide_those_of_the_database(database: str) -> None:
    environment = {
        "MONOFIL_SECRET_MY_PAGE_1_APP_SECRET": "given",
        "MONOFIL_SECRET_OTHER_TOKEN": "x",
        "PATH": "/",
    }
    async with office(database, environment) as (line, there):
        rules = replace(line.desk.site, accounts=(Account("my-page.1", "messenger"),))
        await there.sites.apply(rules, base=None, by="ada")
        await there.secrets.set("my-page.1", "app_secret", "kept")
        await there.secrets.set("my-page.1", "token", "one")
        await there.secrets.set("my-page.1", "token", "two")
        assert await there.secrets.of("my-page.1") == {"app_secret": "given", "token": "two"}
        assert await there.secrets.of("nobody") == {}
        assert await there.secrets.names() == {"my-page.1": frozenset({"app_secret", "token"})}


async def test_walks_go_on_while_nobody_has_taken_over(database: str) -> None:
    async with office(database) as (line, there):
        wrote = await line.wrote("Bonjour")
        assert wrote.interaction is not None
        await line.ok(m.TreeEntered, interaction=wrote.interaction, tree="bot", version=3)
        step = {"tree": "bot", "version": 3, "walk": {"node": "menu"}, "consumed": wrote.seq}
        await line.ok(m.WalkStepped, interaction=wrote.interaction, **step)
        walk = await there.walks.get(wrote.interaction)
        assert walk is not None
        assert (walk.tree, walk.version, walk.state, walk.consumed) == ("bot", 3, {"node": "menu"}, wrote.seq)
        assert await there.walks.live() == [wrote.interaction]
        await line.ok(m.Enqueued, interaction=wrote.interaction, queue="general")
        assert await there.walks.live() == [wrote.interaction]
        await line.ready("a1")
        await line.ok(m.InteractionTaken, interaction=wrote.interaction, advisor="a1", by="a1")
        assert await there.walks.live() == [wrote.interaction], "its tree has not heard of that yet"
        await line.ok(m.NodeLeft, interaction=wrote.interaction, node="menu", exit="accepted", seconds=1.0)
        assert await there.walks.live() == []
        assert await there.walks.get(line.ids()) is None


async def test_the_state_of_an_account_is_remembered(database: str) -> None:
    async with office(database) as (line, there):
        await line.ok(m.AccountChanged, account="page", state="down", reason="token")
        (state,) = await there.account_states.all()
        assert (state.account, state.state, state.reason, state.since) == ("page", "down", "token", START)


async def test_the_rows_of_figures_hold_whole_interactions_around_the_interval(database: str) -> None:
    async with office(database) as (line, there):
        ana = await line.chat("ana")
        await line.ready("a1")
        await line.ok(m.InteractionTaken, interaction=ana, advisor="a1", by="a1")
        line.clock.pass_(600)
        await line.answer(ana)
        await line.ok(m.InteractionClosed, interaction=ana, by="a1")
        rows = await there.figures.between(START - timedelta(hours=1), START + timedelta(hours=1))
        told = statistics(rows, line.desk.site, START - timedelta(hours=1), START + timedelta(hours=1))
        (row,) = told.rows
        assert (row.queue, row.channel, row.figures) == ("general", "messenger", told.totals)
        assert (told.totals.received, told.totals.answered, told.totals.conversations) == (1, 1, 1)
        assert told.totals.first_response.per_message.elapsed == 600.0
        assert (told.totals.within_hour, told.totals.aht_s) == (1.0, 600.0)
        later = await there.figures.between(START + timedelta(days=90), START + timedelta(days=91))
        assert (later.events, later.lines) == ((), ())


async def test_a_tag_on_the_case_that_a_message_went_into_makes_it_processed(database: str) -> None:
    async with office(database) as (line, there):
        one = await line.wrote("Le colis de ma voisine", address="ana", external_id="mid.1")
        two = await line.wrote("Mon colis", address="bob", external_id="mid.2")
        for wrote in (one, two):
            assert wrote.interaction is not None
            await line.ok(m.Enqueued, interaction=wrote.interaction, queue="general")
        line.clock.pass_(60)

        async def processed() -> int:
            rows = await there.figures.between(START - timedelta(hours=1), START + timedelta(hours=1))
            told = statistics(rows, line.desk.site, START - timedelta(hours=1), START + timedelta(hours=1))
            assert told.totals.received == 2
            return told.totals.processed

        assert await processed() == 0
        await line.ok(m.CaseChanged, case=two.case, by="a1", subject="Colis perdu")
        assert await processed() == 0
        await line.ok(m.CasesMerged, merge=line.ids(), case=one.case, into=two.case, by="a1")
        await line.ok(m.CaseChanged, case=two.case, by="a1", tags=("parcel",))
        assert await processed() == 2


async def test_a_conversation_goes_on_and_a_return_is_seen_beyond_the_interval(database: str) -> None:
    async with office(database) as (line, there):
        before = await line.chat("ana")
        await line.ready("a1")
        await line.ok(m.InteractionTaken, interaction=before, advisor="a1", by="a1")
        await line.ok(m.InteractionClosed, interaction=before, by="a1")
        line.clock.pass_(2 * 86_400)
        within = await line.wrote("Encore moi", address="ana")
        await line.ok(m.TreeEntered, interaction=within.interaction, tree="bot", version=1)
        await line.ok(m.TreeEnded, interaction=within.interaction)
        line.clock.pass_(2 * 86_400)
        after = await line.wrote("Et encore", address="ana")
        others = await line.wrote("Bonjour", address="bob")
        middle = START + timedelta(days=2)
        rows = await there.figures.between(middle - timedelta(hours=1), middle + timedelta(hours=1))
        assert {event.interaction for event in rows.events} == {before, within.interaction, after.interaction}
        assert others.interaction not in {each.interaction for each in rows.lines}
