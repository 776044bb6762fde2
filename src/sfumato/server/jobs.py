"""What a job is: its kind, its state, its files and its progress, as clients see them."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from pathlib import PurePath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
JobId = Annotated[str, Field(pattern="^[0-9a-f]{20}$")]


class Kind(StrEnum):
    """What a job does. Sweeps, batches and trainings are parents, whose pictures (of a training
    those of its class) their children make."""

    RECIPE = "recipe"
    SWEEP = "sweep"
    BATCH = "batch"
    TRAIN = "train"
    EVAL = "eval"
    COMPARE = "compare"
    PLAN = "plan"

    @property
    def parent(self) -> bool:
        """Whether it may have children."""
        return self in (Kind.SWEEP, Kind.BATCH, Kind.TRAIN)


class State(StrEnum):
    """Where a job is. interrupted: lost on its third attempt, with the runner or the server."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING)


class When(StrEnum):
    """How a job is cancelled: within a network call, or when the picture at work is made."""

    NOW = "now"
    AFTER_PICTURE = "after_picture"


class View(BaseModel):
    """Values that are shown to clients."""

    model_config = ConfigDict(frozen=True)


def _below(name: str) -> str:
    if {"", ".", ".."} & {*re.split(r"[/\\]", name)} or PurePath(name).is_absolute():
        raise ValueError("leads out of the folder that it is for")
    return name


class File(View):
    """What a job has made: a picture, or another file of a sweep, a comparison or a training.

    name: as a local run would call it, below its folder; place: order among the job's files.
    """

    sha256: Sha256
    name: Annotated[str, AfterValidator(_below)]
    media_type: str
    bytes: int
    place: int
    width: int | None = None
    height: int | None = None
    seed: int | None = None


class Progress(View):
    """done of total: network calls by what they take, or of a parent its children.

    eta_s: seconds that are left, once two calls have been timed.
    """

    done: float = 0
    total: float | None = None
    eta_s: float | None = None


class Children(View):
    """How many children are in each state."""

    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    interrupted: int = 0


class Job(View):
    """A job. recipe: what was asked for, of a recipe or a sweep; results: files made so far.

    attempt: how often it was begun; event: number of the last kept event that led to this, so that
    a listener who has been told of a later one knows this to be older; ahead: jobs that begin
    before it, while it is queued; eta_s: seconds until it has ended, by what such jobs took on
    these devices, once one has; cancelling: it was asked to stop and has not yet.
    """

    id: JobId
    kind: Kind
    state: State
    client: str
    name: str
    parent: JobId | None
    priority: int
    attempt: int
    event: int
    created: datetime
    started: datetime | None
    ended: datetime | None
    cancelling: bool
    ahead: int | None
    eta_s: float | None
    progress: Progress
    children: Children | None
    recipe: dict[str, object] | None
    results: tuple[File, ...]
    error: str | None


class JobPage(View):
    """Jobs, the newest first. next: `before` of the page after it, none where this is the last."""

    jobs: tuple[Job, ...]
    next: int | None
