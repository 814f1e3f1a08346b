"""How many messages of a customer nobody has read yet, for each written interaction that lives."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from routing.models import FINAL_EVENTS, Event, T
from routing.store import MessageView

HUMANS = frozenset({"advisor", "elsewhere"})  # who answers a customer as a person


class Unread:
    """Messages by sequence number: those after our last word, or after the last look of the interaction's advisor."""

    def __init__(self) -> None:
        self._unread: dict[UUID, set[int]] = {}
        self._looked: dict[UUID, int] = {}

    def apply(self, event: Event) -> None:
        interaction = event.interaction
        if interaction is None:
            return
        if event.type is T.INTERACTION_OPENED and event.data.get("channel") != "voice":
            self._unread[interaction] = set()
        elif event.type in FINAL_EVENTS:
            self.forget(interaction)
        elif event.type is T.MESSAGE_RECEIVED and interaction in self._unread:
            if not event.data.get("automatic") and not event.data.get("standby"):
                self._unread[interaction].add(event.seq)
        elif event.type is T.MESSAGE_WRITTEN and event.data.get("author") in HUMANS:
            self.looked(interaction, event.seq)

    def begin(self, interaction: UUID) -> bool:
        """True when it was not known: its messages from before must be read and given to `remember`."""
        if interaction in self._unread:
            return False
        self._unread[interaction] = set()
        return True

    def remember(self, interaction: UUID, messages: Iterable[MessageView]) -> None:
        """What was written before; what has come since `begin` is not counted twice."""
        told = list(messages)
        ours = max((m.seq for m in told if m.author in HUMANS), default=0)
        since = max(ours, self._looked.get(interaction, 0))
        self._unread.setdefault(interaction, set()).update(
            m.seq for m in told if m.direction == "in" and m.seq > since and not m.automatic and not m.standby
        )

    def looked(self, interaction: UUID, seq: int) -> None:
        if interaction in self._unread:
            self._unread[interaction].clear()
            self._looked[interaction] = seq

    def forget(self, interaction: UUID) -> None:
        self._unread.pop(interaction, None)
        self._looked.pop(interaction, None)

    def count(self, interaction: UUID) -> int:
        return len(self._unread.get(interaction, ()))
