"""How mail enters and leaves: a listener for SMTP and LMTP, mailboxes read by IMAP, sending, and the reader's child.

Every mail is handed over as it was delivered, to `take(account, raw, facts)`, which returns once it is stored;
only then is it acknowledged (250, \\Seen). `take` raises Unavailable while the database is away: it comes again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import os
import pickle
import re
import socket
import ssl
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Protocol

import aiosmtplib
import structlog
from aiosmtpd.smtp import SMTP, syntax
from imapclient import IMAPClient, SocketTimeout  # type: ignore[import-untyped]
from imapclient.exceptions import IMAPClientError, LoginError  # type: ignore[import-untyped]
from prometheus_client import Counter

from routing.aio.clock import SystemClock
from routing.aio.reader import CPU_S, MOST_FRAME_BYTES, load
from routing.aio.tokens import NoToken, Tokens
from routing.channel import Heard, MailCall, Reply
from routing.channels import email
from routing.models import Clock, Event, T
from routing.site import Account
from routing.store import Unavailable

Take = Callable[[str, bytes, Mapping[str, str]], Awaitable[object]]
"""(account's id, the mail, what is known of its way). Returns once it is stored."""
Told = Callable[[str, str, str], None]
"""(account's id, up | down, reason): an account's mailbox can be reached, or not (any more)."""

TAKEN = Counter(
    "monofil_mails_total", "Mails that came in, by way and by what became of them", ["way", "result"]
)
READ = Counter("monofil_mails_read_total", "Mails taken apart, by what came of it", ["result"])

log = structlog.get_logger()


def trusting(authority: Path | None) -> ssl.SSLContext:
    """What the system trusts, and a company's own authority (a file of PEM certificates)."""
    context = ssl.create_default_context()
    if authority is not None:
        context.load_verify_locations(authority)
    return context


def showing(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """What our listener shows: PEM files, the certificate's chain in the first, which may hold the key too."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def _distrust(error: BaseException | None) -> str:
    """Why a server's certificate is refused; "" for errors of another kind."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"certificate refused: {error.verify_message}"
        error = error.__cause__ or error.__context__
    return ""


# Listening

FLOOD_PER_HOUR = 120  # mails of one sender; bounces, which have none, ten times that
FLOOD_SENDERS = 10_000  # remembered
CONNECTIONS = 100
BYTES_AT_ONCE = 128 << 20  # of mails that are just coming in
COMMAND_SECONDS = 120.0
CHUNK_BYTES = 1 << 16


class Flood:
    """How many mails each sender has sent lately: a bucket of `per_hour`, filled again at that rate."""

    def __init__(self, per_hour: float) -> None:
        self._per_hour = per_hour
        self._level: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, sender: str, now: float) -> bool:
        """Counts one mail. `now` in seconds of a clock that never goes back."""
        most = self._per_hour * (10 if sender in ("", "<>") else 1)
        level, since = self._level.pop(sender, (0.0, now))
        level = max(0.0, level - (now - since) * most / 3600)
        allowed = level + 1 <= most
        self._level[sender] = (level + 1 if allowed else level, now)
        if len(self._level) > FLOOD_SENDERS:
            self._level.popitem(last=False)
        return allowed


class MailListener:
    """Takes mail for the accounts' addresses by SMTP and LMTP on one port, on the running loop. No relay.

    `accounts()` gives those that listen now. Mails of more than `most_bytes` are refused (552).
    """

    def __init__(
        self,
        accounts: Callable[[], Sequence[Account]],
        take: Take,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        hostname: str = "localhost",
        tls: ssl.SSLContext | None = None,
        most_bytes: int = email.MOST_BYTES,
        flood_per_hour: float = FLOOD_PER_HOUR,
        connections: int = CONNECTIONS,
        clock: Clock | None = None,
    ) -> None:
        self.accounts = accounts
        self.take = take
        self.hostname = hostname
        self.most_bytes = most_bytes
        self.clock = clock or SystemClock()
        self.flood = Flood(flood_per_hour)
        self.open: set[_Session] = set()
        self.coming_bytes = 0
        self.port = port
        self._host = host
        self._tls = tls
        self._most = connections
        self._server: asyncio.Server | None = None
        self._storing: set[asyncio.Task[bool]] = set()

    async def start(self) -> None:
        logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd tells every line, with its words
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _session(self) -> _Session:
        return _Session(self, full=len(self.open) >= self._most, tls=self._tls)

    async def close(self) -> None:
        """Nothing more comes in; what is being stored is finished."""
        if self._server is not None:
            self._server.close()
        sessions = list(self.open)
        for session in sessions:
            if session.transport is not None:
                session.transport.close()
        if self._storing:
            await asyncio.gather(*self._storing, return_exceptions=True)
        tasks = [session.work for session in sessions if session.work is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    def account(self, recipient: str) -> Account | None:
        return next((one for one in self.accounts() if email.receives(one, recipient)), None)

    async def store(self, recipient: str, raw: bytes, facts: Mapping[str, str]) -> bool:
        """False: it could not be stored now. Finished even when the sender's connection ends meanwhile."""
        task = asyncio.ensure_future(self._store(recipient, raw, facts))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        return await asyncio.shield(task)

    async def _store(self, recipient: str, raw: bytes, facts: Mapping[str, str]) -> bool:
        account = self.account(recipient)
        if account is None:
            return False
        try:
            await self.take(account.id, raw, facts)
        except Unavailable:
            TAKEN.labels("listener", "unavailable").inc()
            return False
        except Exception:
            log.exception("a mail could not be stored", account=account.id)
            TAKEN.labels("listener", "failed").inc()
            return False
        TAKEN.labels("listener", "stored").inc()
        return True


class _Hooks:
    """What aiosmtpd asks of us about one connection."""

    def __init__(self, listener: MailListener) -> None:
        self._listener = listener

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if self._listener.account(address) is None:
            TAKEN.labels("listener", "refused").inc()
            return "550 5.1.1 No such mailbox here"
        if len(envelope.rcpt_tos) >= 100:
            return "452 4.5.3 Too many recipients"
        if not envelope.rcpt_tos and not self._listener.flood.allows(
            (envelope.mail_from or "").lower(), time.monotonic()
        ):
            TAKEN.labels("listener", "flood").inc()
            return "450 4.7.1 Too many mails from this sender, try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_exception(self, error: Exception) -> str:
        log.warning("a mail session failed", error=type(error).__name__)
        return "451 4.3.0 Try again later"


class _Session(SMTP):
    """One connection. A mail is read in pieces as they come, so that short lines cost no more than long ones."""

    line_length_limit = CHUNK_BYTES

    def __init__(self, listener: MailListener, *, full: bool, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            _Hooks(listener),
            data_size_limit=listener.most_bytes,
            hostname=listener.hostname,
            ident="ESMTP LMTP",
            tls_context=tls,
            timeout=COMMAND_SECONDS,
            auth_exclude_mechanism=["LOGIN", "PLAIN"],
            command_call_limit=1000,
            loop=asyncio.get_running_loop(),
        )
        self._listener = listener
        self._full = full
        self._local = False

    @property
    def work(self) -> asyncio.Task[None] | None:
        return self._handler_coroutine

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.open.add(self)
        if self.work is not None:
            self.work.add_done_callback(lambda done: done.cancelled() or done.exception())

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.open.discard(self)
        super().connection_lost(error)

    async def _handle_client(self) -> None:
        if self._full:
            await self.push("421 4.3.2 Too many connections, try again later")
            if self.transport is not None:
                self.transport.close()
            return
        await super()._handle_client()

    @syntax("LHLO hostname")
    async def smtp_LHLO(self, arg: str) -> None:  # noqa: N802
        self._local = True
        await super().smtp_EHLO(arg)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        assert self.envelope is not None
        assert self.session is not None
        if await self.check_helo_needed():
            return
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Error: need RCPT command")
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        body = bytearray()
        size = 0
        refused = ""
        try:
            self._reader._buffer[:0] = b"\r\n"  # type: ignore[attr-defined]  # so that a first line may be the last
            while True:
                try:
                    piece = await self._reader.readuntil(b"\r\n.\r\n")
                    ended = True
                except asyncio.LimitOverrunError as e:
                    piece = await self._reader.readexactly(e.consumed)
                    ended = False
                size += len(piece)
                if size > self._listener.most_bytes + 5:
                    refused = "552 5.3.4 The mail is too large"
                elif self._listener.coming_bytes + len(piece) > BYTES_AT_ONCE:
                    refused = refused or "452 4.3.1 Too much mail at once, try again later"
                if refused:
                    self._listener.coming_bytes -= len(body)
                    body.clear()
                else:
                    body += piece
                    self._listener.coming_bytes += len(piece)
                if ended:
                    break
                self._reset_timeout()
            answers = [refused] if refused else await self._stored(bytes(memoryview(body)[2:-3]))
        finally:
            self._listener.coming_bytes -= len(body)
        recipients = len(self.envelope.rcpt_tos)
        if not self._local:
            answers = [next((one for one in answers if not one.startswith("250")), answers[0])]
        elif len(answers) < recipients:
            answers *= recipients
        self._set_post_data_state()  # type: ignore[no-untyped-call]
        for answer in answers:
            await self.push(answer)

    async def _stored(self, body: bytes) -> list[str]:
        """One answer a recipient: the mail with its trace (RFC 5321 4.4) is stored for each account once."""
        assert self.envelope is not None
        assert self.session is not None
        raw = body[1:] if body.startswith(b".") else body
        raw = raw.replace(b"\r\n.", b"\r\n")
        sender = (self.envelope.mail_from or "").strip("<>")
        peer = self.session.peer[0] if isinstance(self.session.peer, tuple) else "local"
        helo = re.sub(r"[^!-~]", "", self.session.host_name or "")[:200]
        way = "LMTP" if self._local else "ESMTP"
        when = format_datetime(self._listener.clock.now())
        done: dict[str, str] = {}
        answers = []
        for recipient in self.envelope.rcpt_tos:
            account = self._listener.account(recipient)
            key = account.id if account else ""
            if key not in done:
                trace = (
                    f"Return-Path: <{sender}>\r\nDelivered-To: {recipient}\r\n"
                    f"Received: from {helo} ([{peer}]) by {self._listener.hostname} with {way}; {when}\r\n"
                )
                facts = {"way": way.lower(), "peer": str(peer), "sender": sender, "recipient": recipient}
                stored = await self._listener.store(recipient, trace.encode("ascii", "replace") + raw, facts)
                done[key] = "250 2.0.0 OK" if stored else "451 4.3.0 Cannot be stored now, try again later"
            answers.append(done[key])
        return answers


# Mailboxes


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a mailbox has been read up to; `since` is the day (ISO 8601) on which reading began."""

    validity: int
    uid: int
    since: str


class Cursors(Protocol):
    """Where cursors are remembered; called in the mailbox's thread. One that is lost does no harm."""

    def load(self, account: str) -> Cursor | None: ...

    def save(self, account: str, cursor: Cursor) -> None: ...


class FileCursors:
    """Cursors in one JSON file of the data folder, replaced as a whole; of one file there may be several."""

    _lock = threading.Lock()

    def __init__(self, path: Path) -> None:
        self._path = path

    def _all(self) -> dict[str, Any]:
        try:
            told = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    def load(self, account: str) -> Cursor | None:
        try:
            validity, uid, since = self._all()[account]
            return Cursor(int(validity), int(uid), date.fromisoformat(since).isoformat())
        except (KeyError, ValueError, TypeError):
            return None

    def save(self, account: str, cursor: Cursor) -> None:
        with self._lock:
            told = self._all() | {account: [cursor.validity, cursor.uid, cursor.since]}
            beside = self._path.with_suffix(".new")
            beside.write_text(json.dumps(told), encoding="utf-8")
            beside.replace(self._path)


POLL_S = 60.0
IDLE_S = 300.0  # an idle command is renewed then; servers end one after 29 minutes (RFC 2177)
IMAP_TIMEOUT = SocketTimeout(10.0, 60.0)  # seconds to connect, to read
BACKOFF_S = (1.0, 60.0)
REFUSED_S = (300.0, 3600.0)  # after a refused login: more tries an hour might lock the account
STORE_S = 5.0  # the longest that closing waits for a mail that is being stored
SEEN = b"\\Seen"
RESCAN = 200  # Message-IDs asked for at once

Known = Callable[[Sequence[str]], Awaitable[Collection[str]]]
"""Those of these external ids that are stored already."""


class Mailbox:
    """Reads one account's folder by IMAP, in a thread of its own; hands over, marks as seen, never deletes.

    The first time it begins with what is unseen. When UIDVALIDITY changes it looks at every mail since the day on
    which it began, and hands over those whose Message-ID is not `known`.
    """

    def __init__(
        self,
        account: Account,
        secrets: Mapping[str, str],
        take: Take,
        cursors: Cursors,
        *,
        known: Known | None = None,
        told: Told | None = None,
        tls: ssl.SSLContext | None = None,
        poll_s: float = POLL_S,
        idle_s: float = IDLE_S,
        backoff_s: tuple[float, float] = BACKOFF_S,
        refused_s: tuple[float, float] = REFUSED_S,
        tokens: Tokens | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._account = account
        self._secrets = secrets
        self._take = take
        self._cursors = cursors
        self._known = known
        self._told = told
        self._tls = tls
        self._poll_s = poll_s
        self._idle_s = idle_s
        self._backoff_s = backoff_s
        self._refused_s = refused_s
        self._clock = clock or SystemClock()
        self._tokens = tokens or Tokens(self._clock, tls=tls)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._client: IMAPClient | None = None
        self._asked: concurrent.futures.Future[Any] | None = None
        self._thread: threading.Thread | None = None
        self._idle = False
        self._state = ("", "")

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"mailbox-{self._account.id}")
        self._thread.start()

    async def close(self) -> None:
        """Ends once the mail in hand is stored and marked, at once when there is none, in ten seconds at most."""
        if self._thread is None:
            return
        self._stop.set()
        with self._lock:
            if self._client is not None and self._idle:
                _cut(self._client)
        try:
            await asyncio.wait_for(self._ended.wait(), STORE_S)
        except TimeoutError:
            with self._lock:
                if self._asked is not None:
                    self._asked.cancel()
                if self._client is not None:
                    _cut(self._client)
            await self._ended.wait()
        self._thread.join()
        self._thread = None

    # In the thread

    def _run(self) -> None:
        waits = self._waits()
        try:
            while not self._stop.is_set():
                try:
                    self._follow()
                except Exception as e:
                    if self._stop.is_set():
                        return
                    if self._state[0] == "up":
                        waits = self._waits()
                    if not isinstance(e, Unavailable):
                        self._say("down", _why(e))
                    self._wait_for(next(waits[_refused(e)]))
        finally:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ended.set)

    def _wait_for(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _waits(self) -> dict[bool, Iterator[float]]:
        """Seconds to wait after an error, and after a refused login (True): longer each time."""
        return {
            False: _doubling(*self._backoff_s),
            True: _doubling(*self._refused_s),
        }

    def _say(self, state: str, reason: str = "") -> None:
        if (state, reason) == self._state:
            return
        if state == "down":
            log.warning("a mailbox cannot be read", account=self._account.id, reason=reason)
        if self._told is not None:
            self._loop.call_soon_threadsafe(self._told, self._account.id, state, reason)
        self._state = (state, reason)

    def _ask(self, coroutine: Any) -> Any:
        with self._lock:
            if self._stop.is_set():
                coroutine.close()
                raise ConnectionAbortedError("closing")
            self._asked = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return self._asked.result()
        except concurrent.futures.CancelledError:
            raise ConnectionAbortedError("closing") from None
        finally:
            self._asked = None

    def _connect(self) -> IMAPClient:
        settings = self._account.settings
        how = settings.get("imap_tls", "tls")
        port = int(settings.get("imap_port") or (993 if how == "tls" else 143))
        context = self._tls or ssl.create_default_context()
        client = IMAPClient(
            settings["imap_host"],
            port,
            ssl=how == "tls",
            ssl_context=context,
            timeout=IMAP_TIMEOUT,
            use_uid=True,
        )
        with self._lock:
            self._client = client
            if self._stop.is_set():
                raise ConnectionAbortedError("closing")
        if how == "starttls":
            client.starttls(context)
        self._log_in(client, settings.get("imap_user") or settings["address"])
        return client

    def _log_in(self, client: IMAPClient, user: str) -> None:
        if self._account.settings.get("auth") != "xoauth2":
            client.login(user, self._secrets.get("imap_password", ""))
            return
        token = self._ask(self._tokens.token(self._account, self._secrets))
        try:
            client.sasl_login("XOAUTH2", _bearer(user, token))
        except LoginError as e:
            if not _refused(e):
                raise
            token = self._ask(self._tokens.token(self._account, self._secrets, refused=token))
            client.sasl_login("XOAUTH2", _bearer(user, token))

    def _follow(self) -> None:
        try:
            client = self._connect()
            told = client.select_folder(self._account.settings.get("imap_folder", "INBOX"))
            validity = int(told[b"UIDVALIDITY"])
            cursor = self._begin(client, validity, int(told.get(b"UIDNEXT", 0)))
            self._say("up")
            while not self._stop.is_set():
                client.noop()
                new = [uid for uid in client.search(["UID", f"{cursor.uid + 1}:*"]) if uid > cursor.uid]
                for uid in sorted(new):
                    if self._stop.is_set():
                        return
                    self._hand_over(client, uid)
                    cursor = Cursor(validity, uid, cursor.since)
                    self._cursors.save(self._account.id, cursor)
                    self._mark(client, uid)
                if not new:
                    self._wait(client)
        finally:
            with self._lock:
                client_, self._client = self._client, None
            if client_ is not None:
                with contextlib.suppress(Exception):
                    client_.shutdown()

    def _begin(self, client: IMAPClient, validity: int, next_uid: int) -> Cursor:
        cursor = self._cursors.load(self._account.id)
        if cursor is not None and cursor.validity == validity:
            return cursor
        last = next_uid - 1 if next_uid else max(client.search("ALL"), default=0)
        if cursor is None:
            since = self._clock.now().date().isoformat()
            unread = client.search("UNSEEN")
        else:
            since = cursor.since
            unread = self._unknown(client, date.fromisoformat(since) - timedelta(days=1))
        for uid in sorted(unread):
            if self._stop.is_set():
                raise ConnectionAbortedError("closing")
            if uid <= last:
                self._hand_over(client, uid)
                self._mark(client, uid)
        cursor = Cursor(validity, last, since)
        self._cursors.save(self._account.id, cursor)
        return cursor

    def _unknown(self, client: IMAPClient, since: date) -> list[int]:
        uids = sorted(client.search(["SINCE", since]))
        unknown: list[int] = []
        field = b"BODY[HEADER.FIELDS (MESSAGE-ID)]"
        for start in range(0, len(uids), RESCAN):
            told = client.fetch(uids[start : start + RESCAN], ["BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]"])
            ids = {
                uid: found.group() if (found := re.search(rb"<[^<>\s]+>", part.get(field, b""))) else b""
                for uid, part in told.items()
            }
            named = [id_.decode("ascii", "replace") for id_ in ids.values() if id_]
            known = set(self._ask(self._known_ids(named))) if named else set()
            unknown += [uid for uid, id_ in ids.items() if id_.decode("ascii", "replace") not in known]
        return unknown

    async def _known_ids(self, ids: Sequence[str]) -> Collection[str]:
        return await self._known(ids) if self._known is not None else ()

    def _hand_over(self, client: IMAPClient, uid: int) -> None:
        size = client.fetch([uid], ["RFC822.SIZE"]).get(uid, {}).get(b"RFC822.SIZE")
        if size is None:
            return  # somebody has deleted it meanwhile
        if size > email.MOST_BYTES:
            part = client.fetch([uid], ["BODY.PEEK[HEADER]"]).get(uid, {})
            raw = _notice(part.get(b"BODY[HEADER]", b""), size)
        else:
            raw = client.fetch([uid], ["BODY.PEEK[]"]).get(uid, {}).get(b"BODY[]", b"")
        if raw:
            self._ask(self._handed(raw, {"way": "imap", "uid": str(uid)}))

    def _mark(self, client: IMAPClient, uid: int) -> None:
        with contextlib.suppress(IMAPClientError):
            client.add_flags([uid], [SEEN], silent=True)

    async def _handed(self, raw: bytes, facts: Mapping[str, str]) -> None:
        try:
            await self._take(self._account.id, raw, facts)
        except BaseException:
            TAKEN.labels("imap", "failed").inc()
            raise
        TAKEN.labels("imap", "stored").inc()

    def _wait(self, client: IMAPClient) -> None:
        """Until something new may be there."""
        if not client.has_capability("IDLE"):
            self._stop.wait(self._poll_s)
            return
        client.idle()
        until = time.monotonic() + self._idle_s
        try:
            while (left := until - time.monotonic()) > 0:
                with self._lock:
                    if self._stop.is_set():
                        return
                    self._idle = True
                told = client.idle_check(timeout=left)
                if not told and time.monotonic() < until:
                    raise ConnectionResetError("the server has closed the connection")
                if any(len(one) > 1 and one[1] == b"EXISTS" for one in told):
                    break
        finally:
            with self._lock:
                self._idle = False
        client.idle_done()


class Standing:
    """How the mailboxes stand, for the board: an account that sends again is not up while its mailbox is not read."""

    def __init__(self, tell: Told) -> None:
        self._tell = tell
        self._down: dict[str, str] = {}  # account -> why its mailbox is not read

    def __call__(self, account: str, state: str, reason: str) -> None:
        """A mailbox says so."""
        self.forget(account)
        if state == "down":
            self._down[account] = reason
        self._tell(account, state, reason)

    def hear(self, event: Event) -> None:
        """What the desk was told by anybody."""
        if event.type is T.ACCOUNT_CHANGED and event.data["state"] == "up":
            account = str(event.data["account"])
            if account in self._down:
                self._tell(account, "down", self._down[account])

    def forget(self, account: str) -> None:
        """It is read no more, or read anew."""
        self._down.pop(account, None)


def _doubling(first: float, most: float) -> Iterator[float]:
    while True:
        yield first
        first = min(first * 2, most)


def _refused(error: Exception) -> bool:
    """Whether a login would be refused again; a server that is only busy says so (RFC 5530)."""
    busy = re.search(r"\[(?:UNAVAILABLE|INUSE|LIMIT|SERVERBUG)\]", str(error))
    return isinstance(error, NoToken) or (isinstance(error, LoginError) and not busy)


def _why(error: Exception) -> str:
    """For the board."""
    if isinstance(error, LoginError) and _refused(error):
        return "login refused"
    if isinstance(error, NoToken):
        return f"login refused: {error}"[:200]
    return (_distrust(error) or f"{type(error).__name__}: {error}")[:200]


def _bearer(user: str, token: str) -> Callable[[bytes], bytes]:
    """XOAUTH2 as Google and Microsoft document it: one answer, then an empty one to a refusal's reasons."""
    answers = iter([f"user={user}\x01auth=Bearer {token}\x01\x01".encode()])
    return lambda challenge: next(answers, b"")


def _cut(client: IMAPClient) -> None:
    """Ends a connection that another thread is reading: it wakes with an error."""
    with contextlib.suppress(OSError, AttributeError):
        same = socket.socket(fileno=os.dup(client.socket().fileno()))
        try:
            same.shutdown(socket.SHUT_RDWR)
        finally:
            same.close()


_KEPT = re.compile(
    rb"^(?:return-path|from|sender|reply-to|to|cc|date|message-id|in-reply-to|references|subject|auto-submitted"
    rb"|precedence|list-id|list-unsubscribe|x-auto-response-suppress|authentication-results)"
    rb"[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*\n?",
    re.IGNORECASE | re.MULTILINE,
)


def _notice(header: bytes, size: int) -> bytes:
    """In place of a mail that is too large: its header, and where the rest is."""
    kept = b"".join(
        found.group().rstrip(b"\r\n") + b"\r\n" for found in _KEPT.finditer(header[: email.MOST_HEAD_BYTES])
    )
    megabytes, most = size / 1e6, email.MOST_BYTES // 1_000_000
    told = (
        f"[Ce message de {megabytes:.0f} Mo dépasse la limite de {most} Mo ; il est resté dans la boîte aux lettres.]\n"
        f"[This message of {megabytes:.0f} MB exceeds the limit of {most} MB; it has stayed in the mailbox.]\n"
    )
    return kept + b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + told.encode()


# Sending

SEND_TIMEOUT_S = 60.0
AUTHENTICATION_FAILED = 535  # RFC 4954 6


class Sender:
    """Carries out MailCalls by SMTP, one connection a mail.

    The Reply's status is the server's code, 0 where there was none. `lost` only when the connection ended after the
    mail's words had been given, without an answer: it may have been sent.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
        tokens: Tokens | None = None,
        clock: Clock | None = None,
    ):
        self._tls = tls
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()
        self._tokens = tokens or Tokens(self._clock, tls=tls)

    async def send(self, account: Account, secrets: Mapping[str, str], call: MailCall) -> Reply:
        settings = account.settings
        host = settings.get("smtp_host", "127.0.0.1")
        user = settings.get("smtp_user", "")
        how = settings.get("smtp_tls") or ("none" if _loopback(host) and not user else "starttls")
        port = int(settings.get("smtp_port") or {"tls": 465, "starttls": 587}.get(how, 25))
        client = aiosmtplib.SMTP(
            hostname=host,
            port=port,
            use_tls=how == "tls",
            start_tls=how == "starttls",
            tls_context=self._tls,
            timeout=self._timeout_s,
            local_hostname=settings.get("address", "").rpartition("@")[2] or "localhost",
        )
        content = call.content
        if not re.search(
            rb"^date:", content[: max(0, content.find(b"\r\n\r\n"))], re.IGNORECASE | re.MULTILINE
        ):
            content = (
                b"Date: " + format_datetime(self._clock.now().astimezone(UTC)).encode() + b"\r\n" + content
            )
        given = False
        try:
            await client.connect()
            if user:
                await self._log_in(client, account, secrets)
            size = [f"SIZE={len(content)}"] if client.supports_extension("size") else []
            await client.mail(call.sender, options=size)
            await client.rcpt(call.to)
            protocol = client.protocol
            assert protocol is not None
            write = protocol.write

            def watched(data: bytes) -> None:
                nonlocal given
                given = given or data != b"DATA\r\n"
                write(data)

            protocol.write = watched  # type: ignore[method-assign]
            response = await client.data(content)
            return Reply(int(response.code), body=response.message.encode("utf-8", "replace"))
        except aiosmtplib.SMTPResponseException as e:
            return Reply(
                max(0, int(e.code)), body=e.message.encode("utf-8", "replace"), lost=given and e.code < 200
            )
        except NoToken as e:
            return Reply(AUTHENTICATION_FAILED, body=str(e).encode("utf-8", "replace"))
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as e:
            if why := _distrust(e):
                return Reply(0, body=f"{host}: {why}".encode("utf-8", "replace"), stranger=True)
            return Reply(0, body=f"{type(e).__name__}: {e}"[:300].encode("utf-8", "replace"), lost=given)
        finally:
            client.close()

    async def _log_in(self, client: aiosmtplib.SMTP, account: Account, secrets: Mapping[str, str]) -> None:
        user = account.settings["smtp_user"]
        if account.settings.get("auth") != "xoauth2":
            await client.login(user, secrets.get("smtp_password", ""))
            return
        token = await self._tokens.token(account, secrets)
        try:
            await client.auth_xoauth2(user, token)
        except aiosmtplib.SMTPAuthenticationError as e:
            if e.code != AUTHENTICATION_FAILED:
                raise
            await client.auth_xoauth2(user, await self._tokens.token(account, secrets, refused=token))


def _loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


# Reading

READ_TIMEOUT_S = 30.0  # of one mail; the child's own limit is CPU time
MAILS_A_CHILD = 1000


class Parser:
    """Takes mails apart in a child process with limits; one that kills or outlasts the child is quarantined."""

    def __init__(self, *, timeout_s: float = READ_TIMEOUT_S, cpu_s: int = CPU_S) -> None:
        """`cpu_s`: seconds of processor that one mail may take."""
        self._timeout_s = timeout_s
        self._cpu_s = cpu_s
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._done = 0
        self.started = 0  # children so far

    async def parse(self, raw: bytes, account: Account) -> tuple[Heard, ...]:
        """As email.parse, with HTML already cleaned. Never raises for what is in the mail."""
        async with self._turn:
            reason = "it could not be read"
            if len(raw) <= email.MOST_BYTES + email.MOST_HEAD_BYTES:
                for fresh in (False, True):
                    try:
                        found = await asyncio.wait_for(self._asked(raw, account), self._timeout_s)
                    except TimeoutError:
                        reason = "it took too long to read"
                    except (EOFError, OSError, pickle.UnpicklingError, ValueError):
                        code = await self._ended()
                        reason = "it took too long to read" if code == -24 else reason  # SIGXCPU
                        if not fresh and self._done and code is not None and code >= 0:
                            continue  # the child had ended by itself before it got this mail
                    except BaseException:
                        await self._ended()
                        raise
                    else:
                        READ.labels("read").inc()
                        return found
                    break
                await self._ended()
            else:
                reason = "too large"
            READ.labels("quarantined").inc()
            return email.quarantined(raw, account, reason)

    async def _asked(self, raw: bytes, account: Account) -> tuple[Heard, ...]:
        if self._process is not None and (
            self._process.returncode is not None or self._done >= MAILS_A_CHILD
        ):
            await self._ended()
        process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        frame = pickle.dumps((account, raw), protocol=5)
        process.stdin.write(len(frame).to_bytes(4, "big"))
        process.stdin.write(frame)
        await process.stdin.drain()
        size = int.from_bytes(await process.stdout.readexactly(4), "big")
        if size > MOST_FRAME_BYTES:
            raise ValueError("an answer that is too large")
        found = load(await process.stdout.readexactly(size))
        if not isinstance(found, tuple) or not all(isinstance(one, Heard) for one in found):
            raise ValueError("an answer of another kind")
        self._done += 1
        return found

    async def _start(self) -> Process:
        root = str(Path(__file__).resolve().parents[2])
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PG", "MONOFIL_"))
        }
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{inherited}" if inherited else root
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "routing.aio.reader", str(self._cpu_s),
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, limit=1 << 20,
        )  # fmt: skip
        self._done = 0
        self.started += 1
        return self._process

    async def _ended(self) -> int | None:
        """Ends the child; its exit status, negative for a signal (None: there was none)."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(0.2):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            await process.stdin.wait_closed()
        return process.returncode

    async def close(self) -> None:
        async with self._turn:
            await self._ended()
