"""Bombs, loops and pages that stop reading, at a running server that others write to (faults.md rows 31, 35, 41)."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from email.message import EmailMessage
from email.utils import make_msgid
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from config.written import own_key
from tests.e2e.counter import BOX_ADDRESS, ROBOT_ADDRESS, Counter, open_counter
from tests.e2e.hotline import LONG_S, a_moment
from tests.e2e.served import Served
from tests.routing.test_fetch import png
from tests.routing.test_mail import BOMBS

pytestmark = pytest.mark.asyncio(loop_scope="module")

STALL_S = 0.2
GROWN_MB = 64.0  # what a bomb may leave behind, beside what is on its way


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def counter(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Counter]:
    folder = tmp_path_factory.mktemp("counter")
    folder.chmod(0o755)
    [postmaster] = cluster.home.rglob("postmaster.pid")
    async with open_counter(folder, cluster.address) as opened:
        server = opened.hotline.server.pid
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, server, -15)  # and before its own child that reads the mails
        with before_others(server, int(postmaster.read_text().split()[0]), os.getpid()):
            yield opened


@contextlib.contextmanager
def before_others(*pids: int) -> Iterator[None]:
    """These go before the machine's other work, which is not what is measured.

    Servers have sessions of their own, and nice counts inside a session only: sched(7), "The autogroup feature".
    """
    with contextlib.suppress(OSError):
        for pid in pids:
            Path(f"/proc/{pid}/autogroup").write_text("-15")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text("0")


def lag(metrics: dict[str, float], of_s: float = STALL_S) -> float:
    """How often the server's loop was later than `of_s`."""
    name = "monofil_event_loop_lag_seconds"
    return metrics[f"{name}_count"] - metrics[f'{name}_bucket{{le="{of_s}"}}']


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@contextlib.asynccontextmanager
async def small_talk(counter: Counter, name: str) -> AsyncIterator[list[float]]:
    """Small mails and webhooks that go on meanwhile; how long each took to be taken, seconds."""
    took: list[float] = []
    ana = counter.graph.customer(f"9{abs(hash(name)) % 10**6}")
    stop = asyncio.Event()

    async def talk() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            began = time.monotonic()
            await ana.writes(f"{name} {number}")
            assert counter.graph.told[-1].status == 200
            took.append(time.monotonic() - began)
            began = time.monotonic()
            await counter.writes(f"{name}{number}@client.example", f"{name} {number}", "Bonjour")
            took.append(time.monotonic() - began)
            await a_moment()

    talking = asyncio.create_task(talk())
    try:
        yield took
    finally:
        stop.set()
        await talking


async def hand_in(counter: Counter, raw: bytes, sender: str) -> str:
    """Lines of CRLF as they are; the answer. A client library reads 30 MB first, while nothing else is timed here."""
    assert b"\r\n." not in raw
    assert counter.hotline.server.mail is not None
    host, _, port = counter.hotline.server.mail.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def say(words: bytes) -> str:
        writer.write(words)
        await writer.drain()
        while (line := (await reader.readline()).decode())[3:4] == "-":
            pass
        return line

    begin = f"EHLO client.example|MAIL FROM:<{sender}> SIZE={len(raw)}|RCPT TO:<{BOX_ADDRESS}>|DATA"
    try:
        answer = await say(b"")
        for command in begin.split("|"):
            answer = await say(f"{command}\r\n".encode())
            if answer[:1] not in ("2", "3"):
                return answer
        return await say(raw + b"\r\n.\r\n")
    finally:
        writer.close()
        await writer.wait_closed()


