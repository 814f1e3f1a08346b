"""What the console's routes act with: one Console for each organisation, and the words they share."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from cti import refusals, rows, schemas
from cti.aio.control import CallControl, NotPossible
from cti.aio.live import Live
from cti.aio.sessions import SignIns
from cti.aio.uploads import Uploads
from routing.aio.fetch import Fetcher
from routing.aio.web import SUPERVISORS, Ask, FieldError, Problem, language_of
from routing.channel import Manifest
from routing.models import FINAL, Clock, Ids, Outcome, Submission
from routing.site import Account, Advisor, Site
from routing.store import (
    CaseView,
    ContactView,
    InteractionView,
    MessageView,
    SiteVersion,
    Stores,
    TreeVersion,
)

V1 = "/api/v1"
REPORTS_AT_ONCE = 2  # more wait: nobody's figures slow the calls

Act = Callable[[UUID, str, str], Awaitable[None]]
"""(thread, typing_on | typing_off | seen, first name): shown to the customer where the channel can."""


@dataclass(frozen=True, slots=True)
class SiteWords:
    """Site files as text, given by wiring: `check` finds mistakes, `read` gives the site of a faultless text."""

    check: Callable[[str, str], Sequence[Mapping[str, Any]]]  # (yaml, language) → line, where, message, cure
    read: Callable[[str], Site]
    write: Callable[[Site], str]


@dataclass(frozen=True, slots=True)
class Telephony:
    """What people need to know to set up a phone. `denies` says why a number may not be called, or None."""

    server: str  # host:port as the phone must be told
    realm: str
    denies: Callable[[str], str | None] = lambda number: None


@dataclass(slots=True)
class Console:
    """Everything that the routes use; one for each organisation."""

    stores: Stores
    desk: Any
    control: CallControl
    live: Live
    sign_ins: SignIns
    site: Callable[[], SiteVersion]
    clock: Clock
    ids: Ids
    data_dir: Path
    words: SiteWords
    telephony: Telephony
    ready: Callable[[], tuple[bool, Mapping[str, Any]]]
    picture: Callable[[TreeVersion, Mapping[str, int]], Mapping[str, Any]]
    secret_set: Callable[[], Awaitable[None]]  # puts a new phone password into force before it is told
    origins: frozenset[str] = frozenset()
    channels: Mapping[str, Manifest] = field(default_factory=dict)
    act: Act | None = None
    replay: Callable[[UUID], Awaitable[None]] | None = None  # handles a stored request again
    uploads: Uploads = field(init=False)
    counting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REPORTS_AT_ONCE))

    def __post_init__(self) -> None:
        folder = self.data_dir / "uploads" / str(self.desk.organisation)
        self.uploads = Uploads(Fetcher(self.data_dir), self.clock, self.ids, folder)

    async def submit(self, kind: Callable[..., Submission], **values: Any) -> Outcome:
        """Submit, and raise a Problem when the desk has refused; what is so already needs no change and is no error."""
        outcome: Outcome = await self.tell(kind, **values)
        if outcome.refused and outcome.refused != "unchanged":
            raise Problem(409, "refused", outcome.refused)
        return outcome

    async def tell(self, kind: Callable[..., Submission], **values: Any) -> Outcome:
        """Submit; the caller looks at what was refused. A `key` makes a repeated one harmless."""
        values.setdefault("key", self.ids())
        outcome: Outcome = await self.desk.submit(kind(organisation=self.stores.organisation, **values))
        return outcome

    async def interaction(self, id: UUID) -> InteractionView:
        view = await self.stores.timeline.interaction(id)
        if view is None:
            raise Problem(404, "not-found", "There is no such interaction.")
        return view

    async def case(self, id: UUID) -> CaseView:
        view = await self.stores.cases.get(id)
        if view is None:
            raise Problem(404, "not-found", "There is no such case.")
        return view

    async def contact(self, id: UUID) -> ContactView:
        view = await self.stores.contacts.get(id)
        if view is None:
            raise Problem(404, "not-found", "There is no such contact.")
        return view

    async def message(self, id: UUID) -> MessageView:
        view = await self.stores.messages.get(id)
        if view is None:
            raise Problem(404, "not-found", "There is no such message.")
        return view

    async def shown(self, id: UUID) -> schemas.Interaction:
        return await self.live.views.interaction(await self.interaction(id))

    async def contact_whole(self, id: UUID) -> schemas.Contact:
        view = await self.contact(id)
        cases = await self.stores.cases.list(contact=view.id, limit=50)
        last = await self.stores.contacts.interactions(view.id, limit=5)
        return rows.contact(view, cases, last)

    async def mine(self, ask: Ask, id: UUID, *, also_ended: bool = False) -> InteractionView:
        """An interaction that this caller may act on: its advisor, a supervisor, or anybody once it is over."""
        view = await self.interaction(id)
        if view.advisor == ask.who.login or ask.who.roles & SUPERVISORS:
            return view
        if also_ended and view.state in FINAL:
            return view
        raise Problem(403, "not-yours", "Another advisor has this interaction.")

    def check_code(self, view: InteractionView, code: str | None) -> None:
        """Raise the Problem of a code that the interaction's queue does not use."""
        site = self.site().site
        queue = next((q for q in site.queues if q.id == view.queue), None)
        codes = queue.wrapup_codes if queue and queue.wrapup_codes else tuple(c.id for c in site.wrapup_codes)
        if code is not None and code not in codes:
            error = FieldError("code", f"one of {', '.join(codes)}", code)
            raise Problem(422, "invalid", "This code is not one of this queue's.", errors=[error])

    def advisor(self, login: str) -> Advisor | None:
        return next((a for a in self.site().site.advisors if a.id == login), None)

    def first_name(self, login: str) -> str:
        person = self.advisor(login)
        return person.first_name if person else login

    def account(self, id: str) -> Account | None:
        return next((a for a in self.site().site.accounts if a.id == id), None)

    def manifest_of(self, account: str) -> Manifest | None:
        """Of the channel that an account belongs to; None when the site has no such account any more."""
        known = self.account(account)
        return self.channels.get(known.channel) if known else None


def cti_of(ask: Ask) -> Console:
    return ask.the(Console)


def refuse(
    ask: Ask, status: int, kind: str, *, more: Mapping[str, Any] | None = None, **values: Any
) -> Problem:
    """A Problem with its sentence in the language of who asked; `more` stands beside it for the page."""
    told = refusals.sentence(kind, language_of(ask.request), **values)
    return Problem(status, kind, told, more=more)


def not_possible(ask: Ask, error: NotPossible) -> Problem:
    return refuse(ask, 409, error.why.replace("_", "-"))


def cursor(at: datetime, id: UUID) -> str:
    """The place after a row of a list that goes backwards in time."""
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{id}".encode()).decode()


def after_cursor(text: str) -> tuple[datetime, UUID]:
    try:
        at, _, id = base64.urlsafe_b64decode(text.encode()).decode().partition("|")
        when = datetime.fromisoformat(at)
        if when.tzinfo is None:
            raise ValueError("a time without zone")
        return when, UUID(id)
    except (ValueError, binascii.Error):
        error = FieldError("after", "the value of `next` from the page before")
        raise Problem(422, "invalid", errors=[error]) from None
