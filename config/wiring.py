"""The wiring of the house: opens what a running server needs, in order, joins the parts, and closes them again.

Order: database, site, desk, media workers, SIP, the customer's side, the advisor's side, HTTP. Closing goes backwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from aiohttp import web as aiohttp_web
from prometheus_client import REGISTRY, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from config import commands, sd_notify
from config import site as site_file
from config.failures import CannotStart, binding
from config.registrations import Registrations
from config.settings import Settings
from config.written import Written
from cti.aio import api
from cti.aio.control import CallControl
from cti.aio.live import Live
from cti.aio.rollcall import RollCall
from cti.aio.sessions import SignIns
from ivr import tree as trees
from ivr.aio.lookup import Lookups
from ivr.aio.runner import VoiceRunner
from ivr.aio.speech import Speech
from ivr.evidence import BOUNDS_S
from media.aio.link import MediaLink
from routing.aio import cluster, door, postgres
from routing.aio.clock import IdMaker, SystemClock
from routing.aio.crash import crash_point
from routing.aio.desk import Desk
from routing.models import ReachChanged
from routing.site import Site
from routing.store import PhoneSecret, SiteVersion, Stores, TreeVersion, Unavailable
from softphone_bridge.aio.endpoint import Endpoint
from softphone_bridge.aio.switch import Switch
from softphone_bridge.dialplan import Denied, Dialplan, Route
from softphone_bridge.events import ContactsChanged, GuessingNoticed, PhoneGone, PhoneRegistered
from softphone_bridge.stack import StackEvent, StackSettings, TrunkRules

log = structlog.get_logger("monofil")

HERE = Path(__file__).parent
LAG = Histogram(
    "monofil_event_loop_lag_seconds",
    "How late the event loop runs what is due",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0),
)
READY = Gauge("monofil_ready", "1 when the server can take a call")
LAG_EVERY_S = 0.05
URGENT = 3  # connections kept for what providers send
EVIDENCE_DAYS = 30  # how far back the figures of trees go at a start: a month of calls is read in a second
CLOCK_LOOK_S = 0.05
IDLE_COLLECTION_S = (
    5.0  # the cyclic collector is off while serving; it runs this often, generation by generation
)


@dataclass(slots=True)
class Now:
    """What is in force now: read by everybody, changed by `Hotline.refresh` alone."""

    version: SiteVersion
    forest: trees.Forest
    secrets: Mapping[str, PhoneSecret] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        return self.version.site

    def ha1(self, user: str) -> tuple[str, str] | None:
        """The digests of a phone account that belongs to somebody (softphone_bridge.stack.Accounts)."""
        secret = self.secrets.get(user)
        if secret is None or not any(advisor.phone == user for advisor in self.site.advisors):
            return None
        return secret.md5, secret.sha256

    def knows(self, dialled: str) -> bool:
        return any(number.number == dialled for number in self.site.numbers)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[str]:
    """The database named by the settings, or our own."""
    if settings.dsn is not None:
        yield settings.dsn
        return
    async with cluster.Cluster(settings.data_dir) as own:
        if not own.owner:
            raise CannotStart(
                f"Another server or command uses {settings.data_dir}: "
                "stop it, or set MONOFIL_DATA_DIR to another folder."
            )
        yield own.dsn


async def _first_site(settings: Settings, dsn: str, site_path: Path | None) -> tuple[UUID, SiteVersion]:
    """The organisation and the site to serve. A site file fills an empty database; otherwise it is left alone."""
    clock, ids = SystemClock(), IdMaker()
    checked = site_file.check(site_path, site_file.shipped_sounds()) if site_path is not None else None
    if checked is not None and checked.site is None:
        raise CannotStart("\n".join(checked.sentences()))
    async with postgres.pool(dsn, size=2) as pool:
        known = await pool.fetch("SELECT id, short FROM organisation ORDER BY created_at")
        wanted = checked.site if checked is not None else None
        if wanted is None and not known:
            raise CannotStart(
                "The database holds no site yet: start with a site file, `monofil serve SITE.yaml` "
                "(config/site.example.yaml is one)."
            )
        if wanted is None and len(known) > 1:
            raise CannotStart(
                "The database holds several organisations: name the one to serve by its site file, "
                "`monofil serve SITE.yaml`."
            )
        short = wanted.organisation if wanted is not None else known[0]["short"]
        organisation = await postgres.organisation_id(pool, short, ids, clock.now())
        at = postgres.stores(pool, organisation, clock)
        current = await at.sites.current()
        if current is None:
            if wanted is None:
                raise CannotStart(f"The organisation {short} has no site: run `monofil apply SITE.yaml`.")
            current = await at.sites.apply(wanted, base=0, by=commands.BY_APPLY)
        elif wanted is not None and wanted != current.site:
            log.warning(
                "the database holds another site than the file: run `monofil apply` to change it",
                version=current.version,
                file=str(site_path),
            )
        return organisation, current


async def _forest(at: Stores) -> trees.Forest:
    """Every published tree, each in its current version."""
    current = await at.trees.all_current()
    return trees.Forest({name: trees.load(it.document, it.version) for name, it in current.items()})


class SipFigures(Collector):
    """What the SIP core counts, as Prometheus reads it."""

    def __init__(self, counters: Callable[[], Mapping[str, int]]) -> None:
        self._counters = counters

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "monofil_sip", "What the SIP core took, refused and dropped", labels=["what"]
        )
        for what, count in sorted(self._counters().items()):
            family.add_metric([what], count)
        yield family

    def describe(self) -> Iterator[CounterMetricFamily]:
        return iter(())  # asked at registration, when there is no stack yet


class Hotline:
    """A running server of one organisation. Made by `opened`."""

    def __init__(self, settings: Settings, organisation: UUID, first: SiteVersion) -> None:
        self.settings = settings
        self.organisation = organisation
        self.clock = SystemClock()
        self.ids = IdMaker()
        self.now = Now(first, trees.Forest({}))
        self.stopping = False
        self.failed = asyncio.Event()  # a part died that the server can't do without
        self._secrets_seen: tuple[int, datetime | None] | None = None
        self._looking = asyncio.Lock()  # at secrets: an older look must not end after a newer one
        self._phones: asyncio.Queue[str] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, stack: AsyncExitStack, dsn: str) -> None:
        """Open every part; `stack` closes them."""
        settings, now = self.settings, self.now
        pool: asyncpg.Pool = await stack.enter_async_context(postgres.pool(dsn))
        urgent: asyncpg.Pool = await stack.enter_async_context(postgres.pool(dsn, size=URGENT))
        self.stores = stores = postgres.stores(pool, self.organisation, self.clock, urgent=urgent)
        now.secrets = await stores.accounts.secrets()
        now.forest = await _forest(stores)
        kept = await stores.bindings.all()

        if settings.clock_file is not None:
            self.clock.set_ahead(_seconds_in(settings.clock_file))
        self.desk = desk = await stack.enter_async_context(
            Desk(dsn, self.organisation, now.site, self.clock, self.ids)
        )
        self.switch: Switch
        first, last = settings.rtp_ports.first, settings.rtp_ports.last
        self.media = media = MediaLink(
            workers=settings.workers,
            host=settings.sip_host,
            ports=(first, last),
            hear=lambda event: self.switch.on_media(event),
            stall_talk_s=settings.no_rtp_end_s,
        )
        self.sip = sip = Endpoint(
            self._stack_settings(),
            bind=settings.sip_host,
            hear=self._on_sip,
            accounts=now,
            knows=now.knows,
            trunks=self._trunks(),
            new_leg=lambda: f"{self.ids()}.1",
        )
        self.switch = Switch(
            sip,
            media,
            host=settings.told_ip,
            monotonic=time.monotonic,
            dialplan=self._dialplan(),
            max_calls=settings.max_calls,
        )
        self.registrations = Registrations(stores.bindings, sip, self.clock, time.monotonic)
        await media.start()
        stack.push_async_callback(media.stop)
        stack.push_async_callback(self.switch.settled)
        with binding("SIP", settings.sip_host, settings.sip_port, "MONOFIL_SIP_PORT"):
            await sip.start()
        stack.push_async_callback(sip.stop)
        figures = SipFigures(lambda: sip.counters)
        REGISTRY.register(figures)
        stack.callback(REGISTRY.unregister, figures)
        self.switch.on_phone(self._phone)
        self.registrations.restore(kept, lambda account: now.ha1(account) is not None)

        self.speech = speech = Speech(
            sounds=(settings.data_dir / "sounds", HERE / "sounds"), cache=settings.speech_cache
        )
        stack.push_async_callback(speech.close)
        lookups = Lookups(allow=settings.lookup_allow)
        stack.push_async_callback(lookups.close)
        self.runner = runner = VoiceRunner(
            switch=self.switch,
            desk=desk,
            site=lambda: now.site,
            forest=lambda: now.forest,
            clock=self.clock,
            ids=self.ids,
            organisation=self.organisation,
            speech=speech,
            lookups=lookups,
            known_language=stores.contacts.language_in,
        )
        self.written = written = Written(
            settings=settings,
            site=lambda: now.site,
            forest=lambda: now.forest,
            stores=stores,
            desk=desk,
            lookups=lookups,
            clock=self.clock,
            ids=self.ids,
            organisation=self.organisation,
        )
        written.runner.evidence = runner.evidence
        roll = await stack.enter_async_context(RollCall(desk=desk, site=lambda: now.site, ids=self.ids))
        self.live = live = await stack.enter_async_context(
            Live(
                desk=desk,
                stores=stores,
                site=lambda: now.site,
                clock=self.clock,
                channels=written.manifests,
                inside=self._inside,
                recording=lambda interaction: self.control.recording(interaction),
                counted=roll,
            )
        )
        self.control = await stack.enter_async_context(
            CallControl(
                desk=desk,
                switch=self.switch,
                pages=live,
                waiting=runner,
                timeline=stores.timeline,
                site=lambda: now.site,
                clock=self.clock,
                ids=self.ids,
                organisation=self.organisation,
                sound=self._sound,
                data_dir=settings.data_dir,
                pop_wait_s=settings.pop_wait_ms / 1000,
            )
        )
        written.watching = live
        stack.push_async_callback(runner.stop)
        await self._open_http(stack)
        self._go(self._watch_lag(), "lag")
        self._go(self._collect(), "collector")
        if settings.clock_file is not None:
            self._go(self._watch_clock(settings.clock_file), "clock")
        watched = postgres.SiteVersions(pool, self.organisation, self.clock)
        await stack.enter_async_context(
            postgres.SiteWatch(
                dsn, watched, self.organisation, now.version.version, self._new_site, self._look_at_secrets
            )
        )
        self._go(self._tell_phones(), "phones")
        self._go(self.registrations.run(), "registrations")
        self._go(self._recall_evidence(), "evidence")
        stack.push_async_callback(self._end_tasks)
        self.switch.on_call(runner.accept)

    async def _open_http(self, stack: AsyncExitStack) -> None:
        settings, now = self.settings, self.now
        sign_ins = SignIns(
            self.stores.people,
            self.organisation,
            lambda: now.site,
            self.clock,
            hours=settings.session_hours,
            https=settings.secure_cookies,
            trusted=[ipaddress.ip_network(network, strict=False) for network in settings.trusted_proxies],
            slowed=self._guessing,
            free_failures=settings.login_failures,
        )
        console = api.Console(
            stores=self.stores,
            desk=self.desk,
            control=self.control,
            live=self.live,
            sign_ins=sign_ins,
            site=lambda: now.version,
            clock=self.clock,
            ids=self.ids,
            data_dir=settings.data_dir,
            words=api.SiteWords(check=_mistakes, read=_site_of, write=site_file.export),
            telephony=api.Telephony(
                f"{settings.told_ip}:{self.sip.port}", settings.sip_realm, denies=self._denied
            ),
            ready=self._readiness,
            picture=self._picture,
            secret_set=self._look_at_secrets,
            origins=frozenset({settings.public_url}) if settings.public_url else frozenset(),
            channels=self.written.manifests,
            act=self.written.act,
            replay=self.written.replay,
        )
        app = api.console_application(
            console,
            plain=self.written.routes(),
            https=settings.secure_cookies,
            version=version("monofil"),
        )
        served = aiohttp_web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await served.setup()
        stack.push_async_callback(served.cleanup)
        assert served.server is not None
        with binding("The console", settings.http_host, settings.http_port, "MONOFIL_HTTP_PORT"):
            listening = await door.listen(served.server, settings.http_host, settings.http_port)
        stack.callback(listening.close)
        self.http_url = settings.public_url or _own_url(listening)
        await self.written.open(stack, self.http_url)

    def _on_sip(self, event: StackEvent) -> None:
        if isinstance(event, GuessingNoticed):
            self._guessing(event.source, event.account, event.failures)
        if isinstance(event, ContactsChanged):
            self.registrations.changed(event.account)
            return
        self.switch.on_sip(event)

    def _inside(self) -> dict[str, dict[int, dict[str, int]]]:
        """Customers in each tree, version and node now, on all channels."""
        found = self.runner.inside()
        for tree, versions in self.written.runner.inside().items():
            for number, nodes in versions.items():
                there = found.setdefault(tree, {}).setdefault(number, {})
                for node, count in nodes.items():
                    there[node] = there.get(node, 0) + count
        return found

    def _picture(self, it: TreeVersion, inside: Mapping[str, int]) -> Mapping[str, Any]:
        """A tree with its evidence and the callers inside it now."""
        tree = trees.load(it.document, it.version)
        return self.runner.picture(tree, published_at=it.at.isoformat(), author=it.by, inside=inside)

    def _denied(self, number: str) -> str | None:
        """Why no trunk may carry a call to that number, however few are up; None when one may."""
        way = self.switch.dialplan.way(number, running={})
        return way.why if isinstance(way, Denied) else None

    def _guessing(self, address: str, login: str, failures: int) -> None:
        """Somebody guesses passwords, at the sign-in page or by SIP: the admins see it (fault row 14)."""
        self.live.tell_roles(
            frozenset({"admin"}),
            "notice",
            {
                "level": "warning",
                "code": "guessing",
                "args": {"from": address, "what": login, "failures": failures},
            },
        )

    def _readiness(self) -> tuple[bool, Mapping[str, Any]]:
        return self.ready, {"database": self.desk.healthy, "stopping": self.stopping}

    def _sound(self, name: str, language: str) -> str:
        """The WAV file of an announcement in a language, or of a piece of music."""
        found = self.speech.recording(name, language) or self.speech.music(name)
        assert found is not None, f"the sound {name} was checked with the site"
        return found

    def _stack_settings(self) -> StackSettings:
        s = self.settings
        return StackSettings(
            host=s.told_ip,
            port=s.sip_port,
            realm=s.sip_realm,
            t1_s=s.sip_t1_ms / 1000,
            t2_s=s.sip_t2_ms / 1000,
            session_expires_s=s.sip_session_expires_s,
            min_expires_s=s.sip_register_min_s,
            max_expires_s=s.sip_register_max_s,
            source_rate=s.sip_rate,
            guess_tries=s.sip_failures,
        )

    def _trunks(self) -> list[TrunkRules]:
        return [TrunkRules(trunk.id, trunk.hosts) for trunk in self.now.site.trunks]

    def _dialplan(self) -> Dialplan:
        return Dialplan(
            [Route(t.id, t.target, t.allow, t.deny, t.caller_id, t.max_calls) for t in self.now.site.trunks]
        )

    def _phone(self, event: PhoneRegistered | PhoneGone) -> None:
        """A phone came or went: its advisor can be reached by voice, or can't."""
        crash_point("server.phone_heard")
        self._phones.put_nowait(event.account)

    async def _tell_phones(self) -> None:
        """Tell the desk of each advisor whose phone came or went, in order; a repeated word is left out."""
        told: dict[str, bool] = {}
        while True:
            account = await self._phones.get()
            reachable = self.switch.registered(account)
            for advisor in self.now.site.advisors:
                if advisor.phone != account or told.get(advisor.id) == reachable:
                    continue
                told[advisor.id] = reachable
                await self.desk.submit(
                    ReachChanged(
                        key=self.ids(),
                        organisation=self.organisation,
                        advisor=advisor.id,
                        channel="voice",
                        reachable=reachable,
                    )
                )
                crash_point("server.phone_told")

    async def _recall_evidence(self) -> None:
        """The figures of the trees' nodes from before this start, so that a restart does not begin at nothing."""
        until = self.clock.now()
        since = until - timedelta(days=EVIDENCE_DAYS)
        try:
            self.runner.evidence.remember(await self.stores.trees.node_counts(since, until, BOUNDS_S))
        except Unavailable:
            log.warning("the figures of the trees could not be read")

    async def _watch_lag(self) -> None:
        """Measure how late the loop is. (The SIP endpoint measures its own lag, and refuses calls by it.)"""
        due = time.monotonic() + LAG_EVERY_S
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            lag_s = max(0.0, time.monotonic() - due)
            LAG.observe(lag_s)
            READY.set(self.ready)
            due = time.monotonic() + LAG_EVERY_S

    async def _watch_clock(self, file: Path) -> None:
        """Tests and the demo move the time: whoever waits for it looks again."""
        while True:
            await asyncio.sleep(CLOCK_LOOK_S)
            if self.clock.set_ahead(_seconds_in(file)):
                self.desk.nudge()
                self.written.nudge()

    async def _collect(self) -> None:
        """The cyclic collector looks at everything only while nobody calls or writes: that takes long."""
        generation, commits = 0, 0
        while True:
            await asyncio.sleep(IDLE_COLLECTION_S)
            busy = self.switch.legs > 0 or self.desk.commits != commits
            commits = self.desk.commits
            if busy:
                gc.collect(generation)
                generation = (generation + 1) % 2
            else:
                gc.unfreeze()
                gc.collect()
                gc.freeze()  # what lives on is not looked at again until the next quiet moment

    async def _look_at_secrets(self) -> None:
        """Keep the phones' secrets as the database has them; whoever proved an old one is forgotten."""
        async with self._looking:
            revision = await self.stores.accounts.revision()
            if revision != self._secrets_seen:
                before, self.now.secrets = self.now.secrets, await self.stores.accounts.secrets()
                self._secrets_seen = revision
                for account, secret in before.items():
                    if self.now.secrets.get(account) != secret:
                        self.sip.forget(account)

    async def _new_site(self, version: SiteVersion) -> None:
        """Put a version of the site into force; calls in a tree go on in the version they started (V14)."""
        gone = {a.phone for a in self.now.site.advisors} - {a.phone for a in version.site.advisors}
        self.now.forest = await _forest(self.stores)
        crash_point("server.site_read")
        self.now.version = version
        self.runner.prepare()
        self.sip.set_trunks(self._trunks())
        self.switch.dialplan = self._dialplan()
        for account in gone:
            if account is not None:
                self.sip.forget(account)
        await self.written.refresh()
        self.desk.site_changed(version.site, version.version, version.by)
        crash_point("server.site_told")
        log.info("the site is in force", version=version.version, by=version.by)

    @property
    def ready(self) -> bool:
        """Can a call be taken?"""
        return not self.stopping and self.desk.healthy

    def _go(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._died)

    def _died(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a part of the server has died", part=task.get_name(), exc_info=error)
            self.failed.set()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Take no more calls; give the running ones their time, then end them."""
        self.stopping = self.switch.stopping = self.sip.stopping = True
        sd_notify.tell("STOPPING=1")
        log.info("stopping: no new calls", legs=self.switch.legs, at_most_s=self.settings.drain_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s):
                await self.switch.emptied()
        if self.switch.legs:
            log.warning("calls are ended by the stop", legs=self.switch.legs)


@asynccontextmanager
async def opened(settings: Settings, site_path: Path | None = None) -> AsyncIterator[Hotline]:
    """A running server; leaving it closes every part."""
    try:
        # passable but not listable: PostgreSQL runs as another user when we are root
        settings.data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"The data folder {settings.data_dir} can't be made ({error.strerror}): "
            "set MONOFIL_DATA_DIR to a folder that can."
        ) from None
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(_database(settings))
        await postgres.migrate(dsn)
        organisation, first = await _first_site(settings, dsn, site_path)
        hotline = Hotline(settings, organisation, first)
        await hotline.open(stack, dsn)
        yield hotline


async def serve(
    settings: Settings, site_path: Path | None = None, *, announce: Callable[[str], None] | None = None
) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0, or 1 when a part died."""
    gc.disable()
    door.take_all_descriptors()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    starting = asyncio.current_task()
    assert starting is not None

    def asked_to_stop() -> None:
        stop.set()
        if not ready:
            starting.cancel()  # whatever it waits for: a slow database, another server's desk

    ready = False
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    async with AsyncExitStack() as stack:
        try:
            hotline = await stack.enter_async_context(opened(settings, site_path))
            ready = True
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
            log.info("stopped before it was ready")
            return 0
        gc.collect()
        gc.freeze()
        line = f"ready http={hotline.http_url} sip={settings.told_ip}:{hotline.sip.port}"
        if hotline.written.mail_at is not None:
            line += f" mail={hotline.written.mail_at}"
        (announce or _to_standard_output)(line)
        sd_notify.tell("READY=1")
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(hotline.failed.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await hotline.drain()
        return 1 if hotline.failed.is_set() else 0


def _own_url(listening: asyncio.Server) -> str:
    return "http://{}:{}".format(*listening.sockets[0].getsockname()[:2])


def _seconds_in(file: Path) -> float:
    """How far the clock runs ahead, as that file says; 0 while there is none."""
    try:
        return float(file.read_text(encoding="utf-8").strip() or 0)
    except (OSError, ValueError):
        return 0.0


def _to_standard_output(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _mistakes(text: str, language: str) -> list[dict[str, Any]]:
    """What is wrong in the words of a site file, as the console shows it."""
    told = []
    for mistake in site_file.check_text(text, sounds=site_file.shipped_sounds()).mistakes:
        what, cure = mistake.words(language)
        told.append({"line": mistake.line, "where": mistake.where, "message": what, "cure": cure})
    return told


def _site_of(text: str) -> Site:
    site = site_file.check_text(text).site
    assert site is not None, "only a text without mistakes is read"
    return site
