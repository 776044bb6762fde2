"""Claim: IP-Adapter gives a picture its reference's colours and manner; the words still say what.

Held-out pictures of three manners, coloured, are references for the words of other things, from the
same seeds; method off: the words alone. Colour: overlap of histograms of hue among what is drawn.
Manner: the bundled classifier's probability of the style that it finds in the reference. Likeness:
100 cos with the reference by the model's CLIP. Agreement: 100 cos with the words. Then the strength
swept. 95 % bootstrap intervals over pictures; the differences are paired.
`python benchmarks/ip_adapter.py RUN [--style ""] [-n 48] [-o SHEET.png]`; the run, or its file:
`sfumato train recipes/ip-adapter-64.toml -o RUN`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from controlnet import pictures
from edits import THINGS, agreement, drawn, masks, sheet, trained
from evidence import Judges
from sfumato.images import from_tensor
from sfumato.metrics.kernel import mean

BINS = 12  # of hue, and one of what has no colour
SCALES = (0.25, 0.5, 0.75, 1.0)


def hues(x: Tensor) -> Tensor:
    """(N, BINS + 1) shares of what is drawn: by hue, weighted by saturation; the rest is grey."""
    low, high = x.amin(1), x.amax(1)
    red, green, blue = x.unbind(1)
    angle = torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue) / (2 * torch.pi)
    where = masks(x).float()
    colour = (high - low) / 2 * where
    index = ((angle % 1) * BINS).long().clamp(max=BINS - 1)
    shares = torch.zeros(len(x), BINS + 1)
    shares[:, :BINS].scatter_add_(1, index.flatten(1), colour.flatten(1))
    shares[:, BINS] = (where - colour).sum((1, 2))
    return shares / shares.sum(1, keepdim=True).clamp_min(1e-6)


def likeness(model: sf.Model, x: Tensor, y: Tensor) -> Tensor:
    """100 cos of pictures by the model's CLIP, (N,)."""
    clip: Any = model.clip()
    with torch.no_grad():
        u, v = (
            clip.image(F.interpolate(z, (clip.size, clip.size), mode="area"), torch.zeros(len(z)))
            for z in (x, y)
        )
    cosines: Tensor = 100 * (u * v).sum(1)
    return cosines


def styled(judges: Judges, x: Tensor, y: Tensor) -> Tensor:
    """Probability of the style that the classifier finds in y, in x, (N,)."""
    classifier: Any = judges.bundled.classifier()
    with torch.no_grad():
        logs = [
            classifier.log_probabilities(judges.small(z), torch.zeros(len(z)))["style"]
            for z in (x, y)
        ]
    found: Tensor = logs[0].exp().gather(1, logs[1].argmax(1, keepdim=True))[:, 0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-n", type=int, default=48)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--style", default="3d render", help='"": words that name no style')
    parser.add_argument("-o", "--output", type=Path, default=Path("ip_adapter.png"))
    given = parser.parse_args()
    model, adapter = sf.load(given.model), trained(given.run, "adapter.safetensors")
    if model.clip() is None:
        raise SystemExit(f"{model.name} has no CLIP")
    if not given.style:  # which the card's template would add
        model = replace(model, card=replace(model.card, template="{prompt}"))
    side, judges = model.card.native[0], Judges()
    parts = [pictures(given.n, side, style)[0] for style in ("fluent", "flat", "ink")]
    known = torch.stack(parts, dim=1).flatten(0, 1)[: given.n]  # the manners in turn
    texts = [THINGS[k % len(THINGS)] for k in range(given.n)]
    found: dict[str, tuple[list[Tensor], Tensor]] = {}
    print("way             colour               manner               likeness             words")
    for scale in (0.0, *SCALES):
        made = []
        for k, text in enumerate(texts):
            words = f"{text}, {given.style}" if given.style else text
            process: Any = model.process(words, stages=1, size=side, steps=given.steps)
            if scale:
                process = process | sf.IPAdapter(from_tensor(known[k]), adapter, scale=scale)
            made.append(drawn(process, k))
        x = torch.cat(made)
        said = torch.cat([agreement(model, x[k : k + 1], text) for k, text in enumerate(texts)])
        colour = torch.minimum(hues(x), hues(known)).sum(1)
        measures = [colour, styled(judges, x, known), likeness(model, x, known), said]
        name = f"scale {scale:g}" if scale else "words alone"
        found[name] = (measures, x)
        told = [str(mean(v)) for v in measures]
        print("{:15} {:20} {:20} {:20} {}".format(name, *told), flush=True)
    off = found["words alone"][0]
    for name, (on, _) in found.items():
        if name != "words alone":
            told = [str(mean(a - b)) for a, b in zip(on, off, strict=True)]
            print("{:15} {:20} {:20} {:20} {}".format(f"{name} - off", *told))
    sheet(given.output, [known, *(x for _, x in found.values())])
    print(f"{given.output}: reference, {', '.join(found)}")


if __name__ == "__main__":
    main()
