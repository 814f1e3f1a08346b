"""Rows of the store as the console's wire shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

import phonenumbers

from cti import schemas as s
from cti.board import Row
from cti.session import Seat
from cti.window import window
from routing.channel import Manifest
from routing.models import FINAL_EVENTS, Event, State, T
from routing.site import Account, Advisor, Site
from routing.store import (
    AccountState,
    AddressView,
    AttachmentView,
    CaseView,
    ContactView,
    HelpView,
    InboxRow,
    InteractionView,
    MessageView,
    Step,
    ThreadView,
)

RETRYABLE = frozenset({"failed", "perhaps"})


def display(kind: str, value: str) -> str:
    """An address for reading: phone numbers in the international form."""
    if kind != "phone" or not value.startswith("+"):
        return value
    try:
        number = phonenumbers.parse(value)
    except phonenumbers.NumberParseException:
        return value
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def interaction(
    view: InteractionView, *, recording: bool = False, unread: int = 0, gone_since: datetime | None = None
) -> s.Interaction:
    """`recording`: it is being recorded now; `unread` messages of the customer, who is gone since then."""
    known = view.tree is not None and view.tree_version is not None
    return s.Interaction(
        id=view.id,
        channel=view.channel,
        direction=view.direction,
        state=view.state,
        held=view.held,
        case=view.case,
        case_number=view.case_number,
        contact=view.contact,
        contact_name=view.contact_name or None,
        address=display("phone", view.address_value) or None,
        queue=view.queue,
        advisor=view.advisor,
        priority=view.priority or 0,
        opened_at=view.opened_at,
        enqueued_at=view.enqueued_at,
        offered_at=view.offered_at,
        accepted_at=view.accepted_at,
        ended_at=view.ended_at,
        wrapup_until=view.wrapup_until,
        call=view.call,
        recording=recording,
        language=view.language,
        tree=s.TreeVersion(id=view.tree or "", version=view.tree_version or 0) if known else None,
        outcome=view.outcome,
        code=view.code,
        seat=view.seat,
        account=view.account,
        thread=view.thread,
        lent_to=view.lent_to,
        unread=unread,
        gone_since=gone_since,
    )


def case_row(view: CaseView) -> s.CaseRow:
    return s.CaseRow(
        id=view.id,
        number=view.number,
        subject=view.subject,
        state=view.state,
        contact=view.contact,
        contact_name=view.contact_name or None,
        opened_at=view.opened_at,
        changed_at=view.changed_at,
        channels=list(view.channels),
        tags=list(view.tags),
    )


def case_merges(view: CaseView) -> list[s.CaseMerge]:
    return [s.CaseMerge(merge=m.merge, case=m.case, number=m.number, at=m.at, by=m.by) for m in view.merges]


def attachment(view: AttachmentView) -> s.Attachment:
    return s.Attachment(
        id=view.id,
        kind=view.kind,
        name=view.name,
        type=view.type,
        bytes=view.bytes,
        state=view.state,  # type: ignore[arg-type]
        url=f"/api/v1/attachments/{view.id}",
    )


def retryable(view: MessageView) -> bool:
    """May it be sent again? What is left of it, if some of its parts have gone."""
    left = view.text[view.gone_chars :].strip() or view.html or view.attachments[view.gone_files :]
    return view.direction == "out" and view.status in RETRYABLE and bool(left)


def message(view: MessageView, site: Site) -> s.Message:
    """The channel is that of its account; "" when the site has no such account any more."""
    writer = next((a for a in site.advisors if a.id == view.by), None) if view.by else None
    account = next((a for a in site.accounts if a.id == view.account), None)
    by_name = writer.first_name if writer else None
    if view.author == "bot" and account is not None:
        by_name = account.bot_name
    extra = dict(view.extra)
    quoted = extra.pop("quoted", None)
    return s.Message(
        id=view.id,
        seq=view.seq,
        thread=view.thread,
        interaction=view.interaction,
        case=view.case,
        account=view.account,
        channel=account.channel if account else "",
        direction=view.direction,  # type: ignore[arg-type]
        author=view.author,  # type: ignore[arg-type]
        by=view.by or None,
        by_name=by_name,
        kind=view.kind,
        at=view.at,
        sent_at=view.sent_at,
        status=view.status,
        failure=view.failure,
        code=view.code,
        detail=view.detail,
        parts=s.Parts(sent=view.part, of=view.parts) if view.part else None,
        retryable=retryable(view),
        reply_to=view.reply_to,
        text=view.text,
        subject=view.subject,
        has_html=bool(view.html),
        quoted=str(quoted) if quoted else None,
        buttons=[s.Button(title=title, payload=payload) for title, payload in view.buttons],
        extra=extra,
        edited=view.edited,
        unsent=view.unsent,
        reaction=view.reaction,
        automatic=view.automatic,
        standby=view.standby,
        attachments=[attachment(a) for a in view.attachments],
    )


def composer(manifest: Manifest, language: str) -> s.Composer:
    return s.Composer(
        channel=manifest.name,
        label=manifest.labels.get(language) or next(iter(manifest.labels.values()), manifest.name),
        text_chars=manifest.text_chars,
        text_bytes=manifest.text_bytes,
        quick_replies=manifest.quick_replies,
        quick_reply_chars=manifest.quick_reply_chars,
        attachment_bytes=dict(manifest.attachment_bytes),
        subject=manifest.subject,
        html=manifest.html,
        typing=manifest.typing,
    )


def channel_row(manifest: Manifest, language: str) -> s.ChannelRow:
    return s.ChannelRow(
        **composer(manifest, language).model_dump(), seat=manifest.seat, labels=dict(manifest.labels)
    )


def thread(view: ThreadView, manifest: Manifest, site: Site, now: datetime) -> s.Thread:
    account = next((a for a in site.accounts if a.id == view.account), None)
    open_ = window(manifest, view.last_in_at, now)
    return s.Thread(
        id=view.id,
        account=view.account,
        account_name=(account.name if account else "") or view.account,
        channel=view.channel,
        address=s.Address(
            id=view.address,
            kind=view.address_kind,
            value=view.address_value,
            display=display(view.address_kind, view.address_value),
        ),
        live=view.live,
        last_in_at=view.last_in_at,
        last_out=view.last_out,
        window=s.Window(state=open_.state, until=open_.until, tag_until=open_.tag_until),  # type: ignore[arg-type]
        composer=composer(manifest, site.languages[0]),
    )


def help_row(view: HelpView) -> s.Help:
    return s.Help(
        id=view.id,
        interaction=view.interaction,
        case=view.case,
        case_number=view.case_number,
        by=view.by,
        of=view.of,
        at=view.at,
        text=view.text,
        answered_at=view.answered_at,
        answered_by=view.answered_by,
        answer=view.answer,
    )


def account_row(
    account: Account, manifest: Manifest | None, state: AccountState | None, language: str, waiting: int
) -> s.AccountRow:
    """An account of which nothing was heard is up."""
    label = composer(manifest, language).label if manifest else account.channel
    return s.AccountRow(
        account=account.id,
        channel=account.channel,
        label=label,
        name=account.name or account.id,
        state=state.state if state else "up",  # type: ignore[arg-type]
        reason=state.reason if state else "",
        since=state.since if state else None,
        waiting=waiting,
    )


def inbox_row(row: InboxRow) -> s.InboxRow:
    return s.InboxRow(
        case=row.case,
        number=row.number,
        subject=row.subject,
        state=row.state,
        tags=list(row.tags),
        contact=row.contact,
        contact_name=row.contact_name or None,
        vip=row.vip,
        channels=list(row.channels),
        interaction=row.interaction,
        interaction_state=row.interaction_state,
        interaction_channel=row.interaction_channel,
        queue=row.queue,
        advisor=row.advisor,
        last_at=row.last_at,
        last_text=row.last_text,
        last_author=row.last_author,
        unanswered_since=row.unanswered_since,
        opened_at=row.opened_at,
        address=display(row.address_kind, row.address) or None,
        interaction_since=row.interaction_since,
    )


def last_interaction(view: InteractionView) -> s.LastInteraction:
    return s.LastInteraction(
        id=view.id,
        channel=view.channel,
        direction=view.direction,
        at=view.opened_at,
        advisor=view.advisor,
        outcome=outcome(view),
        code=view.code,
        case_number=view.case_number,
    )


Titles = Mapping[tuple[str, int, str], str]
"""The title of a node of a tree in a version."""


def step(row: Step, titles: Titles) -> s.Step:
    return s.Step(
        tree=row.tree,
        version=row.version,
        node=row.node,
        title=titles.get((row.tree, row.version, row.node)),
        exit=row.exit,
        keys=row.keys,
        seconds=row.seconds,
    )


def address(view: AddressView) -> s.Address:
    return s.Address(id=view.id, kind=view.kind, value=view.value, display=display(view.kind, view.value))


def contact_row(view: ContactView) -> s.ContactRow:
    return s.ContactRow(
        id=view.id,
        name=view.name,
        company=view.company or None,
        vip=view.vip,
        language=view.language,
        addresses=[address(a) for a in view.addresses],
    )


def contact(
    view: ContactView, cases: Iterable[CaseView], interactions: Iterable[InteractionView]
) -> s.Contact:
    return s.Contact(
        **contact_row(view).model_dump(),
        cases=[case_row(c) for c in cases],
        last_interactions=[last_interaction(i) for i in interactions],
        merged_from=[
            s.Merge(merge=m.merge, contact=m.contact, name=m.name, reason=m.reason, at=m.at)
            for m in view.merged_from
        ],
    )


def queues_of(advisor: Advisor, site: Site) -> list[str]:
    """The queues an advisor serves: named ones, or every queue whose needs are met."""
    return [
        q.id
        for q in site.queues
        if (advisor.queues is None or q.id in advisor.queues)
        and all(any(advisor.skills.get(k, 0) >= level for k, level in need.any_of) for need in q.needs)
    ]


def presence(seat: Seat, advisor: Advisor, site: Site, *, written: int = 0) -> s.Presence:
    """`written`: how many of the interactions at this seat are written."""
    return s.Presence(
        advisor=seat.advisor,
        first_name=advisor.first_name,
        last_name=advisor.last_name,
        presence=seat.presence.value,
        reason=seat.reason,
        work=seat.work.value,
        since=seat.since,
        phone_registered=seat.phone_registered,
        interactions=list(seat.lines),
        written=written,
        queues=queues_of(advisor, site),
        misses=seat.misses,
    )


def board_row(row: Row) -> s.BoardRow:
    f = row.figures
    return s.BoardRow(
        queue=row.queue,
        name=row.name,
        channel=row.channel,
        waiting=row.live.waiting,
        longest_wait_s=row.live.longest_wait_s,
        estimate_s=row.live.estimate_s,
        service_level=f.service_level,
        target=s.Target(share=row.target.share, seconds=row.target.seconds),
        answered=f.answered,
        abandoned=f.abandoned,
        short_abandoned=f.short_abandoned,
        abandonment=f.abandonment,
        asa_s=f.asa_s,
        advisors=s.AdvisorCounts(**row.advisors),
        breach_in_s=row.live.breach_in_s,
        spark=list(row.spark),
        formula=row.formula,
    )


_KINDS: Mapping[T, str] = {
    T.NOTE_ADDED: "note",
    T.OFFERED: "offer",
    T.OFFER_ENDED: "offer",
    T.RECORDING_STORED: "recording",
    T.CASE_OPENED: "state",
    T.CASE_CHANGED: "state",
    T.CASE_REOPENED: "state",
    T.CONTACT_CHOSEN: "event",
    T.CASE_CHOSEN: "event",
    T.REQUEUED: "event",
    T.PRIORITY_CHANGED: "event",
    T.ENQUEUED: "event",
    T.LEFT_QUEUE: "event",
    T.ACCEPTED: "event",
    T.CONNECTED: "event",
    T.HELD: "event",
    T.RESUMED: "event",
    T.TALK_ENDED: "event",
    T.MESSAGE_RECEIVED: "message",
    T.MESSAGE_WRITTEN: "message",
    T.HANDED_BACK: "event",
    T.SEAT_LENT: "event",
    T.SEAT_RETURNED: "event",
    T.HELP_ASKED: "event",
    T.HELP_ANSWERED: "event",
    T.CASES_MERGED: "state",
    T.CASE_MERGE_UNDONE: "state",
}


def timeline_kind(event: Event) -> str | None:
    """What an event is in the timeline of its case; None: it is not shown there by itself."""
    if event.type is T.ASSIGNED:
        return "event" if event.data.get("how") == "pulled" else None
    return "call" if event.type in FINAL_EVENTS else _KINDS.get(event.type)


def item(
    event: Event,
    *,
    notes: Mapping[UUID, str] | None = None,
    view: InteractionView | None = None,
    recordings: Mapping[UUID, int] | None = None,
) -> s.Item | None:
    """One event as an item. `notes`: id → text; `view`: its interaction; `recordings`: id → duration in ms."""
    kind = timeline_kind(event)
    if kind is None:
        return None
    data = dict(event.data)
    text = None
    if kind == "note":
        text = (notes or {}).get(UUID(str(event.data["note"])), "")
    elif kind == "offer":
        data.pop("why", None)
    elif kind == "call" and view is not None:
        data = call_facts(view, recordings or {}) | {"event": event.type.value}
        kind = "call" if view.channel == "voice" else "event"
    elif kind == "message":
        data = {"message": str(event.data["message"])}
    if kind in {"event", "state", "offer"}:
        data["event"] = event.type.value
    return s.Item(
        at=event.at,
        kind=kind,  # type: ignore[arg-type]
        interaction=event.interaction,
        advisor=event.advisor or event.data.get("by"),
        text=text,
        data=data,
        seq=event.seq,
    )


def message_item(told: s.Message) -> s.Item:
    """A message's place in the timeline of its case."""
    return s.Item(
        at=told.at,
        kind="message",
        interaction=told.interaction,
        advisor=told.by,
        text=None,
        data={"message": str(told.id)},
        seq=told.seq,
    )


