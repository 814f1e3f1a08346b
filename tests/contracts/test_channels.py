"""The contract: what every channel does, tried with what its folder in `tests/payloads` brings."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.account import KINDS, wrong_settings
from routing.channel import (
    Call,
    Channel,
    Echoed,
    Failed,
    Failure,
    Heard,
    HttpCall,
    MailCall,
    Manifest,
    Outgoing,
    PartSent,
    Perhaps,
    PushCall,
    Receipt,
    Reply,
    Request,
    Result,
    Sent,
    ThreadMoved,
    Unknown,
    Wrote,
)
from routing.channels import CHANNELS, MANIFESTS
from routing.models import STATUS_RANK
from tests.contracts.case import DEMANDS, Case, Exchange

ROOT = Path(__file__).parents[2]
PAYLOADS = ROOT / "tests" / "payloads"
NAMES = sorted(CHANNELS)
LOST = Reply(0, lost=True)
NONSENSE = (
    Reply(200), Reply(200, {}, b"<html>"), Reply(200, {}, b"{}"), Reply(200, {}, b"[1]"), Reply(302),
    Reply(404, {}, b"no"), Reply(400, {}, b'{"error":"x"}'), Reply(500, {}, b'{"error":{"code":"x"}}'),
    Reply(502, {}, b"<html>"), Reply(250), Reply(554),
)  # fmt: skip


@cache
def case_of(name: str) -> Case:
    if not (PAYLOADS / name / "case.py").is_file():
        pytest.fail(f"the channel {name} brings no tests/payloads/{name}/case.py (see README, Add a channel)")
    return cast(Case, importlib.import_module(f"tests.payloads.{name}.case").CASE)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return cast(str, request.param)


@pytest.fixture
def channel(name: str) -> Channel:
    return CHANNELS[name]


@pytest.fixture
def case(name: str) -> Case:
    return case_of(name)


def raw(name: str, file: str) -> bytes:
    return (PAYLOADS / name / file).read_bytes()


def showing(name: str, demand: str) -> list[bytes]:
    """The bodies that show it."""
    return [raw(name, file) for file, body in case_of(name).bodies.items() if demand in body.shows]


def those(has: Callable[[str], object]) -> pytest.MarkDecorator:
    """The test holds for the channels that have it. What the others have instead, another test says."""
    names = [name for name in NAMES if has(name)]
    assert names, "a test that no channel meets proves nothing"
    return pytest.mark.parametrize("name", names)


def manifest_of(name: str) -> Manifest:
    return CHANNELS[name].MANIFEST


def shown(name: str, demand: str) -> bool:
    case = case_of(name)
    if demand in FROM_CASE:
        return bool(FROM_CASE[demand](case))
    return demand in case.failures or bool(showing(name, demand))


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


FROM_CASE: Mapping[str, Callable[[Case], object]] = {
    "signature": lambda case: case.sign,
    "handshake": lambda case: case.handshake,
    "json": lambda case: any(_is_json(raw(case.account.channel, file)) for file in case.bodies),
}
"""Demands that no body shows by its `shows`."""


def play(
    channel: Channel,
    case: Case,
    out: Outgoing,
    replies: Sequence[Reply],
    memory: dict[str, str] | None = None,
    went: list[PartSent] | None = None,
) -> tuple[list[Call], Result]:
    """Render `out`, answering its calls with `replies` (the last one again and again). `went` gets its parts."""
    calls: list[Call] = []
    rendering = channel.render(out, case.account, case.secrets, {} if memory is None else memory)
    try:
        told = next(rendering)
        while True:
            if isinstance(told, PartSent):
                if went is not None:
                    went.append(told)
                told = rendering.send(LOST)
                continue
            calls.append(told)
            assert len(calls) < 100, "it calls for ever"
            told = rendering.send(replies[min(len(calls), len(replies)) - 1])
    except StopIteration as end:
        result = end.value
    assert isinstance(result, Sent | Failed | Perhaps), f"the result is {result!r}"
    return calls, result


def test_a_manifest_says_what_can_be(name: str, channel: Channel) -> None:
    manifest = channel.MANIFEST
    assert MANIFESTS[name] is manifest
    assert re.fullmatch(r"[a-z][a-z0-9_]{1,30}", manifest.name)
    assert cast(ModuleType, channel).__name__ == f"routing.channels.{manifest.name}"
    assert manifest.seat in ("chat", "mail")
    assert re.fullmatch(r"[a-z][a-z0-9_]{1,30}", manifest.address_kind)
    assert {"fr", "en"} <= set(manifest.labels)
    assert all(manifest.labels.values())
    assert manifest.text_chars is None or manifest.text_chars > 0
    assert manifest.text_bytes is None or manifest.text_bytes > 0
    assert manifest.quick_replies >= 0
    assert manifest.quick_reply_chars > 0
    assert set(manifest.attachment_bytes) <= {"image", "audio", "video", "file"}
    assert all(most > 0 for most in (*manifest.attachment_bytes.values(), *manifest.rates.values()))
    assert manifest.marks <= {"delivered", "read", "reaction", "typing", "edited", "unsent"}
    keys = (*manifest.settings, *manifest.optional, *manifest.secrets)
    assert len(set(keys)) == len(keys), "a key has one place: settings, optional or secrets"
    assert all(name == name.lower() for name in manifest.kept_headers)
    settings = {*manifest.settings, *manifest.optional}
    assert not manifest.visitors or "origins" in settings, "the socket lets in the pages of `origins` only"
    assert set(manifest.kinds) <= settings
    assert all("|" in kind or kind in KINDS for kind in manifest.kinds.values())
    assert {*manifest.useless_without, *manifest.useless_without.values()} <= settings
    assert (manifest.profiles is None) == (not hasattr(channel, "profile"))
    assert manifest.profiles is None or manifest.kinds[manifest.profiles] == "yes|no"
    assert manifest.identity is None or manifest.identity in manifest.settings
    assert manifest.optional_secrets | manifest.made_secrets | manifest.hook_secrets <= set(manifest.secrets)
    assert not manifest.hook_secrets or manifest.identity, "whose event is it, of those who share a callback?"
    assert not manifest.optional_secrets & manifest.made_secrets


def test_a_tag_has_a_window_and_a_window_is_shorter_than_the_tags(channel: Channel) -> None:
    manifest = channel.MANIFEST
    assert (manifest.tag is None) == (manifest.tag_window_h is None)
    if manifest.tag_window_h is not None:
        assert manifest.window_h is not None
        assert manifest.window_h < manifest.tag_window_h


def test_the_account_of_the_case_is_one_that_a_site_file_could_hold(channel: Channel, case: Case) -> None:
    manifest = channel.MANIFEST
    assert case.account.channel == manifest.name
    assert set(manifest.settings) <= set(case.account.settings)
    assert set(case.account.settings) <= {*manifest.settings, *manifest.optional}
    assert set(case.secrets) == set(manifest.secrets)
    assert (
        list(wrong_settings(manifest, case.account.settings, [case.account.settings.get("hours", "")])) == []
    )


WORLD = {
    "asyncio", "socket", "time", "random", "os", "pathlib", "threading", "subprocess", "secrets", "aiohttp",
    "asyncpg", "requests", "urllib.request", "http.client", "smtplib", "imaplib", "aiosmtplib", "aiosmtpd",
    "imapclient", "structlog", "logging",
}  # fmt: skip


def test_a_channel_waits_for_nothing_and_knows_neither_time_nor_chance(channel: Channel) -> None:
    tree = ast.parse(inspect.getsource(cast(ModuleType, channel)))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
        elif isinstance(node, ast.Call):
            assert ast.unparse(node.func).split(".")[-1] not in (
                "now", "utcnow", "today", "uuid1", "uuid4", "uuid7", "open", "make_msgid", "localtime",
            ), f"line {node.lineno}"  # fmt: skip
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await)
    assert not {module for module in imported if module in WORLD or module.split(".")[0] in WORLD}
    ours = {
        module for module in imported if module.split(".")[0] in ("routing", "ivr", "cti", "config", "media")
    }
    assert not {module for module in ours if module.startswith(("routing.channels", "routing.aio"))}


def test_nobody_else_asks_which_channel_it_is() -> None:
    """Comparing a channel's name with a word is the `case channel_type` ladder; the manifest answers instead."""
    found = []
    for folder in ("routing", "ivr", "cti"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if "node_modules" in file.parts or file.parent.name == "channels":
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Compare):
                    continue
                sides = [node.left, *node.comparators]
                words = {side.value for side in sides if isinstance(side, ast.Constant)}
                if words & set(NAMES) and any("channel" in ast.unparse(side) for side in sides):
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


