"""What a model has beside its denoisers: noised CLIP, noise-aware classifier.

Loaded when first asked for, from the model's folder; the card names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Schedule, named
from sfumato.models import hub, parts, vocabularies
from sfumato.models.latents import Latents
from sfumato.models.openai import read_state_dict
from sfumato.models.prompts import Prompts
from sfumato.models.vocabularies import ClipPrompts
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.nn.unet import UNetConfig

if TYPE_CHECKING:
    from sfumato.models.model import Model

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Clip:
    """A noised CLIP with its tokenizer and the schedule whose table indices it reads."""

    network: NoisedCLIP
    prompts: Callable[[Sequence[str]], Cond]
    schedule: Schedule
    device: str
    noised: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Side of the pictures that it sees."""
        return self.network.config.size

    @property
    def logit_scale(self) -> float:
        return self.network.config.logit_scale

    def text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (B, embedding)."""
        cond = self.prompts(texts).map(lambda v: v.to(self.device))
        lengths = cond["lengths"] if "lengths" in cond else cond["mask"].sum(1).clamp_min(1)
        return self.network.text(cond["tokens"], lengths)

    def image(self, x: Tensor, time: Tensor) -> Tensor:
        """Unit vectors of pictures (B, 3, S, S) in [-1, 1] at table indices (B,)."""
        return self.network.image(x.to(self.device), time.to(self.device))


@dataclass(frozen=True, eq=False)
class CleanClip:
    """A CLIP of transformers with its tokenizer; it knows no timestep."""

    network: Any
    tokenizer: Any
    device: str
    noised: ClassVar[bool] = False
    schedule: ClassVar[None] = None

    @property
    def size(self) -> int:
        return int(self.network.config.vision_config.image_size)

    @property
    def logit_scale(self) -> float:
        return float(self.network.logit_scale.exp())

    def text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (B, embedding)."""
        room = int(self.network.config.text_config.max_position_embeddings)
        given = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=room, return_tensors="pt"
        ).to(self.device)
        with torch.no_grad():
            found = self.network.text_model(**given).pooler_output
            return unit(self.network.text_projection(found))

    def image(self, x: Tensor, time: Tensor) -> Tensor:
        """Unit vectors of pictures (B, 3, S, S) in [-1, 1]; `time` is for those that read it."""
        mean, std = (x.new_tensor(v).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
        pixels = ((x + 1) / 2 - mean) / std
        found = self.network.vision_model(pixel_values=pixels).pooler_output
        return unit(self.network.visual_projection(found))


CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the training pictures' channels, in [0, 1]
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def unit(vectors: Tensor) -> Tensor:
    made: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return made


def clean_clip(folder: Path, device: str) -> CleanClip:
    """From a folder as transformers writes it."""
    from transformers import CLIPModel, CLIPTokenizer

    try:
        with parts.quiet():
            network: Any = CLIPModel.from_pretrained(folder, local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise SfumatoError(f"clip {folder}: {' '.join(str(error).split())[:200]}") from None
    return CleanClip(network.to(device).eval().requires_grad_(False), tokenizer, device)


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


def found(model: Model, what: str, name: str | None) -> Any:
    """What Model.get gives: by the card, or by name."""
    device = model.choice.device
    if what == "tiny":
        return tiny(model)
    if name is not None:
        folder = Path(name) if Path(name).is_dir() else hub.find(name)
        if folder is None:
            hint = f"; `sfumato models pull {name}` fetches it" if hub.is_name(name) else ""
            raise SfumatoError(f"clip {name}: no such folder{hint}")
        return clean_clip(folder, device)
    data = getattr(model.card, what)
    if data is None or model.folder is None:
        return None
    return {"clip": clip, "classifier": classifier}[what](model.folder, data, device)


TINY = {False: "madebyollin/taesd", True: "madebyollin/taesdxl"}
"""The tiny autoencoders of Stable Diffusion's latents; true for XL."""


def tiny(model: Model) -> Latents | None:
    """The tiny autoencoder in the model's folder (vae_tiny) or pulled, None without one."""
    if model.space.stride == 1:
        return None
    config: Any = getattr(model.denoiser.network, "config", None)
    own = None if model.folder is None else model.folder / "vae_tiny"
    folder = own if own is not None and own.is_dir() else None
    if folder is None and model.space.channels == 4 and model.text is not None:
        folder = hub.find(TINY[getattr(config, "stride", None) is not None])
    if folder is None:
        return None
    made = Latents.of(parts.autoencoder(folder, "AutoencoderTiny", model.choice))
    same = (made.stride, made.channels) == (model.space.stride, model.space.channels)
    return made if same else None
