"""A real browser for tests: Debian's Chromium by Playwright, axe-core, and screenshots for review.

Skipped with a reason where one of them is missing, unless PAGE_TESTS=required, as the project's own CI sets.
Screenshots go to the directory that PAGE_SHOTS names.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from importlib.util import find_spec
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = (360, 1440)
SCHEMES = ("light", "dark")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def missing() -> str:
    """What is missing for a browser; empty where nothing is."""
    lacking = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
    if lacking:
        return f"Python packages missing: {', '.join(lacking)} (pip install -e '.[dev]')"
    return "" if _program() else "no browser found (Debian: apt-get install chromium)"


def _program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def demand() -> None:
    """Skip, or fail where a skip is forbidden, if there is no browser."""
    if lacking := missing():
        if os.environ.get("PAGE_TESTS") == "required":
            pytest.fail(lacking)
        pytest.skip(lacking)


@asynccontextmanager
async def browser() -> AsyncIterator[Any]:
    """One browser while the block runs."""
    demand()
    from playwright.async_api import async_playwright  # noqa: PLC0415 -- only where it is installed

    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=_program(), args=FLAGS)
        try:
            yield opened
        finally:
            await opened.close()


class Tab:
    """A page of the browser that remembers every complaint of the console."""

    def __init__(self, page: Any, base: str) -> None:
        self.page = page
        self.base = base
        self.complaints: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    async def go(self, path: str) -> Any:
        """Open a path; gives the answer."""
        return await self.page.goto(self.base + path)

    async def text(self) -> str:
        """What the page says."""
        return str(await self.page.inner_text("body"))

    async def click(self, name: str, *, role: str = "link") -> None:
        """Click what has this accessible name."""
        await self.page.get_by_role(role, name=name).first.click()
        await self.page.wait_for_load_state()


@asynccontextmanager
async def tab(
    opened: Any, base: str, *, width: int = 1440, scheme: str = "light", **more: Any
) -> AsyncIterator[Tab]:
    """A tab with a profile of its own."""
    context = await opened.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce", **more
    )
    context.set_default_timeout(10_000)
    try:
        yield Tab(await context.new_page(), base)
    finally:
        await context.close()


async def faults(tab_: Tab) -> list[str]:
    """What axe-core finds wrong with the page that is open, of any impact."""
    source = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    await tab_.page.evaluate(source)
    told = await tab_.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['impact']} {each['id']}: {node['html'][:160]}"
        for each in told["violations"]
        for node in each["nodes"]
    ]


async def overflow(tab_: Tab) -> int:
    """Pixels by which the page is wider than the window."""
    return int(await tab_.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


async def shoot(tab_: Tab, name: str, *, whole: bool = True) -> None:
    """Keep a picture of the whole page or of what a window shows, where somebody wants to see it."""
    if folder := os.environ.get("PAGE_SHOTS"):
        await tab_.page.screenshot(path=f"{folder}/{name}.png", full_page=whole)
