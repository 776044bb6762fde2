"""A sweep: one field over values, times seeds, times prompts; pictures and their curve.

Every picture is an ordinary result whose recipe names the sweep's as its parent. What is there
already is not made again, so a sweep that was stopped goes on. The field is in axis.py, what is
measured in points.py, the pages in pages.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sfumato import documents, images
from sfumato.claims import claimed
from sfumato.core.composition import name_of
from sfumato.core.errors import SfumatoError, error_line
from sfumato.core.ranges import SEEDS, Range, check_heard, real, whole, words
from sfumato.images.writing import make_folder, write_whole
from sfumato.measure.axis import Axis, Value, axis, is_number, said, takes_numbers
from sfumato.measure.curve import GIVEN, Curve, knee, plot
from sfumato.measure.kept import are_kept, save_missing
from sfumato.measure.owned import Owned
from sfumato.measure.points import Cell, measured
from sfumato.models.cascade import base_of
from sfumato.recipe import Recipe
from sfumato.recipe.store import PICTURE_BYTES

log = logging.getLogger("sfumato")

BATCH = Range(1, 1000)  # seeds of a value and a prompt: they are one batch
LARGEST = 20_000  # pictures of a sweep, whose page holds them all
RECIPE, PICTURES = "recipe.json", "pictures"


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
    made: Mapping[str, Path] = MappingProxyType({}),
) -> Sweep:
    """Vary one field of a process (or Cascade) of a model.

    over: an Axis, or "sdedit.t0=0.1:0.9:9". seeds: pictures of each value and prompt. choose: the
    value to mark; else the knee of realism and faithfulness. parents: ids of what the process was
    made from. progress: (done, of) cells. made: name -> file of pictures that were made elsewhere
    of the same recipes; they are not made again. Writes pictures, sweep.json, recipe.json,
    pictures.csv, curve.csv, curve.png, sheet.png and index.html.
    """
    if not isinstance(over, str | Axis):
        raise SfumatoError(f"over = {over!r:.60}: give an Axis, or such as sdedit.t0=0.1,0.5")
    if not isinstance(folder, str | Path):
        raise SfumatoError(f"folder = {folder!r:.60}: give a path")
    axis_ = axis(over) if isinstance(over, str) else over
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Sequence):
        raise SfumatoError(f"prompts = {prompts!r:.60}: give a list of texts")
    prompts = [words(text, "prompt") for text in prompts]
    base = base_of(process)
    model: Any = base.source
    if model is None:
        raise SfumatoError("sweep: needs a process of a model, which keeps recipes")
    if not isinstance(parents, list | tuple):
        raise SfumatoError(f"parents = {parents!r:.60}: give a list of ids")
    if not isinstance(made, Mapping):
        raise SfumatoError(f"made = {made!r:.60}: give files by the names of their pictures")
    check_heard(progress)
    seeds, seed = whole(seeds, "seeds", BATCH), whole(seed, "seed", SEEDS)
    choose = None if choose is None else real(choose, "choose", Range())
    if choose is not None and choose not in axis_.values:
        known = ", ".join(map(said, axis_.values))
        raise SfumatoError(f"choose = {choose:g}: not among the values {known}")
    asked = prompts_of(process, prompts)
    total = len(asked) * len(axis_.values)
    if total * seeds > LARGEST:
        raise SfumatoError(
            f"sweep: {len(axis_.values)} values, {len(asked)} prompts and {seeds} seeds are "
            f"{total * seeds:,} pictures; take {LARGEST:,} at most"
        )
    parent = parent_of(process, seeds, seed, parents)
    check_batch(process, seeds)
    resolved = base.based(n=seeds).resolved()  # a batch that no cell has room for is refused
    model.fits(resolved, *resolved.frame(resolved.place), resolved.times)
    place = documents.expanded(folder)  # as pictures in it are read
    OWNED.check_free(place)
    with claimed(place):
        _claim(place, parent, axis_, asked, model)
        for name, file in made.items():
            write_whole(place / "pictures" / name, documents.read_bytes(file, PICTURE_BYTES))
        cells = []
        for k, (p, v, text, value) in enumerate(grid(asked, axis_)):
            names = (f"{p + 1}-{v + 1}-{seed + j}.png" for j in range(seeds))
            files = tuple(place / "pictures" / name for name in names)
            cells.append(_cell(process, axis_, value, text, files, parent, seed))
            if progress is not None:
                progress(k + 1, total)
        points = tuple(measured(process, axis_, cells, folder=place))
        mark: tuple[Value | None, str] = knee(points) or (None, "")
        curve = Curve(axis_.name, parent.id, points, *(mark if choose is None else (choose, GIVEN)))
        guides = images.guides_of(base.methods)
        done = Sweep(place, parent, axis_, asked, tuple(cells), curve, guides)
        _report(done)
    return done


def check_batch(process: Any, n: int) -> None:
    """Refuse what makes other pictures than one a seed, such as a picture and its edits at once."""
    base = base_of(process).based(n=n)
    if (count := base.resolved().n) != n:
        names = ", ".join(map(name_of, base.methods))
        raise SfumatoError(
            f"{names}: makes {count} pictures at once where each seed makes one; leave it out here"
        )


def parent_of(process: Any, seeds: int, seed: int, parents: Sequence[str]) -> Recipe:
    """The recipe that every cell's names as its parent."""
    base = base_of(process)
    model: Any = base.source
    recipe: Recipe = replace(model.asked(base.based(n=seeds), seed), parents=tuple(parents))
    return recipe


