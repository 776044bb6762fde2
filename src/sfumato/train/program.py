"""What `sfumato train` does: find recipe, data and run folder, and start the trainer."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import torch

from sfumato.claims import claimed
from sfumato.core.errors import SfumatoError
from sfumato.images.destination import bare
from sfumato.models.devices import choose
from sfumato.train.config import Config, read
from sfumato.train.run_folder import make_folder
from sfumato.train.trainer import Trainer, say


def train(
    recipe: Path,
    data: Path | None = None,
    output: Path | None = None,
    steps: int | None = None,
    until: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Path:
    """Train by a recipe, from its checkpoint if the run folder has one; the run folder.

    data: a packed set or a folder with captions; by default the packed set under SFUMATO_HOME.
    steps: replaces the recipe's. until: stop there, with the rate schedule unchanged.
    """
    config, folder = asked(recipe, output, steps)
    return work(config, data or packed(), folder, until, device, quiet)


def asked(
    recipe: Path, output: Path | None = None, steps: int | None = None
) -> tuple[Config, Path]:
    """The recipe with those steps, and the run folder."""
    config = read(recipe).with_steps(steps)
    return config, output or Path("runs") / bare("name", config.name)


def work(
    config: Config,
    data: Path,
    folder: Path,
    until: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Path:
    """Train by a recipe that is read already; the run folder."""
    chosen = choose(device).device
    if chosen == "cuda" and "LOCAL_RANK" in os.environ:
        chosen = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(chosen)
    speak = (lambda line: None) if quiet else say
    first = os.environ.get("RANK", "0") == "0"  # of several processes of one run
    make_folder(folder)
    with claimed(folder) if first else nullcontext():
        Trainer(config, data, folder, device=chosen, say=speak).run(until)
    return folder


def packed() -> Path:
    """Where `sfumato data build-emoji` puts the packed set."""
    if folder := os.environ.get("SFUMATO_DATA"):
        return Path(folder)
    try:
        from sfumato.home import home

        return home() / "data" / "emoji"
    except ImportError:
        raise SfumatoError("data: give --data, the folder of the packed set") from None
