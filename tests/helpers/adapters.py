"""Adapters of the bundled base, and on tiny pipelines, ours and theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import sfumato as sf
from helpers.families import bundled
from helpers.pictures import pixels_of, times_of
from sfumato.nn import lora
from sfumato.train import checkpoint

NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))


def arbitrary(file: Path) -> Path:
    """One of the bundled base, with arbitrary numbers."""
    network: Any = bundled().denoiser.network
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, layer in lora.layers(network, ["attention"]).items():
        weight: Any = layer.weight
        tensors[f"{name}.down"] = torch.randn(2, weight[0].numel(), generator=generator) * 0.05
        tensors[f"{name}.up"] = torch.randn(len(weight), 2, generator=generator) * 0.05
    checkpoint.write(file, tensors, {"alpha": 2.0, "rank": 2})
    return file


def of_a_style(folder: Path) -> Path:
    """The bundled model's of a style; where it has none, an arbitrary one in the folder."""
    model = bundled()
    assert model.folder is not None
    for file in model.card.adapters.values():
        return model.folder / file
    return arbitrary(folder / "art.safetensors")


def fresh(folder: Path) -> Any:
    """A pipeline of its own, since diffusers changes it in place."""
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    return pipe


def theirs(pipe: Any, prompt: str = "red cat") -> torch.Tensor:
    options = {"height": 32, "width": 32, "guidance_scale": 3.0, "num_inference_steps": 4}
    pictures: torch.Tensor = pipe(
        prompt, negative_prompt="a dog", latents=NOISE, output_type="pt", **options
    ).images
    return pictures


def ours(model: sf.Model, pipe: Any, prompt: str = "red cat", **cfg: Any) -> torch.Tensor:
    pipe.scheduler.set_timesteps(4)
    process: Any = model.process(
        prompt, negative="a dog", spacing=times_of(pipe.scheduler, "ddim"), solver="ddim"
    )
    return pixels_of(process | sf.CFG(3.0, **cfg), NOISE)
