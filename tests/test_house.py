"""The rules of the house that can be tested, as tests."""

from __future__ import annotations

import ast
import gc
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from tests.installed import missing

ROOT = Path(__file__).parent.parent
PACKAGES = ("media", "softphone_bridge", "routing", "ivr", "cti", "config")
TOP = {
    *PACKAGES, "tests", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md",
    "requirements.lock", "requirements-dev.lock",
}  # fmt: skip


def committed() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        missing("git, or a checkout of it")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@cache
def parsed(file: Path) -> ast.Module:
    """The collector must not run meanwhile: a finaliser inside `ast.parse` makes CPython 3.11 raise SystemError."""
    gc.disable()
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    finally:
        gc.enable()


def sources(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if "node_modules" not in file.parts:
                yield file, parsed(file)


def texts() -> Iterator[tuple[Path, str]]:
    for file in committed():
        if "dist" in file.parts or file.suffix in (".wav", ".png", ".svg", ".br", ".gz"):
            continue
        yield file, file.read_text(encoding="utf-8")


def at(file: Path, line: int = 0) -> str:
    return f"{file.relative_to(ROOT)}:{line}"


def test_the_top_level_holds_what_it_should_and_no_more() -> None:
    found = {file.relative_to(ROOT).parts[0] for file in committed()}
    assert {name for name in found if not name.startswith(".")} <= TOP


def test_packages_import_only_from_below_and_wait_only_in_aio() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_no_committed_file_names_a_place_on_somebodys_machine() -> None:
    place = re.compile(
        r"(?<![\w.])(?:/(?:work|root|Users|mnt)/|/home/[a-z]|/opt/(?!monofil)|file:///(?!etc/))"
    )
    found = [
        f"{at(file, number)}: {line.strip()[:100]}"
        for file, text in texts()
        if file != Path(__file__) and "package-lock" not in file.name
        for number, line in enumerate(text.splitlines(), 1)
        if place.search(line)
    ]
    assert found == []


def test_lock_files_hold_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        told = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        assert [line for line in told if re.search(r"://|--index|--find-links|--trusted|\s@\s", line)] == []
        pinned = [line for line in told if line and not line[0].isspace()]
        assert all("==" in line for line in pinned)
    front = (ROOT / "cti" / "console" / "package-lock.json").read_text(encoding="utf-8")
    resolved = {entry.get("resolved", "") for entry in json.loads(front)["packages"].values()}
    assert {address for address in resolved if address} <= set(), "the front end's lock file names a registry"


def test_the_two_lock_files_agree() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(
            re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        )

    core, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {name: dev.get(name) for name in core} == core


FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|managers?|handlers?|services?|misc|common|stuff)(_|$)")
FORBIDDEN_CLASSES = re.compile(r"(Manager|Handler|Service|Helper|Utils?)$")


def test_nothing_is_called_manager_handler_service_helper_or_utils() -> None:
    found = [at(file) for file in committed() if FORBIDDEN_NAMES.search(file.stem.lower())]
    for file, tree in sources(*PACKAGES, "tests"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and FORBIDDEN_CLASSES.search(node.name):
                found.append(f"{at(file, node.lineno)}: {node.name}")
    assert [name for name in found if "console" not in name or name.endswith(".py")] == []


def test_a_file_opens_by_saying_what_it_is() -> None:
    found = [
        at(file)
        for file, tree in sources(*PACKAGES, "tests")
        if not ast.get_docstring(tree) and not (file.name == "__init__.py" and not tree.body)
    ]
    assert found == []


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func)


SLEEPS = re.compile(
    r"""\bsleep\((?!0\))                          # sleep(0) is a turn of the loop
    | \bcall_later\([^()]*\.set(_result)?\b      # and the same by other words
    | \bEvent\(\)\.wait\((?!\))""",
    re.VERBOSE,
)
PACED = {
    "tests/conftest.py": "whether threads and sockets of a test go away is told by nobody; at most two seconds",
    "tests/e2e/city.py": "the server looks at its shifted clock at its own pace",
    "tests/e2e/hotline.py": "between two questions to another program, which has no word for when it changes",
    "tests/fakes/cut.py": "the delay is the fault: a slow database",
}
"""Files that wait for real time to pass, and why nothing can be waited for instead."""


