"""SINE's tuning (arXiv 2212.04489): a model learns one picture, by patches, to guide the original.

Each row is a patch of the picture, of random place and size; the network is told where it lies
(nn.positions), so that it learns the whole without learning that every picture is this one. There
is no class to preserve: where the tuned model forgets, the original speaks (methods.sine).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.models.adapters import GRID
from sfumato.nn import positions
from sfumato.train.config import Config
from sfumato.train.objective import Objective
from sfumato.train.reads import Reads
from sfumato.train.subject.examples import Rows
from sfumato.train.subject.shots import fit
from sfumato.train.tuners.dreambooth import Batch, DreamBooth
from sfumato.train.values import part

READS = Reads(times=True, denoiser=True, adapter=True, subject=True, classes=True)
PATCHES = Needs("patches")


@part
class Options:
    """patches: learn from patches, else from the whole picture. least: side of the smallest one, as
    a part of the picture's; whole: share of rows that are the whole. grid: how strongly the network
    is told where a patch lies."""

    patches: bool = True
    least: Annotated[float, Field(gt=0, le=1), PATCHES] = 0.5
    whole: Annotated[float, Field(ge=0, le=1), PATCHES] = 0.2
    grid: Annotated[float, Field(ge=0, le=100), PATCHES] = 1.0


@dataclass(frozen=True)
class Patches(Rows):
    """boxes: (B, 4) left, top, right, bottom of each row in the picture, in [0, 1]."""

    boxes: Tensor


class SINE(DreamBooth):
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.options = config.part_of(Options)
        if config.subject.prior:
            raise SfumatoError("sine: subject.prior: it learns one picture, not a class; set it 0")
        if self.options.patches and not config.adapter.rank:
            raise SfumatoError(
                "sine: adapter.rank is 0; an adapter's file says that a network learned from "
                "patches, so give a rank, or set sine.patches to false"
            )
        super().__init__(config, data, folder, device)
        if len(self.shots) != 1:
            raise SfumatoError(f"sine: {len(self.shots)} pictures there; it learns from one")
        self.positions: positions.Positions | None = None
        if self.options.patches:
            self.positions = positions.attach(self.trainable.net, self.options.grid)
            width, height = self.photos[0].shape[-1], self.photos[0].shape[-2]
            factor = max(1, round(1 / self.options.least))
            large = [(factor * width, factor * height)]
            self.photo = fit(self.shots[0], large)[None].to(device)

    def batch(self, step: int, share: slice) -> Batch:
        batch = super().batch(step, share)
        if self.positions is None:
            return batch
        rng = self.examples.rng("patches", step)
        boxes = []
        for _ in range(self.config.optim.batch):
            side = 1.0
            if rng.random() >= self.options.whole:
                side = rng.uniform(self.options.least, 1)
            left, top = rng.uniform(0, 1 - side), rng.uniform(0, 1 - side)
            boxes.append([left, top, left + side, top + side])
        drawn = torch.tensor(boxes)[share]
        rows = batch.subject
        x0 = torch.cat([self.patch(box, rows.x0.shape[-2:]) for box in drawn.tolist()])
        return replace(batch, subject=Patches(x0, rows.noise, rows.texts, rows.times, drawn))

    def patch(self, box: list[float], size: torch.Size) -> Tensor:
        """The state (1, C, h, w) of a part of the picture, at the work size."""
        space, (height, width) = self.trainable.model.space, self.photo.shape[-2:]
        left, right = (round(box[k] * width) for k in (0, 2))
        top, bottom = (round(box[k] * height) for k in (1, 3))
        sides = [side * space.stride for side in size]
        pixels = self.photo[..., top:bottom, left:right]
        pixels = F.interpolate(pixels, sides, mode="bilinear", antialias=True)
        with torch.no_grad():
            return space.encode(pixels)

    def _weighted(self, rows: Rows, objective: Objective) -> tuple[Tensor, float]:
        if self.positions is None or not isinstance(rows, Patches):
            return super()._weighted(rows, objective)
        self.positions.boxes = rows.boxes
        try:
            return super()._weighted(rows, objective)
        finally:
            self.positions.boxes = None

    def note(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        grid = {GRID: self.options.grid} if self.options.patches else {}
        return {**super().note(facts), **grid}


def tuner(config: Config, data: Path, folder: Path, device: str) -> SINE:
    """What `tuner = "sine"` in a recipe makes."""
    return SINE(config, data, folder, device)
