"""Several matters in one mail thread: a mail is in the case that it proves, and what lives elsewhere stays as it is."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from routing import models as m
from routing.aio.clock import IdMaker
from routing.aio.postgres import connect, migrate
from routing.book import Book
from routing.projection import (
    TABLES,
    CaseRow,
    InteractionRow,
    MessageRow,
    NoteRow,
    RecordingRow,
    Rows,
    StepRow,
    ThreadRow,
    rebuild,
)
from tests.routing.hotline import START, HandClock, Hotline, hotline, site
from tests.routing.record import check

ORGANISATION = UUID(int=7)
PEOPLE = ("ana@client.example", "bea@client.example")
BOX = {"account": "box", "address": PEOPLE[0]}

ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            (
                *("mail", "mail", "proof", "proof", "proof", "machine", "likely", "take", "answer", "close"),
                *("from_case", "solve", "merge", "undo", "merge_cases", "undo_cases", "choose_case"),
                "choose_contact",
            )
        ),
        st.integers(0, 50),
        st.integers(0, 50),
    ),
    max_size=60,
)


class Post:
    """A book without a database, two people who write mails, and one advisor with many seats."""

    def __init__(self) -> None:
        rules = site(1)
        (advisor,) = rules.advisors
        self.ids = IdMaker()
        rules = replace(rules, advisors=(replace(advisor, seats={"voice": 1, "chat": 99, "mail": 99}),))
        self.book = Book(ORGANISATION, rules, self.ids)
        self.book.set_site(rules, START)
        self.now = START
        self.events: list[m.Event] = [*self.book.take().events]
        self.merges: list[UUID] = []
        self.case_merges: list[UUID] = []
        self.came: dict[UUID, str] = {}  # message -> who wrote it
        self.sent: list[dict[str, Any]] = []
        self.tell(m.PresenceSet, advisor="a1", presence=m.Presence.READY)

    @property
    def rows(self) -> Rows:
        return self.book.rows

    def tell(self, kind: type[m.Submission], **fields: Any) -> str | None:
        self.now += timedelta(seconds=1)
        done = self.book.handle(kind(key=self.ids(), organisation=ORGANISATION, **fields), self.now)
        batch = self.book.take()
        self.events += batch.events
        self.sent += batch.sides.get("outbox", {}).values()
        return done.refused

    def pick(self, rows: Iterable[Any], n: int) -> Any:
        found = sorted(rows, key=lambda row: row.id)
        return found[n % len(found)] if found else None

    def living(self) -> list[InteractionRow]:
        return [row for row in self.rows.all(InteractionRow) if row.ended_at is None]

    def mail(
        self, who: str, case: UUID | None = None, *, proved: bool = False, automatic: bool = False
    ) -> UUID:
        message = self.ids()
        refused = self.tell(
            m.MessageReceived,
            interaction=self.ids(),
            message=message,
            account="box",
            channel="email",
            seat="mail",
            external_id=f"<{message}>",
            address_kind="email",
            address=who,
            text="hello",
            case=case,
            proved=proved,
            automatic=automatic,
        )
        assert refused is None
        self.came[message] = who
        return message

    def act(self, what: str, one: int, two: int) -> None:
        who, by = PEOPLE[one % len(PEOPLE)], {"by": "a1"}
        row, other = self.pick(self.living(), one), self.pick(self.rows.all(InteractionRow), two)
        case = self.pick(self.rows.all(CaseRow), two)
        if what in ("proof", "machine") and case is not None:
            self.proof(who, case, automatic=what == "machine")
        elif what == "likely" and case is not None:
            self.likely(who, case)
        elif what == "mail":
            before = {each.id for each in self.living() if each.thread in self.threads(who)}
            into = self.rows.get(MessageRow, self.mail(who)).interaction
            assert not before or into in before, "it joins what goes on"
        elif what == "merge" and row is not None:
            self.merges.append(self.ids())
            people = {"contact": row.contact, "into": other.contact}
            self.tell(m.ContactsMerged, merge=self.merges[-1], reason="same", **people, **by)
        elif what == "undo" and self.merges:
            self.tell(m.MergeUndone, merge=self.merges[one % len(self.merges)], **by)
        elif what == "merge_cases" and row is not None:
            self.case_merges.append(self.ids())
            self.tell(m.CasesMerged, merge=self.case_merges[-1], case=row.case_id, into=case.id, **by)
        elif what == "undo_cases" and self.case_merges:
            self.tell(m.CaseMergeUndone, merge=self.case_merges[one % len(self.case_merges)], **by)
        elif what == "solve" and case is not None:
            self.tell(m.CaseChanged, case=case.id, state=m.CaseState.SOLVED, **by)
        elif row is not None:
            self.work(what, row, other, case)

    def work(self, what: str, row: InteractionRow, other: InteractionRow, case: CaseRow) -> None:
        by = {"by": "a1"}
        said = {"message": self.ids(), "author": "advisor", "text": "answer"}
        match what:
            case "take":
                self.tell(m.InteractionTaken, interaction=row.id, advisor="a1", **by)
            case "answer":
                self.tell(m.MessageWritten, interaction=row.id, **said, **by)
            case "from_case":
                where = {"case": case.id, "account": "box", "address": row.address, "channel": "email"}
                self.tell(m.MessageWritten, interaction=self.ids(), **where, **said, **by)
            case "close":
                before = {each.id: each for each in self.living() if each.id != row.id}
                self.tell(m.InteractionClosed, interaction=row.id, outcome="archived", reason="spam", **by)
                assert {each.id for each in self.living()} == set(before), "the others go on"
                assert all(
                    self.rows.get(InteractionRow, id_).advisor == it.advisor for id_, it in before.items()
                )
            case "choose_case":
                self.tell(m.CaseChosen, interaction=row.id, case=case.id, **by)
            case "choose_contact":
                self.tell(m.ContactChosen, interaction=row.id, contact=other.contact, **by)

    def threads(self, who: str) -> set[UUID]:
        owners = self.book.memory.owners.get(("email", who), {}).values()
        return {row.id for row in self.rows.all(ThreadRow) if row.address in owners}

    def proof(self, who: str, case: CaseRow, *, automatic: bool) -> None:
        closed = self.book.surviving(case).closed_at is not None
        working = {row.id for row in self.living()}
        told = self.rows.get(MessageRow, self.mail(who, case.id, proved=True, automatic=automatic))
        assert self.book.same_case(told.case_id, case.id), "it is in the case that it proves"
        survivor = self.book.surviving(self.rows.get(CaseRow, case.id))
        if automatic:
            assert {row.id for row in self.living()} == working, "a machine opens no work"
            assert (survivor.closed_at is not None) == closed, "and reopens nothing"
        elif told.interaction not in working:
            assert survivor.closed_at is None

    def likely(self, who: str, case: CaseRow) -> None:
        """The same subject only: never a second matter beside one that lives."""
        before = {row.id for row in self.living() if row.thread in self.threads(who)}
        told = self.rows.get(MessageRow, self.mail(who, case.id))
        assert not before or told.interaction in before

    def check(self) -> None:
        living = [row for row in self.living() if row.thread is not None]
        assert len({(row.thread, row.case_id) for row in living}) == len(living), "one a case and thread"
        for thread in self.rows.all(ThreadRow):
            mine = [row.id for row in living if row.thread == thread.id]
            assert sorted(thread.living) == sorted(mine)
        for message, who in self.came.items():
            row = self.rows.get(MessageRow, message)
            into = self.rows.get(InteractionRow, row.interaction)
            assert (row.case_id, row.thread) == (into.case_id, into.thread)
            address = self.rows.get(ThreadRow, row.thread).address
            assert self.book.memory.values[address] == ("email", who), "it stands in its writer's thread"


@settings(max_examples=200, deadline=None)
@given(ACTS)
def test_each_mail_is_in_the_case_that_it_proves_whatever_else_is_done(acts: list[Any]) -> None:
    post = Post()
    for act in acts:
        post.act(*act)
        post.check()
    for sent in post.sent:
        thread = post.rows.get(ThreadRow, sent["thread"])
        assert ("email", sent["outgoing"]["to"]) == post.book.memory.values[thread.address]
        assert post.rows.get(InteractionRow, sent["interaction"]).thread == thread.id
    again = rebuild(post.events)
    for table in TABLES:
        if table not in (NoteRow, RecordingRow, StepRow):  # which a book does not keep
            assert again.tables[table] == post.rows.tables[table], table.TABLE


async def two_matters(line: Hotline) -> tuple[m.Event, m.Event]:
    """Ana's parcel, answered and closed, and her invoice, at work; then she answers the first."""
    await line.ready("a1")
    parcel = await line.wrote("colis", **BOX)
    await line.ok(m.InteractionTaken, interaction=parcel.interaction, advisor="a1", by="a1")
    assert parcel.interaction is not None
    await line.answer(parcel.interaction)
    done = {"by": "a1", "outcome": "answered", "code": "done"}
    await line.ok(m.InteractionClosed, interaction=parcel.interaction, **done)
    await line.ok(m.CaseCreated, case=(case := line.ids()), contact=parcel.contact, subject="", by="a1")
    invoice = await line.wrote("facture", **BOX, case=case, proved=True)
    assert invoice.case == case
    return parcel, invoice


