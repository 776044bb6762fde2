"""A small training run."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from sfumato.train.config import Config, parse
from sfumato.train.trainer import Trainer

RECIPE = """
name = "tiny"
tuner = "diffusion"
[model]
kind = "v"
learned_range = true
vocabulary = 300
[model.network]
model_channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [2]
num_head_channels = 32
use_scale_shift_norm = true
text_ctx = 8
xf_width = 32
xf_layers = 1
xf_heads = 2
xf_padding = true
n_vocab = 300
inpaint = true
dropout = 0.1
[data]
size = 16
[objective]
vb = 0.1
[optim]
batch = 4
steps = 24
warmup = 4
rate = 1e-3
ema = 0.9
[run]
log = 1
grid = 1000
judge = 1000
save_minutes = 0
prompts = ["red disc", "blue box"]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six coloured discs and boxes with captions."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = [["file", "caption"]]
    for k, colour in enumerate(("red", "green", "blue")):
        for shape in ("disc", "box"):
            image = Image.new("RGBA", (24, 24))
            draw = ImageDraw.Draw(image)
            place = [3 + k, 4, 19 + k, 20]
            (draw.ellipse if shape == "disc" else draw.rectangle)(place, fill=colour)
            image.save(folder / f"{colour}-{shape}.png")
            rows.append([f"{colour}-{shape}.png", f"{colour} {shape}"])
    with (folder / "captions.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


def config(text: str = RECIPE, **optim: Any) -> Config:
    import tomllib

    parsed = parse(tomllib.loads(text), text)
    return replace(parsed, optim=replace(parsed.optim, **optim))


def trained(recipe: Config, data: Path, folder: Path, until: int | None = None) -> Trainer:
    trainer = Trainer(recipe, data, folder, say=lambda line: None)
    trainer.run(until)
    return trainer
