"""A sweep: one numeric field over values, times seeds, times prompts; pictures and their curve.

Every picture is an ordinary result whose recipe names the sweep's as its parent. What is there
already is not made again, so a sweep that was stopped goes on. The pages are in pages.py.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sfumato import documents, images
from sfumato.claims import FILE as CLAIM
from sfumato.claims import claimed
from sfumato.core.errors import SfumatoError, said
from sfumato.core.interrupts import undisturbed
from sfumato.core.ranges import SEEDS, Range, whole, words
from sfumato.images.destination import check_file
from sfumato.images.writing import write_new, write_whole
from sfumato.measure import evaluate, heldout
from sfumato.measure.curve import Curve, Point, knee, plot
from sfumato.measure.faithful import Reference, diversity
from sfumato.methods import field_of, find
from sfumato.metrics import kernel
from sfumato.metrics.kernel import Estimate
from sfumato.models import replay
from sfumato.models.cascade import base_of
from sfumato.models.result import save_new
from sfumato.recipe import Recipe

log = logging.getLogger("sfumato")

BATCH = Range(1, 1000)  # seeds of a value and a prompt: they are one batch
LARGEST = 20_000  # pictures of a sweep, whose page holds them all


@dataclass(frozen=True)
class Axis:
    """A numeric field of a method, or "steps" of the process (method ""), and its values."""

    method: str
    field: str
    values: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.method}.{self.field}" if self.method else self.field

    def at(self, process: Any, value: float) -> Any:
        """The process with the field at a value; a method that is missing is composed."""
        if not self.method:
            if value != int(value):
                raise SfumatoError(f"steps = {value:g}: must be a whole number")
            return process.based(n_steps=int(value))
        if self.method in {getattr(method, "id", None) for method in process.methods}:
            return process.revised(self.method, **{self.field: value})
        return process | find(self.method)(**{self.field: value})


def axis(text: str, method: str = "") -> Axis:
    """From METHOD.FIELD=LOW:HIGH:COUNT or =A,B,C; without METHOD, the given one's field or steps.

    Whole values stay whole, for fields that are.
    """
    name, equals, spread = text.partition("=")
    if not equals:
        raise SfumatoError(f"--over {text}: write FIELD=LOW:HIGH:COUNT or FIELD=A,B,C")
    owner, dot, field = name.rpartition(".")
    if not dot and name != "steps":
        owner = method
    if owner:
        field_of(owner, field, f"--over {text}")
    elif name != "steps":
        raise SfumatoError(f"--over {text}: write METHOD.FIELD=…, or steps=…")
    values = sorted({_whole(value) for value in _numbers(spread, text)})
    if len(values) < 2:
        raise SfumatoError(f"--over {text}: gives {len(values)} value; give at least 2")
    if owner:
        _allowed(owner, field, values, text)
    return Axis(owner, field, tuple(values))


def _allowed(owner: str, field: str, values: Sequence[float], text: str) -> None:
    """Refuse a spread of which the field takes nothing; single values fail in their own cell."""
    info: Any = field_of(owner, field, f"--over {text}")
    kind = info.annotation
    for constraint in info.metadata:
        kind = Annotated[kind, constraint]
    reader: TypeAdapter[Any] = TypeAdapter(kind)
    said = ""
    for value in reversed(values):
        try:
            reader.validate_python(value)
            return
        except ValidationError as error:
            said = f"{owner}.{field} = {value:g}: {documents.explained(error)}"
    raise SfumatoError(f"--over {text}: {said}")


def _numbers(spread: str, text: str) -> list[float]:
    parts = spread.split(":") if ":" in spread else spread.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise SfumatoError(f"--over {text}: {spread!r} are no numbers") from None
    if not all(map(math.isfinite, numbers)):
        raise SfumatoError(f"--over {text}: {spread!r} is not finite")
    if ":" not in spread:
        return numbers
    if len(numbers) != 3 or not 2 <= numbers[2] <= 1000 or numbers[2] % 1:
        raise SfumatoError(f"--over {text}: write LOW:HIGH:COUNT, such as 0.1:0.9:9")
    low, high, count = numbers[0], numbers[1], int(numbers[2])
    return [round(low + (high - low) * k / (count - 1), 6) for k in range(count)]


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value


@dataclass(frozen=True)
class Cell:
    """A value and a prompt with its pictures, one a seed; error: why there are none."""

    value: float
    prompt: str
    files: tuple[Path, ...]
    error: str = ""


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: its folder, cells by prompt and value, and the curve.

    guides: caption -> picture that its methods follow, where its pages begin.
    """

    folder: Path
    parent: Recipe
    axis: Axis
    prompts: tuple[str, ...]
    cells: tuple[Cell, ...]
    curve: Curve
    guides: Mapping[str, images.Picture]