async def test_bombs_by_mail_stall_nobody_and_the_mailbox_goes_on(counter: Counter) -> None:
    server = counter.hotline.server
    thirty = (
        b"From: big@client.example\r\nMessage-ID: <big@client.example>\r\nContent-Type: multipart/mixed; boundary=b\r\n"
        b"\r\n--b\r\nContent-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + (b"QUFB" * 19 + b"\r\n") * 380_000
        + b"--b--\r\n"
    )
    bombs = {name: make().replace(b"\n", b"\r\n") for name, make in BOMBS.items()} | {"30 MB": thirty}
    bombs["1,000 levels"] = b"From: deep@client.example\r\n" + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(1000)
    )
    picture = EmailMessage()
    picture["From"], picture["To"], picture["Subject"] = "pixels@client.example", BOX_ADDRESS, "Photo"
    picture.set_content("Voici")
    picture.add_attachment(png(50_000, 50_000), "image", "png", filename="large.png")
    bombs["50,000 × 50,000 pixels"] = picture.as_bytes().replace(b"\n", b"\r\n")
    before, memory = await server.metrics(), resident_mb(server.pid)
    async with small_talk(counter, "small") as took:
        for n, raw in enumerate(bombs.values()):
            raw = raw.replace(b"<m@x>", b"<bomb%d@x>" % n)
            answer = await hand_in(counter, raw, f"bomb{n}@client.example")
            assert answer.startswith("552" if len(raw) > 30_000_000 else "250"), answer
    await counter.until_handled(60.0)
    after = await server.metrics()
    print(
        f"{len(took)} small ones, slowest {max(took):.3f} s; late by 0.1 s: {lag(after, 0.1) - lag(before, 0.1):.0f}"
    )
    assert lag(after) == lag(before), "the loop was never stopped for longer"
    assert max(took) < 3.0
    written = await counter.count("d.text LIKE 'Bonjour%' AND d.subject LIKE 'small %'")
    assert written == await counter.count("d.text LIKE 'small %'") == len(took) / 2
    quarantined = await counter.count("d.extra ? 'quarantined'")
    assert quarantined >= len(bombs) - 3
    [large] = await counter.hotline.sql(
        "SELECT a.state, a.failed FROM attachment a JOIN attachment_data d ON d.attachment = a.id"
        " WHERE d.name = 'large.png'"
    )
    assert "quarantined" in (large["state"], large["failed"])
    print(f"memory {memory:.0f} → {resident_mb(server.pid):.0f} MB")
    assert resident_mb(server.pid) < memory + 200
    await counter.writes("after@client.example", "after", "Bonjour")
    await counter.until_handled()
    assert await counter.count("d.subject = 'after'") == 1


def json_bombs() -> dict[str, bytes]:
    entry = b'{"object":"page","entry":[{"id":"1001","time":1,"messaging":[%s]}]}'
    event = b'{"sender":{"id":"66"},"recipient":{"id":"1001"},"timestamp":1,"message":{"mid":"%s","text":%s}}'
    return {
        "nested 100,000 deep": entry % (b"[" * 100_000 + b"]" * 100_000),
        "objects 100,000 deep": entry % (b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        "a number of 200,000 digits": entry
        % event.replace(b'"timestamp":1', b'"timestamp":' + b"9" * 200_000)
        % (b"big", b'"x"'),
        "1e400": entry % (event.replace(b'"timestamp":1', b'"timestamp":1e400') % (b"inf", b'"x"')),
        "not a number": entry % (event.replace(b'"timestamp":1', b'"timestamp":NaN') % (b"nan", b'"x"')),
        "the same key twice": entry % (event % (b"twice", b'"a","text":"b","text":"c"')),
        "a text of 4 MB": entry % (event % (b"long", b'"' + b"a" * (4 << 20) + b'"')),
        "3,000 events": entry % b",".join([event % (b"m1", b'"' + b"x" * 1000 + b'"')] * 3_000),
        "no JSON": b"\xff\xfe\x00{",
        "lone surrogates and NUL": entry % (event % (b"naughty", rb'"\ud800\u0000\udfff"')),
    }


async def test_bombs_by_webhook_stall_nobody_and_are_kept_or_refused(counter: Counter) -> None:
    server = counter.hotline.server
    before, memory = await server.metrics(), resident_mb(server.pid)
    statuses = {}
    async with small_talk(counter, "hook") as took, aiohttp.ClientSession() as http:
        for name, body in json_bombs().items():
            headers = {"X-Hub-Signature-256": counter.graph.sign(body), "Content-Type": "application/json"}
            async with http.post(counter.graph.callback, data=BytesIO(body), headers=headers) as answer:
                statuses[name] = answer.status
        packed = gzip.compress(b" " * (64 << 20))
        for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "GZip"):
            headers = {"X-Hub-Signature-256": counter.graph.sign(packed), "Content-Encoding": coding}
            async with http.post(counter.graph.callback, data=packed, headers=headers) as answer:
                statuses[coding] = answer.status
    await counter.until_handled(60.0)
    after = await server.metrics()
    print(statuses, f"slowest {max(took):.3f} s", f"memory {memory:.0f} → {resident_mb(server.pid):.0f} MB")
    print("late by 0.1 s:", lag(after, 0.1) - lag(before, 0.1))
    assert {statuses[name] for name in json_bombs()} == {200}, "what is signed is kept"
    assert {status for name, status in statuses.items() if name not in json_bombs()} <= {400, 413, 415}
    assert lag(after) == lag(before)
    assert max(took) < 3.0
    assert resident_mb(server.pid) < memory + 200
    assert await counter.count("m.external_id = 'm1'") == 1


