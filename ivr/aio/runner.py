"""The voice runner: walks each incoming call through its tree until somebody takes the leg, or it ends.

One task a call hears everything that concerns it through one inbox: the leg, the desk, look-ups and time. What it tells
the desk goes out in order without waiting for the answer, so a slow database never makes a caller wait in a menu.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import structlog
from prometheus_client import Counter

from ivr.aio.lookup import Lookups
from ivr.aio.speech import Speech
from ivr.events import (
    AskHours,
    AskLanguage,
    Command,
    Enqueue,
    Entered,
    HangUp,
    HoursAnswered,
    HungUp,
    Hush,
    Input,
    Key,
    LanguageKnown,
    Learn,
    Leave,
    Left,
    LookedUp,
    LookUp,
    QueueTold,
    Say,
    SayEnded,
    Spoken,
    TimedOut,
    Transfer,
    TransferEnded,
    Wait,
)
from ivr.evidence import Evidence
from ivr.interpreter import OURS, Interpreter
from ivr.picture import picture
from ivr.tree import Forest, Tree
from ivr.waiting import Waiting
from routing import hours
from routing.aio.crash import crash_point
from routing.models import (
    FINAL_EVENTS,
    Clock,
    CustomerLeft,
    Enqueued,
    Event,
    FactsLearned,
    Ids,
    InteractionOpened,
    Interrupted,
    NodeLeft,
    Outcome,
    Submission,
    T,
    TreeEnded,
    TreeEntered,
)
from routing.site import Queue, Site
from softphone_bridge.aio.switch import CallRefused, Destination, Hear, Outgoing, Switch
from softphone_bridge.attestation import attested
from softphone_bridge.events import (
    CallOffered,
    Cause,
    DigitHeard,
    LegAnswered,
    LegEnded,
    LegEvent,
    LegTaken,
    PlayEnded,
)

TREE_LIMIT_S = 1_800.0  # longest stay in a tree outside queues; then something is wrong
APOLOGY_LIMIT_S = 12.0  # longest time given to the last words of a call that we fail
FIRST_PLACE_S = 2.0  # of music before the place in line is told for the first time
KNOWN_LIMIT_S = 1.0  # longest wait for the contact's language; then the caller is asked
CLOSE_LIMIT_S = 30.0  # longest wait for a desk that does not answer, once the call is over

log = structlog.get_logger("ivr.runner")

FAULTS = Counter("monofil_tree_faults_total", "Calls in trees that we failed", ["why"])
ERRORS = Counter("monofil_tree_error_exits_total", "Nodes left by their error exit", ["tree", "node"])


class Desk(Protocol):
    """What the runner needs of the desk."""

    async def submit(self, submission: Submission) -> Outcome: ...

    def subscribe(self, hear: Callable[[Event], None]) -> Callable[[], None]: ...

    def ahead(self, interaction: UUID) -> Mapping[str, str] | None: ...


@dataclass(frozen=True, slots=True)
class Line:
    """A call that the runner brought in, for those who take it over."""

    interaction: UUID
    call: str
    leg: str
    language: str
    queue: str | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the desk made of a submission."""

    submission: Submission
    refused: str


_Heard = LegEvent | Event | LookedUp | LanguageKnown | SayEnded | _Answer | None


