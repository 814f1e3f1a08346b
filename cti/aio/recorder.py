"""Recordings while they are made: each is marked on the disk from before it begins until the record has its end."""

from __future__ import annotations

import secrets
from pathlib import Path

import structlog
from prometheus_client import Counter

from cti.aio.marks import Mark, Marks
from cti.aio.ports import Switch
from cti.aio.reports import Reports
from cti.aio.talk import Talk
from media.aio.link import what_is_left
from routing.aio.crash import crash_point
from routing.models import Clock, Ids, RecordingStored
from softphone_bridge.events import RecordingEnded

log = structlog.get_logger(__name__)

RECORDINGS = Counter(
    "monofil_recordings_total", "Recordings by whether all of the call is in them", ["complete"]
)


class Recorder:
    """Begins and stops them; whoever hears of an end gives it to `ended`, and what that returns to `store`."""

    def __init__(self, *, switch: Switch, reports: Reports, clock: Clock, ids: Ids, data_dir: Path) -> None:
        self._switch, self._reports, self._clock, self._ids = switch, reports, clock, ids
        self._data_dir = data_dir
        self._marks = Marks(data_dir)
        self._open: dict[str, Mark] = {}

    def left(self) -> list[Mark]:
        """Those that a killed server was making."""
        return self._marks.left()

    async def store_left(self, mark: Mark) -> None:
        """What there is of one of them goes into the record."""
        whole = self._data_dir / mark.path
        if not whole.exists():
            self._marks.end(mark.recording)
            return
        found = what_is_left(str(mark.recording), str(whole))
        whole.chmod(0o600)
        log.warning("a recording was cut short by the end of the server", path=mark.path)
        await self.store(mark, found.duration_ms, found.bytes, complete=False)

    def begin(self, talk: Talk) -> bool:
        """Record both sides of a talk; False when the disk does not let us."""
        now = self._clock.now()
        path = f"recordings/{now:%Y}/{now:%m}/{secrets.token_hex(16)}.wav"
        whole = self._data_dir / path
        try:
            whole.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._data_dir / "recordings").chmod(0o700)
        except OSError as error:
            log.error("the folder of the recordings cannot be used", call_id=talk.call, why=str(error))
            RECORDINGS.labels("no").inc()
            return False
        mark = Mark(self._ids(), talk.interaction, path)
        try:
            self._marks.begin(mark)
        except OSError as error:
            log.error("a recording cannot be marked", call_id=talk.call, why=str(error))
        talk.recording = str(mark.recording)
        self._open[talk.recording] = mark
        self._switch.record(
            talk.call, talk.recording, str(whole), left=talk.customer_leg, right=talk.advisor_leg
        )
        crash_point("recording.begun")
        return True

    def stop(self, talk: Talk) -> None:
        if talk.recording is not None:
            self._switch.stop_record(talk.recording)
            talk.recording = None

    def ended(self, ended: RecordingEnded) -> Mark | None:
        """Which one it was; None when it is not one of ours."""
        mark = self._open.pop(ended.recording, None)
        if mark is None:
            return None
        RECORDINGS.labels("yes" if ended.complete else "no").inc()
        try:
            (self._data_dir / mark.path).chmod(0o600)
        except OSError:
            log.error("a recording is not where it should be", interaction_id=str(mark.interaction))
        return mark

    async def store(self, mark: Mark, duration_ms: int, size: int, *, complete: bool) -> None:
        """Into the record, once, however often it is told: the key is the recording's."""
        await self._reports.tell(
            RecordingStored,
            key=mark.recording,
            interaction=mark.interaction,
            recording=mark.recording,
            path=mark.path,
            duration_ms=duration_ms,
            bytes=size,
            complete=complete,
        )
        crash_point("recording.told")
        self._marks.end(mark.recording)
