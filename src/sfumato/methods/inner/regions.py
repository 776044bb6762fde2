"""Regions of a picture and the words that belong there: how they are written, and as masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, ValidationInfo

from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.ranges import Range
from sfumato.images import ImageInput
from sfumato.methods.common.kinds import Colour, Text

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.images import Picture

Part = Annotated[float, Range(0, 1)]
NEAR = 8  # levels of 255 by which a colour of a picture may differ from the one that is named


@dataclass(frozen=True)
class Region:
    """words: of the prompt. box: left, top, right, bottom in parts of the picture's sides; or
    colour: all that a picture of the layout has in it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    words: Text
    box: tuple[Part, Part, Part, Part] | None = None
    colour: Colour | None = None

    def __post_init__(self) -> None:
        if (self.box is None) == (self.colour is None):
            raise ValueError("needs a box or a colour, one of the two")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError("its box has no area; write left, top, right, bottom from 0 to 1")
        if not self.words.strip():
            raise ValueError("has no words")

    def __str__(self) -> str:
        where = self.colour if self.box is None else ",".join(f"{side:g}" for side in self.box)
        return f"{self.words}={where}"

    @classmethod
    def read(cls, text: str) -> dict[str, Any]:
        """Its fields, of WORDS=LEFT,TOP,RIGHT,BOTTOM or WORDS=COLOUR."""
        words, equals, where = text.rpartition("=")
        if not equals:
            raise ValueError("must be WORDS=LEFT,TOP,RIGHT,BOTTOM (parts of 1) or WORDS=COLOUR")
        if "," not in where:
            return {"words": words.strip(), "colour": where.strip()}
        try:
            return {"words": words.strip(), "box": tuple(float(p) for p in where.split(","))}
        except ValueError:
            raise ValueError(f"{where!r:.40} is no box; write four parts of 1") from None


def _read(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and info.mode == "python":
        return Region.read(value)
    if isinstance(value, dict) and isinstance(value.get("box"), list):  # JSON has no tuples
        return {**value, "box": tuple(value["box"])}
    return value


Written = Annotated[Region, BeforeValidator(_read)]
"""A region as one may type it; documents have it as an object."""


def masks(method: str, regions: Sequence[Region], layout: ImageInput | None, run: Run) -> Tensor:
    """(regions, H, W) of 0 and 1 at the run's work size in pixels."""
    height, width = (side * run.space.stride for side in run.shape[-2:])
    frame, padding = run.frame, (0, 0, 0, 0)
    shape, box = (width, height), (0.0, 0.0, float(width), float(height))
    if frame is not None:
        shape, box = frame.picture, frame.source_box
        (left, above), (wide, high) = frame.offset, frame.scaled
        padding = (left, width - wide - left, above, height - high - above)
        width, height = wide, high
    across = (box[0] + (torch.arange(width) + 0.5) * (box[2] - box[0]) / width) / shape[0]
    down = (box[1] + (torch.arange(height) + 0.5) * (box[3] - box[1]) / height) / shape[1]
    colours = None if layout is None else _colours(method, layout, shape, across, down)
    rows = []
    for region in regions:
        if region.box is not None:
            inside = _within(down, region.box[1::2])[:, None] & _within(across, region.box[::2])
        elif colours is None:
            raise SfumatoError(f"{method}: region {region}: needs layout, a picture of colours")
        else:
            inside = (colours - torch.tensor(_rgb(region))).abs().amax(-1) <= NEAR
        if not bool(inside.any()):
            raise SfumatoError(f"{method}: region {region}: has no pixel of what is worked on")
        rows.append(inside.float())
    padded = torch.nn.functional.pad(torch.stack(rows)[None], padding, mode="replicate")
    return padded[0].to(run.device)


def _within(parts: Tensor, ends: tuple[float, ...]) -> Tensor:
    return (parts >= ends[0]) & (parts < ends[1])


def _rgb(region: Region) -> tuple[int, ...]:
    from PIL import ImageColor

    return ImageColor.getrgb(str(region.colour))[:3]


def _colours(
    method: str, layout: ImageInput, shape: tuple[int, int], across: Tensor, down: Tensor
) -> Tensor:
    """The layout's at those places, (rows, columns, 3); one of another shape is refused."""
    import numpy as np

    picture: Picture = layout.picture()
    width, height = picture.size
    if abs(width * shape[1] - height * shape[0]) > max(width, height) + max(shape):
        raise SfumatoError(
            f"{method}: layout {layout.name} is {width}x{height}, the picture {shape[0]}x"
            f"{shape[1]}; give both the same shape"
        )
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB")).astype(np.int64))
    return pixels[(down * height).long()][:, (across * width).long()]
