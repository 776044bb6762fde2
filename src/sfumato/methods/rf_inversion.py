"""RF inversion (arXiv 2410.10792): a picture's noise found under control, its way back held to it.

Upwards the predicted noise is drawn towards a noise of its own, eps <- (1 - gamma) eps + gamma y,
so that it ends where the model knows its way; downwards the predicted picture is drawn towards the
picture, x0 <- (1 - eta) x0 + eta x, while the times are in the window. On a flow these are the
paper's controlled velocities, written so that they mean the same on every schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Prediction
from sfumato.core.guides import Guide
from sfumato.core.lazy import torch
from sfumato.core.starts import BoundStart
from sfumato.images import Image
from sfumato.methods import knob, method
from sfumato.methods.common.fields import Background
from sfumato.methods.common.inverted import Way
from sfumato.methods.common.kinds import Text, Window, within
from sfumato.methods.common.picture_start import FromPicture

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


@method
class RFInversion(FromPicture):
    """The prompt says what the picture becomes; eta and its window, how much of it stays."""

    verb: ClassVar[bool] = True
    slot: ClassVar[str | None] = "start"
    examples: ClassVar[tuple[str, ...]] = (
        'photo.png -p "a cat in a spacesuit" --eta 0.7 --model org/name',
    )

    image: Annotated[Image, knob("the picture to edit")]
    eta: Annotated[
        float, knob("how far the way back is held to the picture", main=True, ge=0, le=1)
    ] = 0.9
    window: Annotated[Window, knob("times low, high between which it is held", unit="t")] = (
        0.75, 1.0,
    )  # fmt: skip
    gamma: Annotated[
        float, knob("how far the way up is drawn to a noise of its own", ge=0, le=1)
    ] = 0.5
    caption: Annotated[Text, knob("what the picture shows, read on the way up")] = ""
    t0: Annotated[float, knob("level that the way up climbs to", gt=0, le=1)] = 1.0
    background: Background = "white"

    def __call__(self, process: Process) -> Process:
        return process.add(start=self, guides=(self,) if self.eta else ())

    def level(self, process: Process) -> float:
        return process.starts_at(self.t0)

    def bind_start(self, run: Run) -> BoundStart:
        drawn = run.noise.draw("prior", 0, 0, torch.empty(run.n, *run.shape, device=run.device))
        control = Drawn(self.gamma, drawn) if self.gamma else None
        way = Way(self.id, "ddim", caption=self.caption, control=control)
        return way.start(run, self.image, self.background)

    def bind_guide(self, run: Run) -> Guide:
        assert run.known is not None
        return Hold(self.eta, self.window, run.known)


@dataclass(eq=False)
class Drawn(Guide):
    """eps <- (1 - gamma) eps + gamma y, of n noises y; x0 follows from the state."""

    gamma: float
    noise: Tensor

    name = "rf_inversion.up"

    def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
        eps = torch.lerp(pred.eps, self.noise.to(pred.eps)[: len(x)], self.gamma)
        x0 = torch.add(x, eps, alpha=-call.sigma) / call.alpha
        return Prediction(x0, eps, pred.frac, log_variance=pred.log_variance)


@dataclass(eq=False)
class Hold(Guide):
    """x0 <- (1 - eta) x0 + eta known within the window; eps follows from the state."""

    eta: float
    window: tuple[float, float]
    known: Tensor

    name = "rf_inversion"

    def active(self, call: Call) -> bool:
        return within(self.window, call.t)

    def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
        return call.with_x0(pred, torch.lerp(pred.x0, self.known.to(x).expand_as(x), self.eta), x)
