"""How hard the guides push: the length of their summed gradient against the noise prediction's.

Loss weights mean something for one network and one resolution only; a part of |eps| means the same
for all. It also tames the factor sigma/alpha, by which a loss acts hardest where x0 is a blur.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sfumato.core.context import Call, Run
from sfumato.core.guides import Guide
from sfumato.methods import Method, knob, method

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Prediction
    from sfumato.core.process import Process


@method
class Gradient(Method):
    """The guides move eps by `fraction` of its own root mean square, picture by picture."""

    slot: ClassVar[str | None] = "gradient"

    fraction: Annotated[
        float,
        knob(
            "length of the guides' push as a part of the noise prediction's", main=True, ge=0, le=10
        ),
    ] = 0.3
    mode: Annotated[
        Literal["set", "clip"], knob("give the push this length, or cut longer ones to it")
    ] = "set"

    def __call__(self, process: Process) -> Process:
        return process.add(guides=(self,))

    def bind_guide(self, run: Run) -> Guide:
        return Push(self.fraction, self.mode == "clip")


@dataclass(frozen=True, eq=False)
class Push(Guide):
    """|sigma score| = fraction |eps|, root mean squares of each picture; capped: at most that."""

    fraction: float
    capped: bool

    name = "gradient"

    def weigh(self, score: Tensor, pred: Prediction, call: Call) -> Tensor:
        axes = tuple(range(1, score.ndim))
        push = score.square().mean(axes, keepdim=True).sqrt() * call.sigma
        wanted = pred.eps.square().mean(axes, keepdim=True).sqrt() * self.fraction
        factor = wanted / push.clamp_min(1e-12)
        if self.capped:
            factor = factor.clamp_max(1.0)
        return score * factor
