"""Until when a customer may be answered on a thread, by the channel's manifest and the customer's last message."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from routing.channel import Manifest

OPEN, TAG, CLOSED = "open", "tag", "closed"


@dataclass(frozen=True, slots=True)
class Window:
    """`open`: anybody may answer; `tag`: a human may, marked with the channel's tag; `closed`: nobody may.

    `until` and `tag_until` are None where there is no such limit.
    """

    state: str
    until: datetime | None = None
    tag_until: datetime | None = None


def window(manifest: Manifest, last_in_at: datetime | None, now: datetime) -> Window:
    """`last_in_at` is the provider's time of the customer's last message; None: nobody has written yet."""
    if last_in_at is None:
        return Window(OPEN if manifest.starts else CLOSED)
    if manifest.window_h is None:
        return Window(OPEN)
    until = last_in_at + timedelta(hours=manifest.window_h)
    tag_until = (
        last_in_at + timedelta(hours=manifest.tag_window_h)
        if manifest.tag and manifest.tag_window_h
        else None
    )
    if now < until:
        state = OPEN
    elif tag_until is not None and now < tag_until:
        state = TAG
    else:
        state = CLOSED
    return Window(state, until, tag_until)
