"""A subject's pictures as training rows: which, in which order, with what noise and captions.

Everything is keyed by the step, so that nothing needs to be kept between steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from sfumato.core.noise import keyed
from sfumato.core.schedule import Schedule
from sfumato.train.timesteps import TimeSampler


@dataclass(frozen=True)
class Rows:
    """States and noise (B, C, h, w), their texts, and each row's time and importance."""

    x0: Tensor
    noise: Tensor
    texts: list[str]
    times: list[tuple[float, float]]


@dataclass(frozen=True)
class Examples:
    """states: one (C, h, w) for each picture, of few shapes; texts: their captions, drawn anew for
    every row; drop: share of them left empty. purpose: keeps two sets of a run apart."""

    purpose: str
    states: Sequence[Tensor]
    texts: Sequence[str]
    drop: float
    seed: int

    def rows(self, step: int, n: int, share: slice, times: TimeSampler, schedule: Schedule) -> Rows:
        """n rows of one shape: a bucket by its share of the pictures, then its pictures in turn."""
        rng = self.rng("rows", step)
        shape = self.states[rng.randrange(len(self.states))].shape
        able = [k for k, state in enumerate(self.states) if state.shape == shape]
        x0 = torch.stack([self.states[self.turn(able, step * n + j)] for j in range(n)])
        spoken = [
            "" if rng.random() < self.drop else self.texts[rng.randrange(len(self.texts))]
            for _ in range(n)
        ]
        drawn = times(n, schedule, self.rng("t", step))
        generator = torch.Generator(x0.device)
        generator.manual_seed(keyed(f"{self.seed}/{self.purpose} noise/{step}"))
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        return Rows(x0[share], noise[share], spoken[share], drawn[share])

    def turn(self, able: Sequence[int], position: int) -> int:
        """Every picture once in an epoch, in an order of its own."""
        epoch, place = divmod(position, len(able))
        order = list(able)
        Random(keyed(f"{self.seed}/{self.purpose} order/{epoch}")).shuffle(order)
        return order[place]

    def rng(self, what: str, step: int) -> Random:
        return Random(keyed(f"{self.seed}/{self.purpose} {what}/{step}"))
