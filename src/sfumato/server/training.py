"""The training recipe of a job: a client's tables, its pictures where the server puts them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.core.errors import SfumatoError
from sfumato.server.requests import TrainJob

if TYPE_CHECKING:
    from sfumato.train.config import Config

TUNERS = ("dreambooth", "sine", "custom_diffusion", "textual_inversion", "p_plus")
"""What learns a subject from a few pictures; other tuners need data that no client uploads."""
PICTURES, CLASS_PICTURES = "pictures", "class"


def config_of(job: TrainJob, folder: Path = Path()) -> Config:
    """The recipe as the trainer takes it, its pictures in `folder`."""
    from sfumato.train.config import parse
    from sfumato.train.tables import toml

    tables: dict[str, Any] = dict(job.config)
    if tables.get("tuner") not in TUNERS:
        raise SfumatoError(f"config: tuner {tables.get('tuner')!r:.60}: give {', '.join(TUNERS)}")
    subject = tables.get("subject", {})
    if not isinstance(subject, dict):
        raise SfumatoError("config: subject: give a table")
    model = tables.get("model", {})
    if isinstance(model, dict) and model.get("tokenizer"):
        raise SfumatoError("config: model.tokenizer: names a file; leave it out here")
    own = {"pictures": str((folder / PICTURES).resolve()), "class_folder": ""}
    if job.class_pictures:
        own["class_folder"] = str((folder / CLASS_PICTURES).resolve())
    whole = {**tables, "subject": {**subject, **own}}
    parse(whole, where="config")
    return parse(whole, toml(whole), "config")
