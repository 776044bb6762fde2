"""What the bundled cascade makes of eight prompts in two styles, unselected and chosen.

`python benchmarks/grid.py` writes docs/grid-unselected.png, seed 0, and docs/grid-chosen.png, the
best of the first eight seeds, picked by eye (CHOSEN). `--candidates` shows all eight to pick from,
`--before FOLDER` writes docs/grid-before.png: first seeds of other weights above those of these.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import sfumato as sf

PROMPTS = ("red apple", "cat face", "blue heart", "rocket", "hamburger", "pizza", "octopus",
           "castle")  # fmt: skip
STYLES = ("3d render", "ink drawing")
SEEDS = 8
CHOSEN = {
    "3d render": (4, 3, 3, 5, 5, 2, 1, 4),
    "ink drawing": (2, 6, 1, 2, 5, 1, 0, 6),
}
DOCS = Path(__file__).parent.parent / "docs"


def candidates(model: sf.Model, folder: Path) -> None:
    """A row for each seed, a sheet for each style."""
    for style in STYLES:
        rows: list[Any] = []
        for seed in range(SEEDS):
            rows += made(model, style, [seed] * len(PROMPTS), 1)
        labels = [f"seed {seed}" for seed in range(SEEDS)]
        page = sf.sheet(rows, columns=len(PROMPTS), rows=labels, cell=96, title=style)
        page.save(folder / f"candidates-{style.replace(' ', '-')}.png")


def made(model: sf.Model, style: str, seeds: list[int], stages: int | None) -> list[Any]:
    """Each prompt with its own seed; the same bits as alone."""
    pictures: list[Any] = []
    for text, seed in zip(PROMPTS, seeds, strict=True):
        process = model.process(f"{text}, {style}", stages=stages)
        pictures += process.sample(seed).images
    return pictures


def before(model: sf.Model, other: sf.Model) -> None:
    """First seeds of both, a row for each style and weights."""
    rows = [made(m, style, [0] * len(PROMPTS), None) for style in STYLES for m in (other, model)]
    page = sf.sheet([picture for row in rows for picture in row], columns=len(PROMPTS), cell=128,
                    rows=["before", "now"] * len(STYLES), title="first seeds")  # fmt: skip
    page.save(DOCS / "grid-before.png")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--candidates", action="store_true")
    parser.add_argument("--before", metavar="FOLDER")
    asked = parser.parse_args()
    model = sf.load("emoji")
    if asked.before:
        before(model, sf.load(asked.before))
        return
    if asked.candidates:
        folder = Path("out")
        folder.mkdir(exist_ok=True)
        candidates(model, folder)
        return
    first: list[Any] = []
    best: list[Any] = []
    for style in STYLES:
        first += made(model, style, [0] * len(PROMPTS), None)
        best += made(model, style, list(CHOSEN[style]), None)
    for name, pictures in (("unselected", first), ("chosen", best)):
        page = sf.sheet(pictures, list(PROMPTS) * 2, columns=len(PROMPTS), cell=128, title=name)
        page.save(DOCS / f"grid-{name}.png")


if __name__ == "__main__":
    main()
