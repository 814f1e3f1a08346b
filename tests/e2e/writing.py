"""A process that plays customers and advisors around servers, each killed at a crash point under written messages.

`python -m tests.e2e.writing DSN FOLDER HOW FIRST LAST [POINT…]`: the seeds from FIRST to before LAST, one line of JSON
a life on standard output. HOW is `forked` (whole servers in forked children) or `served` (`monofil serve`). Meta's
double, the mail world and the customers outlive the servers, as they do outside; what a killed server did not answer is
told again. What becomes of each conversation is held against the same one with a server that nobody kills.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID, uuid4

import aiohttp
import aiosmtplib
import argon2
import asyncpg

from config import logs
from config import site as site_file
from config.graph import GraphDouble, Told
from config.journey import SECRETS, PostOffice, secrets_as_environment
from cti.aio.headless import Frame, HeadlessConsole, Refused
from routing.aio import postgres
from routing.aio.clock import IdMaker, SystemClock
from routing.crash import HOOKS, NAMES, OUTBOX, WALKS
from tests.e2e.nursery import Commands, Life, Lives, Nursery
from tests.fakes.changes import Changes
from tests.routing.record import check

Value = TypeVar("Value")

POINTS = HOOKS + WALKS + OUTBOX + NAMES
AT_START = ("desk.elected", "desk.restored")  # passed once in a life
OFTEN = {
    **dict.fromkeys(HOOKS, 8),
    **dict.fromkeys(WALKS, 3),
    **dict.fromkeys(OUTBOX, 5),
    "outbox.went": 3,  # of a message in parts
    **dict.fromkeys((name for name in NAMES if name not in AT_START), 20),
}
SCRIPTS = 12
EPISODES = 3  # begun in one life, before it is given up to reach its point
LANES = 4  # episodes at once
AHEAD_S = 30.0  # between two lives: the leases of the first are over
PLAY_S = 60.0  # one life
SETTLE_S = 30.0
RETRY_S = 0.1  # Meta's, of what was not taken
AGAIN_S = 1.0  # at most, after a server did not answer
PASSWORD = "the same for everybody here"
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ADVISORS = ("a1", "a2", "a3")
PAGE, BOX = "page", "box"
OURS = "service@postal.example"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
LIVING = frozenset({"opened", "qualifying", "waiting", "offered", "active"})
WENT = frozenset({"sent", "delivered", "read"})
SITE = """
organisation: {{id: {name}, name: Written, time_zone: Europe/Paris, country: FR, languages: [fr],
  recording_notice: recording}}
skills: [fr]
hours: {{always: {{week: {{lun-dim: "00:00-24:00"}}}}}}
queues:
  general: {{name: General, needs: ["fr>=1"], hours: always, related_hold: {{chat: 1s, mail: 1s}},
    wrapup_codes: [done]}}
advisors:
  a1: {{first_name: Anne, last_name: One, skills: {{fr: 3}}, seats: {{chat: 3, mail: 5}}}}
  a2: {{first_name: Bob, last_name: Two, skills: {{fr: 3}}, seats: {{chat: 3, mail: 5}}}}
  a3: {{first_name: Cyd, last_name: Three, skills: {{fr: 3}}, seats: {{chat: 3, mail: 5}}}}
wrapup_codes: {{done: {{labels: {{fr: Fait}}}}}}
channels:
  page: {{channel: messenger, name: La page, tree: chat, bot_name: Iris,
    settings: {{page_id: "1001", app_id: "7007", api_base: "{graph}"}}}}
  box: {{channel: email, name: Le courrier, queue: general, bot_name: Le courrier,
    settings: {{address: service@postal.example, smtp_host: 127.0.0.1, smtp_port: "{smtp}"}}}}
trees:
  chat:
    tree: chat
    title: Chat
    languages: [fr]
    channels: [chat]
    start: main
    error: line
    human: {{to: line, label: {{fr: Un conseiller}}}}
    nodes:
      main:
        kind: menu
        say: {{fr: "Que puis-je faire pour vous ?"}}
        keys:
          "1": {{to: hours, label: {{fr: Horaires}}, words: {{fr: [ouvert]}}}}
          "2": {{to: number, label: {{fr: Mon colis}}, words: {{fr: [colis]}}}}
          "3": {{to: bye, label: {{fr: Merci}}, words: {{fr: [merci]}}}}
        exits: {{failed: line}}
      hours: {{kind: say, say: {{fr: "Nous sommes toujours là."}}, next: main}}
      number:
        kind: collect
        say: {{fr: "Quel est votre numéro (quatre chiffres) ?"}}
        into: parcel
        min: 4
        max: 4
        next: keep
        exits: {{failed: line}}
      keep: {{kind: say, say: {{fr: "Le colis {{{{ parcel }}}} est en route."}}, next: main}}
      line: {{kind: queue, queue: general, say: connecting,
        exits: {{left: bye, closing: bye, refused: bye, error: bye}}}}
      bye: {{kind: hangup, say: goodbye, outcome: served}}
