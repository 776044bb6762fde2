"""Vision transformers that methods look through: a ViT or DINO of the user's, or a CLIP's tower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range
from sfumato.core.source import Origin, Seen
from sfumato.models.clip import CLIP_MEAN, CLIP_STD, CleanClip, Clip, clean_clip, clip_of
from sfumato.models.files import configs, hub, pipeline
from sfumato.models.files.hashes import files_digest
from sfumato.models.files.network_fields import Foreign
from sfumato.recipe.places import called

if TYPE_CHECKING:
    from sfumato.models.model import Model

KEYS = ("key", "k_proj")  # what an attention's layer of keys is called
CLASSES = {"vit": "ViTModel", "dinov2": "Dinov2Model"}
Number = Annotated[float, Range(-100, 100)]
Channels = tuple[Number, Number, Number]


class Preprocessor(Foreign):
    """How pictures are scaled; ImageNet's numbers where a file says nothing."""

    image_mean: Channels = (0.485, 0.456, 0.406)
    image_std: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class NoisedClip:
    """The image side of a noised CLIP, at its cleanest."""

    clip: Clip

    @property
    def origin(self) -> Origin | None:
        return self.clip.origin

    @property
    def size(self) -> int:
        return self.clip.size

    def __call__(self, pixels: Tensor) -> Seen:
        time = torch.zeros(len(pixels), dtype=torch.long, device=self.clip.device)
        return Seen(*self.clip.network.image_encoder.keys(pixels.to(self.clip.device), time))


@dataclass(frozen=True, eq=False)
class Transformer:
    """A vision transformer of transformers. mean, std: of its pictures' channels, in [0, 1]."""

    network: Any
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: Origin | None = None

    def __call__(self, pixels: Tensor) -> Seen:
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        kept: list[Tensor] = []
        hook = self.last_keys.register_forward_hook(lambda module, args, out: kept.append(out))
        try:
            seen = self.network(pixel_values=((pixels + 1) / 2 - mean) / std)
        finally:
            hook.remove()
        tokens, whole = seen.last_hidden_state, seen.last_hidden_state[:, 0]
        if hasattr(self.network, "post_layernorm"):
            whole = self.network.post_layernorm(whole)
        return Seen(kept[0].reshape(len(pixels), tokens.shape[1], -1)[:, 1:], whole)

    @property
    def last_keys(self) -> Any:
        """The last attention's layer of keys."""
        named = self.network.named_modules()
        return [module for name, module in named if name.rpartition(".")[2] in KEYS][-1]


def vision_of(model: Model, name: str | None) -> NoisedClip | Transformer | None:
    """By name a folder or org/name, else the image side of the model's own CLIP."""
    if name is None:
        clip = clip_of(model, None)
        if clip is None:
            return None
        return NoisedClip(clip) if isinstance(clip, Clip) else of_clip(clip)
    folder = Path(name) if documents.is_folder(Path(name)) else hub.find(name)
    if folder is None:
        hint = f"; `sfumato models pull {name}` fetches it" if hub.is_name(name) else ""
        raise SfumatoError(f"vit {name}: no such folder{hint}")
    return transformer(folder, model.choice.device, called(name))


def of_clip(clip: CleanClip) -> Transformer:
    """The image side of a clean CLIP."""
    tower = clip.network.vision_model
    return Transformer(tower, clip.size, CLIP_MEAN, CLIP_STD, clip.origin)


def transformer(folder: Path, device: str, name: str) -> Transformer:
    """From a folder as transformers writes it. name: what a recipe calls it."""
    import transformers

    file = folder / "config.json"
    kind = configs.read_config(file).get("model_type")
    if kind == "clip":
        return of_clip(clean_clip(folder, device, name))
    if kind not in CLASSES:
        raise SfumatoError(f"vit {name}: a {kind!s:.40}; give a vit (DINO's too), dinov2 or clip")
    sizes = configs.transformer_sizes(file)
    cls: Any = getattr(transformers, CLASSES[kind])
    config = cls.config_class(**sizes.model_dump(exclude={"model_type"}))
    # what a pooler would add is not looked at, and DINO's files have none
    options: dict[str, Any] = {"add_pooling_layer": False} if kind == "vit" else {}
    network = pipeline.load_part(cls, folder, torch.float32, device, config=config, **options)
    told = folder / "preprocessor_config.json"
    scale = documents.read_json(Preprocessor, told) if told.is_file() else Preprocessor()
    origin = Origin(name, files_digest(pipeline.weight_files(folder)))
    return Transformer(network, sizes.image_size, scale.image_mean, scale.image_std, origin)
