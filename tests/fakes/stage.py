"""The real switch on a signalling and a sound that only remember: for tests of those who command legs.

`Stage.invite` brings a call, `Stage.hang_up` ends it from outside, `Stage.press` presses keys. Announcements end by
themselves in the next turn of the loop (`sound.patient` keeps them going); music goes on until it is replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath

from media.aio.link import LegStatistics, MediaDigit, MediaPlayEnded, MediaUnavailable, Remote, WorkerLost
from softphone_bridge.aio.switch import Switch
from softphone_bridge.events import Cause, Source
from softphone_bridge.signals import Acked, Answered, Credentials, Ended, Invited, Target

DEADLINE_S = 5.0
LOOK_S = 0.02  # longest time between two looks, for what makes no sound
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 19100 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
)


class FakeSip:
    """Signalling that does at once what it is told."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.phones: dict[str, tuple[Target, ...]] = {}
        self.placed: list[str] = []
        self.rejected: dict[str, int] = {}
        self.ended: list[str] = []
        self.legs: set[str] = set()

    def targets(self, account: str) -> tuple[Target, ...]:
        return self.phones.get(account, ())

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
    ) -> None:
        self.placed.append(leg)
        self.legs.add(leg)
        self.stage.changed.set()

    def ring(self, leg: str) -> None: ...

    def answer(self, leg: str, sdp: bytes) -> bool:
        if leg not in self.legs:
            return False
        asyncio.get_running_loop().call_soon(self.stage.switch.on_sip, Acked(leg, b""))
        return True

    def reject(self, leg: str, status: int, *, headers: Mapping[str, str] | None = None) -> None:
        self.rejected[leg] = status
        self.over(leg, Cause.LOCAL, status)

    def end(self, leg: str, *, status: int = 480, reason: str = "") -> None:
        self.ended.append(leg)
        self.over(leg, Cause.LOCAL, 0)

    def over(self, leg: str, cause: Cause, status: int) -> None:
        if leg in self.legs:
            self.legs.discard(leg)
            asyncio.get_running_loop().call_soon(self.stage.switch.on_sip, Ended(leg, cause, status))
        self.stage.changed.set()

    def answer_reoffer(self, leg: str, sdp: bytes) -> None: ...

    def refuse_reoffer(self, leg: str, status: int = 488) -> None: ...


class FakeSound:
    """Media that plays in no time; `heard` holds the names of all that was played to each leg."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.patient = False
        self.full = False
        self.heard: dict[str, list[str]] = {}
        self.playing: dict[str, tuple[int, tuple[str, ...], bool]] = {}
        self.joined: set[frozenset[str]] = set()
        self.open_legs: set[str] = set()

    async def open(self, leg: str, *, near: str | None = None) -> int:
        if self.full:
            raise MediaUnavailable
        self.open_legs.add(leg)
        return 19_000 + 2 * len(self.open_legs)

    def connect(self, leg: str, remote: Remote) -> None: ...

    def play(self, leg: str, play: int, files: Sequence[str], *, loop: bool = False) -> None:
        assert leg in self.open_legs, "played to a leg without media"
        assert all(PurePath(f).is_absolute() for f in files), files
        self._end(leg, "replaced")
        self.playing[leg] = (play, tuple(files), loop)
        self.heard.setdefault(leg, []).extend(PurePath(f).stem for f in files)
        if not loop and not self.patient:
            asyncio.get_running_loop().call_soon(self.finish, leg, play)
        self.stage.changed.set()

    def finish(self, leg: str, play: int | None = None) -> None:
        """The announcement has been heard to its end."""
        if leg in self.playing and play in (None, self.playing[leg][0]):
            self._end(leg, "done")

    def _end(self, leg: str, reason: str) -> None:
        former = self.playing.pop(leg, None)
        if former is not None:
            told = MediaPlayEnded(leg, former[0], reason, 20)
            asyncio.get_running_loop().call_soon(self.stage.switch.on_media, told)

    def stop_play(self, leg: str) -> None:
        self._end(leg, "stopped")
        self.stage.changed.set()

    def join(self, a: str, b: str) -> None:
        self._end(a, "stopped")
        self._end(b, "stopped")
        self.joined.add(frozenset((a, b)))
        self.stage.changed.set()

    def part(self, a: str, b: str) -> None:
        self.joined.discard(frozenset((a, b)))

    def watch(self, leg: str, on: bool) -> None: ...

    def record(self, recording: str, path: str, left: str, right: str) -> None: ...

    def stop_record(self, recording: str) -> None: ...

    async def close(self, leg: str) -> LegStatistics:
        self.open_legs.discard(leg)
        self.playing.pop(leg, None)
        return LegStatistics(0, 0, 0, 0.0, 0, 0)


class Stage:
    """A switch with all that is around it."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.sip = FakeSip(self)
        self.sound = FakeSound(self)
        self.switch = Switch(
            self.sip, self.sound, host="127.0.0.1", monotonic=asyncio.get_running_loop().time
        )

    def invite(
        self, name: str, *, dialled: str = "3631", caller: str = "+33612345678", **headers: str
    ) -> str:
        """An INVITE from the trunk (`headers`: "_" for "-"); returns its leg."""
        leg = f"{name}.1"
        self.sip.legs.add(leg)
        source = Source("trunk", "loopback", "127.0.0.1:5070;udp")
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        self.switch.on_sip(Invited(leg, source, dialled, caller, "Jeanne", f"{name}@test", SDP, named))
        return leg

    def hang_up(self, leg: str, cause: Cause = Cause.HANGUP) -> None:
        self.sip.legs.discard(leg)
        self.switch.on_sip(Ended(leg, cause))

    def pick_up(self, leg: str) -> None:
        self.switch.on_sip(Answered(leg, SDP, "sip:phone@127.0.0.1"))

    def press(self, leg: str, keys: str) -> None:
        for key in keys:
            self.switch.on_media(MediaDigit(leg, key, 100))

    def lose_worker(self, *legs: str) -> None:
        self.switch.on_media(WorkerLost(legs))

    async def until(self, true: Callable[[], bool], what: str = "") -> None:
        """Wait until `true()`, looking again whenever anything happens."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not true():
                    self.changed.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.changed.wait(), LOOK_S)
        except TimeoutError:
            raise AssertionError(f"never happened: {what or true}; heard {self.sound.heard}") from None
