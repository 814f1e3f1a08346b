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
        self.case_merges: list[UUID] = []
        self.written: list[UUID] = []  # messages
        self.helps: list[UUID] = []
        self.files: list[dict[str, UUID]] = []

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
        assert outcome.refused != "failed", submission
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
            if pick.random() < 0.4:
                return self._letter()
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
                lambda: self._make(m.Connected, interaction=row.id),
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
        anything += [
            self._letter,
            self._letter,
            lambda: self._echo(),
            lambda: self._make(
                m.CasesMerged,
                merge=self._kept(self.case_merges),
                case=row.case_id,
                into=pick.choice(live).case_id,
                by=advisor,
            ),
            lambda: (
                self._make(m.CaseMergeUndone, merge=pick.choice(self.case_merges), by=advisor)
                if self.case_merges
                else None
            ),
            lambda: self._make(
                m.CaseChanged, case=row.case_id, by=advisor, tags=tuple(pick.sample(line.desk.site.tags, 1))
            ),
            lambda: self._make(
                m.AccountChanged,
                account="page",
                state=pick.choice(("up", "throttled", "down")),
                reason="token",
            ),
            lambda: self._make(
                m.HelpAsked, help=self._kept(self.helps), interaction=row.id, by=advisor, text="Help?"
            ),
            lambda: (
                self._make(m.HelpAnswered, help=pick.choice(self.helps), by=advisor, text="So")
                if self.helps
                else None
            ),
            self._status,
            lambda: (
                self._make(
                    m.MessageChanged,
                    message=pick.choice(self.written),
                    what=pick.choice(("edited", "unsent", "reacted", "unreacted")),
                    text="New",
                )
                if self.written
                else None
            ),
            lambda: (
                self._make(m.AttachmentStored, path="x", sha256="ab", **pick.choice(self.files))
                if self.files
                else None
            ),
            lambda: self._make(m.InteractionTaken, interaction=row.id, advisor=advisor, by=advisor),
            lambda: self._out_call(row, advisor),
        ]
        if row.thread is not None:
            fitting[row.state] += [
                lambda: self._write(row.id, "advisor", advisor),
                lambda: self._write(row.id, "bot", ""),
                lambda: self._step(row.id),
                lambda: self._make(m.HandedBack, interaction=row.id, node="menu", by=advisor),
                lambda: self._make(
                    m.InteractionClosed,
                    interaction=row.id,
                    by=advisor,
                    outcome=pick.choice(("answered", "archived")),
                    reason="spam",
                    code=pick.choice((None, "done", "later")),
                ),
            ]
            if row.state == "active":  # it does not end as a talk does
                fitting["active"] = [*fitting["active"][-5:], lambda: self._out_call(row, advisor)]
        choices: list[Callable[[], m.Submission | None]] = [*fitting[row.state]]
        return pick.choice(choices if pick.random() < 0.8 else anything)()

    def _kept(self, ids: list[UUID]) -> UUID:
        ids.append(self.line.ids())
        return ids[-1]

    def _letter(self) -> m.Submission:
        pick = self.random
        fields = self.line.letter(
            f"Words {pick.randint(1, 99)}",
            f"psid-{pick.randint(1, 8)}",
            automatic=pick.random() < 0.1,
            attached=(m.Attached(attachment=self.line.ids(), kind="image"),) if pick.random() < 0.2 else (),
        )
        if pick.random() < 0.4:
            fields = self.line.letter("Mail", f"p{pick.randint(1, 4)}@example.org", account="box")
        self.written.append(fields["message"])
        self.files += [
            {"message": fields["message"], "attachment": each.attachment}
            for each in fields.get("attached", ())
        ]
        return self._make(m.MessageReceived, **fields)

    def _echo(self) -> m.Submission:
        peer = {"account": "page", "address_kind": "psid", "address": f"psid-{self.random.randint(1, 9)}"}
        id_ = self._kept(self.written)
        return self._make(m.MessageEchoed, message=id_, external_id=f"e.{id_}", text="Elsewhere", **peer)

    def _write(self, interaction: UUID, author: str, by: str) -> m.Submission:
        said = {"author": author, "by": by, "text": f"Answer {self.random.randint(1, 99)}"}
        return self._make(m.MessageWritten, message=self._kept(self.written), interaction=interaction, **said)

    def _step(self, interaction: UUID) -> m.Submission:
        """One step of a walk, with all that may follow from it."""
        pick, line = self.random, self.line
        more: dict[str, Any] = pick.choice(
            ({}, {"ended": "served"}, {"leave": "key"}, {"facts": {"n": 1}}, {})
        )
        if pick.random() < 0.3:
            queue = pick.choice(("general", "billing", "nowhere"))
            more["enqueue"] = self._make(m.Enqueued, interaction=interaction, queue=queue)
        return self._make(
            m.WalkStepped,
            interaction=interaction,
            tree="bot",
            version=1,
            walk={"at": "menu"},
            consumed=line.desk.seq,
            left=(("menu", "1", 1.0),),
            said=(m.Said(message=self._kept(self.written), text="Bot"),),
            **more,
        )

    def _status(self) -> m.Submission | None:
        if not self.written:
            return None
        message = self.random.choice(self.written)
        status = self.random.choice(sorted(m.STATUS_RANK))
        return self._make(m.MessageStatus, message=message, status=status, external_id=f"x.{message}")

    def _out_call(self, row: Any, advisor: str) -> m.Submission:
        """A call from a case, from a chat if there is one in hand."""
        return self._make(
            m.InteractionOpened,
            interaction=self._kept(self.seen),
            channel="voice",
            direction="out",
            address=self.random.choice(NUMBERS),
            case=row.case_id,
            advisor=advisor,
            exchange=row.id if row.thread is not None else None,
        )

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
