"""From the pixels of a run to its pictures: cropped, resized, pasted, with their recipes."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from torch import Tensor

from sfumato import images
from sfumato.core.context import Run, Step
from sfumato.core.spaces import Space
from sfumato.home import home
from sfumato.images import Picture
from sfumato.methods import Method
from sfumato.models.result import Result
from sfumato.recipe import Recipe
from sfumato.recipe.store import keep

log = logging.getLogger("sfumato")


def preview(tiny: Space | None, step: Step, run: Run) -> Picture:
    """The predicted picture of the batch's first row, at the work size without padding.

    tiny: decodes in place of the run's own space.
    """
    pixels = (tiny or run.space).decode(step.pixels()[:1].float())[0]
    if run.frame is None:
        return images.from_tensor(pixels)
    factor = pixels.shape[-1] // run.frame.work[0]
    return images.from_tensor(images.crop_work(pixels, run.frame, factor))


def keep_inputs(run: Run) -> None:
    """Store the pictures that the run was given, so that its recipe finds them."""
    for method in run.process.methods:
        for picture in images.inputs_of(method) if isinstance(method, Method) else ():
            if not keep(picture.data):
                log.warning("%s: could not be kept in %s for `sfumato run`", picture.name, home())


def result(
    pixels: Tensor | None,
    run: Run,
    recipe: Recipe,
    trace: list[dict[str, Any]],
    calls: list[int],
) -> Result:
    """Crop, resize to the target, paste what was kept; pixels (n, 3, H, W) in [-1, 1] or None."""
    pictures = []
    for j in range(run.n):
        image = picture(None if pixels is None else pixels[j], run)
        image.recipe = replace(recipe, run={**recipe.run, "index": j})
        pictures.append(image)
    scores = {
        name: values
        for name, values in (trace[-1] if trace else {}).items()
        if isinstance(values, list)
    }
    return Result(pictures, recipe, trace, calls, scores, run.counts, run.answers)


def picture(pixels: Tensor | None, run: Run) -> Picture:
    """One picture of the batch at its final size, what was kept pasted back."""
    kept = run.paste
    if pixels is None:
        assert kept is not None  # only a picture can stay untouched
        assert run.frame is not None
        return images.resized(kept.original, run.frame)
    if run.frame is None:  # the run began from a tensor of states
        return images.from_tensor(pixels)
    full = images.from_work(pixels, run.frame)
    if kept is None:
        return full
    return images.paste(full, kept.original, kept.edit_mask, run.frame, opaque=kept.opaque)
