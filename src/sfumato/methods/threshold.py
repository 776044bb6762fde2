"""Thresholds on the predicted x0, applied at every evaluation after guidance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sfumato.core.denoiser import Prediction
from sfumato.core.guides import THRESHOLD, Call, Guide
from sfumato.core.lazy import torch
from sfumato.methods import Method, knob, method

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process
    from sfumato.core.run import Run


@method
class Threshold(Method):
    """Keep x0 in the range of pixels: "static" clamps it (arXiv 2205.11487), "none" leaves it."""

    slot: ClassVar[str | None] = "threshold"

    mode: Annotated[Literal["none", "static"], knob("how x0 is kept in range", main=True)] = (
        "static"
    )

    def __call__(self, process: Process) -> Process:
        return process if self.mode == "none" else process.add(guides=(_Clamp(),))


class _Clamp(Guide):
    name = "threshold"
    edit_rank = THRESHOLD

    def __init__(self, low: float = -1.0, high: float = 1.0, tied: bool = True) -> None:
        self.low, self.high, self.tied = low, high, tied

    def bind(self, run: Run) -> Guide:
        assert run.mixture is not None
        low, high = run.space.encode(torch.tensor([-1.0, 1.0])).tolist()
        return _Clamp(low, high, run.mixture.tied)

    def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
        x0 = pred.x0.clamp(self.low, self.high)
        if not self.tied:
            return replace(pred, x0=x0)
        return pred.with_x0(x0, x, call.schedule.alpha(call.t), call.schedule.sigma(call.t))
