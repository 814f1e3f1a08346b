"""Calls in trees, on the real switch: from the INVITE until somebody takes the leg, or it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from ivr.aio.lookup import Lookups
from ivr.aio.runner import VoiceRunner
from ivr.aio.speech import Speech
from ivr.events import Say
from ivr.tree import Forest, plant
from routing.aio.clock import IdMaker, SystemClock
from routing.models import (
    CustomerLeft,
    Enqueued,
    FactsLearned,
    InteractionOpened,
    Interrupted,
    NodeLeft,
    Submission,
    T,
    TreeEnded,
    TreeEntered,
)
from routing.site import Hours, Number, Queue, Site
from softphone_bridge.events import Cause, LegEvent
from softphone_bridge.signals import Target
from tests.fakes.desk import FakeDesk
from tests.fakes.stage import Stage
from tests.ivr.walks import SHIPPED, SOUNDS, forest, parse_text

TREE = """
    tree: accueil
    languages: [fr, en]
    start: language
    error: bye
    nodes:
      language: {kind: language, keys: {1: fr, 2: en}, say: welcome, next: menu, timeout_s: 0.05}
      menu:
        kind: menu
        say: closed
        keys: {1: wait, 2: move, 3: look, 4: notice, 5: patient, 6: recall}
        exits: {failed: bye}
        timeout_s: 0.05
      wait:
        kind: queue
        queue: general
        say: connecting
        exits: {left: bye, closing: bye, refused: full}
      patient: {kind: queue, queue: general, exits: {closing: bye, overflow: full}}
      notice: {kind: say, say: recording, legal: true, next: wait}
      move: {kind: transfer, phone: "101", exits: {failed: bye}}
      look:
        kind: lookup
        url: "http://127.0.0.1:1/"
        into: x
        timeout_s: 0.2
        exits: {ok: bye, empty: bye, timeout: wait, error: wait}
      recall: {kind: language, keys: {1: fr, 2: en}, known: true, say: welcome, next: wait, timeout_s: 0.05}
      full: {kind: hangup, say: full, outcome: full}
      bye: {kind: hangup, say: goodbye}
