"""The log: one line a record, a constant sentence with keys, as JSON or as text on a terminal.

Bind `call_id` and `interaction_id` with `structlog.contextvars.bind_contextvars`; every line of that task carries them.
Personal data stands only under keys that begin with `pii_`; secrets never do.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from prometheus_client import Counter
from structlog.typing import EventDict, Processor, WrappedLogger

UNEXPECTED = Counter(
    "monofil_unexpected_errors_total", "Errors that nobody handled, by where they surfaced.", ["where"]
)
MALFORMED = Counter(
    "monofil_http_malformed_total", "Requests that are no HTTP, by what is wrong with them.", ["kind"]
)

PERSONAL = "pii_"
_SECRET = re.compile(r"pass(word|wd)?|secret|token|cookie|authorization|ha1|csrf|dsn", re.IGNORECASE)
# C0 and C1 controls, line separators, marks that turn the direction of writing, lone surrogates: a caller's display
# name must not be able to write lines or colours into the log
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_DEPTH = 6
MALFORMED_EVERY_S = 1.0


def escape(text: str) -> str:
    """`text` with everything that could forge a line, or turn it around, written as \\uXXXX."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _safe(value: Any, depth: int = _DEPTH) -> Any:
    if isinstance(value, str):
        return escape(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, bytes):
        return escape(value.decode("utf-8", "backslashreplace"))
    if depth and isinstance(value, Mapping):
        return {escape(str(key)): _safe(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_safe(item, depth - 1) for item in value]
    return escape(str(value))


class _Clean:
    """Hides secrets, escapes what is unsafe, and leaves personal data out where that was asked for."""

    def __init__(self, keep_personal: bool) -> None:
        self.keep_personal = keep_personal

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> MutableMapping[str, Any]:
        clean: dict[str, Any] = {}
        for key, value in event.items():
            if key in ("_record", "_from_structlog"):  # structlog's own, taken away by its formatter
                clean[key] = value
            elif _SECRET.fullmatch(key):
                clean[key] = "(hidden)"
            elif key.startswith(PERSONAL) and not self.keep_personal:
                clean[key] = "(left out)"
            elif key == "exception":
                clean[key] = "\n".join(map(escape, str(value).splitlines()))
            else:
                clean[key] = _safe(value)
        return clean


def _exception_text(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    found = event.pop("exc_info", None)
    if isinstance(found, BaseException):
        found = (type(found), found, found.__traceback__)
    elif found is True:
        found = sys.exc_info()
    if isinstance(found, tuple) and found[0] is not None:
        event["exception"] = "".join(traceback.format_exception(*found, limit=-20)).rstrip()
    return event


class _Malformed(logging.Filter):
    """Bytes from a stranger that are no HTTP become one warning without a trace, at most one a second and kind."""

    def __init__(self) -> None:
        super().__init__()
        self._told_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        from aiohttp.http_exceptions import HttpProcessingError  # only who serves pays for it
        from aiohttp.web_protocol import RequestPayloadError

        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | RequestPayloadError):
            return True
        kind = type(error).__name__
        MALFORMED.labels(kind).inc()
        if record.created - self._told_s.get(kind, 0.0) < MALFORMED_EVERY_S:
            return False
        self._told_s[kind] = record.created
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args, record.exc_info = "a request was no HTTP", (), None
        record.kind = kind
        return record.levelno >= logging.getLogger(record.name).getEffectiveLevel()


def set_up(
    level: str = "info", form: str = "auto", *, keep_personal: bool = True, stream: TextIO | None = None
) -> None:
    """Send structlog and the standard library's logging to `stream` (standard error). May be called again."""
    out = stream or sys.stderr
    text = form == "text" or (form == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _exception_text,
    ]
    last: Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="time", pad_event_to=44)
        if text
        else structlog.processors.JSONRenderer(ensure_ascii=False, sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                _Clean(keep_personal),
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    server = logging.getLogger("aiohttp.server")
    server.filters[:] = [_Malformed()]
    for noisy in ("asyncio", "aiohttp.access", "asyncpg"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Log and count what nobody awaited or handled in `loop`, instead of printing a traceback."""
    log = structlog.get_logger("config.logs")

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        UNEXPECTED.labels("event_loop").inc()
        what = {key: repr(value) for key, value in context.items() if key not in ("exception", "message")}
        log.error(
            "unhandled in the event loop",
            reason=context.get("message", ""),
            exc_info=context.get("exception"),
            **what,
        )

    loop.set_exception_handler(handle)
