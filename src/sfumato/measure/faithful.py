"""What one picture says of its run: distance to its guide, outside the mask, in the low band.

Distances are on values in [0, 1]. Realism and agreement with words need many pictures or a network
and are in distance.py and evaluate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image as PILImage
from torch import Tensor

from sfumato import images
from sfumato.core.composition import name_of
from sfumato.images.picture import flattened
from sfumato.methods import Method
from sfumato.methods.inpaint import Inpaint
from sfumato.methods.sdedit import SDEdit
from sfumato.models.cascade import base_of
from sfumato.nn.resize import LowPass

BAND = 8.0
"""The low band is what shrinking by this many pixels of the base leaves."""

MEASURES = {
    "rms": "root mean square distance to the guide, values in [0, 1]",
    "l2": "distance to the guide as a norm over pixels and channels (arXiv 2108.01073, section 5)",
    "outside": "root mean square distance to the original where the edit mask keeps",
    "low": f"root mean square distance to the guide after shrinking by {BAND:g} base pixels",
}


def tensor(picture: Any, size: tuple[int, int] | None = None) -> Tensor:
    """(3, H, W) in [0, 1], transparent parts on white, resized to (width, height) if given."""
    import numpy as np

    flat = flattened(images.open_image(picture), "white")
    if size is not None and flat.size != size:
        flat = flat.resize(size, PILImage.Resampling.LANCZOS)
    array = np.array(flat, dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1) / 255


def rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


@dataclass(frozen=True, eq=False)
class Reference:
    """What a process was given to stay close to, and where it may change it (None: everywhere)."""

    picture: Any
    original: Any
    edit_mask: Any = None

    @classmethod
    def of(cls, process: Any, owner: str = "") -> Reference | None:
        """The picture that the method called owner takes as its guide, else the first one's."""
        base = base_of(process)
        ordered = sorted(base.methods, key=lambda method: name_of(method) != owner)
        for method in ordered:
            guide = method.reference_picture if isinstance(method, Method) else None
            if guide is None or guide.is_tensor:
                continue
            picture = guide.picture()
            original, edit = kept_part(base) or (picture, None)
            if picture.size != original.size:  # a canvas larger than its picture
                picture = original
            return cls(picture, original, edit)
        return None

    def measures(self, picture: Any) -> dict[str, float]:
        """Every measure of a generated picture; the guide is brought to its size."""
        pixels = tensor(picture)
        size = picture.size
        guide = tensor(self.picture, size)
        distances = {"rms": rms(pixels, guide)}
        distances["l2"] = distances["rms"] * pixels.numel() ** 0.5
        if self.edit_mask is not None:
            kept = tensor(self.edit_mask.convert("RGB"), size)[:1] == 0
            if kept.any():
                gap = (pixels - tensor(self.original, size)) * kept
                distances["outside"] = float((gap.square().sum() / (3 * kept.sum())).sqrt())
        work = picture.recipe.run.get("work_size") if picture.recipe else None
        small = (min(size[0], work[0]), min(size[1], work[1])) if work else size
        phi = LowPass(BAND)
        distances["low"] = rms(
            phi(tensor(picture, small)[None]), phi(tensor(self.picture, small)[None])
        )
        return distances


def kept_part(process: Any) -> tuple[Any, Any] | None:
    """The picture that is kept outside the edit mask, and that mask."""
    for part in (process.start, process.canvas):
        if isinstance(part, SDEdit | Inpaint) and part.edit_mask is not None:
            return (
                part.pair[0] if isinstance(part, Inpaint) else part.image.picture()
            ), part.edit_mask
    return None


def diversity(pictures: Sequence[Any]) -> float | None:
    """Mean root mean square distance between all pairs; None of fewer than two."""
    batch = torch.stack([tensor(picture, pictures[0].size) for picture in pictures])
    if len(batch) < 2:
        return None
    flat = batch.flatten(1)
    pairs = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    return float(pairs.sum() / (len(batch) * (len(batch) - 1)))
