"""The door of a TCP server: lets a connection in unless it would take one of the last file descriptors (fault row 11).

The kernel gives each connection the lowest free number, so its own number tells how many are in use.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from typing import cast

from prometheus_client import Counter

SPARE = 64
"""Descriptors kept for what calls need: sockets to the database and the media workers, recordings, the log."""
BACKLOG = 128

TURNED_AWAY = Counter(
    "monofil_http_turned_away_total", "HTTP connections refused: too few descriptors are left"
)


class Door(asyncio.Protocol):
    """Takes a connection and hands it to the protocol that `make` makes."""

    def __init__(self, make: Callable[[], asyncio.BaseProtocol]) -> None:
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        line = cast(asyncio.Transport, transport)
        if crowded(line):
            TURNED_AWAY.inc()
            line.abort()
            return
        protocol = self._make()
        line.set_protocol(protocol)
        protocol.connection_made(line)


def crowded(transport: asyncio.BaseTransport) -> bool:
    """Is this connection one of the last that the process may hold?"""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: socket.socket | None = transport.get_extra_info("socket")
    return taken is not None and most != resource.RLIM_INFINITY and taken.fileno() >= most - SPARE


async def listen(make: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> asyncio.Server:
    """A TCP server behind a door. Raises OSError when the port is taken."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Door(make), host, port, backlog=BACKLOG, reuse_address=True)


def take_all_descriptors() -> None:
    """Raise the soft limit to the hard one: a call takes a socket in its worker, a page one here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
