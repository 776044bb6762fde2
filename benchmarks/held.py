"""The held-out pictures as guides of one batch, and what is measured of what becomes of them.

Everything is a tensor of values in [-1, 1] at the base's size; the processes have no model card, so
that what runs is what a benchmark says. Kernel distances are on the features of the packaged
judge, scaled to unit spread over the real pictures, and paired: no picture against its own origin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import sfumato as sf
from sfumato.measure import heldout
from sfumato.measure.evaluate import pixels
from sfumato.methods import from_data
from sfumato.metrics import kernel
from sfumato.metrics.kernel import Estimate
from sfumato.models.card import read_card
from sfumato.models.loaders.library import BUNDLED
from sfumato.train.data import store

STYLE = "fluent"
SIZE, _ = read_card(BUNDLED["emoji"]).native  # of the base


def pictures() -> list[Image.Image]:
    """The 77 held-out pictures at 256 px on white."""
    return on_white(heldout.pictures(STYLE, size=256))


def on_white(stored: store.Store) -> list[Image.Image]:
    """A store's pictures on white."""
    shown = (stored.pixels[:, :3].int() + 255 - stored.pixels[:, 3:].int()).clamp(0, 255)
    return [Image.fromarray(one.byte().permute(1, 2, 0).numpy()) for one in shown]


def tensor(images: Sequence[Image.Image]) -> Tensor:
    """(N, 3, SIZE, SIZE): each reduced by averaging."""
    small = (image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX) for image in images)
    return torch.stack([pixels(sf.Picture.of(image)) for image in small])


def painted(colours: int = 6) -> Tensor:
    """The held-out pictures as simulated strokes (SDEdit, arXiv 2108.01073, D.2)."""
    return tensor([sf.strokes(image, colors=colours) for image in pictures()])


class Realism:
    """Kernel distance of pictures that stem from the held-out ones, to those."""

    def __init__(self) -> None:
        self.bench = heldout.bench("3d render")
        self.real = tensor(pictures())
        self.features = self.bench.look(self.real)[0]

    def of(self, made: Tensor) -> Estimate:
        """made (k N, 3, SIZE, SIZE): k batches over the held-out pictures, in their order."""
        spread = self.bench.spread
        features = self.bench.look(made.clamp(-1, 1))[0] / spread
        return kernel.kernel_estimate(features, self.features / spread, paired=True)


def l2(made: Tensor, guides: Tensor) -> Estimate:
    """Norm over pixels and channels of the difference, values in [0, 1], mean over pictures."""
    gap = (made.clamp(-1, 1) - guides).flatten(1) / 2
    return kernel.mean(gap.norm(dim=1))


def process(model: sf.Model, n: int, texts: Sequence[str] = (), **fields: Any) -> sf.Process:
    """The base for n pictures: without words or guidance, as the published programs ran.

    texts: one for each picture, with guidance as the card has it.
    """
    base = model.process(stages=1)
    empty = model.encode([""])
    words = model.encode(list(texts)) if texts else empty
    made = sf.Process(
        base.denoiser, (3, SIZE, SIZE), cond=words, null=empty if texts else None, n=n,
        rows_max=128, **fields,
    )  # fmt: skip
    if not texts:
        return made | sf.Threshold("static")
    for entry in model.card.defaults.methods:
        made = made | from_data(entry)
    return made


def fewest(rows: Sequence[dict[str, Any]], within: Callable[[dict[str, Any]], bool]) -> str:
    """Of the runs that pass, the one with the fewest calls, in words."""
    passed = sorted((row for row in rows if within(row)), key=lambda row: row["calls"])
    if not passed:
        return "none"
    return f"{passed[0]['calls']} calls ({passed[0]['solver']}, {passed[0]['spacing']})"
