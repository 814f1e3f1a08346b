"""Who may be called through which trunk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone_bridge.dialplan import Denied, Dialplan, Route, Way

ROUTES = (
    Route(
        "orange",
        "192.0.2.1:5060",
        allow=(r"\+33[1-9][0-9]{8}",),
        deny=(r"\+338[0-9]*",),
        caller_id="+33123456789",
        max_calls=2,
    ),
    Route("voisin", "192.0.2.2:5070;transport=tcp", allow=(r"\+49[0-9]+", r"\+33123[0-9]+")),
    Route("incoming-only", None, allow=(r".*",)),
)


@pytest.mark.parametrize(
    ("number", "running", "expected"),
    [
        ("+33612345678", {}, Way("orange", "sip:+33612345678@192.0.2.1:5060", "+33123456789")),
        ("+33 6 12-34.56/78", {}, Way("orange", "sip:+33612345678@192.0.2.1:5060", "+33123456789")),
        ("+33899123456", {}, Denied("not_allowed")),
        ("+4930123", {}, Way("voisin", "sip:+4930123@192.0.2.2:5070;transport=tcp", None)),
        ("+33123456789", {"orange": 2}, Way("voisin", "sip:+33123456789@192.0.2.2:5070;transport=tcp", None)),
        ("+33612345678", {"orange": 2}, Denied("trunk_full")),
        ("+15551234567", {}, Denied("not_allowed")),
        ("alice", {}, Denied("not_a_number")),
        ("+33612345678@evil.example", {}, Denied("not_a_number")),
        ("+33612345678;phone-context=x", {}, Denied("not_a_number")),
        ("", {}, Denied("not_a_number")),
    ],
)
def test_a_number_leaves_only_by_a_trunk_that_allows_it(
    number: str, running: dict[str, int], expected: Way | Denied
) -> None:
    assert Dialplan(ROUTES).way(number, running=running) == expected


def test_without_trunks_nothing_leaves() -> None:
    assert Dialplan(()).way("+33612345678", running={}) == Denied("no_trunk")


def test_a_trunk_that_has_no_target_carries_nothing_out() -> None:
    assert Dialplan(ROUTES).way("+15551234567", running={}, trunk="incoming-only") == Denied("no_trunk")


@given(st.text(max_size=40))
def test_whatever_is_asked_for_the_uri_is_only_digits_at_a_known_trunk(number: str) -> None:
    way = Dialplan(ROUTES).way(number, running={})
    if isinstance(way, Way):
        user, _, host = way.uri.removeprefix("sip:").partition("@")
        assert user.lstrip("+").isdigit()
        assert host in ("192.0.2.1:5060", "192.0.2.2:5070;transport=tcp")
