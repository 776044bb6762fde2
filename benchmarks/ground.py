"""Claim: flat areas come out flat: white ground is white, and single colours have no grain.

Pictures of the bundled cascade from words, first seeds, at each of its stages; the held-out
originals beside them. White: what is connected to the border and within a tenth of the range of
white. Flat: squares of 1/16 of the side inside the drawing whose four corners have one colour,
within 4 of 255. Figures in levels of 255. Aim: white 254 to 255, deviation below 1.
`python benchmarks/ground.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import sfumato as sf
from sfumato.measure import heldout

PROMPTS = ("red apple", "cat face", "blue heart", "hamburger", "pizza", "castle", "key", "star",
           "mushroom", "rocket")  # fmt: skip
STYLES = ("flat", "3d render")
NEAR = 26


def ground(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(H, W) bool: near white and connected to the border."""
    white = Image.fromarray(((pixels.min(2) >= 255 - NEAR) * 255).astype("u1"))
    framed = Image.new("L", (white.width + 2, white.height + 2), 255)
    framed.paste(white, (1, 1))
    ImageDraw.floodfill(framed, (0, 0), 128)
    return np.asarray(framed)[1:-1, 1:-1] == 128


def shrunk(area: np.ndarray[Any, Any], by: int) -> np.ndarray[Any, Any]:
    """Without its outermost `by` pixels, where the drawing's edge is."""
    held = Image.fromarray((area * 255).astype("u1"))
    for _ in range(by):
        padded = np.pad(np.asarray(held), 1, constant_values=255)
        views = [padded[dy : dy + held.height, dx : dx + held.width] for dy in range(3)
                 for dx in range(3)]  # fmt: skip
        held = Image.fromarray(np.minimum.reduce(views))
    return np.asarray(held) > 0


def inside(pixels: np.ndarray[Any, Any], outside: np.ndarray[Any, Any]) -> list[float]:
    """Deviation within each square of one colour inside the drawing."""
    side = max(pixels.shape[0] // 16, 4)
    found = []
    for top in range(0, pixels.shape[0] - side + 1, side):
        for left in range(0, pixels.shape[1] - side + 1, side):
            part = pixels[top : top + side, left : left + side].astype("f8")
            half = side // 2
            corners = [part[y : y + half, x : x + half].mean((0, 1)) for y in (0, half)
                       for x in (0, half)]  # fmt: skip
            spread = np.ptp(corners, axis=0).max()
            if not outside[top : top + side, left : left + side].any() and spread < 4:
                found.append(float(part.std((0, 1)).mean()))
    return found


def measure(name: str, pictures: Sequence[Image.Image]) -> None:
    whites, spreads, flats = [], [], []
    for picture in pictures:
        pixels = np.asarray(picture.convert("RGB"))
        outside = ground(pixels)
        area = shrunk(outside, max(pixels.shape[0] // 64, 1))
        if area.sum() >= 16:
            whites.append(float(pixels[area].mean()))
            spreads.append(float(pixels[area].astype("f8").std(0).mean()))
        flats += inside(pixels, outside)
    print(
        f"{name:28} {np.mean(whites):6.2f} {np.mean(spreads):6.2f} {len(flats):6d} "
        f"{np.median(flats) if flats else float('nan'):6.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji")
    model = sf.load(parser.parse_args().model)
    print("                              white  deviation  squares  deviation in them")
    for style in STYLES:
        store = heldout.pictures({"flat": "flat", "3d render": "fluent"}[style], 64)
        shown = (store.pixels[:, :3].int() + 255 - store.pixels[:, 3:].int()).clamp(0, 255)
        real = [Image.fromarray(one.byte().permute(1, 2, 0).numpy()) for one in shown]
        measure(f"{style}, real, 64 px", real)
        for stages in range(1, 2 + len(model.upsamplers)):
            made: list[Any] = []
            for text in PROMPTS:
                made += model.process(f"{text}, {style}", stages=stages).sample(0).images
            measure(f"{style}, {made[0].width} px", made)


if __name__ == "__main__":
    main()
