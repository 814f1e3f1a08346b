"""The console in a real Chromium before a real server: each act by keyboard, each state as people see it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from cti.aio.headless import Refused
from softphone_bridge.aio.phone import Call, Phone
from tests.e2e.browser import Browser, Page, needs_a_browser
from tests.e2e.hotline import DIRECT, LONG_S, PHONES, Hotline, line, open_hotline
from tests.e2e.served import open_site
from tests.fakes.line import Line

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLER_HZ, ADVISOR_HZ = 440.0, 700.0
CLAIRE, SHARED, STRANGER = "+33612345678", "+33698765432", "+33655443322"
SIGNED_OUT = re.compile(
    r"status of 401 .*/api/v1/session$"
)  # a page asks who is there; the browser notes the answer


@dataclass
class Desk:
    """An advisor's place: a phone of ours, and when it was rung."""

    phone: Phone
    rung: asyncio.Queue[tuple[float, Call]]

    async def ringing(self) -> tuple[float, Call]:
        return await asyncio.wait_for(self.rung.get(), LONG_S)


@dataclass
class Stage:
    """The hotline, the browser, and the people whom all tests know."""

    hotline: Hotline
    browser: Browser
    customer: Phone  # what outgoing calls reach
    reached: asyncio.Queue[Call]
    contacts: dict[str, str] = field(default_factory=dict)  # name → id
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.hotline.server.http

    async def password(self, login: str) -> str:
        """Of the console; one without a phone has no other."""
        if login in PHONES:
            return (await self.hotline.secrets(login))[0]
        if login not in self.passwords:
            made = await self.hotline.admin.post(f"/advisors/{login}/password")
            self.passwords[login] = made["password"]
        return self.passwords[login]

    @contextlib.asynccontextmanager
    async def page(
        self, name: str, login: str, *, url: str = "", refused: re.Pattern[str] = SIGNED_OUT, **about: Any
    ) -> AsyncIterator[Page]:
        """A signed-in page, which has complained of nothing but `refused` when it closes."""
        password = await self.password(login)
        page = await self.browser.open(name, url or self.url, **about)
        try:
            await page.sign_in(login, password)
            yield page
        except BaseException:
            with contextlib.suppress(Exception):
                await page.shot(str(Path(tempfile.gettempdir()) / f"console-{name}.png"))
            raise
        known = (SIGNED_OUT, refused)
        assert [one for one in await page.complaints() if not any(k.search(one) for k in known)] == []
        await self.browser.ask(name, "close")

    @contextlib.asynccontextmanager
    async def desk(self, login: str) -> AsyncIterator[Desk]:
        _, password = await self.hotline.secrets(login)
        rung: asyncio.Queue[tuple[float, Call]] = asyncio.Queue()
        async with Phone(
            user=PHONES[login],
            password=password,
            server=self.hotline.sip,
            tone_hz=ADVISOR_HZ,
            on_call=lambda call: rung.put_nowait((time.time(), call)),
        ) as phone:
            await phone.register()
            await self.hotline.until(lambda: self.hotline.reachable(login))
            try:
                yield Desk(phone, rung)
            finally:
                await self.send_home(login)
                with contextlib.suppress(TimeoutError):
                    await phone.unregister()

    async def send_home(self, login: str) -> None:
        """A test that fails leaves its wrap-up to be done; the next one begins with nothing in hand."""
        board = await self.hotline.admin.get("/board")
        seat = next(one for one in board["advisors"] if one["advisor"] == login)
        for interaction in seat["interactions"]:
            for act in ("hangup", "wrapup"):
                with contextlib.suppress(Refused):
                    await self.hotline.admin.post(f"/interactions/{interaction}/{act}")

    async def newest(self) -> dict[str, Any]:
        """The interaction that was opened last."""
        found = await self.hotline.sql("SELECT id FROM interaction ORDER BY opened_at DESC LIMIT 1")
        return dict(await self.hotline.row(str(found[0]["id"])))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    needs_a_browser()
    folder = tmp_path_factory.mktemp("console")
    folder.chmod(0o755)
    reached: asyncio.Queue[Call] = asyncio.Queue()
    async with Phone(user="trunk", tone_hz=CALLER_HZ, on_call=reached.put_nowait) as customer:
        site = open_site(
            folder,
            queues={
                "general": {"wrapup_max": "0s", "record": False, "offer": {"voice": "30s"}},
                "reclamations": {"wrapup_max": "10min", "offer": {"voice": "30s"}, "leave_key": "*"},
            },
            advisors={
                "chef": {
                    "first_name": "Ada",
                    "last_name": "Roux",
                    "roles": ["admin", "supervisor"],
                    "seats": {},
                }
            },
            trees={"direct": line("direct", "general")},
            numbers={DIRECT: {"tree": "direct", "label": "Direct"}},
            trunks={"loopback": {"target": f"127.0.0.1:{customer.port};transport=udp"}},
        )
        async with open_hotline(folder, cluster.address, site=site) as hotline, Browser() as browser:
            held = Stage(hotline, browser, customer, reached)
            for name, number, company, vip in (
                ("Claire Martin", CLAIRE, "Atelier Martin", True),
                ("Jules Petit", SHARED, "", False),
                ("Amina Benali", SHARED, "", False),
            ):
                addresses = [{"kind": "phone", "value": number}]
                body = {"name": name, "company": company, "vip": vip, "addresses": addresses}
                held.contacts[name] = (await hotline.admin.post("/contacts", body))["id"]
            yield held


