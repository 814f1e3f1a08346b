"""The typed routes: what they read, refuse, and say of themselves."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import BaseModel, ConfigDict, Field

from routing.aio.web import ADMINS, BODY_CAP_BYTES, Ask, Caller, Problem, application, route

ORGANISATION = UUID(int=1)


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=5)]
    count: Annotated[int, Field(ge=0)] = 0


class Box:
    value = "from the box"


@route("GET", "/api/things/{id}")
async def get_thing(ask: Ask, id: UUID, limit: Annotated[int, Field(ge=1, le=9)] = 3) -> Thing:
    """One thing."""
    return Thing(name="a", count=limit)


@route("POST", "/api/things", status=201)
async def make_thing(ask: Ask, body: Thing) -> Thing:
    return body


@route("PUT", "/api/maybe")
async def maybe(ask: Ask, body: Thing | None = None) -> list[str]:
    return [body.name if body else "nothing", ask.the(Box).value, ask.who.login]


@route("DELETE", "/api/things/{id}", roles=ADMINS)
async def drop_thing(ask: Ask, id: UUID) -> None:
    """Forget it."""


@route("GET", "/api/broken", roles=None)
async def broken(ask: Ask) -> str:
    raise RuntimeError("a secret: swordfish")


@route("GET", "/api/away", roles=None)
async def away(ask: Ask) -> str:
    raise TimeoutError


@route("GET", "/api/problem", roles=None)
async def problem(ask: Ask) -> str:
    raise Problem(409, "taken", "Somebody was faster.", headers={"Retry-After": "1"})


@route("POST", "/api/sign-in", roles=None)
async def sign_in(ask: Ask) -> str:
    return "in"


ROUTES = (get_thing, make_thing, maybe, drop_thing, broken, away, problem, sign_in)


async def identify(request: web.Request) -> Caller | None:
    who = request.headers.get("X-Test-Who")
    return Caller("lea", frozenset({who}), ORGANISATION, "token") if who else None


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[TestClient[Any, Any]]:
    app = application(ROUTES, identify=identify, things={Box: Box()}, **options)
    async with TestClient(TestServer(app)) as client:
        yield client


def signed(client: TestClient[Any, Any], role: str = "advisor", **more: str) -> dict[str, str]:
    origin = f"http://{client.host}:{client.port}"
    return {"X-Test-Who": role, "Origin": origin, "X-CSRF-Token": "token", **more}


async def test_parameters_and_body_arrive_as_their_annotations_say() -> None:
    async with served() as client:
        answer = await client.get(f"/api/things/{UUID(int=7)}?limit=5", headers=signed(client))
        assert (answer.status, await answer.json()) == (200, {"name": "a", "count": 5})
        answer = await client.post("/api/things", json={"name": "x"}, headers=signed(client))
        assert (answer.status, await answer.json()) == (201, {"name": "x", "count": 0})
        answer = await client.put("/api/maybe", headers=signed(client))
        assert await answer.json() == ["nothing", "from the box", "lea"]
        answer = await client.delete(f"/api/things/{UUID(int=7)}", headers=signed(client, "admin"))
        assert (answer.status, await answer.text()) == (204, "")


async def test_every_wrong_field_is_named_with_what_was_expected() -> None:
    async with served() as client:
        answer = await client.post("/api/things", json={"count": -1, "odd": 1}, headers=signed(client))
        assert answer.status == 422
        assert answer.content_type == "application/problem+json"
        told = {e["field"]: e["expected"] for e in (await answer.json())["errors"]}
        assert told == {
            "name": "a value; this field must be given",
            "count": "0 or more",
            "odd": "nothing; this field is not known here",
        }
        french = signed(client, **{"Accept-Language": "fr-FR,fr;q=0.9"})
        answer = await client.get("/api/things/nonsense?limit=10", headers=french)
        told = {e["field"]: e["expected"] for e in (await answer.json())["errors"]}
        assert told == {"id": "un identifiant (UUID)", "limit": "9 ou moins"}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 422),
        (b"{", "application/json", 422),
        (b'{"name": NaN}', "application/json", 422),
        (b'{"name": "a\\u0000b"}', "application/json", 422),
        (b'{"name": "\\ud800"}', "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b'{"name":' + b'{"a":' * 60 + b"1" + b"}" * 61, "application/json", 422),
        (b"name=a", "application/x-www-form-urlencoded", 415),
        (b'"' + b"x" * BODY_CAP_BYTES + b'"', "application/json", 413),
        (b"\xff\xfe", "application/json", 422),
    ],
)
async def test_a_bad_body_is_refused_and_never_a_traceback(body: bytes, kind: str, status: int) -> None:
    async with served() as client:
        headers = signed(client, **{"Content-Type": kind})
        answer = await client.post("/api/things", data=io.BytesIO(body), headers=headers)
        assert answer.status == status, await answer.text()
        assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"X-Test-Who": ""}, 401, "not-signed-in"),
        ({"X-CSRF-Token": "wrong"}, 403, "csrf"),
        ({"X-CSRF-Token": ""}, 403, "csrf"),
        ({"Origin": "https://evil.example"}, 403, "foreign-origin"),
        ({"Origin": "null"}, 403, "foreign-origin"),
        ({"Origin": ""}, 403, "foreign-origin"),
        ({}, 201, None),
        ({"Origin": "https://Console.example"}, 201, None),
    ],
)
async def test_an_unsafe_method_needs_session_origin_and_token(
    change: dict[str, str], status: int, kind: str | None
) -> None:
    async with served(origins=["https://console.example"]) as client:
        headers = {**signed(client), **change}
        answer = await client.post(
            "/api/things", json={"name": "x"}, headers={k: v for k, v in headers.items() if v}
        )
        assert answer.status == status
        if kind:
            assert (await answer.json())["type"] == f"/problems/{kind}"


async def test_a_role_that_is_not_enough_is_told_which_would_be() -> None:
    async with served() as client:
        answer = await client.delete(f"/api/things/{UUID(int=7)}", headers=signed(client, "advisor"))
        assert answer.status == 403
        assert "admin" in (await answer.json())["detail"]


async def test_signing_in_is_closed_to_other_sites_pages_and_open_to_programs() -> None:
    async with served() as client:
        assert (await client.post("/api/sign-in")).status == 200
        foreign = await client.post("/api/sign-in", headers={"Origin": "https://evil.example"})
        assert foreign.status == 403


async def test_a_failure_of_ours_tells_its_request_id_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with served() as client:
        answer = await client.get("/api/broken")
        text = await answer.text()
        assert answer.status == 500
        assert "swordfish" not in text
        assert "Traceback" not in text
        assert answer.headers["X-Request-ID"] in text
    assert "swordfish" in capsys.readouterr().out  # the log has it


async def test_what_is_not_there_now_is_503_with_a_time_to_try_again() -> None:
    async with served() as client:
        answer = await client.get("/api/away")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        answer = await client.get("/api/problem")
        assert (answer.status, answer.headers["Retry-After"]) == (409, "1")
        assert (await answer.json())["detail"] == "Somebody was faster."


async def test_unknown_paths_and_methods_are_problems_too() -> None:
    async with served() as client:
        answer = await client.get("/api/nothing")
        assert (answer.status, answer.content_type) == (404, "application/problem+json")
        answer = await client.patch("/api/things", headers=signed(client))
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_every_answer_forbids_inline_scripts_frames_and_sniffing() -> None:
    async with served(https=True) as client:
        for path in ("/api/nothing", "/api/broken", "/openapi.json", "/api/problem"):
            answer = await client.get(path)
            policy = answer.headers["Content-Security-Policy"]
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert "max-age" in answer.headers["Strict-Transport-Security"]


async def test_the_description_is_openapi_3_1_and_complete() -> None:
    async with served() as client:
        told = await (await client.get("/openapi.json")).json()
    assert told["openapi"] == "3.1.0"
    described = {(m.upper(), p) for p, methods in told["paths"].items() for m in methods}
    assert described == {(r.method, r.path) for r in ROUTES}
    get = told["paths"]["/api/things/{id}"]["get"]
    assert [(p["name"], p["in"], p["required"]) for p in get["parameters"]] == [
        ("id", "path", True),
        ("limit", "query", False),
    ]
    assert get["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Thing"
    }
    assert told["paths"]["/api/things"]["post"]["requestBody"]["required"] is True
    assert told["paths"]["/api/things/{id}"]["delete"]["x-roles"] == ["admin"]
