"""The console's HTTP: every act of the page as a route (S9), and what operators ask for."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import prometheus_client
import structlog
from aiohttp import hdrs, web
from pydantic import Field, StringConstraints

from cti import rows, schemas
from cti.aio import exports, files, statistics, threads
from cti.aio.console import (
    V1,
    Console,
    SiteWords,
    Telephony,
    after_cursor,
    cti_of,
    cursor,
    not_possible,
    refuse,
)
from cti.aio.control import NotPossible
from cti.aio.dist import ConsoleFiles
from cti.aio.live import sum_versions
from cti.aio.sessions import COOKIE, client_address, made_up_password
from cti.schemas import Limit, ShortId
from routing import explain
from routing.aio.web import (
    ADMINS,
    FIGURES,
    SUPERVISORS,
    Ask,
    Caller,
    FieldError,
    Problem,
    Route,
    application,
    language_of,
    route,
    routes_in,
    same_origin,
)
from routing.models import (
    CaseChanged,
    CaseChosen,
    CaseCreated,
    CaseState,
    ContactChanged,
    ContactChosen,
    ContactsMerged,
    Event,
    MergeUndone,
    NoteWritten,
    OfferAccepted,
    OfferRefused,
    Presence,
    PresenceSet,
    PriorityChanged,
    State,
    T,
    WrapupDone,
    WrapupExtended,
)
from routing.site import Advisor, Queue, Site
from routing.store import Changed, InteractionView, PhoneSecret, SiteVersion, Step, Unavailable
from softphone_bridge.digest import ha1

log = structlog.get_logger(__name__)

WAITING = prometheus_client.Gauge("monofil_queue_waiting", "Who waits", ["queue", "channel"])
LEVEL = prometheus_client.Gauge(
    "monofil_service_level_ratio", "Service level of the day", ["queue", "channel"]
)
ADVISORS = prometheus_client.Gauge("monofil_advisors", "Advisors by state", ["state"])
OUTBOX = prometheus_client.Gauge("monofil_outbox_waiting", "Messages to be sent", ["account", "channel"])
ACCOUNT_UP = prometheus_client.Gauge(
    "monofil_account_up", "0 while an account of a channel is down", ["account", "channel"]
)
REQUESTS = prometheus_client.Gauge("monofil_http_requests", "HTTP answers since start", ["method", "status"])

Figure = Literal[
    "waiting", "answered", "abandoned", "short_abandoned", "served"
]  # served: answered or abandoned
SearchText = Annotated[str, StringConstraints(max_length=200)]
Lang = Literal["fr", "en"]

MESSAGES_SHOWN = 500  # of a case, the last ones: its export has the others


@route("POST", f"{V1}/session", roles=None, returns=schemas.Session, problems=(401, 429))
async def sign_in(ask: Ask, body: schemas.SignIn) -> web.Response:
    """Sign in: a new session, whatever cookie came along."""
    cti = cti_of(ask)
    address = client_address(ask.request, cti.sign_ins.trusted)
    made = await cti.sign_ins.sign_in(body.login, body.password, address, ask.request.cookies.get(COOKIE))
    caller = Caller(
        made.session.login, frozenset(made.advisor.roles), cti.stores.organisation, made.session.csrf
    )
    answer = schemas.Session(csrf=made.session.csrf, me=cti.live.floor.me(caller.login))
    response = web.Response(body=answer.model_dump_json().encode(), content_type="application/json")
    cti.sign_ins.set_cookie(response, made.token)
    return response


@route("GET", f"{V1}/session")
async def who_am_i(ask: Ask) -> schemas.Session:
    """Who is signed in, and the token for unsafe methods."""
    return schemas.Session(csrf=ask.who.csrf, me=cti_of(ask).live.floor.me(ask.who.login))


@route("DELETE", f"{V1}/session", content="text/plain", status=204)
async def sign_out(ask: Ask) -> web.Response:
    """End this session and close its pages."""
    cti = cti_of(ask)
    token = ask.request.cookies.get(COOKIE, "")
    session = await cti.sign_ins.session(token)
    await cti.sign_ins.sign_out(token)
    if session is not None:
        cti.live.sign_out(session.token_hash)
    response = web.Response(status=204)
    cti.sign_ins.clear_cookie(response)
    return response


@route("PUT", f"{V1}/me/presence", problems=(409,))
async def set_presence(ask: Ask, body: schemas.SetPresence) -> schemas.Presence:
    """Set your presence; a pause needs one of the site's reasons."""
    cti = cti_of(ask)
    site = cti.site().site
    if body.presence == "pause" and site.pause_reasons and body.reason not in site.pause_reasons:
        expected = ", ".join(site.pause_reasons)
        error = FieldError("reason", f"one of {expected}", body.reason)
        raise Problem(422, "invalid", "A pause needs a reason.", errors=[error])
    reason = body.reason if body.presence == "pause" else None
    await cti.submit(PresenceSet, advisor=ask.who.login, presence=Presence(body.presence), reason=reason)
    shown = cti.live.floor.presence(ask.who.login)
    assert shown is not None
    return shown.model_copy(update={"presence": body.presence, "reason": reason})


