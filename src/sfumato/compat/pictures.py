"""Pictures of a call: prepared and given back as diffusers does, by its own image processor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor

from sfumato.compat.families import Family, Task
from sfumato.compat.sizes import Size, size_of
from sfumato.core.errors import SfumatoError
from sfumato.models.loaders.flow_parts import packed as tokens_of
from sfumato.models.loaders.flow_parts import unpacked as states_of
from sfumato.models.model import Model

OUTPUTS = ("pil", "np", "pt", "latent")
KINDS = (PILImage.Image, np.ndarray, torch.Tensor)
LARGEST = 1024**2  # pixels of a reference that Flux.2 reads
MOST = 10  # of them
MODES = ("1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "RGBA", "LA", "PA")
"""Of PIL pictures, whose levels are those of bytes."""
BRIGHTEST = 2  # of levels in [-1, 1], which resizing may overshoot


@dataclass(frozen=True, eq=False)
class Pictures:
    """Of a call: what size is worked at, the picture (B, 3, h, w) in [-1, 1], its mask (B, 1, h, w)
    of 0 and 1; beside: pixels of what a network reads beside its state, one after the other."""

    size: Size
    picture: Tensor | None = None
    mask: Tensor | None = None
    beside: tuple[Tensor, ...] = ()


def prepared(model: Model, family: Family, task: Task, given: Mapping[str, Any]) -> Pictures:
    """The pictures of a call.

    Worked on at the picture's own size, brought down to whole cells, where a family does so; else
    width and height, or the model's own.
    """
    if not isinstance(given["output_type"], str) or given["output_type"] not in OUTPUTS:
        raise SfumatoError(f"output_type = {given['output_type']!r:.60}: give one of {OUTPUTS}")
    if family.reads == "reference":
        return _with_reference(model, family, given)
    size = size_of(model, family.sides, given)
    if task == "text":
        return Pictures(size)
    if family.sides == "kandinsky":
        return _of_kandinsky(model, task, size, given)
    own = family.own_size and task == "image"
    picture = _processed(model, _checked(given["image"], "image"), None if own else size.work)
    if picture.shape[1] != 3:
        raise SfumatoError(f"image: has {picture.shape[1]} channels; give RGB")
    sides = int(picture.shape[-1]), int(picture.shape[-2])
    size = Size(sides, None if own else size.shown)
    if task == "image":
        return Pictures(size, picture)
    mask = _processed(model, _checked(given["mask_image"], "mask_image"), sides, mask=True)
    return Pictures(size, picture, mask)


def _of_kandinsky(model: Model, task: Task, size: Size, given: Mapping[str, Any]) -> Pictures:
    """At width and height, or what those come to; its pipelines scale in a way of their own."""
    image = _checked(given["image"], "image")
    if size.work != (given["width"], given["height"]):
        raise SfumatoError(f"width, height: beside a picture whole blocks alone; give {size.work}")
    if task == "image":
        if size.work[0] != size.work[1]:
            raise SfumatoError("width, height: its pipeline takes one for the other; give a square")
        return Pictures(size, _processed(model, image, size.work))
    mask = _checked(given["mask_image"], "mask_image")
    if not all(isinstance(one, PILImage.Image) for one in (*image, *mask)):
        raise SfumatoError("image, mask_image: this pipeline takes PIL pictures; give those")
    small = [one.resize(size.work, PILImage.Resampling.BICUBIC, reducing_gap=1) for one in image]
    cut = [one.resize(size.work, PILImage.Resampling.LANCZOS) for one in mask]
    pixels = torch.from_numpy(np.stack([np.asarray(one) for one in small])).permute(0, 3, 1, 2)
    grey = torch.from_numpy(np.stack([np.asarray(one)[None] for one in cut]))
    return Pictures(size, pixels.float() / 127.5 - 1, (grey.float() / 255 >= 0.5).float())


def _with_reference(model: Model, family: Family, given: Mapping[str, Any]) -> Pictures:
    """A picture that is read beside the state, of a size of its own."""
    if given["image"] is None:
        return Pictures(size_of(model, family.sides, given))
    image = _checked(given["image"], "image", family.sides == "kontext")
    if family.sides == "kontext":
        pixels = _processed(model, image, _preferred(model, image[0], given["_auto_resize"]))
        return Pictures(size_of(model, family.sides, given), beside=(pixels,))
    if not all(isinstance(one, PILImage.Image) for one in image) or len(image) > MOST:
        raise SfumatoError(f"image: 1 to {MOST} PIL pictures are read beside the state; give those")
    several = tuple(_reference(model, one) for one in image)
    usual = int(several[0].shape[-1]), int(several[0].shape[-2])
    return Pictures(size_of(model, family.sides, given, usual), beside=several)


def _preferred(model: Model, image: Any, preferred: Any) -> tuple[int, int]:
    """Width and height at which Kontext reads a picture, of about its shape."""
    from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

    height, width = _processor(model).get_default_height_width(image)
    if preferred:
        shapes = PREFERRED_KONTEXT_RESOLUTIONS
        _, width, height = min((abs(width / height - w / h), w, h) for w, h in shapes)
    multiple = model.card.multiple
    return width // multiple * multiple, height // multiple * multiple


def _reference(model: Model, image: PILImage.Image) -> Tensor:
    """A picture as Flux.2 Klein reads it: its middle, of whole cells and no more than it takes."""
    from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor

    multiple = model.card.multiple
    processor: Any = Flux2ImageProcessor(vae_scale_factor=multiple)
    try:
        processor.check_image_input(image)
    except ValueError as error:
        raise SfumatoError(f"image: {error}") from None
    if image.width * image.height > LARGEST:
        image = processor._resize_to_target_area(image, LARGEST)
    width, height = (side // multiple * multiple for side in image.size)
    pixels: Tensor = processor.preprocess(image, height=height, width=width, resize_mode="crop")
    return pixels.float()


def _checked(value: Any, name: str, alike: bool = True) -> Any:
    """A picture, or a list of them, of one kind; PIL pictures in colours without transparency, and
    alike in size."""
    listed = value if isinstance(value, list | tuple) else [value]
    if not listed or not all(isinstance(one, KINDS) for one in listed):
        raise SfumatoError(
            f"{name} = {value!r:.60}: give a PIL picture, an array, a tensor, or a list of one kind"
        )
    if len({isinstance(one, PILImage.Image) + 2 * isinstance(one, Tensor) for one in listed}) > 1:
        raise SfumatoError(f"{name}: pictures of several kinds; give one kind")
    if not isinstance(listed[0], PILImage.Image):
        for one in listed:
            check_numbers(one, name)
        return list(listed)
    if odd := [one.mode for one in listed if one.mode not in MODES]:
        raise SfumatoError(f'{name}: is a picture of mode {odd[0]}; give convert("RGB") of it')
    if any(0 in one.size for one in listed):
        raise SfumatoError(f"{name}: is a picture without pixels; give another")
    if alike and len({one.size for one in listed}) > 1:
        raise SfumatoError(f"{name}: pictures of several sizes; give one size")
    clear = (one.mode in ("RGBA", "LA", "PA") or "transparency" in one.info for one in listed)
    if name == "image" and any(clear):
        raise SfumatoError('image: has transparency; give convert("RGB")')
    return [one.convert("RGB" if name == "image" else "L") for one in listed]


def check_numbers(values: Any, name: str) -> None:
    """Refuse an array or a tensor that holds anything but finite real numbers."""
    if isinstance(values, Tensor):
        plain = values.layout is torch.strided and not values.is_complex()
        known = plain and values.device.type != "meta"
        values = values.detach().cpu().float().numpy() if known else None
    if values is None or values.dtype.kind not in "fiub" or not values.size:
        raise SfumatoError(f"{name}: holds no real numbers; give floats in [0, 1]")
    if not np.isfinite(values).all():
        raise SfumatoError(f"{name}: has values that are not finite; give floats in [0, 1]")


def _processor(model: Model, **options: Any) -> Any:
    from diffusers.image_processor import VaeImageProcessor

    return VaeImageProcessor(
        vae_scale_factor=model.card.multiple, vae_latent_channels=model.space.channels, **options
    )


def _processed(
    model: Model, value: list[Any], size: tuple[int, int] | None, mask: bool = False
) -> Tensor:
    options = {"do_normalize": False, "do_binarize": True, "do_convert_grayscale": True}
    processor = _processor(model, **(options if mask else {}))
    width, height = size or (None, None)
    try:
        tensor: Tensor = processor.preprocess(value, height=height, width=width)
    except (ValueError, RuntimeError, IndexError, TypeError) as error:  # of other shapes
        raise SfumatoError(f"{'mask_image' if mask else 'image'}: {error}") from None
    if mask and tensor.shape[1] != 1:
        raise SfumatoError(f"mask_image: has {tensor.shape[1]} channels; give one")
    if float(tensor.abs().max()) > BRIGHTEST:
        raise SfumatoError("image: has levels far beyond 1; give floats in [0, 1]")
    return tensor.float()


def shown(pixels: Tensor, output_type: str, size: Size) -> Any:
    """Pixels in [-1, 1] as they were asked for."""
    if size.shown is not None:
        from diffusers.image_processor import PixArtImageProcessor

        pixels = PixArtImageProcessor.resize_and_crop_tensor(pixels, *size.shown)
    values = (pixels / 2 + 0.5).clamp(0, 1)
    if output_type == "pt":
        return values
    array = values.cpu().permute(0, 2, 3, 1).float().numpy()
    if output_type == "np":
        return array
    return [PILImage.fromarray((row * 255).round().astype("uint8")) for row in array]


def packed(latents: Tensor, patch: int) -> Tensor:
    """States as theirs are: (n, C, h, w), or of some families tokens (n, h w / p^2, p^2 C)."""
    return tokens_of(latents, patch) if patch else latents


def unpacked(latents: Any, shape: tuple[int, ...], patch: int) -> Tensor:
    """The reverse, to states of this shape."""
    if not isinstance(latents, Tensor) or not latents.is_floating_point():
        raise SfumatoError(f"latents = {latents!r:.60}: give a tensor of floats")
    n, channels, height, width = shape
    wanted = (n, height * width // patch**2, channels * patch**2) if patch else shape
    if tuple(latents.shape) != wanted:
        raise SfumatoError(f"latents: have shape {tuple(latents.shape)}; this call takes {wanted}")
    if latents.layout is not torch.strided or latents.device.type == "meta":
        raise SfumatoError("latents: hold no numbers; give a plain tensor")
    if not latents.isfinite().all():
        raise SfumatoError("latents: have values that are not finite")
    if patch:
        return states_of(latents.float(), height // patch, width // patch, patch)
    return latents.float()
