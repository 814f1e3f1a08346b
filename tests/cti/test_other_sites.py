"""A page of somebody else in an advisor's browser, on this very host, so that cookies go along (faults.md row 34)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from routing import models as m
from tests.cti.house import PASSWORD, House, house
from tests.cti.test_threads import PNG
from tests.e2e.browser import Browser, Page, needs_a_browser
from tests.e2e.hotline import a_moment

pytestmark = pytest.mark.peer

REFUSED = re.compile(
    r"Framing '.*frame-ancestors '(none|self)'|Refused to display '.*'X-Frame-Options' to 'deny'"
)
LOADS = """
Promise.all(%(urls)s.map((url) => new Promise((done) => {
  const one = document.createElement(%(tag)s);
  one.onload = () => done('loaded');
  one.onerror = () => done('refused');
  one[%(tag)s === 'object' ? 'data' : 'src'] = url;
  document.body.append(one);
})))
"""
READS = """
Promise.all(%(urls)s.map((url) =>
  fetch(url, {credentials: 'include', mode: %(mode)s}).then((got) => got.type, () => 'refused')))
"""
LISTENS = """
Promise.all(%(urls)s.map((url) => new Promise((done) => {
  const one = new WebSocket(url.replace('http', 'ws'));
  one.onopen = () => done('open');
  one.onerror = () => done('refused');
})))
"""
POSTS = """
Promise.all(%(posts)s.map(([url, body]) =>
  fetch(url, {method: 'POST', credentials: 'include', mode: 'no-cors', body,
              headers: {'Content-Type': 'text/plain'}}).then(() => 'sent', () => 'refused')))
"""
FORMS = """
Promise.all(%(posts)s.map(([url, body], n) => new Promise((done) => {
  const frame = document.createElement('iframe'), form = document.createElement('form');
  frame.name = 'f' + n;
  document.body.append(frame, form);
  Object.assign(form, {method: 'POST', action: url, enctype: 'text/plain', target: frame.name});
  const field = document.createElement('input');
  field.name = body.slice(0, -1) + ',"x":"';
  field.value = '"}';
  form.append(field);
  frame.onload = () => done('sent');
  form.submit();
})))
"""


@asynccontextmanager
async def somebody_elses() -> AsyncIterator[str]:
    """A site at another port of the same host: another origin, and to cookies the same site."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(
            text="<!doctype html><title>Gagnez</title><body></body>", content_type="text/html"
        )

    async def script(_: web.Request) -> web.Response:
        return web.Response(text="1", content_type="text/javascript")

    async def picture(_: web.Request) -> web.Response:
        return web.Response(body=PNG, content_type="image/png")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/script", script)
    app.router.add_get("/picture", picture)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def sign_in(page: Page) -> None:
    """a1 gets a session in this browser; its cookie is proved to go along from here on."""
    body = json.dumps({"login": "a1", "password": PASSWORD})
    signed_in = await page.run(
        "fetch('/api/v1/session', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        f" body: {json.dumps(body)}}}).then((got) => got.status)"
    )
    assert signed_in == 200
    assert await page.run("fetch('/api/v1/session').then((got) => got.status)") == 200


async def mail_with_a_picture(at: House) -> tuple[UUID, UUID]:
    """A message and its attachment."""
    picture = at.line.ids()
    stored = await at.console.uploads._files.keep(PNG, picture)
    attached = m.Attached(
        attachment=picture, kind="image", name="a.png", type=stored.type, path=stored.path, bytes=stored.bytes,
        sha256=stored.sha256,
    )  # fmt: skip
    mail = await at.write(
        "Bonjour", "claire@example.org", account="post", html="<p>Bonjour</p>", attached=(attached,)
    )
    [message] = await at.stores.messages.of_interaction(mail)
    return message.id, picture


async def journal(at: House) -> list[Any]:
    rows = await at.query("SELECT type, interaction, case_id, data FROM event ORDER BY seq")
    return [tuple(row) for row in rows]


async def test_another_site_reads_does_and_frames_nothing_though_the_cookie_goes_along(
    database: str, tmp_path: Path
) -> None:
    needs_a_browser()
    async with somebody_elses() as evil, Browser() as browser:
        page = await browser.open("a1", f"{evil}/")
        async with house(database, tmp_path) as at:
            message, picture = await mail_with_a_picture(at)
            await browser.ask("a1", "goto", url=f"{at.base}/healthz")
            await sign_in(page)
            await browser.ask("a1", "goto", url=f"{evil}/")
            shown = [
                f"{at.base}{path}"
                for path in (
                    "/healthz", "/metrics", "/openapi.json", "/api/v1/session", "/api/v1/inbox", "/api/v1/cases",
                    f"/api/v1/messages/{message}/html", f"/api/v1/messages/{message}/html?images=1",
                )
            ]  # fmt: skip
            # errors, for which an <object> shows what is inside it, and a picture, which it shows as one
            ours = [*shown, *(f"{at.base}{path}" for path in ("/", "/nothing", "/api/v1/nothing"))]
            ours.append(f"{at.base}/api/v1/attachments/{picture}")
            before = await journal(at)
            await read(page, evil, ours)
            assert await tried(page, LISTENS, [f"{at.base}/api/v1/events"]) == ["refused"]
            await act(page, at.base)
            assert await journal(at) == before
            await page.complaints()
            for tag, framed in (("iframe", ours), ("embed", ours), ("object", shown)):
                await frame(page, tag, evil, framed)


async def tried(page: Page, attack: str, urls: list[str], **how: str) -> list[str]:
    said = {"urls": json.dumps(urls), **{name: json.dumps(value) for name, value in how.items()}}
    return list(await page.run(attack % said))


async def read(page: Page, evil: str, ours: list[str]) -> None:
    for mode in ("cors", "no-cors"):
        assert await tried(page, READS, [f"{evil}/"], mode=mode) == ["basic"], "this is how a success looks"
        assert set(await tried(page, READS, ours, mode=mode)) == {"refused"}, mode
    for tag, own in (("img", "/picture"), ("script", "/script")):
        assert await tried(page, LOADS, [evil + own], tag=tag) == ["loaded"]
        assert set(await tried(page, LOADS, ours, tag=tag)) == {"refused"}, tag


async def act(page: Page, base: str) -> None:
    """Requests that need no leave of ours to be sent: as text, and as a form whose fields make up JSON."""
    acts: tuple[tuple[str, Any], ...] = (
        ("session", {"login": "a1", "password": PASSWORD}),
        ("cases", {"subject": "forged"}),
        ("contacts", {"name": "forged"}),
        ("calls", {"number": "+33611223344"}),
        ("site", {"yaml": "organisation: forged", "base_version": 1}),
    )
    posts = json.dumps([(f"{base}/api/v1/{path}", json.dumps(body)) for path, body in acts])
    for way in (POSTS, FORMS):
        assert len(await page.run(way % {"posts": posts})) == len(acts)


async def frame(page: Page, tag: str, evil: str, ours: list[str]) -> None:
    """Each is refused, and told in the browser's console; a page of the other site itself is not."""
    await tried(page, LOADS, [f"{evil}/", *ours], tag=tag)
    refused: list[str] = []
    async with asyncio.timeout(20.0):
        while len(refused) < len(ours):
            refused += [one for one in await page.complaints() if REFUSED.match(one)]
            await a_moment()
    assert len(refused) == len(ours), refused
    assert not [one for one in refused if evil in one]