def labelled(words: str) -> str:
    """The input whose label begins so."""
    return f".field:has(label:text-matches('^{words}')) input"


async def ready(page: Page) -> None:
    """By keyboard: the menu opens on what is wanted most."""
    await page.press("p")
    await page.see(".mine .panel button")
    await page.press("Enter")
    await page.words(".mine .name", "Disponible")


async def test_a_call_is_served_by_keyboard_alone_from_sign_in_to_its_case(stage: Stage) -> None:
    hotline = stage.hotline
    async with (
        stage.desk("lea") as desk,
        stage.page("lea", "lea") as page,
        Phone(user=CLAIRE, tone_hz=CALLER_HZ) as caller,
    ):
        await page.words("footer", "Téléphone prêt")
        await ready(page)
        before = await hotline.server.metrics()
        call = await caller.dial(hotline.uri("3631"))
        await call.press("12")

        await page.words(".offer article", "Claire Martin", "Réclamations colis", "Décrochez")
        invited_at, ringing = await desk.ringing()
        await page.until("told.some((one) => one.type === 'shown')")
        (shown,) = await page.run("told.filter((one) => one.type === 'shown')")
        after = await hotline.server.metrics()
        missed = 'monofil_pops_total{result="missed"}'
        late = after.get(missed, 0) - before.get(missed, 0)
        print(f"the pop was painted {1000 * (invited_at - shown['at']):.0f} ms before the INVITE")
        assert shown["at"] < invited_at or late == 1  # a machine that takes more than 250 ms is counted
        assert (await page.run("document.title")).startswith("●")
        await page.words(".who", "Claire Martin", "Atelier Martin", "+33 6 12 34 56 78", "VIP")
        await page.words(".path", "Choix de la langue", "Menu principal")
        await page.words(".offer .why", "Vous êtes seul")

        ringing.answer()
        await page.see(".bar.talking")
        await asyncio.gather(call.wait_tone(ADVISOR_HZ, LONG_S), ringing.wait_tone(CALLER_HZ, LONG_S))
        await page.words(".bar .rec", "enregistré")
        live = await hotline.row((await stage.newest())["id"])
        assert (live["pop"]["e164"], live["pop"]["path"][0]["title"]) == (CLAIRE, "Choix de la langue")
        told = await hotline.admin.get(f"/interactions/{live['id']}/why?lang=fr")
        assert told["sentences"][0].startswith(
            "Cet appel (appel, file Réclamations colis) a été proposé à Léa"
        )
        await hotline.admin.wait_for("interaction.changed", lambda one: one["advisor"] == "lea")
        await page.press("h")
        await page.see(".bar.held .acts .btn:enabled")
        await page.press("h")
        await page.see(".bar.talking .acts .btn:enabled")
        await call.wait_tone(ADVISOR_HZ, LONG_S)

        await page.press("n")
        await page.type("Colis vu à Lyon hier, hexagone")  # h, e, x: words, not acts
        await page.reload()
        await page.see(".bar.talking")
        await page.words(".who", "Claire Martin", "Atelier Martin")
        await page.words(".path", "Choix de la langue", "Menu principal")
        assert await page.value("#note") == "Colis vu à Lyon hier, hexagone"
        async with stage.page("beside", "lea") as beside:  # another browser, which has seen no offer
            await beside.see(".bar.talking")
            await beside.words(".who", "Claire Martin", "Atelier Martin", "Réclamations colis")
            await beside.words(".path", "Choix de la langue", "Menu principal")
        await page.press("n", "Control+Enter")
        await page.words("li.note", "Colis vu à Lyon hier, hexagone", "Léa")

        await page.run("document.activeElement.blur()")
        await page.press("e")
        await page.see("form.wrapup")
        await ringing.wait_ended(LONG_S)
        await call.wait_ended(LONG_S)
        await page.press("w")
        await page.words("form.wrapup .wrong", "motif")
        await page.type("retrou")
        await page.press("Enter", "Tab")
        await page.type("Retrouvé à Lyon.")
        await page.press("Control+Enter")
        await page.gone("form.wrapup")
        await page.words(".mine .name", "Disponible")

        row = await stage.newest()
        assert (row["state"], row["code"], row["advisor"]) == ("ended", "colis_retrouve", "lea")
        await page.goto(f"#/cases/{row['case']}")
        await page.words("li.call", "Colis retrouvé", "Léa")
        await page.words("li.note", "Retrouvé à Lyon.")
        await page.words("li.tree .path", "Choix de la langue")
        await page.see(".player button")
        await page.click(".player button")
        await page.until("document.querySelector('.player audio').currentTime > 0.2")
        played = await page.run(
            "fetch(document.querySelector('.player audio').src, {headers: {Range: 'bytes=0-43'}})"
            ".then(async (one) => [one.status, one.headers.get('Content-Type'), (await one.arrayBuffer()).byteLength])"
        )
        assert played == [206, "audio/wav", 44]
        assert await page.axe() == []


