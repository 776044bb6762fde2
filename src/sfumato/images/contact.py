"""Contact sheets: pictures in a captioned grid. Drawing only; saving is the Picture's or PIL's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image as PILImage

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range, whole
from sfumato.images.inputs import ImageInput, open_image
from sfumato.images.picture import Colour, Picture, flattened, ground

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

SMALL, USUAL, LARGE = 64, 256, 512  # up to SMALL pixels stay visible as squares
WIDEST = 4096
LINES = 2


def sheet(
    images: Sequence[Any],
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    *,
    title: str | None = None,
    rows: Sequence[str] | None = None,
    cell: int | None = None,
    background: Colour = (250, 250, 249),
) -> PILImage.Image:
    """RGB sheet of pictures (anything open_image takes, None for an empty place), row by row.

    columns: about as many as rows if not given; rows: a label for each row; cell: longest side of a
    picture in pixels, by default 256 for small ones and up to 512. Small pictures are enlarged,
    those up to 64 px by whole factors; transparent parts are white, as a model sees them; long
    captions take two lines and end in an ellipsis.
    """
    for name, value in (("images", images), ("captions", captions), ("rows", rows)):
        if isinstance(value, str | bytes) or not (value is None or isinstance(value, Sequence)):
            raise SfumatoError(f"sheet: {name} {value!r:.60}: give a list")
    if not isinstance(title, str | None):
        raise SfumatoError(f"sheet: title {title!r:.60}: give a text")
    columns = None if columns is None else whole(columns, "sheet: columns", Range())
    cell = None if cell is None else whole(cell, "sheet: cell", Range())
    if not images:
        raise SfumatoError("sheet: there are no pictures to show; give at least one")
    if captions is not None and len(captions) != len(images):
        raise SfumatoError(
            f"sheet: {len(images)} pictures but {len(captions)} captions; give as many"
        )
    if (columns is not None and columns < 1) or (cell is not None and not 1 <= cell <= WIDEST):
        raise SfumatoError(
            f"sheet: columns = {columns}, cell = {cell}; give columns from 1, and cells from 1 to "
            f"{WIDEST} px"
        )
    pictures = [
        None if image is None else flattened(open_image(image), "white") for image in images
    ]
    side = cell or _side([image for image in pictures if image is not None])
    limit = PILImage.MAX_IMAGE_PIXELS
    area = sum(side**2 * min(i.size) / max(i.size) for i in pictures if i is not None)
    if limit and area > limit:
        raise SfumatoError(
            f"sheet: {len(pictures)} pictures of {side} px are more than {limit:,} pixels; give a "
            "smaller cell or fewer pictures"
        )
    pictures = [None if image is None else _fitted(image, side) for image in pictures]
    columns = columns or min(len(pictures), math.ceil(math.sqrt(len(pictures)) * 1.2))
    style = _Style.of(side, background)
    layout = _Layout.of(pictures, captions, columns, title, rows, style)
    canvas = ground(layout.size, background)
    layout.draw(canvas)
    return canvas


def guides_of(methods: Iterable[Any]) -> dict[str, Picture]:
    """Caption -> picture that methods were given to follow, each once: what a sheet begins with."""
    guides: dict[str, ImageInput] = {}
    for method in methods:
        guide = getattr(method, "reference_picture", None)
        if guide is None or guide.is_tensor or guide in guides.values():
            continue
        names = (guide.name if k == 1 else f"{guide.name} ({k})" for k in itertools.count(1))
        guides[next(name for name in names if name not in guides)] = guide
    return {name: guide.picture() for name, guide in guides.items()}


@dataclass(frozen=True)
class _Style:
    """Fonts and distances that go with a cell's side."""

    text: ImageFont.FreeTypeFont | ImageFont.ImageFont
    heading: ImageFont.FreeTypeFont | ImageFont.ImageFont
    size: int
    gap: int
    margin: int
    ink: tuple[int, int, int]
    faint: tuple[int, int, int]
    hairline: tuple[int, int, int]

    @classmethod
    def of(cls, side: int, background: Colour) -> _Style:
        from PIL import ImageFont

        size = max(11, min(22, round(side / 17)))
        dark = ground((1, 1), background).convert("L").getpixel((0, 0)) < 128  # type: ignore[operator]
        light = (28, 28, 30), (96, 96, 100), (224, 224, 221)
        inks = ((240, 240, 238), (176, 176, 172), (66, 66, 72)) if dark else light
        return cls(
            ImageFont.load_default(size),
            ImageFont.load_default(round(size * 1.35)),
            size,
            max(8, side // 16),
            max(14, side // 9),
            *inks,
        )

    @property
    def line(self) -> int:
        return round(self.size * 1.3)


@dataclass(frozen=True)
class _Layout:
    """Where everything goes; rows are as high as their highest picture."""

    style: _Style
    pictures: list[list[PILImage.Image | None]]
    captions: list[list[list[str]]]
    labels: list[list[str]]
    title: list[str]
    width: int  # of a column
    left: int  # where columns begin
    heights: list[int]
    caption_height: int

    @classmethod
    def of(
        cls,
        cells: list[PILImage.Image | None],
        captions: Sequence[str] | None,
        columns: int,
        title: str | None,
        rows: Sequence[str] | None,
        style: _Style,
    ) -> _Layout:
        width = max((image.width for image in cells if image), default=USUAL)
        width = max(width, 6 * style.size)  # a caption needs some room under a narrow picture
        pictures = [cells[i : i + columns] for i in range(0, len(cells), columns)]
        texts = [_wrapped(text, width - style.size, style.text, LINES) for text in captions or ()]
        labels = [_wrapped(text, 9 * style.size, style.text, 4) for text in rows or ()]
        if rows is not None and len(labels) != len(pictures):
            raise SfumatoError(
                f"sheet: {len(pictures)} rows but {len(labels)} row labels; give as many"
            )
        widest = max((style.text.getlength(line) for label in labels for line in label), default=0)
        left = style.margin + (math.ceil(widest) + style.gap if labels else 0)
        across = left + columns * (width + style.gap) - style.gap - style.margin
        lines = max((len(text) for text in texts), default=0)
        return cls(
            style,
            pictures,
            [texts[i : i + columns] for i in range(0, len(texts), columns)],
            labels,
            _wrapped(title, across, style.heading, LINES) if title else [],
            width,
            left,
            [max((image.height for image in row if image), default=0) for row in pictures],
            lines * style.line + (style.gap // 2 if lines else 0),
        )

    @property
    def top(self) -> int:
        style = self.style
        title = len(self.title) * round(style.line * 1.4)
        return style.margin + (title + style.gap if title else 0)

    @property
    def size(self) -> tuple[int, int]:
        style, columns = self.style, max(len(row) for row in self.pictures)
        width = self.left + columns * (self.width + style.gap) - style.gap + style.margin
        rows = sum(height + self.caption_height + style.gap for height in self.heights)
        return width, self.top + rows - style.gap + style.margin

    def draw(self, canvas: PILImage.Image) -> None:
        from PIL import ImageDraw

        pen, style = ImageDraw.Draw(canvas), self.style
        for i, line in enumerate(self.title):
            at = style.margin, style.margin + i * round(style.line * 1.4)
            pen.text(at, line, style.ink, style.heading)
        y = self.top
        for r, row in enumerate(self.pictures):
            if self.labels:
                label = self.labels[r]
                middle = y + self.heights[r] // 2 - len(label) * style.line // 2
                for i, line in enumerate(label):
                    pen.text((style.margin, middle + i * style.line), line, style.ink, style.text)
            for c, image in enumerate(row):
                x = self.left + c * (self.width + style.gap)
                if image is not None:
                    dx, dy = self.width - image.width, self.heights[r] - image.height
                    left, top = x + dx // 2, y + dy // 2
                    frame = left - 1, top - 1, left + image.width, top + image.height
                    pen.rectangle(frame, outline=style.hairline)
                    canvas.paste(image, (left, top))
                if self.captions:
                    self._caption(pen, self.captions[r][c], x, y + self.heights[r])
            y += self.heights[r] + self.caption_height + style.gap

    def _caption(self, pen: ImageDraw.ImageDraw, lines: list[str], x: int, y: int) -> None:
        style = self.style
        for i, line in enumerate(lines):
            at = x + self.width / 2, y + style.gap // 2 + i * style.line
            pen.text(at, line, style.faint, style.text, anchor="ma")


def _side(pictures: list[PILImage.Image]) -> int:
    longest = max((max(image.size) for image in pictures), default=USUAL)
    return max(USUAL, min(LARGE, longest))


def _fitted(image: PILImage.Image, side: int) -> PILImage.Image:
    """The picture at the cell's size: small ones in whole squares, others smoothly."""
    longest = max(image.size)
    if longest == side:
        return image
    if longest <= SMALL and 2 * longest <= side:
        factor = side // longest
        return image.resize(
            (image.width * factor, image.height * factor), PILImage.Resampling.NEAREST
        )
    scale = side / longest
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, PILImage.Resampling.LANCZOS)


def _wrapped(
    text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, lines: int
) -> list[str]:
    """The text in at most so many lines of the width, with an ellipsis where it was cut."""
    words, wrapped = str(text).split(), [""]
    while words:
        word = words.pop(0)
        longer = f"{wrapped[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            wrapped[-1] = longer
        elif wrapped[-1] and len(wrapped) < lines:
            wrapped.append("")
            words.insert(0, word)
        else:
            rest = " ".join([longer, *words])
            wrapped[-1] = _cut(rest, width, font)
            break
    return wrapped


def _cut(text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    fits, longer = 0, len(text)  # by halves: a text may have thousands of letters
    while fits + 1 < longer:
        middle = (fits + longer) // 2
        if font.getlength(f"{text[:middle].rstrip()}…") <= width:
            fits = middle
        else:
            longer = middle
    return f"{text[:fits].rstrip()}…"
