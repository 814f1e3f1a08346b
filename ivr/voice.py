"""How a Say sounds: which recordings and which spoken texts follow each other.

A recording of the language wins over its text; numbers, digits and durations are joined from recorded ones where they
exist (`number-7`), and spoken as text where they do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ivr.events import Say

RECORDED_TO = 20  # number-0 … number-20 ship with each language
UNITS = {
    "fr": (("heure", "heures"), ("minute", "minutes"), ("seconde", "secondes")),
    "en": (("hour", "hours"), ("minute", "minutes"), ("second", "seconds")),
}


@dataclass(frozen=True, slots=True)
class Recording:
    name: str
    language: str


@dataclass(frozen=True, slots=True)
class Speech:
    text: str
    language: str


Segment = Recording | Speech


def segments(say: Say, has: Callable[[str, str], bool]) -> list[Segment]:
    """The segments of `say`; `has(name, language)` tells whether a recording exists.

    Nothing is left out silently: a recording that is missing without a text is spoken by its name.
    """
    made: list[Segment] = []
    for part in say.parts:
        match part.kind:
            case "digits":
                made += [_number(c, say.language, has) for c in part.value]
            case "number":
                made.append(_number(part.value, say.language, has))
            case "duration":
                made.append(Speech(duration(int(part.value or 0), say.language), say.language))
            case _ if part.name and has(part.name, say.language):
                made.append(Recording(part.name, say.language))
            case _ if part.text.strip() or part.name:
                made.append(Speech(part.text.strip() or part.name.replace("-", " "), say.language))
            case _:
                pass
    return made


def _number(value: str, language: str, has: Callable[[str, str], bool]) -> Segment:
    name = f"number-{value}"
    return Recording(name, language) if has(name, language) else Speech(value, language)


def duration(seconds: int, language: str) -> str:
    """Words for a time, rounded to what a caller wants to know: «3 minutes», «1 heure 20 minutes», «40 secondes»."""
    units = UNITS.get(language, UNITS["en"])
    seconds = max(0, seconds)
    minutes = seconds // 60 if seconds % 60 < 30 else seconds // 60 + 1
    values = (0, 0, seconds) if seconds < 60 else (minutes // 60, minutes % 60, 0)
    words = [f"{n} {one if n == 1 else many}" for n, (one, many) in zip(values, units, strict=True) if n]
    return " ".join(words) or f"0 {units[2][1 if language == 'en' else 0]}"
