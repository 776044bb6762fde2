"""States: every change of a job's state, of children and parents too.

In memory at once, so that no two changes meet; then in the table; then told to listeners.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sfumato.server import events
from sfumato.server.events import Sent
from sfumato.server.jobs import File, Kind, Progress, State, When
from sfumato.server.kept import Kept
from sfumato.server.queue import Entry
from sfumato.server.requests import JobRequest
from sfumato.server.store import reading, records
from sfumato.server.store.records import New
from sfumato.server.works import work_of

LOSSES = 2  # so often a job that was lost, with its runner or the server, is begun again
TOGETHER = 400  # children that are cancelled at once

Cancel = Callable[[Entry], None]


def new_id() -> str:
    return secrets.token_hex(10)


def entry_of(row: sqlite3.Row) -> Entry:
    """A row as the queue has it."""
    cancelling = None if row["cancelling"] is None else When(row["cancelling"])
    return Entry(
        row["id"], row["number"], row["client"], Kind(row["kind"]), row["phase"], row["parent"],
        row["priority"], row["position"], row["attempt"], row["losses"], State(row["state"]),
        cancelling, work=work_of(row["request"]), asked_by=row["asked_by"],
    )  # fmt: skip


class States:
    """stop: tells the runner of an entry to stop it; finish: to let it end with what it has."""

    def __init__(self, kept: Kept, stop: Cancel, finish: Cancel) -> None:
        self.kept, self.stop, self.finish = kept, stop, finish

    async def insert(self, jobs: Sequence[New]) -> None:
        """New jobs; StoreError where they cannot be kept, and then none is."""
        told = [self._queued(job) for job in jobs]
        work = partial(records.insert, jobs=jobs, events=told, now=self.kept.now())
        self._enter(jobs, await self.kept.db.write(work))

    def _queued(self, job: New) -> events.Queued:
        return events.Queued(
            job=job.id, parent=job.parent, attempt=0, at=self.kept.moment(),
            kind=Kind(job.kind), name=job.name,
        )  # fmt: skip

    def _enter(self, jobs: Sequence[New], inserted: Sequence[tuple[int, Sent]]) -> None:
        """Into the queue, and told."""
        for job, (number, sent) in zip(jobs, inserted, strict=True):
            entry = Entry(
                job.id, number, job.client, Kind(job.kind), job.phase, job.parent,
                job.priority, number, work=work_of(job.request),
                asked_by=job.asked_by,
            )  # fmt: skip
            parent = self.kept.queue.open.get(job.parent or "")
            if parent is not None:
                parent.open += 1
                parent.total += 1
            if job.phase == "children":
                entry.state = State.RUNNING
                self.kept.queue.open[entry.id] = entry
            else:
                self.kept.queue.add(entry)
            self.kept.hub.publish(sent)

    async def begin(self, entry: Entry, runner: str) -> None:
        """A runner has it."""
        entry.runner, entry.state = runner, State.RUNNING
        entry.attempt += 1
        entry.began = time.monotonic()
        event = events.Started(**self._of(entry), runner=runner)
        await self.kept.tell(
            partial(
                records.begin, id=entry.id, attempt=entry.attempt, event=event,
                client=entry.client, now=self.kept.now(),
            )
        )  # fmt: skip

    async def end(self, entry: Entry, state: State, error: str | None = None) -> None:
        """It is over."""
        if entry.state.ended:
            return
        entry.state, entry.runner = state, None
        self.kept.queue.drop(entry)
        self.kept.secrets.drop(entry.id)
        files = await self.kept.seen(lambda: reading.files_of(self.kept.db, entry.id))
        event, progress = self._ending(entry, state, error, files), entry.progress
        parent = self.kept.queue.open.get(entry.parent or "")
        child: events.ChildEnded | None = None
        if parent is not None:
            parent.open -= 1
            parent.progress = Progress(done=parent.total - parent.open, total=parent.total)
            child = events.ChildEnded(
                **self._of(parent), child=entry.id, state=state, progress=parent.progress
            )

        def write(connection: sqlite3.Connection) -> list[Sent]:
            now = self.kept.now()
            sent = [
                records.end(connection, entry.id, state, error, progress, event, entry.client, now)
            ]
            if parent is not None and child is not None:
                done = parent.total - parent.open
                sent.append(records.parent_has(connection, parent.id, done, child, entry.client))
            return sent

        # counted first: whoever hears of its end finds it in the metrics
        self.kept.ended(entry.kind, state, time.monotonic() - entry.began if entry.began else 0.0)
        self.kept.hub.publish(*await self.kept.surely(write))
        self.kept.queue.close(entry)
        if entry.kind is Kind.TRAIN and state is State.DONE:
            await asyncio.to_thread(self.kept.runs.remove, entry.id)
        if parent is not None and parent.open == 0 and parent.phase == "children":
            await self.children_ended(parent)

    def _ending(
        self, entry: Entry, state: State, error: str | None, results: tuple[File, ...]
    ) -> events.AnyEvent:
        of = self._of(entry)
        if state is State.FAILED:
            return events.Failed(**of, error=error or "")
        if state is State.INTERRUPTED:
            return events.Interrupted(**of, error=error or "")
        if state is State.CANCELLED:
            return events.Cancelled(**of, results=results)
        return events.Done(**of, results=results)

    async def children_ended(self, parent: Entry) -> None:
        """What becomes of a parent now: a batch has ended, others do their own part."""
        parent.phase = "finish"
        if parent.cancelling is not None:
            await self.end(parent, State.CANCELLED)
        elif parent.kind in (Kind.SWEEP, Kind.TRAIN):
            sql = "UPDATE jobs SET phase = 'finish' WHERE id = ?"
            await self.kept.surely(lambda c: c.execute(sql, (parent.id,)))
            self.kept.queue.add(parent)
        else:
            children = await self.kept.seen(lambda: reading.children_of(self.kept.db, parent.id))
            if children.done or not parent.total:
                await self.end(parent, State.DONE)
            else:
                line = f"none of its {parent.total} rows could be made; its children say why"
                await self.end(parent, State.FAILED, line)

    async def expand(self, parent: Entry, requests: Sequence[str], names: Sequence[Sequence[str]],
                     inputs: Sequence[str]) -> None:  # fmt: skip
        """The children that a parent's runner has worked out."""
        jobs = [
            New(new_id(), parent.client, Kind.RECIPE, request, parent=parent.id, files=files,
                priority=parent.priority, inputs=inputs, asked_by=parent.asked_by,
                name=JobRequest.model_validate_json(request).job.name)
            for request, files in zip(requests, names, strict=True)
        ]  # fmt: skip
        told = [self._queued(job) for job in jobs]
        parent.phase, parent.open, parent.total, parent.runner = "children", 0, 0, None
        inserted = await self.kept.surely(
            partial(records.expanded, parent=parent.id, jobs=jobs, events=told, now=self.kept.now())
        )
        self._enter(jobs, inserted)
        parent.progress = Progress(done=0, total=parent.total)
        if parent.cancelling is not None:
            await self.cancel(parent, parent.cancelling)
        elif not jobs:
            await self.children_ended(parent)

    async def lost(self, entry: Entry, why: str) -> None:
        """Its runner, or the server, is gone: begun again, or given up."""
        entry.runner = None
        if entry.cancelling is not None:
            await self.end(entry, State.CANCELLED)
        elif entry.losses >= LOSSES:
            line = f"{why}, for the {entry.losses + 1}rd time; it may need more memory than is here"
            await self.end(entry, State.INTERRUPTED, line)
        else:
            entry.losses += 1
            await self.again(entry, why)

    async def again(self, entry: Entry, why: str) -> None:
        """It waits once more, where it stood."""
        entry.runner, entry.progress, entry.cancelling = None, None, None
        event = events.Queued(**self._of(entry), kind=entry.kind, again=why)
        await self.kept.tell(
            partial(
                records.requeue, id=entry.id, phase=entry.phase, losses=entry.losses, event=event,
                client=entry.client,
            )
        )  # fmt: skip
        self.kept.queue.add(entry)

    async def retry(self, row: sqlite3.Row) -> None:
        """A job that has ended waits again, of a parent the children that are not done."""
        db = self.kept.db
        sql = "SELECT * FROM jobs WHERE parent = ? AND state != 'done' ORDER BY number"
        children = db.read(sql, (row["id"],))
        known = db.one("SELECT count(*) AS n FROM jobs WHERE parent = ?", (row["id"],))
        entry = entry_of(row)
        entry.total = int(known["n"]) if known else 0
        entry.losses = 0
        if not entry.total:
            entry.phase = "begin"
            await self.again(entry, "tried again")
            return
        entry.phase, entry.state, entry.open = "children", State.RUNNING, len(children)
        self.kept.queue.open[entry.id] = entry
        event = events.Started(**self._of(entry), runner="its children")

        def run(connection: sqlite3.Connection) -> Sent:
            now = self.kept.now()
            phase = "UPDATE jobs SET phase = 'children', losses = 0 WHERE id = ?"
            connection.execute(phase, (entry.id,))
            return records.begin(connection, entry.id, entry.attempt, event, entry.client, now)

        await self.kept.tell(run)
        for child in children:
            again = entry_of(child)
            again.losses = 0
            await self.again(again, "tried again")
        if not children:
            await self.children_ended(entry)

    async def cancel(self, entry: Entry, when: When) -> None:
        """Stop it, and of a parent its children."""
        if entry.phase == "children":
            await self._mark([entry], when)
            await self._cancel_children(entry, when)
            if entry.open == 0 and not entry.state.ended:
                await self.end(entry, State.CANCELLED)
        elif entry.runner is None and entry.state is State.QUEUED:
            await self.end(entry, State.CANCELLED)
        else:
            await self._mark([entry], when)
            if when is When.AFTER_PICTURE and entry.kind is Kind.TRAIN:
                self.finish(entry)
            elif when is When.NOW or entry.kind not in (Kind.RECIPE, Kind.PLAN):
                self.stop(entry)

    async def _cancel_children(self, parent: Entry, when: When) -> None:
        children = self.kept.queue.children(parent.id)
        waiting = [child for child in children if child.state is State.QUEUED]
        running = [child for child in children if child.state is State.RUNNING]
        if when is When.NOW:
            for child in running:
                child.cancelling = when
                self.stop(child)
        for k in range(0, len(waiting), TOGETHER):
            ends = (self.end(child, State.CANCELLED) for child in waiting[k : k + TOGETHER])
            await asyncio.gather(*ends)

    async def _mark(self, entries: Sequence[Entry], when: When) -> None:
        for entry in entries:
            entry.cancelling = when
        ids = [entry.id for entry in entries]
        await self.kept.surely(partial(records.cancelling, ids=ids, when=when))

    def _of(self, entry: Entry) -> dict[str, Any]:
        return {
            "job": entry.id, "parent": entry.parent, "attempt": entry.attempt,
            "at": self.kept.moment(),
        }  # fmt: skip
