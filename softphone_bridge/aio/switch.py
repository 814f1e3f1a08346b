"""The switch owns every leg and its life, and joins signalling with sound.

Whoever commands a leg (the tree's runner, then the advisor's side) speaks call-control words here and hears LegEvents.
A leg has one hearer at a time: `take` hands it over, and the former one hears LegTaken.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog
from prometheus_client import Counter as Metric
from prometheus_client import Gauge, Histogram

from media import sdp
from media.aio.link import (
    LegStatistics,
    MediaDigit,
    MediaEvent,
    MediaPlayEnded,
    MediaRecorded,
    MediaStalled,
    MediaUnavailable,
    MediaVoice,
    Remote,
    WorkerLost,
)
from softphone_bridge.dialplan import Denied, Dialplan
from softphone_bridge.events import (
    CallOffered,
    Cause,
    DigitHeard,
    GuessingNoticed,
    LegAnswered,
    LegEnded,
    LegEvent,
    LegHeld,
    LegRinging,
    LegTaken,
    PhoneGone,
    PhoneRegistered,
    PlayEnded,
    RecordingEnded,
    VoiceNoticed,
)
from softphone_bridge.stack import (
    Acked,
    Answered,
    Credentials,
    Ended,
    InfoDigit,
    Invited,
    ReofferAnswered,
    Reoffered,
    ReofferRefused,
    Ringing,
    StackEvent,
    Target,
)

log = structlog.get_logger(__name__)

CALLS = Metric("monofil_calls_total", "Legs that ended", ["direction", "outcome"])
LEGS = Gauge("monofil_legs", "Legs that are up or being set up")
JITTER = Histogram(
    "monofil_rtp_jitter_seconds",
    "RFC 3550 jitter of a leg at its close",
    buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1),
)
LOST = Metric("monofil_rtp_lost_packets_total", "RTP packets that never came")
STRANGERS = Metric("monofil_rtp_stranger_packets_total", "RTP packets from elsewhere, dropped")
REFUSED = Metric("monofil_outgoing_refused_total", "Outgoing legs that were refused", ["why"])

INFO_ECHO_S = 1.0
"""A digit heard as RTP and again as INFO within this time is one press."""

AUTO_ANSWER: Mapping[str, str] = {
    "Call-Info": "<sip:monofil>;answer-after=0",
    "Alert-Info": "<http://monofil>;info=alert-autoanswer;delay=0",
    "Answer-Mode": "Auto",
}
"""Each phone takes the header it knows (RFC 5373 and the vendors' own)."""

Hear = Callable[[LegEvent], None]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an outgoing leg goes: every registered contact of a phone account, or a number through a trunk."""

    account: str | None = None
    trunk: str | None = None
    number: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An outgoing leg to be placed. The dial plan decides every leg that leaves by a trunk.

    `near` is a leg of the same call: same media worker, and when it ends this leg is cancelled at once if unanswered.
    """

    leg: str
    call: str
    to: Destination
    caller: str  # shown to the far side
    caller_name: str = ""
    near: str | None = None
    ring_s: float = 30.0
    auto_answer: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)  # X-Monofil-Interaction …


