"""Trainings: a folder with the client's pictures, the trainer, and what it leaves as files."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfumato import documents
from sfumato.claims import FILE as CLAIM
from sfumato.core.errors import SfumatoError
from sfumato.server import training
from sfumato.server.requests import Input, TrainJob
from sfumato.server.runner.protocol import Made, Said, Stepped, Task
from sfumato.server.runner.replaying import Tell
from sfumato.server.runner.showing import shown
from sfumato.server.runner.warm import Warm

LARGEST_FILE = 16 << 30
LOOKED_AT = 0.5  # seconds between looks at how far it is


def train(job: TrainJob, task: Task, tell: Tell, warm: Warm) -> None:
    """Train, and tell every file that a local run leaves, its checkpoint apart."""
    from sfumato.train import origin
    from sfumato.train.trainer import Trainer

    with tempfile.TemporaryDirectory(prefix="sfumato-train-") as folder:
        place = Path(folder)
        _put(job.pictures, task, place / training.PICTURES)
        if job.class_pictures:
            _put(job.class_pictures, task, place / training.CLASS_PICTURES)
        config = training.config_of(job, place)
        start = config.model.start or "emoji"
        if start not in warm.offer:
            raise SfumatoError(f"model {start!r:.80}: not offered by this server")
        config = replace(config, model=replace(config.model, start=warm.offer[start]))
        run = place / "run"
        run.mkdir()
        trainer = Trainer(
            config, place / training.PICTURES, run, device=_device(warm),
            say=lambda line: tell(Said(line.replace(f"{run}/", ""))),
        )  # fmt: skip
        with watched(trainer, config.optim.steps, tell), shown(run, tell):
            trainer.run()
        for file in sorted(run.rglob("*")):
            if file.is_file() and file.name not in (CLAIM, origin.CHECKPOINT):
                data = documents.read_bytes(file, LARGEST_FILE)
                tell(Made(file.relative_to(run).as_posix(), data))


def _device(warm: Warm) -> str:
    from sfumato.models.devices import choose

    return choose(warm.device).device


def _put(pictures: Sequence[Input], task: Task, folder: Path) -> None:
    """The pictures under names of their own."""
    folder.mkdir()
    for k, picture in enumerate(pictures):
        target = folder / picture.name
        if target.exists():
            target = folder / f"{k + 1}-{picture.name}"
        target.symlink_to(task.inputs[picture.sha256].resolve())


@contextmanager
def watched(trainer: Any, steps: int, tell: Tell) -> Iterator[None]:
    """While active, its steps are told as they are done."""
    ended = threading.Event()
    began = time.monotonic()

    def watch() -> None:
        told = -1
        while not ended.wait(LOOKED_AT):
            if (step := trainer.step) != told:
                told = step
                taken = time.monotonic() - began
                left = taken / step * (steps - step) if step > 1 else None
                tell(Stepped(step, steps, 0, step, steps, left))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
