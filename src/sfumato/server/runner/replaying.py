"""A task's recipe composed on its model, as `sfumato.run` composes it, its numbers found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.recipe import Recipe
from sfumato.server import requests
from sfumato.server.runner.protocol import Happening, Said
from sfumato.server.runner.warm import Warm

Tell = Callable[[Happening], None]


def replayed(row: requests.Row, inputs: Mapping[str, Path], warm: Warm) -> Any:
    """The recipe composed on its model, as `sfumato.run` composes it."""
    from sfumato.models.replay import Replay, Surroundings

    def read(digest: str, name: str) -> bytes:
        if digest not in inputs:
            raise SfumatoError(f"input {name} (sha256 {digest[:12]}…): not here; upload it first")
        return inputs[digest].read_bytes()

    with named_adapters(row.recipe, {**warm.shelf.places, **inputs}) as folder:
        folders = (folder, *warm.folders)
        within = Surroundings(warm.open, read, folders, warm.shelf.finder(inputs))
        return Replay.of(row.recipe, within=within)


@contextmanager
def named_adapters(recipe: Recipe, files: Mapping[str, Path]) -> Iterator[Path]:
    """A folder with the adapters that are known by their hash, as the recipe calls them."""
    with tempfile.TemporaryDirectory(prefix="sfumato-adapters-") as folder:
        for adapter in recipe.adapters:
            if (file := files.get(adapter["sha256"])) is not None:
                (Path(folder) / Path(adapter["file"]).name).symlink_to(file.resolve())
        yield Path(folder)


def searched(again: Any, job: requests.Row | requests.SweepJob, tell: Tell) -> Any:
    """The replay with its numbers found, and their curves among its parents."""
    if not job.search:
        return again
    from sfumato.measure import auto
    from sfumato.measure.search import goal_of

    measure, target = goal_of(job.target)
    process, recipe = again.process, again.recipe
    for name in job.search:
        method, _, field = name.partition(".")
        number = auto(
            process, name, measure=measure, target=target, seed=recipe.seed,
            say=lambda line: tell(Said(line)),
        )  # fmt: skip
        tell(Said(f"{name} = {number.value:g} ({number.curve.rule})", always=True))
        process = process.revised(method, **{field: number.value})
        recipe = replace(recipe, parents=(*recipe.parents, number.curve.id))
    return replace(again, process=process, recipe=recipe)
