"""The frames of one event: those of what it changed beside it, then its own.

Rule 1: nothing is read for an event that no open page may see.
Rule 2: entities go out whole, so a frame twice does no harm, and a late one tells the newest state.
Rule 3: who may see a frame is decided here, before it is queued; which pages an event concerns at all, before anything
is read, so that no page waits for what it will not be told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cti import rows, schemas
from cti.aio.floor import Floor, Past
from cti.aio.page import Out, Page, frame
from cti.aio.views import Views
from routing.aio.web import SUPERVISORS
from routing.models import FINAL_EVENTS, Event, T
from routing.store import InteractionView, PopRows, Stores

VIEWS_KEPT = 1000  # interactions as last read
OFFERS = 4  # read at once; the pool has other work

INTERACTION_EVENTS = frozenset(
    {
        T.INTERACTION_OPENED,
        T.CONTACT_CHOSEN,
        T.CASE_CHOSEN,
        T.ENQUEUED,
        T.ACCEPTED,
        T.ASSIGNED,
        T.CONNECTED,
        T.HELD,
        T.RESUMED,
        T.TALK_ENDED,
        T.REQUEUED,
        T.PRIORITY_CHANGED,
        T.WRAPUP_EXTENDED,
        T.ENDED,
        T.ABANDONED,
        T.INTERRUPTED,
        T.LEFT_QUEUE,
        T.WRAPUP_CODED,
        T.HANDED_BACK,
        T.SEAT_LENT,
        T.SEAT_RETURNED,
        T.OFFERED,
        T.OFFER_ENDED,
    }
)
MESSAGES_ADDED = frozenset({T.MESSAGE_RECEIVED, T.MESSAGE_WRITTEN})
MESSAGE_EVENTS = MESSAGES_ADDED | {T.MESSAGE_STATUS, T.MESSAGE_CHANGED, T.ATTACHMENT_STORED}
THREAD_EVENTS = MESSAGES_ADDED | FINAL_EVENTS | {T.INTERACTION_OPENED}
HELP_EVENTS = frozenset({T.HELP_ASKED, T.HELP_ANSWERED})
CASE_EVENTS = frozenset(
    {
        T.CASE_OPENED,
        T.CASE_CHANGED,
        T.CASE_REOPENED,
        T.CASE_CHOSEN,
        T.CASES_MERGED,
        T.CASE_MERGE_UNDONE,
    }
)
CASE_SHOWN_EVENTS = CASE_EVENTS | FINAL_EVENTS | {T.INTERACTION_OPENED}
CONTACT_EVENTS = frozenset(
    {T.CONTACT_CHANGED, T.ADDRESS_ADDED, T.CONTACTS_MERGED, T.MERGE_UNDONE, T.CONTACT_CREATED}
)
FOR_ALL_EVENTS = HELP_EVENTS | CONTACT_EVENTS | {T.ACCOUNT_CHANGED, T.SITE_APPLIED}

NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Said:
    """What a frame says, and who may see it (as in Out)."""

    kind: str
    data: Any
    subject: str
    to: frozenset[str] = NOBODY
    roles: frozenset[str] = NOBODY
    case: UUID | None = None

    def out(self, event: Event, seq: int, id: UUID | None = None) -> Out:
        text = frame(self.kind, self.data, event.at, seq, id=id, subject=self.subject)
        return Out(text.encode(), self.kind, self.to, self.roles, self.case)


class Frames:
    """Of the events of one organisation, for the `pages` that are open while they are built."""

    def __init__(self, *, stores: Stores, views: Views, floor: Floor, pages: Collection[Page]) -> None:
        self._stores, self._show, self._floor, self._pages = stores, views, floor, pages
        self._offers = asyncio.Semaphore(OFFERS)
        self._views: dict[UUID, asyncio.Task[InteractionView | None]] = {}  # read after the last event
        self._reading: set[asyncio.Task[InteractionView | None]] = set()

    async def close(self) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    def outdate(self, event: Event) -> None:
        """What was read before this event is not so any more."""
        if event.interaction is None or event.type in CASE_EVENTS or event.type in CONTACT_EVENTS:
            self._views.clear()
        else:
            self._views.pop(event.interaction, None)

    def concern(self, past: Past, page: Page) -> bool:
        """Whether the page may be told anything of this event."""
        event = past.event
        return (
            event.case is None
            or event.type in FOR_ALL_EVENTS
            or bool(page.caller.roles & SUPERVISORS)
            or page.caller.login == past.changed
            or _near(past, page)
        )

    async def of(self, past: Past) -> list[Out]:
        """Those beside it bear the number before, the last one the event's own."""
        said = [each async for each in self._said(past)]
        event = past.event
        own = len(said) - 1
        return [
            each.out(event, event.seq, event.id) if n == own else each.out(event, event.seq - 1)
            for n, each in enumerate(said)
        ]

    async def _said(self, past: Past) -> AsyncIterator[_Said]:
        """What to say of an event; its own frame comes last."""
        event, mine = past.event, past.owners
        kind, interaction, case = event.type, event.interaction, event.case
        presence = self._floor.presence(past.changed) if past.changed else None
        if presence is not None:
            to = frozenset({presence.advisor})
            yield _Said("presence.changed", presence, f"advisors/{presence.advisor}", to, SUPERVISORS)
        pages = [page for page in self._pages if self.concern(past, page)]
        wanted = any(_near(past, page) for page in pages) if kind in MESSAGE_EVENTS else bool(pages)
        view, offered = None, None
        if wanted and kind is T.OFFERED and (made := await self._offer(event)) is not None:
            offered, found = made
            view = found.interaction
        elif wanted and interaction is not None and (kind in INTERACTION_EVENTS or rows.timeline_kind(event)):
            view = await self._view(interaction)
        if view is not None and kind in INTERACTION_EVENTS:
            shown = await self._show.interaction(view)
            yield _Said("interaction.changed", shown, f"interactions/{interaction}", mine, SUPERVISORS)
        case = case or (view.case if view else None)
        near = mine | _writer(event)
        if view is not None and kind in MESSAGES_ADDED:
            shown = await self._show.interaction(view)
            yield _Said("interaction.changed", shown, f"interactions/{interaction}", mine, case=case)
        of_thread = event.data.get("thread") or (view.thread if view else None)
        if wanted and of_thread is not None and kind in THREAD_EVENTS:
            told = await self._stores.messages.thread(UUID(str(of_thread)))
            if told is not None:
                thread = {"thread": self._show.thread(told)}
                yield _Said("thread.changed", thread, f"threads/{of_thread}", mine, case=case)
        if wanted and case is not None and (item := await self._item(event, case, view)) is not None:
            added = {"case": case, "item": item}
            yield _Said("timeline.added", added, f"cases/{case}", near, case=case)
        if wanted and case is not None and kind in CASE_SHOWN_EVENTS:
            file = await self._stores.cases.get(case)
            if file is not None:
                yield _Said("case.changed", rows.case_row(file), f"cases/{case}", near, case=case)
        if offered is not None:
            yield _Said("offer.made", offered, f"offers/{offered.id}", _only(event.advisor))
        elif wanted and kind in MESSAGE_EVENTS:
            message = await self._stores.messages.get(UUID(str(event.data["message"])))
            if message is not None:
                name = "message.added" if kind in MESSAGES_ADDED else "message.changed"
                data = {"message": self._show.message(message)}
                yield _Said(name, data, f"messages/{message.id}", near, case=message.case)
        elif (main := await self._main(past, case)) is not None:
            yield main

    async def _main(self, past: Past, case: UUID | None) -> _Said | None:
        """The frame of an event whose own data says it, or of what has no interaction."""
        event = past.event
        kind, data = event.type, event.data
        if kind is T.REACH_CHANGED and data.get("channel") == "voice":
            reach = {"registered": bool(data["reachable"]), "advisor": event.advisor}
            return _Said("phone.changed", reach, f"advisors/{event.advisor}", past.owners)
        if kind is T.OFFER_ENDED:
            ended = {
                "offer": str(data["offer"]),
                "how": data.get("how"),
                "reason": data.get("reason"),
                "interaction": str(event.interaction),
            }
            return _Said("offer.ended", ended, f"offers/{data['offer']}", past.owners)
        if kind in HELP_EVENTS and case is not None:
            asked = await self._show.help(case, UUID(str(data["help"])))
            return (
                _Said("help.changed", {"help": rows.help_row(asked)}, f"helps/{asked.id}") if asked else None
            )
        if kind is T.ACCOUNT_CHANGED:
            accounts = await self._show.accounts()
            account = next((a for a in accounts if a.account == data["account"]), None)
            return (
                _Said("account.changed", {"account": account}, f"accounts/{data['account']}")
                if account
                else None
            )
        if kind in CONTACT_EVENTS and event.contact is not None:
            return _Said("contact.changed", {"contact": str(event.contact)}, f"contacts/{event.contact}")
        if kind is T.SITE_APPLIED:
            notice = {"level": "info", "code": "site_applied", "args": dict(data)}
            return _Said("notice", notice, "site")
        return None

    async def _item(self, event: Event, case: UUID, view: InteractionView | None) -> schemas.Item | None:
        """The event's place in the timeline of its case."""
        if rows.timeline_kind(event) is None:
            return None
        notes = await self._stores.timeline.notes(case) if event.type is T.NOTE_ADDED else {}
        recordings = {}
        if event.type in FINAL_EVENTS and view is not None and view.recordings:
            stored = await self._stores.recordings.of_interaction(view.id)
            recordings = {r.id: r.duration_ms for r in stored}
        return rows.item(event, notes=notes, view=view, recordings=recordings)

    async def _offer(self, event: Event) -> tuple[schemas.Offer, PopRows] | None:
        async with self._offers:
            return await self._show.offer(event)

    async def _view(self, interaction: UUID) -> InteractionView | None:
        """An interaction as it stands, read once for all events that came with its last one."""
        reading = self._views.get(interaction)
        if reading is None or (reading.done() and (reading.cancelled() or reading.exception() is not None)):
            if len(self._views) > VIEWS_KEPT:
                self._views.clear()
            reading = asyncio.create_task(self._read(interaction))
            self._views[interaction] = reading
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)
        return await asyncio.shield(reading)

    async def _read(self, interaction: UUID) -> InteractionView | None:
        return await self._stores.timeline.interaction(interaction)


def _near(past: Past, page: Page) -> bool:
    """Whether its person has the interaction, wrote, or has opened the case."""
    return page.caller.login in past.owners | _writer(past.event) or past.event.case in page.cases


def _writer(event: Event) -> frozenset[str]:
    return _only(str(event.data["by"]) if event.data.get("by") else None)


def _only(login: str | None) -> frozenset[str]:
    return frozenset({login} if login else ())
