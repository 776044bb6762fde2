"""The paintings of demo and gallery, as brush strokes: (colour, width, points) in 256 units.

`python examples/strokes/paint.py` writes the PNGs beside this file. Each was painted by looking at
nothing but the word: a few broad strokes, as a person would with a big brush.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

SCALE = 3  # drawn larger, then averaged down: smooth edges
Point = tuple[float, float]
Stroke = tuple[str, float, list[Point]]

PAINTINGS: dict[str, list[Stroke]] = {
    "red apple": [
        ("#c8202f", 62, [(96, 120), (84, 160), (104, 202)]),
        ("#d92b3a", 66, [(152, 118), (172, 158), (150, 204)]),
        ("#d22536", 70, [(128, 136), (126, 196)]),
        ("#b3182a", 30, [(92, 214), (128, 226), (164, 212)]),
        ("#f0697a", 16, [(86, 128), (78, 150), (80, 166)]),
        ("#6b4226", 12, [(128, 100), (132, 74), (142, 56)]),
        ("#5da130", 24, [(146, 72), (170, 56), (192, 58)]),
    ],
    "hamburger": [
        ("#e2a052", 58, [(66, 104), (92, 76), (164, 76), (190, 104)]),
        ("#e8ab5c", 40, [(74, 104), (182, 104)]),
        ("#6fb03a", 18, [(44, 134), (84, 142), (128, 134), (172, 142), (212, 134)]),
        ("#f4c430", 14, [(56, 150), (128, 154), (200, 150)]),
        ("#d8402f", 12, [(62, 144), (194, 144)]),
        ("#7a4526", 30, [(54, 170), (202, 170)]),
        ("#dd9a4c", 38, [(66, 204), (190, 204)]),
        ("#f6d49a", 7, [(96, 74), (102, 72)]),
        ("#f6d49a", 7, [(126, 62), (132, 62)]),
        ("#f6d49a", 7, [(156, 74), (162, 76)]),
    ],
    "mushroom": [
        ("#f1e4d2", 50, [(126, 150), (122, 212)]),
        ("#e2d0b8", 22, [(106, 160), (102, 214)]),
        ("#f1e4d2", 26, [(146, 160), (144, 216)]),
        ("#d8332f", 70, [(70, 122), (98, 84), (156, 82), (186, 122)]),
        ("#cf2a2c", 40, [(62, 130), (128, 134), (194, 130)]),
        ("#fdf4ee", 24, [(94, 98), (98, 100)]),
        ("#fdf4ee", 28, [(146, 86), (152, 90)]),
        ("#fdf4ee", 18, [(176, 124), (180, 126)]),
        ("#fdf4ee", 16, [(122, 126), (126, 128)]),
    ],
    "tiger face": [
        ("#f28c28", 40, [(62, 74), (72, 92)]),
        ("#f28c28", 40, [(194, 74), (184, 92)]),
        ("#f59433", 96, [(98, 112), (158, 112)]),
        ("#f28c28", 84, [(84, 150), (172, 150)]),
        ("#fff3e4", 40, [(96, 184), (128, 194), (160, 184)]),
        ("#fff3e4", 26, [(58, 168), (66, 186)]),
        ("#fff3e4", 26, [(198, 168), (190, 186)]),
        ("#3a2a20", 10, [(128, 62), (128, 92)]),
        ("#3a2a20", 9, [(104, 66), (110, 88)]),
        ("#3a2a20", 9, [(152, 66), (146, 88)]),
        ("#3a2a20", 10, [(44, 136), (66, 140)]),
        ("#3a2a20", 10, [(212, 136), (190, 140)]),
        ("#2a1d17", 15, [(96, 130), (96, 138)]),
        ("#2a1d17", 15, [(160, 130), (160, 138)]),
        ("#4a2a24", 18, [(122, 162), (134, 162)]),
        ("#4a2a24", 6, [(106, 188), (128, 178), (150, 188)]),
    ],
    "rose": [
        ("#3f8f3a", 14, [(128, 140), (130, 190), (124, 240)]),
        ("#4aa544", 26, [(132, 196), (160, 178), (178, 172)]),
        ("#3f8f3a", 22, [(122, 212), (96, 196), (82, 192)]),
        ("#c81e3c", 60, [(100, 78), (108, 116)]),
        ("#d42a48", 60, [(156, 78), (146, 116)]),
        ("#e03a58", 44, [(128, 62), (128, 108)]),
        ("#b01432", 20, [(96, 118), (128, 140), (160, 118)]),
        ("#f0738a", 10, [(112, 60), (128, 72), (144, 60)]),
        ("#a01030", 8, [(114, 84), (130, 98), (146, 82)]),
    ],
    "pizza": [
        ("#d9993f", 44, [(60, 92), (128, 62), (200, 96)]),
        ("#f0c04c", 60, [(96, 112), (160, 116)]),
        ("#f2c652", 52, [(112, 150), (144, 152)]),
        ("#eebb48", 30, [(128, 176), (130, 210)]),
        ("#c8322a", 26, [(98, 116), (102, 118)]),
        ("#cf3b2e", 28, [(156, 118), (160, 120)]),
        ("#c8322a", 22, [(130, 158), (132, 160)]),
        ("#b97a2c", 14, [(54, 86), (128, 48), (206, 92)]),
        ("#4f8f3a", 8, [(126, 104), (134, 110)]),
    ],
    "sunflower": [
        ("#f7c325", 36, [(128, 44), (128, 60)]),
        ("#f7c325", 36, [(78, 66), (90, 76)]),
        ("#f7c325", 36, [(178, 66), (166, 76)]),
        ("#f7c325", 36, [(60, 114), (76, 114)]),
        ("#f7c325", 36, [(196, 114), (180, 114)]),
        ("#f7c325", 36, [(84, 158), (94, 148)]),
        ("#f7c325", 36, [(172, 158), (162, 148)]),
        ("#f7c325", 36, [(128, 176), (128, 162)]),
        ("#7a4a24", 62, [(124, 112), (132, 112)]),
        ("#4f9a3c", 16, [(128, 186), (126, 244)]),
        ("#4f9a3c", 22, [(132, 220), (166, 206)]),
    ],
}


def smooth(points: list[Point], n: int = 40) -> list[Point]:
    """Points along a Catmull-Rom curve through the given ones."""
    ends = [points[0], *points, points[-1]]
    curve = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for k in range(n):
            t = k / n
            curve.append(
                tuple(
                    0.5
                    * (
                        2 * q
                        + (r - p) * t
                        + (2 * p - 5 * q + 4 * r - s) * t**2
                        + (3 * q - p - 3 * r + s) * t**3
                    )
                    for p, q, r, s in zip(a, b, c, d, strict=True)
                )
            )
    return [*curve, points[-1]]  # type: ignore[list-item]


def paint(strokes: list[Stroke], seed: int) -> Image.Image:
    """Round brush, slightly unsteady, a few bristles a shade lighter or darker."""
    rng = random.Random(seed)
    image = Image.new("RGB", (256 * SCALE, 256 * SCALE), "white")
    draw = ImageDraw.Draw(image)
    for colour, width, points in strokes:
        rgb = tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))
        curve = smooth(points)
        phase = rng.uniform(0, 6)
        for k, (x, y) in enumerate(curve):
            radius = width / 2 * (1 + 0.05 * math.sin(k / 9 + phase))
            dot(draw, x, y, radius, rgb)
        for _ in range(int(width / 9)):
            shift = rng.uniform(-0.38, 0.38) * width
            shade = rng.uniform(-16, 16)
            tone = tuple(max(0, min(255, int(v + shade))) for v in rgb)
            begin, end = sorted(rng.uniform(0, 1) for _ in range(2))
            for x, y in curve[int(begin * len(curve)) : int(end * len(curve))]:
                dot(draw, x + shift * 0.7, y + shift * 0.7, width * 0.04 + 0.6, tone)
    return image.resize((256, 256), Image.Resampling.BOX)


def dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, rgb: tuple[int, ...]) -> None:
    box = [v * SCALE for v in (x - radius, y - radius, x + radius, y + radius)]
    draw.ellipse(box, fill=rgb)  # type: ignore[arg-type]


if __name__ == "__main__":
    for seed, (name, strokes) in enumerate(PAINTINGS.items()):
        paint(strokes, seed).save(
            Path(__file__).parent / f"{name.replace(' ', '-')}.png", optimize=True
        )
