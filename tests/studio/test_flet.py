"""The Flet client in a browser, by its semantics tree: paint, run, picture, gallery."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as SlowError

from helpers.remote import free_port, stub_server, until
from helpers.served import StubRunner, picture
from helpers.studio import PHONE
from sfumato.server.runner.protocol import Finished, Happening, Made, Stepped, Task

ROOT = Path(__file__).parents[2]
FLET = ROOT / ".venv-flet" / "bin" / "python"
TOKEN = "f" * 20
LONG = 180_000  # milliseconds, in which Flutter's page is there on a busy machine


def happenings(task: Task) -> list[Happening]:
    """Steps with a preview, then a picture of the seed that was asked for."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "green").save(buffer, "WEBP")
    seed = json.loads(task.request)["recipe"]["seed"]
    steps = [Stepped(i, 3, 0, i, 3, 0.5, buffer.getvalue()) for i in (1, 2, 3)]
    return [*steps, Made("1.png", picture(seed % 1000, (64, 64)), seed), Finished(0.1)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated Python client."""
    if not FLET.is_file():
        pytest.skip("flet is missing in .venv-flet; `make clients` installs it")
    folder = tmp_path_factory.mktemp("client")
    command = [sys.executable, str(ROOT / "tools" / "clients.py"), "python", "--to", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.stderr.startswith("clients: "):
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0, made.stderr
    return folder / "python"


@contextmanager
def app(client: Path, server: str) -> Iterator[str]:
    """The address of the app, logged in to nothing yet."""
    port = free_port()
    process = subprocess.Popen(
        [FLET, "main.py", "--port", str(port)], cwd=ROOT / "clients" / "flet",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(client), "SFUMATO_SERVER": server},
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url), 60)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def press(page: Page, role: Any, name: str) -> None:
    page.get_by_role(role, name=name).dispatch_event("click", timeout=LONG)


def picture_of(page: Page, place: int = 0) -> Locator:
    """A picture by its place: now and then Flutter leaves out the label that it was given."""
    return page.get_by_role("img").nth(place)


def write(page: Page, name: str, text: str) -> None:
    """Key by key: Flutter does not hear of a text that is set at once before it has the focus."""
    field = page.get_by_role("textbox", name=name)
    field.focus()
    page.wait_for_timeout(500)
    field.press("Control+a")
    field.press_sequentially(text, delay=40)
    expect(field).to_have_value(text)
    page.wait_for_timeout(500)


def log_in(page: Page) -> None:
    """With the token; once more where Flet did not know what was typed when it was pressed."""
    sheet = picture_of(page)
    for seconds in (5, 15, 45, 100):
        if sheet.count():
            return
        write(page, "Token", TOKEN)
        press(page, "button", "Log in")
        with suppress(SlowError):
            sheet.wait_for(timeout=1000 * seconds)
    sheet.wait_for()


def test_a_photo_is_painted_over_and_run(browser: Browser, client: Path, tmp_path: Path) -> None:
    """Refused without the token, then strokes become an edit whose picture is accepted.

    What the server gets has the strokes where they were painted; nothing is asked of other hosts.
    """
    runner = StubRunner(pause=0.3, tell=happenings)
    with (
        stub_server(tmp_path, runner, tokens={"phone": TOKEN}) as server,
        app(client, server) as url,
    ):
        page = browser.new_page(viewport={"width": PHONE[0], "height": PHONE[1]})
        page.set_default_timeout(20_000)
        asked, refused = list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("requestfailed", lambda r: refused.append(r.url) if r.failure == "csp" else None)
        page.goto(url)
        page.locator("flt-semantics-placeholder").dispatch_event("click", timeout=LONG)
        press(page, "button", "Log in")
        expect(page.get_by_text("token").first).to_be_attached()
        log_in(page)
        box = picture_of(page).bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 40, middle)
        page.mouse.down()
        for step in range(1, 11):
            page.mouse.move(box["x"] + 40 + step * (box["width"] - 80) / 10, middle)
        page.mouse.up()
        write(page, "Words", "red apple")
        press(page, "button", "Run")
        page.get_by_role("button", name="Stop").wait_for()
        page.get_by_role("button", name="Accept").wait_for(timeout=LONG)
        picture_of(page, 1).wait_for()
        press(page, "button", "Accept")
        page.get_by_role("button", name="Accept").wait_for(state="detached")
        press(page, "tab", "Gallery")
        picture_of(page).wait_for(timeout=LONG)
        page.close()
        foreign = [one for one in asked if not one.startswith((url, "data:", "blob:"))]
        assert foreign == refused  # by the page's policy, before anything was sent
        assert all("rive" in one for one in foreign)
        (task,) = runner.tasks
        recipe = json.loads(task.request)["recipe"]
        assert recipe["prompt"] == "red apple"
        painting = Image.open(next(iter(task.inputs.values()))).convert("RGB")
        assert painting.size == (512, 512)
        assert painting.getpixel((256, 256)) == (0xCF, 0x2E, 0x2E)
        assert painting.getpixel((256, 100)) == (255, 255, 255)


def test_the_client_is_small() -> None:
    """At most 400 lines, those that are empty apart."""
    files = (ROOT / "clients" / "flet").glob("*.py")
    lines = [line for file in files for line in file.read_text().splitlines() if line.strip()]
    assert len(lines) <= 400
