"""A headless phone: registers when asked to, calls and is called, speaks a tone or a WAV, measures what it hears.

In tests: `async with Phone(user="caller") as phone: call = await phone.dial("sip:1000@127.0.0.1:5060")`. As a program:
`python -m softphone_bridge.aio.phone dial URI --digits 1,2 --for 5 --tone 440 --expect-tone 700`, which prints one JSON
line and exits 0 when everything expected was true, 1 when not, 3 when the call was refused or lost, 4 when the
registration failed. A password comes on standard input (`--password-stdin`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import cast

import numpy as np
import numpy.typing as npt

from media import dtmf, g711, rtp, sdp, tone, wav
from media.rtp import CLOCK_HZ, FRAME_SAMPLES
from softphone_bridge.aio.endpoint import Endpoint
from softphone_bridge.dialog import flow_of
from softphone_bridge.events import Cause
from softphone_bridge.stack import (
    Acked,
    Answered,
    Credentials,
    Ended,
    Enrolled,
    EnrolmentFailed,
    Flow,
    InfoDigit,
    Invited,
    ReofferAnswered,
    Reoffered,
    ReofferRefused,
    Ringing,
    StackEvent,
    StackSettings,
    Target,
    TrunkRules,
)

Pcm = npt.NDArray[np.int16]
FRAME_S = FRAME_SAMPLES / CLOCK_HZ
KEEP_FRAMES = 50 * 600  # ten minutes of what was heard
TOLERANCE = 0.05  # of a tone's frequency (phones.md 3.1)


class CallFailed(Exception):
    """A call was refused, not answered or lost; `ended` says how."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(f"{ended.cause} {ended.status} {ended.reason}")
        self.ended = ended


