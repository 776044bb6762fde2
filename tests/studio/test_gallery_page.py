"""The gallery in a browser: search, one picture, delete and its undoing, ZIP, a dropped PNG, and
thousands of pictures."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from PIL import Image, PngImagePlugin
from playwright.sync_api import Browser, Page, expect

from helpers.easel import covered
from helpers.program import STROKES
from helpers.remote import Program, stub_server, until
from helpers.served import StubRunner, recipe_job
from helpers.studio import PHONE, scrolls_sideways, studio, violations
from sfumato.server.settings import Limits

STROKE = STROKES / "red-apple.png"


def made(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The ended job of a body."""
    answer = httpx.post(f"{url}/v1/jobs", json=body, trust_env=False)
    assert answer.status_code == 202, answer.text
    where = f"{url}/v1/jobs/{answer.json()['id']}"

    def ended() -> Any:
        job = httpx.get(where, trust_env=False).json()
        return job if job["state"] not in ("queued", "running") else None

    job: dict[str, Any] = until(ended)
    assert job["state"] == "done", job
    return job


def upload(url: str, name: str, data: bytes) -> str:
    answer = httpx.post(f"{url}/v1/images", files={"file": (name, data)}, trust_env=False)
    sha256: str = answer.json()["sha256"]
    return sha256


def drop(page: Page, name: str, data: bytes) -> None:
    """A file that is dropped on the page."""
    script = """([name, data]) => {
      const files = new DataTransfer();
      files.items.add(new File([Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0))], name));
      return files;
    }"""
    files = page.evaluate_handle(script, [name, base64.b64encode(data).decode()])
    page.dispatch_event(".gallery", "drop", {"dataTransfer": files})


