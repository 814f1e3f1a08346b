"""A double of Meta's Graph API for the Pages of one application, and of who writes to them; for tests and the demo.

    async with GraphDouble(callback=url, app_secret=…, page_token=…) as graph:
        claire = graph.customer("24001", "Claire")
        await claire.writes("Bonjour")                      # a signed webhook to `callback`
        await graph.until(lambda: claire.inbox)             # what our Send API calls brought her

It checks what Meta checks, refuses what Meta refuses in Meta's words, fetches what it is told to show, and fails when
it is told to (`fail`, `revoke`). Its clock is `now` plus what `shift` added: windows and the gaps of repeats go by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

HOUR_S = 3600.0
WINDOW_S = 24 * HOUR_S
HUMAN_AGENT_S = 7 * 24 * HOUR_S
RETRIES_S = 36 * HOUR_S  # Messenger repeats a delivery for so long
TEXT_CHARS = 2000
QUICK_REPLIES = 13
QUICK_REPLY_CHARS = 20
PAYLOAD_CHARS = 1000
METADATA_CHARS = 1000
PERSONA_CHARS = 50
FILE_BYTES = 25_000_000
RATE, RATE_FILMS = 300, 10  # calls a second: anything, audio and video
PAGE_INBOX = "263902037430900"  # the application by which a Page is answered in Meta's own inbox

Value = TypeVar("Value")
Event = dict[str, Any]


class Fault(StrEnum):
    """How a call to the double goes wrong."""

    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"  # 500 with Meta's code 2
    GATEWAY = "gateway"  # 502 with a page of HTML; not carried out
    CUT_BEFORE = "cut_before"  # the connection ends, and nothing was done
    CUT_AFTER = "cut_after"  # the connection ends, and it was done
    SLOW = "slow"  # done at once, answered late
    RESTRICTED = "restricted"  # 10/1893063
    UNAVAILABLE = "unavailable"  # 551


@dataclass(slots=True)
class _Planned:
    fault: Fault
    times: int
    edge: str
    seconds: float


class _Refused(Exception):
    def __init__(self, code: int, message: str, subcode: int | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.subcode, self.status = code, message, subcode, status
        self.headers: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that the double got; `status` 0: it was cut off. `at` is unix seconds by the double's clock."""

    at: float
    method: str
    path: str
    body: Any
    status: int
    answer: Any


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message that reached a customer."""

    mid: str
    psid: str
    at: float
    text: str
    quick_replies: tuple[tuple[str, str], ...]  # (title, payload)
    file: bytes | None
    file_kind: str
    file_type: str
    persona: str  # its name, as the customer sees it
    metadata: str
    messaging_type: str
    tag: str


@dataclass(frozen=True, slots=True)
class Told:
    """A webhook that was posted and its answer; `status` 0: none came."""

    at: float
    body: bytes
    events: int
    status: int
    attempt: int
    seconds: float  # real ones, until the answer


@dataclass(slots=True)
class _Owed:
    body: bytes
    events: int
    first: float
    attempt: int
    due: float


@dataclass(frozen=True, slots=True)
class _Stored:
    data: bytes
    type: str
    until: float


class GraphDouble:
    """An application, its Page (or Pages), their customers. `base` is what an account's `api_base` must say.

    `more_pages`: further Pages of the application, and the token of each; their webhooks go to the same callback.

    `retry_every_s`: repeats what was not answered 200 in real time, as often; None: only `redeliver` does.
    `profiles`: the application may read what persons are called.
    `echoes`, `receipts`: each message that arrives is echoed, and told as delivered.
    """

    def __init__(
        self,
        *,
        app_secret: str,
        page_token: str,
        callback: str = "",
        verify_token: str = "",
        page_id: str = "1001",
        more_pages: Mapping[str, str] | None = None,
        app_id: str = "7007",
        versions: Collection[str] = ("v25.0", "v26.0"),
        country: str = "FR",
        no_personas_in: Collection[str] = (),
        profiles: bool = True,
        now: Callable[[], float] = time.time,
        echoes: bool = True,
        receipts: bool = True,
        retry_every_s: float | None = None,
        patience_s: float = 20.0,
        port: int = 0,
    ) -> None:
        self.callback = callback  # may be set when the server that it is about has started
        self.page_id, self.app_id, self.country = page_id, app_id, country
        self.echoes, self.receipts = echoes, receipts
        self.base = ""
        self.on_arrival: Callable[[Arrived], None] | None = None  # told of each message before it is answered
        self.customers: dict[str, Customer] = {}
        self.asked: list[Asked] = []
        self.arrived: list[Arrived] = []
        self.told: list[Told] = []
        self.dropped: list[bytes] = []  # webhooks that nobody took in 36 hours
        self.personas: dict[str, str] = {}  # id -> name
        self._page_of_persona: dict[str, str] = {}
        self._app_secret, self._verify_token = app_secret, verify_token
        self._tokens = {page_id: page_token, **(more_pages or {})}  # of each Page
        self._revoked = False
        self._versions, self._no_personas_in = frozenset(versions), frozenset(no_personas_in)
        self._now, self._ahead_s = now, 0.0
        self._profiles = profiles
        self._retry_every_s, self._patience_s, self._port = retry_every_s, patience_s, port
        self._mark = secrets.token_hex(4)  # ids of another run are other ids
        self._made = 0
        self._planned: list[_Planned] = []
        self._calls: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)  # by Page and kind
        self._files: dict[str, _Stored] = {}
        self._held: list[tuple[Customer, Event]] | None = None
        self._owed: list[_Owed] = []
        self._retrying = 0  # owed ones whose turn it is
        self._lanes: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self._client: aiohttp.ClientSession

    async def __aenter__(self) -> GraphDouble:
        self._client = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._patience_s))
        )
        application = web.Application(client_max_size=FILE_BYTES + 1_000_000)
        application.router.add_get("/cdn/{id}/{name}", self._give_file)
        application.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        self.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        if self._retry_every_s is not None:
            self._spawn(self._repeat(self._retry_every_s))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    # What a test or the demo asks of it

    def now(self) -> float:
        return self._now() + self._ahead_s

    def shift(self, seconds: float) -> None:
        self._ahead_s += seconds

    def customer(self, psid: str, name: str = "", *, page: str = "") -> Customer:
        """Who writes to that Page (the first one, if none is named): a PSID is somebody at one Page only."""
        if psid not in self.customers:
            self.customers[psid] = Customer(self, psid, name, page or self.page_id)
        return self.customers[psid]

    def fail(self, fault: Fault | str, times: int = 1, *, edge: str = "", seconds: float = 1.0) -> None:
        """Let the next calls go wrong: all, or those to an edge (messages, personas)."""
        self._planned.append(_Planned(Fault(fault), times, edge, seconds))

    def heal(self) -> None:
        self._planned.clear()

    def revoke(self) -> None:
        """The token is worth nothing from now on, until `renew`."""
        self._revoked = True

    def renew(self, token: str | None = None) -> None:
        self._revoked = False
        self._tokens[self.page_id] = token or self._tokens[self.page_id]

    def hold(self) -> None:
        """Keep what happens instead of telling it, until `release`."""
        self._held = []

    async def release(
        self, order: Sequence[int] | None = None, *, together: bool = True, times: int = 1
    ) -> list[Told]:
        """Tell what was held: in the order of those places, in one POST or one each, so many times."""
        assert self._held is not None, "hold first"
        held, self._held = self._held, None
        chosen = [held[place] for place in (range(len(held)) if order is None else order)]
        groups = [chosen] if together and chosen else [[one] for one in chosen]
        return [await self._post(self._envelope(group), len(group)) for _ in range(times) for group in groups]

    async def repeat(self, told: Told | None = None, times: int = 1) -> list[Told]:
        """Deliver something again, byte by byte: the last one, if none is named."""
        told = told or self.told[-1]
        return [await self._post(told.body, told.events, attempt=told.attempt) for _ in range(times)]

    async def tell(self, *events: Event, signature: str | None = None, raw: bytes | None = None) -> Told:
        """Post events as they are (or a raw body), with a true signature or the one given ("": none)."""
        body = self.envelope(events) if raw is None else raw
        return await self._post(body, len(events), signature=signature, owe=False)

    def envelope(self, events: Sequence[Event] = (), standby: Sequence[Event] = ()) -> bytes:
        return escaped({"object": "page", "entry": [self._entry(self.page_id, events, standby)]})

    def _entry(self, page: str, events: Sequence[Event], standby: Sequence[Event]) -> Event:
        entry: Event = {"time": self._ms(), "id": page}
        if events:
            entry["messaging"] = list(events)
        if standby:
            entry["standby"] = list(standby)
        return entry

    def sign(self, body: bytes) -> str:
        return "sha256=" + hmac.new(self._app_secret.encode(), body, hashlib.sha256).hexdigest()

    @property
    def owed(self) -> int:
        """Webhooks that were not answered 200 and will be told again."""
        return len(self._owed) + self._retrying

    async def redeliver(self, *, everything: bool = False) -> list[Told]:
        """Tell again what is due by the clock (or all of it). Gaps grow; after 36 hours it is dropped."""
        due = [owed for owed in self._owed if everything or owed.due <= self.now()]
        self._owed = [owed for owed in self._owed if owed not in due]
        told, left = [], len(due)
        self._retrying += left
        try:
            for owed in due:
                if self.now() - owed.first > RETRIES_S:
                    self.dropped.append(owed.body)
                else:
                    again = await self._post(owed.body, owed.events, attempt=owed.attempt, first=owed.first)
                    told.append(again)
                self._retrying, left = self._retrying - 1, left - 1
        finally:
            self._retrying -= left
        return told

    async def subscribe(self) -> bool:
        """Meta's handshake with the callback: does it know the token and give the challenge back?"""
        challenge = str(secrets.randbelow(10**9))
        query = {"hub.mode": "subscribe", "hub.verify_token": self._verify_token, "hub.challenge": challenge}
        async with self._client.get(self.callback, params=query) as answer:
            return (
                answer.status == 200
                and answer.content_type == "text/plain"
                and await answer.text() == challenge
            )

    async def until(self, what: Callable[[], Value], within_s: float = 10.0) -> Value:
        """The first true value of `what`, looked at whenever something has happened here."""
        async with asyncio.timeout(within_s):
            while not (value := what()):
                await self._changed.wait()
        return value

    async def settled(self) -> None:
        """Every echo and receipt that is on its way has been told."""
        while waiting := [task for task in self._tasks if task.get_name() == "telling"]:
            await asyncio.wait(waiting)

    # Telling

    def _ms(self) -> int:
        return int(self.now() * 1000)

    def _id(self, kind: str) -> str:
        self._made += 1
        return f"{kind}_{self._mark}{self._made:06d}"

    def _touch(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> None:
        task = asyncio.create_task(work, name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _happened(self, customer: Customer, event: Event) -> Told | None:
        if self._held is not None:
            self._held.append((customer, event))
            return None
        async with self._lanes[customer.psid]:
            return await self._post(self._envelope([(customer, event)]), 1)

    def _envelope(self, happened: Sequence[tuple[Customer, Event]]) -> bytes:
        """One POST of all that, with an entry for each Page."""
        ours: dict[str, list[Event]] = {customer.page: [] for customer, _ in happened}
        copies: dict[str, list[Event]] = {page: [] for page in ours}
        for customer, event in happened:
            if customer.owner == self.app_id or _moves(event):
                ours[customer.page].append(event)
            else:
                bare = {key: _bare(value) if key == "postback" else value for key, value in event.items()}
                copies[customer.page].append(bare)
        entries = [self._entry(page, ours[page], copies[page]) for page in ours]
        return escaped({"object": "page", "entry": entries})

    async def _post(
        self,
        body: bytes,
        events: int,
        *,
        attempt: int = 1,
        first: float | None = None,
        signature: str | None = None,
        owe: bool = True,
    ) -> Told:
        signature = self.sign(body) if signature is None else signature
        headers = {"Content-Type": "application/json", "User-Agent": "facebookexternalua"}
        if signature:
            headers["X-Hub-Signature-256"] = signature
        at, began, status = self.now(), time.monotonic(), 0
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self._client.post(self.callback, data=body, headers=headers) as answer:
                await answer.read()
                status = answer.status
        told = Told(at, body, events, status, attempt, time.monotonic() - began)
        self.told.append(told)
        if status != 200 and owe:
            gap = min(2.0 * 3.0**attempt, 4 * HOUR_S)
            self._owed.append(_Owed(body, events, at if first is None else first, attempt + 1, at + gap))
        self._touch()
        return told

    async def _repeat(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self.redeliver(everything=True)

    # Being asked

    async def _give_file(self, request: web.Request) -> web.Response:
        stored = self._files.get(request.match_info["id"])
        if stored is None:
            return web.Response(status=404)
        if stored.until < self.now():
            return web.Response(status=403, text="URL signature expired")
        return web.Response(body=stored.data, content_type=stored.type)

    def _keep_file(self, data: bytes, type: str, name: str, expires_s: float) -> str:
        id = self._id("f")
        self._files[id] = _Stored(data, type, self.now() + expires_s)
        return f"{self.base}/cdn/{id}/{name}"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        edge = request.path.rsplit("/", 1)[-1]
        planned = next((each for each in self._planned if each.edge in ("", edge)), None)
        if planned is not None:
            planned.times -= 1
            if planned.times <= 0:
                self._planned.remove(planned)
        fault = planned.fault if planned else None
        body: Any = None
        headers: dict[str, str] = {}
        try:
            body, file = await _read(request)
            if fault is Fault.CUT_BEFORE:
                return self._cut(request, body)
            if fault is Fault.GATEWAY:
                self._note(request, body, 502, None)
                return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")
            if fault in _FAULTS:
                raise _refusal(fault, planned.seconds if planned else 0.0, self.page_id)
            status, answer = 200, await self._do(request, body, file)
        except _Refused as refused:
            said: Event = {"message": refused.message, "type": "OAuthException", "code": refused.code}
            if refused.subcode is not None:
                said["error_subcode"] = refused.subcode
            status, answer = refused.status, {"error": said | {"fbtrace_id": self._id("A")}}
            headers = refused.headers
        if fault is Fault.CUT_AFTER:
            return self._cut(request, body)
        if fault is Fault.SLOW and planned:
            await asyncio.sleep(planned.seconds)
        self._note(request, body, status, answer)
        return web.json_response(answer, status=status, headers=headers)

    def _note(self, request: web.Request, body: Any, status: int, answer: Any) -> None:
        self.asked.append(Asked(self.now(), request.method, request.path, body, status, answer))
        self._touch()

    def _cut(self, request: web.Request, body: Any) -> web.StreamResponse:
        self._note(request, body, 0, None)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _do(self, request: web.Request, body: Any, file: tuple[bytes, str] | None) -> Event:
        parts = request.path.strip("/").split("/")
        if parts[0] not in self._versions:
            raise _Refused(2635, f"(#2635) You are calling an unknown version of the API: {parts[0]}")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            token = request.query.get("access_token", "")
        if self._revoked:
            raise _Refused(190, "Error validating access token: it has been invalidated.", 460)
        said = token.encode()
        page = next(
            (page for page, its in self._tokens.items() if hmac.compare_digest(said, its.encode())), ""
        )
        if not page:
            raise _Refused(190, "Invalid OAuth access token - Cannot parse access token")
        if request.method == "DELETE" and len(parts) == 2 and parts[1] in self.personas:
            del self.personas[parts[1]]
            return {"success": True}
        if request.method == "GET" and len(parts) == 2 and parts[1] in self.customers:
            return self._profile(page, self.customers[parts[1]], request.query.get("fields", ""))
        if len(parts) != 3 or parts[1] != page:  # a Page's token says nothing of another one
            raise _Refused(
                100, f"Unsupported request. Object with ID '{'/'.join(parts[1:])}' does not exist", 33
            )
        match request.method, parts[2]:
            case "POST", "messages":
                return await self._send(page, _map(body), file)
            case "POST", "personas":
                return self._make_persona(page, _map(body))
            case "GET", "personas":
                its = [id for id in self.personas if self._page_of_persona[id] == page]
                return {"data": [{"id": id, "name": self.personas[id]} for id in its]}
            case "POST", "take_thread_control" | "pass_thread_control" | "release_thread_control" as edge:
                owner = PAGE_INBOX if edge.startswith("release") else self.app_id
                if edge.startswith("pass"):
                    owner = str(_map(body).get("target_app_id", PAGE_INBOX))
                self._known(page, _map(body)).owner = owner
                return {"success": True}
        raise _Refused(100, f"Unsupported {request.method.lower()} request.", 33)

    def _profile(self, page: str, customer: Customer, fields: str) -> Event:
        if not self._profiles:
            raise _Refused(10, "(#10) The application has no access to the profiles of persons.", status=403)
        if customer.page != page or customer.last_in is None:
            raise _Refused(
                100, f"Unsupported get request. Object with ID '{customer.psid}' does not exist", 33
            )
        first, _, last = customer.name.partition(" ")
        known = {"first_name": first, "last_name": last, "profile_pic": f"{self.base}/cdn/none/face.jpg"}
        asked = [each for each in fields.split(",") if each]
        if wrong := [each for each in asked if each not in known]:
            raise _Refused(100, f"(#100) Tried accessing nonexisting field ({wrong[0]})")
        return {"id": customer.psid} | {each: known[each] for each in asked if known[each]}

    def _make_persona(self, page: str, body: Event) -> Event:
        _only(body, {"name", "profile_picture_url"}, "")
        if self.country in self._no_personas_in:
            raise _Refused(200, "(#200) Personas are not available for this Page.")
        name = body.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= PERSONA_CHARS:
            raise _Refused(100, f"(#100) Param name must be a text of 1 to {PERSONA_CHARS} characters")
        id = self._id("9")
        self.personas[id], self._page_of_persona[id] = name, page
        return {"id": id}

    def _known(self, page: str, body: Event) -> Customer:
        recipient = body.get("recipient")
        if (
            not isinstance(recipient, dict)
            or set(recipient) != {"id"}
            or not isinstance(recipient["id"], str)
        ):
            raise _Refused(100, "(#100) Param recipient must hold an id")
        customer = self.customers.get(recipient["id"])
        if customer is None or customer.page != page or customer.last_in is None:
            raise _Refused(100, "(#100) No matching user found", 2018001)
        if customer.blocked:
            raise _Refused(551, "(#551) This person isn't available right now.", 1545041)
        return customer

    async def _send(self, page: str, body: Event, file: tuple[bytes, str] | None) -> Event:
        _only(body, _SEND, "")
        customer = self._known(page, body)
        persona = body.get("persona_id", "")
        foreign = persona not in self.personas or self._page_of_persona[persona] != page
        if persona and (foreign or self.country in self._no_personas_in):
            raise _Refused(100, "(#100) Invalid persona_id")
        if "sender_action" in body:
            return self._act(customer, body)
        message, kind, tag = body.get("message"), body.get("messaging_type"), body.get("tag", "")
        if not isinstance(message, dict):
            raise _Refused(100, "(#100) The parameter message is required")
        shape = _check(message, file is not None)
        self._rate(page, shape in ("audio", "video"))
        self._check_window(customer, kind, tag)
        if customer.owner != self.app_id:
            raise _Refused(10, "(#10) Message failed: another app is controlling this thread now.", 2018300)
        data, type = file or (None, "")
        url = message.get("attachment", {}).get("payload", {}).get("url")
        if url is not None:
            data, type = await self._fetch(url, shape)
        arrived = Arrived(
            self._id("m"),
            customer.psid,
            self.now(),
            message.get("text", ""),
            tuple((each["title"], each["payload"]) for each in message.get("quick_replies", ())),
            data,
            shape,
            type,
            self.personas.get(persona, ""),
            message.get("metadata", ""),
            str(kind),
            tag,
        )
        self.arrived.append(arrived)
        customer.inbox.append(arrived)
        if self.on_arrival is not None:
            self.on_arrival(arrived)
        customer.typing = False
        self._touch()
        if self.echoes or self.receipts:
            self._spawn(self._tell_of(customer, arrived), "telling")
        return {"recipient_id": customer.psid, "message_id": arrived.mid}

    async def _tell_of(self, customer: Customer, arrived: Arrived) -> None:
        if self.echoes:
            await self.echo(customer, arrived.mid, arrived.text, self.app_id, arrived.metadata)
        if self.receipts:
            await customer.gets(arrived)

    async def echo(
        self, customer: Customer, mid: str, text: str, app_id: str, metadata: str = ""
    ) -> Told | None:
        message: Event = {"is_echo": True, "app_id": int(app_id), "mid": mid, "text": text}
        if metadata:
            message["metadata"] = metadata
        return await self._happened(
            customer,
            {
                "sender": {"id": customer.page},
                "recipient": {"id": customer.psid},
                "timestamp": self._ms(),
                "message": message,
            },
        )

    def _act(self, customer: Customer, body: Event) -> Event:
        if "message" in body:
            raise _Refused(100, "(#100) Cannot send both message and state at the same time.", 2018002)
        match body["sender_action"]:
            case "typing_on":
                customer.typing = True
            case "typing_off":
                customer.typing = False
            case "mark_seen":
                customer.seen_at = self.now()
            case other:
                raise _Refused(100, f"(#100) Param sender_action is not one of the allowed: {other}")
        self._touch()
        return {"recipient_id": customer.psid}

    def _rate(self, page: str, film: bool) -> None:
        now = self.now()
        for name, most in (("", RATE), ("films", RATE_FILMS)) if film else (("", RATE),):
            calls = self._calls[page, name]
            while calls and calls[0] <= now - 1.0:
                calls.popleft()
            if len(calls) >= most:
                raise _refusal(Fault.THROTTLED, 1.0, page)
            calls.append(now)

    def _check_window(self, customer: Customer, kind: Any, tag: Any) -> None:
        assert customer.last_in is not None
        since = self.now() - customer.last_in
        if kind not in ("RESPONSE", "UPDATE", "MESSAGE_TAG"):
            raise _Refused(100, "(#100) Param messaging_type must be one of RESPONSE, UPDATE, MESSAGE_TAG")
        if (kind == "MESSAGE_TAG") != bool(tag):
            raise _Refused(100, "(#100) Param tag goes with messaging_type MESSAGE_TAG")
        if tag and tag != "HUMAN_AGENT":
            raise _Refused(100, "(#100) Invalid parameter")  # the other tags were retired in 2026
        if tag and since <= WINDOW_S:
            raise _Refused(100, "(#100) HUMAN_AGENT is only for messages outside of the 24 hour window")
        if since > (HUMAN_AGENT_S if tag else WINDOW_S):
            raise _Refused(10, "(#10) This message is sent outside of allowed window.", 2018278)

    async def _fetch(self, url: str, kind: str) -> tuple[bytes, str]:
        try:
            async with self._client.get(url) as answer:
                data = await answer.content.read(FILE_BYTES + 1)
                while len(data) <= FILE_BYTES and (more := await answer.content.read(1 << 20)):
                    data += more
                status, type = answer.status, answer.content_type
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            status, data, type = 0, b"", ""
        if status != 200:
            raise _Refused(100, "(#100) Failed to fetch the file from the url", 2018008)
        if len(data) > FILE_BYTES or (kind != "file" and not type.startswith(f"{kind}/")):
            raise _Refused(100, "(#100) Upload attachment failure.", 2018047)
        return data, type


@dataclass(slots=True)
class Customer:
    """Somebody who writes to a Page; each act returns its mid once the webhook was answered (or is held)."""

    graph: GraphDouble
    psid: str
    name: str
    page: str
    inbox: list[Arrived] = field(default_factory=list)
    last_in: float | None = None
    owner: str = ""  # the application that holds the thread
    blocked: bool = False  # has blocked the Page
    typing: bool = False  # sees that we type
    seen_at: float | None = None  # when we marked the thread as seen

    def __post_init__(self) -> None:
        self.owner = self.graph.app_id

    async def writes(
        self,
        text: str = "",
        *,
        payload: str | None = None,
        reply_to: str | None = None,
        attachments: Sequence[Event] = (),
        referral: Event | None = None,
        mid: str | None = None,
    ) -> str:
        message: Event = {"mid": mid or self.graph._id("m")}
        if text:
            message["text"] = text
        if payload is not None:
            message["quick_reply"] = {"payload": payload}
        if reply_to is not None:
            message["reply_to"] = {"mid": reply_to, "is_self_reply": False}
        if attachments:
            message["attachments"] = list(attachments)
        if referral is not None:
            message["referral"] = referral
        await self._does("message", message)
        return str(message["mid"])

    async def taps(self, title: str) -> str:
        """One of the quick replies under the last message; a LookupError when it is not there."""
        offered = dict(self.inbox[-1].quick_replies) if self.inbox else {}
        if title not in offered:
            raise LookupError(f"{title!r} is not offered: {sorted(offered)}")
        return await self.writes(title, payload=offered[title])

    async def presses(self, title: str, payload: str, *, referral: Event | None = None) -> str:
        mid = self.graph._id("m")
        said: Event = {"mid": mid, "title": title, "payload": payload}
        await self._does("postback", said | ({"referral": referral} if referral else {}))
        return mid

    async def attaches(
        self,
        data: bytes,
        type: str = "image/png",
        *,
        name: str = "photo.png",
        text: str = "",
        expires_s: float = HOUR_S,
    ) -> str:
        """A file, to be fetched from us before it expires."""
        kind = type.split("/")[0]
        url = self.graph._keep_file(data, type, name, expires_s)
        shape = kind if kind in ("image", "audio", "video") else "file"
        return await self.writes(text, attachments=[{"type": shape, "payload": {"url": url}}])

    async def sticks(self, sticker: int = 369239263222822, data: bytes = b"\x89PNG\r\n\x1a\n") -> str:
        url = self.graph._keep_file(data, "image/png", "sticker.png", HOUR_S)
        return await self.writes(
            attachments=[{"type": "sticker", "payload": {"url": url, "sticker_id": sticker}}]
        )

    async def arrives(self, ref: str, source: str = "SHORTLINK") -> None:
        await self._does("referral", {"ref": ref, "source": source, "type": "OPEN_THREAD"})

    async def reacts(self, mid: str, emoji: str = "\u2764", reaction: str = "love") -> None:
        said = {"reaction": reaction, "emoji": emoji, "action": "react", "mid": mid}
        await self._does("reaction", said, writes=False)

    async def unreacts(self, mid: str) -> None:
        await self._does("reaction", {"action": "unreact", "mid": mid}, writes=False)

    async def edits(self, mid: str, text: str, times: int = 1) -> None:
        await self._does("message_edit", {"mid": mid, "text": text, "num_edit": times}, writes=False)

    async def gets(self, *arrived: Arrived) -> None:
        """Her phone has them (all, if none is named)."""
        got = arrived or tuple(self.inbox)
        said = {"mids": [each.mid for each in got], "watermark": int(max(each.at for each in got) * 1000)}
        await self._does("delivery", said, writes=False)

    async def reads(self, until: float | None = None) -> None:
        """Everything up to now, or up to that time (unix seconds), was read."""
        watermark = self.graph._ms() if until is None else int(until * 1000)
        await self._does("read", {"watermark": watermark}, writes=False)

    async def does(self, what: str, said: Any) -> None:
        """Any event of any kind."""
        await self._does(what, said, writes=False)

    async def is_answered_elsewhere(self, text: str, app_id: str = PAGE_INBOX) -> str:
        """The Page answers her in Meta's own inbox."""
        mid = self.graph._id("m")
        await self.graph.echo(self, mid, text, app_id)
        return mid

    async def is_taken(self, by: str = PAGE_INBOX, metadata: str = "") -> None:
        """Another application takes the thread; what she writes comes as a copy from now on."""
        said = {"previous_owner_app_id": self.owner, "new_owner_app_id": by, "metadata": metadata}
        self.owner = by
        await self._does("take_thread_control", said, writes=False)

    async def is_given_back(self, metadata: str = "") -> None:
        said = {"previous_owner_app_id": self.owner, "new_owner_app_id": self.graph.app_id}
        self.owner = self.graph.app_id
        await self._does("pass_thread_control", said | {"metadata": metadata}, writes=False)

    async def _does(self, what: str, said: Any, *, writes: bool = True) -> None:
        if writes:
            self.last_in = self.graph.now()
        event = {
            "sender": {"id": self.psid},
            "recipient": {"id": self.page},
            "timestamp": self.graph._ms(),
            what: said,
        }
        await self.graph._happened(self, event)


def escaped(value: Any) -> bytes:
    """JSON as Meta writes it: ASCII only, with a few more escapes than are needed."""
    text = json.dumps(value, separators=(",", ":"))
    for char, escape in (("/", "\\/"), ("<", "\\u003C"), ("%", "\\u0025"), ("@", "\\u0040")):
        text = text.replace(char, escape)
    return text.encode("ascii")


def _moves(event: Event) -> bool:
    return any(key.endswith("_thread_control") for key in event)


def _bare(postback: Event) -> Event:
    """On standby a postback comes without its payload."""
    return {key: value for key, value in postback.items() if key not in ("payload", "referral")}


_SEND = {"recipient", "messaging_type", "tag", "message", "sender_action", "persona_id", "notification_type"}
_FAULTS: Mapping[Fault | None, tuple[int, str, int | None, int]] = {
    Fault.THROTTLED: (613, "(#613) Calls to this api have exceeded the rate limit.", None, 400),
    Fault.SERVER_ERROR: (2, "An unexpected error has occurred. Please retry your request later.", None, 500),
    Fault.RESTRICTED: (10, "(#10) This Page is temporarily restricted from sending messages.", 1893063, 403),
    Fault.UNAVAILABLE: (551, "(#551) This person isn't available right now.", 1545041, 400),
}


def _refusal(fault: Fault | None, seconds: float, page_id: str) -> _Refused:
    code, message, subcode, status = _FAULTS[fault]
    refused = _Refused(code, message, subcode, status)
    if fault is Fault.THROTTLED:
        minutes = -(-int(seconds) // 60) if seconds >= 60 else 0
        usage = [{"type": "messenger", "call_count": 100, "estimated_time_to_regain_access": minutes}]
        refused.headers["X-Business-Use-Case-Usage"] = json.dumps({page_id: usage})
    return refused


def _map(value: Any) -> Event:
    if not isinstance(value, dict):
        raise _Refused(100, "(#100) The body must be a JSON object")
    return value


def _only(value: Event, known: Collection[str], where: str) -> None:
    for key in value:
        if key not in known:
            raise _Refused(100, f"(#100) Unknown parameter {where}{key}")


def _check(message: Event, uploaded: bool) -> str:
    """Refuse what is no message; else what its attachment is, or text."""
    _only(message, {"text", "attachment", "quick_replies", "metadata"}, "message.")
    text, attachment = message.get("text"), message.get("attachment")
    if (text is None) == (attachment is None):
        raise _Refused(100, "(#100) Exactly one of message[text] and message[attachment] must be set")
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise _Refused(100, "(#100) Param message[text] must not be empty")
    if text is not None and len(text) > TEXT_CHARS:
        raise _Refused(
            100, f"(#100) Length of param message[text] must be less than or equal to {TEXT_CHARS}"
        )
    metadata = message.get("metadata", "")
    if not isinstance(metadata, str) or len(metadata) > METADATA_CHARS:
        raise _Refused(100, "(#100) Param message[metadata] is too long")
    _check_replies(message.get("quick_replies", []))
    if attachment is None:
        return "text"
    attachment = _map(attachment)
    _only(attachment, {"type", "payload"}, "message.attachment.")
    if attachment.get("type") not in ("image", "audio", "video", "file"):
        raise _Refused(100, "(#100) Param message[attachment][type] must be one of audio, file, image, video")
    payload = _map(attachment.get("payload"))
    _only(payload, {"url", "is_reusable"}, "message.attachment.payload.")
    if uploaded == ("url" in payload) or not isinstance(payload.get("url", ""), str):
        raise _Refused(100, "(#100) Exactly one of a url and an uploaded file must be given")
    return str(attachment["type"])


def _check_replies(replies: Any) -> None:
    if not isinstance(replies, list) or len(replies) > QUICK_REPLIES:
        raise _Refused(100, f"(#100) Param message[quick_replies] must have at most {QUICK_REPLIES} elements")
    for reply in replies:
        _only(_map(reply), {"content_type", "title", "payload", "image_url"}, "message.quick_replies.")
        title, payload = reply.get("title"), reply.get("payload")
        if reply.get("content_type") != "text":
            raise _Refused(100, "(#100) Param content_type of a quick reply must be text here")
        if not isinstance(title, str) or not 0 < len(title) <= QUICK_REPLY_CHARS:
            raise _Refused(100, f"(#100) A quick reply's title has 1 to {QUICK_REPLY_CHARS} characters")
        if not isinstance(payload, str) or not 0 < len(payload) <= PAYLOAD_CHARS:
            raise _Refused(100, f"(#100) A quick reply's payload has 1 to {PAYLOAD_CHARS} characters")


async def _read(request: web.Request) -> tuple[Any, tuple[bytes, str] | None]:
    """The body as JSON, or of a form its fields and its file."""
    if request.content_type != "multipart/form-data":
        try:
            return await request.json() if request.can_read_body else {}, None
        except ValueError:
            raise _Refused(100, "(#100) The body is not JSON") from None
    body: Event = {}
    file = None
    form = await request.post()
    for key, value in form.items():
        if isinstance(value, web.FileField):
            file = (value.file.read(), value.content_type)
        elif isinstance(value, str):
            try:
                body[key] = json.loads(value) if key in ("recipient", "message") else value
            except ValueError:
                raise _Refused(100, f"(#100) Param {key} is not JSON") from None
    return body, file
