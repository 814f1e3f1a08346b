"""What is Messenger's own; what every channel does is in tests/contracts."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.channel import (
    Button,
    Echoed,
    Enclosed,
    Failed,
    Failure,
    HttpCall,
    Reply,
    Request,
    Sent,
    Unknown,
    Wrote,
)
from routing.channels import CHANNELS
from routing.channels.messenger import MANIFEST, cut, parse, render, verify
from routing.site import Account
from tests.contracts.test_channels import play as play_channel
from tests.payloads.messenger import case as c

CHANNEL = CHANNELS["messenger"]
VECTOR = (
    rb'{"object":"page","entry":[{"id":"1","time":1,"messaging":'
    rb'[{"message":{"mid":"m_1","text":"\u00e9t\u00e9"}}]}]}'
)
SEAL = "sha256=9ee7600b4dd7adabc87188b174c882b7eca6e91819de8f979d0c8356aa22acdf"


def play(out: Any, *replies: Reply, memory: dict[str, str] | None = None) -> tuple[list[Any], Any]:
    return play_channel(CHANNEL, c.CASE, out, replies, memory)


def posted(body: bytes, signature: str) -> Request:
    return Request("POST", "https://hotline.example/hooks/fb", {}, {"x-hub-signature-256": signature}, body)


def test_the_signature_is_over_the_escaped_bytes_as_meta_sends_them() -> None:
    secrets = {"app_secret": "app-secret"}
    assert verify(posted(VECTOR, SEAL), c.ACCOUNT, secrets).accepted
    plain = VECTOR.decode().replace("\\u00e9", "é").encode()
    assert hmac.new(b"app-secret", plain, hashlib.sha256).hexdigest().startswith("25a5e277b06384861cf5")
    assert not verify(posted(plain, SEAL), c.ACCOUNT, secrets).accepted


@pytest.mark.parametrize(
    "said", [SEAL.upper(), SEAL[7:], "sha1=" + SEAL[7:47], SEAL + ", " + SEAL, "sha256="]
)
def test_only_a_lower_case_sha256_is_a_signature(said: str) -> None:
    answer = verify(posted(VECTOR, said), c.ACCOUNT, {"app_secret": "app-secret"})
    assert (answer.accepted, answer.status, answer.body) == (False, 401, "")


def shake(**query: str) -> tuple[bool, int, str]:
    asked = Request(
        "GET", "https://hotline.example/hooks/fb", {f"hub.{k}": v for k, v in query.items()}, {}, b""
    )
    answer = verify(asked, c.ACCOUNT, c.SECRETS)
    return answer.accepted, answer.status, answer.body


def test_the_handshake_gives_the_challenge_back_to_who_knows_the_token() -> None:
    token = c.SECRETS["verify_token"]
    assert shake(mode="subscribe", verify_token=token, challenge="1158201444") == (True, 200, "1158201444")
    assert shake(mode="subscribe", verify_token="other", challenge="1")[1:] == (403, "")
    assert shake(mode="unsubscribe", verify_token=token, challenge="1")[1] == 403
    assert shake(mode="subscribe", challenge="1")[1] == 403
    assert shake()[1] == 403


def test_a_handshake_without_a_token_of_ours_is_refused() -> None:
    asked = Request(
        "GET", "https://x", {"hub.mode": "subscribe", "hub.verify_token": "", "hub.challenge": "1"}, {}, b""
    )
    assert verify(asked, c.ACCOUNT, {"app_secret": "s"}).status == 403


def one(event: Any, **settings: str) -> Any:
    account = replace(c.ACCOUNT, settings={**c.ACCOUNT.settings, **settings})
    base = {"sender": {"id": "24001"}, "recipient": {"id": "1001"}, "timestamp": 1790000000000}
    body = {"object": "page", "entry": [{"id": 1001, "time": 1, "messaging": [base | event]}]}
    (heard,) = parse(json.dumps(body).encode(), account)
    return heard


def test_ids_are_text_whatever_they_were() -> None:
    heard = one({"sender": {"id": 24001}, "message": {"mid": 7, "text": "a", "reply_to": {"mid": 6}}})
    assert isinstance(heard, Wrote)
    assert (heard.peer.value, heard.external_id, heard.reply_to) == ("24001", "7", "6")


@pytest.mark.parametrize(
    ("timestamp", "known"),
    [(1790000000000, True), ("1790000000000", True), (None, False), (-5, False), (10**30, False), ("soon", False),
     (True, False), (1e12, False)],
)  # fmt: skip
def test_a_time_is_milliseconds_or_unknown(timestamp: Any, known: bool) -> None:
    heard = one({"timestamp": timestamp, "message": {"mid": "m", "text": "a"}})
    assert (heard.at == c.AT) if known else (heard.at is None)


def test_an_echo_is_ours_by_its_mark_also_without_an_app_id_in_the_account() -> None:
    echo = {"sender": {"id": "1001"}, "recipient": {"id": "24001"},
            "message": {"is_echo": True, "mid": "m", "app_id": 9, "metadata": f"cc:{c.OURS}"}}  # fmt: skip
    heard = one(echo, app_id="")
    assert isinstance(heard, Echoed)
    assert heard.ours == c.OURS
    assert heard.peer == c.PEER
    assert one(echo).ours is None


@pytest.mark.parametrize("metadata", ["", "cc:", "cc:x", "other", f"{c.OURS}", 5, None])
def test_an_echo_with_another_mark_is_somebody_elses(metadata: Any) -> None:
    echo = {"recipient": {"id": "24001"}, "message": {"is_echo": True, "mid": "m", "metadata": metadata}}
    assert one(echo, app_id="").ours is None


def test_the_code_of_an_account_link_stays_in_the_raw_body() -> None:
    heard = one({"account_linking": {"status": "linked", "authorization_code": "s3cret"}})
    assert "s3cret" not in repr(heard)


def test_a_body_that_is_too_deep_says_so_and_nothing_else() -> None:
    (heard,) = parse(b"[" * 100_000, c.ACCOUNT)
    assert isinstance(heard, Unknown)
    assert "recursion limit" in heard.what
    (heard,) = parse(b'{"object":' + b"9" * 200_000 + b"}", c.ACCOUNT)
    assert isinstance(heard, Unknown)
    assert "out of range" in heard.what


def test_a_page_that_has_no_id_in_the_account_hears_nothing() -> None:
    (heard,) = parse(VECTOR, Account("x", "messenger"))
    assert isinstance(heard, Unknown)


@given(st.text(max_size=300), st.integers(4, 60))
def test_cutting_loses_nothing_but_space_and_keeps_the_limit(text: str, most: int) -> None:
    pieces = cut(text, most)
    assert all(0 < len(piece) + sum(char > "\uffff" for char in piece) <= most for piece in pieces if piece)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "most", "pieces"),
    [
        ("Bonjour. Ça va bien ?", 12, ["Bonjour.", "Ça va bien ?"]),
        ("un deux\n\ntrois", 12, ["un deux", "trois"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("👨‍👩‍👧👨‍👩‍👧", 9, ["👨‍👩‍👧", "👨‍👩‍👧"]),
        ("🇫🇷🇩🇪", 6, ["🇫🇷", "🇩🇪"]),
    ],
)
def test_a_text_is_cut_where_it_hurts_least(text: str, most: int, pieces: list[str]) -> None:
    assert cut(text, most)[-1] == pieces[-1]
    assert [piece for part in cut(text, most) for piece in part.split("\n\n")] == pieces or cut(
        text, most
    ) == pieces


def test_a_persona_is_made_once_and_remembered() -> None:
    memory: dict[str, str] = {}
    out = c.out("Bonjour")
    first, _ = play(out, Reply(200, {}, b'{"id":"p_9"}'), c.accepted(), memory=memory)
    again, _ = play(out, c.accepted(), memory=memory)
    assert [call.url.rsplit("/")[-1] for call in first] == ["personas", "messages"]
    assert [call.json["persona_id"] for call in again] == ["p_9"]


def test_refused_personas_are_remembered_and_the_text_is_signed() -> None:
    memory: dict[str, str] = {}
    play(c.out("Bonjour"), c.error(200), c.accepted(), memory=memory)
    calls, result = play(c.out("Encore"), c.accepted(), memory=memory)
    assert [call.json["message"]["text"] for call in calls] == ["Encore\n– Julie"]
    assert "persona_id" not in calls[0].json
    assert isinstance(result, Sent)


@pytest.mark.parametrize("reply", [Reply(0, lost=True), Reply(500), c.error(2)])
def test_a_persona_that_fails_today_is_tried_again_tomorrow(reply: Reply) -> None:
    memory: dict[str, str] = {}
    calls, result = play(c.out("Bonjour"), reply, c.accepted(), memory=memory)
    assert calls[-1].json["message"]["text"] == "Bonjour\n– Julie"
    assert isinstance(result, Sent)
    assert memory == {}


@pytest.mark.parametrize(
    ("reply", "failure"),
    [(c.error(190), Failure.TOKEN), (c.error(613), Failure.THROTTLED), (c.error(368), Failure.ACCOUNT)],
)
def test_what_stops_a_persona_stops_the_message(reply: Reply, failure: Failure) -> None:
    calls, result = play(c.out("Bonjour"), reply, memory={})
    assert len(calls) == 1
    assert isinstance(result, Failed)
    assert result.failure == failure


def test_a_message_that_is_wrong_by_itself_does_not_cost_the_persona() -> None:
    memory = dict(c.JULIE)
    calls, result = play(c.out("Bonjour"), c.error(100), c.error(100), memory=memory)
    assert len(calls) == 2
    assert isinstance(result, Failed)
    assert result.failure == Failure.REFUSED
    play(c.out("Bonjour"), c.error(100), c.accepted(), memory=memory)
    assert memory == c.REFUSED


def test_a_file_that_is_refused_has_sent_nothing_without_its_persona_either() -> None:
    refused = c.error(100, 2018008, "(#100) Failed to fetch the file from the url")
    calls, result = play(c.out(files=(c.PHOTO,)), refused, memory=dict(c.JULIE))
    assert ["attachment" in call.json["message"] for call in calls] == [True, True]
    assert isinstance(result, Failed)
    calls, result = play(c.out(files=(c.PHOTO,)), refused, c.accepted(), memory=dict(c.JULIE))
    assert calls[-1].json["message"]["text"] == "– Julie"
    assert isinstance(result, Sent)


def test_a_customer_who_is_gone_is_asked_once() -> None:
    calls, result = play(c.out("Bonjour"), c.error(100, 2018001), memory=dict(c.JULIE))
    assert len(calls) == 1
    assert isinstance(result, Failed)
    assert result.failure == Failure.GONE


def test_a_long_name_is_cut_for_the_persona_and_written_whole_in_the_text() -> None:
    name = "Maximilienne-Alexandrine " * 3
    out = replace(c.out("Bonjour"), author_name=name.strip())
    calls, _ = play(out, c.error(200), c.accepted(), memory={})
    assert len(calls[0].json["name"]) == 50
    assert calls[1].json["message"]["text"].endswith(name.strip())


def test_a_picture_for_personas_is_told_when_the_account_has_one() -> None:
    account = replace(
        c.ACCOUNT, settings={**c.ACCOUNT.settings, "persona_picture": "https://x.example/p.png"}
    )
    call = next(render(c.out("Bonjour"), account, c.SECRETS, {}))
    assert isinstance(call, HttpCall)
    assert call.json == {"name": "Julie", "profile_picture_url": "https://x.example/p.png"}


def test_no_retired_tag_and_no_other_type_is_ever_sent() -> None:
    for tagged in (False, True):
        calls, _ = play(c.out("Bonjour", tagged=tagged), c.accepted(), memory=dict(c.JULIE))
        assert calls[0].json.get("tag") == ("HUMAN_AGENT" if tagged else None)
        assert calls[0].json["messaging_type"] == ("MESSAGE_TAG" if tagged else "RESPONSE")


def test_titles_are_cut_and_payloads_keep_the_whole_answer() -> None:
    title = "Je voudrais parler à quelqu'un"
    out = c.out("?", buttons=(Button(title, ""), Button("Oui", "y" * 3000)))
    calls, _ = play(out, c.accepted(), memory=dict(c.JULIE))
    first, second = calls[0].json["message"]["quick_replies"]
    assert len(first["title"]) <= MANIFEST.quick_reply_chars
    assert first["payload"] == title
    assert len(second["payload"]) == 1000


def test_more_quick_replies_than_meta_takes_are_refused_before_any_call() -> None:
    calls, result = play(c.out("?", buttons=tuple(Button(str(n), str(n)) for n in range(14))), c.accepted())
    assert calls == []
    assert isinstance(result, Failed)


def test_buttons_stand_under_the_last_of_several_messages() -> None:
    out = c.out("?", files=(c.PHOTO,), buttons=(Button("Oui", "1"),))
    calls, _ = play(out, c.accepted(), memory=dict(c.JULIE))
    assert ["quick_replies" in call.json["message"] for call in calls] == [False, True]
    assert "text" in calls[1].json["message"]


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("image", "image"),
        ("audio", "audio"),
        ("video", "video"),
        ("file", "file"),
        ("sticker", "image"),
        ("?", "file"),
    ],
)
def test_each_kind_of_file_is_sent_as_meta_calls_it(kind: str, sent: str) -> None:
    file = Enclosed(c.OURS, kind, "a", "x/y", "https://hotline.example/a", b"")
    calls, _ = play(c.out(files=(file,)), c.accepted(), memory=dict(c.JULIE))
    assert calls[0].json["message"]["attachment"]["type"] == sent


@pytest.mark.parametrize(
    ("headers", "after_s"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"X-Business-Use-Case-Usage": '{"1001":[{"estimated_time_to_regain_access":3}]}'}, 180.0),
        ({"X-Business-Use-Case-Usage": '{"1001":[{"estimated_time_to_regain_access":0}]}'}, None),
        ({"X-Business-Use-Case-Usage": "no json"}, None),
        ({"Retry-After": "Wed, 21 Oct"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_read_from_the_headers(headers: dict[str, str], after_s: float | None) -> None:
    _, result = play(c.out("a"), replace(c.error(613), headers=headers), memory=dict(c.JULIE))
    assert isinstance(result, Failed)
    assert result.after_s == after_s
