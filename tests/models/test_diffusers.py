"""Latent models against the pipelines of diffusers: same weights, same noise, same timesteps."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sfumato as sf
from helpers import pipelines
from helpers.pictures import mask_of, photo, pixels_of, times_of
from sfumato.core.noise import Tape
from sfumato.models.files.schedulers import Scheduler, scheduler

PROMPT, NEGATIVE = "red cat", "a dog"
KINDS = ("sd1", "sd2-v", "sdxl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pipelines.each_once(tmp_path_factory, pipelines.stable)


def schedulers(pipe: Any) -> dict[str, Any]:
    """Theirs by the id of ours; all end at sigma 0 or the table's first level."""
    from diffusers import (
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        EulerDiscreteScheduler,
        PNDMScheduler,
    )

    kind = pipe.scheduler.config.prediction_type
    config = pipelines.scheduler(prediction_type=kind).config
    return {
        "ddim": DDIMScheduler.from_config(config, clip_sample=False),
        "euler": EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing"),
        "dpmpp-2m": DPMSolverMultistepScheduler.from_config(config, timestep_spacing="trailing"),
        "plms": PNDMScheduler.from_config(config),
    }


@pytest.mark.parametrize("solver", ["ddim", "euler", "dpmpp-2m", "plms"])
@pytest.mark.parametrize("kind", KINDS)
def test_text_to_image_is_the_pipelines(made: Any, kind: str, solver: str) -> None:
    pipe, model = made(kind)
    pipe.scheduler = schedulers(pipe)[solver]
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    given = {"height": 32, "width": 32, "guidance_scale": 4.0, "num_inference_steps": 6}
    theirs = pipe(
        PROMPT, negative_prompt=NEGATIVE, latents=noise, output_type="pt", **given
    ).images  # fmt: skip
    times = times_of(pipe.scheduler, solver)
    start = noise * unit_start(pipe.scheduler) if solver == "euler" else noise
    own: Any = {"plms": {"solver": "plms", "of": read_as(model)}}
    process = model.process(
        PROMPT, negative=NEGATIVE, spacing=times, solver=own.get(solver, solver)
    ) | sf.CFG(4.0)
    ours = pixels_of(process, start)
    close(ours, theirs)


def read_as(model: sf.Model) -> str:
    """What their PNDM combines: the network's own outputs."""
    return "v" if model.denoiser.kind == "v" else "eps"


def unit_start(scheduler: Any) -> float:
    """Euler's begins at sigma_max noise, not at unit variance of the state."""
    return float(scheduler.init_noise_sigma) / math.sqrt(1 + float(scheduler.sigmas[0]) ** 2)


def close(ours: torch.Tensor, theirs: torch.Tensor, most: float = 1e-4) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < most
    assert float(theirs.std()) > 0.02, "a picture of one colour would prove nothing"


