"""The training recipe of a job: a client's tables, its pictures where the server puts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.core.errors import SfumatoError
from sfumato.server.requests import TrainJob

if TYPE_CHECKING:
    from sfumato.train.config import Config

PICTURES, CLASS_PICTURES = "pictures", "class"
CAPTIONS = "captions.jsonl"
RUN_FOLDER = "<run>"
"""What run.json says for the run folder, whose place here is no client's business."""
OWN_NAMES = (CAPTIONS, "captions.csv")


def config_of(job: TrainJob, folder: Path = Path()) -> Config:
    """The recipe as the trainer takes it, its pictures in `folder`."""
    from sfumato.train import reads
    from sfumato.train.config import parse
    from sfumato.train.tables import toml

    tables: dict[str, Any] = dict(job.config)
    tuner, known = tables.get("tuner"), reads.names()
    if tuner not in known:
        raise SfumatoError(f"config: tuner {tuner!r:.60}: give {', '.join(known)}")
    if reads.reads_of(tuner).subject:
        tables = _of_subject(job, tables, folder)
    else:
        _check_captions(job)
    parse(tables, where="config")
    return parse(tables, toml(tables), "config")


def _of_subject(job: TrainJob, tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    subject = tables.get("subject", {})
    if not isinstance(subject, dict):
        raise SfumatoError("config: subject: give a table")
    if not job.pictures:
        raise SfumatoError("pictures: give those of the subject")
    if job.packed is not None:
        raise SfumatoError("packed: is for tuners that learn from captions; leave it out")
    own = {"pictures": str((folder / PICTURES).resolve()), "class_folder": ""}
    if job.class_pictures:
        own["class_folder"] = str((folder / CLASS_PICTURES).resolve())
    return {**tables, "subject": {**subject, **own}}


def _check_captions(job: TrainJob) -> None:
    if job.class_pictures:
        raise SfumatoError("class_pictures: are for a subject's training; leave them out")
    if job.pictures and job.packed is not None:
        raise SfumatoError("packed: goes without pictures; leave one of them out")
    names = [picture.name for picture in job.pictures]
    if len(set(names)) < len(names):
        raise SfumatoError("pictures: two have the same name; give each its own")
    if taken := set(names) & set(OWN_NAMES):
        raise SfumatoError(f"pictures: {min(taken)} is the captions' name; take another")


def model_names(config: Config) -> dict[str, str]:
    """Fields of a recipe that name a model, with what they name."""
    named = {
        "model.start": config.model.start or ("emoji" if config.reads.subject else ""),
        "model.tokenizer": config.model.tokenizer,
        "data.base": config.data.base,
    }
    return {field: name for field, name in named.items() if name}


def model_places(config: Config, offer: Mapping[str, str]) -> dict[str, str]:
    """What those names stand for; SfumatoError where one is not offered."""
    for field, name in model_names(config).items():
        if name not in offer:
            raise SfumatoError(f"{field} {name!r:.80}: not offered by this server")
    return {name: offer[name] for name in model_names(config).values()}


def with_models(config: Config, offer: Mapping[str, str]) -> Config:
    """The recipe with their places instead."""
    places = {"": "", **model_places(config, offer)}
    start = config.model.start or model_names(config).get("model.start", "")
    model = replace(config.model, start=places[start], tokenizer=places[config.model.tokenizer])
    return replace(config, model=model, data=replace(config.data, base=places[config.data.base]))
