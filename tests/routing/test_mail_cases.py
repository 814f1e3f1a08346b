"""Which case a mail belongs to, from its bytes to its row: ids, tokens, case numbers, subjects, and who is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from routing import channel as c
from routing import models as m
from routing.aio.fetch import Fetcher
from routing.aio.hooks import Hooks
from routing.aio.postgres import pool, stores
from routing.channels import email
from routing.site import Account
from tests.routing.hotline import Hotline, hotline, site
from tests.routing.record import check

KEY = "the key of our tokens"
OTHER = UUID("01a0c450-6c00-7000-8000-000000000005")
BOX = Account(
    "box",
    "email",
    queue="general",
    settings={"address": "service@exemple.fr", "authserv_id": "mx.exemple.fr"},
)
DEADLINE_S = 20.0


@dataclass
class Box:
    """A mailbox with its hooks, desk and database."""

    line: Hotline
    hooks: Hooks
    told: asyncio.Queue[m.Event]
    mails: int = 0

    async def mail(
        self, *, sender: str = "ana@client.example", proved: bool = True, subject: str = "", **fields: str
    ) -> m.Event:
        """A mail comes; what was told of it."""
        self.mails += 1
        head = {
            "From": sender,
            "To": "service@exemple.fr",
            "Subject": subject,
            "Message-ID": f"<{self.mails}@x>",
        }
        head |= {name.replace("_", "-"): value for name, value in fields.items()}
        if proved:
            domain = sender.rpartition("@")[2]
            head["Authentication-Results"] = f"mx.exemple.fr; dmarc=pass header.from={domain}"
        lines = [f"Return-Path: <{sender}>", *(f"{name}: {value}" for name, value in head.items() if value)]
        raw = "\r\n".join([*lines, "", "Bonjour", ""]).encode()
        await self.hooks.take("box", raw, {})
        async with asyncio.timeout(DEADLINE_S):
            return await self.told.get()

    async def number(self, case: UUID | None) -> int:
        opened = [event for event in self.line.heard if event.type is m.T.CASE_OPENED and event.case == case]
        return int(opened[0].data["number"])

    async def close(self, interaction: UUID | None) -> None:
        away = {"by": "a1", "outcome": "archived", "reason": "spam"}
        await self.line.ok(m.InteractionClosed, interaction=interaction, **away)


@asynccontextmanager
async def box(dsn: str, data: Path) -> AsyncIterator[Box]:
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(hotline(dsn, site(accounts=(BOX,))))
        connections = await stack.enter_async_context(pool(dsn, size=4))
        there = stores(connections, line.organisation, line.clock, environment={})
        files = Fetcher(data)
        stack.push_async_callback(files.close)
        told: asyncio.Queue[m.Event] = asyncio.Queue()
        line.desk.subscribe(
            lambda event: told.put_nowait(event) if event.type is m.T.MESSAGE_RECEIVED else None
        )
        hooks = Hooks(
            site=lambda: line.desk.site,
            channels={"email": cast(c.Channel, email)},
            requests=there.requests,
            messages=there.messages,
            outbox=there.outbox,
            secrets=there.secrets,
            desk=line.desk,
            clock=line.clock,
            ids=line.ids,
            files=files,
            public_url="https://hotline.example",
            prove=lambda token, _: email.prove(token, KEY),
        )
        await stack.enter_async_context(hooks)
        yield Box(line, hooks, told)
    await check(dsn, line.organisation, line.desk.site)


async def test_each_way_of_naming_a_case_leads_to_it_while_another_is_at_work(
    database: str, tmp_path: Path
) -> None:
    async with box(database, tmp_path) as at:
        parcel = await at.mail(subject="Colis")
        await at.close(parcel.interaction)
        await at.line.ok(
            m.CaseCreated, case=(case := at.line.ids()), contact=parcel.contact, subject="", by="a1"
        )
        number = await at.number(case)
        token = email.message_id(number, OTHER, "exemple.fr", KEY)
        invoice = await at.mail(In_Reply_To=token)
        assert invoice.case == case, "our token, in an id that we do not remember"
        first = await at.number(parcel.case)
        forged = email.message_id(first, OTHER, "exemple.fr", "another key")
        ours = email.message_id(first, OTHER, "exemple.fr", KEY)
        ways: list[tuple[str, dict[str, Any], m.Event]] = [
            ("a known id", {"In_Reply_To": "<1@x>"}, parcel),
            ("our token", {"References": f"<y@y> {ours}"}, parcel),
            ("our token, of whom nobody vouches for", {"In_Reply_To": ours, "proved": False}, parcel),
            ("our token before a newer id", {"References": f"{ours} <2@x>"}, parcel),
            ("our token before what it answers", {"In_Reply_To": "<1@x>", "References": token}, invoice),
            ("the newest of several ids", {"References": "<1@x> <2@x>"}, invoice),
            (
                "what it answers before older ones",
                {"In_Reply_To": "<1@x>", "References": "<1@x> <2@x>"},
                parcel,
            ),
            ("an id before a number", {"In_Reply_To": "<1@x>", "subject": f"Re: x [#{number}]"}, parcel),
            ("a number in our address", {"To": f"service+c{first}@exemple.fr"}, parcel),
            ("a number in the subject", {"subject": f"Re: x [#{first}]"}, parcel),
        ]
        for what, fields, wanted in ways:
            here = await at.mail(**fields)
            assert here.case == wanted.case, what
            assert here.data["thread"] == invoice.data["thread"], what
        last = (await at.mail()).interaction
        joins: list[tuple[str, dict[str, Any]]] = [
            ("a forged token", {"In_Reply_To": forged, "proved": False}),
            ("a known id, of whom nobody vouches for", {"In_Reply_To": "<2@x>", "proved": False}),
            ("a number, of whom nobody vouches for", {"subject": f"[#{number}]", "proved": False}),
            ("a number that no case has", {"subject": "[#999]"}),
            ("only the subject of another matter", {"subject": "Re: Rechnung"}),
        ]
        for what, fields in joins:
            assert (await at.mail(**fields)).interaction == last, what
        assert len(at.line.desk.interactions()) == 2, "one of each matter"


async def test_a_number_is_believed_only_of_those_with_whom_the_case_was_spoken(
    database: str, tmp_path: Path
) -> None:
    async with box(database, tmp_path) as at:
        parcel = await at.mail()
        number = await at.number(parcel.case)
        stranger = await at.mail(sender="eve@other.example", subject=f"[#{number}]")
        assert stranger.case != parcel.case
        asked = email.message_id(number, OTHER, "exemple.fr", KEY)
        friend = await at.mail(sender="bea@client.example", In_Reply_To=asked)
        assert (friend.case, friend.interaction != parcel.interaction) == (parcel.case, True)
        again = await at.mail(sender="bea@client.example", subject=f"[#{number}]")
        assert again.interaction == friend.interaction


async def test_what_was_put_right_by_hand_stays_so_for_the_answers(database: str, tmp_path: Path) -> None:
    async with box(database, tmp_path) as at:
        first = await at.mail()
        await at.line.ok(
            m.CaseCreated, case=(case := at.line.ids()), contact=first.contact, subject="", by="a1"
        )
        ours = at.line.ids()
        token = email.message_id(await at.number(first.case), ours, "exemple.fr", KEY)
        words = {"message": ours, "author": "bot", "by": "", "text": "Bien reçu"}
        await at.line.ok(m.MessageWritten, interaction=first.interaction, **words)
        await at.line.ok(m.MessageStatus, message=ours, status="sent", external_id=token)
        await at.line.ok(m.CaseChosen, interaction=first.interaction, case=case, by="a1")
        answer = await at.mail(References=f"<1@x> {token}", In_Reply_To=token)
        assert (answer.case, answer.interaction) == (case, first.interaction)