class NotEnrolled(Exception):
    """The registrar refused us; `status` tells."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


@dataclass(frozen=True, slots=True)
class Measure:
    """What a stretch of sound was: its strongest frequency, and its level in units of int16."""

    frequency_hz: float
    rms: float

    def is_tone(self, frequency_hz: float) -> bool:
        return self.rms > 100.0 and abs(self.frequency_hz - frequency_hz) <= frequency_hz * TOLERANCE


class Sound(asyncio.DatagramProtocol):
    """The RTP of one call: a frame out every 20 ms, what comes in kept in order of arrival."""

    def __init__(self, voice: Pcm) -> None:
        self._voice = voice
        self._at = 0
        self._remote: sdp.Remote | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._sequence = random.randrange(1 << 16)
        self._stamp = random.randrange(1 << 32)
        self._ssrc = random.randrange(1 << 32)
        self._pressed: list[list[bytes] | float] = []  # presses, and pauses in seconds
        self._event_stamp = 0
        self._pause_until = 0.0
        self._next_s = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._receiver = dtmf.Receiver()
        self._heard: list[Pcm] = []
        self._waiters: list[asyncio.Event] = []
        self.digits = ""
        self.muted = False
        self.received = 0
        self.sent = 0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.keys_done = asyncio.Event()
        self.keys_done.set()

    @property
    def port(self) -> int:
        assert self._transport is not None
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def speak(self, remote: sdp.Remote) -> None:
        self._remote = remote
        if self._handle is None:
            self._next_s = time.monotonic()
            self._tick()

    def press(self, digits: str) -> None:
        """Queue keys; "," waits half a second."""
        for digit in digits:
            if digit == ",":
                self._pressed.append(0.5)
            else:
                self._pressed.append(list(dtmf.payloads(digit)))
                self._pressed.append(0.06)
        if self._pressed:
            self.keys_done.clear()

    def heard(self, last_s: float | None = None) -> Pcm:
        frames = self._heard if last_s is None else self._heard[-max(1, int(last_s / FRAME_S)) :]
        return np.concatenate(frames) if frames else np.zeros(0, np.int16)

    def clear(self) -> None:
        self._heard.clear()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.keys_done.set()
        if self._transport is not None:
            self._transport.close()

    def error_received(self, error: Exception) -> None:
        return

    def datagram_received(self, data: bytes, address: tuple[str | object, int]) -> None:
        try:
            packet = rtp.parse(data)
        except rtp.NotRtp:
            return
        remote = self._remote
        if remote is not None and packet.payload_type == remote.telephone_event:
            for digit in self._receiver.hear(packet.timestamp, packet.payload, time.monotonic()):
                self.digits += digit.digit
        elif packet.payload_type in (g711.PCMU, g711.PCMA):
            self.received += 1
            self._heard.append(g711.decode(packet.payload, packet.payload_type))
            if len(self._heard) > KEEP_FRAMES:
                del self._heard[: KEEP_FRAMES // 2]
            for waiter in self._waiters:
                waiter.set()

    async def wait(self) -> None:
        """Until another packet has come."""
        waiter = asyncio.Event()
        self._waiters.append(waiter)
        try:
            await waiter.wait()
        finally:
            self._waiters.remove(waiter)

    def _tick(self) -> None:
        self._next_s += FRAME_S
        now = time.monotonic()
        if now - self._next_s > 0.5:  # the machine slept: don't catch up by a burst
            self._next_s = now
        self._handle = asyncio.get_running_loop().call_later(max(0.0, self._next_s - now), self._tick)
        remote, transport = self._remote, self._transport
        if remote is None or transport is None or transport.is_closing():
            return
        self._stamp = (self._stamp + FRAME_SAMPLES) & 0xFFFFFFFF
        if self._keys(remote, transport, now):
            return
        if not remote.sending or self.muted:
            return
        frame = self._frame()
        self._send(
            transport, remote, remote.payload_type, g711.encode(frame, remote.payload_type), self._stamp
        )

    def _keys(self, remote: sdp.Remote, transport: asyncio.DatagramTransport, now: float) -> bool:
        """Send the next packet of a pressed key, if one is pressed now."""
        while self._pressed and now >= self._pause_until:
            first = self._pressed[0]
            if isinstance(first, float):
                self._pause_until = now + first
                del self._pressed[0]
                continue
            if not first:
                self._event_stamp = 0
                del self._pressed[0]
                continue
            if remote.telephone_event is None:
                del self._pressed[0]
                continue
            self._event_stamp = self._event_stamp or self._stamp or 1
            payload = first.pop(0)
            self._send(transport, remote, remote.telephone_event, payload, self._event_stamp)
            return True
        if not self._pressed and now >= self._pause_until:
            self.keys_done.set()
        return False

    def _send(
        self, transport: asyncio.DatagramTransport, remote: sdp.Remote, kind: int, payload: bytes, stamp: int
    ) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        packet = rtp.Packet(kind, self._sequence, stamp, self._ssrc, payload)
        transport.sendto(rtp.build(packet), (remote.host, remote.port))
        self.sent += 1

    def _frame(self) -> Pcm:
        voice = self._voice
        if len(voice) < FRAME_SAMPLES:
            return np.zeros(FRAME_SAMPLES, np.int16)
        at = self._at
        self._at = (at + FRAME_SAMPLES) % len(voice)
        frame = voice[at : at + FRAME_SAMPLES]
        if len(frame) < FRAME_SAMPLES:
            frame = np.concatenate((frame, voice[: FRAME_SAMPLES - len(frame)]))
        return frame


class Call:
    """One call of a phone."""

    def __init__(self, phone: Phone, leg: str, sound: Sound, local: sdp.Local) -> None:
        self._phone = phone
        self._loop = asyncio.get_running_loop()
        self.leg = leg
        self.sound = sound
        self.local = local
        self.caller = ""
        self.caller_name = ""
        self.dialled = ""
        self.offer = b""
        self.rang = 0  # the last provisional status
        self.over: Ended | None = None
        self.held_by_them = False
        self.refused_reoffer = 0
        self._up = asyncio.Event()
        self._ended = asyncio.Event()
        self._reoffered = asyncio.Event()

    @property
    def up(self) -> bool:
        return self._up.is_set() and self.over is None

    def answer(self) -> None:
        """Take an incoming call."""
        raw, remote = sdp.answer(self.offer, self.local)
        if self._phone.endpoint.answer(self.leg, raw):
            self.sound.speak(remote)

    def ring(self) -> None:
        self._phone.endpoint.ring(self.leg)

    def reject(self, status: int = 486) -> None:
        self._phone.endpoint.reject(self.leg, status)

    def hang_up(self) -> None:
        self._phone.endpoint.end(self.leg)

    async def wait_up(self, timeout_s: float = 10.0) -> None:
        """Until both sides have agreed. Raises CallFailed, TimeoutError."""
        await _first(self._up, self._ended, timeout_s)
        if self.over is not None:
            raise CallFailed(self.over)

    async def wait_ended(self, timeout_s: float = 10.0) -> Ended:
        await asyncio.wait_for(self._ended.wait(), timeout_s)
        assert self.over is not None
        return self.over

    async def press(self, digits: str) -> None:
        """RFC 4733 keys, "," for half a second; returns when they have been sent."""
        self.sound.press(digits)
        await self.sound.keys_done.wait()

    async def hold(self, on: bool = True, timeout_s: float = 5.0) -> bool:
        """Re-INVITE to hold or to resume; False when the far side refuses."""
        self.local = sdp.Local(
            self.local.host,
            self.local.port,
            self.local.session,
            self.local.version + 1,
            self.local.payload_types,
            direction=sdp.Direction.SENDONLY if on else sdp.Direction.SENDRECV,
        )
        self._reoffered.clear()
        self.refused_reoffer = 0
        self._phone.endpoint.reoffer(self.leg, sdp.offer(self.local))
        await _first(self._reoffered, self._ended, timeout_s)
        return self.refused_reoffer == 0 and self.over is None

    def heard(self, last_s: float | None = None) -> Pcm:
        """What was heard: int16[samples], 8 kHz."""
        return self.sound.heard(last_s)

    def measure(self, last_s: float = 1.0) -> Measure:
        pcm = self.heard(last_s)
        return Measure(tone.dominant_hz(pcm), tone.rms(pcm))

    async def wait_tone(self, frequency_hz: float, timeout_s: float = 10.0, over_s: float = 0.4) -> Measure:
        """Until the last `over_s` of sound is this tone. Raises TimeoutError, CallFailed."""
        async with asyncio.timeout(timeout_s):
            while True:
                pcm = self.heard(over_s)
                if len(pcm) >= over_s * CLOCK_HZ * 0.95:
                    measure = self.measure(over_s)
                    if measure.is_tone(frequency_hz):
                        return measure
                if self.over is not None:
                    raise CallFailed(self.over)
                waiting = asyncio.ensure_future(self.sound.wait())
                ending = asyncio.ensure_future(self._ended.wait())
                try:
                    await asyncio.wait((waiting, ending), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
                    ending.cancel()

    def _hear(self, event: StackEvent) -> None:
        endpoint = self._phone.endpoint
        if isinstance(event, Ringing):
            self.rang = event.status
        elif isinstance(event, Answered):
            self._speak_as_answered(event.sdp)
            self._up.set()
        elif isinstance(event, Acked):
            self._up.set()
        elif isinstance(event, Reoffered):
            try:
                raw, remote = (
                    sdp.answer(event.sdp, self.local) if event.sdp else (sdp.offer(self.local), None)
                )
            except sdp.RemoteError:
                endpoint.refuse_reoffer(self.leg, 488)
                return
            endpoint.answer_reoffer(self.leg, raw)
            if remote is not None:
                self.held_by_them = not remote.sending
                self.sound.speak(remote)
        elif isinstance(event, ReofferAnswered):
            self._speak_as_answered(event.sdp)
            self._reoffered.set()
        elif isinstance(event, ReofferRefused):
            self.refused_reoffer = event.status
            self._reoffered.set()
        elif isinstance(event, InfoDigit):
            self.sound.digits += event.digit
        elif isinstance(event, Ended):
            self.over = event
            self.sound.close()
            self._ended.set()

    def _speak_as_answered(self, raw: bytes) -> None:
        try:
            self.sound.speak(sdp.agree(raw, self.local))
        except sdp.RemoteError:
            self.hang_up()


async def _first(a: asyncio.Event, b: asyncio.Event, timeout_s: float) -> None:
    """Until one of two events is set. Raises TimeoutError."""
    waits = [asyncio.ensure_future(a.wait()), asyncio.ensure_future(b.wait())]
    try:
        done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError
    finally:
        for wait in waits:
            wait.cancel()


class _NoAccounts:
    def ha1(self, user: str) -> tuple[str, str] | None:
        return None


class Phone:
    """A SIP phone on an address of its own. `server` is host:port of its registrar, when it has one."""

    def __init__(
        self,
        *,
        user: str = "caller",
        name: str = "",
        password: str | None = None,
        realm: str = "monofil",
        server: tuple[str, int] | None = None,
        transport: str = "udp",
        host: str = "127.0.0.1",
        port: int = 0,
        voice: Pcm | None = None,
        tone_hz: float | None = None,
        payload_types: tuple[int, ...] = (g711.PCMA, g711.PCMU),
        on_call: Callable[[Call], None] | None = None,
        t1_s: float = 0.5,
    ) -> None:
        self.user = user
        self.name = name
        self._credentials = None if password is None else Credentials(realm, user, password)
        self._server = server
        self._transport = transport
        self._host = host
        if voice is None and tone_hz is not None:
            voice = tone.sine(tone_hz, 1000)  # whole periods a second for every whole frequency
        self._voice = voice if voice is not None else np.zeros(FRAME_SAMPLES, np.int16)
        self._payload_types = payload_types
        self._on_call = on_call
        self._calls: dict[str, Call] = {}
        self._incoming: asyncio.Queue[Call] = asyncio.Queue()
        self._enrolled: asyncio.Queue[Enrolled | EnrolmentFailed] = asyncio.Queue()
        self._sounds: list[Sound] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._legs = 0
        everybody = TrunkRules("anybody", ("0.0.0.0/0", "::/0"))
        self.endpoint = Endpoint(
            StackSettings(host=host, port=port, agent="Monofil phone", session_expires_s=0, t1_s=t1_s),
            bind=host,
            hear=self._hear,
            accounts=_NoAccounts(),
            knows=lambda dialled: True,
            trunks=(everybody,),
        )

    async def __aenter__(self) -> Phone:
        await self.endpoint.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up what is up, close the sockets; the registration is left to run out (`unregister` gives it back)."""
        for call in list(self._calls.values()):
            call.hang_up()
        for task in list(self._tasks):
            task.cancel()
        for sound in self._sounds:
            sound.close()
        if self._sounds:
            await asyncio.wait([sound.closed for sound in self._sounds], timeout=2.0)
        await self.endpoint.stop()

    @property
    def port(self) -> int:
        return self.endpoint.port

    @property
    def calls(self) -> tuple[Call, ...]:
        """Calls that are not over."""
        return tuple(self._calls.values())

    async def register(self, *, expires_s: int = 300, timeout_s: float = 10.0) -> int:
        """Register and stay registered; returns the seconds granted. Raises NotEnrolled, TimeoutError."""
        assert self._server is not None
        assert self._credentials is not None
        host, port = self._server
        self.endpoint.enrol(
            "phone",
            Flow(self._transport, host, port),
            domain=f"{host}:{port}",
            credentials=self._credentials,
            expires_s=expires_s,
        )
        result = await asyncio.wait_for(self._enrolled.get(), timeout_s)
        if isinstance(result, EnrolmentFailed):
            raise NotEnrolled(result.status)
        return result.expires_s

    async def unregister(self, timeout_s: float = 5.0) -> None:
        self.endpoint.leave("phone")
        await asyncio.wait_for(self._enrolled.get(), timeout_s)

    async def call(self, uri: str, *, ring_s: float = 60.0, headers: dict[str, str] | None = None) -> Call:
        """Place a call and return at once."""
        sound, local = await self._open()
        self._legs += 1
        leg = f"out{self._legs}"
        call = Call(self, leg, sound, local)
        self._calls[leg] = call
        flow = flow_of(uri)
        if flow is None and self._server is not None:
            flow = Flow(self._transport, *self._server)
        self.endpoint.place(
            leg,
            [Target(uri, flow)],
            from_user=self.user,
            from_name=self.name,
            sdp=sdp.offer(local),
            headers=headers,
            credentials=self._credentials,
            ring_s=ring_s,
        )
        return call

    async def dial(self, uri: str, *, timeout_s: float = 20.0) -> Call:
        """Place a call and wait for its answer. Raises CallFailed, TimeoutError (the call is then cancelled)."""
        call = await self.call(uri, ring_s=timeout_s + 1.0)
        try:
            await call.wait_up(timeout_s)
        except TimeoutError:
            call.hang_up()
            raise
        return call

    async def next_call(self, timeout_s: float = 10.0) -> Call:
        """The next incoming call; it rings. Raises TimeoutError."""
        return await asyncio.wait_for(self._incoming.get(), timeout_s)

    async def _open(self) -> tuple[Sound, sdp.Local]:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        _, sound = await loop.create_datagram_endpoint(
            lambda: Sound(self._voice), local_addr=(self._host, 0), family=family
        )
        self._sounds.append(sound)
        if len(self._sounds) > 100:
            self._sounds = [s for s in self._sounds if not s.closed.done()]
        return sound, sdp.Local(
            self._host, sound.port, random.randrange(1 << 31), payload_types=self._payload_types
        )

    def _hear(self, event: StackEvent) -> None:
        if isinstance(event, Enrolled | EnrolmentFailed):
            self._enrolled.put_nowait(event)
        elif isinstance(event, Invited):
            task = asyncio.get_running_loop().create_task(self._invited(event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            leg = getattr(event, "leg", "")
            call = self._calls.get(leg)
            if call is not None:
                if isinstance(event, Ended):
                    del self._calls[leg]
                call._hear(event)

    async def _invited(self, event: Invited) -> None:
        sound, local = await self._open()
        call = Call(self, event.leg, sound, local)
        call.caller, call.caller_name, call.dialled = event.caller, event.caller_name, event.dialled
        call.offer = event.sdp
        if event.leg not in self.endpoint.stack.legs():  # cancelled meanwhile
            sound.close()
            return
        self._calls[event.leg] = call
        call.ring()
        if self._on_call is not None:
            self._on_call(call)
        else:
            self._incoming.put_nowait(call)


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="softphone_bridge.aio.phone", description="A headless SIP phone.")
    parser.add_argument("what", choices=("dial", "answer"))
    parser.add_argument("uri", nargs="?", help="whom to dial")
    parser.add_argument("--user", default="caller")
    parser.add_argument("--name", default="")
    parser.add_argument("--server", help="host:port of the registrar")
    parser.add_argument("--realm", default="monofil")
    parser.add_argument("--password-stdin", action="store_true")
    parser.add_argument(
        "--register", action="store_true", help="register before dialling (answer always does)"
    )
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tone", type=float, help="speak a tone of so many Hz")
    parser.add_argument("--play", help="speak a WAV file, 8 kHz mono")
    parser.add_argument("--record", help="write what was heard to a WAV file")
    parser.add_argument("--digits", default="", help='keys to press once answered, "," waits half a second')
    parser.add_argument("--digits-after", type=float, default=0.5, metavar="S")
    parser.add_argument("--for", type=float, default=5.0, dest="for_s", metavar="S", help="how long to talk")
    parser.add_argument("--until-ended", action="store_true", help="let the far side hang up, within --for")
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="how long to wait for an answer or a call"
    )
    parser.add_argument("--expect-tone", type=float, help="this tone must be heard before the call ends")
    parser.add_argument("--expect-sound", action="store_true", help="something must be heard")
    parser.add_argument("--expect-digits", help="these keys must be heard")
    parser.add_argument("--expect-status", type=int, help="the call must be refused with this status")
    return parser.parse_args(words)