"""


class World:
    """A runner with everything around it."""

    def __init__(self, trees: Forest, cache: Path) -> None:
        self.stage = Stage()
        self.organisation = uuid4()
        self.desk = FakeDesk(self.organisation, self.stage.changed)
        self.trees = trees
        always = dict.fromkeys(range(7), ("00:00-24:00",))
        self.site = Site(
            organisation="demo",
            name="Demo",
            hours=(Hours("bureau", always),),
            queues=tuple(
                Queue(name, name, leave_key="*", announce_every_s=0.02)
                for name in ("general", "reclamations", "facturation")
            ),
            numbers=(Number("3631", "accueil"), Number("3639", "nowhere")),
        )
        self.speech = Speech(sounds=[SOUNDS], cache=cache)
        self.lookups = Lookups(allow=["127.0.0.1"])
        self.runner = VoiceRunner(
            switch=self.stage.switch,
            desk=self.desk,
            site=lambda: self.site,
            forest=lambda: self.trees,
            clock=SystemClock(),
            ids=IdMaker(),
            organisation=self.organisation,
            speech=self.speech,
            lookups=self.lookups,
        )
        self.stage.switch.on_call(self.runner.accept)

    async def close(self) -> None:
        await self.runner.stop(within_s=0.0)
        await self.stage.switch.settled()
        await self.lookups.close()
        await self.speech.close()

    def heard(self, leg: str) -> list[str]:
        return self.stage.sound.heard.get(leg, [])

    async def until_heard(self, leg: str, name: str, times: int = 1) -> None:
        await self.stage.until(lambda: self.heard(leg).count(name) >= times, f"{leg} hears {name}")

    async def until_told(self, kind: type[Submission], times: int = 1) -> None:
        await self.stage.until(lambda: len(self.desk.of(kind)) >= times, f"the desk is told {kind.__name__}")

    async def until_over(self, leg: str) -> None:
        await self.stage.until(lambda: leg in self.stage.sip.ended or leg not in self.stage.sip.legs)
        await asyncio.wait_for(self.stage.switch.settled(), 5)

    @property
    def interaction(self) -> UUID:
        return self.desk.of(InteractionOpened)[0].interaction

    async def in_queue(self, leg: str, keys: str = "21") -> None:
        """Walk to the queue, hear music."""
        await self.until_heard(leg, "welcome")
        self.stage.press(leg, keys)
        await self.until_heard(leg, "music")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    it = World(forest(TREE), tmp_path / "cache")
    yield it
    await it.close()


def nodes(world: World) -> list[str]:
    return [f"{n.node}:{n.exit}" for n in world.desk.of(NodeLeft)]


async def test_a_call_is_opened_answered_walked_and_enqueued(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    opened = world.desk.of(InteractionOpened)[0]
    assert (opened.channel, opened.direction, opened.call) == ("voice", "in", "a")
    assert (opened.address, opened.name, opened.dialled, opened.trunk) == (
        "+33612345678",
        "Jeanne",
        "3631",
        "loopback",
    )
    assert isinstance(world.desk.told[0], InteractionOpened)
    assert world.desk.of(TreeEntered)[0].tree == "accueil"
    assert nodes(world) == ["language:done", "menu:1"]
    assert [n.keys for n in world.desk.of(NodeLeft)] == ["2", "1"]
    queued = world.desk.of(Enqueued)[0]
    assert (queued.queue, queued.language, queued.interaction) == ("general", "en", opened.interaction)
    assert {"language": "en"} in [dict(f.facts) for f in world.desk.of(FactsLearned)]
    assert world.runner.inside() == {"accueil": {1: {"wait": 1}}}
    line = world.runner.line(opened.interaction)
    assert line is not None
    assert (line.leg, line.language, line.queue) == (leg, "en", "general")


async def test_the_recording_notice_is_heard_before_the_queue_unless_the_tree_has_said_it(
    world: World,
) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg, "11")
    assert world.heard(leg) == ["welcome", "closed", "recording", "connecting", "music"]
    other = world.stage.invite("b")
    await world.in_queue(other, "14")
    assert world.heard(other) == ["welcome", "closed", "recording", "connecting", "music"]


async def test_nobody_is_enqueued_before_the_notice_has_been_heard_to_its_end(world: World) -> None:
    leg = world.stage.invite("a")
    await world.until_heard(leg, "welcome")
    world.stage.sound.patient = True
    world.stage.press(leg, "11")
    await world.until_heard(leg, "recording")
    world.stage.press(leg, "99")
    assert world.desk.of(Enqueued) == []
    world.stage.sound.finish(leg)
    await world.until_told(Enqueued)


async def test_the_place_in_line_is_told_and_never_a_worse_one(world: World) -> None:
    world.desk.places = [3, 5, 2, 1]
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    await world.until_heard(leg, "place-first")
    told = [n for n in world.heard(leg) if n.startswith(("number", "place-"))]
    assert told[:3] == ["number-3", "number-2", "place-first"]
    learned = [dict(f.facts) for f in world.desk.of(FactsLearned)]
    worse = {"place_told": 3, "place_now": 5, "place_why": "priority"}
    assert worse in learned, "the record says why 5 was not told"
    await world.until_heard(leg, "music", 4)


async def test_the_carriers_word_on_the_number_reaches_the_desk(world: World) -> None:
    world.stage.invite("a", attestation_info="B")
    await world.until_told(InteractionOpened)
    assert world.desk.of(InteractionOpened)[0].attestation == "B"


async def test_a_wait_that_flows_over_goes_on_with_the_other_queues_music(world: World) -> None:
    queues = (world.site.queues[0], replace(world.site.queues[1], music="ringback.wav"), world.site.queues[2])
    world.site = replace(world.site, queues=queues)
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    world.desk.publish(T.ENQUEUED, world.interaction, queue="reclamations", overflow_from="general")
    await world.until_heard(leg, "ringback")
    line = world.runner.line(world.interaction)
    assert line is not None
    assert line.queue == "reclamations"
    assert world.desk.of(CustomerLeft) == []


async def test_a_wait_that_flows_over_leaves_by_the_trees_exit_when_there_is_one(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg, "15")
    world.desk.publish(T.ENQUEUED, world.interaction, queue="reclamations", overflow_from="general")
    await world.until_over(leg)
    assert [c.how for c in world.desk.of(CustomerLeft)] == ["overflow"]
    assert nodes(world)[-2:] == ["patient:overflow", "full:full"]


async def test_a_contact_whose_language_is_known_is_not_asked(world: World) -> None:
    async def on_the_card(interaction: UUID) -> str | None:
        return "en"

    world.runner.known_language = on_the_card
    leg = world.stage.invite("a")
    await world.in_queue(leg, "16")
    assert nodes(world) == ["language:done", "menu:6", "recall:done"]
    assert world.desk.of(Enqueued)[0].language == "en"


async def test_a_caller_is_asked_when_the_known_language_cannot_be_read(world: World) -> None:
    async def broken(interaction: UUID) -> str | None:
        raise OSError("the database is away")

    world.runner.known_language = broken
    leg = world.stage.invite("a")
    await world.until_heard(leg, "welcome")
    world.stage.press(leg, "16")
    await world.until_heard(leg, "welcome", 2)
    world.stage.press(leg, "2")
    await world.until_told(Enqueued)
    assert world.desk.of(Enqueued)[0].language == "en"


async def test_a_key_leaves_the_queue_and_the_tree_goes_on(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    world.stage.press(leg, "*")
    await world.until_over(leg)
    assert [c.how for c in world.desk.of(CustomerLeft)] == ["key"]
    assert world.heard(leg)[-1] == "goodbye"
    assert world.desk.of(TreeEnded)[0].outcome == "served"


async def test_a_caller_who_hangs_up_is_told_to_the_desk_at_once(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    world.stage.hang_up(leg)
    await asyncio.sleep(0)
    assert [c.how for c in world.desk.of(CustomerLeft)] == ["hangup"], "in the very next turn of the loop"
    await world.stage.until(lambda: "wait:hangup" in nodes(world))
    await world.stage.until(lambda: world.runner.inside() == {})
    assert world.desk.of(TreeEnded) == []


async def test_a_caller_who_hangs_up_before_the_answer_is_opened_first_and_then_gone(world: World) -> None:
    leg = world.stage.invite("a")
    world.stage.hang_up(leg, Cause.CANCELLED)
    await world.until_told(CustomerLeft)
    assert isinstance(world.desk.told[0], InteractionOpened)
    await world.stage.until(lambda: world.runner.line(world.interaction) is None)


async def test_a_key_stops_the_announcement_within_200_ms(world: World) -> None:
    world.stage.sound.patient = True
    leg = world.stage.invite("a")
    await world.until_heard(leg, "welcome")
    began = time.perf_counter()
    world.stage.press(leg, "1")
    await world.until_heard(leg, "closed")
    assert time.perf_counter() - began < 0.2


async def test_whoever_takes_the_leg_has_it_alone(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    others: list[LegEvent] = []
    world.stage.switch.take(leg, others.append)
    before = len(world.heard(leg))
    world.stage.press(leg, "*")
    await world.stage.until(lambda: "wait:accepted" in nodes(world))
    world.stage.hang_up(leg)
    await world.stage.until(lambda: world.runner.inside() == {})
    assert world.desk.of(CustomerLeft) == [], "its new owner says so"
    assert len(world.heard(leg)) == before
    assert len(others) == 2
    world.desk.publish(T.ENDED, world.interaction)
    assert world.runner.line(world.interaction) is None


async def test_a_caller_whose_advisor_is_lost_comes_back_to_the_music(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    others: list[LegEvent] = []
    world.stage.switch.take(leg, others.append)
    world.runner.take_back(leg, world.interaction)
    await world.until_heard(leg, "requeued")
    await world.until_heard(leg, "music", 2)
    assert world.runner.inside() == {"accueil": {1: {"wait": 1}}}
    world.stage.hang_up(leg)
    await world.until_told(CustomerLeft)


async def test_a_requeued_caller_who_is_already_gone_has_left(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    world.stage.switch.take(leg, lambda event: None)
    world.stage.hang_up(leg)
    world.runner.take_back(leg, world.interaction)
    await world.until_told(CustomerLeft)


async def test_closing_with_customers_inside_leads_to_the_closing_exit(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    world.desk.publish(T.LEFT_QUEUE, world.interaction, queue="general", how="closing")
    await world.until_over(leg)
    assert nodes(world)[-2:] == ["wait:closing", "bye:served"]


async def test_an_overflow_that_the_desk_has_moved_goes_on_waiting(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    world.desk.publish(T.ENQUEUED, world.interaction, queue="facturation")
    await world.stage.until(
        lambda: getattr(world.runner.line(world.interaction), "queue", None) == "facturation"
    )
    assert world.desk.of(TreeEnded) == []


async def test_a_desk_that_refuses_the_queue_leads_to_the_refused_exit(world: World) -> None:
    world.desk.refuse[Enqueued] = "full"
    leg = world.stage.invite("a")
    await world.until_heard(leg, "welcome")
    world.stage.press(leg, "21")
    await world.until_over(leg)
    assert world.desk.of(TreeEnded)[0].outcome == "full"
    assert "full" in world.heard(leg)


async def test_a_desk_that_refuses_the_call_is_apologised_for(world: World) -> None:
    world.desk.refuse[InteractionOpened] = "overloaded"
    leg = world.stage.invite("a")
    await world.until_over(leg)
    assert world.heard(leg)[-1] == "apology"
    assert world.desk.of(CustomerLeft) == []


async def test_a_frozen_database_does_not_stop_the_tree(world: World) -> None:
    world.desk.open.clear()
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    world.desk.open.set()


async def test_a_fault_of_ours_ends_that_call_with_an_apology_in_its_language(world: World) -> None:
    leg = world.stage.invite("a")
    await world.until_heard(leg, "welcome")

    async def broken(say: Say) -> list[str]:
        raise RuntimeError("no engine")

    world.speech.files = broken  # type: ignore[method-assign]
    world.stage.press(leg, "2")
    await world.until_over(leg)
    assert world.heard(leg)[-1] == "apology"
    assert world.desk.of(Interrupted)[0].reason == "internal fault"
    assert world.runner.failures == 1


async def test_a_lost_media_worker_interrupts_its_calls(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    world.stage.lose_worker(leg)
    await world.until_told(Interrupted)
    assert world.desk.of(CustomerLeft) == []


async def test_no_port_for_sound_interrupts_the_call(world: World) -> None:
    world.stage.sound.full = True
    world.stage.invite("a")
    await world.until_told(Interrupted)
    await world.stage.until(lambda: world.runner.line(world.interaction) is None)


async def test_a_look_up_whose_server_is_down_takes_the_error_branch_in_time(world: World) -> None:
    leg = world.stage.invite("a")
    await world.until_heard(leg, "welcome")
    began = time.perf_counter()
    world.stage.press(leg, "23")
    await world.until_told(Enqueued)
    assert time.perf_counter() - began < 2
    assert "look:error" in nodes(world)
    await world.until_heard(leg, "music")
    drawn = {n["id"]: n for n in world.runner.picture(world.trees.trees["accueil"])["nodes"]}
    assert drawn["look"]["lookup"]["failures"] == 1
    assert drawn["look"]["figures"]["failed"] == 1
    assert drawn["wait"]["inside"] == 1


async def test_a_transfer_joins_the_legs_and_ends_when_one_does(world: World) -> None:
    world.stage.sip.phones["101"] = (Target("sip:101@127.0.0.1"),)
    leg = world.stage.invite("a")
    await world.until_heard(leg, "welcome")
    world.stage.press(leg, "22")
    await world.stage.until(lambda: bool(world.stage.sip.placed))
    other = world.stage.sip.placed[0]
    world.stage.pick_up(other)
    await world.stage.until(lambda: frozenset((leg, other)) in world.stage.sound.joined)
    world.stage.hang_up(other)
    await world.until_over(leg)
    assert world.desk.of(TreeEnded)[0].outcome == "transferred"


async def test_a_transfer_to_a_phone_that_is_away_goes_on_in_the_tree(world: World) -> None:
    leg = world.stage.invite("a")
    await world.until_heard(leg, "welcome")
    world.stage.press(leg, "22")
    await world.until_over(leg)
    assert "move:failed" in nodes(world)


async def test_calls_inside_finish_on_their_version_and_new_ones_take_the_new(world: World) -> None:
    old = world.stage.invite("a")
    await world.until_heard(old, "welcome")
    documents = {"accueil": TREE.replace("say: closed", "say: nobody")}
    world.trees = plant({"accueil": parse_text(documents["accueil"])}, {"accueil": 2})
    new = world.stage.invite("b")
    await world.until_heard(new, "welcome")
    assert {v: sum(n.values()) for v, n in world.runner.inside()["accueil"].items()} == {1: 1, 2: 1}
    world.stage.press(old, "2")
    world.stage.press(new, "2")
    await world.until_heard(old, "closed")
    await world.until_heard(new, "nobody")
    assert {e.version for e in world.desk.of(TreeEntered)} == {1, 2}


async def test_an_unknown_number_and_a_number_without_a_tree_are_refused(world: World) -> None:
    for name, dialled in (("a", "000"), ("b", "3639")):
        leg = world.stage.invite(name, dialled=dialled)
        await world.stage.until(lambda leg=leg: leg in world.stage.sip.rejected)  # type: ignore[misc]
        assert world.stage.sip.rejected[leg] == 404
    assert world.desk.told == []


async def test_silence_all_the_way_ends_the_call_politely(world: World) -> None:
    leg = world.stage.invite("a")
    await world.until_over(leg)
    assert world.heard(leg)[-1] == "goodbye"
    assert nodes(world) == ["language:done", "menu:no_input", "bye:served"]


async def test_stopping_ends_what_is_left_and_refuses_what_comes(world: World) -> None:
    leg = world.stage.invite("a")
    await world.in_queue(leg)
    await world.runner.stop(within_s=0.01)
    assert world.desk.of(Interrupted)[0].reason == "stopping"
    late = world.stage.invite("b")
    await world.stage.until(lambda: late in world.stage.sip.rejected)
    world.runner._unsubscribe = lambda: None


async def test_a_hundred_calls_walk_side_by_side(world: World) -> None:
    legs = [world.stage.invite(f"c{i}") for i in range(100)]
    for leg in legs:
        world.stage.press(leg, "21")
    await world.until_told(Enqueued, 100)
    assert world.runner.inside() == {"accueil": {1: {"wait": 100}}}
    for leg in legs:
        world.stage.hang_up(leg)
    await world.until_told(CustomerLeft, 100)
    await world.stage.until(lambda: world.runner.inside() == {})
    rows = {r.node: r for r in world.runner.evidence.rows("accueil", 1)}
    assert rows["wait"].hung_up == rows["menu"].exits["1"] == 100


async def test_the_shipped_trees_lead_a_caller_to_an_advisor(tmp_path: Path) -> None:
    world = World(SHIPPED, tmp_path / "cache")
    leg = world.stage.invite("a")
    await world.until_heard(leg, "welcome")
    world.stage.press(leg, "12")
    await world.until_heard(leg, "music")
    assert world.desk.of(Enqueued)[0].queue == "reclamations"
    assert "recording" in world.heard(leg)
    await world.close()
