"""Tables are taken away by the API and opened again: what strangers wrote in them calculates nothing."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from cti.sheet import FORMULA
from tests.cti.house import Browser, house
from tests.cti.test_threads import taken, words

EVIL = '=HYPERLINK("http://evil.example","cliquez")'


async def table(me: Browser, path: str, language: str = "en") -> list[dict[str, str]]:
    answer = await me.http.get(f"{me.base}/api/v1{path}", headers={"Accept-Language": language})
    assert (answer.status, answer.content_type) == (200, "text/csv"), await answer.text()
    assert "attachment" in answer.headers["Content-Disposition"]
    text = (await answer.read()).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if language == "fr" else ","))


def calculates(rows: list[dict[str, Any]]) -> list[str]:
    return [cell for row in rows for cell in row.values() if cell.lstrip().startswith(FORMULA)]


async def test_a_transcript_and_the_lists_of_figures_hold_no_formula(database: str, tmp_path: Path) -> None:
    async with house(database, tmp_path) as at:
        me = await at.browser("a1")
        since = at.line.clock.now().isoformat().replace("+00:00", "Z")
        chat = await taken(at, me, text=EVIL, name="@SUM(A1:A9)")
        status, _ = await me.ask("POST", f"/interactions/{chat}/messages", words("+1 pour vous"))
        assert status == 201
        case = (await me.get(f"/interactions/{chat}"))["case"]
        told = await table(me, f"/cases/{case}/transcript.csv", "fr")
        assert [(row["author"], row["text"]) for row in told] == [
            ("customer", "'" + EVIL),
            ("advisor", "'+1 pour vous"),
        ]
        assert not calculates(told)
        at.line.clock.pass_(60)
        interval = f"from={since}&to={at.line.clock.now().isoformat().replace('+00:00', 'Z')}"
        [row, total] = await table(me, f"/statistics.csv?{interval}")
        assert (row["queue"], row["channel"], row["received"], row["first_response.per_message.elapsed"]) == (
            "general",
            "messenger",
            "1",
            "0.0",
        )
        assert (total["queue"], total["received"]) == ("*", "1")
        [listed] = await table(me, f"/statistics/list.csv?{interval}&figure=received")
        assert (listed["id"], listed["contact"]) == (str(chat), "'@SUM(A1:A9)")
        assert not calculates([listed])
        assert (await me.ask("GET", f"/statistics/list.csv?{interval}&figure=odd"))[0] == 422
