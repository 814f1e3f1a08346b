"""Mail on the wire: our listener by smtplib and raw bytes, Dovecot's mailboxes, aiosmtpd as a peer, the reader."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import smtplib
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.aio.mail import (
    Cursor,
    FileCursors,
    Flood,
    Mailbox,
    MailListener,
    Parser,
    Sender,
    Standing,
    _notice,
)
from routing.aio.reader import load
from routing.channel import Heard, MailCall, Reply, Unknown, Wrote
from routing.channels import email
from routing.models import Event, T
from routing.site import Account
from routing.store import Unavailable
from tests.fakes.dovecot import PASSWORD, PROGRAM, Dovecot
from tests.installed import needs

SERVICE = Account(
    "mail", "email", settings={"address": "service@exemple.fr", "own_addresses": "aide@exemple.fr"}
)
SALES = Account("sales", "email", settings={"address": "vente@exemple.fr"})
DEADLINE_S = 20.0


class Taken:
    """Where mails are handed to. `away`: the database is."""

    def __init__(self) -> None:
        self.mails: asyncio.Queue[tuple[str, bytes, Mapping[str, str]]] = asyncio.Queue()
        self.away = False
        self.hold: asyncio.Event | None = None
        self.holding = asyncio.Event()

    async def __call__(self, account: str, raw: bytes, facts: Mapping[str, str]) -> None:
        if self.hold is not None:
            self.holding.set()
            await self.hold.wait()
        if self.away:
            raise Unavailable("away")
        self.mails.put_nowait((account, raw, facts))

    async def next(self) -> tuple[str, bytes, Mapping[str, str]]:
        async with asyncio.timeout(DEADLINE_S):
            return await self.mails.get()

    async def id(self) -> str:
        return str(message_from_bytes((await self.next())[1])["Message-ID"])


@contextlib.asynccontextmanager
async def listening(taken: Taken, **more: Any) -> AsyncIterator[MailListener]:
    listener = MailListener(lambda: (SERVICE, SALES), taken, hostname="mx.exemple.fr", **more)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.close()


def bodies(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


async def wire(listener: MailListener, *pieces: bytes) -> list[bytes]:
    """Says it all and reads until the server closes; the lines of its answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_S):
        told = await reader.read()
    writer.close()
    await writer.wait_closed()
    return told.splitlines()


def session(body: bytes, *recipients: bytes, hello: bytes = b"EHLO me") -> bytes:
    to = b"".join(b"RCPT TO:<%b>\r\n" % one for one in recipients or (b"service@exemple.fr",))
    return hello + b"\r\nMAIL FROM:<jean@client.example>\r\n" + to + b"DATA\r\n" + body + b"\r\n.\r\nQUIT\r\n"


# Listening


async def test_a_mail_is_acknowledged_once_it_is_stored_and_brings_its_trace() -> None:
    taken = Taken()
    async with listening(taken) as listener:

        def send() -> dict[str, tuple[int, bytes]]:
            with smtplib.SMTP("127.0.0.1", listener.port, timeout=10) as client:
                client.ehlo("client.example")
                assert int(client.esmtp_features["size"]) == email.MOST_BYTES
                return client.sendmail(
                    "jean@client.example",
                    ["Service+c4521@Exemple.fr"],
                    "From: jean@client.example\n\n.Bonjour\n..\n",
                )

        assert await asyncio.to_thread(send) == {}
        account, raw, facts = await taken.next()
    assert account == "mail"
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"Return-Path: <jean@client.example>"
    assert head.splitlines()[2].startswith(
        b"Received: from client.example ([127.0.0.1]) by mx.exemple.fr with ESMTP; "
    )
    assert body == b".Bonjour\r\n..\r\n"
    assert (facts["sender"], facts["recipient"]) == ("jean@client.example", "Service+c4521@Exemple.fr")
    (heard,) = email.parse(raw, SERVICE)
    assert isinstance(heard, Wrote)
    assert heard.case_number == 4521