def _voice(arguments: argparse.Namespace) -> Pcm | None:
    if arguments.play:
        return wav.read(Path(arguments.play).read_bytes())
    return None


async def _run(arguments: argparse.Namespace) -> tuple[int, dict[str, object]]:
    password = sys.stdin.readline().strip() if arguments.password_stdin else None
    server = None
    if arguments.server:
        host, _, port = arguments.server.rpartition(":")
        server = (host, int(port))
    report: dict[str, object] = {"what": arguments.what}
    phone = Phone(
        user=arguments.user,
        name=arguments.name,
        password=password,
        realm=arguments.realm,
        server=server,
        transport="tcp" if arguments.tcp else "udp",
        host=arguments.host,
        port=arguments.port,
        voice=_voice(arguments),
        tone_hz=arguments.tone,
    )
    async with phone:
        if server is not None and (arguments.register or arguments.what == "answer"):
            try:
                await phone.register()
            except (NotEnrolled, TimeoutError) as error:
                report["error"] = f"not registered: {error}"
                return 4, report
        try:
            if arguments.what == "dial":
                call = await phone.dial(arguments.uri, timeout_s=arguments.timeout)
            else:
                call = await phone.next_call(arguments.timeout)
                report["caller"] = call.caller
                call.answer()
                await call.wait_up()
        except CallFailed as error:
            report.update(status=error.ended.status, cause=str(error.ended.cause), reason=error.ended.reason)
            return (0 if error.ended.status == arguments.expect_status else 3), report
        except TimeoutError:
            report["error"] = "no answer"
            return 3, report
        if arguments.expect_status is not None:
            report["error"] = "answered, though a refusal was expected"
            return 1, report
        code = await _talk(call, arguments, report)
        if server is not None and (arguments.register or arguments.what == "answer"):
            try:
                await phone.unregister()
            except TimeoutError:
                report["unregistered"] = False
        return code, report


