"""Adapters on tiny pipelines, ours and theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import sfumato as sf
from helpers.pictures import pixels_of, times_of

NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))


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
