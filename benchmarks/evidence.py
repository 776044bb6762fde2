"""What the proofs of single methods share: their options, what judges them, and their sheets.

Judges are the bundled model's classifier and CLIP and the packaged judge of 3D renders, whatever
model is measured; none of them steers unless a proof says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from sfumato.images import from_tensor
from sfumato.measure import heldout
from sfumato.measure.evaluate import on_white


def options(text: str | None, n: int, folder: str) -> argparse.Namespace:
    """--model, -n and -o."""
    parser = argparse.ArgumentParser(description=(text or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-n", type=int, default=n)
    parser.add_argument("-o", "--output", type=Path, default=Path("out") / folder)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    return given


class Judges:
    """What is said of pictures (B, 3, h, w) in [-1, 1], of any size."""

    @cached_property
    def bundled(self) -> sf.Model:
        return sf.load("emoji", dtype="float32")

    def small(self, x: Tensor) -> Tensor:
        side = self.bundled.card.native[0]
        return F.interpolate(x.clamp(-1, 1), (side, side), mode="area")

    def style(self, x: Tensor, name: str, other: str) -> Tensor:
        """P(name) in P(name) + P(other), styles of the packed set."""
        classifier = self.bundled.classifier()
        with torch.no_grad():
            logs = classifier.log_probabilities(self.small(x), torch.zeros(len(x)))["style"]
        names = classifier.classes["style"]
        found: Tensor = (logs[:, names.index(name)] - logs[:, names.index(other)]).sigmoid()
        return found

    def agreement(self, x: Tensor, texts: Sequence[str]) -> Tensor:
        """100 cosines of pictures and texts."""
        clip: Any = self.bundled.clip()
        with torch.no_grad():
            seen = clip.image(self.small(x), torch.zeros(len(x), dtype=torch.long))
            found: Tensor = 100 * (seen * clip.text(texts)).sum(1)
        return found

    def content(self, x: Tensor) -> Tensor:
        """The judge's features, centred on real pictures."""
        bench = heldout.bench("3d render")
        found, _ = bench.look(F.interpolate(x.clamp(-1, 1), (64, 64), mode="bilinear"))
        centred: Tensor = (found - bench.features.mean(0)) / bench.spread
        return centred


def held(style: str, side: int, n: int) -> tuple[Tensor, list[str]]:
    """Held-out pictures on white and their labels, evenly over the set."""
    store = heldout.pictures(style, 64)
    step = max(len(store.pixels) // n, 1)
    rows = range(0, len(store.pixels), step)[:n]
    pictures = on_white(store.pixels)[list(rows)]
    resized = F.interpolate(pictures, (side, side), mode="area")
    return resized, [store.concepts[k].label for k in rows]


def last(process: Any, seed: int) -> Tensor:
    """The decoded pixels of a run."""
    with torch.no_grad():
        loop = process.begin(seed=seed)
        made = loop.walk()
        pixels: Tensor = loop.run.decode(made)
    return pixels.clamp(-1, 1)


def sheet(file: Path, columns: Mapping[str, Tensor], rows: int = 10, scale: int = 2) -> None:
    """One row for each picture, one column for each name, in their order."""
    shown = [F.interpolate(x[:rows], scale_factor=scale) for x in columns.values()]
    from_tensor(torch.cat([torch.cat(list(x), 1) for x in shown], 2)).quantize(256).save(file)
    print(f"{file}: {', '.join(columns)}", flush=True)
