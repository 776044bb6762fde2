"""Weightings of the loss over noise levels, relative to eps-MSE."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sfumato.core.denoiser import Kind
from sfumato.core.schedule import Schedule, ratio
from sfumato.train.values import NotNegative, Positive, part


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
