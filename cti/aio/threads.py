"""The routes of written channels: reading, answering, handing on, and what belongs to a case beside its words."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

import structlog
from pydantic import Field, StringConstraints

from cti import replies, rows, schemas
from cti.aio.console import V1, Console, after_cursor, cti_of, cursor, refuse
from cti.aio.uploads import Upload
from cti.refusals import SENTENCES
from cti.schemas import Limit, ShortId
from cti.window import CLOSED, TAG, window
from routing.aio.web import ADMINS, SUPERVISORS, Ask, FieldError, Problem, route, routes_in
from routing.channel import Manifest
from routing.identity import plain
from routing.models import (
    FINAL,
    Attached,
    CaseChanged,
    CaseMergeUndone,
    CasesMerged,
    Enqueued,
    HandedBack,
    HelpAnswered,
    HelpAsked,
    HoldChanged,
    InteractionClosed,
    InteractionTaken,
    MessageWritten,
    Outcome,
)
from routing.site import Account
from routing.store import (
    AddressView,
    AttachmentView,
    CaseView,
    HelpView,
    InboxFilter,
    InteractionView,
    MessageView,
    RequestView,
    ThreadView,
)

log = structlog.get_logger(__name__)

CASES_OF_A_PERSON = 20  # whose threads are looked at for ways to go on
ACT_S = 2.0  # what is only shown to the customer may be lost
NEWEST = 20  # messages of a case that are looked at for one of somebody else
QUOTED_CHARS = 200  # of somebody's newer reply, in the sentence that tells of it

SearchText = Annotated[str, StringConstraints(max_length=200)]
View = Literal["mine", "unassigned", "all", "waiting", "help"]


@route("GET", f"{V1}/inbox")
async def inbox(
    ask: Ask,
    view: View = "all",
    channel: ShortId | None = None,
    queue: ShortId | None = None,
    state: Literal["open", "waiting", "solved", "closed"] | None = None,
    tag: Annotated[str, StringConstraints(max_length=64)] | None = None,
    advisor: ShortId | None = None,
    older_than_s: Annotated[float, Field(ge=0, le=10**9)] | None = None,
    text: SearchText = "",
    limit: Limit = 50,
    after: Annotated[str, StringConstraints(max_length=200)] | None = None,
) -> schemas.Inbox:
    """Cases by their newest word; `counts` are the cases of each view."""
    cti = cti_of(ask)
    wanted = InboxFilter(
        view=view,
        advisor=ask.who.login if view == "mine" else advisor,
        channels=(channel,) if channel else (),
        queues=(queue,) if queue else (),
        states=(state,) if state else (),
        tags=(tag,) if tag else (),
        older_than_s=older_than_s,
        text=text,
    )
    found = await cti.stores.inbox.list(wanted, limit=limit + 1, after=after_cursor(after) if after else None)
    page = list(found)[:limit]
    return schemas.Inbox(
        items=[rows.inbox_row(row) for row in page],
        next=cursor(page[-1].last_at, page[-1].case) if len(found) > limit and page else None,
        counts=dict(await cti.stores.inbox.counts(ask.who.login)),
    )


async def _written(ask: Ask, id: UUID) -> tuple[InteractionView, ThreadView, Manifest, Account]:
    """A written interaction with its thread, what its channel can, and its account."""
    cti = cti_of(ask)
    view = await cti.interaction(id)
    thread = await cti.stores.messages.thread(view.thread) if view.thread is not None else None
    if thread is None:
        raise refuse(ask, 409, "not-written")
    account, manifest = cti.account(thread.account), cti.manifest_of(thread.account)
    if account is None or manifest is None:
        raise Problem(409, "no-account", "The account of this thread is not part of the site any more.")
    return view, thread, manifest, account


def _has_it(ask: Ask, view: InteractionView) -> None:
    """Only its advisor writes in it: one at a time speaks with a customer."""
    if view.state in FINAL:
        raise refuse(ask, 409, "over")
    if view.advisor is None:
        raise refuse(ask, 409, "not-yours")
    if view.advisor != ask.who.login:
        raise _taken(ask, view.advisor)


def _taken(ask: Ask, holder: str) -> Problem:
    name = cti_of(ask).first_name(holder)
    return refuse(ask, 409, "taken", holder=name, more={"holder": holder, "holder_name": name})


def _acts_on(ask: Ask, view: InteractionView) -> None:
    """Its advisor, a supervisor, or anybody while nobody has it."""
    if view.state in FINAL:
        raise refuse(ask, 409, "over")
    if view.advisor not in (None, ask.who.login) and not ask.who.roles & SUPERVISORS:
        raise _taken(ask, view.advisor)


async def _refused(ask: Ask, outcome: Outcome, thread: ThreadView | None = None) -> None:
    """Raise the Problem of what the desk has refused."""
    word = outcome.refused
    if word is None or word == "unchanged":
        return
    kind, _, rest = word.partition(":")
    kind = kind.replace("_", "-")
    if kind == "taken" and rest:
        raise _taken(ask, rest)
    if kind == "newer-reply" and thread is not None:
        raise await _newer_reply(ask, thread)
    if kind.startswith("unknown-") and kind not in {"unknown-address", "unknown-advisor", "unknown-queue"}:
        raise Problem(404, "not-found", "There is no such thing here.")
    if kind not in SENTENCES:
        raise Problem(409, "refused", word)
    raise refuse(ask, 409, kind)


async def _newer_reply(ask: Ask, thread: ThreadView) -> Problem:
    cti = cti_of(ask)
    now = await cti.stores.messages.thread(thread.id)
    last = await cti.stores.messages.get(now.last_out) if now and now.last_out else None
    return _newer(ask, last) if last is not None else refuse(ask, 409, "newer-reply", who="?", text="")


def _newer(ask: Ask, last: MessageView) -> Problem:
    cti = cti_of(ask)
    shown = cti.live.views.message(last)
    text = last.text[:QUOTED_CHARS]
    more = {"who": shown.by or shown.author, "text": text, "message": str(last.id)}
    return refuse(ask, 409, "newer-reply", who=shown.by_name or shown.author, text=text, more=more)


def _in_window(ask: Ask, manifest: Manifest, last_in_at: datetime | None) -> bool:
    """Whether the message must bear the channel's tag; raises the Problem when it is too late for any."""
    cti = cti_of(ask)
    found = window(manifest, last_in_at, cti.clock.now())
    if found.state == CLOSED:
        if found.until is None:
            raise refuse(ask, 409, "nobody-wrote")
        last = found.tag_until or found.until
        zone = ZoneInfo(cti.site().site.time_zone)
        until = last.astimezone(zone).strftime("%d/%m/%Y %H:%M")
        more = {"until": last.isoformat().replace("+00:00", "Z"), "instead": ["email", "call"]}
        raise refuse(ask, 409, "window-closed", until=until, more=more)
    return found.state == TAG


