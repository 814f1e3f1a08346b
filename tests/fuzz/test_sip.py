"""A few seconds of mutations on every run; more by hand."""

from __future__ import annotations

import pytest

from tests.fuzz import sip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mutated_messages_bring_answers_or_silence_and_never_an_exception(seed: int) -> None:
    report = sip.run(seed, 2.0)
    print(report)
    assert report.messages > 500
    assert report.trouble == []
