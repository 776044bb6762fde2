"""What a solver is: one transition t -> s, given a `denoise` that already holds guidance and edits.

Coefficients are written in alpha, sigma of any schedule, so variance preserving and exploding are
one formula. What several solvers share stands here too; the solvers have modules of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from sfumato.core.context import Call
from sfumato.core.denoiser import Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

Denoise = Callable[["Tensor", float], Prediction]
State = TypeVar("State")
Kept = TypeVar("Kept")

X0 = frozenset({"x0"})
BOTH = frozenset({"x0", "eps"})

NOTHING = 1e-9  # an alpha that is 0 but for rounding, as at t = 1 of the cosine schedule


class Solver(Protocol[State]):
    """step(x, t, s, denoise, call, state) -> (x at s, state for the next transition).

    order: of its global error in the step (of prk that of its formula, which on these times has 2);
    needs: what it reads of a Prediction; mean_shift: takes a guide's score g as Sigma g on its mean
    instead of in x0 and eps. State: what it remembers of earlier transitions, None of none. Any
    class with these will do; of a frozen dataclass a recipe records the fields beside the id.
    """

    needs: ClassVar[frozenset[str]]
    mean_shift: ClassVar[bool]

    @property
    def id(self) -> str: ...

    @property
    def order(self) -> int: ...

    @property
    def stochastic(self) -> bool: ...

    def evaluated(
        self, t: float, s: float, known: int, transitions: int, schedule: Schedule
    ) -> tuple[tuple[float, ...], int]:
        """Times at which `step` calls denoise, and the `known` of the next transition.

        known: how many earlier evaluations it remembers; transitions: of the whole run.
        """
        ...

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, state: State | None
    ) -> tuple[Tensor, State | None]: ...

    def jumped(self, kept: Kept, call: Call) -> Kept | None:
        """What stays of the state, or of its count, when something else has moved x.

        An upward move (call.s > call.t) begins a pass; otherwise a guide changed x on arrival.
        """
        ...


def once(
    self: object, t: float, s: float, known: int, transitions: int, schedule: Schedule
) -> tuple[tuple[float, ...], int]:
    """`evaluated` of solvers with one evaluation, at t."""
    return (t,), 0


def forget(self: object, kept: Kept, call: Call) -> Kept | None:
    """`jumped` of solvers that remember eps, which belongs to the states it was found at."""
    return None


def keep_going_down(self: object, kept: Kept, call: Call) -> Kept | None:
    """`jumped` of solvers that remember x0: a guide's change of x leaves it valid."""
    return None if call.s > call.t else kept


def variances(schedule: Schedule, t: float, s: float) -> tuple[float, float]:
    """(large, small) variance of the transition t -> s < t.

    large v = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2; small v sigma_s^2/sigma_t^2, that of
    q(x_s | x_t, x_0).
    """
    sigma_t, sigma_s = schedule.sigma(t), schedule.sigma(s)
    large = sigma_t**2 - (schedule.alpha(t) / schedule.alpha(s) * sigma_s) ** 2
    return large, large * (sigma_s / sigma_t) ** 2


def faint(schedule: Schedule, t: float, s: float, faintest: float) -> bool:
    """Whether the transition t -> s < t must be of first order."""
    return s < t and schedule.alpha(t) < faintest


def first(pred: Prediction, s: float, schedule: Schedule) -> Tensor:
    """The state at s of one prediction; divides by no alpha."""
    return torch.add(schedule.alpha(s) * pred.x0, pred.eps, alpha=schedule.sigma(s))


def transfer(x: Tensor, eps: Tensor, t: float, s: float, schedule: Schedule) -> Tensor:
    """phi(x, eps; t -> s) = alpha_s (x - sigma_t eps) / alpha_t + sigma_s eps.

    Exact for an eps that does not change between t and s.
    """
    if schedule.alpha(t) < NOTHING:
        raise SfumatoError(
            f"time {t:g}: nothing of the picture is left in the state there, so this solver cannot "
            "leave it; take ddim or dpmpp-2m, or a spacing that begins lower, such as v-spliced"
        )
    scale = schedule.alpha(s) / schedule.alpha(t)
    return torch.add(scale * x, eps, alpha=schedule.sigma(s) - scale * schedule.sigma(t))


def half_logsnr(schedule: Schedule, t: float) -> float:
    """log(alpha/sigma)."""
    return math.log(schedule.alpha(t) / schedule.sigma(t))
