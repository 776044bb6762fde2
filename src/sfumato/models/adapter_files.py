"""Adapters as other programs write them: LoRA layers, learned words, and how files name both.

Reading only; what an adapter does to a model is in adapters.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.models.openai import DAMAGED, read_state_dict

UNSUPPORTED = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lora_mid": "CP-decomposed LoCon",
    "oft_": "OFT",
}


@dataclass(frozen=True, eq=False)
class Low:
    """One layer of a LoRA file: W + scale up down. layer: as the file calls it."""

    part: str
    layer: str
    down: Tensor
    up: Tensor
    scale: float


def read(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors of an adapter's file, dictionaries in it flattened, and its header."""
    header: dict[str, str] = {}
    if file.suffix == ".safetensors":
        tensors: dict[str, Any] = dict(read_state_dict(file))
        try:
            with safe_open(file, "pt") as opened:
                header = opened.metadata() or {}
        except SafetensorError as error:
            raise SfumatoError(f"adapter {file}: cannot be read ({error})") from None
        return tensors, header
    if file.suffix not in (".pt", ".bin", ".ckpt", ".pth"):
        raise SfumatoError(f"adapter {file.name}: give a .safetensors, .pt or .bin file")
    try:
        data = torch.load(file, "cpu", weights_only=True)
    except DAMAGED as error:
        raise SfumatoError(
            f"adapter {file}: cannot be read as weights ({type(error).__name__})"
        ) from None
    return dict(data), header


def flat(name: str) -> str:
    """A layer's name without what tells its writers apart."""
    name = name.removeprefix("base_model.model.").removeprefix("text_model.")
    name = name.replace(".processor.", ".").replace("to_out_lora", "to_out.0")
    name = re.sub(r"\.to_out$", ".to_out.0", re.sub(r"(to_[qkv])_lora", r"\1", name))
    return name.replace(".", "_").removeprefix("text_model_")


DOWN = re.compile(
    r"^(.*?)[._](?:lora_A|lora_down|lora\.down|lora_linear_layer\.down|down)(?:\.default)?\.weight$"
)
UPS = {
    "lora_A": "lora_B",
    "lora_down": "lora_up",
    "lora.down": "lora.up",
    "lora_linear_layer.down": "lora_linear_layer.up",
    ".down.weight": ".up.weight",
}
KOHYA = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}


def lows(tensors: Mapping[str, Any], header: Mapping[str, str], file: Path) -> Iterator[Low]:
    """The layers of a LoRA file of either format."""
    for mark, kind in UNSUPPORTED.items():
        if any(mark in name for name in tensors):
            raise SfumatoError(f"adapter {file.name}: {kind} is not supported, LoRA and LoCon are")
    noted = json.loads(header.get("lora_adapter_metadata", "{}"))
    found = False
    for name in sorted(tensors):
        matched = DOWN.match(name)
        if matched is None:
            continue
        found = True
        for word, other in UPS.items():
            if word in name:
                partner = name.replace(word, other)
                break
        if partner not in tensors:
            raise SfumatoError(f"adapter {file.name}: {partner} is missing; the file is damaged")
        part, layer = part_of(matched[1])
        down, up = tensors[name], tensors[partner]
        alpha = tensors.get(f"{matched[1]}.alpha")
        rank = down.shape[0]
        if alpha is not None:
            strength = float(alpha) / rank
        else:
            strength = noted_scale(noted, part, layer, rank)
        yield Low(part, layer, down, up, strength)
    if not found:
        some = ", ".join(sorted(tensors)[:2])
        raise SfumatoError(
            f"adapter {file.name}: no LoRA layers in it ({some}); sfumato reads LoRA files of "
            "diffusers and kohya, and textual-inversion files"
        )


def part_of(name: str) -> tuple[str, str]:
    """(part of the model, layer) of a layer's full name; a network's own names have no prefix."""
    for prefix, part in KOHYA.items():
        if name.startswith(prefix):
            return part, name.removeprefix(prefix)
    for part in ("unet", "text_encoder_2", "text_encoder"):
        if name.startswith(f"{part}."):
            return part, name.removeprefix(f"{part}.")
    return "unet", name


def noted_scale(noted: Mapping[str, Any], part: str, layer: str, rank: int) -> float:
    """alpha / rank of diffusers' header; without one alpha is the rank."""
    own = {
        key.removeprefix(f"{part}."): v for key, v in noted.items() if key.startswith(f"{part}.")
    }
    alpha = own.get("lora_alpha")
    for pattern, value in (own.get("alpha_pattern") or {}).items():
        if layer == pattern or layer.endswith(f".{pattern}"):
            alpha = value
    if alpha is None:
        return 1.0
    return float(alpha) / (rank**0.5 if own.get("use_rslora") else rank)


def words_of(tensors: Mapping[str, Any], file: Path) -> dict[str, tuple[Tensor, ...]]:
    """word -> its vectors for each text encoder, (k, width) or for every cross-attention layer
    (layers, k, width); empty where the file is no such."""
    if "string_to_param" in tensors:  # of the web interface, pickled
        name = str(tensors.get("name") or file.stem)
        return {name: (next(iter(tensors["string_to_param"].values())).detach(),)}
    if "emb_params" in tensors:
        return {file.stem: (tensors["emb_params"],)}
    if {"clip_l", "clip_g"} <= tensors.keys():
        return {file.stem: (tensors["clip_l"], tensors["clip_g"])}
    if tensors and all(isinstance(v, Tensor) and v.ndim <= 3 for v in tensors.values()):
        plain = [name for name in tensors if "lora" not in name and "." not in name]
        if len(plain) == len(tensors):
            found = layered(tensors, file) or tensors
            return {name: (value,) for name, value in found.items()}
    return {}


def layered(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The word of a file {"<t>-0": (k, width), "<t>-1": ...}, a name for every layer, as one
    tensor (layers, k, width); empty where the names are no such."""
    found = [re.fullmatch(r"(.+)-(\d+)", name) for name in tensors]
    numbers = {int(m[2]): tensors[m[0]] for m in found if m is not None}
    words = {m[1] for m in found if m is not None}
    if len(tensors) < 2 or len(numbers) < len(tensors) or len(words) > 1:
        return {}
    word = words.pop()
    if 0 not in numbers:  # two words that end in numbers
        return {}
    if missing := sorted(set(range(max(numbers))) - set(numbers)):
        raise SfumatoError(
            f"adapter {file.name}: {word}-{missing[0]} is missing; the file is damaged"
        )
    rows = [v[None] if v.ndim == 1 else v for _, v in sorted(numbers.items())]
    if len({v.shape for v in rows}) > 1:
        raise SfumatoError(f"adapter {file.name}: the layers of {word} differ in their vectors")
    return {word: torch.stack(rows)}
