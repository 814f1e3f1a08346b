"""The policy of distribution, as tables, and its life over time, as short stories."""

from __future__ import annotations

import pytest

from routing import steps as s
from routing.distribution import Distribution
from routing.interaction import State
from routing.queue import bound_minutes
from routing.site import Advisor, Hours, Need, Queue, Target
from tests.routing.table import at, check


def test_longest_waiting_first_and_only_for_those_with_the_skill() -> None:
    check("""
        waiting   queue    needs   since | advisor  state  free seats     skills
        call A    billing  fr>=2   09:00 | ana      ready  voice          fr=5 en=2
        call B    billing  en>=2   09:01 | bob      ready  voice          en=4
        chat C    billing  en>=1   08:59 | cyd      break  voice chat*3   en=5
        at 09:02
        gives A->ana B->bob
        C waits: 2 who do not serve this channel, 1 on a pause
    """)


def test_score_is_priority_and_ageing_over_all_the_queues_of_an_advisor() -> None:
    check("""
        queue gold   priority=5
        queue slow   ageing=0.5
        queue basic
        waiting   queue  since | advisor  state  free seats
        call A    basic  09:00 | ana      ready  voice*4
        call B    slow   08:54 |
        call C    gold   09:03 |
        call D    basic  09:07 |
        at 09:10
        gives C->ana A->ana B->ana D->ana
    """)


def test_equal_scores_go_by_arrival_and_then_by_id() -> None:
    check("""
        queue early
        queue late   priority=1
        waiting   queue  since | advisor  state  free seats
        call C    late   09:01 | ana      ready  voice*4
        call D    early  09:00 |
        call B    early  09:02 |
        call A    early  09:02 |
        at 09:05
        gives D->ana C->ana A->ana B->ana
    """)


def test_the_longest_idle_comes_first_and_less_work_in_hand_before_that() -> None:
    check("""
        waiting   queue  since | advisor  state  free seats  idle
        chat A    help   09:00 | ana      ready  chat*3      08:30
        chat B    help   09:01 | bob      ready  chat*3      08:10
        chat C    help   09:02 | cyd      ready  chat*1      08:40
        chat D    help   09:03 |
        at 09:05
        gives A->bob B->ana C->cyd D->bob
    """)


def test_a_queue_may_prefer_skill_to_idleness() -> None:
    check("""
        queue help  prefer=skill
        waiting   queue  needs        since | advisor  state  free seats  idle   skills
        call A    help   fr>=2 en>=1  09:00 | ana      ready  voice       08:00  fr=2 en=2
        call B    help   fr>=2        09:01 | bob      ready  voice       08:30  fr=3 en=5
        call C    help   fr>=2        09:02 | cyd      ready  voice       08:40  fr=3
        at 09:05
        gives A->bob B->cyd C->ana
    """)


def test_a_need_is_met_by_any_of_its_alternatives_and_all_needs_must_be_met() -> None:
    check("""
        waiting   queue  needs              since | advisor  state  free seats  skills
        call A    help   fr>=3|en>=4 vip>=1  09:00 | ana      ready  voice       fr=3
        call B    help   vip>=2             09:01 | bob      ready  voice       en=4 vip=1
        at 09:05
        gives A->bob
        B waits: 2 without the skill (vip<2)
    """)


def test_nobody_is_rung_in_a_pause_in_wrap_up_offline_or_without_a_phone() -> None:
    check("""
        waiting   queue  since | advisor  state     free seats
        call A    help   09:00 | ana      pause     voice
                               | bob      wrapup    voice
                               | cyd      offline   voice
                               | dan      no phone  voice
                               | eve      ready     chat*2
        at 09:05
        gives nothing
        A waits: 1 who do not serve this channel, 1 signed out, 1 on a pause, 1 without a registered phone, 1 in wrap-up
    """)


def test_an_advisor_of_some_queues_serves_only_those() -> None:
    check("""
        waiting   queue  since | advisor  state  free seats  queues
        call A    sales  09:00 | ana      ready  voice       help
        call B    help   09:01 | bob      ready  voice       -
        at 09:05
        gives A->bob B->ana
    """)


def test_one_person_is_never_offered_twice_at_once() -> None:
    model = check("""
        waiting   queue  since  contact | advisor  state  free seats
        call A    help   09:00  paul    | ana      ready  voice
        call B    help   09:01  paul    | bob      ready  voice
        call C    help   09:02  -       | cyd      ready  voice
        at 09:05
        gives A->ana C->bob
        B waits: 2 without a free seat, 1 because this customer is being offered or served already
    """)
    told = model.step(s.Accept(1), at("09:05:01"))
    assert [d.interaction for d in told if isinstance(d, s.Offered)] == ["B"]


