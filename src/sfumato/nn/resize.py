"""Linear low-pass filters: resize down by a factor and back, as matrices (ILVR, arXiv 2108.02938).

Pixel centres are at integers and a half; output j of n_in -> n_out sits at (j + 1/2) r - 1/2 with
r = n_in / n_out. Kernels widen by r when shrinking, are normalised, and meet the border by
symmetric extension (edge pixel repeated). Rows and columns are separate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError

EPS = float(torch.finfo(torch.float32).eps)


def _cubic(u: float) -> float:
    """Keys' cubic with a = -1/2."""
    u = abs(u)
    if u <= 1:
        return 1.5 * u**3 - 2.5 * u**2 + 1
    return -0.5 * u**3 + 2.5 * u**2 - 4 * u + 2 if u <= 2 else 0.0


def _linear(u: float) -> float:
    return max(0.0, 1 - abs(u))


def _lanczos(a: int) -> Callable[[float], float]:
    def kernel(u: float) -> float:
        if abs(u) >= a:
            return 0.0
        top = math.sin(math.pi * u) * math.sin(math.pi * u / a) + EPS
        return top / (math.pi**2 * u**2 / a + EPS)

    return kernel


KERNELS: dict[str, tuple[Callable[[float], float], float]] = {
    "cubic": (_cubic, 2),
    "linear": (_linear, 1),
    "lanczos2": (_lanczos(2), 2),
    "lanczos3": (_lanczos(3), 3),
}
"""Kernel and support; "box" is made from overlaps instead."""


@lru_cache(maxsize=256)
def matrix(n: int, out: int, kernel: str = "cubic") -> Tensor:
    """(out, n) float64: one axis resized from n to out pixels."""
    if kernel == "box":
        return _boxes(n, out)
    if kernel not in KERNELS:
        raise SfumatoError(f"kernel {kernel!r}: must be one of {', '.join([*KERNELS, 'box'])}")
    weigh, support = KERNELS[kernel]
    ratio = n / out
    width = max(ratio, 1.0)
    rows = torch.zeros(out, n, dtype=torch.float64)
    for j in range(out):
        centre = (j + 0.5) * ratio - 0.5
        places = range(
            math.ceil(centre - support * width), math.floor(centre + support * width) + 1
        )
        weights = [weigh((i - centre) / width) for i in places]
        total = sum(weights)
        for i, weight in zip(places, weights, strict=True):
            k = i % (2 * n)
            rows[j, k if k < n else 2 * n - 1 - k] += weight / total
    return rows


def _boxes(n: int, out: int) -> Tensor:
    """Means of equal parts when shrinking, repeated pixels when enlarging."""
    ratio = n / out
    rows = torch.zeros(out, n, dtype=torch.float64)
    for j in range(out):
        low, high = j * ratio, (j + 1) * ratio
        for i in range(n):
            rows[j, i] = max(0.0, min(high, i + 1) - max(low, i))
    return rows / rows.sum(1, keepdim=True)


@dataclass(frozen=True)
class LowPass:
    """phi: down by `factor` (any number from 1 up) and back to the same size.

    A factor of a side or more leaves its mean; 1 is the identity. phi keeps constants. With the
    cubic and sides that the factor divides it is symmetric, but no projection.
    """

    factor: float
    kernel: str = "cubic"

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise SfumatoError(f"factor {self.factor}: must be 1 or more")
        if self.kernel not in (*KERNELS, "box"):
            known = ", ".join([*KERNELS, "box"])
            raise SfumatoError(f"kernel {self.kernel!r}: must be one of {known}")

    def size(self, n: int) -> int:
        """Pixels that n are brought down to."""
        return max(1, round(n / self.factor))

    def down(self, x: Tensor) -> Tensor:
        """(..., H, W) -> the small picture."""
        height, width = x.shape[-2:]
        rows = matrix(height, self.size(height), self.kernel).to(x)
        columns = matrix(width, self.size(width), self.kernel).to(x)
        return rows @ x @ columns.T

    def up(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(..., h, w) -> (..., H, W) = size."""
        rows = matrix(x.shape[-2], size[0], self.kernel).to(x)
        columns = matrix(x.shape[-1], size[1], self.kernel).to(x)
        return rows @ x @ columns.T

    def __call__(self, x: Tensor) -> Tensor:
        """phi(x), (..., H, W) -> (..., H, W)."""
        if self.factor == 1:
            return x
        return self.up(self.down(x), (x.shape[-2], x.shape[-1]))

    def adjoint(self, x: Tensor) -> Tensor:
        """phi transposed: <phi(a), b> = <a, adjoint(b)>."""
        if self.factor == 1:
            return x
        rows, columns = (self._whole(n).to(x) for n in x.shape[-2:])
        return rows.T @ x @ columns

    def _whole(self, n: int) -> Tensor:
        """phi of one axis, (n, n)."""
        return matrix(self.size(n), n, self.kernel) @ matrix(n, self.size(n), self.kernel)
