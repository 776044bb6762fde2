"""Dispatcher: gives jobs to runners, and makes of what happens there states, files and events."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import mimetypes
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.server import events
from sfumato.server.events import Sent
from sfumato.server.jobs import File, Kind, Progress, State, When
from sfumato.server.kept import AGAIN, Kept
from sfumato.server.queue import Entry
from sfumato.server.runner.protocol import (
    LAST,
    Expanded,
    Failed,
    Finished,
    Happening,
    Made,
    Ready,
    Runner,
    RunnerLostError,
    Said,
    Stepped,
    Task,
)
from sfumato.server.states import States
from sfumato.server.store import reading, records

log = logging.getLogger("sfumato.server")


class Dispatcher:
    """One loop for each runner. offers: what each runner last said of itself."""

    def __init__(self, kept: Kept, runners: Sequence[Runner]) -> None:
        self.kept = kept
        self.runners = {runner.name: runner for runner in runners}
        self.states = States(kept, self._stop, self._finish)
        self.offers: dict[str, Ready] = {}
        self.hurry = asyncio.Event()
        """Set: jobs at work get no more time to end in."""
        self.loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin all runners; SfumatoError where one cannot begin, or none can now."""
        begun = await asyncio.gather(
            *(self._start(runner) for runner in self.runners.values()), return_exceptions=True
        )
        errors = [error for error in begun if isinstance(error, BaseException)]
        lost = [error for error in errors if isinstance(error, RunnerLostError)]
        if len(lost) < len(errors) or len(lost) == len(begun):
            await self.close()
            first = next((e for e in errors if not isinstance(e, RunnerLostError)), errors[0])
            raise SfumatoError(str(first)) if isinstance(first, RunnerLostError) else first
        for error in lost:
            log.error("%s", error)

    def devices(self) -> dict[str, str]:
        """Of every runner that is alive."""
        alive = {name for name, runner in self.runners.items() if runner.alive}
        return {name: ready.device for name, ready in self.offers.items() if name in alive}

    async def _start(self, runner: Runner) -> None:
        self.offers[runner.name] = await runner.start()

    def begin(self) -> None:
        """From now on jobs are given out."""
        self.loops = [asyncio.create_task(self._serve(r)) for r in self.runners.values()]

    async def drain(self, seconds: float) -> None:
        """Begin no more; what is at work gets so long to end, then waits for the next start."""
        self.kept.closing = True
        at_work = [entry for entry in self.kept.queue.open.values() if entry.runner]
        idle = [loop for loop in self.loops if loop not in self._busy()]
        for loop in idle:
            loop.cancel()
        if at_work:
            log.info("waiting %g s for %d jobs at work", seconds, len(at_work))
            hurry: asyncio.Future[Any] = asyncio.ensure_future(self.hurry.wait())
            ended: asyncio.Future[Any] = asyncio.gather(*self.loops, return_exceptions=True)
            await asyncio.wait({hurry, ended}, timeout=seconds,
                               return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
            hurry.cancel()
        for loop in self.loops:
            loop.cancel()
        await asyncio.gather(*self.loops, return_exceptions=True)
        for entry in [e for e in self.kept.queue.open.values() if e.runner]:
            if entry.cancelling is not None:
                await self.states.end(entry, State.CANCELLED)
            else:
                await self.states.again(entry, "the server was stopped")
        await self.close()

    def _busy(self) -> set[asyncio.Task[None]]:
        names = {entry.runner for entry in self.kept.queue.open.values()}
        pairs = zip(self.runners, self.loops, strict=False)
        return {loop for name, loop in pairs if name in names}

    async def close(self) -> None:
        for loop in self.loops:
            loop.cancel()
        await asyncio.gather(*self.loops, return_exceptions=True)
        for runner in self.runners.values():
            await runner.close()

    def _stop(self, entry: Entry) -> None:
        if entry.runner is not None:
            self.runners[entry.runner].cancel(entry.id)

    def _finish(self, entry: Entry) -> None:
        if entry.runner is not None:
            self.runners[entry.runner].finish(entry.id)

    async def _serve(self, runner: Runner) -> None:
        """Give jobs to one runner, as long as the server lives."""
        while not self.kept.closing:
            if not runner.alive:
                await self._revive(runner)
            entry = await self.kept.queue.next()
            if not runner.alive:  # it died while it waited, which is no loss of the job's
                self.kept.queue.add(entry)
                continue
            entry.runner = runner.name
            try:
                await self.attempt(runner, entry)
            except RunnerLostError as error:
                log.warning("runner %s is gone (%s)", runner.name, error, extra=entry.logged)
                await self.states.lost(entry, "its runner was lost")
            except Exception as error:  # a bug, which must not stop the queue
                log.exception("job could not be done", extra=entry.logged)
                await runner.close()
                line = f"internal error of the server: {type(error).__name__}; its log says more"
                await self.states.end(entry, State.FAILED, line)

    async def _revive(self, runner: Runner) -> None:
        wait, most = AGAIN
        while True:
            try:
                await self._start(runner)
                return
            except (SfumatoError, RunnerLostError) as error:
                log.error("%s", error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, most)

    async def attempt(self, runner: Runner, entry: Entry) -> None:
        """One attempt at a job."""
        await self.states.begin(entry, runner.name)
        began = time.monotonic()
        device = self.offers[runner.name].device
        task, kind = await self.kept.seen(lambda: self._task(entry, device))
        before = await self.kept.seen(lambda: reading.files_of(self.kept.db, entry.id))
        attempt = Attempt(self.kept, entry, before)
        last: Happening | None = None
        if entry.cancelling is When.NOW:  # meanwhile
            await self.states.end(entry, State.CANCELLED)
            return
        async for happening in runner.run(task):
            if isinstance(happening, Expanded):
                last = happening
            elif isinstance(happening, LAST):
                last = happening if last is None or isinstance(happening, Failed) else last
            else:
                await attempt.take(happening)
        await attempt.settled()
        if isinstance(last, Finished):
            await attempt.forget_untold()
        ending = [self._ended(entry, last)]
        if isinstance(last, Finished) and last.pace is not None:
            model, size, device = kind
            cost = partial(records.cost, model=model, size=size, device=device, seconds=last.pace)
            ending.append(self.kept.surely(cost))
        if isinstance(last, Finished) and (work := entry.work) is not None and _counts(entry):
            seconds = (time.monotonic() - began) / work.steps
            whole = partial(records.cost, model=work.model, size=work.size, device=device,
                            seconds=seconds, table="durations")  # fmt: skip
            ending.append(self.kept.surely(whole))
        await asyncio.gather(*ending)  # in one transaction

    async def _ended(self, entry: Entry, last: Happening | None) -> None:
        if isinstance(last, Expanded):
            inputs = [row["sha256"] for row in await self.kept.seen(lambda: self._inputs(entry))]
            await self.states.expand(entry, last.requests, last.names, inputs)
        elif isinstance(last, Finished):
            await self.states.end(entry, State.DONE)
        elif isinstance(last, Failed):
            if last.trace:
                log.error("%s\n%s", last.line, last.trace, extra=entry.logged)
            await self.states.end(entry, State.FAILED, last.line)
        elif last is None:
            raise RunnerLostError("its stream ended early")
        else:
            await self.states.end(entry, State.CANCELLED)

    def _inputs(self, entry: Entry) -> Sequence[Any]:
        return self.kept.db.read("SELECT sha256 FROM inputs WHERE job = ?", (entry.id,))

    def _task(self, entry: Entry, device: str) -> tuple[Task, tuple[str, str, str]]:
        """What the runner gets, and by what its pace is known again."""
        row = reading.row_of(self.kept.db, entry.id)
        assert row is not None  # open jobs are never forgotten
        kind = _kind(row["request"], device)
        cost = self.kept.db.one(
            "SELECT seconds FROM costs WHERE model = ? AND size = ? AND device = ?", kind
        )
        files = None
        if entry.phase == "finish":
            hashes = reading.made_by_children(self.kept.db, entry.id)
            files = {name: self.kept.files.path(sha256) for name, sha256 in hashes.items()}
        inputs = {r["sha256"]: self.kept.files.path(r["sha256"]) for r in self._inputs(entry)}
        pace = None if cost is None else float(cost["seconds"])
        folder = self.kept.runs.path(entry.id) if entry.kind is Kind.TRAIN else None
        task = Task(
            entry.id, entry.attempt, row["request"], inputs, files, pace, folder, entry.asked_by,
            self.kept.secrets.of(entry.id, entry.parent),
        )  # fmt: skip
        return task, kind


def _counts(entry: Entry) -> bool:
    """Whether what a job took is what such jobs take: not of a part of it."""
    if entry.work is None or entry.kind is Kind.SWEEP or entry.cancelling is not None:
        return False
    return entry.attempt == 1 and entry.phase == "begin" and entry.work.steps > 0


def _kind(request: str, device: str) -> tuple[str, str, str]:
    """Model, size and device, which say how long a network call takes."""
    recipe = json.loads(request).get("recipe") or {}
    size = json.dumps([recipe.get("size"), recipe.get("n", 1)])
    return str(recipe.get("model", "")), size, device


class Attempt:
    """Takes what happens in one attempt, in order. before: files that earlier ones have made."""

    def __init__(self, kept: Kept, entry: Entry, before: Sequence[File]) -> None:
        self.kept, self.entry = kept, entry
        self.number = entry.attempt
        self.places = {file.name: file.place for file in before}  # of one that is told again
        self.untold = set(self.places)
        self.next = 1 + max(self.places.values(), default=-1)
        self.writing: set[asyncio.Task[None]] = set()

    async def take(self, happening: Happening) -> None:
        if self.entry.attempt != self.number or self.entry.state.ended:
            return  # of an attempt that is over
        if isinstance(happening, Stepped):
            self._step(happening)
        elif isinstance(happening, Said):
            event = events.Note(**self._of(), text=happening.text, always=happening.always)
            work = partial(records.note, event=event, client=self.entry.client)
            task = asyncio.create_task(self.kept.tell(work))
            self.writing.add(task)
            task.add_done_callback(self.writing.discard)
        elif isinstance(happening, Made):
            await self._made(happening)

    async def settled(self) -> None:
        """All is written."""
        if self.writing:
            await asyncio.gather(*self.writing)

    def _of(self) -> dict[str, Any]:
        entry = self.entry
        return {
            "job": entry.id, "parent": entry.parent, "attempt": self.number,
            "at": self.kept.moment(),
        }  # fmt: skip

    async def forget_untold(self) -> None:
        """Of the files that earlier attempts have made, those that this one has not."""
        if self.untold:
            places = [self.places[name] for name in self.untold]
            await self.kept.surely(partial(records.drop_results, id=self.entry.id, places=places))

    def _step(self, step: Stepped) -> None:
        progress = Progress(done=step.done, total=step.total, eta_s=step.seconds_left)
        self.entry.progress = progress
        preview = None
        if step.preview is not None:
            preview = "data:image/webp;base64," + base64.b64encode(step.preview).decode()
        event = events.Step(
            **self._of(), i=step.i, n=step.n, stage=step.stage, progress=progress, preview=preview
        )
        entry = self.entry
        self.kept.hub.publish(
            Sent(None, entry.id, entry.parent, entry.client, "step", event.model_dump_json())
        )

    async def _made(self, made: Made) -> None:
        """The bytes on the disk first, then the row that says so."""
        put = partial(asyncio.to_thread, self.kept.files.put, made.data)
        sha256 = await self.kept.patiently(put)
        name = Path(made.name).as_posix()
        place = self.places.setdefault(name, self.next)
        self.next = max(self.next, place + 1)
        self.untold.discard(name)
        file = described(made, name, sha256, place)
        event = events.PictureMade(**self._of(), file=file)
        try:
            await self.kept.tell(
                partial(
                    records.result, id=self.entry.id, file=file, event=event,
                    client=self.entry.client, now=self.kept.now(),
                )
            )  # fmt: skip
        finally:
            self.kept.files.release(sha256)


def described(made: Made, name: str, sha256: str, place: int) -> File:
    """A file as clients see it; a picture's type is what its bytes are."""
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    width = height = None
    if kind.startswith("image/"):
        from PIL import Image

        with suppress(OSError, ValueError), Image.open(io.BytesIO(made.data)) as image:
            width, height = image.size
            kind = Image.MIME.get(image.format or "", kind)
    return File(
        sha256=sha256, name=name, media_type=kind, bytes=len(made.data),
        place=place, width=width, height=height, seed=made.seed,
    )  # fmt: skip
