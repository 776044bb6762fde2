"""Noisy pictures for networks that say what one shows: a classifier, a noised CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sfumato.core.schedule import named
from sfumato.train.batches import Batches, TestSet
from sfumato.train.config import Config
from sfumato.train.data.compose import Plan
from sfumato.train.objective import column

LEVELS = (0.001, 0.375, 0.75)
"""Times at which such a network is judged."""


@dataclass(frozen=True)
class Noisy:
    """Noisy pictures x (B, 3, S, S) and the time of each."""

    x: Tensor
    times: list[float]


class NoisyPictures:
    """Pictures of a recipe's batches and tests, noised by its schedule."""

    def __init__(self, config: Config, batches: Batches) -> None:
        self.config, self.batches = config, batches
        self.schedule = named(config.model.schedule, config.model.table)

    def of_step(self, plans: Sequence[Plan], step: int, share: slice) -> Noisy:
        """The planned pictures of a step's share, at times that the recipe's objective draws."""
        n = self.config.optim.batch
        rng = self.batches.rng("times", step)
        times = [t for t, _ in self.config.objective.times(n, self.schedule, rng)][share]
        x0 = self.batches.pixels(plans)
        noise = self.batches.randn((n, *x0.shape[1:]), "noise", step)[share]
        return self._noised(x0, noise, times)

    def of_test(self, test: TestSet, t: float) -> Noisy:
        """A test's pictures at one time, with the same noise at every measure."""
        noise = self.batches.randn(tuple(test.pixels.shape), "judge", 0)
        return self._noised(test.pixels, noise, [t] * len(noise))

    def _noised(self, x0: Tensor, noise: Tensor, times: list[float]) -> Noisy:
        alpha = column([self.schedule.alpha(t) for t in times], x0)
        sigma = column([self.schedule.sigma(t) for t in times], x0)
        return Noisy(alpha * x0 + sigma * noise, times)
