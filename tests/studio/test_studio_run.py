"""Runs from the canvas, against a real server with the bundled model: paint, run, look, decide."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from helpers.easel import kept
from helpers.remote import Program, Wire, until
from helpers.studio import PHONE, paint, quick, studio

SLOW = 120_000  # milliseconds that a run may take where other programs run too


def words(page: Page, text: str = "red apple") -> None:
    page.get_by_label("Words", exact=True).fill(text)


def run(page: Page) -> None:
    page.get_by_role("button", name="Run", exact=False).last.click()


def newest(url: str) -> dict[str, object]:
    job: dict[str, object] = httpx.get(f"{url}/v1/jobs?limit=1").json()["jobs"][0]
    return job


def test_paint_run_preview_and_accept(browser: Browser, program: Program) -> None:
    with studio(browser, program.url) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        paint(page, (0.3, 0.5), (0.5, 0.3), (0.7, 0.5), (0.5, 0.7), (0.3, 0.5))
        words(page)
        quick(page, steps=12)
        page.get_by_label("t0, as a number").fill("0.6")
        page.get_by_label("t0, as a number").blur()
        run(page)
        shown = page.locator(".stage .overlay")
        expect(shown).to_be_visible(timeout=SLOW)
        expect(page.get_by_role("progressbar")).to_be_visible()  # a preview, of a run at work
        bar = page.get_by_role("toolbar", name="Result")
        bar.wait_for(timeout=SLOW)
        job = newest(program.url)
        (method,) = job["recipe"]["methods"]  # type: ignore[index]  # of JSON
        assert (method["method"], method["t0"]) == ("sdedit", 0.6)
        expect(shown).to_be_visible()
        slider = bar.get_by_role("slider")
        slider.focus()
        page.keyboard.press("Home")
        expect(slider).to_have_value("0")
        page.keyboard.press("End")
        bar.get_by_role("button", name="Accept").click()
        expect(bar).to_have_count(0)
        expect(shown).to_have_count(0)
        page.wait_for_timeout(600)
        page.reload()  # all of it is back
        expect(page.get_by_label("Words", exact=True)).to_have_value("red apple")
        expect(page.get_by_role("toolbar", name="Result")).to_have_count(0)


def test_a_cancelled_run_leaves_no_trace(browser: Browser, program: Program) -> None:
    with studio(browser, program.url) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        paint(page, (0.3, 0.3), (0.7, 0.7))
        words(page)
        quick(page, steps=400)
        run(page)
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Run", exact=False).last).to_be_visible(timeout=SLOW)
        until(lambda: newest(program.url)["state"] == "cancelled")
        expect(page.get_by_role("toolbar", name="Result")).to_have_count(0)
        paint(page, (0.3, 0.7), (0.7, 0.3))  # nothing is locked
        quick(page)
        run(page)
        page.get_by_role("button", name="Discard").click(timeout=SLOW)
        expect(page.get_by_role("toolbar", name="Result")).to_have_count(0)


def test_a_reload_in_mid_run_loses_nothing(browser: Browser, program: Program) -> None:
    with studio(browser, program.url) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        paint(page, (0.2, 0.5), (0.8, 0.5))
        words(page, "green pear")
        quick(page, steps=60)
        run(page)
        expect(page.get_by_role("progressbar")).to_be_visible()
        page.wait_for_timeout(700)
        page.reload()
        expect(page.get_by_role("progressbar")).to_be_visible()
        page.get_by_role("button", name="Accept").click(timeout=SLOW)
        expect(page.get_by_label("Words", exact=True)).to_have_value("green pear")


@pytest.fixture
def wire(program: Program) -> Iterator[Wire]:
    cut = Wire(program.port)
    yield cut
    cut.close()


def test_a_network_cut_in_mid_run(browser: Browser, program: Program, wire: Wire) -> None:
    allowed = ("net::ERR", "Failed to load resource")
    with studio(browser, wire.url, allowed=allowed) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        words(page)
        quick(page, steps=60)
        run(page)
        expect(page.get_by_role("progressbar")).to_be_visible()
        wire.drop(2)
        expect(page.get_by_text("The server does not answer").first).to_be_visible()
        paint(page, (0.3, 0.3), (0.7, 0.7))  # painting goes on
        expect(page.get_by_text("The server does not answer. Painting")).to_have_count(
            0, timeout=SLOW
        )
        page.get_by_role("button", name="Accept").wait_for(timeout=SLOW)


def test_what_is_run_without_a_network_is_sent_later(
    browser: Browser, program: Program, wire: Wire
) -> None:
    allowed = ("net::ERR", "Failed to load resource")
    with studio(browser, wire.url, allowed=allowed) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")  # keeps the page's files
        words(page)
        quick(page)
        wire.cut = True
        wire.drop(0)
        wire.cut = True
        expect(page.get_by_text("The server does not answer").first).to_be_visible()
        page.get_by_role("button", name="Run later").click()
        expect(page.get_by_text("Waits for the server")).to_be_visible()
        page.wait_for_timeout(600)  # after which a setting is kept
        kept(page)
        page.reload()
        expect(page.get_by_text("Waits for the server")).to_be_visible()
        wire.cut = False
        page.get_by_role("button", name="Accept").wait_for(timeout=SLOW)


@pytest.mark.slow
def test_a_server_that_dies_comes_back_with_the_run(browser: Browser, tmp_path: Path) -> None:
    own = Program(tmp_path / "server")
    own.start()
    allowed = ("net::ERR", "Failed to load resource")
    try:
        with studio(browser, own.url, allowed=allowed) as watched:
            page = watched.page
            page.locator(".stage .sheet").wait_for()
            words(page)
            quick(page, steps=60)
            run(page)
            expect(page.get_by_role("progressbar")).to_be_visible()
            page.wait_for_timeout(500)
            own.stop(signal.SIGKILL)
            expect(page.get_by_text("The server does not answer").first).to_be_visible()
            own.start()
            page.get_by_role("button", name="Resume the queue").click(timeout=SLOW)
            page.get_by_role("button", name="Accept").wait_for(timeout=SLOW)
    finally:
        own.stop()


def test_two_tabs_have_one_stream(browser: Browser, program: Program) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-GB")
    streams: list[str] = []
    context.on("request", lambda asked: streams.append(asked.url))
    with (
        studio(browser, program.url, context=context) as first,
        studio(browser, program.url, "gallery", context=context) as second,
    ):
        first.page.locator(".stage .sheet").wait_for()
        words(first.page)
        quick(first.page)
        run(first.page)
        first.page.get_by_role("button", name="Accept").wait_for(timeout=SLOW)
        sha256 = newest(program.url)["results"][0]["sha256"]  # type: ignore[index]
        expect(second.page.locator(f'img[src*="{sha256[:16]}"]').first).to_be_visible()
        assert sum(url.endswith("/v1/events") for url in streams) == 1
    context.close()


def test_live_sketches_while_one_paints(browser: Browser, program: Program) -> None:
    with studio(browser, program.url) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        words(page)
        page.get_by_role("button", name="Live").click()
        for k in range(3):
            paint(page, (0.3, 0.3 + 0.1 * k), (0.7, 0.3 + 0.1 * k))
        page.get_by_role("button", name="Accept").wait_for(timeout=SLOW)
        page.get_by_role("button", name="Discard").click()
        # of what was dropped nothing stays, on the server either
        until(lambda: 6 not in steps(program.url))


def steps(url: str) -> set[int]:
    return {job["recipe"]["steps"] for job in httpx.get(f"{url}/v1/jobs").json()["jobs"]}


def test_on_a_phone(browser: Browser, program: Program) -> None:
    with studio(browser, program.url, size=PHONE) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        page.get_by_role("button", name="Settings of the run").click()
        quick(page)
        page.get_by_role("button", name="Close the settings").first.click()
        words(page)
        page.get_by_role("button", name="Run", exact=False).last.tap()
        page.get_by_role("button", name="Accept").tap(timeout=SLOW)
        expect(page.get_by_role("toolbar", name="Result")).to_have_count(0)


def test_outside_the_mask_not_a_byte_changes(browser: Browser, program: Program) -> None:
    """Of what the server makes of the picture and the mask, and of what the painting then is."""
    noise = np.random.default_rng(5).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    with studio(browser, program.url) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        page.get_by_role("button", name="File", exact=True).click()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Open picture").click()
        chooser.value.set_files({"name": "noise.png", "mimeType": "image/png",
                                 "buffer": file.getvalue()})  # fmt: skip
        expect(page.get_by_text("128 × 96").first).to_be_visible()
        page.keyboard.press("m")
        paint(page, (0.3, 0.5), (0.7, 0.5))
        page.keyboard.press("m")
        page.get_by_role("button", name="Strokes on a picture").click()
        words(page)
        quick(page)
        run(page)
        page.get_by_role("button", name="Accept").click(timeout=SLOW)
        expect(page.get_by_role("toolbar", name="Result")).to_have_count(0)
        job: Any = newest(program.url)
        (method,) = job["recipe"]["methods"]
        mask = picture(program.url, method["mask"]["sha256"])[..., 0]
        assert (picture(program.url, method["image"]["sha256"]) == noise).all()
        made = picture(program.url, job["results"][0]["sha256"])
        assert 0.01 < (mask > 0).mean() < 0.5
        assert (made[mask == 0] == noise[mask == 0]).all()
        assert (made[mask == 255] != noise[mask == 255]).mean() > 0.9
        page.get_by_role("button", name="File", exact=True).click()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save as PNG").click()
        assert (np.asarray(Image.open(saved.value.path()).convert("RGB")) == made).all()


def picture(url: str, sha256: str) -> np.ndarray:
    data = httpx.get(f"{url}/v1/images/{sha256}").content
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
