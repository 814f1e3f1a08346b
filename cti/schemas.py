"""The console's wire: what goes to the page and what comes from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from routing import figures, site

ShortId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.@-]+$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Words = Annotated[str, StringConstraints(max_length=10_000)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]  # a tag, a reason
Limit = Annotated[int, Field(ge=1, le=500)]


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Phone(Wire):
    account: str | None
    registered: bool


class Me(Wire):
    login: str
    first_name: str
    last_name: str
    roles: list[str]
    language: str
    phone: Phone


class Session(Wire):
    csrf: str
    me: Me


class Presence(Wire):
    advisor: str
    first_name: str
    last_name: str
    presence: Literal["ready", "pause", "offline"]
    reason: str | None
    work: Literal["idle", "ringing", "talking", "held", "wrapup"]
    since: datetime
    phone_registered: bool
    interactions: list[UUID]
    written: int = 0  # how many of them are written
    queues: list[str]
    misses: int


class TreeVersion(Wire):
    id: str
    version: int


class Interaction(Wire):
    id: UUID
    channel: str
    direction: str
    state: str
    held: bool
    case: UUID | None
    case_number: int | None
    contact: UUID | None
    contact_name: str | None
    address: str | None
    queue: str | None
    advisor: str | None
    priority: int
    opened_at: datetime
    enqueued_at: datetime | None
    offered_at: datetime | None
    accepted_at: datetime | None
    ended_at: datetime | None
    wrapup_until: datetime | None
    call: str | None
    recording: bool
    language: str | None
    tree: TreeVersion | None
    outcome: str | None
    code: str | None
    seat: str  # voice, chat or mail
    account: str | None
    thread: UUID | None
    lent_to: UUID | None  # the call that has its seat (F5)
    unread: int  # customer's messages since our last word, or since its advisor looked
    gone_since: datetime | None = None  # since then no page of the visitor is open


class PopCase(Wire):
    id: UUID
    number: int
    subject: str
    state: str


class Person(Wire):
    contact: UUID
    name: str
    company: str | None
    vip: bool
    why: Literal["number", "case", "chosen", "address"]
    sure: Literal["certain", "likely", "possible"]


class QueueName(Wire):
    id: str
    name: str


class Step(Wire):
    tree: str
    version: int
    node: str
    title: str | None  # of the node, as that version named it
    exit: str
    keys: str
    seconds: float


class CaseRow(Wire):
    id: UUID
    number: int
    subject: str
    state: str
    contact: UUID | None
    contact_name: str | None
    opened_at: datetime
    changed_at: datetime
    channels: list[str]
    tags: list[str]


class LastInteraction(Wire):
    id: UUID
    channel: str
    direction: str
    at: datetime
    advisor: str | None
    outcome: str | None
    code: str | None
    case_number: int | None


class Address(Wire):
    id: UUID
    kind: str
    value: str
    display: str


class Button(Wire):
    title: str
    payload: str


class Attachment(Wire):
    id: UUID
    kind: str
    name: str
    type: str
    bytes: int
    state: Literal["fetching", "stored", "failed", "quarantined"]
    url: str


class Parts(Wire):
    """How much of a message that needs several parts went for sure."""

    sent: int
    of: int


class Message(Wire):
    """One message of a thread; `quoted` is the folded part of a mail, `by_name` the first name of its writer."""

    id: UUID
    seq: int
    thread: UUID
    interaction: UUID
    case: UUID
    account: str
    channel: str
    direction: Literal["in", "out"]
    author: Literal["customer", "advisor", "bot", "system", "elsewhere"]
    by: str | None
    by_name: str | None
    kind: str
    at: datetime
    sent_at: datetime | None
    status: str
    failure: str | None
    code: str
    detail: str
    parts: Parts | None  # of one that did not go whole
    retryable: bool
    reply_to: UUID | None
    text: str
    subject: str
    has_html: bool
    quoted: str | None
    buttons: list[Button]
    extra: dict[str, Any]
    edited: bool
    unsent: bool
    reaction: str
    automatic: bool
    standby: bool
    attachments: list[Attachment]


class Composer(Wire):
    """What can be written on a channel."""

    channel: str
    label: str
    text_chars: int | None
    text_bytes: int | None
    quick_replies: int
    quick_reply_chars: int
    attachment_bytes: dict[str, int]
    subject: bool
    html: bool
    typing: bool


class ChannelRow(Composer):
    seat: str
    labels: dict[str, str]


class Window(Wire):
    state: Literal["open", "tag", "closed"]
    until: datetime | None
    tag_until: datetime | None


class Thread(Wire):
    id: UUID
    account: str
    account_name: str
    channel: str
    address: Address
    live: UUID | None
    last_in_at: datetime | None
    last_out: UUID | None
    window: Window
    composer: Composer


class Viewer(Wire):
    login: str
    first_name: str
    doing: Literal["viewing", "typing"]


class Help(Wire):
    id: UUID
    interaction: UUID
    case: UUID
    case_number: int
    by: str
    of: str | None
    at: datetime
    text: str
    answered_at: datetime | None
    answered_by: str | None
    answer: str


class Helps(Wire):
    items: list[Help]


class AccountRow(Wire):
    """An account as it stands; `waiting` messages have not been sent yet."""

    account: str
    channel: str
    label: str
    name: str
    state: Literal["up", "throttled", "down"]
    reason: str
    since: datetime | None
    waiting: int


class Pop(Wire):
    """All of what an advisor knows before the first word (features 1.4)."""

    interaction: UUID
    call: str | None
    case: PopCase | None
    received_number: str
    e164: str | None
    attestation: str | None
    trunk: str | None
    persons: list[Person]
    queue: QueueName | None
    priority: int
    waited_s: float
    path: list[Step]
    language: str | None
    facts: dict[str, Any]
    open_cases: list[CaseRow]
    last_interactions: list[LastInteraction]
    last_advisor: str | None
    kind: Literal["first", "repeat", "callback"]
    transfer: dict[str, Any] | None
    url: str | None
    last_messages: list[Message]  # five, oldest first; none of a call


class Offer(Wire):
    id: UUID
    interaction: Interaction
    deadline: datetime
    made_at: datetime
    pop: Pop
    pop_at: str  # when the page opens it (C1): ring, answer, end, button, never


class Whole(Interaction):
    """An interaction with what its advisor was told; `pop` is null once it is over."""

    pop: Pop | None


class Interactions(Wire):
    """Those that a figure counts; `total` is the figure, `items` a page of them."""

    items: list[Interaction]
    total: int


class Item(Wire):
    at: datetime
    kind: Literal["call", "note", "tree", "offer", "state", "recording", "event", "message"]
    interaction: UUID | None
    advisor: str | None
    text: str | None
    data: dict[str, Any]
    seq: int


class CaseMerge(Wire):
    merge: UUID
    case: UUID
    number: int
    at: datetime
    by: str


class Case(CaseRow):
    timeline: list[Item]
    interactions: list[Interaction]
    notes_count: int
    follows: UUID | None
    merged_into: UUID | None
    merges: list[CaseMerge]
    messages: list[Message]
    earlier: bool  # there are messages from before these
    threads: list[Thread]
    helps: list[Help]
    viewers: list[Viewer]


class Merge(Wire):
    merge: UUID
    contact: UUID
    name: str
    reason: str
    at: datetime


class ContactRow(Wire):
    id: UUID
    name: str
    company: str | None
    vip: bool
    language: str | None
    addresses: list[Address]


class Contact(ContactRow):
    cases: list[CaseRow]
    last_interactions: list[LastInteraction]
    merged_from: list[Merge]


class Target(Wire):
    share: float
    seconds: float


class AdvisorCounts(Wire):
    ready: int
    ringing: int
    talking: int
    writing: int = 0  # all of it written
    wrapup: int
    pause: int
    offline: int


class BoardRow(Wire):
    queue: str
    name: str
    channel: str
    waiting: int
    longest_wait_s: float
    estimate_s: tuple[float, float] | None
    service_level: float | None
    target: Target
    answered: int
    abandoned: int
    short_abandoned: int
    abandonment: float | None
    asa_s: float | None
    advisors: AdvisorCounts
    breach_in_s: float | None
    spark: list[float | None]
    formula: str


class Board(Wire):
    at: datetime
    rows: list[BoardRow]
    advisors: list[Presence]


class TreeRow(Wire):
    id: str
    version: int
    published_at: datetime | None
    inside: int


class CodeRow(Wire):
    id: str
    labels: dict[str, str]
    solves: bool


class QueueRow(QueueName):
    wrapup_codes: list[str]  # those it asks for; none named: any


class SiteRow(Wire):
    name: str
    languages: list[str]
    time_zone: str


class Colleague(Wire):
    login: str
    first_name: str


class Snapshot(Wire):
    me: Me
    presence: Presence | None
    offers: list[Offer]
    interactions: list[Interaction]
    pops: list[Pop]  # of `interactions`: a new page knows as much as the one that saw the offer
    colleagues: list[Colleague]
    board: Board
    version: str
    wrapup_codes: list[CodeRow]
    pause_reasons: list[str]
    queues: list[QueueRow]
    site: SiteRow
    accounts: list[AccountRow]
    channels: dict[str, ChannelRow]
    tags: list[str]
    archive_reasons: list[str]
    helps: list[Help]


class Frame(Wire):
    """One frame to the page; ephemeral ones have no id and bear the last sequence number."""

    seq: int
    id: UUID | None = None
    type: str
    time: datetime
    subject: str | None = None
    data: Any


class LogRow(Wire):
    seq: int
    id: UUID
    at: datetime
    type: str
    interaction: UUID | None
    case: UUID | None
    contact: UUID | None
    advisor: str | None
    data: dict[str, Any]


class Log(Wire):
    items: list[LogRow]
    next: int | None


class Cases(Wire):
    items: list[CaseRow]
    next: str | None


class Contacts(Wire):
    items: list[ContactRow]


class InboxRow(Wire):
    case: UUID
    number: int
    subject: str
    state: str
    tags: list[str]
    contact: UUID
    contact_name: str | None
    vip: bool
    channels: list[str]
    interaction: UUID | None
    interaction_state: str | None
    interaction_channel: str | None
    queue: str | None
    advisor: str | None
    last_at: datetime
    last_text: str
    last_author: str
    unanswered_since: datetime | None
    opened_at: datetime
    address: str | None = None
    interaction_since: datetime | None = None


class Inbox(Wire):
    items: list[InboxRow]
    next: str | None
    counts: dict[str, int]


class NodeName(Wire):
    node: str
    title: str


class Nodes(Wire):
    items: list[NodeName]


class CaseMerged(Wire):
    merge: UUID


class Proposal(Wire):
    contact: UUID
    name: str
    why: str
    value: str


class Proposals(Wire):
    items: list[Proposal]


class Template(Wire):
    """A canned answer filled for a case; `missing` names what could not be filled."""

    id: str
    title: str
    shortcut: str
    queues: list[str]
    text: str
    missing: list[str]


class Templates(Wire):
    items: list[Template]


class Way(Wire):
    """How a case can go on; `why` says why not."""

    kind: Literal["call", "message"]
    account: str | None
    channel: str
    address: Address
    allowed: bool
    why: str | None


class Ways(Wire):
    items: list[Way]


class AccountRows(Wire):
    items: list[AccountRow]


class Webhook(Wire):
    id: UUID
    account: str
    at: datetime
    handled_at: datetime | None
    tries: int
    result: dict[str, Any]


class Webhooks(Wire):
    items: list[Webhook]


class StatisticsRow(Wire):
    queue: str | None  # null: it never reached one
    channel: str | None
    figures: figures.Values


class Statistics(Wire):
    """`formula` says in words how each figure is made; `note` stands beside the totals."""

    since: datetime = Field(serialization_alias="from")
    to: datetime
    formula: dict[str, str]
    rows: list[StatisticsRow]
    series: figures.Series
    totals: figures.Values
    note: str


class Uploaded(Wire):
    id: UUID
    kind: str
    name: str
    type: str
    bytes: int


class Why(Wire):
    sentences: list[str]
    explanations: list[dict[str, Any]]


class Placed(Wire):
    """A call that is being placed: the advisor's phone rings first."""

    interaction: UUID