def _fits(
    ask: Ask,
    manifest: Manifest,
    body: schemas.WriteMessage | schemas.WriteFromCase,
    buttons: Sequence[schemas.NewButton] = (),
) -> None:
    """Raise the Problem of a message that this channel cannot carry as it is."""
    if names := replies.unfilled(body.text, body.html, body.subject):
        errors = [FieldError("text", "a value instead of this place", name) for name in names]
        problem = refuse(ask, 422, "unknown-variable", names=", ".join(names), more={"names": names})
        problem.errors = tuple(errors)
        raise problem
    if not body.text.strip() and not body.html.strip() and not body.attachments:
        raise refuse(ask, 422, "empty")
    for length, most, unit in (
        (len(body.text), manifest.text_chars, "characters"),
        (len(body.text.encode("utf-8", "replace")), manifest.text_bytes, "bytes"),
    ):
        if most is not None and length > most:
            raise refuse(ask, 422, "too-long", length=length, most=most, unit=unit, more={"most": most})
    if body.subject and not manifest.subject:
        raise refuse(ask, 422, "not-on-this-channel", what="subject")
    if body.html and not manifest.html:
        raise refuse(ask, 422, "not-on-this-channel", what="HTML")
    if len(buttons) > (manifest.quick_replies or len(buttons)):
        raise refuse(ask, 422, "not-on-this-channel", what=f"more than {manifest.quick_replies} buttons")
    for button in buttons:
        if manifest.quick_replies and len(button.title) > manifest.quick_reply_chars:
            raise refuse(
                ask,
                422,
                "too-long",
                length=len(button.title),
                most=manifest.quick_reply_chars,
                unit="characters",
            )


