"""Claim (SDG, arXiv 2112.05744): without a prompt, words and a picture steer in a noised CLIP.

From the empty prompt, solver ddpm, the same seeds: with the text "STYLE" the classifier's
probability of that style against 3d render; with a held-out ink drawing as the reference the same
for content, structure and style, and the judge's cosine with it; beside it the same CLIP looking at
the predicted picture. Classifier and judge steer nothing here. 95 % bootstrap intervals over
pictures.
`python benchmarks/sdg.py [--model emoji] [-n 16] [-o out/sdg]`.
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


def main() -> None:
    given = options(__doc__, 16, "sdg")
    model = sf.load(given.model, dtype="float32")
    if model.clip() is None:
        raise SystemExit(f"{model.name} has no CLIP")
    judges, side = Judges(), model.card.native[0]
    references, _ = held("ink", side, given.n)
    seen = judges.content(references)

    def made(k: int, method: Any) -> Tensor:
        process: Any = model.process("", stages=1, solver="ddpm")
        process = process | sf.CFG(1)
        return last(process if method is None else process | method, SEED + k)

    def picture(k: int) -> Any:
        return from_tensor(references[k])

    text = "ink drawing"
    ways: dict[str, Any] = {
        "off": lambda k: None,
        "text 160": lambda k: sf.SDG(text=text),
        "text 640": lambda k: sf.SDG(text=text, text_weight=640),
        "text 160, of x0": lambda k: sf.SDG(text=text, noised=False),
        "content 100": lambda k: sf.SDG(picture(k)),
        "content 400": lambda k: sf.SDG(picture(k), weight=400),
        "structure 400": lambda k: sf.SDG(picture(k), what="structure", weight=400),
        "style 400": lambda k: sf.SDG(picture(k), what="style", weight=400),
        "content 400, of x0": lambda k: sf.SDG(picture(k), weight=400, noised=False),
        "both 400": lambda k: sf.SDG(picture(k), weight=400, text=text, text_weight=400),
    }
    print(
        "way                 ink, not render         cosine with the reference   pixels", flush=True
    )
    shown: dict[str, Tensor] = {"reference": references}
    for name, way in ways.items():
        x = torch.cat([made(k, way(k)) for k in range(given.n)])
        shown[name] = x
        style = mean(judges.style(x, "ink", "fluent"))
        near = mean(F.cosine_similarity(judges.content(x), seen))
        rms = mean(((x - references) / 2).square().flatten(1).mean(1).sqrt())
        print(f"{name:19} {style!s:23} {near!s:27} {rms}", flush=True)
    sheet(given.output / "sheet.png", shown)


if __name__ == "__main__":
    main()
