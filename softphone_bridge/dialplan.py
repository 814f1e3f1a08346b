"""The dial plan: which outgoing numbers may leave by which trunk. It denies unless a rule allows (fault row 23).

Every leg towards the telephone network gets its SIP URI from `Dialplan.way`, and from nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import re2

NUMBER = re2.compile(r"\+?[0-9]{2,20}")
SEPARATORS = str.maketrans("", "", " .-/()")


@dataclass(frozen=True, slots=True)
class Route:
    """A carrier as calls leave by it. `allow` and `deny` are RE2 patterns that must match the whole number."""

    trunk: str
    target: str | None  # host:port;transport=…
    allow: tuple[str, ...]
    deny: tuple[str, ...] = ()
    caller_id: str | None = None
    max_calls: int = 100


@dataclass(frozen=True, slots=True)
class Way:
    """An allowed way out: where the INVITE goes and what number it shows."""

    trunk: str
    uri: str
    caller_id: str | None


@dataclass(frozen=True, slots=True)
class Denied:
    """`why` is not_a_number, no_trunk, not_allowed or trunk_full."""

    why: str


class Dialplan:
    """Decides every leg that leaves by a trunk."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [
            (route, [re2.compile(p) for p in route.allow], [re2.compile(p) for p in route.deny])
            for route in routes
            if route.target
        ]

    def way(self, number: str, *, running: Mapping[str, int], trunk: str | None = None) -> Way | Denied:
        """The first trunk that may carry `number`; `running` counts the calls up on each trunk."""
        plain = number.translate(SEPARATORS)
        if not NUMBER.fullmatch(plain):
            return Denied("not_a_number")
        routes = [r for r in self._routes if trunk in (None, r[0].trunk)]
        if not routes:
            return Denied("no_trunk")
        full = False
        for route, allow, deny in routes:
            if any(p.fullmatch(plain) for p in deny) or not any(p.fullmatch(plain) for p in allow):
                continue
            if running.get(route.trunk, 0) >= route.max_calls:
                full = True
                continue
            return Way(route.trunk, f"sip:{plain}@{route.target}", route.caller_id)
        return Denied("trunk_full" if full else "not_allowed")
