"""A proxy before PostgreSQL that cuts the line after n bytes, or slows each turn down (faults.md rows 4 and 8)."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit


class Cut:
    """`async with Cut(dsn) as proxy: proxy.dsn`. `to_server`, `to_client`: bytes left until the cut (None: no cut)."""

    def __init__(self, dsn: str) -> None:
        self._real = unquote(urlsplit(dsn).query.partition("host=")[2]) + "/.s.PGSQL.5432"
        self._home = tempfile.TemporaryDirectory(prefix="cut-")
        self.dsn = dsn.split("host=")[0] + "host=" + quote(self._home.name)
        self.to_server: int | None = None
        self.to_client: int | None = None
        self.delay_s = 0.0
        self.refusing = False
        self.cuts = 0
        self.passed = [0, 0]  # bytes to the server, to the client
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Cut:
        path = Path(self._home.name) / ".s.PGSQL.5432"
        self._server = await asyncio.start_unix_server(self._serve, path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._home.cleanup()

    def cut(self) -> None:
        """Both sides see the line go."""
        for writer in self._writers:
            with contextlib.suppress(RuntimeError):
                writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.refusing:
                writer.transport.abort()
                return
            far_reader, far_writer = await asyncio.open_unix_connection(self._real)
            self._writers |= {writer, far_writer}
            await asyncio.gather(
                self._pump(reader, far_writer, 0), self._pump(far_reader, writer, 1), return_exceptions=True
            )
            for each in (writer, far_writer):
                self._writers.discard(each)
                each.close()
        finally:
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int) -> None:
        while data := await reader.read(65536):
            if self.delay_s and way == 0:
                await asyncio.sleep(self.delay_s)
            left = self.to_client if way else self.to_server
            if left is not None and len(data) >= left:
                writer.write(data[:left])
                with contextlib.suppress(OSError):
                    await writer.drain()
                self.to_client = self.to_server = None
                self.cuts += 1
                self.cut()
                return
            if left is not None:
                if way:
                    self.to_client = left - len(data)
                else:
                    self.to_server = left - len(data)
            self.passed[way] += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()
