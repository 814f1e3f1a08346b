"""What all HTTP here is made with: typed routes, their errors (RFC 9457), their OpenAPI 3.1 description.

A package exports `ROUTES`, a tuple of Route made with `@route`; `application` joins them. A handler takes an
Ask, then its path and query parameters by name, then `body`; annotations say how each is read, the return
annotation what goes out (None: 204).

Checks, in order: path and method, size, who is asking (401), Origin and CSRF token (403), roles (403), shape
of parameters and body (422), the handler. Of a failure of ours only its request id gets out.
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import json
import re
import secrets
import types
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from aiohttp import hdrs, web
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

log = structlog.get_logger(__name__)

EVERYONE = frozenset({"advisor", "supervisor", "admin"})
SUPERVISORS = frozenset({"supervisor", "admin"})
ADMINS = frozenset({"admin"})

SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
BODY_CAP_BYTES = 1 << 20  # a site file is the largest thing anybody sends: tens of kilobytes
NESTING_CAP = 64

# The console's scripts and styles are files of ours; nothing inline, nobody frames us.
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; frame-src 'self'; "
        "frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, as the session proves. `csrf` must come back in X-CSRF-Token with unsafe methods."""

    login: str
    roles: frozenset[str]
    organisation: UUID
    csrf: str


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a request: where, what was expected there, and (short) what came."""

    field: str
    expected: str
    got: str | None = None


class Problem(Exception):
    """Why not (RFC 9457). `kind` is a stable word, `detail` a sentence with the cure."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """`more` are further members of the document (RFC 9457 3.2), as JSON."""
        super().__init__(kind)
        self.status, self.kind, self.detail = status, kind, detail
        self.errors, self.headers, self.more = tuple(errors), dict(headers or {}), dict(more or {})

    def response(self, request_id: str = "") -> web.Response:
        document: dict[str, Any] = {
            **self.more,
            "type": f"/problems/{self.kind}",
            "title": self.kind.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            "errors": [
                {"field": e.field, "expected": e.expected, **({"got": e.got} if e.got is not None else {})}
                for e in self.errors
            ],
        }
        if request_id:
            document["instance"] = f"urn:request:{request_id}"
        return web.Response(
            status=self.status,
            body=json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"),
            content_type="application/problem+json",
            headers=self.headers,
        )


Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as a handler sees it; `the(Kind)` is the one thing of that type given to `application`."""

    request: web.Request
    caller: Caller | None
    things: Mapping[type, Any]

    def the(self, kind: type[Thing]) -> Thing:
        return typing.cast(Thing, self.things[kind])

    @property
    def who(self) -> Caller:
        assert self.caller is not None, "a public route has no caller"
        return self.caller


