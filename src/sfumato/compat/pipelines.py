"""Pipelines by diffusers' names: what they are made from, and what of a call is supported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from sfumato.compat import switches
from sfumato.compat.arguments import bound, check_options, lined, refuse_others
from sfumato.compat.asked import Asked
from sfumato.compat.calls import run
from sfumato.compat.families import FAMILIES, Family, Task, family_of, pipeline_of, split
from sfumato.compat.refused import why_not
from sfumato.compat.schedulers import Scheduler, adopted, of_folder
from sfumato.compat.signatures import CALLS, signature
from sfumato.compat.state import Autoencoder, State
from sfumato.core.errors import SfumatoError, quoted
from sfumato.models.devices import DTYPES, SHARED, choose
from sfumato.models.files.configs import pipeline_classes
from sfumato.models.loaders.library import folder_of, load
from sfumato.models.model import Model


@dataclass(frozen=True)
class Output:
    """images: a list of PIL pictures, an array (n, h, w, 3), or a tensor, as was asked for."""

    images: Any
    nsfw_content_detected: None = None

    def __getitem__(self, key: int | str) -> Any:
        parts = {0: self.images, "images": self.images}
        parts |= dict.fromkeys((1, "nsfw_content_detected"), self.nsfw_content_detected)
        if key not in parts:  # IndexError ends whoever counts through them
            raise (IndexError if isinstance(key, int) else KeyError)(f"{key!r:.60}: is not here")
        return parts[key]


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
    @lined
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Of a folder in the layout of diffusers, or org/name in the hub's cache.

        torch_dtype (float32 if not given), scheduler, revision; nothing is downloaded.
        """
        name = pretrained_model_name_or_path
        if not isinstance(name, str | Path):
            raise SfumatoError(f"{cls.__name__}.from_pretrained: {name!r:.60}: give a folder")
        revision = options.pop("revision", None)
        if revision is not None and not isinstance(revision, str):
            raise SfumatoError(f"revision = {revision!r:.60}: give a text")
        named_ = [options.pop(key, None) for key in ("dtype", "torch_dtype")]
        formats = {_dtype(one) for one in named_ if one is not None} or {"float32"}
        if len(formats) > 1:
            raise SfumatoError("dtype and torch_dtype: differ; give one of them")
        theirs = options.pop("scheduler", None)
        check_options(cls.__name__, options)
        source = str(name) if revision is None else f"{name}@{revision}"
        folder = folder_of(source)
        if folder is None or not (folder / "model_index.json").is_file():
            load(source)  # whose message says what is missing, or what else lies there
            raise SfumatoError(
                f"{source}: is no folder in the layout of diffusers; sf.load reads it"
            )
        classes = pipeline_classes(folder / "model_index.json")
        family = family_of(classes)
        if family != cls.family.name:
            other = pipeline_of(family, "Pipeline") if family else None
            own = (
                f"take {other or pipeline_of(family, 'InpaintPipeline')}"
                if family
                else "sf.load says what can be loaded"
            )
            raise SfumatoError(
                f"{cls.__name__}: {source} is of {classes['_class_name']:.60}; {own}"
            )
        scheduler = of_folder(folder) if theirs is None else adopted(theirs)
        return cls._of(State(source, "cpu", formats.pop(), scheduler))

    @classmethod
    @lined
    def from_pipe(cls, pipeline: Any, **options: Any) -> Self:
        """With the model and the scheduler of another pipeline of the family."""
        if options:
            raise SfumatoError(f"{cls.__name__}.from_pipe: {next(iter(options))} is not supported")
        if not isinstance(pipeline, Pipeline) or pipeline.family is not cls.family:
            raise SfumatoError(f"{cls.__name__}.from_pipe: {pipeline!r:.60} is of another family")
        return cls._of(replace(pipeline.state, interrupt=False))

    @classmethod
    def _of(cls, state: State) -> Self:
        pipeline = object.__new__(cls)
        object.__setattr__(pipeline, "state", state)
        return pipeline

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {self.state.source} (sfumato), {self.scheduler}"

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "scheduler":
            self.state.scheduler = adopted(value)
        elif name == "_interrupt":
            self.state.interrupt = bool(value)
        elif name == "safety_checker" and value is None:
            pass  # there is none
        else:
            raise SfumatoError(f"{type(self).__name__}: {quoted(name)} cannot be set here")

    def __getattr__(self, name: str) -> Any:
        return switches.other(type(self).__name__, name)

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

    def to(self, *where: Any, silence_dtype_warnings: bool = False, **named_: Any) -> Self:
        """Another device or number format; weights that were read are read again."""
        for key in named_:
            if key not in ("device", "dtype", "torch_device", "torch_dtype"):
                raise SfumatoError(f"to: takes no {quoted(key)}; give device and dtype")
        device, dtype = self.state.device, self.state.dtype
        for one in (*where, *(value for value in named_.values() if value is not None)):
            if isinstance(one, torch.dtype):
                dtype = _dtype(one)
            else:
                device = choose(str(one)).device
        offload = self.state.offload if device == self.state.device else "none"
        self.state.moved(device, dtype, offload)
        return self

    def _offload(self, name: str, by: str, gpu_id: int | None, device: Any) -> None:
        where = choose("auto" if device is None else str(device)).device
        where = where if gpu_id is None else f"{torch.device(where).type}:{gpu_id}"
        if torch.device(where).type in SHARED:
            self.to(where)
            switches.say(name, f"all weights stay on {self.device}, by no parts")
        else:
            self.state.moved(choose(where, offload=by).device, self.state.dtype, by)

    @lined
    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: Any = None) -> None:
        """Networks lie in main memory and are on the device while they are used."""
        self._offload("enable_model_cpu_offload", "modules", gpu_id, device)

    @lined
    def enable_sequential_cpu_offload(self, gpu_id: int | None = None, device: Any = None) -> None:
        """The same of their layers."""
        self._offload("enable_sequential_cpu_offload", "layers", gpu_id, device)

    @property
    def vae(self) -> Autoencoder:
        """What scripts switch of the autoencoder; the network itself is pipe.model.space."""
        return Autoencoder(self.state)

    def enable_vae_tiling(self) -> None:
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        self.vae.disable_tiling()

    @lined
    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | Path,
        adapter_name: str | None = None,
        *,
        weight_name: str | None = None,
        **other: Any,
    ) -> None:
        """A LoRA file, added to those that are there, at strength 1."""
        refuse_others("load_lora_weights", other)
        self.state.add(pretrained_model_name_or_path_or_dict, weight_name, adapter_name)

    @lined
    def set_adapters(self, adapter_names: str | Sequence[str], adapter_weights: Any = 1.0) -> None:
        """The LoRA of these names alone, each at its weight."""
        self.state.weigh(adapter_names, adapter_weights)

    def get_active_adapters(self) -> list[str]:
        """Names of the LoRA that act."""
        return self.state.active

    @lined
    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        self.state.delete(adapter_names)

    def disable_lora(self) -> None:
        self.state.enable(False)

    def enable_lora(self) -> None:
        self.state.enable(True)

    @lined
    def fuse_lora(self, components: Any = None, lora_scale: float = 1.0, **other: Any) -> None:
        """LoRA at lora_scale times their weights, which stay when their files are unloaded."""
        refuse_others("fuse_lora", other)
        _check_parts("fuse_lora", components)
        self.state.fuse(lora_scale)

    @lined
    def unfuse_lora(self, components: Any = None, **other: Any) -> None:
        refuse_others("unfuse_lora", other)
        _check_parts("unfuse_lora", components)
        self.state.unfuse()

    def unload_lora_weights(self) -> None:
        self.state.drop()

    @lined
    def load_textual_inversion(
        self,
        pretrained_model_name_or_path: str | Path,
        token: str | None = None,
        *,
        weight_name: str | None = None,
        **other: Any,
    ) -> None:
        """Learned words of a file, which names them."""
        if token is not None:
            raise SfumatoError("load_textual_inversion: token: the file's own name counts")
        refuse_others("load_textual_inversion", other)
        self.state.learn(pretrained_model_name_or_path, weight_name)

    @lined
    def unload_textual_inversion(self, tokens: Any = None, **other: Any) -> None:
        refuse_others("unload_textual_inversion", {"tokens": tokens, **other})
        self.state.forget()

    @classmethod
    @lined
    def from_single_file(cls, pretrained_model_link_or_path: str | Path, **_: Any) -> Self:
        """Refused: such a file names no scheduler, which theirs look up in the network."""
        raise SfumatoError(
            f"{cls.__name__}.from_single_file: {pretrained_model_link_or_path}: is not supported, "
            "since a single file names no scheduler; sf.load reads it"
        )

    @lined
    def set_progress_bar_config(self, disable: bool = False, **_: Any) -> None:
        if disable is not True:
            raise SfumatoError("set_progress_bar_config: there is no bar here; give disable=True")

    def __call__(self, *args: Any, **named_: Any) -> Any:
        arguments = bound(self, args, named_)
        self.state.interrupt = False
        images = run(Asked.of(self, arguments))
        if arguments["return_dict"]:
            return Output(images)
        return (images, None) if self.family.pair else (images,)


