"""PixArt-Sigma against the pipeline of diffusers: same weights, same noise, same times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sfumato as sf
from helpers import pipelines
from helpers.pictures import photo, pixels_of
from sfumato.core.errors import SfumatoError


def test_text_to_image_is_the_pipelines(tmp_path: Path) -> None:
    pipe = pipelines.pixart(tmp_path)
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    theirs = pipe(
        "Red cat", negative_prompt="a dog", latents=noise, height=32, width=32,
        num_inference_steps=6, guidance_scale=3.0, use_resolution_binning=False,
        clean_caption=False, output_type="pt",
    ).images  # fmt: skip
    process = model.process(
        "Red cat", negative="a dog", size=32, steps=6, spacing="model", solver="dpmpp-2m"
    ) | sf.CFG(3.0)
    ours = pixels_of(process, noise)
    assert float((ours - theirs).abs().max()) < 1e-4
    assert float(theirs.std()) > 0.02


def test_methods_run_on_it(tmp_path: Path) -> None:
    pipelines.pixart(tmp_path)
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    process = model.process("a (red:1.3) cat", steps=2) | sf.SDEdit(photo(), t0=0.5)
    assert process.sample(1).images[0].size == (32, 32)


def test_networks_that_read_sizes_are_refused(tmp_path: Path) -> None:
    pipelines.pixart(tmp_path)
    file = tmp_path / "pipeline" / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_additional_conditions": True}))
    with pytest.raises(SfumatoError, match="networks that read sizes are not supported"):
        sf.load(str(tmp_path / "pipeline"))
