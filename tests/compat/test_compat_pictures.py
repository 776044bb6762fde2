"""Pipelines of compat against diffusers' own: the same call and generator, the same picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import save_file

import sfumato.compat
from helpers import pipelines
from helpers.pictures import mask_of, photo
from sfumato.core.errors import SfumatoError

PROMPT, NEGATIVE = "red (cat:1.3)", "a dog"
FLOWS = {
    "sd3-wide": "StableDiffusion3",
    "flux-dev": "Flux",
    "zimage": "ZImage",
    "qwen": "QwenImage",
}
NAMES = {"sd1": "StableDiffusion", "sd2-v": "StableDiffusion", "sdxl": "StableDiffusionXL",
         "sd1-inpaint": "StableDiffusion", "sdxl-inpaint": "StableDiffusionXL",
         **FLOWS}  # fmt: skip
ENDINGS = {"text": "Pipeline", "image": "Img2ImgPipeline", "inpaint": "InpaintPipeline"}
CELLS = (8, 5, 24, 29)  # not of whole cells


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(kind, task) -> (theirs, ours), of one folder a kind."""
    kept: dict[str, Any] = {}
    pairs: dict[tuple[str, str], tuple[Any, Any]] = {}

    def get(kind: str, task: str) -> tuple[Any, Any]:
        import diffusers

        if kind not in kept:
            folder = tmp_path_factory.mktemp(kind)
            make = pipelines.flow if kind in FLOWS else pipelines.stable
            kept[kind] = make(folder, kind), folder / "pipeline"
        if (kind, task) not in pairs:
            pipe, folder = kept[kind]
            name = NAMES[kind] + ENDINGS[task]
            theirs = getattr(diffusers, name).from_pipe(pipe)
            theirs.set_progress_bar_config(disable=True)
            own = type(theirs.scheduler).from_pretrained(folder, subfolder="scheduler")
            theirs.scheduler = own  # where it says all of its keys, as published files do
            ours = getattr(sfumato.compat, name).from_pretrained(folder)
            pairs[kind, task] = theirs, ours
        return pairs[kind, task]

    return get


def drawn(pipe: Any, seed: int = 3, **given: Any) -> torch.Tensor:
    options = {"num_inference_steps": 6, "output_type": "pt", **given}
    images: torch.Tensor = pipe(generator=torch.Generator().manual_seed(seed), **options).images
    return images


def close(ours: torch.Tensor, theirs: torch.Tensor, most: float = 1e-4) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < most
    assert float(theirs.float().std()) > 0.02, "a picture of one colour would prove nothing"


def guided(kind: str) -> dict[str, Any]:
    if kind.startswith("flux"):
        return {"guidance_scale": 2.5, "negative_prompt": NEGATIVE, "true_cfg_scale": 2.0}
    if kind == "qwen":
        return {}
    return {"guidance_scale": 3.0, "negative_prompt": NEGATIVE}


SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddim noisy": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "pndm from 0": ("PNDMScheduler", {"steps_offset": 0}),
    "pndm linspace": ("PNDMScheduler", {"timestep_spacing": "linspace"}),
    "pndm trailing": ("PNDMScheduler", {"timestep_spacing": "trailing", "set_alpha_to_one": True}),
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
    "euler leading": ("EulerDiscreteScheduler", {"timestep_spacing": "leading"}),
    "euler karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "euler a": ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "heun": ("HeunDiscreteScheduler", {"timestep_spacing": "linspace"}),
    "dpm": ("DPMSolverMultistepScheduler", {}),
    "dpm 1": ("DPMSolverMultistepScheduler", {"solver_order": 1}),
    "dpm karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
}


def with_scheduler(pair: tuple[Any, Any], name: str) -> dict[str, Any]:
    """Both with a scheduler made from their own's configuration; what the call needs besides."""
    import diffusers

    theirs, ours = pair
    for pipe in pair:
        if not hasattr(pipe, "own"):
            object.__setattr__(pipe, "own", dict(pipe.scheduler.config))
    kind, given = SCHEDULERS[name]
    given = {"clip_sample": False, **given} if kind[:4] in ("DDIM", "DDPM") else given
    theirs.scheduler = getattr(diffusers, kind).from_config(theirs.own, **given)
    ours.scheduler = getattr(sfumato.compat, kind).from_config(ours.own, **given)
    return {"eta": 0.6} if "noisy" in name else {}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_from_text(made: Any, name: str) -> None:
    pair = made("sd1", "text")
    more = with_scheduler(pair, name)
    given = {"prompt": PROMPT, "height": 32, "width": 32, **guided("sd1"), **more}
    theirs, ours = (drawn(pipe, **given) for pipe in pair)
    close(ours, theirs)