@route("GET", f"{V1}/pause-reasons")
async def pause_reasons(ask: Ask) -> list[str]:
    """The reasons for a pause that this site knows."""
    return list(cti_of(ask).site().site.pause_reasons)


@route("GET", f"{V1}/wrapup-codes")
async def wrapup_codes(ask: Ask) -> list[schemas.CodeRow]:
    """The codes that say how an interaction ended."""
    return [
        schemas.CodeRow(id=c.id, labels=dict(c.labels), solves=c.solves)
        for c in cti_of(ask).site().site.wrapup_codes
    ]


@route("POST", f"{V1}/offers/{{id}}/refuse", problems=(409,))
async def refuse_offer(ask: Ask, id: UUID, body: schemas.Refuse | None = None) -> None:
    """Refuse an offer made to you; it goes to somebody else and is no miss."""
    cti = cti_of(ask)
    _own_offer(ask, id)
    reason = (body.reason if body else None) or "refused"
    await cti.submit(OfferRefused, offer=id, reason=reason if reason == "refused" else "refused")


@route("POST", f"{V1}/offers/{{id}}/accept", problems=(409,))
async def accept_offer(ask: Ask, id: UUID) -> None:
    """Accept an offer on a written channel; a call is accepted by answering the phone."""
    cti = cti_of(ask)
    row = cti.desk.interaction(_own_offer(ask, id))
    if row is None or row.seat == "voice":
        raise refuse(ask, 409, "answer-your-phone")
    await cti.submit(OfferAccepted, offer=id)


def _own_offer(ask: Ask, id: UUID) -> UUID:
    """The interaction that is offered."""
    made = cti_of(ask).live.floor.open_offer(id)
    if made is None or made.advisor != ask.who.login or made.interaction is None:
        raise Problem(404, "not-found", "There is no such offer to you; it may be over.")
    return made.interaction


@route("GET", f"{V1}/interactions")
async def list_interactions(
    ask: Ask,
    queue: ShortId,
    figure: Figure,
    channel: ShortId = "voice",
    limit: Limit = 50,
    skip: Annotated[int, Field(ge=0, lt=2**31)] = 0,
) -> schemas.Interactions:
    """Those that a figure of the board counts: who waits, longest first; who was served today, newest first."""
    cti = cti_of(ask)
    ids = cti.live.floor.counted(queue, channel, figure)
    views = await cti.stores.timeline.interactions(ids[skip : skip + limit])
    return schemas.Interactions(
        items=[await cti.live.views.interaction(view) for view in views],
        total=len(ids),
    )


@route("GET", f"{V1}/interactions/{{id}}")
async def get_interaction(ask: Ask, id: UUID) -> schemas.Whole:
    """One interaction; while it lasts, with what its advisor is told."""
    cti = cti_of(ask)
    shown = await cti.shown(id)
    pop = await cti.live.views.pop(id) if shown.ended_at is None else None
    return schemas.Whole(**shown.model_dump(), pop=pop)


@route("POST", f"{V1}/interactions/{{id}}/hold", problems=(409,))
async def hold(ask: Ask, id: UUID) -> schemas.Interaction:
    """Put a call's customer on hold, with music; set a written interaction aside until they write, or you resume.

    What is set aside stays yours and takes no seat.
    """
    return await _set_held(ask, id, True)


@route("POST", f"{V1}/interactions/{{id}}/resume", problems=(409,))
async def resume(ask: Ask, id: UUID) -> schemas.Interaction:
    """Take a customer back from hold."""
    return await _set_held(ask, id, False)


async def _set_held(ask: Ask, id: UUID, held: bool) -> schemas.Interaction:
    if (await cti_of(ask).interaction(id)).thread is not None:
        return await threads.set_aside(ask, id, held)
    control = cti_of(ask).control
    return await _control(ask, id, control.hold if held else control.resume)


@route("POST", f"{V1}/interactions/{{id}}/hangup", problems=(409,))
async def hang_up(ask: Ask, id: UUID) -> schemas.Interaction:
    """End the talk; wrap-up begins."""
    return await _control(ask, id, cti_of(ask).control.hang_up)


async def _control(ask: Ask, id: UUID, act: Callable[[UUID, str], Awaitable[None]]) -> schemas.Interaction:
    await cti_of(ask).interaction(id)
    try:
        await act(id, ask.who.login)
    except NotPossible as error:
        raise not_possible(ask, error) from None
    return await cti_of(ask).shown(id)


