"""Noise levels of training: time samplers, and weightings relative to eps-MSE.

Python floats, one for each picture; the schedule is the one that sampling uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal, Protocol

from pydantic import Field

from sfumato.core.denoiser import Kind
from sfumato.core.schedule import Schedule, ratio
from sfumato.train.values import NotNegative, Positive, part


class TimeSampler(Protocol):
    """Times of one batch and an importance weight for each; called once a batch."""

    def __call__(self, n: int, schedule: Schedule, rng: Random) -> list[tuple[float, float]]: ...


@part
class Uniform:
    """t uniform over the table's steps (arXiv 2006.11239)."""

    def __call__(self, n: int, schedule: Schedule, rng: Random) -> list[tuple[float, float]]:
        steps = schedule.steps
        return [((rng.randrange(steps) + 1) / steps, 1.0) for _ in range(n)]


@part
class Stratified:
    """One t in each n-th part of [0, 1], on the table; the batch's loss varies less."""

    def __call__(self, n: int, schedule: Schedule, rng: Random) -> list[tuple[float, float]]:
        steps = schedule.steps
        times = [(math.floor((k + rng.random()) / n * steps) + 1) / steps for k in range(n)]
        rng.shuffle(times)
        return [(t, 1.0) for t in times]


@part
class Lowest:
    """The table's first time alone: for networks that see pictures as they are."""

    def __call__(self, n: int, schedule: Schedule, rng: Random) -> list[tuple[float, float]]:
        return [(1 / schedule.steps, 1.0)] * n


@part
class LogNormal:
    """ln(sigma/alpha) normal (EDM, arXiv 2206.00364, table 1)."""

    mean: Annotated[float, Field(ge=-20, le=20)] = -1.2
    std: Annotated[float, Field(ge=0, le=20)] = 1.2

    def __call__(self, n: int, schedule: Schedule, rng: Random) -> list[tuple[float, float]]:
        draws = [math.exp(rng.gauss(self.mean, self.std)) for _ in range(n)]
        return [(schedule.at(r), 1.0) for r in draws]


@part
class SoftTruncation:
    """One smallest time tau ~ tau^-k for the whole batch, then t ~ U[tau, 1] (arXiv 2106.05527).

    epsilon: the smallest tau. k -> infinity is the usual fixed epsilon.
    """

    epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    k: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 1.0

    def __call__(self, n: int, schedule: Schedule, rng: Random) -> list[tuple[float, float]]:
        tau = self.tau(rng.random())
        return [(rng.uniform(tau, 1.0), 1.0) for _ in range(n)]

    def tau(self, u: float) -> float:
        """The inverse of tau's distribution function at u in [0, 1]."""
        if self.k == 1:
            return float(self.epsilon ** (1 - u))
        if math.isinf(self.k):
            return self.epsilon
        power = 1 - self.k
        low = self.epsilon**power
        return float((low - u * (low - 1)) ** (1 / power))


TIMES: dict[str, Callable[..., TimeSampler]] = {
    "uniform": Uniform,
    "stratified": Stratified,
    "lowest": Lowest,
    "lognormal": LogNormal,
    "soft-truncation": SoftTruncation,
}


class Weighting(Protocol):
    """Weight of eps-MSE at a signal-to-noise ratio (alpha/sigma)^2 > 0."""

    def __call__(self, snr: float, target: Target) -> float: ...


@dataclass(frozen=True)
class Target:
    """What the network is asked for. eps_factor(snr): its MSE in units of eps-MSE.

    eps-MSE = f MSE with f = 1 (eps), alpha^2 (v), SNR (x0), SNR c_out^2 (EDM's F); all but the
    last for variance-preserving schedules.
    """

    kind: Kind
    sigma_data: float = 0.5

    def eps_factor(self, snr: float) -> float:
        if self.kind == "eps":
            return 1.0
        if self.kind == "v":
            return snr / (1 + snr)
        if self.kind == "x0":
            return snr
        return snr * self.c_out(1 / snr) ** 2

    def c_out(self, r2: float) -> float:
        """EDM's scale of the network's output at (sigma/alpha)^2."""
        return math.sqrt(r2) * self.sigma_data / math.sqrt(r2 + self.sigma_data**2)


@part
class Constant:
    """1: plain eps-MSE, the simple loss of arXiv 2006.11239."""

    def __call__(self, snr: float, target: Target) -> float:
        return 1.0


@part
class Plain:
    """MSE on the network's own target, whatever it is (for EDM's F that is its lambda)."""

    def __call__(self, snr: float, target: Target) -> float:
        return 1 / target.eps_factor(snr)


@part
class MinSNR:
    """min(SNR, gamma) / SNR (arXiv 2303.09556).

    least: below this SNR the weight of v-MSE stays what it is there, so that the noisiest levels,
    where a caption decides the layout, keep their share (0: off).
    """

    gamma: Positive = 5.0
    least: NotNegative = 0.0

    def __call__(self, snr: float, target: Target) -> float:
        if snr >= self.least:  # the quotient below is 0/0 where a table ends in pure noise
            return 1.0 if snr <= self.gamma else self.gamma / snr
        held = max(snr, self.least)
        of_v = min(held, self.gamma) / (held + 1)
        return of_v * (1 + snr) / snr


@part
class P2:
    """1 / (k + SNR)^gamma (arXiv 2204.00227)."""

    gamma: NotNegative = 1.0
    k: Positive = 1.0

    def __call__(self, snr: float, target: Target) -> float:
        return float((self.k + snr) ** -self.gamma)


WEIGHTINGS: dict[str, Callable[..., Weighting]] = {
    "constant": Constant,
    "plain": Plain,
    "min-snr": MinSNR,
    "p2": P2,
}

Norm = Literal["l1", "l2"]


def snr(schedule: Schedule, t: float) -> float:
    """(alpha / sigma)^2 at t."""
    return ratio(schedule, t) ** -2


def weights(
    weighting: Weighting, target: Target, schedule: Schedule, times: Sequence[float]
) -> list[float]:
    """Weight of each row's MSE on the target."""
    return [weighting(s, target) * target.eps_factor(s) for s in (snr(schedule, t) for t in times)]