async def test_nothing_is_relayed_and_the_null_sender_is_told() -> None:
    taken = Taken()
    async with listening(taken) as listener:
        told = await wire(listener, session(b"x", b"somebody@elsewhere.example"))
        assert [line[:3] for line in told if line[:3] == b"550"] == [b"550"]
        assert any(line.startswith(b"503") for line in told)
        bounce = session(b"From: mailer-daemon@x.example\r\n\r\nx").replace(b"jean@client.example", b"")
        assert any(line.startswith(b"250 2.0.0") for line in await wire(listener, bounce))
        raw = (await taken.next())[1]
    (heard,) = email.parse(raw, SERVICE)
    assert isinstance(heard, Wrote)
    assert "null-sender" in heard.facts["automatic"]


async def test_lmtp_answers_for_each_recipient_and_smtp_once() -> None:
    taken = Taken()
    async with listening(taken) as listener:
        both = (b"service@exemple.fr", b"vente@exemple.fr", b"aide@exemple.fr")
        told = await wire(listener, session(b"From: a@b.example\r\n\r\nx", *both, hello=b"LHLO me"))
        assert sum(line == b"250 2.0.0 OK" for line in told) == 3
        assert {(await taken.next())[0], (await taken.next())[0]} == {"mail", "sales"}
        assert taken.mails.empty(), "each account once"
        told = await wire(listener, session(b"From: a@b.example\r\n\r\nx", *both))
        assert sum(line == b"250 2.0.0 OK" for line in told) == 1


async def test_without_the_database_the_sender_is_asked_to_come_again() -> None:
    taken = Taken()
    taken.away = True
    async with listening(taken) as listener:
        assert any(
            line.startswith(b"451 4.3.0") for line in await wire(listener, session(b"From: a@b.c\r\n\r\nx"))
        )
        taken.away = False
        assert any(
            line.startswith(b"250 2.0.0") for line in await wire(listener, session(b"From: a@b.c\r\n\r\nx"))
        )


async def test_a_mail_that_is_too_large_is_refused_and_the_next_is_taken() -> None:
    taken = Taken()
    async with listening(taken, most_bytes=100_000) as listener:
        told = await wire(
            listener,
            b"EHLO me\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<service@exemple.fr>\r\nDATA\r\n"
            + b"a" * 200_000 + b"\r\n.\r\n" + session(b"small", hello=b"RSET"),
        )  # fmt: skip
        assert any(line.startswith(b"552 5.3.4") for line in told)
        assert (await taken.next())[1].endswith(b"\r\nsmall\r\n")
        assert listener.coming_bytes == 0
        told = await wire(listener, b"EHLO me\r\nMAIL FROM:<a@b.c> SIZE=200000\r\nQUIT\r\n")
        assert any(line.startswith(b"552") for line in told)


async def test_millions_of_empty_lines_stall_nobody() -> None:
    taken = Taken()
    async with listening(taken) as listener:
        with stalls() as stalled:
            told = await wire(listener, session(b"From: a@b.c\r\n\r\n" + b"\r\n" * 5_000_000))
    assert any(line.startswith(b"250 2.0.0") for line in told)
    assert len((await taken.next())[1]) > 10_000_000
    assert stalled() < 0.2


async def test_one_sender_cannot_flood_us_while_others_are_heard() -> None:
    taken = Taken()
    async with listening(taken, flood_per_hour=3) as listener:
        codes = []
        for _ in range(5):
            told = await wire(listener, session(b"From: a@b.c\r\n\r\nx"))
            codes.append(any(line.startswith(b"450 4.7.1") for line in told))
        assert codes == [False, False, False, True, True]
        other = session(b"From: a@b.c\r\n\r\nx").replace(b"jean@", b"anne@")
        assert any(line.startswith(b"250 2.0.0") for line in await wire(listener, other))


def test_a_bucket_fills_again() -> None:
    flood = Flood(2)
    assert [flood.allows("a", 0.0) for _ in range(3)] == [True, True, False]
    assert [flood.allows("a", 1801.0) for _ in range(2)] == [True, False]
    assert all(flood.allows("<>", 0.0) for _ in range(20))


