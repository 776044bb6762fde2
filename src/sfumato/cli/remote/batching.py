"""A batch that a server makes: all rows are one job, whose children's pictures come one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato.cli.remote.chosen import Chosen
from sfumato.cli.remote.results import result_of
from sfumato.cli.remote.server import Server, done, server_of
from sfumato.core.errors import SfumatoError
from sfumato.core.interrupts import undisturbed
from sfumato.models.batch import UNREACHED, Job, Row
from sfumato.models.result import Result
from sfumato.server.events import AnyEvent, ChildEnded
from sfumato.server.jobs import State

TOGETHER = 1000  # rows of one job
BYTES = 4 << 20  # of one request


@dataclass(frozen=True)
class Planned:
    """A row's paths and what is asked for it; error: why nothing can be."""

    paths: Sequence[Path] = ()
    asked: Mapping[str, Any] | None = None
    error: str = ""


@dataclass
class Batch:
    """Jobs of a batch. places: of rows, their job and their child among its children."""

    server: Server
    ids: list[str]
    places: Mapping[int, tuple[str, int]]
    stack: ExitStack
    ended: set[str] = field(default_factory=set)
    children: dict[str, list[str]] = field(default_factory=dict)
    events: dict[str, Iterator[AnyEvent]] = field(default_factory=dict)
    stopped: KeyboardInterrupt | None = None

    def made(self, row: int) -> Result:
        """A row's pictures, waited for. Once it was stopped, of those that were made by then."""
        id, place = self.places[row]
        try:
            child = self._child(id, place)
            if self.stopped is None:
                self._wait(id, child)
        except KeyboardInterrupt as stop:
            self._stop(stop)
            child = self._child(id, place)
        job = self.server.job(child)
        if self.stopped is not None and job.state is not State.DONE:
            raise SfumatoError(UNREACHED)
        return result_of(self.server, done(job))

    def _child(self, id: str, place: int) -> str:
        if id not in self.children:
            self.children[id] = [job.id for job in self.server.children(id)]
        return self.children[id][place]

    def _wait(self, id: str, child: str) -> None:
        events = self.events.setdefault(id, self.server.events(id))
        while child not in self.ended:
            event = next(events, None)
            if event is None:
                return
            if isinstance(event, ChildEnded):
                self.ended.add(event.child)

    def _stop(self, stop: KeyboardInterrupt) -> None:
        """Stop the jobs, once; what was made is still taken."""
        self.stopped = stop
        self.stack.enter_context(undisturbed())
        for id in self.ids:
            self.server.cancel(id)
            self.server.settled(id)


@contextmanager
def sent(chosen: Chosen, line: Any, rows: Sequence[Row]) -> Iterator[Callable[[Row], Job]]:
    """How each row's pictures are made, when all that are missing have been sent.

    line: composes a row (rows.CommandLine).
    """
    server = server_of(chosen)
    taken: set[Path] = set()
    planned = {k: _planned(server, line, row, taken) for k, row in enumerate(rows)}
    bodies, places = _bodies(planned)
    ids = server.send(bodies)
    stack = ExitStack()
    named = {k: (ids[job], place) for k, (job, place) in places.items()}
    batch = Batch(server, ids, named, stack)
    order = {id(row): k for k, row in enumerate(rows)}

    def job(row: Row) -> Job:
        k = order[id(row)]
        if planned[k].error:
            raise SfumatoError(planned[k].error)
        return Job(planned[k].paths, lambda: batch.made(k))

    with stack, server.stopping(*ids):
        yield job
    if batch.stopped is not None:
        raise batch.stopped


def _planned(server: Server, line: Any, row: Row, taken: set[Path]) -> Planned:
    """A row composed, its pictures sent where its own are missing. taken: by earlier rows."""
    try:
        paths, run = line.composed(row)
        if taken & set(paths) or all(path.is_file() for path in paths):
            return Planned(paths)
        taken.update(paths)
        server.upload(run.inputs)
    except SfumatoError as error:
        return Planned(error=str(error))
    return Planned(paths, {**run.row, "name": row.name[:200]})


def _bodies(
    planned: Mapping[int, Planned],
) -> tuple[list[dict[str, Any]], dict[int, tuple[int, int]]]:
    """Requests, and of each row that is in one, which and where."""
    parts: list[list[Mapping[str, Any]]] = []
    places, room = {}, 0
    for k, one in planned.items():
        if one.asked is None:
            continue
        size = len(json.dumps(one.asked))
        if not parts or len(parts[-1]) == TOGETHER or room < size:
            parts.append([])
            room = BYTES
        places[k] = (len(parts) - 1, len(parts[-1]))
        parts[-1].append(one.asked)
        room -= size
    return [{"kind": "batch", "rows": rows} for rows in parts], places