def test_the_related_advisor_comes_before_the_longest_idle() -> None:
    check("""
        waiting   queue  since  related | advisor  state  free seats  idle
        call A    help   09:00  bob     | ana      ready  voice       08:00
                                        | bob      ready  voice       08:50
        at 09:05
        gives A->bob
    """)


def hotline(*advisors: Advisor, queue: Queue | None = None, now: float = 0.0) -> Distribution:
    model = Distribution()
    model.step(s.RulesSet((queue or Queue("help", "help"),)), now)
    for advisor in advisors:
        model.step(s.AdvisorSet(advisor), now)
        model.step(s.ReachSet(advisor.id, "voice", True), now)
        model.step(s.PresenceSet(advisor.id, "ready"), now)
    return model


def person(id: str, **seats: int) -> Advisor:
    return Advisor(id, id, id, seats=seats or {"voice": 1})


def offered(decisions: list[s.Decision]) -> list[tuple[str, str]]:
    return [(d.interaction, d.advisor) for d in decisions if isinstance(d, s.Offered)]


def call(id: str, since: float = 0.0, **more: object) -> s.Enqueue:
    return s.Enqueue(id, "help", "voice", since, **more)  # type: ignore[arg-type]


def test_a_refused_caller_goes_elsewhere_while_another_is_at_work_even_a_busy_one() -> None:  # acceptance 8
    model = hotline(person("ana"), person("bob"))
    assert offered(model.step(call("A"), 1)) == [("A", "ana")]
    assert offered(model.step(s.Refuse(1), 2)) == [("A", "bob")]
    assert offered(model.step(s.Refuse(2), 3)) == [("A", "ana")], "all have refused: another round"
    model.step(s.Withdraw("A"), 4)
    model.step(s.Assign("X", "bob", "voice"), 5)
    assert offered(model.step(call("B", 6), 6)) == [("B", "ana")]
    assert offered(model.step(s.Refuse(4), 7)) == [], "bob is on a call, but he is there"
    assert offered(model.step(s.PresenceSet("bob", "pause"), 8)) == [("B", "ana")], "now nobody else is"


def test_a_refusal_does_not_reset_the_idle_time_and_counts_as_no_miss() -> None:
    model = hotline(person("ana"), queue=Queue("help", "help", after_misses=1))
    model.step(call("A"), 1)
    told = model.step(s.Refuse(1), 2)
    assert not any(isinstance(d, s.Paused) for d in told)
    model.step(s.AdvisorSet(person("bob")), 3)
    model.step(s.ReachSet("bob", "voice", True), 3)
    model.step(s.Withdraw("A"), 4)
    model.step(s.PresenceSet("bob", "ready"), 5)
    assert offered(model.step(call("B"), 6)) == [("B", "ana")]


def test_three_misses_in_a_row_pause_the_advisor_and_the_caller_keeps_the_place() -> None:
    model = hotline(person("ana"))
    model.step(call("A"), 1)
    for n in range(3):
        at_s = model.deadline()
        assert at_s == 16 + 15 * n
        told = model.step(s.Tick(), at_s)
        assert [d.how for d in told if isinstance(d, s.OfferEnded)] == ["expired"]
        assert any(isinstance(d, s.Paused) for d in told) == (n == 2)
    assert model.advisor_state("ana") == "pause"
    model.step(call("B", 50), 50)
    assert (model.place("A"), model.place("B")) == (1, 2)
    assert offered(model.step(s.PresenceSet("ana", "ready"), 60)) == [("A", "ana")]


def test_an_accept_between_misses_starts_the_count_again() -> None:
    model = hotline(person("ana"), queue=Queue("help", "help", after_misses=2, wrapup_max_s=0))
    offer = 0
    for n in range(3):
        model.step(call(f"m{n}"), n * 10 + 1)
        offer += 1
        told = model.step(s.Miss(offer), n * 10 + 2)
        assert not any(isinstance(d, s.Paused) for d in told)
        offer += 1
        model.step(s.Accept(offer), n * 10 + 3)
        model.step(s.Finish(f"m{n}"), n * 10 + 4)


def test_a_freed_chat_seat_is_refilled_in_the_same_step_by_the_one_who_waited_longest() -> (
    None
):  # acceptance 3
    model = hotline(person("ana", chat=3), queue=Queue("help", "help", wrapup_max_s=0))
    for n in range(1, 5):
        told = model.step(s.Enqueue(f"chat{n}", "help", "chat", n), n)
        assert offered(told) == ([(f"chat{n}", "ana")] if n < 4 else [])
        if n < 4:
            model.step(s.Accept(n), n)
    model.step(s.Enqueue("chat5", "help", "chat", 5), 5)
    assert offered(model.step(s.Finish("chat2"), 6)) == [("chat4", "ana")]


