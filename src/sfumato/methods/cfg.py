"""Classifier-free guidance (arXiv 2207.12598): away from the empty or the negative prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Prediction
from sfumato.core.guides import RESCALE, Guide
from sfumato.core.lazy import torch
from sfumato.core.mixture import Branch
from sfumato.methods import Method, knob, method
from sfumato.methods.common.kinds import Window, within

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


@method
class CFG(Method):
    """e = e_prompt + (scale - 1)(e_prompt - e_negative); scale 1 is no guidance, 0 no prompt."""

    slot: ClassVar[str | None] = "cfg"

    scale: Annotated[float, knob("strength of the guidance", main=True, ge=0, le=100)] = 3.0
    window: Annotated[Window, knob("times low, high between which it acts", unit="t")] = (0.0, 1.0)
    rescale: Annotated[
        float, knob("0 to 1: how far contrast is brought back (arXiv 2305.08891)", ge=0, le=1)
    ] = 0.0

    adapters: Annotated[
        Literal["both", "prompt"],
        knob("whether adapters act on both branches, or on the prompt's alone"),
    ] = "both"

    def __call__(self, process: Process) -> Process:
        always = self.window == (0, 1) or self.scale == 1
        weight = None if always else (lambda t: self.scale if within(self.window, t) else 1.0)
        plain = None if process.source is None or self.adapters == "both" else process.source.plain
        away = Branch(
            "away",
            weight=weight or self.scale,
            denoiser=None if plain is None else plain.denoiser,
            source=plain,
        )
        return process.add(aways=(away,), guides=(self,) if self.rescale else ())

    def bind_guide(self, run: Run) -> Guide:
        return Rescale(self.rescale)


@dataclass(frozen=True, eq=False)
class Rescale(Guide):
    """Gives x0 the spread it has without guidance: x0 of the positive branch sets the std.

    The paper scales the network's output, v there; x0 is used here because it means the same for
    every parametrisation.
    """

    amount: float

    name = "cfg.rescale"
    edit_rank = RESCALE

    def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
        if "away" not in call.parts:
            return pred
        axes = tuple(range(1, x.ndim))
        plain = next(part for name, part in call.parts.items() if name != "away").x0
        factor = plain.std(axes, keepdim=True) / pred.x0.std(axes, keepdim=True).clamp_min(1e-6)
        x0 = pred.x0 * torch.lerp(torch.ones_like(factor), factor, self.amount)
        return call.with_x0(pred, x0, x)