@pytest.fixture(scope="module")
def stubbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of ready pictures: four apples and a house."""
    with stub_server(tmp_path_factory.mktemp("stub"), StubRunner()) as url:
        for seed in range(4):
            made(url, recipe_job(seed, "red apple"))
        made(url, recipe_job(4, "blue house"))
        yield url


def test_words_find_pictures_and_a_picture_has_a_page(browser: Browser, stubbed: str) -> None:
    """Search as one types; a tile opens, arrow keys go on, escape goes back."""
    with studio(browser, stubbed, "gallery") as watched:
        page = watched.page
        tiles = page.locator(".tile .open")
        expect(tiles).to_have_count(5)
        page.keyboard.press("/")
        page.keyboard.type("HOUSE")
        expect(tiles).to_have_count(1)
        tiles.first.click()
        expect(page.locator(".words")).to_have_text("blue house")
        expect(page.get_by_text("Made of words alone")).to_be_visible()
        page.keyboard.press("Escape")
        expect(tiles).to_have_count(1)
        page.get_by_role("searchbox").fill("")
        expect(tiles).to_have_count(5)
        tiles.first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(page.locator(".words")).to_have_text("red apple")
        page.keyboard.press("ArrowRight")
        expect(page.locator("dd", has_text=re.compile("^2$"))).to_be_visible()


def test_a_deleted_picture_is_brought_back(browser: Browser, stubbed: str) -> None:
    """One from its page, two from the wall; undo within the notice."""
    with studio(browser, stubbed, "gallery") as watched:
        page = watched.page
        tiles = page.locator(".tile .open")
        tiles.first.click()
        expect(page.locator(".words")).to_have_text("blue house")
        page.get_by_role("button", name="Delete").click()
        expect(page.get_by_text("1 picture deleted")).to_be_visible()
        expect(page.locator(".words")).to_have_text("red apple")
        found = httpx.get(f"{stubbed}/v1/gallery", trust_env=False).json()["pictures"]
        assert [one["seed"] for one in found] == [3, 2, 1, 0]
        page.get_by_role("button", name="Undo").click()
        page.goto(f"{stubbed}/#/gallery")
        expect(tiles).to_have_count(5)
        page.get_by_role("button", name="Select", exact=True).first.click()
        tiles.nth(0).click()
        tiles.nth(1).click()
        page.get_by_role("toolbar").get_by_role("button", name="Delete").click()
        expect(tiles).to_have_count(3)
        page.get_by_role("button", name="Undo").last.click()
        expect(tiles).to_have_count(5)


def test_many_are_downloaded_as_one_archive(browser: Browser, stubbed: str) -> None:
    """Those that are chosen, by click and by shift and click, each with its recipe."""
    with studio(browser, stubbed, "gallery") as watched:
        page = watched.page
        page.locator(".tile .open").nth(0).click(modifiers=["Control"])
        page.locator(".tile .open").nth(3).click(modifiers=["Shift"])
        expect(page.get_by_role("status").filter(has_text="4 selected")).to_be_visible()
        with page.expect_download() as waiting:
            page.get_by_role("button", name="ZIP").click()
        archive = zipfile.ZipFile(Path(waiting.value.path()))
        assert len(archive.namelist()) == 8
        assert json.loads(archive.read("1-blue-house-4.json"))["prompt"] == "blue house"


def test_settings_of_another_program_are_taken(browser: Browser, stubbed: str) -> None:
    """A1111 parameters in a dropped PNG; what carries nothing is said in a sentence."""
    text, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    settings = "Steps: 7, Sampler: DPM++ 2M Karras, Seed: 5, Model: dreamy"
    text.add_text("parameters", f"a fox\nNegative prompt: snow\n{settings}")
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=text)
    with studio(browser, stubbed, "gallery") as watched:
        page = watched.page
        drop(page, "photo.jpg", b"\xff\xd8\xff")
        expect(page.get_by_text("photo.jpg: is no PNG")).to_be_visible()
        plain = io.BytesIO()
        Image.new("RGB", (8, 8)).save(plain, "PNG")
        drop(page, "shot.png", plain.getvalue())
        expect(page.get_by_text("shot.png: carries no settings")).to_be_visible()
        drop(page, "fox.png", buffer.getvalue())
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("a fox")).to_be_visible()
        expect(dialog.get_by_text("Made by another program")).to_be_visible()
        dialog.get_by_role("button", name="Use these settings").click()
        expect(page.locator("#prompt")).to_have_value("a fox")
        expect(page.locator("#steps")).to_have_value("7")
        expect(page.locator("#solver")).to_have_value("dpmpp-2m")
        expect(page.locator("#spacing")).to_have_value("karras")


def test_a_dropped_picture_is_made_again_bit_for_bit(browser: Browser, program: Program) -> None:
    """An edit of two pictures: the second one is dropped, and its bytes come again."""
    sha256 = upload(program.url, STROKE.name, STROKE.read_bytes())
    image = {"sha256": sha256, "name": STROKE.name}
    recipe = {"model": "emoji", "prompt": "red apple", "seed": 3, "steps": 2, "stages": 1, "n": 2,
              "methods": [{"method": "sdedit", "image": image, "t0": 0.5}]}  # fmt: skip
    job = made(program.url, {"recipe": recipe})
    hash_ = job["results"][1]["sha256"]
    data = httpx.get(f"{program.url}/v1/images/{hash_}", trust_env=False).content
    with studio(browser, program.url, "gallery") as watched:
        page = watched.page
        drop(page, "apple.png", data)
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("Made by sfumato")).to_be_visible()
        dialog.get_by_role("button", name="Reproduce").click()
        expect(page.get_by_text("Reproduced: every byte is the same")).to_be_visible(timeout=60_000)
        page.locator(".tile .open").first.click()
        knots = page.get_by_role("group", name="Lineage").get_by_role("button")
        expect(knots).to_have_count(2)  # the stroke, and what was made of it
        expect(page.locator(".knot.here")).to_have_count(1)
        page.get_by_role("button", name="Use as input").click()
        page.wait_for_selector(".layer canvas")
        until(lambda: covered(page, "picture") > 0)


def test_thousands_of_pictures_have_elements_for_what_is_seen(
    browser: Browser, tmp_path: Path
) -> None:
    """From the first to the last by wheel and by key, never more than some screens of tiles."""
    with stub_server(tmp_path, StubRunner(), limits=Limits(pictures=1000)) as url:
        made(url, recipe_job(0, n=1000))
        with studio(browser, url, "gallery", PHONE) as watched:
            page = watched.page
            tiles = page.locator(".tile .open")
            tiles.first.wait_for()
            wall = page.locator(".wall")
            for _ in range(12):
                wall.evaluate("wall => wall.scrollBy(0, 5000)")
                page.wait_for_timeout(50)
                assert page.locator(".place").count() < 100
            page.locator('[data-key$="-999"]').wait_for()
            wall.evaluate("wall => wall.scrollTo(0, 0)")
            tiles.first.focus()
            page.keyboard.press("End")
            page.locator('[data-key$="-999"]').wait_for()


@pytest.mark.parametrize(
    ("locale", "scheme"),
    [
        ("en-GB", "light"),
        ("ko-KR", "dark"),
        pytest.param("en-GB", "dark", marks=pytest.mark.slow),
        pytest.param("ko-KR", "light", marks=pytest.mark.slow),
    ],
)
def test_everybody_can_use_it(browser: Browser, stubbed: str, scheme: Any, locale: str) -> None:
    """axe-core finds nothing serious on wall, page and dialog; nothing scrolls sideways."""
    options = {"color_scheme": scheme, "locale": locale}
    for width in (360, 768, 1440) if scheme == "light" else (390,):
        with studio(browser, stubbed, "gallery", (width, 844), **options) as watched:
            page = watched.page
            page.locator(".tile img").first.wait_for()
            assert not violations(page)
            assert not scrolls_sideways(page)
            page.locator(".tile .open").first.click()
            page.locator(".detail dl").first.wait_for()
            assert not violations(page)
            assert not scrolls_sideways(page)