NETWORKS = {"unet", "transformer"}


def _check_parts(method: str, components: Any) -> None:
    """A LoRA is fused whole: parts that leave the network out are refused."""
    parts = [components] if isinstance(components, str) else components
    listed = isinstance(parts, list | tuple) and all(isinstance(one, str) for one in parts)
    if components is not None and not (listed and NETWORKS & set(parts)):
        raise SfumatoError(
            f"{method}: components = {components!r:.60}: a LoRA is fused whole here; leave it out"
        )


def _is_text(value: Any, text: str) -> bool:
    return isinstance(value, str) and value == text


def _dtype(value: Any) -> str:
    names = (name for name, one in DTYPES.items() if value is one or _is_text(value, name))
    dtype = next(names, None)
    if dtype is None:
        raise SfumatoError(f"torch_dtype {value!r:.60}: give one of torch's {', '.join(DTYPES)}")
    return dtype


@cache
def named(name: str) -> type[Pipeline]:
    """The class of a pipeline by its name."""
    if name not in CALLS:
        raise SfumatoError(
            f"{name:.60} is not here{why_not(name)}; sf.load reads more models than these: "
            f"{', '.join(CALLS)}"
        )
    family, task = split(name)

    def call(self: Pipeline, *args: Any, **given: Any) -> Any:
        return Pipeline.__call__(self, *args, **given)

    call.__signature__ = signature(name)  # type: ignore[attr-defined]
    body = {"family": FAMILIES[family], "task": task, "__call__": call,
            "__doc__": f"{name} of diffusers, by its call."}  # fmt: skip
    return type(name, (Pipeline,), body)
