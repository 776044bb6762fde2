"""Arguments of calls and of from_pretrained: which are followed, and what does otherwise here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from sfumato.compat.signatures import signature
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.synonyms import hinted

P = ParamSpec("P")
T = TypeVar("T")

FROM: Mapping[str, tuple[Any, ...]] = {
    "add_watermarker": (None, False),
    "device_map": (None,),
    "feature_extractor": (None,),
    "image_encoder": (None,),
    "local_files_only": (None, True, False),
    "low_cpu_mem_usage": (None, True),
    "requires_safety_checker": (None, False),
    "safety_checker": (None,),
    "use_safetensors": (None, True),
    "variant": (None,),
}
"""What from_pretrained takes besides, with the values that say what is done here anyway."""

READ = frozenset(
    {
        "callback_on_step_end", "callback_on_step_end_tensor_inputs", "eta", "generator",
        "guidance_scale", "height", "image", "latents", "mask_image", "negative_prompt",
        "num_images_per_prompt", "num_inference_steps", "output_type", "prompt", "return_dict",
        "strength", "true_cfg_scale", "width",
        "_auto_resize", "aesthetic_score", "clean_caption", "image_embeds",
        "intermediate_timesteps", "max_area", "negative_aesthetic_score", "negative_image_embeds",
        "noise_level", "use_resolution_binning",
    }
)  # fmt: skip
"""Arguments of a call that are followed; others must be what they are by themselves."""

FLAGS = frozenset({"_auto_resize", "clean_caption", "use_resolution_binning"})
VECTORS = ("image_embeds", "negative_image_embeds")
"""Of a prior, read where a pipeline is made for them."""

INSTEAD = {
    "callback": "callback_on_step_end is called where a pipeline has it",
    "clip_skip": "the layer is the one that the model was trained with",
    "denoising_end": "sf.Refine lets a refiner take over",
    "denoising_start": "sf.Refine lets a refiner take over",
    "guidance_rescale": "sf.CFG(scale, rescale=...) does it, on x0",
    "ip_adapter_image": "sf.IPAdapter does it",
    "padding_mask_crop": "sf.Inpaint works so by itself",
    "prompt_embeds": "sfumato's own prompts weigh words: (words:1.3)",
    "sigmas": "Model.process(spacing=(0.9, 0.6, 0.3, 0.0)) takes times",
    "timesteps": "Model.process(spacing=(0.9, 0.6, 0.3, 0.0)) takes times",
}
"""What does that here which a refused argument asks for."""


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse what from_pretrained would have to do otherwise."""
    for key, value in options.items():
        if key not in FROM:
            raise SfumatoError(
                f"{name}.from_pretrained: {quoted(key)} is not supported; leave it out"
            )
        if not any(_same(value, one) for one in FROM[key]):
            raise SfumatoError(
                f"{name}.from_pretrained: {key} = {value!r:.60} is not supported; leave it out"
            )


def bound(pipe: Any, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name; what is not supported is refused."""
    name = type(pipe).__name__
    known = signature(name)
    names = list(known.parameters)[1:]
    for word in named:
        if word not in names:
            raise SfumatoError(f"{name}: takes no {quoted(word)}{hinted(word, names)}")
    try:
        bound = known.bind(pipe, *args, **named)
    except TypeError as error:
        raise SfumatoError(f"{name}: {error}") from None
    bound.apply_defaults()
    passed = {key: bound.arguments[key] for key in names}
    for key in names:
        usual = known.parameters[key].default
        if key in FLAGS and not isinstance(passed[key], bool):
            raise SfumatoError(f"{name}: {key} = {passed[key]!r:.60}: give True or False")
        if key == "return_dict" and not isinstance(passed[key], bool):
            raise SfumatoError(f"{name}: {key} = {passed[key]!r:.60}: give True or False")
        read = key in READ and (key not in VECTORS or pipe.family.reads == "vectors")
        if read or _same(passed[key], usual):
            continue
        base = key.rpartition("_")[0] if key[-1:].isdigit() else ""
        if base in passed and _same(passed[key], passed[base]):
            continue  # prompt_2 is the prompt by itself
        hint = next((say for word, say in INSTEAD.items() if word in key), "leave it out")
        raise SfumatoError(f"{name}: {key} is not supported; {hint}")
    return passed


def lined(function: Callable[P, T]) -> Callable[P, T]:
    """The function, of which a wrong call is one line."""
    known = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> T:
        try:
            known.bind(*args, **named)
        except TypeError as error:
            raise SfumatoError(f"{function.__name__}: {error}; give what diffusers does") from None
        return function(*args, **named)

    return call


def refuse_others(method: str, others: Mapping[str, Any]) -> None:
    """Refuse options that ask for what a method does not do."""
    for key, value in others.items():
        if value is None or value is False or (key == "local_files_only" and value is True):
            continue
        raise SfumatoError(f"{method}: {quoted(key)} is not supported; leave it out")


def _same(value: Any, usual: Any) -> bool:
    return type(value) is type(usual) and bool(value == usual)