"""


class NotSo(AssertionError):
    """What the record says is not what happened."""


class Town:
    """One organisation with its customers, its advisors and whoever carries their words; servers come and go in it."""

    def __init__(self, dsn: str, home: Path, name: str, lives: Lives) -> None:
        self.dsn, self.home, self.name, self.lives = dsn, home, name, lives
        self.site = home / "site.yaml"
        self.ahead_s = 0.0
        self.up = asyncio.Event()  # advisors are signed in to a server
        self.news = asyncio.Event()  # set when a console hears something, and when a server has ended
        self.enough = False  # the last life was not killed by its plan
        self.mail_at = ""
        self.consoles: dict[str, HeadlessConsole] = {}
        self.mailed: list[str] = []  # Message-IDs of customers' mails that the server has taken
        self.episodes: list[Episode] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self.home.mkdir(parents=True)
        self.home.chmod(0o711)
        async with contextlib.AsyncExitStack() as stack:
            self.changes = await stack.enter_async_context(Changes(self.dsn))
            self.pool = await stack.enter_async_context(postgres.pool(self.dsn, size=3))
            self.graph = await stack.enter_async_context(
                GraphDouble(
                    app_secret=SECRETS["app_secret"],
                    page_token=SECRETS["page_token"],
                    verify_token=SECRETS["verify_token"],
                    now=self.now,
                    retry_every_s=RETRY_S,
                )
            )
            self.graph.callback = "http://127.0.0.1:9/"  # nobody is there yet
            self.post = await stack.enter_async_context(PostOffice())
            words = SITE.format(name=self.name, graph=self.graph.base, smtp=self.post.port)
            self.site.write_text(words, "utf-8")
            self.env = {
                "MONOFIL_DATA_DIR": str(self.home),
                "MONOFIL_DATABASE_URL": self.dsn,
                "MONOFIL_HTTP_PORT": "0",
                "MONOFIL_SIP_PORT": "0",
                "MONOFIL_MAIL_PORT": "0",
                "MONOFIL_FETCH_ALLOW": "127.0.0.0/8",
                "MONOFIL_MEDIA_WORKERS": "1",
                "MONOFIL_DRAIN_S": "1",
                "MONOFIL_LOG_LEVEL": "error",
                "MONOFIL_CLOCK_FILE": str(self.home / "clock"),
                **secrets_as_environment(PAGE, SECRETS),
            }
            clock = SystemClock()
            self.organisation = await postgres.organisation_id(self.pool, self.name, IdMaker(), clock.now())
            people = postgres.stores(self.pool, self.organisation, clock).people
            for login in ADVISORS:
                await people.set_password_hash(login, CHEAP.hash(PASSWORD))
            try:
                yield
            finally:
                for episode in self.episodes:
                    episode.task.cancel()
                for task in self._tasks:
                    task.cancel()
                tasks = [*(episode.task for episode in self.episodes), *self._tasks]
                await asyncio.gather(*tasks, return_exceptions=True)

    def now(self) -> float:
        return datetime.now(UTC).timestamp() + self.ahead_s

    def move_on(self, seconds: float) -> None:
        self.ahead_s += seconds
        beside = self.home / "clock.new"
        beside.write_text(f"{self.ahead_s:.3f}\n", "utf-8")
        beside.replace(self.home / "clock")

    async def rows(self, question: str, *arguments: Any) -> list[asyncpg.Record]:
        """`$1` is the organisation."""
        return list(await self.pool.fetch(question, self.organisation, *arguments))

    # ---- lives ---------------------------------------------------------------------------------------------------

    async def life(
        self, plan: str, until: Callable[[], Coroutine[Any, Any, None]], *, gently: bool = False
    ) -> int:
        """The signal that ended a server, in which the town lived until then or until `until` has come about."""
        self.move_on(AHEAD_S)
        self.enough = False
        life = await self.lives.begin(self.env, self.site, plan)
        works: dict[str, asyncio.Task[Any]] = {}
        try:
            alive = await life.ready()
            ended = asyncio.create_task(life.ended())
            works["ended"] = ended
            if alive:
                self.graph.callback, self.mail_at = f"{life.http}/hooks/{PAGE}", life.mail
                staff = works["staff"] = asyncio.create_task(self._staff(life))
                enough = works["enough"] = asyncio.create_task(until())
                await asyncio.wait(works.values(), return_when=asyncio.FIRST_COMPLETED)
                for work in (staff, enough):
                    if work.done():
                        work.result()
                self.enough = enough.done()
            if gently:
                await self._leave(works.get("staff"))
                await life.stop()
            else:
                life.kill()
            return await ended
        finally:
            life.kill()
            for work in works.values():
                work.cancel()
            await self._leave(works.get("staff"))
            await asyncio.gather(*works.values(), return_exceptions=True)

    async def _leave(self, staff: asyncio.Task[None] | None) -> None:
        self.up.clear()
        self.news.set()
        if staff is not None:
            staff.cancel()
            await asyncio.gather(staff, return_exceptions=True)
        consoles, self.consoles = self.consoles, {}
        for console in consoles.values():
            await console.close()

    async def _staff(self, life: Life) -> None:
        """The advisors sign in, take what they are offered, and come back from pauses."""
        try:
            for login in ADVISORS:
                console = HeadlessConsole(life.http, login, PASSWORD, on_frame=self._takes(login))
                self.consoles[login] = console
                await console.__aenter__()
                await console.set_presence("ready")
            self.up.set()
            away = "SELECT advisor FROM advisor_state WHERE organisation_id = $1 AND presence <> 'ready'"
            with self.changes.heard("advisor_state", "interaction") as news:
                while True:
                    news.clear()
                    for row in await self.rows(away):
                        with contextlib.suppress(Refused):  # until something is otherwise
                            await self.consoles[row["advisor"]].set_presence("ready")
                    await news.wait()
        except (aiohttp.ClientError, OSError, TimeoutError, Refused):
            await life.ended()  # it was killed meanwhile

    def _takes(self, login: str) -> Callable[[Frame], None]:
        def hear(frame: Frame) -> None:
            self.news.set()
            if frame["type"] == "snapshot":
                offers = [offer["id"] for offer in frame["data"].get("offers", ())]
            elif frame["type"] == "offer.made":
                offers = [frame["data"]["id"]]
            else:
                return
            for offer in offers:
                self._start(self._accept(login, offer))

        return hear

    async def _accept(self, login: str, offer: str) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError, RuntimeError, Refused):
            if login in self.consoles:
                await self.consoles[login].accept(offer)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def otherwise(self) -> None:
        """Until a console has heard something or the server is gone, since `news` was cleared; AGAIN_S at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                await self.news.wait()

    def mail_of(self, message: str) -> EmailMessage | None:
        return next((mail for mail in self.post.arrived if _named_by(mail) == message), None)

    # ---- episodes ------------------------------------------------------------------------------------------------

    def begin(self, script: int) -> Episode:
        episode = Episode(self, len(self.episodes), script)
        self.episodes.append(episode)
        return episode

    async def fewer_than(self, lanes: int) -> None:
        """Until fewer are being played."""
        while len(going := {episode.task for episode in self.episodes if not episode.task.done()}) >= lanes:
            await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)

    async def all_played(self) -> None:
        await asyncio.gather(*(asyncio.shield(episode.task) for episode in self.episodes))

    async def settled(self) -> None:
        """Everything was told, handled, sent and told back."""
        open_ = (
            "SELECT 'request' AS what, count(*) AS n FROM request WHERE organisation_id = $1 AND handled_at IS NULL "
            "UNION ALL SELECT 'outbox', count(*) FROM outbox WHERE organisation_id = $1 "
            "AND (state IN ('queued', 'taken') OR NOT told) "
            "UNION ALL SELECT 'file', count(*) FROM attachment WHERE organisation_id = $1 AND state = 'fetching'"
        )
        left: list[Any] = []

        async def quiet() -> bool:
            await self.graph.settled()
            await self.graph.until(lambda: not self.graph.owed, SETTLE_S)
            left[:] = [(row["what"], row["n"]) for row in await self.rows(open_) if row["n"]]
            return not left

        try:
            async with asyncio.timeout(SETTLE_S):
                await self.changes.until(quiet, "request", "outbox", "attachment")
        except TimeoutError:
            raise NotSo(f"never quiet: {left}, {self.graph.owed} webhooks not taken") from None


