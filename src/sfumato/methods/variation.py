"""Variation (unCLIP, arXiv 2204.06125, section 3.1): other pictures of what a picture shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato import images
from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond, traits
from sfumato.core.errors import SfumatoError
from sfumato.core.mixture import Branch
from sfumato.core.taps import Tap
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.common.fields import Background
from sfumato.methods.common.kinds import Weights
from sfumato.methods.common.weights import record

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


@method
class Variation(Method):
    """The network reads a CLIP's vector of the picture: content and style, no places.

    For unCLIP's decoders (Stable unCLIP, Kandinsky 2.2's), which are made for it. Guidance leads
    away from no picture.
    """

    slot: ClassVar[str | None] = "variation"

    image: Annotated[Image, knob("the picture to vary; its middle square is looked at")]
    noise: Annotated[
        float, knob("noise on its vector: more varies more; of Stable unCLIP", ge=0, le=1)
    ] = 0.0
    encoder: Annotated[
        Weights | None, knob("folder of the CLIP image encoder; the model's own if not given")
    ] = None
    background: Background = "white"

    def __call__(self, process: Process) -> Process:
        return process.add(taps=(self,))

    def bind_tap(self, run: Run) -> Tap:
        if run.source is None or not traits(run.process.denoiser.network).shown:
            raise SfumatoError(
                "variation: this model's network reads no picture's vector; Stable unCLIP and "
                "Kandinsky 2.2's decoder do, and ip_adapter teaches others to"
            )
        reader = run.source.shown(self.encoder)
        record(run, self.id, "encoder", reader.origin)
        if self.noise and reader.levels == 1:
            raise SfumatoError(
                f"variation: noise {self.noise:g}: this model reads a vector as it is; leave it out"
            )
        square = images.to_square(self.image.picture(), reader.size, self.background)
        pixels, nothing = square[None].to(run.device), reader.nothing()
        level = round(self.noise * (reader.levels - 1))
        noise = None
        if reader.levels > 1:
            like = nothing.new_empty((run.n, nothing.shape[1] // 2))
            noise = run.noise.draw(self.id, 0, 0, like)
        run.taps.append(Shown(nothing, "aways"))
        return Shown(reader.read(pixels, level, noise), "positives")


class Shown(Tap):
    """Writes a vector (1 or B, W) into the conditions of one side's branches."""

    name = "variation"

    def __init__(self, vectors: Tensor, side: str) -> None:
        self.vectors, self.on = vectors, (side,)

    def condition(self, cond: Cond, branch: Branch, run: Run) -> Cond:
        both = {**cond, "shown": self.vectors}
        rows = max(len(value) for value in both.values())
        return Cond({name: v.expand(rows, *v.shape[1:]) for name, v in both.items()})

    def active(self, call: Call) -> bool:
        return False
