"""A day at the hotline by chance: every kind of submission, in any order that people manage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

from routing import models as m
from tests.routing.hotline import Hotline

NUMBERS = [f"+336112233{n:02}" for n in range(12)] + ["anonymous", "06 11 22 33 04", "101"]


class Traffic:
    """Seeded. `told` is called with each submission and its outcome once it has been answered."""

    def __init__(
        self,
        line: Hotline,
        random: Random,
        told: Callable[[m.Submission, m.Outcome], None] = lambda *it: None,
    ) -> None:
        self.line, self.random, self.told = line, random, told
        self.sent: list[tuple[m.Submission, m.Outcome]] = []
        self.merges: list[UUID] = []
        self.seen: list[UUID] = []

    async def start(self) -> None:
        for advisor in self.line.desk.site.advisors:
            await self.line.ready(advisor.id)

    async def steps(self, count: int, together: int = 3) -> None:
        """`count` times up to `together` submissions at once, with time passing between."""
        for _ in range(count):
            many = [self.one() for _ in range(self.random.randint(1, together))]
            await asyncio.gather(*(self.submit(each) for each in many if each is not None))
            if self.random.random() < 0.3:
                self.line.clock.pass_(self.random.choice((0.5, 3, 16, 31, 61)))
                self.line.desk.nudge()

    async def submit(self, submission: m.Submission) -> None:
        outcome = await self.line.desk.submit(submission)
        self.told(submission, outcome)
        self.sent.append((submission, outcome))
        if self.random.random() < 0.05:
            again, first = self.random.choice(self.sent)
            assert await self.line.desk.submit(again) == first, again

    def _make(self, kind: type[m.Submission], **fields: Any) -> m.Submission:
        return kind(key=self.line.ids(), organisation=self.line.organisation, **fields)

    def one(self) -> m.Submission | None:
        """The next thing that somebody does; None when it makes no sense now."""
        pick, line = self.random, self.line
        live = sorted(line.desk.interactions(), key=lambda row: row.id)
        if len(live) < 4 or (len(live) < 40 and pick.random() < 0.25):
            interaction = line.ids()
            self.seen.append(interaction)
            return self._make(
                m.InteractionOpened,
                interaction=interaction,
                channel=pick.choice(("voice", "voice", "voice", "chat")),
                direction="in",
                call=str(interaction),
                address=pick.choice(NUMBERS),
                dialled="3631",
            )
        row = pick.choice(live)
        advisor = row.advisor or pick.choice(line.desk.site.advisors).id
        fitting: dict[str, list[Callable[[], m.Submission]]] = {
            "opened": [
                lambda: self._make(m.TreeEntered, interaction=row.id, tree="main", version=1),
                lambda: self._make(
                    m.Enqueued, interaction=row.id, queue=pick.choice(("general", "billing", "nowhere"))
                ),
                lambda: self._make(m.CallFailed, interaction=row.id, reason="busy"),
            ],
            "qualifying": [
                lambda: self._make(
                    m.NodeLeft, interaction=row.id, node="menu", exit="1", seconds=1.5, keys="1"
                ),
                lambda: self._make(
                    m.FactsLearned, interaction=row.id, facts={"language": "fr", "n": pick.randint(0, 9)}
                ),
                lambda: self._make(m.Enqueued, interaction=row.id, queue=pick.choice(("general", "billing"))),
                lambda: self._make(
                    m.Enqueued, interaction=row.id, queue="general", needs=(("fr", 3),), priority=7
                ),
                lambda: self._make(m.TreeEnded, interaction=row.id),
            ],
            "waiting": [
                lambda: self._make(m.CustomerLeft, interaction=row.id, how=pick.choice(("hangup", "key"))),
                lambda: self._make(
                    m.PriorityChanged, interaction=row.id, priority=pick.randint(0, 20), by="sue"
                ),
                lambda: self._make(m.PresenceSet, advisor=advisor, presence=m.Presence.READY),
            ],
            "offered": [
                lambda: self._make(m.OfferAccepted, offer=row.offer),
                lambda: self._make(m.OfferAccepted, offer=row.offer),
                lambda: self._make(m.OfferRefused, offer=row.offer, reason=pick.choice(("refused", "busy"))),
                lambda: self._make(m.PopShown, offer=row.offer, after_ms=80),
                lambda: self._make(m.CustomerLeft, interaction=row.id),
            ],
            "active": [
                lambda: self._make(m.HoldChanged, interaction=row.id, held=not row.held),
                lambda: self._make(m.TalkEnded, interaction=row.id, by="customer"),
                lambda: self._make(m.TalkEnded, interaction=row.id, by="advisor"),
                lambda: self._make(m.CustomerLeft, interaction=row.id),
                lambda: self._make(m.AdvisorLost, interaction=row.id, reason="no_media"),
                lambda: self._make(m.RecordingStored, **self._recording(row.id)),
            ],
            "wrapup": [
                lambda: self._make(
                    m.WrapupDone, interaction=row.id, code=pick.choice(("done", "later")), by=advisor
                ),
                lambda: self._make(m.WrapupDone, interaction=row.id, note="A note", by=advisor),
                lambda: self._make(m.WrapupExtended, interaction=row.id),
            ],
        }
        anything: list[Callable[[], m.Submission | None]] = [
            lambda: self._make(m.PresenceSet, advisor=advisor, presence=pick.choice(list(m.Presence))),
            lambda: self._make(
                m.ReachChanged, advisor=advisor, channel="voice", reachable=pick.random() < 0.8
            ),
            lambda: self._make(m.Interrupted, interaction=row.id, reason="failure"),
            lambda: self._make(m.NoteWritten, case=row.case_id, note=line.ids(), text="Note", by=advisor),
            lambda: self._make(
                m.CaseChanged, case=row.case_id, by=advisor, state=pick.choice(list(m.CaseState))
            ),
            lambda: self._make(
                m.ContactChanged, contact=row.contact, by=advisor, name=f"Name {pick.randint(1, 9)}"
            ),
            lambda: self._make(
                m.ContactChosen, interaction=row.id, contact=pick.choice(live).contact, by=advisor
            ),
            lambda: self._make(m.CaseChosen, interaction=row.id, case=pick.choice(live).case_id, by=advisor),
            lambda: self._make(
                m.CaseCreated, case=line.ids(), contact=row.contact, subject="New", by=advisor
            ),
            lambda: self._merge(row.contact, pick.choice(live).contact, advisor),
            lambda: (
                self._make(m.MergeUndone, merge=pick.choice(self.merges), by=advisor) if self.merges else None
            ),
            lambda: (
                self._make(m.NodeLeft, interaction=pick.choice(self.seen), node="x", exit="y", seconds=0.1)
                if self.seen
                else None
            ),
        ]
        choices: list[Callable[[], m.Submission | None]] = [*fitting[row.state]]
        return pick.choice(choices if pick.random() < 0.8 else anything)()

    def _recording(self, interaction: UUID) -> dict[str, Any]:
        id_ = self.line.ids()
        return {
            "interaction": interaction,
            "recording": id_,
            "path": f"recordings/{id_}.wav",
            "duration_ms": 1000,
            "bytes": 32044,
            "complete": True,
        }

    def _merge(self, contact: UUID, into: UUID, by: str) -> m.Submission:
        merge = self.line.ids()
        self.merges.append(merge)
        return self._make(
            m.ContactsMerged, merge=merge, into=into, contact=contact, by=by, reason="same person"
        )
