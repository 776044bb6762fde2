"""A sweep that a server makes: its pictures come as they are made, its pages at the end."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sfumato import documents
from sfumato.claims import claimed
from sfumato.cli.remote.server import Server, done
from sfumato.cli.swept import Swept
from sfumato.core.errors import SfumatoError
from sfumato.core.interrupts import undisturbed
from sfumato.images.writing import make_folder, write_whole
from sfumato.measure.axis import Axis, Value, said
from sfumato.measure.curve import GIVEN, KNEE
from sfumato.measure.sweep import OWNED, PICTURES, RECIPE
from sfumato.server.events import AnyEvent, ChildEnded, Note
from sfumato.server.jobs import File, State

Cells = Sequence[tuple[str, Value]]


def swept(
    server: Server,
    asked: Mapping[str, Any],
    folder: Path,
    over: Axis,
    cells: Cells,
    update: Callable[[int], None],
) -> Swept:
    """Have it made, and put into the folder what a sweep here would.

    cells: prompt and value of each. Stopped, the folder keeps the pictures that were made.
    """
    if server.detach:
        server.send([asked])
    OWNED.check_free(folder)
    with claimed(folder):
        (id,) = server.send([asked])
        taken = Taken(server, id, folder)
        errors: list[str] = []

        def watch(event: AnyEvent) -> None:
            if isinstance(event, Note):
                errors.extend(failure_of(event.text, over, cells))
            if isinstance(event, ChildEnded):
                update(int(event.progress.done))
                if event.state == State.DONE:
                    taken.pictures(event.child)

        job = done(server.follow(id, watch))
        taken.files(job.results)
    text = documents.read_text(folder / "curve.csv")
    chosen = marked(text, over)
    rule = "" if chosen is None else KNEE if asked["choose"] is None else GIVEN
    return Swept(folder, text, chosen, rule, len(cells), tuple(dict.fromkeys(errors)))


class Taken:
    """A sweep's files in its folder."""

    def __init__(self, server: Server, id: str, folder: Path) -> None:
        self.server, self.id, self.folder = server, id, folder
        self.begun = False

    def begin(self, files: Sequence[File]) -> None:
        """Make the folder this sweep's; another's is refused."""
        known = {file.name: file for file in files}
        if self.begun or OWNED.file not in known:
            return
        text = self.server.fetch(self.id, known[OWNED.file])
        OWNED.hold(self.folder, OWNED.parse(text), text)
        make_folder(self.folder / PICTURES)
        if RECIPE in known:
            self.write(known[RECIPE], self.id)
        self.begun = True

    def pictures(self, child: str) -> None:
        """What a child has made, as soon as it is there."""
        if not self.begun:
            self.begin(self.server.job(self.id).results)
        job = self.server.job(child)
        stem = job.name.rpartition("-")[0]
        for file in job.results if self.begun else ():
            self.write(file, child, f"{stem}-{file.seed}.png")

    def files(self, files: Sequence[File]) -> None:
        """All the others."""
        self.begin(files)
        for file in files:
            if file.name != OWNED.file:
                self.write(file, self.id)

    def write(self, file: File, id: str, name: str = "") -> None:
        """A file under its name; a picture that is there already is left as it is."""
        name = name or file.name
        path = self.folder / name
        kept = name == RECIPE or name.startswith(f"{PICTURES}/")
        if kept and path.exists():
            return
        data = self.server.fetch(id, file)
        with undisturbed():
            make_folder(path.parent)
            write_whole(path, data)


def failure_of(note: str, over: Axis, cells: Cells) -> list[str]:
    """The error of a cell, where a note tells one, as measure.sweep says it."""
    heads = (f"{over.name} = {said(value)}, {text}: " for text, value in cells)
    return [note[len(head) :] for head in heads if note.startswith(head)][:1]


def marked(curve: str, over: Axis) -> Value | None:
    """The value that curve.csv marks."""
    try:
        rows = list(csv.reader(io.StringIO(curve)))[1:]
    except csv.Error as error:
        raise SfumatoError(f"curve.csv: is no table ({error}); sweep again") from None
    names = {row[0] for row in rows if row and row[-1] == "x"}
    return next((value for value in over.values if said(value) in names), None)