@dataclass(slots=True)
class Turned:
    """How an interaction ended, as far as it must not depend on crashes."""

    channel: str
    direction: str
    state: str
    outcome: str | None
    code: str | None
    case: int  # the how manieth of the customer's
    facts: Any
    path: list[tuple[str, str]]
    ours: list[tuple[str, str]]
    theirs: list[tuple[str, str]]
    files: list[str]


class Episode:
    """One customer's matter, drawn from the number of its script; `task` plays it."""

    def __init__(self, town: Town, number: int, script: int) -> None:
        self.town, self.number, self.script = town, number, script
        self.random = Random(f"script {script}")
        self.psid = f"{town.organisation.int % 10**9:09}{number:03}"
        self.address = f"client{number}@client.example"
        self.customer = town.graph.customer(self.psid, f"Client {number}")
        self.wrote: list[str] = []  # external ids of all that the customer has written
        self.repeated: set[str] = set()  # messages of ours that the advisor has written anew
        self.doing = "beginning"
        self.task = asyncio.create_task(self._play(), name=f"episode {number}")

    async def until(self, what: str, true: Callable[[], Awaitable[Value]], *tables: str) -> Value:
        """The first true value, looked for whenever one of the tables has changed."""
        self.doing = what
        return await self.town.changes.until(true, *tables)

    # ---- the customer

    async def _writes(self, external_ids: Sequence[str]) -> UUID:
        """Wait until the server has made of it what it will; the interaction of the last one."""
        self.wrote += external_ids
        return [await self._taken(each) for each in external_ids][-1]

    async def _taken(self, external_id: str) -> UUID:
        question = (
            "SELECT i.id, i.state, m.seq, w.consumed FROM message m "
            "JOIN interaction i ON i.organisation_id = $1 AND i.id = m.interaction "
            "LEFT JOIN walk w ON w.organisation_id = $1 AND w.interaction = i.id "
            "WHERE m.organisation_id = $1 AND m.external_id = $2"
        )

        async def taken() -> UUID | None:
            for row in await self.town.rows(question, external_id):
                walks = row["state"] in ("opened", "qualifying")
                if not walks or (row["consumed"] or 0) >= row["seq"]:
                    return UUID(str(row["id"]))
            return None

        what = f"an answer of the tree to {external_id}"
        found = await self.until(what, taken, "message", "interaction", "walk")
        assert found is not None
        return found

    async def _says(self, kind: str) -> UUID:
        random, customer, graph = self.random, self.customer, self.town.graph
        match kind:
            case "text":
                return await self._writes([await customer.writes("C'est ouvert ?")])
            case "unclear":
                return await self._writes([await customer.writes("blabla")])
            case "tap":
                return await self._writes([await customer.writes("Horaires", payload="1")])
            case "press":
                return await self._writes([await customer.presses("Horaires", "1")])
            case "parcel":
                await self._writes([await customer.writes("mon colis")])
                return await self._writes([await customer.writes("1234")])
            case "photo":
                return await self._writes([await customer.attaches(PNG, text="ouvert ?")])
            case "photo_only":
                return await self._writes([await customer.attaches(PNG)])
            case "both":
                graph.hold()
                written = [await customer.writes("ouvert ?"), await customer.writes("blabla")]
                await graph.release()
                return await self._writes(written)
            case "thrice":
                graph.hold()
                written = [await customer.writes("ouvert ?")]
                await self._again(await graph.release(), random.randint(1, 3))
                return await self._writes(written)
        raise AssertionError(kind)

    async def _again(self, told: Sequence[Told], times: int) -> None:
        for each in told:
            await self.town.graph.repeat(each, times)

    async def _burst(self) -> None:
        """Several at once, in any order, together or apart, some of them more than once."""
        graph = self.town.graph
        many = self.random.randint(2, 4)
        order = list(range(many))
        self.random.shuffle(order)
        together, times = self.random.random() < 0.5, self.random.randint(0, 2)
        graph.hold()
        written = [await self.customer.writes(f"Et encore {n}") for n in range(many)]
        await self._again(await graph.release(order, together=together), times)
        await self._writes(written)

    # ---- the advisor

    async def _row(self, interaction: UUID) -> asyncpg.Record:
        question = "SELECT * FROM interaction WHERE organisation_id = $1 AND id = $2"
        return (await self.town.rows(question, interaction))[0]

    async def _attended(self, interaction: UUID) -> None:
        async def active() -> bool:
            return bool((await self._row(interaction))["state"] == "active")

        await self.until("somebody to attend", active, "interaction")

    async def _does(self, what: str, interaction: UUID, act: Callable[[HeadlessConsole], Any]) -> Any:
        """Have its advisor do it; anew with the next server where this one has not answered."""

        self.doing = what
        while True:
            await self.town.up.wait()
            self.town.news.clear()
            console = self.town.consoles.get((await self._row(interaction))["advisor"] or ADVISORS[0])
            if console is None:  # they have just left
                continue
            try:
                async with asyncio.timeout(5.0):
                    return await act(console)
            except (aiohttp.ClientError, OSError, RuntimeError):
                await self.town.otherwise()
            except Refused as refused:
                kind = refused.problem.get("type", "") if isinstance(refused.problem, dict) else ""
                if refused.status not in (401, 503) and "newer-reply" not in kind:
                    raise
                await self.town.otherwise()

    async def _replies(self, interaction: UUID, text: str, **more: Any) -> None:
        more["message"] = str(uuid4())
        await self._does(
            f"the reply «{text}»", interaction, lambda it: it.reply(str(interaction), text, **more)
        )

    async def _shows(self, interaction: UUID, text: str) -> None:
        """A reply with a picture, which Messenger takes as two messages."""
        file = await self._does("the file", interaction, lambda it: it.upload(PNG, "colis.png", "image/png"))
        await self._replies(interaction, text, attachments=[file["id"]])

    async def _closes(self, interaction: UUID, outcome: str = "answered", **more: Any) -> None:
        async def close(console: HeadlessConsole) -> None:
            if (await self._row(interaction))["state"] != "ended":
                await console.close_interaction(str(interaction), outcome, **more)

        await self._does("the closing", interaction, close)

    async def _mails(self, chat: UUID) -> None:
        """An email from the case, and the customer's answer to it."""
        case = str((await self._row(chat))["case_id"])

        async def introduce(console: HeadlessConsole) -> str:
            contact = (await console.get(f"/cases/{case}"))["contact"]
            known = (await console.get(f"/contacts/{contact}"))["addresses"]
            if not any(each["kind"] == "email" for each in known):
                add = {"add_addresses": [{"kind": "email", "value": self.address}]}
                known = (await console.patch(f"/contacts/{contact}", add))["addresses"]
            return str(next(each["id"] for each in known if each["kind"] == "email"))

        address = await self._does("the address", chat, introduce)
        while True:
            message = str(uuid4())
            more = {"message": message, "subject": "Votre colis"}
            await self._does(
                "the email",
                chat,
                lambda it: it.request(
                    "POST",
                    f"/cases/{case}/messages",
                    {"account": BOX, "address": address, "text": "Voici notre réponse.", **more},  # noqa: B023
                ),
            )

            async def sent() -> str:
                question = "SELECT state FROM outbox WHERE organisation_id = $1 AND message = $2"
                state = (await self.town.rows(question, UUID(message)))[0]["state"]  # noqa: B023
                return state if state not in ("queued", "taken") else ""

            await self.until("the mail to be sent", sent, "outbox")
            if (mail := self.town.mail_of(message)) is not None:
                break
            self.repeated.add(message)  # perhaps sent, and it was not: the advisor writes anew
        answer = await self._answers(mail)
        letter = await self._writes([answer])
        await self._attended(letter)
        await self._replies(letter, "Avec plaisir.")
        if self.random.random() < 0.5:
            await self._closes(letter, "answered", code="done", note="Une note.")
        else:
            await self._closes(letter, "archived", reason="spam")

    async def _answers(self, mail: EmailMessage) -> str:
        answer = EmailMessage()
        answer["From"], answer["To"] = f"Client <{self.address}>", OURS
        answer["Subject"] = f"Re: {mail['Subject']}"
        answer["Date"] = datetime.fromtimestamp(self.town.now(), UTC)
        answer["Message-ID"] = f"<{uuid4().hex}@client.example>"
        answer["In-Reply-To"] = answer["References"] = str(mail["Message-ID"])
        answer.set_content("Merci beaucoup !\n")

        self.doing = "the customer's mail to be taken"
        while True:
            self.town.news.clear()
            host, _, port = self.town.mail_at.rpartition(":")
            try:
                async with asyncio.timeout(5.0):
                    await aiosmtplib.send(
                        answer, hostname=host, port=int(port), sender=self.address, recipients=[OURS]
                    )
                break
            except (aiosmtplib.SMTPException, OSError):
                await self.town.otherwise()
        own = str(answer["Message-ID"])
        self.town.mailed.append(own)
        return await self.until("the customer's mail", lambda: self._mail_row(own), "message")

    async def _mail_row(self, id_: str) -> str:
        question = (
            "SELECT external_id FROM message WHERE organisation_id = $1 AND external_id = ANY ($2::text[])"
        )
        rows = await self.town.rows(question, [id_, id_.strip("<>")])
        return str(rows[0]["external_id"]) if rows else ""

    # ---- the whole

    async def _play(self) -> None:
        random = self.random
        kinds = ("text", "unclear", "tap", "press", "parcel", "photo", "photo_only", "both", "thrice")
        chat = await self._says("text")
        for kind in random.choices(kinds, k=random.randint(1, 3)):
            chat = await self._says(kind)
        if random.random() < 0.3:
            await self._writes([await self.customer.writes("merci")])
            chat = await self._writes([await self.customer.writes("Encore une question")])
        if (await self._row(chat))["state"] in ("opened", "qualifying"):
            chat = await self._writes([await self.customer.writes("je veux un conseiller")])
        await self._attended(chat)
        await self._replies(chat, "Bonjour, je regarde.")
        if random.random() < 0.5:
            await self._replies(chat, "Un instant encore.")
        await self._burst()
        await self._shows(chat, "C'est fait.")
        if self.customer.inbox:
            await self.customer.reacts(self.customer.inbox[-1].mid)
            await self.customer.reads()
        if random.random() < 0.5:
            await self._mails(chat)
        await self._closes(chat, "answered", code="done")
        self.doing = "over"

    async def turned(self) -> list[Turned]:
        """What became of it, in the order in which it began."""
        town = self.town
        interactions = await town.rows(
            "SELECT i.*, d.facts FROM interaction i JOIN thread t ON t.organisation_id = $1 AND t.id = i.thread "
            "JOIN address_data a ON a.organisation_id = $1 AND a.address = t.address "
            "JOIN interaction_data d ON d.organisation_id = $1 AND d.interaction = i.id "
            "WHERE i.organisation_id = $1 AND a.value = ANY ($2::text[]) ORDER BY i.opened_at, i.id",
            [self.psid, self.address],
        )
        cases: list[UUID] = []
        told = []
        for row in interactions:
            if row["case_id"] not in cases:
                cases.append(row["case_id"])
            messages = await town.rows(
                "SELECT m.id, m.direction, m.author, m.kind, d.text FROM message m JOIN message_data d "
                "ON d.organisation_id = $1 AND d.message = m.id "
                "WHERE m.organisation_id = $1 AND m.interaction = $2 ORDER BY m.seq",
                row["id"],
            )
            steps = await town.rows(
                "SELECT node, exit FROM path_step WHERE organisation_id = $1 AND interaction = $2 ORDER BY step",
                row["id"],
            )
            files = await town.rows(
                "SELECT a.state FROM attachment a JOIN message m ON m.organisation_id = $1 AND m.id = a.message "
                "WHERE a.organisation_id = $1 AND m.interaction = $2 ORDER BY 1",
                row["id"],
            )
            ours = [m for m in messages if m["direction"] == "out" and str(m["id"]) not in self.repeated]
            if row["direction"] == "out" and not ours:
                continue
            told.append(
                Turned(
                    channel=row["channel"],
                    direction=row["direction"],
                    state=row["state"],
                    outcome=row["outcome"],
                    code=row["code"],
                    case=cases.index(row["case_id"]),
                    facts=row["facts"],
                    path=[(step["node"], step["exit"]) for step in steps],
                    ours=[(m["author"], m["text"]) for m in ours],
                    theirs=sorted((m["kind"], m["text"]) for m in messages if m["direction"] == "in"),
                    files=[file["state"] for file in files],
                )
            )
        return told


