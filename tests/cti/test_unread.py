"""Unread messages: counted once each, whether they came before our start or since."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from cti.unread import Unread
from routing.models import Event, T

CHAT = UUID(int=1)


def event(seq: int, kind: T, **data: Any) -> Event:
    at = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    return Event(
        seq=seq,
        id=UUID(int=100 + seq),
        at=at,
        organisation=UUID(int=9),
        type=kind,
        interaction=CHAT,
        data=data,
    )


def stored(seq: int, author: str = "customer", automatic: bool = False) -> Any:
    direction = "in" if author == "customer" else "out"
    return SimpleNamespace(seq=seq, author=author, direction=direction, automatic=automatic, standby=False)


def test_what_the_customer_wrote_is_unread_until_a_person_answers_or_looks() -> None:
    at = Unread()
    at.apply(event(1, T.INTERACTION_OPENED, channel="messenger"))
    at.apply(event(2, T.MESSAGE_RECEIVED))
    at.apply(event(3, T.MESSAGE_RECEIVED, automatic=True))
    at.apply(event(4, T.MESSAGE_WRITTEN, author="bot"))
    at.apply(event(5, T.MESSAGE_RECEIVED))
    assert at.count(CHAT) == 2
    at.apply(event(6, T.MESSAGE_WRITTEN, author="advisor"))
    assert at.count(CHAT) == 0
    at.apply(event(7, T.MESSAGE_RECEIVED))
    at.looked(CHAT, 7)
    assert at.count(CHAT) == 0
    at.apply(event(8, T.MESSAGE_RECEIVED))
    at.apply(event(9, T.ENDED))
    assert at.count(CHAT) == 0


def test_messages_from_before_are_read_once_and_those_that_come_meanwhile_are_counted_once() -> None:
    at = Unread()
    assert at.begin(CHAT)
    assert not at.begin(CHAT)
    at.apply(event(5, T.MESSAGE_RECEIVED))
    at.remember(CHAT, [stored(1), stored(2, "advisor"), stored(3), stored(4, automatic=True), stored(5)])
    assert at.count(CHAT) == 2


def test_an_answer_that_comes_while_they_are_read_leaves_nothing_unread() -> None:
    at = Unread()
    at.begin(CHAT)
    at.apply(event(4, T.MESSAGE_WRITTEN, author="advisor"))
    at.remember(CHAT, [stored(1), stored(3)])
    assert at.count(CHAT) == 0
