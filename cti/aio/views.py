"""Rows as the page is shown them now: with what only the running server knows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import UUID

from cti import rows, schemas, screenpop
from cti.aio.titles import TreeTitles
from cti.unread import Unread
from routing.channel import Manifest
from routing.models import FINAL_EVENTS, Clock, Event
from routing.site import Site
from routing.store import HelpView, InteractionView, MessageView, PopRows, Stores, ThreadView

LAST_MESSAGES = 5  # of a written interaction, told with its offer


class Views:
    """`recording`: whether an interaction is recorded now."""

    def __init__(
        self,
        *,
        stores: Stores,
        site: Callable[[], Site],
        clock: Clock,
        channels: Mapping[str, Manifest],
        recording: Callable[[UUID], bool],
    ) -> None:
        self._stores, self._site, self._clock = stores, site, clock
        self.channels, self._recording = channels, recording
        self.titles = TreeTitles(stores.trees)
        self._unread = Unread()
        self._gone: dict[UUID, datetime] = {}  # visitors, by interaction

    def apply(self, event: Event) -> None:
        self._unread.apply(event)
        if event.type in FINAL_EVENTS and event.interaction is not None:
            self._gone.pop(event.interaction, None)

    def gone(self, interaction: UUID, since: datetime | None) -> None:
        """Its visitor is gone; None: back."""
        if since is None:
            self._gone.pop(interaction, None)
        else:
            self._gone[interaction] = since

    async def interaction(self, view: InteractionView) -> schemas.Interaction:
        return rows.interaction(
            view,
            recording=self._recording(view.id),
            unread=await self._count_of(view),
            gone_since=self._gone.get(view.id),
        )

    async def _count_of(self, view: InteractionView) -> int:
        """The unread messages of a written interaction that lives; read once for those from before our start."""
        if view.thread is None or view.ended_at is not None:
            return 0
        if self._unread.begin(view.id):
            try:
                self._unread.remember(view.id, await self._stores.messages.of_interaction(view.id))
            except BaseException:
                self._unread.forget(view.id)
                raise
        return self._unread.count(view.id)

    async def looked(self, view: InteractionView, seq: int) -> bool:
        """Its advisor has read what the customer wrote up to `seq`; False when all was read before."""
        if not await self._count_of(view):
            return False
        self._unread.looked(view.id, seq)
        return True

    def message(self, view: MessageView) -> schemas.Message:
        return rows.message(view, self._site())

    def thread(self, view: ThreadView) -> schemas.Thread:
        """Of a channel that is not here any more, nothing can be written."""
        manifest = self.channels.get(view.channel) or Manifest(
            name=view.channel,
            seat="chat",
            address_kind=view.address_kind,
            labels={},
            text_chars=0,
            window_h=0.0,
        )
        return rows.thread(view, manifest, self._site(), self._clock.now())

    async def help(self, case: UUID, id: UUID) -> HelpView | None:
        return next((h for h in await self._stores.helps.of_case(case) if h.id == id), None)

    async def accounts(self) -> list[schemas.AccountRow]:
        """Every account of the site, as it stands."""
        site = self._site()
        if not site.accounts:
            return []
        states = {state.account: state for state in await self._stores.account_states.all()}
        waiting = await self._stores.outbox.lengths()
        language = site.languages[0]
        return [
            rows.account_row(
                a, self.channels.get(a.channel), states.get(a.id), language, waiting.get(a.id, 0)
            )
            for a in site.accounts
        ]

    async def offer(self, made: Event) -> tuple[schemas.Offer, PopRows] | None:
        """An offer with everything its advisor needs to know, and the rows that it was made of."""
        assert made.interaction is not None
        found = await self._stores.timeline.pop(made.interaction)
        if found is None:
            return None
        queue = next((q for q in self._site().queues if q.id == found.interaction.queue), None)
        called = found.interaction.channel == "voice"
        offer = schemas.Offer(
            id=UUID(str(made.data["offer"])),
            interaction=await self.interaction(found.interaction),
            deadline=datetime.fromtimestamp(float(made.data["deadline"]), made.at.tzinfo),
            made_at=made.at,
            pop=await self._told(found),
            pop_at=queue.pop if queue and called else "ring",
        )
        return offer, found

    async def pop(self, interaction: UUID) -> schemas.Pop | None:
        """What the advisor of an interaction was told, as it stands now."""
        found = await self._stores.timeline.pop(interaction)
        return await self._told(found) if found is not None else None

    async def _told(self, found: PopRows) -> schemas.Pop:
        titles = await self.titles.of(found.path)
        messages: list[MessageView] = []
        if found.interaction.thread is not None:
            messages = list(await self._stores.messages.of_interaction(found.interaction.id))[-LAST_MESSAGES:]
        return screenpop.pop(found, self._site(), self._clock.now(), titles, messages)
