"""Session timers (RFC 4028): how long a call may go without a refresh, and whose turn it is."""

from __future__ import annotations

from typing import NamedTuple

from softphone_bridge.message import Message
from softphone_bridge.uri import parse_params


class Terms(NamedTuple):
    """What two sides agreed: `interval_s` 0 means no timer. `told` is whether the far side speaks RFC 4028."""

    interval_s: int
    we_refresh: bool
    told: bool

    @property
    def refresh_after_s(self) -> float:
        return self.interval_s / 2

    @property
    def dead_after_s(self) -> float:
        """When the side that waits gives up (RFC 4028 10)."""
        return self.interval_s - min(32.0, self.interval_s / 3)


NO_TERMS = Terms(0, False, False)


def asked(message: Message, key: str = "session-expires") -> tuple[int, str]:
    """Seconds and refresher of Session-Expires (or seconds of Min-SE); 0 when absent or bad."""
    value, semicolon, rest = message.get(key).partition(";")
    value = value.strip()
    if not value.isdigit() or len(value) > 9:
        return 0, ""
    params = parse_params(semicolon + rest) or {}
    return int(value), params.get("refresher", "").lower()


def too_small(request: Message, min_se_s: int) -> bool:
    seconds, _ = asked(request)
    return 0 < seconds < min_se_s and "timer" in request.tokens("supported")


def answer_terms(request: Message, session_expires_s: int) -> Terms:
    """The server's side of an INVITE or UPDATE."""
    told = "timer" in request.tokens("supported")
    seconds, refresher = asked(request)
    least, _ = asked(request, "min-se")
    if not seconds:
        interval = max(session_expires_s, least) if session_expires_s else 0
        return Terms(interval, True, told)
    interval = max(min(seconds, session_expires_s), least) if session_expires_s else seconds
    we = refresher == "uas" or (refresher != "uac" and not told)
    return Terms(interval, we, told)


def answer_lines(terms: Terms) -> list[str]:
    """What our 200 says of it."""
    if not terms.interval_s or not terms.told:
        return []
    lines = [f"Session-Expires: {terms.interval_s};refresher={'uas' if terms.we_refresh else 'uac'}"]
    if not terms.we_refresh:
        lines.append("Require: timer")
    return lines


def answered_terms(response: Message, session_expires_s: int) -> Terms:
    """The client's side, from a 200 to our INVITE or UPDATE."""
    seconds, refresher = asked(response)
    if not seconds:
        return Terms(session_expires_s, True, False)
    return Terms(seconds, refresher != "uas", True)
