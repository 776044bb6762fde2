"""SDXL's refiner against the pipelines of diffusers, alone and behind its base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato as sf
from helpers import pipelines
from helpers.pictures import close, latents, photo, pixels_of
from sfumato.core.errors import SfumatoError

PROMPT, NEGATIVE = "red cat", "a dog"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(pipeline, model) of a base and of its refiner."""
    import diffusers

    folder = tmp_path_factory.mktemp("xl")
    base = pipelines.stable(folder, "sdxl")
    base.scheduler = diffusers.DDIMScheduler.from_config(base.scheduler.config, clip_sample=False)
    base.save_pretrained(folder / "base")
    unet = pipelines.unet(
        48, addition_embed_type="text_time", addition_time_embed_dim=8, use_linear_projection=True,
        transformer_layers_per_block=1, projection_class_embeddings_input_dim=48 + 5 * 8,
        attention_head_dim=(2, 4),
    )  # fmt: skip
    refiner = pipelines.refiner(base, unet)
    refiner.save_pretrained(folder / "refiner")
    for pipe in (base, refiner):
        pipe.set_progress_bar_config(disable=True)
    return [
        (pipe, sf.load(str(folder / name), dtype="float32"))
        for pipe, name in ((base, "base"), (refiner, "refiner"))
    ]


@pytest.mark.parametrize("scores", [None, (9.0, 1.0)])
def test_a_refiner_edits_a_picture_as_in_the_pipeline(made: Any, scores: Any) -> None:
    _, (pipe, model) = made
    told = {"aesthetic_score": scores[0], "negative_aesthetic_score": scores[1]} if scores else {}
    theirs = pipe(
        PROMPT, image=photo(), negative_prompt=NEGATIVE, strength=0.5, guidance_scale=3.0,
        num_inference_steps=8, generator=torch.Generator().manual_seed(3), output_type="pt", **told,
    ).images  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    latents(generator)  # their sample of the posterior, which is its mode
    process = model.process(
        PROMPT, negative=NEGATIVE, steps=8, solver="ddim", spacing="model"
    ) | sf.SDEdit(photo(), t0=0.5) | sf.CFG(3.0)  # fmt: skip
    if scores:
        process = process | sf.Refine(score=scores[0], away_score=scores[1])
    close(pixels_of(process, latents(generator)), theirs)


def test_compat_tells_the_refiner_the_scores_as_the_pipeline(made: Any) -> None:
    import sfumato.compat

    _, (pipe, model) = made
    ours = sfumato.compat.StableDiffusionXLImg2ImgPipeline.from_pretrained(model.folder)

    def drawn_by(one: Any, **given: Any) -> torch.Tensor:
        images: torch.Tensor = one(
            prompt=PROMPT, image=photo(), strength=0.5, num_inference_steps=6, output_type="pt",
            generator=torch.Generator().manual_seed(3), **given,
        ).images  # fmt: skip
        return images

    for given in ({}, {"aesthetic_score": 9.0, "negative_aesthetic_score": 1.0}):
        close(drawn_by(ours, **given), drawn_by(pipe, **given))


@pytest.mark.parametrize("share", [0.8, 0.5])
def test_the_base_hands_over_at_a_share_of_the_way(made: Any, share: float) -> None:
    (base, model), (refiner, second) = made
    noise = latents(torch.Generator().manual_seed(5))
    told = {"negative_prompt": NEGATIVE, "guidance_scale": 3.0, "num_inference_steps": 10}
    half = base(
        PROMPT, latents=noise, height=32, width=32, denoising_end=share, output_type="latent",
        **told,
    ).images  # fmt: skip
    theirs = refiner(PROMPT, image=half, denoising_start=share, output_type="pt", **told).images
    process = model.process(
        PROMPT, negative=NEGATIVE, size=32, steps=10, solver="ddim", spacing="model"
    ) | sf.CFG(3.0)
    ours = pixels_of(process | sf.Refine(second.name, at=share), noise)
    close(ours, theirs)
    assert float((pixels_of(process, noise) - theirs).abs().max()) > 0.01
    swapped = process.without("cfg") | sf.Refine(second.name, at=share) | sf.CFG(3.0)
    assert torch.equal(pixels_of(swapped, noise), ours)


def test_a_run_records_its_refiner(made: Any) -> None:
    (_, model), (_, second) = made
    result = (model.process(PROMPT, size=32, steps=2) | sf.Refine(second.name)).sample(seed=1)
    kept = result.recipe.run["weights"]["refine.model"]
    assert kept["sha256"] == second.origin.sha256


def test_what_cannot_refine_is_refused(made: Any, tmp_path: Path) -> None:
    (_, model), _ = made
    with pytest.raises(SfumatoError, match="reads no score; name a refiner"):
        (model.process(PROMPT, size=32) | sf.Refine()).begin()
    pipelines.stable(tmp_path, "sd2-v")
    with pytest.raises(SfumatoError, match="predicts v on another table"):
        model.process(PROMPT) | sf.Refine(str(tmp_path / "pipeline"))
