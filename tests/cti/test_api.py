"""The console's HTTP: every route for every role, two organisations apart, and hostile input."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cti.aio.api import ROUTES
from routing import models as m
from tests.cti.house import PASSWORD, House, house, rules

NOBODY = UUID(int=77)

# Statuses for advisor, supervisor, admin, and nobody signed in. Ids are those of nothing, so that what passes the
# guard ends as 404 or 422 and one test can try everything.
TABLE = """
    POST   /session                        {}                                        422 422 422 422
    GET    /session                        -                                         200 200 200 401
    PUT    /me/presence                    {"presence":"asleep"}                     422 422 422 401
    GET    /pause-reasons                  -                                         200 200 200 401
    GET    /wrapup-codes                   -                                         200 200 200 401
    POST   /offers/ID/refuse               {}                                        404 404 404 401
    POST   /offers/ID/accept               {}                                        404 404 404 401
    GET    /interactions                   -                                         422 422 422 401
    GET    /interactions/ID                -                                         404 404 404 401
    POST   /interactions/ID/hold           {}                                        404 404 404 401
    POST   /interactions/ID/resume         {}                                        404 404 404 401
    POST   /interactions/ID/hangup         {}                                        404 404 404 401
    POST   /interactions/ID/wrapup         {"code":"done"}                           404 404 404 401
    POST   /interactions/ID/wrapup/extend  {}                                        404 404 404 401
    POST   /interactions/ID/contact        {"contact":"ID"}                          404 404 404 401
    POST   /interactions/ID/case           {"case":"ID"}                             404 404 404 401
    PUT    /interactions/ID/priority       {"priority":5}                            403 404 404 401
    GET    /interactions/ID/why            -                                         404 404 404 401
    GET    /cases                          -                                         200 200 200 401
    GET    /cases/ID                       -                                         404 404 404 401
    POST   /cases                          {"contact":"ID","subject":"x"}            404 404 404 401
    PATCH  /cases/ID                       {"state":"solved"}                        404 404 404 401
    POST   /cases/ID/notes                 {"text":"x"}                              404 404 404 401
    POST   /cases/ID/call                  {"address":"ID"}                          404 404 404 401
    GET    /contacts                       -                                         200 200 200 401
    GET    /contacts/ID                    -                                         404 404 404 401
    POST   /contacts                       {"name":""}                               422 422 422 401
    PATCH  /contacts/ID                    {"name":"x"}                              404 404 404 401
    POST   /contacts/ID/merge              {"into":"ID","reason":"x"}                404 404 404 401
    POST   /merges/ID/undo                 {}                                        409 409 409 401
    POST   /contacts/ID/call               {"address":"ID"}                          404 404 404 401
    GET    /recordings/ID                  -                                         404 404 404 401
    GET    /board                          -                                         200 200 200 401
    GET    /trees                          -                                         200 200 200 401
    GET    /trees/none                     -                                         404 404 404 401
    GET    /queues                         -                                         403 200 200 401
    GET    /queues/none                    -                                         403 404 404 401
    PUT    /queues/none                    {}                                        403 403 422 401
    GET    /advisors                       -                                         403 200 200 401
    POST   /advisors/none                  {}                                        403 403 422 401
    PUT    /advisors/none                  {}                                        403 403 422 401
    POST   /advisors/none/password         {}                                        403 403 404 401
    POST   /advisors/none/phone-password   {}                                        403 403 404 401
    GET    /site                           -                                         403 403 200 401
    POST   /site/check                     {"yaml":""}                               403 403 200 401
    POST   /site                           {"yaml":"","base_version":0}              403 403 422 401
    GET    /events                         -                                         403 200 200 401
    GET    /healthz                        -                                         200 200 200 200
    GET    /readyz                         -                                         200 200 200 200
    GET    /metrics                        -                                         200 200 200 200
    GET    /inbox                          -                                         200 200 200 401
    POST   /interactions/ID/messages       {"message":"ID","text":"x"}               404 404 404 401
    POST   /cases/ID/messages              {"message":"ID","account":"post","address":"ID","text":"x"} 404 404 404 401
    POST   /interactions/ID/typing         {"on":true}                               404 404 404 401
    POST   /interactions/ID/seen           -                                         404 404 404 401
    POST   /interactions/ID/take           -                                         404 404 404 401
    POST   /interactions/ID/give           {"advisor":"a1"}                          403 404 404 401
    POST   /interactions/ID/close          {"outcome":"answered"}                    404 404 404 401
    POST   /interactions/ID/transfer       {"queue":"billing"}                       404 404 404 401
    GET    /interactions/ID/nodes          -                                         404 404 404 401
    POST   /interactions/ID/hand-back      {"node":"start"}                          404 404 404 401
    POST   /interactions/ID/help           {"text":"x"}                              404 404 404 401
    GET    /helps                          -                                         200 200 200 401
    POST   /helps/ID/answer                {"text":"x"}                              404 404 404 401
    POST   /messages/ID/retry              -                                         404 404 404 401
    GET    /messages/ID/html               -                                         404 404 404 401
    GET    /attachments/ID                 -                                         404 404 404 401
    POST   /attachments                    {}                                        415 415 415 401
    POST   /cases/ID/tags                  {"tags":["urgent"]}                       404 404 404 401
    POST   /cases/ID/merge                 {"into":"ID"}                             404 404 404 401
    POST   /case-merges/ID/undo            -                                         404 404 404 401
    GET    /contacts/ID/proposals          -                                         404 404 404 401
    GET    /templates                      -                                         200 200 200 401
    GET    /ways?case=ID                   -                                         404 404 404 401
    GET    /statistics                     -                                         200 200 200 401
    GET    /statistics/list?figure=odd     -                                         422 422 422 401
    GET    /statistics.csv                 -                                         200 200 200 401
    GET    /statistics/list.csv?figure=odd -                                         422 422 422 401
    GET    /cases/ID/transcript.csv        -                                         404 404 404 401
    GET    /accounts                       -                                         200 200 200 401
    GET    /webhooks                       -                                         403 403 200 401
    POST   /webhooks/ID/replay             -                                         403 403 404 401
    DELETE /session                        -                                         204 204 204 401
