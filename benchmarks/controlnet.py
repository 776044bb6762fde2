"""Claim: ControlNet gives a picture its hint's edges, at least 0.2 more than the caption alone.

Held-out 3D renders, whose edges are the hint, with their own caption and with another one's, from
the same seeds; method off: the caption alone. Edges: overlap of edges, of the hint and of what was
drawn, each widened by a pixel. Shape: overlap of what is drawn. Agreement: 100 cos with the caption
by the model's own CLIP. Then the strength swept, and the control for the prompt's branch alone.
95 % bootstrap intervals over pictures; the differences are paired.
`python benchmarks/controlnet.py RUN [--model emoji] [-n 48] [-o SHEET.png]`; the run, or its file:
`sfumato train recipes/controlnet-64.toml -o RUN`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from edits import agreement, drawn, overlap, sheet, trained
from sfumato.images import from_tensor
from sfumato.measure import heldout
from sfumato.metrics.kernel import mean
from sfumato.nn.hints import edges

WAYS: dict[str, dict[str, Any] | None] = {
    "caption alone": None,
    "method": {},
    "scale 0.25": {"scale": 0.25},
    "scale 0.5": {"scale": 0.5},
    "scale 1.5": {"scale": 1.5},
    "guess": {"guess": True},
    "t > 0.5": {"window": (0.5, 1.0)},
}


def pictures(n: int, side: int, style: str = "fluent") -> tuple[Tensor, list[str]]:
    """Held-out pictures (n, 3, side, side) on white, and their labels."""
    store = heldout.pictures(style, size=side if side < 256 else 256)
    rgba = store.pixels[:n].float() / 255
    shown = rgba[:, :3] + 1 - rgba[:, 3:]
    if shown.shape[-1] != side:
        shown = F.interpolate(shown, (side, side), mode="area")
    return shown.clamp(0, 1) * 2 - 1, [concept.label for concept in store.concepts[:n]]


def near(x: Tensor, y: Tensor) -> Tensor:
    """Overlap of two pictures' edges, each widened by a pixel, (N,)."""
    a, b = (F.max_pool2d(edges(v), 3, 1, 1) > 0 for v in (x, y))
    return (a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3)).clamp_min(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-n", type=int, default=48)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("controlnet.png"))
    parser.add_argument("--ways", default=",".join(WAYS))
    given = parser.parse_args()
    model, control = sf.load(given.model), trained(given.run, "control.safetensors")
    side = model.card.native[0]
    known, labels = pictures(given.n, side)
    hints = [from_tensor(x) for x in known]
    found: dict[str, tuple[list[Tensor], Tensor]] = {}
    print("caption  way             edges                shape                CLIP")
    for whose in ("own", "other"):
        turn = 0 if whose == "own" else 7
        texts = [f"{labels[(k + turn) % given.n]}, 3d render" for k in range(given.n)]
        for way in given.ways.split(","):
            made, fields = [], WAYS[way]
            for k, text in enumerate(texts):
                process: Any = model.process(text, stages=1, size=side, steps=given.steps)
                if fields is not None:
                    hint = sf.ControlNet(hints[k], control, make="edges", **fields)
                    process = process | hint
                made.append(drawn(process, k))
            x = torch.cat(made)
            cosines = torch.cat(
                [agreement(model, x[k : k + 1], text) for k, text in enumerate(texts)]
            )
            measures = [near(x, known), overlap(x, known), cosines]
            found[f"{whose} {way}"] = (measures, x)
            told = [str(mean(v)) for v in measures]
            print("{:8} {:15} {:20} {:20} {}".format(whose, way, *told), flush=True)
        off = found[f"{whose} caption alone"][0]
        for way in given.ways.split(",")[1:]:
            on = found[f"{whose} {way}"][0]
            told = [str(mean(a - b)) for a, b in zip(on, off, strict=True)]
            print("{:8} {:15} {:20} {:20} {}".format(whose, f"{way} - off", *told), flush=True)
    lines = F.max_pool2d(edges(known), 1).expand(-1, 3, -1, -1) * 2 - 1
    columns = [known, lines]
    columns += [found[f"{whose} {way}"][1] for whose in ("own", "other")
                for way in ("method", "caption alone")]  # fmt: skip
    sheet(given.output, columns)
    print(f"{given.output}: picture, hint, its own caption with and without, another with, without")


if __name__ == "__main__":
    main()
