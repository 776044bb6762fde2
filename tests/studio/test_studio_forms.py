"""Forms come from the server's schemas: a method that is one Python file is there at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from helpers.installed import installed
from helpers.remote import stub_server, until
from helpers.studio import studio

METHOD = '''
"""Shift: a method of another package."""

from typing import Annotated, ClassVar

from sfumato.methods import Method, knob, method


@method
class Shift(Method):
    """Moves nothing, by a number."""

    verb: ClassVar[bool] = True
    presets: ClassVar = {"near": {"by": 2.0}, "far": {"by": 8.0}}
    examples: ClassVar[tuple[str, ...]] = ("--by 2",)

    by: Annotated[float, knob("how far it is moved", main=True, ge=0, le=9)] = 1.0
    turns: Annotated[int, knob("how often", ge=0, le=5)] = 0

    def __call__(self, process):
        return process
'''


@pytest.fixture
def shift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with installed("Shift", METHOD, tmp_path, monkeypatch):
        yield


def test_a_method_of_one_python_file_has_its_form(
    browser: Browser, shift: None, tmp_path: Path
) -> None:
    with stub_server(tmp_path / "server") as url, studio(browser, url) as watched:
        page = watched.page
        page.get_by_role("radio", name="Shift").click()
        expect(page.get_by_text("Moves nothing, by a number.")).to_be_visible()
        page.get_by_role("button", name="far").click()
        number = page.get_by_label("by, as a number")
        expect(number).to_have_attribute("placeholder", "8")
        expect(page.get_by_text("how often")).to_have_count(0)  # only main fields at first
        page.get_by_role("button", name="More", exact=True).click()
        page.get_by_label("turns, as a number").fill("3")
        page.get_by_label("turns, as a number").blur()
        page.get_by_label("Words", exact=True).fill("a red apple")
        page.get_by_role("button", name="Run", exact=False).last.click()
        jobs = until(lambda: httpx.get(f"{url}/v1/jobs").json()["jobs"], 20)
        (entry,) = jobs[0]["recipe"]["methods"]
        assert entry["method"] == "shift"
        assert (entry["by"], entry["turns"]) == (8.0, 3)
        assert jobs[0]["recipe"]["prompt"] == "a red apple"


def test_several_methods_are_cards(browser: Browser, tmp_path: Path) -> None:
    with stub_server(tmp_path / "server") as url, studio(browser, url) as watched:
        page = watched.page
        page.get_by_role("radio", name="Words alone").click()
        page.get_by_label("Add another method").select_option("cfg")
        page.get_by_label("Add another method").select_option("total_variation")
        page.get_by_role("article", name="Guidance").get_by_label("scale, as a number").fill("5")
        page.get_by_role("article", name="Smoothness").get_by_role("button", name="Remove").click()
        page.get_by_label("Words", exact=True).fill("a pear")
        page.get_by_label("Words", exact=True).press("Enter")
        jobs = until(lambda: httpx.get(f"{url}/v1/jobs").json()["jobs"], 20)
        assert [one["method"] for one in jobs[0]["recipe"]["methods"]] == ["cfg"]
        assert jobs[0]["recipe"]["methods"][0]["scale"] == 5


def test_regions_are_rows_of_a_form(browser: Browser, tmp_path: Path) -> None:
    allowed = ("status of 422",)  # what a form costs is asked while it is half filled in
    with stub_server(tmp_path / "server") as url, studio(browser, url, allowed=allowed) as watched:
        page = watched.page
        page.get_by_role("radio", name="Words alone").click()
        page.get_by_label("Add another method").select_option("dense_diffusion")
        card = page.get_by_role("article").first
        for _ in range(2):
            card.get_by_role("button", name="Add one").click()
        card.get_by_label("Words", exact=True).first.fill("red apple")
        card.get_by_label("Words", exact=True).first.blur()
        for k, number in enumerate((0, 0, 0.5, 1)):
            box = card.get_by_label(f"Box {k + 1}").first
            box.fill(str(number))
            box.blur()
        card.get_by_role("button", name="Remove number 2").click()
        page.locator("#prompt").fill("red apple on grass")
        page.locator("#prompt").press("Enter")
        jobs = until(lambda: httpx.get(f"{url}/v1/jobs").json()["jobs"], 20)
        (method,) = jobs[0]["recipe"]["methods"]
        (region,) = method["regions"]
        assert (region["words"], region["box"]) == ("red apple", [0, 0, 0.5, 1])


def test_what_it_costs_is_said_before_it_runs(browser: Browser, tmp_path: Path) -> None:
    with stub_server(tmp_path / "server") as url, studio(browser, url) as watched:
        expect(watched.page.get_by_text("3 calls")).to_be_visible()


def test_settings_that_are_refused_are_said_before_it_runs(
    browser: Browser, tmp_path: Path
) -> None:
    allowed = ("status of 422",)  # a browser logs what it was refused
    with stub_server(tmp_path / "server") as url, studio(browser, url, allowed=allowed) as watched:
        watched.page.get_by_label("Words", exact=True).fill("fail")
        expect(watched.page.get_by_text("Emoji: cannot draw that")).to_be_visible()
