"""A training's class pictures as jobs of their own, which its server's other devices make too.

The trainer finds them in its cache; what a child could not make, it makes itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato import documents
from sfumato.server.requests import RecipeJob, TrainJob
from sfumato.server.runner.protocol import Expanded

if TYPE_CHECKING:
    from sfumato.train.subject.class_pictures import Wanted

LARGEST = 1 << 30  # bytes of a picture


def expanded(job: TrainJob, wanted: Wanted) -> Expanded:
    """A child for each batch that is missing."""
    children = list(_children(job, wanted))
    return Expanded(
        tuple(request.model_dump_json() for request, _ in children),
        tuple(names for _, names in children),
    )


def _children(job: TrainJob, wanted: Wanted) -> Iterator[tuple[RecipeJob, tuple[str, ...]]]:
    for first in wanted.batches():
        asked = wanted.model.asked(wanted.batch, wanted.seed_of(first))
        recipe = replace(asked, run={"dtype": wanted.model.choice.dtype})
        names = tuple(f"{first + k}.png" for k in range(wanted.at_once))
        yield RecipeJob(recipe=recipe, name=f"class {names[0]}", priority=job.priority), names


def keep(files: Mapping[str, Path], wanted: Wanted) -> None:
    """Put into the cache what children have made."""
    pictures = {
        int(Path(name).stem): documents.read_bytes(file, LARGEST) for name, file in files.items()
    }
    missing = set(wanted.missing())
    wanted.keep({i: data for i, data in pictures.items() if i in missing})