def test_no_test_sleeps() -> None:
    """Also not inside a program that a test writes; loads (tests/bench) pace real time."""
    found: dict[str, int] = {}
    for file, _tree in sources("tests"):
        name = str(file.relative_to(ROOT))
        if "bench" not in file.parts and file != Path(__file__):
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                if SLEEPS.search(line):
                    found[name] = number
    assert {at(ROOT / name, line) for name, line in found.items() if name not in PACED} == set()
    assert set(PACED) == set(found), "a file that sleeps no longer leaves the list"


SKIPS = re.compile(r"\b(?:skipif|importorskip|skipTest|xfail)\b|\b(?:pytest|mark)\.skip\b")
UNTRIED = {
    "tests/e2e/browser.py": "`tests/run python` goes without the front end on purpose",
    "tests/e2e/test_peers.py": "SIPp plays captures by a raw socket, which only root may open",
    "tests/installed.py": "a developer may lack a program; in CI its absence is a failure",
    "tests/softphone_bridge/test_malformed.py": "the messages of RFC 4475 are not ours to give out",
}
"""Files that skip tests, and why that hides nothing."""


def test_no_test_is_skipped_but_for_a_reason_that_hides_nothing() -> None:
    found = {
        str(file.relative_to(ROOT))
        for file, _tree in sources("tests")
        if file != Path(__file__) and SKIPS.search(file.read_text(encoding="utf-8"))
    }
    assert found == set(UNTRIED)


def test_every_crash_point_that_is_passed_is_listed_and_every_listed_one_is_passed() -> None:
    points = importlib.import_module("routing.crash")
    listed: set[str] = set(points.ALL)
    passed: set[str] = set()
    for _file, tree in sources(*PACKAGES):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node).endswith("crash_point") and node.args:
                name = node.args[0]
                assert isinstance(name, ast.Constant), "a crash point's name is written out"
                passed.add(str(name.value))
    assert passed <= listed
    assert listed <= passed


def test_sql_never_asks_for_the_time_and_makes_no_ids() -> None:
    found = []
    for file in sorted((ROOT / "routing" / "sql").rglob("*.sql")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            words = line.split("--")[0].lower()
            if re.search(
                r"\bnow\(\)|current_timestamp|clock_timestamp|gen_random_uuid|uuidv7|\brandom\(\)", words
            ):
                found.append(at(file, number))
    assert found == []


WELCOME = re.compile(
    r"MIT|BSD|ISC|Apache|PSF|Python Software Foundation|Mozilla|MPL|LGPL|Zlib|CC0|PostgreSQL|Unlicense|Public Domain",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"GPLv3|GPL-3|GNU General Public License v3", re.IGNORECASE)
# no usable statement in the metadata; read in the package itself
REVIEWED = {
    "cel-python": "Apache-2.0 (its LICENSE)",
    "imapclient": "BSD-3-Clause (its COPYING)",
    "espeakng-loader": "MIT for the loader; the espeak-ng library inside is GPL-3.0-or-later",
}
# GPL-3.0 is ours too; a package under it is named here with how it is used
GPL = {"pyvoip": "in a process of its own, by the demo and the tests"}


def _licence(package: metadata.Distribution) -> str:
    told = package.metadata
    classifiers = [line for line in told.get_all("Classifier", []) if line.startswith("License ::")]
    first = "".join(told.get_all("License", [])).strip().splitlines()[:1]
    return " ".join([*told.get_all("License-Expression", []), *first, *classifiers]).strip()


def test_every_installed_package_has_a_licence_that_goes_with_ours() -> None:
    wrong = []
    for package in metadata.distributions():
        name = str(package.metadata["Name"]).lower()
        licence = _licence(package)
        if name in REVIEWED or name == "monofil":
            continue
        if COPYLEFT.search(licence) and name in GPL:
            continue
        if not WELCOME.search(licence) or (COPYLEFT.search(licence) and "LGPL" not in licence):
            wrong.append(f"{name}: {licence or 'states none'}")
    assert wrong == []


def _locked(name: str) -> set[str]:
    pinned = re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {_plain(found) for found in pinned}


def _plain(name: str) -> str:
    """As package indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_whatever_is_imported_is_locked() -> None:
    provided = metadata.packages_distributions()
    ours = {*PACKAGES, "tests", *sys.stdlib_module_names}
    core, dev = _locked("requirements.lock"), _locked("requirements-dev.lock")
    missing = {
        f"{at(file)} {top}"
        for folder in (*PACKAGES, "tests")
        for file, tree in sources(folder)
        for top in set(_imported(tree)) - ours
        if not {_plain(owner) for owner in provided.get(top, [])} & (dev if folder == "tests" else core)
    }
    assert missing == set()
