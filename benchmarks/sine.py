"""Claim: SINE keeps one picture's thing in new scenes better than the model, and follows the words
better than the model that was tuned on it.

The tuned run (`sfumato dreambooth FOLDER --class NOUN --patches -o RUN`, or without --patches) has
seen one picture. Asked for are grounds and colours that it has not. Thing: cosine of the packaged
judge's features with the picture's, centred on real pictures and both on white by their own masks.
Words: share of the edge's colour that is the asked ground's. Ways: the original model with the
noun, the tuned one alone with its caption, SINE with the prompt of the first. 95 % bootstrap
intervals over seeds and grounds; differences are paired.
`python benchmarks/sine.py RUN PICTURE [--model emoji] [-n 24] [-o SHEET.png]`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from edits import STYLE, drawn, seen, sheet
from sfumato.measure.evaluate import pixels
from sfumato.metrics.kernel import mean
from sfumato.train.data.captions import BACKGROUNDS

GROUNDS = ("blue", "green", "yellow", "pink", "teal", "orange")
EDGE = 4


def on_white(x: Tensor) -> Tensor:
    """What differs from the edge's median colour, on white."""
    ground = edge(x).median(2).values[..., None, None]
    away = (x - ground).abs().amax(1, keepdim=True) > 0.35
    return torch.where(away, x, torch.ones_like(x))


def edge(x: Tensor) -> Tensor:
    """(N, 3, pixels) of the picture's margin."""
    ring = torch.ones(x.shape[-2:], dtype=torch.bool)
    ring[EDGE:-EDGE, EDGE:-EDGE] = False
    return x[..., ring]


def ground(x: Tensor, colour: str) -> Tensor:
    """Share of the margin within a distance of the colour, (N,)."""
    wanted = torch.tensor(BACKGROUNDS[colour][1]).float()[:, None] / 127.5 - 1
    return ((edge(x) - wanted).square().mean(1).sqrt() < 0.4).float().mean(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-n", type=int, default=24)
    parser.add_argument("--original", type=float, nargs="+", default=[0.7, 0.5, 0.3])
    parser.add_argument("-o", "--output", type=Path, default=Path("sine.png"))
    given = parser.parse_args()
    model = sf.load(given.model, dtype="float32")
    tuned = model.adapt(given.run)
    note = json.loads((given.run / "run.json").read_text())
    caption, noun = note["prompt"], note["noun"]
    side = model.card.native[0]
    photo = Image.open(given.picture).convert("RGB").resize((side, side), Image.Resampling.BOX)
    wanted = seen(pixels(photo)[None])
    ways: dict[str, Any] = {
        "original": lambda g: model.process(f"{noun}, {STYLE}, {g} background", stages=1),
        "tuned alone": lambda g: tuned.process(f"{caption}, {g} background", stages=1),
    }
    for v in given.original:
        method = sf.SINE(tuned=str(given.run), caption=caption, original=v)
        ways[f"SINE {v:g}"] = lambda g, m=method: ways["original"](g) | m
    found: dict[str, list[Tensor]] = {}
    print("way             thing                ground")
    for way, process in ways.items():
        parts: list[list[Tensor]] = [[], [], []]
        for k in range(given.n):
            colour = GROUNDS[k % len(GROUNDS)]
            x = drawn(process(colour), k)
            thing = F.cosine_similarity(seen(on_white(x)), wanted)
            for part, value in zip(parts, (thing, ground(x, colour), x), strict=True):
                part.append(value)
        found[way] = [torch.cat(part) for part in parts]
        print("{:15} {!s:20} {}".format(way, *map(mean, found[way][:2])), flush=True)
    for way in list(ways)[2:]:
        for other in ("original", "tuned alone"):
            gained = [mean(found[way][j] - found[other][j]) for j in range(2)]
            print("{:27} {!s:23} {}".format(f"{way} - {other}", *gained))
    picture = pixels(photo)[None].expand(given.n, -1, -1, -1)
    sheet(given.output, [picture, *(found[way][2] for way in ways)])
    print(f"{given.output}: picture, {', '.join(ways)}")


if __name__ == "__main__":
    main()
