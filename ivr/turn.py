"""One turn of a written walk: from what the customer wrote to where the tree waits for them again.

What is said is read at once, and what the calendars know is answered here; only a look-up and the contact's language
are asked outside: `go_on` returns what it needs, and is called again with the commands that the answer gave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ivr.events import (
    AskHours,
    AskLanguage,
    Choice,
    Command,
    Enqueue,
    Entered,
    HangUp,
    HoursAnswered,
    Learn,
    Leave,
    Left,
    LookUp,
    Say,
    SayEnded,
    Transfer,
    TransferEnded,
)
from ivr.interpreter import OURS, Interpreter, Phase

SAYS = 40  # announcements in one turn; more is a tree that goes round without asking
READ = frozenset(
    {Phase.SAYING, Phase.PROMPTING, Phase.READING, Phase.ANNOUNCING, Phase.PARTING}
)  # until what is said has been read
Calendar = Callable[[str], "tuple[bool | None, float | None]"]
"""(open now?, when it opens next in unix seconds) of opening hours by name."""


@dataclass(slots=True)
class Turn:
    """What has come of a turn so far."""

    says: list[Say] = field(default_factory=list)
    asked: tuple[Choice, ...] = ()
    languages: tuple[str, ...] = ()  # those to be chosen from, when the language is what is asked
    passed: list[Entered | Left] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    enqueue: Enqueue | None = None
    leave: str | None = None
    ended: str | None = None
    why: str = ""
    _before_queue: int = 0

    def refused(self) -> None:
        """The queue refused: what the tree said of it is not sent."""
        self.enqueue = None
        del self.says[self._before_queue :]

    @property
    def left(self) -> list[Left]:
        return [p for p in self.passed if isinstance(p, Left)]


def go_on(
    walk: Interpreter,
    commands: Sequence[Command],
    turn: Turn,
    now: float,
    calendar: Calendar,
    words: Callable[[float], str] = str,
) -> LookUp | AskLanguage | None:
    """Carry out the commands, and what follows, until the walk waits; what it needs from outside, if anything.

    `words` says a time of opening as the customer's language does.
    """
    while True:
        need: LookUp | AskLanguage | None = None
        hours: str | None = None
        for command in commands:
            match command:
                case Say():
                    turn.says.append(command)
                case Entered() | Left():
                    turn.passed.append(command)
                case Learn(facts=facts) if set(facts) <= OURS:
                    turn.errors.append(str(facts["tree_error"]))
                case Learn(facts=facts):
                    turn.facts |= facts
                case Enqueue():
                    turn.enqueue = command
                    turn._before_queue = len(turn.says)
                case Leave(how=how):
                    turn.leave, turn.enqueue = how, None
                case LookUp() | AskLanguage():
                    need = command
                case AskHours(hours=name):
                    hours = name
                case HangUp(outcome=outcome, why=why):
                    turn.ended, turn.why = outcome, why
                case _:
                    pass
        if need is not None:
            return need
        if hours is not None:
            is_open, opens = calendar(hours)
            walk.know(opens_at=words(opens) if is_open is False and opens is not None else "")
            commands = walk.step(HoursAnswered(is_open), now)
        elif any(isinstance(c, Transfer) for c in commands):
            commands = walk.step(TransferEnded("failed"), now)
        elif walk.phase in READ and len(turn.says) > SAYS:
            commands = walk.fail("the tree says more and more and asks nothing", now)
            turn.says = turn.says[:1]
        elif walk.phase in READ:
            commands = walk.step(SayEnded(), now)
        else:
            turn.asked = walk.choices()
            turn.languages = walk.asked_languages()
            return None
