"""Messages on a real database: who wrote, where it belongs, who may answer, and what lies in the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from routing import models as m
from routing.aio.postgres import connect
from routing.projection import CaseRow, ContactRow, MessageRow, Rows, ThreadRow, rebuild
from tests.routing.hotline import HandClock, Hotline, hotline
from tests.routing.hotline import site as rules
from tests.routing.record import check


@asynccontextmanager
async def written(dsn: str, clock: HandClock | None = None, **site: Any) -> AsyncIterator[Hotline]:
    """A hotline whose record is checked at the end."""
    async with asyncio.timeout(30):
        async with hotline(dsn, replace(rules(), **site), clock) as line:
            yield line
        await check(dsn, line.organisation, line.desk.site)


async def rows(line: Hotline) -> Rows:
    return rebuild(await check(line.dsn, line.organisation, line.desk.site))


async def table(line: Hotline, statement: str) -> list[Any]:
    connection = await connect(line.dsn)
    try:
        found: list[Any] = await connection.fetch(statement)
        return found
    finally:
        await connection.close()


async def outbox(line: Hotline) -> list[Any]:
    return await table(line, "SELECT * FROM outbox ORDER BY seq")


async def test_a_message_opens_a_thread_a_contact_and_a_case_and_the_next_one_joins_them(
    database: str,
) -> None:
    async with written(database) as line:
        first = await line.wrote("Où est mon colis ?", name="Ana Lima", subject="Colis")
        assert line.types(first.interaction) == ["interaction.opened", "message.received"]
        again = await line.wrote("?", name="Ana Lima")
        assert (again.interaction, again.case, again.data["thread"]) == (
            first.interaction,
            first.case,
            first.data["thread"],
        )
        assert line.types().count("contact.created") == 1
        thread = (await rows(line)).get(ThreadRow, UUID(first.data["thread"]))
        assert (thread.live, thread.messages, thread.last_in_at) == (first.interaction, 2, line.clock.now())
        (named,) = await table(line, "SELECT name, sort_name FROM contact_data")
        assert tuple(named) == ("Ana Lima", "ana lima")
        words = await table(line, "SELECT text, folded FROM message_data ORDER BY message")
        assert [tuple(row) for row in words] == [
            ("Où est mon colis ?", "colis ou est mon colis ?"),
            ("?", "?"),
        ]


async def test_a_message_that_comes_again_is_known_even_after_a_restart(database: str) -> None:
    clock = HandClock()
    async with written(database, clock) as line:
        letter = line.letter()
        await line.ok(m.MessageReceived, **letter)
        again = {**letter, "message": line.ids(), "interaction": line.ids()}
        assert (await line.tell(m.MessageReceived, **again)).refused == "known_message"
        elsewhere = {**again, "account": "other"}
        assert (await line.tell(m.MessageReceived, **elsewhere)).refused is None
    async with written(database, clock) as line:
        assert (await line.tell(m.MessageReceived, **again)).refused == "known_message"


async def test_a_customer_who_writes_joins_what_lives_whatever_its_state_and_opens_anew_when_it_is_over(
    database: str,
) -> None:
    async with written(database) as line:
        await line.ready("a1")
        chat = await line.chat()
        assert line.state(chat) == "offered"
        assert (await line.wrote()).interaction == chat
        await line.talk(chat)
        assert (await line.wrote()).interaction == chat
        await line.ok(m.HandedBack, interaction=chat, node="menu", by="a1")
        assert line.state(chat) == "qualifying"
        assert (await line.wrote()).interaction == chat
        await line.ok(m.InteractionClosed, interaction=chat, by="a1", outcome="archived", reason="spam")
        row = line.desk.interaction(chat)
        assert row is not None
        assert (row.state, row.outcome, row.advisor) == ("ended", "archived", None)
        later = await line.wrote()
        assert later.interaction != chat
        assert later.case == row.case_id


async def test_what_a_machine_wrote_is_stored_and_opens_no_work(database: str) -> None:
    async with written(database) as line:
        alone = await line.wrote("Out of office", "robot@example.org", account="box", automatic=True)
        assert alone.interaction is not None
        row = line.desk.interaction(alone.interaction)
        assert row is not None
        assert (row.state, row.outcome) == ("ended", "automatic")
        again = await line.wrote("Out of office", "robot@example.org", account="box", automatic=True)
        assert again.interaction == alone.interaction
        assert line.desk.interactions() == []


async def test_a_case_that_waits_for_the_customer_is_open_again_when_they_write(database: str) -> None:
    async with written(database) as line:
        wrote = await line.wrote()
        await line.ok(m.CaseChanged, case=wrote.case, by="a1", state=m.CaseState.WAITING)
        await line.wrote(automatic=True)
        assert (await rows(line)).get(CaseRow, wrote.case).state == "waiting"
        await line.wrote()
        assert (await rows(line)).get(CaseRow, wrote.case).state == "open"


async def test_an_answer_is_in_the_outbox_with_its_address_and_the_advisor_s_first_name(
    database: str,
) -> None:
    async with written(database) as line:
        await line.ready("a1")
        chat = await line.chat(address="psid-7")
        await line.talk(chat)
        line.clock.pass_(5)
        answer = await line.answer(chat, "Il arrive demain", buttons=(("Merci", "thanks"),))
        (row,) = await outbox(line)
        assert (row["message"], row["seq"], row["state"]) == (
            UUID(answer.data["message"]),
            answer.seq,
            "queued",
        )
        sent = row["outgoing"]
        assert (sent["to"], sent["address_kind"], sent["author_name"]) == ("psid-7", "psid", "First1")
        assert sent["buttons"] == [{"title": "Merci", "payload": "thanks"}]
        assert (sent["text"], sent["case_number"], sent["automatic"]) == ("Il arrive demain", 1, False)
        state = await rows(line)
        assert state.get(ThreadRow, UUID(answer.data["thread"])).last_out == row["message"]
        assert state.get(CaseRow, answer.case).advisor == "a1"


async def test_who_may_write(database: str) -> None:
    async with written(database) as line:
        await line.ready("a1")
        chat = await line.chat()
        said = {"interaction": chat, "text": "Bonjour"}

        async def refused(**fields: Any) -> str | None:
            return (await line.tell(m.MessageWritten, message=line.ids(), **{**said, **fields})).refused

        assert await refused(author="bot", by="") is None, "the tree speaks while nobody has it"
        assert await refused(author="advisor", by="a1") == "not_yours"
        await line.talk(chat)
        assert await refused(author="bot", by="") == "human_speaks"
        assert await refused(author="system", by="") is None
        assert await refused(author="advisor", by="a2") == "not_yours"
        assert await refused(author="advisor", by="a1", text="  ") == "empty"
        first = await line.answer(chat)
        seen = UUID(first.data["message"])
        assert await refused(author="advisor", by="a1", over=None, consent=False) == "newer_reply"
        assert await refused(author="advisor", by="a1", over=seen, consent=False) is None
        await line.ok(m.InteractionClosed, interaction=chat, by="a1", code="done", note="Tout va bien")
        assert await refused(author="advisor", by="a1") == "over"
        case = (await rows(line)).get(CaseRow, first.case)
        assert (case.state, case.notes) == ("solved", 1)


async def test_a_mail_from_a_case_ends_at_once_and_its_answer_comes_back_to_the_case_and_the_advisor(
    database: str,
) -> None:
    async with written(database) as line:
        await line.ready("a1", "a2")
        chat = await line.chat()
        who = await line.talk(chat)
        row = line.desk.interaction(chat)
        assert row is not None
        await line.ok(
            m.ContactChanged, contact=row.contact, by=who, add_addresses=(("email", "Ana@Example.org"),)
        )
        (address,) = await table(line, "SELECT address FROM address_data WHERE kind = 'email'")
        mail = {
            "message": line.ids(),
            "interaction": line.ids(),
            "author": "advisor",
            "by": who,
            "case": row.case_id,
            "account": "box",
            "channel": "email",
            "seat": "mail",
            "address": address[0],
            "subject": "Votre colis",
            "text": "Bonjour",
        }
        sent = await line.told(m.MessageWritten, **mail)
        out = line.desk.interaction(mail["interaction"])
        assert out is not None
        assert (out.state, out.outcome, out.direction, out.seat) == ("ended", "sent", "out", "mail")
        assert (await outbox(line))[-1]["outgoing"]["to"] == "ana@example.org"
        unknown = {**mail, "message": line.ids(), "interaction": line.ids(), "address": line.ids()}
        assert (await line.tell(m.MessageWritten, **unknown)).refused == "unknown_address"
        await line.ok(m.InteractionClosed, interaction=chat, by=who, code="done")
        line.clock.pass_(2 * 86400)
        back = await line.chat("ana@example.org", account="box", case=row.case_id)
        answered = line.desk.interaction(back)
        assert answered is not None
        assert (answered.case_id, answered.thread) == (row.case_id, UUID(sent.data["thread"]))
        assert (answered.state, answered.advisor) == ("offered", who)
        assert "case.reopened" in line.types()


async def test_statuses_never_go_back(database: str) -> None:
    async with written(database) as line:
        await line.ready("a1")
        chat = await line.chat()
        await line.talk(chat)
        message = UUID((await line.answer(chat)).data["message"])

        async def status(word: str, **fields: Any) -> str | None:
            return (await line.tell(m.MessageStatus, message=message, status=word, **fields)).refused

        assert await status("sent", external_id="m.out") is None
        assert await status("sending") == "older_status"
        assert await status("delivered") is None
        assert await status("sent") == "older_status"
        assert await status("read") is None
        assert await status("failed", failure="refused") == "older_status", "it was read"
        row = (await rows(line)).get(MessageRow, message)
        assert (row.status, row.external_id, row.sent_at) == ("read", "m.out", line.clock.now())
        other = UUID((await line.answer(chat)).data["message"])
        told = {"message": other, "failure": "window", "code": "10", "detail": "too late"}
        assert (await line.tell(m.MessageStatus, status="sent", external_id="m.out", **told)).refused is None
        assert (await rows(line)).get(MessageRow, other).external_id is None, "another message bears it"
        assert (await line.tell(m.MessageStatus, status="failed", **told)).refused is None
        assert (await line.tell(m.MessageStatus, status="read", **told)).refused == "older_status"


async def test_an_answer_given_elsewhere_stands_in_the_thread_and_opens_no_work(database: str) -> None:
    async with written(database) as line:
        wrote = await line.wrote()
        echo = {"account": "page", "address_kind": "psid", "address": "psid-1", "text": "Vu"}
        told = await line.told(m.MessageEchoed, message=line.ids(), external_id="m.e1", **echo)
        assert told.interaction == wrote.interaction
        again = await line.tell(m.MessageEchoed, message=line.ids(), external_id="m.e1", **echo)
        assert again.refused == "known_message"
        stranger = {**echo, "address": "psid-2"}
        told = await line.told(m.MessageEchoed, message=line.ids(), external_id="m.e2", **stranger)
        assert told.interaction is not None
        row = line.desk.interaction(told.interaction)
        assert row is not None
        assert (row.state, row.outcome) == ("ended", "elsewhere")
        assert await outbox(line) == []


async def test_what_a_customer_changes_and_what_is_attached(database: str) -> None:
    async with written(database) as line:
        files = tuple(m.Attached(attachment=line.ids(), kind="image", name=f"{n}.png") for n in range(2))
        stored = m.Attached(attachment=line.ids(), kind="file", path="x/y", bytes=3, sha256="ab")
        message = UUID((await line.wrote(attached=(*files, stored))).data["message"])
        told = {"message": message, "attachment": files[0].attachment}
        await line.ok(m.AttachmentStored, path="files/1", type="image/png", bytes=9, sha256="cd", **told)
        assert (await line.tell(m.AttachmentStored, **told)).refused == "stored_already"
        await line.ok(
            m.AttachmentStored, message=message, attachment=files[1].attachment, failed="quarantined"
        )
        found = await table(
            line, "SELECT state, path FROM attachment JOIN attachment_data ON attachment = id"
        )
        assert sorted(tuple(row) for row in found) == [
            ("quarantined", ""),
            ("stored", "files/1"),
            ("stored", "x/y"),
        ]
        await line.ok(m.MessageChanged, message=message, what="reacted", text="❤")
        await line.ok(m.MessageChanged, message=message, what="edited", text="Bonsoir")
        (row,) = await table(line, "SELECT text, reaction FROM message_data")
        assert tuple(row) == ("Bonsoir", "❤")
        await line.ok(m.MessageChanged, message=message, what="unsent")
        (row,) = await table(line, "SELECT text, reaction FROM message_data")
        assert tuple(row) == ("", ""), "what was taken back is not kept"


async def test_a_step_of_the_tree_is_stored_whole(database: str) -> None:
    async with written(database) as line:
        wrote = await line.wrote()
        await line.ready("a1")
        step: dict[str, Any] = {
            "interaction": wrote.interaction,
            "tree": "bot",
            "version": 2,
            "walk": {"at": "queue"},
            "consumed": wrote.seq,
            "left": (("hello", "default", 0.5),),
            "facts": {"language": "fr", "parcel": "12"},
            "said": (
                m.Said(message=line.ids(), text="Bonjour, je suis un robot"),
                m.Said(message=line.ids(), text="Je vous passe…"),
            ),
        }
        full = m.Enqueued(
            key=line.ids(), organisation=line.organisation, interaction=line.ids(), queue="nowhere"
        )
        before = list(line.heard)
        assert (await line.tell(m.WalkStepped, enqueue=full, **step)).refused == "unknown_queue"
        assert line.heard == before, "nothing of it is stored"
        assert await outbox(line) == []
        good = m.Enqueued(
            key=line.ids(), organisation=line.organisation, interaction=line.ids(), queue="general"
        )
        await line.ok(m.WalkStepped, enqueue=good, **step)
        assert line.types(wrote.interaction) == [
            "interaction.opened",
            "message.received",
            "tree.entered",
            "node.left",
            "facts.learned",
            "message.written",
            "message.written",
            "interaction.enqueued",
            "offer.made",
        ]
        sent = await outbox(line)
        assert [row["outgoing"]["text"] for row in sent] == [said.text for said in step["said"]]
        assert {row["outgoing"]["author_name"] for row in sent} == {"Nova"}
        (walk,) = await table(line, "SELECT * FROM walk")
        assert (walk["tree"], walk["state"], walk["consumed"]) == ("bot", {"at": "queue"}, wrote.seq)
        assert wrote.interaction is not None
        await line.talk(wrote.interaction)
        late = {**step, "said": (m.Said(message=line.ids(), text="Encore moi"),), "facts": {}}
        assert (await line.tell(m.WalkStepped, **late)).refused == "human_speaks"
        await line.ok(m.HandedBack, interaction=wrote.interaction, node="menu", by="a1")
        await line.ok(m.WalkStepped, **late, ended="served")
        assert line.state(wrote.interaction) == "ended"
        assert (await line.tell(m.WalkStepped, **late)).refused == "over"
        await line.ready("a1")
        assert line.desk.advisor_state("a1") == "ready"


async def test_an_advisor_takes_what_waits_or_what_the_tree_has_and_nobody_takes_it_from_them(
    database: str,
) -> None:
    async with written(database) as line:
        waits = await line.chat()
        wrote = await line.wrote(address="psid-2")
        assert wrote.interaction is not None
        await line.ready("a1", "a2")
        held = {row.id: row.advisor for row in line.desk.interactions() if row.state == "offered"}
        other = next(advisor for advisor in ("a1", "a2") if advisor != held[waits])
        take = {"interaction": waits, "by": other}
        assert (await line.tell(m.InteractionTaken, advisor=other, **take)).refused == f"taken:{held[waits]}"
        mine = {"advisor": held[waits], "by": held[waits]}
        await line.ok(m.InteractionTaken, interaction=waits, **mine)
        assert line.state(waits) == "active", "it was offered to them"
        await line.ok(m.InteractionTaken, interaction=wrote.interaction, advisor=other, by="sue")
        row = line.desk.interaction(wrote.interaction)
        assert row is not None
        assert (row.state, row.advisor, row.accepted_at) == ("active", other, line.clock.now())
        again = {"interaction": wrote.interaction, "by": "sue"}
        assert (await line.tell(m.InteractionTaken, advisor=other, **again)).refused == "unchanged"
        assert (await line.tell(m.InteractionTaken, advisor="a3", **again)).refused == f"taken:{other}"
        third = await line.wrote(address="psid-3")
        assert (
            await line.tell(m.InteractionTaken, interaction=third.interaction, advisor="a3", by="a3")
        ).refused == "offline"
        assert (await line.tell(m.TalkEnded, interaction=waits, by="advisor")).refused == "not_now"
        await line.ok(m.InteractionClosed, interaction=wrote.interaction, by=other)
        assert line.desk.advisor_state(other) == "ready", "no wrap-up after what was written"


async def test_who_takes_a_later_one_first_has_passed_over_those_who_came_before(database: str) -> None:
    async with written(database) as line:
        for n in range(3):
            last = await line.chat(address=f"psid-{n}")
        await line.tell(m.PresenceSet, advisor="a1", presence=m.Presence.PAUSE, reason="break")
        for interaction, passed_over in ((last, 2), (line.desk.interactions()[0].id, 0)):
            told = await line.ok(m.InteractionTaken, interaction=interaction, advisor="a1", by="a1")
            (taken,) = (event for event in told.events if event.type is m.T.ASSIGNED)
            assert taken.data["passed_over"] == passed_over
        given = await line.chat(address="psid-9")
        told = await line.ok(m.InteractionTaken, interaction=given, advisor="a1", by="sue")
        (taken,) = (event for event in told.events if event.type is m.T.ASSIGNED)
        assert taken.data["passed_over"] == 0, "a supervisor who gives is not one who picks"


async def test_what_is_on_hold_leaves_a_seat_until_the_customer_writes_again(database: str) -> None:
    clock = HandClock()
    async with written(database, clock) as line:
        await line.ready("a1")
        chat = await line.chat()
        await line.talk(chat)
        seats = next(each.seats["chat"] for each in line.desk.site.advisors if each.id == "a1")
        others = [await line.chat(address=f"psid-{n}") for n in range(2, seats + 2)]
        for other in others[:-1]:
            await line.talk(other)
        assert line.state(others[-1]) == "waiting"
        await line.ok(m.HoldChanged, interaction=chat, held=True)
        assert (await line.tell(m.HoldChanged, interaction=chat, held=True)).refused == "unchanged"
        assert line.state(others[-1]) == "offered"
        await line.talk(others[-1])
    async with written(database, clock) as line:
        row = line.desk.interaction(chat)
        assert row is not None
        assert (row.held, row.state, row.advisor) == (True, "active", "a1")
        await line.wrote("Toujours rien !")
        row = line.desk.interaction(chat)
        assert row is not None
        assert (row.held, row.state, row.advisor) == (False, "active", "a1")
        await line.ok(m.InteractionClosed, interaction=others[0], by="a1")
        more = await line.chat(address="psid-9")
        assert line.state(more) == "waiting", "the seat is that of the one that was taken up again"


async def test_what_is_on_hold_is_not_so_for_who_is_given_it(database: str) -> None:
    async with written(database) as line:
        await line.ready("a1")
        chat = await line.chat()
        await line.talk(chat)
        await line.ok(m.HoldChanged, interaction=chat, held=True)
        await line.ready("a2")
        await line.ok(m.InteractionTaken, interaction=chat, advisor="a2", by="sue", over=True)
        row = line.desk.interaction(chat)
        assert row is not None
        assert (row.held, row.advisor) == (False, "a2")


async def test_a_supervisor_gives_what_an_advisor_has_to_another_and_nobody_answers_twice(
    database: str,
) -> None:
    async with written(database) as line:
        chat = await line.chat()
        await line.ready("a1")
        await line.talk(chat)
        give: dict[str, Any] = {"interaction": chat, "advisor": "a2", "by": "sue", "over": True}
        assert (await line.tell(m.InteractionTaken, **give)).refused == "offline"
        assert (await line.answer(chat)).advisor == "a1"
        await line.ready("a2")
        before = (await outbox(line))[-1]["message"]
        await line.ok(m.InteractionTaken, **give)
        row = line.desk.interaction(chat)
        assert row is not None
        assert (row.state, row.advisor, row.queue) == ("active", "a2", "general")
        assert [line.desk.advisor_state(each) for each in ("a1", "a2")] == ["ready", "busy"]
        late = {"author": "advisor", "by": "a1", "message": line.ids(), "text": "encore", "over": before}
        assert (await line.tell(m.MessageWritten, interaction=chat, **late)).refused == "not_yours"
        assert (await line.answer(chat, over=before)).advisor == "a2"
        assert (await line.tell(m.InteractionTaken, **give)).refused == "unchanged"
    async with written(database) as line:
        row = line.desk.interaction(chat)
        assert row is not None
        assert (row.state, row.advisor) == ("active", "a2")
        await line.ok(m.InteractionClosed, interaction=chat, by="a2")


async def test_help_is_asked_and_answered_once_while_the_interaction_stays(database: str) -> None:
    async with written(database) as line:
        await line.ready("a1")
        chat = await line.chat()
        await line.talk(chat)
        ask = {"help": line.ids(), "interaction": chat, "by": "a1", "text": "Qui connaît ce cas ?"}
        await line.ok(m.HelpAsked, **ask)
        assert line.state(chat) == "active"
        answer = {"help": ask["help"], "by": "a2", "text": "Moi"}
        await line.ok(m.HelpAnswered, **answer)
        assert (await line.tell(m.HelpAnswered, **answer)).refused == "answered_already"
        (row,) = await table(line, "SELECT text, answer FROM help_data")
        assert tuple(row) == ("Qui connaît ce cas ?", "Moi")


async def test_the_state_of_an_account_is_told_when_it_changes(database: str) -> None:
    clock = HandClock()
    async with written(database, clock) as line:
        down = {"account": "page", "state": "down", "reason": "token"}
        assert (await line.tell(m.AccountChanged, account="page", state="up")).refused == "unchanged"
        await line.ok(m.AccountChanged, **down)
        assert (await line.tell(m.AccountChanged, **down)).refused == "unchanged"
    async with written(database, clock) as line:
        assert (await line.tell(m.AccountChanged, **down)).refused == "unchanged"
        await line.ok(m.AccountChanged, account="page", state="up")


async def test_tags_of_a_case_come_from_the_site(database: str) -> None:
    async with written(database) as line:
        wrote = await line.wrote()
        change = {"case": wrote.case, "by": "a1"}
        await line.ok(m.CaseChanged, tags=("urgent", "parcel", "urgent"), **change)
        assert (await line.tell(m.CaseChanged, tags=("nonsense",), **change)).refused == "unknown_tag"
        assert (await line.tell(m.CaseChanged, tags=("urgent", "parcel"), **change)).refused == "unchanged"
        assert (await rows(line)).get(CaseRow, wrote.case).tags == ["urgent", "parcel"]


async def test_merging_cases_is_a_link_and_undoing_it_restores_both_exactly(database: str) -> None:
    async with written(database) as line:
        one, two = await line.wrote(), await line.wrote(address="psid-2")
        before = await rows(line)
        merge = {"merge": line.ids(), "case": one.case, "into": two.case, "by": "a1"}
        assert (await line.tell(m.CasesMerged, **{**merge, "into": one.case})).refused == "same_case"
        await line.ok(m.CasesMerged, **merge)
        again = {**merge, "merge": line.ids()}
        assert (await line.tell(m.CasesMerged, **again)).refused == "already_merged"
        back = {**again, "case": two.case, "into": one.case}
        assert (await line.tell(m.CasesMerged, **back)).refused == "same_case"
        await line.ok(m.CaseMergeUndone, merge=merge["merge"], by="a1")
        assert (await line.tell(m.CaseMergeUndone, merge=merge["merge"], by="a1")).refused == "undone_already"
        after = await rows(line)
        assert after.tables[CaseRow] == before.tables[CaseRow]
        await line.ok(m.CasesMerged, **again)
        await line.ok(
            m.InteractionClosed, interaction=one.interaction, by="a1", outcome="archived", reason="spam"
        )
        later = await line.wrote()
        assert later.interaction != one.interaction
        assert later.case == two.case, "new words to a merged case land in the one that is left"
        assert later.contact == one.contact


async def test_one_verified_key_of_exactly_one_person_joins_a_new_contact_and_can_be_undone(
    database: str,
) -> None:
    async with written(database) as line:
        mail = await line.wrote("Bonjour", "ana@example.org", account="box")
        chat = await line.wrote(
            address="w-1", address_kind="webchat", more_addresses=(("email", "ANA@example.org"),)
        )
        merged = (await rows(line)).get(ContactRow, chat.contact)
        assert merged.merged_into == mail.contact
        assert chat.case == mail.case
        await line.ok(m.MergeUndone, merge=merged.merge_id, by="a1")
        await line.wrote(
            address="w-1", address_kind="webchat", more_addresses=(("email", "ana@example.org"),)
        )
        assert (await rows(line)).get(ContactRow, chat.contact).merged_into is None, (
            "what was undone stays undone"
        )


async def test_messages_go_with_their_interaction_to_another_case(database: str) -> None:
    async with written(database) as line:
        one, two = await line.wrote(), await line.wrote(address="psid-2")
        await line.ok(m.HelpAsked, help=line.ids(), interaction=one.interaction, by="a1", text="?")
        await line.ok(m.CaseChosen, interaction=one.interaction, case=two.case, by="a1")
        state = await rows(line)
        assert state.get(MessageRow, UUID(one.data["message"])).case_id == two.case


@pytest.mark.parametrize("text", ["a\x00b", "\ud800 half", "\x00"])
async def test_no_sign_stops_the_desk(database: str, text: str) -> None:
    async with written(database) as line:
        odd: dict[str, Any] = {
            "name": text,
            "subject": text,
            "payload": text,
            "extra": {text: [text, float("nan")]},
        }
        await line.wrote(text, f"psid{text}", external_id=f"x{text}", **odd)


async def test_written_interactions_keep_their_place_over_a_restart(database: str) -> None:
    clock = HandClock()
    async with written(database, clock) as line:
        await line.ready("a1")
        chats = [await line.chat(address=f"psid-{n}") for n in range(3)]
        await line.talk(chats[0])
        tree = await line.wrote(address="psid-9")
        await line.ok(m.TreeEntered, interaction=tree.interaction, tree="bot", version=1)
        await line.ok(m.PresenceSet, advisor="a1", presence=m.Presence.PAUSE)
    async with written(database, clock) as line:
        assert tree.interaction is not None
        assert [line.state(chat) for chat in (*chats, tree.interaction)] == [
            "active",
            "waiting",
            "waiting",
            "qualifying",
        ]
        assert [line.desk.place(chat) for chat in chats[1:]] == [1, 2]
        assert (await line.answer(chats[0])).interaction == chats[0]
        assert (await outbox(line))[-1]["outgoing"]["to"] == "psid-0"
        assert (await line.wrote(address="psid-2")).interaction == chats[2]


async def test_who_has_no_page_is_offered_nothing_written_also_after_a_restart(database: str) -> None:
    told = {"advisor": "a1", "channel": "chat"}
    clock = HandClock()
    async with written(database, clock) as line:
        await line.ready("a1")
        await line.ok(m.ReachChanged, reachable=False, **told)
        assert (await line.tell(m.ReachChanged, reachable=False, **told)).refused == "unchanged"
        first = await line.chat()
        assert line.state(first) == "waiting"
        await line.ok(m.ReachChanged, reachable=True, **told)
        assert line.state(first) == "offered"
    async with written(database, clock) as line:  # nobody has a page yet
        assert line.state(first) == "waiting"
        assert not line.desk.reachable("a1", "chat")
        second = await line.chat("psid-2")
        assert line.state(second) == "waiting"
    async with written(database, clock) as line:
        assert line.state(first) == "waiting"
        await line.ok(m.ReachChanged, reachable=True, **told)
        assert (line.state(first), line.state(second)) == ("offered", "offered")


async def test_a_call_from_a_chat_takes_its_seat_and_gives_it_back(database: str) -> None:
    async with written(database) as line:
        await line.ready("a1")
        chat = await line.chat()
        await line.talk(chat)
        row = line.desk.interaction(chat)
        assert row is not None
        call: dict[str, Any] = {
            "interaction": line.ids(),
            "channel": "voice",
            "direction": "out",
            "address": "+33611223344",
            "case": row.case_id,
            "advisor": "a1",
            "exchange": chat,
        }
        await line.ok(m.InteractionOpened, **call)
        placed, lent = line.desk.interaction(call["interaction"]), line.desk.interaction(chat)
        assert placed is not None
        assert lent is not None
        assert (placed.case_id, placed.seat, lent.lent_to, lent.state) == (
            row.case_id,
            "voice",
            placed.id,
            "active",
        )
        more = {**call, "interaction": line.ids()}
        assert (await line.tell(m.InteractionOpened, **more)).refused == "no_free_seat"
        await line.ok(m.CallFailed, interaction=placed.id, reason="no_answer")
        returned = line.desk.interaction(chat)
        assert returned is not None
        assert (returned.lent_to, returned.state, returned.advisor) == (None, "active", "a1")
        assert [kind for kind in line.types() if kind.startswith("seat.")] == ["seat.lent", "seat.returned"]


async def test_a_call_lost_in_a_restart_gives_the_chat_its_seat_back(database: str) -> None:
    clock = HandClock()
    async with written(database, clock) as line:
        await line.ready("a1")
        chat = await line.chat()
        await line.talk(chat)
        await line.ok(
            m.InteractionOpened,
            interaction=line.ids(),
            channel="voice",
            direction="out",
            address="+33611223344",
            advisor="a1",
            exchange=chat,
        )
    async with written(database, clock) as line:
        row = line.desk.interaction(chat)
        assert row is not None
        assert (row.lent_to, row.state, row.advisor) == (None, "active", "a1")
        await line.ready("a1")
        assert line.state(await line.call()) == "offered"


async def test_passing_a_chat_on_to_a_queue_offers_it_to_somebody_else(database: str) -> None:
    async with written(database) as line:
        await line.ready("a1", "a2")
        chat = await line.chat()
        first = await line.talk(chat)
        await line.ok(m.Enqueued, interaction=chat, queue="billing")
        row = line.desk.interaction(chat)
        assert row is not None
        assert row.state in ("waiting", "offered")
        assert row.queue == "billing"
        assert line.desk.advisor_state(first) == "ready" or row.advisor == first


async def test_a_copy_of_what_somebody_else_answers_is_shown_and_opens_no_work(database: str) -> None:
    async with written(database) as line:
        copy = await line.wrote(standby=True)
        assert copy.interaction is not None
        row = line.desk.interaction(copy.interaction)
        assert row is not None
        assert (row.state, row.outcome) == ("ended", "standby")
        wrote = await line.wrote()
        assert wrote.interaction != copy.interaction
        assert (await line.wrote(standby=True)).interaction == wrote.interaction


async def test_a_chat_whose_advisor_or_queue_is_gone_after_a_restart_is_not_lost(database: str) -> None:
    clock = HandClock()
    async with written(database, clock) as line:
        await line.ready("a1")
        held = await line.chat()
        await line.talk(held)
        await line.ok(m.PresenceSet, advisor="a1", presence=m.Presence.PAUSE)
        waits = await line.chat("psid-2", queue="billing")
        was = line.desk.site
    fewer = replace(was, queues=was.queues[:1], advisors=was.advisors[1:])
    async with asyncio.timeout(30), hotline(database, fewer, clock) as line:
        assert line.state(held) == "waiting"
        assert line.state(waits) == "qualifying", "its tree goes on"
        await line.ready("a2")
        assert line.state(held) == "offered"
    await check(database, line.organisation, was)
