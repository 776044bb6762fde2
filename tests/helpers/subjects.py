"""A small run that learns a subject."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sfumato.train import config, program


def recipe(model: Path, pictures: Path, tuner: str = "dreambooth", **changes: Any) -> config.Config:
    """A short run on a tiny pipeline."""
    tables: dict[str, Any] = {
        "name": "mine", "tuner": tuner, "model": {"start": str(model)},
        "subject": {"pictures": str(pictures), "noun": "dog", "class_pictures": 9},
        "adapter": {"rank": 2, "alpha": 3.0},
        "objective": {"times": "uniform", "weighting": "min-snr"},
        "optim": {"batch": 2, "steps": 4, "rate": 0.05, "warmup": 1, "ema": 0.5,
                  "dtype": "float32"},
        "run": {"log": 1, "grid": 1000, "judge": 1000},
    }  # fmt: skip
    for name, table in changes.items():
        tables[name] = {**tables[name], **table}
    if not tables["adapter"]["rank"]:
        del tables["adapter"]["alpha"]
    return config.parse(tables, json.dumps(tables))


def trained(config_: config.Config, folder: Path) -> dict[str, torch.Tensor]:
    """The state of a finished run."""
    program.work(config_, Path(config_.subject.pictures), folder, device="cpu", quiet=True)
    return load_file(folder / "state.safetensors")
