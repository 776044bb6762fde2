"""The library as what a runner does tasks with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.server.offering import Offering
from sfumato.server.runner import work
from sfumato.server.runner.protocol import Happening, Ready, Task
from sfumato.server.runner.warm import Warm


@dataclass
class Library:
    """Does tasks with the models of an offer, which stay loaded."""

    warm: Warm

    def ready(self) -> Ready:
        logging.getLogger("sfumato").propagate = False
        return self.warm.ready()

    def perform(self, task: Task, tell: Callable[[Happening], None]) -> None:
        work.perform(task, tell, self.warm)

    def plan(self, request: str, inputs: Mapping[str, Path]) -> dict[str, Any]:
        return work.plan(request, inputs, self.warm)


@dataclass(frozen=True)
class Offer:
    """How a process makes its Library; as Warm's fields."""

    models: Mapping[str, str]
    device: str = "auto"
    adapters: tuple[Path, ...] = ()
    keep: int = 2
    data: Path | None = None
    weights: tuple[Offering, ...] = ()
    offload: str = "none"

    def __call__(self) -> Library:
        return Library(
            Warm(
                self.models,
                self.device,
                self.adapters,
                self.keep,
                self.data,
                self.weights,
                self.offload,
            )
        )


def named_models(models: Sequence[str]) -> dict[str, str]:
    """Models by what recipes call them: a folder or a file by its own name."""
    named: dict[str, str] = {}
    for model in models:
        path = documents.expanded(model)
        there = documents.is_there(path)
        name = path.name if there else model
        if named.setdefault(name, str(path.resolve()) if there else model) and not model:
            raise SfumatoError("--model: is empty; say which")
    return named
