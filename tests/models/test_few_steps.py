"""Models distilled to a few steps against the pipelines of diffusers: LCM and the turbos."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sfumato as sf
from helpers import decoders, pipelines
from helpers.pictures import close, latents, photo, pixels_of
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import Tape
from sfumato.core.solvers import LCM

PROMPT = "red cat"


@pytest.fixture(scope="module")
def lcm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, sf.Model]:
    """A latent consistency model's pipeline, and our model of its folder."""
    folder = tmp_path_factory.mktemp("lcm")
    pipe = decoders.lcm(folder)
    return pipe, sf.load(str(folder / "lcm"), dtype="float32")


def pixels(process: Any, first: Tensor, later: list[Tensor]) -> Tensor:
    """Decoded pixels of a run whose start and whose steps have this noise."""
    tape: dict[tuple[str, int], Tensor] = {("prior", 0): first, ("start", 0): first}
    tape |= {("step", k + 1): noise for k, noise in enumerate(later)}
    with torch.no_grad():
        loop = process.begin(noise=Tape(tape))
        *_, last = loop.steps()
        return (loop.run.decode(last.x) / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("scale", [8.5, 2.0])
def test_lcms_text_to_image_is_the_pipelines(lcm: Any, scale: float) -> None:
    pipe, model = lcm
    first = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    theirs = pipe(
        PROMPT, latents=first, height=32, width=32, num_inference_steps=4, guidance_scale=scale,
        generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    process = model.process(PROMPT, size=32)
    if scale != 8.5:  # what its authors take
        process = process | sf.DistilledGuidance(scale)
    close(pixels(process, first, [latents(generator) for _ in range(3)]), theirs)


def test_lcms_image_to_image_is_the_pipelines(lcm: Any) -> None:
    from diffusers import LatentConsistencyModelImg2ImgPipeline

    pipe, model = lcm
    other = LatentConsistencyModelImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    theirs = other(
        PROMPT, image=photo(), strength=0.7, num_inference_steps=3, guidance_scale=8.5,
        generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    latents(generator)  # their sample of the posterior, which is its mode
    process = model.process(PROMPT, steps=3) | sf.SDEdit(photo(), t0=0.7)
    close(pixels(process, latents(generator), [latents(generator) for _ in range(2)]), theirs)


def test_the_xls_read_the_scale_too(tmp_path: Path) -> None:
    from diffusers import LCMScheduler

    pipe = pipelines.stable(tmp_path, "sdxl")
    unet = pipe.unet.config
    told = {k: unet[k] for k in ("addition_embed_type", "addition_time_embed_dim",
            "projection_class_embeddings_input_dim", "transformer_layers_per_block",
            "use_linear_projection", "attention_head_dim")}  # fmt: skip
    pipe.unet = pipelines.unet(80, time_cond_proj_dim=16, **told)
    pipe.scheduler = LCMScheduler()
    pipe.save_pretrained(tmp_path / "pipeline")
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    first = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    theirs = pipe(
        PROMPT, latents=first, height=32, width=32, num_inference_steps=2, guidance_scale=8.5,
        generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    ours = pixels(
        model.process(PROMPT, size=32, steps=2), first, [latents(torch.Generator().manual_seed(3))]
    )
    close(ours, theirs)


def test_more_steps_than_it_was_distilled_at_are_refused(lcm: Any) -> None:
    _, model = lcm
    with pytest.raises(SfumatoError, match="distilled at 50 times, of which 5 lie below"):
        (model.process(PROMPT, steps=6) | sf.SDEdit(photo(), t0=0.1)).begin()


def test_a_lora_of_lcm_runs_on_a_plain_model_by_the_solver_alone(tmp_path: Path) -> None:
    pipelines.stable(tmp_path, "sd1")
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    result = model.process(PROMPT, steps=2, solver="lcm", spacing="trailing").sample(seed=1)
    assert result.calls == [2]
    with pytest.raises(SfumatoError, match="scaling 0 must be"):
        LCM(scaling=0)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize(("kind", "ancestral"), [("sd2-v", False), ("sdxl", True)])
def test_the_turbos_begin_at_the_very_end_without_guidance(
    tmp_path: Path, kind: str, ancestral: bool, steps: int
) -> None:
    """SD turbo is a 2.1 that predicts eps by Euler's steps, SDXL turbo draws noise between them."""
    from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler

    pipe = pipelines.stable(tmp_path, kind)
    cls = EulerAncestralDiscreteScheduler if ancestral else EulerDiscreteScheduler
    pipe.scheduler = cls.from_config(
        pipelines.scheduler(prediction_type="epsilon").config, timestep_spacing="trailing"
    )
    pipe.scheduler.save_pretrained(tmp_path / "pipeline" / "scheduler")
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    first = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    theirs = pipe(
        PROMPT, latents=first, height=32, width=32, num_inference_steps=steps, guidance_scale=0.0,
        generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    sigma = float(pipe.scheduler.sigmas[0])
    start = first * float(pipe.scheduler.init_noise_sigma) / math.hypot(1, sigma)
    process = model.process(PROMPT, size=32, steps=steps)
    ours = pixels(process, start, [latents(generator) for _ in range(steps)])
    close(ours, theirs)


def test_a_turbo_edits_a_picture_as_in_the_pipeline(tmp_path: Path) -> None:
    from diffusers import EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline

    pipe = pipelines.stable(tmp_path, "sd1")
    scheduler = EulerDiscreteScheduler.from_config(
        pipelines.scheduler().config, timestep_spacing="trailing"
    )
    scheduler.save_pretrained(tmp_path / "pipeline" / "scheduler")
    parts = dict(pipe.components) | {"scheduler": scheduler}
    other = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    theirs = other(
        PROMPT, image=photo(), strength=0.5, num_inference_steps=2, guidance_scale=0.0,
        generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    latents(generator)  # their sample of the posterior, which is its mode
    process = model.process(PROMPT, steps=1) | sf.SDEdit(photo(), t0=0.5)
    close(pixels_of(process, latents(generator)), theirs)
