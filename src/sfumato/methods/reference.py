"""Reference (FLUX.1 Kontext, arXiv 2506.15742): a picture that the network reads beside the state.

Such a network was taught to follow the picture where the prompt asks for no change: "make the car
red" edits it, "the same man in a boat" draws a new one. The run may begin from noise or a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato import images
from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond, traits
from sfumato.core.errors import SfumatoError
from sfumato.core.mixture import Branch
from sfumato.core.starts import Place
from sfumato.core.taps import Tap
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.common.fields import Background

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


@method
class Reference(Method):
    """The picture is read by every call, of the prompt and of what guides away from it.

    The result has its shape, unless the run begins from another picture. Networks that read none
    are refused; Flux.1 Kontext and Flux.2 Klein read one.
    """

    slot: ClassVar[str | None] = "reference"

    image: Annotated[Image, knob("the picture that the network reads")]
    background: Background = "white"

    def __call__(self, process: Process) -> Process:
        return process.add(taps=(self,))

    def place(self) -> Place:
        return Place.of(self.image)

    def bind_tap(self, run: Run) -> Tap:
        if not traits(run.process.denoiser.network).reference:
            raise SfumatoError(
                "reference: this model's network reads no picture; Flux.1 Kontext and "
                "Flux.2 Klein do, and sdedit begins from one on any model"
            )
        if self.image.is_tensor:
            state = self.image.state("reference", run)
            return Shown(state[None] if state.ndim == 3 else state)
        picture = self.image.picture()
        frame, _ = run.process.frame(Place(picture.size))
        if frame is None:
            raise SfumatoError("reference: this process has no pictures; give it as a tensor")
        pixels = images.to_work(picture, frame, self.background)[None].to(run.device)
        return Shown(run.space.encode(pixels))


class Shown(Tap):
    """Writes the picture into every branch's condition."""

    name = "reference"

    def __init__(self, state: Tensor) -> None:
        self.state = state

    def condition(self, cond: Cond, branch: Branch, run: Run) -> Cond:
        rows = len(next(iter(cond.values()), ())) or run.n
        most = max(rows, len(self.state))
        both = {**cond, "reference": self.state}
        return Cond({name: v.expand(most, *v.shape[1:]) for name, v in both.items()})

    def active(self, call: Call) -> bool:
        return False
