"""The points of a sweep's curve: what its pictures say, one by one and together."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato import images
from sfumato.images.writing import write_whole
from sfumato.measure import evaluate, heldout
from sfumato.measure.axis import Axis, Value, is_number, said
from sfumato.measure.curve import Point
from sfumato.measure.faithful import Reference, diversity
from sfumato.metrics import kernel
from sfumato.metrics.kernel import interval
from sfumato.models import replay
from sfumato.models.cascade import base_of


@dataclass(frozen=True)
class Cell:
    """A value and a prompt with its pictures, one a seed; error: why there are none."""

    value: Value
    prompt: str
    files: tuple[Path, ...]
    error: str = ""


def measured(process: Any, axis_: Axis, cells: Sequence[Cell], folder: Path) -> list[Point]:
    """The points of the curve, and pictures.csv with what each picture says."""
    guide = Reference.of(process, axis_.method)
    model: Any = base_of(process).source
    rows, points = [], []
    for value in axis_.values:
        mine = [cell for cell in cells if cell.value == value and cell.files]
        pictures_of = {cell: [images.open_image(file) for file in cell.files] for cell in mine}
        singles: dict[str, list[float]] = {}
        for cell, pictures in pictures_of.items():
            bench = judge_of(cell.prompt)
            for file, picture in zip(cell.files, pictures, strict=True):
                picture.recipe = replay.read_recipe(file)
                scores = guide.measures(picture) if guide else {}
                pixels = evaluate.pixels(picture)[None]
                if bench is not None:
                    scores["kernel"] = realism(bench, pixels)
                if (score := evaluate.clip_score(model, pixels, [cell.prompt])) is not None:
                    scores["clip"] = float(score)
                for name, number in scores.items():
                    singles.setdefault(name, []).append(number)
                rows.append({"value": value if is_number(value) else said(value),
                             "prompt": cell.prompt,
                             "seed": picture.recipe.seed + picture.recipe.run.get("index", 0),
                             "file": file.relative_to(folder).as_posix(), **scores})  # fmt: skip
        if not pictures_of:
            continue
        estimates = {name: interval(numbers) for name, numbers in singles.items()}
        spreads = [d for pictures in pictures_of.values() if (d := diversity(pictures)) is not None]
        if spreads:
            estimates["diversity"] = interval(spreads)
        points.append(Point(value, sum(map(len, pictures_of.values())), estimates))
    _write_rows(folder / "pictures.csv", rows)
    return points


def judge_of(text: str) -> heldout.Bench | None:
    """The packaged judge of a style that the prompts name."""
    named = [style for style in heldout.JUDGED if style in text]
    return heldout.bench(named[0]) if named else None


def realism(bench: heldout.Bench, pixels: torch.Tensor) -> float:
    """Kernel distance of one picture (1, 3, h, w) to the real ones of the judge's style."""
    features = bench.look(pixels)[0] / bench.spread
    return float(kernel.kernel_each(features, bench.features / bench.spread))


def _write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(file, stream.getvalue().encode())
