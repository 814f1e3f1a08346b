"""A tree: what a customer meets before a person, as checked values, and every mistake an author can make in one.

The document is YAML (see `config/trees/accueil.yaml`). `check` names every mistake with its path, line and cure;
`load` makes the value that the interpreter walks, from a document that `check` found clean; else it raises BadTree.
Exits lead to a node of the same tree, or to `return` / `return:NAME`, which end a subtree with the result NAME
(`done` unless it is named).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

import re2
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from ivr.expressions import BadExpression, expression, pattern, template

KINDS = (
    "say", "menu", "collect", "hours", "condition", "lookup",
    "set", "queue", "language", "subtree", "transfer", "hangup",
)  # fmt: skip
LATER_KINDS = ("callback", "voicemail")
KEYS = tuple("0123456789*#")
BUILT_IN = ("caller", "dialled", "channel", "language", "keys")
WRITTEN_IN = ("account", "sender", "subject", "text", "box", "bot", "opens_at")  # empty in a call
WRITTEN = frozenset({"chat", "mail"})
RETURN = "return"
EMPTY: Mapping[str, Any] = {"string": "", "number": 0, "boolean": False, "object": None}
# What each channel cannot do; a menu's keys become quick replies, a collect becomes a question. A mail asks nothing.
UNABLE: Mapping[str, frozenset[str]] = {
    "voice": frozenset(),
    "chat": frozenset({"transfer"}),
    "mail": frozenset({"transfer", "menu", "collect"}),
}
HUMAN_LABELS: Mapping[str, str] = {"fr": "Un conseiller", "en": "An advisor"}

V = TypeVar("V")
Spot = tuple[str | int, ...]
Where = Callable[[Spot], int]


class BadTree(Exception):
    """The document has mistakes; `mistakes` lists them."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("; ".join(str(m) for m in mistakes[:5]))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to mend: where it stands, what is wrong, what to do."""

    path: str  # nodes.menu.exits
    line: int  # 1-based; 0 when unknown
    what: str
    cure: str
    warning: bool = False  # True: said, but does not forbid publishing

    def __str__(self) -> str:
        return f"line {self.line}: {self.path}: {self.what}; {self.cure}"


