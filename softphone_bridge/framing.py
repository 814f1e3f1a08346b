"""Messages out of a stream: where one ends and the next begins (RFC 3261 18.3), however the bytes were cut.

What arrives in which pieces never changes what comes out. After something that can't be framed the stream is `broken`:
nothing more is read, and whoever holds the connection closes it.
"""

from __future__ import annotations

import re

from softphone_bridge.parser import MAX_MESSAGE

_LENGTH = re.compile(
    rb"^(?:content-length|l)[ \t]*(?:\n[ \t]+)*:([^\n]*(?:\n[ \t][^\n]*)*)$",
    re.IGNORECASE | re.MULTILINE,
)
PING = b"\r\n\r\n"


class Framer:
    """Feed bytes, get whole messages; a keep-alive comes out as CRLF CRLF."""

    __slots__ = ("_buffer", "_size", "broken")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._size = 0  # of the message at the front, once its head is known
        self.broken = False

    @property
    def waiting(self) -> bool:
        """Whether a message has begun and is not whole."""
        return bool(self._buffer) and self._buffer != b"\r\n"

    def feed(self, data: bytes) -> list[bytes]:
        if self.broken:
            return []
        buffer = self._buffer
        buffer += data
        out: list[bytes] = []
        while buffer:
            if not self._size:
                if buffer[:1] == b"\r":
                    if len(buffer) < 2 or (len(buffer) < 4 and PING.startswith(buffer)):
                        break
                    if buffer[:4] == PING:
                        out.append(PING)
                        del buffer[:4]
                        continue
                    if buffer[:2] == b"\r\n":
                        del buffer[:2]
                        continue
                if not self._head(out):
                    break
            if len(buffer) < self._size:
                break
            out.append(bytes(buffer[: self._size]))
            del buffer[: self._size]
            self._size = 0
        return out

    def _head(self, out: list[bytes]) -> bool:
        """Learn the size of the message at the front; False when it is not known, or never will be."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", 0, MAX_MESSAGE + 4)
        if end < 0:
            if len(buffer) >= MAX_MESSAGE + 4:
                self._break()
            return False
        head = bytes(buffer[: end + 4])
        found = [value.strip(b" \t\n") for value in _LENGTH.findall(head.replace(b"\r\n", b"\n"))]
        if len(found) == 1 and found[0].isdigit() and len(found[0]) <= 10:
            self._size = end + 4 + int(found[0])
            if self._size <= MAX_MESSAGE:
                return True
        if found:
            out.append(head)  # a wrong length deserves its 400 before the close
        self._break()
        return False

    def _break(self) -> None:
        self.broken = True
        self._buffer.clear()
        self._size = 0
