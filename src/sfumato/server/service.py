"""Service: all that clients can ask for, whatever they speak. HTTP is in api/."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.server import requests, thumbnails
from sfumato.server.admission import Admission, RefusedError
from sfumato.server.dispatch import Dispatcher
from sfumato.server.forecast import Forecast
from sfumato.server.jobs import File, Job, JobPage, Kind, State, When
from sfumato.server.kept import Kept
from sfumato.server.offered import Catalogue
from sfumato.server.queue import Entry
from sfumato.server.requests import Exported, JobRequest, ReorderRequest
from sfumato.server.runner.protocol import ModelInfo
from sfumato.server.secrecy import apart, untold
from sfumato.server.settings import Settings
from sfumato.server.states import new_id
from sfumato.server.store import reading, records
from sfumato.server.store.records import New
from sfumato.server.uploads import inspect

PAGE = 200  # jobs of a page at most


def missing(what: str, part: str) -> RefusedError:
    return RefusedError(f"{what}: not here", part, 404)


class Service:
    """What a server does for its clients, each of whom sees what is its own alone."""

    def __init__(self, settings: Settings, kept: Kept, dispatcher: Dispatcher) -> None:
        self.settings, self.kept, self.dispatcher = settings, kept, dispatcher
        self.forecast = Forecast(kept, dispatcher.devices)
        self.admission = Admission(self.catalogue, settings.limits, self.has, kept.files.get)

    def models(self) -> Mapping[str, ModelInfo]:
        """What is offered: by all runners, as a job may come to any."""
        offers = [{m.name: m for m in ready.models} for ready in self.dispatcher.offers.values()]
        first = offers[0] if offers else {}
        return {name: m for name, m in first.items() if all(name in other for other in offers)}

    def catalogue(self) -> Catalogue:
        """What recipes may name: models and files that all runners have, alike."""
        offers = list(self.dispatcher.offers.values())
        files = offers[0].files if offers else ()
        alike = tuple(one for one in files if all(one in other.files for other in offers))
        return Catalogue(self.models(), alike)

    def has(self, client: str, sha256: str) -> bool:
        return reading.picture_of(self.kept.db, client, sha256) is not None

    # jobs

    async def submit(
        self, client: str, request: JobRequest, key: str | None = None, asked_by: str = ""
    ) -> Job:
        """A new job; with a key that was used before, the job of then. asked_by: the request."""
        if self.kept.closing:
            raise RefusedError("the server is being stopped; send it again soon", status=503)
        request, secrets = self._apart(request)
        text = request.model_dump_json()
        if key is not None and (known := self._known(client, key, text)) is not None:
            return known
        job = request.job
        self._room(client, len(job.rows) if isinstance(job, requests.BatchJob) else 1)
        inputs = await self._admitted(client, job)
        jobs = self._jobs(client, job, text, key, inputs)
        jobs = [replace(job, asked_by=asked_by) for job in jobs]
        try:
            await self.dispatcher.states.insert(jobs)
        except SfumatoError as error:
            if key is None or "UNIQUE" not in str(error):
                raise
            again = self._known(client, key, text)  # two at once
            if again is None:
                raise
            return again
        self.kept.secrets.hold(jobs[0].id, secrets)  # before anything else is done in this thread
        return self.job(client, jobs[0].id)

    def _apart(self, request: JobRequest) -> tuple[JobRequest, Mapping[str, str]]:
        """The request without its secrets, which must all be there, and these."""
        try:
            request, secrets = apart(request)
        except SfumatoError as error:
            raise RefusedError(str(error), "recipe.methods") from None
        if (name := untold(request, secrets)) is not None:
            raise RefusedError(
                f"{name}: is a secret, of which a recipe holds a digest alone; give it again",
                "recipe.methods",
            )
        return request, secrets

    def _known(self, client: str, key: str, text: str) -> Job | None:
        row = self.kept.db.one(
            "SELECT id, request FROM jobs WHERE client = ? AND key = ?", (client, key)
        )
        if row is None:
            return None
        if row["request"] != text:
            raise RefusedError(
                f"Idempotency-Key {key!r:.60}: was used for another job; take a new one",
                "Idempotency-Key", 409,
            )  # fmt: skip
        return self.job(client, row["id"])

    def _room(self, client: str, wanted: int) -> None:
        limits, queue = self.settings.limits, self.kept.queue
        mine, all_ = queue.count(client) + wanted, queue.count() + wanted
        if mine > limits.queued or all_ > limits.queued_all:
            whose = "yours" if mine > limits.queued else "all clients'"
            most = limits.queued if mine > limits.queued else limits.queued_all
            raise RefusedError(
                f"the queue is full: {most:,} jobs of {whose} may wait; send it again later",
                "queue",
                429,
            )

    async def _admitted(self, client: str, job: requests.AnyJob) -> list[str]:
        check = partial(self.admission.check, client, job)
        if isinstance(job, requests.RecipeJob) and not job.recipe.methods:
            return check()  # in no time
        return await asyncio.to_thread(check)

    def _jobs(
        self, client: str, job: requests.AnyJob, text: str, key: str | None, inputs: list[str]
    ) -> list[New]:
        """A job and, of a batch, its children."""
        batch = isinstance(job, requests.BatchJob)
        first = New(
            new_id(), client, job.kind, text, name=job.name, priority=job.priority, key=key,
            inputs=inputs, phase="children" if batch else "begin",
            state=State.RUNNING if batch else State.QUEUED,
            total=len(job.rows) if isinstance(job, requests.BatchJob) else None,
        )  # fmt: skip
        if not isinstance(job, requests.BatchJob):
            return [first]
        children = [
            New(
                new_id(), client, Kind.RECIPE,
                requests.RecipeJob(**dict(row), priority=job.priority).model_dump_json(),
                parent=first.id, name=row.name, priority=job.priority,
                inputs=self.admission.used(client, row.recipe),
            )
            for row in job.rows
        ]  # fmt: skip
        return [first, *children]

    def _row(self, client: str, id: str) -> sqlite3.Row:
        row = reading.row_of(self.kept.db, id)
        if row is None or row["client"] != client:
            raise missing(f"job {id}", "id")
        return row

    def _entry(self, row: sqlite3.Row) -> Entry:
        entry = self.kept.queue.open.get(row["id"])
        if entry is None or entry.state.ended:
            raise RefusedError(f"job {row['id']}: has ended ({row['state']})", "id", 409)
        return entry

    def _shown(self, row: sqlite3.Row) -> Job:
        state = State(row["state"])
        # one that has ended is a moment longer in the queue, where it is forgotten after its row
        entry = None if state.ended else self.kept.queue.open.get(row["id"])
        waits = state == State.QUEUED
        return reading.job_of(
            self.kept.db, row,
            progress=None if entry is None else entry.progress,
            ahead=self.kept.queue.ahead(entry) if waits and entry is not None else None,
            eta_s=None if entry is None else self.forecast.seconds(entry),
        )  # fmt: skip

    def job(self, client: str, id: str) -> Job:
        return self._shown(self._row(client, id))

    def request(self, client: str, id: str) -> JobRequest:
        """What was asked for, to be posted again."""
        return JobRequest.model_validate_json(self._row(client, id)["request"])

    def jobs(
        self, client: str, state: State | None, kind: Kind | None, parent: str | None,
        before: int | None, limit: int,
    ) -> JobPage:  # fmt: skip
        rows = reading.rows_of(
            self.kept.db, client, state=state, kind=kind, parent=parent, before=before,
            limit=limit + 1,
        )  # fmt: skip
        more = rows[limit - 1]["number"] if len(rows) > limit else None
        return JobPage(jobs=tuple(map(self._shown, rows[:limit])), next=more)

    async def cancel(self, client: str, id: str, when: When) -> Job:
        row = self._row(client, id)
        if row["state"] != State.CANCELLED:
            await self.dispatcher.states.cancel(self._entry(row), when)
        return self.job(client, id)

    async def retry(self, client: str, id: str) -> Job:
        """Once more: a job that has not come to its end, of a parent those of its children."""
        row = self._row(client, id)
        if row["state"] in (State.QUEUED, State.RUNNING, State.DONE):
            raise RefusedError(f"job {id}: is {row['state']}; there is nothing to retry",
                               "id", 409)  # fmt: skip
        if row["parent"] is not None:
            raise RefusedError(f"job {id}: is a child; retry its parent", "id", 409)
        if (name := untold(JobRequest.model_validate_json(row["request"]), {})) is not None:
            raise RefusedError(
                f"job {id}: {name} is a secret, which was forgotten when it ended; submit it again",
                "id", 409,
            )  # fmt: skip
        await self.dispatcher.states.retry(row)
        return self.job(client, id)

    async def reorder(self, client: str, id: str, wanted: ReorderRequest) -> Job:
        """Before another of the client's, or last; and with another priority."""
        row = self._row(client, id)
        entry = self._entry(row)
        if entry.state is not State.QUEUED or row["state"] != State.QUEUED:
            raise RefusedError(f"job {id}: does not wait any more", "id", 409)
        order = [other for other in self.kept.queue.order(client) if other is not entry]
        priority = entry.priority if wanted.priority is None else wanted.priority
        position = entry.position
        if wanted.before is not None:
            there = next((k for k, e in enumerate(order) if e.id == wanted.before), None)
            if there is None:
                raise RefusedError(f"before {wanted.before}: does not wait", "before", 409)
            after, priority = order[there], order[there].priority
            same = [e for e in order[:there] if e.priority == priority]
            low = same[-1].position if same else after.position - 2
            position = (low + after.position) / 2
        elif wanted.priority is None:
            position = max((e.position for e in order), default=position) + 1
        await self.kept.db.write(
            partial(records.place, id=id, position=position, priority=priority)
        )
        if entry.state is State.QUEUED:  # still
            self.kept.queue.move(entry, position, priority)
        return self.job(client, id)

    async def delete(self, client: str, id: str) -> None:
        """Forget a job that has ended, its children, and the files that only they hold."""
        row = self._row(client, id)
        if not State(row["state"]).ended or self._goes_on(id):
            raise RefusedError(f"job {id}: has not ended; cancel it first", "id", 409)
        if row["parent"] is not None and self._goes_on(row["parent"]):
            raise RefusedError(f"job {id}: its parent has not ended", "id", 409)
        await self.forget([id])

    def _goes_on(self, id: str) -> bool:
        """Whether it has not ended; one whose end is told at this moment has."""
        entry = self.kept.queue.open.get(id)
        return entry is not None and not entry.state.ended

    async def forget(self, ids: list[str]) -> None:
        gone = await self.kept.db.write(partial(records.forget, ids=ids))
        for id in ids:
            await asyncio.to_thread(self.kept.runs.remove, id)
        await self.remove(gone)

    async def remove(self, hashes: list[str]) -> None:
        """Files without a row; looked at by the writer, where none can be written meanwhile."""

        def remove(connection: sqlite3.Connection) -> None:
            for sha256 in hashes:
                sql = "SELECT 1 FROM pictures WHERE sha256 = ?"
                if connection.execute(sql, (sha256,)).fetchone() is None:
                    self.kept.files.remove(sha256)
                    thumbnails.remove(self.kept.files, sha256)

        if hashes:
            await self.kept.db.write(remove)

    # the queue

    async def pause(self, client: str, value: bool) -> None:
        await self.kept.db.write(partial(records.paused, client=client, value=value))
        self.kept.queue.pause(client, value)

    def export(self, client: str) -> Exported:
        """Requests of a client's jobs that have not ended."""
        rows = self.kept.db.read(
            "SELECT request FROM jobs WHERE client = ? AND parent IS NULL"
            " AND state IN ('queued', 'running') ORDER BY number",
            (client,),
        )
        return Exported(jobs=tuple(JobRequest.model_validate_json(r["request"]) for r in rows))

    # pictures and files

    async def upload(self, client: str, data: bytes, name: str) -> File:
        """Keep a picture, which is decoded first; its type is what it is."""
        file = await asyncio.to_thread(inspect, data, name, self.settings.limits)
        await asyncio.to_thread(self.kept.files.put, data)
        try:
            work = partial(records.upload, client=client, file=file, now=self.kept.now())
            await self.kept.db.write(work)
        finally:
            self.kept.files.release(file.sha256)
        return file

    def picture(self, client: str, sha256: str) -> tuple[str, int]:
        """Media type and bytes of a picture that is the client's."""
        row = reading.picture_of(self.kept.db, client, sha256)
        if row is None:
            raise missing(f"picture {sha256[:12]}…", "sha256")
        return row["media_type"], row["bytes"]

    def file(self, client: str, id: str, name: str) -> File:
        """A job's file by its name."""
        self._row(client, id)
        file = reading.file_named(self.kept.db, id, name)
        if file is None:
            raise missing(f"file {name!r:.80} of job {id}", "name")
        return file

    # what there is

    async def plan(self, client: str, request: JobRequest) -> dict[str, Any]:
        """What a job would do; nothing is kept."""
        kept, _ = self._apart(request)
        inputs = await self._admitted(client, kept.job)
        paths = {sha256: self.kept.files.path(sha256) for sha256 in inputs}
        runners = list(self.dispatcher.runners.values())
        runner = next((r for r in runners if r.alive), None)
        if runner is None:
            raise RefusedError("no runner is there now; ask again soon", status=503)
        try:
            return await runner.plan(request.model_dump_json(), paths)
        except SfumatoError as error:
            raise RefusedError(str(error)) from None
