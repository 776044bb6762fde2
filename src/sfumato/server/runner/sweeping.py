"""Sweeps: the cells as recipes for children, and the pages when they are made.

The pages are those of measure.sweep, which takes the children's pictures for its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato import documents
from sfumato.claims import FILE as CLAIM
from sfumato.core.errors import SfumatoError
from sfumato.recipe import Recipe
from sfumato.server.requests import RecipeJob, SweepJob
from sfumato.server.runner.protocol import Expanded, Made, Task
from sfumato.server.runner.replaying import Tell, replayed, searched
from sfumato.server.runner.shelf import Shelf
from sfumato.server.runner.warm import Warm

PICTURES = "pictures"
LARGEST_FILE = 1 << 30


@dataclass(frozen=True)
class Cell:
    """A value and a prompt: its recipe, and how its pictures are called."""

    recipe: Recipe
    names: tuple[str, ...]


def sweep(job: SweepJob, task: Task, tell: Tell, warm: Warm) -> None:
    """Tell whose sweep it is and the children, or with their pictures make the pages."""
    again = searched(replayed(job, task.inputs, warm), job, tell)
    if task.files is None:
        planned = list(cells(job, again, warm.shelf))
        for name, data in files_of(again, job):
            tell(Made(name, data))
        requests = (
            RecipeJob(recipe=cell.recipe, name=cell.names[0], priority=job.priority)
            for cell in planned
        )
        tell(
            Expanded(
                tuple(request.model_dump_json() for request in requests),
                tuple(cell.names for cell in planned),
            )
        )
        return
    with tempfile.TemporaryDirectory(prefix="sfumato-sweep-") as folder:
        place = Path(folder) / "sweep"
        finish(job, again, place, task.files)
        for file in sorted(place.rglob("*")):
            if file.is_file() and file.name != CLAIM:
                data = documents.read_bytes(file, LARGEST_FILE)
                tell(Made(file.relative_to(place).as_posix(), data))


def cells(job: SweepJob, again: Any, shelf: Shelf) -> Iterator[Cell]:
    """Every cell that can be composed; what cannot fails when the pages are made."""
    from sfumato.measure.axis import axis
    from sfumato.measure.sweep import grid, parent_of, prompts_of

    over = axis(job.over)
    seed, seeds = again.recipe.seed, job.seeds
    parent = parent_of(again.process, seeds, seed, again.recipe.parents)
    for p, v, text, value in grid(prompts_of(again.process, job.prompts), over):
        names = tuple(f"{PICTURES}/{p + 1}-{v + 1}-{seed + j}.png" for j in range(seeds))
        try:
            process = over.at(again.process, value).based(prompt=text, n=seeds)
            with shelf.named():
                recipe = recipe_of(process, seed, parent.id)
        except SfumatoError:
            continue
        yield Cell(recipe, names)


def files_of(job_run: Any, job: SweepJob) -> Iterator[tuple[str, bytes]]:
    """What a sweep's folder begins with, by which it is known again."""
    from sfumato.measure.axis import axis
    from sfumato.measure.sweep import begun, prompts_of

    yield from begun(
        job_run.process, axis(job.over), job.seeds, job_run.recipe.seed,
        prompts_of(job_run.process, job.prompts), job_run.recipe.parents,
    ).items()  # fmt: skip


def recipe_of(process: Any, seed: int, parent: str) -> Recipe:
    """What makes a cell's pictures again."""
    from sfumato.models.cascade import base_of

    base = base_of(process)
    model: Any = base.source
    recipe: Recipe = replace(model.asked(base, seed), parents=(parent,))
    return recipe


def finish(job: SweepJob, again: Any, place: Path, files: Mapping[str, Path]) -> None:
    """Pictures, tables, sheet and page in a new folder."""
    from sfumato.measure.sweep import sweep as swept

    swept(
        again.process, job.over, place, seeds=job.seeds, seed=again.recipe.seed,
        prompts=job.prompts, choose=job.choose, parents=again.recipe.parents,
        made={name.rpartition("/")[2]: file for name, file in files.items()},
    )  # fmt: skip


def plan(job: SweepJob, inputs: Mapping[str, Path], warm: Warm) -> dict[str, Any]:
    """How many cells, and what the first would do."""
    from sfumato.models.planning import plan_data

    again = replayed(job, inputs, warm)
    missing = list(cells(job, again, warm.shelf))
    if not missing:
        raise SfumatoError(f"over {job.over}: no value of it can be composed")
    first = replayed(RecipeJob(recipe=missing[0].recipe), inputs, warm)
    planned = plan_data(first.process, first.recipe.seed)
    seconds = planned["seconds"]
    known = None if seconds is None else seconds * len(missing)
    return {"children": len(missing), "seconds": known, "first": planned}