_OUR_MAIL = re.compile(r"<([0-9a-f]{32})[.@]")


def _named_by(mail: EmailMessage) -> str:
    """Our id of a mail of ours."""
    found = _OUR_MAIL.match(str(mail["Message-ID"]))
    if found is None:
        raise NotSo(f"a mail with the Message-ID {mail['Message-ID']}")
    return str(UUID(found[1]))


_MARK = re.compile(r"cc:([0-9a-f-]{36})(?::(\d+)/(\d+):.*)?")


def _marked(metadata: str) -> tuple[str, int, int]:
    """Our message, which of its parts, of how many."""
    found = _MARK.fullmatch(metadata)
    if found is None:
        raise NotSo(f"a message with the metadata {metadata!r}")
    return found[1], int(found[2] or 1), int(found[3] or 1)


def so(true: bool, otherwise: str) -> None:
    if not true:
        raise NotSo(otherwise)


# ---- what must be true -----------------------------------------------------------------------------------------------


async def check_all(town: Town, expected: Sequence[Sequence[Turned]]) -> None:
    await _nothing_lost(town)
    await _nothing_twice(town)
    for episode in town.episodes:
        turned, wanted = await episode.turned(), expected[episode.script]
        for number, (one, other) in enumerate(zip(turned, wanted, strict=False)):
            so(one == other, f"episode {episode.number}, interaction {number}:\n{one}\ninstead of\n{other}")
        so(len(turned) == len(wanted), f"episode {episode.number}: {len(turned)} interactions: {turned}")
    checked = site_file.check(town.site, site_file.shipped_sounds())
    assert checked.site is not None
    await check(town.dsn, town.organisation, checked.site)


