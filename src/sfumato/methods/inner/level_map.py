"""A map of start levels: how far each region of a picture may go (arXiv 2306.00950)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from PIL import ImageChops

from sfumato import images
from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.images import ImageInput

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from torch import Tensor


@dataclass(frozen=True)
class LevelMap:
    """image: a grey picture of `size`, white 1 and black 0; or a tensor in [0, 1], size None."""

    image: ImageInput
    size: tuple[int, int] | None

    @cached_property
    def grey(self) -> PILImage:
        """PIL "L"; what is not grey has no level."""
        picture, name = self.image.picture(), f"t0_map {self.image.name}"
        if picture.size != self.size:
            width, height = self.size or (0, 0)
            raise SfumatoError(
                f"{name}: is {picture.width}x{picture.height}, the picture is {width}x{height}; "
                "make them the same size"
            )
        red, green, blue = picture.split()
        if picture.alpha is not None or _apart(red, green) or _apart(green, blue):
            what = "coloured" if picture.alpha is None else "partly transparent"
            raise SfumatoError(f"{name}: is {what}; give an opaque grey picture, black is kept")
        return images.acting(picture.convert("L"), name)

    @property
    def edit_mask(self) -> PILImage:
        """What may change at all; a picture is pasted there whole, not blended."""
        return self.grey.point(lambda level: 255 if level else 0)

    @cached_property
    def most(self) -> float:
        """The highest level."""
        if self.size is not None:
            return max(level for level, count in enumerate(self.grey.histogram()) if count) / 255
        most = float(self.image.tensor().max())
        if not 0 < most <= 1:
            raise SfumatoError(
                f"sdedit: t0_map {self.image.name}: its highest level is {most:g}; give 0 to 1"
            )
        return most

    def cells(self, run: Run) -> Tensor:
        """Levels of a state's cells, each the highest of its pixels, (1, h, w) or like a state."""
        if self.size is None:
            return self.image.edit_mask("sdedit", run)
        assert run.frame is not None
        work = images.mask_to_work(self.grey, run.frame).to(run.device)
        return images.mask_to_cells(work, run.space.stride)


def _apart(one: PILImage, other: PILImage) -> bool:
    """Whether two channels differ by more than JPEG makes them."""
    return any(ImageChops.difference(one, other).histogram()[9:])