def _uploaded(ask: Ask, manifest: Manifest, ids: Sequence[UUID]) -> list[Upload]:
    cti = cti_of(ask)
    found = []
    for id in ids:
        upload = cti.uploads.get(id, ask.who.login)
        if upload is None:
            raise refuse(ask, 422, "not-attached")
        most = manifest.attachment_bytes.get(upload.kind)
        if most is None or upload.stored.bytes > most:
            raise refuse(ask, 422, "attachment-refused", what=upload.kind, bytes=upload.stored.bytes)
        found.append(upload)
    return found


def _attached(uploads: Sequence[Upload]) -> tuple[Attached, ...]:
    return tuple(
        Attached(
            attachment=u.id,
            kind=u.kind,
            name=u.name,
            type=u.stored.type,
            path=u.stored.path,
            bytes=u.stored.bytes,
            sha256=u.stored.sha256,
        )
        for u in uploads
    )


async def _known_message(
    ask: Ask,
    body: schemas.WriteMessage | schemas.WriteFromCase,
    *,
    interaction: UUID | None = None,
    case: UUID | None = None,
) -> schemas.Message | None:
    """The message as it is stored, where just this was written under its id before.

    None: the id is new. Raises the Problem of an id that is another message's; nothing of that one is told.
    """
    cti = cti_of(ask)
    before = await cti.stores.messages.get(body.message)
    if before is None:
        return None
    same = (
        before.by == ask.who.login
        and (before.interaction == interaction or before.case == case)
        and (before.text, before.html) == (plain(body.text), plain(body.html))
        and before.subject == plain(body.subject)
        and {file.id for file in before.attachments} == set(body.attachments)
    )
    if isinstance(body, schemas.WriteMessage):
        buttons = tuple((plain(b.title), plain(b.payload or b.title)) for b in body.buttons)
        same = same and (before.reply_to, before.buttons) == (body.reply_to, buttons)
    else:
        thread = await cti.stores.messages.thread(before.thread)
        to = (thread.account, thread.address) if thread is not None else None
        same = same and to == (body.account, body.address)
    if not same:
        raise refuse(ask, 409, "known-message")
    return cti.live.views.message(before)


async def _write(
    ask: Ask, thread: ThreadView | None, uploads: Sequence[Upload], message: MessageWritten
) -> schemas.Message:
    """Submit a message, and show it as it is stored. Its key is made here, of all that it says."""
    cti = cti_of(ask)
    said = repr(replace(message, key=message.message, interaction=message.message))
    key = uuid5(message.message, hashlib.sha256(said.encode("utf-8", "replace")).hexdigest())
    outcome = await cti.desk.submit(replace(message, key=key))
    if outcome.refused is not None and thread is None and message.case is not None:
        there = await cti.stores.messages.threads_of_case(message.case)  # somebody has just opened it
        where = (message.account, message.address)
        thread = next((each for each in there if (each.account, each.address) == where), None)
    await _refused(ask, outcome, thread)
    for upload in uploads:
        cti.uploads.sent(upload.id)
    return cti.live.views.message(await cti.message(message.message))


def _by_advisor(ask: Ask, message: UUID, interaction: UUID) -> MessageWritten:
    """Still without words. The key is `_write`'s to make."""
    return MessageWritten(
        key=message,
        organisation=cti_of(ask).stores.organisation,
        message=message,
        author="advisor",
        by=ask.who.login,
        interaction=interaction,
    )


@route("POST", f"{V1}/interactions/{{id}}/messages", status=201, problems=(409, 422))
async def reply(ask: Ask, id: UUID, body: schemas.WriteMessage) -> schemas.Message:
    """Answer the customer. The same `message` is never sent twice; over a newer reply only with `consent`."""
    view, thread, manifest, _ = await _written(ask, id)
    if (before := await _known_message(ask, body, interaction=id)) is not None:
        return before
    _has_it(ask, view)
    _fits(ask, manifest, body, body.buttons)
    tagged = _in_window(ask, manifest, thread.last_in_at)
    uploads = _uploaded(ask, manifest, body.attachments)
    message = replace(
        _by_advisor(ask, body.message, id),
        text=body.text,
        html=body.html,
        subject=body.subject,
        buttons=tuple((b.title, b.payload or b.title) for b in body.buttons),
        attached=_attached(uploads),
        reply_to=body.reply_to,
        over=body.over,
        consent=body.consent,
        tagged=tagged,
        language=view.language or "",
    )
    return await _write(ask, thread, uploads, message)


