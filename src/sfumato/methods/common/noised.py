"""Noised: a clean state brought to the level that a run begins at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.core.context import Call
from sfumato.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Noised:
    """clean: a state without noise (B or 1, C, H, W), brought to the run's first time.

    prior_at_1: t = 1 is pure noise, of the purpose that a run without a picture draws.
    """

    clean: Tensor
    prior_at_1: bool

    def state(self, call: Call, like: Tensor) -> Tensor:
        t, like = call.t, like.to(self.clean)
        if t == 1 and self.prior_at_1:
            return call.noise("prior", like) * call.schedule.prior(t)
        return torch.add(call.alpha * self.clean, call.noise("start", like), alpha=call.sigma)
