"""Edit masks: opening, making, growing and softening them. 255 = may change, 0 = kept bit for bit.

Masks are PIL "L" images of the picture's size; their tensors are made in tensors.py.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from PIL import Image as PILImage
from PIL import ImageChops

from sfumato.core.errors import SfumatoError
from sfumato.core.frame import Box, Sides
from sfumato.images.decode import decode_mask
from sfumato.images.inputs import ImageInput
from sfumato.images.meaning import FAINTEST, meant
from sfumato.images.picture import Colour, Picture, flattened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


log = logging.getLogger("sfumato")

THRESHOLD = 8  # of 255: what JPEG changes by itself


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
        mask = ImageInput.of(mask)
        return _finished(open_mask(mask, picture.size), f"mask {mask.name}", invert, grow, feather)
    name = picture.name or "picture"
    if painted is not None:
        edit, what = difference_mask(picture, painted), f"{painted.name or 'painted copy'}"
    else:
        edit, what = alpha_mask(picture), f"{name}, by its transparency"
    return _finished(edit, what, invert, grow, feather)


def _finished(
    mask: PILImage.Image, what: str, invert: bool, grow: int, feather: float
) -> PILImage.Image:
    edit = ImageChops.invert(mask) if invert else mask
    return _feathered(_grown(acting(edit, f"{what}, inverted" if invert else what), grow), feather)


def acting(mask: PILImage.Image, what: str) -> PILImage.Image:
    """The mask, if it lets anything visibly change; says when it lets all of the picture.

    what: whose mask it is.
    """
    least, most = _extremes(mask)
    if most == 0:
        raise SfumatoError(
            f"{what}: nothing may change, the mask is black everywhere; make the part to edit "
            "white (or paint it, or clear it), or give invert"
        )
    if most < FAINTEST:
        raise SfumatoError(
            f"{what}: lets nothing change by more than {most / 255:.0%}; make the part to edit "
            "wholly white, or transparent"
        )
    if least > 0:
        log.info("%s: all of the picture may change", what)
    return mask


def _extremes(mask: PILImage.Image) -> tuple[int, int]:
    levels = [v for v, count in enumerate(mask.histogram()) if count]
    return levels[0], levels[-1]


def edit_share(mask: PILImage.Image) -> float:
    """Of all pixels, those that may change."""
    kept = mask.convert("L").histogram()[0]
    return 1 - kept / (mask.width * mask.height)


def open_mask(source: Any, size: Sides, *, invert: bool = False) -> PILImage.Image:
    """ "L" mask from anything open_image takes; what its form says is `meaning`.

    size: of the picture; another one is an error, a mask is never resized silently.
    """
    image = ImageInput.of(source)
    if image.is_tensor:
        raise SfumatoError(
            f"mask {image.name}: holds a tensor, and the picture is none; give the mask as a file, "
            "a PIL image or a numpy array"
        )
    picture = decode_mask(image.data, image.name)
    if picture.size != size:
        raise SfumatoError(
            f"mask {image.name}: is {picture.width}x{picture.height}, the picture is "
            f"{size[0]}x{size[1]}; make them the same size"
        )
    mask = meant(picture, image.name, jpeg=image.data.startswith(b"\xff\xd8"))
    return ImageChops.invert(mask) if invert else mask


def extended(
    picture: Picture, margins: tuple[int, int, int, int], background: Colour = "white"
) -> tuple[Picture, PILImage.Image]:
    """A picture with left, top, right, bottom margins of its border's colours; their edit mask.

    Margins are opaque; beside transparent parts they have the background's colour.
    """
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
    opaque = np.asarray(flattened(picture, background))
    pixels = PILImage.fromarray(np.pad(opaque, ((top, bottom), (left, right), (0, 0)), mode="edge"))
    pixels.paste(picture, (left, top))
    alpha = None
    if picture.alpha is not None:
        alpha = PILImage.new("L", pixels.size, 255)
        alpha.paste(picture.alpha, (left, top))
    mask = PILImage.new("L", pixels.size, 255)
    mask.paste(0, (left, top, left + picture.width, top + picture.height))
    return Picture.of(pixels, alpha=alpha, name=picture.name), mask


def alpha_mask(picture: Picture) -> PILImage.Image:
    """255 - alpha: transparent parts may change."""
    if picture.alpha is None:
        raise SfumatoError(
            f"{picture.name or 'picture'}: has no transparent parts to use as the edit mask; "
            "give a mask"
        )
    return ImageChops.invert(picture.alpha)


def difference_mask(photo: Picture, painted: Picture, threshold: int = THRESHOLD) -> PILImage.Image:
    """255 where any channel was painted over: differs by more than the threshold.

    painted is a copy of the photo, or a transparent layer of strokes to lie over it. A copy that
    lost the photo's transparency is compared with the photo on white, on black and with its hidden
    colours, whichever is nearest.
    """
    _check_sizes(photo, painted)
    if photo.alpha is None:
        return _marked(_apart(photo, painted_over(photo, painted)), threshold)
    if painted.alpha is None:
        grounds: list[PILImage.Image] = [
            PILImage.composite(photo, PILImage.new("RGB", photo.size, ground), photo.alpha)
            for ground in ("white", "black")
        ]
        candidates = [_marked(_apart(one, painted), threshold) for one in [*grounds, photo]]
        return min(candidates, key=edit_share)
    over = painted_over(photo, painted)
    touched = ImageChops.lighter(
        _apart(photo, painted), ImageChops.difference(photo.alpha, painted.alpha)
    )
    visible = _marked(painted.alpha, 0)
    same = ImageChops.darker(visible, ImageChops.invert(_marked(touched, threshold)))
    # most of a copy's pixels are the photo's; what is clear in it was erased, in a layer untouched
    copy = 2 * edit_share(same) > edit_share(visible)
    alpha = painted.alpha if copy else over.alpha or painted.alpha
    most = ImageChops.lighter(_apart(photo, over), ImageChops.difference(photo.alpha, alpha))
    return ImageChops.darker(_marked(most, threshold), _marked(touched, threshold))


def painted_over(photo: Picture, painted: Picture) -> Picture:
    """The painted copy itself; of a transparent layer, the photo under its strokes."""
    _check_sizes(photo, painted)
    if painted.alpha is None:
        return painted
    composite = PILImage.composite(painted, photo, painted.alpha)
    alpha = None if photo.alpha is None else ImageChops.screen(photo.alpha, painted.alpha)
    return Picture.of(composite, alpha=alpha, name=painted.name)


def _check_sizes(photo: Picture, painted: Picture) -> None:
    if photo.size != painted.size:
        raise SfumatoError(
            f"{painted.name or 'painted copy'}: is {painted.width}x{painted.height}, the picture "
            f"{photo.width}x{photo.height}; paint on a copy of the same size"
        )


def _apart(one: PILImage.Image, other: PILImage.Image) -> PILImage.Image:
    """ "L": the largest difference of any colour."""
    red, green, blue = ImageChops.difference(one.convert("RGB"), other.convert("RGB")).split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


def _marked(values: PILImage.Image, threshold: int) -> PILImage.Image:
    return values.point([255 if v > threshold else 0 for v in range(256)])


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
    bounds = mask.getbbox()
    if bounds is None:
        return None
    left, top, right, bottom = bounds
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
