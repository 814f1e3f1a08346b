"""A table as a spreadsheet opens it: CSV (RFC 4180), in which no cell that somebody else wrote is a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

Cell = str | int | float | datetime | UUID | None

FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""A text that begins so, also behind blanks, is read as a formula by some spreadsheet (OWASP, CSV injection)."""
BOM = "\ufeff"  # without it Excel reads UTF-8 as the system's old code page
SEPARATOR = {"en": ",", "fr": ";"}  # where the comma is the decimal sign, Excel splits at semicolons


def safe(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would calculate it."""
    return "'" + text if text.startswith(FORMULA) or text.lstrip().startswith(FORMULA) else text


def _cell(value: Cell) -> str:
    match value:
        case None:
            return ""
        case str():
            return safe(value)
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case _:
            return str(value)


def sheet(head: Sequence[str], rows: Iterable[Sequence[Cell]], language: str = "en") -> bytes:
    """The file's bytes: UTF-8 with its mark, a row of headings, one line a row; numbers have a point."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=SEPARATOR[language])
    writer.writerow(head)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return (BOM + file.getvalue()).encode("utf-8")
