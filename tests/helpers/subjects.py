"""A small run that learns a subject."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sfumato.cli.training_recipe import tables
from sfumato.train import config, program

OPTIONS: dict[str, Any] = {
    "model": "emoji", "noun": "apple", "name": "zwx", "steps": 2, "batch": 1, "prior": 0.0,
    "rank": 2, "vectors": None, "rate": None, "seed": None, "word": False, "text": False,
    "class_pictures": None, "class_folder": None, "output": "subject",
}  # fmt: skip
"""Of `sfumato dreambooth`, for a run of the bundled model whose result is not looked at."""


def subject_config() -> dict[str, Any]:
    """What the program makes of these options, without the folders."""
    made = tables("unused", OPTIONS)
    del made["subject"]["pictures"]
    made["run"] |= {"grid": 1000, "judge": 1000}  # neither draws nor measures
    return made


def recipe(model: Path, pictures: Path, tuner: str = "dreambooth", **changes: Any) -> config.Config:
    """A short run on a tiny pipeline."""
    made: dict[str, Any] = {
        "name": "mine", "tuner": tuner, "model": {"start": str(model)},
        "subject": {"pictures": str(pictures), "noun": "dog", "class_pictures": 9},
        "adapter": {"rank": 2, "alpha": 3.0},
        "objective": {"times": "uniform", "weighting": "min-snr"},
        "optim": {"batch": 2, "steps": 4, "rate": 0.05, "warmup": 1, "ema": 0.5,
                  "dtype": "float32"},
        "run": {"log": 1, "grid": 1000, "judge": 1000},
    }  # fmt: skip
    for name, table in changes.items():
        made[name] = {**made[name], **table}
    if not made["adapter"]["rank"] or tuner == "textual_inversion":  # which would read none
        del made["adapter"]["alpha"]
    return config.parse(made, json.dumps(made))


def trained(config_: config.Config, folder: Path) -> dict[str, torch.Tensor]:
    """The state of a finished run."""
    program.work(config_, Path(config_.subject.pictures), folder, device="cpu", quiet=True)
    return load_file(folder / "state.safetensors")
