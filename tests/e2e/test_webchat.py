"""The chat on somebody else's page, in a real Chromium before a real server: bot, advisor, call me, and a return."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from tests.e2e.browser import Browser, Page, needs_a_browser
from tests.e2e.hotline import LONG_S, open_hotline
from tests.e2e.served import open_site

SHADOW = "document.querySelector('monofil-chat').shadowRoot"


class Shop:
    """A web site of its own origin, whose policy lets in the chat's server and nothing else."""

    def __init__(self) -> None:
        self.hotline = ""

    async def page(self, request: web.Request) -> web.Response:
        socket = f"ws://{urlsplit(self.hotline).netloc}"
        policy = f"default-src 'none'; script-src {self.hotline}; connect-src {self.hotline} {socket}"
        text = (
            '<!doctype html><html lang="fr"><title>La boutique</title><main><h1>La boutique</h1></main>'
            f'<script src="{self.hotline}/chat/widget.js" data-account="site" async></script></html>'
        )
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        async def no_icon(_: web.Request) -> web.Response:
            return web.Response(status=204)

        app = web.Application()
        app.router.add_get("/favicon.ico", no_icon)
        app.router.add_get("/", self.page)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def said(page: Page, who: str, *words: str) -> None:
    """Somebody's message with these words stands in the chat."""
    await page.until(
        f"[...{SHADOW}.querySelectorAll('.log .{who}')]"
        f".some((one) => {json.dumps(words)}.every((text) => one.innerText.includes(text)))"
    )


async def shows(page: Page, selector: str, words: str) -> None:
    """A part of the chat that is there to be seen says these words."""
    await page.until(
        f"[...{SHADOW}.querySelectorAll('{selector}')]"
        f".some((one) => !one.hidden && one.innerText.includes({json.dumps(words)}))"
    )


async def test_a_visitor_meets_the_bot_then_an_advisor_and_finds_all_of_it_again(
    cluster: Any, tmp_path: Path
) -> None:
    needs_a_browser()
    tmp_path.chmod(0o755)
    shop = Shop()
    async with shop.open() as origin:
        site = open_site(tmp_path, channels={"site": {"settings": {"origins": origin}}})
        async with open_hotline(tmp_path, cluster.address, site=site) as hotline, Browser() as browser:
            shop.hotline = hotline.server.http
            async with hotline.at_work("lea", phone=False) as lea:
                page = await browser.open("claire", origin)
                await page.see("monofil-chat .launch")
                assert await page.axe() == []
                await page.run(f"{SHADOW}.querySelector('.launch').focus()")
                await page.press("Enter")
                await page.type("Bonjour <b>à vous</b>")
                await page.press("Enter")
                await said(page, "visitor", "Bonjour <b>à vous</b>", "envoyé")
                await said(page, "bot", "Iris", "assistant automatique")
                assert await page.run("localStorage.length") == 0, "nothing is kept before consent"
                await page.click("monofil-chat .quick button:has-text('Français')")
                await page.click("monofil-chat .quick button:has-text('Un conseiller')")
                offer = await lea.offered()
                await lea.console.accept(offer["data"]["id"])
                interaction = offer["data"]["interaction"]["id"]
                await lea.state(interaction, "active")
                await lea.console.reply(interaction, "Bonjour, je regarde votre colis.")
                await said(page, "advisor", "Léa", "je regarde votre colis")
                await page.click("monofil-chat button:has-text('Oui, la garder')")
                assert await page.axe() == []

                await page.reload()
                await page.click("monofil-chat .launch")
                await said(page, "visitor", "Bonjour <b>à vous</b>")
                await said(page, "bot", "assistant automatique")
                await said(page, "advisor", "Léa", "je regarde votre colis")
                await page.click("monofil-chat .call")
                await page.type("06 39 98 00 01")
                await page.press("Enter")
                await said(page, "visitor", "06 39 98 00 01", "envoyé")
                case = offer["data"]["interaction"]["case"]

                async def clickable() -> bool:
                    ways = (await lea.console.get(f"/ways?case={case}"))["items"]
                    return any(
                        way["kind"] == "call" and way["address"]["value"] == "+33639980001" for way in ways
                    )

                await hotline.until(clickable, LONG_S)
                statuses = await hotline.sql("SELECT status FROM message WHERE author = 'advisor'")
                assert [row["status"] for row in statuses] == ["read"]

                await page.click("monofil-chat .end")
                await page.press("Escape")
                await page.see("monofil-chat .end")
                await page.click("monofil-chat .end")
                await page.press("Enter")
                await said(page, "system", "Vous avez terminé la discussion")
                await page.gone("monofil-chat .end")
                await lea.state(interaction, "ended")
                shown = await lea.console.get(f"/interactions/{interaction}")
                assert (shown["outcome"], shown["advisor"]) == ("left", "lea")
                await page.fill("monofil-chat textarea", "Encore une question")
                await page.press("Enter")
                await said(page, "visitor", "Encore une question", "envoyé")

                async def anew() -> bool:
                    lives = await hotline.sql("SELECT count(DISTINCT interaction) AS lives FROM message")
                    return bool(lives[0]["lives"] == 2)

                await hotline.until(anew, LONG_S)  # "sent" means stored; it is handled after
                cases = await hotline.sql("SELECT count(DISTINCT case_id) AS cases FROM message")
                assert [row["cases"] for row in cases] == [1]
                assert await page.axe() == []
                assert await page.complaints() == []


async def test_a_waiting_visitor_leaves_an_address_goes_away_and_is_answered_on_return(
    cluster: Any, tmp_path: Path
) -> None:
    needs_a_browser()
    tmp_path.chmod(0o755)
    shop = Shop()
    async with shop.open() as origin:
        site = open_site(tmp_path, channels={"site": {"settings": {"origins": origin, "gone_after_s": "1"}}})
        async with open_hotline(tmp_path, cluster.address, site=site) as hotline, Browser() as browser:
            shop.hotline = hotline.server.http
            page = await browser.open("claire", origin, width=360, height=640)
            await page.click("monofil-chat .launch")
            await shows(page, ".note", "Aucun conseiller n’est disponible")
            await page.fill("monofil-chat #mail", "claire@client")
            await page.fill("monofil-chat textarea", "conseiller")
            await page.press("Enter")
            await shows(page, ".error", "incomplète")
            await page.fill("monofil-chat #mail", "claire@client.example")
            await page.fill("monofil-chat textarea", "conseiller")
            await page.press("Enter")
            await shows(page, ".wait", "Vous êtes le prochain.")
            await page.click("monofil-chat button:has-text('Oui, la garder')")
            assert await page.axe() == []
            async with hotline.at_work("lea", phone=False) as lea:
                offer = await lea.offered()
                await lea.console.accept(offer["data"]["id"])
                interaction = offer["data"]["interaction"]["id"]
                await lea.state(interaction, "active")
                await page._do("goto", url="about:blank")

                async def gone() -> bool:
                    seen = await lea.console.get(f"/interactions/{interaction}")
                    return seen["gone_since"] is not None

                await hotline.until(gone, LONG_S)
                ways = (await lea.console.get(f"/ways?case={offer['data']['interaction']['case']}"))["items"]
                assert [
                    (way["channel"], way["allowed"])
                    for way in ways
                    if way["address"]["value"] == "claire@client.example"
                ] == [("email", True)]
                await lea.console.reply(interaction, "Je vous réponds ici.")
                await page._do("goto", url=origin)
                await page.click("monofil-chat .launch")
                await said(page, "advisor", "Léa", "Je vous réponds ici.")
                assert await page.complaints() == []