def outcome(view: InteractionView) -> str:
    """How it ended, in one word. Who hangs up inside the tree was never in line, and has abandoned nothing (1.1)."""
    if view.state == State.ABANDONED and view.enqueued_at is None:
        return "left_tree"
    return view.outcome or view.state


def call_facts(view: InteractionView, recordings: Mapping[UUID, int]) -> dict[str, object]:
    """How one interaction went, in seconds."""
    start = view.accepted_at
    end = view.talk_ended_at or view.ended_at
    waited_until = start or view.ended_at
    wait_s = (
        max(0.0, (waited_until - view.enqueued_at).total_seconds())
        if waited_until and view.enqueued_at
        else None
    )
    in_tree_until = view.enqueued_at or view.ended_at
    mine = [(r, recordings[r]) for r in view.recordings if r in recordings]
    return {
        "channel": view.channel,
        "direction": view.direction,
        "duration_s": (end - start).total_seconds() if start and end else 0.0,
        "tree_s": (in_tree_until - view.opened_at).total_seconds() if view.tree and in_tree_until else 0.0,
        "outcome": outcome(view),
        "code": view.code,
        "wait_s": wait_s,
        "held_s": view.held_s,
        "recording": {"id": str(mine[0][0]), "duration_ms": mine[0][1]} if mine else None,
        "recordings": [{"id": str(r), "duration_ms": ms} for r, ms in mine],
    }


def tree_item(
    interaction: UUID, path: Iterable[Step], entered: Event | None, titles: Titles
) -> s.Item | None:
    """The way through the tree, as one item where it began: `entered` is the first entry into a tree."""
    steps = list(path)
    if not steps:
        return None
    last = steps[-1]
    return s.Item(
        at=entered.at if entered else steps[0].at,
        kind="tree",
        interaction=interaction,
        advisor=None,
        text=None,
        data={
            "tree": last.tree,
            "version": last.version,
            "path": [step(row, titles).model_dump() for row in steps],
        },
        seq=entered.seq if entered else 0,
    )
