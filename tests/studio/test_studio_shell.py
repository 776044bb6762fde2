"""The page around the canvas: languages, themes, widths, keys, tokens, what axe-core finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from helpers.remote import Program, stub_server
from helpers.served import StubRunner, happenings, picture
from helpers.studio import DESKTOP, PHONE, scrolls_sideways, studio, violations
from sfumato.server.runner.protocol import Happening, Made, Task

ROUTES = ("paint", "gallery", "train", "settings")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stub_server(tmp_path_factory.mktemp("stub")) as found:
        yield found


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(DESKTOP, "light", id="desktop-light"),
        pytest.param(PHONE, "dark", id="phone-dark"),
        pytest.param(DESKTOP, "dark", id="desktop-dark", marks=pytest.mark.slow),
        pytest.param(PHONE, "light", id="phone-light", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing_serious(
    browser: Browser, url: str, size: tuple[int, int], scheme: str
) -> None:
    with studio(browser, url, size=size, color_scheme=scheme) as watched:
        for route in ROUTES:
            watched.page.goto(f"{url}/#/{route}")
            watched.page.wait_for_timeout(300)
            assert not violations(watched.page), f"{route}\n" + "\n".join(violations(watched.page))
            assert not scrolls_sideways(watched.page), route
        watched.page.keyboard.press("?")
        expect(watched.page.get_by_role("dialog")).to_be_visible()
        assert not violations(watched.page)


@pytest.mark.parametrize("width", [360, 390, 768, 1440])
def test_nothing_scrolls_sideways(browser: Browser, url: str, width: int) -> None:
    with studio(browser, url, size=(width, 800)) as watched:
        page = watched.page
        for route in ROUTES:
            page.goto(f"{url}/#/{route}")
            page.wait_for_timeout(150)
            assert not scrolls_sideways(page), route
        page.goto(f"{url}/#/paint")
        if width < 720:
            page.get_by_role("button", name="Settings of the run").click()
        page.get_by_role("button", name="More", exact=True).click()
        assert not scrolls_sideways(page)


def test_korean(browser: Browser, url: str) -> None:
    """The browser's own language, and the one that is chosen."""
    with studio(browser, url, "settings", locale="ko-KR") as watched:
        page = watched.page
        expect(page.get_by_role("heading", name="설정", exact=True)).to_be_visible()
        assert page.locator("html").get_attribute("lang") == "ko"
        page.get_by_label("언어").select_option("en")
        expect(page.get_by_role("heading", name="Settings", exact=True)).to_be_visible()
        page.reload()
        expect(page.get_by_role("link", name="Paint")).to_be_visible()


def test_light_and_dark(browser: Browser, url: str) -> None:
    with studio(browser, url, "settings", color_scheme="light") as watched:
        page = watched.page
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(ground)
        page.get_by_role("radio", name="Dark").click()
        dark = page.evaluate(ground)
        assert light != dark
        page.reload()
        assert page.evaluate(ground) == dark


def test_nothing_moves_for_who_wants_no_motion(browser: Browser, url: str) -> None:
    longest = """() => Math.max(...[...document.querySelectorAll('*')].flatMap((one) => {
      const style = getComputedStyle(one);
      const all = `${style.animationDuration},${style.transitionDuration}`.split(',');
      return all.map((time) => parseFloat(time));
    }))"""
    with studio(browser, url) as watched:
        assert watched.page.evaluate(longest) > 0.05
    with studio(browser, url, reduced_motion="reduce") as watched:
        page = watched.page
        page.get_by_role("button", name="Run", exact=False).last.click()
        page.get_by_role("button", name="Stop").wait_for()
        assert page.evaluate(longest) <= 0.002
        page.get_by_role("button", name="Stop").click()


def larger(task: Task) -> list[Happening]:
    """What a stub tells, with a picture that a painting can hold."""
    made = picture(1, (64, 64))
    told = happenings(task)
    return [replace(one, data=made) if isinstance(one, Made) else one for one in told]


