"""A `monofil serve` in a process of its own, as an operator runs it, for tests that look from outside."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
ALWAYS = {"week": {"lun-dim": "00:00-24:00"}}


def open_site(folder: Path, **changes: dict[str, Any]) -> Path:
    """The example site, open at every hour, as a file in `folder`.

    `changes` are merged into its sections: `open_site(tmp, queues={"general": {"wrapup_max": "5s"}})`.
    """
    yaml = YAML()
    site = yaml.load((ROOT / "config" / "site.example.yaml").read_text("utf-8"))
    site["hours"] = {"bureau": ALWAYS, "permanence": ALWAYS}
    for section, entries in changes.items():
        for name, values in entries.items():
            if isinstance(values, dict) and name in site[section]:
                site[section][name].update(values)
            else:
                site[section][name] = values
    shutil.copytree(ROOT / "config" / "trees", folder / "trees", dirs_exist_ok=True)
    path = folder / "site.yaml"
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(site, file)
    return path


class Served:
    """`async with Served(data_dir, site=…, env=…) as server`; leaving it sends SIGTERM and expects exit 0."""

    def __init__(
        self,
        data_dir: Path,
        *,
        site: Path | None = None,
        env: Mapping[str, str] | None = None,
        expect: int = 0,
    ) -> None:
        self.data_dir = data_dir
        self.site = site
        self.expect = expect
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MONOFIL_")},
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            "MONOFIL_DATA_DIR": str(data_dir),
            "MONOFIL_HTTP_HOST": "127.0.0.1",
            "MONOFIL_HTTP_PORT": "0",
            "MONOFIL_SIP_HOST": "127.0.0.1",
            "MONOFIL_SIP_PORT": "0",
            "MONOFIL_LOG_FORMAT": "json",
            "MONOFIL_MEDIA_WORKERS": "1",
            **(env or {}),
        }
        self.process: asyncio.subprocess.Process | None = None
        self.http = ""
        self.sip = ""
        self.log = Path(tempfile.mkstemp(prefix="served-", suffix=".log", dir=data_dir)[1])

    async def __aenter__(self) -> Served:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.returncode is None:
            code = await self.stop()
            assert kind is not None or code == self.expect, self.tail()
        print(self.tail())  # shown by pytest when the test fails

    async def start(self, within_s: float = 30.0) -> None:
        arguments = [sys.executable, "-m", "config", "serve"]
        if self.site is not None:
            arguments.append(str(self.site))
        with self.log.open("ab") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *arguments,
                env=self.env,
                cwd=self.data_dir,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(within_s):
            while line := (await self.process.stdout.readline()).decode():
                if line.startswith("ready "):
                    words = dict(w.split("=", 1) for w in line.split()[1:])
                    self.http, self.sip = words["http"].rstrip("/"), words["sip"]
                    return
        raise RuntimeError(f"the server ended with {await self.process.wait()}\n{self.tail()}")

    async def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), within_s)

    async def kill(self) -> None:
        """SIGKILL, as a power cut."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def sip_host(self) -> str:
        return self.sip.rpartition(":")[0]

    @property
    def sip_port(self) -> int:
        return int(self.sip.rpartition(":")[2])

    def lines(self) -> list[dict[str, Any]]:
        """The log so far, one record a line."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines() if line.startswith("{")]

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-lines:])

    async def command(self, *words: str, expect: int = 0) -> str:
        """Run `monofil WORDS` beside the server; its standard output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "config",
            *words,
            env=self.env,
            cwd=self.data_dir,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await asyncio.wait_for(process.communicate(), 30.0)
        assert process.returncode == expect, (words, process.returncode, out.decode(), errors.decode())
        return out.decode()

    async def password(self, login: str) -> str:
        """A new password for a login, made by `monofil user passwd`."""
        return str(json.loads(await self.command("user", "passwd", login, "--json"))["password"])

    async def metrics(self) -> dict[str, float]:
        """The figures of /metrics by name and labels."""
        async with aiohttp.ClientSession() as http, http.get(self.http + "/metrics") as answer:
            text = await answer.text()
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line and not line.startswith("#")
        }
