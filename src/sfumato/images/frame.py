"""Which Frame a picture gets: its work size and its target, by a model's sizes and the user's.

Geometry only, all sizes (width, height); pixels are resized and padded in tensors.py.
"""

from __future__ import annotations

import math
from typing import Any

from PIL import Image as PILImage

from sfumato.core.errors import SfumatoError
from sfumato.core.frame import Box, Frame, Sides, Size, box_at

TOO_LONG = 1.5  # in native sides: a longer picture is worked on at about native area


def plan_frame(
    picture: Sides | None,
    *,
    native: int | Sides,
    multiple: int,
    maximum: int,
    cascade: bool = False,
    factor: int = 1,
    size: Size | None = None,
    box: Box | None = None,
    what: str = "picture",
) -> Frame:
    """The frame of an edit, or with picture None of a picture made from nothing.

    native, multiple, maximum: of the model's base; factor: its result over its base. A cascade
    works at about native area; another model does when a side is longer than 1.5 native sides.
    What does not fit into `maximum` is made smaller, never stretched.
    size: None as the picture; "input" the same, and worked on at full size; "native" the model's
    own; (width, height); a number, the longer side of an edit, both sides of a new picture.
    Raises SfumatoError for other sizes and for "input" beyond maximum.
    """
    base = (native, native) if isinstance(native, int) else (native[0], native[1])
    limit = max(maximum // multiple, 1) * multiple
    asked = _asked(size)
    from_nothing = picture is None
    if picture is None:
        picture = _blank(asked, base, factor)
        asked = None
    if asked == "native":
        box = None
    box = box or (0, 0, *picture)
    if asked == "native":
        scaled = _fitted(picture, base, limit)
        target = scaled[0] * factor, scaled[1] * factor
    else:
        target = _target(asked, picture, what)
        left, top, right, bottom = box_at(box, picture, target)
        region = right - left, bottom - top
        whole = asked == "input" or not (cascade or max(region) > min(TOO_LONG * max(base), limit))
        scaled = region if whole else _fitted(region, base, limit)
    work = _padded(scaled[0], multiple), _padded(scaled[1], multiple)
    if max(work) > maximum:
        raise SfumatoError(
            f"{what}: {_text(picture)} would be worked on at {_text(work)}, the model goes up to "
            f'{maximum} a side; leave out size="input" or give a smaller picture'
        )
    offset = (work[0] - scaled[0]) // 2, (work[1] - scaled[1]) // 2
    easy = (scaled[0] * factor, scaled[1] * factor) == target if from_nothing else scaled == target
    plain = easy and work == scaled and target == picture and box == (0, 0, *picture)
    frame = Frame(picture, box, scaled, work, offset, target)
    return frame if plain else Frame(picture, box, scaled, work, offset, target, _note(frame))


def whole_frame(picture: Sides, multiple: int, maximum: int, factor: int) -> Frame:
    """A picture worked on at its own size, its result `factor` times as large."""
    if max(picture) > maximum:
        raise SfumatoError(
            f"picture {_text(picture)}: its sides may be up to {maximum} px here; make it smaller "
            "or cut it into parts"
        )
    work = (_padded(picture[0], multiple), _padded(picture[1], multiple))
    offset = ((work[0] - picture[0]) // 2, (work[1] - picture[1]) // 2)
    target = (picture[0] * factor, picture[1] * factor)
    return Frame(picture, (0, 0, *picture), picture, work, offset, target)


def _asked(size: Any) -> Any:
    """None, "input", "native", a number or a pair, checked."""
    if size is None or size in ("input", "native"):
        return size
    pair = size if isinstance(size, tuple | list) else (size,)
    if len(pair) not in (1, 2) or any(type(side) is not int for side in pair):
        raise SfumatoError(
            f'size {size!r:.60}: give a number, (width, height), "input" or "native"'
        )
    limit = PILImage.MAX_IMAGE_PIXELS or math.inf
    pixels = math.prod(pair) if len(pair) == 2 else pair[0]  # the other side may be 1
    if min(pair) < 1 or pixels > limit:
        raise SfumatoError(
            f"size {size!r:.60}: sides must be at least 1, and the area {limit:,} px"
        )
    return tuple(pair) if isinstance(size, tuple | list) else size


def _blank(asked: Any, base: Sides, factor: int) -> Sides:
    if asked == "input":
        raise SfumatoError('size "input": there is no input picture; give a number or leave it out')
    if asked is None or asked == "native":
        return base[0] * factor, base[1] * factor
    return _bounded((asked, asked) if isinstance(asked, int) else asked)


def _target(asked: Any, picture: Sides, what: str) -> Sides:
    if asked is None or asked == "input":
        return picture
    if isinstance(asked, int):
        scale = asked / max(picture)
        return _bounded((max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale))))
    width, height = asked
    near = (
        abs(width - picture[0] * height / picture[1]),
        abs(height - picture[1] * width / picture[0]),
    )
    if min(near) > 1:
        fit = max(1, round(picture[1] * width / picture[0]))
        raise SfumatoError(
            f"size {width}x{height}: the {what} is {_text(picture)}, another shape, and is never "
            f"stretched; give {width}x{fit} or crop it first"
        )
    return width, height


def _bounded(size: Sides) -> Sides:
    limit = PILImage.MAX_IMAGE_PIXELS
    if limit and size[0] * size[1] > limit:
        raise SfumatoError(f"size {_text(size)}: more than {limit:,} pixels; give a smaller one")
    return size


def _fitted(size: Sides, base: Sides, limit: int) -> Sides:
    """About the base's area in the size's shape, no side above the limit."""
    scale = math.sqrt(base[0] * base[1] / (size[0] * size[1]))
    scale = min(scale, limit / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _padded(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _text(size: Sides) -> str:
    return f"{size[0]}x{size[1]}"


def _note(frame: Frame) -> str:
    left, top, right, bottom = frame.box
    area = right - left, bottom - top
    line = f"work size: {_text(area)}"
    if area != frame.picture:
        line += f" of {_text(frame.picture)}"
    if frame.scaled != area:
        line += f" -> {_text(frame.scaled)}"
    if frame.work != frame.scaled:
        line += f", padded to {_text(frame.work)}"
    return f"{line}; result {_text(frame.target)}"