# Loops


def answered(mail: EmailMessage, polite: bool) -> EmailMessage:
    """What a mailbox whose rules answer everything sends back."""
    answer = EmailMessage()
    answer["From"], answer["To"] = "absent@client.example", mail["From"]
    answer["Subject"] = f"Re: {mail['Subject']}"
    answer["Message-ID"] = make_msgid(domain="client.example")
    answer["In-Reply-To"] = answer["References"] = str(mail["Message-ID"])
    if polite:
        answer["Auto-Submitted"] = "auto-replied"
        answer["X-Auto-Response-Suppress"] = "All"
    answer.set_content("Je suis absent, votre message sera lu à mon retour.")
    return answer


@pytest.mark.parametrize("polite", [True, False])
async def test_two_auto_responders_facing_each_other_stop_within_three_mails(
    counter: Counter, polite: bool
) -> None:
    me = f"absent{int(polite)}@client.example"
    first = len(counter.post.arrived)
    await counter.writes(me, "Facture", "Bonjour", to=ROBOT_ADDRESS)

    def ours() -> list[EmailMessage]:
        return [mail for mail in counter.post.arrived[first:] if me in str(mail["To"])]

    seen = 0
    for _ in range(12):
        await counter.until_quiet()
        if len(ours()) == seen:
            break
        for mail in ours()[seen:]:
            seen += 1
            assert str(mail["Auto-Submitted"]).startswith("auto-"), "ours says what it is"
            answer = answered(mail, polite)
            answer.replace_header("From", me)
            await counter.mails(answer.as_bytes(), me, ROBOT_ADDRESS)
    else:
        pytest.fail("it never stopped")
    assert seen == (1 if polite else seen)
    assert 1 <= seen <= 3
    # A new matter each time, for a robot that changes its subject and forgets what it answers
    for n in range(6):
        headers = {"Auto-Submitted": "auto-generated"} if polite else {}
        await counter.writes(me, f"Absence {n}", "Je suis absent.", to=ROBOT_ADDRESS, **headers)
        await counter.until_quiet()
    assert len(ours()) <= 3


def bounce(of: str, final: str) -> bytes:
    return (
        "From: Mail Delivery System <MAILER-DAEMON@mx.client.example>\r\nSubject: Undelivered Mail Returned\r\n"
        f"Message-ID: {make_msgid(domain='mx.client.example')}\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nThis is the mail system.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.client.example\r\n\r\n"
        f"Final-Recipient: rfc822; {final}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {of}\r\n\r\n--b--\r\n"
    ).encode()


async def test_bounces_of_our_answers_are_told_and_never_answered(counter: Counter) -> None:
    me = "gone@client.example"
    first = len(counter.post.arrived)
    await counter.writes(me, "Ma facture", "Bonjour", to=ROBOT_ADDRESS)
    await counter.until_quiet()
    [answer] = (mail for mail in counter.post.arrived[first:] if me in str(mail["To"]))
    for _ in range(3):
        await counter.mails(bounce(str(answer["Message-ID"]), me), "", ROBOT_ADDRESS)
        await counter.until_quiet()
    assert len(counter.post.arrived) == first + 1
    assert await counter.count("m.direction = 'out' AND m.status = 'failed'") == 1
    # and a bounce that is no report, as old servers write them
    for sender in ("", "mailer-daemon@mx.client.example"):
        mail = (
            f"From: MAILER-DAEMON@mx.client.example\r\nTo: {ROBOT_ADDRESS}\r\nSubject: failure notice\r\n"
            f"Message-ID: {make_msgid(domain='mx.client.example')}\r\n\r\nHi. This is the qmail-send program.\r\n"
        )
        await counter.mails(mail.encode(), sender, ROBOT_ADDRESS)
    await counter.until_quiet()
    assert len(counter.post.arrived) == first + 1


