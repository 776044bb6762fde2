"""Claim (GLIDE, arXiv 2112.10741, figure 6): guidance without a classifier beats CLIP guidance.

Over scales of classifier-free, noised-CLIP, classifier and combined guidance: kernel distance to
real pictures of the same prompts against CLIP score and prompt accuracy, with intervals. With
--clean also: a CLIP of equal size that never saw noise, looking at the predicted picture or at the
noisy state, against the noised one. Writes a CSV and plots.
`python benchmarks/guidance.py [-n 100] [--clean RUN] [-o out/guidance]`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import sfumato as sf
from sfumato import documents
from sfumato.core.noise import Seeded
from sfumato.core.schedule import FAINTEST
from sfumato.measure import heldout
from sfumato.measure.evaluate import clip_score, on_white, pixels
from sfumato.methods.clip_guidance import Agreement
from sfumato.metrics import kernel
from sfumato.models.card import ClipCard
from sfumato.models.clip import Clip, noised_clip

STYLE, SEED, STEPS, ROWS = "3d render", 0, 20, 25

Make = Callable[[Sequence[str]], list[Any]]
"""The prompts of a batch -> what is composed for it."""


def ways(model: sf.Model, clean: Clip | None) -> dict[str, list[tuple[float, Make]]]:
    """Every way to guide, with its scales."""
    noised = model.clip()
    if noised is None or model.classifier() is None:
        raise SystemExit(f"{model.name} has no CLIP or no classifier")

    def agreement(clip: Clip, strength: float, look: bool, cfg: float = 1.0) -> Make:
        def make(texts: Sequence[str]) -> list[Any]:
            guide = Agreement(
                clip.image, clip.text(texts), clip.schedule, strength * clip.logit_scale,
                noised=look, size=clip.size, faintest=FAINTEST,
            )  # fmt: skip
            return [sf.CFG(cfg), guide]  # sf.CLIPGuidance with a text for each picture

        return make

    def plain(*methods: Any) -> Make:
        return lambda texts: list(methods)

    made = {
        "cfg": [(s, plain(sf.CFG(s))) for s in (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)],
        "noised CLIP": [(s, agreement(noised, s, True)) for s in (0.5, 1.0, 2.0, 4.0, 8.0)],
        "classifier": [
            (s, plain(sf.CFG(1.0), sf.Classifier("fluent", s))) for s in (1.0, 3.0, 10.0)
        ],
        "cfg 2 + CLIP": [(s, agreement(noised, s, True, 2.0)) for s in (0.5, 1.0, 2.0, 4.0)],
        "cfg 3 + CLIP": [(s, agreement(noised, s, True, 3.0)) for s in (0.0, 4.0, 8.0)],
    }
    if clean is not None:
        made["clean CLIP on x0"] = [
            (s, agreement(clean, s, False)) for s in (0.5, 1.0, 2.0, 4.0, 8.0)
        ]
        made["noised CLIP on x0"] = [(s, agreement(noised, s, False)) for s in (1.0, 2.0, 4.0)]
        made["clean CLIP on x_t"] = [(s, agreement(clean, s, True)) for s in (1.0, 4.0)]
    return made


def sampled(model: sf.Model, labels: Sequence[str], make: Make, steps: int) -> torch.Tensor:
    """One base picture a prompt, in batches."""
    made = []
    for k in range(0, len(labels), ROWS):
        part = [f"{label}, {STYLE}" for label in labels[k : k + ROWS]]
        process: Any = model.process("", stages=1, n=len(part), steps=steps)
        process = replace(process, cond=model.encode(part), null=model.encode([""]))
        for method in make(part):
            process = process | method
        made += [pixels(picture) for picture in process.sample(SEED + k).images]
    return torch.stack(made)


def untimed(clip: Clip) -> Clip:
    """A clean CLIP knows one timestep only, whatever it is shown."""

    class Untimed(Clip):
        def image(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return super().image(x, torch.zeros_like(time))

    return Untimed(clip.network, clip.prompts, clip.schedule, clip.device)


def agreement_of_real(clips: dict[str, Clip]) -> None:
    """How often each CLIP tells the real picture's words from the other 76, by noise level."""
    store = heldout.pictures("fluent", next(iter(clips.values())).size)
    x0 = on_white(store.pixels)
    texts = [f"{concept.label}, {STYLE}" for concept in store.concepts]
    noise = Seeded(SEED).draw("prior", 0, 0, x0)
    print("held-out pictures whose own words come first, of 77, by t:")
    for name, clip in clips.items():
        found = []
        for t in (0.001, 0.25, 0.5, 0.75):
            schedule = clip.schedule
            x = schedule.alpha(t) * x0 + schedule.sigma(t) * noise
            index = torch.full((len(x),), max(round(t * schedule.steps) - 1, 0))
            with torch.no_grad():
                match = clip.image(x, index) @ clip.text(texts).T
            found.append(f"t {t:g}: {int((match.argmax(1) == torch.arange(len(x))).sum())}")
        print(f"  {name:12} {', '.join(found)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/guidance"))
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--clean", type=Path, help="the run folder of recipes/clip-clean-32.toml")
    parser.add_argument("--ways", help="only those, comma-separated")
    given = parser.parse_args()
    model = sf.load(given.model)
    clean = None
    if given.clean is not None:
        folder = given.clean / "model"
        card = documents.read_json(ClipCard, folder / "clip.json")
        clean = untimed(noised_clip(folder, card, model.choice.device))
        agreement_of_real({"noised CLIP": model.clip(), "clean CLIP": clean})
    bench, asked = heldout.bench(STYLE), heldout.questions()[: given.n]
    texts = [f"{question.label}, {STYLE}" for question in asked]
    rows = []
    all_ways = ways(model, clean)
    for way in given.ways.split(",") if given.ways else all_ways:
        settings = all_ways[way]
        for scale, make in settings:
            pictures = sampled(model, [question.label for question in asked], make, given.steps)
            features, logits = bench.look(pictures)
            hits = bench.hits(logits, torch.arange(len(asked)))[:, 0]
            real = bench.features[: len(asked)]
            closeness = kernel.kernel_estimate(
                features / bench.spread, real / bench.spread, paired=True
            )
            scores = clip_score(model, pictures, texts)
            assert scores is not None, "this model has no CLIP"
            clip, top1 = kernel.mean(scores), kernel.mean(hits)
            print(f"| {way} | {scale:g} | {closeness} | {clip} | {top1} |", flush=True)
            found = {"kernel": closeness, "clip": clip, "top1": top1}
            rows.append({"way": way, "scale": f"{scale:g}"} | {
                f"{name}{end}": getattr(value, field)
                for name, value in found.items() for end, field in ENDS.items()
            })  # fmt: skip
    given.output.mkdir(parents=True, exist_ok=True)
    looks = (" on x0", " on x_t")
    if not given.ways:
        shown(given.output / "guidance", [r for r in rows if not r["way"].endswith(looks)], "clip")
    if clean is not None:  # by the judge, since the score is that of one of the two CLIPs
        cleaner = [r for r in rows if r["way"].endswith(looks) or r["way"] == "noised CLIP"]
        shown(given.output / "clean", cleaner, "top1")


