"""Run every example and keep its sheet in docs/gallery; docs/gallery.md shows them all.

`python examples/gallery.py [NAME ...]`. An example writes NAME.png to the current folder; the first
line of its docstring is its caption.
"""

from __future__ import annotations

import ast
import contextlib
import runpy
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
GALLERY = HERE.parent / "docs" / "gallery"
PAGE = GALLERY.with_suffix(".md")
NOT_EXAMPLES = ("demo", "gallery")
ORDER = (
    "sdedit", "stroke_edit", "compositing", "ilvr_variations", "ilvr_translation", "ilvr_paint",
    "ilvr_scribble", "inpaint", "outpaint", "prompt_to_prompt", "null_text",
    "dense_diffusion", "sdg", "diffuseit", "stego", "sine",
    "diffstyler", "losses", "instruction", "gradient", "dreambooth", "compose", "cfg",
    "clip_guidance", "classifier", "threshold", "temperature", "upscale", "sweep",
)  # fmt: skip
"""On the page; what is not listed comes last."""
TAUGHT = (
    ("ControlNet: a picture's edges, the caption alone, and what both make of it",
     "controlnet.webp", "controlnet.md"),
    ("IP-Adapter: a picture says colours and manner, words what is drawn; stronger to the right",
     "ip-adapter.webp", "ip-adapter.md"),
    ("Custom-Edit: bears, and a teddy that was learned in their place: untouched, by its words,"
     " by all layers", "custom-edit.webp", "custom-edit.md"),
    ("Asyrp: red pictures, and drawn with a shift of the bottleneck towards blue",
     "asyrp/shift.webp", "asyrp.md"),
    ("BoundaryDiffusion: red pictures, pushed across a plane to blue",
     "asyrp/planes.webp", "asyrp.md"),
)  # fmt: skip
"""Methods that learn from a set of pictures first: caption, benchmark's sheet in docs, page."""
QUICK = ("classifier", "compose", "sdedit", "sdg", "stego")
"""Examples of a few seconds, which tests and the site's build run."""
INTRODUCTION = """# Gallery

Each method is a script of ten lines in [examples/](../examples) (DreamBooth and SINE, which teach
first, of thirty); these are its pictures, unselected, of the bundled model, which hardly knows
scenes and company. `python examples/gallery.py` makes them all again, and this page.
"""
AFTER = """
## Taught first

These methods learn from a set of pictures before they draw; the sheets are those of their
[benchmarks](../benchmarks/README.md), which say how to make them and of which weights they are.
"""
QUALITY = 92
"""Of WebP: all colours at a sixth of a PNG's size; the pictures in sheets are looked at only."""


def examples() -> list[Path]:
    """The scripts that each show one method."""
    return sorted(path for path in HERE.glob("*.py") if path.stem not in NOT_EXAMPLES)


def page() -> str:
    """docs/gallery.md: every sheet under the first line of its script."""
    scripts = sorted(examples(), key=lambda p: (place(p.stem), p.stem))
    shown = [
        (caption(script), f"[{script.name}](../examples/{script.name})",
         f"gallery/{script.stem}.webp")
        for script in scripts
    ]  # fmt: skip
    taught = [(title, f"[{target}]({target})", sheet) for title, sheet, target in TAUGHT]
    return "".join([INTRODUCTION, *map(_entry, shown), AFTER, *map(_entry, taught)])


def _entry(entry: tuple[str, str, str]) -> str:
    """A sheet under what it shows and where that comes from."""
    title, source, sheet = entry
    return f"\n**{title}** ({source})\n\n![{title}]({sheet})\n"


def place(name: str) -> int:
    """Where an example stands on the page."""
    return ORDER.index(name) if name in ORDER else len(ORDER)


def caption(script: Path) -> str:
    """What an example shows, by its docstring's first line."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem
    return text.splitlines()[0].rstrip(".")


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
            sheet.save(GALLERY / f"{script.stem}.webp", quality=QUALITY, method=6)
        print(GALLERY / f"{script.stem}.webp", flush=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
