"""Sheets opened again as a spreadsheet opens them: every text is there, and none calculates."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.sheet import BOM, FORMULA, sheet


def opened(file: bytes, separator: str = ",") -> list[list[str]]:
    """As a spreadsheet reads it."""
    text = file.decode("utf-8")
    assert text.startswith(BOM)
    return list(csv.reader(io.StringIO(text.removeprefix(BOM), newline=""), delimiter=separator))


@pytest.mark.parametrize(
    "text",
    [
        "=HYPERLINK(\"http://evil.example\",\"x\")", "+33612345678", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1",
        "＝1+1", "＋1", "－1", "＠SUM(A1)",
    ],
)  # fmt: skip
def test_what_a_spreadsheet_would_calculate_is_text(text: str) -> None:
    [_, [cell, after]] = opened(sheet(("words", "more"), [(text, "x")]))
    assert (cell, after) == ("'" + text, "x")


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5), st.sampled_from(["en", "fr"]))
def test_every_text_is_read_back_and_none_is_a_formula(rows: list[tuple[str, str]], language: str) -> None:
    _, *found = opened(sheet(("a", "b"), rows, language), {"en": ",", "fr": ";"}[language])
    assert [tuple(cell.removeprefix("'") for cell in row) for row in found] == [
        tuple(text.removeprefix("'") for text in row) for row in rows
    ]
    assert not any(cell.lstrip().startswith(FORMULA) for row in found for cell in row)


def test_numbers_and_times_stay_what_they_are() -> None:
    [_, row] = opened(
        sheet(("n", "x", "at", "none"), [(-3, -0.5, datetime(2026, 11, 22, 8, 5, tzinfo=UTC), None)])
    )
    assert row == ["-3", "-0.5", "2026-11-22 08:05:00+00:00", ""]
