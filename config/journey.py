"""The journey of one customer over Messenger, the telephone and email under one case, each step seen from outside.

The server is a process of its own. Meta is played by config.graph, the mail world by PostOffice below, the customer's
telephone by whoever stands behind `Customer`; nothing here reaches into the server.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import logging
import re
import time
import wave
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from email.utils import make_msgid
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import aiohttp
import aiosmtplib
import numpy as np
from aiosmtpd.smtp import SMTP

from config.graph import Arrived, GraphDouble
from config.graph import Customer as Writer
from cti.aio.headless import HeadlessConsole
from media.tone import dominant_hz
from routing.hours import Calendar
from routing.site import Hours

SECRETS = {"app_secret": "app-secret", "page_token": "page-token", "verify_token": "verify-token"}
"""Of the double only: a real page's are made by Meta and set with `monofil secret set`."""
PAGE = "facebook"
BOX = "courrier"
PSID = "24001000200030004"
NUMBER = "+33687000111"
ADDRESS = "jeanne.petit@client.example"
PARCEL = "875000000013"
FIRST_NAME = "Léa"
RETURN_S = 20.0  # to wait for what happens at once, on a machine that has other work


class NotSo(Exception):
    """A step of the journey was not true; the message says what was seen instead."""


def expect(true: bool, otherwise: str) -> None:
    if not true:
        raise NotSo(otherwise)


class World(Protocol):
    """What the journey needs of the world that it happens in."""

    consoles: dict[str, HeadlessConsole]
    graph: GraphDouble
    post: PostOffice
    folder: Path

    @property
    def http(self) -> str: ...

    def now(self) -> datetime:
        """The server's time."""

    async def move_to(self, moment: datetime) -> None:
        """Let that time be, for the server and for those who play with it."""

    async def sql(self, question: str, *arguments: Any) -> Any:
        """One value from the server's own database."""


class Talk(Protocol):
    """The customer's side of a call that reached their telephone."""

    async def hears(self, advisor: str) -> str:
        """Wait until the advisor's voice is heard; says what was measured."""

    async def hang_up(self) -> None: ...

    async def spoke_to(self, advisor: str) -> str:
        """After the call: that the advisor's phone heard the customer; says what was measured."""


class Telephone(Protocol):
    """The customer's telephone, behind the carrier."""

    async def rings(self, number: str) -> Talk:
        """Wait for the hotline's call to that number and answer it."""

    async def ignores(self, number: str) -> None:
        """Wait for the hotline's call to that number and refuse it."""

    async def dials(self, keys: str) -> Talk:
        """Call the hotline."""


class PostOffice:
    """The customers' mail server: takes what the hotline sends, and brings what they write. `async with` it."""

    def __init__(self) -> None:
        self.arrived: list[EmailMessage] = []
        self.senders: list[str] = []  # of the envelopes
        self.port = 0
        self._news = asyncio.Condition()
        self._sessions: set[SMTP] = set()

    async def __aenter__(self) -> PostOffice:
        logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd tells every line, with its words
        self._server = await asyncio.get_running_loop().create_server(self._session, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for session in self._sessions:
            if session.transport is not None:
                session.transport.close()
        await asyncio.sleep(0)

    def _session(self) -> SMTP:
        session = SMTP(self, hostname="client.example", ident="post office")
        self._sessions.add(session)
        return session

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        message = BytesParser(policy=default).parsebytes(envelope.original_content)
        assert isinstance(message, EmailMessage)
        async with self._news:
            self.arrived.append(message)
            self.senders.append(envelope.mail_from)
            self._news.notify_all()
        return "250 OK"

    async def gets(self, count: int, within_s: float = RETURN_S) -> EmailMessage:
        """The count-th mail that arrived. Raises TimeoutError."""
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(lambda: len(self.arrived) >= count), within_s)
        return self.arrived[count - 1]

    async def answers(self, mail: EmailMessage, words: str, at: str, now: datetime) -> str:
        """The customer answers a mail, delivered to the hotline's listener at host:port; returns its Message-ID."""
        answer = EmailMessage()
        answer["From"] = f"Jeanne Petit <{ADDRESS}>"
        answer["To"] = mail["From"]
        answer["Subject"] = f"Re: {mail['Subject']}"
        answer["Date"] = now
        answer["Message-ID"] = make_msgid(domain="client.example")
        answer["In-Reply-To"] = mail["Message-ID"]
        answer["References"] = f"{mail['References'] or ''} {mail['Message-ID']}".strip()
        text = mail.get_body(("plain",))
        quoted = "\n".join(f"> {line}" for line in text.get_content().splitlines()) if text else ""
        answer.set_content(f"{words}\n\nLe lundi, Service clients postal a écrit :\n{quoted}\n")
        host, _, port = at.rpartition(":")
        to = re.search(r"[^<\s]+@[^>\s]+", str(mail["From"]))
        assert to is not None
        await aiosmtplib.send(answer, hostname=host, port=int(port), recipients=[to[0]], sender=ADDRESS)
        return str(answer["Message-ID"])