async def _talk(call: Call, arguments: argparse.Namespace, report: dict[str, object]) -> int:
    ok = True
    began = time.monotonic()
    if arguments.digits:
        await asyncio.sleep(arguments.digits_after)
        await call.press(arguments.digits)
    left = max(0.1, arguments.for_s - (time.monotonic() - began))
    if arguments.expect_tone is not None:
        try:
            measure = await call.wait_tone(arguments.expect_tone, left)
            report["tone_hz"] = round(measure.frequency_hz, 1)
        except (TimeoutError, CallFailed):
            ok = False
            report["error"] = f"no tone of {arguments.expect_tone:g} Hz"
    left = max(0.01, arguments.for_s - (time.monotonic() - began))
    try:
        ended: Ended | None = await call.wait_ended(left)
    except TimeoutError:
        ended = None
    measure = call.measure(1.0)
    report.update(
        heard_hz=round(measure.frequency_hz, 1),
        heard_rms=round(measure.rms, 1),
        packets_received=call.sound.received,
        packets_sent=call.sound.sent,
        digits=call.sound.digits,
    )
    if arguments.record:
        Path(arguments.record).write_bytes(wav.mono(call.heard()))
    if arguments.expect_sound and tone.silent(call.heard()):
        ok = False
        report["error"] = "nothing was heard"
    if arguments.expect_digits is not None and call.sound.digits != arguments.expect_digits:
        ok = False
        report["error"] = f"keys {call.sound.digits!r}, expected {arguments.expect_digits!r}"
    if ended is None:
        if arguments.until_ended:
            ok = False
            report["error"] = "the far side did not hang up"
        call.hang_up()
        ended = await call.wait_ended()
        report["ended"] = "us"
    else:
        report["ended"] = str(ended.cause)
        if ended.cause is not Cause.HANGUP:
            return 3
    return 0 if ok else 1


def main(words: list[str] | None = None) -> int:
    arguments = _arguments(words)
    if arguments.what == "dial" and not arguments.uri:
        sys.stderr.write("dial needs a URI\n")
        return 2
    code, report = asyncio.run(_run(arguments))
    report["exit"] = code
    sys.stdout.write(json.dumps(report) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
