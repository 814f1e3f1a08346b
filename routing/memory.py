"""What the desk remembers of the database: rows, whose addresses are whose, and what was answered to whom.

Whatever is here is at least as new as what is stored. `wants` says what must be loaded before submissions are handled.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from routing.identity import normalise, plain
from routing.models import (
    AttachmentStored,
    CaseChanged,
    CaseChosen,
    CaseCreated,
    CaseMergeUndone,
    CasesMerged,
    ContactChanged,
    ContactChosen,
    ContactIntroduced,
    ContactsMerged,
    HelpAnswered,
    HelpAsked,
    InteractionOpened,
    MergeUndone,
    MessageChanged,
    MessageEchoed,
    MessageReceived,
    MessageStatus,
    MessageWritten,
    NoteWritten,
    OfferAccepted,
    OfferRefused,
    PopShown,
    Presence,
    PresenceSet,
    State,
    Submission,
)
from routing.projection import (
    AccountRow,
    AddressRow,
    AdvisorRow,
    AttachmentRow,
    CaseRow,
    ContactRow,
    HelpRow,
    InteractionRow,
    MergeRow,
    MessageRow,
    OfferRow,
    ReachRow,
    Row,
    Rows,
    ThreadRow,
    key_of,
)

REMEMBERED_KEYS = 50_000  # outcomes kept in memory; older ones are looked up
REMEMBERED_ROWS = 50_000  # rows kept beyond those of live interactions before all of them are forgotten


@dataclass(slots=True)
class Wants:
    """What must be loaded before a submission can be handled."""

    keys: set[UUID] = field(default_factory=set)
    interactions: set[UUID] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    offers: set[UUID] = field(default_factory=set)
    cases: set[UUID] = field(default_factory=set)
    contacts: set[UUID] = field(default_factory=set)  # with their families, addresses and cases
    merges: set[UUID] = field(default_factory=set)
    addresses: set[tuple[str, str]] = field(default_factory=set)  # (kind, normalised value)
    peers: set[tuple[str, str, str]] = field(default_factory=set)  # threads by (account, kind, value)
    threads: set[tuple[str, UUID]] = field(default_factory=set)  # threads by (account, address)
    external: set[tuple[str, str]] = field(default_factory=set)  # messages by (account, external id)
    namesakes: set[tuple[UUID, str]] = field(
        default_factory=set
    )  # (message, the external id that it is to have)
    messages: set[UUID] = field(default_factory=set)
    attachments: set[UUID] = field(default_factory=set)
    talks: set[UUID] = field(default_factory=set)  # interactions whose messages and help are needed
    case_merges: set[UUID] = field(default_factory=set)
    helps: set[UUID] = field(default_factory=set)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class Done:
    """A submission that has been decided; its events are those from first_seq to last_seq."""

    key: UUID
    at: datetime
    first_seq: int
    last_seq: int
    refused: str | None


@dataclass(slots=True)
class Loaded:
    """Rows as stored. `owners`: (kind, value) → contact → address id; `whole`: contacts loaded with all theirs."""

    rows: list[Row] = field(default_factory=list)
    whole: set[UUID] = field(default_factory=set)
    owners: dict[tuple[str, str], dict[UUID, UUID]] = field(default_factory=dict)
    done: dict[UUID, Done] = field(default_factory=dict)
    vips: dict[UUID, bool] = field(default_factory=dict)  # contact → marked VIP
    values: dict[UUID, tuple[str, str]] = field(default_factory=dict)  # address → (kind, value)
    last_seq: int = 0
    last_case: int = 0


class Memory:
    """The memory of one organisation's book. `country` is the default region of phone numbers."""

    def __init__(self, country: str) -> None:
        self.country = country
        self.rows = Rows()
        self.owners: dict[tuple[str, str], dict[UUID, UUID]] = {}  # (kind, value) → contact → address
        self.calls: set[str] = set()
        self.whole: set[UUID] = set()  # contacts loaded with all that is theirs
        self.vips: dict[UUID, bool] = {}  # contact → marked VIP
        self.values: dict[UUID, tuple[str, str]] = {}  # address → (kind, value)
        self.threads: dict[
            tuple[str, UUID], UUID | None
        ] = {}  # (account, address) → thread; None: there is none
        self.last_of_thread: dict[UUID, UUID] = {}  # thread → the interaction that was opened last in it
        self.external: dict[tuple[str, str], UUID] = {}  # (account, external id) → message
        self._peers: set[tuple[str, str, str]] = set()  # threads that have been looked for
        self._cases_of: dict[UUID, set[UUID]] = {}  # contact → cases that are or were its own
        self._merged_into: dict[UUID, set[UUID]] = {}  # contact → those that are or were linked to it
        self._done: OrderedDict[UUID, Done] = OrderedDict()
        self._loose = 0

    def wants(
        self, submissions: Iterable[Submission], *, sure_new: Callable[[UUID], bool] = lambda key: False
    ) -> Wants:
        """What is not known yet. `sure_new(key)`: nobody can have stored that key, so it need not be looked for."""
        wants = Wants()
        for told in submissions:
            if told.key not in self._done and not sure_new(told.key):
                wants.keys.add(told.key)
            contacts: list[UUID] = []
            interaction = getattr(told, "interaction", None)
            if isinstance(told, InteractionOpened):
                if told.call is not None and told.call not in self.calls:
                    wants.calls.add(told.call)
                address = (told.address_kind, normalise(told.address_kind, told.address, self.country))
                if address[1] and address not in self.owners:
                    wants.addresses.add(address)
                if told.case is not None:
                    self._want_case(wants, told.case)
                if told.contact is not None:
                    contacts.append(told.contact)
            elif isinstance(told, MessageReceived):
                pass  # its interaction is a new one
            elif interaction is not None and self.rows.find(InteractionRow, interaction) is None:
                wants.interactions.add(interaction)
            if isinstance(told, OfferAccepted | OfferRefused | PopShown):
                if self.rows.find(OfferRow, told.offer) is None:
                    wants.offers.add(told.offer)
            elif isinstance(told, NoteWritten | CaseCreated | CaseChanged | CaseChosen):
                self._want_case(wants, told.case)
            else:
                self._want_letters(wants, told)
            if isinstance(told, CaseChosen | ContactChosen):
                wants.talks.add(told.interaction)
            if isinstance(told, PresenceSet) and told.presence == Presence.OFFLINE:
                wants.talks.update(row.id for row in self.written_by((told.advisor,)))
            if isinstance(
                told, CaseCreated | ContactChosen | ContactChanged | ContactIntroduced | ContactsMerged
            ):
                contacts.append(told.contact)
            if isinstance(told, ContactsMerged):
                contacts.append(told.into)
            if isinstance(told, ContactChanged):
                for kind, raw in told.add_addresses:
                    value = normalise(kind, raw, self.country)
                    if value and (kind, value) not in self.owners:
                        wants.addresses.add((kind, value))
            if isinstance(told, MergeUndone) and self.rows.find(MergeRow, told.merge) is None:
                wants.merges.add(told.merge)
            wants.contacts.update(each for each in contacts if each not in self.whole)
        return wants

    def _want_letters(self, wants: Wants, told: Submission) -> None:
        """What a submission of the written channels needs."""
        match told:
            case MessageReceived() | MessageEchoed():
                value = normalise(told.address_kind, told.address, self.country)
                peer = (told.account, told.address_kind, value)
                more = told.more_addresses if isinstance(told, MessageReceived) else ()
                for kind, raw in ((told.address_kind, told.address), *more):
                    address = (kind, normalise(kind, raw, self.country))
                    if address[1] and address not in self.owners:
                        wants.addresses.add(address)
                if value and peer not in self._peers:
                    wants.peers.add(peer)
                external = (told.account, plain(told.external_id))
                if external[1] and external not in self.external:
                    wants.external.add(external)
                if isinstance(told, MessageReceived) and told.case is not None:
                    self._want_case(wants, told.case)
            case MessageWritten():
                if told.case is not None:
                    self._want_case(wants, told.case)
                if told.account is not None and told.address is not None:
                    pair = (told.account, told.address)
                    if pair not in self.threads or self.rows.find(AddressRow, told.address) is None:
                        wants.threads.add(pair)
                if told.reply_to is not None:
                    self._want_message(wants, told.reply_to)
            case MessageStatus():
                self._want_message(wants, told.message)
                if told.external_id:
                    wants.namesakes.add((told.message, plain(told.external_id)))
            case MessageChanged():
                self._want_message(wants, told.message)
            case AttachmentStored():
                self._want_message(wants, told.message)
                if self.rows.find(AttachmentRow, told.attachment) is None:
                    wants.attachments.add(told.attachment)
            case CasesMerged():
                self._want_case(wants, told.case)
                self._want_case(wants, told.into)
                wants.case_merges.add(told.merge)
            case CaseMergeUndone():
                wants.case_merges.add(told.merge)
            case HelpAsked() | HelpAnswered():
                if self.rows.find(HelpRow, told.help) is None:
                    wants.helps.add(told.help)
            case InteractionOpened():
                if told.exchange is not None and self.rows.find(InteractionRow, told.exchange) is None:
                    wants.interactions.add(told.exchange)
            case _:
                pass

    def written_by(self, advisors: Collection[str]) -> list[InteractionRow]:
        """What these advisors have in work in writing."""
        return [
            row
            for row in self.rows.all(InteractionRow)
            if row.advisor in advisors and row.state == State.ACTIVE and row.thread is not None
        ]

    def _want_message(self, wants: Wants, message: UUID) -> None:
        if self.rows.find(MessageRow, message) is None:
            wants.messages.add(message)

    def _want_case(self, wants: Wants, case: UUID) -> None:
        if self.rows.find(CaseRow, case) is None:
            wants.cases.add(case)

    def load(self, loaded: Loaded, wants: Wants | None = None) -> None:
        """Take in what the database has; what is known already is newer and stays."""
        for row in loaded.rows:
            if self.rows.find(type(row), key_of(row)) is None:
                self.put(row)
        for address, owners in loaded.owners.items():
            known = self.owners.setdefault(address, {})
            for contact, id_ in owners.items():
                known.setdefault(contact, id_)
        for done in loaded.done.values():
            self.remember(done)
        for id_, where in loaded.values.items():
            self.values.setdefault(id_, where)
        for address, owners in loaded.owners.items():
            for id_ in owners.values():
                self.values[id_] = address
        if wants is not None:
            for address in wants.addresses:
                self.owners.setdefault(address, {})
            for thread in wants.threads:
                self.threads.setdefault(thread, None)
            self._peers |= wants.peers
        self.whole |= loaded.whole
        for contact, vip in loaded.vips.items():
            self.vips.setdefault(contact, vip)
        for found in loaded.rows:
            if isinstance(found, InteractionRow) and found.call is not None:
                self.calls.add(found.call)

    def put(self, row: Row) -> None:
        self.rows.put(row)
        self._loose += 1
        if isinstance(row, CaseRow):
            self._cases_of.setdefault(row.contact, set()).add(row.id)
        elif isinstance(row, ContactRow) and row.merged_into is not None:
            self._merged_into.setdefault(row.merged_into, set()).add(row.id)
        elif isinstance(row, ThreadRow):
            self.threads[row.account, row.address] = row.id
        elif isinstance(row, MessageRow) and row.external_id is not None:
            self.external[row.account, row.external_id] = row.id
        elif isinstance(row, InteractionRow) and row.thread is not None:
            last = self.last_of_thread.get(row.thread)
            if last is None or self._opened(last) <= (row.opened_at, row.id):
                self.last_of_thread[row.thread] = row.id

    def _opened(self, interaction: UUID) -> tuple[datetime, UUID]:
        return self.rows.get(InteractionRow, interaction).opened_at, interaction

    def members(self, person: UUID) -> set[UUID]:
        """All contacts that are one with a root, itself among them."""
        found, open_ = {person}, [person]
        while open_:
            above = open_.pop()
            for contact in self._merged_into.get(above, ()):
                if contact not in found and self.rows.get(ContactRow, contact).merged_into == above:
                    found.add(contact)
                    open_.append(contact)
        return found

    def cases_of(self, contact: UUID) -> Iterable[UUID]:
        """Cases that are or were the contact's own."""
        return self._cases_of.get(contact, ())

    def remember(self, done: Done) -> None:
        self._done[done.key] = done
        if len(self._done) > REMEMBERED_KEYS:
            self._done.popitem(last=False)

    def known(self, key: UUID) -> Done | None:
        return self._done.get(key)

    @property
    def forgetful(self) -> bool:
        """Enough is remembered that `forget` is worth its time."""
        return self._loose > REMEMBERED_ROWS

    def forget(self) -> None:
        """Keep only what live interactions need, and who is VIP."""
        old, self.rows = self.rows, Rows()
        self.owners, self.whole, self.calls = {}, set(), set()
        self._cases_of, self._merged_into = {}, {}
        values, self.values = self.values, {}
        self.threads, self.last_of_thread, self.external, self._peers = {}, {}, {}, set()
        self.vips = {contact: vip for contact, vip in self.vips.items() if vip}
        for live in old.all(InteractionRow):
            if live.ended_at is not None:
                continue
            self.put(live)
            if live.thread is not None:
                thread = old.get(ThreadRow, live.thread)
                self.put(thread)
                self.values[thread.address] = values[thread.address]
            if live.call is not None:
                self.calls.add(live.call)
            if live.offer is not None:
                self.put(old.get(OfferRow, live.offer))
            case = old.get(CaseRow, live.case_id)
            self.put(case)
            above = case
            while above.merged_into is not None:
                above = old.get(CaseRow, above.merged_into)
                self.put(above)
            for contact in (live.contact, case.contact):
                up: UUID | None = contact
                while up is not None:
                    row = old.get(ContactRow, up)
                    self.put(row)
                    up = row.merged_into
        for advisor in old.all(AdvisorRow):
            self.put(advisor)
        for reach in old.all(ReachRow):
            self.put(reach)
        for account in old.all(AccountRow):
            self.put(account)
        self._loose = 0
