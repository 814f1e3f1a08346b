"""The written channels of a running server, put together from their parts.

Made once and given to an exit stack, after the desk and the console's live wire, before HTTP listens.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import ipaddress
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import structlog
from aiohttp import web

from config.failures import binding, reading_pem
from config.settings import Settings
from config.site import shipped_texts
from cti.aio.sessions import client_address
from ivr.aio.lookup import Lookups
from ivr.aio.text import TextRunner, read_texts
from ivr.tree import Forest
from routing import letter
from routing.aio.desk import Desk
from routing.aio.fetch import Fetcher
from routing.aio.hooks import Hooks
from routing.aio.links import Links
from routing.aio.mail import (
    FileCursors,
    Mailbox,
    MailListener,
    Parser,
    Sender,
    Standing,
    showing,
    trusting,
)
from routing.aio.outbox import Courier
from routing.aio.tokens import Tokens
from routing.aio.visitors import Visitors
from routing.channel import Peer, PushCall, Reply
from routing.channels import CHANNELS, MANIFESTS, email
from routing.models import AccountChanged, Clock, Ids
from routing.site import Account, Site
from routing.store import ChannelSecrets, Stores

log = structlog.get_logger("monofil")

KEY_BYTES = 32
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]
WIDGET = Path(__file__).parent.parent / "cti" / "console" / "dist" / "widget.js"
TOKEN_KEY = "token_key"  # noqa: S105  the name of a secret


class Watching(Protocol):
    """Whoever shows that a customer types, or has gone."""

    def customer_typing(self, interaction: UUID, on: bool) -> None: ...

    def customer_gone(self, interaction: UUID, since: datetime | None) -> None: ...


def own_key(data_dir: Path) -> bytes:
    """The server's own secret, made at its first start: it proves the links and mail tokens that we have made."""
    path = data_dir / "key"
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = os.urandom(KEY_BYTES)
        _keep(path, key)
    assert len(key) >= KEY_BYTES, f"{path} is cut short"
    return key


