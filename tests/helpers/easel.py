"""The studio's canvas in a browser: where its pixels are, what they show, and hands upon it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from typing import Any

from playwright.sync_api import Page

LAYERS = ("picture", "strokes", "mask")
RED = (181, 57, 47)  # the brush's first colour

Spot = tuple[float, float]


def ready(page: Page) -> None:
    """The painting is read and shown."""
    page.wait_for_selector(".layer canvas")
    page.wait_for_function("document.querySelector('.sheet').getBoundingClientRect().width > 40")


def size(page: Page) -> tuple[int, int]:
    """Pixels of the painting, across and down."""
    found = page.evaluate(
        "(({width, height}) => [width, height])(document.querySelector('.layer canvas'))"
    )
    return found[0], found[1]


def at(page: Page, x: float, y: float) -> Spot:
    """Where on the screen a pixel of the upright picture is."""
    box = page.locator(".sheet").bounding_box()
    assert box is not None
    across, down = size(page)
    return box["x"] + x * box["width"] / across, box["y"] + y * box["height"] / down


READ = """([layer, x, y, width, height]) => {
    const canvas = document.querySelectorAll('.layer canvas')[layer];
    const copy = new OffscreenCanvas(canvas.width, canvas.height);
    const context = copy.getContext('2d', {willReadFrequently: true}); // or the console warns
    context.drawImage(canvas, 0, 0);
    return context.getImageData(x, y, width || canvas.width, height || canvas.height).data;
}"""


def pixel(page: Page, layer: str, x: int, y: int) -> tuple[int, int, int, int]:
    """Red, green, blue, alpha of a layer."""
    found = page.evaluate(f"(asked) => [...({READ})(asked)]", [LAYERS.index(layer), x, y, 1, 1])
    return found[0], found[1], found[2], found[3]


def covered(page: Page, layer: str) -> int:
    """How many pixels of a layer are not clear."""
    script = f"(asked) => ({READ})(asked).filter((part, i) => i % 4 === 3 && part > 127).length"
    return int(page.evaluate(script, [LAYERS.index(layer), 0, 0, 0, 0]))


def zoom(page: Page) -> float:
    return float(page.get_by_role("application").get_attribute("data-zoom") or "nan")


def drag(page: Page, spots: Sequence[Spot], button: Any = "left") -> None:
    """A mouse goes through pixels of the picture, pressed."""
    places = [at(page, *spot) for spot in spots]
    page.mouse.move(*places[0])
    page.mouse.down(button=button)
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up(button=button)


def pen(page: Page, spots: Sequence[Spot], force: float, **more: Any) -> None:
    """A pen goes through pixels of the picture with a pressure."""
    session = page.context.new_cdp_session(page)
    places = [at(page, *spot) for spot in spots]
    kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
    for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
        event = {"type": kind, "x": x, "y": y, "pointerType": "pen", "force": force}
        pressed = {"button": "left", "buttons": 0 if kind == "mouseReleased" else 1}
        session.send("Input.dispatchMouseEvent", {**event, **pressed, "clickCount": 1, **more})


class Fingers:
    """Fingers on a page's screen. end() lifts those that are not left, cancel() takes all away."""

    def __init__(self, page: Page) -> None:
        self.page, self.session = page, page.context.new_cdp_session(page)

    def start(self, *places: Spot) -> None:
        self._send("touchStart", places)

    def move(self, *places: Spot) -> None:
        self._send("touchMove", places)

    def end(self, *left: Spot) -> None:
        self._send("touchEnd", left)

    def cancel(self) -> None:
        self._send("touchCancel", ())

    def draw(self, spots: Sequence[Spot]) -> None:
        """One finger goes through pixels of the picture, and is still down."""
        first, *others = [at(self.page, *spot) for spot in spots]
        self.start(first)
        for place in others:
            self.move(place)

    def _send(self, kind: str, places: Sequence[Spot]) -> None:
        points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(places)]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def hand_over(page: Page, event: str, data: bytes, name: str, media: str) -> None:
    """A file comes by "drop" or by "paste"."""
    script = """([event, data, name, type]) => {
        const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, {type}));
        const target = document.querySelector('[role=application]');
        const options = {bubbles: true, cancelable: true};
        target.dispatchEvent(event === 'drop'
            ? new DragEvent('drop', {...options, dataTransfer: transfer})
            : new ClipboardEvent('paste', {...options, clipboardData: transfer}));
    }"""
    page.evaluate(script, [event, base64.b64encode(data).decode(), name, media])


def said(page: Page, words: str) -> str:
    """The one notice that has these words."""
    notice = page.locator(".notice p", has_text=words)
    notice.wait_for()
    return notice.inner_text()


def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for what a page does in a moment."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def kept(page: Page) -> None:
    """Everything is in the browser's storage."""
    page.wait_for_selector("header .dot", state="detached")
