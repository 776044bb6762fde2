"""Multistep consistency sampling (arXiv 2303.01469, algorithm 1), as latent consistency models do.

x_s = alpha_s D + sigma_s z, D = c_out x0 + c_skip x: all noise is drawn anew in every transition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato.core.context import Call
from sfumato.core.lazy import torch
from sfumato.core.ranges import Range, fit
from sfumato.core.solvers.base import X0, Denoise, forget, once

if TYPE_CHECKING:
    from torch import Tensor

DATA = 0.5
"""Deviation of the data in c_skip and c_out."""


@dataclass(frozen=True)
class LCM:
    """For networks distilled to give a trajectory's end (arXiv 2310.04378); others lose detail.

    With k the time's index in the table, c_skip = 0.25 / ((scaling k)^2 + 0.25) and c_out =
    scaling k / sqrt((scaling k)^2 + 0.25): D is x itself at the first index.
    """

    id: ClassVar[str] = "lcm"
    order: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = X0
    mean_shift: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True
    scaling: Annotated[float, Range(ge=0.001, le=1000)] = 10.0

    def __post_init__(self) -> None:
        fit(self, "solver lcm")

    evaluated, jumped = once, forget

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, state: None
    ) -> tuple[Tensor, None]:
        schedule = call.schedule
        place = self.scaling * max(t * schedule.steps - 1, 0.0)
        kept = DATA**2 / (place**2 + DATA**2)
        weight = place / math.hypot(place, DATA)
        clean = torch.add(weight * denoise(x, t).x0, x, alpha=kept)
        if s == 0:
            return clean, None
        noise = call.noise("step", x)
        return torch.add(schedule.alpha(s) * clean, noise, alpha=schedule.sigma(s)), None
