"""The walk of one customer through a tree: told what happens, it answers with what to do next.

Rule 1: what an input does depends on the phase alone; every (phase, input) pair is a row of TABLE or of IGNORED.
Rule 2: this file does not know what sound is, nor what time it is: `now` is seconds on any clock that does not jump.
Rule 3: no document can make it spin: NODES_PER_STEP bounds a step, DEPTH the subtrees, and expressions are bounded.

A walk that is read (`written`) hears Wrote instead of keys; `saved` and `restored` carry it over a restart unchanged.
A TimedOut belongs to the last Wait; whoever keeps the time forgets a Wait when a later step gives any command.
"""

from __future__ import annotations

from collections import ChainMap, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
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
    HungUp,
    Hush,
    Input,
    Key,
    LanguageKnown,
    Learn,
    Leave,
    Left,
    LookedUp,
    LookUp,
    QueueTold,
    Say,
    SayEnded,
    Spoken,
    TimedOut,
    Transfer,
    TransferEnded,
    Wait,
    Wrote,
)
from ivr.expressions import VALUE_CHARS, BadExpression, expression, pattern, template
from ivr.reading import LANGUAGE_WORDS, NAMES, chosen, folded, numbers, wants_person
from ivr.tree import (
    HUMAN_LABELS,
    KEYS,
    RETURN,
    WRITTEN_IN,
    CollectNode,
    ConditionNode,
    Forest,
    HangupNode,
    HoursNode,
    LanguageNode,
    LookupNode,
    MenuNode,
    Node,
    QueueNode,
    SayNode,
    SetNode,
    SubtreeNode,
    TransferNode,
    Tree,
    Words,
)
from routing.identity import plain_json

NODES_PER_STEP = 100  # nodes passed without waiting for anything
FAILURES_PER_CALL = 10  # error exits taken before we give up on the tree
DEPTH = 8  # subtrees inside subtrees
KEYS_AHEAD = 32
FACT_CHARS = 200  # longest looked-up text that is shown in the pop
FACTS_SHOWN = 20  # most fields of one look-up that are
LARGEST_SAID = 10**12
MASK = "*"
WRITTEN_TRIES = 2  # misunderstandings in a row before a person is brought in (B2)
OVERHEARD_MIN = (
    6  # digits that a number has at least to be taken from a text that did not answer its question
)
HUMAN = "human"  # payload of the choice that leads to a person
OURS = frozenset({"tree_error"})  # facts for the record only


class Phase(StrEnum):
    SAYING = "saying"  # a say node is heard
    PROMPTING = "prompting"  # the words before keys are heard
    LISTENING = "listening"  # keys are wanted
    READING = "reading"  # what was typed is read back
    CONFIRMING = "confirming"  # yes or no is wanted
    ASKING = "asking"  # a look-up is under way
    CLOCKING = "clocking"  # the opening hours are asked for
    RECALLING = "recalling"  # the language of the contact's card is asked for
    WAITING = "waiting"  # in a queue
    ANNOUNCING = "announcing"  # words before a transfer are heard
    TRANSFERRING = "transferring"
    PARTING = "parting"  # the last words are heard
    DONE = "done"


@dataclass(slots=True)
class _Frame:
    tree: Tree
    facts: dict[str, Any]
    since: float = 0.0
    node: Node | None = None


@dataclass(slots=True)
class _Visit:
    """What belongs to one stay in a node."""

    since: float
    no_input: int = 0
    no_match: int = 0
    typed: str = ""
    pressed: str = ""
    saying: bool = False
    answer: LookedUp | None = None
    outcome: str = "served"
    why: str = ""
    legal: bool = False


