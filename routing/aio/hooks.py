"""What providers tell us: proved on the raw bytes, stored, answered, and only then understood and told to the desk.

`answer` is `/hooks/{account}`. Requests that come together are stored in one transaction; 200 is sent after it. Then
each is parsed in the order of arrival, and what happened is told to the desk in the order of each customer, several
customers side by side. Every key and new id comes from the request's id, so that handling one again changes nothing.
Several accounts may share a callback: each event goes to the account that is its receiver. One whose receiver the site
does not know is counted and shown; it waits in the stored body for the account, and for a replay.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol
from uuid import UUID, uuid5

import structlog
from aiohttp import hdrs, web
from prometheus_client import Counter, Histogram

from routing import channel as c
from routing import models as m
from routing.aio.crash import crash_point
from routing.aio.fetch import BYTES, Away, Fetcher, Stored
from routing.aio.rounds import RETRY_S, Rounds
from routing.identity import plain, plain_json
from routing.pace import Pace
from routing.site import Account, Site
from routing.store import ChannelSecrets, Known, Messages, Outbox, RawRequest, Requests, Unavailable

BODY_BYTES = 5 << 20
READ_S = 10.0  # a provider sends its body within
STORE_S = 8.0  # it is stored within, or the provider is asked to come again
GROUP = 200  # requests in one transaction
GROUP_BYTES = 16 << 20
WAITING_BYTES = 64 << 20  # bodies that wait to be stored; more are told to come again
RATE, BURST = 500.0, 2000.0  # requests of one address a second, and at once
REFUSED_COST = 50.0  # what a request that was not proved costs of them
ADDRESSES = 10_000
SECRETS_S = 2.0  # a changed secret holds after so long
BESIDE = 400  # requests being handled at once
BESIDE_EACH = 100  # of one account
FETCHES = 8
ASIDE_BYTES = 128 << 10  # a larger body is parsed in a thread, so that nobody else has to wait for it
SLICE = 100  # events of one request that begin at once
LOOK_S = 5.0
GATHER_S = 0.005  # between two looks: what comes meanwhile is found by one
LATER_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # until a receipt's message may be known
GIVE_UP_S = 600.0
KEPT_DAYS = 30
SUBJECT_DAYS = 7  # the same sender under the same subject within: the same matter
TEXT_CHARS = 200_000
ID_CHARS = 1_000

ANSWERS = Counter("monofil_hooks_total", "Requests of providers, by answer", ["channel", "answer"])
HEARD = Counter("monofil_hook_events_total", "What they told", ["channel", "kind", "result"])
SECONDS = Histogram(
    "monofil_hook_seconds",
    "From a provider's request to its answer",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0),
)
BUGS = Counter("monofil_hook_failures_total", "Events of providers that we could not handle", ["channel"])

Parse = Callable[[bytes, Account], Awaitable[tuple[c.Heard, ...]]]
Clean = Callable[[str], str]
Prove = Callable[[str, c.Secrets], int | None]
Typing = Callable[[str, c.Peer, bool], None]
Source = Callable[[web.Request], str]
Result = Mapping[str, Any]
log = structlog.get_logger(__name__)


class Teller(Protocol):
    """The desk, as far as an edge needs it."""

    organisation: UUID

    async def submit(self, submission: m.Submission) -> m.Outcome: ...


class TryAgain(Exception):
    """The desk or the database cannot take it now."""


@dataclass(slots=True)
class _Arrived:
    request: RawRequest
    stored: asyncio.Future[None]


@dataclass(slots=True)
class _Notes:
    """What became of the events of one request, by their place in it."""

    events: int = 0
    told: int = 0
    known: int = 0  # were there already
    waiting: list[int] = field(default_factory=list)  # for a message that we do not know yet
    unknown: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    no_account: list[str] = field(default_factory=list)  # receivers that the site does not know
    given_up: list[int] = field(default_factory=list)
    fetches: list[asyncio.Task[None]] = field(default_factory=list)  # of files, which nobody else waits for

    def result(self) -> dict[str, Any]:
        lists = ("waiting", "unknown", "failed", "refused", "moved", "no_account", "given_up")
        counts = {"events": self.events, "told": self.told, "known": self.known}
        return counts | {name: getattr(self, name) for name in lists if getattr(self, name)}


def _never_proved(token: str, secrets: c.Secrets) -> None:
    return None


def _peer(request: web.Request) -> str:
    return request.remote or ""


class Hooks:
    """`async with Hooks(…) as hooks`: from then on stored requests are handled, those of a former life first."""

    def __init__(
        self,
        *,
        site: Callable[[], Site],
        channels: Mapping[str, c.Channel],
        requests: Requests,
        messages: Messages,
        outbox: Outbox,
        secrets: ChannelSecrets,
        desk: Teller,
        clock: m.Clock,
        ids: m.Ids,
        files: Fetcher,
        public_url: str,
        clean: Clean = str,
        prove: Prove = _never_proved,
        parsers: Mapping[str, Parse] | None = None,
        typed: Typing | None = None,
        source: Source = _peer,
        kept_days: float = KEPT_DAYS,
    ) -> None:
        """`parsers`: by channel, where parsing waits (a child process). `clean` makes HTML safe to show.

        `prove(token, secrets of the account)` gives the case number of a token whose check holds.
        `typed(account, peer, on)` hears of customers who type; nothing of it is stored.
        `source` is the address that a request comes from, also behind a proxy: each has a pace of its own.
        """
        self._site, self._channels = site, channels
        self._requests, self._messages, self._outbox, self._secrets = requests, messages, outbox, secrets
        self._desk, self._clock, self._ids, self._files = desk, clock, ids, files
        self._public_url = public_url.rstrip("/")
        self._clean, self._prove, self._parsers, self._typed = clean, prove, dict(parsers or {}), typed
        self._source = source
        self._kept_days = kept_days
        self._arrived: deque[_Arrived] = deque()
        self._waiting_bytes = 0
        self._store = asyncio.Event()
        self._rounds = Rounds("stored requests", gather_s=GATHER_S, bugs=BUGS)
        self._beside: dict[UUID, str] = {}  # requests being handled, and their account
        self._done: dict[UUID, Result] = {}
        self._settle = asyncio.Event()
        self._parsing: set[str] = set()
        self._tails: dict[tuple[str, str, str], asyncio.Task[None]] = {}
        self._fetches = asyncio.Semaphore(FETCHES)
        self._paces: OrderedDict[str, Pace] = OrderedDict()
        self._kept_secrets: dict[str, tuple[float, c.Secrets]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._forgotten: datetime | None = None

    async def __aenter__(self) -> Hooks:
        for work, name in (
            (self._storing(), "store"),
            (self._rounds.make(self._look), "handle"),
            (self._settling(), "settle"),
        ):
            self._start(work, f"hooks {name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What is not handled yet is handled in the next life."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for arrived in self._arrived:
            if not arrived.stored.done():
                arrived.stored.set_exception(Unavailable("stopping"))
                arrived.stored.exception()

    def nudge(self) -> None:
        """Look at the clock again: it has been shifted (tests, demo)."""
        self._rounds.ring()

    def _start(self, work: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A plain aiohttp handler: `app.router.add_route("*", "/hooks/{account}", hooks.answer)`."""
        began = asyncio.get_running_loop().time()
        account = self._account(request.match_info["account"])
        if account is None or account.hook is not None:
            ANSWERS.labels("", "404").inc()
            return web.Response(status=404)
        response = await self._answer(request, account)
        ANSWERS.labels(account.channel, str(response.status)).inc()
        SECONDS.observe(asyncio.get_running_loop().time() - began)
        crash_point("hook.answered")
        return response

    async def _answer(self, request: web.Request, account: Account) -> web.Response:
        now = asyncio.get_running_loop().time()
        pace = self._pace(self._source(request))
        if not pace.allow(now):
            return web.Response(status=429, headers={hdrs.RETRY_AFTER: "5"})
        if request.method not in (hdrs.METH_GET, hdrs.METH_POST):
            return web.Response(status=405, headers={hdrs.ALLOW: "GET, POST"})
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            return _closing(415)  # what the signature was made of would be gone
        try:
            body = await self._read(request)
        except TimeoutError:
            return _closing(408)
        if body is None:
            return _closing(413)
        asked = c.Request(
            method=request.method,
            url=f"{self._public_url}{plain(request.path_qs)}",
            query=plain_json(dict(request.query)),
            headers=plain_json({name.lower(): value for name, value in request.headers.items()}),
            body=body,
        )
        try:
            async with asyncio.timeout(STORE_S):
                judged = self._channels[account.channel].verify(asked, account, await self._of(account))
                if not judged.accepted:
                    judged = await self._judged_anew(asked, account, judged)
                if not judged.accepted:
                    pace.spend(now, REFUSED_COST)
                    status = judged.status if judged.status >= 400 else 401
                    log.warning("a request was not the provider's", account=account.id, why=judged.why)
                    return web.Response(status=status, text=judged.body)
                crash_point("hook.verified")
                if request.method == hdrs.METH_POST:
                    await self.take(
                        account.id,
                        body,
                        _kept(asked.headers, self._channels[account.channel].MANIFEST.kept_headers),
                    )
        except (Unavailable, TimeoutError):
            return web.Response(status=503, headers={hdrs.RETRY_AFTER: "2"})
        return web.Response(status=judged.status, text=judged.body, content_type="text/plain")

    async def _judged_anew(self, asked: c.Request, account: Account, judged: c.Answer) -> c.Answer:
        """The secret may have been changed a moment ago."""
        kept = self._kept_secrets.pop(account.id)
        if await self._of(account) == kept[1]:
            return judged
        return self._channels[account.channel].verify(asked, account, await self._of(account))

    async def take(self, account: str, body: bytes, headers: Mapping[str, str]) -> UUID:
        """Keep the bytes of a proved request (or a mail); returns its id once they are safe. Raises Unavailable."""
        if self._waiting_bytes + len(body) > WAITING_BYTES:
            raise Unavailable("too much is waiting to be stored")
        request = RawRequest(self._ids(), account, self._clock.now(), plain_json(dict(headers)), body)
        arrived = _Arrived(request, asyncio.get_running_loop().create_future())
        self._arrived.append(arrived)
        self._waiting_bytes += len(body)
        self._store.set()
        await asyncio.shield(arrived.stored)
        return request.id

    async def _read(self, request: web.Request) -> bytes | None:
        """None: too large. Raises TimeoutError."""
        if (request.content_length or 0) > BODY_BYTES:
            return None
        body = bytearray()
        async with asyncio.timeout(READ_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > BODY_BYTES:
                    return None
        return bytes(body)

    def _pace(self, address: str) -> Pace:
        pace = self._paces.get(address)
        if pace is None:
            pace = self._paces[address] = Pace(RATE, BURST)
            if len(self._paces) > ADDRESSES:
                self._paces.popitem(last=False)
        self._paces.move_to_end(address)
        return pace

    def _account(self, id: str) -> Account | None:
        account = self._site().account(id)
        return account if account is not None and account.channel in self._channels else None

    def _receiver(self, one: c.Heard, asked: Account) -> Account | None:
        """Whose event it is, among the accounts whose requests come by the callback of the one that was asked."""
        if not one.receiver:
            return asked
        key = self._channels[asked.channel].MANIFEST.identity
        for account in self._site().accounts:
            shares = account.channel == asked.channel and asked.id in (account.id, account.hook)
            if shares and (key is None or account.settings.get(key) == one.receiver):
                return account
        return None

    async def _of(self, account: Account) -> c.Secrets:
        now = asyncio.get_running_loop().time()
        kept = self._kept_secrets.get(account.id)
        if kept is None or kept[0] < now:
            kept = self._kept_secrets[account.id] = (now + SECRETS_S, await self._secrets.of(account.id))
        return kept[1]

    async def _storing(self) -> None:
        """While one group is being stored the next one gathers."""
        while True:
            await self._store.wait()
            self._store.clear()
            while self._arrived:
                group, size = [self._arrived.popleft()], 0
                while self._arrived and len(group) < GROUP and size < GROUP_BYTES:
                    size += len(self._arrived[0].request.body)
                    group.append(self._arrived.popleft())
                failed: Exception | None = None
                try:
                    await self._requests.add([arrived.request for arrived in group])
                    crash_point("hook.stored")
                except Unavailable as error:
                    failed = error
                except Exception as error:
                    log.error("requests could not be stored", error=repr(error), exc_info=error)
                    failed = Unavailable(repr(error))
                for arrived in group:
                    self._waiting_bytes -= len(arrived.request.body)
                    if arrived.stored.done():
                        continue
                    if failed is None:
                        arrived.stored.set_result(None)
                    else:
                        arrived.stored.set_exception(failed)
                        arrived.stored.exception()
                self._rounds.ring()

    async def replay(self, id: UUID) -> Result:
        """Handle a stored request again; what is there already stays as it is. LookupError: there is none."""
        found = await self._requests.get(id)
        if found is None:
            raise LookupError(f"there is no request {id}")
        account = self._account(found.request.account)
        if account is None:
            raise LookupError(f"there is no account {found.request.account}")
        notes = _Notes()
        try:
            for task in await self._told(
                found.request, account, await self._parsed(found.request, account, notes), notes
            ):
                await task
        except TryAgain as error:
            raise Unavailable(str(error)) from error
        await self._requests.handled(id, self._clock.now(), notes.result())
        return notes.result()

    async def _look(self) -> float:
        """Start what is to be handled; returns when to look again, in seconds."""
        now = self._clock.now()
        await self._forget(now)
        busy = self._busy()
        if len(self._beside) >= BESIDE:
            return LOOK_S
        fresh: dict[str, list[RawRequest]] = {}
        wanted = await self._requests.unhandled(now, limit=BESIDE_EACH, but=busy, without=list(self._beside))
        for request in wanted:
            fresh.setdefault(request.account, []).append(request)
        for id, requests in fresh.items():
            self._parsing.add(id)
            self._beside |= {request.id: id for request in requests}
            self._start(self._account_of(id, requests), f"hooks of {id}")
        if wanted:
            return LOOK_S  # looks again as soon as these are parsed
        due = await self._requests.next_due(self._busy(), list(self._beside))
        return LOOK_S if due is None else min(LOOK_S, max(0.02, (due - now).total_seconds()))

    def _busy(self) -> list[str]:
        counts: dict[str, int] = {}
        for account in self._beside.values():
            counts[account] = counts.get(account, 0) + 1
        return sorted(self._parsing | {account for account, n in counts.items() if n >= BESIDE_EACH})

    async def _forget(self, now: datetime) -> None:
        if self._forgotten is None or now - self._forgotten > timedelta(hours=1):
            self._forgotten = now
            await self._requests.forget(now - timedelta(days=self._kept_days))

    async def _account_of(self, id: str, requests: list[RawRequest]) -> None:
        """Requests of one account, parsed one after another; what they tell goes on side by side."""
        account = self._account(id)
        try:
            for request in requests:
                if account is None:
                    self._finish(request, {"failed": ["the site has no such account"]})
                    continue
                notes = _Notes()
                heard = await self._parsed(request, account, notes)
                tasks = await self._told(request, account, heard, notes)
                self._start(self._finished(request, tasks, notes), f"hook {request.id}")
        finally:
            self._parsing.discard(id)
            self._rounds.ring()

    async def _parsed(self, request: RawRequest, account: Account, notes: _Notes) -> tuple[c.Heard, ...]:
        try:
            if (elsewhere := self._parsers.get(account.channel)) is not None:
                heard = await elsewhere(request.body, account)
            elif len(request.body) > ASIDE_BYTES:
                parse = self._channels[account.channel].parse
                heard = await asyncio.to_thread(parse, request.body, account)
            else:
                heard = self._channels[account.channel].parse(request.body, account)
        except Exception as error:
            self._bug("a request could not be parsed", account, request.id, error)
            notes.failed.append(f"parse: {type(error).__name__}")
            heard = ()
        crash_point("hook.parsed")
        notes.events = len(heard)
        return heard

    async def _told(
        self, request: RawRequest, asked: Account, heard: tuple[c.Heard, ...], notes: _Notes
    ) -> list[asyncio.Task[None]]:
        """One task an event; those of one customer wait for one another."""
        tasks = []
        for index, one in enumerate(heard):
            account = self._receiver(one, asked)
            if account is None:
                self._nobody(request, asked, one, notes)
                continue
            customer = (account.id, one.peer.kind, one.peer.value)
            former = self._tails.get(customer)
            task = self._start(
                self._in_turn(former, request, account, index, one, notes), f"hook {request.id} {index}"
            )
            self._tails[customer] = task
            task.add_done_callback(lambda done, customer=customer: self._left(customer, done))  # type: ignore[misc]
            tasks.append(task)
            if index % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        return tasks

    def _nobody(self, request: RawRequest, asked: Account, one: c.Heard, notes: _Notes) -> None:
        """It is for an account that the site does not know (yet)."""
        HEARD.labels(asked.channel, type(one).__name__.lower(), "no_account").inc()
        receiver = plain(one.receiver)[:200]
        if receiver not in notes.no_account:
            notes.no_account.append(receiver)
            log.warning(
                "an event is for an account that the site does not know",
                hook=asked.id,
                receiver=receiver,
                request=str(request.id),
            )

    def _left(self, customer: tuple[str, str, str], done: asyncio.Task[None]) -> None:
        if self._tails.get(customer) is done:
            del self._tails[customer]

    async def _in_turn(
        self,
        former: asyncio.Task[None] | None,
        request: RawRequest,
        account: Account,
        index: int,
        one: c.Heard,
        notes: _Notes,
    ) -> None:
        if former is not None:
            await asyncio.wait([former])
        kind = type(one).__name__.lower()
        try:
            result = await _Telling(self, request, account, index, notes).tell(one)
        except (TryAgain, Unavailable) as error:
            raise TryAgain(str(error)) from error
        except Exception as error:
            self._bug("an event could not be handled", account, request.id, error)
            notes.failed.append(f"{index}: {type(error).__name__}")
            result = "failed"
        crash_point("hook.told")
        HEARD.labels(account.channel, kind, result).inc()

    def _bug(self, what: str, account: Account, request: UUID, error: Exception) -> None:
        BUGS.labels(account.channel).inc()
        log.error(what, account=account.id, request=str(request), error=type(error).__name__, exc_info=error)

    async def _finished(self, request: RawRequest, tasks: list[asyncio.Task[None]], notes: _Notes) -> None:
        failed = await _ends(tasks, notes)
        try:
            if failed is not None:
                await asyncio.sleep(RETRY_S)  # it stays as it is, and is handled again
                self._beside.pop(request.id, None)
            elif notes.waiting and (age_s := (self._clock.now() - request.at).total_seconds()) < GIVE_UP_S:
                gap_s = next((gap for gap in LATER_S if gap >= age_s), LATER_S[-1])
                await self._requests.later(
                    request.id, self._clock.now() + timedelta(seconds=gap_s), notes.result()
                )
                self._beside.pop(request.id, None)
            else:
                notes.given_up, notes.waiting = notes.waiting, []
                self._finish(request, notes.result())
        except Unavailable:
            self._beside.pop(request.id, None)
        self._rounds.ring()

    def _finish(self, request: RawRequest, result: Result) -> None:
        self._done[request.id] = result
        self._settle.set()

    async def _settling(self) -> None:
        """Marks what is handled, many at once; what cannot be marked is handled once more, without harm."""
        while True:
            await self._settle.wait()
            self._settle.clear()
            done, self._done = self._done, {}
            try:
                await self._requests.handled_all(self._clock.now(), done)
                crash_point("hook.handled")
            except Unavailable:
                self._done = {**done, **self._done}
                await asyncio.sleep(RETRY_S)
                self._settle.set()
                continue
            except Exception as error:
                log.error("handled requests could not be marked", error=repr(error), exc_info=error)
            full = len(self._beside) >= BESIDE_EACH  # then an account may be waiting for room
            for id in done:
                self._beside.pop(id, None)
            if full:
                self._rounds.ring()


class _Telling:
    """One event of a request on its way to the desk."""

    def __init__(
        self, hooks: Hooks, request: RawRequest, account: Account, index: int, notes: _Notes
    ) -> None:
        self._h, self._request, self._account, self._index, self._notes = (
            hooks,
            request,
            account,
            index,
            notes,
        )
        self._own = hooks._desk.organisation

    def _id(self, purpose: str) -> UUID:
        return uuid5(self._request.id, f"{self._index}:{purpose}")

    async def tell(self, one: c.Heard) -> str:
        """What became of it, in a word for the metric."""
        match one:
            case c.Wrote():
                return await self._wrote(one)
            case c.Echoed():
                return await self._echoed(one)
            case c.Receipt():
                return await self._receipt(one)
            case c.Reacted():
                what = "reacted" if one.emoji else "unreacted"
                return await self._changed(one.external_id, what, one.emoji)
            case c.Changed():
                return await self._changed(
                    one.external_id, "unsent" if one.text is None else "edited", one.text or ""
                )
            case c.Typed():
                if self._h._typed is not None:
                    self._h._typed(self._account.id, one.peer, one.on)
                return "told"
            case c.ThreadMoved():
                self._notes.moved.append(f"{'ours' if one.ours else 'theirs'}: {plain(one.why)}"[:200])
                return "kept"
            case c.Unknown():
                self._notes.unknown.append(plain(one.what)[:200])
                return "kept"
        raise AssertionError(f"a channel told of a {type(one).__name__}")

    async def _submit(self, submission: m.Submission) -> bool:
        """Whether it was committed, now or before. Raises TryAgain."""
        refused = (await self._h._desk.submit(submission)).refused
        if refused is None:
            self._notes.told += 1
            return True
        if refused in ("stopping", "overloaded", "failed"):
            if refused == "failed":  # our mistake: not for ever
                self._notes.failed.append(f"{self._index}: refused by the desk")
                return False
            raise TryAgain(refused)
        if refused in ("known_message", "older_status"):
            self._notes.known += 1
        else:
            self._notes.refused.append(f"{self._index}: {refused}")
        return False

    async def _wrote(self, one: c.Wrote) -> str:
        manifest = self._h._channels[self._account.channel].MANIFEST
        message = self._id("message")
        files = [(self._id(f"file {n}"), file) for n, file in enumerate(one.files)]
        case, proved = await self._case(one, manifest)
        committed = await self._submit(
            m.MessageReceived(
                key=self._id("received"),
                organisation=self._own,
                interaction=self._id("interaction"),
                message=message,
                account=self._account.id,
                channel=manifest.name,
                seat=manifest.seat,
                external_id=_external(one.external_id),
                address_kind=one.peer.kind,
                address=plain(one.peer.value),
                name=plain(one.peer.name)[:200],
                more_addresses=tuple((kind, plain(value)) for kind, value in one.peer.more),
                kind=one.kind,
                text=plain(one.text)[:TEXT_CHARS],
                html=self._cleaned(one.html),
                subject=plain(one.subject)[:1000],
                payload=plain(one.payload)[:2000],
                extra=plain_json({**({"referral": one.referral} if one.referral else {}), **one.facts}),
                attached=_attached(files),
                reply_to=await self._named(one.reply_to),
                sent_at=one.at,
                automatic=one.automatic,
                standby=one.standby,
                leaves=one.leaves,
                case=case,
                proved=proved and manifest.parallel,
            )
        )
        if committed:
            self._fetch(message, files, manifest)
            if one.peer.claims:
                await self._claimed(one.peer)
        return "told" if committed else "not_new"

    async def _claimed(self, peer: c.Peer) -> None:
        thread = await self._h._messages.thread_with(self._account.id, peer.kind, plain(peer.value))
        if thread is None:
            return
        claims = tuple((kind, plain(value)) for kind, value in peer.claims)
        told = m.ContactChanged(
            key=self._id("claims"),
            organisation=self._own,
            contact=thread.contact,
            by="",
            add_addresses=claims,
        )
        refused = (await self._h._desk.submit(told)).refused  # unchanged: the contact has them already
        if refused in ("stopping", "overloaded"):
            raise TryAgain(refused)

    def _cleaned(self, html: str) -> str:
        if not html:
            return ""
        try:
            return plain(self._h._clean(html))
        except Exception as error:
            self._h._bug("an HTML text could not be cleaned", self._account, self._request.id, error)
            return ""

    async def _case(self, one: c.Wrote, manifest: c.Manifest) -> tuple[UUID | None, bool]:
        """(the matter that it says it belongs to, whether that is proved).

        By our token in an id that it answers: the case where that message lies by now, if we know it; then by any
        other message that we know, newest first; then by a case number, if the case has heard from this address.
        What has the same subject is only likely.
        """
        messages = self._h._messages
        token = one.token if (said := await self._proved(one.token)) is not None else ""
        names = [_external(each) for each in one.references] if one.trusted else []
        known = await messages.known(self._account.id, [*names, token] if token else names)
        if token:
            return known[token].case if token in known else said, True
        for name in names:
            if name in known:
                return known[name].case, True
        if one.trusted and one.case_number and (case := await self._heard_of(one)) is not None:
            return case, True
        if one.trusted and one.subject and manifest.subject:
            since = self._h._clock.now() - timedelta(days=SUBJECT_DAYS)
            subject = plain(one.subject)
            return await messages.case_by_subject(self._account.id, one.peer.value, subject, since), False
        return None, False

    async def _proved(self, token: str) -> UUID | None:
        number = self._h._prove(token, await self._h._of(self._account)) if token else None
        return await self._h._messages.case_of_number(number) if number is not None else None

    async def _heard_of(self, one: c.Wrote) -> UUID | None:
        """The case of that number, if something was said between this account and this address in it."""
        messages = self._h._messages
        case = await messages.case_of_number(one.case_number)
        thread = await messages.thread_with(self._account.id, one.peer.kind, plain(one.peer.value))
        if case is None or thread is None:
            return None
        return case if any(each.id == thread.id for each in await messages.threads_of_case(case)) else None

    async def _named(self, external_id: str) -> UUID | None:
        if not external_id:
            return None
        known = await self._known([external_id])
        return known[0].message if known else None

    async def _known(self, external_ids: list[str]) -> list[Known]:
        names = [_external(each) for each in external_ids]
        found = await self._h._messages.known(self._account.id, names)
        return [found[name] for name in names if name in found]

    def _fetch(self, message: UUID, files: list[tuple[UUID, c.File]], manifest: c.Manifest) -> None:
        for id, file in files:
            most = manifest.attachment_bytes.get(file.kind, BYTES)
            work = self._fetched(message, id, file, most)
            self._notes.fetches.append(self._h._start(work, f"fetch {id}"))

    async def _fetched(self, message: UUID, id: UUID, file: c.File, most: int) -> None:
        try:
            there = await self._h._messages.attachment(id)
            if there is not None and there.state != "fetching":
                return
            stored = await self._file(id, file, most)
            await self._submit(
                m.AttachmentStored(
                    key=uuid5(id, "stored"),
                    organisation=self._own,
                    message=message,
                    attachment=id,
                    path=stored.path,
                    type=stored.type,
                    bytes=stored.bytes,
                    sha256=stored.sha256,
                    failed=stored.failed,
                )
            )
        except (TryAgain, Unavailable) as error:
            raise TryAgain(str(error)) from error
        except Exception as error:
            self._h._bug("a file could not be kept", self._account, self._request.id, error)
            self._notes.failed.append(f"{self._index}: file: {type(error).__name__}")

    async def _file(self, id: UUID, file: c.File, most: int) -> Stored:
        if file.content is not None:
            return await self._h._files.keep(file.content, id, said=file.type, most=most)
        for gap_s in (1.0, 5.0, 0.0):
            try:
                async with self._h._fetches:
                    return await self._h._files.fetch(file.url, id, said=file.type, most=most)
            except Away:
                await asyncio.sleep(gap_s)
        return Stored(failed="unreachable")

    async def _echoed(self, one: c.Echoed) -> str:
        external_id = _external(one.external_id)
        if one.ours is not None and await self._h._messages.get(one.ours) is not None:
            now = self._h._clock.now()
            if one.part is not None:
                last = await self._h._outbox.went(one.ours, one.part, external_id, now)
                if last is None:
                    return "kept"
                external_id = last
            await self._h._outbox.echoed(one.ours, external_id, now)
            return await self._status(one.ours, "sent", external_id, None)
        if await self._known([one.external_id]):
            return "not_new"
        files = [(self._id(f"file {n}"), file) for n, file in enumerate(one.files)]
        message = self._id("message")
        committed = await self._submit(
            m.MessageEchoed(
                key=self._id("echoed"),
                organisation=self._own,
                message=message,
                account=self._account.id,
                external_id=external_id,
                address_kind=one.peer.kind,
                address=plain(one.peer.value),
                text=plain(one.text)[:TEXT_CHARS],
                attached=_attached(files),
                sent_at=one.at,
            )
        )
        if committed:
            self._fetch(message, files, self._h._channels[self._account.channel].MANIFEST)
        return "told" if committed else "not_new"

    async def _status(
        self, message: UUID, status: str, external_id: str | None, failed: c.Failed | None
    ) -> str:
        told = await self._submit(
            m.MessageStatus(
                key=self._id(f"{status} {message}"),
                organisation=self._own,
                message=message,
                status=status,
                external_id=external_id,
                failure=failed.failure.value if failed else None,
                code=plain(failed.code) if failed else "",
                detail=plain(failed.why)[:1000] if failed else "",
            )
        )
        return "told" if told else "not_new"

    async def _receipt(self, one: c.Receipt) -> str:
        known: list[Known] = []
        waiting = False
        if one.external_ids:
            known = await self._known(list(one.external_ids))
            waiting = len(known) < len(set(one.external_ids))
        elif one.until is not None:
            known = list(
                await self._h._messages.ours_until(
                    self._account.id, one.peer.kind, plain(one.peer.value), one.until
                )
            )
        ours = [each for each in known if each.direction == "out"]
        parts = (
            [each.external_id for each in ours if each.part] if one.status in ("delivered", "read") else []
        )
        for each in ours:
            if each.external_id not in parts:
                await self._status(each.message, one.status, None, one.failure)
        if parts:
            marked = await self._h._outbox.marked(self._account.id, parts, one.status)
            for message, (least, last) in marked.items():
                await self._status(message, least, last, None)
        return self._wait() if waiting else "told"

    async def _changed(self, external_id: str, what: str, text: str) -> str:
        known = await self._known([external_id])
        if not known:
            return self._wait()
        told = await self._submit(
            m.MessageChanged(
                key=self._id(what),
                organisation=self._own,
                message=known[0].message,
                what=what,
                text=plain(text)[:TEXT_CHARS],
            )
        )
        return "told" if told else "not_new"

    def _wait(self) -> str:
        """Its message may still be on its way to us."""
        self._notes.waiting.append(self._index)
        return "waiting"


async def _ends(tasks: list[asyncio.Task[None]], notes: _Notes) -> BaseException | None:
    """Waits for all events and files of a request; gives the first reason to try it again."""
    ends: list[BaseException | None] = list(await asyncio.gather(*tasks, return_exceptions=True))
    ends += await asyncio.gather(*notes.fetches, return_exceptions=True)
    return next((end for end in ends if end is not None), None)


def _external(id: str) -> str:
    text = plain(id)
    if not text or len(text) > ID_CHARS:
        raise ValueError("no usable id")
    return text


def _attached(files: list[tuple[UUID, c.File]]) -> tuple[m.Attached, ...]:
    return tuple(
        m.Attached(
            attachment=id,
            kind=file.kind,
            name=plain(file.name)[:255],
            type=plain(file.type)[:100],
            content_id=plain(file.content_id)[:255],
        )
        for id, file in files
    )


_KEPT = (
    "content-type",
    "user-agent",
    "x-request-id",
    "content-length",
)


def _kept(headers: Mapping[str, str], more: tuple[str, ...]) -> dict[str, str]:
    """Those that help to understand a request later, and `more` of its channel; nothing that opens a door."""
    return {name: headers[name][:1000] for name in (*_KEPT, *more) if name in headers}


def _closing(status: int) -> web.Response:
    """The rest of the body is not wanted."""
    response = web.Response(status=status)
    response.force_close()
    return response