async def test_a_lone_newline_ends_no_mail() -> None:
    """SMTP smuggling: only CR LF dot CR LF is the end."""
    taken = Taken()
    evil = b"From: a@b.c\r\n\r\none\n.\nMAIL FROM:<x@y.z>\r.\r\n.\nRCPT TO:<vente@exemple.fr>\nDATA\nFrom: boss@bank"
    async with listening(taken) as listener:
        await wire(listener, session(evil))
        raw = (await taken.next())[1]
        assert raw.endswith(b"From: boss@bank\r\n")
        assert taken.mails.empty()


async def test_too_many_connections_are_sent_away() -> None:
    async with listening(Taken(), connections=1) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        assert (await reader.readline()).startswith(b"220")
        assert (await wire(listener, b""))[0].startswith(b"421")
        writer.close()
        await writer.wait_closed()


async def test_what_is_being_stored_is_finished_when_the_server_ends() -> None:
    taken = Taken()
    taken.hold = asyncio.Event()
    listener = MailListener(lambda: (SERVICE,), taken)
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(session(b"From: a@b.c\r\n\r\nx"))
    await asyncio.wait_for(taken.holding.wait(), DEADLINE_S)
    closing = asyncio.create_task(listener.close())
    await asyncio.sleep(0)
    taken.hold.set()
    await asyncio.wait_for(closing, DEADLINE_S)
    assert taken.mails.qsize() == 1
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    del reader


