"""The stroke simulator: a picture as if painted with a few broad strokes. Nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image as PILImage

from sfumato.core.errors import SfumatoError
from sfumato.images.inputs import open_image
from sfumato.images.picture import Picture, flattened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDEST = 4095  # sides of the median's window


def strokes(image: Any, colors: int = 6, window: int | None = None) -> Picture:
    """Median filter, then an adaptive palette by median cut (SDEdit, arXiv 2108.01073, D.2).

    image: anything open_image takes, transparent parts on white. colors: 1 to 256. window: odd side
    of the median in pixels, 1 for none; default 23/256 of the shorter side, as in the paper.
    """
    picture = open_image(image)
    if type(colors) is not int or not 1 <= colors <= 256:
        raise SfumatoError(f"colors = {colors!r}: give a whole number from 1 to 256")
    if window is None:
        window = 2 * int(min(picture.size) * 23 / 512) + 1  # the nearest odd number
    if type(window) is not int or not 1 <= window <= WIDEST or window % 2 == 0:
        raise SfumatoError(f"window = {window!r}: give an odd number of pixels, 1 to {WIDEST}")
    smooth = median(flattened(picture, "white"), window)
    painted = smooth.quantize(colors, PILImage.Quantize.MEDIANCUT).convert("RGB")
    return Picture.of(painted, name=picture.name)


def median(image: PILImage.Image, window: int) -> PILImage.Image:
    """Median of each channel over a square window, edges repeated; as PIL's MedianFilter.

    Its time does not depend on the window.
    """
    import numpy as np

    if window == 1:
        return image
    bands = [_median(np.asarray(band), window) for band in image.split()]
    return PILImage.merge(image.mode, [PILImage.fromarray(band) for band in bands])


def _median(values: NDArray[np.uint8], window: int) -> NDArray[np.uint8]:
    """For every level, the values up to it are counted in all windows at once, by running sums.

    The median is the first level that more than half of its window does not exceed.
    """
    import numpy as np

    padded = np.pad(values, window // 2, mode="edge")
    half = window * window // 2
    count = np.uint16 if window <= 255 else np.int32  # differences of sums may wrap around
    levels = np.unique(values)
    index = np.zeros(values.shape, np.uint8)
    for level in levels[:-1]:
        sums: NDArray[Any] = np.cumsum(padded <= level, axis=0, dtype=count)
        columns = sums[window - 1 :].copy()
        columns[1:] -= sums[:-window]
        sums = np.cumsum(columns, axis=1, dtype=count)
        counts = sums[:, window - 1 :].copy()
        counts[:, 1:] -= sums[:, :-window]
        index += counts <= half
    return levels[index]
