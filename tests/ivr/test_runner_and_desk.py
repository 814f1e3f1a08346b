"""The runner and the desk agree: calls on the real switch, the real desk and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg

from ivr.aio.lookup import Lookups
from ivr.aio.runner import VoiceRunner
from ivr.aio.speech import Speech
from routing import models as m
from routing.aio.clock import IdMaker, SystemClock
from routing.aio.desk import Desk
from routing.aio.postgres import connect, organisation_id
from routing.models import T
from routing.site import Advisor, Hours, Number, Queue, Site
from tests.fakes.stage import Stage
from tests.ivr.walks import SHIPPED, SOUNDS

ALWAYS = Hours("bureau", dict.fromkeys(range(7), ("00:00-24:00",)))


def site() -> Site:
    names = ("general", "reclamations", "facturation")
    return Site(
        organisation="demo",
        name="Demo",
        hours=(ALWAYS,),
        queues=tuple(Queue(n, n, leave_key="*", announce_every_s=0.02) for n in names),
        advisors=(Advisor("ana", "Ana", "A", seats={"voice": 1}, phone="101"),),
        numbers=(Number("3631", "accueil"),),
    )


class House:
    def __init__(self, dsn: str, organisation: UUID, desk: Desk, cache: Path, ids: IdMaker) -> None:
        self.dsn = dsn
        self.organisation = organisation
        self.desk = desk
        self.ids = ids
        self.stage = Stage()
        self.events: list[m.Event] = []
        self.outcomes: list[str] = []
        desk.subscribe(self._heard)
        self.speech = Speech(sounds=[SOUNDS], cache=cache)
        self.lookups = Lookups()
        self.runner = VoiceRunner(
            switch=self.stage.switch,
            desk=self,
            site=site,
            forest=lambda: SHIPPED,
            clock=SystemClock(),
            ids=ids,
            organisation=organisation,
            speech=self.speech,
            lookups=self.lookups,
        )
        self.stage.switch.on_call(self.runner.accept)

    async def submit(self, submission: m.Submission) -> m.Outcome:
        outcome = await self.desk.submit(submission)
        if outcome.refused is not None:
            self.outcomes.append(f"{type(submission).__name__}: {outcome.refused}")
        return outcome

    def subscribe(self, hear: Callable[[m.Event], None]) -> Callable[[], None]:
        return self.desk.subscribe(hear)

    def ahead(self, interaction: UUID) -> dict[str, str] | None:
        return self.desk.ahead(interaction)

    def _heard(self, event: m.Event) -> None:
        self.events.append(event)
        self.stage.changed.set()

    def types(self) -> list[str]:
        return [str(e.type) for e in self.events]

    async def until(self, kind: T) -> m.Event:
        await self.stage.until(lambda: any(e.type is kind for e in self.events), str(kind))
        return next(e for e in self.events if e.type is kind)

    async def until_heard(self, leg: str, name: str) -> None:
        await self.stage.until(lambda: name in self.stage.sound.heard.get(leg, []), f"{leg} hears {name}")

    async def row(self) -> asyncpg.Record:
        connection = await connect(self.dsn)
        try:
            found = await connection.fetchrow("SELECT * FROM interaction")
            assert found is not None
            return found
        finally:
            await connection.close()


@asynccontextmanager
async def opened(dsn: str, cache: Path) -> AsyncIterator[House]:
    ids, clock = IdMaker(), SystemClock()
    connection = await connect(dsn)
    organisation = await organisation_id(connection, "demo", ids, clock.now())
    await connection.close()
    async with Desk(dsn, organisation, site(), clock, ids) as desk:
        house = House(dsn, organisation, desk, cache, ids)
        try:
            yield house
        finally:
            await house.runner.stop(within_s=0.0)
            await house.stage.switch.settled()
            await house.lookups.close()
            await house.speech.close()


async def test_a_caller_waits_hears_the_place_and_hangs_up(database: str, tmp_path: Path) -> None:
    async with opened(database, tmp_path) as house:
        leg = house.stage.invite("a")
        await house.until_heard(leg, "welcome")
        house.stage.press(leg, "22")
        await house.until(T.ENQUEUED)
        await house.until_heard(leg, "place-first")
        house.stage.hang_up(leg)
        await house.until(T.ABANDONED)
        await house.stage.until(lambda: house.runner.inside() == {})
        row = await house.row()
        assert (row["state"], row["queue"], row["language"], row["tree"]) == (
            "abandoned",
            "reclamations",
            "en",
            "accueil",
        )
        path = [(e.data["node"], e.data["exit"]) for e in house.events if e.type is T.NODE_LEFT]
        assert path == [
            ("language", "done"),
            ("notice", "done"),
            ("open", "open"),
            ("main", "2"),
            ("complaints", "hangup"),
        ]
        assert house.outcomes == []


async def test_a_caller_leaves_the_line_by_key_and_the_tree_ends_the_call(
    database: str, tmp_path: Path
) -> None:
    async with opened(database, tmp_path) as house:
        leg = house.stage.invite("a")
        await house.until_heard(leg, "welcome")
        house.stage.press(leg, "12")
        await house.until(T.ENQUEUED)
        await house.until_heard(leg, "music")
        house.stage.press(leg, "*")
        await house.until(T.ENDED)
        assert (await house.row())["state"] == "ended"
        assert house.outcomes == []


async def test_a_caller_is_taken_lost_taken_back_and_leaves(database: str, tmp_path: Path) -> None:
    async with opened(database, tmp_path) as house:
        for told in (
            m.ReachChanged(
                key=house.ids(),
                organisation=house.organisation,
                advisor="ana",
                channel="voice",
                reachable=True,
            ),
            m.PresenceSet(
                key=house.ids(), organisation=house.organisation, advisor="ana", presence=m.Presence.READY
            ),
        ):
            assert (await house.desk.submit(told)).refused is None
        leg = house.stage.invite("a")
        await house.until_heard(leg, "welcome")
        house.stage.press(leg, "12")
        offered = await house.until(T.OFFERED)
        assert offered.interaction is not None
        accepted = m.OfferAccepted(
            key=house.ids(), organisation=house.organisation, offer=UUID(str(offered.data["offer"]))
        )
        assert (await house.desk.submit(accepted)).refused is None
        house.stage.switch.take(leg, lambda event: None)
        await house.until(T.ACCEPTED)
        lost = m.AdvisorLost(
            key=house.ids(),
            organisation=house.organisation,
            interaction=offered.interaction,
            reason="no_media",
        )
        assert (await house.desk.submit(lost)).refused is None
        house.runner.take_back(leg, offered.interaction)
        await house.until_heard(leg, "requeued")
        house.stage.hang_up(leg)
        await house.until(T.ABANDONED)
        assert house.outcomes == []


async def test_thirty_callers_at_once_each_have_a_place(database: str, tmp_path: Path) -> None:
    async with opened(database, tmp_path) as house:
        legs = [house.stage.invite(f"c{i}", caller=f"+3361234{i:04}") for i in range(30)]
        for leg in legs:
            house.stage.press(leg, "12")
        await house.stage.until(lambda: house.types().count(T.ENQUEUED) == 30, "all wait")
        places = sorted(
            house.desk.place(e.interaction) or 0
            for e in house.events
            if e.type is T.ENQUEUED and e.interaction is not None
        )
        assert places == list(range(1, 31))
        for leg in legs:
            house.stage.hang_up(leg)
        await house.stage.until(lambda: house.types().count(T.ABANDONED) == 30, "all have left")
        assert house.outcomes == []
        await asyncio.wait_for(house.stage.switch.settled(), 5)
