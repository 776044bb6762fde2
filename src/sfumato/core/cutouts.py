"""Square cutouts of pictures, for networks that look at one size only (CLIP).

A box is (side, left, top). Where it lies comes from given uniform numbers, so that the caller says
whether cutouts are the same at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sfumato.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[int, int, int]


def boxes(
    uniform: Tensor, width: int, height: int, least: int, power: float
) -> list[tuple[Box, ...]]:
    """(B, n, 3) in [0, 1) -> n boxes for each picture.

    side = U^power (S - m) + m with S the shorter side and m = min(S, least), rounded down.
    """
    short = min(width, height)
    low = min(short, least)
    made = []
    for row in uniform.tolist():
        found = []
        for u, across, down in row:
            side = int(u**power * (short - low) + low)
            place = int(across * (width - side + 1)), int(down * (height - side + 1))
            found.append((side, *place))
        made.append(tuple(found))
    return made


def shrunk(pixels: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, C, size, size), antialiased."""
    if pixels.shape[-2:] == (size, size):
        return pixels
    resize = torch.nn.functional.interpolate
    return resize(pixels, (size, size), mode="bilinear", antialias=True)


def cutouts(
    pixels: Tensor,
    where: Sequence[Sequence[Box]],
    size: int,
    resize: Callable[[Tensor, int], Tensor] = shrunk,
) -> Tensor:
    """(B, 3, H, W) and each picture's n boxes -> (n, B, 3, size, size)."""
    rows = []
    for picture, own in zip(pixels, where, strict=True):
        cut = [picture[:, y : y + side, x : x + side] for side, x, y in own]
        rows.append(torch.cat([resize(part[None], size) for part in cut]))
    return torch.stack(rows, dim=1)
