"""Painting: by mouse, pen, fingers and keys; layers, view, undo, tools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from helpers.easel import (
    RED,
    Fingers,
    at,
    covered,
    drag,
    kept,
    pen,
    pixel,
    ready,
    size,
    until,
    zoom,
)  # fmt: skip
from helpers.remote import Program
from helpers.studio import DESKTOP, PHONE, scrolls_sideways, studio, violations


@pytest.fixture
def page(browser: Browser, program: Program) -> Iterator[Page]:
    with studio(browser, program.url) as watched:
        ready(watched.page)
        yield watched.page


@pytest.fixture
def phone(browser: Browser, program: Program) -> Iterator[Page]:
    with studio(browser, program.url, size=PHONE) as watched:
        ready(watched.page)
        yield watched.page


def test_a_mouse_paints_in_the_pictures_own_pixels(page: Page) -> None:
    across, down = size(page)
    drag(page, [(across * 0.25, down / 2), (across * 0.75, down / 2)])
    assert pixel(page, "strokes", across // 2, down // 2) == (*RED, 255)
    assert pixel(page, "strokes", across // 2, down // 4)[3] == 0
    assert pixel(page, "strokes", across // 8, down // 2)[3] == 0
    assert covered(page, "mask") == covered(page, "picture") == 0


def test_a_pens_pressure_makes_the_stroke_wider(page: Page) -> None:
    across, down = size(page)
    widths = []
    for force in (0.15, 0.5, 0.95):
        before = covered(page, "strokes")
        y = down * (0.2 + force / 2)
        pen(page, [(across * (0.3 + k / 50), y) for k in range(20)], force)
        widths.append(covered(page, "strokes") - before)
    assert widths[0] * 1.5 < widths[1] < widths[2] / 1.3


def test_a_finger_paints_and_two_navigate_without_leaving_a_dot(phone: Page) -> None:
    across, down = size(phone)
    fingers = Fingers(phone)
    fingers.draw([(across * x, down / 2) for x in (0.3, 0.5, 0.7)])
    fingers.end()
    until(lambda: covered(phone, "strokes") > 50)
    painted, before = covered(phone, "strokes"), zoom(phone)
    middle = at(phone, across / 2, down / 2)
    apart = [[(middle[0] - d, middle[1]), (middle[0] + d, middle[1])] for d in (30, 50, 80, 110)]
    fingers.start(apart[0][0])
    fingers.start(*apart[0])
    for places in apart[1:]:
        fingers.move(*places)
    fingers.end(apart[-1][0])
    fingers.move((apart[-1][0][0] + 20, middle[1] + 30))
    fingers.end()
    until(lambda: zoom(phone) > before * 2)
    assert covered(phone, "strokes") == painted
    phone.get_by_role("button", name="Undo").click()  # of one stroke there was but one to undo
    assert phone.get_by_role("button", name="Undo").is_disabled()


def test_a_phone_has_all_tools_and_the_view_at_the_thumb(phone: Page) -> None:
    before = zoom(phone)
    phone.get_by_role("button", name="More tools").click()
    phone.get_by_role("button", name="Zoom in").click()
    assert zoom(phone) > before
    phone.get_by_role("button", name="Fit to the screen").click()
    assert zoom(phone) == before
    assert violations(phone) == []
    phone.get_by_role("button", name="Fill", exact=True).click()
    across, down = size(phone)
    phone.touchscreen.tap(*at(phone, across / 2, down / 2))
    until(lambda: covered(phone, "strokes") == across * down)


def test_fingers_only_navigate_once_a_pen_was_seen(phone: Page) -> None:
    across, down = size(phone)
    pen(phone, [(across * 0.4, down * 0.4), (across * 0.6, down * 0.4)], 0.5)
    until(lambda: covered(phone, "strokes") > 0)
    painted, before = covered(phone, "strokes"), at(phone, 0, 0)
    fingers = Fingers(phone)
    fingers.draw([(across * 0.3, down * 0.6), (across * 0.5, down * 0.7)])
    fingers.end()
    until(lambda: at(phone, 0, 0) != before)
    assert covered(phone, "strokes") == painted


def test_a_stroke_that_the_system_takes_away_stays(phone: Page) -> None:
    across, down = size(phone)
    fingers = Fingers(phone)
    fingers.draw([(across * x, down / 2) for x in (0.3, 0.5, 0.7)])
    fingers.cancel()
    until(lambda: covered(phone, "strokes") > 50)
    assert phone.get_by_role("button", name="Undo").is_enabled()


def test_undo_and_redo_by_keys(page: Page) -> None:
    across, down = size(page)
    seen = [0]
    for k in range(3):
        drag(page, [(across * 0.2, down * (0.3 + 0.2 * k)), (across * 0.8, down * (0.3 + 0.2 * k))])
        seen.append(covered(page, "strokes"))
    for k in (2, 1, 0):
        page.keyboard.press("Control+z")
        assert covered(page, "strokes") == seen[k]
    page.keyboard.press("Control+Shift+Z")
    page.keyboard.press("Control+y")
    assert covered(page, "strokes") == seen[2]


def test_a_hundred_strokes_undone_leave_what_was_before_each(page: Page) -> None:
    """States are kept on the way, from which undo draws; they must be those of the strokes."""
    across, down = size(page)
    page.mouse.move(*at(page, 5, 5))
    seen = [0]
    for k in range(60):
        x, y = across * (0.1 + 0.8 * (k % 10) / 10), down * (0.1 + 0.8 * (k // 10) / 6)
        page.mouse.move(*at(page, x, y))
        page.mouse.down()
        page.mouse.up()
        seen.append(covered(page, "strokes"))
    for k in reversed(range(60)):
        page.keyboard.press("Control+z")
        if k % 7 == 0:
            assert covered(page, "strokes") == seen[k]
    assert covered(page, "strokes") == 0


def test_the_mask_is_a_layer_of_its_own(page: Page) -> None:
    across, down = size(page)
    page.keyboard.press("m")
    drag(page, [(across * 0.3, down * 0.5), (across * 0.7, down * 0.5)])
    assert covered(page, "mask") > 50
    assert covered(page, "strokes") == 0
    page.keyboard.press("m")
    drag(page, [(across * 0.3, down * 0.3), (across * 0.7, down * 0.3)])
    assert covered(page, "strokes") > 50
    masked = covered(page, "mask")
    page.keyboard.press("m")
    page.keyboard.press("Delete")
    assert covered(page, "mask") == 0
    page.keyboard.press("Control+z")
    assert covered(page, "mask") == masked


def test_eraser_line_fill_and_pipette(page: Page) -> None:
    across, down = size(page)
    page.keyboard.press("l")
    drag(page, [(across * 0.2, down * 0.2), (across * 0.9, down * 0.7), (across * 0.8, down * 0.2)])
    assert pixel(page, "strokes", across // 2, round(down * 0.2)) == (*RED, 255)
    assert pixel(page, "strokes", round(across * 0.85), round(down * 0.6))[3] == 0
    page.keyboard.press("e")
    drag(page, [(across * 0.5, down * 0.15), (across * 0.5, down * 0.25)])
    assert pixel(page, "strokes", across // 2, round(down * 0.2))[3] == 0
    page.get_by_role("button", name="Colour", exact=True).click()
    page.get_by_role("textbox", name="Colour as hex digits").fill("#2F5D7C")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.mouse.click(*at(page, across * 0.5, down * 0.9))
    blue = (0x2F, 0x5D, 0x7C, 255)
    assert pixel(page, "strokes", 2, 2) == blue
    assert pixel(page, "strokes", round(across * 0.3), round(down * 0.2)) == (*RED, 255)
    page.keyboard.press("i")
    page.mouse.click(*at(page, across * 0.3, down * 0.2))
    page.get_by_role("button", name="Colour", exact=True).click()
    assert page.get_by_role("textbox", name="Colour as hex digits").input_value() == "#b5392f"


def test_a_stroke_of_half_opacity_is_even_where_it_crosses_itself(page: Page) -> None:
    across, down = size(page)
    page.get_by_role("button", name="Brush settings").click()
    page.get_by_role("slider", name="Opacity").fill("50")
    page.keyboard.press("Escape")
    crossing = [(0.2, 0.5), (0.8, 0.5), (0.5, 0.2), (0.5, 0.8)]
    drag(page, [(across * x, down * y) for x, y in crossing])
    once = pixel(page, "strokes", round(across * 0.3), down // 2)
    assert 120 <= once[3] <= 135
    assert pixel(page, "strokes", across // 2, down // 2) == once


def test_the_view_zooms_at_the_pointer_pans_and_turns(page: Page) -> None:
    across, down = size(page)
    before, spot = zoom(page), at(page, across * 0.25, down * 0.25)
    page.mouse.move(*spot)
    page.mouse.wheel(0, -400)
    until(lambda: zoom(page) > before * 1.5)
    assert at(page, across * 0.25, down * 0.25) == pytest.approx(spot, abs=1)
    page.keyboard.down("Space")
    page.mouse.down()
    page.mouse.move(spot[0] + 40, spot[1] + 30)
    page.mouse.up()
    page.keyboard.up("Space")
    assert at(page, across * 0.25, down * 0.25) == pytest.approx(
        (spot[0] + 40, spot[1] + 30), abs=1
    )
    assert covered(page, "strokes") == 0
    page.keyboard.press("r")
    assert "rotate(0.26" in (page.locator(".sheet").get_attribute("style") or "")
    page.mouse.move(*spot)
    page.mouse.down()
    page.mouse.move(spot[0] + 60, spot[1] + 10, steps=5)
    page.mouse.up()
    assert covered(page, "strokes") > 0
    page.keyboard.press("0")
    assert zoom(page) == before


def test_the_brush_is_sized_by_keys_and_by_dragging(page: Page) -> None:
    across, down = size(page)
    wide = page.get_by_role("button", name="Brush settings")
    start = int(wide.inner_text())
    for _ in range(4):
        page.keyboard.press("]")
    assert int(wide.inner_text()) > start * 1.5
    page.keyboard.press("[")
    before = int(wide.inner_text())
    page.keyboard.down("Shift")
    x, y = at(page, across / 2, down / 2)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert int(wide.inner_text()) > before
    assert covered(page, "strokes") == 0


def test_painting_by_keys_alone(page: Page) -> None:
    page.get_by_role("application").focus()
    for key in [
        "ArrowLeft",
        "ArrowLeft",
        "Enter",
        "ArrowRight",
        "ArrowRight",
        "ArrowDown",
        "Enter",
    ]:
        page.keyboard.press(key)
    painted = covered(page, "strokes")
    assert painted > 50
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Escape")
    assert covered(page, "strokes") == painted


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_panels_are_named_seen_and_within_the_screen(
    browser: Browser, program: Program, scheme: str
) -> None:
    for extent in (DESKTOP, (768, 1024), PHONE, (360, 740)):
        with studio(browser, program.url, size=extent, color_scheme=scheme) as watched:
            page = watched.page
            ready(page)
            for name in ("Colour", "Brush settings", "Layers", "File"):
                exact = name != "Brush settings"  # which says its size
                page.get_by_role("button", name=name, exact=exact).first.click()
                panel = page.get_by_role("group", name=name, exact=exact)
                box = panel.bounding_box()
                assert box is not None
                assert min(box["x"], box["y"]) >= 0
                assert box["x"] + box["width"] <= extent[0]
                assert box["y"] + box["height"] <= extent[1]
                assert violations(page) == []
                assert not scrolls_sideways(page)
                page.keyboard.press("Escape")
                panel.wait_for(state="detached")
            for keys, name in (("Shift+N", "New painting"), ("Shift+O", "Paintings")):
                page.keyboard.press(keys)
                page.get_by_role("dialog", name=name).wait_for()
                assert violations(page) == []
                assert not scrolls_sideways(page)
                page.keyboard.press("Escape")
            kept(page)
