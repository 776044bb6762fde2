"""A comparison that a server does: its files come as they are made, then the table.

The folder is what one here would be, and goes on: pictures that are there are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sfumato import documents
from sfumato.claims import claimed
from sfumato.cli.remote.sent import Sent
from sfumato.cli.remote.server import Server, done
from sfumato.core.errors import SfumatoError
from sfumato.core.interrupts import undisturbed
from sfumato.images import ImageInput
from sfumato.images.writing import make_folder, write_whole
from sfumato.measure.compare import OWNED, PICTURES, Comparison
from sfumato.measure.tables import Line, Table
from sfumato.metrics.kernel import Estimate
from sfumato.server.events import AnyEvent, PictureMade, Step
from sfumato.server.jobs import File, Job

REPORT = "report.json"


class Measured(BaseModel):
    """A row of the table."""

    model_config = ConfigDict(frozen=True)

    way: str
    measure: str
    estimate: Estimate
    difference: Estimate | None


class Report(BaseModel):
    """What a server says of a comparison."""

    model_config = ConfigDict(frozen=True)

    ways: Annotated[tuple[str, ...], Field(min_length=1)]
    lines: tuple[Measured, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class SentWay:
    """A way for a server. fills: ids of the methods whose `image` is the input; None: the first
    that has one."""

    sent: Sent
    fills: tuple[str, ...] | None = None


def compared(
    ways: Mapping[str, SentWay],
    folder: str | Path,
    *,
    inputs: Sequence[Any],
    prompts: Sequence[str],
    seeds: int,
    seed: int,
    update: Callable[[int], None],
) -> Comparison:
    """Have it made, and put into the folder what a comparison here would."""
    server = next(iter(ways.values())).sent.server
    pictures = [ImageInput.of(value) for value in inputs]
    server.upload([*pictures, *(one for way in ways.values() for one in way.sent.inputs)])
    asked = {
        "kind": "compare",
        "ways": [
            {"name": name, "recipe": way.sent.row["recipe"], "fills": way.fills}
            for name, way in ways.items()
        ],
        "inputs": [{"sha256": one.sha256, "name": one.name} for one in pictures],
        "prompts": list(prompts), "seeds": seeds, "seed": seed,
    }  # fmt: skip
    place = Path(folder)
    if server.detach:
        server.send([asked])
    OWNED.check_free(place)
    with claimed(place):
        (id,) = server.send([asked])
        taken = Taken(server, id, place)

        def watch(event: AnyEvent) -> None:
            if isinstance(event, PictureMade):
                taken.file(event.file)
            elif isinstance(event, Step):
                update(event.i)

        return taken.all(done(server.follow(id, watch)))


class Taken:
    """A comparison's files in its folder."""

    def __init__(self, server: Server, id: str, folder: Path) -> None:
        self.server, self.id, self.folder = server, id, folder
        self.begun = False

    def all(self, job: Job) -> Comparison:
        """Those that are not there yet, and what they come to."""
        for file in sorted(job.results, key=lambda file: file.name != OWNED.file):
            self.file(file)
        report = next((file for file in job.results if file.name == REPORT), None)
        if report is None or not self.begun:
            missing = REPORT if self.begun else OWNED.file
            raise SfumatoError(
                f"{self.server.connection.url}: sent no {missing} of job {self.id}; try again, or "
                "update it"
            )
        said = documents.parse_json(Report, self.server.fetch(self.id, report), REPORT)
        return Comparison(self.folder, table_of(said), said.failed)

    def file(self, file: File) -> None:
        """A file under its name; first of all compare.json, which says whose folder it is."""
        name = Path(file.name)
        if file.name == REPORT:
            return
        if file.name == OWNED.file:
            if not self.begun:
                text = self.server.fetch(self.id, file)
                OWNED.hold(self.folder, OWNED.parse(text), text)
                make_folder(self.folder / PICTURES)
            self.begun = True
            return
        path = self.folder / file.name
        if not self.begun or (name.parts[0] == PICTURES and path.exists()):
            return
        data = self.server.fetch(self.id, file)
        with undisturbed():
            make_folder(path.parent)
            write_whole(path, data)


def table_of(said: Report) -> Table:
    lines = (Line(one.way, one.measure, one.estimate, one.difference) for one in said.lines)
    return Table(said.ways, tuple(lines))