@dataclass(frozen=True, slots=True)
class Context:
    """What a tree may refer to. None means: unknown here, do not check."""

    queues: frozenset[str] | None = None
    hours: frozenset[str] | None = None
    skills: frozenset[str] | None = None
    phones: frozenset[str] | None = None
    trunks: frozenset[str] | None = None
    prompts: Mapping[str, frozenset[str]] | None = None  # recording -> languages it exists in
    texts: Mapping[str, frozenset[str]] | None = None  # recording -> languages in which it can be written
    trees: Mapping[str, Any] = field(default_factory=dict)  # documents by id, for subtrees
    leave_keys: Mapping[str, str | None] = field(default_factory=dict)  # queue -> its key to leave


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of an announcement: a recording and/or texts by language (Liquid), or a value (CEL) by `kind`.

    `written` stands in its place where a tree is read: other texts, or none at all; None means the same everywhere.
    """

    kind: str  # prompt | text | digits | number | duration | written (only where a tree is read)
    name: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    value: str = ""
    written: Mapping[str, str] | None = None


Words = tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    id: str
    kind: str
    title: str
    exits: Mapping[str, str]  # exit -> node id, or return[:NAME]


@dataclass(frozen=True, slots=True, kw_only=True)
class SayNode(Node):
    say: Words
    legal: bool  # played to its end, keys wait
    discloses: bool  # its words say that a bot is writing


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuNode(Node):
    say: Words
    legal: bool
    keys: Mapping[str, str]  # key -> exit
    labels: Mapping[str, Mapping[str, str]]  # key -> language -> what it means: the title of a quick reply
    words: Mapping[
        str, Mapping[str, tuple[str, ...]]
    ]  # key -> language -> words by which it is chosen in writing
    no_input: Words
    no_match: Words
    tries: int
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectNode(Node):
    say: Words
    legal: bool
    into: str
    min: int
    max: int
    terminator: str
    pattern: str | None
    checksum: str | None
    no_input: Words
    no_match: Words
    tries: int
    timeout_s: float
    interdigit_s: float
    read_back: Words
    confirm: str
    again: str
    sensitive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursNode(Node):
    hours: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionNode(Node):
    cases: tuple[tuple[str, str], ...]  # (CEL, exit), first true wins; else exit "otherwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupNode(Node):
    url: str
    method: str
    query: Mapping[str, str]
    body: Mapping[str, str]
    into: str
    timeout_s: float
    say: Words  # while asking


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNode(Node):
    set: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueNode(Node):
    queue: str
    say: Words
    priority: int | None
    needs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageNode(Node):
    language: str | None  # set at once, without asking
    keys: Mapping[str, str]  # key -> language
    known: bool  # not asked of a contact whose card names one of these
    say: Words
    tries: int
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtreeNode(Node):
    tree: str
    give: Mapping[str, str]  # input of the subtree -> CEL
    take: Mapping[str, str]  # variable here -> result of the subtree


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferNode(Node):
    say: Words
    phone: str | None
    trunk: str | None
    number: str | None
    ring_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HangupNode(Node):
    say: Words
    outcome: str


@dataclass(frozen=True, slots=True)
class Tree:
    """One published version of a tree."""

    id: str
    version: int
    title: str
    languages: tuple[str, ...]  # the first is spoken until one is chosen
    channels: tuple[str, ...]
    start: str
    nodes: Mapping[str, Node]
    variables: Mapping[str, Any]
    inputs: Mapping[str, str]
    results: Mapping[str, str]
    anywhere: Mapping[str, str]  # key -> node, wherever a key is expected one by one
    human: str | None  # where whoever asks for a person is led, from any node
    human_labels: Mapping[str, str]
    human_words: Mapping[str, tuple[str, ...]]
    apology: Words


@dataclass(frozen=True, slots=True)
class Forest:
    """The trees that hold together at one time. A call keeps the Forest it started with (V14)."""

    trees: Mapping[str, Tree]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_list(value: Any) -> Any:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _as_key(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_exits(value: Any) -> Any:
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else value


Key = Annotated[str, BeforeValidator(_as_key), Field(pattern=r"^[0-9*#]$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")]
NodeId = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,39}$")]
Source = Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, int | float) else v)]


def _as_labels(value: Any) -> Any:
    """One text holds for every language, named ""."""
    return {"": value} if isinstance(value, str) and value else value or {}


def _as_synonyms(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _as_list(v) for k, v in value.items()}
    return {"": _as_list(value)} if value else {}


Labels = Annotated[dict[str, str], BeforeValidator(_as_labels)]
Synonyms = Annotated[
    dict[str, list[Annotated[str, Field(min_length=2, max_length=60)]]], BeforeValidator(_as_synonyms)
]


class _PartIn(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    prompt: str | None = None
    digits: Source | None = None
    number: Source | None = None
    duration: Source | None = None
    written: dict[str, str] | Literal[False] | None = None


SayIn = Annotated[list[str | _PartIn], BeforeValidator(_as_list)]


class _KeyIn(_Strict):
    key: Key
    to: str
    label: Labels = {}
    words: Synonyms = {}


def _as_keys(value: Any) -> Any:
    """`{1: node}` and `[{key: 1, to: node, label: words}]` are the same; twins stay, so that they can be named."""
    if isinstance(value, Mapping):
        return [
            {"key": k, **(dict(to) if isinstance(to, Mapping) else {"to": to})} for k, to in value.items()
        ]
    return value


KeysIn = Annotated[list[_KeyIn], BeforeValidator(_as_keys)]
Seconds = Annotated[float, Field(gt=0, le=120)]


class _NodeIn(_Strict):
    title: str = ""
    next: str | None = None
    exits: Annotated[dict[str, str], BeforeValidator(_as_exits)] = {}


class _SayIn(_NodeIn):
    kind: Literal["say"]
    say: SayIn
    legal: bool = False
    discloses: bool = False


class _AskIn(_NodeIn):
    say: SayIn = []
    legal: bool = False
    no_input: SayIn = ["no-input"]
    no_match: SayIn = ["no-match"]
    tries: Annotated[int, Field(ge=1, le=9)] = 3
    timeout_s: Seconds = 5.0


class _MenuIn(_AskIn):
    kind: Literal["menu"]
    keys: KeysIn


class _CollectIn(_AskIn):
    kind: Literal["collect"]
    into: Name
    min: Annotated[int, Field(ge=1, le=64)] = 1
    max: Annotated[int, Field(ge=1, le=64)] = 32
    terminator: Literal["#", "*", ""] = "#"
    pattern: str | None = None
    checksum: Literal["luhn", "mod97", "s10"] | None = None
    interdigit_s: Seconds = 4.0
    read_back: SayIn = []
    confirm: Key = "1"
    again: Key = "2"
    sensitive: bool = False


class _HoursIn(_NodeIn):
    kind: Literal["hours"]
    hours: str


class _CaseIn(_Strict):
    when: str
    to: str
    exit: Name | None = None


class _ConditionIn(_NodeIn):
    kind: Literal["condition"]
    cases: Annotated[list[_CaseIn], Field(min_length=1, max_length=50)]
    otherwise: str | None = None


class _LookupIn(_NodeIn):
    kind: Literal["lookup"]
    url: str
    method: Literal["GET", "POST"] = "GET"
    query: dict[str, Source] = {}
    body: dict[str, Source] = {}
    into: Name
    timeout_s: Annotated[float, Field(gt=0, le=10)] = 2.0
    say: SayIn = []


class _SetIn(_NodeIn):
    kind: Literal["set"]
    set: dict[Name, Source]


class _QueueIn(_NodeIn):
    kind: Literal["queue"]
    queue: str
    say: SayIn = []
    priority: int | None = None
    needs: dict[str, Annotated[int, Field(ge=1, le=5)]] = {}


class _LanguageIn(_NodeIn):
    kind: Literal["language"]
    language: Language | None = None
    keys: dict[Key, Language] = {}
    known: bool = False
    say: SayIn = []
    tries: Annotated[int, Field(ge=1, le=9)] = 2
    timeout_s: Seconds = 5.0


class _SubtreeIn(_NodeIn):
    kind: Literal["subtree"]
    tree: str
    give: dict[Name, Source] = {}
    take: dict[Name, Name] = {}


class _TransferIn(_NodeIn):
    kind: Literal["transfer"]
    say: SayIn = []
    phone: str | None = None
    trunk: str | None = None
    number: str | None = None
    ring_s: Seconds = 30.0


class _HangupIn(_NodeIn):
    kind: Literal["hangup"]
    say: SayIn = []
    outcome: Name = "served"


_MODELS: Mapping[str, type[_NodeIn]] = {
    "say": _SayIn, "menu": _MenuIn, "collect": _CollectIn, "hours": _HoursIn, "condition": _ConditionIn,
    "lookup": _LookupIn, "set": _SetIn, "queue": _QueueIn, "language": _LanguageIn, "subtree": _SubtreeIn,
    "transfer": _TransferIn, "hangup": _HangupIn,
}  # fmt: skip

Value = str | int | Annotated[float, Field(allow_inf_nan=False)] | bool


class _HumanIn(_Strict):
    to: str
    label: Labels = {}
    words: Synonyms = {}


def _as_human(value: Any) -> Any:
    return {"to": value} if isinstance(value, str) else value


class _TreeIn(_Strict):
    tree: NodeId
    title: str = ""
    languages: Annotated[list[Language], Field(min_length=1)] = ["fr"]
    channels: Annotated[list[Literal["voice", "chat", "mail"]], Field(min_length=1)] = ["voice"]
    start: NodeId
    error: str | None = None  # where error exits lead that a node does not wire itself
    anywhere: dict[Key, str] = {}
    human: Annotated[_HumanIn | None, BeforeValidator(_as_human)] = None
    variables: dict[Name, Value | None] = {}
    inputs: dict[Name, Literal["string", "number", "boolean", "object"]] = {}
    results: dict[Name, Literal["string", "number", "boolean", "object"]] = {}
    apology: SayIn = ["apology"]
    nodes: dict[str, Any]


def parse(text: str) -> tuple[Any, Where]:
    """The document in `text` (YAML) and the line of each path. Raises BadTree: no YAML, or a key that stands twice."""
    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark is not None else 0
        what = str(e.problem or "not readable as YAML").split("\n")[0]
        cure = "remove one of the two" if "duplicate" in what else "mend the YAML here"
        raise BadTree([Mistake("", line, what, cure)]) from None
    return document, where_in(document)


def where_in(document: Any) -> Where:
    """Line finder (1-based) for a document that ruamel.yaml read with its positions."""

    def where(path: Spot) -> int:
        at, line = document, 1
        for step in path:
            lc = getattr(at, "lc", None)
            try:
                if isinstance(at, Mapping):
                    if step not in at:
                        step = next(k for k in at if str(k) == str(step))
                    line = lc.key(step)[0] + 1 if lc is not None else 0
                elif isinstance(at, list) and isinstance(step, int):
                    line = lc.item(step)[0] + 1 if lc is not None else 0
                at = at[step]
            except (KeyError, IndexError, TypeError, StopIteration, AttributeError):
                return line
        return line

    return where


def _nowhere(path: Spot) -> int:
    return 0


def _dotted(path: Iterable[str | int]) -> str:
    return ".".join(str(p) for p in path)


def _close(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = get_close_matches(word, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(names[:12])}" if names else "there is none yet"


class _Checker:
    """Collects the mistakes of one document."""

    def __init__(self, document: Any, context: Context, where: Where) -> None:
        self.document = document
        self.context = context
        self.where = where
        self.mistakes: list[Mistake] = []
        self.nodes: dict[str, Any] = {}
        self.broken = False

    def wrong(self, path: Spot, what: str, cure: str, *, warning: bool = False) -> None:
        self.mistakes.append(Mistake(_dotted(path), self.where(path), what, cure, warning))

    def run(self) -> list[Mistake]:
        head = self._head()
        if head is None:
            return self.mistakes
        for name, node in head.nodes.items():
            self._shape(str(name), node)
        known = {str(n) for n in head.nodes}
        if head.start not in known:
            self.wrong(("start",), f"there is no node {head.start!r}", _close(head.start, known))
        for where_, target in [
            ("error", head.error),
            ("human", head.human.to if head.human is not None else None),
            *((f"anywhere.{k}", t) for k, t in head.anywhere.items()),
        ]:
            if target is not None:
                self._target(tuple(where_.split(".")), target, head, known)
        self._words(("apology",), _words(head.apology), head)
        names = self._names(head)
        for name, node in self.nodes.items():
            self._node(name, node, head, known, names)
        if head.human is not None:
            self._by_language(("human",), (head.human.label, head.human.words), head)
        self._way_to_a_person(head)
        self._reach(head)
        self._cycle(head)
        self.mistakes.sort(key=lambda m: (m.line, m.path))
        return self.mistakes

    def _errors(self, error: ValidationError, at: Spot, model: type[BaseModel] | None) -> None:
        seen: set[Spot] = set()
        for e in error.errors():
            loc = tuple(p for p in e["loc"] if p not in ("_PartIn", "str"))
            if loc in seen:
                continue
            seen.add(loc)
            path = (*at, *loc)
            if e["type"] == "extra_forbidden" and model is not None:
                self.wrong(path, f"{loc[-1]!r} is not known here", _close(str(loc[-1]), model.model_fields))
            elif e["type"] == "missing":
                self.wrong(path, f"{loc[-1]!r} is missing", "write it")
            else:
                self.wrong(path, str(e["msg"]), f"change {str(e.get('input'))[:60]!r}")

    def _head(self) -> _TreeIn | None:
        if not isinstance(self.document, Mapping):
            self.wrong((), "a tree is a mapping", "start with `tree: NAME`")
            return None
        try:
            head = _TreeIn.model_validate(_plain(self.document))
        except ValidationError as e:
            self._errors(e, (), _TreeIn)
            return None
        if not head.nodes:
            self.wrong(("nodes",), "there is no node", "write at least one")
            return None
        return head

    def _shape(self, name: str, node: Any) -> None:
        path = ("nodes", name)
        if name == RETURN or not NODE_ID.matches(name):
            self.wrong(
                path, f"{name!r} cannot name a node", "use letters, digits, _ and -; `return` is taken"
            )
        if not isinstance(node, Mapping):
            self.wrong(path, "a node is a mapping", "write `kind:` and what belongs to it")
        elif (kind := node.get("kind")) in LATER_KINDS:
            self.wrong((*path, "kind"), f"{kind} is not yet in this version", "use queue or hangup instead")
        elif kind not in KINDS:
            self.wrong((*path, "kind"), f"there is no kind of node {str(kind)!r}", _close(str(kind), KINDS))
        else:
            try:
                self.nodes[name] = _MODELS[str(kind)].model_validate(node)
                return
            except ValidationError as e:
                self._errors(e, path, _MODELS[str(kind)])
        self.broken = True

    def _names(self, head: _TreeIn) -> set[str]:
        names = {*BUILT_IN, *WRITTEN_IN, *head.variables, *head.inputs, *head.results}
        for node in self.nodes.values():
            if isinstance(node, _CollectIn | _LookupIn):
                names.add(node.into)
            elif isinstance(node, _SetIn):
                names |= set(node.set)
            elif isinstance(node, _SubtreeIn):
                names |= set(node.take)
        return names

    def _target(self, path: Spot, target: str, head: _TreeIn, known: set[str]) -> None:
        if target == RETURN or target.startswith(RETURN + ":"):
            return
        if target not in known:
            self.wrong(path, f"there is no node {target!r}", _close(target, known))

    def _reads(self, path: Spot, source: str, names: set[str], *, liquid: bool = False) -> None:
        try:
            read = template(source).variables if liquid else expression(source).variables
        except BadExpression as e:
            kind = "text" if liquid else "expression"
            self.wrong(
                path, f"the {kind} cannot be used: {e}", f"mend the {'Liquid' if liquid else 'CEL'} {kind}"
            )
            return
        for name in sorted(read - names):
            self.wrong(path, f"nothing in this tree is called {name!r}", _close(name, names))

    def _words(self, path: Spot, words: Words, head: _TreeIn, names: set[str] | None = None) -> None:
        for part in words:
            if part.kind == "bad":
                self.wrong(
                    path,
                    part.name,
                    "a part is a prompt's name, texts by language, digits, number or duration",
                )
                continue
            if part.value:
                self._reads(path, part.value, names or {*BUILT_IN, *WRITTEN_IN})
                continue
            for language, text in (*part.texts.items(), *(part.written or {}).items()):
                if language not in head.languages:
                    self.wrong(
                        path, f"the tree has no language {language!r}", _close(language, head.languages)
                    )
                self._reads(path, text, names or {*BUILT_IN, *WRITTEN_IN}, liquid=True)
            self._can_be_written(path, part, head)
            if part.kind == "written":
                continue
            recorded: frozenset[str] | set[str] = set()
            if part.kind == "prompt":
                if self.context.prompts is None:
                    continue
                recorded = self.context.prompts.get(part.name, frozenset())
                if not recorded and not part.texts:
                    self.wrong(
                        path, f"there is no prompt {part.name!r}", _close(part.name, self.context.prompts)
                    )
                    continue
            missing = [x for x in head.languages if x not in recorded and x not in part.texts]
            if missing:
                what = f"prompt {part.name!r}" if part.name else "the text"
                self.wrong(path, f"{what} is missing in {', '.join(missing)}", "record it or write its text")

    def _can_be_written(self, path: Spot, part: Part, head: _TreeIn) -> None:
        if WRITTEN.isdisjoint(head.channels):
            return
        if part.written:
            missing = [x for x in head.languages if x not in part.written]
            if missing:
                self.wrong(path, f"what is written is missing in {', '.join(missing)}", "write its text")
        elif part.kind == "prompt" and part.written is None and self.context.texts is not None:
            known = self.context.texts.get(part.name, frozenset())
            missing = [x for x in head.languages if x not in known and x not in part.texts]
            if missing:
                self.wrong(
                    path,
                    f"prompt {part.name!r} cannot be written in {', '.join(missing)}",
                    "write `written: {LANGUAGE: TEXT}`, or `written: false` to leave it out",
                )

    def _by_language(self, path: Spot, found: Iterable[Mapping[str, Any]], head: _TreeIn) -> None:
        """Labels and words stand under languages of the tree."""
        for texts in found:
            for language in texts:
                if language and language not in head.languages:
                    self.wrong(
                        path, f"the tree has no language {language!r}", _close(language, head.languages)
                    )

    def _way_to_a_person(self, head: _TreeIn) -> None:
        """Who writes can ask for a person at any node; a tree that returns leaves that to the one that calls it."""
        if "chat" not in head.channels or head.human is not None or "0" in head.anywhere:
            return
        if not head.inputs and not _outcomes(self.document):
            cure = "write `human: NODE`, where somebody who asks for a person is led"
            self.wrong(("channels",), "a chat without a way to a person", cure)

    def _one_of(self, path: Spot, word: str, known: frozenset[str] | None, noun: str) -> None:
        if known is not None and word not in known:
            self.wrong(path, f"there is no {noun} {word!r}", _close(word, known))

    def _node(self, name: str, node: Any, head: _TreeIn, known: set[str], names: set[str]) -> None:
        path: Spot = ("nodes", name)
        for channel in head.channels:
            if node.kind in UNABLE[channel]:
                self.wrong(
                    (*path, "kind"),
                    f"the channel {channel} cannot express a {node.kind} node",
                    f"take {channel} out of channels, or use another node",
                )
        if isinstance(node, _LanguageIn) and node.keys and "mail" in head.channels:
            self.wrong(
                path,
                "the channel mail cannot ask for a language",
                "take mail out of channels, or set `language`",
            )
        for field_name in ("say", "no_input", "no_match", "read_back"):
            if hasattr(node, field_name):
                default = field_name not in node.model_fields_set
                self._words(
                    (*path, *(() if default else (field_name,))),
                    _words(getattr(node, field_name)),
                    head,
                    names,
                )
        for exit_, target in _wired(node).items():
            at = (*path, "exits", exit_) if exit_ in node.exits else path
            self._target(at, target, head, known)
        wanted, allowed = self._exits(name, node, head)
        wired = set(_wired(node))
        for exit_ in wanted:
            if exit_ in wired or (exit_ in ("no_input", "no_match") and "failed" in wired):
                continue
            if exit_ == "error":
                if head.error is None:
                    self.wrong(
                        path,
                        "the exit 'error' leads nowhere",
                        "wire it in exits, or write `error: NODE` for the tree",
                    )
                continue
            self.wrong(path, f"the exit {exit_!r} leads nowhere", f"write `exits: {{{exit_}: NODE}}`")
        for exit_ in sorted(set(node.exits) - allowed):
            self.wrong(
                (*path, "exits", exit_), f"a {node.kind} node has no exit {exit_!r}", _close(exit_, allowed)
            )
        if node.next is not None and "done" not in allowed:
            self.wrong(
                (*path, "next"),
                f"a {node.kind} node has no exit 'done'",
                f"wire {', '.join(sorted(wanted))} in exits",
            )
        getattr(self, f"_{node.kind}", lambda *a: None)(path, node, head, names)

    def _exits(self, name: str, node: Any, head: _TreeIn) -> tuple[list[str], set[str]]:
        """Exits that must lead somewhere, and all that may be named."""
        wanted: list[str]
        more: set[str] = set()
        match node.kind:
            case "say" | "set":
                wanted = ["done", "error"]
            case "menu":
                wanted = ["no_input", "no_match", "error"]
                more = {"failed"}
            case "collect":
                wanted = ["done", "no_input", "no_match", "error"]
                more = {"failed"}
            case "hours":
                wanted = ["open", "closed", "error"]
            case "condition":
                wanted = ["otherwise", "error"]
            case "lookup":
                wanted = ["ok", "empty", "timeout", "error"]
            case "queue":
                wanted = ["error"]
                more = {"left", "closing", "overflow", "refused"}
                if self.context.leave_keys.get(node.queue) and "voice" in head.channels:
                    wanted.append("left")
            case "language":
                wanted = ["done", "error"]
            case "subtree":
                wanted = ["done", "error"]
                document = self.context.trees.get(node.tree)
                if document is not None:
                    outcomes = _outcomes(document)
                    wanted = [*sorted(outcomes), "error"]
                more = {"done"}
            case "transfer":
                wanted = ["failed", "error"]
            case _:
                return [], {"error"}
        return wanted, {*wanted, *more, "error"}

    def _menu(self, path: Spot, node: _MenuIn, head: _TreeIn, names: set[str]) -> None:
        self._twice(path, [k.key for k in node.keys])
        if not node.keys:
            self.wrong((*path, "keys"), "the menu has no key", "give it at least one")
        if not node.say:
            self.wrong(path, "the menu says nothing", "write what the caller hears under `say`")
        for choice in node.keys:
            self._by_language((*path, "keys"), (choice.label, choice.words), head)
            lacking = [] if "" in choice.label else [x for x in head.languages if x not in choice.label]
            if lacking and "chat" in head.channels:
                self.wrong(
                    (*path, "keys"),
                    f"the choice {choice.key!r} has no label in {', '.join(lacking)}, and a chat shows labels",
                    "write `label: {LANGUAGE: TEXT}`",
                )

    def _twice(self, path: Spot, keys: Sequence[str]) -> None:
        for key in sorted({k for k in keys if keys.count(k) > 1}):
            self.wrong((*path, "keys"), f"the key {key!r} is used twice", "give each choice a key of its own")

    def _collect(self, path: Spot, node: _CollectIn, head: _TreeIn, names: set[str]) -> None:
        if node.min > node.max:
            self.wrong((*path, "min"), f"min {node.min} is more than max {node.max}", "swap them")
        if node.pattern is not None:
            try:
                pattern(node.pattern)
            except BadExpression as e:
                self.wrong((*path, "pattern"), f"the pattern cannot be used: {e}", "write an RE2 pattern")
        if node.sensitive and not WRITTEN.isdisjoint(head.channels):
            self.wrong(
                (*path, "sensitive"),
                "what is sensitive must not be asked for in writing: it would stay in the customer's chat",
                "take chat out of channels, or ask by phone",
            )
        if node.into in self._taken(head):
            self.wrong((*path, "into"), f"{node.into!r} is set by the house", "take another name")
        if node.confirm == node.again:
            self.wrong((*path, "again"), f"the key {node.again!r} is used twice", "take two different keys")

    def _hours(self, path: Spot, node: _HoursIn, head: _TreeIn, names: set[str]) -> None:
        self._one_of((*path, "hours"), node.hours, self.context.hours, "opening hours")

    def _condition(self, path: Spot, node: _ConditionIn, head: _TreeIn, names: set[str]) -> None:
        for i, case in enumerate(node.cases):
            self._reads((*path, "cases", i, "when"), case.when, names)

    def _lookup(self, path: Spot, node: _LookupIn, head: _TreeIn, names: set[str]) -> None:
        self._reads((*path, "url"), node.url, names, liquid=True)
        for piece in PLACES.findall(node.url):
            name = piece.split("|")[0].strip()
            if name not in head.variables and name not in head.inputs and "url_encode" not in piece:
                self.wrong(
                    (*path, "url"),
                    f"{name!r} could change the address",
                    f"write {{{{ {name} | url_encode }}}}",
                )
        for key in ("query", "body"):
            for name, source in getattr(node, key).items():
                self._reads((*path, key, name), source, names)

    def _set(self, path: Spot, node: _SetIn, head: _TreeIn, names: set[str]) -> None:
        for name, source in node.set.items():
            self._reads((*path, "set", name), source, names)
            if name in self._taken(head):
                self.wrong((*path, "set", name), f"{name!r} is set by the house", "take another name")

    def _taken(self, head: _TreeIn) -> set[str]:
        """Names that the house sets: those of written walks only where there are any."""
        return {*BUILT_IN, *(() if WRITTEN.isdisjoint(head.channels) else WRITTEN_IN)}

    def _queue(self, path: Spot, node: _QueueIn, head: _TreeIn, names: set[str]) -> None:
        self._one_of((*path, "queue"), node.queue, self.context.queues, "queue")
        for skill in node.needs:
            self._one_of((*path, "needs", skill), skill, self.context.skills, "skill")

    def _language(self, path: Spot, node: _LanguageIn, head: _TreeIn, names: set[str]) -> None:
        for language in [*node.keys.values(), *([node.language] if node.language else [])]:
            if language not in head.languages:
                at = (*path, "language" if node.language else "keys")
                self.wrong(at, f"the tree has no language {language!r}", _close(language, head.languages))
        if (node.language is None) == (not node.keys):
            self.wrong(path, "a language node either asks (keys) or sets (language)", "write one of the two")
        if node.known and not node.keys:
            self.wrong((*path, "known"), "`known` says when not to ask, and nothing is asked", "remove it")
        if node.keys and not node.say:
            self.wrong(path, "the choice of language says nothing", "write what the caller hears under `say`")

    def _subtree(self, path: Spot, node: _SubtreeIn, head: _TreeIn, names: set[str]) -> None:
        for name, source in node.give.items():
            self._reads((*path, "give", name), source, names)
        self._one_of((*path, "tree"), node.tree, frozenset(self.context.trees), "tree")
        document = self.context.trees.get(node.tree)
        if not isinstance(document, Mapping):
            return
        inputs = _listed(document, "inputs")
        results = _listed(document, "results")
        for name in sorted(set(node.give) - inputs):
            self.wrong(
                (*path, "give", name), f"the tree {node.tree} has no input {name!r}", _close(name, inputs)
            )
        for name in sorted(inputs - set(node.give)):
            self.wrong(path, f"the tree {node.tree} needs the input {name!r}", f"write `give: {{{name}: …}}`")
        for name in sorted(set(node.take.values()) - results):
            self.wrong((*path, "take"), f"the tree {node.tree} has no result {name!r}", _close(name, results))
        lacking = [x for x in head.languages if x not in (_listed(document, "languages") or {"fr"})]
        if lacking:
            self.wrong(
                (*path, "tree"), f"the tree {node.tree} does not speak {', '.join(lacking)}", "add it there"
            )
        channels = _texts_in(document.get("channels")) or {"voice"}
        unfit = [x for x in head.channels if x not in channels]
        if unfit:
            self.wrong(
                (*path, "tree"),
                f"the tree {node.tree} is not made for {', '.join(unfit)}",
                "add it to its `channels`",
            )

    def _transfer(self, path: Spot, node: _TransferIn, head: _TreeIn, names: set[str]) -> None:
        if (node.phone is None) == (node.number is None):
            self.wrong(path, "a transfer goes to a phone or to a number", "write one of the two")
        if node.number is not None:
            self._reads((*path, "number"), node.number, names, liquid=True)
            if node.trunk is None:
                self.wrong(path, "a number is reached through a trunk", "write `trunk: NAME`")
            else:
                self._one_of((*path, "trunk"), node.trunk, self.context.trunks, "trunk")
        if node.phone is not None:
            self._one_of((*path, "phone"), node.phone, self.context.phones, "phone account")

    def _reach(self, head: _TreeIn) -> None:
        if self.broken or head.start not in self.nodes:
            return
        seen = {head.start}
        todo = deque(seen)
        for target in (*head.anywhere.values(), *([head.human.to] if head.human is not None else [])):
            if target in self.nodes and target not in seen:
                seen.add(target)
                todo.append(target)
        while todo:
            node = self.nodes[todo.popleft()]
            targets = list(_wired(node).values())
            if "error" not in _wired(node) and node.kind != "hangup" and head.error is not None:
                targets.append(head.error)
            for target in targets:
                if target in self.nodes and target not in seen:
                    seen.add(target)
                    todo.append(target)
        for name in self.nodes:
            if name not in seen:
                self.wrong(("nodes", name), "no caller can come here", "wire an exit to it, or remove it")

    def _cycle(self, head: _TreeIn) -> None:
        """Subtrees that lead back here by way of their own subtrees."""
        for name, node in self.nodes.items():
            if node.kind != "subtree":
                continue
            if node.tree == head.tree:
                self.wrong(
                    ("nodes", name, "tree"), f"the tree {head.tree} calls itself", "leave by an exit instead"
                )
                continue
            chain = _chain(node.tree, head.tree, self.context.trees)
            if chain:
                round_ = " -> ".join([head.tree, *chain])
                self.wrong(
                    ("nodes", name, "tree"), f"the subtrees go in a circle: {round_}", "cut it at one place"
                )


NODE_ID = pattern(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
PLACES = re2.compile(r"\{\{([^}]*)\}\}")


def _chain(start: str, goal: str, trees: Mapping[str, Any]) -> list[str]:
    """Names from `start` to `goal` along subtree nodes, or nothing."""
    todo: deque[list[str]] = deque([[start]])
    seen = {start}
    while todo:
        way = todo.popleft()
        for callee in _callees(trees.get(way[-1])):
            if callee == goal:
                return [*way, goal]
            if callee not in seen:
                seen.add(callee)
                todo.append([*way, callee])
    return []


def _raw_nodes(document: Any) -> Iterator[Mapping[str, Any]]:
    nodes = document.get("nodes") if isinstance(document, Mapping) else None
    for node in nodes.values() if isinstance(nodes, Mapping) else ():
        if isinstance(node, Mapping):
            yield node


def _listed(document: Mapping[str, Any], key: str) -> set[str]:
    """The names under a key of a document that may itself be wrong there."""
    found = document.get(key)
    return {str(name) for name in found} if isinstance(found, Mapping | list | tuple) else set()


def _texts_in(value: Any) -> set[str]:
    return {v for v in value if isinstance(v, str)} if isinstance(value, list | tuple) else set()


def _callees(document: Any) -> list[str]:
    return [str(n.get("tree")) for n in _raw_nodes(document) if n.get("kind") == "subtree"]


def _outcomes(document: Any) -> set[str]:
    """Results by which a tree returns: every `return[:NAME]` that an exit of it leads to."""

    def words(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            for v in value.values():
                yield from words(v)
        elif isinstance(value, list | tuple):
            for v in value:
                yield from words(v)

    found = set()
    targets = [document.get("error")] if isinstance(document, Mapping) else []
    for node in _raw_nodes(document):
        targets += [node.get("next"), node.get("otherwise")]
        targets += words([node.get("exits"), node.get("cases"), node.get("keys")])
    for target in targets:
        if target == RETURN:
            found.add("done")
        elif isinstance(target, str) and target.startswith(RETURN + ":"):
            found.add(target.partition(":")[2])
    return found


def _plain(value: Any) -> Any:
    """Ordinary dicts and lists from what ruamel made, so that error inputs print shortly."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _words(parts: Sequence[str | _PartIn]) -> Words:
    made: list[Part] = []
    for part in parts:
        if isinstance(part, str):
            made.append(Part("prompt", name=part))
            continue
        texts = dict(part.model_extra or {})
        written = {} if part.written is False else part.written
        values = [k for k in ("digits", "number", "duration") if getattr(part, k) is not None]
        bad = [k for k, v in texts.items() if len(str(k)) != 2 or not isinstance(v, str)]
        if (
            bad
            or len(values) > 1
            or (values and (texts or part.prompt))
            or not (values or texts or part.prompt or written)
        ):
            made.append(
                Part(
                    "bad",
                    name=f"this part is not understood: {', '.join(map(str, bad or values)) or 'empty'}",
                )
            )
        elif values:
            made.append(Part(values[0], value=getattr(part, values[0]), written=written))
        elif part.prompt:
            made.append(Part("prompt", name=part.prompt, texts=texts, written=written))
        elif texts:
            made.append(Part("text", texts=texts, written=written))
        else:
            made.append(Part("written", written=written))
    return tuple(made)


