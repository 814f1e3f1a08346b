"""Call control: what happens between the desk's events and the legs once a call is offered to an advisor.

Rule 1: the desk decides, this carries it out. A leg is joined only after the acceptance was committed.
Rule 2: legs follow what is published: when an offer or an interaction is over, its legs end in the same step.
Rule 3: what a leg does is acted on at once and submitted at once; the desk's refusal of a late word is no error.
Rule 4: a mistake of ours ends its own call, with an apology to the caller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram

from cti.aio.ports import Desk, Line, Pages, Switch, Waiting
from cti.aio.recorder import Recorder
from cti.aio.reports import Reports
from cti.aio.talk import CALLING, UP, Phase, Talk
from cti.endings import LOST, failure, refusal
from cti.hearing import Hearing
from routing.aio.crash import crash_point
from routing.models import (
    FINAL_EVENTS,
    AdvisorLost,
    CallFailed,
    Clock,
    Connected,
    CustomerLeft,
    Event,
    HoldChanged,
    Ids,
    InteractionOpened,
    Interrupted,
    OfferAccepted,
    OfferRefused,
    PopShown,
    T,
    TalkEnded,
)
from routing.site import Site
from routing.store import Timeline
from softphone_bridge.aio.switch import CallRefused, Destination, Outgoing
from softphone_bridge.events import (
    Cause,
    LegAnswered,
    LegEnded,
    LegEvent,
    LegHeld,
    LegTaken,
    PlayEnded,
    RecordingEnded,
    VoiceNoticed,
)

log = structlog.get_logger(__name__)

POP_WAIT_S = 0.25  # the phone rings when the page has shown the pop, or after this (issue: 250 ms)
HOLD_REMINDER_S = 180.0  # T1
NOTICE_CAP_S = 10.0  # a recording notice longer than this is cut: two people wait for it
LINGER_S = 5.0  # for an apology to be heard
REFLEX_S = 0.5  # a phone that says no sooner than anybody can see it ring does so by itself

POPS = Counter("monofil_pops_total", "Screen pops by whether the page confirmed before the ring", ["result"])
POP_SECONDS = Histogram(
    "monofil_pop_seconds",
    "From the offer to the page's word that the pop is on the screen",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.25),
)
FAILURES = Counter("monofil_call_control_failures_total", "Mistakes of ours that ended a call")


class NotPossible(Exception):
    """What was asked cannot be done now; `why` is a stable word."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(slots=True)
class _Known:
    """What the log has said of a live voice interaction."""

    call: str
    queue: str | None = None
    language: str | None = None
    legs: int = 1


