"""Tables to take away: the statistics, the interactions behind a figure, and what was said in a case, as CSV."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from aiohttp import hdrs, web
from pydantic import StringConstraints

from cti.aio import statistics, threads
from cti.aio.console import V1, cti_of
from cti.aio.statistics import Moment
from cti.schemas import ShortId
from cti.sheet import Cell, sheet
from routing.aio.web import Ask, language_of, route, routes_in

log = structlog.get_logger(__name__)

MOST_ROWS = 20_000  # of a list: what a spreadsheet still scrolls through; the figure itself counts them all
INTERACTION = (
    "id", "channel", "direction", "state", "case", "contact", "address", "queue", "advisor", "opened", "enqueued",
    "accepted", "ended", "outcome", "code",
)  # fmt: skip
MESSAGE = ("at", "channel", "account", "direction", "author", "name", "kind", "subject", "text", "status")


def _file(ask: Ask, name: str, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> web.Response:
    log.info("a table was taken away", table=name, login=ask.who.login)
    return web.Response(
        body=sheet(head, rows, language_of(ask.request)),
        content_type="text/csv",
        charset="utf-8",
        headers={hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}.csv"'},
    )


def _flat(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float | None]]:
    """Each figure by its whole name, such as first_response.per_message.elapsed."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


@route("GET", f"{V1}/statistics.csv", content="text/csv")
async def export_statistics(
    ask: Ask,
    from_: Moment | None = None,
    to: Moment | None = None,
    queue: ShortId | None = None,
    channel: ShortId | None = None,
    advisor: ShortId | None = None,
) -> web.Response:
    """The figures as a table: one line a queue and channel, and the totals."""
    shown = await statistics.statistics.handler(ask, from_, to, queue, channel, advisor)
    told = shown.model_dump()
    totals = dict(_flat(told["totals"]))
    rows = [
        (row["queue"], row["channel"], *map(dict(_flat(row["figures"])).get, totals)) for row in told["rows"]
    ]
    rows.append(("*", "*", *totals.values()))
    zone = ZoneInfo(cti_of(ask).site().site.time_zone)
    day = shown.since.astimezone(zone).date().isoformat()
    return _file(ask, f"statistics-{day}", ("queue", "channel", *totals), rows)


@route("GET", f"{V1}/statistics/list.csv", content="text/csv")
async def export_list(
    ask: Ask,
    figure: Annotated[str, StringConstraints(max_length=100)],
    from_: Moment | None = None,
    to: Moment | None = None,
    queue: ShortId | None = None,
    channel: ShortId | None = None,
    advisor: ShortId | None = None,
    part: Literal["numerator", "denominator"] = "numerator",
) -> web.Response:
    """The interactions that a figure counts, the first 20,000 of them."""
    found = await statistics.list_statistics.handler(
        ask, figure, from_, to, queue, channel, advisor, part, limit=MOST_ROWS
    )
    rows = [
        (
            it.id, it.channel, it.direction, it.state, it.case_number, it.contact_name, it.address, it.queue,
            it.advisor, it.opened_at, it.enqueued_at, it.accepted_at, it.ended_at, it.outcome, it.code,
        )
        for it in found.items
    ]  # fmt: skip
    return _file(ask, f"list-{figure}", INTERACTION, rows)


@route("GET", f"{V1}/cases/{{id}}/transcript.csv", content="text/csv")
async def export_transcript(ask: Ask, id: UUID) -> web.Response:
    """What was written in a case, over all its channels, in its order, the last 20,000; notes are not among it."""
    cti = cti_of(ask)
    case = await cti.case(id)
    messages, _, _ = await threads.case_words(cti, id, MOST_ROWS)
    rows = [
        (m.at, m.channel, m.account, m.direction, m.author, m.by_name, m.kind, m.subject, m.text, m.status)
        for m in messages
    ]
    return _file(ask, f"case-{case.number}", MESSAGE, rows)


ROUTES = routes_in(sys.modules[__name__])
