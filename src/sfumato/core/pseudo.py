"""Pseudo numerical methods: classical ODE solvers on eps, with the exact transfer of constant eps.

phi(x, e; t -> s) = alpha_s (x - sigma_t e) / alpha_t + sigma_s e takes the place of x + h f (PNDM,
arXiv 2202.09778). In x/alpha over sigma/alpha it is a plain Euler step, so these are also Heun's
method of EDM (arXiv 2206.00364). All run upwards too.

Where alpha is below `faintest` (t = 1 of a cosine schedule: sigma/alpha is 20,000 there, 13 a step
of 20 lower) a transition is of first order, alpha_s x0 + sigma_s eps of one prediction, and leaves
no history: any other combination of eps would be multiplied by sigma/alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato.core.denoiser import Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.ranges import Range, fit
from sfumato.core.schedule import FAINTEST, Schedule, ratio

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.guides import Call

Denoise = Callable[["Tensor", float], Prediction]
BOTH = frozenset({"x0", "eps"})


NOTHING = 1e-9  # an alpha that is 0 but for rounding, as at t = 1 of the cosine schedule


def faint(schedule: Schedule, t: float, s: float, faintest: float) -> bool:
    """Whether the transition t -> s < t must be of first order."""
    return s < t and schedule.alpha(t) < faintest


def first(pred: Prediction, s: float, schedule: Schedule) -> Tensor:
    """The state at s of one prediction; divides by no alpha."""
    return torch.add(schedule.alpha(s) * pred.x0, pred.eps, alpha=schedule.sigma(s))


def transfer(x: Tensor, eps: Tensor, t: float, s: float, schedule: Schedule) -> Tensor:
    """phi: exact for an eps that does not change between t and s."""
    if schedule.alpha(t) < NOTHING:
        raise SfumatoError(
            f"time {t:g}: nothing of the picture is left in the state there, so this solver cannot "
            "leave it; take ddim or dpmpp-2m, or a spacing that begins lower, such as v-spliced"
        )
    scale = schedule.alpha(s) / schedule.alpha(t)
    return torch.add(scale * x, eps, alpha=schedule.sigma(s) - scale * schedule.sigma(t))


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


ADAMS_BASHFORTH: tuple[tuple[float, ...], ...] = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the newest eps first, by order."""

NAMES = {"fork": "plms", "prk": "plms-prk", "pie": "plms2", "euler": "iplms"}


@dataclass(frozen=True)
class PLMS:
    """Pseudo linear multistep: Adams-Bashforth on eps, of order 1 (DDIM) to 4.

    start: how a pass begins. "fork" averages eps over the first transition and ends with x0 of the
    last evaluation, as the ADM fork does; "prk" and "pie" take order - 1 steps of those methods and
    keep their combined eps (PNDM); "euler" grows its order from 1; "improved" is that with one pie
    step first, which keeps round trips up and down together. of: what is combined; "v" is combined
    and then read as eps at the state, which is what diffusers' PNDM does with networks that predict
    v (with "fork" and "euler" only). faintest: 0 is the published programs' way, which begins at
    any level with what `start` says.
    """

    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    eps_history: ClassVar[bool] = True
    order: Annotated[int, Range(1, len(ADAMS_BASHFORTH))] = 4
    start: Literal["fork", "prk", "pie", "euler", "improved"] = "fork"
    of: Literal["eps", "v"] = "eps"
    faintest: Annotated[float, Range(0, 1)] = FAINTEST

    def __post_init__(self) -> None:
        fit(self, "solver plms")
        if self.of == "v" and self.start not in ("fork", "euler"):
            raise SfumatoError(f"solver {self.id}: of {self.of!r} must be eps; plms takes v too")

    @property
    def id(self) -> str:
        return NAMES.get(self.start, "iplms")

    @property
    def stochastic(self) -> bool:
        return False

    def evaluated(
        self, t: float, s: float, known: int, n: int, schedule: Schedule
    ) -> tuple[tuple[float, ...], int]:
        if faint(schedule, t, s, self.faintest):
            return (t,), 0
        if self.start == "fork" and schedule.sigma(s) == 0:
            return (t,), 0
        more: tuple[float, ...] = ()
        if known == 0 and self.order > 1 and self.start in ("fork", "improved"):
            more = (s,)
        elif known < self.order - 1 and self.start in ("prk", "pie"):
            middle = (t + s) / 2
            more = (middle, middle, s) if self.start == "prk" else (s,)
        return (t, *more), min(known + 1, self.order - 1)

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        pred = denoise(x, t)
        history: tuple[Tensor, ...] = carry or ()
        if faint(call.schedule, t, s, self.faintest):
            return first(pred, s, call.schedule), ()
        if self.start == "fork" and call.schedule.sigma(s) == 0:
            return call.schedule.alpha(s) * pred.x0, ()
        recent = (self._told(pred, t, call.schedule), *history)[: self.order]
        eps, kept = self._combined(x, recent, t, s, denoise, call)
        if self.of == "v":
            eps = torch.add(call.schedule.alpha(t) * eps, x, alpha=call.schedule.sigma(t))
        return transfer(x, eps, t, s, call.schedule), (kept, *history)[: self.order - 1]

    def _told(self, pred: Prediction, t: float, schedule: Schedule) -> Tensor:
        """eps, or v = alpha eps - sigma x0."""
        if self.of == "eps":
            return pred.eps
        return torch.add(schedule.alpha(t) * pred.eps, pred.x0, alpha=-schedule.sigma(t))

    def _combined(
        self,
        x: Tensor,
        recent: tuple[Tensor, ...],
        t: float,
        s: float,
        denoise: Denoise,
        call: Call,
    ) -> tuple[Tensor, Tensor]:
        """eps of this step, and what the history keeps of it."""
        here, alone = recent[0], len(recent) == 1 and self.order > 1
        if alone and self.start in ("fork", "improved"):
            if self.of == "eps":
                return improved(x, here, t, s, denoise, call), here
            schedule = call.schedule
            eps = torch.add(schedule.alpha(t) * here, x, alpha=schedule.sigma(t))
            there = denoise(transfer(x, eps, t, s, schedule), s)
            return (here + self._told(there, s, schedule)) / 2, here
        if len(recent) < self.order and self.start in ("prk", "pie"):
            way = fourth if self.start == "prk" else improved
            eps = way(x, here, t, s, denoise, call)
            return eps, eps
        weights = ADAMS_BASHFORTH[len(recent) - 1]
        total: Tensor = sum(w * e for w, e in zip(weights, recent, strict=True))  # type: ignore[assignment]
        return total, here


