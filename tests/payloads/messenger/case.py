"""Messenger's part of the contract: bodies after the documented shapes, and the Send API's calls and answers."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from routing.channel import (
    Button,
    Call,
    Changed,
    Echoed,
    Enclosed,
    Failed,
    Failure,
    File,
    HttpCall,
    Outgoing,
    Peer,
    Perhaps,
    Reacted,
    Receipt,
    Reply,
    Request,
    Secrets,
    Sent,
    ThreadMoved,
    Unknown,
    Wrote,
)
from routing.site import Account
from tests.contracts.case import Case, Exchange, body, like

ACCOUNT = Account(
    "facebook",
    "messenger",
    settings={
        "page_id": "1001",
        "app_id": "7007",
        "api_base": "https://graph.example/",
        "api_version": "v26.0",
        "profiles": "yes",
    },
)
SECRETS = {
    "app_secret": "app-secret-of-the-case",
    "page_token": "page-token-of-the-case",
    "verify_token": "verify-token-of-the-case",
}
PAGE = "1001"
PEER = Peer("psid", "24001")
AT = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
CDN = "https://cdn.example/v/"
OURS = UUID("018f0000-0000-7000-8000-0000000000e1")
MESSAGE = UUID("018f0000-0000-7000-8000-000000000001")


def later(ms: int) -> datetime:
    return AT + timedelta(milliseconds=ms)


def sign(raw: bytes, secrets: Secrets) -> Request:
    seal = hmac.new(secrets["app_secret"].encode(), raw, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "x-hub-signature-256": f"sha256={seal}"}
    return Request("POST", "https://hotline.example/hooks/facebook", {}, headers, raw)


def handshake(secrets: Secrets) -> tuple[Request, str]:
    query = {
        "hub.mode": "subscribe",
        "hub.verify_token": secrets["verify_token"],
        "hub.challenge": "1158201444",
    }
    return Request("GET", "https://hotline.example/hooks/facebook", query, {}, b""), "1158201444"


def accepted(mid: str = "m_out") -> Reply:
    return Reply(200, {}, json.dumps({"recipient_id": "24001", "message_id": mid}).encode())


def error(code: int, subcode: int | None = None, message: str = "(#x) No", status: int = 400) -> Reply:
    said: dict[str, Any] = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "Ab1"}
    if subcode is not None:
        said["error_subcode"] = subcode
    return Reply(status, {}, json.dumps({"error": said}).encode())


def call(
    message: dict[str, Any], *, part: str = "", messaging_type: str = "RESPONSE", **more: Any
) -> HttpCall:
    return post(
        "messages",
        {
            "recipient": {"id": "24001"},
            "messaging_type": messaging_type,
            "message": message | {"metadata": f"cc:{MESSAGE}{part}"},
            **more,
        },
    )


def post(edge: str, said: dict[str, Any], *, repeatable: bool = False) -> HttpCall:
    return HttpCall(
        "POST",
        f"https://graph.example/v26.0/1001/{edge}",
        {"Authorization": f"Bearer {SECRETS['page_token']}"},
        json=said,
        repeatable=repeatable,
    )


def text_of(call: Call) -> str:
    assert isinstance(call, HttpCall)
    said = (call.json or {}).get("message", {}).get("text", "")
    assert isinstance(said, str)
    return said


def out(text: str = "", **more: Any) -> Outgoing:
    return Outgoing(message=MESSAGE, to="24001", author_name="Julie", text=text, **more)


JULIE = {"persona:Julie": "p_1"}
REFUSED = {"persona:Julie": "-"}
PHOTO = Enclosed(
    UUID(int=7), "image", "recu.png", "image/png", "https://hotline.example/files/7?k=1", b"\x89PNG"
)
KEPT = Enclosed(UUID(int=8), "file", "recu.pdf", "application/pdf", "", b"%PDF")
LONG = "un mot " * 400

BODIES = {
    "text.json": body(
        Wrote(
            peer=PEER,
            receiver=PAGE,
            at=AT,
            external_id="m_text",
            text="Bonjour, où est mon colis 📦 ?",
            reply_to="m_before",
        )
    ),
    "quick_reply.json": body(
        Wrote(peer=PEER, receiver=PAGE, at=AT, external_id="m_quick", text="Suivre un colis", payload="suivi")
    ),
    "attachments.json": body(
        Wrote(
            peer=PEER,
            receiver=PAGE,
            at=AT,
            external_id="m_image",
            kind="media",
            text="Voilà",
            files=(File("image", url=CDN + "1.jpg"), File("image", url=CDN + "2.jpg")),
        ),
        like(Wrote, external_id="m_audio", kind="media", files=(File("audio", url=CDN + "3.mp4"),)),
        like(Wrote, external_id="m_video", kind="media", files=(File("video", url=CDN + "4.mp4"),)),
        like(
            Wrote,
            external_id="m_file",
            kind="media",
            files=(File("file", "facture.pdf", url=CDN + "facture.pdf"),),
        ),
    ),
    "stickers.json": body(
        like(
            Wrote,
            external_id="m_sticker",
            kind="sticker",
            files=(File("sticker", name="369239263222822", url=CDN + "s.png"),),
        ),
        like(
            Wrote,
            external_id="m_old_sticker",
            kind="sticker",
            files=(File("sticker", name="369239343222814", url=CDN + "t.png"),),
        ),
    ),
    "shared.json": body(
        like(
            Wrote,
            external_id="m_fallback",
            kind="text",
            text="regardez\nUn article https://news.example/1",
            files=(),
        ),
        like(Wrote, external_id="m_fallback_bare", text="[fallback]"),
        like(Wrote, external_id="m_reel", text="Un film https://reel.example/9", files=()),
        like(Wrote, external_id="m_place", kind="location", text="Ma position 48.85, 2.35"),
        like(Wrote, external_id="m_unsupported", kind="system", text="", facts={"unsupported": True}),
    ),
    "expired.json": body(
        like(Wrote, external_id="m_expired", kind="media", files=(File("image"),)), shows="expired"
    ),
    "postback.json": body(
        Wrote(
            peer=PEER,
            receiver=PAGE,
            at=AT,
            external_id="m_postback",
            kind="postback",
            text="Démarrer",
            payload="GET_STARTED",
            referral={"ref": "affiche-12", "source": "SHORTLINK", "type": "OPEN_THREAD"},
        ),
        like(Wrote, external_id="postback:24001:1790000000007", kind="postback", payload="OLD"),
    ),
    "arrivals.json": body(
        like(Wrote, external_id="referral:24001:1790000000000", kind="system", payload="facture"),
        like(
            Wrote,
            external_id="optin:24001:1790000000001",
            kind="system",
            payload="suivi",
            facts={"optin": "notification_messages"},
        ),
        like(
            Wrote,
            external_id="account_linking:24001:1790000000002",
            automatic=True,
            facts={"account_linking": "linked"},
        ),
    ),
    "echoes.json": body(
        Echoed(peer=PEER, receiver=PAGE, at=AT, external_id="m_ours", ours=OURS, text="Bonjour"),
        like(Echoed, external_id="m_inbox", ours=None, text="Réponse depuis la boîte de la Page"),
        like(Echoed, external_id="m_forged", ours=None),
        like(Echoed, external_id="m_photo", files=(File("image", url=CDN + "5.jpg"),)),
    ),
    "receipts.json": body(
        Receipt(peer=PEER, receiver=PAGE, at=later(9000), status="read", until=later(8000)),
        Receipt(
            peer=PEER,
            receiver=PAGE,
            at=later(4000),
            status="delivered",
            external_ids=("m_out_1", "m_out_2"),
            until=later(3000),
        ),
        Receipt(peer=PEER, receiver=PAGE, at=later(5000), status="delivered", until=later(4500)),
        shows="receipts",
    ),
    "reactions.json": body(
        Changed(peer=PEER, receiver=PAGE, at=AT, external_id="m_text", text="Bonjour, où est ma lettre ?"),
        Reacted(peer=PEER, receiver=PAGE, at=later(1), external_id="m_out_1", emoji="❤"),
        Reacted(peer=PEER, receiver=PAGE, at=later(2), external_id="m_out_1", emoji="😆"),
        Reacted(peer=PEER, receiver=PAGE, at=later(3), external_id="m_out_1", emoji=""),
        Changed(peer=PEER, receiver=PAGE, at=later(4), external_id="m_text", text=None),
    ),
    "standby.json": body(
        like(Wrote, external_id="m_standby", standby=True),
        like(Wrote, external_id="m_standby_pb", kind="postback", text="Oui", payload="", standby=True),
        shows="standby",
    ),
    "handover.json": body(
        ThreadMoved(peer=PEER, receiver=PAGE, at=AT, ours=False, why="pris"),
        ThreadMoved(peer=PEER, receiver=PAGE, at=later(1), ours=True, why="rendu"),
        ThreadMoved(peer=PEER, receiver=PAGE, at=later(2), ours=False, why="ailleurs"),
        like(Unknown, what="request_thread_control"),
    ),
    "first_broken.json": body(
        like(Unknown),
        like(Wrote, external_id="m_first", text="un"),
        like(Wrote, external_id="m_second", text="deux"),
        like(Wrote, external_id="m_third", text="trois"),
        like(Unknown, what="broken entry"),
        shows="first_broken",
    ),
    "unknown.json": body(
        like(Unknown, peer=PEER, receiver=PAGE, what="game_play"),
        like(Unknown, what="message without mid"),
        like(Unknown, what="nothing"),
        like(Unknown, what="change feed"),
        like(Wrote, external_id="m_of_nobody", receiver="9999"),
        shows="unknown",
    ),
    "two_pages.json": body(
        like(Wrote, external_id="m_first_page", text="un", receiver=PAGE),
        like(Wrote, external_id="m_other_page", text="deux", receiver="1002"),
        like(Echoed, external_id="m_other_echo", ours=OURS, receiver="1002"),
        like(Receipt, until=later(3000), receiver=PAGE),
        like(Wrote, external_id="m_other_standby", standby=True, receiver="1002"),
        shows="receivers",
    ),
    "instagram.json": body(like(Unknown, what="object instagram")),
    "no_sender.json": body(
        like(Unknown, what="no sender"), like(Unknown, what="no sender"), shows="no_sender"
    ),
    "cut_emoji.json": body(like(Wrote, text="moitié � et nul � et \\u0000")),
}

EXCHANGES = (
    Exchange(
        name="the first message of an advisor makes the persona",
        out=out("Bonjour !"),
        replies=(Reply(200, {}, b'{"id":"p_9"}'), accepted("m_1")),
        calls=(
            post("personas", {"name": "Julie"}, repeatable=True),
            call({"text": "Bonjour !"}, persona_id="p_9"),
        ),
        result=Sent("m_1"),
    ),
    Exchange(
        name="personas are not for this Page: the text is signed",
        out=out("Bonjour !"),
        replies=(error(200), accepted("m_1")),
        calls=(
            post("personas", {"name": "Julie"}, repeatable=True),
            call({"text": "Bonjour !\n– Julie"}),
        ),
        result=Sent("m_1"),
    ),
    Exchange(
        name="the persona is gone: the message is sent without it",
        out=out("Bonjour !"),
        memory=JULIE,
        replies=(error(100), accepted("m_1")),
        calls=(call({"text": "Bonjour !"}, persona_id="p_1"), call({"text": "Bonjour !\n– Julie"})),
        result=Sent("m_1"),
    ),
    Exchange(
        name="the bot names itself and offers answers",
        out=Outgoing(
            message=MESSAGE,
            to="24001",
            author="bot",
            author_name="Bot",
            text="Que puis-je faire ?",
            buttons=(Button("Suivre un colis", "1"), Button("Parler à une personne de l'équipe", "agent")),
        ),
        replies=(accepted(),),
        calls=(
            call(
                {
                    "text": "Que puis-je faire ?\n– Bot",
                    "quick_replies": [
                        {"content_type": "text", "title": "Suivre un colis", "payload": "1"},
                        {"content_type": "text", "title": "Parler à une…", "payload": "agent"},
                    ],
                }
            ),
        ),
        result=Sent("m_out"),
    ),
    Exchange(
        name="an answer after a day carries the tag",
        out=out("Retrouvé", tagged=True),
        memory=JULIE,
        replies=(accepted(),),
        calls=(
            call({"text": "Retrouvé"}, messaging_type="MESSAGE_TAG", tag="HUMAN_AGENT", persona_id="p_1"),
        ),
        result=Sent("m_out"),
    ),
    Exchange(
        name="a text and a picture are two messages",
        out=out("Voici", files=(PHOTO,)),
        memory=JULIE,
        replies=(accepted("m_1"), accepted("m_2")),
        calls=(
            call({"text": "Voici"}, part=":1/2:5:0", persona_id="p_1"),
            call(
                {"attachment": {"type": "image", "payload": {"url": PHOTO.url, "is_reusable": False}}},
                part=":2/2:5:1",
                persona_id="p_1",
            ),
        ),
        result=Sent("m_2"),
    ),
    Exchange(
        name="a file without an address is uploaded",
        out=out(files=(KEPT,)),
        memory=JULIE,
        replies=(accepted(),),
        calls=(
            HttpCall(
                "POST",
                "https://graph.example/v26.0/1001/messages",
                {"Authorization": f"Bearer {SECRETS['page_token']}"},
                form={
                    "recipient": '{"id": "24001"}',
                    "messaging_type": "RESPONSE",
                    "message": '{"attachment": {"type": "file", "payload": {"is_reusable": false}}, '
                    f'"metadata": "cc:{MESSAGE}"}}',
                    "persona_id": "p_1",
                    "filedata": KEPT,
                },
            ),
        ),
        result=Sent("m_out"),
    ),
    Exchange(
        name="the second part of a long text is throttled",
        out=out(LONG),
        memory=JULIE,
        replies=(accepted("m_1"), error(613, message="Calls to this API have exceeded the rate limit")),
        result=Failed(Failure.THROTTLED, "613", "Calls to this API have exceeded the rate limit"),
    ),
    Exchange(
        name="nobody knows whether the second part of a long text has arrived",
        out=out(LONG),
        memory=JULIE,
        replies=(accepted("m_1"), Reply(0, lost=True)),
        result=Perhaps("no answer"),
    ),
    Exchange(
        name="what went before is not sent again",
        out=out("Voici", files=(PHOTO,), gone=("m_1",)),
        memory=JULIE,
        replies=(accepted("m_2"),),
        calls=(
            call(
                {"attachment": {"type": "image", "payload": {"url": PHOTO.url, "is_reusable": False}}},
                part=":2/2:5:1",
                persona_id="p_1",
            ),
        ),
        result=Sent("m_2"),
    ),
    Exchange(
        name="a long text with a persona that is refused is signed at its end",
        out=out(LONG),
        memory=REFUSED,
        replies=(accepted("m_1"), accepted("m_2")),
        result=Sent("m_2"),
    ),
    Exchange(
        name="typing is shown with the persona",
        out=out(act="typing_on"),
        memory=JULIE,
        replies=(Reply(200, {}, b'{"recipient_id":"24001"}'),),
        calls=(
            post(
                "messages",
                {"recipient": {"id": "24001"}, "sender_action": "typing_on", "persona_id": "p_1"},
                repeatable=True,
            ),
        ),
        result=Sent(""),
    ),
    Exchange(
        name="what was read is marked",
        out=out(act="seen"),
        replies=(Reply(200, {}, b'{"recipient_id":"24001"}'),),
        calls=(
            post("messages", {"recipient": {"id": "24001"}, "sender_action": "mark_seen"}, repeatable=True),
        ),
        result=Sent(""),
    ),
    Exchange(
        name="a machine does not use the tag of people",
        out=Outgoing(message=MESSAGE, to="24001", author="bot", author_name="Bot", text="?", tagged=True),
        replies=(),
        calls=(),
        result=Failed(Failure.WINDOW, why="HUMAN_AGENT is for what a human wrote"),
    ),
)

CASE = Case(
    account=ACCOUNT,
    secrets=SECRETS,
    bodies=BODIES,
    exchanges=EXCHANGES,
    plain=out("Bonjour"),
    memory=JULIE,
    accepted=accepted(),
    failures={
        Failure.TOKEN: (error(190), error(190, 460, status=401)),
        Failure.THROTTLED: (*(error(code) for code in (4, 17, 32, 613, 80007)), Reply(429)),
        Failure.TRANSIENT: (error(1), error(2, status=500), Reply(500), Reply(503, {}, b"<html>")),
        Failure.WINDOW: (
            error(10, 2018278),
            error(10, message="(#10) This message is sent outside of allowed window."),
        ),
        Failure.ACCOUNT: (error(10, 1893063), error(368)),
        Failure.REFUSED: (error(100, message="Invalid parameter"), error(200), error(10), Reply(404)),
        Failure.GONE: (error(100, 2018001), error(551, 1545041)),
    },
    sign=sign,
    signature="x-hub-signature-256",
    handshake=handshake,
    text_of=text_of,
)
