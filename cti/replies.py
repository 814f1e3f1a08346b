"""Reply templates (F11): Liquid over contact, case, advisor and facts; what is not known blocks sending, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from liquid import BoundTemplate, Environment, Mode
from liquid.exceptions import LiquidError
from liquid.undefined import Undefined

from routing.site import Advisor, ReplyTemplate
from routing.store import CaseView, ContactView

TEXT_CHARS = 20_000  # longest text that leaves a template
PLACE = re.compile(r"{{-?\s*(.*?)\s*-?}}|{%.*?%}", re.DOTALL)
RANGE = re.compile(r"\([^()'\"]*\.\.[^()]*\)")  # (1..9): a filter would make all of it at once
_PATH = re.compile(r"""\w+(?:\.\w+|\[(?:"[^"\]]*"|'[^'\]]*'|\d+)\])*""")
_MISSING: ContextVar[list[str]] = ContextVar("missing")


class _Unknown(Undefined):
    """Stands in the text as the place that it left, and notes its whole name."""

    def __str__(self) -> str:
        name = str(self.name)
        if self.token is not None and (found := _PATH.match(self.token.source, self.token.start_index)):
            name = found[0]
        _MISSING.get().append(name)
        return f"{{{{ {name} }}}}"


class _Bounded(Environment):
    context_depth_limit = 10
    loop_iteration_limit = 100
    local_namespace_limit = 1_000
    output_stream_limit = TEXT_CHARS


_LIQUID = _Bounded(tolerance=Mode.STRICT, undefined=_Unknown, strict_filters=True)


@lru_cache(maxsize=1_024)
def _compiled(source: str) -> BoundTemplate:
    return _LIQUID.from_string(source)


def known(
    advisor: Advisor,
    *,
    case: CaseView | None = None,
    contact: ContactView | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a template may name. An empty value is left out: nobody is greeted by an empty name."""
    found: dict[str, Any] = {
        "advisor": {"first_name": advisor.first_name, "last_name": advisor.last_name},
        "facts": dict(facts or {}),
    }
    if contact is not None:
        found["contact"] = {"name": contact.name, "company": contact.company, "language": contact.language}
    if case is not None:
        found["case"] = {"number": case.number, "subject": case.subject}
    return {
        name: {key: value for key, value in values.items() if value not in (None, "")}
        for name, values in found.items()
    }


def fill(source: str, values: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """(text, names that are not known, in order). An unknown name stays in the text as its place."""
    if len(source) > TEXT_CHARS or any(RANGE.search(place[0]) for place in PLACE.finditer(source)):
        return source, tuple(unfilled(source)) or ("?",)
    missing: list[str] = []
    token = _MISSING.set(missing)
    try:
        text = str(_compiled(source).render(**values))
    except LiquidError:
        return source, tuple(unfilled(source)) or ("?",)
    finally:
        _MISSING.reset(token)
    return text, tuple(dict.fromkeys(missing or unfilled(text)))


def unfilled(*texts: str) -> list[str]:
    """The places that a text still holds, by name."""
    return list(dict.fromkeys(found[1] or found[0] for text in texts for found in PLACE.finditer(text)))


def body(template: ReplyTemplate, languages: Sequence[str]) -> str:
    """In the first of the languages that it has, else in its own first one."""
    for language in languages:
        if language in template.bodies:
            return template.bodies[language]
    return next(iter(template.bodies.values()), "")
