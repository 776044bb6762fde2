"""Pairs of prompts, and what is measured of an edited picture: layout, colour, ground, agreement.

Pictures are tensors (N, 3, h, w) in [-1, 1] on a white ground. Nothing measured here has steered a
picture: the layout is what is not white, the colour is the hue of that, the names are the packaged
judge's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from sfumato.images import from_tensor
from sfumato.measure import heldout
from sfumato.train.data.captions import COLOURS

THINGS = (
    "apple", "car", "balloon", "heart", "hat", "mug", "fish", "bird", "boot", "backpack", "bicycle",
    "umbrella",
)  # fmt: skip
STYLE = "3d render"
WHITE = 0.15  # of the range, how far what is drawn is from the ground
NEAR = 35.0  # degrees of hue that are still the colour


@dataclass(frozen=True)
class Pair:
    """A prompt and an edited one; colour: what the edit asks for."""

    prompt: str
    edited: str
    colour: str


def pairs(n: int) -> list[Pair]:
    """Things in one colour, then in another; each thing comes again with other colours."""
    names = list(COLOURS)
    chosen = []
    for k in range(n):
        thing, turn = THINGS[k % len(THINGS)], k // len(THINGS)
        first = names[(3 * k + turn) % len(names)]
        second = names[(3 * k + turn + 3 + turn % 2) % len(names)]
        texts = [f"{colour} {thing}, {STYLE}" for colour in (first, second)]
        chosen.append(Pair(*texts, second))
    return chosen


def trained(run: Path, name: str) -> str:
    """The file that a training exported to its folder, or the file itself."""
    return str(run / "model" / name if run.is_dir() else run)


def drawn(process: Any, seed: int) -> Tensor:
    """All pictures of a run."""
    with torch.no_grad():
        loop = process.begin(seed=seed)
        pixels: Tensor = loop.run.decode(loop.walk())
    return pixels.clamp(-1, 1)


def masks(x: Tensor) -> Tensor:
    """(N, h, w): where something is drawn."""
    return (1 - x).amax(1) / 2 > WHITE


def overlap(x: Tensor, y: Tensor) -> Tensor:
    """Intersection over union of what is drawn, (N,)."""
    a, b = masks(x), masks(y)
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp_min(1)


def hue(x: Tensor, colour: str) -> Tensor:
    """Share of what is coloured, by saturation, whose hue is the colour's, (N,)."""
    low, high = x.amin(1), x.amax(1)
    red, green, blue = x.unbind(1)
    angle = torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue).rad2deg()
    gap = (angle - COLOURS[colour][1] + 180) % 360 - 180
    weight = (high - low) * masks(x)
    return ((gap.abs() < NEAR) * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-6)


def gap(x: Tensor, y: Tensor, where: Tensor | None = None) -> Tensor:
    """Root mean square difference of values in [0, 1], maybe in a part (N, h, w), (N,)."""
    square = ((x - y) / 2).square().mean(1)
    if where is None:
        return square.mean((1, 2)).sqrt()
    return ((square * where).sum((1, 2)) / where.sum((1, 2)).clamp_min(1)).sqrt()


def seen(x: Tensor) -> Tensor:
    """The judge's features, centred and scaled by those of real pictures."""
    bench = heldout.bench(STYLE)
    found, _ = bench.look(F.interpolate(x, (64, 64), mode="bilinear", antialias=True))
    return (found - bench.features.mean(0)) / bench.spread


def named(x: Tensor, label: str) -> Tensor:
    """Whether the judge of 3d renders has the label among its first five, (N,)."""
    questions = heldout.questions()
    asked = next(k for k, question in enumerate(questions) if question.label == label)
    bench = heldout.bench(STYLE)
    _, logits = bench.look(F.interpolate(x, (64, 64), mode="area"))
    return bench.hits(logits, torch.full((len(x),), asked))[:, 1].float()


def agreement(model: sf.Model, x: Tensor, text: str) -> Tensor:
    """100 cos of pictures and a text by the model's own CLIP, (N,); nan without one."""
    clip: Any = model.clip()
    if clip is None:
        return torch.full((len(x),), torch.nan)
    with torch.no_grad():
        small = F.interpolate(x, (clip.size, clip.size), mode="area")
        cosines: Tensor = clip.image(small, torch.zeros(len(x))) @ clip.text([text]).T
    return 100 * cosines[:, 0]


def sheet(file: Path, columns: Sequence[Tensor], rows: int = 12) -> None:
    """One row for each picture, one column for each way."""
    shown = [F.interpolate(x[:rows], (96, 96), mode="nearest") for x in columns]
    picture = torch.cat([torch.cat(list(column), 1) for column in shown], 2)
    from_tensor(picture).quantize(256).save(file)