@route("POST", f"{V1}/interactions/{{id}}/wrapup", problems=(409,))
async def finish_wrapup(ask: Ask, id: UUID, body: schemas.FinishWrapup) -> schemas.Interaction:
    """Finish your wrap-up with a code and a note."""
    cti = cti_of(ask)
    view = await cti.mine(ask, id)
    cti.check_code(view, body.code)
    await cti.submit(WrapupDone, interaction=id, code=body.code, note=body.note, by=ask.who.login)
    return await cti.shown(id)


@route("POST", f"{V1}/interactions/{{id}}/wrapup/extend", problems=(409,))
async def extend_wrapup(ask: Ask, id: UUID) -> schemas.Interaction:
    """Take more time for the wrap-up, once."""
    cti = cti_of(ask)
    await cti.mine(ask, id)
    await cti.submit(WrapupExtended, interaction=id)
    return await cti.shown(id)


@route("POST", f"{V1}/interactions/{{id}}/contact", problems=(409,))
async def choose_contact(ask: Ask, id: UUID, body: schemas.ChooseContact) -> schemas.Interaction:
    """Say who the customer is; can be said again."""
    cti = cti_of(ask)
    await cti.mine(ask, id, also_ended=True)
    await cti.contact(body.contact)
    await cti.submit(ContactChosen, interaction=id, contact=body.contact, by=ask.who.login)
    return await cti.shown(id)


@route("POST", f"{V1}/interactions/{{id}}/case", problems=(409,))
async def choose_case(ask: Ask, id: UUID, body: schemas.ChooseCase) -> schemas.Interaction:
    """Say which case this is about; can be said again."""
    cti = cti_of(ask)
    await cti.mine(ask, id, also_ended=True)
    await cti.case(body.case)
    outcome = await cti.tell(CaseChosen, interaction=id, case=body.case, by=ask.who.login)
    if outcome.refused == "lives_there":
        raise refuse(ask, 409, "lives-there")
    if outcome.refused not in (None, "unchanged"):
        raise Problem(409, "refused", outcome.refused)
    return await cti.shown(id)


@route("PUT", f"{V1}/interactions/{{id}}/priority", roles=SUPERVISORS, problems=(409,))
async def set_priority(ask: Ask, id: UUID, body: schemas.SetPriority) -> schemas.Interaction:
    """Move somebody who waits up or down."""
    cti = cti_of(ask)
    await cti.interaction(id)
    await cti.submit(PriorityChanged, interaction=id, priority=body.priority, by=ask.who.login)
    return await cti.shown(id)


@route("GET", f"{V1}/interactions/{{id}}/why")
async def why(ask: Ask, id: UUID, lang: Lang = "fr") -> schemas.Why:
    """Why this interaction was offered to whom, and why nobody has it who waits now, in sentences."""
    cti = cti_of(ask)
    view = await cti.interaction(id)
    told = [dict(row) for row in await cti.stores.timeline.why(id)]
    known = [explain.from_json(row["why"]) for row in told if row.get("why")]
    names = await _names(cti, view, known, lang)
    sentences = [sentence for one in known for sentence in explain.sentences(one, lang, names)]
    if view.state == State.WAITING and cti.desk.healthy:
        sentences.append(explain.waiting_sentence(cti.desk.why_not(id), lang, names))
    explanations = [json.loads(json.dumps(row, default=str)) for row in told]
    return schemas.Why(sentences=sentences, explanations=explanations)


THIS = {"fr": ("Cet appel", "Ce message"), "en": ("This call", "This message")}
CHANNELS = {
    "fr": {"voice": "appel", "chat": "message", "mail": "e-mail"},
    "en": {"voice": "call", "chat": "message", "mail": "email"},
}
CASE = {"fr": "dossier {}", "en": "case {}"}


async def _names(
    cti: Console, view: InteractionView, known: Sequence[explain.Explanation], lang: Lang
) -> dict[str, str]:
    """What people call what an explanation names by id."""
    site = cti.site().site
    rivals = {UUID(rival.interaction) for one in known for rival in one.rivals} - {view.id}
    others = await cti.stores.timeline.interactions(sorted(rivals))
    call, message = THIS[lang]
    return {
        **{a.id: a.first_name for a in site.advisors},
        **{q.id: q.name for q in site.queues},
        **CHANNELS[lang],
        **{str(one.id): CASE[lang].format(one.case_number) for one in others},
        str(view.id): call if view.channel == "voice" else message,
    }


@route("GET", f"{V1}/cases")
async def list_cases(
    ask: Ask,
    state: Literal["open", "waiting", "solved", "closed"] | None = None,
    text: SearchText = "",
    contact: UUID | None = None,
    limit: Limit = 50,
    after: Annotated[str, StringConstraints(max_length=200)] | None = None,
) -> schemas.Cases:
    """Cases, last changed first."""
    found = await cti_of(ask).stores.cases.list(
        state=state, text=text, contact=contact, limit=limit + 1, after=after_cursor(after) if after else None
    )
    page = list(found)[:limit]
    return schemas.Cases(
        items=[rows.case_row(c) for c in page],
        next=cursor(page[-1].changed_at, page[-1].id) if len(found) > limit and page else None,
    )


