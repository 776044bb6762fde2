"""Claim: what the papers say of their knobs holds on the bundled model.

SDEdit (arXiv 2108.01073): L2 rises and kernel distance falls with t0 (figure 3); more colours in
the strokes make results more real (table 4). ILVR (arXiv 2108.02938): diversity rises with the
factor N (table 1) and with the time at which it stops; the low-band error falls as N falls. Writes
a plot and a sheet of pictures for each. `python benchmarks/trends.py [-o docs/trends]`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

import sfumato as sf
from held import Realism, l2, painted, process
from ilvr_nfe import diversity, low_band
from sfumato.measure.curve import Curve, Point, plot
from sfumato.metrics.kernel import Estimate

STEPS, SOLVER = 25, "dpmpp-2m"
LEVELS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
COLOURS = (3, 6, 16, 30, 50)
FACTORS = (1, 2, 4, 8, 16, 32)
STOPS = (0.0, 0.2, 0.4, 0.6, 0.8)
SEEDS, REFERENCES = 4, 24
SHOWN = (0, 8, 18, 31, 47, 60)
BAND = 8.0  # the band whose error is measured, whatever factor held it


def curve(name: str, points: Sequence[tuple[float, dict[str, Estimate]]], n: int) -> Curve:
    made = Curve(name, "", tuple(Point(value, n, found) for value, found in points))
    for line in made.to_csv().splitlines():
        print(line, flush=True)
    return made


def keep(folder: Path, name: str, made: Curve, rows: dict[str, Tensor]) -> None:
    """The plot, and a sheet with a row for each value: guides first."""
    plot(made, folder / f"{name}.png")
    shown = [
        sf.Picture.of(Image.fromarray(one.byte().permute(1, 2, 0).numpy()))
        for row in rows.values()
        for one in ((row.clamp(-1, 1) + 1) * 127.5).round()
    ]
    count = len(next(iter(rows.values())))
    page = sf.sheet(shown, columns=count, rows=list(rows), cell=64)
    page.quantize(128).save(folder / f"{name}-pictures.png")


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/trends"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    model, realism = sf.load(given.model), Realism()
    levels(model, realism, given.output)
    palettes(model, realism, given.output)
    factors = {float(n): {"factor": n} for n in FACTORS}
    refined(model, realism, given.output, "factor", factors, lambda n: f"N = {n:g}")
    stops = {stop: {"factor": 4, "stop": stop} for stop in STOPS}
    refined(model, realism, given.output, "stop", stops, lambda stop: f"stop = {stop:g}")


if __name__ == "__main__":
    main()
