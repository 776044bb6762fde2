"""What compat refuses by its name: arguments, attributes, schedulers and every key of theirs."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from packaging import version

import sfumato.compat
from helpers import pipelines
from helpers.pictures import mask_of, photo
from sfumato.compat import schedulers, signatures
from sfumato.core.errors import SfumatoError
from sfumato.models.files.scheduler_keys import KEYS

NEWEST = version.parse(diffusers.__version__) >= version.parse("0.42")
CLASSES = sorted(
    name
    for name in dir(diffusers)
    if name.endswith("Scheduler")
    and inspect.isclass(cls := getattr(diffusers, name))
    and issubclass(cls, SchedulerMixin)
)
GOOD: dict[str, dict[str, Any]] = {
    "DDIM": {"clip_sample": False}, "DDPM": {"clip_sample": False},
    "PNDM": {"skip_prk_steps": True},
}  # fmt: skip
"""What a class needs to be followed at all."""

FOLLOWED = {
    "base_image_seq_len", "base_shift", "beta_end", "beta_schedule", "beta_start",
    "euler_at_final", "final_sigmas_type", "lambda_min_clipped", "lower_order_final",
    "max_image_seq_len", "max_shift", "num_train_timesteps", "prediction_type",
    "rescale_betas_zero_snr", "set_alpha_to_one", "shift", "shift_terminal", "sigma_max",
    "sigma_min", "steps_offset", "time_shift_type", "timestep_spacing", "trained_betas",
    "original_inference_steps", "timestep_scaling",
    "use_dynamic_shifting", "use_exponential_sigmas", "use_karras_sigmas", "use_lu_lambdas",
}  # fmt: skip
"""Keys that move times or noise, which are theirs (test_compat_pictures, test_timesteps)."""
IDLE = {
    "clip_sample_range": "clip_sample", "dynamic_thresholding_ratio": "thresholding",
    "sample_max_value": "thresholding", "flow_shift": "use_flow_sigmas",
    "sigma_data": "prediction_type",
}  # fmt: skip
"""Keys that do nothing unless another asks for it."""
OTHERWISE: dict[str, Any] = {
    "algorithm_type": "dpmsolver", "clip_sample": True, "final_sigmas_type": "sigma_min",
    "interpolation_type": "log_linear", "invert_sigmas": True, "prediction_type": "sample",
    "set_alpha_to_one": True, "skip_prk_steps": False, "solver_order": 3, "solver_type": "heun",
    "stochastic_sampling": True, "thresholding": True, "timestep_spacing": "linspace",
    "timestep_type": "continuous", "use_beta_sigmas": True, "use_exponential_sigmas": True,
    "use_flow_sigmas": True, "use_karras_sigmas": True, "variance_type": "fixed_large",
}  # fmt: skip
"""A value that a class may not follow."""


def good(kind: str) -> dict[str, Any]:
    return GOOD.get(kind[:4], {})


@pytest.mark.parametrize("kind", CLASSES)
def test_a_scheduler_is_followed_or_refused_by_its_class(kind: str) -> None:
    if kind in schedulers.MEANT:
        assert getattr(sfumato.compat, kind)(**good(kind)).kind == kind
        return
    with pytest.raises(SfumatoError, match=f"scheduler {kind} is not supported"):
        getattr(sfumato.compat, kind)


def test_the_list_is_not_empty() -> None:
    assert len(CLASSES) > 30
    assert set(schedulers.MEANT) <= set(CLASSES)


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, key) for kind in schedulers.MEANT for key in KEYS[kind]]
)
def test_a_key_is_followed_or_refused_by_its_name(kind: str, key: str) -> None:
    """Every key of every class: of another type it is refused; a value that nothing follows too."""
    make = getattr(sfumato.compat, kind)
    with pytest.raises(SfumatoError, match=key):
        make(**{**good(kind), key: {"a": "nonsense"}})
    limited = key in schedulers.ONLY[schedulers.MEANT[kind]]
    flow = kind.startswith("Flow") and (key.startswith("use_") and key.endswith("_sigmas"))
    refused = limited or flow or key in (
        "timestep_type", "use_flow_sigmas", "invert_sigmas", "stochastic_sampling"
    )  # fmt: skip
    if refused:
        with pytest.raises(SfumatoError, match=key):
            make(**{**good(kind), key: OTHERWISE[key]})
    else:
        assert key in FOLLOWED or key in IDLE
    if key in IDLE:
        assert IDLE[key] in KEYS[kind]


@pytest.mark.parametrize("kind", sorted(schedulers.MEANT))
def test_keys_that_are_none_are_refused(kind: str) -> None:
    make = getattr(sfumato.compat, kind)
    with pytest.raises(SfumatoError, match=f"{kind}: takes no 'use_caras_sigmas'"):
        make(**good(kind), use_caras_sigmas=True)
    with pytest.raises(SfumatoError, match=f"{kind} has no key 'use_caras_sigmas'"):
        make.from_config({**good(kind), "use_caras_sigmas": True})


@pytest.mark.skipif(not NEWEST, reason="signatures are those of diffusers 0.42")
@pytest.mark.parametrize("name", signatures.CALLS)
def test_calls_have_their_signature(name: str) -> None:
    theirs = inspect.signature(getattr(diffusers, name).__call__).parameters
    ours = inspect.signature(getattr(sfumato.compat, name).__call__).parameters
    kept = [(key, one.default) for key, one in theirs.items() if one.kind is not one.VAR_KEYWORD]
    assert [(key, one.default) for key, one in ours.items()] == kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sd1")
    pipelines.stable(place, "sd1")
    return place / "pipeline"


@pytest.fixture
def pipe(folder: Path) -> Any:
    return sfumato.compat.StableDiffusionPipeline.from_pretrained(folder)


READ = {
    "prompt": 3, "height": 30, "width": 30, "num_inference_steps": 0, "guidance_scale": "x",
    "negative_prompt": 3, "num_images_per_prompt": 0, "eta": 2.0, "generator": 3, "latents": 3,
    "output_type": "jpg", "callback_on_step_end": 3,
    "callback_on_step_end_tensor_inputs": ["prompt_embeds"], "strength": 1.5, "image": 3,
    "mask_image": 3, "true_cfg_scale": -1, "image_embeds": 3, "negative_image_embeds": 3,
    "aesthetic_score": 7.0, "negative_aesthetic_score": 7.0,
    "noise_level": -1, "max_area": 0, "_auto_resize": 3, "clean_caption": 3,
    "use_resolution_binning": 3, "intermediate_timesteps": 2.0,
}  # fmt: skip
"""Arguments that are read, with a value that is refused."""


def of_unets(name: str) -> bool:
    return name.startswith(("StableDiffusionP", "StableDiffusionI", "StableDiffusionXL"))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (name, key)
        for name in signatures.CALLS
        for key in signatures.signature(name).parameters
        if key not in ("self", "return_dict") and (of_unets(name) or key not in READ)
    ],
)
def test_an_argument_is_read_or_refused_by_its_name(folder: Path, name: str, key: str) -> None:
    given: dict[str, Any] = {"prompt": "cat", "num_inference_steps": 4}
    known = signatures.signature(name).parameters
    given |= {"image": photo()} if "image" in known else {}
    given |= {"mask_image": mask_of((8, 8, 24, 24))} if "mask_image" in known else {}
    base = sfumato.compat.StableDiffusionPipeline.from_pretrained(folder)
    cls = getattr(sfumato.compat, name)
    pipe = cls._of(base.state)  # arguments are looked at before the model is
    value = READ.get(key, torch.ones(3))
    if key == "callback_on_step_end_tensor_inputs":
        given["callback_on_step_end"] = print
    if key == "eta":
        key, value = "eta", 0.5  # of PNDM, which reads none
    with pytest.raises(SfumatoError, match=rf"\b{key}"):
        pipe(**{**given, key: value})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"promt": "x"}, "takes no 'promt' .here it is prompt"),
        ({"prompt_embeds": torch.ones(1)}, "prompt_embeds is not supported; sfumato's own"),
        ({"clip_skip": 1}, "clip_skip is not supported; the layer is"),
        ({"guidance_rescale": 0.7}, "guidance_rescale is not supported; sf.CFG"),
        ({"prompt": ["a", "b"], "negative_prompt": ["a", "b", "c"]}, "3 for 2 prompts"),
        ({"generator": [torch.Generator()] * 2}, "a list of 2 for 1 pictures"),
        ({"latents": torch.ones(1, 4, 4, 4)}, r"latents: have shape \(1, 4, 4, 4\)"),
        ({"width": 5000}, "width = 5000: must be 1 to"),
        ({"callback_on_step_end": lambda *_: None}, "must return its dict"),
    ],
)
def test_what_is_wrong_is_said(pipe: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        pipe(**{"prompt": "cat", "num_inference_steps": 2, "height": 32, "width": 32, **given})


def test_what_is_wrong_with_pictures_is_said(pipe: Any) -> None:
    edit = sfumato.compat.StableDiffusionInpaintPipeline.from_pipe(pipe)
    mask = mask_of((8, 8, 24, 24))
    for given, said in (
        ({"strength": 0.1}, "strength = 0.1: keeps none of 2 steps"),
        ({"strength": 0}, "strength = 0: keeps none"),
        ({"image": photo().convert("RGBA")}, "image: has transparency"),
        ({"image": [photo(), photo(40, 32)]}, "image: pictures of several sizes"),
        ({"image": [photo()] * 2}, "image: 2 pictures for 1 results"),
        ({"image": torch.ones(1, 5, 32, 32)}, "image: has 5 channels"),
        ({"image": torch.ones(32)}, "image: "),
        ({"mask_image": [mask] * 2}, "mask_image: 2 for 1 pictures"),
        ({"mask_image": None}, "mask_image = None: give a PIL picture"),
    ):
        with pytest.raises(SfumatoError, match=said):
            edit(**{"prompt": "cat", "image": photo(), "mask_image": mask,
                    "num_inference_steps": 2, **given})  # fmt: skip


def test_pipelines_that_are_not_here_are_refused(folder: Path, tmp_path: Path) -> None:
    compat: Any = sfumato.compat
    with pytest.raises(SfumatoError, match="KandinskyPipeline is not here"):
        compat.KandinskyPipeline  # noqa: B018
    with pytest.raises(SfumatoError, match="AutoencoderKL is not here"):
        compat.AutoencoderKL  # noqa: B018
    with pytest.raises(SfumatoError, match="take StableDiffusionPipeline"):
        compat.FluxPipeline.from_pretrained(folder)
    with pytest.raises(SfumatoError, match="not one of emoji"):
        compat.FluxPipeline.from_pretrained(tmp_path / "none")
    with pytest.raises(SfumatoError, match="no folder in the layout of diffusers"):
        compat.FluxPipeline.from_pretrained("emoji")
    with pytest.raises(SfumatoError, match=r"from_pretrained.folder., or from_pipe"):
        compat.FluxPipeline(unet=None)
    for option in ({"variant": "fp16"}, {"safety_checker": 3}, {"custom_pipeline": "x"}):
        with pytest.raises(SfumatoError, match=next(iter(option))):
            compat.StableDiffusionPipeline.from_pretrained(folder, **option)


def test_what_else_theirs_have_is_refused(pipe: Any) -> None:
    with pytest.raises(SfumatoError, match=r"StableDiffusionPipeline.enable_xformers\S*: is not"):
        pipe.enable_xformers_memory_efficient_attention()
    assert not hasattr(pipe, "unet")
    with pytest.raises(SfumatoError, match="'_guidance_scale' cannot be set"):
        pipe._guidance_scale = 3
    with pytest.raises(SfumatoError, match="there is no bar here"):
        pipe.set_progress_bar_config()
    pipe.set_progress_bar_config(disable=True)
    assert pipe.to("cpu").to(torch.float32).dtype == torch.float32
    with pytest.raises(SfumatoError, match="scheduler 'x': is none"):
        pipe.scheduler = "x"
    pipe.scheduler = sfumato.compat.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(SfumatoError, match=r"FlowMatchEulerDiscreteScheduler: .* is no flow"):
        pipe("cat", num_inference_steps=1)


def test_a_folders_scheduler_that_is_not_followed_can_be_exchanged(
    folder: Path, tmp_path: Path
) -> None:
    import shutil

    place = tmp_path / "copy"
    shutil.copytree(folder, place)
    file = place / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": "LCMScheduler"}))
    file.write_text(file.read_text().replace("LCM", "UniPCMultistep"))
    pipe = sfumato.compat.AutoPipelineForText2Image.from_pretrained(place)
    with pytest.raises(SfumatoError, match="UniPCMultistepScheduler is not supported; the nearest"):
        pipe("cat", num_inference_steps=1)
    kind = sfumato.compat.DPMSolverMultistepScheduler
    pipe.scheduler = kind.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    assert pipe.scheduler.config.beta_end == 0.012
    assert pipe.scheduler.config["use_karras_sigmas"]
    other = sfumato.compat.AutoPipelineForInpainting.from_pipe(pipe)
    assert type(other).__name__ == "StableDiffusionInpaintPipeline"
    images = other("cat", image=photo(), mask_image=mask_of((8, 8, 24, 24)),
                   num_inference_steps=1).images  # fmt: skip
    assert images[0].size == (32, 32)


def test_a_folder_says_which_pipeline_it_is(folder: Path) -> None:
    found = sfumato.compat.DiffusionPipeline.from_pretrained(folder)
    assert type(found).__name__ == "StableDiffusionPipeline"
    for name in dir(sfumato.compat):
        assert getattr(sfumato.compat, name).__name__ == name


def test_what_does_not_agree_is_said(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    other = sfumato.compat.StableDiffusionInpaintPipeline.from_pipe(pipe)
    given = {"image": photo(), "mask_image": mask_of((8, 8, 24, 24)), "num_inference_steps": 2}
    other.scheduler = sfumato.compat.HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    other("cat", guidance_scale=1.0, negative_prompt="dog", **given)
    assert "HeunDiscreteScheduler: theirs inpaints between" in caplog.text
    assert "negative_prompt: does nothing" in caplog.text