def test_callbacks_and_live_callers_are_served_by_age_and_priority_one_attempt_a_person() -> (
    None
):  # acceptance 4
    model = hotline(*(person(f"a{n:02}") for n in range(10)), queue=Queue("help", "help", wrapup_max_s=0))
    for n in range(10):
        model.step(s.PresenceSet(f"a{n:02}", "pause"), 1)
    people = [f"p{n % 20}" for n in range(50)]  # 50 callbacks of 20 persons
    for n, contact in enumerate(people):
        model.step(call(f"back{n:02}", 10 + n, contact=contact, callback=True), 100)
    for n in range(5):
        model.step(call(f"live{n}", 30.5 + n, contact=f"p{n}", priority=1 if n == 4 else None), 100)
    served: list[str] = []
    ringing: dict[int, s.Offered] = {}
    talking: list[str] = []
    now = 200.0

    def look(decisions: list[s.Decision]) -> None:
        for d in decisions:
            if isinstance(d, s.Offered):
                ringing[d.offer] = d
                served.append(d.interaction)
                now_with = [contact_of(o.interaction) for o in ringing.values()]
                assert len(now_with) == len(set(now_with)), "one offer a person at a time"
                if d.interaction.startswith("back"):
                    assert contact_of(d.interaction) not in map(contact_of, talking), "nor while we talk"

    def contact_of(id: str) -> str:
        return people[int(id[4:])] if id.startswith("back") else f"p{id[4:]}"

    for n in range(10):
        look(model.step(s.PresenceSet(f"a{n:02}", "ready"), now))
    while ringing:
        now += 1
        offer = min(ringing)
        d = ringing.pop(offer)
        look(model.step(s.Accept(offer), now))
        talking.append(d.interaction)
        if len(talking) > 5:
            look(model.step(s.Finish(talking.pop(0)), now))
    while talking:
        look(model.step(s.Finish(talking.pop(0)), now))
        while ringing:
            offer = min(ringing)
            talking.append(ringing.pop(offer).interaction)
            look(model.step(s.Accept(offer), now))
    assert len(served) == 55
    assert served[0] == "live4", "one point of priority is worth a minute of waiting"
    alone = [id for id in served if id.startswith("back") and int(id[4:]) in range(5, 20)]
    assert alone == sorted(alone), "by age, where no other of the same person is in the way"
    assert served.index("live0") < served.index("back25"), (
        "a live caller stands among the callbacks by his age"
    )


def test_a_newcomer_at_the_first_place_does_not_stop_the_offers() -> None:  # acceptance 9
    model = Distribution()
    model.step(s.RulesSet((Queue("one", "one", wrapup_max_s=0), Queue("two", "two", wrapup_max_s=0))), 0)
    model.step(s.Enqueue("A", "one", "voice", 10), 10)
    model.step(s.Enqueue("B", "two", "voice", 11), 11)
    model.step(s.Enqueue("C", "one", "voice", 12, priority=9), 12)
    assert [model.place(id) for id in "ABC"] == [2, 1, 1], "with no advisor, only the own line is shared"
    model.step(s.AdvisorSet(person("ana")), 13)
    assert [model.place(id) for id in "ABC"] == [2, 3, 1]
    model.step(s.ReachSet("ana", "voice", True), 13)
    order = offered(model.step(s.PresenceSet("ana", "ready"), 14))
    for n in range(1, 3):
        model.step(s.Accept(n), 14 + n)
        order += offered(model.step(s.Finish(order[-1][0]), 14 + n))
    assert [id for id, _ in order] == ["C", "A", "B"]


def test_each_wrap_up_ends_at_its_own_time_while_others_still_wrap_up() -> None:  # acceptance 12
    model = hotline(*(person(f"a{n}") for n in range(10)))
    for n in range(10):
        model.step(s.Assign(f"x{n}", f"a{n}", "voice", queue="help"), 1)
    for n in range(10):
        model.step(s.Finish(f"x{n}"), 10 + n)
    assert model.deadline() == 70
    told = model.step(s.Tick(), 70)
    assert [(d.advisor, d.how) for d in told if isinstance(d, s.WrapupEnded)] == [("a0", "expired")]
    assert [model.advisor_state(f"a{n}") for n in range(10)] == ["ready"] + ["wrapup"] * 9
    assert offered(model.step(call("A", 70.5), 70.5)) == [("A", "a0")]


