"""Runner: what does tasks on one device; what it is told and what it tells.

A runner never sees the database. Everything here can be pickled, for runners of other processes
and machines.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class ModelInfo:
    """A model that is offered. native: width and height it works at; factor: how much larger its
    pictures are; adapters: name -> file that recipes name; template: of prompts that name none of
    its styles; own: it was trained with sfumato, whose captions have no articles."""

    name: str
    title: str
    native: tuple[int, int]
    multiple: int
    maximum: int
    factor: int
    steps: int | None
    reads_text: bool
    styles: tuple[str, ...]
    adapters: Mapping[str, str]
    template: str = "{prompt}"
    about: str = ""
    licence: str = ""
    own: bool = False


@dataclass(frozen=True)
class WeightsInfo:
    """A file or folder of weights that is offered, by its name or its hash. fields: METHOD.FIELD of
    those that may name it."""

    name: str
    sha256: str
    bytes: int
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Ready:
    """What a runner says first. versions: of what it runs with. weights: sha256 of each model's.

    files: weights that methods may name.
    """

    device: str
    dtype: str
    models: tuple[ModelInfo, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    files: tuple[WeightsInfo, ...] = ()


@dataclass(frozen=True)
class Task:
    """One attempt at a job.

    request: its JSON. inputs: sha256 -> file of a picture. files: name -> file that its children
    made, of a parent whose children have ended. pace: seconds that a network call of this kind
    took before, where that is known. folder: on this machine, what a training keeps from one
    attempt to the next; None where nothing can be kept. asked_by: id of the request it came by.
    secrets: texts of the request's secrets, which it has by their digests.
    """

    id: str
    attempt: int
    request: str
    inputs: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, Path] | None = None
    pace: float | None = None
    folder: Path | None = None
    asked_by: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Stepped:
    """i of n transitions of a stage; done of total network calls, by what they take."""

    i: int
    n: int
    stage: int
    done: float
    total: float
    seconds_left: float | None = None
    preview: bytes | None = None


@dataclass(frozen=True)
class Made:
    """A file of the job's: its name as a local run would call it, its bytes."""

    name: str
    data: bytes
    seed: int | None = None


@dataclass(frozen=True)
class Said:
    """A line that a local run would print. always: where notices are not wanted too."""

    text: str
    always: bool = False


@dataclass(frozen=True)
class Expanded:
    """What a parent's children have to make: requests of recipes, and their files' names."""

    requests: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Finished:
    """The task is done. pace: seconds that a network call took."""

    pace: float | None = None


@dataclass(frozen=True)
class Failed:
    """It cannot be done: one line; trace: where, for the server's log."""

    line: str
    trace: str = ""


@dataclass(frozen=True)
class Stopped:
    """It was cancelled."""


Happening = Stepped | Made | Said | Expanded | Finished | Failed | Stopped
LAST = (Finished, Failed, Stopped)


class RunnerLostError(Exception):
    """The runner has died; what it was doing can be done again."""


class Runner(Protocol):
    """Does one task at a time."""

    @property
    def name(self) -> str:
        """Of its device, such as cuda:0."""

    @property
    def alive(self) -> bool:
        """Whether it can be given a task."""

    async def start(self) -> Ready:
        """Begin to live; again after its death.

        SfumatoError where it cannot, RunnerLostError where it cannot now.
        """

    def run(self, task: Task) -> AsyncIterator[Happening]:
        """What happens while the task is done, the last a Finished, Failed or Stopped.

        Raises RunnerLostError.
        """

    def cancel(self, id: str) -> None:
        """Stop that task within a network call, if it is the one at work; it says Stopped."""

    def finish(self, id: str) -> None:
        """Let that task end soon with what it has; nothing happens where it cannot."""

    async def plan(self, request: str, inputs: Mapping[str, Path]) -> dict[str, Any]:
        """What a request would do, while another may run. SfumatoError where it cannot run."""

    async def close(self) -> None:
        """End, whatever is at work."""
