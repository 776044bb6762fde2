"""Claim: Custom-Edit puts a learned thing into a picture and keeps the picture's layout better than
a model of which all layers were tuned.

Scenes are the model's own pictures of the noun in several colours and places; the edit asks for the
learned name in the noun's place. Thing: cosine of the packaged judge's features with those of the
references, the mean over them, centred on real pictures. Layout: overlap of what is drawn with the
scene. Ways: Prompt-to-Prompt with the noun in the noun's place on the untouched model (method off:
the scene again), with the name after Custom Diffusion, and with the name after DreamBooth of all
layers, each by null-text inversion of the scene. 95 % bootstrap intervals over scenes.
`python benchmarks/custom_edit.py CUSTOM_RUN DREAMBOOTH_RUN PICTURES [--model emoji] [-n 16]
[-o SHEET.png]`; the runs: `sfumato dreambooth PICTURES --class NOUN [--custom] -o RUN`.
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
from edits import STYLE, drawn, gap, overlap, seen, sheet
from sfumato.measure.evaluate import pixels
from sfumato.metrics.kernel import mean
from sfumato.train.data.captions import COLOURS

EDIT = {"layout": 0.8, "pooled": 0.1}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("custom", type=Path)
    parser.add_argument("dreambooth", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-n", type=int, default=16)
    parser.add_argument("-o", "--output", type=Path, default=Path("custom_edit.png"))
    given = parser.parse_args()
    model = sf.load(given.model, dtype="float32")
    side = model.card.native[0]
    references = torch.stack([
        pixels(Image.open(file).convert("RGB").resize((side, side), Image.Resampling.BOX))
        for file in sorted(given.pictures.glob("*.png"))
    ])  # fmt: skip
    wanted = seen(references)
    noun = json.loads((given.custom / "run.json").read_text())["noun"]
    models: dict[str, Any] = {"untouched": (model, noun)}
    for way, run in (("custom", given.custom), ("all layers", given.dreambooth)):
        name = json.loads((run / "run.json").read_text())["name"]
        models[way] = (model.adapt(run), f"{name} {noun}")
    scenes = []
    found: dict[str, list[list[Tensor]]] = {way: [[], [], [], []] for way in models}
    for k in range(given.n):
        text = f"{list(COLOURS)[k % len(COLOURS)]} {noun}, {STYLE}"
        scene = drawn(model.process(text, stages=1), 100 + k)
        scenes.append(scene)
        for way, (one, spoken) in models.items():
            made: Any = one.process(text, stages=1, steps=20)
            made = made | sf.NullText(scene[0], rate=0.03)
            edit = sf.PromptToPrompt(edited=(f"{spoken}, {STYLE}",), **EDIT)
            back, x = drawn(made | edit, 0).split(1)
            thing = F.cosine_similarity(seen(x), wanted).mean()[None]
            values = (thing, overlap(x, scene), gap(back, scene), x)
            for part, value in zip(found[way], values, strict=True):
                part.append(value)
    print("way             thing                layout               return")
    for way, parts in found.items():
        told = [str(mean(torch.cat(part))) for part in parts[:3]]
        print("{:15} {:20} {:20} {}".format(way, *told))
    on = found["custom"]
    for other in ("untouched", "all layers"):
        gained = [str(mean(torch.cat(on[j]) - torch.cat(found[other][j]))) for j in range(2)]
        print("{:23} {:23} {}".format(f"custom - {other}", *gained))
    columns = [torch.cat(scenes), *(torch.cat(parts[3]) for parts in found.values())]
    sheet(given.output, columns)
    print(f"{given.output}: scene, {', '.join(found)}")


if __name__ == "__main__":
    main()
