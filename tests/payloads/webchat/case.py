"""The web chat's part of the contract: what the hub of visitors hands on, and what is pushed to their pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from routing.channel import (
    Button,
    Call,
    Echoed,
    Enclosed,
    Failed,
    Failure,
    File,
    Outgoing,
    Peer,
    PushCall,
    Receipt,
    Reply,
    Sent,
    Typed,
    Unknown,
    Wrote,
)
from routing.site import Account
from tests.contracts.case import Case, Exchange, body, like

ACCOUNT = Account("site", "webchat", settings={"origins": "https://www.postal.example"})
VISITOR = "5f0c2a9be1d34477a0b1c2d3"
AT = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
MESSAGE = UUID("018f0000-0000-7000-8000-000000000001")
BARE = Peer("webchat", VISITOR)
EMAIL, PHONE = ("email", "claire@client.example"), ("phone", "06 12 34 56 78")
CLAIRE = Peer("webchat", VISITOR, "Claire Néel", claims=(EMAIL, PHONE))
FACTS = {"case_named": "4521", "page_url": "https://www.postal.example/suivi"}


def out(text: str = "", **more: Any) -> Outgoing:
    return Outgoing(**{"message": MESSAGE, "to": VISITOR, "author_name": "Julie", "text": text, **more})


def push(text: str, *, kind: str = "advisor", name: str = "Julie", **more: Any) -> PushCall:
    data = {"text": text, "author": {"kind": kind, "name": name}, "buttons": [], "attachments": []}
    return PushCall(VISITOR, {"type": "message", "id": str(MESSAGE), "data": {**data, **more}})


def text_of(call: Call) -> str:
    assert isinstance(call, PushCall)
    return str(call.frame.get("data", {}).get("text", ""))


BODIES = {
    "message.json": body(
        Wrote(
            peer=CLAIRE,
            at=AT,
            external_id=f"{VISITOR}:a1",
            text="Bonjour, où est mon colis 📦 ?",
            facts=FACTS,
        )
    ),
    "button.json": body(
        Wrote(
            peer=BARE,
            at=AT,
            external_id=f"{VISITOR}:a2",
            kind="postback",
            text="Track a parcel",
            payload="1",
        )
    ),
    "attachment.json": body(
        like(
            Wrote,
            kind="media",
            files=(File("image", "reçu.png", "image/png", content=b"\x89PNG\r\n\x1a\n"),),
        )
    ),
    "expired.json": body(
        like(Wrote, kind="media", files=(File("file", "reçu.pdf", "application/pdf"),)), shows="expired"
    ),
    "call_me.json": body(
        Wrote(
            peer=Peer("webchat", VISITOR, "Claire Néel", claims=(EMAIL, ("phone", "+33 6 98 76 54 32"))),
            at=AT,
            external_id=f"{VISITOR}:a5",
            kind="postback",
            text="Un conseiller peut-il m’appeler au +33 6 98 76 54 32 ?",
            payload="human",
            facts={**FACTS, "call_me": "+33 6 98 76 54 32"},
        )
    ),
    "receipts.json": body(
        Receipt(peer=BARE, at=AT, status="read", external_ids=("m2",)),
        Receipt(peer=BARE, at=AT, status="delivered", external_ids=("m1", "m2")),
        shows="receipts",
    ),
    "first_broken.json": body(
        like(Unknown, peer=BARE, what="broken message: no text"),
        like(Wrote, external_id=f"{VISITOR}:a7", text="deux"),
        Typed(peer=BARE, at=AT, on=True),
        like(
            Wrote,
            external_id=f"{VISITOR}:a8",
            kind="system",
            automatic=True,
            leaves=True,
            facts={"left": True},
        ),
        shows="first_broken",
    ),
    "unknown.json": body(
        like(Unknown, what="dance"),
        like(Unknown, what="nothing"),
        like(Unknown, what="broken read: no ids"),
        like(Unknown, what="broken call_me: no number"),
        like(Unknown, what="broken message: no client_id"),
        shows="unknown",
    ),
    "shown.json": body(
        Echoed(peer=BARE, at=AT, external_id=str(MESSAGE), ours=MESSAGE), like(Unknown, peer=BARE)
    ),
    "no_visitor.json": body(like(Unknown, what="no visitor"), shows="no_sender"),
}

FILE = Enclosed(UUID(int=7), "file", "reçu.pdf", "application/pdf", "", b"%PDF")
EXCHANGES = (
    Exchange(
        name="an open page is told at once",
        out=out("Bonjour !"),
        replies=(Reply(200),),
        calls=(push("Bonjour !"),),
        result=Sent(str(MESSAGE)),
    ),
    Exchange(
        name="with no page open it waits in the thread",
        out=out("Bonjour !"),
        replies=(Reply(404),),
        calls=(push("Bonjour !"),),
        result=Sent(str(MESSAGE)),
    ),
    Exchange(
        name="the bot names itself and offers answers",
        out=out("Que faire ?", author="bot", author_name="Iris", buttons=(Button("Suivre un colis", "1"),)),
        replies=(Reply(200),),
        calls=(
            push(
                "Que faire ?",
                kind="bot",
                name="Iris",
                buttons=[{"title": "Suivre un colis", "payload": "1"}],
            ),
        ),
        result=Sent(str(MESSAGE)),
    ),
    Exchange(
        name="a file is named, and fetched by its link",
        out=out(files=(FILE,)),
        replies=(Reply(200),),
        calls=(
            push("", attachments=[{"id": str(UUID(int=7)), "name": "reçu.pdf", "type": "application/pdf"}]),
        ),
        result=Sent(str(MESSAGE)),
    ),
    Exchange(
        name="typing is shown with the first name",
        out=out(act="typing_on"),
        replies=(Reply(200),),
        calls=(PushCall(VISITOR, {"type": "typing", "data": {"on": True, "name": "Julie"}}),),
        result=Sent(""),
    ),
    Exchange(
        name="what was read is marked",
        out=out(act="seen"),
        replies=(Reply(404),),
        calls=(PushCall(VISITOR, {"type": "status", "data": {"state": "read"}}),),
        result=Sent(""),
    ),
    Exchange(
        name="eleven answers are too many",
        out=out("?", buttons=tuple(Button(str(n), str(n)) for n in range(11))),
        replies=(),
        calls=(),
        result=Failed(Failure.REFUSED, "buttons", "more than 10 quick replies"),
    ),
)

NO_PROVIDER = "the pages are ours: nobody refuses"
CASE = Case(
    account=ACCOUNT,
    secrets={},
    bodies=BODIES,
    exchanges=EXCHANGES,
    plain=out("Bonjour"),
    accepted=Reply(200),
    failures={Failure.TRANSIENT: (Reply(503), Reply(500))},
    text_of=text_of,
    lacks={
        "signature": "visitors come in by a socket of ours, not by webhooks",
        "handshake": "nobody asks before: the pages are ours",
        "standby": "nobody else answers the chat for us",
        **dict.fromkeys(set(Failure) - {Failure.TRANSIENT}, NO_PROVIDER),
    },
)