class VoiceRunner:
    """All calls in trees. Made once; `switch.on_call(runner.accept)` brings the calls."""

    def __init__(
        self,
        *,
        switch: Switch,
        desk: Desk,
        site: Callable[[], Site],
        forest: Callable[[], Forest],
        clock: Clock,
        ids: Ids,
        organisation: UUID,
        speech: Speech,
        lookups: Lookups,
        known_language: Callable[[UUID], Awaitable[str | None]] | None = None,
    ) -> None:
        self.switch = switch
        self.desk = desk
        self.site = site
        self.forest = forest
        self.clock = clock
        self.ids = ids
        self.organisation = organisation
        self.speech = speech
        self.lookups = lookups
        self.known_language = known_language  # of an interaction's contact
        self.evidence = Evidence()
        self.failures = 0
        self._calls: dict[UUID, _Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._unsubscribe = desk.subscribe(self._published)
        self._prepared: Forest | None = None
        self._preparing: asyncio.Task[None] | None = None
        self.prepare()

    def accept(self, offered: CallOffered) -> Hear:
        """For `switch.on_call`: takes the call in hand and hears its leg."""
        if self._stopping:
            self.switch.reject(offered.leg, 503, retry_after_s=10)
            return _deaf
        self.prepare()
        call = _Call(self, offered)
        if not call.open():
            return _deaf
        self._calls[call.interaction] = call
        self.supervise(call, call.run())
        return call.hear

    def prepare(self) -> None:
        """Synthesise in the background what the trees in force say, so that no caller waits for it.

        Done at the start and at the first call after each publication; called when trees are published, it is earlier.
        """
        forest = self.forest()
        if forest is self._prepared or (self._preparing is not None and not self._preparing.done()):
            return
        self._prepared = forest
        self._preparing = asyncio.get_running_loop().create_task(self._speak(forest), name="prompts")

    async def _speak(self, forest: Forest) -> None:
        try:
            await self.speech.prepare(forest)
        except Exception:
            log.exception("The prompts of the trees could not be prepared")

    def inside(self) -> dict[str, dict[int, dict[str, int]]]:
        """Calls in each tree, version and node now."""
        found: dict[str, dict[int, dict[str, int]]] = {}
        for call in self._calls.values():
            if call.at is not None and not call.let_go:
                tree, version, node = call.at
                nodes = found.setdefault(tree, {}).setdefault(version, {})
                nodes[node] = nodes.get(node, 0) + 1
        return found

    def picture(
        self,
        tree: Tree,
        *,
        published_at: str | None = None,
        author: str | None = None,
        inside: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """The tree as the console draws it, with the calls inside it now, its evidence and its look-ups' figures."""
        asked = {
            node: {"asked": it.asked, "failures": it.failures, "p95_s": it.p95_s}
            for (name, node), it in self.lookups.figures().items()
            if name == tree.id
        }
        return picture(
            tree,
            published_at=published_at,
            author=author,
            inside=self.inside().get(tree.id, {}).get(tree.version, {}) if inside is None else inside,
            figures={it.node: it for it in self.evidence.rows(tree.id, tree.version)},
            lookups=asked,
        )

    def line(self, interaction: UUID) -> Line | None:
        """The call of an interaction, from its INVITE until the record of it is closed."""
        call = self._calls.get(interaction)
        if call is None:
            return None
        offered = call.offered
        return Line(
            interaction, offered.call, offered.leg, call.language, call.queue.id if call.queue else None
        )

    def take_back(self, leg: str, interaction: UUID) -> None:
        """The advisor was lost: the interaction waits at its old place, and its leg is ours again."""
        call = self._calls.get(interaction)
        if call is not None and call.leg == leg and call.let_go:
            call.take_back()

    async def stop(self, within_s: float = 30.0) -> None:
        """Take no more calls; let those in trees end, and end them at last."""
        self._stopping = True
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.gather(self._preparing, return_exceptions=True)
        try:
            if self._tasks:
                await asyncio.wait(set(self._tasks), timeout=within_s)
            for task in set(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            self._unsubscribe()

    def supervise(self, call: _Call, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(
            work, name=f"call {call.offered.call}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        call.task = task

    def forget(self, interaction: UUID) -> None:
        self._calls.pop(interaction, None)

    def _published(self, event: Event) -> None:
        call = self._calls.get(event.interaction) if event.interaction is not None else None
        if call is not None:
            call.published(event)


class _Call:
    """One call in a tree."""

    def __init__(self, runner: VoiceRunner, offered: CallOffered) -> None:
        self.runner = runner
        self.offered = offered
        self.leg = offered.leg
        self.interaction = runner.ids()
        self.forest = runner.forest()  # the call keeps these versions to its end (V14)
        self.site = runner.site()
        self.walk: Interpreter | None = None
        self.at: tuple[str, int, str] | None = None
        self.queue: Queue | None = None  # the queue waited in, also after the leg was taken
        self.task: asyncio.Task[None] | None = None
        self.let_go = False
        self.over = False  # nothing more is to be told to the desk about the end
        self._inbox: asyncio.Queue[_Heard] = asyncio.Queue()
        self._submits: set[asyncio.Task[None]] = set()
        self._lookup: asyncio.Task[None] | None = None
        self._told_tree: tuple[str, int] | None = None
        self._say: int | None = None  # number of the play that the walk waits for
        self._announcement: int | None = None  # number of the play after which the music goes on
        self._first: tuple[int, deque[Command]] | None = None  # a notice, and what is done after it
        self._waiting: Waiting | None = None
        self._ahead: Collection[str] = ()  # who was before this caller when a place was told last
        self._wait_at: float | None = None
        self._announce_at: float | None = None
        self._limit_at: float | None = None
        self._transfer: str | None = None
        self._bridged = False
        self._ended = False
        self._released = False  # the task has let go
        self._log = log.bind(call_id=offered.call, interaction_id=str(self.interaction))

    @property
    def language(self) -> str:
        return self.walk.language if self.walk is not None else self.site.languages[0]

    def hear(self, event: LegEvent) -> None:
        if self.let_go:
            return
        if isinstance(event, LegTaken):
            self.let_go = True  # at once: from here on nothing of ours may reach the leg
        if isinstance(event, LegEnded) and event.leg == self.leg and not self.over:
            # Said here, not in the task: a phone that rings for this caller must stop in the same step.
            self.over = True
            self._submit(self._parting(event))
            crash_point("tree.left")
        self._inbox.put_nowait(event)

    def published(self, event: Event) -> None:
        if event.type in FINAL_EVENTS and self.let_go:
            self.runner.forget(self.interaction)
        elif event.type is T.ENQUEUED or event.type is T.LEFT_QUEUE or event.type in FINAL_EVENTS:
            self._inbox.put_nowait(event)

    def _parting(self, event: LegEnded) -> Submission:
        key, organisation = self.runner.ids(), self.runner.organisation
        if event.cause is Cause.FAILED:
            return Interrupted(
                key=key,
                organisation=organisation,
                interaction=self.interaction,
                reason=event.reason or "leg failed",
            )
        if self._bridged:
            return TreeEnded(
                key=key, organisation=organisation, interaction=self.interaction, outcome="transferred"
            )
        return CustomerLeft(key=key, organisation=organisation, interaction=self.interaction)

    async def run(self) -> None:
        await self._guarded(self._begin())

    async def _guarded(self, beginning: Coroutine[Any, Any, None]) -> None:
        """Begin, then live until the call is over or somebody else has it; a mistake of ours ends this call only."""
        try:
            await beginning
            await self._live()
        except asyncio.CancelledError:
            self._end("interrupted", "stopping")
            raise
        except Exception:
            self.runner.failures += 1
            self._log.exception("A call failed in its tree")
            await self._apologise("internal fault")
        finally:
            await self._close()

    async def _resumed(self, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait([former])
        self._ended = self._released = False
        await self._guarded(self._wait_again())

    async def _wait_again(self) -> None:
        assert self.walk is not None
        await self._do(deque(self.walk.resume(self._now())))
        assert self.queue is not None
        self._waiting = Waiting(self.queue.announce_place)
        await self._announce(Say((Spoken("prompt", "requeued"), Spoken("prompt", "hold")), self.language))

    def take_back(self) -> None:
        """The advisor is lost: the leg is ours again, in the old place."""
        former, self.let_go = self.task, False
        if self.runner.switch.take(self.leg, self.hear) is False:
            self.let_go = self.over = True  # the customer went with the advisor
            self._submit(
                CustomerLeft(
                    key=self.runner.ids(), organisation=self.runner.organisation, interaction=self.interaction
                )
            )
            return
        self.runner.supervise(self, self._resumed(former))

    def open(self) -> bool:
        """Tell the desk of the call, before anything else can be told of it; False when no tree wants it."""
        offered, runner = self.offered, self.runner
        if self._tree() is None:
            self._log.warning("A call came to a number without a tree", dialled=offered.dialled)
            runner.switch.reject(self.leg, 404)
            return False
        source = offered.source
        self._submit(
            InteractionOpened(
                key=runner.ids(),
                organisation=runner.organisation,
                interaction=self.interaction,
                channel="voice",
                direction="in",
                call=offered.call,
                address=offered.caller,
                name=offered.caller_name,
                dialled=offered.dialled,
                trunk=source.name if source.kind == "trunk" else None,
                attestation=attested(offered.headers) if source.kind == "trunk" else None,
            )
        )
        crash_point("tree.opened")
        return True

    async def _begin(self) -> None:
        offered, runner = self.offered, self.runner
        tree = self._tree()
        assert tree is not None
        if not await runner.switch.answer(self.leg):
            return  # its LegEnded is in the inbox, or on its way
        crash_point("tree.answered")
        self._limit_at = self._now() + TREE_LIMIT_S
        self.walk = Interpreter(
            self.forest,
            tree,
            {"caller": offered.caller, "dialled": offered.dialled, "channel": "voice"},
            leave_keys={q.id: q.leave_key for q in self.site.queues},
        )
        await self._do(deque(self.walk.start(self._now())))
        crash_point("tree.entered")

    def _tree(self) -> str | None:
        dialled = self.offered.dialled.lstrip("+")
        for number in self.site.numbers:
            if number.number.lstrip("+") == dialled and number.tree in self.forest.trees:
                return number.tree
        return None

    async def _live(self) -> None:
        while not self._ended:
            due = min(
                (t for t in (self._wait_at, self._announce_at, self._limit_at) if t is not None), default=None
            )
            heard: _Heard = None
            try:
                async with asyncio.timeout_at(due):
                    heard = await self._inbox.get()
            except TimeoutError:
                await self._tick(self._now())
                continue
            await self._handle(heard)

    async def _tick(self, now: float) -> None:
        if self._limit_at is not None and now >= self._limit_at:
            self._limit_at = None
            if self.walk is not None:
                await self._do(deque(self.walk.fail("too long in the tree", now)))
        elif self._wait_at is not None and now >= self._wait_at:
            self._wait_at = None
            await self._step(TimedOut())
        elif self._announce_at is not None and now >= self._announce_at:
            await self._tell_place()

    async def _handle(self, heard: _Heard) -> None:
        match heard:
            case LegTaken():
                await self._release()
            case LegEnded(leg=leg):
                await self._leg_ended(leg)
            case DigitHeard(digit=digit) if heard.leg == self.leg and self._first is None:
                await self._step(Key(digit))
            case PlayEnded(play=play):
                await self._played(play)
            case LegAnswered(leg=leg) if leg == self._transfer:
                self._bridged = True
                self._wait_at = self._limit_at = None
                self.runner.switch.join(self.leg, leg)
                await self._step(TransferEnded("connected"))
            case SayEnded():
                await self._step(heard)
            case LookedUp() | LanguageKnown():
                await self._step(heard)
            case _Answer(submission=submission, refused=refused):
                await self._refused(submission, refused)
            case Event():
                await self._event(heard)
            case _:
                pass

    async def _release(self) -> None:
        """Somebody else commands the leg now. The call is remembered until its record is closed."""
        crash_point("tree.taken")
        self._ended = self._released = True
        self._quiet()
        if self.walk is not None:
            for command in self.walk.step(QueueTold("accepted"), self._now()):
                if isinstance(command, Left):
                    self._note(command)

    async def _leg_ended(self, leg: str) -> None:
        if leg == self.leg:
            if self.walk is not None:
                for command in self.walk.step(HungUp(), self._now()):
                    if isinstance(command, Left):
                        self._note(command)
            if self._transfer is not None:
                self.runner.switch.hang_up(self._transfer)
            self._ended = True
        elif leg == self._transfer:
            self._transfer = None
            if self._bridged:
                self._end("transferred")
            else:
                await self._step(TransferEnded("failed"))

    async def _played(self, play: int) -> None:
        if self._first is not None and play == self._first[0]:
            commands, self._first = self._first[1], None
            await self._do(commands)
        elif play == self._say:
            self._say = None
            if self._waiting is not None:
                self._announce_at = self._now() + min(FIRST_PLACE_S, self._every())
                self._music()
            await self._step(SayEnded())
        elif play == self._announcement:
            self._announcement = None
            self._music()

    async def _event(self, event: Event) -> None:
        if event.type in FINAL_EVENTS:
            if not self.over:
                self.over = True
                await self._apologise(f"closed elsewhere: {event.type}")
        elif event.type is T.ENQUEUED:
            former = self.queue
            self._queue_is(str(event.data.get("queue", "")))
            if event.data.get("overflow_from"):
                await self._overflowed(former)
        elif event.type is T.LEFT_QUEUE:
            how = str(event.data.get("how", ""))
            if how == "closing":
                await self._step(QueueTold(how))
                if self.walk is not None and self.walk.queue is None:
                    self._quiet()

    async def _overflowed(self, former: Queue | None) -> None:
        """The desk has moved the caller: the tree's `overflow` exit if there is one, else the wait goes on there."""
        await self._step(QueueTold("overflow"))
        waiting, queue = self._waiting, self.queue
        if waiting is None or queue is None:
            return
        waiting.announce = queue.announce_place
        speaking = self._say is not None or self._announcement is not None
        if not speaking and (former is None or former.music != queue.music):
            self._music()

    async def _refused(self, submission: Submission, refused: str) -> None:
        self._log.warning("The desk refused", what=type(submission).__name__, why=refused)
        if isinstance(submission, InteractionOpened) and self.walk is not None:
            self.over = True
            await self._do(deque(self.walk.fail(f"the desk refused the call: {refused}", self._now())))
        elif isinstance(submission, Enqueued):
            self._quiet()
            await self._step(QueueTold("refused", refused))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _step(self, told: Input) -> None:
        if self.walk is None:
            return
        commands = self.walk.step(told, self._now())
        if commands:
            self._wait_at = None
        await self._do(deque(commands))

    async def _do(self, commands: deque[Command]) -> None:
        while commands and not self._ended and not self.let_go:
            command = commands.popleft()
            match command:
                case Say():
                    await self._play(command)
                case Hush():
                    self._say = None
                    self.runner.switch.stop(self.leg)
                case Wait(seconds=seconds):
                    self._wait_at = self._now() + seconds
                case LookUp():
                    self._lookup = asyncio.get_running_loop().create_task(self._look_up(command))
                case AskLanguage():
                    self._lookup = asyncio.get_running_loop().create_task(self._recall())
                case AskHours(hours=name):
                    commands.extend(self._hours(name))
                case Enqueue(queue=name):
                    notice = self._notice(name)
                    if notice is not None:
                        commands.appendleft(command)
                        self._first = (self.runner.switch.play(self.leg, notice), commands)
                        return
                    self._enqueue(command, intro=any(isinstance(c, Say) for c in commands))
                case Leave(how=how):
                    self._quiet()
                    self._submit(
                        CustomerLeft(
                            key=self.runner.ids(),
                            organisation=self.runner.organisation,
                            interaction=self.interaction,
                            how=how,
                        )
                    )
                case Learn(facts=facts):
                    self._learn(facts)
                case Entered() | Left():
                    self._note(command)
                case Transfer():
                    await self._place(command)
                case HangUp(outcome=outcome, why=why):
                    self._end(outcome, why)

    async def _play(self, say: Say) -> None:
        files = await self.runner.speech.files(say)
        if self.let_go:
            return
        if files:
            self._say = self.runner.switch.play(self.leg, files)
        else:
            self._inbox.put_nowait(SayEnded())

    async def _look_up(self, command: LookUp) -> None:
        tree = self.at[0] if self.at is not None else ""
        self._inbox.put_nowait(await self.runner.lookups.ask(command, tree=tree))

    async def _recall(self) -> None:
        """The contact's language, as soon as the desk knows whose call this is."""
        language, ask = None, self.runner.known_language
        try:
            async with asyncio.timeout(KNOWN_LIMIT_S):
                while self._submits:
                    await asyncio.wait(set(self._submits))
                language = await ask(self.interaction) if ask is not None else None
        except TimeoutError:
            self._log.warning("The contact's language was not known in time")
        except Exception:
            self._log.exception("The contact's language could not be read")
        self._inbox.put_nowait(LanguageKnown(language))

    def _hours(self, name: str) -> list[Command]:
        assert self.walk is not None
        found = next((h for h in self.site.hours if h.id == name), None)
        is_open = None
        if found is not None:
            is_open = hours.is_open(found, self.site.time_zone, self.runner.clock.unix())
        return self.walk.step(HoursAnswered(is_open), self._now())

    def _notice(self, queue: str) -> list[str] | None:
        """The recording notice, when the queue records and the caller has not heard it."""
        name = self.site.recording_notice
        found = next((q for q in self.site.queues if q.id == queue), None)
        assert self.walk is not None
        if found is None or not found.record or not name or name in self.walk.prompts_told:
            return None
        self.walk.prompts_told.add(name)
        path = self.runner.speech.recording(name, self.language)
        return [path] if path is not None else None

    def _enqueue(self, command: Enqueue, *, intro: bool) -> None:
        self._queue_is(command.queue)
        self._limit_at = None
        self._submit(
            Enqueued(
                key=self.runner.ids(),
                organisation=self.runner.organisation,
                interaction=self.interaction,
                queue=command.queue,
                priority=command.priority,
                needs=command.needs,
                language=command.language,
            )
        )
        crash_point("tree.enqueued")
        self._waiting = Waiting(self.queue.announce_place if self.queue is not None else False)
        self._say = None
        if not intro:
            self._music()
        self._announce_at = self._now() + min(FIRST_PLACE_S, self._every())

    def _queue_is(self, name: str) -> None:
        found = next((q for q in self.site.queues if q.id == name), None)
        if found is not None:
            self.queue = found

    def _every(self) -> float:
        return self.queue.announce_every_s if self.queue is not None else 30.0

    async def _tell_place(self) -> None:
        self._announce_at = self._now() + self._every()
        if self._waiting is None or self._say is not None or self._announcement is not None:
            return
        waiting, before = self._waiting, self._waiting.worse
        ahead = self.runner.desk.ahead(self.interaction)
        say = waiting.say(None if ahead is None else len(ahead) + 1, self.language)
        if ahead is not None and waiting.worse is None:
            self._ahead = ahead.keys()
        if ahead is not None and waiting.worse is not None and waiting.worse != before:
            why = sorted({why for other, why in ahead.items() if other not in self._ahead})
            self._learn({"place_told": waiting.told, "place_now": waiting.worse, "place_why": ", ".join(why)})
        await self._announce(say)

    async def _announce(self, say: Say) -> None:
        files = await self.runner.speech.files(say)
        if files and not self.let_go:
            self._announcement = self.runner.switch.play(self.leg, files)
        self._announce_at = self._now() + self._every()

    def _music(self) -> None:
        path = self.runner.speech.music(self.queue.music) if self.queue is not None else None
        if path is not None and not self.let_go:
            self.runner.switch.play(self.leg, [path], loop=True)

    def _quiet(self) -> None:
        """Leave the waiting branch."""
        if self._waiting is not None and not self.let_go:
            self.runner.switch.stop(self.leg)
            self._limit_at = self._now() + TREE_LIMIT_S
        self._waiting = None
        self._announcement = None
        self._announce_at = None
        self._first = None

    async def _place(self, command: Transfer) -> None:
        leg = f"{self.offered.call}.transfer"
        to = Destination(account=command.phone, trunk=command.trunk, number=command.number)
        self._transfer = leg
        try:
            await self.runner.switch.place(
                Outgoing(
                    leg=leg,
                    call=self.offered.call,
                    to=to,
                    caller=self.offered.caller,
                    caller_name=self.offered.caller_name,
                    near=self.leg,
                    ring_s=command.ring_s,
                ),
                self.hear,
            )
        except CallRefused as e:
            self._log.warning("A transfer was refused", why=e.why)
            self._transfer = None
            await self._step(TransferEnded("failed"))

    def _learn(self, facts: Mapping[str, Any]) -> None:
        if set(facts) <= OURS:
            self._log.warning("A node went by its error exit", at=self.at, pii_why=facts["tree_error"])
            return
        self._submit(
            FactsLearned(
                key=self.runner.ids(),
                organisation=self.runner.organisation,
                interaction=self.interaction,
                facts=facts,
            )
        )

    def _note(self, happened: Entered | Left) -> None:
        runner = self.runner
        runner.evidence.note(happened)
        if isinstance(happened, Left) and happened.failed:
            ERRORS.labels(happened.tree, happened.node).inc()
        tree = (happened.tree, happened.version)
        if tree != self._told_tree:
            self._told_tree = tree
            self._submit(
                TreeEntered(
                    key=runner.ids(),
                    organisation=runner.organisation,
                    interaction=self.interaction,
                    tree=happened.tree,
                    version=happened.version,
                )
            )
        if isinstance(happened, Entered):
            self.at = (happened.tree, happened.version, happened.node)
            return
        self._submit(
            NodeLeft(
                key=runner.ids(),
                organisation=runner.organisation,
                interaction=self.interaction,
                node=happened.node,
                exit=happened.exit,
                seconds=round(happened.seconds, 3),
                keys=happened.keys,
            )
        )

    def _end(self, outcome: str, why: str = "") -> None:
        """We end the call, unless somebody else has it."""
        self._ended = True
        if self.let_go:
            return
        if not self.over:
            self.over = True
            key, organisation = self.runner.ids(), self.runner.organisation
            if outcome in ("failed", "interrupted"):
                FAULTS.labels("stopping" if why == "stopping" else "fault").inc()
                self._submit(
                    Interrupted(
                        key=key,
                        organisation=organisation,
                        interaction=self.interaction,
                        reason=why or outcome,
                    )
                )
            else:
                self._submit(
                    TreeEnded(
                        key=key, organisation=organisation, interaction=self.interaction, outcome=outcome
                    )
                )
        self.runner.switch.hang_up(self.leg)
        if self._transfer is not None:
            self.runner.switch.hang_up(self._transfer)

    async def _apologise(self, why: str) -> None:
        """The last words of a call that we fail, in the caller's language; nothing here may raise."""
        try:
            if not self._ended and not self.let_go:
                async with asyncio.timeout(APOLOGY_LIMIT_S):
                    path = self.runner.speech.recording("apology", self.language)
                    if path is not None:
                        play = self.runner.switch.play(self.leg, [path])
                        while True:
                            match await self._inbox.get():
                                case PlayEnded(play=ended) if ended == play:
                                    break
                                case LegEnded(leg=leg) if leg == self.leg:
                                    break
                                case LegTaken():
                                    break
        except Exception:
            self._log.exception("The apology failed")
        self._end("interrupted", why)

    async def _close(self) -> None:
        if self._lookup is not None and not self._lookup.done():
            self._lookup.cancel()
            await asyncio.gather(self._lookup, return_exceptions=True)
        if not self._released:
            self.at = None
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                while self._submits:
                    await asyncio.wait(set(self._submits))
            crash_point("tree.closed")
        except TimeoutError:
            self._log.error("The desk has not answered for a call that is over", open=len(self._submits))
        finally:
            for task in self._submits:
                task.cancel()
            if not self._released:
                self.runner.forget(self.interaction)

    def _submit(self, submission: Submission) -> None:
        """Tell the desk, in order: tasks start in the order they are made, and `submit` takes its place at once."""
        task = asyncio.get_running_loop().create_task(self._told(submission))
        self._submits.add(task)
        task.add_done_callback(self._submits.discard)

    async def _told(self, submission: Submission) -> None:
        try:
            outcome = await self.runner.desk.submit(submission)
            refused = outcome.refused
        except Exception as e:
            self._log.exception("The desk could not be told", what=type(submission).__name__)
            refused = type(e).__name__
        if refused is not None:
            self._inbox.put_nowait(_Answer(submission, refused))


def _deaf(event: LegEvent) -> None:
    """Hears a leg that nobody has."""
