"""A telephone's sound for tests: one UDP socket that speaks RTP in real time and keeps all it hears."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from media import dtmf, g711, rtp, tone
from media.aio.link import MediaEvent, MediaLink
from media.g711 import Pcm
from media.sdp import Remote

DEADLINE_S = 5.0
_ssrcs = itertools.count(0x1000)

Address = tuple[str, int]
Event = TypeVar("Event", bound=MediaEvent)


class Phone(asyncio.DatagramProtocol):
    """Open with `Phone.open()`, point with `call(port)`."""

    def __init__(self) -> None:
        self.transport: asyncio.DatagramTransport | None = None
        self.heard: list[tuple[float, rtp.Packet]] = []
        self.raw = 0  # datagrams, RTP or not
        self.sequence = 100
        self.stamp = 5000
        self.ssrc = next(_ssrcs)
        self.port = 0
        self.host = "127.0.0.1"
        self.to: Address = ("127.0.0.1", 9)
        self._more = asyncio.Event()
        self._speaking: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, host: str = "127.0.0.1", port: int = 0) -> Phone:
        _, phone = await asyncio.get_running_loop().create_datagram_endpoint(cls, local_addr=(host, port))
        assert phone.transport is not None
        phone.host, phone.port = phone.transport.get_extra_info("sockname")
        return phone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.raw += 1
        try:
            self.heard.append((asyncio.get_running_loop().time(), rtp.parse(data)))
        except rtp.NotRtp:
            pass
        self._more.set()

    def error_received(self, exc: Exception) -> None:
        pass

    async def close(self) -> None:
        await self.hush()
        if self.transport is not None:
            self.transport.close()

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.sendto(data, self.to)

    def say(
        self, payload: bytes, payload_type: int = 0, *, step: int | None = None, marker: bool = False
    ) -> None:
        """One packet at once; its time is the next, unless `step` samples are said."""
        self.send(rtp.build(rtp.Packet(payload_type, self.sequence, self.stamp, self.ssrc, payload, marker)))
        self.sequence = self.sequence + 1 & 0xFFFF
        self.stamp = self.stamp + (len(payload) if step is None else step) & 0xFFFFFFFF

    def press(self, digit: str, payload_type: int = 101, *, ms: int = 280) -> None:
        """A whole key press at once."""
        for index, payload in enumerate(dtmf.payloads(digit, ms)):
            self.say(payload, payload_type, step=0, marker=index == 0)
        self.stamp += ms * 8

    def speak(self, frequency_hz: float, payload_type: int = 0, *, level: float = 0.5) -> None:
        """Say a tone in real time until `hush`."""
        codes = tone.encoded(frequency_hz, 1000, payload_type, level=level)
        frames = itertools.cycle([codes[at : at + 160] for at in range(0, 8000, 160)])
        self._speaking = asyncio.create_task(self._pace(frames, payload_type))

    async def _pace(self, frames: Iterator[bytes], payload_type: int) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        for frame in frames:
            self.say(frame, payload_type)
            due += 0.02
            tick: asyncio.Future[None] = loop.create_future()
            timer = loop.call_at(due, tick.set_result, None)
            try:
                await tick
            finally:
                timer.cancel()

    async def hush(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.gather(self._speaking, return_exceptions=True)
            self._speaking = None

    async def until(self, true: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
        """Wait for something about what is heard."""
        async with asyncio.timeout(deadline_s):
            while not true():
                self._more.clear()
                await self._more.wait()

    async def hears(self, packets: int, deadline_s: float = DEADLINE_S) -> None:
        """Wait for so many packets more."""
        want = len(self.heard) + packets
        await self.until(lambda: len(self.heard) >= want, deadline_s)

    async def hears_tone(self, frequency_hz: float, *, ms: int = 200, deadline_s: float = DEADLINE_S) -> Pcm:
        """Wait until the newest `ms` are that tone, and return them."""

        def heard() -> bool:
            pcm = self.pcm()[-ms * 8 :]
            return len(pcm) >= ms * 8 and abs(tone.dominant_hz(pcm) - frequency_hz) < 8

        await self.until(heard, deadline_s)
        return self.pcm()[-ms * 8 :]

    def voice(self, since: int = 0) -> list[rtp.Packet]:
        return [packet for _, packet in self.heard[since:] if packet.payload_type in (0, 8)]

    def pcm(self, since: int = 0) -> Pcm:
        """All voice packets, one after another as they came."""
        parts = [g711.decode(packet.payload, packet.payload_type) for packet in self.voice(since)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)

    def remote(self, payload_type: int = 0, **other: object) -> Remote:
        known: dict[str, object] = {"telephone_event": 101}
        return Remote(self.host, self.port, payload_type, **(known | other))  # type: ignore[arg-type]


class House:
    """A media link with the phones that are on it. `lent`: the link of another house, whose worker goes on."""

    def __init__(self, lent: House | None = None, **settings: Any) -> None:
        self.events: list[MediaEvent] = []
        self._more = asyncio.Event()
        self._phones: list[Phone] = []
        self._lent = lent is not None
        self.hear: Callable[[MediaEvent], None] = self._hear
        if lent is not None:
            self.link: MediaLink = lent.link
            lent.hear = self._hear
            return
        first = free_ports(200)
        workers = int(settings.pop("workers", 1))
        self.link = MediaLink(
            workers=workers,
            host="127.0.0.1",
            ports=(first, first + 199),
            hear=lambda event: self.hear(event),
            **settings,
        )

    def _told(self, event: MediaEvent) -> None:
        self.hear(event)

    def _hear(self, event: MediaEvent) -> None:
        self.events.append(event)
        self._more.set()

    async def __aenter__(self) -> House:
        if not self._lent:
            await self.link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for phone in self._phones:
            await phone.close()
        if self._lent:
            for leg in list(self.link._of):
                await self.link.close(leg)
        else:
            await self.link.stop()

    async def phone(self, host: str = "127.0.0.1") -> Phone:
        phone = await Phone.open(host)
        self._phones.append(phone)
        return phone

    async def leg(self, name: str, payload_type: int = 0, **remote: object) -> Phone:
        """A leg that is connected to a phone of its own."""
        phone = await self.phone()
        phone.to = ("127.0.0.1", await self.link.open(name))
        self.link.connect(name, phone.remote(payload_type, **remote))
        return phone

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def told(self, kind: type[Event], count: int = 1, deadline_s: float = DEADLINE_S) -> list[Event]:
        """Wait until so many events of a kind have come, and return all of that kind."""
        async with asyncio.timeout(deadline_s):
            while len(self.of(kind)) < count:
                self._more.clear()
                await self._more.wait()
        return self.of(kind)

    async def restarted(self) -> None:
        """The link has begun again what died."""
        await asyncio.wait_for(asyncio.gather(*self.link._tasks), 15)

    async def settled(self) -> None:
        """Every command given so far has been carried out: a round trip behind them."""
        await self.link.open("settled")
        await self.link.close("settled")


def free_ports(count: int) -> int:
    """The first of a run of ports that nobody uses just now, out of those kept for these tests."""
    for _ in range(50):
        first = random.randrange(16000, 18000 - count, 2)  # below the ports that systems give out
        taken: Sequence[socket.socket] = []
        try:
            for port in range(first, first + count, 7):
                handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                taken = [*taken, handle]
                handle.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for handle in taken:
                handle.close()
    raise AssertionError("no free ports")
