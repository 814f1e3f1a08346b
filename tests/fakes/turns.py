"""An event loop that looks at what is waited for after each of its turns: nothing in a process changes between them."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Value = TypeVar("Value")


class _Looking(selectors.DefaultSelector):
    """Is asked for the next turn when all of the last one is done."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[asyncio.Future[Any], Callable[[], Any]] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        for future, look in tuple(self.waiting.items()):
            if future.done():
                continue
            try:
                if value := look():
                    future.set_result(value)
            except Exception as error:
                future.set_exception(error)
            if future.done():
                timeout = 0.0  # whoever waits for it is due
        return super().select(timeout)


class Loop(asyncio.SelectorEventLoop):
    """One in which `until` works."""

    def __init__(self) -> None:
        self.looking = _Looking()
        super().__init__(self.looking)


def run(main: Coroutine[Any, Any, Value]) -> Value:
    """As asyncio.run."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


async def until(look: Callable[[], Value]) -> Value:
    """The first true value; `look` must be quick, for it is called after every turn. Give it a deadline."""
    if value := look():
        return value
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop), "start the loop with `run`"
    future: asyncio.Future[Value] = loop.create_future()
    loop.looking.waiting[future] = look
    try:
        return await future
    finally:
        del loop.looking.waiting[future]
