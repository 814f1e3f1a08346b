"""A media worker: one process, one loop on epoll, the legs that the link has given to it.

    python -m media.aio.worker CONTROL_FD PARENT_PID HOST FIRST_PORT LAST_PORT STALL_TALK_S STALL_HOLD_S

Rule 1: it waits in epoll, and rests 0.25 ms under load.   Rule 2: whatever comes on a socket is only counted.
Rule 3: it dies with its parent.

Packets of two joined legs go straight through (`leg`); the beat, each 5 ms for a quarter of the legs, does the
rest: prompts, mixing, voice activity, time-outs, recordings, reports.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from media import dtmf, g711, rtcp, wav
from media.aio.hall import Hall, Room
from media.aio.leg import DSCP_EF, Leg
from media.aio.recording import Recording
from media.aio.sounds import Library, Program, Sound
from media.jitter import Jitter
from media.rtp import FRAME_SAMPLES
from media.sdp import Remote
from media.vad import Ear

BEAT_S = 0.005
SLOTS = 4  # beats in a frame of 20 ms; each leg speaks on one of them
ROUNDS = 200  # beats in a second; each leg and recording is looked after on one of them
LATE_S = 0.5  # ours: further behind than this, beats are skipped and not made up for
EVENTS = 64  # packets between two looks at the clock
REST_S = 0.000_25  # ours: when packets come in pairs already, gather more before waking: a third less CPU for 0.3 ms
OUTBOX_BYTES = 16 * 1024 * 1024  # ours: a parent that reads nothing for so long is no parent
REFUSALS = 64  # ours: ports tried before an open is refused
NICE = -10  # ours: a late packet is a click in an ear, a late page is not
PR_SET_PDEATHSIG = 1

Ports = tuple[int, int]
Hear = Callable[[float], None]


class Worker:
    """Commands in, events out (JSON, one a line), and sound between."""

    def __init__(
        self, control: socket.socket, *, host: str, ports: Ports, stall_talk_s: float, stall_hold_s: float
    ) -> None:
        self._control = control
        self._host = host
        self._ports = deque(range(ports[0] + ports[0] % 2, ports[1], 2))
        self._stall_talk_s = stall_talk_s
        self._stall_hold_s = stall_hold_s
        self._epoll = select.epoll()
        self._hearers: dict[int, Hear] = {}
        self._legs: dict[str, Leg] = {}
        self._slots: list[dict[str, Leg]] = [
            {} for _ in range(SLOTS)
        ]  # those with something to do each 20 ms
        self._rounds: list[dict[str, Leg]] = [{} for _ in range(ROUNDS)]
        self._recordings: dict[str, Recording] = {}
        self._halls: list[Hall] = []  # one a slot; none while nobody hears two others
        self._flushes: list[dict[str, Recording]] = [{} for _ in range(ROUNDS)]
        self._pressed: dict[str, Leg] = {}  # a digit is being pressed there
        self._library = Library()
        self._opened = 0
        self._inbox = b""
        self._outbox = bytearray()
        self._told: list[bytes] = []
        self.now = time.monotonic()
        control.setblocking(False)
        self.attend(control, self._hear_control)

    def attend(self, handle: socket.socket, hear: Hear) -> None:
        number = handle.fileno()
        self._hearers[number] = hear
        self._epoll.register(number, select.EPOLLIN)

    def leave(self, handle: socket.socket) -> None:
        number = handle.fileno()
        if self._hearers.pop(number, None) is not None:
            self._epoll.unregister(number)

    def run(self) -> None:
        """Until the control socket closes."""
        poll, hearers, clock, rest = self._epoll.poll, self._hearers, time.monotonic, time.sleep
        now = clock()
        beat, due = 0, now + BEAT_S
        while True:
            try:
                while True:
                    events = poll(due - now if due > now else 0.0, EVENTS)
                    now = clock()
                    for number, _ in events:
                        hear = hearers.get(number)  # None: closed by one before it in the same batch
                        if hear is not None:
                            hear(now)
                    if now >= due:
                        self.now = now
                        if now - due > LATE_S:
                            due = now
                        due += BEAT_S
                        beat += 1
                        self._beat(beat, now)
                    if self._told:
                        self._flush()
                    if 1 < len(events) < EVENTS:
                        rest(REST_S)
            except (EOFError, BrokenPipeError):
                return
            except Exception:
                traceback.print_exc()  # a bug of ours; it costs the packet or the command, not the calls

    def _hear_control(self, now: float) -> None:
        try:
            data = self._control.recv(262_144)
        except BlockingIOError:
            self._flush()  # EPOLLOUT
            return
        except ConnectionResetError:
            raise EOFError from None
        if not data:
            raise EOFError
        self.now = now
        *lines, self._inbox = (self._inbox + data).split(b"\n")
        for line in lines:
            command, *words = json.loads(line)
            try:
                getattr(self, f"do_{command}")(*words)
            except Exception:
                traceback.print_exc()

    def tell(self, event: str, *words: Any) -> None:
        self._told.append(json.dumps([event, *words]).encode() + b"\n")

    def _flush(self) -> None:
        self._outbox += b"".join(self._told)
        self._told.clear()
        if len(self._outbox) > OUTBOX_BYTES:
            raise EOFError
        with contextlib.suppress(BlockingIOError):
            while self._outbox:
                del self._outbox[: self._control.send(self._outbox)]
        mask = select.EPOLLIN | (select.EPOLLOUT if self._outbox else 0)
        self._epoll.modify(self._control.fileno(), mask)

    def do_ping(self, ask: int) -> None:
        self.tell("closed", ask)

    def do_stop(self) -> None:
        """Finish the recordings and say so; the parent hears the end of our words and closes."""
        for recording in list(self._recordings.values()):
            self._end_recording(recording)
        self._flush()
        self._control.shutdown(socket.SHUT_WR)

    def do_open(self, ask: int, name: str) -> None:
        if name in self._legs:
            self.tell("refused", ask, "the leg is open")
            return
        for _ in range(min(REFUSALS, len(self._ports))):
            port = self._ports.popleft()
            sockets = self._bind(port)
            if sockets is None:
                self._ports.append(port)
                continue
            self._opened += 1
            leg = Leg(
                name,
                *sockets,
                self,
                slot=self._opened % SLOTS,
                ssrc=random.getrandbits(32),
                sequence=random.getrandbits(15),
                timestamp=random.getrandbits(31),
                now=self.now,
            )
            self._legs[name] = leg
            self._rounds[self._opened % ROUNDS][name] = leg
            self.tell("opened", ask, port)
            return
        self.tell("refused", ask, "no free port")

    def _bind(self, port: int) -> tuple[socket.socket, socket.socket] | None:
        sockets: list[socket.socket] = []
        try:
            for each in (port, port + 1):
                handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                sockets.append(handle)
                handle.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_EF)
                handle.bind((self._host, each))
        except OSError:
            for handle in sockets:
                handle.close()
            return None
        return sockets[0], sockets[1]

    def do_connect(
        self,
        name: str,
        host: str,
        port: int,
        payload_type: int,
        event: int | None,
        sending: bool,
        receiving: bool,
        ptime_ms: int,
    ) -> None:
        if (leg := self._legs.get(name)) is None:
            return
        leg.connect(Remote(host, port, payload_type, event, sending, receiving, ptime_ms), self.now)
        if leg.jitter is not None:
            leg.jitter = Jitter(g711.SILENCE[leg.codec])
            self._arrange()  # its codec may be another
        leg.voice.clear()
        self._route(leg, *leg.peers.values())

    def do_play(self, name: str, number: int, files: list[str], loop: bool) -> None:
        leg = self._legs.get(name)
        if leg is None:
            return
        sounds: list[Sound] = []
        for file in files:
            try:
                sounds.append(self._library.load(file))
            except (OSError, wav.NotWav) as why:
                self.tell("note", "a sound is left out", file, str(why))
        self._end_play(leg, "replaced")
        leg.play = Program(number, sounds, loop)
        self._slots[leg.slot][name] = leg
        self._route(*leg.peers.values())

    def do_stop_play(self, name: str) -> None:
        if (leg := self._legs.get(name)) is not None:
            self._end_play(leg, "stopped")

    def _end_play(self, leg: Leg, reason: str) -> None:
        if leg.play is None:
            return
        self.tell("played", leg.name, leg.play.number, reason, leg.play.played_ms)
        leg.play = None
        self._settle(leg)
        self._route(*leg.peers.values())

    def do_join(self, a: str, b: str, digits: bool) -> None:
        one, other = self._legs.get(a), self._legs.get(b)
        if one is None or other is None or one is other:
            return
        one.peers[b], other.peers[a] = other, one
        one.relay_digits = other.relay_digits = digits
        self._arrange(one, other)
        self._route(one, other, *one.peers.values(), *other.peers.values())

    def do_part(self, a: str, b: str) -> None:
        one, other = self._legs.get(a), self._legs.get(b)
        if one is None or other is None or one.peers.pop(b, None) is None:
            return
        other.peers.pop(a, None)
        self._arrange()
        self._route(one, other, *one.peers.values(), *other.peers.values())

    def _route(self, *legs: Leg) -> None:
        """Find out anew where the packets of `legs` go at once."""
        for leg in legs:
            ear: Leg | None = None
            if len(leg.peers) == 1 and leg.remote is not None and leg.remote.receiving:
                (peer,) = leg.peers.values()
                open_to = peer.remote is not None and peer.remote.sending and peer.play is None
                if len(peer.peers) == 1 and open_to:
                    ear = peer
            leg.hear_of(ear)

    def _arrange(self, *changed: Leg) -> None:
        """Find the rooms that must be mixed, because somebody hears two others."""
        if not self._halls and all(len(leg.peers) < 2 for leg in changed):
            return  # nearly always
        mixed: dict[str, Leg] = {}
        rooms: list[Room] = []
        for leg in self._legs.values():
            if len(leg.peers) < 2 or leg.name in mixed:
                continue
            room = {leg.name: leg}
            todo = [leg]
            while todo:
                for name, peer in todo.pop().peers.items():
                    if name not in room:
                        room[name] = peer
                        todo.append(peer)
            mixed |= room
            rooms.append(tuple(room.values()))
        for leg in self._legs.values():
            if leg.name in mixed:
                if leg.jitter is None:
                    leg.jitter = Jitter(g711.SILENCE[leg.codec])
            else:
                leg.jitter = None
            leg.retap()
        self._halls = [Hall(rooms[slot::SLOTS]) for slot in range(SLOTS)] if rooms else []

    def do_watch(self, name: str, on: bool) -> None:
        if (leg := self._legs.get(name)) is None:
            return
        leg.voice.clear()
        leg.missed = 0
        leg.detector = Ear() if on else None
        leg.retap()
        if on:
            self._slots[leg.slot][name] = leg
        else:
            self._settle(leg)

    def _settle(self, leg: Leg) -> None:
        if leg.play is None and leg.detector is None:
            self._slots[leg.slot].pop(leg.name, None)

    def do_record(self, name: str, path: str, left: str, right: str) -> None:
        sides = (self._legs.get(left), self._legs.get(right))
        if name in self._recordings:
            return
        codecs = [g711.PCMU if leg is None else leg.codec for leg in sides]
        try:
            recording = Recording(name, path, (codecs[0], codecs[1]), self.now)
        except OSError as why:
            self.tell("note", "a recording cannot begin", path, str(why))
            self.tell("recorded", name, path, 0, 0, False)
            return
        self._recordings[name] = recording
        for side, leg in enumerate(sides):
            if leg is not None:
                leg.recordings.append((recording, side))
                leg.retap()
        self._rounds_of(recording)[name] = recording
        if recording.failed:
            self._end_recording(recording)

    def _rounds_of(self, recording: Recording) -> dict[str, Recording]:
        return self._flushes[int(recording.began * 1000) % ROUNDS]

    def do_stop_record(self, name: str) -> None:
        if (recording := self._recordings.get(name)) is not None:
            self._end_recording(recording)

    def _end_recording(self, recording: Recording) -> None:
        del self._recordings[recording.name]
        self._rounds_of(recording).pop(recording.name, None)
        for leg in self._legs.values():
            if leg.recordings:
                leg.recordings = [each for each in leg.recordings if each[0] is not recording]
                leg.retap()
        recording.close(self.now)
        if recording.failed:
            self.tell("note", "a recording is cut short", recording.path, "the disk takes no more")
        self.tell(
            "recorded",
            recording.name,
            recording.path,
            recording.duration_ms,
            recording.bytes,
            not recording.failed,
        )

    def do_close(self, ask: int, name: str) -> None:
        leg = self._legs.pop(name, None)
        if leg is None:
            self.tell("closed", ask, 0, 0, 0, 0.0, 0, 0)
            return
        peers = list(leg.peers.values())
        for recording, _ in list(leg.recordings):
            others = any(each[0] is recording for other in self._legs.values() for each in other.recordings)
            if not others:
                self._end_recording(recording)
        leg.close()
        for table in (*self._slots, *self._rounds, self._pressed):
            table.pop(name, None)
        self._arrange()
        self._route(*peers, *(each for peer in peers for each in peer.peers.values()))
        self._ports.append(leg.port)
        reception = leg.reception
        jitter_ms = round(reception.jitter / 8, 3)
        self.tell(
            "closed",
            ask,
            reception.received,
            leg.sent,
            reception.lost,
            jitter_ms,
            leg.strangers,
            leg.malformed,
        )

    def finish(self) -> None:
        """The parent has gone or let go: keep what is recorded."""
        self.now = time.monotonic()
        for recording in self._recordings.values():
            recording.close(self.now)

    def pressing(self, leg: Leg) -> None:
        self._pressed[leg.name] = leg

    def digit(self, leg: Leg, digit: dtmf.Digit) -> None:
        self.tell("digit", leg.name, digit.digit, digit.duration_ms)

    def _beat(self, beat: int, now: float) -> None:
        slot = beat % SLOTS
        for leg in list(self._slots[slot].values()):
            if leg.play is not None:
                self._say(leg, now)
            if leg.detector is not None:
                self._listen(leg, leg.detector)
        if self._halls:
            self._halls[slot].mix(now)
        if beat % 2:
            for leg in list(self._pressed.values()):
                for digit in leg.digits.tick(now):
                    self.digit(leg, digit)
                if not leg.digits.open:
                    del self._pressed[leg.name]
        turn = beat % ROUNDS
        for leg in self._rounds[turn].values():
            self._look_after(leg, now)
        for recording in list(self._flushes[turn].values()):
            recording.flush(now)
            if recording.failed:
                self._end_recording(recording)

    def _say(self, leg: Leg, now: float) -> None:
        play = leg.play
        assert play is not None
        if leg.remote is None:
            return  # nobody to play to yet
        began = play.played == 0
        frame = play.take(leg.codec)
        if frame is None:
            self._end_play(leg, "done")
        else:
            leg.say(frame, now, marker=began)

    def _listen(self, leg: Leg, detector: Ear) -> None:
        if not leg.voice:
            leg.missed += 1
            if leg.missed < 3:  # jitter: it may come with the next
                return
            silences = 3 if leg.missed == 3 else 1
            verdicts = [detector.hear(None) for _ in range(silences)]
        else:
            leg.missed = 0
            codes = b"".join(leg.voice)
            whole = len(codes) - len(codes) % FRAME_SAMPLES
            leg.voice = [codes[whole:]] if whole < len(codes) else []
            pcm = g711.decode(codes[:whole], leg.codec)
            verdicts = [detector.hear(pcm[at : at + FRAME_SAMPLES]) for at in range(0, whole, FRAME_SAMPLES)]
        for verdict in verdicts:
            if verdict is not None:
                self.tell("voice", leg.name, verdict.heard, verdict.silent_s)

    def _look_after(self, leg: Leg, now: float) -> None:
        """Once a second: has it fallen silent, is a report due?"""
        remote = leg.remote
        if remote is None:
            return
        since = max(leg.heard_at, leg.alive_at, leg.connected_at)
        silent_s = now - since
        limit_s = self._stall_hold_s if remote.held else self._stall_talk_s
        if silent_s >= limit_s and leg.stalled_since != since:
            leg.stalled_since = since
            self.tell("stalled", leg.name, round(silent_s, 1))
        if now - leg.reported_at >= rtcp.INTERVAL_S - BEAT_S * SLOTS:
            leg.reported_at = now
            leg.report(now, time.time())


def main(arguments: list[str]) -> None:
    number, parent, host, first, last, talk_s, hold_s = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        return  # it died before we could ask to die with it
    for each in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # the parent's to handle: it ends its calls, then closes our socket
        signal.signal(each, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(PermissionError):  # LimitNICE= of the unit allows it
        os.nice(NICE)
    control = socket.socket(fileno=int(number))
    worker = Worker(
        control,
        host=host,
        ports=(int(first), int(last)),
        stall_talk_s=float(talk_s),
        stall_hold_s=float(hold_s),
    )
    gc.collect()
    gc.freeze()
    gc.disable()  # no cycles outlive a leg; a pass would be a click in somebody's ear
    worker.run()
    worker.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
