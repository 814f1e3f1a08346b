"""What the commands do with the database, beside a running server or without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg
from argon2 import PasswordHasher

from config import site as site_file
from config.failures import Failure
from config.settings import Settings
from routing import explain
from routing.aio import cluster, postgres
from routing.aio.clock import IdMaker, SystemClock
from routing.channels import CHANNELS
from routing.site import Account, Advisor, Site
from routing.store import Changed, PhoneSecret, RequestView, SiteVersion, Stores
from softphone_bridge.digest import ha1

BY_APPLY = "apply"  # `by` of the versions that came from a file; all others are changes made elsewhere


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[str]:
    """The address of the database: the one that is set, the running server's, or our own for as long as this lasts."""
    if settings.dsn:
        yield settings.dsn
    elif (dsn := await cluster.running(settings.data_dir)) is not None:
        yield dsn
    else:
        async with cluster.Cluster(settings.data_dir) as own:
            yield own.dsn


@asynccontextmanager
async def stores(settings: Settings, organisation: str | None = None) -> AsyncIterator[Stores]:
    """The stores of one organisation: the one named (made if new), or the only one there is."""
    async with database(settings) as dsn:
        await postgres.migrate(dsn)
        async with postgres.pool(dsn, size=2) as pool:
            key = await _organisation(pool, organisation)
            yield postgres.stores(pool, key, SystemClock())


async def _organisation(pool: asyncpg.Pool, short: str | None) -> UUID:
    if short is not None:
        return await postgres.organisation_id(pool, short, IdMaker(), SystemClock().now())
    rows = await pool.fetch("SELECT id, short FROM organisation ORDER BY short")
    if not rows:
        raise Failure("The database holds no site yet: run `monofil apply SITE.yaml` first.")
    if len(rows) > 1:
        names = ", ".join(row["short"] for row in rows)
        raise Failure(f"The database holds several organisations ({names}): name one with --organisation.")
    found: UUID = rows[0]["id"]
    return found