def test_a_wrap_up_is_extended_once() -> None:
    model = hotline(person("ana"))
    model.step(s.Assign("x", "ana", "voice", queue="help"), 1)
    model.step(s.Finish("x"), 2)
    assert [d.until for d in model.step(s.WrapupExtended("x"), 3) if isinstance(d, s.WrapupStarted)] == [122]
    assert model.step(s.WrapupExtended("x"), 4) == []
    assert model.deadline() == 122


def test_a_caller_is_held_for_the_related_advisor_and_then_released() -> None:
    model = hotline(person("ana"), person("bob"))
    model.step(s.Assign("x", "ana", "voice", queue="help"), 1)
    assert offered(model.step(call("A", 2, related="ana"), 2)) == []
    assert model.why_not("A") == {"no_seat": 1, "held for ana": 1}
    assert model.deadline() == 32
    told = model.step(s.Tick(), 32)
    assert offered(told) == [("A", "bob")]


def test_nobody_is_held_for_an_advisor_who_is_off_shift() -> None:
    model = hotline(person("ana"), person("bob"))
    model.step(s.Assign("x", "ana", "voice", queue="help"), 1)
    model.step(call("A", 2, related="ana"), 2)
    assert offered(model.step(s.PresenceSet("ana", "offline"), 3)) == [("A", "bob")]
    assert offered(model.step(call("B", 4, related="ana"), 4)) == []
    assert model.why_not("B") == {"offline": 1, "no_seat": 1}


def test_a_pause_during_the_ring_cancels_the_offer_and_the_caller_goes_to_the_next() -> None:
    model = hotline(person("ana"), person("bob"))
    model.step(call("A"), 1)
    told = model.step(s.PresenceSet("ana", "pause", "lunch"), 2)
    assert [(d.how, d.reason) for d in told if isinstance(d, s.OfferEnded)] == [("cancelled", "pause lunch")]
    assert offered(told) == [("A", "bob")]


def test_a_lost_phone_ends_the_offer_and_brings_no_other() -> None:
    model = hotline(person("ana"))
    model.step(call("A"), 1)
    told = model.step(s.ReachSet("ana", "voice", False), 2)
    assert [d.how for d in told if isinstance(d, s.OfferEnded)] == ["cancelled"]
    assert model.why_not("A") == {"unreachable": 1}
    assert offered(model.step(s.ReachSet("ana", "voice", True), 3)) == [("A", "ana")]


def test_a_caller_who_hung_up_is_never_offered_and_the_ring_is_cancelled_in_the_same_step() -> None:
    model = hotline(person("ana"))
    model.step(call("A"), 1)
    model.step(call("B", 2), 2)
    told = model.step(s.Withdraw("A"), 3)
    assert [(d.how, d.reason) for d in told if isinstance(d, s.OfferEnded)] == [("cancelled", "withdrawn")]
    assert offered(told) == [("B", "ana")]
    assert model.state("A") is None


def test_who_accepts_too_late_is_told_who_has_it() -> None:
    model = hotline(person("ana"), person("bob"))
    model.step(call("A"), 1)
    model.step(s.Tick(), 16)
    model.step(s.Accept(2), 16.5)
    (denied,) = model.step(s.Accept(1), 16.505)
    assert isinstance(denied, s.Denied)
    assert (denied.why, denied.holder) == ("taken", "bob")


def test_a_lost_advisor_leg_puts_the_caller_back_at_the_old_place() -> None:
    model = hotline(person("ana"))
    model.step(call("A", 0), 1)
    model.step(s.Accept(1), 2)
    model.step(call("B", 3), 3)
    told = model.step(s.Requeue("A"), 4)
    assert offered(told) == [("A", "ana")], "nobody else is there"
    assert [d.epoch for d in told if isinstance(d, s.Offered)] == [2]


def test_a_changed_priority_re_sorts_at_once() -> None:
    model = hotline(person("ana"))
    model.step(s.PresenceSet("ana", "pause"), 0)
    for n, id in enumerate("ABC"):
        model.step(call(id, n), n + 1)
    model.step(s.PrioritySet("C", 3), 5)
    assert [model.place(id) for id in "ABC"] == [2, 3, 1]
    assert offered(model.step(s.PresenceSet("ana", "ready"), 6)) == [("C", "ana")]


def test_who_is_served_before_somebody_is_known_with_the_reason() -> None:
    model = hotline(person("ana"))
    model.step(call("back", 0), 1)
    model.step(s.Accept(1), 2)
    model.step(call("B", 3), 3)
    model.step(call("C", 4), 4)
    assert model.ahead("C") == {"B": "staff"}
    model.step(s.PresenceSet("ana", "pause"), 5)
    model.step(s.Requeue("back"), 6)
    model.step(call("D", 7, priority=9), 7)
    assert model.ahead("C") == {"back": "returned", "B": "staff", "D": "priority"}
    assert model.place("C") == 4
    assert model.ahead("nobody") is None