class SiteText(Wire):
    yaml: str
    version: int


class Mistake(Wire):
    line: int
    where: str
    message: str
    cure: str


class Checked(Wire):
    mistakes: list[Mistake]


class Secret(Wire):
    """Shown once, stored only as a hash."""

    password: str


class PhoneSecret(Secret):
    account: str
    server: str


class Health(Wire):
    ok: bool
    detail: dict[str, Any]


class Applied(Wire):
    version: int


class SignIn(Wire):
    login: Annotated[str, StringConstraints(max_length=200)]
    password: Annotated[str, StringConstraints(max_length=1000)]


class SetPresence(Wire):
    presence: Literal["ready", "pause", "offline"]
    reason: Annotated[str, StringConstraints(max_length=64)] | None = None


class Refuse(Wire):
    reason: Annotated[str, StringConstraints(max_length=200)] | None = None


class FinishWrapup(Wire):
    code: ShortId | None = None
    note: Words = ""


class ChooseContact(Wire):
    contact: UUID


class ChooseCase(Wire):
    case: UUID


class SetPriority(Wire):
    priority: Annotated[int, Field(ge=-1000, le=1000)]


class NewCase(Wire):
    contact: UUID
    subject: Name


class ChangeCase(Wire):
    state: Literal["open", "waiting", "solved", "closed"] | None = None
    subject: Name | None = None


