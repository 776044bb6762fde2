"""Spaces: how pixels in [-1, 1] become the state that diffuses, and back.

An autoencoder is a Space too, with its model family; here are the ones that are arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Space(Protocol):
    """encode: pixels (B, 3, H, W) -> state; decode: state -> pixels."""

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, state: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Affine:
    """state = (pixels - shift) / scale, elementwise; the whitening of PriorGrad (2106.06406)."""

    shift: float | Tensor = 0.0
    scale: float | Tensor = 1.0

    def encode(self, pixels: Tensor) -> Tensor:
        return (pixels - self.shift) / self.scale

    def decode(self, state: Tensor) -> Tensor:
        return state * self.scale + self.shift


IDENTITY = Affine()
UNIT = Affine(-1.0, 2.0)  # pixels in [0, 1], as the VE models count them
