"""Calls over a network that loses and repeats: none fails, none is counted twice."""

from __future__ import annotations

import pytest

from softphone_bridge.events import Cause
from softphone_bridge.signals import Acked, Answered, Ended, Invited, StackEvent, Target
from tests.softphone_bridge.world import SDP, World

CALLS = 500


@pytest.mark.parametrize("seed", range(1, 9))
def test_500_calls_at_10_percent_loss_both_ways_all_succeed_and_none_is_counted_twice(seed: int) -> None:
    print("seed", seed)
    world = World(seed, loss=0.10, repeat=0.02, delay_s=0.02)
    caller, server = world.node("10.0.0.1"), world.node("10.0.0.2")

    def answer(event: StackEvent) -> None:
        if isinstance(event, Invited):
            server.stack.ring(event.leg, now=world.now)
            server.stack.answer(event.leg, SDP, now=world.now)

    def talk(event: StackEvent) -> None:
        if isinstance(event, Answered):
            talking.append((world.now + 5.0, event.leg))

    talking: list[tuple[float, str]] = []
    server.hear, caller.hear = answer, talk
    for number in range(CALLS):
        caller.stack.place(
            f"leg{number}", [Target("sip:1000@10.0.0.2")], from_user="06", sdp=SDP, now=world.now
        )
        world.run(0.02)
        while talking and talking[0][0] <= world.now:
            caller.stack.end(talking.pop(0)[1], now=world.now)
    world.run(20)
    for _, leg in talking:
        caller.stack.end(leg, now=world.now)
    world.run(120)
    assert len(caller.of(Answered)) == len(server.of(Invited)) == len(server.of(Acked)) == CALLS
    ends = [e for e in server.told if isinstance(e, Ended)]
    assert len(ends) == len({e.leg for e in ends}) == CALLS
    assert {e.cause for e in ends} == {Cause.HANGUP}
    for node in (caller, server):
        assert set(node.stack.sizes().values()) == {0}
