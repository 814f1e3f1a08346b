"""What a channel brings to the contract: its bodies and what they say, its messages and the calls that carry them.

Each channel has `tests/payloads/NAME/case.py` with one `CASE`; the files of its bodies lie beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from routing.channel import Call, Failure, Heard, Outgoing, Reply, Request, Result, Secrets
from routing.site import Account

DEMANDS = {
    "signature": "requests that are proved (absent, empty, another's, re-encoded: each refused)",
    "first_broken": "a body of several events whose first is broken",
    "unknown": "a body with an event of a kind that nobody knows",
    "no_sender": "a body whose event names no sender",
    "receipts": "a body with receipts in the wrong order",
    "expired": "a body with an attachment that cannot be fetched any more",
    "standby": "a body with a copy of what another application answers",
    "handshake": "the question by which the provider tries our address",
    "json": "a body in JSON, each of whose fields is then broken",
}
"""What each channel must show, or say in `lacks` why it cannot. A body shows it by its `shows`.

A reason is held against the manifest and against what the file does (GROUNDS in test_channels.py).
"""


@dataclass(frozen=True, slots=True)
class Like:
    """Any Heard of that kind with these fields; for those whose every field would be noise."""

    kind: type[Heard]
    fields: Mapping[str, Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self.kind) and all(
            getattr(other, name) == value for name, value in self.fields.items()
        )

    __hash__ = None  # type: ignore[assignment]


def like(kind: type[Heard], /, **said: Any) -> Like:
    assert set(said) <= {known.name for known in fields(kind)}, f"{kind.__name__} has no such field"
    return Like(kind, said)


@dataclass(frozen=True, slots=True)
class Body:
    """A file of the folder, what `parse` must hear in it (None: only that it can be parsed), what it shows."""

    hears: tuple[Heard | Like, ...] | None
    shows: frozenset[str] = frozenset()


def body(*hears: Heard | Like, shows: str = "") -> Body:
    return Body(hears, frozenset(shows.split()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One message: the calls that `render` must make, what is replied to each, and the result in the end.

    `calls` None: only their number is held against `replies`. `memory` is what the channel remembers before.
    """

    name: str
    out: Outgoing
    replies: tuple[Reply, ...]
    result: Result
    calls: tuple[Call, ...] | None = None
    memory: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything the contract needs of one channel."""

    account: Account
    secrets: Secrets
    bodies: Mapping[str, Body]  # file -> what is in it; every other file of the folder fails the contract
    exchanges: tuple[Exchange, ...]
    plain: Outgoing  # a short text of an advisor, inside every window
    accepted: Reply  # what the provider answers when it has taken such a message
    failures: Mapping[Failure, tuple[Reply, ...]]  # answers to `plain` that mean each class
    memory: Mapping[str, str] = field(default_factory=dict)  # with it `plain` is one call
    sign: Callable[[bytes, Secrets], Request] | None = None  # the provider's own request of a body
    signature: str = ""  # the header that proves it, in lower case
    handshake: Callable[[Secrets], tuple[Request, str]] | None = (
        None  # (a GET that asks who we are, our answer)
    )
    text_of: Callable[[Call], str] = lambda call: ""  # the words a call carries to the customer
    lacks: Mapping[str, str] = field(
        default_factory=dict
    )  # demand or failure class -> why the channel has none
