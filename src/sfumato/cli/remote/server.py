"""Server: what verbs ask of it. Pictures go there, a job is submitted and followed, files come."""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from sfumato import documents
from sfumato.cli import show
from sfumato.cli.remote.chosen import Chosen, Detached
from sfumato.cli.remote.connection import Connection
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.interrupts import undisturbed
from sfumato.images import ImageInput
from sfumato.models.card import phrased
from sfumato.recipe.store import keep
from sfumato.server.events import AnyEvent, Note, Queued
from sfumato.server.jobs import File, Job, JobPage, State

PAGE = 200
TRIES = 5  # of a file that does not come as it was said to be
LEAVING = 5.0  # seconds for the word that a job is to stop

log = logging.getLogger("sfumato")

Watch = Callable[[AnyEvent], None]


class Foreign(BaseModel):
    """An answer of a server, of which more may be said than is read."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Offered(Foreign):
    """A model that the server offers. template: of prompts that name none of its styles."""

    name: str
    title: str
    styles: tuple[str, ...]
    adapters: dict[str, str]
    template: str = "{prompt}"
    own: bool = False

    def phrase(self, prompt: str) -> str:
        return phrased(prompt, self.template, self.styles)


class OfferedWeights(Foreign):
    """Weights that methods may name there. fields: METHOD.FIELD of those that may."""

    name: str
    sha256: str
    fields: tuple[str, ...]


class Models(Foreign):
    models: Annotated[tuple[Offered, ...], Field(max_length=10_000)]
    weights: Annotated[tuple[OfferedWeights, ...], Field(max_length=10_000)] = ()


class Queue(Foreign):
    paused: bool


class Server:
    """A server as a verb sees it. detach: what is submitted is not waited for."""

    def __init__(self, chosen: Chosen) -> None:
        self.connection, self.detach = Connection(chosen), chosen.detach

    @cached_property
    def _offered(self) -> Models:
        return self.connection.get(Models, "GET", "/v1/models")

    @cached_property
    def models(self) -> Mapping[str, Offered]:
        """What it offers, by name."""
        return {model.name: model for model in self._offered.models}

    @property
    def weights(self) -> tuple[OfferedWeights, ...]:
        """What methods may name there."""
        return self._offered.weights

    def model(self, name: str) -> Offered:
        if name not in self.models:
            known = ", ".join(self.models)
            raise SfumatoError(
                f"model {quoted(name)}: not offered by {self.connection.url}; it offers {known}"
            )
        return self.models[name]

    # what goes there

    def has(self, sha256: str) -> bool:
        """Whether a picture or a file of the client's is there."""
        answer = self.connection.ask("HEAD", f"/v1/images/{sha256}", missing=True)
        return bool(answer.status_code != 404)

    def upload(self, pictures: Iterable[ImageInput], keeps: bool = True) -> None:
        """Send those that it does not have yet. keeps: here too, as a run here does."""
        for picture in {picture.sha256: picture for picture in pictures}.values():
            if keeps and not keep(picture.data):
                log.warning("%s: could not be kept for `sfumato run`", picture.name)
            if not self.has(picture.sha256):
                file = {"file": (picture.name, picture.data)}
                self.connection.ask("POST", "/v1/images", files=file)

    def submit(self, body: Mapping[str, Any]) -> Job:
        """A new job, once, however often it had to be sent."""
        self.paused  # noqa: B018  (before, since a server that dies leaves it paused)
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        try:
            return self.connection.get(Job, "POST", "/v1/jobs", json=body, headers=headers)
        except KeyboardInterrupt:  # it may be there already: the key says which it is
            with undisturbed():
                answer = self.connection.once("/v1/jobs", LEAVING, json=body, headers=headers)
                if answer is not None and answer.status_code == 202:
                    self.cancel(documents.parse_json(Job, answer.content, "job").id)
            raise

    def send(self, bodies: Iterable[Mapping[str, Any]]) -> list[str]:
        """New jobs, all or none; Detached where nobody waits for them."""
        ids: list[str] = []
        try:
            for body in bodies:
                ids.append(self.submit(body).id)
        except BaseException:
            for id in ids:
                self.cancel(id)
            raise
        if self.detach:
            for id in ids:
                print(id)
            raise Detached
        return ids

    def plan(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a job would do."""
        return self.connection.get(dict[str, Any], "POST", "/v1/plan", json=body)

    # what happens there

    @cached_property
    def paused(self) -> bool:
        """Whether the client's queue was paused when this began."""
        paused = self.connection.get(Queue, "GET", "/v1/queue").paused
        if paused:
            show.errors.print("the queue is paused; `sfumato jobs resume` goes on")
        return paused

    def job(self, id: str) -> Job:
        return self.connection.get(Job, "GET", f"/v1/jobs/{id}")

    def children(self, id: str) -> list[Job]:
        """A parent's children in their order."""
        return list(self.jobs(parent=id))[::-1]

    def jobs(self, **wanted: str) -> Iterator[Job]:
        """Jobs, the newest first."""
        before: int | None = None
        while True:
            asked = {**wanted, "limit": PAGE} | ({} if before is None else {"before": before})
            page = self.connection.get(JobPage, "GET", "/v1/jobs", params=asked)
            yield from page.jobs
            before = page.next
            if before is None:
                return

    def events(self, id: str) -> Iterator[AnyEvent]:
        """What happens to a job, its notes said as a run here says them.

        A server that died comes back with a queue that waits for a word, which this is.
        """
        seen = self.connection.back_again
        for event in self.connection.events(id):
            if seen != self.connection.back_again:
                seen = self.connection.back_again
                if not self.paused and self.connection.get(Queue, "GET", "/v1/queue").paused:
                    self.connection.ask("POST", "/v1/queue/resume")
            if isinstance(event, Note):
                log.log(logging.WARNING if event.always else logging.INFO, "%s", event.text)
            elif isinstance(event, Queued) and event.again:
                log.info("begun again: %s", event.again)
            yield event

    def follow(self, id: str, watch: Watch = lambda event: None) -> Job:
        """The job when it has ended. Whoever is stopped here stops it too."""
        with self.stopping(id):
            for event in self.events(id):
                watch(event)
            return self.job(id)

    @contextmanager
    def stopping(self, *ids: str) -> Iterator[None]:
        """While active, ctrl-C and the like stop these jobs too; files made are kept."""
        try:
            yield
        except KeyboardInterrupt:
            with undisturbed():
                for id in ids:
                    self.cancel(id)
            raise

    def cancel(self, id: str) -> None:
        """Stop it, if the server is there; it may have ended."""
        path = f"/v1/jobs/{id}/cancel"
        if self.connection.once(path, LEAVING, json={"when": "now"}) is None:
            show.errors.print(
                f"job {id} could not be stopped: the server does not answer; "
                f"`sfumato jobs cancel {id}`"
            )

    def settled(self, id: str) -> None:
        """Until a job that was told to stop has ended, or the server is gone."""
        until = time.monotonic() + LEAVING
        while time.monotonic() < until and not self.connection.away:
            if self.job(id).state.ended:
                return
            time.sleep(0.05)

    # what comes from there

    def fetch(self, id: str, file: File) -> bytes:
        """A job's file, whole."""
        path = f"/v1/jobs/{id}/files/{quote(file.name)}"
        for _ in range(TRIES):
            data = self.connection.ask("GET", path).content
            if hashlib.sha256(data).hexdigest() == file.sha256:
                return data
        raise SfumatoError(f"{self.connection.url}: {file.name} of job {id} does not come whole")


def done(job: Job) -> Job:
    """A job that has done what it was asked to; SfumatoError says why another has not."""
    if job.state is not State.DONE:
        raise SfumatoError(job.error or f"job {job.id}: was {job.state}; {again(job.id)}")
    return job


def again(id: str) -> str:
    return f"`sfumato jobs retry {id}` tries it again"


@lru_cache(1)
def server_of(chosen: Chosen) -> Server:
    """The server of a command line."""
    return Server(chosen)