async def test_a_mail_that_proves_another_case_is_opened_there_beside_what_lives(database: str) -> None:
    async with hotline(database) as line:
        parcel, invoice = await two_matters(line)
        await line.ok(m.InteractionTaken, interaction=invoice.interaction, advisor="a1", by="a1")
        again = await line.wrote("toujours rien", **BOX, case=parcel.case, proved=True)
        assert again.case == parcel.case
        assert again.interaction not in (parcel.interaction, invoice.interaction)
        assert again.data["thread"] == invoice.data["thread"]
        assert line.types(again.interaction) == ["interaction.opened", "message.received"]
        assert "case.reopened" in line.types()
        assert invoice.interaction is not None
        assert line.state(invoice.interaction) == "active"
        assert again.interaction is not None
        await line.ok(m.Enqueued, interaction=again.interaction, queue="general")
        row = line.desk.interaction(again.interaction)
        assert row is not None
        assert (row.state, row.advisor) == ("offered", "a1"), "first to who had it before"
        await line.talk(again.interaction)
        seen = next(UUID(event.data["message"]) for event in line.heard if event.type is m.T.MESSAGE_WRITTEN)
        for about in (invoice, again):
            assert about.interaction is not None
            answer = await line.answer(about.interaction, consent=False, over=seen)
            assert answer.case == about.case, "what is said beside is no newer reply"
        more = await line.wrote("et ?", **BOX, case=invoice.case, proved=True)
        assert more.interaction == invoice.interaction
        assert (await line.wrote("bonjour ?", **BOX)).interaction == invoice.interaction, "spoken in last"
        closed = {"by": "a1", "outcome": "answered"}
        await line.ok(m.InteractionClosed, interaction=invoice.interaction, **closed)
        assert line.state(again.interaction) == "active"
        assert (await line.wrote("allô ?", **BOX)).interaction == again.interaction
    await check(database, line.organisation, line.desk.site)


