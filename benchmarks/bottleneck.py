"""Claim: Asyrp's shift and a push across planes turn red things blue, more the stronger they are.

Held-out 3D renders recoloured red, walked up and down again; method off: found again. Blue, red:
share of the drawn colour that is that. Shape: overlap with what was drawn in the picture. Kept: the
root mean square difference of grey levels. 95 % bootstrap intervals; differences are paired.
`python benchmarks/bottleneck.py [--shift RUN] [--planes RUN] [--model emoji] [-n 32] [-o PNG]`; the
runs, or their files: `sfumato train recipes/asyrp-64.toml` and `boundary-64.toml`, `-o RUN`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sfumato as sf
from edits import drawn, gap, hue, overlap, sheet, trained
from sfumato.images import from_tensor
from sfumato.measure import heldout
from sfumato.metrics.kernel import mean
from sfumato.train.data.recolouring import recoloured

SHIFTED: dict[str, dict[str, Any]] = {
    "shift 0": {"strength": 0.0},
    "shift -1": {"strength": -1.0},
    "shift 0.5": {"strength": 0.5},
    "shift 1": {"strength": 1.0},
    "shift 1.5": {"strength": 1.5},
    "shift 1 in both": {"strength": 1.0, "symmetric": True},
}
PUSHED: dict[str, dict[str, Any]] = {
    "push x and h -2": {"distance": -2.0},
    "push x and h 1": {"distance": 1.0},
    "push x and h 2": {"distance": 2.0},
    "push x and h 4": {"distance": 4.0},
    "push x 2": {"distance": 2.0, "spaces": "x"},
    "push h 2": {"distance": 2.0, "spaces": "h"},
}


def red(n: int, side: int) -> Tensor:
    """Held-out pictures (n, 3, side, side) in red, on white."""
    store = heldout.pictures("fluent", size=side)
    rgba = recoloured(store.pixels[:n].float() / 255, ["red"] * n)
    return (rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1) * 2 - 1


def grey(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True).expand(-1, 3, -1, -1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shift", type=Path)
    parser.add_argument("--planes", type=Path)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("bottleneck.png"))
    given = parser.parse_args()
    model = sf.load(given.model)
    side = model.card.native[0]
    known = red(given.n, side)
    pictures = [from_tensor(x) for x in known]
    ways: dict[str, Any] = {}
    if given.shift:
        shift = trained(given.shift, "shift.safetensors")
        ways |= {
            name: lambda image, fields=fields: sf.Asyrp(shift, image, t_boost=0.0, **fields)
            for name, fields in SHIFTED.items()
        }
    if given.planes:
        planes = trained(given.planes, "boundary.safetensors")
        ways |= {
            name: lambda image, fields=fields: sf.BoundaryDiffusion(planes, image, **fields)
            for name, fields in PUSHED.items()
        }
    found: dict[str, list[Tensor]] = {"the pictures": [known]}
    for name, edit in ways.items():
        made = [
            drawn(model.process("", stages=1, size=side, steps=given.steps) | edit(image), 0)
            for image in pictures
        ]
        found[name] = [torch.cat(made)]
        print(f"{name}: drawn", flush=True)
    print(
        "way                   blue                 red                  shape               kept"
    )
    for name, (x,) in found.items():
        measures = [hue(x, "blue"), hue(x, "red"), overlap(x, known), gap(grey(x), grey(known))]
        found[name] += measures
        told = [str(mean(v)) for v in measures]
        print("{:21} {:20} {:20} {:19} {}".format(name, *told), flush=True)
    for name, (_, *on) in list(found.items())[1:]:
        told = [str(mean(a - b)) for a, b in zip(on, found["the pictures"][1:], strict=True)]
        print("{:21} {:20} {:20} {:19} {}".format(f"{name} - off", *told))
    sheet(given.output, [x for x, *_ in found.values()])
    print(f"{given.output}: {', '.join(found)}")


if __name__ == "__main__":
    main()
