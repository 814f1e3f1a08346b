"""Why something was not taken: a sentence in both languages, whatever is known of it."""

from __future__ import annotations

import re

import pytest

from cti.refusals import SENTENCES, sentence


@pytest.mark.parametrize("kind", sorted(SENTENCES))
def test_every_refusal_is_a_sentence_in_both_languages_with_the_same_places(kind: str) -> None:
    english, french = SENTENCES[kind]
    assert re.findall(r"{(\w+)}", english) == re.findall(r"{(\w+)}", french)
    for language in ("en", "fr"):
        told = sentence(kind, language)
        assert told.endswith((".", "?")) or "…" in told
        assert "{" not in told


def test_words_that_nobody_put_into_a_sentence_are_shown_as_they_are() -> None:
    assert sentence("odd-thing", "fr") == "odd thing"
