"""Hostile values for pipelines by diffusers' names: calls, files, names of LoRA, schedulers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import save_file

import sfumato.compat
from helpers import pipelines
from sfumato.compat.pipelines import Output
from sfumato.core.errors import SfumatoError
from sfumato.models.devices import choose

SIZE = (32, 32)
PICTURE, MASK = PILImage.new("RGB", SIZE, "red"), PILImage.new("L", SIZE, 255)
GIVEN: dict[str, Any] = {"prompt": "red cat", "num_inference_steps": 2}
BOTH: dict[str, Any] = {**GIVEN, "image": PICTURE, "mask_image": MASK, "height": 32, "width": 32}
LAYER = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
NUMBERS, NONE = np.zeros(3), np.zeros(0)
COMPLEX = torch.zeros(1, 3, 32, 32, dtype=torch.complex64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sd1")
    pipelines.stable(place, "sd1")
    lora = {
        f"{LAYER}.lora_A.weight": torch.zeros(2, 16),
        f"{LAYER}.lora_B.weight": torch.zeros(16, 2),
    }
    save_file(lora, place / "pipeline" / "lora.safetensors")
    save_file({"<cat>": torch.zeros(32)}, place / "pipeline" / "words.safetensors")
    return place / "pipeline"


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    return sfumato.compat.StableDiffusionPipeline.from_pretrained(folder)


def refused(call: Callable[[], Any], said: str = "") -> None:
    with pytest.raises(SfumatoError) as error:
        call()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def each_refused(values: Sequence[Any], call: Callable[[Any], Any], said: str = "") -> None:
    for value in values:
        refused(partial(call, value), said)


def masked(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"mask_image": np.zeros(shape)}


CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "an array as form": ("Pipeline", {"output_type": NUMBERS}, "output_type"),
    "an array as choice": ("Pipeline", {"return_dict": NUMBERS}, "return_dict = array"),
    "a word as choice": ("Pipeline", {"return_dict": "no"}, "return_dict = 'no'"),
    "a callback of nothing": ("Pipeline", {"callback_on_step_end": lambda: {}}, "pipe, i, t"),
    "no names of tensors": (
        "Pipeline", {"callback_on_step_end_tensor_inputs": 5}, "tensor_inputs = 5"),
    "a text of names": (
        "Pipeline", {"callback_on_step_end_tensor_inputs": "latents"}, "= 'latents'"),
    "latents that are no numbers": (
        "Pipeline", {"latents": torch.full((1, 4, 8, 8), float("nan")), "height": 32,
                     "width": 32}, "not finite"),
    "nan": ("Img2ImgPipeline", {"image": np.full((1, 32, 32, 3), np.nan)}, "not finite"),
    "bytes for floats": (
        "Img2ImgPipeline", {"image": np.full((32, 32, 3), 200, np.uint8)}, "far beyond 1"),
    "objects": ("Img2ImgPipeline", {"image": np.zeros((32, 32, 3), object)}, "no real numbers"),
    "complex": ("Img2ImgPipeline", {"image": COMPLEX}, "no real"),
    "sparse": ("Img2ImgPipeline", {"image": torch.zeros(1, 3, 32, 32).to_sparse()}, "no real"),
    "no memory": (
        "Img2ImgPipeline", {"image": torch.zeros(1, 3, 32, 32, device="meta")}, "no real"),
    "16 bits": ("Img2ImgPipeline", {"image": PILImage.new("I;16", SIZE)}, "of mode I;16"),
    "floats": ("Img2ImgPipeline", {"image": PILImage.new("F", SIZE)}, "of mode F"),
    "no pixels": ("Img2ImgPipeline", {"image": PILImage.new("RGB", (0, 8))}, "without pixels"),
    "16 bits of mask": ("InpaintPipeline", {"mask_image": PILImage.new("I;16", SIZE)}, "I;16"),
    "a mask in colours": ("InpaintPipeline", masked((32, 32, 3)), "has 3 channels"),
    "a mask of nan": ("InpaintPipeline", {"mask_image": np.full(SIZE, np.nan)}, "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CALLS)
def test_a_call(pipe: Any, kind: str) -> None:
    name, given, said = CALLS[kind]
    own = getattr(sfumato.compat, f"StableDiffusion{name}").from_pipe(pipe)
    more = {"Pipeline": GIVEN, "Img2ImgPipeline": {**GIVEN, "image": PICTURE}}.get(name, BOTH)
    refused(lambda: own(**{**more, **given}), said)


OPTIONS: list[dict[str, Any]] = [
    {"torch_dtype": NUMBERS}, {"dtype": NONE}, {"dtype": ""}, {"revision": 5},
    {"safety_checker": NUMBERS}, {"variant": NONE}, {"use_safetensors": torch.zeros(2)},
    {"dtype": torch.float32, "torch_dtype": torch.bfloat16},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "DiffusionPipeline"])
def test_where_a_pipeline_comes_from(folder: Path, name: str, options: dict[str, Any]) -> None:
    cls = getattr(sfumato.compat, name)
    refused(lambda: cls.from_pretrained(folder, **options))
    each_refused((None, 5, NUMBERS, "x" * 6000), lambda source: cls.from_pretrained(source))
    refused(cls.from_pretrained, "missing a required argument")
    refused(cls.from_pipe, "missing a required argument")
    refused(cls.from_single_file)
    refused(cls, "is made by")
    assert cls.from_pretrained(pretrained_model_name_or_path=folder).family.name


def test_files_of_lora_and_words(pipe: Any, folder: Path) -> None:
    lora, words = folder / "lora.safetensors", folder / "words.safetensors"
    each_refused(
        ("", 5, ["a"], NUMBERS), lambda name: pipe.load_lora_weights(lora, name), "adapter_name = "
    )
    each_refused(
        (5, NUMBERS, b"x"),
        lambda file: pipe.load_lora_weights(folder, weight_name=file),
        "weight_name",
    )
    refused(lambda: pipe.load_lora_weights("x" * 6000))
    refused(lambda: pipe.load_lora_weights(lora, hotswap=NUMBERS), "'hotswap' is not supported")
    refused(lambda: pipe.load_lora_weights(words), "load_textual_inversion reads them")
    refused(lambda: pipe.load_textual_inversion(lora), "holds no learned words")
    refused(lambda: pipe.load_textual_inversion(words, tokenizer=5), "'tokenizer' is not")
    refused(lambda: pipe.load_textual_inversion(), "missing a required argument")
    pipe.load_textual_inversion(folder, weight_name="words.safetensors")
    pipe.unload_textual_inversion()
    for _ in range(2):
        pipe.load_lora_weights(lora)
    pipe.delete_adapters("default_0")
    pipe.load_lora_weights(lora)  # under a name that is free
    pipe.unload_lora_weights()


def test_names_and_strengths_of_lora(pipe: Any, folder: Path) -> None:
    for name in "ab":
        pipe.load_lora_weights(folder / "lora.safetensors", name)
    each_refused(
        (None, 5, NUMBERS, [["a"]], [5], {"a"}, ["a", "a"]),
        lambda names: pipe.set_adapters(names),
        "set_adapters: ",
    )
    each_refused(
        (None, 5, NUMBERS, [["a"]], [5], {"a"}, ["a", "a"]),
        lambda names: pipe.delete_adapters(names),
        "delete_adapters: ",
    )
    each_refused(
        (5, ["text_encoder"], NUMBERS, [["unet"]]),
        lambda parts: pipe.fuse_lora(components=parts),
        "components = ",
    )
    each_refused(
        (5, ["text_encoder"], NUMBERS, [["unet"]]),
        lambda parts: pipe.unfuse_lora(components=parts),
        "components = ",
    )
    refused(lambda: pipe.fuse_lora(adapter_names=NUMBERS), "'adapter_names' is not supported")
    pipe.set_adapters("a", 900)
    refused(lambda: pipe.fuse_lora(lora_scale=900), "strength = 810000")
    refused(lambda: pipe.set_adapters("a", extra=1), "unexpected keyword argument")
    pipe.unload_lora_weights()


def test_a_result_ends() -> None:
    result = Output([PICTURE])
    assert list(islice(iter(result), 9)) == [[PICTURE], None]
    assert result["images"] == result[0]
    with pytest.raises(KeyError):
        result["prompt"]


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_a_scheduler(name: str, folder: Path) -> None:
    cls = getattr(sfumato.compat, name)
    each_refused((None, 5, NUMBERS, "x" * 6000), lambda value: cls.from_pretrained(value))
    each_refused((5, NUMBERS, NONE, "x" * 6000), lambda value: cls.from_pretrained(folder, value))
    each_refused(
        (None, 5, torch.zeros(2), "x"),
        lambda value: cls.from_config({"_use_default_values": value}),
        "must be a",
    )
    refused(lambda: cls.from_config({3: 4}), "has a key 3")
    refused(lambda: cls(5), "too many positional arguments")
    refused(lambda: cls().set_timesteps, "set_timesteps: is not here")
    assert not hasattr(cls(), "set_timesteps")


@pytest.mark.parametrize("device", ["mkldnn", "openmp", "meta", "xla", "fpga"])
def test_a_device_is_one_of_those_named(device: str) -> None:
    refused(lambda: choose(device), "must be auto, cuda, mps, xpu, cpu")
