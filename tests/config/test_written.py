"""What the written channels of a server keep on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.written import KEY_BYTES, own_key


def test_a_server_makes_its_key_once_and_for_itself_alone(tmp_path: Path) -> None:
    key = own_key(tmp_path)
    assert len(key) == KEY_BYTES
    assert own_key(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("stopped", ["write", "fsync", "replace"])
def test_a_stop_while_the_key_is_made_leaves_none_and_the_next_start_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as there:
        if stopped == "write":
            (tmp_path / "key.new").write_bytes(b"cut")
        else:
            there.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[stopped], stop)
            with pytest.raises(KeyboardInterrupt):
                own_key(tmp_path)
        assert not (tmp_path / "key").exists()
    key = own_key(tmp_path)
    assert len(key) == KEY_BYTES
    assert own_key(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
