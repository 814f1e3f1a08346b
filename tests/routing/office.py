"""A post office for the transport's tests: desk, stores, hooks over real HTTP, courier, and a provider of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import aiohttp
import asyncpg
from aiohttp import web

from routing import channel as c
from routing import models as m
from routing.aio.fetch import Fetcher
from routing.aio.hooks import Hooks
from routing.aio.outbox import Courier
from routing.aio.postgres import pool, stores
from routing.aio.web import application
from routing.site import Account, Site
from routing.store import Stores
from tests.fakes import turns
from tests.fakes.changes import TABLES, Changes
from tests.fakes.provider import SECRET, Pigeon, Provider, proof
from tests.routing.hotline import HandClock, Hotline, hotline, site

PATIENCE_S = 60.0
KEYS = {"MONOFIL_SECRET_NEST_KEY": SECRET}


def nest(provider_port: int, **more: Any) -> Site:
    account = Account(
        "nest", "pigeon", queue="general", settings={"api_base": f"http://127.0.0.1:{provider_port}"}
    )
    return site(accounts=(account,), **more)


@dataclass
class Office:
    line: Hotline
    stores: Stores
    hooks: Hooks
    courier: Courier
    provider: Provider
    files: Fetcher
    url: str
    http: aiohttp.ClientSession
    connections: asyncpg.Pool
    changes: Changes
    typed: list[tuple[str, str, bool]] = field(default_factory=list)

    async def post(self, *events: dict[str, Any]) -> int:
        """The provider tells; the status of the answer."""
        body = json.dumps(events).encode()
        async with self.http.post(self.url, data=body, headers=proof(body)) as response:
            return response.status

    async def told(self, *events: dict[str, Any]) -> None:
        """The same, and all of it has been handled."""
        assert await self.post(*events) == 200
        await self.handled()

    async def handled(self) -> None:
        await self.until(self._all_handled, "a request is not handled")

    async def _all_handled(self) -> bool:
        statement = "SELECT 1 FROM request WHERE organisation_id = $1 AND handled_at IS NULL LIMIT 1"
        return not await self.rows(statement, self.line.organisation)

    async def until(self, true: Callable[[], Any], what: str) -> None:
        """What is here may be asked for at once, what is in the database as a coroutine; fails after PATIENCE_S."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                if asyncio.iscoroutine(first := true()):
                    if not await first:
                        await self.changes.until(true, *TABLES)
                else:
                    await turns.until(true)
        except TimeoutError:
            raise AssertionError(what) from None

    async def rows(self, statement: str, *arguments: Any) -> list[Any]:
        return list(await self.connections.fetch(statement, *arguments))

    async def none(self, statement: str) -> bool:
        return not await self.rows(statement)

    async def messages(self) -> list[Any]:
        return await self.rows(
            "SELECT m.*, d.text FROM message m JOIN message_data d ON d.message = m.id"
            " WHERE m.organisation_id = $1 ORDER BY m.seq",
            self.line.organisation,
        )

    async def message(self, external_id: str) -> Any:
        (found,) = [row for row in await self.messages() if row["external_id"] == external_id]
        return found

    async def talking(self, customer: str = "ana", advisor: str = "a1") -> UUID:
        """The interaction of a customer who has written and whom an advisor has."""
        await self.told({"kind": "wrote", "id": f"first of {customer}", "from": customer, "text": "Bonjour"})
        interaction = (await self.message(f"first of {customer}"))["interaction"]
        await self.line.ready(advisor)
        await self.line.ok(m.InteractionTaken, interaction=interaction, advisor=advisor, by=advisor)
        return cast(UUID, interaction)

    async def write(self, interaction: UUID, text: str, **more: Any) -> UUID:
        """An advisor (or `author`) writes; the message's id."""
        message = self.line.ids()
        values = {"author": "advisor", "by": "a1", **more}
        await self.line.ok(m.MessageWritten, message=message, interaction=interaction, text=text, **values)
        return message

    async def status(self, message: UUID) -> str:
        found = await self.stores.messages.get(message)
        assert found is not None
        return found.status

    async def becomes(self, message: UUID, status: str) -> None:
        await self.until(lambda: self._is(message, status), f"{message} does not become {status}")

    async def _is(self, message: UUID, status: str) -> bool:
        return await self.status(message) == status

    async def later(self, seconds: float) -> None:
        await self.line.later(seconds)
        self.courier.nudge()
        self.hooks.nudge()

    @property
    def words(self) -> list[str]:
        """What reached the provider, in its order."""
        return [each["text"] for each in self.provider.got if each["act"] == "message"]


@asynccontextmanager
async def office(
    dsn: str,
    data: Path,
    *,
    provider: Provider | None = None,
    clock: HandClock | None = None,
    short: str = "test",
    rules: Callable[[int], Site] = nest,
    lease_s: float = 20.0,
    call_s: float = 5.0,
    courier: bool = True,
    hooks: bool = True,
    **more: Any,
) -> AsyncIterator[Office]:
    async with AsyncExitStack() as stack:
        if provider is None:
            provider = await stack.enter_async_context(Provider())
        line = await stack.enter_async_context(hotline(dsn, rules(provider.port), clock, short))
        changes = await stack.enter_async_context(Changes(dsn))
        connections = await stack.enter_async_context(pool(dsn, size=8))
        there = stores(connections, line.organisation, line.clock, environment=KEYS)
        files = Fetcher(data, allow=("127.0.0.0/8",))
        stack.push_async_callback(files.close)
        channels = {"pigeon": cast(c.Channel, Pigeon())}
        typed: list[tuple[str, str, bool]] = []
        told = Hooks(
            site=lambda: line.desk.site,
            channels=channels,
            requests=more.pop("requests", there.requests),
            messages=there.messages,
            outbox=there.outbox,
            secrets=there.secrets,
            desk=line.desk,
            clock=line.clock,
            ids=line.ids,
            files=files,
            public_url="https://hotline.example",
            typed=lambda account, peer, on: typed.append((account, peer.value, on)),
            **more,
        )
        sent = Courier(
            site=lambda: line.desk.site,
            channels=channels,
            outbox=there.outbox,
            messages=there.messages,
            secrets=there.secrets,
            states=there.account_states,
            desk=line.desk,
            clock=line.clock,
            files=files,
            lease_s=lease_s,
            call_s=call_s,
        )

        async def nobody(_: web.Request) -> None:
            return None

        app = application((), identify=nobody)
        app.router.add_route("*", "/hooks/{account}", told.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        at = web.TCPSite(runner, "127.0.0.1", 0)
        await at.start()
        assert at._server is not None
        port = at._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        http = await stack.enter_async_context(aiohttp.ClientSession())
        if hooks:
            await stack.enter_async_context(told)
        if courier:
            await stack.enter_async_context(sent)
        url = f"http://127.0.0.1:{port}/hooks/nest"
        yield Office(line, there, told, sent, provider, files, url, http, connections, changes, typed)
