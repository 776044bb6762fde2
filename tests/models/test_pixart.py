"""PixArt-Sigma against the pipeline of diffusers: same weights, same noise, same times."""

from __future__ import annotations

from pathlib import Path

import torch

import sfumato as sf
from helpers import pipelines
from helpers.pictures import pixels_of


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