@dataclass(frozen=True)
class RungeKutta:
    """Heun's method (2 stages) or the classical one of 4, each step on its own.

    full: evaluate at time 0 too ("pie" and "prk" of v-diffusion); else the transition to 0 is an
    Euler step, as in EDM's algorithm 1 (2 n - 1 calls).
    """

    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    eps_history: ClassVar[bool] = False
    stages: Literal[2, 4] = 2
    full: bool = False
    faintest: Annotated[float, Range(0, 1)] = FAINTEST

    def __post_init__(self) -> None:
        fit(self, "solver heun")

    @property
    def id(self) -> str:
        if not self.full:
            return "heun"
        return "pie" if self.stages == 2 else "prk"

    @property
    def stochastic(self) -> bool:
        return False

    def evaluated(
        self, t: float, s: float, known: int, n: int, schedule: Schedule
    ) -> tuple[tuple[float, ...], int]:
        if faint(schedule, t, s, self.faintest) or (schedule.sigma(s) == 0 and not self.full):
            return (t,), 0
        middle = (t + s) / 2
        return ((t, s) if self.stages == 2 else (t, middle, middle, s)), 0

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
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
    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    eps_history: ClassVar[bool] = False
    churn: Annotated[float, Range(ge=0, le=10_000)] = 40.0
    s_min: Annotated[float, Range(ge=0, le=1_000_000_000_000)] = 0.05
    s_max: Annotated[float, Range(ge=0, le=1_000_000_000_000)] = 50.0
    s_noise: Annotated[float, Range(ge=0, le=10)] = 1.003
    faintest: Annotated[float, Range(0, 1)] = FAINTEST

    def __post_init__(self) -> None:
        fit(self, "solver edm")
        if self.s_min > self.s_max:
            raise SfumatoError(f"solver edm: s_min {self.s_min} is above s_max {self.s_max}")

    @property
    def stochastic(self) -> bool:
        return self.churn > 0

    def evaluated(
        self, t: float, s: float, known: int, n: int, schedule: Schedule
    ) -> tuple[tuple[float, ...], int]:
        at = self.raised(t, s, n, schedule)
        once = schedule.sigma(s) == 0 or faint(schedule, at, s, self.faintest)
        return ((at,) if once else (at, s)), 0

    def raised(self, t: float, s: float, n: int, schedule: Schedule) -> float:
        """The time up to which noise is added before a transition of a run of n."""
        here = ratio(schedule, t)
        gamma = min(self.churn / n, math.sqrt(2) - 1) if self.churn else 0.0
        if not (gamma and self.s_min <= here <= self.s_max and s < t):
            return t
        return schedule.at(here * (1 + gamma))

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
    ) -> tuple[Tensor, None]:
        schedule = call.schedule
        up = self.raised(t, s, call.n, schedule)
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
