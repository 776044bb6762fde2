"""What a picture shows, as unCLIP's decoders read it: a CLIP's vector, of some with noise on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Table
from sfumato.core.source import Origin
from sfumato.documents import expanded, is_folder
from sfumato.models.clip import CLIP_MEAN
from sfumato.models.files import hub
from sfumato.models.image_prompts import Encoder, encoder_in, vision_encoder

if TYPE_CHECKING:
    from sfumato.models.model import Model

PRIOR = "kandinsky-community/kandinsky-2-2-prior"
"""Whose encoder Kandinsky 2.2's decoder was trained with."""


@dataclass(frozen=True, eq=False)
class Noising:
    """How unCLIP noises a vector: mean, std (1, D) of all vectors; table: of its levels."""

    mean: Tensor
    std: Tensor
    table: Table


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of pictures. noising: None where the network reads them as they are."""

    encoder: Encoder
    noising: Noising | None
    device: str

    @property
    def origin(self) -> Origin | None:
        return self.encoder.origin

    @property
    def size(self) -> int:
        return self.encoder.size

    @property
    def levels(self) -> int:
        return 1 if self.noising is None else self.noising.table.steps

    def read(self, pixels: Tensor, level: int, noise: Tensor | None = None) -> Tensor:
        """(B, W): of pictures (B, 3, S, S) in [-1, 1]; level: of the noise on them."""
        with torch.no_grad():
            vectors = self.encoder.look(pixels)
        return self.noised(vectors, level, noise)

    def noised(self, vectors: Tensor, level: int, noise: Tensor | None = None) -> Tensor:
        """Vectors (B, D) with noise of a level, and beside them the level as waves: (B, 2 D)."""
        if self.noising is None:
            return vectors
        time = (level + 1) / self.levels
        mean, std, table = self.noising.mean, self.noising.std, self.noising.table
        scaled = (vectors - mean) / std
        drawn = torch.zeros_like(scaled) if noise is None else noise
        scaled = table.alpha(time) * scaled + table.sigma(time) * drawn
        half = vectors.shape[-1] // 2
        powers = torch.exp(-math.log(1e4) * torch.arange(half, device=vectors.device) / half)
        waves = torch.cat([(level * powers).cos(), (level * powers).sin()])
        return torch.cat([scaled * std + mean, waves.expand(len(scaled), -1)], dim=1)

    def nothing(self) -> Tensor:
        """(1, W) of no picture."""
        if self.noising is not None:
            return torch.zeros_like(self.noised(self.noising.mean, 0))
        with torch.no_grad():  # of the colour that CLIP takes for none
            mean = torch.tensor(CLIP_MEAN).view(1, 3, 1, 1) * 2 - 1
            return self.encoder.look(mean.expand(1, 3, self.size, self.size).to(self.device))


def vectors_of(model: Model, encoder: str | None) -> Vectors:
    """encoder: a folder with a CLIP image encoder or above one, or org/name; else the model's own
    folder's, of Kandinsky's decoder its prior's where that was pulled."""
    folder = _encoder_folder(model, encoder)
    device = model.choice.device
    return Vectors(vision_encoder(folder, device, patches=False), model.noising, device)


def _encoder_folder(model: Model, encoder: str | None) -> Path:
    source = model.folder if encoder is None else expanded(encoder)
    if encoder is not None and not is_folder(expanded(encoder)):
        source = hub.find(encoder)
    places = [source, hub.find(PRIOR) if encoder is None else None]
    for place in filter(None, places):
        if (folder := encoder_in(place)) is not None:
            return folder
    raise SfumatoError(
        f"variation: encoder {encoder}: no CLIP image encoder there; give its folder"
        if encoder is not None
        else f"variation: {model.name} has no folder image_encoder; give encoder, the CLIP image "
        f"encoder that it was trained with, or `sfumato models pull {PRIOR}`"
    )


def noising_of(weights: Mapping[str, Tensor], table: Table, folder: Path, device: str) -> Noising:
    """Of an image_normalizer's weights."""
    tensors = [weights.get(name) for name in ("mean", "std")]
    shapes = {None if tensor is None else tuple(tensor.shape) for tensor in tensors}
    mean, std = tensors
    if mean is None or std is None or len(shapes) != 1 or mean.ndim != 2 or len(mean) != 1:
        raise SfumatoError(f"{folder}: holds no mean and std of vectors; the model is damaged")
    return Noising(mean.float().to(device), std.float().to(device), table)
