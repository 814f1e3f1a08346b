"""The site file: the YAML in which admins write a whole hotline, to and from `routing.site.Site`.

`check` and `check_text` find every mistake at once, each with its line and cure; a Site comes only without any.
`export` writes a Site so that reading it gives the same Site again. Comments are not kept.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import holidays
import phonenumbers
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from config import document
from config.account import wrong_settings, wrong_signatures
from config.document import Document
from config.mistakes import Mistake
from ivr import tree
from ivr.expressions import BadExpression, pattern, template
from ivr.text import in_writing
from routing.channels import CHANNELS as KNOWN
from routing.site import (
    Account,
    Advisor,
    Hours,
    Need,
    Number,
    Queue,
    ReplyTemplate,
    Site,
    Target,
    Trunk,
    WrapupCode,
)

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FRENCH_DAYS = ("lun", "mar", "mer", "jeu", "ven", "sam", "dim")
POP_PLACES = ("e164", "call", "case", "contact", "interaction", "queue")

_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)\s*(d|h|min|m|s)")
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_SPAN = re.compile(r"((?:[01][0-9]|2[0-3]):[0-5][0-9])\s*[-–]\s*((?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)")
_NEED = re.compile(r"([a-z0-9][a-z0-9_.-]{0,39})\s*(?:>=|≥)\s*([1-5])|([a-z0-9][a-z0-9_.-]{0,39})")
_TARGET = re.compile(r"([0-9.eE-]+)\s*%\s*(?:in|en)\s*(.+)")
_DIALLED = re.compile(r"\+?[0-9*#]{1,20}|[A-Za-z][A-Za-z0-9_.-]{0,39}")
_E164 = re.compile(r"\+[1-9][0-9]{4,14}")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(;transport=(udp|tcp))?")
_SECRET = re.compile(
    r"pass(word|wd|phrase)?|.*_(password|passwd|secret|token)|mot_?de_?passe|secrets?|ha1|token|api_?key|pin"
)
_SECONDS = {"d": 86_400, "h": 3600, "min": 60, "m": 60, "s": 1}


def _wrong(code: str, got: object, **args: object) -> PydanticCustomError:
    return PydanticCustomError("mistake", "{code}", {"code": code, "args": {"got": got, **args}})


def _text(value: object) -> object:
    """Numbers where words are expected are taken as written: `phone: 101`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _bool(value: object) -> object:
    return {"oui": True, "non": False}.get(value, value) if isinstance(value, str) else value


def _id(value: object) -> str:
    value = _text(value)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise _wrong("id", f"«{value}»")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or value is None:
        raise _wrong("duration", f"«{value}»")
    if isinstance(value, int | float):
        return float(value)
    total, end = Decimal(0), 0
    text = str(value).strip()
    try:
        for part in _DURATION.finditer(text):
            if text[end : part.start()].strip():
                raise InvalidOperation
            total += Decimal(part[1]) * _SECONDS[part[2]]
            end = part.end()
    except InvalidOperation:
        end = 0
    if end == 0 or text[end:].strip() or total > 10**9:
        raise _wrong("duration", f"«{text}»")
    return float(total)


def _hours(value: object) -> float:
    if isinstance(value, str) and (part := _DURATION.fullmatch(value.strip())) and part[2] in "dh":
        try:
            return float(Decimal(part[1]) * (24 if part[2] == "d" else 1))
        except InvalidOperation:
            raise _wrong("duration", f"«{value}»") from None
    return _seconds(value) / 3600


def _by(expression: re.Pattern[str], code: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        value = _text(value)
        if not isinstance(value, str) or not expression.fullmatch(value):
            raise _wrong(code, f"«{value}»")
        return value

    return read


def _spans(value: object) -> tuple[str, ...]:
    if value in ("closed", "fermé", None):
        return ()
    read: list[tuple[str, str]] = []
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str) or not (span := _SPAN.fullmatch(text.strip())) or span[1] >= span[2]:
            raise _wrong("hours_range", f"«{text}»")
        for start, end in read:
            if span[1] < end and start < span[2]:
                raise _wrong("hours_overlap", f"{span[1]}-{span[2]}", first=f"{start}-{end}")
        read.append((span[1], span[2]))
    return tuple(f"{start}-{end}" for start, end in read)


def _day(text: str) -> int:
    for names in (DAYS, FRENCH_DAYS):
        if text[:3].lower() in names and len(text) <= 9:
            return names.index(text[:3].lower())
    raise _wrong("weekday", f"«{text}»")


def _days(key: str) -> range:
    first, dash, last = key.partition("-")
    start = _day(first.strip())
    end = _day(last.strip()) if dash else start
    if end < start:
        raise _wrong("weekday", f"«{key}»")
    return range(start, end + 1)


def _week(value: object) -> object:
    if not isinstance(value, dict):
        return value
    week: dict[int, Any] = {}
    for key, spans in value.items():
        for day in _days(key):
            if day in week:
                raise _wrong("weekday_twice", DAYS[day])
            week[day] = spans
    return week


def _date(value: object) -> str:
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise _wrong("date", f"«{value}»") from None


def _need(value: object) -> Need:
    any_of: list[tuple[str, int]] = []
    for part in str(_text(value)).split("|"):
        if not (need := _NEED.fullmatch(part.strip())):
            raise _wrong("need", f"«{value}»")
        any_of.append((need[1] or need[3], int(need[2] or 1)))
    return Need(tuple(any_of))


