"""Comparisons: every way on the same inputs, prompts and seeds, in a folder whose files are told.

Table and sheet are those of measure.compare, as the way here makes them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sfumato import documents
from sfumato.claims import FILE as CLAIM
from sfumato.images import ImageInput
from sfumato.server.requests import CompareJob, Row
from sfumato.server.runner.protocol import Made, Stepped, Task
from sfumato.server.runner.replaying import Tell, replayed
from sfumato.server.runner.warm import Warm

REPORT = "report.json"
LARGEST_FILE = 1 << 30


def compare(job: CompareJob, task: Task, tell: Tell, warm: Warm) -> None:
    """Make them, and tell pictures as they are made, then table, sheet and report."""
    from sfumato.measure.compare import compare as compared

    ways, pictures = ways_of(job, task.inputs, warm), inputs_of(job, task.inputs)
    with tempfile.TemporaryDirectory(prefix="sfumato-compare-") as folder:
        place, told = Path(folder) / "compare", set[str]()

        def tell_files() -> None:
            for file in sorted(place.rglob("*")):
                name = file.relative_to(place).as_posix()
                if file.is_file() and file.name != CLAIM and name not in told:
                    told.add(name)
                    tell(Made(name, documents.read_bytes(file, LARGEST_FILE)))

        def made(done: int, total: int) -> None:
            tell_files()
            tell(Stepped(done, total, 0, done, total + 1))

        done = compared(
            ways, place, inputs=pictures, prompts=job.prompts, seeds=job.seeds, seed=job.seed,
            progress=made,
        )  # fmt: skip
        tell_files()
    lines = [asdict(line) for line in done.table.lines]
    report = {"ways": done.table.ways, "lines": lines, "failed": done.failed}
    tell(Made(REPORT, json.dumps(report).encode()))


def ways_of(job: CompareJob, inputs: Mapping[str, Path], warm: Warm) -> dict[str, Any]:
    """The ways composed on their models."""
    from sfumato.measure.compare import Way

    return {
        way.name: Way(replayed(Row(recipe=way.recipe), inputs, warm).process, way.fills)
        for way in job.ways
    }


def inputs_of(job: CompareJob, inputs: Mapping[str, Path]) -> list[ImageInput]:
    """The pictures that every way gets."""
    return [ImageInput(inputs[one.sha256].read_bytes(), one.name) for one in job.inputs]


def plan(job: CompareJob, inputs: Mapping[str, Path], warm: Warm) -> dict[str, Any]:
    """How many pictures it makes, of ways that can be composed."""
    ways = ways_of(job, inputs, warm)
    each = max(1, len(job.inputs)) * max(1, len(job.prompts)) * job.seeds
    return {"sentences": [f"comparison: {len(ways)} ways of {each} pictures: {', '.join(ways)}"]}