@route("GET", f"{V1}/cases/{{id}}")
async def get_case(ask: Ask, id: UUID) -> schemas.Case:
    """A case with its whole timeline."""
    cti = cti_of(ask)
    view = await cti.case(id)
    cti.live.looks_at(ask.who.login, id)
    timeline, cases = cti.stores.timeline, [id, *(m.case for m in view.merges)]
    happened: dict[int, Event] = {}
    by_id: dict[UUID, InteractionView] = {}
    notes: dict[UUID, str] = {}
    paths: dict[UUID, Sequence[Step]] = {}
    for each in cases:
        happened |= {event.seq: event for event in await timeline.events(each)}
        by_id |= {i.id: i for i in await cti.stores.cases.interactions(each)}
        notes |= await timeline.notes(each)
        paths |= await timeline.paths(each)
    recordings: dict[UUID, int] = {}
    for interaction in by_id.values():
        if interaction.recordings:
            stored = await cti.stores.recordings.of_interaction(interaction.id)
            recordings |= {r.id: r.duration_ms for r in stored}
    items: list[schemas.Item] = []
    entered: dict[UUID, Event] = {}
    for event in sorted(happened.values(), key=lambda each: each.seq):
        if event.type is T.TREE_ENTERED and event.interaction:
            entered.setdefault(event.interaction, event)
        known = by_id.get(event.interaction) if event.interaction else None
        item = rows.item(event, notes=notes, view=known, recordings=recordings)
        if item is not None and item.kind != "message":
            items.append(item)
    for interaction_id, path in paths.items():
        titles = await cti.live.views.titles.of(path)
        item = rows.tree_item(interaction_id, path, entered.get(interaction_id), titles)
        if item is not None:
            items.append(item)
    messages, of_it, helps = await threads.case_words(cti, id, MESSAGES_SHOWN + 1)
    earlier, messages = len(messages) > MESSAGES_SHOWN, messages[-MESSAGES_SHOWN:]
    items += [rows.message_item(m) for m in messages]
    items.sort(key=lambda i: i.seq)
    return schemas.Case(
        **rows.case_row(view).model_dump(),
        timeline=items,
        interactions=[await cti.live.views.interaction(i) for i in by_id.values()],
        notes_count=view.notes,
        follows=view.follows,
        merged_into=view.merged_into,
        merges=rows.case_merges(view),
        messages=messages,
        earlier=earlier,
        threads=of_it,
        helps=helps,
        viewers=cti.live.viewers(id),
    )


@route("POST", f"{V1}/cases", status=201, problems=(404, 409))
async def create_case(ask: Ask, body: schemas.NewCase) -> schemas.CaseRow:
    """Open a case for a contact."""
    cti = cti_of(ask)
    await cti.contact(body.contact)
    case = cti.ids()
    await cti.submit(CaseCreated, case=case, contact=body.contact, subject=body.subject, by=ask.who.login)
    return rows.case_row(await cti.case(case))


@route("PATCH", f"{V1}/cases/{{id}}", problems=(409,))
async def change_case(ask: Ask, id: UUID, body: schemas.ChangeCase) -> schemas.CaseRow:
    """Change the state or the subject of a case."""
    cti = cti_of(ask)
    await cti.case(id)
    state = CaseState(body.state) if body.state else None
    await cti.submit(CaseChanged, case=id, by=ask.who.login, state=state, subject=body.subject)
    return rows.case_row(await cti.case(id))


@route("POST", f"{V1}/cases/{{id}}/notes", status=201, problems=(409,))
async def write_note(ask: Ask, id: UUID, body: schemas.NewNote) -> schemas.Item:
    """Write a note into a case; customers never see it."""
    cti = cti_of(ask)
    await cti.case(id)
    note = cti.ids()
    outcome = await cti.submit(NoteWritten, case=id, note=note, text=body.text, by=ask.who.login)
    for event in outcome.events:
        if (item := rows.item(event, notes={note: body.text})) is not None:
            return item
    raise Problem(500, "failed", "The note was stored without an event.")


@route("POST", f"{V1}/cases/{{id}}/call", status=202, problems=(409,))
async def call_from_case(ask: Ask, id: UUID, body: schemas.CallFromCase) -> schemas.Placed:
    """Call the customer of a case: your phone rings first.

    `exchange` names your written interaction whose seat the call takes until it is over (F5).
    """
    cti = cti_of(ask)
    case = await cti.case(id)
    if body.exchange is not None:
        view = await cti.interaction(body.exchange)
        if view.advisor != ask.who.login or view.state != State.ACTIVE or view.seat == "voice":
            raise refuse(ask, 409, "no-seat-to-lend")
    return await _call(ask, case.contact, body.address, case=id, exchange=body.exchange)


