"""Flow tests (V13): a caller, a clock, keys and stubbed answers, and the nodes that the walk must pass.

A flow's `keys` are words, pressed key by key when the walk next listens; `-` lets the time run out, `.` hangs up.
What is said is heard to its end. `http` gives each look-up node's answer (`ok: {...}`, `empty`, `error`, `timeout`).
A file names the trees it walks and holds the flows:

    trees: [accueil.yaml, suivi.yaml]
    flows:
      - {name: a complaint, tree: accueil, keys: "1 2", hours: {bureau: true}, expect: language notice open main wait}
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ivr.events import (
    AskHours,
    AskLanguage,
    Command,
    Enqueue,
    Entered,
    HangUp,
    HoursAnswered,
    HungUp,
    Input,
    Key,
    LanguageKnown,
    Learn,
    LookedUp,
    LookUp,
    QueueTold,
    Say,
    SayEnded,
    TimedOut,
    Transfer,
    TransferEnded,
)
from ivr.interpreter import Interpreter, Phase
from ivr.tree import BadTree, Forest, parse, plant

STEPS = 500  # inputs a flow may take
SAY_S = 1.0  # every announcement is taken to last so long
IsOpen = Callable[[str, datetime | None], bool | None]


class Flow(BaseModel):
    """One flow test as written in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    tree: str
    caller: str = "+33123456789"
    dialled: str = ""
    at: datetime | None = None
    hours: dict[str, bool] = {}  # wins over the calendar at `at`
    keys: Annotated[
        list[str], BeforeValidator(lambda v: v.split() if isinstance(v, str) else [str(k) for k in v])
    ] = []
    http: dict[str, Any] = {}
    queue: str = "accepted"  # what becomes of the wait: accepted, left, closing, overflow, refused
    transfer: str = "connected"
    speaks: str | None = None  # the language on the contact's card
    expect: Annotated[list[str], BeforeValidator(lambda v: v.split() if isinstance(v, str) else v)]
    ends: str | None = None  # "queue NAME", "hangup OUTCOME", "transfer", "left"
    language: str | None = None
    facts: dict[str, Any] = {}


class FlowFile(BaseModel):
    """A file of flows; `trees` are named relative to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    trees: list[str]
    leave_keys: dict[str, str] = {}
    flows: list[Flow]


@dataclass(slots=True)
class Result:
    flow: str
    nodes: list[str] = field(default_factory=list)
    ends: str = ""
    language: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.wrong


def run_file(text: str, read: Callable[[str], str], *, is_open: IsOpen | None = None) -> list[str]:
    """Walk all flows of a file; what is wrong, a sentence each. `read` gives the text of a tree named in it."""
    try:
        document, where = parse(text)
        file = FlowFile.model_validate(document)
        trees = [parse(read(name))[0] for name in file.trees]
        forest = plant({str(tree["tree"]): tree for tree in trees})
    except BadTree as e:
        return [str(m) for m in e.mistakes]
    except ValidationError as e:
        return [f"line {where(x['loc'])}: {'.'.join(map(str, x['loc']))}: {x['msg']}" for x in e.errors()]
    except (KeyError, TypeError):
        return ["one of the trees is no tree: each file starts with `tree: NAME`"]
    wrong = []
    for flow in file.flows:
        if flow.tree not in forest.trees:
            wrong.append(
                f"{flow.name}: there is no tree {flow.tree!r} among {', '.join(sorted(forest.trees))}"
            )
            continue
        result = run(flow, forest, is_open=is_open, leave_keys=file.leave_keys)
        wrong += [f"{flow.name}: {what}" for what in result.wrong]
    return wrong


def run(
    flow: Flow,
    forest: Forest,
    *,
    is_open: IsOpen | None = None,
    leave_keys: Mapping[str, str | None] | None = None,
) -> Result:
    """Walk the flow and compare."""
    walk = Interpreter(
        forest,
        flow.tree,
        {"caller": flow.caller, "dialled": flow.dialled, "channel": "voice"},
        leave_keys=leave_keys,
    )
    result = Result(flow.name)
    words = deque(flow.keys)
    now = 0.0
    commands = walk.start(now)
    for _ in range(STEPS):
        told = _note(commands, result, flow, is_open)
        if walk.done:
            break
        now += SAY_S
        if told is None and words and walk.phase in LISTENS:
            word = words.popleft()
            if word == ".":
                told = HungUp()
                result.ends = "left"
            elif word != "-":
                told = Key(word[0])
                if word[1:]:
                    words.appendleft(word[1:])
            elif walk.phase in SPEAKS:
                words.appendleft(word)
        if told is None:
            told = _otherwise(walk.phase, flow)
        commands = walk.step(told, now)
    else:
        result.wrong.append(f"the flow has not ended after {STEPS} inputs")
    result.language = walk.language
    _compare(flow, result)
    return result


SPEAKS = frozenset(
    {Phase.SAYING, Phase.PROMPTING, Phase.READING, Phase.ANNOUNCING, Phase.PARTING, Phase.ASKING}
)
LISTENS = frozenset({Phase.PROMPTING, Phase.LISTENING, Phase.READING, Phase.CONFIRMING, Phase.WAITING})


def _otherwise(phase: Phase, flow: Flow) -> Input:
    """What happens when the caller does nothing."""
    if phase is Phase.WAITING:
        return QueueTold(flow.queue)
    if phase is Phase.TRANSFERRING:
        return TransferEnded(flow.transfer)
    return SayEnded() if phase in SPEAKS else TimedOut()


def _note(commands: Sequence[Command], result: Result, flow: Flow, is_open: IsOpen | None) -> Input | None:
    """Take down what was asked for; the answer that is wanted at once, if one is."""
    wanted: Input | None = None
    for command in commands:
        match command:
            case Entered(node=node):
                result.nodes.append(node)
            case Say():
                result.said += [p.name or p.text or p.value for p in command.parts]
            case LookUp(node=node):
                wanted = _stub(flow.http.get(node, "error"))
            case AskHours(hours=name):
                open_ = flow.hours.get(name)
                if open_ is None and is_open is not None:
                    open_ = is_open(name, flow.at)
                wanted = HoursAnswered(open_)
            case AskLanguage():
                wanted = LanguageKnown(flow.speaks)
            case Enqueue(queue=queue):
                result.ends = f"queue {queue}"
            case Transfer():
                result.ends = "transfer"
            case Learn(facts=facts):
                result.facts |= facts
            case HangUp(outcome=outcome):
                result.ends = f"hangup {outcome}"
            case _:
                pass
    return wanted


def _stub(answer: Any) -> LookedUp:
    if isinstance(answer, Mapping) and len(answer) == 1 and "ok" in answer:
        return LookedUp("ok", answer["ok"])
    return LookedUp(str(answer)) if answer in ("empty", "error", "timeout") else LookedUp("error")


def _compare(flow: Flow, result: Result) -> None:
    if result.nodes != flow.expect:
        result.wrong.append(f"nodes: expected {' '.join(flow.expect)}, got {' '.join(result.nodes)}")
    if flow.ends is not None and result.ends != flow.ends:
        result.wrong.append(f"end: expected {flow.ends}, got {result.ends}")
    if flow.language is not None and result.language != flow.language:
        result.wrong.append(f"language: expected {flow.language}, got {result.language}")
    for name, value in flow.facts.items():
        if result.facts.get(name) != value:
            result.wrong.append(f"fact {name}: expected {value!r}, got {result.facts.get(name)!r}")
