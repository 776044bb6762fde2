"""Pipelines of compat that have a task, or inputs, of their own against diffusers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato.compat
from helpers import decoders, pipelines
from helpers.pictures import mask_of, photo
from sfumato.core.errors import SfumatoError

PROMPT, NEGATIVE = "red (cat:1.3)", "a dog"
CELLS = (8, 5, 24, 29)  # not of whole cells
KINDS = {
    "flux-fill": "FluxFillPipeline", "flux-kontext": "FluxKontextPipeline",
    "flux2": "Flux2KleinPipeline", "flux2-base": "Flux2KleinPipeline", "sana": "SanaPipeline",
    "sana-euler": "SanaPipeline", "sana-sprint": "SanaSprintPipeline",
    "pixart": "PixArtSigmaPipeline", "hunyuan": "HunyuanDiTPipeline",
    "kandinsky": "KandinskyV22Pipeline", "kandinsky-tuned": "KandinskyV22InpaintPipeline",
    "unclip": "StableUnCLIPImg2ImgPipeline", "lcm": "LatentConsistencyModelPipeline",
}  # fmt: skip


def saved(kind: str, folder: Path) -> tuple[Any, Path]:
    """Their pipeline of a kind, and the folder it is in."""
    import diffusers

    if kind in ("unclip", "lcm"):
        return getattr(decoders, kind)(folder), folder / kind
    if kind.startswith("kandinsky"):
        return decoders.kandinsky(folder, tuned="tuned" in kind), folder / "decoder"
    if kind == "pixart":
        return pipelines.pixart(folder), folder / "pipeline"
    if kind == "hunyuan":
        pipe = pipelines.hunyuan(folder, told_sizes=True)
        pipe.scheduler = diffusers.DDPMScheduler.from_config(
            pipe.scheduler.config, clip_sample=False
        )
        pipe.scheduler.save_pretrained(folder / "pipeline" / "scheduler")
        pipe.vae_scale_factor = 8  # theirs counts on cells of as many pixels
        return pipe, folder / "pipeline"
    return pipelines.flow(folder, kind), folder / "pipeline"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """kind -> (theirs, ours), of one folder."""
    kept: dict[str, Any] = {}

    def get(kind: str) -> Any:
        if kind not in kept:
            theirs, folder = saved(kind, tmp_path_factory.mktemp(kind))
            ours = getattr(sfumato.compat, KINDS[kind]).from_pretrained(folder)
            kept[kind] = theirs, ours, folder
        return kept[kind]

    return get


def drawn(pipe: Any, seed: int = 3, **given: Any) -> torch.Tensor:
    options = {"num_inference_steps": 4, "output_type": "pt", **given}
    images: torch.Tensor = pipe(generator=torch.Generator().manual_seed(seed), **options).images
    return images


def close(ours: torch.Tensor, theirs: torch.Tensor, most: float = 1e-4) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < most
    assert float(theirs.float().std()) > 0.02, "a picture of one colour would prove nothing"


def both(pair: Any, **given: Any) -> None:
    theirs, ours = (drawn(pipe, **given) for pipe in pair[:2])
    close(ours, theirs)


SMALL: dict[str, Any] = {"height": 32, "width": 32}
BINNED: dict[str, Any] = {"use_resolution_binning": False, "negative_prompt": NEGATIVE}


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_flux_fill_reads_the_mask_of_pixels(made: Any, strength: float) -> None:
    both(made("flux-fill"), prompt=PROMPT, image=photo(), mask_image=mask_of(CELLS),
         strength=strength, guidance_scale=3.0, num_images_per_prompt=2, **SMALL)  # fmt: skip


@pytest.mark.parametrize("given", [
    {},
    {"image": photo(48, 32), "_auto_resize": False},
    {"image": [photo(), photo(32, 32).rotate(90)], "prompt": [PROMPT, "a dog"],
     "_auto_resize": False, "negative_prompt": [NEGATIVE, "cat"], "true_cfg_scale": 2.0},
])  # fmt: skip
def test_flux_kontext_reads_a_picture_beside_the_state(made: Any, given: dict[str, Any]) -> None:
    pair = made("flux-kontext")
    given = {"prompt": PROMPT, "max_area": 32 * 48, "height": 32, "width": 48, **given}
    both(pair, **given)


@pytest.mark.parametrize("kind", ["flux2", "flux2-base"])
@pytest.mark.parametrize("given", [
    {},
    {"image": photo(70, 66), "height": None, "width": None},
    {"image": [photo(64, 80), photo(72, 64), photo(64, 64).rotate(90)]},
])  # fmt: skip
def test_flux2_klein_reads_a_picture_beside_the_state(
    made: Any, kind: str, given: dict[str, Any]
) -> None:
    both(made(kind), **{"prompt": PROMPT, "guidance_scale": 2.0, **SMALL, **given})


def test_flux2_kleins_latents_are_theirs(made: Any) -> None:
    pair = made("flux2")
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    both(pair, prompt=PROMPT, latents=noise, output_type="latent", **SMALL)
    told: list[Any] = []

    def callback(pipe: Any, i: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        told.append(given["latents"].clone())
        return {"latents": given["latents"] * 0.9} if i == 1 else given

    both(pair, prompt=PROMPT, callback_on_step_end=callback, **SMALL)
    close(told[6], told[2], 1e-3)


@pytest.mark.parametrize("kind", ["sana", "sana-euler", "pixart"])
def test_pipelines_with_tables_of_sizes(made: Any, kind: str) -> None:
    pair = made(kind)
    both(pair, prompt=[PROMPT, "a dog"], guidance_scale=3.0, **SMALL, **BINNED)
    with pytest.raises(SfumatoError, match="use_resolution_binning: there is no table"):
        pair[1](PROMPT, num_inference_steps=1, **SMALL)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_sana_sprint_walks_angles_as_theirs(made: Any, steps: int) -> None:
    middle = 1.3 if steps == 2 else None
    both(made("sana-sprint"), prompt=PROMPT, num_inference_steps=steps, guidance_scale=3.0,
         intermediate_timesteps=middle, use_resolution_binning=False, **SMALL)  # fmt: skip


@pytest.mark.parametrize("steps", [2, 5])
def test_sana_sprints_image_to_image_is_theirs(made: Any, steps: int) -> None:
    import diffusers

    theirs, ours, _ = made("sana-sprint")
    other = diffusers.SanaSprintImg2ImgPipeline(**theirs.components)
    other.set_progress_bar_config(disable=True)
    own = sfumato.compat.AutoPipelineForImage2Image.from_pipe(ours)
    assert type(own).__name__ == "SanaSprintImg2ImgPipeline"
    both((other, own), prompt=PROMPT, image=photo(), strength=0.6, num_inference_steps=steps,
         intermediate_timesteps=1.3 if steps == 2 else None, use_resolution_binning=False,
         num_images_per_prompt=2, **SMALL)  # fmt: skip


def test_a_table_of_sizes_is_theirs(tmp_path: Path) -> None:
    """Worked on at a size of the table, brought to the size that was asked for and cut."""
    pipelines.pixart(tmp_path, side=32)
    import diffusers

    theirs = diffusers.PixArtSigmaPipeline.from_pretrained(tmp_path / "pipeline")
    theirs.set_progress_bar_config(disable=True)
    ours = sfumato.compat.PixArtSigmaPipeline.from_pretrained(tmp_path / "pipeline")
    both((theirs, ours), prompt=PROMPT, height=96, width=144, num_inference_steps=1)


def test_hunyuan_dit_draws_as_theirs(made: Any) -> None:
    theirs, ours, _ = made("hunyuan")
    given = {"prompt": "Red cat \u732b", "guidance_scale": 3.0, **BINNED}
    close(drawn(ours, height=64, width=16, **given), drawn(theirs, height=128, width=32, **given))


@pytest.mark.parametrize("kind", ["kandinsky", "kandinsky-tuned"])
@pytest.mark.parametrize("form", ["pt", "np", "latent"])
def test_kandinskys_decoders_take_vectors(made: Any, kind: str, form: str) -> None:
    pair = made(kind)
    given = {**decoders.embeds(photo()), **SMALL, "guidance_scale": 3.0, "output_type": form}
    if "tuned" in kind:
        given |= {"image": photo(), "mask_image": mask_of(CELLS), "num_images_per_prompt": 2}
    theirs, ours = (torch.as_tensor(drawn(pipe, **given)) for pipe in pair[:2])
    close(ours, theirs, 2e-4 if form == "pt" else 1e-4)  # these go from -1 to 1


def test_kandinskys_image_to_image_is_theirs(made: Any) -> None:
    import diffusers

    theirs, ours, _ = made("kandinsky")
    other = diffusers.KandinskyV22Img2ImgPipeline(**theirs.components)
    other.set_progress_bar_config(disable=True)
    other.movq_scale_factor = 4
    own = sfumato.compat.AutoPipelineForImage2Image.from_pipe(ours)
    assert type(own).__name__ == "KandinskyV22Img2ImgPipeline"
    both((other, own), **decoders.embeds(photo()), image=photo(), strength=0.6,
         num_inference_steps=8, guidance_scale=3.0, **SMALL)  # fmt: skip


@pytest.mark.parametrize("level", [0, 600])
def test_stable_unclip_noises_vectors_as_theirs(made: Any, level: int) -> None:
    both(made("unclip"), prompt=PROMPT, image=photo(), negative_prompt=NEGATIVE, noise_level=level,
         num_images_per_prompt=2, guidance_scale=3.0, **SMALL)  # fmt: skip


def test_latent_consistency_models_draw_as_theirs(made: Any) -> None:
    import diffusers

    theirs, ours, _ = made("lcm")
    both((theirs, ours), prompt=PROMPT, guidance_scale=4.0, **SMALL)
    other = diffusers.LatentConsistencyModelImg2ImgPipeline(
        **theirs.components, requires_safety_checker=False
    )
    other.set_progress_bar_config(disable=True)
    own = sfumato.compat.LatentConsistencyModelImg2ImgPipeline.from_pipe(ours)
    both((other, own), prompt=PROMPT, image=photo(), strength=0.7, num_inference_steps=3)


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("flux-kontext", {"max_area": 0}, "max_area = 0: must be 1 to"),
        ("flux-kontext", {"_auto_resize": "no"}, "_auto_resize = 'no': give True or False"),
        ("flux-kontext", {"image": [photo()] * 2}, "image: 2 pictures for 1 results"),
        ("flux2", {"image": [photo(64, 64)] * 11}, "1 to 10 PIL pictures are read"),
        ("flux2", {"image": photo()}, "image: Image too small"),
        ("flux-fill", {"latents": torch.ones(1)}, "latents: are not supported beside"),
        ("sana", {"use_resolution_binning": None}, "use_resolution_binning = None: give True"),
        ("sana-sprint", {"num_inference_steps": 1}, "intermediate_timesteps: give None with 1"),
        ("hunyuan", {"target_size": (1, 1)}, "target_size is not supported"),
        ("kandinsky", {"image_embeds": 3}, "image_embeds = 3: give the prior's tensor"),
        ("kandinsky", {"negative_image_embeds": torch.ones(3, 16)}, "3 rows for 1 of image_embeds"),
        ("kandinsky-tuned", {"image": [photo()] * 2}, "image: 2 pictures for 1 results"),
        ("kandinsky-tuned", {"width": 33}, "whole blocks alone; give .48, 32"),
        ("unclip", {"image": 3}, "image = 3: give a PIL picture"),
        ("unclip", {"noise_level": 1000}, "noise_level = 1000: must be 0 to 999"),
        ("unclip", {"image_embeds": torch.ones(1, 16)}, "image_embeds is not supported"),
        ("lcm", {"original_inference_steps": 40}, "original_inference_steps is not supported"),
        ("pixart", {"callback": print}, "callback is not supported"),
    ],
)
def test_what_is_wrong_is_said(made: Any, kind: str, given: dict[str, Any], says: str) -> None:
    ours = made(kind)[1]
    good: dict[str, Any] = {"num_inference_steps": 2, **SMALL, "prompt": PROMPT}
    if "kandinsky" in kind:
        good = {**SMALL, **decoders.embeds(photo())}
    if kind in ("flux-fill", "kandinsky-tuned"):
        good |= {"image": photo(), "mask_image": mask_of(CELLS)}
    if kind == "unclip":
        good["image"] = photo()
    with pytest.raises(SfumatoError, match=says):
        ours(**{**good, **given})


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_taken_for_what_it_is(made: Any, kind: str) -> None:
    _, ours, folder = made(kind)
    found = sfumato.compat.DiffusionPipeline.from_pretrained(folder)
    assert type(found) is type(ours)
    task = "Inpainting" if ours.task == "inpaint" else "Text2Image"
    auto = getattr(sfumato.compat, f"AutoPipelineFor{task}").from_pretrained(folder)
    assert auto.family is ours.family
    with pytest.raises(SfumatoError, match=f"{KINDS[kind].split('V22')[0][:8]}"):
        sfumato.compat.StableDiffusion3Pipeline.from_pretrained(folder)