def _own_way_in(channel: Channel, case: Case) -> bool:
    return channel.MANIFEST.mail or channel.MANIFEST.visitors


def _takes_no_webhook(channel: Channel, case: Case) -> bool:
    bodies = [raw(channel.MANIFEST.name, file) for file in case.bodies]
    asked = [
        Request(method, "https://hotline.example/hooks/x", {}, headers, body)
        for body in bodies
        for method in ("GET", "POST")
        for headers in ({}, {"authorization": f"Bearer {''.join(case.secrets.values())}"})
    ]
    return _own_way_in(channel, case) and not any(
        channel.verify(request, case.account, case.secrets).accepted for request in asked
    )


def _answers_no_question(channel: Channel, case: Case) -> bool:
    """Whatever it is asked by whoever knows its secrets: the ways that are in use among providers."""
    questions: list[dict[str, str]] = [
        {name: "1158201444"} for name in ("challenge", "crc_token", "validationToken", "hub.challenge")
    ]
    for secret in ("", *case.secrets.values()):
        questions.append({"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": secret})
    return not any(
        channel.verify(
            Request("GET", "https://hotline.example/hooks/x", query, {}, b""), case.account, case.secrets
        ).accepted
        for query in questions
    )


def _everything_heard(channel: Channel, case: Case) -> list[tuple[Heard, ...]]:
    return [channel.parse(raw(channel.MANIFEST.name, file), case.account) for file in case.bodies]