async def _current(at: Stores) -> SiteVersion:
    if (current := await at.sites.current()) is None:
        raise Failure("The database holds no site yet: run `monofil apply SITE.yaml` first.")
    return current


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of `apply`. `lost` is the diff of changes that it undid, or would undo (`refused`)."""

    version: int
    changed: bool
    refused: bool = False
    lost: tuple[str, ...] = ()


async def apply(settings: Settings, site: Site, *, force: bool) -> Applied:
    """Make `site` the next version, unless somebody has changed it elsewhere since the last apply."""
    async with stores(settings, site.organisation) as at:
        return await apply_to(at, site, force=force)


async def apply_to(at: Stores, site: Site, *, force: bool) -> Applied:
    current = await at.sites.current()
    if current is not None and current.site == site:
        return Applied(current.version, changed=False)
    lost = await _made_elsewhere(at, current, site) if current is not None else ()
    if lost and not force:
        assert current is not None
        return Applied(current.version, changed=False, refused=True, lost=lost)
    try:
        made = await at.sites.apply(site, base=current.version if current else 0, by=BY_APPLY)
    except Changed as changed:
        raise Failure(
            f"The site became version {changed.found} while this was applied: look at it with `monofil export`, "
            "then apply again."
        ) from None
    return Applied(made.version, changed=True, lost=lost)


async def _made_elsewhere(at: Stores, current: SiteVersion, new: Site) -> tuple[str, ...]:
    """A diff to `new`, when it does not hold all changes since the last apply; else nothing."""
    if current.by == BY_APPLY:
        return ()
    base = current
    while base.by != BY_APPLY and base.version > 1:
        before = await at.sites.version(base.version - 1)
        if before is None:
            break
        base = before
    if not site_file.undoes(base.site, current.site, new):
        return ()
    name = f"version {base.version} ({base.by})"
    return tuple(
        site_file.differences(
            current.site, new, f"version {current.version} ({current.by}), since {name}", "this file"
        )
    )


async def export(settings: Settings, organisation: str | None) -> SiteVersion:
    async with stores(settings, organisation) as at:
        return await _current(at)


def phone_secret(account: str, realm: str, password: str) -> PhoneSecret:
    """HA1 in both forms (RFC 8760); the password itself is kept nowhere."""
    return PhoneSecret(account, realm, *ha1(account, realm, password))


async def set_password(
    settings: Settings, login: str, password: str, *, phone: bool, organisation: str | None = None
) -> str:
    """Set the password of a login, or with `phone` the one of its phone account. Returns what it is for."""
    async with stores(settings, organisation) as at:
        return await set_password_in(at, settings, login, password, phone=phone)


async def set_password_in(at: Stores, settings: Settings, login: str, password: str, *, phone: bool) -> str:
    advisor = _advisor((await _current(at)).site, login)
    if not phone:
        await at.people.set_password_hash(login, PasswordHasher().hash(password))
        return login
    if advisor.phone is None:
        raise Failure(f'{login} has no phone: give one in the site file (phone: "101") and apply it.')
    await at.accounts.set_secret(phone_secret(advisor.phone, settings.sip_realm, password))
    return advisor.phone


def _advisor(site: Site, login: str) -> Advisor:
    for advisor in site.advisors:
        if advisor.id == login:
            return advisor
    known = ", ".join(advisor.id for advisor in site.advisors[:20]) or "none"
    raise Failure(f"There is no advisor {login} (known: {known}): add them with `monofil user add {login}`.")


async def add_user(
    settings: Settings, advisor: Advisor, password: str, organisation: str | None = None
) -> int:
    """Add a person to the site, with a password. Returns the new version of the site."""
    async with stores(settings, organisation) as at:
        current = await _current(at)
        if any(known.id == advisor.id for known in current.site.advisors):
            raise Failure(
                f"{advisor.id} is there already: `monofil user passwd {advisor.id}` sets a new password."
            )
        site = replace(current.site, advisors=(*current.site.advisors, advisor))
        wrong = site_file.check_text(site_file.export(site)).sentences()
        if wrong:
            raise Failure(wrong[0])
        made = await at.sites.apply(site, base=current.version, by="user add")
        await at.people.set_password_hash(advisor.id, PasswordHasher().hash(password))
        return made.version


async def why(
    settings: Settings, interaction: str, language: str, organisation: str | None
) -> list[dict[str, Any]]:
    """Each offer of an interaction with its sentences."""
    try:
        key = UUID(interaction)
    except ValueError:
        raise Failure(
            f"{interaction} is no interaction id: copy it from the case's timeline in the console."
        ) from None
    async with stores(settings, organisation) as at:
        if await at.timeline.interaction(key) is None:
            raise Failure(f"There is no interaction {interaction} here: copy its id from the console.")
        told = []
        for offer in await at.timeline.why(key):
            known = explain.from_json(offer["why"])
            told.append({**offer, "sentences": explain.sentences(known, language)})
        return told


async def set_channel_secret(
    settings: Settings, account: str, name: str, value: str, organisation: str | None = None
) -> None:
    """Keep a secret of a channel's account in the database; a running server takes it up at its next use."""
    async with stores(settings, organisation) as at:
        site = (await _current(at)).site
        found = next((each for each in site.accounts if each.id == account), None)
        if found is None:
            known = ", ".join(each.id for each in site.accounts) or "none"
            raise Failure(f"There is no channel account {account} (known: {known}).")
        wanted = _secrets(found)
        if found.hook is not None and name in CHANNELS[found.channel].MANIFEST.hook_secrets:
            raise Failure(f"{account} takes its webhooks by {found.hook}: set the {name} of {found.hook}.")
        if name not in wanted:
            raise Failure(
                f"{found.channel} knows no secret {name}: choose from {', '.join(wanted) or 'none'}."
            )
        await at.secrets.set(account, name, value)


