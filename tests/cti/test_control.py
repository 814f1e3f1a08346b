"""Call control: pop before ring, answer, hold, hang up, and everything that goes wrong in between."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cti.aio.control import NotPossible
from routing import models as m
from routing.models import T
from softphone_bridge.events import Cause
from tests.cti.seat import Seat, seat
from tests.routing import hotline as desks


def quick(**queue: Any) -> Any:
    """The test site with rules of its own for the queue `general`."""
    site = desks.site()
    return replace(site, queues=(replace(site.queues[0], **queue), *site.queues[1:]))


def kinds(at: Seat, call: Any) -> list[str]:
    return at.line.types(call)


async def test_the_phone_rings_after_the_page_has_shown_the_pop(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path) as at:
        call = await at.waiting.call("06 11 22 33 44")
        leg = await at.rings(call)
        placed = at.switch.placed[0]
        assert placed.to.account == "101"
        assert placed.near == f"{call}.1"
        assert placed.caller == "06 11 22 33 44"
        assert placed.headers == {"X-Monofil-Interaction": str(call), "X-Monofil-Call": str(call)}
        await at.control.settled()
        shown = [e for e in at.line.heard if e.type is T.POP_SHOWN]
        assert [e.data["missed"] for e in shown] == [False]
        assert at.control.pops_shown == 1
        assert leg == f"{call}.2"


@pytest.mark.parametrize("pages", ["silent", "closed"])
async def test_a_page_that_says_nothing_delays_the_ring_a_little_and_is_counted(
    database: str, tmp_path: Path, pages: str
) -> None:
    async with seat(database, tmp_path, pages=pages) as at:
        call = await at.waiting.call()
        await at.rings(call)
        await at.control.settled()
        [shown] = [e for e in at.line.heard if e.type is T.POP_SHOWN]
        assert shown.data["missed"] is True
        assert (shown.data["after_ms"] >= 250) == (pages == "silent")
        assert at.control.pops_missed == 1


async def test_a_pop_that_opens_at_the_answer_does_not_hold_the_ring_back(
    database: str, tmp_path: Path
) -> None:
    async with seat(database, tmp_path, pages="silent", rules=quick(pop="answer"), pop_wait_s=60.0) as at:
        await at.rings(await at.waiting.call())
        assert at.pages.expected == []


async def test_answering_joins_after_both_have_heard_the_recording_notice(
    database: str, tmp_path: Path
) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, leg = await at.talks()
        assert at.waiting.taken == [call]
        assert at.line.state(call) == "active"
        done = [c for c in at.switch.commands if c[0] in {"take", "play", "record", "join"}]
        assert done == [
            ("take", caller),
            ("play", caller, "fr/recording"),
            ("play", leg, "fr/recording"),
            ("record", caller, leg),
            ("join", caller, leg),
        ]
        assert at.control.recording(call)


async def test_a_queue_that_does_not_record_joins_at_once_without_notice(
    database: str, tmp_path: Path
) -> None:
    async with seat(database, tmp_path, rules=quick(record=False)) as at:
        call, _, _ = await at.talks()
        assert not at.switch.did("play", "record")
        assert not at.control.recording(call)


async def test_a_caller_who_leaves_while_the_phone_rings_cancels_it_in_the_same_step(
    database: str, tmp_path: Path
) -> None:
    async with seat(database, tmp_path) as at:
        call = await at.waiting.call()
        leg = await at.rings(call)
        at.switch.end(f"{call}.1")
        assert leg not in at.switch.legs  # no awaiting in between
        await at.state(call, "abandoned")
        await at.control.settled()
        assert [e.data["how"] for e in at.line.heard if e.type is T.OFFER_ENDED] == ["cancelled"]


async def test_a_caller_who_leaves_before_the_ring_makes_no_phone_ring(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path, pages="silent") as at:
        call = await at.waiting.call()
        at.switch.end(f"{call}.1")
        await at.state(call, "abandoned")
        await at.control.settled()
        assert at.switch.placed == []


@pytest.mark.parametrize(
    ("status", "cause", "how"),
    [
        (486, Cause.REJECTED, "missed"),
        (603, Cause.REJECTED, "refused"),
        (480, Cause.REJECTED, "missed"),
        (408, Cause.NO_ANSWER, "missed"),
        (500, Cause.REJECTED, "missed"),
    ],
)
async def test_a_phone_that_says_no_gives_the_offer_back(
    database: str, tmp_path: Path, status: int, cause: Cause, how: str
) -> None:
    async with seat(database, tmp_path) as at:
        at.control.reflex_s = 0.0
        call = await at.waiting.call()
        at.switch.end(await at.rings(call), cause, status)
        await at.control.settled()
        [ended] = [e for e in at.line.heard if e.type is T.OFFER_ENDED][:1]
        assert ended.data["how"] == how
        assert call in at.waiting.legs  # the caller hears music still


async def test_a_phone_that_refuses_by_itself_is_a_miss_so_that_it_cannot_ring_for_ever(
    database: str, tmp_path: Path
) -> None:
    async with seat(database, tmp_path) as at:
        at.control.reflex_s = 60.0
        call = await at.waiting.call()
        at.switch.end(await at.rings(call), Cause.REJECTED, 603)
        await at.control.settled()
        [ended] = [e for e in at.line.heard if e.type is T.OFFER_ENDED][:1]
        assert ended.data["how"] == "missed"


async def test_a_phone_that_is_not_registered_gives_the_offer_back_and_says_why(
    database: str, tmp_path: Path
) -> None:
    async with seat(database, tmp_path) as at:
        at.switch.phones.discard("101")
        call = await at.waiting.call()
        await at.switch.until(lambda: any(e.type is T.OFFER_ENDED for e in at.line.heard))
        await at.control.settled()
        [ended] = [e for e in at.line.heard if e.type is T.OFFER_ENDED][:1]
        assert ended.data["reason"] == "not_registered"
        assert ended.interaction == call


async def test_an_offer_that_expires_stops_the_ring_and_a_late_answer_is_hung_up(
    database: str, tmp_path: Path
) -> None:
    async with seat(database, tmp_path) as at:
        call = await at.waiting.call()
        leg = await at.rings(call)
        phone = at.switch.legs[leg]
        await at.line.later(16)
        await at.switch.until(lambda: leg not in at.switch.legs)
        at.switch.legs[leg] = phone  # the 200 crossed our CANCEL
        at.switch.pick_up(leg)
        assert leg not in at.switch.legs
        await at.control.settled()
        assert T.ACCEPTED not in {e.type for e in at.line.heard if e.interaction == call}


async def test_hold_plays_music_at_once_and_resume_joins_again(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, leg = await at.talks()
        await at.control.hold(call, "a1")
        assert at.switch.legs[caller].joined is None
        assert at.switch.commands[-1] == ("play", caller, "fr/music.wav", "loop")
        row = at.line.desk.interaction(call)
        assert row is not None
        assert row.held
        with pytest.raises(NotPossible, match="not_talking"):
            await at.control.hold(call, "a1")
        await at.control.resume(call, "a1")
        assert at.switch.legs[caller].joined == leg
        with pytest.raises(NotPossible, match="not_held"):
            await at.control.resume(call, "a1")
        for other in (at.control.hold, at.control.resume, at.control.hang_up):
            with pytest.raises(NotPossible, match="not_your_call"):
                await other(call, "a2")


async def test_hold_on_the_phone_itself_is_the_same_hold(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, leg = await at.talks()
        at.switch.hold(leg, True)
        await at.control.settled()
        assert kinds(at, call)[-1] == "interaction.held"
        assert at.switch.legs[caller].playing is not None
        at.switch.hold(leg, False)
        await at.control.settled()
        assert kinds(at, call)[-1] == "interaction.resumed"
        assert at.switch.legs[caller].joined == leg


async def test_a_long_hold_rings_back_the_advisor(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path, hold_reminder_s=0.02) as at:
        call, _, leg = await at.talks()
        await at.control.hold(call, "a1")
        await at.switch.until(lambda: "held_long" in at.pages.codes())
        assert ("play", leg, "fr/hold-reminder.wav") in at.switch.commands


@pytest.mark.parametrize("who", ["caller", "advisor", "page"])
async def test_whoever_hangs_up_ends_the_talk_and_wrapup_begins(
    database: str, tmp_path: Path, who: str
) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, leg = await at.talks()
        if who == "page":
            await at.control.hang_up(call, "a1")
        else:
            at.switch.end(caller if who == "caller" else leg)
        await at.control.settled()
        assert at.switch.legs == {}
        assert at.line.state(call) == "wrapup"
        [ended] = [e for e in at.line.heard if e.type is T.TALK_ENDED]
        assert ended.data["by"] == ("customer" if who == "caller" else "advisor")
        [stored] = await at.stores.recordings.of_interaction(call)
        assert stored.path.startswith("recordings/2026/11/")
        assert stored.complete


async def test_a_caller_gone_on_hold_frees_the_advisor_at_once(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, leg = await at.talks()
        await at.control.hold(call, "a1")
        at.switch.end(caller)
        assert leg not in at.switch.legs
        await at.control.settled()
        assert at.line.state(call) == "wrapup"


@pytest.mark.parametrize("cause", [Cause.NO_MEDIA, Cause.NO_ACK, Cause.EXPIRED, Cause.FAILED])
async def test_a_lost_advisor_gives_the_caller_music_and_the_old_place(
    database: str, tmp_path: Path, cause: Cause
) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, leg = await at.talks()
        at.switch.end(leg, cause)
        assert at.switch.legs[caller].playing == (2, ("fr/music.wav",), True)
        await at.switch.until(lambda: at.waiting.back == [call])
        await at.control.settled()
        requeued = [e for e in at.line.heard if e.type is T.REQUEUED]
        assert [e.data["reason"] for e in requeued] == [str(cause)]
        assert at.line.state(call) in {"waiting", "offered"}
        assert "advisor_leg_lost" in at.pages.codes()
        at.switch.end(caller)  # and it is the runner's again: it hears the end
        await at.state(call, "abandoned")
        await at.control.settled()


async def test_after_a_loss_the_next_advisor_gets_the_same_call_on_a_new_leg(
    database: str, tmp_path: Path
) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, leg = await at.talks()
        await at.line.ready("a2")
        at.switch.end(leg, Cause.NO_MEDIA)
        again = await at.rings(call, 3)
        assert at.switch.placed[-1].to.account == "102"
        at.switch.pick_up(again)
        await at.switch.until(lambda: at.switch.legs[caller].joined == again)
        assert len(at.switch.recordings) == 1
        stored = await at.stores.recordings.of_interaction(call)
        assert len(stored) == 1  # the first part; the second is being made


async def test_a_caller_who_leaves_while_going_back_is_not_kept(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, leg = await at.talks()
        at.switch.end(leg, Cause.FAILED)
        at.switch.end(caller, Cause.FAILED)  # the worker that had both has died
        await at.control.settled()
        await at.switch.until(lambda: not at.waiting.tasks)
        await at.control.settled()
        assert at.line.state(call) in {"abandoned", "wrapup", "ended"}
        assert at.switch.legs == {}


async def test_the_page_is_told_when_the_caller_is_not_heard(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, leg = await at.talks()
        at.switch.voice(leg, True)
        at.switch.voice(caller, False, 6.0)
        told = [data for _, kind, data in at.pages.told if kind == "call.quality"]
        assert told == []  # silent for six seconds, but joined a moment ago
        at.control._talks[call].hearing.caller.since_s -= 6.0  # type: ignore[union-attr]
        at.switch.voice(caller, False, 6.0)
        told = [data for _, kind, data in at.pages.told if kind == "call.quality"]
        assert [t["what"] for t in told] == ["caller_not_heard"]
        at.switch.voice(caller, True)
        told = [data for _, kind, data in at.pages.told if kind == "call.quality"]
        assert told[-1]["what"] == "ok"


async def test_a_mistake_of_ours_ends_its_own_call_with_an_apology(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seat(database, tmp_path) as at:
        monkeypatch.setattr(at.control.recorder, "begin", lambda talk: 1 / 0)
        call = await at.waiting.call()
        caller = at.waiting.legs[call]
        at.switch.pick_up(await at.rings(call))
        await at.state(call, "interrupted")
        assert ("play", caller, "fr/apology") in at.switch.commands
        monkeypatch.undo()
        at.switch.end(caller)
        other, _, _ = await at.talks("+33699887766")
        assert at.line.state(other) == "active"


async def test_recordings_lie_in_a_closed_folder_under_names_nobody_guesses(
    database: str, tmp_path: Path
) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, _ = await at.talks()
        [(_, path, left, right, _)] = at.switch.recordings.values()
        Path(path).write_bytes(b"RIFF")
        at.switch.end(caller)
        await at.control.settled()
        assert (left, right) == (f"{call}.1", f"{call}.2")
        assert len(Path(path).stem) == 32
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "recordings").stat().st_mode) == 0o700


async def test_the_end_of_a_talk_is_said_again_to_a_desk_that_is_full(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seat(database, tmp_path) as at:
        call, caller, _ = await at.talks()
        monkeypatch.setattr("routing.aio.desk.HELD_MAX", 0)
        monkeypatch.setattr("cti.aio.reports.AGAIN_S", (0.0,) * 50)
        at.switch.end(caller)
        await asyncio.sleep(0)
        monkeypatch.undo()
        await at.control.settled()
        assert at.line.state(call) == "wrapup"


def test_every_sound_that_is_asked_for_by_name_is_shipped() -> None:
    sounds = Path(__file__).parents[2] / "config" / "sounds"
    for name in ("ringback.wav", "hold-reminder.wav", "music.wav"):
        assert (sounds / name).is_file(), name
    for language in ("fr", "en"):
        for name in ("apology.wav", "recording.wav"):
            assert (sounds / language / name).is_file(), (language, name)


async def known(at: Seat) -> tuple[Any, Any]:
    """A contact and its case, from a call that is over."""
    call = await at.line.call("+33611223344", queue=None)
    await at.line.ok(m.CustomerLeft, interaction=call)
    row = at.line.desk.interaction(call)
    assert row is not None
    return row.contact, row.case_id


async def test_click_to_call_rings_the_advisor_then_the_customer_on_the_same_case(
    database: str, tmp_path: Path
) -> None:
    async with seat(database, tmp_path) as at:
        contact, case = await known(at)
        call = await at.control.call_out("a1", "+33611223344", case=case, contact=contact)
        await at.switch.until(lambda: at.switch.placed)
        mine = at.switch.placed[0]
        assert (mine.to.account, mine.auto_answer) == ("101", True)
        row = at.line.desk.interaction(call)
        assert row is not None
        assert (row.case_id, row.direction, row.advisor) == (case, "out", "a1")
        at.switch.pick_up(mine.leg)
        await at.switch.until(lambda: len(at.switch.placed) == 2)
        theirs = at.switch.placed[1]
        assert (theirs.to.number, theirs.near) == ("+33611223344", mine.leg)
        assert ("play", mine.leg, "fr/ringback.wav", "loop") in at.switch.commands
        at.switch.pick_up(theirs.leg)
        await at.state(call, "active")
        assert at.switch.legs[mine.leg].joined == theirs.leg
        await at.control.settled()
        await at.control.hang_up(call, "a1")
        assert at.switch.legs == {}
        assert at.line.state(call) == "wrapup"


@pytest.mark.parametrize(
    ("status", "cause", "reason"),
    [
        (486, Cause.REJECTED, "busy"),
        (0, Cause.NO_ANSWER, "no_answer"),
        (404, Cause.REJECTED, "unknown_number"),
        (603, Cause.REJECTED, "refused"),
        (500, Cause.REJECTED, "failed"),
    ],
)
async def test_a_customer_who_does_not_answer_is_told_with_the_reason(
    database: str, tmp_path: Path, status: int, cause: Cause, reason: str
) -> None:
    async with seat(database, tmp_path) as at:
        contact, case = await known(at)
        call = await at.control.call_out("a1", "+33611223344", case=case, contact=contact)
        await at.switch.until(lambda: at.switch.placed)
        at.switch.pick_up(at.switch.placed[0].leg)
        await at.switch.until(lambda: len(at.switch.placed) == 2)
        at.switch.end(at.switch.placed[1].leg, cause, status)
        await at.state(call, "ended")
        await at.control.settled()
        row = at.line.desk.interaction(call)
        assert row is not None
        assert row.outcome == reason
        assert at.switch.legs == {}
        assert at.pages.told[-1][2]["args"]["reason"] == reason


async def test_an_outgoing_call_is_announced_and_recorded_when_the_site_says_so(
    database: str, tmp_path: Path
) -> None:
    rules = replace(quick(), record_outgoing=True)
    async with seat(database, tmp_path, rules=rules) as at:
        contact, case = await known(at)
        call = await at.control.call_out("a1", "+33611223344", case=case, contact=contact)
        await at.switch.until(lambda: at.switch.placed)
        mine = at.switch.placed[0].leg
        at.switch.pick_up(mine)
        await at.switch.until(lambda: len(at.switch.placed) == 2)
        theirs = at.switch.placed[1].leg
        at.switch.pick_up(theirs)
        await at.switch.until(lambda: at.switch.legs[mine].joined == theirs)
        done = [c for c in at.switch.commands if c[0] in {"play", "record", "join"}]
        assert done[1:] == [
            ("play", theirs, "fr/recording"),
            ("play", mine, "fr/recording"),
            ("record", theirs, mine),
            ("join", theirs, mine),
        ]
        assert at.control.recording(call)


async def test_the_dial_plan_decides_and_its_refusal_is_told(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path) as at:
        at.switch.numbers = set()
        contact, case = await known(at)
        call = await at.control.call_out("a1", "+33899000000", case=case, contact=contact)
        await at.switch.until(lambda: at.switch.placed)
        at.switch.pick_up(at.switch.placed[0].leg)
        await at.state(call, "ended")
        await at.control.settled()
        row = at.line.desk.interaction(call)
        assert row is not None
        assert row.outcome == "not_allowed"
        assert at.switch.legs == {}


async def test_no_call_is_begun_for_a_phone_that_is_not_there(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path) as at:
        at.switch.phones.clear()
        with pytest.raises(NotPossible, match="phone_not_registered"):
            await at.control.call_out("a1", "+33611223344")
        with pytest.raises(NotPossible, match="no_phone"):
            await at.control.call_out("nobody", "+33611223344")


async def test_giving_up_a_call_that_is_being_placed_ends_both_legs(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path) as at:
        contact, case = await known(at)
        call = await at.control.call_out("a1", "+33611223344", case=case, contact=contact)
        await at.switch.until(lambda: at.switch.placed)
        at.switch.pick_up(at.switch.placed[0].leg)
        await at.switch.until(lambda: len(at.switch.placed) == 2)
        await at.control.hang_up(call, "a1")
        await at.control.settled()
        assert at.switch.legs == {}
        assert at.line.state(call) == "ended"


async def test_closing_while_calls_run_leaves_no_task(database: str, tmp_path: Path) -> None:
    async with seat(database, tmp_path, pages="silent") as at:
        await at.waiting.call()
    assert not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
