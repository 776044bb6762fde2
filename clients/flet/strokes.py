"""Strokes as lists of points, and the picture that they paint over, at its own size."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageOps

LARGEST = 2048  # pixels of a side of what is sent


@dataclass
class Stroke:
    """points and width are shares of the picture's width and height, so that they fit any size."""

    colour: str
    width: float
    points: list[tuple[float, float]] = field(default_factory=list)


def opened(data: bytes) -> Image.Image:
    """A photo: upright, without transparency, no larger than is sent."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGBA")
    image.thumbnail((LARGEST, LARGEST))
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def encoded(image: Image.Image) -> bytes:
    """As a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def painted(base: Image.Image, strokes: list[Stroke]) -> Image.Image:
    """The picture with the strokes over it, each with round ends and joints."""
    image = base.copy()
    draw = ImageDraw.Draw(image)
    for stroke in strokes:
        half = max(1.0, stroke.width * image.width) / 2
        points = [(x * image.width, y * image.height) for x, y in stroke.points]
        draw.line(points, stroke.colour, round(2 * half), "curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - half, y - half, x + half, y + half), stroke.colour)
    return image
