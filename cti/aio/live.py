"""The console's live wire: one WebSocket a page, fed from committed events in order.

Rule 1: a frame is made of one event; frames beside the main one go first, with the sequence number before it, so that a
page that resumes after `seq` n has had everything up to n and nothing beyond.
Rule 2: entities go out whole, so a frame twice does no harm, and a late one tells the newest state.
Rule 3: who may see a frame is decided here, before it is queued.
Rule 4: a page that does not read costs at most its bounded queue; then it is closed with 1013 and comes back.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from prometheus_client import Counter, Gauge, Histogram
from pydantic import BaseModel, TypeAdapter, ValidationError

from cti import rows, schemas, screenpop
from cti.aio.titles import TreeTitles
from cti.board import ADVISOR_STATES, Tally
from cti.board import Live as Waits
from cti.board import rows as board_rows
from cti.collision import Viewers
from cti.session import Seat, Seats, Work
from cti.unread import Unread
from routing.aio.web import SUPERVISORS, Caller
from routing.channel import Manifest
from routing.distribution import Board as EngineBoard
from routing.models import FINAL_EVENTS, Clock, Event, Presence, State, T
from routing.projection import AdvisorRow, InteractionRow
from routing.site import Advisor, Site
from routing.store import HelpView, InteractionView, MessageView, PopRows, Stores, ThreadView, WebSession

log = structlog.get_logger(__name__)

QUEUE_BYTES = 1 << 20
BEHIND_S = 5.0
CLOSING_S = 1.0  # for a farewell; then the connection is cut
KERNEL_BYTES = (
    256 << 10
)  # Linux holds twice that; on its own it would take megabytes before we see a page is stuck
RESUME_EVENTS = 2000  # remembered; further behind, a snapshot is cheaper than what was missed
HEARTBEAT_S = 20.0
VIEWS_KEPT = 1000  # interactions as last read
BUILDERS = 4  # frames built at once; the pool has other work
CASES_FOLLOWED = 8  # a page hears of so many cases that it opened last

PAGES = Gauge("monofil_pages", "Open console pages")
WAIT = Histogram(
    "monofil_queue_wait_seconds",
    "From entering the queue to the advisor's answer",
    ["queue"],
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
)
MESSAGES = Counter(
    "monofil_messages_total", "Messages by channel and by what became of them", ["channel", "status"]
)
SLOW = Counter("monofil_pages_slow_total", "Pages closed because they did not read")

LAST_MESSAGES = 5  # of a written interaction, told with its offer

FROM_PAGE: TypeAdapter[schemas.Shown | schemas.Watch | schemas.Viewing | schemas.Ping] = TypeAdapter(
    schemas.FromPage
)

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
INBOX_EVENTS = (
    MESSAGES_ADDED
    | CASE_EVENTS
    | HELP_EVENTS
    | FINAL_EVENTS
    | {T.INTERACTION_OPENED, T.ENQUEUED, T.ACCEPTED, T.ASSIGNED, T.REQUEUED, T.HANDED_BACK, T.LEFT_QUEUE}
)
CONTACT_EVENTS = frozenset(
    {T.CONTACT_CHANGED, T.ADDRESS_ADDED, T.CONTACTS_MERGED, T.MERGE_UNDONE, T.CONTACT_CREATED}
)


class Desk(Protocol):
    def subscribe(self, hear: Callable[[Event], None]) -> Callable[[], None]: ...

    def interaction(self, interaction: UUID) -> InteractionRow | None: ...

    def interactions(self) -> list[InteractionRow]: ...

    def advisor(self, advisor: str) -> AdvisorRow | None: ...

    def reachable(self, advisor: str, channel: str) -> bool: ...

    def board(self) -> EngineBoard: ...

    @property
    def healthy(self) -> bool: ...


class Pages(Protocol):
    """Who counts the pages of each advisor."""

    def opened(self, login: str) -> None: ...

    def closed(self, login: str) -> None: ...


_WORK = {
    State.OFFERED.value: Work.RINGING,
    State.OPENED.value: Work.RINGING,  # with an advisor: click-to-call
    State.ACTIVE.value: Work.TALKING,
    State.WRAPUP.value: Work.WRAPUP,
}


@dataclass(frozen=True, slots=True)
class _Past:
    """An event with what it meant when it came: whose it was, and whose seat it changed."""

    event: Event
    owners: frozenset[str]
    changed: str | None


@dataclass(frozen=True, slots=True)
class Out:
    """One frame on its way, with who may see it. No `to`, `roles` or `case`: everybody in the organisation."""

    seq: int
    data: bytes
    kind: str
    to: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    case: UUID | None = None

    def for_page(self, page: Page) -> bool:
        if not self.to and not self.roles and self.case is None:
            return True
        return (
            page.caller.login in self.to
            or bool(self.roles & page.caller.roles)
            or (self.case is not None and self.case in page.cases)
        )


def seats_of(desk: Desk, site: Site, now: datetime) -> list[Seat]:
    """The seats as the desk has them at start."""
    lines: dict[str, dict[UUID, Work]] = {}
    for row in desk.interactions():
        work = _WORK.get(row.state)
        if row.advisor is not None and work is not None:
            lines.setdefault(row.advisor, {})[row.id] = Work.HELD if row.held else work
    found = []
    for advisor in site.advisors:
        state = desk.advisor(advisor.id)
        found.append(
            Seat(
                advisor=advisor.id,
                since=state.since if state else now,
                presence=Presence(state.presence) if state else Presence.OFFLINE,
                reason=state.reason if state else None,
                phone_registered=desk.reachable(advisor.id, "voice"),
                misses=state.misses if state else 0,
                lines=lines.get(advisor.id, {}),
            )
        )
    return found


def waits_of(desk: Desk) -> dict[tuple[str, str], Waits]:
    """Who waits, as the engine counts: also those to whom an advisor is just being rung."""
    return {(q.queue, q.channel): Waits(q.waiting + q.offered, q.longest_wait_s) for q in desk.board().queues}


def dumps(data: Any) -> str:
    if isinstance(data, BaseModel):
        return data.model_dump_json()
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _rest(kind: str, data: Any, at: datetime) -> str:
    return frame(kind, data, at, 0).removeprefix('{"seq":0,')


def frame(kind: str, data: Any, at: datetime, seq: int, *, id: UUID | None = None, subject: str = "") -> str:
    """One frame as text; without `id` it is ephemeral."""
    head: dict[str, Any] = {"seq": seq}
    if id is not None:
        head["id"] = str(id)
    head |= {"type": kind, "time": at.isoformat().replace("+00:00", "Z"), "subject": subject or None}
    return f'{dumps(head)[:-1]},"data":{dumps(data)}}}'


@dataclass(slots=True, eq=False)
class Page:
    """One open page. `session` is the hash of its cookie; `cases` those it opened last."""

    caller: Caller
    session: bytes
    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
    cases: deque[UUID]
    topics: set[str] = field(default_factory=set)
    seen: int = 0  # everything up to here reaches it otherwise than by the pump
    catching_up: list[Out] | None = None
    queue: deque[tuple[str, bytes, float]] = field(default_factory=deque)  # kind, data, queued at (monotonic)
    queued_bytes: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    closing: int | None = None
    closing_since_s: float = 0.0
    sending_since_s: float | None = None

    def put(self, kind: str, data: bytes, now_s: float) -> None:
        """Queue one frame; a board that was not sent yet gives way to the newer one."""
        if self.closing is not None:
            return
        if kind in {"board.changed", "inbox.changed"} or kind.startswith("trees.inside"):
            for n, (queued, old, _) in enumerate(self.queue):
                if queued == kind:
                    self.queued_bytes -= len(old)
                    del self.queue[n]
                    break
        self.queue.append((kind, data, now_s))
        self.queued_bytes += len(data)
        if self.behind(now_s):
            self.close(WSCloseCode.TRY_AGAIN_LATER)
        self.wake.set()

    def behind(self, now_s: float) -> bool:
        oldest_s = self.sending_since_s or (self.queue[0][2] if self.queue else now_s)
        return self.queued_bytes > QUEUE_BYTES or now_s - oldest_s > BEHIND_S

    def close(self, code: int) -> None:
        if self.closing is None:
            self.closing = code
            self.closing_since_s = time.monotonic()
            if code == WSCloseCode.TRY_AGAIN_LATER:
                SLOW.inc()
            self.queue.clear()
            self.queued_bytes = 0
            self.wake.set()


class Live:
    """All open pages of one organisation. `async with` it before the first call is taken."""

    def __init__(
        self,
        *,
        desk: Desk,
        stores: Stores,
        site: Callable[[], Site],
        clock: Clock,
        channels: Mapping[str, Manifest] | None = None,
        inside: Callable[[], Mapping[str, Mapping[int, Mapping[str, int]]]] | None = None,
        recording: Callable[[UUID], bool] = lambda _: False,
        version: str = "0.1.0",
        board_every_s: float = 1.0,
        recheck_every_s: float = 30.0,
        counted: Pages | None = None,
    ) -> None:
        """`inside`: callers in each tree, version and node; `recording`: whether an interaction is recorded now."""
        self.desk, self.stores, self.site, self.clock = desk, stores, site, clock
        self.channels = channels or {}
        self.inside = inside
        self.recording, self.version, self.board_every_s = recording, version, board_every_s
        self.recheck_every_s = recheck_every_s
        self._counted_by = counted
        self.titles = TreeTitles(stores.trees)
        self.seats = Seats()
        self.tally = Tally(site().queues, *self._day())
        self.seq = 0  # the last event taken
        self._sent = 0  # the last event whose frames are out
        self.pages: set[Page] = set()
        self._offers: dict[UUID, Event] = {}  # interaction → its open offer
        self._breaches: dict[tuple[str, str], tuple[datetime, float]] = {}
        self._followed: dict[str, deque[UUID]] = {}
        self._expected: dict[UUID, tuple[str, asyncio.Future[None]]] = {}
        self._pipe: asyncio.Queue[tuple[Event, asyncio.Task[list[Out]] | None]] = asyncio.Queue()
        self._builders = asyncio.Semaphore(BUILDERS)
        self._views: dict[UUID, asyncio.Task[InteractionView | None]] = {}  # read after the last event
        self._reading: set[asyncio.Task[InteractionView | None]] = set()
        self._recent: deque[_Past] = deque(maxlen=RESUME_EVENTS)
        self._early: list[Event] | None = []
        self._dirty = True
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: Callable[[], None] | None = None
        self._shown_inside = ""
        self._lit: set[str] = set()
        self._viewers = Viewers()
        self._unread = Unread()
        self._inbox_dirty = False

    async def __aenter__(self) -> Live:
        self._unsubscribe = self.desk.subscribe(self._heard)
        for row in self.desk.interactions():
            self.tally.know(row.id, row.channel, row.seat)
        await self._replay_day()
        for seat in seats_of(self.desk, self.site(), self.clock.now()):
            self.seats.put(seat)
        early, self._early = self._early or [], None
        for waiting in early:
            if waiting.seq > self.seq:
                self._take(waiting)
        self._tasks = [
            asyncio.create_task(self._pump(), name="live pump"),
            asyncio.create_task(self._clockwork(), name="live board"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._unsubscribe:
            self._unsubscribe()
        ending = (*self._tasks, *self._reading)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        while not self._pipe.empty():
            left, building = self._pipe.get_nowait()
            self.seq = max(self.seq, left.seq)
            if building is not None:
                building.cancel()
                await asyncio.gather(building, return_exceptions=True)
        for page in list(self.pages):
            page.close(WSCloseCode.GOING_AWAY)

    def _day(self) -> tuple[datetime, timedelta]:
        zone = ZoneInfo(self.site().time_zone)
        local = self.clock.now().astimezone(zone)
        start = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        noon = start + timedelta(hours=36)
        end = noon.replace(hour=0)
        return start.astimezone(ZoneInfo("UTC")), end.astimezone(ZoneInfo("UTC")) - start.astimezone(
            ZoneInfo("UTC")
        )

    async def _replay_day(self) -> None:
        """Figures of the day so far and open offers, from the log; where the day begins in it is found by halving."""
        last = await self.stores.log.last_seq()
        low, high = 0, last
        while low < high:
            middle = (low + high) // 2
            found = await self.stores.log.after(middle, limit=1)
            if found and found[0].at < self.tally.start:
                low = found[0].seq
            else:
                high = middle
        at = low
        while at < last:
            events = await self.stores.log.after(at, limit=1000)
            if not events:
                break
            for event in events:
                self.tally.apply(event)
                self._note(event)  # the desk offers anew before anybody listens
                at = event.seq
        self.seq = self._sent = last

    def _heard(self, event: Event) -> None:
        if self._early is not None:
            self._early.append(event)
        else:
            self._take(event)

    def _take(self, event: Event) -> None:
        """One committed event, in order: state first, then its frames, built beside others but sent in order."""
        start, length = self.tally.start, self.tally.length
        if event.at >= start + length:
            self.tally.new_day(*self._day())
        if event.type is T.SITE_APPLIED:
            self.tally.set_queues(self.site().queues)
        if event.type is T.ACCEPTED and event.interaction is not None:
            found = self.tally.waiting(event.interaction)
            if found is not None:
                WAIT.labels(found[0]).observe(max(0.0, (event.at - found[1]).total_seconds()))
        self._dirty |= self.tally.apply(event)
        owners = {event.advisor, self._owner(event)}
        changed = self.seats.apply(event)
        owners.add(self._owner(event))
        self._dirty |= changed is not None
        self._note(event)
        self._unread.apply(event)
        self._count_message(event)
        self._inbox_dirty |= event.type in INBOX_EVENTS
        self._outdate(event)
        self.seq = max(self.seq, event.seq)
        past = _Past(event, frozenset(a for a in owners if a), changed)
        self._recent.append(past)
        building = asyncio.create_task(self._frames(past)) if self.pages else None
        self._pipe.put_nowait((event, building))

    def _note(self, event: Event) -> None:
        interaction = event.interaction
        if event.type is T.BREACH_FORECAST:
            key = (str(event.data["queue"]), str(event.data["channel"]))
            self._breaches[key] = (event.at, float(event.data["in_s"]))
            self._dirty = True
        if interaction is None:
            return
        if event.type is T.OFFERED:
            self._offers[interaction] = event
        elif event.type is T.OFFER_ENDED or event.type in FINAL_EVENTS:
            self._offers.pop(interaction, None)

    def _count_message(self, event: Event) -> None:
        status = {T.MESSAGE_RECEIVED: "received", T.MESSAGE_WRITTEN: "written"}.get(event.type)
        if event.type is T.MESSAGE_STATUS:
            status = str(event.data["status"])
        if status is not None and event.interaction is not None:
            row = self.desk.interaction(event.interaction)
            MESSAGES.labels(row.channel if row else "unknown", status).inc()

    async def _count_of(self, view: InteractionView) -> int:
        """The unread messages of a written interaction that lives; read once for those from before our start."""
        if view.thread is None or view.ended_at is not None:
            return 0
        if self._unread.begin(view.id):
            try:
                self._unread.remember(view.id, await self.stores.messages.of_interaction(view.id))
            except BaseException:
                self._unread.forget(view.id)
                raise
        return self._unread.count(view.id)

    async def interaction(self, view: InteractionView) -> schemas.Interaction:
        return rows.interaction(view, recording=self.recording(view.id), unread=await self._count_of(view))

    def message(self, view: MessageView) -> schemas.Message:
        site = self.site()
        account = next((a for a in site.accounts if a.id == view.account), None)
        return rows.message(view, account.channel if account else "", site)

    def thread(self, view: ThreadView) -> schemas.Thread:
        """Of a channel that is not here any more, nothing can be written."""
        manifest = self.channels.get(view.channel) or Manifest(
            name=view.channel,
            seat="chat",
            address_kind=view.address_kind,
            labels={},
            text_chars=0,
            window_h=0.0,
        )
        return rows.thread(view, manifest, self.site(), self.clock.now())

    def viewers(self, case: UUID) -> list[schemas.Viewer]:
        names = {a.id: a.first_name for a in self.site().advisors}
        return [
            schemas.Viewer(login=login, first_name=names.get(login, login), doing=doing)  # type: ignore[arg-type]
            for login, doing in self._viewers.of(case).items()
        ]

    async def accounts(self) -> list[schemas.AccountRow]:
        """Every account of the site, as it stands."""
        site = self.site()
        if not site.accounts:
            return []
        states = {state.account: state for state in await self.stores.account_states.all()}
        waiting = await self.stores.outbox.lengths()
        language = site.languages[0]
        return [
            rows.account_row(
                a, self.channels.get(a.channel), states.get(a.id), language, waiting.get(a.id, 0)
            )
            for a in site.accounts
        ]

    def viewing(self, case: UUID, login: str, doing: str, page: int = 0) -> None:
        """Somebody looks at a case or types in it; their colleagues see it at once."""
        if self._viewers.said(case, login, page, doing, time.monotonic()):
            self._show_viewers(case)

    def _show_viewers(self, case: UUID) -> None:
        data = {"case": str(case), "viewers": self.viewers(case)}
        self._tell("case.viewers", data, lambda page: case in page.cases)

    def customer_typing(self, interaction: UUID, on: bool) -> None:
        """The customer types (or has stopped): said by the channel."""
        row = self.desk.interaction(interaction)
        owner = self.seats.owner(interaction)
        if row is not None:
            data = {"interaction": str(interaction), "on": on}
            self._tell(
                "customer.typing", data, lambda page: page.caller.login == owner or row.case_id in page.cases
            )

    async def seen(self, interaction: UUID) -> None:
        """Its advisor has read what the customer wrote."""
        view = await self.stores.timeline.interaction(interaction)
        if view is None or not await self._count_of(view):
            return
        self._unread.looked(interaction, self.seq)
        shown = (await self.interaction(view)).model_dump(mode="json")
        owner = view.advisor
        self._tell(
            "interaction.changed", shown, lambda page: page.caller.login == owner or view.case in page.cases
        )

    def _owner(self, event: Event) -> str | None:
        return self.seats.owner(event.interaction) if event.interaction else None

    def _wanted(self, past: _Past) -> bool:
        """Whether an open page may see what happened to the event's interaction or case: else nothing is read."""
        people = past.owners | {str(past.event.data.get("by"))}
        case = past.event.case
        return any(
            page.caller.login in people
            or bool(page.caller.roles & SUPERVISORS)
            or case is None
            or case in page.cases
            for page in self.pages
        )

    def _near(self, past: _Past) -> bool:
        """Whether somebody looks who may read along: who has the interaction, wrote, or has opened the case."""
        people = past.owners | {str(past.event.data.get("by"))}
        return any(page.caller.login in people or past.event.case in page.cases for page in self.pages)

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
        return await self.stores.timeline.interaction(interaction)

    def _outdate(self, event: Event) -> None:
        if event.interaction is None or event.type in CASE_EVENTS or event.type in CONTACT_EVENTS:
            self._views.clear()
        else:
            self._views.pop(event.interaction, None)

    async def _frames(self, past: _Past) -> list[Out]:
        async with self._builders:
            return [out async for out in self._make(past)]

    async def _make(self, past: _Past) -> AsyncIterator[Out]:
        """Frames of one event: those beside it (with the number before), then the main one."""
        event, mine = past.event, past.owners
        kind, interaction, case = event.type, event.interaction, event.case
        presence = self._presence(past.changed) if past.changed else None
        beside: list[tuple[str, Any, frozenset[str], frozenset[str], UUID | None, str]] = []
        main: tuple[str, Any, frozenset[str], frozenset[str], UUID | None, str] | None = None
        timeline = self.stores.timeline
        if presence is not None:
            row = (
                "presence.changed",
                presence,
                frozenset({presence.advisor}),
                SUPERVISORS,
                None,
                f"advisors/{presence.advisor}",
            )
            if kind is T.PRESENCE_CHANGED:
                main = row
            else:
                beside.append(row)
        if kind is T.REACH_CHANGED and event.data.get("channel") == "voice":
            registered = bool(event.data["reachable"])
            main = (
                "phone.changed",
                {"registered": registered, "advisor": event.advisor},
                mine,
                frozenset(),
                None,
                f"advisors/{event.advisor}",
            )
        wanted = self._near(past) if kind in MESSAGE_EVENTS else self._wanted(past)
        view, made = None, None
        if wanted and kind is T.OFFERED and (made := await self._offer_rows(event)) is not None:
            view = made[1].interaction
        elif (
            wanted
            and interaction is not None
            and (kind in INTERACTION_EVENTS or kind is T.OFFER_ENDED or rows.timeline_kind(event))
        ):
            view = await self._view(interaction)
        if view is not None and (kind in INTERACTION_EVENTS or kind in {T.OFFERED, T.OFFER_ENDED}):
            shown = await self.interaction(view)
            beside.append(
                ("interaction.changed", shown, mine, SUPERVISORS, None, f"interactions/{interaction}")
            )
        if made is not None:
            offer = made[0]
            to = frozenset({event.advisor} if event.advisor else ())
            main = ("offer.made", offer, to, frozenset(), None, f"offers/{offer.id}")
        if kind is T.OFFER_ENDED:
            data = {
                "offer": str(event.data["offer"]),
                "how": event.data.get("how"),
                "reason": event.data.get("reason"),
                "interaction": str(interaction),
            }
            main = ("offer.ended", data, mine, frozenset(), None, f"offers/{event.data['offer']}")
        case = case or (view.case if view else None)
        writer = frozenset({str(event.data["by"])} if event.data.get("by") else ())
        if view is not None and kind in MESSAGES_ADDED:
            shown = await self.interaction(view)
            beside.append(
                ("interaction.changed", shown, mine, frozenset(), case, f"interactions/{interaction}")
            )
        of_thread = event.data.get("thread") or (view.thread if view else None)
        if wanted and of_thread is not None and kind in THREAD_EVENTS:
            told = await self.stores.messages.thread(UUID(str(of_thread)))
            if told is not None:
                row_ = {"thread": self.thread(told)}
                beside.append(("thread.changed", row_, mine, frozenset(), case, f"threads/{of_thread}"))
        if wanted and case is not None and rows.timeline_kind(event):
            notes = await timeline.notes(case) if kind is T.NOTE_ADDED else {}
            recordings = {}
            if kind in FINAL_EVENTS and view is not None:
                recordings = {
                    r.id: r.duration_ms for r in await self.stores.recordings.of_interaction(view.id)
                }
            item = rows.item(event, notes=notes, view=view, recordings=recordings)
            if item is not None:
                item_ = {"case": case, "item": item}
                beside.append(("timeline.added", item_, mine | writer, frozenset(), case, f"cases/{case}"))
        if (
            wanted
            and case is not None
            and (kind in CASE_EVENTS or kind in FINAL_EVENTS or kind is T.INTERACTION_OPENED)
        ):
            found = await self.stores.cases.get(case)
            if found is not None:
                to = mine | writer
                beside.append(("case.changed", rows.case_row(found), to, frozenset(), case, f"cases/{case}"))
        if wanted and kind in MESSAGE_EVENTS:
            message = await self.stores.messages.get(UUID(str(event.data["message"])))
            if message is not None:
                name = "message.added" if kind in MESSAGES_ADDED else "message.changed"
                said = {"message": self.message(message)}
                main = (name, said, mine | writer, frozenset(), message.case, f"messages/{message.id}")
        if kind in HELP_EVENTS and case is not None:
            asked = await self._help(case, UUID(str(event.data["help"])))
            if asked is not None:
                help_ = {"help": rows.help_row(asked)}
                main = ("help.changed", help_, frozenset(), frozenset(), None, f"helps/{asked.id}")
        if kind is T.ACCOUNT_CHANGED:
            for account in await self.accounts():
                if account.account == event.data["account"]:
                    row__ = {"account": account}
                    subject_ = f"accounts/{account.account}"
                    main = ("account.changed", row__, frozenset(), frozenset(), None, subject_)
        if kind in CONTACT_EVENTS and event.contact is not None:
            data = {"contact": str(event.contact)}
            main = ("contact.changed", data, frozenset(), frozenset(), None, f"contacts/{event.contact}")
        if kind is T.SITE_APPLIED:
            data = {"level": "info", "code": "site_applied", "args": dict(event.data)}
            main = ("notice", data, frozenset(), frozenset(), None, "site")
        if main is None and beside:
            main = beside.pop()
        for kind_, data, to, roles, of_case, subject in beside:
            text = frame(kind_, data, event.at, event.seq - 1, subject=subject)
            yield Out(event.seq, text.encode(), kind_, to, roles, of_case)
        if main is not None:
            kind_, data, to, roles, of_case, subject = main
            text = frame(kind_, data, event.at, event.seq, id=event.id, subject=subject)
            yield Out(event.seq, text.encode(), kind_, to, roles, of_case)

    async def _help(self, case: UUID, id: UUID) -> HelpView | None:
        return next((h for h in await self.stores.helps.of_case(case) if h.id == id), None)

    async def _pump(self) -> None:
        while True:
            event, building = await self._pipe.get()
            if building is None:
                self._sent = event.seq
                continue
            try:
                outs = await building
            except asyncio.CancelledError:
                raise
            except Exception:
                # The page would otherwise believe it has seen this event; let it come back and read it anew.
                log.exception("frames could not be made", seq=event.seq, type=str(event.type))
                for page in self.pages:
                    page.close(WSCloseCode.TRY_AGAIN_LATER)
                self._sent = event.seq
                continue
            now_s = time.monotonic()
            for page in self.pages:
                for out in outs:
                    if out.seq <= page.seen or not out.for_page(page):
                        continue
                    if page.catching_up is not None:
                        page.catching_up.append(out)
                    else:
                        page.put(out.kind, out.data, now_s)
            self._sent = event.seq

    async def offer(self, made: Event) -> schemas.Offer | None:
        """An offer with everything its advisor needs to know."""
        found = await self._offer_rows(made)
        return found[0] if found else None

    async def _offer_rows(self, made: Event) -> tuple[schemas.Offer, PopRows] | None:
        assert made.interaction is not None
        found = await self.stores.timeline.pop(made.interaction)
        if found is None:
            return None
        queue = next((q for q in self.site().queues if q.id == found.interaction.queue), None)
        called = found.interaction.channel == "voice"
        offer = schemas.Offer(
            id=UUID(str(made.data["offer"])),
            interaction=await self.interaction(found.interaction),
            deadline=datetime.fromtimestamp(float(made.data["deadline"]), made.at.tzinfo),
            made_at=made.at,
            pop=await self._told(found),
            pop_at=queue.pop if queue and called else "ring",
        )
        return offer, found

    async def _told(self, found: PopRows) -> schemas.Pop:
        titles = await self.titles.of(found.path)
        messages: list[MessageView] = []
        if found.interaction.thread is not None:
            messages = list(await self.stores.messages.of_interaction(found.interaction.id))[-LAST_MESSAGES:]
        return screenpop.pop(found, self.site(), self.clock.now(), titles, messages)

    async def pop(self, interaction: UUID) -> schemas.Pop | None:
        """What the advisor of an interaction was told, as it stands now."""
        found = await self.stores.timeline.pop(interaction)
        return await self._told(found) if found is not None else None

    def tell(self, advisor: str, kind: str, data: Mapping[str, Any]) -> None:
        """An ephemeral frame to every page of one advisor."""
        self._tell(kind, data, lambda page: page.caller.login == advisor)

    def tell_roles(self, roles: frozenset[str], kind: str, data: Mapping[str, Any]) -> None:
        self._tell(kind, data, lambda page: bool(page.caller.roles & roles))

    def _tell(self, kind: str, data: Mapping[str, Any], to: Callable[[Page], bool]) -> None:
        rest = _rest(kind, data, self.clock.now())
        now_s = time.monotonic()
        for page in self.pages:
            if to(page) and page.catching_up is None:
                self._put(page, kind, rest, now_s)

    def _put(self, page: Page, kind: str, rest: str, now_s: float) -> None:
        """An ephemeral frame, with the last sequence number that this page has been sent."""
        page.put(kind, f'{{"seq":{max(self._sent, page.seen)},{rest}'.encode(), now_s)

    def expect(self, offer: UUID, advisor: str) -> asyncio.Future[None] | None:
        if not any(page.caller.login == advisor and page.closing is None for page in self.pages):
            return None
        shown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._expected[offer] = (advisor, shown)
        return shown

    def forget(self, offer: UUID) -> None:
        _, shown = self._expected.pop(offer, ("", None))
        if shown is not None and not shown.done():
            shown.cancel()

    def looks_at(self, login: str, case: UUID) -> None:
        """This person has opened a case: its pages hear of what happens there."""
        followed = self._followed.setdefault(login, deque(maxlen=CASES_FOLLOWED))
        if case in followed:
            followed.remove(case)
        followed.append(case)

    def open_offer(self, offer: UUID) -> Event | None:
        """The event of an offer that is still open."""
        return next((e for e in self._offers.values() if str(e.data["offer"]) == str(offer)), None)

    def close_pages(self, login: str) -> None:
        for page in self.pages:
            if page.caller.login == login:
                page.close(WSCloseCode.POLICY_VIOLATION)

    def _serving(self) -> list[Advisor]:
        """Who takes calls: those who only supervise or administrate are in no figure."""
        return [a for a in self.site().advisors if "advisor" in a.roles or a.phone]

    def counted(self, queue: str, channel: str, figure: str) -> list[UUID]:
        """The interactions behind a figure of the board, most pressing or newest first."""
        if figure == "waiting":
            waiting = [
                row
                for row in self.desk.interactions()
                if (row.queue, row.seat) == (queue, channel) and row.state in {State.WAITING, State.OFFERED}
            ]
            return [row.id for row in sorted(waiting, key=lambda row: (row.since or row.opened_at, row.id))]
        of_the_day = ("answered", "abandoned") if figure == "served" else (figure,)
        ids = [id for name in of_the_day for id in self.tally.counted(queue, channel, name)]
        return sorted(ids, reverse=True)  # UUIDv7: by the time they were opened

    def states(self) -> dict[str, int]:
        """How many advisors are in each of the board's states."""
        counts = dict.fromkeys(ADVISOR_STATES, 0)
        now = self.clock.now()
        for advisor in self._serving():
            counts[self.seats.get(advisor.id, now).state] += 1
        return counts

    def sign_out(self, session: bytes) -> None:
        for page in self.pages:
            if page.session == session:
                page.close(WSCloseCode.POLICY_VIOLATION)

    def _presence(self, advisor: str) -> schemas.Presence | None:
        site = self.site()
        person = next((a for a in site.advisors if a.id == advisor), None)
        return rows.presence(self.seats.get(advisor, self.clock.now()), person, site) if person else None

    def presence(self, advisor: str) -> schemas.Presence | None:
        return self._presence(advisor)

    def me(self, caller: Caller) -> schemas.Me:
        person = next(a for a in self.site().advisors if a.id == caller.login)
        seat = self.seats.get(caller.login, self.clock.now())
        return schemas.Me(
            login=person.id,
            first_name=person.first_name,
            last_name=person.last_name,
            roles=list(person.roles),
            language=person.language,
            phone=schemas.Phone(account=person.phone, registered=seat.phone_registered),
        )

    def board(self, caller: Caller | None = None) -> schemas.Board:
        """The board as `caller` may see it: figures for all, colleagues for supervisors."""
        site, now = self.site(), self.clock.now()
        if now >= self.tally.start + self.tally.length:
            self.tally.new_day(*self._day())
        people = [(a, self.seats.get(a.id, now)) for a in self._serving()]
        staff: dict[str, list[str]] = {}
        for advisor, seat in people:
            for queue in rows.queues_of(advisor, site):
                staff.setdefault(queue, []).append(seat.state)
        live = self._with_breaches(self._waits(now), now)
        wide = caller is None or bool(caller.roles & SUPERVISORS)
        return schemas.Board(
            at=now,
            rows=[rows.board_row(r) for r in board_rows(site.queues, self.tally, live, staff)],
            advisors=[
                rows.presence(seat, a, site)
                for a, seat in people
                if wide or (caller is not None and a.id == caller.login)
            ],
        )

    def _waits(self, now: datetime) -> dict[tuple[str, str], Waits]:
        """The engine's own figures; while it is away, those of the log."""
        return waits_of(self.desk) if self.desk.healthy else self.tally.live(now)

    def _with_breaches(
        self, live: dict[tuple[str, str], Waits], now: datetime
    ) -> dict[tuple[str, str], Waits]:
        for key, (at, in_s) in list(self._breaches.items()):
            left_s = in_s - (now - at).total_seconds()
            if left_s < 0 or key not in live:
                del self._breaches[key]
                continue
            live[key] = Waits(live[key].waiting, live[key].longest_wait_s, None, left_s)
        return live

    async def snapshot(self, caller: Caller) -> schemas.Snapshot:
        site = self.site()
        seat = self.seats.get(caller.login, self.clock.now())
        interactions, offers, pops = [], [], []
        for interaction in list(seat.lines):
            view = await self.stores.timeline.interaction(interaction)
            if view is not None:
                interactions.append(await self.interaction(view))
            made = self._offers.get(interaction)
            if made is not None and made.advisor == caller.login and (offer := await self.offer(made)):
                offers.append(offer)
            elif (pop := await self.pop(interaction)) is not None:
                pops.append(pop)
        return schemas.Snapshot(
            me=self.me(caller),
            presence=self._presence(caller.login),
            offers=offers,
            interactions=interactions,
            pops=pops,
            colleagues=[schemas.Colleague(login=a.id, first_name=a.first_name) for a in site.advisors],
            board=self.board(caller),
            version=self.version,
            wrapup_codes=[
                schemas.CodeRow(id=c.id, labels=dict(c.labels), solves=c.solves) for c in site.wrapup_codes
            ],
            pause_reasons=list(site.pause_reasons),
            queues=[
                schemas.QueueRow(id=q.id, name=q.name, wrapup_codes=list(q.wrapup_codes)) for q in site.queues
            ],
            site=schemas.SiteRow(name=site.name, languages=list(site.languages), time_zone=site.time_zone),
            accounts=await self.accounts(),
            channels={
                name: rows.channel_row(manifest, site.languages[0])
                for name, manifest in self.channels.items()
            },
            tags=list(site.tags),
            archive_reasons=list(site.archive_reasons),
            helps=[rows.help_row(h) for h in await self.stores.helps.open()],
        )

    async def serve(
        self, request: web.Request, caller: Caller, session: WebSession, after: int | None
    ) -> web.WebSocketResponse:
        """Serve one page until it leaves."""
        wire = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=4096, compress=False, timeout=1.0)
        await wire.prepare(request)
        followed = self._followed.setdefault(caller.login, deque(maxlen=CASES_FOLLOWED))
        transport = request.transport
        if transport is not None and (raw := transport.get_extra_info("socket")) is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        page = Page(caller, session.token_hash, wire, transport, followed, catching_up=[])
        self.pages.add(page)
        PAGES.set(len(self.pages))
        if self._counted_by is not None:
            self._counted_by.opened(caller.login)
        seen = page.seen = self.seq  # later events find this page; earlier ones come from the log
        writer = asyncio.create_task(self._write(page))
        try:
            await self._begin(page, after, seen)
            async for message in wire:
                if message.type is not WSMsgType.TEXT or not self._said(page, message.data):
                    page.close(WSCloseCode.POLICY_VIOLATION)
                    break
        finally:
            self.pages.discard(page)
            PAGES.set(len(self.pages))
            if self._counted_by is not None:
                self._counted_by.closed(caller.login)
            for case in self._viewers.left(caller.login, id(page)):
                self._show_viewers(case)
            page.close(WSCloseCode.OK)
            await asyncio.gather(writer, return_exceptions=True)
        return wire

    async def _begin(self, page: Page, after: int | None, seen: int) -> None:
        now_s = time.monotonic
        if after is not None and self._remembers(after, seen):
            for past in [p for p in self._recent if after < p.event.seq <= seen]:
                for out in await self._frames(past):
                    if out.for_page(page):
                        page.put(out.kind, out.data, now_s())
            # What is in no event: where things stand now.
            page.put(
                "board.changed",
                frame("board.changed", self.board(page.caller), self.clock.now(), seen).encode(),
                now_s(),
            )
        else:
            snapshot = await self.snapshot(page.caller)
            page.put("snapshot", frame("snapshot", snapshot, self.clock.now(), seen).encode(), now_s())
        missed, page.catching_up = page.catching_up or [], None
        for out in missed:
            page.put(out.kind, out.data, now_s())

    def _remembers(self, after: int, seen: int) -> bool:
        """Whether everything after that number up to now can still be told."""
        return after == seen or (
            after < seen and bool(self._recent) and self._recent[0].event.seq <= after + 1
        )

    def _said(self, page: Page, text: str) -> bool:
        try:
            told = FROM_PAGE.validate_json(text)
        except ValidationError:
            return False
        match told:
            case schemas.Shown(offer=offer):
                advisor, shown = self._expected.get(offer, ("", None))
                if shown is not None and advisor == page.caller.login and not shown.done():
                    shown.set_result(None)
            case schemas.Watch(type=kind, topic=topic):
                (page.topics.add if kind == "watch" else page.topics.discard)(topic)
                self._shown_inside = ""
                self._dirty = True
            case schemas.Viewing(case=case, doing=doing):
                if doing != "none":
                    self.looks_at(page.caller.login, case)
                self.viewing(case, page.caller.login, doing, id(page))
            case schemas.Ping():
                self._put(page, "pong", _rest("pong", {}, self.clock.now()), time.monotonic())
        return True

    async def _write(self, page: Page) -> None:
        try:
            while page.closing is None:
                while page.queue:
                    _, data, queued_s = page.queue.popleft()
                    page.queued_bytes -= len(data)
                    page.sending_since_s = queued_s
                    await page.socket.send_frame(data, WSMsgType.TEXT)
                    page.sending_since_s = None
                page.wake.clear()
                if page.closing is None and not page.queue:
                    await page.wake.wait()
        except (ConnectionError, RuntimeError):
            page.close(WSCloseCode.ABNORMAL_CLOSURE)
        code = page.closing or WSCloseCode.OK
        if not page.socket.closed:
            try:
                await asyncio.wait_for(page.socket.close(code=code), 2.0)
            except (TimeoutError, ConnectionError, RuntimeError):
                pass
        if code == WSCloseCode.TRY_AGAIN_LATER and page.transport is not None:
            page.transport.abort()

    async def _clockwork(self) -> None:
        """Once a second: the board if it changed, the trees for who watches, and who has stopped reading."""
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        recheck_s = next_s + self.recheck_every_s
        while True:
            next_s = max(next_s + self.board_every_s, loop.time())
            await asyncio.sleep(next_s - loop.time())
            try:
                self._each_second()
            except Exception:
                log.exception("the board could not be made")
            if loop.time() >= recheck_s:
                recheck_s = loop.time() + self.recheck_every_s
                try:
                    await self._recheck()
                except Exception as error:
                    log.warning("sessions could not be looked at again", why=type(error).__name__)

    def _each_second(self) -> None:
        now_s = time.monotonic()
        for page in self.pages:
            if page.behind(now_s):
                page.close(WSCloseCode.TRY_AGAIN_LATER)
            stuck = page.closing is not None and now_s - page.closing_since_s > CLOSING_S
            if stuck and page.transport is not None:
                page.transport.abort()  # the farewell does not get through either
        for case in self._viewers.expire(now_s):
            self._show_viewers(case)
        if not self.pages:
            return
        if self._inbox_dirty:
            self._inbox_dirty = False
            self._tell("inbox.changed", {}, lambda page: True)
        if self._dirty or any(w.waiting for w in self._waits(self.clock.now()).values()):
            self._dirty = False
            self._show_board(now_s)
        self._show_inside(now_s)

    def _show_board(self, now_s: float) -> None:
        """The rows are written out once; colleagues are for supervisors only."""
        board, now = self.board(), self.clock.now()
        head = board.model_dump_json(exclude={"advisors"})[:-1]
        own = {a.advisor: a.model_dump_json() for a in board.advisors}
        wide = ",".join(own.values())
        start = _rest("board.changed", None, now).removesuffix("null}")
        for page in self.pages:
            if page.catching_up is None:
                seen = wide if page.caller.roles & SUPERVISORS else own.get(page.caller.login, "")
                self._put(page, "board.changed", f'{start}{head},"advisors":[{seen}]}}}}', now_s)

    async def _recheck(self) -> None:
        """Pages whose session was ended elsewhere are closed; roles are those of the site now."""
        people = {a.id: a for a in self.site().advisors}
        for page in list(self.pages):
            person = people.get(page.caller.login)
            if person is None or await self.stores.people.session(page.session) is None:
                page.close(WSCloseCode.POLICY_VIOLATION)
            else:
                page.caller = replace(page.caller, roles=frozenset(person.roles))

    def _show_inside(self, now_s: float) -> None:
        watching = [page for page in self.pages if "trees" in page.topics and page.catching_up is None]
        if not watching or self.inside is None:
            return
        now = {tree: sum_versions(versions) for tree, versions in self.inside().items()}
        now |= {tree: {} for tree in self._lit - now.keys()}
        self._lit = {tree for tree, nodes in now.items() if nodes}
        text = dumps(now)
        if text == self._shown_inside:
            return
        self._shown_inside = text
        for tree, nodes in now.items():
            rest = _rest("trees.inside", {"tree": tree, "inside": nodes}, self.clock.now())
            for page in watching:
                self._put(page, f"trees.inside/{tree}", rest, now_s)


def sum_versions(versions: Mapping[int, Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for nodes in versions.values():
        for node, count in nodes.items():
            total[node] = total.get(node, 0) + count
    return total
