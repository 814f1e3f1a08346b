"""Written channels on the screen of a real Chromium before a real server: each act by keyboard, as advisors work."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import struct
import tempfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from config import journey
from cti.aio.headless import HeadlessConsole, Refused
from tests.e2e.browser import Browser, Page, needs_a_browser
from tests.e2e.city import City, open_city
from tests.e2e.hotline import LONG_S
from tests.e2e.test_console import SIGNED_OUT, ready

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.peer, pytest.mark.slow]

SHOTS = os.environ.get("SHOTS", "")  # a folder for pictures of what is shown
COUNT_SOUNDS = """
globalThis.sounds = 0;
const Silent = globalThis.AudioContext;
globalThis.AudioContext = class extends Silent {
  createOscillator() { globalThis.sounds += 1; return super.createOscillator(); }
};
"""
HOLD_THE_NEXT_REPLY = """
const ask = globalThis.fetch;
globalThis.fetch = (url, about) => {
  if (about?.method !== 'POST' || !/interactions.*messages$/.test(String(url))) return ask(url, about);
  globalThis.fetch = ask;
  return new Promise((answer) => { globalThis.letGo = () => answer(ask(url, about)); });
};
"""


def picture() -> bytes:
    """A PNG of eight by eight red dots."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xff\0\0" * 8) * 8
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@dataclass
class Stage:
    city: City
    browser: Browser
    passwords: dict[str, str] = field(default_factory=dict)

    async def begin(self) -> None:
        """The first conversation opens the connections between the server and the double, which both keep."""
        first = await self.city.chooses_french("Personne")
        await first.attaches(picture())
        await self.city.sql_until("SELECT count(*) FROM attachment WHERE state = 'stored'")
        archived = {"outcome": "archived", "reason": "spam"}
        await self.city.hotline.admin.post(f"/interactions/{await self.city.live(first)}/close", archived)
        await self.city.graph.settled()

    async def password(self, login: str) -> str:
        if login not in self.passwords:
            made = await self.city.hotline.admin.post(f"/advisors/{login}/password")
            self.passwords[login] = made["password"]
        return self.passwords[login]

    @contextlib.asynccontextmanager
    async def page(self, login: str, *, refused: re.Pattern[str] = SIGNED_OUT) -> AsyncIterator[Page]:
        """A signed-in page, which has complained of nothing but `refused` when it closes; its sounds are counted."""
        password = await self.password(login)
        page = await self.browser.open(login, self.city.http)
        try:
            await page.run(COUNT_SOUNDS)
            await page.sign_in(login, password)
            await page.see(".mine .name")
            yield page
        except BaseException:
            with contextlib.suppress(Exception):
                await page.shot(str(Path(tempfile.gettempdir()) / f"written-{login}.png"))
            raise
        finally:
            await self.send_home(login)
        known = (SIGNED_OUT, refused)
        assert [one for one in await page.complaints() if not any(k.search(one) for k in known)] == []
        await self.browser.ask(login, "close")

    async def send_home(self, login: str) -> None:
        """A test that fails leaves its conversations open; the next one begins with nothing in hand."""
        board = await self.city.hotline.admin.get("/board")
        seat = next(one for one in board["advisors"] if one["advisor"] == login)
        for interaction in seat["interactions"]:
            with contextlib.suppress(Refused):
                await self.city.hotline.admin.post(
                    f"/interactions/{interaction}/close", {"outcome": "archived", "reason": "spam"}
                )

    async def shot(self, page: Page, name: str) -> None:
        if SHOTS:
            await page.shot(f"{SHOTS}/{name}.png")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    needs_a_browser()
    folder = tmp_path_factory.mktemp("written")
    folder.chmod(0o755)
    async with (
        open_city(
            folder,
            cluster.address,
            queues={"general": {"offer": {"voice": "30s", "chat": "2min", "mail": "2min"}}},
            advisors={"lea": {"shift_ends": "23:59"}},
        ) as city,
        Browser() as browser,
    ):
        held = Stage(city, browser)
        await held.begin()
        yield held


async def enter(page: Page, selector: str, words: str = "") -> None:
    """What can have the focus and says so is chosen with Enter."""
    await page.words(selector, words)
    found = (
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        f".find((one) => one.innerText.includes({json.dumps(words)}))"
    )
    assert await page.run(
        f"(() => {{ const one = {found}; one.focus(); return document.activeElement === one; }})()"
    )
    await page.press("Enter")


async def says(page: Page, text: str) -> None:
    """Answer in the conversation that is shown."""
    await begin(page, text)
    await page.press("Control+Enter")
    await page.until("document.querySelector('#reply').value === ''")


