"""Every tuner of pictures with captions: a run that is stopped goes on to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from helpers.training import RECIPE, config, trained
from sfumato.train import frozen, redrawn
from sfumato.train.data import build
from sfumato.train.tuners.diffusion import Diffusion

STEPS = """
[data]
size = 32
[optim]
batch = 4
steps = 4
warmup = 1
rate = 1e-3
dtype = "float32"
[run]
log = 1
grid = 1000
judge = 1000
save_minutes = 0
"""
CLASSIFIER = """
name = "classes"
tuner = "classifier"
[model.network]
model_channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [2]
num_head_channels = 32
use_scale_shift_norm = true
"""
CLIP = """
name = "pairs"
tuner = "contrastive"
[model]
vocabulary = 300
[model.network]
embedding = 32
head_width = 32
size = 32
patch = 8
image_width = 32
image_layers = 1
text_width = 32
text_layers = 1
context = 8
vocabulary = 300
"""
JUDGE = """
name = "names"
tuner = "judge"
[model.network]
widths = [8, 16]
"""
JUDGED = STEPS.replace("size = 32", 'size = 32\nsplit = "all"\njudged = "ink"')
UPSAMPLER = """
name = "larger"
tuner = "diffusion"
[model]
kind = "v"
learned_range = true
factor = 2
[model.network]
low_res = true
model_channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
use_scale_shift_norm = true
"""
CONTROLNET = """
name = "layout"
tuner = "controlnet"
[controlnet]
hint = "mask"
drop = 0.5
"""
IP_ADAPTER = """
name = "pictures"
tuner = "ip_adapter"
[ip_adapter]
tokens = 2
drop_image = 0.3
"""
ASYRP = """
name = "shift"
tuner = "asyrp"
[asyrp]
source = "red"
target = "blue"
steps = 4
width = 64
"""
BOUNDARY = """
name = "plane"
tuner = "boundary"
[boundary]
positive = "thing 1"
negative = "thing 2"
steps = 3
pictures = 4
tests = 2
[wording]
empty = 0.0
"""
RECIPES = {
    "base": RECIPE.replace("steps = 24", "steps = 4").replace("size = 16", "size = 32"),
    "upsampler": UPSAMPLER + STEPS,
    "redrawn": UPSAMPLER + STEPS.replace("[data]", '[data]\nbase = "emoji"\nbase_share = 0.5'),
    "classifier": CLASSIFIER + STEPS,
    "contrastive": CLIP + STEPS,
    "judge": JUDGE + JUDGED,
    "controlnet": CONTROLNET + STEPS.replace("batch = 4", "batch = 2"),
    "asyrp": ASYRP + STEPS.replace("batch = 4", "batch = 2"),
    "boundary": BOUNDARY + STEPS,
    "ip_adapter": IP_ADAPTER + STEPS.replace("batch = 4", "batch = 2"),
}
BUNDLED = ("asyrp", "ip_adapter", "redrawn")
"""Those that run the bundled model in each step, up to half a minute of it."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six things in seven styles, two of them held out."""
    folder = tmp_path_factory.mktemp("packed")
    rows: dict[str, dict[str, Any]] = {}
    drawn: dict[str, dict[str, Image.Image]] = {style: {} for style in build.SOURCES}
    for k in range(6):
        code = f"1f34{k}"
        row = {"hex": code, "label": f"thing {k}", "tags": ["thing"], "label_ko": "것"}
        row |= {"tags_ko": [], "group": f"group-{k % 2}", "subgroup": f"sub-{k % 2}"}
        rows[code] = {**row, "split": "test" if k > 3 else "train"}
        for depth, style in enumerate(build.SOURCES):
            picture = Image.new("RGBA", (256, 256))
            box = (20 + 10 * k, 20, 120 + 20 * k, 230 - 10 * depth)
            ImageDraw.Draw(picture).ellipse(box, fill=(40 * k, 30 * depth, 200, 255))
            drawn[style][code] = picture
    build.pack(folder, rows, drawn)
    return folder


def test_a_base_redraws_a_share_of_what_an_upsampler_reads(packed: Path, tmp_path: Path) -> None:
    """The large pictures stay, and so do the small ones that are not chosen."""
    share = slice(0, 16)
    plain, redrawn = (
        Diffusion(config(RECIPES[kind], batch=16), packed, tmp_path / kind, "cpu").batch(0, share)
        for kind in ("upsampler", "redrawn")
    )
    assert torch.equal(plain.x0, redrawn.x0)
    moved = (plain.cond["low_res"] - redrawn.cond["low_res"]).abs().amax((1, 2, 3))
    assert 4 <= int((moved > 0.01).sum()) <= 12
    assert float(moved[moved < 0.01].max()) == 0


def test_models_in_training_take_captions_that_are_longer_than_what_they_read(
    packed: Path, tmp_path: Path
) -> None:
    """Two things, colours and a ground in one caption may be: the rest of it is left out."""
    beside = frozen.Frozen(config(RECIPES["ip_adapter"]), packed, tmp_path, "cpu")
    long = "red apple left of " * 20
    for model in (beside.model, redrawn.Base("emoji", "cpu").model):
        assert model.encode([long, "red apple"])["mask"][0].all()


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow if kind in BUNDLED else ()) for kind in RECIPES],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    kind: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "STEPS", 2)
    monkeypatch.setattr(frozen, "JUDGED", 4)
    made = config(RECIPES[kind])
    whole = trained(made, packed, tmp_path / "whole")
    assert trained(made, packed, tmp_path / "broken", until=2).step == 2
    again = trained(made, packed, tmp_path / "broken")
    assert again.step == whole.step == 4
    first, second = (load_file(tmp_path / n / "state.safetensors") for n in ("whole", "broken"))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert list((tmp_path / "broken" / "model").glob("*.safetensors"))
