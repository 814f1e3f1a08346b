"""The screen pop: every field of its definition, and a URL that values cannot bend."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from cti.screenpop import fill_url, pop
from routing.site import Queue, Site
from routing.store import CaseView, InteractionView, Person, PopRows, Step

AT = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("template", "value", "url"),
    [
        ("https://crm/?phone={e164}&call={call}", "+33612345678", "https://crm/?phone=%2B33612345678&call="),
        ("https://crm/{e164}", "../../admin?x=1#y", "https://crm/..%2F..%2Fadmin%3Fx%3D1%23y"),
        ("https://crm/?q={e164}", "<script>\r\n", "https://crm/?q=%3Cscript%3E%0D%0A"),
        ("https://crm/?q={unknown}", "x", "https://crm/?q="),
        ("https://{e164}/", "evil.example", None),
        ("javascript:alert({e164})", "1", None),
        ("{e164}", "javascript:alert(1)", None),
        ("https://crm/?q={", "x", None),
        ("https://crm/ x", "x", None),
        (None, "x", None),
        ("", "x", None),
    ],
)
def test_a_url_template_is_filled_safely_or_not_at_all(
    template: str | None, value: str, url: str | None
) -> None:
    assert fill_url(template, {"e164": value}) == url


def view(**changes: object) -> InteractionView:
    values: dict[str, object] = {
        "id": UUID(int=1),
        "channel": "voice",
        "direction": "in",
        "state": "offered",
        "held": False,
        "case": UUID(int=2),
        "case_number": 4521,
        "contact": UUID(int=3),
        "contact_name": "Claire Martin",
        "address": UUID(int=4),
        "address_value": "+33612345678",
        "received": "06 12 34 56 78",
        "queue": "billing",
        "advisor": "lea",
        "priority": 5,
        "opened_at": AT,
        "since": AT + timedelta(seconds=20),
        "enqueued_at": AT + timedelta(seconds=20),
        "offered_at": AT + timedelta(seconds=60),
        "accepted_at": None,
        "talk_ended_at": None,
        "ended_at": None,
        "wrapup_until": None,
        "held_s": 0.0,
        "call": "c1",
        "dialled": "3631",
        "trunk": "carrier",
        "attestation": "A",
        "language": "fr",
        "tree": "accueil",
        "tree_version": 12,
        "outcome": None,
        "code": None,
    }
    return InteractionView(**{**values, **changes})  # type: ignore[arg-type]


CASE = CaseView(
    id=UUID(int=2),
    number=4521,
    subject="Colis non reçu",
    state="open",
    provisional=False,
    contact=UUID(int=3),
    contact_name="Claire Martin",
    opened_at=AT,
    changed_at=AT,
    closed_at=None,
    follows=None,
    channels=("messenger", "voice"),
    notes=1,
)


def test_the_pop_holds_every_field_of_its_definition() -> None:
    before = replace(view(), id=UUID(int=8), advisor="bob", outcome="served", code="done", channel="mail")
    found = PopRows(
        interaction=view(),
        case=CASE,
        persons=(
            Person(UUID(int=3), "Claire Martin", "", True, "number", "likely"),
            Person(UUID(int=5), "Jean Martin", "SARL", False, "number", "possible"),
        ),
        path=(Step("accueil", 12, "menu", "2", 3.5, "2", AT),),
        facts={"parcel": "8R123", "place_told": 3, "place_now": 5, "place_why": "priority"},
        open_cases=(CASE,),
        last_interactions=(before,),
        last_advisor="bob",
        kind="repeat",
    )
    site = Site(
        organisation="o",
        name="O",
        queues=(Queue("billing", "Facturation"),),
        pop_url="https://crm/?phone={e164}&case={case}&call={call}",
    )
    titles = {("accueil", 12, "menu"): "Menu principal"}
    shown = pop(found, site, AT + timedelta(seconds=120), titles).model_dump(mode="json")
    assert (shown["interaction"], shown["call"]) == (str(UUID(int=1)), "c1")
    assert shown["case"] == {
        "id": str(UUID(int=2)),
        "number": 4521,
        "subject": "Colis non reçu",
        "state": "open",
    }
    assert (shown["received_number"], shown["e164"], shown["attestation"], shown["trunk"]) == (
        "06 12 34 56 78",
        "+33612345678",
        "A",
        "carrier",
    )
    assert [(p["name"], p["why"], p["sure"], p["vip"]) for p in shown["persons"]] == [
        ("Claire Martin", "number", "likely", True),
        ("Jean Martin", "number", "possible", False),
    ]
    assert (shown["queue"], shown["priority"], shown["waited_s"]) == (
        {"id": "billing", "name": "Facturation"},
        5,
        100.0,
    )
    assert shown["path"] == [
        {
            "tree": "accueil",
            "version": 12,
            "node": "menu",
            "title": "Menu principal",
            "exit": "2",
            "keys": "2",
            "seconds": 3.5,
        }
    ]
    assert (shown["language"], shown["facts"]) == ("fr", {"parcel": "8R123"})
    assert [c["number"] for c in shown["open_cases"]] == [4521]
    assert [(i["channel"], i["advisor"], i["outcome"], i["code"]) for i in shown["last_interactions"]] == [
        ("mail", "bob", "served", "done")
    ]
    assert (shown["last_advisor"], shown["kind"], shown["transfer"]) == ("bob", "repeat", None)
    assert shown["url"] == "https://crm/?phone=%2B33612345678&case=4521&call=c1"


def test_a_withheld_number_is_no_e164_and_nobody_is_assumed() -> None:
    found = PopRows(
        interaction=view(address_value="anonymous", received="anonymous"),
        case=None,
        persons=(),
        path=(),
        facts={},
        open_cases=(),
        last_interactions=(),
        last_advisor=None,
        kind="first",
    )
    shown = pop(found, Site(organisation="o", name="O"), AT, {})
    assert (shown.e164, shown.persons, shown.case, shown.url) == (None, [], None, None)
