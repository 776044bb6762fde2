"""`make demo`: six stroke paintings, SDEdit at five start levels and at the best for each.

Writes one contact sheet for each painting to out/demo (or the folder given) and prints the paths.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import sfumato as sf

HERE = Path(__file__).parent
LEVELS = (0.2, 0.35, 0.5, 0.65, 0.8)
BEST = {
    "hamburger": 0.35, "mushroom": 0.35, "pizza": 0.35, "red apple": 0.5, "sunflower": 0.35,
    "tiger face": 0.35,
}  # fmt: skip
"""The one of LEVELS that looks best for each painting, by eye."""
SEED = 7


def edits(model: sf.Model, painting: sf.Picture, prompt: str) -> list[sf.Picture]:
    """The painting at every start level."""
    process = model.process(prompt)
    return [(process | sf.SDEdit(painting, t0=t0)).sample(SEED).images[0] for t0 in LEVELS]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/demo")
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    model = sf.load("emoji")
    print(f"model emoji, {model.choice.dtype}: {model.choice.dtype_reason}")
    pictures: list[sf.Picture] = []
    captions: list[str] = []
    for name, t0 in BEST.items():
        file = HERE / "strokes" / f"{name.replace(' ', '-')}.png"
        prompt = f"{name}, 3d render"
        strokes = sf.open_image(file)
        made = edits(model, strokes, prompt)
        row = [strokes, made[LEVELS.index(t0)], *made]
        said = ["strokes", f"best: t0 = {t0}", *(f"t0 = {level}" for level in LEVELS)]
        page = sf.sheet(row, said, columns=len(row), title=f"{name}: “{prompt}”")
        page.save(folder / file.name)
        print(folder / file.name)
        pictures += row
        captions += said
    page = sf.sheet(
        pictures,
        captions,
        columns=len(LEVELS) + 2,
        title="strokes, what SDEdit makes of them at best, and from five start levels",
        rows=list(BEST),
        cell=128,
    )
    page.save(folder / "overview.png")
    print(folder / "overview.png")
    print(f"{len(BEST) + 1} sheets in {time.perf_counter() - began:.1f} s")
    print(f'Now yours: {called()} generate "red apple"')


def called() -> str:
    """How to call the program from here: by its name where the shell finds it, else by its path."""
    program = Path(sys.executable).with_name("sfumato")
    if shutil.which("sfumato") == str(program):
        return "sfumato"
    if not program.exists():
        return f"{sys.executable} -m sfumato"
    here = Path.cwd()
    return str(program.relative_to(here) if program.is_relative_to(here) else program)


if __name__ == "__main__":
    main()
