"""How a model's pictures are decoded: in which number format, and in which tiles."""

from __future__ import annotations

from dataclasses import replace

from sfumato.models.devices import DTYPES
from sfumato.models.latents import Latents
from sfumato.models.model import Model


def decoding(model: Model, dtype: str, tile: int | None = None) -> Model:
    """The model with its decoder multiplying in "float32" or "bfloat16", where it can.

    tile: in tiles of so many cells; None: where the memory asks for it.
    """
    if not isinstance(model.space, Latents):
        return model
    space = replace(model.space.lean(DTYPES[dtype]), tile=tile)
    return replace(model, space=space)
