"""A TCP line between a browser and its server that can be cut, stay dead for a while, and be mended."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType


class Line:
    """`async with Line(host, port) as line: line.url`; while `dead`, new connections are refused at once."""

    def __init__(self, host: str, port: int) -> None:
        self._far = host, port
        self.dead = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

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
        self._writers.add(writer)
        try:
            if self.dead:
                writer.transport.abort()
                return
            far_reader, far_writer = await asyncio.open_connection(*self._far)
            self._writers.add(far_writer)
            await asyncio.gather(
                self._pump(reader, far_writer), self._pump(far_reader, writer), return_exceptions=True
            )
            for each in (writer, far_writer):
                self._writers.discard(each)
                each.close()
        finally:
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