def _one_event_a_body(channel: Channel, case: Case) -> bool:
    return channel.MANIFEST.mail and all(len(heard) == 1 for heard in _everything_heard(channel, case))


def _any_kind_is_a_mail(channel: Channel, case: Case) -> bool:
    heard = [
        channel.parse(
            b"From: ana@client.example\r\nMessage-ID: <k@client.example>\r\n"
            b"Content-Type: %s\r\n\r\nx\r\n" % kind,
            case.account,
        )
        for kind in (b"application/x-nobody-knows-it", b"hologram/3d", b"multipart/dance; boundary=b", b"?")
    ]
    return channel.MANIFEST.mail and all(isinstance(one, Wrote) for (one,) in heard)


def _brings_its_files(channel: Channel, case: Case) -> bool:
    files = [
        file
        for heard in _everything_heard(channel, case)
        for one in heard
        if isinstance(one, Wrote)
        for file in one.files
    ]
    return bool(files) and all(file.content is not None and not file.url for file in files)


def _shares_its_account(channel: Channel, case: Case) -> bool:
    return any(
        isinstance(one, ThreadMoved) or (isinstance(one, Wrote) and one.standby)
        for heard in _everything_heard(channel, case)
        for one in heard
    )


GROUNDS: Mapping[str, Callable[[Channel, Case], bool]] = {
    "signature": _takes_no_webhook,
    "handshake": _answers_no_question,
    "json": lambda channel, case: channel.MANIFEST.mail,
    "no_sender": lambda channel, case: False,
    "first_broken": _one_event_a_body,
    "receipts": _one_event_a_body,
    "unknown": _any_kind_is_a_mail,
    "expired": _brings_its_files,
    "standby": lambda channel, case: _own_way_in(channel, case) and not _shares_its_account(channel, case),
}
"""What must hold, of the manifest and of what the file does, where a channel says that it lacks a demand."""

