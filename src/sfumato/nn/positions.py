"""Where a pixel lies in a whole picture, told to a network behind its first convolution.

The grid of SINE (arXiv 2212.04489): sinusoids of the place, 128 x 128, of which a patch has its own
part, resized to the map. A network that learned from patches of one picture then draws the whole.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GRID = 128


@cache
def waves(channels: int) -> Tensor:
    """(1, channels, GRID, GRID): sines and cosines of the column, then of the row."""
    quarter = max(channels // 4, 1)
    rates = 10000.0 ** -(torch.arange(quarter) / quarter)
    angles = rates[:, None] * torch.arange(GRID)
    line = torch.cat([angles.sin(), angles.cos()])
    columns = line[:, None].expand(-1, GRID, -1)
    whole = torch.cat([columns, columns.mT])
    return F.pad(whole, (0, 0, 0, 0, 0, max(channels - len(whole), 0)))[None, :channels]


class Positions:
    """Added to what a network's stem gives. boxes: (B, 4) left, top, right, bottom in [0, 1] of
    each row's patch, None where every row is the whole picture."""

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.boxes: Tensor | None = None

    def __call__(self, stem: Any, inputs: Any, out: Tensor) -> Tensor:
        """A forward hook: out (B, C, h, w)."""
        part = self.part(out.shape, out.device)
        return out + (self.strength * part).to(out.dtype)

    def part(self, shape: torch.Size, device: torch.device) -> Tensor:
        """(B or 1, C, h, w): the boxes' parts of the grid."""
        grid = waves(shape[1]).to(device)
        if self.boxes is None:
            return F.interpolate(grid, shape[2:], mode="bilinear")
        left, top, right, bottom = self.boxes.to(device).unbind(1)
        zero = torch.zeros_like(left)
        across = torch.stack([right - left, zero, left + right - 1], dim=1)
        down = torch.stack([zero, bottom - top, top + bottom - 1], dim=1)
        size = [len(self.boxes), *shape[1:]]
        places = F.affine_grid(torch.stack([across, down], dim=1), size, align_corners=False)
        rows = grid.expand(len(self.boxes), -1, -1, -1)
        return F.grid_sample(rows, places, padding_mode="border", align_corners=False)


def stem_of(net: nn.Module) -> nn.Module:
    """The first convolution of a network of ours, or of diffusers."""
    blocks: Any = getattr(net, "input_blocks", None)
    stem: nn.Module = net.conv_in if blocks is None else blocks[0][0]  # type: ignore[assignment]
    return stem


def attach(net: nn.Module, strength: float) -> Positions:
    """Tell the network where its pixels lie."""
    positions = Positions(strength)
    stem_of(net).register_forward_hook(positions)
    return positions


def strength_of(net: nn.Module) -> float:
    """How strongly the network is told, 0: not at all."""
    hooks = stem_of(net)._forward_hooks.values()
    return next((hook.strength for hook in hooks if isinstance(hook, Positions)), 0.0)
