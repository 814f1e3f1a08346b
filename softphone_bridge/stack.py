"""The SIP stack as one value: bytes and commands go in, bytes and events come out; it never waits.

The order of checks for a request outside a dialog: syntax, version, URI scheme, Require, method, hops, body;
then load and the source's share; then who is asking; then what is asked. Refusals keep no state.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence

from softphone_bridge.attestation import INDICATORS
from softphone_bridge.call import ALLOW, Calls, Leg
from softphone_bridge.digest import Guard, Verdict, parse_credentials
from softphone_bridge.enrolment import Enrolment
from softphone_bridge.events import GuessingNoticed, PhoneGone, PhoneRegistered, Source
from softphone_bridge.limits import Buckets, Guessing, Valve
from softphone_bridge.message import Message, RemoteError, response_bytes
from softphone_bridge.parser import KNOWN_METHODS, SERVED, check, split
from softphone_bridge.registrar import Registrar
from softphone_bridge.signals import (
    Accounts,
    Acked,
    Answered,
    Credentials,
    Ended,
    Enrolled,
    EnrolmentFailed,
    Flow,
    InfoDigit,
    Invited,
    Registration,
    ReofferAnswered,
    Reoffered,
    ReofferRefused,
    Ringing,
    StackEvent,
    StackSettings,
    Target,
    TrunkRules,
)
from softphone_bridge.timers import LONG_T1, Wheel
from softphone_bridge.transaction import (
    CLIENT_INPUTS,
    I,
    S,
    Transactions,
    server_key,
)
from softphone_bridge.uri import parse_address, parse_uri, printable, unescape

__all__ = [
    "Accounts",
    "Acked",
    "Answered",
    "Credentials",
    "Ended",
    "Enrolled",
    "EnrolmentFailed",
    "Flow",
    "GuessingNoticed",
    "InfoDigit",
    "Invited",
    "PhoneGone",
    "PhoneRegistered",
    "Registration",
    "ReofferAnswered",
    "ReofferRefused",
    "Reoffered",
    "Ringing",
    "Stack",
    "StackEvent",
    "StackSettings",
    "Target",
    "TrunkRules",
]

CARRIED = ("diversion", "history-info", "user-agent", "subject", "privacy", "identity", "date")
CARRIED_FROM_TRUNK = ("p-asserted-identity", "remote-party-id", "p-charge-info", "from", *INDICATORS)
SUPPORTED = frozenset(("timer",))
RETRY_AFTER_S = 2
REFUSALS_PER_S = 5.0  # ours: enough to tell a carrier to slow down, too few to be an amplifier
REFUSALS_BURST = 20.0
MD5_ONLY = (
    "baresip v0.",
    "baresip v1.",
)  # give up when any challenge is one they don't know, even the second
_NETWORKS = ipaddress.IPv4Network | ipaddress.IPv6Network


class Stack:
    """Transactions, dialogs, registrar and admission behind four verbs; commands name legs.

    `now` is a monotonic clock in seconds, `new_id` gives unguessable tokens (letters and digits),
    `new_leg` names incoming legs. A command on a leg that is over does nothing. aio/endpoint.py offers the
    same commands without `now` and sends at once.
    """

    def __init__(
        self,
        settings: StackSettings,
        *,
        new_id: Callable[[], str],
        new_leg: Callable[[], str] | None = None,
        accounts: Accounts,
        knows: Callable[[str], bool],
        trunks: Iterable[TrunkRules] = (),
    ) -> None:
        self.settings = settings
        self.stopping = False  # True: new INVITEs get 503
        self.counters: dict[str, int] = {}
        self._new_id = new_id
        self._new_leg = new_leg or new_id
        self._accounts = accounts
        self._knows = knows
        self._out: list[tuple[Flow, bytes]] = []
        self._events: list[StackEvent] = []
        self._wheel = Wheel()
        self._transactions = Transactions(
            self._wheel, self._out, t1_s=settings.t1_s, t2_s=settings.t2_s, t4_s=settings.t4_s
        )
        self._calls = Calls(settings, self._transactions, self._wheel, new_id, self._events, self.counters)
        self._registrar = Registrar(
            self._wheel,
            self._events,
            min_expires_s=settings.min_expires_s,
            max_expires_s=settings.max_expires_s,
        )
        self._guard = Guard(settings.realm, settings.secret, settings.nonce_life_s)
        self._guessing = Guessing(settings.guess_tries)
        self._sources = Buckets(settings.source_rate, settings.source_burst)
        self._refusals = Buckets(
            REFUSALS_PER_S, REFUSALS_BURST
        )  # 503s a source gets once its share is used up; then silence
        self._valve = Valve()
        self._server = f"Server: {settings.agent}"
        self._trunks: list[tuple[_NETWORKS, str]] = []
        self._trunk_of: dict[str, str | None] = {}
        self._enrolments: dict[str, Enrolment] = {}
        self._seen: tuple[set[tuple[str, str, int]], set[tuple[str, str, int]]] = (set(), set())
        self._seen_until = 0.0
        self._names = {settings.host.lower(), settings.realm.lower(), *(d.lower() for d in settings.domains)}
        self.set_trunks(trunks)

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Take one whole message (a datagram, or one message framed from a stream)."""
        if len(data) <= 8 and not data.strip(b"\r\n\x00 \t"):
            if data == b"\r\n\r\n":
                self._out.append((flow, b"\r\n"))
            return
        try:
            message = split(data)
            if message.status:
                self._response(message, now)
            else:
                self._request(message, flow, now)
        except RemoteError as error:
            self._malformed(error, flow, now)

    def to_send(self) -> list[tuple[Flow, bytes]]:
        """Messages to be sent, oldest first; each is given once."""
        out = self._out[:]
        self._out.clear()
        return out

    def deadline(self) -> float | None:
        """When `tick` wants to be called next, or None."""
        return self._wheel.deadline()

    def tick(self, now: float) -> None:
        self._wheel.turn(now)

    def events(self) -> list[StackEvent]:
        """What happened, oldest first; each is given once."""
        events = self._events[:]
        self._events.clear()
        return events

    def flow_closed(self, flow: Flow, now: float) -> None:
        """A stream is gone: its phones are unreachable, and what waits on it gets no answer."""
        self._registrar.flow_closed(flow)
        self._transactions.flow_closed(flow, now)

    def set_pressure(self, lag_s: float) -> None:
        """How late the server is: above 30 ms a growing share of new INVITEs gets 503 with Retry-After."""
        self._valve.set(lag_s)

    def set_trunks(self, trunks: Iterable[TrunkRules]) -> None:
        """Who may call without a password from now on. Raises ValueError for what is no address or network."""
        self._trunks = [
            (ipaddress.ip_network(network, strict=False), trunk.name)
            for trunk in trunks
            for network in trunk.networks
        ]
        self._trunk_of.clear()

    def targets(self, account: str) -> tuple[Target, ...]:
        """The live contacts of a phone account, newest first; empty when it is not registered."""
        held = sorted(self._registrar.of(account), key=lambda b: b.seen, reverse=True)
        return tuple(Target(b.uri, b.flow) for b in held)

    def registered(self) -> list[str]:
        """The accounts that have a live contact."""
        return self._registrar.accounts()

    def forget(self, account: str, now: float) -> None:
        """Drop every contact of an account (its password changed, its advisor is gone)."""
        self._registrar.forget(account)

    def registrations(self, account: str) -> tuple[Registration, ...]:
        """The contacts of an account that outlive this process, to be kept and given back to `restore`."""
        return self._registrar.registrations(account)

    def restore(self, kept: Iterable[Registration], now: float) -> None:
        """Take contacts back after a restart; PhoneRegistered follows for each that still holds."""
        self._registrar.restore(kept, now)

    def legs(self) -> tuple[str, ...]:
        """The legs that are not over."""
        return tuple(self._calls.legs)

    def sizes(self) -> dict[str, int]:
        """How much is held, for gauges and for tests of bounded memory."""
        return {
            "legs": len(self._calls.legs),
            "dialogs": len(self._calls.dialogs),
            "client_transactions": len(self._transactions.clients),
            "server_transactions": len(self._transactions.servers),
            "timers": len(self._wheel),
            "sources": len(self._sources),
        }

    def place(
        self,
        leg: str,
        targets: Sequence[Target],
        *,
        from_user: str,
        from_name: str = "",
        sdp: bytes,
        headers: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        ring_s: float = 60.0,
        now: float,
    ) -> None:
        """Invite every target at once; the first 200 wins. Ringing, then Answered or Ended follow."""
        self._calls.place(
            leg,
            targets,
            from_user=from_user,
            from_name=from_name,
            sdp=sdp,
            headers=headers or {},
            credentials=credentials,
            ring_s=ring_s,
            now=now,
        )

    def ring(self, leg: str, *, now: float) -> None:
        """180."""
        self._calls.ring(leg, now)

    def progress(self, leg: str, sdp: bytes, *, now: float) -> None:
        """183 with early media."""
        self._calls.progress(leg, sdp, now)

    def answer(self, leg: str, sdp: bytes, *, now: float) -> bool:
        """200 to an incoming leg; False when the leg is over already."""
        return self._calls.answer(leg, sdp, now)

    def reject(self, leg: str, status: int, *, headers: Mapping[str, str] | None = None, now: float) -> None:
        """A refusal to an incoming leg that is not answered; Ended (LOCAL) follows."""
        self._calls.reject(leg, status, headers, now)

    def end(self, leg: str, *, status: int = 480, reason: str = "", now: float) -> None:
        """CANCEL an outgoing unanswered leg, BYE one that is up, answer an incoming unanswered one with `status`."""
        self._calls.end(leg, status, reason, now)

    def reoffer(self, leg: str, sdp: bytes, *, now: float) -> None:
        """Re-INVITE (hold, resume); ReofferAnswered or ReofferRefused follows."""
        self._calls.reoffer(leg, sdp, now)

    def answer_reoffer(self, leg: str, sdp: bytes, *, now: float) -> None:
        self._calls.answer_reoffer(leg, sdp, now)

    def refuse_reoffer(self, leg: str, status: int = 488, *, now: float) -> None:
        self._calls.refuse_reoffer(leg, status, now)

    def enrol(
        self,
        name: str,
        registrar: Flow,
        *,
        domain: str,
        credentials: Credentials,
        expires_s: int = 300,
        now: float,
    ) -> None:
        """Register us at `registrar` and stay registered; Enrolled or EnrolmentFailed follow."""
        host, port = self.settings.host, self.settings.port
        tail = "" if registrar.transport == "udp" else f";transport={registrar.transport}"
        enrolment = Enrolment(
            name,
            registrar=registrar,
            domain=domain,
            credentials=credentials,
            contact=f"<sip:{credentials.user}@{host}:{port}{tail}>",
            agent=self.settings.agent,
            via=self._calls.via,
            new_id=self._new_id,
            transactions=self._transactions,
            wheel=self._wheel,
            events=self._events,
            expires_s=expires_s,
        )
        self._enrolments[name] = enrolment
        enrolment.start(now)

    def leave(self, name: str, *, now: float) -> None:
        """Give an enrolment back; Enrolled with 0 seconds follows."""
        enrolment = self._enrolments.pop(name, None)
        if enrolment is not None:
            enrolment.leave(now)

    def _response(self, message: Message, now: float) -> None:
        check(message)
        via = message.via
        transaction = self._transactions.clients.get((via.branch, message.cseq[1]))
        if transaction is None:
            self._count("stray_response")
            return
        status = message.status
        what = CLIENT_INPUTS[0 if status < 200 else 1 if status < 300 else 2]
        self._transactions.step(transaction, what, now, message=message)

    def _malformed(self, error: RemoteError, flow: Flow, now: float) -> None:
        """What cannot be read: its status if it can be answered at all, else silence."""
        self._count("malformed")
        message = error.message
        if message is None or message.status or not error.status or message.method == "ACK":
            return
        if "via" not in message.first or not self._may_ask(flow, now):
            return
        self._refuse(message, error.status, flow)

    def _request(self, request: Message, flow: Flow, now: float) -> None:
        check(request)
        key = server_key(request, flow)
        transaction = self._transactions.servers.get(key)
        method = request.method
        if method == "ACK":
            if transaction is not None and transaction.state is not S.ACCEPTED:
                self._transactions.step(transaction, I.ACK, now)
            else:
                self._calls.ack(request, now)
            return
        if transaction is not None:
            self._transactions.step(transaction, I.REQUEST, now)
            return
        if method == "CANCEL":
            self._cancel(request, key, flow, now)
            return
        if request.to_tag and method in KNOWN_METHODS:
            leg = self._calls.find(request)
            if leg is None:
                if self._may_ask(flow, now):
                    self._refuse(request, 481, flow)
                return
            self._in_dialog(leg, request, key, flow, now)
            return
        if not self._may_ask(flow, now):
            self._limited(request, flow, now)
            return
        if self._fit(request, flow):
            if method == "INVITE":
                self._invite(request, key, flow, now)
            elif method == "REGISTER":
                self._register(request, key, flow, now)
            else:  # OPTIONS
                self._count("options")
                self._refuse(request, 200, flow, (ALLOW, "Accept: application/sdp", "Supported: timer"))

    def _in_dialog(self, leg: Leg, request: Message, key: tuple[str, ...], flow: Flow, now: float) -> None:
        unknown = self._unknown_extensions(request)
        transaction = self._transactions.serve(key, flow, request)
        if unknown:
            self._calls.respond(transaction, request, 420, flow, now, (f"Unsupported: {unknown}",))
            return
        self._calls.heard(leg, request, transaction, flow, now)

    def _cancel(self, request: Message, key: tuple[str, ...], flow: Flow, now: float) -> None:
        invite = self._transactions.servers.get(tuple("INVITE" if part == "CANCEL" else part for part in key))
        if invite is None:
            self._refuse(request, 481, flow)
            return
        self._refuse(request, 200, flow)
        self._calls.cancelled(invite, now, printable(request.get("reason"))[:200])

    def _fit(self, request: Message, flow: Flow) -> bool:
        """Whether a request is one that we serve at all; says no otherwise. Reveals nothing about anybody."""
        method, first = request.method, request.first
        if request.uri[:4].lower() != "sip:" and request.uri[:5].lower() != "sips:":
            return self._no(request, 416, flow, "scheme")
        unknown = self._unknown_extensions(request)
        if unknown:
            return self._no(request, 420, flow, "extension", f"Unsupported: {unknown}")
        if method not in SERVED:
            if method not in KNOWN_METHODS:
                return self._no(request, 501, flow, "method", ALLOW)
            if method == "SUBSCRIBE":
                return self._no(request, 489, flow, "event", ALLOW)
            if method == "NOTIFY":
                return self._no(request, 481, flow, "method")
            return self._no(request, 405, flow, "method", ALLOW)
        if method in ("BYE", "UPDATE", "INFO"):
            return self._no(request, 481, flow, "no_dialog")
        if request.get("max-forwards", "70").lstrip("0") == "":
            return self._no(request, 483, flow, "hops")
        if method == "INVITE":
            kind = first.get("content-type", "").partition(";")[0].strip().lower()
            if request.body and kind != "application/sdp":
                return self._no(request, 415, flow, "body", "Accept: application/sdp")
            if first.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
                return self._no(request, 415, flow, "body", "Accept-Encoding: identity")
            accept = [a.partition(";")[0].strip() for a in request.tokens("accept")]
            if accept and not {"application/sdp", "application/*", "*/*"} & set(accept):
                return self._no(request, 406, flow, "body")
        return True

    def _unknown_extensions(self, request: Message) -> str:
        if "require" not in request.first:
            return ""
        asked = [e.strip() for value in request.all("require") for e in value.split(",")]
        return ", ".join(e for e in asked if e and e.lower() not in SUPPORTED)

    def _invite(self, request: Message, key: tuple[str, ...], flow: Flow, now: float) -> None:
        once = (request.call_id, request.from_tag, request.cseq[0])
        if once in self._seen[0] or once in self._seen[1]:
            self._no(request, 482, flow, "merged")  # the same request by another way (8.2.2.2)
            return
        if self.stopping or self._valve.refuse():
            self._no(
                request,
                503,
                flow,
                "stopping" if self.stopping else "overload",
                f"Retry-After: {RETRY_AFTER_S}",
            )
            return
        # a phone stays a phone, even on an address from which a trunk may call too
        trunk = None if self._registrar.came_from(flow) else self._trunk(flow.host)
        if trunk is not None:
            source = Source("trunk", trunk, f"{flow.host}:{flow.port};{flow.transport}")
            caller, name = self._caller(request)
        else:
            if not self._could_be_phone(request, flow):
                self._no(request, 403, flow, "stranger")
                return
            account = self._prove(request, flow, now)
            if account is None:
                return
            source = Source("phone", account, f"{flow.host}:{flow.port};{flow.transport}")
            caller, name = account, request.from_.display
        uri = parse_uri(request.uri)
        dialled = unescape(uri.user) if uri is not None else ""
        if not self._knows(dialled):
            self._no(request, 404, flow, "unknown_number")
            return
        if "session-expires" in request.first and self._calls.interval_too_small(request):
            self._no(request, 422, flow, "session", f"Min-SE: {self.settings.min_se_s}")
            return
        self._remember(once, now)
        self._count("invited")
        transaction = self._transactions.serve(key, flow, request)
        self._calls.invited(
            self._new_leg(),
            source,
            request,
            transaction,
            flow,
            dialled=dialled,
            caller=printable(caller),
            caller_name=printable(name),
            headers=self._carried(request, trusted=trunk is not None),
            now=now,
        )

    def _could_be_phone(self, request: Message, flow: Flow) -> bool:
        """Whether to ask for a password: the caller gives one, is registered from here, or claims our own domain.

        The same for known and unknown accounts; everybody else is a stranger.
        """
        if self._registrar.came_from(flow) or self._credentials(request) is not None:
            return True
        uri = parse_uri(request.from_.uri)
        return (
            uri is not None
            and uri.host.lower() in self._names
            and (uri.port in (0, self.settings.port))
            and bool(uri.user)
        )

    def _caller(self, request: Message) -> tuple[str, str]:
        """Number and name as a trusted trunk asserts them (RFC 3325), else as From says."""
        for element in request.elements("p-asserted-identity"):
            address = parse_address(element)
            if address is None:
                continue
            if address.uri[:4].lower() == "tel:":
                return address.uri[4:].partition(";")[0], address.display or request.from_.display
            uri = parse_uri(address.uri)
            if uri is not None and uri.user:
                return _subscriber(uri.user), address.display or request.from_.display
        from_ = request.from_
        if from_.uri[:4].lower() == "tel:":
            return from_.uri[4:].partition(";")[0], from_.display
        uri = parse_uri(from_.uri)
        return (_subscriber(uri.user) if uri is not None else ""), from_.display

    def _carried(self, request: Message, *, trusted: bool) -> dict[str, str]:
        """The headers that the record keeps; assertions only from a trusted trunk (row 20)."""
        out: dict[str, str] = {}
        for key in CARRIED + CARRIED_FROM_TRUNK if trusted else CARRIED:
            if key in request.first:
                out[key] = printable(", ".join(request.all(key)))[:4000]
        if trusted:
            for key, _, value in request.fields:
                if key.startswith("x-") and len(out) < 40:
                    out.setdefault(key, printable(value)[:1000])
        return out

    def _register(self, request: Message, key: tuple[str, ...], flow: Flow, now: float) -> None:
        self._count("register")
        to = parse_uri(request.to.uri)
        if to is None:
            raise RemoteError("To is no SIP address of record", 400, request)
        account = self._prove(request, flow, now)
        if account is None:
            return
        if unescape(to.user) != account:
            self._no(request, 403, flow, "foreign_account")
            return
        status = self._registrar.register(account, request, flow, now)
        if status == 200:
            headers = self._registrar.answer_lines(account, now)
        elif status == 423:
            headers = [f"Min-Expires: {self.settings.min_expires_s}"]
        else:
            headers = []
        transaction = self._transactions.serve(key, flow, request)
        self._calls.respond(transaction, request, status, flow, now, headers)

    def _credentials(self, request: Message) -> dict[str, str] | None:
        for key in ("authorization", "proxy-authorization"):
            for value in request.all(key):
                given = parse_credentials(value)
                if given is not None and given.get("realm") == self.settings.realm and given.get("username"):
                    return given
        return None

    def _prove(self, request: Message, flow: Flow, now: float) -> str | None:
        """The account that the request's digest proves; None when a challenge was sent instead."""
        given = self._credentials(request)
        if given is None:
            self._challenge(request, flow, now)
            return None
        user = given["username"]
        real = self._registrar.account_at(user, flow)
        if not real and self._guessing.held(user, flow.host, now):
            self._count("guess_unheard")
            self._challenge(request, flow, now)
            return None
        verdict = self._guard.judge(
            given, self._accounts.ha1(user), method=request.method, host=flow.host, now=now
        )
        if verdict is Verdict.RIGHT and _same_place(given.get("uri", ""), request.uri):
            self._guessing.succeeded(user, flow.host)
            return user
        if verdict is Verdict.WRONG:
            self._count("wrong_password")
            failures = self._guessing.failed(user, flow.host, now)
            if failures in (5, 10) or failures % 100 == 0:
                self._events.append(GuessingNoticed(flow.host, printable(user)[:100], failures))
        self._challenge(request, flow, now, stale=verdict is Verdict.STALE)
        return None

    def _challenge(self, request: Message, flow: Flow, now: float, *, stale: bool = False) -> None:
        self._count("challenged")
        first, second = self._guard.challenges(flow.host, now, stale=stale)
        headers = [f"WWW-Authenticate: {first}"]
        if not request.get("user-agent").startswith(MD5_ONLY):
            headers.append(f"WWW-Authenticate: {second}")
        self._refuse(request, 401, flow, headers)

    def _trunk(self, host: str) -> str | None:
        """The trunk that owns this address."""
        try:
            return self._trunk_of[host]
        except KeyError:
            pass
        found: str | None = None
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            address = None
        if address is not None:
            found = next((name for network, name in self._trunks if address in network), None)
        if len(self._trunk_of) > 10_000:
            self._trunk_of.clear()
        self._trunk_of[host] = found
        return found

    def _may_ask(self, flow: Flow, now: float) -> bool:
        """Whether this source still has its share; trunks and flows that a phone registered from always have."""
        return (
            self._trunk(flow.host) is not None
            or self._registrar.came_from(flow)
            or self._sources.take(flow.host, now)
        )

    def _limited(self, request: Message, flow: Flow, now: float) -> None:
        self._count("limited")
        if self._refusals.take(flow.host, now):
            self._refuse(request, 503, flow, (f"Retry-After: {RETRY_AFTER_S}",))

    def _remember(self, once: tuple[str, str, int], now: float) -> None:
        if now >= self._seen_until:
            self._seen = (set(), self._seen[0])
            self._seen_until = now + LONG_T1 * self.settings.t1_s
        self._seen[0].add(once)

    def _no(self, request: Message, status: int, flow: Flow, counter: str, *headers: str) -> bool:
        self._count(f"refused_{counter}")
        self._refuse(request, status, flow, headers)
        return False

    def _refuse(self, request: Message, status: int, flow: Flow, headers: Sequence[str] = ()) -> None:
        text = (request.call_id + "|" + request.get("via")).encode("utf-8", "surrogateescape")
        tag = hmac.new(self.settings.secret, text, "md5").hexdigest()[:16]
        self._out.append(
            (
                flow,
                response_bytes(
                    request,
                    status,
                    host=flow.host,
                    port=flow.port,
                    to_tag=tag,
                    headers=(*headers, self._server),
                ),
            )
        )

    def _count(self, what: str) -> None:
        self.counters[what] = self.counters.get(what, 0) + 1


def _subscriber(user: str) -> str:
    """The number in a user part, without the parameters of a telephone-subscriber (RFC 3261 19.1.6): `;verstat=…`."""
    return unescape(user.partition(";")[0])


def _same_place(a: str, b: str) -> bool:
    """Whether a digest's uri names the request's place; parameters and port may differ (pyVoIP adds a transport)."""
    if a == b:
        return True
    left, right = parse_uri(a), parse_uri(b)
    return (
        left is not None
        and right is not None
        and (left.user, left.host.lower()) == (right.user, right.host.lower())
    )
