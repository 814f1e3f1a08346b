"""Starts that must fail: one sentence that names the thing and the cure, exit code 2, nothing left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "site.example.yaml"


def refused(folder: Path, *arguments: str, **environ: str) -> str:
    """The last line that `monofil serve` says before it ends with 2."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MONOFIL_")}
    ours = {
        "MONOFIL_DATA_DIR": str(folder),
        "MONOFIL_HTTP_PORT": "0",
        "MONOFIL_SIP_PORT": "0",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        [sys.executable, "-m", "config", "serve", *arguments],
        cwd=ROOT, env={**clean, **ours, **environ}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "ready" not in done.stdout
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("what", "setting", "kind"),
    [
        ("HTTP", "MONOFIL_HTTP_PORT", socket.SOCK_STREAM),
        ("SIP", "MONOFIL_SIP_PORT", socket.SOCK_DGRAM),
        ("SIP", "MONOFIL_SIP_PORT", socket.SOCK_STREAM),
    ],
)
def test_a_port_that_is_taken_names_itself_and_its_setting(
    database: str, tmp_path: Path, what: str, setting: str, kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        environ = {"MONOFIL_DATABASE_URL": database, setting: str(port)}
        told = refused(tmp_path, str(EXAMPLE), **environ)
    assert f"port {port}, which another program uses" in told
    assert what in told
    assert told.endswith(f"set {setting} to a free port.")


def test_a_database_that_is_down_is_named_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}/monofil"
        told = refused(tmp_path, str(EXAMPLE), MONOFIL_DATABASE_URL=f"postgresql://monofil:hush@{address}")
    assert (
        told == f"monofil: The database {address} can't be reached: start it, or mend MONOFIL_DATABASE_URL."
    )


def test_a_site_file_with_a_mistake_is_refused_before_anything_starts(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("organisation: {id: a, nam: A}\n", encoding="utf-8")
    told = refused(tmp_path, str(site), MONOFIL_DATABASE_URL="postgresql://127.0.0.1:1/no")
    assert told == f"monofil: {site} has 2 mistakes: mend what is listed above."


def test_an_unknown_setting_stops_the_server(tmp_path: Path) -> None:
    assert "did you mean MONOFIL_DRAIN_S?" in refused(tmp_path, MONOFIL_DRAIN_SS="3")


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    told = refused(file, str(EXAMPLE))
    assert f"The data folder {file} can't be made" in told
    assert told.endswith("set MONOFIL_DATA_DIR to a folder that can.")


def test_sigterm_ends_a_server_that_still_waits_for_its_database(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        mute.settimeout(60)
        url = f"postgresql://monofil@127.0.0.1:{mute.getsockname()[1]}/monofil"
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MONOFIL_")}
        ours = {"MONOFIL_DATA_DIR": str(tmp_path), "MONOFIL_DATABASE_URL": url}
        with subprocess.Popen(
            [sys.executable, "-m", "config", "serve", str(EXAMPLE)],
            cwd=ROOT, env={**environ, **ours}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as server:  # fmt: skip
            line, _ = mute.accept()
            with line:
                server.send_signal(signal.SIGTERM)
                out, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
    assert "ready" not in out
    assert "Traceback" not in errors
