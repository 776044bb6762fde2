"""Distances between two sets of feature vectors, and bootstrap intervals of any statistic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval and the number of pictures behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(
    statistic: Callable[[Tensor], float], n: int, *, rounds: int = 200, seed: int = 0
) -> Estimate:
    """Percentile interval of statistic(indices), over resamples of n things with replacement.

    Resamples of which it says nothing (nan: of a few pictures, one drawn every time) are left out.
    """
    if n < 2:
        raise SfumatoError(f"interval: {n} values are too few; give at least 2")
    generator = torch.Generator().manual_seed(keyed(f"bootstrap/{seed}"))
    drawn = (statistic(torch.randint(n, (n,), generator=generator)) for _ in range(rounds))
    value = statistic(torch.arange(n))
    values = sorted(v for v in drawn if not math.isnan(v)) or [value]
    low, high = values[int(0.025 * len(values))], values[max(int(0.975 * len(values)) - 1, 0)]
    return Estimate(value, low, high, n)


def mean(values: Tensor, **options: int) -> Estimate:
    """Mean of one number for each picture, (N,)."""
    numbers = values.double()
    return bootstrap(lambda rows: float(numbers[rows].mean()), len(numbers), **options)


def interval(numbers: Sequence[float]) -> Estimate:
    """Mean with its interval; of a single number, itself."""
    if len(numbers) == 1:
        return Estimate(numbers[0], numbers[0], numbers[0], 1)
    return mean(torch.tensor(numbers))


def kernel_distance(generated: Tensor, real: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy, kernel (x.y/d + 1)^3 (KID, arXiv 1801.01401).

    generated (N, d), real (M, d). Can be slightly below 0 when the sets agree.
    """
    kernels = Kernels(generated, real)
    return kernels.distance(torch.arange(len(generated)), torch.arange(len(real)))


def kernel_each(generated: Tensor, real: Tensor) -> Tensor:
    """Squared kernel distance of every single picture to the real ones, (N,).

    |phi(x) - mean phi(real)|^2: how untypical it is. Unlike the distance of sets it says nothing
    about their variety, so it is what a few pictures of one prompt can be asked.
    """
    kernels = Kernels(generated, real)
    own = (generated.double().square().sum(1) / generated.shape[1] + 1) ** 3
    within = _between_different(kernels.real, torch.arange(len(real)))
    return own - 2 * kernels.cross.mean(1) + within


class Kernels:
    """Kernel values of two sets, so that resampling costs no new products."""

    def __init__(self, generated: Tensor, real: Tensor) -> None:
        if len(real) < 2 or not len(generated):
            raise SfumatoError("kernel distance: needs at least 2 real pictures and 1 made one")
        a, b = generated.double(), real.double()
        self.generated, self.real, self.cross = _kernel(a, a), _kernel(b, b), _kernel(a, b)

    def distance(self, rows: Tensor, columns: Tensor) -> float:
        """Of the chosen generated and real pictures, at least 2 on both sides.

        A picture drawn twice by a resample is not compared with itself: that pair says nothing
        about the distribution and would push the distance up.
        """
        within = _between_different(self.generated, rows) + _between_different(self.real, columns)
        return within - 2 * float(self.cross[rows][:, columns].mean())

    def paired(self, rows: Tensor) -> float:
        """Of sets that answer the same questions: no question is compared with itself.

        The sets then are not independent, and a generated picture next to the real one of its own
        question would count for closeness that no two generated ones can have. rows: of the real
        ones; the generated may be several batches over the same questions, in their order.
        """
        n, batches = len(self.real), len(self.generated) // len(self.real)
        asked = rows.repeat(batches)
        generated = torch.cat([rows + n * k for k in range(batches)])
        within = _different(self.generated[generated][:, generated], asked, asked)
        within += _different(self.real[rows][:, rows], rows, rows)
        return within - 2 * _different(self.cross[generated][:, rows], asked, rows)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _between_different(kernel: Tensor, rows: Tensor) -> float:
    return _different(kernel[rows][:, rows], rows, rows)


def _different(values: Tensor, first: Tensor, second: Tensor) -> float:
    """Mean of the values whose row and column differ in what they stand for."""
    return float(values[first[:, None] != second[None, :]].mean())


def kernel_estimate(
    generated: Tensor, real: Tensor, *, paired: bool = False, rounds: int = 200
) -> Estimate:
    """The kernel distance with an interval: both sets are resampled, paired ones together.

    paired: generated (k N, d) are k batches of answers to the questions of real (N, d).
    """
    kernels = Kernels(generated, real)
    if paired:
        if len(generated) % len(real):
            raise SfumatoError(
                f"kernel distance: {len(generated)} made, {len(real)} real; not paired"
            )
        return bootstrap(kernels.paired, len(real), rounds=rounds)
    generator = torch.Generator().manual_seed(keyed("bootstrap/real"))

    def statistic(rows: Tensor) -> float:
        if torch.equal(rows, torch.arange(len(generated))):
            return kernels.distance(rows, torch.arange(len(real)))
        return kernels.distance(rows, torch.randint(len(real), (len(real),), generator=generator))

    return bootstrap(statistic, len(generated), rounds=rounds)


FRECHET_SIZE = 64
FRECHET_LEAST = 1000


def frechet_distance(generated: Tensor, real: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (FID, arXiv 1706.08500).

    Refused above 64 dimensions or below 1,000 pictures on either side, where its bias is larger
    than the differences that one wants to see; the kernel distance has none.
    """
    if generated.shape[1] > FRECHET_SIZE:
        raise SfumatoError(
            f"Frechet distance: {generated.shape[1]} dimensions; at most {FRECHET_SIZE}, "
            "take the kernel distance"
        )
    if (least := min(len(generated), len(real))) < FRECHET_LEAST:
        raise SfumatoError(
            f"Frechet distance: {least} pictures; at least {FRECHET_LEAST} on both sides, "
            "take the kernel distance"
        )
    a, b = generated.double(), real.double()
    first, second = torch.cov(a.T), torch.cov(b.T)
    # the eigenvalues of C1 C2 are those of C1^(1/2) C2 C1^(1/2), which is symmetric
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return float(shift + first.trace() + second.trace() - 2 * cross)