BODIES = st.lists(
    st.sampled_from(
        [b".", b"\r\n", b"\n", b"\r", b"a", b"..", b".\r\n", b"\r\n.", b"\r\n..\r\n", b"From: a@b.c"]
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=BODIES, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_however_the_bytes_are_cut_the_mail_is_the_same(body: bytes, cuts: list[int]) -> None:
    sent = b"\r\n".join(line if not line.startswith(b".") else b"." + line for line in body.split(b"\r\n"))
    told = session(sent)
    at = sorted({cut for cut in cuts if cut < len(told)})
    pieces = [told[start:end] for start, end in zip([0, *at], [*at, len(told)], strict=True)]

    async def run() -> bytes:
        taken = Taken()
        async with listening(taken) as listener:
            await wire(listener, *pieces)
            return (await taken.next())[1]

    raw = asyncio.run(run())
    assert raw.split(b"\r\n", 3)[3] == body + b"\r\n"


# Sending


class Peer:
    """aiosmtpd as the server that we send to; `at` says what it answers, or where it cuts the line."""

    def __init__(self, **at: str) -> None:
        self.at = at
        self.mails: list[tuple[str, list[str], bytes]] = []
        self.sessions: list[SMTP] = []

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        envelope.mail_from = address
        return self._answer("mail", server)

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        envelope.rcpt_tos.append(address)
        return self._answer("rcpt", server)

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return self._answer("data", server)

    def _answer(self, when: str, server: SMTP) -> str:
        answer = self.at.get(when, "250 OK")
        if answer == "cut":
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return answer


@contextlib.asynccontextmanager
async def peer(**at: str) -> AsyncIterator[tuple[Peer, Account]]:
    handler = Peer(**at)

    def session() -> SMTP:
        made = SMTP(handler, loop=asyncio.get_running_loop(), hostname="peer.example")
        handler.sessions.append(made)
        return made

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield (
        handler,
        replace(
            SERVICE,
            settings={
                **SERVICE.settings,
                "smtp_host": "127.0.0.1",
                "smtp_port": str(port),
                "smtp_tls": "none",
            },
        ),
    )
    server.close()
    await server.wait_closed()
    for one in handler.sessions:
        if one.transport is not None:
            one.transport.close()
        assert one._handler_coroutine is not None
        await asyncio.gather(one._handler_coroutine, return_exceptions=True)


CALL = MailCall("service@exemple.fr", "jean@client.example", b"Subject: x\r\nDate: now\r\n\r\n.Bonjour\r\n")


async def test_a_mail_is_handed_over_with_its_envelope() -> None:
    async with peer() as (server, account):
        reply = await Sender().send(account, {}, CALL)
        automatic = await Sender().send(
            account, {}, replace(CALL, sender="", content=b"Subject: y\r\n\r\nz\r\n")
        )
    assert (reply.status, reply.lost, automatic.status) == (250, False, 250)
    assert server.mails[0] == ("service@exemple.fr", ["jean@client.example"], CALL.content)
    assert server.mails[1][0] == "<>"
    assert server.mails[1][2].startswith(b"Date: "), "who has none gets one"


REPLIES = """
    mail=550 5.7.1 not you     | 550 no
    rcpt=550 5.1.1 unknown     | 550 no
    rcpt=450 4.2.0 greylisted  | 450 no
    rcpt=421 4.3.2 going down  | 421 no
    data=554 5.6.0 no          | 554 no
    data=452 4.3.1 full        | 452 no
    mail=cut                   | 0 no
    rcpt=cut                   | 0 no
    data=cut                   | 0 lost
"""


@pytest.mark.parametrize("row", [row for row in REPLIES.splitlines() if row.strip()])
async def test_the_servers_word_comes_back_and_only_silence_after_the_words_is_lost(row: str) -> None:
    said, _, expected = (part.strip() for part in row.partition("|"))
    when, _, answer = said.partition("=")
    async with peer(**{when: answer}) as (_, account):
        reply = await Sender(timeout_s=10).send(account, {}, CALL)
    status, lost = expected.split()
    assert (reply.status, reply.lost) == (int(status), lost == "lost")
    if answer != "cut":
        assert answer[4:].encode() in reply.body


async def test_who_cannot_be_reached_has_lost_nothing() -> None:
    async with peer() as (_, account):
        pass
    reply = await Sender(timeout_s=5).send(account, {}, CALL)
    assert (reply.status, reply.lost) == (0, False)


async def test_a_login_that_no_server_asked_for_is_no_mail_lost() -> None:
    async with peer() as (server, account):
        named = replace(account, settings={**account.settings, "smtp_user": "service"})
        reply = await Sender(timeout_s=5).send(named, {"smtp_password": "x"}, CALL)
        encrypted = replace(account, settings={**account.settings, "smtp_tls": "starttls"})
        refused = await Sender(timeout_s=5).send(encrypted, {}, CALL)
    assert server.mails == []
    assert not reply.lost
    assert not refused.lost
    assert refused.status == 0


async def test_what_we_send_we_can_take() -> None:
    taken = Taken()
    async with listening(taken) as listener:
        settings_ = {"smtp_host": "127.0.0.1", "smtp_port": str(listener.port), "smtp_tls": "none"}
        account = replace(SALES, settings={**SALES.settings, **settings_})
        big = b"Subject: x\r\nDate: now\r\n\r\n" + (b"a" * 70 + b"\r\n") * 200_000
        reply = await Sender().send(account, {}, MailCall("a@b.example", "service@exemple.fr", big))
        assert reply == Reply(250, body=b"2.0.0 OK")
        assert bodies((await taken.next())[1]) == bodies(big)


# Mailboxes

NEEDS_DOVECOT = needs(PROGRAM)


@pytest.fixture
async def dovecot() -> AsyncIterator[Dovecot]:
    server = Dovecot()
    try:
        await server.start()
        yield server
    finally:
        server.close()


class States:
    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def __call__(self, account: str, state: str, reason: str) -> None:
        self.told.put_nowait((state, reason))

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(DEADLINE_S):
            return await self.told.get()


def mailbox(server: Dovecot, taken: Taken, **more: Any) -> Mailbox:
    account = replace(
        SERVICE,
        settings={
            **SERVICE.settings, "imap_host": "127.0.0.1", "imap_port": str(server.port), "imap_tls": "none",
            "imap_user": "service",
        },
    )  # fmt: skip
    password = more.pop("password", PASSWORD)
    cursors = FileCursors(server.home / "cursors.json")
    return Mailbox(account, {"imap_password": password}, taken, cursors, backoff_s=(0.05, 0.2), **more)


def numbered(number: int) -> bytes:
    return b"From: jean@client.example\nMessage-ID: <%d@x>\n\nBonjour %d\n" % (number, number)


@pytest.mark.peer
@NEEDS_DOVECOT
async def test_a_mailbox_is_read_as_mails_come_and_none_twice_or_deleted(dovecot: Dovecot) -> None:
    dovecot.deliver("service", numbered(1))
    dovecot.deliver("service", numbered(2), seen=True)
    taken, states = Taken(), States()
    box = mailbox(dovecot, taken, told=states)
    await box.start()
    assert await taken.id() == "<1@x>", "what is unseen when it begins"
    assert await states.next() == ("up", "")
    dovecot.deliver("service", numbered(3))
    assert await taken.id() == "<3@x>", "by IDLE"
    await box.close()
    dovecot.deliver("service", numbered(4))
    box = mailbox(dovecot, taken)
    await box.start()
    assert await taken.id() == "<4@x>"
    dovecot.deliver("service", numbered(5))
    assert await taken.id() == "<5@x>"
    await box.close()
    assert taken.mails.empty()
    assert dovecot.flags("service")[:4] == ["S", "S", "S", "S"]


@pytest.mark.peer
@NEEDS_DOVECOT
async def test_a_mailbox_with_new_uids_is_looked_through_by_message_id(dovecot: Dovecot) -> None:
    taken = Taken()
    box = mailbox(dovecot, taken)
    for number in (1, 2, 3):
        dovecot.deliver("service", numbered(number))
    await box.start()
    assert [await taken.id() for _ in range(3)] == ["<1@x>", "<2@x>", "<3@x>"]
    await box.close()
    dovecot.forget_uids("service")
    dovecot.deliver("service", numbered(4), seen=True)

    async def known(ids: Sequence[str]) -> Collection[str]:
        return {"<1@x>", "<2@x>", "<3@x>"} & set(ids)

    box = mailbox(dovecot, taken, known=known)
    await box.start()
    assert await taken.id() == "<4@x>", "also when somebody has read it elsewhere"
    await box.close()
    assert taken.mails.empty()


@pytest.mark.peer
@NEEDS_DOVECOT
async def test_while_the_database_is_away_nothing_is_marked_and_then_all_comes(dovecot: Dovecot) -> None:
    taken = Taken()
    taken.away = True
    taken.hold = asyncio.Event()
    taken.hold.set()
    dovecot.deliver("service", numbered(1))
    box = mailbox(dovecot, taken)
    await box.start()
    await asyncio.wait_for(taken.holding.wait(), DEADLINE_S)
    assert dovecot.flags("service") == [""]
    taken.away = False
    assert await taken.id() == "<1@x>"
    await box.close()


@pytest.mark.peer
@NEEDS_DOVECOT
async def test_a_refused_login_is_told_and_closing_never_waits(dovecot: Dovecot) -> None:
    states = States()
    box = mailbox(dovecot, Taken(), told=states, password="wrong")
    await box.start()
    assert await states.next() == ("down", "login refused")
    await asyncio.wait_for(box.close(), 5)
    dovecot.stop()
    box = mailbox(dovecot, Taken(), told=states)
    await box.start()
    state, reason = await states.next()
    assert state == "down"
    assert "refused" in reason.lower()
    await asyncio.wait_for(box.close(), 5)


@pytest.mark.peer
@NEEDS_DOVECOT
async def test_a_server_without_idle_is_asked_now_and_then() -> None:
    server = Dovecot("imap_capability = IMAP4rev1 LITERAL+")
    taken = Taken()
    box = mailbox(server, taken, poll_s=0.05)
    try:
        await server.start()
        await box.start()
        server.deliver("service", numbered(1))
        assert await taken.id() == "<1@x>"
        server.deliver("service", numbered(2))
        assert await taken.id() == "<2@x>"
    finally:
        await box.close()
        server.close()


def test_an_account_that_sends_again_is_not_up_while_its_mailbox_is_not_read() -> None:
    told: list[tuple[str, str, str]] = []
    standing = Standing(lambda *words: told.append(words))

    def event(state: str) -> Event:
        own, data = UUID(int=1), {"account": "mail", "state": state, "reason": ""}
        return Event(seq=1, id=own, at=datetime.now(UTC), organisation=own, type=T.ACCOUNT_CHANGED, data=data)

    standing("mail", "down", "login refused")
    standing.hear(event("down"))
    standing.hear(event("up"))
    assert told == [("mail", "down", "login refused")] * 2
    standing("mail", "up", "")
    standing.hear(event("up"))
    assert told[2:] == [("mail", "up", "")]


def test_a_mail_that_is_too_large_for_us_is_told_of_and_stays() -> None:
    header = b"From: jean@client.example\r\nSubject: photos\r\nMessage-ID: <big@x>\r\nContent-Type: image/png\r\n\r\n"
    (heard,) = email.parse(_notice(header, 41_000_000), SERVICE)
    assert isinstance(heard, Wrote)
    assert (heard.subject, heard.external_id) == ("photos", "<big@x>")
    assert "41 Mo" in heard.text
    assert "41 MB" in heard.text


def test_cursors_survive_and_a_broken_file_is_no_cursor(tmp_path: Path) -> None:
    cursors = FileCursors(tmp_path / "cursors.json")
    assert cursors.load("mail") is None
    cursors.save("mail", Cursor(1, 2, "2026-11-03"))
    cursors.save("sales", Cursor(3, 4, "2026-11-04"))
    assert FileCursors(tmp_path / "cursors.json").load("mail") == Cursor(1, 2, "2026-11-03")
    (tmp_path / "cursors.json").write_text('{"mail": [1, "x"]}')
    assert cursors.load("mail") is None


# Reading


@contextlib.contextmanager
def stalls() -> Any:
    """How long the loop's thread computed at most without a turn for others, seconds of CPU."""
    loop = asyncio.get_running_loop()
    most, last, on = 0.0, time.thread_time(), True

    def turn() -> None:
        nonlocal most, last
        now = time.thread_time()
        most, last = max(most, now - last), now
        if on:
            loop.call_later(0.001, turn)

    turn()
    try:
        yield lambda: most
    finally:
        on = False


@contextlib.asynccontextmanager
async def reading(**more: Any) -> AsyncIterator[Parser]:
    parser = Parser(**more)
    try:
        yield parser
    finally:
        await parser.close()


FROM = b"From: a@b.example\nMessage-ID: <m@x>\n"
MIXED = FROM + b"Content-Type: multipart/mixed; boundary=b\n\n"
BOMBS: dict[str, Callable[[], bytes]] = {
    "MIME nested 3,000 deep": lambda: FROM + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3000)
    ),
    "message/rfc822 nested 2,000 deep": lambda: FROM + b"Content-Type: message/rfc822\n\n" * 2000,
    "100,000 parts": lambda: MIXED + b"--b\n\nx\n" * 100_000,
    "50,000 headers": lambda: FROM + b"X-A: y\n" * 50_000,
    "a header of 1 MB": lambda: FROM + b"X-A: " + b"a" * 1_000_000 + b"\n\nx",
    "30 MB and a bit": lambda: FROM + b"\n" + b"a" * email.MOST_BYTES,
    "99 boundaries in 400,000 lines": lambda: FROM
    + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(99))
    + b"\nline\n" * 600_000,
}  # fmt: skip


