"""Apply, export, passwords and why, on a real database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from argon2 import PasswordHasher

from config import commands
from config.failures import Failure
from config.settings import Settings, load
from config.site import check, check_text, export
from routing.aio import postgres
from routing.aio.clock import IdMaker
from routing.site import Account, Advisor, Site

EXAMPLE = Path(__file__).parents[2] / "config" / "site.example.yaml"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def site() -> Site:
    found = check(EXAMPLE).site
    assert found is not None
    return found


@pytest.fixture
def settings(database: str) -> Settings:
    return load({"MONOFIL_DATABASE_URL": database})


async def test_a_site_applied_twice_is_one_version(settings: Settings, site: Site) -> None:
    assert await commands.apply(settings, site, force=False) == commands.Applied(1, changed=True)
    assert await commands.apply(settings, site, force=False) == commands.Applied(1, changed=False)


async def test_what_is_exported_changes_nothing_when_applied(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    written = export((await commands.export(settings, None)).site)
    again = check_text(written).site
    assert again is not None
    assert await commands.apply(settings, again, force=False) == commands.Applied(1, changed=False)
    async with commands.stores(settings) as at:
        assert {tree.version for tree in (await at.trees.all_current()).values()} == {1}


async def test_a_changed_tree_gets_a_version_and_the_others_keep_theirs(
    settings: Settings, site: Site
) -> None:
    await commands.apply(settings, site, force=False)
    trees = {**site.trees, "nuit": {**site.trees["nuit"], "title": "Another title"}}
    await commands.apply(settings, replace(site, trees=trees), force=False)
    async with commands.stores(settings) as at:
        versions = {name: tree.version for name, tree in (await at.trees.all_current()).items()}
    assert versions == {**dict.fromkeys(site.trees, 1), "nuit": 2}


async def _renamed_in_the_console(settings: Settings, site: Site) -> Site:
    changed = replace(site, queues=(replace(site.queues[0], name="Colis perdus"), *site.queues[1:]))
    async with commands.stores(settings) as at:
        current = await at.sites.current()
        assert current is not None
        await at.sites.apply(changed, base=current.version, by="nadia")
    return changed


async def test_apply_refuses_to_undo_what_was_changed_since_and_shows_it(
    settings: Settings, site: Site
) -> None:
    await commands.apply(settings, site, force=False)
    await _renamed_in_the_console(settings, site)
    refused = await commands.apply(settings, site, force=False)
    assert (refused.refused, refused.changed, refused.version) == (True, False, 2)
    assert any("nadia" in line for line in refused.lost[:2])
    assert any(line.startswith("-") and "Colis perdus" in line for line in refused.lost)
    forced = await commands.apply(settings, site, force=True)
    assert (forced.changed, forced.version, forced.lost) == (True, 3, refused.lost)
    assert (await commands.export(settings, None)).site == site


async def test_what_is_lost_is_told_in_the_lines_that_differ_and_no_others(
    settings: Settings, site: Site
) -> None:
    await commands.apply(settings, site, force=False)
    urgent = replace(site.queues[0], priority=77)
    async with commands.stores(settings) as at:
        await at.sites.apply(replace(site, queues=(urgent, *site.queues[1:])), base=1, by="nadia")
    refused = await commands.apply(settings, replace(site, name="Another name"), force=False)
    differing = [line for line in refused.lost[2:] if line[0] in "+-"]
    assert sorted(differing) == sorted(
        [f"-  name: {site.name}", "+  name: Another name", "-    priority: 77"]
        + [f"+    priority: {site.queues[0].priority}"] * bool(site.queues[0].priority)
    )


async def test_an_export_keeps_the_order_in_which_the_author_wrote(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    stored = (await commands.export(settings, None)).site
    assert export(stored) == export(site)
    assert list(stored.trees) == list(site.trees)
    async with commands.stores(settings) as at:
        for name, tree in (await at.trees.all_current()).items():
            assert list(tree.document["nodes"]) == list(site.trees[name]["nodes"])


async def test_another_order_alone_is_no_change(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    turned = replace(site, trees={name: site.trees[name] for name in reversed(list(site.trees))})
    assert await commands.apply(settings, turned, force=False) == commands.Applied(1, changed=False)


async def test_a_file_that_has_taken_the_changes_in_is_no_loss(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    changed = await _renamed_in_the_console(settings, site)
    assert await commands.apply(settings, changed, force=False) == commands.Applied(2, changed=False)


async def test_a_file_that_has_taken_the_changes_in_may_change_more(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    changed = await _renamed_in_the_console(settings, site)
    more = replace(changed, name="Another name", skills=(*site.skills, "one-more"))
    assert await commands.apply(settings, more, force=False) == commands.Applied(3, changed=True)


async def test_what_was_taken_away_in_the_console_does_not_come_back_unasked(
    settings: Settings, site: Site
) -> None:
    await commands.apply(settings, site, force=False)
    async with commands.stores(settings) as at:
        await at.sites.apply(replace(site, numbers=site.numbers[1:]), base=1, by="nadia")
    assert (await commands.apply(settings, site, force=False)).refused
    without = replace(site, name="Another name", numbers=site.numbers[1:])
    assert (await commands.apply(settings, without, force=False)).changed


async def test_an_empty_database_tells_to_apply_a_site_first(settings: Settings) -> None:
    with pytest.raises(Failure, match=r"run `monofil apply SITE\.yaml` first"):
        await commands.export(settings, None)


async def test_of_several_organisations_one_must_be_named(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    await commands.apply(settings, replace(site, organisation="other", name="Other"), force=False)
    with pytest.raises(Failure, match=r"\(other, postal\): name one with --organisation"):
        await commands.export(settings, None)
    assert (await commands.export(settings, "other")).site.name == "Other"


async def test_a_password_is_kept_as_its_argon2_hash_only(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    password = "a password of ours"
    assert await commands.set_password(settings, "lea", password, phone=False) == "lea"
    async with commands.stores(settings) as at:
        hashed = await at.people.password_hash("lea")
        assert await at.people.logins() == ["lea"]
    assert hashed is not None
    assert hashed.startswith("$argon2id$")
    assert PasswordHasher().verify(hashed, password)


async def test_a_phone_password_is_kept_as_ha1_in_both_forms(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    assert await commands.set_password(settings, "lea", "zanzibar-zanzibar", phone=True) == "101"
    async with commands.stores(settings) as at:
        secret = await at.accounts.secret("101")
    assert secret == commands.phone_secret("101", "monofil", "zanzibar-zanzibar")


def test_ha1_is_that_of_the_rfc() -> None:
    # RFC 7616 3.9.1 gives H(Mufasa:http-auth@example.org:Circle of Life) as a part of its responses
    secret = commands.phone_secret("Mufasa", "http-auth@example.org", "Circle of Life")
    assert secret.md5 == "3d78807defe7de2157e2b0b6573a855f"
    assert secret.sha256 == "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232"


async def test_nobody_has_a_password_who_is_not_in_the_site(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    with pytest.raises(Failure, match=r"There is no advisor zoe .*monofil user add zoe"):
        await commands.set_password(settings, "zoe", "a long password", phone=False)
    with pytest.raises(Failure, match="admin has no phone"):
        await commands.set_password(settings, "admin", "a long password", phone=True)


async def test_a_new_person_is_in_the_site_and_only_once(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    zoe = Advisor("zoe", "Zoé", "Blanc", phone="120")
    assert await commands.add_user(settings, zoe, "a long password") == 2
    assert (await commands.export(settings, None)).site.advisors[-1] == zoe
    with pytest.raises(Failure, match="zoe is there already"):
        await commands.add_user(settings, zoe, "a long password")
    with pytest.raises(Failure, match="the phone 120 already rings for zoe"):
        await commands.add_user(settings, Advisor("zac", "Z", "B", phone="120"), "a long password")


async def test_why_of_an_unknown_interaction_is_one_sentence(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    unknown: UUID = IdMaker()()
    with pytest.raises(Failure, match="There is no interaction"):
        await commands.why(settings, str(unknown), "en", None)
    with pytest.raises(Failure, match="call-7 is no interaction id"):
        await commands.why(settings, "call-7", "en", None)


async def test_the_schema_is_told_and_brought_up(settings: Settings) -> None:
    assert all(applied for _, _, applied in (await commands.status(settings)).migrations)
    assert await commands.upgrade(settings) == []


async def test_the_status_tells_where_the_database_is_and_how_full(settings: Settings, site: Site) -> None:
    empty = await commands.status(settings)
    assert (empty.events, empty.newest_event_at) == (0, None)
    assert int(empty.postgresql.split(".")[0]) >= 15
    assert empty.size_bytes > 1_000_000
    await commands.apply(settings, site, force=False)
    connection = await postgres.connect(settings.dsn or "")
    await connection.execute(
        "INSERT INTO event (organisation_id, seq, id, at, type, data)"
        " SELECT id, 1, $1, $2, 'site.applied', '{}' FROM organisation",
        IdMaker()(),
        NOON,
    )
    await connection.close()
    full = await commands.status(settings)
    assert (full.events, full.newest_event_at) == (1, NOON)


async def test_the_status_of_a_database_without_tables_is_told(settings: Settings) -> None:
    connection = await postgres.connect(settings.dsn or "")
    await connection.execute("DROP SCHEMA public CASCADE")
    await connection.execute("CREATE SCHEMA public")
    await connection.close()
    found = await commands.status(settings)
    assert found.events == 0
    assert not any(applied for _, _, applied in found.migrations)


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("postgresql://u:hush@db.example.org:5433/calls", "db.example.org:5433 calls"),
        ("postgresql://u@/calls?host=/run/pg&password=hush", "/run/pg calls"),
        ("postgresql://u:hu@sh@db/calls", "db calls"),
        ("postgresql://u:hu/sh@db/calls", "MONOFIL_DATABASE_URL"),
        ("postgresql://u:12/hush@db/calls", "MONOFIL_DATABASE_URL"),
    ],
)
def test_the_place_of_a_database_never_holds_its_password(dsn: str, told: str) -> None:
    assert commands.place(load({"MONOFIL_DATABASE_URL": dsn})) == told


def test_our_own_database_lies_in_the_data_folder() -> None:
    assert commands.place(load({"MONOFIL_DATA_DIR": "/var/lib/calls"})) == "/var/lib/calls/pg"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({}, ""),
        ({"events": 2, "told": 1, "known": 1}, "2 events, 1 told, 1 known already"),
        (
            {"events": 1, "told": 0, "known": 0, "unknown": ["pass_thread", "optin"]},
            "1 events; unknown: pass_thread, optin",
        ),
        ({"events": 1, "given_up": [0], "replay": True}, "1 events; given up: 0; replay"),
    ],
)
def test_what_became_of_a_request_is_told_in_words(result: dict[str, Any], words: str) -> None:
    assert commands.what_became(result) == words


async def test_a_secret_is_needed_optional_or_made_by_the_server(settings: Settings, site: Site) -> None:
    await commands.apply(settings, site, force=False)
    await commands.set_channel_secret(settings, "courrier", "smtp_password", "geheim")
    rows = {
        (row.account, row.name): (row.is_set, row.need) for row in await commands.channel_secrets(settings)
    }
    assert rows["facebook", "app_secret"] == (False, "needed")
    assert rows["courrier", "smtp_password"] == (True, "optional")
    assert rows["courrier", "imap_password"] == (False, "optional")
    assert rows["courrier", "token_key"] == (False, "made")


async def test_secrets_of_a_shared_callback_are_those_of_the_account_whose_it_is(
    settings: Settings, site: Site
) -> None:
    page = Account("belge", "messenger", tree="messages", hook="facebook", settings={"page_id": "8"})
    await commands.apply(settings, replace(site, accounts=(*site.accounts, page)), force=False)
    names = [row.name for row in await commands.channel_secrets(settings) if row.account == "belge"]
    assert names == ["page_token"]
    with pytest.raises(Failure, match="belge takes its webhooks by facebook: set the app_secret of facebook"):
        await commands.set_channel_secret(settings, "belge", "app_secret", "geheim")
    await commands.set_channel_secret(settings, "belge", "page_token", "geheim")