class CallControl:
    """Carries out the desk's word on legs. `async with` it; `sound(name, language)` is the path of a WAV file."""

    def __init__(
        self,
        *,
        desk: Desk,
        switch: Switch,
        pages: Pages,
        waiting: Waiting,
        timeline: Timeline,
        site: Callable[[], Site],
        clock: Clock,
        ids: Ids,
        organisation: UUID,
        sound: Callable[[str, str], str],
        data_dir: Path,
        pop_wait_s: float = POP_WAIT_S,
        hold_reminder_s: float = HOLD_REMINDER_S,
        reflex_s: float = REFLEX_S,
    ) -> None:
        self.desk, self.switch, self.pages, self.waiting = desk, switch, pages, waiting
        self.timeline, self.site, self.clock, self.ids, self.sound = timeline, site, clock, ids, sound
        self.reports = Reports(desk, organisation, ids)
        self.recorder = Recorder(switch=switch, reports=self.reports, clock=clock, ids=ids, data_dir=data_dir)
        self.pop_wait_s, self.hold_reminder_s, self.reflex_s = pop_wait_s, hold_reminder_s, reflex_s
        self.pops_shown = self.pops_missed = 0
        self._talks: dict[UUID, Talk] = {}
        self._known: dict[UUID, _Known] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] | None = None

    async def __aenter__(self) -> CallControl:
        self._unsubscribe = self.desk.subscribe(self._on_event)
        for mark in self.recorder.left():
            self._soon(self.recorder.store_left(mark))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._unsubscribe:
            self._unsubscribe()
        for talk in list(self._talks.values()):
            self._drop(talk)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Wait until everything that was begun has been carried out."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def recording(self, interaction: UUID) -> bool:
        talk = self._talks.get(interaction)
        return talk is not None and talk.recording is not None

    async def hold(self, interaction: UUID, advisor: str) -> None:
        talk = self._mine(interaction, advisor)
        if talk.phase is not Phase.TALKING:
            raise NotPossible("not_talking")
        self._hold(talk)
        outcome = await self.reports.submit(HoldChanged, interaction=interaction, held=True)
        if outcome.refused:
            if _phase(talk) is Phase.HELD:
                self._resume(talk)
            raise NotPossible("not_talking")

    async def resume(self, interaction: UUID, advisor: str) -> None:
        talk = self._mine(interaction, advisor)
        if talk.phase is not Phase.HELD:
            raise NotPossible("not_held")
        self._resume(talk)
        await self.reports.submit(HoldChanged, interaction=interaction, held=False)

    async def hang_up(self, interaction: UUID, advisor: str) -> None:
        """End the talk, or give up a call that is being placed."""
        talk = self._mine(interaction, advisor)
        if talk.phase in CALLING:
            self._drop(talk)
            await self.reports.submit(CallFailed, interaction=interaction, reason="cancelled")
        elif talk.phase in UP:
            self._drop(talk)
            await self.reports.submit(TalkEnded, interaction=interaction, by="advisor")
        else:
            raise NotPossible("not_talking")

    async def call_out(
        self,
        advisor: str,
        number: str,
        *,
        case: UUID | None = None,
        contact: UUID | None = None,
        exchange: UUID | None = None,
        language: str | None = None,
    ) -> UUID:
        """Click-to-call (T9): the advisor's phone rings first, then the customer is called. Returns at once.

        `exchange` is the written interaction whose seat the call takes until it is over (F5); `language` that of the
        customer, for what is announced to both.
        """
        person = next((a for a in self.site().advisors if a.id == advisor), None)
        if person is None or not person.phone:
            raise NotPossible("no_phone")
        if not self.switch.registered(person.phone):
            raise NotPossible("phone_not_registered")
        interaction, call = self.ids(), str(self.ids())
        talk = Talk(
            interaction=interaction,
            call=call,
            advisor=advisor,
            account=person.phone,
            phase=Phase.CALLING_ADVISOR,
            advisor_leg=f"{call}.1",
            customer_leg=f"{call}.2",
            language=language if language in self.site().languages else person.language,
            number=number,
        )
        self._talks[interaction] = talk
        outcome = await self.reports.submit(
            InteractionOpened,
            interaction=interaction,
            channel="voice",
            direction="out",
            call=call,
            address=number,
            case=case,
            contact=contact,
            advisor=advisor,
            exchange=exchange,
        )
        if outcome.refused:
            self._drop(talk)
            raise NotPossible(outcome.refused)
        crash_point("control.called_out")
        if talk.phase is Phase.CALLING_ADVISOR:
            self._go(talk, self._call_advisor(talk))
        return interaction

    def _mine(self, interaction: UUID, advisor: str) -> Talk:
        talk = self._talks.get(interaction)
        if talk is None or talk.advisor != advisor:
            raise NotPossible("not_your_call")
        return talk

    def _on_event(self, event: Event) -> None:
        interaction = event.interaction
        if interaction is None:
            return
        match event.type:
            case T.INTERACTION_OPENED if event.data.get("channel") == "voice" and event.data.get("call"):
                self._known[interaction] = _Known(str(event.data["call"]))
            case T.ENQUEUED if interaction in self._known:
                known = self._known[interaction]
                known.queue = event.data.get("queue")
                known.language = event.data.get("language") or known.language
            case T.FACTS_LEARNED if interaction in self._known:
                known = self._known[interaction]
                known.language = event.data.get("language") or known.language
            case T.OFFERED if interaction in self._known:
                self._offered(event, interaction)
            case T.OFFER_ENDED:
                talk = self._talks.get(interaction)
                over = event.data.get("how") != "accepted"
                if talk and over and str(talk.offer) == str(event.data.get("offer")):
                    self._drop(talk)
            case T.TALK_ENDED:
                self._over(interaction)
            case T.REQUEUED:
                self._requeued(interaction)
            case kind if kind in FINAL_EVENTS:
                self._over(interaction)
                self._known.pop(interaction, None)

    def _offered(self, event: Event, interaction: UUID) -> None:
        known = self._known[interaction]
        site = self.site()
        advisor = next((a for a in site.advisors if a.id == event.advisor), None)
        line = self.waiting.line(interaction)
        offer = UUID(str(event.data["offer"]))
        if advisor is None or not advisor.phone:
            self._soon(self.reports.tell(OfferRefused, offer=offer, reason="not_registered"))
            return
        known.legs += 1
        talk = Talk(
            interaction=interaction,
            call=known.call,
            advisor=advisor.id,
            account=advisor.phone,
            phase=Phase.POPPING,
            advisor_leg=f"{known.call}.{known.legs}",
            customer_leg=line.leg if line else f"{known.call}.1",
            offer=offer,
            queue=next((q for q in site.queues if q.id == known.queue), None),
            language=(line.language if line else None) or known.language or site.languages[0],
            made_s=time.monotonic(),
            deadline=float(event.data["deadline"]),
        )
        former = self._talks.get(interaction)
        if former is not None:
            self._drop(former)
        self._talks[interaction] = talk
        self._go(talk, self._pop_then_ring(talk))

    def _over(self, interaction: UUID) -> None:
        talk = self._talks.get(interaction)
        if talk is not None:
            self._drop(talk)

    def _requeued(self, interaction: UUID) -> None:
        talk = self._talks.get(interaction)
        if talk is None:
            return
        if talk.phase not in UP | {Phase.RETURNING}:  # the caller's leg never left the runner
            self._drop(talk)
            return
        del self._talks[interaction]
        self._forget(talk)
        self.switch.hang_up(talk.advisor_leg)
        self.waiting.take_back(talk.customer_leg, interaction)

    async def _pop_then_ring(self, talk: Talk) -> None:
        assert talk.offer is not None
        number = asyncio.ensure_future(self._number(talk.interaction))
        shown = False
        try:
            waits = talk.queue is None or talk.queue.pop == "ring"
            if waits and (page := self.pages.expect(talk.offer, talk.advisor)) is not None:
                try:
                    await asyncio.wait_for(asyncio.shield(page), self.pop_wait_s)
                    shown = True
                except TimeoutError:
                    pass
            took_s = time.monotonic() - talk.made_s
            if waits:
                self._count_pop(shown, took_s)
                self._soon(
                    self.reports.tell(
                        PopShown, offer=talk.offer, after_ms=round(took_s * 1000), missed=not shown
                    )
                )
            left_s = max(0.0, self.pop_wait_s - took_s)
            try:
                caller, name = await asyncio.wait_for(asyncio.shield(number), max(left_s, 0.05))
            except TimeoutError:
                caller, name = "anonymous", ""
        finally:
            number.cancel()
            self.pages.forget(talk.offer)
        if talk.phase is not Phase.POPPING:
            return
        crash_point("control.popped")
        talk.phase, talk.rung_s = Phase.RINGING, time.monotonic()
        try:
            await self.switch.place(
                Outgoing(
                    leg=talk.advisor_leg,
                    call=talk.call,
                    to=Destination(account=talk.account),
                    caller=caller,
                    caller_name=name,
                    near=talk.customer_leg,
                    ring_s=max(1.0, talk.deadline - self.clock.unix() + 1.0),
                    headers={"X-Monofil-Interaction": str(talk.interaction), "X-Monofil-Call": talk.call},
                ),
                lambda heard: self._advisor_said(talk, heard),
            )
        except CallRefused as refused:
            if talk.phase is Phase.RINGING:
                self._drop(talk)
                if refused.why != "gone":  # then the caller has left, and the desk knows or will in a moment
                    reason = refused.why if refused.why == "not_registered" else "failed"
                    await self.reports.tell(OfferRefused, offer=talk.offer, reason=reason)
            return
        crash_point("control.placed")
        if talk.phase is Phase.OVER:  # it ended while the leg was being placed
            self.switch.hang_up(talk.advisor_leg)

    def _count_pop(self, shown: bool, took_s: float) -> None:
        POPS.labels("shown" if shown else "missed").inc()
        if shown:
            self.pops_shown += 1
            POP_SECONDS.observe(took_s)
        else:
            self.pops_missed += 1

    async def _number(self, interaction: UUID) -> tuple[str, str]:
        """What the advisor's phone shows: the number as it came, and the name."""
        try:
            view = await self.timeline.interaction(interaction)
        except Exception:
            log.warning("the caller's number could not be read", interaction_id=str(interaction))
            return "anonymous", ""
        if view is None:
            return "anonymous", ""
        return view.received or view.address_value or "anonymous", view.contact_name

    async def _accepted(self, talk: Talk) -> None:
        assert talk.offer is not None
        crash_point("control.answered")
        outcome = await self.reports.submit(OfferAccepted, offer=talk.offer)
        if outcome.refused:
            log.info("an answer came too late", interaction_id=str(talk.interaction), why=outcome.refused)
            self._drop(talk)
            return
        if talk.phase is not Phase.ACCEPTING:
            return
        crash_point("control.accepted")
        if not self.switch.take(talk.customer_leg, lambda heard: self._customer_said(talk, heard)):
            self._drop(talk)
            await self.reports.tell(TalkEnded, interaction=talk.interaction, by="customer")
            return
        if not self.switch.alive(talk.advisor_leg):
            self._lose_advisor(talk, "gone")
            return
        crash_point("control.taken")
        talk.phase = Phase.TALKING
        self.switch.stop(talk.customer_leg)
        await self._let_talk(talk, recorded=talk.queue is None or talk.queue.record)

    async def _let_talk(self, talk: Talk, *, recorded: bool) -> None:
        """Both are there: the notice and the recording where one is made, then they hear each other."""
        if recorded:
            await self._give_notice(talk)
            crash_point("control.noticed")
            if talk.phase in UP:
                if self.recorder.begin(talk):
                    self._tell_recording(talk)
                else:
                    self._not_recorded(talk)
        if talk.phase is Phase.TALKING:
            self._join(talk)

    async def _give_notice(self, talk: Talk) -> None:
        """Both hear that the call is recorded, before it is (T6)."""
        path = self.sound(self.site().recording_notice, talk.language)
        plays = []
        for leg in (talk.customer_leg, talk.advisor_leg):
            done = asyncio.Event()
            number = self.switch.play(leg, [path])
            if leg == talk.customer_leg and number:
                talk.notices[number] = done
                plays.append(done)
        try:
            await asyncio.wait_for(asyncio.gather(*(p.wait() for p in plays)), NOTICE_CAP_S)
        except TimeoutError:
            log.warning("a recording notice did not end", interaction_id=str(talk.interaction))
        finally:
            talk.notices.clear()

    def _join(self, talk: Talk) -> None:
        self.switch.stop(talk.customer_leg)
        self.switch.stop(talk.advisor_leg)
        self.switch.join(talk.customer_leg, talk.advisor_leg)
        crash_point("control.joined")
        now_s = time.monotonic()
        if talk.hearing is None:
            talk.hearing = Hearing(now_s)
        talk.hearing.resume(now_s)
        for leg in (talk.customer_leg, talk.advisor_leg):
            self.switch.watch(leg, True)
        self._look_at_hearing(talk)

    def _tell_recording(self, talk: Talk) -> None:
        """Nothing happens to the interaction, so no event says it."""
        about = {"interaction": str(talk.interaction), "recording": talk.recording is not None}
        self.pages.tell(talk.advisor, "call.recording", about)

    def _not_recorded(self, talk: Talk) -> None:
        """The call goes on without its recording, or without the rest of it: the advisor is told (row 10)."""
        self._tell_recording(talk)
        self._warn(talk, "not_recorded", interaction=str(talk.interaction))

    def _warn(self, talk: Talk, code: str, **args: Any) -> None:
        self.pages.tell(talk.advisor, "notice", {"level": "warning", "code": code, "args": args})

    def _advisor_said(self, talk: Talk, heard: LegEvent) -> None:
        match heard:
            case LegAnswered():
                if talk.phase is Phase.RINGING:
                    talk.phase = Phase.ACCEPTING
                    self._go(talk, self._accepted(talk))
                elif talk.phase is Phase.CALLING_ADVISOR:
                    talk.phase = Phase.CALLING_CUSTOMER
                    self._go(talk, self._call_customer(talk))
                elif talk.phase is Phase.OVER:
                    self.switch.hang_up(talk.advisor_leg)  # a late 200 after our CANCEL
            case LegEnded():
                self._advisor_ended(talk, heard)
            case LegHeld(held=held):
                self._phone_held(talk, held)
            case VoiceNoticed(heard=voice, silent_s=silent_s):
                self._voice(talk, "advisor", voice, silent_s)
            case RecordingEnded():
                self._recorded(heard)
            case _:
                pass

    def _customer_said(self, talk: Talk, heard: LegEvent) -> None:
        match heard:
            case LegAnswered():
                if talk.phase is Phase.CALLING_CUSTOMER:
                    self._go(talk, self._connected(talk))
                elif talk.phase is Phase.OVER:
                    self.switch.hang_up(talk.customer_leg)
            case LegEnded():
                self._customer_ended(talk, heard)
            case PlayEnded(play=play):
                if (done := talk.notices.get(play)) is not None:
                    done.set()
            case VoiceNoticed(heard=voice, silent_s=silent_s):
                self._voice(talk, "caller", voice, silent_s)
            case RecordingEnded():
                self._recorded(heard)
            case LegTaken():
                self._forget(talk)
            case _:
                pass

    def _advisor_ended(self, talk: Talk, ended: LegEnded) -> None:
        phase = talk.phase
        if phase in {Phase.OVER, Phase.RETURNING}:
            return
        if phase in {Phase.RINGING, Phase.POPPING}:
            if ended.cause is Cause.LOCAL:
                return
            self._drop(talk)
            if self.switch.alive(talk.customer_leg):
                reason = refusal(ended)
                if reason == "refused" and time.monotonic() - talk.rung_s < self.reflex_s:
                    reason = "busy"
                self._soon(self.reports.tell(OfferRefused, offer=talk.offer, reason=reason))
        elif phase in CALLING:
            self._drop(talk)
            reason = f"advisor_{failure(ended)}" if phase is Phase.CALLING_ADVISOR else "cancelled"
            self._failed_call(talk, reason)
        elif phase is Phase.ACCEPTING:
            return  # _accepted looks whether the leg is alive, once the acceptance is committed
        elif ended.cause in LOST:
            self._lose_advisor(talk, str(ended.cause))
        else:
            self._drop(talk)
            self._soon(self.reports.tell(TalkEnded, interaction=talk.interaction, by="advisor"))

    def _customer_ended(self, talk: Talk, ended: LegEnded) -> None:
        phase = talk.phase
        if phase is Phase.OVER:
            return
        if phase in CALLING:
            self._drop(talk)
            self._failed_call(talk, failure(ended))
            return
        self._drop(talk)
        if phase is Phase.RETURNING:
            self._soon(self.reports.tell(CustomerLeft, interaction=talk.interaction))
        else:
            by = "failure" if ended.cause is Cause.FAILED else "customer"
            self._soon(self.reports.tell(TalkEnded, interaction=talk.interaction, by=by))

    def _lose_advisor(self, talk: Talk, reason: str) -> None:
        """The advisor's leg is gone without a word: the caller hears music and goes back to his place."""
        talk.phase = Phase.RETURNING
        self._stop_timers(talk)
        self.recorder.stop(talk)
        self.switch.play(talk.customer_leg, [self._music(talk)], loop=True)
        self._warn(talk, "advisor_leg_lost", reason=reason)
        self._go(talk, self._give_back(talk, reason))

    async def _give_back(self, talk: Talk, reason: str) -> None:
        crash_point("control.lost")
        outcome = await self.reports.submit(AdvisorLost, interaction=talk.interaction, reason=reason)
        if outcome.refused and talk.phase is Phase.RETURNING:
            log.warning(
                "a caller could not go back", interaction_id=str(talk.interaction), why=outcome.refused
            )
            self._drop(talk)

    def _phone_held(self, talk: Talk, held: bool) -> None:
        """The advisor pressed hold on the phone itself."""
        if held and talk.phase is Phase.TALKING:
            self._hold(talk)
        elif not held and talk.phase is Phase.HELD:
            self._resume(talk)
        else:
            return
        self._soon(self.reports.tell(HoldChanged, interaction=talk.interaction, held=held))

    def _hold(self, talk: Talk) -> None:
        talk.phase = Phase.HELD
        self._stop_timers(talk)
        self.switch.part(talk.customer_leg, talk.advisor_leg)
        crash_point("control.held")
        self.switch.play(talk.customer_leg, [self._music(talk)], loop=True)
        loop = asyncio.get_running_loop()
        talk.timers.append(loop.call_later(self.hold_reminder_s, self._remind, talk))

    def _resume(self, talk: Talk) -> None:
        talk.phase = Phase.TALKING
        self._stop_timers(talk)
        self._join(talk)

    def _remind(self, talk: Talk) -> None:
        if talk.phase is not Phase.HELD:
            return
        self.switch.play(talk.advisor_leg, [self.sound("hold-reminder.wav", talk.language)])
        self._warn(talk, "held_long", interaction=str(talk.interaction), seconds=self.hold_reminder_s)
        loop = asyncio.get_running_loop()
        talk.timers.append(loop.call_later(self.hold_reminder_s, self._remind, talk))

    def _music(self, talk: Talk) -> str:
        return self.sound(talk.queue.music if talk.queue else "music.wav", talk.language)

    def _voice(self, talk: Talk, side: str, heard: bool, silent_s: float) -> None:
        if talk.hearing is None or talk.phase is not Phase.TALKING:
            return
        talk.hearing.noticed(side, heard, silent_s, time.monotonic())
        self._look_at_hearing(talk)

    def _look_at_hearing(self, talk: Talk) -> None:
        if talk.hearing is None or talk.phase is not Phase.TALKING:
            return
        now_s = time.monotonic()
        verdict = talk.hearing.verdict(now_s)
        if verdict != talk.verdict:
            talk.verdict = verdict
            self.pages.tell(
                talk.advisor,
                "call.quality",
                {
                    "interaction": str(talk.interaction),
                    "what": verdict,
                    "since": self.clock.now().isoformat(),
                },
            )
        self._stop_timers(talk)
        again_s = talk.hearing.look_again_s(now_s)
        loop = asyncio.get_running_loop()
        talk.timers.append(loop.call_later(again_s, self._look_at_hearing, talk))

    async def _call_advisor(self, talk: Talk) -> None:
        try:
            await self.switch.place(
                Outgoing(
                    leg=talk.advisor_leg,
                    call=talk.call,
                    to=Destination(account=talk.account),
                    caller=talk.number,
                    auto_answer=True,
                    headers={"X-Monofil-Interaction": str(talk.interaction), "X-Monofil-Call": talk.call},
                ),
                lambda heard: self._advisor_said(talk, heard),
            )
        except CallRefused as refused:
            self._drop(talk)
            self._failed_call(talk, f"advisor_{refused.why}")
            return
        if talk.phase is Phase.OVER:
            self.switch.hang_up(talk.advisor_leg)

    async def _call_customer(self, talk: Talk) -> None:
        self.switch.play(talk.advisor_leg, [self.sound("ringback.wav", talk.language)], loop=True)
        try:
            await self.switch.place(
                Outgoing(
                    leg=talk.customer_leg,
                    call=talk.call,
                    to=Destination(number=talk.number),
                    caller="anonymous",
                    near=talk.advisor_leg,
                    ring_s=60.0,
                    headers={"X-Monofil-Call": talk.call},
                ),
                lambda heard: self._customer_said(talk, heard),
            )
        except CallRefused as refused:
            if talk.phase is Phase.CALLING_CUSTOMER:
                self._drop(talk)
                self._failed_call(talk, refused.why)
            return
        if talk.phase is Phase.OVER:
            self.switch.hang_up(talk.customer_leg)

    async def _connected(self, talk: Talk) -> None:
        """The customer is on the line: they talk at once (a notice comes first), the desk hears a moment later."""
        talk.phase = Phase.TALKING
        if self.site().record_outgoing:
            self._go(talk, self._let_talk(talk, recorded=True))
        else:
            self._join(talk)
        crash_point("control.connected")
        outcome = await self.reports.submit(Connected, interaction=talk.interaction)
        if outcome.refused and talk.phase is not Phase.OVER:
            log.warning(
                "a connected call was refused", interaction_id=str(talk.interaction), why=outcome.refused
            )
            self._drop(talk)

    def _failed_call(self, talk: Talk, reason: str) -> None:
        self._warn(talk, "call_failed", interaction=str(talk.interaction), reason=reason)
        self._soon(self.reports.tell(CallFailed, interaction=talk.interaction, reason=reason))

    def _drop(self, talk: Talk) -> None:
        """End what this talk holds of legs, and forget it. A caller who still waits keeps the runner's leg."""
        crash_point("control.ended")
        phase, talk.phase = talk.phase, Phase.OVER
        if phase is Phase.OVER:
            return
        if self._talks.get(talk.interaction) is talk:
            del self._talks[talk.interaction]
        self._forget(talk)
        self.switch.hang_up(talk.advisor_leg)
        if phase in UP | CALLING | {Phase.RETURNING}:
            self.switch.hang_up(talk.customer_leg)

    def _forget(self, talk: Talk) -> None:
        talk.phase = Phase.OVER
        self._stop_timers(talk)
        self.recorder.stop(talk)
        for done in talk.notices.values():
            done.set()
        if talk.offer is not None:
            self.pages.forget(talk.offer)

    def _stop_timers(self, talk: Talk) -> None:
        for timer in talk.timers:
            timer.cancel()
        talk.timers.clear()

    def _recorded(self, ended: RecordingEnded) -> None:
        crash_point("control.recorded")
        mark = self.recorder.ended(ended)
        if mark is None:
            return
        talk = self._talks.get(mark.interaction)
        if not ended.complete and talk is not None and talk.recording == ended.recording:
            talk.recording = None
            log.error("a call goes on unrecorded", call_id=talk.call, interaction_id=str(mark.interaction))
            self._not_recorded(talk)
        self._soon(self.recorder.store(mark, ended.duration_ms, ended.bytes, complete=ended.complete))

    async def _apologise(self, talk: Talk) -> None:
        """Our own mistake: the caller is told so, the record too."""
        phase = talk.phase
        customer = talk.customer_leg
        taken = phase in UP | {Phase.RETURNING, Phase.CALLING_CUSTOMER}
        talk.phase = Phase.OVER
        self._talks.pop(talk.interaction, None)
        self._forget(talk)
        self.switch.hang_up(talk.advisor_leg)
        if taken and self.switch.play(customer, [self.sound("apology", talk.language)]):
            asyncio.get_running_loop().call_later(LINGER_S, self.switch.hang_up, customer)
        if phase in {Phase.POPPING, Phase.RINGING} and talk.offer is not None:
            await self.reports.tell(OfferRefused, offer=talk.offer, reason="failed")
        else:
            await self.reports.tell(Interrupted, interaction=talk.interaction, reason="internal")

    def _soon(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            FAILURES.inc()
            log.error("a submission failed", why=f"{type(error).__name__}: {error}")

    def _go(self, talk: Talk, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._soon(self._supervised(talk, work))

    async def _supervised(self, talk: Talk, work: Coroutine[Any, Any, None]) -> None:
        try:
            with structlog.contextvars.bound_contextvars(
                call_id=talk.call, interaction_id=str(talk.interaction)
            ):
                await work
        except Exception:
            FAILURES.inc()
            log.exception("call control failed", call_id=talk.call, interaction_id=str(talk.interaction))
            await self._apologise(talk)


def _phase(talk: Talk) -> Phase:
    """The phase now: other tasks have run since it was last looked at."""
    return talk.phase


__all__ = ["CallControl", "Desk", "Line", "NotPossible", "Pages", "Switch", "Waiting"]
