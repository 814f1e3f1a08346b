"""Questions that come at the same time are asked as one, and nobody pays for another's end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from routing.aio.together import Together


class Asked:
    """Squares, given when the test lets them go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = asyncio.Semaphore(0)
        self.wrong: Exception | None = None

    async def __call__(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.groups.append(list(keys))
        await self.go.acquire()
        if self.wrong is not None:
            raise self.wrong
        return {key: key * key for key in keys if key >= 0}


async def _until_all_wait() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_that_come_while_one_is_asked_are_asked_together_and_each_gets_its_own() -> None:
    asked = Asked()
    together = Together(asked)
    tasks = [asyncio.create_task(together(key)) for key in (1, 2, 3, 3, -4)]
    await _until_all_wait()
    asked.go.release()
    asked.go.release()
    assert await asyncio.gather(*tasks) == [1, 4, 9, 9, None]
    assert asked.groups == [[1], [2, 3, -4]]


async def test_a_group_has_its_most() -> None:
    asked = Asked()
    together = Together(asked, most=2)
    tasks = [asyncio.create_task(together(key)) for key in range(6)]
    await _until_all_wait()
    for _ in range(6):
        asked.go.release()
    assert await asyncio.gather(*tasks) == [0, 1, 4, 9, 16, 25]
    assert asked.groups == [[0], [1, 2], [3, 4], [5]]


async def test_what_goes_wrong_is_told_to_all_who_asked_and_the_next_is_asked_anew() -> None:
    asked = Asked()
    together = Together(asked)
    tasks = [asyncio.create_task(together(key)) for key in (1, 2, 3)]
    await _until_all_wait()
    asked.wrong = OSError("away")
    asked.go.release()
    asked.go.release()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, OSError) for end in ends)
    asked.wrong = None
    asked.go.release()
    assert await together(5) == 25


async def test_the_others_are_answered_when_the_one_who_asks_for_them_is_called_away() -> None:
    asked = Asked()
    together = Together(asked)
    first, leads, follows = (asyncio.create_task(together(key)) for key in (1, 2, 3))
    await _until_all_wait()
    leads.cancel()
    await _until_all_wait()
    asked.go.release()
    asked.go.release()
    assert [await first, await follows] == [1, 9]
    with pytest.raises(asyncio.CancelledError):
        await leads
