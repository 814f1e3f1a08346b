"""A switch without SIP or sound that holds everybody to its contract, for tests of those who command legs.

It refuses what the real one would (a leg placed twice, a destination that is not registered), does nothing on legs that
have ended, hands each event to the one hearer of its leg, and remembers every command. Tests play the far sides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from softphone_bridge.aio.switch import CallRefused, Hear, Outgoing
from softphone_bridge.events import (
    CallOffered,
    Cause,
    DigitHeard,
    LegAnswered,
    LegEnded,
    LegHeld,
    LegRinging,
    LegTaken,
    PlayEnded,
    RecordingEnded,
    Source,
    VoiceNoticed,
)


@dataclass
class FakeLeg:
    name: str
    hear: Hear
    incoming: bool
    outgoing: Outgoing | None = None
    up: bool = False
    plays: int = 0
    playing: tuple[int, tuple[str, ...], bool] | None = None
    joined: str | None = None
    watched: bool = False


@dataclass
class FakeSwitch:
    """`phones` are the registered accounts; `numbers` what the dial plan allows (None: everything)."""

    phones: set[str] = field(default_factory=set)
    numbers: set[str] | None = None
    finish_plays: bool = True  # WAV files that do not loop end by themselves, at once
    legs: dict[str, FakeLeg] = field(default_factory=dict)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    ended: dict[str, LegEnded] = field(default_factory=dict)
    recordings: dict[str, tuple[str, str, str, str, Hear]] = field(default_factory=dict)
    placed: list[Outgoing] = field(default_factory=list)
    _accept: Callable[[CallOffered], Hear] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def _did(self, *command: str) -> None:
        self.commands.append(command)
        self._changed.set()

    async def until(self, holds: Callable[[], object], within_s: float = 5.0) -> None:
        """Wait until something holds, looking again after each command."""
        async with asyncio.timeout(within_s):
            while not holds():
                self._changed.clear()
                try:
                    await asyncio.wait_for(self._changed.wait(), 0.05)
                except TimeoutError:
                    pass

    def on_call(self, accept: Callable[[CallOffered], Hear]) -> None:
        self._accept = accept

    def alive(self, leg: str) -> bool:
        return leg in self.legs

    def registered(self, account: str) -> bool:
        return account in self.phones

    def take(self, leg: str, hear: Hear) -> bool:
        it = self.legs.get(leg)
        if it is None:
            return False
        former, it.hear = it.hear, hear
        self._did("take", leg)
        former(LegTaken(leg))
        return True

    async def answer(self, leg: str) -> bool:
        await asyncio.sleep(0)
        it = self.legs.get(leg)
        if it is None:
            return False
        assert it.incoming, "only incoming legs are answered"
        it.up = True
        self._did("answer", leg)
        return True

    def ring(self, leg: str) -> None:
        self._did("ring", leg)

    def reject(self, leg: str, status: int, *, retry_after_s: int | None = None) -> None:
        assert leg not in self.legs or not self.legs[leg].up, "a leg that is up is hung up, not rejected"
        self._did("reject", leg, str(status))
        self.end(leg, Cause.LOCAL, status)

    async def place(self, outgoing: Outgoing, hear: Hear) -> None:
        self._may_place(outgoing)
        await asyncio.sleep(0)  # a media port is opened here
        self._may_place(outgoing)
        assert outgoing.leg not in self.legs, f"{outgoing.leg} is placed twice"
        assert outgoing.leg not in self.ended, f"{outgoing.leg} was used before"
        if outgoing.to.account is not None and outgoing.to.account not in self.phones:
            raise CallRefused("not_registered")
        if (
            outgoing.to.account is None
            and self.numbers is not None
            and outgoing.to.number not in self.numbers
        ):
            raise CallRefused("not_allowed")
        self.legs[outgoing.leg] = FakeLeg(outgoing.leg, hear, incoming=False, outgoing=outgoing)
        self.placed.append(outgoing)
        self._did("place", outgoing.leg)

    def _may_place(self, outgoing: Outgoing) -> None:
        if outgoing.near is not None and outgoing.near not in self.legs:
            raise CallRefused("gone")

    def play(self, leg: str, files: Sequence[str], *, loop: bool = False) -> int:
        it = self.legs.get(leg)
        if it is None:
            return 0
        assert files, "nothing to play"
        self._stop(it, "replaced")
        it.plays += 1
        it.playing = (it.plays, tuple(files), loop)
        self._did("play", leg, *files, *(("loop",) if loop else ()))
        if self.finish_plays and not loop:
            asyncio.get_running_loop().call_soon(self._finish, it, it.plays)
        return it.plays

    def _finish(self, it: FakeLeg, play: int) -> None:
        if it.playing is not None and it.playing[0] == play:
            self._stop(it, "done")

    def _stop(self, it: FakeLeg, reason: str) -> None:
        if it.playing is not None:
            play, it.playing = it.playing[0], None
            asyncio.get_running_loop().call_soon(self._tell, it, PlayEnded(it.name, play, reason, 0))

    def _tell(self, it: FakeLeg, event: PlayEnded) -> None:
        if it.name in self.legs:
            it.hear(event)

    def stop(self, leg: str) -> None:
        if (it := self.legs.get(leg)) is not None:
            self._stop(it, "stopped")
            self._did("stop", leg)

    def join(self, a: str, b: str) -> None:
        if a in self.legs and b in self.legs:
            assert self.legs[a].up, f"{a} is joined before it was answered"
            assert self.legs[b].up, f"{b} is joined before it was answered"
            self.legs[a].joined, self.legs[b].joined = b, a
            self._did("join", a, b)

    def part(self, a: str, b: str) -> None:
        if a in self.legs and b in self.legs:
            self.legs[a].joined = self.legs[b].joined = None
            self._did("part", a, b)

    def watch(self, leg: str, on: bool = True) -> None:
        if (it := self.legs.get(leg)) is not None:
            it.watched = on

    def record(self, call: str, recording: str, path: str, *, left: str, right: str) -> None:
        if left in self.legs and right in self.legs:
            assert recording not in self.recordings
            self.recordings[recording] = (call, path, left, right, self.legs[left].hear)
            self._did("record", left, right)

    def stop_record(self, recording: str) -> None:
        found = self.recordings.pop(recording, None)
        if found is not None:
            call, path, _, _, hear = found
            self._did("stop_record", recording)
            ended = RecordingEnded(call, recording, path, 1500, 48_044, True)
            asyncio.get_running_loop().call_soon(hear, ended)

    def hang_up(self, leg: str, *, status: int = 480, reason: str = "") -> None:
        if leg in self.legs:
            self._did("hang_up", leg)
            self.end(leg, Cause.LOCAL, status)

    def caller(self, call: str, hear: Hear, *, up: bool = True) -> str:
        """An incoming leg that somebody hears already."""
        leg = f"{call}.1"
        self.legs[leg] = FakeLeg(leg, hear, incoming=True, up=up)
        return leg

    def invite(self, call: str, dialled: str, caller: str, trunk: str = "carrier") -> str:
        """An INVITE: whoever takes calls gets it."""
        assert self._accept is not None
        leg = f"{call}.1"
        self.legs[leg] = FakeLeg(leg, lambda _: None, incoming=True)
        offered = CallOffered(
            leg, call, Source("trunk", trunk, "127.0.0.1:5060;udp"), dialled, caller, "", f"{call}@test"
        )
        self.legs[leg].hear = self._accept(offered)
        return leg

    def pick_up(self, leg: str) -> None:
        it = self.legs[leg]
        it.hear(LegRinging(leg, 180))
        it.up = True
        it.hear(LegAnswered(leg))

    def end(self, leg: str, cause: Cause = Cause.HANGUP, status: int = 0) -> None:
        """A leg is over; whatever still rings for its sake is cancelled in the same step."""
        it = self.legs.pop(leg, None)
        if it is None:
            return
        event = LegEnded(leg, cause, status)
        self.ended[leg] = event
        for other in list(self.legs.values()):
            if other.outgoing is not None and other.outgoing.near == leg and not other.up:
                self._did("cancel", other.name)
                self.end(other.name, Cause.LOCAL)
            if other.joined == leg:
                other.joined = None
        for recording, (_, _, left, right, _) in list(self.recordings.items()):
            if leg in {left, right}:
                self.stop_record(recording)
        self._changed.set()
        it.hear(event)

    def hold(self, leg: str, held: bool) -> None:
        self.legs[leg].hear(LegHeld(leg, held))

    def voice(self, leg: str, heard: bool, silent_s: float = 0.0) -> None:
        assert self.legs[leg].watched, "nobody watches this leg"
        self.legs[leg].hear(VoiceNoticed(leg, heard, silent_s))

    def press(self, leg: str, digit: str) -> None:
        self.legs[leg].hear(DigitHeard(leg, digit, 100, "rtp"))

    def did(self, *names: str) -> list[tuple[str, ...]]:
        return [c for c in self.commands if c[0] in names]