async def _nothing_lost(town: Town) -> None:
    """All that was acknowledged was stored and handled, all that customers wrote stands in the record, once."""
    stored = await town.rows("SELECT body, handled_at, result FROM request WHERE organisation_id = $1")
    bodies = Counter(bytes(row["body"]) for row in stored)
    for body, count in Counter(told.body for told in town.graph.told if told.status == 200).items():
        so(bodies[body] >= count, f"acknowledged {count} times, stored {bodies[body]} times: {body!r}")
    raw = [bytes(row["body"]) for row in stored]
    for id_ in town.mailed:
        so(any(id_.encode() in body for body in raw), f"the mail {id_} was taken and is not stored")
    for row in stored:
        so(row["handled_at"] is not None, "a request was never handled")
        so(not row["result"].get("failed"), f"a request failed: {row['result']}")
        so(not row["result"].get("refused"), f"an event was refused: {row['result']}")
    messages = await town.rows(
        "SELECT m.external_id, i.state FROM message m "
        "JOIN interaction i ON i.organisation_id = $1 AND i.id = m.interaction "
        "WHERE m.organisation_id = $1 AND m.direction = 'in'"
    )
    there = Counter(row["external_id"] for row in messages)
    wrote = Counter(id_ for episode in town.episodes for id_ in episode.wrote)
    so(there == wrote, f"lost: {wrote - there}; too many: {there - wrote}")
    for row in messages:
        so(
            row["state"] in LIVING | {"ended"},
            f"{row['external_id']} is in an interaction that is {row['state']}",
        )