@route("POST", f"{V1}/cases/{{id}}/messages", status=201, problems=(409, 422))
async def write_from_case(ask: Ask, id: UUID, body: schemas.WriteFromCase) -> schemas.Message:
    """Write to the customer of a case, on whatever channel reaches them."""
    cti = cti_of(ask)
    case = await cti.case(id)
    account, manifest = cti.account(body.account), cti.manifest_of(body.account)
    if account is None or manifest is None:
        raise Problem(422, "invalid", errors=[FieldError("account", "an account of the site", body.account)])
    address = await _address_of(ask, case, body.address, manifest)
    if (before := await _known_message(ask, body, case=id)) is not None:
        return before
    _fits(ask, manifest, body)
    threads = await _threads_of_person(cti, case)
    thread = next((t for t in threads if t.account == account.id and t.address == address.id), None)
    live = await _living(cti, thread, manifest, id)
    if live is not None and live.advisor is not None and live.advisor != ask.who.login:
        raise _taken(ask, live.advisor)
    tagged = _in_window(ask, manifest, thread.last_in_at if thread else None)
    uploads = _uploaded(ask, manifest, body.attachments)
    person = await cti.contact(case.contact)
    message = replace(
        _by_advisor(ask, body.message, cti.ids()),
        case=id,
        account=account.id,
        channel=manifest.name,
        seat=manifest.seat,
        address=address.id,
        text=body.text,
        html=body.html,
        subject=body.subject,
        attached=_attached(uploads),
        tagged=tagged,
        language=person.language or "",
        over=thread.last_out if thread is not None else None,
        consent=body.consents,
    )
    await _all_seen(ask, id, body)
    return await _write(ask, thread, uploads, message)


async def _all_seen(ask: Ask, case: UUID, body: schemas.Seen) -> None:
    """Raise the Problem of a newer word of the case, the customer's or a colleague's, that the writer has not seen."""
    if body.consents:
        return
    messages = cti_of(ask).stores.messages
    told = [
        each
        for each in await messages.of_case(case, last=NEWEST)
        if each.by != ask.who.login and not each.automatic
    ]
    seen = await messages.get(body.seen) if told and body.seen is not None else None
    if told and (seen is None or seen.seq < told[-1].seq):
        raise _newer(ask, told[-1])


async def _address_of(ask: Ask, case: CaseView, address: UUID, manifest: Manifest) -> AddressView:
    """An address of the case's person, of the channel's kind: nobody else can be written to from here (F3)."""
    person = await cti_of(ask).contact(case.contact)
    found = next((a for a in person.addresses if a.id == address), None)
    if found is None:
        raise Problem(404, "not-found", "This contact has no such address.")
    if found.kind != manifest.address_kind:
        raise refuse(ask, 422, "unknown-address")
    return found


async def _living(
    cti: Console, thread: ThreadView | None, manifest: Manifest, case: UUID
) -> InteractionView | None:
    """What goes on in a thread; where it carries several matters, in that case."""
    if thread is None or thread.live is None:
        return None
    for id in (thread.live, *thread.beside):
        view = await cti.stores.timeline.interaction(id)
        if view is not None and (view.case == case or not manifest.parallel):
            return view
    return None


async def _threads_of_person(cti: Console, case: CaseView) -> list[ThreadView]:
    """The threads of all cases of the case's person, this case's first."""
    others = await cti.stores.cases.list(contact=case.contact, limit=CASES_OF_A_PERSON)
    ids = list(dict.fromkeys([case.id, *(c.id for c in others)]))
    found: dict[UUID, ThreadView] = {}
    for id in ids:
        for thread in await cti.stores.messages.threads_of_case(id):
            found.setdefault(thread.id, thread)
    return list(found.values())


