"""What must be true of the stored record after any run (faults.md 2), read back from the database."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import asyncpg

from routing.aio.desk import row_of
from routing.aio.postgres import connect, event_of
from routing.models import FINAL, Event, T
from routing.projection import TABLES, Rows, key_of, rebuild
from routing.site import Site


async def stored(connection: asyncpg.Connection, organisation: UUID) -> tuple[list[Event], Rows]:
    """The whole log and all state tables of an organisation."""
    found = await connection.fetch(
        "SELECT * FROM event WHERE organisation_id = $1 ORDER BY seq", organisation
    )
    events = [event_of(organisation, record) for record in found]
    rows = Rows()
    for table in TABLES:
        for record in await connection.fetch(
            f"SELECT * FROM {table.TABLE} WHERE organisation_id = $1", organisation
        ):
            rows.put(row_of(table, record))
    return events, rows


async def check(dsn: str, organisation: UUID, site: Site) -> list[Event]:
    """I1, I2, I3, I10, I12 and I13; returns the log."""
    connection = await connect(dsn)
    try:
        async with connection.transaction(
            isolation="repeatable_read", readonly=True
        ):  # a server may be at work
            events, rows = await stored(connection, organisation)
    finally:
        await connection.close()
    assert [event.seq for event in events] == list(range(1, len(events) + 1)), "the log has holes"
    _same(rebuild(events), rows)
    _owners(events, site)
    _conserved(events, rows)
    return events


def _same(rebuilt: Rows, rows: Rows) -> None:
    """I13: every row of every table, from the log alone."""
    for table in TABLES:
        ours, theirs = rebuilt.tables[table], rows.tables[table]
        assert set(ours) == set(theirs), (table.TABLE, set(ours) ^ set(theirs))
        for key, row in theirs.items():
            assert ours[key] == row, (table.TABLE, key_of(row), ours[key], row)


def _owners(events: list[Event], site: Site) -> None:
    """I1 one owner, I3 seats, I10 each offer ends once, I12 epochs grow."""
    seats = {advisor.id: dict(advisor.seats) for advisor in site.advisors}
    channel: dict[UUID, str] = {}
    owner: dict[UUID, str] = {}
    epoch: dict[UUID, int] = {}
    open_offers: dict[str, UUID] = {}
    used: Counter[tuple[str, str]] = Counter()
    lent: set[UUID] = set()

    def take(interaction: UUID, advisor: str) -> None:
        assert interaction not in owner, f"I1: {interaction} has two owners"
        owner[interaction] = advisor
        used[advisor, channel[interaction]] += 1
        assert used[advisor, channel[interaction]] <= seats[advisor][channel[interaction]], f"I3: {advisor}"

    def free(interaction: UUID) -> None:
        if (advisor := owner.pop(interaction, None)) is not None:
            used[advisor, channel[interaction]] -= interaction not in lent
            lent.discard(interaction)

    for event in events:
        it = event.interaction
        if it is None:
            continue
        match event.type:
            case T.INTERACTION_OPENED:
                assert it not in channel
                channel[it] = event.data["seat"]
            case T.OFFERED:
                assert event.advisor is not None
                assert event.data["epoch"] > epoch.get(it, 0), f"I12: {it}"
                epoch[it] = event.data["epoch"]
                open_offers[event.data["offer"]] = it
                take(it, event.advisor)
            case T.OFFER_ENDED:
                assert open_offers.pop(event.data["offer"]) == it, "I10: an offer ended twice"
                free(it)
            case T.ACCEPTED | T.ASSIGNED:
                assert event.advisor is not None
                if (former := event.data.get("from")) is not None:
                    assert owner[it] == former, f"I1: {it} is moved from who does not have it"
                    free(it)
                take(it, event.advisor)
            case T.HELD | T.RESUMED if channel[it] == "voice":
                pass  # the customer hears music; the seat is taken all the same
            case T.SEAT_LENT | T.HELD:
                used[owner[it], channel[it]] -= 1
                lent.add(it)
            case T.SEAT_RETURNED | T.RESUMED:  # at once, one more than the seats if need be
                used[owner[it], channel[it]] += 1
                lent.discard(it)
            case T.ENQUEUED:
                free(it)  # an advisor has passed it on
            case (
                T.TALK_ENDED
                | T.HANDED_BACK
                | T.REQUEUED
                | T.ENDED
                | T.ABANDONED
                | T.INTERRUPTED
                | T.LEFT_QUEUE
            ):
                free(it)
            case _:
                pass
    assert all(it in owner for it in open_offers.values()), "I10: an offer is open and nobody has it"


def _conserved(events: list[Event], rows: Rows) -> None:
    """I2: everything that arrived is somewhere, once."""
    from routing.projection import InteractionRow, OfferRow

    arrived = {event.interaction for event in events if event.type is T.INTERACTION_OPENED}
    ends = Counter(
        event.interaction for event in events if event.type in (T.ENDED, T.ABANDONED, T.INTERRUPTED)
    )
    interactions = {row.id: row for row in rows.all(InteractionRow)}
    assert arrived == set(interactions)
    for id_, row in interactions.items():
        assert ends[id_] == (1 if row.state in FINAL else 0), (id_, row.state, ends[id_])
    for offer in rows.all(OfferRow):
        if offer.how is None:
            assert interactions[offer.interaction].offer == offer.id