class NewNote(Wire):
    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class CallAddress(Wire):
    address: UUID


class CallFromCase(CallAddress):
    """`exchange`: your written interaction whose seat the call takes until it is over."""

    exchange: UUID | None = None


MessageText = Annotated[str, StringConstraints(max_length=100_000)]
Subject = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\r\n]*$")]


class NewButton(Wire):
    title: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    payload: Annotated[str, StringConstraints(max_length=1000)] = ""


class WriteMessage(Wire):
    """`message` is made by the page, so that the same one is never sent twice; `over` is the last word of ours seen."""

    message: UUID
    text: MessageText = ""
    html: MessageText = ""
    subject: Subject = ""
    buttons: Annotated[list[NewButton], Field(max_length=20)] = []
    attachments: Annotated[list[UUID], Field(max_length=20)] = []
    reply_to: UUID | None = None
    over: UUID | None = None
    consent: bool = False


class Seen(Wire):
    """`seen` is the newest message of the case that the page shows, None where it shows none.

    Over a newer one of the customer or of a colleague only with `consent`; who shows no page leaves `seen` out.
    """

    seen: UUID | None = None
    consent: bool = False

    @property
    def consents(self) -> bool:
        return self.consent or "seen" not in self.model_fields_set


class WriteFromCase(Seen):
    message: UUID
    account: ShortId
    address: UUID
    text: MessageText = ""
    html: MessageText = ""
    subject: Subject = ""
    attachments: Annotated[list[UUID], Field(max_length=20)] = []