def _keep(path: Path, key: bytes) -> None:
    """On disk whole or not at all, whenever the machine stops; one beside it is left from such a stop."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Secrets:
    """The channels' secrets; where nobody has set a key for tokens, one made from the server's own."""

    def __init__(self, kept: ChannelSecrets, key: bytes) -> None:
        self._kept, self._key = kept, key

    async def of(self, account: str) -> Mapping[str, str]:
        made = hmac.new(self._key, f"token {account}".encode(), hashlib.sha256).hexdigest()
        return {TOKEN_KEY: made, **await self._kept.of(account)}

    async def set(self, account: str, name: str, value: str) -> None:
        await self._kept.set(account, name, value)

    async def names(self) -> Mapping[str, frozenset[str]]:
        return await self._kept.names()


class Written:
    """All written channels of one organisation."""

    def __init__(
        self,
        *,
        settings: Settings,
        site: Callable[[], Site],
        forest: Callable[[], Forest],
        stores: Stores,
        desk: Desk,
        lookups: Lookups,
        clock: Clock,
        ids: Ids,
        organisation: UUID,
    ) -> None:
        self.settings, self.site, self.stores, self.desk = settings, site, stores, desk
        self.clock, self.ids, self.organisation = clock, ids, organisation
        key = own_key(settings.data_dir)
        self.secrets = Secrets(stores.secrets, key)
        self.manifests = MANIFESTS
        self.runner = TextRunner(
            desk=desk,
            site=site,
            forest=forest,
            messages=stores.messages,
            walks=stores.walks,
            timeline=stores.timeline,
            lookups=lookups,
            clock=clock,
            ids=ids,
            organisation=organisation,
            manifests=self.manifests,
            texts=shipped_texts() | read_texts([settings.data_dir / "sounds"]),
            trees=stores.trees,
            known_language=stores.contacts.language_in,
        )
        self.watching: Watching | None = None
        self.opened = False
        self.mail_at: str | None = None  # where mail is taken
        self._key = key
        self._mailboxes: dict[str, tuple[Account, Mapping[str, str], Mailbox]] = {}
        self._standing = Standing(self._told)
        self._refreshing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, stack: AsyncExitStack, public_url: str) -> None:
        """Take up what lives, then let in what comes. `public_url`: under which providers reach us."""
        settings, stores = self.settings, self.stores
        self.files = files = Fetcher(settings.data_dir, allow=settings.fetch_allow)
        stack.push_async_callback(files.close)
        self.parser = Parser()
        stack.push_async_callback(self.parser.close)
        with reading_pem("MONOFIL_MAIL_AUTHORITY", settings.mail_authority):
            self._trusted = trusting(settings.mail_authority)
        self._tokens = Tokens(self.clock, tls=self._trusted)
        self.links = Links(
            public_url=public_url, secret=self._key, clock=self.clock, messages=stores.messages, files=files
        )
        self.courier = await stack.enter_async_context(
            Courier(
                site=self.site,
                channels=CHANNELS,
                outbox=stores.outbox,
                messages=stores.messages,
                secrets=self.secrets,
                states=stores.account_states,
                desk=self.desk,
                clock=self.clock,
                files=files,
                links=self.links,
                mail=Sender(tls=self._trusted, tokens=self._tokens, clock=self.clock).send,
                push=self._push,
            )
        )
        stack.push_async_callback(self.runner.stop)
        await self.runner.start()
        trusted = [ipaddress.ip_network(each, strict=False) for each in settings.trusted_proxies]
        self.hooks = await stack.enter_async_context(
            Hooks(
                site=self.site,
                channels=CHANNELS,
                requests=stores.requests,
                messages=stores.messages,
                outbox=stores.outbox,
                secrets=self.secrets,
                desk=self.desk,
                clock=self.clock,
                ids=self.ids,
                files=files,
                public_url=public_url,
                clean=letter.clean,
                prove=lambda token, secrets: email.prove(token, secrets.get(TOKEN_KEY, "")),
                parsers={it.name: self.parser.parse for it in MANIFESTS.values() if it.mail},
                typed=self._typed,
                source=lambda request: client_address(request, trusted),
                kept_days=settings.request_days,
            )
        )
        self.visitors = await stack.enter_async_context(
            Visitors(
                site=self.site,
                channels=CHANNELS,
                desk=self.desk,
                messages=stores.messages,
                take=self.hooks.take,
                typed=self._typed,
                gone=self._gone,
                link=self.links.link,
                key=self._key,
                clock=self.clock,
                widget=WIDGET,
                source=lambda request: client_address(request, trusted),
            )
        )
        await self._open_mail(stack)
        self.opened = True

    async def _open_mail(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        if settings.mail_port is not None:
            self.listener = listener = MailListener(
                lambda: [it for it in self._mail_accounts() if it.settings.get("listen") != "no"],
                self._take_mail,
                host=settings.mail_host,
                port=settings.mail_port,
                tls=self._shown(),
                most_bytes=settings.mail_max_mb * 1_000_000,
                clock=self.clock,
            )
            with binding("Mail", settings.mail_host, settings.mail_port, "MONOFIL_MAIL_PORT"):
                await listener.start()
            stack.push_async_callback(listener.close)
            self.mail_at = f"{settings.mail_host}:{listener.port}"
        stack.push_async_callback(self._close)
        stack.callback(self.desk.subscribe(self._standing.hear))
        await self.refresh()

    def _shown(self) -> ssl.SSLContext | None:
        """What the mail listener shows of us."""
        settings = self.settings
        if settings.mail_certificate is None:
            return None
        with reading_pem("MONOFIL_MAIL_CERTIFICATE", settings.mail_certificate):
            return showing(settings.mail_certificate, settings.mail_key)

    async def act(self, thread: UUID, act: str, name: str) -> None:
        """Typing and seen, shown to the customer where the channel can."""
        await self.courier.act(thread, act, name)

    async def replay(self, request: UUID) -> None:
        """Handle a stored request again. LookupError: there is none."""
        await self.hooks.replay(request)

    async def _push(self, account: Account, call: PushCall) -> Reply:
        return await self.visitors.push(account, call) if self.opened else Reply(404)  # no page is open yet

    def routes(self) -> list[tuple[str, str, Answering]]:
        """Plain handlers for the application, before the console's files."""
        visit = self._once_open(lambda request: self.visitors.serve(request))
        return [
            ("*", "/hooks/{account}", self._once_open(lambda request: self.hooks.answer(request))),
            ("GET", "/files/{id}", self._once_open(lambda request: self.links.answer(request))),
            ("*", "/chat/{account}", visit),
            ("*", "/chat/{account}/{what}", visit),
        ]

    def _once_open(self, part: Answering) -> Answering:
        """HTTP listens before the written channels are there: who comes too early is asked to come again."""

        async def answer(request: web.Request) -> web.StreamResponse:
            if not self.opened:
                return web.Response(status=503, headers={"Retry-After": "1"})
            return await part(request)

        return answer

    def nudge(self) -> None:
        """The clock has been moved."""
        self.courier.nudge()
        self.runner.tick()

    def _mail_accounts(self) -> list[Account]:
        return [it for it in self.site().accounts if self.manifests[it.channel].mail]

    async def _take_mail(self, account: str, raw: bytes, facts: Mapping[str, str]) -> None:
        await self.hooks.take(account, raw, facts)

    async def refresh(self) -> None:
        """The site is another: read the mailboxes that it names, and no others."""
        async with self._refreshing:
            wanted: dict[str, tuple[Account, Mapping[str, str]]] = {}
            for account in self._mail_accounts():
                if account.settings.get("imap_host"):
                    wanted[account.id] = (account, await self.secrets.of(account.id))
            for id in list(self._mailboxes):
                if wanted.get(id) != self._mailboxes[id][:2]:
                    await self._mailboxes.pop(id)[2].close()
                    self._standing.forget(id)
            cursors = FileCursors(self.settings.data_dir / "mailboxes.json")
            for id, (account, secrets) in wanted.items():
                if id not in self._mailboxes:
                    box = Mailbox(
                        account,
                        secrets,
                        self._take_mail,
                        cursors,
                        known=functools.partial(self._known, id),
                        told=self._standing,
                        tls=self._trusted,
                        tokens=self._tokens,
                        clock=self.clock,
                    )
                    await box.start()
                    self._mailboxes[id] = (account, secrets, box)

    async def _close(self) -> None:
        for _, _, box in self._mailboxes.values():
            await box.close()
        self._mailboxes.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _known(self, account: str, ids: Sequence[str]) -> frozenset[str]:
        return frozenset(await self.stores.messages.known(account, ids))

    def _told(self, account: str, state: str, reason: str) -> None:
        self._soon(self._tell_account(account, state, reason))

    async def _tell_account(self, account: str, state: str, reason: str) -> None:
        await self.desk.submit(
            AccountChanged(
                key=self.ids(),
                organisation=self.organisation,
                account=account,
                state=state,
                reason=reason,
            )
        )

    def _typed(self, account: str, peer: Peer, on: bool) -> None:
        self._soon(self._show_typing(account, peer, on))

    async def _show_typing(self, account: str, peer: Peer, on: bool) -> None:
        thread = await self.stores.messages.thread_with(account, peer.kind, peer.value)
        if self.watching is not None and thread is not None and thread.live is not None:
            self.watching.customer_typing(thread.live, on)

    def _gone(self, interaction: UUID, since: datetime | None) -> None:
        if self.watching is not None:
            self.watching.customer_gone(interaction, since)

    def _soon(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
