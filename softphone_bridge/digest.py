"""Digest authentication, both sides (RFC 3261 22, RFC 7616, RFC 8760): challenges without memory, answers checked.

A nonce is its time, a count and an HMAC over these, source and realm, so that the server keeps nothing until an answer
was right; then it keeps the highest count (nc) seen, which must rise.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from enum import StrEnum

MAX_NONCES = 50_000  # remembered counts; the oldest half is declared stale beyond it

_PARAM = re.compile(r'\s*([A-Za-z0-9\-_*]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]+)\s*(?:,|\Z)', re.DOTALL)


class Verdict(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"  # or unknown: nobody is told which
    STALE = "stale"  # the password may be right; the nonce is old, foreign or used
    ABSENT = "absent"  # no credentials for this realm


def parse_credentials(value: str) -> dict[str, str] | None:
    """The parameters of "Digest a=b, c=…", names in lower case; None for another scheme or bad syntax."""
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() != "digest":
        return None
    out: dict[str, str] = {}
    at, end = 0, len(rest)
    while at < end:
        match = _PARAM.match(rest, at)
        if match is None:
            return None if rest[at:].strip(" ,") else out
        raw = match[2]
        if raw.startswith('"'):
            raw = re.sub(r"\\(.)", r"\1", raw[1:-1], flags=re.DOTALL)
        out.setdefault(match[1].lower(), raw)
        at = match.end()
    return out


def _hash(algorithm: str) -> Callable[[str], str]:
    if algorithm == "SHA-256":
        return lambda text: hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return lambda text: hashlib.md5(
        text.encode("utf-8", "surrogateescape"), usedforsecurity=False
    ).hexdigest()


def ha1(user: str, realm: str, password: str) -> tuple[str, str]:
    """What an account stores: MD5 and SHA-256 of user:realm:password."""
    text = f"{user}:{realm}:{password}"
    return _hash("MD5")(text), _hash("SHA-256")(text)


def response(
    ha1_hex: str,
    *,
    algorithm: str,
    method: str,
    uri: str,
    nonce: str,
    nc: str = "",
    cnonce: str = "",
    qop: str = "",
) -> str:
    """request-digest of RFC 7616 3.4.1; without `qop` that of RFC 2069."""
    digest = _hash(algorithm)
    ha2 = digest(f"{method}:{uri}")
    if qop:
        return digest(f"{ha1_hex}:{nonce}:{nc}:{cnonce}:{qop}:{ha2}")
    return digest(f"{ha1_hex}:{nonce}:{ha2}")


class Guard:
    """The server's side: makes challenges for one realm and judges answers."""

    __slots__ = ("_counts", "_dummy", "_floor", "_life_s", "_made_so_far", "_realm", "_secret")

    def __init__(self, realm: str, secret: bytes, life_s: float) -> None:
        self._realm = realm
        self._secret = secret
        self._life_s = life_s
        self._counts: dict[str, int] = {}
        self._floor = 0  # nonces made before this (ms) are stale
        self._made_so_far = 0
        mark = hmac.new(secret, b"nobody", "sha256").hexdigest()
        self._dummy = ha1(mark[:16], realm, mark[16:])

    def nonce(self, host: str, now: float) -> str:
        self._made_so_far += 1  # phones behind one address may ask within a millisecond: no two share a nonce
        made = f"{int(now * 1000):012x}{self._made_so_far & 0xFFFF:04x}"
        return made + self._seal(made, host)

    def _seal(self, made: str, host: str) -> str:
        text = f"{made}|{host}|{self._realm}".encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, text, "sha256").hexdigest()[:32]

    def challenges(self, host: str, now: float, *, stale: bool = False) -> tuple[str, str]:
        """MD5 first (JsSIP and pyVoIP read one), SHA-256 second; the same nonce in both."""
        nonce = self.nonce(host, now)
        tail = f', qop="auth"{", stale=true" if stale else ""}'
        return (
            f'Digest realm="{self._realm}", nonce="{nonce}", algorithm=MD5{tail}',
            f'Digest realm="{self._realm}", nonce="{nonce}", algorithm=SHA-256{tail}',
        )

    def judge(
        self,
        given: Mapping[str, str],
        known: tuple[str, str] | None,
        *,
        method: str,
        host: str,
        now: float,
    ) -> Verdict:
        """Whether credentials prove the account whose HA1 pair is `known` (None: no such account, same work)."""
        nonce = given.get("nonce", "")
        algorithm = given.get("algorithm", "MD5").upper()
        qop = given.get("qop", "").lower()
        pair = known if known is not None else self._dummy
        nc = given.get("nc", "")
        if algorithm not in ("MD5", "SHA-256") or qop not in ("", "auth") or not given.get("response"):
            return Verdict.WRONG
        if qop and (len(nc) != 8 or not given.get("cnonce")):
            return Verdict.WRONG
        want = response(
            pair[1] if algorithm == "SHA-256" else pair[0],
            algorithm=algorithm,
            method=method,
            uri=given.get("uri", ""),
            nonce=nonce,
            nc=nc,
            cnonce=given.get("cnonce", ""),
            qop=given.get("qop", ""),
        )
        same = hmac.compare_digest(
            want.encode(), given["response"].lower().encode("utf-8", "surrogateescape")
        )
        made = self._made(nonce, host)
        if not same or known is None:
            return Verdict.WRONG if made is not None else Verdict.STALE
        if made is None or now * 1000 - made > self._life_s * 1000 or made < self._floor:
            return Verdict.STALE
        try:
            count = int(nc, 16) if qop else 1
        except ValueError:
            return Verdict.WRONG
        if count <= self._counts.get(nonce, 0):
            return Verdict.STALE  # replayed
        self._counts[nonce] = count
        if len(self._counts) > MAX_NONCES:
            self._shed(now)
        return Verdict.RIGHT

    def _made(self, nonce: str, host: str) -> int | None:
        """When we made this nonce for this host, in ms; None when we did not."""
        made, seal = nonce[:16], nonce[16:]
        if not hmac.compare_digest(self._seal(made, host).encode(), seal.encode("utf-8", "surrogateescape")):
            return None
        return int(made[:12], 16)

    def _shed(self, now: float) -> None:
        oldest = int((now - self._life_s) * 1000)
        kept = {n: c for n, c in self._counts.items() if int(n[:12], 16) >= oldest}
        if len(kept) > MAX_NONCES // 2:
            ordered = sorted(kept, key=lambda n: n[:12])
            cut = ordered[len(ordered) // 2]
            self._floor = int(cut[:12], 16) + 1
            kept = {n: c for n, c in kept.items() if int(n[:12], 16) >= self._floor}
        self._counts = kept


def choose(challenges: list[str]) -> dict[str, str] | None:
    """The first challenge a client can answer: Digest, MD5 or SHA-256, qop auth or none."""
    for value in challenges:
        params = parse_credentials(value)
        if params is None or "nonce" not in params or "realm" not in params:
            continue
        if params.get("algorithm", "MD5").upper() not in ("MD5", "SHA-256"):
            continue
        if "qop" in params and "auth" not in [q.strip().lower() for q in params["qop"].split(",")]:
            continue
        return params
    return None


def authorization(
    challenge: Mapping[str, str],
    *,
    user: str,
    password: str,
    method: str,
    uri: str,
    cnonce: str,
    nc: int = 1,
) -> str:
    """The client's side: the value of Authorization or Proxy-Authorization for a parsed challenge."""
    realm, nonce = challenge["realm"], challenge["nonce"]
    algorithm = challenge.get("algorithm", "MD5").upper()
    pair = ha1(user, realm, password)
    qop = "auth" if "qop" in challenge else ""
    count = f"{nc:08x}"
    proof = response(
        pair[1] if algorithm == "SHA-256" else pair[0],
        algorithm=algorithm,
        method=method,
        uri=uri,
        nonce=nonce,
        nc=count,
        cnonce=cnonce,
        qop=qop,
    )
    parts = [
        f'username="{user}"',
        f'realm="{realm}"',
        f'nonce="{nonce}"',
        f'uri="{uri}"',
        f'response="{proof}"',
        f"algorithm={algorithm}",
    ]
    if qop:
        parts += ["qop=auth", f"nc={count}", f'cnonce="{cnonce}"']
    if "opaque" in challenge:
        parts.append(f'opaque="{challenge["opaque"]}"')
    return "Digest " + ", ".join(parts)
