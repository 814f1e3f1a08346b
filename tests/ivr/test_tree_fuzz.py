"""Trees spoiled by chance: check never raises, and what it lets through can be walked without raising."""

from __future__ import annotations

import copy
import random
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.events import HoursAnswered, Input, Key, LookedUp, QueueTold, SayEnded, TimedOut, TransferEnded
from ivr.interpreter import Interpreter
from ivr.tree import BadTree, check, load, plant
from tests.ivr.walks import LEAVE_KEYS, shipped, site_context

DOCUMENTS = shipped()[0]
JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, "", "return", "return:", "return:x", "main", "1 +", "{{ x", "{{ found.days }}", "'a'", "1",
    [], {}, [1], {"a": 1}, {"fr": 1}, ["welcome"], [["welcome"]], {"prompt": "welcome"}, {1: 2}, "x" * 3_000, "(",
    float("nan"),
)  # fmt: skip


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def spoil(document: Any, chance: random.Random) -> None:
    """Change one place of the document."""
    at = document
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return
        key = chance.choice(keys)
        below = at[key]
        if isinstance(below, dict | list) and below and chance.random() < 0.85:
            at = below
            continue
        match chance.randrange(4):
            case 0:
                del at[key]
            case 1 if isinstance(at, dict):
                at[chance.choice(["say", "kind", "exits", "next", "x", 5, "return"])] = at.pop(key)
            case _:
                at[key] = copy.deepcopy(chance.choice(JUNK))
        return


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(DOCUMENTS)), st.integers(0, 2**32), st.integers(1, 3))
def test_check_never_raises_and_what_it_lets_through_can_be_walked(name: str, seed: int, times: int) -> None:
    chance = random.Random(seed)
    documents = {n: plain(d) for n, d in DOCUMENTS.items()}
    for _ in range(times):
        spoil(documents[name], chance)
    context = site_context(trees=documents, leave_keys=LEAVE_KEYS)
    wrong = [m for n, d in documents.items() for m in check(d, context) if not m.warning]
    if wrong:
        with suppress(BadTree):
            load(documents[name])
        return
    walk = Interpreter(plant(documents), "accueil", leave_keys=LEAVE_KEYS)
    walk.start(0.0)
    told: list[Input] = [
        SayEnded(),
        TimedOut(),
        HoursAnswered(True),
        TransferEnded("failed"),
        QueueTold("closing"),
    ]
    for i in range(60):
        answer = chance.choice(
            [
                *told,
                Key(chance.choice("0123456789*#")),
                LookedUp("ok", chance.choice([{"status": "transit"}, 7])),
            ]
        )
        walk.step(answer, float(i))
