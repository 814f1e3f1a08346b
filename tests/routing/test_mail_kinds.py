"""Mails by SMTP to a real desk: what opens no work, what waits without an automatic word, and whom we answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import aiosmtplib
import pytest

from routing import channel as c
from routing import models as m
from routing.aio.fetch import Fetcher
from routing.aio.hooks import Hooks
from routing.aio.mail import MailListener
from routing.channels import email
from routing.figures import statistics
from routing.models import T
from routing.site import Site
from routing.store import Due
from tests.ivr.chats import DEADLINE_S, House, opened, site
from tests.ivr.walks import forest

BOX = "contact@demo.example"


@dataclass
class Door:
    """A mailbox with its listener, hooks, desk, tree and database."""

    house: House
    port: int

    async def mail(
        self, sender: str, text: str = "Bonjour", *, envelope: str | None = None, **head: str
    ) -> UUID:
        """A mail comes by SMTP; its interaction, once the tree has done with it."""
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Message-ID"] = sender, BOX, make_msgid(domain="client.example")
        for name, value in head.items():
            mail[name.replace("_", "-")] = value
        mail.set_content(text)
        came = sum(event.type is T.MESSAGE_RECEIVED for event in self.house.events)
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=self.port) as smtp:
            from_ = sender.rpartition("<")[2].rstrip(">") if envelope is None else envelope
            await smtp.sendmail(from_, [BOX], mail.as_bytes())
        told = await self.house.until(T.MESSAGE_RECEIVED, came + 1)
        await self.house.settled()
        assert told.interaction is not None
        return told.interaction

    async def became(self, interaction: UUID) -> tuple[str, str | None, list[str]]:
        return *(await self.house.state(interaction)), await self.house.said(interaction)

    async def received(self) -> int:
        """Customers' messages, as the figures count them."""
        now = self.house.clock.now()
        start, end = now - timedelta(hours=1), now + timedelta(hours=1)
        rows = await self.house.stores.figures.between(start, end)
        return statistics(rows, self.house.site, start, end).totals.received

    async def takes(self, interaction: UUID, text: str) -> dict[str, Any]:
        """Ana takes it and answers; what goes out, as the outbox has it."""
        house, message = self.house, self.house.ids()
        await house.do(m.PresenceSet(**house.base(), advisor="ana", presence=m.Presence.PAUSE))
        await house.do(m.InteractionTaken(**house.base(), interaction=interaction, advisor="ana", by="ana"))
        said: dict[str, Any] = {"author": "advisor", "by": "ana", "message": message, "text": text}
        await house.do(m.MessageWritten(**house.base(), interaction=interaction, **said))
        found: list[Due] = []
        for _ in range(2):  # the tree's own words stand before it: they are dropped, for Ana has it
            due, _dropped = await house.stores.outbox.take(
                house.clock.now(), worker=house.ids(), lease_s=60.0, limit=10
            )
            found += due
        (outgoing,) = [one.outgoing for one in found if one.message == message]
        return dict(outgoing)


@asynccontextmanager
async def door(dsn: str, data: Path, at: Site | None = None) -> AsyncIterator[Door]:
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(opened(dsn, at, datetime.now(UTC)))
        there = house.stores
        files = Fetcher(data)
        stack.push_async_callback(files.close)
        hooks = Hooks(
            site=lambda: house.site,
            channels={"email": cast(c.Channel, email)},
            requests=there.requests,
            messages=there.messages,
            outbox=there.outbox,
            secrets=there.secrets,
            desk=house.desk,
            clock=house.clock,
            ids=house.ids,
            files=files,
            public_url="https://hotline.example",
        )
        await stack.enter_async_context(hooks)
        boxes = tuple(each for each in house.site.accounts if each.channel == "email")
        listener = MailListener(lambda: boxes, hooks.take, hostname="mx.demo.example")
        await listener.start()
        stack.push_async_callback(listener.close)
        async with asyncio.timeout(DEADLINE_S * 3):
            yield Door(house, listener.port)


PEOPLE: dict[str, dict[str, str]] = {
    "X-Auto-Response-Suppress": {"X_Auto_Response_Suppress": "OOF, AutoReply"},
    "List-Unsubscribe": {"List_Unsubscribe": "<mailto:u@client.example>"},
    "List-Id": {"List_Id": "<amis.client.example>"},
    "Precedence: list": {"Precedence": "list"},
    "Precedence: bulk": {"Precedence": "bulk"},
}
MACHINES: dict[str, dict[str, Any]] = {
    "Auto-Submitted": {"Auto_Submitted": "auto-replied"},
    "null sender": {"envelope": ""},
    "ourselves": {"sender": BOX},
    "a report without our mail": {"sender": "mailer-daemon@client.example"},
}