class Typing(Wire):
    on: bool


class Give(Wire):
    advisor: ShortId


class Close(Wire):
    outcome: Literal["answered", "archived"]
    reason: Word | None = None
    code: ShortId | None = None
    note: Words = ""


class TransferTo(Wire):
    queue: ShortId


class HandBack(Wire):
    node: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class AskHelp(Wire):
    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
    of: ShortId | None = None


class AnswerHelp(Wire):
    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class SetTags(Wire):
    tags: Annotated[list[Word], Field(max_length=50)]


class MergeCase(Wire):
    into: UUID


class NewAddress(Wire):
    kind: Literal["phone", "email"]
    value: Annotated[str, StringConstraints(min_length=1, max_length=320)]


class NewContact(Wire):
    name: Name
    company: Annotated[str, StringConstraints(max_length=200)] | None = None
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")] | None = None
    vip: bool | None = None
    addresses: Annotated[list[NewAddress], Field(max_length=20)] = []


class ChangeContact(Wire):
    name: Name | None = None
    company: Annotated[str, StringConstraints(max_length=200)] | None = None
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")] | None = None
    vip: bool | None = None
    add_addresses: Annotated[list[NewAddress], Field(max_length=20)] = []


class MergeInto(Wire):
    into: UUID
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class SiteDraft(Wire):
    yaml: Annotated[str, StringConstraints(max_length=900_000)]


class NewSite(SiteDraft):
    base_version: int


