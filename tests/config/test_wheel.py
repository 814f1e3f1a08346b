"""The wheel: what it must hold, served from outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LISTED = """
import json
from importlib.resources import files
def tree(package, folder):
    at = files(package).joinpath(folder)
    return sum(1 for _ in at.iterdir()) if at.is_dir() else 0
print(json.dumps({
    "where": str(files("config")),
    "console": files("cti.console").joinpath("dist/index.html").is_file(),
    "assets": tree("cti.console", "dist/assets"),
    "migrations": tree("routing.sql", "migrations"),
    "sql": sum(1 for f in files("routing.sql").iterdir() if f.name.endswith(".sql")),
    "site": files("config").joinpath("site.example.yaml").is_file(),
    "trees": tree("config", "trees"),
    "fr": tree("config", "sounds/fr"),
    "en": tree("config", "sounds/en"),
    "music": files("config").joinpath("sounds/music.wav").is_file(),
    "deploy": tree("config", "deploy"),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which a wheel built from a copy of the checkout was installed."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    keep_out = shutil.ignore_patterns(
        ".git", ".venv", "node_modules", "__pycache__", ".*_cache", "*.egg-info", "build"
    )
    shutil.copytree(ROOT, source, ignore=keep_out, ignore_dangling_symlinks=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(work), str(source)],
        check=True, timeout=180,
    )  # fmt: skip
    (wheel,) = work.glob("monofil-*.whl")
    target = work / "target"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)],
        check=True,
        timeout=180,
    )
    return target


def outside(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MONOFIL_")}
    environ = {**clean, "PYTHONPATH": str(installed), "LC_ALL": "C.UTF-8"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=installed.parent, env=environ, capture_output=True, text=True, timeout=60
    )


def test_the_wheel_holds_console_sql_sounds_trees_and_the_example(installed: Path) -> None:
    held = json.loads(outside(installed, "-c", LISTED).stdout)
    assert held.pop("where").startswith(str(installed))
    assert [name for name, there in held.items() if not there] == []
    assert held["fr"] == held["en"]


def test_the_installed_command_checks_its_own_example(installed: Path) -> None:
    done = outside(installed, "-m", "config", "check", str(installed / "config" / "site.example.yaml"))
    assert done.returncode == 0, done.stderr


def test_the_installed_bench_says_that_it_needs_a_checkout(installed: Path) -> None:
    done = outside(installed, "-m", "config", "bench")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "monofil: The benchmarks are not in the wheel: run `monofil bench` from a checkout of the source."
    )


def test_no_test_and_no_source_of_the_console_is_in_the_wheel(installed: Path) -> None:
    found = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert [name for name in found if name.startswith("tests/") or "console/src" in name] == []
