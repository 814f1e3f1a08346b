"""What customers write, in a real Chromium: nothing of it acts (faults.md rows 28 and 37), no reload loses any (36)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from email.header import Header
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formataddr, make_msgid
from typing import Any
from urllib.parse import urlsplit

import aiosmtplib
import pytest
import pytest_asyncio

from softphone_bridge.aio.phone import Call, Phone
from tests.e2e.browser import Browser, Page, needs_a_browser
from tests.e2e.counter import BOX_ADDRESS, Counter, open_counter
from tests.e2e.hotline import LONG_S, PHONES, a_moment
from tests.routing.test_letter import WAYS_IN

pytestmark = pytest.mark.asyncio(loop_scope="module")

USUAL = re.compile(r"status of 401 .*/api/v1/session$|/favicon\.ico$")
"""A page asks who is there; and a page that is nobody's may not have our icon."""
MORE_WAYS = (
    "javascript:alert(1)",
    "https://evil.example/\u202egnp.exe",
    "{{constructor.constructor('alert(1)')()}}${alert(1)}#{alert(1)}",
    "\"-alert(1)-\" '-alert(1)-' `${alert(1)}`",
    "--><!--</title></style></textarea></script><svg/onload=alert(1)>",
    "<svg><desc><![CDATA[</desc><script>alert(1)</script>]]></svg>",
    "<math><annotation-xml encoding='text/html'><img src=x onerror=alert(1)></annotation-xml></math>",
    "<math><mi><mglyph><svg><mtext><style><a title='</style><img src=x onerror=alert(1)>'>",
    "<svg></p><style><a id='</style><img src=1 onerror=alert(1)>'>",
    "<p><svg><title><template><style><a title='</style></template></title><img src=x onerror=alert(1)>'>",
    "<a href='\u0001javascript:alert(1)'>x</a><a href='jav\tascript:alert(1)'>y</a>",
    "<img src='https://evil.example/%E2%80%AE.png' alt='\u2066x'>",
    "<input type=image src=https://evil.example/a.png formaction=javascript:alert(1)>",
    "<style>@font-face{font-family:x;src:url(https://evil.example/f)}*{font-family:x}</style>x",
    "<p style='background:\\75\\72\\6c(https://evil.example/a.png)'>x</p>",
    "<p style='background:image-set(\"https://evil.example/a.png\" 1x)'>x</p>",
    "<picture><source srcset=https://evil.example/s.png><img></picture>",
    "<video><track default src=https://evil.example/t.vtt></video>",
    "<link rel=dns-prefetch href=//evil.example><link rel=preconnect href=//evil.example>",
    "<iframe sandbox='allow-scripts allow-same-origin' srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<portal src=https://evil.example></portal><fencedframe src=https://evil.example></fencedframe>",
    "<dialog open popover><button popovertarget=x autofocus onfocus=alert(1)>x</button></dialog>",
    "%3Cscript%3Ealert(1)%3C/script%3E &lt;script&gt;alert(1)&lt;/script&gt; \\u003cscript\\u003ealert(1)",
    "\ufeff<script>alert(1)</script>\u2028alert(1)\u2029",
)
WAYS = [*(way for way in WAYS_IN.splitlines() if way), *MORE_WAYS]
SVG = (
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script>"
    b"<image href='https://evil.example/a.png'/></svg>"
)
PICTURES = frozenset({"evil.example", "a.example", "b.example"})
NAUGHTY = (
    "CR\rLF\nTab\tNUL\x00Bell\x07Esc\x1b[31mred\x1b[0m",
    "\u202egnirts desrever\u202c \u2066isolated\u2069 \u200fmark",
    "\ud800 a lone surrogate \udfff",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334 zalgo",
    "\u0000\u0001\u007f\u0080\u009b31m\u0085\u2028\u2029\ufeff\ufffe\uffff",
    '{"level":"critical","event":"forged"}\n{"level":"critical","event":"forged"}',
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def counter(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Counter]:
    needs_a_browser()
    folder = tmp_path_factory.mktemp("counter")
    folder.chmod(0o755)
    async with Phone(user="trunk", on_call=lambda call: call.answer()) as customer:
        trunks = {"loopback": {"target": f"127.0.0.1:{customer.port};transport=udp"}}
        async with open_counter(folder, cluster.address, trunks=trunks) as opened:
            yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(counter: Counter) -> AsyncIterator[Browser]:
    async with Browser() as opened:
        yield opened


@contextlib.asynccontextmanager
async def signed_in(
    counter: Counter, browser: Browser, login: str, *, abroad: frozenset[str] = frozenset()
) -> AsyncIterator[Page]:
    """A page that has complained of nothing, and asked nobody but us and the hosts `abroad`, when it closes."""
    password = (await counter.hotline.secrets(login))[0]
    page = await browser.open(login, counter.http)
    await page.sign_in(login, password)
    try:
        yield page
    except BaseException:
        with contextlib.suppress(Exception):
            await page.shot(f"/tmp/counter-{login}.png")
        raise
    await nothing_happened(page, abroad)
    await browser.ask(login, "close")


async def nothing_happened(page: Page, abroad: frozenset[str] = frozenset()) -> list[str]:
    """No script ran, none was refused by a policy, nobody else was asked. What was asked of `abroad`."""
    seen = await page.abroad()
    assert seen["dialogs"] == []
    assert seen["pages"] == 1
    hosts = {urlsplit(url).hostname for url in seen["asked"] if not url.startswith(("data:", "blob:"))}
    assert hosts <= abroad, seen["asked"]
    complaints = [one for one in await page.complaints() if not USUAL.search(one)]
    assert [one for one in complaints if not any(host in one for host in abroad)] == []
    return [str(url) for url in seen["asked"]]


def letter(way: str, sender: str, name: str = "") -> bytes:
    """A mail with the same way in at each of its places."""
    mail = MIMEMultipart()
    mail["From"] = formataddr((str(Header(name, "utf-8")), sender))
    mail["To"], mail["Subject"] = BOX_ADDRESS, Header(way, "utf-8").encode()
    mail["Message-ID"] = make_msgid(domain="evil.example")
    mail.attach(
        MIMEMultipart(
            "alternative", _subparts=[MIMEText(way, "plain"), MIMEText(f"<div>{way}</div>", "html")]
        )
    )
    picture = MIMEImage(SVG, "svg+xml")
    picture.add_header("Content-Disposition", "attachment", filename=("utf-8", "", f"{way[:60]}.svg"))
    mail.attach(picture)
    return mail.as_bytes()


async def send(counter: Counter, letters: list[tuple[str, bytes]]) -> None:
    assert counter.hotline.server.mail is not None
    host, _, port = counter.hotline.server.mail.rpartition(":")
    async with aiosmtplib.SMTP(hostname=host, port=int(port), timeout=30.0) as smtp:
        for sender, raw in letters:
            await smtp.sendmail(sender, [BOX_ADDRESS], raw)


async def case_of(counter: Counter, address: str) -> str:
    [row] = await counter.hotline.sql(
        "SELECT DISTINCT m.case_id FROM message m JOIN thread t ON t.id = m.thread"
        " JOIN address_data a ON a.address = t.address WHERE a.value = $1",
        address,
    )
    return str(row["case_id"])


async def ready(page: Page) -> None:
    await page.press("p")
    await page.see(".mine .panel button")
    await page.press("Enter")


async def test_no_mail_acts_in_the_page_and_remote_pictures_wait_until_asked_for(
    counter: Counter, browser: Browser
) -> None:
    eve = "eve@evil.example"
    remote = '<p>Voyez <img src="https://pictures.example/seen.gif" width="1"></p>'
    await send(counter, [(eve, letter(way, eve)) for way in [*WAYS, remote]])
    await counter.until_handled()
    case = await case_of(counter, eve)
    async with signed_in(counter, browser, "karim") as page:
        await page.goto(f"#/cases/{case}")
        await page.until(f"document.querySelectorAll('article.message').length === {len(WAYS) + 1}")
        await page.run("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        await nothing_happened(page)
        layouts = "[...document.querySelectorAll('article.message .shapes button[aria-pressed=false]')]"
        await page.run(f"{layouts}.forEach((one) => one.click())")
        await page.until(f"{layouts}.length === 0")
        framed = await page.run(
            "Promise.all([...document.querySelectorAll('article.message iframe')].map((one) => new Promise((done) => {"
            " one.onload = () => done(one.getAttribute('sandbox')); one.src = one.src; })))"
        )
        assert len(framed) > len(WAYS) * 0.7
        assert set(framed) == {""}
        await nothing_happened(page)

        ask = "[...document.querySelectorAll('article.message .shapes button:not([aria-pressed])')]"
        await page.run(f"{ask}.forEach((one) => one.click())")
        await page.until(f"{ask}.length === 0")
        asked: list[str] = []
        async with asyncio.timeout(LONG_S):
            while not any("pictures.example" in url for url in asked):
                seen = await page.abroad()
                assert (seen["dialogs"], seen["pages"]) == ([], 1)
                asked += seen["asked"]
                await a_moment()
        refused = [one for one in await page.complaints() if "ERR_NAME_NOT_RESOLVED" not in one]
        assert refused == [], "pictures were asked for, and nothing else"
        await page.abroad()

        files = await page.run(
            "Promise.all([...document.querySelectorAll('article.message a.file')].map(async (one) => {"
            " const it = await fetch(one.href); const of = (name) => it.headers.get(name) ?? '';"
            " return [of('content-type'), of('content-disposition').split(';')[0],"
            " of('content-security-policy'), of('x-content-type-options')]; }))"
        )
        assert len(files) == len(WAYS) + 1
        safe = ["application/octet-stream", "attachment", "default-src 'none'; sandbox", "nosniff"]
        assert [file for file in files if file != safe] == []


async def test_the_html_of_a_mail_does_nothing_even_where_it_is_the_whole_page(
    counter: Counter, browser: Browser
) -> None:
    mallory = "mallory@evil.example"
    await send(counter, [(mallory, letter("".join(WAYS[n::7]), mallory)) for n in range(7)])
    await counter.until_handled()
    rows = await counter.hotline.sql(
        "SELECT m.id FROM message m JOIN message_data d ON d.message = m.id WHERE m.case_id = $1 AND d.html <> ''",
        await case_of(counter, mallory),
    )
    assert rows
    async with signed_in(counter, browser, "karim", abroad=PICTURES) as page:
        for row in rows:
            for images in (0, 1):
                await browser.ask(
                    "karim", "goto", url=f"{counter.http}/api/v1/messages/{row['id']}/html?images={images}"
                )
                seen = await nothing_happened(page, PICTURES if images else frozenset())
                assert all(url.endswith((".png", ".gif")) for url in seen), seen


async def test_no_name_subject_or_chat_acts_in_the_offer_the_inbox_and_the_desk(
    counter: Counter, browser: Browser
) -> None:
    names = [(f"eve{n}@evil.example", way) for n, way in enumerate(WAYS[:40])]
    await send(counter, [(sender, letter(way, sender, name=way)) for sender, way in names])
    eve = counter.graph.customer("24001")
    counter.graph.hold()
    for way in WAYS:
        await eve.writes(way)
    await eve.writes(
        "vu", attachments=[{"type": "location", "payload": {"title": "<b>", "url": "javascript:alert(1)"}}]
    )
    await eve.attaches(SVG, "image/svg+xml", name="a.svg", text="<svg onload=alert(1)>")
    await eve.attaches(b"<script>alert(1)</script>", "text/html", name="a.html")
    await counter.graph.release()
    await counter.until_handled()
    async with signed_in(counter, browser, "lea") as page:
        await ready(page)
        await page.see(".offer article")
        offered = await page.run(
            "[...document.querySelectorAll('.offer article')].map((one) => one.innerText)"
        )
        assert any("<" in text for text in offered), offered
        await page.goto("#/inbox?view=all")
        await page.until("document.querySelectorAll('a[data-row]').length >= 40")
        shown = await page.run(
            "[...document.querySelectorAll('a[data-row]')].map((one) => one.innerText).join('\\n')"
        )
        assert "<script>alert(1)</script>" in shown
        for row in (
            await page.run("[...document.querySelectorAll('a[data-row]')].map((one) => one.dataset.row)")
        )[:6]:
            await page.goto(f"#/cases/{row}")
            await page.see("article.message")
        await nothing_happened(page)
        await page.goto(f"#/cases/{await case_of(counter, '24001')}")
        await page.words("article.message .words", "<svg onload=alert(1)>")
        texts = await page.run(
            "[...document.querySelectorAll('article.message .words')].map((one) => one.textContent)"
        )
        assert [way for way in WAYS if way not in texts] == [], "what is shown is what was written"
    async with contextlib.AsyncExitStack() as stack:
        await (await counter.signed_in("lea", stack)).set_presence("offline")


async def test_naughty_strings_are_shown_as_words_and_each_log_record_is_one_line(
    counter: Counter, browser: Browser
) -> None:
    nina = counter.graph.customer("24002")
    for words in NAUGHTY:
        await nina.reacts(await nina.writes(words), words[:10], words)
        await nina.presses(words[:20], words)
        await nina.arrives(words)
    await counter.graph.tell(*({words: {words: words}} for words in NAUGHTY))
    for n, words in enumerate(NAUGHTY):
        plain = words.encode("utf-8", "replace").decode()
        head = re.sub(r"[\r\n\x00]", " ", plain)
        raw = (
            f"From: {head} <naughty{n}@evil.example>\r\nTo: {BOX_ADDRESS}\r\nSubject: {head}\r\n"
            f"Message-ID: <naughty{n}\x1b[31m\u202e@evil.example>\r\nReferences: {head}\r\nX-Mailer: {head}\r\n"
            f'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\n{plain}\r\n--b\r\n'
            f'Content-Disposition: attachment; filename="{head}"\r\n\r\nx\r\n--b--\r\n'
        ).encode()
        await send(counter, [(f"naughty{n}@evil.example", raw)])
    async with contextlib.AsyncExitStack() as stack:
        console = await counter.signed_in("emma", stack)
        with contextlib.suppress(Exception):
            await console.get("/inbox?text=%0d%0a%1b%5b31m%e2%80%ae%00")
    await counter.until_handled()
    forged = [
        line for line in counter.hotline.server.log.read_bytes().split(b"\n") if line and line[:1] != b"{"
    ]
    assert forged == []
    for record in counter.hotline.server.lines():
        assert record.get("event") != "forged"
    text = counter.hotline.server.log.read_text("utf-8")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]", text)
    async with signed_in(counter, browser, "karim") as page:
        await page.goto("#/inbox?view=all")
        await page.see("a[data-row]")
        for n in range(len(NAUGHTY)):
            await page.goto(f"#/cases/{await case_of(counter, f'naughty{n}@evil.example')}")
            await page.see("article.message")
        await page.goto(f"#/cases/{await case_of(counter, '24002')}")
        await page.words("article.message .words", "zalgo")


async def test_a_reload_in_a_chat_and_in_a_call_from_it_loses_no_letter_and_no_call(
    counter: Counter, browser: Browser
) -> None:
    rung: asyncio.Queue[Call] = asyncio.Queue()
    _, password = await counter.hotline.secrets("ines")
    paul = counter.graph.customer("24003")
    async with Phone(
        user=PHONES["ines"], password=password, server=counter.hotline.sip, on_call=rung.put_nowait
    ) as phone:
        await phone.register()
        await counter.hotline.until(lambda: counter.hotline.reachable("ines"))
        await paul.writes("Bonjour")
        await counter.until_handled()
        case = await case_of(counter, "24003")
        async with signed_in(counter, browser, "ines") as page:
            await ready(page)
            await page.words(".mine .name", "Disponible")
            await page.goto(f"#/cases/{case}")
            await page.click("p.free button.main")
            await page.until("location.hash === '#/'")
            await page.see(".middle textarea")
            await page.click(".middle textarea")
            typed = "Bonjour, voici ce que je"
            await page.type(typed)
            for n in range(5):
                await page.reload()
                await page.see(".middle textarea")
                assert await page.value(".middle textarea") == typed, n
                await paul.writes(f"Encore {n}")
                await page.words("article.message", f"Encore {n}")
            assert await page.count("article.message") == 6

            contact = (await counter.hotline.admin.get(f"/cases/{case}"))["contact"]
            number = {"add_addresses": [{"kind": "phone", "value": "+33612345678"}]}
            told = await counter.hotline.admin.request("PATCH", f"/contacts/{contact}", number)
            address = next(one["id"] for one in told["addresses"] if one["kind"] == "phone")
            [chat] = await counter.hotline.sql("SELECT id FROM interaction WHERE case_id = $1", case)
            async with contextlib.AsyncExitStack() as stack:
                console = await counter.signed_in("ines", stack)
                call = await console.call_from_case(case, address, exchange=str(chat["id"]))
                ringing = await asyncio.wait_for(rung.get(), LONG_S)
                ringing.answer()
                await console.wait_for(
                    "interaction.changed",
                    lambda i: i["id"] == call and i["state"] == "active",
                    within_s=LONG_S,
                )
                for n in range(5):
                    await page.reload()
                    await page.see(".middle")
                    await page.until("document.body.innerText.includes('6 12 34 56 78')")
                    assert (await counter.hotline.row(call))["state"] == "active", n
                    assert ringing.over is None
                ringing.hang_up()
                await console.wait_for(
                    "interaction.changed",
                    lambda i: i["id"] == call and i["state"] != "active",
                    within_s=LONG_S,
                )
                with contextlib.suppress(Exception):
                    await console.post(f"/interactions/{call}/wrapup", {"code": "renseignement", "note": ""})
            await page.goto(f"#/cases/{case}")
            await page.see(".middle textarea")
            assert await page.value(".middle textarea") == typed
            await page.click(".middle textarea")
            await page.press("End")
            await page.type(" cherche.")
            await page.press("Control+Enter")
            await counter.graph.until(lambda: [m for m in paul.inbox if m.text.startswith(typed)], LONG_S)
            assert [m.text.count(typed) for m in paul.inbox] == [1]