"""


def table() -> list[tuple[str, str, Any, list[int]]]:
    rows = []
    for line in TABLE.strip().splitlines():
        method, path, body, *statuses = line.split()
        told = None if body == "-" else json.loads(body.replace("ID", str(NOBODY)))
        rows.append((method, path.replace("ID", str(NOBODY)), told, [int(s) for s in statuses]))
    return rows


def test_the_table_of_roles_names_every_route() -> None:
    def shape(path: str) -> str:
        path = path.removeprefix("/api/v1")
        return re.sub(r"{id}|none|[0-9a-f-]{36}", "*", path).partition("?")[0]

    assert {(r.method, shape(r.path)) for r in ROUTES} == {(t[0], shape(t[1])) for t in table()}


async def test_every_route_answers_every_role_as_the_table_says(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        wrong = []
        for n, login in enumerate(("a1", "a3", "a4", None)):
            browser = await at.browser(login)
            for method, path, body, statuses in table():
                status, told = await browser.ask(method, path, body)
                if status != statuses[n]:
                    wrong.append((login, method, path, statuses[n], status, told))
                if status >= 400 and path != "/readyz":
                    assert set(told) >= {"type", "title", "status", "detail", "errors"}
        assert wrong == []


async def test_no_unsafe_route_works_without_token_or_from_another_origin(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        admin = await at.browser("a4")
        for method, path, body, _ in table():
            if method == "GET" or (method, path) == ("POST", "/session"):
                continue
            assert (await admin.ask(method, path, body, **{"X-CSRF-Token": "x"}))[0] == 403, path
            assert (await admin.ask(method, path, body, Origin="https://evil.example"))[0] == 403, path
        status, _ = await admin.ask(
            "POST", "/session", {"login": "a1", "password": PASSWORD}, Origin="https://evil.example"
        )
        assert status == 403
        assert (await admin.ask("GET", "/session"))[0] == 200


async def test_signing_in_makes_a_new_session_whatever_cookie_came(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        browser = await at.browser()
        planted = "A" * 43
        async with browser.http.post(
            f"{at.base}/api/v1/session",
            json={"login": "a1", "password": PASSWORD},
            headers={"Cookie": f"monofil_session={planted}"},
        ) as answer:
            assert answer.status == 200
            [cookie] = [v for k, v in answer.headers.items() if k == "Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "Path=/" in cookie
        token = cookie.partition("=")[2].partition(";")[0]
        assert token != planted
        assert len(token) >= 43
        rows = await at.stores.people.session(b"x" * 32)
        assert rows is None
        old = token
        assert await browser.sign_in("a1") == 200
        async with browser.http.get(
            f"{at.base}/api/v1/session", headers={"Cookie": f"monofil_session={old}"}
        ) as answer:
            assert answer.status in {200, 401}  # the jar's own cookie goes along
        assert await at.console.sign_ins.session(old) is None


async def test_unknown_logins_and_wrong_passwords_have_the_same_face(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        await at.stores.people.set_password_hash("ghost", at.console.sign_ins.hasher.hash(PASSWORD))
        faces = set()
        for login, password in (("a1", "wrong"), ("nobody", "wrong"), ("ghost", PASSWORD), ("", "")):
            browser = await at.browser()
            told = await browser.ask("POST", "/session", {"login": login, "password": password})
            told[1].pop("instance")
            faces.add(json.dumps(told))
        assert len(faces) == 1
        assert json.loads(faces.pop())[0] == 401


async def test_a_login_that_nobody_has_costs_the_same_work(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(database, tmp_path) as at:
        hashes: list[str] = []
        check = at.console.sign_ins._check

        def counting(hashed: str, password: str) -> bool:
            hashes.append(hashed)
            return check(hashed, password)

        monkeypatch.setattr(at.console.sign_ins, "_check", counting)
        for login in ("a1", "nobody", "a2"):
            assert await (await at.browser()).sign_in(login, "wrong") == 401
        assert len(hashes) == 3
        assert {h.rsplit("$", 2)[0] for h in hashes} == {hashes[0].rsplit("$", 2)[0]}  # same cost


async def test_guessing_is_slowed_with_a_time_to_wait_and_the_right_password_must_wait_too(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        browser = await at.browser()
        for _ in range(3):
            assert await browser.sign_in("a1", "wrong") == 401
        assert await browser.sign_in("a1", "wrong") in {401, 429}
        body = {"login": "a1", "password": PASSWORD}
        async with browser.http.post(f"{at.base}/api/v1/session", json=body) as answer:
            assert answer.status == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= 300
        assert await browser.sign_in("a2") == 200


async def test_sessions_expire_and_end_with_a_new_password(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        browser, admin, fresh = (await at.browser("a1"), await at.browser("a4"), await at.browser())
        status, told = await admin.ask("POST", "/advisors/a1/password")
        assert status == 200
        assert (await browser.ask("GET", "/session"))[0] == 401
        assert await fresh.sign_in("a1", PASSWORD) == 401
        assert await fresh.sign_in("a1", told["password"]) == 200
        at.line.clock.pass_(13 * 3600)
        assert (await fresh.ask("GET", "/session"))[0] == 401


async def test_a_phone_password_is_shown_once_and_kept_as_digests(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        admin = await at.browser("a4")
        _, told = await admin.ask("POST", "/advisors/a1/phone-password")
        assert (told["account"], told["server"]) == ("101", "127.0.0.1:5060")
        secret = await at.stores.accounts.secret("101")
        assert secret is not None
        assert told["password"] not in f"{secret}"
        assert (await admin.ask("POST", "/advisors/a4/phone-password"))[0] == 409


async def test_a_call_from_offer_to_the_case_by_http(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me, colleague = await at.browser("a1"), await at.browser("a2")
        await at.line.ready("a1")
        call = await at.waiting.call("01 23 45 67 89")
        [offer] = at.line.desk.offers()
        status, told = await me.ask("POST", f"/offers/{offer.id}/accept")
        assert (status, told["type"]) == (409, "/problems/answer-your-phone")
        assert (await colleague.ask("POST", f"/offers/{offer.id}/refuse", {}))[0] == 404
        await at.switch.until(lambda: f"{call}.2" in at.switch.legs)
        at.switch.pick_up(f"{call}.2")
        await at.switch.until(lambda: at.switch.legs[f"{call}.2"].joined)
        assert (await me.get(f"/interactions/{call}"))["recording"] is True
        assert (await colleague.ask("POST", f"/interactions/{call}/hold", {}))[0] == 409
        status, told = await me.ask("POST", f"/interactions/{call}/hold", {})
        assert (status, told["held"]) == (200, True)
        status, told = await me.ask("POST", f"/interactions/{call}/resume", {})
        assert (status, told["held"]) == (200, False)
        status, told = await me.ask("POST", f"/interactions/{call}/hangup", {})
        assert (status, told["state"]) == (200, "wrapup")
        assert (await me.ask("POST", f"/interactions/{call}/wrapup/extend", {}))[0] == 200
        assert (await me.ask("POST", f"/interactions/{call}/wrapup/extend", {}))[0] == 409
        assert (await colleague.ask("POST", f"/interactions/{call}/wrapup", {}))[0] == 403
        status, told = await me.ask("POST", f"/interactions/{call}/wrapup", {"code": "odd"})
        assert (status, told["errors"][0]["field"]) == (422, "code")
        body = {"code": "done", "note": "Colis retrouvé"}
        status, told = await me.ask("POST", f"/interactions/{call}/wrapup", body)
        assert (status, told["state"], told["code"]) == (200, "ended", "done")
        await at.control.settled()
        case = await me.get(f"/cases/{told['case']}")
        assert case["state"] == "solved"
        kinds = [item["kind"] for item in case["timeline"]]
        assert {"note", "call", "offer"} <= set(kinds)
        [note] = [i for i in case["timeline"] if i["kind"] == "note"]
        assert (note["text"], note["advisor"]) == ("Colis retrouvé", "a1")
        [ended] = [i for i in case["timeline"] if i["kind"] == "call"]
        assert ended["data"]["code"] == "done"
        assert ended["data"]["recording"]["duration_ms"] == 1500
        assert [i["seq"] for i in case["timeline"]] == sorted(i["seq"] for i in case["timeline"])
        why = await me.get(f"/interactions/{call}/why?lang=fr")
        assert why["sentences"]
        assert why["explanations"][0]["advisor"] == "a1"


async def test_refusing_an_offer_gives_it_to_somebody_else(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        await at.line.ready("a1")
        call = await at.waiting.call()
        [offer] = at.line.desk.offers()
        await at.line.ready("a2")
        assert (await me.ask("POST", f"/offers/{offer.id}/refuse", {"reason": "busy"}))[0] == 204
        assert at.line.desk.interaction(call).advisor == "a2"  # type: ignore[union-attr]
        assert (await me.ask("POST", f"/offers/{offer.id}/refuse", {}))[0] == 404


async def test_presence_is_set_with_a_reason_of_the_site(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        status, told = await me.ask("PUT", "/me/presence", {"presence": "pause", "reason": "yacht"})
        assert (status, told["errors"][0]["field"]) == (422, "reason")
        status, told = await me.ask("PUT", "/me/presence", {"presence": "pause", "reason": "lunch"})
        assert (status, told["presence"], told["reason"]) == (200, "pause", "lunch")
        status, told = await me.ask("PUT", "/me/presence", {"presence": "ready"})
        assert (status, told["presence"], told["reason"]) == (200, "ready", None)


async def test_contacts_are_made_found_merged_and_unmerged(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        body = {"name": "Claire Martin", "addresses": [{"kind": "phone", "value": "06 11 22 33 44"}]}
        status, claire = await me.ask("POST", "/contacts", body)
        assert status == 201
        assert claire["addresses"][0]["value"] == "+33611223344"
        assert claire["addresses"][0]["display"] == "+33 6 11 22 33 44"
        _, other = await me.ask("POST", "/contacts", {"name": "C. Martin", "vip": True})
        found = await me.get("/contacts?text=0611223344")
        assert [c["id"] for c in found["items"]] == [claire["id"]]
        status, merged = await me.ask(
            "POST", f"/contacts/{other['id']}/merge", {"into": claire["id"], "reason": "même personne"}
        )
        assert status == 200
        [merge] = merged["merged_from"]
        assert merge["contact"] == other["id"]
        assert (await me.ask("POST", f"/merges/{merge['merge']}/undo"))[0] == 204
        assert (await me.get(f"/contacts/{claire['id']}"))["merged_from"] == []
        same = {"into": claire["id"], "reason": "x"}
        assert (await me.ask("POST", f"/contacts/{claire['id']}/merge", same))[0] == 422


async def test_cases_are_opened_noted_listed_by_pages_and_called_from(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        await at.line.ready("a1")
        body = {"name": "Claire", "addresses": [{"kind": "phone", "value": "+33611223344"}]}
        _, claire = await me.ask("POST", "/contacts", body)
        made = []
        for n in range(3):
            status, case = await me.ask("POST", "/cases", {"contact": claire["id"], "subject": f"Colis {n}"})
            assert status == 201
            made.append(case["id"])
            at.line.clock.pass_(1)
        first = await me.get("/cases?limit=2")
        rest = await me.get(f"/cases?limit=2&after={first['next']}")
        assert [c["id"] for c in first["items"] + rest["items"]] == made[::-1]
        assert rest["next"] is None
        assert (await me.ask("GET", "/cases?after=nonsense"))[0] == 422
        status, note = await me.ask("POST", f"/cases/{made[0]}/notes", {"text": "Rappeler"})
        assert (status, note["kind"], note["text"]) == (201, "note", "Rappeler")
        status, case = await me.ask("PATCH", f"/cases/{made[0]}", {"state": "waiting", "subject": "Autre"})
        assert (case["state"], case["subject"]) == ("waiting", "Autre")
        address = claire["addresses"][0]["id"]
        status, placed = await me.ask("POST", f"/cases/{made[0]}/call", {"address": address})
        assert status == 202
        row = at.line.desk.interaction(UUID(placed["interaction"]))
        assert row is not None
        assert str(row.case_id) == made[0]
        assert (await me.ask("POST", f"/cases/{made[0]}/call", {"address": str(uuid4())}))[0] == 404
        await at.switch.until(lambda: at.switch.placed)


async def test_a_recording_is_played_in_ranges_and_only_from_its_folder(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        call = await at.line.call(queue=None)
        folder = tmp_path / "recordings"
        folder.mkdir()
        (folder / "a.wav").write_bytes(bytes(range(100)))
        (tmp_path / "secret").write_text("no")
        ids = []
        for path in ("recordings/a.wav", "secret", "recordings/../secret", "recordings/gone.wav"):
            recording = at.line.ids()
            ids.append(recording)
            await at.line.ok(
                m.RecordingStored,
                interaction=call,
                recording=recording,
                path=path,
                duration_ms=6,
                bytes=100,
                complete=True,
            )
        url = f"{at.base}/api/v1/recordings/{ids[0]}"
        async with me.http.get(url, headers={"Range": "bytes=10-19"}) as answer:
            assert answer.status == 206
            assert answer.content_type == "audio/wav"
            assert answer.headers["Content-Range"] == "bytes 10-19/100"
            assert await answer.read() == bytes(range(10, 20))
            assert "no-store" in answer.headers["Cache-Control"]
        async with me.http.get(url, headers={"Range": "bytes=500-"}) as answer:
            assert answer.status == 416
        async with me.http.get(url) as answer:
            assert await answer.read() == bytes(range(100))
        for bad in ids[1:]:
            assert (await me.ask("GET", f"/recordings/{bad}"))[0] == 404


async def test_an_admin_edits_queues_and_advisors_with_mistakes_told_by_field(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        admin = await at.browser("a4")
        queue = (await admin.get("/queues"))[0]
        status, told = await admin.ask("PUT", "/queues/general", queue | {"wrapup_max_s": 45})
        assert (status, told["wrapup_max_s"]) == (200, 45)
        current = await at.stores.sites.current()
        assert current is not None
        assert (current.version, current.by, current.site.queues[0].wrapup_max_s) == (2, "a4", 45)
        for change, field in (
            ({"hours": "nowhere"}, "hours"),
            ({"overflow_to": "general"}, "overflow_to"),
            ({"wrapup_codes": ["odd"]}, "wrapup_codes"),
            ({"needs": [{"any_of": [["latin", 2]]}]}, "needs"),
            ({"priority": "high"}, "priority"),
            ({"id": "other"}, "id"),
            ({"colour": "red"}, "body"),
            ({"pop": "sometimes"}, "pop"),
            ({"after_misses": 0}, "after_misses"),
        ):
            status, told = await admin.ask("PUT", "/queues/general", queue | change)
            assert status == 422, change
            assert (told["errors"][0]["field"] or "body") == field, told
        bob = {"id": "bob", "first_name": "Bob", "last_name": "B", "skills": {"fr": 3}, "phone": "109"}
        assert (await admin.ask("POST", "/advisors/bob", bob))[0] == 201
        assert (await admin.ask("POST", "/advisors/bob", bob))[0] == 409
        status, told = await admin.ask("PUT", "/advisors/bob", bob | {"phone": "101"})
        assert (status, told["errors"][0]["field"]) == (422, "phone")
        a4 = next(a for a in await admin.get("/advisors") if a["id"] == "a4")
        status, told = await admin.ask("PUT", "/advisors/a4", a4 | {"roles": ["advisor"]})
        assert (status, told["type"]) == (409, "/problems/last-admin")


async def test_a_site_file_is_applied_only_on_the_version_it_was_made_from(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        admin = await at.browser("a4")
        async with admin.http.get(f"{at.base}/api/v1/site") as answer:
            base = int(answer.headers["X-Site-Version"])
            text = await answer.text()
        assert (await admin.ask("POST", "/site/check", {"yaml": "x"}))[1]["mistakes"][0]["line"] == 1
        status, told = await admin.ask("POST", "/site", {"yaml": "x", "base_version": base})
        assert (status, told["errors"][0]["field"]) == (422, "yaml:1")
        new = {"yaml": text.strip() + " 2", "base_version": base}
        assert (await admin.ask("POST", "/site", new))[1] == {"version": base + 1}
        status, told = await admin.ask("POST", "/site", new | {"yaml": text + " 3"})
        assert (status, told["type"]) == (409, "/problems/changed-meanwhile")


async def test_two_organisations_see_nothing_of_each_other(database: str, tmp_path: Path) -> None:
    async with (
        house(database, tmp_path / "one", site=rules("one")) as one,
        house(database, tmp_path / "two", site=rules("two"), logins=("a1", "a4")) as two,
    ):
        theirs = await one.browser("a1")
        body = {"name": "Claire", "addresses": [{"kind": "phone", "value": "+33611223344"}]}
        _, contact = await theirs.ask("POST", "/contacts", body)
        _, case = await theirs.ask("POST", "/cases", {"contact": contact["id"], "subject": "secret"})
        call = await one.line.call("+33611223344")
        recording = one.line.ids()
        await one.line.ok(
            m.RecordingStored,
            interaction=call,
            recording=recording,
            path="recordings/a.wav",
            duration_ms=1,
            bytes=1,
            complete=True,
        )
        ids = {"contacts": contact["id"], "cases": case["id"], "interactions": call, "recordings": recording}
        mine = await two.browser("a4")
        _, my_contact = await mine.ask("POST", "/contacts", {"name": "Own"})
        for method, path, _, _ in table():
            kind = path.split("/")[1]
            if kind not in ids or str(NOBODY) not in path:
                continue
            body = {
                "contact": str(ids["contacts"]),
                "case": str(ids["cases"]),
                "into": my_contact["id"],
            }
            sent: Any = {
                "wrapup": {"code": "done"},
                "contact": {"contact": my_contact["id"]},
                "case": {"case": body["case"]},
                "priority": {"priority": 1},
                "notes": {"text": "x"},
                "call": {"address": contact["addresses"][0]["id"]},
                "merge": {"into": my_contact["id"], "reason": "x"},
                "messages": {
                    "message": str(two.line.ids()),
                    "text": "x",
                    **({"account": "post", "address": body["case"]} if kind == "cases" else {}),
                },
                "typing": {"on": True},
                "give": {"advisor": "a1"},
                "close": {"outcome": "answered"},
                "transfer": {"queue": "billing"},
                "hand-back": {"node": "start"},
                "help": {"text": "x"},
                "answer": {"text": "x"},
                "tags": {"tags": ["urgent"]},
            }.get(path.rsplit("/", 1)[-1], {})
            sent = None if method == "GET" else sent
            if (kind, path.rsplit("/", 1)[-1]) == ("cases", "merge"):
                sent = {"into": str(ids["cases"])}
            told = await mine.ask(method, path.replace(str(NOBODY), str(ids[kind])), sent)
            assert told[0] == 404, (method, path, told)
        assert (await mine.get("/cases"))["items"] == []
        assert (await mine.get("/contacts?text=Claire"))["items"] == []
        status, _ = await mine.ask("POST", "/cases", {"contact": contact["id"], "subject": "x"})
        assert status == 404
        events = await mine.get("/events?after=0&limit=500")
        assert str(call) not in json.dumps(events)
        # A cookie of one organisation opens nothing at the other.
        [morsel] = [c for c in theirs.http.cookie_jar if c.key == "monofil_session"]
        stranger = await two.browser()
        headers = {"Cookie": f"monofil_session={morsel.value}"}
        async with stranger.http.get(f"{two.base}/api/v1/session", headers=headers) as answer:
            assert answer.status == 401


NASTY = [
    '"><script>alert(1)</script>',
    "'; DROP TABLE event; --",
    "\u202etxt.exe\u2066",
    "{{7*7}}${7*7}{%raw%}",
    "\x1b[31mred\x07",
    "line\r\nSet-Cookie: x=1",
    "🏴‍☠️" * 20,
    "Z̸̢a̷lgo",
]


@pytest.mark.parametrize("text", NASTY)
async def test_hostile_text_comes_back_as_the_same_text_in_json(
    database: str, tmp_path: Path, text: str
) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        _, contact = await me.ask("POST", "/contacts", {"name": text, "company": text})
        assert (contact["name"], contact["company"]) == (text.strip(), text)
        _, case = await me.ask("POST", "/cases", {"contact": contact["id"], "subject": text})
        await me.ask("POST", f"/cases/{case['id']}/notes", {"text": text})
        async with me.http.get(f"{at.base}/api/v1/cases/{case['id']}") as answer:
            assert answer.content_type == "application/json"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Set-Cookie" not in answer.headers
            told = await answer.json()
        assert told["subject"] == text.strip()
        assert text in [i["text"] for i in told["timeline"]]
        assert (await me.ask("GET", f"/contacts?text={text[:50]}"))[0] == 200


async def test_health_readiness_and_metrics(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        anybody = await at.browser()
        assert (await anybody.ask("GET", "/healthz")) == (200, {"ok": True, "detail": {}})
        at.ready[0] = False
        status, told = await anybody.ask("GET", "/readyz")
        assert (status, told["ok"]) == (503, False)
        await at.line.call()
        _, text = await anybody.ask("GET", "/metrics")
        assert 'monofil_queue_waiting{channel="voice",queue="general"} 1.0' in text
        assert 'monofil_advisors{state="offline"} 3.0' in text
        for name in ("monofil_queue_wait_seconds", "monofil_service_level_ratio", "monofil_pops_total"):
            assert f"# TYPE {name}" in text
        assert "+336" not in text


async def test_a_console_that_is_not_built_says_so_and_paths_are_not_walked(
    database: str, tmp_path: Path
) -> None:
    async with house(database, tmp_path) as at:
        anybody = await at.browser()
        async with anybody.http.get(at.base) as answer:
            assert answer.status == 503
            assert "npm run build" in await answer.text()
        for path in ("/api/v1/nothing", "/x.js", "/%2e%2e/%2e%2e/etc/passwd"):
            async with anybody.http.get(at.base + path) as answer:
                assert answer.status in {404, 503}
                assert "root:" not in await answer.text()


async def test_the_built_page_is_served_compressed_and_its_hashed_files_for_ever(tmp_path: Path) -> None:
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    from cti.aio.dist import ConsoleFiles
    from routing.aio.web import application

    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>page")
    (tmp_path / "assets" / "app-B1c2D3e4.js").write_text("let x")
    (tmp_path / "assets" / "app-B1c2D3e4.js.gz").write_bytes(b"zipped")

    async def nobody(_: web.Request) -> None:
        return None

    app = application((), identify=nobody)
    ConsoleFiles(tmp_path).add_to(app)
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        for path in ("/", "/desk", "/case/4521"):
            page = await client.get(path)
            assert (page.status, page.content_type) == (200, "text/html")
            assert page.headers["Cache-Control"] == "no-cache"
            assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        script = await client.get("/assets/app-B1c2D3e4.js", headers={"Accept-Encoding": "gzip"})
        assert (await script.read(), script.headers["Content-Encoding"]) == (b"zipped", "gzip")
        assert "immutable" in script.headers["Cache-Control"]
        etag = script.headers["ETag"]
        again = await client.get("/assets/app-B1c2D3e4.js", headers={"If-None-Match": etag})
        assert again.status == 304
        plain = await client.get("/assets/app-B1c2D3e4.js", headers={"Accept-Encoding": "identity"})
        assert await plain.read() == b"let x"
        assert (await client.get("/assets/gone.js")).status == 404


async def test_a_database_that_is_away_is_503_and_sessions_are_believed_for_a_while(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from routing.store import Unavailable

    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        assert (await me.ask("GET", "/session"))[0] == 200

        async def away(*_: Any, **__: Any) -> Any:
            raise Unavailable("down")

        monkeypatch.setattr("cti.aio.sessions.REMEMBER_S", -1.0)
        monkeypatch.setattr(type(at.stores.people), "session", away)
        monkeypatch.setattr(type(at.stores.cases), "list", away)
        assert (await me.ask("GET", "/session"))[0] == 200
        status, told = await me.ask("GET", "/cases")
        assert (status, told["type"]) == (503, "/problems/unavailable")
        monkeypatch.setattr("cti.aio.sessions.BRIDGE_S", -1.0)
        assert (await me.ask("GET", "/session"))[0] == 503


async def test_schemathesis_finds_no_failure_and_no_answer_that_is_not_described(
    database: str, tmp_path: Path, seed: int
) -> None:
    async with house(database, tmp_path) as at:
        for login in ("a4", "a1"):
            browser = await at.browser(login)
            [morsel] = [c for c in browser.http.cookie_jar if c.key == "monofil_session"]
            cookie = f"monofil_session={morsel.value}"
            headers = {"Origin": at.base, "X-CSRF-Token": browser.csrf, "Cookie": cookie}
            await asyncio.to_thread(fuzz, at, headers, seed)
            assert await browser.sign_in(login) in {200, 429}


def fuzz(at: House, headers: dict[str, str], seed: int) -> None:
    import hypothesis
    import requests
    import schemathesis

    schema = schemathesis.openapi.from_dict(requests.get(f"{at.base}/openapi.json", timeout=10).json())
    settings = hypothesis.settings(
        max_examples=4,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    left_out = {("DELETE", "/api/v1/session"), ("POST", "/api/v1/session")}
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        if (operation.method.upper(), operation.path) in left_out or operation.path.endswith("password"):
            continue

        @hypothesis.seed(seed)
        @settings
        @hypothesis.given(case=operation.as_strategy())
        def attack(case: Any) -> None:
            # A session of its own, closed here: nothing may be left open behind the test.
            with requests.Session() as session:
                case.call_and_validate(
                    base_url=at.base,
                    session=session,
                    headers=headers,
                    timeout=10,
                    checks=(
                        schemathesis.checks.not_a_server_error,
                        *CHECKS(schemathesis),
                    ),
                )

        attack()


def CHECKS(schemathesis: Any) -> tuple[Any, ...]:  # noqa: N802
    from schemathesis.specs.openapi import checks

    return (
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    )
