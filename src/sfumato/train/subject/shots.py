"""A subject's pictures: reading them, and fitting them to work sizes.

Pictures keep their shape: each goes to the nearest of a few work sizes of the model's area
(buckets) and loses at its edges what that leaves over.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image as PILImage
from torch import Tensor

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.documents import is_folder
from sfumato.images import Picture
from sfumato.images.decode import identify
from sfumato.images.folders import pictures_in
from sfumato.models.model import Model

log = logging.getLogger("sfumato")

FEW, MANY = 3, 30
LEAST = 16  # pixels of a picture's shorter side


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture of the subject, upright and in sRGB; digest: of its file."""

    name: str
    picture: Picture
    digest: str


def read_shots(folder: Path) -> list[Shot]:
    """Every readable picture of a folder, by name. What cannot be read is said and left out."""
    if not is_folder(folder):
        raise SfumatoError(f"{folder}: not a folder; give the folder with the subject's pictures")
    shots = []
    listed = pictures_in(folder, beside=(".txt",))
    if listed.note:
        log.warning("%s: %s", folder, listed.note)
    for file in listed.pictures:
        try:
            data = images.ImageInput.of(file)
            picture = data.picture()
        except SfumatoError as error:
            log.warning("%s; left out", error)
            continue
        if min(picture.size) < LEAST:
            log.warning("%s: is %dx%d, too small to learn from; left out", file.name, *picture.size)
            continue
        if getattr(identify(data.data, file.name), "is_animated", False):
            log.warning("%s: is several pictures; the first one is taken", file.name)
        shots.append(Shot(file.name, picture, data.sha256))
    if not shots:
        raise SfumatoError(f"{folder}: no picture there that can be read; 3 to 5 are best")
    if len(shots) < FEW:
        log.warning(
            "%d picture%s of the subject: its pose and background will come back; 3 to 5 are best",
            len(shots),
            "" if len(shots) == 1 else "s",
        )
    if len(shots) > MANY:
        log.warning("%d pictures: more than 5 seldom help; all are used", len(shots))
    return shots


def buckets(native: tuple[int, int], multiple: int) -> list[tuple[int, int]]:
    """Work sizes (width, height) of about the native area, sides multiples, up to 2 to 1."""
    area = native[0] * native[1]
    step = max(multiple, math.isqrt(area) // 8 // multiple * multiple)
    sizes = set()
    for width in range(step, 2 * max(native) + 1, step):
        height = round(area / width / step) * step
        if height and max(width, height) <= 2 * min(width, height):
            sizes |= {(width, height), (height, width)}
    return sorted(sizes | {native})


def fit(shot: Shot, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """(3, H, W) in [-1, 1] at the work size nearest in shape, centre-cropped, never stretched."""
    width, height = shot.picture.size
    shape = math.log(width / height)
    target = min(sizes, key=lambda size: abs(math.log(size[0] / size[1]) - shape))
    scale = max(target[0] / width, target[1] / height)
    across, down = target[0] / scale, target[1] / scale
    left, top = (width - across) / 2, (height - down) / 2
    box = (left, top, left + across, top + down)
    way = PILImage.Resampling.BOX if scale < 1 else PILImage.Resampling.LANCZOS
    flat = images.flattened(shot.picture, "white")
    pixels = flat.resize(target, way, box=box)
    import numpy as np

    values = torch.from_numpy(np.asarray(pixels).astype(np.float32) / np.float32(127.5) - 1)
    return values.permute(2, 0, 1).contiguous()


def digests(model: Model, shots: Sequence[Shot]) -> dict[str, str]:
    """Of the model that learns and of the subject's pictures."""
    return {"the model": model.weights[:24]} | {
        f"picture {shot.name}": shot.digest[:24] for shot in shots
    }