async def begin(page: Page, text: str) -> None:
    """Write without sending."""
    await page.see("#reply, .composer [aria-pressed]")
    await page.run("document.activeElement.blur()")
    await page.press("r")
    await page.until("document.activeElement.id === 'reply'")
    await page.type(text)


async def choose(page: Page, selector: str, value: str) -> None:
    """One of a list, by its arrows."""
    steps = await page.run(
        f"""(() => {{
          const list = document.querySelector({json.dumps(selector)});
          list.focus();
          return [...list.options].findIndex((one) => one.value === {json.dumps(value)}) - list.selectedIndex;
        }})()"""
    )
    await page.press(*["ArrowDown" if steps > 0 else "ArrowUp"] * abs(steps))
    await page.until(f"location.hash.includes({json.dumps(value)})")


async def outside(page: Page) -> None:
    """Out of the text field, where letters are acts."""
    await page.press("Escape")
    await page.run("document.activeElement.blur()")


async def accept(page: Page, name: str) -> None:
    await page.words(".offer article", name)
    await outside(page)
    await page.press("a")
    await page.words(".work button[aria-current]", name)
    await page.see("#reply")


async def test_two_chats_are_served_at_once_by_keyboard_alone_from_their_offers_to_their_ends(
    stage: Stage,
) -> None:
    async with stage.page("lea") as page:
        await ready(page)
        jeanne = await stage.city.comes("Jeanne Petit")
        await page.words(".offer article", "Jeanne Petit", "Accueil général", "conseiller")
        assert str(await page.run("document.title")).startswith("● Jeanne Petit")
        assert await page.run("globalThis.sounds") >= 2
        assert await page.axe() == []
        await stage.shot(page, "offer")
        await accept(page, "Jeanne Petit")
        await page.words(".message.bot header", "Bot")
        await page.words(".message.bot", "Iris")
        await page.words(".message.customer", "Jeanne Petit", "je veux parler à un conseiller")

        await says(page, "Bonjour Madame Petit, je regarde.")
        got = await stage.city.told(jeanne, "je regarde")
        assert got.persona == "Léa"
        await page.until("/envoyé|remis/.test(document.querySelector('.message.advisor footer').innerText)")
        await jeanne.gets(got)
        await page.words(".message.advisor footer", "remis")
        await jeanne.reads()
        await page.words(".message.advisor footer", "lu")

        await begin(page, "Votre colis est")
        karl = await stage.city.comes("Karl Meyer")
        await accept(page, "Karl Meyer")
        assert await page.value("#reply") == ""
        await says(page, "Bonjour Monsieur Meyer.")
        await stage.city.told(karl, "Monsieur Meyer")
        await page.words(".work button:not([aria-current])", "Jeanne Petit", "brouillon")
        await outside(page)
        await page.press("k")
        await page.words(".work button[aria-current]", "Jeanne Petit")
        assert await page.value("#reply") == "Votre colis est"

        sounds = await page.run("globalThis.sounds")
        await karl.writes("Merci !")  # to the thread that is not shown
        await page.words(".work button:not([aria-current])", "Karl Meyer", "Merci !", "1")
        await page.until("document.title.startsWith('(1)')")
        await page.until(f"globalThis.sounds > {sounds}")

        await jeanne.attaches(picture(), text="voilà l'étiquette")
        await page.until(
            "[...document.querySelectorAll('.message.customer img')].some((one) => one.naturalWidth === 8)"
        )
        await begin(page, "")
        await page.press("Control+a")
        await page.type("/accu")
        await page.words("#templates li", "Accusé de réception")
        await page.press("Enter")
        await page.until("document.querySelector('#reply').value.includes('Bonjour Jeanne Petit')")
        inserted = await page.value("#reply")
        number = await stage.city.sql(
            "SELECT number FROM case_file WHERE id = $1::text::uuid", await stage.city.case_of(jeanne)
        )
        assert f"votre demande {number} " in inserted
        await page.press("Control+Enter")
        await stage.city.told(jeanne, f"votre demande {number} est entre nos mains")

        await attach(page, picture(), "étiquette.png", "image/png")
        await says(page, "L'étiquette à coller.")
        await stage.city.told(jeanne, "L'étiquette à coller.")
        await stage.city.graph.until(lambda: [m for m in jeanne.inbox if m.file == picture()], LONG_S)
        await page.until("document.querySelectorAll('.message.advisor img').length === 1")
        await stage.shot(page, "chat")

        await outside(page)
        await page.press("n")
        await page.until("document.activeElement.id === 'note'")
        assert await page.count(".composer .btn.main") == 0
        await page.words(".composer", "jamais envoyée")
        await page.type("Cliente fâchée, hexagone")
        await stage.shot(page, "note")
        await page.press("Control+Enter")
        await page.words("li.note", "Cliente fâchée, hexagone")
        hexagons = "SELECT count(*) FROM outbox WHERE outgoing::text LIKE '%hexagone%'"
        assert await stage.city.sql(hexagons) == 0
        assert await page.axe() == []

        await outside(page)
        await page.press("c")
        await page.until("document.activeElement.id === 'close-code'")
        await page.type("renseig")
        await page.press("Enter", "Tab")
        await page.type("Étiquette envoyée.")
        await page.press("Control+Enter")
        await page.words(".work", "Karl Meyer")
        await page.until("!document.querySelector('.work').innerText.includes('Jeanne')")
        await page.words(".work button[aria-current]", "Karl Meyer")
        await page.run("document.activeElement.blur()")
        await page.press("v")
        await page.until("document.activeElement.id === 'archive-reason'")
        await stage.shot(page, "archive")
        await page.press("ArrowDown", "ArrowDown", "ArrowDown", "Tab", "Control+Enter")
        await page.until("!document.querySelector('.work').innerText.includes('Karl')")
        ends = await stage.city.hotline.sql(
            "SELECT outcome, code FROM interaction WHERE case_id = ANY ($1::text[]::uuid[]) ORDER BY opened_at",
            [await stage.city.case_of(jeanne), await stage.city.case_of(karl)],
        )
        assert [tuple(row) for row in ends] == [("answered", "renseignement"), ("archived", None)]
        assert not [m for m in jeanne.inbox if "hexagone" in m.text]