class Interpreter:
    """One walk. `leave_keys` maps a queue to its key to leave; `facts` are the built-in ones (caller, dialled …).

    `written`: the tree is read. `opening` is then what the customer wrote first: it answers the first question
    already, if it fits.
    """

    def __init__(
        self,
        forest: Forest,
        tree: str,
        facts: Mapping[str, Any] | None = None,
        *,
        language: str | None = None,
        leave_keys: Mapping[str, str | None] | None = None,
        written: bool = False,
        opening: str = "",
    ) -> None:
        root = forest.trees[tree]
        self.forest = forest
        self._leave_keys = dict(leave_keys or {})
        self._frames = [_Frame(root, dict(root.variables))]
        self.language = language if language in root.languages else root.languages[0]
        self._base: dict[str, Any] = {"caller": "", "dialled": "", "channel": "voice", "keys": ""} | dict(
            facts or {}
        )
        self._base["language"] = self.language
        if written:
            self._base = dict.fromkeys(WRITTEN_IN, "") | self._base
        self._written = written
        self._heard = opening[:VALUE_CHARS]  # words that may answer a question to come
        self._fresh = bool(opening)  # they have answered none yet
        self._ahead: deque[str] = deque()
        self._out: list[Command] = []
        self._visit = _Visit(0.0)
        self._failures = 0
        self.phase = Phase.SAYING
        self.prompts_told: set[str] = set()

    @property
    def at(self) -> tuple[str, int, str]:
        """Tree, version and node."""
        frame = self._frames[-1]
        return frame.tree.id, frame.tree.version, frame.node.id if frame.node else ""

    @property
    def done(self) -> bool:
        return self.phase is Phase.DONE

    @property
    def queue(self) -> str | None:
        """The queue waited in now."""
        node = self._frames[-1].node
        return node.queue if self.phase is Phase.WAITING and isinstance(node, QueueNode) else None

    def know(self, **facts: str) -> None:
        """Set built-in facts: what the customer wrote, when it opens next."""
        self._base |= {name: value[:VALUE_CHARS] for name, value in facts.items()}

    def choices(self) -> tuple[Choice, ...]:
        """What can be chosen now, in the language of the walk; nothing where no choice is asked for."""
        node = self._frames[-1].node
        if self.phase is not Phase.LISTENING:
            return ()
        tree = self._frames[-1].tree
        if isinstance(node, LanguageNode):
            found = [Choice(k, NAMES.get(x, x), self._payload(k)) for k, x in node.keys.items()]
        elif isinstance(node, MenuNode):
            found = [
                Choice(k, _in(node.labels.get(k, {}), self.language, tree, k), self._payload(k))
                for k in node.keys
            ]
        else:
            found = []
        way = self._way_to_person()
        if way is not None and not any(
            way[0] is tree and node is not None and node.exits.get(c.key) == way[1] for c in found
        ):
            labels = way[0].human_labels or HUMAN_LABELS
            key = next((k for k, to in way[0].anywhere.items() if to == way[1]), "0")
            if key not in {c.key for c in found}:
                found.append(Choice(key, _in(labels, self.language, way[0], "?"), HUMAN))
        return tuple(found)

    def asked_languages(self) -> tuple[str, ...]:
        """The languages offered, while the customer is asked for theirs."""
        node = self._frames[-1].node
        if self.phase is not Phase.LISTENING or not isinstance(node, LanguageNode):
            return ()
        return tuple(dict.fromkeys(node.keys.values()))

    def _payload(self, key: str) -> str:
        tree, _, node = self.at
        return f"{tree}/{node}/{key}"

    def _way_to_person(self) -> tuple[Tree, str] | None:
        for frame in reversed(self._frames):
            if frame.tree.human is not None:
                return frame.tree, frame.tree.human
        return None

    def facts(self) -> dict[str, Any]:
        return dict(self._scope())

    def start(self, now: float) -> list[Command]:
        self._walk(self._frames[0].tree.start, now)
        return self._take()

    def step(self, told: Input, now: float) -> list[Command]:
        row = TABLE.get((self.phase, type(told)))
        if row is None:
            assert (self.phase, type(told)) in IGNORED, (self.phase, told)
        else:
            try:
                target = row(self, told, now)
            except BadExpression as e:
                target = self._error(str(e), now)
            if target is not None:
                self._walk(target, now)
        return self._take()

    def enter(self, node: str, now: float) -> list[Command]:
        """Go on at a node of the walk's own tree, with its variables as they are (B5). KeyError: there is none."""
        assert self._frames[0].tree.nodes[node]
        del self._frames[1:]
        self._ahead.clear()
        self._heard, self._fresh = "", False
        self._failures = 0
        self._walk(node, now)
        return self._take()

    def saved(self) -> dict[str, Any]:
        """Everything that makes this walk what it is, as JSON; the trees are named with their versions."""
        visit = self._visit
        return {
            "frames": [
                {
                    "tree": f.tree.id,
                    "version": f.tree.version,
                    "facts": dict(f.facts),
                    "since": f.since,
                    "node": f.node.id if f.node is not None else None,
                }
                for f in self._frames
            ],
            "phase": self.phase.value,
            "language": self.language,
            "base": dict(self._base),
            "written": self._written,
            "heard": self._heard,
            "fresh": self._fresh,
            "ahead": "".join(self._ahead),
            "failures": self._failures,
            "prompts_told": sorted(self.prompts_told),
            "visit": {
                "since": visit.since,
                "no_input": visit.no_input,
                "no_match": visit.no_match,
                "typed": visit.typed,
                "pressed": visit.pressed,
                "saying": visit.saying,
                "answer": [visit.answer.outcome, visit.answer.data] if visit.answer is not None else None,
                "outcome": visit.outcome,
                "why": visit.why,
                "legal": visit.legal,
            },
        }

    @classmethod
    def restored(
        cls,
        forest: Forest,
        saved: Mapping[str, Any],
        *,
        leave_keys: Mapping[str, str | None] | None = None,
    ) -> Interpreter:
        """The walk that was saved. KeyError when `forest` lacks a tree or a node of it."""
        walk = cls(
            forest,
            saved["frames"][0]["tree"],
            language=saved["language"],
            leave_keys=leave_keys,
            written=saved["written"],
        )
        walk._frames = []
        for it in saved["frames"]:
            tree = forest.trees[it["tree"]]
            node = tree.nodes[it["node"]] if it["node"] is not None else None
            walk._frames.append(_Frame(tree, dict(it["facts"]), it["since"], node))
        walk.phase = Phase(saved["phase"])
        walk.language = saved["language"]
        walk._base = dict(saved["base"])
        walk._heard, walk._fresh = saved["heard"], saved["fresh"]
        walk._ahead = deque(saved["ahead"])
        walk._failures = saved["failures"]
        walk.prompts_told = set(saved["prompts_told"])
        visit = dict(saved["visit"])
        answer = visit.pop("answer")
        walk._visit = _Visit(**visit, answer=LookedUp(*answer) if answer is not None else None)
        return walk

    def resume(self, now: float) -> list[Command]:
        """Wait again in the queue that was left by acceptance: the advisor was lost, the place was kept."""
        node = self._frames[-1].node
        assert isinstance(node, QueueNode), node
        self.phase = Phase.WAITING
        self._visit = _Visit(now)
        self._out.append(Entered(*self.at))
        return self._take()

    def fail(self, why: str, now: float) -> list[Command]:
        """End the walk by our fault: apologise, then HangUp with outcome `failed`."""
        if self.phase is not Phase.DONE:
            self._give_up(why, now)
        return self._take()

    def _take(self) -> list[Command]:
        out, self._out = self._out, []
        return out

    def _walk(self, target: str | None, now: float) -> None:
        """Enter `target`, and on from there until a node waits for something."""
        for _ in range(NODES_PER_STEP):
            if target is None:
                return
            if target == RETURN or target.startswith(RETURN + ":"):
                target = self._return(target.partition(":")[2] or "done", now)
                continue
            frame = self._frames[-1]
            frame.node = frame.tree.nodes[target]
            self._visit = _Visit(now)
            self._out.append(Entered(*self.at))
            try:
                target = ENTER[type(frame.node)](self, frame.node, now)
            except BadExpression as e:
                target = self._error(str(e), now)
        if target is not None:
            self._give_up("the tree goes in circles without waiting for anything", now)

    def _exit(self, exit_: str, now: float, *, failed: bool = False) -> str | None:
        """Leave the node; the next target, or None when there is none and the walk was given up."""
        node = self._frames[-1].node
        assert node is not None
        self._left(exit_, now, failed=failed)
        target = node.exits.get(exit_)
        if target is None and self._written and exit_ in ("no_match", "no_input"):
            target = self._to_person(now, left=True)
        if target is None and exit_ != "error" and "error" in node.exits:
            target = node.exits["error"]
        if target is None:
            self._give_up(f"the exit {exit_!r} of {node.id!r} leads nowhere", now, told=True)
        return target

    def _to_person(self, now: float, *, left: bool = False) -> str | None:
        """Where a person is: the `human` of this tree, or of one that called it. None when none has any."""
        way = self._way_to_person()
        if way is None:
            return None
        if not left:
            self._left("human", now)
        while self._frames[-1].tree is not way[0]:
            self._frames.pop()
        self._heard, self._fresh = "", False
        return way[1]

    def _left(self, exit_: str, now: float, *, failed: bool = False) -> None:
        node = self._frames[-1].node
        keys = self._visit.pressed
        if isinstance(node, CollectNode) and node.sensitive:
            keys = MASK * len(keys)
        self._out.append(Left(*self.at, exit_, max(0.0, now - self._visit.since), keys, failed))

    def _error(self, why: str, now: float) -> str | None:
        self._failures += 1
        self._out.append(Learn({"tree_error": why[:FACT_CHARS]}))
        if self._failures > FAILURES_PER_CALL:
            self._give_up(why, now)
            return None
        return self._exit("error", now, failed=True)

    def _give_up(self, why: str, now: float, *, told: bool = False) -> None:
        if not told and self._frames[-1].node is not None:
            self._left("error", now, failed=True)
        self._visit = _Visit(now, outcome="failed", why=why)
        self.phase = Phase.PARTING
        try:
            self._say(self._frames[0].tree.apology, interruptible=False)
        except BadExpression:
            self._say_nothing(now)

    def _say_nothing(self, now: float) -> None:
        self._finish(self._visit.outcome, self._visit.why)

    def _finish(self, outcome: str, why: str = "") -> None:
        self.phase = Phase.DONE
        self._out.append(HangUp(outcome, why))

    def _return(self, result: str, now: float) -> str | None:
        if len(self._frames) == 1:
            self._finish("served")
            return None
        child = self._frames.pop()
        node = self._frames[-1].node
        assert isinstance(node, SubtreeNode)
        self._visit = _Visit(child.since)
        try:
            for name, source in node.take.items():
                self._set(name, _typed(child.facts.get(source), child.tree.results.get(source)))
        except BadExpression as e:
            return self._error(str(e), now)
        return self._exit(result if result in node.exits else "done", now)

    def _scope(self) -> ChainMap[str, Any]:
        return ChainMap(self._frames[-1].facts, self._base)

    def _set(self, name: str, value: Any) -> None:
        self._frames[-1].facts[name] = storable(value)

    def _say(self, words: Words, *, interruptible: bool = True, discloses: bool = False) -> None:
        self._out.append(Say(self._spoken(words), self.language, interruptible, discloses))

    def _spoken(self, words: Words) -> tuple[Spoken, ...]:
        scope = self._scope()
        made = []
        for part in words:
            if self._written and part.written is not None:
                if part.written:
                    made.append(Spoken("text", text=self._text(part.written)))
                continue
            if part.kind == "written":
                continue
            if part.value:
                value = expression(part.value).value(scope)
                made.append(Spoken(part.kind, value=_shown(part.kind, value)))
                continue
            made.append(Spoken(part.kind, name=part.name, text=self._text(part.texts)))
            if part.name:
                self.prompts_told.add(part.name)
        return tuple(made)

    def _text(self, texts: Mapping[str, str]) -> str:
        source = texts.get(self.language, texts.get(self._frames[-1].tree.languages[0], ""))
        return template(source).render(self._scope()) if source else ""

    def _enter_say(self, node: SayNode, now: float) -> str | None:
        if not node.say or (self._ahead and not node.legal):
            return self._exit("done", now)
        self.phase = Phase.SAYING
        self._visit.legal = node.legal
        self._say(node.say, interruptible=not node.legal, discloses=node.discloses)
        return None

    def _enter_ask(self, node: MenuNode | CollectNode | LanguageNode, now: float) -> str | None:
        if isinstance(node, LanguageNode) and node.language is not None:
            return self._choose(node.language, now)
        if isinstance(node, LanguageNode) and node.known and not self._ahead:
            self.phase = Phase.RECALLING
            self._out.append(AskLanguage())
            return None
        return self._prompt(node, (), now)

    def _prompt(self, node: MenuNode | CollectNode | LanguageNode, before: Words, now: float) -> str | None:
        self._visit.typed = ""
        self._visit.legal = not isinstance(node, LanguageNode) and node.legal
        if self._heard and not before:
            answered, target = self._overheard(node, now)
            if answered:
                return target
        words = before + node.say
        if not words or (self._ahead and not self._visit.legal):
            return self._listen(None, now)
        self.phase = Phase.PROMPTING
        self._say(words, interruptible=not self._visit.legal)
        return None

    def _enter_hours(self, node: HoursNode, now: float) -> str | None:
        self.phase = Phase.CLOCKING
        self._out.append(AskHours(node.hours))
        return None

    def _enter_condition(self, node: ConditionNode, now: float) -> str | None:
        scope = self._scope()
        for source, exit_ in node.cases:
            if expression(source).value(scope) is True:
                return self._exit(exit_, now)
        return self._exit("otherwise", now)

    def _enter_lookup(self, node: LookupNode, now: float) -> str | None:
        scope = self._scope()
        url = template(node.url).render(scope)
        query = {k: _text(expression(v).value(scope)) for k, v in node.query.items()}
        body = {k: expression(v).value(scope) for k, v in node.body.items()} if node.body else None
        self.phase = Phase.ASKING
        self._out.append(LookUp(node.id, url, node.method, query, body, node.timeout_s))
        if node.say and not self._written:  # in writing it would arrive together with the answer
            self._visit.saying = True
            self._say(node.say)
        return None

    def _enter_set(self, node: SetNode, now: float) -> str | None:
        for name, source in node.set.items():
            self._set(name, expression(source).value(self._scope()))
        facts = self._frames[-1].facts
        self._learn({n: facts[n] for n in node.set})
        return self._exit("done", now)

    def _enter_queue(self, node: QueueNode, now: float) -> str | None:
        self.phase = Phase.WAITING
        self._ahead.clear()  # a key typed for a menu must not leave the queue
        self._out.append(Enqueue(node.queue, node.priority, node.needs, self.language))
        if node.say:
            self._say(node.say)
        return None

    def _enter_subtree(self, node: SubtreeNode, now: float) -> str | None:
        tree = self.forest.trees.get(node.tree)
        if tree is None:
            raise BadExpression(f"there is no tree {node.tree!r}")
        if len(self._frames) >= DEPTH:
            raise BadExpression(f"more than {DEPTH} subtrees inside each other")
        scope = self._scope()
        given = {k: _typed(expression(v).value(scope), tree.inputs.get(k)) for k, v in node.give.items()}
        self._frames.append(_Frame(tree, {**tree.variables, **given}, now))
        return tree.start

    def _enter_transfer(self, node: TransferNode, now: float) -> str | None:
        if not node.say:
            return self._transfer(None, now)
        self.phase = Phase.ANNOUNCING
        self._say(node.say, interruptible=False)
        return None

    def _enter_hangup(self, node: HangupNode, now: float) -> str | None:
        self._left(node.outcome, now)
        self._visit.outcome = node.outcome
        if not node.say:
            self._finish(node.outcome)
            return None
        self.phase = Phase.PARTING
        self._say(node.say, interruptible=False)
        return None

    def _remember(self, told: Input, now: float) -> str | None:
        assert isinstance(told, Key)
        if told.key in KEYS and len(self._ahead) < KEYS_AHEAD:
            self._ahead.append(told.key)
        return None

    def _key_while_saying(self, told: Input, now: float) -> str | None:
        self._remember(told, now)
        if self._visit.legal:
            return None
        self._out.append(Hush())
        return self._exit("done", now)

    def _said(self, told: Input, now: float) -> str | None:
        return self._exit("done", now)

    def _key_while_prompting(self, told: Input, now: float) -> str | None:
        self._remember(told, now)
        if self._visit.legal:
            return None
        self._out.append(Hush())
        return self._listen(told, now)

    def _key(self, told: Input, now: float) -> str | None:
        self._remember(told, now)
        return self._listen(told, now)

    def _listen(self, told: Input | None, now: float) -> str | None:
        """Feed the keys pressed so far to the node; wait for more when they do not decide it."""
        self.phase = Phase.LISTENING
        node = self._frames[-1].node
        assert isinstance(node, MenuNode | CollectNode | LanguageNode)
        if isinstance(node, CollectNode):
            return self._collect(node, now)
        if not self._ahead:
            self._out.append(Wait(node.timeout_s))
            return None
        key = self._ahead.popleft()
        self._visit.pressed += key
        self._base["keys"] = key
        if isinstance(node, LanguageNode):
            language = node.keys.get(key)
            return self._choose(language, now) if language else self._no_match(now)
        if key in node.keys:
            return self._exit(node.keys[key], now)
        return self._anywhere(key, now) or self._no_match(now)

    def _anywhere(self, key: str, now: float) -> str | None:
        """Where the key leads from every node of this tree, or of one that called it."""
        for depth in range(len(self._frames) - 1, -1, -1):
            target = self._frames[depth].tree.anywhere.get(key)
            if target is not None:
                self._left("anywhere", now)
                del self._frames[depth + 1 :]
                return target
        return None

    def _wrote(self, told: Input, now: float) -> str | None:
        """An answer in words: the button pressed, else a number, else a choice by name; or the wish for a person."""
        assert isinstance(told, Wrote)
        node = self._frames[-1].node
        assert isinstance(node, MenuNode | CollectNode | LanguageNode)
        if not isinstance(node, LanguageNode):  # what was written before may still answer the next question
            self._heard, self._fresh = "", False
        self._base["text"] = told.text[:VALUE_CHARS]
        if told.payload == HUMAN:
            target = self._to_person(now)
            if target is not None:
                return target
        if isinstance(node, CollectNode):
            typed = _found(told.text, node)
            if typed is not None:
                return self._read(node, typed, now)
        else:
            tree, _, at = self.at
            key = told.payload.removeprefix(f"{tree}/{at}/")
            if key not in node.keys:
                key = told.text.strip().strip(".)")
            if key in node.keys:
                return self._pick(node, key, now)
        key = told.text.strip()
        if key in KEYS:
            self._base["keys"] = self._visit.pressed = key
            target = self._anywhere(key, now) or (self._to_person(now) if key == "0" else None)
            if target is not None:
                return target
        return self._by_words(node, told.text, now) or (None if told.more else self._misread(now))

    def _misread(self, now: float) -> str | None:
        return None if self.phase is Phase.DONE or self.phase is Phase.PARTING else self._no_match(now)

    def _by_words(self, node: Node, text: str, now: float) -> str | None:
        """The node that the words lead to, or None: a whole answer first, then the wish for a person, then a choice."""
        phrases = self._phrases(node)
        exact = chosen(text, phrases) if any(_same(text, p) for ps in phrases.values() for p in ps) else None
        if exact is None and self._wants_person(text):
            target = self._to_person(now)
            if target is not None:
                return target
        key = exact or chosen(text, phrases)
        if key is None:
            return None
        assert isinstance(node, MenuNode | LanguageNode)
        if isinstance(node, MenuNode):
            self._heard = text
        return self._pick(node, key, now)

    def _overheard(self, node: Node, now: float) -> tuple[bool, str | None]:
        """Whether what was written before answers this node's question, and where that leads."""
        text = self._heard
        if isinstance(node, CollectNode):
            self._heard, self._fresh = "", False
            sure = node.checksum is not None or node.pattern is not None or node.min >= OVERHEARD_MIN
            typed = _found(text, node) if sure else None
            return (True, self._read(node, typed, now)) if typed is not None else (False, None)
        if not self._fresh:
            self._heard = ""
            return False, None
        self._fresh = isinstance(node, LanguageNode)
        target = self._by_words(node, text, now)
        if target is None and not isinstance(node, LanguageNode):
            self._heard = ""
        return target is not None, target

    def _phrases(self, node: Node) -> dict[str, list[str]]:
        """Key -> the phrases by which it is chosen, in every language: nobody is misread for changing theirs."""
        if isinstance(node, LanguageNode):
            return {k: [NAMES.get(x, x), *LANGUAGE_WORDS.get(x, ())] for k, x in node.keys.items()}
        if not isinstance(node, MenuNode):
            return {}
        return {
            k: [
                *node.labels.get(k, {}).values(),
                *(w for words in node.words.get(k, {}).values() for w in words),
            ]
            for k in node.keys
        }

    def _wants_person(self, text: str) -> bool:
        way = self._way_to_person()
        if way is None:
            return False
        more = [*way[0].human_labels.values(), *(w for ws in way[0].human_words.values() for w in ws)]
        return wants_person(text, ("fr", "en", *way[0].languages), more)

    def _pick(self, node: MenuNode | LanguageNode, key: str, now: float) -> str | None:
        self._base["keys"] = self._visit.pressed = key
        return (
            self._choose(node.keys[key], now)
            if isinstance(node, LanguageNode)
            else self._exit(node.keys[key], now)
        )

    def _read(self, node: CollectNode, typed: str, now: float) -> str | None:
        """A number was written: it is not read back, for it stands there."""
        self._visit.typed = self._visit.pressed = typed
        self._base["keys"] = typed
        self._set(node.into, typed)
        return self._collected(node, now)

    def _collect(self, node: CollectNode, now: float) -> str | None:
        visit = self._visit
        while self._ahead:
            key = self._ahead.popleft()
            visit.pressed = (visit.pressed + key)[-64:]
            if key == node.terminator:
                return self._typed(node, now)
            if key == "*":
                visit.typed = ""
            elif key.isdigit():
                visit.typed += key
            if len(visit.typed) >= node.max:
                return self._typed(node, now)
        self._out.append(Wait(node.interdigit_s if visit.typed else node.timeout_s))
        return None

    def _typed(self, node: CollectNode, now: float) -> str | None:
        typed = self._visit.typed
        if not acceptable(typed, node):
            return self._no_match(now)
        self._base["keys"] = typed
        self._set(node.into, typed)
        if not node.read_back:
            return self._collected(node, now)
        self.phase = Phase.READING
        self._say(node.read_back)
        return None

    def _collected(self, node: CollectNode, now: float) -> str | None:
        typed = self._visit.typed
        self._learn({node.into: MASK * len(typed) if node.sensitive else typed})
        return self._exit("done", now)

    def _key_while_reading(self, told: Input, now: float) -> str | None:
        self._remember(told, now)
        self._out.append(Hush())
        return self._confirm(told, now)

    def _key_while_confirming(self, told: Input, now: float) -> str | None:
        self._remember(told, now)
        return self._confirm(told, now)

    def _confirm(self, told: Input, now: float) -> str | None:
        self.phase = Phase.CONFIRMING
        node = self._frames[-1].node
        assert isinstance(node, CollectNode)
        while self._ahead:
            key = self._ahead.popleft()
            if key == node.confirm:
                return self._collected(node, now)
            self._visit.typed = ""
            self._set(node.into, "")
            if key == node.again:
                self._ahead.clear()
                return self._prompt(node, (), now)
            return self._no_match(now)
        self._out.append(Wait(node.timeout_s))
        return None

    def _choose(self, language: str, now: float) -> str | None:
        self.language = language
        self._base["language"] = language
        self._learn({"language": language})
        return self._exit("done", now)

    def _recalled(self, told: Input, now: float) -> str | None:
        """The contact's language, when it is one to be chosen here; else the caller is asked."""
        assert isinstance(told, LanguageKnown)
        node = self._frames[-1].node
        assert isinstance(node, LanguageNode)
        if told.language is not None and told.language in node.keys.values() and not self._ahead:
            return self._choose(told.language, now)
        return self._prompt(node, (), now)

    def _no_match(self, now: float) -> str | None:
        self._visit.no_match += 1
        return self._retry("no_match", self._visit.no_match, now)

    def _time_out(self, told: Input, now: float) -> str | None:
        node = self._frames[-1].node
        if isinstance(node, CollectNode) and self._visit.typed:
            return self._typed(node, now)
        self._visit.no_input += 1
        return self._retry("no_input", self._visit.no_input, now)

    def _retry(self, which: str, count: int, now: float) -> str | None:
        node = self._frames[-1].node
        assert isinstance(node, MenuNode | CollectNode | LanguageNode)
        self._ahead.clear()
        if count >= (min(node.tries, WRITTEN_TRIES) if self._written else node.tries):
            if isinstance(node, LanguageNode):
                return self._choose(self.language, now)
            return self._exit(which, now)
        before: Words = () if isinstance(node, LanguageNode) else getattr(node, which)
        return self._prompt(node, before, now)

    def _reread(self, told: Input, now: float) -> str | None:
        """Nobody said yes or no: count it, and read back once more."""
        node = self._frames[-1].node
        assert isinstance(node, CollectNode)
        self._visit.no_input += 1
        if self._visit.no_input >= node.tries:
            return self._exit("no_input", now)
        self.phase = Phase.READING
        self._say(node.read_back)
        return None

    def _looked_up(self, told: Input, now: float) -> str | None:
        assert isinstance(told, LookedUp)
        self._visit.answer = LookedUp(told.outcome, storable(told.data))
        return None if self._visit.saying else self._answered(now)

    def _said_while_asking(self, told: Input, now: float) -> str | None:
        self._visit.saying = False
        return self._answered(now) if self._visit.answer is not None else None

    def _answered(self, now: float) -> str | None:
        node, answer = self._frames[-1].node, self._visit.answer
        assert isinstance(node, LookupNode)
        assert answer is not None
        self._set(node.into, answer.data if answer.outcome == "ok" else None)
        if answer.outcome == "ok":
            self._learn({node.into: _brief(answer.data)})
        exit_ = answer.outcome if answer.outcome in ("ok", "empty", "timeout") else "error"
        return self._exit(exit_, now, failed=exit_ in ("timeout", "error"))

    def _clocked(self, told: Input, now: float) -> str | None:
        assert isinstance(told, HoursAnswered)
        if told.open is None:
            return self._error("the opening hours are unknown", now)
        return self._exit("open" if told.open else "closed", now)

    def _key_while_waiting(self, told: Input, now: float) -> str | None:
        assert isinstance(told, Key)
        node = self._frames[-1].node
        assert isinstance(node, QueueNode)
        if told.key != self._leave_keys.get(node.queue) or "left" not in node.exits:
            return None
        self._visit.pressed = told.key
        self._out.append(Leave())
        return self._exit("left", now)

    def _told_by_queue(self, told: Input, now: float) -> str | None:
        assert isinstance(told, QueueTold)
        node = self._frames[-1].node
        assert node is not None
        if told.what == "accepted":
            self._left("accepted", now)
            self.phase = Phase.DONE
            return None
        if told.what == "overflow" and "overflow" not in node.exits:
            return None  # the desk has moved the customer to another queue; the wait goes on
        if told.what == "overflow":
            self._out.append(Leave("overflow"))
        if told.what in node.exits:
            return self._exit(told.what, now)
        return self._error(f"the queue ended the wait: {told.what} {told.reason}".strip(), now)

    def _transfer(self, told: Input | None, now: float) -> str | None:
        node = self._frames[-1].node
        assert isinstance(node, TransferNode)
        number = None
        if node.number is not None:
            try:
                number = template(node.number).render(self._scope())
            except BadExpression as e:
                return self._error(str(e), now)
        self.phase = Phase.TRANSFERRING
        self._out.append(Transfer(node.phone, node.trunk, number, node.ring_s))
        return None

    def _transferred(self, told: Input, now: float) -> str | None:
        assert isinstance(told, TransferEnded)
        if told.outcome != "connected":
            return self._exit("failed", now, failed=True)
        self._left("connected", now)
        self.phase = Phase.DONE
        return None

    def _parted(self, told: Input, now: float) -> str | None:
        self._finish(self._visit.outcome, self._visit.why)
        return None

    def _gone(self, told: Input, now: float) -> str | None:
        if self.phase is not Phase.PARTING:
            self._left("hangup", now)
        self.phase = Phase.DONE
        return None

    def _learn(self, facts: Mapping[str, Any]) -> None:
        self._out.append(
            Learn({k: v if not isinstance(v, str) else v[:FACT_CHARS] for k, v in storable(facts).items()})
        )


