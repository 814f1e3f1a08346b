"""RTP packets and what is counted about a stream of them (RFC 3550)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = struct.Struct("!BBHII")  # V P X CC, M PT, sequence number, time stamp, SSRC
HEADER_BYTES = HEADER.size
FIRST = 0x80  # version 2, no padding, no extension, no CSRC
MARKER = 0x80
CLOCK_HZ = 8000  # of PCMU, PCMA and telephone-event/8000
FRAME_SAMPLES = 160  # 20 ms

MAX_DROPOUT = 3000  # RFC 3550 A.1
MAX_MISORDER = 100


@dataclass(frozen=True, slots=True)
class Packet:
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False


class NotRtp(ValueError):
    """These bytes are not an RTP packet; the text says why."""


def payload_span(data: bytes | bytearray | memoryview, size: int) -> tuple[int, int]:
    """Where the payload begins and ends in a packet of `size` bytes. Raises NotRtp."""
    if size < HEADER_BYTES:
        raise NotRtp("shorter than a header")
    first = data[0]
    if first >> 6 != 2:
        raise NotRtp("version is not 2")
    start, end = HEADER_BYTES + 4 * (first & 0x0F), size
    if first & 0x10:
        if start + 4 > size:
            raise NotRtp("extension is cut off")
        start += 4 + 4 * (data[start + 2] << 8 | data[start + 3])
    if first & 0x20:
        padding = data[size - 1]
        if padding == 0:
            raise NotRtp("padding of no bytes")
        end -= padding
    if start > end:
        raise NotRtp("header is longer than the packet")
    return start, end


def is_rtcp(second: int) -> bool:
    """RTCP on the RTP port shows by its type, 200 to 204 and around (RFC 5761 4)."""
    return 192 <= second <= 223


def parse(data: bytes) -> Packet:
    """Read one packet. Raises NotRtp."""
    start, end = payload_span(data, len(data))
    if is_rtcp(data[1]):
        raise NotRtp("RTCP")
    _, kind, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    return Packet(kind & 0x7F, sequence, timestamp, ssrc, bytes(data[start:end]), bool(kind & MARKER))


def build(packet: Packet) -> bytes:
    kind = packet.payload_type | (MARKER if packet.marker else 0)
    return (
        HEADER.pack(
            FIRST, kind, packet.sequence & 0xFFFF, packet.timestamp & 0xFFFFFFFF, packet.ssrc & 0xFFFFFFFF
        )
        + packet.payload
    )


def distance(to: int, since: int, bits: int = 16) -> int:
    """How far `to` is after `since` in serial arithmetic; negative when it is before."""
    span = 1 << bits
    step = (to - since) & (span - 1)
    return step - span if step >= span >> 1 else step


class Reception:
    """What came of one source: expected, lost, jitter (RFC 3550 A.1, A.3, A.8).

    `arrival` is in units of the RTP clock, from any zero; fractions are welcome.
    """

    __slots__ = (
        "base",
        "before",
        "expected_before",
        "highest",
        "jitter",
        "received",
        "received_before",
        "suspect",
        "transit",
    )

    def __init__(self) -> None:
        self.base = -1  # first extended sequence number; -1 before any packet
        self.highest = -1  # extended
        self.before = 0  # packets expected of former beginnings
        self.received = 0
        self.jitter = 0.0  # in units of the RTP clock
        self.transit = 0.0
        self.suspect = -1  # the number that would prove a restart of the source
        self.expected_before = 0
        self.received_before = 0

    def hear(self, sequence: int, timestamp: int, arrival: float) -> bool:
        """Count one packet; False when it must not be used (too far off to be believed, or seen before)."""
        if self.base < 0:
            self.base = self.highest = sequence + 65536  # room for what comes before the first
            self.transit = arrival - timestamp
            self.received += 1
            return True
        step = distance(sequence, self.highest & 0xFFFF)
        if step == 0:
            self.received += 1  # a copy: counted (A.3), not used
            return False
        if -MAX_MISORDER < step < 0:
            self.received += 1
            self.base = min(self.base, self.highest + step)
            return True
        if not 0 < step < MAX_DROPOUT:
            if sequence != self.suspect:
                self.suspect = (sequence + 1) & 0xFFFF
                return False
            self.restart()
            return self.hear(sequence, timestamp, arrival)
        self.suspect = -1
        self.highest += step
        self.received += 1
        self.measure(timestamp, arrival)
        return True

    def restart(self) -> None:
        """The source begins anew: other numbers, or another SSRC. Sums are kept."""
        self.before = self.expected
        self.base = self.highest = self.suspect = -1

    def measure(self, timestamp: int, arrival: float) -> None:
        """Interarrival jitter (A.8)."""
        transit = arrival - timestamp
        change = abs(transit - self.transit)
        self.transit = transit
        if change < CLOCK_HZ:  # a jump of a second is a new clock or its wrap, not jitter
            self.jitter += (change - self.jitter) / 16

    @property
    def expected(self) -> int:
        return self.before + (self.highest - self.base + 1 if self.base >= 0 else 0)

    @property
    def lost(self) -> int:
        return max(0, self.expected - self.received)

    def fraction(self) -> int:
        """Loss since the last report, in 1/256 (A.3); each call ends an interval."""
        expected = self.expected - self.expected_before
        received = self.received - self.received_before
        self.expected_before, self.received_before = self.expected, self.received
        lost = expected - received
        return min(255, (lost << 8) // expected) if expected > 0 and lost > 0 else 0
