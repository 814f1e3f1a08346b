"""A YAML document as plain values, with the line of every one of them.

Scalars follow YAML 1.2, with one exception for telephone numbers: what begins with 0 or + and a digit stays text.
Keys are always text. Duplicate keys, tags and aliases without end are mistakes, told with their lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from config.mistakes import Mistake

Path = tuple[str | int, ...]

MAX_CHARACTERS = 4_000_000  # a hotline of 2,000 advisors needs a tenth
MAX_VALUES = 400_000  # aliases of aliases stop here

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"0|-?[1-9][0-9]{0,17}")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")


@dataclass(slots=True)
class Document:
    """`lines` maps a path of keys and indexes to its line, counted from 1; `data` is None when unreadable."""

    file: str
    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of the value at `path`, or of its nearest known parent."""
        for length in range(len(path), -1, -1):
            if (line := self.lines.get(tuple(path[:length]))) is not None:
                return line
        return 1

    def wrong(self, path: Path, code: str, **args: object) -> None:
        self.mistakes.append(Mistake(self.file, self.line(path), path, code, args))


class _TooMuchError(Exception):
    pass


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.left = MAX_VALUES
        self.open: set[int] = set()

    def value(self, node: Node, path: Path) -> Any:
        self.left -= 1
        if self.left < 0 or id(node) in self.open:
            raise _TooMuchError
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        tag = str(node.tag or "")
        if tag.startswith("!"):
            self.document.wrong(path, "tag", got=tag)
        if isinstance(node, ScalarNode):
            return str(node.value) if node.style else _plain(str(node.value))
        self.open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            assert isinstance(node, MappingNode)
            return self.mapping(node, path)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self.document.mistakes.append(Mistake(self.document.file, line, path, "key_not_text", {}))
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key in values:
                first = self.document.lines[here]
                self.document.mistakes.append(
                    Mistake(self.document.file, line, here, "twice", {"got": key, "first": first})
                )
                continue
            self.document.lines[here] = line
            values[key] = self.value(value_node, here)
        return values


def _plain(text: str) -> Any:
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def read(text: str, file: str) -> Document:
    """Never raises: what can't be read is in `mistakes`."""
    document = Document(file)
    if len(text) > MAX_CHARACTERS:
        document.wrong((), "too_large", limit=MAX_CHARACTERS)
        return document
    try:
        node = YAML(typ="rt", pure=True).compose(StringIO(text))
        if node is None:
            document.wrong((), "empty")
            return document
        document.data = _Reader(document).value(node, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        args = {"got": str(error.problem or error.context or "?")}
        document.mistakes.append(Mistake(file, line, (), "yaml", args))
    except YAMLError as error:
        line = text[: getattr(error, "position", 0) or 0].count("\n") + 1
        document.mistakes.append(Mistake(file, line, (), "yaml", {"got": str(error).splitlines()[0]}))
    except (_TooMuchError, RecursionError):
        document.wrong((), "too_deep")
    return document
