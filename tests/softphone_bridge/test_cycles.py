"""No call leaves a cycle behind: the collector may stay off in a hot process."""

from __future__ import annotations

import gc

from softphone_bridge.signals import Ended, Invited, StackEvent, Target
from tests.softphone_bridge.world import SDP, World


def test_answered_refused_cancelled_and_lost_calls_leave_nothing_for_the_collector() -> None:
    world = World(3, loss=0.05)
    a, b = world.node("10.0.0.1"), world.node("10.0.0.2")
    count = 0

    def hear(event: StackEvent) -> None:
        nonlocal count
        if isinstance(event, Invited):
            count += 1
            if count % 3 == 0:
                b.stack.reject(event.leg, 486, now=world.now)
            elif count % 3 == 1:
                b.stack.answer(event.leg, SDP, now=world.now)

    def calls(many: int, mark: str) -> None:
        for number in range(many):
            a.stack.place(
                f"{mark}{number}", [Target("sip:1000@10.0.0.2")], from_user="06", sdp=SDP, now=world.now
            )
            world.run(0.5)
            a.stack.end(f"{mark}{number}", now=world.now)
            world.run(0.5)
        world.run(150)
        a.told.clear()
        b.told.clear()
        world.wire.clear()

    b.hear = hear
    calls(5, "warm")
    gc.collect()
    gc.disable()
    try:
        calls(60, "leg")
        found = gc.collect()
    finally:
        gc.enable()
    assert len([e for e in a.told if isinstance(e, Ended)]) == 0
    assert found < 60, f"{found} objects in cycles after 60 calls"
