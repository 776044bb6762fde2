"""Bits as the noise of a state, and back (Diffusion-Stego, arXiv 2305.18726)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from sfumato.core.context import Call
from sfumato.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Projection:
    """Bits as noise of mean 0 and variance 1 (for random bits), and back.

    mn: |n| with the bit as its sign, exactly normal. mb: 2^bits levels, equally spaced, neighbours
    one bit apart. mc: 0 for 0, the root of 2 with the noise's sign for 1.
    """

    name: Literal["mn", "mb", "mc"]
    bits: int = 1

    @property
    def alike(self) -> bool:
        """Whether nothing of it is noise."""
        return self.name == "mb"

    @cached_property
    def levels(self) -> Tensor:
        """The level of each group of bits, read as a number from its first bit up."""
        count = 1 << self.bits
        index = torch.arange(count)
        levels = torch.empty(count)
        levels[index ^ (index >> 1)] = (index - (count - 1) / 2) * math.sqrt(12 / (count**2 - 1))
        return levels

    def hide(self, bits: Tensor, noise: Tensor) -> Tensor:
        """bits (values of a state times bits,), noise (B, ...) -> the state's noise (B, ...)."""
        rows = bits.view(-1, self.bits).to(noise.device)
        if self.name == "mb":
            label = (rows << torch.arange(self.bits, device=rows.device)).sum(1)
            state = self.levels.to(noise)[label].view(noise.shape[1:])
            return state.expand_as(noise)
        own = rows[:, 0].view(noise.shape[1:]).to(noise)
        if self.name == "mc":
            return own * math.sqrt(2) * noise.sign()
        return noise.abs() * (2 * own - 1)

    def values(self, state: Tensor) -> Tensor:
        """(B, ...) -> (B, values times bits): above 0 where a 1 is likelier."""
        flat = state.flatten(1)
        if self.name == "mc":
            return flat.abs() - math.sqrt(0.5)
        if self.name == "mn":
            return flat
        far = (flat[..., None] - self.levels.to(flat)).square()
        planes = [torch.arange(1 << self.bits, device=flat.device) >> k & 1
                  for k in range(self.bits)]  # fmt: skip
        clear = [far[..., one == 0].amin(-1) - far[..., one == 1].amin(-1) for one in planes]
        return torch.stack(clear, -1).flatten(1) * (1 << self.bits) / 8


@dataclass(frozen=True)
class Hidden:
    """bits: one for each place of a state."""

    projection: Projection
    bits: Tensor

    def state(self, call: Call, like: Tensor) -> Tensor:
        std: float = call.schedule.prior(call.t)
        return self.projection.hide(self.bits, call.noise("prior", like)) * std
