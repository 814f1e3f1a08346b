"""Who is looking at a case and who is typing in it (F9): ephemeral, and over when it is not said again."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

EXPIRES_S = 10.0
MOST_CASES = 8  # of one page: who opens more has left the first ones
NOTHING, VIEWING, TYPING = "none", "viewing", "typing"


class Viewers:
    """Times are monotonic seconds. A viewer is one open page of somebody; `page` names it."""

    def __init__(self) -> None:
        self._cases: dict[UUID, dict[tuple[str, int], tuple[str, float]]] = {}

    def said(self, case: UUID, login: str, page: int, doing: str, now_s: float) -> bool:
        """True when what colleagues should see has changed."""
        before = self.of(case)
        viewers = self._cases.setdefault(case, {})
        if doing == NOTHING:
            viewers.pop((login, page), None)
        else:
            viewers[login, page] = (doing, now_s + EXPIRES_S)
            self._leave_oldest(login, page, case)
        if not viewers:
            del self._cases[case]
        return self.of(case) != before

    def _leave_oldest(self, login: str, page: int, now: UUID) -> None:
        """The longest silent ones end by the next look at the clock."""
        mine = [case for case, viewers in self._cases.items() if (login, page) in viewers and case != now]
        for case in mine[: max(0, len(mine) + 1 - MOST_CASES)]:
            doing, _ = self._cases[case][login, page]
            self._cases[case][login, page] = (doing, 0.0)

    def left(self, login: str, page: int) -> list[UUID]:
        """A page is gone; returns the cases that it was looking at."""
        return [
            case
            for case in list(self._cases)
            if (login, page) in self._cases[case] and self.said(case, login, page, NOTHING, 0.0)
        ]

    def expire(self, now_s: float) -> Iterator[UUID]:
        """Forget those who have not said it again; yields the cases where that changes something."""
        for case, viewers in list(self._cases.items()):
            before = self.of(case)
            for who in [who for who, (_, until_s) in viewers.items() if until_s <= now_s]:
                del viewers[who]
            if not viewers:
                del self._cases[case]
            if self.of(case) != before:
                yield case

    def of(self, case: UUID) -> dict[str, str]:
        """login → viewing or typing; who types on one page types."""
        doing: dict[str, str] = {}
        for (login, _), (what, _) in self._cases.get(case, {}).items():
            if doing.get(login) != TYPING:
                doing[login] = what
        return dict(sorted(doing.items()))
