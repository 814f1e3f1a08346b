"""Killed at any point of a written step, a conversation goes on as if nothing had happened: no word twice or lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from routing.aio.clock import IdMaker
from tests.ivr.chats import opened
from tests.ivr.crashing import IDS, converse

ROOT = Path(__file__).parents[2]
SAID = [
    "Je suis Colette, un assistant automatique.\n\nQue puis-je faire pour vous ?",
    "Je n'ai pas compris. Que puis-je faire pour vous ?",
    "Votre colis a été livré.\n\nPuis-je faire autre chose pour vous ?",
    "Que puis-je faire pour vous ?",
    "Un conseiller va vous répondre ici.",
]
PATH = [
    "messages.language:done",
    "messages.open:open",
    "messages.main:1",
    "suivi.number:done",
    "suivi.look:ok",
    "suivi.remember:done",
    "suivi.which:delivered",
    "suivi.delivered:done",
    "messages.tracking:done",
    "messages.anything_else:1",
    "messages.main:human",
]


async def killed(database: str, ids: list[UUID], plan: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.ivr.crashing",
        database,
        ",".join(map(str, ids)),
        cwd=ROOT,
        env={**os.environ, "CRASH_AT": plan},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == -signal.SIGKILL, said.decode()[-2000:]


@pytest.mark.parametrize(
    "plan",
    [
        "walk.heard:3",
        "walk.stepped:3",
        "walk.told:2",
        "desk.log_written:5",
        "desk.after_commit:5",
    ],
)
async def test_a_conversation_survives_a_kill_unchanged(database: str, plan: str) -> None:
    ids = [IdMaker()() for _ in range(IDS)]
    await killed(database, ids, plan)
    async with opened(database, now=datetime.now(UTC)) as house:
        await house.settled()
        interaction = await converse(house, ids)
        assert await house.said(interaction) == SAID
        assert await house.state(interaction) == ("waiting", "general")
        pop = await house.stores.timeline.pop(interaction)
        assert pop is not None
        assert [f"{s.tree}.{s.node}:{s.exit}" for s in pop.path] == PATH