async def test_a_contact_is_called_from_the_page_and_hung_up_by_it(stage: Stage) -> None:
    async with stage.desk("lea") as desk, stage.page("lea", "lea") as page:
        await page.press("/")
        await page.type("martin")
        await page.press("Enter")
        await page.words("main li a", "Claire Martin", "+33 6 12 34 56 78")
        assert await page.axe() == []
        await page.goto(f"#/contacts/{stage.contacts['Claire Martin']}")
        await page.words("main h1", "Claire Martin")
        assert await page.axe() == []
        await page.click("main .lines .btn")
        await page.see(".bar.ringing")
        _, ringing = await desk.ringing()
        ringing.answer()
        customer = await asyncio.wait_for(stage.reached.get(), LONG_S)
        assert customer.dialled == CLAIRE
        customer.answer()
        await page.see(".bar.talking")
        await asyncio.gather(customer.wait_tone(ADVISOR_HZ, LONG_S), ringing.wait_tone(CALLER_HZ, LONG_S))
        await page.words(".who", "Claire Martin")
        await page.press("e")
        await customer.wait_ended(LONG_S)
        await page.see("form.wrapup")
        await page.press("w")
        await page.type("rappel")
        await page.press("Enter", "Control+Enter")
        await page.gone("form.wrapup")