def sweep(
    process: Any,
    over: str | Axis,
    folder: str | Path,
    *,
    seeds: int = 3,
    seed: int = 0,
    prompts: Sequence[str] = (),
    choose: float | None = None,
    parents: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Vary one numeric field of a process (or Cascade) of a model.

    over: an Axis, or "sdedit.t0=0.1:0.9:9". seeds: pictures of each value and prompt. choose: the
    value to mark; else the knee of realism and faithfulness. parents: ids of what the process was
    made from. progress: (done, of) cells. Writes pictures, sweep.json, recipe.json, pictures.csv,
    curve.csv, curve.png, sheet.png and index.html.
    """
    if not isinstance(over, str | Axis):
        raise SfumatoError(f"over = {over!r:.60}: give an Axis, or such as sdedit.t0=0.1,0.5")
    axis_ = axis(over) if isinstance(over, str) else over
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Sequence):
        raise SfumatoError(f"prompts = {prompts!r:.60}: give a list of texts")
    prompts = [words(text, "prompt") for text in prompts]
    base = base_of(process)
    model: Any = base.source
    if model is None:
        raise SfumatoError("sweep: needs a process of a model, which keeps recipes")
    seeds, seed = whole(seeds, "seeds", BATCH), whole(seed, "seed", SEEDS)
    if choose is not None and choose not in axis_.values:
        known = ", ".join(f"{value:g}" for value in axis_.values)
        raise SfumatoError(f"choose = {choose:g}: not among the values {known}")
    asked = tuple(dict.fromkeys(map(model.phrase, prompts))) or (base.prompt,)
    total = len(asked) * len(axis_.values)
    if total * seeds > LARGEST:
        raise SfumatoError(
            f"sweep: {len(axis_.values)} values, {len(asked)} prompts and {seeds} seeds are "
            f"{total * seeds:,} pictures; take {LARGEST:,} at most"
        )
    parent: Recipe = replace(model.asked(base.based(n=seeds), seed), parents=tuple(parents))
    resolved = base.based(n=seeds).resolved()  # a batch that no cell has room for is refused
    model.fits(resolved, *resolved.frame(resolved.place), resolved.times)
    place = Path(folder)
    _check_free(place)
    with claimed(place):
        _claim(place, parent, axis_, asked, model)
        cells = []
        for k, (p, v, text, value) in enumerate(_grid(asked, axis_)):
            names = (f"{p + 1}-{v + 1}-{seed + j}.png" for j in range(seeds))
            files = tuple(place / "pictures" / name for name in names)
            cells.append(_cell(process, axis_, value, text, files, parent, seed))
            if progress is not None:
                progress(k + 1, total)
        points = tuple(measured(process, axis_, cells, folder=place))
        mark: tuple[float | None, str] = knee(points) or (None, "")
        curve = Curve(
            axis_.name, parent.id, points, *(mark if choose is None else (choose, "given"))
        )
        guides = images.guides_of(base.methods)
        done = Sweep(place, parent, axis_, asked, tuple(cells), curve, guides)
        _report(done)
    return done


def _grid(prompts: Sequence[str], axis_: Axis) -> Iterator[tuple[int, int, str, float]]:
    for p, text in enumerate(prompts):
        for v, value in enumerate(axis_.values):
            yield p, v, text, value


def _check_free(folder: Path) -> None:
    """Make the folder, or take one that is empty or holds a sweep."""
    new = not folder.exists() or (folder / "sweep.json").exists()
    if not new and (not folder.is_dir() or {file.name for file in folder.iterdir()} - {CLAIM}):
        raise SfumatoError(f"{folder}: is not empty and holds no sweep; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)


class Over(BaseModel):
    """An axis, as sweep.json keeps it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    method: Annotated[str, Field(max_length=200)]
    field: Annotated[str, Field(max_length=200)]
    values: Annotated[tuple[float, ...], Field(min_length=2, max_length=LARGEST)]


class Held(BaseModel):
    """sweep.json: whose sweep a folder holds."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    recipe: Recipe
    over: Over
    prompts: Annotated[tuple[str, ...], Field(min_length=1, max_length=LARGEST)]
    weights: str
    dtype: str


def _claim(folder: Path, parent: Recipe, axis_: Axis, prompts: Sequence[str], model: Any) -> None:
    """Make the folder this sweep's, or go on with it; another sweep's is refused."""
    data = {"recipe": parent.to_data(), "over": asdict(axis_), "prompts": prompts,
            "weights": model.weights, "dtype": model.choice.dtype}  # fmt: skip
    mine = documents.parse_data(Held, data, "sweep")  # so that like is compared with like
    file = folder / "sweep.json"
    if not file.exists():
        check_file(file)
        write_new(file, json.dumps(data, indent=1, ensure_ascii=False).encode())
    kept = documents.read_json(Held, file)
    if kept != mine:
        what = next(name for name in data if getattr(kept, name) != getattr(mine, name))
        raise SfumatoError(
            f"{folder}: holds a sweep of another {what}; choose another folder, or remove it"
        )
    (folder / "pictures").mkdir(exist_ok=True)
    if not (folder / "recipe.json").exists():
        write_whole(folder / "recipe.json", parent.to_json(indent=1).encode())


def _cell(
    process: Any,
    axis_: Axis,
    value: float,
    text: str,
    files: tuple[Path, ...],
    parent: Recipe,
    seed: int,
) -> Cell:
    if all(file.is_file() for file in files):
        return Cell(value, text, files)
    try:
        made = axis_.at(process, value).based(prompt=text, n=len(files))
        result = made.sample(seed).descended([parent.id])
    except Exception as error:  # whatever it is, it is this cell's alone
        log.warning("%s = %g, %s: %s", axis_.name, value, text, said(error))
        return Cell(value, text, (), said(error))
    trouble = []
    with undisturbed():
        for picture, file in zip(result.images, files, strict=True):
            if not file.is_file():
                written = save_new(picture, file)
                trouble += [written.trouble] if written.trouble else []
    return Cell(value, text, () if trouble else files, "; ".join(trouble))


def measured(process: Any, axis_: Axis, cells: Sequence[Cell], folder: Path) -> list[Point]:
    """The points of the curve, and pictures.csv with what each picture says."""
    guide = Reference.of(process, axis_.method)
    model: Any = base_of(process).source
    rows, points = [], []
    for value in axis_.values:
        mine = [cell for cell in cells if cell.value == value and cell.files]
        shown = {cell: [images.open_image(file) for file in cell.files] for cell in mine}
        singles: dict[str, list[float]] = {}
        for cell, pictures in shown.items():
            bench = judge_of(cell.prompt)
            for file, picture in zip(cell.files, pictures, strict=True):
                picture.recipe = replay.read(file)
                found = guide.measures(picture) if guide else {}
                pixels = evaluate.pixels(picture)[None]
                if bench is not None:
                    found["kernel"] = realism(bench, pixels)
                if (score := evaluate.clip_score(model, pixels, [cell.prompt])) is not None:
                    found["clip"] = float(score)
                for name, number in found.items():
                    singles.setdefault(name, []).append(number)
                rows.append({"value": value, "prompt": cell.prompt,
                             "seed": picture.recipe.seed + picture.recipe.run.get("index", 0),
                             "file": file.relative_to(folder).as_posix(), **found})  # fmt: skip
        if not shown:
            continue
        found_ = {name: spread(numbers) for name, numbers in singles.items()}
        spreads = [d for pictures in shown.values() if (d := diversity(pictures)) is not None]
        if spreads:
            found_["diversity"] = spread(spreads)
        points.append(Point(value, sum(map(len, shown.values())), found_))
    _write_rows(folder / "pictures.csv", rows)
    return points


def spread(numbers: Sequence[float]) -> Estimate:
    """Mean with its interval; of a single number, itself."""
    if len(numbers) == 1:
        return Estimate(numbers[0], numbers[0], numbers[0], 1)
    return kernel.mean(torch.tensor(numbers))


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


def _report(done: Sweep) -> None:
    from sfumato.measure import pages

    write_whole(done.folder / "curve.csv", done.curve.to_csv().encode())
    if done.curve.names():
        plot(done.curve, done.folder / "curve.png")
    pages.sheet(done)
    pages.html(done)