@pytest.mark.parametrize(
    ("solver", "strength"), [("ddim", 0.5), ("euler", 0.5), ("dpmpp-2m", 0.5), ("plms", 1.0)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_image_to_image_is_the_pipelines(
    made: Any, kind: str, solver: str, strength: float
) -> None:
    """PLMS at full strength alone: below it theirs cuts its list of times, in which the second one
    stands twice, so that every evaluation comes one step late."""
    import diffusers

    pipe, model = made(kind)
    name = (
        "StableDiffusionXLImg2ImgPipeline" if kind == "sdxl" else "StableDiffusionImg2ImgPipeline"
    )
    other = getattr(diffusers, name).from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    other.scheduler = schedulers(pipe)[solver]
    generator = torch.Generator().manual_seed(3)
    given = {"strength": strength, "guidance_scale": 3.0, "num_inference_steps": 8}
    theirs = other(
        PROMPT, image=photo(), negative_prompt=NEGATIVE, generator=generator, output_type="pt",
        **given,
    ).images  # fmt: skip
    generator.manual_seed(3)
    torch.randn(1, 4, 8, 8, generator=generator)  # their sample of the posterior, which is its mode
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    other.scheduler.set_timesteps(8)
    times = times_of(other.scheduler, solver, first=8 - int(8 * strength))
    own: Any = {"plms": {"solver": "plms", "of": read_as(model)}}
    process = model.process(
        PROMPT, negative=NEGATIVE, spacing=times, solver=own.get(solver, solver)
    )
    ours = pixels_of(process | sf.SDEdit(photo(), t0=times[0]) | sf.CFG(3.0), noise)
    close(ours, theirs)


CELLS = (8, 4, 24, 28)  # whole cells of 4 pixels, where nearest and largest agree


@pytest.mark.parametrize("solver", ["ddim", "euler", "dpmpp-2m", "plms"])
@pytest.mark.parametrize(
    ("kind", "strength"),
    [("sd1", 0.75), ("sd2-v", 0.5), ("sdxl", 0.5), ("sd1-inpaint", 1.0), ("sd1-inpaint", 0.5),
     ("sdxl-inpaint", 1.0), ("sdxl-inpaint", 0.5)],
)  # fmt: skip
def test_inpainting_is_the_pipelines(made: Any, kind: str, strength: float, solver: str) -> None:
    """Plain networks (the known part noised to the state's level) and those with mask channels.

    Plain ones at strength 1 differ on purpose: theirs begin with noise alone, ours with the known
    part noised to the first level, which at the end of these tables still holds 7 % of it.
    """
    import diffusers

    if solver == "plms" and strength < 1:
        pytest.skip("theirs evaluates one step late below full strength, as in image to image")
    pipe, model = made(kind)
    name = "StableDiffusionXLInpaintPipeline" if "xl" in kind else "StableDiffusionInpaintPipeline"
    other = getattr(diffusers, name).from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    other.scheduler = schedulers(pipe)[solver]
    if solver == "ddim":  # so that the kept part ends clean, as theirs always does
        other.scheduler = type(other.scheduler).from_config(
            other.scheduler.config, set_alpha_to_one=True
        )
    generator = torch.Generator().manual_seed(7)
    given = {"strength": strength, "guidance_scale": 3.0, "num_inference_steps": 8}
    theirs = other(
        PROMPT, image=photo(), mask_image=mask_of(CELLS), negative_prompt=NEGATIVE, height=32,
        width=32, generator=generator, output_type="pt", **given,
    ).images  # fmt: skip
    generator.manual_seed(7)
    if strength < 1 or "inpaint" not in kind:  # their sample of the posterior, which is its mode
        torch.randn(1, 4, 8, 8, generator=generator)
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    other.scheduler.set_timesteps(8)
    times = times_of(other.scheduler, solver, first=8 - int(8 * strength))
    if solver != "plms":
        times = (*times[:-1], 0.0)
    own: Any = {"plms": {"solver": "plms", "of": read_as(model)}}
    process = model.process(
        PROMPT, negative=NEGATIVE, spacing=times, solver=own.get(solver, solver)
    ) | sf.CFG(3.0)
    process = process | sf.Inpaint(photo(), mask=mask_of(CELLS))
    if strength < 1:
        process = process | sf.SDEdit(photo(), t0=times[0])
    elif solver == "euler":
        noise = noise * unit_start(other.scheduler)
    close(pixels_of(process, noise), theirs)


LEADING, TRAILING = {"timestep_spacing": "leading"}, {"timestep_spacing": "trailing"}
PUBLISHED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ddim": ("DDIM", "ddim", LEADING),
    "ddim to 0": ("DDIM", "ddim", {**LEADING, "set_alpha_to_one": True}),
    "ddim trailing": ("DDIM", "ddim", TRAILING),
    "pndm": ("PNDM", "plms", LEADING),
    "euler": ("EulerDiscrete", "euler", {}),
    "euler leading": ("EulerDiscrete", "euler", LEADING),
    "euler karras": ("EulerDiscrete", "euler", {"use_karras_sigmas": True}),
    "euler not to 0": ("EulerDiscrete", "euler", {"final_sigmas_type": "sigma_min"}),
    "heun": ("HeunDiscrete", "heun", {}),
    "heun leading": ("HeunDiscrete", "heun", LEADING),
    "dpm": ("DPMSolverMultistep", "dpmpp-2m", {}),
    "dpm leading": ("DPMSolverMultistep", "dpmpp-2m", LEADING),
    "dpm trailing": ("DPMSolverMultistep", "dpmpp-2m", TRAILING),
    "dpm karras": ("DPMSolverMultistep", "dpmpp-2m", {"use_karras_sigmas": True}),
    "dpm exponential": ("DPMSolverMultistep", "dpmpp-2m", {"use_exponential_sigmas": True}),
    "dpm lambdas": ("DPMSolverMultistep", "dpmpp-2m", {"use_lu_lambdas": True}),
}
"""Their class and its keys, and the solver here that steps alike."""


def published(
    pipe: Any, model: sf.Model, name: str, folder: Path
) -> tuple[sf.Model, dict[str, Any]]:
    """The pipeline with another scheduler, and the model as if it had come with that file."""
    import diffusers

    kind, solver, given = PUBLISHED[name]
    config = dict(pipelines.scheduler(prediction_type=pipe.scheduler.config.prediction_type).config)
    config |= {"timestep_spacing": "linspace", "clip_sample": False, **given}
    pipe.scheduler = getattr(diffusers, f"{kind}Scheduler").from_config(config)
    pipe.scheduler.save_pretrained(folder)
    read = scheduler(folder / "scheduler_config.json")
    own: Any = {"solver": "plms", "of": read_as(model)} if solver == "plms" else solver
    return replace(model, scheduler=read), {"spacing": "model", "solver": own}


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "dpm exponential"])
@pytest.mark.parametrize("kind", ["sd1", "sd2-v"])
def test_text_to_image_with_the_models_own_times(
    made: Any, kind: str, name: str, tmp_path: Path
) -> None:
    """Without an even exponential, whose first index is one less by a rounding of theirs."""
    pipe, model = made(kind)
    model, asked = published(pipe, model, name, tmp_path)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    theirs = pipe(
        PROMPT, negative_prompt=NEGATIVE, latents=noise, height=32, width=32, output_type="pt",
        guidance_scale=4.0, num_inference_steps=8,
    ).images  # fmt: skip
    scaled = PUBLISHED[name][0] in ("EulerDiscrete", "HeunDiscrete")
    start = noise * unit_start(pipe.scheduler) if scaled else noise
    process = model.process(PROMPT, negative=NEGATIVE, steps=8, **asked) | sf.CFG(4.0)
    close(pixels_of(process, start), theirs, 1e-3)


