"""The table of an interaction's life: complete, without dead ends, and true to its words."""

from __future__ import annotations

from itertools import product

import pytest

from routing.interaction import IGNORED, LAST, TABLE, Input, State, after


@pytest.mark.parametrize(("state", "told"), list(product(State, Input)))
def test_every_pair_is_decided_or_ignored_for_a_reason_and_never_both(state: State, told: Input) -> None:
    assert ((state, told) in TABLE) != ((state, told) in IGNORED)
    assert after(state, told) == TABLE.get((state, told))
    if (state, told) in IGNORED:
        assert len(IGNORED[state, told]) > 10


def test_what_is_over_stays_over() -> None:
    assert not any(state in LAST for state, _ in TABLE)


@pytest.mark.parametrize("state", [state for state in State if state not in LAST])
def test_every_life_can_end(state: State) -> None:
    reached, frontier = set[State](), {state}
    while frontier:
        reached |= frontier
        frontier = {to for (at, _), to in TABLE.items() if at in frontier} - reached
    assert reached & LAST
    assert after(state, Input.INTERRUPT) is State.INTERRUPTED


def test_only_an_offer_or_an_assignment_leads_to_an_owner() -> None:
    owned = {State.OFFERED, State.ACTIVE}
    into = {told for (at, told), to in TABLE.items() if to in owned and at not in owned}
    assert into == {Input.OFFER, Input.ASSIGN}


def test_who_leaves_before_being_served_has_abandoned_and_later_has_not() -> None:
    ends = {state: after(state, Input.LEAVE) for state in State if state not in LAST}
    assert ends == {
        State.OPENED: State.ABANDONED,
        State.QUALIFYING: State.ABANDONED,
        State.WAITING: State.ABANDONED,
        State.OFFERED: State.ABANDONED,
        State.ACTIVE: State.WRAPUP,
        State.WRAPUP: None,
    }
