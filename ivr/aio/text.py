"""The text runner: walks each written interaction through its account's tree until somebody takes it, or it ends.

Each message of the customer is one turn, told to the desk as one submission: what was said, what was learned, where the
walk stands and the last event it has heard. So a crash between two turns repeats nothing and loses nothing; at a start
every living walk is read from the database, hears what came since, and goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid5

import structlog
from prometheus_client import Counter
from ruamel.yaml import YAML

from ivr.aio.lookup import Lookups
from ivr.events import Command, Enqueue, HungUp, LanguageKnown, Left, LookUp, QueueTold, Wrote
from ivr.evidence import Evidence
from ivr.interpreter import HUMAN, Interpreter, Phase
from ivr.text import Message, Texts, disclosure, moment, render
from ivr.tree import Forest, load
from ivr.turn import Turn, go_on
from routing.aio.crash import crash_point
from routing.channel import VOICE, Manifest
from routing.channels import MAY_ANSWER
from routing.hours import Calendar
from routing.models import (
    FINAL_EVENTS,
    Clock,
    Enqueued,
    Event,
    Ids,
    Interrupted,
    NodeLeft,
    Outcome,
    Said,
    State,
    Submission,
    T,
    WalkStepped,
)
from routing.site import Account, Site
from routing.store import Messages, MessageView, Timeline, Trees, Unavailable, Walks

IDLE_S = 86_400.0  # silence in a question after which the walk ends by itself
PAUSE_S = 86_400.0  # silence of ours after which the bot says anew what it is
ACKNOWLEDGED_S = 86_400.0  # automatic answers to one address are counted over so long (mail loops)
KNOWN_LIMIT_S = 1.0  # longest wait for the contact's language
AGAIN_S = (0.1, 5.0)  # first and longest pause before a desk that did not answer is told again
READ_TOGETHER = 4  # walks that are taken up at once: others ask the database too
PLACE_AGAIN_S = 60.0  # pause before a queue that refused is asked again, where there is no tree to turn to
REFUSALS = 20  # refusals of queues in one turn; then the customer waits where the account says
LOOK_S = 30.0  # the idle are looked for at least so often: a clock may be shifted
TAKEN = frozenset({T.ACCEPTED, T.ASSIGNED})
HEARD = (
    frozenset({T.MESSAGE_RECEIVED, T.MESSAGE_WRITTEN, T.LEFT_QUEUE, T.ENQUEUED, T.HANDED_BACK})
    | TAKEN
    | FINAL_EVENTS
)
UNREADABLE = frozenset(
    {"quarantined", "unsupported"}
)  # facts of what a customer wrote and only a person can judge
SILENT = frozenset({"human_speaks", "over"})  # refusals after which the tree has nothing more to say

V = TypeVar("V")
log = structlog.get_logger("ivr.text")

FAULTS = Counter("monofil_text_faults_total", "Written walks that we failed", ["why"])


class Desk(Protocol):
    """What the runner needs of the desk."""

    async def submit(self, submission: Submission) -> Outcome: ...

    def subscribe(self, hear: Callable[[Event], None]) -> Callable[[], None]: ...


def read_texts(folders: Sequence[Path]) -> dict[str, dict[str, str]]:
    """The words of recordings in writing, from `prompts.yaml` in each folder; the first that names one wins."""
    found: dict[str, dict[str, str]] = {}
    for folder in reversed(folders):
        path = folder / "prompts.yaml"
        if not path.is_file():
            continue
        for name, words in (YAML(typ="safe").load(path.read_text("utf-8")) or {}).items():
            written = words.pop("written", words)
            found[str(name)] = {str(x): str(t) for x, t in written.items()} if written else {}
    return found


class TextRunner:
    """All written interactions in trees. Made once; `await start()` takes up those that live."""

    def __init__(
        self,
        *,
        desk: Desk,
        site: Callable[[], Site],
        forest: Callable[[], Forest],
        messages: Messages,
        walks: Walks,
        timeline: Timeline,
        lookups: Lookups,
        clock: Clock,
        ids: Ids,
        organisation: UUID,
        manifests: Mapping[str, Manifest],
        texts: Texts,
        trees: Trees | None = None,
        known_language: Callable[[UUID], Awaitable[str | None]] | None = None,
    ) -> None:
        self.desk = desk
        self.site = site
        self.forest = forest
        self.messages = messages
        self.walks = walks
        self.timeline = timeline
        self.lookups = lookups
        self.clock = clock
        self.ids = ids
        self.organisation = organisation
        self.manifests = manifests
        self.texts = texts
        self.trees = trees  # to go on after a restart in the versions a walk began with
        self.known_language = known_language
        self.evidence = Evidence()
        self.failures = 0
        self._talks: dict[UUID, _Talk] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.reading = asyncio.Semaphore(READ_TOGETHER)
        self._stopping = False
        self._alarm: asyncio.Task[None] | None = None
        self._unsubscribe = desk.subscribe(self.heard)

    async def start(self) -> None:
        """Take up every walk that lives. What is published meanwhile is heard after what came before it."""
        for interaction in await self.walks.live():
            self._talk(interaction, replay=True)
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().create_task(self._watch(), name="idle walks")

    async def stop(self, within_s: float = 10.0) -> None:
        """Finish the turns under way; the rest is in the database."""
        self._stopping = True
        self._unsubscribe()
        if self._alarm is not None:
            self._alarm.cancel()
            await asyncio.gather(self._alarm, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=within_s)
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Until nothing is under way."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def inside(self) -> dict[str, dict[int, dict[str, int]]]:
        """Written walks in each tree, version and node now."""
        found: dict[str, dict[int, dict[str, int]]] = {}
        for talk in self._talks.values():
            if talk.walk is not None and not talk.walk.done:
                tree, version, node = talk.walk.at
                nodes = found.setdefault(tree, {}).setdefault(version, {})
                nodes[node] = nodes.get(node, 0) + 1
        return found

    async def nodes(self, interaction: UUID) -> list[tuple[str, str]]:
        """(node, title) of the tree of an interaction, to which it can be handed back; nothing without a tree."""
        walk = await self.walks.get(interaction)
        tree = self.forest().trees.get(walk.tree) if walk is not None else None
        return [(n.id, n.title) for n in tree.nodes.values()] if tree is not None else []

    def tick(self) -> None:
        """End the walks whose customers have been silent for too long; ask again where a queue refused."""
        now = self.clock.unix()
        for talk in list(self._talks.values()):
            if talk.due_at is not None and now >= talk.due_at:
                talk.due_at = None
                talk.hear(None)

    async def _watch(self) -> None:
        while True:
            due = min((t.due_at for t in self._talks.values() if t.due_at is not None), default=None)
            await asyncio.sleep(LOOK_S if due is None else min(LOOK_S, max(0.05, due - self.clock.unix())))
            self.tick()

    def heard(self, event: Event) -> None:
        """Something that the desk has published."""
        interaction = event.interaction
        if interaction is None:
            return
        talk = self._talks.get(interaction)
        if talk is None and event.type is T.INTERACTION_OPENED:
            manifest = self.manifests.get(str(event.data.get("channel", "")))
            seat = event.data.get("seat") or (manifest.seat if manifest is not None else VOICE)
            if seat != VOICE and event.data.get("direction") == "in":
                self._talk(interaction)
            return
        if event.type not in HEARD or (event.type is T.MESSAGE_WRITTEN and not _elsewhere(event)):
            return
        if talk is None:
            closing = event.type is T.LEFT_QUEUE and event.data.get("how") == "closing"
            moved = event.type is T.ENQUEUED and event.data.get("overflow_from") is not None
            if not (closing or moved or event.type is T.HANDED_BACK):
                return
            talk = self._talk(interaction, stored=True)
        talk.hear(event)

    def _talk(self, interaction: UUID, *, replay: bool = False, stored: bool = False) -> _Talk:
        talk = self._talks.get(interaction)
        if talk is None:
            talk = self._talks[interaction] = _Talk(self, interaction, replay=replay, stored=stored)
            if replay:
                talk.go()
        return talk

    def supervise(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, interaction: UUID) -> None:
        self._talks.pop(interaction, None)

    @property
    def stopping(self) -> bool:
        return self._stopping

    async def tell(self, submission: Submission) -> str | None:
        """Tell the desk until it has answered; the word of its refusal. The key makes a second telling harmless."""
        return (await self._until_answered(Exception, self.desk.submit, submission)).refused

    async def read(self, ask: Callable[..., Awaitable[V]], *arguments: Any) -> V:
        """Ask the database until it answers: while it is away for a moment the bot is slow, and gives nobody up."""
        return await self._until_answered(Unavailable, ask, *arguments)

    async def _until_answered(
        self, passing: type[Exception], ask: Callable[..., Awaitable[V]], *arguments: Any
    ) -> V:
        pause = AGAIN_S[0]
        while True:
            try:
                return await ask(*arguments)
            except passing as e:
                if self._stopping:
                    raise
                log.warning("A step waits for an answer", why=f"{type(e).__name__}: {e}"[:200])
            await asyncio.sleep(pause)
            pause = min(AGAIN_S[1], pause * 2)


class _Talk:
    """One written interaction. Nothing of it runs while there is nothing to hear."""

    def __init__(self, runner: TextRunner, interaction: UUID, *, replay: bool, stored: bool) -> None:
        self.runner = runner
        self.interaction = interaction
        self.walk: Interpreter | None = None
        self.due_at: float | None = None  # unix: when silence ends the walk, or a queue is asked again
        self._to_read = replay or stored
        self._replay = replay
        self._inbox: deque[Event | None] = deque()
        self._busy = False
        self._over = False
        self._seq = 0  # of the last event heard
        self._replayed = 0  # the last one heard from the log at a restart
        self._tree: tuple[str, int] = ("", 0)
        self._versions: dict[str, int] = {}
        self._account = ""
        self._channel = ""
        self._sender = ""
        self._waits = False  # without a tree: it was told to wait
        self._disclosed = False
        self._said_at: float | None = None
        self._answered = False  # by somebody, elsewhere: the tree says nothing more (B4)
        self._log = log.bind(interaction_id=str(interaction))

    def hear(self, event: Event | None) -> None:
        """None: the time is over."""
        self._inbox.append(event)
        self.go()

    def go(self) -> None:
        if not self._busy and not self.runner.stopping:
            self._busy = True
            self.runner.supervise(self._work(), f"talk {self.interaction}")

    async def _work(self) -> None:
        try:
            if self._to_read:
                self._to_read = False
                async with self.runner.reading:
                    await self._read()
            while self._inbox and not self._over and not self.runner.stopping:
                event = self._inbox.popleft()
                if event is None:
                    await self._time_over()
                elif event.seq > self._seq:
                    self._seq = event.seq
                    await self._event(event)
        except Exception:
            self.runner.failures += 1
            self._log.exception("A written walk failed")
            await self._to_a_person("internal fault")
        finally:
            self._busy = False
            if self._over:
                self.runner.forget(self.interaction)
                for event in self._inbox:  # given back since it was let go
                    if event is not None:
                        self.runner.heard(event)

    async def _read(self) -> None:
        """The walk as the database has it, and on a restart what has happened since."""
        runner = self.runner
        stored = await runner.read(runner.walks.get, self.interaction)
        if stored is not None:
            state = stored.state
            self._seq = stored.consumed
            self._account, self._channel = state["account"], state["channel"]
            self._sender = state["sender"]
            self._disclosed, self._said_at = state["disclosed"], state["said_at"]
            self._answered = state.get("answered", False)
            self._tree = (stored.tree, stored.version)
            self._versions = dict(state["trees"])
            forest = await self._forest()
            try:
                self.walk = Interpreter.restored(forest, state["walk"], leave_keys=self._leave_keys())
            except KeyError as e:
                self._log.error("A walk's tree is not there any more", why=str(e))
                await self._to_a_person("its tree is gone")
                return
            self._rest(state["at"])
        elif not self._replay:
            self._over = True
            return
        if not self._replay:
            return
        view = await runner.read(runner.timeline.interaction, self.interaction)
        if view is None:
            self._over = True
            return
        if view.state == State.WAITING and stored is None:
            self._over = True
            return
        happened = await runner.read(runner.timeline.events_in, self.interaction, self._seq)
        since = [e for e in happened if e.type in HEARD]
        self._replayed = since[-1].seq if since else 0
        self._inbox.extendleft(reversed(since))

    async def _forest(self) -> Forest:
        """The trees in the versions that the walk began with (V14)."""
        now = self.runner.forest().trees
        trees = dict(now)
        for name, version in self._versions.items():
            if (name not in now or now[name].version != version) and self.runner.trees is not None:
                found = await self.runner.read(self.runner.trees.version, name, version)
                if found is not None:
                    trees[name] = load(found.document, version)
        return Forest(trees)

    async def _event(self, event: Event) -> None:
        walk = self.walk
        if event.type in FINAL_EVENTS:
            self._over = True
        elif event.type in TAKEN:
            await self._taken(event)
        elif event.type is T.HANDED_BACK:
            if walk is not None:
                await self._handed_back(walk, str(event.data.get("node", "")))
        elif event.type is T.MESSAGE_RECEIVED:
            await self._message(event)
        elif event.type is T.MESSAGE_WRITTEN:
            self._answered = self._answered or _elsewhere(event)
        elif walk is None or walk.phase is not Phase.WAITING:
            pass
        elif event.type is T.LEFT_QUEUE and event.data.get("how") == "closing":
            await self._told_by_queue(walk, "closing")
        elif event.type is T.ENQUEUED and event.data.get("overflow_from") is not None:
            await self._told_by_queue(walk, "overflow")

    async def _told_by_queue(self, walk: Interpreter, what: str) -> None:
        """What the tree makes of it; nothing, if an advisor is being asked meanwhile: then the wait goes on."""
        before = walk.saved()
        commands = walk.step(QueueTold(what), self._now())
        if commands and not await self._turn(walk, commands, kept=True):
            self.walk = Interpreter.restored(walk.forest, before, leave_keys=self._leave_keys())

    async def _taken(self, event: Event) -> None:
        """A person has it: the tree is silent. What is stored of the walk stays, for who may be handed back to it."""
        runner = self.runner
        self._over = True
        if self.walk is None:
            return
        for left in self.walk.step(QueueTold("accepted"), event.at.timestamp()):
            if isinstance(left, Left):
                if event.seq > self._replayed:
                    runner.evidence.note(left)
                await runner.tell(
                    NodeLeft(
                        key=uuid5(self.interaction, f"taken {event.seq}"),
                        organisation=runner.organisation,
                        interaction=self.interaction,
                        node=left.node,
                        exit=left.exit,
                        seconds=round(left.seconds, 3),
                    )
                )

    async def _handed_back(self, walk: Interpreter, node: str) -> None:
        self._disclosed = self._answered = False
        try:
            commands = walk.enter(node, self._now())
        except KeyError:
            self._log.error("A walk was handed back to a node that is not there", node=node)
            await self._to_a_person("no such node")
            return
        await self._turn(walk, commands)

    async def _message(self, event: Event) -> None:
        if event.data.get("standby"):
            return
        message = await self.runner.read(self.runner.messages.get, UUID(str(event.data["message"])))
        if message is None or (message.kind == "system" and not UNREADABLE & message.extra.keys()):
            return
        crash_point("walk.heard")
        if self.walk is None:
            if not self._waits:
                await self._begin(message)
        elif not message.automatic and self.walk.phase is Phase.LISTENING:
            self._know(message)
            payload = HUMAN if self._answered else message.payload
            wrote = Wrote(message.text, payload, more=any(map(_speaks, self._inbox)))
            await self._turn(self.walk, self.walk.step(wrote, self._now()))
            if self._answered and not self._over and self.walk.phase is Phase.LISTENING:
                await self._wait_without_tree(self._of(self.runner.site(), self._account))

    def _know(self, message: MessageView) -> None:
        assert self.walk is not None
        self.walk.know(subject=message.subject, text=message.text)

    async def _begin(self, message: MessageView) -> None:
        runner, site = self.runner, self.runner.site()
        account = self._of(site, message.account)
        manifest = runner.manifests.get(message.channel)
        self._account, self._channel = account.id, message.channel
        forest = runner.forest()
        tree = forest.trees.get(account.tree or "")
        if tree is not None and manifest is not None and manifest.seat not in tree.channels:
            self._log.error(
                "The tree of an account is not made for its channel", tree=tree.id, account=account.id
            )
            tree = None
        if tree is None or manifest is None:
            await self._wait_without_tree(account)
            return
        thread = await runner.read(runner.messages.thread, message.thread)
        self._sender = thread.address_value if thread is not None else ""
        self._tree = (tree.id, tree.version)
        self._versions = {name: t.version for name, t in forest.trees.items()}
        self.walk = Interpreter(
            forest,
            tree.id,
            {
                "channel": message.channel,
                "account": account.id,
                "sender": self._sender,
                "box": account.settings.get("address", "") or account.id,
                "bot": account.bot_name,
            },
            language=await self._language(),
            leave_keys=self._leave_keys(),
            written=True,
            opening=message.text,
        )
        self._know(message)
        await self._turn(self.walk, self.walk.start(self._now()))

    async def _wait_without_tree(self, account: Account) -> None:
        """Where no tree is, a person answers at once."""
        refused = await self._enqueue(self._fallback(account))
        if refused is None:
            self._waits = self._over = True
        elif refused in SILENT:
            self._over = True
        else:
            self._log.error("A queue refused a written interaction", account=account.id, why=refused)
            self.due_at = self._now() + PLACE_AGAIN_S

    async def _enqueue(self, queue: str) -> str | None:
        runner = self.runner
        return await runner.tell(
            Enqueued(
                key=runner.ids(),
                organisation=runner.organisation,
                interaction=self.interaction,
                queue=queue,
                language=self.walk.language if self.walk is not None else await self._language(),
            )
        )

    def _fallback(self, account: Account) -> str:
        """The account's queue, else where its tree leads to a person, else the site's first."""
        site = self.runner.site()
        tree = self.runner.forest().trees.get(account.tree or "")
        human = tree.nodes.get(tree.human) if tree is not None and tree.human is not None else None
        found = account.queue or getattr(human, "queue", None)
        return str(found) if found else (site.queues[0].id if site.queues else "")

    def _of(self, site: Site, account: str) -> Account:
        return site.account(account) or Account(account, "")

    async def _turn(self, walk: Interpreter, commands: Sequence[Command], *, kept: bool = False) -> bool:
        """Walk on until the customer is to answer, and tell the desk of all of it at once.

        False, where a place in a queue can be `kept`: nothing was told, for somebody is being asked to take it.
        """
        runner = self.runner
        turn = Turn()
        for _ in range(REFUSALS):
            while (need := go_on(walk, commands, turn, self._now(), self._calendar, self._words)) is not None:
                if isinstance(need, LookUp):
                    commands = walk.step(await runner.lookups.ask(need, tree=walk.at[0]), self._now())
                else:
                    commands = walk.step(LanguageKnown(await self._language()), self._now())
            if turn.ended == "failed":
                FAULTS.labels("tree").inc()
                self._log.error("A written walk was given up", pii_why=turn.why)
                turn.ended = None
                queue = self._fallback(self._of(runner.site(), self._account))
                turn.enqueue = Enqueue(queue, None, (), walk.language)
            told = await self._step(walk, turn)
            crash_point("walk.stepped")
            refused = await runner.tell(told)
            crash_point("walk.told")
            if refused is None:
                self._done(walk, turn, told)
                return True
            if refused in SILENT:
                self._over = True
                return True
            if kept and refused == "not_now":
                return False
            self._log.warning("The desk refused a step", why=refused)
            if turn.enqueue is None or walk.phase is not Phase.WAITING:
                break
            turn.refused()
            commands = walk.step(QueueTold("refused", refused), self._now())
        await self._to_a_person("the desk refused its steps")
        return True

    def _done(self, walk: Interpreter, turn: Turn, told: WalkStepped) -> None:
        for passed in turn.passed:
            self.runner.evidence.note(passed)
        for why in turn.errors:
            self._log.warning("A node went by its error exit", at=walk.at, pii_why=why)
        if told.said:
            self._disclosed, self._said_at = True, self._now()
        self._over = turn.ended is not None or walk.done
        self._rest(self._now())

    def _rest(self, since: float) -> None:
        listening = self.walk is not None and self.walk.phase is Phase.LISTENING
        self.due_at = since + IDLE_S if listening else None

    async def _step(self, walk: Interpreter, turn: Turn) -> WalkStepped:
        runner, now = self.runner, self._now()
        messages = await self._messages(turn)
        enqueue = None
        if turn.enqueue is not None:
            enqueue = Enqueued(
                key=runner.ids(),
                organisation=runner.organisation,
                interaction=self.interaction,
                queue=turn.enqueue.queue,
                priority=turn.enqueue.priority,
                needs=turn.enqueue.needs,
                language=turn.enqueue.language,
            )
        return WalkStepped(
            key=runner.ids(),
            organisation=runner.organisation,
            interaction=self.interaction,
            tree=self._tree[0],
            version=self._tree[1],
            walk={
                "walk": walk.saved(),
                "trees": self._versions,
                "account": self._account,
                "channel": self._channel,
                "sender": self._sender,
                "disclosed": self._disclosed or bool(messages),
                "said_at": now if messages else self._said_at,
                "answered": self._answered,
                "at": now,
            },
            consumed=self._seq,
            left=tuple((p.node, p.exit, round(p.seconds, 3)) for p in turn.left),
            left_in=tuple((p.tree, p.version) for p in turn.left),
            facts=turn.facts,
            said=tuple(Said(message=runner.ids(), text=m.text, buttons=m.buttons) for m in messages),
            enqueue=enqueue,
            leave=turn.leave,
            ended=turn.ended,
        )

    async def _messages(self, turn: Turn) -> list[Message]:
        """What the turn says, in the channel's way; nothing where no machine may, or too often to one address."""
        runner = self.runner
        manifest = runner.manifests[self._channel]
        if self._answered or not turn.says:
            return []
        may = MAY_ANSWER.get(self._channel)
        if may is not None:
            heard = await runner.read(runner.messages.of_interaction, self.interaction)
            written = [one.extra for one in heard if one.author == "customer" and not one.automatic]
            if not all(may(False, 0, extra) for extra in written):
                return []
            since = datetime.fromtimestamp(self._now(), UTC) - timedelta(seconds=ACKNOWLEDGED_S)
            sent = await runner.read(runner.messages.automatic_since, self._account, self._sender, since)
            if not may(False, sent, {}):
                self._log.warning("No more acknowledgements go to this address today", sent=sent)
                return []
        disclose = ""
        if not self._disclosed or self._now() - (self._said_at or 0.0) > PAUSE_S:
            bot = self._of(runner.site(), self._account).bot_name
            disclose = disclosure(bot, turn.languages or (turn.says[0].language,), manifest.seat)
        return render(turn.says, turn.asked, manifest, runner.texts, disclose=disclose)

    async def _time_over(self) -> None:
        walk = self.walk
        if walk is None:
            if self._account and not self._waits:
                await self._wait_without_tree(self._of(self.runner.site(), self._account))
        elif walk.phase is Phase.LISTENING:
            turn = Turn(passed=[c for c in walk.step(HungUp(), self._now()) if isinstance(c, Left)])
            turn.ended = "idle"
            told = await self._step(walk, turn)
            refused = await self.runner.tell(told)
            if refused is None:
                self._done(walk, turn, told)
            self._over = True

    async def _to_a_person(self, why: str) -> None:
        """Whatever went wrong with the tree, the customer is not lost: a person answers."""
        FAULTS.labels("fault").inc()
        self._over = True
        try:
            account = self._of(self.runner.site(), self._account)
            refused = await self._enqueue(self._fallback(account))
            if refused is not None and refused not in SILENT:
                await self.runner.tell(
                    Interrupted(
                        key=self.runner.ids(),
                        organisation=self.runner.organisation,
                        interaction=self.interaction,
                        reason=why,
                    )
                )
        except Exception:
            self._log.exception("A customer could not be led to a person")

    async def _language(self) -> str | None:
        ask = self.runner.known_language
        if ask is None:
            return None
        try:
            async with asyncio.timeout(KNOWN_LIMIT_S):
                return await ask(self.interaction)
        except Exception:
            self._log.exception("The contact's language could not be read")
            return None

    def _leave_keys(self) -> dict[str, str | None]:
        return {q.id: q.leave_key for q in self.runner.site().queues}

    def _calendar(self, name: str) -> tuple[bool | None, float | None]:
        site = self.runner.site()
        found = next((h for h in site.hours if h.id == name), None)
        if found is None:
            return None, None
        calendar, now = Calendar(found, site.time_zone), self._now()
        return (True, None) if calendar.is_open(now) else (False, calendar.next_change(now))

    def _words(self, at: float) -> str:
        language = self.walk.language if self.walk is not None else "fr"
        return moment(at, self._now(), self.runner.site().time_zone, language)

    def _now(self) -> float:
        return self.runner.clock.unix()


def _elsewhere(event: Event) -> bool:
    """Whether somebody answered without us."""
    return event.type is T.MESSAGE_WRITTEN and event.data.get("author") == "elsewhere"


def _speaks(event: Event | None) -> bool:
    """Whether the customer said something with it that a tree reads."""
    if event is None or event.type is not T.MESSAGE_RECEIVED:
        return False
    return not (
        event.data.get("automatic") or event.data.get("standby") or event.data.get("kind") == "system"
    )
