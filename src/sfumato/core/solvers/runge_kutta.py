"""Runge-Kutta methods on eps: Heun's, the classical one, and EDM's with churn.

phi of base.py takes the place of x + h f; in x/alpha over sigma/alpha it is a plain Euler step, so
Heun's method here is that of EDM (arXiv 2206.00364). All run upwards too.

Where alpha is below `faintest` (t = 1 of a cosine schedule: sigma/alpha is 20,000 there, 13 a step
of 20 lower) a transition is of first order, alpha_s x0 + sigma_s eps of one prediction, and leaves
no history: any other combination of eps would be multiplied by sigma/alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sfumato.core.context import Call
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.lazy import torch
from sfumato.core.ranges import Range, fit
from sfumato.core.schedule import FAINTEST, Schedule, ratio
from sfumato.core.solvers.base import BOTH, Denoise, faint, first, forget, transfer

if TYPE_CHECKING:
    from torch import Tensor


def improved(x: Tensor, eps: Tensor, t: float, s: float, denoise: Denoise, call: Call) -> Tensor:
    """Improved Euler: the mean of eps here and where a transfer with it leads."""
    there = denoise(transfer(x, eps, t, s, call.schedule), s).eps
    return (eps + there) / 2


def fourth(x: Tensor, eps: Tensor, t: float, s: float, denoise: Denoise, call: Call) -> Tensor:
    """Runge and Kutta's fourth order, the middle evaluations at (t + s) / 2."""
    middle, schedule = (t + s) / 2, call.schedule
    second = denoise(transfer(x, eps, t, middle, schedule), middle).eps
    third = denoise(transfer(x, second, t, middle, schedule), middle).eps
    last = denoise(transfer(x, third, t, s, schedule), s).eps
    return (eps + 2 * second + 2 * third + last) / 6


@dataclass(frozen=True)
class RungeKutta:
    """Heun's method (2 stages) or the classical one of 4, each step on its own.

    full: evaluate at time 0 too ("pie" and "prk" of v-diffusion); else the transition to 0 is an
    Euler step, as in EDM's algorithm 1 (2 n - 1 calls).
    """

    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    stages: Literal[2, 4] = 2
    full: bool = False
    faintest: Annotated[float, Range(0, 1)] = FAINTEST

    def __post_init__(self) -> None:
        fit(self, "solver heun")

    @property
    def order(self) -> int:
        return self.stages

    @property
    def id(self) -> str:
        if not self.full:
            return "heun"
        return "pie" if self.stages == 2 else "prk"

    jumped = forget

    def evaluated(
        self, t: float, s: float, known: int, transitions: int, schedule: Schedule
    ) -> tuple[tuple[float, ...], int]:
        if faint(schedule, t, s, self.faintest) or (schedule.sigma(s) == 0 and not self.full):
            return (t,), 0
        middle = (t + s) / 2
        return ((t, s) if self.stages == 2 else (t, middle, middle, s)), 0

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, state: None
    ) -> tuple[Tensor, None]:
        pred = denoise(x, t)
        if faint(call.schedule, t, s, self.faintest):
            return first(pred, s, call.schedule), None
        if call.schedule.sigma(s) == 0 and not self.full:
            return call.schedule.alpha(s) * pred.x0, None
        way = improved if self.stages == 2 else fourth
        eps = way(x, pred.eps, t, s, denoise, call)
        return transfer(x, eps, t, s, call.schedule), None


@dataclass(frozen=True)
class EDM:
    """Heun with churn (arXiv 2206.00364, algorithm 2): noise is added inside a step, then removed.

    churn: S_churn of the whole run; s_min, s_max: where it acts, as sigma/alpha; s_noise: factor on
    the added noise. Defaults are the paper's for ImageNet 64. churn 0 is "heun".
    """

    id: ClassVar[str] = "edm"
    order: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    churn: Annotated[float, Range(ge=0, le=10_000)] = 40.0
    s_min: Annotated[float, Range(ge=0, le=1_000_000_000_000), Needs("churn>0")] = 0.05
    s_max: Annotated[float, Range(ge=0, le=1_000_000_000_000), Needs("churn>0")] = 50.0
    s_noise: Annotated[float, Range(ge=0, le=10), Needs("churn>0")] = 1.003
    faintest: Annotated[float, Range(0, 1)] = FAINTEST

    def __post_init__(self) -> None:
        fit(self, "solver edm")
        if self.s_min > self.s_max:
            raise SfumatoError(f"solver edm: s_min {self.s_min} is above s_max {self.s_max}")

    @property
    def stochastic(self) -> bool:
        return self.churn > 0

    jumped = forget

    def evaluated(
        self, t: float, s: float, known: int, transitions: int, schedule: Schedule
    ) -> tuple[tuple[float, ...], int]:
        at = self.raised(t, s, transitions, schedule)
        once = schedule.sigma(s) == 0 or faint(schedule, at, s, self.faintest)
        return ((at,) if once else (at, s)), 0

    def raised(self, t: float, s: float, transitions: int, schedule: Schedule) -> float:
        """The time up to which noise is added before a transition of a run of so many."""
        here = ratio(schedule, t)
        gamma = min(self.churn / transitions, math.sqrt(2) - 1) if self.churn else 0.0
        if not (gamma and self.s_min <= here <= self.s_max and s < t):
            return t
        return schedule.at(here * (1 + gamma))

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, state: None
    ) -> tuple[Tensor, None]:
        schedule = call.schedule
        up = self.raised(t, s, call.transitions, schedule)
        if up != t:
            here, there, scale = ratio(schedule, t), ratio(schedule, up), schedule.alpha(up)
            added = self.s_noise * scale * math.sqrt(max(there**2 - here**2, 0.0))
            x = torch.add(scale / schedule.alpha(t) * x, call.noise("step", x), alpha=added)
            t = up
        pred = denoise(x, t)
        if faint(schedule, t, s, self.faintest):
            return first(pred, s, schedule), None
        if schedule.sigma(s) == 0:
            return schedule.alpha(s) * pred.x0, None
        eps = improved(x, pred.eps, t, s, denoise, call)
        return transfer(x, eps, t, s, schedule), None
