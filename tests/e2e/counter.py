"""A hotline that customers write to, for a whole test module: Meta's double, the mail world, consoles of advisors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Any

import aiosmtplib

from config.graph import GraphDouble
from config.journey import SECRETS, PostOffice, secrets_as_environment
from cti.aio.headless import HeadlessConsole
from tests.e2e.hotline import Hotline, direct_site, open_hotline

PAGE, BOX, ROBOT = "page", "box", "courrier"
"""A page and a mailbox that lead straight to people, and a mailbox with the rules (and answers) of the example."""
BOX_ADDRESS, ROBOT_ADDRESS = "box@postal.example", "service@postal.example"
SEATS = {"voice": 1, "chat": 5, "mail": 5}

HANDLED = (
    "SELECT count(*) AS n FROM request WHERE handled_at IS NULL"
    " UNION ALL SELECT count(*) FROM attachment WHERE state = 'fetching'"
)
SAID = (
    "SELECT count(*) FROM interaction WHERE state IN ('opened', 'qualifying')"
    " UNION ALL SELECT count(*) FROM outbox WHERE state IN ('queued', 'taken') OR NOT told"
)


@dataclass
class Counter:
    hotline: Hotline
    graph: GraphDouble
    post: PostOffice

    @property
    def http(self) -> str:
        return self.hotline.server.http

    async def mails(self, raw: bytes, sender: str, to: str = BOX_ADDRESS) -> str:
        """Hand a mail to the server as another server would; the answer. Raises aiosmtplib.SMTPException."""
        assert self.hotline.server.mail is not None
        host, _, port = self.hotline.server.mail.rpartition(":")
        async with aiosmtplib.SMTP(hostname=host, port=int(port), timeout=30.0) as smtp:
            _, said = await smtp.sendmail(sender, [to], raw)
        return said

    async def writes(
        self, sender: str, subject: str, text: str, *, to: str = BOX_ADDRESS, html: str = "", **headers: str
    ) -> str:
        """A plain letter; its Message-ID."""
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = sender, to, subject
        mail["Message-ID"] = make_msgid(domain="client.example")
        for name, value in headers.items():
            mail[name.replace("_", "-")] = value
        mail.set_content(text)
        if html:
            mail.add_alternative(html, subtype="html")
        address = sender.rpartition("<")[2].rstrip(">")
        await self.mails(mail.as_bytes(), address, to)
        return str(mail["Message-ID"])

    async def count(self, where: str, *values: Any) -> int:
        """Messages that fit: `m` is the message, `d` its words."""
        [row] = await self.hotline.sql(
            f"SELECT count(*) FROM message m JOIN message_data d ON d.message = m.id WHERE {where}",
            *values,
        )
        return int(row["count"])

    async def until_handled(self, within_s: float = 30.0) -> None:
        """Everything that was taken has become what it is."""
        await self._until_none(HANDLED, within_s)

    async def until_quiet(self, within_s: float = 30.0) -> None:
        """And the trees have said what they have to say, and it has left."""
        await self._until_none(f"{HANDLED} UNION ALL {SAID}", within_s)

    async def _until_none(self, question: str, within_s: float) -> None:
        async def none() -> bool:
            return not any(row["n"] for row in await self.hotline.sql(question))

        await self.hotline.until(none, within_s)

    async def signed_in(self, login: str, stack: contextlib.AsyncExitStack) -> HeadlessConsole:
        password = (await self.hotline.secrets(login))[0]
        return await stack.enter_async_context(HeadlessConsole(self.http, login, password))


def written_site(folder: Path, graph: str, smtp: int, **changes: dict[str, Any]) -> Path:
    """The example site with PAGE, BOX and ROBOT, whose providers are ours."""
    mail = {"smtp_host": "127.0.0.1", "smtp_port": str(smtp)}
    channels = {
        PAGE: {
            "channel": "messenger",
            "name": "La page",
            "queue": "general",
            "settings": {"page_id": "1001", "app_id": "7007", "api_base": graph},
        },
        BOX: {
            "channel": "email",
            "name": "La boîte",
            "queue": "general",
            "settings": {"address": BOX_ADDRESS, **mail},
        },
        ROBOT: {"settings": {"address": ROBOT_ADDRESS, **mail}},
    }
    general = {"max_waiting": 1000, "offer": {"voice": "15s", "chat": "10min", "mail": "10min"}}
    changes = {name: dict(entries) for name, entries in changes.items()}
    changes.setdefault("queues", {}).setdefault("general", general)
    at_work = changes.setdefault("advisors", {})
    at_work.setdefault("lea", {"seats": SEATS})
    apart = {"skills": {"facturation": 5, "reclamations": 5}, "queues": ["apart"], "seats": SEATS}
    at_work.setdefault("ines", apart)  # is offered nothing that is written, and may take all
    return direct_site(folder, channels=channels, **changes)


@contextlib.asynccontextmanager
async def open_counter(
    folder: Path, address: Callable[[str], str], *, env: Mapping[str, str] | None = None, **changes: Any
) -> AsyncIterator[Counter]:
    """A server that is written to; it must have logged no error when it closes. Files are fetched from 127.0.0.1."""
    async with contextlib.AsyncExitStack() as stack:
        graph = await stack.enter_async_context(
            GraphDouble(
                app_secret=SECRETS["app_secret"],
                page_token=SECRETS["page_token"],
                verify_token=SECRETS["verify_token"],
            )
        )
        post = await stack.enter_async_context(PostOffice())
        hotline = await stack.enter_async_context(
            open_hotline(
                folder,
                address,
                site=written_site(folder, graph.base, post.port, **changes),
                env={
                    "MONOFIL_MAIL_PORT": "0",
                    "MONOFIL_FETCH_ALLOW": "127.0.0.0/8",
                    **secrets_as_environment(PAGE, SECRETS),
                    **(env or {}),
                },
            )
        )
        graph.callback = f"{hotline.server.http}/hooks/{PAGE}"
        yield Counter(hotline, graph, post)
        await asyncio.wait_for(graph.settled(), 20.0)
