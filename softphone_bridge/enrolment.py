"""Registering ourselves somewhere, as a phone or towards a trunk: REGISTER as a client, proven, kept fresh, given back.

The registrar may change its nonce, say stale, or want a longer expiry (423); a password that is refused is not
tried twice with the same challenge.
"""

from __future__ import annotations

from collections.abc import Callable

from softphone_bridge import digest
from softphone_bridge.message import Message, new_branch, request_bytes
from softphone_bridge.signals import Credentials, Enrolled, EnrolmentFailed, Flow, StackEvent
from softphone_bridge.timers import Timer, Wheel
from softphone_bridge.transaction import Transaction, Transactions
from softphone_bridge.uri import parse_address

RETRY_S = 30.0  # after a failure
TRIES = 3  # challenges and corrections in one go


class Enrolment:
    """One account at one registrar; `leave` gives it back."""

    def __init__(
        self,
        name: str,
        *,
        registrar: Flow,
        domain: str,
        credentials: Credentials,
        contact: str,
        agent: str,
        via: Callable[[Flow, str], str],
        new_id: Callable[[], str],
        transactions: Transactions,
        wheel: Wheel,
        events: list[StackEvent],
        expires_s: int,
    ) -> None:
        self.name = name
        self._registrar = registrar
        self._uri = f"sip:{domain}"
        self._credentials = credentials
        self._contact = contact
        self._agent = agent
        self._via = via
        self._new_id = new_id
        self._transactions = transactions
        self._wheel = wheel
        self._events = events
        self._expires_s = expires_s
        self._leaving = False
        self._cseq = 0
        self._tries = 0
        self._count = 0
        self._challenge: dict[str, str] | None = None
        self._challenge_key = "Authorization"
        self._call_id = new_id()
        self._tag = new_id()
        self._timer: Timer | None = None

    def start(self, now: float) -> None:
        self._tries = 0
        self._send(now)

    def leave(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._leaving = True
        self.start(now)

    def due(self, what: str, now: float) -> None:
        self._timer = None
        self.start(now)

    def _send(self, now: float) -> None:
        self._tries += 1
        self._cseq += 1
        branch = new_branch(self._new_id())
        me = f"<sip:{self._credentials.user}@{self._uri[4:]}>"
        lines = [
            self._via(self._registrar, branch),
            "Max-Forwards: 70",
            f"From: {me};tag={self._tag}",
            f"To: {me}",
            f"Call-ID: {self._call_id}",
            f"CSeq: {self._cseq} REGISTER",
            f"Contact: {self._contact}",
            f"Expires: {0 if self._leaving else self._expires_s}",
            f"User-Agent: {self._agent}",
        ]
        if self._challenge is not None:
            self._count += 1
            proof = digest.authorization(
                self._challenge,
                user=self._credentials.user,
                password=self._credentials.password,
                method="REGISTER",
                uri=self._uri,
                cnonce=self._new_id(),
                nc=self._count,
            )
            lines.append(f"{self._challenge_key}: {proof}")
        data = request_bytes(f"REGISTER {self._uri} SIP/2.0", lines)
        self._transactions.ask("REGISTER", branch, self._registrar, data, self, now)

    def answered(self, transaction: Transaction, response: Message | None, now: float) -> None:
        status = 408 if response is None else response.status
        if response is None or (self._tries >= TRIES and status >= 300):
            self._failed(status, now)
            return
        if status < 300:
            if self._leaving:
                self._events.append(Enrolled(self.name, 0))
                return
            granted = self._granted(response)
            self._timer = self._wheel.set(now + max(1.0, granted * 0.8), self, "refresh")
            self._events.append(Enrolled(self.name, granted))
        elif status in (401, 407):
            self._challenged(response, status, now)
        elif status == 423:
            least = response.get("min-expires")
            if least.isdigit() and self._expires_s < int(least[:9]) <= 86_400:
                self._expires_s = int(least)
                self._send(now)
            else:
                self._failed(status, now)
        else:
            self._failed(status, now)

    def _challenged(self, response: Message, status: int, now: float) -> None:
        header = "www-authenticate" if status == 401 else "proxy-authenticate"
        challenge = digest.choose(response.all(header))
        fresh = challenge is not None and (
            self._challenge is None
            or challenge.get("stale", "").lower() == "true"
            or challenge["nonce"] != self._challenge["nonce"]
        )
        if challenge is None or not fresh or challenge["realm"] != self._credentials.realm:
            self._failed(status, now)
            return
        self._challenge, self._count = challenge, 0
        self._challenge_key = "Authorization" if status == 401 else "Proxy-Authorization"
        self._send(now)

    def _failed(self, status: int, now: float) -> None:
        self._events.append(EnrolmentFailed(self.name, status))
        self._challenge = None
        if not self._leaving:
            self._timer = self._wheel.set(now + RETRY_S, self, "retry")

    def _granted(self, response: Message) -> int:
        ours = self._contact.strip("<>")
        for element in response.elements("contact"):
            address = parse_address(element)
            if address is not None and address.uri == ours:
                value = address.param("expires") or ""
                if value.isdigit():
                    return int(value[:9])
        value = response.get("expires")
        return int(value[:9]) if value.isdigit() else self._expires_s
