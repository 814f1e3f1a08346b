"""Email's part of the contract: mails as they are delivered, and what servers answer when we hand them ours."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from uuid import UUID

from routing.channel import (
    Call,
    Failure,
    File,
    MailCall,
    Outgoing,
    Peer,
    Receipt,
    Reply,
    Sent,
    Unknown,
    Wrote,
)
from routing.site import Account
from tests.contracts.case import Body, Case, Exchange, body, like

AT = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
CLAIRE = Peer("email", "claire@client.example", "Claire Néel")

SAID = {
    "text.eml": body(
        like(
            Wrote,
            peer=CLAIRE,
            at=AT,
            external_id="<text-1@client.example>",
            subject="Où est mon colis",
            text="Bonjour, où est mon colis ?",
            automatic=False,
        )
    ),
    "with_picture.eml": body(
        like(
            Wrote,
            text="Voici.",
            files=(File("image", "colis.png", "image/png", content=b"\x89PNG\r\n\x1a\n"),),
            reply_to="<ours-2@hotline.example>",
            references=("<ours-2@hotline.example>", "<ours-1@hotline.example>"),
        )
    ),
    "bounce.eml": body(like(Receipt, status="failed", external_ids=("<ours-3@hotline.example>",))),
    "broken_word.eml": body(
        like(
            Wrote,
            subject="=?utf-8?b?T8O5I=?= colis",
            text="Bonjour, où est mon colis ?",
            facts={"to": ["service@hotline.example"]},
        )
    ),
    "no_sender.eml": body(like(Unknown, what="a mail without a sender"), shows="no_sender"),
}


def text_of(call: Call) -> str:
    assert isinstance(call, MailCall)
    part = message_from_bytes(call.content, policy=policy.default).get_body(("plain",))
    return str(part.get_content()) if part is not None else ""


def out(text: str = "", **more: object) -> Outgoing:
    said: dict[str, object] = {"message": UUID(int=1), "to": "claire@client.example", "author_name": "Julie"}
    return Outgoing(**{**said, "text": text, "subject": "Colis", **more})  # type: ignore[arg-type]


ANSWER = out("Retrouvé.", own_id="<ours-4@hotline.example>", reply_to="<text-1@client.example>")

CASE = Case(
    account=Account(
        "service",
        "email",
        "Service clients",
        settings={"address": "service@hotline.example", "smtp_host": "127.0.0.1"},
    ),
    secrets={
        "smtp_password": "smtp-word-of-the-case",
        "imap_password": "imap-word-of-the-case",
        "oauth_token": "token-of-the-case",
        "oauth_secret": "secret-of-the-case",
        "oauth_refresh": "refresh-of-the-case",
        "token_key": "token-key-of-the-case",
    },
    bodies={
        file.name: SAID.get(file.name, Body(None))
        for file in sorted(Path(__file__).parent.iterdir())
        if file.is_file() and file.suffix != ".py"
    },
    exchanges=(
        Exchange(
            name="an answer keeps the Message-ID that it was given",
            out=ANSWER,
            replies=(Reply(250, {}, b"2.0.0 queued"),),
            result=Sent("<ours-4@hotline.example>"),
        ),
    ),
    plain=out("Bonjour"),
    accepted=Reply(250, {}, b"2.0.0 queued"),
    failures={
        Failure.TRANSIENT: (Reply(421), Reply(450, {}, b"4.2.0 greylisted"), Reply(451)),
        Failure.TOKEN: (Reply(535, {}, b"5.7.8 authentication failed"), Reply(530)),
        Failure.REFUSED: (Reply(552), Reply(554), Reply(550, {}, b"5.7.1 refused by policy")),
        Failure.GONE: (Reply(550, {}, b"5.1.1 no such user"), Reply(551)),
    },
    text_of=text_of,
    lacks={
        "signature": "mail comes from the site's own server, not by HTTP",
        "handshake": "a mail server does not ask before",
        "first_broken": "a mail is one event",
        "unknown": "a mail of an unknown kind is still a mail",
        "receipts": "a report is a mail of its own",
        "expired": "a mail brings its files along",
        "standby": "nobody else answers a mailbox for us",
        "json": "mails are not JSON",
        Failure.THROTTLED: "SMTP has no word for it: 4xx is tried again later",
        Failure.WINDOW: "a mail can always be answered",
        Failure.ACCOUNT: "SMTP does not tell it from a refusal",
    },
)
