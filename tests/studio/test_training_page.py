"""Training in a browser: pictures, plan, live grids and curves, stop and keep the best, use."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from helpers.program import STROKES
from helpers.remote import Program, stub_server
from helpers.served import StubRunner
from helpers.studio import PHONE, scrolls_sideways, studio, violations
from sfumato.server.runner.protocol import Finished, Happening, Made, Said, Stepped, Task

FILES = [str(STROKES / f"{name}.png") for name in ("rose", "mushroom", "red-apple")]
STEPS = 4


def grid(step: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (160, 96), (40 * step, 90, 140)).save(buffer, "PNG")
    return buffer.getvalue()


def taught(task: Task) -> list[Happening]:
    """What a training tells, as fast as one can look."""
    assert json.loads(task.request)["config"]["subject"]["noun"] == "flower"
    told: list[Happening] = [Said("training 3 pictures")]
    log, measures = "step,seconds,loss\n", "step,subject fidelity,text fidelity\n"
    for step in range(1, STEPS + 1):
        log += f"{step},1.0,{1 / step:g}\n"
        measures += f"{step},{step / STEPS:g},{0.5 - step / 20:g}\n"
        told += [
            Stepped(step, STEPS, 0, step, STEPS, 1.0 * (STEPS - step)),
            Made("log.csv", log.encode()),
            Made("heldout.csv", measures.encode()),
            Made(f"grid-{step:06d}.png", grid(step)),
        ]
    return [*told, Made("best/adapter.safetensors", b"best"),
            Made("adapter.safetensors", b"last"), Finished()]  # fmt: skip


@contextmanager
def begun(page: Page) -> Iterator[None]:
    """A training of three pictures is submitted."""
    page.locator("form.learn input[type=file]").set_input_files(FILES)
    expect(page.locator(".shot")).to_have_count(3)
    button = page.get_by_role("button", name="Train", exact=True)
    expect(button).to_be_disabled()
    page.get_by_label("What is it?").fill("flower")
    button.click()
    yield


@pytest.fixture
def runner() -> StubRunner:
    return StubRunner(pause=0.05, tell=taught)


@pytest.fixture
def url(tmp_path: Path, runner: StubRunner) -> Iterator[str]:
    import_module("sfumato.train.config")  # which takes seconds, at the first training of a server
    with stub_server(tmp_path, runner) as found:
        yield found


ALLOWED = ("422",)  # a stub has no plan of trainings, which the page says


def test_a_training_shows_what_it_learns_and_is_used(
    browser: Browser, url: str, runner: StubRunner
) -> None:
    """Grids and curves come while it is at work; in the end its best adapter is the canvas's."""
    runner.pause = 0.5
    with studio(browser, url, "train", allowed=ALLOWED) as watched:
        page = watched.page
        with begun(page):
            run = page.get_by_role("article")
            expect(run.get_by_role("img", name="after 1 steps")).to_be_visible()
            expect(run.get_by_role("heading", name="Loss")).to_be_visible()
            runner.pause = 0.01
        expect(run.get_by_role("img", name=f"after {STEPS} steps")).to_be_visible()
        expect(run.get_by_text("likeness to the pictures")).to_be_visible()
        run.get_by_label("Grids by step").fill("1")
        expect(run.get_by_role("img", name="after 2 steps")).to_be_visible()
        page.reload()
        page.get_by_role("button", name="zwx flower").click()
        page.get_by_role("button", name="Use it now").click()
        expect(page.locator("#prompt")).to_have_value("zwx flower")
        trained = page.get_by_role("region", name="Trained")
        trained.get_by_role("slider").fill("0.5")
        expect(trained.get_by_text("0.50")).to_be_visible()
        trained.get_by_role("button", name="Remove").click()
        expect(trained).to_have_count(0)


def test_a_training_is_stopped_from_a_phone(browser: Browser, tmp_path: Path) -> None:
    """Stop and keep the best asks the server for that, and says so."""
    with (
        stub_server(tmp_path, StubRunner(pause=0.5, tell=taught)) as url,
        studio(browser, url, "train", PHONE, allowed=ALLOWED) as watched,
    ):
        page = watched.page
        asked: list[Any] = []
        page.on("request", lambda one: asked.append((one.url, one.post_data)))
        with begun(page):
            page.get_by_role("button", name="Stop and keep the best").click()
        expect(page.get_by_text("It ends after the step in hand")).to_be_visible()
        assert any(u.endswith("/cancel") and "after_picture" in (d or "") for u, d in asked)
        assert not scrolls_sideways(page)
        assert not violations(page)


@pytest.mark.slow
def test_a_subject_is_learned_in_two_minutes(browser: Browser, program: Program) -> None:
    """A real training of three pictures; its adapter makes a picture at once."""
    with studio(browser, program.url, "train", allowed=ALLOWED) as watched:
        page = watched.page
        page.get_by_text("More settings").click()
        page.get_by_label("Steps").fill("60")
        page.get_by_label("Keep what other things").uncheck()
        with begun(page):
            run = page.get_by_role("article")
            run.get_by_role("img", name="after").wait_for(timeout=300_000)
        page.get_by_role("button", name="Use it now").click(timeout=600_000)
        expect(page.locator("#prompt")).to_have_value("zwx flower")
        jobs = httpx.get(f"{program.url}/v1/jobs", params={"kind": "train"}, trust_env=False)
        (job,) = jobs.json()["jobs"]
        assert job["state"] == "done"