async def test_no_bomb_stalls_the_loop_or_the_mails_behind_it(capsys: pytest.CaptureFixture[str]) -> None:
    bombs = {name: make() for name, make in BOMBS.items()}
    async with reading() as parser:
        await parser.parse(FROM + b"\nwarm", SERVICE)
        for name, raw in bombs.items():
            began = time.monotonic()
            with stalls() as stalled:
                (heard,) = await parser.parse(raw, SERVICE)
            assert isinstance(heard, Wrote)
            assert heard.facts.get("quarantined"), name
            (after,) = await parser.parse(FROM + b"\nBonjour", SERVICE)
            assert isinstance(after, Wrote)
            assert after.text == "Bonjour"
            print(
                f"{name}: {heard.facts['quarantined']}, {time.monotonic() - began:.2f} s, stall {stalled():.3f} s"
            )
            assert stalled() < 0.2, name


async def test_archives_and_a_mail_of_thirty_megabytes_are_files_and_stall_nobody() -> None:
    zipped = b"PK\x03\x04" + bytes(1000)
    part = b"--b\nContent-Type: application/zip; name=a.zip\nContent-Transfer-Encoding: base64\n\n"
    raw = MIXED + part + (b"QUFB" * 19 + b"\n") * 380_000 + b"--b--\n"
    async with reading() as parser:
        with stalls() as stalled:
            (heard,) = await parser.parse(raw, SERVICE)
        assert isinstance(heard, Wrote)
        print(f"30 MB: stall {stalled():.3f} s")
        assert [len(file.content or b"") for file in heard.files] == [380_000 * 57]
        assert stalled() < 0.2
        small = MIXED + b"--b\nContent-Type: application/zip\n\n" + zipped + b"\n--b--\n"
        (heard,) = await parser.parse(small, SERVICE)
        assert isinstance(heard, Wrote)
        assert (heard.files[0].type, heard.files[0].content) == ("application/zip", zipped)


