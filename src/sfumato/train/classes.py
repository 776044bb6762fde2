"""Class pictures of prior preservation: made once by the untouched model, kept, checked, reused.

The cache's key names everything that makes them; picture i comes from its own seed, in batches that
are always the same, so that what was made before and what is made now are equal bit for bit.
"""

from __future__ import annotations

import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed
from sfumato.images import Picture
from sfumato.models.model import Model
from sfumato.recipe import home

log = logging.getLogger("sfumato")

TOGETHER = 8


def made(model: Model, text: str, count: int, seed: int) -> list[Picture]:
    """count pictures of the text, at the base's own size, with the card's sampler and guidance."""
    process: Any = model.process(text, stages=1)
    folder = place(model, text, seed)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = missing(model, text, count, seed)
    if wanted:
        log.info("%d pictures of %r are made by the untouched model", len(wanted), text)
    for batch in sorted({i // TOGETHER for i in wanted}):
        first = batch * TOGETHER
        result = process.based(n=TOGETHER).sample(seed=keyed(f"{seed}/class") % 2**30 + first)
        for i, picture in enumerate(result.images, first):
            images.Picture.of(picture).save(folder / f"{i:04d}.png")
    found = [kept(folder, i, model.card.native) for i in range(count)]
    if any(picture is None for picture in found):
        raise SfumatoError(f"{folder}: class pictures could not be kept; free some space")
    return [picture for picture in found if picture is not None]


def place(model: Model, text: str, seed: int) -> Path:
    """The cache's folder for these pictures."""
    return home() / "classes" / key(model, model.process(text, stages=1), seed)


def missing(model: Model, text: str, count: int, seed: int) -> list[int]:
    """Which of the first `count` pictures are not there yet, or damaged."""
    folder = place(model, text, seed)
    return [i for i in range(count) if kept(folder, i, model.card.native) is None]


def key(model: Model, process: Any, seed: int) -> str:
    """Digest of weights, adapters, number format and everything that the recipe says."""
    asked = json.loads(model.asked(process, seed).to_json())
    known = {"weights": model.weights, "dtype": model.choice.dtype, "recipe": asked}
    known["recipe"].pop("versions", None)
    return sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:24]


def kept(folder: Path, i: int, size: tuple[int, int]) -> Picture | None:
    """Picture i of the cache, None where it is missing, damaged or of another size."""
    try:
        picture = images.open_image(folder / f"{i:04d}.png")
    except SfumatoError:
        return None
    return picture if picture.size == size else None


def pixels(picture: Picture) -> Tensor:
    """(3, H, W) in [-1, 1]."""
    values = np.asarray(images.flattened(picture, "white")).astype(np.float32)
    return torch.from_numpy(values / np.float32(127.5) - 1).permute(2, 0, 1).contiguous()
