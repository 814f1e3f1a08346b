"""One call of one advisor, from the offer or the click until both legs are gone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from cti.hearing import Hearing
from routing.site import Queue


class Phase(StrEnum):
    POPPING = "popping"
    RINGING = "ringing"
    ACCEPTING = "accepting"
    TALKING = "talking"
    HELD = "held"
    RETURNING = "returning"  # the advisor is lost; waiting for the desk to give the caller his old place
    CALLING_ADVISOR = "calling_advisor"
    CALLING_CUSTOMER = "calling_customer"
    OVER = "over"


UP = frozenset({Phase.TALKING, Phase.HELD})
CALLING = frozenset({Phase.CALLING_ADVISOR, Phase.CALLING_CUSTOMER})


@dataclass(slots=True, eq=False)
class Talk:
    interaction: UUID
    call: str
    advisor: str
    account: str
    phase: Phase
    advisor_leg: str
    customer_leg: str
    offer: UUID | None = None
    queue: Queue | None = None
    language: str = "fr"
    number: str = ""
    made_s: float = 0.0  # monotonic
    rung_s: float = 0.0  # monotonic; when the INVITE left for the advisor's phone
    deadline: float = 0.0  # unix
    recording: str | None = None
    notices: dict[int, asyncio.Event] = field(default_factory=dict)  # play → done
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    hearing: Hearing | None = None
    verdict: str = "ok"