async def test_forged_references_and_tokens_join_no_case(counter: Counter) -> None:
    victim = "victim@client.example"
    first = len(counter.post.arrived)
    told = await counter.writes(victim, "Ma facture du mois", "Voici mon RIB.", to=ROBOT_ADDRESS)
    await counter.until_quiet()
    [answer] = (mail for mail in counter.post.arrived[first:] if victim in str(mail["To"]))
    [mine] = await counter.hotline.sql("SELECT case_id FROM message WHERE external_id = $1", told)
    number = (await counter.hotline.admin.get(f"/cases/{mine['case_id']}"))["number"]
    forged = re.sub(r"(?<=[.+])[0-9a-zA-Z_-]{6,}(?=@)", "AAAAAAAAAAAA", str(answer["Message-ID"]))
    tries: dict[str, dict[str, str]] = {
        "the customer's own id": {"In_Reply_To": told, "References": told},
        "a made-up token": {"In_Reply_To": forged, "References": forged},
        "the number in the subject": {},
        "a verdict of its own": {
            "In_Reply_To": told,
            "Authentication_Results": "mx.client.example; dkim=pass header.d=client.example; dmarc=pass",
        },
    }
    for n, (name, headers) in enumerate(tries.items()):
        subject = f"Re: Ma facture du mois [#{number}]"
        thief = f"Victim <thief{n}@evil.example>" if n % 2 else f"thief{n}@evil.example"
        id_ = await counter.writes(thief, subject, "Et mon remboursement ?", to=ROBOT_ADDRESS, **headers)
        await counter.until_handled()
        [found] = await counter.hotline.sql(
            "SELECT case_id, contact FROM message WHERE external_id = $1", id_
        )
        assert found["case_id"] != mine["case_id"], name


# Files


