"""Which case an interaction belongs to (C2, F8): the one that is open, or a new one that nobody has to search for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from routing.models import CaseState
from routing.projection import CaseRow

LIVE = frozenset({CaseState.OPEN, CaseState.WAITING})


@dataclass(frozen=True, slots=True)
class Choice:
    """`case` is joined (and `reopened` when it was over); None asks for a new one, that `follows` an older matter.

    `provisional`: several fit, so the advisor is shown the list and chooses.
    """

    case: UUID | None
    reopened: bool = False
    provisional: bool = False
    follows: UUID | None = None


def choose(cases: Iterable[CaseRow], now: datetime, window_h: float) -> Choice:
    """One open: it. Several: a provisional new one. None: reopen the one that ended within the window, else a new one.

    `cases` are those of one person, over all contacts that are one with him.
    """
    own = list(cases)
    live = [case for case in own if case.state in LIVE and not (case.provisional and case.interactions == 0)]
    if len(live) == 1:
        return Choice(live[0].id)
    if live:
        return Choice(None, provisional=True)
    since = now - timedelta(hours=window_h)
    over = sorted(
        (case for case in own if case.closed_at is not None), key=lambda case: (case.closed_at, case.id)
    )
    recent = [case for case in over if case.closed_at is not None and case.closed_at >= since]
    if len(recent) == 1:
        return Choice(recent[0].id, reopened=True)
    if recent:
        return Choice(None, provisional=True)
    return Choice(None, follows=over[-1].id if over else None)