def _target(value: object) -> Target:
    if (
        isinstance(value, str)
        and (read := _TARGET.fullmatch(value.strip()))
        and 0 < (share := Decimal(read[1])) <= 100
    ):
        return Target(float(share / 100), _seconds(read[2]))
    raise _wrong("target", f"«{value}»")


def _network(value: object) -> str:
    try:
        network = ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        raise _wrong("network", f"«{value}»") from None
    if network.prefixlen == 0:
        raise _wrong("network_open", f"«{value}»")
    return str(value)


def _re2(value: object) -> str:
    text = str(_text(value))
    try:
        pattern(text)
    except BadExpression as error:
        raise _wrong("pattern", f"«{text}»", reason=str(error)) from None
    return text


def _liquid(value: object) -> str:
    try:
        template(str(value))
    except BadExpression as error:
        raise _wrong("template", "", reason=str(error).splitlines()[0]) from None
    return str(value)


def _pop_url(value: object) -> str:
    text = str(value)
    places = set(re.findall(r"\{([^{}]*)\}", text))
    parts = urlsplit(text)
    if (
        parts.scheme not in ("https", "http")
        or not parts.hostname
        or parts.password
        or places - set(POP_PLACES)
    ):
        raise _wrong("url", f"«{text}»", expected=POP_PLACES)
    return text


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _time_zone(value: object) -> str:
    zones = _zones()
    if value not in zones:
        near = difflib.get_close_matches(str(value), zones, n=1)
        raise _wrong("time_zone", f"«{value}»", near=near[0] if near else "Europe/Paris")
    return str(value)


def _country(value: object) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise _wrong("country", f"«{value}»")
    return str(value)


def _holidays(value: object) -> str:
    if value not in holidays.list_supported_countries():
        raise _wrong("country", f"«{value}»")
    return str(value)


def _no_number(value: object) -> object:
    return {"tree": value} if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text), Field(max_length=2000)]
Bool = Annotated[bool, BeforeValidator(_bool)]
Id = Annotated[str, BeforeValidator(_id)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
TimeOfDay = Annotated[str, BeforeValidator(_by(_TIME, "time"))]
Spans = Annotated[tuple[str, ...], BeforeValidator(_spans)]
Date = Annotated[str, BeforeValidator(_date)]
Level = Annotated[int, Field(ge=1, le=5)]
Channel = Literal["voice", "chat", "mail"]
E164 = Annotated[str, BeforeValidator(_by(_E164, "e164"))]
Re2 = Annotated[str, BeforeValidator(_re2)]
Words = dict[Id, Text]
SEATS: dict[Channel, int] = {"voice": 1, "chat": 3, "mail": 5}


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class OrganisationEntry(_Entry):
    id: Id
    name: Text
    time_zone: Annotated[str, BeforeValidator(_time_zone)] = "Europe/Paris"
    country: Annotated[str, BeforeValidator(_country)] = "FR"
    languages: Annotated[tuple[Id, ...], Field(min_length=1)] = ("fr", "en")
    pop_url: Annotated[str, BeforeValidator(_pop_url)] | None = None
    reopen_within: Annotated[float, BeforeValidator(_hours), Field(ge=0)] = 96.0
    recording_notice: Text = "recording"
    record_outgoing: Bool = False
    vip_priority: Annotated[int, Field(ge=0, le=1000)] = 10
    weights: dict[Channel, Annotated[float, Field(ge=0, le=100)]] = Field(default_factory=dict)
    conversation_gap: Annotated[float, BeforeValidator(_hours), Field(gt=0)] = 96.0
    holding_message: Words = Field(default_factory=dict)


class HoursEntry(_Entry):
    week: Annotated[dict[int, Spans], BeforeValidator(_week)]
    holidays: Annotated[str, BeforeValidator(_holidays)] | None = None
    closings: tuple[Date, ...] = ()
    openings: dict[Date, Spans] = Field(default_factory=dict)


class QueueEntry(_Entry):
    name: Text
    needs: tuple[Annotated[Need, BeforeValidator(_need)], ...] = ()
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    ageing_per_minute: Annotated[float, Field(ge=0, le=1000)] = 1.0
    hours: Id | None = None
    at_closing: Literal["serve", "announce"] = "serve"
    prefer: Literal["longest_idle", "skill"] = "longest_idle"
    targets: dict[Channel, Annotated[Target, BeforeValidator(_target)]] = Field(default_factory=dict)
    offer: dict[Channel, Annotated[Seconds, Field(ge=1)]] = Field(default_factory=dict)
    related_hold: dict[Channel, Seconds] = Field(default_factory=dict)
    wrapup_max: Seconds = 60.0
    wrapup_extension: Seconds = 60.0
    wrapup_codes: tuple[Id, ...] = ()
    pop: Literal["ring", "answer", "end", "button", "never"] = "ring"
    music: Text = "music.wav"
    announce_every: Annotated[Seconds, Field(ge=5)] = 30.0
    announce_place: Bool = True
    leave_key: Annotated[str, BeforeValidator(_by(re.compile(r"[0-9*#]"), "digit"))] | None = None
    max_waiting: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    overflow_after: Seconds | None = None
    overflow_to: Id | None = None
    record: Bool = True
    after_misses: Annotated[int, Field(ge=1, le=100)] = 3


class AdvisorEntry(_Entry):
    first_name: Text
    last_name: Text
    roles: Annotated[tuple[Literal["advisor", "supervisor", "admin"], ...], Field(min_length=1)] = (
        "advisor",
    )
    skills: dict[Id, Level] = Field(default_factory=dict)
    seats: dict[Channel, Annotated[int, Field(ge=0, le=100)]] = Field(default_factory=lambda: SEATS.copy())
    queues: tuple[Id, ...] | None = None
    language: Id = "fr"
    phone: Id | None = None
    shift_ends: TimeOfDay | None = None


class TrunkEntry(_Entry):
    hosts: Annotated[tuple[Annotated[str, BeforeValidator(_network)], ...], Field(min_length=1)]
    target: Annotated[str, BeforeValidator(_by(_ADDRESS, "target_address"))] | None = None
    allow: tuple[Re2, ...] = ()
    deny: tuple[Re2, ...] = ()
    caller_id: E164 | None = None
    max_calls: Annotated[int, Field(ge=1, le=100_000)] = 100


class NumberEntry(_Entry):
    tree: Id
    label: Text = ""


class AccountEntry(_Entry):
    channel: Id
    name: Text | None = None
    tree: Id | None = None
    queue: Id | None = None
    hook: Id | None = None
    settings: dict[Id, Text] = Field(default_factory=dict)
    signature: dict[Id, Annotated[str, BeforeValidator(_liquid)]] = Field(default_factory=dict)
    bot_name: Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=50)] = "Bot"


