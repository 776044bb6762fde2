"""Whether a picture is a photo rather than a drawing: how few colours cover how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfumato.images.picture import Picture

_SIDE = 256
_FEW = 8  # colours of 5 bits a channel: plain grounds and fills, which drawings are made of


def photographic(picture: Picture) -> bool:
    """Whether the eight commonest colours cover less than half of what is not transparent."""
    import numpy as np

    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    pixels = np.asarray(small).reshape(-1, 3).astype(np.int32) >> 3
    if picture.alpha is not None:
        pixels = pixels[np.asarray(picture.alpha.resize(small.size)).reshape(-1) > 127]
    _, counts = np.unique(pixels, axis=0, return_counts=True)
    return len(pixels) > 0 and bool(np.sort(counts)[-_FEW:].sum() < len(pixels) / 2)