async def _call(
    ask: Ask, contact: UUID, address: UUID, case: UUID | None, exchange: UUID | None = None
) -> schemas.Placed:
    cti = cti_of(ask)
    person = await cti.contact(contact)
    known = next((a for a in person.addresses if a.id == address), None)
    if known is None:
        raise Problem(404, "not-found", "This contact has no such address.")
    if known.kind != "phone":
        error = FieldError("address", "a phone number", known.kind)
        raise Problem(422, "invalid", "Only phone numbers can be called.", errors=[error])
    if cti.telephony.denies(known.value) is not None:
        raise refuse(ask, 409, "not-allowed-number")
    try:
        placed = await cti.control.call_out(
            ask.who.login,
            known.value,
            case=case,
            contact=person.id,
            exchange=exchange,
            language=person.language,
        )
    except NotPossible as error:
        raise not_possible(ask, error) from None
    return schemas.Placed(interaction=placed)


@route("GET", f"{V1}/contacts")
async def find_contacts(ask: Ask, text: SearchText = "", limit: Limit = 20) -> schemas.Contacts:
    """Contacts by name, company, or number in any form."""
    found = await cti_of(ask).stores.contacts.find(text, limit=limit)
    return schemas.Contacts(items=[rows.contact_row(c) for c in found])


@route("GET", f"{V1}/contacts/{{id}}")
async def get_contact(ask: Ask, id: UUID) -> schemas.Contact:
    """A contact with addresses, cases and last interactions."""
    return await cti_of(ask).contact_whole(id)


@route("POST", f"{V1}/contacts", status=201, problems=(409,))
async def create_contact(ask: Ask, body: schemas.NewContact) -> schemas.Contact:
    """Add a contact."""
    cti = cti_of(ask)
    contact = cti.ids()
    await cti.submit(
        ContactChanged,
        contact=contact,
        by=ask.who.login,
        name=body.name,
        company=body.company,
        language=body.language,
        vip=body.vip,
        add_addresses=tuple((a.kind, a.value) for a in body.addresses),
    )
    return await cti.contact_whole(contact)


@route("PATCH", f"{V1}/contacts/{{id}}", problems=(409,))
async def change_contact(ask: Ask, id: UUID, body: schemas.ChangeContact) -> schemas.Contact:
    """Change what is known of a contact."""
    cti = cti_of(ask)
    await cti.contact(id)
    await cti.submit(
        ContactChanged,
        contact=id,
        by=ask.who.login,
        name=body.name,
        company=body.company,
        language=body.language,
        vip=body.vip,
        add_addresses=tuple((a.kind, a.value) for a in body.add_addresses),
    )
    return await cti.contact_whole(id)


@route("POST", f"{V1}/contacts/{{id}}/merge", problems=(409,))
async def merge_contact(ask: Ask, id: UUID, body: schemas.MergeInto) -> schemas.Contact:
    """Say that two contacts are one person; can be undone."""
    cti = cti_of(ask)
    await cti.contact(id)
    await cti.contact(body.into)
    if id == body.into:
        raise Problem(422, "invalid", errors=[FieldError("into", "another contact", str(id))])
    merge = cti.ids()
    await cti.submit(
        ContactsMerged, merge=merge, into=body.into, contact=id, by=ask.who.login, reason=body.reason
    )
    return await cti.contact_whole(body.into)


@route("POST", f"{V1}/merges/{{id}}/undo", problems=(404, 409))
async def undo_merge(ask: Ask, id: UUID) -> None:
    """Take a merge back."""
    await cti_of(ask).submit(MergeUndone, merge=id, by=ask.who.login)


@route("POST", f"{V1}/contacts/{{id}}/call", status=202, problems=(409,))
async def call_contact(ask: Ask, id: UUID, body: schemas.CallAddress) -> schemas.Placed:
    """Call a contact: your phone rings first."""
    await cti_of(ask).contact(id)
    return await _call(ask, id, body.address, case=None)


@route("GET", f"{V1}/recordings/{{id}}", content="audio/wav")
async def get_recording(ask: Ask, id: UUID) -> web.StreamResponse:
    """A recording, whole or in ranges; whoever may read the case may hear it."""
    cti = cti_of(ask)
    found = await cti.stores.recordings.get(id)
    if found is None or await cti.stores.cases.get(found.case) is None:
        raise Problem(404, "not-found", "There is no such recording.")
    folder = (cti.data_dir / "recordings").resolve()
    path = (cti.data_dir / found.path).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        log.error("a recording is not where it should be", recording=str(id))
        raise Problem(404, "not-found", "The recording's file is missing.")
    log.info("a recording is played", recording=str(id), login=ask.who.login)
    response = web.FileResponse(path, headers={hdrs.CACHE_CONTROL: "private, no-store"})
    response.content_type = "audio/wav"
    return response


@route("GET", f"{V1}/board")
async def get_board(ask: Ask) -> schemas.Board:
    """The live board: one row for each queue and channel."""
    return cti_of(ask).live.floor.board(ask.who)


