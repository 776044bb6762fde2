"""Thresholds on the predicted x0, applied at every evaluation after guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import THRESHOLD, Guide
from sfumato.core.idle import Needs
from sfumato.core.lazy import torch
from sfumato.methods import Method, knob, method

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


@method
class Threshold(Method):
    """Keep x0 in the range of pixels (arXiv 2205.11487, section 2.3).

    "static" clamps it; "dynamic" clamps each picture at the quantile of its absolute values, if
    that lies outside the range, and scales it back, which keeps large guidance from saturating.
    """

    slot: ClassVar[str | None] = "threshold"

    mode: Annotated[
        Literal["none", "static", "dynamic"], knob("how x0 is kept in range", main=True)
    ] = "static"
    quantile: Annotated[
        float, knob("share of values kept unclamped", gt=0, le=1), Needs("mode=dynamic")
    ] = 0.995

    def __call__(self, process: Process) -> Process:
        if self.mode == "none":
            return process
        return process.add(guides=(self,))

    def bind_guide(self, run: Run) -> Guide:
        if run.space.stride > 1:
            raise SfumatoError(
                "threshold: this model works on latents, which have no bounds; leave it out"
            )
        low, high = run.space.encode(torch.tensor([-1.0, 1.0])).tolist()
        return Clamp(low, high, self.quantile if self.mode == "dynamic" else None)


@dataclass(frozen=True, eq=False)
class Clamp(Guide):
    """x0 within [low, high], in units of the state; quantile: of dynamic, None for static."""

    low: float
    high: float
    quantile: float | None = None

    name = "threshold"
    edit_rank = THRESHOLD

    def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
        return call.cleaned(pred, self.kept, x)

    def kept(self, x0: Tensor) -> Tensor:
        """x0 in range."""
        if self.quantile is None:
            return x0.clamp(self.low, self.high)
        return self.dynamic(x0, self.quantile)

    def dynamic(self, x0: Tensor, quantile: float) -> Tensor:
        """clamp(x0, -s, s) / s with s = max(1, quantile of |x0|), about the middle of the range."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        unit = (x0 - middle) / half
        s = torch.quantile(unit.abs().flatten(1).float(), quantile, dim=1).clamp_min(1)
        s = s.to(x0.dtype).view(-1, *[1] * (x0.ndim - 1))
        return unit.clamp(-s, s) / s * half + middle
