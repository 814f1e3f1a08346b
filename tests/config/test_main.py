"""The command line from outside: exit codes, and one sentence for what goes wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from config.failures import CannotStart, Failure, binding, sentence
from config.settings import load

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "site.example.yaml"


def monofil(*arguments: str, typed: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MONOFIL_")}
    return subprocess.run(
        [sys.executable, "-m", "config", *arguments],
        cwd=ROOT,
        env={**clean, "LC_ALL": "C.UTF-8", **environ},
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
    )


def failed(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def test_check_tells_that_the_example_is_right() -> None:
    done = monofil("check", str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    assert "no mistake" in done.stdout


def test_check_tells_mistakes_as_sentences_and_as_json_with_exit_code_2(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("organisation: {id: a, name: A}\nqueus: {}\n", encoding="utf-8")
    told = failed(monofil("check", str(site)), 2)
    assert told.startswith(f"{site}:2: queus: the key «queus» is not known here")
    assert told.endswith("did you mean «queues»?")
    assert "vouliez-vous dire" in failed(monofil("check", str(site), "--lang", "fr"), 2)
    assert "vouliez-vous dire" in failed(monofil("check", str(site), LC_ALL="fr_FR.UTF-8"), 2)
    (mistake,) = json.loads(monofil("check", str(site), "--json").stdout)
    assert (mistake["line"], mistake["code"]) == (2, "unknown_key")


@pytest.mark.parametrize(
    "arguments", [["frob"], ["user", "passwd"], ["check"], ["bench", "nothing"], ["check", "/no.yaml"]]
)
def test_wrong_usage_is_exit_code_2_without_a_traceback(arguments: list[str]) -> None:
    assert failed(monofil(*arguments), 2)


def test_an_unknown_setting_stops_every_command() -> None:
    told = failed(monofil("settings", MONOFIL_HTTP_PROT="1"), 2)
    assert told == "monofil: MONOFIL_HTTP_PROT is not a setting: did you mean MONOFIL_HTTP_PORT?"


def test_settings_are_printed_for_people_and_for_programs() -> None:
    assert "MONOFIL_RTP_PORTS" in monofil("settings").stdout
    described = json.loads(
        monofil("settings", "--json", MONOFIL_DATABASE_URL="postgresql://u:hush@h/d").stdout
    )
    values = {item["variable"]: item["value"] for item in described}
    assert values["MONOFIL_DATABASE_URL"] == "(set, hidden)"
    assert values["MONOFIL_HTTP_PORT"] == "8080"


def test_version_names_the_parts() -> None:
    told = json.loads(monofil("version", "--json").stdout)
    assert set(told) == {"monofil", "python", "postgresql", "machine"}


def test_tree_check_tells_mistakes_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("tree: t\nstart: a\nnodes:\n  a: {kind: say, say: hi, next: b}\n", encoding="utf-8")
    assert f"{file}:4" in failed(monofil("tree", "check", str(file)), 2)


def test_a_database_that_is_down_is_one_sentence_without_its_password() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        url = f"postgresql://monofil:hush@127.0.0.1:{port}/monofil"
        told = failed(monofil("db", "status", MONOFIL_DATABASE_URL=url), 2)
    assert told.splitlines() == [
        f"monofil: The database 127.0.0.1:{port}/monofil can't be reached: start it, or mend MONOFIL_DATABASE_URL."
    ]


def test_the_status_of_the_database_is_told_to_people_and_programs(database: str) -> None:
    told = monofil("db", "status", MONOFIL_DATABASE_URL=database)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("PostgreSQL ")
    assert " MB, 0 events" in told.stdout
    assert "0001 truth: applied" in told.stdout
    found = json.loads(monofil("db", "status", "--json", MONOFIL_DATABASE_URL=database).stdout)
    assert (found["events"], found["newest_event_at"]) == (0, None)
    assert found["migrations"][0] == {"number": 1, "name": "truth", "applied": True}


def test_apply_refuses_a_file_with_mistakes_before_it_touches_the_database(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("organisation: {id: a}\n", encoding="utf-8")
    told = failed(monofil("apply", str(site), MONOFIL_DATABASE_URL="postgresql://127.0.0.1:1/no"), 2)
    assert told.splitlines()[-1] == f"monofil: {site} has 1 mistake: mend what is listed above."


def test_a_password_on_standard_input_must_not_be_short() -> None:
    assert "at least 12 characters" in failed(monofil("user", "passwd", "lea", "--stdin", typed="short\n"), 2)


def test_a_taken_port_names_itself_and_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            socket.socket() as second,
            pytest.raises(CannotStart) as caught,
            binding("HTTP", "127.0.0.1", port, "MONOFIL_HTTP_PORT"),
        ):
            second.bind(("127.0.0.1", port))
    assert str(caught.value) == (
        f"HTTP can't listen on 127.0.0.1 port {port}, which another program uses: "
        "stop that program or set MONOFIL_HTTP_PORT to a free port."
    )
    assert caught.value.code == 2


def test_an_address_of_another_machine_names_the_host_setting() -> None:
    with (
        socket.socket() as odd,
        pytest.raises(CannotStart, match="set MONOFIL_SIP_HOST to one of its own"),
        binding("SIP", "192.0.2.1", 5060, "MONOFIL_SIP_PORT"),
    ):
        odd.bind(("192.0.2.1", 5060))


SETTINGS = load({"MONOFIL_DATABASE_URL": "postgresql://u:hush@db.example/hot?x=1"})


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Failure("It failed."), "It failed."),
        (asyncpg.InvalidPasswordError("no"), "refuses the user or the password"),
        (asyncpg.InvalidCatalogNameError("no"), "no database db.example/hot: create it"),
        (asyncpg.UndefinedTableError("no"), "monofil db upgrade"),
        (ConnectionRefusedError(111, "no"), "db.example/hot can't be reached"),
        (OSError(98, "bind on address ('0.0.0.0', 5060): in use"), "set MONOFIL_SIP_PORT to a free port"),
        (OSError(28, "No space left on device"), "make room"),
        (PermissionError(13, "Permission denied", "/srv"), "/srv can't be used"),
        (ExceptionGroup("tasks", [asyncpg.InvalidPasswordError("no")]), "refuses the user"),
    ],
)
def test_what_lies_outside_the_program_is_one_sentence(error: BaseException, words: str) -> None:
    told = sentence(error, SETTINGS)
    assert told is not None
    assert words in told[0]
    assert "hush" not in told[0]
    assert "\n" not in told[0]


def test_our_own_mistakes_keep_their_traceback() -> None:
    assert sentence(KeyError("x"), SETTINGS) is None
    assert sentence(ExceptionGroup("tasks", [Failure("known"), KeyError("x")]), SETTINGS) is None
