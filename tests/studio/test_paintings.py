"""Paintings: kept over a reload, in files, of pictures dropped, pasted or bad; full storage."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from helpers.easel import covered, drag, hand_over, kept, pixel, ready, said, size, until
from helpers.remote import Program
from helpers.studio import Watched, studio

Picture = Callable[[], bytes]


@pytest.fixture
def page(browser: Browser, program: Program) -> Iterator[Page]:
    with studio(browser, program.url) as watched:
        ready(watched.page)
        yield watched.page


def stroke(page: Page, y: float = 0.5) -> None:
    across, down = size(page)
    drag(page, [(across * 0.25, down * y), (across * 0.75, down * y)])


def named(page: Page) -> str:
    return page.get_by_role("textbox", name="Name of the painting").input_value()


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def quarters(width: int = 80, height: int = 60) -> Image.Image:
    """Red above left, green above right, blue below."""
    image = Image.new("RGB", (width, height), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, width // 2, height // 2))
    image.paste((0, 255, 0), (width // 2, 0, width, height // 2))
    return image


def turned() -> bytes:
    """A photo that lies on its side, which its orientation says."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown rightly, it is turned clockwise by a quarter
    return encoded(quarters().rotate(90, expand=True), "JPEG", exif=exif, quality=95)


def forged(width: int, height: int) -> bytes:
    """A PNG of few bytes that says it is of any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_reload_loses_nothing(page: Page) -> None:
    hand_over(page, "drop", encoded(quarters()), "quarters.png", "image/png")
    until(lambda: size(page) == (80, 60))
    stroke(page)
    stroke(page, 0.7)
    page.keyboard.press("m")
    stroke(page, 0.3)
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+Shift+Z")
    page.get_by_role("textbox", name="Name of the painting").fill("An apple")
    page.keyboard.press("Enter")
    page.locator("textarea").first.fill("red apple")
    page.wait_for_timeout(600)  # after which a setting is kept
    kept(page)
    before = [covered(page, layer) for layer in ("picture", "strokes", "mask")]
    page.reload()
    ready(page)
    until(lambda: covered(page, "picture") > 0)
    assert [covered(page, layer) for layer in ("picture", "strokes", "mask")] == before
    assert named(page) == "An apple"
    assert page.locator("textarea").first.input_value() == "red apple"
    for _ in range(4):  # the way there is kept too: mask, strokes, picture
        page.keyboard.press("Control+z")
    until(lambda: sum(covered(page, layer) for layer in ("picture", "strokes", "mask")) == 0)
    assert size(page) != (80, 60)


def close(watched: Watched, other: Page) -> None:
    """As a user does, who stays for a moment where the browser asks, as it does of what is unsaved.

    other: a page that stays, on which what happens is waited for.
    """
    watched.stays = True
    watched.page.close(run_before_unload=True)
    for _ in range(500):
        if watched.page.is_closed() or watched.asked:
            break
        other.wait_for_timeout(20)
    if not watched.page.is_closed():
        assert watched.asked
        kept(watched.page)
        watched.page.close()


def test_a_page_closed_at_once_keeps_its_last_stroke(browser: Browser, program: Program) -> None:
    context, other = browser.new_context(), browser.new_page()
    with studio(browser, program.url, context=context) as watched:
        ready(watched.page)
        stroke(watched.page)
        painted = covered(watched.page, "strokes")
        close(watched, other)
    with studio(browser, program.url, context=context) as watched:
        ready(watched.page)
        until(lambda: covered(watched.page, "strokes") == painted)
    context.close()
    other.close()


def test_several_paintings(page: Page) -> None:
    stroke(page)
    first = covered(page, "strokes")
    page.keyboard.press("Shift+N")
    page.get_by_role("button", name="64 × 64").click()
    page.get_by_role("button", name="Create").click()
    until(lambda: size(page) == (64, 64))
    assert covered(page, "strokes") == 0
    page.keyboard.press("Shift+O")
    page.get_by_role("button", name="Painting 1").first.click()
    until(lambda: size(page) != (64, 64))
    assert covered(page, "strokes") == first
    page.keyboard.press("Shift+O")
    page.get_by_role("button", name="Delete Painting 2").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Deleted “Painting 2”").wait_for()
    dialog.get_by_role("button", name="Undo").click()
    until(lambda: size(page) == (64, 64))


def test_a_picture_dropped_or_pasted_on_a_blank_painting_gives_it_its_size(page: Page) -> None:
    hand_over(page, "drop", encoded(quarters()), "quarters.png", "image/png")
    until(lambda: size(page) == (80, 60))
    until(lambda: pixel(page, "picture", 5, 5) == (255, 0, 0, 255))
    page.keyboard.press("Control+z")
    until(lambda: size(page) != (80, 60))
    hand_over(page, "paste", encoded(quarters(100, 40)), "image.png", "image/png")
    until(lambda: size(page) == (100, 40))
    page.get_by_role("button", name="Colour", exact=True).click()
    panel = page.get_by_role("group", name="Colour", exact=True)
    for colour in ("#ff0000", "#00ff00", "#0000ff"):
        panel.get_by_role("button", name=f"Paint with {colour}").wait_for()


def test_a_picture_for_a_painting_that_is_begun_asks_what_it_is_for(page: Page) -> None:
    before = size(page)
    stroke(page)
    painted = covered(page, "strokes")
    hand_over(page, "paste", encoded(quarters()), "quarters.png", "image/png")
    page.get_by_role("button", name="A reference").click()
    page.get_by_role("img", name="Reference").wait_for()
    assert (covered(page, "strokes"), covered(page, "picture")) == (painted, 0)
    hand_over(page, "drop", encoded(quarters()), "quarters.png", "image/png")
    page.get_by_role("button", name="The picture to paint on").click()
    until(lambda: covered(page, "picture") > 0)
    assert (size(page), covered(page, "strokes")) == (before, painted)
    said(page, "Scaled from 80 × 60")
    hand_over(page, "paste", encoded(quarters()), "quarters.png", "image/png")
    page.get_by_role("button", name="A painting of its own").click()
    until(lambda: size(page) == (80, 60))
    assert named(page) == "quarters"


def test_a_photo_is_upright_whatever_way_the_camera_was_held(page: Page) -> None:
    hand_over(page, "drop", turned(), "photo.jpg", "image/jpeg")
    until(lambda: size(page) == (80, 60))
    until(lambda: pixel(page, "picture", 10, 10)[0] > 200)
    red, green, blue = (pixel(page, "picture", *spot) for spot in ((10, 10), (70, 10), (40, 50)))
    assert [max(range(3), key=lambda k: colour[k]) for colour in (red, green, blue)] == [0, 1, 2]


NOTES: dict[str, tuple[Picture, str]] = {
    "alpha": (lambda: encoded(Image.new("RGBA", (64, 64), (255, 0, 0, 0))), "transparent is white"),
    "sixteen": (lambda: encoded(Image.new("I;16", (64, 64), 40_000)), "16 bits"),
    "large": (
        lambda: encoded(Image.new("RGB", (2048, 1024), (9, 9, 9))),
        "Scaled from 2,048",
    ),
}


@pytest.mark.parametrize("kind", NOTES)
def test_what_is_changed_of_a_picture_is_said(page: Page, kind: str) -> None:
    make, words = NOTES[kind]
    hand_over(page, "drop", make(), f"{kind}.png", "image/png")
    said(page, words)
    until(lambda: covered(page, "picture") == size(page)[0] * size(page)[1])
    if kind == "alpha":
        assert pixel(page, "picture", 9, 9) == (255, 255, 255, 255)


BAD: dict[str, tuple[Picture, str, str]] = {
    "heic": (
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
        "photo.heic",
        "HEIC",
    ),
    "cut.png": (
        lambda: encoded(quarters(400, 300))[:-40],
        "cut.png",
        "ends before its picture",
    ),
    "cut.jpg": (
        lambda: encoded(quarters(), "JPEG")[:-40],
        "cut.jpg",
        "ends before its picture",
    ),
    "one pixel": (lambda: encoded(quarters(1, 1)), "dot.png", "only 1 × 1 pixels"),
    "words": (lambda: b"hello", "hello.png", "no picture that can be read"),
    "nothing": (lambda: b"", "empty.png", "is empty"),
    "huge": (lambda: forged(60_000, 60_000), "huge.png", "60,000 × 60,000"),
    "broken": (lambda: forged(64, 64), "broken.png", "cannot be read as a picture"),
    "thin": (lambda: encoded(Image.new("RGB", (8000, 40))), "thin.png", "too long and thin"),
    "tiff": (lambda: encoded(quarters(), "TIFF"), "scan.tiff", "no picture that can be read"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_gets_one_sentence_and_the_painting_stays(page: Page, kind: str) -> None:
    make, name, words = BAD[kind]
    before = size(page)
    hand_over(page, "drop", make(), name, "image/png")
    sentence = said(page, words)
    assert sentence.startswith(name)
    assert page.locator(".notice").count() == 1
    assert (size(page), covered(page, "picture")) == (before, 0)
    assert page.get_by_role("button", name="Undo").is_disabled()


def test_a_photo_of_forty_megabytes_is_taken(page: Page, tmp_path: Path) -> None:
    """As noise it is as heavy as its pixels; the page scales it down, the server never sees it."""
    noise = np.random.default_rng(0).integers(0, 256, (3700, 3700, 3), dtype=np.uint8)
    file = tmp_path / "noise.png"
    Image.fromarray(noise).save(file, compress_level=0)
    assert file.stat().st_size > 40e6
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="File", exact=True).click()
        page.get_by_role("button", name="Open picture").click()
    chooser.value.set_files(file)
    said(page, "Scaled from 3,700 × 3,700")
    assert size(page) == (1024, 1024)


def test_a_painting_saved_as_a_picture_has_its_very_pixels(page: Page) -> None:
    hand_over(page, "drop", encoded(quarters()), "quarters.png", "image/png")
    until(lambda: size(page) == (80, 60))
    page.keyboard.press("m")
    stroke(page, 0.8)  # a mask is no part of it
    with page.expect_download() as download:
        page.get_by_role("button", name="File", exact=True).click()
        page.get_by_role("button", name="Save as PNG").click()
    saved = Image.open(download.value.path())
    assert saved.convert("RGB").tobytes() == quarters().tobytes()
    assert saved.convert("RGBA").getextrema()[3] == (255, 255)


def exported(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name="File", exact=True).click()
        page.get_by_role("button", name="Export painting").click()
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def imported(page: Page, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="File", exact=True).click()
        page.get_by_role("button", name="Import painting").click()
    chooser.value.set_files(file)


def test_a_painting_goes_through_a_file(
    browser: Browser, program: Program, page: Page, tmp_path: Path
) -> None:
    hand_over(page, "drop", encoded(quarters()), "quarters.png", "image/png")
    until(lambda: size(page) == (80, 60))
    stroke(page)
    page.keyboard.press("m")
    stroke(page, 0.3)
    before = [covered(page, layer) for layer in ("picture", "strokes", "mask")]
    file = exported(page, tmp_path)
    assert {"document.json", "document.sha256"} < set(zipfile.ZipFile(file).namelist())
    with studio(browser, program.url) as other:
        ready(other.page)
        imported(other.page, file)
        said(other.page, "Opened")
        until(lambda: covered(other.page, "picture") > 0)
        assert [covered(other.page, layer) for layer in ("picture", "strokes", "mask")] == before


@pytest.mark.parametrize("kind", ["cut", "foreign", "words"])
def test_a_bad_painting_gets_one_sentence_and_the_open_one_stays(
    page: Page, tmp_path: Path, kind: str
) -> None:
    stroke(page)
    painted = covered(page, "strokes")
    file = exported(page, tmp_path)
    page.locator(".shut").first.click()
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:-60])
    elif kind == "foreign":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("other.txt", "hello")
    else:
        file.write_bytes(b"hello")
    imported(page, file)
    said(page, "damaged" if kind == "cut" else "no painting of the studio")
    assert page.locator(".notice").count() == 1
    assert covered(page, "strokes") == painted


def test_full_storage_is_said_once_and_the_painting_goes_on(
    browser: Browser, program: Program
) -> None:
    """The browser gives a transaction up when its quota is reached; all is kept once it is not.

    Its quota is set before anything is kept: what is left of it is remembered for a while.
    """
    context = browser.new_context(service_workers="block")  # whose files count as well
    wire = context.new_cdp_session(context.new_page())
    quota = {"origin": program.url, "quotaSize": 200_000}
    wire.send("Storage.overrideQuotaForOrigin", quota)
    blocked = ("blocked by Playwright",)
    with studio(browser, program.url, context=context, allowed=blocked) as watched:
        page = watched.page
        ready(page)
        stroke(page, 0.3)
        kept(page)
        noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
        hand_over(page, "drop", encoded(Image.fromarray(noise)), "noise.png", "image/png")
        page.get_by_role("button", name="The picture to paint on").click()
        said(page, "storage is full")
        stroke(page, 0.6)
        page.wait_for_timeout(200)
        assert page.locator(".notice", has_text="storage is full").count() == 1
        assert page.get_by_text("Not kept yet").count() == 1
        layers = ("picture", "strokes")
        before = [covered(page, layer) for layer in layers]
        assert min(before) > 0
        wire.send("Storage.overrideQuotaForOrigin", {"origin": program.url})
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+Shift+Z")
        kept(page)
        page.reload()
        ready(page)
        until(lambda: [covered(page, layer) for layer in layers] == before)
    context.close()


def test_two_tabs_with_one_painting_lose_no_stroke(browser: Browser, program: Program) -> None:
    context = browser.new_context()
    with studio(browser, program.url, context=context) as one:
        ready(one.page)
        stroke(one.page, 0.2)
        kept(one.page)
        with studio(browser, program.url, context=context) as two:
            ready(two.page)
            stroke(one.page, 0.4)
            kept(one.page)
            stroke(two.page, 0.6)
            said(two.page, "Another tab has changed this painting")
            kept(two.page)
            name = named(two.page)
            assert name.endswith("(2)")
            two.page.reload()
            ready(two.page)
            assert named(two.page) == name
            one.page.reload()
            ready(one.page)
            assert named(one.page) != name
        one.page.keyboard.press("Shift+O")
        one.page.get_by_role("button", name=name).first.wait_for()
    context.close()
