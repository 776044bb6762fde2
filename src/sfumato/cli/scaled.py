"""A batch on a cluster of Ray: rows are composed here, and their pictures made by its nodes."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sfumato import images
from sfumato.cli.asked import parse_adapter
from sfumato.cli.rows import CommandLine
from sfumato.core.errors import SfumatoError
from sfumato.documents import expanded, is_file
from sfumato.images.decode import identify
from sfumato.images.texts import texts_of
from sfumato.methods.common.secret import secret_texts
from sfumato.models.batch import Job, Row
from sfumato.models.cascade import base_of
from sfumato.models.files.digests import weights_digest
from sfumato.models.result import Result
from sfumato.recipe import Recipe
from sfumato.recipe.names import Reference
from sfumato.recipe.places import called, naming_by, placed
from sfumato.server.requests import RecipeJob
from sfumato.server.runner.library import Offer, named_models
from sfumato.server.runner.protocol import Made, Task
from sfumato.server.scale.fleet import Fleet, connected
from sfumato.server.scale.pool import Pool
from sfumato.server.scale.runners import runners

AHEAD = 4  # rows that wait for each runner, so that none is idle

log = logging.getLogger("sfumato")


@dataclass
class Planned:
    """A row's paths, and what comes of it; error: why nothing can."""

    paths: Sequence[Path] = ()
    made: Future[tuple[list[Made], list[str]]] | None = None
    error: str = ""


@dataclass
class Batch:
    """Rows that are composed a few ahead of the one that is waited for."""

    fleet: Fleet
    line: CommandLine
    rows: Sequence[Row]
    folder: Path
    stack: ExitStack
    planned: list[Planned] = field(default_factory=list)
    taken: set[Path] = field(default_factory=set)
    said: set[str] = field(default_factory=set)
    pool: Pool | None = None

    def job(self, row: Row) -> Job:
        """A row's paths, and how its pictures are made."""
        k = next(k for k, other in enumerate(self.rows) if other is row)
        ahead = AHEAD * (len(self.pool.runners) if self.pool else 1)
        while len(self.planned) < min(k + 1 + ahead, len(self.rows)):
            self.planned.append(self._planned(self.rows[len(self.planned)]))
        one = self.planned[k]
        if one.error:
            raise SfumatoError(one.error)
        self.planned[k] = Planned(error="was made")  # what it holds goes with its job
        return Job(one.paths, lambda: self._made(one))

    def _planned(self, row: Row) -> Planned:
        """A row composed, and asked of the pool where a picture of its own is missing."""
        try:
            paths, run = self.line.composed(row)
            if self.taken & set(paths) or all(path.is_file() for path in paths):
                return Planned(paths)
            self.taken.update(paths)
            return Planned(paths, self._asked(run, len(self.planned)))
        except SfumatoError as error:
            return Planned(error=str(error))

    def _asked(self, run: Any, k: int) -> Future[tuple[list[Made], list[str]]]:
        values = self.line.values
        model: Any = base_of(run.process).source
        dtype = {} if values["dtype"] == "auto" else {"dtype": values["dtype"]}
        with shipping() as inputs:
            recipe = replace(model.asked(run.base, run.seed), parents=run.parents, run=dtype)
        job = RecipeJob(recipe=recipe, search=run.searches, target=values["target"])
        for picture in (p for method in run.process.methods for p in images.inputs_of(method)):
            inputs[picture.sha256] = self.folder / picture.sha256
            inputs[picture.sha256].write_bytes(picture.data)
        typed = [Path(parse_adapter(text)[0]) for text in values["adapt"]]
        inputs |= adapters(recipe, typed, values["recipe"])
        if self.pool is None:
            source = values["model"] or recipe.model
            (where,) = named_models([source]).values()
            self.fleet.weights[recipe.model] = model.weights
            self.pool = Pool(
                runners(self.fleet, Offer({recipe.model: where}, offload=values["offload"]))
            )
            self.stack.enter_context(self.pool)
        secrets: dict[str, str] = {}
        for method in run.process.methods:
            secrets |= secret_texts(method)
        row = Task(f"row-{k}", 1, job.model_dump_json(), inputs, secrets=secrets)
        return self.pool.submit(row)

    def _made(self, one: Planned) -> Result:
        if one.made is None:
            raise SfumatoError("its pictures were removed while the batch was at work")
        files, notes = one.made.result()
        for note in notes:
            if note not in self.said:
                self.said.add(note)
                log.info("%s", note)
        pictures = [picture_of(file.data, file.name) for file in files]
        if not pictures or pictures[0].recipe is None:
            raise SfumatoError("no picture came back; is the same version on all nodes?")
        return Result(pictures, pictures[0].recipe)


@contextmanager
def shipping() -> Iterator[dict[str, Path]]:
    """While active, recipes name weights that are files of this machine by their hash; the files
    by it. Nodes have folders and what is the hub's under their names."""
    files: dict[str, Path] = {}

    def named(text: str) -> str:
        path = expanded(text)
        if not is_file(path):
            return called(text)
        sha256 = weights_digest(path)
        files[sha256] = path
        return str(Reference(sha256, path.name))

    with naming_by(named):
        yield files


def adapters(recipe: Recipe, typed: Sequence[Path], source: str | None) -> Mapping[str, Path]:
    """The recipe's adapters that are files of this machine, by sha256; nodes have the others."""
    folders = [Path.cwd()] if source is None else [Path(source).resolve().parent, Path.cwd()]
    files = {}
    for adapter in recipe.adapters:
        name = Path(adapter["file"]).name
        here = next((path for path in typed if path.name == name and path.is_file()), None)
        path = here or placed(name, folders)
        if path is not None and path.is_file():
            files[adapter["sha256"]] = path
    return files


def picture_of(data: bytes, name: str) -> images.Picture:
    """A picture as it was before it was written as this PNG."""
    opened = identify(data, name)
    opened.load()
    text = texts_of(opened).get("sfumato")
    packet = str(opened.info.get("XML:com.adobe.xmp", ""))
    opened.info = {k: v for k, v in opened.info.items() if k == "icc_profile"}
    recipe = None if text is None else Recipe.from_json(text, name)
    return images.Picture.of(opened, recipe=recipe, composite="/compositeWith" in packet)


@contextmanager
def spread(address: str, line: CommandLine, rows: Sequence[Row]) -> Iterator[Callable[[Row], Job]]:
    """How each row's pictures are made by the cluster at an address."""
    if line.values["device"] != "auto":
        raise SfumatoError("--device: goes without --ray, which has a runner for each GPU")
    fleet = connected(address)
    with tempfile.TemporaryDirectory(prefix="sfumato-batch-") as folder, ExitStack() as stack:
        yield Batch(fleet, line, rows, Path(folder), stack).job
