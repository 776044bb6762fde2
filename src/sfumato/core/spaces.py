"""Spaces: how pixels in [-1, 1] become the state that diffuses, and back.

An autoencoder is a Space too, with its model family; here are the ones that are arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.context import Run


class Space(Protocol):
    """encode: pixels (B, 3, H, W) -> state (B, channels, H/stride, W/stride); decode: back.

    Both let gradients through. A stride above 1 means latents: their cells are not pixels, their
    values have no bounds, and what is kept of a picture must be pasted back in pixels.
    """

    @property
    def stride(self) -> int: ...

    @property
    def channels(self) -> int: ...

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, state: Tensor) -> Tensor: ...


@runtime_checkable
class SpaceBinder(Protocol):
    """A Space of one run's own, such as a whitening by its condition; bound after the times."""

    def bind_space(self, run: Run) -> Space: ...


@dataclass(frozen=True)
class Affine:
    """state = (pixels - shift) / scale, elementwise; the whitening of PriorGrad (2106.06406)."""

    stride: ClassVar[int] = 1
    channels: ClassVar[int] = 3
    shift: float | Tensor = 0.0
    scale: float | Tensor = 1.0

    def encode(self, pixels: Tensor) -> Tensor:
        return (pixels - self.shift) / self.scale

    def decode(self, state: Tensor) -> Tensor:
        return state * self.scale + self.shift


@dataclass(frozen=True)
class Outline:
    """A space's shapes without its autoencoder: zeros, for a plan."""

    of: Space

    @property
    def stride(self) -> int:
        return self.of.stride

    @property
    def channels(self) -> int:
        return self.of.channels

    def encode(self, pixels: Tensor) -> Tensor:
        height, width = (side // self.stride for side in pixels.shape[-2:])
        return pixels.new_zeros(()).expand(len(pixels), self.channels, height, width)

    def decode(self, state: Tensor) -> Tensor:
        height, width = (side * self.stride for side in state.shape[-2:])
        return state.new_zeros(()).expand(len(state), 3, height, width)


IDENTITY = Affine()
UNIT = Affine(-1.0, 2.0)  # pixels in [0, 1], as the VE models count them