Handler = Callable[..., Awaitable[Any]]
Identify = Callable[[web.Request], Awaitable[Caller | None]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """`argument` is the handler's name for it: a word of Python has a stroke after it there (`from_`)."""

    name: str
    argument: str
    place: str  # path | query
    adapter: TypeAdapter[Any]
    required: bool
    default: Any = None


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path: who may use it, what it takes, what it gives."""

    method: str
    path: str
    handler: Handler
    roles: frozenset[str] | None  # None: nobody needs to be signed in
    csrf: bool
    parameters: tuple[Parameter, ...]
    body: TypeAdapter[Any] | None
    body_required: bool
    result: TypeAdapter[Any] | None  # None: no content, or `content` says what
    status: int
    content: str | None
    problems: tuple[int, ...]
    upload_bytes: int | None = None  # takes multipart/form-data with one file, which may be so large
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.handler) or self.handler.__name__).split("\n")[0]


def route(
    method: str,
    path: str,
    *,
    roles: frozenset[str] | None = EVERYONE,
    status: int = 200,
    csrf: bool = True,
    content: str | None = None,
    returns: Any = None,
    problems: Iterable[int] = (),
    headers: Mapping[str, str] | None = None,
    upload_bytes: int | None = None,
) -> Callable[[Handler], Route]:
    """Make a Route of a handler.

    A handler that returns a Response of its own says in `content` its media type, or in `returns` its shape.
    """

    def make(handler: Handler) -> Route:
        hints = typing.get_type_hints(handler, include_extras=True)
        in_path = set(re.findall(r"{(\w+)(?::[^}]*)?}", path))
        parameters: list[Parameter] = []
        body: TypeAdapter[Any] | None = None
        body_required = False
        for name, parameter in list(inspect.signature(handler).parameters.items())[1:]:
            adapter: TypeAdapter[Any] = TypeAdapter(hints[name])
            required = parameter.default is parameter.empty
            if name == "body":
                body, body_required = adapter, required
            else:
                place = "path" if name in in_path else "query"
                default = None if required else parameter.default
                parameters.append(Parameter(name.rstrip("_"), name, place, adapter, required, default))
        shape = returns or hints.get("return", types.NoneType)
        plain = shape is not types.NoneType and content is None
        return Route(
            method=method,
            path=path,
            handler=handler,
            roles=roles,
            csrf=csrf,
            parameters=tuple(parameters),
            body=body,
            body_required=body_required,
            result=TypeAdapter(shape) if plain else None,
            status=status if plain or content else 204,
            content=content,
            problems=tuple(problems),
            upload_bytes=upload_bytes,
            headers=dict(headers or {}),
        )

    return make


def routes_in(module: types.ModuleType) -> tuple[Route, ...]:
    """Those that a module has made so far, in the order in which they stand there."""
    return tuple(value for value in vars(module).values() if isinstance(value, Route))


# What was expected, by pydantic's type of error; {names} are those of its context.
EXPECTED: Mapping[str, Mapping[str, str]] = {
    "wrong_field": {"en": "{en}", "fr": "{fr}"},
    "missing": {"en": "a value; this field must be given", "fr": "une valeur ; ce champ est obligatoire"},
    "extra_forbidden": {
        "en": "nothing; this field is not known here",
        "fr": "rien ; ce champ est inconnu ici",
    },
    "string_type": {"en": "text", "fr": "du texte"},
    "string_too_short": {
        "en": "at least {min_length} characters",
        "fr": "au moins {min_length} caractères",
    },
    "string_too_long": {"en": "at most {max_length} characters", "fr": "au plus {max_length} caractères"},
    "string_pattern_mismatch": {
        "en": "text of the form {pattern}",
        "fr": "un texte de la forme {pattern}",
    },
    "int_parsing": {"en": "a whole number", "fr": "un nombre entier"},
    "int_type": {"en": "a whole number", "fr": "un nombre entier"},
    "int_from_float": {"en": "a whole number", "fr": "un nombre entier"},
    "float_type": {"en": "a number", "fr": "un nombre"},
    "float_parsing": {"en": "a number", "fr": "un nombre"},
    "finite_number": {"en": "a finite number", "fr": "un nombre fini"},
    "bool_type": {"en": "true or false", "fr": "vrai ou faux"},
    "bool_parsing": {"en": "true or false", "fr": "vrai ou faux"},
    "uuid_parsing": {"en": "an id (UUID)", "fr": "un identifiant (UUID)"},
    "uuid_type": {"en": "an id (UUID)", "fr": "un identifiant (UUID)"},
    "greater_than_equal": {"en": "{ge} or more", "fr": "{ge} ou plus"},
    "greater_than": {"en": "more than {gt}", "fr": "plus que {gt}"},
    "less_than_equal": {"en": "{le} or less", "fr": "{le} ou moins"},
    "literal_error": {"en": "one of {expected}", "fr": "l’un de {expected}"},
    "enum": {"en": "one of {expected}", "fr": "l’un de {expected}"},
    "list_type": {"en": "a list", "fr": "une liste"},
    "tuple_type": {"en": "a list", "fr": "une liste"},
    "dict_type": {"en": "an object", "fr": "un objet"},
    "model_type": {"en": "an object", "fr": "un objet"},
    "dataclass_type": {"en": "an object", "fr": "un objet"},
    "json_invalid": {"en": "JSON (RFC 8259)", "fr": "du JSON (RFC 8259)"},
}


def language_of(request: web.Request) -> str:
    """fr or en, whichever Accept-Language names first; en when neither."""
    for part in request.headers.get(hdrs.ACCEPT_LANGUAGE, "").lower().split(","):
        if part.strip()[:2] in {"fr", "en"}:
            return part.strip()[:2]
    return "en"


def field_errors(problem: ValidationError, lang: str, prefix: tuple[str, ...] = ()) -> list[FieldError]:
    errors = []
    for row in problem.errors(include_url=False):
        words = EXPECTED.get(row["type"], {}).get(lang)
        try:
            expected = words.format(**row.get("ctx", {})) if words else row["msg"]
        except (KeyError, IndexError):
            expected = row["msg"]
        got = None if row["type"] == "missing" else repr(row["input"])[:80]
        where = [*prefix, *map(str, row["loc"])]
        if row["type"] == "wrong_field":  # said by a rule about the whole
            where.append(row["ctx"]["field"])
            got = None
        errors.append(FieldError(".".join(where), expected, got))
    return errors


def _clean(value: Any, depth: int = 0) -> bool:
    """No NUL in any text (PostgreSQL keeps none), no nesting that only serves to exhaust somebody."""
    if depth > NESTING_CAP:
        return False
    if isinstance(value, str):
        return "\x00" not in value
    if isinstance(value, dict):
        return all(_clean(k, depth + 1) and _clean(v, depth + 1) for k, v in value.items())
    if isinstance(value, list):
        return all(_clean(v, depth + 1) for v in value)
    return True


async def _read_body(r: Route, request: web.Request, lang: str) -> Any:
    assert r.body is not None
    raw = await request.read()
    if not raw.strip():
        if r.body_required:
            raise Problem(
                422, "invalid", "The body is empty; send JSON.", errors=[FieldError("body", "JSON")]
            )
        return None
    if request.content_type != "application/json":
        raise Problem(415, "unsupported-media-type", "Send the body as application/json.")
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        expected = EXPECTED["json_invalid"][lang]
        raise Problem(
            422, "invalid", "The body is not JSON.", errors=[FieldError("body", f"{expected}: {error}")]
        ) from None
    if not _clean(value):
        raise Problem(
            422, "invalid", errors=[FieldError("body", "text without NUL characters, not deeply nested")]
        )
    try:
        # JSON mode, so that strict types accept what JSON can say (ids as text, lists as tuples).
        return r.body.validate_json(raw)
    except ValidationError as error:
        raise Problem(
            422, "invalid", "Some fields are not as expected.", errors=field_errors(error, lang)
        ) from None


def _read_parameters(r: Route, request: web.Request, lang: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for p in r.parameters:
        raw = request.match_info.get(p.name) if p.place == "path" else request.query.get(p.name)
        if raw is None:
            if p.required:
                errors.append(FieldError(p.name, EXPECTED["missing"][lang]))
            values[p.argument] = p.default
            continue
        if "\x00" in raw or any("\ud800" <= c <= "\udfff" for c in raw):
            errors.append(FieldError(p.name, "text without NUL characters, in UTF-8"))
            continue
        try:
            values[p.argument] = p.adapter.validate_strings(raw)
        except ValidationError as error:
            errors += field_errors(error, lang, (p.name,))
    if errors:
        raise Problem(422, "invalid", "Some parameters are not as expected.", errors=errors)
    return values


def same_origin(request: web.Request, origins: frozenset[str]) -> bool:
    """Whether the Origin header is the one this page was served from, or one of the site's public origins."""
    origin = request.headers.get(hdrs.ORIGIN, "")
    if not origin or origin == "null":
        return False
    if origin.rstrip("/").lower() in origins:
        return True
    parts = urlsplit(origin)
    return parts.scheme in {"http", "https"} and parts.netloc.lower() == request.host.lower()


def guard(r: Route, request: web.Request, caller: Caller | None, origins: frozenset[str]) -> None:
    """Raise the Problem that stands before the shape of the request is even looked at."""
    unsafe = request.method not in SAFE_METHODS
    if r.roles is None:
        # Signing in: browsers always send Origin with a POST, so a foreign one is somebody else's page.
        if unsafe and hdrs.ORIGIN in request.headers and not same_origin(request, origins):
            raise Problem(403, "foreign-origin", "This request comes from another site's page.")
        return
    if caller is None:
        raise Problem(401, "not-signed-in", "Sign in first: POST /api/v1/session.")
    if unsafe and r.csrf:
        if not same_origin(request, origins):
            raise Problem(403, "foreign-origin", "Send Origin, and send it from this server's own page.")
        if not hmac.compare_digest(
            request.headers.get("X-CSRF-Token", "").encode("utf-8", "replace"), caller.csrf.encode()
        ):
            raise Problem(403, "csrf", "Send X-CSRF-Token with the value from the session answer.")
    if not (r.roles & caller.roles):
        raise Problem(403, "not-allowed", f"This needs one of these roles: {', '.join(sorted(r.roles))}.")


@dataclass(slots=True)
class Figures:
    """What the server counts about itself, for /metrics."""

    requests: dict[tuple[str, int], int] = field(default_factory=dict)
    failures: int = 0

    def count(self, method: str, status: int) -> None:
        key = (method if method in hdrs.METH_ALL else "other", status)
        self.requests[key] = self.requests.get(key, 0) + 1


FIGURES: web.AppKey[Figures] = web.AppKey("FIGURES", Figures)


def application(
    routes: Iterable[Route],
    *,
    identify: Identify,
    things: Mapping[type, Any] | None = None,
    origins: Iterable[str] = (),
    unavailable: tuple[type[Exception], ...] = (),
    title: str = "Monofil",
    version: str = "0.1.0",
    https: bool = False,
) -> web.Application:
    """An application of these routes, with /openapi.json.

    `origins`: further allowed ones (the public URL); `unavailable`: what a handler raises when a store is away.
    """
    away: tuple[type[Exception], ...] = (TimeoutError, ConnectionError, *unavailable)
    allowed = frozenset(o.rstrip("/").lower() for o in origins)
    owned = dict(things or {})
    figures = Figures()

    @web.middleware
    async def outermost(request: web.Request, handler: Callable[..., Awaitable[Any]]) -> web.StreamResponse:
        request_id = secrets.token_hex(8)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                response = typing.cast(web.StreamResponse, await handler(request))
            except Problem as problem:
                response = problem.response(request_id)
            except web.HTTPException as error:
                response = _plain(error, request_id)
            except away as error:
                log.warning("a request met something that is not there", error=type(error).__name__)
                response = Problem(
                    503,
                    "unavailable",
                    "Something behind this is not answering; try again.",
                    headers={"Retry-After": "2"},
                ).response(request_id)
            except Exception:
                figures.failures += 1
                log.exception("a request failed", method=request.method, path=request.path)
                response = Problem(500, "failed", f"Our mistake. Quote {request_id}.").response(request_id)
        figures.count(request.method, response.status)
        if not response.prepared:
            dress(response, request, request_id)
        return response

    def dress(response: web.StreamResponse, request: web.Request, request_id: str) -> None:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        if https:
            response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        if request.path.startswith("/api/"):
            response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Request-ID"] = request_id

    app = web.Application(middlewares=[outermost], client_max_size=BODY_CAP_BYTES)
    app[FIGURES] = figures
    table = tuple(routes)

    def bind(r: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            most = r.upload_bytes or BODY_CAP_BYTES
            if (request.content_length or 0) > most:
                raise Problem(413, "too-large", f"At most {most} bytes.")
            caller = await identify(request) if r.roles is not None else None
            guard(r, request, caller, allowed)
            lang = language_of(request)
            values = _read_parameters(r, request, lang)
            if r.body is not None:
                values["body"] = await _read_body(r, request, lang)
            result = await r.handler(Ask(request, caller, owned), **values)
            if isinstance(result, web.StreamResponse):
                return result
            if r.result is None:
                return web.Response(status=204)
            body = r.result.dump_json(result, by_alias=True)
            return web.Response(
                status=r.status, body=body, content_type="application/json", headers=r.headers
            )

        return serve

    asked_first = asyncio.Lock()
    description = ""

    async def describe(_: web.Request) -> web.Response:
        """Made when it is first asked for: it takes longer than the rest of an application, and few ask."""
        nonlocal description
        async with asked_first:
            if not description:
                made = asyncio.to_thread(lambda: json.dumps(openapi(table, title=title, version=version)))
                description = await made
        return web.json_response(text=description)

    for r in table:
        app.router.add_route(r.method, r.path, bind(r))
    app.router.add_route(hdrs.METH_GET, "/openapi.json", describe)
    return app


def _plain(error: web.HTTPException, request_id: str) -> web.StreamResponse:
    """aiohttp's own refusals (no such path, wrong method, too large) in our clothes; redirects as are."""
    if error.status < 400:
        return error
    kind = {404: "not-found", 405: "wrong-method", 413: "too-large"}.get(error.status, "refused")
    headers = {str(n): error.headers[n] for n in (hdrs.ALLOW,) if n in error.headers}
    return Problem(error.status, kind, error.reason, headers=headers).response(request_id)


_PROBLEM_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "expected"],
                "properties": {
                    "field": {"type": "string"},
                    "expected": {"type": "string"},
                    "got": {"type": "string"},
                },
            },
        },
    },
}


