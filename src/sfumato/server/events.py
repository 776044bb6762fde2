"""Events of jobs, as listeners are told them; every one names its job and its attempt.

All but steps are kept and numbered, so that a listener who was away is told what it missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, RootModel

from sfumato.server.jobs import File, JobId, Kind, Progress, View


class Base(View):
    """job: whose event; parent: of which it is a child."""

    job: JobId
    parent: JobId | None = None
    attempt: int
    at: datetime


class Queued(Base):
    """It waits. again: why, where it had begun before."""

    event: Literal["queued"] = "queued"
    kind: Kind
    name: str = ""
    again: str | None = None


class Started(Base):
    """A runner has begun it."""

    event: Literal["started"] = "started"
    runner: str


class Step(Base):
    """i of n transitions of a stage are done. preview: data URL of a WebP picture, or none.

    Steps are not kept.
    """

    event: Literal["step"] = "step"
    i: int
    n: int
    stage: int
    progress: Progress
    preview: str | None = None


class PictureMade(Base):
    """A picture or another file is there and kept."""

    event: Literal["picture"] = "picture"
    file: File


class Note(Base):
    """A line that a local run would print. always: where notices are not wanted too."""

    event: Literal["note"] = "note"
    text: str
    always: bool = False


class ChildEnded(Base):
    """How far a parent is."""

    event: Literal["child"] = "child"
    child: JobId
    state: str
    progress: Progress


class Done(Base):
    """All of it is made."""

    event: Literal["done"] = "done"
    results: tuple[File, ...] = ()


class Failed(Base):
    """It cannot be made. error: one line that says why and what to do."""

    event: Literal["failed"] = "failed"
    error: str


class Cancelled(Base):
    """It was stopped; what was made before is kept."""

    event: Literal["cancelled"] = "cancelled"
    results: tuple[File, ...] = ()


class Interrupted(Base):
    """It was lost on its third attempt."""

    event: Literal["interrupted"] = "interrupted"
    error: str


AnyEvent = (
    Queued
    | Started
    | Step
    | PictureMade
    | Note
    | ChildEnded
    | Done
    | Failed
    | Cancelled
    | Interrupted
)
ENDING = ("done", "failed", "cancelled", "interrupted")
"""After one of these nothing comes of that job, unless it is tried again."""


@dataclass(frozen=True)
class Sent:
    """An event as it is kept and sent. number: of what is kept; data: its JSON."""

    number: int | None
    job: str
    parent: str | None
    client: str
    event: str
    data: str

    @cached_property
    def frame(self) -> bytes:
        """As a stream of server-sent events has it."""
        head = "" if self.number is None else f"id: {self.number}\n"
        return f"{head}event: {self.event}\ndata: {self.data}\n\n".encode()

    @property
    def ends(self) -> bool:
        return self.event in ENDING


class JobEvent(RootModel[Annotated[AnyEvent, Field(discriminator="event")]]):
    """One event of a job, by `event`."""
