"""Until when a customer may be answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cti.window import window
from routing.channel import CHAT, MAIL, Manifest

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LABELS = {"en": "x"}
MESSENGER = Manifest(
    name="messenger",
    seat=CHAT,
    address_kind="psid",
    labels=LABELS,
    window_h=24,
    tag_window_h=168,
    tag="HUMAN",
)
SHORT = Manifest(name="short", seat=CHAT, address_kind="x", labels=LABELS, window_h=24)
EMAIL = Manifest(name="email", seat=MAIL, address_kind="email", labels=LABELS, starts=True)
WEBCHAT = Manifest(name="webchat", seat=CHAT, address_kind="webchat", labels=LABELS)


@pytest.mark.parametrize(
    ("manifest", "hours", "state"),
    [
        (MESSENGER, 0, "open"),
        (MESSENGER, 23.99, "open"),
        (MESSENGER, 24, "tag"),
        (MESSENGER, 167.99, "tag"),
        (MESSENGER, 168, "closed"),
        (MESSENGER, None, "closed"),
        (SHORT, 23, "open"),
        (SHORT, 25, "closed"),
        (EMAIL, None, "open"),
        (EMAIL, 9999, "open"),
        (WEBCHAT, 9999, "open"),
        (WEBCHAT, None, "closed"),
    ],
)
def test_a_window_opens_with_the_customers_word_and_closes_by_the_channels_clock(
    manifest: Manifest, hours: float | None, state: str
) -> None:
    last = None if hours is None else NOON - timedelta(hours=hours)
    assert window(manifest, last, NOON).state == state


def test_the_clock_of_the_page_runs_to_the_end_of_the_window_and_of_the_tag() -> None:
    found = window(MESSENGER, NOON, NOON)
    assert (found.until, found.tag_until) == (NOON + timedelta(days=1), NOON + timedelta(days=7))
