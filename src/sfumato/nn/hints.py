"""Hints made of pictures: lines where colours change, and the shape of what stands on a ground."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST = 0.06
"""Of an edge: change from one pixel to the next, of colours from 0 to 1, after smoothing."""
APART = 0.1
"""Of a thing: difference from its ground in some channel, of colours from 0 to 1."""


def edges(pixels: Tensor) -> Tensor:
    """Ridges of the gradient: (B, 3, H, W) in [-1, 1] -> (B, 1, H, W) of 0 and 1.

    Smoothed by (1 2 1)/4 both ways, Sobel's gradient of the channel that changes most, thinned to
    where it is largest along its own direction (Canny's first steps; nothing is followed further,
    so that a line depends on what is near it alone).
    """
    row = pixels.new_tensor([1.0, 2.0, 1.0]) / 4
    slope = pixels.new_tensor([-1.0, 0.0, 1.0]) / 2
    smooth = _along(_along((pixels + 1) / 2, row, row), row, row)
    across, down = _along(smooth, slope, row), _along(smooth, row, slope)
    most = (across.square() + down.square()).argmax(1, keepdim=True)
    across, down = across.gather(1, most), down.gather(1, most)
    size = torch.hypot(across, down)
    return ((size >= LEAST) & _ridge(size, across, down)).to(pixels.dtype)


def mask(pixels: Tensor) -> Tensor:
    """What differs from the ground, the middle colour of the picture's border: (B, 3, H, W) in
    [-1, 1] -> (B, 1, H, W) of 0 and 1."""
    border = torch.cat(
        [pixels[..., 0, :], pixels[..., -1, :], pixels[..., :, 0], pixels[..., :, -1]], dim=2
    )
    ground = border.median(dim=2).values[..., None, None]
    return ((pixels - ground).abs().amax(1, keepdim=True) > 2 * APART).to(pixels.dtype)


HINTS = {"edges": edges, "mask": mask}


def _along(x: Tensor, horizontal: Tensor, vertical: Tensor) -> Tensor:
    """Every channel filtered by rows and columns of three, its border repeated."""
    kernel = vertical[:, None] * horizontal[None, :]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernel.expand(x.shape[1], 1, 3, 3), groups=x.shape[1])


def _ridge(size: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Where a gradient is no smaller than its two neighbours in its own direction."""
    padded = F.pad(size, (1, 1, 1, 1))
    height, width = size.shape[-2:]

    def at(y: int, x: int) -> Tensor:
        return padded[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width]

    flat, steep = down.abs() <= 0.4142 * across.abs(), across.abs() <= 0.4142 * down.abs()
    falling = across * down > 0
    largest = torch.where(falling, (size > at(-1, -1)) & (size >= at(1, 1)),
                        (size > at(-1, 1)) & (size >= at(1, -1)))  # fmt: skip
    largest = torch.where(steep, (size > at(-1, 0)) & (size >= at(1, 0)), largest)
    return torch.where(flat, (size > at(0, -1)) & (size >= at(0, 1)), largest)