async def attach(page: Page, content: bytes, name: str, type: str) -> None:
    """As the browser's own window for choosing a file gives it to the page; wait until the server has it."""
    data = base64.b64encode(content).decode()
    await page.run(
        f"""(() => {{
          const bytes = Uint8Array.from(atob({json.dumps(data)}), (one) => one.charCodeAt(0));
          const chosen = new DataTransfer();
          chosen.items.add(new File([bytes], {json.dumps(name)}, {{ type: {json.dumps(type)} }}));
          const input = document.querySelector('.composer input[type=file]');
          input.files = chosen.files;
          input.dispatchEvent(new Event('change', {{ bubbles: true }}));
        }})()"""
    )
    await page.words(".composer .files li", name)
    await page.gone(".composer .files progress")


async def test_the_desk_says_who_has_the_word_and_calls_people_by_a_new_name_at_once(stage: Stage) -> None:
    async with stage.page("lea") as page:
        await ready(page)
        nina = await stage.city.comes("Nina Roux")
        await accept(page, "Nina Roux")
        for text in ("Bonjour, je regarde.", "Encore un instant."):
            await says(page, text)
            await stage.city.told(nina, text)
        sides = "[...document.querySelectorAll('.message.advisor')].map((one) => one.getBoundingClientRect().right)"
        assert len(set(await page.run(sides))) == 1, "our second reply in a row stands beside our first"
        await page.words(".middle .bar .state", "Répondu")

        await outside(page)
        await page.press("h")
        await page.words(".middle .bar.held .state", "De côté", "depuis")
        await page.words(".work button[aria-current]", "De côté")
        await page.words("li.event", "Mis en attente")
        await nina.writes("Vous êtes là ?")  # which takes it up again
        await page.words(".middle .bar.waits .state", "À répondre")

        file = await stage.city.hotline.admin.get(f"/cases/{await stage.city.case_of(nina)}")
        await stage.city.hotline.admin.patch(f"/contacts/{file['contact']}", {"name": "Nina Sand"})
        for place in (
            ".work button[aria-current]",
            ".message.customer header",
            ".right h2",
            ".composer .head",
        ):
            await page.words(place, "Nina Sand")

        await begin(page, "Merci ")
        await enter(page, ".tools button[aria-label='Émojis']")
        await page.until("document.activeElement.closest('.emoji')")
        await page.press("ArrowDown", "Enter")
        await page.until("document.activeElement.id === 'reply'")
        assert await page.value("#reply") == "Merci 👍"
        await enter(page, ".tools button[aria-label='Émojis']")
        await page.press("Escape")
        await page.gone(".emoji")
        await page.until("document.activeElement.id === 'reply'")


