"""Adapters that read a picture as a prompt: IP-Adapter's files, released ones and the tuner's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.core.source import Origin, Spot
from sfumato.documents import expanded, is_file, is_folder
from sfumato.models import hooks
from sfumato.models.clip import CLIP_MEAN, CLIP_STD
from sfumato.models.devices import DTYPES
from sfumato.models.files import configs, hub, pipeline
from sfumato.models.files.adapter_files import read_adapter
from sfumato.models.files.checkpoint import fit_weights
from sfumato.models.files.hashes import file_digest, files_digest
from sfumato.models.latents import Conditional
from sfumato.nn.image_prompt import ImagePrompt, KeysValues, projection
from sfumato.nn.unet import UNet
from sfumato.recipe.places import called

if TYPE_CHECKING:
    from sfumato.models.model import Model

LAYER = re.compile(r"ip_adapter\.(\d+)\.to_k_ip\.weight")
Look = Callable[[Tensor], Tensor]
"""Vectors of pictures (B, 3, S, S) in [-1, 1]."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """What an adapter sees by. nothing: what it gives for a picture that is none."""

    look: Look
    nothing: Callable[[], Tensor]
    size: int
    origin: Origin | None


@dataclass(frozen=True, eq=False)
class Prompter:
    """network's ip_adapter has a part for each of the attentions of `order`."""

    network: ImagePrompt
    encoder: Encoder
    order: tuple[Spot, ...]
    origin: Origin

    @property
    def sees_by(self) -> Origin | None:
        return self.encoder.origin

    @property
    def size(self) -> int:
        return self.encoder.size

    @property
    def spots(self) -> frozenset[Spot]:
        return frozenset(self.order)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def read(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            vectors = self.encoder.look(pixels)
        return self.tokens(vectors)

    def nothing(self) -> Tensor:
        with torch.no_grad():
            vectors = self.encoder.nothing()
        return self.tokens(vectors)

    def tokens(self, vectors: Tensor) -> Tensor:
        tokens: Tensor = self.network.image_proj(vectors.to(self.dtype))
        return tokens

    def keys_values(self, spot: Spot, tokens: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        k, v = self.network.ip_adapter[self.order.index(spot)](tokens, heads)
        return k, v


def image_prompt_of(model: Model, name: str, encoder: str | None) -> Prompter:
    """By a file; encoder: a folder, else image_encoder beside the file or in the model's folder."""
    file = expanded(name)
    if not is_file(file):
        raise SfumatoError(f"image prompt {name}: no such file; give an IP-Adapter's own file")
    weights = dict(_flat(read_adapter(file)[0], ""))
    if not any(key.startswith("image_proj.") for key in weights):
        raise SfumatoError(f"image prompt {file.name}: holds no adapter that reads pictures")
    origin = Origin(called(str(file)), file_digest(file))
    base: Any = model.denoiser.network
    if isinstance(base, UNet) and base.config.xf_width:
        return _own(model, base, weights, origin, encoder)
    if isinstance(base, Conditional):
        return _guest(model, base.net, weights, origin, file, encoder)
    raise SfumatoError(
        f"image prompt {origin.name}: acts beside the attention to text, and {model.name} has none"
    )


def _flat(data: Mapping[str, Any], name: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors by dotted names; a pickled file has those of its two parts apart."""
    for key, value in data.items():
        if isinstance(value, Tensor):
            yield f"{name}{key}", value.float()
        elif isinstance(value, Mapping) and not name:
            yield from _flat(value, f"{key}.")


def own_encoder(model: Model, where: str) -> Encoder:
    """The model's own CLIP."""
    clip = model.clip()
    if clip is None:
        raise SfumatoError(f"{where}: {model.name} has no CLIP to look at a picture with")
    device = model.choice.device

    def look(pixels: Tensor) -> Tensor:
        return clip.image(pixels, torch.zeros(len(pixels), device=device))

    def nothing() -> Tensor:
        side = clip.size
        return torch.zeros_like(look(torch.zeros(1, 3, side, side, device=device)))

    return Encoder(look, nothing, clip.size, clip.origin)


def own_spots(net: UNet) -> tuple[Spot, ...]:
    """The attentions of a network of our own, as they run."""
    return tuple((site.kind, site.index) for site in net.sites if site.kind == "joint")


def _own(
    model: Model, base: UNet, weights: Mapping[str, Tensor], origin: Origin, encoder: str | None
) -> Prompter:
    if encoder is not None:
        raise SfumatoError(
            f"image prompt {origin.name}: encoder {encoder}: {model.name} looks by its own CLIP; "
            "leave it out"
        )
    seen = own_encoder(model, f"image prompt {origin.name}")
    embedding = seen.nothing().shape[-1]
    proj = weights.get("image_proj.proj.weight")
    norm = weights.get("image_proj.norm.weight")
    if (
        proj is None
        or norm is None
        or not (proj.ndim and norm.ndim)
        or "ip_adapter.0.kv.weight" not in weights
    ):
        raise SfumatoError(
            f"{origin.name}: is for Stable Diffusion's networks, not for {model.name}; train one "
            'for it (tuner "ip_adapter")'
        )
    network = ImagePrompt.beside(base, embedding, max(len(proj) // max(len(norm), 1), 1))
    fit_weights(network, weights, origin.name, f"the network of {model.name}")
    network.to(model.choice.device, base.dtype)
    return Prompter(network, seen, own_spots(base), origin)


def _guest(
    model: Model,
    net: Any,
    weights: Mapping[str, Tensor],
    origin: Origin,
    file: Path,
    encoder: str | None,
) -> Prompter:
    """A released file: its layers stand in the order of the network's attention processors."""
    layers = sorted(int(match[1]) for key in weights if (match := LAYER.fullmatch(key)))
    named: dict[str, Any] = {site.name: (site, module) for site, module in hooks.attentions(net)}
    places = [
        named[name.removesuffix(".processor")]
        for name in net.attn_processors
        if named[name.removesuffix(".processor")][0].kind == "cross"
    ]
    if not layers or len(layers) != len(places):
        raise SfumatoError(
            f"{origin.name}: speaks to {len(layers)} attentions, {model.name} has {len(places)} "
            "that read text; it is for another family of models"
        )
    parts: list[nn.Module] = []
    for layer, (site, module) in zip(layers, places, strict=True):
        keys = weights[f"ip_adapter.{layer}.to_k_ip.weight"]
        values = weights.get(f"ip_adapter.{layer}.to_v_ip.weight")
        wanted = (module.inner_dim, net.config.cross_attention_dim)
        if values is None or keys.shape != wanted or values.shape != wanted:
            raise SfumatoError(
                f"{origin.name}: its layer {layer} does not fit {site.name} of {model.name}; it is "
                "for another family of models"
            )
        parts.append(KeysValues(keys.shape[1], len(keys), len(values)))
    own = {key.removeprefix("image_proj."): v for key, v in weights.items() if "image_proj." in key}
    tokens = projection(own, origin.name)
    numbered = {f"ip_adapter.{layer}.": f"ip_adapter.{k}." for k, layer in enumerate(layers)}
    renamed = {_renamed(key, numbered): value for key, value in weights.items()}
    network = ImagePrompt(tokens, parts)
    fit_weights(network, renamed, origin.name, f"the network of {model.name}")
    network.to(model.choice.device, DTYPES[model.choice.dtype])
    folder = _encoder_folder(model, file, encoder)
    seen = vision_encoder(folder, model.choice.device, tokens.patches)
    order = tuple((site.kind, site.index) for site, _ in places)
    return Prompter(network, seen, order, origin)


def _renamed(key: str, numbered: Mapping[str, str]) -> str:
    before = next((old for old in numbered if key.startswith(old)), "")
    return numbered.get(before, "") + key.removeprefix(before)


def _encoder_folder(model: Model, file: Path, encoder: str | None) -> Path:
    if encoder is not None:
        folder = Path(encoder) if is_folder(Path(encoder)) else hub.find(encoder)
        if folder is None:
            raise SfumatoError(f"encoder {encoder}: no such folder")
        return encoder_in(folder) or folder  # of which the reader then says what it lacks
    beside = [file.resolve().parent, file.parent]
    beside += [] if model.folder is None else [model.folder]
    for folder in beside:
        if (folder / "image_encoder" / "config.json").is_file():
            return folder / "image_encoder"
    raise SfumatoError(
        f"{file.name}: no folder image_encoder beside it; give encoder, the CLIP image encoder "
        "that the adapter was trained with"
    )


def encoder_in(place: Path) -> Path | None:
    """The folder of a CLIP image encoder: image_encoder in a pipeline's, else the place itself."""
    folders = (place / "image_encoder", place)
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def vision_encoder(folder: Path, device: str, patches: bool) -> Encoder:
    """A CLIP image encoder as transformers writes it; of patches, what its last layer but one
    says."""
    from transformers import CLIPVisionModelWithProjection

    config = configs.vision_config(folder / "config.json")
    cls = CLIPVisionModelWithProjection
    network = pipeline.load_part(cls, folder, torch.float32, device, config=config)
    origin = Origin(called(str(folder)), files_digest(pipeline.weight_files(folder)))
    side = int(config.image_size)

    def seen(normalised: Tensor) -> Tensor:
        out = network(normalised, output_hidden_states=patches)
        vectors: Tensor = out.hidden_states[-2] if patches else out.image_embeds
        return vectors

    def look(pixels: Tensor) -> Tensor:
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
        return seen(((pixels + 1) / 2 - mean) / std)

    def nothing() -> Tensor:
        grey = seen(torch.zeros(1, 3, side, side, device=device))
        return grey if patches else torch.zeros_like(grey)

    return Encoder(look, nothing, side, origin)
