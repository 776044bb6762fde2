"""Sizes of a call: at which a result is worked on, by the rule of each family's pipeline."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sfumato.compat.families import Sides
from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range, whole
from sfumato.models.model import Model

log = logging.getLogger("sfumato")

TABLES: Mapping[str, Mapping[int, int]] = {
    "pixart": {32: 256, 64: 512, 128: 1024, 256: 2048},
    "sana": {16: 512, 32: 1024, 64: 2048, 128: 4096},
}
"""Cells of a network's native side -> the table of sizes that its pipeline works at."""
AREA = Range(1, 1 << 26)


@dataclass(frozen=True)
class Size:
    """(width, height) that is worked at; shown: what a result is brought to and cut to."""

    work: tuple[int, int]
    shown: tuple[int, int] | None = None


def size_of(
    model: Model, sides: Sides, given: Mapping[str, Any], usual: tuple[int, int] | None = None
) -> Size:
    """What width and height of a call come to; usual: in place of the model's own."""
    width, height = (
        _side(model, given, name, one)
        for name, one in zip(("width", "height"), usual or model.card.native, strict=True)
    )
    if sides in TABLES:
        if given["use_resolution_binning"]:
            return Size(_of_table(model, sides, width, height), (width, height))
    elif sides == "kontext":
        width, height = _of_area(model, width, height, whole(given["max_area"], "max_area", AREA))
    elif sides == "hunyuan":
        width, height = _of_shapes(width, height, bool(given["use_resolution_binning"]))
    elif sides == "kandinsky":
        block = model.space.stride**2
        width, height = (-(-side // block) * block for side in (width, height))
    multiple = model.card.multiple
    for name, side in (("width", width), ("height", height)):
        if side % multiple:
            raise SfumatoError(f"{name} = {side}: must be a multiple of {multiple}")
    return Size((width, height))


def _side(model: Model, given: Mapping[str, Any], name: str, usual: int) -> int:
    value = given.get(name)
    return usual if value is None else whole(value, name, Range(1, model.card.maximum))


def _of_table(model: Model, sides: str, width: int, height: int) -> tuple[int, int]:
    """The size of a table whose shape is the nearest."""
    from diffusers.image_processor import PixArtImageProcessor
    from diffusers.pipelines.pixart_alpha import pipeline_pixart_sigma
    from diffusers.pipelines.sana import pipeline_sana

    cells = model.card.native[0] // model.space.stride
    module: Any = pipeline_sana if sides == "sana" else pipeline_pixart_sigma
    table = getattr(module, f"ASPECT_RATIO_{TABLES[sides].get(cells)}_BIN", None)
    if table is None:
        raise SfumatoError(
            f"use_resolution_binning: there is no table of sizes for a network of {cells} cells; "
            "give False"
        )
    near = PixArtImageProcessor.classify_height_width_bin(height, width, ratios=table)
    return int(near[1]), int(near[0])


def _of_area(model: Model, width: int, height: int, area: int) -> tuple[int, int]:
    """The size of an area and about the same shape."""
    multiple, ratio = model.card.multiple, width / height
    sides = tuple(round((area * one) ** 0.5) // multiple * multiple for one in (ratio, 1 / ratio))
    if sides != (width, height):
        log.warning("size: brought to %d x %d, of max_area %d", *sides, area)
    return sides[0], sides[1]


def _of_shapes(width: int, height: int, standard: bool) -> tuple[int, int]:
    """Whole blocks of 16; standard: the nearest of Hunyuan-DiT's shapes."""
    from diffusers.pipelines.hunyuandit import pipeline_hunyuandit

    theirs: Any = pipeline_hunyuandit
    width, height = width // 16 * 16, height // 16 * 16
    if standard and (height, width) not in theirs.SUPPORTED_SHAPE:
        near = theirs.map_to_standard_shapes(width, height)
        log.warning("size: brought to %d x %d, a shape that Hunyuan-DiT knows", *near)
        return int(near[0]), int(near[1])
    return width, height
