"""The console's live wire: one WebSocket a page, fed from committed events in order.

Rule 1: a frame is made of one event; frames beside the main one go first, with the sequence number before it, so that a
page that resumes after `seq` n has had everything up to n and nothing beyond.
Rule 2: each page is told in the order of the events, and waits only for those that concern it: an offer is not late
because of what somebody else is told.
Rule 3: a page that does not read costs at most its bounded queue; then it is closed with 1013 and comes back.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from prometheus_client import Gauge
from pydantic import TypeAdapter, ValidationError

from cti import rows, schemas
from cti.aio import floor
from cti.aio.floor import Floor, Past
from cti.aio.frames import CASE_EVENTS, HELP_EVENTS, MESSAGES_ADDED, Frames
from cti.aio.page import Out, Page, dumps, frame, rest
from cti.aio.views import Views
from cti.collision import Viewers
from routing.aio.web import SUPERVISORS, Caller
from routing.channel import Manifest
from routing.models import FINAL_EVENTS, Clock, Event, T
from routing.site import Site
from routing.store import Stores, WebSession

log = structlog.get_logger(__name__)

KERNEL_BYTES = (
    256 << 10
)  # Linux holds twice that; on its own it would take megabytes before we see a page is stuck
RESUME_EVENTS = 2000  # remembered; further behind, a snapshot is cheaper than what was missed
HEARTBEAT_S = 20.0
CASES_FOLLOWED = 8  # a page hears of so many cases that it opened last

PAGES = Gauge("monofil_pages", "Open console pages")

FROM_PAGE: TypeAdapter[schemas.Shown | schemas.Watch | schemas.Viewing | schemas.Ping] = TypeAdapter(
    schemas.FromPage
)

INBOX_EVENTS = (
    MESSAGES_ADDED
    | CASE_EVENTS
    | HELP_EVENTS
    | FINAL_EVENTS
    | {T.INTERACTION_OPENED, T.ENQUEUED, T.ACCEPTED, T.ASSIGNED, T.REQUEUED, T.HANDED_BACK, T.LEFT_QUEUE}
)


class Desk(floor.Desk, Protocol):
    def subscribe(self, hear: Callable[[Event], None]) -> Callable[[], None]: ...


class Pages(Protocol):
    """Who counts the pages of each advisor."""

    def opened(self, login: str) -> None: ...

    def closed(self, login: str) -> None: ...


class Live:
    """All open pages of one organisation. `async with` it before the first call is taken.

    `views` shows rows as they stand, `floor` who is at which work and how the day goes.
    """

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
        self.inside, self.version = inside, version
        self.board_every_s, self.recheck_every_s = board_every_s, recheck_every_s
        self._counted_by = counted
        self.pages: set[Page] = set()
        self.views = Views(
            stores=stores, site=site, clock=clock, channels=channels or {}, recording=recording
        )
        self.floor = Floor(desk, stores.log, site, clock)
        self._frames = Frames(stores=stores, views=self.views, floor=self.floor, pages=self.pages)
        self.seq = 0  # the last event taken
        self._followed: dict[str, deque[UUID]] = {}
        self._expected: dict[UUID, tuple[str, asyncio.Future[None]]] = {}
        self._making: set[asyncio.Task[list[Out]]] = set()
        self._recent: deque[Past] = deque(maxlen=RESUME_EVENTS)
        self._early: list[Event] | None = []
        self._clock_task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._shown_inside = ""
        self._lit: set[str] = set()
        self._viewers = Viewers()
        self._inbox_dirty = False

    async def __aenter__(self) -> Live:
        self._unsubscribe = self.desk.subscribe(self._heard)
        self.seq = await self.floor.begin()
        early, self._early = self._early or [], None
        for waiting in early:
            if waiting.seq > self.seq:
                self._take(waiting)
        self._clock_task = asyncio.create_task(self._clockwork(), name="live board")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._unsubscribe:
            self._unsubscribe()
        for page in list(self.pages):
            page.close(WSCloseCode.GOING_AWAY)
        ending = [*self._making, *([self._clock_task] if self._clock_task else [])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._frames.close()

    def _heard(self, event: Event) -> None:
        if self._early is not None:
            self._early.append(event)
        else:
            self._take(event)

    def _take(self, event: Event) -> None:
        """One committed event, in order: state first, then its frames, made beside others but told in order."""
        past = self.floor.apply(event)
        self.views.apply(event)
        self._frames.outdate(event)
        self._inbox_dirty |= event.type in INBOX_EVENTS
        self.seq = max(self.seq, event.seq)
        self._recent.append(past)
        concerned = [page for page in self.pages if page.closing is None and self._frames.concern(past, page)]
        if not concerned:
            return
        making = asyncio.create_task(self._frames.of(past), name=f"frames of {event.seq} {event.type}")
        self._making.add(making)
        making.add_done_callback(self._made)
        for page in concerned:
            page.coming.append((event.seq, making))

    def _made(self, making: asyncio.Task[list[Out]]) -> None:
        self._making.discard(making)
        if not making.cancelled() and (error := making.exception()) is not None:
            log.error("frames could not be made", of=making.get_name(), error=repr(error), exc_info=error)
        now_s = time.monotonic()
        for page in self.pages:
            page.put_made(now_s)

    @property
    def told(self) -> int:
        """Up to which event every page has been told all that concerns it."""
        return min((page.told(self.seq) for page in self.pages), default=self.seq)

    def tell(self, advisor: str, kind: str, data: Mapping[str, Any]) -> None:
        """An ephemeral frame to every page of one advisor."""
        self._tell(kind, data, lambda page: page.caller.login == advisor)

    def tell_roles(self, roles: frozenset[str], kind: str, data: Mapping[str, Any]) -> None:
        self._tell(kind, data, lambda page: bool(page.caller.roles & roles))

    def _tell(self, kind: str, data: Mapping[str, Any], to: Callable[[Page], bool]) -> None:
        told = rest(kind, data, self.clock.now())
        now_s = time.monotonic()
        for page in self.pages:
            if to(page) and page.catching_up is None:
                self._put(page, kind, told, now_s)

    def _put(self, page: Page, kind: str, told: str, now_s: float) -> None:
        """An ephemeral frame, with the number up to which this page has been told."""
        page.put(kind, f'{{"seq":{page.told(self.seq)},{told}'.encode(), now_s)

    def viewers(self, case: UUID) -> list[schemas.Viewer]:
        names = {a.id: a.first_name for a in self.site().advisors}
        return [
            schemas.Viewer(login=login, first_name=names.get(login, login), doing=doing)  # type: ignore[arg-type]
            for login, doing in self._viewers.of(case).items()
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
        self._tell_of("customer.typing", interaction, {"on": on})

    def customer_gone(self, interaction: UUID, since: datetime | None) -> None:
        """No page of the visitor is open any more; None: they are back."""
        self.views.gone(interaction, since)
        told = since.isoformat() if since is not None else None
        self._tell_of("customer.gone", interaction, {"since": told})

    def _tell_of(self, kind: str, interaction: UUID, data: Mapping[str, Any]) -> None:
        """To whoever has the interaction, and to whoever looks at its case."""
        row = self.desk.interaction(interaction)
        owner = self.floor.owner(interaction)
        if row is not None:
            self._tell(
                kind,
                {"interaction": str(interaction), **data},
                lambda page: page.caller.login == owner or row.case_id in page.cases,
            )

    async def seen(self, interaction: UUID) -> None:
        """Its advisor has read what the customer wrote."""
        view = await self.stores.timeline.interaction(interaction)
        if view is None or not await self.views.looked(view, self.seq):
            return
        shown = (await self.views.interaction(view)).model_dump(mode="json")
        owner = view.advisor
        self._tell(
            "interaction.changed", shown, lambda page: page.caller.login == owner or view.case in page.cases
        )

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

    def close_pages(self, login: str) -> None:
        for page in self.pages:
            if page.caller.login == login:
                page.close(WSCloseCode.POLICY_VIOLATION)

    def sign_out(self, session: bytes) -> None:
        for page in self.pages:
            if page.session == session:
                page.close(WSCloseCode.POLICY_VIOLATION)

    async def snapshot(self, caller: Caller) -> schemas.Snapshot:
        site = self.site()
        interactions, offers, pops = [], [], []
        for interaction in list(self.floor.seat(caller.login).lines):
            view = await self.stores.timeline.interaction(interaction)
            if view is not None:
                interactions.append(await self.views.interaction(view))
            made = self.floor.offer_of(interaction)
            if made is not None and made.advisor == caller.login and (offer := await self.views.offer(made)):
                offers.append(offer[0])
            elif (pop := await self.views.pop(interaction)) is not None:
                pops.append(pop)
        return schemas.Snapshot(
            me=self.floor.me(caller.login),
            presence=self.floor.presence(caller.login),
            offers=offers,
            interactions=interactions,
            pops=pops,
            colleagues=[schemas.Colleague(login=a.id, first_name=a.first_name) for a in site.advisors],
            board=self.floor.board(caller),
            version=self.version,
            wrapup_codes=[
                schemas.CodeRow(id=c.id, labels=dict(c.labels), solves=c.solves) for c in site.wrapup_codes
            ],
            pause_reasons=list(site.pause_reasons),
            queues=[
                schemas.QueueRow(id=q.id, name=q.name, wrapup_codes=list(q.wrapup_codes)) for q in site.queues
            ],
            site=schemas.SiteRow(name=site.name, languages=list(site.languages), time_zone=site.time_zone),
            accounts=await self.views.accounts(),
            channels={
                name: rows.channel_row(manifest, site.languages[0])
                for name, manifest in self.views.channels.items()
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
        seen = self.seq  # later events find this page; earlier ones come from the log
        writer = asyncio.create_task(page.write())
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
                for out in await self._frames.of(past):
                    if out.for_page(page):
                        page.put(out.kind, out.data, now_s())
            # What is in no event: where things stand now.
            page.put(
                "board.changed",
                frame("board.changed", self.floor.board(page.caller), self.clock.now(), seen).encode(),
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
                self.floor.dirty = True
            case schemas.Viewing(case=case, doing=doing):
                if doing != "none":
                    self.looks_at(page.caller.login, case)
                self.viewing(case, page.caller.login, doing, id(page))
            case schemas.Ping():
                self._put(page, "pong", rest("pong", {}, self.clock.now()), time.monotonic())
        return True

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
            page.look(now_s)
        for case in self._viewers.expire(now_s):
            self._show_viewers(case)
        if not self.pages:
            return
        if self._inbox_dirty:
            self._inbox_dirty = False
            self._tell("inbox.changed", {}, lambda page: True)
        if self.floor.dirty or self.floor.anybody_waits():
            self.floor.dirty = False
            self._show_board(now_s)
        self._show_inside(now_s)

    def _show_board(self, now_s: float) -> None:
        """The rows are written out once; colleagues are for supervisors only."""
        board, now = self.floor.board(), self.clock.now()
        head = board.model_dump_json(exclude={"advisors"})[:-1]
        own = {a.advisor: a.model_dump_json() for a in board.advisors}
        wide = ",".join(own.values())
        start = rest("board.changed", None, now).removesuffix("null}")
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
            told = rest("trees.inside", {"tree": tree, "inside": nodes}, self.clock.now())
            for page in watching:
                self._put(page, f"trees.inside/{tree}", told, now_s)


def sum_versions(versions: Mapping[int, Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for nodes in versions.values():
        for node, count in nodes.items():
            total[node] = total.get(node, 0) + count
    return total
