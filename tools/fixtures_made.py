"""Pictures of the bundled weights whose recipes tests run again: tests/fixtures/made.

`python tools/fixtures_made.py` once the weights have changed; those of other weights are replaced.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
MADE = ROOT / "tests" / "fixtures" / "made"
HAMBURGER = str(ROOT / "examples" / "strokes" / "hamburger.png")
ICE = str(ROOT / "examples" / "pictures" / "ice-cream.png")
SHORT = ("--steps", "8", "--dtype", "float32", "--no-store", "-q")
RUNS = {
    "generate": ("generate", "blue heart", "--seed", "5"),
    "heun-karras": (
        "generate",
        "pizza",
        "--stages",
        "1",
        "--solver",
        "heun",
        "--spacing",
        "karras",
    ),
    "sdedit": ("sdedit", HAMBURGER, "-p", "hamburger", "--t0", "0.4", "--stages", "1", "--embed"),
    "ilvr": ("ilvr", ICE, "-p", "ice cream", "--stages", "1", "--embed"),
    "inpaint": (
        "inpaint",
        ICE,
        "--mask",
        "mask.png",
        "-p",
        "red apple",
        "--stages",
        "1",
        "--embed",
    ),
    "clip": ("generate", "octopus", "--stages", "1", "--clip-guidance", "2"),
    "classifier": ("generate", "key", "--stages", "1", "--classifier", "ink"),
}


def main() -> None:
    MADE.mkdir(exist_ok=True)
    for old in MADE.glob("*.png"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        mask = Image.new("L", Image.open(ICE).size)
        mask.paste(255, (mask.width // 4, mask.height // 4, mask.width // 2, mask.height // 2))
        mask.save(Path(folder) / "mask.png")
        for name, words in RUNS.items():
            file = MADE / f"{name}.png"
            program = [sys.executable, "-m", "sfumato", *words, *SHORT, "-o", str(file)]
            subprocess.run(program, cwd=folder, check=True)


if __name__ == "__main__":
    main()
