"""Claim: what the papers say of their knobs holds on the bundled model.

SDEdit (arXiv 2108.01073): L2 rises and kernel distance falls with t0 (figure 3); more colours in
the strokes make results more real (table 4). ILVR (arXiv 2108.02938): diversity rises with the
factor N (table 1) and with the time at which it stops; the low-band error falls as N falls. Writes
a plot and a sheet of pictures for each.

With words, SDEdit makes strokes more real: 77 held-out pictures and, with `--data`, 77 that were
trained on, each as strokes of 6 colours with its prompt. A judge names more of the results at
t0 = 0.5 than of the strokes (first five), with 95 % intervals apart, and their kernel distance is
below the strokes'. `--judge`: the `model/` of a run of recipes/judge-fluent.toml, for the packaged
judge; one that never saw a concept cannot name it, which is said.
`python benchmarks/trends.py [-o docs/trends] [--data DATA] [--judge FOLDER] [--parts words,t0]`.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import sfumato as sf
from held import SIZE, STYLE, Realism, l2, on_white, painted, process, tensor
from ilvr_nfe import diversity, low_band
from sfumato.measure import heldout
from sfumato.measure.curve import Curve, Point, plot
from sfumato.metrics import kernel
from sfumato.metrics.kernel import Estimate
from sfumato.train.data import store

STEPS, SOLVER = 25, "dpmpp-2m"
LEVELS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
COLOURS = (3, 6, 16, 30, 50)
FACTORS = tuple(2**k for k in range(SIZE.bit_length()))  # up to one pixel
STOPS = (0.0, 0.2, 0.4, 0.6, 0.8)
SEEDS, REFERENCES = 4, 24
SHOWN = (0, 8, 18, 31, 47, 60)
BAND = SIZE / 4  # the band whose error is measured, whatever factor held it
WORDED, CLAIMED = (0.3, 0.4, 0.5, 0.6, 0.7), 0.5


def curve(name: str, points: Sequence[tuple[float, dict[str, Estimate]]], n: int) -> Curve:
    made = Curve(name, "", tuple(Point(value, n, found) for value, found in points))
    for line in made.to_csv().splitlines():
        print(line, flush=True)
    return made


def keep(folder: Path, name: str, made: Curve, rows: dict[str, Tensor]) -> None:
    """The plot, and the sheet."""
    plot(made, folder / f"{name}.png")
    keep_sheet(folder, name, rows)


def keep_sheet(folder: Path, name: str, rows: dict[str, Tensor]) -> None:
    """A sheet with a row for each value: guides first."""
    shown = [
        sf.Picture.of(Image.fromarray(one.byte().permute(1, 2, 0).numpy()))
        for row in rows.values()
        for one in ((row.clamp(-1, 1) + 1) * 127.5).round()
    ]
    count = len(next(iter(rows.values())))
    page = sf.sheet(shown, columns=count, rows=list(rows), cell=64)
    page.save(folder / f"{name}-pictures.png")


def levels(model: sf.Model, realism: Realism, folder: Path) -> None:
    """Distance and realism over t0."""
    guides, points, rows = painted(), [], {}
    rows["strokes"] = guides[list(SHOWN)]
    base = process(model, len(guides), solver=SOLVER, n_steps=STEPS)
    for t0 in LEVELS:
        made = (base | sf.SDEdit(guides, t0=t0)).sample(7)
        points.append((t0, measured(made, guides, realism)))
        rows[f"t0 = {t0:g}"] = made[list(SHOWN)]
    keep(folder, "sdedit-t0", curve("sdedit.t0", points, len(guides)), rows)


def measured(made: Tensor, guides: Tensor, realism: Realism) -> dict[str, Estimate]:
    return {"kernel": realism.of(made), "l2": l2(made, guides)}


def palettes(model: sf.Model, realism: Realism, folder: Path) -> None:
    """Realism over the number of colours in the strokes."""
    points, rows = [], {}
    for colours in COLOURS:
        guides = painted(colours)
        base = process(model, len(guides), solver=SOLVER, n_steps=STEPS)
        made = (base | sf.SDEdit(guides, t0=0.5)).sample(7)
        points.append((colours, measured(made, guides, realism)))
        rows |= {f"{colours} colours": guides[list(SHOWN)], f"from {colours}": made[list(SHOWN)]}
    keep(folder, "sdedit-palette", curve("colours of the strokes", points, len(made)), rows)


def held(model: sf.Model, known: Tensor, **options: Any) -> list[Tensor]:
    """ILVR on every reference, a batch for each seed."""
    base = process(model, len(known), solver=SOLVER, n_steps=STEPS)
    method = sf.ILVR(known, **options)
    return [(base | method).sample(1000 * seed) for seed in range(SEEDS)]


def refined(
    model: sf.Model,
    realism: Realism,
    folder: Path,
    name: str,
    options: dict[float, dict[str, Any]],
    say: Callable[[float], str],
) -> None:
    """Diversity and low-band error over one field of ILVR."""
    known, points, rows = realism.real[:REFERENCES], [], {}
    rows["reference"] = known[:6]
    for value, given in options.items():
        made = held(model, known, **given)
        low = low_band(made, known, BAND)
        points.append((value, {"diversity": diversity(made), "low": low}))
        rows[say(value)] = made[0][:6]
    keep(folder, f"ilvr-{name}", curve(f"ilvr.{name}", points, SEEDS * REFERENCES), rows)


@dataclass(frozen=True, eq=False)
class Worded:
    """Pictures with their prompts, and as strokes; values in [-1, 1] at the base's size."""

    name: str
    keys: tuple[str, ...]
    texts: tuple[str, ...]
    real: Tensor
    strokes: Tensor

    @classmethod
    def of(cls, name: str, pictures: store.Store, rows: Sequence[int]) -> Worded:
        concepts = tuple(pictures.concepts[k] for k in rows)
        images = on_white(store.Store(pictures.pixels[list(rows)], concepts, (STYLE,) * len(rows)))
        return cls(
            name,
            tuple(concept.key for concept in concepts),
            tuple(f"{concept.label}, {store.STYLES[STYLE][0]}" for concept in concepts),
            tensor(images),
            tensor([sf.strokes(image, colors=6) for image in images]),
        )