def _secrets(account: Account) -> tuple[str, ...]:
    """Names of the secrets that it asks for itself."""
    manifest = CHANNELS[account.channel].MANIFEST
    shared = manifest.hook_secrets if account.hook is not None else frozenset()
    return tuple(name for name in manifest.secrets if name not in shared)


@dataclass(frozen=True, slots=True)
class SecretRow:
    account: str
    channel: str
    name: str
    is_set: bool
    need: str  # needed | optional | made: by the server, where nobody has set it


async def channel_secrets(settings: Settings, organisation: str | None = None) -> list[SecretRow]:
    """Each secret that the accounts of the site ask for, and whether it is there; never its text."""
    async with stores(settings, organisation) as at:
        told = []
        for account in (await _current(at)).site.accounts:
            there = await at.secrets.of(account.id)
            manifest = CHANNELS[account.channel].MANIFEST
            for name in _secrets(account):
                need = "optional" if name in manifest.optional_secrets else "needed"
                need = "made" if name in manifest.made_secrets else need
                told.append(SecretRow(account.id, account.channel, name, bool(there.get(name)), need))
        return told


def what_became(result: Mapping[str, Any]) -> str:
    """What became of a stored request, in words: `2 events, 1 told; unknown: a_kind`."""
    counts = {"events": "events", "told": "told", "known": "known already"}
    said = [f"{result[key]} {words}" for key, words in counts.items() if result.get(key)]
    more = [
        f"{str(key).replace('_', ' ')}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in result.items()
        if key not in counts and value and value is not True
    ]
    more += [str(key).replace("_", " ") for key, value in result.items() if value is True]
    return "; ".join([", ".join(said)] * bool(said) + more)


async def replay(settings: Settings, request: str, organisation: str | None = None) -> RequestView:
    """Have a stored request handled again; the running server does it, or the next one."""
    try:
        key = UUID(request)
    except ValueError:
        raise Failure(f"{request} is no request id: copy it from `monofil webhooks`.") from None
    async with stores(settings, organisation) as at:
        found = await at.requests.get(key)
        if found is None:
            raise Failure(f"There is no stored request {request}: see `monofil webhooks`.")
        await at.requests.later(key, SystemClock().now(), {"replay": True})
        return found


async def requests(
    settings: Settings, account: str | None, organisation: str | None = None
) -> Sequence[RequestView]:
    async with stores(settings, organisation) as at:
        return await at.requests.latest(account=account)


async def upgrade(settings: Settings) -> list[int]:
    async with database(settings) as dsn:
        return await postgres.migrate(dsn)


@dataclass(frozen=True, slots=True)
class Status:
    """The database as it stands. `migrations` are (number, name, applied)."""

    postgresql: str
    place: str
    size_bytes: int
    events: int
    newest_event_at: datetime | None
    migrations: Sequence[tuple[int, str, bool]]


async def status(settings: Settings) -> Status:
    async with database(settings) as dsn:
        connection = await postgres.connect(dsn)
        try:
            events, newest = 0, None
            if await connection.fetchval("SELECT to_regclass('event')"):
                events, newest = await connection.fetchrow("SELECT count(*), max(at) FROM event")
            return Status(
                postgresql=str(await connection.fetchval("SHOW server_version")).split()[0],
                place=place(settings),
                size_bytes=await connection.fetchval("SELECT pg_database_size(current_database())"),
                events=events,
                newest_event_at=newest,
                migrations=await postgres.schema_status(connection),
            )
        finally:
            await connection.close()


def place(settings: Settings) -> str:
    """Where the database is: our own folder, or host and name of the one that is set; never its user or password."""
    if settings.dsn is None:
        return str(settings.data_dir.absolute() / "pg")
    try:
        parts = urlsplit(settings.dsn)
        host = parse_qs(parts.query).get("host", [parts.hostname or ""])[0]
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        host, port, parts = "", "", urlsplit("")
    if not host or not parts.scheme or "@" in parts.path:
        return "MONOFIL_DATABASE_URL"
    return f"{host}{port} {parts.path.strip('/')}".rstrip()
