"""Measuring a model: a file for each row as soon as it is there, then the whole report."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sfumato.server.requests import EvalJob
from sfumato.server.runner.protocol import Made, Stepped
from sfumato.server.runner.replaying import Tell
from sfumato.server.runner.warm import Warm

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.measure.evaluate import Answers

ROW, REPORT = "row-{}.json", "report.json"
PICTURE = "{}/{:04d}.png"


def evaluate(job: EvalJob, tell: Tell, warm: Warm) -> None:
    """Measure it, and tell rows, pictures where they are wanted, and report."""
    from sfumato.measure.evaluate import evaluate as measured

    model = warm.open(job.model, dtype=job.dtype)
    rows = len(job.styles) * len(job.scales)
    done = 0

    def answered(answers: Answers) -> None:
        nonlocal done
        done += 1
        tell(Made(ROW.format(done), json.dumps(asdict(answers)).encode()))
        tell(Stepped(done, rows, 0, done, rows + 1))

    def seen(pictures: Tensor) -> None:
        for k, data in enumerate(pngs(pictures) if job.pictures else ()):
            tell(Made(PICTURE.format(done + 1, k), data))

    report = measured(
        model, styles=job.styles, scales=job.scales, n=job.n, seed=job.seed,
        answered=answered, seen=seen,
    )  # fmt: skip
    tell(Made(REPORT, json.dumps(report).encode()))


def pngs(pictures: Tensor) -> Sequence[bytes]:
    """Pictures (N, 3, h, w) in [-1, 1], of 8 bits, as files."""
    from PIL import Image

    bytes_ = ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    files = []
    for pixels in bytes_:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def plan(job: EvalJob) -> dict[str, Any]:
    """How many pictures it makes."""
    rows = len(job.styles) * len(job.scales)
    return {"sentences": [f"evaluation: {rows} rows of {job.n} pictures of model {job.model}"]}
