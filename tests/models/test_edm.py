"""Models of EDM's kind against the pipelines of diffusers: Playground 2.5 and CosXL."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato as sf
from helpers import pipelines
from helpers.pictures import close, latents, mask_of, photo, pixels_of
from sfumato.core.errors import SfumatoError
from sfumato.core.ladder import Ladder
from sfumato.core.schedule import ratio

PROMPT, NEGATIVE = "red cat", "a dog"
KINDS = ("playground", "cosxl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pipelines.each_once(tmp_path_factory, build, "edm")


def build(folder: Path, kind: str) -> Any:
    """XL's with the scheduler and the autoencoder's numbers of a kind."""
    import diffusers

    pipe = pipelines.stable(folder, "sdxl")
    if kind == "playground":
        pipe.scheduler = diffusers.EDMDPMSolverMultistepScheduler()
        pipe.vae.register_to_config(
            latents_mean=[-1.6, 0.1, 1.0, -0.5], latents_std=[8.4, 5.9, 5.2, 4.1],
            scaling_factor=0.5,
        )  # fmt: skip
    else:
        pipe.scheduler = diffusers.EDMEulerScheduler(
            sigma_min=0.002, sigma_max=120.0, sigma_data=1.0,
            prediction_type="v_prediction", sigma_schedule="exponential",
        )  # fmt: skip
    pipe.save_pretrained(folder / "edm")
    return pipe


def solver(kind: str) -> str:
    return "dpmpp-2m" if kind == "playground" else "ddim"


@pytest.mark.parametrize("spacing", [None, "model"])
@pytest.mark.parametrize("kind", KINDS)
def test_text_to_image_is_the_pipelines(made: Any, kind: str, spacing: str | None) -> None:
    pipe, model = made(kind)
    noise = latents(torch.Generator().manual_seed(5))
    theirs = pipe(
        PROMPT, negative_prompt=NEGATIVE, latents=noise, height=32, width=32,
        num_inference_steps=6, guidance_scale=3.0, output_type="pt",
    ).images  # fmt: skip
    process = model.process(
        PROMPT, negative=NEGATIVE, size=32, steps=6, spacing=spacing, solver=solver(kind)
    ) | sf.CFG(3.0)
    close(pixels_of(process, noise), theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_image_to_image_is_the_pipelines(made: Any, kind: str) -> None:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    pipe, model = made(kind)
    other = StableDiffusionXLImg2ImgPipeline(**pipe.components)
    other.set_progress_bar_config(disable=True)
    theirs = other(
        PROMPT, image=photo(), negative_prompt=NEGATIVE, strength=0.5, guidance_scale=3.0,
        num_inference_steps=8, generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    latents(generator)  # their sample of the posterior, which is its mode
    process = model.process(
        PROMPT, negative=NEGATIVE, steps=8, spacing="model", solver=solver(kind)
    ) | sf.CFG(3.0) | sf.SDEdit(photo(), t0=0.5)  # fmt: skip
    close(pixels_of(process, latents(generator)), theirs)


def test_inpainting_is_the_pipelines(made: Any) -> None:
    """Theirs encodes a picture without the latents' mean and deviation, so Playground's is not
    compared."""
    from diffusers import StableDiffusionXLInpaintPipeline

    pipe, model = made("cosxl")
    other = StableDiffusionXLInpaintPipeline(**pipe.components)
    other.set_progress_bar_config(disable=True)
    cells = (8, 8, 24, 32)
    theirs = other(
        PROMPT, image=photo(), mask_image=mask_of(cells), strength=0.5, guidance_scale=3.0,
        height=32, width=32, num_inference_steps=8, generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).images  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    latents(generator)  # their sample of the posterior, which is its mode
    process = model.process(PROMPT, steps=8, spacing="model", solver="ddim") | sf.CFG(3.0)
    process = process | sf.SDEdit(photo(), t0=0.5) | sf.Inpaint(photo(), mask=mask_of(cells))
    close(pixels_of(process, latents(generator)), theirs)


def test_defaults_are_the_families(made: Any) -> None:
    for kind, spacing, scale in (("playground", "karras", 3.0), ("cosxl", "logsnr", 5.0)):
        defaults = made(kind)[1].card.defaults
        assert (defaults.spacing, defaults.methods[0]["scale"]) == (spacing, scale)


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"prediction_type": "v_prediction"}, "sigma_data 0.5 is not supported"),
        ({"prediction_type": "sample"}, "prediction_type"),
        ({"final_sigmas_type": "sigma_min"}, "final_sigmas_type"),
        ({"sigma_schedule": "even"}, "sigma_schedule"),
    ],
)
def test_what_is_not_supported_is_refused_by_one_line(
    tmp_path: Path, change: dict[str, Any], phrase: str
) -> None:
    from sfumato.models.files.edm_schedulers import edm_scheduler

    file = tmp_path / "scheduler_config.json"
    file.write_text(json.dumps({"_class_name": "EDMEulerScheduler"} | change))
    with pytest.raises(SfumatoError, match=phrase):
        edm_scheduler(file)


@pytest.mark.parametrize("power", [1 / 7, 0.0])
def test_a_ladder_finds_its_levels_again(power: float) -> None:
    ladder = Ladder(0.002, 80.0, power)
    assert ratio(ladder, 1.0) == pytest.approx(80)
    assert ratio(ladder, 0.001) == pytest.approx(0.002)
    assert (ladder.alpha(0), ladder.sigma(0), ladder.at(0)) == (1, 0, 0)
    for t in (1e-4, 0.001, 0.3, 0.9, 1.0):
        assert ladder.at(ratio(ladder, t)) == pytest.approx(t, abs=1e-9)
        assert math.hypot(ladder.alpha(t), ladder.sigma(t)) == pytest.approx(1)
