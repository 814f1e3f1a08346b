"""Legs: one INVITE dialog each, incoming or outgoing, from its offer to its end.

A leg's life is a `Phase`; every leg that was announced ends with exactly one Ended. What is left to do on
the wire afterwards (a late 200, an unanswered BYE, a phone that ignores CANCEL) goes on without the leg's
name and is bounded by 64 T1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum

from softphone_bridge import digest, session
from softphone_bridge.dialog import Dialog, flow_of
from softphone_bridge.events import Cause, Source
from softphone_bridge.message import Message, new_branch, request_bytes, response_bytes
from softphone_bridge.parser import SERVED
from softphone_bridge.signals import (
    Acked,
    Answered,
    Credentials,
    Ended,
    Flow,
    InfoDigit,
    Invited,
    ReofferAnswered,
    Reoffered,
    ReofferRefused,
    Ringing,
    StackEvent,
    StackSettings,
    Target,
)
from softphone_bridge.timers import LONG_T1, Timer, Wheel
from softphone_bridge.transaction import I, S, Transaction, Transactions
from softphone_bridge.uri import printable, quoted

ALLOW = "Allow: " + ", ".join(SERVED)
GLARE_OURS_S = 2.5  # RFC 3261 14.1: 2.1 to 4 s for the owner of the Call-ID …
GLARE_THEIRS_S = 1.0  # … and 0 to 2 s for the other
REFRESH_AGAIN_S = 2.0  # ours: a refresh waits for another request of the dialog to be over


class Phase(IntEnum):
    OFFERED = 1  # incoming, unanswered
    ANSWERED = 2  # incoming, our 200 is out, no ACK yet
    CALLING = 3  # outgoing, unanswered
    UP = 4
    OVER = 5


class Nobody:
    """Owns transactions whose answer interests no one."""

    def answered(self, transaction: Transaction, response: Message | None, now: float) -> None:
        return


NOBODY = Nobody()


class Leg:
    """One dialog with its INVITE transactions and timers. Made and kept by Calls."""

    __slots__ = (
        "bye",
        "bye_on_ack",
        "calls",
        "credentials",
        "dialog",
        "early",
        "forks",
        "incoming",
        "invite",
        "local_sdp",
        "method_refresh",
        "name",
        "offer_in_ok",
        "ok",
        "ok_cseq",
        "ok_flow",
        "ok_interval_s",
        "ok_since",
        "ok_timer",
        "pending",
        "phase",
        "reinvite",
        "reinvite_ack",
        "reinvite_is_refresh",
        "reinvite_sdp",
        "remote_sdp",
        "request",
        "ring_timer",
        "session_timer",
        "tag",
        "terms",
        "want",
    )

    def __init__(self, calls: Calls, name: str, *, incoming: bool) -> None:
        self.calls = calls
        self.name = name
        self.incoming = incoming
        self.phase = Phase.OFFERED if incoming else Phase.CALLING
        self.dialog: Dialog | None = None
        self.tag = ""
        self.invite: Transaction | None = None
        self.request: Message | None = None
        self.forks: list[Fork] = []
        self.early = False  # a 18x is out or in
        self.credentials: Credentials | None = None
        self.local_sdp = b""
        self.remote_sdp = b""
        self.offer_in_ok = False
        self.ok = b""
        self.ok_flow: Flow | None = None
        self.ok_cseq = 0
        self.ok_interval_s = 0.0
        self.ok_since = 0.0
        self.ok_timer: Timer | None = None
        self.bye_on_ack: tuple[str, ...] | None = None
        self.bye: Transaction | None = None
        self.pending: Transaction | None = None  # their re-INVITE or UPDATE, waiting for our switch
        self.reinvite: Transaction | None = None  # our re-INVITE or UPDATE
        self.reinvite_ack = b""
        self.reinvite_sdp = b""
        self.reinvite_is_refresh = False
        self.method_refresh = "INVITE"
        self.want: bytes | None = None
        self.ring_timer: Timer | None = None
        self.session_timer: Timer | None = None
        self.terms = session.NO_TERMS

    def due(self, what: str, now: float) -> None:
        self.calls.due(self, what, now)

    def answered(self, transaction: Transaction, response: Message | None, now: float) -> None:
        self.calls.answered(self, transaction, response, now)


class Fork:
    """One INVITE of an outgoing leg, to one target."""

    __slots__ = (
        "acks",
        "branch",
        "cancelled",
        "cseq",
        "dialog",
        "final",
        "headers",
        "leg",
        "proven",
        "provisional",
        "reason",
        "transaction",
        "uri",
    )

    def __init__(self, leg: Leg, uri: str, dialog: Dialog) -> None:
        self.leg: Leg | None = leg
        self.uri = uri
        self.dialog = dialog
        self.branch = ""
        self.cseq = 0
        self.headers: list[str] = []
        self.transaction: Transaction | None = None
        self.provisional = False
        self.cancelled = False
        self.reason: list[str] = []
        self.final = 0
        self.proven = False
        self.acks: dict[str, bytes] = {}  # by To tag

    def answered(self, transaction: Transaction, response: Message | None, now: float) -> None:
        if self.leg is not None:
            self.leg.calls.fork_answered(self, response, now)


class Calls:
    """Every leg of a stack: the commands, the requests inside dialogs, the responses to our INVITEs."""

    def __init__(
        self,
        settings: StackSettings,
        transactions: Transactions,
        wheel: Wheel,
        new_id: Callable[[], str],
        events: list[StackEvent],
        counters: dict[str, int],
    ) -> None:
        self._settings = settings
        self._transactions = transactions
        self._wheel = wheel
        self._new_id = new_id
        self._events = events
        self._counters = counters
        self._out = transactions.out
        self.legs: dict[str, Leg] = {}
        self.dialogs: dict[str, Leg] = {}  # by our tag
        self._contact = {
            t: f"Contact: <sip:monofil@{_host(settings.host)}:{settings.port}"
            + ("" if t == "udp" else f";transport={t}")
            + ">"
            for t in ("udp", "tcp", "tls", "ws", "wss")
        }
        self._agent = f"User-Agent: {settings.agent}"
        self._server = f"Server: {settings.agent}"

    def invited(
        self,
        name: str,
        source: Source,
        request: Message,
        transaction: Transaction,
        flow: Flow,
        *,
        dialled: str,
        caller: str,
        caller_name: str,
        headers: Mapping[str, str],
        now: float,
    ) -> None:
        tag = self._new_id()
        leg = Leg(self, name, incoming=True)
        leg.tag = tag
        leg.dialog = Dialog.answering(request, tag, flow, trusted=source.kind == "trunk")
        leg.invite = transaction
        transaction.owner = leg
        leg.request = request
        leg.remote_sdp = request.body
        leg.terms = session.answer_terms(request, self._settings.session_expires_s)
        leg.method_refresh = "UPDATE" if "update" in request.tokens("allow") else "INVITE"
        transaction.request = None
        self.legs[name] = leg
        self.dialogs[tag] = leg
        trying = response_bytes(request, 100, host=flow.host, port=flow.port)
        self._transactions.step(transaction, I.SEND_1XX, now, trying)
        self._events.append(
            Invited(
                leg=name,
                source=source,
                dialled=dialled,
                caller=caller,
                caller_name=caller_name,
                sip_call_id=printable(request.call_id),
                sdp=request.body,
                headers=headers,
            )
        )

    def of_invite(self, transaction: Transaction) -> Leg | None:
        """The leg that this INVITE made, or re-invited."""
        owner = transaction.owner
        return owner if isinstance(owner, Leg) else None

    def interval_too_small(self, request: Message) -> bool:
        return session.too_small(request, self._settings.min_se_s)

    def cancelled(self, transaction: Transaction, now: float, reason: str) -> None:
        """A CANCEL met this INVITE, new or inside a dialog."""
        leg = self.of_invite(transaction)
        if leg is None:
            return
        if leg.pending is transaction:
            self.refuse_reoffer(leg.name, 487, now)
        elif leg.phase is Phase.OFFERED:
            self._final(leg, 487, now)
            self._over(leg, Cause.CANCELLED, 487, reason)

    def ring(self, name: str, now: float) -> None:
        leg = self.legs.get(name)
        if leg is not None and leg.phase is Phase.OFFERED:
            self._provisional(leg, 180, b"", now)

    def progress(self, name: str, sdp: bytes, now: float) -> None:
        leg = self.legs.get(name)
        if leg is not None and leg.phase is Phase.OFFERED:
            self._provisional(leg, 183, sdp, now)

    def _provisional(self, leg: Leg, status: int, sdp: bytes, now: float) -> None:
        assert leg.request is not None
        assert leg.dialog is not None
        assert leg.invite is not None
        flow = leg.dialog.flow
        data = response_bytes(
            leg.request,
            status,
            host=flow.host,
            port=flow.port,
            to_tag=leg.tag,
            headers=(self._contact[flow.transport], ALLOW, self._server),
            body=sdp,
        )
        leg.early = True
        self._transactions.step(leg.invite, I.SEND_1XX, now, data)

    def answer(self, name: str, sdp: bytes, now: float) -> bool:
        leg = self.legs.get(name)
        if leg is None or leg.phase is not Phase.OFFERED:
            return False
        assert leg.request is not None
        assert leg.dialog is not None
        assert leg.invite is not None
        request, flow = leg.request, leg.dialog.flow
        leg.local_sdp = sdp
        leg.offer_in_ok = not leg.remote_sdp
        leg.phase = Phase.ANSWERED
        data = self._ok(leg, request, flow, sdp, to_tag=leg.tag)
        self._transactions.step(leg.invite, I.SEND_2XX, now, data)
        self._watch_ok(leg, data, flow, request.cseq[0], now)
        leg.request = None
        return True

    def _ok(self, leg: Leg, request: Message, flow: Flow, sdp: bytes, *, to_tag: str = "") -> bytes:
        """The 200 to an INVITE or UPDATE, with the session timer agreed on."""
        return response_bytes(
            request,
            200,
            host=flow.host,
            port=flow.port,
            to_tag=to_tag,
            headers=(
                self._contact[flow.transport],
                ALLOW,
                "Supported: timer",
                *session.answer_lines(leg.terms),
                self._server,
            ),
            body=sdp,
        )

    def _watch_ok(self, leg: Leg, data: bytes, flow: Flow, cseq: int, now: float) -> None:
        """Resend a 200 until its ACK (13.3.1.4); over a stream only the wait is kept."""
        if leg.ok_timer is not None:
            leg.ok_timer.cancel()
        leg.ok, leg.ok_flow, leg.ok_cseq, leg.ok_since = data, flow, cseq, now
        leg.ok_interval_s = self._settings.t1_s
        leg.ok_timer = self._wheel.set(now + leg.ok_interval_s, leg, "ok")

    def reject(self, name: str, status: int, headers: Mapping[str, str] | None, now: float) -> None:
        leg = self.legs.get(name)
        if leg is None or leg.phase is not Phase.OFFERED:
            return
        self._final(leg, status, now, [f"{k}: {v}" for k, v in (headers or {}).items()])
        self._over(leg, Cause.LOCAL, status)

    def _final(self, leg: Leg, status: int, now: float, headers: Sequence[str] = ()) -> None:
        if leg.request is None or leg.invite is None or leg.dialog is None:
            return
        flow = leg.dialog.flow
        data = response_bytes(
            leg.request,
            status,
            host=flow.host,
            port=flow.port,
            to_tag=leg.tag,
            headers=(*headers, self._server),
        )
        self._transactions.step(leg.invite, I.SEND_3TO6, now, data)

    def place(
        self,
        name: str,
        targets: Sequence[Target],
        *,
        from_user: str,
        from_name: str,
        sdp: bytes,
        headers: Mapping[str, str],
        credentials: Credentials | None,
        ring_s: float,
        now: float,
    ) -> None:
        assert name not in self.legs, f"leg {name} exists"
        leg = Leg(self, name, incoming=False)
        leg.local_sdp = sdp
        leg.credentials = credentials
        self.legs[name] = leg
        display = f"{quoted(from_name)} " if from_name else ""
        user = "".join(c for c in from_user if c.isalnum() or c in "+-_.!~*'()&=$,;?/%#") or "anonymous"
        user = user.replace("#", "%23")
        extra = [f"{k}: {_clean(v)}" for k, v in headers.items()]
        for target in targets:
            flow = target.flow
            named = flow_of(target.uri)
            if flow is None or (named is not None and flow[:2] == named[:2] == ("udp", flow.host)):
                flow = named  # a phone that is where its Contact says
            if flow is None or not _sendable(flow):
                continue
            tag = self._new_id()
            dialog = Dialog(
                call_id=self._new_id(),
                local=f"{display}<sip:{user}@{_host(self._settings.host)}>;tag={tag}",
                local_tag=tag,
                remote=f"<{target.uri}>",
                remote_tag="",
                target=target.uri,
                routes=[],
                flow=flow,
                trusted=target.flow is None,
            )
            fork = Fork(leg, target.uri, dialog)
            fork.headers = extra
            leg.forks.append(fork)
        if not leg.forks:
            self._over(leg, Cause.FAILED, 0, "no target can be reached")
            return
        for fork in leg.forks:
            self._invite(fork, now)
        leg.ring_timer = self._wheel.set(now + ring_s, leg, "ring")

    def _invite(self, fork: Fork, now: float, proof: str = "", min_se: int = 0) -> None:
        dialog, leg, settings = fork.dialog, fork.leg, self._settings
        assert leg is not None
        dialog.local_cseq += 1
        fork.branch = new_branch(self._new_id())
        fork.provisional = False
        flow = dialog.flow
        via = self.via(flow, fork.branch)
        lines = [
            via,
            "Max-Forwards: 70",
            f"From: {dialog.local}",
            f"To: {dialog.remote}",
            f"Call-ID: {dialog.call_id}",
            f"CSeq: {dialog.local_cseq} INVITE",
            self._contact[flow.transport],
            ALLOW,
            "Supported: timer",
            self._agent,
        ]
        if settings.session_expires_s:
            lines.append(f"Session-Expires: {max(settings.session_expires_s, min_se)}")
            lines.append(f"Min-SE: {max(settings.min_se_s, min_se)}")
        if proof:
            lines.append(proof)
        lines += fork.headers
        data = request_bytes(f"INVITE {fork.uri} SIP/2.0", lines, leg.local_sdp)
        head = (via, "Max-Forwards: 70", f"From: {dialog.local}", f"Call-ID: {dialog.call_id}")
        start, cseq = f"ACK {fork.uri} SIP/2.0", f"CSeq: {dialog.local_cseq} ACK"

        def ack(response: Message) -> bytes:
            return request_bytes(start, (*head, f"To: {response.get('to')}", cseq))

        fork.transaction = self._transactions.ask("INVITE", fork.branch, flow, data, fork, now, ack)

    def fork_answered(self, fork: Fork, response: Message | None, now: float) -> None:
        leg = fork.leg
        assert leg is not None
        if response is None:
            fork.final = fork.final or 408
            self._fork_failed(leg, fork, now, silent=not fork.provisional)
            return
        status = response.status
        if status < 200:
            fork.provisional = True
            if fork.cancelled:
                self._send_cancel(fork, now)
            elif status > 100 and leg.phase is Phase.CALLING:
                leg.early = True
                self._events.append(Ringing(leg.name, status, response.body))
        elif status < 300:
            self._fork_accepted(leg, fork, response, now)
        else:
            fork.final = status
            if self._retry(leg, fork, response, now):
                return
            self._fork_failed(leg, fork, now, reason=printable(response.reason)[:200])

    def _fork_accepted(self, leg: Leg, fork: Fork, response: Message, now: float) -> None:
        tag = response.to_tag
        ack = fork.acks.get(tag)
        if ack is not None:
            flow, data = fork.dialog.flow, ack
            self._out.append((flow, data))
            return
        wanted = leg.phase is Phase.CALLING and not fork.cancelled
        dialog = fork.dialog
        if not wanted and fork.acks:  # a second branch behind a proxy: a dialog of its own
            dialog = Dialog(
                call_id=dialog.call_id,
                local=dialog.local,
                local_tag=dialog.local_tag,
                remote="",
                remote_tag="",
                target=dialog.target,
                routes=[],
                flow=dialog.flow,
                local_cseq=dialog.local_cseq,
                trusted=dialog.trusted,
            )
        dialog.take_response(response)
        dialog.flow = dialog.next_hop()
        ack = self._in_dialog_bytes(dialog, "ACK", dialog.local_cseq)
        fork.acks[tag] = ack
        self._out.append((dialog.flow, ack))
        if not wanted:
            self._counters["late_200"] = self._counters.get("late_200", 0) + 1
            self._request(dialog, "BYE", NOBODY, now, ('Reason: SIP;cause=487;text="Too late"',))
            return
        leg.phase = Phase.UP
        leg.dialog = dialog
        leg.tag = dialog.local_tag
        leg.remote_sdp = response.body
        leg.method_refresh = "UPDATE" if "update" in response.tokens("allow") else "INVITE"
        self.dialogs[leg.tag] = leg
        if leg.ring_timer is not None:
            leg.ring_timer.cancel()
            leg.ring_timer = None
        for other in leg.forks:
            if other is not fork:
                self._cancel(other, now, ('Reason: SIP;cause=200;text="Call completed elsewhere"',))
        leg.forks = []
        self._agree(leg, session.answered_terms(response, self._settings.session_expires_s), now)
        self._events.append(Answered(leg.name, response.body, fork.uri))

    def _retry(self, leg: Leg, fork: Fork, response: Message, now: float) -> bool:
        """A second try, once: with credentials for their own realm (row 16), or with the longer session they want."""
        if leg.phase is not Phase.CALLING or fork.cancelled or fork.proven:
            return False
        status = response.status
        if status == 422:
            least, _ = session.asked(response, "min-se")
            if least > self._settings.min_se_s:
                fork.proven = True
                self._invite(fork, now, min_se=least)
                return True
        if status in (401, 407) and leg.credentials is not None:
            key = "www-authenticate" if status == 401 else "proxy-authenticate"
            challenge = digest.choose(response.all(key))
            if challenge is None or challenge["realm"] != leg.credentials.realm:
                return False
            value = digest.authorization(
                challenge,
                user=leg.credentials.user,
                password=leg.credentials.password,
                method="INVITE",
                uri=fork.uri,
                cnonce=self._new_id(),
            )
            fork.proven = True
            self._invite(fork, now, ("Authorization: " if status == 401 else "Proxy-Authorization: ") + value)
            return True
        return False

    def _fork_failed(
        self, leg: Leg, fork: Fork, now: float, *, reason: str = "", silent: bool = False
    ) -> None:
        fork.transaction = None
        if leg.phase is not Phase.CALLING or fork.cancelled:
            return
        if fork.final >= 600:
            for other in leg.forks:
                if other is not fork:
                    self._cancel(other, now, ())
            self._over(leg, Cause.REJECTED, fork.final, reason)
            return
        if any(not other.final for other in leg.forks):
            return
        answers = [other.final for other in leg.forks if other.final != 408] or [408]
        best = min(answers, key=lambda s: (s in (401, 407, 415, 420, 484), s == 503, s))
        if best == 408 and (silent or fork.final == 408):
            self._over(leg, Cause.NO_ANSWER, 408, "no answer")
        else:
            self._over(leg, Cause.REJECTED, best, reason)

    def _cancel(self, fork: Fork, now: float, reason: Sequence[str]) -> None:
        if fork.cancelled or fork.final:
            return
        fork.cancelled = True
        fork.reason = list(reason)
        if fork.provisional:
            self._send_cancel(fork, now)

    def _send_cancel(self, fork: Fork, now: float) -> None:
        transaction, dialog = fork.transaction, fork.dialog
        if transaction is None or transaction.state is not S.PROCEEDING or fork.final:
            return
        fork.final = 487
        lines = (
            self.via(dialog.flow, fork.branch),
            "Max-Forwards: 70",
            f"From: {dialog.local}",
            f"To: {dialog.remote}",
            f"Call-ID: {dialog.call_id}",
            f"CSeq: {dialog.local_cseq} CANCEL",
            *fork.reason,
        )
        data = request_bytes(f"CANCEL {fork.uri} SIP/2.0", lines)
        self._transactions.ask("CANCEL", fork.branch, dialog.flow, data, NOBODY, now)
        self._transactions.give_up(transaction, LONG_T1 * self._settings.t1_s, now)

    def end(self, name: str, status: int, reason: str, now: float) -> None:
        leg = self.legs.get(name)
        if leg is None:
            return
        why = (f'Reason: SIP;cause={status};text="{_clean(reason)}"',) if reason else ()
        if leg.phase is Phase.OFFERED:
            self._final(leg, status, now, why)
        elif leg.phase is Phase.CALLING:
            for fork in leg.forks:
                self._cancel(fork, now, why)
        elif leg.phase is Phase.ANSWERED:
            leg.bye_on_ack = why  # a caller's BYE may not pass its ACK (RFC 3261 15)
        else:
            self._bye(leg, now, why)
        self._over(leg, Cause.LOCAL, status, reason)

    def _bye(self, leg: Leg, now: float, headers: Sequence[str] = ()) -> None:
        assert leg.dialog is not None
        if leg.bye is None:
            leg.bye = self._request(leg.dialog, "BYE", leg, now, headers)

    def _over(self, leg: Leg, cause: Cause, status: int = 0, reason: str = "") -> None:
        """Say Ended, once; stop the clocks that belong to a living leg."""
        if self.legs.get(leg.name) is not leg:
            return
        del self.legs[leg.name]
        for timer in (leg.ring_timer, leg.session_timer):
            if timer is not None:
                timer.cancel()
        leg.ring_timer = leg.session_timer = None
        leg.forks = []  # each fork still knows the leg; the leg need not know them
        if leg.phase is not Phase.ANSWERED:
            if leg.phase in (Phase.OFFERED, Phase.CALLING):
                self.dialogs.pop(leg.tag, None)
            self._stop_ok(leg)
            leg.phase = Phase.OVER
        leg.want = None
        self._events.append(Ended(leg.name, cause, status, reason))

    def _stop_ok(self, leg: Leg) -> None:
        if leg.ok_timer is not None:
            leg.ok_timer.cancel()
            leg.ok_timer = None
        leg.ok = b""

    def _bury(self, leg: Leg) -> None:
        """Nothing more is expected of this dialog."""
        self._stop_ok(leg)
        leg.phase = Phase.OVER
        self.dialogs.pop(leg.tag, None)
        leg.bye = leg.invite = leg.reinvite = leg.pending = leg.request = None
        leg.forks = []

    def due(self, leg: Leg, what: str, now: float) -> None:
        if what == "ok":
            self._ok_due(leg, now)
        elif what == "ring":
            if leg.phase is Phase.CALLING:
                for fork in leg.forks:
                    self._cancel(fork, now, ())
                self._over(leg, Cause.NO_ANSWER, 408, "no answer in time")
        elif what == "refresh":
            self._refresh(leg, now)
        elif what == "dead":
            if leg.phase is Phase.UP:
                self._bye(leg, now, ('Reason: SIP;cause=408;text="Session expired"',))
                self._over(leg, Cause.EXPIRED, 408, "session expired")
        elif what == "glare" and leg.phase is Phase.UP and leg.want is not None and leg.reinvite is None:
            sdp, leg.want = leg.want, None
            self._reinvite(leg, sdp, now)

    def _ok_due(self, leg: Leg, now: float) -> None:
        if not leg.ok or leg.ok_flow is None:
            return
        settings = self._settings
        if now - leg.ok_since >= LONG_T1 * settings.t1_s:
            self._stop_ok(leg)
            if leg.phase is Phase.ANSWERED or self.legs.get(leg.name) is leg:
                self._bye(leg, now, ('Reason: SIP;cause=408;text="No ACK"',))
                if leg.phase is Phase.ANSWERED:
                    leg.phase = Phase.UP
                self._over(leg, Cause.NO_ACK, 408, "our 200 was never acknowledged")
            return
        if leg.ok_flow.transport == "udp":
            self._out.append((leg.ok_flow, leg.ok))
        leg.ok_interval_s = min(leg.ok_interval_s * 2, settings.t2_s)
        last = leg.ok_since + LONG_T1 * settings.t1_s
        leg.ok_timer = self._wheel.set(min(now + leg.ok_interval_s, last), leg, "ok")

    def _agree(self, leg: Leg, terms: session.Terms, now: float) -> None:
        leg.terms = terms
        if leg.session_timer is not None:
            leg.session_timer.cancel()
            leg.session_timer = None
        if terms.interval_s:
            after = terms.refresh_after_s if terms.we_refresh else terms.dead_after_s
            leg.session_timer = self._wheel.set(now + after, leg, "refresh" if terms.we_refresh else "dead")

    def _refresh(self, leg: Leg, now: float) -> None:
        if leg.phase is not Phase.UP:
            return
        if leg.reinvite is not None or leg.pending is not None or leg.ok:
            leg.session_timer = self._wheel.set(now + REFRESH_AGAIN_S, leg, "refresh")
            return
        if leg.method_refresh == "INVITE":
            self._reinvite(leg, leg.local_sdp, now, refresh=True)
            return
        assert leg.dialog is not None
        leg.reinvite_is_refresh = True
        leg.reinvite = self._request(
            leg.dialog,
            "UPDATE",
            leg,
            now,
            (
                self._contact[leg.dialog.flow.transport],
                "Supported: timer",
                f"Session-Expires: {leg.terms.interval_s};refresher=uac",
            ),
        )

    def reoffer(self, name: str, sdp: bytes, now: float) -> None:
        leg = self.legs.get(name)
        if leg is None:
            return
        if leg.phase is not Phase.UP:
            self._events.append(ReofferRefused(name, 491))
        elif leg.reinvite is not None or leg.pending is not None or leg.ok:
            leg.want = sdp
        else:
            self._reinvite(leg, sdp, now)

    def _reinvite(self, leg: Leg, sdp: bytes, now: float, *, refresh: bool = False) -> None:
        assert leg.dialog is not None
        leg.reinvite_sdp = sdp
        leg.reinvite_is_refresh = refresh
        leg.reinvite_ack = b""
        lines = [self._contact[leg.dialog.flow.transport], ALLOW, "Supported: timer"]
        if leg.terms.interval_s:
            who = "uac" if leg.terms.we_refresh else "uas"
            lines.append(f"Session-Expires: {leg.terms.interval_s};refresher={who}")
        leg.reinvite = self._request(leg.dialog, "INVITE", leg, now, lines, sdp)

    def answered(self, leg: Leg, transaction: Transaction, response: Message | None, now: float) -> None:
        """A response to our BYE, re-INVITE or UPDATE (None: none came)."""
        if transaction is leg.bye:
            self._bury(leg)  # whatever it says: a 401 or 407 to a BYE is no reason to prove anything (row 16)
            return
        if response is not None and response.status < 200:
            return
        if transaction is not leg.reinvite:
            if response is not None and response.status < 300 and leg.reinvite_ack and leg.dialog is not None:
                self._out.append((leg.dialog.flow, leg.reinvite_ack))  # our ACK was lost
            return
        dialog = leg.dialog
        assert dialog is not None
        invite = transaction.kind.invite
        leg.reinvite = None
        status = 408 if response is None else response.status
        if response is not None and status < 300:
            dialog.refresh(response)
            if invite:
                leg.reinvite_ack = self._in_dialog_bytes(dialog, "ACK", dialog.local_cseq)
                self._out.append((dialog.flow, leg.reinvite_ack))
            if leg.phase is not Phase.UP:
                return
            told = leg.terms.told
            terms = session.answered_terms(response, leg.terms.interval_s)
            self._agree(leg, terms if terms.told or not told else leg.terms, now)
            if invite:
                leg.local_sdp = leg.reinvite_sdp
                if response.body:
                    leg.remote_sdp = response.body
                if not leg.reinvite_is_refresh:
                    self._events.append(ReofferAnswered(leg.name, response.body))
        elif leg.phase is Phase.UP:
            self._reoffer_failed(leg, status, invite, now)
        self._go_on(leg, now)

    def _reoffer_failed(self, leg: Leg, status: int, invite: bool, now: float) -> None:
        if status in (408, 481):  # the dialog is gone (12.2.1.2)
            self._bye(leg, now, (f"Reason: SIP;cause={status}",))
            self._over(leg, Cause.EXPIRED, status, "the far side no longer answers")
        elif status == 491:
            ours = not leg.incoming
            if not leg.reinvite_is_refresh:
                leg.want = leg.reinvite_sdp
                self._wheel.set(now + (GLARE_OURS_S if ours else GLARE_THEIRS_S), leg, "glare")
            else:
                leg.session_timer = self._wheel.set(now + GLARE_OURS_S, leg, "refresh")
        elif leg.reinvite_is_refresh:
            if not invite and status in (405, 501):
                leg.method_refresh = "INVITE"
                self._refresh(leg, now)
            else:  # it answered: it lives
                self._agree(leg, leg.terms, now)
        else:
            self._events.append(ReofferRefused(leg.name, status))

    def _go_on(self, leg: Leg, now: float) -> None:
        if (
            leg.phase is Phase.UP
            and leg.want is not None
            and leg.reinvite is leg.pending is None
            and not leg.ok
        ):
            self._wheel.set(now, leg, "glare")

    def _request(
        self,
        dialog: Dialog,
        method: str,
        owner: Leg | Nobody,
        now: float,
        headers: Sequence[str] = (),
        body: bytes = b"",
    ) -> Transaction:
        dialog.local_cseq += 1
        branch = new_branch(self._new_id())
        flow = dialog.next_hop()
        data = self._in_dialog_bytes(dialog, method, dialog.local_cseq, branch, headers, body)
        ack: Callable[[Message], bytes] | None = None
        if method == "INVITE":
            cseq = dialog.local_cseq

            def ack(response: Message) -> bytes:
                return self._in_dialog_bytes(dialog, "ACK", cseq, branch)

        return self._transactions.ask(method, branch, flow, data, owner, now, ack)

    def _in_dialog_bytes(
        self,
        dialog: Dialog,
        method: str,
        cseq: int,
        branch: str = "",
        headers: Sequence[str] = (),
        body: bytes = b"",
    ) -> bytes:
        lines = [
            self.via(dialog.flow, branch or new_branch(self._new_id())),
            "Max-Forwards: 70",
            f"From: {dialog.local}",
            f"To: {dialog.remote}",
            f"Call-ID: {dialog.call_id}",
            f"CSeq: {cseq} {method}",
            self._agent,
        ]
        if dialog.routes:
            lines += [f"Route: {route}" for route in dialog.routes]
        lines += headers
        return request_bytes(f"{method} {dialog.target} SIP/2.0", lines, body)

    def via(self, flow: Flow, branch: str) -> str:
        settings = self._settings
        return f"Via: SIP/2.0/{flow.transport.upper()} {_host(settings.host)}:{settings.port};branch={branch};rport"

    def find(self, request: Message) -> Leg | None:
        leg = self.dialogs.get(request.to_tag)
        if leg is None or leg.dialog is None or not leg.dialog.matches(request):
            return None
        return leg

    def ack(self, request: Message, now: float) -> None:
        """An ACK to one of our 200s."""
        leg = self.find(request)
        if leg is None or not leg.ok or request.cseq[0] != leg.ok_cseq:
            return
        self._stop_ok(leg)
        if leg.phase is Phase.ANSWERED:
            leg.phase = Phase.UP
            if leg.bye_on_ack is not None:
                self._bye(leg, now, leg.bye_on_ack)
                return
            if leg.offer_in_ok:
                leg.remote_sdp = request.body
            self._agree(leg, leg.terms, now)
            self._events.append(Acked(leg.name, request.body if leg.offer_in_ok else b""))
        elif leg.phase is Phase.UP and leg.offer_in_ok and request.body:
            leg.remote_sdp = request.body
            self._events.append(ReofferAnswered(leg.name, request.body))
        leg.offer_in_ok = False
        self._go_on(leg, now)

    def heard(self, leg: Leg, request: Message, transaction: Transaction, flow: Flow, now: float) -> None:
        """A request inside the dialog of `leg`, new to the transactions."""
        dialog = leg.dialog
        assert dialog is not None
        number = request.cseq[0]
        if number <= dialog.remote_cseq:
            self._counters["cseq_abuse"] = self._counters.get("cseq_abuse", 0) + 1
            self.respond(transaction, request, 500, flow, now, ("Retry-After: 1",))
            return
        dialog.remote_cseq = number
        if flow.transport != "udp" or not dialog.trusted:
            dialog.flow = flow
        method = request.method
        if method == "BYE":
            self._heard_bye(leg, request, transaction, flow, now)
        elif method in ("INVITE", "UPDATE"):
            self._heard_offer(leg, request, transaction, flow, now)
        elif method == "INFO":
            self._heard_info(leg, request, transaction, flow, now)
        elif method == "OPTIONS":
            self.respond(
                transaction, request, 200, flow, now, (ALLOW, "Accept: application/sdp", "Supported: timer")
            )
        else:
            self.respond(transaction, request, 405, flow, now, (ALLOW,))

    def _heard_bye(
        self, leg: Leg, request: Message, transaction: Transaction, flow: Flow, now: float
    ) -> None:
        self.respond(transaction, request, 200, flow, now)
        if leg.pending is not None and leg.pending.request is not None:
            self.respond(leg.pending, leg.pending.request, 487, leg.pending.flow, now)
        if leg.phase is Phase.OFFERED:
            self._final(leg, 487, now)
        self._over(leg, Cause.HANGUP, 0, printable(request.get("reason"))[:200])
        if leg.bye is None:
            self._bury(leg)

    def _heard_offer(
        self, leg: Leg, request: Message, transaction: Transaction, flow: Flow, now: float
    ) -> None:
        invite = request.method == "INVITE"
        if leg.phase in (Phase.OFFERED, Phase.CALLING) or leg.pending is not None or (invite and leg.ok):
            self.respond(transaction, request, 500, flow, now, ("Retry-After: 2",))
            return
        if leg.phase is Phase.OVER:
            self.respond(transaction, request, 481, flow, now)
            return
        if session.too_small(request, self._settings.min_se_s):
            self.respond(transaction, request, 422, flow, now, (f"Min-SE: {self._settings.min_se_s}",))
            return
        if leg.reinvite is not None and (request.body or invite):
            self.respond(transaction, request, 491, flow, now)
            return
        kind = request.get("content-type").partition(";")[0].strip().lower()
        if request.body and kind != "application/sdp":
            self.respond(transaction, request, 415, flow, now, ("Accept: application/sdp",))
            return
        assert leg.dialog is not None
        leg.dialog.refresh(request)
        leg.pending = transaction
        transaction.owner = leg
        transaction.request = request
        terms = session.answer_terms(request, self._settings.session_expires_s)
        if not terms.told and not leg.terms.told:
            terms = leg.terms
        if leg.phase is Phase.UP:
            self._agree(leg, terms, now)
        if not invite and not request.body:
            self._accept_offer(leg, b"", now)
        elif request.body and request.body == leg.remote_sdp:
            self._accept_offer(leg, leg.local_sdp, now)
        else:
            if invite:
                trying = response_bytes(request, 100, host=flow.host, port=flow.port)
                self._transactions.step(transaction, I.SEND_1XX, now, trying)
            leg.offer_in_ok = not request.body
            self._events.append(Reoffered(leg.name, request.body))

    def answer_reoffer(self, name: str, sdp: bytes, now: float) -> None:
        leg = self.legs.get(name)
        if leg is not None and leg.pending is not None:
            self._accept_offer(leg, sdp, now)

    def refuse_reoffer(self, name: str, status: int, now: float) -> None:
        leg = self.legs.get(name)
        if leg is None or leg.pending is None or leg.pending.request is None:
            return
        pending, leg.pending = leg.pending, None
        leg.offer_in_ok = False
        assert pending.request is not None
        self.respond(pending, pending.request, status, pending.flow, now)
        self._go_on(leg, now)

    def _accept_offer(self, leg: Leg, sdp: bytes, now: float) -> None:
        pending, leg.pending = leg.pending, None
        assert pending is not None
        assert pending.request is not None
        request, flow = pending.request, pending.flow
        if request.body:
            leg.remote_sdp = request.body
        if sdp:
            leg.local_sdp = sdp
        data = self._ok(leg, request, flow, sdp)
        self._transactions.step(pending, I.SEND_2XX, now, data)
        if pending.kind.invite:
            self._watch_ok(leg, data, flow, request.cseq[0], now)
        else:
            self._go_on(leg, now)

    def _heard_info(
        self, leg: Leg, request: Message, transaction: Transaction, flow: Flow, now: float
    ) -> None:
        kind = request.get("content-type").partition(";")[0].strip().lower()
        if kind in ("application/dtmf-relay", "application/dtmf"):
            digit, duration = _digit(request.body)
            if digit:
                self.respond(transaction, request, 200, flow, now)
                if self.legs.get(leg.name) is leg:
                    self._events.append(InfoDigit(leg.name, digit, duration))
            else:
                self.respond(transaction, request, 400, flow, now)
        elif not request.body:
            self.respond(transaction, request, 200, flow, now)
        else:
            self.respond(transaction, request, 415, flow, now, ("Accept: application/dtmf-relay",))

    def respond(
        self,
        transaction: Transaction,
        request: Message,
        status: int,
        flow: Flow,
        now: float,
        headers: Sequence[str] = (),
    ) -> None:
        data = response_bytes(
            request, status, host=flow.host, port=flow.port, headers=(*headers, self._server)
        )
        what = I.SEND_2XX if status < 300 else I.SEND_3TO6
        self._transactions.step(transaction, what, now, data)


def _digit(body: bytes) -> tuple[str, int]:
    """The digit and its length in ms of a dtmf-relay or dtmf body; "" when there is none."""
    text = body[:200].decode("ascii", "replace")
    signal, duration = "", 160
    for line in text.replace("\r", "\n").split("\n"):
        key, equals, value = line.partition("=")
        value = value.strip()
        if not equals:
            signal = signal or key.strip()
        elif key.strip().lower() == "signal":
            signal = value
        elif key.strip().lower() == "duration" and value.isdigit():
            duration = min(int(value[:6]), 10_000)
    signal = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}.get(signal, signal.upper())
    if len(signal) != 1 or signal not in "0123456789*#ABCD":
        return "", 0
    return signal, duration


def _clean(text: str) -> str:
    return "".join(c for c in text if c >= " " and c not in '"\\\x7f')


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _sendable(flow: Flow) -> bool:
    return bool(flow.host) and 0 < flow.port < 65536
