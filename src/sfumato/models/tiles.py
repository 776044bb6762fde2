"""Decoding in overlapping tiles, where an autoencoder's maps of a whole picture would not fit.

Each tile is decoded by itself, so its norms are its own: the picture is near that of a whole
decoding, not equal to it. Overlaps fade from one tile into the next.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.models.devices import capacity

TILE = 64
"""Cells of a tile's side, on which Stable Diffusion's autoencoder was trained."""
OVERLAP = 16
PIXEL_BYTES = 3 << 10
"""Of a decoder's maps in float32 for a pixel: Stable Diffusion's takes 192 KiB for 8 x 8."""


def needed_tile(shape: tuple[int, ...], stride: int, value_bytes: int, device: str) -> int | None:
    """The side of tiles if decoding a state (C, H, W) whole takes more than half of the memory."""
    maps = PIXEL_BYTES * value_bytes / 4 * math.prod(shape[1:]) * stride**2
    return TILE if maps > capacity(device) / 2 and max(shape[1:]) > TILE else None


def in_tiles(state: Tensor, tile: int, stride: int, decode: Callable[[Tensor], Tensor]) -> Tensor:
    """Pixels of a state (1, C, H, W), decoded tile by tile."""
    height, width = state.shape[-2:]
    if height <= tile and width <= tile:
        return decode(state)
    total = state.new_zeros(1, 3, height * stride, width * stride)
    weight = state.new_zeros(1, 1, height * stride, width * stride)
    for top, left in itertools.product(begins(height, tile), begins(width, tile)):
        part = decode(state[..., top : top + tile, left : left + tile]).to(total)
        rows, columns = (fade(side, stride, part) for side in part.shape[-2:])
        share = rows[:, None] * columns[None]
        place = (..., slice(top * stride, top * stride + part.shape[-2]),
                 slice(left * stride, left * stride + part.shape[-1]))  # fmt: skip
        total[place] += part * share
        weight[place] += share
    return total / weight


def begins(side: int, tile: int) -> list[int]:
    """Where tiles begin: evenly, overlapping by OVERLAP cells or a quarter of a small tile."""
    if side <= tile:
        return [0]
    count = math.ceil((side - tile) / (tile - min(OVERLAP, tile // 4))) + 1
    return [round(k * (side - tile) / (count - 1)) for k in range(count)]


def fade(side: int, stride: int, like: Tensor) -> Tensor:
    """Weights of a tile's pixels along one axis: rising over the overlap, 1, falling."""
    steps = torch.arange(1, side + 1, device=like.device, dtype=torch.float32)
    return torch.minimum(steps, steps.flip(0)).clamp_max(OVERLAP * stride)
