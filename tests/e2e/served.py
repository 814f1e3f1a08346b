"""A server under test, as an operator runs it: free ports, a folder of its own, and the example site always open."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from ruamel.yaml import YAML

from config.child import Child

ROOT = Path(__file__).resolve().parents[2]
ALWAYS = {"week": {"lun-dim": "00:00-24:00"}}


def open_site(folder: Path, **changes: dict[str, Any]) -> Path:
    """The example site, open at every hour, as a file in `folder`.

    `changes` are merged into its sections: `open_site(tmp, queues={"general": {"wrapup_max": "5s"}})`.
    """
    yaml = YAML()
    site = yaml.load((ROOT / "config" / "site.example.yaml").read_text("utf-8"))
    site["hours"] = {"bureau": dict(ALWAYS), "permanence": dict(ALWAYS)}
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


class Served(Child):
    """`async with Served(tmp_path, site=…, env=…) as server`; leaving it sends SIGTERM and expects `expect`."""

    def __init__(
        self, folder: Path, *, site: Path | None = None, env: Mapping[str, str] | None = None, expect: int = 0
    ) -> None:
        super().__init__(
            folder,
            arguments=(str(site),) if site is not None else (),
            env={
                "MONOFIL_DATA_DIR": str(folder),
                "MONOFIL_HTTP_PORT": "0",
                "MONOFIL_SIP_PORT": "0",
                "MONOFIL_MEDIA_WORKERS": "1",
                **(env or {}),
            },
        )
        self.expect = expect

    async def __aenter__(self) -> Served:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = await self.stop() if self.running else self.expect
        print(self.tail())  # shown by pytest when the test fails
        assert code == self.expect

    async def metrics(self) -> dict[str, float]:
        """The figures of /metrics by name and labels."""
        async with aiohttp.ClientSession() as http, http.get(self.http + "/metrics") as answer:
            text = await answer.text()
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line and not line.startswith("#")
        }
