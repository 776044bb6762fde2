"""The first upsampler's share of a subject: it learns the subject's large pictures too.

What it is shown are the large pictures made small, as the base makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.denoiser import Cond
from sfumato.core.noise import keyed
from sfumato.models.cascade import quantise
from sfumato.train import checkpoint, super_resolution
from sfumato.train.config import Config
from sfumato.train.grids import tiled
from sfumato.train.objective import Loss
from sfumato.train.subject.examples import Examples, Rows
from sfumato.train.subject.trials import SHOWN, mean_error
from sfumato.train.trainable import Trainable


@dataclass(frozen=True, eq=False)
class SubjectUpsampler:
    """examples: the subject's pictures at the size of the upsampler's results; text: its name."""

    trainable: Trainable
    config: Config
    examples: Examples
    text: str

    @property
    def denoiser(self) -> Any:
        return self.trainable.model.upsamplers[0]

    @property
    def factor(self) -> int:
        """How much larger the upsampler's pictures are than the base's."""
        return self.trainable.model.card.factor(2)

    def rows(self, step: int, share: slice) -> Rows:
        """Random squares of the large pictures and of their noise."""
        n, seed = self.config.optim.batch, self.config.run.seed
        times = self.config.objective.times
        rows = self.examples.rows(step, n, share, times, self.denoiser.schedule)
        side = min(self.config.subject.crop, *rows.x0.shape[-2:])
        rng = Random(keyed(f"{seed}/crop/{step}"))
        places = super_resolution.corners(rows.x0.shape, side, self.factor, n, rng)[share]
        x0, noise = (
            super_resolution.cut(pictures, side, places) for pictures in (rows.x0, rows.noise)
        )
        return replace(rows, x0=x0, noise=noise)

    def loss(self, rows: Rows) -> Loss:
        """The loss on large pictures and what small ones keep of them.

        Small ones are rounded to 8 bits, as between the stages of a run.
        """
        small = self.small(rows.x0)
        low = small + self.config.subject.low_noise * torch.randn(small.shape).to(small)
        times, importance = zip(*rows.times, strict=True)
        cond = self.condition(low, rows.texts)
        return self.config.objective.at(self.denoiser, rows.x0, cond, rows.noise, times, importance)

    def small(self, large: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) as the base's results."""
        return quantise(F.avg_pool2d(large, self.factor))

    def condition(self, small: Tensor, texts: Sequence[str]) -> Cond:
        """What the upsampler reads: the small pictures, and of GLIDE's the words too."""
        reads_text = self.denoiser.network.config.xf_width
        words = self.trainable.condition(texts) if reads_text else {}
        return Cond({**words, "low_res": small})

    def error(self, t: float) -> float:
        """On fixed noise of the subject's large pictures, whole."""

        def condition(x0: Tensor) -> Cond:
            return self.condition(self.small(x0[None]), [self.text])

        objective = self.config.objective
        return mean_error(objective, self.denoiser, self.examples.states, condition, t)

    def show(self, file: Path) -> None:
        """The subject's own pictures, from small ones, above the true ones."""
        size, rows = self.examples.states[0].shape[-2:], []
        for x0 in self.examples.states[: 2 * SHOWN]:
            process: Any = replace(self.trainable.model.upsampler(0), source=None, prompt="")
            cond = self.condition(self.small(x0[None]), [self.text])
            shape = tuple(x0.shape)
            large = replace(process, cond=cond, shape=shape).sample(seed=0)
            rows.append(F.interpolate(torch.cat([large, x0[None]]), size))
        columns = list(torch.stack(rows, dim=1))
        checkpoint.put_picture(file, tiled(columns, least=int(size[-1]), labels=["made", "yours"]))
