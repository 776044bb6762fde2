"""Hunyuan-DiT against the pipeline of diffusers: same weights, same noise, same times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file

import sfumato as sf
from helpers import pipelines
from helpers.pictures import mask_of, photo, pixels_of
from sfumato.core.errors import SfumatoError
from sfumato.models.loaders.hunyuan import rotary


@pytest.mark.parametrize("told_sizes", [False, True])
def test_text_to_image_is_the_pipelines(tmp_path: Path, told_sizes: bool) -> None:
    pipe = pipelines.hunyuan(tmp_path, told_sizes)
    pipe.scheduler = DDIMScheduler.from_config(  # the pipeline's own draws noise
        pipe.scheduler.config, timestep_spacing="trailing", clip_sample=False
    )
    pipe.scheduler.save_pretrained(tmp_path / "pipeline" / "scheduler")
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    noise = torch.randn(1, 4, 16, 4, generator=torch.Generator().manual_seed(5))
    # theirs counts on cells of 8 pixels
    pipe.vae_scale_factor = 8
    theirs = pipe(
        "Red cat \u732b", negative_prompt="a dog", latents=noise, height=128, width=32,
        num_inference_steps=5, guidance_scale=3.0, use_resolution_binning=False, output_type="pt",
    ).images  # fmt: skip
    process = model.process(
        "Red cat \u732b", negative="a dog", size=(16, 64), steps=5, spacing="model", solver="ddim"
    ) | sf.CFG(3.0)
    ours = pixels_of(process, noise)
    assert float((ours - theirs).abs().max()) < 1e-4
    assert float(theirs.std()) > 0.02


OWN = {
    "attn1.Wqkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn1.out_proj": ("attn1.to_out.0",), "attn2.q_proj": ("attn2.to_q",),
    "attn2.kv_proj": ("attn2.to_k", "attn2.to_v"), "attn2.out_proj": ("attn2.to_out.0",),
}  # fmt: skip
"""Layers of its authors' LoRA, by those of diffusers that they are in."""


def released(net: torch.nn.Module, scale: float, program: str) -> dict[str, torch.Tensor]:
    """A LoRA file's tensors as its authors' program or kohya's scripts write them; the same is
    added to the network, as its authors do it for diffusers."""
    generator, tensors = torch.Generator().manual_seed(9), {}
    layers = [
        (f"blocks.{i}.{own}", [f"blocks.{i}.{one}" for one in theirs])
        for i in range(4)
        for own, theirs in OWN.items()
    ]
    layers.append(("pooler.q_proj", ["time_extra_emb.pooler.q_proj"]))
    for own, theirs in layers:
        modules = [net.get_submodule(name) for name in theirs]
        rows = [module.weight.shape[0] for module in modules]
        down = torch.randn(2, modules[0].weight.shape[1], generator=generator) * 0.2
        up = torch.randn(sum(rows), 2, generator=generator)
        for module, part in zip(modules, (up @ down).split(rows), strict=True):
            module.weight.data += scale * part
        kohya = program == "kohya"
        stem = f"lora_unet_{own.replace('.', '_')}" if kohya else f"base_model.model.{own}"
        for (authors, scripts), value in ((("A", "down"), down), (("B", "up"), up)):
            tensors[f"{stem}.lora_{scripts if kohya else authors}.weight"] = value
        if kohya:
            tensors[f"{stem}.alpha"] = torch.tensor(2 * scale)
    return tensors


@pytest.mark.parametrize("program", ["authors", "kohya"])
def test_a_released_lora_file_changes_the_picture_as_its_authors_say(
    tmp_path: Path, program: str
) -> None:
    pipe = pipelines.hunyuan(tmp_path, False)
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", clip_sample=False
    )
    pipe.scheduler.save_pretrained(tmp_path / "pipeline" / "scheduler")
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    pipe.vae_scale_factor = 8
    folder = tmp_path / "jade"
    folder.mkdir()
    tensors = released(pipe.transformer, 0.5, program)
    file = folder / ("kohya.safetensors" if program == "kohya" else "adapter_model.safetensors")
    save_file(tensors, file)
    if program == "authors":
        told = {"peft_type": "LORA", "r": 2, "lora_alpha": 1}
        (folder / "adapter_config.json").write_text(json.dumps(told))
    theirs = pipe(
        "red cat", latents=noise, height=64, width=64, num_inference_steps=4, guidance_scale=1.0,
        use_resolution_binning=False, output_type="pt",
    ).images  # fmt: skip
    given = {"size": 32, "steps": 4, "spacing": "model", "solver": "ddim"}
    plain, adapted = (
        pixels_of(one.process("red cat", **given) | sf.CFG(1.0), noise)
        for one in (model, model.adapt(file if program == "kohya" else folder))
    )
    assert float((adapted - theirs).abs().max()) < 1e-4
    assert float((plain - theirs).abs().max()) > 0.02, "an adapter that does nothing"


def test_methods_run_on_it(tmp_path: Path) -> None:
    pipelines.hunyuan(tmp_path, False)
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    process = model.process("a (red:1.3) cat", steps=2)
    process = process | sf.SDEdit(photo(), t0=0.5, mask=mask_of((8, 8, 24, 32)))
    assert process.sample(1).images[0].size == (32, 32)
    rows = {"(red:1.3) cat": "redcat", "red cat": "redcat"}
    for text, words in rows.items():
        spans = model.spans(text)
        assert spans is not None
        assert "".join(text[a:b] for a, b in filter(None, spans)).replace(" ", "") == words
    with pytest.raises(SfumatoError, match="this model reads 256; shorten it"):
        model.encode(["x" * 300])


@pytest.mark.parametrize(
    ("file", "change", "phrase"),
    [
        ("transformer/config.json", {"learn_sigma": False}, "learn_sigma"),
        ("transformer/config.json", {"attention_head_dim": 6}, "multiple of 4"),
        ("transformer/config.json", {"num_layers": 3}, "must be even"),
        ("text_encoder/config.json", {"num_attention_heads": 5}, "is no multiple"),
        ("text_encoder/config.json", {"position_embedding_type": "relative_key"}, "embedding_type"),
    ],
)
def test_what_is_not_supported_is_refused_by_one_line(
    tmp_path: Path, file: str, change: dict[str, object], phrase: str
) -> None:
    pipelines.hunyuan(tmp_path, False)
    place = tmp_path / "pipeline" / file
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(SfumatoError, match=phrase):
        sf.load(str(tmp_path / "pipeline"))


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (4, 9), (7, 3)])
def test_places_are_laid_as_in_the_pipeline(rows: int, columns: int) -> None:
    from diffusers.models.embeddings import get_2d_rotary_pos_embed
    from diffusers.pipelines.hunyuandit import pipeline_hunyuandit

    crops = pipeline_hunyuandit.get_resize_crop_region_for_grid((rows, columns), 32)
    theirs = get_2d_rotary_pos_embed(16, crops, (rows, columns), output_type="pt")
    ours = rotary(16, rows, columns, 32, torch.device("cpu"))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
