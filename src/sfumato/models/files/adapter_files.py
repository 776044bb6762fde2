"""Adapters as other programs write them: LoRA layers, learned words, and how files name both.

Reading only; what an adapter does to a model is in adapters.py.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.documents import parse_data, parse_json, read_json
from sfumato.models.files.checkpoint import read_pickled, read_state_dict
from sfumato.models.files.key_names import PARTS, part_of

log = logging.getLogger("sfumato")

UNSUPPORTED = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lora_mid": "CP-decomposed LoCon",
    "oft_": "OFT",
    ".a1.weight": "GLoRA",
    ".on_input": "IA3",
    "dyn_up": "DyLoRA",
}


@dataclass(frozen=True, eq=False)
class LowRank:
    """A change of low rank: W + scale up down. layer: as the file calls it."""

    part: str
    layer: str
    down: Tensor
    up: Tensor
    scale: float
    leaf: Literal["weight", "bias"] = "weight"

    @property
    def rows(self) -> tuple[int, int]:
        """Shape of the matrix that it is added to."""
        return self.up.shape[0], self.down[:1].numel()

    def change(self, strength: float, weight: Tensor) -> Tensor:
        """strength scale up down, (out, in * kernel) float32, whatever the weight is."""
        scale: float = strength * self.scale
        return scale * (self.up.float().flatten(1) @ self.down.float().flatten(1))


@dataclass(frozen=True, eq=False)
class Full:
    """A change given whole: W + value, of a weight or a bias; or, where it replaces, what W was
    trained to. added: of a factor's bias, which a layer without a bias gets as its own."""

    part: str
    layer: str
    value: Tensor
    leaf: Literal["weight", "bias"] = "weight"
    replaces: bool = False
    added: bool = False

    @property
    def rows(self) -> tuple[int, int]:
        return self.value.shape[0], self.value[:1].numel()

    def change(self, strength: float, weight: Tensor) -> Tensor:
        """What is added to the weight as it is, a row for each output, float32."""
        value = self.value.float()
        if self.replaces:
            value = value - weight.float().to(value.device)
        return strength * value.flatten(1 if value.ndim > 1 else 0)


class Scales(BaseModel):
    """What diffusers' header says of a part's scales; its other keys are of training."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    lora_alpha: float | None = None
    alpha_pattern: dict[str, float] = Field({}, max_length=10_000)
    use_rslora: bool = False

    def of(self, layer: str, rank: int) -> float:
        """alpha / rank, alpha by the first pattern that fits (as peft does), else the rank."""
        alphas = (value for key, value in self.alpha_pattern.items() if pattern_fits(key, layer))
        alpha = next(alphas, self.lora_alpha)
        if alpha is None:
            return 1.0
        return alpha / (rank**0.5 if self.use_rslora else rank)


class Peft(BaseModel):
    """What peft's adapter_config.json says; its other keys are of training."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    peft_type: str = "LORA"
    use_dora: bool | None = False
    use_rslora: bool | None = False
    lora_alpha: float | None = None
    alpha_pattern: dict[str, float] | None = Field(None, max_length=10_000)