@route("GET", f"{V1}/trees")
async def list_trees(ask: Ask) -> list[schemas.TreeRow]:
    """The published trees, with how many customers are inside."""
    cti = cti_of(ask)
    inside = cti.live.inside() if cti.live.inside else {}
    return [
        schemas.TreeRow(
            id=t.id,
            version=t.version,
            published_at=t.at,
            inside=sum(sum_versions(inside.get(t.id, {})).values()),
        )
        for t in (await cti.stores.trees.all_current()).values()
    ]


@route("GET", f"{V1}/trees/{{id}}")
async def get_tree(ask: Ask, id: ShortId) -> dict[str, Any]:
    """The picture of a tree: nodes, words, exits, and who is inside now."""
    cti = cti_of(ask)
    tree = await cti.stores.trees.current(id)
    if tree is None:
        raise Problem(404, "not-found", "There is no such tree.")
    inside = cti.live.inside() if cti.live.inside else {}
    return dict(cti.picture(tree, sum_versions(inside.get(id, {}))))


async def _stored_site(ask: Ask) -> Site:
    """As it was written last: who has just changed it reads that, though it comes into force a moment later."""
    current = await cti_of(ask).stores.sites.current()
    return current.site if current is not None else cti_of(ask).site().site


async def _apply(ask: Ask, change: Callable[[Site], Site]) -> SiteVersion:
    cti = cti_of(ask)
    current = await cti.stores.sites.current()
    if current is None:
        raise Problem(409, "no-site", "There is no site yet: apply a site file first.")
    return await _store_site(ask, change(current.site), current.version)


async def _store_site(ask: Ask, site: Site, base: int) -> SiteVersion:
    _refuse_faults(site)
    try:
        return await cti_of(ask).stores.sites.apply(site, base=base, by=ask.who.login)
    except Changed as error:
        raise Problem(
            409, "changed-meanwhile", f"Somebody has changed it: version {error.found}. Read it again."
        ) from None


def _refuse_faults(site: Site) -> None:
    """References inside the site that lead nowhere."""
    errors: list[FieldError] = []
    hours = {h.id for h in site.hours}
    queues = {q.id for q in site.queues}
    codes = {c.id for c in site.wrapup_codes}
    skills = set(site.skills)
    for n, q in enumerate(site.queues):
        if q.hours is not None and q.hours not in hours:
            errors.append(FieldError(f"queues.{n}.hours", _one_of(hours), q.hours))
        if q.overflow_to is not None and (q.overflow_to not in queues or q.overflow_to == q.id):
            errors.append(FieldError(f"queues.{n}.overflow_to", _one_of(queues - {q.id}), q.overflow_to))
        for code in q.wrapup_codes:
            if code not in codes:
                errors.append(FieldError(f"queues.{n}.wrapup_codes", _one_of(codes), code))
        for need in q.needs:
            for skill, level in need.any_of:
                if skill not in skills or not 1 <= level <= 5:
                    expected = f"{_one_of(skills)}, level 1 to 5"
                    errors.append(FieldError(f"queues.{n}.needs", expected, f"{skill} {level}"))
    phones: dict[str, str] = {}
    for n, a in enumerate(site.advisors):
        for skill in a.skills:
            if skill not in skills:
                errors.append(FieldError(f"advisors.{n}.skills", _one_of(skills), skill))
        for queue in a.queues or ():
            if queue not in queues:
                errors.append(FieldError(f"advisors.{n}.queues", _one_of(queues), queue))
        if a.phone and phones.setdefault(a.phone, a.id) != a.id:
            errors.append(FieldError(f"advisors.{n}.phone", "a phone nobody else has", a.phone))
    if errors:
        raise Problem(422, "invalid", "Some fields are not as expected.", errors=_short(errors))


def _one_of(known: set[str]) -> str:
    return f"one of {', '.join(sorted(known))}" if known else "nothing: none is defined"


def _short(errors: list[FieldError]) -> list[FieldError]:
    """The page edits one queue or advisor: its fields are named without the way to them."""
    return [replace(e, field=e.field.split(".", 2)[-1]) for e in errors]


@route("GET", f"{V1}/queues", roles=SUPERVISORS)
async def list_queues(ask: Ask) -> list[Queue]:
    """The queues as the site has them."""
    return list((await _stored_site(ask)).queues)


@route("GET", f"{V1}/queues/{{id}}", roles=SUPERVISORS)
async def get_queue(ask: Ask, id: ShortId) -> Queue:
    """One queue."""
    found = next((q for q in (await _stored_site(ask)).queues if q.id == id), None)
    if found is None:
        raise Problem(404, "not-found", "There is no such queue.")
    return found


