"""The screen pop: what an advisor sees before the first word (features 1.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote, urlsplit

from cti import rows, schemas
from routing.models import PLACE_FACTS
from routing.site import Site
from routing.store import MessageView, PopRows

_PLACE = re.compile(r"{(\w+)}")


def fill_url(template: str | None, values: Mapping[str, str | None]) -> str | None:
    """A URL template with its places filled; None when there is none or it is not safe to fill.

    Values can change neither scheme nor host: both must be free of places, and every value is percent-encoded.
    """
    if not template:
        return None
    bare = _PLACE.sub("", template)
    parts = urlsplit(template)
    if parts.scheme not in {"http", "https"} or not parts.netloc or "{" in parts.netloc:
        return None
    if "{" in bare or "}" in bare or any(c.isspace() or not c.isprintable() for c in bare):
        return None
    return _PLACE.sub(lambda m: quote(values.get(m[1]) or "", safe=""), template)


def pop(
    found: PopRows,
    site: Site,
    now: datetime,
    titles: rows.Titles,
    messages: Sequence[MessageView] = (),
) -> schemas.Pop:
    """All of features 1.4 from the rows of one interaction; `titles` are those of the nodes it passed.

    `messages` are the last ones of a written interaction, oldest first.
    """
    view = found.interaction
    queue = next((q for q in site.queues if q.id == view.queue), None)
    e164 = view.address_value if view.address_value.startswith("+") else None
    waited_until = view.accepted_at or now
    waited_from = view.since or view.enqueued_at
    case = found.case
    return schemas.Pop(
        interaction=view.id,
        call=view.call,
        case=schemas.PopCase(id=case.id, number=case.number, subject=case.subject, state=case.state)
        if case
        else None,
        received_number=view.received,
        e164=e164,
        attestation=view.attestation,
        trunk=view.trunk,
        persons=[
            schemas.Person(
                contact=p.contact,
                name=p.name,
                company=p.company or None,
                vip=p.vip,
                why=p.why,  # type: ignore[arg-type]
                sure=p.sure,  # type: ignore[arg-type]
            )
            for p in found.persons
        ],
        queue=schemas.QueueName(id=queue.id, name=queue.name) if queue else None,
        priority=view.priority or 0,
        waited_s=max(0.0, (waited_until - waited_from).total_seconds()) if waited_from else 0.0,
        path=[rows.step(s, titles) for s in found.path],
        language=view.language,
        facts={name: fact for name, fact in found.facts.items() if name not in PLACE_FACTS},
        open_cases=[rows.case_row(c) for c in found.open_cases],
        last_interactions=[rows.last_interaction(i) for i in found.last_interactions],
        last_advisor=found.last_advisor,
        kind=found.kind,  # type: ignore[arg-type]
        transfer=None,
        url=fill_url(
            site.pop_url,
            {
                "e164": e164,
                "number": view.received,
                "call": view.call,
                "interaction": str(view.id),
                "case": str(case.number) if case else None,
                "contact": str(view.contact),
                "queue": view.queue,
                "language": view.language,
            },
        ),
        last_messages=[rows.message(m, site) for m in messages],
    )