def acceptable(typed: str, node: CollectNode) -> bool:
    """Whether `typed` has the length, the pattern and the check digits that the node asks for."""
    if not node.min <= len(typed) <= node.max:
        return False
    if node.pattern is not None and not pattern(node.pattern).matches(typed):
        return False
    return node.checksum is None or CHECKS[node.checksum](typed)


def storable(value: Any) -> Any:
    """`value` as JSON can hold it and PostgreSQL store it. Raises BadExpression for a number that is none."""
    try:
        return plain_json(value, strict=True)
    except ValueError:
        raise BadExpression("the result is no number") from None


def _found(text: str, node: CollectNode) -> str | None:
    """The first number in the text that the node accepts."""
    return next((n for n in numbers(text, node) if acceptable(n, node)), None)


def _same(text: str, phrase: str) -> bool:
    return folded(text) == folded(phrase)


def _in(texts: Mapping[str, str], language: str, tree: Tree, otherwise: str) -> str:
    return texts.get(language) or texts.get(tree.languages[0]) or otherwise


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    if not digits.isdigit():
        return False
    total = 0
    for i, c in enumerate(reversed(digits)):
        n = int(c) * (2 if i % 2 else 1)
        total += n - 9 if n > 9 else n
    return total % 10 == 0


def mod97(digits: str) -> bool:
    """ISO/IEC 7064 MOD 97-10: the number with its two check digits leaves 1."""
    return len(digits) > 2 and digits.isdigit() and int(digits) % 97 == 1