def _wired(node: Any) -> dict[str, str]:
    """Every exit that the author wired, by name."""
    exits: dict[str, str] = {}
    if isinstance(node, _MenuIn):
        exits |= {k.key: k.to for k in node.keys}
    if isinstance(node, _ConditionIn):
        exits |= {c.exit or f"case{i + 1}": c.to for i, c in enumerate(node.cases)}
        if node.otherwise is not None:
            exits["otherwise"] = node.otherwise
    if node.next is not None:
        exits["done"] = node.next
    return {**exits, **dict[str, str](node.exits)}


def check(document: Any, context: Context, where: Where = _nowhere) -> list[Mistake]:
    """Every mistake in `document`, in the order of its lines; an empty list means it can be published."""
    return _Checker(document, context, where).run()


def load(document: Any, version: int = 1) -> Tree:
    """The Tree in a checked document. Raises BadTree when its shape alone is wrong."""
    checker = _Checker(document, Context(), where_in(document))
    head = checker._head()
    if head is not None:
        for name, node in head.nodes.items():
            checker._shape(str(name), node)
    if head is None or checker.broken or head.start not in checker.nodes:
        raise BadTree(
            checker.mistakes or [Mistake("start", 0, "there is no such node", "name one that exists")]
        )
    nodes = {name: _node(name, node, head) for name, node in checker.nodes.items()}
    variables: dict[str, Any] = dict.fromkeys(checker._names(head))
    variables |= {k: EMPTY[t] for k, t in {**head.inputs, **head.results}.items()} | dict(head.variables)
    for name in checker._taken(head):
        variables.pop(name, None)
    human = head.human or _HumanIn(to=head.anywhere.get("0", ""))
    return Tree(
        id=head.tree,
        version=version,
        title=head.title or head.tree,
        languages=tuple(head.languages),
        channels=tuple(head.channels),
        start=head.start,
        nodes=nodes,
        variables=variables,
        inputs=dict(head.inputs),
        results=dict(head.results),
        anywhere=dict(head.anywhere),
        human=human.to or None,
        human_labels=_each(human.label, head.languages) or HUMAN_LABELS,
        human_words={x: tuple(w) for x, w in _each(human.words, head.languages).items()},
        apology=_words(head.apology),
    )


