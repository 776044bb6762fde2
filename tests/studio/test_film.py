"""The filmstrip in a browser: a sweep of t0, its curve, and going on from a frame."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from playwright.sync_api import Browser, expect

from helpers.remote import Program, stub_server, until
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


def test_words_and_windows_are_swept(browser: Browser, tmp_path: Path) -> None:
    """Words line by line, windows between two, choices that are chosen; each frame's recipe has its
    value, and one that is looked at is taken into the form."""
    with stub_server(tmp_path, StubRunner()) as url, studio(browser, url) as watched:
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        paint(page, (0.3, 0.3), (0.7, 0.7))
        page.get_by_label("Words", exact=True).fill("red apple")
        page.get_by_label("Add another method").select_option("cfg")
        page.get_by_role("button", name="Film", exact=True).click()
        film = page.get_by_role("region", name="Film")
        field = film.get_by_label("What changes from frame to frame")
        frames = film.locator(".frame")

        def recipes() -> list[Any]:
            """Of the newest film, in its frames' order."""
            asked = httpx.get(f"{url}/v1/jobs/{films()[0]['id']}/request", trust_env=False).json()
            return [row["recipe"] for row in asked["rows"]]

        def films() -> list[Any]:
            jobs = httpx.get(f"{url}/v1/jobs?kind=batch", trust_env=False).json()
            found: list[Any] = jobs["jobs"]
            return found

        def make(count: int) -> None:
            before = len(films())
            film.get_by_role("button", name="Make film").click()
            until(lambda: len(films()) > before and films()[0]["state"] == "done")
            expect(film.locator("img")).to_have_count(count)

        field.select_option("prompt")
        lines = film.get_by_label("One a line")
        expect(lines).to_have_value("red apple\n")
        film.get_by_role("button", name="Make film").click()
        expect(page.get_by_text("A film has two frames or more")).to_be_visible()
        lines.fill("red apple, oil\ngreen pear\n\nblue pot of ink")
        make(3)
        assert [recipe["prompt"] for recipe in recipes()] == [
            "red apple, oil", "green pear", "blue pot of ink",
        ]  # fmt: skip
        assert len({recipe["seed"] for recipe in recipes()}) == 1
        frames.nth(1).click()
        film.get_by_role("button", name="Use green pear").click()
        expect(page.get_by_label("Words", exact=True)).to_have_value("green pear")

        field.select_option("cfg.window")
        expect(film.get_by_label("to from", exact=True)).to_have_value("0.5")
        film.get_by_label("to to", exact=True).fill("0.9")
        film.get_by_label("frames", exact=True).fill("3")
        make(3)
        windows = [recipe["methods"][1].get("window", [0, 1]) for recipe in recipes()]
        assert windows == [[0, 1], [0.25, 0.95], [0.5, 0.9]]
        assert {recipe["prompt"] for recipe in recipes()} == {"green pear"}
        frames.nth(2).click()
        film.get_by_role("button", name="Use 0.5 – 0.9").click()
        card = page.get_by_role("article").first
        card.locator(".more").click()
        expect(card.get_by_label("Window from")).to_have_value("0.5")
        page.wait_for_timeout(600)  # after which it is kept
        page.reload()
        page.get_by_role("button", name="Film", exact=True).click()
        expect(film.locator("img")).to_have_count(3)
        expect(frames.nth(1)).to_have_attribute("aria-label", "Frame of 0.25 – 0.95")

        field.select_option("solver")
        every = film.get_by_role("group", name="Frames of")
        for chip in every.get_by_role("button").all():
            if chip.inner_text() not in ("heun", "ddim"):
                chip.click()
        make(2)
        assert [recipe["solver"] for recipe in recipes()] == ["ddim", "heun"]
        assert not violations(page)


def test_every_field_of_every_form_is_there(browser: Browser, tmp_path: Path) -> None:
    """All that forms show, of all methods at once; but for secrets, and for what has fields of its
    own."""
    with (
        stub_server(tmp_path, StubRunner()) as url,
        studio(browser, url, allowed=("status of 422",)) as watched,  # such a heap of methods
    ):
        page = watched.page
        page.locator(".stage .sheet").wait_for()
        add = page.get_by_label("Add another method")
        there = add.locator("option:not([disabled])")
        names = [option.get_attribute("value") for option in there.all()]
        for name in filter(None, names):
            add.select_option(name)
        for more in page.locator(".form .more").all():
            more.click()
        fields = page.locator(".form .field")
        apart = fields.filter(has=page.locator("[type=password], .rows"))
        page.get_by_role("button", name="Film", exact=True).click()
        options = page.get_by_label("What changes from frame to frame").locator("option")
        swept = [option.get_attribute("value") or "" for option in options.all()]
        own = [name for name in swept if "." not in name]
        assert own == ["prompt", "negative", "steps", "seed", "solver", "spacing"]
        assert len(set(swept)) == len(swept) == fields.count() - apart.count() + len(own)
        assert apart.count() == 3
        assert {"sdedit.t0", "cfg.window", "ilvr.image", "diffstyler.art", "sdg.text"} <= {*swept}


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