def _refuse_unknown(kind: type[Any]) -> BeforeValidator:
    known = {f.name for f in fields(kind)}

    def check(value: Any) -> Any:
        if isinstance(value, Mapping) and (unknown := sorted(set(value) - known)):
            raise ValueError(f"only {', '.join(sorted(known))}; {', '.join(unknown)} is not known here")
        return value

    return BeforeValidator(check)


Check = tuple[bool, str, str, str]
"""Whether it is so; the field; what is expected, in English and in French."""


def _refuse(checks: Iterable[Check]) -> None:
    for good, field, english, french in checks:
        if not good:
            raise PydanticCustomError("wrong_field", "{en}", {"field": field, "en": english, "fr": french})


def _queue_is_sane(queue: site.Queue) -> site.Queue:
    pops = ", ".join(sorted(POPS))
    seconds = ("0 to 3600 seconds", "0 à 3600 secondes")
    _refuse(
        (
            (bool(queue.id.strip()), "id", "a short name", "un nom court"),
            (bool(queue.name.strip()), "name", "words for people", "des mots pour les gens"),
            (queue.pop in POPS, "pop", f"one of {pops}", f"l’un de {pops}"),
            (
                queue.at_closing in {"serve", "announce"},
                "at_closing",
                "serve or announce",
                "serve ou announce",
            ),
            (
                queue.prefer in {"longest_idle", "skill"},
                "prefer",
                "longest_idle or skill",
                "longest_idle ou skill",
            ),
            (0 <= queue.wrapup_max_s <= 3600, "wrapup_max_s", *seconds),
            (0 <= queue.wrapup_extension_s <= 3600, "wrapup_extension_s", *seconds),
            (
                all(1 <= s <= 86_400 for s in queue.offer_s.values()),
                "offer_s",
                "1 to 86400 seconds a channel",
                "1 à 86400 secondes par canal",
            ),
            (
                all(0 < t.share <= 1 for t in queue.targets.values()),
                "targets",
                "shares above 0, up to 1",
                "des parts au-dessus de 0, jusqu’à 1",
            ),
            (
                all(t.seconds > 0 for t in queue.targets.values()),
                "targets",
                "seconds above 0",
                "des secondes au-dessus de 0",
            ),
            (1 <= queue.max_waiting <= 1_000_000, "max_waiting", "1 to 1000000", "1 à 1000000"),
            (queue.after_misses >= 1, "after_misses", "1 or more", "1 ou plus"),
        )
    )
    return queue


def _advisor_is_sane(advisor: site.Advisor) -> site.Advisor:
    roles = ", ".join(sorted(ROLES))
    _refuse(
        (
            (bool(advisor.id.strip()), "id", "the login", "l’identifiant"),
            (bool(advisor.first_name.strip()), "first_name", "a name", "un prénom"),
            (
                bool(advisor.roles) and set(advisor.roles) <= ROLES,
                "roles",
                f"from {roles}",
                f"parmi {roles}",
            ),
            (
                all(1 <= level <= 5 for level in advisor.skills.values()),
                "skills",
                "levels 1 to 5",
                "niveaux 1 à 5",
            ),
            (
                all(0 <= n <= 100 for n in advisor.seats.values()),
                "seats",
                "0 to 100 a channel",
                "0 à 100 par canal",
            ),
        )
    )
    return advisor


POPS = frozenset({"ring", "answer", "end", "button", "never"})
ROLES = frozenset({"advisor", "supervisor", "admin"})
QueueBody = Annotated[site.Queue, _refuse_unknown(site.Queue), AfterValidator(_queue_is_sane)]
AdvisorBody = Annotated[site.Advisor, _refuse_unknown(site.Advisor), AfterValidator(_advisor_is_sane)]


class Shown(Wire):
    type: Literal["shown"]
    offer: UUID


class Watch(Wire):
    type: Literal["watch", "unwatch"]
    topic: Literal["trees", "board"]


class Viewing(Wire):
    type: Literal["viewing"]
    case: UUID
    doing: Literal["viewing", "typing", "none"]


class Ping(Wire):
    type: Literal["ping"]


FromPage = Annotated[Shown | Watch | Viewing | Ping, Field(discriminator="type")]