@pytest.mark.parametrize("strength", [0.3, 0.8])
@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "pndm"])
def test_image_to_image_with_the_models_own_times(
    made: Any, name: str, strength: float, tmp_path: Path
) -> None:
    """t0 is their strength; PNDM's steps are late there (above), its times are compared alone."""
    import diffusers

    pipe, model = made("sd1")
    model, asked = published(pipe, model, name, tmp_path)
    other = diffusers.StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    theirs = other(
        PROMPT, image=photo(), negative_prompt=NEGATIVE, generator=generator, output_type="pt",
        strength=strength, guidance_scale=3.0, num_inference_steps=8,
    ).images  # fmt: skip
    generator.manual_seed(3)
    torch.randn(1, 4, 8, 8, generator=generator)  # their sample of the posterior, which is its mode
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    process = model.process(PROMPT, negative=NEGATIVE, steps=8, **asked)
    ours = pixels_of(process | sf.SDEdit(photo(), t0=strength) | sf.CFG(3.0), noise)
    close(ours, theirs, 1e-3)


@pytest.mark.parametrize(
    ("given", "outputs"),
    [({}, 3), ({"variance_type": "fixed_small"}, 3), ({"variance_type": "fixed_small_log"}, 3),
     ({"variance_type": "fixed_large"}, 3), ({"variance_type": "learned_range"}, 6),
     ({"clip_sample": False, "timestep_spacing": "trailing"}, 3),
     ({"thresholding": True, "clip_sample": False}, 3),
     ({"thresholding": True, "timestep_spacing": "linspace"}, 3)],
)  # fmt: skip
def test_ancestral_sampling_of_pixels_is_the_pipelines(
    given: dict[str, Any], outputs: int, tmp_path: Path
) -> None:
    """With the times, the variance and the clamp that the scheduler's file says."""
    import diffusers

    scheduler = diffusers.DDPMScheduler(**given)
    pipe = diffusers.DDPMPipeline(unet=pixel_unet(outputs), scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    if not given:  # as older files, which leave out what is the class's own
        kept = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in kept.items() if k.startswith("_")}))
    model = sf.load(str(tmp_path), dtype="float32")
    theirs = pipe(
        generator=torch.Generator().manual_seed(3), num_inference_steps=8, output_type="np"
    ).images  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randn(1, 3, 8, 8, generator=generator) for _ in range(9)]
    tape = {("prior", 0): drawn[0], **{("step", k): v for k, v in enumerate(drawn)}}
    with torch.no_grad():
        loop = model.process(steps=8, solver="ddpm", spacing="model").begin(noise=Tape(tape))
        *_, last = loop.steps()
        ours = (loop.run.decode(last.x) / 2 + 0.5).clamp(0, 1)
    close(ours, torch.from_numpy(theirs).permute(0, 3, 1, 2), 1e-3)


