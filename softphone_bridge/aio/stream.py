"""SIP over TCP: one connection framed into messages, with bounded memory, time and number."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from softphone_bridge.framing import Framer
from softphone_bridge.signals import Flow

MAX_CONNECTIONS = 4_000
MAX_PER_ADDRESS = 200
UNFINISHED_S = 10.0  # a message that has begun, or a connection that never said anything whole
IDLE_S = 3_900.0  # longer than the longest registration
MAX_UNSENT = 1 << 20  # octets that a far side may leave unread


class Keeper(Protocol):
    """Who owns the connections."""

    def opened(self, stream: Stream) -> bool: ...

    def message(self, flow: Flow, data: bytes) -> None: ...

    def settle(self) -> None: ...

    def closed(self, stream: Stream) -> None: ...

    def clock(self) -> float: ...


class Stream(asyncio.Protocol):
    """One connection, incoming or made by us."""

    def __init__(self, keeper: Keeper, key: int) -> None:
        self._keeper: Keeper | None = keeper
        self._key = key
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self._since = keeper.clock()  # when the message now arriving began
        self._heard = False
        self._last = self._since
        self.flow = Flow("tcp", "", 0, key)
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._keeper is not None
        peer = transport.get_extra_info("peername")
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        if peer:
            self.flow = Flow("tcp", peer[0], peer[1], self._key)
        if not peer or not self._keeper.opened(self):
            self._transport.abort()

    @property
    def descriptor(self) -> int:
        """The number of its socket: the kernel gives the lowest that is free, so it tells how many are in use."""
        taken = self._transport.get_extra_info("socket") if self._transport is not None else None
        return taken.fileno() if taken is not None else 0

    def data_received(self, data: bytes) -> None:
        keeper = self._keeper
        if keeper is None:
            return
        now = keeper.clock()
        was_waiting = self._framer.waiting
        messages = self._framer.feed(data)
        if messages:
            self._heard = True
        if messages or not was_waiting:
            self._since = now
        self._last = now
        for message in messages:
            keeper.message(self.flow, message)
        keeper.settle()
        if self._framer.broken:
            self.close()

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_UNSENT:
            transport.abort()
            return
        transport.write(data)

    def late(self, now: float) -> bool:
        """Whether this connection has had its time."""
        if self._framer.waiting or not self._heard:
            return now - self._since > UNFINISHED_S
        return now - self._last > IDLE_S

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.closed(self)
        if not self.lost.done():
            self.lost.set_result(None)