def test_new_rules_hold_for_those_who_wait_already() -> None:
    model = hotline(Advisor("ana", "a", "a", skills={"fr": 2}))
    model.step(s.RulesSet((Queue("help", "help", needs=(Need((("fr", 3),)),)),)), 1)
    assert offered(model.step(call("A"), 2)) == []
    assert offered(model.step(s.RulesSet((Queue("help", "help", needs=(Need((("fr", 2),)),)),)), 3)) == [
        ("A", "ana")
    ]


def test_click_to_call_takes_a_seat_and_says_why_it_cannot() -> None:
    model = hotline(person("ana"), person("bob"))
    (given,) = model.step(s.Assign("out", "ana", "voice"), 1)
    assert given == s.Assigned("out", "ana", "voice", 1)
    (denied,) = model.step(s.Assign("out2", "ana", "voice"), 2)
    assert isinstance(denied, s.Denied)
    assert denied.why == "no free seat"
    assert offered(model.step(call("A"), 3)) == [("A", "bob")]
    model.step(s.ReachSet("bob", "voice", False), 4)
    (denied,) = model.step(s.Assign("out3", "bob", "voice"), 5)
    assert isinstance(denied, s.Denied)
    assert denied.why == "phone not registered"
    model.step(s.Finish("out"), 6)
    assert model.advisor_state("ana") == "wrapup"
    assert model.step(s.Assign("out4", "ana", "voice"), 7) == [s.Assigned("out4", "ana", "voice", 1)]


def test_a_pause_ends_at_the_end_of_the_shift() -> None:
    model = Distribution()
    now = 1_700_049_600.0  # 2023-11-15 13:00 in Paris
    model.step(s.RulesSet((Queue("help", "help"),), (), "Europe/Paris"), now)
    model.step(s.AdvisorSet(Advisor("ana", "a", "a", shift_ends="18:00")), now)
    model.step(s.PresenceSet("ana", "ready"), now)
    model.step(s.PresenceSet("ana", "pause", "lunch"), now + 60)
    assert model.deadline() == now + 5 * 3600
    assert model.step(s.Tick(), now + 5 * 3600) == [s.PauseEnded("ana", "offline")]


HOURS = Hours("office", {0: ("08:00-18:00",), 1: ("08:00-18:00",), 2: ("08:00-18:00",)})


@pytest.mark.parametrize("rule", ["serve", "announce"])
def test_at_closing_those_inside_follow_the_rule(rule: str) -> None:
    model = Distribution()
    now = 1_700_067_540.0  # Wednesday 2023-11-15 17:59 in Paris
    queue = Queue("help", "help", hours="office", at_closing=rule)
    model.step(s.RulesSet((queue,), (HOURS,), "Europe/Paris"), now)
    model.step(call("A", now), now)
    model.step(s.Enqueue("M", "help", "mail", now), now)
    told = model.step(s.Tick(), now + 60)
    late = model.step(call("B", now + 90), now + 90)
    assert (told, late) == (
        ([], [])
        if rule == "serve"
        else ([s.ClosingReached("A", "help", rule)], [s.ClosingReached("B", "help", rule)])
    )
    assert model.state("M") is not None, "what is written waits for the morning"


def test_an_overflow_keeps_the_age() -> None:
    model = Distribution()
    first = Queue("one", "one", overflow_after_s=60, overflow_to="two")
    model.step(s.RulesSet((first, Queue("two", "two"))), 0)
    model.step(s.AdvisorSet(Advisor("ana", "a", "a", queues=("two",), seats={"voice": 1})), 0)
    model.step(s.ReachSet("ana", "voice", True), 0)
    model.step(s.PresenceSet("ana", "ready"), 0)
    assert offered(model.step(s.Enqueue("A", "one", "voice", 0), 0)) == []
    told = model.step(s.Tick(), 60)
    assert told[0] == s.Overflowed("A", "one", "two")
    assert offered(told) == [("A", "ana")]
    assert isinstance(told[1], s.Offered)
    assert told[1].why.since == 0


def test_a_breach_is_forecast_before_it_happens() -> None:
    model = Distribution()
    model.step(s.RulesSet((Queue("help", "help", targets={"voice": Target(0.8, 90)}),)), 0)
    model.step(call("A"), 0)
    forecasts: list[tuple[float, s.BreachForecast]] = []
    now = 0.0
    while now < 100:
        now = model.deadline() or 100.0
        forecasts += [(now, d) for d in model.step(s.Tick(), now) if isinstance(d, s.BreachForecast)]
    assert forecasts == [(30.0, s.BreachForecast("help", "voice", 60.0))], "once, a minute before"