async def test_mail_that_a_person_may_have_written_waits_unanswered_and_counts_and_a_machines_does_not(
    database: str, tmp_path: Path
) -> None:
    async with door(database, tmp_path) as at:
        for n, (what, head) in enumerate(PEOPLE.items()):
            mail = await at.mail(f"person{n}@client.example", Subject="Ma facture", **head)
            assert await at.became(mail) == ("waiting", "facturation", []), what
        mail = await at.mail("noreply@boutique.example", Subject="Ma facture")
        assert await at.became(mail) == ("waiting", "facturation", [])
        people = len(PEOPLE) + 1
        assert await at.received() == people
        for n, (what, more) in enumerate(MACHINES.items()):
            mail = await at.mail(**{"sender": f"robot{n}@client.example", "Subject": "Ma facture", **more})
            assert await at.became(mail) == ("ended", None, []), what
        assert await at.received() == people
        plain = await at.mail("jean@client.example", Subject="Ma facture")
        state, queue, said = await at.became(plain)
        assert (state, queue, len(said)) == ("waiting", "facturation", 1), "others are acknowledged as before"


async def test_a_quiet_mail_joins_what_lives_and_is_answered_by_its_advisor_only(
    database: str, tmp_path: Path
) -> None:
    async with door(database, tmp_path) as at:
        first = await at.mail("jean@client.example", Subject="Ma facture")
        again = await at.mail("jean@client.example", "Et alors ?", Subject="Ma facture", Precedence="bulk")
        assert again == first
        assert await at.received() == 2
        await at.house.restart()
        assert len(await at.house.said(first)) == 1
        sent = await at.takes(first, "La voici")
        assert (sent["to"], sent["automatic"]) == ("jean@client.example", False)


PATIENCE = """
    tree: courrier
    languages: [fr]
    channels: [mail]
    start: wait
    error: wait
    nodes:
      wait: {kind: queue, queue: facturation, say: {fr: "Bien reçu."}, exits: {overflow: elsewhere}}
      elsewhere: {kind: queue, queue: general, say: {fr: "Nous vous passons à une autre équipe."}}
"""


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("quiet", [False, True])
async def test_nothing_automatic_follows_a_quiet_mail_though_others_came_before_it(
    database: str, tmp_path: Path, restarted: bool, quiet: bool
) -> None:
    rules = site()
    queues = tuple(
        replace(each, overflow_after_s=60.0, overflow_to="reclamations") if each.id == "facturation" else each
        for each in rules.queues
    )
    async with door(database, tmp_path, replace(rules, queues=queues)) as at:
        at.house.forest = forest(PATIENCE)
        mail = await at.mail("jean@client.example", Subject="Ma facture")
        again = {"List_Unsubscribe": "<mailto:u@client.example>"} if quiet else {}
        assert await at.mail("jean@client.example", "Et alors ?", Subject="Ma facture", **again) == mail
        if restarted:
            await at.house.restart()
        at.house.clock.at += timedelta(seconds=61)
        await at.house.do(m.PresenceSet(**at.house.base(), advisor="ana", presence=m.Presence.OFFLINE))
        await at.house.until(T.ENQUEUED, 3)
        await at.house.settled()
        state, queue, said = await at.became(mail)
        assert (state, queue, len(said)) == ("waiting", "general", 1 if quiet else 2)


async def test_who_wrote_by_the_sites_form_is_the_customer_and_gets_the_answer(
    database: str, tmp_path: Path
) -> None:
    async with door(database, tmp_path) as at:
        form = {"Subject": "Formulaire de contact", "Reply_To": "Paul Real <paul.real@client.example>"}
        mail = await at.mail("Site <noreply@www.demo.example>", "Où est mon colis ?", **form)
        assert await at.became(mail) == ("waiting", "general", [])
        (view,) = await at.house.talk(mail)
        assert (view.extra["answer_to"], view.extra["sent_by"]) == (
            "paul.real@client.example",
            "noreply@www.demo.example",
        )
        other = {**form, "Reply_To": "ana@client.example"}
        assert await at.mail("Site <noreply@www.demo.example>", **other) != mail, "each writer is a customer"
        assert (await at.takes(mail, "Le voici"))["to"] == "paul.real@client.example"
        himself = await at.mail("paul.real@client.example", "Merci", Subject="Re: Formulaire de contact")
        assert himself == mail, "his own mail comes to the same"


async def test_a_reply_to_of_a_person_moves_neither_their_contact_nor_our_answer(
    database: str, tmp_path: Path
) -> None:
    async with door(database, tmp_path) as at:
        mail = await at.mail("jean@client.example", Subject="Ma facture")
        forged = await at.mail("jean@client.example", Subject="Ma facture", Reply_To="eve@other.example")
        assert forged == mail
        assert (await at.house.talk(mail))[-1].extra["answer_to"] == "eve@other.example"
        assert (await at.takes(mail, "La voici"))["to"] == "jean@client.example"