async def test_colleagues_see_each_other_and_no_reply_goes_out_over_one_that_is_newer(stage: Stage) -> None:
    admin = stage.city.hotline.admin
    refused = re.compile(r"status of 409 .*/messages$")
    async with stage.page("lea", refused=refused) as page, stage.page("karim") as beside:
        await ready(page)
        jeanne = await stage.city.comes("Jeanne Durand")
        await accept(page, "Jeanne Durand")
        case = await stage.city.case_of(jeanne)
        await beside.goto(f"#/cases/{case}")
        await beside.words(".message.customer", "je veux parler à un conseiller")
        await page.words(".composer .beside", "Karim regarde ce dossier")
        await beside.words(".composer .beside", "Léa regarde ce dossier")
        await begin(page, "Je cherche")
        await beside.words(".composer .beside", "Léa écrit aussi")
        await beside.press("n")
        await beside.type("Je sais pourquoi")
        await page.words(".composer .beside", "Karim écrit aussi")
        await stage.shot(page, "collision")

        await page.run(HOLD_THE_NEXT_REPLY)
        await page.press("Control+Enter")
        await page.until("Boolean(globalThis.letGo)")
        [thread] = (await admin.get(f"/cases/{case}"))["threads"]
        async with HeadlessConsole(stage.city.http, "karim", await stage.password("karim")) as other:
            with pytest.raises(Refused, match=r"taken.*Léa"):  # it is hers
                await other.write_from_case(case, journey.PAGE, thread["address"]["id"], "Il est à Lyon.")
        async with HeadlessConsole(stage.city.http, "lea", await stage.password("lea")) as other:
            await other.reply(thread["live"], "Il est à Lyon.")  # from another page of hers
        await page.run("globalThis.letGo()")
        await page.words(".conflict", "Léa vient de répondre", "Il est à Lyon.")
        await stage.shot(page, "newer")
        assert await page.value("#reply") == "Je cherche"
        assert not [m for m in jeanne.inbox if "Je cherche" in m.text]
        assert await page.axe() == []
        await enter(page, ".conflict button", "Envoyer quand même")
        await stage.city.told(jeanne, "Je cherche")
        order = [m.text for m in jeanne.inbox if "Lyon" in m.text or "cherche" in m.text]
        assert ["Lyon" in text for text in order] == [True, False]

        await outside(page)
        await page.press("q")
        await page.until("document.activeElement.id === 'ask-of'")
        await page.press("Tab")
        await page.type("Qui connaît l'agence de Lyon ?")
        await page.press("Control+Enter")
        await page.gone("#ask-text")
        await beside.run("document.activeElement.blur()")
        await beside.press("d")
        await beside.words("section[aria-labelledby=helps-title]", "Léa", "Qui connaît l'agence de Lyon ?")
        await enter(beside, "section[aria-labelledby=helps-title] button", "Répondre")
        await beside.see("section[aria-labelledby=helps-title] textarea")
        await beside.run("document.querySelector('section[aria-labelledby=helps-title] textarea').focus()")
        await beside.type("Moi : fermée le lundi.")
        await stage.shot(beside, "help")
        await beside.press("Control+Enter")
        await page.words("li.note", "Qui connaît l'agence de Lyon ?", "Moi : fermée le lundi.")
        await page.words(".work button[aria-current]", "Jeanne Durand")  # it is still hers

        contact = (await admin.get(f"/cases/{case}"))["contact"]
        number = {"kind": "phone", "value": "+33687000321"}
        known = await admin.post("/contacts", {"name": "Mme Durand", "addresses": [number]})
        await admin.patch(f"/contacts/{contact}", {"add_addresses": [number]})
        await page.reload()
        await page.words("aside.right", "Peut-être la même personne", "Mme Durand", "même numéro")
        await stage.shot(page, "proposal")
        await enter(page, "aside.right .one button", "Fusionner")
        await page.words("aside.right .one", "est réuni ici", "même numéro")
        assert (await admin.get(f"/contacts/{known['id']}"))["id"] == contact
        await enter(page, "aside.right .one button", "Défaire")
        await page.until("!document.querySelector('aside.right').innerText.includes('est réuni ici')")
        assert (await admin.get(f"/contacts/{known['id']}"))["id"] == known["id"]
        await finish(page)


async def finish(page: Page) -> None:
    """Close what is shown, without a note."""
    await outside(page)
    await page.press("c")
    await page.until("document.activeElement.id === 'close-code'")
    await page.type("renseig")
    await page.press("Enter", "Tab", "Control+Enter")
    await page.words(".work", "Rien en cours")


