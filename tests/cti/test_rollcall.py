"""The roll call over real HTTP, WebSocket, desk and database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

from cti.aio.rollcall import RollCall
from routing.aio.clock import IdMaker
from routing.models import Outcome, ReachChanged, Submission, T
from tests.cti.house import House, house
from tests.routing import hotline


async def reach(at: House, seat: str, reachable: bool) -> None:
    await at.switch.until(lambda: at.line.desk.reachable("a1", seat) is reachable)


def offers(at: House, interaction: UUID) -> list[str]:
    return [e.type.value for e in at.line.heard if e.interaction == interaction and "offer" in e.type.value]


async def test_what_is_written_is_offered_to_whose_page_is_open(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path, logins=("a1",), grace_s=0.2) as at:
        await at.switch.until(
            lambda: {e.advisor for e in at.line.heard if e.type is T.REACH_CHANGED} >= {"a1", "a2", "a3"}
        )
        await at.line.ready("a1", "a2")
        chat = await at.write()
        assert (at.line.state(chat), offers(at, chat)) == ("waiting", [])
        browser = await at.browser("a1")
        async with browser.page() as page:
            made = await page.next("offer.made")
            assert made["data"]["interaction"]["id"] == str(chat)
            await reach(at, "mail", True)
        await reach(at, "chat", False)
        await reach(at, "mail", False)
        assert at.line.state(chat) == "waiting"
        assert at.line.desk.reachable("a1", "voice")


async def test_a_reload_takes_no_offer_back(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path, logins=("a1",), grace_s=60.0) as at:
        await at.line.ready("a1")
        browser = await at.browser("a1")
        async with browser.page() as page:
            await page.next("snapshot")
            await reach(at, "chat", True)
            chat = await at.write()
            await page.next("offer.made")
        async with browser.page() as page:
            assert len((await page.next("snapshot"))["data"]["offers"]) == 1
            mail = await at.write(account="post", who="eva@example.org")
            assert (await page.next("offer.made"))["data"]["interaction"]["id"] == str(mail)
        assert (at.line.state(chat), at.line.state(mail)) == ("offered", "offered")
        told = [e.data for e in at.line.heard if e.type is T.REACH_CHANGED and e.advisor == "a1"]
        assert [t["reachable"] for t in told if t["channel"] == "chat"] in ([True], [False, True])


class Reluctant:
    """A desk that has no time for what it hears first."""

    organisation = UUID(int=1)

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, str, bool, bool]] = asyncio.Queue()
        self.refuses = True

    async def submit(self, submission: Submission) -> Outcome:
        assert isinstance(submission, ReachChanged)
        self.told.put_nowait((submission.advisor, submission.channel, submission.reachable, not self.refuses))
        return Outcome(refused="overloaded" if self.refuses else None)


async def test_what_the_desk_had_no_time_for_is_told_again() -> None:
    desk, rules = Reluctant(), hotline.site(1)
    async with asyncio.timeout(10), RollCall(desk=desk, site=lambda: rules, ids=IdMaker()) as roll:
        first = {await desk.told.get() for _ in range(2)}
        assert first == {("a1", "chat", False, False), ("a1", "mail", False, False)}
        desk.refuses = False
        roll.opened("a1")
        second = {await desk.told.get() for _ in range(2)}
        assert second == {("a1", "chat", True, True), ("a1", "mail", True, True)}
