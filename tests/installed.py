"""What `tests/run` installs: without it a test is skipped at a developer's desk, and fails in CI (`.ci/run`)."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")


def missing(what: str) -> NoReturn:
    """Skips the test for want of `what`, or fails it."""
    (pytest.fail if IN_CI else pytest.skip)(what)


def needs(program: str) -> pytest.MarkDecorator:
    """In CI the test runs without it, and fails by not finding it."""
    return pytest.mark.skipif(
        not IN_CI and not shutil.which(program), reason=f"{program} is not installed (tests/run installs it)"
    )
