"""Edit masks: opening, making, growing and softening them. 255 = may change, 0 = kept bit for bit.

Masks are PIL "L" images of the picture's size; their tensors are made in work.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from PIL import Image as PILImage
from PIL import ImageChops

from sfumato.core.errors import SfumatoError
from sfumato.images.frame import Box, Sides
from sfumato.images.inputs import ImageInput
from sfumato.images.picture import Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

THRESHOLD = 8  # of 255: what JPEG changes by itself
_JPEG_RINGING = 16


def edit_mask(
    picture: Picture,
    *,
    mask: Any = None,
    painted: Picture | None = None,
    invert: bool = False,
    grow: int = 0,
    feather: float = 0,
) -> PILImage.Image:
    """The edit mask of a picture: given, or where a painted-over copy differs, or its transparency.

    Grown first, then feathered inwards. Raises SfumatoError when nothing would change.
    """
    if mask is not None:
        made = open_mask(mask, picture.size)
    elif painted is not None:
        made = difference_mask(picture, painted)
    else:
        made = alpha_mask(picture)
    if invert:
        made = ImageChops.invert(made)
    if made.getbbox() is None:
        raise SfumatoError(
            "mask: nothing may change, it is black everywhere; paint the part to edit white, or "
            "give invert"
        )
    return _feathered(_grown(made, grow), feather)


def open_mask(source: Any, size: Sides, *, invert: bool = False) -> PILImage.Image:
    """ "L" mask from anything open_image takes: its luminance, transparent parts black.

    Values of a JPEG within 16 of black or white become that, since JPEG adds such shadows to edges.
    size: of the picture; another one is an error, a mask is never resized silently.
    """
    from sfumato.images.work import flattened

    given = ImageInput.of(source)
    picture = given.picture()
    if picture.size != size:
        raise SfumatoError(
            f"mask {given.name}: is {picture.width}x{picture.height}, the picture is "
            f"{size[0]}x{size[1]}; make them the same size"
        )
    mask = flattened(picture, "black").convert("L")
    if given.data.startswith(b"\xff\xd8"):
        low, high = _JPEG_RINGING, 255 - _JPEG_RINGING
        mask = mask.point([0 if v < low else 255 if v > high else v for v in range(256)])
    return ImageChops.invert(mask) if invert else mask


def extended(
    picture: Picture, margins: tuple[int, int, int, int]
) -> tuple[Picture, PILImage.Image]:
    """A picture with left, top, right, bottom margins of its border's colours; their edit mask."""
    import numpy as np

    if min(margins) < 0:
        raise SfumatoError(f"extend {margins}: left, top, right, bottom must be 0 or more")
    left, top, right, bottom = margins
    sides = picture.width + left + right, picture.height + top + bottom
    limit = PILImage.MAX_IMAGE_PIXELS or math.inf
    if math.prod(sides) > limit:
        raise SfumatoError(
            f"extend {margins}: makes {sides[0]}x{sides[1]}, more than {limit:,} pixels; give less"
        )
    pixels = np.pad(np.asarray(picture), ((top, bottom), (left, right), (0, 0)), mode="edge")
    mask = PILImage.new("L", (pixels.shape[1], pixels.shape[0]), 255)
    mask.paste(0, (left, top, left + picture.width, top + picture.height))
    return Picture.of(PILImage.fromarray(pixels), name=picture.name), mask


def alpha_mask(picture: Picture) -> PILImage.Image:
    """255 - alpha: transparent parts may change."""
    if picture.alpha is None:
        raise SfumatoError(
            f"{picture.name or 'picture'}: has no transparent parts to use as the edit mask; "
            "give a mask"
        )
    return ImageChops.invert(picture.alpha)


def difference_mask(photo: Picture, painted: Picture, threshold: int = THRESHOLD) -> PILImage.Image:
    """255 where any channel differs by more than the threshold.

    A painted layer with transparency is laid over the photo first.
    """
    if photo.size != painted.size:
        raise SfumatoError(
            f"{painted.name or 'painted copy'}: is {painted.width}x{painted.height}, the picture "
            f"{photo.width}x{photo.height}; paint on a copy of the same size"
        )
    over: PILImage.Image = painted
    if painted.alpha is not None:
        over = PILImage.composite(painted, photo, painted.alpha)
    channels = list(ImageChops.difference(photo.convert("RGB"), over.convert("RGB")).split())
    if photo.alpha is not None:
        opaque = PILImage.new("L", photo.size, 255)
        channels.append(ImageChops.difference(photo.alpha, painted.alpha or opaque))
    most = channels[0]
    for channel in channels[1:]:
        most = ImageChops.lighter(most, channel)
    return most.point([255 if v > threshold else 0 for v in range(256)])


