"""Passwords that are made up."""

from __future__ import annotations

from cti.aio.sessions import LETTERS, made_up_password


def test_made_up_passwords_differ_and_can_be_read_out() -> None:
    made = {made_up_password() for _ in range(200)}
    assert len(made) == 200
    assert all(len(word) == 23 and set(word) <= {*LETTERS, "-"} for word in made)
    assert not set("il1o0") & set(LETTERS)
