"""The life of an interaction as a table.

Rule 1: every change of state is a row of TABLE.
Rule 2: every other pair of a state and an input is in IGNORED, with its reason; there is no third kind.
Rule 3: hold is a flag of `active`, not a state, so it is not in this table.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    OPENED = "opened"
    QUALIFYING = "qualifying"  # in a tree
    WAITING = "waiting"  # in a queue
    OFFERED = "offered"
    ACTIVE = "active"
    WRAPUP = "wrapup"
    ENDED = "ended"
    ABANDONED = "abandoned"  # the customer left while qualifying or waiting
    INTERRUPTED = "interrupted"  # we failed it


class Input(StrEnum):
    QUALIFY = "qualify"  # a tree takes it
    ENQUEUE = "enqueue"
    OFFER = "offer"
    ACCEPT = "accept"
    RETURN = "return"  # the offer was refused, missed, expired or cancelled; or the advisor was lost
    ASSIGN = "assign"  # given to an advisor without an offer
    FINISH = "finish"  # the conversation is over
    WRAP = "wrap"  # the wrap-up is over
    LEAVE = "leave"  # the customer left
    CLOSE = "close"  # ended on purpose by us: the tree's last node, an archive without reply
    INTERRUPT = "interrupt"


LAST = frozenset({State.ENDED, State.ABANDONED, State.INTERRUPTED})

S, I = State, Input  # noqa: E741
TABLE: dict[tuple[State, Input], State] = {
    (S.OPENED, I.QUALIFY): S.QUALIFYING,
    (S.OPENED, I.ENQUEUE): S.WAITING,
    (S.OPENED, I.ASSIGN): S.ACTIVE,
    (S.OPENED, I.LEAVE): S.ABANDONED,
    (S.OPENED, I.CLOSE): S.ENDED,
    (S.OPENED, I.INTERRUPT): S.INTERRUPTED,
    (S.QUALIFYING, I.ENQUEUE): S.WAITING,
    (S.QUALIFYING, I.ASSIGN): S.ACTIVE,
    (S.QUALIFYING, I.LEAVE): S.ABANDONED,
    (S.QUALIFYING, I.CLOSE): S.ENDED,
    (S.QUALIFYING, I.INTERRUPT): S.INTERRUPTED,
    (S.WAITING, I.QUALIFY): S.QUALIFYING,  # left the queue by its key, back to the tree
    (S.WAITING, I.ENQUEUE): S.WAITING,  # another queue: overflow
    (S.WAITING, I.OFFER): S.OFFERED,
    (S.WAITING, I.ASSIGN): S.ACTIVE,
    (S.WAITING, I.LEAVE): S.ABANDONED,
    (S.WAITING, I.CLOSE): S.ENDED,
    (S.WAITING, I.INTERRUPT): S.INTERRUPTED,
    (S.OFFERED, I.QUALIFY): S.QUALIFYING,
    (S.OFFERED, I.ACCEPT): S.ACTIVE,
    (S.OFFERED, I.RETURN): S.WAITING,
    (S.OFFERED, I.LEAVE): S.ABANDONED,
    (S.OFFERED, I.CLOSE): S.ENDED,
    (S.OFFERED, I.INTERRUPT): S.INTERRUPTED,
    (S.ACTIVE, I.ENQUEUE): S.WAITING,  # transfer to a queue
    (S.ACTIVE, I.RETURN): S.WAITING,
    (S.ACTIVE, I.ASSIGN): S.ACTIVE,  # transfer to an advisor
    (S.ACTIVE, I.QUALIFY): S.QUALIFYING,  # handed back to a tree or bot
    (S.ACTIVE, I.FINISH): S.WRAPUP,
    (S.ACTIVE, I.LEAVE): S.WRAPUP,
    (S.ACTIVE, I.CLOSE): S.ENDED,
    (S.ACTIVE, I.INTERRUPT): S.INTERRUPTED,
    (S.WRAPUP, I.WRAP): S.ENDED,
    (S.WRAPUP, I.CLOSE): S.ENDED,
    (S.WRAPUP, I.INTERRUPT): S.INTERRUPTED,
}

_EARLY = "nothing to do with a queue or an advisor yet"
_OVER = "it is over; late copies change nothing"
IGNORED: dict[tuple[State, Input], str] = {
    (S.OPENED, I.OFFER): _EARLY,
    (S.OPENED, I.ACCEPT): _EARLY,
    (S.OPENED, I.RETURN): _EARLY,
    (S.OPENED, I.FINISH): _EARLY,
    (S.OPENED, I.WRAP): _EARLY,
    (S.QUALIFYING, I.QUALIFY): "a tree has it already; a sub-tree is the same tree to us",
    (S.QUALIFYING, I.OFFER): _EARLY,
    (S.QUALIFYING, I.ACCEPT): _EARLY,
    (S.QUALIFYING, I.RETURN): _EARLY,
    (S.QUALIFYING, I.FINISH): _EARLY,
    (S.QUALIFYING, I.WRAP): _EARLY,
    (S.WAITING, I.ACCEPT): "the offer was over before the answer came",
    (S.WAITING, I.RETURN): "it is back already",
    (S.WAITING, I.FINISH): "nobody is talking",
    (S.WAITING, I.WRAP): "nobody has talked",
    (S.OFFERED, I.ENQUEUE): "cancel the offer first; a live offer never changes its queue",
    (S.OFFERED, I.OFFER): "one owner at a time (I1)",
    (S.OFFERED, I.ASSIGN): "one owner at a time (I1)",
    (S.OFFERED, I.FINISH): "nobody is talking",
    (S.OFFERED, I.WRAP): "nobody has talked",
    (S.ACTIVE, I.OFFER): "one owner at a time (I1)",
    (S.ACTIVE, I.ACCEPT): "accepted once",
    (S.ACTIVE, I.WRAP): "the conversation is not over",
    (S.WRAPUP, I.QUALIFY): "the customer is gone",
    (S.WRAPUP, I.ENQUEUE): "the customer is gone",
    (S.WRAPUP, I.OFFER): "the customer is gone",
    (S.WRAPUP, I.ACCEPT): "accepted once",
    (S.WRAPUP, I.RETURN): "the customer is gone",
    (S.WRAPUP, I.ASSIGN): "the customer is gone",
    (S.WRAPUP, I.FINISH): "finished once",
    (S.WRAPUP, I.LEAVE): "the customer is gone already",
    **{(state, it): _OVER for state in LAST for it in Input},
}


def after(state: State, told: Input) -> State | None:
    """The next state, or None where the pair is ignored. KeyError is a hole in the table: our mistake."""
    found = TABLE.get((state, told))
    if found is None:
        IGNORED[state, told]
    return found
