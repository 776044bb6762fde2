"""Claim (DenseDiffusion, arXiv 2308.12964): words of a prompt go where their regions are.

"COLOUR A THING and COLOUR B THING, 3d render", with A's words in the left half and B's in the
right, then the other way round, with the same seeds: share of each colour's pixels that lie in its
own half. Over both ways a prompt alone has 0.5 exactly, whatever the model does. Beside it, one
thing in a quarter of the picture: intersection over union of that quarter and what is not
background; and the agreement of a CLIP with the prompt, which layout must not cost. 95 % bootstrap
intervals over pairs of pictures.
`python benchmarks/dense_diffusion.py [--model emoji] [-n 9] [-o out/dense]`.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

import sfumato as sf
from evidence import Judges, last, options, sheet
from sfumato.metrics.kernel import mean

COLOURS = {"red": 0.0, "green": 1 / 3, "blue": 2 / 3}
THINGS = ("heart", "apple", "balloon", "circle", "square", "car", "hat", "book")
LEFT, RIGHT = "0,0,0.5,1", "0.5,0,1,1"
QUARTERS = {"0,0,0.5,0.5": (0, 0), "0.5,0.5,1,1": (1, 1), "0.5,0,1,0.5": (1, 0)}
SEED = 0
WAYS: dict[str, dict[str, Any] | None] = {
    "caption only": None,
    "dense": {},
    "words 2": {"words": 2.0, "pixels": 0.6},
    "half of the run": {"until": 0.5},
    "both": {"words": 2.0, "pixels": 0.6, "until": 0.5},
    "not apart": {"apart": False},
}


def hued(x: Tensor, colour: str) -> Tensor:
    """(B, h, w) how much of a hue is there: saturation where the hue is within a sixth."""
    v = (x + 1) / 2
    top, low = v.amax(1), v.amin(1)
    spread = top - low
    r, g, b = v.unbind(1)
    at = torch.where(
        top == r, (g - b) / spread.clamp_min(1e-6) % 6,
        torch.where(top == g, (b - r) / spread.clamp_min(1e-6) + 2,
                    (r - g) / spread.clamp_min(1e-6) + 4),
    ) / 6  # fmt: skip
    away = (at - COLOURS[colour]).abs()
    near = torch.minimum(away, 1 - away) < 1 / 6
    return spread * near * (spread > 0.25)


def own_half(x: Tensor, colours: tuple[str, str], swapped: bool) -> Tensor:
    """(B,) mean over both colours of the share that lies in its own half; nan without a colour."""
    width = x.shape[-1] // 2
    shares = []
    for k, colour in enumerate(colours):
        there = hued(x, colour)
        left = there[..., :width].sum((1, 2)) / there.sum((1, 2)).clamp_min(1e-6)
        left = torch.where(there.sum((1, 2)) > 1, left, torch.full_like(left, 0.5))
        shares.append(left if (k == 0) != swapped else 1 - left)
    return torch.stack(shares).mean(0)


def iou(x: Tensor, quarter: tuple[int, int]) -> Tensor:
    """(B,) of the quarter and what differs from the corners' mean colour."""
    corners = x[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    there = (x - corners.median(-1).values[..., None, None]).abs().amax(1) > 0.25
    wanted = torch.zeros_like(there)
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    across, down = quarter[0] * width, quarter[1] * height
    wanted[:, down : down + height, across : across + width] = True
    both = (there & wanted).flatten(1).sum(1)
    either = (there | wanted).flatten(1).sum(1)
    return both / either.clamp_min(1)


def main() -> None:
    given = options(__doc__, 9, "dense")
    model = sf.load(given.model, dtype="float32")
    judges = Judges()
    things = itertools.cycle(itertools.permutations(THINGS, 2))
    colours = itertools.cycle(itertools.permutations(COLOURS, 2))
    pairs = [(next(colours), next(things)) for _ in range(given.n)]
    print("two things: way     in its own half            agreement x 100", flush=True)
    shown: dict[str, Tensor] = {}
    for name, fields in WAYS.items():
        shares, agrees, pictures = [], [], {False: [], True: []}
        for k, (hues, two) in enumerate(pairs):
            words = [f"{hue} {thing}" for hue, thing in zip(hues, two, strict=True)]
            prompt = f"{words[0]} and {words[1]}, 3d render"
            process: Any = model.process(prompt, stages=1)
            of_pair = []
            for swapped in (False, True):
                halves = (RIGHT, LEFT) if swapped else (LEFT, RIGHT)
                regions = tuple(f"{w}={half}" for w, half in zip(words, halves, strict=True))
                if fields is None and swapped:
                    x = pictures[False][-1]
                else:
                    dense = [] if fields is None else [sf.DenseDiffusion(regions=regions, **fields)]
                    made = process
                    for method in dense:
                        made = made | method
                    x = last(made, SEED + k)
                pictures[swapped].append(x)
                of_pair.append(own_half(x, hues, swapped))
                agrees.append(judges.agreement(x, [prompt]))
            shares.append(torch.stack(of_pair).mean())
        share, agreed = torch.stack(shares), torch.cat(agrees)
        print(f"  {name:16} {mean(share)!s:26} {mean(agreed)}", flush=True)
        for swapped, x in pictures.items():
            shown[f"{name}{' swapped' if swapped else ''}"] = torch.cat(x)
    sheet(given.output / "two.png", shown, rows=12)
    print("one thing in a quarter: way   IoU                agreement x 100", flush=True)
    shown = {}
    for name, fields in WAYS.items():
        found, agrees, rows = [], [], []
        for k in range(given.n):
            box, quarter = list(QUARTERS.items())[k % len(QUARTERS)]
            words = f"{list(COLOURS)[k % 3]} {THINGS[k % len(THINGS)]}"
            prompt = f"{words}, 3d render"
            made: Any = model.process(prompt, stages=1)
            if fields is not None:
                made = made | sf.DenseDiffusion(regions=(f"{words}={box}",), **fields)
            x = last(made, SEED + k)
            rows.append(x)
            found.append(iou(x, quarter))
            agrees.append(judges.agreement(x, [prompt]))
        print(f"  {name:16} {mean(torch.cat(found))!s:26} {mean(torch.cat(agrees))}", flush=True)
        shown[name] = torch.cat(rows)
    sheet(given.output / "one.png", shown, rows=12)


if __name__ == "__main__":
    main()
