"""A comparison: several ways to make pictures on the same inputs, prompts and seeds.

One sheet to look at and one table to print: every measure with its 95 % interval, and how far each
way differs from the first one, picture by picture. What is there already is not made again.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sfumato import documents, images
from sfumato.claims import claimed
from sfumato.core.composition import name_of
from sfumato.core.errors import SfumatoError, error_line
from sfumato.core.ranges import SEEDS, Range, check_heard, whole, words
from sfumato.images import ImageInput
from sfumato.images.writing import make_folder, write_whole
from sfumato.measure import evaluate, tables
from sfumato.measure.faithful import Reference, diversity
from sfumato.measure.filled import check_fills, takes_image
from sfumato.measure.kept import are_kept, save_missing
from sfumato.measure.owned import Owned
from sfumato.measure.points import judge_of, realism
from sfumato.measure.sweep import check_batch
from sfumato.measure.tables import Score, Table
from sfumato.models.cascade import base_of
from sfumato.models.replay import read_recipe
from sfumato.recipe import Recipe

PICTURES = "pictures"
WAYS, ROWS, BATCH = Range(1, 20), Range(1, 1000), Range(1, 1000)
NAME = 200  # letters of a way's
LARGEST = 20_000  # pictures of a comparison, whose sheet holds them all


@dataclass(frozen=True)
class Way:
    """One of the ways that are compared.

    fills: ids of the methods whose `image` is the input; None: the first that has one.
    """

    process: Any
    fills: tuple[str, ...] | None = None

    @property
    def filled(self) -> tuple[str, ...]:
        if self.fills is not None:
            return self.fills
        able = (name_of(m) for m in base_of(self.process).methods if takes_image(type(m)))
        return tuple(itertools.islice(able, 1))

    def at(self, image: ImageInput | None, prompt: str | None, n: int) -> Any:
        """The process on one input and one prompt."""
        process = self.process
        for method in () if image is None else self.filled:
            process = process.revised(method, image=image)
        return process.based(n=n) if prompt is None else process.based(n=n, prompt=prompt)


@dataclass(frozen=True)
class Row:
    """An input and a prompt, of which either may be left to the ways themselves."""

    image: ImageInput | None
    prompt: str | None

    @property
    def label(self) -> str:
        name = None if self.image is None else self.image.name
        return ", ".join(text for text in (name, self.prompt) if text)


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: its folder, its table, and the errors of what could not be made."""

    folder: Path
    table: Table
    failed: tuple[str, ...] = ()