class CallRefused(Exception):
    """An outgoing leg could not be placed.

    `why` is not_registered, gone (its `near` leg ended), no_media, stopping, or what the dial plan said: not_a_number,
    no_trunk, not_allowed, trunk_full.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Signalling(Protocol):
    """The SIP endpoint as the switch uses it (see softphone_bridge.stack for each word)."""

    def targets(self, account: str) -> tuple[Target, ...]: ...

    def place(
        self,
        leg: str,
        targets: Sequence[Target],
        *,
        from_user: str,
        from_name: str = "",
        sdp: bytes,
        headers: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        ring_s: float = 60.0,
    ) -> None: ...

    def ring(self, leg: str) -> None: ...

    def answer(self, leg: str, sdp: bytes) -> bool: ...

    def reject(self, leg: str, status: int, *, headers: Mapping[str, str] | None = None) -> None: ...

    def end(self, leg: str, *, status: int = 480, reason: str = "") -> None: ...

    def answer_reoffer(self, leg: str, sdp: bytes) -> None: ...

    def refuse_reoffer(self, leg: str, status: int = 488) -> None: ...


class Sound(Protocol):
    """The media workers as the switch uses them (see media.aio.link.MediaLink for each word)."""

    async def open(self, leg: str, *, near: str | None = None) -> int: ...

    def connect(self, leg: str, remote: Remote) -> None: ...

    def play(self, leg: str, play: int, files: Sequence[str], *, loop: bool = False) -> None: ...

    def stop_play(self, leg: str) -> None: ...

    def join(self, a: str, b: str) -> None: ...

    def part(self, a: str, b: str) -> None: ...

    def watch(self, leg: str, on: bool) -> None: ...

    def record(self, recording: str, path: str, left: str, right: str) -> None: ...

    def stop_record(self, recording: str) -> None: ...

    async def close(self, leg: str) -> LegStatistics: ...


@dataclass(slots=True, eq=False)
class _Leg:
    name: str
    call: str
    hear: Hear
    incoming: bool
    offer: bytes = b""  # the far side's, for an incoming leg
    local: sdp.Local | None = None  # our side, once there is a port
    said: bytes = b""  # what we said last
    up: bool = False
    held: bool = False
    plays: int = 0
    codec: int | None = None  # payload type that is spoken, once agreed
    near: str | None = None
    trunk: str | None = None
    cause: Cause | None = None  # why we end it, when that is not LOCAL
    rtp_digit: tuple[str, float] = ("", -9.0)


class Switch:
    """Call control over legs. Commands on a leg that has ended do nothing: its LegEnded is on its way."""

    def __init__(
        self,
        signalling: Signalling,
        sound: Sound,
        *,
        host: str,
        monotonic: Callable[[], float],
        dialplan: Dialplan | None = None,
        credentials: Mapping[str, Credentials] | None = None,
        max_calls: int = 1000,
    ) -> None:
        """`host` is the address written into SDP; `credentials` are what we prove to each trunk.

        `max_calls`: with so many incoming legs up, further ones get 503.
        """
        self._sip = signalling
        self._sound = sound
        self._host = host
        self._monotonic = monotonic
        self._legs: dict[str, _Leg] = {}
        self._recordings: dict[str, tuple[str, Hear]] = {}
        self._accept: Callable[[CallOffered], Hear] | None = None
        self._phones: list[Callable[[PhoneRegistered | PhoneGone], None]] = []
        self._chores: set[asyncio.Task[None]] = set()
        self._max_calls = max_calls
        self._session = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self.dialplan = dialplan or Dialplan(())
        self.credentials = dict(credentials or {})
        self.stopping = False

    def on_call(self, accept: Callable[[CallOffered], Hear]) -> None:
        """Who takes new calls: called once per CallOffered, returns who hears that leg."""
        self._accept = accept

    def on_phone(self, told: Callable[[PhoneRegistered | PhoneGone], None]) -> None:
        """Who wants to know of phones that come and go."""
        self._phones.append(told)

    def take(self, leg: str, hear: Hear) -> bool:
        """Hand a leg over: the former hearer hears LegTaken. False when the leg has ended."""
        it = self._legs.get(leg)
        if it is None:
            return False
        former, it.hear = it.hear, hear
        former(LegTaken(leg))
        return True

    def alive(self, leg: str) -> bool:
        return leg in self._legs

    @property
    def legs(self) -> int:
        """How many legs are up or being set up."""
        return len(self._legs)

    async def emptied(self) -> None:
        """Wait until no leg is left."""
        await self._empty.wait()

    def registered(self, account: str) -> bool:
        return bool(self._sip.targets(account))

    def ring(self, leg: str) -> None:
        self._sip.ring(leg)

    def reject(self, leg: str, status: int, *, retry_after_s: int | None = None) -> None:
        headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else None
        self._sip.reject(leg, status, headers=headers)

    async def answer(self, leg: str) -> bool:
        """Answer an incoming leg with 200; False when it ended meanwhile or no media could be had."""
        it = self._legs.get(leg)
        if it is None:
            return False
        if it.up:
            return True
        try:
            port = await self._sound.open(leg)
        except MediaUnavailable:
            log.error("no media for an incoming call", leg=leg, call_id=it.call)
            self._end(it, Cause.FAILED, status=503, reason="no media")
            return False
        if leg not in self._legs:
            self._chore(self._close(leg))
            return False
        it.local = self._local(port)
        if it.offer:
            it.said, remote = sdp.answer(it.offer, it.local)
            self._connect(it, remote)
        else:
            it.said = sdp.offer(it.local)
        it.up = self._sip.answer(leg, it.said)
        return it.up

    async def place(self, outgoing: Outgoing, hear: Hear) -> None:
        """Ring a destination. LegRinging, LegAnswered, LegEnded follow. Raises CallRefused."""
        try:
            await self._place(outgoing, hear)
        except CallRefused as refused:
            REFUSED.labels(refused.why).inc()
            raise

    async def _place(self, outgoing: Outgoing, hear: Hear) -> None:
        self._may_place(outgoing)
        it = _Leg(outgoing.leg, outgoing.call, hear, incoming=False, near=outgoing.near)
        try:
            port = await self._sound.open(it.name, near=outgoing.near)
        except MediaUnavailable:
            raise CallRefused("no_media") from None
        try:
            self._may_place(outgoing)
            it.local = self._local(port, self._legs.get(outgoing.near or ""))
            targets, shown = self._targets(outgoing, it)
        except CallRefused:
            self._chore(self._close(it.name))
            raise
        it.said = sdp.offer(it.local)
        self._add(it)
        self._sip.place(
            it.name,
            targets,
            from_user=shown,
            from_name=outgoing.caller_name,
            sdp=it.said,
            headers={**outgoing.headers, **(AUTO_ANSWER if outgoing.auto_answer else {})},
            credentials=self.credentials.get(it.trunk) if it.trunk else None,
            ring_s=outgoing.ring_s,
        )

    def _may_place(self, outgoing: Outgoing) -> None:
        if self.stopping:
            raise CallRefused("stopping")
        if outgoing.near is not None and outgoing.near not in self._legs:
            raise CallRefused("gone")

    def _targets(self, outgoing: Outgoing, it: _Leg) -> tuple[Sequence[Target], str]:
        """Where to, and the number shown there."""
        to = outgoing.to
        if to.account is not None:
            contacts = self._sip.targets(to.account)
            if not contacts:
                raise CallRefused("not_registered")
            return contacts, outgoing.caller
        running = Counter(leg.trunk for leg in self._legs.values() if leg.trunk)
        way = self.dialplan.way(
            to.number or "", running={k: n for k, n in running.items() if k is not None}, trunk=to.trunk
        )
        if isinstance(way, Denied):
            raise CallRefused(way.why)
        it.trunk = way.trunk
        return (Target(way.uri),), way.caller_id or outgoing.caller

    def play(self, leg: str, files: Sequence[str], *, loop: bool = False) -> int:
        """Start WAV files on the leg, replacing what plays; returns the play's number, echoed by PlayEnded."""
        it = self._legs.get(leg)
        if it is None:
            return 0
        it.plays += 1
        self._sound.play(leg, it.plays, files, loop=loop)
        return it.plays

    def stop(self, leg: str) -> None:
        if leg in self._legs:
            self._sound.stop_play(leg)

    def join(self, a: str, b: str) -> None:
        if a in self._legs and b in self._legs:
            self._sound.join(a, b)

    def part(self, a: str, b: str) -> None:
        if a in self._legs and b in self._legs:
            self._sound.part(a, b)

    def watch(self, leg: str, on: bool = True) -> None:
        if leg in self._legs:
            self._sound.watch(leg, on)

    def record(self, call: str, recording: str, path: str, *, left: str, right: str) -> None:
        """Record two legs; whoever hears `left` now hears RecordingEnded, even after the legs are gone."""
        it = self._legs.get(left)
        if it is not None and right in self._legs:
            self._recordings[recording] = (call, it.hear)
            self._sound.record(recording, path, left, right)

    def stop_record(self, recording: str) -> None:
        if recording in self._recordings:
            self._sound.stop_record(recording)

    def hang_up(self, leg: str, *, status: int = 480, reason: str = "") -> None:
        """End a leg: CANCEL while it rings, BYE when up, `status` when incoming and unanswered."""
        it = self._legs.get(leg)
        if it is not None:
            self._sip.end(leg, status=status, reason=reason)

    def _end(self, it: _Leg, cause: Cause, *, status: int = 480, reason: str = "") -> None:
        it.cause = cause
        self._sip.end(it.name, status=status, reason=reason)

    async def settled(self) -> None:
        """Wait for what is still being closed."""
        while self._chores:
            await asyncio.gather(*self._chores, return_exceptions=True)

    def on_sip(self, event: StackEvent) -> None:
        """Take one event of the SIP endpoint, in order."""
        match event:
            case Invited():
                self._invited(event)
            case PhoneRegistered() | PhoneGone():
                for told in self._phones:
                    told(event)
            case (
                Ringing(leg=leg)
                | Answered(leg=leg)
                | Acked(leg=leg)
                | Reoffered(leg=leg)
                | ReofferAnswered(leg=leg)
                | ReofferRefused(leg=leg)
                | InfoDigit(leg=leg)
                | Ended(leg=leg)
            ):
                it = self._legs.get(leg)
                if it is not None:
                    self._on_leg(it, event)
            case GuessingNoticed():
                log.warning("guessing was slowed", source=event.source, failures=event.failures)
            case _:
                pass  # our own registrations at a carrier: no leg is concerned

    def _invited(self, event: Invited) -> None:
        call = event.leg.rpartition(".")[0] or event.leg
        if event.sdp:
            try:
                sdp.answer(event.sdp, sdp.Local(self._host, 9, 1))
            except sdp.RemoteError as error:
                self._sip.reject(
                    event.leg, error.status, headers={"Warning": f'399 monofil "{error.reason}"'}
                )
                CALLS.labels("in", str(error.status)).inc()
                return
        if self._accept is None or self.stopping or self._incoming() >= self._max_calls:
            self._sip.reject(event.leg, 503, headers={"Retry-After": "10"})
            CALLS.labels("in", "503").inc()
            return
        offered = CallOffered(
            leg=event.leg,
            call=call,
            source=event.source,
            dialled=event.dialled,
            caller=event.caller,
            caller_name=event.caller_name,
            sip_call_id=event.sip_call_id,
            headers=event.headers,
        )
        it = _Leg(event.leg, call, _deaf, incoming=True, offer=event.sdp)
        if event.source.kind == "trunk":
            it.trunk = event.source.name
        self._add(it)
        try:
            it.hear = self._accept(offered)
        except Exception:
            log.exception("a call could not be taken", leg=it.name, call_id=call)
            self._end(it, Cause.FAILED, status=500)

    def _incoming(self) -> int:
        return (
            len(self._legs)
            if len(self._legs) < self._max_calls
            else sum(it.incoming for it in self._legs.values())
        )

    def _on_leg(self, it: _Leg, event: StackEvent) -> None:
        match event:
            case Ringing():
                self._tell(it, LegRinging(it.name, event.status))
            case Answered():
                if self._agreed(it, event.sdp):
                    it.up = True
                    self._tell(it, LegAnswered(it.name))
            case Acked():
                if event.sdp:
                    self._agreed(it, event.sdp)
                self._tell(it, LegAnswered(it.name))
            case Reoffered():
                self._reoffered(it, event.sdp)
            case InfoDigit():
                digit, at = it.rtp_digit
                if digit != event.digit or self._monotonic() - at > INFO_ECHO_S:
                    self._tell(it, DigitHeard(it.name, event.digit, event.duration_ms, "info"))
            case Ended():
                self._ended(it, event)
            case _:
                pass  # our own re-offers are session refreshes: the media stays as it is

    def _agreed(self, it: _Leg, body: bytes) -> bool:
        """Take the far side's answer to our offer; a bad one ends the leg."""
        assert it.local is not None
        try:
            remote = sdp.agree(body, it.local)
        except sdp.RemoteError as error:
            log.warning("the far side's answer cannot be used", leg=it.name, call_id=it.call, why=str(error))
            self._end(it, Cause.FAILED, reason="unusable SDP")
            return False
        self._connect(it, remote)
        return True

    def _reoffered(self, it: _Leg, body: bytes) -> None:
        assert it.local is not None
        if not body:
            self._sip.answer_reoffer(it.name, it.said)
            return
        local = replace(it.local, version=it.local.version + 1)
        try:
            said, remote = sdp.answer(body, local)
        except sdp.RemoteError as error:
            self._sip.refuse_reoffer(it.name, error.status)
            return
        it.local, it.said = local, said
        self._connect(it, remote)
        self._sip.answer_reoffer(it.name, said)
        held = remote.held
        if held != it.held:
            it.held = held
            self._tell(it, LegHeld(it.name, held))

    def _ended(self, it: _Leg, event: Ended) -> None:
        """A leg is over: in the same step, whatever still rings for its sake is cancelled."""
        del self._legs[it.name]
        LEGS.set(len(self._legs))
        if not self._legs:
            self._empty.set()
        for other in [o for o in self._legs.values() if o.near == it.name and not o.up]:
            self._sip.end(other.name, reason="the other side is gone")
        cause = it.cause if it.cause is not None and event.cause is Cause.LOCAL else event.cause
        CALLS.labels("in" if it.incoming else "out", str(cause)).inc()
        if it.local is not None:
            self._chore(self._close(it.name))
        self._tell(it, LegEnded(it.name, cause, event.status, event.reason))

    def on_media(self, event: MediaEvent) -> None:
        """Take one event of the media link, in order."""
        match event:
            case MediaRecorded():
                call, hear = self._recordings.pop(event.recording, ("", _deaf))
                hear(
                    RecordingEnded(
                        call, event.recording, event.path, event.duration_ms, event.bytes, event.complete
                    )
                )
            case WorkerLost():
                for name in event.legs:
                    if (lost := self._legs.get(name)) is not None:
                        self._end(lost, Cause.FAILED, reason="media lost")
            case MediaDigit() | MediaPlayEnded() | MediaVoice() | MediaStalled():
                it = self._legs.get(event.leg)
                if it is not None:
                    self._on_sound(it, event)

    def _on_sound(self, it: _Leg, event: MediaDigit | MediaPlayEnded | MediaVoice | MediaStalled) -> None:
        match event:
            case MediaDigit():
                it.rtp_digit = (event.digit, self._monotonic())
                self._tell(it, DigitHeard(it.name, event.digit, event.duration_ms, "rtp"))
            case MediaPlayEnded():
                self._tell(it, PlayEnded(it.name, event.play, event.reason, event.played_ms))
            case MediaVoice():
                self._tell(it, VoiceNoticed(it.name, event.heard, event.silent_s))
            case MediaStalled():
                log.warning("a leg fell silent", leg=it.name, call_id=it.call, silent_s=event.silent_s)
                self._end(it, Cause.NO_MEDIA, reason="no RTP")

    def _add(self, it: _Leg) -> None:
        self._legs[it.name] = it
        LEGS.set(len(self._legs))
        self._empty.clear()

    def _tell(self, it: _Leg, event: LegEvent) -> None:
        """A hearer that fails ends its own leg, never the process."""
        try:
            it.hear(event)
        except Exception:
            log.exception("a hearer failed", leg=it.name, call_id=it.call, heard=type(event).__name__)
            if it.name in self._legs:
                self._end(it, Cause.FAILED, status=500, reason="internal")

    def _local(self, port: int, other: _Leg | None = None) -> sdp.Local:
        """Our side of a new session; the codec of the `other` leg comes first, so that nothing need be transcoded."""
        self._session += 1
        local = sdp.Local(self._host, port, self._session)
        if other is not None and other.codec is not None:
            rest = tuple(each for each in local.payload_types if each != other.codec)
            local = replace(local, payload_types=(other.codec, *rest))
        return local

    def _connect(self, it: _Leg, remote: Remote) -> None:
        it.codec = remote.payload_type
        self._sound.connect(it.name, remote)

    async def _close(self, leg: str) -> None:
        figures = await self._sound.close(leg)
        JITTER.observe(figures.jitter_ms / 1000)
        LOST.inc(max(0, figures.lost))
        STRANGERS.inc(figures.strangers)
        log.info(
            "leg closed",
            leg=leg,
            call_id=leg.rpartition(".")[0],
            received=figures.received,
            sent=figures.sent,
            lost=figures.lost,
            jitter_ms=figures.jitter_ms,
            strangers=figures.strangers,
        )

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("closing a leg failed", why=f"{type(error).__name__}: {error}")


def _deaf(event: LegEvent) -> None:
    """Nobody listens yet."""