@route("POST", f"{V1}/messages/{{id}}/retry", status=201, problems=(409, 422))
async def retry(ask: Ask, id: UUID, body: schemas.Seen | None = None) -> schemas.Message:
    """Send the words of a failed message again, as a new one: those of its parts that did not go.

    The page asks first: it may arrive twice.
    """
    cti, body = cti_of(ask), body or schemas.Seen()
    failed = await cti.message(id)
    if not rows.retryable(failed):
        raise refuse(ask, 409, "not-retryable")
    thread = await cti.stores.messages.thread(failed.thread)
    account, manifest = cti.account(failed.account), cti.manifest_of(failed.account)
    if thread is None or account is None or manifest is None:
        raise Problem(409, "no-account", "The account of this thread is not part of the site any more.")
    tagged = _in_window(ask, manifest, thread.last_in_at)
    again = [await _attached_again(cti, a) for a in failed.attachments[failed.gone_files :] if a.path]
    live = await _living(cti, thread, manifest, failed.case)
    message = _by_advisor(ask, cti.ids(), live.id if live is not None else cti.ids())
    if live is not None:
        _has_it(ask, live)
    else:
        message = replace(
            message,
            case=failed.case,
            account=account.id,
            channel=manifest.name,
            seat=manifest.seat,
            address=thread.address,
        )
    message = replace(
        message,
        text=failed.text[failed.gone_chars :].lstrip() if failed.part else failed.text,
        html=failed.html,
        subject=failed.subject,
        buttons=failed.buttons,
        attached=tuple(again),
        reply_to=failed.reply_to,
        over=thread.last_out,
        consent=body.consents,
        tagged=tagged,
    )
    await _all_seen(ask, failed.case, body)
    return await _write(ask, thread, (), message)