@pytest.mark.parametrize("kind", ["sd2-v", "sdxl", *FLOWS])
def test_every_family_from_text(made: Any, kind: str) -> None:
    given = {"prompt": PROMPT, "height": 32, "width": 40, **guided(kind)}
    theirs, ours = (drawn(pipe, **given) for pipe in made(kind, "text"))
    close(ours, theirs)


@pytest.mark.parametrize("strength", [0.3, 0.58, 1.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_from_a_picture(made: Any, name: str, strength: float) -> None:
    pair = made("sd1", "image")
    given = {"prompt": PROMPT, "image": photo(41, 37), "strength": strength, **guided("sd1")}
    given |= with_scheduler(pair, name)
    theirs, ours = (drawn(pipe, num_inference_steps=8, **given) for pipe in pair)
    close(ours, theirs)


@pytest.mark.parametrize("kind", ["sd2-v", "sdxl", *FLOWS])
def test_every_family_from_a_picture(made: Any, kind: str) -> None:
    pair = made(kind, "image")
    more = {} if kind in FLOWS else with_scheduler(pair, "dpm")
    if kind in FLOWS:
        more = {"height": 32, "width": 32}
    given = {"prompt": PROMPT, "image": photo(), "strength": 0.6, **guided(kind), **more}
    theirs, ours = (drawn(pipe, **given) for pipe in pair)
    close(ours, theirs)


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize(
    "name", ["ddim", "ddim noisy", "euler", "euler a", "dpm", "dpm sde", "pndm"]
)
@pytest.mark.parametrize("kind", ["sd1", "sd1-inpaint"])
def test_every_scheduler_inpaints(made: Any, kind: str, name: str, strength: float) -> None:
    """A plain network at full strength too, where Inpaint begins otherwise."""
    pair = made(kind, "inpaint")
    given = {"prompt": PROMPT, "image": photo(40, 36), "mask_image": mask_of(CELLS, (40, 36)),
             "strength": strength, **guided(kind), **with_scheduler(pair, name)}  # fmt: skip
    theirs, ours = (drawn(pipe, **given) for pipe in pair)
    close(ours, theirs)


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("kind", ["sd2-v", "sdxl", "sdxl-inpaint", *FLOWS])
def test_every_family_inpaints(made: Any, kind: str, strength: float) -> None:
    """Theirs of SD 3 leaves the autoencoder's shift out when it decodes, so its latents count."""
    pair = made(kind, "inpaint")
    more: dict[str, Any] = {"height": 32, "width": 32}
    more |= {} if kind in FLOWS else with_scheduler(pair, "pndm" if strength < 1 else "dpm")
    more |= {"output_type": "latent"} if kind == "sd3-wide" else {}
    given = {"prompt": PROMPT, "image": photo(), "mask_image": mask_of(CELLS),
             "strength": strength, **guided(kind), **more}  # fmt: skip
    theirs, ours = (drawn(pipe, **given) for pipe in pair)
    close(ours, theirs, 1e-3 if kind == "sd3-wide" else 1e-4)


@pytest.mark.parametrize("kind", ["sd1", "flux-dev"])
def test_outputs_batches_and_generators(made: Any, kind: str) -> None:
    pair = made(kind, "text")
    if kind == "sd1":
        with_scheduler(pair, "euler a")
    given = {"prompt": ["red cat", "a dog"], "height": 32, "width": 32, "num_inference_steps": 3,
             "num_images_per_prompt": 2, **guided(kind)}  # fmt: skip
    given["negative_prompt"] = ["a dog", "cat"]
    both = {kind: [drawn(pipe, output_type=kind, **given) for pipe in pair]
            for kind in ("np", "pt", "pil", "latent")}  # fmt: skip
    close(both["pt"][1], both["pt"][0])
    close(both["latent"][1], both["latent"][0])
    assert both["np"][1].shape == both["np"][0].shape == (4, 32, 32, 3)
    assert np.abs(both["np"][1] - both["np"][0]).max() < 1e-4
    for ours, theirs in zip(both["pil"][1], both["pil"][0], strict=True):
        assert isinstance(ours, PILImage.Image)
        assert np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max() <= 1
    latents = both["latent"][0]
    listed = [pipe(**given, generator=[torch.Generator().manual_seed(k) for k in range(4)],
                   output_type="pt").images for pipe in pair]  # fmt: skip
    close(listed[1], listed[0])
    begun = [pipe(**given, latents=latents, generator=torch.Generator().manual_seed(1),
                  output_type="pt", return_dict=False)[0] for pipe in pair]  # fmt: skip
    close(begun[1], begun[0])


@pytest.mark.parametrize("name", ["ddim", "euler", "euler a", "dpm sde", "ddpm"])
def test_a_generator_that_goes_on_gives_their_next_picture(made: Any, name: str) -> None:
    pair = made("sd1", "text")
    with_scheduler(pair, name)
    given: dict[str, Any] = {"prompt": PROMPT, "height": 32, "width": 32, "num_inference_steps": 3}
    pictures = []
    for pipe in pair:
        generator = torch.Generator().manual_seed(5)
        pipe(**given, generator=generator)
        pictures.append(pipe(**given, generator=generator, output_type="pt").images)
    close(pictures[1], pictures[0])


@pytest.mark.parametrize(
    ("kind", "name"), [("sd1", "dpm"), ("sd1", "euler"), ("sd1", "pndm"), ("flux-dev", "")]
)
def test_callbacks_see_and_change_what_theirs_do(made: Any, kind: str, name: str) -> None:
    pair = made(kind, "text")
    if name:
        with_scheduler(pair, name)
    told: list[list[Any]] = []

    def callback(pipe: Any, i: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        told[-1].append((i, float(t), given["latents"].clone()))
        return {"latents": given["latents"] * 0.9} if i == 1 else given

    pictures = []
    for pipe in pair:
        told.append([])
        pictures.append(
            drawn(pipe, prompt=PROMPT, height=32, width=32, callback_on_step_end=callback)
        )
    close(pictures[1], pictures[0], 2e-4)
    for ours, theirs in zip(told[1], told[0], strict=True):
        assert ours[0] == theirs[0]
        assert ours[1] == pytest.approx(theirs[1], abs=1e-2)
        assert ours[2].shape == theirs[2].shape
        assert float((ours[2] - theirs[2]).abs().max()) < 1e-3


def test_a_callback_ends_a_run(made: Any) -> None:
    pair = made("sd1", "text")
    with_scheduler(pair, "euler")
    seen = []

    def callback(pipe: Any, i: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        seen.append(i)
        pipe._interrupt = i == 2
        return given

    theirs, ours = (
        drawn(pipe, prompt=PROMPT, height=32, width=32, callback_on_step_end=callback)
        for pipe in pair
    )
    assert seen == [0, 1, 2, 0, 1, 2]
    close(ours, theirs)


def test_pictures_are_taken_in_every_form(made: Any) -> None:
    pair = made("sd1", "image")
    with_scheduler(pair, "dpm")
    array = np.asarray(photo()).astype(np.float32) / 255
    tensor = torch.from_numpy(array).permute(2, 0, 1)[None]
    for image in (photo(), array[None], tensor, tensor * 2 - 1, [photo(), photo(32, 32)]):
        prompts = [PROMPT, "a dog"]
        theirs, ours = (drawn(pipe, prompt=prompts, image=image, strength=0.5) for pipe in pair)
        close(ours, theirs)


def lora_file(net: Any, path: Path, seed: int) -> Path:
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, module in net.named_modules():
        if name.endswith(("to_q", "to_v")):
            rows, columns = module.weight.shape
            for part, shape in (("A", (2, columns)), ("B", (rows, 2))):
                weight = torch.randn(shape, generator=generator)
                tensors[f"unet.{name}.lora_{part}.weight"] = weight * 0.2
    save_file(tensors, path)
    return path


def test_lora_files_act_as_in_diffusers(made: Any, tmp_path: Path) -> None:
    theirs, ours = made("sd1", "text")
    with_scheduler((theirs, ours), "ddim")
    files = [lora_file(theirs.unet, tmp_path / f"{name}.safetensors", ord(name)) for name in "ab"]
    given = {"prompt": "red cat", "height": 32, "width": 32}
    before = drawn(ours, **given)
    for pipe in (theirs, ours):
        pipe.load_lora_weights(tmp_path, weight_name="a.safetensors", adapter_name="a")
    close(drawn(ours, **given), drawn(theirs, **given))
    for pipe in (theirs, ours):
        pipe.load_lora_weights(files[1], adapter_name="b")
        pipe.set_adapters(["a", "b"], [0.5, 0.7])
    close(drawn(ours, **given), drawn(theirs, **given))
    for pipe in (theirs, ours):
        pipe.set_adapters("b")
    close(drawn(ours, **given), drawn(theirs, **given))
    with pytest.raises(SfumatoError, match="set_adapters: no 'c'; there are a, b"):
        ours.set_adapters("c")
    with pytest.raises(SfumatoError, match="'a' is there already"):
        ours.load_lora_weights(files[0], adapter_name="a")
    with pytest.raises(SfumatoError, match="1 weights for 2 names"):
        ours.set_adapters(["a", "b"], [1.0])
    assert float((drawn(ours, **given) - before).abs().max()) > 0.01
    theirs.unload_lora_weights()
    ours.unload_lora_weights()
    assert torch.equal(drawn(ours, **given), before)


def test_a_scheduler_of_diffusers_is_taken_as_it_is(made: Any) -> None:
    theirs, ours = made("sd1", "text")
    with_scheduler((theirs, ours), "dpm karras")
    ours.scheduler = theirs.scheduler
    given = {"prompt": PROMPT, "height": 32, "width": 32}
    close(drawn(ours, **given), drawn(theirs, **given))
