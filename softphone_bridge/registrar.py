"""Which phones are where: the contacts of each account, how long each holds, and the flow to it (RFC 3261 10)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from softphone_bridge.events import ContactsChanged, PhoneGone, PhoneRegistered
from softphone_bridge.message import Message, RemoteError
from softphone_bridge.signals import Flow, Registration
from softphone_bridge.timers import Timer, Wheel
from softphone_bridge.uri import printable

if TYPE_CHECKING:
    from softphone_bridge.signals import StackEvent

MAX_CONTACTS = 10  # a desk phone, a page, a mobile … a person has fewer
MAX_KEPT = 1000  # characters of a text that is kept over a restart; phones need a tenth


@dataclass(slots=True)
class Binding:
    account: str
    uri: str
    params: str  # contact-params kept for the answer, without expires and q
    flow: Flow
    call_id: str
    cseq: int
    until: float
    instance: str
    agent: str
    seen: float
    timer: Timer | None = None


class Registrar:
    """Contacts by account. `register` applies one authenticated REGISTER; what it changes goes to `events`."""

    __slots__ = ("_bindings", "_by_flow", "_max_s", "_min_s", "_wheel", "events")

    def __init__(
        self, wheel: Wheel, events: list[StackEvent], *, min_expires_s: int, max_expires_s: int
    ) -> None:
        self._wheel = wheel
        self._min_s = min_expires_s
        self._max_s = max_expires_s
        self._bindings: dict[str, list[Binding]] = {}
        self._by_flow: dict[tuple[str, str, int], int] = {}  # how many bindings came from there
        self.events = events

    def of(self, account: str) -> list[Binding]:
        return self._bindings.get(account, [])

    def accounts(self) -> list[str]:
        return list(self._bindings)

    def came_from(self, flow: Flow) -> bool:
        """Whether some phone is registered from this very address and port."""
        return flow[:3] in self._by_flow

    def account_at(self, account: str, flow: Flow) -> bool:
        return any(b.flow[:3] == flow[:3] for b in self.of(account))

    def register(self, account: str, request: Message, flow: Flow, now: float) -> int:
        """Apply a REGISTER; 200, or the status of a refusal. Raises RemoteError 400. All or nothing (10.3 step 7)."""
        contacts = request.contacts()
        default = _seconds(request.first.get("expires"), self._max_s)
        call_id, cseq = request.call_id, request.cseq[0]
        held = self.of(account)
        if any(c.uri == "*" for c in contacts):
            if len(contacts) != 1 or request.first.get("expires", "").strip() != "0":
                raise RemoteError("Contact * needs Expires 0 and stands alone", 400, request)
            for binding in held:
                if binding.call_id == call_id and cseq <= binding.cseq:
                    return 500
            for binding in list(held):
                self._drop(binding, "unregistered")
            return 200
        changes: list[tuple[str, str, str, int]] = []
        for contact in contacts:
            asked = contact.param("expires")
            seconds = default if asked is None else _seconds(asked, self._max_s)
            if 0 < seconds < self._min_s:
                return 423
            if contact.uri[:4].lower() not in ("sip:", "sips"):
                raise RemoteError("Contact is no SIP URI", 400, request)
            instance = (contact.param("+sip.instance") or "") + "|" + (contact.param("reg-id") or "")
            changes.append(
                (
                    contact.uri,
                    _kept(contact.params),
                    instance if len(instance) > 1 else "",
                    min(seconds, self._max_s),
                )
            )
            for binding in held:
                if binding.uri == contact.uri and binding.call_id == call_id and cseq <= binding.cseq:
                    return 500
        added = [u for u, _, _, s in changes if s and all(b.uri != u for b in held)]
        if len(held) + len(added) > MAX_CONTACTS:
            oldest = sorted(held, key=lambda b: b.seen)
            for binding in oldest[: len(held) + len(added) - MAX_CONTACTS]:
                self._drop(binding, "replaced")
        for uri, params, instance, seconds in changes[:MAX_CONTACTS]:
            self._apply(account, uri, params, instance, seconds, request, flow, now)
        return 200

    def _apply(
        self,
        account: str,
        uri: str,
        params: str,
        instance: str,
        seconds: int,
        request: Message,
        flow: Flow,
        now: float,
    ) -> None:
        same = next((b for b in self.of(account) if b.uri == uri), None)
        if seconds == 0:
            if same is not None:
                self._drop(same, "unregistered")
            return
        if same is None and instance:
            for other in [b for b in self.of(account) if b.instance == instance]:
                self._drop(other, "replaced")
        agent = printable(request.get("user-agent"))[:100]
        fresh = same is None
        if same is None:
            same = Binding(
                account, uri, params, flow, request.call_id, request.cseq[0], 0.0, instance, agent, now
            )
            self._bindings.setdefault(account, []).append(same)
        else:
            self._count(same.flow, -1)
            if same.timer is not None:
                same.timer.cancel()
        same.params, same.flow, same.call_id, same.cseq = params, flow, request.call_id, request.cseq[0]
        same.until, same.seen, same.agent = now + seconds, now, agent
        self._hold(same)
        if fresh:
            self._announce(same, now)

    def _hold(self, binding: Binding) -> None:
        self._count(binding.flow, 1)
        binding.timer = self._wheel.set(binding.until, self, f"{binding.account}\n{binding.uri}")
        self.events.append(ContactsChanged(binding.account))

    def _announce(self, binding: Binding, now: float) -> None:
        flow, left_s = binding.flow, round(binding.until - now)
        source = f"{flow.host}:{flow.port};{flow.transport}"
        self.events.append(PhoneRegistered(binding.account, binding.uri, source, binding.agent, left_s))

    def registrations(self, account: str) -> tuple[Registration, ...]:
        """The contacts of an account that are worth keeping over a restart."""
        return tuple(
            Registration(
                *(account, b.uri, b.params, *b.flow[:3], b.call_id, b.cseq, b.instance, b.agent, b.until)
            )
            for b in self.of(account)
            if _survives(b)
        )

    def restore(self, kept: Iterable[Registration], now: float) -> None:
        """Take back what `registrations` gave before a restart, but for what has expired or was told anew since."""
        for it in kept:
            held = self.of(it.account)
            known = any(b.uri == it.contact or (it.instance and b.instance == it.instance) for b in held)
            if it.transport != "udp" or it.until <= now or known or len(held) >= MAX_CONTACTS:
                continue
            flow, until = Flow(it.transport, it.host, it.port), min(it.until, now + self._max_s)
            binding = Binding(
                *(it.account, it.contact, it.params, flow, it.call_id, it.cseq),
                *(until, it.instance, it.user_agent, now),
            )
            self._bindings.setdefault(it.account, []).append(binding)
            self._hold(binding)
            self._announce(binding, now)

    def due(self, what: str, now: float) -> None:
        account, _, uri = what.partition("\n")
        for binding in [b for b in self.of(account) if b.uri == uri and b.until <= now + 0.02]:
            self._drop(binding, "expired")

    def flow_closed(self, flow: Flow) -> None:
        if flow[:3] not in self._by_flow:
            return
        for held in list(self._bindings.values()):
            for binding in [b for b in held if b.flow == flow]:
                self._drop(binding, "flow_closed")

    def forget(self, account: str) -> None:
        for binding in list(self.of(account)):
            self._drop(binding, "unregistered")

    def answer_lines(self, account: str, now: float) -> list[str]:
        """The Contact lines of a 200."""
        return [
            f"Contact: <{b.uri}>{b.params};expires={max(0, round(b.until - now))}" for b in self.of(account)
        ]

    def _count(self, flow: Flow, change: int) -> None:
        at = (flow.transport, flow.host, flow.port)
        count = self._by_flow.get(at, 0) + change
        if count > 0:
            self._by_flow[at] = count
        else:
            self._by_flow.pop(at, None)

    def _drop(self, binding: Binding, reason: str) -> None:
        if binding.timer is not None:
            binding.timer.cancel()
            binding.timer = None
        self._count(binding.flow, -1)
        held = self._bindings[binding.account]
        held.remove(binding)
        if not held:
            del self._bindings[binding.account]
        self.events.append(PhoneGone(binding.account, binding.uri, reason))
        self.events.append(ContactsChanged(binding.account))


def _survives(binding: Binding) -> bool:
    """A stream ends with the process; and a database takes no control characters and no endless texts."""
    texts = (binding.account, binding.uri, binding.params, binding.call_id, binding.instance, binding.agent)
    return binding.flow.transport == "udp" and all(t.isprintable() and len(t) <= MAX_KEPT for t in texts)


def _seconds(value: str | None, default: int) -> int:
    """An expiry; what is no number or too large counts as the default (RFC 4475 3.1.2.4)."""
    if value is None or not value.strip().isdigit() or len(value.strip()) > 9:
        return default
    return int(value)


def _kept(params: str) -> str:
    kept = [
        p.strip()
        for p in params.split(";")
        if p.strip() and p.strip().partition("=")[0].strip().lower() not in ("expires", "q")
    ]
    return "".join(f";{p}" for p in kept)
