"""The server's side of the media workers: one link, n processes, a call pinned to one.

Commands go out and events come back as JSON lines over a local socket pair. A dead worker ends only its own legs; the
link says so (`WorkerLost`) and starts another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a leg's RTP goes and how it is spoken, from the far side's SDP."""

    host: str
    port: int
    payload_type: int  # 0 PCMU, 8 PCMA
    telephone_event: int | None  # payload type of telephone-event/8000, None when not offered
    sending: bool = True  # may we send? (sendrecv, sendonly of ours)
    receiving: bool = True
    ptime_ms: int = 20


@dataclass(frozen=True, slots=True)
class MediaDigit:
    leg: str
    digit: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class MediaPlayEnded:
    leg: str
    play: int
    reason: str  # done | stopped | replaced
    played_ms: int


@dataclass(frozen=True, slots=True)
class MediaVoice:
    leg: str
    heard: bool
    silent_s: float


@dataclass(frozen=True, slots=True)
class MediaStalled:
    """No RTP has come for `silent_s` although it should (row 21)."""

    leg: str
    silent_s: float


@dataclass(frozen=True, slots=True)
class MediaRecorded:
    recording: str
    path: str
    duration_ms: int
    bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class WorkerLost:
    legs: tuple[str, ...]


MediaEvent = MediaDigit | MediaPlayEnded | MediaVoice | MediaStalled | MediaRecorded | WorkerLost


@dataclass(frozen=True, slots=True)
class LegStatistics:
    """RFC 3550 figures of one leg at its close."""

    received: int
    sent: int
    lost: int
    jitter_ms: float
    strangers: int  # packets from elsewhere, dropped (row 17)
    malformed: int


class MediaLink:
    """Starts and steers the media workers."""

    def __init__(
        self,
        *,
        workers: int,
        host: str,
        ports: tuple[int, int],
        hear: Callable[[MediaEvent], None],
    ) -> None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def open(self, leg: str, *, near: str | None = None) -> int:
        """Bind a port for `leg` (on the worker of `near` when given) and return it. Raises MediaUnavailable."""
        raise NotImplementedError

    def connect(self, leg: str, remote: Remote) -> None: ...

    def play(self, leg: str, play: int, files: Sequence[str], *, loop: bool = False) -> None:
        """Play WAV files (8 kHz mono int16) one after another to `leg`; replaces what is playing."""

    def stop_play(self, leg: str) -> None: ...

    def join(self, a: str, b: str) -> None:
        """Let two legs hear each other: forwarded at once when they share a codec, else through the sweep."""

    def part(self, a: str, b: str) -> None: ...

    def watch(self, leg: str, on: bool) -> None:
        """Report voice activity of `leg` (MediaVoice)."""

    def record(self, recording: str, path: str, left: str, right: str) -> None:
        """Record two legs into one stereo WAV: what `left` says on the left, `right` on the right."""

    def stop_record(self, recording: str) -> None: ...

    async def close(self, leg: str) -> LegStatistics: ...
