"""In which number format a model's pictures are decoded."""

from __future__ import annotations

from dataclasses import replace

from sfumato.models.devices import DTYPES
from sfumato.models.latents import Latents
from sfumato.models.model import Model


def decoding(model: Model, dtype: str) -> Model:
    """The model with its decoder multiplying in "float32" or "bfloat16", where it can."""
    if not isinstance(model.space, Latents):
        return model
    space = model.space.lean(DTYPES[dtype])
    return model if space is model.space else replace(model, space=space)
