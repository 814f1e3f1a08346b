"""A `monofil serve` in a process of its own, watched from outside by the demo, the tests and the benchmarks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class DidNotStart(Exception):
    """The server ended before it was ready; the message is what it said."""


class Child:
    """A server: `async with Child(folder, arguments=…, env=…) as server`. `folder` holds its log.

    Its environment is ours with every MONOFIL_ variable replaced by `env`.
    """

    def __init__(self, folder: Path, *, arguments: tuple[str, ...] = (), env: Mapping[str, str]) -> None:
        self.folder = folder
        self.arguments = arguments
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MONOFIL_")},
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "MONOFIL_LOG_FORMAT": "json",
            **env,
        }
        self.log = folder / "server.log"
        self.http = ""  # its origin, once ready
        self.sip = ""  # host:port
        self.mail: str | None = None  # host:port where mail is taken
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Child:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            await self.stop()

    async def start(self, within_s: float = 60.0) -> None:
        """Returns when it is ready. Raises DidNotStart."""
        with self.log.open("ab") as errors:
            begin = errors.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "config",
                "serve",
                *self.arguments,
                env=self.env,
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the server
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(within_s):
                while line := (await self._process.stdout.readline()).decode():
                    if line.startswith("ready "):
                        words = dict(word.split("=", 1) for word in line.split()[1:])
                        self.http, self.sip = words["http"].rstrip("/"), words["sip"]
                        self.mail = words.get("mail")
                        return
                await self._process.wait()
        except BaseException:
            await self.kill()
            raise
        with self.log.open("rb") as said:
            said.seek(begin)
            words_said = said.read().decode("utf-8", "replace").strip()
        raise DidNotStart(words_said or f"the server ended with exit code {self._process.returncode}")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def sip_host(self) -> str:
        return self.sip.rpartition(":")[0]

    @property
    def sip_port(self) -> int:
        return int(self.sip.rpartition(":")[2])

    async def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM; the exit code. One that does not end in time is killed."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), within_s)
        except TimeoutError:
            await self.kill()
            raise

    async def kill(self) -> None:
        """SIGKILL, as a power cut."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def wait(self) -> int:
        """Until it ends by itself; the exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def command(self, *words: str, expect: int = 0) -> str:
        """Run `monofil WORDS` beside the server; its standard output. Raises RuntimeError for another exit code."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "config",
            *words,
            env=self.env,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await asyncio.wait_for(process.communicate(), 30.0)
        if process.returncode != expect:
            raise RuntimeError(
                f"monofil {' '.join(words)} ended with {process.returncode}: {errors.decode()}"
            )
        return out.decode()

    async def password(self, login: str) -> str:
        """A new password for a login, made by `monofil user passwd`."""
        return str(json.loads(await self.command("user", "passwd", login, "--json"))["password"])

    def lines(self) -> list[dict[str, Any]]:
        """The log so far, one record a line."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines() if line.startswith("{")]

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-lines:])