def prompts_of(process: Any, prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts that are swept, each once; without any the process's own."""
    base = base_of(process)
    model: Any = base.source
    return tuple(dict.fromkeys(map(model.phrase, prompts))) or (base.prompt,)


def grid(prompts: Sequence[str], axis_: Axis) -> Iterator[tuple[int, int, str, Value]]:
    """Places and what stands there: prompt by prompt, value by value."""
    for p, text in enumerate(prompts):
        for v, value in enumerate(axis_.values):
            yield p, v, text, value


def begun(
    process: Any, axis_: Axis, seeds: int, seed: int, prompts: Sequence[str],
    parents: Sequence[str],
) -> dict[str, bytes]:  # fmt: skip
    """What a sweep's folder begins with: sweep.json, which says whose it is, and the recipe."""
    check_batch(process, seeds)
    parent = parent_of(process, seeds, seed, parents)
    model: Any = base_of(process).source
    data = _held(parent, axis_, prompts, model)
    return {OWNED.file: _written(data), RECIPE: parent.to_json(indent=1).encode()}


def _held(parent: Recipe, axis_: Axis, prompts: Sequence[str], model: Any) -> dict[str, Any]:
    return {"recipe": parent.to_data(), "over": asdict(axis_), "prompts": prompts,
            "weights": model.weights, "dtype": model.choice.dtype}  # fmt: skip


def _written(held: Mapping[str, Any]) -> bytes:
    return json.dumps(held, indent=1, ensure_ascii=False).encode()


class Over(BaseModel):
    """An axis, as sweep.json keeps it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    method: Annotated[str, Field(max_length=200)]
    field: Annotated[str, Field(max_length=200)]
    values: Annotated[tuple[Value, ...], Field(min_length=2, max_length=LARGEST)]

    @model_validator(mode="after")
    def _of_its_field(self) -> Over:
        try:
            numbers = takes_numbers(self.method, self.field)
        except SfumatoError as error:
            raise ValueError(str(error)) from None
        if numbers and not all(map(is_number, self.values)):
            raise ValueError("values: must be numbers")
        return self


class Held(BaseModel):
    """sweep.json: whose sweep a folder holds."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    recipe: Recipe
    over: Over
    prompts: Annotated[tuple[str, ...], Field(min_length=1, max_length=LARGEST)]
    weights: str
    dtype: str


OWNED = Owned("sweep", "sweep.json", Held)


def _claim(folder: Path, parent: Recipe, axis_: Axis, prompts: Sequence[str], model: Any) -> None:
    """Make the folder this sweep's, or go on with it; another sweep's is refused."""
    data = _held(parent, axis_, prompts, model)
    OWNED.hold(folder, documents.parse_data(Held, data, "sweep"), _written(data))
    make_folder(folder / PICTURES)
    if not (folder / RECIPE).exists():
        write_whole(folder / RECIPE, parent.to_json(indent=1).encode())


def _cell(
    process: Any,
    axis_: Axis,
    value: Value,
    text: str,
    files: tuple[Path, ...],
    parent: Recipe,
    seed: int,
) -> Cell:
    try:
        at_value = axis_.at(process, value).based(prompt=text, n=len(files))
        check_batch(at_value, len(files))
        base: Any = base_of(at_value)
        asked = replace(base.source.asked(base, seed), parents=(parent.id,))
    except Exception as error:  # whatever it is, it is this cell's alone
        return _failed(axis_, value, text, error)
    if are_kept(files, asked):
        return Cell(value, text, files)
    try:
        result = at_value.sample(seed).descended([parent.id])
    except Exception as error:  # the same
        return _failed(axis_, value, text, error)
    trouble = save_missing(result.images, files)
    return Cell(value, text, () if trouble else files, trouble)


def _failed(axis_: Axis, value: Value, text: str, error: Exception) -> Cell:
    log.warning("%s = %s, %s: %s", axis_.name, said(value), text, error_line(error))
    return Cell(value, text, (), error_line(error))


def _report(done: Sweep) -> None:
    from sfumato.measure import pages

    write_whole(done.folder / "curve.csv", done.curve.to_csv().encode())
    if done.curve.names():
        plot(done.curve, done.folder / "curve.png")
    pages.sheet(done)
    pages.html(done)
