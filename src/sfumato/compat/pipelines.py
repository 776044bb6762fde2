"""Pipelines by diffusers' names: what they are made from, and what of a call is supported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from sfumato.compat.calls import Asked, run
from sfumato.compat.families import FAMILIES, Family, Task, family_of, split
from sfumato.compat.schedulers import Scheduler, adopted, of_folder
from sfumato.compat.signatures import CALLS, signature
from sfumato.compat.state import State
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.synonyms import hinted
from sfumato.models.devices import DTYPES, choose
from sfumato.models.files.configs import pipeline_classes
from sfumato.models.loaders.library import folder_of, load
from sfumato.models.model import Model

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
    }
)  # fmt: skip
"""Arguments of a call that are followed; others must be what they are by themselves."""

INSTEAD = {
    "clip_skip": "the layer is the one that the model was trained with",
    "denoising_end": "XL's refiner is not supported",
    "denoising_start": "XL's refiner is not supported",
    "guidance_rescale": "sf.CFG(scale, rescale=...) does it, on x0",
    "ip_adapter_image": "sf.IPAdapter does it",
    "padding_mask_crop": "sf.Inpaint works so by itself",
    "prompt_embeds": "sfumato's own prompts weigh words: (words:1.3)",
    "sigmas": "Model.process(spacing=(0.9, 0.6, 0.3, 0.0)) takes times",
    "timesteps": "Model.process(spacing=(0.9, 0.6, 0.3, 0.0)) takes times",
}
"""What does that here which a refused argument asks for."""


class MissingError(SfumatoError, AttributeError):
    """What a pipeline of diffusers has, and ours has not."""


@dataclass(frozen=True)
class Output:
    """images: a list of PIL pictures, an array (n, h, w, 3), or a tensor, as was asked for."""

    images: Any
    nsfw_content_detected: None = None

    def __getitem__(self, key: int | str) -> Any:
        return self.images if key in (0, "images") else None


class Pipeline:
    """A pipeline of diffusers' signature; its classes are made by `named`.

    Its weights are read when it is first called.
    """

    family: ClassVar[Family]
    task: ClassVar[Task]
    state: State

    def __init__(self, *_: Any, **__: Any) -> None:
        name = type(self).__name__
        raise SfumatoError(f"{name}: is made by {name}.from_pretrained(folder), or from_pipe(pipe)")

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """Of a folder in the layout of diffusers, or org/name in the hub's cache.

        torch_dtype (float32 if not given), scheduler, revision; nothing is downloaded.
        """
        revision = options.pop("revision", None)
        dtype = options.pop("dtype", None) or options.pop("torch_dtype", None) or torch.float32
        given = options.pop("scheduler", None)
        for key, value in options.items():
            if key not in FROM:
                raise SfumatoError(
                    f"{cls.__name__}.from_pretrained: {quoted(key)} is not supported; leave it out"
                )
            if value not in FROM[key]:
                raise SfumatoError(
                    f"{cls.__name__}.from_pretrained: {key} = {value!r:.60} is not supported; "
                    "leave it out"
                )
        source = str(name) if revision is None else f"{name}@{revision}"
        folder = folder_of(source)
        if folder is None or not (folder / "model_index.json").is_file():
            load(source)  # whose message says what is missing, or what else lies there
            raise SfumatoError(
                f"{source}: is no folder in the layout of diffusers; sf.load reads it"
            )
        classes = pipeline_classes(folder / "model_index.json")
        found = family_of(classes)
        if found != cls.family.name:
            own = f"take {found}Pipeline" if found else "sf.load says what can be loaded"
            raise SfumatoError(
                f"{cls.__name__}: {source} is of {classes['_class_name']:.60}; {own}"
            )
        scheduler = of_folder(folder) if given is None else adopted(given)
        return cls._of(State(source, "cpu", _dtype(dtype), scheduler))

    @classmethod
    def from_pipe(cls, pipe: Any, **options: Any) -> Self:
        """With the model and the scheduler of another pipeline of the family."""
        if options:
            raise SfumatoError(f"{cls.__name__}.from_pipe: {next(iter(options))} is not supported")
        if not isinstance(pipe, Pipeline) or pipe.family is not cls.family:
            raise SfumatoError(f"{cls.__name__}.from_pipe: {pipe!r:.60} is of another family")
        return cls._of(replace(pipe.state, interrupt=False))

    @classmethod
    def _of(cls, state: State) -> Self:
        made = object.__new__(cls)
        object.__setattr__(made, "state", state)
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {self.state.source} (sfumato), {self.scheduler}"

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "scheduler":
            self.state.scheduler = adopted(value)
        elif name == "_interrupt":
            self.state.interrupt = bool(value)
        else:
            raise SfumatoError(f"{type(self).__name__}: {quoted(name)} cannot be set here")

    def __getattr__(self, name: str) -> Any:
        raise MissingError(
            f"{type(self).__name__}.{name:.60}: is not here; docs/compat.md says what is"
        )

    @property
    def scheduler(self) -> Scheduler:
        return self.state.scheduler

    @property
    def interrupt(self) -> bool:
        """Whether a callback has set pipe._interrupt, which ends the run."""
        return self.state.interrupt

    @property
    def device(self) -> torch.device:
        return torch.device(self.state.device)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.state.dtype]

    @property
    def model(self) -> Model:
        """sfumato's own model, for whatever this face has not."""
        return self.state.model

    def to(self, *where: Any) -> Self:
        """Another device or number format; weights that were read are read again."""
        device, dtype = self.state.device, self.state.dtype
        for one in where:
            if isinstance(one, torch.dtype):
                dtype = _dtype(one)
            else:
                device = choose(str(one)).device
        self.state.moved(device, dtype)
        return self

    def load_lora_weights(
        self, source: str | Path, *, weight_name: str | None = None, adapter_name: str | None = None
    ) -> None:
        """A LoRA file, added to those that are there, at strength 1."""
        self.state.add(source, weight_name, adapter_name)

    def set_adapters(self, adapter_names: str | Sequence[str], adapter_weights: Any = 1.0) -> None:
        """The LoRA of these names alone, each at its weight."""
        self.state.weigh(adapter_names, adapter_weights)

    def unload_lora_weights(self) -> None:
        self.state.drop()

    def set_progress_bar_config(self, disable: bool = False) -> None:
        if disable is not True:
            raise SfumatoError("set_progress_bar_config: there is no bar here; give disable=True")

    def __call__(self, *args: Any, **named_: Any) -> Any:
        given = self._bound(args, named_)
        self.state.interrupt = False
        images = run(Asked.of(self, given))
        if given["return_dict"]:
            return Output(images)
        return (images, None) if self.family.name == "StableDiffusion" else (images,)

    def _bound(self, args: Sequence[Any], named_: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name; what is not supported is refused."""
        name = type(self).__name__
        known = signature(name)
        names = list(known.parameters)[1:]
        for word in named_:
            if word not in names:
                raise SfumatoError(f"{name}: takes no {quoted(word)}{hinted(word, names)}")
        try:
            bound = known.bind(self, *args, **named_)
        except TypeError as error:
            raise SfumatoError(f"{name}: {error}") from None
        bound.apply_defaults()
        given = {key: bound.arguments[key] for key in names}
        for key in names:
            usual = known.parameters[key].default
            if key in READ or _same(given[key], usual):
                continue
            base = key.rpartition("_")[0] if key[-1:].isdigit() else ""
            if base in given and _same(given[key], given[base]):
                continue  # prompt_2 is the prompt by itself
            hint = next((say for word, say in INSTEAD.items() if word in key), "leave it out")
            raise SfumatoError(f"{name}: {key} is not supported; {hint}")
        return given


def _same(value: Any, usual: Any) -> bool:
    return type(value) is type(usual) and bool(value == usual)


def _dtype(value: Any) -> str:
    found = next((name for name, one in DTYPES.items() if value in (name, one)), None)
    if found is None:
        raise SfumatoError(f"torch_dtype {value!r:.60}: give one of torch's {', '.join(DTYPES)}")
    return found


@cache
def named(name: str) -> type[Pipeline]:
    """The class of a pipeline by its name."""
    if name not in CALLS:
        raise SfumatoError(
            f"{name:.60} is not here; sf.load reads more models than these: {', '.join(CALLS)}"
        )
    family, task = split(name)

    def call(self: Pipeline, *args: Any, **given: Any) -> Any:
        return Pipeline.__call__(self, *args, **given)

    call.__signature__ = signature(name)  # type: ignore[attr-defined]
    body = {"family": FAMILIES[family], "task": task, "__call__": call,
            "__doc__": f"{name} of diffusers, by its call."}  # fmt: skip
    return type(name, (Pipeline,), body)


class Auto:
    """The pipeline of a task for whatever family a folder has."""

    ending: ClassVar[str]

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Pipeline:
        folder = folder_of(str(source))
        index = None if folder is None else folder / "model_index.json"
        if index is None or not index.is_file():
            return named(f"StableDiffusion{cls.ending}").from_pretrained(source, **options)
        classes = pipeline_classes(index)
        family = family_of(classes)
        if family is None:
            raise SfumatoError(
                f"{cls.__name__}: {source} is of {classes['_class_name']:.60}, which is not here; "
                f"known are {', '.join(FAMILIES)}"
            )
        return named(family + cls.ending).from_pretrained(source, **options)

    @classmethod
    def from_pipe(cls, pipe: Any, **options: Any) -> Pipeline:
        if not isinstance(pipe, Pipeline):
            raise SfumatoError(
                f"{cls.__name__}.from_pipe: {pipe!r:.60} is none of sfumato.compat's"
            )
        return named(pipe.family.name + cls.ending).from_pipe(pipe, **options)


class AutoPipelineForText2Image(Auto):
    ending = "Pipeline"


class AutoPipelineForImage2Image(Auto):
    ending = "Img2ImgPipeline"


class AutoPipelineForInpainting(Auto):
    ending = "InpaintPipeline"


class DiffusionPipeline(Auto):
    """The pipeline that a folder names."""

    ending = "Pipeline"

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Pipeline:
        folder = folder_of(str(source))
        index = None if folder is None else folder / "model_index.json"
        if index is None or not index.is_file():
            return super().from_pretrained(source, **options)
        return named(pipeline_classes(index)["_class_name"]).from_pretrained(source, **options)
