"""A hotline as its admins describe it: queues, advisors, numbers, trunks and codes, as plain values.

A Site is what a site file holds once it has been checked, what the database stores, and what `export` writes back.
Durations are seconds unless the name says otherwise; ids are the short names that admins write (`billing`, `lea`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Need:
    """One demand on an advisor: any one of `any_of` (skill, lowest level 1..5) must be met."""

    any_of: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Hours:
    """When something is open, in the site's time zone.

    `week` maps 0 (Monday) .. 6 to ranges "HH:MM-HH:MM"; `holidays` names a country whose public holidays are closed
    (ISO 3166, or None); `closings` are single dates "YYYY-MM-DD"; `openings` are dates with ranges of their own.
    """

    id: str
    week: Mapping[int, tuple[str, ...]]
    holidays: str | None = None
    closings: tuple[str, ...] = ()
    openings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """Service level sought on one channel of a queue: `share` (0..1) answered within `seconds` (Q12)."""

    share: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Queue:
    """A named place to wait (Q1, Q2, Q5, Q12, Q16, Q17, Q19)."""

    id: str
    name: str
    needs: tuple[Need, ...] = ()
    priority: int = 0
    ageing_per_minute: float = 1.0
    hours: str | None = None
    at_closing: str = "serve"  # serve | announce (say closed, end) : what happens to those inside at closing
    prefer: str = "longest_idle"  # longest_idle | skill
    targets: Mapping[str, Target] = field(default_factory=dict)  # channel -> target
    offer_s: Mapping[str, float] = field(default_factory=lambda: {"voice": 15.0, "chat": 60.0, "mail": 60.0})
    related_hold_s: Mapping[str, float] = field(
        default_factory=lambda: {"voice": 30.0, "chat": 900.0, "mail": 900.0}
    )
    wrapup_max_s: float = 60.0
    wrapup_extension_s: float = 60.0
    wrapup_codes: tuple[str, ...] = ()
    pop: str = "ring"  # ring | answer | end | button | never (C1)
    music: str = "music.wav"
    announce_every_s: float = 30.0
    announce_place: bool = True
    leave_key: str | None = None  # the digit that leaves the queue to the tree's `left` exit
    max_waiting: int = 500
    overflow_after_s: float | None = None
    overflow_to: str | None = None
    record: bool = True
    after_misses: int = 3  # pause the advisor after so many misses in a row (Q16)


@dataclass(frozen=True, slots=True)
class Advisor:
    """A person who serves. `seats` is the number of parallel interactions a channel, `skills` levels are 1..5."""

    id: str  # the login
    first_name: str
    last_name: str
    roles: tuple[str, ...] = ("advisor",)  # advisor | supervisor | admin
    skills: Mapping[str, int] = field(default_factory=dict)
    seats: Mapping[str, int] = field(default_factory=lambda: {"voice": 1, "chat": 3, "mail": 5})
    queues: tuple[str, ...] | None = None  # None: every queue whose needs are met
    language: str = "fr"
    phone: str | None = None  # user part of the phone account that rings
    shift_ends: str | None = None  # "HH:MM": pauses end themselves then


@dataclass(frozen=True, slots=True)
class Trunk:
    """A carrier: who may send us calls, and how our calls leave."""

    id: str
    hosts: tuple[str, ...]  # addresses or networks that may send INVITEs
    target: str | None = None  # host:port;transport= where outgoing calls go
    allow: tuple[str, ...] = ()  # RE2 patterns on E.164; deny by default
    deny: tuple[str, ...] = ()  # premium prefixes, checked first
    caller_id: str | None = None
    max_calls: int = 100


@dataclass(frozen=True, slots=True)
class Number:
    """A number that callers dial, and the tree they meet."""

    number: str  # as dialled, digits or user part
    tree: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Where customers write to: a page, a mailbox, a chat on a web site. `settings` are the channel's own keys."""

    id: str  # facebook
    channel: str  # the name in the channel's manifest
    name: str = ""
    tree: str | None = None  # the bot, or the rules of a mailbox
    queue: str | None = None  # where its interactions wait without a tree, or when it fails
    settings: Mapping[str, str] = field(default_factory=dict)
    signature: Mapping[str, str] = field(
        default_factory=dict
    )  # language -> Liquid ({{ advisor.first_name }} …)
    bot_name: str = "Bot"
    hook: str | None = None  # the account by whose callback its requests come too; None: by its own


@dataclass(frozen=True, slots=True)
class WrapupCode:
    id: str
    labels: Mapping[str, str]  # language -> words
    solves: bool = False  # choosing it marks the case solved


@dataclass(frozen=True, slots=True)
class ReplyTemplate:
    id: str
    title: str
    bodies: Mapping[str, str]  # language -> Liquid
    shortcut: str = ""
    queues: tuple[str, ...] = ()  # shown first there; none named: everywhere


@dataclass(frozen=True, slots=True)
class Site:
    """A whole hotline. `trees` maps a tree's id to its document (as read from YAML)."""

    organisation: str  # short id
    name: str
    time_zone: str = "Europe/Paris"
    languages: tuple[str, ...] = ("fr", "en")
    country: str = "FR"  # default region of phone numbers
    hours: tuple[Hours, ...] = ()
    skills: tuple[str, ...] = ()
    queues: tuple[Queue, ...] = ()
    advisors: tuple[Advisor, ...] = ()
    trunks: tuple[Trunk, ...] = ()
    numbers: tuple[Number, ...] = ()
    accounts: tuple[Account, ...] = ()
    wrapup_codes: tuple[WrapupCode, ...] = ()
    pause_reasons: tuple[str, ...] = ("lunch", "break", "training")
    reply_templates: tuple[ReplyTemplate, ...] = ()
    trees: Mapping[str, Any] = field(default_factory=dict)
    pop_url: str | None = None  # URL template: https://crm/?phone={e164}&call={call}&case={case}
    reopen_within_h: float = 96.0  # F8
    recording_notice: str = "recording"  # the sound announced before a recording starts
    vip_priority: int = (
        10  # points above the queue's or the tree's priority while the contact is marked VIP (Q1)
    )
    record_outgoing: bool = False  # calls that advisors place; a queue's `record` speaks for its own (T6)
    tags: tuple[str, ...] = ()  # what cases can be marked with
    archive_reasons: tuple[str, ...] = ("spam", "duplicate", "no_answer_needed")
    weights: Mapping[str, float] = field(
        default_factory=dict
    )  # seat -> share of 100 that one takes of an advisor (Q14)
    conversation_gap_h: float = 96.0  # silence of the customer that ends a conversation (figures)
    holding_message: Mapping[str, str] = field(
        default_factory=dict
    )  # language -> words, once, when the promise passes

    def account(self, id: str | None) -> Account | None:
        return next((account for account in self.accounts if account.id == id), None)
