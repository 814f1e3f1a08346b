"""A UDP proxy that loses, repeats and delays what passes, by a seed: callers on one side, a server on the other."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType
from typing import cast


class _Leg(asyncio.DatagramProtocol):
    """The proxy's socket towards the server for one caller."""

    def __init__(self, proxy: Lossy, caller: tuple[str, int]) -> None:
        self._proxy = proxy
        self._caller = caller
        self.transport: asyncio.DatagramTransport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # 3.11's is none by its class

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set_result(None)

    def datagram_received(self, data: bytes, address: object) -> None:
        self._proxy.back(data, self._caller)


class Lossy(asyncio.DatagramProtocol):
    """`async with Lossy(server, seed=1, loss=0.1) as proxy`: send to 127.0.0.1:`proxy.port`."""

    def __init__(
        self, server: tuple[str, int], *, seed: int, loss: float, repeat: float = 0.0, delay_s: float = 0.0
    ) -> None:
        self._server = server
        self._random = random.Random(seed)
        self._loss = loss
        self._repeat = repeat
        self._delay_s = delay_s
        self._legs: dict[tuple[str, int], _Leg] = {}
        self._waiting: dict[tuple[str, int], list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._handles: set[asyncio.TimerHandle] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._closed: asyncio.Future[None] | None = None
        self.lost = 0
        self.passed = 0

    async def __aenter__(self) -> Lossy:
        loop = asyncio.get_running_loop()
        self._closed = loop.create_future()
        await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for leg in self._legs.values():
            assert leg.transport is not None
            leg.transport.close()
            await leg.closed
        assert self._transport is not None
        assert self._closed is not None
        self._transport.close()
        await self._closed

    @property
    def port(self) -> int:
        assert self._transport is not None
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        assert self._closed is not None
        self._closed.set_result(None)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        leg = self._legs.get(address)
        if leg is not None:
            self._pass(leg.transport, data, self._server)
        elif address in self._waiting:
            self._waiting[address].append(data)
        else:
            self._waiting[address] = [data]
            task = asyncio.get_running_loop().create_task(self._open(address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, caller: tuple[str, int]) -> None:
        _, leg = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Leg(self, caller), local_addr=("127.0.0.1", 0)
        )
        self._legs[caller] = leg
        for data in self._waiting.pop(caller):
            self._pass(leg.transport, data, self._server)

    def back(self, data: bytes, caller: tuple[str, int]) -> None:
        self._pass(self._transport, data, caller)

    def _pass(self, transport: asyncio.DatagramTransport | None, data: bytes, to: tuple[str, int]) -> None:
        if transport is None or self._random.random() < self._loss:
            self.lost += 1
            return
        for _ in range(2 if self._random.random() < self._repeat else 1):
            self.passed += 1
            if not self._delay_s:
                transport.sendto(data, to)
                continue
            handle = asyncio.get_running_loop().call_later(
                self._delay_s * self._random.random(), transport.sendto, data, to
            )
            self._handles.add(handle)
            if len(self._handles) > 1000:
                self._handles = {h for h in self._handles if h.when() > asyncio.get_running_loop().time()}
