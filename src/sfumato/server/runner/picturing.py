"""A recipe's pictures: progress with previews, and half the batch where memory ends."""

from __future__ import annotations

import io
import sys
import time
from dataclasses import replace
from typing import Any

from sfumato.core.errors import error_line
from sfumato.server import requests
from sfumato.server.runner.pace import Pace
from sfumato.server.runner.protocol import Made, Said, Stepped, Task
from sfumato.server.runner.replaying import Tell, replayed, searched
from sfumato.server.runner.warm import Warm

PREVIEW = 256  # longest side of a preview
SPARING = 20  # a preview is made when what the last one took is a 20th of the time since
BETWEEN = 0.2  # seconds between previews


def pictures(job: requests.Row, task: Task, tell: Tell, warm: Warm) -> float | None:
    """Make a recipe's pictures; seconds that a network call took."""
    again = searched(replayed(job, task.inputs, warm), job, tell)
    pace = paced(again.process, task.pace)
    watch = Watch(pace, tell)
    try:
        result = again.sample(watch)
    except Exception as error:
        if not out_of_memory(error) or (smaller := halved(again.process)) is None:
            raise
        tell(Said("out of memory; once more with half the batch in a network call"))
        del error
        let_go()
        watch = Watch(paced(smaller, task.pace), tell)
        result = replace(again, process=smaller).sample(watch)
    for k, picture in enumerate(result.images):
        index = picture.recipe.run.get("index", k) if picture.recipe else k
        seed = result.recipe.seed + index
        tell(Made(f"{index + 1}.png", picture.encode("PNG"), seed))
    return watch.pace.seconds


class Watch:
    """A run's progress: tells every step, with a preview now and then."""

    def __init__(self, pace: Pace, tell: Tell) -> None:
        self.pace, self.tell = pace, tell
        self.shown = -BETWEEN
        self.took = 0.0

    def __call__(self, step: Any) -> None:
        self.pace.step(step.stage, step.calls)
        now, preview = time.monotonic(), None
        if step.i >= 0 and now - self.shown >= max(BETWEEN, SPARING * self.took):
            preview = webp(step.preview())
            self.shown = time.monotonic()
            self.took = self.shown - now
        pace = self.pace
        self.tell(
            Stepped(
                step.i + 1, step.transitions, step.stage, pace.done, pace.total, pace.left, preview
            )
        )


def webp(picture: Any) -> bytes:
    """A small copy of a picture, without its recipe."""
    from PIL import Image

    small = Image.frombytes("RGB", picture.size, picture.convert("RGB").tobytes())
    small.thumbnail((PREVIEW, PREVIEW))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=75, method=0)
    return buffer.getvalue()


def paced(process: Any, before: float | None) -> Pace:
    from sfumato.models import cost

    calls = [process.calls] if isinstance(process.calls, int) else list(process.calls)
    return Pace(calls, cost.shares(process), before)


def halved(process: Any) -> Any:
    """The process with half its rows in a network call; None where one is all it has."""
    from sfumato.models.cascade import Cascade, base_of

    base = base_of(process)
    resolved = base.resolved()
    rows = resolved.n * (max(1, len(resolved.positives)) + len(resolved.aways))
    most = min(rows, base.rows_max or rows)
    if most < 2:
        return None
    smaller = base.based(rows_max=most // 2)
    if not isinstance(process, Cascade):
        return smaller
    above = (replace(p, rows_max=max(base.n // 2, 1)) for p in process.upsamplers)
    return Cascade(smaller, tuple(above))


def out_of_memory(error: BaseException) -> bool:
    return error_line(error).startswith("out of memory")


def let_go() -> None:
    """Give back what a task held on the card."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
