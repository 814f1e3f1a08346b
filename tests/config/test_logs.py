"""The log: one line a record, whatever callers put into their names."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from config import logs


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    noisy = {name: logging.getLogger(name).level for name in ("asyncio", "aiohttp.access", "asyncpg")}
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("aiohttp.server").filters.clear()
    for name, was in noisy.items():
        logging.getLogger(name).setLevel(was)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def written(form: str = "json", **options: Any) -> StringIO:
    out = StringIO()
    logs.set_up("info", form, stream=out, **options)
    return out


def test_a_record_is_one_json_line_with_its_keys() -> None:
    out = written()
    structlog.contextvars.bind_contextvars(call_id="c1", interaction_id="i1")
    structlog.get_logger("routing.desk").info("offer made", advisor="lea", waited_s=3.5)
    record = json.loads(out.getvalue())
    assert out.getvalue().count("\n") == 1
    assert record["event"] == "offer made"
    assert (record["call_id"], record["interaction_id"], record["advisor"]) == ("c1", "i1", "lea")
    assert (record["level"], record["logger"]) == ("info", "routing.desk")
    assert record["time"].endswith("Z")


def test_the_standard_library_logs_in_the_same_form() -> None:
    out = written()
    logging.getLogger("somebody.else").warning("it %s", "broke", extra={"pii_number": "+33"})
    record = json.loads(out.getvalue())
    assert (record["event"], record["logger"], record["pii_number"]) == ("it broke", "somebody.else", "+33")


@pytest.mark.parametrize("form", ["json", "text"])
@given(name=st.text(st.characters(exclude_categories=[]), max_size=30))
def test_no_name_can_forge_a_line_or_turn_it_around(form: str, name: str) -> None:
    out = written(form)
    structlog.get_logger().info("call came in", pii_name=name + "\r\nready http=\u202egnp\x1b[31m\u2028")
    text = out.getvalue()
    assert len(text.splitlines()) == 1
    assert not logs._UNSAFE.search(text.rstrip("\n"))
    text.encode("utf-8")


def test_an_exception_stays_on_its_line() -> None:
    out = written()
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        structlog.get_logger().exception("a call failed")
    record = json.loads(out.getvalue())
    assert out.getvalue().count("\n") == 1
    assert "ValueError: bad" in record["exception"]


def test_secrets_are_hidden_and_personal_data_can_be_left_out() -> None:
    out = written(keep_personal=False)
    structlog.get_logger().info("signed in", password="hush", token="hush", pii_name="Léa", advisor="lea")
    assert "hush" not in out.getvalue()
    assert "Léa" not in out.getvalue()
    assert json.loads(out.getvalue())["advisor"] == "lea"


def test_levels_below_the_wanted_one_are_not_written() -> None:
    out = written()
    structlog.get_logger().debug("too fine")
    assert out.getvalue() == ""


async def test_what_nobody_handles_is_logged_and_counted() -> None:
    out = written()
    loop = asyncio.get_running_loop()
    before = logs.UNEXPECTED.labels("event_loop")._value.get()
    logs.watch(loop)
    try:
        done = asyncio.Event()

        def broken() -> None:
            done.set()
            raise RuntimeError("nobody handles this")

        loop.call_soon(broken)
        await asyncio.wait_for(done.wait(), 5)
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert "nobody handles this" in json.loads(out.getvalue())["exception"]
    assert logs.UNEXPECTED.labels("event_loop")._value.get() == before + 1


FINE = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


async def _send_beyond(port: int) -> bytes:
    """A good request, and after its answer more bytes than its Content-Length: what the server says to those."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(FINE)
        await asyncio.wait_for(reader.readuntil(b"404: Not Found"), 20)
        writer.write(b"\x00\x01surplus bytes\r\n\r\n")
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
        await writer.wait_closed()


def _malformed() -> float:
    return sum(
        sample.value
        for metric in logs.MALFORMED.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


async def test_a_body_that_is_not_packed_as_it_says_is_no_error_of_ours() -> None:
    out = written()
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
        head = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Encoding: deflate\r\nContent-Length: 9\r\n\r\n"
        writer.write(head)
        await asyncio.wait_for(reader.readuntil(b"404: Not Found"), 20)
        writer.write(b"\x1f\x8b no zip")
        await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
    finally:
        await runner.cleanup()
    assert [line for line in out.getvalue().splitlines() if json.loads(line)["level"] != "warning"] == []
    assert out.getvalue(), "it was told"


async def test_bytes_that_are_no_http_are_one_warning_and_a_count_however_many_come() -> None:
    out = written()
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        before, began_s = _malformed(), asyncio.get_running_loop().time()
        for _ in range(5):
            assert b"400 Bad Request" in await _send_beyond(port)
        took_s = asyncio.get_running_loop().time() - began_s
        assert _malformed() == before + 5
    finally:
        await runner.cleanup()
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert records
    assert len(records) <= 1 + took_s / logs.MALFORMED_EVERY_S
    for record in records:
        assert (record["event"], record["level"]) == ("a request was no HTTP", "warning")
        assert record["kind"].startswith("Bad")
        assert "exception" not in record
        assert "surplus" not in str(record)


def test_other_errors_of_the_web_server_keep_their_trace() -> None:
    out = written()
    try:
        raise ValueError("ours")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Unhandled exception")
    record = json.loads(out.getvalue())
    assert record["level"] == "error"
    assert "ValueError: ours" in record["exception"]
