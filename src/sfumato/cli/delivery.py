"""What the verbs that run something share: the check of where pictures go, saving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sfumato import images
from sfumato.cli import show
from sfumato.cli.compose import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.interrupts import undisturbed
from sfumato.images.destination import Destination
from sfumato.images.writing import tailed
from sfumato.models.result import Result, save_new
from sfumato.recipe.store import encoded


def check(target: Destination, run: Run, embed: bool = False) -> None:
    """Raise SfumatoError where the pictures of a run could not be saved."""
    inputs = [i for m in run.methods for i in images.inputs_of(m)] if embed else []
    paths = target.paths(run.prompt, run.seed, range(run.n))
    target.check(paths, size=run.size, embedded=sum(len(i.data) * 4 // 3 for i in inputs))


def deliver(
    result: Result, target: Destination, sheet: bool, as_json: bool, methods: Sequence[Any]
) -> None:
    """Save the pictures, and a sheet of them if asked; what had to go elsewhere is a failure."""
    with undisturbed():
        written = result.write(target)
        if sheet:
            first = written[0].path
            page = result.sheet(images.guides_of(methods), title=result.recipe.prompt)
            written.append(save_new(page, tailed(first, "-sheet.png")))
    show.saved([one.path for one in written], result.recipe, as_json)
    if troubles := [one.trouble for one in written if one.trouble]:
        raise SfumatoError("; ".join(troubles))


def embedded(result: Result, inputs: Sequence[images.ImageInput]) -> Result:
    """The result with its inputs inside every recipe."""
    content = {image.sha256: encoded(image.data) for image in inputs}
    for image in result.images:
        image.recipe = replace(image.recipe, embedded=content)
    return replace(result, recipe=replace(result.recipe, embedded=content))
