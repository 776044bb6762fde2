"""Upscale any picture with a cascade's upsampler alone (GLIDE, arXiv 2112.10741, section 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Schedule
from sfumato.core.starts import Place
from sfumato.images import Image
from sfumato.methods import Colour, Method, knob, method

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.guides import Call
    from sfumato.core.process import Process
    from sfumato.core.run import Run


@method
class Upscale(Method):
    """The base is left out; the picture itself is what the upsampler reads."""

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "small.png -o large.png",
        "small.png --factor 8 -o larger.png",
    )
    slot: ClassVar[str | None] = "start"

    image: Annotated[Image, knob("the picture")]
    factor: Annotated[
        int | None,
        knob(
            "times as large; the first upsampler's if not given (emoji: 4, or 8)",
            main=True,
            ge=1,
            le=64,
        ),
    ] = None
    background: Annotated[Colour, knob("colour behind transparent parts")] = "white"

    def __call__(self, process: Process) -> Process:
        if process.stages < 2:
            raise SfumatoError("upscale: needs an upsampler; this model has none, or stages is 1")
        source: Any = process.source
        if source is not None:
            sizes = {source.card.factor(k): k for k in range(2, process.stages + 1)}
            factor = self.factor or next(iter(sizes))
            if factor not in sizes:
                known = " or ".join(map(str, sizes))
                raise SfumatoError(f"upscale: factor {factor}: this model makes {known}")
            process = replace(process, stages=sizes[factor])
        return process.add(start=_Start(self))


@dataclass(frozen=True)
class _Start:
    """Level 0: nothing is left for the base to do."""

    method: Upscale
    passes: int = 1
    upsamples: bool = True

    def place(self) -> Place:
        return Place(self.method.image.picture().size, exact=True)

    def level(self, schedule: Schedule) -> float:
        return 0.0

    def bind(self, run: Run) -> _Bound:
        picture = self.method.image.picture()
        pixels = images.to_work(picture, run.frame, self.method.background)
        return _Bound(run.space.encode(pixels[None].to(run.device)), run.n)


@dataclass(frozen=True)
class _Bound:
    known: Any
    n: int

    def state(self, call: Call, like: Tensor) -> Tensor:
        state: Tensor = self.known.expand(self.n, *self.known.shape[1:])
        return state
