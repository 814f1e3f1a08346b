"""What a tree is told (inputs) and what it asks for (commands), in words that no channel owns (V16).

A voice runner turns Say into sound and digits into Key; a text runner turns Say into messages, and hears Wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Key:
    """One press, whatever its source: 0-9, * or #."""

    key: str


@dataclass(frozen=True, slots=True)
class Wrote:
    """Words of the customer, and the payload of the button if one was pressed. Only where a tree is read, not heard.

    `more`: further words wait already; until they are read, these are not misunderstood.
    """

    text: str
    payload: str = ""
    more: bool = False


@dataclass(frozen=True, slots=True)
class SayEnded:
    """What was said last has been heard to its end (or was stopped by Hush)."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The time of the last Wait is over."""


@dataclass(frozen=True, slots=True)
class LookedUp:
    outcome: str  # ok | empty | error | timeout
    data: Any = None


@dataclass(frozen=True, slots=True)
class HoursAnswered:
    open: bool | None  # None: the hours are unknown


@dataclass(frozen=True, slots=True)
class LanguageKnown:
    """The language of the contact's card; None: not known, or not in time."""

    language: str | None


@dataclass(frozen=True, slots=True)
class QueueTold:
    what: str  # accepted | left | closing | overflow | refused
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TransferEnded:
    outcome: str  # connected | failed


@dataclass(frozen=True, slots=True)
class HungUp:
    """The customer is gone."""


Input = (
    Key
    | Wrote
    | SayEnded
    | TimedOut
    | LookedUp
    | HoursAnswered
    | LanguageKnown
    | QueueTold
    | TransferEnded
    | HungUp
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One piece of what is said: a recording by name (with its text, should it be missing), a text, or a value."""

    kind: str  # prompt | text | digits | number | duration
    name: str = ""  # of the recording
    text: str = ""  # words in the language of the Say
    value: str = ""  # digits as they are; number in decimal; duration in seconds


@dataclass(frozen=True, slots=True)
class Say:
    """Say the parts one after another; SayEnded follows. Replaces what is being said."""

    parts: tuple[Spoken, ...]
    language: str
    interruptible: bool = True
    discloses: bool = False  # these words say that a bot is writing


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be chosen now, where a tree is read: `key` stands in a numbered list, `payload` under a button."""

    key: str
    title: str
    payload: str


@dataclass(frozen=True, slots=True)
class Hush:
    """Stop saying. No SayEnded is wanted for it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """TimedOut is wanted after so many seconds, unless another input comes first."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask a server; LookedUp follows."""

    node: str
    url: str
    method: str = "GET"
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    timeout_s: float = 2.0


@dataclass(frozen=True, slots=True)
class AskHours:
    hours: str


@dataclass(frozen=True, slots=True)
class AskLanguage:
    """Which language does the contact's card name? LanguageKnown follows."""


@dataclass(frozen=True, slots=True)
class Enqueue:
    queue: str
    priority: int | None
    needs: tuple[tuple[str, int], ...]
    language: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the queue; the tree goes on. `how`: key | overflow."""

    how: str = "key"


@dataclass(frozen=True, slots=True)
class Learn:
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entered:
    tree: str
    version: int
    node: str


@dataclass(frozen=True, slots=True)
class Left:
    """The customer went from `node` by `exit`; `exit` is "hangup" when gone. `keys` are masked where so marked."""

    tree: str
    version: int
    node: str
    exit: str
    seconds: float
    keys: str = ""
    failed: bool = False  # went by the error exit


@dataclass(frozen=True, slots=True)
class Transfer:
    phone: str | None
    trunk: str | None
    number: str | None
    ring_s: float = 30.0


@dataclass(frozen=True, slots=True)
class HangUp:
    """The tree has ended. `outcome` "failed" means: by our fault, apologise first."""

    outcome: str = "served"
    why: str = ""


Command = (
    Say
    | Hush
    | Wait
    | LookUp
    | AskHours
    | AskLanguage
    | Enqueue
    | Leave
    | Learn
    | Entered
    | Left
    | Transfer
    | HangUp
)
