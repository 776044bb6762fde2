"""Pictures of a call: prepared and given back as diffusers does, by its own image processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range, whole
from sfumato.models.loaders.flow_parts import packed as tokens_of
from sfumato.models.loaders.flow_parts import unpacked as states_of
from sfumato.models.model import Model

OUTPUTS = ("pil", "np", "pt", "latent")
PATCH = 2
KINDS = (PILImage.Image, np.ndarray, torch.Tensor)


def prepared(
    model: Model, given: Mapping[str, Any], own_size: bool
) -> tuple[tuple[int, int], Tensor | None, Tensor | None]:
    """(width, height), the picture (B, 3, h, w) in [-1, 1], its mask (B, 1, h, w) of 0 and 1.

    own_size: worked on at the picture's own size, brought down to whole cells; else width and
    height, or the model's own.
    """
    if given["output_type"] not in OUTPUTS:
        raise SfumatoError(f"output_type = {given['output_type']!r:.60}: give one of {OUTPUTS}")
    width, height = _size(model, given)
    if "image" not in given:
        return (width, height), None, None
    picture = _processed(
        model, _checked(given["image"], "image"), None if own_size else (width, height)
    )
    if picture.shape[1] != 3:
        raise SfumatoError(f"image: has {picture.shape[1]} channels; give RGB")
    size = int(picture.shape[-1]), int(picture.shape[-2])
    if "mask_image" not in given:
        return size, picture, None
    mask = _processed(model, _checked(given["mask_image"], "mask_image"), size, mask=True)
    return size, picture, mask


def _size(model: Model, given: Mapping[str, Any]) -> tuple[int, int]:
    sides = []
    for name, usual in zip(("width", "height"), model.card.native, strict=True):
        value = given.get(name)
        side = usual if value is None else whole(value, name, Range(1, model.card.maximum))
        if side % model.card.multiple:
            raise SfumatoError(f"{name} = {side}: must be a multiple of {model.card.multiple}")
        sides.append(side)
    return sides[0], sides[1]


def _checked(value: Any, name: str) -> Any:
    """A picture, or a list of them, of one kind; PIL pictures in colours without transparency."""
    listed = value if isinstance(value, list | tuple) else [value]
    if not listed or not all(isinstance(one, KINDS) for one in listed):
        raise SfumatoError(
            f"{name} = {value!r:.60}: give a PIL picture, an array, a tensor, or a list of one kind"
        )
    if len({isinstance(one, PILImage.Image) + 2 * isinstance(one, Tensor) for one in listed}) > 1:
        raise SfumatoError(f"{name}: pictures of several kinds; give one kind")
    if not isinstance(listed[0], PILImage.Image):
        return list(listed)
    if len({one.size for one in listed}) > 1:
        raise SfumatoError(f"{name}: pictures of several sizes; give one size")
    if name == "image" and any(one.mode in ("RGBA", "LA", "PA") for one in listed):
        raise SfumatoError('image: has transparency; give convert("RGB")')
    return [one.convert("RGB" if name == "image" else "L") for one in listed]


def _processed(
    model: Model, value: list[Any], size: tuple[int, int] | None, mask: bool = False
) -> Tensor:
    from diffusers.image_processor import VaeImageProcessor

    options = {"do_normalize": False, "do_binarize": True, "do_convert_grayscale": True}
    processor = VaeImageProcessor(
        vae_scale_factor=model.card.multiple,
        vae_latent_channels=model.space.channels,
        **(options if mask else {}),
    )
    width, height = size or (None, None)
    try:
        tensor: Tensor = processor.preprocess(value, height=height, width=width)
    except (ValueError, RuntimeError, IndexError) as error:  # of arrays and tensors of other shapes
        raise SfumatoError(f"{'mask_image' if mask else 'image'}: {error}") from None
    return tensor.float()


def shown(pixels: Tensor, output_type: str) -> Any:
    """Pixels in [-1, 1] as they were asked for."""
    values = (pixels / 2 + 0.5).clamp(0, 1)
    if output_type == "pt":
        return values
    array = values.cpu().permute(0, 2, 3, 1).float().numpy()
    if output_type == "np":
        return array
    return [PILImage.fromarray((row * 255).round().astype("uint8")) for row in array]


def packed(latents: Tensor, tokens: bool) -> Tensor:
    """States as theirs are: (n, C, h, w), or of some families tokens (n, h w / 4, 4 C)."""
    return tokens_of(latents, PATCH) if tokens else latents


def unpacked(latents: Any, shape: tuple[int, ...], tokens: bool) -> Tensor:
    """The reverse, to states of this shape."""
    if not isinstance(latents, Tensor) or not latents.is_floating_point():
        raise SfumatoError(f"latents = {latents!r:.60}: give a tensor of floats")
    n, channels, height, width = shape
    wanted = (n, height * width // PATCH**2, channels * PATCH**2) if tokens else shape
    if tuple(latents.shape) != wanted:
        raise SfumatoError(f"latents: have shape {tuple(latents.shape)}; this call takes {wanted}")
    if tokens:
        return states_of(latents.float(), height // PATCH, width // PATCH, PATCH)
    return latents.float()
