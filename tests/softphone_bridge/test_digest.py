"""Digest: the vectors of the RFCs, and a server's nonces."""

from __future__ import annotations

import statistics
import time

import pytest

from softphone_bridge import digest
from softphone_bridge.digest import Guard, Verdict

ACCOUNT = digest.ha1("lea", "monofil", "secret")
HOST = "10.0.0.7"


def test_the_example_of_rfc_2617() -> None:
    md5, _ = digest.ha1("Mufasa", "testrealm@host.com", "Circle Of Life")
    got = digest.response(
        md5,
        algorithm="MD5",
        method="GET",
        uri="/dir/index.html",
        nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
        nc="00000001",
        cnonce="0a4f113b",
        qop="auth",
    )
    assert got == "6629fae49393a05397450978507c4ef1"


def test_the_examples_of_rfc_7616() -> None:
    md5, sha = digest.ha1("Mufasa", "http-auth@example.org", "Circle of Life")
    common = {
        "method": "GET",
        "uri": "/dir/index.html",
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001",
        "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "qop": "auth",
    }
    assert digest.response(md5, algorithm="MD5", **common) == "8ca523f5e9506fed4657c9700eebdbec"
    assert (
        digest.response(sha, algorithm="SHA-256", **common)
        == "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    )


def test_credentials_with_quotes_escapes_and_no_spaces_are_read() -> None:
    given = digest.parse_credentials('Digest username="a\\"b",realm="r",nc=00000001,qop=auth ,uri="sip:x,y"')
    assert given == {"username": 'a"b', "realm": "r", "nc": "00000001", "qop": "auth", "uri": "sip:x,y"}
    assert digest.parse_credentials("NoOneKnowsThisScheme opaque=here") is None
    assert digest.parse_credentials('Digest username="broken') is None


def guard() -> Guard:
    return Guard("monofil", b"k" * 32, 300.0)


def answer(
    guard: Guard,
    *,
    password: str = "secret",
    which: int = 0,
    nc: int = 1,
    now: float = 100.0,
    user: str = "lea",
    nonce: str = "",
) -> dict[str, str]:
    challenge = digest.parse_credentials(guard.challenges(HOST, now)[which])
    assert challenge is not None
    if nonce:
        challenge["nonce"] = nonce
    value = digest.authorization(
        challenge, user=user, password=password, method="REGISTER", uri="sip:x", cnonce="c", nc=nc
    )
    given = digest.parse_credentials(value)
    assert given is not None
    return given


def judge(
    guard: Guard,
    given: dict[str, str],
    *,
    host: str = HOST,
    now: float = 101.0,
    known: tuple[str, str] | None = ACCOUNT,
) -> Verdict:
    return guard.judge(given, known, method="REGISTER", host=host, now=now)


def test_the_md5_challenge_comes_first_and_both_are_answered() -> None:
    held = guard()
    first, second = held.challenges(HOST, 1.0)
    assert "algorithm=MD5" in first
    assert "algorithm=SHA-256" in second
    assert judge(held, answer(held, which=0)) is Verdict.RIGHT
    assert judge(held, answer(held, which=1, now=100.5)) is Verdict.RIGHT


def test_a_replayed_answer_is_stale_and_a_rising_count_is_not() -> None:
    held = guard()
    given = answer(held)
    assert judge(held, given) is Verdict.RIGHT
    assert judge(held, given) is Verdict.STALE
    assert judge(held, answer(held, nc=2, nonce=given["nonce"])) is Verdict.RIGHT
    assert judge(held, answer(held, nc=2, nonce=given["nonce"])) is Verdict.STALE


def test_two_phones_behind_one_address_prove_themselves_within_one_millisecond() -> None:
    held = guard()
    first, second = answer(held, now=100.0), answer(held, now=100.0)
    assert first["nonce"] != second["nonce"]
    assert judge(held, first) is Verdict.RIGHT
    assert judge(held, second) is Verdict.RIGHT


def test_a_nonce_is_stale_elsewhere_later_and_when_forged() -> None:
    held = guard()
    assert judge(held, answer(held), host="10.0.0.8") is Verdict.STALE
    assert judge(held, answer(held), now=401.0) is Verdict.STALE
    assert judge(held, answer(held, nonce="0" * 44)) is Verdict.STALE
    assert judge(held, answer(held, nonce="")) is Verdict.RIGHT


def test_a_wrong_password_and_an_unknown_user_look_the_same() -> None:
    held = guard()
    assert judge(held, answer(held, password="guess")) is Verdict.WRONG
    assert judge(held, answer(held, user="nobody"), known=None) is Verdict.WRONG


def test_an_old_phone_without_qop_is_served_but_each_nonce_only_once() -> None:
    held = guard()
    given = answer(held)
    for name in ("qop", "nc", "cnonce"):
        del given[name]
    given["response"] = digest.response(
        ACCOUNT[0], algorithm="MD5", method="REGISTER", uri="sip:x", nonce=given["nonce"]
    )
    assert judge(held, given) is Verdict.RIGHT
    assert judge(held, given) is Verdict.STALE


def test_strange_parameters_are_wrong_and_nothing_else() -> None:
    held = guard()
    for change in (
        {"qop": "auth-int"},
        {"nc": "zzzzzzzz"},
        {"nc": "1"},
        {"algorithm": "SHA-512-256"},
        {"response": ""},
        {"response": "é"},
        {"nonce": "é" * 30},
        {"cnonce": ""},
    ):
        assert judge(held, answer(held) | change) in (Verdict.WRONG, Verdict.STALE), change


def test_known_and_unknown_accounts_take_comparable_time() -> None:
    held = guard()
    wrong, nobody = answer(held, password="guess"), answer(held, user="nobody")
    times: dict[str, list[float]] = {"wrong": [], "nobody": []}
    for _ in range(2000):
        for name, given, known in (("wrong", wrong, ACCOUNT), ("nobody", nobody, None)):
            begun = time.perf_counter()
            judge(held, given, known=known)
            times[name].append(time.perf_counter() - begun)
    a, b = (statistics.median(t) for t in times.values())
    assert abs(a - b) < 0.25 * max(a, b), (a, b)


def test_memory_of_counts_is_bounded_and_forgotten_nonces_are_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "MAX_NONCES", 100)
    held = guard()
    early = answer(held, now=100.0)
    assert judge(held, early, now=100.0) is Verdict.RIGHT
    for i in range(300):
        at = 101.0 + i / 100
        assert judge(held, answer(held, now=at), now=at) is Verdict.RIGHT
    assert judge(held, early, now=105.0) is Verdict.STALE
