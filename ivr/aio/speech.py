"""Prompts as WAV files: recordings by name and language, else text synthesised by espeak-ng and kept (V3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ivr.events import Say


class Speech:
    def __init__(self, *, sounds: Sequence[Path], cache: Path) -> None:
        """`sounds`: folders with `LANGUAGE/NAME.wav`, the first that has a recording wins; `cache` is written."""

    def recorded(self) -> dict[str, frozenset[str]]:
        """Recording -> languages, as ivr.tree.Context.prompts wants it."""
        raise NotImplementedError

    async def files(self, say: Say) -> list[str]:
        raise NotImplementedError

    def music(self, name: str) -> str:
        raise NotImplementedError

    async def close(self) -> None: ...
