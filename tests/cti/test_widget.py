"""The chat on other people's pages: how large its built script is, and what it must not contain."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

DIST = Path(__file__).parents[2] / "cti" / "console" / "dist"
MOST_BYTES = 25_000


def test_the_widget_is_small() -> None:
    assert len((DIST / "widget.js").read_bytes()) < MOST_BYTES


def test_the_packed_widget_is_the_same() -> None:
    assert gzip.decompress((DIST / "widget.js.gz").read_bytes()) == (DIST / "widget.js").read_bytes()


def test_the_widget_needs_no_more_of_a_content_policy_than_its_own_address() -> None:
    """Words become text nodes, never HTML; styles come by adoptedStyleSheets; nothing is evaluated."""
    script = (DIST / "widget.js").read_text(encoding="utf-8")
    refused = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\("
        r"|new Function|<style|\.cssText|document\.cookie"
    )
    assert re.findall(refused, script) == []
    assert "adoptedStyleSheets" in script
