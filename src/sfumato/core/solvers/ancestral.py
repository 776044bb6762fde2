"""Ancestral sampling: DDPM, which draws from q(x_s | x_t, x_0), and DDIM, which need not.

mean of q(x_s | x_t, x_0) = (alpha_t/alpha_s)(sigma_s^2/sigma_t^2) x_t + (alpha_s v/sigma_t^2) x_0,
with v = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sfumato.core.context import Call
from sfumato.core.denoiser import Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.ranges import Range, fit
from sfumato.core.solvers.base import BOTH, X0, Denoise, forget, once, variances

if TYPE_CHECKING:
    from torch import Tensor

Variance = Literal["auto", "small", "large", "learned"]


@dataclass(frozen=True)
class DDPM:
    """Ancestral sampling (arXiv 2006.11239, algorithm 2; learned range arXiv 2102.09672, eq. 15).

    variance: "small" and "large" as above; "learned" interpolates their logs by the network's
    fraction; "auto" is learned where the network has it, else large. No noise is added at the last
    transition unless `last_noise` (the published SDEdit loops do).
    """

    id: ClassVar[str] = "ddpm"
    order: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = X0
    mean_shift: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True
    variance: Variance = "auto"
    last_noise: bool = False

    def __post_init__(self) -> None:
        fit(self, "solver ddpm")

    evaluated, jumped = once, forget

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, state: None
    ) -> tuple[Tensor, None]:
        schedule = call.schedule
        pred = denoise(x, t)
        large, _ = variances(schedule, t, s)
        sigma2 = schedule.sigma(t) ** 2
        keep = schedule.alpha(t) / schedule.alpha(s) * schedule.sigma(s) ** 2 / sigma2
        mean = torch.add(keep * x, pred.x0, alpha=schedule.alpha(s) * large / sigma2)
        noisy = s > 0 or self.last_noise
        if not noisy and pred.grad is None:
            return mean, None
        variance = self._variance(pred, t, s, call)
        if pred.grad is not None:
            mean = mean + self._steering(variance, s, call) * pred.grad
        if noisy:
            std = math.sqrt(variance) if isinstance(variance, float) else variance.sqrt()
            mean = mean + std * call.noise("step", x)
        return mean, None

    def _steering(self, variance: Tensor | float, s: float, call: Call) -> Tensor | float:
        """What a score is multiplied by: the variance, except at the last transition.

        There the large one would be many times what the transition can still change; the published
        tables put the small one of the pair before in its place.
        """
        if s > 0 or not isinstance(variance, float) or self.variance == "small":
            return variance
        return self._small_before(call) or variance

    def _variance(self, pred: Prediction, t: float, s: float, call: Call) -> Tensor | float:
        large, small = variances(call.schedule, t, s)
        kind = self.variance
        if kind in ("auto", "learned") and pred.log_variance is not None:
            return pred.log_variance.exp()
        if kind == "auto":
            kind = "large" if pred.frac is None else "learned"
        if kind == "large":
            return large
        if kind == "small":
            return small
        if pred.frac is None:
            raise SfumatoError("solver ddpm: variance 'learned', but this network learned none")
        if small == 0:
            small = self._small_before(call) or large
        log = torch.lerp(
            torch.full_like(pred.frac, math.log(small)),
            torch.full_like(pred.frac, math.log(large)),
            pred.frac,
        )
        return log.exp()

    @staticmethod
    def _small_before(call: Call) -> float | None:
        """The small variance of the pair before this one in the same pass."""
        if call.i == 0 or call.times[call.i - 1] <= call.times[call.i]:
            return None
        return variances(call.schedule, call.times[call.i - 1], call.times[call.i])[1]


@dataclass(frozen=True)
class DDIM:
    """x_s = alpha_s x0 + sqrt(sigma_s^2 - std^2) eps + std z, std^2 = eta^2 small variance.

    Source: arXiv 2010.02502, eq. 12 and 16. eta 0 is deterministic and runs upwards too. below: the
    highest time at which eta counts; above it a step is deterministic (arXiv 2210.10960).
    """

    id: ClassVar[str] = "ddim"
    order: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    eta: Annotated[float, Range(ge=0, le=1)] = 0.0
    below: Annotated[float, Range(ge=0, le=1)] = 1.0

    def __post_init__(self) -> None:
        fit(self, "solver ddim")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0 and self.below > 0

    evaluated, jumped = once, forget

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, state: None
    ) -> tuple[Tensor, None]:
        schedule = call.schedule
        pred = denoise(x, t)
        drawn = self.eta and t <= self.below
        std2 = self.eta**2 * variances(schedule, t, s)[1] if drawn else 0.0
        along = math.sqrt(max(schedule.sigma(s) ** 2 - std2, 0.0))
        x = torch.add(schedule.alpha(s) * pred.x0, pred.eps, alpha=along)
        if std2 > 0:
            x = torch.add(x, call.noise("step", x), alpha=math.sqrt(std2))
        return x, None