class WrapupCodeEntry(_Entry):
    labels: Words
    solves: Bool = False


class ReplyTemplateEntry(_Entry):
    title: Text
    bodies: dict[Id, Annotated[str, BeforeValidator(_liquid)]]
    shortcut: Annotated[str, BeforeValidator(_text), Field(max_length=40)] = ""
    queues: tuple[Id, ...] = ()


# section -> the entry behind each id
SECTIONS: Mapping[str, Any] = {
    "hours": HoursEntry,
    "queues": QueueEntry,
    "advisors": AdvisorEntry,
    "trunks": TrunkEntry,
    "numbers": NumberEntry,
    "channels": AccountEntry,
    "wrapup_codes": WrapupCodeEntry,
    "reply_templates": ReplyTemplateEntry,
}
LISTS: Mapping[str, tuple[str, ...]] = {
    "skills": (),
    "pause_reasons": ("lunch", "break", "training"),
    "tags": (),
    "archive_reasons": ("spam", "duplicate", "no_answer_needed"),
}
KEYS = ("organisation", *LISTS, *SECTIONS, "trees")
TREE_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Checked:
    """What came out: a Site, or the mistakes in the order of the file. Warnings forbid nothing."""

    site: Site | None
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...] = ()

    def sentences(self, language: str = "en") -> list[str]:
        return [mistake.say(language) for mistake in self.mistakes]


class OutOfPlace(Exception):
    """A tree's path leads to where no tree files are."""


def _below(folder: Path, name: str) -> bool:
    """Whether that path leads, links followed, to a YAML file at or below `folder`. It need not exist."""
    try:
        found = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, a NUL
        return False
    yaml = Path(name).suffix in TREE_SUFFIXES and found.suffix in TREE_SUFFIXES
    return yaml and not Path(name).is_absolute() and found.is_relative_to(folder.resolve())


# a path from the site file -> (name for people, text); raises OSError, OutOfPlace
ReadTree = Callable[[str], tuple[str, str]]
Sounds = Mapping[str, frozenset[str]]  # a recording's name -> the languages it exists in


def shipped_sounds(folder: Path | None = None) -> Sounds:
    """The recordings that come with Monofil, as `config/sounds/LANGUAGE/NAME.wav`."""
    found: dict[str, set[str]] = {}
    for file in (folder or Path(__file__).parent / "sounds").glob("*/*.wav"):
        found.setdefault(file.stem, set()).add(file.parent.name)
    return {name: frozenset(languages) for name, languages in found.items()}


@cache
def shipped_texts() -> dict[str, dict[str, str]]:
    """The words in writing of the recordings that come with Monofil."""
    from ivr.aio.text import (
        read_texts,  # brings the whole runner, which a check of a file otherwise needs not
    )

    return read_texts([Path(__file__).parent / "sounds"])


def check(path: Path, sounds: Sounds | None = None) -> Checked:
    """Read a site file and the tree files it names, from the folder of the site file."""

    def read(name: str) -> tuple[str, str]:
        if not _below(path.parent, name):
            raise OutOfPlace(name)
        file = path.parent / name
        return str(file), file.read_text(encoding="utf-8")

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        return Checked(None, (Mistake(str(path), 0, (), "unreadable", {"got": reason}),))
    return check_text(text, str(path), read, sounds)


def check_text(
    text: str, file: str = "site.yaml", read: ReadTree | None = None, sounds: Sounds | None = None
) -> Checked:
    """Check the words of a site file.

    Without `read` (from the web), trees must stand in the file itself. Without `sounds`, recordings are not checked.
    """
    return _Check(document.read(text, file), read, sounds).result()


E = TypeVar("E", bound=_Entry)


