"""A model's CLIP: a noised one of its own, or a clean one of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Schedule, named
from sfumato.core.source import Origin
from sfumato.documents import is_folder
from sfumato.models.card import CleanClipCard, ClipCard
from sfumato.models.files import configs, hub, pipeline, vocabularies
from sfumato.models.files.checkpoint import load_network
from sfumato.models.files.hashes import files_digest
from sfumato.models.files.vocabularies import ClipPrompts
from sfumato.models.prompts import Prompts
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.recipe.places import called

if TYPE_CHECKING:
    from sfumato.models.model import Model


@dataclass(frozen=True, eq=False)
class Clip:
    """A noised CLIP with its tokenizer and the schedule whose table indices it reads."""

    network: NoisedCLIP
    prompts: Callable[[Sequence[str]], Cond]
    schedule: Schedule
    device: str
    origin: Origin | None = None
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

    def layers(self, x: Tensor, time: Tensor) -> list[Tensor]:
        """Tokens after each block, then `image`."""
        return self.network.layers(x.to(self.device), time.to(self.device))


@dataclass(frozen=True, eq=False)
class CleanClip:
    """A CLIP of transformers with its tokenizer; it knows no timestep."""

    network: Any
    tokenizer: Any
    device: str
    origin: Origin | None = None
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
        return unit(self.embeddings(texts))

    def embeddings(self, texts: Sequence[str]) -> Tensor:
        """The same of their own lengths, as networks read them that are conditioned on a CLIP."""
        room = int(self.network.config.text_config.max_position_embeddings)
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=room, return_tensors="pt"
        ).to(self.device)
        with torch.no_grad():
            pooled = self.network.text_model(**tokens).pooler_output
            vectors: Tensor = self.network.text_projection(pooled)
            return vectors

    def image(self, x: Tensor, time: Tensor) -> Tensor:
        """Unit vectors of pictures (B, 3, S, S) in [-1, 1]; `time` is for those that read it."""
        pooled = self.network.vision_model(pixel_values=scaled(x)).pooler_output
        return unit(self.network.visual_projection(pooled))

    def layers(self, x: Tensor, time: Tensor) -> list[Tensor]:
        """Tokens after each block, then `image`."""
        seen = self.network.vision_model(pixel_values=scaled(x), output_hidden_states=True)
        vectors = unit(self.network.visual_projection(seen.pooler_output))
        return [*seen.hidden_states[1:], vectors]


CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the training pictures' channels, in [0, 1]
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def scaled(x: Tensor) -> Tensor:
    """Pixels in [-1, 1] as a clean CLIP reads them."""
    mean, std = (x.new_tensor(v).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    pixels: Tensor = ((x + 1) / 2 - mean) / std
    return pixels


def unit(vectors: Tensor) -> Tensor:
    normalised: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return normalised


def clean_clip(folder: Path, device: str, name: str = "") -> CleanClip:
    """From a folder as transformers writes it. name: what a recipe calls it, else the folder's."""
    from transformers import CLIPModel

    config = configs.clip_config(folder / "config.json")
    network = pipeline.load_part(CLIPModel, folder, torch.float32, device, config=config)
    origin = Origin(name or folder.name, files_digest(pipeline.weight_files(folder)))
    tokenizer = pipeline.tokenizer(folder)
    pipeline.check_tokens(tokenizer, int(config.text_config.vocab_size), folder)
    return CleanClip(network, tokenizer, device, origin)


def noised_clip(folder: Path, card: ClipCard, device: str) -> Clip:
    """By the card's entry."""
    config = CLIPConfig(**card.network)
    files = {f"{part}.": [folder / name] for part, name in card.parts.items()}
    files |= {"": [folder / name for name in card.weights]} if card.weights else {}
    network = load_network(lambda: NoisedCLIP(config), files, device)
    file = folder / card.tokenizer
    prompts: Callable[[Sequence[str]], Cond]
    if file.suffix == ".gz":
        prompts = ClipPrompts(vocabularies.clip_tokenizer(file), config.context)
    else:
        prompts = Prompts(
            vocabularies.read_tokenizer(file, config.vocabulary), config.context, cut=True
        )
    weights = [file for part in files.values() for file in part]
    origin = Origin(folder.name, files_digest(weights))
    return Clip(network, prompts, named(card.schedule, config.steps), device, origin)


def clip_of(model: Model, name: str | None) -> Clip | CleanClip | None:
    """By name a clean one, else the card's."""
    device = model.choice.device
    if name is not None:
        folder = Path(name) if is_folder(Path(name)) else hub.find(name)
        if folder is None:
            hint = f"; `sfumato models pull {name}` fetches it" if hub.is_name(name) else ""
            raise SfumatoError(f"clip {name}: no such folder{hint}")
        return clean_clip(folder, device, called(name))
    card = model.card.clip
    if card is None or model.folder is None:
        return None
    if isinstance(card, CleanClipCard):  # a folder beside the weights, else in the hub's cache
        beside = model.folder / card.clean
        place = beside if (beside / "config.json").is_file() else hub.find(card.name)
        return None if place is None else clean_clip(place, device, card.name)
    return noised_clip(model.folder, card, device)
