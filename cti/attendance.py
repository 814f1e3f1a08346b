"""Who has the console open: a page that was closed counts for a while, for most come back at once."""

from __future__ import annotations

GRACE_S = 15.0  # a reload, a cut line: no offer is taken back for these


class Attendance:
    """Open pages by login. Times are monotonic seconds."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._pages: dict[str, int] = {}
        self._until: dict[str, float] = {}  # login → when it is gone, unless a page opens

    def opened(self, login: str) -> None:
        self._pages[login] = self._pages.get(login, 0) + 1
        self._until.pop(login, None)

    def closed(self, login: str, now_s: float) -> None:
        """One of the pages that were opened."""
        left = self._pages[login] - 1
        if left:
            self._pages[login] = left
        else:
            del self._pages[login]
            self._until[login] = now_s + self._grace_s

    def present(self, now_s: float) -> set[str]:
        """Everybody with a page, or with one that was closed only just now."""
        self._until = {login: until for login, until in self._until.items() if until > now_s}
        return {*self._pages, *self._until}

    def deadline(self) -> float | None:
        """When the next of them is gone, should nobody come back."""
        return min(self._until.values(), default=None)
