"""Claim: DiffStyler keeps content better than SDEdit and the released settings, at equal style.

Held-out 3D renders are restyled by words on the bundled pair, at the base's size. Content: mean
cosine of the judge's features (it names concepts in styles it learned, and was steered by nothing
here) with the input's, centred on real pictures; and the patchwise contrastive loss to the input.
Style: probability that the classifier gives to the asked style, in `styles` of that and the input's
together. 95 % bootstrap intervals over pictures. Four parts:
  aligned   the ink drawings of the same 77 concepts are the truth: distance to them
  styles    50 pictures, 3 prompts: against SDEdit at the t0 of equal style, and as released
  starts    T1 / T of 1, 1.1, 1.3 and learned noise: round-trip error and distances
  cost      network, CLIP and feature evaluations, backward passes, FLOPs, seconds
`python benchmarks/diffstyler.py [-o docs/diffstyler] [--parts a,b] [-n 50]`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from flops import counted
from sfumato.images import from_tensor
from sfumato.measure import heldout
from sfumato.measure.evaluate import on_white
from sfumato.methods import patch_nce
from sfumato.metrics.kernel import mean

STYLES = {"ink drawing": "ink", "flat": "flat", "cartoon": "noto"}
"""Prompts and the classifier's names of them. Where the model has no second denoiser for a style,
the picture's label comes before it, and the negative prompt says what the picture is."""
OF_INPUTS = "fluent"
ROWS = 26
T0 = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
Methods = Callable[[Tensor], Sequence[Any]]


def ours(x: Tensor, **given: Any) -> list[Any]:
    """The method as it comes."""
    return [sf.DiffStyler(x, **given)]


def released(x: Tensor, on: str = "art") -> list[Any]:
    """The published program's settings: 50 steps each way to the top of v-diffusion's times, both
    denoisers at 0.5, losses on the second one's own prediction at every step, no contrastive loss
    (it has no gradient there)."""
    art = sf.DiffStyler(
        x, t_start=0.9957, style=0.5, general=0.5, normalise=False, inversion="iplms",
        contrast=0.0,
    )  # fmt: skip
    exact: dict[str, Any] = {"on": on, "through": "network"}
    text = sf.Instruction(weight=500.0, cutouts=1, fresh=True, **exact)
    return [art, text, sf.Perceptual(weight=3.0, **exact)]


