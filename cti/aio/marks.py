"""A mark on disk for each recording that is being made, so that those of a killed server are found and stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Mark:
    recording: UUID
    interaction: UUID
    path: str  # below the data directory


class Marks:
    """The marks: one small file a recording below `recordings/open`, from before it begins until its end is stored."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "recordings" / "open"

    def begin(self, mark: Mark) -> None:
        """Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        words = {"interaction": str(mark.interaction), "path": mark.path}
        file = self._folder / str(mark.recording)
        file.touch(mode=0o600)
        file.write_text(json.dumps(words), "ascii")

    def end(self, recording: UUID) -> None:
        (self._folder / str(recording)).unlink(missing_ok=True)

    def left(self) -> list[Mark]:
        """Those of a former life, oldest first; an unreadable one (the disk was full) is removed."""
        found = []
        for file in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            try:
                words = json.loads(file.read_text("ascii"))
                found.append(Mark(UUID(file.name), UUID(words["interaction"]), words["path"]))
            except (ValueError, KeyError, TypeError):
                file.unlink()
        return found
