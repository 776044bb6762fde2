"""The studio in a browser: Debian's Chromium driven by Playwright, and what it must not do.

Playwright keeps a loop at work in its thread while it is open, in which asyncio.run() is refused;
a browser is a module's, and is closed after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    sync_playwright,
)

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP studio.test 127.0.0.1", "--force-color-profile=srgb",
)  # fmt: skip
AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
MISSING = (
    f"{CHROMIUM} is missing, which the studio's tests need; `make test` installs it as root on "
    "Debian (apt-get install chromium)"
)
DESKTOP, PHONE = (1440, 900), (390, 844)


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, until the block ends."""
    assert CHROMIUM.is_file(), MISSING
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield launched
        launched.close()


@dataclass
class Watched:
    """A page, and what it did wrong: lines of its console, requests to others than its server.

    allowed: patterns of console lines that the test itself provokes, such as of a cut network.
    stays: what the browser asks of a page that goes with something unsaved is answered by staying.
    asked: how often it asked.
    """

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    stays: bool = False
    asked: int = 0

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", self._leave)
        self.page.context.on("request", lambda request: self._requested(request.url))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"console: {message.text}")

    def _requested(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.netloc != urlsplit(self.url).netloc:
            self.wrong.append(f"request to another host: {url}")

    def _leave(self, dialog: Dialog) -> None:
        self.asked += 1
        if dialog.type != "beforeunload":
            self.wrong.append(f"dialog: {dialog.message}")
        if self.stays:
            dialog.dismiss()
        else:
            dialog.accept()

    def faults(self) -> list[str]:
        return [line for line in self.wrong if not any(re.search(p, line) for p in self.allowed)]


@contextmanager
def studio(
    browser: Browser, url: str, route: str = "paint", size: tuple[int, int] = DESKTOP,
    allowed: tuple[str, ...] = (), context: BrowserContext | None = None, **options: Any,
) -> Iterator[Watched]:  # fmt: skip
    """The studio open at a route; in the end nothing may have gone wrong."""
    chosen: dict[str, Any] = {
        "viewport": {"width": size[0], "height": size[1]}, "locale": "en-GB", **options,
    }  # fmt: skip
    if size[0] < 720:
        chosen = {"has_touch": True, "is_mobile": True, "device_scale_factor": 2, **chosen}
    own = context or browser.new_context(**chosen)
    page = own.new_page()
    page.set_default_timeout(20_000)
    watched = Watched(page, url, allowed=list(allowed))
    page.goto(f"{url}/#/{route}")
    page.wait_for_selector("main")
    try:
        yield watched
        assert not watched.faults(), "\n".join(watched.faults())
    finally:
        page.close()
        if context is None:
            own.close()


STILL = """async () => {
  const ends = (one) => Number.isFinite(one.effect.getComputedTiming().endTime)
  await Promise.allSettled(document.getAnimations().filter(ends).map((one) => one.finished))
}"""
"""Waits for animations that have an end."""


def violations(page: Page) -> list[str]:
    """What axe-core finds at serious or above."""
    assert AXE.is_file(), f"{AXE} is missing; `npm ci --prefix web` installs it"
    page.evaluate(AXE.read_text(encoding="utf-8"))  # evaluated, as the page's policy has no inline
    page.evaluate(STILL)  # what fades in has another contrast meanwhile
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['impact']}: {one['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for one in found["violations"] if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]  # fmt: skip


def scrolls_sideways(page: Page) -> bool:
    script = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    return bool(page.evaluate(script))


def paint(page: Page, *points: tuple[float, float]) -> None:
    """A stroke on the canvas, through points from 0 to 1 of the sheet's width and height."""
    box = page.locator(".stage .sheet").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()


def quick(page: Page, steps: int = 3, seed: int | None = 7) -> None:
    """Few steps and one seed, so that a run takes a second or two."""
    page.get_by_label("Steps", exact=True).fill(str(steps))
    page.get_by_label("Seed", exact=True).fill("" if seed is None else str(seed))
    page.get_by_label("Seed", exact=True).blur()
