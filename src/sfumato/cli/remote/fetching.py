"""Files of a job that nobody waited for, saved as the verb that submitted it would have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sfumato.cli import show
from sfumato.cli.remote.comparing import Taken as Compared
from sfumato.cli.remote.results import result_of
from sfumato.cli.remote.server import Server, again, done
from sfumato.cli.remote.sweeping import Taken
from sfumato.cli.remote.teaching import take
from sfumato.core.errors import SfumatoError
from sfumato.images.destination import Destination, check_file
from sfumato.images.writing import write_safely
from sfumato.measure import compare, sweep
from sfumato.models.result import Result
from sfumato.server.jobs import Job, Kind, State
from sfumato.train.run_folder import make_folder

PICTURES, ROWS = "{prompt}-{seed}.png", "batch/{name}-{seed}.png"


def fetched(server: Server, job: Job, output: str | None, as_json: bool) -> None:
    """What a job has made; SfumatoError at the end says why it is not all."""
    if job.kind in (Kind.SWEEP, Kind.TRAIN):
        folder = Path(output or ("sweep" if job.kind is Kind.SWEEP else job.name or job.id))
        _folder(server, job, folder)
        print(folder / "index.html" if job.kind is Kind.SWEEP else folder)
    elif job.kind is Kind.COMPARE:
        folder = Path(output or "compare")
        compare.OWNED.check_free(folder)
        print(Compared(server, job.id, folder).all(done(job)).folder / "sheet.png")
    elif job.kind in (Kind.EVAL, Kind.PLAN):
        print(_report(server, done(job), output))
    elif job.kind is Kind.BATCH:
        target = Destination.of(output or ROWS, "name", "row")
        paths, left = _rows(server, job, target)
        print(json.dumps({"paths": [str(p) for p in paths], "failed": left}) if as_json else
              "\n".join(map(str, paths)))  # fmt: skip
        if left:
            raise SfumatoError(f"{len(left)} of its rows have no pictures, such as {left[0]}")
    else:
        target = Destination.of(output or PICTURES)
        target.check([target.folder / "x"])
        result = result_of(server, done(job))
        written = result.write(target)
        show.saved([one.path for one in written], result.recipe, as_json)
        if troubles := [one.trouble for one in written if one.trouble]:
            raise SfumatoError("; ".join(troubles))
    done(job)


def _report(server: Server, job: Job, output: str | None) -> Path:
    """What was measured or planned, as JSON."""
    if not job.results:
        raise SfumatoError(f"job {job.id}: has left no report; {again(job.id)}")
    file = job.results[-1]
    target = Path(output or file.name)
    check_file(target)
    written = write_safely(target, server.fetch(job.id, file))
    if written.trouble:
        raise SfumatoError(written.trouble)
    return written.path


def _folder(server: Server, job: Job, folder: Path) -> None:
    if job.kind is Kind.TRAIN:
        make_folder(folder)
        take(server, job, folder)
        return
    sweep.OWNED.check_free(folder)
    taken = Taken(server, job.id, folder)
    if job.state is not State.DONE:
        for child in server.children(job.id):
            if child.state is State.DONE:
                taken.pictures(child.id)
    taken.files(job.results)


def _rows(server: Server, job: Job, target: Destination) -> tuple[list[Path], list[str]]:
    """Paths of a batch's pictures, and names of the rows that have none."""
    paths, left = [], []
    for number, child in enumerate(server.children(job.id), 1):
        name = child.name or f"{number:04d}"
        if child.state is not State.DONE:
            left.append(name)
            continue
        result = result_of(server, child)
        paths += list(_written(result, target, name, number))
    return paths, left


def _written(result: Result, target: Destination, name: str, number: int) -> Iterator[Path]:
    """What exists is left as it is."""
    places = target.paths(
        result.recipe.prompt, result.recipe.seed, _indices(result), name=name, row=str(number)
    )
    for picture, path in zip(result.images, places, strict=True):
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
            yield path


def _indices(result: Result) -> Sequence[int]:
    pictures: Sequence[Any] = result.images
    return [picture.recipe.run.get("index", k) for k, picture in enumerate(pictures)]
