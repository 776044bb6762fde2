"""Claim (GLIDE, arXiv 2112.10741, figure 6): guidance without a classifier beats CLIP guidance.

Over scales of classifier-free, noised-CLIP, classifier and combined guidance: kernel distance to
real pictures of the same prompts against CLIP score and prompt accuracy, with intervals; also a
noised against a clean CLIP, which looks at the predicted picture. Writes a CSV and a plot.
`python benchmarks/guidance.py [-n 100] [-o out/guidance]`. Needs a model that has CLIP and
classifier.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

import sfumato as sf
from sfumato.measure import distance, heldout
from sfumato.measure.evaluate import clip_score, pixels
from sfumato.methods import Method

STYLE = "3d render"
SEED = 0

WAYS: dict[str, list[tuple[str, list[Method]]]] = {
    "cfg": [(f"{s:g}", [sf.CFG(s)]) for s in (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)],
    "noised CLIP": [
        (f"{s:g}", [sf.CFG(1.0), sf.CLIPGuidance(s)]) for s in (0.25, 0.5, 1.0, 2.0, 4.0)
    ],
    "clean CLIP": [
        (f"{s:g}", [sf.CFG(1.0), sf.CLIPGuidance(s, noised=False)]) for s in (0.25, 0.5, 1.0, 2.0)
    ],
    "classifier": [(f"{s:g}", [sf.CFG(1.0), sf.Classifier("fluent", s)]) for s in (1.0, 3.0, 10.0)],
    "cfg 2 + CLIP": [(f"{s:g}", [sf.CFG(2.0), sf.CLIPGuidance(s)]) for s in (0.25, 0.5, 1.0, 2.0)],
}


def sampled(model: sf.Model, labels: Sequence[str], methods: Sequence[Method]) -> torch.Tensor:
    """One base picture a prompt; CLIP guidance knows one text a run, so runs have one prompt."""
    made = []
    texted = any(isinstance(method, sf.CLIPGuidance) for method in methods)
    size = 1 if texted else 25
    for k in range(0, len(labels), size):
        part = [f"{label}, {STYLE}" for label in labels[k : k + size]]
        process: Any = model.process(part[0] if texted else "", stages=1, n=len(part))
        process = replace(process, cond=model.encode(part), null=model.encode([""]))
        for method in methods:
            process = process | method
        made += [pixels(picture) for picture in process.sample(SEED + k).images]
    return torch.stack(made)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/guidance"))
    parser.add_argument("--model", default="emoji")
    given = parser.parse_args()
    model = sf.load(given.model)
    bench, asked = heldout.bench(STYLE), heldout.questions()[: given.n]
    texts = [f"{question.label}, {STYLE}" for question in asked]
    rows = []
    for way, settings in WAYS.items():
        for scale, methods in settings:
            pictures = sampled(model, [question.label for question in asked], methods)
            features, logits = bench.look(pictures)
            hits = bench.hits(logits, torch.arange(len(asked)))[:, 0]
            real = bench.features[: len(asked)]
            kernel = distance.kernel_estimate(
                features / bench.spread, real / bench.spread, paired=True
            )
            scores = clip_score(model, pictures, texts)
            assert scores is not None, "this model has no CLIP"
            clip = distance.mean(scores)
            top1 = distance.mean(hits)
            print(f"{way:14} {scale:>5}  kernel {kernel}  CLIP {clip}  top-1 {top1}", flush=True)
            rows.append(
                {"way": way, "scale": scale}
                | {f"kernel{k}": getattr(kernel, v) for k, v in ENDS.items()}
                | {f"clip{k}": getattr(clip, v) for k, v in ENDS.items()}
                | {f"top1{k}": getattr(top1, v) for k, v in ENDS.items()}
            )
    given.output.mkdir(parents=True, exist_ok=True)
    with (given.output / "guidance.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw(rows).save(given.output / "guidance.png")


ENDS = {"": "value", " low": "low", " high": "high"}
INKS = ("#1b6ca8", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93")


def draw(rows: Sequence[dict[str, Any]], size: tuple[int, int] = (900, 620)) -> Image.Image:
    """Kernel distance (down is better) over CLIP score, a line a way, crosses for intervals."""
    image = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    left, top, right, bottom = 70, 20, size[0] - 180, size[1] - 50
    xs = [row[k] for row in rows for k in ("clip low", "clip high")]
    ys = [row[k] for row in rows for k in ("kernel low", "kernel high")]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - min(xs)) / (max(xs) - min(xs))
        down = (y - min(ys)) / (max(ys) - min(ys))
        return left + across * (right - left), bottom - down * (bottom - top)

    for k, way in enumerate(dict.fromkeys(row["way"] for row in rows)):
        ink = INKS[k % len(INKS)]
        mine = [row for row in rows if row["way"] == way]
        pen.line([place(row["clip"], row["kernel"]) for row in mine], fill=ink, width=2)
        for row in mine:
            x, y = place(row["clip"], row["kernel"])
            across = [place(row[f"clip {end}"], row["kernel"]) for end in ("low", "high")]
            down = [place(row["clip"], row[f"kernel {end}"]) for end in ("low", "high")]
            pen.line(across, fill=ink)
            pen.line(down, fill=ink)
            pen.text((x + 4, y - 16), row["scale"], fill=ink, font=font)
        pen.text((right + 14, top + 20 * k), way, fill=ink, font=font)
    pen.rectangle([left, top, right, bottom], outline="#888")
    for part in (0.0, 0.5, 1.0):
        x, y = min(xs) + part * (max(xs) - min(xs)), min(ys) + part * (max(ys) - min(ys))
        pen.text(
            (place(x, min(ys))[0], bottom + 8), f"{x:.1f}", fill="#444", font=font, anchor="ma"
        )
        pen.text((left - 8, place(min(xs), y)[1]), f"{y:.2f}", fill="#444", font=font, anchor="rm")
    pen.text(((left + right) / 2, bottom + 28), "CLIP score", fill="black", font=font, anchor="ma")
    pen.text((left, 4), "kernel distance", fill="black", font=font)
    return image


if __name__ == "__main__":
    main()
