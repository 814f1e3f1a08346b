"""The shell of the SIP stack: one UDP socket and one TCP listener on host:port, driven in six moves of fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from softphone_bridge.stack import (
    Accounts,
    Credentials,
    StackEvent,
    StackSettings,
    Target,
    TrunkRules,
)


class Endpoint:
    """Binds UDP and TCP, drives one Stack, and calls `hear` for each event; commands send before they return.

    `settings.port` 0 binds a free port (the same for UDP and TCP); `endpoint.port` says which. Commands are those of Stack without `now`.
    """

    port: int
    counters: dict[str, int]
    stopping: bool

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
    ) -> None: ...

    async def start(self) -> None:
        """Bind; raises OSError when the port is taken."""

    async def stop(self) -> None:
        """Close the sockets; what is still up is not told (end the legs first)."""

    def set_trunks(self, trunks: Iterable[TrunkRules]) -> None: ...

    def targets(self, account: str) -> tuple[Target, ...]:
        raise NotImplementedError

    def forget(self, account: str) -> None: ...

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
    ) -> None: ...

    def ring(self, leg: str) -> None: ...

    def progress(self, leg: str, sdp: bytes) -> None: ...

    def answer(self, leg: str, sdp: bytes) -> bool:
        raise NotImplementedError

    def reject(self, leg: str, status: int, *, headers: Mapping[str, str] | None = None) -> None: ...

    def end(self, leg: str, *, status: int = 480, reason: str = "") -> None: ...

    def reoffer(self, leg: str, sdp: bytes) -> None: ...

    def answer_reoffer(self, leg: str, sdp: bytes) -> None: ...

    def refuse_reoffer(self, leg: str, status: int = 488) -> None: ...
