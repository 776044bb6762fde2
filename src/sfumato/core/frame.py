"""Frame: how a picture's size, the size worked at and the size of the result go together.

Geometry only, all sizes (width, height). How a frame is chosen for a picture is in images/frame.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range, whole

Sides: TypeAlias = tuple[int, int]
Size: TypeAlias = int | Sides | str
Box: TypeAlias = tuple[int, int, int, int]

SIDES = Range(1, 100_000)
"""Pixels; their product has a bound of its own, where pictures are (images.frame)."""


@dataclass(frozen=True)
class Frame:
    """picture: size of the input; box: its part (left, top, right, bottom) that is worked on.

    scaled: the box's size when worked on; work: that padded to the multiple, the box beginning at
    `offset`; target: size of the result; note: one line for people, empty if nothing was changed.
    """

    picture: Sides
    box: Box
    scaled: Sides
    work: Sides
    offset: Sides
    target: Sides
    note: str = ""

    @property
    def target_box(self) -> Box:
        """The box in the result, outwards to whole pixels."""
        return box_at(self.box, self.picture, self.target)

    def reaches(self, factor: int) -> bool:
        """Whether the work area, `factor` times as large, is no smaller than its target box."""
        left, top, right, bottom = self.target_box
        across, down = self.scaled[0] * factor, self.scaled[1] * factor
        return across >= right - left and down >= bottom - top

    @property
    def source_box(self) -> tuple[float, float, float, float]:
        """`target_box` in the picture's pixels: exactly what the work area shows."""
        across, down = self.picture[0] / self.target[0], self.picture[1] / self.target[1]
        left, top, right, bottom = self.target_box
        return left * across, top * down, right * across, bottom * down

    def enlarged(self, factor: int) -> Frame:
        """The same part of the same picture, worked on `factor` times as large."""

        def times(sides: Sides) -> Sides:
            return (sides[0] * factor, sides[1] * factor)

        return replace(
            self, scaled=times(self.scaled), work=times(self.work), offset=times(self.offset)
        )


def box_at(box: Box, picture: Sides, target: Sides) -> Box:
    """A box of the picture in the result, outwards to whole pixels."""
    (width, height), (across, down) = picture, target
    left, top, right, bottom = box
    return (
        left * across // width,
        top * down // height,
        -(-right * across // width),
        -(-bottom * down // height),
    )


def sides(size: Any) -> Size | None:
    """A size as a process keeps it: None, "input", "native", a side, or (width, height)."""
    if size is None or (isinstance(size, str) and size in ("input", "native")):
        return size
    if isinstance(size, tuple | list):
        if len(size) == 2:
            return whole(size[0], "size: width", SIDES), whole(size[1], "size: height", SIDES)
        size = size[0] if len(size) == 1 else str(size)
    if isinstance(size, str):
        raise SfumatoError(
            f'size {size!r:.60}: give a number, (width, height), "input" or "native"'
        )
    return whole(size, "size", SIDES)