def plant(documents: Mapping[str, Any], versions: Mapping[str, int] | None = None) -> Forest:
    """A Forest of checked documents, by tree id."""
    return Forest({name: load(d, (versions or {}).get(name, 1)) for name, d in documents.items()})


def _each(found: Mapping[str, V], languages: Sequence[str]) -> dict[str, V]:
    """What stands under "" holds for every language that has nothing of its own."""
    every = dict.fromkeys(languages, found[""]) if "" in found else {}
    return every | {x: v for x, v in found.items() if x}


def _node(name: str, node: Any, head: _TreeIn) -> Node:
    exits = _wired(node)
    if "failed" in exits:
        exits.setdefault("no_input", exits["failed"])
        exits.setdefault("no_match", exits["failed"])
    if node.kind != "hangup" and head.error is not None:
        exits.setdefault("error", head.error)
    base: dict[str, Any] = {"id": name, "kind": node.kind, "title": node.title or name, "exits": exits}
    match node:
        case _SayIn():
            return SayNode(**base, say=_words(node.say), legal=node.legal, discloses=node.discloses)
        case _MenuIn():
            return MenuNode(
                **base,
                say=_words(node.say),
                legal=node.legal,
                keys={k.key: k.key for k in node.keys},
                labels={k.key: _each(k.label, head.languages) for k in node.keys},
                words={
                    k.key: {x: tuple(w) for x, w in _each(k.words, head.languages).items()} for k in node.keys
                },
                no_input=_words(node.no_input),
                no_match=_words(node.no_match),
                tries=node.tries,
                timeout_s=node.timeout_s,
            )
        case _CollectIn():
            return CollectNode(
                **base,
                say=_words(node.say),
                legal=node.legal,
                into=node.into,
                min=node.min,
                max=node.max,
                terminator=node.terminator,
                pattern=node.pattern,
                checksum=node.checksum,
                no_input=_words(node.no_input),
                no_match=_words(node.no_match),
                tries=node.tries,
                timeout_s=node.timeout_s,
                interdigit_s=node.interdigit_s,
                read_back=_words(node.read_back),
                confirm=node.confirm,
                again=node.again,
                sensitive=node.sensitive,
            )
        case _HoursIn():
            return HoursNode(**base, hours=node.hours)
        case _ConditionIn():
            cases = tuple((c.when, c.exit or f"case{i + 1}") for i, c in enumerate(node.cases))
            return ConditionNode(**base, cases=cases)
        case _LookupIn():
            return LookupNode(
                **base,
                url=node.url,
                method=node.method,
                query=dict(node.query),
                body=dict(node.body),
                into=node.into,
                timeout_s=node.timeout_s,
                say=_words(node.say),
            )
        case _SetIn():
            return SetNode(**base, set=dict(node.set))
        case _QueueIn():
            needs = tuple(sorted(node.needs.items()))
            return QueueNode(
                **base, queue=node.queue, say=_words(node.say), priority=node.priority, needs=needs
            )
        case _LanguageIn():
            return LanguageNode(
                **base,
                language=node.language,
                keys=dict(node.keys),
                known=node.known,
                say=_words(node.say),
                tries=node.tries,
                timeout_s=node.timeout_s,
            )
        case _SubtreeIn():
            return SubtreeNode(**base, tree=node.tree, give=dict(node.give), take=dict(node.take))
        case _TransferIn():
            return TransferNode(
                **base,
                say=_words(node.say),
                phone=node.phone,
                trunk=node.trunk,
                number=node.number,
                ring_s=node.ring_s,
            )
        case _:
            return HangupNode(**base, say=_words(node.say), outcome=node.outcome)
