"""How a Say reads: messages for a channel, with buttons or a numbered list, cut to what it takes, never empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from ivr.events import Choice, Say, Spoken
from ivr.voice import duration
from routing.channel import MAIL, Manifest

Texts = Mapping[str, Mapping[str, str]]
"""Recording -> language -> its words in writing. A recording without them is left out: no file name is ever sent."""
DISCLOSURE = {
    "fr": "Je suis {bot}, un assistant automatique.",
    "en": "I am {bot}, an automated assistant.",
}
MAIL_DISCLOSURE = {
    "fr": "Réponse automatique de {bot}.",
    "en": "Automatic reply from {bot}.",
}
CHARS = 4_000  # longest message where a channel names no limit: that of one text of a tree
DAYS = {
    "fr": ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
MONTHS = {
    "fr": (
        "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre",
        "décembre",
    ),
    "en": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    text: str
    buttons: tuple[tuple[str, str], ...] = ()  # (title, payload)


def in_writing(texts: Texts) -> dict[str, frozenset[str]]:
    """Recording -> languages in which it can be written, as `ivr.tree.Context.texts` wants it.

    One that is never written (`written: false`) lacks none.
    """
    languages = frozenset(x for words in texts.values() for x in words)
    return {name: frozenset(words) or languages for name, words in texts.items()}


def written(say: Say, texts: Texts) -> str:
    """The words of a Say."""
    return " ".join(t for t in (_part(p, say.language, texts) for p in say.parts) if t)


def _part(part: Spoken, language: str, texts: Texts) -> str:
    match part.kind:
        case "digits" | "number":
            return part.value
        case "duration":
            return duration(int(part.value or 0), language)
        case _:
            return part.text.strip() or texts.get(part.name, {}).get(language, "").strip()


def disclosure(bot: str, languages: Sequence[str], seat: str) -> str:
    """Says that a machine writes, in each of the languages."""
    said = MAIL_DISCLOSURE if seat == MAIL else DISCLOSURE
    return " ".join(said[x].format(bot=bot) for x in dict.fromkeys(languages) if x in said) or said[
        "en"
    ].format(bot=bot)


def render(
    says: Sequence[Say],
    choices: Sequence[Choice],
    manifest: Manifest,
    texts: Texts,
    *,
    disclose: str = "",
) -> list[Message]:
    """What one turn of a walk sends: one message, or as many as the channel's limit makes of it.

    Buttons stand under the last one where the channel has enough of them, else a numbered list at its end.
    `disclose` goes before all, unless one of the `says` discloses.
    """
    paragraphs = [t for t in (written(s, texts) for s in says) if t]
    if not paragraphs:
        return []
    if disclose and not any(s.discloses for s in says):
        paragraphs.insert(0, disclose)
    buttons: tuple[tuple[str, str], ...] = ()
    if choices and len(choices) <= manifest.quick_replies:
        buttons = tuple((_short(c.title, manifest.quick_reply_chars), c.payload) for c in choices)
    elif choices:
        paragraphs.append("\n".join(f"{c.key}. {c.title}" for c in choices))
    pieces = cut("\n\n".join(paragraphs), manifest.text_chars or CHARS, manifest.text_bytes)
    return [Message(p) for p in pieces[:-1]] + [Message(pieces[-1], buttons)]


def _short(title: str, chars: int) -> str:
    return title if len(title) <= chars else title[: chars - 1].rstrip() + "…"


def cut(text: str, chars: int, octets: int | None = None) -> list[str]:
    """Pieces that each have at most so many characters (and bytes of UTF-8), parted where a reader would pause."""
    pieces, rest = [], text.strip()
    while rest:
        most = _fitting(rest, chars, octets)
        if most < len(rest):
            window = rest[:most]
            for mark in ("\n\n", "\n", ". ", "? ", "! ", " "):
                at = window.rfind(mark)
                if at > most // 3:
                    most = at + (1 if mark[0] in ".?!" else 0)
                    break
        pieces.append(rest[:most].rstrip())
        rest = rest[most:].lstrip()
    return [p for p in pieces if p]


def _fitting(text: str, chars: int, octets: int | None) -> int:
    most = min(len(text), max(1, chars))
    if octets is not None:
        most = min(most, len(text.encode()[:octets].decode(errors="ignore")))
    return max(1, most)


def moment(at: float, now: float, time_zone: str, language: str) -> str:
    """A time to come, as people say it: «demain à 8 h», «lundi à 8 h 30», "on Monday at 8:30"."""
    zone = ZoneInfo(time_zone)
    then, today = datetime.fromtimestamp(at, zone), datetime.fromtimestamp(now, zone)
    days = (then.date() - today.date()).days
    if language == "fr":
        clock = f"{then.hour} h {then.minute:02}" if then.minute else f"{then.hour} h"
        date = f"le {then.day} {MONTHS['fr'][then.month - 1]}"
        day = {0: "aujourd'hui", 1: "demain"}.get(days, DAYS["fr"][then.weekday()] if days < 7 else date)
        return f"{day} à {clock}"
    clock = f"{then.hour}:{then.minute:02}"
    date = f"on {then.day} {MONTHS['en'][then.month - 1]}"
    day = {0: "today", 1: "tomorrow"}.get(days, "on " + DAYS["en"][then.weekday()] if days < 7 else date)
    return f"{day} at {clock}"
