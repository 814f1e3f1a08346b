"""`python -m tests.ivr.crashing DSN IDS`: a customer's conversation with the bot, to be killed where CRASH_AT says.

IDS are as many as the conversation needs, so that a provider's second telling is the same submission.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from tests.ivr.chats import House, opened

LINES = ("Bonjour", "blabla", "colis 123456789015", "autre demande", "un conseiller")
IDS = 4 * len(LINES)


async def converse(house: House, ids: list[UUID]) -> UUID:
    """Write every line; the interaction, which the first line opens. Lines that are known are not taken twice."""
    for number, line in enumerate(LINES):
        key, interaction, message, external = ids[4 * number : 4 * number + 4]
        told = replace(
            house.message(line), key=key, interaction=interaction, message=message, external_id=str(external)
        )
        await house.desk.submit(told)
        await house.settled()
    return ids[1]


async def main(dsn: str, ids: list[UUID]) -> None:
    async with opened(dsn, now=datetime.now(UTC)) as house:
        await converse(house, ids)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], [UUID(text) for text in sys.argv[2].split(",")]))
