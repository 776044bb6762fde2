"""Square cutouts of pictures, for networks that look at one size only: a CLIP's Eye.

A box is (side, left, top). Where it lies comes from given uniform numbers, so that the caller says
whether cutouts are the same at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.core.context import Call
from sfumato.core.lazy import torch
from sfumato.core.source import Clip

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
    pictures = []
    for row in uniform.tolist():
        own = []
        for u, across, down in row:
            side = int(u**power * (short - low) + low)
            own.append((side, int(across * (width - side + 1)), int(down * (height - side + 1))))
        pictures.append(tuple(own))
    return pictures


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


@dataclass(frozen=True)
class Eye:
    """A CLIP and its cutouts: n for each picture, the same at every step unless `fresh`.

    Square pictures that are no larger than the CLIP reads are seen whole, once; with n = 0 all are.
    """

    clip: Clip
    n: int = 0
    power: float = 1.0
    fresh: bool = False

    def __call__(self, pixels: Tensor, call: Call) -> Tensor:
        """Pixels (B, 3, H, W) -> unit vectors (cutouts, B, E); a noised CLIP at its cleanest."""
        size = self.clip.size
        height, width = pixels.shape[-2:]
        if self.n == 0 or (height == width and height <= size):
            cuts = shrunk(pixels, size)[None]
        else:
            cuts = cutouts(pixels, self.boxes(pixels, call), size)
        call.count("clip", len(cuts))
        flat = cuts.flatten(0, 1)
        index = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
        vectors: Tensor = self.clip.image(flat, index).unflatten(0, cuts.shape[:2])  # type: ignore[no-untyped-call]
        return vectors

    def boxes(self, pixels: Tensor, call: Call) -> list[tuple[Box, ...]]:
        like = torch.empty(len(pixels), self.n, 3)
        if self.fresh:
            drawn = call.noise("cutouts", like)
        else:
            drawn = call.random.draw("cutouts", 0, 0, like)
        uniform = torch.special.ndtr(drawn).clamp_max(1 - 1e-6)
        height, width = pixels.shape[-2:]
        return boxes(uniform, width, height, self.clip.size, self.power)