async def test_what_lives_side_by_side_does_so_over_a_restart(database: str) -> None:
    clock = HandClock()
    async with hotline(database, clock=clock) as line:
        parcel, invoice = await two_matters(line)
        again = await line.wrote("toujours rien", **BOX, case=parcel.case, proved=True)
    async with hotline(database, clock=clock) as line:
        for about in (again, invoice):
            assert (await line.wrote(**BOX, case=about.case, proved=True)).interaction == about.interaction
            assert (await line.wrote(**BOX)).interaction == about.interaction
        await line.ok(m.InteractionTaken, interaction=again.interaction, advisor="a1", by="a1")
        assert again.interaction is not None
        await line.answer(again.interaction)
    await check(database, line.organisation, line.desk.site)


async def test_a_conversation_cannot_be_put_where_another_of_its_thread_goes_on(database: str) -> None:
    async with hotline(database) as line:
        parcel, invoice = await two_matters(line)
        again = await line.wrote("toujours rien", **BOX, case=parcel.case, proved=True)
        moved = {"interaction": again.interaction, "case": invoice.case, "by": "a1"}
        assert (await line.tell(m.CaseChosen, **moved)).refused == "lives_there"
        away = {"by": "a1", "outcome": "archived", "reason": "spam"}
        await line.ok(m.InteractionClosed, interaction=invoice.interaction, **away)
        await line.ok(m.CaseChosen, **moved)
        assert (await line.wrote(**BOX, case=invoice.case, proved=True)).interaction == again.interaction
        back = await line.wrote(**BOX, case=parcel.case, proved=True)
        assert back.interaction not in (again.interaction, invoice.interaction)
    await check(database, line.organisation, line.desk.site)


