"""What authors write inside a tree: CEL expressions, Liquid texts and RE2 patterns, each bounded before it runs.

CEL is `common-expression-language` (Rust): 27 µs to compile and 8 µs to run a usual condition, where `cel-python`
takes 540 and 290. It has no step limit, so what could cost is refused when it is compiled: nested macros (their work
multiplies) and long sources; and values are capped before they enter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

import cel
import re2
from liquid import Environment, Mode
from liquid.exceptions import UnknownFilterError
from liquid.undefined import Undefined

EXPRESSION_CHARS = 500
TEMPLATE_CHARS = 2_000
PATTERN_CHARS = 200
PATTERN_MEMORY_BYTES = 1 << 20
TEXT_CHARS = 4_000  # longest text that leaves a template or an expression
VALUE_CHARS = 2_000  # longest string that enters an expression or a template
VALUE_ITEMS = 200  # longest list or map that enters
VALUE_DEPTH = 6
MACROS = re2.compile(r"\.\s*(map|filter|all|exists|exists_one)\s*\(")
BOUND = re2.compile(r"\.\s*(map|filter|all|exists|exists_one)\s*\(\s*(\w+)\s*,")
FUNCTIONS = frozenset(
    {
        "size", "int", "uint", "double", "string", "bool", "has", "matches", "startsWith", "endsWith", "contains",
        "map", "filter", "all", "exists", "exists_one", "min", "max", "type",
    }
)  # fmt: skip
FILTERS = frozenset(
    {
        "upcase", "downcase", "capitalize", "strip", "default", "size", "slice", "plus", "minus", "round", "truncate",
        "first", "last", "url_encode",
    }
)  # fmt: skip
TAGS = frozenset({"content", "output", "illegal", "if", "unless", "case", "comment", "#"})


class BadExpression(Exception):
    """The author's text cannot be used, or failed on these values; the message says what to change."""


class Expression:
    """A compiled CEL expression; `variables` are the names it reads."""

    __slots__ = ("_program", "source", "variables")

    def __init__(self, source: str) -> None:
        if len(source) > EXPRESSION_CHARS:
            raise BadExpression(
                f"an expression has at most {EXPRESSION_CHARS} characters, this has {len(source)}"
            )
        if len(MACROS.findall(source)) > 1:
            raise BadExpression(
                "at most one map, filter, all or exists in an expression: nested ones run for minutes"
            )
        try:
            program = cel.compile(source)
        except Exception as e:
            raise BadExpression(str(e).splitlines()[0][:200]) from None
        operators = {f for f in cast("Iterable[str]", program.functions()) if not f[:1].isalpha()}
        unknown = sorted(set(program.functions()) - operators - FUNCTIONS)
        if unknown:
            raise BadExpression(
                f"there is no function {unknown[0]!r} here; known are {', '.join(sorted(FUNCTIONS))}"
            )
        self.source = source
        bound = {name for _, name in BOUND.findall(source)}
        self.variables = frozenset(cast("Iterable[str]", program.variables())) - bound
        self._program = program

    def value(self, facts: Mapping[str, Any]) -> Any:
        try:
            found = self._program.execute({name: _capped(facts.get(name)) for name in self.variables})
        except Exception as e:
            raise BadExpression(f"{self.source}: {type(e).__name__}: {str(e)[:200]}") from None
        if isinstance(found, str) and len(found) > TEXT_CHARS:
            raise BadExpression(f"{self.source}: the result is longer than {TEXT_CHARS} characters")
        return found


class _Bounded(Environment):
    context_depth_limit = 10
    loop_iteration_limit = 100
    local_namespace_limit = 1_000
    output_stream_limit = TEXT_CHARS


def _environment() -> Environment:
    env = _Bounded(tolerance=Mode.STRICT, undefined=Undefined, strict_filters=True)
    for name in set(env.filters) - FILTERS:
        del env.filters[name]
    for name in set(env.tags) - TAGS:
        del env.tags[name]
    return env


_LIQUID = _environment()


class Template:
    """A compiled Liquid text; `variables` are the names it reads, `paths` the same with what follows: `case.number`."""

    __slots__ = ("_template", "paths", "source", "variables")

    def __init__(self, source: str) -> None:
        if len(source) > TEMPLATE_CHARS:
            raise BadExpression(f"a text has at most {TEMPLATE_CHARS} characters, this has {len(source)}")
        self.source = source
        if "{{" not in source and "{%" not in source:
            self._template = None
            self.variables: frozenset[str] = frozenset()
            self.paths: frozenset[str] = frozenset()
            return
        try:
            self._template = _LIQUID.from_string(source)
            self.variables = frozenset(str(v) for v in self._template.global_variables())
            self.paths = frozenset(str(v) for v in self._template.global_variable_paths())
        except Exception as e:
            raise BadExpression(str(e).splitlines()[0][:200]) from None
        try:
            self._template.render({})
        except UnknownFilterError as e:
            raise BadExpression(f"{str(e).splitlines()[0]}; known are {', '.join(sorted(FILTERS))}") from None
        except Exception:  # noqa: S110  # other values may well suit it
            pass

    @property
    def fixed(self) -> bool:
        """The same words for every caller, so that they can be synthesised before the first call."""
        return self._template is None

    def render(self, facts: Mapping[str, Any]) -> str:
        if self._template is None:
            return self.source
        try:
            return str(self._template.render({name: _capped(facts.get(name)) for name in self.variables}))
        except Exception as e:
            raise BadExpression(f"text: {type(e).__name__}: {str(e)[:200]}") from None


class Pattern:
    """A compiled RE2 pattern, matched against the whole text."""

    __slots__ = ("_pattern", "source")

    def __init__(self, source: str) -> None:
        if len(source) > PATTERN_CHARS:
            raise BadExpression(f"a pattern has at most {PATTERN_CHARS} characters, this has {len(source)}")
        options = re2.Options()
        options.max_mem = PATTERN_MEMORY_BYTES
        options.log_errors = False
        try:
            self._pattern = re2.compile(source, options)
        except Exception as e:
            detail = e.args[0] if e.args else e
            raise BadExpression(detail.decode() if isinstance(detail, bytes) else str(detail)) from None
        self.source = source

    def matches(self, text: str) -> bool:
        return self._pattern.fullmatch(text) is not None


@lru_cache(maxsize=4_096)
def expression(source: str) -> Expression:
    return Expression(source)


@lru_cache(maxsize=4_096)
def template(source: str) -> Template:
    return Template(source)


@lru_cache(maxsize=1_024)
def pattern(source: str) -> Pattern:
    return Pattern(source)


def _capped(value: Any, depth: int = 0) -> Any:
    """`value` when it is small enough to be let in; raises BadExpression otherwise."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        if not -(1 << 63) <= value < (1 << 63):
            raise BadExpression("a number is larger than 64 bits")
        return value
    if isinstance(value, str):
        if len(value) > VALUE_CHARS:
            raise BadExpression(f"a value is longer than {VALUE_CHARS} characters")
        return value
    if depth >= VALUE_DEPTH:
        raise BadExpression(f"a value is nested deeper than {VALUE_DEPTH}")
    if isinstance(value, Mapping):
        if len(value) > VALUE_ITEMS:
            raise BadExpression(f"a value has more than {VALUE_ITEMS} entries")
        return {str(k): _capped(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        if len(value) > VALUE_ITEMS:
            raise BadExpression(f"a value has more than {VALUE_ITEMS} entries")
        return [_capped(v, depth + 1) for v in value]
    raise BadExpression(f"a value of type {type(value).__name__} has no place in a tree")