class Judged:
    """What a judge says of pictures of known concepts, and how far they are from the real ones."""

    def __init__(self, folder: Path, worded: Worded) -> None:
        net, data = heldout.judge(folder, STYLE)
        column = {name: k for k, name in enumerate(data["names"])}
        every = torch.arange(len(column))
        self.bench = heldout.Bench(net, every, torch.empty(0), torch.empty(0), int(data["size"]))
        named = [column.get(data["classes"].get(key)) for key in worded.keys]
        self.known = torch.tensor([k for k, label in enumerate(named) if label is not None]).long()
        self.labels = torch.tensor([label for label in named if label is not None]).long()
        self.real = self.bench.look(worded.real)[0]
        self.spread = self.real.std(0)

    def of(self, made: Tensor) -> Mapping[str, Estimate]:
        """named: share whose concept is among the judge's first five, where it knows any."""
        features, logits = self.bench.look(made.clamp(-1, 1))
        far = kernel.kernel_estimate(features / self.spread, self.real / self.spread, paired=True)
        if not len(self.known):
            return {"kernel": far}
        hits = self.bench.hits(logits[self.known], self.labels)
        return {"named": kernel.mean(hits[:, 1]), "kernel": far}


def words(model: sf.Model, data: Path | None, judge: Path, folder: Path) -> None:
    """What a judge names of strokes, and of what SDEdit makes of them with their prompts."""
    test = heldout.pictures(STYLE, size=256)
    sets = [Worded.of("held-out", test, range(len(test)))]
    if data is None:
        print("without --data the pictures that were trained on are left out")
    else:
        known = json.loads((judge / f"judge-{STYLE}.json").read_text(encoding="utf-8"))["classes"]
        train = store.read(data, size=256, styles=[STYLE])
        rows = [k for k, concept in enumerate(train.concepts) if concept.key in known]
        drawn = sorted(random.Random(0).sample(rows, len(test)))
        sets.append(Worded.of("trained on", train, drawn))
    print("| pictures | of | named in five | kernel distance |\n|---|---|---|---|")
    verdicts = []
    for worded in sets:
        judged, count = Judged(judge, worded), len(worded.keys)
        base = process(model, count, worded.texts, solver=SOLVER, n_steps=STEPS)
        sheets = {"strokes": worded.strokes}
        for t0 in WORDED:
            sheets[f"t0 = {t0:g}"] = (base | sf.SDEdit(worded.strokes, t0=t0)).sample(7)
        said = {what: judged.of(made) for what, made in [("real", worded.real), *sheets.items()]}
        for what, found in said.items():
            named = found.get("named", "")
            print(f"| {worded.name} | {what} | {named} | {found['kernel']} |", flush=True)
        verdicts += verdict(worded, len(judged.known), said)
        shown = {row: made[list(SHOWN)] for row, made in sheets.items()}
        keep_sheet(folder, f"sdedit-words-{worded.name.replace(' ', '-')}", shown)
    print("\n".join(verdicts))


def verdict(worded: Worded, known: int, said: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Whether SDEdit's claim holds on these pictures, in lines."""
    strokes, result = said["strokes"], said[f"t0 = {CLAIMED:g}"]
    lines = [f"{worded.name}: the judge knows {known} of {len(worded.keys)} concepts"]
    if known:
        apart = result["named"].low > strokes["named"].high
        lines.append(f"{worded.name}: named more, intervals apart: {'holds' if apart else 'no'}")
    closer = result["kernel"].value < strokes["kernel"].value
    return [
        *lines,
        f"{worded.name}: kernel distance below the strokes': {'holds' if closer else 'no'}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/trends"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--judge", type=Path, default=heldout.HERE / "judges")
    parser.add_argument("--parts", default="words,t0,palette,factor,stop")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    model, realism, to = sf.load(given.model), Realism(), given.output
    factors = {float(n): {"factor": n} for n in FACTORS}
    stops = {stop: {"factor": SIZE // 8, "stop": stop} for stop in STOPS}
    parts = {
        "words": lambda: words(model, given.data, given.judge, to),
        "t0": lambda: levels(model, realism, to),
        "palette": lambda: palettes(model, realism, to),
        "factor": lambda: refined(model, realism, to, "factor", factors, lambda n: f"N = {n:g}"),
        "stop": lambda: refined(model, realism, to, "stop", stops, lambda t: f"stop = {t:g}"),
    }
    for part in given.parts.split(","):
        parts[part]()


if __name__ == "__main__":
    main()
