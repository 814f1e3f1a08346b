"""A real Chromium for tests: its pages are driven by keyboard and read as people read them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from types import TracebackType
from typing import Any

import pytest

from tests.e2e.served import ROOT
from tests.installed import missing

DRIVER = ROOT / "cti" / "console" / "tools" / "drive.mjs"
WITHIN_S = 60.0  # for one command; the driver itself gives up earlier and says on what


class Trouble(Exception):
    """What the browser could not do, in its own words."""


def needs_a_browser() -> None:
    """Without the front end's packages there is none; `tests/run python` goes without on purpose."""
    if (
        shutil.which("node") is None
        or not (DRIVER.parent.parent / "node_modules" / "playwright-core").is_dir()
    ):
        if os.environ.get("WITHOUT_FRONT_END"):
            pytest.skip("tests/run python: without the front end")
        missing("the console's packages are not installed: npm ci in cti/console")


class Browser:
    """`async with Browser() as browser: page = await browser.open("lea", url)`."""

    def __init__(self) -> None:
        self._ids = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Browser:
        self._process = await asyncio.create_subprocess_exec(
            "node",
            str(DRIVER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 15.0)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._listener
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._process.stdin.wait_closed()

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            waiting = self._waiting.pop(answer["id"])
            if waiting.done():
                continue
            if "error" in answer:
                waiting.set_exception(Trouble(answer["error"]))
            else:
                waiting.set_result(answer["value"])
        for waiting in self._waiting.values():
            waiting.set_exception(Trouble("the browser has gone"))

    async def ask(self, page: str, act: str, **about: Any) -> Any:
        assert self._process.stdin is not None
        self._ids += 1
        id = self._ids
        self._waiting[id] = asyncio.get_running_loop().create_future()
        command = {"id": id, "page": page, "do": act, **about}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()
        return await asyncio.wait_for(self._waiting[id], WITHIN_S)

    async def open(self, name: str, url: str, **about: Any) -> Page:
        await self.ask(name, "open", url=url, **about)
        return Page(self, name, url)


class Page:
    """One page in a profile of its own."""

    def __init__(self, browser: Browser, name: str, url: str) -> None:
        self._browser = browser
        self.name = name
        self.url = url

    async def _do(self, act: str, **about: Any) -> Any:
        return await self._browser.ask(self.name, act, **about)

    async def goto(self, hash: str) -> None:
        await self.run(f"location.hash = {json.dumps(hash)}")

    async def reload(self) -> None:
        await self._do("reload")

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self._do("press", key=key)

    async def type(self, text: str) -> None:
        await self._do("type", text=text)

    async def click(self, selector: str) -> None:
        await self._do("click", selector=selector)

    async def fill(self, selector: str, text: str) -> None:
        await self._do("fill", selector=selector, text=text)

    async def see(self, selector: str) -> str:
        """Wait until it is there to be seen; its words."""
        await self._do("wait", selector=selector)
        return str(await self._do("text", selector=selector))

    async def gone(self, selector: str) -> None:
        await self._do("wait", selector=selector, state="hidden")

    async def words(self, selector: str, *wanted: str) -> None:
        """Wait until an element that fits says all of `wanted`."""
        js = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".some((one) => {json.dumps(wanted)}.every((text) => one.innerText.includes(text)))"
        )
        try:
            await self._do("until", js=js)
        except Trouble as trouble:
            shown = await self.run(
                f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.innerText)"
            )
            raise Trouble(f"{self.name}: {selector} never said {wanted}, but {shown}: {trouble}") from None

    async def until(self, js: str) -> None:
        await self._do("until", js=js)

    async def run(self, js: str) -> Any:
        return await self._do("run", js=js)

    async def value(self, selector: str) -> str:
        return str(await self._do("value", selector=selector))

    async def count(self, selector: str) -> int:
        return int(await self._do("count", selector=selector))

    async def size(self, width: int, height: int) -> None:
        await self._do("size", width=width, height=height)

    async def shot(self, path: str) -> None:
        await self._do("shot", path=path)

    async def figures(self) -> dict[str, float]:
        """JSHeapUsedSize, Nodes and JSEventListeners after a collection."""
        return dict(await self._do("figures"))

    async def axe(self) -> list[str]:
        """What breaks WCAG 2.2 AA on what is shown now, as far as axe can tell."""
        return list(await self._do("axe"))

    async def complaints(self) -> list[str]:
        """Errors of the console since the last time, refusals of the content policy among them."""
        return list(await self._do("complaints"))

    async def abroad(self) -> dict[str, Any]:
        """Since the last time: `asked`, addresses of others; `dialogs`. And how many `pages` are open now."""
        return dict(await self._do("abroad"))

    async def sign_in(self, login: str, password: str) -> None:
        """By keyboard: the page that asks has its first field a tab away."""
        await self.see("#login")
        await self._do("run", js="document.querySelector('#login').focus()")
        await self.type(login)
        await self.press("Tab")
        await self.type(password)
        await self.press("Enter")
        await self.see(".frame")
