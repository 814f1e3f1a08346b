"""The shell of the SIP stack: one UDP socket and one TCP listener on host:port, driven in six moves of fixed order.

Read, receive, hear the events (whose hearers give commands), send, arm the timer, return. A command given
from elsewhere makes the last four.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import resource
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from softphone_bridge.aio import stream, udp
from softphone_bridge.stack import (
    Accounts,
    Credentials,
    Flow,
    Registration,
    Stack,
    StackEvent,
    StackSettings,
    Target,
    TrunkRules,
)

log = logging.getLogger("monofil.sip")

SPARE_DESCRIPTORS = 64  # kept from connections, for what calls need (fault row 11)
SWEEP_S = 2.0  # how often late connections are looked for
LOG_EVERY_S = 1.0  # a line for a bug in what we were told, at most so often
PORT_TRIES = 20  # for a number that is free as a UDP and as a TCP port
CONNECT_S = 5.0  # ours: Timer B of what waits for the connection runs on
HELD_WHILE_CONNECTING = 100  # messages; later ones are lost, and their transactions say so


class Endpoint:
    """Binds UDP and TCP, drives one Stack, and calls `hear` for each event; commands send before they return.

    `settings.port` 0 binds a free port (the same for UDP and TCP); `endpoint.port` says which. Commands are
    those of Stack without `now`. `hear` must not raise; when it does, the leg's event is lost and the trace
    is logged.
    """

    def __init__(
        self,
        settings: StackSettings,
        *,
        bind: str,
        hear: Callable[[StackEvent], None],
        accounts: Accounts,
        knows: Callable[[str], bool],
        trunks: Sequence[TrunkRules] = (),
        new_leg: Callable[[], str] | None = None,
    ) -> None:
        self.port = settings.port
        self._settings = settings
        self._bind = bind
        self._hear = hear
        self._accounts = accounts
        self._knows = knows
        self._trunks = tuple(trunks)
        self._new_leg = new_leg
        self._stack: Stack | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._udp: udp.UdpSocket | None = None
        self._server: asyncio.Server | None = None
        self._streams: dict[Flow, stream.Stream] = {}
        self._attached: dict[Flow, Callable[[bytes], None]] = {}
        self._per_address: dict[str, int] = {}
        self._connecting: dict[Flow, list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keys = 0
        self._settling = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._logged = 0.0
        self._closing = False

    async def start(self) -> None:
        """Bind; raises OSError when the port is taken."""
        loop = self._loop = asyncio.get_running_loop()
        wanted = self._settings.port
        for attempt in range(PORT_TRIES):
            sock = socket.socket(_family(self._bind), socket.SOCK_DGRAM)
            try:
                sock.bind((self._bind, wanted))
                port = sock.getsockname()[1]
                self._server = await loop.create_server(self._incoming, self._bind, port, backlog=512)
            except OSError:
                sock.close()
                if wanted or attempt == PORT_TRIES - 1:
                    raise
                continue
            break
        self.port = port
        settings = dataclasses.replace(
            self._settings, port=port, secret=self._settings.secret or os.urandom(32)
        )
        self._stack = Stack(
            settings,
            new_id=lambda: os.urandom(9).hex(),
            new_leg=self._new_leg,
            accounts=self._accounts,
            knows=self._knows,
            trunks=self._trunks,
        )
        self._udp = udp.UdpSocket(loop, sock, self._datagram, self._settle_read)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    async def stop(self) -> None:
        """Close the sockets; what is still up is not told (end the legs first)."""
        self._closing = True
        for handle in (self._timer, self._sweeper):
            if handle is not None:
                handle.cancel()
        self._timer = self._sweeper = None
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        held = list(self._streams.values())
        if self._server is not None:
            self._server.close()
        for connection in held:
            connection.abort()
        if held:
            await asyncio.wait([connection.lost for connection in held], timeout=2.0)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    @property
    def stack(self) -> Stack:
        assert self._stack is not None, "start() first"
        return self._stack

    @property
    def counters(self) -> dict[str, int]:
        return self.stack.counters

    @property
    def stopping(self) -> bool:
        return self.stack.stopping

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self.stack.stopping = value

    def _datagram(self, data: bytes, host: str, port: int) -> None:
        self._receive(data, Flow("udp", host, port))

    def _receive(self, data: bytes, flow: Flow) -> None:
        try:
            self.stack.receive(data, flow, time.monotonic())
        except Exception:
            self._bug("message", flow)

    def _settle_read(self, lag_s: float) -> None:
        self.stack.set_pressure(lag_s)
        self._settle()

    def _bug(self, what: str, flow: Flow | None = None) -> None:
        self.stack.counters["bug"] = self.stack.counters.get("bug", 0) + 1
        now = time.monotonic()
        if now - self._logged > LOG_EVERY_S:
            self._logged = now
            log.exception("sip step failed", extra={"step": what, "flow": flow and str(flow)})

    def _settle(self) -> None:
        """Hear, send, arm: the moves after every reading, command and tick."""
        if self._settling or self._closing:
            return
        stack = self.stack
        self._settling = True
        try:
            while events := stack.events():
                for event in events:
                    try:
                        self._hear(event)
                    except Exception:
                        self._bug(type(event).__name__)
            for flow, data in stack.to_send():
                self._send(flow, data)
        finally:
            self._settling = False
        self._arm()

    def _send(self, flow: Flow, data: bytes) -> None:
        if flow.transport == "udp":
            if self._udp is not None:
                self._udp.send(data, flow.host, flow.port)
            return
        send = self._attached.get(flow)
        if send is not None:
            send(data)
            return
        connection = self._streams.get(flow)
        if connection is not None:
            connection.write(data)
        elif flow.key == 0 and flow.transport == "tcp":
            self._connect(flow, data)

    def _arm(self) -> None:
        at = self.stack.deadline()
        if at is None or self._loop is None:
            return
        if self._timer is not None:
            if at >= self._timer_at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.stack.tick(time.monotonic())
        except Exception:
            self._bug("tick")
        self._settle()

    def _incoming(self) -> stream.Stream:
        self._keys += 1
        return stream.Stream(self, self._keys)

    def opened(self, connection: stream.Stream) -> bool:
        """A connection is made; False refuses it."""
        host = connection.flow.host
        if (
            self._closing
            or len(self._streams) >= stream.MAX_CONNECTIONS
            or self._per_address.get(host, 0) >= stream.MAX_PER_ADDRESS
            or connection.descriptor >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS
        ):
            self.counters["refused_connection"] = self.counters.get("refused_connection", 0) + 1
            return False
        self._streams[connection.flow] = connection
        self._per_address[host] = self._per_address.get(host, 0) + 1
        return True

    def message(self, flow: Flow, data: bytes) -> None:
        self._receive(data, flow)

    def settle(self) -> None:
        self._settle()

    def clock(self) -> float:
        return time.monotonic()

    def closed(self, connection: stream.Stream) -> None:
        flow = connection.flow
        mine = [f for f, held in self._streams.items() if held is connection]
        for held in mine:
            del self._streams[held]
        if not mine:
            return
        left = self._per_address.get(flow.host, 1) - 1
        if left > 0:
            self._per_address[flow.host] = left
        else:
            self._per_address.pop(flow.host, None)
        if not self._closing:
            for held in mine:
                self._gone(held)

    def _gone(self, flow: Flow) -> None:
        self.stack.flow_closed(flow, time.monotonic())
        self._settle()

    def _connect(self, flow: Flow, data: bytes) -> None:
        waiting = self._connecting.get(flow)
        if waiting is not None:
            if len(waiting) < HELD_WHILE_CONNECTING:
                waiting.append(data)
            return
        self._connecting[flow] = [data]
        task = asyncio.get_running_loop().create_task(self._open(flow))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, flow: Flow) -> None:
        loop = asyncio.get_running_loop()
        try:
            from_here = None if self._bind in ("0.0.0.0", "::") else (self._bind, 0)
            _, connection = await asyncio.wait_for(
                loop.create_connection(self._incoming, flow.host, flow.port, local_addr=from_here), CONNECT_S
            )
        except (OSError, TimeoutError):
            self._connecting.pop(flow, None)
            self._gone(flow)
            return
        if connection.flow in self._streams:
            self._streams[flow] = connection  # also under the name by which it was wanted
        for data in self._connecting.pop(flow, []):
            connection.write(data)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in set(self._streams.values()):
            if connection.late(now):
                self.counters["late_connection"] = self.counters.get("late_connection", 0) + 1
                connection.abort()
        assert self._loop is not None
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def attach(self, transport: str, host: str, port: int, send: Callable[[bytes], None]) -> Flow:
        """Take on a carrier of whole messages; `received` brings what it hears, `detach` ends it."""
        self._keys += 1
        flow = Flow(transport, host, port, self._keys)
        self._attached[flow] = send
        return flow

    def received(self, flow: Flow, data: bytes) -> None:
        self._receive(data, flow)
        self._settle()

    def detach(self, flow: Flow) -> None:
        if self._attached.pop(flow, None) is not None:
            self._gone(flow)

    def set_trunks(self, trunks: Iterable[TrunkRules]) -> None:
        self._trunks = tuple(trunks)
        self.stack.set_trunks(self._trunks)

    def targets(self, account: str) -> tuple[Target, ...]:
        return self.stack.targets(account)

    def registered(self) -> list[str]:
        return self.stack.registered()

    def forget(self, account: str) -> None:
        self.stack.forget(account, time.monotonic())
        self._settle()

    def registrations(self, account: str) -> tuple[Registration, ...]:
        return self.stack.registrations(account)

    def restore(self, kept: Iterable[Registration]) -> None:
        self.stack.restore(kept, time.monotonic())
        self._settle()

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
    ) -> None:
        self.stack.place(
            leg,
            targets,
            from_user=from_user,
            from_name=from_name,
            sdp=sdp,
            headers=headers,
            credentials=credentials,
            ring_s=ring_s,
            now=time.monotonic(),
        )
        self._settle()

    def enrol(
        self, name: str, registrar: Flow, *, domain: str, credentials: Credentials, expires_s: int = 300
    ) -> None:
        self.stack.enrol(
            name,
            registrar,
            domain=domain,
            credentials=credentials,
            expires_s=expires_s,
            now=time.monotonic(),
        )
        self._settle()

    def leave(self, name: str) -> None:
        self.stack.leave(name, now=time.monotonic())
        self._settle()

    def ring(self, leg: str) -> None:
        self.stack.ring(leg, now=time.monotonic())
        self._settle()

    def progress(self, leg: str, sdp: bytes) -> None:
        self.stack.progress(leg, sdp, now=time.monotonic())
        self._settle()

    def answer(self, leg: str, sdp: bytes) -> bool:
        answered = self.stack.answer(leg, sdp, now=time.monotonic())
        self._settle()
        return answered

    def reject(self, leg: str, status: int, *, headers: Mapping[str, str] | None = None) -> None:
        self.stack.reject(leg, status, headers=headers, now=time.monotonic())
        self._settle()

    def end(self, leg: str, *, status: int = 480, reason: str = "") -> None:
        self.stack.end(leg, status=status, reason=reason, now=time.monotonic())
        self._settle()

    def reoffer(self, leg: str, sdp: bytes) -> None:
        self.stack.reoffer(leg, sdp, now=time.monotonic())
        self._settle()

    def answer_reoffer(self, leg: str, sdp: bytes) -> None:
        self.stack.answer_reoffer(leg, sdp, now=time.monotonic())
        self._settle()

    def refuse_reoffer(self, leg: str, status: int = 488) -> None:
        self.stack.refuse_reoffer(leg, status, now=time.monotonic())
        self._settle()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
