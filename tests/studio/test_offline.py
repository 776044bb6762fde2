"""The page without a network, as an app of a phone, and over plain http from another name."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from playwright.sync_api import Browser, expect

from helpers.remote import Program, Wire, stub_server, until
from helpers.served import StubRunner, recipe_job
from helpers.studio import studio

CUT = ("Failed to load resource", "ERR_", "fetch", "server responded")


def test_the_page_opens_without_a_network(browser: Browser, tmp_path: Path) -> None:
    """Its files are kept by the service worker; the server's silence is said, and painting goes."""
    with stub_server(tmp_path, StubRunner()) as server:
        wire = Wire(int(server.rpartition(":")[2]))
        with studio(browser, wire.url, allowed=CUT) as watched:
            page = watched.page
            page.wait_for_function(
                "navigator.serviceWorker.ready.then(one => one.active.state === 'activated')"
            )
            page.reload()  # its worker is its page's from now on
            page.locator(".stage .sheet").wait_for()
            wire.drop(0)
            wire.cut = True
            page.reload()
            page.locator(".stage .sheet").wait_for()
            expect(page.get_by_text("The server does not answer").first).to_be_visible()
            page.goto(f"{wire.url}/#/gallery")
            expect(page.get_by_role("button", name="Try again")).to_be_visible()
            wire.cut = False
            page.get_by_role("button", name="Try again").click()
            expect(page.get_by_text("Every picture that you make")).to_be_visible()
        wire.close()


def test_it_can_be_installed(browser: Browser, tmp_path: Path) -> None:
    """The manifest names icons that are there and as large as it says."""
    with stub_server(tmp_path, StubRunner()) as url, studio(browser, url) as watched:
        link = watched.page.locator("link[rel=manifest]").get_attribute("href")
        answer = httpx.get(f"{url}/{link}", trust_env=False)
        assert answer.headers["content-type"] == "application/manifest+json"
        for icon in answer.json()["icons"]:
            size = watched.page.evaluate(
                "src => new Promise((done) => { const image = new Image();"
                " image.onload = () => done(image.naturalWidth); image.src = src })",
                f"{url}/{icon['src']}",
            )
            assert icon["sizes"] in ("any", f"{size}x{size}")


def test_a_gallery_over_plain_http_from_another_name(browser: Browser, program: Program) -> None:
    """No service worker, no crypto.subtle, no locks: pictures are shown, read and deleted."""
    job = {"recipe": {**recipe_job(1)["recipe"], "steps": 1, "stages": 1}}
    httpx.post(f"{program.url}/v1/jobs", json=job, trust_env=False)
    until(lambda: program.ask("/v1/gallery")["total"])
    url = program.url.replace("127.0.0.1", "studio.test")
    with studio(browser, url, "gallery") as watched:
        page = watched.page
        assert not page.evaluate("isSecureContext")
        tiles = page.locator(".tile .open")
        tiles.first.wait_for(timeout=60_000)
        tiles.first.click()
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Download").click()
        page.goto(f"{url}/#/gallery")
        page.locator("header input[type=file]").set_input_files(waiting.value.path())
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("Made by sfumato")).to_be_visible()
        dialog.get_by_role("button", name="Use these settings").click()
        expect(page.get_by_label("Words", exact=True)).to_have_value("red apple, 3d render")