def openapi(routes: Sequence[Route], *, title: str, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes."""
    inputs: list[tuple[tuple[int, str], Any, TypeAdapter[Any]]] = []
    for n, r in enumerate(routes):
        inputs += [((n, p.name), "validation", p.adapter) for p in r.parameters]
        if r.body is not None:
            inputs.append(((n, "body!"), "validation", r.body))
        if r.result is not None:
            inputs.append(((n, "result!"), "serialization", r.result))
    schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    paths: dict[str, dict[str, Any]] = {}
    for n, r in enumerate(routes):
        operation: dict[str, Any] = {
            "summary": r.summary,
            "operationId": r.handler.__name__,
            "parameters": [
                {
                    "name": p.name,
                    "in": p.place,
                    "required": p.required or p.place == "path",
                    "schema": schemas[((n, p.name), "validation")],
                }
                for p in r.parameters
            ],
        }
        doc = inspect.getdoc(r.handler)
        if doc and "\n" in doc:
            operation["description"] = doc
        if r.body is not None:
            operation["requestBody"] = {
                "required": r.body_required,
                "content": {"application/json": {"schema": schemas[((n, "body!"), "validation")]}},
            }
        if r.upload_bytes is not None:
            form = {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
            operation["requestBody"] = {
                "required": True,
                "content": {"multipart/form-data": {"schema": form}},
            }
        answer: dict[str, Any] = {"description": "as asked"}
        if r.content is not None:
            answer["content"] = {r.content: {}}
        elif r.result is not None:
            answer["content"] = {"application/json": {"schema": schemas[((n, "result!"), "serialization")]}}
        responses: dict[str, Any] = {str(r.status): answer}
        expected = set(r.problems) | ({401} if r.roles is not None else set())
        expected |= {422} if r.parameters or r.body is not None else set()
        expected |= {413, 415, 422} if r.upload_bytes is not None else set()
        expected |= {413, 415} if r.body is not None else set()
        if r.method not in SAFE_METHODS or (r.roles is not None and r.roles != EVERYONE):
            expected.add(403)
        if any(p.place == "path" for p in r.parameters):
            expected.add(404)
        for status in sorted(expected | {503}):
            responses[str(status)] = {"$ref": "#/components/responses/Problem"}
        operation["responses"] = responses
        if r.roles is None:
            operation["security"] = []
        else:
            operation["x-roles"] = sorted(r.roles)
            if r.method not in SAFE_METHODS and r.csrf:
                operation["security"] = [{"session": [], "csrf": []}]
        path = re.sub(r"{(\w+):[^}]*}", r"{\1}", r.path)
        paths.setdefault(path, {})[r.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": title,
            "version": version,
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "paths": paths,
        "security": [{"session": []}],
        "components": {
            "schemas": {**definitions.get("$defs", {}), "Problem": dict(_PROBLEM_SCHEMA)},
            "responses": {
                "Problem": {
                    "description": "RFC 9457: why not, and what to do",
                    "content": {
                        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                    },
                }
            },
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": "monofil_session"},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
        },
    }
