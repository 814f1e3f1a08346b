"""The courier: takes messages from the outbox, sends them through their channel, tells the desk what became of them.

Of each thread only the first unfinished message is on its way, so order holds over retries; threads go side by side.
From the moment that a row is taken it is sent or perhaps sent: what was carried out and not answered is never repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol
from uuid import UUID, uuid4, uuid5

import aiohttp
import structlog
from prometheus_client import Counter, Gauge

from routing import channel as c
from routing import models as m
from routing.aio.crash import crash_point
from routing.aio.fetch import Fetcher
from routing.aio.links import Links
from routing.aio.rounds import RETRY_S, Rounds
from routing.pace import Pace
from routing.site import Account, Site
from routing.store import (
    AccountStates,
    AttachmentView,
    ChannelSecrets,
    Due,
    Messages,
    Outbox,
    ThreadView,
    Unavailable,
)

AT_ONCE = 64  # threads side by side
LEASE_S = 20.0  # a worker that has not renewed it by then is dead
RENEW_S = 5.0
CALL_S = 20.0
CONNECT_S = 5.0
IDLE_S = 10.0  # a kept connection; older ones the other side may be closing while we write
ANSWER_BYTES = 1 << 20
TRIES = 3
GAPS_S = (2.0, 15.0, 60.0)
REPEATS = 2  # of one call that may be repeated, after an unknown result
THROTTLED_S = 30.0
PROBE_S = 300.0  # so often one message tries whether an account that is down works again
FILE_S, LOOK_S = 3.0, 0.05  # a message may be written just before the desk hears of its file
REFERENCES = 200
NAME_CHARS = 200
ASKED_AT_ONCE = 4  # names of new customers

SENT = Counter("monofil_outbox_total", "Messages that we sent, by what became of them", ["channel", "result"])
ACTS = Counter("monofil_acts_total", "Typing and seen, shown to customers", ["channel", "result"])
BUGS = Counter("monofil_outbox_failures_total", "Mistakes of ours while sending", ["channel"])
UNDER_WAY = Gauge("monofil_outbox_under_way", "Messages on their way now")

Mail = Callable[[Account, c.Secrets, c.MailCall], Awaitable[c.Reply]]
Push = Callable[[Account, c.PushCall], Awaitable[c.Reply]]
log = structlog.get_logger(__name__)


class Desk(Protocol):
    organisation: UUID

    async def submit(self, submission: m.Submission) -> m.Outcome: ...

    def subscribe(self, hear: Callable[[m.Event], None]) -> Callable[[], None]: ...


class NotSent(Exception):
    """Nothing of the call has left: it may be tried again."""


async def _no_mail(account: Account, secrets: c.Secrets, call: c.MailCall) -> c.Reply:
    raise NotSent("this server sends no mail")


async def _no_push(account: Account, call: c.PushCall) -> c.Reply:
    return c.Reply(404)


class Courier:
    """`async with Courier(…) as courier`: sends from then on, and tells what a former life could not."""

    def __init__(
        self,
        *,
        site: Callable[[], Site],
        channels: Mapping[str, c.Channel],
        outbox: Outbox,
        messages: Messages,
        secrets: ChannelSecrets,
        states: AccountStates,
        desk: Desk,
        clock: m.Clock,
        files: Fetcher,
        links: Links | None = None,
        mail: Mail = _no_mail,
        push: Push = _no_push,
        call_s: float = CALL_S,
        lease_s: float = LEASE_S,
        gaps_s: Sequence[float] = GAPS_S,
    ) -> None:
        """`links` makes the public addresses of files; None: providers get the bytes.

        `mail` and `push` raise NotSent when nothing has left; a Reply with `lost` when nobody knows.
        """
        self._site, self._channels = site, channels
        self._outbox, self._messages, self._secrets, self._states = outbox, messages, secrets, states
        self._desk, self._clock, self._files, self._links = desk, clock, files, links
        self._mail, self._push = mail, push
        self._call_s, self._lease_s, self._gaps_s = call_s, lease_s, tuple(gaps_s)
        self._worker = uuid4()
        self._takings = Rounds("outbox", bugs=BUGS)
        self._tellings = Rounds("sent messages", bugs=BUGS)
        self._known = False  # which accounts are down or throttled
        self._under_way: set[UUID] = set()
        self._wait: dict[str, datetime] = {}  # account -> not before
        self._down: dict[str, datetime] = {}  # account -> when one message tries it again
        self._memory: dict[str, c.Memory] = {}
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._paces: dict[tuple[str, str], Pace] = {}
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unsubscribe: Callable[[], None] | None = None

    async def __aenter__(self) -> Courier:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._call_s, connect=CONNECT_S, sock_connect=CONNECT_S),
            connector=aiohttp.TCPConnector(limit=2 * AT_ONCE, keepalive_timeout=IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "Monofil"},
        )
        self._unsubscribe = self._desk.subscribe(self._hear)
        for work, name in (
            (self._takings.make(self._take), "take"),
            (self._tellings.make(self._tell), "tell"),
            (self._renewing(), "renew"),
        ):
            self._start(work, f"outbox {name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets what is on its way end (at most a call's time); what does not is perhaps sent."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        sending = {task for task in self._tasks if task.get_name().startswith("send ")}
        looking = self._tasks - sending
        for task in looking:
            if task.get_name() == "outbox take":
                task.cancel()
        if sending:
            await asyncio.wait(sending, timeout=min(self._call_s, 10.0))
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def nudge(self) -> None:
        """Look at the clock again: it has been shifted (tests, demo)."""
        self._takings.ring()

    def _start(self, work: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _hear(self, event: m.Event) -> None:
        if event.type is m.T.MESSAGE_WRITTEN:
            self._takings.ring()
        elif event.type is m.T.THREAD_OPENED:
            account = self._account_of(str(event.data["account"]))
            if account is not None and self._may_ask(account):
                self._start(self._introduced(event, account), "outbox introduce")
        elif event.type is m.T.ACCOUNT_CHANGED and event.data.get("state") == "up":
            self._down.pop(str(event.data.get("account")), None)
            self._wait.pop(str(event.data.get("account")), None)
            self._takings.ring()

    async def _know_states(self) -> None:
        if self._known:
            return
        now = self._clock.now()
        for state in await self._states.all():
            if state.state == "down":
                self._down.setdefault(state.account, max(now, state.since + timedelta(seconds=PROBE_S)))
            elif state.state == "throttled":
                self._wait.setdefault(state.account, now)
        self._known = True

    async def _take(self) -> float:
        """Takes what is due and starts it; returns when to look again, in seconds."""
        await self._know_states()
        now = self._clock.now()
        if lost := await self._outbox.lost(now):
            log.warning(
                "messages are perhaps sent: their sender ended", messages=[str(each) for each in lost]
            )
            self._tellings.ring()
        free = AT_ONCE - len(self._under_way)
        if free <= 0:
            return RENEW_S
        kept = self._kept(now)
        due, dropped = await self._outbox.take(
            now, worker=self._worker, lease_s=self._lease_s, limit=free, but=kept
        )
        crash_point("outbox.taken")
        for each in due:
            if self._down.get(each.account, now) > now:
                await self._outbox.again(each.message, now, "its account is down", counted=False)
                continue
            if each.account in self._down:  # this one tries whether it works again; the others wait for it
                self._down[each.account] = now + timedelta(seconds=PROBE_S)
            self._under_way.add(each.message)
            self._start(self._sent(each), f"send {each.message}")
        UNDER_WAY.set(len(self._under_way))
        if dropped:
            self._tellings.ring()
        ends = [*self._wait.values(), *self._down.values()]
        if (next_due := await self._outbox.next_due(self._kept(now))) is not None:
            ends.append(next_due)
        soon = min((max(0.02, (end - now).total_seconds()) for end in ends if end > now), default=RENEW_S)
        if next_due is not None and next_due <= now and len(self._under_way) < AT_ONCE:
            soon = 0.02
        return min(soon, RENEW_S)

    def _kept(self, now: datetime) -> list[str]:
        """Accounts that wait now."""
        return [id for held in (self._wait, self._down) for id, until in held.items() if until > now]

    async def _renewing(self) -> None:
        while True:
            await asyncio.sleep(min(RENEW_S, self._lease_s / 4))
            if self._under_way:
                with contextlib.suppress(Unavailable):
                    await self._outbox.renew(
                        self._worker, self._clock.now() + timedelta(seconds=self._lease_s)
                    )

    async def _sent(self, due: Due) -> None:
        channel = ""
        try:
            account = self._account_of(due.account)
            if account is None:
                result: c.Result = c.Failed(c.Failure.REFUSED, "no_account", "the site has no such account")
            else:
                channel = account.channel
                result = await self._carried(due, account)
            await self._for_certain(due.message, self._keep, due, result)
            SENT.labels(channel, _word(result)).inc()
        except Exception as error:
            BUGS.labels(channel).inc()
            log.error("a message could not be sent", message=str(due.message), exc_info=error)
            mistake = c.Perhaps(f"our mistake: {type(error).__name__}")
            await self._for_certain(due.message, self._keep, due, mistake)
        finally:
            self._under_way.discard(due.message)
            UNDER_WAY.set(len(self._under_way))
            self._takings.ring()

    async def _carried(self, due: Due, account: Account) -> c.Result:
        """Everything before the first call may fail without harm; from there on `_drive` knows what was carried out."""
        manifest = self._channels[account.channel].MANIFEST
        try:
            secrets = await self._secrets.of(account.id)
            out = await self._outgoing(due, account, manifest)
            out = await self._named(out, account, secrets)
        except Unavailable as error:
            return c.Failed(c.Failure.TRANSIENT, "database", str(error))
        except (OSError, ValueError) as error:
            return c.Failed(
                c.Failure.REFUSED, "file", f"an enclosed file cannot be read: {type(error).__name__}"
            )
        await self._paced(account, manifest, out)
        try:
            rendering = self._channels[account.channel].render(
                out, account, secrets, self._memory.setdefault(account.id, {})
            )
            return await self._drive(rendering, account, secrets, out.message)
        except Exception as error:
            BUGS.labels(account.channel).inc()
            log.error("a message could not be rendered", message=str(due.message), exc_info=error)
            return c.Failed(c.Failure.REFUSED, "rendering", f"our mistake: {type(error).__name__}")

    async def _named(self, out: c.Outgoing, account: Account, secrets: c.Secrets) -> c.Outgoing:
        """With an id of our own, where the channel gives one: stored first, so that answers find what perhaps left."""
        mint = getattr(self._channels[account.channel], "mint", None)
        if mint is None or out.own_id:
            return out
        out = replace(out, own_id=mint(out, account, secrets))
        await self._outbox.named(out.message, out.own_id)
        return out

    async def _paced(self, account: Account, manifest: c.Manifest, out: c.Outgoing) -> None:
        """Waits until the account's rates let it go."""
        kinds = {"", "text" if not out.files else "", *(file.kind for file in out.files)}
        now = asyncio.get_running_loop().time()
        wait_s = 0.0
        for kind in kinds & manifest.rates.keys():
            rate = manifest.rates[kind]
            pace = self._paces.setdefault((account.id, kind), Pace(rate, max(1.0, rate / 2)))
            wait_s = max(wait_s, pace.wait(now))
        if wait_s:
            await asyncio.sleep(wait_s)

    async def _drive(
        self, rendering: c.Rendering, account: Account, secrets: c.Secrets, message: UUID
    ) -> c.Result:
        """Carries out the calls of a message. What is unknown of a call that may not be repeated makes it Perhaps.

        What a call has carried out is no matter any more once it is kept as a part: the next try goes on after it.
        """
        carried, unknown = False, False  # of calls that may not be repeated
        reply: c.Reply | None = None
        try:
            while True:
                call = rendering.send(reply) if reply is not None else next(rendering)
                if isinstance(call, c.PartSent):
                    await self._for_certain(
                        message, self._outbox.went, message, call.part, call.external_id, self._clock.now()
                    )
                    crash_point("outbox.went")
                    carried = False
                    continue
                try:
                    reply = await self._called(call, account, secrets)
                except NotSent as error:
                    if carried or unknown:
                        return c.Perhaps(f"only in part: {error}")
                    return c.Failed(c.Failure.TRANSIENT, "unreachable", str(error))
                if not call.repeatable:
                    unknown = unknown or reply.lost
                    carried = carried or (not reply.lost and 200 <= reply.status < 300)
        except StopIteration as end:
            result: c.Result = end.value
            if not isinstance(result, c.Sent | c.Failed | c.Perhaps):
                raise TypeError(f"a rendering ended with {type(result).__name__}") from None
            if isinstance(result, c.Failed) and (carried or unknown):
                return c.Perhaps(
                    f"only in part: {result.why or result.code}" if carried else "no answer came"
                )
            return result
        except Exception:
            if carried or unknown:
                log.error("a rendering failed after a call", account=account.id, exc_info=True)
                return c.Perhaps("our mistake after a call")
            raise
        finally:
            rendering.close()

    async def _called(self, call: c.Call, account: Account, secrets: c.Secrets) -> c.Reply:
        """Raises NotSent. A call that may be repeated is, after an unknown result."""
        for repeat in range(REPEATS + 1):
            crash_point("outbox.called")
            match call:
                case c.HttpCall():
                    reply = await self._http(call)
                case c.MailCall():
                    reply = await self._mail(account, secrets, call)
                case c.PushCall():
                    reply = await self._push(account, call)
            crash_point("outbox.answered")
            if not (reply.lost and call.repeatable and repeat < REPEATS):
                break
        return reply

    async def _http(self, call: c.HttpCall) -> c.Reply:
        assert self._session is not None
        data: aiohttp.FormData | None = None
        if call.form is not None:
            data = aiohttp.FormData()
            for name, value in call.form.items():
                if isinstance(value, str):
                    data.add_field(name, value)
                else:
                    data.add_field(
                        name, value.content, filename=value.name or "file", content_type=value.type
                    )
        try:
            async with self._session.request(
                call.method,
                call.url,
                headers=dict(call.headers),
                json=call.json,
                data=data,
                allow_redirects=False,
            ) as response:
                body = await response.content.read(ANSWER_BYTES)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return c.Reply(response.status, headers, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(type(error).__name__) from error
        except (aiohttp.InvalidURL, ValueError) as error:
            raise NotSent(f"no usable address: {type(error).__name__}") from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            log.warning("a call was not answered", error=type(error).__name__)
            return c.Reply(0, lost=True)

    async def _outgoing(self, due: Due, account: Account, manifest: c.Manifest) -> c.Outgoing:
        said = due.outgoing
        out = c.Outgoing(
            message=due.message,
            to=str(said.get("to") or ""),
            author=due.author,
            author_name=str(said.get("author_name") or ""),
            text=str(said.get("text") or ""),
            html=str(said.get("html") or ""),
            subject=str(said.get("subject") or ""),
            buttons=tuple(_button(each) for each in said.get("buttons") or ()),
            files=tuple([await self._enclosed(each) for each in due.attachments]),
            reply_to=str(said.get("reply_to") or ""),
            references=tuple(said.get("references") or ()),
            own_id=str(said.get("own_id") or ""),
            case_number=int(said.get("case_number") or 0),
            language=str(said.get("language") or "fr"),
            tagged=bool(said.get("tagged")),
            automatic=bool(said.get("automatic")),
            gone=due.gone,
        )
        if not out.to and (thread := await self._messages.thread(due.thread)) is not None:
            out = replace(out, to=thread.address_value)
        if manifest.subject and not out.references:
            out = await self._referring(due, out)
        return out

    async def _referring(self, due: Due, out: c.Outgoing) -> c.Outgoing:
        """A mail names those before it in its thread, so that the customer's program joins them."""
        mine = await self._messages.get(due.message)
        if mine is None:
            return out
        before = [
            each
            for each in await self._messages.of_case(mine.case, last=REFERENCES)
            if each.thread == due.thread
            and each.external_id
            and each.seq < mine.seq
            and each.status not in ("failed", "dropped")
        ]
        subject = out.subject or next((each.subject for each in reversed(before) if each.subject), "")
        answered = next((each.external_id for each in reversed(before) if each.direction == "in"), "")
        return replace(
            out,
            references=tuple(each.external_id or "" for each in before),
            subject=subject,
            reply_to=out.reply_to or answered or "",
        )

    async def _enclosed(self, file: AttachmentView) -> c.Enclosed:
        for _ in range(round(FILE_S / LOOK_S)):
            if file.state != "fetching":
                break
            await asyncio.sleep(LOOK_S)
            file = await self._messages.attachment(file.id) or file
        if file.state == "fetching":
            raise Unavailable("an enclosed file is not stored yet")
        if file.state != "stored":
            raise ValueError("an enclosed file is not there")
        content = await asyncio.to_thread(self._files.path(file.path).read_bytes)
        url = self._links.link(file.id) if self._links is not None else ""
        return c.Enclosed(file.id, file.kind, file.name, file.type, url, content)

    async def _for_certain(
        self, message: UUID, store: Callable[..., Awaitable[object]], *arguments: object
    ) -> None:
        """Stored however long the database is away: we are the only one who knows."""
        while True:
            try:
                await store(*arguments)
                return
            except Unavailable as error:
                log.warning("a result cannot be stored now", message=str(message), error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _keep(self, due: Due, result: c.Result) -> None:
        now = self._clock.now()
        match result:
            case c.Sent():
                await self._outbox.sent(due.message, result.external_id, now)
                await self._works(due.account)
            case c.Perhaps():
                await self._outbox.given_up(due.message, now, _clear(result.why), perhaps=True)
            case c.Failed(c.Failure.TRANSIENT) if due.tries < TRIES:
                gap_s = self._gaps_s[min(due.tries, len(self._gaps_s)) - 1]
                await self._outbox.again(due.message, now + timedelta(seconds=gap_s), written(result))
            case c.Failed(c.Failure.THROTTLED):
                until = now + timedelta(seconds=result.after_s or THROTTLED_S)
                new = due.account not in self._wait
                self._wait[due.account] = max(until, self._wait.get(due.account, until))
                await self._outbox.again(due.message, until, written(result), counted=False)
                if new:
                    await self._account(due.account, "throttled", result)
            case c.Failed(c.Failure.TOKEN | c.Failure.ACCOUNT):
                new = due.account not in self._down
                self._down[due.account] = now + timedelta(seconds=PROBE_S)
                await self._outbox.again(due.message, now, written(result), counted=False)
                if new:
                    await self._account(due.account, "down", result)
            case c.Failed():
                await self._outbox.given_up(due.message, now, written(result), perhaps=False)
        crash_point("outbox.stored")
        self._tellings.ring()

    async def _works(self, account: str) -> None:
        """A message went out: what was said against the account is over."""
        if account in self._down or account in self._wait:
            self._down.pop(account, None)
            self._wait.pop(account, None)
            await self._account(account, "up", None)
            self._takings.ring()

    async def _account(self, account: str, state: str, failed: c.Failed | None) -> None:
        reason = f"{failed.failure.value} {failed.code}: {failed.why}"[:500] if failed is not None else ""
        outcome = await self._desk.submit(
            m.AccountChanged(
                key=uuid4(),
                organisation=self._desk.organisation,
                account=account,
                state=state,
                reason=_clear(reason),
            )
        )
        if outcome.refused is None and state != "up":
            log.error("an account cannot send", account=account, state=state, reason=reason)

    async def _tell(self) -> float:
        """Tells the desk what ended, this life's and former ones'; what it could not take is told again."""
        while rows := await self._outbox.untold():
            told = await asyncio.gather(*(self._told(*row) for row in rows))
            crash_point("outbox.told")
            done = {row[0]: row[1] for row, ok in zip(rows, told, strict=True) if ok}
            if done:
                await self._outbox.told(done)
            if len(done) < len(rows):
                return RETRY_S
        return RENEW_S

    async def _told(self, message: UUID, status: str, external_id: str | None, why: str) -> bool:
        failed = read(why) if status == "failed" else None
        outcome = await self._desk.submit(
            m.MessageStatus(
                key=uuid5(message, f"outbox {status}"),
                organisation=self._desk.organisation,
                message=message,
                status=status,
                external_id=external_id,
                failure=failed[0] if failed else None,
                code=failed[1] if failed else "",
                detail=failed[2] if failed else why if status == "perhaps" else "",
            )
        )
        return outcome.refused not in ("stopping", "overloaded")

    def _may_ask(self, account: Account) -> bool:
        setting = self._channels[account.channel].MANIFEST.profiles
        return setting is not None and account.settings.get(setting) == "yes"

    async def _introduced(self, event: m.Event, account: Account) -> None:
        """Asks the provider once what a new customer is called. Without an answer they stay without a name."""
        try:
            thread = await self._messages.thread(UUID(event.data["thread"]))
            assert thread is not None
            secrets, memory = await self._secrets.of(account.id), self._memory.setdefault(account.id, {})
            ask = getattr(self._channels[account.channel], "profile")  # noqa: B009  most channels have none
            async with self._asking:
                name = await self._asked(
                    ask(thread.address_value, account, secrets, memory), account, secrets
                )
            if name:
                told = m.ContactIntroduced(
                    key=uuid5(thread.id, "introduced"),
                    organisation=self._desk.organisation,
                    contact=thread.contact,
                    name=name[:NAME_CHARS],
                )
                await self._desk.submit(told)
            ACTS.labels(account.channel, "named" if name else "nameless").inc()
        except Exception as error:
            ACTS.labels(account.channel, "error").inc()
            log.info(
                "a new customer's name could not be asked", account=account.id, error=type(error).__name__
            )

    async def _asked(
        self, asking: Generator[c.Call, c.Reply, str], account: Account, secrets: c.Secrets
    ) -> str:
        reply: c.Reply | None = None
        while True:
            try:
                call = asking.send(reply) if reply is not None else next(asking)
            except StopIteration as end:
                return str(end.value)
            reply = await self._called(call, account, secrets)

    def _account_of(self, id: str) -> Account | None:
        account = self._site().account(id)
        return account if account is not None and account.channel in self._channels else None

    async def act(self, thread: UUID | ThreadView, act: str, author_name: str = "") -> None:
        """Shows `typing_on`, `typing_off` or `seen` where the channel can. Never raises, never waits long."""
        channel = ""
        try:
            there = await self._messages.thread(thread) if isinstance(thread, UUID) else thread
            account = self._account_of(there.account) if there is not None else None
            if there is None or account is None:
                return
            if account.id in self._kept(self._clock.now()):
                return
            channel = account.channel
            if act != "seen" and not self._channels[channel].MANIFEST.typing:
                return
            out = c.Outgoing(message=uuid4(), to=there.address_value, act=act, author_name=author_name)
            secrets = await self._secrets.of(account.id)
            memory = self._memory.setdefault(account.id, {})
            async with asyncio.timeout(CONNECT_S):
                result = await self._drive(
                    self._channels[channel].render(out, account, secrets, memory),
                    account,
                    secrets,
                    out.message,
                )
            ACTS.labels(channel, _word(result)).inc()
        except Exception as error:
            ACTS.labels(channel, "error").inc()
            log.info("an act could not be shown", act=act, error=type(error).__name__)


def _button(said: Any) -> c.Button:
    if isinstance(said, Mapping):
        return c.Button(str(said.get("title", "")), str(said.get("payload", "")))
    return c.Button(str(said[0]), str(said[1]))


def _word(result: c.Result) -> str:
    match result:
        case c.Sent():
            return "sent"
        case c.Perhaps():
            return "perhaps"
        case c.Failed():
            return result.failure.value


def _clear(text: str) -> str:
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:1000]


def written(failed: c.Failed) -> str:
    """A failure in one line, as the outbox keeps it: `window 10/2018278: the provider's words`."""
    code = "".join(_clear(failed.code).split())
    return f"{failed.failure.value} {code}: {_clear(failed.why)}"


def read(line: str) -> tuple[str, str, str]:
    """(failure, code, detail) of such a line."""
    head, _, detail = line.partition(": ")
    failure, _, code = head.partition(" ")
    return failure, code.rstrip(":"), detail
