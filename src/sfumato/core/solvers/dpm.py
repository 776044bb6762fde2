"""DPM-Solver++(2M), as an ODE and as the reverse SDE (arXiv 2211.01095, algorithm 2 and appendix).

x_s = (sigma_s/sigma_t) e^(-eta h) x + alpha_s (1 - e^(-(1 + eta) h)) D
      + sigma_s sqrt(1 - e^(-2 eta h)) z,
D = x0 + h/(2 h_before) (x0 - x0_before), h = difference of log(alpha/sigma).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from sfumato.core.context import Call
from sfumato.core.lazy import torch
from sfumato.core.ranges import Range, fit
from sfumato.core.solvers.base import X0, Denoise, first, half_logsnr, keep_going_down, once

if TYPE_CHECKING:
    from torch import Tensor


class Before(NamedTuple):
    """The prediction of the transition before, and log(alpha/sigma) there."""

    x0: Tensor
    half_logsnr: float


@dataclass(frozen=True)
class DPMpp2M:
    """Second order with one evaluation, by the x0 of the transition before.

    eta: share of the reverse SDE's noise; 0, "dpmpp-2m", is deterministic, more is "dpmpp-2m-sde".
    The first transition of a pass is first order, one to sigma = 0 gives x0.
    """

    needs: ClassVar[frozenset[str]] = X0
    order: ClassVar[int] = 2
    mean_shift: ClassVar[bool] = False
    eta: Annotated[float, Range(ge=0, le=10)] = 0.0

    def __post_init__(self) -> None:
        fit(self, "solver dpmpp-2m-sde")

    @property
    def id(self) -> str:
        return "dpmpp-2m" if self.eta == 0 else "dpmpp-2m-sde"

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    evaluated, jumped = once, keep_going_down

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, state: Before | None
    ) -> tuple[Tensor, Before | None]:
        schedule = call.schedule
        pred = denoise(x, t)
        alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
        alpha_s, sigma_s = schedule.alpha(s), schedule.sigma(s)
        if sigma_t == 0:  # leaving 0 upwards: log(alpha/sigma) is infinite, first order in eps
            return first(pred, s, schedule), None
        if sigma_s == 0:
            return alpha_s * pred.x0, None
        here = half_logsnr(schedule, t)
        h = half_logsnr(schedule, s) - here
        target = pred.x0
        if state is not None:
            weight = h / (2 * (here - state.half_logsnr))
            target = torch.add(target, target - state.x0, alpha=weight)
        shrink = sigma_s / sigma_t
        gain = alpha_s - alpha_t * shrink
        if self.eta > 0:
            shrink *= math.exp(-self.eta * h)
            gain = -alpha_s * math.expm1(-(1 + self.eta) * h)
        x = torch.add(shrink * x, target, alpha=gain)
        if self.eta > 0:
            spread = sigma_s * math.sqrt(-math.expm1(-2 * self.eta * h))
            x = torch.add(x, call.noise("step", x), alpha=spread)
        return x, Before(pred.x0, here)
