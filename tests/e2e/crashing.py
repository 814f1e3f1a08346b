"""A process that runs whole servers in forked children, each killed at a crash point under calls.

`python -m tests.e2e.crashing DSN FOLDER FIRST LAST [POINT…]`: the seeds from FIRST to before LAST, one line of JSON a
life on standard output. A child is the server
as `config.wiring` opens it (SIP and HTTP on sockets, desk, trees, call control, PostgreSQL), with silence for the media
workers, and with its phones and callers beside it. Each life first looks through what the last one left.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import UUID

import argon2

from config import logs, wiring, written
from config import site as site_file
from config.commands import phone_secret
from config.settings import Settings, load
from cti.aio.control import NotPossible
from cti.aio.headless import HeadlessConsole, Refused
from cti.aio.sessions import SignIns
from cti.aio.talk import Phase
from media import wav
from routing import models as m
from routing.aio import crash, mail
from routing.aio.postgres import connect
from routing.crash import SPOKEN
from softphone_bridge.aio.phone import Call, Phone
from softphone_bridge.dialplan import Dialplan, Route
from tests.fakes import turns
from tests.fakes.forked import forked
from tests.fakes.silent import Silent
from tests.routing.record import check

AT_START = ("desk.elected", "desk.restored")  # passed once in a life, before any traffic
LIFE_S = 60.0
PASSWORD = "the same for everybody here"
trusting = functools.cache(mail.trusting)  # the system's authorities are read by the parent, for all lives
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ADVISORS = {"a1": "101", "a2": "102", "a3": "103"}
OFTEN = {name: 25 for name in SPOKEN if name.startswith("desk.") and name not in AT_START} | {
    "tree.closed": 3,
    "control.ended": 3,
}
SITE = """
organisation: {{id: {name}, name: Crash, time_zone: Europe/Paris, country: FR, languages: [fr],
  recording_notice: recording}}
skills: [fr]
hours: {{always: {{week: {{lun-dim: "00:00-24:00"}}}}}}
queues:
  general: {{name: General, needs: ["fr>=1"], hours: always, offer: {{voice: 15s}}, related_hold: {{voice: 1s}},
    wrapup_max: 5min,
    wrapup_codes: [done]}}
advisors:
  a1: {{first_name: A, last_name: One, skills: {{fr: 3}}, phone: "101"}}
  a2: {{first_name: A, last_name: Two, skills: {{fr: 3}}, phone: "102"}}
  a3: {{first_name: A, last_name: Three, skills: {{fr: 3}}, phone: "103"}}
trunks:
  loopback: {{hosts: ["127.0.0.0/8"], target: "127.0.0.1:5070;transport=udp", caller_id: "+33123456789",
    allow: ["\\\\+33[1-79][0-9]{{8}}"]}}
numbers: {{"3631": {{tree: direct, label: Line}}}}
wrapup_codes: {{done: {{labels: {{fr: Fait}}, solves: true}}}}
trees:
  direct:
    tree: direct
    title: Direct
    languages: [fr]
    start: hello
    error: bye
    nodes:
      hello: {{kind: say, say: welcome, next: line}}
      line: {{kind: queue, queue: general, say: hold, exits: {{left: bye, closing: bye, refused: bye, error: bye}}}}
      bye: {{kind: hangup, say: goodbye, outcome: served}}
