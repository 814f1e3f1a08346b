"""A process that takes and sends messages in forked children, each killed at a crash point of hooks and outbox.

`python -m tests.routing.crashing_post DSN FOLDER FIRST LAST`: one line of JSON a life on standard output. The provider
is a process of its own that outlives them all and writes down what it carried out.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from random import Random
from uuid import UUID

from routing import models as m
from routing.aio import crash
from routing.crash import HOOKS, OUTBOX
from tests.fakes import turns
from tests.fakes.forked import forked
from tests.fakes.provider import Provider
from tests.routing.hotline import HandClock
from tests.routing.office import Office, office

ROUNDS = 12
LIFE_S = 60.0


def provider_process(notes: Path) -> tuple[int, int]:
    """(its pid, its port); each message that it carried out is a line of `notes`. It ends with us and our children."""
    read, write = os.pipe()
    we_live, ours = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.close(ours)

        async def serve() -> None:
            asyncio.get_running_loop().add_reader(we_live, os._exit, 0)
            async with Provider() as provider:
                os.write(write, f"{provider.port}\n".encode())
                told = 0
                with notes.open("a") as file:
                    while True:
                        await provider.changed.wait()
                        provider.changed.clear()
                        for words in provider.got[told:]:
                            file.write(json.dumps(words) + "\n")
                            told += 1
                        file.flush()

        asyncio.run(serve())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        return child, int(pipe.readline())


async def _live(
    dsn: str, folder: Path, short: str, clock: HandClock, port: int, seed: int, plan: str, pipe: int
) -> None:
    provider = Provider(port=port)  # it runs elsewhere
    random = Random(seed)
    async with (
        asyncio.timeout(LIFE_S),
        office(dsn, folder, provider=provider, clock=clock, short=short) as here,
    ):
        await _recovered(here)
        if not plan:
            return
        crash.plan(plan)
        await here.line.ready("a1", "a2", "a3")
        for n in range(ROUNDS):
            customer = f"c{random.randrange(4)}"
            event = {"kind": "wrote", "id": f"{seed}-{n}", "from": customer, "text": f"{n}"}
            for _ in range(random.choice((1, 1, 2))):
                if await here.post(event) == 200:
                    os.write(pipe, UUID(int=seed << 32 | n).bytes)
            await here.handled()
            row = await here.message(f"{seed}-{n}")
            taken = f"a{1 + random.randrange(3)}"
            await here.line.tell(m.InteractionTaken, interaction=row["interaction"], advisor=taken, by=taken)
            held = here.line.desk.interaction(row["interaction"])
            if held is not None and held.state == "active":
                text = f"réponse {seed}-{n}{random.choice(('', '/suite'))}"
                sent = await here.write(row["interaction"], text, by=held.advisor)
                if random.random() < 0.7:
                    await here.becomes(sent, "sent")


async def _recovered(here: Office) -> None:
    """What a killed life left is handled, sent or perhaps sent, and told."""
    await here.later(60)  # leases are over
    await here.handled()

    async def ended() -> bool:
        here.courier.nudge()
        return not await here.rows(
            "SELECT 1 FROM outbox WHERE organisation_id = $1 AND (state IN ('queued', 'taken') OR NOT told)",
            here.line.organisation,
        )

    await here.until(ended, "a message is stuck in the outbox")


async def _true(
    dsn: str, folder: Path, short: str, clock: HandClock, acknowledged: set[UUID], notes: Path
) -> None:
    """Nothing acknowledged is lost, nothing is there twice, nothing was sent twice, and we know what was sent."""
    async with office(dsn, folder, clock=clock, short=short) as here:
        rows = await here.messages()
        came = Counter(row["external_id"] for row in rows if row["direction"] == "in")
        wanted = {f"{key.int >> 32}-{key.int & 0xFFFFFFFF}" for key in acknowledged}
        assert wanted <= came.keys(), f"lost: {wanted - came.keys()}"
        assert set(came.values()) <= {1}
        said = [json.loads(line) for line in notes.read_text().splitlines()]
        got = Counter((words["ref"], words["part"]) for words in said)
        ours = {str(row["id"]): row for row in rows if row["direction"] == "out"}
        assert all(count == 1 for (ref, _), count in got.items() if ref in ours), "sent twice"
        for ref, row in ours.items():
            parts, view = row["text"].count("/") + 1, await here.stores.messages.get(row["id"])
            assert view is not None
            assert view.status in ("sent", "perhaps"), (ref, view.status)
            certain = parts if view.status == "sent" else view.part
            assert all(got[ref, part] == 1 for part in range(1, certain + 1)), f"{ref} is said to be sent"


def run(dsn: str, folder: Path, seed: int, port: int, notes: Path) -> None:
    """One organisation, killed at every point in an order of chance."""
    random = Random(seed)
    short, clock, acknowledged = f"post-{seed}", HandClock(), set[UUID]()
    points = [*HOOKS, *OUTBOX]
    random.shuffle(points)

    def life(number: int, plan: str) -> int:
        more, ended = forked(
            lambda pipe: turns.run(_live(dsn, folder, short, clock, port, number, plan, pipe)),
            f"seed {seed}, {short}, {plan}",
        )
        acknowledged.update(more)
        clock.pass_(600)
        return ended

    for point in points:
        plan = f"{point}:{random.randint(1, 6)}"
        ended = life(random.randrange(1 << 30), plan)
        print(json.dumps({"seed": seed, "point": point, "plan": plan, "signal": ended}), flush=True)
    life(0, "")
    asyncio.run(_true(dsn, folder, short, clock, acknowledged, notes))
    print(json.dumps({"seed": seed, "acknowledged": len(acknowledged)}), flush=True)


def main() -> None:
    dsn, folder, first, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    notes = folder / f"carried-{first}"
    notes.touch()
    pid, port = provider_process(notes)
    try:
        for seed in range(first, last):
            run(dsn, folder, seed, port, notes)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