def read_adapter(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors of an adapter's file, of a pickled one also dictionaries of them, and its header."""
    header: dict[str, str] = {}
    if file.suffix == ".safetensors":
        tensors: dict[str, Any] = dict(read_state_dict(file))
        try:
            with safe_open(file, "pt") as opened:
                header = opened.metadata() or {}
        except SafetensorError as error:
            raise SfumatoError(f"adapter {file}: cannot be read ({error})") from None
        return tensors, header | peft_header(file)
    if file.suffix not in (".pt", ".bin", ".ckpt", ".pth"):
        raise SfumatoError(f"adapter {file.name}: give a .safetensors, .pt or .bin file")
    data = read_pickled(file)
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise SfumatoError(f"adapter {file.name}: holds no weights by name")
    return data, header


def peft_header(file: Path) -> dict[str, str]:
    """What peft's adapter_config.json says, as diffusers' header would say it of the UNet."""
    config = file.with_name("adapter_config.json")
    if file.name != "adapter_model.safetensors" or not config.is_file():
        return {}
    peft = read_json(Peft, config)
    kind = "DoRA" if peft.use_dora else peft.peft_type
    if kind != "LORA":
        raise SfumatoError(f"adapter {file.parent.name}: {kind:.40} is not supported, LoRA is")
    scales = {
        "unet.lora_alpha": peft.lora_alpha,
        "unet.alpha_pattern": peft.alpha_pattern or {},
        "unet.use_rslora": bool(peft.use_rslora),
    }
    return {"lora_adapter_metadata": json.dumps(scales)}


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
FULL: dict[str, Literal["weight", "bias"]] = {
    ".diff": "weight", ".diff_b": "bias", ".w_norm": "weight", ".b_norm": "bias",
}  # fmt: skip
"""Endings of kohya's changes that are given whole."""
FACTORS = ("lora_A", "lora_B", "lora_down", "lora_up", "down", "up", "default")
EMBEDDING = re.compile(r"^(.*?)\.lora_embedding_A(?:\.default)?$")


def changes(
    tensors: Mapping[str, Any], header: Mapping[str, str], file: Path
) -> list[LowRank | Full]:
    """The changes of a LoRA file of either format; what is no change is warned of."""
    for mark, kind in UNSUPPORTED.items():
        if any(mark in name for name in tensors):
            raise SfumatoError(f"adapter {file.name}: {kind} is not supported, LoRA and LoCon are")
    for name, value in tensors.items():
        check_tensor(name, value, file)
    lora = _Lora(tensors, _scales(header, file), file.name)
    layers: list[LowRank | Full] = []
    consumed: set[str] = set()
    for name in sorted(tensors):
        if matched := DOWN.match(name):
            partner = next(name.replace(down, up) for down, up in UPS.items() if down in name)
            layers += lora.factors(matched[1], name, partner)
            consumed |= {name, partner, f"{matched[1]}.alpha"}
            consumed |= {_bias(name), _bias(partner)}
        elif matched := EMBEDDING.match(name):
            partner = name.replace("lora_embedding_A", "lora_embedding_B")
            layers.append(lora.embedding(matched[1], name, partner))
            consumed |= {name, partner}
        elif ending := next((ending for ending in FULL if name.endswith(ending)), None):
            part, layer = part_of(name.removesuffix(ending))
            layers.append(Full(part, layer, tensors[name], FULL[ending]))
            consumed.add(name)
    layers += lora.biases(consumed)
    spare = sorted(tensors.keys() - consumed)
    if not layers:
        some = ", ".join(spare[:2])
        raise SfumatoError(
            f"adapter {file.name}: no LoRA layers in it ({some}); sfumato reads LoRA files of "
            "diffusers and kohya, and textual-inversion files"
        )
    if spare:
        log.warning(
            "adapter %s: %d of its tensors are no change that is known here, left out: %s",
            file.name, len(spare), spare[0],
        )  # fmt: skip
    return layers


def _scales(header: Mapping[str, str], file: Path) -> dict[str, Scales]:
    """part -> what the header says of its scales."""
    source = f"adapter {file.name}: lora_adapter_metadata"
    metadata = header.get("lora_adapter_metadata", "{}")
    entries = parse_json(dict[str, JsonValue], metadata, source)
    return {part: parse_data(Scales, _entries_under(entries, f"{part}."), source) for part in PARTS}


@dataclass(frozen=True, eq=False)
class _Lora:
    """Tensors of the LoRA file `name`, and what its header says of the scales of each part."""

    tensors: Mapping[str, Any]
    scales: Mapping[str, Scales]
    name: str

    def factors(self, stem: str, name: str, partner: str) -> Iterator[LowRank | Full]:
        """A layer's two factors, and what biases of theirs add to the layer's own."""
        part, layer = part_of(stem)
        down, up = self.tensors[name], self.partner(partner)
        alpha = self.tensors.get(f"{stem}.alpha")
        if down.ndim < 2 or up.ndim < 2 or up[:1].numel() != down.shape[0]:
            raise SfumatoError(
                f"adapter {self.name}: {name} is {tuple(down.shape)}, {partner} "
                f"{tuple(up.shape)}; these are no two factors of one change"
            )
        if alpha is not None and alpha.numel() != 1:
            raise SfumatoError(
                f"adapter {self.name}: {stem}.alpha is {tuple(alpha.shape)}, no number"
            )
        rank = down.shape[0]
        scale = self.scales[part].of(layer, rank) if alpha is None else float(alpha) / rank
        yield LowRank(part, layer, down, up, scale)
        if (bias := self.tensors.get(_bias(partner))) is not None:
            yield Full(part, layer, scale * bias.float(), "bias", added=True)
        if (bias := self.tensors.get(_bias(name))) is not None:
            if bias.shape != (rank,):
                raise SfumatoError(
                    f"adapter {self.name}: {_bias(name)} is {tuple(bias.shape)}, the rank {rank}"
                )
            shift = scale * (up.float().flatten(1) @ bias.float())
            yield Full(part, layer, shift, "bias", added=True)

    def embedding(self, stem: str, name: str, partner: str) -> LowRank:
        """An embedding's two factors, which peft keeps the other way round."""
        down, up = self.tensors[name], self.partner(partner)
        if down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0]:
            raise SfumatoError(f"adapter {self.name}: {name} and {partner} do not fit together")
        part, layer = part_of(stem)
        return LowRank(part, layer, up.T, down.T, self.scales[part].of(layer, down.shape[0]))

    def biases(self, consumed: set[str]) -> list[Full]:
        """Layers' own biases, which are then consumed: kohya's names mean what is added, peft's
        (bias "all" or "lora_only") the bias as it was trained."""
        replaces = any(".lora_A." in name for name in self.tensors)
        biases = []
        for name in sorted(self.tensors.keys() - consumed):
            stem = name.removesuffix(".bias").removesuffix(".base_layer")
            if name.endswith(".bias") and stem.rpartition(".")[2] not in FACTORS:
                part, layer = part_of(stem)
                biases.append(Full(part, layer, self.tensors[name], "bias", replaces))
                consumed.add(name)
        return biases

    def partner(self, name: str) -> Tensor:
        """The other factor of a change."""
        if name not in self.tensors:
            raise SfumatoError(f"adapter {self.name}: {name} is missing; the file is damaged")
        factor: Tensor = self.tensors[name]
        return factor