def test_from_a_stroke_to_a_picture_by_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    with stub_server(tmp_path, StubRunner(tell=larger)) as own, studio(browser, own) as watched:
        page = watched.page
        page.wait_for_selector(".layer canvas")
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement?.getAttribute('role')") == "application":
                break
        for key in ("ArrowLeft", "Enter", "ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
            page.keyboard.press(key)
        expect(page.get_by_role("button", name="Undo")).to_be_enabled()
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement?.id") == "prompt":
                break
        page.keyboard.type("red apple")
        page.keyboard.press("Control+Enter")
        bar = page.get_by_role("toolbar", name="Result")
        bar.wait_for()
        assert violations(page) == []
        for _ in range(60):
            page.keyboard.press("Shift+Tab")
            if page.evaluate("document.activeElement?.textContent?.trim()") == "Accept":
                break
        page.keyboard.press("Enter")
        expect(bar).to_have_count(0)


def test_nothing_lies_beneath_a_phones_own_bars(browser: Browser, url: str) -> None:
    """A notch above and a bar below, as a phone tells of them."""
    insets = {"top": 47, "bottom": 34, "left": 0, "right": 0}
    with studio(browser, url, size=PHONE) as watched:
        page = watched.page
        wire = page.context.new_cdp_session(page)
        wire.send("Emulation.setSafeAreaInsetsOverride", {"insets": insets})
        page.wait_for_timeout(200)
        for button in page.locator("nav a, header button, .go button").all():
            box = button.bounding_box()
            if box is not None:
                assert box["y"] >= insets["top"], button
                assert box["y"] + box["height"] <= PHONE[1] - insets["bottom"], button


def test_by_keyboard_alone(browser: Browser, url: str) -> None:
    with studio(browser, url) as watched:
        page = watched.page
        page.keyboard.press("4")
        expect(page.get_by_role("heading", name="Settings", exact=True)).to_be_visible()
        page.keyboard.press("1")
        seen: set[str] = set()
        for _ in range(80):  # all that is there is reached, in the order in which it is seen
            page.keyboard.press("Tab")
            name = page.evaluate(
                "document.activeElement?.getAttribute('aria-label')"
                " ?? document.activeElement?.labels?.[0]?.textContent"
                " ?? document.activeElement?.textContent ?? ''"
            )
            seen.add(name.strip())
        for wanted in ("Words", "Words alone", "Steps", "Live", "Add another method"):
            assert any(name.startswith(wanted) for name in seen), (wanted, seen)
        page.get_by_role("button", name="Live").focus()  # in a text it would be a letter
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_token_is_asked_for_and_kept(browser: Browser, tmp_path: Path) -> None:
    tokens = {"phone": "a-token-of-letters"}
    with (
        stub_server(tmp_path / "server", tokens=tokens) as url,
        studio(browser, url, "settings", allowed=("status of 401",)) as watched,
    ):
        page = watched.page
        dialog = page.get_by_role("dialog", name="Log in")
        dialog.get_by_label("Token").fill("another")
        dialog.get_by_role("button", name="Log in").click()
        expect(dialog.get_by_text("that token is unknown")).to_be_visible()
        assert not violations(page)
        dialog.get_by_label("Token").fill(tokens["phone"])
        dialog.get_by_role("button", name="Log in").click()
        expect(page.get_by_text("Logged in as phone")).to_be_visible()
        assert page.evaluate("document.cookie") == ""  # no script can read it
        page.reload()
        expect(page.get_by_text("Logged in as phone")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("dialog", name="Log in")).to_be_visible()


def test_over_http_by_another_name(browser: Browser, program: Program) -> None:
    """No secure context: neither hashes, locks, nor a service worker of the browser's own."""
    url = f"http://studio.test:{program.port}"
    with studio(browser, url) as watched:
        page = watched.page
        assert not page.evaluate("isSecureContext")
        assert page.evaluate("crypto.subtle === undefined && navigator.locks === undefined")
        page.get_by_role("radio", name="Words alone").click()
        page.get_by_label("Steps", exact=True).fill("2")
        page.get_by_label("Words", exact=True).fill("red apple")
        page.get_by_label("Words", exact=True).press("Enter")
        page.get_by_role("button", name="Accept").wait_for(timeout=120_000)
