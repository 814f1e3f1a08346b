"""HTTP look-ups of trees (V9), which reach no address that the site has not allowed (row 29)."""

from __future__ import annotations

from collections.abc import Sequence

from ivr.events import LookedUp, LookUp


class Lookups:
    def __init__(self, *, allow: Sequence[str] = ()) -> None:
        """`allow`: hosts (`host` or `host:port`) that may be reached although their address is not a public one."""

    async def ask(self, command: LookUp, *, tree: str, version: int) -> LookedUp:
        raise NotImplementedError

    async def close(self) -> None: ...
