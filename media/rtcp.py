"""RTCP: sender and receiver reports, read and written (RFC 3550 6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SR, RR, SDES, BYE, APP = 200, 201, 202, 203, 204
INTERVAL_S = 5.0  # RFC 3550 6.2
NTP_EPOCH_S = 2_208_988_800  # from 1900 to 1970
MAX_BYTES = 2048

_REPORT = struct.Struct("!IIIIII")


@dataclass(frozen=True, slots=True)
class Report:
    """One report block: what `ssrc`'s listener says."""

    ssrc: int
    fraction: int  # in 1/256
    lost: int
    highest: int  # extended
    jitter: int  # in units of the RTP clock
    last_sr: int = 0
    delay: int = 0  # since last_sr, in 1/65536 s


@dataclass(frozen=True, slots=True)
class SenderReport:
    ssrc: int
    ntp: int  # 64 bits
    timestamp: int
    packets: int
    octets: int
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    ssrc: int
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True)
class Bye:
    ssrcs: tuple[int, ...]


RtcpPacket = SenderReport | ReceiverReport | Bye


class NotRtcp(ValueError):
    """These bytes are not a compound RTCP packet; the text says why."""


def ntp(unix_s: float) -> int:
    """A wall clock reading as 64 bits of NTP time."""
    return int((unix_s + NTP_EPOCH_S) * 65536) << 16 & 0xFFFFFFFFFFFFFFFF


def middle(stamp: int) -> int:
    """The middle 32 bits of an NTP time stamp, which LSR holds."""
    return stamp >> 16 & 0xFFFFFFFF


def build(packet: SenderReport | ReceiverReport, cname: str) -> bytes:
    """A compound packet: the report and an SDES with its CNAME (6.1)."""
    blocks = b"".join(
        _REPORT.pack(
            each.ssrc,
            each.fraction << 24 | max(-0x800000, min(each.lost, 0x7FFFFF)) & 0xFFFFFF,
            each.highest & 0xFFFFFFFF,
            each.jitter & 0xFFFFFFFF,
            each.last_sr,
            each.delay & 0xFFFFFFFF,
        )
        for each in packet.reports[:31]
    )
    body = struct.pack("!I", packet.ssrc)
    kind = RR
    if isinstance(packet, SenderReport):
        kind = SR
        body += struct.pack(
            "!QIII",
            packet.ntp,
            packet.timestamp & 0xFFFFFFFF,
            packet.packets & 0xFFFFFFFF,
            packet.octets & 0xFFFFFFFF,
        )
    body += blocks
    head = struct.pack("!BBH", 0x80 | min(31, len(packet.reports)), kind, len(body) // 4)
    name = cname.encode()[:255]
    chunk = struct.pack("!IBB", packet.ssrc, 1, len(name)) + name + b"\0"
    chunk += b"\0" * (-len(chunk) % 4)
    return head + body + struct.pack("!BBH", 0x81, SDES, len(chunk) // 4) + chunk


def parse(data: bytes) -> tuple[RtcpPacket, ...]:
    """The reports and goodbyes of a compound packet; other types are skipped. Raises NotRtcp."""
    if len(data) > MAX_BYTES:
        raise NotRtcp("too long")
    if len(data) < 8:
        raise NotRtcp("too short")
    found: list[RtcpPacket] = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise NotRtcp("cut off")
        first, kind, words = struct.unpack_from("!BBH", data, at)
        if first >> 6 != 2:
            raise NotRtcp("version is not 2")
        if at == 0 and not 192 <= kind <= 223:
            raise NotRtcp("not an RTCP type")
        end = at + 4 + 4 * words
        if end > len(data):
            raise NotRtcp("length is beyond the packet")
        count, body = first & 0x1F, data[at + 4 : end]
        if kind == SR:
            if len(body) < 24 + 24 * count:
                raise NotRtcp("sender report is cut off")
            ssrc, stamp, timestamp, packets, octets = struct.unpack_from("!IQIII", body)
            found.append(SenderReport(ssrc, stamp, timestamp, packets, octets, _reports(body, 24, count)))
        elif kind == RR:
            if len(body) < 4 + 24 * count:
                raise NotRtcp("receiver report is cut off")
            found.append(ReceiverReport(struct.unpack_from("!I", body)[0], _reports(body, 4, count)))
        elif kind == BYE:
            if len(body) < 4 * count:
                raise NotRtcp("goodbye is cut off")
            found.append(Bye(struct.unpack_from(f"!{count}I", body)))
        at = end
    return tuple(found)


def _reports(body: bytes, at: int, count: int) -> tuple[Report, ...]:
    reports = []
    for index in range(count):
        ssrc, loss, highest, jitter, last_sr, delay = _REPORT.unpack_from(body, at + 24 * index)
        lost = (loss & 0xFFFFFF ^ 0x800000) - 0x800000  # 24 bits with a sign
        reports.append(Report(ssrc, loss >> 24, lost, highest, jitter, last_sr, delay))
    return tuple(reports)