async def test_of_several_persons_with_one_number_none_is_assumed_until_one_is_chosen(stage: Stage) -> None:
    hotline = stage.hotline
    async with (
        stage.desk("lea") as desk,
        stage.page("lea", "lea") as page,
        Phone(user=SHARED, tone_hz=CALLER_HZ) as caller,
    ):
        await ready(page)
        call = await caller.dial(hotline.uri())
        await page.words(".who .ask", "Jules Petit", "Amina Benali")
        await page.words(".offer article", "2")
        _, ringing = await desk.ringing()
        ringing.answer()
        await page.see(".bar.talking")
        await page.click(".who .person:has-text('Amina')")
        await page.words(".who .name", "Amina Benali")
        await page.gone(".who .ask")
        row = await stage.newest()
        assert row["contact"] == stage.contacts["Amina Benali"]
        await page.reload()  # what was chosen is known to the server
        await page.words(".who .name", "Amina Benali")
        assert await page.count(".who .ask") == 0
        call.hang_up()
        await page.gone(".bar")


async def test_a_caller_whom_nobody_knows_is_shown_by_number_and_can_be_named(stage: Stage) -> None:
    hotline = stage.hotline
    async with (
        stage.desk("lea") as desk,
        stage.page("lea", "lea") as page,
        Phone(user=STRANGER, tone_hz=CALLER_HZ) as caller,
    ):
        await ready(page)
        call = await caller.dial(hotline.uri())
        await page.words(".who", "Appelant inconnu", "+33 6 55 44 33 22")
        await page.words(".offer article", "+33 6 55 44 33 22")
        _, ringing = await desk.ringing()
        ringing.answer()
        await page.see(".bar.talking")
        await page.fill(".who form input", "Zoé Nouvelle")
        await page.press("Enter")
        await page.words(".who .name", "Zoé Nouvelle")
        call.hang_up()
        await page.gone(".bar")
        found = await hotline.admin.get("/contacts?text=06 55 44 33 22")
        assert [one["name"] for one in found["items"]] == ["Zoé Nouvelle"]


async def test_a_supervisor_sees_who_waits_where_they_are_in_the_tree_and_the_list_of_each_figure(
    stage: Stage,
) -> None:
    hotline = stage.hotline
    general = "tr:has-text('Accueil général')"
    async with (
        stage.page("nadia", "nadia", width=1920, height=1080) as page,
        Phone(user="+33600000011") as caller,
    ):
        call = await caller.dial(hotline.uri("3631"))
        await call.press("1")
        await page.goto("#/trees/accueil")
        await page.until(
            "[...document.querySelectorAll('.card.busy .inside')].some((one) => one.innerText === '1')"
        )
        assert await page.axe() == []
        await call.press("0")
        await page.goto("#/board")
        await page.words("tbody tr .num.big.some", "1")
        await page.see(f"{general} a[href='#/counted/general/voice/waiting']")
        await page.click(f"{general} a[href='#/counted/general/voice/waiting'] >> nth=0")
        await page.words("main h1", "En file", "1")
        await page.words("tbody tr", "+33 6 00 00 00 11")
        assert await page.axe() == []
        call.hang_up()
        await page.words("main h1", "En file", "0")
        await page.words("main .none", "Personne")
        board = await hotline.admin.get("/board")
        for row in board["rows"]:
            for figure in ("waiting", "answered", "abandoned", "short_abandoned"):
                asked = f"/interactions?queue={row['queue']}&channel={row['channel']}&figure={figure}"
                counted = await hotline.admin.get(asked)
                assert len(counted["items"]) == counted["total"] == row[figure], (row["queue"], figure)
        await page.goto("#/board")
        await page.click(f"{general} a[href='#/counted/general/voice/answered']")
        await page.words("main h1", "Répondus", "2")
        await page.words("tbody tr", "Zoé Nouvelle", "Léa Martin")
        for hash in ("#/board", "#/board/kiosk"):
            await page.goto(hash)
            await page.see("tbody tr")
            assert await page.axe() == []


