"""PixArt-Sigma against the pipeline of diffusers: same weights, same noise, same times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


def test_a_lora_file_in_pefts_names_changes_the_picture(tmp_path: Path) -> None:
    """As PixArt's authors train it; diffusers reads none, so that its own layers are changed."""
    pipe = pipelines.pixart(tmp_path)
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    generator, tensors = torch.Generator().manual_seed(9), {}
    for name, module in pipe.transformer.named_modules():
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0", "linear_1", "net.0.proj")):
            rows, columns = module.weight.shape
            down = torch.randn(2, columns, generator=generator) * 0.2
            up = torch.randn(rows, 2, generator=generator)
            module.weight.data += up @ down
            tensors[f"base_model.model.{name}.lora_A.weight"] = down
            tensors[f"base_model.model.{name}.lora_B.weight"] = up
    save_file(tensors, tmp_path / "lora.safetensors")
    theirs = pipe(
        "red cat", latents=noise, height=32, width=32, num_inference_steps=4, guidance_scale=1.0,
        use_resolution_binning=False, clean_caption=False, output_type="pt",
    ).images  # fmt: skip
    given = {"size": 32, "steps": 4, "spacing": "model", "solver": "dpmpp-2m"}
    plain, adapted = (
        pixels_of(one.process("red cat", **given) | sf.CFG(1.0), noise)
        for one in (model, model.adapt(tmp_path / "lora.safetensors"))
    )
    assert float((adapted - theirs).abs().max()) < 1e-4
    assert float((plain - theirs).abs().max()) > 0.02, "an adapter that does nothing"


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