"""


class House:
    """One life of a server, with everybody around it."""

    def __init__(self, server: wiring.Hotline, random: Random, told: Callable[[UUID], None]) -> None:
        self.server, self.random, self.told = server, random, told
        self.sip = ("127.0.0.1", server.sip.port)
        self.phones: dict[str, Phone] = {}
        self.consoles: dict[str, HeadlessConsole] = {}
        self.refusals = random.randrange(3)
        self.callers = 0
        self.dialling = asyncio.Lock()

    @property
    def silent(self) -> Silent:
        assert isinstance(self.server.media, Silent)
        return self.server.media

    async def until(self, what: str, true: Callable[[], Any]) -> None:
        """Raises when LIFE_S is over."""
        try:
            await turns.until(true)
        except asyncio.CancelledError:
            print(f"was waiting for {what}", *self.server.desk.interactions(), file=sys.stderr, sep="\n")
            print(*map(self.server.desk.advisor, ADVISORS), self.server.desk.held, file=sys.stderr, sep="\n")
            raise

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for advisor, account in ADVISORS.items():
                self.server.sip.forget(account)  # the phones of the last life were killed with it
                phone = Phone(user=account, password=PASSWORD, server=self.sip, on_call=self._rings)
                self.phones[advisor] = await stack.enter_async_context(phone)
                self.consoles[advisor] = HeadlessConsole(self.server.http_url, advisor, PASSWORD)
                stack.push_async_callback(self.consoles[advisor].close)
            await asyncio.gather(
                *(phone.register() for phone in self.phones.values()),
                *(console.__aenter__() for console in self.consoles.values()),
            )
            self.carrier = await stack.enter_async_context(Phone(on_call=lambda call: call.answer()))
            ways = Dialplan(
                [Route("loopback", f"127.0.0.1:{self.carrier.port};transport=udp", (r"\+33[1-79][0-9]{8}",))]
            )
            # also for the versions of the site that are applied later
            stack.enter_context(patch.object(self.server, "_dialplan", lambda: ways))
            self.server.switch.dialplan = ways
            foreman = asyncio.create_task(self._keep_ready())
            try:
                yield
            finally:
                foreman.cancel()
                await asyncio.gather(foreman, return_exceptions=True)

    def _rings(self, call: Call) -> None:
        if call.caller.startswith("+3360") and self.refusals > 0:
            self.refusals -= 1
            call.reject(486)
        else:
            asyncio.get_running_loop().call_soon(call.answer)

    async def _keep_ready(self) -> None:
        """Whoever was put into a pause comes back."""
        told: dict[str, Any] = {}  # the situation of each when last told to be ready

        def away() -> str | None:
            for advisor in self.consoles:
                row = self.server.desk.advisor(advisor)
                is_away = row is None or row.presence != "ready"
                if is_away and told.get(advisor) != self.situation(advisor):
                    return advisor
            return None

        while True:
            advisor = await turns.until(away)
            assert advisor is not None
            told[advisor] = self.situation(advisor)
            with contextlib.suppress(Refused):
                await self.consoles[advisor].set_presence("ready")

    def situation(self, advisor: str) -> Any:
        """All by which an advisor is refused something; another one is worth another try."""
        desk = self.server.desk
        registered = self.server.switch.registered(ADVISORS[advisor])
        mine = [row for row in desk.interactions() if row.advisor == advisor]
        return registered, desk.advisor(advisor), desk.reachable(advisor, "voice"), mine

    # ---- scenes --------------------------------------------------------------------------------------------------

    async def dial(self, phone: Phone) -> tuple[Call, UUID]:
        """A call from outside, answered by its tree."""
        async with self.dialling:
            known = {row.id for row in self.server.desk.interactions()}
            call = await phone.dial("sip:3631@{}:{}".format(*self.sip))
            found: list[UUID] = []

            def opened() -> bool:
                found[:] = [
                    row.id
                    for row in self.server.desk.interactions()
                    if row.id not in known and row.direction == "in"
                ]
                return bool(found)

            await self.until("the interaction", opened)
            return call, found[0]

    def caller(self) -> Phone:
        self.callers += 1
        return Phone(user=f"+33600000{self.callers:03}")

    def state(self, interaction: UUID) -> str:
        row = self.server.desk.interaction(interaction)
        return row.state if row is not None else "gone"

    def talking(self, interaction: UUID, but: str = "") -> bool:
        talk = self.server.control._talks.get(interaction)
        return talk is not None and talk.phase is Phase.TALKING and talk.advisor_leg != but

    async def act(self, interaction: UUID, verb: str, body: Any = None) -> None:
        row = self.server.desk.interaction(interaction)
        assert row is not None
        assert row.advisor is not None
        await self.consoles[row.advisor].post(f"/interactions/{interaction}/{verb}", body)

    async def finish(self, interaction: UUID) -> None:
        await self.until("the wrap-up", lambda: self.state(interaction) in ("wrapup", "ended"))
        if self.state(interaction) == "wrapup":
            await self.act(interaction, "wrapup", {"code": "done", "note": "A note."})
            self.told(interaction)
        assert self.state(interaction) == "ended"

    async def talk(self) -> None:
        async with self.caller() as phone:
            call, interaction = await self.dial(phone)
            await self.until("the talk", lambda: self.talking(interaction))
            await self.act(interaction, "hold")
            await self.act(interaction, "resume")
            if self.random.random() < 0.5:
                call.hang_up()
            else:
                await self.act(interaction, "hangup")
            await self.finish(interaction)

    async def lost(self) -> None:
        async with self.caller() as phone:
            call, interaction = await self.dial(phone)
            await self.until("the talk", lambda: self.talking(interaction))
            leg = self.server.control._talks[interaction].advisor_leg
            self.silent.lose(leg)
            await self.until("the second talk", lambda: self.talking(interaction, but=leg))
            call.hang_up()
            await self.finish(interaction)

    async def leaves(self) -> None:
        async with self.caller() as phone:
            call, interaction = await self.dial(phone)
            soon = self.random.choice(("qualifying", "waiting", "offered"))
            order = ("opened", "qualifying", "waiting", "offered")
            await self.until(soon, lambda: self.state(interaction) not in order[: order.index(soon)])
            call.hang_up()
            await self.until(
                "the end", lambda: self.state(interaction) in ("abandoned", "wrapup", "ended", "interrupted")
            )
            if self.state(interaction) == "wrapup":
                await self.finish(interaction)

    async def clicks(self) -> None:
        advisor = self.random.choice(list(ADVISORS))
        while True:
            before = self.situation(advisor)
            try:
                interaction = await self.server.control.call_out(advisor, "+33611223344")
            except NotPossible:
                await self.until("another situation", lambda: self.situation(advisor) != before)  # noqa: B023 - awaited here
                continue
            if await self.connected(interaction):
                break
        await self.act(interaction, "hangup")
        await self.finish(interaction)

    async def connected(self, interaction: UUID) -> bool:
        """A call out is talked on; False when it could not be placed."""
        await self.until(
            "the call out", lambda: self.talking(interaction) or self.state(interaction) in m.FINAL
        )
        return self.talking(interaction)

    async def changes_the_site(self) -> None:
        before = self.server.now.version
        site = replace(before.site, name=f"Crash {before.version}")
        made = await self.server.stores.sites.apply(site, base=None, by="a1")
        await self.until("the new site", lambda: self.server.now.version.version >= made.version)

    async def signs_in_again(self) -> None:
        async with HeadlessConsole(self.server.http_url, "a2", PASSWORD) as console:
            assert console.me["login"] == "a2"

    async def takes_the_phone_away_and_back(self) -> None:
        advisor = self.random.choice(list(ADVISORS))
        phone = self.phones[advisor]
        await phone.unregister()
        await self.until("the phone gone", lambda: not self.server.desk.reachable(advisor, "voice"))
        await phone.register()
        await self.until("the phone back", lambda: self.server.desk.reachable(advisor, "voice"))

    async def tour(self) -> None:
        """Past every crash point, in an order of chance, several at once."""
        scenes = [
            *(self.talk, self.talk, self.lost, self.leaves, self.leaves, self.clicks),
            *(self.changes_the_site, self.signs_in_again, self.takes_the_phone_away_and_back),
        ]
        self.random.shuffle(scenes)
        lanes = self.random.randint(2, 4)

        async def lane(n: int) -> None:
            for scene in scenes[n::lanes]:
                await scene()

        await asyncio.gather(*map(lane, range(lanes)))


async def look_through(server: wiring.Hotline, finished: set[UUID]) -> None:
    """What the last life left: the record is true, nothing is lost or twice, nobody is stuck."""
    desk = server.desk
    await server.control.settled()
    for row in desk.interactions():
        assert row.channel != "voice" or row.state == "wrapup", (row.id, row.state)
    assert desk.offers() == []
    for advisor in server.now.site.advisors:
        assert advisor.phone is not None
        registered = server.switch.registered(advisor.phone)  # in the last life
        assert registered or not desk.reachable(advisor.id, "voice"), "a phone that is not registered"
    for interaction in finished:
        known = desk.interaction(interaction)
        assert known is None or known.state == "ended", "an acknowledged wrap-up is lost"
    await check(desk._dsn, server.organisation, server.now.site)
    connection = await connect(desk._dsn)
    try:
        done = await connection.fetchval(
            "SELECT count(*) FROM interaction WHERE id = ANY ($1::uuid[]) AND state = 'ended'", list(finished)
        )
        stored = await connection.fetch(
            "SELECT d.path, r.duration_ms FROM recording_data d JOIN recording r ON r.id = d.recording"
            " WHERE r.organisation_id = $1",
            server.organisation,
        )
    finally:
        await connection.close()
    assert done == len(finished), "an acknowledged wrap-up is lost"
    folder = server.settings.data_dir
    files = {str(path.relative_to(folder)) for path in (folder / "recordings").rglob("*") if path.is_file()}
    assert {row["path"] for row in stored} == files, "recordings and their record"
    for row in stored:
        left, _ = wav.read_stereo((folder / row["path"]).read_bytes())
        assert len(left) == row["duration_ms"] * 8
        assert (folder / row["path"]).stat().st_mode & 0o777 == 0o600


async def everybody_can_work(house: House) -> None:
    """Each advisor gets a new call."""
    house.refusals = 0
    async with contextlib.AsyncExitStack() as stack:
        calls = []
        for _ in ADVISORS:
            phone = await stack.enter_async_context(house.caller())
            calls.append(await house.dial(phone))
        for _, interaction in calls:
            await house.until("a new talk", lambda: house.talking(interaction))  # noqa: B023 - awaited here
        for call, interaction in calls:
            call.hang_up()
            await house.finish(interaction)


async def _live(
    settings: Settings, site: Path, random: Random, finished: set[UUID], plan: str, pipe: int
) -> None:
    def told(interaction: UUID) -> None:
        os.write(pipe, interaction.bytes)

    logs.watch(asyncio.get_running_loop())
    point = plan.partition(":")[0]
    if point in AT_START:
        crash.plan(plan)
    async with asyncio.timeout(LIFE_S), wiring.opened(settings, site) as server:
        await look_through(server, finished)
        if not server.now.secrets:
            await _passwords(server)
        house = House(server, random, told)
        async with house.open():
            for row in server.desk.interactions():  # wrap-ups that the last life left
                await house.finish(row.id)
            if plan:
                crash.plan(plan)
                await house.tour()
            else:
                await everybody_can_work(house)


async def _passwords(server: wiring.Hotline) -> None:
    hashed = CHEAP.hash(PASSWORD)
    for advisor, account in ADVISORS.items():
        await server.stores.people.set_password_hash(advisor, hashed)
        await server.stores.accounts.set_secret(phone_secret(account, server.settings.sip_realm, PASSWORD))
    await server._look_at_secrets()


def life(
    settings: Settings, site: Path, checked: site_file.Checked, seed: int, finished: set[UUID], plan: str
) -> tuple[set[UUID], int]:
    """(finished interactions that were acknowledged, signal that ended it or 0) of one forked child."""

    def live(pipe: int) -> None:
        with (
            patch.object(wiring, "MediaLink", Silent),
            patch.object(wiring, "SignIns", functools.partial(SignIns, hasher=CHEAP)),
            patch.object(site_file, "check", lambda *_: checked),  # by the parent, for all lives
            patch.object(written, "trusting", trusting),
        ):
            turns.run(_live(settings, site, Random(seed), finished, plan, pipe))

    return forked(live, f"{settings.data_dir.name}, {plan}, life's seed {seed}")


def run(dsn: str, folder: Path, seed: int, points: tuple[str, ...]) -> None:
    """One organisation killed at each of the points, in an order of chance."""
    random, name = Random(seed), f"crash-{seed}"
    home = folder / name
    home.mkdir(parents=True)
    site = home / "site.yaml"
    site.write_text(SITE.format(name=name), "utf-8")
    settings = load(
        {
            "MONOFIL_DATA_DIR": str(home),
            "MONOFIL_DATABASE_URL": dsn,
            "MONOFIL_HTTP_PORT": "0",
            "MONOFIL_SIP_PORT": "0",
        }
    )
    checked = site_file.check(site, site_file.shipped_sounds())
    finished: set[UUID] = set()
    order = list(points)
    random.shuffle(order)
    for point in order:
        plan = f"{point}:{random.randint(1, OFTEN.get(point, 1))}"
        more, ended = life(settings, site, checked, random.randrange(2**32), finished, plan)
        finished |= more
        print(json.dumps({"seed": seed, "plan": plan, "point": point, "signal": ended}), flush=True)
    life(settings, site, checked, 0, finished, "")


def main() -> None:
    dsn, folder, first, last, *points = sys.argv[1:]
    everywhere = tuple(points) or SPOKEN
    logs.set_up("error", "json")
    trusting(None)
    gc.freeze()
    for seed in range(int(first), int(last)):
        run(dsn, Path(folder), seed, everywhere)


if __name__ == "__main__":
    main()
