"""Trainings: a folder with the client's pictures, the trainer, and what it leaves as files.

The folder stays between attempts, so that one whose runner was lost goes on from its checkpoint.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato import documents
from sfumato.claims import FILE as CLAIM
from sfumato.core.errors import SfumatoError
from sfumato.server import training
from sfumato.server.requests import Input, TrainJob
from sfumato.server.runner import classes, stops
from sfumato.server.runner.meanwhile import meanwhile
from sfumato.server.runner.picturing import let_go
from sfumato.server.runner.protocol import Made, Said, Stepped, Task
from sfumato.server.runner.replaying import Tell
from sfumato.server.runner.showing import shown
from sfumato.server.runner.warm import Warm

if TYPE_CHECKING:
    from sfumato.train.config import Config

LARGEST_FILE = 16 << 30
LOOKED_AT = 0.5  # seconds between looks at how far it is
RUN, MODELS = "run", "models"


def train(job: TrainJob, task: Task, tell: Tell, warm: Warm) -> None:
    """Train, and tell every file that a local run leaves, also where it is stopped or fails.

    Class pictures that are missing come first, as children.
    """
    with place_of(task) as place:
        config, data = prepared(job, task.inputs, place, warm)
        with beside(training.model_places(config, warm.offer), place / MODELS):
            if (wanted := _class_pictures(config, warm)) is not None:
                if task.files is not None:
                    classes.keep(task.files, wanted)
                elif wanted.missing():
                    tell(classes.expanded(job, wanted))
                    return
            del wanted  # a second copy of the model
            let_go()
            run = place / RUN
            run.mkdir(exist_ok=True)
            _begin(job, task, run)
            try:
                _train(job, config, data, run, tell, warm)
            except SfumatoError as error:
                raise SfumatoError(_named(str(error), job, run)) from None


@contextmanager
def beside(places: Mapping[str, str], folder: Path) -> Iterator[None]:
    """While active, the models that are offered lie in the working folder under their own names.

    So what a run says of them is what it says where they are: nothing of this machine.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, source in places.items():
        if Path(source).exists():
            (folder / name).symlink_to(Path(source).resolve())
    with chdir(folder):
        yield


def _train(job: TrainJob, config: Config, data: Path, run: Path, tell: Tell, warm: Warm) -> None:
    from sfumato.train.trainer import Trainer

    trainer = Trainer(
        config, data, run, device=_device(warm),
        say=lambda line: tell(Said(_named(line, job, run))),
    )  # fmt: skip
    with stops.heard(lambda keeps: trainer.stop(keeps=keeps)):
        try:
            with watched(trainer, job.until or config.optim.steps, tell), shown(run, tell):
                trainer.run(job.until, listens=False)
        finally:
            _tell_files(run, tell)


def plan(job: TrainJob, inputs: Mapping[str, Path], warm: Warm) -> dict[str, Any]:
    """Its lines; where it does not say what the subject is, what the pictures show."""
    from sfumato.train.subject import planning

    with tempfile.TemporaryDirectory(prefix="sfumato-plan-") as folder:
        config, data = prepared(job, inputs, Path(folder), warm)
        config = training.with_models(config, warm.offer)  # a task may be at work beside this
        if not config.reads.subject:
            optim = config.optim
            line = f"training: {optim.steps} steps of {optim.batch} pictures, rate {optim.rate:g}"
            return {"sentences": [line]}
        model = _model(config, warm)
        if not config.subject.noun.strip():
            return {"nouns": planning.nouns(model, data)}
        return {"sentences": planning.sentences(config, model)}


@contextmanager
def place_of(task: Task) -> Iterator[Path]:
    """The task's folder, or one that goes when it ends."""
    if task.folder is None:
        with tempfile.TemporaryDirectory(prefix="sfumato-train-") as folder:
            yield Path(folder)
    else:
        task.folder.mkdir(parents=True, exist_ok=True)
        yield task.folder


def prepared(
    job: TrainJob, inputs: Mapping[str, Path], place: Path, warm: Warm
) -> tuple[Config, Path]:
    """The recipe with the pictures in the folder; the data. Its models are offered."""
    config = training.config_of(job, place)
    training.model_places(config, warm.offer)
    data = place / training.PICTURES
    if job.pictures or config.reads.subject:
        _put(job.pictures, inputs, data)
    if job.class_pictures:
        _put(job.class_pictures, inputs, place / training.CLASS_PICTURES)
    if config.reads.subject:
        return config, data
    if not job.pictures:
        return config, _packed(job, warm)
    rows = [{"file": picture.name, "caption": picture.caption} for picture in job.pictures]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (data / training.CAPTIONS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return config, data


def _packed(job: TrainJob, warm: Warm) -> Path:
    """The server's packed set, if it is the one that is meant."""
    from sfumato.train.data.store import packed_digest
    from sfumato.train.program import packed

    data = warm.data or packed()
    if job.packed is not None and packed_digest(data) != job.packed:
        raise SfumatoError("data: the server has another packed set, or none; leave --data out")
    return data


def _class_pictures(config: Config, warm: Warm) -> Any:
    """What the training will ask for; None where that is nothing."""
    from sfumato.train.subject.class_pictures import wanted_of

    subject = config.subject
    if not config.reads.classes or not subject.prior or subject.class_folder:
        return None  # before a model is loaded
    return wanted_of(config, _model(config, warm))


def _model(config: Config, warm: Warm) -> Any:
    """The model that learns, as the trainer loads it."""
    from sfumato.models.loaders.library import load

    return load(config.model.start or "emoji", device=_device(warm), dtype="float32")


def _begin(job: TrainJob, task: Task, run: Path) -> None:
    """Files of an earlier training, unless this one has a checkpoint of its own."""
    from sfumato.train import origin

    if (run / origin.CHECKPOINT).exists():
        return
    for file in job.run:
        target = run / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(task.inputs[file.sha256], target)


def _named(line: str, job: TrainJob, run: Path) -> str:
    """A line without the server's folders."""
    return line.replace(f"{run}/", f"{job.name}/" if job.name else "").replace(f"{run}", job.name)


def _tell_files(run: Path, tell: Tell) -> None:
    from sfumato.train import run_note

    for file in sorted(run.rglob("*")):
        if file.is_file() and file.name != CLAIM and not file.name.startswith("."):
            data = documents.read_bytes(file, LARGEST_FILE)
            if file.name == run_note.FILE:
                data = data.replace(f"{run}".encode(), training.RUN_FOLDER.encode())
            tell(Made(file.relative_to(run).as_posix(), data))


def _device(warm: Warm) -> str:
    from sfumato.models.devices import choose

    return choose(warm.device).device


def _put(pictures: Sequence[Input], inputs: Mapping[str, Path], folder: Path) -> None:
    """The pictures under names of their own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for k, picture in enumerate(pictures):
        target = folder / picture.name
        if target.exists():
            target = folder / f"{k + 1}-{picture.name}"
        target.symlink_to(inputs[picture.sha256].resolve())


@contextmanager
def watched(trainer: Any, steps: int, tell: Tell) -> Iterator[None]:
    """While active, its steps are told as they are done."""
    began, first = time.monotonic(), trainer.step

    def watch(ended: threading.Event) -> None:
        told = -1
        while not ended.wait(LOOKED_AT):
            if (step := trainer.step) != told:
                told = step
                taken = time.monotonic() - began
                walked = step - first
                left = taken / walked * (steps - step) if walked > 1 else None
                tell(Stepped(step, steps, 0, step, steps, left))

    with meanwhile(watch):
        yield
