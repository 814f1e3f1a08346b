"""A process that forks servers, each to be killed at a crash point, and tells how it ended.

It is forked before its owner runs a loop. A server is what `config.wiring` opens (HTTP, SIP and mail on sockets, desk,
trees, hooks, outbox, PostgreSQL), with silence for the media workers and its mails read in its own process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import os
import signal
import socket
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

from config import logs, wiring, written
from config import site as site_file
from config.child import Child, DidNotStart
from config.settings import load
from routing.aio import crash, mail
from routing.channel import Heard
from routing.channels import email
from routing.site import Account
from tests.e2e.served import Served
from tests.fakes.silent import Silent

GRACE_S = 30.0
OWNER_LOOK_S = 0.5


class Life(Protocol):
    """One life of a server. `http` and `mail` are its addresses once `ready` has said True."""

    http: str
    mail: str

    async def ready(self) -> bool:
        """False: it ended before."""

    async def ended(self) -> int:
        """The signal that ended it, or 0."""

    def kill(self) -> None: ...

    async def stop(self) -> None:
        """As SIGTERM does it; an AssertionError if it does not end well."""


class Lives(Protocol):
    async def begin(self, env: Mapping[str, str], site: Path, plan: str) -> Life: ...


class Here:
    """As routing.aio.mail.Parser, without its process."""

    async def parse(self, raw: bytes, account: Account) -> tuple[Heard, ...]:
        return email.parse(raw, account)

    async def close(self) -> None: ...


async def _serve(asked: Mapping[str, Any], tell: socket.socket, owner: int) -> None:
    logs.watch(asyncio.get_running_loop())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if asked["plan"]:
        crash.plan(asked["plan"])
    async with wiring.opened(load(asked["env"]), Path(asked["site"])) as server:
        told = {"http": server.http_url, "mail": server.written.mail_at}
        tell.sendall(json.dumps(told).encode() + b"\n")
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OWNER_LOOK_S):
                    await stop.wait()
            if not Path(f"/proc/{owner}").exists():
                os._exit(1)


def _nurse(orders: socket.socket, owner: int) -> None:
    checked = functools.cache(lambda path: site_file.check(path, site_file.shipped_sounds()))
    trusting = functools.cache(mail.trusting)
    trusting(None)  # the system's authorities, once for all lives
    gc.freeze()
    with orders.makefile("r") as lines:
        for line in lines:
            asked = json.loads(line)
            checked(Path(asked["site"]))  # once for all its lives
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    os.environ.update(
                        {name: value for name, value in asked["env"].items() if "_SECRET_" in name}
                    )
                    with (
                        patch.object(wiring, "MediaLink", Silent),
                        patch.object(written, "Parser", Here),
                        patch.object(written, "trusting", trusting),
                        patch.object(site_file, "check", lambda path, _: checked(path)),
                    ):
                        asyncio.run(_serve(asked, orders, owner))
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            orders.sendall(json.dumps({"pid": child}).encode() + b"\n")
            _, status = os.waitpid(child, 0)
            ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
            orders.sendall(json.dumps({"ended": ended, "code": code}).encode() + b"\n")


class Nursery:
    """Make it before the loop runs; `begin` then gives one life after another."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        owner = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                self._ours.close()
                _nurse(theirs, owner)
                code = 0
            finally:
                os._exit(code)
        theirs.close()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter

    async def begin(self, env: Mapping[str, str], site: Path, plan: str) -> Life:
        if self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(sock=self._ours)
        order = {"env": dict(env), "site": str(site), "plan": plan}
        self._writer.write(json.dumps(order).encode() + b"\n")
        return _Forked(self._reader)

    def close(self) -> None:
        """When no server lives any more."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class _Forked:
    def __init__(self, told: asyncio.StreamReader) -> None:
        self.http, self.mail = "", ""
        self._pid = 0
        self._code = 0
        self._is_ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._hearing = asyncio.create_task(self._hear(told))

    async def _hear(self, told: asyncio.StreamReader) -> int:
        while line := await told.readline():
            said = json.loads(line)
            if "pid" in said:
                self._pid = said["pid"]
            elif "http" in said:
                self.http, self.mail = said["http"], said["mail"]
                self._is_ready.set_result(True)
            else:
                if not self._is_ready.done():
                    self._is_ready.set_result(False)
                self._code = said["code"]
                assert not self._code, "the server failed: its traceback is on standard error"
                return int(said["ended"])
        raise EOFError("the nursery is gone")

    async def ready(self) -> bool:
        both: set[asyncio.Future[Any]] = {self._is_ready, self._hearing}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if self._hearing.done():
            self._hearing.result()
        return self._is_ready.result()

    async def ended(self) -> int:
        return await asyncio.shield(self._hearing)

    def kill(self) -> None:
        if self._pid and not self._hearing.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    async def stop(self) -> None:
        os.kill(self._pid, signal.SIGTERM)
        async with asyncio.timeout(GRACE_S):
            assert await self._hearing == 0, "it was killed"


class Commands:
    """Lives of `monofil serve` itself, each a process as an operator starts it."""

    async def begin(self, env: Mapping[str, str], site: Path, plan: str) -> Life:
        folder = Path(env["MONOFIL_DATA_DIR"])
        return _Served(Served(folder, site=site, env={**env, **({"CRASH_AT": plan} if plan else {})}))


class _Served:
    def __init__(self, child: Child) -> None:
        self._child = child
        self.http, self.mail = "", ""

    async def ready(self) -> bool:
        try:
            await self._child.start()
        except DidNotStart:
            if await self._child.wait() < 0:
                return False
            raise
        self.http, self.mail = self._child.http, self._child.mail or ""
        return True

    async def ended(self) -> int:
        code = await self._child.wait()
        assert code <= 0, self._child.tail()
        return -code

    def kill(self) -> None:
        if self._child.running:
            os.kill(self._child.pid, signal.SIGKILL)

    async def stop(self) -> None:
        assert await self._child.stop(GRACE_S) == 0, self._child.tail()
