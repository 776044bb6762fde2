"""Timesteps of training: samplers of the noise levels of a batch.

Python floats, one for each picture; the schedule is the one that sampling uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Annotated, Protocol

from pydantic import Field

from sfumato.core.schedule import Schedule
from sfumato.train.values import part


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
    """t = u^power on the table, one u in each n-th part of [0, 1]; the batch's loss varies less.

    power: 1 is uniform; below 1 more of the noisy levels, where captions decide the layout: the
    density of t is t^(1/power - 1) / power, and is not weighted back.
    """

    power: Annotated[float, Field(gt=0, le=20)] = 1.0

    def __call__(self, n: int, schedule: Schedule, rng: Random) -> list[tuple[float, float]]:
        steps = schedule.steps
        drawn = [((k + rng.random()) / n) ** self.power for k in range(n)]
        times = [(math.floor(u * steps) + 1) / steps for u in drawn]
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