async def _nothing_twice(town: Town) -> None:
    """Each message of ours came at most once and in order; what is said to be sent came, what is not did not."""
    rows = await town.rows(
        "SELECT m.id, m.seq, m.thread, m.status, m.author, o.state, o.why, t.channel FROM message m "
        "JOIN outbox o ON o.organisation_id = $1 AND o.message = m.id "
        "JOIN thread t ON t.organisation_id = $1 AND t.id = m.thread "
        "WHERE m.organisation_id = $1 AND m.direction = 'out'"
    )
    arrived = [_marked(each.metadata) for each in town.graph.arrived]
    arrived += [(_named_by(mail), 1, 1) for mail in town.post.arrived]
    for (message, part, of), count in Counter(arrived).items():
        so(count == 1, f"part {part} of {of} of {message} was sent {count} times")
    parts = Counter(message for message, _, _ in arrived)
    came = {message for message, _, of in arrived if parts[message] == of}
    ours = {str(row["id"]): row for row in rows}
    so(parts.keys() <= ours.keys(), f"sent and not in the record: {parts.keys() - ours.keys()}")
    for message, row in ours.items():
        told = f"{message} of the {row['author']} is {row['status']} ({row['state']}: {row['why']})"
        so(row["status"] in WENT | {"perhaps", "failed", "dropped"}, told)
        so((message in came) or row["status"] not in WENT, f"{told}, and nobody got it")
        so(row["status"] != "failed", f"{told}, though nothing was wrong with the provider")
        if (
            row["channel"] == "messenger"
        ):  # its echo and its receipts are repeated until they are acknowledged
            so((message in came) == (row["status"] in WENT), f"{told}, and it came: {message in came}")
    arrivals: defaultdict[UUID, list[tuple[int, int]]] = defaultdict(list)
    for message, part, _ in arrived:
        arrivals[ours[message]["thread"]].append((ours[message]["seq"], part))
    for thread, order in arrivals.items():
        so(order == sorted(order), f"thread {thread} came out of order: {order}")