class _Check:
    def __init__(self, doc: Document, read: ReadTree | None, sounds: Sounds | None) -> None:
        self.doc = doc
        self.read = read
        self.sounds = sounds
        self.data: dict[str, Any] = {}
        self.trees: dict[str, Any] = {}
        self.tree_documents: dict[str, tuple[Document, document.Path]] = {}

    def result(self) -> Checked:
        site: Site | None = None
        if isinstance(self.doc.data, dict):
            self.data = self._without_secrets(self.doc.data)
            site = self._site()
        elif not self.doc.mistakes:
            self.doc.wrong((), "type", expected="mapping", got=_kind(self.doc.data))
        mistakes = [*self.doc.mistakes]
        for doc, _ in self.tree_documents.values():
            if doc is not self.doc:
                mistakes += doc.mistakes
        mistakes.sort(key=lambda m: (m.file != self.doc.file, m.file, m.line))
        wrong = tuple(mistake for mistake in mistakes if not mistake.warning)
        return Checked(None if wrong else site, wrong, tuple(m for m in mistakes if m.warning))

    def _without_secrets(self, data: dict[str, Any]) -> dict[str, Any]:
        def walk(value: Any, path: document.Path) -> Any:
            if isinstance(value, list):
                return [walk(item, (*path, index)) for index, item in enumerate(value)]
            if not isinstance(value, dict):
                return value
            kept = {}
            for key, item in value.items():
                if _SECRET.fullmatch(key.lower()) and path[:1] not in (
                    ("skills",),
                    ("trees",),
                    ("wrapup_codes",),
                ):
                    if path[:1] == ("channels",) and len(path) > 1:
                        self.doc.wrong((*path, key), "account_secret", got=key, account=path[1])
                    else:
                        self.doc.wrong((*path, key), "secret", got=key)
                else:
                    kept[key] = walk(item, (*path, key))
            return kept

        walked = walk({key: value for key, value in data.items() if key != "trees"}, ())
        if "trees" in data:
            walked["trees"] = data["trees"]
        return dict(walked)

    def _entry(self, kind: type[E], value: Any, path: document.Path) -> E | None:
        if not isinstance(value, dict):
            self.doc.wrong(path, "type", expected="mapping", got=_kind(value))
            return None
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            self._tell(error, path, kind)
            return None

    def _tell(self, error: ValidationError, path: document.Path, kind: type[BaseModel] | None) -> None:
        details = error.errors()
        for detail in details:
            if detail["type"] == "too_short" and any(
                _inside(other["loc"], detail["loc"]) for other in details
            ):
                continue  # its entries are wrong, not too few: they are told
            here = (*path, *(step for step in detail["loc"] if step != "[key]"))
            code, context = detail["type"], detail.get("ctx", {})
            got = detail["input"]
            if kind is HoursEntry and here[2:3] == ("week",) and len(here) > 3:
                if not (key := self._week_key(here[1], here[3])):
                    continue  # told at the first day of its span
                here = (*here[:3], key)
            if code == "mistake":
                self.doc.wrong(here, context["code"], **context["args"])
            elif code == "extra_forbidden":
                known = tuple(kind.model_fields) if kind else ()
                self._unknown(here, str(here[-1]), known)
            elif code == "missing":
                self.doc.wrong(here, "missing", got=here[-1])
            elif code == "literal_error":
                choices = tuple(re.findall(r"'([^']*)'", str(context["expected"])))
                near = _near(str(got), choices)
                self.doc.wrong(here, "choice", got=f"«{got}»", expected=choices, near=near)
            elif bound := _bound(context):
                self.doc.wrong(here, "range", got=f"«{got}»", expected=bound)
            else:
                self.doc.wrong(here, "type", expected=_expected(code), got=_kind(got))

    def _week_key(self, name: str | int, day: str | int) -> str | None:
        """The key as written, like `mon-fri`, whose span begins with `day`."""
        week = self.data["hours"][name]["week"]
        return next((key for key in week if _days(key)[0] == day), None)

    def _unknown(self, path: document.Path, got: str, known: tuple[str, ...]) -> None:
        self.doc.wrong(path, "unknown_key", got=got, expected=known, near=_near(got, known))

    def _section(self, name: str) -> dict[str, Any]:
        """The entries of a section that are right in themselves, by id."""
        raw = self.data.get(name)
        if raw is None:
            return {}
        if not isinstance(raw, dict):
            self.doc.wrong((name,), "type", expected="mapping", got=_kind(raw))
            return {}
        entries: dict[str, Any] = {}
        for key, value in raw.items():
            if name == "numbers":
                value = _no_number(value)
                if not _DIALLED.fullmatch(key):
                    self.doc.wrong((name, key), "number", got=f"«{key}»")
            elif not _ID.fullmatch(key):
                self.doc.wrong((name, key), "id", got=f"«{key}»")
            if (entry := self._entry(SECTIONS[name], value, (name, key))) is not None:
                entries[key] = entry
        return entries

    def _list(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        if name not in self.data:
            return default
        try:
            listed = TypeAdapter(tuple[Id, ...]).validate_python(self.data[name] or ())
        except ValidationError as error:
            self._tell(error, (name,), None)
            return ()
        for index, word in enumerate(listed):
            if word in listed[:index]:
                first = self.doc.line((name, listed.index(word)))
                self.doc.wrong((name, index), "twice", got=word, first=first)
        return listed

    def _site(self) -> Site | None:
        for key in self.data:
            if key not in KEYS:
                self._unknown((key,), key, KEYS)
        if "organisation" not in self.data:
            self.doc.wrong((), "missing", got="organisation")
        organisation = (
            self._entry(OrganisationEntry, self.data["organisation"], ("organisation",))
            if "organisation" in self.data
            else None
        )
        lists = {name: self._list(name, default) for name, default in LISTS.items()}
        entries = {name: self._section(name) for name in SECTIONS}
        self._read_trees()
        self._references(organisation, lists["skills"], entries)
        self._check_trees(entries)
        if organisation is None:
            return None
        return _assemble(organisation, lists, entries, self.trees)

    # -- what must exist --

    def _names(self, section: str) -> tuple[str, ...]:
        """Everything declared in a section, be it right or not: a wrong entry is told once, not at each use."""
        raw = self.data.get(section)
        return tuple(map(str, raw)) if isinstance(raw, dict | list) else ()

    def _must_be(self, path: document.Path, kind: str, got: str | None, known: tuple[str, ...]) -> None:
        if got is not None and got not in known:
            self.doc.wrong(path, "reference", kind=kind, got=got, expected=known[:20], near=_near(got, known))

    def _references(
        self,
        organisation: OrganisationEntry | None,
        skills: tuple[str, ...],
        entries: Mapping[str, Mapping[str, Any]],
    ) -> None:
        queues, codes, trees = self._names("queues"), self._names("wrapup_codes"), self._names("trees")
        languages = organisation.languages if organisation else ()
        queue: QueueEntry
        for name, queue in entries["queues"].items():
            path = ("queues", name)
            self._must_be((*path, "hours"), "hours", queue.hours, self._names("hours"))
            self._must_be((*path, "overflow_to"), "queue", queue.overflow_to, queues)
            for index, need in enumerate(queue.needs):
                for skill, _level in need.any_of:
                    self._must_be((*path, "needs", index), "skill", skill, self._names("skills"))
            for index, code in enumerate(queue.wrapup_codes):
                self._must_be((*path, "wrapup_codes", index), "wrapup code", code, codes)
            if (queue.overflow_after is None) != (queue.overflow_to is None):
                key = "overflow_to" if queue.overflow_to else "overflow_after"
                self.doc.wrong((*path, key), "overflow_half", got=key)
            self._overflow(name, entries["queues"])
        if organisation and self.sounds is not None:
            notice = ("organisation", "recording_notice")
            self._must_be(notice, "sound", organisation.recording_notice, tuple(self.sounds))
        phones: dict[str, str] = {}
        advisor: AdvisorEntry
        for name, advisor in entries["advisors"].items():
            path = ("advisors", name)
            for skill in advisor.skills:
                self._must_be((*path, "skills", skill), "skill", skill, self._names("skills"))
            for index, wanted in enumerate(advisor.queues or ()):
                self._must_be((*path, "queues", index), "queue", wanted, queues)
            if languages and advisor.language not in languages:
                self.doc.wrong(
                    (*path, "language"), "language", got=f"«{advisor.language}»", expected=languages
                )
            if advisor.phone is not None:
                if advisor.phone in phones:
                    first = phones[advisor.phone]
                    self.doc.wrong((*path, "phone"), "phone_twice", got=advisor.phone, first=first)
                if advisor.phone in self._names("numbers"):
                    self.doc.wrong((*path, "phone"), "phone_is_number", got=advisor.phone)
                phones.setdefault(advisor.phone, name)
        number: NumberEntry
        for name, number in entries["numbers"].items():
            self._must_be(("numbers", name, "tree"), "tree", number.tree, trees)
        account: AccountEntry
        identities: dict[tuple[str, str], str] = {}
        for name, account in entries["channels"].items():
            self._account(("channels", name), account)
            self._identity(name, account, identities)
            self._hook(name, account, entries["channels"])
            self._must_be(("channels", name, "tree"), "tree", account.tree, trees)
            self._must_be(("channels", name, "queue"), "queue", account.queue, queues)
        reply: ReplyTemplateEntry
        for name, reply in entries["reply_templates"].items():
            for index, wanted in enumerate(reply.queues):
                self._must_be(("reply_templates", name, "queues", index), "queue", wanted, queues)
        for section, field in (("wrapup_codes", "labels"), ("reply_templates", "bodies")):
            for name, entry in entries[section].items():
                self._spoken((section, name, field), getattr(entry, field), languages)

    def _account(self, path: document.Path, account: AccountEntry) -> None:
        """What its channel asks for, and nothing else."""
        channel = KNOWN.get(account.channel)
        if channel is None:
            written = tuple(name for name, known in KNOWN.items() if known.MANIFEST.seat != "voice")
            self._must_be((*path, "channel"), "channel", account.channel, written)
            return
        manifest = channel.MANIFEST
        for key in manifest.settings:
            if key not in account.settings:
                self.doc.wrong((*path, "settings"), "missing", got=key)
        for key in account.settings:
            if key not in (*manifest.settings, *manifest.optional):
                self._unknown((*path, "settings", key), key, (*manifest.settings, *manifest.optional))
        for place, code, args in (
            *wrong_settings(manifest, account.settings, self._names("hours")),
            *wrong_signatures(manifest, account.signature),
        ):
            self.doc.wrong((*path, *place), code, **args)
        if account.name is not None and not account.name.strip():
            self.doc.wrong((*path, "name"), "blank", got="name")
        if account.tree is None and account.queue is None:
            self.doc.wrong(path, "account_nowhere", got=path[-1])

    def _identity(self, name: str, account: AccountEntry, known: dict[tuple[str, str], str]) -> None:
        """No other account of its channel is the same page or the same mailbox. `known` gains this one."""
        channel = KNOWN.get(account.channel)
        key = channel.MANIFEST.identity if channel is not None else None
        if key is None or not (value := account.settings.get(key, "").strip().lower()):
            return
        first = known.setdefault((account.channel, value), name)
        if first != name:
            path = ("channels", name, "settings", key)
            self.doc.wrong(path, "account_twice", got=account.settings[key], first=first)

    def _hook(self, name: str, account: AccountEntry, accounts: Mapping[str, AccountEntry]) -> None:
        """Another account of its channel, with a callback of its own, may take its requests."""
        channel = KNOWN.get(account.channel)
        if account.hook is None or channel is None:
            return
        path = ("channels", name, "hook")
        if not channel.MANIFEST.hook_secrets:
            self.doc.wrong(path, "hook", got=account.channel)
            return
        others = tuple(
            other
            for other, entry in accounts.items()
            if other != name and entry.channel == account.channel and entry.hook is None
        )
        self._must_be(path, "account", account.hook, others)

    def _overflow(self, name: str, queues: Mapping[str, QueueEntry]) -> None:
        seen, at = {name}, queues[name].overflow_to
        while at is not None and at in queues:
            if at == name:
                self.doc.wrong(("queues", name, "overflow_to"), "overflow_self", got=name)
            if at in seen:
                return
            seen.add(at)
            at = queues[at].overflow_to

    def _spoken(self, path: document.Path, words: Mapping[str, str], languages: tuple[str, ...]) -> None:
        for language in words:
            if languages and language not in languages:
                self.doc.wrong((*path, language), "language", got=f"«{language}»", expected=languages)
        for language in languages:
            if language not in words:
                self.doc.wrong(path, "language_missing", got=language, expected=languages)

    # -- trees --

    def _read_trees(self) -> None:
        raw = self.data.get("trees")
        if raw is None:
            return
        if not isinstance(raw, dict):
            self.doc.wrong(("trees",), "type", expected="mapping", got=_kind(raw))
            return
        for name, value in raw.items():
            path = ("trees", name)
            if not _ID.fullmatch(name):
                self.doc.wrong(path, "id", got=f"«{name}»")
            if isinstance(value, dict):
                self.trees[name] = value
                self.tree_documents[name] = (self.doc, path)
            elif isinstance(value, str):
                self._read_tree_file(name, value, path)
            else:
                self.doc.wrong(path, "type", expected="mapping", got=_kind(value))

    def _read_tree_file(self, name: str, value: str, path: document.Path) -> None:
        if self.read is None:
            self.doc.wrong(
                path, "tree_file", got=f"«{value}»", reason="trees must stand in the text itself here"
            )
            return
        try:
            shown, text = self.read(value)
        except OutOfPlace:
            self.doc.wrong(path, "tree_place", got=f"«{value}»")
            return
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            self.doc.wrong(path, "tree_file", got=f"«{value}»", reason=reason)
            return
        doc = document.read(text, shown)
        self.tree_documents[name] = (doc, ())
        if isinstance(doc.data, dict):
            self.trees[name] = doc.data
        elif not doc.mistakes:
            doc.wrong((), "type", expected="mapping", got=_kind(doc.data))

    def _check_trees(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """The trees' own mistakes, told by `ivr.tree.check`."""
        advisors: Mapping[str, AdvisorEntry] = entries["advisors"]
        queues: Mapping[str, QueueEntry] = entries["queues"]
        context = tree.Context(
            queues=frozenset(self._names("queues")),
            hours=frozenset(self._names("hours")),
            skills=frozenset(self._names("skills")),
            phones=frozenset(a.phone for a in advisors.values() if a.phone),
            trunks=frozenset(self._names("trunks")),
            prompts=self.sounds,
            texts=in_writing(shipped_texts()) if self.sounds is not None else None,
            trees=self.trees,
            leave_keys={name: queue.leave_key for name, queue in queues.items()},
        )
        for name, tree_document in self.trees.items():
            doc, base = self.tree_documents[name]
            if tree_document.get("tree", name) != name:
                doc.wrong((*base, "tree"), "tree_id", got=f"«{tree_document['tree']}»", expected=name)

            def where(path: document.Path, doc: Document = doc, base: document.Path = base) -> int:
                return doc.line((*base, *(step if isinstance(step, int) else str(step) for step in path)))

            for found in tree.check(tree_document, context, where):
                path = (*base, *(step for step in found.path.split(".") if step))
                args = {"reason": found.what, "cure": found.cure}
                doc.mistakes.append(Mistake(doc.file, found.line or 1, path, "tree", args, found.warning))
        self._seats_of_trees(entries["channels"])

    def _seats_of_trees(self, accounts: Mapping[str, AccountEntry]) -> None:
        """A tree behind an account says that it is made for the account's kind of channel."""
        for name, account in accounts.items():
            channel, found = KNOWN.get(account.channel), self.trees.get(account.tree or "")
            if channel is None or found is None:
                continue
            seat, made_for = channel.MANIFEST.seat, found.get("channels", ["voice"])
            if isinstance(made_for, list) and seat not in made_for:
                reason = f"the tree {account.tree} is not made for {seat}"
                cure = f"add {seat} to its `channels`"
                self.doc.wrong(("channels", name, "tree"), "tree", reason=reason, cure=cure)


def _assemble(
    organisation: OrganisationEntry,
    lists: Mapping[str, tuple[str, ...]],
    entries: Mapping[str, Mapping[str, Any]],
    trees: Mapping[str, Any],
) -> Site:
    return Site(
        organisation=organisation.id,
        name=organisation.name,
        time_zone=organisation.time_zone,
        languages=organisation.languages,
        country=organisation.country,
        hours=tuple(Hours(id=key, **dict(entry)) for key, entry in entries["hours"].items()),
        skills=lists["skills"],
        queues=tuple(_queue(key, entry) for key, entry in entries["queues"].items()),
        advisors=tuple(Advisor(id=key, **dict(entry)) for key, entry in entries["advisors"].items()),
        trunks=tuple(Trunk(id=key, **dict(entry)) for key, entry in entries["trunks"].items()),
        numbers=tuple(Number(number=key, **dict(entry)) for key, entry in entries["numbers"].items()),
        accounts=tuple(
            Account(id=key, **(dict(entry) | {"name": entry.name or ""}))
            for key, entry in entries["channels"].items()
        ),
        wrapup_codes=tuple(
            WrapupCode(id=key, **dict(entry)) for key, entry in entries["wrapup_codes"].items()
        ),
        pause_reasons=lists["pause_reasons"],
        reply_templates=tuple(
            ReplyTemplate(id=key, **dict(entry)) for key, entry in entries["reply_templates"].items()
        ),
        trees=dict(trees),
        pop_url=organisation.pop_url,
        reopen_within_h=organisation.reopen_within,
        recording_notice=organisation.recording_notice,
        record_outgoing=organisation.record_outgoing,
        vip_priority=organisation.vip_priority,
        tags=lists["tags"],
        archive_reasons=lists["archive_reasons"],
        weights=dict[str, float](organisation.weights.items()),
        conversation_gap_h=organisation.conversation_gap,
        holding_message=organisation.holding_message,
    )


# the file says `wrapup_max: 60s`, the Site `wrapup_max_s=60.0`
_IN_SECONDS = tuple(f.name.removesuffix("_s") for f in fields(Queue) if f.name.endswith("_s"))


def _queue(key: str, entry: QueueEntry) -> Queue:
    values = {(f"{name}_s" if name in _IN_SECONDS else name): value for name, value in dict(entry).items()}
    for name in ("offer_s", "related_hold_s"):  # the channels that are not named keep their defaults
        values[name] = {**_default(Queue, name), **values[name]}
    return Queue(id=key, **values)


def _default(kind: Any, name: str) -> Any:
    for field in fields(kind):
        if field.name == name:
            if field.default is not MISSING:
                return field.default
            if field.default_factory is not MISSING:
                return field.default_factory()
    return MISSING


def _near(got: str, known: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(got.lower(), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def _kind(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "nothing" if value is None else f"«{str(value).lower()}»"
    if isinstance(value, dict):
        return "mapping"
    if isinstance(value, list):
        return "list"
    return f"«{value!s:.60}»"


def _expected(code: str) -> str:
    for start, word in (
        ("int", "whole number"),
        ("float", "number"),
        ("bool", "yes or no"),
        ("tuple", "list"),
        ("list", "list"),
        ("dict", "mapping"),
        ("model", "mapping"),
    ):
        if code.startswith(start):
            return word
    return "text"


def _inside(place: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _bound(context: Mapping[str, Any]) -> str | None:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "≥", "max_length": "≤"}
    for name, sign in signs.items():
        if name in context:
            return f"{sign} {context[name]}"
    return None


def _plain(site: Site) -> dict[str, Any]:
    """The keys and values of the site file; what has its default is left out."""
    organisation: dict[str, Any] = {
        "id": site.organisation,
        "name": site.name,
        "time_zone": site.time_zone,
        "country": site.country,
        "languages": list(site.languages),
        "reopen_within": f"{_number(site.reopen_within_h)}h",
        "recording_notice": site.recording_notice,
        "record_outgoing": site.record_outgoing,
        "vip_priority": site.vip_priority,
    }
    if site.pop_url is not None:
        organisation["pop_url"] = site.pop_url
    if site.weights:
        organisation["weights"] = dict(site.weights)
    if site.conversation_gap_h != _default(Site, "conversation_gap_h"):
        organisation["conversation_gap"] = f"{_number(site.conversation_gap_h)}h"
    if site.holding_message:
        organisation["holding_message"] = dict(site.holding_message)
    return {
        "organisation": organisation,
        "skills": list(site.skills),
        "hours": {hours.id: _hours_out(hours) for hours in site.hours},
        "queues": {queue.id: _queue_out(queue) for queue in site.queues},
        "advisors": {advisor.id: _entry_out(advisor) for advisor in site.advisors},
        "trunks": {trunk.id: _entry_out(trunk) for trunk in site.trunks},
        "numbers": {number.number: _entry_out(number) for number in site.numbers},
        "channels": {account.id: _entry_out(account) for account in site.accounts},
        "wrapup_codes": {code.id: _entry_out(code) for code in site.wrapup_codes},
        "pause_reasons": list(site.pause_reasons),
        "tags": list(site.tags),
        "archive_reasons": list(site.archive_reasons),
        "reply_templates": {reply.id: _entry_out(reply) for reply in site.reply_templates},
        "trees": dict(site.trees),
    }


def export(site: Site) -> str:
    """The site file of `site`, trees included; what has its default is left out. `check_text` gives `site` again."""
    whole = _plain(site)
    out = StringIO()
    writer = YAML(typ="rt", pure=True)
    writer.width = 110
    writer.allow_unicode = True
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.dump(_quoted({key: value for key, value in whole.items() if value or key in LISTS}), out)
    return out.getvalue()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _length_out(seconds: float) -> str:
    """As people say it: 20s, 10min, 24h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{_number(seconds / size)}{unit}"
    return f"{_number(seconds)}s"


def _share_out(share: float) -> str:
    percent = f"{Decimal(repr(share)) * 100:f}"
    return percent.rstrip("0").rstrip(".") if "." in percent else percent


def _hours_out(hours: Hours) -> dict[str, Any]:
    out: dict[str, Any] = {"week": {DAYS[day]: list(spans) for day, spans in hours.week.items()}}
    if hours.holidays is not None:
        out["holidays"] = hours.holidays
    if hours.closings:
        out["closings"] = list(hours.closings)
    if hours.openings:
        out["openings"] = {day: list(spans) for day, spans in hours.openings.items()}
    return out


def _queue_out(queue: Queue) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in _changed(queue):
        if name == "needs":
            out[name] = [" | ".join(f"{skill}>={level}" for skill, level in need.any_of) for need in value]
        elif name == "targets":
            out[name] = {
                channel: f"{_share_out(target.share)}% in {_length_out(target.seconds)}"
                for channel, target in value.items()
            }
        elif name.endswith("_s"):
            plain = isinstance(value, Mapping)
            out[name.removesuffix("_s")] = (
                {channel: _length_out(s) for channel, s in value.items()} if plain else _length_out(value)
            )
        else:
            out[name] = list(value) if isinstance(value, tuple) else value
    return out


def _entry_out(entry: Any) -> dict[str, Any]:
    return {
        name: list(value)
        if isinstance(value, tuple)
        else dict(value)
        if isinstance(value, Mapping)
        else value
        for name, value in _changed(entry)
    }


def _changed(entry: Any) -> Iterable[tuple[str, Any]]:
    """The fields behind the id that differ from their defaults."""
    for field in fields(entry)[1:]:
        value = getattr(entry, field.name)
        if value != _default(type(entry), field.name):
            yield field.name, value


def _quoted(value: Any) -> Any:
    """Texts that `document.read` would take for something else go into quotes; long ones into blocks."""
    if isinstance(value, Mapping):
        return {_quoted(str(key)): _quoted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_quoted(item) for item in value]
    if isinstance(value, str):
        if "\n" in value and _fits_block(value):
            return LiteralScalarString(value)
        if not re.fullmatch(
            r"[A-Za-zÀ-ÿ_][A-Za-z0-9À-ÿ_./ ()'’,-]*[A-Za-z0-9À-ÿ_).]|[A-Za-z_]", value
        ) or value.lower() in (
            "true",
            "false",
            "null",
            "yes",
            "no",
            "on",
            "off",
            "y",
            "n",
        ):
            return DoubleQuotedScalarString(value)
    return value


def _fits_block(value: str) -> bool:
    """Only what a block gives back unchanged: visible lines, none with blanks at an edge, one newline at the end."""
    lines = value.split("\n")
    return (
        value.endswith("\n")
        and not value.endswith("\n\n")
        and all(line and line == line.strip() and line.isprintable() for line in lines[:-1])
    )


def differences(old: Site, new: Site, old_name: str, new_name: str) -> Sequence[str]:
    """A unified diff of the two as site files, with the keys of both in the order of `new`."""
    then = replace(old, trees=_in_order_of(new.trees, old.trees))
    return list(
        difflib.unified_diff(
            export(then).splitlines(), export(new).splitlines(), old_name, new_name, n=1, lineterm=""
        )
    )


def _in_order_of(order: Any, value: Any) -> Any:
    """`value` with its keys in the order they have in `order`; those that are not there come last."""
    if isinstance(value, Mapping) and isinstance(order, Mapping):
        keys = [*(key for key in order if key in value), *(key for key in value if key not in order)]
        return {key: _in_order_of(order.get(key), value[key]) for key in keys}
    if isinstance(value, list) and isinstance(order, list):
        return [
            _in_order_of(order[place] if place < len(order) else None, item)
            for place, item in enumerate(value)
        ]
    return value


def undoes(base: Site, current: Site, new: Site) -> bool:
    """Whether `new` differs from `current` where that differs from `base`: it would lose what was changed since."""
    then, now, to_come = (dict(_leaves(_plain(site))) for site in (base, current, new))
    changed = [path for path in then.keys() | now.keys() if then.get(path) != now.get(path)]
    return any(to_come.get(path) != now.get(path) for path in changed)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, Mapping):
        yield path, (value,)
        return
    yield path, "mapping"  # also an empty one can come and go
    for key, item in value.items():
        yield from _leaves(item, (*path, str(key)))
