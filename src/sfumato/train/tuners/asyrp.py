"""Asyrp (arXiv 2210.10960): learn a shift of a frozen network's bottleneck from two texts.

Pictures are walked up; on the way down, beside their own path, an edited one is walked whose x0
sees the shift. At every level the two predictions are compared: the model's CLIP must see the
change go from the one text to the other, and little else may change,

    clip (-log((2 - L_dir) / 2)) + keep cos(source, target) |P_edited - P|.

States are cut between levels. One optimiser step is one batch's whole walk, so that a run goes on
from any step to the same bits (the paper steps at every level).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.methods.asyrp import ShiftedBottleneck, branches
from sfumato.nn.group_norm import GROUPS
from sfumato.nn.shift import Shift
from sfumato.train import checkpoint, networks
from sfumato.train.config import Config
from sfumato.train.frozen import Frozen, Tapped, bottleneck
from sfumato.train.grids import tiled
from sfumato.train.reads import Reads
from sfumato.train.tuners import Outcome
from sfumato.train.values import NotNegative, part

READS = Reads(packed=True)
FILE = "shift.safetensors"
SHOWN, JUDGED = 8, 16
SOFT = 0.05
"""Length of a change of a CLIP's vector below which its direction counts for less."""


@part
class Options:
    """source, target: texts of before and after. word: pictures are those whose captions say it;
    "" any. steps: of the walk; t_edit: where it ends; width:
    of f, a multiple of 32 from 64 on; clip, keep: weights of the loss."""

    source: Annotated[str, Field(min_length=1, max_length=1000)]
    target: Annotated[str, Field(min_length=1, max_length=1000)]
    word: Annotated[str, Field(max_length=200)] = ""
    steps: Annotated[int, Field(ge=2, le=1000)] = 20
    t_edit: Annotated[float, Field(ge=0, lt=1)] = 0.5
    width: Annotated[int, Field(ge=2 * GROUPS, le=4096, multiple_of=GROUPS)] = 256
    clip: NotNegative = 1.0
    keep: NotNegative = 3.0


@dataclass(frozen=True)
class Walked:
    """States of pictures at every falling time, the first at t = 1, each (B, C, h, w)."""

    path: tuple[Tensor, ...]


class Asyrp:
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.own = config, config.part_of(Options)
        self.base = Frozen(config, data, folder, device)
        model, where = self.base.model, self.base.model.name
        self.clip: Any = model.clip()
        if self.clip is None:
            raise SfumatoError(f"model.start {where}: has no CLIP to tell the two texts apart by")
        vectors = self.clip.text([self.own.source, self.own.target])
        self.way = F.normalize(vectors[1:] - vectors[:1], dim=-1)
        self.alike = float((vectors[0] * vectors[1]).sum())
        self.process = self.base.way(self.own.steps)
        self.times = self.process.spaced(1.0)
        channels = bottleneck(self.process).shape[1]
        shift = networks.initialised(lambda: Shift(channels, self.own.width), config.run.seed)
        self.shift = shift.to(device).train()

    def digests(self) -> dict[str, str]:
        return self.base.digests()

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.shift.named_parameters())

    def batch(self, step: int, share: slice) -> Walked:
        n = self.config.optim.batch
        plans = self.base.spoken(self.own.word, n, f"walked {step}")[share]
        return self.walked(self.base.batches.pixels(plans))

    def walked(self, pixels: Tensor) -> Walked:
        """The path of pictures (B, 3, S, S), by DDIM upwards."""
        return Walked(self.base.inverted(self.process, self.times, pixels).path[::-1])

    def loss(self, batch: Walked, step: int) -> Outcome:
        return Outcome(*self.walk(batch.path))

    def walk(self, path: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
        """The loss along the edited way down, and the means of its parts."""
        own, schedule = self.own, self.base.denoiser.schedule
        cond = self.process.condition(None, False).rows(len(path[0]))
        tap, x = ShiftedBottleneck([self.shift]), path[0]
        turns, changes = [], []
        for k, (t, s) in enumerate(pairwise(self.times)):
            if t < own.t_edit:
                break
            call = replace(self.base.call, t=t, s=s)
            network = Tapped(self.base.denoiser.network, tap, call)
            with torch.no_grad():
                both = self.base.denoiser(torch.cat([x, path[k]]), t, Cond.cat([cond, cond]), s)
                eps, before = both.eps[: len(x)], both.x0[len(x) :]
            after = replace(self.base.denoiser, network=network)(x, t, cond, s).x0
            turns.append(self.turned(after, before))
            changes.append((after - before).abs().mean())
            x = schedule.alpha(s) * after.detach() + schedule.sigma(s) * eps
        turned, changed = torch.stack(turns), torch.stack(changes).mean()
        total = own.clip * -torch.log((2 - turned) / 2).mean() + own.keep * self.alike * changed
        parts = {"direction": float(turned.detach().mean()), "change": float(changed.detach())}
        return total, parts

    def turned(self, after: Tensor, before: Tensor) -> Tensor:
        """1 - cos between the change that the CLIP sees and that of the texts, a mean."""
        u, v = (self.look(x) for x in (after, before))
        change = u - v
        length = change.norm(dim=-1)
        along: Tensor = (change * self.way).sum(-1) / (length + SOFT)
        return (1 - along).mean()

    def look(self, state: Tensor) -> Tensor:
        """Vectors of predicted states."""
        pixels = self.base.model.space.decode(state).clamp(-1, 1)
        sides = (self.clip.size, self.clip.size)
        if pixels.shape[-2:] != sides:
            pixels = F.interpolate(pixels, sides, mode="bilinear", antialias=True)
        vectors: Tensor = self.clip.image(pixels, torch.zeros(len(pixels), device=pixels.device))
        return vectors

    def judge(self) -> dict[str, float]:
        """What is learned from, of training and of held-out pictures."""
        self.shift.eval()
        measures: dict[str, float] = {}
        for who, test in self.base.tests():
            _, parts = self.walk(self.walked(test.pixels[:JUDGED]).path)
            measures |= {f"{who} {name}": value for name, value in parts.items()}
        self.shift.train()
        return measures

    def show(self, file: Path) -> None:
        """Held-out pictures, found again, and edited by three strengths."""
        self.shift.eval()
        pixels = self.base.batches.tests[-1].pixels[:SHOWN]
        top = self.walked(pixels).path[0]
        process = replace(self.process, spacing=self.times, n_steps=None)
        rows, labels = [pixels, self.base.ended(process, top)], ["true", "found again"]
        for strength in (0.5, 1.0, -1.0):
            tap = ShiftedBottleneck([self.shift], strength)
            edited = process.add(positives=branches(self.own.t_edit), taps=(tap,))
            rows.append(self.base.ended(edited, top))
            labels.append(f"{strength:g}")
        self.shift.train()
        checkpoint.put_picture(file, tiled(rows, labels=labels))

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """One file, with the two texts in its header."""
        note = {"source": self.own.source, "target": self.own.target, "training": dict(facts)}
        checkpoint.write(folder / FILE, average, note)
        return folder / FILE


def tuner(config: Config, data: Path, folder: Path, device: str) -> Asyrp:
    """What `tuner = "asyrp"` in a recipe makes."""
    return Asyrp(config, data, folder, device)