class Bench:
    """Pictures, the model, and what is measured of results (n, 3, H, W)."""

    def __init__(self, n: int) -> None:
        self.model = sf.load("emoji", dtype="float32")
        side = self.model.card.native[0]
        renders, inks = (heldout.pictures(style, 64) for style in ("fluent", "ink"))
        rows = {concept.key: k for k, concept in enumerate(inks.concepts)}
        both = [k for k, c in enumerate(renders.concepts) if c.key in rows]
        drawn = [rows[renders.concepts[k].key] for k in both]
        self.labels = [renders.concepts[k].label for k in both]
        renderings, drawings = on_white(renders.pixels)[both], on_white(inks.pixels)[drawn]
        self.inputs, self.truth = (F.adaptive_avg_pool2d(v, side) for v in (renderings, drawings))
        flat = heldout.pictures("flat", 64)
        found = {concept.key: k for k, concept in enumerate(flat.concepts)}
        same = [found[renders.concepts[k].key] for k in both]
        fills = F.adaptive_avg_pool2d(on_white(flat.pixels)[same], side)
        self.real = {"ink": self.truth, "flat": fills}
        self.n = min(n, len(both))
        self.judge = heldout.bench("3d render")
        self.classifier = self.model.classifier()
        self.names = self.classifier.classes["style"]
        self.features = self.model.features("model")

    def seen(self, x: Tensor) -> Tensor:
        found, _ = self.judge.look(F.interpolate(x, (64, 64), mode="bilinear"))
        return (found - self.judge.features.mean(0)) / self.judge.spread

    def content(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cosine_similarity(self.seen(x), self.seen(y))

    def patches(self, x: Tensor, y: Tensor) -> Tensor:
        """The contrastive loss on the denoiser's own features, all positions."""
        total = torch.zeros(len(x))
        with torch.no_grad():
            found, wanted = (self.features(v) for v in (x, y))
            for name in self.features.contrast:
                pairs = [patch_nce.centred(maps[name].float()) for maps in (found, wanted)]
                every = torch.arange(pairs[0][0, 0].numel()).expand(len(x), -1)
                rows = [patch_nce.rows(maps, every) for maps in pairs]
                total += patch_nce.contrast(rows[0], rows[1], 0.07).mean(1)
        return total

    def style(self, x: Tensor, name: str, other: str | None = None) -> Tensor:
        """P(name), or P(name) / (P(name) + P(other))."""
        with torch.no_grad():
            logs = self.classifier.log_probabilities(x, torch.zeros(len(x)))["style"]
        found: Tensor = logs[:, self.names.index(name)]
        return (
            found.exp() if other is None else (found - logs[:, self.names.index(other)]).sigmoid()
        )

    def made(self, prompt: str, methods: Methods, n: int, **given: Any) -> Tensor:
        """Results of the first n inputs."""
        parts = []
        for first in range(0, n, ROWS):
            x = self.inputs[first : min(first + ROWS, n)]
            process: Any = self.model.process(prompt, n=len(x), stages=1, **given)
            if self.model.second(prompt) is None:
                both = [[f"{label}, {words}" for label in self.labels[first : first + len(x)]]
                        for words in (prompt, "3d render")]  # fmt: skip
                cond, null = (self.model.encode(texts) for texts in both)
                process = replace(process, cond=cond, null=null)
            for method in methods(x):
                process = process | method
            with torch.no_grad():
                made = process.begin(seed=first).walk()
            assert made is not None
            parts.append(made.clamp(-1, 1))
        return torch.cat(parts)


RELEASED: dict[str, Any] = {
    "steps": 50, "spacing": "v-spliced", "solver": {"solver": "iplms", "start": "euler"},
}  # fmt: skip


def aligned(bench: Bench, folder: Path) -> None:
    """77 renders into ink; the truth is there."""
    print("aligned: to the true drawing  rms             cosine               style", flush=True)
    x, n = bench.inputs, len(bench.inputs)
    rows: dict[str, Tensor] = {"input": x}
    for t0 in (0.7, 0.8):
        rows[f"SDEdit {t0}"] = bench.made("ink drawing", lambda v, t=t0: [sf.SDEdit(v, t0=t)], n)
    for factor in (4, 8):
        rows[f"ILVR {factor}"] = bench.made(
            "ink drawing", lambda v, f=factor: [sf.ILVR(v, factor=f)], n
        )
    rows["as released"] = bench.made("ink drawing", released, n, **RELEASED)
    for content in (0.75, 0.5, 0.25):
        rows[f"DiffStyler {content}"] = bench.made(
            "ink drawing", lambda v, c=content: ours(v, content=c), n
        )
    rows["truth"] = bench.truth
    for name, made in rows.items():
        rms = ((made - bench.truth) / 2).square().flatten(1).mean(1).sqrt()
        cosine, style = bench.content(made, bench.truth), bench.style(made, "ink")
        print(f"{name:28} {mean(rms)!s:16} {mean(cosine)!s:22} {mean(style)}", flush=True)
    sheet(folder / "aligned.png", list(rows), list(rows.values()))


def styles(bench: Bench, folder: Path) -> None:
    """Content at equal style, over three prompts."""
    n, kept = bench.n, {}
    print("styles: prompt, method        style             content              patches")
    for prompt, name in STYLES.items():
        x, on = bench.inputs[:n], "art" if bench.model.second(prompt) else "mixture"
        shown: dict[str, Tensor] = {"input": x}
        curve = []
        for what, pictures in (("input", x), ("real", bench.real.get(name))):
            if pictures is not None:
                style = bench.style(pictures[:n], name, OF_INPUTS)
                line(f"{prompt}, {what}", bench, pictures[:n], x, style)
        for t0 in T0:
            made = bench.made(prompt, lambda v, t=t0: [sf.SDEdit(v, t0=t)], n)
            curve.append((made, bench.style(made, name, OF_INPUTS)))
            line(f"{prompt}, SDEdit {t0}", bench, made, x, curve[-1][1])
        for what, methods, given in (
            ("DiffStyler 0.5", lambda v: ours(v, content=0.5), {}),
            ("DiffStyler 0.2", lambda v: ours(v, content=0.2), {}),
            ("as released", lambda v, on=on: released(v, on), RELEASED),
        ):
            made = bench.made(prompt, methods, n, **given)
            style = bench.style(made, name, OF_INPUTS)
            line(f"{prompt}, {what}", bench, made, x, style)
            shown[what] = made
            t0, weight, pair = equal(curve, float(style.mean()))
            part = min(max(weight, 0.0), 1.0)
            reached = "" if 0 <= weight <= 1 else "; it never gets that style"
            for measured, of in (("content", bench.content), ("patches", bench.patches)):
                low, high = (of(v, x) for v in pair)
                value = (1 - part) * low + part * high
                gained = mean(of(made, x) - value)
                what = f"SDEdit t0 {t0:.2f}{reached}: {measured} {mean(value)}"
                print(f"  {what}, ours - its {gained}", flush=True)
            shown[f"SDEdit {t0:.2f}"] = pair[round(min(max(weight, 0), 1))]
        kept[prompt] = shown
        sheet(folder / f"styles-{name}.png", list(shown), list(shown.values()))


def equal(
    curve: Sequence[tuple[Tensor, Tensor]], wanted: float
) -> tuple[float, float, tuple[Tensor, Tensor]]:
    """Where SDEdit's mean style is the wanted one: t0, its place between two neighbours of the
    grid (from 0 to 1, beyond where none reaches it), and their results."""
    means = [float(style.mean()) for _, style in curve]
    k = next((k for k in range(1, len(means)) if means[k] >= wanted), len(means) - 1)
    weight = (wanted - means[k - 1]) / max(means[k] - means[k - 1], 1e-6)
    inside = min(max(weight, 0.0), 1.0)
    t0 = (1 - inside) * T0[k - 1] + inside * T0[k]
    return t0, inside if weight < 0 else weight, (curve[k - 1][0], curve[k][0])


def line(what: str, bench: Bench, made: Tensor, x: Tensor, style: Tensor) -> None:
    content, patches = mean(bench.content(made, x)), mean(bench.patches(made, x))
    print(f"{what:29} {mean(style)!s:17} {content!s:20} {patches}", flush=True)


def starts(bench: Bench, folder: Path) -> None:
    """What climbing above the start, and learning it, change."""
    print("starts: T1 / T, learn         round trip  after    style           content", flush=True)
    x = bench.inputs[: min(bench.n, ROWS)]
    level = 0.7  # 1.3 times it is a level too
    for factor, learn in ((1.0, 0), (1.1, 0), (1.3, 0), (1.0, 5)):
        top = factor * level
        rows, errors = [], []
        for first in range(0, len(x), ROWS):
            part = x[first : first + ROWS]
            process: Any = bench.model.process("ink drawing", n=len(part), stages=1)
            method = sf.DiffStyler(part, t_start=level, t_invert=top, learn=learn, measure=True)
            with torch.no_grad():
                loop = (process | method).begin(seed=first)
                made = loop.walk()
            assert made is not None
            rows.append(made.clamp(-1, 1))
            errors.append([loop.run.report["inversion"][k] for k in ("round_trip", "learned")])
        made = torch.cat(rows)
        before, after = torch.tensor(errors).mean(0).tolist()
        style, content = mean(bench.style(made, "ink")), mean(bench.content(made, x))
        name = f"{factor:g}, {learn}"
        print(f"{name:29} {before:.4f}      {after:.4f}   {style!s:15} {content}", flush=True)


def cost(bench: Bench, folder: Path) -> None:
    """One picture: what it takes, the second prompt too."""
    print("cost                          calls  clip features backward  GFLOP  seconds", flush=True)
    x = bench.inputs[:1]
    for what, methods, given in (
        ("DiffStyler", ours, {}), ("as released", released, RELEASED)
    ):  # fmt: skip
        for again in (False, True):
            process: Any = bench.model.process("ink drawing", stages=1, **given)
            for method in methods(x):
                process = process | method
            if not again:
                bench.model.memo.pop("inversions", None)
            kept = dict(bench.model.memo.get("inversions", {}))
            with torch.no_grad():
                total = counted(lambda p=process: p.begin(seed=0).walk()) / 1e9
            bench.model.memo["inversions"] = kept if again else {}
            began = time.perf_counter()
            with torch.no_grad():
                loop = process.begin(seed=0)
                loop.walk()
            seconds = time.perf_counter() - began
            counts = loop.run.counts
            name = f"{what}{', its inversion known' if again else ''}"
            numbers = [counts.get(k, 0) for k in ("clip", "features", "backward")]
            print("{:29} {:5} {:5} {:8} {:8} {:7.1f} {:7.2f}".format(
                name, loop.calls, *numbers, total, seconds), flush=True)  # fmt: skip


def sheet(file: Path, names: Sequence[str], columns: Sequence[Tensor], rows: int = 12) -> None:
    """One row for each picture, one column for each method; captions are in the table's order."""
    step = max(len(columns[0]) // rows, 1)
    shown = [F.interpolate(x[::step][:rows], scale_factor=2) for x in columns]
    picture = torch.cat([torch.cat(list(column), 1) for column in shown], 2)
    made = from_tensor(picture)
    made.quantize(256).save(file)
    print(f"{file}: {', '.join(names)}", flush=True)


PARTS = {"aligned": aligned, "styles": styles, "starts": starts, "cost": cost}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/diffstyler"))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("-n", type=int, default=50)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(given.n)
    for part in given.parts.split(","):
        PARTS[part](bench, given.output)


if __name__ == "__main__":
    main()