ANSWERS = (
    *(Reply(status) for status in range(200, 600)),
    *(Reply(status, {"retry-after": "30"}, b"Too many requests") for status in (420, 421, 429, 450, 503)),
    *(
        Reply(status, {}, b"%d.%d.%d no" % (status // 100, subject, detail))
        for status in (421, 450, 452, 550, 554)
        for subject in range(8)
        for detail in range(12)
    ),
)
"""What anybody might answer, beside what the cases bring: statuses of HTTP and SMTP, enhanced codes (RFC 3463)."""


@cache
def meanings(name: str) -> frozenset[Failure]:
    """The classes of errors that some answer or other means to the channel."""
    case = case_of(name)
    theirs = [reply for of in NAMES for replies in case_of(of).failures.values() for reply in replies]
    results = (
        play(CHANNELS[name], case, case.plain, [reply], dict(case.memory))[1] for reply in (*ANSWERS, *theirs)
    )
    return frozenset(result.failure for result in results if isinstance(result, Failed))


@pytest.mark.parametrize("demand", [*DEMANDS, *Failure])
def test_what_a_channel_does_not_show_it_says_and_its_reason_has_a_ground(
    name: str, channel: Channel, case: Case, demand: str
) -> None:
    if shown(name, demand):
        assert demand not in case.lacks, f"{name} shows {demand!r}, and says that it lacks it"
        return
    assert demand in case.lacks, (
        f"{name} brings nothing that shows {demand!r}: {DEMANDS.get(demand, 'an answer')}"
    )
    if demand in GROUNDS:
        assert GROUNDS[demand](channel, case), f"{name} lacks {demand!r} without a ground"
    else:
        assert demand not in meanings(name), f"some answer means {demand!r}: the case must bring it"


@pytest.mark.parametrize("demand", DEMANDS)
def test_a_reason_without_a_ground_is_found_out(demand: str) -> None:
    """A channel that shows a demand could not have said that it lacks it."""
    for of in (name for name in NAMES if shown(name, demand)):
        assert not GROUNDS[demand](CHANNELS[of], case_of(of)), of


def _signed(case: Case, name: str) -> Iterator[tuple[bytes, Request]]:
    assert case.sign is not None
    for file in case.bodies:
        body = raw(name, file)
        yield body, case.sign(body, case.secrets)


signs = those(lambda name: case_of(name).sign)


@signs
def test_a_request_of_the_provider_is_accepted(name: str, channel: Channel, case: Case) -> None:
    for _, request in _signed(case, name):
        assert channel.verify(request, case.account, case.secrets).accepted


@signs
def test_a_request_without_its_signature_is_refused(name: str, channel: Channel, case: Case) -> None:
    for _, request in _signed(case, name):
        bare = {key: value for key, value in request.headers.items() if key != case.signature}
        genuine = request.headers[case.signature]
        for headers in (
            bare,
            *(bare | {case.signature: said} for said in ("", " ", genuine[:-1], genuine + "0", "é\udce9")),
        ):
            answer = channel.verify(replace(request, headers=headers), case.account, case.secrets)
            assert not answer.accepted
            assert answer.status in (401, 403)
            assert answer.why


@signs
def test_a_request_of_another_application_is_refused(name: str, channel: Channel, case: Case) -> None:
    others = {key: value + "x" for key, value in case.secrets.items()}
    for body, request in _signed(case, name):
        assert case.sign is not None
        answer = channel.verify(case.sign(body, others), case.account, case.secrets)
        assert not answer.accepted
        assert not channel.verify(request, case.account, others).accepted


@signs
def test_a_body_that_was_changed_on_its_way_is_refused(name: str, channel: Channel, case: Case) -> None:
    changed = 0
    for body, request in _signed(case, name):
        again = [body + b"\n", body[:-1]]
        try:
            again.append(json.dumps(json.loads(body), ensure_ascii=False).encode())
        except ValueError:
            pass
        for other in again:
            if other != body:
                changed += 1
                assert not channel.verify(replace(request, body=other), case.account, case.secrets).accepted
    assert changed


@signs
def test_nothing_is_accepted_while_a_secret_is_missing(name: str, channel: Channel, case: Case) -> None:
    """An empty key makes signatures that anybody can compute."""
    for body, request in _signed(case, name):
        assert case.sign is not None
        for secrets in ({}, dict.fromkeys(case.secrets, "")):
            assert not channel.verify(request, case.account, secrets).accepted
        unkeyed = case.sign(body, dict.fromkeys(case.secrets, ""))
        assert not channel.verify(unkeyed, case.account, {}).accepted


@those(lambda name: case_of(name).handshake)
def test_a_handshake_is_answered_to_who_knows_the_secret(channel: Channel, case: Case) -> None:
    assert case.handshake is not None
    asked, expected = case.handshake(case.secrets)
    answer = channel.verify(asked, case.account, case.secrets)
    assert (answer.accepted, answer.status, answer.body) == (True, 200, expected)
    others = {key: value + "x" for key, value in case.secrets.items()}
    for secrets in (others, dict.fromkeys(case.secrets, ""), {}):
        answer = channel.verify(asked, case.account, secrets)
        assert not answer.accepted
        assert expected not in answer.body


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_request_of_nobody_is_refused(channel: Channel, case: Case, method: str) -> None:
    nobody = Request(method, "https://hotline.example/hooks/x", {}, {}, b"")
    answer = channel.verify(nobody, case.account, case.secrets)
    assert not answer.accepted
    assert answer.status >= 400


def test_every_file_of_the_folder_is_a_body_that_says_what_it_should(
    name: str, channel: Channel, case: Case
) -> None:
    files = {file.name for file in (PAYLOADS / name).iterdir() if file.is_file() and file.suffix != ".py"}
    assert files == set(case.bodies)
    for file, body in case.bodies.items():
        heard = channel.parse(raw(name, file), case.account)
        assert isinstance(heard, tuple)
        assert all(isinstance(one, Heard) for one in heard)
        if body.hears is not None:
            assert len(heard) == len(body.hears), f"{file}: {heard}"
            for index, (told, expected) in enumerate(zip(heard, body.hears, strict=True)):
                assert expected == told, f"{file}, event {index}: {told}"


def test_the_same_body_again_gives_the_same_ids(name: str, channel: Channel, case: Case) -> None:
    for file in case.bodies:
        first, again = (channel.parse(raw(name, file), case.account) for _ in range(2))
        assert first == again
        ids = [one.external_id for one in first if isinstance(one, Wrote | Echoed)]
        assert all(ids), f"{file}: a message without an id cannot be told from its copy"


def test_an_event_names_its_receiver_where_accounts_may_share_a_callback(
    name: str, channel: Channel, case: Case
) -> None:
    manifest = channel.MANIFEST
    several = False
    for file, body in case.bodies.items():
        heard = channel.parse(raw(name, file), case.account)
        named = {one.receiver for one in heard if one.receiver or not isinstance(one, Unknown)}
        if not manifest.hook_secrets:
            assert named <= {""}, f"{file}: nobody can share its callback"
            continue
        assert manifest.identity is not None
        other = replace(
            case.account, settings={**case.account.settings, manifest.identity: "of another account"}
        )
        assert channel.parse(raw(name, file), other) == heard, f"{file}: who asks decides what is heard"
        assert "" not in named, f"{file}: an event is for nobody"
        if "receivers" in body.shows:
            several = True
            assert len(named) > 1
            assert case.account.settings[manifest.identity] in named
    assert several or not manifest.hook_secrets, f"{name} brings no body that shows 'receivers'"


def test_a_shared_callback_needs_the_shared_secrets_and_no_others(
    name: str, channel: Channel, case: Case
) -> None:
    shared = channel.MANIFEST.hook_secrets
    if not shared:
        return
    asked = {key: value for key, value in case.secrets.items() if key in shared}
    for _, request in _signed(case, name):
        assert channel.verify(request, case.account, asked).accepted
    assert case.handshake is not None
    request, challenge = case.handshake(case.secrets)
    assert channel.verify(request, case.account, asked).body == challenge


def test_people_are_named_by_the_kind_in_the_manifest(name: str, channel: Channel, case: Case) -> None:
    for file in case.bodies:
        for one in channel.parse(raw(name, file), case.account):
            assert one.peer.kind == channel.MANIFEST.address_kind
            assert one.peer.value or isinstance(one, Unknown), f"{file}: {one}"
            assert one.at is None or one.at.utcoffset() is not None


@those(lambda name: showing(name, "first_broken"))
def test_a_broken_event_costs_only_itself(name: str, channel: Channel, case: Case) -> None:
    for body in showing(name, "first_broken"):
        heard = channel.parse(body, case.account)
        assert isinstance(heard[0], Unknown)
        assert any(not isinstance(one, Unknown) for one in heard[1:])


@those(lambda name: showing(name, "unknown"))
def test_an_event_of_an_unknown_kind_is_named_and_kept(name: str, channel: Channel, case: Case) -> None:
    for body in showing(name, "unknown"):
        assert any(isinstance(one, Unknown) and one.what for one in channel.parse(body, case.account))


@those(lambda name: showing(name, "no_sender"))
def test_an_event_of_nobody_is_no_message(name: str, channel: Channel, case: Case) -> None:
    for body in showing(name, "no_sender"):
        assert [one for one in channel.parse(body, case.account) if isinstance(one, Unknown)]


@those(lambda name: showing(name, "receipts"))
def test_receipts_in_any_order_name_what_they_are_about(name: str, channel: Channel, case: Case) -> None:
    """Whether a status may still change is the desk's to say; the channel tells what it heard, as it heard it."""
    for body in showing(name, "receipts"):
        receipts = [one for one in channel.parse(body, case.account) if isinstance(one, Receipt)]
        ranks = [STATUS_RANK[one.status] for one in receipts]
        assert ranks != sorted(ranks), "the body shows no disorder"
        assert all(one.external_ids or one.until for one in receipts)
        assert all((one.status == "failed") == (one.failure is not None) for one in receipts)


@those(lambda name: showing(name, "expired"))
def test_what_cannot_be_fetched_any_more_is_still_a_message(name: str, channel: Channel, case: Case) -> None:
    for body in showing(name, "expired"):
        wrote = [one for one in channel.parse(body, case.account) if isinstance(one, Wrote)]
        assert any(file.content is None and not file.url for one in wrote for file in one.files)


@those(lambda name: showing(name, "standby"))
def test_what_another_application_answers_is_marked(name: str, channel: Channel, case: Case) -> None:
    for body in showing(name, "standby"):
        wrote = [one for one in channel.parse(body, case.account) if isinstance(one, Wrote)]
        assert wrote
        assert all(one.standby for one in wrote)


def _heard(channel: Channel, case: Case, body: bytes) -> tuple[Heard, ...]:
    """A ValueError says that the body is the sender's fault as a whole; nothing else may come out."""
    try:
        return channel.parse(body, case.account)
    except ValueError:
        return ()


BOMBS = {
    "nothing": b"",
    "deep": b"[" * 100_000,
    "deep and closed": b'{"entry":' * 50_000 + b"1" + b"}" * 50_000,
    "long number": b'{"entry":[{"id":' + b"9" * 200_000 + b"}]}",
    "exponent": b'{"entry":[{"id":1e999999,"time":-1e400}]}',
    "same key": b'{"object":"page","object":"user","entry":[],"entry":1}',
    "NUL": b"\x00" * 1000,
    "no UTF-8": b'{"entry":"\xff\xfe"}',
    "not a number": b'{"entry":NaN}',
    "an array": b"[]",
    "a word": b'"x"',
    "header for ever": b"Subject: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "many headers": b"X: y\r\n" * 50_000 + b"\r\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_an_error_of_its_sender(channel: Channel, case: Case, bomb: str) -> None:
    assert not [one for one in _heard(channel, case, BOMBS[bomb]) if isinstance(one, Echoed | Receipt)]


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, below in inner:
        yield (*path, key)
        yield from _places(below, (*path, key))


JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, "", "x", "\x00", "é\ud83d", "9" * 400, [], [None], [[]], {}, {"": {}}, {"id": []},
    "1e999", {"x": "1e999"},
)  # fmt: skip


@those(lambda name: shown(name, "json"))
def test_whatever_stands_in_a_field_no_body_brings_the_reader_down(
    name: str, channel: Channel, case: Case
) -> None:
    tried = 0
    for file in case.bodies:
        try:
            whole = json.loads(raw(name, file))
        except ValueError:
            continue
        for path in _places(whole):
            for junk in JUNK:
                broken = deepcopy(whole)
                place = broken
                for key in path[:-1]:
                    place = place[key]
                place[path[-1]] = junk
                body = json.dumps(broken).replace('"1e999"', "1e999").encode()
                for one in _heard(channel, case, body):
                    assert "\\x00" not in repr(one)
                    if isinstance(one, Wrote):
                        json.dumps([one.facts, one.referral], allow_nan=False)
                    for said in one.__dataclass_fields__:
                        str(getattr(one, said)).encode()
                tried += 1
    assert tried


@pytest.mark.parametrize("of", NAMES)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_body_cut_or_garbled_anywhere_brings_nothing_down(of: str, data: st.DataObject) -> None:
    case = case_of(of)
    body = bytearray(raw(of, data.draw(st.sampled_from(sorted(case.bodies)))))
    for _ in range(data.draw(st.integers(0, 5))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    _heard(CHANNELS[of], case, bytes(body[: data.draw(st.integers(0, len(body)))]))


def test_a_message_becomes_the_calls_it_should(channel: Channel, case: Case) -> None:
    assert case.exchanges
    for exchange in case.exchanges:
        calls, result = play(channel, case, exchange.out, exchange.replies or (LOST,), dict(exchange.memory))
        if exchange.calls is not None:
            assert len(calls) == len(exchange.calls), f"{exchange.name}: {calls}"
            for made, expected in zip(calls, exchange.calls, strict=True):
                assert made == expected, exchange.name
        assert len(calls) == len(exchange.replies), exchange.name
        assert result == exchange.result, exchange.name


def _all(case: Case) -> Iterator[Exchange]:
    yield from case.exchanges
    yield Exchange(
        name="plain", out=case.plain, replies=(case.accepted,), result=Sent("?"), memory=case.memory
    )


def test_the_same_message_is_rendered_the_same_each_time(channel: Channel, case: Case) -> None:
    for exchange in _all(case):
        first, again = (
            play(channel, case, exchange.out, exchange.replies or (LOST,), dict(exchange.memory))
            for _ in range(2)
        )
        assert first == again


def test_a_plain_message_is_sent_and_its_id_is_known(channel: Channel, case: Case) -> None:
    calls, result = play(channel, case, case.plain, [case.accepted], dict(case.memory))
    assert isinstance(result, Sent)
    assert result.external_id
    assert len(calls) == 1
    assert case.plain.text.split()[0] in case.text_of(calls[0])


def test_when_an_answer_is_lost_the_message_is_perhaps_sent_and_never_tried_again(
    channel: Channel, case: Case
) -> None:
    for exchange in _all(case):
        for at in range(len(exchange.replies)):
            replies = [*exchange.replies[:at], LOST]
            calls, result = play(channel, case, exchange.out, replies, dict(exchange.memory))
            if len(calls) == at + 1 and not calls[at].repeatable:
                assert isinstance(result, Perhaps), f"{exchange.name}, call {at}: {result}"


def test_of_a_message_half_of_which_arrived_that_half_is_never_sent_again(
    channel: Channel, case: Case
) -> None:
    for exchange in _all(case):
        for at in range(1, len(exchange.replies)):
            for failing in (reply for replies in case.failures.values() for reply in replies):
                replies = [*exchange.replies[:at], failing]
                went: list[PartSent] = []
                memory = dict(exchange.memory)
                calls, result = play(channel, case, exchange.out, replies, memory, went)
                arrived = (
                    any(not call.repeatable for call in calls[:at]) and exchange.replies[at - 1].status < 300
                )
                if not arrived or len(calls) != at + 1:
                    continue
                where = f"{exchange.name}, call {at}: {result}"
                if not went:
                    assert isinstance(result, Perhaps), where
                    continue
                assert went[-1].part.number == len(went) < went[-1].part.of, where
                if isinstance(result, Failed) and isinstance(exchange.result, Sent):
                    out = replace(exchange.out, gone=tuple(each.external_id for each in went))
                    rest, ended = play(channel, case, out, exchange.replies[at:], memory)
                    assert isinstance(ended, Sent), where
                    assert not [call for call in rest if call in calls[:at]], where


def test_what_has_gone_of_a_message_in_parts_is_told_to_the_letter(channel: Channel, case: Case) -> None:
    most = channel.MANIFEST.text_chars or channel.MANIFEST.text_bytes or 0
    words = [f"mot{number}" for number in range(most // 2)]
    out = replace(case.plain, text=f"  {' '.join(words)}\n", author_name="Julie")
    for memory in (dict(case.memory), {}):
        went: list[PartSent] = []
        calls, result = play(channel, case, out, [case.accepted], memory, went)
        if not went:
            continue
        assert isinstance(result, Sent)
        assert result.external_id == went[-1].external_id
        count = len(went)
        assert [(each.part.number, each.part.of) for each in went] == [
            (n, count) for n in range(1, count + 1)
        ]
        texts = [case.text_of(call) for call in calls[-count:]]
        for number, each in enumerate(went, 1):
            left = [word for text in texts[number:] for word in text.split() if word.startswith("mot")]
            assert out.text[each.part.chars :].split() == left
            again, _ = play(
                channel,
                case,
                replace(out, gone=tuple(f"gone {n}" for n in range(number))),
                [case.accepted],
                dict(memory),
            )
            assert [case.text_of(call) for call in again if case.text_of(call)] == texts[number:]


def test_whatever_is_replied_to_who_asks_for_a_name_it_is_a_text(channel: Channel, case: Case) -> None:
    profile: Any = getattr(channel, "profile", lambda to, account, secrets, memory: iter(()))
    for reply in (
        *NONSENSE,
        LOST,
        case.accepted,
        *(each for some in case.failures.values() for each in some),
    ):
        asking = profile(case.plain.to, case.account, case.secrets, {})
        name: Any = ""
        try:
            call = next(asking)
            while True:
                assert call.repeatable
                assert not [secret for secret in case.secrets.values() if secret in call.url]
                call = asking.send(reply)
        except StopIteration as end:
            name = end.value or ""
        assert isinstance(name, str)


def test_whatever_is_replied_there_is_a_result(channel: Channel, case: Case) -> None:
    for exchange in _all(case):
        for at in range(max(1, len(exchange.replies))):
            for nonsense in NONSENSE:
                play(channel, case, exchange.out, [*exchange.replies[:at], nonsense], dict(exchange.memory))


@pytest.mark.parametrize(
    ("name", "failure"), [(name, failure) for name in NAMES for failure in case_of(name).failures]
)
def test_each_class_of_errors_is_told_apart(channel: Channel, case: Case, failure: Failure) -> None:
    for reply in case.failures[failure]:
        _, result = play(channel, case, case.plain, [reply], dict(case.memory))
        assert isinstance(result, Failed), reply
        assert result.failure == failure, reply
        assert result.code


def test_a_closed_window_is_told_exactly_where_there_is_a_window(channel: Channel, case: Case) -> None:
    assert (channel.MANIFEST.window_h is not None) == (Failure.WINDOW in case.failures)


@those(lambda name: manifest_of(name).tag is None)
def test_without_a_tag_being_asked_for_one_changes_nothing(channel: Channel, case: Case) -> None:
    for exchange in _all(case):
        replies = exchange.replies or (LOST,)
        plain, tagged = (
            play(channel, case, replace(exchange.out, tagged=tagged), replies, dict(exchange.memory))
            for tagged in (False, True)
        )
        assert plain == tagged, exchange.name


@those(lambda name: manifest_of(name).tag is not None)
def test_the_tag_is_used_when_asked_for_and_only_for_people(channel: Channel, case: Case) -> None:
    tag = channel.MANIFEST.tag
    assert tag is not None
    untagged, _ = play(channel, case, case.plain, [case.accepted], dict(case.memory))
    tagged, result = play(channel, case, replace(case.plain, tagged=True), [case.accepted], dict(case.memory))
    assert isinstance(result, Sent)
    assert all(tag not in repr(call) for call in untagged)
    assert all(tag in repr(call) for call in tagged)
    for author in ("bot", "system"):
        calls, result = play(channel, case, replace(case.plain, author=author, tagged=True), [case.accepted])
        assert calls == []
        assert isinstance(result, Failed)
        assert result.failure == Failure.WINDOW


def _longest(name: str) -> int | None:
    return manifest_of(name).text_chars or manifest_of(name).text_bytes


@those(lambda name: _longest(name) is None)
def test_a_text_of_any_length_is_one_message_where_no_limit_is_told(channel: Channel, case: Case) -> None:
    words = [f"mot{number}" for number in range(20_000)]
    calls, result = play(
        channel, case, replace(case.plain, text=" ".join(words)), [case.accepted], dict(case.memory)
    )
    assert isinstance(result, Sent)
    [text] = [case.text_of(call) for call in calls]
    assert [word for word in text.split() if word.startswith("mot")] == words


@those(_longest)
def test_a_text_too_long_for_one_message_arrives_whole_in_several(
    name: str, channel: Channel, case: Case
) -> None:
    manifest, most = channel.MANIFEST, _longest(name)
    assert most is not None
    words = [f"mot{number}" for number in range(most // 2)]
    calls, result = play(
        channel, case, replace(case.plain, text=" ".join(words)), [case.accepted], dict(case.memory)
    )
    texts = [case.text_of(call) for call in calls]
    assert isinstance(result, Sent)
    assert len(texts) > 1
    assert [word for text in texts for word in text.split() if word.startswith("mot")] == words
    for text in texts:
        assert manifest.text_chars is None or len(text) <= manifest.text_chars
        assert manifest.text_bytes is None or len(text.encode()) <= manifest.text_bytes


def test_the_person_and_the_machine_are_told_apart_by_name(channel: Channel, case: Case) -> None:
    for author, named in (("advisor", "Julie"), ("bot", "Robot")):
        out = replace(case.plain, author=author, author_name=named)
        calls, _ = play(channel, case, out, [case.accepted])
        assert any(named in repr(call) for call in calls), author


def test_acts_that_the_manifest_promises_are_harmless_to_repeat(channel: Channel, case: Case) -> None:
    for act in ("typing_on", "typing_off", "seen"):
        out = replace(case.plain, act=act, text="")
        calls, result = play(channel, case, out, [case.accepted], dict(case.memory))
        assert all(call.repeatable for call in calls), act
        assert not any(case.text_of(call) for call in calls), "nothing to read comes of it"
        if channel.MANIFEST.typing and act != "seen":
            assert calls
            assert isinstance(result, Sent)


def test_nothing_empty_and_nothing_unknown_is_sent(channel: Channel, case: Case) -> None:
    calls, result = play(channel, case, replace(case.plain, text=" \n"), [case.accepted], dict(case.memory))
    assert calls == []
    assert isinstance(result, Failed)
    assert result.failure == Failure.REFUSED
    calls, _ = play(channel, case, replace(case.plain, act="dance"), [case.accepted], dict(case.memory))
    assert calls == []


def test_secrets_travel_in_headers_only(channel: Channel, case: Case) -> None:
    """Addresses and bodies stand in logs, on the timeline and in the provider's echo."""
    for exchange in _all(case):
        calls, result = play(channel, case, exchange.out, exchange.replies or (LOST,), dict(exchange.memory))
        for call in calls:
            shown = repr(replace(call, headers={})) if isinstance(call, HttpCall) else repr(call)
            assert not [secret for secret in case.secrets.values() if secret in shown]
        assert not [secret for secret in case.secrets.values() if secret in repr(result)]


def test_a_message_goes_to_whom_it_is_for(channel: Channel, case: Case) -> None:
    calls, _ = play(channel, case, case.plain, [case.accepted], dict(case.memory))
    for call in calls:
        match call:
            case MailCall() | PushCall():
                assert call.to == case.plain.to
            case HttpCall():
                assert case.plain.to in repr((call.url, call.json, call.form))


def test_cases_bring_ids_of_their_own(case: Case) -> None:
    outs = [exchange.out for exchange in case.exchanges]
    assert case.plain.message != UUID(int=0)
    assert all(out.message != UUID(int=0) for out in outs)
    assert set(case.lacks) <= {*DEMANDS, *Failure}
    assert all(case.lacks.values())
