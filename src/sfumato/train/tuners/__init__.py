"""Tuners: what is trained, its loss, and what is saved; one file each, named as in a recipe."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from sfumato.core.errors import SfumatoError, quoted
from sfumato.train.config import Config
from sfumato.train.reads import names


@dataclass(frozen=True)
class Outcome:
    """total: what is minimised, a scalar. parts: means for the log, by column."""

    total: Tensor
    parts: Mapping[str, float]


class Tuner(Protocol):
    """One training job. Everything it draws comes from a key that names the step."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        ...

    def batch(self, step: int, share: slice) -> Any:
        """The data of a step, or one device's share of its rows."""
        ...

    def loss(self, batch: Any, step: int) -> Outcome:
        """Loss of a batch, with its graph."""
        ...

    def show(self, file: Path) -> None:
        """A picture of what the averaged weights can do."""
        ...

    def judge(self) -> dict[str, float]:
        """Measures on held-out data."""
        ...

    def digests(self) -> dict[str, str]:
        """Of all that is read beside the recipe, by what an error calls it."""
        ...

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Write the result in its final form; where it is. facts: steps, pictures, seconds,
        measures."""
        ...


def make(config: Config, data: Path, folder: Path, device: str) -> Tuner:
    """The tuner that a recipe names. data: its pictures; folder: of the run.

    A tuner says what it reads of a recipe's tables as READS (train.reads); one with a table of its
    own has a strict class Options for it.
    """
    if config.tuner not in names():
        known = ", ".join(names())
        raise SfumatoError(f"tuner {quoted(config.tuner)}: unknown; known are {known}")
    module = importlib.import_module(f"{__name__}.{config.tuner}")
    options: type[Any] | None = getattr(module, "Options", None)
    if options is not None:
        config.part_of(options)
    elif config.own:
        raise SfumatoError(f"[{config.tuner}]: this tuner has no table of its own; leave it out")
    tuner: Tuner = module.tuner(config, data, folder, device)
    return tuner
