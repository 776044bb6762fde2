"""Claim: Prompt-to-Prompt keeps the layout better than re-prompting, at equal agreement.

Coloured things, then the same things in another colour, from the same seeds. Layout: overlap of
what is drawn in the edited picture and in the first one. Agreement: share of the drawn colour that
is the asked one; 100 cos by the model's CLIP. Method off: the edited prompt with the same seed.
Then each part alone, and the parts of the run swept. 95 % bootstrap intervals over pairs; the
differences are paired.
`python benchmarks/prompt_to_prompt.py [--model emoji] [-n 48] [-o SHEET.png]`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import sfumato as sf
from edits import agreement, drawn, hue, overlap, pairs, sheet
from sfumato.metrics.kernel import mean

OFF = {"cross": 0.0, "layout": 0.0, "pooled": 0.0}
WAYS = {
    "re-prompted": OFF,
    "method": {},
    "cross alone": {**OFF, "cross": 0.8},
    "layout alone": {**OFF, "layout": 0.4},
    "pooled alone": {**OFF, "pooled": 0.05},
    "layout 0.2": {"layout": 0.2},
    "layout 0.8": {"layout": 0.8},
    "pooled 0": {"pooled": 0.0},
    "pooled 0.1": {"pooled": 0.1},
    "pooled 0.2": {"pooled": 0.2},
    "both more": {"layout": 0.8, "pooled": 0.2},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-n", type=int, default=48)
    parser.add_argument("-o", "--output", type=Path, default=Path("prompt_to_prompt.png"))
    parser.add_argument("--ways", default=",".join(WAYS))
    given = parser.parse_args()
    model = sf.load(given.model, dtype="float32")
    chosen = pairs(given.n)
    found: dict[str, list[Tensor]] = {}
    print("way             overlap              colour               CLIP")
    for way in given.ways.split(","):
        columns: list[list[Tensor]] = [[], [], [], [], []]
        for k, pair in enumerate(chosen):
            process = model.process(pair.prompt, stages=1, size=model.card.native)
            edit = sf.PromptToPrompt(edited=(pair.edited,), **WAYS[way])
            first, edited = drawn(process | edit, k).split(1)
            measures = (
                overlap(first, edited), hue(edited, pair.colour),
                agreement(model, edited, pair.edited), first, edited,
            )  # fmt: skip
            for column, value in zip(columns, measures, strict=True):
                column.append(value)
        found[way] = [torch.cat(column) for column in columns]
        told = [str(mean(value)) for value in found[way][:3]]
        print("{:15} {:20} {:20} {}".format(way, *told), flush=True)
    off = found["re-prompted"]
    for way, on in found.items():
        if way != "re-prompted":
            told = [str(mean(on[j] - off[j])) for j in range(3)]
            print("{:15} {:20} {:20} {}".format(f"{way} - off", *told))
    method = found.get("method", off)
    sheet(given.output, [off[3], off[4], method[4]])
    print(f"{given.output}: first picture, re-prompted, edited")


if __name__ == "__main__":
    main()
