"""Flow tests (V13): a caller, a clock, keys and stubbed answers, and the nodes that the walk must pass.

A flow's `keys` are words, pressed key by key when the walk next listens; `-` lets the time run out, `.` hangs up.
What is said is heard to its end. `http` gives each look-up node's answer (`ok: {...}`, `empty`, `error`, `timeout`).
A flow with `talk` is read instead: each line is what the customer writes, what button is pressed, or what the bot must
have written since, in these words and in this order.
A file names the trees it walks and holds the flows:

    trees: [accueil.yaml, suivi.yaml]
    flows:
      - {name: a complaint, tree: accueil, keys: "1 2", hours: {bureau: true}, expect: language notice open main wait}
      - name: a complaint in writing
        tree: messages
        talk: [customer: "un colis abîmé", bot: "assistant automatique", press: "Réclamation", bot: "Un conseiller"]
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
    Wrote,
)
from ivr.interpreter import Interpreter, Phase
from ivr.text import Message, Texts, disclosure, moment, render
from ivr.tree import BadTree, Forest, parse, plant
from ivr.turn import Turn, go_on
from routing.channel import CHAT, MAIL, Manifest

STEPS = 500  # inputs a flow may take
SAY_S = 1.0  # every announcement is taken to last so long
IsOpen = Callable[[str, datetime | None], bool | None]


SHOWN = {
    CHAT: Manifest(name=CHAT, seat=CHAT, address_kind=CHAT, labels={}, quick_replies=13),
    MAIL: Manifest(name=MAIL, seat=MAIL, address_kind="email", labels={}),
}


class Line(BaseModel):
    """One line of a conversation: exactly one of these."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    customer: str | None = None
    press: str | None = None  # the title of a button that is shown
    bot: str | None = None  # what the bot must have written since, somewhere in it
    silent: bool | None = None  # True: it must have written nothing


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
    talk: list[Line] = []  # a written conversation, in place of keys
    channel: str = CHAT  # of a written one: chat | mail
    subject: str = ""
    sender: str = ""
    box: str = ""
    bot: str = "Colette"
    expect: Annotated[list[str] | None, BeforeValidator(lambda v: v.split() if isinstance(v, str) else v)] = (
        None
    )
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


def run_file(
    text: str, read: Callable[[str], str], *, is_open: IsOpen | None = None, texts: Texts | None = None
) -> list[str]:
    """Walk all flows of a file; what is wrong, a sentence each. `read` gives the text of a tree named in it.

    `texts` are the recordings' words in writing, for written conversations.
    """
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
        if flow.talk:
            result = converse(flow, forest, is_open=is_open, texts=texts or {})
        else:
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


def converse(flow: Flow, forest: Forest, *, is_open: IsOpen | None = None, texts: Texts) -> Result:
    """Hold the written conversation of the flow and compare; the first line is what the customer writes first."""
    opening = next((it.customer for it in flow.talk if it.customer is not None), "")
    walk = Interpreter(
        forest,
        flow.tree,
        {
            "channel": flow.channel,
            "account": "test",
            "sender": flow.sender,
            "subject": flow.subject,
            "text": opening,
            "box": flow.box,
            "bot": flow.bot,
        },
        language=flow.speaks,
        written=True,
        opening=opening,
    )
    result = Result(flow.name)
    manifest = SHOWN.get(flow.channel, SHOWN[CHAT])
    fresh: list[Message] = []
    shown: tuple[tuple[str, str], ...] = ()
    begun = disclosed = False
    for number, line in enumerate(flow.talk, 1):
        if line.bot is not None or line.silent:
            _heard(line, number, fresh, result)
            continue
        told = Wrote(line.customer or "")
        if line.press is not None:
            payload = next((p for title, p in shown if title == line.press), None)
            if payload is None:
                result.wrong.append(
                    f"line {number}: there is no button {line.press!r} among {[t for t, _ in shown]}"
                )
                continue
            told = Wrote(line.press, payload)
        commands = walk.step(told, float(number)) if begun else walk.start(float(number))
        begun = True
        turn = _turn(walk, commands, flow, result, is_open, float(number))
        says = "" if disclosed else disclosure(flow.bot, turn.languages or (walk.language,), manifest.seat)
        fresh = render(turn.says, turn.asked, manifest, texts, disclose=says)
        disclosed = disclosed or bool(fresh)
        shown = fresh[-1].buttons if fresh else shown
        result.said += [m.text for m in fresh]
    result.language = walk.language
    _compare(flow, result)
    return result


def _heard(line: Line, number: int, fresh: list[Message], result: Result) -> None:
    if line.silent:
        if fresh:
            result.wrong.append(f"line {number}: expected silence, the bot wrote {fresh[0].text!r}")
        return
    wanted = line.bot or ""
    for i, message in enumerate(fresh):
        if wanted in message.text or any(wanted == title for title, _ in message.buttons):
            del fresh[:i]
            return
    result.wrong.append(f"line {number}: expected {wanted!r}, the bot wrote {[m.text for m in fresh]}")


def _turn(
    walk: Interpreter,
    commands: Sequence[Command],
    flow: Flow,
    result: Result,
    is_open: IsOpen | None,
    now: float,
) -> Turn:
    """One turn with the answers that the flow gives."""

    def calendar(name: str) -> tuple[bool | None, float | None]:
        open_ = flow.hours.get(name)
        if open_ is None and is_open is not None:
            open_ = is_open(name, flow.at)
        return open_, None if open_ is not False else OPENS_S

    turn = Turn()
    while True:
        need = go_on(
            walk, commands, turn, now, calendar, lambda at: moment(at, 0.0, "Europe/Paris", walk.language)
        )
        if need is None:
            break
        told = (
            _stub(flow.http.get(need.node, "error"))
            if isinstance(need, LookUp)
            else LanguageKnown(flow.speaks)
        )
        commands = walk.step(told, now)
    result.nodes += [p.node for p in turn.passed if isinstance(p, Entered)]
    result.facts |= turn.facts
    if turn.enqueue is not None:
        result.ends = f"queue {turn.enqueue.queue}"
    if turn.ended is not None:
        result.ends = f"hangup {turn.ended}"
    return turn


OPENS_S = 370_800.0  # Monday 5 January 1970, 8:00 in Paris, told on Thursday the 1st
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
    if flow.expect is not None and result.nodes != flow.expect:
        result.wrong.append(f"nodes: expected {' '.join(flow.expect)}, got {' '.join(result.nodes)}")
    if flow.ends is not None and result.ends != flow.ends:
        result.wrong.append(f"end: expected {flow.ends}, got {result.ends}")
    if flow.language is not None and result.language != flow.language:
        result.wrong.append(f"language: expected {flow.language}, got {result.language}")
    for name, value in flow.facts.items():
        if result.facts.get(name) != value:
            result.wrong.append(f"fact {name}: expected {value!r}, got {result.facts.get(name)!r}")