async def test_html_comes_out_clean_and_what_cannot_be_cleaned_is_a_file() -> None:
    async with reading() as parser:
        (heard,) = await parser.parse(
            FROM + b"Content-Type: text/html\n\n<p onclick=x>a<script>b</script>", SERVICE
        )
        assert isinstance(heard, Wrote)
        assert (heard.html, heard.text) == ("<p>a\n</p>", "a") or heard.html == "<p>a</p>"
        (heard,) = await parser.parse(
            FROM + b"Content-Type: text/html\n\n" + b"<p><b><i><a href=x>" * 9000, SERVICE
        )
        assert isinstance(heard, Wrote)
        assert heard.html == ""
        assert heard.files[0].name == "message.html"


async def test_a_child_that_dies_is_replaced_and_its_mail_is_not_lost() -> None:
    async with reading() as parser:
        await parser.parse(FROM + b"\nx", SERVICE)
        assert parser._process is not None
        os.kill(parser._process.pid, signal.SIGKILL)
        (heard,) = await parser.parse(FROM + b"\nBonjour", SERVICE)
        assert isinstance(heard, Wrote)
        assert heard.text == "Bonjour" or heard.facts["quarantined"]
        (heard,) = await parser.parse(FROM + b"\nBonsoir", SERVICE)
        assert isinstance(heard, Wrote)
        assert heard.text == "Bonsoir"
        assert parser.started == 2