def test_a_full_queue_takes_no_more_calls() -> None:
    model = hotline(queue=Queue("help", "help", max_waiting=1))
    model.step(call("A"), 1)
    (denied,) = model.step(call("B"), 2)
    assert isinstance(denied, s.Denied)
    assert denied.why == "queue full"


def test_a_restart_loses_nobody_and_keeps_age_seats_and_wrap_ups() -> None:
    model = hotline(person("ana"), person("bob"))
    told = model.step(
        s.Restore(
            (
                s.Kept(call("talking", 1, epoch=1), "active", "ana"),
                s.Kept(call("wrapping", 2, epoch=3), "wrapup", "bob", wrapup_until=120),
                s.Kept(call("was offered", 3, epoch=2)),
                s.Kept(call("older", 2.5)),
            ),
            next_offer=41,
        ),
        100,
    )
    assert told == []
    assert model.state("talking") == (State.ACTIVE, "ana", 1)
    assert [model.place("older"), model.place("was offered")] == [1, 2]
    assert model.deadline() == 120
    (ended, offer) = model.step(s.Tick(), 120)
    assert isinstance(ended, s.WrapupEnded)
    assert isinstance(offer, s.Offered)
    assert (offer.offer, offer.interaction, offer.epoch) == (41, "older", 1)
    model.step(s.Finish("talking"), 121)
    told = model.step(s.WrapupDone("talking"), 122)
    assert [(d.interaction, d.epoch) for d in told if isinstance(d, s.Offered)] == [("was offered", 3)]


def test_one_who_left_the_staff_ends_the_talk_and_gets_nothing_more() -> None:
    model = hotline(person("ana"), person("bob"))
    model.step(call("A"), 1)
    model.step(s.Accept(1), 2)
    model.step(s.AdvisorGone("ana"), 3)
    model.step(s.Finish("A"), 4)
    assert model.advisor_state("ana") == "offline"
    model.step(s.WrapupDone("A"), 5)
    assert model.advisor_state("ana") is None
    assert offered(model.step(call("B"), 6)) == [("B", "bob")]


def test_the_board_counts_what_the_model_holds() -> None:
    model = hotline(person("ana"), person("bob"), person("cyd"))
    model.step(s.PresenceSet("cyd", "pause"), 0)
    for n, id in enumerate("ABC"):
        model.step(call(id, n), n)
    model.step(s.Accept(1), 3)
    (row,) = model.board(12).queues
    assert (row.queue, row.channel, row.waiting, row.offered, row.active) == ("help", "voice", 1, 1, 1)
    assert row.longest_wait_s == 10
    assert dict(row.staff) == {"pause": 1, "no_seat": 2}
    assert model.board(12).advisors == {"ready": 0, "busy": 2, "wrapup": 0, "pause": 1, "offline": 0}


def test_ageing_bounds_the_wait_and_nobody_starves() -> None:  # I8
    patient = {"voice": 1000.0}
    slow = Queue("slow", "slow", wrapup_max_s=0, offer_s=patient)
    gold = Queue("gold", "gold", priority=5, wrapup_max_s=0, offer_s=patient)
    bound = bound_minutes(slow, 5)
    assert bound == 5
    assert bound_minutes(Queue("never", "n", ageing_per_minute=0), 5) == float("inf")
    model = Distribution()
    model.step(s.RulesSet((slow, gold)), 0)
    model.step(s.AdvisorSet(person("ana")), 0)
    model.step(s.ReachSet("ana", "voice", True), 0)
    offers = model.step(s.PresenceSet("ana", "ready"), 0)
    now, n = 0.0, 0
    model.step(s.Enqueue("g0", "gold", "voice", 0), 0)
    model.step(s.Enqueue("poor", "slow", "voice", 0), 0)
    current, offer = "g0", 1
    while current != "poor":  # always another gold one, one a minute, served one a minute
        n += 1
        now += 60
        model.step(s.Enqueue(f"g{n}", "gold", "voice", now), now)
        model.step(s.Accept(offer), now)
        offers = model.step(s.Finish(current), now)
        assert isinstance(offers[-1], s.Offered)
        current, offer = offers[-1].interaction, offers[-1].offer
        assert now <= (bound + 2) * 60
    assert now >= bound * 60


WEIGHTS = {"voice": 100.0, "chat": 33.0, "mail": 20.0}


def weighed(**seats: int) -> Distribution:
    model = Distribution()
    model.step(s.RulesSet((Queue("help", "help", wrapup_max_s=0),), weights=WEIGHTS), 0)
    model.step(s.AdvisorSet(person("ana", **seats)), 0)
    model.step(s.ReachSet("ana", "voice", True), 0)
    model.step(s.PresenceSet("ana", "ready"), 0)
    return model


