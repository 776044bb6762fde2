"""Pictures, arrays and tensors of a program as the bytes that an ImageInput keeps.

Pictures and arrays become PNG, tensors .npy.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image as PILImage

from sfumato.core.errors import SfumatoError
from sfumato.images import decode as decoding
from sfumato.images import picture as pictures


def png(image: PILImage.Image) -> bytes:
    """Lossless bytes; a result's are those that saving it gives, so both have one hash."""
    if isinstance(image, pictures.Picture) and image.mode in ("RGB", "RGBA"):
        whole = image.with_alpha()
    elif (grey := decoding.wide(image)) is not None:
        buffer = io.BytesIO()
        grey.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
    else:
        whole = decoding.converted(image, pictures.name_of(image)).with_alpha()
    return whole.encode("PNG") if whole.recipe else whole.encode("PNG", compress_level=1)


def from_array(array: Any) -> PILImage.Image:
    """A picture of (H, W), (H, W, 3) or (H, W, 4): uint8, bool or floats in [0, 1]."""
    shape = "x".join(str(side) for side in array.shape)
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise SfumatoError(f"array: its shape is {shape}; give (H, W), (H, W, 3) or (H, W, 4)")
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    elif array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise SfumatoError(
                f"array: its values go from {low:g} to {high:g}; floats must be in [0, 1]"
            )
        array = np.rint(array.astype("f8") * 255).astype("u1")
    elif array.dtype != np.uint8:
        raise SfumatoError(f"array: is {array.dtype}; give uint8, bool or floats in [0, 1]")
    return PILImage.fromarray(np.ascontiguousarray(array))


def npy(tensor: Any) -> bytes:
    """A dense tensor's .npy, bfloat16 as float32."""
    import torch

    buffer = io.BytesIO()
    try:
        plain = tensor.detach().cpu()
        plain = plain.float() if plain.dtype == torch.bfloat16 else plain
        np.save(buffer, plain.contiguous().numpy(), allow_pickle=False)
    except (RuntimeError, TypeError) as error:  # sparse, without data, of numbers that numpy lacks
        text = str(error).splitlines()[0]
        raise SfumatoError(
            f"tensor: {tensor.dtype}, {tensor.layout} on {tensor.device} cannot be kept ({text}); "
            "give a dense one of float32"
        ) from None
    return buffer.getvalue()