async def test_a_mail_that_takes_too_much_of_the_processor_is_quarantined() -> None:
    raw = MIXED + b"--b\nContent-Type: text/plain\n\n" + b"a line of it\n" * 1_400_000
    async with reading(cpu_s=1) as parser:
        (heard,) = await parser.parse(raw, SERVICE)
        assert isinstance(heard, Wrote)
        assert heard.facts["quarantined"] == "it took too long to read"
        (heard,) = await parser.parse(FROM + b"\nBonjour", SERVICE)
        assert isinstance(heard, Wrote)
        assert heard.text == "Bonjour"


async def test_a_child_that_takes_too_long_is_ended() -> None:
    async with reading(timeout_s=0.5) as parser:
        process = await parser._start()
        os.kill(process.pid, signal.SIGSTOP)
        (heard,) = await parser.parse(FROM + b"\nBonjour", SERVICE)
        assert isinstance(heard, Wrote)
        assert heard.facts["quarantined"] == "it took too long to read"
        assert process.returncode == -signal.SIGKILL


async def test_a_mail_without_anybody_is_no_customer() -> None:
    async with reading() as parser:
        (heard,) = await parser.parse(b"\xff\x00", SERVICE)
        assert isinstance(heard, Unknown)


def test_the_child_can_only_say_values_of_ours() -> None:
    import pickle
    import subprocess

    for evil in (os.system, subprocess.Popen, eval, getattr):
        with pytest.raises(pickle.UnpicklingError):
            load(pickle.dumps(evil))
    told: tuple[Heard, ...] = email.parse(FROM + b"Date: Tue, 3 Nov 2026 09:14:58 +0100\n\nx", SERVICE)
    assert load(pickle.dumps(told, protocol=5)) == told
