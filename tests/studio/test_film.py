"""The filmstrip in a browser: a sweep of t0, its curve, and going on from a frame."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from playwright.sync_api import Browser, expect

from helpers.remote import Program, stub_server
from helpers.served import StubRunner
from helpers.studio import PHONE, paint, quick, scrolls_sideways, studio, violations

SLOW = 240_000  # milliseconds that a film may take where other programs run too


def test_a_film_from_faithful_to_realistic(browser: Browser, program: Program) -> None:
    """Three frames come one by one, then the curve; a frame is gone on from; a reload keeps it."""
    with studio(browser, program.url) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        paint(page, (0.3, 0.5), (0.5, 0.3), (0.7, 0.5), (0.5, 0.7), (0.3, 0.5))
        page.get_by_label("Words", exact=True).fill("red apple")
        quick(page, steps=2)
        page.get_by_role("button", name="Film", exact=True).click()
        film = page.get_by_role("region", name="Film")
        film.get_by_label("frames", exact=True).fill("3")
        film.get_by_role("button", name="Make film").click()
        frames = film.locator(".frame")
        expect(frames).to_have_count(3)
        expect(film.locator("img")).to_have_count(3, timeout=SLOW)
        expect(film.get_by_role("img", name=re.compile("distance to the painting"))).to_be_visible(
            timeout=SLOW
        )
        frames.nth(2).click()
        shown = page.locator(".stage .overlay")
        expect(shown).to_be_visible()
        page.keyboard.press("ArrowLeft")
        expect(frames.nth(1)).to_have_attribute("aria-selected", "true")
        film.get_by_role("button", name="Use 0.55").click()
        expect(page.get_by_label("t0, as a number")).to_have_value("0.55")
        film.get_by_role("button", name="Go on from this").click()
        expect(shown).to_have_count(0)
        page.wait_for_timeout(600)
        page.reload()
        page.get_by_role("button", name="Film", exact=True).click()
        expect(film.locator("img")).to_have_count(3)
        sweeps = httpx.get(f"{program.url}/v1/jobs?kind=sweep", trust_env=False).json()["jobs"]
        assert sweeps[0]["recipe"]["methods"][0]["method"] == "sdedit"


def test_choices_are_swept_too(browser: Browser, tmp_path: Path) -> None:
    """A frame for each, known again after a reload; the one that is looked at can be taken."""
    with stub_server(tmp_path, StubRunner()) as url, studio(browser, url) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        paint(page, (0.3, 0.3), (0.7, 0.7))
        page.get_by_role("radio", name="Reference").click()
        page.get_by_role("button", name="Film", exact=True).click()
        film = page.get_by_role("region", name="Film")
        film.get_by_label("What changes from frame to frame").select_option("ilvr.kernel")
        expect(film.get_by_label("from", exact=True)).to_have_count(0)
        film.get_by_role("button", name="Make film").click()
        frames = film.locator(".frame")
        expect(frames).to_have_count(5)
        expect(film.locator("img")).to_have_count(5)
        page.wait_for_timeout(600)  # after which it is kept
        page.reload()
        page.get_by_role("button", name="Film", exact=True).click()
        expect(film.locator("img")).to_have_count(5)
        frames.nth(4).click()
        film.get_by_role("button", name="Use box").click()
        page.locator(".form .more").click()
        expect(page.locator("select").filter(has_text="lanczos3")).to_have_value("box")


def test_any_number_can_be_swept_on_a_phone(browser: Browser, program: Program) -> None:
    """Steps as well, and a method's other numbers are there to choose; it is stopped midway."""
    with studio(browser, program.url, size=PHONE) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        paint(page, (0.3, 0.3), (0.7, 0.7))
        page.get_by_label("Words", exact=True).fill("red apple")
        page.get_by_role("button", name="Film", exact=True).click()
        film = page.get_by_role("region", name="Film")
        field = film.get_by_label("What changes from frame to frame")
        assert field.locator("option").count() > 5
        field.select_option("steps")
        expect(film.get_by_label("from", exact=True)).to_have_value("2")
        film.get_by_role("button", name="Make film").click()
        film.get_by_role("button", name="Stop").click()
        expect(film.get_by_role("button", name="Make film")).to_be_visible(timeout=SLOW)
        assert not scrolls_sideways(page)
        assert not violations(page)
