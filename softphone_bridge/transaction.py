"""The four transactions of SIP (RFC 3261 17, RFC 6026) as tables, with the layer that matches messages to them.

Rule 1: every change of state is a row of a table; a pair that is in no table and not in IGNORED is our own mistake.
Rule 2: this file does not know what a call is: it resends, acknowledges refusals, and tells its owner the rest.
Rule 3: over a reliable transport nothing is resent and the waits for stray copies are none.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from softphone_bridge.message import LocalError, Message
from softphone_bridge.timers import LONG_T1, Timer, Wheel

if TYPE_CHECKING:
    from softphone_bridge.signals import Flow


class S(IntEnum):
    """States."""

    CALLING = 1
    TRYING = 2
    PROCEEDING = 3
    COMPLETED = 4
    CONFIRMED = 5
    ACCEPTED = 6
    TERMINATED = 7


class I(IntEnum):  # noqa: E742
    """Inputs: what arrives, what the owner sends, what falls due."""

    REQUEST = 1  # the request again
    ACK = 2
    SEND_1XX = 3
    SEND_2XX = 4
    SEND_3TO6 = 5
    RECEIVE_1XX = 6
    RECEIVE_2XX = 7
    RECEIVE_3TO6 = 8
    RESEND = 9  # timers A, E, G
    TIMEOUT = 10  # timers B, F, H
    LINGER = 11  # timers D, I, J, K, L, M


class A(IntEnum):
    """Actions."""

    SEND = 1  # what the owner gave
    SEND_LAST = 2  # the last message again
    SEND_LAST_SLOWER = 3  # again, and double the interval
    ACK = 4  # acknowledge a refusal
    TELL = 5  # the owner hears the message
    TELL_TIMEOUT = 6
    LINGER = 7  # wait for stray copies (D, I, J, K)
    LINGER_LONG = 8  # 64 T1 whatever the transport (L, M)
    RESEND_SOON = 9  # start timer G
    WATCH = 10  # start timer H
    STOP_RESEND = 11
    STOP_TIMEOUT = 12


Table = dict[tuple[S, I], tuple[S, tuple[A, ...]]]
Ignored = dict[tuple[S, I], str]

INVITE_SERVER: Table = {
    (S.PROCEEDING, I.REQUEST): (S.PROCEEDING, (A.SEND_LAST,)),
    (S.PROCEEDING, I.SEND_1XX): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.SEND_2XX): (S.ACCEPTED, (A.SEND, A.LINGER_LONG)),
    (S.PROCEEDING, I.SEND_3TO6): (S.COMPLETED, (A.SEND, A.RESEND_SOON, A.WATCH)),
    (S.COMPLETED, I.REQUEST): (S.COMPLETED, (A.SEND_LAST,)),
    (S.COMPLETED, I.ACK): (S.CONFIRMED, (A.STOP_RESEND, A.STOP_TIMEOUT, A.LINGER)),
    (S.COMPLETED, I.RESEND): (S.COMPLETED, (A.SEND_LAST_SLOWER,)),
    (S.COMPLETED, I.TIMEOUT): (S.TERMINATED, (A.STOP_RESEND,)),
    (S.CONFIRMED, I.LINGER): (S.TERMINATED, ()),
    (S.ACCEPTED, I.SEND_2XX): (S.ACCEPTED, (A.SEND,)),
    (S.ACCEPTED, I.LINGER): (S.TERMINATED, ()),
}
INVITE_SERVER_IGNORED: Ignored = {
    (S.PROCEEDING, I.ACK): "nothing final was sent: a stray ACK",
    (S.COMPLETED, I.SEND_1XX): "the refusal is out; the owner is late",
    (S.COMPLETED, I.SEND_2XX): "the refusal is out; the owner is late",
    (S.COMPLETED, I.SEND_3TO6): "one final answer is enough",
    (S.CONFIRMED, I.REQUEST): "late copy; the ACK has already ended the matter",
    (S.CONFIRMED, I.ACK): "late copy of the ACK",
    (S.CONFIRMED, I.SEND_1XX): "the matter is over",
    (S.CONFIRMED, I.SEND_2XX): "the matter is over",
    (S.CONFIRMED, I.SEND_3TO6): "the matter is over",
    (S.ACCEPTED, I.REQUEST): "the owner resends its 200 until the ACK (RFC 6026 7.1)",
    (S.ACCEPTED, I.ACK): "an ACK to a 200 belongs to the dialog (RFC 6026 7.1)",
    (S.ACCEPTED, I.SEND_1XX): "accepted already",
    (S.ACCEPTED, I.SEND_3TO6): "accepted already",
}

SERVER: Table = {
    (S.TRYING, I.SEND_1XX): (S.PROCEEDING, (A.SEND,)),
    (S.TRYING, I.SEND_2XX): (S.COMPLETED, (A.SEND, A.LINGER)),
    (S.TRYING, I.SEND_3TO6): (S.COMPLETED, (A.SEND, A.LINGER)),
    (S.PROCEEDING, I.REQUEST): (S.PROCEEDING, (A.SEND_LAST,)),
    (S.PROCEEDING, I.SEND_1XX): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.SEND_2XX): (S.COMPLETED, (A.SEND, A.LINGER)),
    (S.PROCEEDING, I.SEND_3TO6): (S.COMPLETED, (A.SEND, A.LINGER)),
    (S.COMPLETED, I.REQUEST): (S.COMPLETED, (A.SEND_LAST,)),
    (S.COMPLETED, I.LINGER): (S.TERMINATED, ()),
}
SERVER_IGNORED: Ignored = {
    (S.TRYING, I.REQUEST): "nothing to repeat yet (RFC 3261 17.2.2)",
    (S.COMPLETED, I.SEND_1XX): "answered already",
    (S.COMPLETED, I.SEND_2XX): "answered already",
    (S.COMPLETED, I.SEND_3TO6): "answered already",
}

INVITE_CLIENT: Table = {
    (S.CALLING, I.RECEIVE_1XX): (S.PROCEEDING, (A.STOP_RESEND, A.STOP_TIMEOUT, A.TELL)),
    (S.CALLING, I.RECEIVE_2XX): (S.ACCEPTED, (A.STOP_RESEND, A.STOP_TIMEOUT, A.LINGER_LONG, A.TELL)),
    (S.CALLING, I.RECEIVE_3TO6): (S.COMPLETED, (A.STOP_RESEND, A.STOP_TIMEOUT, A.ACK, A.LINGER, A.TELL)),
    (S.CALLING, I.RESEND): (S.CALLING, (A.SEND_LAST_SLOWER,)),
    (S.CALLING, I.TIMEOUT): (S.TERMINATED, (A.STOP_RESEND, A.TELL_TIMEOUT)),
    (S.PROCEEDING, I.RECEIVE_1XX): (S.PROCEEDING, (A.TELL,)),
    (S.PROCEEDING, I.RECEIVE_2XX): (S.ACCEPTED, (A.LINGER_LONG, A.TELL)),
    (S.PROCEEDING, I.RECEIVE_3TO6): (S.COMPLETED, (A.ACK, A.LINGER, A.TELL)),
    (S.PROCEEDING, I.TIMEOUT): (S.TERMINATED, (A.TELL_TIMEOUT,)),  # given up by the owner after a CANCEL
    (S.COMPLETED, I.RECEIVE_3TO6): (S.COMPLETED, (A.ACK,)),
    (S.COMPLETED, I.LINGER): (S.TERMINATED, ()),
    (S.ACCEPTED, I.RECEIVE_2XX): (S.ACCEPTED, (A.TELL,)),  # the owner repeats its ACK
    (S.ACCEPTED, I.LINGER): (S.TERMINATED, ()),
}
INVITE_CLIENT_IGNORED: Ignored = {
    (S.COMPLETED, I.RECEIVE_1XX): "late: refused already",
    (
        S.COMPLETED,
        I.RECEIVE_2XX,
    ): "a 200 after a refusal: nobody forks behind one branch twice (RFC 3261 17.1.1.2)",
    (S.ACCEPTED, I.RECEIVE_1XX): "late: accepted already",
    (S.ACCEPTED, I.RECEIVE_3TO6): "late: accepted already",
}

CLIENT: Table = {
    (S.TRYING, I.RECEIVE_1XX): (S.PROCEEDING, ()),
    (S.TRYING, I.RECEIVE_2XX): (S.COMPLETED, (A.STOP_RESEND, A.STOP_TIMEOUT, A.LINGER, A.TELL)),
    (S.TRYING, I.RECEIVE_3TO6): (S.COMPLETED, (A.STOP_RESEND, A.STOP_TIMEOUT, A.LINGER, A.TELL)),
    (S.TRYING, I.RESEND): (S.TRYING, (A.SEND_LAST_SLOWER,)),
    (S.TRYING, I.TIMEOUT): (S.TERMINATED, (A.STOP_RESEND, A.TELL_TIMEOUT)),
    (S.PROCEEDING, I.RECEIVE_2XX): (S.COMPLETED, (A.STOP_RESEND, A.STOP_TIMEOUT, A.LINGER, A.TELL)),
    (S.PROCEEDING, I.RECEIVE_3TO6): (S.COMPLETED, (A.STOP_RESEND, A.STOP_TIMEOUT, A.LINGER, A.TELL)),
    (S.PROCEEDING, I.RESEND): (S.PROCEEDING, (A.SEND_LAST_SLOWER,)),
    (S.PROCEEDING, I.TIMEOUT): (S.TERMINATED, (A.STOP_RESEND, A.TELL_TIMEOUT)),
    (S.COMPLETED, I.LINGER): (S.TERMINATED, ()),
}
CLIENT_IGNORED: Ignored = {
    (S.PROCEEDING, I.RECEIVE_1XX): "no more news",
    (S.COMPLETED, I.RECEIVE_1XX): "late: answered already",
    (S.COMPLETED, I.RECEIVE_2XX): "copy of the answer",
    (S.COMPLETED, I.RECEIVE_3TO6): "copy of the answer",
}

SERVER_INPUTS = (I.REQUEST, I.SEND_1XX, I.SEND_2XX, I.SEND_3TO6)
INVITE_SERVER_INPUTS = (*SERVER_INPUTS, I.ACK)
CLIENT_INPUTS = (I.RECEIVE_1XX, I.RECEIVE_2XX, I.RECEIVE_3TO6)


class Kind:
    """One of the four machines: its table, what it ignores and where it starts."""

    __slots__ = ("client", "first", "ignored", "invite", "name", "table")

    def __init__(self, name: str, table: Table, ignored: Ignored, first: S, *, client: bool, invite: bool):
        self.name = name
        self.table = table
        self.ignored = ignored
        self.first = first
        self.client = client
        self.invite = invite


KIND_INVITE_SERVER = Kind(
    "INVITE server", INVITE_SERVER, INVITE_SERVER_IGNORED, S.PROCEEDING, client=False, invite=True
)
KIND_SERVER = Kind("server", SERVER, SERVER_IGNORED, S.TRYING, client=False, invite=False)
KIND_INVITE_CLIENT = Kind(
    "INVITE client", INVITE_CLIENT, INVITE_CLIENT_IGNORED, S.CALLING, client=True, invite=True
)
KIND_CLIENT = Kind("client", CLIENT, CLIENT_IGNORED, S.TRYING, client=True, invite=False)


class Owner(Protocol):
    """Who asked: hears responses (None: nothing came in time)."""

    def answered(self, transaction: Transaction, response: Message | None, now: float) -> None: ...


Key = tuple[str, ...]


class Transaction:
    """One request and its answers. `owner` is dropped at the end, so that no cycle is left."""

    __slots__ = (
        "ack",
        "flow",
        "interval_s",
        "key",
        "kind",
        "last",
        "layer",
        "linger",
        "owner",
        "request",
        "resend",
        "state",
        "timeout",
    )

    def __init__(
        self, layer: Transactions, kind: Kind, key: Key, flow: Flow, request: Message | None
    ) -> None:
        self.layer = layer
        self.kind = kind
        self.key = key
        self.flow = flow
        self.request = request
        self.state = kind.first
        self.last = b""
        self.owner: Owner | None = None
        self.ack: Callable[[Message], bytes] | None = None
        self.interval_s = 0.0
        self.resend: Timer | None = None
        self.timeout: Timer | None = None
        self.linger: Timer | None = None

    def due(self, what: str, now: float) -> None:
        self.layer.step(
            self, I.RESEND if what == "resend" else I.TIMEOUT if what == "timeout" else I.LINGER, now
        )

    @property
    def reliable(self) -> bool:
        return self.flow.transport != "udp"

    @property
    def finished(self) -> bool:
        return self.state is S.TERMINATED


class Transactions:
    """All transactions of one stack, their timers, and the bytes they want sent."""

    __slots__ = ("_t1", "_t2", "_t4", "clients", "out", "servers", "wheel")

    def __init__(self, wheel: Wheel, out: list[tuple[Flow, bytes]], *, t1_s: float, t2_s: float, t4_s: float):
        self.wheel = wheel
        self.out = out
        self._t1 = t1_s
        self._t2 = t2_s
        self._t4 = t4_s
        self.clients: dict[Key, Transaction] = {}
        self.servers: dict[Key, Transaction] = {}

    def serve(self, key: Key, flow: Flow, request: Message) -> Transaction:
        kind = KIND_INVITE_SERVER if request.method == "INVITE" else KIND_SERVER
        transaction = Transaction(self, kind, key, flow, request)
        self.servers[key] = transaction
        return transaction

    def ask(
        self,
        method: str,
        branch: str,
        flow: Flow,
        data: bytes,
        owner: Owner,
        now: float,
        ack: Callable[[Message], bytes] | None = None,
    ) -> Transaction:
        """Send a request; `owner` hears its answers. `ack` makes the ACK to a refused INVITE (17.1.1.3)."""
        kind = KIND_INVITE_CLIENT if method == "INVITE" else KIND_CLIENT
        key = (branch, method)
        transaction = Transaction(self, kind, key, flow, None)
        transaction.owner = owner
        transaction.last = data
        transaction.ack = ack
        self.clients[key] = transaction
        self.out.append((flow, data))
        if flow.transport == "udp":
            transaction.interval_s = self._t1
            transaction.resend = self.wheel.set(now + self._t1, transaction, "resend")
        transaction.timeout = self.wheel.set(now + LONG_T1 * self._t1, transaction, "timeout")
        return transaction

    def step(
        self,
        transaction: Transaction,
        what: I,
        now: float,
        data: bytes = b"",
        message: Message | None = None,
    ) -> bool:
        """Feed one input; False when it changed nothing. Raises LocalError for a pair in no table."""
        state = transaction.state
        row = transaction.kind.table.get((state, what))
        if row is None:
            if (
                state is S.TERMINATED
                or (state, what) in transaction.kind.ignored
                or what in (I.RESEND, I.TIMEOUT, I.LINGER)
            ):
                return False
            raise LocalError(f"{transaction.kind.name} transaction: {what.name} in {state.name}")
        after, actions = row
        transaction.state = after
        tell = False
        for action in actions:
            if action is A.SEND:
                transaction.last = data
                self.out.append((transaction.flow, data))
            elif action is A.SEND_LAST:
                if transaction.last:
                    self.out.append((transaction.flow, transaction.last))
            elif action is A.SEND_LAST_SLOWER:
                self.out.append((transaction.flow, transaction.last))
                longer = transaction.interval_s * 2
                if not (transaction.kind.invite and transaction.kind.client):  # only timer A has no ceiling
                    longer = min(longer, self._t2)
                if after is S.PROCEEDING:
                    longer = self._t2
                transaction.interval_s = longer
                transaction.resend = self.wheel.set(now + longer, transaction, "resend")
            elif action is A.TELL:
                tell = True
            elif action is A.TELL_TIMEOUT:
                tell = True
                message = None
            elif action is A.ACK:
                if transaction.ack is not None and message is not None:
                    self.out.append((transaction.flow, transaction.ack(message)))
            elif action is A.LINGER:
                self._linger(transaction, now)
            elif action is A.LINGER_LONG:
                self._cancel(transaction)
                transaction.linger = self.wheel.set(now + LONG_T1 * self._t1, transaction, "linger")
            elif action is A.RESEND_SOON:
                if not transaction.reliable:
                    transaction.interval_s = self._t1
                    transaction.resend = self.wheel.set(now + self._t1, transaction, "resend")
            elif action is A.WATCH:
                transaction.timeout = self.wheel.set(now + LONG_T1 * self._t1, transaction, "timeout")
            elif action is A.STOP_RESEND:
                if transaction.resend is not None:
                    transaction.resend.cancel()
                    transaction.resend = None
            elif action is A.STOP_TIMEOUT and transaction.timeout is not None:
                transaction.timeout.cancel()
                transaction.timeout = None
        owner = transaction.owner
        if transaction.state is S.TERMINATED:
            self._end(transaction)
        if tell and owner is not None:
            owner.answered(transaction, message, now)
        return True

    def give_up(self, transaction: Transaction, after_s: float, now: float) -> None:
        """After a CANCEL: wait so long for a final answer, then TIMEOUT (RFC 3261 9.1)."""
        if transaction.state in (S.CALLING, S.PROCEEDING):
            if transaction.timeout is not None:
                transaction.timeout.cancel()
            transaction.timeout = self.wheel.set(now + after_s, transaction, "timeout")

    def flow_closed(self, flow: Flow, now: float) -> None:
        """A stream has died: what waits for an answer on it will get none."""
        for transaction in [t for t in self.clients.values() if t.flow == flow]:
            self.step(transaction, I.TIMEOUT, now)

    def _linger(self, transaction: Transaction, now: float) -> None:
        kind = transaction.kind
        self._cancel(transaction)
        if transaction.reliable:
            transaction.state = S.TERMINATED
            return
        if kind.client:
            wait = LONG_T1 * self._t1 if kind.invite else self._t4  # timers D and K
        else:
            wait = self._t4 if kind.invite else LONG_T1 * self._t1  # timers I and J
        transaction.linger = self.wheel.set(now + wait, transaction, "linger")

    def _cancel(self, transaction: Transaction) -> None:
        for timer in (transaction.resend, transaction.timeout, transaction.linger):
            if timer is not None:
                timer.cancel()
        transaction.resend = transaction.timeout = transaction.linger = None

    def _end(self, transaction: Transaction) -> None:
        self._cancel(transaction)
        held = self.clients if transaction.kind.client else self.servers
        if held.get(transaction.key) is transaction:
            del held[transaction.key]
        transaction.owner = None
        transaction.ack = None
        transaction.request = None


def server_key(request: Message, flow: Flow) -> Key:
    """What makes two copies of a request the same transaction (RFC 3261 17.2.3), per source."""
    via = request.via
    method = "INVITE" if request.method == "ACK" else request.method
    if via.branch[:7].lower() == "z9hg4bk":
        return (via.branch, via.host, str(via.port), method, flow.host, str(flow.port))
    # RFC 2543: no magic cookie
    return (
        request.call_id,
        str(request.cseq[0]),
        request.from_tag,
        "" if method == "INVITE" else request.to_tag,
        request.first["via"],
        method,
        flow.host,
        str(flow.port),
    )
