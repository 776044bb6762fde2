"""Replacement of the part that a mask keeps: the guide behind masked edits. Tensors only.

The kept part is set to the known picture at the state's own noise level on every arrival. The
published SDEdit loops set it one level noisier; that form is here for comparison with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sfumato.core.context import Call
from sfumato.core.guides import PASTE, Guide
from sfumato.core.lazy import torch
from sfumato.core.solvers import Solver

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Composite(Guide):
    """x <- (1 - m) known_t + m x on every arrival (arXiv 2108.01073, algorithm 5).

    known: clean state (B or 1, C, H, W); mask: 1 = may change, soft values blend. draw: the kept
    part's noise, "step" shared with the transition or "start" that of the pass. reference: level of
    the time before, anything above 0 is edited, clean at the end unless last_noise.
    """

    known: Tensor
    mask: Tensor
    draw: Literal["step", "start"]
    reference: bool = False
    last_noise: bool = False

    name = "mask"
    arrive_rank = PASTE

    def arrive(self, x: Tensor, t: float, call: Call) -> Tensor:
        down = call.s < call.t
        lagging = self.reference and down and (t > 0 or self.last_noise)
        at = call.t if lagging else t
        known = call.schedule.alpha(at) * self.known
        if at > 0:
            known = torch.add(known, self.noise(x, down, call), alpha=call.schedule.sigma(at))
        if self.reference:
            return torch.where(self.mask > 0, x, known)
        return torch.lerp(known.expand_as(x), x, self.mask.to(x.dtype).expand_as(x))

    def noise(self, x: Tensor, down: bool, call: Call) -> Tensor:
        return kept_noise(self.draw, x, down, call)


@dataclass(frozen=True, eq=False)
class Regional(Guide):
    """x <- known_t wherever t has not yet fallen below the region's level (arXiv 2306.00950).

    known: clean state (B or 1, C, H, W); levels: times that broadcast with it, 0 is kept. A region
    begins at the lowest of the run's times that is not below its level. draw: as Composite's.
    """

    known: Tensor
    levels: Tensor
    draw: Literal["step", "start"]

    name = "mask"
    arrive_rank = PASTE

    def arrive(self, x: Tensor, t: float, call: Call) -> Tensor:
        known = call.schedule.alpha(t) * self.known
        if t > 0:
            drawn = kept_noise(self.draw, x, call.s < call.t, call)
            known = torch.add(known, drawn, alpha=call.schedule.sigma(t))
        return torch.where(self.levels.to(x.device) > t, x, known)


def kept_noise(draw: Literal["step", "start"], x: Tensor, down: bool, call: Call) -> Tensor:
    """Of the kept part: the step's own on the way down, else what the pass began with."""
    if draw == "step" and down:
        return call.noise("step", x)
    return call.noise("start", x, visit=call.last_up)


def drawn_with(solver: Solver[Any]) -> Literal["step", "start"]:
    """The kept part's noise: the step's where a solver draws one, as in the paper, else the start's
    (the released program)."""
    return "step" if solver.stochastic else "start"