async def _attached_again(cti: Console, file: AttachmentView) -> Attached:
    """The same bytes under an id of their own."""
    content = await asyncio.to_thread(cti.uploads.path(file.path).read_bytes)
    return Attached(
        attachment=cti.ids(),
        kind=file.kind,
        name=file.name,
        type=file.type,
        content_id=file.content_id,
        path=file.path,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


async def _show(ask: Ask, thread: UUID, act: str) -> None:
    """Shown to the customer where the channel can; that it fails is no matter."""
    cti = cti_of(ask)
    if cti.act is None:
        return
    try:
        async with asyncio.timeout(ACT_S):
            await cti.act(thread, act, cti.first_name(ask.who.login))
    except Exception as error:
        log.info("an act was not shown to the customer", act=act, why=type(error).__name__)


@route("POST", f"{V1}/interactions/{{id}}/typing", problems=(409,))
async def typing(ask: Ask, id: UUID, body: schemas.Typing) -> None:
    """Say that you type, or have stopped: to colleagues who see the case, and to the customer."""
    view, thread, manifest, _ = await _written(ask, id)
    cti = cti_of(ask)
    cti.live.viewing(view.case, ask.who.login, "typing" if body.on else "none")
    if manifest.typing and view.advisor == ask.who.login and view.state not in FINAL:
        await _show(ask, thread.id, "typing_on" if body.on else "typing_off")


@route("POST", f"{V1}/interactions/{{id}}/seen", problems=(409,))
async def seen(ask: Ask, id: UUID) -> None:
    """Say that you have read what the customer wrote."""
    view, thread, _, _ = await _written(ask, id)
    if view.advisor == ask.who.login and view.state not in FINAL:
        await cti_of(ask).live.seen(id)
        await _show(ask, thread.id, "seen")


@route("POST", f"{V1}/interactions/{{id}}/take", problems=(409,))
async def take(ask: Ask, id: UUID) -> schemas.Interaction:
    """Take an interaction that nobody has. Of two who try, one wins and the other is told who."""
    return await _give(ask, id, ask.who.login)


@route("POST", f"{V1}/interactions/{{id}}/give", roles=SUPERVISORS, problems=(409,))
async def give(ask: Ask, id: UUID, body: schemas.Give) -> schemas.Interaction:
    """Give an interaction to an advisor, also one that another has in hand."""
    cti = cti_of(ask)
    await cti.interaction(id)
    if cti.advisor(body.advisor) is None:
        known = ", ".join(a.id for a in cti.site().site.advisors)
        error = FieldError("advisor", f"one of {known}", body.advisor)
        raise Problem(422, "invalid", "There is no such advisor.", errors=[error])
    return await _give(ask, id, body.advisor, over=True)


async def _give(ask: Ask, id: UUID, advisor: str, *, over: bool = False) -> schemas.Interaction:
    cti = cti_of(ask)
    view = await cti.interaction(id)
    if view.seat == "voice":
        raise Problem(409, "a-call", "A call is answered by the phone; it cannot be taken.")
    if view.state in FINAL:
        raise refuse(ask, 409, "over")
    if view.advisor == advisor and view.state == "active":
        return await cti.shown(id)
    outcome = await cti.tell(InteractionTaken, interaction=id, advisor=advisor, by=ask.who.login, over=over)
    await _refused(ask, outcome)
    return await cti.shown(id)


async def set_aside(ask: Ask, id: UUID, held: bool) -> schemas.Interaction:
    """Put a written interaction on hold, or take it up again."""
    view, _, _, _ = await _written(ask, id)
    if view.advisor is None:
        raise refuse(ask, 409, "not_now")
    _acts_on(ask, view)
    await _refused(ask, await cti_of(ask).tell(HoldChanged, interaction=id, held=held))
    return await cti_of(ask).shown(id)


@route("POST", f"{V1}/interactions/{{id}}/close", problems=(409, 422))
async def close(ask: Ask, id: UUID, body: schemas.Close) -> schemas.Interaction:
    """Say that it is done: answered, or archived without a reply and why (F17)."""
    cti = cti_of(ask)
    view, _, _, _ = await _written(ask, id)
    _acts_on(ask, view)
    site = cti.site().site
    if body.outcome == "archived" and body.reason not in site.archive_reasons:
        error = FieldError("reason", f"one of {', '.join(site.archive_reasons)}", body.reason)
        raise Problem(422, "invalid", "Archiving without a reply needs a reason.", errors=[error])
    cti.check_code(view, body.code)
    outcome = await cti.tell(
        InteractionClosed,
        interaction=id,
        by=ask.who.login,
        outcome=body.outcome,
        reason=body.reason if body.outcome == "archived" else None,
        code=body.code,
        note=body.note,
    )
    await _refused(ask, outcome)
    return await cti.shown(id)


@route("POST", f"{V1}/interactions/{{id}}/transfer", problems=(409, 422))
async def transfer(ask: Ask, id: UUID, body: schemas.TransferTo) -> schemas.Interaction:
    """Let it wait in another queue, at its old place in time."""
    cti = cti_of(ask)
    view, _, _, _ = await _written(ask, id)
    _acts_on(ask, view)
    queues = [q.id for q in cti.site().site.queues]
    if body.queue not in queues:
        error = FieldError("queue", f"one of {', '.join(queues)}", body.queue)
        raise Problem(422, "invalid", "There is no such queue.", errors=[error])
    await _refused(ask, await cti.tell(Enqueued, interaction=id, queue=body.queue))
    return await cti.shown(id)


async def _nodes(ask: Ask, view: InteractionView, account: Account) -> dict[str, str]:
    """node → title, of the tree that the customer met, else of its account's."""
    trees = cti_of(ask).stores.trees
    if view.tree is not None and view.tree_version is not None:
        tree = await trees.version(view.tree, view.tree_version)
    else:
        tree = await trees.current(account.tree) if account.tree else None
    if tree is None:
        raise refuse(ask, 409, "no-tree")
    nodes = tree.document.get("nodes") or {}
    return {str(name): str(node.get("title") or name) for name, node in nodes.items()}


@route("GET", f"{V1}/interactions/{{id}}/nodes", problems=(409,))
async def nodes(ask: Ask, id: UUID) -> schemas.Nodes:
    """Where in its tree an interaction can be handed back to."""
    view, _, _, account = await _written(ask, id)
    found = await _nodes(ask, view, account)
    return schemas.Nodes(items=[schemas.NodeName(node=n, title=title) for n, title in found.items()])


@route("POST", f"{V1}/interactions/{{id}}/hand-back", problems=(409, 422))
async def hand_back(ask: Ask, id: UUID, body: schemas.HandBack) -> schemas.Interaction:
    """Give the customer back to the tree at a node: it answers the next message (B5)."""
    cti = cti_of(ask)
    view, _, _, account = await _written(ask, id)
    _has_it(ask, view)
    if body.node not in await _nodes(ask, view, account):
        raise refuse(ask, 422, "no-tree-node")
    await _refused(ask, await cti.tell(HandedBack, interaction=id, node=body.node, by=ask.who.login))
    return await cti.shown(id)


@route("POST", f"{V1}/interactions/{{id}}/help", status=201, problems=(409, 422))
async def ask_help(ask: Ask, id: UUID, body: schemas.AskHelp) -> schemas.Help:
    """Ask colleagues, or one of them; the interaction and its clock stay with you (F13)."""
    cti = cti_of(ask)
    view = await cti.interaction(id)
    if body.of is not None and cti.advisor(body.of) is None:
        raise Problem(422, "invalid", errors=[FieldError("of", "the login of a colleague", body.of)])
    help_ = cti.ids()
    outcome = await cti.tell(
        HelpAsked, help=help_, interaction=id, by=ask.who.login, text=body.text, of=body.of
    )
    await _refused(ask, outcome)
    return rows.help_row(await _help(ask, help_, view.case))


async def _help(ask: Ask, id: UUID, case: UUID | None = None) -> HelpView:
    helps = cti_of(ask).stores.helps
    known = await helps.open() if case is None else await helps.of_case(case)
    found = next((h for h in known if h.id == id), None)
    if found is None:
        raise Problem(404, "not-found", "There is no such question, or it has been answered.")
    return found


@route("GET", f"{V1}/helps")
async def list_helps(ask: Ask) -> schemas.Helps:
    """The questions of colleagues that nobody has answered yet."""
    return schemas.Helps(items=[rows.help_row(h) for h in await cti_of(ask).stores.helps.open()])


@route("POST", f"{V1}/helps/{{id}}/answer", problems=(409,))
async def answer_help(ask: Ask, id: UUID, body: schemas.AnswerHelp) -> schemas.Help:
    """Answer a colleague's question, where it was asked."""
    asked = await _help(ask, id)
    await _refused(ask, await cti_of(ask).tell(HelpAnswered, help=id, by=ask.who.login, text=body.text))
    return rows.help_row(await _help(ask, id, asked.case))


@route("POST", f"{V1}/cases/{{id}}/tags", problems=(409, 422))
async def set_tags(ask: Ask, id: UUID, body: schemas.SetTags) -> schemas.CaseRow:
    """Mark a case with these tags and no others."""
    cti = cti_of(ask)
    await cti.case(id)
    known = cti.site().site.tags
    if odd := [tag for tag in body.tags if known and tag not in known]:
        errors = [FieldError("tags", f"from {', '.join(known)}", tag) for tag in odd]
        raise Problem(422, "invalid", "There is no such tag.", errors=errors)
    tags = tuple(dict.fromkeys(body.tags))
    await _refused(ask, await cti.tell(CaseChanged, case=id, by=ask.who.login, tags=tags))
    return rows.case_row(await cti.case(id))


@route("POST", f"{V1}/cases/{{id}}/merge", problems=(404, 409))
async def merge_case(ask: Ask, id: UUID, body: schemas.MergeCase) -> schemas.CaseMerged:
    """Say that a case is part of another one; can be undone at any time (F6)."""
    cti = cti_of(ask)
    await cti.case(id)
    await cti.case(body.into)
    if id == body.into:
        raise Problem(422, "invalid", errors=[FieldError("into", "another case", str(id))])
    merge = cti.ids()
    outcome = await cti.tell(CasesMerged, merge=merge, case=id, into=body.into, by=ask.who.login)
    await _refused(ask, outcome)
    return schemas.CaseMerged(merge=merge)


@route("POST", f"{V1}/case-merges/{{id}}/undo", problems=(404, 409))
async def undo_case_merge(ask: Ask, id: UUID) -> None:
    """Take a merge of cases back."""
    await _refused(ask, await cti_of(ask).tell(CaseMergeUndone, merge=id, by=ask.who.login))


@route("GET", f"{V1}/contacts/{{id}}/proposals")
async def proposals(ask: Ask, id: UUID) -> schemas.Proposals:
    """Who may be the same person, and why somebody may think so (F1)."""
    cti = cti_of(ask)
    await cti.contact(id)
    return schemas.Proposals(
        items=[
            schemas.Proposal(
                contact=p.contact, name=p.name, why=p.why, value=rows.display(_kind_of(p.why), p.value)
            )
            for p in await cti.stores.proposals.of(id)
        ]
    )


def _kind_of(why: str) -> str:
    return "phone" if why == "same_phone" else "other"


@route("GET", f"{V1}/templates", problems=(404,))
async def templates(
    ask: Ask,
    case: UUID | None = None,
    interaction: UUID | None = None,
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")] | None = None,
) -> schemas.Templates:
    """Canned answers filled for a case; those of its queue come first."""
    cti = cti_of(ask)
    site = cti.site().site
    view = await cti.interaction(interaction) if interaction is not None else None
    file = await cti.case(case or view.case) if case or view else None  # type: ignore[union-attr]
    person = await cti.contact(file.contact) if file else None
    told = await cti.stores.timeline.pop(view.id) if view else None
    me = cti.advisor(ask.who.login)
    assert me is not None, "who is signed in is one of the site"
    values = replies.known(me, case=file, contact=person, facts=told.facts if told else None)
    spoken = [language, view.language if view else None, person.language if person else None, *site.languages]
    languages = [each for each in spoken if each]
    queue = view.queue if view else None
    found = []
    for template in sorted(site.reply_templates, key=lambda t: not (queue and queue in t.queues)):
        if template.queues and queue is not None and queue not in template.queues:
            continue
        text, missing = replies.fill(replies.body(template, languages), values)
        found.append(
            schemas.Template(
                id=template.id,
                title=template.title,
                shortcut=template.shortcut,
                queues=list(template.queues),
                text=text,
                missing=list(missing),
            )
        )
    return schemas.Templates(items=found)


@route("GET", f"{V1}/ways", problems=(404,))
async def ways(ask: Ask, case: UUID) -> schemas.Ways:
    """How a case can go on: the person's addresses by what each allows, and why not."""
    cti = cti_of(ask)
    file = await cti.case(case)
    person = await cti.contact(file.contact)
    threads = {(t.account, t.address): t for t in await _threads_of_person(cti, file)}
    states = {row.account: row.state for row in await cti.stores.account_states.all()}
    mine = cti.live.floor.presence(ask.who.login)
    now = cti.clock.now()
    found: list[schemas.Way] = []
    for address in person.addresses:
        shown = rows.address(address)
        if address.kind == "phone":
            why = None
            if mine is None or not mine.phone_registered:
                why = "no_phone"
            elif cti.telephony.denies(address.value) is not None:
                why = "not_allowed"
            found.append(
                schemas.Way(
                    kind="call", account=None, channel="voice", address=shown, allowed=why is None, why=why
                )
            )
        for account in cti.site().site.accounts:
            manifest = cti.manifest_of(account.id)
            if manifest is None or manifest.address_kind != address.kind:
                continue
            thread = threads.get((account.id, address.id))
            if thread is None and not manifest.starts:
                continue  # another page's id of the same person: it never wrote to this account
            open_ = window(manifest, thread.last_in_at if thread else None, now)
            why = None
            if open_.state == CLOSED:
                why = "window_closed" if open_.until else "cannot_start"
            elif states.get(account.id) == "down":
                why = "account_down"
            found.append(
                schemas.Way(
                    kind="message",
                    account=account.id,
                    channel=manifest.name,
                    address=shown,
                    allowed=why is None,
                    why=why,
                )
            )
    return schemas.Ways(items=found)


@route("GET", f"{V1}/accounts")
async def accounts(ask: Ask) -> schemas.AccountRows:
    """The accounts of written channels: up, throttled or down, and how many messages wait to be sent."""
    return schemas.AccountRows(items=await cti_of(ask).live.views.accounts())


@route("GET", f"{V1}/webhooks", roles=ADMINS)
async def webhooks(ask: Ask, account: ShortId | None = None, limit: Limit = 50) -> schemas.Webhooks:
    """What providers have sent last, and what became of it; the bodies stay in the database."""
    found = await cti_of(ask).stores.requests.latest(account=account, limit=limit)
    return schemas.Webhooks(items=[_webhook(r) for r in found])


def _webhook(view: RequestView) -> schemas.Webhook:
    return schemas.Webhook(
        id=view.request.id,
        account=view.request.account,
        at=view.request.at,
        handled_at=view.handled_at,
        tries=view.tries,
        result=dict(view.result),
    )


@route("POST", f"{V1}/webhooks/{{id}}/replay", roles=ADMINS)
async def replay_webhook(ask: Ask, id: UUID) -> None:
    """Handle a stored request again: what is known already stays as it is."""
    cti = cti_of(ask)
    if await cti.stores.requests.get(id) is None:
        raise Problem(404, "not-found", "There is no such request.")
    if cti.replay is not None:
        await cti.replay(id)
    else:
        await cti.stores.requests.later(id, cti.clock.now(), {})
    log.info("a request is handled again", request=str(id), login=ask.who.login)


async def case_words(
    cti: Console, id: UUID, last: int
) -> tuple[list[schemas.Message], list[schemas.Thread], list[schemas.Help]]:
    """What was written in a case, its `last` messages only, with the threads and the questions of colleagues."""
    messages = await cti.stores.messages.of_case(id, last=last)
    threads = await cti.stores.messages.threads_of_case(id)
    helps = await cti.stores.helps.of_case(id)
    return (
        [cti.live.views.message(m) for m in messages],
        [cti.live.views.thread(t) for t in threads],
        [rows.help_row(h) for h in helps],
    )


ROUTES = routes_in(sys.modules[__name__])