async def send_letter(name: str, address: str, box: str, subject: str, words: str, at: str) -> None:
    """A customer writes to one of the hotline's mailboxes, by its listener at host:port."""
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = f"{name} <{address}>", box, subject
    letter["Date"], letter["Message-ID"] = datetime.now(UTC), make_msgid(domain="client.example")
    letter.set_content(words)
    host, _, port = at.rpartition(":")
    await aiosmtplib.send(letter, hostname=host, port=int(port), recipients=[box], sender=address)


def moments(hours: Hours, zone: str, now: datetime) -> tuple[datetime, datetime, datetime, datetime]:
    """(a working morning, that evening, the next working morning, two days later), all to come and in the hours."""
    calendar, place = Calendar(hours, zone), ZoneInfo(zone)
    day = now.astimezone(place).replace(hour=10, minute=0, second=0, microsecond=0) + timedelta(days=1)
    for _ in range(60):
        first, evening = day, day.replace(hour=22)
        morning = day.replace(hour=8, minute=30) + timedelta(days=1)
        later = morning + timedelta(days=2)
        open_ = [calendar.is_open(moment.timestamp()) for moment in (first, evening, morning, later)]
        if open_ == [True, False, True, True]:
            return first, evening, morning, later
        day += timedelta(days=1)
    raise NotSo("these opening hours have no two working days in a row")


Step = Callable[[str, Awaitable[str]], Awaitable[None]]


