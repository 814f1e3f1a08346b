"""The advisor's seat: every pair is decided, and events give the words of the board."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from cti.session import IGNORED, TABLE, Input, Seats, Work, step
from routing.models import Event, T

AT = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
ORGANISATION = UUID(int=9)
CALL, CHAT = UUID(int=1), UUID(int=2)


def test_every_state_and_input_is_decided_or_ignored_for_a_reason() -> None:
    for line in Work:
        for told in Input:
            both = (line, told)
            assert (both in TABLE) != (both in IGNORED), both
            assert step(line, told) is TABLE.get(both, line)
    assert all(len(reason) > 10 for reason in IGNORED.values())


def event(n: int, kind: T, advisor: str | None, interaction: UUID | None, **data: object) -> Event:
    return Event(
        seq=n,
        id=UUID(int=100 + n),
        at=AT.replace(second=n),
        organisation=ORGANISATION,
        type=kind,
        interaction=interaction,
        advisor=advisor,
        data=data,
    )


STORY = """
    advisor.presence      lea  -     presence=ready           | ready    idle
    advisor.reach         lea  -     channel=voice reachable=1| ready    idle
    offer.made            lea  call  offer=1                  | ringing  ringing
    offer.ended           lea  call  offer=1 how=accepted     | ringing  ringing
    interaction.accepted  lea  call  offer=1                  | talking  talking
    interaction.held      -    call  -                        | talking  held
    offer.made            lea  chat  offer=2                  | talking  held
    interaction.resumed   -    call  -                        | talking  talking
    interaction.talk_ended -   call  -                        | ringing  ringing
    offer.ended           lea  chat  offer=2 how=expired      | wrapup   wrapup
    interaction.ended     -    call  -                        | ready    idle
    interaction.assigned  lea  call  -                        | ringing  ringing
    interaction.connected -    call  -                        | talking  talking
    interaction.requeued  -    call  -                        | ready    idle
    advisor.presence      lea  -     presence=pause           | pause    idle
"""


def test_a_day_at_the_seat_told_by_events() -> None:
    seats = Seats()
    for n, line in enumerate(STORY.strip().splitlines(), 1):
        told, shown = line.split("|")
        kind, advisor, interaction, *rest = told.split()
        data = dict(pair.split("=") for pair in rest if "=" in pair)
        which = {"call": CALL, "chat": CHAT}.get(interaction)
        seats.apply(event(n, T(kind), None if advisor == "-" else advisor, which, **data))
        seat = seats.get("lea", AT)
        assert [seat.state, seat.work.value] == shown.split(), line
    assert seats.get("lea", AT).phone_registered


@pytest.mark.parametrize("how", ["missed", "expired"])
def test_misses_are_counted_until_one_is_accepted(how: str) -> None:
    seats = Seats()
    for n in range(2):
        seats.apply(event(2 * n, T.OFFERED, "lea", CALL, offer=n))
        assert seats.apply(event(2 * n + 1, T.OFFER_ENDED, "lea", CALL, offer=n, how=how)) == "lea"
    assert seats.get("lea", AT).misses == 2
    seats.apply(event(8, T.OFFERED, "lea", CALL, offer=8))
    seats.apply(event(9, T.ACCEPTED, "lea", CALL, offer=8))
    assert seats.get("lea", AT).misses == 0


@pytest.mark.parametrize("how", ["refused", "cancelled"])
def test_an_offer_that_was_refused_or_taken_back_is_no_miss(how: str) -> None:
    seats = Seats()
    seats.apply(event(1, T.OFFERED, "lea", CALL, offer=1))
    seats.apply(event(2, T.OFFER_ENDED, "lea", CALL, offer=1, how=how))
    assert seats.get("lea", AT).misses == 0


def test_misses_are_forgotten_when_the_advisor_changes_presence_and_not_when_the_desk_does() -> None:
    seats = Seats()
    seats.apply(event(1, T.OFFERED, "lea", CALL, offer=1))
    seats.apply(event(2, T.OFFER_ENDED, "lea", CALL, offer=1, how="missed"))
    seats.apply(event(3, T.PRESENCE_CHANGED, "lea", None, presence="pause", reason="missed", by="missed"))
    assert (seats.get("lea", AT).state, seats.get("lea", AT).misses) == ("pause", 1)
    seats.apply(event(4, T.PRESENCE_CHANGED, "lea", None, presence="ready", reason=None, by="advisor"))
    assert (seats.get("lea", AT).state, seats.get("lea", AT).misses) == ("ready", 0)


@pytest.mark.parametrize("kind", [T.TALK_ENDED, T.ENDED, T.HELD, T.REQUEUED])
def test_words_about_nobodys_interaction_change_no_seat(kind: T) -> None:
    assert Seats().apply(event(1, kind, None, CALL)) is None


WRITTEN = """
    offer.made               lea  chat  offer=1                | ringing  | -
    offer.ended              lea  chat  offer=1 how=cancelled  | ready    | -
    interaction.assigned     tom  chat  how=pulled             | ready    | talking
    interaction.enqueued     -    chat  queue=billing          | ready    | ready
    interaction.enqueued     -    chat  queue=general          | ready    | ready
    interaction.assigned     lea  chat  how=pulled             | talking  | ready
    interaction.accepted     tom  chat  offer=2                | ready    | talking
    interaction.handed_back  -    chat  node=start             | ready    | ready
    interaction.accepted     lea  chat  offer=3                | talking  | ready
    interaction.ended        -    chat  outcome=answered       | ready    | ready
"""


def test_written_work_is_taken_handed_on_and_never_in_two_hands() -> None:
    seats = Seats()
    for n, who in enumerate(("lea", "tom")):
        seats.apply(event(n, T.PRESENCE_CHANGED, who, None, presence="ready"))
    for n, line in enumerate(WRITTEN.strip().splitlines(), 2):
        told, lea, tom = (part.strip() for part in line.split("|"))
        kind, advisor, _, *data = told.split()
        facts = dict(pair.split("=") for pair in data)
        seats.apply(event(n, T(kind), None if advisor == "-" else advisor, CHAT, **facts))
        assert seats.get("lea", AT).state == lea, line
        if tom != "-":
            assert seats.get("tom", AT).state == tom, line
        assert sum(CHAT in seat.lines for seat in seats) <= 1, line
