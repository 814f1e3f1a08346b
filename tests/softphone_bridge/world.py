"""A world in virtual time: SIP stacks on a network that delays, loses and repeats, driven by one seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from softphone_bridge.digest import ha1
from softphone_bridge.signals import Flow, Invited, StackEvent, StackSettings, TrunkRules
from softphone_bridge.stack import Stack

SDP = (
    b"v=0\r\no=m 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 20000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)
SDP_2 = SDP.replace(b"1 1 IN", b"1 2 IN").replace(b"20000", b"20002")


class Book:
    """Accounts by name; the password of lea is "secret-of-lea"."""

    def __init__(self, *users: str, realm: str = "monofil") -> None:
        self._held = {user: ha1(user, realm, f"secret-of-{user}") for user in users}

    def ha1(self, user: str) -> tuple[str, str] | None:
        return self._held.get(user)


class Node:
    """One stack at one address, with what it told."""

    def __init__(self, world: World, host: str, stack: Stack) -> None:
        self.world = world
        self.host = host
        self.stack = stack
        self.told: list[StackEvent] = []
        self.hear: Callable[[StackEvent], None] | None = None

    @property
    def now(self) -> float:
        return self.world.now

    def of(self, kind: type[StackEvent] | type) -> list[StackEvent]:
        return [event for event in self.told if isinstance(event, kind)]

    def last_invited(self) -> Invited:
        found = [event for event in self.told if isinstance(event, Invited)]
        assert found, "nobody called"
        return found[-1]

    def settle(self) -> None:
        """Events to the hearer, messages to the network."""
        while events := self.stack.events():
            for event in events:
                self.told.append(event)
                if self.hear is not None:
                    self.hear(event)
        for flow, data in self.stack.to_send():
            self.world.send(self, flow, data)


class World:
    """Stacks by host, all on port 5060 of hosts 10.0.0.n."""

    def __init__(
        self, seed: int = 1, *, loss: float = 0.0, repeat: float = 0.0, delay_s: float = 0.002
    ) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.repeat = repeat
        self.delay_s = delay_s
        self.now = 1000.0
        self.nodes: dict[str, Node] = {}
        self.wire: list[tuple[str, str, bytes]] = []  # from, to, message
        self.drop: Callable[[str, str, bytes], bool] | None = None
        self.strays: list[tuple[str, bytes]] = []
        self._flying: list[tuple[float, int, str, Flow, bytes]] = []
        self._count = 0
        self._ids = 0

    def new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids}x{self.random.randrange(16**8):08x}"

    def node(
        self,
        host: str,
        *,
        users: tuple[str, ...] = (),
        numbers: tuple[str, ...] | None = None,
        trunks: tuple[TrunkRules, ...] | None = None,
        **settings: Any,
    ) -> Node:
        base = StackSettings(host=host, port=5060, secret=b"s" * 32)
        stack = Stack(
            replace(base, **settings),
            new_id=self.new_id,
            accounts=Book(*users),
            knows=lambda dialled: numbers is None or dialled in numbers,
            trunks=(TrunkRules("carrier", ("10.0.0.0/8",)),) if trunks is None else trunks,
        )
        node = Node(self, host, stack)
        self.nodes[host] = node
        return node

    def send(self, node: Node, flow: Flow, data: bytes) -> None:
        self.wire.append((node.host, flow.host, data))
        if self.drop is not None and self.drop(node.host, flow.host, data):
            return
        for _ in range(2 if self.random.random() < self.repeat else 1):
            if self.random.random() < self.loss:
                continue
            self._count += 1
            at = self.now + self.delay_s * (0.5 + self.random.random())
            back = Flow("udp", node.host, 5060)
            heapq.heappush(self._flying, (at, self._count, flow.host, back, data))

    def inject(self, to: str, data: bytes, source: Flow) -> None:
        """A datagram from somewhere else, at once."""
        node = self.nodes[to]
        node.stack.receive(data, source, self.now)
        node.settle()

    def run(self, until_s: float) -> None:
        """Let time pass until `until_s` from now, or until nothing moves any more."""
        end = self.now + until_s
        for node in self.nodes.values():
            node.settle()
        while True:
            deadlines = [(d, h) for h, n in self.nodes.items() if (d := n.stack.deadline()) is not None]
            next_timer = min(deadlines, default=(end, ""))
            next_flight = self._flying[0][0] if self._flying else end
            at = min(next_timer[0], next_flight)
            if at >= end:
                self.now = end
                return
            self.now = max(self.now, at)
            if next_flight <= next_timer[0]:
                _, _, host, source, data = heapq.heappop(self._flying)
                if host not in self.nodes:
                    self.strays.append((host, data))
                    continue
                node = self.nodes[host]
                node.stack.receive(data, source, self.now)
            else:
                node = self.nodes[next_timer[1]]
                node.stack.tick(self.now + 1e-6)
            node.settle()

    def sent(self, start: bytes, by: str | None = None) -> list[bytes]:
        """Messages on the wire whose first line begins so."""
        return [data for sender, _, data in self.wire if data.startswith(start) and by in (None, sender)]