def s10(digits: str) -> bool:
    """The nine digits of a postal item's identifier (UPU S10): eight, then their check digit."""
    if len(digits) != 9 or not digits.isdigit():
        return False
    rest = 11 - sum(int(d) * w for d, w in zip(digits, (8, 6, 4, 2, 3, 5, 9, 7), strict=False)) % 11
    return int(digits[8]) == {10: 0, 11: 5}.get(rest, rest)


CHECKS: Mapping[str, Callable[[str], bool]] = {"luhn": luhn, "mod97": mod97, "s10": s10}


def _typed(value: Any, kind: str | None) -> Any:
    """`value` when it is of the kind that a subtree declares; raises BadExpression."""
    fits = {
        "string": isinstance(value, str),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "object": value is None or isinstance(value, dict | list),
        None: True,
    }
    if not fits[kind]:
        raise BadExpression(f"a {kind} is wanted where a {type(value).__name__} is given")
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _shown(kind: str, value: Any) -> str:
    """A value as Spoken carries it. Raises BadExpression when it cannot be said so."""
    if kind == "digits":
        return "".join(c for c in _text(value) if c.isalnum())[:64]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadExpression(f"a {kind} cannot be said of {type(value).__name__}")
    try:
        number = int(float(value))
    except (ValueError, OverflowError):
        raise BadExpression(f"{str(value)[:40]!r} is no number to be said") from None
    if abs(number) > LARGEST_SAID:
        raise BadExpression(f"{number:.3g} is too large to be said")
    return str(number)