@route("PUT", f"{V1}/queues/{{id}}", roles=ADMINS, problems=(409,))
async def put_queue(ask: Ask, id: ShortId, body: schemas.QueueBody) -> Queue:
    """Change a queue, or add one; those who wait go on under the new rules."""
    if body.id != id:
        raise Problem(422, "invalid", errors=[FieldError("id", id, body.id)])

    def change(site: Site) -> Site:
        if any(q.id == id for q in site.queues):
            return replace(site, queues=tuple(body if q.id == id else q for q in site.queues))
        return replace(site, queues=(*site.queues, body))

    await _apply(ask, change)
    return body


@route("GET", f"{V1}/advisors", roles=SUPERVISORS)
async def list_advisors(ask: Ask) -> list[Advisor]:
    """The advisors as the site has them."""
    return list((await _stored_site(ask)).advisors)


@route("POST", f"{V1}/advisors/{{id}}", roles=ADMINS, status=201, problems=(409,))
async def add_advisor(ask: Ask, id: ShortId, body: schemas.AdvisorBody) -> Advisor:
    """Add an advisor; give a password and a phone next."""
    if body.id != id:
        raise Problem(422, "invalid", errors=[FieldError("id", id, body.id)])

    def change(site: Site) -> Site:
        if any(a.id == id for a in site.advisors):
            raise Problem(409, "exists", "There is an advisor with this login.")
        return replace(site, advisors=(*site.advisors, body))

    await _apply(ask, change)
    return body


@route("PUT", f"{V1}/advisors/{{id}}", roles=ADMINS, problems=(409,))
async def put_advisor(ask: Ask, id: ShortId, body: schemas.AdvisorBody) -> Advisor:
    """Change an advisor."""
    if body.id != id:
        raise Problem(422, "invalid", errors=[FieldError("id", id, body.id)])

    def change(site: Site) -> Site:
        if not any(a.id == id for a in site.advisors):
            raise Problem(404, "not-found", "There is no such advisor.")
        changed = replace(site, advisors=tuple(body if a.id == id else a for a in site.advisors))
        if not any("admin" in a.roles for a in changed.advisors):
            raise Problem(409, "last-admin", "Somebody must stay admin.")
        return changed

    await _apply(ask, change)
    return body


async def _advisor(ask: Ask, id: str) -> Advisor:
    found = next((a for a in (await _stored_site(ask)).advisors if a.id == id), None)
    if found is None:
        raise Problem(404, "not-found", "There is no such advisor.")
    return found


@route("POST", f"{V1}/advisors/{{id}}/password", roles=ADMINS)
async def new_login_password(ask: Ask, id: ShortId) -> schemas.Secret:
    """Give an advisor a new password, shown once; every session of theirs ends."""
    cti = cti_of(ask)
    await _advisor(ask, id)
    password = made_up_password()
    await cti.stores.people.set_password_hash(id, await cti.sign_ins.hash(password))
    cti.sign_ins.forget(id)
    cti.live.close_pages(id)
    log.info("a password was made", login=id, by=ask.who.login)
    return schemas.Secret(password=password)


@route("POST", f"{V1}/advisors/{{id}}/phone-password", roles=ADMINS, problems=(409,))
async def new_phone_password(ask: Ask, id: ShortId) -> schemas.PhoneSecret:
    """Give an advisor's phone a new password, shown once."""
    cti = cti_of(ask)
    advisor = await _advisor(ask, id)
    if not advisor.phone:
        raise Problem(409, "no-phone", "This advisor has no phone account; give one first.")
    password = made_up_password()
    md5, sha256 = ha1(advisor.phone, cti.telephony.realm, password)
    await cti.stores.accounts.set_secret(PhoneSecret(advisor.phone, cti.telephony.realm, md5, sha256))
    await cti.secret_set()
    log.info("a phone password was made", account=advisor.phone, by=ask.who.login)
    return schemas.PhoneSecret(account=advisor.phone, password=password, server=cti.telephony.server)


@route("GET", f"{V1}/site", roles=ADMINS, content="application/yaml")
async def export_site(ask: Ask) -> web.Response:
    """The whole site as a file; X-Site-Version is the `base_version` to send back."""
    current = await cti_of(ask).stores.sites.current()
    if current is None:
        raise Problem(404, "not-found", "There is no site yet.")
    return web.Response(
        text=cti_of(ask).words.write(current.site),
        content_type="application/yaml",
        charset="utf-8",
        headers={"X-Site-Version": str(current.version)},
    )


def _mistakes(ask: Ask, text: str) -> list[schemas.Mistake]:
    return [schemas.Mistake(**m) for m in cti_of(ask).words.check(text, language_of(ask.request))]


@route("POST", f"{V1}/site/check", roles=ADMINS)
async def check_site(ask: Ask, body: schemas.SiteDraft) -> schemas.Checked:
    """Every mistake of a site file, with its line and cure."""
    return schemas.Checked(mistakes=_mistakes(ask, body.yaml))


