"""What a model has beside its denoisers: noised CLIP, noise-aware classifier, adapters.

Loaded when first asked for, from the model's folder; the card names them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Schedule, named
from sfumato.models import vocabularies
from sfumato.models.openai import read_state_dict
from sfumato.models.prompts import Prompts
from sfumato.models.vocabularies import ClipPrompts
from sfumato.nn import lora
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.nn.unet import UNet, UNetConfig

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Clip:
    """A noised CLIP with its tokenizer and the schedule whose table indices it reads."""

    network: NoisedCLIP
    prompts: Callable[[Sequence[str]], Cond]
    schedule: Schedule
    device: str

    def text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (B, embedding)."""
        cond = self.prompts(texts).map(lambda v: v.to(self.device))
        lengths = cond["lengths"] if "lengths" in cond else cond["mask"].sum(1).clamp_min(1)
        return self.network.text(cond["tokens"], lengths)

    def image(self, x: Tensor, time: Tensor) -> Tensor:
        """Unit vectors of pictures (B, 3, S, S) in [-1, 1] at table indices (B,)."""
        return self.network.image(x.to(self.device), time.to(self.device))


@dataclass(frozen=True, eq=False)
class Labeller:
    """A noise-aware classifier; classes: the names in each of its softmaxes, in order."""

    network: Classifier
    classes: Mapping[str, tuple[str, ...]]
    device: str

    def log_probabilities(self, x: Tensor, time: Tensor) -> dict[str, Tensor]:
        """log p(class | x, timestep) for each softmax, (B, classes)."""
        logits = self.network(x, time)
        sizes = [len(names) for names in self.classes.values()]
        parts = torch.split(logits, sizes, dim=1)
        return {name: part.log_softmax(1) for name, part in zip(self.classes, parts, strict=True)}


def clip(folder: Path, data: Mapping[str, Any], device: str) -> Clip:
    """By the card's entry: network, weights (or the parts of the released files), tokenizer."""
    config = CLIPConfig(**data["network"])
    network = _loaded(NoisedCLIP(config), folder, data, device)
    file = folder / data["tokenizer"]
    words: Callable[[Sequence[str]], Cond]
    if file.suffix == ".gz":
        words = ClipPrompts(vocabularies.clip(file), config.context)
    else:
        words = Prompts(file, config.context, cut=True)
    return Clip(network, words, named(data["schedule"], config.steps), device)


def classifier(folder: Path, data: Mapping[str, Any], device: str) -> Labeller:
    """By the card's entry: network, size, pool, classes, weights."""
    net = Classifier(UNetConfig(**data["network"]), data["size"], data["pool"])
    classes = {name: tuple(names) for name, names in data["classes"].items()}
    return Labeller(_loaded(net, folder, data, device), classes, device)


def _loaded(net: Net, folder: Path, data: Mapping[str, Any], device: str) -> Net:
    if "parts" in data:
        files = [folder / name for name in data["parts"].values()]
        weights = {
            f"{part}.{name}": value.float()
            for part, file in zip(data["parts"], files, strict=True)
            for name, value in read_state_dict(file).items()
        }
    else:
        files = [folder / name for name in data["weights"]]
        weights = {name: value.float() for name, value in read_state_dict(files).items()}
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise SfumatoError(
            f"{files[0].name}: does not fit the card ({' '.join(str(error).split())[:200]})"
        ) from None
    net.eval().requires_grad_(False)
    return net.to(device)


def adapted(base: UNet, file: Path, scale: float) -> tuple[UNet, str]:
    """A network that shares the base's weights but for the layers of an adapter; its digest."""
    if not file.is_file():
        raise SfumatoError(f"adapter {file}: no such file, nor a name on the model's card")
    data = file.read_bytes()
    with safe_open(file, "pt") as opened:
        note = json.loads((opened.metadata() or {}).get("note", "{}"))
    if not {"alpha", "rank"} <= note.keys():
        raise SfumatoError(f"adapter {file}: not one that sfumato trained (no rank in its note)")
    strength = scale * note["alpha"] / note["rank"]
    weights = lora.merged(base.state_dict(), read_state_dict(file), strength)
    with torch.device("meta"):
        net = UNet(base.config).cast(base.dtype)
    net.load_state_dict(weights, assign=True)
    return net.eval().requires_grad_(False), sha256(data).hexdigest()