@dataclass(slots=True)
class Journey:
    """Jeanne's journey. `step(what, work)` tells what was seen; `evening`, `morning` and `later` are its times."""

    world: World
    telephone: Telephone
    step: Step
    evening: datetime
    morning: datetime
    later: datetime
    mail_at: str
    known: dict[str, Any] = field(default_factory=dict)
    jeanne: Writer = field(init=False)
    case: str = ""
    chat: str = ""

    def __post_init__(self) -> None:
        self.jeanne = self.world.graph.customer(PSID, "Jeanne Petit")

    @property
    def lea(self) -> HeadlessConsole:
        return self.world.consoles["lea"]

    async def play(self) -> None:
        step = self.step
        await step("a webhook with a wrong signature is refused, and nothing of it is kept", self.forged())
        await step(
            "at ten in the evening Jeanne writes on Messenger: a bot answers, and says that it is one",
            self.night(),
        )
        await step("the bot looks her parcel up", self.parcel())
        await step("she asks for a person; her thread waits for the morning", self.waits())
        await step(
            "in the morning Léa is offered the thread; her answer is signed with her first name",
            self.morning_comes(),
        )
        await step("Léa notes down Jeanne's number and address: still one contact", self.addresses())
        await step(
            "Léa calls from the case; nobody answers, and the chat has its seat again", self.unanswered()
        )
        await step("she calls again: they talk, and the chat has lent its seat meanwhile", self.call())
        await step("wrapped up; the recording is in the case", self.wrapped_up())
        await step("the chat is closed, and Léa writes an email from the same case", self.email())
        await step(
            "two days later Jeanne answers: same case, open again, and Léa is asked first", self.answer()
        )
        await step("one contact, one case, four interactions, one timeline", self.one_thread())
        await step("Jeanne dials in, and the pop opens that case", self.dials_in())
        await step("the figures count it once", self.figures())

    async def forged(self) -> str:
        body = self.world.graph.envelope()
        headers = {"X-Hub-Signature-256": "sha256=" + hmac.new(b"another", body, "sha256").hexdigest()}
        url = f"{self.world.http}/hooks/{PAGE}"
        async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=headers) as answer:
            status = answer.status
        kept = await self.world.sql("SELECT count(*) FROM request")
        expect((status, kept) == (401, 0), f"status {status}, {kept} requests kept")
        expect(await self.world.graph.subscribe(), "the handshake failed")
        return "401, no row; the handshake of the true page is answered"

    async def _told(self, count: int, *, of: str = "") -> Arrived:
        """The newest message that reached Jeanne, once there are so many (with a word in it)."""
        there = await self.world.graph.until(
            lambda: [m for m in self.jeanne.inbox if of in m.text][count - 1 :], RETURN_S
        )
        return there[0]

    async def night(self) -> str:
        await self.world.move_to(self.evening)
        await self.jeanne.writes("Bonsoir, mon colis n'est pas arrivé")
        first = await self._told(1)
        expect("Iris" in first.text, f"the bot did not say its name: {first.text!r}")
        expect(
            "bot" in first.text.lower() or "automat" in first.text.lower(), f"nor what it is: {first.text!r}"
        )
        await self.world.graph.settled()
        await self.jeanne.taps("Français")
        closed = await self._told(1, of="du lundi au vendredi")
        row = "SELECT state FROM interaction WHERE channel = 'messenger'"
        expect(await self.world.sql(row) == "qualifying", "the walk is not in the tree")
        return f"«{first.text.splitlines()[0]}»; «{closed.text[:60]}…»"

    async def parcel(self) -> str:
        await self._told(1, of="numéro de colis")  # she has named her matter already
        await self.jeanne.writes(f"c'est le {PARCEL}")
        found = await self._told(1, of="en route")
        facts = await self.world.sql(
            "SELECT facts ->> 'status' FROM interaction_data d JOIN interaction i ON i.id = d.interaction "
            "WHERE i.channel = 'messenger'"
        )
        expect(facts == "transit", f"the record says {facts}")
        return f"«{found.text}», status {facts} in SQL"

    async def waits(self) -> str:
        await self.jeanne.writes("je veux parler à un conseiller")
        await until(self._state("waiting"), "a waiting thread in SQL")
        self.chat = str(await self.world.sql("SELECT id FROM interaction WHERE channel = 'messenger'"))
        self.case = str(await self.world.sql("SELECT case_id FROM interaction WHERE channel = 'messenger'"))
        offers = await self.world.sql("SELECT count(*) FROM offer WHERE interaction = $1", self.chat)
        expect(offers == 0, "somebody was asked at night")
        return "state waiting, offered to nobody, though three advisors are ready"

    def _state(self, wanted: str) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            return bool(
                await self.world.sql("SELECT state FROM interaction WHERE channel = 'messenger'") == wanted
            )

        return look

    async def morning_comes(self) -> str:
        for login, console in self.world.consoles.items():
            if login in ("karim", "ines"):
                await console.set_presence("pause", "break")
        mark = len(self.lea.frames)
        await self.world.move_to(self.morning)
        offer = (await self.lea.wait_for("offer.made", within_s=RETURN_S, after=mark))["data"]
        expect(offer["interaction"]["id"] == self.chat, "another interaction was offered")
        words = [m["text"] for m in offer["pop"]["last_messages"]]
        expect(any("conseiller" in text for text in words), f"the pop does not show what was said: {words}")
        await self.lea.accept(offer["id"])
        await self.lea.wait_for(
            "interaction.changed", lambda i: i["id"] == self.chat and i["state"] == "active", after=mark
        )
        sent = await self.lea.reply(self.chat, "Bonjour Madame Petit, je regarde cela tout de suite.")
        got = await self._told(1, of="tout de suite")
        expect(got.persona == FIRST_NAME, f"the customer sees {got.persona or 'no name'}")
        await self._shown_as_sent(sent["id"])
        window = [t["window"]["state"] for t in (await self.lea.get(f"/cases/{self.case}"))["threads"]]
        return f"offered to Léa at 8:30, answered as {got.persona}; reply window {window[0]}"

    async def _shown_as_sent(self, message: str) -> None:
        """The advisor's page says that it has left."""

        def so(data: Any) -> bool:
            told = data["message"]
            return bool(told["id"] == message and told["status"] in ("sent", "delivered", "read"))

        await self.lea.wait_for("message.changed", so, within_s=RETURN_S)

    async def addresses(self) -> str:
        await self.jeanne.writes(f"Vous pouvez m'appeler au {NUMBER}, ou m'écrire à {ADDRESS}.")
        contact = (await self.lea.get(f"/cases/{self.case}"))["contact"]
        body = {
            "name": "Jeanne Petit",
            "add_addresses": [{"kind": "phone", "value": NUMBER}, {"kind": "email", "value": ADDRESS}],
        }
        told = await self.lea.request("PATCH", f"/contacts/{contact}", body)
        self.known = {a["kind"]: a["id"] for a in told["addresses"]}
        expect({"phone", "email", "psid"} <= self.known.keys(), f"she has {sorted(self.known)}")
        return f"{', '.join(sorted(self.known))}"

    async def unanswered(self) -> str:
        mark = len(self.lea.frames)
        call = await self.lea.call_from_case(self.case, self.known["phone"], exchange=self.chat)
        await self.telephone.ignores(NUMBER)
        await self.lea.wait_for(
            "interaction.changed",
            lambda i: i["id"] == call and i["state"] == "ended",
            within_s=RETURN_S,
            after=mark,
        )
        seats = await self._seats(call)
        expect(seats == ["seat.lent", "seat.returned"], f"the log says {seats}")
        chat = await self.world.sql("SELECT state FROM interaction WHERE id = $1", self.chat)
        expect(chat == "active", f"the chat is {chat}")
        return "seat lent, seat returned, the chat goes on"

    async def _seats(self, call: str) -> list[str]:
        found = await self.world.sql(
            "SELECT array_agg(type ORDER BY seq) FROM event WHERE type LIKE 'seat.%' AND data ->> 'to' = $1",
            call,
        )
        return list(found or [])

    async def call(self) -> str:
        mark = len(self.lea.frames)
        self.known["call"] = call = await self.lea.call_from_case(
            self.case, self.known["phone"], exchange=self.chat
        )
        talk = await self.telephone.rings(NUMBER)
        heard = await talk.hears("lea")
        lent = await self.world.sql("SELECT lent_to FROM interaction WHERE id = $1", self.chat)
        expect(str(lent) == call, f"the chat's seat is lent to {lent}")
        await self.lea.wait_for("call.recording", within_s=RETURN_S, after=mark)
        await asyncio.sleep(2.5)  # of talk, so that the recording holds something
        await talk.hang_up()
        spoke = await talk.spoke_to("lea")
        same = await self.world.sql("SELECT case_id FROM interaction WHERE id = $1", call)
        expect(str(same) == self.case, "the call is in another case")
        return f"{heard}; {spoke}; the seat was lent"

    async def wrapped_up(self) -> str:
        call = self.known["call"]
        await self.lea.wait_for(
            "interaction.changed", lambda i: i["id"] == call and i["state"] == "wrapup", within_s=RETURN_S
        )
        await self.lea.post(
            f"/interactions/{call}/wrapup", {"code": "enquete", "note": "Enquête ouverte avec l'agence."}
        )
        found: list[Any] = []

        async def recorded() -> bool:
            found[:] = [await self.world.sql("SELECT id FROM recording WHERE interaction = $1", call)]
            return found[0] is not None

        await until(recorded, "a recording in SQL")
        raw = await self.lea.get(f"/recordings/{found[0]}")
        left, right = tones(raw)
        lent = await self.world.sql("SELECT lent_to FROM interaction WHERE id = $1", self.chat)
        expect(lent is None, "the chat has not got its seat back")
        return f"recording with {left:.0f} Hz and {right:.0f} Hz on its sides; the seat is back"

    async def email(self) -> str:
        await self.lea.close_interaction(self.chat, "answered", code="renseignement", note="Colis retrouvé.")
        state = await self.world.sql("SELECT state FROM case_file WHERE id = $1", self.case)
        expect(state == "solved", f"the case is {state}")
        before = len(self.world.post.arrived)
        sent = await self.lea.write_from_case(
            self.case,
            BOX,
            self.known["email"],
            "Votre colis vous attend à l'agence de Lyon.",
            subject="Votre colis 8R123",
        )
        mail = await self.world.post.gets(before + 1)
        self.known["mail"] = mail
        body = mail.get_body(("plain",))
        words = body.get_content() if body is not None else ""
        expect(FIRST_NAME in words and "agence de Lyon" in words, f"the mail says {words!r}")
        await self._shown_as_sent(sent["id"])
        return f"From {mail['From']}, Subject {mail['Subject']}, {mail['Message-ID']}"

    async def answer(self) -> str:
        karim = self.world.consoles["karim"]
        await self.world.move_to(self.later)
        await karim.set_presence("ready")
        marks = {console: len(console.frames) for console in (self.lea, karim)}
        await self.world.post.answers(
            self.known["mail"], "Merci, mais l'agence était fermée.", self.mail_at, self.world.now()
        )
        offer = (await self.lea.wait_for("offer.made", within_s=RETURN_S, after=marks[self.lea]))["data"]
        expect(offer["interaction"]["case"] == self.case, "the answer is in another case")
        others = [f for f in karim.frames[marks[karim] :] if f["type"] == "offer.made"]
        expect(not others, "Karim was asked before Léa")
        state = await self.world.sql("SELECT state FROM case_file WHERE id = $1", self.case)
        expect(state == "open", f"the case is {state}")
        self.known["letter"] = letter = offer["interaction"]["id"]
        await self.lea.accept(offer["id"])
        await self.lea.wait_for(
            "interaction.changed",
            lambda i: i["id"] == letter and i["state"] == "active",
            after=marks[self.lea],
        )
        before = len(self.world.post.arrived)
        await self.lea.reply(letter, "Elle sera ouverte demain jusqu'à 19 heures.")
        mail = await self.world.post.gets(before + 1)
        expect(
            str(self.known["mail"]["Message-ID"]) in str(mail["References"]),
            f"References: {mail['References']}",
        )
        await self.lea.close_interaction(letter, "answered", code="renseignement")
        number = offer["interaction"]["case_number"]
        return f"case {number} open again, offered to Léa; threaded by {mail['In-Reply-To']}"

    async def one_thread(self) -> str:
        case = await self.lea.get(f"/cases/{self.case}")
        told = [(i["channel"], i["direction"]) for i in case["interactions"]]
        calls = [pair for pair in told if pair == ("voice", "out")]
        wanted = [("messenger", "in"), ("voice", "out"), ("email", "out"), ("email", "in")]
        expect(sorted(set(told)) == sorted(wanted), f"the case has {told}")
        answered = await self.world.sql(
            "SELECT count(*) FROM interaction WHERE case_id = $1 AND outcome IS DISTINCT FROM 'declined' "
            "AND (channel <> 'voice' OR accepted_at IS NOT NULL)",
            self.case,
        )
        expect(answered == 4 and len(calls) == 2, f"{answered} interactions, {len(calls)} calls")
        people = await self.world.sql(
            "SELECT count(DISTINCT contact) FROM interaction WHERE case_id = $1", self.case
        )
        cases = await self.world.sql(
            "SELECT count(*) FROM case_file WHERE contact = (SELECT contact FROM case_file WHERE id = $1)",
            self.case,
        )
        expect((people, cases) == (1, 1), f"{people} contacts, {cases} cases")
        texts = [m["text"] for m in case["messages"]]
        said = ("pas arrivé", "tout de suite", "agence de Lyon", "était fermée", "sera ouverte")
        order = [word for text in texts for word in said if word in text]
        expect(order == list(said), f"of what was said the case shows {order} in {texts}")
        kinds = {item["kind"] for item in case["timeline"]}
        expect({"message", "call", "recording", "note"} <= kinds, f"the timeline shows {sorted(kinds)}")
        told_of = f"{answered} interactions (and a call that nobody answered), {len(texts)} messages"
        return f"contact 1, case {case['number']}, {told_of}"

    async def dials_in(self) -> str:
        mark = len(self.lea.frames)
        talk = await self.telephone.dials("12")
        offer = (await self.lea.wait_for("offer.made", within_s=RETURN_S, after=mark))["data"]
        expect(offer["pop"]["case"]["id"] == self.case, f"the pop opens {offer['pop']['case']}")
        heard = await talk.hears("lea")
        await talk.hang_up()
        call = offer["interaction"]["id"]
        await self.lea.wait_for(
            "interaction.changed",
            lambda i: i["id"] == call and i["state"] == "wrapup",
            within_s=RETURN_S,
            after=mark,
        )
        await self.lea.post(f"/interactions/{call}/wrapup", {"code": "colis_retrouve", "note": ""})
        return f"case {offer['pop']['case']['number']}, {offer['pop']['persons'][0]['name']}; {heard}"

    async def figures(self) -> str:
        admin = self.world.consoles["admin"]
        start = (self.evening - timedelta(hours=1)).isoformat()
        told = await admin.statistics(start, (self.later + timedelta(hours=2)).isoformat())
        rows = [row for row in told["rows"] if row["channel"] == "messenger"]
        received = sum(row["figures"]["conversations"] for row in rows)
        expect(received == 1, f"{received} Messenger conversations")
        share = told["totals"]["within_hour"]
        expect(share == 1.0, f"{share} answered within one hour of opening time")
        return "1 Messenger conversation; all that was written was answered within one hour of opening time"


def tones(raw: bytes) -> tuple[float, float]:
    """The loudest tones of the last second of a recording's sides, in Hz."""
    with wave.open(io.BytesIO(raw)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    last = pcm[-8000:]
    return dominant_hz(last[:, 0].copy()), dominant_hz(last[:, 1].copy())


async def until(look: Callable[[], bool | Awaitable[bool]], what: str, within_s: float = RETURN_S) -> None:
    """Look ten times a second from outside, where no event tells. Raises NotSo."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        seen = look()
        if seen if isinstance(seen, bool) else await seen:
            return
        await asyncio.sleep(0.1)
    raise NotSo(f"no {what} in {within_s:.0f} s")


def secrets_as_environment(account: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """As `monofil serve` finds them."""
    return {f"MONOFIL_SECRET_{account.upper()}_{name.upper()}": value for name, value in secrets.items()}
