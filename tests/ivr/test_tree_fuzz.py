"""Trees spoiled by chance: check never raises, and what it lets through can be walked without raising."""

from __future__ import annotations

import copy
import json
import random
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.events import (
    HoursAnswered,
    Input,
    Key,
    LanguageKnown,
    LookedUp,
    LookUp,
    QueueTold,
    SayEnded,
    TimedOut,
    TransferEnded,
    Wrote,
)
from ivr.flowtest import SHOWN
from ivr.interpreter import Interpreter, Phase
from ivr.text import render
from ivr.tree import BadTree, Forest, check, load, plant
from ivr.turn import Turn, go_on
from tests.ivr.walks import LEAVE_KEYS, TEXTS, shipped, site_context

DOCUMENTS = shipped()[0]
WORDS = ("", "1", "0", "oui", "colis 123456789015", "conseiller", "blabla", "facture", "english")
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
    if any(document["tree"] != n for n, document in documents.items()):
        return  # the check of a site refuses a tree under another name
    for tree in ("messages", "courrier"):
        written(plant(documents), tree, chance)


def written(trees: Forest, tree: str, chance: random.Random) -> None:
    """Hold a conversation with what was let through, over a restart at each turn."""
    walk = Interpreter(trees, tree, written=True, opening=chance.choice(WORDS))
    commands = walk.start(0.0)
    for i in range(20):
        turn = Turn()
        while need := go_on(walk, commands, turn, float(i), lambda name: (chance.random() < 0.5, 1.0)):
            answer = (
                LookedUp("ok", {"status": "transit"}) if isinstance(need, LookUp) else LanguageKnown("en")
            )
            commands = walk.step(answer, float(i))
        messages = render(turn.says, turn.asked, SHOWN["chat"], TEXTS, disclose="I am a bot.")
        assert all(m.text.strip() for m in messages)
        assert walk.phase in (Phase.LISTENING, Phase.WAITING, Phase.DONE)
        walk = Interpreter.restored(trees, json.loads(json.dumps(walk.saved(), allow_nan=False)))
        waits = walk.phase is Phase.WAITING
        told = QueueTold(chance.choice(["closing", "refused"])) if waits else Wrote(chance.choice(WORDS))
        commands = walk.step(told, float(i))