def pixel_unet(outputs: int) -> Any:
    import diffusers

    net = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=outputs, block_out_channels=(16, 32),
        layers_per_block=1, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), norm_num_groups=8, attention_head_dim=8,
    )  # fmt: skip
    return pipelines.scrambled(net, 2)


@pytest.mark.parametrize(
    ("kind", "said", "variance"),
    [("DDPM", None, "small"), ("DDPM", "fixed_large", "large"), ("DDIM", None, "auto"),
     ("DPMSolverMultistep", None, "auto")],
)  # fmt: skip
def test_a_recipe_says_the_variance_that_the_scheduler_said(
    made: Any, kind: str, said: str | None, variance: str
) -> None:
    _, model = made("sd1")
    model = replace(model, scheduler=Scheduler(kind=f"{kind}Scheduler", variance_type=said))
    asked: dict[str, Any] = {"ddpm": variance, "small": "small", "large": "large"}
    for given, wanted in asked.items():
        solver: Any = given if given == "ddpm" else {"solver": "ddpm", "variance": given}
        recipe = model.asked(model.process(steps=3, solver=solver))
        assert recipe.solver == {"solver": "ddpm", "variance": wanted, "last_noise": False}


def test_spacing_model_in_recipes_plans_and_on_the_command_line(
    made: Any, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = made("sd1")
    monkeypatch.chdir(model.folder.parent)
    process = model.process(PROMPT, steps=4, spacing="model", solver="plms")
    assert process.times == pytest.approx((0.752, 0.502, 0.252, 0.002, 0.001))
    edit = process | sf.SDEdit(photo(), t0=0.5)
    assert edit.times == pytest.approx((0.502, 0.252, 0.002, 0.001))  # PNDM begins one higher
    result = edit.sample(seed=3)
    recipe = result.recipe
    assert (recipe.steps, recipe.spacing) == (4, "model")
    assert recipe.run["start"]["t0"] == pytest.approx(0.502)
    again = sf.run(sf.Recipe.from_json(recipe.to_json()))
    assert np.array_equal(np.asarray(again.images[0]), np.asarray(result.images[0]))
    asked = ["--spacing", "model", "--steps", "4", "--plan", "--json"]
    said = CliRunner().invoke(app, ["generate", "--model", "./pipeline", "-p", PROMPT, *asked])
    assert json.loads(said.stdout)["times"] == pytest.approx(process.times)
    said = CliRunner().invoke(app, ["generate", "-p", PROMPT, *asked])
    assert said.exit_code == 1
    assert "no scheduler of diffusers to take times from; leave it out, or take" in said.output
    with pytest.raises(sf.SfumatoError, match=r"t0 0\.2: of 1 steps that keeps none"):
        (process.based(n_steps=1) | sf.SDEdit(photo(), t0=0.2)).plan()
    with pytest.raises(sf.SfumatoError, match=r"sdedit: ratio names a noise level, .* give t0"):
        (process | sf.SDEdit(photo(), ratio=0.5)).plan()
