"""What a mask file says by its form: greys, two values, or paint on black or on nothing.

docs/masks.md tells users the rule. What leaves it open which part is meant is refused.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from PIL import Image as PILImage

from sfumato.core.errors import SfumatoError
from sfumato.images.picture import Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger("sfumato")

FAINTEST = 64  # of 255: a mask whose brightest value is below lets nothing visibly change
_BLACK = 16  # up to here paint counts as black
_TINT = 24  # channels this far apart are still a grey, after JPEG or a dark palette
_HUE = 40  # how far a channel may be off and still be the same paint
_LEVELS = 64  # more greys than a hand-made mask has
_ADVICE = "paint the part to edit white and the rest black"


def meant(picture: Picture, name: str, *, jpeg: bool = False) -> PILImage.Image:
    """The mask as "L": 255 = may change, 0 = kept, greys in between change as much.

    jpeg: values within 16 of black or white become that, since JPEG adds such shadows to edges.
    Raises SfumatoError for a photo and for what could mean either part.
    """
    import numpy as np

    if picture.alpha is not None and (painted := _painted(picture, name)) is not None:
        return painted
    rgb = picture.convert("RGB")
    if picture.alpha is not None:
        rgb = PILImage.composite(rgb, PILImage.new("RGB", rgb.size), picture.alpha)
    pixels = np.asarray(rgb)
    if int((pixels.max(2) - pixels.min(2)).max()) > _TINT:
        return _snapped(_coloured(rgb, name, picture.alpha is not None), jpeg)
    return _grey(_snapped(rgb.convert("L"), jpeg), name)


def _snapped(mask: PILImage.Image, jpeg: bool) -> PILImage.Image:
    low, high = _BLACK, 255 - _BLACK
    snap = [0 if v < low else 255 if v > high else v for v in range(256)]
    return mask.point(snap) if jpeg else mask


def _painted(picture: Picture, name: str) -> PILImage.Image | None:
    """Paint of one colour on transparency is the edit, None where there is no such paint."""
    import numpy as np

    assert picture.alpha is not None
    alpha, pixels = np.asarray(picture.alpha), np.asarray(picture)
    if alpha.min() > 0:
        return None
    paint = pixels[alpha > 127]
    if not len(paint) or int((paint.max(0) - paint.min(0)).max()) > _TINT:
        return None
    if paint.max() <= _BLACK:
        raise SfumatoError(
            f"mask {name}: is black on transparency, and both say that nothing may change; paint "
            "the part to edit white"
        )
    if paint.min() < 255 - _BLACK:
        log.info("mask %s: what is painted on its transparent ground may change", name)
    return picture.alpha.copy()


def _grey(mask: PILImage.Image, name: str) -> PILImage.Image:
    levels = [v for v, count in enumerate(mask.histogram()) if count]
    if len(levels) == 1 and levels[0] not in (0, 255):
        raise SfumatoError(f"mask {name}: is one grey everywhere ({levels[0]} of 255); {_ADVICE}")
    if len(levels) == 2:
        if levels != [0, 255]:
            log.info(
                "mask %s: has the values %d and %d of 255; the brighter may change", name, *levels
            )
        return mask.point([255 if v == levels[1] else 0 for v in range(256)])
    if levels[-1] and levels[-1] < FAINTEST:
        raise SfumatoError(
            f"mask {name}: its {len(levels)} values end at {levels[-1]} of 255, as numbers of "
            f"classes do; {_ADVICE}"
        )
    if len(levels) > _LEVELS and _is_photo(mask):
        raise SfumatoError(f"mask {name}: looks like a photo; {_ADVICE}")
    return mask


def _coloured(rgb: PILImage.Image, name: str, clear: bool) -> PILImage.Image:
    """Paint of one colour on black, or two colours of which one is clearly brighter."""
    import numpy as np

    pixels = np.asarray(rgb).astype(np.int32)
    value = pixels.max(2)
    paint = pixels[np.unravel_index(value.argmax(), value.shape)]
    shades = value[..., None] * paint / value.max()
    if (value <= _BLACK).any() and np.abs(pixels - shades).max() <= _HUE:
        log.info("mask %s: is painted in colour; what is painted may change", name)
        scaled = np.rint(value * 255 / value.max())
        return PILImage.fromarray(np.where(value <= _BLACK, 0, scaled).astype(np.uint8))
    colours = rgb.getcolors(_LEVELS)
    if colours is None:
        hint = "its transparency alone is taken as a mask by alpha_mask; " if clear else ""
        raise SfumatoError(
            f"mask {name}: looks like a photo, or has been painted on one; {hint}{_ADVICE}, or "
            "give a painted copy as strokes"
        )
    if len(colours) == 1:
        raise SfumatoError(f"mask {name}: is one colour everywhere; {_ADVICE}")
    if len(colours) == 2:
        dark, bright = sorted((colour for _, colour in colours), key=_luminance)
        on_white = _is_grey(bright) and not _is_grey(dark)
        if _luminance(bright) - _luminance(dark) >= FAINTEST and not on_white:
            log.info("mask %s: has two colours; the brighter may change", name)
            return _where(pixels, bright)
    raise SfumatoError(
        f"mask {name}: has {len(colours)} colours, unclear which is meant; {_ADVICE}"
    )


def _where(pixels: NDArray[np.int32], colour: Any) -> PILImage.Image:
    same = (pixels == colour).all(2)
    return PILImage.fromarray(same).convert("L")


def _is_grey(colour: Any) -> bool:
    return bool(max(colour) - min(colour) <= _TINT)


def _luminance(colour: Any) -> float:
    red, green, blue = colour
    return float(0.299 * red + 0.587 * green + 0.114 * blue)


def _is_photo(mask: PILImage.Image) -> bool:
    """Much of it is grey, and there it is rougher than a soft brush or a gradient.

    Rough: second differences as large as first ones; of a brush they are a fraction of them.
    """
    import numpy as np

    v = np.asarray(mask).astype(np.float32)
    if min(v.shape) < 8:
        return False
    inner = v[1:-1, 1:-1]
    between = (inner > _BLACK) & (inner < 255 - _BLACK)
    if between.mean() < 0.25:
        return False
    down, right = v[2:, 1:-1] - inner, v[1:-1, 2:] - inner
    up, left = inner - v[:-2, 1:-1], inner - v[1:-1, :-2]
    first = (np.abs(down) + np.abs(right) + np.abs(up) + np.abs(left))[between].mean() / 4
    second = (np.abs(down - up) + np.abs(right - left))[between].mean() / 2
    return bool(second > 0.8 * first and second > 1)
