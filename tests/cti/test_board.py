"""The board's figures, against the vector of the definitions and against stories told by events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from cti.board import Live, Tally, rows
from routing.figures import Level, formula
from routing.models import Event, T
from routing.site import Queue, Target

START = datetime(2026, 11, 23, tzinfo=UTC)
QUEUES = (
    Queue("billing", "Facturation", targets={"voice": Target(0.8, 20)}),
    Queue("general", "Accueil"),
)


def test_the_vector_of_the_definitions() -> None:
    """1,000 answered, 860 in time; 60 abandoned, 20 within T, 10 of these short."""
    figures = Level(
        enqueued=1060,
        answered=1000,
        answered_in_time=860,
        abandoned=50,
        abandoned_in_time=10,
        short_abandoned=10,
    )
    assert figures.service_level == pytest.approx(0.8190, abs=5e-5)
    assert figures.service_level_all_abandons == pytest.approx(0.8113, abs=5e-5)
    assert figures.service_level_early_abandons_left_out == pytest.approx(0.8269, abs=5e-5)
    assert figures.service_level_early_abandons_credited == pytest.approx(0.8302, abs=5e-5)
    assert figures.abandonment == pytest.approx(0.0476, abs=5e-5)


def test_rates_of_nothing_are_unknown_not_zero() -> None:
    assert Level().service_level is None
    assert Level().abandonment is None
    assert Level().asa_s is None


def test_every_service_level_says_its_formula() -> None:
    assert formula(Target(0.8, 20)) == "answered ≤ 20 s / (answered + abandoned after 5 s), target 80%"


class Story:
    """Events in few words; seconds from nine o'clock."""

    def __init__(self) -> None:
        self.tally = Tally(QUEUES, START)
        self.seq = 0

    def tell(self, second: float, kind: T, who: int, **data: object) -> None:
        self.seq += 1
        at = START + timedelta(hours=9, seconds=second)
        self.tally.apply(
            Event(
                seq=self.seq,
                id=UUID(int=self.seq),
                at=at,
                organisation=UUID(int=9),
                type=kind,
                interaction=UUID(int=who),
                data=data,
            )
        )

    def waits(self, second: float, who: int, queue: str = "billing", channel: str = "voice") -> None:
        self.tell(second, T.INTERACTION_OPENED, who, channel=channel)
        self.tell(second, T.ENQUEUED, who, queue=queue, since=(START.timestamp() + 9 * 3600 + second))


def test_the_whole_vector_told_by_events() -> None:
    story = Story()
    people = iter(range(1, 2000))
    for count, waited, kind in (
        (860, 12, T.ACCEPTED),
        (140, 40, T.ACCEPTED),
        (10, 4, T.ABANDONED),
        (10, 15, T.ABANDONED),
        (40, 60, T.ABANDONED),
    ):
        for _ in range(count):
            who = next(people)
            story.waits(0, who)
            story.tell(waited, kind, who)
    figures = story.tally.figures("billing", "voice")
    assert figures.enqueued == 1060
    assert figures.service_level == pytest.approx(0.8190, abs=5e-5)
    assert figures.service_level_early_abandons_left_out == pytest.approx(0.8269, abs=5e-5)
    assert figures.asa_s == pytest.approx((860 * 12 + 140 * 40) / 1000)
    assert story.tally.spark("billing", "voice")[18] == pytest.approx(0.8190, abs=5e-5)
    assert story.tally.live(START) == {}


def test_leaving_by_key_or_overflow_is_no_abandon_and_the_next_queue_clocks_anew() -> None:
    story = Story()
    story.waits(0, 1)
    story.tell(30, T.LEFT_QUEUE, 1, queue="billing", how="key")
    story.tell(31, T.ABANDONED, 1, waited_s=0)
    story.waits(0, 2)
    story.tell(30, T.ENQUEUED, 2, queue="general", overflow_from="billing", since=START.timestamp())
    story.tell(45, T.ACCEPTED, 2)
    billing, general = (story.tally.figures(q, "voice") for q in ("billing", "general"))
    assert (billing.left, billing.abandoned, billing.answered) == (2, 0, 0)
    assert (general.answered, general.answered_in_time, general.asa_s) == (1, 1, 15.0)


def test_each_figure_knows_whom_it_counts_and_a_new_day_nobody() -> None:
    story = Story()
    for who, waited, kind in (
        (1, 30, T.ACCEPTED),
        (2, 9, T.ABANDONED),
        (3, 2, T.ABANDONED),
        (4, 5, T.ACCEPTED),
    ):
        story.waits(0, who)
        story.tell(waited, kind, who)
    counted = {name: story.tally.counted("billing", "voice", name) for name in ("answered", "abandoned")}
    assert counted == {"answered": [UUID(int=1), UUID(int=4)], "abandoned": [UUID(int=2)]}
    assert story.tally.counted("billing", "voice", "short_abandoned") == [UUID(int=3)]
    assert story.tally.counted("general", "voice", "answered") == []
    story.tally.new_day(START + timedelta(days=1), timedelta(days=1))
    assert story.tally.counted("billing", "voice", "answered") == []


def test_a_caller_whose_advisor_was_lost_is_one_answer_and_waits_again() -> None:
    story = Story()
    story.waits(0, 1)
    story.tell(10, T.ACCEPTED, 1)
    story.tell(60, T.REQUEUED, 1, reason="no_media")
    now = START + timedelta(hours=9, seconds=70)
    assert story.tally.live(now) == {("billing", "voice"): Live(1, 70.0)}
    story.tell(80, T.ACCEPTED, 1)
    assert story.tally.figures("billing", "voice").answered == 1
    assert story.tally.counted("billing", "voice", "answered") == [UUID(int=1)]
    story.tell(90, T.ENDED, 1)
    assert story.tally.live(now) == {}


def test_all_channels_have_the_same_columns_and_staff_adds_up() -> None:
    story = Story()
    story.waits(0, 1, "general", "chat")
    live = {("general", "chat"): Live(1, 3.0)}
    board = rows(QUEUES, story.tally, live, {"general": ["ready", "talking", "ready"]})
    assert [(r.queue, r.channel) for r in board] == [
        ("billing", "voice"),
        ("general", "voice"),
        ("general", "chat"),
    ]
    assert board[2].live.waiting == 1
    assert sum(board[2].advisors.values()) == 3
    assert all(len(r.spark) == 48 for r in board)


def test_a_new_day_begins_at_nothing_and_those_who_wait_keep_waiting() -> None:
    story = Story()
    story.waits(0, 1)
    story.tally.new_day(START + timedelta(days=1), timedelta(days=1))
    assert story.tally.figures("billing", "voice").enqueued == 0
    assert story.tally.live(START + timedelta(days=1))["billing", "voice"].waiting == 1