async def test_a_forged_link_opens_no_file_and_a_genuine_one_shows_nothing_in_a_page(
    counter: Counter,
) -> None:
    """Faults.md row 34. Only the server can make a link; here it is made with its own key."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "files@client.example", BOX_ADDRESS, "Deux pièces"
    mail.set_content("Voici")
    page = b"<html><script>alert(1)</script></html>"
    mail.add_attachment(page, "text", "html", filename="page.html")
    mail.add_attachment(png(3, 3), "image", "png", filename="../../a\u202egnp.html")
    mail.add_attachment(png(50_000, 50_000), "image", "png", filename="refused.png")
    await counter.mails(mail.as_bytes(), "files@client.example")
    await counter.until_handled()
    rows = await counter.hotline.sql(
        "SELECT a.id, a.state, d.name FROM attachment a JOIN attachment_data d ON d.attachment = a.id"
        " JOIN message_data m ON m.message = a.message WHERE m.subject = 'Deux pièces'"
    )
    ids = {row["name"].rpartition(".")[0]: row["id"] for row in rows}
    assert {row["name"]: row["state"] for row in rows if row["name"] == "refused.png"} != {
        "refused.png": "stored"
    }
    html, refused = ids["page"], ids["refused"]
    [picture] = set(ids.values()) - {html, refused}
    key = own_key(counter.hotline.server.folder)

    def query(id: object, ahead_s: float = 600, of: bytes = key) -> dict[str, str]:
        until = int(time.time() + ahead_s)
        proof = hmac.new(of, f"{id} {until}".encode(), hashlib.sha256).hexdigest()
        return {"until": str(until), "proof": proof}

    good = query(html)
    until, proof = good["until"], good["proof"]
    forged: list[tuple[str, Any]] = [
        (f"/files/{html}", about)
        for about in (
            {}, {"until": until}, {"proof": proof}, {"until": until, "proof": ""}, {"until": "", "proof": proof},
            {"until": until, "proof": proof[:-1]}, {"until": until, "proof": proof + "0"},
            {"until": until, "proof": proof.upper()}, {"until": until, "proof": "0" * 64},
            {"until": until, "proof": "é" * 64}, {"until": until, "proof": "f" * 5000},
            {"until": str(int(until) + 1), "proof": proof}, {"until": str(int(until) - 1), "proof": proof},
            {"until": "9" * 5000, "proof": proof}, {"until": "-1", "proof": proof}, {"until": "1e99", "proof": proof},
            {"until": "NaN", "proof": proof}, {"until": f"{until}\0", "proof": proof},
            [("until", str(int(until) + 9999)), ("until", until), ("proof", proof)],
            [("until", until), ("proof", ""), ("proof", proof)],
            query(picture), query(html, -2), query(html, of=b""), query(html, of=b"s" * 32),
            query(str(html).upper()), query(html, of=str(html).encode()),
        )
    ]  # fmt: skip
    forged += [
        (f"/files/{path}", good)
        for path in (
            picture, UUID(int=0), f"{html}/..", f"../files/{picture}", f"%2e%2e/{html}", f"{html}%00", f"{html}.html",
            f"{html}/{picture}", "..%2f..%2fkey", "key", "",
        )
    ]  # fmt: skip
    forged.append((f"/files/{refused}", query(refused)))
    forged.append((f"/files/{UUID(int=7)}", query(UUID(int=7))))
    async with aiohttp.ClientSession() as http:

        async def ask(path: str, about: Any, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
            url = URL(f"{counter.http}{path}", encoded=True).with_query(about)
            async with http.request(method, url, headers=headers) as answer:
                return answer.status, answer.headers, await answer.read()

        for id, content, type_ in (
            (html, page, "application/octet-stream"),
            (picture, png(3, 3), "image/png"),
        ):
            status, headers, body = await ask(f"/files/{id}", query(id))
            assert (status, body) == (200, content)
            assert headers["Content-Type"] == type_, "what its bytes are"
            assert headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''")
            assert not set("\r\n/\u202e") & set(headers["Content-Disposition"])
            assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
            assert (headers["X-Frame-Options"], headers["X-Content-Type-Options"]) == ("DENY", "nosniff")
            assert headers["Cache-Control"] == "private, no-store"
        _, _, front = await ask("/", {})  # whatever path there is none for, the console's own page shows
        for path, about in forged:
            status, headers, body = await ask(path, about)
            assert status == 404 or body == front, (path, about, status)
            assert page not in body
            assert headers["X-Frame-Options"] == "DENY"
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await ask(f"/files/{html}", good, method))[0] == 405, method
        sly = {"X-Original-URL": f"/files/{html}", "X-Forwarded-Host": "evil.example", "Range": "bytes=0-0"}
        assert (await ask(f"/files/{picture}", good, **sly))[0] == 404
        assert (await ask(f"/api/v1/attachments/{html}", good))[0] == 401, "a link is no session"
        assert (await ask(f"/files/{html}", good, Range="bytes=6-13"))[2] == b"<script>"


# A page that stops reading


async def test_a_page_that_stops_reading_costs_the_others_nothing_while_messages_arrive(
    counter: Counter,
) -> None:
    server = counter.hotline.server
    bea = counter.graph.customer("770001")
    await bea.writes("Bonjour")
    await counter.until_quiet()
    [chat] = await counter.hotline.sql(
        "SELECT m.interaction FROM message m JOIN thread t ON t.id = m.thread"
        " JOIN address_data a ON a.address = t.address WHERE a.value = '770001'"
    )
    async with contextlib.AsyncExitStack() as stack:
        good = await counter.signed_in("ines", stack)
        await good.set_presence("ready")
        await good.take(str(chat["interaction"]))
        [cookie] = [morsel.value for morsel in good._http.cookie_jar if morsel.key == "monofil_session"]
        stuck = await asyncio.to_thread(stopped_reader, server.http, cookie)
        stack.callback(stuck.close)
        await counter.hotline.until(lambda: pages(server, 3))
        memory, took = resident_mb(server.pid), []
        for n in range(14):
            counter.graph.hold()
            for k in range(40):
                await bea.writes(f"{n}.{k} " + "é" * 1900)
            mark, began = len(good.frames), time.monotonic()
            await counter.graph.release()
            last = f"{n}.39 "
            await good.wait_for(
                "message.added",
                lambda data, last=last: data["message"]["text"].startswith(last),  # type: ignore[misc]
                within_s=LONG_S,
                after=mark,
            )
            took.append(time.monotonic() - began)
        after = resident_mb(server.pid)
        print(f"40 messages: {min(took):.3f} to {max(took):.3f} s, memory {memory:.0f} → {after:.0f} MB")
        assert after < memory + GROWN_MB
        assert sorted(took[7:])[3] < 2 * sorted(took[:7])[3] + 0.2, "as quick at the end as at the beginning"
        await counter.hotline.until(lambda: pages(server, 2))
        assert (await server.metrics())["monofil_pages_slow_total"] == 1


async def pages(server: Served, count: int) -> bool:
    return (await server.metrics())["monofil_pages"] == count


def stopped_reader(http: str, cookie: str) -> socket.socket:
    """A page that asks for its frames and never takes one."""
    where = urlsplit(http)
    it = socket.socket()
    it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    it.connect((where.hostname, where.port))
    it.sendall(
        (
            f"GET /api/v1/events HTTP/1.1\r\nHost: {where.netloc}\r\nOrigin: {http}\r\n"
            f"Cookie: monofil_session={cookie}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
    )
    return it