def compare(
    ways: Mapping[str, Any],
    folder: str | Path,
    *,
    inputs: Sequence[Any] = (),
    prompts: Sequence[str] = (),
    seeds: int = 3,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare processes (or Cascades) of models, by the names they get in the table.

    inputs: pictures that take the place of each way's own (Way says of which methods); prompts: in
    place of its own. Every way runs on each input and prompt with the same seeds. The first is what
    the others are compared with. Writes pictures, pictures.csv, table.csv, sheet.png and
    compare.json.
    """
    if not isinstance(ways, Mapping) or len(ways) not in WAYS:
        raise SfumatoError(f"compare: give {WAYS} ways by their names")
    check_heard(progress)
    if not isinstance(folder, str | Path):
        raise SfumatoError(f"folder = {folder!r:.60}: give a path")
    named = {_name(name): _way(way) for name, way in ways.items()}
    seeds, seed = whole(seeds, "seeds", BATCH), whole(seed, "seed", SEEDS)
    rows = _rows(inputs, prompts)
    if len(rows) * len(named) * seeds > LARGEST:
        raise SfumatoError(
            f"compare: {len(named)} ways, {len(rows)} inputs and prompts and {seeds} seeds are "
            f"{len(rows) * len(named) * seeds:,} pictures; take {LARGEST:,} at most"
        )
    place = documents.expanded(folder)  # as pictures in it are read
    held = _held(named, rows, seeds, seed)
    OWNED.check_free(place)
    with claimed(place):
        OWNED.hold(place, documents.parse_data(Held, dict(held), "compare"), _text(held))
        make_folder(place / PICTURES)
        cells, total = [], len(rows) * len(named)
        for done, (cell, process) in enumerate(_grid(named, rows, place, seeds, seed)):
            cells.append(_made(cell, process, seed))
            if progress is not None:
                progress(done + 1, total)
        scores = list(_measured(cells, named, place, seed))
        table = Table.of(list(named), scores)
        write_whole(place / "pictures.csv", tables.rows_csv(scores).encode())
        write_whole(place / "table.csv", table.to_csv().encode())
        _sheet(place, named, rows, cells, seeds, seed)
    return Comparison(place, table, tuple(cell.error for cell in cells if cell.error))


@dataclass(frozen=True)
class Cell:
    """A way on a row: its pictures, one a seed; seconds: a picture, None of those found there."""

    way: str
    row: int
    image: ImageInput | None
    process: Any = field(repr=False)
    files: tuple[Path, ...]
    seconds: float | None = None
    error: str = ""


def _name(name: Any) -> str:
    text = words(name, "way")
    if not text.strip() or not text.isprintable() or len(text) > NAME:
        raise SfumatoError(f"way {text!r:.60}: is no name; give a line of up to {NAME} letters")
    return text


def _way(way: Any) -> Way:
    own = way if isinstance(way, Way) else Way(way)
    base = base_of(own.process)
    if getattr(base, "source", None) is None:
        raise SfumatoError("compare: needs processes of a model, which keep recipes")
    if own.fills is not None:
        check_fills(own.fills, {name_of(m): type(m) for m in base.methods})
    return own


def _rows(inputs: Sequence[Any], prompts: Sequence[str]) -> list[Row]:
    for name, values in (("inputs", inputs), ("prompts", prompts)):
        if isinstance(values, str | bytes) or not isinstance(values, Sequence):
            raise SfumatoError(f"{name} = {values!r:.60}: give a list")
    pictures: list[ImageInput | None] = [ImageInput.of(value) for value in inputs]
    texts: list[str | None] = [words(text, "prompt") for text in prompts]
    pictures, texts = pictures or [None], texts or [None]
    rows = [Row(image, text) for image in pictures for text in texts]
    whole(len(rows), "inputs and prompts", ROWS)
    return rows


def _grid(
    ways: Mapping[str, Way], rows: Sequence[Row], folder: Path, seeds: int, seed: int
) -> Iterator[tuple[Cell, Any]]:
    for r, row in enumerate(rows):
        for w, (name, way) in enumerate(ways.items()):
            files = (f"{r + 1}-{w + 1}-{seed + j}.png" for j in range(seeds))
            process = way.at(row.image, row.prompt, seeds)
            paths = tuple(folder / PICTURES / file for file in files)
            yield Cell(name, r, row.image, process, paths), process


def _made(cell: Cell, process: Any, seed: int) -> Cell:
    base: Any = base_of(process)
    if are_kept(cell.files, base.source.asked(base, seed)):
        return cell
    begun = time.perf_counter()
    try:
        check_batch(process, len(cell.files))
        result = process.sample(seed)
    except Exception as error:  # whatever it is, it is this cell's alone
        line = f"{cell.way}: {error_line(error)}"
        return Cell(cell.way, cell.row, cell.image, process, (), error=line)
    seconds = (time.perf_counter() - begun) / len(cell.files)
    trouble = save_missing(result.images, cell.files)
    files = () if trouble else cell.files
    return Cell(cell.way, cell.row, cell.image, process, files, seconds, trouble)


def _measured(
    cells: Sequence[Cell], ways: Mapping[str, Way], folder: Path, seed: int
) -> Iterator[Score]:
    """What each picture says, and of a cell what its pictures say together."""
    model: Any = base_of(next(iter(ways.values())).process).source  # whose CLIP judges all
    for cell in cells:
        if not cell.files:
            continue
        guide = Reference.of(cell.process)
        if guide is None and cell.image is not None:
            guide = Reference(cell.image.picture(), cell.image.picture())
        prompt = base_of(cell.process).prompt
        bench = judge_of(prompt)
        pictures = [images.open_image(file) for file in cell.files]
        for j, (file, picture) in enumerate(zip(cell.files, pictures, strict=True)):
            picture.recipe = recipe = read_recipe(file)
            pixels = evaluate.pixels(picture)[None]
            measures = guide.measures(picture) if guide else {}
            if bench is not None:
                measures["kernel"] = realism(bench, pixels)
            if (clip := evaluate.clip_score(model, pixels, [prompt])) is not None:
                measures["clip"] = float(clip)
            measures["calls"] = float(sum(recipe.run.get("calls", [])))
            yield Score(cell.way, (cell.row, seed + j), measures, file.relative_to(folder), prompt)
        together = {"diversity": diversity(pictures), "seconds": cell.seconds}
        said = {name: value for name, value in together.items() if value is not None}
        yield Score(cell.way, (cell.row,), said, None, prompt)


def _sheet(
    folder: Path, ways: Mapping[str, Way], rows: Sequence[Row], cells: Sequence[Cell], seeds: int,
    seed: int,
) -> None:  # fmt: skip
    """sheet.png: the input, then a column a way; a row for each input, prompt and seed."""
    from PIL.PngImagePlugin import PngInfo

    from sfumato.images.metadata import xmp

    shown = any(row.image is not None for row in rows)
    pictures: list[Any] = []
    captions, labels = [], []
    for (r, row), j in itertools.product(enumerate(rows), range(seeds)):
        if shown:
            pictures.append(None if row.image is None or j else row.image.picture())
            captions.append("" if row.image is None or j else row.image.name or "input")
        for cell in cells:
            if cell.row == r:
                pictures.append(cell.files[j] if cell.files else None)
                captions.append(cell.way if cell.files else f"{cell.way}: failed")
        labels.append(", ".join(text for text in (row.label, f"seed {seed + j}") if text))
    columns = len(ways) + shown
    side = max(64, min(256, 4096 // columns, 8192 // len(labels)))
    page = images.sheet(pictures, captions, columns, rows=labels, cell=side)
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp(shown).decode())
    content = images.Picture.of(page, recipe=None).encode("PNG", pnginfo=info)
    write_whole(folder / "sheet.png", content)


class Held(BaseModel):
    """compare.json: whose comparison a folder holds."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    ways: Annotated[dict[str, Recipe], Field(min_length=1, max_length=20)]
    weights: dict[str, str]
    dtype: dict[str, str]
    fills: dict[str, tuple[str, ...]]
    rows: Annotated[tuple[tuple[str | None, str | None], ...], Field(min_length=1)]
    seeds: int
    seed: int


OWNED = Owned("comparison", "compare.json", Held, 64 << 20)


def _held(ways: Mapping[str, Way], rows: Sequence[Row], seeds: int, seed: int) -> dict[str, Any]:
    recipes, weights, dtype = {}, {}, {}
    for name, way in ways.items():
        base = base_of(way.process)
        model: Any = base.source
        recipes[name] = model.asked(base.based(n=1)).to_data()
        weights[name] = model.weights
        dtype[name] = model.choice.dtype
    return {
        "ways": recipes,
        "weights": weights,
        "dtype": dtype,
        "fills": {name: way.filled for name, way in ways.items()},
        "rows": [(None if r.image is None else r.image.sha256, r.prompt) for r in rows],
        "seeds": seeds,
        "seed": seed,
    }


def _text(held: Mapping[str, Any]) -> bytes:
    return json.dumps(held, indent=1, ensure_ascii=False).encode()