def gone(model: Distribution, id: str, now: float) -> list[s.Decision]:
    """Over, without wrap-up."""
    return model.step(s.Withdraw(id), now) + model.step(s.WrapupDone(id), now)


def arrives(model: Distribution, id: str, now: float) -> list[tuple[str, str]]:
    """One whose name begins with its channel; accepted at once when offered."""
    decisions = model.step(s.Enqueue(id, "help", id.split("-")[0], now), now)
    for one in decisions:
        if isinstance(one, s.Offered):
            model.step(s.Accept(one.offer), now)
    return offered(decisions)


@pytest.mark.parametrize(
    ("inside", "comes", "gets"),
    [
        ("", "voice", True),
        ("chat", "voice", False),  # a call interrupts no chat
        ("mail mail mail", "voice", True),  # but mails
        ("voice", "chat", False),
        ("voice", "mail", False),
        ("chat chat", "chat", True),
        ("chat chat chat", "chat", False),
        ("mail mail mail mail", "chat", False),
        ("mail mail mail", "chat", True),
        ("chat mail", "mail", True),
    ],
)
def test_what_an_advisor_has_in_hand_weighs_at_most_a_hundred(inside: str, comes: str, gets: bool) -> None:
    model = weighed(voice=1, chat=5, mail=9)
    now = 0.0
    for n, channel in enumerate(inside.split()):
        now += 1
        assert arrives(model, f"{channel}-{n}", now), (channel, n)
    assert bool(arrives(model, f"{comes}-last", now + 1)) is gets


def test_a_call_takes_the_seat_of_the_chat_and_nothing_slips_in_between() -> None:  # F5
    model = weighed(voice=1, chat=3)
    for n in (1, 2):
        arrives(model, f"chat-{n}", n)
    assert not arrives(model, "voice-waiting", 3)
    (denied,) = model.step(s.Assign("out", "ana", "voice"), 4)
    assert isinstance(denied, s.Denied), "one chat more than the call may interrupt"
    assert denied.why == "no free seat"
    assert model.step(s.Assign("out", "ana", "voice", exchange="chat-1"), 5) == [
        s.Assigned("out", "ana", "voice", 1),
        s.SeatLent("chat-1", "ana", "out"),
    ]
    assert not arrives(model, "chat-3", 6), "the chat keeps its seat, and the call outweighs the rest"
    back = gone(model, "out", 7)  # nobody answered
    assert s.SeatReturned("chat-1", "ana", "out") in back
    assert model.state("chat-1") == (State.ACTIVE, "ana", 1)
    assert offered(back) == [("chat-3", "ana")], (
        "the third chat seat is free again, and a call may not interrupt"
    )


def test_an_exchange_sends_back_the_call_that_was_just_ringing() -> None:
    model = weighed(voice=1, chat=1)
    model.step(s.RulesSet((Queue("help", "help", wrapup_max_s=0),)), 0)  # without weights: both at once
    arrives(model, "chat-1", 1)
    (ring,) = model.step(s.Enqueue("voice-1", "help", "voice", 2), 2)
    assert isinstance(ring, s.Offered)
    decisions = model.step(s.Assign("out", "ana", "voice", exchange="chat-1"), 3)
    assert [(type(d).__name__, d.interaction) for d in decisions] == [  # type: ignore[union-attr]
        ("OfferEnded", "voice-1"),
        ("Assigned", "out"),
        ("SeatLent", "chat-1"),
    ]
    assert model.state("voice-1") == (State.WAITING, None, 1)
    assert offered(gone(model, "out", 4)) == [("voice-1", "ana")]


def test_a_seat_that_was_lent_is_gone_with_its_chat() -> None:
    model = weighed(voice=1, chat=1)
    arrives(model, "chat-1", 1)
    model.step(s.Assign("out", "ana", "voice", exchange="chat-1"), 2)
    model.step(s.Withdraw("chat-1"), 3)
    assert not any(isinstance(d, s.SeatReturned) for d in gone(model, "out", 4))
    assert arrives(model, "voice-1", 5)


def test_what_is_on_hold_stays_with_its_advisor_and_its_seat_serves_others() -> None:  # Q20
    model = weighed(chat=1)
    arrives(model, "chat-1", 1)
    assert not arrives(model, "chat-2", 2)
    held = model.step(s.SetAside("chat-1", True), 3)
    assert offered(held) == [("chat-2", "ana")]
    (offer,) = (one for one in held if isinstance(one, s.Offered))
    model.step(s.Accept(offer.offer), 4)
    assert model.state("chat-1") == (State.ACTIVE, "ana", 1)
    assert not model.step(s.SetAside("chat-1", False), 5), "two at once, for the first one is hers"
    assert not arrives(model, "chat-3", 6)
    assert not offered(gone(model, "chat-2", 7)), "the first has the only seat now"
    assert offered(gone(model, "chat-1", 8)) == [("chat-3", "ana")]


