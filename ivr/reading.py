"""What a customer has written, as an answer: a choice by words, a number in a sentence, or the wish for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import re2

from ivr.tree import CollectNode
from routing.identity import unmarked

NAMES: Mapping[str, str] = {
    "fr": "Français", "en": "English", "de": "Deutsch", "es": "Español", "it": "Italiano", "nl": "Nederlands",
    "pt": "Português", "pl": "Polski", "ro": "Română", "ar": "العربية", "tr": "Türkçe", "br": "Brezhoneg",
}  # fmt: skip
"""What languages are called by those who speak them."""
LANGUAGE_WORDS: Mapping[str, tuple[str, ...]] = {
    "fr": ("french", "fr"), "en": ("anglais", "en"), "de": ("allemand", "german", "de"),
    "es": ("espagnol", "spanish", "es"), "it": ("italien", "italian"), "nl": ("néerlandais", "dutch"),
}  # fmt: skip
ANYWHERE_IN_A_TEXT: Mapping[str, tuple[str, ...]] = {
    "fr": (
        "conseiller", "conseillère", "conseillers", "humain", "humaine", "un agent", "une personne", "vraie personne",
        "quelqu'un au téléphone", "parler à quelqu'un", "être humain", "opérateur", "opératrice", "téléconseiller",
    ),
    "en": (
        "advisor", "adviser", "human", "an agent", "live agent", "real agent", "a person", "real person",
        "talk to someone", "speak to someone", "operator", "representative", "somebody real", "human being",
    ),
}  # fmt: skip
"""Words that ask for a person wherever they stand, in any language of a tree."""
ALONE: Mapping[str, tuple[str, ...]] = {
    "fr": ("agent", "personne", "quelqu'un", "aide humaine"),
    "en": ("agent", "person", "someone", "somebody"),
}
"""Words that ask for one when nothing else is written: «personne n'est venu» asks for nobody."""
POLITE = frozenset({"un", "une", "a", "an", "svp", "please", "s", "il", "vous", "plait", "merci", "thanks"})
NUMBER = re2.compile(r"\d(?:[ \t.\-/\x{00a0}\x{202f}]?\d)*")
TOKEN = re2.compile(r"[0-9A-Za-z]+")
READ_CHARS = 2_000  # more of a message is not searched


def folded(text: str) -> str:
    """Lower case without accents or punctuation, one space between words and one at each end."""
    kept = (sign if sign.isalnum() else " " for sign in unmarked(text[:READ_CHARS]))
    return f" {' '.join(''.join(kept).split())} "


def chosen(text: str, choices: Mapping[str, Iterable[str]]) -> str | None:
    """The choice one of whose phrases the text is, or holds as whole words; the longest phrase wins.

    None when nothing matches, or when two choices match equally well.
    """
    said = folded(text)
    if not said.strip():
        return None
    found: dict[int, set[str]] = {}
    for choice, phrases in choices.items():
        for phrase in phrases:
            wanted = folded(phrase)
            if wanted.strip() and wanted in said:
                found.setdefault(len(wanted) + (READ_CHARS if wanted == said else 0), set()).add(choice)
    best = found[max(found)] if found else set()
    return best.pop() if len(best) == 1 else None


def wants_person(text: str, languages: Iterable[str], more: Iterable[str] = ()) -> bool:
    """Whether the text asks for a person, in one of the languages; `more` are the tree's own words for it."""
    said = folded(text)
    alone = f" {' '.join(w for w in said.split() if w not in POLITE)} "
    phrases = [*more]
    for language in languages:
        phrases += ANYWHERE_IN_A_TEXT.get(language, ())
        if any(folded(w) == alone for w in ALONE.get(language, ())):
            return True
    return any(wanted.strip() and wanted in said for wanted in map(folded, phrases))


def numbers(text: str, node: CollectNode) -> list[str]:
    """What in the text may be the number asked for, most likely first: all of it, digits, digits in groups, words."""
    text = text[:READ_CHARS].strip()
    whole = "".join(c for c in text if c.isalnum())
    found = [whole] if whole.isdigit() or node.pattern is not None else []
    runs = ["".join(c for c in run if c.isdigit()) for run in NUMBER.findall(text)]
    found += sorted(runs, key=len, reverse=True)
    for token in TOKEN.findall(text):
        if token.isdigit() or node.pattern is not None:
            found += [token, token.upper()]
    return [n for n in dict.fromkeys(found) if n.isascii()]
