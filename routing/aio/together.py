"""Questions of one kind that come at the same time, asked of the database in one statement.

While one group is being asked the next one gathers, so a single question waits for nothing and a hundred cost little
more than one. What was committed before a question came is in its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Group(Generic[K, V]):
    __slots__ = ("asked", "error", "found", "keys")

    def __init__(self) -> None:
        self.keys: dict[K, None] = {}
        self.found: Mapping[K, V] = {}
        self.error: BaseException | None = None
        self.asked = asyncio.Event()


class Together(Generic[K, V]):
    """`await together(key)`: what `ask` has found for that key, or None. Raises what `ask` raises."""

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], *, most: int = 500) -> None:
        self._ask, self._most = ask, most
        self._one = asyncio.Lock()
        self._gathering: _Group[K, V] | None = None

    async def __call__(self, key: K) -> V | None:
        while True:
            group = self._gathering
            if group is not None and len(group.keys) < self._most:
                group.keys[key] = None
                await group.asked.wait()
            else:
                group = self._gathering = _Group()
                group.keys[key] = None
                await self._lead(group)
            if group.error is None:
                return group.found.get(key)
            if not isinstance(
                group.error, asyncio.CancelledError
            ):  # else: who asked for all of us was called away
                raise group.error

    async def _lead(self, group: _Group[K, V]) -> None:
        """The first of a group asks for all of it."""
        try:
            async with self._one:
                self._close(group)
                group.found = await self._ask(list(group.keys))
        except BaseException as error:
            group.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._close(group)
            group.asked.set()

    def _close(self, group: _Group[K, V]) -> None:
        if self._gathering is group:
            self._gathering = None