def grow(mask: PILImage.Image, pixels: int) -> PILImage.Image:
    """The mask enlarged by so many pixels on every side (largest value in a square)."""
    import numpy as np

    if pixels < 0:
        raise SfumatoError(f"grow = {pixels}: must be at least 0")
    values = np.asarray(mask)
    for axis in (0, 1) if pixels else ():
        values = _running_max(values, pixels, axis)
    return PILImage.fromarray(values)


def feather(mask: PILImage.Image, pixels: float) -> PILImage.Image:
    """Softened inwards: values rise from the edge to their own over so many pixels.

    Every pixel that may change stays above 0, kept pixels stay 0. Distances are counted in steps
    across sides; the picture's own border is no edge.
    """
    import numpy as np

    if not pixels >= 0:
        raise SfumatoError(f"feather = {pixels}: must be at least 0")
    values = np.asarray(mask)
    depth = _depth(values > 0)
    soft = np.rint(values * np.minimum(depth / (pixels + 1), 1))
    return PILImage.fromarray(np.where(values > 0, np.maximum(soft, 1), 0).astype(np.uint8))


_grown, _feathered = grow, feather  # edit_mask has options of these names


def mask_box(mask: PILImage.Image, picture_size: Sides) -> Box | None:
    """The part worth working on: what may change, and around it half its longer side (8 px up).

    None when that is more than half of the picture, or when nothing may change.
    """
    found = mask.getbbox()
    if found is None:
        return None
    left, top, right, bottom = found
    around = max(8, -(-max(right - left, bottom - top) // 2))
    width, height = picture_size
    left, top = max(0, left - around), max(0, top - around)
    right, bottom = min(width, right + around), min(height, bottom + around)
    if 2 * (right - left) * (bottom - top) > width * height:
        return None
    return left, top, right, bottom


def shrunk_mask(mask: PILImage.Image, size: Sides) -> PILImage.Image:
    """At another size: every cell is the largest value of all pixels it touches, even in part."""
    import numpy as np

    values = np.asarray(mask.convert("L"))
    if mask.size == size:
        return PILImage.fromarray(values)
    values = _cells(_cells(values, size[1]).T, size[0]).T
    return PILImage.fromarray(np.ascontiguousarray(values))


def _cells(values: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """(length, w) -> (n, w): cell i touches pixels floor(i length/n) to ceil((i+1) length/n)."""
    import numpy as np

    length, cell = len(values), np.arange(n)
    first = cell * length // n
    last = -(-(cell + 1) * length // n) - 1
    # reduceat ends where the next cell begins; the one pixel they share is added
    return np.maximum(np.maximum.reduceat(values, first, axis=0), values[last])


def _running_max(values: NDArray[np.uint8], radius: int, axis: int) -> NDArray[np.uint8]:
    """Maximum over 2 radius + 1 values, by windows of doubling width."""
    import numpy as np

    rows = np.moveaxis(values, axis, 0)
    rows = np.pad(rows, [(radius, radius), (0, 0)])
    width, full = 1, 2 * radius + 1
    while width < full:
        step = min(width, full - width)
        rows = np.maximum(rows[:-step], rows[step:])
        width += step
    return np.ascontiguousarray(np.moveaxis(rows, 0, axis))


def _depth(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Steps across sides from each inner pixel to the nearest outer one (0 outside)."""
    import numpy as np

    depth = np.where(inside, np.float32(sum(inside.shape)), np.float32(0))
    for axis in (0, 1):
        ramp = np.arange(inside.shape[axis], dtype=np.float32)
        ramp = ramp[:, None] if axis == 0 else ramp[None]
        ahead = np.minimum.accumulate(depth - ramp, axis=axis) + ramp
        back = np.flip(np.minimum.accumulate(np.flip(depth + ramp, axis), axis=axis), axis) - ramp
        depth = np.minimum(ahead, back)
    return depth
