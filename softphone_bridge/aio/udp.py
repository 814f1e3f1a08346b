"""One UDP socket read until it is empty, which also knows how long its datagrams have waited in the kernel."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Callable

MAX_DATAGRAM = 65_535
READS_A_WAKE = 64  # then others get their turn; the loop wakes us again at once
BUFFER = 4 << 20  # a burst of a second at full load
_SO_TIMESTAMPNS = 35  # Linux; the socket module does not name it
_SO_RCVBUFFORCE = 33
_TIMESPEC = struct.Struct("@ll")


class UdpSocket:
    """Calls `take(data, host, port)` for each datagram, then `settle(lag_s)` once a wake."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        take: Callable[[bytes, str, int], None],
        settle: Callable[[float], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._take = take
        self._settle = settle
        self._stamped = False
        sock.setblocking(False)
        for option, size in (
            (_SO_RCVBUFFORCE, BUFFER),
            (socket.SO_RCVBUF, BUFFER),
            (socket.SO_SNDBUF, BUFFER),
        ):
            try:
                sock.setsockopt(socket.SOL_SOCKET, option, size)
            except OSError:
                continue
        if sys.platform == "linux":
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                self._stamped = True
            except OSError:
                pass
        loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        lag_s = 0.0
        recvfrom, take = self._sock.recvfrom, self._take
        try:
            if self._stamped:
                data, ancillary, _, address = self._sock.recvmsg(MAX_DATAGRAM, 64)
                if ancillary:
                    seconds, nanos = _TIMESPEC.unpack_from(ancillary[0][2])
                    lag_s = max(0.0, time.time() - seconds - nanos * 1e-9)
                take(data, address[0], address[1])
            for _ in range(READS_A_WAKE):
                data, address = recvfrom(MAX_DATAGRAM)
                take(data, address[0], address[1])
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # an ICMP error of something sent earlier; the transactions' timers deal with it
            pass
        self._settle(lag_s)

    def send(self, data: bytes, host: str, port: int) -> bool:
        try:
            self._sock.sendto(data, (host, port))
        except OSError:  # full or unreachable: as good as lost on the way
            return False
        return True

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
