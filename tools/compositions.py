"""Writes docs/compositions.md: which pairs of methods run together, and why the others do not.

Every pair is run for two steps in both orders on the bundled base at 16 px, and the two results
must be equal to the bit. A test compares the file with `text()`. Run `python tools/compositions.py`
after a method was added; what it needs to be made is said in `given`.
"""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage
from torch import Tensor

import sfumato as sf
from sfumato.core.errors import SfumatoError
from sfumato.methods import Method, described, registry

FILE = Path(__file__).parents[1] / "docs" / "compositions.md"
SIZE, PROMPT, SEED = 16, "red apple, 3d render", 3
HEAD = """# Compositions

Made by `python tools/compositions.py`: every two methods, in both orders, for two steps on the
bundled base. · runs, and the order changes no bit; a number is why it cannot be, below.
"""


def picture(size: int) -> PILImage.Image:
    """A smooth one with a dark square."""
    side = torch.linspace(0, 255, size).to(torch.uint8)
    planes = (side.expand(size, size), side[:, None].expand(size, size), side[None] * 0 + 90)
    pixels = torch.stack([plane.expand(size, size) for plane in planes], -1)
    pixels[4:10, 5:11] = 20
    return PILImage.fromarray(pixels.numpy())


def mask(size: int) -> PILImage.Image:
    """White but for its edge."""
    shown = PILImage.new("L", (size, size), 0)
    shown.paste(255, (1, 1, size - 1, size - 1))
    return shown


def head(model: sf.Model) -> str:
    """A file of a linear head that rates this model's CLIP."""
    clip: Any = model.clip()
    width = clip.text(["a"]).shape[-1]
    file = Path(tempfile.mkdtemp()) / "ava_random.pth"
    generator = torch.Generator().manual_seed(1)
    torch.save({"weight": torch.randn(1, width, generator=generator), "bias": torch.zeros(1)}, file)
    return str(file)


def given(model: sf.Model, size: int) -> dict[str, dict[str, Any]]:
    """What each method is made with that cannot be made of nothing, or would then do nothing."""
    image = picture(size)
    content = {"image": image, "weight": 10.0}
    return {
        "aesthetic": {"head": head(model)},
        "classifier": {"target": "ink"},
        "dense_diffusion": {"regions": ("red apple=0,0,0.5,1",)},
        "diffstyler": {"image": image, "art": "none"},
        "diffuseit": {"image": image, "text": "ink drawing", "repeats": 1, "limit": 0},
        "gradient": {"fraction": 0.1},
        "ilvr": {"image": image, "factor": 4},
        "inpaint": {"image": image, "mask": mask(size)},
        "instruction": {"prompt": "blue heart"},
        "low_pass": content,
        "patch_nce": content,
        "perceptual": content,
        "prompt_to_prompt": {"edited": ("green apple, 3d render",)},
        "sdedit": {"image": image, "t0": 0.6},
        "sdg": {"image": image, "text": "blue heart"},
        "stego": {"message": "x"},
        "upscale": {"image": image},
    }


def made(model: sf.Model, size: int) -> dict[str, Method]:
    """One value of every method of this package. size: of its pictures."""
    values, known = {}, given(model, size)
    for name, cls in sorted(registry().items()):
        if not cls.__module__.startswith("sfumato."):
            continue
        needed = [field for field, info in described(cls).items() if info.is_required()]
        if missing := [field for field in needed if field not in known.get(name, {})]:
            raise SystemExit(f"{name}: say in tools/compositions.py what its {missing[0]} is")
        values[name] = cls(**known.get(name, {}))
    return values


def last(model: sf.Model, methods: tuple[Method, ...], size: int) -> Tensor:
    """The last state of two steps; an upsampler's where a method needs one."""
    stages = 2 if any(method.id == "upscale" for method in methods) else 1
    process: Any = model.process(PROMPT, steps=2, size=size, stages=stages)
    for method in methods:
        process = process | method
    with torch.no_grad():
        *_, step = process.steps(seed=SEED)
    x: Tensor = step.x
    return x


def outcome(model: sf.Model, pair: tuple[Method, Method], size: int) -> str:
    """ "" where both orders run to the same bits, else why not."""
    shared = {name for name in (one.slot for one in pair) if name is not None}
    if len(shared) == 1 and all(one.slot is not None for one in pair):
        (slot,) = shared
        return f"both are the {slot}; a process has one"
    found: list[Tensor | str] = []
    for order in (pair, pair[::-1]):
        try:
            found.append(last(model, order, size))
        except SfumatoError as error:
            found.append(str(error))
    first, second = found
    if isinstance(first, str) or isinstance(second, str):
        said = first if isinstance(first, str) else second
        if isinstance(first, Tensor) or isinstance(second, Tensor):
            return f"ORDER MATTERS: {said}"
        return str(said)
    return "" if torch.equal(first, second) else "ORDER CHANGES BITS"


def table(model: sf.Model, say: Callable[[str], Any] = lambda line: None) -> Mapping[Any, str]:
    """(name, name) -> outcome of every pair, in the order of names."""
    own = model.card.native[0]
    sets = {size: made(model, size) for size in (SIZE, own)}
    outcomes = {}
    for names in itertools.combinations(sets[SIZE], 2):
        size = own if "classifier" in names else SIZE  # which reads no other
        first, second = (sets[size][name] for name in names)
        outcomes[names] = outcome(model, (first, second), size)
        say(f"{' | '.join(names)}: {outcomes[names] or 'runs'}")
    return outcomes


def text(outcomes: Mapping[Any, str]) -> str:
    """The page."""
    names = list(dict.fromkeys(itertools.chain.from_iterable(outcomes)))
    reasons = list(dict.fromkeys(reason for reason in outcomes.values() if reason))
    short = [re.sub(r"[^a-z0-9]", "", name)[:6] for name in names]
    lines = [HEAD, "| | " + " | ".join(short[:-1]) + " |", "|---" * len(names) + "|"]
    for k, name in enumerate(names):
        if k == 0:
            continue
        row = []
        for other in names[:k]:
            reason = outcomes[other, name]
            row.append(str(1 + reasons.index(reason)) if reason else "·")
        row += [""] * (len(names) - 1 - k)
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    lines += ["", *(f"{k}. {reason}" for k, reason in enumerate(reasons, 1)), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    loaded = sf.load("emoji", dtype="float32")
    FILE.write_text(text(table(loaded, lambda line: print(line, file=sys.stderr))), "utf-8")
