"""`make demo`: five hand-made stroke paintings and a simulated one, SDEdit at five start levels.

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
CAPTIONS = ["strokes", *(f"t0 = {t0}" for t0 in LEVELS)]
SIMULATED = ("grinning face, 3d render",)


def edits(model: sf.Model, painting: sf.Picture, prompt: str, seed: int) -> list[sf.Picture]:
    """The painting at every start level."""
    process = model.process(prompt)
    return [(process | sf.SDEdit(painting, t0=t0)).sample(seed=seed).images[0] for t0 in LEVELS]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/demo")
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    model = sf.load("emoji")
    print(f"model emoji, {model.choice.dtype}: {model.choice.dtype_reason}")
    jobs = []
    for path in sorted((HERE / "strokes").glob("*.png")):
        name = path.stem.replace("-", " ")
        jobs.append((name, sf.open_image(path), f"{name}, 3d render", None))
    for prompt in SIMULATED:  # the stroke simulator on a picture the model made itself
        made = model.process(prompt).sample(seed=0).images[0]
        name = f"{prompt.partition(',')[0]} (simulated strokes)"
        jobs.append((name, sf.strokes(made), prompt, made))
    overview: list[sf.Picture] = []
    for name, painting, prompt, made in jobs:
        pictures = [painting, *edits(model, painting, prompt, seed=7)]
        captions = CAPTIONS
        overview += pictures
        if made is not None:
            pictures, captions = [made, *pictures], ["picture", *captions]
        page = sf.sheet(pictures, captions, columns=len(pictures), title=f"{name}: “{prompt}”")
        path = folder / f"{name.split(' (')[0].replace(' ', '-')}.png"
        page.save(path)
        print(path)
    page = sf.sheet(
        overview,
        CAPTIONS * len(jobs),
        columns=len(LEVELS) + 1,
        title="strokes, and what SDEdit makes of them from five start levels",
        rows=[name for name, *_ in jobs],
        cell=128,
    )
    page.save(folder / "overview.png")
    print(folder / "overview.png")
    print(f"{len(jobs) + 1} sheets in {time.perf_counter() - began:.1f} s")
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
