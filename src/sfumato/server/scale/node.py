"""What an actor is on its node: a runner's process there, and the files that tasks need.

The process is the one that a server has for a device of its own, so tasks are done, stopped and
replaced in the same way. Nothing here imports ray.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.server import logs
from sfumato.server.runner.child import Work
from sfumato.server.runner.process import ProcessRunner
from sfumato.server.runner.protocol import (
    Happening,
    Ready,
    RunnerLostError,
    Stepped,
    Stopped,
    Task,
)

PULSE = 5.0  # seconds without a happening after which a node says that it is there
WATCHED = 0.5  # seconds between looks at an idle process
DEPARTS = 5.0  # seconds that a word of its end may take


@dataclass(frozen=True)
class Parcel:
    """A task for a node: bytes in the place of paths.

    inputs: sha256 -> bytes, or None of what the task before had too. files: as Task's.
    """

    task: Task
    inputs: Mapping[str, bytes | None] = field(default_factory=dict)
    files: Mapping[str, bytes] | None = None


@dataclass(frozen=True)
class Refusal:
    """In the place of an answer: one line that says why there is none."""

    line: str


class Node:
    """A runner on a node. make: as a ProcessRunner's.

    gather: seconds between words of a task that goes on; of the steps meanwhile the last is told.
    """

    def __init__(self, name: str, make: Callable[[], Work], gather: float = 0.0) -> None:
        self.gather = gather
        self.folder = tempfile.TemporaryDirectory(prefix="sfumato-node-")
        self.place = Path(self.folder.name)
        with suppress(AttributeError):  # or else its process would run ray's own program too
            del sys.modules["__main__"].__file__
        self.runner = ProcessRunner(name, make)
        self.stopping: str | None = None

    async def here(self) -> tuple[str, int]:
        """Host and process, once the actor has its place."""
        return socket.gethostname(), os.getpid()

    async def start(self) -> Ready | Refusal:
        """Begin to live."""
        if not logging.getLogger().handlers:  # an actor's process, whose stderr Ray keeps
            logs.of_process(dict)
        try:
            return await self.runner.start()
        except SfumatoError as error:
            return Refusal(str(error))

    async def watch(self) -> None:
        """Return when its process is gone."""
        while self.runner.alive or self.runner.at_work:
            await asyncio.sleep(WATCHED)

    async def run(self, parcel: Parcel) -> AsyncIterator[tuple[Happening, ...]]:
        """What has happened since the last tuple; an empty one says that it is there."""
        id = parcel.task.id
        told: asyncio.Queue[Happening] = asyncio.Queue()
        task = await asyncio.to_thread(self._unpacked, parcel)
        if self.stopping == id:
            yield (Stopped(),)
            return
        work = asyncio.create_task(self._pass_on(task, told))
        try:
            while not work.done() or not told.empty():
                yield self._thinned(await self._heard(told, work))
            await work
        finally:
            if not work.done():
                self.runner.cancel(id)
                work.cancel()

    async def _pass_on(self, task: Task, told: asyncio.Queue[Happening]) -> None:
        async for happening in self.runner.run(task):
            told.put_nowait(happening)

    async def _heard(
        self, told: asyncio.Queue[Happening], work: asyncio.Task[None]
    ) -> list[Happening]:
        """What was told, once something was or the pulse is due."""
        if self.gather:
            await asyncio.wait({work}, timeout=self.gather)
        if told.empty():
            first = asyncio.create_task(told.get())
            ended = asyncio.FIRST_COMPLETED
            await asyncio.wait({first, work}, timeout=PULSE, return_when=ended)
            if not first.cancel():
                return [first.result(), *_rest(told)]
        return _rest(told)

    def _thinned(self, happenings: list[Happening]) -> tuple[Happening, ...]:
        """Without steps that a later one stands for, where words are gathered."""
        last = max((k for k, h in enumerate(happenings) if isinstance(h, Stepped)), default=-1)
        return tuple(
            happening
            for k, happening in enumerate(happenings)
            if not self.gather
            or not isinstance(happening, Stepped)
            or k == last
            or happening.preview is not None
        )

    async def cancel(self, id: str) -> None:
        """Stop that task, if it is at work or on its way."""
        self.stopping = id
        self.runner.cancel(id)

    async def finish(self, id: str) -> None:
        """Let that task end with what it has."""
        self.runner.finish(id)

    async def plan(self, request: str, inputs: Mapping[str, bytes]) -> dict[str, Any] | Refusal:
        """What a request would do."""
        with tempfile.TemporaryDirectory(prefix="sfumato-plan-") as folder:
            put = {sha256: Path(folder) / sha256 for sha256 in inputs}
            for sha256, data in inputs.items():
                put[sha256].write_bytes(data)
            try:
                return await self.runner.plan(request, put)
            except SfumatoError as error:
                return Refusal(str(error))

    async def close(self) -> None:
        """End the process, and leave nothing on the node."""
        await self.runner.close()
        self.runner.folder.cleanup()
        self.folder.cleanup()

    def _unpacked(self, parcel: Parcel) -> Task:
        """The task with its files on this node; those of the last one that it has not go."""
        inputs = {sha256: self.place / sha256 for sha256 in parcel.inputs}
        keep = set(inputs.values())
        for file in self.place.iterdir():
            if file not in keep:
                file.unlink()
        for sha256, data in parcel.inputs.items():
            if data is not None:
                inputs[sha256].write_bytes(data)
            elif not inputs[sha256].is_file():
                raise RunnerLostError(f"{sha256} is not on the node")
        if parcel.files is None:
            return replace(parcel.task, inputs=inputs)
        files = {name: self.place / f"file-{k}" for k, name in enumerate(parcel.files)}
        for name, data in parcel.files.items():
            files[name].write_bytes(data)
        return replace(parcel.task, inputs=inputs, files=files)


def _rest(told: asyncio.Queue[Happening]) -> list[Happening]:
    return [told.get_nowait() for _ in range(told.qsize())]


def packed(task: Task, there: frozenset[str]) -> Parcel:
    """A task with the bytes of its files. there: hashes of the pictures that the last one had."""
    inputs = {s: None if s in there else path.read_bytes() for s, path in task.inputs.items()}
    files = None
    if task.files is not None:
        files = {name: path.read_bytes() for name, path in task.files.items()}
    return Parcel(replace(task, inputs={}, files=None, folder=None), inputs, files)
