"""The desk's half for what is written: threads, messages and their outbox, help and merged cases (one mail: letter.py).

Rule 1: a thread is one account and one address; at most one interaction of each case lives in it. A second case comes
to live in it only by a message that is proved to be of that case; any other joins what was spoken in last.
Rule 2: a reply goes to the address of its thread, whoever its contact is thought to be (F3).
Rule 3: only MessageWritten and WalkStepped put something into the outbox, with its event; notes never can (F10).
Rule 4: once an advisor has it, the tree is silent (B4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from routing import steps
from routing.channel import CHAT
from routing.identity import normalise, persons, plain, plain_json, root, sort_name
from routing.interaction import Input
from routing.ledger import VOICE, Ledger, Refused, word
from routing.models import (
    FINAL,
    STATUS_RANK,
    AccountChanged,
    Attached,
    AttachmentStored,
    CaseMergeUndone,
    CasesMerged,
    CaseState,
    HandedBack,
    HelpAnswered,
    HelpAsked,
    InteractionClosed,
    InteractionTaken,
    MessageChanged,
    MessageEchoed,
    MessageReceived,
    MessageStatus,
    MessageWritten,
    State,
    Submission,
    T,
    WalkStepped,
)
from routing.projection import (
    AccountRow,
    AddressRow,
    AttachmentRow,
    CaseMergeRow,
    CaseRow,
    ContactRow,
    HelpRow,
    InteractionRow,
    MessageRow,
    ThreadRow,
)

FOLDED_CHARS = 20_000  # of a message that can be found by its words
ACCOUNT_STATES = frozenset({"up", "throttled", "down"})
CHANGES = frozenset({"edited", "unsent", "reacted", "unreacted"})


class Letters:
    """The written half of a book; it puts everything down in the book's ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._book = ledger
        self.handlers: dict[type[Submission], Callable[[Any], None]] = {
            MessageReceived: self._message_received,
            MessageWritten: self._message_written,
            MessageEchoed: self._message_echoed,
            MessageStatus: self._message_status,
            MessageChanged: self._message_changed,
            AttachmentStored: self._attachment_stored,
            WalkStepped: self._walk_stepped,
            HandedBack: self._handed_back,
            InteractionTaken: self._interaction_taken,
            InteractionClosed: self._interaction_closed,
            CasesMerged: self._cases_merged,
            CaseMergeUndone: self._case_merge_undone,
            HelpAsked: self._help_asked,
            HelpAnswered: self._help_answered,
            AccountChanged: self._account_changed,
        }

    def _unknown(self, message: UUID, account: str, external_id: str) -> None:
        """Refused when the message is there already."""
        known = self._book.memory.external.get((account, external_id)) if external_id else None
        if known is not None or self._book.rows.find(MessageRow, message) is not None:
            raise Refused("known_message")

    def _threads(self, account: str, kind: str, value: str) -> list[ThreadRow]:
        """All threads of the account with that address, whichever contacts it is said to belong to."""
        memory = self._book.memory
        found = [
            memory.threads.get((account, address))
            for address in memory.owners.get((kind, value), {}).values()
        ]
        return [self._book.rows.get(ThreadRow, id_) for id_ in found if id_ is not None]

    def _live(self, threads: Iterable[ThreadRow]) -> InteractionRow | None:
        """What goes on in one of them; the one that was written to last, should there be several."""
        rows = [
            self._book.rows.get(InteractionRow, thread.live) for thread in threads if thread.live is not None
        ]
        living = [row for row in rows if row.state not in FINAL]
        return max(living, key=lambda row: (row.opened_at, row.id), default=None)

    def _joined(
        self, threads: list[ThreadRow], case: CaseRow | None, *, proved: bool
    ) -> InteractionRow | None:
        """What goes on there in that case; without proof, else whatever goes on."""
        if case is not None:
            book = self._book
            living = [book.rows.get(InteractionRow, id_) for thread in threads for id_ in thread.living]
            own = [row for row in living if book.same_case(row.case_id, case.id)]
            if own or proved:
                return max(own, key=lambda row: (row.case_id == case.id, row.opened_at, row.id), default=None)
        return self._live(threads)

    def _writer(
        self, kind: str, value: str, raw: str, hint: CaseRow | None, more: tuple[tuple[str, str], ...]
    ) -> tuple[UUID, UUID, int]:
        """(contact, address, how many persons fit) of who wrote; made if nobody fits, provisional if several do."""
        book = self._book
        owners = book.memory.owners.get((kind, value), {})
        if hint is not None:
            person = root(hint.contact, book.rows)
            for owner, address in owners.items():
                if root(owner, book.rows) == person:
                    return owner, address, 1
        people = persons(owners, book.rows)
        if len(people) == 1:
            (owner,) = people.values()
            self._more(owner, more)
            return owner, owners[owner], 1
        contact = book.new_contact(book.ids(), provisional=bool(people), draft=True)
        address = book.new_address(contact, kind, value, raw)
        if not people:
            self._join(contact, more)
            self._more(contact, more)
        return contact, address, len(people)

    def _join(self, contact: UUID, more: tuple[tuple[str, str], ...]) -> None:
        """A new contact with a verified key of exactly one person is that person, until somebody undoes it (F1)."""
        book = self._book
        found: dict[UUID, tuple[UUID, str]] = {}
        for kind, raw in more:
            owners = book.memory.owners.get((kind, normalise(kind, raw, book.site.country)), {})
            for person, owner in persons(owners, book.rows).items():
                found.setdefault(person, (owner, kind))
        if len(found) != 1:
            return
        ((_, (into, kind)),) = found.items()
        data = {"merge": str(book.ids()), "into": str(into), "by": "", "reason": f"same_{kind}"}
        book.emit(T.CONTACTS_MERGED, data, contact=contact)

    def _more(self, contact: UUID, more: tuple[tuple[str, str], ...]) -> None:
        """Further addresses that the provider vouches for, where nobody has them yet."""
        book = self._book
        for kind, raw in more:
            value = normalise(kind, raw, book.site.country)
            if value and not book.memory.owners.get((kind, value)):
                book.new_address(contact, kind, value, plain(raw))

    def _thread(
        self, account: str, channel: str, address: UUID, contact: UUID, others: list[ThreadRow]
    ) -> UUID:
        """The person's thread with the account, opened if there is none."""
        book = self._book
        person = root(contact, book.rows)
        known = [
            thread
            for thread in others
            if root(book.rows.get(AddressRow, thread.address).contact, book.rows) == person
        ]
        if known:
            return max(known, key=lambda thread: (thread.address == address, thread.opened_at, thread.id)).id
        id_ = book.ids()
        data = {"thread": str(id_), "account": account, "channel": channel, "address": str(address)}
        book.emit(T.THREAD_OPENED, data, contact=contact)
        return id_

    def _open(
        self,
        interaction: UUID,
        thread: UUID,
        contact: UUID,
        case: UUID,
        *,
        seat: str,
        direction: str,
        matches: int = 1,
        received: str = "",
        name: str = "",
    ) -> None:
        book = self._book
        row = book.rows.get(ThreadRow, thread)
        data = {
            "channel": row.channel,
            "direction": direction,
            "call": None,
            "dialled": row.account,
            "trunk": None,
            "attestation": None,
            "address": str(row.address),
            "matches": matches,
            "seat": seat,
            "thread": str(thread),
        }
        book.emit(T.INTERACTION_OPENED, data, interaction=interaction, case=case, contact=contact)
        book.side("interaction_data", interaction, received=received, name=name)

    def _end(self, interaction: UUID, outcome: str, by: str | None = None, reason: str | None = None) -> None:
        data = {"outcome": outcome, "code": None, "by": by, "reason": reason}
        self._book.emit(T.ENDED, data, interaction=interaction)

    def _peer(self, told: MessageReceived | MessageEchoed) -> tuple[str, str, list[ThreadRow]]:
        """(address as it is kept, as it came, its threads) of a message that is new to us."""
        self._unknown(told.message, told.account, plain(told.external_id))
        raw = plain(told.address)
        value = normalise(told.address_kind, raw, self._book.site.country)
        if not value:
            raise Refused("no_address")
        return value, raw, self._threads(told.account, told.address_kind, value)

    def _message_received(self, told: MessageReceived) -> None:
        book = self._book
        value, raw, threads = self._peer(told)
        hint = book.rows.find(CaseRow, told.case) if told.case is not None else None
        row = self._joined(threads, hint, proved=told.proved)
        if row is not None:
            interaction, thread = row.id, row.thread
            assert thread is not None
        else:
            if book.rows.find(InteractionRow, told.interaction) is not None:
                raise Refused("known_interaction")
            interaction, thread = self._entered(told, value, raw, threads, hint)
        if not told.automatic:
            self._customer_wrote(interaction)
        data = {
            "message": str(told.message),
            "thread": str(thread),
            "account": told.account,
            "external_id": plain(told.external_id) or None,
            "kind": told.kind,
            "sent_at": told.sent_at.timestamp() if told.sent_at is not None else None,
            "attached": len(told.attached),
            "files": self._files(told.attached),
            "reply_to": str(told.reply_to) if told.reply_to is not None else None,
            "automatic": told.automatic,
            "standby": told.standby,
        }
        book.emit(T.MESSAGE_RECEIVED, data, interaction=interaction)
        self._words(
            told.message,
            text=told.text,
            html=told.html,
            subject=told.subject,
            payload=told.payload,
            extra=told.extra,
        )
        if told.leaves:
            self._leave(interaction)
        elif not told.automatic and not told.standby and book.away(book.interaction(interaction)):
            book.back(book.interaction(interaction))

    def _leave(self, interaction: UUID) -> None:
        """The customer has said that it is over."""
        book = self._book
        row = book.interaction(interaction)
        if row.state in FINAL:
            return
        if row.state != State.ACTIVE:
            book.abandon(row)
            return
        rest = book.apart(book.withdraw(row.id), row.id)
        self._end(row.id, "left")
        book.decided(rest)

    def _entered(
        self,
        told: MessageReceived,
        value: str,
        raw: str,
        threads: list[ThreadRow],
        hint: CaseRow | None,
    ) -> tuple[UUID, UUID]:
        """(interaction, thread) of a message that nothing goes on for. What a machine wrote opens no work."""
        book = self._book
        contact, address, matches = self._writer(told.address_kind, value, raw, hint, told.more_addresses)
        thread = self._thread(told.account, told.channel, address, contact, threads)
        idle = "automatic" if told.automatic else "standby" if told.standby else None
        last = book.memory.last_of_thread.get(thread)
        if idle is not None and last is not None:
            its = book.rows.get(InteractionRow, last).case_id
            if not told.proved or hint is None or book.same_case(its, hint.id):
                return last, thread
        name = plain(told.name).strip()
        case = book.which_case(
            hint.id if hint is not None else None, contact, plain(told.subject), reopens=idle is None
        )
        self._open(
            told.interaction,
            thread,
            contact,
            case,
            seat=told.seat,
            direction="in",
            matches=matches,
            received=raw,
            name=name,
        )
        if told.language is not None:
            self._facts(told.interaction, {"language": told.language})
        owner = book.rows.get(ContactRow, contact)
        if name and owner.draft and not owner.provisional:
            book.side("contact_name", contact, name=name, sort_name=sort_name(name))
        if idle is not None:
            self._end(told.interaction, idle)
        return told.interaction, thread

    def _customer_wrote(self, interaction: UUID) -> None:
        """A case that waited for the customer is open again, and what was put on hold is taken up."""
        book = self._book
        row = book.rows.get(InteractionRow, interaction)
        if row.held:
            book.hold(row, False)
        case = book.surviving(book.rows.get(CaseRow, row.case_id))
        if case.state == CaseState.WAITING:
            data = {"state": CaseState.OPEN.value, "subject": False, "by": ""}
            book.emit(T.CASE_CHANGED, data, case=case.id, contact=case.contact)

    def _message_changed(self, told: MessageChanged) -> None:
        row = self._message(told.message)
        if told.what not in CHANGES:
            raise Refused("unknown_change")
        if row.unsent:
            raise Refused("unchanged")
        self._emit_of(row, T.MESSAGE_CHANGED, {"what": told.what})
        text = plain(told.text)
        match told.what:
            case "edited":
                self._book.side("message_changed", row.id, text=text, html="", folded=_folded(text))
            case "unsent":
                self._book.side("message_changed", row.id, text="", html="", folded="", reaction="")
            case _:
                reaction = text if told.what == "reacted" else ""
                self._book.side(
                    "message_changed", row.id, text=None, html=None, folded=None, reaction=reaction
                )

    def _message_written(self, told: MessageWritten) -> None:
        book = self._book
        told = replace(told, text=plain(told.text), html=plain(told.html), subject=plain(told.subject))
        if not told.text.strip() and not told.html.strip() and not told.attached:
            raise Refused("empty")
        if book.rows.find(MessageRow, told.message) is not None:
            raise Refused("known_message")
        if told.account is not None and told.address is not None:
            interaction = self._begun(told, told.account, told.address)
            self._write(told, interaction)
            self._end(interaction, "sent", told.by)
            return
        row = book.interaction(told.interaction)
        if row.thread is None:
            raise Refused("no_thread")
        if row.state in FINAL:
            raise Refused("over")
        if told.author == "bot" and row.state == State.ACTIVE:
            raise Refused("human_speaks")
        if told.author == "advisor" and (row.state != State.ACTIVE or row.advisor != told.by):
            raise Refused("not_yours")
        self._newer(told, book.rows.get(ThreadRow, row.thread), row.case_id)
        self._write(told, row.id)

    def _newer(self, told: MessageWritten, thread: ThreadRow | None, case: UUID) -> None:
        """Refused over a reply that the writer has not seen, unless it is of another matter that goes on beside."""
        if told.consent or thread is None or thread.last_out in (None, told.over):
            return
        last = self._book.rows.find(MessageRow, thread.last_out)
        beside = {each for each in thread.living if each != told.interaction}
        if last is None or last.interaction not in beside or self._book.same_case(last.case_id, case):
            raise Refused("newer_reply")

    def _begun(self, told: MessageWritten, account: str, address: UUID) -> UUID:
        """From a case to an address: an interaction of its own, which ends at once."""
        book = self._book
        if told.case is None:
            raise Refused("unknown_case")
        case = book.surviving(book.case_file(told.case))
        if book.rows.find(InteractionRow, told.interaction) is not None:
            raise Refused("known_interaction")
        to = book.rows.find(AddressRow, address)
        if to is None or address not in book.memory.values:
            raise Refused("unknown_address")
        there = next((each for each in book.site.accounts if each.id == account), None)
        channel = told.channel or (there.channel if there is not None else None)
        if channel is None:
            raise Refused("unknown_account")
        known = book.memory.threads.get((account, address))
        self._newer(told, book.rows.get(ThreadRow, known) if known is not None else None, case.id)
        if known is None:
            known = book.ids()
            data = {"thread": str(known), "account": account, "channel": channel, "address": str(address)}
            book.emit(T.THREAD_OPENED, data, contact=to.contact)
        seat = told.seat or self._seat_of(known)
        self._open(told.interaction, known, to.contact, case.id, seat=seat, direction="out")
        return told.interaction

    def _seat_of(self, thread: UUID) -> str:
        """The seat of what went on in the thread before."""
        last = self._book.memory.last_of_thread.get(thread)
        return self._book.rows.get(InteractionRow, last).seat if last is not None else CHAT

    def _write(self, told: MessageWritten, interaction: UUID) -> None:
        """The message, its words and its place in the outbox, all in one transaction."""
        book = self._book
        row = book.rows.get(InteractionRow, interaction)
        assert row.thread is not None
        thread = book.rows.get(ThreadRow, row.thread)
        kind, to = book.memory.values[thread.address]
        by = told.by if told.author == "advisor" else ""
        data = {
            "message": str(told.message),
            "thread": str(thread.id),
            "account": thread.account,
            "author": told.author,
            "by": by,
            "kind": "text" if told.text.strip() or told.html.strip() else "media",
            "external_id": None,
            "attached": len(told.attached),
            "files": self._files(told.attached),
            "reply_to": str(told.reply_to) if told.reply_to is not None else None,
            "tagged": told.tagged,
            "status": "queued",
        }
        event = book.emit(T.MESSAGE_WRITTEN, data, interaction=row.id, advisor=by or None)
        buttons = [[plain(title), plain(payload)] for title, payload in told.buttons]
        words = {"text": told.text, "html": told.html, "subject": told.subject}
        self._words(told.message, text=told.text, html=told.html, subject=told.subject, buttons=buttons)
        answered = book.rows.find(MessageRow, told.reply_to) if told.reply_to is not None else None
        case = book.surviving(book.rows.get(CaseRow, row.case_id))
        outgoing = {
            **words,
            "to": to,
            "address_kind": kind,
            "author": told.author,
            "author_name": self._name(told.author, by, thread.account),
            "buttons": [{"title": title, "payload": payload} for title, payload in buttons],
            "reply_to": (answered.external_id or "") if answered is not None else "",
            "references": [],
            "own_id": "",
            "case_number": case.number,
            "language": told.language or row.language or "",
            "tagged": told.tagged,
            "automatic": told.author != "advisor",
            "last_in_at": thread.last_in_at.isoformat() if thread.last_in_at is not None else None,
        }
        book.side(
            "outbox",
            told.message,
            seq=event.seq,
            thread=thread.id,
            interaction=row.id,
            account=thread.account,
            author=told.author,
            outgoing=outgoing,
            not_before=event.at,
        )

    def _name(self, author: str, by: str, account: str) -> str:
        """What the customer sees as the writer."""
        site = self._book.site
        if author == "advisor":
            return next((each.first_name for each in site.advisors if each.id == by), "")
        return next((each.bot_name for each in site.accounts if each.id == account), "")

    def _message_echoed(self, told: MessageEchoed) -> None:
        """Somebody answered elsewhere: it stands beside what goes on, and opens no work."""
        book, account = self._book, told.account
        value, raw, threads = self._peer(told)
        row = self._live(threads)
        if row is not None:
            interaction, thread = row.id, row.thread
        else:
            contact, address, matches = self._writer(told.address_kind, value, raw, None, ())
            there = next((each for each in book.site.accounts if each.id == account), None)
            channel = there.channel if there is not None else account
            thread = self._thread(account, channel, address, contact, threads)
            last = book.memory.last_of_thread.get(thread)
            if last is None:
                last = book.ids()
                case = book.which_case(None, contact)
                self._open(
                    last, thread, contact, case, seat=CHAT, direction="out", matches=matches, received=raw
                )
                self._end(last, "elsewhere")
            interaction = last
        data = {
            "message": str(told.message),
            "thread": str(thread),
            "account": account,
            "author": "elsewhere",
            "by": "",
            "kind": "text" if told.text.strip() else "media",
            "external_id": plain(told.external_id) or None,
            "sent_at": told.sent_at.timestamp() if told.sent_at is not None else None,
            "attached": len(told.attached),
            "files": self._files(told.attached),
            "reply_to": None,
            "tagged": False,
            "status": "sent",
        }
        book.emit(T.MESSAGE_WRITTEN, data, interaction=interaction)
        self._words(told.message, text=told.text)

    def _message_status(self, told: MessageStatus) -> None:
        row = self._message(told.message)
        if told.status not in STATUS_RANK:
            raise Refused("unknown_status")
        if row.direction == "in":
            raise Refused("not_ours")
        if not _goes_on(row.status, told.status):
            raise Refused("older_status")
        external_id = plain(told.external_id or "") or None
        if external_id is not None:
            known = self._book.memory.external.get((row.account, external_id))
            if known is not None and known != row.id:
                external_id = None  # an echo that came first bears it
        data = {
            "status": told.status,
            "external_id": external_id,
            "failure": told.failure,
            "code": plain(told.code),
        }
        self._emit_of(row, T.MESSAGE_STATUS, data)
        if told.detail:
            self._book.side("message_detail", row.id, detail=plain(told.detail))

    def _attachment_stored(self, told: AttachmentStored) -> None:
        row = self._message(told.message)
        file = self._book.rows.find(AttachmentRow, told.attachment)
        if file is None or file.message != row.id:
            raise Refused("unknown_attachment")
        if file.state == "stored":
            raise Refused("stored_already")
        data = {
            "attachment": str(file.id),
            "kind": file.kind,
            "type": told.type or file.type,
            "bytes": told.bytes,
            "sha256": told.sha256,
            "failed": told.failed,
        }
        self._emit_of(row, T.ATTACHMENT_STORED, data)
        self._book.side("attachment_path", file.id, path=told.path)

    def _message(self, id_: UUID) -> MessageRow:
        row = self._book.rows.find(MessageRow, id_)
        if row is None:
            raise Refused("unknown_message")
        return row

    def _emit_of(self, row: MessageRow, type_: T, data: Mapping[str, Any]) -> None:
        """An event of a message, which may be older than everything that lives."""
        told = {"message": str(row.id), **data}
        self._book.emit(type_, told, interaction=row.interaction, case=row.case_id, contact=row.contact)

    def _files(self, attached: tuple[Attached, ...]) -> list[dict[str, Any]]:
        """What of them stands in the event; their names and places go to the side table."""
        files = []
        for each in attached:
            file: dict[str, Any] = {"id": str(each.attachment), "kind": each.kind, "type": plain(each.type)}
            if each.sha256:
                file |= {"bytes": each.bytes, "sha256": each.sha256}
            files.append(file)
            names = {"name": plain(each.name), "content_id": plain(each.content_id), "path": each.path}
            self._book.side("attachment_data", each.attachment, **names)
        return files

    def _words(
        self,
        message: UUID,
        *,
        text: str,
        html: str = "",
        subject: str = "",
        payload: str = "",
        buttons: list[list[str]] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        text, subject = plain(text), plain(subject)
        self._book.side(
            "message_data",
            message,
            text=text,
            html=plain(html),
            subject=subject,
            payload=plain(payload),
            buttons=buttons or [],
            extra=plain_json(dict(extra or {})),
            folded=_folded(f"{subject} {text}"),
        )

    def _walk_stepped(self, told: WalkStepped) -> None:
        book = self._book
        row = book.interaction(told.interaction)
        if row.state in FINAL:
            raise Refused("over")
        if row.state in (State.ACTIVE, State.WRAPUP):
            raise Refused("human_speaks")
        if told.said and row.thread is None:
            raise Refused("no_thread")
        queued = row.state in (State.WAITING, State.OFFERED)
        if told.leave is not None and not queued:
            raise Refused("not_now")
        if told.enqueue is not None and told.ended is not None:
            raise Refused("not_now")
        enqueued: list[steps.Decision] = []
        if told.enqueue is not None:
            _, enqueued = book.enqueue(replace(told.enqueue, interaction=row.id))
        entered = row.state == State.OPENED or (
            row.state == State.QUALIFYING and (row.tree, row.tree_version) != (told.tree, told.version)
        )
        if entered:
            book.emit(T.TREE_ENTERED, {"tree": told.tree, "version": told.version}, interaction=row.id)
        where = told.left_in or ((told.tree, told.version),) * len(told.left)
        for (node, exit_, seconds), (tree, version) in zip(told.left, where, strict=False):
            step = {"tree": tree, "version": version, "node": node, "exit": exit_, "seconds": seconds}
            book.emit(T.NODE_LEFT, step, interaction=row.id)
        if told.facts:
            self._facts(row.id, told.facts)
        for said in told.said:
            if said.text.strip() or said.buttons:
                self._write(
                    MessageWritten(
                        key=told.key,
                        organisation=told.organisation,
                        message=said.message,
                        author=said.author,
                        by="",
                        interaction=row.id,
                        text=plain(said.text),
                        buttons=said.buttons,
                    ),
                    row.id,
                )
        walk = {"tree": told.tree, "version": told.version, "state": plain_json(dict(told.walk))}
        book.side("walk", row.id, **walk, consumed=told.consumed)
        if told.leave is not None:
            rest = (
                [] if told.enqueue is not None else book.apart(book.step(steps.Withdraw(str(row.id))), row.id)
            )
            data = {"queue": row.queue, "how": told.leave, "rule": None}
            book.emit(T.LEFT_QUEUE, data, interaction=row.id)
            book.decided(rest)
        if told.enqueue is not None:
            book.tell_enqueue(told.enqueue, row, enqueued)
        if told.ended is not None:
            rest = book.apart(book.withdraw(row.id), row.id)
            self._end(row.id, told.ended, "tree")
            book.decided(rest)

    def _facts(self, interaction: UUID, facts: Mapping[str, Any]) -> None:
        book = self._book
        kept = plain_json(dict(facts))
        language = kept.get("language")
        data = {"names": sorted(kept), "language": language if isinstance(language, str) else None}
        book.emit(T.FACTS_LEARNED, data, interaction=interaction)
        side = book.batch.sides.setdefault("facts", {}).setdefault(interaction, {"facts": {}})
        side["facts"].update(kept)

    def _handed_back(self, told: HandedBack) -> None:
        book = self._book
        row = self._written(told.interaction, Input.QUALIFY)
        if row.state != State.ACTIVE:
            raise Refused("not_now")
        rest = book.apart(book.withdraw(row.id), row.id)
        book.emit(T.HANDED_BACK, {"node": told.node, "by": told.by}, interaction=row.id)
        book.decided(rest)

    def _written(self, id_: UUID, told: Input) -> InteractionRow:
        row = self._book.alive(id_, told)
        if row.seat == VOICE:
            raise Refused("not_now")
        return row

    def _interaction_taken(self, told: InteractionTaken) -> None:
        book = self._book
        row = book.interaction(told.interaction)
        if row.state in FINAL:
            raise Refused("over")
        if row.seat == VOICE or row.state == State.WRAPUP:
            raise Refused("not_now")
        if row.state == State.OFFERED and row.advisor == told.advisor:
            assert row.offer is not None
            book.decided(book.step(steps.Accept(book.offer_numbers[row.offer])))
            return
        moves = told.over and row.state == State.ACTIVE and row.lent_to is None
        if row.advisor == told.advisor:
            raise Refused("unchanged")
        if row.advisor is not None and not moves:
            raise Refused(f"taken:{row.advisor}")
        passed_over = len(book.distribution.ahead(str(row.id)) or ()) if told.by == told.advisor else 0
        person = book.person(row.contact)
        decisions = book.step(
            steps.Assign(
                str(row.id),
                told.advisor,
                row.seat,
                person,
                queue=row.queue,
                epoch=row.epoch,
                holder=row.advisor,
            )
        )
        epoch = row.epoch
        for decision in decisions:
            if isinstance(decision, steps.Denied):
                raise Refused(f"taken:{decision.holder}" if decision.holder else word(decision.why))
            if isinstance(decision, steps.Assigned):
                epoch = decision.epoch
        data = {"epoch": epoch, "how": "pulled", "by": told.by, "passed_over": passed_over}
        if row.advisor is not None:
            data["from"] = row.advisor
        book.emit(T.ASSIGNED, data, interaction=row.id, advisor=told.advisor)
        book.decided(decisions)

    def _interaction_closed(self, told: InteractionClosed) -> None:
        book = self._book
        row = self._written(told.interaction, Input.CLOSE)
        if told.outcome not in ("answered", "archived"):
            raise Refused("unknown_outcome")
        if told.outcome == "answered" and row.state != State.ACTIVE:
            raise Refused("not_now")
        if told.outcome == "archived" and told.reason not in book.site.archive_reasons:
            raise Refused("unknown_reason")
        code = book.wrapup_code(told.code)
        case = book.surviving(book.rows.get(CaseRow, row.case_id))
        if told.note.strip():
            book.note(book.ids(), case, plain(told.note), told.by, row.id)
        rest = book.apart(book.withdraw(row.id), row.id)
        data = {"outcome": told.outcome, "code": told.code, "by": told.by, "reason": told.reason}
        book.emit(T.ENDED, data, interaction=row.id)
        if code is not None and code.solves:
            book.solve(book.rows.get(CaseRow, case.id), told.by)
        book.decided(rest)

    def _cases_merged(self, told: CasesMerged) -> None:
        book = self._book
        case, into = book.case_file(told.case), book.case_file(told.into)
        if book.rows.find(CaseMergeRow, told.merge) is not None:
            raise Refused("known_merge")
        if case.merged_into is not None:
            raise Refused("already_merged")
        if book.surviving(into).id == case.id:
            raise Refused("same_case")
        if case.closed_at is None and book.surviving(into).closed_at is not None:
            raise Refused("case_over")
        data = {"merge": str(told.merge), "into": str(into.id), "by": told.by}
        book.emit(T.CASES_MERGED, data, case=case.id, contact=case.contact)

    def _case_merge_undone(self, told: CaseMergeUndone) -> None:
        book = self._book
        merge = book.rows.find(CaseMergeRow, told.merge)
        if merge is None:
            raise Refused("unknown_merge")
        if merge.undone_at is not None:
            raise Refused("undone_already")
        case = book.rows.get(CaseRow, merge.case_id)
        data = {"merge": str(told.merge), "by": told.by}
        book.emit(T.CASE_MERGE_UNDONE, data, case=case.id, contact=case.contact)

    def _help_asked(self, told: HelpAsked) -> None:
        book = self._book
        row = book.interaction(told.interaction)
        if not told.text.strip():
            raise Refused("empty")
        if book.rows.find(HelpRow, told.help) is not None:
            raise Refused("known_help")
        if row.state in FINAL:
            raise Refused("over")
        book.emit(T.HELP_ASKED, {"help": str(told.help), "by": told.by, "of": told.of}, interaction=row.id)
        book.side("help_data", told.help, text=plain(told.text))

    def _help_answered(self, told: HelpAnswered) -> None:
        book = self._book
        row = book.rows.find(HelpRow, told.help)
        if row is None:
            raise Refused("unknown_help")
        if row.answered_at is not None:
            raise Refused("answered_already")
        if not told.text.strip():
            raise Refused("empty")
        data = {"help": str(row.id), "by": told.by}
        book.emit(T.HELP_ANSWERED, data, interaction=row.interaction, case=row.case_id)
        book.side("help_answer", row.id, answer=plain(told.text))

    def _account_changed(self, told: AccountChanged) -> None:
        book = self._book
        if told.state not in ACCOUNT_STATES:
            raise Refused("unknown_state")
        row = book.rows.find(AccountRow, told.account)
        now = (row.state, row.reason) if row is not None else ("up", "")
        if now == (told.state, told.reason):
            raise Refused("unchanged")
        data = {"account": told.account, "state": told.state, "reason": plain(told.reason)}
        book.emit(T.ACCOUNT_CHANGED, data)


def _goes_on(status: str, told: str) -> bool:
    """Whether `told` may follow `status`: never back; what was delivered cannot fail, what was sent is not dropped."""
    if STATUS_RANK[told] <= STATUS_RANK[status]:
        return False
    if told == "dropped":
        return STATUS_RANK[status] < STATUS_RANK["sent"]
    return told != "failed" or STATUS_RANK[status] <= STATUS_RANK["sent"]


def _folded(text: str) -> str:
    return sort_name(text[:FOLDED_CHARS])
