"""Small and large pictures of the same thing: what an upsampler learns from."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

Corner = tuple[int, int]


def corners(shape: Sequence[int], side: int, factor: int, n: int, rng: Random) -> list[Corner]:
    """n random (top, left) of squares in pictures (..., H, W), on the low-resolution grid."""
    height, width = ((length - side) // factor for length in shape[-2:])
    return [(factor * rng.randint(0, height), factor * rng.randint(0, width)) for _ in range(n)]


def cut(pictures: Tensor, side: int, places: Sequence[Corner]) -> Tensor:
    """A square of each picture (B, C, H, W)."""
    pairs = zip(pictures, places, strict=True)
    return torch.stack([picture[:, y : y + side, x : x + side] for picture, (y, x) in pairs])


def noised(small: Tensor, amounts: Sequence[float], noise: Tensor) -> Tensor:
    """The low-resolution input, each row with noise of its own deviation (arXiv 2205.11487).

    Within [-1, 1], as a base's pictures are: their noise on a white ground is darker on average,
    and an upsampler that never saw that would keep it.
    """
    spread = torch.tensor(amounts, device=small.device)[:, None, None, None]
    return (small + spread * noise).clamp(-1, 1)