async def test_an_admin_is_told_the_field_that_is_wrong_and_what_is_right_is_in_force_at_the_next_call(
    stage: Stage,
) -> None:
    hotline = stage.hotline
    refused = re.compile(r"status of 422 .*/api/v1/queues/general$")
    async with (
        stage.desk("lea") as desk,
        stage.page("lea", "lea") as lea,
        stage.page("chef", "chef", refused=refused) as page,
        Phone(user=CLAIRE, tone_hz=CALLER_HZ) as caller,
    ):
        await ready(lea)
        await page.goto("#/admin/queues/general")
        await page.see("form .grid")
        await page.fill(labelled("Pause après"), "0")
        await page.click("form .acts .btn.main")
        await page.see("[aria-invalid='true']")
        await page.words(".field:has([aria-invalid]) .wrong", "1 ou plus")
        assert await page.axe() == []
        await page.fill(labelled("Pause après"), "2")
        await page.fill(labelled("Nom"), "Accueil de tous")
        await page.click("form .acts .btn.main")
        await page.words(".list", "Accueil de tous")
        assert await page.count("[aria-invalid='true']") == 0
        await page.goto("#/admin/advisors/lea")
        await page.see("form .grid")
        await page.fill(labelled("Prénom"), "Léonie")
        await page.click("form .acts .btn.main")
        await page.words(".list", "Léonie Martin")
        await page.see("form .acts .btn.main:enabled")
        assert await page.axe() == []
        await page.goto("#/admin/site")
        await page.until("document.querySelector('main textarea')?.value.includes('Accueil de tous')")
        assert await page.axe() == []

        call = await caller.dial(hotline.uri())
        await lea.words(".offer article", "Claire Martin", "Accueil de tous")
        _, ringing = await desk.ringing()
        ringing.answer()
        await lea.see(".bar.talking")
        call.hang_up()
        await lea.gone(".bar")


async def test_every_page_reads_in_english_in_the_dark_and_on_a_phone(stage: Stage) -> None:
    guest = await stage.browser.open("guest", stage.url, locale="en-GB", colours="dark")
    await guest.words("form h1", "Monofil")
    await guest.words("form .btn.main", "Sign in")
    assert await guest.axe() == []
    await stage.browser.ask("guest", "close")
    claire = stage.contacts["Claire Martin"]
    async with stage.page("dark", "nadia", colours="dark", locale="en-GB") as page:
        await page.click("header > .menu > .btn")
        await page.click("button[lang=en]")
        await page.until("document.documentElement.lang === 'en'")
        await page.press("Escape")
        for hash, wanted in (
            ("#/", "You receive nothing"),
            ("#/board", "Wallboard"),
            ("#/search?q=martin", "Claire Martin"),
            (f"#/contacts/{claire}", "Claire Martin"),
            ("#/counted/general/voice/served", "Counted in the service level"),
            ("#/trees/suivi", "Numéro de colis"),
        ):
            await page.size(1280, 800)
            await page.goto(hash)
            await page.words("main", wanted)
            assert await page.axe() == [], hash
            await page.size(390, 844)
            await page.until("document.documentElement.scrollWidth <= innerWidth")
            assert await page.axe() == [], hash


async def test_a_lost_line_is_a_thin_bar_and_what_was_missed_is_there_afterwards(stage: Stage) -> None:
    hotline = stage.hotline
    parts = urlsplit(stage.url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with (
        Line(parts.hostname, parts.port) as wire,
        stage.desk("lea") as desk,
        stage.page("lea", "lea", url=wire.url, refused=re.compile("WebSocket|ERR_")) as page,
        Phone(user=CLAIRE, tone_hz=CALLER_HZ) as caller,
    ):
        await ready(page)
        wire.dead = True
        wire.cut()
        await page.words("footer.lost", "rien de ce que vous tapez n’est perdu")
        call = await caller.dial(hotline.uri())
        _, ringing = await desk.ringing()  # the phone rings without the page
        ringing.answer()
        await call.wait_tone(ADVISOR_HZ, LONG_S)
        wire.dead = False
        await page.see(".bar.talking")
        await page.gone("footer.lost")
        await page.words(".who .name", "Claire Martin")
        call.hang_up()
        await page.gone(".bar")