async def test_what_a_machine_answers_is_in_its_case_and_reopens_nothing(database: str) -> None:
    async with hotline(database) as line:
        parcel, invoice = await two_matters(line)
        away = await line.wrote("Out of office", **BOX, case=parcel.case, proved=True, automatic=True)
        assert away.case == parcel.case
        assert away.interaction is not None
        assert line.state(away.interaction) == "ended"
        await line.ok(
            m.InteractionClosed, interaction=invoice.interaction, by="a1", outcome="archived", reason="spam"
        )
        again = await line.wrote("Out of office", **BOX, case=parcel.case, proved=True, automatic=True)
        assert (again.case, again.interaction) == (parcel.case, away.interaction)
        assert "case.reopened" not in line.types()
        assert line.desk.interactions() == []
    await check(database, line.organisation, line.desk.site)


async def test_merged_cases_share_what_lives_in_them_and_part_again(database: str) -> None:
    async with hotline(database) as line:
        parcel, invoice = await two_matters(line)
        merge = line.ids()
        await line.ok(m.CasesMerged, merge=merge, case=parcel.case, into=invoice.case, by="a1")
        joined = await line.wrote(**BOX, case=parcel.case, proved=True)
        assert joined.interaction == invoice.interaction, "they are one matter now"
        await line.ok(m.CaseMergeUndone, merge=merge, by="a1")
        parted = await line.wrote(**BOX, case=parcel.case, proved=True)
        assert (parted.case, parted.interaction != invoice.interaction) == (parcel.case, True)
        again = {"merge": line.ids(), "case": parcel.case, "into": invoice.case, "by": "a1"}
        await line.ok(m.CasesMerged, **again)
        for about in (parted, invoice):
            assert (await line.wrote(**BOX, case=about.case, proved=True)).interaction == about.interaction
    await check(database, line.organisation, line.desk.site)


async def test_mails_advisors_and_restarts_in_any_order_leave_a_record_that_the_log_explains(
    database: str,
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice, clock = random.Random(seed), HandClock()
    cases: list[UUID | None] = [None]
    for _ in range(3):
        async with hotline(database, clock=clock) as line:
            await line.ready("a1")
            for _ in range(40):
                clock.pass_(1)
                case = dice.choice(cases)
                fields: dict[str, Any] = {"account": "box", "address": dice.choice(PEOPLE), "case": case}
                told = await line.wrote(**fields, proved=case is not None, automatic=dice.random() < 0.1)
                assert case in (None, told.case)
                if told.case not in cases:
                    cases.append(told.case)
                elif dice.random() < 0.2:
                    await line.ok(
                        m.CaseCreated, case=(fresh := line.ids()), contact=told.contact, subject="", by=""
                    )
                    cases.append(fresh)
                living = line.desk.interactions()
                if living and dice.random() < 0.3:
                    away = {"by": "a1", "outcome": "archived", "reason": "spam"}
                    await line.ok(m.InteractionClosed, interaction=dice.choice(living).id, **away)
                if living and dice.random() < 0.2:
                    put = {"interaction": dice.choice(living).id, "case": dice.choice(cases[1:]), "by": "a1"}
                    word = (await line.tell(m.CaseChosen, **put)).refused
                    assert word in (None, "unchanged", "lives_there")
        await check(database, line.organisation, line.desk.site)


FORMER = """
    ALTER TABLE interaction DROP CONSTRAINT one_live_interaction_of_a_case_in_a_thread;
    CREATE UNIQUE INDEX one_live_interaction_of_a_thread ON interaction (organisation_id, thread)
        WHERE thread IS NOT NULL AND ended_at IS NULL;
    ALTER TABLE thread DROP COLUMN beside;
    DELETE FROM schema_version WHERE version = 6;
"""


async def test_a_database_of_before_takes_the_migration_with_what_lives_in_it(database: str) -> None:
    clock = HandClock()
    async with hotline(database, clock=clock) as line:
        chat, mail = await line.wrote(), await line.wrote(**BOX)
        over = await line.wrote(address="psid-2")
        away = {"by": "a1", "outcome": "archived", "reason": "spam"}
        await line.ok(m.InteractionClosed, interaction=over.interaction, **away)
    connection = await connect(database)
    await connection.execute(FORMER)
    await connection.close()
    assert 6 in await migrate(database)
    async with hotline(database, clock=clock) as line:
        assert (await line.wrote()).interaction == chat.interaction
        await line.ok(m.CaseCreated, case=(case := line.ids()), contact=mail.contact, subject="", by="a1")
        beside = await line.wrote(**BOX, case=case, proved=True)
        assert beside.interaction != mail.interaction
        assert (await line.wrote(**BOX, case=mail.case, proved=True)).interaction == mail.interaction
    await check(database, line.organisation, line.desk.site)
