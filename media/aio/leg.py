"""One leg in a worker: its sockets, who may speak to it, and the way of each packet.

A leg has three sockets. The *door* is bound to its port and hears everybody. Once we know where the far side's RTP
comes from (it has *latched*), the *line*, a second socket on the same port, is connected to that place: the kernel then
gives us its packets there, without an address to compare, and everybody else's at the door, where they are counted and
dropped. The third is for RTCP, one port up.

`on_line` is the path of nearly every packet and is written for speed; whatever is not the next plain voice packet of
the known stream goes through `_unusual`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from media import dtmf, g711, rtcp, rtp
from media.aio.recording import Recording
from media.aio.sounds import Program
from media.g711 import PCMU, TRANSLATION
from media.jitter import Jitter
from media.rtp import CLOCK_HZ, FIRST, FRAME_SAMPLES, HEADER, HEADER_BYTES, MARKER, distance
from media.sdp import TELEPHONE_EVENT, Remote
from media.vad import Ear

Address = tuple[str, int]

BUFFER = bytearray(2048)
VIEWS = [memoryview(BUFFER)[:size] for size in range(len(BUFFER) + 1)]
COMFORT_NOISE = 13  # RFC 3389: neither ours nor a fault
LEARN_PACKETS = 5  # row 17
LEARN_S = 0.06  # ours: five packets of a phone span 80 ms, a spray's burst none
CHANGE_S = 0.08  # ours: a source is only left for its successor when it has been silent so long
DSCP_EF = 0xB8  # RFC 3246, as the TOS byte

_unpack = HEADER.unpack_from
_pack = HEADER.pack_into


class Around(Protocol):
    """What a leg asks of the worker that holds it."""

    def attend(self, handle: socket.socket, hear: Callable[[float], None]) -> None: ...

    def leave(self, handle: socket.socket) -> None: ...

    def digit(self, leg: Leg, digit: dtmf.Digit) -> None: ...

    def pressing(self, leg: Leg) -> None: ...


class Leg:
    """One far side: what is heard from it, what it is sent, and with whom it is joined. Times are monotonic seconds."""

    __slots__ = (
        "_around",
        "_candidate",
        "_lift",
        "_mapped",
        "_out_at",
        "_out_seq",
        "_out_stamp",
        "_recv",
        "_rtcp",
        "_send",
        "_shift",
        "_source",
        "_sr",
        "_ssrc_in",
        "_table",
        "alive_at",
        "codec",
        "connected_at",
        "detector",
        "digits",
        "door",
        "ear",
        "ear_table",
        "event_out",
        "expect",
        "heard_at",
        "jitter",
        "kind",
        "latched",
        "line",
        "malformed",
        "missed",
        "name",
        "octets",
        "peers",
        "play",
        "port",
        "reception",
        "recordings",
        "relay_digits",
        "remote",
        "reported_at",
        "rtcp_in",
        "sent",
        "slot",
        "ssrc",
        "stalled_since",
        "strangers",
        "tapped",
        "voice",
    )

    def __init__(
        self,
        name: str,
        door: socket.socket,
        rtcp_socket: socket.socket,
        around: Around,
        *,
        slot: int,
        ssrc: int,
        sequence: int,
        timestamp: int,
        now: float,
    ) -> None:
        self.name = name
        self.door = door
        self.port: int = door.getsockname()[1]
        self.line: socket.socket | None = None
        self._rtcp = rtcp_socket
        self._around = around
        self.slot = slot
        self.remote: Remote | None = None
        self.latched: Address | None = None
        self._candidate: tuple[Address, int, int, int, float] | None = None
        self.codec = PCMU
        self.event_out: int | None = None
        self.connected_at = self.heard_at = self.alive_at = self.reported_at = now
        self.stalled_since = -1.0  # the silence that has been told

        # what comes in
        self._recv: Callable[[bytearray], int] = door.recv_into
        self.reception = rtp.Reception()
        self._ssrc_in = -1
        self.expect = -1  # sequence number of the next plain packet; -1 sends every packet through _unusual
        self.kind = -1  # its payload type
        self.digits = dtmf.Receiver()
        self.strangers = self.malformed = self.rtcp_in = 0
        self._sr: tuple[int, float] | None = None
        self.tapped = False
        self.recordings: list[tuple[Recording, int]] = []
        self.detector: Ear | None = None
        self.voice: list[bytes] = []
        self.missed = 0
        self.jitter: Jitter | None = None

        # what goes out, and to whom
        self._send: Callable[[memoryview | bytes], int] = self._send_by_door
        self.ssrc = ssrc
        self._out_seq, self._out_stamp, self._out_at = sequence, timestamp, now
        self._source: Leg | None = None  # whose packets are being forwarded here
        self.sent = self.octets = 0
        self.peers: dict[str, Leg] = {}
        self.relay_digits = True
        self.ear: Leg | None = None  # to whom our packets are forwarded at once
        self._table: bytes | None = None
        self._mapped = False
        self._shift = self._lift = 0
        self.play: Program | None = None
        around.attend(door, self.on_door)
        around.attend(rtcp_socket, self.on_rtcp)

    def connect(self, remote: Remote, now: float) -> None:
        before = self.remote
        self.remote = remote
        self.codec = self.kind = remote.payload_type
        self.event_out = remote.telephone_event
        self.connected_at = now
        self.expect = -1
        if before is None:
            self.reported_at = now - rtcp.INTERVAL_S / 2  # the first report comes sooner (RFC 3550 6.2)
        if before is None or (before.host, before.port) != (remote.host, remote.port):
            if self.latched != (remote.host, remote.port):
                self._unlatch()
            self._candidate = None

    def _unlatch(self) -> None:
        if self.line is not None:
            self._around.leave(self.line)
            self.line.close()
            self.line = None
        self.latched = None
        self._send = self._send_by_door

    def _latch(self, source: Address, size: int, now: float) -> None:
        """The packet in BUFFER has shown where the far side is: connect the line there, and hear the packet."""
        early = [bytes(VIEWS[size])]
        self._connect_line(source, early)
        for packet in early:
            BUFFER[: len(packet)] = packet
            self._unusual(len(packet), now)

    def _connect_line(self, source: Address, early: list[bytes]) -> None:
        self._unlatch()
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            # The port is ours alone but for this moment: nobody else may share it.
            self.door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            line.bind(self.door.getsockname())
            line.connect(source)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            line.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_EF)
            self.door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            while True:  # what came between bind and connect is of anybody
                packet, sender = line.recvfrom(len(BUFFER))
                if sender == source:
                    early.append(packet)
                else:
                    self.strangers += 1
        except BlockingIOError:
            pass
        except OSError:
            line.close()
            return
        self.line = line
        self.latched = source
        self._recv = line.recv_into
        self._send = line.send
        self.expect = -1
        self._candidate = None
        self._around.attend(line, self.on_line)

    def _send_by_door(self, packet: memoryview | bytes) -> int:
        remote = self.remote
        if remote is None or remote.host == "0.0.0.0":
            return 0
        return self.door.sendto(packet, (remote.host, remote.port))

    def on_line(self, now: float) -> None:
        try:
            size = self._recv(BUFFER)
        except OSError:
            return  # nothing there, or an ICMP error of something sent before
        if size > HEADER_BYTES:
            first, kind, sequence, stamp, ssrc = _unpack(BUFFER)
            if sequence == self.expect and kind == self.kind and ssrc == self._ssrc_in and first == FIRST:
                self.expect = sequence + 1  # 65536 after 65535: the next one goes the long way and wraps
                self.heard_at = now
                reception = self.reception
                reception.highest += 1
                reception.received += 1
                transit = now * CLOCK_HZ - stamp
                change = transit - reception.transit
                reception.transit = transit
                if change < 0.0:
                    change = -change
                if change < CLOCK_HZ:
                    reception.jitter += (change - reception.jitter) * 0.0625
                if self.tapped:
                    self.tap(now, stamp, kind, VIEWS[size][HEADER_BYTES:].tobytes())
                ear = self.ear
                if ear is not None:
                    if self._table is not None:
                        BUFFER[HEADER_BYTES:size] = BUFFER[HEADER_BYTES:size].translate(self._table)
                    _pack(
                        BUFFER,
                        0,
                        FIRST,
                        ear.codec,
                        sequence + self._shift & 0xFFFF,
                        stamp + self._lift & 0xFFFFFFFF,
                        ear.ssrc,
                    )
                    ear.sent += 1
                    ear.octets += size
                    try:
                        ear._send(VIEWS[size])
                    except OSError:
                        pass
                return
        self._unusual(size, now)

    def on_door(self, now: float) -> None:
        """Somebody who is not (yet) known to be the far side (row 17)."""
        try:
            size, source = self.door.recvfrom_into(BUFFER)
        except OSError:
            return
        remote = self.remote
        if remote is None:
            return
        if source == self.latched:  # was in the queue when the line was connected
            self._unusual(size, now)
            return
        try:
            rtp.payload_span(BUFFER, size)
            spoken = not rtp.is_rtcp(BUFFER[1]) and self._known(BUFFER[1] & 0x7F)
        except rtp.NotRtp:
            spoken = False
        promised = source == (remote.host, remote.port)
        if not spoken:
            if promised:
                self.malformed += 1
            else:
                self.strangers += 1
            return
        if promised or self._is_far_side(source, now):
            self._latch(source, size, now)
        else:
            self.strangers += 1

    def _is_far_side(self, source: Address, now: float) -> bool:
        """Shall a valid packet from elsewhere than the description says be believed?"""
        assert self.remote is not None
        _, _, sequence, _, ssrc = _unpack(BUFFER)
        if self.latched is not None:
            # the same stream from a new place, its old place silent: a phone whose NAT has moved it
            step = distance(sequence, self.reception.highest & 0xFFFF)
            silent_s = now - self.heard_at
            return ssrc == self._ssrc_in and silent_s > CHANGE_S and 0 < step < 50 + 100 * silent_s
        if source[0] == self.remote.host:
            return True
        candidate = self._candidate
        if candidate is not None and candidate[:3] == (source, ssrc, sequence):
            count, since = candidate[3] + 1, candidate[4]
        else:
            count, since = 1, now
        self._candidate = (source, ssrc, sequence + 1 & 0xFFFF, count, since)
        return count >= LEARN_PACKETS and now - since >= LEARN_S

    def _known(self, payload_type: int) -> bool:
        return payload_type in g711.SILENCE or payload_type == COMFORT_NOISE or self._is_event(payload_type)

    def _is_event(self, payload_type: int) -> bool:
        """Theirs, and the number that our own offers give: both are met in the wild."""
        return payload_type in (TELEPHONE_EVENT, self.event_out)

    def _unusual(self, size: int, now: float) -> None:
        """A first packet, one out of order, with a marker, a digit, another stream, or rubbish."""
        try:
            start, end = rtp.payload_span(BUFFER, size)
        except rtp.NotRtp:
            self.malformed += 1
            return
        if size == len(BUFFER):
            self.malformed += 1
            return
        _, kind, sequence, stamp, ssrc = _unpack(BUFFER)
        if rtp.is_rtcp(kind):
            self._hear_rtcp(bytes(VIEWS[size]), now)
            return
        payload_type = kind & 0x7F
        if not self._known(payload_type):
            self.malformed += 1
            return
        reception = self.reception
        if ssrc != self._ssrc_in:
            if self._ssrc_in >= 0:
                self._unmap()
                reception.restart()
                for recording, side in self.recordings:
                    recording.tracks[side].restart()
            self._ssrc_in = ssrc
            self.digits = dtmf.Receiver()
        newest, begun = reception.highest, reception.before
        last_stamp = round(self.heard_at * CLOCK_HZ - reception.transit)
        if not reception.hear(sequence, stamp, now * CLOCK_HZ):
            return
        if reception.before != begun:
            self._unmap(newest, last_stamp)
        self.heard_at = now
        in_order = reception.highest != newest
        payload = VIEWS[end][start:].tobytes()
        ear = self.ear
        marker = kind & MARKER
        if self._is_event(payload_type):
            for digit in self.digits.hear(stamp, payload, now):
                self._around.digit(self, digit)
            if self.digits.open:
                self._around.pressing(self)
            forwarded = ear is not None and self.relay_digits and ear.event_out is not None
            if ear is not None and ear.event_out is not None and forwarded:
                self._forward(ear, ear.event_out | marker, sequence, stamp, payload, now)
        elif payload_type in g711.SILENCE:
            forwarded = ear is not None
            if self.tapped:
                self.tap(now, stamp, payload_type, payload)
            if ear is not None:
                if payload_type != ear.codec:
                    payload = payload.translate(TRANSLATION[payload_type, ear.codec])
                self._forward(ear, ear.codec | marker, sequence, stamp, payload, now)
        else:
            forwarded = False
        if in_order and not forwarded:
            self._shift -= 1  # the far side must not miss a packet that was never for it
        self.expect = (reception.highest & 0xFFFF) + 1 if self._mapped or ear is None else -1

    def hear_of(self, ear: Leg | None) -> None:
        """From now on our packets go to `ear`, or to nobody. Called whenever anything about the way has changed."""
        if ear is not self.ear:
            self._unmap()
            self.ear = ear
        self._table = (
            TRANSLATION[self.codec, ear.codec] if ear is not None and ear.codec != self.codec else None
        )
        self.expect = -1

    def _unmap(self, newest: int | None = None, stamp: int | None = None) -> None:
        """Our numbers begin anew; what the ear was last sent is noted, so that its own numbers go on."""
        self._mapped = False
        self.expect = -1
        ear = self.ear
        if ear is not None and ear._source is self:
            ear._settle(newest, stamp)

    def _settle(self, newest: int | None = None, stamp: int | None = None) -> None:
        """Fix our outgoing numbers at what our source's last packet made of them."""
        source, self._source = self._source, None
        if source is None:
            return
        source._mapped = False
        source.expect = -1
        reception = source.reception
        highest = reception.highest if newest is None else newest
        last = round(source.heard_at * CLOCK_HZ - reception.transit) if stamp is None else stamp
        self._out_seq = highest + source._shift & 0xFFFF
        self._out_stamp = last + source._lift & 0xFFFFFFFF
        self._out_at = source.heard_at

    def _gap(self, now: float) -> int:
        """Samples from the last packet sent to the one to be sent now."""
        return max(FRAME_SAMPLES, round((now - self._out_at) * CLOCK_HZ))

    def _forward(self, ear: Leg, kind: int, sequence: int, stamp: int, payload: bytes, now: float) -> None:
        if not self._mapped:
            ear._settle()
            self._shift = ear._out_seq + 1 - sequence
            self._lift = ear._out_stamp + ear._gap(now) - stamp
            self._mapped = True
            ear._source = self
            if kind & 0x7F == ear.codec:
                kind |= MARKER  # the first of a talk spurt (RFC 3551 4.1)
        ear._write(kind, sequence + self._shift, stamp + self._lift, payload)

    def _write(self, kind: int, sequence: int, stamp: int, payload: bytes) -> None:
        packet = HEADER.pack(FIRST, kind, sequence & 0xFFFF, stamp & 0xFFFFFFFF, self.ssrc) + payload
        self.sent += 1
        self.octets += len(packet)
        try:
            self._send(packet)
        except OSError:
            pass  # unreachable just now; the stall check judges that

    def say(self, payload: bytes, now: float, *, marker: bool = False) -> None:
        """Send 20 ms of our own: a prompt, music, a mix."""
        self._settle()
        gap = self._gap(now) if marker else FRAME_SAMPLES
        self._out_seq = self._out_seq + 1 & 0xFFFF
        self._out_stamp = self._out_stamp + gap & 0xFFFFFFFF
        self._out_at = now
        if self.remote is not None and self.remote.sending:
            self._write(self.codec | (MARKER if marker else 0), self._out_seq, self._out_stamp, payload)

    def tap(self, now: float, stamp: int, payload_type: int, payload: bytes) -> None:
        for recording, side in self.recordings:
            recording.put(side, now, stamp, payload_type, payload)
        if self.detector is not None or self.jitter is not None:
            if payload_type != self.codec:
                payload = payload.translate(TRANSLATION[payload_type, self.codec])
            if self.detector is not None and len(self.voice) < 10:
                self.voice.append(payload)
            if self.jitter is not None:
                self.jitter.put(stamp, payload)

    def retap(self) -> None:
        self.tapped = bool(self.recordings) or self.detector is not None or self.jitter is not None

    def on_rtcp(self, now: float) -> None:
        try:
            size, source = self._rtcp.recvfrom_into(BUFFER)
        except OSError:
            return
        if self.remote is None:
            return
        if source[0] != (self.latched[0] if self.latched is not None else self.remote.host):
            self.strangers += 1
            return
        self._hear_rtcp(bytes(VIEWS[size]), now)

    def _hear_rtcp(self, data: bytes, now: float) -> None:
        try:
            packets = rtcp.parse(data)
        except rtcp.NotRtcp:
            self.malformed += 1
            return
        self.rtcp_in += 1
        self.alive_at = now  # a phone that suppresses silence still reports
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport):
                self._sr = (rtcp.middle(packet.ntp), now)

    def report(self, now: float, unix_s: float) -> None:
        """Send our SR or RR; called each 5 s."""
        remote = self.remote
        if remote is None or remote.host == "0.0.0.0" or not (self.sent or self.reception.received):
            return
        host, port = self.latched if self.latched is not None else (remote.host, remote.port)
        reports: tuple[rtcp.Report, ...] = ()
        reception = self.reception
        if reception.received:
            last, delay = (0, 0) if self._sr is None else (self._sr[0], int((now - self._sr[1]) * 65536))
            reports = (
                rtcp.Report(
                    self._ssrc_in,
                    reception.fraction(),
                    reception.lost,
                    max(reception.highest, 0),
                    int(reception.jitter),
                    last,
                    delay,
                ),
            )
        packet: rtcp.SenderReport | rtcp.ReceiverReport = rtcp.ReceiverReport(self.ssrc, reports)
        if self.sent:
            source = self._source
            stamp, at = self._out_stamp, self._out_at
            if source is not None:
                at = source.heard_at
                stamp = round(at * CLOCK_HZ - source.reception.transit) + source._lift
            stamp += round((now - at) * CLOCK_HZ)
            octets = self.octets - HEADER_BYTES * self.sent
            packet = rtcp.SenderReport(self.ssrc, rtcp.ntp(unix_s), stamp, self.sent, octets, reports)
        try:
            self._rtcp.sendto(rtcp.build(packet, f"{self.ssrc:08x}@monofil"), (host, port + 1))
        except OSError:
            pass

    def close(self) -> None:
        for peer in list(self.peers.values()):
            peer.peers.pop(self.name, None)
        self.hear_of(None)
        self._settle()
        self.peers.clear()
        self._unlatch()
        for handle in (self.door, self._rtcp):
            self._around.leave(handle)
            handle.close()
