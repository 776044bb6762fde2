"""Upscale any picture with a cascade's upsampler alone (GLIDE, arXiv 2112.10741, section 2)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato import images
from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.starts import BoundStart, Place
from sfumato.images import Image
from sfumato.methods import knob, method
from sfumato.methods.common.fields import Background
from sfumato.methods.common.picture_start import Clean, FromPicture

if TYPE_CHECKING:
    from sfumato.core.process import Process


@method
class Upscale(FromPicture):
    """The base is left out; the picture itself is what the upsampler reads."""

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "small.png -o large.png",
        "small.png --factor 4 --seed 3 -o larger.png",
    )
    slot: ClassVar[str | None] = "start"

    image: Annotated[Image, knob("the picture")]
    factor: Annotated[
        int | None,
        knob(
            "times as large; the first upsampler's if not given (emoji: 4)",
            main=True,
            ge=1,
            le=64,
        ),
    ] = None
    background: Background = "white"

    def __call__(self, process: Process) -> Process:
        if process.stages < 2:
            raise SfumatoError("upscale: needs an upsampler; this model has none, or stages is 1")
        if process.source is not None:
            factors = process.source.factors
            sizes = {math.prod(factors[:k]): k + 1 for k in range(1, process.stages)}
            factor = self.factor or next(iter(sizes))
            if factor not in sizes:
                known = " or ".join(map(str, sizes))
                raise SfumatoError(f"upscale: factor {factor}: this model makes {known}")
            process = replace(process, stages=sizes[factor])
        return process.add(start=self)

    upsamples: ClassVar[bool] = True

    def place(self) -> Place:
        return Place.of(self.image, exact=True)

    def level(self, process: Process) -> float:
        """0: nothing is left for the base to do."""
        return 0.0

    def bind_start(self, run: Run) -> BoundStart:
        assert run.frame is not None
        pixels = images.to_work(self.image.picture(), run.frame, self.background)
        return Clean(run.space.encode(pixels[None].to(run.device)))