def _bias(name: str) -> str:
    return f"{name.removesuffix('weight')}bias"


def check_tensor(name: str, value: Any, file: Path) -> None:
    """A tensor of finite floats that is not empty."""
    if not isinstance(value, Tensor):
        raise SfumatoError(f"adapter {file.name}: {name} is no tensor; it is no LoRA file")
    if not value.numel():
        raise SfumatoError(f"adapter {file.name}: {name} is empty, rank 0 changes nothing")
    if not value.ndim and not name.endswith(".alpha"):
        raise SfumatoError(f"adapter {file.name}: {name} is a single number, no change of a layer")
    if not (value.is_floating_point() or name.endswith(".alpha")):
        raise SfumatoError(f"adapter {file.name}: {name} holds {value.dtype}, not floats")
    if not bool(torch.isfinite(value.float()).all()):
        raise SfumatoError(f"adapter {file.name}: {name} holds values that are not finite")


def _entries_under(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in entries.items() if k.startswith(prefix)}


QUANTIFIED = re.compile(r"\)\s*[*+{]|[*+}]\s*[*+{]|[*+{].*[*+{].*[*+{].*[*+{]")
"""What may take a matcher for ever: repeated groups or repeats, and more than three of any."""


def pattern_fits(pattern: str, layer: str) -> bool:
    """Whether a pattern of peft's fits a layer: a regular expression of the end of its name."""
    if len(pattern) > 200 or QUANTIFIED.search(pattern):
        raise SfumatoError(f"adapter: pattern {pattern!r:.60} is too involved to be tried")
    try:
        return re.match(rf"(.*\.)?({pattern})$", layer) is not None
    except re.error as error:
        raise SfumatoError(f"adapter: pattern {pattern!r:.60} is none ({error})") from None
