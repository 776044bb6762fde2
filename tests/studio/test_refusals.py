"""What a server refuses, or does not have: one sentence, and the painting stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, Route, expect

from helpers.easel import covered, drag, kept, ready, size
from helpers.remote import stub_server, until
from helpers.studio import studio, violations
from sfumato.server.settings import Limits

TOKENS = {"phone": "a-token-of-letters"}


def painted(page: Page) -> int:
    """Pixels of a stroke across the painting."""
    ready(page)
    across, down = size(page)
    drag(page, [(across * 0.2, down / 2), (across * 0.8, down / 2)])
    kept(page)
    return covered(page, "strokes")


def run(page: Page) -> None:
    page.get_by_role("button", name="Run", exact=False).last.click()


def refused(page: Page, words: str, before: int) -> None:
    """One notice says it; nothing waits, and the stroke can be painted over and undone."""
    expect(page.locator(".notice p", has_text=words)).to_be_visible()
    assert page.locator(".notice").count() == 1
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    assert covered(page, "strokes") == before
    page.keyboard.press("Control+z")
    assert covered(page, "strokes") == 0
    page.keyboard.press("Control+Shift+Z")
    assert covered(page, "strokes") == before


def test_a_full_queue(browser: Browser, tmp_path: Path) -> None:
    with (
        stub_server(tmp_path, limits=Limits(queued=0)) as url,
        studio(browser, url, allowed=("status of 429",)) as watched,
    ):
        before = painted(watched.page)
        watched.page.get_by_label("Words", exact=True).fill("red apple")
        run(watched.page)
        refused(watched.page, "The queue is full: 0 jobs of yours may wait", before)


def answered(page: Page, path: str, change: Any) -> None:
    """The server answers a path otherwise from now on."""

    def answer(route: Route) -> None:
        real = route.fetch()
        body = real.json()
        change(body)
        route.fulfill(response=real, json=body)

    page.route(f"**{path}", answer)


def test_a_model_that_is_not_there_any_more(browser: Browser, tmp_path: Path) -> None:
    def with_another(body: Any) -> None:
        body["models"].append({**body["models"][0], "name": "gouache"})

    options: Any = {"service_workers": "block"}  # so that answers can be changed
    with (
        stub_server(tmp_path) as url,
        studio(
            browser, url, allowed=("status of 422", "blocked by Playwright"), **options
        ) as watched,
    ):
        page = watched.page
        answered(page, "/v1/models", with_another)
        page.reload()
        before = painted(page)
        page.get_by_label("Model", exact=True).select_option("gouache")
        page.wait_for_timeout(600)  # after which a setting is kept
        kept(page)
        page.unroute("**/v1/models")
        page.reload()
        ready(page)
        missing = "The model gouache is not at this server; choose another one"
        expect(page.locator(".cost", has_text=missing)).to_be_visible()
        run(page)
        refused(page, missing, before)
        page.get_by_label("Model", exact=True).select_option("emoji")
        expect(page.locator(".cost", has_text=missing)).to_have_count(0)
        run(page)
        assert until(lambda: jobs(url))[0]["recipe"]["model"] == "emoji"


def jobs(url: str) -> list[Any]:
    found: list[Any] = httpx.get(f"{url}/v1/jobs", trust_env=False).json()["jobs"]
    return found


def test_a_method_whose_weights_are_not_there(browser: Browser, tmp_path: Path) -> None:
    """It cannot be chosen, which a sentence says; a painting that has it already is refused."""

    def without(body: Any) -> None:
        (method,) = [one for one in body["methods"] if one["id"] == "controlnet"]
        method["fields"]["properties"]["file"] |= {"format": "weights", "offered": offered}
        method["unavailable"] = "" if offered else method["unavailable"]

    offered = ["lines.safetensors"]
    options: Any = {"service_workers": "block"}
    with (
        stub_server(tmp_path) as url,
        studio(
            browser, url, allowed=("status of 422", "blocked by Playwright"), **options
        ) as watched,
    ):
        page = watched.page
        answered(page, "/v1/methods", without)
        page.reload()
        before = painted(page)
        choice = page.get_by_label("Add another method")
        choice.select_option("controlnet")
        card = page.get_by_role("article").first
        expect(card.get_by_role("combobox").first).to_have_value("lines.safetensors")
        page.wait_for_timeout(600)
        kept(page)
        offered.clear()
        page.reload()
        ready(page)
        why = "controlnet: needs weights (file) that this server does not offer; start it with"
        expect(card.get_by_text(why)).to_be_visible()
        run(page)
        refused(page, why, before)
        card.get_by_role("button", name="Remove").click()
        expect(choice.locator("option[value=controlnet]")).to_be_disabled()
        page.get_by_text("Not to be had at this server").click()
        expect(page.get_by_role("listitem").filter(has_text=why)).to_be_visible()
        assert violations(page) == []


def test_a_token_that_has_expired(browser: Browser, tmp_path: Path) -> None:
    with (
        stub_server(tmp_path, tokens=TOKENS) as url,
        studio(browser, url, allowed=("status of 401",)) as watched,
    ):
        page = watched.page
        dialog = page.get_by_role("dialog", name="Log in")

        def enter() -> None:
            dialog.get_by_label("Token").fill(TOKENS["phone"])
            dialog.get_by_role("button", name="Log in").click()
            expect(dialog).to_have_count(0)

        enter()
        page.get_by_role("radio", name="Words alone").click()  # methods are there at once
        before = painted(page)
        page.context.clear_cookies()
        run(page)
        expect(dialog).to_be_visible()
        assert covered(page, "strokes") == before
        expect(page.get_by_text("The server does not answer")).to_have_count(0)
        enter()
        run(page)
        page.get_by_role("button", name="Stop").wait_for()
        assert covered(page, "strokes") == before
