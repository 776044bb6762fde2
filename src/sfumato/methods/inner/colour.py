"""Matching of colours: a result's mean and spread of each channel become those of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class MatchColour:
    """Gives each channel of the edited part of the pixels the reference's mean and deviation."""

    reference: Tensor
    mask: Tensor | None

    def __call__(self, pixels: Tensor) -> Tensor:
        reference = self.reference.expand_as(pixels)
        weight = torch.ones_like(pixels)
        if self.mask is not None:
            weight = (self.mask > 0).to(pixels).expand_as(pixels)
        mean, std = _moments(pixels, weight)
        goal, spread = _moments(reference, weight)
        matched = (pixels - mean) * (spread / std.clamp_min(1e-6)) + goal
        return torch.where(weight > 0, matched, pixels)


def _moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = weight.sum((-2, -1), keepdim=True).clamp_min(1)
    mean = (x * weight).sum((-2, -1), keepdim=True) / total
    variance = ((x - mean) ** 2 * weight).sum((-2, -1), keepdim=True) / total
    return mean, variance.sqrt()