# ---- runs ------------------------------------------------------------------------------------------------------------


async def uncrashed(dsn: str, folder: Path, lives: Lives, name: str) -> list[list[Turned]]:
    """How each script goes with a server that nobody kills."""
    town = Town(dsn, folder / name, name, lives)
    async with town.open():

        async def play() -> None:
            for script in range(SCRIPTS):
                town.begin(script)
                if len(town.episodes) % 4 == 0:
                    await town.all_played()
            await town.all_played()
            await town.settled()

        async with asyncio.timeout(PLAY_S):
            await town.life("", play, gently=True)
        expected = [await episode.turned() for episode in town.episodes]
        await check_all(town, expected)
        for row in await town.rows(
            "SELECT count(*) AS n FROM outbox WHERE organisation_id = $1 AND state <> 'sent'"
        ):
            so(row["n"] == 0, "without a crash everything is sent")
        return expected


async def killed(
    dsn: str,
    folder: Path,
    lives: Lives,
    how: str,
    seed: int,
    points: Sequence[str],
    expected: list[list[Turned]],
) -> None:
    """One organisation killed at each of the points, in an order of chance."""
    random, name = Random(seed), f"{how}-{seed}"
    town = Town(dsn, folder / name, name, lives)
    order = list(points)
    random.shuffle(order)
    plan = ""
    try:
        async with town.open():
            for point in order:
                plan = f"{point}:{random.randint(1, OFTEN.get(point, 1))}"
                scripts = [random.randrange(SCRIPTS) for _ in range(EPISODES)]

                async def play(scripts: list[int] = scripts) -> None:
                    for script in scripts:
                        await town.fewer_than(LANES)
                        town.begin(script)
                    await town.all_played()

                async with asyncio.timeout(PLAY_S):
                    ended = await town.life(plan, play)
                told = {
                    "seed": seed,
                    "plan": plan,
                    "point": point,
                    "signal": ended,
                    "reached": not town.enough,
                }
                print(json.dumps(told), flush=True)
            plan = "the last life"

            async def finish() -> None:
                await town.all_played()
                await town.settled()

            async with asyncio.timeout(PLAY_S + SETTLE_S):
                await town.life("", finish, gently=True)
            await check_all(town, expected)
            perhaps = await town.rows(
                "SELECT count(*) AS n FROM message WHERE organisation_id = $1 AND status = 'perhaps'"
            )
            sent = len(town.graph.arrived) + len(town.post.arrived)
            print(json.dumps({"seed": seed, "sent": sent, "perhaps": perhaps[0]["n"]}), flush=True)
    except BaseException:
        print(f"failed: seed {seed}, {plan}, of the points {order}", file=sys.stderr)
        print(
            f"again: SEED={seed} python -m pytest tests/e2e/test_written_crash.py -k {how}", file=sys.stderr
        )
        for episode in town.episodes:
            if not episode.task.done():
                print(f"episode {episode.number} waits for {episode.doing}", file=sys.stderr)
        raise


async def run(dsn: str, folder: Path, how: str, seeds: range, points: Sequence[str], lives: Lives) -> None:
    expected = await uncrashed(dsn, folder, lives, f"{how}-plain-{seeds.start}")
    for seed in seeds:
        await killed(dsn, folder, lives, how, seed, points, expected)


def main() -> None:
    dsn, folder, how, first, last, *points = sys.argv[1:]
    logs.set_up("error", "json")
    everywhere = tuple(points) or POINTS
    nursery = Nursery() if how == "forked" else None
    try:
        asyncio.run(
            run(dsn, Path(folder), how, range(int(first), int(last)), everywhere, nursery or Commands())
        )
    finally:
        if nursery is not None:
            nursery.close()


if __name__ == "__main__":
    main()
