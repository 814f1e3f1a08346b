"""The figures, against the vectors of the definitions and against logs told as tables."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

import pytest

from cti.board import Tally
from routing import figures as f
from routing.models import Event, T
from routing.site import Hours, Queue, Site, Target

PARIS = ZoneInfo("Europe/Paris")
NAMES = UUID(int=7)
DAY = datetime(2026, 11, 23, tzinfo=PARIS)  # a Monday
WEEKDAYS = dict.fromkeys(range(5), ("08:00-12:00", "13:30-18:00"))
SITE = Site(
    "test",
    "Test",
    hours=(Hours("desk", WEEKDAYS, holidays="FR"), Hours("night", dict.fromkeys(range(7), ("22:00-06:00",)))),
    queues=(
        Queue(
            "letters", "Courrier", hours="desk", targets={"chat": Target(0.8, 60), "voice": Target(0.8, 20)}
        ),
        Queue("experts", "Experts", hours="desk"),
        Queue("nights", "Nuit", hours="night"),
        Queue("always", "Toujours", targets={"voice": Target(0.8, 20)}),
    ),
)
SEATS = {"voice": "voice", "messenger": "chat", "email": "mail"}
ENDS = {"ended": T.ENDED, "abandoned": T.ABANDONED, "interrupted": T.INTERRUPTED}


def named(name: str) -> UUID:
    return uuid5(NAMES, name)


def told(story: str) -> f.Rows:
    """Rows from lines of `date time interaction what …`, wall times of Paris; ann/2 is the second of ann's thread.

    What: opened CHANNEL [out] [case=NAME], node [EXIT], enqueued QUEUE [overflow_from=QUEUE], accepted WHO,
    pulled WHO [passed_over=N], requeued, left [HOW], abandoned, ended OUTCOME, archived, note, held; tagged and noted
    (its case as a whole); writes (the customer), bot, holding, replies WHO, failed WHO, perhaps WHO, elsewhere.
    """
    events: list[Event] = []
    lines: list[f.Line] = []
    opened: dict[str, tuple[str, UUID]] = {}
    for text in filter(None, (line.split("#")[0].strip() for line in story.splitlines())):
        date, clock, name, what, *rest = text.split()
        at = datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=PARIS).astimezone(UTC)
        person = name.partition("/")[0]
        options = dict(word.split("=") for word in rest if "=" in word)
        plain = [word for word in rest if "=" not in word]
        kind, data, advisor = _event(what, plain, options)
        if what == "opened":
            opened[name] = plain[0], named(f"case {options.get('case', person)}")
            if plain[0] != "voice":
                data["thread"] = str(named(f"thread {person}"))
        channel, case = opened[name]
        if kind is not None:
            events.append(
                Event(seq=len(events) + 1, id=named(f"event {len(events)}"), at=at, organisation=NAMES, type=kind,
                      interaction=named(name) if what not in ("tagged", "noted") else None, case=case,
                      advisor=advisor, data=data)
            )  # fmt: skip
            continue
        author = {"writes": "customer", "bot": "bot", "holding": "system", "elsewhere": "elsewhere"}.get(
            what, "advisor"
        )
        status = {"failed": "failed", "perhaps": "perhaps"}.get(
            what, "received" if what == "writes" else "sent"
        )
        lines.append(
            f.Line(named(f"line {len(lines)}"), named(f"thread {person}"), named(name), case, channel, author,
                   plain[0] if plain else "", at, None, status, what in ("bot", "holding"), False)
        )  # fmt: skip
    return f.Rows(events, lines)


def _event(
    what: str, plain: list[str], options: dict[str, str]
) -> tuple[T | None, dict[str, Any], str | None]:
    match what:
        case "opened":
            direction = "out" if "out" in plain else "in"
            return (
                T.INTERACTION_OPENED,
                {"channel": plain[0], "seat": SEATS[plain[0]], "direction": direction},
                None,
            )
        case "enqueued":
            return T.ENQUEUED, {"queue": plain[0], "since": None, **options}, None
        case "accepted":
            return T.ACCEPTED, {}, plain[0]
        case "pulled":
            return T.ASSIGNED, {"how": "pulled", **options}, plain[0]
        case "node":
            return T.NODE_LEFT, {"tree": "tree", "node": "node", "exit": plain[0] if plain else "done"}, None
        case "left":
            return T.LEFT_QUEUE, {"how": plain[0] if plain else "key"}, None
        case "tagged":
            return T.CASE_CHANGED, {"state": None, "subject": False, "tags": ["damage"]}, None
        case "archived":
            return T.ENDED, {"outcome": "archived"}, None
        case "ended":
            return T.ENDED, {"outcome": plain[0]}, None
        case "requeued" | "abandoned" | "note" | "noted" | "held" | "interrupted":
            kinds = {
                "requeued": T.REQUEUED,
                "note": T.NOTE_ADDED,
                "noted": T.NOTE_ADDED,
                "held": T.HELD,
                **ENDS,
            }
            return kinds[what], {}, None
    return None, {}, None


def report(story: str, start: str = "2026-11-23", end: str = "2026-12-07", **only: Any) -> f.Statistics:
    rows = told(story)
    return f.statistics(rows, SITE, day(start), day(end), **only)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS).astimezone(UTC)


def minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60


def test_the_vector_of_the_definitions_also_when_it_is_told_as_a_log() -> None:
    """1,000 answered, 860 of them in time; 60 abandoned, 20 within 20 s, 10 of these within 5 s."""
    waits = [("accepted lea", 20.0, 860), ("accepted lea", 21.0, 140)]
    waits += [("abandoned", 5.0, 10), ("abandoned", 20.0, 10), ("abandoned", 21.0, 40)]
    story, number = [], 0
    for what, waited_s, times in waits:
        for _ in range(times):
            number += 1
            begin = DAY + timedelta(hours=9, seconds=number)
            for at, words in ((0.0, "opened voice"), (0.0, "enqueued always"), (waited_s, what)):
                story.append(f"{begin + timedelta(seconds=at):%Y-%m-%d %H:%M:%S} call{number} {words}")
    rows = told("\n".join(story))
    facts = f.level(f.count(rows, SITE, day("2026-11-23"), day("2026-11-24")))
    assert facts.service_level == pytest.approx(0.8190, abs=5e-5)
    assert facts.service_level_all_abandons == pytest.approx(0.8113, abs=5e-5)
    assert facts.service_level_early_abandons_left_out == pytest.approx(0.8269, abs=5e-5)
    assert facts.service_level_early_abandons_credited == pytest.approx(0.8302, abs=5e-5)
    assert facts.answered_in_time_share == pytest.approx(0.8600, abs=5e-5)
    assert facts.abandonment == pytest.approx(0.0476, abs=5e-5)
    told_of = f.statistics(rows, SITE, day("2026-11-23"), day("2026-11-24"))
    assert told_of.totals.service_level == pytest.approx(0.8190, abs=5e-5)
    assert told_of.rows[0].figures == told_of.totals
    assert "abandoned after 5 s" in told_of.formula["service_level"]


def test_a_break_at_noon_is_no_waiting_time() -> None:
    """Open 08-12 and 13:30-18; message 12:30, answer 13:40 = 10 min (acceptance test 14)."""
    figures = report("""
        2026-11-23 12:30 ann opened messenger
        2026-11-23 12:30 ann writes
        2026-11-23 12:31 ann enqueued letters
        2026-11-23 13:35 ann accepted lea
        2026-11-23 13:40 ann replies lea
    """).totals
    assert minutes(figures.first_response.per_message.opening) == 10
    assert minutes(figures.first_response.per_conversation.opening) == 10
    assert minutes(figures.first_response.per_message.elapsed) == 70
    assert figures.within_hour == figures.within_hour_strict == 1.0


def test_a_conversation_that_the_bot_closed_starts_a_new_clock_when_it_is_reopened() -> None:
    """Bot closes; reopened five days later, answered in 10 min = 10 min (acceptance test 15)."""
    story = """
        2026-11-23 09:00 ann opened messenger
        2026-11-23 09:00 ann writes
        2026-11-23 09:00 ann bot
        2026-11-23 09:05 ann ended served
        2026-11-DD 09:00 ann/2 opened messenger
        2026-11-DD 09:00 ann/2 writes
        2026-11-DD 09:01 ann/2 enqueued letters
        2026-11-DD 09:08 ann/2 accepted lea
        2026-11-DD 09:10 ann/2 replies lea
    """
    for later, conversations in (("30", 2), ("24", 1)):  # also within the conversation's gap
        figures = report(story.replace("DD", later)).totals
        assert figures.first_response.per_message == f.Response(600.0, 600.0, 540.0)
        assert figures.first_response.per_conversation == f.Response(600.0, 600.0, 540.0)
        assert figures.conversations == conversations
        assert figures.received == 2


def test_neither_bots_nor_holding_messages_nor_failed_ones_stop_the_clock() -> None:
    figures = report("""
        2026-11-23 09:00 ann opened messenger
        2026-11-23 09:00 ann writes
        2026-11-23 09:00 ann bot
        2026-11-23 09:01 ann enqueued letters
        2026-11-23 09:10 ann holding
        2026-11-23 09:20 ann accepted lea
        2026-11-23 09:21 ann failed lea
        2026-11-23 09:30 ann replies lea
        2026-11-23 09:40 ann writes
        2026-11-23 09:45 ann perhaps lea
    """).totals
    assert figures.first_response.per_message.elapsed == (1800 + 300) / 2  # the median of two messages
    assert figures.first_response.per_conversation.elapsed == 1800
    assert (figures.failed, figures.perhaps_sent) == (1, 1)


@pytest.mark.parametrize(
    ("queue", "asked", "answered", "opening_min"),
    [
        ("letters", "2026-11-27 17:50", "2026-11-30 08:10", 20),  # over a weekend
        ("letters", "2026-12-24 17:50", "2026-12-28 08:10", 20),  # Christmas is a Friday
        ("nights", "2026-10-25 01:00", "2026-10-25 04:00", 240),  # the hour between 2 and 3 comes twice
        ("nights", "2027-03-28 01:00", "2027-03-28 04:00", 120),  # and this one not at all
        ("nights", "2026-11-23 12:00", "2026-11-23 22:30", 30),
        ("always", "2026-11-28 12:00", "2026-11-28 12:30", 30),
    ],
)
def test_opening_time_follows_calendar_holidays_and_clock_changes(
    queue: str, asked: str, answered: str, opening_min: float
) -> None:
    figures = report(
        f"""
        {asked} ann opened email
        {asked} ann writes
        {asked} ann enqueued {queue}
        {answered} ann accepted lea
        {answered} ann replies lea
        """,
        "2026-10-01",
        "2027-04-01",
    ).totals
    assert minutes(figures.first_response.per_message.opening) == opening_min


def test_time_before_the_right_queue_is_told_apart() -> None:
    """Routing: an hour with the bot and in the wrong queue."""
    figures = report("""
        2026-11-23 09:00 ann opened email
        2026-11-23 09:00 ann writes
        2026-11-23 09:10 ann enqueued letters
        2026-11-23 10:00 ann enqueued experts overflow_from=letters
        2026-11-23 10:20 ann accepted lea
        2026-11-23 10:30 ann replies lea
    """).totals
    assert figures.first_response.per_message == f.Response(5400.0, 5400.0, 1800.0)


def test_the_strict_share_counts_those_who_still_wait_and_leaves_out_the_archived() -> None:
    """One in time, one late, one still waiting after an hour, one archived, one that has only begun to wait."""
    story = """
        2026-11-23 09:00 ann opened email
        2026-11-23 09:00 ann writes
        2026-11-23 09:00 ann enqueued letters
        2026-11-23 09:30 ann accepted lea
        2026-11-23 09:30 ann replies lea
        2026-11-23 09:31 ann ended answered
        2026-11-23 09:00 bob opened email
        2026-11-23 09:00 bob writes
        2026-11-23 09:00 bob enqueued letters
        2026-11-23 11:00 bob accepted lea
        2026-11-23 11:00 bob replies lea
        2026-11-23 09:00 cyd opened email
        2026-11-23 09:00 cyd writes
        2026-11-23 09:00 cyd enqueued letters
        2026-11-23 09:00 dan opened email
        2026-11-23 09:00 dan writes
        2026-11-23 09:00 dan enqueued letters
        2026-11-23 09:30 dan archived
        2026-11-23 17:30 eve opened email
        2026-11-23 17:30 eve writes
        2026-11-23 17:30 eve enqueued letters
    """
    figures = report(story, "2026-11-23", "2026-11-24").totals
    assert figures.within_hour == 1 / 2
    assert figures.within_hour_strict == 1 / 3
    assert figures.archived == 1
    next_day = report(story, "2026-11-24", "2026-11-25").totals
    assert (next_day.within_hour, next_day.within_hour_strict) == (None, 0.0)  # eve's hour is over at 08:30


def test_an_hour_that_is_not_over_has_not_been_missed_however_far_the_report_reaches() -> None:
    rows = told("""
        2026-11-23 09:00 ann opened email
        2026-11-23 09:00 ann writes
        2026-11-23 09:00 ann enqueued letters
        2026-11-23 09:30 ann accepted lea
        2026-11-23 09:30 ann replies lea
        2026-11-23 10:00 bob opened email
        2026-11-23 10:00 bob writes
        2026-11-23 10:00 bob enqueued letters
    """)
    start, end = day("2026-11-23"), day("2026-11-24")
    for clock, strict in (("10:59", 1.0), ("11:01", 0.5)):
        now = datetime.fromisoformat(f"2026-11-23T{clock}").replace(tzinfo=PARIS)
        assert f.statistics(rows, SITE, start, end, now=now).totals.within_hour_strict == strict
        missed = f.listed(rows, SITE, start, end, "within_hour_strict", part="denominator", now=now)
        assert len(missed) == round(1 / strict)


def test_a_report_may_begin_and_end_within_a_second() -> None:
    rows = told("""
        2026-11-23 09:59:59 ann opened email
        2026-11-23 09:59:59 ann writes
        2026-11-23 10:00:00.300 bob opened email
        2026-11-23 10:00:00.300 bob writes
    """)
    end = datetime(2026, 11, 23, 10, 0, 0, 400_000, tzinfo=PARIS)
    for length in (timedelta(minutes=15), timedelta(hours=1), timedelta(days=1), timedelta(seconds=0.2)):
        figures = f.statistics(rows, SITE, end - length, end)
        assert sum(figures.series.received) == figures.totals.received >= 1


def test_automation_needs_an_answer_and_nobody_who_was_asked_for_in_vain() -> None:
    story = """
        2026-11-23 09:00 ann opened messenger           # served by the bot
        2026-11-23 09:00 ann writes
        2026-11-23 09:00 ann bot
        2026-11-23 09:05 ann ended served
        2026-11-23 09:00 bob opened messenger           # asked for a human and gave up
        2026-11-23 09:00 bob writes
        2026-11-23 09:00 bob bot
        2026-11-23 09:01 bob enqueued letters
        2026-11-23 09:30 bob abandoned
        2026-11-23 09:00 cyd opened messenger           # spam
        2026-11-23 09:00 cyd writes
        2026-11-23 09:00 cyd bot
        2026-11-23 09:05 cyd archived
        2026-11-23 09:00 dan opened voice               # heard the opening hours and hung up
        2026-11-23 09:01 dan node
        2026-11-23 09:01 dan ended caller_left
        2026-11-23 09:00 eve opened voice               # served by a person
        2026-11-23 09:00 eve enqueued always
        2026-11-23 09:01 eve accepted lea
        2026-11-23 09:05 eve ended served
        2026-11-23 09:00 fay opened messenger           # the bot, and two days later a call about the same
        2026-11-23 09:00 fay writes
        2026-11-23 09:00 fay bot
        2026-11-23 09:05 fay ended served
        2026-11-25 09:00 call opened voice case=fay
        2026-11-25 09:00 call enqueued always
        2026-11-25 09:01 call accepted lea
        2026-11-25 09:02 call ended served
    """
    figures = report(story, "2026-11-23", "2026-11-24").totals
    assert figures.automation == 3 / 5
    assert figures.automation_confirmed == 2 / 5


def test_each_queue_clocks_from_its_own_entry_and_totals_count_once() -> None:
    told_of = report("""
        2026-11-23 09:00:00 ann opened voice
        2026-11-23 09:00:00 ann enqueued letters
        2026-11-23 09:00:50 ann enqueued experts overflow_from=letters
        2026-11-23 09:01:00 ann accepted lea
        2026-11-23 09:02:00 ann requeued
        2026-11-23 09:02:30 ann accepted bob
        2026-11-23 09:05:30 ann ended served
    """)
    letters, experts = (row.figures for row in told_of.rows)
    assert (letters.enqueued, letters.left, letters.answered, letters.abandoned) == (1, 1, 0, 0)
    assert (experts.enqueued, experts.answered, experts.asa_s) == (1, 1, 10.0)
    assert experts.aht_s == (60 + 180) / 2
    assert (told_of.totals.enqueued, told_of.totals.conversations) == (1, 1)
    assert "once" in told_of.note


def test_a_queue_to_which_somebody_is_transferred_counts_its_own_answer_and_totals_the_first() -> None:
    told_of = report("""
        2026-11-23 09:00:00 ann opened voice
        2026-11-23 09:00:00 ann enqueued letters
        2026-11-23 09:00:50 ann accepted lea
        2026-11-23 09:02:00 ann enqueued experts
        2026-11-23 09:02:10 ann accepted bob
        2026-11-23 09:03:00 ann ended served
        2026-11-23 09:00:00 cyd opened voice
        2026-11-23 09:00:00 cyd enqueued letters
        2026-11-23 09:00:10 cyd accepted lea
        2026-11-23 09:02:00 cyd enqueued experts
        2026-11-23 09:02:30 cyd abandoned
    """)
    letters, experts = (row.figures for row in told_of.rows)
    names = ("enqueued", "answered", "abandoned", "transferred", "asa_s", "service_level", "abandonment")
    assert [getattr(letters, name) for name in names] == [2, 2, 0, 2, 30.0, 0.5, 0.0]
    assert [getattr(experts, name) for name in names] == [2, 1, 1, 0, 10.0, 0.5, 0.5]
    assert [getattr(told_of.totals, name) for name in names] == [2, 2, 0, 2, 30.0, 0.5, 0.0]


def test_one_conversation_over_two_queues_stands_in_both_rows_and_once_in_the_totals() -> None:
    told_of = report("""
        2026-11-23 09:00 ann opened messenger
        2026-11-23 09:00 ann writes
        2026-11-23 09:00 ann enqueued letters
        2026-11-23 09:05 ann accepted lea
        2026-11-23 09:05 ann replies lea
        2026-11-23 09:06 ann ended answered
        2026-11-23 15:00 ann/2 opened messenger
        2026-11-23 15:00 ann/2 writes
        2026-11-23 15:00 ann/2 enqueued experts
        2026-11-23 15:05 ann/2 pulled bob
        2026-11-23 15:05 ann/2 replies bob
    """)
    assert [row.figures.conversations for row in told_of.rows] == [1, 1]
    assert told_of.totals.conversations == 1
    assert told_of.totals.answered == 2
    assert told_of.totals.received == 2
    of_bob = report("2026-11-23 09:00 x opened voice\n", advisor="bob").totals
    assert of_bob.received == 0


def chance(seed: int, people: int = 60) -> str:
    """A week of calls and letters that go every way there is."""
    rng = random.Random(seed)
    story: list[tuple[datetime, str]] = []
    for n in range(people):
        at = DAY + timedelta(seconds=rng.randrange(5 * 86_400))
        for turn in range(rng.choice((1, 1, 2, 3))):
            name = f"p{n}/{turn}"
            channel = "voice" if n % 3 == 0 else rng.choice(("messenger", "email"))

            def then(what: str, name: str = name) -> None:
                nonlocal at
                story.append((at, f"{name} {what}"))
                at += timedelta(seconds=rng.choice((1, 4, 15, 30, 300, 4000)))

            then(f"opened {channel}")
            if channel != "voice":
                then("writes")
            if rng.random() < 0.6:
                then("node")
            if rng.random() < 0.2:
                then("ended served")
                continue
            queue = rng.choice(("letters", "experts", "always"))
            then(f"enqueued {queue}")
            if rng.random() < 0.2:
                then(f"enqueued experts overflow_from={queue}")
            if rng.random() < 0.2:
                then(rng.choice(("abandoned", "interrupted")))
                continue
            if rng.random() < 0.1:
                then("left")
                then("ended served")
                continue
            then(rng.choice(("accepted lea", "accepted bob")))
            if rng.random() < 0.2:
                then("requeued")
                then("accepted cyd")
            if channel != "voice" and rng.random() < 0.8:
                then("replies lea")
            if rng.random() < 0.3:
                then(f"enqueued {rng.choice(('letters', 'experts', 'always'))}")
                if rng.random() < 0.3:
                    then("abandoned")
                    continue
                then("accepted cyd")
            then(rng.choice(("ended served", "archived")))
    return "\n".join(f"{at:%Y-%m-%d %H:%M:%S} {what}" for at, what in sorted(story, key=lambda each: each[0]))


def test_a_report_and_the_board_say_the_same(seed: int) -> None:
    rows = told(chance(seed))
    start, end = day("2026-11-23"), day("2026-12-21")
    tally = Tally(SITE.queues, start, end - start)
    for event in rows.events:
        tally.apply(event)
    reported = f.statistics(rows, SITE, start, end)
    queued = [row for row in reported.rows if row.queue is not None and row.figures.enqueued]
    assert queued
    for row in queued:
        assert row.queue is not None
        assert row.channel is not None
        board = tally.figures(row.queue, SEATS[row.channel])
        for name in (
            "enqueued",
            "answered",
            "abandoned",
            "short_abandoned",
            "left",
            "service_level",
            "asa_s",
        ):
            assert getattr(row.figures, name) == pytest.approx(getattr(board, name)), (row.queue, name)


@pytest.mark.parametrize(
    ("what", "automatic"),
    [
        ("node done\nended served", True),
        ("node done\nabandoned", True),  # hung up inside the tree, with what it had told
        ("node refused\nended full", False),  # the queue was full
        ("node closing\nended closed", False),
        ("node human\nended closed", False),  # asked for somebody in words
        ("node failed\nended closed", False),  # the transfer reached nobody
        ("node error\nended sorry", True),
        ("node done\ninterrupted", False),  # we failed it
        ("node done\nended fault", False),
        ("node done\nended failed", False),
        ("node connected\nended transferred", False),
    ],
)
def test_nothing_is_automation_that_we_failed_or_that_asked_for_a_person(what: str, automatic: bool) -> None:
    story = "2026-11-23 09:00 dan opened voice\n" + "\n".join(
        f"2026-11-23 09:0{n} dan {line}" for n, line in enumerate(what.splitlines(), 1)
    )
    totals = report(story).totals
    assert (totals.automation, totals.automation_confirmed) == (float(automatic), float(automatic))


def test_a_queue_that_its_tree_left_by_an_error_was_asked_for_too() -> None:
    trees = {"tree": {"nodes": {"node": {"kind": "queue", "queue": "letters"}}}}
    rows = told("""
        2026-11-23 09:00 dan opened voice
        2026-11-23 09:01 dan node error
        2026-11-23 09:02 dan ended sorry
    """)
    figures = f.statistics(rows, replace(SITE, trees=trees), day("2026-11-23"), day("2026-11-24"))
    assert figures.totals.automation == 0.0


@pytest.mark.parametrize(
    ("what", "processed"),
    [
        ("enqueued letters", 0),  # it only waits
        ("enqueued letters\nenqueued experts", 1),
        ("enqueued letters\nenqueued experts overflow_from=letters", 1),
        ("enqueued letters\ntagged", 1),
        ("enqueued letters\nnoted", 1),
        ("enqueued letters\nnote", 1),
        ("enqueued letters\naccepted lea", 1),
        ("enqueued letters\naccepted lea\nheld", 1),
        ("archived", 1),
    ],
)
@pytest.mark.parametrize("channel", ["voice", "email"])
def test_a_message_is_processed_once_something_was_done_about_it(
    what: str, processed: int, channel: str
) -> None:
    story = f"2026-11-23 09:00 ann opened {channel}\n" + "\n".join(
        f"2026-11-23 09:0{n} ann {line}" for n, line in enumerate(what.splitlines(), 1)
    )
    if channel == "email":
        story += "\n2026-11-23 09:00 ann writes"
    assert report(story).totals.processed == processed


def test_a_tag_from_before_does_not_process_what_comes_later() -> None:
    later = report("""
        2026-11-23 09:00 ann opened voice
        2026-11-23 09:01 ann tagged
        2026-11-23 09:02 ann ended served
        2026-11-23 10:00 ann/2 opened voice
    """)
    assert later.totals.processed == 1


@pytest.mark.parametrize(
    ("end", "strict"),
    [
        ("2026-11-23 15:01 ann ended answered", 0.0),  # six hours too late, and without a word
        ("2026-11-23 09:30 ann ended answered", None),  # no answer was needed
        ("2026-11-23 15:01 ann archived", None),
        ("2026-11-23 09:30 ann abandoned", 0.0),
    ],
)
def test_closing_late_without_a_reply_is_a_miss_unless_it_is_archived(end: str, strict: float | None) -> None:
    story = f"""
        2026-11-23 09:00 ann opened email
        2026-11-23 09:00 ann writes
        2026-11-23 09:00 ann enqueued letters
        {end}
    """
    assert report(story).totals.within_hour_strict == strict


def test_overflow_key_closing_and_transfer_each_have_their_own_number() -> None:
    figures = report("""
        2026-11-23 09:00 ann opened voice
        2026-11-23 09:00 ann enqueued letters
        2026-11-23 09:01 ann left key
        2026-11-23 09:00 bob opened voice
        2026-11-23 09:00 bob enqueued letters
        2026-11-23 09:01 bob left closing
        2026-11-23 09:00 cyd opened voice
        2026-11-23 09:00 cyd enqueued letters
        2026-11-23 09:01 cyd enqueued experts overflow_from=letters
        2026-11-23 09:00 dan opened voice
        2026-11-23 09:00 dan enqueued letters
        2026-11-23 09:01 dan accepted lea
        2026-11-23 09:02 dan enqueued experts
        2026-11-23 09:03 dan accepted bob
    """)
    own = ("left", "left_by_key", "left_at_closing", "overflowed", "transferred", "abandoned")
    letters, experts = (
        next(row.figures for row in figures.rows if row.queue == name) for name in ("letters", "experts")
    )
    assert tuple(getattr(letters, name) for name in own) == (3, 1, 1, 1, 1, 0)
    assert tuple(getattr(experts, name) for name in own) == (0, 0, 0, 0, 0, 0)


def test_who_was_passed_over_is_counted_where_somebody_was_pulled() -> None:
    figures = report("""
        2026-11-23 09:00 ann opened email
        2026-11-23 09:00 ann writes
        2026-11-23 09:00 ann enqueued letters
        2026-11-23 09:01 ann pulled lea passed_over=6
        2026-11-23 09:00 bob opened email
        2026-11-23 09:00 bob writes
        2026-11-23 09:00 bob enqueued letters
        2026-11-23 09:01 bob pulled lea passed_over=0
        2026-11-23 09:02 bob requeued
        2026-11-23 09:03 bob pulled lea passed_over=2
    """)
    assert [row.figures.passed_over for row in figures.rows] == [8]
    assert figures.totals.passed_over == 8


COUNTS = ("received", "processed", "conversations", "enqueued", "answered", "abandoned", "short_abandoned", "left",
          "left_by_key", "left_at_closing", "overflowed", "transferred", "archived")  # fmt: skip


def test_every_number_opens_a_list_as_long_as_it_says(seed: int) -> None:
    rows, start, end = told(chance(seed)), day("2026-11-23"), day("2026-12-21")
    told_of = f.statistics(rows, SITE, start, end)
    for name in COUNTS:
        assert len(f.listed(rows, SITE, start, end, name)) == getattr(told_of.totals, name), name
    for row in told_of.rows:
        if row.queue is None or row.channel is None:
            continue
        where: dict[str, Any] = {"channel": row.channel, "queue": row.queue}
        for name in COUNTS:
            found = f.listed(rows, SITE, start, end, name, **where)
            assert len(found) == getattr(row.figures, name), name
        for name in ("service_level", "abandonment", "within_hour", "within_hour_strict", "automation"):
            parts = [
                len(f.listed(rows, SITE, start, end, name, part=part, **where))
                for part in ("numerator", "denominator")
            ]
            rate = getattr(row.figures, name)
            assert rate == (pytest.approx(parts[0] / parts[1]) if parts[1] else None), name
    assert set(f.FIGURES) >= {each.name for each in fields(f.Values)} - {"first_response"}
    assert f.listed(rows, SITE, start, end, "first_response.per_message.opening")
    with pytest.raises(KeyError):
        f.listed(rows, SITE, start, end, "luck")


def test_a_finished_period_never_changes_but_for_the_confirmation_of_automation(seed: int) -> None:
    rows, start, middle = told(chance(seed)), day("2026-11-23"), day("2026-11-25")
    then = f.Rows([e for e in rows.events if e.at < middle], [x for x in rows.lines if x.when < middle])
    earlier, later = (f.statistics(each, SITE, start, middle) for each in (then, rows))
    assert _settled(earlier.totals) == _settled(later.totals)
    assert [_settled(row.figures) for row in earlier.rows] == [_settled(row.figures) for row in later.rows]


def _settled(values: f.Values) -> f.Values:
    return replace(values, automation_confirmed=None)


def test_the_series_adds_up_to_the_totals(seed: int) -> None:
    told_of = f.statistics(told(chance(seed)), SITE, day("2026-11-23"), day("2026-12-21"))
    assert sum(told_of.series.received) == told_of.totals.received
    assert sum(told_of.series.answered) == told_of.totals.answered
    assert len(told_of.series.times) == len(told_of.series.within_hour) <= f.MOST_INTERVALS


def test_nothing_has_no_rates() -> None:
    nothing = report("").totals
    assert (nothing.received, nothing.within_hour, nothing.service_level, nothing.aht_s) == (
        0,
        None,
        None,
        None,
    )
    assert nothing.first_response.per_message == f.Response(None, None, None)
