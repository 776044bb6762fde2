"""Linear multistep methods on eps: PLMS and its kin (PNDM, arXiv 2202.09778).

phi of base.py takes the place of x + h f. All run upwards too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sfumato.core.context import Call
from sfumato.core.denoiser import Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import IdleError, Needs
from sfumato.core.lazy import torch
from sfumato.core.ranges import Range, fit
from sfumato.core.schedule import FAINTEST, Schedule
from sfumato.core.solvers.base import BOTH, Denoise, faint, first, forget, transfer
from sfumato.core.solvers.runge_kutta import fourth, improved

if TYPE_CHECKING:
    from torch import Tensor

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
    any level with what `start` says. Of order 1 only "fork" and "euler" begin in different ways.
    """

    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    order: Annotated[int, Range(1, len(ADAMS_BASHFORTH))] = 4
    start: Literal["fork", "prk", "pie", "euler", "improved"] = "fork"
    of: Annotated[Literal["eps", "v"], Needs("order>1")] = "eps"
    faintest: Annotated[float, Range(0, 1)] = FAINTEST

    def __post_init__(self) -> None:
        fit(self, "solver plms")
        if self.order == 1 and self.start not in ("fork", "euler"):
            raise IdleError(
                f"solver {self.id}: start {self.start!r} does nothing at order 1; take iplms, or "
                "an order of 2 or more",
                "start",
            )
        if self.of == "v" and self.start not in ("fork", "euler"):
            raise SfumatoError(f"solver {self.id}: of {self.of!r} must be eps; plms takes v too")

    @property
    def id(self) -> str:
        return NAMES.get(self.start, "iplms")

    jumped = forget

    def evaluated(
        self, t: float, s: float, known: int, transitions: int, schedule: Schedule
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
        self,
        x: Tensor,
        t: float,
        s: float,
        denoise: Denoise,
        call: Call,
        state: tuple[Tensor, ...] | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        pred, schedule = denoise(x, t), call.schedule
        history = state or ()
        if faint(schedule, t, s, self.faintest):
            return first(pred, s, schedule), ()
        if self.start == "fork" and schedule.sigma(s) == 0:
            return schedule.alpha(s) * pred.x0, ()
        here = kept = self._told(pred, t, schedule)
        recent = (here, *history)[: self.order]
        alone = len(recent) == 1 and self.order > 1 and self.start in ("fork", "improved")
        if alone and self.of == "v":
            along = torch.add(schedule.alpha(t) * here, x, alpha=schedule.sigma(t))
            there = denoise(transfer(x, along, t, s, schedule), s)
            eps = (here + self._told(there, s, schedule)) / 2
        elif alone:
            eps = improved(x, here, t, s, denoise, call)
        elif len(recent) < self.order and self.start in ("prk", "pie"):
            way = fourth if self.start == "prk" else improved
            eps = kept = way(x, here, t, s, denoise, call)
        else:
            eps = _extrapolated(recent)
        if self.of == "v":
            eps = torch.add(schedule.alpha(t) * eps, x, alpha=schedule.sigma(t))
        return transfer(x, eps, t, s, schedule), (kept, *history)[: self.order - 1]

    def _told(self, pred: Prediction, t: float, schedule: Schedule) -> Tensor:
        """eps, or v = alpha eps - sigma x0."""
        if self.of == "eps":
            return pred.eps
        return torch.add(schedule.alpha(t) * pred.eps, pred.x0, alpha=-schedule.sigma(t))


def _extrapolated(recent: tuple[Tensor, ...]) -> Tensor:
    """Adams and Bashforth's eps of the last ones, the newest first."""
    weights = ADAMS_BASHFORTH[len(recent) - 1]
    total: Tensor = sum(w * e for w, e in zip(weights, recent, strict=True))  # type: ignore[assignment]
    return total
