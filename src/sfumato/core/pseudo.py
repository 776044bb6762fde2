"""Pseudo numerical methods: classical ODE solvers on eps, with the exact transfer of constant eps.

phi(x, e; t -> s) = alpha_s (x - sigma_t e) / alpha_t + sigma_s e takes the place of x + h f (PNDM,
arXiv 2202.09778). In x/alpha over sigma/alpha it is a plain Euler step, so these are also Heun's
method of EDM (arXiv 2206.00364). All run upwards too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sfumato.core.denoiser import Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import FAINTEST
from sfumato.core.lazy import torch
from sfumato.core.schedule import Schedule, ratio

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.guides import Call

Denoise = Callable[["Tensor", float], Prediction]
BOTH = frozenset({"x0", "eps"})


NOTHING = 1e-9  # an alpha that is 0 but for rounding, as at t = 1 of the cosine schedule
Visits = tuple[float, ...]


def transfer(x: Tensor, eps: Tensor, t: float, s: float, schedule: Schedule) -> Tensor:
    """phi: exact for an eps that does not change between t and s."""
    if schedule.alpha(t) < NOTHING:
        raise SfumatoError(
            f"time {t:g}: nothing of the picture is left in the state there, so this solver cannot "
            "leave it with faintest 0; leave that out, or take a spacing that begins lower, such "
            "as v-spliced"
        )
    scale = schedule.alpha(s) / schedule.alpha(t)
    return torch.add(scale * x, eps, alpha=schedule.sigma(s) - scale * schedule.sigma(t))


def faint(call: Call, faintest: float) -> bool:
    """Whether a downward transition leaves a state that holds no picture.

    eps says nothing of the picture there: in x/alpha over sigma/alpha, where these methods average,
    the transition is some thousand times as long as all others together. It is taken by DDIM's
    step, first order in x0, and no history begins before it.
    """
    return call.s < call.t and call.schedule.alpha(call.t) < faintest


def first_order(pred: Prediction, s: float, schedule: Schedule) -> Tensor:
    """DDIM's step: alpha_s x0 + sigma_s eps, which never divides by the alpha that is left."""
    x0 = schedule.alpha(s) * pred.x0
    return torch.add(x0, pred.eps, alpha=schedule.sigma(s)) if schedule.sigma(s) else x0


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
    v (with "fork" and "euler" only). faintest: the alpha below which a transition is of first
    order; 0: none is, as in the published loops.
    """

    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    eps_history: ClassVar[bool] = True
    order: int = 4
    start: Literal["fork", "prk", "pie", "euler", "improved"] = "fork"
    of: Literal["eps", "v"] = "eps"
    faintest: float = FAINTEST

    def __post_init__(self) -> None:
        if self.of not in ("eps", "v") or (self.of == "v" and self.start not in ("fork", "euler")):
            raise SfumatoError(f"solver {self.id}: of {self.of!r} must be eps; plms takes v too")
        if not 1 <= self.order <= len(ADAMS_BASHFORTH):
            raise SfumatoError(f"solver plms: order {self.order} must be 1 to 4")

    @property
    def id(self) -> str:
        return NAMES.get(self.start, "iplms")

    @property
    def stochastic(self) -> bool:
        return False

    def visits(self, call: Call, known: int) -> tuple[Visits, int]:
        t, s = call.t, call.s
        if faint(call, self.faintest):
            return (t,), 0
        if self.start == "fork" and call.schedule.sigma(s) == 0:
            return (t,), 0
        begins = known == 0 and self.order > 1 and self.start in ("fork", "improved")
        if begins or (known < self.order - 1 and self.start == "pie"):
            return (t, s), known + 1
        if known < self.order - 1 and self.start == "prk":
            return (t, (t + s) / 2, (t + s) / 2, s), known + 1
        return (t,), known + 1

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        pred = denoise(x, t)
        if faint(call, self.faintest):
            return first_order(pred, s, call.schedule), ()
        history: tuple[Tensor, ...] = carry or ()
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
        here, first = recent[0], len(recent) == 1 and self.order > 1
        if first and self.start in ("fork", "improved"):
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
    Euler step, as in EDM's algorithm 1 (2 n - 1 calls). faintest: as in PLMS.
    """

    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    eps_history: ClassVar[bool] = False
    stages: Literal[2, 4] = 2
    full: bool = False
    faintest: float = FAINTEST

    def __post_init__(self) -> None:
        if self.stages not in (2, 4):
            raise SfumatoError(f"solver heun: stages {self.stages} must be 2 or 4")

    @property
    def id(self) -> str:
        if not self.full:
            return "heun"
        return "pie" if self.stages == 2 else "prk"

    @property
    def stochastic(self) -> bool:
        return False

    def visits(self, call: Call, known: int) -> tuple[Visits, int]:
        t, s, middle = call.t, call.s, (call.t + call.s) / 2
        if self._single(call):
            return (t,), 0
        return ((t, s) if self.stages == 2 else (t, middle, middle, s)), 0

    def _single(self, call: Call) -> bool:
        """Whether one evaluation is all that this transition takes."""
        return faint(call, self.faintest) or (not self.full and call.schedule.sigma(call.s) == 0)

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
    ) -> tuple[Tensor, None]:
        pred = denoise(x, t)
        if self._single(call):
            return first_order(pred, s, call.schedule), None
        way = improved if self.stages == 2 else fourth
        eps = way(x, pred.eps, t, s, denoise, call)
        return transfer(x, eps, t, s, call.schedule), None


@dataclass(frozen=True)
class EDM:
    """Heun with churn (arXiv 2206.00364, algorithm 2): noise is added inside a step, then removed.

    churn: S_churn of the whole run; s_min, s_max: where it acts, as sigma/alpha; s_noise: factor on
    the added noise. Defaults are the paper's for ImageNet 64. churn 0 is "heun". faintest: as in
    PLMS.
    """

    id: ClassVar[str] = "edm"
    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    eps_history: ClassVar[bool] = False
    churn: float = 40.0
    s_min: float = 0.05
    s_max: float = 50.0
    s_noise: float = 1.003
    faintest: float = FAINTEST

    @property
    def stochastic(self) -> bool:
        return self.churn > 0

    def visits(self, call: Call, known: int) -> tuple[Visits, int]:
        at = self._raised(call) or call.t
        return ((at,) if self._single(call) else (at, call.s)), 0

    def _single(self, call: Call) -> bool:
        return faint(call, self.faintest) or call.schedule.sigma(call.s) == 0

    def _raised(self, call: Call) -> float | None:
        """The time that noise is added up to, None where none is."""
        schedule, here = call.schedule, ratio(call.schedule, call.t)
        gamma = min(self.churn / call.n, math.sqrt(2) - 1) if self.churn else 0.0
        if gamma and self.s_min <= here <= self.s_max and call.s < call.t:
            return schedule.at(here * (1 + gamma))
        return None

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
    ) -> tuple[Tensor, None]:
        schedule = call.schedule
        if (up := self._raised(call)) is not None:
            here, there, scale = ratio(schedule, t), ratio(schedule, up), schedule.alpha(up)
            added = self.s_noise * scale * math.sqrt(max(there**2 - here**2, 0.0))
            x = torch.add(scale / schedule.alpha(t) * x, call.noise("step", x), alpha=added)
            t = up
        pred = denoise(x, t)
        if self._single(call):
            return first_order(pred, s, schedule), None
        eps = improved(x, pred.eps, t, s, denoise, call)
        return transfer(x, eps, t, s, schedule), None
