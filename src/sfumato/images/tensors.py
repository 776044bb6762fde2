"""Pictures and masks to the tensors a model works on, and its tensors back into pictures.

Pixels v of 0..255 are v/127.5 - 1. Where the work area lies is decided in frame.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image as PILImage

from sfumato.core.errors import SfumatoError
from sfumato.core.frame import Frame, Sides
from sfumato.images.masks import shrunk_mask
from sfumato.images.picture import Colour, Picture, flattened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def to_work(picture: Picture, frame: Frame, background: Colour = "white") -> Tensor:
    """(3, H, W) float32 in [-1, 1] at the frame's work size, transparent parts on the background.

    Area resampling when shrinking, Lanczos when enlarging, padded by reflection.
    """
    import numpy as np
    import torch

    _same_size(picture, frame)
    pixels = flattened(picture, background)
    left, top, right, bottom = frame.source_box
    shrinks = frame.scaled[0] < right - left or frame.scaled[1] < bottom - top
    way = PILImage.Resampling.BOX if shrinks else PILImage.Resampling.LANCZOS
    scaled = pixels.resize(frame.scaled, way, box=frame.source_box)
    padded = _reflected(np.asarray(scaled), frame).astype(np.float32)
    return torch.from_numpy(padded / np.float32(127.5) - 1).permute(2, 0, 1).contiguous()


def to_square(picture: Picture, side: int, background: Colour = "white") -> Tensor:
    """(3, side, side) in [-1, 1] of the picture's middle square, its shorter side brought to
    `side` first (bicubic), as CLIP's programs do."""
    import numpy as np
    import torch

    pixels = flattened(picture, background)
    (width, height), shorter = pixels.size, min(pixels.size)
    sides = side * width // shorter, side * height // shorter
    scaled = pixels if sides == pixels.size else pixels.resize(sides, PILImage.Resampling.BICUBIC)
    left, top = (sides[0] - side) // 2, (sides[1] - side) // 2
    square = np.asarray(scaled.crop((left, top, left + side, top + side))).astype(np.float32)
    return torch.from_numpy(square / np.float32(127.5) - 1).permute(2, 0, 1).contiguous()


def mask_to_work(mask: PILImage.Image, frame: Frame) -> Tensor:
    """(1, H, W) float32 in [0, 1]: every cell is the largest value of all pixels it touches."""
    import numpy as np
    import torch

    _same_size(mask, frame)
    cells = shrunk_mask(_mask_at_target(mask, frame).crop(frame.target_box), frame.scaled)
    padded = _reflected(np.asarray(cells), frame).astype(np.float32)
    return torch.from_numpy(padded / np.float32(255))[None]


def mask_to_cells(mask: Tensor, stride: int) -> Tensor:
    """(..., H, W) pixels to latent cells, each the largest value of its stride x stride pixels.

    The nearest pixel would leave cells untouched that the mask reaches into.
    """
    import torch

    return mask if stride == 1 else torch.nn.functional.max_pool2d(mask, stride)


def from_work(pixels: Tensor, frame: Frame, factor: int | None = None) -> Picture:
    """(3, H factor, W factor) in [-1, 1] to the picture of the frame's target box, at its size.

    factor: result over work size, read from the shape if not given. Raises SfumatoError when values
    are not finite.
    """
    if factor is None:
        factor = pixels.shape[-1] // frame.work[0]
    picture = from_tensor(crop_work(pixels, frame, factor))
    left, top, right, bottom = frame.target_box
    return Picture.of(picture.resize((right - left, bottom - top), PILImage.Resampling.LANCZOS))


def crop_work(pixels: Tensor, frame: Frame, factor: int = 1) -> Tensor:
    """(..., H factor, W factor) without the padding."""
    expected = frame.work[1] * factor, frame.work[0] * factor
    if tuple(pixels.shape[-2:]) != expected:
        raise ValueError(f"pixels are {tuple(pixels.shape)}, the frame's are (..., {expected})")
    left, top = frame.offset[0] * factor, frame.offset[1] * factor
    width, height = frame.scaled[0] * factor, frame.scaled[1] * factor
    return pixels[..., top : top + height, left : left + width]


def from_tensor(pixels: Tensor) -> Picture:
    """(3, H, W) in [-1, 1] to RGB: round((x + 1) 127.5), clamped.

    Raises SfumatoError when values are not finite: a run that diverged is never a black picture.
    """
    import torch

    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"pixels must be (3, H, W), not {tuple(pixels.shape)}")
    pixels = pixels.detach().float()
    if not torch.isfinite(pixels).all():
        raise SfumatoError(
            "result: the run diverged (values are not finite); use fewer methods, a lower guidance "
            "scale or dtype float32"
        )
    levels = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Picture.of(PILImage.fromarray(levels.permute(1, 2, 0).contiguous().cpu().numpy()))


def paste(
    result: PILImage.Image,
    original: Picture,
    edit_mask: PILImage.Image | None,
    frame: Frame,
    *,
    opaque: bool = False,
) -> Picture:
    """The result where the edit mask is above 0, the original bit for bit elsewhere.

    result: RGB of the frame's target box; edit_mask: "L" of the picture's size, None: all of it.
    RGBA if the original has alpha; opaque: what was edited shows, as when transparent parts are
    filled.
    Original and mask are resized first when the target is another size.
    """
    _same_size(original, frame)
    left, top, right, bottom = frame.target_box
    if result.size != (right - left, bottom - top):
        raise ValueError(f"result is {result.size}, its place {frame.target_box}")
    target = resized(original, frame)
    alpha = target.getchannel("A") if target.mode == "RGBA" else None
    pixels = target.convert("RGB")
    where = None
    if edit_mask is not None:
        _same_size(edit_mask, frame)
        where = _mask_at_target(edit_mask, frame).crop(frame.target_box).point([0] + [255] * 255)
    pixels.paste(result.convert("RGB"), (left, top), where)
    if alpha is not None:
        if opaque:
            alpha.paste(255, frame.target_box, where)
        pixels.putalpha(alpha)
    return Picture.of(pixels, name=original.name, composite=edit_mask is not None)


def resized(original: Picture, frame: Frame) -> Picture:
    """The original at the target size, with its alpha; its very pixels when the sizes agree."""
    whole = original.with_alpha()
    if frame.target == original.size:
        target: PILImage.Image = whole.copy()
    else:  # RGBA is premultiplied by PIL for this
        target = whole.resize(frame.target, PILImage.Resampling.LANCZOS)
    return Picture.of(target, name=original.name)


def _mask_at_target(mask: PILImage.Image, frame: Frame) -> PILImage.Image:
    return mask if frame.target == frame.picture else shrunk_mask(mask, frame.target)


def _reflected(pixels: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """(h, w, ...) padded to the work size; reflection repeats where the padding is wider."""
    import numpy as np

    left, top = frame.offset
    right = frame.work[0] - frame.scaled[0] - left
    bottom = frame.work[1] - frame.scaled[1] - top
    widths: list[Sides] = [(top, bottom), (left, right), (0, 0)]
    return np.pad(pixels, widths[: pixels.ndim], mode="reflect")


def _same_size(image: Any, frame: Frame) -> None:
    if image.size != frame.picture:
        name = getattr(image, "name", None) or "picture"
        raise SfumatoError(
            f"{name}: is {image.size[0]}x{image.size[1]}, must be "
            f"{frame.picture[0]}x{frame.picture[1]} like the picture that is edited"
        )