async def test_the_inbox_is_filtered_and_pulled_from_and_figures_open_their_lists(stage: Stage) -> None:
    async with stage.page("lea") as page:
        async with HeadlessConsole(stage.city.http, "lea", await stage.password("lea")) as other:
            await other.set_presence("pause", "break")
        paul = await stage.city.comes("Paul Martin", "Bonjour, mon hexagone")
        await page.press("i")
        await page.words(".list li", "Paul Martin")
        assert await page.axe() == []
        await stage.shot(page, "inbox")
        channel = ".filters select:has(option[value='messenger'])"
        await choose(page, channel, "email")
        await page.words(".list", "Rien ne correspond")
        await choose(page, channel, "messenger")
        await page.words(".list li", "Paul Martin")
        await page.run("document.querySelector('.filters .text').focus()")
        await page.type("hexagone")
        await page.until("location.hash.includes('text=hexagone')")
        await page.words(".list li", "Paul Martin")
        await page.press("Control+a")
        await page.type("introuvable")
        await page.words(".list", "Rien ne correspond")
        await enter(page, ".list .empty button", "Effacer les filtres")
        await page.words(".list li", "Paul Martin")
        await page.run("document.activeElement.blur()")
        await page.press("j")
        await page.until("document.activeElement.dataset.row !== undefined")
        await page.press("t")
        await page.words(".work button[aria-current]", "Paul Martin")
        await says(page, "Bonjour Paul.")
        await stage.city.told(paul, "Bonjour Paul.")
        await finish(page)

        day = stage.city.moments[0].date()
        await page.press("s")
        await page.see(".tiles")
        await page.goto(f"#/statistics?period=chosen&from={day}&to={day}")
        await page.words(".tiles li", "Conversations")
        await page.until("Boolean(document.querySelector('.tiles a[href*=\"figure=conversations\"]'))")
        await page.until("Boolean(document.querySelector('.u-over'))")
        assert await page.axe() == []
        await stage.shot(page, "statistics")
        shown = await page.run("document.querySelector('.tiles a[href*=\"figure=conversations\"]').innerText")
        await enter(page, ".tiles a[href*='figure=conversations']")
        await page.words("tbody tr", "Paul Martin")
        assert await page.count("tbody tr") == int(shown)
        assert await page.axe() == []
        await stage.shot(page, "list")


async def test_the_window_is_a_clock_and_once_it_is_shut_the_case_goes_on_by_email(stage: Stage) -> None:
    city = stage.city
    async with stage.page("lea") as page:
        await ready(page)
        rose = await stage.city.comes("Rose Blanc")
        await accept(page, "Rose Blanc")
        await page.words(".composer .window", "encore")
        case = await stage.city.case_of(rose)
        contact = (await city.hotline.admin.get(f"/cases/{case}"))["contact"]
        mail = {"kind": "email", "value": "rose@client.example"}
        await city.hotline.admin.patch(f"/contacts/{contact}", {"add_addresses": [mail]})

        await city.move_on(hours=25)
        await page.reload()
        await page.words(".composer .window", "agent humain encore")
        await stage.shot(page, "window-tag")
        await says(page, "Pardon pour l'attente.")
        assert (await stage.city.told(rose, "Pardon pour l'attente.")).tag == "HUMAN_AGENT"

        await city.move_on(hours=7 * 24)
        await page.reload()
        await page.words(".composer .window", "période close")
        await page.words(".composer .shut", "ne permet plus de répondre", "Joignez-le autrement", "Continuer")
        assert await page.count(".composer .btn.main:enabled") == 0
        assert await page.axe() == []
        await stage.shot(page, "window-closed")

        await page.run("document.activeElement.blur()")
        await page.press("u")
        await page.words(".ways .choose", "rose@client.example")
        await stage.shot(page, "ways")
        await enter(page, ".ways .choose", "rose@client.example")
        await page.words(".composer label[for=reply]", "rose@client.example")
        await page.run("document.querySelector('.composer .subject').focus()")
        await page.press("Control+a")
        await page.type("Votre demande")
        await page.press("Tab")
        await page.until("document.activeElement.id === 'reply'")
        await page.type("Nous avons retrouvé votre colis.")
        before = len(city.post.arrived)
        await page.press("Control+Enter")
        letter = await city.post.gets(before + 1)
        assert str(letter["To"]) == "rose@client.example"
        assert "Votre demande" in str(letter["Subject"])
        await page.words(".message.mail.advisor", "Votre demande", "retrouvé votre colis", "envoyé")
        assert await page.axe() == []
        await stage.shot(page, "email")
        await finish(page)