def shown(target: Path, rows: Sequence[dict[str, Any]], over: str) -> None:
    """target.csv and target.png."""
    with target.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, over, target.with_suffix(".png"))


ENDS = {"": "value", " low": "low", " high": "high"}


AXES = {"clip": "CLIP score (of the model's own CLIP)", "top1": "prompt accuracy, top 1"}


def draw(rows: Sequence[dict[str, Any]], over: str, target: Path) -> None:
    """Kernel distance (down is better) over another measure, a line a way, with intervals."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    for way in dict.fromkeys(row["way"] for row in rows):
        mine = [row for row in rows if row["way"] == way]
        x, y = ([row[name] for row in mine] for name in (over, "kernel"))
        spreads = [
            [[abs(row[name] - row[f"{name} {end}"]) for row in mine] for end in ("low", "high")]
            for name in (over, "kernel")
        ]
        axes.errorbar(x, y, xerr=spreads[0], yerr=spreads[1], fmt="-o", markersize=4,
                      elinewidth=0.6, label=way)  # fmt: skip
        for row, a, b in zip(mine, x, y, strict=True):
            axes.annotate(row["scale"], (a, b), textcoords="offset points", xytext=(4, 4),
                          fontsize=8)  # fmt: skip
    axes.set(xlabel=AXES[over], ylabel="kernel distance")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main()
