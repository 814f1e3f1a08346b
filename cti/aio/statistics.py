"""The routes of statistics: figures of an interval, and the interactions behind each of them (S2, S5)."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from cti import schemas
from cti.aio.console import V1, cti_of
from cti.days import whole_days
from cti.schemas import Limit, ShortId
from routing import figures
from routing.aio.web import Ask, FieldError, Problem, route, routes_in

NO_QUEUE = "-"  # stands for the rows of those that never reached a queue
LONGEST = timedelta(days=400)  # a year beside the same month of the last one

Moment = AwareDatetime | date
"""An instant, or a whole day where the site is: `from` its first midnight, `to` its last."""


def _interval(ask: Ask, first: Moment | None, last: Moment | None) -> tuple[datetime, datetime]:
    """The last 24 hours where nothing is said."""
    cti = cti_of(ask)
    zone = cti.site().site.time_zone

    def instant(moment: Moment, end: int) -> datetime:
        return (
            moment.astimezone(UTC) if isinstance(moment, datetime) else whole_days(moment, moment, zone)[end]
        )

    until = instant(last or cti.clock.now(), 1)
    since = instant(first or until - timedelta(days=1), 0)
    if not since < until <= since + LONGEST:
        expected = f"a time after `from`, at most {LONGEST.days} days later"
        raise Problem(422, "invalid", errors=[FieldError("to", expected, until.isoformat())])
    return since, until


async def _rows(ask: Ask, since: datetime, until: datetime) -> figures.Rows:
    cti = cti_of(ask)
    return await cti.stores.figures.between(since, until, gap_h=cti.site().site.conversation_gap_h)


@route("GET", f"{V1}/statistics")
async def statistics(
    ask: Ask,
    from_: Moment | None = None,
    to: Moment | None = None,
    queue: ShortId | None = None,
    channel: ShortId | None = None,
    advisor: ShortId | None = None,
) -> schemas.Statistics:
    """The figures of features 1.3 for every queue and channel, with their formulas; days are the site's."""
    cti = cti_of(ask)
    since, until = _interval(ask, from_, to)
    async with cti.counting:
        now = cti.clock.now()
        found = await _rows(ask, since, until)
        told = await asyncio.to_thread(
            figures.statistics,
            found,
            cti.site().site,
            since,
            until,
            queue=queue,
            channel=channel,
            advisor=advisor,
            now=now,
        )
    return schemas.Statistics(
        since=told.start,
        to=told.end,
        formula=dict(told.formula),
        rows=[schemas.StatisticsRow(queue=r.queue, channel=r.channel, figures=r.figures) for r in told.rows],
        series=told.series,
        totals=told.totals,
        note=told.note,
    )


@route("GET", f"{V1}/statistics/list")
async def list_statistics(
    ask: Ask,
    figure: Annotated[str, StringConstraints(max_length=100)],
    from_: Moment | None = None,
    to: Moment | None = None,
    queue: ShortId | None = None,
    channel: ShortId | None = None,
    advisor: ShortId | None = None,
    part: Literal["numerator", "denominator"] = "numerator",
    limit: Limit = 50,
    skip: Annotated[int, Field(ge=0, lt=2**31)] = 0,
) -> schemas.Interactions:
    """The interactions that a figure counts; one stands there once for each of its messages that count.

    `queue` "-" are those that never reached one.
    """
    cti = cti_of(ask)
    since, until = _interval(ask, from_, to)
    async with cti.counting:
        now = cti.clock.now()
        found = await _rows(ask, since, until)
        try:
            facts = await asyncio.to_thread(
                figures.listed,
                found,
                cti.site().site,
                since,
                until,
                figure,
                part=part,
                queue=queue if queue != NO_QUEUE else None,
                channel=channel,
                advisor=advisor,
                now=now,
            )
        except KeyError:
            known = ", ".join(figures.FIGURES)
            raise Problem(422, "invalid", errors=[FieldError("figure", f"one of {known}", figure)]) from None
    if queue == NO_QUEUE:
        facts = [fact for fact in facts if fact.queue is None]
    ids = [fact.interaction for fact in facts[skip : skip + limit]]
    views = {view.id: view for view in await cti.stores.timeline.interactions(list(dict.fromkeys(ids)))}
    return schemas.Interactions(
        items=[await cti.live.views.interaction(views[id]) for id in ids if id in views], total=len(facts)
    )


ROUTES = routes_in(sys.modules[__name__])