@route("POST", f"{V1}/site", roles=ADMINS, problems=(409,))
async def apply_site(ask: Ask, body: schemas.NewSite) -> schemas.Applied:
    """Put a site file into the running server, unless somebody changed the site since."""
    if mistakes := _mistakes(ask, body.yaml):
        errors = [FieldError(f"yaml:{m.line}", f"{m.message}; {m.cure}", m.where or None) for m in mistakes]
        raise Problem(422, "invalid", "The site file has mistakes.", errors=errors)
    cti = cti_of(ask)
    site = cti.words.read(body.yaml)
    if site.organisation != cti.site().site.organisation:
        error = FieldError("yaml", cti.site().site.organisation, site.organisation)
        raise Problem(422, "invalid", "This is another organisation's site.", errors=[error])
    stored = await _store_site(ask, site, body.base_version)
    return schemas.Applied(version=stored.version)


@route("GET", f"{V1}/events", returns=schemas.Log, problems=(403,))
async def events(
    ask: Ask, after: Annotated[int, Field(ge=0, lt=2**63)] | None = None, limit: Limit = 100
) -> Any:
    """The log from a sequence number on (supervisors); with `Upgrade: websocket` the live wire of the page."""
    cti = cti_of(ask)
    if ask.request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
        if not same_origin(ask.request, cti.origins):
            raise Problem(403, "foreign-origin", "Open this from the server's own page.")
        session = await cti.sign_ins.session(ask.request.cookies.get(COOKIE, ""))
        if session is None:
            raise Problem(401, "not-signed-in", "Sign in first.")
        return await cti.live.serve(ask.request, ask.who, session, after)
    if not ask.who.roles & SUPERVISORS:
        raise Problem(403, "not-allowed", "The log is for supervisors and admins.")
    found = await cti.stores.log.after(after or 0, limit=limit)
    return schemas.Log(
        items=[
            schemas.LogRow(
                seq=e.seq,
                id=e.id,
                at=e.at,
                type=e.type.value,
                interaction=e.interaction,
                case=e.case,
                contact=e.contact,
                advisor=e.advisor,
                data=dict(e.data),
            )
            for e in found
        ],
        next=found[-1].seq if len(found) == limit else None,
    )


@route("GET", "/healthz", roles=None)
async def healthz(ask: Ask) -> schemas.Health:
    """The process lives."""
    return schemas.Health(ok=True, detail={})


@route("GET", "/readyz", roles=None, returns=schemas.Health)
async def readyz(ask: Ask) -> web.Response:
    """The server can take a call (200), or not (503) and why."""
    ok, detail = cti_of(ask).ready()
    answer = schemas.Health(ok=ok, detail=dict(detail))
    return web.Response(
        status=200 if ok else 503, body=answer.model_dump_json().encode(), content_type="application/json"
    )


@route("GET", "/metrics", roles=None, content="text/plain")
async def metrics(ask: Ask) -> web.Response:
    """Figures for Prometheus; no personal data."""
    cti = cti_of(ask)
    board = cti.live.floor.board()
    for row in board.rows:
        WAITING.labels(row.queue, row.channel).set(row.waiting)
        if row.service_level is not None:
            LEVEL.labels(row.queue, row.channel).set(row.service_level)
    for state, count in cti.live.floor.states().items():
        ADVISORS.labels(state).set(count)
    try:
        accounts = await cti.live.views.accounts()
    except Unavailable:
        accounts = []  # what else there is to tell does not wait for the database
    for account in accounts:
        OUTBOX.labels(account.account, account.channel).set(account.waiting)
        ACCOUNT_UP.labels(account.account, account.channel).set(account.state != "down")
    for (method, status), count in ask.request.app[FIGURES].requests.items():
        REQUESTS.labels(method, str(status)).set(count)
    return web.Response(
        body=prometheus_client.generate_latest(),
        headers={hdrs.CONTENT_TYPE: prometheus_client.CONTENT_TYPE_LATEST},
    )


ROUTES = (
    *routes_in(sys.modules[__name__]),
    *threads.ROUTES,
    *files.ROUTES,
    *statistics.ROUTES,
    *exports.ROUTES,
)


def console_application(
    console: Console,
    *,
    dist: Path | None = None,
    more: Sequence[Route] = (),
    plain: Sequence[tuple[str, str, Callable[[web.Request], Any]]] = (),
    https: bool = False,
    version: str = "0.1.0",
) -> web.Application:
    """The whole web server of one organisation; `more` are routes of other packages, `dist` the built page.

    `plain` are (method, path, aiohttp handler): those of outsiders, who prove themselves otherwise than by a session.
    """
    app = application(
        (*ROUTES, *more),
        identify=console.sign_ins.identify,
        things={Console: console},
        origins=console.origins,
        unavailable=(Unavailable,),
        https=https,
        version=version,
    )
    for method, path, handler in plain:
        app.router.add_route(method, path, handler)
    ConsoleFiles(dist or Path(__file__).parent.parent / "console" / "dist").add_to(app)
    return app


__all__ = ["ROUTES", "Console", "SiteWords", "Telephony", "console_application"]
