"""A tuner is one file: it says itself what it reads of a recipe, and no second place knows it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from helpers import training
from helpers.training import config, trained
from sfumato.core.errors import SfumatoError
from sfumato.train import reads, tuners
from sfumato.train.config import parse

data = training.data
TUNER = '''
"""The mean of the pictures, as noisy as a level makes them."""

import torch

from sfumato.train import checkpoint
from sfumato.train.batches import Batches
from sfumato.train.grids import tiled
from sfumato.train.reads import Reads
from sfumato.train.tuners import Outcome
from sfumato.train.values import Positive, part

READS = Reads(packed=True, network=True, times=True)


@part
class Options:
    weight: Positive = 1.0


class Mean:
    def __init__(self, config, data, folder, device):
        self.config, self.own = config, config.part_of(Options)
        self.batches = Batches(config, data, folder, device)
        side, start = config.data.size, config.model.network["start"]
        self.mean = torch.nn.Parameter(torch.full((3, side, side), float(start)))

    def digests(self):
        return self.batches.digests()

    def parameters(self):
        return {"mean": self.mean}

    def batch(self, step, share):
        return self.batches.pixels(self.batches.plans(step, share))

    def loss(self, batch, step):
        error = (batch - self.mean).square().mean()
        return Outcome(self.own.weight * error, {"error": float(error.detach())})

    def judge(self):
        return {"error": float((self.batches.tests[0].pixels - self.mean).square().mean())}

    def show(self, file):
        checkpoint.put_picture(file, tiled([self.mean.detach()[None]]))

    def export(self, folder, average, facts):
        checkpoint.write(folder / "mean.safetensors", average, {"training": dict(facts)})
        return folder / "mean.safetensors"


def tuner(config, data, folder, device):
    return Mean(config, data, folder, device)
'''
RECIPE = """
name = "mean"
tuner = "mean_picture"
[model]
network = {start = 0.25}
[data]
size = 16
[mix]
hue = 0.5
[wording]
empty = 0.5
[objective]
times = "uniform"
[mean_picture]
weight = 2.0
[optim]
batch = 4
steps = 2
warmup = 1
[run]
log = 1
"""


@pytest.fixture(autouse=True)
def mean_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    place = tmp_path / "more"
    place.mkdir()
    (place / "mean_picture.py").write_text(TUNER)
    monkeypatch.setattr(tuners, "__path__", [*tuners.__path__, str(place)])
    yield
    sys.modules.pop("sfumato.train.tuners.mean_picture", None)


def test_a_tuner_of_one_file_trains(data: Path, tmp_path: Path) -> None:
    trainer = trained(config(RECIPE), data, tmp_path / "run")
    assert trainer.step == 2
    mean = load_file(tmp_path / "run" / "model" / "mean.safetensors")["mean"]
    assert mean.shape == (3, 16, 16)
    assert 0 < (mean - 0.25).abs().max() < 0.1


def test_tables_that_it_does_not_say_are_refused() -> None:
    tables: dict[str, Any]
    for tables, line in (
        ({"subject": {"noun": "dog"}}, "subject does nothing without tuner=custom_diffusion or"),
        ({"adapter": {"rank": 2}}, "adapter does nothing without tuner="),
        ({"model": {"schedule": "linear"}}, "model: schedule does nothing without tuner="),
        ({"objective": {"norm": "l1"}}, "objective: norm does nothing without tuner="),
    ):
        with pytest.raises(SfumatoError, match=line) as refused:
            parse({"name": "mean", "tuner": "mean_picture", **tables})
        assert "mean_picture" not in str(refused.value)


def test_it_is_named_where_others_lack_what_it_reads() -> None:
    with pytest.raises(SfumatoError, match=r"mix does nothing without tuner=.*\bmean_picture\b"):
        parse({"name": "x", "tuner": "p_plus", "mix": {"hue": 0.1}})


def test_every_tuner_says_what_it_reads() -> None:
    for name in set(reads.names()) - {"mean_picture"}:
        said = reads.reads_of(name)
        assert said.packed or said.subject, f"{name} reads no pictures"
        assert said.times or not said.denoiser
        assert said.subject or not (said.classes or said.word)
