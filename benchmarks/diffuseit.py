"""Claim (DiffuseIT, arXiv 2209.15264): a picture gets a style and keeps its layout.

Held-out 3D renders become ink drawings, by words and by another concept's ink drawing, against the
same run without the keys' terms, without the repeated first step, and against SDEdit from the same
level with the words as its prompt; the same seeds. Style: the classifier's probability of ink
against 3d render; layout: intersection over union of what is not white, with the input; content:
cosine of the judge's features. 95 % bootstrap intervals over pictures.
`python benchmarks/diffuseit.py [--model emoji] [-n 8] [-o out/diffuseit]`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from evidence import Judges, held, last, options, sheet
from sfumato.images import from_tensor
from sfumato.metrics.kernel import mean

SEED = 0
WORDS = {"text": "ink drawing", "was": "3d render"}


def iou(x: Tensor, y: Tensor) -> Tensor:
    """(B,) of what is not white."""
    a, b = ((v.amin(1) < 0.8).flatten(1) for v in (x, y))
    return (a & b).sum(1) / (a | b).sum(1).clamp_min(1)


def main() -> None:
    given = options(__doc__, 8, "diffuseit")
    model = sf.load(given.model, dtype="float32")
    if model.clip() is None:
        raise SystemExit(f"{model.name} has no CLIP")
    judges, side = Judges(), model.card.native[0]
    inputs, _ = held("fluent", side, given.n)
    drawings, _ = held("ink", side, given.n)
    seen = judges.content(inputs)
    none = {"structure": 0, "contrast": 0}

    def picture(k: int) -> Any:
        return from_tensor(inputs[k])

    def drawn(k: int) -> Any:
        return from_tensor(drawings[(k + 1) % given.n])  # another concept's

    ways: dict[str, Any] = {
        "sdedit 0.6, no words": lambda k: ("", sf.SDEdit(picture(k), t0=0.6)),
        "sdedit 0.6": lambda k: ("ink drawing", sf.SDEdit(picture(k), t0=0.6)),
        "sdedit 0.8": lambda k: ("ink drawing", sf.SDEdit(picture(k), t0=0.8)),
        "words": lambda k: ("", sf.DiffuseIT(picture(k), **WORDS)),
        "words, no keys": lambda k: ("", sf.DiffuseIT(picture(k), **WORDS, **none)),
        "words, once": lambda k: ("", sf.DiffuseIT(picture(k), **WORDS, repeats=1)),
        "words and prompt": lambda k: ("ink drawing", sf.DiffuseIT(picture(k), **WORDS)),
        "words from 0.8": lambda k: ("", sf.DiffuseIT(picture(k), **WORDS, t_start=0.8)),
        "picture": lambda k: ("", sf.DiffuseIT(picture(k), style=drawn(k))),
        "picture, no keys": lambda k: ("", sf.DiffuseIT(picture(k), style=drawn(k), **none)),
    }
    print("way                     ink, not render         layout              content", flush=True)
    shown: dict[str, Tensor] = {"input": inputs}
    for name, way in ways.items():
        rows = []
        for k in range(given.n):
            prompt, method = way(k)
            process: Any = model.process(prompt, stages=1, solver="ddpm")
            scale = [] if prompt and "sdedit" in name else [sf.CFG(1)]
            for one in (*scale, method):
                process = process | one
            rows.append(last(process, SEED + k))
        x = torch.cat(rows)
        shown[name] = x
        style = mean(judges.style(x, "ink", "fluent"))
        near = mean(F.cosine_similarity(judges.content(x), seen))
        print(f"{name:23} {style!s:23} {mean(iou(x, inputs))!s:19} {near}", flush=True)
    sheet(given.output / "sheet.png", shown)


if __name__ == "__main__":
    main()
