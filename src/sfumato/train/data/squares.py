"""Pictures as squares (4, size, size) uint8 in premultiplied alpha, averaged from larger ones."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.documents import is_file
from sfumato.images import Picture


def decoded(files: Mapping[str, bytes], size: int) -> Tensor:
    """Files by name, whose sides are a multiple of the size, as one batch."""
    with ThreadPoolExecutor() as pool:
        return torch.stack(list(pool.map(lambda name: _decode(name, files[name], size), files)))


def _rgba(picture: Picture) -> Image.Image:
    return picture.with_alpha().convert("RGBA")


def _decode(name: str, data: bytes, size: int) -> Tensor:
    """(4, size, size) uint8: box average of the picture in premultiplied alpha."""
    picture = images.ImageInput.of(data, name).picture()
    if picture.width != picture.height or picture.width % size:
        raise SfumatoError(
            f"data {name}: is {picture.width}x{picture.height}; a square of a multiple of {size} "
            "is needed"
        )
    rgba = np.asarray(_rgba(picture), dtype=np.float32).copy()
    rgba[..., :3] *= rgba[..., 3:] / 255
    factor = rgba.shape[0] // size
    boxes = rgba.reshape(size, factor, size, factor, 4).mean((1, 3))
    return torch.from_numpy(boxes.round().astype(np.uint8)).permute(2, 0, 1)


def open_square(file: Path, size: int) -> Tensor:
    """A picture cut to its middle square and averaged to the size."""
    if not is_file(file):
        raise SfumatoError(f"{file}: named in the captions, but not there")
    try:
        square = _rgba(images.open_image(file))
    except SfumatoError as error:
        raise SfumatoError(f"data {file.parent}: cannot be read as a picture: {error}") from None
    side = min(square.size)
    left, top = (square.width - side) // 2, (square.height - side) // 2
    square = square.crop((left, top, left + side, top + side))
    square = square.resize((size, size), Image.Resampling.BOX)
    rgba = np.asarray(square, dtype=np.float32).copy()
    rgba[..., :3] *= rgba[..., 3:] / 255
    return torch.from_numpy(rgba.round().astype(np.uint8)).permute(2, 0, 1)
