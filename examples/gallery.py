"""Run every example and keep its sheet in docs/gallery: the pictures that the README shows.

`python examples/gallery.py [NAME ...]`. An example writes NAME.png to the current folder.
"""

from __future__ import annotations

import contextlib
import runpy
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
GALLERY = HERE.parent / "docs" / "gallery"
NOT_EXAMPLES = ("demo", "gallery")
COLOURS = 128
"""Sheets are kept with a palette, a third of the size; the pictures in them are looked at only."""


def examples() -> list[Path]:
    """The scripts that each show one method."""
    return sorted(path for path in HERE.glob("*.py") if path.stem not in NOT_EXAMPLES)


def run(script: Path, folder: Path) -> Path:
    """Run one example in a folder; its sheet."""
    with contextlib.chdir(folder):
        runpy.run_path(str(script), run_name="__main__")
    return folder / f"{script.stem}.png"


def main() -> None:
    GALLERY.mkdir(parents=True, exist_ok=True)
    for script in examples():
        if sys.argv[1:] and script.stem not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            sheet = Image.open(run(script, Path(folder))).convert("RGB")
            sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(GALLERY / f"{script.stem}.png")
        print(GALLERY / f"{script.stem}.png", flush=True)


if __name__ == "__main__":
    main()