def _brief(data: Any) -> Any:
    """What of a looked-up answer is shown in the pop: its first plain fields."""
    if not isinstance(data, Mapping):
        return data if isinstance(data, bool | int | float) else str(data)[:FACT_CHARS]
    plain = {str(k): v for k, v in data.items() if isinstance(v, str | bool | int | float)}
    return {k: v[:FACT_CHARS] if isinstance(v, str) else v for k, v in list(plain.items())[:FACTS_SHOWN]}


I = Interpreter  # noqa: E741
P = Phase
ENTER: Mapping[type[Node], Callable[[Interpreter, Any, float], str | None]] = {
    SayNode: I._enter_say,
    MenuNode: I._enter_ask,
    CollectNode: I._enter_ask,
    LanguageNode: I._enter_ask,
    HoursNode: I._enter_hours,
    ConditionNode: I._enter_condition,
    LookupNode: I._enter_lookup,
    SetNode: I._enter_set,
    QueueNode: I._enter_queue,
    SubtreeNode: I._enter_subtree,
    TransferNode: I._enter_transfer,
    HangupNode: I._enter_hangup,
}
TABLE: Mapping[tuple[Phase, type], Callable[[Interpreter, Input, float], str | None]] = {
    (P.SAYING, Key): I._key_while_saying,
    (P.SAYING, SayEnded): I._said,
    (P.PROMPTING, Key): I._key_while_prompting,
    (P.PROMPTING, SayEnded): I._listen,
    (P.LISTENING, Key): I._key,
    (P.LISTENING, TimedOut): I._time_out,
    (P.LISTENING, Wrote): I._wrote,
    (P.PROMPTING, Wrote): I._wrote,
    (P.READING, Key): I._key_while_reading,
    (P.READING, SayEnded): I._confirm,
    (P.CONFIRMING, Key): I._key_while_confirming,
    (P.CONFIRMING, TimedOut): I._reread,
    (P.ASKING, Key): I._remember,
    (P.ASKING, SayEnded): I._said_while_asking,
    (P.ASKING, LookedUp): I._looked_up,
    (P.CLOCKING, Key): I._remember,
    (P.CLOCKING, HoursAnswered): I._clocked,
    (P.RECALLING, Key): I._remember,
    (P.RECALLING, LanguageKnown): I._recalled,
    (P.WAITING, Key): I._key_while_waiting,
    (P.WAITING, QueueTold): I._told_by_queue,
    (P.ANNOUNCING, SayEnded): I._transfer,
    (P.TRANSFERRING, TransferEnded): I._transferred,
    (P.PARTING, SayEnded): I._parted,
    **{(p, HungUp): I._gone for p in Phase if p is not P.DONE},
}
LATE = "comes late: what it answers has been left"
IGNORED: Mapping[tuple[Phase, type], str] = {
    **{(p, TimedOut): LATE for p in Phase if p not in (P.LISTENING, P.CONFIRMING)},
    **{(p, SayEnded): LATE for p in (P.LISTENING, P.CONFIRMING, P.CLOCKING, P.RECALLING, P.TRANSFERRING)},
    (P.WAITING, SayEnded): "the waiting branch is played by whoever runs the walk",
    **{(p, LookedUp): LATE for p in Phase if p is not P.ASKING},
    **{(p, HoursAnswered): LATE for p in Phase if p is not P.CLOCKING},
    **{(p, LanguageKnown): LATE for p in Phase if p is not P.RECALLING},
    **{(p, QueueTold): LATE for p in Phase if p is not P.WAITING},
    **{(p, TransferEnded): LATE for p in Phase if p is not P.TRANSFERRING},
    **{(p, Key): "nothing more can be chosen" for p in (P.ANNOUNCING, P.TRANSFERRING, P.PARTING)},
    **{(P.DONE, i): "the walk is over" for i in (Key, SayEnded, HungUp, Wrote)},
    (P.WAITING, Wrote): "it is for the advisor, who finds it in the transcript",
    **{
        (p, Wrote): "whoever runs the walk keeps it until the walk listens"
        for p in Phase
        if p not in (P.PROMPTING, P.LISTENING, P.WAITING, P.DONE)
    },
}
