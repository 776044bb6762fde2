"""Ladder: a noise schedule by its levels sigma/alpha from a least to a largest, of EDM's models."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Ladder:
    """Variance preserving, sigma/alpha even in its power from low, at t = 1/T, to high, at t = 1.

    power 1/7 gives Karras's levels (arXiv 2206.00364, eq. 5), 0 levels even in their logarithm.
    Below 1/T the ratio falls linearly to 0.
    """

    low: float
    high: float
    power: float = 1 / 7
    steps: int = 1000

    def _ratio(self, t: float) -> float:
        first = 1 / self.steps
        if t <= first:
            return self.low * t * self.steps
        place = (t - first) / (1 - first)
        if self.power == 0:
            return float(self.low * (self.high / self.low) ** place)
        start, end = self.low**self.power, self.high**self.power
        return float((start + (end - start) * place) ** (1 / self.power))

    def alpha(self, t: float) -> float:
        return 1 / math.hypot(1, self._ratio(t))

    def sigma(self, t: float) -> float:
        r = self._ratio(t)
        return r / math.hypot(1, r)

    def at(self, ratio: float) -> float:
        first = 1 / self.steps
        if ratio <= self.low:
            return max(ratio, 0.0) / self.low * first
        if self.power == 0:
            place = math.log(ratio / self.low) / math.log(self.high / self.low)
        else:
            start, end = self.low**self.power, self.high**self.power
            place = (ratio**self.power - start) / (end - start)
        return min(1.0, first + (1 - first) * place)

    def prior(self, t: float) -> float:
        return 1.0