def test_what_ends_on_hold_gives_no_second_seat_back() -> None:
    model = weighed(chat=1)
    arrives(model, "chat-1", 1)
    model.step(s.SetAside("chat-1", True), 2)
    assert arrives(model, "chat-2", 3)
    gone(model, "chat-1", 4)
    assert not arrives(model, "chat-3", 5)


def test_what_is_on_hold_is_so_after_a_restart() -> None:
    model = weighed(chat=1)
    told = s.Enqueue("chat-1", "help", "chat", 0)
    model.step(s.Restore((s.Kept(told, "active", "ana", aside=True),)), 1)
    assert arrives(model, "chat-2", 2)


def test_nothing_on_hold_can_lend_its_seat() -> None:
    model = weighed(voice=1, chat=1)
    arrives(model, "chat-1", 1)
    model.step(s.SetAside("chat-1", True), 2)
    (denied,) = model.step(s.Assign("out", "ana", "voice", exchange="chat-1"), 3)
    assert isinstance(denied, s.Denied)
    assert model.step(s.Assign("out", "ana", "voice"), 4) == [s.Assigned("out", "ana", "voice", 1)]


def test_what_is_written_at_night_waits_for_the_morning_in_its_order() -> None:
    hours = Hours("day", dict.fromkeys(range(7), ("08:00-18:00",)))
    queue = Queue("help", "help", hours="day", at_closing="announce", offer_s={"chat": 1e6}, wrapup_max_s=0)
    model = Distribution()
    model.step(s.RulesSet((queue,), (hours,), "UTC"), at("02:00"))
    model.step(s.AdvisorSet(person("ana", chat=2)), at("02:00"))
    model.step(s.PresenceSet("ana", "ready"), at("02:00"))
    for n, id in enumerate("BA"):
        assert not offered(model.step(s.Enqueue(id, "help", "chat", at("02:10") + n), at("02:10") + n))
    assert model.why_not("A") == {"closed": 1}
    assert model.deadline() == at("08:00")
    assert offered(model.step(s.Tick(), at("08:00"))) == [("B", "ana"), ("A", "ana")]


@pytest.mark.parametrize(("rule", "served"), [("serve", True), ("announce", False)])
def test_who_wrote_in_time_is_still_served_where_the_queue_says_so(rule: str, served: bool) -> None:
    hours = Hours("day", dict.fromkeys(range(7), ("08:00-18:00",)))
    queue = Queue("help", "help", hours="day", at_closing=rule)
    model = Distribution()
    model.step(s.RulesSet((queue,), (hours,), "UTC"), at("17:00"))
    model.step(s.AdvisorSet(person("ana", chat=3)), at("17:00"))
    model.step(s.Enqueue("early", "help", "chat", at("17:59")), at("17:59"))
    model.step(s.Tick(), at("18:00"))
    model.step(s.Enqueue("late", "help", "chat", at("18:01")), at("18:01"))
    given = offered(model.step(s.PresenceSet("ana", "ready"), at("18:05")))
    assert given == ([("early", "ana")] if served else [])
    morning = offered(model.step(s.Tick(), at("08:00") + 86_400))
    assert [id for id, _ in morning if id == "late"] == ["late"]


def test_the_fourth_chat_is_given_in_the_step_that_frees_a_seat_and_before_a_fifth() -> None:  # acceptance 3
    model = weighed(chat=3)
    for n in (1, 2, 3):
        assert arrives(model, f"chat-{n}", n)
    assert not arrives(model, "chat-4", 4)
    assert not arrives(model, "chat-5", 5)
    assert offered(model.step(s.Withdraw("chat-2"), 6)) == [("chat-4", "ana")]


def test_an_advisor_pulls_one_who_waits_and_who_comes_second_is_told_who_has_it() -> None:  # acceptance 7
    model = hotline(person("ana", chat=1), person("bob", chat=1))
    for advisor in ("ana", "bob"):
        model.step(s.PresenceSet(advisor, "pause"), 0)
    model.step(s.Enqueue("A", "help", "chat", 1), 1)
    assert model.step(s.Assign("A", "ana", "chat"), 2) == [s.Assigned("A", "ana", "chat", 1)]
    (denied,) = model.step(s.Assign("A", "bob", "chat"), 2.005)
    assert isinstance(denied, s.Denied)
    assert (denied.why, denied.holder) == ("taken", "ana")
